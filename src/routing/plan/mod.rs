//! The routes, addresses and interfaces that a tunnel needs: what libreswan's `_updown.xfrm`
//! installs for the same call, without its errors.
//!
//! The objects belong to a remote network and not to a connection: Pluto routes a network once for
//! all connections that lead to it, and at `unroute` it may name another of these connections than
//! at `route`.

mod kernel_query;
mod route_planner;
#[cfg(test)]
mod tests;
mod vti;

pub(crate) use kernel_query::{KernelAnswers, KernelQuery, kernel_queries};

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::env::{PeerType, RoutedBy, Routing, UnrouteReason, VtiSettings};
use crate::daemon::{ConnectionName, Daemon, Operation, Scope};
use crate::net::{Interface, Network};
use crate::netlink::{AssignedAddress, NetObject, PolicyRule, ProxyNeighbour, Route};
use crate::settings::{AlwaysRoute, RouteArguments};

use route_planner::RoutePlanner;

/// The key of a routing record: the remote network, and the interface if the tunnel has its own.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RoutingKey {
    /// The remote network.
    #[serde(rename = "peer_client")]
    pub remote_client: Network,
    /// The XFRM or VTI interface.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[serde(rename = "device")]
    pub interface: Option<Interface>,
}

impl RoutingKey {
    /// The key of a call.
    #[must_use]
    pub fn from_routing(routing: &Routing) -> Self {
        Self {
            remote_client: routing.remote_client,
            interface: match &routing.by {
                RoutedBy::XfrmInterface { interface, bypass: _ } | RoutedBy::Vti(VtiSettings { interface, .. }) => {
                    Some(interface.clone())
                }
                // KLIPS has one interface for all tunnels, and FreeS/WAN may be restarted with
                // another one.
                RoutedBy::Policy | RoutedBy::Klips(_) => None,
            },
        }
    }
}

/// `10.2.0.0-24`, `10.2.0.0-24@vti01`: also a good name for a file.
impl fmt::Display for RoutingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.remote_client.to_string().replace('/', "-"))?;
        self.interface
            .as_ref()
            .map_or(Ok(()), |interface| write!(f, "@{interface}"))
    }
}

/// What of an item excludes any other with the same: a network, a metric and a table of a route,
/// the address of an address. Also a good name for a file.
#[must_use]
pub fn object_key(object: &NetObject) -> String {
    let text = match object {
        NetObject::Route(Route {
            destination,
            table,
            metric,
            ..
        }) => {
            format!("route-{table}-{}-{destination}", metric.unwrap_or_default())
        }
        NetObject::Rule(PolicyRule {
            priority,
            to,
            mark,
            table,
        }) => format!("rule-{priority}-{to}-{mark}-{table}"),
        NetObject::Address(AssignedAddress { address, .. }) => return address_key(address.addr()),
        NetObject::ProxyNeighbour(ProxyNeighbour { address, interface }) => format!("neighbour-{address}-{interface}"),
        NetObject::VtiInterface(vti) => return interface_key(&vti.interface),
    };
    text.replace('/', "-")
}

/// The key of an address, whatever interface it is on.
#[must_use]
pub(crate) fn address_key(address: IpAddr) -> String {
    format!("address-{address}")
}

/// The key of a tunnel interface that this program creates.
#[must_use]
pub(crate) fn interface_key(interface: &Interface) -> String {
    format!("vti-{interface}")
}

/// What the administrator says about routes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RouteOptions {
    /// Whether a tunnel that needs no route gets one all the same.
    pub always: AlwaysRoute,
    /// Further words for the route; the daemon's override them (`--iproute`).
    pub before: RouteArguments,
    /// Further words for the route, which override the daemon's (`IPROUTEARGS`).
    pub after: RouteArguments,
}

/// What is installed already.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct RecordedRoutes {
    /// The objects of the same remote network.
    pub own: Vec<NetObject>,
    /// The source address of this call, if this program has added it for other remote networks,
    /// after the interface that it is on, if this program made that.
    pub source: Vec<NetObject>,
    /// The connection for which the routes were made, where that is known.
    pub connection: Option<ConnectionName>,
}

