//! The gateway's own rules, which `start` puts in: about packets in clear, to and from the gateway and through it.
//!
//! ```text
//! PLUTO-CLEAR-IN ──▶ PLUTO-GATEWAY-IN    inner-only · bad ICMP · IKE, ESP, AH (▶ PLUTO-KNOWN-IN, PLUTO-E) · only-ipsec (▶ PLUTO-ONLY-IN) · ICMP
//! PLUTO-CLEAR-OUT ─▶ PLUTO-GATEWAY-OUT   the same
//! PLUTO-CLEAR ─────▶ PLUTO-GATEWAY-FWD   inner-only · bad ICMP · IKE, ESP, AH (▶ PLUTO-THROUGH) · only-ipsec · ICMP errors
//! PLUTO-FI ────────▶ PLUTO-ONLY-TO       only-ipsec, for what came out of a tunnel and leaves unencrypted
//! PLUTO-FO ────────▶ PLUTO-ONLY-FROM     only-ipsec, for what arrived unencrypted and goes into a tunnel
//! ```
//!
//! What comes out of a tunnel meets none of the others: there the tunnel's own rules decide.

use std::num::NonZeroU8;

use ipnet::IpNet;

use super::layout::Layout;
use super::path::Path;
use super::shared::{
    NEIGHBOURS, PROTOCOLS, addresses_and_neighbours, clear, clear_here, entrance, ike, ipsec, itself,
    only_beside_tunnels,
};
use super::tree::Shared;
use super::tunnel::asks;
use crate::netfilter::{
    BuiltIn, ChainName, CtState, Direction, InterfaceMatch, Match, Rule, RulePosition, Table, Target,
};
use crate::selector::{DevicePattern, Family, Icmp, Network, PortProtocol, Ports, Protocol, Traffic};
use crate::settings::{Esp, Gateway, IcmpFilter, Ike, JumpPlace, Neighbour, Through};

/// Decides what `start` puts in for packets of a family; nothing, if nothing is set that concerns them and nobody waits for our chains.
#[must_use]
pub fn lay_out_gateway(gateway: &Gateway, family: Family) -> Option<Layout> {
    let part = Part { gateway, family };
    let mut layout = Layout::new(None);
    for way in [Way::In, Way::Out, Way::Through] {
        let rules = part.rules(way);
        if rules.is_empty() {
            continue;
        }
        layout.fill(Table::Filter, &way.chain(), rules);
        for (chain, rules) in part.further(way) {
            layout.fill(Table::Filter, &chain, rules);
        }
        // Behind the tunnels: what comes by a tunnel's device is in clear, to this chain's eyes.
        for (chain, rule) in way.entries() {
            layout.put(Table::Filter, &chain, RulePosition::Tail, rule);
        }
        layout.shared.insert(way.needs());
    }
    part.only_beside_tunnels(&mut layout);
    let is_empty = layout.piece(Table::Filter).is_none_or(|piece| piece.chains.is_empty());
    if !is_empty && gateway.esp == Esp::Negotiated {
        layout.shared.insert(Shared::Peers);
    }
    // Chains that the administrator's own jumps are to lead to must be there for his rules to be loaded.
    let is_awaited = gateway.place == JumpPlace::Own;
    (!is_empty || is_awaited).then_some(layout)
}

/// Which packets a chain of the gateway is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// To the gateway.
    In,
    /// Of the gateway.
    Out,
    /// Through the gateway.
    Through,
}

impl Way {
    fn chain(self) -> ChainName {
        ChainName::literal(match self {
            Self::In => "PLUTO-GATEWAY-IN",
            Self::Out => "PLUTO-GATEWAY-OUT",
            Self::Through => "PLUTO-GATEWAY-FWD",
        })
    }

