//! What counts without a settings file: tunnels' packets are exempted from NAT, and a tunnel whose rules cannot be installed is up without.

use std::collections::BTreeMap;

use pluto_updown::net::Family;
use pluto_updown::netfilter::{Backend, Table};

use super::routes::{Router, route};
use super::tables::{break_restore, machine, repair, saved};
use crate::support::binary::Call;
use crate::support::captures::{find_call, libreswan_up, strongswan_up};
use crate::support::emulator::Kind;
use crate::support::gateway::twins;
use crate::support::namespace::{Namespace, own_chain_sizes, prefix, tool};
use crate::support::syslog::{DAEMON_ERR, DAEMON_WARNING, Syslog};
use crate::support::world::World;

/// A machine whose administrator has rules in two tables and no settings.
fn unset(backend: Backend) -> Namespace {
    let machine = machine(backend);
    machine.settings("");
    machine
}

/// A tunnel between two networks of a family.
fn net_net(family: Family) -> Call {
    match family {
        Family::Ipv4 => libreswan_up(),
        Family::Ipv6 => libreswan_up()
            .with("PLUTO_MY_CLIENT", "fd00:1::/64")
            .with("PLUTO_PEER_CLIENT", "fd00:2::/64"),
    }
}

/// The same with an interface of its own.
fn by_device(family: Family) -> Call {
    net_net(family)
        .with("PLUTO_CONNECTION", "device")
        .with("VTI_IFACE", "vti1")
}

#[test]
#[ignore = "needs root and iptables: run by contrib/test"]
fn the_first_tunnel_brings_the_exemption_and_the_last_takes_it_out() {
    for (backend, family) in twins() {
        let machine = unset(backend);
        let before = saved(&machine, family);
        let mut world = World {
            settings: Default::default(),
            ..World::default()
        };
        let ups = [
            net_net(family),
            net_net(family).with("PLUTO_CONNECTION", "other"),
            by_device(family),
        ];
        for call in ups.clone().into_iter().chain(ups.map(Call::opposite)) {
            machine.hook().expect_success(&call);
            world.call(&call.firewall_action()).expect("a good call");
            let now = saved(&machine, family);
            for (kind, now) in Kind::ALL.into_iter().zip(&now) {
                let emulated = world.emulator(family).table(kind).save();
                assert_eq!(
                    own_chain_sizes(now),
                    own_chain_sizes(&emulated),
                    "{backend} {family}: {call}"
                );
            }
            if machine.state().exists() {
                let [_, nat, _] = &now;
                let first = nat.lines().find(|line| line.starts_with("-A POSTROUTING"));
                assert_eq!(first, Some("-A POSTROUTING -j PLUTO-POSTROUTING"), "{backend} {family}");
            }
        }
        assert_eq!(saved(&machine, family), before, "{backend} {family}");
        assert!(!machine.state().exists());
    }
}

/// The order of the tables in what [`saved`] returns, which the test above leans on.
#[test]
fn the_nat_table_is_the_second() {
    assert_eq!(Table::ALL, [Table::Filter, Table::Nat, Table::Mangle]);
}

/// A machine behind the gateway, one behind the peer, and an interface between gateway and peer that stands in for a tunnel's. Whatever leaves
/// the gateway is masqueraded.
struct Site {
    machine: Namespace,
    family: Family,
    local: &'static str,
    remote: &'static str,
}

impl Site {
    /// An ordinary interface is none of a tunnel's, and stands in for one: it has another name during the call.
    fn open(&self, up: &Call) {
        self.machine.shell("ip link set vti1 name away");
        self.machine.hook().expect_success(up);
        self.machine.shell("ip link set away name vti1");
    }

