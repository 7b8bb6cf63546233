# One scenario: lays the network, starts the daemons, and goes through its steps. Sourced, not run.
# What the words mean is in tests/daemons/README.md.
# shellcheck shell=bash disable=SC2034,SC2154 # one program in several files: what is set here is used there

# shellcheck source-path=SCRIPTDIR source=lab.bash
. /lab/lab.bash
# shellcheck source-path=SCRIPTDIR source=traffic.bash
. /lab/traffic.bash
# shellcheck source-path=SCRIPTDIR source=libreswan.bash
. "/lab/${daemon%%-*}.bash"

connection=() on=() options=() settings=() steps=() numbers=() gateways=(west east) places=()
behind_nat=''
declare -A listening=() allowed=() refused_before=() example=()
flow=''

# option NUMBER NAME: sets value.
option() {
    local line
    value=''
    while IFS= read -r line; do [[ $line != "$2="* ]] || value=${line#*=}; done <<<"${options[$1]}"
}

# concerns NUMBER GATEWAY: whether a gateway has this connection.
concerns() {
    if [[ ${on[$1]} ]]; then [[ " ${on[$1]} " == *" $2 "* ]]; else
        local side value
        for side in left right; do
            option "$1" $side
            [[ $value == "$2" || $value == "${2}6" ]] && return 0
        done
        return 1
    fi
}

# find_connection NAME GATEWAY: its number. A name/1x2 of several subnets belongs to name.
find_connection() {
    local i
    for i in "${!connection[@]}"; do
        [[ ${connection[i]} == "${1%%/*}" ]] && concerns "$i" "$2" && {
            printf '%s' "$i"
            return
        }
    done
    echo "$2 has no connection $1"
    return 1
}

# The gateway that initiates: `at GATEWAY`, or the left one.
initiator() {
    local name=$1 i value
    shift
    if [[ ${1:-} == at ]]; then printf '%s' "$2" && return; fi
    for i in "${!connection[@]}"; do
        [[ ${connection[i]} == "${name%%/*}" ]] || continue
        option "$i" left
        printf '%s' "${value%6}"
        return
    done
}

# The gateways between which a gateway's connection is.
ends() {
    local i side value
    # Those of an example have one connection, between them.
    if [[ ${example[$2]:-} ]]; then
        printf '%s\n' "${!example[@]}"
        return
    fi
    i=$(find_connection "$1" "$2")
    for side in left right; do
        option "$i" $side
        value=${value%6}
        [[ $value == nat ]] && value=west
        [[ " ${gateways[*]} " == *" $value "* ]] && printf '%s\n' "$value"
    done
}

# tunnels GATEWAY: sets have, how many the record has.
tunnels() {
    local file
    have=0
    for file in "/run/pluto-updown/${inode_of[$1]}"/*/tunnels/*; do
        [[ ! -e $file || $file == *.new || ${file##*/} == _* ]] || have=$((have + 1))
    done
}

# All chains and rules of pluto-updown in a gateway's firewall.
rules_of_ours() {
    local program
    for program in "iptables-$variant-save" "ip6tables-$variant-save"; do
        inside "$1" "$program" 2>/dev/null | grep PLUTO || true
    done
}

# A sleep that starts no program.
exec {never}<> <(:)
pause() { read -r -t "$1" -u "$never" || true; }

# until_true SECONDS COMMAND...
until_true() {
    local end=$((SECONDS + $1 + 1))
    shift
    until "$@" >/dev/null 2>&1; do
        ((SECONDS < end)) || return 1
        pause 0.1
    done
}

is_clean() { [[ ! -e /run/pluto-updown/${inode_of[$1]} && -z $(rules_of_ours "$1") ]]; }
holds() { tunnels "$1" && ((have == $2)); }
fewer() { tunnels "$1" && ((have == 0 || have < $2)); }
has_tunnel() { tunnels "$1" && ((have > 0)); }

# launch GATEWAY COMMAND...: a daemon in its namespace, with a syslog of its own and nothing in its environment.
launch() {
    local gateway=$1
    shift
    # shellcheck disable=SC2016 # for the inner shell
    inside "$gateway" unshare --mount bash -c 'mount --bind "$1/devlog" /dev/log
        [[ ! -e $1/example.toml ]] || mount --bind "$1/example.toml" /etc/pluto-updown.toml
        echo $$ >"$1/pid"; shift; exec env -i PATH="$PATH" "$@"' - \
        "$state/$gateway" "$@" >>"$state/$gateway/console" 2>&1 </dev/null &
}