    /// The rules that lead there, each with the chain that it stands in.
    fn entries(self) -> Vec<(ChainName, Rule)> {
        let last = Rule::always(Target::Jump(self.chain()));
        let here = |direction, built_in| {
            let to_clear = Target::Jump(clear_here(direction));
            vec![
                (entrance(built_in), Rule::when(Match::PolicyNone(direction), to_clear)),
                (clear_here(direction), last.clone()),
            ]
        };
        match self {
            Self::In => here(Direction::In, BuiltIn::Input),
            Self::Out => here(Direction::Out, BuiltIn::Output),
            Self::Through => vec![(clear(), last)],
        }
    }

    fn needs(self) -> Shared {
        match self {
            Self::In | Self::Out => Shared::Apart,
            Self::Through => Shared::Clear,
        }
    }

    /// Which way a packet goes, for whom it goes to or from us.
    fn direction(self) -> Option<Direction> {
        match self {
            Self::In => Some(Direction::In),
            Self::Out => Some(Direction::Out),
            Self::Through => None,
        }
    }
}

fn known(direction: Direction) -> ChainName {
    ChainName::literal(match direction {
        Direction::In => "PLUTO-KNOWN-IN",
        Direction::Out => "PLUTO-KNOWN-OUT",
    })
}

fn only(direction: Direction) -> ChainName {
    ChainName::literal(match direction {
        Direction::In => "PLUTO-ONLY-IN",
        Direction::Out => "PLUTO-ONLY-OUT",
    })
}

fn through() -> ChainName {
    ChainName::literal("PLUTO-THROUGH")
}

/// Types that the chapter's expert calls without use: redirects, router advertisement and selection, information and address mask, requests
/// and replies. RFC 792, RFC 950, RFC 1256.
const WITHOUT_USE: [u8; 7] = [5, 9, 10, 15, 16, 17, 18];

/// The same of ICMPv6: redirects (RFC 4861), renumbering of routers (RFC 2894), questions about a node and answers (RFC 4620).
const WITHOUT_USE_V6: [u8; 4] = [137, 138, 139, 140];

/// Echo, and the errors without which connections hang: unreachable (its code 4 tells of the path MTU), time exceeded, parameter problem.
const NEEDED: [u8; 5] = [0, 8, 3, 11, 12];

/// The same of ICMPv6 (RFC 4443), where packet too big is a type of its own.
const NEEDED_V6: [u8; 6] = [128, 129, 1, 2, 3, 4];

/// The gateway's settings, for one family.
#[derive(Debug, Clone, Copy)]
struct Part<'a> {
    gateway: &'a Gateway,
    family: Family,
}

