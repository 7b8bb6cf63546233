# Name servers of a peer: the real systemd-resolved, unbound and NetworkManager, configured by the calls that libreswan makes for a client.
# by default: nft
# shellcheck shell=bash disable=SC2154 # what lab.bash sets

stage_1() {
    must "$hook" flush
    plain_file
    with_unbound
    with_resolved
    with_network_manager
    refuted "nothing of name servers is left on record" ls /run/pluto-updown/*/resolver
}

home=$'nameserver 192.0.2.1\nsearch home.example\n'

plain_file() {
    local begin
    printf %s "$home" >/etc/resolv.conf
    must client up file
    check "the peer's name servers are in resolv.conf" grep -q '^nameserver 10.2.0.53$' /etc/resolv.conf
    check "status shows them" shows 'name servers: 10.2.0.53, 10.2.0.54 for'
    must client down file
    check "resolv.conf is as it was, byte for byte" as_before
    # Any user can give a process this name.
    install -m 755 /bin/sleep /tmp/unbound
    setpriv --reuid=1000 --regid=1000 --clear-groups /tmp/unbound 60 &
    must client up file
    check "a user's process named unbound keeps no server out of resolv.conf" grep -q '^nameserver 10.2.0.53$' /etc/resolv.conf
    must client down file
    kill $!
    # Another resolv.conf in another mount namespace of the same network namespace.
    must client up file
    printf 'nameserver 192.0.2.77\n' >/tmp/other
    begin=$(cat /etc/resolv.conf)
    unshare --mount bash -c "mount --bind /tmp/other /etc/resolv.conf && '$hook' flush --yes" >/dev/null 2>&1
    check "in another mount namespace another file stays" test "$(cat /tmp/other)" = 'nameserver 192.0.2.77'
    check "and so does this one" test "$(cat /etc/resolv.conf)" = "$begin"
    must "$hook" restore
    check "restore restores the file where it was changed" as_before
}

with_unbound() {
    printf 'remote-control:\n    control-enable: yes\n    control-interface: /run/unbound.ctl\n    control-use-cert: no\n' \
        >/etc/unbound/unbound.conf.d/remote-control.conf
    must systemctl start unbound
    must soon unbound-control status
    must client up file
    check "unbound forwards the peer's domains" forwards 'example.test'
    check "resolv.conf is untouched" as_before
    must systemctl restart unbound
    must soon unbound-control status
    refuted "an unbound that was restarted has forgotten them" forwards 'example.test'
    must tunnel up
    check "the next call sets all forward zones again" forwards 'example.test corp.example.test'
    hangs unbound unbound-control
    check "unbound forwards nothing" test -z "$(unbound-control list_forwards | grep example)"
    must tunnel down
    must systemctl stop unbound
}

with_resolved() {
    must systemctl start systemd-resolved
    must soon resolvectl dns outside 192.0.2.53
    must resolvectl domain outside home.example
    must client up systemd
    check "systemd-resolved has the peer's name servers" resolves '10.2.0.53 10.2.0.54'
    must client down systemd
    check "systemd-resolved has what it had" resolves 192.0.2.53
    must client up systemd
    hangs systemd-resolved systemd-resolved systemd
    check "systemd-resolved has what it had, after it hung" resolves 192.0.2.53
    must tunnel down
    # Its own file is left to it.
    ln -sf ../run/systemd/resolve/stub-resolv.conf /etc/resolv.conf
    must client up file
    check "where resolv.conf is systemd-resolved's, resolvectl sets the name servers" resolves '10.2.0.53 10.2.0.54'
    must client down file
    check "and restores the former ones" resolves 192.0.2.53
    rm /etc/resolv.conf
    printf %s "$home" >/etc/resolv.conf
    must systemctl stop systemd-resolved
}

with_network_manager() {
    printf '[main]\nrc-manager=file\ndns=default\nplugins=keyfile\n[global-dns]\nsearches=nm.example\n[global-dns-domain-*]\nservers=192.0.2.99\n' \
        >/etc/NetworkManager/conf.d/names.conf
    must systemctl start NetworkManager
    must soon grep -q 192.0.2.99 /etc/resolv.conf
    must client up file
    check "the peer's name servers are before NetworkManager's" grep -q '^nameserver 10.2.0.53$' /etc/resolv.conf
    # It writes the file again, without our lines.
    must nmcli general reload dns-full
    must soon anew
    must client down file
    check "what NetworkManager wrote meanwhile stays" anew
    must systemctl stop NetworkManager
}

anew() { grep -q 192.0.2.99 /etc/resolv.conf && ! grep -q 10.2.0.53 /etc/resolv.conf; }

# hangs PROCESS NAME [RESOLVER]: it hangs at `down`, which costs no tunnel its rules and loses nothing.
hangs() {
    local begin=$SECONDS
    must pkill -STOP -x "${1:0:15}"
    must client down "${3:-file}"
    must tunnel up
    check "$1 hangs: calls end in time" test "$((SECONDS - begin))" -lt 40
    check "$1 hangs: tunnels have their rules" "$hook" explain office
    check "$1 hangs: status says what is not confirmed" shows "$2.* did not confirm\\|unbound did not confirm\\|systemd-resolved did not confirm"
    must pkill -CONT -x "${1:0:15}"
    must soon tunnel up
    refuted "$1 goes on: the next call made up for it" shows 'did not confirm'
}

shows() { "$hook" status | grep -e "$1"; }
as_before() { diff <(printf %s "$home") /etc/resolv.conf; }
resolves() { [[ $(resolvectl dns outside) == *"): $1" ]] || { resolvectl dns outside && false; }; }

forwards() {
    local name list
    list=$(unbound-control list_forwards)
    for name in $1; do grep -q "^$name\\. IN forward" <<<"$list" || { echo "$list" && return 1; }; done
}

# client up|down file|systemd: the calls of libreswan 5.4 for a client of its config mode.
client() {
    env -i PLUTO_VERB="$1-client" PLUTO_CONNECTION=road PLUTO_SA_REQID=16429 PLUTO_ME=192.0.2.1 PLUTO_PEER=192.0.2.2 \
        PLUTO_MY_CLIENT=10.9.0.10/32 PLUTO_PEER_CLIENT=10.2.0.0/16 PLUTO_CLIENT_FAMILY=ipv4 PLUTO_CONN_ADDRFAMILY=ipv4 \
        PLUTO_CONN_KIND=CK_INSTANCE PLUTO_INTERFACE=outside PLUTO_STACK=xfrm PLUTO_MY_ID=@road PLUTO_PEER_ID=@east \
        PLUTO_MY_PROTOCOL=0 PLUTO_PEER_PROTOCOL=0 PLUTO_MY_PORT=0 PLUTO_PEER_PORT=0 PLUTO_SA_TYPE=ESP PLUTO_NEXT_HOP=192.0.2.2 \
        PLUTO_CONNECTION_TYPE=tunnel PLUTO_XFRMI_ROUTE= PLUTO_VIRT_INTERFACE=NULL VTI_IFACE= VTI_ROUTING=no VTI_SHARED=no \
        PLUTO_CFG_CLIENT=1 PLUTO_CFG_SERVER=0 PLUTO_DNS_RESOLVER="$2" PLUTO_NM_CONFIGURED=0 PLUTO_IS_PEER_CISCO=0 PLUTO_PEER_BANNER= \
        PLUTO_PEER_DNS_INFO='10.2.0.53 10.2.0.54' PLUTO_PEER_DOMAIN_INFO='example.test corp.example.test' XAUTH_FAILED=0 \
        PLUTO_INBYTES=0 PLUTO_OUTBYTES=0 PLUTO_ADDTIME=1 SPI_IN=0x1 SPI_OUT=0x2 "$hook" --no-routes
}
