//! Clamps the MSS of a tunnel's TCP connections (`mss`).

use std::num::NonZeroU16;

use super::packet_path::PacketPath;
use super::rules::TunnelPart;
use super::{TunnelInput, connection_comment};
use crate::firewall::dispatch::Precedence;
use crate::net::Family;
use crate::netfilter::{Match, Rule, Target};
use crate::settings::Mss;

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

/// The rules that clamp the MSS of TCP connections, in both directions.
///
/// Outbound SYNs are clamped to the path MTU of their route, which accounts for IPsec overhead. An
/// inbound SYN limits the segments that the local side sends into the tunnel, but its own route is
/// the one to the local host, which has no IPsec overhead. So it is clamped to a number.
pub(super) fn mss_parts(input: &TunnelInput<'_>) -> Vec<TunnelPart> {
    let (tunnel, context) = (input.tunnel, input.context);
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
        Mss::Leave => return Vec::new(),
        Mss::PathMtu => [number(by_path), Some(Target::ClampMssToPmtu)],
        Mss::Fixed(size) => [number(size.get()), number(size.get())],
    };
    let paths = [PacketPath::MssIn, PacketPath::MssOut].into_iter().zip(targets);
    let parts = paths.map(|(path, target)| {
        let rules = target.map(|target| Rule {
            matches: std::iter::once(Match::Syn)
                .chain(connection_comment(tunnel).map(Match::Comment))
                .collect(),
            target,
        });
        let rules = rules.into_iter().collect();
        input.chain(path, Precedence::Open, tunnel.local_client, rules)
    });
    parts.collect()
}
