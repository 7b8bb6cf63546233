# Many connections between the same two gateways, and how long they take to come up and to go down. Sourced, not run.
# shellcheck shell=bash disable=SC2034,SC2154 # one program in several files: what is set here is used there

# many_hook KIND: sets hook, at both ends the same. `none` is what the daemon itself needs: no program is started.
many_hook() {
    case ${daemon%%-*}-$1 in
    libreswan-none) hook=%disabled ;;
    strongswan-none) hook='' ;;
    libreswan-stock) hook='ipsec _updown' ;;
    strongswan-stock) hook='/usr/lib/ipsec/_updown iptables' ;;
    *-own) hook=/lab/pluto-updown ;;
    *) echo "no hook is called $1" && exit 1 ;;
    esac
}

# Each daemon gets all connections with one command: an emulated machine takes longer to start a program than to set up a tunnel.
many_libreswan() {
    local i
    for ((i = 0; i < many; i++)); do
        connection+=("many$i")
        on+=('west east')
        options+=("connalias=all
left=west
leftsubnet=10.$((100 + i / 256)).$((i % 256)).0/24
right=east
rightsubnet=10.$((150 + i / 256)).$((i % 256)).0/24")
    done
    for gateway in west east; do configure_daemon "$gateway"; done
}

# Here the first connection stands for all: strongSwan's translation starts too many programs for that.
many_strongswan() {
    connection=(many0) on=('west east')
    options=($'left=west\nleftsubnet=10.100.0.0/24\nright=east\nrightsubnet=10.150.0.0/24')
    for gateway in west east; do
        configure_daemon "$gateway"
        # The usual patience: of an IKE SA that is deleted, the remote end answers when all hooks have ended.
        sed -i '/retransmit_/d' "$state/$gateway/strongswan.conf"
        awk -v many="$many" '
            /^            many0 \{/ { block = ""; within = 1 }
            !within { print; next }
            { block = block $0 "\n" }
            /^            }/ {
                within = 0
                for (i = 0; i < many; i++) {
                    text = block
                    sub(/many0/, "many" i, text)
                    gsub(/10\.100\.0\./, "10." 100 + int(i / 256) "." i % 256 ".", text)
                    gsub(/10\.150\.0\./, "10." 150 + int(i / 256) "." i % 256 ".", text)
                    printf "%s", text
                }
            }' "$state/$gateway/swanctl/swanctl.conf" >"$state/$gateway/swanctl/all"
        mv "$state/$gateway/swanctl/all" "$state/$gateway/swanctl/swanctl.conf"
    done
}

all_up() {
    case ${daemon%%-*} in
    libreswan) whack west --initiate --asynchronous --name all ;;
    strongswan)
        sed -i 's/^ *updown =/                start_action = start\n&/' "$state/west/swanctl/swanctl.conf"
        control west --load-conns
        ;;
    esac
}

all_down() {
    case ${daemon%%-*} in
    libreswan) whack west --terminate --name all ;;
    strongswan) control west --terminate --ike many0 --timeout -1 ;;
    esac
}

# inbound GATEWAY: sets count, the inbound policies that the kernel holds: one a tunnel, and the daemon's own exceptions.
inbound() { read -r _ _ count _ < <(ip -n "$1" xfrm policy count); }

# both_have NUMBER: whether both ends have so many tunnels, and the last hook has ended.
both_have() {
    local gateway count
    for gateway in west east; do
        inbound "$gateway"
        ((count - exceptions[$gateway] == $1)) || return 1
    done
    ! pgrep -f '_updown|pluto-updown'
}

# await NUMBER: until both ends have so many tunnels; sets took, in tenths of a second since $begun. Prints how far it came where they do not.
await() {
    local gateway count
    until both_have "$1" >/dev/null; do
        if ((SECONDS > patience)); then
            for gateway in west east; do
                inbound "$gateway"
                printf '%s has %s of %s\n' "$gateway" $((count - exceptions[$gateway])) "$1"
                tail -n 20 "$state/$gateway/log"
            done
            return 1
        fi
        pause 0.5
    done
    took=$((${EPOCHREALTIME/[.,]/} / 100000 - begun))
}

# record_has NUMBER HOOK: so that nothing is measured that does not work.
record_has() {
    [[ $2 == own ]] || return 0
    local gateway
    for gateway in west east; do
        holds "$gateway" "$1" || {
            echo "the record of $gateway has $have tunnels, not $1"
            return 1
        }
    done
}

# many HOOK: says `took UP DOWN`, in tenths of a second.
many() {
    local gateway count begun took up patience=$((limit - 10))
    local -A exceptions=()
    many_hook "$1"
    lay_net west east
    for gateway in west east; do prepare_gateway "$gateway"; done
    "many_${daemon%%-*}"
    for gateway in east west; do start_daemon "$gateway" >"$state/$gateway/started" 2>&1; done
    for gateway in west east; do
        inbound "$gateway"
        exceptions[$gateway]=$count
    done
    begun=$((${EPOCHREALTIME/[.,]/} / 100000))
    all_up >"$state/up" 2>&1 &
    await "$many" || return 1
    up=$took
    record_has "$many" "$1" || return 1
    begun=$((${EPOCHREALTIME/[.,]/} / 100000))
    all_down >"$state/down" 2>&1 &
    await 0 || return 1
    record_has 0 "$1" || return 1
    printf 'took %s %s\n' "$up" "$took"
}
