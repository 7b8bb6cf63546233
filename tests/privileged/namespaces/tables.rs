//! Tunnels that have something in the nat table, and those that have not.

use std::collections::BTreeMap;

use pluto_updown::net::Family;
use pluto_updown::netfilter::{Backend, Table};

use crate::support::binary::{Call, write_program};
use crate::support::captures::libreswan_up;
use crate::support::emulator::Kind;
use crate::support::gateway::twins;
use crate::support::namespace::{
    Namespace, VARIANTS, order_independent, own_chain_sizes, prefix, the_administrators, tool,
};
use crate::support::world::World;

/// What an administrator has in the nat table, of either family.
pub(crate) const NAT: &str = "*nat
:PREROUTING ACCEPT [0:0]
:POSTROUTING ACCEPT [0:0]
:ADMIN - [0:0]
-A PREROUTING -i eth1 -j ADMIN
-A POSTROUTING -o eth0 -j MASQUERADE
COMMIT
";

pub(crate) fn reload_nat(machine: &Namespace, family: Family) {
    machine.load(family, &[], NAT);
}

/// A machine whose administrator has rules in both tables.
pub(crate) fn machine(backend: Backend) -> Namespace {
    let machine = Namespace::new(backend);
    Family::ALL.into_iter().for_each(|family| reload_nat(&machine, family));
    machine
}

pub(crate) fn saved(machine: &Namespace, family: Family) -> [String; 3] {
    Table::ALL.map(|table| machine.saved_table(machine.backend, family, table))
}

/// A tunnel with client address translation and a log group, to a network of its own.
fn cat(family: Family, number: u8) -> Call {
    let (own, assigned, remote) = match family {
        Family::Ipv4 => ("192.0.2.1", "10.0.10.1/32", format!("10.77.{number}.0/24")),
        Family::Ipv6 => ("2001:db8::1", "2001:db8:a::1/128", format!("2001:db8:77:{number}::/64")),
    };
    libreswan_up()
        .with("PLUTO_CONNECTION", format!("private#{number}"))
        .with("PLUTO_ME", own)
        .with("PLUTO_MY_CLIENT", assigned)
        .with("PLUTO_PEER_CLIENT", remote)
        .with("PLUTO_SA_REQID", (16701 + 4 * u32::from(number)).to_string())
        .with("CAT", "YES")
        .with("NFLOG", "13")
}

#[test]
#[ignore = "needs root and iptables: run by contrib/test"]
fn both_tables_are_after_the_last_down_as_they_were_before_the_first_up() {
    for (backend, family) in twins() {
        let machine = machine(backend);
        let before = saved(&machine, family);
        let mut world = World::default();
        let calls = [
            cat(family, 1),
            cat(family, 2),
            cat(family, 1).opposite(),
            cat(family, 2).opposite(),
        ];
        for call in calls {
            machine.hook().expect_success(&call);
            world.call(&call.firewall_action()).expect("a good call");
            for (kind, now) in Kind::ALL.into_iter().zip(saved(&machine, family)) {
                let emulated = world.emulator(family).table(kind).save();
                assert_eq!(
                    own_chain_sizes(&now),
                    own_chain_sizes(&emulated),
                    "{backend} {family}: {call}"
                );
            }
        }
        assert_eq!(saved(&machine, family), before, "{backend} {family}");
        assert!(!machine.state().exists());
    }
}

#[test]
#[ignore = "needs root and iptables: run by contrib/test"]
fn a_tunnel_that_needs_no_nat_table_loads_none() {
    for backend in VARIANTS {
        let machine = Namespace::new(backend);
        machine.hook().expect_success(&libreswan_up().with("NFLOG", "13"));
        machine.reload(Family::Ipv4);
        machine.hook().expect_success(&libreswan_up().of_tunnel(9));
        machine.hook().expect_success(&libreswan_up().of_tunnel(9).opposite());
        machine.hook().expect_success(&libreswan_up().opposite());
        let loaded = machine.shell("cat /proc/net/ip_tables_names; nft list tables");
        assert!(
            loaded.contains("filter") && !loaded.contains("nat"),
            "{backend}: {loaded}"
        );
        // The question is a good one.
        machine.hook().expect_success(&cat(Family::Ipv4, 1));
        let loaded = machine.shell("cat /proc/net/ip_tables_names; nft list tables");
        assert!(loaded.contains("nat"), "{backend}: {loaded}");
    }
}

/// What a table looks like on which nothing else ever happened than these calls.
fn undisturbed_tables(backend: Backend, family: Family, calls: &[Call]) -> [String; 3] {
    let machine = machine(backend);
    machine.call_all(calls);
    saved(&machine, family).map(|listing| order_independent(&listing))
}

