# netfilter-persistent with iptables-persistent: rules that iptables-save wrote are loaded at boot, and whenever somebody says so.
# shellcheck shell=bash disable=SC2154 # what lab.bash sets

stage_1() {
    local family
    for family in iptables ip6tables; do
        must "$family" -P FORWARD DROP
        must "$family" -A FORWARD -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT
        must "$family" -A FORWARD -i inside -o outside -j ACCEPT
        must "$family" -t nat -A POSTROUTING -o outside -j MASQUERADE
    done
    must systemctl enable --now netfilter-persistent
    must netfilter-persistent save
    gateway
    check "packets through the tunnels pass" passes

    loses "netfilter-persistent reload" netfilter-persistent reload
    loses "systemctl restart netfilter-persistent" systemctl restart netfilter-persistent
    loses "netfilter-persistent flush" netfilter-persistent flush
    must netfilter-persistent start
    must "$hook" restore

    unit systemd/pluto-updown.service systemd/pluto-updown-restore.service
    survives "systemctl restart netfilter-persistent" systemctl restart netfilter-persistent
    place netfilter-persistent/50-pluto-updown /usr/share/netfilter-persistent/plugins.d/50-pluto-updown 755
    survives "netfilter-persistent reload" netfilter-persistent reload
    must netfilter-persistent flush
    check "netfilter-persistent flush: our rules are loaded" whole
    survives_start

    # What is saved while tunnels are up must not be loaded while they are down.
    must netfilter-persistent save
    refuted "netfilter-persistent save: no rule of ours is saved" grep -h '^-A PLUTO-' /etc/iptables/rules.v4 /etc/iptables/rules.v6
    check "netfilter-persistent save: its own are" grep -q -- '-A FORWARD -i inside -o outside -j ACCEPT' /etc/iptables/rules.v6
    check "netfilter-persistent save: our rules are loaded" whole
    survives "netfilter-persistent reload of that" netfilter-persistent reload

    # And for the next boot: saved without our plugin, and no unit of ours is started.
    must rm /usr/share/netfilter-persistent/plugins.d/50-pluto-updown
    must netfilter-persistent save
    must grep -q '^-A PLUTO-office' /etc/iptables/rules.v4
    must systemctl disable pluto-updown pluto-updown-restore
}

survives_start() {
    must netfilter-persistent start
    check "netfilter-persistent start: our rules are loaded" whole
    check "netfilter-persistent start: packets through the tunnels pass" passes
}

# The machine was booted with rules of tunnels that are down.
stage_2() {
    must soon loaded
    check "after the boot the dead tunnel is open, and status says so" stray
    check "check says so" check_complains
    cp /etc/iptables/rules.v4 /tmp/rules.v4 && cp /etc/iptables/rules.v6 /tmp/rules.v6

    # The first call of a daemon, without any unit of ours.
    strongswan up-client other 7 192.0.2.1 192.0.2.2 10.1.0.0/24 10.77.0.0/24
    refuted "the first up leaves no way to the dead tunnel, IPv4" reaches far 10.1.0.5
    check "status reports what is left in IPv6" stray
    must "$hook" restore
    refuted "restore takes it out" saved
    check "restore does not touch rules that are right" whole
    strongswan down-client other 7 192.0.2.1 192.0.2.2 10.1.0.0/24 10.77.0.0/24
    refuted "and after the last down nothing is left" saved_any

    must netfilter-persistent start
    must loaded
    must "$hook" start
    refuted "start takes it out" saved
    check "start does not touch rules that are right" whole
    check "what the administrator saved is there" rules_of_the_administrator

    must netfilter-persistent start
    must loaded
    must "$hook" restore
    refuted "restore before any tunnel is up takes it out" saved
    must systemctl enable pluto-updown pluto-updown-restore
}

# Booted again, with the units.
stage_3() {
    must soon active pluto-updown
    refuted "a boot with the units leaves nothing of dead tunnels" saved
    refuted "no way in through the dead tunnel" reaches far 10.1.0.5
    check "all rules are loaded" whole
    check "what the administrator saved is there" rules_of_the_administrator
    check "systemd dropped no unit because of an ordering cycle" no_cycle
}

# Whether a rule of the tunnels that are down is in the firewall; in either family.
saved() { { iptables-save && ip6tables-save; } | grep -e '--comment "\{0,1\}office'; }
saved_any() { { iptables-save && ip6tables-save; } | grep -e '-A PLUTO-office' -e '-A PLUTO-branch' -e '-A PLUTO-other'; }

loaded() { iptables-save | grep -q '^-A PLUTO-office' && ip6tables-save | grep -q '^-A PLUTO-office' && reaches far 10.1.0.5; }

check_complains() {
    local text
    text=$("$hook" check)
    [[ $? == 1 ]] && grep WRONG <<<"$text" | grep -i -e 'PLUTO-' -e foreign -e record || { echo "$text" && false; }
}

rules_of_the_administrator() {
    iptables-save | grep -qx -- '-A FORWARD -i inside -o outside -j ACCEPT' && ip6tables-save | grep -qx -- '-A POSTROUTING -o outside -j MASQUERADE'
}
