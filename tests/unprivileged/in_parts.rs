//! `start` beside very many tunnels, which changes them in parts: nothing passes in between that passes neither before nor after.

use pluto_updown::daemon::Tunnel;
use pluto_updown::net::Family;
use pluto_updown::netfilter::Backend;

use crate::support::packet::{Packet, Verdict};
use crate::support::world::{RestoreFailure, World, strongswan};

/// So many that some parts are full.
const TUNNELS: usize = 270;

/// From west to east nothing passes: first west allows it not to, then east does not. Half of the others lose what half of them gain.
const BEFORE: &str = "
[gateway]
only-ipsec = [\"lan0\"]
[tunnel]
nat = \"leave\"
[[connection]]
name = \"west\"
allow = [\"udp/22\"]
[[connection]]
name = \"mixed\"
allow = [\"tcp/22\"]
[[connection]]
name = \"gains-*\"
allow = \"replies\"
";
const AFTER: &str = "
[tunnel]
nat = \"leave\"
[[connection]]
name = \"east\"
allow = \"none\"
[[connection]]
name = \"mixed\"
allow = [\"tcp/25\"]
[[connection]]
name = \"loses-*\"
allow = \"replies\"
";

fn one_of_many(number: usize) -> Tunnel {
    let name = match number % 2 {
        0 => format!("gains-{number}"),
        _ => format!("loses-{number}"),
    };
    let remote = format!("10.{}.{}.0/24", 100 + number / 64, number % 64);
    let reqid = u32::try_from(number).expect("a small number") + 1;
    strongswan(&name, reqid, "10.1.0.0/24", &remote).tunnel()
}

fn ends() -> [Tunnel; 3] {
    [
        strongswan("west", 9001, "10.3.0.0/24", "10.2.0.0/24").tunnel(),
        strongswan("east", 9002, "10.2.0.0/24", "10.3.0.0/24").tunnel(),
        strongswan("mixed", 9003, "10.1.0.0/24", "10.4.0.0/24").tunnel(),
    ]
}

fn world(settings: &str) -> World {
    let mut world = World::with_file(settings);
    world.start().expect("a start");
    for tunnel in ends() {
        world.up(&tunnel);
    }
    for number in 0..TUNNELS {
        world.up(&one_of_many(number));
    }
    world
}

fn passes(world: &mut World, packet: &Packet) -> bool {
    world.verdict(Family::Ipv4, packet) == Verdict::Accept
}

fn is_dropped(world: &mut World, packet: &Packet) -> bool {
    world.verdict(Family::Ipv4, packet) == Verdict::Drop
}

fn from_west_to_east() -> Packet {
    let packet = Packet::between("10.2.0.7", "10.3.0.7").udp(40000, 80);
    packet.in_by_ipsec("eth0", 9001).out_by_ipsec("eth0", 9002)
}

/// A packet of one of many to an interface on which only IPsec is allowed.
fn from_one_of_many(number: usize) -> Packet {
    let remote = format!("10.{}.{}.7", 100 + number / 64, number % 64);
    let packet = Packet::between(&remote, "10.1.0.7").udp(40000, 80);
    let reqid = u32::try_from(number).expect("a small number") + 1;
    packet.in_by_ipsec("eth0", reqid).out_by("eth1")
}

fn changed(settings: &str) -> World {
    let mut world = world(BEFORE);
    world.set_file(settings);
    world
}

fn assert_as_set(world: &mut World) {
    world.start().expect("a start");
    assert_eq!(world.restore().expect("a comparison"), []);
    assert!(world.start_parts().is_empty());
}

#[test]
fn between_the_parts_nothing_passes_that_passes_neither_before_nor_after() {
    let mut world = changed(AFTER);
    let passed = |world: &mut World| -> Vec<bool> {
        (0..TUNNELS)
            .map(|number| passes(world, &from_one_of_many(number)))
            .collect()
    };
    let before = passed(&mut world);
    let parts = world.start_parts();
    assert!(parts.len() > 3, "{}", parts.len());
    assert!(parts.iter().all(|part| part.added.len() <= 130));
    let mut between = Vec::new();
    for part in &parts {
        assert!(!passes(&mut world, &from_west_to_east()));
        world.start_part(part).expect("a part");
        between.push(passed(&mut world));
    }
    assert!(!passes(&mut world, &from_west_to_east()));
    let restores = world.tables.restores();
    assert_as_set(&mut world);
    // Of IPv6 there are the gateway's rules alone: no parts.
    assert_eq!(world.tables.restores(), restores + 1, "the parts are all");
    let after = passed(&mut world);
    assert_ne!(before, after);
    for between in &between {
        let all = before.iter().zip(between).zip(&after);
        assert!(
            all.into_iter()
                .all(|((before, between), after)| [before, after].contains(&between))
        );
    }
    assert_eq!(
        world.emulator(Family::Ipv4).sorted_lines(),
        self::world(AFTER).emulator(Family::Ipv4).sorted_lines()
    );
}

#[test]
fn a_start_that_dies_between_or_in_parts_is_completed_by_one_more() {
    for death in [RestoreFailure::KilledBefore, RestoreFailure::KilledAfter] {
        let mut world = changed(AFTER);
        let parts = world.start_parts();
        world.start_part(&parts[0]).expect("a part");
        world.tables.failures = [death].into();
        assert!(world.start_part(&parts[1]).is_err());
        for part in world.start_parts() {
            world.start_part(&part).expect("a part");
        }
        assert_as_set(&mut world);
        assert_eq!(
            world.emulator(Family::Ipv4).sorted_lines(),
            self::world(AFTER).emulator(Family::Ipv4).sorted_lines(),
            "{death:?}"
        );
    }
}

#[test]
fn a_part_takes_what_calls_in_between_have_made_of_its_tunnels() {
    let mut world = changed(AFTER);
    let parts = world.start_parts();
    // One goes, one comes, and one gets a twin that is allowed nothing.
    world.down(&one_of_many(1));
    world.up(&one_of_many(TUNNELS + 1));
    world.set_file(&format!("{AFTER}[[connection]]\nname = \"shut\"\nallow = \"none\"\n"));
    let remote = "10.100.2.0/24";
    world.up(&strongswan("shut", 3, "10.1.0.0/24", remote).tunnel());
    for part in &parts {
        world.start_part(part).expect("a part");
        assert!(!passes(&mut world, &from_one_of_many(2)), "its twin is allowed nothing");
    }
    assert_as_set(&mut world);
    let recorded = world.recorded();
    assert!(!recorded.keys().any(|id| id.starts_with("loses-1-")), "{recorded:?}");
}

#[test]
fn few_tunnels_and_those_of_iptables_legacy_change_at_once() {
    let mut world = changed(AFTER);
    for number in 10..TUNNELS {
        world.down(&one_of_many(number));
    }
    assert!(world.start_parts().is_empty());
    let mut world = World::with_file(BEFORE).on(Backend::Legacy);
    for number in 0..TUNNELS {
        world.up(&one_of_many(number));
    }
    world.set_file(AFTER);
    assert!(world.start_parts().is_empty());
}

/// Without `esp`, the administrator's rules decide about ESP; with it, the gateway drops that of all but peers.
#[test]
fn between_the_parts_esp_of_peers_passes_whether_the_gateway_begins_to_drop_all_other_or_ends() {
    let tunnels = "[tunnel]\nnat = \"leave\"\n";
    let negotiated = &format!("{tunnels}[gateway]\nesp = \"negotiated\"\n");
    for (before, after) in [(negotiated.as_str(), tunnels), (tunnels, negotiated)] {
        let mut world = world(before);
        let up = one_of_many(0);
        let (local, remote) = (up.local_host.expect("a host"), up.remote_host.expect("a host"));
        let packet = Packet::between(&remote.to_string(), &local.to_string())
            .protocol(50)
            .in_by("eth0");
        world.set_file(after);
        assert!(!is_dropped(&mut world, &packet));
        let parts = world.start_parts();
        assert!(parts.len() > 2, "{}", parts.len());
        for part in &parts {
            world.start_part(part).expect("a part");
            assert!(!is_dropped(&mut world, &packet), "{before}");
        }
        assert_as_set(&mut world);
        assert!(!is_dropped(&mut world, &packet));
    }
}
