# The IKE daemon's own unit: libreswan's, when its daemon is killed.
# variants: nft
# shellcheck shell=bash disable=SC2154 # what lab.bash sets

stage_1() {
    unit systemd/pluto-updown.service systemd/pluto-updown-restore.service
    # Not every kernel has ESP, without which pluto does not begin. What the unit does before and after it is the unit's own.
    mkdir -p /etc/systemd/system/ipsec.service.d
    printf '%s\n' '[Service]' Type=exec ExecStartPre= ExecStart= 'ExecStart=/bin/sleep infinity' ExecStop= WatchdogSec=0 \
        >/etc/systemd/system/ipsec.service.d/stand-in.conf
    must systemctl daemon-reload
    must systemctl start ipsec
    gateway
    killed
    check "a daemon was killed, without our unit: its tunnels stay open" passes

    policies_of_both
    place systemd/daemon.conf /etc/systemd/system/ipsec.service.d/pluto-updown.conf
    must systemctl daemon-reload
    must systemctl restart ipsec
    # The unit takes policies away at a restart.
    must tunnel up
    policies_of_both
    must "$hook" prune
    check "a tunnel with an IPsec policy in the kernel stays" "$hook" explain office
    killed
    refuted "a daemon was killed: its tunnels are forgotten" "$hook" explain office
    check "all rules are loaded" soon whole
    check "the gateway's own rules are loaded" gateway_stands
    check "a restart of the daemon leaves the gateway's own rules" systemctl restart ipsec
    check "all rules are loaded after a restart of the daemon" whole
}

policies_of_both() {
    ip xfrm policy flush
    policies 10.1.0.0/24 10.3.0.0/24 192.0.2.1 192.0.2.2 1
    policies fd00:1::/64 fd00:3::/64 fd00:9::1 fd00:9::2 2
}

# Kills it, and waits until systemd has started it again.
killed() {
    local before
    before=$(systemctl show -P MainPID ipsec)
    must systemctl kill --signal=KILL ipsec
    must soon started_anew "$before"
}

started_anew() {
    local now
    now=$(systemctl show -P MainPID ipsec)
    [[ $now != 0 && $now != "$1" ]] && active ipsec
}