    fn new(backend: Backend, family: Family) -> Self {
        let machine = machine(backend);
        machine.settings("");
        machine.tables(family, &["-t", "nat", "-A", "POSTROUTING", "-j", "MASQUERADE"]);
        machine.tables(family, &["-P", "FORWARD", "ACCEPT"]);
        let (local, remote, own, at_lan) = match family {
            Family::Ipv4 => ("10.1.0.9", "10.2.0.7", "192.0.2.1/32", "10.1.0.1/24"),
            Family::Ipv6 => ("fd00:1::9", "fd00:2::7", "2001:db8::1/128", "fd00:1::1/64"),
        };
        let length = if family == Family::Ipv4 { 32 } else { 128 };
        let nodad = if family == Family::Ipv6 { "nodad" } else { "" };
        machine.shell(&format!(
            "mkdir -p /run/netns; ip netns add peer; ip netns add lan; ip link set lo up
             ip link add vti1 address 02:00:00:00:00:01 type veth peer name v0 address 02:00:00:00:00:01 netns peer
             ip link add lan0 address 02:00:00:00:00:02 type veth peer name v0 address 02:00:00:00:00:02 netns lan
             sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1 net.ipv4.conf.all.rp_filter=0
             sysctl -qw net.ipv4.conf.vti1.rp_filter=0 net.ipv4.conf.lan0.rp_filter=0
             for device in vti1 lan0; do ip link set $device arp off; ip link set $device up; done
             ip addr add {own} dev vti1 {nodad}; ip addr add {at_lan} dev lan0 {nodad}
             end() {{ ip netns exec $1 sh -euc \"ip link set v0 arp off; ip link set v0 up; ip link set lo up
                      ip addr add $2/{length} dev lo {nodad}; ip route add default dev v0 $3\"; }}
             end peer {remote} ''; end lan {local} 'src {local}'
             ip route add {remote} dev vti1
             ip route replace {local} dev lan0",
        ));
        Self {
            machine,
            family,
            local,
            remote,
        }
    }

    /// Sends a packet through the gateway, and says from whom the other side got one: us, or the gateway in our place.
    fn source_seen(&self) -> &'static str {
        let iptables = tool(&format!("{}-nft", prefix(self.family))).display().to_string();
        let bash = tool("bash").display().to_string();
        let (local, remote) = (self.local, self.remote);
        // A new connection each time, by a port of its own.
        let listing = self.machine.shell(&format!(
            "in_peer='ip netns exec peer {iptables}'
             $in_peer -F; $in_peer -A INPUT -p udp -s {local}; $in_peer -A INPUT -p udp
             ip netns exec lan {bash} -c 'echo hello >/dev/udp/{remote}/4711'
             for try in 1 2 3 4 5 6 7 8 9 10; do
                 counts=$($in_peer -nvxL INPUT | tail -n 2 | while read -r packets rest; do echo $packets; done)
                 [ \"$counts\" = '0
0' ] || break; sleep 0.05
             done; echo $counts",
        ));
        match listing.trim() {
            "1 1" => "machine",
            "0 1" => "gateway",
            other => panic!("packets counted: {other}"),
        }
    }
}

#[test]
#[ignore = "needs root and iptables: run by contrib/test"]
fn real_packets_into_a_tunnels_interface_keep_their_source_whatever_is_masqueraded() {
    for (backend, family) in twins() {
        let site = Site::new(backend, family);
        let what = format!("{backend} {family}");
        assert_eq!(site.source_seen(), "gateway", "{what}");
        let up = by_device(family);
        site.open(&up);
        assert_eq!(site.source_seen(), "machine", "{what}");
        // Whoever masquerades later, and in the first place.
        site.machine
            .tables(family, &["-t", "nat", "-I", "PREROUTING", "-j", "ADMIN"]);
        site.machine.tables(
            family,
            &["-t", "nat", "-A", "POSTROUTING", "-o", "vti1", "-j", "MASQUERADE"],
        );
        assert_eq!(site.source_seen(), "machine", "{what}");
        site.machine.hook().expect_success(&up.opposite());
        assert_eq!(site.source_seen(), "gateway", "{what}");
    }
}

#[test]
#[ignore = "needs root and iptables: run by contrib/test"]
fn what_is_left_to_other_rules_is_masqueraded_by_them() {
    for (backend, family) in twins() {
        let site = Site::new(backend, family);
        site.machine.settings("[tunnel]\nnat = \"leave\"\n");
        site.open(&by_device(family));
        assert_eq!(site.source_seen(), "gateway", "{backend} {family}");
        // Beside one that is exempted too.
        site.machine
            .settings("[[connection]]\nname = \"device\"\nnat = \"leave\"\n");
        site.machine.hook().expect_success(&net_net(family));
        site.open(&by_device(family));
        assert_eq!(site.source_seen(), "gateway", "{backend} {family}");
    }
}

/// The warnings and errors that have come, but for the one that a tunnel's interface does not exist: here none does.
fn complaints(syslog: &Syslog) -> Vec<String> {
    let mut lines = syslog.lines();
    lines.retain(|line| line.starts_with(DAEMON_WARNING) || line.starts_with(DAEMON_ERR));
    lines.retain(|line| !line.contains("does not exist yet"));
    lines
}

#[test]
#[ignore = "needs root and iptables: run by contrib/test"]
fn a_nat_table_that_takes_no_rules_leaves_the_tunnel_up_with_one_warning() {
    for (backend, family) in twins() {
        let machine = unset(backend);
        let syslog = Syslog::new(&machine);
        let before = saved(&machine, family);
        break_restore(&machine, family, Table::Nat, "-j ACCEPT");
        for up in [net_net(family), by_device(family)] {
            machine.hook().expect_success(&up);
            let output = complaints(&syslog);
            assert_eq!(output.len(), 1, "{backend} {family}: {output:?}");
            let expected = format!("{backend}-{family}: the nat table takes no rules, tunnels are not exempted");
            assert!(output[0].contains(&expected), "{output:?}");
            // Nothing is tried again for a tunnel that is up.
            machine.hook().expect_success(&up);
            assert_eq!(complaints(&syslog), [""; 0], "{backend} {family}: {up}");
        }
        let stand = saved(&machine, family);
        assert!(own_chain_sizes(&stand[0]).len() > 5, "{backend} {family}");
        assert_eq!(stand[1..], before[1..], "{backend} {family}");
        machine.hook().expect_success(&net_net(family).opposite());
        machine.hook().expect_success(&by_device(family).opposite());
        assert_eq!(saved(&machine, family), before, "{backend} {family}");
        assert!(!machine.state().exists());
        // The table takes rules again.
        repair(&machine, family);
        machine.hook().expect_success(&net_net(family));
        assert_ne!(saved(&machine, family)[1], before[1]);
        machine.hook().expect_success(&net_net(family).opposite());
        assert_eq!(saved(&machine, family), before, "{backend} {family}");
    }
}

#[test]
#[ignore = "needs root and iptables: run by contrib/test"]
fn a_tunnel_whose_rules_are_not_taken_is_up_unless_its_policy_restricts() {
    let ups = [
        libreswan_up(),
        strongswan_up(),
        find_call("libreswan-5.4-async", "net-net", "prepare-route-up"),
    ];
    for (backend, up) in [Backend::Nft, Backend::Legacy]
        .into_iter()
        .flat_map(|backend| ups.clone().map(|up| (backend, up)))
    {
        let machine = unset(backend);
        let before = saved(&machine, Family::Ipv4);
        break_restore(&machine, Family::Ipv4, Table::Filter, "-j ACCEPT");
        for (settings, code) in POLICIES {
            machine.settings(settings);
            let ending = machine.hook().call(&up);
            ending.assert_refused(code, &["iptables-restore", "failed"]);
            let is_up = ending
                .err_text()
                .contains(" failed: the tunnel is up without its rules: ");
            assert_eq!(is_up, code == 0, "{settings}: {}", ending.err_text());
            assert_eq!(saved(&machine, Family::Ipv4), before, "{backend} {settings}");
            machine.hook().expect_success(&up.clone().with_verb("down-client"));
            assert!(!machine.state().exists(), "{settings}");
        }
    }
}

#[test]
#[ignore = "needs root and iptables: run by contrib/test"]
fn a_tunnel_that_is_up_without_its_rules_gets_its_source_address_all_the_same() {
    let router = Router::new();
    let machine = &router.machine;
    machine.settings("");
    let before = router.state();
    break_restore(machine, Family::Ipv4, Table::Filter, "-j ACCEPT");
    let up = route().with_verb("up-client");
    router.hook().call(&up).assert_refused(0, &["without its rules"]);
    assert!(router.has("inet 10.1.0.1/32 scope 50 lo"), "{}", router.state());
    for verb in ["down-client", "unroute-client"] {
        router.expect_success(&up.clone().with_verb(verb));
    }
    assert_eq!(router.state(), before);
    assert!(!machine.state().exists());
}

/// Settings, and how an `up` ends by them that cannot be carried out.
const POLICIES: [(&str, i32); 7] = [
    ("", 0),
    ("[tunnel]\nallow = \"replies\"\n", 1),
    ("[tunnel]\nhost-access = \"no\"\n", 1),
    ("[tunnel]\nwhen-down = \"block\"\n", 1),
    ("[tunnel]\non-error = \"refuse\"\n", 1),
    ("[tunnel]\nallow = [\"tcp/22\"]\non-error = \"continue\"\n", 0),
    ("[[connection]]\nname = \"net-net\"\nallow = \"none\"\n", 1),
];

#[test]
#[ignore = "needs root and iptables: run by contrib/test"]
fn a_rulebook_of_the_other_family_is_not_touched() {
    for (backend, family) in twins() {
        let machine = unset(backend);
        let other = Family::ALL.into_iter().find(|other| *other != family).expect("two");
        let before = saved(&machine, other);
        machine.hook().expect_success(&net_net(family));
        assert_eq!(saved(&machine, other), before, "{backend} {family}");
        machine.hook().expect_success(&net_net(family).opposite());
        assert_eq!(own_chain_sizes(&saved(&machine, family)[1]), BTreeMap::new());
    }
}