prepare_gateway() {
    local gateway=$1
    mkdir "$state/$gateway"
    socat -u "UNIX-RECV:$state/$gateway/devlog" "OPEN:$state/$gateway/syslog,append,creat" &
    until_true 10 test -S "$state/$gateway/devlog"
}

# prepare_example GATEWAY: its files, and the hook at the place that they name. The settings lie in the gateway's own /etc: the file
# that is made here is only what they are mounted on.
prepare_example() {
    local from=/lab/examples/${example[$1]}
    [[ -e /usr/libexec/pluto-updown ]] || install -D /lab/pluto-updown /usr/libexec/pluto-updown
    : >/etc/pluto-updown.toml
    install -m 644 "$from/pluto-updown.toml" "$state/$1/example.toml"
    configure_example "$1" "$from"
}

daemon_pid() { cat "$state/$1/pid"; }
is_dead() { [[ ! -e /proc/$(daemon_pid "$1")/exe ]]; }

# What a gateway's FORWARD has dropped so far.
refused() { inside "$1" iptables-save -c -t filter | grep '^:FORWARD'; }

# The settings of a gateway's hook and of the commands there, if the scenario says any.
settings_file() { printf '%s' "$state/$1/settings.toml"; }
has_settings() { [[ " ${steps[*]} " == *" settings on $1 ("* ]]; }

# command_of_ours WORD... GATEWAY...: `firewall start GATEWAY`, `firewall stop GATEWAY` or `unblock GATEWAY [CONNECTION]`.
command_of_ours() {
    local gateway command
    case $1 in
    firewall) command=("$2") gateway=$3 ;;
    *) command=("$1" "${@:3}") gateway=$2 ;;
    esac
    [[ ${command[*]} != unblock ]] || command+=(--all)
    # An example's settings are in the /etc that its daemon sees.
    if [[ ${example[$gateway]:-} ]]; then
        nsenter --target "$(daemon_pid "$gateway")" --net --mount /usr/libexec/pluto-updown "${command[@]}"
        return
    fi
    ! has_settings "$gateway" || command+=(--config "$(settings_file "$gateway")")
    inside "$gateway" /lab/pluto-updown "${command[@]}"
}

# The hook's AppArmor profile, with this machine's paths; it holds for every call from now on.
confine() {
    [[ -e /sys/kernel/security/apparmor ]] || mount -t securityfs none /sys/kernel/security
    sed -E 's|^(profile pluto-updown) [^ ]+|\1 /lab/pluto-updown|' /lab/apparmor >"$state/profile"
    mkdir -p /etc/apparmor.d/local
    # The scenarios' settings are where no administrator has them.
    printf '%s r,\n' "$state/*/settings.toml" >/etc/apparmor.d/local/pluto-updown
    apparmor_parser --replace --skip-cache "$state/profile"
    grep -qx 'pluto-updown (enforce)' /sys/kernel/security/apparmor/profiles
    # A profile that lets everything be would pass all that follows.
    : >/etc/forbidden
    local said
    ! said=$(inside "${gateways[0]}" /lab/pluto-updown --config /etc/forbidden start 2>&1) && [[ $said == *'Permission denied'* ]] || {
        echo "the hook is not confined: $said"
        return 1
    }
}

# What a profile has refused since the machine came up, but for the question above.
refused_by_profile() { dmesg | grep 'apparmor="DENIED".*profile="pluto-updown"' | grep -v 'name="/etc/forbidden"' || true; }

