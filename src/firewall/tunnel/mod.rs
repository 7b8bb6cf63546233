//! The firewall rules of one tunnel.

mod filter;
mod filter_path;
mod identity;
mod ipcomp;
mod mss;
mod nat;
mod order;
mod packet_path;
mod refuse;
mod rules;

pub use filter_path::{AllowedTraffic, filter_paths};
pub use identity::TunnelKey;
pub(crate) use identity::{TunnelId, are_alike, can_move, may_have_become};
pub(crate) use nat::kept_sources;
pub(crate) use order::{BucketMember, TunnelOrder};
pub use packet_path::PacketPath;
pub use rules::TunnelRules;
pub(crate) use rules::{TunnelChain, TunnelPart};

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;

use super::dispatch::Precedence;
use crate::daemon::{SaMatch, Tunnel};
use crate::net::{Family, Interface, MarkBit, Network};
use crate::netfilter::{ChainName, Comment, Direction, InterfaceMatch, Match, PolicyMatch, Rule};
use crate::netlink::XfrmInterface;
use crate::settings::{Esp, Policy};

/// Decides the rules of a tunnel: what strongSwan's `_updown iptables` opens for the same call,
/// without its errors, and as far as the settings allow.
///
/// - A host tunnel: between the gateway and the remote network, both directions.
/// - A client tunnel: between the two networks, forwarded, both directions; and where the gateway
///   has an address inside the tunnel (`leftsourceip=`, virtual addresses) or `hostaccess=yes`,
///   also to and from the gateway itself.
/// - IPComp: packets too small to be worth compressing, which arrive as IP in IP from the peer.
///
/// - Client address translation: between the local address, as the gateway's tables see it, and the
///   remote network; and the translation itself.
/// - A log group: copies of all packets that reach one of its chains, and of those to the gateway
///   itself that it does not accept.
///
/// Every rule matches both networks as well as the reqid or the interface: every pluto starts its
/// reqids at the same number, and charon reuses them, so a reqid alone would accept another
/// tunnel's packets.
///
/// # Errors
/// If its settings conflict with the tunnel.
pub fn tunnel_rules(tunnel: &Tunnel, id: &TunnelId, context: &PolicyContext<'_>) -> Result<TunnelRules, PolicyError> {
    let input = TunnelInput {
        tunnel,
        id,
        context,
        exit_interface: exit_interface(tunnel, context.interfaces),
    };
    let parts = [
        filter::filter_parts(&input),
        refuse::inbound_parts(&input),
        nat::translation_parts(&input),
        ipcomp::ipcomp_parts(&input),
        mss::mss_parts(&input),
        nat::nat_parts(&input)?,
        esp_peer_parts(&input),
    ];
    let interface = input.exit_interface.cloned();
    let mut tunnel_rules = TunnelRules::new(Some(tunnel_order(tunnel, id)), interface);
    parts.into_iter().flatten().for_each(|part| tunnel_rules.attach(part));
    Ok(tunnel_rules)
}

/// The position of a tunnel's rules among those of others.
pub(crate) fn tunnel_order(tunnel: &Tunnel, id: &TunnelId) -> TunnelOrder {
    TunnelOrder::new(id, &tunnel.remote_client, &tunnel.local_client, &tunnel.traffic)
}

/// The inputs for a tunnel's rules besides the daemon's call.
#[derive(Debug, Clone, Copy)]
pub struct PolicyContext<'a> {
    /// What the administrator has set for it.
    pub policy: &'a Policy,
    /// Whether ESP and AH of its peers are accepted for it.
    pub esp: Esp,
    /// The addresses of its peers; strongSwan can have one up with several.
    pub peers: &'a BTreeSet<IpAddr>,
    /// The addresses of this gateway and of each peer that compresses, in pairs.
    pub ipcomp_hosts: &'a BTreeSet<(IpAddr, IpAddr)>,
    /// Whether there is anything that a tunnel whose addresses are left to other rules has to be
    /// led past.
    pub nat_exemption: NatExemption,
    /// The bit that carries the consent of a first tunnel to a second one.
    pub mark: MarkBit,
    /// The existing XFRM interfaces, for tunnels whose daemon passes an interface id.
    pub interfaces: &'a [XfrmInterface],
    /// The networks whose packets keep their source where nothing else is set.
    pub connected: &'a [IpNet],
    /// The largest packet that the path to the peer takes, in bytes, where it is known.
    pub path_mtu: Option<u16>,
}

/// Whether any tunnel can have its packets exempted from NAT.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NatExemption {
    /// Some can.
    Possible,
    /// The settings allow no such tunnel: the nat table is left alone then.
    Never,
}

