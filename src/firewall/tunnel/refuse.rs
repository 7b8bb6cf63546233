//! Drops packets of a restricted tunnel that no tunnel has allowed.

use super::filter_path::FilterPath;
use super::packet_path::PacketPath;
use super::rules::TunnelPart;
use super::{TunnelInput, filter};
use crate::daemon::Tunnel;
use crate::firewall::dispatch::{DispatchBucket, Precedence};
use crate::net::{Network, Traffic};
use crate::netfilter::{Direction, Match, RulePosition, Target};
use crate::settings::{Allow, GatewayAccess};

/// The further buckets in which a tunnel drops outbound packets; only a tunnel that allows nothing
/// has any.
///
/// - After all tunnels: packets outside the tunnel's protocol and port, which libreswan's kernel
///   policies match all the same. Several tunnels between the same networks can have one reqid,
///   each with its own ports (strongSwan); their rules all come before this bucket.
/// - On [`PacketPath::RefuseOut`]: packets that came by IPsec and that no tunnel has allowed, as
///   from a policy of another program. They never reach the tunnel's own chain, whose ACCEPT, or
///   that of the administrator's chain, would be enough alone. For the same reason there is no jump
///   to that chain here.
pub(super) fn refusing_buckets(tunnel: &Tunnel, filter_path: &FilterPath) -> Vec<DispatchBucket> {
    let path = filter_path.path;
    if !filter_path.is_restricted() || path.direction() == Direction::In {
        return Vec::new();
    }
    let rest = (tunnel.traffic != Traffic::Any).then_some((path, Precedence::Rest));
    let out = (path == PacketPath::ForwardOut).then_some((PacketPath::RefuseOut, Precedence::Open));
    let places = rest.into_iter().chain(out);
    places
        .map(|(path, precedence)| DispatchBucket::for_remote(path, precedence, &tunnel.remote_client))
        .collect()
}

/// Drops packets that come out of a restricted tunnel and that no tunnel has allowed, whatever
/// their destination.
///
/// PREROUTING may have given such a packet another destination, in neither network of the tunnel: a
/// published host (docker), the gateway itself (REDIRECT), another tunnel. So the rules match the
/// source and the policy only, and the connection's original destination. Allowed services that
/// were redirected are left to the administrator's rules. The returns are at the head and the drops
/// at the tail of one chain, so that no tunnel drops what another one between the same networks,
/// with the same reqid, allows.
///
/// To the gateway itself `host-access = "no"` leaves nothing but replies, whatever `allow` says and
/// whichever destination PREROUTING has replaced.
pub(super) fn inbound_parts(input: &TunnelInput<'_>) -> Vec<TunnelPart> {
    let (tunnel, id, policy) = (input.tunnel, input.id, input.context.policy);
    let mut parts = Vec::new();
    for path in [PacketPath::RefuseInput, PacketPath::RefuseForward] {
        let is_closed = path == PacketPath::RefuseInput && policy.host_access == GatewayAccess::No;
        let allow = match &policy.allow {
            Allow::All | Allow::Services(_) if is_closed => &Allow::Replies,
            Allow::All => continue,
            allow @ (Allow::Replies | Allow::Services(_) | Allow::None) => allow,
        };
        let known = input.matches(path, None);
        let bucket = DispatchBucket::for_remote(path, Precedence::Open, &tunnel.remote_client);
        for matches in filter::unlisted_traffic(tunnel, allow) {
            let matches = without_known(&known, matches);
            let rule = filter::named_rule(id, matches, Target::Return);
            parts.push(TunnelPart::InBucket(bucket, RulePosition::Head, rule));
        }
        for rule in filter::log_and_drop(id, policy, known) {
            parts.push(TunnelPart::InBucket(bucket, RulePosition::Tail, rule));
        }
    }
    parts
}

/// The matches joined in the order in which iptables lists them: addresses, interfaces, protocols,
/// extensions.
fn without_known(known: &[Match], more: Vec<Match>) -> Vec<Match> {
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
