//! The kernel queries that a plan of routes, addresses and interfaces depends on.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::route_planner::{has_link_local_hop, is_routed_before_up, single_address};
use crate::daemon::{Daemon, Operation, Scope};
use crate::net::Interface;
use crate::netlink::{Link, Lookup};
use crate::routing::env::{RoutedBy, Routing};

/// The kernel's answers about the addresses and interfaces of a call.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct KernelAnswers {
    /// The present route to the remote network.
    pub to_peer: Option<Lookup>,
    /// The link of that route.
    pub on_link: Option<Link>,
    /// The route to the next hop.
    pub to_next_hop: Option<Lookup>,
    /// The route to the next hop from the local IKE address.
    pub from_local: Option<Lookup>,
    /// The route to the source address: local, if this machine has it.
    pub source: Option<Lookup>,
    /// The link towards the peer.
    pub outer: Option<Link>,
    /// The next hop of the default route, and its interface.
    pub gateway: Option<(IpAddr, Interface)>,
}

/// One of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum KernelQuery {
    /// [`KernelAnswers::to_peer`].
    ToPeer,
    /// [`KernelAnswers::on_link`]; asked after the route itself.
    OnLink,
    /// [`KernelAnswers::to_next_hop`].
    ToNextHop,
    /// [`KernelAnswers::from_local`].
    FromMe,
    /// [`KernelAnswers::source`].
    Source,
    /// [`KernelAnswers::outer`].
    Outer,
    /// [`KernelAnswers::gateway`].
    Gateway,
}

/// The answers that [`super::net_objects`] needs for an operation, in an order in which they can be
/// asked for.
#[must_use]
pub(crate) fn kernel_queries(daemon: Daemon, routing: &Routing, operation: Operation) -> BTreeSet<KernelQuery> {
    let mut needed = BTreeSet::new();
    match operation {
        Operation::Route => {
            needed.insert(KernelQuery::ToPeer);
            needed.extend(single_address(&routing.remote_client).map(|_| KernelQuery::OnLink));
            needed.extend(routing.source.map(|_| KernelQuery::Source));
            needed.extend(route_queries(routing));
        }
        Operation::Up => match (routing.scope, &routing.by) {
            (Scope::Host, _) => {}
            (Scope::Client, by) => {
                needed.extend(routing.source.map(|_| KernelQuery::Source));
                // VTI routes are made at `up`; others only where the source address is known at
                // `up` first.
                let is_vti = matches!(by, RoutedBy::Vti(_));
                if is_vti || routing.source.is_some() && is_routed_before_up(daemon) {
                    needed.extend(route_queries(routing));
                }
            }
        },
        // Making an interface, and removing objects, needs no answer of the kernel.
        Operation::Prepare
        | Operation::Unroute
        | Operation::Down
        | Operation::DisconnectNm
        | Operation::UpdateResolvConf
        | Operation::RestoreResolvConf
        | Operation::SpdAdd
        | Operation::SpdDel => {}
    }
    needed
}

/// What the routes themselves depend on.
fn route_queries(routing: &Routing) -> Vec<KernelQuery> {
    let all: &[KernelQuery] = match &routing.by {
        RoutedBy::Policy => &[KernelQuery::ToNextHop, KernelQuery::Outer],
        RoutedBy::XfrmInterface { bypass: Some(_), .. } => &[KernelQuery::FromMe, KernelQuery::Outer],
        RoutedBy::Vti(_) => &[KernelQuery::Gateway],
        RoutedBy::XfrmInterface { bypass: None, .. } | RoutedBy::Klips(_) => &[],
    };
    // The kernel cannot look up a link-local address without its link.
    let is_askable = |query: &KernelQuery| match query {
        KernelQuery::ToNextHop | KernelQuery::FromMe => !has_link_local_hop(routing),
        KernelQuery::ToPeer | KernelQuery::OnLink | KernelQuery::Source | KernelQuery::Outer | KernelQuery::Gateway => {
            true
        }
    };
    all.iter().copied().filter(is_askable).collect()
}
