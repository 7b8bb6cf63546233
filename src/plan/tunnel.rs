//! What one tunnel puts into the firewall.

use std::net::IpAddr;
use std::num::NonZeroU16;

use ipnet::IpNet;

use super::allowance;
use super::identity::TunnelId;
use super::layout::{Layout, OwnChain};
use super::nat;
use super::path::Path;
use super::tree::{Block, Shared};
use crate::contract::{Attachment, ClientTranslation, Compression, HostAccess, Scope, Tunnel};
use crate::netfilter::{
    ChainName, Comment, Direction, InterfaceMatch, Match, PREFIX, PolicyMatch, Rule, RulePosition, Target,
};
use crate::rtnetlink::XfrmInterface;
use crate::selector::{Device, Family, Network, Protocol, Traffic};
use crate::settings::{Allow, Esp, GatewayAccess, Mss, Policy, Service};

/// Decides what a tunnel opens: what strongSwan's `_updown iptables` opens for the same call, less what that gets wrong, and less what the
/// administrator has set otherwise.
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
/// pluto and are used again by charon, so that a number alone would let a stranger in.
///
/// # Errors
/// If what is set for it does not go with what it is.
pub fn lay_out(tunnel: &Tunnel, id: &TunnelId, terms: &Terms<'_>) -> Result<Layout, PolicyError> {
    let exit = exit(tunnel, terms.interfaces);
    let mut layout = Layout::new(exit.cloned());
    for way in ways(tunnel, terms.policy) {
        let rules = allowance::rules(tunnel, id, terms.policy, &way);
        open(&mut layout, tunnel, id, way.path, way.near, rules, exit);
        if way.is_restricted() && tunnel.traffic != Traffic::Any {
            shut(&mut layout, tunnel, id, terms.policy, &way, exit);
        }
    }
    if let Some(translation) = tunnel.translation {
        translate(&mut layout, tunnel, id, translation, exit);
    }
    if let Some((me, peer)) = compressed_between(tunnel) {
        layout.hang(OwnChain {
            path: Path::Input,
            name: chain(id, "C"),
            far: Network::host(peer),
            conditions: vec![compressed(tunnel, me, peer)],
            rules: vec![Rule {
                matches: note(tunnel).map(Match::Comment).into_iter().collect(),
                target: Target::Accept,
            }],
        });
    }
    clamp(&mut layout, tunnel, id, terms, exit);
    nat::lay_out(&mut layout, tunnel, id, terms, exit)?;
    if let (Esp::Negotiated, Some(peer)) = (terms.esp, same_family_peer(tunnel)) {
        add_peer(&mut layout, peer);
    }
    Ok(layout)
}

/// What counts for a tunnel besides what its daemon says of it.
#[derive(Debug, Clone, Copy)]
pub struct Terms<'a> {
    /// What the administrator has set for it.
    pub policy: &'a Policy,
    /// Whether ESP and AH of its peer are to be let in for it.
    pub esp: Esp,
    /// Whether there is anything that a tunnel whose addresses are left to other rules has to be led past.
    pub exempting: Exempting,
    /// The XFRM interfaces there are, for tunnels whose daemon tells the number of one.
    pub interfaces: &'a [XfrmInterface],
    /// The largest packet that the path to the peer takes, in bytes, where it is known.
    pub path_mtu: Option<u16>,
}

/// Whether any tunnel can have its packets exempted from NAT.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exempting {
    /// Some can.
    Some,
    /// By the settings none can: the nat table is none of our business then.
    Nobody,
}

/// Why what is set for a tunnel does not go with what the tunnel is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// It is not known which address is to be hidden behind.
    #[error(
        "nat = \"masquerade\": the gateway has no single address of its own in {near}; say which, nat = \"ADDRESS\""
    )]
    NoOwnAddress {
        /// What is behind us by the tunnel's selector.
        near: Network,
    },
    /// Packets from the address would not go into the tunnel.
    #[error("nat = \"{address}\": not an address in {near}, so that nothing from it would go into the tunnel")]
    AddressOutside {
        /// The address.
        address: IpAddr,
        /// What is behind us by the tunnel's selector.
        near: Network,
    },
    /// Its two ends are one network.
    #[error(
        "when-down = \"block\": both networks of the tunnel are {network}; say which are to be held apart, between = [[\"OURS\", \"THEIRS\"]]"
    )]
    NotApart {
        /// The network.
        network: Network,
    },
}

