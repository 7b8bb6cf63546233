# Shorewall and Shorewall6: they load the whole firewall in one go.
# by default: nft
# shellcheck shell=bash disable=SC2154 # what lab.bash sets

stage_1() {
    local six where
    for six in '' 6; do
        where=/etc/shorewall$six
        printf '%s\n' 'fw firewall' "loc ipv${six:-4}" "net ipv${six:-4}" >"$where/zones"
        printf '%s\n' '?FORMAT 2' 'loc inside' 'net outside' >"$where/interfaces"
        printf '%s\n' 'loc net ACCEPT' 'fw all ACCEPT' 'net all DROP' 'all all REJECT' >"$where/policy"
        printf '%s\n' '?SECTION NEW' 'ACCEPT net fw tcp 22' >"$where/rules"
        must sed -i -e 's/^STARTUP_ENABLED=.*/STARTUP_ENABLED=Yes/' -e 's/^IP_FORWARDING=.*/IP_FORWARDING=Keep/' \
            "$where/shorewall$six.conf"
        sed -i 's/^startup=.*/startup=1/' "/etc/default/shorewall$six"
    done
    must systemctl enable --now shorewall shorewall6
    refuted "it drops what is forwarded" reaches far 10.1.0.5
    gateway
    check "packets through the tunnels pass" soon passes

    loses "shorewall reload" both reload
    loses "shorewall restart" both restart
    loses "systemctl reload shorewall" systemctl reload shorewall shorewall6
    loses "systemctl restart shorewall" systemctl restart shorewall shorewall6
    loses "shorewall clear" both clear
    loses "shorewall start" both start
    loses "shorewall stop" both stop
    must both start
    must "$hook" restore
    # It saves ours with its own, and loads them with its own.
    must both save
    must tunnel down
    must both restore
    check "shorewall restore loads rules of a dead tunnel, and status says so" stray
    must "$hook" restore
    must tunnel up

    unit systemd/pluto-updown.service systemd/pluto-updown-restore.service
    survives "systemctl restart shorewall with the unit alone" systemctl restart shorewall shorewall6
    loses "systemctl reload shorewall with the unit alone" systemctl reload shorewall shorewall6
    for six in '' 6; do
        for where in started restored stopped clear; do
            place shorewall/pluto-updown "/etc/shorewall$six/$where"
        done
    done
    survives "shorewall reload" both reload
    survives "shorewall restart" both restart
    must both save
    survives "shorewall restore" both restore
    must tunnel down
    must both restore
    refuted "shorewall restore leaves nothing of a dead tunnel" reaches far 10.1.0.5
    check "shorewall restore of what was saved while a tunnel was up: our rules are right" whole
    must tunnel up
    survives "systemctl reload shorewall" systemctl reload shorewall shorewall6
    must both clear
    check "shorewall clear: our rules are loaded" whole
    must both start
    must both stop
    check "shorewall stop: our rules are loaded" whole
    must both start
    check "shorewall start: our rules are loaded" whole
    check "shorewall start: packets through the tunnels pass" passes
    check "shorewall start: unencrypted packets do not pass" shut
}

# Shorewall's unit waits for the network, and ours is before it.
stage_2() {
    must soon active shorewall shorewall6 pluto-updown
    check "systemd dropped no unit because of an ordering cycle" no_cycle
    check "after a boot the gateway's own rules are loaded" whole
    must tunnel up
    check "after a boot packets through the tunnels pass" soon passes
    check "after a boot unencrypted packets do not pass" shut
}

both() { shorewall "$@" && shorewall -6 "$@"; }
