//! What holds two networks apart that speak with one another only through a tunnel.

use super::dispatch::OptionalChains;
use super::packet_path::PacketPath;
use super::tunnel::is_restrictive;
use super::tunnel_rules::TunnelRules;
use crate::netfilter::{Direction, Match, Rule, RulePosition, Target};
use crate::selector::Network;

/// Whether two networks can be held apart: nobody can be kept from what is his own.
#[must_use]
pub fn can_block_clear_text(local: &Network, remote: &Network) -> bool {
    local != remote
}

/// Decides what drops packets in clear between two networks, whether their tunnel is up or not.
///
/// What goes through a tunnel does not meet it: it is not in clear, or comes by a tunnel's device, which the blocks are told of. Where the
/// near network is a part of the far one, as of 0.0.0.0/0, what stays in it does not go to the other side.
#[must_use]
pub fn clear_text_block(local: &Network, remote: &Network) -> TunnelRules {
    let mut tunnel_rules = TunnelRules::new(None);
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
        let mut matches: Vec<_> = ends.into_iter().filter(is_restrictive).collect();
        // iptables shows prefixes before ranges, which have a match of their own.
        matches.sort_by_key(|matched| !is_prefix(matched));
        if remote.covers(local) {
            matches.push(match path.direction() {
                Direction::In => Match::NotSource(*local),
                Direction::Out => Match::NotDestination(*local),
            });
        }
        let target = Target::Drop;
        tunnel_rules.add_to_bucket(path, remote, RulePosition::Head, Rule { matches, target });
    }
    tunnel_rules
}

fn is_prefix(matched: &Match) -> bool {
    matches!(
        matched,
        Match::Source(Network::Prefix(_)) | Match::Destination(Network::Prefix(_))
    )
}
