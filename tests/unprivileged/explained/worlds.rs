//! Gateways with something set and some tunnels up.

use std::path::Path;

use pluto_updown::apply::ApplyError;
use pluto_updown::firewall::{DesiredState, TunnelRules};
use pluto_updown::net::Family;
use pluto_updown::netfilter::{Backend, Ruleset};
use pluto_updown::state::Store;
use proptest::prelude::*;

use crate::support::binary::Call;
use crate::support::world::{World, libreswan, strongswan};

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

/// The call of each tunnel that may be up.
pub(crate) fn calls() -> Vec<Call> {
    let ports = |call: Call, my, peer| {
        call.for_protocol("6")
            .with("PLUTO_MY_PORT", my)
            .with("PLUTO_PEER_PORT", peer)
    };
    let vti = |name, interface, local, remote| libreswan(name, 7, local, remote).with("VTI_IFACE", interface);
    vec![
        strongswan("office", 1, "10.1.0.0/24", "10.2.0.0/24"),
        strongswan("open", 2, "10.1.0.0/24", "10.3.0.0/24").with("PLUTO_HOST_ACCESS", "1"),
        strongswan("peer", 6, "192.0.2.1/32", "198.51.100.6/32")
            .between_hosts()
            .with("PLUTO_IPCOMP", "1"),
        strongswan("south", 4, "10.0.0.0/8", "10.4.0.0/24"),
        strongswan("sea", 5, "10.0.0.0/8", "10.5.0.0/24"),
        ports(strongswan("web", 8, "10.1.0.0/24", "10.2.0.0/24"), "80", "0"),
        ports(strongswan("ssh", 8, "10.1.0.0/24", "10.2.0.0/24"), "0", "22"),
        ports(strongswan("icmp", 9, "10.1.0.0/24", "10.6.0.0/24"), "8", "0").for_protocol("1"),
        vti("vti", "vti1", "10.1.0.0/24", "10.7.0.0/24"),
        vti("wide", "vti2", "0.0.0.0/0", "0.0.0.0/0"),
        libreswan("cat", 16389, "10.99.0.1/32", "10.2.0.0/24")
            .with("CAT", "YES")
            .with("NFLOG", "5"),
        strongswan("hidden", 12, "10.99.0.2/32", "10.2.0.0/24"),
        strongswan("world", 13, "10.1.0.0/24", "0.0.0.0/0"),
        strongswan("range", 14, "10.1.0.0/24", "10.2.0.5-10.2.0.9"),
    ]
}

/// A gateway with these settings on which these tunnels came up in this order, as far as their settings let them.
pub(crate) fn world(file: &str, up: &[usize]) -> World {
    let mut world = World::with_file(file);
    let chain = "*filter\n:vpn-in - [0:0]\nCOMMIT\n";
    assert_eq!(world.emulator(Family::Ipv4).restore(chain), Ok(()));
    world.start().expect("a start");
    if file.contains("place = \"own\"") {
        let jumps =
            "*filter\n-A INPUT -j PLUTO-INPUT\n-A FORWARD -j PLUTO-FORWARD\n-A OUTPUT -j PLUTO-OUTPUT\nCOMMIT\n";
        assert_eq!(world.emulator(Family::Ipv4).restore(jumps), Ok(()));
    }
    let calls = calls();
    for number in up {
        match world.try_up(&calls[*number].tunnel()) {
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