# esp_by_hand ONE OTHER: gives two machines what a daemon of their own would agree on, transport mode for all that they send one another.
esp_by_hand() {
    local from to source destination ns spi direction
    for ns in "${ns_of[$1]}" "${ns_of[$2]}"; do
        while read -r from to; do
            source=$(address "$from") destination=$(address "$to")
            # shellcheck disable=SC2086 # four numbers
            printf -v spi '0x%02x%02x%02x%02x' ${source//./ }
            ip -n "$ns" xfrm state add src "$source" dst "$destination" proto esp spi "$spi" mode transport \
                aead 'rfc4106(gcm(aes))' 0x000102030405060708090a0b0c0d0e0f10111213 128
            direction=in
            [[ $ns != "${ns_of[$from]}" ]] || direction=out
            ip -n "$ns" xfrm policy add src "$source" dst "$destination" dir "$direction" tmpl proto esp mode transport
        done <<<"$1 $2"$'\n'"$2 $1"
    done
}

# watch GATEWAY: from now on, counts wherever it arrives what the gateway sends unencrypted by its outer interface, from or to the networks behind
# gateways. What comes out of a tunnel has the same Ethernet address, and does not count as unencrypted.
watch() {
    local mac place
    mac=$(ip -n "$1" -o link show "${device_of[$1]}" | sed 's/.*link\/ether \([^ ]*\).*/\1/')
    for place in net "${gateways[@]}"; do
        watchers 10.0.0.0/8 | inside "$place" iptables-restore --noflush
        watchers 2001:db8::/46 | inside "$place" ip6tables-restore --noflush
    done
}

watchers() {
    local clear="-A PREROUTING -m mac --mac-source $mac -m policy --dir in --pol none"
    printf '%s\n' '*raw' '-F PREROUTING' "$clear -s $1" "$clear -d $1" COMMIT
}

# How many packets that was. Neighbours' questions for an inner address are from an outer one, and of the other kind.
seen_in_clear() {
    local place program
    for place in net "${gateways[@]}"; do
        for program in iptables-save ip6tables-save; do
            inside "$place" "$program" -c -t raw | sed -n 's/^\[\([0-9]*\):.*--mac-source.*/\1/p'
        done
    done | awk '{ sum += $1 } END { print sum + 0 }'
}

hook_was_killed() { [[ -z $(<"$state/$1/iptables/how") ]]; }

# What a hook said that nobody expected.
unexpected_lines() {
    local gateway=$1 expected=${allowed[$1]:-^$}
    {
        grep -E "$hooks_lines" "$state/$gateway/log" || true
        grep -E 'pluto-updown\[' "$state/$gateway/syslog" 2>/dev/null || true
    } | grep -vE "$expected" || true
}

# note WORDS: what is done, for the recorder; not what is only looked at or made ready.
note() {
    local gateway
    [[ $record == yes ]] || return 0
    case $1 in
    *' holds '* | *' is clean' | *' says '* | *' refused nothing' | *' hook was killed' | 'wait '* | 'in '* | 'everywhere '* | 'traffic '* | 'settings '* | 'watch '* | *' sent nothing in clear') return 0 ;;
    esac
    for gateway in "${gateways[@]}"; do printf '# %s\n\n' "$*" >>"$state/$gateway/calls"; done
}

inbound_spis() { inside "$1" ip xfrm state | awk '$1 == "proto" { print $4 }' | sort; }
changed_spis() { [[ $(inbound_spis "$1") != "$2" ]]; }
changed_ike() { local now; now=$(ike_numbers "$1"); [[ $now && $now != "$2" ]]; }

