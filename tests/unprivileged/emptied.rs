//! Chains that all tunnels need, emptied by somebody between two calls (`iptables -F CHAIN`).

use pluto_updown::daemon::Tunnel;
use pluto_updown::net::Family;
use pluto_updown::netfilter::Backend;

use crate::support::gateway::{SHARED_CHAINS, in_family, twins};
use crate::support::world::{World, strongswan};

/// A tunnel between networks that stays, and calls about each kind: in its bucket, in another one, and of two hosts.
fn stays_and_calls(family: Family) -> [Tunnel; 4] {
    let up =
        |name, reqid, local, remote| strongswan(name, reqid, &in_family(local, family), &in_family(remote, family));
    [
        up("stays", 1, "10.1.0.0/24", "10.2.0.0/24"),
        up("beside", 2, "10.1.0.0/24", "10.2.1.0/24"),
        up("elsewhere", 3, "10.1.0.0/24", "10.77.0.0/24"),
        up("hosts", 4, "192.0.2.1/32", "192.0.2.2/32").between_hosts(),
    ]
    .map(|call| call.tunnel())
}

fn gateway(backend: Backend, up: &[&Tunnel]) -> World {
    let mut world = World::default().on(backend);
    world.up_all(up.iter().copied());
    world
}

fn empty(world: &mut World, family: Family, chain: &str) {
    let text = format!("*filter\n-F {chain}\nCOMMIT\n");
    world.emulator(family).restore(&text).expect("an emptied chain");
}

#[test]
fn the_next_change_refills_a_chain_that_somebody_has_emptied() {
    for (backend, family) in twins() {
        let [stays, calls @ ..] = stays_and_calls(family);
        let lines = |world: &mut World| world.emulator(family).sorted_lines();
        for call in &calls {
            let one = lines(&mut gateway(backend, &[&stays]));
            let two = lines(&mut gateway(backend, &[&stays, call]));
            for chain in SHARED_CHAINS {
                let what = format!("{backend}, {family}, {chain}, {}", call.connection);
                let mut world = gateway(backend, &[&stays]);
                empty(&mut world, family, chain);
                world.up(call);
                assert_eq!(lines(&mut world), two, "up, {what}");
                empty(&mut world, family, chain);
                world.down(call);
                assert_eq!(lines(&mut world), one, "down, {what}");
            }
        }
    }
}

/// What is as it should be costs one program, and the dispatchers of very many buckets are not read for it.
#[test]
fn a_dispatcher_of_very_many_buckets_is_not_read() {
    for (buckets, reads) in [(3_u32, true), (260, false)] {
        let mut world = World::default();
        for number in 0..buckets {
            let remote = format!("10.{}.{}.0/24", number / 4, number % 4 * 64);
            world.up(&strongswan("far", number + 1, "10.1.0.0/24", &remote).tunnel());
        }
        let before = world.tables.restores();
        let last = strongswan("last", 9999, "10.1.0.0/24", "10.0.1.0/24");
        world.up(&last.tunnel());
        assert_eq!(world.tables.restores(), before + 1);
        let text = world.tables.last_text.clone();
        let reads_one = text.lines().any(|line| line.starts_with("-C PLUTO-FI "));
        assert_eq!(reads_one, reads, "{buckets} buckets:\n{text}");
        assert!(text.contains("-C PLUTO-FORWARD "), "{text}");
    }
}
