//! `update-alternatives --set iptables`, with tunnels up: everything goes to the iptables that there is now.

use pluto_updown::daemon::Tunnel;
use pluto_updown::net::Family;
use pluto_updown::netfilter::Backend;

use crate::support::binary::Call;
use crate::support::world::{RestoreFailure, World, libreswan, strongswan};

const SWITCHES: [[Backend; 2]; 2] = [[Backend::Nft, Backend::Legacy], [Backend::Legacy, Backend::Nft]];

const SETTINGS: &str = "[gateway]\nike = \"any\"\nesp = \"negotiated\"\n[tunnel]\nallow = \"replies\"\nnat = \"leave\"\n\
    [[connection]]\nname = \"blocked\"\nwhen-down = \"block\"\n";

/// IPv4 in IPv4, IPv6 in IPv4, IPv4 in IPv6, one that blocks unencrypted packets, and one that another peer has up too.
fn calls() -> [Call; 5] {
    let inner6 = strongswan("six", 2, "fd00:1::/64", "fd00:2::/64");
    let outer6 = libreswan("outer-six", 16393, "10.1.0.0/24", "10.3.0.0/24");
    [
        strongswan("four", 1, "10.1.0.0/24", "10.2.0.0/24"),
        inner6.with("PLUTO_PEER", "192.0.2.6"),
        outer6.with("PLUTO_ME", "2001:db8::1").with("PLUTO_PEER", "2001:db8::9"),
        strongswan("blocked", 4, "10.1.0.0/24", "10.4.0.0/24"),
        strongswan("four", 1, "10.1.0.0/24", "10.2.0.0/24")
            .of_peer("other", 7)
            .with("PLUTO_PEER", "192.0.2.7"),
    ]
}

fn tunnels() -> Vec<Tunnel> {
    calls().iter().map(Call::tunnel).collect()
}

/// The rules of a backend, family by family.
fn rules(world: &mut World, backend: Backend) -> Vec<String> {
    let now = std::mem::replace(&mut world.tables.default, backend);
    let rules = Family::ALL.map(|family| world.emulator(family).save_all()).to_vec();
    world.tables.default = now;
    rules
}

fn gateway(backend: Backend) -> World {
    let mut world = World::with_file(SETTINGS).on(backend);
    world.start().expect("a start");
    world
}

#[test]
fn start_moves_everything_to_the_present_iptables() {
    for [before, after] in SWITCHES {
        let mut wanted = gateway(after);
        let mut world = gateway(before);
        let empty = rules(&mut world, after);
        for tunnel in &tunnels() {
            wanted.up(tunnel);
            world.up(tunnel);
        }
        world.tables.default = after;
        world.start().expect("a start");
        assert_eq!(rules(&mut world, after), rules(&mut wanted, after), "{before} {after}");
        assert_eq!(rules(&mut world, before), empty, "{before} {after}");
        assert_eq!(world.openers(), wanted.openers());
        assert!(world.start().expect("a second start").changed.is_empty());
        for tunnel in &tunnels() {
            world.down(tunnel);
            wanted.down(tunnel);
        }
        assert_eq!(rules(&mut world, after), rules(&mut wanted, after), "{before} {after}");
        assert_eq!(rules(&mut world, before), empty, "{before} {after}");
    }
}

/// Until then the gateway's rules are where they were, and drop the ESP of who is not known there.
#[test]
fn the_esp_of_a_tunnel_that_comes_up_before_start_is_accepted_by_both() {
    for [before, after] in SWITCHES {
        let mut world = gateway(before);
        let gateways = rules(&mut world, before);
        world.tables.default = after;
        for tunnel in &tunnels() {
            world.up(tunnel);
        }
        let [v4, v6] = &rules(&mut world, before)[..] else {
            panic!("two families")
        };
        for (rules, peers) in [
            (v4, &["192.0.2.2", "192.0.2.6", "192.0.2.7"][..]),
            (v6, &["2001:db8::9"]),
        ] {
            for peer in peers {
                let accepted = rules
                    .lines()
                    .filter(|line| line.contains("PLUTO-E-") && line.contains(&format!("-s {peer}/")));
                assert!(
                    accepted.clone().any(|line| line.ends_with("-j ACCEPT")),
                    "{before} {peer}: {rules}"
                );
            }
        }
        for tunnel in &tunnels() {
            world.down(tunnel);
        }
        assert_eq!(rules(&mut world, before), gateways, "{before} {after}");
        // And what was up when it was started stays known.
        for tunnel in &tunnels() {
            world.up(tunnel);
        }
        world.start().expect("a start");
        let mut wanted = gateway(after);
        for tunnel in &tunnels() {
            wanted.up(tunnel);
        }
        assert_eq!(rules(&mut world, after), rules(&mut wanted, after), "{before} {after}");
    }
}

/// A `start` that is killed between the two: each call finds the tunnel all the same, and its `down` leaves nothing.
#[test]
fn a_start_that_dies_halfway_leaves_no_rule_for_ever() {
    for [before, after] in SWITCHES {
        for completed in [false, true] {
            let mut world = gateway(before);
            let empty = rules(&mut world, after);
            let four = tunnels().remove(0);
            world.up(&four);
            world.tables.default = after;
            // The new rules are installed, and the old ones are not yet removed.
            world.tables.failures.push_back(RestoreFailure::KilledAfter);
            world.start().expect_err("it is killed");
            if completed {
                world.start().expect("a start");
                assert_eq!(rules(&mut world, before), empty, "{before} {after}");
            }
            world.down(&four);
            world.stop().expect("a stop");
            for backend in [before, after] {
                assert_eq!(rules(&mut world, backend), empty, "{before} {after} {completed}");
            }
        }
    }
}
