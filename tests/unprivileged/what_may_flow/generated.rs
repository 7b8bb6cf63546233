//! Every setting alone and every two of them together, for all kinds of tunnels at once: what must hold whatever is set.

use std::collections::BTreeSet;

use pluto_updown::apply::{ApplyError, Blocked};
use pluto_updown::daemon::Tunnel;
use pluto_updown::net::Family;
use pluto_updown::settings::{Allow, Gateway, GatewayAccess, JumpPlace, Nat, Policy, Service, Settings, WhenDown};

use crate::support::binary::Call;
use crate::support::emulator::{Emulator, Kind};
use crate::support::gateway::in_family;
use crate::support::packet::{Packet, Verdict, trace, trace_packet};
use crate::support::world::{World, libreswan, strongswan};

/// A setting and what it can be, the first of which is the default. Each is a line of the file.
type Choices = &'static [&'static str];

const TUNNEL: [Choices; 8] = [
    &[
        "",
        "allow = \"replies\"",
        "allow = \"none\"",
        "allow = [\"tcp/22\", \"ping\"]",
    ],
    &["", "host-access = \"yes\"", "host-access = \"no\""],
    &["", "nat = \"masquerade\"", "nat = \"10.1.0.1\"", "nat = \"leave\""],
    &["", "bypass = []", "bypass = [\"10.66.0.0/16\"]"],
    &["", "mss = \"pmtu\"", "mss = 1360"],
    &["", "log = \"new\"", "log = \"denied\"", "log = \"all\""],
    &["", "when-down = \"block\""],
    &["", "chain = \"vpn-in\""],
];

const GATEWAY: [Choices; 7] = [
    &["", "ike = \"any\"", "ike = \"known\"\npeers = [\"198.51.100.5\"]"],
    &["", "esp = \"any\"", "esp = \"negotiated\""],
    &[
        "",
        "through = \"allow\"",
        "through = \"deny\"",
        "through = [\"10.1.0.9\"]",
    ],
    &["", "only-ipsec = [\"w0\"]", "only-ipsec = [\"203.0.113.5\"]"],
    &["", "icmp = \"safe\""],
    &["", "inner-only = [\"l2tp\", \"tcp/22\"]"],
    &["", "place = \"last\"", "place = \"own\""],
];

/// What a settings file says: a line of each setting.
fn file(chosen: &[(usize, usize)]) -> String {
    let line = |of: std::ops::Range<usize>| -> String {
        let lines = chosen.iter().filter(|(setting, _)| of.contains(setting));
        lines
            .map(|(setting, value)| format!("{}\n", choices(*setting)[*value]))
            .collect()
    };
    let gateway = TUNNEL.len()..TUNNEL.len() + GATEWAY.len();
    format!("[gateway]\n{}[tunnel]\n{}", line(gateway), line(0..TUNNEL.len()))
}

fn choices(setting: usize) -> Choices {
    TUNNEL
        .get(setting)
        .or_else(|| GATEWAY.get(setting - TUNNEL.len()))
        .expect("a setting")
}

/// Every value of every setting alone, and every two values of two settings.
fn files() -> Vec<String> {
    let all = TUNNEL.len() + GATEWAY.len();
    let values = |setting: usize| (1..choices(setting).len()).map(move |value| (setting, value));
    let mut files = vec![file(&[])];
    for first in 0..all {
        for one in values(first) {
            files.push(file(&[one]));
            files.extend((first + 1..all).flat_map(values).map(|other| file(&[one, other])));
        }
    }
    files
}

/// The settings of a file; nothing, where it says what does not go together.
pub(crate) fn settings(file: &str, family: Family) -> Option<Settings> {
    let text = in_family(file, family);
    match Settings::parse(&text) {
        Ok(settings) => Some(settings),
        Err(error) => {
            assert!(text.contains("place = \"last\""), "{error}\n{text}");
            None
        }
    }
}

