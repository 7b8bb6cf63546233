//! The rules that block two networks from talking unencrypted, outside their tunnel.

use ipnet::IpNet;

use super::dispatch::{DispatchBucket, OptionalChains, Precedence};
use super::tunnel::{
    PacketPath, TunnelChain, TunnelId, TunnelOrder, TunnelPart, TunnelRules, excludes_packets, tunnel_chain_name,
};
use crate::daemon::Tunnel;
use crate::net::{Network, Traffic};
use crate::netfilter::{Direction, Match, Rule, RulePosition, Target};

/// Whether two networks can be blocked from talking unencrypted: any two that differ.
#[must_use]
pub(crate) fn can_block_clear_text(local: &Network, remote: &Network) -> bool {
    local != remote
}

/// Whether blocking a tunnel's own networks would have no effect: the local one is a virtual
/// address, from which only the gateway sends, and only while the tunnel is up. Packets that leave
/// without the tunnel have another source.
#[must_use]
pub(crate) fn block_has_no_effect(tunnel: &Tunnel) -> bool {
    let address = tunnel.local_client.first();
    let is_virtual = tunnel.local_client.is_host(address) && tunnel.source_addresses.contains(&address);
    is_virtual && !excludes_packets(&Match::Destination(tunnel.remote_client))
}

/// Decides the rules that drop unencrypted packets between two networks, whether their tunnel is up
/// or not.
///
/// Packets in a tunnel do not reach these rules: a policy matches them, or they use a tunnel's
/// interface, which the chains before the blocks except. Where the local network is a part of the
/// remote one, as of 0.0.0.0/0, packets that stay within it are not blocked.
#[must_use]
pub(crate) fn clear_text_block(id: &TunnelId, local: &Network, remote: &Network, bypass: &[IpNet]) -> TunnelRules {
    let mut tunnel_rules = TunnelRules::new(Some(block_order(id, local, remote)), None);
    tunnel_rules.optional.extend([
        OptionalChains::Unencrypted,
        OptionalChains::ClearTextEntry,
        OptionalChains::ClearTextBlocks,
    ]);
    for path in [PacketPath::BlockIn, PacketPath::BlockOut] {
        let (source, destination) = match path.direction() {
            Direction::In => (remote, local),
            Direction::Out => (local, remote),
        };
        let ends = [Match::Source(*source), Match::Destination(*destination)];
        let mut matches: Vec<_> = ends.into_iter().filter(excludes_packets).collect();
        // iptables shows prefixes before ranges, which have a match of their own.
        matches.sort_by_key(|matched| !is_prefix(matched));
        if remote.covers(local) {
            matches.push(match path.direction() {
                Direction::In => Match::NotSource(*local),
                Direction::Out => Match::NotDestination(*local),
            });
        }
        let passing: Vec<_> = bypass_rules(path, local, bypass).collect();
        let target = Target::Drop;
        // An own chain where some networks are bypassed: packets that return from it still meet the
        // other blocked pairs.
        match passing.is_empty() {
            true => {
                let bucket = DispatchBucket::for_remote(path, Precedence::Open, remote);
                tunnel_rules.attach(TunnelPart::InBucket(
                    bucket,
                    RulePosition::Head,
                    Rule { matches, target },
                ));
            }
            false => tunnel_rules.attach(TunnelPart::Chain(TunnelChain {
                path,
                precedence: Precedence::Open,
                name: tunnel_chain_name(id, path.tag()),
                remote: *remote,
                conditions: vec![matches],
                rules: passing.into_iter().chain([Rule::always(target)]).collect(),
            })),
        }
    }
    tunnel_rules
}

/// The position of a blocked pair's rules among those of others.
#[must_use]
pub(crate) fn block_order(id: &TunnelId, local: &Network, remote: &Network) -> TunnelOrder {
    TunnelOrder::new(id, remote, local, &Traffic::Any)
}

/// The rules that let packets of bypassed remote networks return.
fn bypass_rules(path: PacketPath, local: &Network, bypass: &[IpNet]) -> impl Iterator<Item = Rule> {
    let family = local.family();
    let networks = bypass.iter().map(|network| Network::Prefix(*network));
    let networks = networks.filter(move |network| network.family() == family);
    networks.map(move |network| {
        let matched = match path.direction() {
            Direction::In => Match::Source(network),
            Direction::Out => Match::Destination(network),
        };
        Rule::when(matched, Target::Return)
    })
}

fn is_prefix(matched: &Match) -> bool {
    matches!(
        matched,
        Match::Source(Network::Prefix(_)) | Match::Destination(Network::Prefix(_))
    )
}
