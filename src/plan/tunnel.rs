//! What one tunnel puts into the firewall.

use std::net::IpAddr;

use ipnet::IpNet;

use super::identity::TunnelId;
use super::layout::{Layout, OwnChain};
use super::path::Path;
use crate::contract::{Attachment, ClientTranslation, Compression, HostAccess, LogGroup, Scope, Tunnel};
use crate::netfilter::{
    ChainName, Comment, Direction, InterfaceMatch, LogPrefix, LogTarget, Match, PREFIX, PolicyMatch, Rule, Table,
    Verdict,
};
use crate::rtnetlink::XfrmInterface;
use crate::selector::{Device, Family, Network, Protocol, Traffic};

/// Decides what a tunnel opens: what strongSwan's `_updown iptables` opens for the same call, less what that gets wrong.
///
/// - A host tunnel: between the gateway and the far network, both ways.
/// - A client tunnel: between the two networks, through the gateway, both ways; and where the gateway has an address inside
///   the tunnel (`leftsourceip=`, virtual addresses) or `hostaccess=yes`, also to and from the gateway.
/// - IPComp: packets too small to be worth compressing, which arrive as IP in IP from the peer.
///
/// - Client address translation: between our own address, as long as the gateway has the packet in its hands, and the far network; and the
///   translation itself.
/// - A log group: copies of all that comes to one of its chains, and of what it does not open to the gateway itself.
///
/// Every rule names both networks as well as the reqid or the device: reqids begin again at the same number with every
/// pluto and are used again by charon, so that a number alone would let a stranger in. `interfaces` are the XFRM interfaces there
/// are, for tunnels whose daemon tells the number of one.
#[must_use]
pub fn lay_out(tunnel: &Tunnel, id: &TunnelId, interfaces: &[XfrmInterface]) -> Layout {
    let exit = exit(tunnel, interfaces);
    let mut layout = Layout::new(exit.cloned());
    for way in ways(tunnel) {
        layout.hang(OwnChain {
            path: way.path,
            name: chain(id, way.path.tag()),
            far: tunnel.peer_client,
            conditions: conditions(tunnel, &way, exit),
            rules: rules(tunnel, way),
        });
    }
    if let Some((me, peer)) = compressed_between(tunnel) {
        layout.hang(OwnChain {
            path: Path::Input,
            name: chain(id, "C"),
            far: Network::host(peer),
            conditions: compressed(tunnel, me, peer),
            rules: vec![Rule {
                matches: note(tunnel).map(Match::Comment).into_iter().collect(),
                verdict: Verdict::Accept,
            }],
        });
    }
    layout
}

/// A path that a tunnel has a chain on.
#[derive(Debug)]
struct Way {
    path: Path,
    /// Our end of it.
    near: Network,
    /// What becomes of the packets that it allows; nothing, where it only looks at them.
    verdict: Option<Verdict>,
}

impl Way {
    fn open(path: Path, near: Network) -> Self {
        Self {
            path,
            near,
            verdict: Some(path.allowed()),
        }
    }
}

fn ways(tunnel: &Tunnel) -> Vec<Way> {
    let mut ways = match tunnel.translation {
        Some(translation) => translated_ways(translation),
        None => paths(tunnel)
            .into_iter()
            .map(|path| Way::open(path, tunnel.my_client))
            .collect(),
    };
    if tunnel.log_group.is_some() {
        // libreswan's script logs there whether or not anybody is let in.
        for path in TO_GATEWAY {
            if !ways.iter().any(|way| way.path == path) {
                ways.push(Way {
                    path,
                    near: tunnel.my_client,
                    verdict: None,
                });
            }
        }
    }
    ways
}

