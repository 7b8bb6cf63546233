//! Routes, addresses and interfaces of tunnels, which Pluto leaves to its hook: read from a call,
//! planned, installed by netlink, and recorded.

mod apply;
mod env;
mod facts;
mod plan;
mod record;
mod replaced_route;

pub(crate) use apply::{RoutingChange, RoutingOutcome};
pub use apply::{RoutingEngine, RoutingError};
pub(crate) use env::read_routing;
pub(crate) use env::{RoutedBy, Routing, VtiSettings};
pub use plan::{RouteOptions, RoutingKey, object_key};
pub use record::RoutingRecord;
