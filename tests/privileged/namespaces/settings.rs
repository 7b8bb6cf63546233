//! Each setting alone on real iptables: the rules are taken, they are listed as this program writes them, a changed setting is applied to a tunnel that
//! is up, and the last `down` or `stop` leaves nothing.
//!
//! What must be installed is what the emulator holds after the same calls; the emulator keeps rules as we spell them.

use std::collections::BTreeMap;

use pluto_updown::apply::Blocked;
use pluto_updown::net::Family;
use pluto_updown::netfilter::Backend;

use super::tables::{machine, saved};
use crate::support::binary::{Call, Ending};
use crate::support::captures::{find_call, libreswan_up, strongswan_up};
use crate::support::emulator::Kind;
use crate::support::namespace::Namespace;
use crate::support::world::World;

/// Settings for tunnels, each alone, with `NEAR` for an address of ours in the tunnel.
const TUNNEL: [&str; 24] = [
    "allow = \"replies\"",
    "allow = \"none\"",
    "allow = [\"tcp/22\", \"udp/33434:33633\", \"ping\", \"l2tp\"]",
    "allow = [\"icmp/3/4\", \"icmpv6/2\", \"gre\", \"protocol/132\", \"sctp/7\", \"udplite/9:10\", \"ipsec\"]",
    "host-access = \"yes\"",
    "host-access = \"no\"",
    "nat = \"exempt\"",
    "nat = \"masquerade\"",
    "nat = \"NEAR\"",
    "nat = \"leave\"",
    "mss = \"pmtu\"",
    "mss = 1360",
    "log = \"new\"",
    "log = \"denied\"",
    "log = \"all\"",
    "log = \"all\"\nallow = \"replies\"",
    "log = \"all\"\nallow = [\"tcp/22\"]",
    "log = \"denied\"\nallow = \"none\"",
    "chain = \"ADMIN\"",
    "chain = \"ADMIN\"\nallow = \"none\"",
    "when-down = \"block\"",
    "allow = \"replies\"\nhost-access = \"yes\"",
    "allow = \"replies\"\nhost-access = \"no\"\nnat = \"masquerade\"\nmss = 1300\nlog = \"all\"\nchain = \"ADMIN\"\nwhen-down = \"block\"",
    "on-error = \"refuse\"",
];

/// Settings for the gateway, each alone.
const GATEWAY: [&str; 22] = [
    "ike = \"any\"",
    "ike = \"known\"\npeers = [\"192.0.2.2\", \"198.51.100.0/24\", \"2001:db8:f::/48\"]",
    "esp = \"any\"",
    "esp = \"known\"\npeers = [\"192.0.2.2\", \"2001:db8:f::1\"]",
    "esp = \"known\"\npeers = [\"192.0.2.2\"]",
    "esp = \"negotiated\"",
    "ike = \"any\"\nesp = \"negotiated\"",
    "ike = \"known\"\nesp = \"known\"\npeers = [\"0.0.0.0/0\"]",
    "through = \"allow\"",
    "through = \"deny\"",
    "through = [\"10.1.0.7\", \"10.1.1.0/24\", \"fd00:1::7\"]",
    "only-ipsec = [\"eth1\"]",
    "only-ipsec = [\"ppp+\", \"192.0.2.7\", \"198.51.100.0/24\", \"2001:db8:7::/48\"]",
    "only-ipsec = [\"eth1\"]\nthrough = \"deny\"",
    "only-ipsec = [\"eth1\"]\nike = \"any\"\nesp = \"any\"",
    "icmp = \"safe\"",
    "icmp = \"safe\"\nonly-ipsec = [\"eth1\"]",
    "inner-only = [\"udp/1701\"]",
    "inner-only = [\"l2tp\", \"gre\", \"ipip\", \"tcp/22\"]",
    "ike = \"any\"\nesp = \"negotiated\"\nthrough = \"deny\"\nonly-ipsec = [\"eth1\"]\nicmp = \"safe\"\ninner-only = [\"l2tp\"]",
    "ike = \"any\"\nplace = \"last\"",
    "ike = \"any\"\nplace = \"own\"",
];

