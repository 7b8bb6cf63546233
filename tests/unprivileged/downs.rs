//! Removals, and what they must not take along: upgrades and tunnels that stay, where the settings are not known.

use std::fs;

use pluto_updown::apply::{ApplyError, SettingsOrigin};
use pluto_updown::daemon::{FirewallAction, Tunnel};
use pluto_updown::net::Family;
use pluto_updown::netfilter::Backend;

use crate::support::world::{RestoreFailure, World, libreswan, strongswan};

const SETTINGS: &str = "[gateway]\nesp = \"negotiated\"\nplace = \"last\"\n[tunnel]\nallow = \"replies\"\nnat = \"leave\"\n\
                        [[connection]]\nname = \"guest\"\nallow = [\"tcp/22\"]\n";

/// A gateway with a gateway's part and a tunnel, whose next calls do not know the settings.
fn gateway() -> World {
    let mut world = World::with_file(SETTINGS);
    world.start().expect("a start");
    world.up(&strongswan("office", 1, "10.1.0.0/24", "10.2.0.0/24").tunnel());
    world
}

fn forget_settings(world: &mut World) {
    world.set_file("");
    world.settings_origin = SettingsOrigin::Record;
}

fn saved(world: &mut World) -> String {
    world.emulator(Family::Ipv4).save()
}

#[test]
fn an_upgrade_without_the_settings_keeps_what_they_closed_and_opened() {
    for command in ["stop", "down"] {
        let mut world = gateway();
        world.stop().expect("a stop");
        let expected = saved(&mut world);
        world.start().expect("a start");
        let other = other();
        if command == "down" {
            world.stop().expect("a stop");
            world.up(&other);
        }
        // As versions before the second layout wrote it.
        let place = world.folder.path().join("state/1/nft-ipv4/place");
        fs::write(place, "{\"format\": 2, \"place\": \"last\"}").expect("an older record");
        forget_settings(&mut world);
        match command {
            "stop" => drop(world.stop().expect("a stop")),
            _ => drop(world.down(&other)),
        }
        assert_eq!(saved(&mut world), expected, "{command}");
    }
}

#[test]
fn a_down_changes_nothing_of_a_tunnel_that_stays_beside_it() {
    let mut world = gateway();
    let expected = saved(&mut world);
    let guest = strongswan("guest", 1, "10.1.0.0/24", "10.2.0.0/24").tunnel();
    world.up(&guest);
    assert_ne!(saved(&mut world), expected, "the two have one effective policy");
    forget_settings(&mut world);
    world.down(&guest);
    assert_eq!(saved(&mut world), expected);
}

/// What 0.1.0 wrote of this was larger than what it read back.
#[test]
fn the_record_of_hundreds_of_services_and_thousands_of_peers_can_be_read_back() {
    let services: String = (1..=330).map(|port| format!("\"tcp/{port}\", ")).collect();
    let peers: String = (0..2000)
        .map(|n| format!("\"192.{}.{}.1\", ", n / 250, n % 250))
        .collect();
    let settings = format!(
        "[gateway]\nike = \"known\"\nesp = \"known\"\npeers = [{peers}]\n\
         [tunnel]\nallow = [{services}]\nlog = \"all\"\nhost-access = \"yes\"\n"
    );
    let mut world = World::with_file(&settings);
    let before = saved(&mut world);
    world.start().expect("a start");
    let office = strongswan("office", 1, "10.1.0.0/24", "10.2.0.0/24").tunnel();
    world.up(&office);
    let folder = world.folder.path().join("state/1/nft-ipv4/tunnels");
    for entry in fs::read_dir(folder).expect("a record") {
        let text = fs::read(entry.expect("an entry").path()).expect("a record");
        assert!(text.len() > 100_000, "only {} bytes", text.len());
        assert!(
            !text.windows(2).any(|pair| pair == b"\n " || pair == b": "),
            "not compact"
        );
    }
    assert_eq!(world.restore().expect("a restore"), Vec::new());
    world.down(&office);
    world.stop().expect("a stop");
    assert_eq!(saved(&mut world), before);
    assert!(world.is_forgotten());
}