/// Why a tunnel's settings conflict with the tunnel.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// The address to source-NAT to is unknown.
    #[error("nat = \"masquerade\": the gateway has no address in {local}, or several; name one, nat = \"ADDRESS\"")]
    NoLocalAddress {
        /// The local network of the tunnel's selector.
        local: Network,
    },
    /// Packets from the address would not match the tunnel's policy.
    #[error("nat = \"{address}\": not an address in {local}, packets from it would not enter the tunnel")]
    AddressOutside {
        /// The address.
        address: IpAddr,
        /// The local network of the tunnel's selector.
        local: Network,
    },
    /// What its packets are known by is an interface that carries unencrypted packets.
    #[error("{interface} is no VTI, XFRM or KLIPS interface: rules for it would let unencrypted packets in")]
    UnencryptedInterface {
        /// The interface.
        interface: Interface,
    },
    /// Its two ends are one network.
    #[error(
        "when-down = \"block\": both networks of the tunnel are {network}; name the pair to block, between = [[\"OURS\", \"THEIRS\"]]"
    )]
    SameNetwork {
        /// The network.
        network: Network,
    },
}

/// The rules that accept ESP and AH of peers for a tunnel whose inner packets are of the other
/// family.
#[must_use]
pub fn esp_peer_rules(peers: impl IntoIterator<Item = IpAddr>) -> TunnelRules {
    let mut tunnel_rules = TunnelRules::new(None, None);
    let parts = peers.into_iter().map(TunnelPart::EspPeer);
    parts.for_each(|part| tunnel_rules.attach(part));
    tunnel_rules
}

/// The peers of a tunnel whose ESP and AH is accepted. Those of the other family are in the other
/// ruleset.
fn esp_peer_parts(input: &TunnelInput<'_>) -> Vec<TunnelPart> {
    let context = input.context;
    let of_this_family = |host: &&IpAddr| Family::of_address(**host) == input.tunnel.family();
    let peers = context.peers.iter().filter(of_this_family);
    let peers = peers.filter(|_| context.esp == Esp::Negotiated);
    peers.copied().map(TunnelPart::EspPeer).collect()
}

/// A tunnel, and what decides about its rules.
#[derive(Debug)]
struct TunnelInput<'a> {
    tunnel: &'a Tunnel,
    id: &'a TunnelId,
    context: &'a PolicyContext<'a>,
    /// The interface that its packets leave by, if they are matched by interface.
    exit_interface: Option<&'a Interface>,
}

impl TunnelInput<'_> {
    /// A chain of the tunnel on a path, with the jump to it from the bucket of the remote network.
    fn chain(&self, path: PacketPath, precedence: Precedence, local: Network, rules: Vec<Rule>) -> TunnelPart {
        TunnelPart::Chain(TunnelChain {
            path,
            precedence,
            name: tunnel_chain_name(self.id, path.tag()),
            remote: self.tunnel.remote_client,
            conditions: vec![self.matches(path, Some(local))],
            rules,
        })
    }

    /// The matches in a bucket on the tunnel's packets.
    fn matches(&self, path: PacketPath, local: Option<Network>) -> Vec<Match> {
        let local = local.map(|local| path.local_match(local));
        let mut matches: Vec<_> = std::iter::once(path.remote_match(self.tunnel.remote_client))
            .chain(local)
            .filter(is_restrictive)
            .collect();
        // iptables shows the source first.
        matches.sort_by_key(|matched| !matches!(matched, Match::Source(Network::Prefix(_))));
        matches.push(match (path.direction(), self.exit_interface) {
            // On output the policy applies only inside the interface, so the interface is matched.
            (Direction::Out, Some(interface)) => path.interface_match(InterfaceMatch::Interface(interface.clone())),
            (Direction::Out, None) | (Direction::In, _) => sa_match(&self.tunnel.sa_match, path),
        });
        matches
    }
}

/// The name of a tunnel's own chain. An id has at most 19 bytes, so that it always fits as it is.
pub(crate) fn tunnel_chain_name(id: &TunnelId, tag: &str) -> ChainName {
    ChainName::from_parts(&[id.as_str(), tag])
}

/// The interface that a tunnel's packets leave by, if they are matched by interface.
fn exit_interface<'a>(tunnel: &'a Tunnel, interfaces: &'a [XfrmInterface]) -> Option<&'a Interface> {
    match &tunnel.sa_match {
        SaMatch::Interface(interface) => Some(interface),
        SaMatch::Policy { .. } => {
            let number = tunnel.if_id_out?;
            interfaces
                .iter()
                .find(|interface| interface.if_id == number)
                .map(|interface| &interface.interface)
        }
    }
}

/// Whether a match on a network excludes any packet: 0.0.0.0/0 does not, and iptables would not
/// list it.
pub(crate) fn is_restrictive(matched: &Match) -> bool {
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
        | Match::CtOrig(..)
        | Match::SrcNotLocal
        | Match::Mark(_)
        | Match::NotMark(_)
        | Match::Syn
        | Match::Limit
        | Match::Comment(_) => true,
    }
}

fn sa_match(sa_match: &SaMatch, path: PacketPath) -> Match {
    match sa_match {
        SaMatch::Interface(interface) => path.interface_match(InterfaceMatch::Interface(interface.clone())),
        SaMatch::Policy { protocol, reqid } => Match::Policy(PolicyMatch {
            direction: path.direction(),
            reqid: *reqid,
            protocol: *protocol,
        }),
    }
}

/// The connection's full name, for whoever reads the rules.
pub(crate) fn connection_comment(tunnel: &Tunnel) -> Option<Comment> {
    Comment::try_from(tunnel.connection.comment()).ok()
}