/// The ways of a tunnel with client address translation. Its own end is the address that the peer gave us, but the filter never sees that:
/// PREROUTING has replaced it before INPUT, and POSTROUTING replaces ours after OUTPUT. Nothing passes through the gateway: libreswan has
/// policies for these two addresses only.
///
/// Only what comes from our own address becomes the other one, and only what this tunnel's policy takes: a policy of another tunnel to the
/// same network has an end of its own.
fn translated_ways(translation: ClientTranslation) -> Vec<Way> {
    let ClientTranslation { assigned, own } = translation;
    let mut ways: Vec<_> = TO_GATEWAY.map(|path| Way::open(path, Network::host(own))).into();
    ways.push(Way {
        path: Path::NatIn,
        near: Network::host(assigned),
        verdict: Some(Verdict::Dnat(own)),
    });
    ways.push(Way {
        path: Path::NatOut,
        near: Network::host(own),
        verdict: Some(Verdict::Snat(assigned)),
    });
    ways
}

/// The paths that end or begin at the gateway itself.
const TO_GATEWAY: [Path; 2] = [Path::Input, Path::Output];

/// The paths that a tunnel opens.
fn paths(tunnel: &Tunnel) -> Vec<Path> {
    let through_gateway = [Path::ForwardIn, Path::ForwardOut];
    match tunnel.scope {
        Scope::Host => TO_GATEWAY.to_vec(),
        Scope::Client => {
            let mut paths = Vec::new();
            // A far network that is nothing but our own address inside the tunnel has nobody behind us to talk to.
            if !tunnel
                .source_addresses
                .iter()
                .any(|address| tunnel.peer_client.is_host(*address))
            {
                paths.extend(through_gateway);
            }
            let has_address_inside = !tunnel.source_addresses.is_empty();
            match tunnel.host_access {
                HostAccess::NotAsked if !has_address_inside => {}
                HostAccess::Asked | HostAccess::NotAsked => paths.extend(TO_GATEWAY),
            }
            paths
        }
    }
}

fn chain(id: &TunnelId, tag: &str) -> ChainName {
    // An id has at most 19 bytes of the same alphabet, so that prefix, dash and tag always fit.
    format!("{PREFIX}{id}-{tag}")
        .parse()
        .unwrap_or_else(|_| Path::Input.dispatcher())
}

/// The device that a tunnel's packets leave by, if that is what they are known by.
fn exit<'a>(tunnel: &'a Tunnel, interfaces: &'a [XfrmInterface]) -> Option<&'a Device> {
    match &tunnel.attachment {
        Attachment::Device(device) => Some(device),
        Attachment::Policy { .. } => {
            let number = tunnel.if_id_out?;
            interfaces
                .iter()
                .find(|interface| interface.if_id == number)
                .map(|interface| &interface.device)
        }
    }
}

/// By what a block knows a tunnel's packets.
fn conditions(tunnel: &Tunnel, way: &Way, exit: Option<&Device>) -> Vec<Match> {
    let path = way.path;
    let mut matches: Vec<_> = [path.far(tunnel.peer_client), path.near(way.near)]
        .into_iter()
        .filter(asks)
        .collect();
    // iptables shows the source first.
    matches.sort_by_key(|matched| !matches!(matched, Match::Source(Network::Prefix(_))));
    matches.push(match (path.direction(), exit) {
        // A policy applies to it only when the device has it already.
        (Direction::Out, Some(device)) => path.device(InterfaceMatch::Device(device.clone())),
        (Direction::Out, None) | (Direction::In, _) => by_attachment(&tunnel.attachment, path),
    });
    matches
}

/// Whether a match on a network asks anything: everything lies in 0.0.0.0/0, and iptables would not show it.
fn asks(matched: &Match) -> bool {
    match matched {
        Match::Source(Network::Prefix(prefix)) | Match::Destination(Network::Prefix(prefix)) => prefix.prefix_len() > 0,
        Match::Source(Network::Range(..))
        | Match::Destination(Network::Range(..))
        | Match::In(_)
        | Match::Out(_)
        | Match::Traffic(..)
        | Match::Policy(_)
        | Match::Comment(_) => true,
    }
}