step() {
    local words gateway before end have i arrived
    read -r -a words <<<"$1"
    case $1 in
    'up '*)
        gateway=$(initiator "${words[@]:1}")
        conn_up "$gateway" "${words[1]}" || return 1
        for end in $(ends "${words[1]}" "$gateway"); do
            until_true 20 has_tunnel "$end" || { echo "$end has no tunnel"; return 1; }
        done
        ;;
    'begin '*)
        # As `up`, but whatever comes of it.
        conn_begin "$(initiator "${words[@]:1}")" "${words[1]}" || true
        ;;
    'end '*)
        gateway=$(initiator "${words[@]:1}")
        conn_down "$gateway" "${words[1]}" || true
        for end in $(ends "${words[1]}" "$gateway"); do conn_forget "$end" "${words[1]}"; done
        ;;
    'down '*)
        gateway=$(initiator "${words[@]:1}")
        local -A had=()
        for end in $(ends "${words[1]}" "$gateway"); do tunnels "$end" && had[$end]=$have; done
        conn_down "$gateway" "${words[1]}" || return 1
        for end in "${!had[@]}"; do
            until_true 20 fewer "$end" "${had[$end]}" || { echo "$end still has ${had[$end]} tunnels"; return 1; }
            conn_forget "$end" "${words[1]}"
        done
        ;;
    'both up '*)
        # At the same moment, as far as there is one.
        local starters=()
        for gateway in $(ends "${words[2]}" west); do
            conn_up "$gateway" "${words[2]}" &
            starters+=($!)
        done
        wait "${starters[@]}" || true
        for gateway in $(ends "${words[2]}" west); do
            until_true 20 has_tunnel "$gateway" || { echo "$gateway has no tunnel"; return 1; }
        done
        ;;
    'route '*) conn_route "$(initiator "${words[@]:1}")" "${words[1]}" ;;
    'unroute '*) conn_unroute "$(initiator "${words[@]:1}")" "${words[1]}" ;;
    'delete '*) conn_delete "$(initiator "${words[@]:1}")" "${words[1]}" || true ;;
    'rekey child '*)
        gateway=$(initiator "${words[@]:2}") before=$(inbound_spis "$gateway")
        rekey_child "$gateway" "${words[2]}" || return 1
        until_true 20 changed_spis "$gateway" "$before" || { echo "the SPIs are still $before"; return 1; }
        ;;
    'rekey ike '*)
        gateway=$(initiator "${words[@]:2}") before=$(ike_numbers "$gateway")
        rekey_ike "$gateway" "${words[2]}" || return 1
        until_true 20 changed_ike "$gateway" "$before" || { echo "the IKE SA is still $before"; return 1; }
        ;;
    'reauth '*)
        gateway=$(initiator "${words[@]:1}") before=$(ike_numbers "$gateway")
        reauth_ike "$gateway" "${words[1]}" || return 1
        until_true 20 changed_ike "$gateway" "$before" || { echo "the IKE SA is still $before"; return 1; }
        ;;
    'traffic end') flow_ends 0 ;;
    'traffic end but '[0-9]) flow_ends "${words[3]}" ;;
    'traffic stop') flow_ends 0 || true ;;
    'traffic '*)
        for gateway in "${gateways[@]}"; do refused_before[$gateway]=$(refused "$gateway"); done
        flow_begins "${words[1]}" "${words[3]}"
        ;;
    *' refused nothing')
        gateway=${words[0]}
        [[ $(refused "$gateway") == "${refused_before[$gateway]}" ]] || {
            echo "its FORWARD dropped, packets and bytes: before ${refused_before[$gateway]}, now $(refused "$gateway")"
            return 1
        }
        ;;
    'kill '*)
        kill -9 "$(daemon_pid "${words[1]}")"
        until_true 10 is_dead "${words[1]}"
        ;;
    'kill-hook '*) printf '%s\n' "${words[2]}" >"$state/${words[1]}/iptables/how" ;;
    *' hook was killed')
        until_true 20 hook_was_killed "${words[0]}" || {
            echo "nobody called it"
            return 1
        }
        ;;
    'start '*) start_daemon "${words[1]}" ;;
    'shutdown '*)
        stop_daemon "${words[1]}"
        until_true 30 is_dead "${words[1]}"
        ;;
    confine) confine ;;
    'flush '*)
        # What iptables-restore does without --noflush: it deletes our rules with the rest.
        firewall "${words[1]}"
        ;;
    'cut '*) ip -n "${words[1]}" link set "${device_of[${words[1]}]}" down ;;
    'move '*)
        gateway=${words[1]}
        ip -n "$gateway" addr add "${words[2]}/24" dev "${device_of[$gateway]}"
        ip -n "$gateway" addr del "$(address "$gateway")/24" dev "${device_of[$gateway]}"
        ip -n "$gateway" route replace default via 192.0.2.254
        place "$gateway" "$gateway" "${words[2]}"
        ;;
    'settings on '*)
        gateway=${words[2]} i=${words[3]}
        printf '%s' "${settings[${i//[()]/}]}" >"$(settings_file "$gateway")"
        ;;
    'firewall start '* | 'firewall stop '* | 'unblock '*) command_of_ours "${words[@]}" ;;
    'by hand '*) esp_by_hand "${words[2]}" "${words[3]}" ;;
    'watch '*) watch "${words[1]}" ;;
    *' sent nothing in clear')
        arrived=$(seen_in_clear)
        [[ $arrived == 0 ]] || {
            echo "packets in clear that it has sent: $arrived"
            return 1
        }
        ;;
    'in '*) inside "${words[1]}" bash -c "${words[*]:2}" ;;
    'everywhere '*)
        for gateway in "${gateways[@]}"; do inside "$gateway" bash -c "${words[*]:1}"; done
        ;;
    'wait '*) pause "${words[1]}" ;;
    *' holds '*)
        until_true "${words[4]:-15}" holds "${words[0]}" "${words[2]}" || {
            echo "${words[0]} has $have tunnels, not ${words[2]}"
            return 1
        }
        ;;
    *' is clean')
        until_true 15 is_clean "${words[0]}" || {
            echo "${words[0]} still holds: $(rules_of_ours "${words[0]}" | head -n 3)"
            find /run/pluto-updown 2>/dev/null | head -n 20
            return 1
        }
        ;;
    *' says '*)
        gateway=${words[0]}
        allowed[$gateway]+=${allowed[$gateway]:+|}${1#* says }
        until_true 10 grep -qsE "${1#* says }" "$state/$gateway/log" "$state/$gateway/syslog" || {
            echo "$gateway has not said it"
            return 1
        }
        ;;
    *)
        echo "no such step"
        return 1
        ;;
    esac
}