/// A tunnel of each daemon, on each backend.
fn with_each_tunnel(test: impl Fn(World, &Tunnel)) {
    for backend in [Backend::Nft, Backend::Legacy] {
        let networks = ("10.1.0.0/24", "10.2.0.0/24");
        for call in [
            strongswan("office", 1, networks.0, networks.1),
            libreswan("office", 16389, networks.0, networks.1),
        ] {
            test(World::default().on(backend), &call.tunnel());
        }
    }
}

fn other() -> Tunnel {
    strongswan("other", 2, "10.1.0.0/24", "10.3.0.0/24").tunnel()
}

/// A `down` that is refused in this way, restore by restore, and noted.
fn refused_down(world: &mut World, tunnel: &Tunnel, failures: &[RestoreFailure]) {
    world.tables.failures = failures.iter().copied().collect();
    let refused = world.try_down(tunnel);
    assert!(matches!(refused, Err(ApplyError::Owed(_))), "{refused:?}");
    assert!(world.tables.failures.is_empty(), "{:?}", world.tables.failures);
}

/// The tunnel is up once, as on a machine where nothing failed, and one `down` removes it.
fn assert_up_once(mut world: World, tunnel: &Tunnel) {
    let mut fresh = World::default().on(world.tables.default);
    fresh.up(tunnel);
    assert_eq!(world.openers(), fresh.openers());
    assert_eq!(saved(&mut world), saved(&mut fresh));
    world.down(tunnel);
    assert!(world.is_forgotten());
}

#[test]
fn a_refused_down_is_executed_before_the_up_that_follows() {
    with_each_tunnel(|mut world, tunnel| {
        world.up(tunnel);
        refused_down(&mut world, tunnel, &[RestoreFailure::RefusedBySystem]);
        world.up(tunnel);
        assert_up_once(world, tunnel);
    });
}

#[test]
fn an_up_is_refused_as_long_as_the_down_before_it_cannot_be_executed() {
    with_each_tunnel(|mut world, tunnel| {
        world.up(tunnel);
        refused_down(&mut world, tunnel, &[RestoreFailure::RefusedBySystem]);
        world.tables.failures = [RestoreFailure::RefusedBySystem].into();
        world.try_up(tunnel).expect_err("a down stands before it");
        world.call(&FirewallAction::Nothing).expect("the next call");
        assert!(world.is_forgotten());
        world.up(tunnel);
        assert_up_once(world, tunnel);
    });
}

#[test]
fn a_down_that_is_reported_as_refused_and_is_done_all_the_same_has_gone_well() {
    with_each_tunnel(|mut world, tunnel| {
        // Without another tunnel there would be nothing to compare.
        let other = other();
        world.up(&other);
        world.up(tunnel);
        world.tables.failures = [RestoreFailure::RefusedAfter].into();
        world.down(tunnel);
        assert!(world.tables.failures.is_empty());
        world.up(tunnel);
        world.down(&other);
        assert_up_once(world, tunnel);
    });
}

#[test]
fn a_down_whose_repair_is_refused_too_is_executed_by_the_next_call() {
    with_each_tunnel(|mut world, tunnel| {
        let other = other();
        world.up(&other);
        world.up(tunnel);
        // The restore, the repair that takes its place, and the one that clears up behind it.
        world.tables.failures = [
            RestoreFailure::Refused,
            RestoreFailure::Refused,
            RestoreFailure::Refused,
        ]
        .into();
        let refused = world.try_down(tunnel);
        assert!(matches!(refused, Err(ApplyError::Owed(_))), "{refused:?}");
        world.tables.failures.clear();
        world.up(tunnel);
        world.down(&other);
        assert_up_once(world, tunnel);
    });
}

#[test]
fn two_refused_downs_of_one_up_do_not_remove_the_up_that_follows() {
    with_each_tunnel(|mut world, tunnel| {
        world.up(tunnel);
        refused_down(&mut world, tunnel, &[RestoreFailure::RefusedBySystem]);
        refused_down(&mut world, tunnel, &[RestoreFailure::RefusedBySystem]);
        world.up(tunnel);
        assert_up_once(world, tunnel);
    });
}
