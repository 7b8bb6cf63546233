//! A tunnel whose XFRM interface does not exist yet.
//!
//! charon passes the number of the interface (`PLUTO_IF_ID_OUT`), not its name. Before a packet
//! is in the interface, no outbound policy matches it, and iptables cannot match the number.
//! Until the interface exists, no packet can enter the tunnel; from then on every packet could, if
//! it was created without the rules being made again. So what the settings restrict is dropped by
//! its addresses meanwhile.

use super::packet_path::PacketPath;
use super::rules::TunnelPart;
use super::{TunnelInput, excludes_packets, filter, join_matches};
use crate::daemon::{SaMatch, Tunnel};
use crate::firewall::base_chains::decrypted_chain;
use crate::firewall::dispatch::{DispatchBucket, OptionalChains, Precedence};
use crate::net::Interface;
use crate::netfilter::{Direction, Match, RulePosition, Table};
use crate::settings::{Allow, Policy};

/// What happens to packets into a tunnel whose XFRM interface does not exist, if the interface
/// appears before the rules are renewed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MissingInterface {
    /// The settings restrict none of them: the administrator's rules decide.
    Undecided,
    /// They are dropped by their addresses.
    Dropped,
    /// The settings restrict them, and both networks of the tunnel are everything: to drop them by
    /// their addresses would drop all packets of this machine.
    Unrestricted,
}

impl MissingInterface {
    /// What happens to packets into this tunnel; `None` if it leaves by no XFRM interface, or if
    /// the interface is known (`exit_interface`).
    #[must_use]
    pub fn of_tunnel(tunnel: &Tunnel, policy: &Policy, exit_interface: Option<&Interface>) -> Option<Self> {
        let is_by_policy = matches!(tunnel.sa_match, SaMatch::Policy { .. });
        (tunnel.if_id_out.is_some() && is_by_policy && exit_interface.is_none()).then(|| {
            match (restricts_outbound(policy), addresses(tunnel).is_empty()) {
                (false, _) => Self::Undecided,
                (true, false) => Self::Dropped,
                (true, true) => Self::Unrestricted,
            }
        })
    }
}

/// Whether the settings may forbid packets into a tunnel.
fn restricts_outbound(policy: &Policy) -> bool {
    policy.chain.is_some()
        || match policy.allow {
            Allow::None => true,
            Allow::All | Allow::Replies | Allow::Services(_) => false,
        }
}

/// The matches on the addresses of packets into the tunnel. Packets within the local network are no
/// packets into it.
fn addresses(tunnel: &Tunnel) -> Vec<Match> {
    let (local, remote) = (tunnel.local_client, tunnel.remote_client);
    let ends = [Match::Source(local), Match::Destination(remote)];
    let mut matches: Vec<_> = ends.into_iter().filter(excludes_packets).collect();
    if !matches.is_empty() && remote.covers(&local) {
        matches.push(Match::NotDestination(local));
    }
    matches
}

/// The rules that drop what the settings restrict.
///
/// - Drops packets that came by IPsec, before the tunnel that they came out of allows them.
/// - Drops all others, also the gateway's own, in the buckets of blocked pairs. There the packets
///   of known tunnel interfaces are excepted: another tunnel may be between the same networks.
pub(super) fn missing_interface_parts(input: &TunnelInput<'_>) -> Vec<TunnelPart> {
    let (tunnel, id, policy) = (input.tunnel, input.id, input.context.policy);
    match MissingInterface::of_tunnel(tunnel, policy, input.exit_interface) {
        Some(MissingInterface::Dropped) => {}
        Some(MissingInterface::Undecided | MissingInterface::Unrestricted) | None => return Vec::new(),
    }
    let traffic = filter::traffic_match(tunnel, Direction::Out, &tunnel.traffic);
    let known = join_matches(&addresses(tunnel), traffic.into_iter().collect());
    let shared = [
        OptionalChains::Unencrypted,
        OptionalChains::ClearTextEntry,
        OptionalChains::ClearTextBlocks,
    ];
    let bucket = DispatchBucket::for_remote(PacketPath::BlockOut, Precedence::Open, &tunnel.remote_client);
    let blocked = filter::log_and_drop(id, policy, known.clone()).into_iter();
    let decrypted = [known, vec![Match::PolicyNone(Direction::Out)]].concat();
    // Each is inserted at the head, so the last one is inserted first.
    let decrypted = filter::log_and_drop(id, policy, decrypted).into_iter().rev();
    let shared = shared.into_iter().map(TunnelPart::Shared);
    shared
        .chain(blocked.map(|rule| TunnelPart::InBucket(bucket, RulePosition::Tail, rule)))
        .chain(decrypted.map(|rule| TunnelPart::AtHead(Table::Filter, decrypted_chain(), rule)))
        .collect()
}