/// A tunnel between two networks, one between hosts, one with an interface, and two spokes.
pub(crate) fn tunnels_of(family: Family) -> Vec<Tunnel> {
    let say = |text: &str| in_family(text, family);
    let client = |name, reqid, local, remote| strongswan(name, reqid, &say(local), &say(remote));
    let calls = [
        client("office", 1, "10.1.0.0/24", "10.2.0.0/24"),
        client("open", 2, "10.1.0.0/24", "10.3.0.0/24").with("PLUTO_HOST_ACCESS", "1"),
        client("peer", 6, "192.0.2.1/32", "198.51.100.6/32").between_hosts(),
        libreswan("vti", 16413, &say("10.1.0.0/24"), &say("10.7.0.0/24")).with("VTI_IFACE", "vti1"),
        client("west", 4, "10.0.0.0/8", "10.4.0.0/24"),
        client("east", 5, "10.0.0.0/8", "10.5.0.0/24"),
    ];
    let of_hosts = |call: Call| {
        call.with("PLUTO_ME", say("192.0.2.1"))
            .with("PLUTO_PEER", say("192.0.2.2"))
    };
    calls.map(|call| of_hosts(call).tunnel()).to_vec()
}

/// A gateway with a chain of the administrator's, on which everything that we do not decide is accepted.
pub(crate) fn gateway(settings: Settings, family: Family) -> World {
    let accepts = settings.gateway.place == JumpPlace::First;
    let own = settings.gateway.place == JumpPlace::Own;
    let mut world = World {
        settings,
        ..World::default()
    };
    let accept = if accepts {
        "-A INPUT -j ACCEPT\n-A FORWARD -j ACCEPT\n-A OUTPUT -j ACCEPT\n"
    } else {
        ""
    };
    let text = format!(
        "*filter\n:vpn-in - [0:0]\n-A vpn-in -p tcp -m tcp --dport 9 -j DROP\n{accept}COMMIT\n*nat\n-A POSTROUTING -o w0 -j MASQUERADE\nCOMMIT\n"
    );
    restore(&mut world, family, &text);
    if own {
        world.start().expect("a start");
        restore(
            &mut world,
            family,
            "*filter\n-A INPUT -j PLUTO-INPUT\n-A FORWARD -j PLUTO-FORWARD\n-A OUTPUT -j PLUTO-OUTPUT\nCOMMIT\n",
        );
    }
    world
}

fn restore(world: &mut World, family: Family, text: &str) {
    assert_eq!(world.emulator(family).restore(text), Ok(()));
}

/// Brings a tunnel up. Says whether it is: what does not go with what is set for it may be refused, and nothing else.
pub(crate) fn comes_up(world: &mut World, tunnel: &Tunnel) -> bool {
    match world.try_up(tunnel) {
        Ok(_) => true,
        Err(ApplyError::Policy { .. }) => false,
        Err(error) => panic!("{error}"),
    }
}

/// What should become of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expectation {
    Passes,
    Dropped,
    Left,
}

/// A packet of a tunnel's, seen from the tunnel: its kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sort {
    Ssh,
    Web,
    Ping,
    Answer,
    /// What the administrator's chain drops.
    Discard,
}

const SORTS: [Sort; 5] = [Sort::Ssh, Sort::Web, Sort::Ping, Sort::Answer, Sort::Discard];

impl Sort {
    fn of_sort(self, packet: Packet) -> Packet {
        match self {
            Self::Ssh => packet.tcp(40000, 22),
            Self::Web => packet.tcp(40000, 80),
            Self::Ping if packet.source.is_ipv4() => packet.icmp(8, 0),
            Self::Ping => packet.icmp(128, 0),
            Self::Answer => packet.tcp(80, 40000).reply(),
            Self::Discard => packet.tcp(40000, 9),
        }
    }
}

