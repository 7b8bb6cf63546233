# firewalld as it is: a table of its own in nftables.
# variants: nft
# shellcheck shell=bash disable=SC2154 # what lab.bash sets

stage_1() {
    firewalld_starts
    refuted "its own table drops what ours accepts" passes
    must "$contrib/firewalld/allow-ipsec" 10.2.0.0/24 10.3.0.0/24 fd00:2::/64 fd00:3::/64
    must "$hook" restore
    check "with allow-ipsec packets pass" soon passes
    check "allow-ipsec can be run again" "$contrib/firewalld/allow-ipsec" 10.2.0.0/24
    must "$hook" restore

    # The zone external hides what leaves by it.
    must firewall-cmd --zone=external --add-interface=ipsec5
    must soon masquerades
    check "packets to a network that allow-ipsec names keep their source" test "$(seen left 10.2.0.9)" = ::ffff:10.1.0.5

    # It empties the tables of iptables too.
    firewalld_reloads
    check "systemctl stop and start: the gateway's own too" gateway_stands

    place systemd/firewall.conf /etc/systemd/system/firewalld.service.d/pluto-updown.conf
    must systemctl daemon-reload
    must systemctl stop firewalld
    check "systemctl stop firewalld, with firewall.conf: our rules are loaded" soon whole
    must restart_firewalld

    # Packets that our rules drop are dropped, whatever firewalld allows.
    printf '[tunnel]\nallow = "none"\n' >>/etc/pluto-updown.toml
    must "$hook" start
    refuted "what the settings deny is denied beside allow-ipsec" reaches far 10.1.0.5
}

stage_2() {
    must soon active firewalld pluto-updown pluto-updown-firewalld
    check "systemd dropped no unit because of an ordering cycle" no_cycle
    must rm /etc/pluto-updown.toml
    must tunnel up
    check "after the next boot packets through the tunnels pass" soon passes
    sleep 1
    survives_after 1 "firewall-cmd --reload after a boot" firewall-cmd --reload
    with_a_late_bus
}

# A bus that takes longer than the five starts in ten seconds that systemd allows by default.
with_a_late_bus() {
    must mv /run/dbus/system_bus_socket /run/dbus/away
    must systemctl restart pluto-updown-firewalld
    check "pluto-updown-firewalld is tried again, however late the bus is" soon tried_often
    must mv /run/dbus/away /run/dbus/system_bus_socket
    check "when the bus is there, it listens" soon listens
    survives_after 1 "firewall-cmd --reload after the bus was late" firewall-cmd --reload
}

tried_often() { (($(systemctl show -P NRestarts pluto-updown-firewalld) > 6)); }
listens() { systemctl is-active pluto-updown-firewalld && pgrep -f 'busctl monitor'; }

masquerades() { nft list chain inet firewalld nat_POST_external_allow | grep masquerade && nft list ruleset | grep 'oifname "ipsec5" .*nat_POST_external'; }
