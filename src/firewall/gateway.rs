//! The gateway's own rules, which `start` installs: for unencrypted packets to and from the
//! gateway, and forwarded ones.
//!
//! ```text
//! PLUTO-CLEAR-IN ──▶ PLUTO-GATEWAY-IN    inner-only · bad ICMP · IKE, ESP, AH (▶ PLUTO-KNOWN-IN, PLUTO-E) · only-ipsec (▶ PLUTO-ONLY-IN) · ICMP
//! PLUTO-CLEAR-OUT ─▶ PLUTO-GATEWAY-OUT   the same
//! PLUTO-CLEAR ─────▶ PLUTO-GATEWAY-FWD   inner-only · bad ICMP · IKE, ESP, AH (▶ PLUTO-THROUGH) · only-ipsec · ICMP errors
//! PLUTO-FI ────────▶ PLUTO-ONLY-TO       only-ipsec, for what came out of a tunnel and leaves unencrypted
//! PLUTO-FO ────────▶ PLUTO-ONLY-FROM     only-ipsec, for what arrived unencrypted and goes into a tunnel
//! ```
//!
//! Packets out of a tunnel meet none of the other rules: the tunnel's own rules decide.

use std::num::NonZeroU8;

use ipnet::IpNet;

use super::base_chains::{
    ESP_AND_AH, NDP_TYPES, base_chain, dhcp_and_ndp, ike_traffic, ipsec_traffic, loopback_match, only_beside_tunnels,
    unencrypted_chain, unencrypted_gateway_chain,
};
use super::dispatch::OptionalChains;
use super::tunnel::{PacketPath, TunnelRules, excludes_packets};
use crate::net::{Family, Icmp, InterfacePattern, Network, PortProtocol, Ports, Protocol, Traffic};
use crate::netfilter::{
    BuiltIn, ChainName, CtState, Direction, InterfaceMatch, Match, Rule, RulePosition, Table, Target,
};
use crate::settings::{Esp, Gateway, IcmpFilter, Ike, IpsecOnlyScope, JumpPlace, Through};

/// Decides the rules that `start` installs for a family; `None` if no setting concerns it and no
/// jump of the administrator's needs the chains.
#[must_use]
pub(crate) fn gateway_rules(gateway: &Gateway, family: Family) -> Option<TunnelRules> {
    let part = GatewayRules { gateway, family };
    let mut tunnel_rules = TunnelRules::new(None, None);
    for path in [GatewayPath::In, GatewayPath::Out, GatewayPath::Forward] {
        let rules = part.rules(path);
        if rules.is_empty() {
            continue;
        }
        tunnel_rules.add_chain(Table::Filter, &path.chain_name(), rules);
        for (chain, rules) in part.extra_chains(path) {
            tunnel_rules.add_chain(Table::Filter, &chain, rules);
        }
        // After the tunnels, because this chain would take packets of a tunnel's interface for
        // unencrypted.
        for (chain, rule) in path.entry_rules() {
            tunnel_rules.add_rule(Table::Filter, &chain, RulePosition::Tail, rule);
        }
        tunnel_rules.optional.insert(path.required_chains());
    }
    part.only_beside_tunnels(&mut tunnel_rules);
    let is_empty = tunnel_rules
        .fragment(Table::Filter)
        .is_none_or(|fragment| fragment.chains.is_empty());
    if !is_empty && gateway.esp == Esp::Negotiated {
        tunnel_rules.optional.insert(OptionalChains::EspPeers);
    }
    // Chains that the administrator's own jumps are to lead to must be there for his rules to be
    // loaded.
    let is_awaited = gateway.place == JumpPlace::Own;
    (!is_empty || is_awaited).then_some(tunnel_rules)
}

/// The key of `[gateway]` that a rule is there for: the one that brings it when it is set alone.
/// None, if none of these settings does.
#[must_use]
pub(crate) fn gateway_key(gateway: &Gateway, family: Family, chain: &ChainName, rule: &Rule) -> Option<&'static str> {
    let Gateway {
        ike,
        esp,
        peers,
        through,
        only_ipsec,
        icmp,
        inner_only,
        ..
    } = gateway.clone();
    let none = Gateway::default;
    let alone = [
        ("inner-only", Gateway { inner_only, ..none() }),
        ("icmp", Gateway { icmp, ..none() }),
        (
            "ike",
            Gateway {
                ike,
                peers: peers.clone(),
                ..none()
            },
        ),
        ("esp", Gateway { esp, peers, ..none() }),
        ("through", Gateway { through, ..none() }),
        ("only-ipsec", Gateway { only_ipsec, ..none() }),
    ];
    let brings =
        |gateway: &Gateway| gateway_rules(gateway, family).is_some_and(|rules| rules.contains_rule(chain, rule));
    alone
        .into_iter()
        .find(|(_, gateway)| brings(gateway))
        .map(|(key, _)| key)
}

