# What passes and what does not. Sourced, not run.
# shellcheck shell=bash disable=SC2034,SC2154 # one program in several files: what is set here is used there
#
# A probe is `FROM -> TO ping | tcp PORT | udp PORT | esp | icmp TYPE`. What must not pass is counted where it would arrive: an answer that does
# not come back would say less.

# Starts a TCP listener where a probe will need one.
listen() {
    local to=$1 port=$2 key=${ns_of[$1]}/$2
    [[ -z ${listening["$key"]:-} ]] || return 0
    listening["$key"]=yes
    inside "${ns_of[$to]}" socat -u "TCP6-LISTEN:$port,fork,reuseaddr,ipv6only=0" OPEN:/dev/null >/dev/null 2>&1 &
    # 0A: listening.
    until_true 10 grep -q ":$(printf %04X "$port") 0*:0000 0A" "/proc/${process_of[${ns_of[$to]}]}/net/tcp6"
}

bracket() { case $1 in *:*) printf '[%s]' "$1" ;; *) printf '%s' "$1" ;; esac }

# Sets count: how many packets of a protocol have arrived in a namespace. It asks the kernel without starting a program.
counter() {
    local ns=$1 family=$2 protocol=$3 line name value head='' i file=snmp
    local -a names values
    [[ $family-$protocol == 6-udp || $family-$protocol == 6-ping ]] && file=snmp6
    count=0
    [[ $protocol != esp ]] || file=xfrm_stat
    while read -r line; do
        case $file-$protocol-$line in
        snmp6-udp-Udp6InDatagrams* | snmp6-udp-Udp6NoPorts* | snmp6-ping-Icmp6InEchos[[:space:]]*)
            read -r name value <<<"$line"
            count=$((count + value))
            ;;
        # No end of a tunnel knows its number.
        xfrm_stat-esp-XfrmInNoStates*) count=${line##*[[:space:]]} ;;
        snmp-tcp-Tcp:* | snmp-udp-Udp:* | snmp-ping-Icmp:* | snmp-icmp-Icmp:*)
            if [[ ! $head ]]; then head=$line && continue; fi
            read -r -a names <<<"$head"
            read -r -a values <<<"$line"
            for i in "${!names[@]}"; do
                case $protocol-${names[i]} in
                tcp-InSegs | udp-InDatagrams | udp-NoPorts | ping-InEchos | icmp-InMsgs) count=$((count + values[i])) ;;
                esac
            done
            ;;
        esac
    done <"/proc/${process_of[$ns]}/net/$file"
}

family() { case $1 in *:*) echo 6 ;; *) echo 4 ;; esac }

# try NAMESPACE SOURCE DESTINATION PROTOCOL PORT: sends once, and is true if it is answered within half a second (ping and TCP) or sent.
try() {
    local ns=$1 source=$2 destination=$3 protocol=$4 port=$5
    case $protocol in
    ping) inside "$ns" ping -n -q -c 1 -W 0.5 -I "$source" "$destination" ;;
    tcp) inside "$ns" socat -u OPEN:/dev/null "TCP:$(bracket "$destination"):$port,bind=$(bracket "$source"),connect-timeout=0.5" ;;
    udp) inside "$ns" socat -u STDIN "UDP:$(bracket "$destination"):$port,bind=$(bracket "$source")" <<<probe ;;
    esp) printf 'spi.number..' | inside "$ns" socat -u STDIN "IP-SENDTO:$(bracket "$destination"):50,bind=$(bracket "$source")" ;;
    icmp) icmp_message "$port" | inside "$ns" socat -u STDIN "IP-SENDTO:$(bracket "$destination"):1,bind=$(bracket "$source")" ;;
    esac 2>&1
}

# Type, code 0, checksum, and four bytes of nothing.
icmp_message() {
    # shellcheck disable=SC2059 # bytes by their numbers
    printf "\\x$(printf %02x "$1")\\0\\x$(printf %02x $((255 - $1)))\\xff\\0\\0\\0\\0"
}

# must_pass FROM TO PROTOCOL PORT: tries for a while, since the hook at the other end may still be at work. What is lost in a tunnel
# that is up is counted by `traffic`.
must_pass() {
    local from=$1 to=$2 protocol=$3 port=${4:-} said='' _ source destination before count
    source=$(address "$from") destination=$(address "$to")
    counter "${ns_of[$to]}" "$(family "$destination")" "$protocol"
    before=$count
    for _ in {1..12}; do
        if said=$(try "${ns_of[$from]}" "$source" "$destination" "$protocol" "$port"); then
            case $protocol in ping | tcp) return 0 ;; esac
            pause 0.1
            counter "${ns_of[$to]}" "$(family "$destination")" "$protocol"
            ((count == before)) || return 0
        fi
        pause 0.3
    done
    printf 'does not pass: %s -> %s %s %s: %s\n' "$from" "$to" "$protocol" "$port" "$(tr '\n' ' ' <<<"$said")"
    return 1
}

