//! The rules of a tunnel's own chains in the filter table.

use std::num::NonZeroU8;

use super::filter_path::{AllowedTraffic, FilterPath, filter_paths};
use super::identity::TunnelId;
use super::refuse::refusing_buckets;
use super::rules::TunnelPart;
use super::{TunnelInput, connection_comment};
use crate::daemon::{LogGroup, Tunnel};
use crate::firewall::dispatch::Precedence;
use crate::net::{Network, Protocol, Traffic};
use crate::netfilter::{
    Comment, CtState, Direction, LogPrefix, Match, NflogPrefix, NflogTarget, Rule, RulePosition, Target,
};
use crate::settings::{Allow, Policy, Service};

/// What a tunnel has in the filter table for its packets: a chain on each path, and the rules that
/// drop what is left.
pub(super) fn filter_parts(input: &TunnelInput<'_>) -> Vec<TunnelPart> {
    let (tunnel, id, policy) = (input.tunnel, input.id, input.context.policy);
    let mut parts = Vec::new();
    for filter_path in filter_paths(tunnel, policy) {
        let rules = filter_rules(tunnel, id, policy, &filter_path);
        let precedence = match filter_path.ends_in_drop() {
            true => Precedence::Restricted,
            false => Precedence::Open,
        };
        let local = filter_path.local;
        parts.push(input.chain(filter_path.path, precedence, local, rules));
        for bucket in refusing_buckets(tunnel, &filter_path) {
            let matches = input.matches(bucket.path, Some(local));
            let rules = log_and_drop(id, policy, matches).into_iter();
            parts.extend(rules.map(|rule| TunnelPart::InBucket(bucket, RulePosition::Tail, rule)));
        }
    }
    parts
}

/// The rules of a tunnel's chain on one path.
///
/// The order matters. The copies for libreswan's log group come first, so that they include packets
/// that later rules accept. The administrator's chain comes next, and decides before this program.
/// A restricted tunnel's chain ends with a DROP: packets that it does not allow must not reach
/// rules that allow more, such as one that accepts everything from a network in which the peer has
/// its address.
fn filter_rules(tunnel: &Tunnel, id: &TunnelId, policy: &Policy, filter_path: &FilterPath) -> Vec<Rule> {
    let copies = nflog_rule(tunnel);
    let user_chain = policy.chain.clone().map(|chain| Rule::always(Target::JumpUser(chain)));
    let log = PacketLogger { id, policy };
    let decide = match &filter_path.allowed {
        AllowedTraffic::Undecided => Vec::new(),
        AllowedTraffic::All => accept_all(tunnel, filter_path, &log),
        AllowedTraffic::Replies => accept_some(tunnel, filter_path, &log, &[]),
        AllowedTraffic::Services(services) => accept_some(tunnel, filter_path, &log, services),
        AllowedTraffic::None => drop_rest(tunnel, filter_path, &log),
    };
    copies.into_iter().chain(user_chain).chain(decide).collect()
}

/// Matches on the protocol and ports of the tunnel's selector, and the connection's comment.
///
/// The protocol and port match applies inbound too: by its manual, libreswan's protocol and port
/// filter outbound packets, and leave inbound ones to the firewall. It applies to translation as
/// well: a translated packet of another protocol or port would match no policy, and leave
/// unencrypted.
pub(crate) fn selector_matches(tunnel: &Tunnel, direction: Direction) -> Vec<Match> {
    let traffic = traffic_match(tunnel, direction, &tunnel.traffic);
    traffic
        .into_iter()
        .chain(connection_comment(tunnel).map(Match::Comment))
        .collect()
}

pub(super) fn traffic_match(tunnel: &Tunnel, direction: Direction, traffic: &Traffic) -> Option<Match> {
    match traffic {
        Traffic::Any => None,
        narrowed @ (Traffic::Protocol(_) | Traffic::Ports { .. } | Traffic::Icmp(_)) => {
            Some(Match::Traffic(direction, tunnel.family(), narrowed.clone()))
        }
    }
}