#[test]
#[ignore = "needs root and iptables: run by contrib/test"]
fn a_nat_table_that_was_flushed_or_reloaded_is_repaired_at_the_next_change() {
    for (backend, family) in twins() {
        for how in ["flushed", "restored", "both restored"] {
            let reload = |machine: &Namespace| match how {
                "flushed" => drop(machine.tables(family, &["-t", "nat", "-F"])),
                "restored" => reload_nat(machine, family),
                "both restored" => {
                    reload_nat(machine, family);
                    machine.reload(family);
                }
                _ => panic!("{how}"),
            };
            let machine = machine(backend);
            machine.hook().expect_success(&cat(family, 1));
            reload(&machine);
            let admin_rules = saved(&machine, family).map(|listing| the_administrators(&listing));
            machine.hook().expect_success(&cat(family, 2));
            let now = saved(&machine, family);
            let expected = undisturbed_tables(backend, family, &[cat(family, 1), cat(family, 2)]);
            assert_eq!(
                now.each_ref().map(|listing| own_chain_sizes(listing)),
                expected.each_ref().map(|listing| own_chain_sizes(listing)),
                "{backend} {family} {how}"
            );
            assert_eq!(now.map(|listing| the_administrators(&listing)), admin_rules);
            machine.hook().expect_success(&cat(family, 1).opposite());
            reload(&machine);
            machine.hook().expect_success(&cat(family, 2).opposite());
            assert_eq!(saved(&machine, family), admin_rules, "{backend} {family} {how}");
            assert!(!machine.state().exists());
        }
    }
}

/// A filter table that alone was loaded again: what puts it right looks after the nat table too, and leaves it as it is.
#[test]
#[ignore = "needs root and iptables: run by contrib/test"]
fn a_filter_table_that_was_reloaded_is_repaired_beside_the_nat_table() {
    for (backend, family) in twins() {
        let machine = machine(backend);
        machine.hook().expect_success(&cat(family, 1));
        let before = saved(&machine, family).map(|listing| order_independent(&listing));
        machine.reload(family);
        let plain = match family {
            Family::Ipv4 => libreswan_up(),
            Family::Ipv6 => libreswan_up()
                .with("PLUTO_MY_CLIENT", "fd00:1::/64")
                .with("PLUTO_PEER_CLIENT", "fd00:2::/64"),
        };
        machine.hook().expect_success(&plain);
        machine.hook().expect_success(&plain.opposite());
        let after = saved(&machine, family);
        assert_eq!(
            after.map(|listing| order_independent(&listing)),
            before,
            "{backend} {family}"
        );
    }
}

/// Puts a program before iptables-restore that spoils a line of one table, so that the kernel never takes it. Its name tells the backend.
pub(crate) fn break_restore(machine: &Namespace, family: Family, table: Table, rule: &str) {
    let real = machine.program(family, "restore");
    let script = format!(
        "#!/bin/sh\nsed '/^\\*{table}/,/^COMMIT/s/{rule}/--spoilt/' | {} \"$@\"\n",
        real.display()
    );
    let spoilt = machine.path(&format!("spoilt-{}-restore", machine.backend));
    write_program(&spoilt, script.as_bytes());
    machine.replace_program(&format!("{}-restore", prefix(family)), &spoilt);
}

pub(crate) fn repair(machine: &Namespace, family: Family) {
    let real = machine.program(family, "restore");
    machine.replace_program(&format!("{}-restore", prefix(family)), &real);
}

#[test]
#[ignore = "needs root and iptables: run by contrib/test"]
fn an_up_of_which_one_table_is_refused_leaves_nothing_in_the_other() {
    for (backend, family) in twins() {
        for table in [Table::Nat, Table::Filter] {
            for beside in [vec![], vec![cat(family, 9)]] {
                let machine = machine(backend);
                machine.call_all(&beside);
                let before = saved(&machine, family);
                let number = cat(family, 1).get("PLUTO_SA_REQID").to_owned();
                break_restore(&machine, family, table, &format!("--reqid {number}"));
                let ending = machine.hook().call(&cat(family, 1));
                ending.assert_refused(1, &[&format!("{}-restore", prefix(family))]);
                let what = format!("{backend} {family} {table}");
                assert_eq!(saved(&machine, family), before, "{what}");
                assert_eq!(machine.recorded("private-1"), None, "{what}");
                assert_eq!(machine.state().exists(), !beside.is_empty(), "{what}");
                // And nothing of it hinders the next try.
                repair(&machine, family);
                machine.hook().expect_success(&cat(family, 1));
                machine.hook().expect_success(&cat(family, 1).opposite());
                machine.down_all(&beside);
                assert!(!machine.state().exists(), "{what}");
            }
        }
    }
}