fn by_attachment(attachment: &Attachment, path: Path) -> Match {
    match attachment {
        Attachment::Device(device) => path.device(InterfaceMatch::Device(device.clone())),
        Attachment::Policy { protocol, reqid } => Match::Policy(PolicyMatch {
            direction: path.direction(),
            reqid: *reqid,
            protocol: *protocol,
        }),
    }
}

/// What a tunnel's own chain does with its packets.
///
/// The log comes first: it has everything that came so far, and what is accepted goes no further. In the nat table there is none, since only
/// the first packet of a connection comes there.
fn rules(tunnel: &Tunnel, way: Way) -> Vec<Rule> {
    let log = match way.path.table() {
        Table::Filter => log(tunnel),
        Table::Nat => None,
    };
    let allowed = way.verdict.map(|verdict| Rule {
        matches: allowance(tunnel, way.path.direction()),
        verdict,
    });
    log.into_iter().chain(allowed).collect()
}

/// What of a tunnel's packets its own chain allows, or translates.
///
/// The narrowing holds inbound too: by its manual libreswan's protocol and port filter what goes out, and leave what comes in to
/// the firewall. It holds for a translation as well: with the peer's address but of another kind a packet would fit no policy any more, and
/// leave in clear.
fn allowance(tunnel: &Tunnel, direction: Direction) -> Vec<Match> {
    let traffic = match &tunnel.traffic {
        Traffic::Any => None,
        narrowed @ (Traffic::Protocol(_) | Traffic::Ports { .. } | Traffic::Icmp(_)) => {
            Some(Match::Traffic(direction, tunnel.family(), narrowed.clone()))
        }
    };
    traffic.into_iter().chain(note(tunnel).map(Match::Comment)).collect()
}

/// The connection's full name, for whoever reads the rules.
fn note(tunnel: &Tunnel) -> Option<Comment> {
    Comment::try_from(tunnel.connection.comment()).ok()
}

/// The rule that gives a copy to whoever listens, marked with the connection's name as libreswan's script marks it.
fn log(tunnel: &Tunnel) -> Option<Rule> {
    let LogGroup(group) = tunnel.log_group?;
    let prefix = LogPrefix::from(&note(tunnel)?);
    Some(Rule::always(Verdict::Log(LogTarget { group, prefix })))
}

/// The two gateways between which a tunnel's packets may arrive as IP in IP.
///
/// Not where the inner family is another than the outer one: those packets belong to the other family's rulebook, and
/// strongSwan's script never let them in either.
fn compressed_between(tunnel: &Tunnel) -> Option<(IpAddr, IpAddr)> {
    let of_this_family = |address: &IpAddr| Family::of(*address) == tunnel.family();
    match tunnel.compression {
        Compression::None => None,
        Compression::Ipcomp => tunnel.me.filter(of_this_family).zip(tunnel.peer.filter(of_this_family)),
    }
}

/// By what a packet of a compressing tunnel is known that was not worth compressing.
///
/// ESP is taken off it, and what remains, IP in IP between the gateways, is received once more before the inner packet appears.
fn compressed(tunnel: &Tunnel, me: IpAddr, peer: IpAddr) -> Vec<Match> {
    let (address, inner) = match tunnel.family() {
        Family::Ipv4 => (IpNet::from(peer), IP_IN_IP),
        Family::Ipv6 => (IpNet::from(peer), IPV6_IN_IP),
    };
    let mut matches = vec![
        Match::Source(Network::Prefix(address)),
        Match::Destination(Network::host(me)),
    ];
    if let Some(number) = std::num::NonZeroU8::new(inner) {
        matches.push(Match::Traffic(
            Direction::In,
            tunnel.family(),
            Traffic::Protocol(Protocol(number)),
        ));
    }
    matches.push(by_attachment(&tunnel.attachment, Path::Input));
    matches
}

/// IPv4 encapsulation, RFC 2003
const IP_IN_IP: u8 = 4;

/// IPv6 encapsulation, RFC 2473
const IPV6_IN_IP: u8 = 41;