/// A tunnel of a kind: between networks by either daemon, with an address of ours inside, or between hosts.
fn ups(family: Family) -> [Call; 3] {
    let [own, local, remote] = match family {
        Family::Ipv4 => ["10.1.0.1", "10.1.0.0/24", "10.2.0.0/24"],
        Family::Ipv6 => ["fd00:1::1", "fd00:1::/64", "fd00:2::/64"],
    };
    let [me, peer, bits] = match family {
        Family::Ipv4 => ["192.0.2.1", "192.0.2.2", "32"],
        Family::Ipv6 => ["2001:db8::1", "2001:db8::2", "128"],
    };
    let suffix = match family {
        Family::Ipv4 => "",
        Family::Ipv6 => "-v6",
    };
    let between_networks = |call: Call| {
        call.with_verb(&format!("up-client{suffix}"))
            .with("PLUTO_ME", me)
            .with("PLUTO_PEER", peer)
            .with("PLUTO_MY_CLIENT", local)
            .with("PLUTO_PEER_CLIENT", remote)
            .with("PLUTO_MY_SOURCEIP", own)
    };
    let host = find_call("strongswan-6.0.1", "host", "up-host")
        .with_verb(&format!("up-host{suffix}"))
        .with("PLUTO_ME", me)
        .with("PLUTO_PEER", peer)
        .with("PLUTO_MY_CLIENT", format!("{me}/{bits}"))
        .with("PLUTO_PEER_CLIENT", format!("{peer}/{bits}"));
    [
        between_networks(libreswan_up()),
        between_networks(strongswan_up()),
        host,
    ]
}

/// A machine and the emulator's idea of it, which get the same calls.
pub(crate) struct Pair {
    pub(crate) machine: Namespace,
    world: World,
    before: [[String; 3]; 2],
}

impl Pair {
    pub(crate) fn new(backend: Backend) -> Self {
        let machine = machine(backend);
        let mut world = World::default();
        world.tables.default = backend;
        for family in Family::ALL {
            let administrators = "*filter\n:ADMIN - [0:0]\nCOMMIT\n";
            let taken = world.emulator(family).restore(administrators);
            assert_eq!(taken, Ok(()));
        }
        let before = Family::ALL.map(|family| saved(&machine, family));
        Self { machine, world, before }
    }

    pub(crate) fn set(&mut self, text: &str) {
        self.machine.settings(text);
        self.world.set_file(text);
    }

    pub(crate) fn call(&mut self, call: &Call) {
        self.machine.hook().expect_success(call);
        self.world.call(&call.firewall_action()).expect("a good call");
    }

    /// A command, on both sides.
    pub(crate) fn operate(&mut self, command: &str) -> Ending {
        let command_line = |command| match command {
            "unblock" => vec!["unblock", "--all"],
            other => vec![other],
        };
        let done = match command {
            "start" => self.world.start(),
            "stop" => self.world.stop(),
            "unblock" => self.world.unblock(&Blocked::All),
            other => panic!("{other}"),
        };
        done.unwrap_or_else(|error| panic!("{command}: {error}"));
        let ending = self.machine.hook().operate(&command_line(command));
        ending.said();
        ending
    }

    /// Every rule of ours in every table stands as we write it, in our order, and no other.
    #[track_caller]
    pub(crate) fn assert_alike(&mut self, what: &str) {
        for family in Family::ALL {
            for (kind, real) in Kind::ALL.into_iter().zip(saved(&self.machine, family)) {
                let emulated = self.world.emulator(family).table(kind).save();
                let (real, emulated) = (rules(&real), rules(&emulated));
                let differ = |chain: &&String| real.get(*chain) != emulated.get(*chain);
                let chains: Vec<_> = real.keys().chain(emulated.keys()).filter(differ).collect();
                let of = |rules: &Rules| -> Vec<_> { chains.iter().map(|chain| rules.get(*chain).cloned()).collect() };
                assert_eq!(of(&real), of(&emulated), "{what}: {family} {}: {chains:?}", kind.name());
            }
        }
    }

    /// Everything is as before the first call.
    #[track_caller]
    pub(crate) fn assert_nothing_left(&self, what: &str) {
        let now = Family::ALL.map(|family| saved(&self.machine, family));
        assert_eq!(now, self.before, "{what}");
        assert!(
            !self.machine.state().exists(),
            "{what}: left in {}",
            self.machine.state().display()
        );
    }
}

/// Chains and their rules.
type Rules = BTreeMap<String, Vec<String>>;

/// Our chains in a listing with their rules, and the jumps to them from other chains.
fn rules(listing: &str) -> Rules {
    let mut chains = BTreeMap::new();
    for line in listing.lines() {
        if let Some(chain) = line.strip_prefix(':').and_then(|rest| rest.split(' ').next()) {
            chains.insert(chain.to_owned(), Vec::new());
        } else if let Some((chain, rule)) = line.strip_prefix("-A ").and_then(|rest| rest.split_once(' ')) {
            let rules: &mut Vec<String> = chains.entry(chain.to_owned()).or_default();
            if chain.starts_with("PLUTO-") || rule.contains("PLUTO-") {
                rules.push(as_listed(rule));
            }
        }
    }
    chains.retain(|chain, rules| chain.starts_with("PLUTO-") || !rules.is_empty());
    chains
}