/// The peer of a tunnel, if its ESP is of the family that the packets inside are of. That of another family is in another ruleset.
fn same_family_peer(tunnel: &Tunnel) -> Option<IpAddr> {
    tunnel.peer.filter(|peer| Family::of(*peer) == tunnel.family())
}

/// What lets in ESP and AH of a peer for a tunnel whose packets are of the other family.
#[must_use]
pub fn lay_out_peer(peer: IpAddr) -> Layout {
    let mut layout = Layout::new(None);
    add_peer(&mut layout, peer);
    layout
}

fn add_peer(layout: &mut Layout, peer: IpAddr) {
    layout.blocks.insert(Block::of(Path::Peer, &Network::host(peer)));
    layout.shared.extend([Shared::Peers, Shared::Peer(peer)]);
}

/// Gives a tunnel a chain on a path, and leads its packets there.
fn open(
    layout: &mut Layout,
    tunnel: &Tunnel,
    id: &TunnelId,
    path: Path,
    near: Network,
    rules: Vec<Rule>,
    exit: Option<&Device>,
) {
    layout.hang(OwnChain {
        path,
        name: chain(id, path.tag()),
        far: tunnel.peer_client,
        conditions: vec![conditions(tunnel, path, Some(near), exit)],
        rules,
    });
}

/// Drops what comes by a restricted tunnel and is of a kind that the tunnel was not made for; libreswan's kernel policies do not.
///
/// At the tail of the block: several tunnels between the same networks can bear one number, each for its own ports (strongSwan),
/// and every one of them has been asked by then.
fn shut(layout: &mut Layout, tunnel: &Tunnel, id: &TunnelId, policy: &Policy, way: &Way, exit: Option<&Device>) {
    let matches = conditions(tunnel, way.path, Some(way.near), exit);
    for rule in allowance::denied(id, policy, matches) {
        layout.put_in_block(way.path, &tunnel.peer_client, RulePosition::Tail, rule);
    }
}

/// A path of the filter table that a tunnel has a chain on.
#[derive(Debug)]
pub struct Way {
    /// The path.
    pub path: Path,
    /// Our end of it.
    pub near: Network,
    /// What passes.
    pub passes: Passes,
}

/// What of a tunnel's packets passes on a way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Passes {
    /// All.
    All,
    /// What belongs to connections from the other side of the gateway.
    Replies,
    /// That, and new connections to these.
    Services(Vec<Service>),
    /// Nothing.
    Nothing,
    /// Other rules decide; it is only looked at.
    Unknown,
}

impl Way {
    fn is_restricted(&self) -> bool {
        match self.passes {
            Passes::Replies | Passes::Services(_) | Passes::Nothing => true,
            Passes::All | Passes::Unknown => false,
        }
    }
}

/// The paths of the filter table that a tunnel has a chain on. On others its packets are left to other rules.
#[must_use]
pub fn ways(tunnel: &Tunnel, policy: &Policy) -> Vec<Way> {
    let near = tunnel.translation.map_or(tunnel.my_client, |translation| {
        // The filter never sees what the peer calls us: PREROUTING has replaced it before INPUT, and POSTROUTING replaces ours after OUTPUT.
        Network::host(translation.own)
    });
    let mut passes = Vec::new();
    if has_somebody_behind(tunnel) {
        passes.push((Path::ForwardIn, inbound(&policy.allow)));
        passes.push((Path::ForwardOut, outbound(&policy.allow)));
    }
    passes.extend(to_gateway(tunnel, policy));
    if tunnel.log_group.is_some() || policy.chain.is_some() {
        // libreswan's script logs there whether or not anybody is let in; and the administrator's chain has the first word everywhere.
        for path in TO_GATEWAY {
            if !passes.iter().any(|(taken, _)| *taken == path) {
                passes.push((path, Passes::Unknown));
            }
        }
    }
    let ways = passes.into_iter();
    ways.map(|(path, passes)| Way { path, near, passes }).collect()
}

