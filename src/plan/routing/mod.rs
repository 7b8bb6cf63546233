//! Which routes, addresses and devices a tunnel needs: what libreswan's `_updown.xfrm` puts in for the same call, less what that
//! gets wrong.
//!
//! What is installed belongs to a far network and not to a connection: Pluto routes a network once for all the connections that lead
//! to it, and the connection that it names when the last of them goes need not be the one that it named when the first came.

mod kernel_query;
mod route_planner;
#[cfg(test)]
mod tests;
mod vti;

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::contract::{ConnectionName, Departure, Dialect, Operation, PeerType, RoutedBy, Routing, Scope, Vti};
use crate::rtnetlink::{Address, Item, ProxyNeighbour, Route, Rule};
use crate::selector::{Device, Network};
use crate::settings::{AlwaysRoute, RouteArguments};

pub use kernel_query::{KernelAnswers, KernelQuery, kernel_queries};
use route_planner::RoutePlanner;

/// To which far network, and by which device if by one of the tunnels' own, something is installed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RoutingKey {
    /// The far network.
    #[serde(rename = "peer_client")]
    pub remote_client: Network,
    /// The XFRM interface or VTI device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[serde(rename = "device")]
    pub interface: Option<Device>,
}

impl RoutingKey {
    /// The key of a call.
    #[must_use]
    pub fn from_routing(routing: &Routing) -> Self {
        Self {
            remote_client: routing.peer_client,
            interface: match &routing.by {
                RoutedBy::XfrmInterface { device, bypass: _ } | RoutedBy::Vti(Vti { device, .. }) => {
                    Some(device.clone())
                }
                // KLIPS' device is the same for all, and FreeS/WAN may be restarted with another.
                RoutedBy::Policy | RoutedBy::Klips(_) => None,
            },
        }
    }
}

/// `10.2.0.0-24`, `10.2.0.0-24@vti01`: also a good name for a file.
impl fmt::Display for RoutingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.remote_client.to_string().replace('/', "-"))?;
        self.interface.as_ref().map_or(Ok(()), |device| write!(f, "@{device}"))
    }
}

/// What of an item excludes any other with the same: a network, a metric and a table of a route, the address of an address. Also a good
/// name for a file.
#[must_use]
pub fn object_key(item: &Item) -> String {
    let text = match item {
        Item::Route(Route {
            destination,
            table,
            metric,
            ..
        }) => {
            format!("route-{table}-{}-{destination}", metric.unwrap_or_default())
        }
        Item::Rule(Rule {
            priority,
            to,
            mark,
            table,
        }) => format!("rule-{priority}-{to}-{mark}-{table}"),
        Item::Address(Address { address, .. }) => return address_key(address.addr()),
        Item::ProxyNeighbour(ProxyNeighbour { address, device }) => format!("neighbour-{address}-{device}"),
        Item::Vti(vti) => return interface_key(&vti.device),
    };
    text.replace('/', "-")
}

/// The slot of an address, whatever device it is on.
#[must_use]
pub fn address_key(address: IpAddr) -> String {
    format!("address-{address}")
}

/// The slot of a tunnel device of ours.
#[must_use]
pub fn interface_key(device: &Device) -> String {
    format!("vti-{device}")
}

/// What the administrator says about routes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RouteOptions {
    /// Whether a tunnel that needs no route gets one all the same.
    pub always: AlwaysRoute,
    /// Further words for the route which what the daemon says goes before (`--iproute`).
    pub before: RouteArguments,
    /// Further words for the route which go before what the daemon says (`IPROUTEARGS`).
    pub after: RouteArguments,
}

/// What is installed already.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RecordedRoutes {
    /// For the same far network.
    pub own: Vec<Item>,
    /// The source address of this call, where we have added it for others, behind the device of ours that it is on.
    pub source: Vec<Item>,
    /// The connection for which the routes were made, where that is known.
    pub connection: Option<ConnectionName>,
}

/// Everything that is to be installed for a far network after an operation, in the order in which it is put in.
#[must_use]
pub fn net_objects(
    dialect: Dialect,
    routing: &Routing,
    operation: Operation,
    options: &RouteOptions,
    answers: &KernelAnswers,
    standing: &RecordedRoutes,
) -> Vec<Item> {
    let wish = RoutePlanner {
        dialect,
        routing,
        options,
        answers,
        recorded: standing,
    };
    let keep = |kept: fn(&Item) -> bool| {
        standing
            .own
            .iter()
            .filter(|item| kept(item))
            .cloned()
            .collect::<Vec<_>>()
    };
    let mut items = match operation {
        Operation::Prepare => [keep(|_| true), wish.vti_device()].concat(),
        Operation::Up => match routing.scope {
            Scope::Host => keep(|_| true),
            Scope::Client => {
                let renewed = wish.routes_with_new_source();
                let mut kept = keep(|_| true);
                if renewed.is_some() {
                    // With its routes the old source address goes.
                    kept.retain(|item| !is_source(item, &standing.own));
                }
                [
                    kept,
                    wish.vti_device(),
                    wish.source_address(),
                    wish.vti_routes(),
                    renewed.unwrap_or_default(),
                ]
                .concat()
            }
        },
        // The device too: whoever routes into one that another connection has made needs it as long as that one.
        Operation::Route => [keep(outlives_route), wish.vti_device(), wish.objects()].concat(),
        Operation::Unroute => match routing.departure {
            Departure::ForGood => Vec::new(),
            Departure::Moving => keep(outlives_route),
        },
        Operation::Down => match (routing.peer_type, routing.source) {
            (PeerType::Cisco, Some(_)) => keep(|item| !is_route(item)),
            (PeerType::Cisco, None) | (PeerType::Other, _) => keep(|_| true),
        },
        Operation::DisconnectNm
        | Operation::UpdateResolvConf
        | Operation::RestoreResolvConf
        | Operation::SpdAdd
        | Operation::SpdDel => keep(|_| true),
    };
    in_order(&mut items);
    items
}

/// Sorts, and keeps of two items that exclude each other the one that came last.
fn in_order(items: &mut Vec<Item>) {
    let mut seen = BTreeSet::new();
    items.reverse();
    items.retain(|item| seen.insert(object_key(item)));
    items.reverse();
    items.sort_by_key(install_order);
}

/// The place in the order of putting in: a device before what stands on it, an address before the routes that have it for their source, a rule after the table that it leads to.
#[must_use]
pub fn install_order(item: &Item) -> u8 {
    match item {
        Item::Vti(_) => 0,
        Item::Address(_) => 1,
        Item::ProxyNeighbour(_) => 2,
        Item::Route(_) => 3,
        Item::Rule(_) => 4,
    }
}

/// Whether it stays while a tunnel is routed anew, or moves.
fn outlives_route(item: &Item) -> bool {
    match item {
        Item::Vti(_) | Item::Address(_) => true,
        Item::Route(_) | Item::Rule(_) | Item::ProxyNeighbour(_) => false,
    }
}

/// Whether an item is the source address of one of these routes.
fn is_source(item: &Item, items: &[Item]) -> bool {
    let Item::Address(address) = item else { return false };
    let source = Some(address.address.addr());
    items
        .iter()
        .any(|item| matches!(item, Item::Route(route) if route.source == source))
}

fn is_route(item: &Item) -> bool {
    match item {
        Item::Route(_) => true,
        Item::Vti(_) | Item::Address(_) | Item::Rule(_) | Item::ProxyNeighbour(_) => false,
    }
}
