//! The firewall rules of one tunnel.
//!
//! A tunnel has a chain of its own for each path of its packets: `PLUTO-office-e8expkmw-FI` for
//! those that come out of the tunnel and are forwarded. Packets reach it through a bucket, a chain
//! that tunnels with neighbouring remote networks share: each rule there matches the packets of one
//! tunnel and jumps to that tunnel's chain, or returns or drops them. On each path, the buckets of
//! chains that end in DROP come before those of other chains.

mod filter;
mod filter_path;
mod identity;
mod ipcomp;
mod missing_interface;
mod mss;
mod nat;
mod order;
mod packet_path;
mod refuse;
mod rules;

pub use filter_path::{AllowedTraffic, filter_paths};
pub use identity::TunnelKey;
pub(crate) use identity::{TunnelId, are_alike, can_move, may_have_become};
pub(crate) use missing_interface::MissingInterface;
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
use crate::net::{Family, Interface, Network};
use crate::netfilter::{ChainName, Comment, Direction, InterfaceMatch, Match, PolicyMatch, Rule};
use crate::netlink::XfrmInterface;
use crate::settings::{Esp, Policy};

/// Decides the rules of a tunnel: it accepts what strongSwan's `_updown iptables` accepts for the
/// same call, without that script's errors, and only what the settings allow.
///
/// - A tunnel of the gateway alone (`up-host`): packets between the gateway and the remote network,
///   in both directions.
/// - A tunnel of a network (`up-client`): forwarded packets between the two networks, in both
///   directions. Also packets to and from the gateway itself, if it has an address inside the
///   tunnel (`leftsourceip=`, virtual addresses) or with `hostaccess=yes`.
/// - With IPComp: packets that the peer did not compress, which arrive as IP in IP.
/// - With client address translation (`leftcat=yes`): packets between the gateway's own address and
///   the remote network, and the DNAT and SNAT rules for them.
/// - With an NFLOG group (`nflog=`): a copy of every packet that reaches one of the tunnel's
///   chains. The tunnel then has chains for packets to and from the gateway even if it accepts none
///   of these.
/// - With `esp = "negotiated"`: ESP and AH of the tunnel's peers.
/// - By the settings `nat` and `mss`: nat rules and the clamping of the MSS.
///
/// A packet reaches an ACCEPT only through a bucket's rule that matches both networks, and the
/// reqid or the interface. The reqid alone is not enough: every Pluto starts at the same reqid, and
/// charon reuses reqids, so another tunnel's packets would be accepted. The exceptions:
///
/// - A network of 0.0.0.0/0 or ::/0 has no match.
/// - Openswan on netkey passes no reqid: any IPsec policy matches.
/// - Replies to source-NATed hosts are matched by the address in conntrack instead of the local
///   network.
/// - IP in IP of an IPComp peer is matched by the gateways' addresses instead of the networks.
/// - ESP and AH are matched by the peer's address alone.
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
        missing_interface::missing_interface_parts(&input),
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
    /// The gateway's key `esp`. `negotiated` needs rules for each peer.
    pub esp: Esp,
    /// The IKE addresses of its peers: several under strongSwan, if several peers have it up.
    pub peers: &'a BTreeSet<IpAddr>,
    /// The addresses of this gateway and of each peer that uses IPComp, in pairs.
    pub ipcomp_hosts: &'a BTreeSet<(IpAddr, IpAddr)>,
    /// Whether any tunnel's packets are exempted from NAT. Only then does a tunnel with
    /// `nat = "leave"` need a rule that returns its packets before the exemption.
    pub nat_exemption: NatExemption,
    /// The existing XFRM interfaces, for tunnels whose daemon passes an interface id.
    pub interfaces: &'a [XfrmInterface],
    /// The networks that the gateway is connected to. Packets to them keep their source, unless
    /// `bypass` is set.
    pub connected: &'a [IpNet],
    /// The path MTU to the peer, in bytes; `None` if it is unknown.
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
    /// Its packets would be matched by an interface that also carries unencrypted packets.
    #[error("{interface} is no VTI, XFRM or KLIPS interface: rules for it would let unencrypted packets in")]
    UnencryptedInterface {
        /// The interface.
        interface: Interface,
    },
    /// The local and the remote network are the same, so blocking packets between them would block
    /// the network.
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

/// The peers of a tunnel whose ESP and AH are accepted. Peers of the other family are in the other
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
    /// The tunnel's chain for a path, and the rule in the bucket that jumps to it.
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

    /// The matches on the tunnel's packets, in its bucket.
    fn matches(&self, path: PacketPath, local: Option<Network>) -> Vec<Match> {
        let local = local.map(|local| path.local_match(local));
        let mut matches: Vec<_> = std::iter::once(path.remote_match(self.tunnel.remote_client))
            .chain(local)
            .filter(excludes_packets)
            .collect();
        // iptables shows the source first.
        matches.sort_by_key(|matched| !matches!(matched, Match::Source(Network::Prefix(_))));
        matches.push(match (path.direction(), self.exit_interface) {
            // Packets meet the policy only inside the interface, after these rules. So the
            // interface is matched.
            (Direction::Out, Some(interface)) => path.interface_match(InterfaceMatch::Interface(interface.clone())),
            (Direction::Out, None) | (Direction::In, _) => sa_match(&self.tunnel.sa_match, path),
        });
        matches
    }
}

/// Joins matches in the order in which iptables lists them: addresses, interfaces, protocols,
/// extensions.
fn join_matches(known: &[Match], more: Vec<Match>) -> Vec<Match> {
    let comes_first = |matched: &&Match| {
        matches!(
            matched,
            Match::Source(Network::Prefix(_)) | Match::Destination(Network::Prefix(_)) | Match::In(_)
        )
    };
    let first = known.iter().filter(comes_first).cloned();
    let last = known.iter().filter(|matched| !comes_first(matched)).cloned();
    first.chain(more).chain(last).collect()
}

/// The name of a tunnel's own chain: its id and the path's tag. An id has at most 19 bytes, so the
/// name is never too long.
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
pub(crate) fn excludes_packets(matched: &Match) -> bool {
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
