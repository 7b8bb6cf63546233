//! What one tunnel puts into the firewall.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::identity::TunnelId;
use super::piece::Piece;
use super::tree::{Block, Node, Path};
use crate::contract::{Attachment, Compression, HostAccess, Scope, Tunnel};
use crate::netfilter::{ChainName, Comment, Direction, InterfaceMatch, Match, PREFIX, PolicyMatch, Rule, Verdict};
use crate::rtnetlink::XfrmInterface;
use crate::selector::{Device, Family, Network, Protocol, Traffic};

/// All that a tunnel puts in: what is its own, and the shared parts of the tree that it needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layout {
    /// Its chains and their rules, and the rules in the blocks that lead to them.
    pub piece: Piece,
    /// The blocks that it hangs in.
    pub blocks: BTreeSet<Block>,
    /// Its device, if it is known by one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<Device>,
}

impl Layout {
    /// Every shared part that must stand for this tunnel, in the order in which they are put in.
    #[must_use]
    pub fn nodes(&self) -> BTreeSet<Node> {
        let mut nodes: BTreeSet<_> = self.blocks.iter().copied().map(Node::Block).collect();
        nodes.insert(Node::Base);
        if let Some(device) = &self.device {
            nodes.insert(Node::Devices);
            nodes.insert(Node::Class(device.class()));
            nodes.insert(Node::Device(device.clone()));
        }
        nodes
    }

    /// Hangs a chain with one rule into the block of the far network.
    fn hang(&mut self, path: Path, chain: &ChainName, far: Network, conditions: Vec<Match>, rule: Rule) {
        let block = Block::of(path, &far);
        self.piece.chain(chain);
        self.piece.tail(chain, rule);
        self.piece.head(
            &block.chain(),
            Rule {
                matches: conditions,
                verdict: Verdict::Jump(chain.clone()),
            },
        );
        self.blocks.insert(block);
    }
}

/// Decides what a tunnel opens: what strongSwan's `_updown iptables` opens for the same call, less what that gets wrong.
///
/// - A host tunnel: between the gateway and the far network, both ways.
/// - A client tunnel: between the two networks, through the gateway, both ways; and where the gateway has an address inside
///   the tunnel (`leftsourceip=`, virtual addresses) or `hostaccess=yes`, also to and from the gateway.
/// - IPComp: packets too small to be worth compressing, which arrive as IP in IP from the peer.
///
/// Every rule names both networks as well as the reqid or the device: reqids begin again at the same number with every
/// pluto and are used again by charon, so that a number alone would let a stranger in. `interfaces` are the XFRM interfaces there
/// are, for tunnels whose daemon tells the number of one.
#[must_use]
pub fn lay_out(tunnel: &Tunnel, id: &TunnelId, interfaces: &[XfrmInterface]) -> Layout {
    let exit = exit(tunnel, interfaces);
    let mut layout = Layout {
        piece: Piece::default(),
        blocks: BTreeSet::new(),
        device: exit.cloned(),
    };
    for path in paths(tunnel) {
        let chain = chain(id, path.tag());
        let rule = Rule {
            matches: allowance(tunnel, path.direction()),
            verdict: path.allowed(),
        };
        layout.hang(path, &chain, tunnel.peer_client, conditions(tunnel, path, exit), rule);
    }
    if let Some((me, peer)) = compressed_between(tunnel) {
        let rule = Rule {
            matches: note(tunnel).into_iter().collect(),
            verdict: Verdict::Accept,
        };
        let conditions = compressed(tunnel, me, peer);
        layout.hang(Path::Input, &chain(id, "C"), Network::host(peer), conditions, rule);
    }
    layout
}

/// The paths that a tunnel opens.
fn paths(tunnel: &Tunnel) -> Vec<Path> {
    let to_gateway = [Path::Input, Path::Output];
    let through_gateway = [Path::ForwardIn, Path::ForwardOut];
    match tunnel.scope {
        Scope::Host => to_gateway.to_vec(),
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
                HostAccess::Asked | HostAccess::NotAsked => paths.extend(to_gateway),
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
fn conditions(tunnel: &Tunnel, path: Path, exit: Option<&Device>) -> Vec<Match> {
    let mut matches: Vec<_> = [path.far(tunnel.peer_client), path.near(tunnel.my_client)]
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

/// What of a tunnel's packets its own chain allows.
///
/// The narrowing holds inbound too: by its manual libreswan's protocol and port filter what goes out, and leave what comes in to
/// the firewall.
fn allowance(tunnel: &Tunnel, direction: Direction) -> Vec<Match> {
    let traffic = match &tunnel.traffic {
        Traffic::Any => None,
        narrowed @ (Traffic::Protocol(_) | Traffic::Ports { .. } | Traffic::Icmp(_)) => {
            Some(Match::Traffic(direction, tunnel.family(), narrowed.clone()))
        }
    };
    traffic.into_iter().chain(note(tunnel)).collect()
}

/// The connection's full name, for whoever reads the rules.
fn note(tunnel: &Tunnel) -> Option<Match> {
    Comment::try_from(tunnel.connection.comment()).ok().map(Match::Comment)
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
