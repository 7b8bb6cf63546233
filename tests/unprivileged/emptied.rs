//! Chains that all tunnels need, emptied by somebody between two calls (`iptables -F CHAIN`).

use pluto_updown::netfilter::Backend;
use pluto_updown::selector::Family;
use pluto_updown::updown_env::Tunnel;

use crate::support::emulator::Kind;
use crate::support::world::{World, strongswan, tunnel};

const CHAINS: [&str; 12] = [
    "INPUT",
    "FORWARD",
    "OUTPUT",
    "PLUTO-INPUT",
    "PLUTO-FORWARD",
    "PLUTO-OUTPUT",
    "PLUTO-DECRYPTED",
    "PLUTO-ONWARD",
    "PLUTO-I",
    "PLUTO-O",
    "PLUTO-FI",
    "PLUTO-FO",
];

/// A tunnel between networks that stays, and calls about each kind: in its bucket, in another one, and of two hosts.
fn tunnels(family: Family) -> [Tunnel; 4] {
    let networks = match family {
        Family::Ipv4 => [
            ["10.1.0.0/24", "10.2.0.0/24"],
            ["10.1.0.0/24", "10.2.1.0/24"],
            ["10.1.0.0/24", "10.77.0.0/24"],
            ["192.0.2.1/32", "192.0.2.2/32"],
        ],
        Family::Ipv6 => [
            ["2001:db8:1::/64", "2001:db8:2::/64"],
            ["2001:db8:1::/64", "2001:db8:2:1::/64"],
            ["2001:db8:1::/64", "2001:db8:77::/64"],
            ["2001:db8::1/128", "2001:db8::2/128"],
        ],
    };
    let names = [
        ("up-client", "stays", 1),
        ("up-client", "beside", 2),
        ("up-client", "elsewhere", 3),
        ("up-host", "hosts", 4),
    ];
    let mut networks = networks.into_iter();
    names.map(|(verb, name, reqid)| {
        let [local, remote] = networks.next().expect("networks");
        tunnel(&strongswan(verb, name, reqid, local, remote))
    })
}

/// Our chains, with the rules of each sorted.
fn own_chains(world: &mut World, family: Family) -> Vec<String> {
    let text = world.tables.emulator(family).table(Kind::Filter).save();
    let mut lines: Vec<_> = text
        .lines()
        .filter(|line| line.contains("PLUTO"))
        .map(str::to_owned)
        .collect();
    lines.sort();
    lines
}

fn gateway(backend: Backend, up: &[&Tunnel]) -> World {
    let mut world = World::default();
    world.tables.default = backend;
    for tunnel in up {
        world.up(tunnel);
    }
    world
}

fn empty(world: &mut World, family: Family, chain: &str) {
    let text = format!("*filter\n-F {chain}\nCOMMIT\n");
    world.tables.emulator(family).restore(&text).expect("an emptied chain");
}

#[test]
fn the_next_change_refills_a_chain_that_somebody_has_emptied() {
    for backend in [Backend::Nft, Backend::Legacy] {
        for family in Family::ALL {
            let [stays, calls @ ..] = tunnels(family);
            for call in &calls {
                let one = own_chains(&mut gateway(backend, &[&stays]), family);
                let two = own_chains(&mut gateway(backend, &[&stays, call]), family);
                for chain in CHAINS {
                    let what = format!("{backend}, {family}, {chain}, {}", call.connection);
                    let mut world = gateway(backend, &[&stays]);
                    empty(&mut world, family, chain);
                    world.up(call);
                    assert_eq!(own_chains(&mut world, family), two, "up, {what}");
                    empty(&mut world, family, chain);
                    world.down(call);
                    assert_eq!(own_chains(&mut world, family), one, "down, {what}");
                }
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
            world.up(&tunnel(&strongswan(
                "up-client",
                "far",
                number + 1,
                "10.1.0.0/24",
                &remote,
            )));
        }
        let before = world.tables.restores();
        let last = strongswan("up-client", "last", 9999, "10.1.0.0/24", "10.0.1.0/24");
        world.up(&tunnel(&last));
        assert_eq!(world.tables.restores(), before + 1);
        let text = world.tables.last_text.clone();
        let reads_one = text.lines().any(|line| line.starts_with("-C PLUTO-FI "));
        assert_eq!(reads_one, reads, "{buckets} buckets:\n{text}");
        assert!(text.contains("-C PLUTO-FORWARD "), "{text}");
    }
}
