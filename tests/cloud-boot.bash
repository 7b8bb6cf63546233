# What is looked at in a machine of contrib/cloud-boot when it has booted. The kernel's command line
# has the number of the boot: 1 with good settings, 2 with broken ones, 3 with broken ones where none
# were good before. Each boot leaves the settings for the next.
# shellcheck shell=bash
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
unit=/etc/systemd/system/pluto-updown.service
exec 2>&1

note() { sed "s/^/# cloud: $1: /"; }

check() {
    local fact=$1 text
    shift
    if text=$("$@" 2>&1); then echo "ok cloud: $fact"; else
        echo "FAILED cloud: $fact"
        note "$fact" <<<"$text"
    fi
}

cycles() { journalctl -b --no-pager | grep -i -e 'ordering cycle' -e 'break ordering'; }
no_cycle() { ! cycles; }
no_job() { [[ -z $(systemctl list-jobs --no-legend --no-pager) ]]; }

# predicted: what systemd says of cycles among the units as they are now.
predicted() {
    systemd-analyze verify --man=no default.target multi-user.target cloud-init.target "$unit" 2>&1 |
        grep -i -e 'ordering cycle' -e 'break ordering'
}

# With systemd's default dependencies there is one: what is looked for can be found.
with_default_dependencies() {
    local status=0
    cp "$unit" /lab/unit
    sed -i '/^DefaultDependencies=/d' "$unit"
    predicted || status=$?
    cp /lab/unit "$unit"
    return "$status"
}

closed() { { iptables-save && ip6tables-save; } | grep -e '-o eth7 .*-j DROP' -e '-o eth7 .*-j PLUTO' || { iptables-save && false; }; }
said() { journalctl -b -u pluto-updown --no-pager | grep -e "$1" || { journalctl -b -u pluto-updown --no-pager && false; }; }
entered() { systemctl show -P ActiveEnterTimestampMonotonic "$1"; }
failed() { systemctl is-failed "$1" || { systemctl status "$1" && false; }; }
addressed() { ip -4 addr show dev eth0 | grep 'inet 10\.0\.2\.' || { ip addr && false; }; }

before_the_network() {
    local ours
    ours=$(entered pluto-updown)
    ((ours > 0 && ours < $(entered network-pre.target) && ours < $(entered systemd-networkd))) || { systemctl status pluto-updown && false; }
}

ran() {
    local unit
    # What cloud-init calls them since 24.3, and before.
    for unit in cloud-init-local cloud-init cloud-init-main cloud-init-network cloud-config cloud-final; do
        [[ $(systemctl show -P LoadState "$unit") != loaded || $(systemctl show -P Result "$unit") == success ]] || { systemctl status "$unit" && return 1; }
    done
    diff /lab/cloud-init-ran /proc/sys/kernel/random/boot_id
}

number=$(sed 's/.*lab\.boot=//; s/ .*//' /proc/cmdline)
systemctl list-jobs --no-pager 2>&1 | grep -e UNIT -e pluto-updown -e network -e cloud -e listed |
    note 'systemctl list-jobs, while it boots'
systemctl is-system-running --wait >/dev/null
systemctl list-jobs --no-pager 2>&1 | note 'systemctl list-jobs, at the end'
{ cycles || echo none; } | note 'the journal on ordering cycles'
check "no job is left" no_job
check "the journal has no word of an ordering cycle" no_cycle
check "cloud-init ran" ran
check "the network is up" addressed
check "eth7 carries nothing but IPsec" closed
case $number in
1)
    check "the rules are installed before the network" before_the_network
    check "with default dependencies there would be a cycle" with_default_dependencies
    sed -i 's/^esp = .*/esp = "anny"/' /etc/pluto-updown.toml
    ;;
2)
    check "the rules are installed before the network" before_the_network
    check "the journal names the broken line" said 'pluto-updown.toml:3: '
    check "the journal says that the last valid settings are installed" said 'WARNING: .*/var/lib/pluto-updown'
    rm -r /var/lib/pluto-updown
    ;;
3)
    check "the unit has failed" failed pluto-updown
    check "the journal says that only-ipsec alone is installed" said 'WARNING: .*only-ipsec'
    ;;
esac
sync
echo "ok cloud: the end"
systemctl poweroff
