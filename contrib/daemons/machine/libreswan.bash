# How scenarios configure libreswan. Sourced, not run.
# shellcheck shell=bash disable=SC2034,SC2154 # one program in several files: what is set here is used there

tools=/usr/libexec/ipsec

configure_daemon() {
    local gateway=$1 i line key value
    {
        cat <<CONF
config setup
    ikev1-policy=accept
conn %default
    authby=secret
    ike=aes128-sha2_256-dh19
    esp=aes128-sha2_256
    pfs=no
    leftupdown="$hook"
    rightupdown="$hook"
    retransmit-interval=500
CONF
        for i in "${!connection[@]}"; do
            concerns "$i" "$gateway" || continue
            printf 'conn %s\n' "${connection[i]}"
            while IFS= read -r line; do
                key=${line%%=*} value=${line#*=}
                case $key in
                swanctl.*) continue ;;
                left | right) value=$(address "$value") ;;
                leftsubnet | rightsubnet) [[ $value != *,* ]] || key+=s value="{$value}" ;;
                esac
                printf '    %s=%s\n' "$key" "$value"
            done <<<"${options[i]}"
        done
    } >"$state/$gateway/ipsec.conf"
    printf '%s\n' '%any %any : PSK "a secret for tests"' ': PSK "a secret for tests"' '@anna : XAUTH "a secret for tests"' >"$state/$gateway/ipsec.secrets"
    chmod 600 "$state/$gateway/ipsec.secrets"
    give_nss "$gateway"
}

# configure_example GATEWAY FOLDER: with the files of an example, as they are.
configure_example() {
    cp "$2/ipsec.conf" "$state/$1/ipsec.conf"
    install -m 600 "$2/ipsec.secrets" "$state/$1/ipsec.secrets"
    give_nss "$1"
}

give_nss() {
    [[ -d /lab/nss ]] || make_nss
    cp -r /lab/nss "$state/$1/nss"
}

# An empty database of keys, made once a machine. That fails now and then on a machine that has just booted, and the scenarios are not
# about it.
make_nss() {
    local said='' _
    for _ in {1..5}; do
        rm -rf /lab/nss.new
        mkdir /lab/nss.new
        if said=$(timeout 60 ipsec initnss --nssdir /lab/nss.new 2>&1); then
            mv /lab/nss.new /lab/nss
            return 0
        fi
        sleep 1
    done
    printf 'ipsec initnss failed: %s\n' "$said" >&2
    return 1
}

whack() {
    local gateway=$1
    shift
    timeout 60 "$tools/whack" --rundir "$state/$gateway/run" "$@"
}

start_daemon() {
    local gateway=$1 i names=()
    rm -rf "$state/$gateway/run"
    mkdir "$state/$gateway/run"
    launch "$gateway" "$tools/pluto" --nofork --config "$state/$gateway/ipsec.conf" --secretsfile "$state/$gateway/ipsec.secrets" \
        --nssdir "$state/$gateway/nss" --rundir "$state/$gateway/run" --logfile "$state/$gateway/log"
    until_true 20 test -S "$state/$gateway/run/pluto.ctl"
    # What has an auto= Pluto loads by itself. Loaded a second time, it would end what has just been begun.
    if [[ ${example[$gateway]:-} ]]; then
        until_true 20 has_loaded "$gateway"
        return
    fi
    for i in "${!connection[@]}"; do
        concerns "$i" "$gateway" || continue
        names+=("${connection[i]}")
    done
    inside "$gateway" "$tools/addconn" --config "$state/$gateway/ipsec.conf" --ctlsocket "$state/$gateway/run/pluto.ctl" "${names[@]}"
    whack "$gateway" --listen
}

has_loaded() { whack "$1" --connectionstatus | grep -q '^"\|^000 "'; }
stop_daemon() { whack "$1" --shutdown; }
conn_up() { whack "$1" --initiate --name "$2"; }
conn_begin() { whack "$1" --initiate --asynchronous --name "$2"; }
conn_down() { whack "$1" --terminate --name "$2"; }
# libreswan 4 leaves a trap behind at both ends, and the next packet would bring the tunnel up again.
conn_forget() { [[ $daemon != libreswan-4* ]] || whack "$1" --unroute --name "$2" || true; }
conn_route() { whack "$1" --route --name "$2"; }
conn_unroute() { whack "$1" --unroute --name "$2"; }
conn_delete() { whack "$1" --delete --name "$2"; }
rekey_child() {
    case $daemon in
    libreswan-4*) whack "$1" --rekey-ipsec --name "$2" ;;
    *) whack "$1" --rekey-child --name "$2" ;;
    esac
}
rekey_ike() { whack "$1" --rekey-ike --name "$2"; }
reauth_ike() { rekey_ike "$@"; }

# Numbers that change when an IKE SA does.
ike_numbers() { whack "$1" --showstates | sed -n 's/^[^#]*#\([0-9]*\):.*\(ESTABLISHED_IKE_SA\|MAIN_[IR]4\|MAIN_[IR]3\).*/\1/p' | sort; }

# What of the daemon's log comes from its hook.
hooks_lines='output: |command exited with status|exited with status'
