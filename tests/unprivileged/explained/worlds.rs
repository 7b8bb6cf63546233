//! Gateways with something set and some tunnels up.

use std::path::Path;

use pluto_updown::apply::ApplyError;
use pluto_updown::netfilter::{Backend, Ruleset};
use pluto_updown::plan::{DesiredState, TunnelRules};
use pluto_updown::record::Store;
use pluto_updown::selector::Family;
use pluto_updown::settings::Settings;
use pluto_updown::updown_env::FirewallAction;
use proptest::prelude::*;

use crate::support::world::{World, libreswan, strongswan, tunnel, with};

/// What a key can be set to; each is a line of the file, and nothing for what counts without.
const TUNNEL: [&[&str]; 8] = [
    &[
        "",
        "allow = \"replies\"",
        "allow = \"none\"",
        "allow = [\"tcp/22\", \"ping\"]",
        "allow = [\"udp/500:600\", \"gre\", \"traceroute\"]",
    ],
    &["", "host-access = \"yes\"", "host-access = \"no\""],
    &["", "nat = \"masquerade\"", "nat = \"10.1.0.1\"", "nat = \"leave\""],
    &["", "bypass = []", "bypass = [\"10.66.0.0/16\"]"],
    &["", "mss = \"pmtu\"", "mss = 1360"],
    &["", "log = \"all\""],
    &["", "when-down = \"block\""],
    &["", "chain = \"vpn-in\""],
];

const GATEWAY: [&[&str]; 7] = [
    &["", "ike = \"any\"", "ike = \"known\"\npeers = [\"198.51.100.6\"]"],
    &["", "esp = \"any\"", "esp = \"negotiated\""],
    &[
        "",
        "through = \"allow\"",
        "through = \"deny\"",
        "through = [\"10.1.0.9\", \"10.9.0.0/16\"]",
    ],
    &[
        "",
        "only-ipsec = [\"w0\"]",
        "only-ipsec = [\"w+\", \"lan0\"]",
        "only-ipsec = [\"198.51.100.0/24\", \"w0\"]",
    ],
    &["", "icmp = \"safe\""],
    &["", "inner-only = [\"l2tp\", \"tcp/22\"]"],
    &["", "place = \"own\""],
];

fn lines(keys: &[&'static [&'static str]]) -> BoxedStrategy<String> {
    let each: Vec<_> = keys
        .iter()
        .map(|values| prop::sample::select(values.to_vec()))
        .collect();
    each.prop_map(|lines| lines.join("\n")).boxed()
}

/// A settings file.
pub(crate) fn files() -> impl Strategy<Value = String> {
    let parts = (lines(&GATEWAY), lines(&TUNNEL), lines(&TUNNEL));
    parts.prop_map(|(gateway, tunnels, spokes)| {
        // Which networks are blocked is nothing to say where none are.
        let between = match spokes.contains("when-down") {
            true => "between = [[\"10.1.0.0/24\", \"10.5.0.0/24\"]]",
            false => "",
        };
        format!("[gateway]\n{gateway}\n[tunnel]\n{tunnels}\n[[connection]]\nname = \"s*\"\n{between}\n{spokes}\n")
    })
}

/// The variables of each tunnel that may be up.
pub(crate) fn calls() -> Vec<String> {
    let narrow = |call: &str, protocol: &str, my: &str, peer: &str| {
        [
            ("PLUTO_MY_PROTOCOL", protocol),
            ("PLUTO_PEER_PROTOCOL", protocol),
            ("PLUTO_MY_PORT", my),
            ("PLUTO_PEER_PORT", peer),
        ]
        .iter()
        .fold(call.to_owned(), |call, (name, value)| with(&call, name, value))
    };
    let client = |name, reqid, local, remote| strongswan("up-client", name, reqid, local, remote);
    let vti =
        |name, interface, local, remote| with(&libreswan("up-client", name, 7, local, remote), "VTI_IFACE", interface);
    vec![
        client("office", 1, "10.1.0.0/24", "10.2.0.0/24"),
        with(
            &client("open", 2, "10.1.0.0/24", "10.3.0.0/24"),
            "PLUTO_HOST_ACCESS",
            "1",
        ),
        with(
            &strongswan("up-host", "peer", 6, "192.0.2.1/32", "198.51.100.6/32"),
            "PLUTO_IPCOMP",
            "1",
        ),
        client("south", 4, "10.0.0.0/8", "10.4.0.0/24"),
        client("sea", 5, "10.0.0.0/8", "10.5.0.0/24"),
        narrow(&client("web", 8, "10.1.0.0/24", "10.2.0.0/24"), "6", "80", "0"),
        narrow(&client("ssh", 8, "10.1.0.0/24", "10.2.0.0/24"), "6", "0", "22"),
        narrow(&client("icmp", 9, "10.1.0.0/24", "10.6.0.0/24"), "1", "8", "0"),
        vti("vti", "vti1", "10.1.0.0/24", "10.7.0.0/24"),
        vti("wide", "vti2", "0.0.0.0/0", "0.0.0.0/0"),
        with(
            &with(
                &libreswan("up-client", "cat", 16389, "10.99.0.1/32", "10.2.0.0/24"),
                "CAT",
                "YES",
            ),
            "NFLOG",
            "5",
        ),
        client("hidden", 12, "10.99.0.2/32", "10.2.0.0/24"),
        client("world", 13, "10.1.0.0/24", "0.0.0.0/0"),
        client("range", 14, "10.1.0.0/24", "10.2.0.5-10.2.0.9"),
    ]
}

/// A gateway with these settings on which these tunnels came up in this order, as far as their settings let them.
pub(crate) fn world(file: &str, up: &[usize]) -> World {
    let mut world = World {
        settings: Settings::parse(file).unwrap_or_else(|error| panic!("{file}: {error}")),
        ..World::default()
    };
    let chain = "*filter\n:vpn-in - [0:0]\nCOMMIT\n";
    assert_eq!(world.tables.emulator(Family::Ipv4).restore(chain), Ok(()));
    world.start().expect("a start");
    if file.contains("place = \"own\"") {
        let jumps =
            "*filter\n-A INPUT -j PLUTO-INPUT\n-A FORWARD -j PLUTO-FORWARD\n-A OUTPUT -j PLUTO-OUTPUT\nCOMMIT\n";
        assert_eq!(world.tables.emulator(Family::Ipv4).restore(jumps), Ok(()));
    }
    let calls = calls();
    for number in up {
        match world.call(&FirewallAction::Open(Box::new(tunnel(&calls[*number])))) {
            Ok(_) | Err(ApplyError::Policy { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }
    world
}

/// What its record wants in the tables of IPv4.
pub(crate) fn desired_state(folder: &Path) -> DesiredState {
    let ruleset = Ruleset {
        backend: Backend::Nft,
        family: Family::Ipv4,
    };
    let store = Store::open_unlocked(&folder.join("state"), 1);
    let entries = store.entries(ruleset).expect("a record");
    let all_rules: Vec<TunnelRules> = entries.iter().map(|entry| entry.tunnel_rules().clone()).collect();
    let installed = store.installed(ruleset).expect("a note");
    DesiredState::from_rules(&all_rules, installed.jump_config(ruleset))
}