fn inbound(allow: &Allow) -> Passes {
    match allow {
        Allow::All => Passes::All,
        Allow::Replies => Passes::Replies,
        Allow::None => Passes::Nothing,
        Allow::Services(services) => Passes::Services(services.clone()),
    }
}

fn outbound(allow: &Allow) -> Passes {
    match allow {
        Allow::All | Allow::Replies | Allow::Services(_) => Passes::All,
        Allow::None => Passes::Nothing,
    }
}

/// The paths that end or begin at the gateway itself.
const TO_GATEWAY: [Path; 2] = [Path::Input, Path::Output];

/// Whether anything is forwarded for a tunnel. A host tunnel ends here; a far network that is nothing but our own address inside the tunnel
/// has nobody behind us to talk to; and with client address translation libreswan has policies for two addresses only, both ours.
fn has_somebody_behind(tunnel: &Tunnel) -> bool {
    let mut ours = tunnel.source_addresses.iter();
    match (tunnel.scope, tunnel.translation) {
        (Scope::Host, _) | (_, Some(_)) => false,
        (Scope::Client, None) => !ours.any(|address| tunnel.peer_client.is_host(*address)),
    }
}

/// What passes to and from the gateway itself.
///
/// Where it is closed, and where other rules would decide although the tunnel is restricted, what comes out of the tunnel is dropped, but
/// for answers to what the gateway asks itself. Whether it may ask is left to other rules.
fn to_gateway(tunnel: &Tunnel, policy: &Policy) -> Vec<(Path, Passes)> {
    let [input, output] = TO_GATEWAY;
    let opened = match policy.host_access {
        GatewayAccess::Yes => true,
        GatewayAccess::No => false,
        GatewayAccess::Auto => daemon_opens_gateway(tunnel),
    };
    let is_left = policy.host_access == GatewayAccess::Auto && policy.allow == Allow::All;
    match &policy.allow {
        allow if opened => vec![(input, inbound(allow)), (output, outbound(allow))],
        Allow::None => vec![(input, Passes::Nothing), (output, Passes::Nothing)],
        Allow::All | Allow::Replies | Allow::Services(_) if is_left => Vec::new(),
        Allow::All | Allow::Replies | Allow::Services(_) => vec![(input, Passes::Replies)],
    }
}

fn daemon_opens_gateway(tunnel: &Tunnel) -> bool {
    match (tunnel.scope, tunnel.translation, tunnel.host_access) {
        (Scope::Host, _, _) | (_, Some(_), _) | (_, _, HostAccess::Asked) => true,
        (Scope::Client, None, HostAccess::NotAsked) => !tunnel.source_addresses.is_empty(),
    }
}

/// Client address translation: what comes from our own address leaves with the one that the peer gave us, and the other way round.
///
/// Only what this tunnel's policy takes: a policy of another tunnel to the same network has an end of its own.
fn translate(
    layout: &mut Layout,
    tunnel: &Tunnel,
    id: &TunnelId,
    translation: ClientTranslation,
    exit: Option<&Device>,
) {
    let ClientTranslation { assigned, own } = translation;
    for (path, near, target) in [
        (Path::NatIn, assigned, Target::Dnat(own)),
        (Path::NatOut, own, Target::Snat(assigned)),
    ] {
        let rule = Rule {
            matches: allowance::selected(tunnel, path.direction()),
            target,
        };
        open(layout, tunnel, id, path, Network::host(near), vec![rule], exit);
    }
}

/// What an IPv4 and a TCP header take, in bytes, without options.
const HEADERS: u16 = 40;

/// How much longer an IPv6 header is, in bytes.
const LONGER_IN_IPV6: u16 = 20;

/// The most that ESP adds to a packet, in bytes: an outer IPv6 header (40), UDP (8), ESP's own header (8) and vector (16), padding with its
/// length and next header (17), and a check value (32). AH, and ESP with less, add less.
const MOST_OVERHEAD: u16 = 121;

