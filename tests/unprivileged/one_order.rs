//! Tunnels whose selectors overlap, on one interface: whichever came up last, the same chains have the same order, and what is restricted
//! stays restricted.

use pluto_updown::daemon::Tunnel;
use pluto_updown::net::Family;

use crate::support::binary::Call;
use crate::support::emulator::{Contents, Kind};
use crate::support::gateway::in_family;
use crate::support::packet::{Packet, Verdict};
use crate::support::random::Random;
use crate::support::world::{World, libreswan};

const SETTINGS: &str = "
[gateway]
only-ipsec = [\"ppp0\"]
[[connection]]
name = \"road\"
allow = [\"tcp/22\"]
[[connection]]
name = \"pool\"
allow = [\"tcp/80\"]
host-access = \"no\"
[[connection]]
name = \"shut\"
allow = \"none\"
[[connection]]
name = \"hidden\"
nat = \"10.1.0.1\"
";

/// Names, near and remote network.
const TUNNELS: [[&str; 3]; 6] = [
    ["site", "10.1.0.0/24", "10.9.0.0/24"],
    ["road", "10.1.0.0/24", "10.9.0.7/32"],
    ["pool", "10.1.0.0/24", "10.9.0.0/28"],
    ["other", "10.1.0.128/25", "10.9.0.0/24"],
    ["shut", "10.1.0.0/24", "0.0.0.0/0"],
    ["hidden", "10.1.0.0/24", "10.9.64.0/20"],
];

/// These by one interface, in a family.
fn by_one_interface(family: Family) -> [Tunnel; 6] {
    TUNNELS.map(|[name, local, remote]| {
        libreswan(name, 16389, &in_family(local, family), &in_family(remote, family))
            .with("PLUTO_CLIENT_FAMILY", family.to_string())
            .with("PLUTO_VIRT_INTERFACE", "ipsec1")
            .with("PLUTO_XFRMI_ROUTE", "yes")
            .tunnel()
    })
}

/// Every order of so many things.
fn permutations(count: usize) -> Vec<Vec<usize>> {
    match count {
        0 => vec![Vec::new()],
        _ => (permutations(count - 1).into_iter())
            .flat_map(|shorter| (0..count).map(move |at| [&shorter[..at], &[count - 1], &shorter[at..]].concat()))
            .collect(),
    }
}

/// The verdict on a new TCP connection that a peer begins.
fn verdict(world: &mut World, family: Family, peer: u8, port: u16) -> Verdict {
    let [from, to] = [&*format!("10.9.0.{peer}"), "10.1.0.200"].map(|address| in_family(address, family));
    let packet = Packet::between(&from, &to)
        .tcp(40000, port)
        .in_by_ipsec("ipsec1", 16389)
        .out_by("lan0");
    world.verdict(family, &packet)
}

/// Each peer's narrowest tunnel that restricts decides.
fn assert_verdicts(world: &mut World, family: Family, what: &str) {
    use Verdict::{Accept, Drop};
    for (peer, verdicts) in [(7, [Accept, Drop, Drop]), (3, [Drop, Accept, Drop]), (200, [Accept; 3])] {
        for (port, wanted) in [22, 80, 443].into_iter().zip(verdicts) {
            assert_eq!(
                verdict(world, family, peer, port),
                wanted,
                "{what}: from .{peer} to port {port}"
            );
        }
    }
}

#[test]
fn whichever_came_up_last_the_same_rules_are_in_the_same_order() {
    for family in Family::ALL {
        let tunnels = by_one_interface(family);
        let mut wanted: Option<Contents> = None;
        for order in permutations(4) {
            let mut world = World::with_file(SETTINGS);
            world.start().expect("a start");
            for index in &order {
                world.up(&tunnels[*index]);
            }
            let mut expect_same = |world: &mut World, what: &str| {
                let what = format!("{family}, {order:?}, {what}");
                let installed = world.emulator(family).ordered();
                assert_eq!(*wanted.get_or_insert_with(|| installed.clone()), installed, "{what}");
                assert_verdicts(world, family, &what);
            };
            expect_same(&mut world, "ups");
            assert_eq!(world.restore().expect("a restore"), [], "{order:?}");
            world.start().expect("a start");
            expect_same(&mut world, "start");
            for _ in 0..2 {
                let first = &tunnels[order[0]];
                world.down(first);
                world.up(first);
                expect_same(&mut world, "down and up");
            }
            let emulator = world.emulator(family);
            emulator.flush_all();
            emulator.table_mut(Kind::Nat).flush_all();
            world.restore().expect("a restore");
            expect_same(&mut world, "flush and restore");
        }
    }
}

#[test]
fn every_rule_that_goes_missing_comes_back_to_its_place() {
    let mut world = World::with_file(SETTINGS);
    for tunnel in by_one_interface(Family::Ipv4) {
        world.up(&tunnel);
    }
    let whole = world.emulator(Family::Ipv4).ordered();
    let rules = world.emulator(Family::Ipv4).table(Kind::Filter).save();
    for rule in rules.lines().filter_map(|line| line.strip_prefix("-A PLUTO-")) {
        let text = format!("*filter\n-D PLUTO-{rule}\nCOMMIT\n");
        world.emulator(Family::Ipv4).restore(&text).expect("a rule deleted");
        assert_ne!(world.restore().expect("a restore"), [], "{rule}");
        assert_eq!(world.emulator(Family::Ipv4).ordered(), whole, "{rule}");
    }
}

#[test]
fn what_allows_nothing_comes_before_all_that_it_covers() {
    for family in Family::ALL {
        let tunnels = by_one_interface(family);
        for order in [[0, 1, 2, 3, 4, 5], [4, 5, 0, 3, 2, 1]] {
            let mut world = World::with_file(SETTINGS);
            for index in order {
                world.up(&tunnels[index]);
            }
            for (peer, port) in [(200, 22), (200, 443)] {
                assert_eq!(verdict(&mut world, family, peer, port), Verdict::Drop, "{order:?}");
            }
            // Narrower and restricted as well: it decides for its own peer.
            assert_eq!(verdict(&mut world, family, 7, 22), Verdict::Accept, "{order:?}");
        }
    }
}

/// Tunnels of every kind, some with blocked pairs, some restricted: by policy, by interfaces, narrowed, translated.
fn mixed() -> Vec<Tunnel> {
    let plain = |name: &str, reqid, remote| libreswan(name, reqid, "10.1.0.0/24", remote);
    let calls = [
        plain("a", 16389, "10.9.0.0/24"),
        plain("shut-b", 16393, "10.9.0.0/24").for_protocol("6"),
        plain("blocked-c", 16397, "10.9.0.0/16").with("VTI_IFACE", "vti1"),
        plain("road-d", 16401, "10.9.0.5-10.9.0.9").with("VTI_IFACE", "vti2"),
        plain("pool-e", 16405, "0.0.0.0/0")
            .for_protocol("6")
            .with("VTI_IFACE", "vti1"),
        plain("blocked-f", 16409, "10.9.0.64-10.9.0.70"),
        plain("blocked-g", 16413, "10.9.0.64/26"),
        plain("hidden-h", 16417, "10.9.0.0/25").with("PLUTO_MY_CLIENT", "10.1.0.1/32"),
        // Between the same networks, with one reqid: the rules that judge what they refuse are equal but for the ports.
        plain("list-i", 16421, "10.9.0.0/24"),
        plain("list-j", 16421, "10.9.0.0/24").for_protocol("6"),
        plain("list-k", 16421, "10.9.0.0/24"),
        plain("shut-l", 16425, "10.9.0.0/24").for_protocol("6"),
        plain("shut-m", 16425, "10.9.0.0/24"),
    ];
    calls.iter().map(Call::tunnel).collect()
}

const MIXED: &str = "
[gateway]
only-ipsec = [\"ppp0\"]
[[connection]]
name = \"blocked-*\"
when-down = \"block\"
bypass = [\"10.9.7.0/24\"]
[[connection]]
name = \"road-*\"
allow = [\"tcp/22\"]
log = \"denied\"
[[connection]]
name = \"pool-*\"
host-access = \"no\"
[[connection]]
name = \"shut-*\"
allow = \"none\"
[[connection]]
name = \"list-*\"
allow = [\"tcp/22\", \"udp/53\"]
host-access = \"yes\"
log = \"denied\"
[[connection]]
name = \"hidden-*\"
nat = \"masquerade\"
";

#[test]
fn tunnels_of_all_kinds_come_and_go_and_the_order_is_always_as_the_record_has_it() {
    let mut random = Random::seeded(1);
    let tunnels = mixed();
    for round in 0..60 {
        let mut world = World::with_file(MIXED);
        let mut done = Vec::new();
        for _ in 0..24 {
            let number = random.below(tunnels.len() + 1);
            done.push(number);
            match (tunnels.get(number), random.below(3)) {
                (None, 0) => drop(world.stop().expect("a stop")),
                (None, _) => drop(world.start().expect("a start")),
                (Some(tunnel), 0) => drop(world.down(tunnel)),
                (Some(tunnel), _) => drop(world.up(tunnel)),
            }
            assert_eq!(world.restore().expect("a restore"), [], "{round}: {done:?}");
        }
    }
}