/// What a policy lets out of its tunnel, stated again from the manual and not from the plan.
fn out_of(policy: &Policy, sort: Sort) -> Expectation {
    let listed = |service: &Service| match sort {
        Sort::Ssh => service.to_string() == "tcp/22",
        Sort::Ping => service.to_string() == "ping",
        Sort::Web | Sort::Answer | Sort::Discard => false,
    };
    let passes = match &policy.allow {
        Allow::All => true,
        Allow::Replies => sort == Sort::Answer,
        Allow::None => false,
        Allow::Services(services) => sort == Sort::Answer || services.iter().any(listed),
    };
    match policy.chain.is_some() && sort == Sort::Discard || !passes {
        true => Expectation::Dropped,
        false => Expectation::Passes,
    }
}

fn into(policy: &Policy, sort: Sort) -> Expectation {
    let shut = policy.allow == Allow::None || policy.chain.is_some() && sort == Sort::Discard;
    if shut {
        Expectation::Dropped
    } else {
        Expectation::Passes
    }
}

/// What it lets out to the gateway itself, which the daemon opens or not.
fn to_gateway(policy: &Policy, opened: bool, sort: Sort) -> Expectation {
    let open = match policy.host_access {
        GatewayAccess::Yes => true,
        GatewayAccess::No => false,
        GatewayAccess::Auto => opened,
    };
    let discarded = policy.chain.is_some() && sort == Sort::Discard;
    match (open, policy.host_access, &policy.allow) {
        _ if discarded => Expectation::Dropped,
        (true, ..) => out_of(policy, sort),
        (false, GatewayAccess::Auto, Allow::All) => Expectation::Left,
        (false, _, allow) => match sort == Sort::Answer && *allow != Allow::None {
            true => Expectation::Passes,
            false => Expectation::Dropped,
        },
    }
}

fn from_gateway(policy: &Policy, opened: bool, sort: Sort) -> Expectation {
    let open = match policy.host_access {
        GatewayAccess::Yes => true,
        GatewayAccess::No => false,
        GatewayAccess::Auto => opened,
    };
    match into(policy, sort) {
        Expectation::Passes if !open => Expectation::Left,
        verdict_expected @ (Expectation::Passes | Expectation::Dropped | Expectation::Left) => verdict_expected,
    }
}

/// One tunnel and where its packets are from.
struct Side {
    name: &'static str,
    /// An address beyond it, one behind us in its local network, and the gateway's own there.
    remote: &'static str,
    local: &'static str,
    here: &'static str,
    /// The number; none for the interface.
    reqid: Option<u32>,
    /// Whether the daemon opens the gateway.
    opened: bool,
    /// Whether there is a network behind us.
    forwards: bool,
}

#[rustfmt::skip]
const SIDES: [Side; 6] = [
    Side { name: "office", remote: "10.2.0.7", local: "10.1.0.9", here: "10.1.0.1", reqid: Some(1), opened: false, forwards: true },
    Side { name: "open", remote: "10.3.0.7", local: "10.1.0.9", here: "10.1.0.1", reqid: Some(2), opened: true, forwards: true },
    Side { name: "peer", remote: "198.51.100.6", local: "192.0.2.1", here: "192.0.2.1", reqid: Some(6), opened: true, forwards: false },
    Side { name: "vti", remote: "10.7.0.7", local: "10.1.0.9", here: "10.1.0.1", reqid: None, opened: false, forwards: true },
    Side { name: "west", remote: "10.4.0.7", local: "10.1.0.9", here: "10.1.0.1", reqid: Some(4), opened: false, forwards: true },
    Side { name: "east", remote: "10.5.0.7", local: "10.1.0.9", here: "10.1.0.1", reqid: Some(5), opened: false, forwards: true },
];

impl Side {
    fn comes(&self, packet: Packet) -> Packet {
        match self.reqid {
            Some(reqid) => packet.in_by_ipsec("w0", reqid),
            None => packet.in_by("vti1"),
        }
    }

    fn leaves(&self, packet: Packet) -> Packet {
        match self.reqid {
            Some(reqid) => packet.out_by_ipsec("w0", reqid),
            None => packet.out_by("vti1"),
        }
    }
}