/// The packets that a chain of the gateway's rules is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum GatewayPath {
    /// To the gateway.
    In,
    /// Of the gateway.
    Out,
    /// Through the gateway.
    Forward,
}

impl GatewayPath {
    fn chain_name(self) -> ChainName {
        ChainName::literal(match self {
            Self::In => "PLUTO-GATEWAY-IN",
            Self::Out => "PLUTO-GATEWAY-OUT",
            Self::Forward => "PLUTO-GATEWAY-FWD",
        })
    }

    /// The jumps to this path's chain, each with the chain that it is in.
    fn entry_rules(self) -> Vec<(ChainName, Rule)> {
        let last = Rule::always(Target::Jump(self.chain_name()));
        let here = |direction, built_in| {
            let to_unencrypted = Target::Jump(unencrypted_gateway_chain(direction));
            vec![
                (
                    base_chain(built_in),
                    Rule::when(Match::PolicyNone(direction), to_unencrypted),
                ),
                (unencrypted_gateway_chain(direction), last.clone()),
            ]
        };
        match self {
            Self::In => here(Direction::In, BuiltIn::Input),
            Self::Out => here(Direction::Out, BuiltIn::Output),
            Self::Forward => vec![(unencrypted_chain(), last)],
        }
    }

    fn required_chains(self) -> OptionalChains {
        match self {
            Self::In | Self::Out => OptionalChains::ClearTextEntry,
            Self::Forward => OptionalChains::Unencrypted,
        }
    }

    /// The direction of packets to or from the gateway itself; `None` for forwarded ones.
    fn direction(self) -> Option<Direction> {
        match self {
            Self::In => Some(Direction::In),
            Self::Out => Some(Direction::Out),
            Self::Forward => None,
        }
    }
}

fn known_chain(direction: Direction) -> ChainName {
    ChainName::literal(match direction {
        Direction::In => "PLUTO-KNOWN-IN",
        Direction::Out => "PLUTO-KNOWN-OUT",
    })
}

fn ipsec_only_chain(direction: Direction) -> ChainName {
    ChainName::literal(match direction {
        Direction::In => "PLUTO-ONLY-IN",
        Direction::Out => "PLUTO-ONLY-OUT",
    })
}

fn forward_ipsec_chain() -> ChainName {
    ChainName::literal("PLUTO-THROUGH")
}

/// Types that the chapter's expert calls without use: redirects, router advertisement and
/// selection, information and address mask, requests and replies. RFC 792, RFC 950, RFC 1256.
const USELESS_ICMP: [u8; 7] = [5, 9, 10, 15, 16, 17, 18];

/// The same of ICMPv6: redirects (RFC 4861), renumbering of routers (RFC 2894), questions about a
/// node and answers (RFC 4620).
const USELESS_ICMPV6: [u8; 4] = [137, 138, 139, 140];

/// Echo, and the errors without which connections hang: unreachable (code 4 reports the path MTU),
/// time exceeded, parameter problem.
const NEEDED_ICMP: [u8; 5] = [0, 8, 3, 11, 12];

/// The same of ICMPv6 (RFC 4443), where packet too big is a type of its own.
const NEEDED_ICMPV6: [u8; 6] = [128, 129, 1, 2, 3, 4];

/// The gateway's settings, for one family.
#[derive(Debug, Clone, Copy)]
struct GatewayRules<'a> {
    gateway: &'a Gateway,
    family: Family,
}