/// Everything that is to be installed for a remote network after an operation, in the order of
/// installation.
#[must_use]
pub(crate) fn net_objects(
    daemon: Daemon,
    routing: &Routing,
    operation: Operation,
    options: &RouteOptions,
    answers: &KernelAnswers,
    recorded: &RecordedRoutes,
) -> Vec<NetObject> {
    let planner = RoutePlanner {
        daemon,
        routing,
        options,
        answers,
        recorded,
    };
    let keep = |kept: fn(&NetObject) -> bool| {
        recorded
            .own
            .iter()
            .filter(|object| kept(object))
            .cloned()
            .collect::<Vec<_>>()
    };
    let mut objects = match operation {
        Operation::Prepare => [keep(|_| true), planner.vti_device()].concat(),
        Operation::Up => match routing.scope {
            Scope::Host => keep(|_| true),
            Scope::Client => {
                let renewed = planner.routes_with_new_source();
                let mut kept = keep(|_| true);
                if renewed.is_some() {
                    // The old source address is removed with its routes.
                    kept.retain(|item| !is_source(item, &recorded.own));
                }
                [
                    kept,
                    planner.vti_device(),
                    planner.source_address(),
                    planner.vti_routes(),
                    renewed.unwrap_or_default(),
                ]
                .concat()
            }
        },
        // The interface too: a connection that routes into an interface that another connection
        // made needs it as long as that one does.
        Operation::Route => [keep(outlives_route), planner.vti_device(), planner.objects()].concat(),
        Operation::Unroute => match routing.unroute_reason {
            UnrouteReason::ForGood => Vec::new(),
            UnrouteReason::Moving => keep(outlives_route),
        },
        Operation::Down => match (routing.peer_type, routing.source) {
            (PeerType::Cisco, Some(_)) => keep(|object| !is_route(object)),
            (PeerType::Cisco, None) | (PeerType::Other, _) => keep(|_| true),
        },
        Operation::DisconnectNm
        | Operation::UpdateResolvConf
        | Operation::RestoreResolvConf
        | Operation::SpdAdd
        | Operation::SpdDel => keep(|_| true),
    };
    in_order(&mut objects);
    objects
}

/// Sorts, and keeps of two items that exclude each other the one that came last.
fn in_order(objects: &mut Vec<NetObject>) {
    let mut seen = BTreeSet::new();
    objects.reverse();
    objects.retain(|object| seen.insert(object_key(object)));
    objects.reverse();
    objects.sort_by_key(install_order);
}

/// The position in the order of installation: an interface before its addresses and routes, an
/// address before the routes that have it as their source, a rule after the table that it looks up.
#[must_use]
pub(crate) fn install_order(object: &NetObject) -> u8 {
    match object {
        NetObject::VtiInterface(_) => 0,
        NetObject::Address(_) => 1,
        NetObject::ProxyNeighbour(_) => 2,
        NetObject::Route(_) => 3,
        NetObject::Rule(_) => 4,
    }
}

/// Whether it stays while a tunnel is routed again, or moved.
fn outlives_route(object: &NetObject) -> bool {
    match object {
        NetObject::VtiInterface(_) | NetObject::Address(_) => true,
        NetObject::Route(_) | NetObject::Rule(_) | NetObject::ProxyNeighbour(_) => false,
    }
}

/// Whether an item is the source address of one of these routes.
fn is_source(item: &NetObject, items: &[NetObject]) -> bool {
    let NetObject::Address(address) = item else {
        return false;
    };
    let source = Some(address.address.addr());
    items
        .iter()
        .any(|item| matches!(item, NetObject::Route(route) if route.source == source))
}

fn is_route(item: &NetObject) -> bool {
    match item {
        NetObject::Route(_) => true,
        NetObject::VtiInterface(_) | NetObject::Address(_) | NetObject::Rule(_) | NetObject::ProxyNeighbour(_) => false,
    }
}