/// A gateway with everything up that can be.
struct Stand {
    family: Family,
    file: String,
    world: World,
    up: Vec<&'static Side>,
}

impl Stand {
    fn new(file: &str, family: Family) -> Option<Self> {
        let settings = settings(file, family)?;
        let mut world = gateway(settings, family);
        world.start().unwrap_or_else(|error| panic!("{error}\n{file}"));
        let tunnels = tunnels_of(family);
        let up = SIDES
            .iter()
            .zip(&tunnels)
            .filter(|(_, tunnel)| comes_up(&mut world, tunnel));
        let up = up.map(|(side, _)| side).collect();
        Some(Self {
            family,
            file: file.to_owned(),
            world,
            up,
        })
    }

    fn between(&self, source: &str, destination: &str) -> Packet {
        let [source, destination] = [source, destination].map(|address| in_family(address, self.family));
        Packet::between(&source, &destination)
    }

    fn emulator(&mut self) -> &Emulator {
        self.world.emulator(self.family)
    }

    #[track_caller]
    fn assert_fate(&mut self, packet: &Packet, expected: Expectation) {
        let trace = trace(self.emulator(), packet);
        let is_own = trace
            .decided_by
            .as_ref()
            .is_some_and(|rule| rule.starts_with("-A PLUTO-") || rule.starts_with("-A vpn-in"));
        let verdicts = [
            (Verdict::Accept, Expectation::Passes),
            (Verdict::Drop, Expectation::Dropped),
        ];
        let known = verdicts
            .into_iter()
            .find(|(verdict, _)| is_own && *verdict == trace.verdict);
        let verdict_expected = known.map_or(Expectation::Left, |(_, verdict_expected)| verdict_expected);
        let matched = trace.matched.join("\n");
        if verdict_expected != expected {
            let saved = self.emulator().save();
            panic!(
                "{verdict_expected:?}, not {expected:?}\n{}\n{packet:?}\n{matched}\n{saved}",
                self.file
            );
        }
    }

    /// What each tunnel lets out and in is what its policy says, whatever the administrator's rules behind ours would accept.
    fn tunnels_are_as_set(&mut self) {
        let policy = self.world.settings.tunnel.clone();
        for side in self.up.clone() {
            for sort in SORTS {
                if side.forwards {
                    let packet = sort.of_sort(side.comes(self.between(side.remote, side.local).out_by("lan0")));
                    self.assert_fate(&packet, out_of(&policy, sort));
                    let packet = sort.of_sort(side.leaves(self.between(side.local, side.remote).in_by("lan0")));
                    self.assert_fate(&packet, into(&policy, sort));
                }
                let packet = sort.of_sort(side.comes(self.between(side.remote, side.here).for_gateway()));
                self.assert_fate(&packet, to_gateway(&policy, side.opened, sort));
                let packet = sort.of_sort(side.leaves(self.between(side.here, side.remote).made_here()));
                self.assert_fate(&packet, from_gateway(&policy, side.opened, sort));
            }
        }
    }

    /// A packet passes from spoke to spoke only if both allow it.
    fn both_spokes_agree(&mut self) {
        let policy = self.world.settings.tunnel.clone();
        let spokes = |side: &&&Side| ["west", "east"].contains(&side.name);
        let spokes: Vec<_> = self.up.iter().filter(spokes).copied().collect();
        for (from, to) in spokes.iter().flat_map(|from| spokes.iter().map(move |to| (from, to))) {
            for sort in SORTS.into_iter().filter(|_| from.name != to.name) {
                let packet = sort.of_sort(to.leaves(from.comes(self.between(from.remote, to.remote))));
                let expected = match out_of(&policy, sort) {
                    Expectation::Passes => into(&policy, sort),
                    verdict_expected @ (Expectation::Dropped | Expectation::Left) => verdict_expected,
                };
                self.assert_fate(&packet, expected);
            }
        }
        for from in spokes {
            // A tunnel that is not up, or not ours, is nobody's consent.
            let packet = Sort::Ssh.of_sort(self.between(from.remote, "10.9.0.7").out_by_ipsec("w0", 77));
            let trace = trace(self.world.emulator(self.family), &from.comes(packet));
            assert_ne!(
                (trace.verdict, is_ours(&trace.decided_by)),
                (Verdict::Accept, true),
                "{}",
                self.file
            );
        }
    }

