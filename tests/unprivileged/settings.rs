//! What is set for tunnels and for the gateway, on emulated tables: what stands, what passes, and what is left.

use std::net::IpAddr;

use crate::support::emulator::Kind;
use crate::support::world::{World, libreswan, strongswan, tunnel, with};
use pluto_updown::selector::Family;
use pluto_updown::settings::Settings;

fn set(text: &str) -> Settings {
    Settings::parse(text).unwrap_or_else(|error| panic!("{text}: {error:?}"))
}

fn world(text: &str) -> World {
    World {
        settings: set(text),
        ..World::default()
    }
}

fn rules(world: &mut World, kind: Kind) -> String {
    world.tables.book(Family::Ipv4).table(kind).save()
}

#[test]
fn a_tunnel_that_allows_nothing_hides_nobody() {
    let mut world = world("[tunnel]\nallow = \"none\"\nnat = \"masquerade\"\n");
    world.up(&tunnel(&strongswan(
        "up-client",
        "net",
        1,
        "10.1.0.1/32",
        "10.2.0.0/24",
    )));
    assert!(!rules(&mut world, Kind::Nat).contains("SNAT"));
}

#[test]
fn what_libreswan_translates_itself_is_not_hidden_once_more() {
    let mut world = world("[tunnel]\nnat = \"masquerade\"\n");
    let cat = with(
        &libreswan("up-client", "road", 16389, "10.0.10.1/32", "10.2.0.0/24"),
        "CAT",
        "YES",
    );
    world.up(&tunnel(&cat));
    let nat = rules(&mut world, Kind::Nat);
    assert_eq!(nat.matches("SNAT").count(), 1, "{nat}");
}

#[test]
fn the_esp_of_a_peer_of_the_other_family_is_let_in_with_its_tunnel_and_no_longer() {
    let mut world = world("[gateway]\nesp = \"negotiated\"\n");
    world.start().expect("a start");
    let up = with(
        &strongswan("up-client", "six", 1, "2001:db8:1::/64", "2001:db8:2::/64"),
        "PLUTO_PEER",
        "198.51.100.7",
    );
    world.up(&tunnel(&up));
    assert!(rules(&mut world, Kind::Filter).contains("-s 198.51.100.7/32 -j ACCEPT"));
    world.down(&tunnel(&with(&up, "PLUTO_VERB", "down-client-v6")));
    assert!(!rules(&mut world, Kind::Filter).contains("198.51.100.7"));
    world.stop().expect("a stop");
    assert!(world.is_forgotten());
}

#[test]
fn a_tunnel_is_refused_whose_hiding_address_is_not_in_it() {
    let mut world = world("[tunnel]\nnat = \"10.9.9.1\"\n");
    let tunnel = tunnel(&strongswan("up-client", "net", 1, "10.1.0.0/24", "10.2.0.0/24"));
    let error = world
        .call(&pluto_updown::contract::Duty::Open(Box::new(tunnel)))
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "net: nat = \"10.9.9.1\": not an address in 10.1.0.0/24, so that nothing from it would go into the tunnel"
    );
    assert!(world.is_forgotten());
}

#[test]
fn segments_fit_the_path_in_both_directions() {
    let mut world = world("[tunnel]\nmss = \"pmtu\"\n");
    let peer: IpAddr = "192.0.2.2".parse().expect("an address");
    world.path_mtus.insert(peer, 1420);
    world.up(&tunnel(&strongswan(
        "up-client",
        "net",
        1,
        "10.1.0.0/24",
        "10.2.0.0/24",
    )));
    let mangle = rules(&mut world, Kind::Mangle);
    // 1420 less 121 for IPsec and 40 for IPv4 and TCP.
    assert!(mangle.contains("-j TCPMSS --set-mss 1259"), "{mangle}");
    assert!(mangle.contains("-j TCPMSS --clamp-mss-to-pmtu"), "{mangle}");
}

#[test]
fn chains_for_jumps_of_ones_own_stand_from_start_to_stop() {
    let mut world = world("[gateway]\nplace = \"own\"\n");
    let started = world.start().expect("a start");
    assert_eq!(started.standing.gateways, 2);
    let jump = "*filter\n-A FORWARD -j PLUTO-FORWARD\nCOMMIT\n";
    world.tables.book(Family::Ipv4).restore(jump).expect("a jump");
    let tunnel = tunnel(&strongswan("up-client", "net", 1, "10.1.0.0/24", "10.2.0.0/24"));
    world.up(&tunnel);
    world.down(&tunnel);
    let standing = rules(&mut world, Kind::Filter);
    for chain in [":PLUTO-INPUT ", ":PLUTO-FORWARD ", ":PLUTO-OUTPUT "] {
        assert!(standing.contains(chain), "{standing}");
    }
    // What a rule names cannot go; it stands empty.
    world.stop().expect("a stop");
    let standing = rules(&mut world, Kind::Filter);
    assert_eq!(standing.matches("PLUTO").count(), 2, "{standing}");
    let no_jump = "*filter\n-D FORWARD -j PLUTO-FORWARD\nCOMMIT\n";
    world.tables.book(Family::Ipv4).restore(no_jump).expect("no jump");
    world.stop().expect("a stop");
    assert!(!rules(&mut world, Kind::Filter).contains("PLUTO"));
    assert!(world.is_forgotten());
}

#[test]
fn start_puts_its_jumps_before_rules_that_were_put_before_them() {
    let mut world = world("[gateway]\ninner-only = [\"l2tp\"]\n");
    world.start().expect("a start");
    world.up(&tunnel(&strongswan(
        "up-client",
        "net",
        1,
        "10.1.0.0/24",
        "10.2.0.0/24",
    )));
    let before: Vec<_> = [Kind::Filter, Kind::Nat].map(|kind| rules(&mut world, kind)).into();
    let above = "*filter\n-I INPUT 1 -j ACCEPT\nCOMMIT\n*nat\n-I POSTROUTING 1 -j MASQUERADE\nCOMMIT\n";
    world.tables.book(Family::Ipv4).restore(above).expect("rules above");
    assert!(!world.start().expect("a start").changed.is_empty());
    for (kind, chain, before) in [
        (Kind::Filter, "INPUT", &before[0]),
        (Kind::Nat, "POSTROUTING", &before[1]),
    ] {
        let now = rules(&mut world, kind);
        let first = now.lines().find(|line| line.starts_with(&format!("-A {chain} ")));
        assert_eq!(first, Some(&*format!("-A {chain} -j PLUTO-{chain}")), "{now}");
        assert_eq!(now.lines().count(), before.lines().count() + 1, "{now}");
    }
    assert!(world.start().expect("a start").changed.is_empty());
}

#[test]
fn networks_that_a_tunnel_joins_and_the_settings_name_are_held_apart_once() {
    let mut world = world(
        "[[connection]]\nname = \"net\"\nwhen-down = \"block\"\nbetween = [[\"10.1.0.0/24\", \"10.2.0.0/24\"]]\n",
    );
    world.up(&tunnel(&strongswan(
        "up-client",
        "net",
        1,
        "10.1.0.0/24",
        "10.2.0.0/24",
    )));
    let filter = rules(&mut world, Kind::Filter);
    let dropped = "-s 10.2.0.0/24 -d 10.1.0.0/24 -j DROP";
    assert_eq!(filter.matches(dropped).count(), 1, "{filter}");
    world.start().expect("a start");
    assert_eq!(rules(&mut world, Kind::Filter), filter);
}