# must_not_pass PROBE...: all of them at once; each is "HOW FROM TO PROTOCOL PORT". HOW is `clear` where the stranger on the outer
# network sends it from FROM's address, `-` otherwise.
must_not_pass() {
    local probe how from to protocol port key count status=0 source destination ns senders=() borrowed=()
    local -A before=() named=()
    for probe; do
        read -r how from to protocol port <<<"$probe"
        source=$(address "$from") destination=$(address "$to") ns=${ns_of[$from]}
        key="${ns_of[$to]} $(family "$destination") $protocol"
        # shellcheck disable=SC2086 # three words
        [[ ${before[$key]:-} ]] || { counter $key && before[$key]=$count; }
        named[$key]+=" ($from -> $to $protocol${port:+ $port})"
        if [[ $how == clear ]]; then
            ns=net
            case $source in
            *:*) ip -n net addr replace "$source/128" dev lo nodad && borrowed+=("$source/128") ;;
            *) ip -n net addr replace "$source/32" dev lo && borrowed+=("$source/32") ;;
            esac
        fi
        inside "$ns" ip route get "$destination" from "$source" >/dev/null 2>&1 || {
            printf 'nothing can be sent: %s has no route to %s\n' "$ns" "$destination"
            return 1
        }
    done
    for probe; do
        read -r how from to protocol port <<<"$probe"
        ns=${ns_of[$from]}
        [[ $how == clear ]] && ns=net
        try "$ns" "$(address "$from")" "$(address "$to")" "$protocol" "$port" >/dev/null &
        senders+=($!)
    done
    wait "${senders[@]}" || true
    pause 0.1
    # Else the stranger would take for its own what is later meant for their owners.
    for source in "${borrowed[@]}"; do ip -n net addr del "$source" dev lo 2>/dev/null || true; done
    for key in "${!before[@]}"; do
        # shellcheck disable=SC2086 # three words
        counter $key
        ((count == before[$key])) || {
            printf 'passes, and must not:%s\n' "${named[$key]}"
            status=1
        }
    done
    return "$status"
}

# A flow that goes on while other things happen: 25 packets a second.
flow_begins() {
    local from=$1 to=$2
    too_early
    early_before=$early
    nsenter --net="/run/netns/${ns_of[$from]}" ping -n -i 0.04 -W 2 -I "$(address "$from")" "$(address "$to")" >"$state/flow" 2>&1 &
    flow=$!
    pause 0.3
}

# Sets early: the packets that IPsec itself dropped at the gateways, all of the kernel's counters. Where one end uses new keys or has
# given up old ones before the other knows (libreswan, at times), packets are lost so, and no firewall has to do with it.
too_early() {
    local gateway name value
    early=0
    for gateway in "${gateways[@]}"; do
        while read -r name value; do
            early=$((early + value))
        done <"/proc/${process_of[$gateway]}/net/xfrm_stat"
    done
}

# flow_ends NUMBER: so many packets may be lost without anybody counting them.
flow_ends() {
    local allowed=$1 summary sent received lost
    pause 0.3
    kill -INT "$flow"
    until_true 5 test ! -e "/proc/$flow/exe" || kill -9 "$flow"
    summary=$(grep 'packets transmitted' "$state/flow") || {
        tail -n 3 "$state/flow"
        return 1
    }
    read -r sent _ _ received _ <<<"$summary"
    too_early
    lost=$(missing_in_flow)
    # The last one may have been under way.
    if ((sent <= 5 || lost > early - early_before + allowed || sent - received - lost > 1)); then
        printf 'lost: %s; %s of them in between, %s dropped by IPsec itself\n' "$summary" "$lost" "$((early - early_before))"
        return 1
    fi
}

# How many between the first and the last were not answered.
missing_in_flow() {
    sed -n 's/.*icmp_seq=\([0-9]*\) .*/\1/p' "$state/flow" | sort -n | uniq |
        awk 'NR > 1 { sum += $1 - last - 1 } { last = $1 } END { print sum + 0 }'
}
