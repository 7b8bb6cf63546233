//! The firewall rules of one tunnel.
//!
//! A tunnel has a chain of its own for each path of its packets: `PLUTO-office-e8expkmw-FI` for
//! those that come out of the tunnel and are forwarded. Packets reach it through a bucket, a chain
//! that tunnels with neighbouring remote networks share: each rule there matches the packets of one
//! tunnel and jumps to that tunnel's chain, or returns or drops them. On each path, the buckets of
//! chains that end in DROP come before those of other chains.

mod filter;
mod identity;
mod missing_interface;
mod nat;
mod order;
mod packet_path;
mod rules;

pub use identity::TunnelKey;
pub(crate) use identity::{TunnelId, are_alike, can_move, may_have_become};
pub(crate) use missing_interface::MissingInterface;
pub(crate) use nat::kept_sources;
pub(crate) use order::{BucketMember, TunnelOrder};
pub use packet_path::PacketPath;
pub(crate) use rules::TunnelChain;
pub use rules::TunnelRules;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::num::NonZeroU16;

use ipnet::IpNet;

use super::dispatch::{DispatchBucket, OptionalChains, Precedence};
use crate::daemon::{ClientTranslation, HostAccess, SaMatch, Scope, Tunnel};
use crate::net::{Family, Interface, Network, Protocol, Traffic};
use crate::netfilter::{ChainName, Comment, Direction, InterfaceMatch, Match, PolicyMatch, Rule, RulePosition, Target};
use crate::netlink::XfrmInterface;
use crate::settings::{Allow, Esp, GatewayAccess, Mss, Policy, Service};

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
    let exit_interface = exit_interface(tunnel, context.interfaces);
    let mut tunnel_rules = TunnelRules::new(Some(tunnel_order(tunnel, id)), exit_interface.cloned());
    for filter_path in filter_paths(tunnel, context.policy) {
        let rules = filter::filter_rules(tunnel, id, context.policy, &filter_path);
        let precedence = match filter_path.ends_in_drop() {
            true => Precedence::Restricted,
            false => Precedence::Open,
        };
        add_tunnel_chain(
            &mut tunnel_rules,
            tunnel,
            id,
            (filter_path.path, precedence),
            filter_path.local,
            rules,
            exit_interface,
        );
        for bucket in refusing_buckets(tunnel, &filter_path) {
            let matches = tunnel_matches(tunnel, bucket.path, Some(filter_path.local), exit_interface);
            for rule in filter::log_and_drop(id, context.policy, matches) {
                tunnel_rules.add_to_bucket(bucket, RulePosition::Tail, rule);
            }
        }
    }
    refuse_inbound(&mut tunnel_rules, tunnel, id, context.policy);
    missing_interface::drop_by_addresses(&mut tunnel_rules, tunnel, id, context.policy);
    if let Some(translation) = tunnel.translation {
        add_client_translation(&mut tunnel_rules, tunnel, id, translation, exit_interface);
    }
    add_ipcomp(&mut tunnel_rules, tunnel, id, context.ipcomp_hosts);
    add_mss_clamp(&mut tunnel_rules, tunnel, id, context, exit_interface);
    nat::add_nat(&mut tunnel_rules, tunnel, id, context, exit_interface)?;
    if context.esp == Esp::Negotiated {
        // Peers of the other family are in the other ruleset.
        let of_this_family = |remote_host: &&IpAddr| Family::of_address(**remote_host) == tunnel.family();
        let peers = context.peers.iter().filter(of_this_family);
        peers.for_each(|remote_host| add_esp_peer(&mut tunnel_rules, *remote_host));
    }
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
    peers
        .into_iter()
        .for_each(|remote_host| add_esp_peer(&mut tunnel_rules, remote_host));
    tunnel_rules
}

fn add_esp_peer(tunnel_rules: &mut TunnelRules, remote_host: IpAddr) {
    let bucket = DispatchBucket::for_remote(PacketPath::EspPeer, Precedence::Open, &Network::host(remote_host));
    tunnel_rules.buckets.insert(bucket);
    tunnel_rules
        .optional
        .extend([OptionalChains::EspPeers, OptionalChains::EspPeer(remote_host)]);
}

