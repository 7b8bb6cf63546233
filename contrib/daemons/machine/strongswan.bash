# How scenarios configure strongSwan. Sourced, not run.
# shellcheck shell=bash disable=SC2034,SC2154 # one program in several files: what is set here is used there

# configure_example GATEWAY FOLDER: with the files of an example, as they are.
configure_example() {
    configure_charon "$1"
    install -m 600 "$2/swanctl.conf" "$state/$1/swanctl/swanctl.conf"
}

# What is the same for every connection.
configure_charon() {
    local gateway=$1
    mkdir -p "$state/$gateway/swanctl" "$state/$gateway/run"
    cat >"$state/$gateway/strongswan.conf" <<CONF
swanctl {
    load = random nonce sha1 sha2 openssl pem pkcs1 x509
}
charon-systemd {
    load = random nonce aes sha1 sha2 hmac kdf pem pkcs1 pubkey openssl curve25519 gcm x509 vici kernel-netlink socket-default updown
    make_before_break = yes
    retransmit_timeout = 1
    retransmit_tries = 3
    retransmit_base = 1.5
    filelog {
        log {
            path = $state/$gateway/log
            default = 1
            flush_line = yes
            time_format = %T
        }
    }
    plugins {
        vici {
            socket = unix://$state/$gateway/run/vici
        }
    }
}
CONF
}

configure_daemon() {
    local gateway=$1 i
    configure_charon "$gateway"
    # Between the same two peers there is one IKE SA, with a child for each connection: strongSwan looks no further than the first
    # connection that fits the peer. It is called as the first of them.
    local head child_text pools='' name first
    local -A first_of=() children=()
    for i in "${!connection[@]}"; do
        concerns "$i" "$gateway" || continue
        name=${connection[i]}
        translate "$i" "$gateway"
        [[ ${first_of[$head]:-} ]] || first_of[$head]=$name
        first=${first_of[$head]}
        children[$first]+=$child_text
        ike_of[$gateway/$name]=$first
        siblings[$gateway/$first]=$((${siblings[$gateway/$first]:-0} + 1))
    done
    {
        printf 'connections {\n'
        for head in "${!first_of[@]}"; do
            first=${first_of[$head]}
            printf '    %s {\n%s        children {\n%s        }\n    }\n' "$first" "$head" "${children[$first]}"
        done
        printf '}\nsecrets {\n    ike {\n        secret = "a secret for tests"\n    }\n}\npools {\n%s}\n' "$pools"
    } >"$state/$gateway/swanctl/swanctl.conf"
}

# The IKE connection of a gateway's connection, by gateway/connection, and how many share it. An example's have one child, of the
# same name.
declare -A ike_of siblings