# probes FROM-STEP TO-STEP: a run of pass or of no-pass steps, all at once.
probes() {
    local i words passes=() refusals=() probe status=0 pids=() pid
    for ((i = $1; i < $2; i++)); do
        read -r -a words <<<"${steps[i]}"
        case ${steps[i]} in
        'pass '*) passes+=("${words[1]} ${words[3]} ${words[4]} ${words[5]:-}") ;;
        'no-pass '*) refusals+=("- ${words[1]} ${words[3]} ${words[4]} ${words[5]:-}") ;;
        'clear no-pass '*) refusals+=("clear ${words[2]} ${words[4]} ${words[5]} ${words[6]:-}") ;;
        esac
    done
    for probe in "${passes[@]}" "${refusals[@]#* }"; do
        read -r -a words <<<"$probe"
        [[ ${ns_of[${words[0]}]:-} && ${ns_of[${words[1]}]:-} ]] || { echo "no such host: ${words[*]:0:2}"; return 1; }
        case ${words[2]} in
        tcp) listen "${words[1]}" "${words[3]}" || return 1 ;;
        # Before there is any tunnel, nobody counts it.
        esp) modprobe -a esp4 esp6 || return 1 ;;
        esac
    done
    for probe in "${passes[@]}"; do
        # shellcheck disable=SC2086 # four words
        must_pass $probe &
        pids+=($!)
    done
    for pid in "${pids[@]}"; do wait "$pid" || status=1; done
    ((${#refusals[@]} == 0)) || must_not_pass "${refusals[@]}" || status=1
    return "$status"
}

kind() {
    case $1 in
    'pass '*) echo pass ;;
    'no-pass '* | 'clear no-pass '*) echo no-pass ;;
    *) echo step ;;
    esac
}

tell_time() {
    local uptime
    read -r uptime _ </proc/uptime
    printf '%7s  %s\n' "$uptime" "$1"
}