impl Part<'_> {
    /// The rules of a way, in the order in which they are asked.
    ///
    /// What is accepted only out of a tunnel comes first: nothing that follows accepts it, nor any rule behind our jump, whatever the table
    /// of connections says. Useless ICMP goes before anything can let it through. IKE and ESP must be decided before all else is
    /// refused to a neighbour with whom only these are spoken; and ICMP is let in behind that, or such a neighbour could be pinged in
    /// clear.
    fn rules(self, way: Way) -> Vec<Rule> {
        let mut rules = self.inner_only(way);
        let only_ipsec = self.only_ipsec(way);
        if let (Some(direction), false) = (way.direction(), rules.is_empty() && only_ipsec.is_empty()) {
            // What the machine says to itself never was in a tunnel, and cannot be.
            rules.insert(0, Rule::when(itself(direction), Target::Return));
        }
        rules.extend(self.useless_icmp(way));
        rules.extend(match way.direction() {
            Some(direction) => self.ipsec_here(direction),
            None => self.ipsec_through(),
        });
        rules.extend(only_ipsec);
        rules.extend(self.needed_icmp(way));
        rules
    }

    /// The chains that these lead to.
    fn further(self, way: Way) -> Vec<(ChainName, Vec<Rule>)> {
        match way.direction() {
            Some(direction) => self.known(direction).into_iter().chain(self.only(direction)).collect(),
            None => self.listed().into_iter().collect(),
        }
    }

    fn kind(self, direction: Direction, traffic: Traffic) -> Match {
        Match::Traffic(direction, self.family, traffic)
    }

    fn icmp(self, kind: u8) -> Match {
        self.kind(Direction::In, Traffic::Icmp(Icmp::Type(kind)))
    }

    fn inner_only(self, way: Way) -> Vec<Rule> {
        let services = &self.gateway.inner_only;
        let kinds = services.iter().flat_map(|service| service.traffic(self.family));
        let matches = kinds.map(|traffic| match way {
            Way::In => self.kind(Direction::In, traffic),
            Way::Out => self.kind(Direction::Out, traffic),
            // To whichever side of us the service is.
            Way::Through => self.kind(Direction::In, traffic),
        });
        matches.map(|matched| Rule::when(matched, Target::Drop)).collect()
    }

    fn useless_icmp(self, way: Way) -> Vec<Rule> {
        let kinds: &[u8] = match (self.gateway.icmp, way, self.family) {
            // What the gateway says itself is its own affair.
            (IcmpFilter::Leave, _, _) | (IcmpFilter::Safe, Way::Out, _) => &[],
            (IcmpFilter::Safe, _, Family::Ipv4) => &WITHOUT_USE,
            (IcmpFilter::Safe, _, Family::Ipv6) => &WITHOUT_USE_V6,
        };
        kinds
            .iter()
            .map(|kind| Rule::when(self.icmp(*kind), Target::Drop))
            .collect()
    }

    /// To and from the gateway everything that is needed passes. Through it only errors about connections that passed pass: whether the
    /// machines behind it may be pinged is for other rules.
    fn needed_icmp(self, way: Way) -> Vec<Rule> {
        if self.gateway.icmp == IcmpFilter::Leave {
            return Vec::new();
        }
        let kinds = match self.family {
            Family::Ipv4 => &NEEDED[..],
            Family::Ipv6 => &NEEDED_V6,
        };
        let neighbours = match self.family {
            Family::Ipv4 => &[][..],
            Family::Ipv6 => &NEIGHBOURS,
        };
        match way {
            Way::In | Way::Out => {
                let kinds = kinds.iter().chain(neighbours);
                kinds.map(|kind| Rule::when(self.icmp(*kind), Target::Accept)).collect()
            }
            Way::Through => {
                let errors = NonZeroU8::new(Protocol::icmp(self.family))
                    .map(|number| self.kind(Direction::In, Traffic::Protocol(Protocol(number))));
                let rule = errors.map(|errors| Rule {
                    matches: vec![errors, Match::CtState(CtState::Related)],
                    target: Target::Accept,
                });
                rule.into_iter().collect()
            }
        }
    }

    /// IKE, ESP and AH to or from the gateway. What is not accepted is dropped there, and so counted.
    fn ipsec_here(self, direction: Direction) -> Vec<Rule> {
        let ike = match self.gateway.ike {
            Ike::Leave => None,
            Ike::Any => Some(vec![Target::Accept]),
            Ike::Known => Some(vec![Target::Jump(known(direction))]),
        };
        let esp = match (self.gateway.esp, direction) {
            (Esp::Leave, _) => None,
            // Nothing but the kernel makes ESP here, and only for tunnels that are up.
            (Esp::Any, _) | (Esp::Negotiated, Direction::Out) => Some(vec![Target::Accept]),
            (Esp::Known, _) => Some(vec![Target::Jump(known(direction))]),
            (Esp::Negotiated, Direction::In) => Some(vec![Target::Jump(Path::Peer.dispatcher()), Target::Drop]),
        };
        let protocols = PROTOCOLS.into_iter().flat_map(NonZeroU8::new);
        let protocols = protocols.map(|number| vec![self.kind(direction, Traffic::Protocol(Protocol(number)))]);
        let mut rules = with_each(self::ike(direction, self.family), ike.unwrap_or_default());
        rules.extend(with_each(protocols, esp.unwrap_or_default()));
        rules
    }

    /// The known gateways. Everything else that is sent here is dropped.
    fn known(self, direction: Direction) -> Option<(ChainName, Vec<Rule>)> {
        if self.gateway.ike != Ike::Known && self.gateway.esp != Esp::Known {
            return None;
        }
        let peers = self.of_family(&self.gateway.peers);
        let accepted = peers.map(|peer| when(at(direction, peer), Target::Accept));
        Some((known(direction), accepted.chain([Rule::always(Target::Drop)]).collect()))
    }

    /// IPsec of other machines. Whoever answers from the ports of IKE is let through only on a connection that was asked for, or every
    /// machine behind us could be reached from these ports.
    fn ipsec_through(self) -> Vec<Rule> {
        let target = match &self.gateway.through {
            Through::Leave => return Vec::new(),
            Through::Allow => Target::Accept,
            Through::Deny => Target::Drop,
            Through::Listed(_) => Target::Jump(through()),
        };
        let ports = [
            (PortProtocol::Udp, 500),
            (PortProtocol::Udp, 4500),
            (PortProtocol::Tcp, 4500),
        ];
        let asked = ports.map(|(protocol, port)| {
            let (my, peer) = (Ports::single(port), Ports::Any);
            vec![self.kind(Direction::In, Traffic::Ports { protocol, my, peer })]
        });
        let answered = ports.map(|(protocol, port)| {
            let (my, peer) = (Ports::Any, Ports::single(port));
            let kind = self.kind(Direction::In, Traffic::Ports { protocol, my, peer });
            vec![kind, Match::CtState(CtState::Reply)]
        });
        let protocols = PROTOCOLS.into_iter().flat_map(NonZeroU8::new);
        let protocols = protocols.map(|number| vec![self.kind(Direction::In, Traffic::Protocol(Protocol(number)))]);
        with_each(asked.into_iter().chain(answered).chain(protocols), vec![target])
    }

    fn listed(self) -> Option<(ChainName, Vec<Rule>)> {
        let machines = match &self.gateway.through {
            Through::Listed(machines) => machines,
            Through::Allow | Through::Deny | Through::Leave => return None,
        };
        let both = self.of_family(machines).flat_map(|machine| {
            [Direction::In, Direction::Out].map(|direction| when(at(direction, machine), Target::Accept))
        });
        Some((through(), both.chain([Rule::always(Target::Drop)]).collect()))
    }

    /// Those with whom nothing but IPsec is spoken. IPsec of machines behind us has been decided by then.
    fn only_ipsec(self, way: Way) -> Vec<Rule> {
        let neighbours = self.gateway.only_ipsec.iter();
        let neighbours = neighbours.filter(|neighbour| self.concerns(neighbour));
        let directions: &[Direction] = match way {
            Way::In => &[Direction::In],
            Way::Out => &[Direction::Out],
            Way::Through => &[Direction::In, Direction::Out],
        };
        let target = way
            .direction()
            .map_or(Target::Drop, |direction| Target::Jump(only(direction)));
        let rules = neighbours.flat_map(|neighbour| {
            directions
                .iter()
                .map(|direction| when(beside(neighbour, *direction), target.clone()))
        });
        let rules: Vec<_> = rules.collect();
        // What other rules may let through is IPsec, too.
        let undecided = way == Way::Through && self.gateway.through == Through::Leave && !rules.is_empty();
        let passed = if undecided { self.pass_ipsec() } else { Vec::new() };
        passed.into_iter().chain(rules).collect()
    }

    /// Leaves IPsec of machines behind us to other rules, before everything else from or to a neighbour is dropped.
    fn pass_ipsec(self) -> Vec<Rule> {
        let left = Gateway {
            through: Through::Deny,
            ..Gateway::default()
        };
        let part = Part {
            gateway: &left,
            family: self.family,
        };
        let mut rules = part.ipsec_through();
        for rule in &mut rules {
            rule.target = Target::Return;
        }
        rules
    }

    /// Drops what arrived unencrypted from such a neighbour and goes into a tunnel, and what came out of a tunnel and would go on to such a
    /// neighbour unencrypted.
    ///
    /// At the head of the tunnels' dispatchers: behind them every tunnel's ACCEPT, and every chain of the administrator's, would come first.
    /// IPsec of other machines is not unencrypted; whether it passes is for the tunnel to decide. Interfaces of tunnels are exempt, as
    /// `Shared::Apart` lists them in these chains: a pattern such as `+` covers them too.
    fn only_beside_tunnels(self, layout: &mut Layout) {
        let neighbours = || {
            self.gateway
                .only_ipsec
                .iter()
                .filter(|neighbour| self.concerns(neighbour))
        };
        if neighbours().next().is_none() {
            return;
        }
        for (unencrypted, tunnels) in [(Direction::In, Path::ForwardOut), (Direction::Out, Path::ForwardIn)] {
            let chain = only_beside_tunnels(unencrypted);
            let dropped = neighbours().map(|neighbour| when(beside(neighbour, unencrypted), Target::Drop));
            for rule in self.pass_ipsec().into_iter().chain(dropped) {
                layout.put(Table::Filter, &chain, RulePosition::Tail, rule);
            }
            let entry = Rule::when(Match::PolicyNone(unencrypted), Target::Jump(chain));
            layout.put(Table::Filter, &tunnels.dispatcher(), RulePosition::Head, entry);
        }
        layout.shared.insert(Shared::Apart);
    }

    /// What is spoken with them all the same. IKE and ESP come here only where they are left to other rules.
    fn only(self, direction: Direction) -> Option<(ChainName, Vec<Rule>)> {
        let mut neighbours = self.gateway.only_ipsec.iter();
        neighbours.find(|neighbour| self.concerns(neighbour))?;
        let left = with_each(ipsec(direction, self.family), vec![Target::Return]);
        let kept = with_each(addresses_and_neighbours(direction, self.family), vec![Target::Accept]);
        let rules = left.into_iter().chain(kept).chain([Rule::always(Target::Drop)]);
        Some((only(direction), rules.collect()))
    }

    fn concerns(self, neighbour: &Neighbour) -> bool {
        match neighbour {
            Neighbour::Device(_) => true,
            Neighbour::Peer(network) => Network::Prefix(*network).family() == self.family,
        }
    }

    fn of_family(self, networks: &[IpNet]) -> impl Iterator<Item = IpNet> {
        networks
            .iter()
            .copied()
            .filter(move |network| Network::Prefix(*network).family() == self.family)
    }
}

