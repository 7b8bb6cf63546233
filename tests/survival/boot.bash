# A boot: the unit's place among others, with cloud-init; and settings that are good, broken, and good again.
# by default: nft
# shellcheck shell=bash

stage_1() {
    local old=/etc/systemd/system/pluto-updown.service set
    with_cloud_init
    place systemd/pluto-updown.service "$old"
    must systemctl daemon-reload
    must systemctl enable pluto-updown
    # As it was with systemd's default dependencies: what is looked for can be found.
    sed -i '/^DefaultDependencies=/d' "$old"
    among networking
    refuted "with default dependencies there is a cycle" orders
    place systemd/pluto-updown.service "$old"
    for set in networking systemd-networkd NetworkManager 'networking ufw' 'networking nftables' 'networking netfilter-persistent' \
        'networking ipsec' 'networking docker' 'networking shorewall shorewall6' 'NetworkManager firewalld' 'systemd-networkd systemd-resolved unbound'; do
        among "$set"
        check "no ordering cycle with cloud-init and $set" orders
    done
    among networking
    settings_are good
}

# Booted with cloud-init and ifupdown, and good settings.
stage_2() {
    must soon active pluto-updown
    must soon finished
    check "no ordering cycle at the boot" no_cycle
    check "cloud-init ran" ran cloud-init-local cloud-init
    check "the gateway's rules were installed before the network" before_the_network
    check "the gateway's rules are loaded" gateway_stands
    check "eth7 carries only IPsec" closed eth7
    check "the settings are kept for another boot" kept
    settings_are broken
}

# Booted with a typo in the settings.
stage_3() {
    must soon finished
    check "no ordering cycle at the boot with broken settings" no_cycle
    check "with broken settings the last valid ones are applied" closed eth7
    check "the unit is active all the same" active pluto-updown
    check "the journal says so, with the line" soon said 'pluto-updown.toml:3: .*esp'
    check "the journal names the settings that are applied" soon said 'last valid settings'
    rm -r /var/lib/pluto-updown
}

# Booted with a typo in the settings, and none that were good before.
stage_4() {
    must soon finished
    check "with broken settings and no earlier ones, interfaces of only-ipsec are closed" closed eth7
    check "the unit has failed" systemctl is-failed pluto-updown
    check "the journal says what is applied" soon said 'only-ipsec'
    rm -rf /var/lib/pluto-updown
    place systemd/hold-network.conf /etc/systemd/system/pluto-updown.service.d/hold-network.conf
}

# With the drop-in that holds the network back.
stage_5() {
    must soon waiting
    systemctl list-jobs --no-pager | sed 's/^/# /'
    check "the network waits for good settings" waiting
    refuted "no network is configured meanwhile" systemctl is-active networking
    settings_are good
    check "with good settings the boot goes on" soon active network-pre.target
    check "the gateway's rules are loaded" soon gateway_stands
}

with_cloud_init() {
    mkdir -p /var/lib/cloud/seed/nocloud /etc/systemd/system/multi-user.target.wants
    echo 'instance-id: gateway' >/var/lib/cloud/seed/nocloud/meta-data
    echo '#cloud-config' >/var/lib/cloud/seed/nocloud/user-data
    echo 'datasource_list: [NoCloud]' >/etc/cloud/cloud.cfg.d/99-seed.cfg
    echo 'network: {config: disabled}' >/etc/cloud/cloud.cfg.d/99-network.cfg
    printf 'auto lo\niface lo inet loopback\n' >/etc/network/interfaces
    must systemctl enable cloud-init-local cloud-init cloud-config cloud-final
    # What cloud-init's generator does on a machine of a cloud.
    ln -sf /lib/systemd/system/cloud-init.target /etc/systemd/system/multi-user.target.wants/
}

all_sets='networking systemd-networkd systemd-networkd-wait-online NetworkManager NetworkManager-wait-online ufw nftables netfilter-persistent
    ipsec docker docker.socket containerd shorewall shorewall6 firewalld systemd-resolved unbound'

# among UNIT...: these are enabled, and none of the others.
among() {
    # shellcheck disable=SC2086 # words
    systemctl --no-reload disable $all_sets >/dev/null 2>&1
    # shellcheck disable=SC2086 # words
    must systemctl --no-reload enable $1
}

# orders: whether systemd can keep the order of all that a boot starts.
orders() {
    local text
    text=$(systemd-analyze verify --man=no default.target multi-user.target cloud-init.target pluto-updown.service 2>&1 | grep -i -e 'ordering cycle' -e 'break ordering')
    echo "$text"
    [[ -z $text ]]
}

settings_are() {
    case $1 in
    good) printf '%s\n' '[gateway]' 'ike = "any"' 'esp = "any"' 'only-ipsec = ["eth7"]' ;;
    broken) printf '%s\n' '[gateway]' 'ike = "any"' 'esp = "anny"' 'only-ipsec = ["eth7"]' ;;
    esac >/etc/pluto-updown.toml
}

finished() { [[ $(systemctl is-system-running) == @(running|degraded) ]]; }
closed() { { iptables-save && ip6tables-save; } | grep -e "-o $1 .*-j DROP" -e "-o $1 .*-j PLUTO" || { iptables-save && false; }; }
kept() { [[ $(stat -c %a /var/lib/pluto-updown) == 700 ]] && grep -r eth7 /var/lib/pluto-updown; }
said() { journalctl -b -u pluto-updown --no-pager | grep -e "$1" || { journalctl -b -u pluto-updown --no-pager && false; }; }
waiting() { systemctl list-jobs --no-pager | grep 'network-pre.target .*waiting' && ! systemctl is-active network-pre.target; }

ran() {
    local name
    for name; do [[ $(systemctl show -P Result "$name") == success && $(systemctl show -P ExecMainStatus "$name") == 0 ]] || return; done
}

before_the_network() {
    local ours theirs
    ours=$(systemctl show -P ActiveEnterTimestampMonotonic pluto-updown)
    for name in network-pre.target networking; do
        theirs=$(systemctl show -P ActiveEnterTimestampMonotonic "$name")
        ((ours > 0 && theirs > ours)) || { echo "$name: $theirs, pluto-updown: $ours" && false; }
    done
}
