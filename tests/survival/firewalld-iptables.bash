# firewalld with FirewallBackend=iptables: the same tables as ours.
# by default: nft
# shellcheck shell=bash

stage_1() {
    must sed -i 's/^FirewallBackend=.*/FirewallBackend=iptables/' /etc/firewalld/firewalld.conf
    firewalld_starts
    check "packets through the tunnels pass" soon passes

    firewalld_reloads
}

stage_2() {
    must soon active firewalld pluto-updown pluto-updown-firewalld
    check "systemd dropped no unit because of an ordering cycle" no_cycle
    must tunnel up
    check "after the next boot packets through the tunnels pass" soon passes
    sleep 1
    survives_after 1 "firewall-cmd --reload after a boot" firewall-cmd --reload
    check "firewalld could load its rules after a boot" firewalld_loaded
}
