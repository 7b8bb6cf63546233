//! Accepts packets that an IPComp peer did not compress.

use std::net::IpAddr;

use super::packet_path::PacketPath;
use super::rules::TunnelPart;
use super::{TunnelInput, connection_comment, sa_match, tunnel_chain_name};
use crate::daemon::Tunnel;
use crate::firewall::dispatch::{DispatchBucket, Precedence};
use crate::net::{Family, Network, Protocol, Traffic};
use crate::netfilter::{Direction, Match, Rule, RulePosition, Target};

/// Accepts packets that an IPComp peer did not compress because they are too small. They arrive as
/// IP in IP between the gateways. Each peer that has the tunnel up has a rule of its own.
///
/// These rules are in buckets that come before all others, whose names end in `C`: a restricted
/// tunnel to 0.0.0.0/0 would drop the packets.
///
/// If the inner family differs from the outer one, there are no such rules: the packets meet the
/// other family's ruleset. strongSwan's script does not accept them, either.
pub(super) fn ipcomp_parts(input: &TunnelInput<'_>) -> Vec<TunnelPart> {
    let tunnel = input.tunnel;
    let of_this_family = |address: &IpAddr| Family::of_address(*address) == tunnel.family();
    let hosts = input.context.ipcomp_hosts.iter();
    let hosts: Vec<_> = hosts
        .filter(|(local, remote)| of_this_family(local) && of_this_family(remote))
        .collect();
    if hosts.is_empty() {
        return Vec::new();
    }
    let name = tunnel_chain_name(input.id, "C");
    let accept = Rule {
        matches: connection_comment(tunnel).map(Match::Comment).into_iter().collect(),
        target: Target::Accept,
    };
    let mut parts = vec![TunnelPart::Unlinked(
        PacketPath::Input.table(),
        name.clone(),
        vec![accept],
    )];
    for (local, remote) in hosts {
        let bucket = DispatchBucket::for_remote(PacketPath::Input, Precedence::Ipcomp, &Network::host(*remote));
        let jump = Rule {
            matches: ipcomp_matches(tunnel, *local, *remote),
            target: Target::Jump(name.clone()),
        };
        parts.push(TunnelPart::InBucket(bucket, RulePosition::Head, jump));
    }
    parts
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
