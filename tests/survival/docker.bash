# Docker: it puts its jumps before all others, and its NAT too.
# by default: nft
# shellcheck shell=bash disable=SC2154 # what lab.bash sets

stage_1() {
    # Docker does so itself only where it is the one who lets the machine forward, and for IPv4 only.
    must iptables -P FORWARD DROP
    must ip6tables -P FORWARD DROP
    gateway
    must systemctl start docker
    check "packets through the tunnels pass" soon passes
    check "systemctl start docker, without our unit: its jumps are before ours" lost
    must "$hook" restore
    loses "systemctl restart docker" systemctl restart docker
    loses "docker network create" docker network create first
    check "its MASQUERADE comes after our jump" masquerade_is_behind

    unit systemd/pluto-updown.service systemd/pluto-updown-restore.service
    survives "systemctl restart docker" systemctl restart docker
    check "systemctl restart docker: its MASQUERADE comes after our jump" masquerade_is_behind
    unit systemd/pluto-updown-watch.service systemd/pluto-updown-watch.timer
    must docker network create second
    survives "docker network create, and the watch" systemctl start pluto-updown-watch
    check "docker network create, and the timer: its MASQUERADE comes after our jump" masquerade_is_behind
    check "the timer runs" active pluto-updown-watch.timer
}

# The order in the nat table: what containers send into a tunnel must keep its source.
masquerade_is_behind() {
    local first
    first=$(iptables-save -t nat | grep '^-A POSTROUTING' | head -n 1)
    [[ $first == '-A POSTROUTING -j PLUTO-POSTROUTING' ]] && iptables-save -t nat | grep MASQUERADE || { echo "$first" && false; }
}
