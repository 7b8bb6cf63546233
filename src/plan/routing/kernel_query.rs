//! What a plan of routes, addresses and devices depends on.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::route_planner::{has_link_local_hop, is_routed_before_up, single_address};
use crate::rtnetlink::{Link, Lookup};
use crate::selector::Interface;
use crate::updown_env::{Daemon, Operation, RoutedBy, Routing, Scope};

/// What the kernel says about the addresses and devices of a call.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KernelAnswers {
    /// The way to the far network as it is.
    pub to_peer: Option<Lookup>,
    /// The device of that way.
    pub on_link: Option<Link>,
    /// The way to the next hop.
    pub to_next_hop: Option<Lookup>,
    /// The same for packets with our own address.
    pub from_local: Option<Lookup>,
    /// The way to the source address: local, if this machine has it.
    pub source: Option<Lookup>,
    /// The device towards the peer.
    pub outer: Option<Link>,
    /// The next hop of the default route, and its device.
    pub gateway: Option<(IpAddr, Interface)>,
}

/// One of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum KernelQuery {
    /// [`KernelAnswers::to_peer`].
    ToPeer,
    /// [`KernelAnswers::on_link`]; the way itself is to be known before it.
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

/// What [`super::net_objects`] looks at for an operation, in the order in which it can be asked
/// for.
#[must_use]
pub fn kernel_queries(daemon: Daemon, routing: &Routing, operation: Operation) -> BTreeSet<KernelQuery> {
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
                // VTIs have routes of their own at `up`; others only where the source address is
                // told first at `up`.
                let is_vti = matches!(by, RoutedBy::Vti(_));
                if is_vti || routing.source.is_some() && is_routed_before_up(daemon) {
                    needed.extend(route_queries(routing));
                }
            }
        },
        // Nothing that the kernel says matters to a device, nor to what goes.
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
    // The kernel knows no way to an address that says nothing of its link.
    let is_askable = |query: &KernelQuery| match query {
        KernelQuery::ToNextHop | KernelQuery::FromMe => !has_link_local_hop(routing),
        KernelQuery::ToPeer | KernelQuery::OnLink | KernelQuery::Source | KernelQuery::Outer | KernelQuery::Gateway => {
            true
        }
    };
    all.iter().copied().filter(is_askable).collect()
}
