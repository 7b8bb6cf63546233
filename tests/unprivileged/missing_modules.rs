//! A kernel, or an iptables, that lacks a match or a target: what cannot be installed opens nothing, and is gone again.

use pluto_updown::apply::{ApplyError, TunnelOutcome};
use pluto_updown::daemon::Tunnel;
use pluto_updown::net::Family;
use pluto_updown::netfilter::Backend;
use pluto_updown::netfilter::iptables::TablesError;

use crate::support::emulator::Kind;
use crate::support::world::{World, libreswan, strongswan};

/// What rules need, and which `allow` needs it.
const NEEDS: [(&str, &[&str]); 6] = [
    ("-j MARK", &["\"all\"", "\"replies\"", "\"none\"", "[\"tcp/22\"]"]),
    ("-m mark", &["\"all\"", "\"replies\"", "\"none\"", "[\"tcp/22\"]"]),
    ("-m policy", &["\"all\"", "\"replies\"", "\"none\"", "[\"tcp/22\"]"]),
    ("-m comment", &["\"all\"", "\"replies\"", "\"none\"", "[\"tcp/22\"]"]),
    ("--ctdir", &["\"replies\"", "[\"tcp/22\"]"]),
    ("--ctorigdst", &["[\"tcp/22\"]"]),
];

fn tunnel_of_each_kind() -> [Tunnel; 3] {
    [
        strongswan("counted", 1, "10.1.0.0/24", "10.2.0.0/24"),
        libreswan("vti", 16393, "10.1.0.0/24", "10.3.0.0/24").with("VTI_IFACE", "vti1"),
        strongswan("six", 2, "fd00:1::/64", "fd00:2::/64"),
    ]
    .map(|call| call.tunnel())
}

#[test]
fn what_a_kernel_lacks_leaves_a_tunnel_closed_and_no_rule_behind() {
    for backend in [Backend::Nft, Backend::Legacy] {
        for (words, needed_by) in NEEDS {
            for allow in needed_by {
                for tunnel in tunnel_of_each_kind() {
                    let mut world = World::with_file(&format!("tunnel.allow = {allow}\n")).on(backend);
                    let what = format!("{backend} {words} {allow} {}", tunnel.connection);
                    let family = tunnel.family();
                    let before = world.emulator(family).save_all();
                    world.emulator(family).refuse(Kind::Filter, words);
                    let refused = world.try_up(&tunnel);
                    let Err(ApplyError::Tables(TablesError::Refused { .. })) = refused else {
                        panic!("{what}: {refused:?}")
                    };
                    assert_eq!(world.emulator(family).save_all(), before, "{what}");
                    assert!(world.is_forgotten(), "{what}");
                    assert_eq!(world.down(&tunnel), TunnelOutcome::NothingThere, "{what}");
                    // The module is loaded, and the daemon tries again.
                    world.emulator(family).accept_again();
                    assert_eq!(world.up(&tunnel), TunnelOutcome::Opened, "{what}");
                }
            }
        }
    }
}

#[test]
fn a_start_without_the_target_mark_installs_nothing() {
    for backend in [Backend::Nft, Backend::Legacy] {
        let mut world = World::with_file("gateway.ike = \"known\"\ngateway.peers = [\"192.0.2.2\"]\n").on(backend);
        for family in Family::ALL {
            world.emulator(family).refuse(Kind::Filter, "-j MARK");
        }
        let before = world.emulator(Family::Ipv4).save_all();
        let started = world.start();
        assert!(
            matches!(started, Err(ApplyError::Tables(TablesError::Refused { .. }))),
            "{started:?}"
        );
        assert_eq!(world.emulator(Family::Ipv4).save_all(), before, "{backend}");
        Family::ALL
            .into_iter()
            .for_each(|family| world.emulator(family).accept_again());
        assert!(!world.start().expect("a start").changed.is_empty(), "{backend}");
    }
}