fn accept_all(tunnel: &Tunnel, filter_path: &FilterPath, log: &PacketLogger<'_>) -> Vec<Rule> {
    let direction = filter_path.path.direction();
    let allowed = Rule {
        matches: selector_matches(tunnel, direction),
        target: filter_path.path.accept_target(),
    };
    log.new_connection(traffic_match(tunnel, direction, &tunnel.traffic))
        .into_iter()
        .chain([allowed])
        .collect()
}

/// Accepts replies, and connections to some services. A service is matched by the original
/// destination port of the connection, because a DNAT rule may have changed the packet's. Every
/// packet of such a connection is accepted, not only the first.
fn accept_some(tunnel: &Tunnel, filter_path: &FilterPath, log: &PacketLogger<'_>, services: &[Service]) -> Vec<Rule> {
    let direction = filter_path.path.direction();
    let mut rules = Vec::new();
    for traffic in offered_traffic(tunnel, services) {
        let kind = service_match(tunnel, traffic);
        rules.extend(log.new_connection(Some(kind.clone())));
        rules.push(Rule {
            matches: vec![kind],
            target: filter_path.path.accept_target_before_drop(),
        });
    }
    let answers = reply_traffic(tunnel, services).into_iter();
    rules.extend(answers.map(|(traffic, state)| {
        Rule {
            matches: traffic_match(tunnel, direction, &traffic)
                .into_iter()
                .chain([Match::CtState(state)])
                .collect(),
            target: filter_path.path.accept_target_before_drop(),
        }
    }));
    rules.extend(drop_rest(tunnel, filter_path, log));
    rules
}

/// The traffic of some services that is within the tunnel's selector.
fn offered_traffic(tunnel: &Tunnel, services: &[Service]) -> Vec<Traffic> {
    let offered = services.iter().flat_map(|service| service.traffic(tunnel.family()));
    offered
        .filter_map(|traffic| traffic.intersect(&tunnel.traffic, tunnel.family()))
        .collect()
}

/// The match on traffic to a service: on the original destination port of the connection, or on the
/// packet itself if the service has no port.
fn service_match(tunnel: &Tunnel, traffic: Traffic) -> Match {
    match &traffic {
        Traffic::Ports { .. } => Match::CtOrig(tunnel.family(), traffic, None),
        Traffic::Any | Traffic::Protocol(_) | Traffic::Icmp(_) => {
            Match::Traffic(Direction::In, tunnel.family(), traffic)
        }
    }
}

/// Exceptions from the drop below `PLUTO-RI` and `PLUTO-RF`: packets out of a restricted tunnel
/// that PREROUTING has redirected and about which the administrator's rules decide. These are
/// services whose original destination is in the local network, and replies. Where the local
/// network is a range of addresses, services are not among them, because conntrack cannot match a
/// range.
pub(crate) fn refusal_exceptions(tunnel: &Tunnel, allow: &Allow) -> Vec<Vec<Match>> {
    let services = match allow {
        Allow::All | Allow::None => return Vec::new(),
        Allow::Replies => &[][..],
        Allow::Services(services) => services,
    };
    let original_destination = match tunnel.local_client {
        Network::Prefix(network) => Some(Some(network).filter(|network| network.prefix_len() > 0)),
        Network::Range(..) => None,
    };
    let offered = original_destination.into_iter().flat_map(|network| {
        let offered = offered_traffic(tunnel, services).into_iter();
        offered.map(move |traffic| vec![Match::CtOrig(tunnel.family(), traffic, network)])
    });
    let answers = reply_traffic(tunnel, services).into_iter();
    let answers = answers.map(|(traffic, state)| {
        let kind = traffic_match(tunnel, Direction::In, &traffic).into_iter();
        kind.chain([Match::CtState(state)]).collect()
    });
    offered.chain(answers).collect()
}