/// A peer's machine at the other end of an interface that stands in for a tunnel's: `vti1` here.
fn with_peer(machine: &Namespace, family: Family) -> Peer<'_> {
    let [own, there, assigned] = match family {
        Family::Ipv4 => ["192.0.2.1/32", "10.77.1.7/32", "10.0.10.1/32"],
        Family::Ipv6 => ["2001:db8::1/128", "2001:db8:77:1::7/128", "2001:db8:a::1/128"],
    };
    let nodad = if family == Family::Ipv6 { "nodad" } else { "" };
    machine.shell(&format!(
        "mkdir -p /run/netns && ip netns add peer && ip link add vti1 type veth peer name v0 netns peer
         ip link set lo up && ip addr add {own} dev lo {nodad} && ip link set vti1 up
         ip netns exec peer sh -euc 'ip addr add {there} dev lo {nodad}; ip link set lo up; ip link set v0 up'
         ip route add {there} dev vti1 src {own_address}
         ip netns exec peer ip route add {assigned} dev v0",
        own_address = own.split('/').next().expect("an address"),
    ));
    neighbours(machine);
    Peer {
        machine,
        family,
        there: there.split('/').next().expect("an address"),
        assigned: assigned.split('/').next().expect("an address"),
    }
}

/// Neither side answers for an address that it has not: what stands in for a tunnel asks no neighbour.
fn neighbours(machine: &Namespace) {
    machine.shell(
        "ip link set vti1 arp off; ip netns exec peer ip link set v0 arp off
         ip link set vti1 address 02:00:00:00:00:01; ip netns exec peer ip link set v0 address 02:00:00:00:00:01",
    );
}

struct Peer<'a> {
    machine: &'a Namespace,
    family: Family,
    there: &'static str,
    assigned: &'static str,
}

impl Peer<'_> {
    /// Has the peer count what comes from an address.
    fn watch(&self, source: &str) {
        let iptables = tool(&format!("{}-nft", prefix(self.family))).display().to_string();
        self.machine
            .shell(&format!("ip netns exec peer {iptables} -A INPUT -s {source} -p udp"));
    }

    /// How many packets the peer has counted, by source.
    fn seen(&self) -> BTreeMap<String, u32> {
        let save = tool(&format!("{}-nft-save", prefix(self.family))).display().to_string();
        let listing = self.machine.shell(&format!("ip netns exec peer {save} -c -t filter"));
        let rules = listing
            .lines()
            .filter_map(|line| line.strip_prefix('[')?.split_once(':'));
        let counted = rules.filter_map(|(count, rest)| {
            let source = rest.split_once("-s ")?.1.split('/').next()?;
            Some((source.to_owned(), count.parse().ok()?))
        });
        counted.collect()
    }

    fn send(&self, words: &str, to: &str) {
        let bash = tool("bash").display().to_string();
        self.machine
            .shell(&format!("{words} {bash} -c 'echo hello >/dev/udp/{to}/4711'"));
    }
}

/// How many packets to the gateway itself the tunnel has accepted.
fn accepted(machine: &Namespace, family: Family) -> u32 {
    let listing = machine.save(family, &["-c", "-t", "filter"]);
    let mut rules = listing.lines();
    let rule =
        rules.find(|line| line.contains("-A PLUTO-private-1-") && line.contains("-I ") && line.ends_with("ACCEPT"));
    let count = rule.and_then(|rule| rule.strip_prefix('[')?.split(':').next()?.parse().ok());
    count.expect("a counter")
}

#[test]
#[ignore = "needs root and iptables: run by contrib/test"]
fn real_packets_are_translated_both_ways() {
    for (backend, family) in twins() {
        let machine = machine(backend);
        let peer = with_peer(&machine, family);
        let own = cat(family, 1).get("PLUTO_ME").to_owned();
        peer.watch(&own);
        peer.watch(peer.assigned);
        let what = format!("{backend} {family}");
        peer.send("", peer.there);
        assert_eq!(peer.seen()[peer.assigned], 0, "{what}");
        let up = cat(family, 1).with("VTI_IFACE", "vti1");
        // An ordinary interface is none of a tunnel's, and stands in for one: it has another name during the call.
        machine.shell("ip link set vti1 name away");
        machine.hook().expect_success(&up);
        machine.shell("ip link set away name vti1");
        peer.send("", peer.there);
        assert_eq!(peer.seen()[peer.assigned], 1, "{what}");
        // The peer speaks first, and finds us.
        let accepted = accepted(&machine, family);
        peer.send("ip netns exec peer", peer.assigned);
        assert_eq!(self::accepted(&machine, family), accepted + 1, "{what}");
        machine.hook().expect_success(&up.opposite());
        peer.send("", peer.there);
        assert_eq!(peer.seen()[peer.assigned], 1, "{what}");
    }
}
