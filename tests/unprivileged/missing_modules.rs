//! A kernel, or an iptables, that lacks a match or a target: what cannot be installed opens nothing, and is gone again.

use pluto_updown::apply::{ApplyError, TunnelOutcome};
use pluto_updown::iptables::TablesError;
use pluto_updown::netfilter::Backend;
use pluto_updown::selector::Family;
use pluto_updown::settings::Settings;
use pluto_updown::updown_env::{FirewallAction, Tunnel};

use crate::support::emulator::Kind;
use crate::support::world::{World, libreswan, strongswan, tunnel, with};

/// What rules need, and which `allow` needs it.
const NEEDS: [(&str, &[&str]); 6] = [
    ("-j MARK", &["\"all\"", "\"replies\"", "\"none\"", "[\"tcp/22\"]"]),
    ("-m mark", &["\"all\"", "\"replies\"", "\"none\"", "[\"tcp/22\"]"]),
    ("-m policy", &["\"all\"", "\"replies\"", "\"none\"", "[\"tcp/22\"]"]),
    ("-m comment", &["\"all\"", "\"replies\"", "\"none\"", "[\"tcp/22\"]"]),
    ("--ctdir", &["\"replies\"", "[\"tcp/22\"]"]),
    ("--ctorigdst", &["[\"tcp/22\"]"]),
];

fn tunnels() -> [Tunnel; 3] {
    let by_interface = libreswan("up-client", "vti", 16393, "10.1.0.0/24", "10.3.0.0/24");
    [
        strongswan("up-client", "counted", 1, "10.1.0.0/24", "10.2.0.0/24"),
        with(&by_interface, "VTI_IFACE", "vti1"),
        strongswan("up-client", "six", 2, "fd00:1::/64", "fd00:2::/64"),
    ]
    .map(|call| tunnel(&call))
}

fn everything(world: &mut World, family: Family) -> String {
    let emulator = world.tables.emulator(family);
    Kind::ALL.map(|kind| emulator.table(kind).save()).concat()
}

#[test]
fn what_a_kernel_lacks_leaves_a_tunnel_closed_and_no_rule_behind() {
    for backend in [Backend::Nft, Backend::Legacy] {
        for (words, needed_by) in NEEDS {
            for allow in needed_by {
                for tunnel in tunnels() {
                    let mut world = World {
                        settings: Settings::parse(&format!("tunnel.allow = {allow}\n")).expect("good settings"),
                        ..World::default()
                    };
                    world.tables.default = backend;
                    let what = format!("{backend} {words} {allow} {}", tunnel.connection);
                    let family = tunnel.family();
                    let before = everything(&mut world, family);
                    world.tables.emulator(family).refuse(Kind::Filter, words);
                    let refused = world.call(&FirewallAction::Open(Box::new(tunnel.clone())));
                    let Err(ApplyError::Tables(TablesError::Refused { .. })) = refused else {
                        panic!("{what}: {refused:?}")
                    };
                    assert_eq!(everything(&mut world, family), before, "{what}");
                    assert!(world.is_forgotten(), "{what}");
                    assert_eq!(world.down(&tunnel), TunnelOutcome::NothingThere, "{what}");
                    // The module is loaded, and the daemon tries again.
                    world.tables.emulator(family).accept_again();
                    assert_eq!(world.up(&tunnel), TunnelOutcome::Opened, "{what}");
                }
            }
        }
    }
}

#[test]
fn a_start_without_the_target_mark_installs_nothing() {
    for backend in [Backend::Nft, Backend::Legacy] {
        let mut world = World {
            settings: Settings::parse("gateway.ike = \"known\"\ngateway.peers = [\"192.0.2.2\"]\n")
                .expect("good settings"),
            ..World::default()
        };
        world.tables.default = backend;
        for family in Family::ALL {
            world.tables.emulator(family).refuse(Kind::Filter, "-j MARK");
        }
        let before = everything(&mut world, Family::Ipv4);
        let started = world.start();
        assert!(
            matches!(started, Err(ApplyError::Tables(TablesError::Refused { .. }))),
            "{started:?}"
        );
        assert_eq!(everything(&mut world, Family::Ipv4), before, "{backend}");
        Family::ALL
            .iter()
            .for_each(|family| world.tables.emulator(*family).accept_again());
        assert!(!world.start().expect("a start").changed.is_empty(), "{backend}");
    }
}