/// The traffic that is allowed besides new connections to services.
///
/// Only packets in reply direction: a connection that the peer opened before the tunnel was
/// restricted must not continue. That covers ICMP errors about packets of connections that the
/// local side opened, because the kernel gives an error the direction of a reply to the packet in
/// it (`nf_conntrack_inet_error`). Errors about replies of a service have the other direction;
/// without them path MTU discovery fails. The peer may open a connection that a helper expects (FTP
/// in active mode): the status EXPECTED distinguishes it, in both directions and as long as it
/// lasts.
fn reply_traffic(tunnel: &Tunnel, services: &[Service]) -> Vec<(Traffic, CtState)> {
    let icmp = NonZeroU8::new(Protocol::icmp(tunnel.family())).map(|number| Traffic::Protocol(Protocol(number)));
    let errors = icmp.and_then(|icmp| icmp.intersect(&tunnel.traffic, tunnel.family()));
    let errors = errors.filter(|_| !services.is_empty());
    let replies = [CtState::Reply, CtState::Expected].map(|state| (tunnel.traffic.clone(), state));
    let errors = errors.map(|icmp| (icmp, CtState::Related));
    replies.into_iter().chain(errors).collect()
}

fn drop_rest(tunnel: &Tunnel, filter_path: &FilterPath, log: &PacketLogger<'_>) -> Vec<Rule> {
    let direction = filter_path.path.direction();
    let dropped = Rule {
        matches: selector_matches(tunnel, direction),
        target: Target::Drop,
    };
    log.denied(traffic_match(tunnel, direction, &tunnel.traffic))
        .into_iter()
        .chain([dropped])
        .collect()
}

/// A rule of one tunnel in a shared chain, with the tunnel's short name as its comment.
///
/// Otherwise, tunnels between the same networks with one reqid would have equal rules there.
/// iptables deletes the first of several equal rules; if that is another tunnel's, the remaining
/// rules are in another order than the record's.
pub(crate) fn named_rule(id: &TunnelId, matches: Vec<Match>, target: Target) -> Rule {
    let name = Comment::try_from(id.to_string()).ok().map(Match::Comment);
    Rule {
        matches: matches.into_iter().chain(name).collect(),
        target,
    }
}

/// The rules that drop the packets with these matches, and log them if `log` says so.
pub(crate) fn log_and_drop(id: &TunnelId, policy: &Policy, matches: Vec<Match>) -> Vec<Rule> {
    let logged = PacketLogger { id, policy }.denied(matches.clone());
    logged
        .into_iter()
        .chain([named_rule(id, matches, Target::Drop)])
        .collect()
}

/// The rule that copies packets to the NFLOG group, with the connection's name as the prefix, as in
/// libreswan's script.
fn nflog_rule(tunnel: &Tunnel) -> Option<Rule> {
    let LogGroup(group) = tunnel.log_group?;
    let prefix = NflogPrefix::from(&connection_comment(tunnel)?);
    Some(Rule::always(Target::Nflog(NflogTarget { group, prefix })))
}

/// Makes a tunnel's LOG rules.
struct PacketLogger<'a> {
    id: &'a TunnelId,
    policy: &'a Policy,
}

impl PacketLogger<'_> {
    fn new_connection(&self, kind: Option<Match>) -> Option<Rule> {
        let matches = kind.into_iter().chain([Match::CtState(CtState::New)]);
        self.policy.log.has_new().then(|| self.rule("new", matches)).flatten()
    }

    fn denied(&self, kind: impl IntoIterator<Item = Match>) -> Option<Rule> {
        self.policy
            .log
            .has_denied()
            .then(|| self.rule("denied", kind))
            .flatten()
    }

    /// Rate limited, since the peer decides how often it is met.
    fn rule(&self, what: &str, matches: impl IntoIterator<Item = Match>) -> Option<Rule> {
        let prefix = LogPrefix::try_from(format!("{} {what}", self.id)).ok()?;
        Some(Rule {
            matches: matches.into_iter().chain([Match::Limit]).collect(),
            target: Target::Log(prefix),
        })
    }
}