/// Adds a tunnel's chain for a path, and the rule in the bucket that jumps to it.
fn add_tunnel_chain(
    tunnel_rules: &mut TunnelRules,
    tunnel: &Tunnel,
    id: &TunnelId,
    (path, precedence): (PacketPath, Precedence),
    local: Network,
    rules: Vec<Rule>,
    exit_interface: Option<&Interface>,
) {
    tunnel_rules.attach(TunnelChain {
        path,
        precedence,
        name: tunnel_chain_name(id, path.tag()),
        remote: tunnel.remote_client,
        conditions: vec![tunnel_matches(tunnel, path, Some(local), exit_interface)],
        rules,
    });
}

/// The buckets in which a tunnel with `allow = "none"` drops packets into it, besides its own
/// chain. Other tunnels have none.
///
/// - The bucket after all tunnels, whose name ends in `X`: it drops packets outside the tunnel's
///   protocol and ports that have its networks, and its reqid or interface. It comes last, because
///   under strongSwan several tunnels between the same networks can have one reqid, each with ports
///   of its own.
/// - The bucket below `PLUTO-RO`: it drops packets that came by IPsec and that no inbound tunnel
///   has allowed, for example those of another program's policy. Such packets must not reach the
///   tunnel's own chain, because an ACCEPT in the administrator's chain would accept
///   them without an inbound tunnel's consent. For the same reason this bucket does not jump to the
///   administrator's chain.
fn refusing_buckets(tunnel: &Tunnel, filter_path: &FilterPath) -> Vec<DispatchBucket> {
    let path = filter_path.path;
    if !filter_path.ends_in_drop() || path.direction() == Direction::In {
        return Vec::new();
    }
    let rest = (tunnel.traffic != Traffic::Any).then_some((path, Precedence::Rest));
    let out = (path == PacketPath::ForwardOut).then_some((PacketPath::RefuseOut, Precedence::Open));
    let places = rest.into_iter().chain(out);
    places
        .map(|(path, precedence)| DispatchBucket::for_remote(path, precedence, &tunnel.remote_client))
        .collect()
}

