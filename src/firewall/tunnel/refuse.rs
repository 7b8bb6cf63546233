//! Drops packets of a restricted tunnel that no tunnel has allowed, outside its own chains.

use super::filter_path::FilterPath;
use super::packet_path::PacketPath;
use super::rules::TunnelPart;
use super::{TunnelInput, filter, join_matches};
use crate::daemon::Tunnel;
use crate::firewall::dispatch::{DispatchBucket, Precedence};
use crate::net::Traffic;
use crate::netfilter::{Direction, RulePosition, Target};
use crate::settings::{Allow, GatewayAccess};

/// The buckets in which a tunnel with `allow = "none"` drops packets into it, besides its own
/// chain. Other tunnels have none.
///
/// - The bucket after all tunnels, whose name ends in `X`: it drops packets outside the tunnel's
///   protocol and ports that have its networks, and its reqid or interface. It comes last, because
///   under strongSwan several tunnels between the same networks can have one reqid, each with ports
///   of its own.
/// - The bucket below `PLUTO-RO`: it drops packets that came by IPsec and that no inbound tunnel
///   has allowed, for example those of another program's policy. Such packets must not reach the
///   tunnel's own chain, because an ACCEPT in the administrator's chain would accept them without
///   an inbound tunnel's consent. For the same reason this bucket does not jump to the
///   administrator's chain.
pub(super) fn refusing_buckets(tunnel: &Tunnel, filter_path: &FilterPath) -> Vec<DispatchBucket> {
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

/// The rules below `PLUTO-RI` and `PLUTO-RF`, which drop packets that came out of a restricted
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
        let tunnel_match = input.matches(path, None);
        let bucket = DispatchBucket::for_remote(path, Precedence::Open, &tunnel.remote_client);
        for matches in filter::refusal_exceptions(tunnel, allow) {
            let matches = join_matches(&tunnel_match, matches);
            let rule = filter::named_rule(id, matches, Target::Return);
            parts.push(TunnelPart::InBucket(bucket, RulePosition::Head, rule));
        }
        for rule in filter::log_and_drop(id, policy, tunnel_match) {
            parts.push(TunnelPart::InBucket(bucket, RulePosition::Tail, rule));
        }
    }
    parts
}