/// A rule as iptables-save prints it, who has names for some protocols, and quotes only where they are needed.
fn as_listed(rule: &str) -> String {
    let named = [
        (4, "ipencap"),
        (47, "gre"),
        (1, "icmp"),
        (6, "tcp"),
        (17, "udp"),
        (50, "esp"),
        (51, "ah"),
        (58, "ipv6-icmp"),
        (132, "sctp"),
    ];
    let named = named.into_iter().fold(format!("{rule} "), |rule, (number, name)| {
        rule.replace(&format!("-p {number} "), &format!("-p {name} "))
    });
    named.trim_end().replace('"', "")
}

/// A tunnel comes up with this setting and goes again, comes up with it changed to the default and back, and goes.
fn try_out(pair: &mut Pair, up: &Call, setting: &str, before: &str) {
    let what = format!("{up} with {setting}");
    let texts = [format!("{before}[tunnel]\n{setting}\n"), format!("{before}[tunnel]\n")];
    for text in [&texts[0], &texts[1], &texts[0]] {
        pair.set(text);
        pair.call(up);
        pair.assert_alike(&what);
    }
    // Where ups are counted it takes as many downs.
    for _ in 0..3 {
        pair.call(&up.clone().opposite());
    }
    if setting.contains("when-down") {
        pair.assert_alike(&format!("{what}, down"));
        pair.operate("unblock");
    }
    pair.assert_nothing_left(&what);
}

/// What is set for tunnels, alone.
fn every_setting_of_a_tunnel(backend: Backend) {
    let mut pair = Pair::new(backend);
    for family in Family::ALL {
        let local = match family {
            Family::Ipv4 => "10.1.0.77",
            Family::Ipv6 => "fd00:1::77",
        };
        for up in ups(family) {
            for setting in TUNNEL {
                // Between hosts there is no other address.
                if !(setting.contains("NEAR") && up.get("PLUTO_VERB").starts_with("up-host")) {
                    try_out(&mut pair, &up, &setting.replace("NEAR", local), "");
                }
            }
        }
    }
}

#[test]
#[ignore = "needs root and iptables: run by contrib/test"]
fn every_setting_of_a_tunnel_is_taken_listed_changed_and_undone_by_nft() {
    every_setting_of_a_tunnel(Backend::Nft);
}

#[test]
#[ignore = "needs root and iptables: run by contrib/test"]
fn every_setting_of_a_tunnel_is_taken_listed_changed_and_undone_by_legacy() {
    every_setting_of_a_tunnel(Backend::Legacy);
}

/// The chains that an administrator's own jumps lead to, and the jumps.
const OWN: &str = "*filter
:PLUTO-INPUT - [0:0]
:PLUTO-FORWARD - [0:0]
:PLUTO-OUTPUT - [0:0]
-A INPUT -p tcp -j PLUTO-INPUT
-A FORWARD -j PLUTO-FORWARD
-A OUTPUT -j PLUTO-OUTPUT
COMMIT
";

impl Pair {
    /// A machine whose administrator has jumps to our chains.
    fn with_own_jumps(backend: Backend) -> Self {
        let mut pair = Self::new(backend);
        for family in Family::ALL {
            let program = pair
                .machine
                .programs()
                .join(format!("{}-restore", crate::support::namespace::prefix(family)));
            pair.machine.run([program.to_str().expect("a path"), "--noflush"], OWN);
            let taken = pair.world.emulator(family).restore(OWN);
            assert_eq!(taken, Ok(()));
        }
        pair.before = Family::ALL.map(|family| saved(&pair.machine, family));
        pair
    }
}

#[test]
#[ignore = "needs root and iptables: run by contrib/test"]
fn our_jumps_are_where_the_administrator_wants_them() {
    for backend in [Backend::Nft, Backend::Legacy] {
        for place in ["first", "last", "own"] {
            let mut pair = match place {
                "own" => Pair::with_own_jumps(backend),
                _ => Pair::new(backend),
            };
            let gateway = format!("[gateway]\nplace = \"{place}\"\n");
            for family in Family::ALL {
                for up in ups(family) {
                    for setting in ["allow = \"replies\"", "nat = \"masquerade\"", "mss = 1300"] {
                        try_out(&mut pair, &up, setting, &gateway);
                    }
                }
            }
        }
    }
}