# A step must not end the script where it fails: what is to be said of it comes after.
carry_out() {
    local i=0 j status
    while ((i < ${#steps[@]})); do
        j=$((i + 1))
        tell_time "line ${numbers[i]}: ${steps[i]}"
        status=0
        if [[ $(kind "${steps[i]}") != step ]]; then
            # Neighbours of one kind at once; what passes may change what passes after it.
            while ((j < ${#steps[@]})) && [[ $(kind "${steps[j]}") == "$(kind "${steps[i]}")" ]]; do j=$((j + 1)); done
            probes "$i" "$j" || status=$?
        else
            note "${steps[i]}"
            step "${steps[i]}" >"$state/step" 2>&1 || status=$?
        fi
        if ((status != 0)); then
            grep -v 'failed to load' "$state/step" || true
            printf 'failed, status %s: line %s: %s\n' "$status" "${numbers[i]}" "${steps[i]}"
            return 1
        fi
        i=$j
    done
}

finally() {
    tell_time 'look for leavings'
    local gateway lines status=0
    for gateway in "${gateways[@]}"; do
        until_true 15 is_clean "$gateway" || {
            echo "$gateway still holds something of ours at the end"
            status=1
        }
        lines=$(unexpected_lines "$gateway")
        [[ -z $lines ]] || {
            printf '%s says what nobody expected:\n%s\n' "$gateway" "$lines"
            status=1
        }
    done
    [[ " ${steps[*]} " != *' confine '* ]] || {
        lines=$(refused_by_profile)
        apparmor_parser --remove "$state/profile"
        [[ -z $lines ]] || {
            printf 'the profile refuses what the hook does:\n%s\n' "$lines"
            status=1
        }
    }
    tell_time 'shut down'
    note 'shut down'
    for gateway in "${gateways[@]}"; do is_dead "$gateway" || stop_daemon "$gateway" >/dev/null || true; done
    for gateway in "${gateways[@]}"; do
        until_true 20 is_dead "$gateway" || echo "$gateway's daemon does not end"
        is_clean "$gateway" || {
            echo "$gateway holds something of ours after its daemon's end"
            status=1
        }
    done
    return "$status"
}

scenario() {
    local gateway starters=() pid
    # As read on the host.
    # shellcheck source=/dev/null
    . "/lab/scenarios/$1"
    tell_time 'lay the network'
    lay_net "${gateways[@]}"
    local line
    for line in "${places[@]}"; do
        # shellcheck disable=SC2086 # three words
        place $line
    done
    tell_time 'configure'
    for gateway in "${gateways[@]}"; do
        prepare_gateway "$gateway"
        if [[ ${example[$gateway]:-} ]]; then
            prepare_example "$gateway"
            continue
        fi
        hook=$(hook_of "$gateway")
        configure_daemon "$gateway"
    done
    tell_time 'start the daemons'
    for gateway in "${gateways[@]}"; do
        start_daemon "$gateway" >"$state/$gateway/started" 2>&1 &
        if [[ ${example[$gateway]:-} ]]; then
            # One after another: it may begin a connection by itself, and must find the other end there.
            wait "$!" || { tell_of_start; return 1; }
        else
            starters+=($!)
        fi
    done
    for pid in "${starters[@]}"; do wait "$pid" || { tell_of_start; return 1; }; done
    carry_out && finally
}

tell_of_start() {
    echo 'a daemon does not start'
    cat "$state"/*/started
}

# The hook that a gateway's connections name: pluto-updown, or a script that calls it; with the gateway's settings.
hook_of() {
    programs_of_hook "$1"
    ! has_settings "$1" || printf ' --config %s' "$(settings_file "$1")"
}

programs_of_hook() {
    local folder=$state/$1/iptables name
    case $hook_kind in
    own)
        [[ $record == no ]] || {
            printf '/lab/hooks/recorder %s' "$state/$1/calls"
            return
        }
        # Only where a step kills it: else there is nothing between it and iptables.
        [[ " ${steps[*]} " == *' kill-hook '* ]] || {
            # A package brings a hook of its own.
            if [[ -e /lab/package.deb ]]; then printf '/usr/libexec/pluto-updown'; else printf '/lab/pluto-updown'; fi
            return
        }
        ;;
    wrong-reqid | no-policy) ;;
    *)
        printf '/lab/hooks/%s' "$hook_kind"
        return
        ;;
    esac
    mkdir -p "$folder"
    printf '%s\n' "$hook_kind" >"$folder/how"
    # By the name of what its links lead to, the hook knows the variant.
    cp /lab/hooks/iptables "$folder/tampered-$variant"
    for name in {iptables,ip6tables}{,-"$variant"}-{save,restore}; do ln -s "tampered-$variant" "$folder/$name"; done
    printf '/lab/pluto-updown --programs %s' "$folder"
}

# What is to be seen of a scenario that failed.
aftermath() {
    local gateway program file
    cat "$state/said"
    # It shows what there is, and much may be missing.
    set +e
    for gateway in west east north; do
        [[ -d $state/$gateway ]] || continue
        for program in iptables-save ip6tables-save; do
            printf -- '--- %s: %s\n' "$gateway" "$program"
            inside "$gateway" "$program" -c | grep -v '^#' || true
        done
        for file in "$(settings_file "$gateway")" "$state/$gateway/example.toml"; do
            [[ ! -e $file ]] || { printf -- '--- %s: settings\n' "$gateway" && cat "$file"; }
        done
        printf -- '--- %s: record\n' "$gateway"
        find "/run/pluto-updown/$(stat -L -c %i "/run/netns/$gateway")" -type f -path '*/tunnels/*' -exec sh -c 'echo "$1"; tr -d "\n " <"$1"; echo' - {} \; 2>/dev/null || echo none
        printf -- '--- %s: policies\n' "$gateway"
        inside "$gateway" ip xfrm policy | grep -v socket | head -n 60
        printf -- '--- %s: syslog\n' "$gateway"
        cat "$state/$gateway/syslog" 2>/dev/null || true
        printf -- '--- %s: %s\n' "$gateway" "$daemon"
        cat "$state/$gateway/started" "$state/$gateway/console" 2>/dev/null || true
        grep -vE 'adding interface|Encrypting|Decrypting|testing |addconn:|RFC |CAVP|Algorithm|^ *[0-9:. A-Za-z]*NSS |proposal.*add' "$state/$gateway/log" | tail -n 120 || true
    done
}
