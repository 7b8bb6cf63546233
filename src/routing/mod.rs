//! Routes, addresses and interfaces of tunnels, which Pluto leaves to its hook: read from a call,
//! planned, installed by netlink, and recorded.

mod apply;
mod env;
mod facts;
mod plan;
mod record;
mod replaced_route;

pub use apply::{RoutingChange, RoutingEngine, RoutingError, RoutingOutcome};
pub(crate) use env::read_routing;
pub use env::{PeerType, RoutedBy, Routing, UnrouteReason, VtiMarks, VtiRouting, VtiSettings};
pub use plan::{
    KernelAnswers, KernelQuery, RecordedRoutes, RouteOptions, RoutingKey, address_key, install_order, interface_key,
    kernel_queries, net_objects, object_key,
};
pub use record::RoutingRecord;