# translate NUMBER GATEWAY: a connection in the words of ipsec.conf, in those of swanctl.conf: sets head, the connection's part,
# child_text, its child's, and adds to pools. `swanctl.conn.KEY=VALUE`, `swanctl.child.KEY=VALUE` and `swanctl.pool.NAME=ADDRESSES`
# stand for themselves.
translate() {
    local i=$1 gateway=$2 line key value mine far side
    local -A o=() conn=() child=()
    while IFS= read -r line; do
        key=${line%%=*} value=${line#*=}
        case $key in
        swanctl.conn.*) conn[${key#swanctl.conn.}]=$value ;;
        swanctl.child.*) child[${key#swanctl.child.}]=$value ;;
        swanctl.pool.*) pools+="    ${key#swanctl.pool.} { addrs = $value }"$'\n' ;;
        *) o[$key]=$value ;;
        esac
    done <<<"${options[i]}"
    mine=left far=right
    [[ ${o[right]} != "$gateway" && ${o[right]} != "${gateway}6" ]] || mine=right far=left
    : "${conn[version]=$([[ ${o[ikev2]:-yes} == no ]] && echo 1 || echo 2)}"
    : "${conn[local_addrs]=$(address "${o[$mine]}")}" "${conn[remote_addrs]=$(address "${o[$far]}")}"
    : "${conn[proposals]=aes128-sha256-ecp256}" "${conn[mobike]=${o[mobike]:-no}}"
    [[ -z ${o[encapsulation]:-} ]] || conn[encap]=${o[encapsulation]}
    [[ -z ${o[dpddelay]:-} ]] || conn[dpd_delay]=${o[dpddelay]}
    case ${o[phase2]:-esp} in
    esp) : "${child[esp_proposals]=aes128-sha256}" ;;
    ah) : "${child[ah_proposals]=sha256}" ;;
    esac
    : "${child[updown]=$hook}" "${child[mode]=${o[type]:-tunnel}}"
    [[ -z ${o[compress]:-} ]] || child[ipcomp]=${o[compress]}
    for side in "$mine local" "$far remote"; do
        : "${child[${side#* }_ts]=$(selectors "${side% *}")}"
    done
    head=$(
        for key in $(printf '%s\n' "${!conn[@]}" | sort); do printf '        %s = %s\n' "$key" "${conn[$key]}"; done
        for side in "$mine local" "$far remote"; do
            printf '        %s {\n            auth = psk\n' "${side#* }"
            value=${o[${side% *}id]:-}
            [[ -z $value ]] || printf '            id = %s\n' "${value#@}"
            printf '        }\n'
        done
    )$'\n'
    child_text="            ${connection[i]} {"$'\n'
    for key in "${!child[@]}"; do child_text+="                $key = ${child[$key]}"$'\n'; done
    child_text+="            }"$'\n'
}

# The traffic selectors of a side; reads its caller's options.
selectors() {
    local side=$1 net all=() ports=${o[${1}protoport]:-}
    for net in $(tr ',' ' ' <<<"${o[${side}subnet]:-dynamic}"); do
        all+=("$net${ports:+[$ports]}")
    done
    (
        IFS=,
        printf '%s' "${all[*]}"
    )
}

control() {
    local gateway=$1 what=$2
    shift 2
    # Its own settings are those of the daemon, so that it looks for no plugins that there are none of.
    STRONGSWAN_CONF=$state/$gateway/strongswan.conf SWANCTL_DIR=$state/$gateway/swanctl timeout 60 swanctl "$what" --uri "unix://$state/$gateway/run/vici" "$@"
}

start_daemon() {
    local gateway=$1
    rm -f "$state/$gateway/run/vici"
    launch "$gateway" env STRONGSWAN_CONF="$state/$gateway/strongswan.conf" SWANCTL_DIR="$state/$gateway/swanctl" /usr/sbin/charon-systemd
    until_true 20 test -S "$state/$gateway/run/vici"
    control "$gateway" --load-all
}

stop_daemon() { kill -TERM "$(cat "$state/$1/pid")"; }
conn_up() { control "$1" --initiate --child "$2" --timeout 40; }
conn_begin() { control "$1" --initiate --child "$2" --timeout -1; }
conn_down() {
    local ike=${ike_of[$1/$2]:-$2}
    if ((${siblings[$1/$ike]:-1} == 1)); then control "$1" --terminate --ike "$ike" --timeout 20; else control "$1" --terminate --child "$2" --timeout 20; fi
}
conn_forget() { :; }
conn_route() { control "$1" --install --child "$2"; }
conn_unroute() { control "$1" --uninstall --child "$2"; }
conn_delete() { conn_down "$@"; }
rekey_child() { control "$1" --rekey --child "$2"; }
rekey_ike() { control "$1" --rekey --ike "${ike_of[$1/$2]}"; }
reauth_ike() { control "$1" --rekey --ike "${ike_of[$1/$2]}" --reauth; }
ike_numbers() { control "$1" --list-sas | sed -n 's/^[^ ].*: #\([0-9]*\), ESTABLISHED.*/\1/p' | sort; }

hooks_lines='updown: '