/// Adds the rules below `PLUTO-RI` and `PLUTO-RF`, which drop packets that came out of a restricted
/// tunnel and that no tunnel has allowed, whatever their destination.
///
/// A DNAT rule in PREROUTING may have changed the destination to one outside the tunnel's networks:
/// a published host (Docker), the gateway itself (REDIRECT), another tunnel. So these rules do not
/// match the packet's destination. They match the source, the policy, and the destination of the
/// connection's first packet (`--ctorigdst`). Allowed services that a DNAT rule has redirected
/// return to the administrator's rules. In the bucket, the RETURN rules of all tunnels come before
/// all DROP rules. So no tunnel drops what another one with the same networks and reqid allows.
///
/// With `host-access = "no"` only replies to the gateway return, whichever destination a DNAT rule
/// has replaced, and with `allow = "none"` not even these.
fn refuse_inbound(tunnel_rules: &mut TunnelRules, tunnel: &Tunnel, id: &TunnelId, policy: &Policy) {
    for path in [PacketPath::RefuseInput, PacketPath::RefuseForward] {
        let is_closed = path == PacketPath::RefuseInput && policy.host_access == GatewayAccess::No;
        let allow = match &policy.allow {
            Allow::All | Allow::Services(_) if is_closed => &Allow::Replies,
            Allow::All => continue,
            allow @ (Allow::Replies | Allow::Services(_) | Allow::None) => allow,
        };
        let tunnel_match = tunnel_matches(tunnel, path, None, None);
        let bucket = DispatchBucket::for_remote(path, Precedence::Open, &tunnel.remote_client);
        for matches in filter::refusal_exceptions(tunnel, allow) {
            let matches = join_matches(&tunnel_match, matches);
            let rule = filter::named_rule(id, matches, Target::Return);
            tunnel_rules.add_to_bucket(bucket, RulePosition::Head, rule);
        }
        for rule in filter::log_and_drop(id, policy, tunnel_match) {
            tunnel_rules.add_to_bucket(bucket, RulePosition::Tail, rule);
        }
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

/// A path for which a tunnel has a chain in the filter table.
#[derive(Debug)]
pub struct FilterPath {
    /// The path.
    pub path: PacketPath,
    /// The local network, as the filter table sees it.
    pub local: Network,
    /// The allowed packets.
    pub allowed: AllowedTraffic,
}

/// The packets of a tunnel that are allowed on a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AllowedTraffic {
    /// All.
    All,
    /// Replies in connections that the local side opened, ICMP errors about them, and connections
    /// that a conntrack helper expects.
    Replies,
    /// Those, and new connections to these services.
    Services(Vec<Service>),
    /// Nothing.
    None,
    /// Not decided here: the chain only copies packets to NFLOG, or jumps to the administrator's
    /// chain.
    Undecided,
}

impl FilterPath {
    fn ends_in_drop(&self) -> bool {
        match self.allowed {
            AllowedTraffic::Replies | AllowedTraffic::Services(_) | AllowedTraffic::None => true,
            AllowedTraffic::All | AllowedTraffic::Undecided => false,
        }
    }
}

/// The paths for which a tunnel has a chain in the filter table. On other paths the administrator's
/// rules decide about its packets.
#[must_use]
pub fn filter_paths(tunnel: &Tunnel, policy: &Policy) -> Vec<FilterPath> {
    let local = tunnel.translation.map_or(tunnel.local_client, |translation| {
        // The filter table never sees the translated address: PREROUTING replaces it before INPUT,
        // and POSTROUTING replaces the local one after OUTPUT.
        Network::host(translation.own)
    });
    let mut allowed = Vec::new();
    if forwards_packets(tunnel) {
        allowed.push((PacketPath::ForwardIn, allowed_inbound(&policy.allow)));
        allowed.push((PacketPath::ForwardOut, allowed_outbound(&policy.allow)));
    }
    allowed.extend(gateway_paths(tunnel, policy));
    if tunnel.log_group.is_some() || policy.chain.is_some() {
        // libreswan's script copies packets to and from the gateway to NFLOG whether or not they
        // are accepted. And the administrator's chain (`chain`) comes first on every path.
        for path in GATEWAY_PATHS {
            if !allowed.iter().any(|(taken, _)| *taken == path) {
                allowed.push((path, AllowedTraffic::Undecided));
            }
        }
    }
    let filter_paths = allowed.into_iter();
    filter_paths
        .map(|(path, allowed)| FilterPath { path, local, allowed })
        .collect()
}

fn allowed_inbound(allow: &Allow) -> AllowedTraffic {
    match allow {
        Allow::All => AllowedTraffic::All,
        Allow::Replies => AllowedTraffic::Replies,
        Allow::None => AllowedTraffic::None,
        Allow::Services(services) => AllowedTraffic::Services(services.clone()),
    }
}

fn allowed_outbound(allow: &Allow) -> AllowedTraffic {
    match allow {
        Allow::All | Allow::Replies | Allow::Services(_) => AllowedTraffic::All,
        Allow::None => AllowedTraffic::None,
    }
}

/// The paths that end or begin at the gateway itself.
const GATEWAY_PATHS: [PacketPath; 2] = [PacketPath::Input, PacketPath::Output];

/// Whether the gateway forwards packets of a tunnel. It does not if the tunnel ends at the gateway,
/// if the remote network is the gateway's own address inside the tunnel (as for strongSwan's
/// script), or with client address translation, where libreswan's policies have two local
/// addresses, both of the gateway.
fn forwards_packets(tunnel: &Tunnel) -> bool {
    let mut source_addresses = tunnel.source_addresses.iter();
    match (tunnel.scope, tunnel.translation) {
        (Scope::Host, _) | (_, Some(_)) => false,
        (Scope::Client, None) => !source_addresses.any(|address| tunnel.remote_client.is_host(*address)),
    }
}

/// The allowed packets to and from the gateway itself.
///
/// If the gateway is closed to a restricted tunnel, or with `host-access = "no"`, packets out of
/// the tunnel to the gateway are dropped, except replies to the gateway's own connections. The
/// administrator's rules decide which connections the gateway may open. With `allow = "none"` all
/// these packets are dropped, in both directions.
fn gateway_paths(tunnel: &Tunnel, policy: &Policy) -> Vec<(PacketPath, AllowedTraffic)> {
    let [input, output] = GATEWAY_PATHS;
    let opened = match policy.host_access {
        GatewayAccess::Yes => true,
        GatewayAccess::No => false,
        GatewayAccess::Auto => daemon_opens_gateway(tunnel),
    };
    let is_undecided = policy.host_access == GatewayAccess::Auto && policy.allow == Allow::All;
    match &policy.allow {
        allow if opened => vec![(input, allowed_inbound(allow)), (output, allowed_outbound(allow))],
        Allow::None => vec![(input, AllowedTraffic::None), (output, AllowedTraffic::None)],
        Allow::All | Allow::Replies | Allow::Services(_) if is_undecided => Vec::new(),
        Allow::All | Allow::Replies | Allow::Services(_) => vec![(input, AllowedTraffic::Replies)],
    }
}

fn daemon_opens_gateway(tunnel: &Tunnel) -> bool {
    match (tunnel.scope, tunnel.translation, tunnel.host_access) {
        (Scope::Host, _, _) | (_, Some(_), _) | (_, _, HostAccess::Asked) => true,
        (Scope::Client, None, HostAccess::NotAsked) => !tunnel.source_addresses.is_empty(),
    }
}

/// Adds client address translation: SNAT of packets from the gateway's own address to the address
/// that the peer assigned, and DNAT of packets to that address.
///
/// Only packets that this tunnel's policy matches: another tunnel's policy to the same network may
/// use another assigned address.
fn add_client_translation(
    tunnel_rules: &mut TunnelRules,
    tunnel: &Tunnel,
    id: &TunnelId,
    translation: ClientTranslation,
    exit_interface: Option<&Interface>,
) {
    let ClientTranslation { assigned, own } = translation;
    for (path, local, target) in [
        (PacketPath::NatIn, assigned, Target::Dnat(own)),
        (PacketPath::NatOut, own, Target::Snat(assigned)),
    ] {
        let rule = Rule {
            matches: filter::selector_matches(tunnel, path.direction()),
            target,
        };
        add_tunnel_chain(
            tunnel_rules,
            tunnel,
            id,
            (path, Precedence::Open),
            Network::host(local),
            vec![rule],
            exit_interface,
        );
    }
}

/// What an IPv4 and a TCP header take, in bytes, without options.
const IPV4_TCP_HEADERS: u16 = 40;

/// How much longer an IPv6 header is, in bytes.
const IPV6_EXTRA_HEADER: u16 = 20;

/// The most that ESP adds to a packet, in bytes: an outer IPv6 header (40), UDP (8), the ESP header
/// (8) and initialization vector (16), padding with its length and next header (17), and the
/// integrity check value (32), RFC 4303. AH adds less.
const MAX_ESP_OVERHEAD: u16 = 121;

/// The MTU to assume where the path's is unknown, in bytes: Ethernet's.
const ETHERNET_MTU: u16 = 1500;

/// Adds the rules that clamp the MSS of TCP connections, in both directions.
///
/// Outbound SYNs are clamped to the path MTU of their route, which accounts for IPsec overhead. An
/// inbound SYN limits the segments that the local side sends into the tunnel, but its own route is
/// the one to the local host, which has no IPsec overhead. So it is clamped to a number.
fn add_mss_clamp(
    tunnel_rules: &mut TunnelRules,
    tunnel: &Tunnel,
    id: &TunnelId,
    context: &PolicyContext<'_>,
    exit_interface: Option<&Interface>,
) {
    let extra_header = match tunnel.family() {
        Family::Ipv4 => 0,
        Family::Ipv6 => IPV6_EXTRA_HEADER,
    };
    let number = |size: u16| NonZeroU16::new(size.saturating_sub(extra_header)).map(Target::SetMss);
    let by_path = context
        .path_mtu
        .unwrap_or(ETHERNET_MTU)
        .saturating_sub(MAX_ESP_OVERHEAD + IPV4_TCP_HEADERS);
    let targets = match context.policy.mss {
        Mss::Leave => return,
        Mss::PathMtu => [number(by_path), Some(Target::ClampMssToPmtu)],
        Mss::Fixed(size) => [number(size.get()), number(size.get())],
    };
    for (path, target) in [PacketPath::MssIn, PacketPath::MssOut].into_iter().zip(targets) {
        let rules = target.map(|target| Rule {
            matches: std::iter::once(Match::Syn)
                .chain(connection_comment(tunnel).map(Match::Comment))
                .collect(),
            target,
        });
        add_tunnel_chain(
            tunnel_rules,
            tunnel,
            id,
            (path, Precedence::Open),
            tunnel.local_client,
            rules.into_iter().collect(),
            exit_interface,
        );
    }
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

/// The matches on a tunnel's packets, in its bucket.
pub(crate) fn tunnel_matches(
    tunnel: &Tunnel,
    path: PacketPath,
    local: Option<Network>,
    exit_interface: Option<&Interface>,
) -> Vec<Match> {
    let local = local.map(|local| path.local_match(local));
    let mut matches: Vec<_> = std::iter::once(path.remote_match(tunnel.remote_client))
        .chain(local)
        .filter(excludes_packets)
        .collect();
    // iptables shows the source first.
    matches.sort_by_key(|matched| !matches!(matched, Match::Source(Network::Prefix(_))));
    matches.push(match (path.direction(), exit_interface) {
        // Packets meet the policy only inside the interface, after these rules. So the interface is
        // matched.
        (Direction::Out, Some(interface)) => path.interface_match(InterfaceMatch::Interface(interface.clone())),
        (Direction::Out, None) | (Direction::In, _) => sa_match(&tunnel.sa_match, path),
    });
    matches
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

/// Accepts packets that an IPComp peer did not compress because they are too small. They arrive as
/// IP in IP between the gateways. Each peer that has the tunnel up has a rule of its own.
///
/// These rules are in buckets that come before all others, whose names end in `C`: a restricted
/// tunnel to 0.0.0.0/0 would drop the packets.
///
/// If the inner family differs from the outer one, there are no such rules: the packets meet the
/// other family's ruleset. strongSwan's script does not accept them, either.
fn add_ipcomp(tunnel_rules: &mut TunnelRules, tunnel: &Tunnel, id: &TunnelId, hosts: &BTreeSet<(IpAddr, IpAddr)>) {
    let of_this_family = |address: &IpAddr| Family::of_address(*address) == tunnel.family();
    let mut hosts = hosts
        .iter()
        .filter(|(local, remote)| of_this_family(local) && of_this_family(remote))
        .peekable();
    if hosts.peek().is_none() {
        return;
    }
    let name = tunnel_chain_name(id, "C");
    let accept = Rule {
        matches: connection_comment(tunnel).map(Match::Comment).into_iter().collect(),
        target: Target::Accept,
    };
    tunnel_rules.add_chain(PacketPath::Input.table(), &name, [accept]);
    for (local, remote) in hosts {
        let bucket = DispatchBucket::for_remote(PacketPath::Input, Precedence::Ipcomp, &Network::host(*remote));
        let jump = Rule {
            matches: ipcomp_matches(tunnel, *local, *remote),
            target: Target::Jump(name.clone()),
        };
        tunnel_rules.add_to_bucket(bucket, RulePosition::Head, jump);
    }
}

/// The matches on packets of an IPComp tunnel that were not compressed.
///
/// The kernel decrypts such a packet, then INPUT gets the IP-in-IP packet between the gateways, and
/// only then the inner packet is received.
fn ipcomp_matches(tunnel: &Tunnel, local_host: IpAddr, remote_host: IpAddr) -> Vec<Match> {
    let inner = match tunnel.family() {
        Family::Ipv4 => IP_IN_IP,
        Family::Ipv6 => IPV6_IN_IP,
    };
    let mut matches = vec![
        Match::Source(Network::host(remote_host)),
        Match::Destination(Network::host(local_host)),
    ];
    if let Some(number) = std::num::NonZeroU8::new(inner) {
        matches.push(Match::Traffic(
            Direction::In,
            tunnel.family(),
            Traffic::Protocol(Protocol(number)),
        ));
    }
    matches.push(sa_match(&tunnel.sa_match, PacketPath::Input));
    matches
}

/// IPv4 encapsulation, RFC 2003
const IP_IN_IP: u8 = 4;

/// IPv6 encapsulation, RFC 2473
const IPV6_IN_IP: u8 = 41;