#[test]
#[ignore = "needs root and iptables: run by contrib/test"]
fn our_jumps_move_with_the_setting() {
    for backend in [Backend::Nft, Backend::Legacy] {
        let mut pair = Pair::new(backend);
        let [up, _, _] = ups(Family::Ipv4);
        for (place, first) in [("first", true), ("last", false), ("first", true)] {
            pair.set(&format!("[gateway]\nplace = \"{place}\"\nike = \"any\"\n"));
            pair.operate("start");
            pair.call(&up);
            pair.assert_alike(&format!("{backend} {place}"));
            let [filter, nat, _] = saved(&pair.machine, Family::Ipv4);
            let jumps_in = |listing: &str, chain: &str| -> Vec<bool> {
                let rules = listing.lines().filter(|line| line.starts_with(&format!("-A {chain} ")));
                rules.map(|line| line.ends_with(&format!("-j PLUTO-{chain}"))).collect()
            };
            for chain in ["INPUT", "FORWARD", "OUTPUT"] {
                let rules = jumps_in(&filter, chain);
                assert_eq!(rules.iter().filter(|is_ours| **is_ours).count(), 1, "{place}: {filter}");
                assert_eq!((rules[0], rules[rules.len() - 1]), (first, !first), "{place}: {filter}");
            }
            assert_eq!(
                jumps_in(&nat, "POSTROUTING"),
                [true, false],
                "the nat table is no matter of what passes"
            );
        }
        pair.call(&up.opposite());
        pair.operate("stop");
        pair.assert_nothing_left(&backend.to_string());
    }
}

/// `start` with this setting, alone and with tunnels that came before and come after; then with it changed.
fn try_gateway(pair: &mut Pair, setting: &str) {
    let text = format!("[gateway]\n{setting}\n");
    pair.set(&text);
    let said = pair.operate("start").out_text();
    assert!(said.starts_with("applied: "), "{setting}: {said}");
    pair.assert_alike(setting);
    let said = pair.operate("start").out_text();
    assert!(said.starts_with("nothing to change: "), "{setting}: {said}");
    let [v4, v6] = Family::ALL.map(ups);
    let mixed = v4[1]
        .clone()
        .with("PLUTO_PEER", "2001:db8::2")
        .with("PLUTO_CONNECTION", "mixed");
    let tunnels = [v4[0].clone(), v6[2].clone(), mixed];
    for up in &tunnels {
        pair.call(up);
        pair.assert_alike(&format!("{setting}: {up}"));
    }
    // Another file, and the same one again.
    let other = match setting.contains("\"own\"") {
        // A jump of the administrator's that is like ours would be taken for it where the place is another.
        true => "[gateway]\nplace = \"own\"\n",
        false => "",
    };
    for other in [other, &text] {
        pair.set(other);
        pair.operate("start");
        pair.assert_alike(&format!("{setting} changed to {other}"));
    }
    pair.call(&tunnels[0].clone().opposite());
    pair.operate("stop");
    pair.assert_alike(&format!("{setting}: stopped with tunnels up"));
    for up in &tunnels[1..] {
        pair.call(&up.clone().opposite());
    }
    pair.assert_nothing_left(setting);
}

fn every_setting_of_the_gateway(backend: Backend) {
    let mut pair = Pair::new(backend);
    let (own, others): (Vec<_>, Vec<_>) = GATEWAY.iter().partition(|setting| setting.contains("\"own\""));
    for setting in others {
        try_gateway(&mut pair, setting);
    }
    let mut pair = Pair::with_own_jumps(backend);
    for setting in own {
        try_gateway(&mut pair, setting);
    }
}

#[test]
#[ignore = "needs root and iptables: run by contrib/test"]
fn every_setting_of_the_gateway_is_taken_listed_changed_and_undone_by_nft() {
    every_setting_of_the_gateway(Backend::Nft);
}

#[test]
#[ignore = "needs root and iptables: run by contrib/test"]
fn every_setting_of_the_gateway_is_taken_listed_changed_and_undone_by_legacy() {
    every_setting_of_the_gateway(Backend::Legacy);
}

#[test]
#[ignore = "needs root and iptables: run by contrib/test"]
fn networks_are_blocked_from_start_on_until_that_is_unblocked() {
    for backend in [Backend::Nft, Backend::Legacy] {
        let mut pair = Pair::new(backend);
        let [v4, v6] = Family::ALL.map(ups);
        pair.set(
            "[[connection]]\nname = \"net-net\"\nwhen-down = \"block\"\n\
             between = [[\"10.1.0.0/24\", \"10.2.0.0/24\"], [\"fd00:1::/64\", \"fd00:2::/64\"]]\n",
        );
        pair.operate("start");
        pair.assert_alike("started");
        for up in [&v4[0], &v6[0]] {
            pair.call(up);
            pair.assert_alike(&format!("{up}"));
            pair.call(&up.clone().opposite());
            pair.assert_alike(&format!("{up}, and down"));
        }
        pair.operate("stop");
        pair.assert_alike("stopped");
        pair.operate("unblock");
        pair.assert_nothing_left(&backend.to_string());
    }
}