impl GatewayRules<'_> {
    /// The rules of a path, in order.
    ///
    /// The order matters for security. The drops for traffic that is accepted only out of a tunnel
    /// (`inner-only`) come first: no rule after them, and none after this program's jump, may
    /// accept it, whatever its conntrack state. The drops of useless ICMP come before any rule that
    /// could accept it. IKE and ESP are decided before all other traffic with an `only-ipsec`
    /// neighbour is dropped. The ICMP accepts come after that, or such a neighbour could be pinged
    /// unencrypted.
    fn rules(self, path: GatewayPath) -> Vec<Rule> {
        let mut rules = self.inner_only(path);
        let only_ipsec = self.only_ipsec(path);
        if let (Some(direction), false) = (path.direction(), rules.is_empty() && only_ipsec.is_empty()) {
            // Loopback packets never were in a tunnel, and cannot be.
            rules.insert(0, Rule::when(loopback_match(direction), Target::Return));
        }
        rules.extend(self.useless_icmp(path));
        rules.extend(match path.direction() {
            Some(direction) => self.ipsec_here(direction),
            None => self.ipsec_through(),
        });
        rules.extend(only_ipsec);
        rules.extend(self.needed_icmp(path));
        rules
    }

    /// The chains that these lead to.
    fn extra_chains(self, path: GatewayPath) -> Vec<(ChainName, Vec<Rule>)> {
        match path.direction() {
            Some(direction) => self
                .known_gateways(direction)
                .into_iter()
                .chain(self.ipsec_only_rules(direction))
                .collect(),
            None => self.listed_hosts().into_iter().collect(),
        }
    }

    fn traffic_match(self, direction: Direction, traffic: Traffic) -> Match {
        Match::Traffic(direction, self.family, traffic)
    }

    fn icmp_match(self, kind: u8) -> Match {
        self.traffic_match(Direction::In, Traffic::Icmp(Icmp::Type(kind)))
    }

    fn inner_only(self, path: GatewayPath) -> Vec<Rule> {
        let services = &self.gateway.inner_only;
        let kinds = services.iter().flat_map(|service| service.traffic(self.family));
        let matches = kinds.map(|traffic| match path {
            GatewayPath::In => self.traffic_match(Direction::In, traffic),
            GatewayPath::Out => self.traffic_match(Direction::Out, traffic),
            // The destination port, whichever side the service is on.
            GatewayPath::Forward => self.traffic_match(Direction::In, traffic),
        });
        matches.map(|matched| Rule::when(matched, Target::Drop)).collect()
    }

    fn useless_icmp(self, path: GatewayPath) -> Vec<Rule> {
        let kinds: &[u8] = match (self.gateway.icmp, path, self.family) {
            // Packets of the gateway to itself are not restricted.
            (IcmpFilter::Leave, _, _) | (IcmpFilter::Safe, GatewayPath::Out, _) => &[],
            (IcmpFilter::Safe, _, Family::Ipv4) => &USELESS_ICMP,
            (IcmpFilter::Safe, _, Family::Ipv6) => &USELESS_ICMPV6,
        };
        kinds
            .iter()
            .map(|kind| Rule::when(self.icmp_match(*kind), Target::Drop))
            .collect()
    }

    /// To and from the gateway, all needed ICMP is accepted. Of forwarded ICMP only errors about
    /// existing connections are accepted: other rules decide whether hosts behind the gateway may
    /// be pinged.
    fn needed_icmp(self, path: GatewayPath) -> Vec<Rule> {
        if self.gateway.icmp == IcmpFilter::Leave {
            return Vec::new();
        }
        let kinds = match self.family {
            Family::Ipv4 => &NEEDED_ICMP[..],
            Family::Ipv6 => &NEEDED_ICMPV6,
        };
        let scopes = match self.family {
            Family::Ipv4 => &[][..],
            Family::Ipv6 => &NDP_TYPES,
        };
        match path {
            GatewayPath::In | GatewayPath::Out => {
                let kinds = kinds.iter().chain(scopes);
                kinds
                    .map(|kind| Rule::when(self.icmp_match(*kind), Target::Accept))
                    .collect()
            }
            GatewayPath::Forward => {
                let errors = NonZeroU8::new(Protocol::icmp(self.family))
                    .map(|number| self.traffic_match(Direction::In, Traffic::Protocol(Protocol(number))));
                let rule = errors.map(|errors| Rule {
                    matches: vec![errors, Match::CtState(CtState::Related)],
                    target: Target::Accept,
                });
                rule.into_iter().collect()
            }
        }
    }

    /// IKE, ESP and AH to or from the gateway. What is not accepted is dropped there, and so
    /// counted.
    fn ipsec_here(self, direction: Direction) -> Vec<Rule> {
        let ike = match self.gateway.ike {
            Ike::Leave => None,
            Ike::Any => Some(vec![Target::Accept]),
            Ike::Known => Some(vec![Target::Jump(known_chain(direction))]),
        };
        let esp = match (self.gateway.esp, direction) {
            (Esp::Leave, _) => None,
            // Nothing but the kernel makes ESP here, and only for tunnels that are up.
            (Esp::Any, _) | (Esp::Negotiated, Direction::Out) => Some(vec![Target::Accept]),
            (Esp::Known, _) => Some(vec![Target::Jump(known_chain(direction))]),
            (Esp::Negotiated, Direction::In) => {
                Some(vec![Target::Jump(PacketPath::EspPeer.dispatcher()), Target::Drop])
            }
        };
        let protocols = ESP_AND_AH.into_iter().flat_map(NonZeroU8::new);
        let protocols =
            protocols.map(|number| vec![self.traffic_match(direction, Traffic::Protocol(Protocol(number)))]);
        let mut rules = rules_for_each(self::ike_traffic(direction, self.family), ike.unwrap_or_default());
        rules.extend(rules_for_each(protocols, esp.unwrap_or_default()));
        rules
    }

    /// The known gateways. Everything else that is sent here is dropped.
    fn known_gateways(self, direction: Direction) -> Option<(ChainName, Vec<Rule>)> {
        if self.gateway.ike != Ike::Known && self.gateway.esp != Esp::Known {
            return None;
        }
        let peers = self.networks_in_family(&self.gateway.peers);
        let accepted = peers.map(|peer| rule_with_match(remote_match(direction, peer), Target::Accept));
        Some((
            known_chain(direction),
            accepted.chain([Rule::always(Target::Drop)]).collect(),
        ))
    }

    /// Forwarded IPsec of other machines. Packets from the IKE ports are accepted only as replies
    /// on an existing connection; otherwise every host behind the gateway could be reached from
    /// these ports.
    fn ipsec_through(self) -> Vec<Rule> {
        let target = match &self.gateway.through {
            Through::Leave => return Vec::new(),
            Through::Allow => Target::Accept,
            Through::Deny => Target::Drop,
            Through::Listed(_) => Target::Jump(forward_ipsec_chain()),
        };
        let ports = [
            (PortProtocol::Udp, 500),
            (PortProtocol::Udp, 4500),
            (PortProtocol::Tcp, 4500),
        ];
        let asked = ports.map(|(protocol, port)| {
            let (local, remote) = (Ports::single(port), Ports::Any);
            vec![self.traffic_match(
                Direction::In,
                Traffic::Ports {
                    protocol,
                    local,
                    remote,
                },
            )]
        });
        let answered = ports.map(|(protocol, port)| {
            let (local, remote) = (Ports::Any, Ports::single(port));
            let kind = self.traffic_match(
                Direction::In,
                Traffic::Ports {
                    protocol,
                    local,
                    remote,
                },
            );
            vec![kind, Match::CtState(CtState::Reply)]
        });
        let protocols = ESP_AND_AH.into_iter().flat_map(NonZeroU8::new);
        let protocols =
            protocols.map(|number| vec![self.traffic_match(Direction::In, Traffic::Protocol(Protocol(number)))]);
        rules_for_each(asked.into_iter().chain(answered).chain(protocols), vec![target])
    }

    fn listed_hosts(self) -> Option<(ChainName, Vec<Rule>)> {
        let machines = match &self.gateway.through {
            Through::Listed(machines) => machines,
            Through::Allow | Through::Deny | Through::Leave => return None,
        };
        let both = self.networks_in_family(machines).flat_map(|machine| {
            [Direction::In, Direction::Out]
                .map(|direction| rule_with_match(remote_match(direction, machine), Target::Accept))
        });
        Some((
            forward_ipsec_chain(),
            both.chain([Rule::always(Target::Drop)]).collect(),
        ))
    }

    /// The drops for `only-ipsec` neighbours. IPsec of hosts behind the gateway has been decided by
    /// then.
    fn only_ipsec(self, path: GatewayPath) -> Vec<Rule> {
        let scopes = self.gateway.only_ipsec.iter();
        let scopes = scopes.filter(|scope| self.is_in_family(scope));
        let directions: &[Direction] = match path {
            GatewayPath::In => &[Direction::In],
            GatewayPath::Out => &[Direction::Out],
            GatewayPath::Forward => &[Direction::In, Direction::Out],
        };
        let target = path
            .direction()
            .map_or(Target::Drop, |direction| Target::Jump(ipsec_only_chain(direction)));
        let rules = scopes.flat_map(|scope| {
            directions
                .iter()
                .map(|direction| rule_with_match(scope_match(scope, *direction), target.clone()))
        });
        let rules: Vec<_> = rules.collect();
        // IPsec that is left to other rules is exempt too.
        let undecided = path == GatewayPath::Forward && self.gateway.through == Through::Leave && !rules.is_empty();
        let passed = if undecided { self.pass_ipsec() } else { Vec::new() };
        passed.into_iter().chain(rules).collect()
    }

    /// Leaves IPsec of hosts behind the gateway to other rules, before everything else from or to
    /// an `only-ipsec` neighbour is dropped.
    fn pass_ipsec(self) -> Vec<Rule> {
        let left = Gateway {
            through: Through::Deny,
            ..Gateway::default()
        };
        let part = GatewayRules {
            gateway: &left,
            family: self.family,
        };
        let mut rules = part.ipsec_through();
        for rule in &mut rules {
            rule.target = Target::Return;
        }
        rules
    }

    /// Drops packets that arrived unencrypted from such a neighbour and go into a tunnel, and
    /// packets that came out of a tunnel and would leave unencrypted to such a neighbour.
    ///
    /// At the head of the tunnels' dispatchers: otherwise every tunnel's ACCEPT, and every
    /// administrator's chain, would come first. IPsec of other machines is not unencrypted; the
    /// tunnel decides about it. Interfaces of tunnels are exempt, as
    /// `OptionalChains::ClearTextEntry` lists them in these chains: a pattern such as `+` covers
    /// them too.
    fn only_beside_tunnels(self, tunnel_rules: &mut TunnelRules) {
        let scopes = || self.gateway.only_ipsec.iter().filter(|scope| self.is_in_family(scope));
        if scopes().next().is_none() {
            return;
        }
        for (unencrypted, tunnels) in [
            (Direction::In, PacketPath::ForwardOut),
            (Direction::Out, PacketPath::ForwardIn),
        ] {
            let chain = only_beside_tunnels(unencrypted);
            let dropped = scopes().map(|scope| rule_with_match(scope_match(scope, unencrypted), Target::Drop));
            for rule in self.pass_ipsec().into_iter().chain(dropped) {
                tunnel_rules.add_rule(Table::Filter, &chain, RulePosition::Tail, rule);
            }
            let entry = Rule::when(Match::PolicyNone(unencrypted), Target::Jump(chain));
            tunnel_rules.add_rule(Table::Filter, &tunnels.dispatcher(), RulePosition::Head, entry);
        }
        tunnel_rules.optional.insert(OptionalChains::ClearTextEntry);
    }

    /// The traffic that is allowed with `only-ipsec` neighbours all the same. IKE and ESP reach
    /// this chain only where they are left to other rules.
    fn ipsec_only_rules(self, direction: Direction) -> Option<(ChainName, Vec<Rule>)> {
        let mut scopes = self.gateway.only_ipsec.iter();
        scopes.find(|scope| self.is_in_family(scope))?;
        let left = rules_for_each(ipsec_traffic(direction, self.family), vec![Target::Return]);
        let kept = rules_for_each(dhcp_and_ndp(direction, self.family), vec![Target::Accept]);
        let rules = left.into_iter().chain(kept).chain([Rule::always(Target::Drop)]);
        Some((ipsec_only_chain(direction), rules.collect()))
    }

    fn is_in_family(self, scope: &IpsecOnlyScope) -> bool {
        match scope {
            IpsecOnlyScope::Interface(_) => true,
            IpsecOnlyScope::Peer(network) => Network::Prefix(*network).family() == self.family,
        }
    }

    fn networks_in_family(self, networks: &[IpNet]) -> impl Iterator<Item = IpNet> {
        networks
            .iter()
            .copied()
            .filter(move |network| Network::Prefix(*network).family() == self.family)
    }
}

/// A rule with each of these verdicts, for each of these conditions.
fn rules_for_each(conditions: impl IntoIterator<Item = Vec<Match>>, targets: Vec<Target>) -> Vec<Rule> {
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
fn rule_with_match(matched: Match, target: Target) -> Rule {
    let matches = std::iter::once(matched).filter(excludes_packets).collect();
    Rule { matches, target }
}

/// Packets from this network, or to it.
fn remote_match(direction: Direction, network: IpNet) -> Match {
    match direction {
        Direction::In => Match::Source(Network::Prefix(network)),
        Direction::Out => Match::Destination(Network::Prefix(network)),
    }
}

fn scope_match(scope: &IpsecOnlyScope, direction: Direction) -> Match {
    let interface = |pattern: &InterfacePattern| InterfaceMatch::Pattern(pattern.clone());
    match (scope, direction) {
        (IpsecOnlyScope::Peer(network), direction) => remote_match(direction, *network),
        (IpsecOnlyScope::Interface(pattern), Direction::In) => Match::In(interface(pattern)),
        (IpsecOnlyScope::Interface(pattern), Direction::Out) => Match::Out(interface(pattern)),
    }
}
