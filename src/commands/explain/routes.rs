//! The possible routes of a packet: unencrypted, out of tunnels and into them.

use std::net::IpAddr;

use super::packet_query::PacketQuery;
use super::record_view::{RulesetView, is_ours};
use crate::daemon::SaMatch;
use crate::net::Traffic;
use crate::netfilter::{BuiltIn, Direction};
use crate::state::TunnelRecord;
use crate::trace::{Endpoint, Packet, PacketCtState, Trace};

/// One possible route of a packet.
#[derive(Debug, Clone)]
pub(super) struct TunnelRoute<'a> {
    pub(super) title: String,
    pub(super) from: Endpoint,
    pub(super) to: Endpoint,
    /// The tunnel that it comes out of, and the one that it goes into.
    pub(super) out_of: Option<&'a TunnelRecord>,
    pub(super) into: Option<&'a TunnelRecord>,
}

/// Whose the two addresses are.
#[derive(Debug, Clone, Copy)]
pub(super) struct OwnAddresses {
    source: bool,
    destination: bool,
}

impl OwnAddresses {
    /// By what the kernel and the record say.
    pub(super) fn for_packet(ruleset_view: &RulesetView, source: IpAddr, destination: IpAddr) -> Self {
        Self {
            source: is_ours(Some(ruleset_view), source),
            destination: is_ours(Some(ruleset_view), destination),
        }
    }

    /// Whether the gateway itself is at one end.
    pub(super) fn is_local(self) -> bool {
        self.source || self.destination
    }

    fn reversed(self) -> Self {
        Self {
            source: self.destination,
            destination: self.source,
        }
    }
}

/// Every possible route of such a packet.
pub(super) fn routes<'a>(
    query: &PacketQuery,
    tunnels: &[&'a TunnelRecord],
    own_addresses: OwnAddresses,
) -> Vec<TunnelRoute<'a>> {
    let PacketQuery {
        source, destination, ..
    } = query;
    let came: Vec<_> = (tunnels.iter().filter(|record| is_out_of(record, *source, *destination))).collect();
    let leave: Vec<_> = (tunnels.iter().filter(|record| is_out_of(record, *destination, *source))).collect();
    let mut routes = vec![TunnelRoute::new(None, None, own_addresses)];
    for record in &came {
        // If a policy matches the outgoing packet, it does not leave unencrypted.
        if own_addresses.destination || leave.is_empty() {
            routes.push(TunnelRoute::new(Some(record), None, own_addresses));
            continue;
        }
        let others = leave.iter().filter(|other| other.id != record.id);
        routes.extend(others.map(|other| TunnelRoute::new(Some(record), Some(other), own_addresses)));
    }
    if !own_addresses.destination {
        routes.extend(
            leave
                .iter()
                .map(|record| TunnelRoute::new(None, Some(record), own_addresses)),
        );
    }
    routes
}

/// Whether a tunnel's selector matches the addresses.
fn is_out_of(record: &TunnelRecord, remote: IpAddr, local: IpAddr) -> bool {
    let tunnel = &record.tunnel;
    let is_own = tunnel.translation.is_some_and(|translation| translation.own == local);
    tunnel.remote_client.contains(remote) && (tunnel.local_client.contains(local) || is_own)
}

impl<'a> TunnelRoute<'a> {
    /// The packet in one connection state, on this route.
    pub(super) fn packet(&self, source: IpAddr, destination: IpAddr, kind: &Traffic, state: PacketCtState) -> Packet {
        Packet {
            source,
            destination,
            kind: kind.clone(),
            from: self.from.clone(),
            to: self.to.clone(),
            connection: state,
            consented: false,
            requested: None,
            answered_at: None,
        }
    }

    /// Every trace of such a packet through this program's chains.
    pub(super) fn traces(
        &self,
        ruleset_view: &RulesetView,
        query: &PacketQuery,
        kind: &Traffic,
        state: PacketCtState,
    ) -> Vec<Trace> {
        ruleset_view.traces(self.packet(query.source, query.destination, kind, state))
    }

    /// The built-in chain of the filter table that it leads through.
    pub(super) fn built_in(&self) -> BuiltIn {
        match (&self.from, &self.to) {
            (_, Endpoint::Gateway) => BuiltIn::Input,
            (Endpoint::Gateway, Endpoint::Unencrypted(_) | Endpoint::Ipsec { .. }) => BuiltIn::Output,
            (Endpoint::Unencrypted(_) | Endpoint::Ipsec { .. }, Endpoint::Unencrypted(_) | Endpoint::Ipsec { .. }) => {
                BuiltIn::Forward
            }
        }
    }

    /// The route of the replies.
    pub(super) fn reply_route(&self, own_addresses: OwnAddresses) -> Self {
        Self::new(self.into, self.out_of, own_addresses.reversed())
    }

    /// Whether a tunnel has to do with it.
    pub(super) fn is_of_tunnels(&self) -> bool {
        self.out_of.is_some() || self.into.is_some()
    }

    fn new(out_of: Option<&'a TunnelRecord>, into: Option<&'a TunnelRecord>, own_addresses: OwnAddresses) -> Self {
        let clear = |is_ours| {
            if is_ours {
                Endpoint::Gateway
            } else {
                Endpoint::Unencrypted(None)
            }
        };
        let from = out_of.map_or_else(
            || clear(own_addresses.source),
            |record| tunnel_endpoint(record, Direction::In),
        );
        let to = into.map_or_else(
            || clear(own_addresses.destination),
            |record| tunnel_endpoint(record, Direction::Out),
        );
        let name = |record: &TunnelRecord| format!("{} ({})", record.key.connection, record.id);
        let through = match (&from, &to) {
            (_, Endpoint::Gateway) => "to the gateway itself",
            (Endpoint::Gateway, _) => "from the gateway itself",
            _ => "through the gateway",
        };
        let title = match (out_of, into) {
            (None, None) => format!("Unencrypted, {through}"),
            (Some(record), None) => format!("Out of the tunnel {}, {through}", name(record)),
            (None, Some(record)) => format!("Into the tunnel {}, {through}", name(record)),
            (Some(one), Some(other)) => format!("Out of the tunnel {} and into {}", name(one), name(other)),
        };
        Self {
            title,
            from,
            to,
            out_of,
            into,
        }
    }
}

/// The endpoint by which a tunnel's packets arrive or leave.
pub(super) fn tunnel_endpoint(record: &TunnelRecord, direction: Direction) -> Endpoint {
    let interface = record.tunnel_rules.interface.clone();
    match (&record.tunnel.sa_match, direction, &interface) {
        (SaMatch::Interface(interface), _, _) => Endpoint::Unencrypted(Some(interface.clone())),
        // The packet reaches the interface first; the policy is looked up after that.
        (SaMatch::Policy { .. }, Direction::Out, Some(_)) => Endpoint::Unencrypted(interface),
        (SaMatch::Policy { protocol, reqid }, Direction::In, _)
        | (SaMatch::Policy { protocol, reqid }, Direction::Out, None) => Endpoint::Ipsec {
            interface,
            reqid: *reqid,
            protocol: *protocol,
        },
    }
}