/// What the path takes where nobody knows it, in bytes: an Ethernet.
const USUAL_MTU: u16 = 1500;

/// Keeps the segments of TCP connections small enough, in both directions.
///
/// What goes into the tunnel is asked its path, which knows what IPsec adds. What comes out of it tells the other side how large the
/// segments into the tunnel may be, but its own path is that to the machine behind us, which knows nothing of IPsec: so that is a number.
fn clamp(layout: &mut Layout, tunnel: &Tunnel, id: &TunnelId, terms: &Terms<'_>, exit: Option<&Device>) {
    let longer = match tunnel.family() {
        Family::Ipv4 => 0,
        Family::Ipv6 => LONGER_IN_IPV6,
    };
    let number = |size: u16| NonZeroU16::new(size.saturating_sub(longer)).map(Target::SetMss);
    let by_path = terms
        .path_mtu
        .unwrap_or(USUAL_MTU)
        .saturating_sub(MOST_OVERHEAD + HEADERS);
    let targets = match terms.policy.mss {
        Mss::Leave => return,
        Mss::PathMtu => [number(by_path), Some(Target::ClampMssToPmtu)],
        Mss::Fixed(size) => [number(size.get()), number(size.get())],
    };
    for (path, target) in [Path::SizeIn, Path::SizeOut].into_iter().zip(targets) {
        let rules = target.map(|target| Rule {
            matches: std::iter::once(Match::Syn)
                .chain(note(tunnel).map(Match::Comment))
                .collect(),
            target,
        });
        open(
            layout,
            tunnel,
            id,
            path,
            tunnel.my_client,
            rules.into_iter().collect(),
            exit,
        );
    }
}

pub(super) fn chain(id: &TunnelId, tag: &str) -> ChainName {
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
pub(super) fn conditions(tunnel: &Tunnel, path: Path, near: Option<Network>, exit: Option<&Device>) -> Vec<Match> {
    let near = near.map(|near| path.near(near));
    let mut matches: Vec<_> = std::iter::once(path.far(tunnel.peer_client))
        .chain(near)
        .filter(asks)
        .collect();
    // iptables shows the source first.
    matches.sort_by_key(|matched| !matches!(matched, Match::Source(Network::Prefix(_))));
    matches.push(match (path.direction(), exit) {
        // A policy applies to it only when the device has it already.
        (Direction::Out, Some(device)) => path.device(InterfaceMatch::Interface(device.clone())),
        (Direction::Out, None) | (Direction::In, _) => by_attachment(&tunnel.attachment, path),
    });
    matches
}

/// Whether a match on a network asks anything: everything lies in 0.0.0.0/0, and iptables would not show it.
pub(super) fn asks(matched: &Match) -> bool {
    match matched {
        Match::Source(Network::Prefix(prefix)) | Match::Destination(Network::Prefix(prefix)) => prefix.prefix_len() > 0,
        Match::Source(Network::Range(..))
        | Match::Destination(Network::Range(..))
        | Match::In(_)
        | Match::Out(_)
        | Match::NotSource(_)
        | Match::NotDestination(_)
        | Match::Traffic(..)
        | Match::Policy(_)
        | Match::PolicyNone(_)
        | Match::CtState(_)
        | Match::CtReplDst(_)
        | Match::SrcNotLocal
        | Match::Syn
        | Match::Limit
        | Match::Comment(_) => true,
    }
}

fn by_attachment(attachment: &Attachment, path: Path) -> Match {
    match attachment {
        Attachment::Device(device) => path.device(InterfaceMatch::Interface(device.clone())),
        Attachment::Policy { protocol, reqid } => Match::Policy(PolicyMatch {
            direction: path.direction(),
            reqid: *reqid,
            protocol: *protocol,
        }),
    }
}

/// The connection's full name, for whoever reads the rules.
pub(super) fn note(tunnel: &Tunnel) -> Option<Comment> {
    Comment::try_from(tunnel.connection.comment()).ok()
}

/// The two gateways between which a tunnel's packets may arrive as IP in IP.
///
/// Not where the inner family is another than the outer one: those packets belong to the other family's ruleset, and
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