    /// Nothing that comes or leaves unencrypted passes by a tunnel's rule; where networks are blocked it is dropped.
    fn clear_text_is_nobodys(&mut self) {
        let blocked = self.world.settings.tunnel.when_down == WhenDown::Block;
        for side in SIDES.iter() {
            let guarded = blocked && self.up.iter().any(|other| other.name == side.name);
            for sort in SORTS {
                let packets = [
                    self.between(side.remote, side.local).in_by("w0").out_by("lan0"),
                    self.between(side.local, side.remote).in_by("lan0").out_by("w0"),
                    self.between(side.remote, side.here).in_by("w0").for_gateway(),
                    self.between(side.here, side.remote).made_here().out_by("w0"),
                    self.between(side.remote, side.local).in_by("vti9").out_by("lan0"),
                    self.between(side.local, side.remote).in_by("lan0").out_by("vti9"),
                ];
                for packet in packets.map(|packet| sort.of_sort(packet)) {
                    let trace = trace(self.emulator(), &packet);
                    let tunnels = trace.matched.iter().any(|rule| is_tunnels(rule));
                    assert!(!tunnels, "{}\n{packet:?}\n{}", self.file, trace.matched.join("\n"));
                    if guarded && self.world.settings.gateway.place == JumpPlace::First {
                        assert_eq!(trace.verdict, Verdict::Drop, "{}\n{packet:?}", self.file);
                    }
                }
            }
        }
    }

    /// An unencrypted packet that has nothing to do with any tunnel costs what it costs without any, and two or three rules where nothing is
    /// set for the gateway. Where tunnels have an interface of their own, it is asked for once on each side.
    fn clear_text_is_cheap(&mut self) {
        let settings = self.world.settings.clone();
        if settings.tunnel.when_down == WhenDown::Block || settings.gateway.place != JumpPlace::First {
            return;
        }
        let packets = [
            (
                self.between("203.0.113.7", "203.0.113.9").in_by("lan0").out_by("lan1"),
                3,
            ),
            (
                self.between("203.0.113.7", "203.0.113.9").in_by("lan1").for_gateway(),
                2,
            ),
            (self.between("203.0.113.9", "203.0.113.7").made_here().out_by("lan1"), 2),
        ];
        let mut one = gateway(settings.clone(), self.family);
        one.start().expect("a start");
        let is_up = comes_up(&mut one, &tunnels_of(self.family)[1]);
        for (packet, least) in packets {
            let packet = packet.tcp(1, 2);
            // Less the rule of the administrator's.
            let cost = |world: &mut World| trace(world.emulator(self.family), &packet).cost() - 1;
            let (all, one) = (cost(&mut self.world), cost(&mut one));
            // Two rules ask for the class of a tunnel's interface that the packet comes in by, one that it leaves by, one goes on.
            let interface = if self.up.iter().any(|side| side.reqid.is_none()) {
                4
            } else {
                0
            };
            assert!(
                all <= one.max(least) + interface,
                "{}: {all} rules, {one} with one tunnel",
                self.file
            );
            if settings.gateway == Gateway::default() {
                assert!(one == least || !is_up, "{}: {one} rules", self.file);
            }
        }
    }

