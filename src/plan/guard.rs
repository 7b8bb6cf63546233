//! What holds two networks apart that speak with one another only through a tunnel.

use super::layout::Layout;
use super::path::Path;
use super::tree::Shared;
use super::tunnel::asks;
use crate::netfilter::{Direction, Match, Rule, RulePosition, Target};
use crate::selector::Network;

/// Whether two networks can be held apart: nobody can be kept from what is his own.
#[must_use]
pub fn can_be_apart(near: &Network, far: &Network) -> bool {
    near != far
}

/// Decides what drops packets in clear between two networks, whether their tunnel is up or not.
///
/// What goes through a tunnel does not meet it: it is not in clear, or comes by a tunnel's device, which the blocks are told of. Where the
/// near network is a part of the far one, as of 0.0.0.0/0, what stays in it does not go to the other side.
#[must_use]
pub fn lay_out_guard(near: &Network, far: &Network) -> Layout {
    let mut layout = Layout::new(None);
    layout.shared.extend([Shared::Clear, Shared::Apart, Shared::Guards]);
    for path in [Path::BlockIn, Path::BlockOut] {
        let (source, destination) = match path.direction() {
            Direction::In => (far, near),
            Direction::Out => (near, far),
        };
        let ends = [Match::Source(*source), Match::Destination(*destination)];
        let mut matches: Vec<_> = ends.into_iter().filter(asks).collect();
        // iptables shows prefixes before ranges, which have a match of their own.
        matches.sort_by_key(|matched| !is_prefix(matched));
        if far.covers(near) {
            matches.push(match path.direction() {
                Direction::In => Match::NotSource(*near),
                Direction::Out => Match::NotDestination(*near),
            });
        }
        let target = Target::Drop;
        layout.put_in_block(path, far, RulePosition::Head, Rule { matches, target });
    }
    layout
}

fn is_prefix(matched: &Match) -> bool {
    matches!(
        matched,
        Match::Source(Network::Prefix(_)) | Match::Destination(Network::Prefix(_))
    )
}