/// A rule with each of these verdicts, for each of these conditions.
fn with_each(conditions: impl IntoIterator<Item = Vec<Match>>, targets: Vec<Target>) -> Vec<Rule> {
    let conditions = conditions.into_iter();
    let rules = conditions.flat_map(|matches| {
        let targets = targets.iter().cloned();
        targets
            .map(|target| Rule {
                matches: matches.clone(),
                target,
            })
            .collect::<Vec<_>>()
    });
    rules.collect()
}

/// A rule with this match, or without any where it matches every packet, as 0.0.0.0/0 does.
fn when(matched: Match, target: Target) -> Rule {
    let matches = std::iter::once(matched).filter(asks).collect();
    Rule { matches, target }
}

/// Packets from this network, or to it.
fn at(direction: Direction, network: IpNet) -> Match {
    match direction {
        Direction::In => Match::Source(Network::Prefix(network)),
        Direction::Out => Match::Destination(Network::Prefix(network)),
    }
}

fn beside(neighbour: &Neighbour, direction: Direction) -> Match {
    let device = |pattern: &DevicePattern| InterfaceMatch::Pattern(pattern.clone());
    match (neighbour, direction) {
        (Neighbour::Peer(network), direction) => at(direction, *network),
        (Neighbour::Device(pattern), Direction::In) => Match::In(device(pattern)),
        (Neighbour::Device(pattern), Direction::Out) => Match::Out(device(pattern)),
    }
}
