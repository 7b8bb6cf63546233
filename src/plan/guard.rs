//! What holds two networks apart that speak with one another only through a tunnel.

use super::layout::Layout;
use super::path::Path;
use super::tree::Shared;
use super::tunnel::asks;
use crate::netfilter::{Direction, Match, Place, Rule, Verdict};
use crate::selector::{Device, Network};

/// Decides what drops packets in clear between two networks, whether their tunnel is up or not.
///
/// What goes through the tunnel does not meet it, as it is not in clear; but to a tunnel's own device everything is, so packets of `device` are
/// left out.
#[must_use]
pub fn lay_out_guard(near: &Network, far: &Network, device: Option<&Device>) -> Layout {
    let mut layout = Layout::new(None);
    layout.shared.extend([Shared::Clear, Shared::Guards]);
    for path in [Path::BlockIn, Path::BlockOut] {
        let (source, destination) = match path.direction() {
            Direction::In => (far, near),
            Direction::Out => (near, far),
        };
        let ends = [Match::Source(*source), Match::Destination(*destination)]
            .into_iter()
            .filter(asks);
        // iptables shows prefixes before the device, and ranges, which have a match of their own, behind it.
        let (mut matches, ranges): (Vec<_>, Vec<_>) = ends.partition(is_prefix);
        matches.extend(device.cloned().map(|device| match path.direction() {
            Direction::In => Match::NotIn(device),
            Direction::Out => Match::NotOut(device),
        }));
        matches.extend(ranges);
        let verdict = Verdict::Drop;
        layout.put_in_block(path, far, Place::Head, Rule { matches, verdict });
    }
    layout
}

fn is_prefix(matched: &Match) -> bool {
    matches!(
        matched,
        Match::Source(Network::Prefix(_)) | Match::Destination(Network::Prefix(_))
    )
}