    /// In the nat table only what is set for it is done to a packet, and what goes through a tunnel is never masqueraded by accident.
    fn addresses_are_as_set(&mut self) {
        let policy = self.world.settings.tunnel.clone();
        for side in self.up.clone().into_iter().filter(|side| side.forwards) {
            let packet = Sort::Web.of_sort(side.leaves(self.between(side.local, side.remote).in_by("lan0")));
            let trace = trace_packet(self.emulator(), &packet);
            let expected = match policy.nat {
                Nat::Leave if side.reqid.is_some() => 1,
                Nat::Address(_) if policy.allow != Allow::None => 1,
                Nat::Leave | Nat::Address(_) | Nat::Exempt | Nat::Masquerade => 0,
            };
            if trace.passes {
                assert_eq!(trace.translations().len(), expected, "{}\n{packet:?}", self.file);
            }
        }
    }

    /// The last `down`, `stop` and `unblock` leave nothing.
    fn nothing_is_left(mut self) {
        for tunnel in tunnels_of(self.family) {
            self.world.down(&tunnel);
        }
        let stopped = self.world.stop().expect("a stop");
        assert_eq!((stopped.installed.tunnels, stopped.installed.gateways), (0, 0));
        let names = |emulator: &Emulator| -> BTreeSet<String> {
            let chains = Kind::ALL.into_iter().flat_map(|kind| emulator.table(kind).chains());
            chains.map(str::to_owned).collect()
        };
        for chain in names(self.emulator()) {
            let of_tunnel = SIDES.iter().any(|side| chain.contains(side.name));
            assert!(!of_tunnel && !chain.contains("GATEWAY"), "{}: {chain}", self.file);
        }
        self.world.unblock(&Blocked::All).expect("an unblock");
        let mut fresh = gateway(self.world.settings.clone(), self.family);
        fresh.stop().expect("a stop");
        let mut fresh = Stand {
            world: fresh,
            up: Vec::new(),
            family: self.family,
            file: String::new(),
        };
        assert_eq!(self.emulator().save(), fresh.emulator().save(), "{}", self.file);
        for kind in Kind::ALL {
            assert_eq!(
                self.emulator().table(kind).save(),
                fresh.emulator().table(kind).save(),
                "{}",
                self.file
            );
        }
        assert!(self.world.is_forgotten(), "{}", self.file);
    }
}

fn is_ours(rule: &Option<String>) -> bool {
    rule.as_ref().is_some_and(|rule| rule.starts_with("-A PLUTO-"))
}

/// Whether a rule is in a tunnel's own chain, or leads there.
fn is_tunnels(rule: &str) -> bool {
    let names = SIDES.iter().any(|side| rule.contains(&format!("PLUTO-{}-", side.name)));
    names || rule.starts_with("-A PLUTO-ONWARD")
}

/// Looks at a part of all files, in both families.
fn look_at(part: usize) {
    const PARTS: usize = 4;
    for (number, file) in files().iter().enumerate().skip(part).step_by(PARTS) {
        // Of what two settings do together one family tells enough, but for some samples.
        let both = number % 3 == 0 || file.lines().count() < 4;
        for family in Family::ALL.into_iter().take(if both { 2 } else { 1 }) {
            let Some(mut stand) = Stand::new(file, family) else {
                continue;
            };
            if stand.world.settings.gateway.place == JumpPlace::First {
                stand.tunnels_are_as_set();
                stand.both_spokes_agree();
            }
            stand.addresses_are_as_set();
            stand.clear_text_is_nobodys();
            stand.clear_text_is_cheap();
            stand.nothing_is_left();
        }
    }
}

#[test]
fn what_must_hold_does_with_every_two_settings_1() {
    look_at(0);
}

#[test]
fn what_must_hold_does_with_every_two_settings_2() {
    look_at(1);
}

#[test]
fn what_must_hold_does_with_every_two_settings_3() {
    look_at(2);
}

#[test]
fn what_must_hold_does_with_every_two_settings_4() {
    look_at(3);
}

#[test]
fn the_files_have_every_value_of_every_setting() {
    let files = files();
    assert!(files.len() > 300, "{}", files.len());
    for setting in TUNNEL.iter().chain(&GATEWAY) {
        for value in setting.iter() {
            assert!(files.iter().any(|file| file.contains(value)), "{value}");
        }
    }
}
