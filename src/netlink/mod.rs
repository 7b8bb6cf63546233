//! The kernel's network configuration, by netlink (rtnetlink(7)): objects that are installed and
//! removed, and queries.
//!
//! [`net_objects`] says what there is, [`commands`] how `ip` would say it, [`network`] what can be
//! done with it, [`kernel`] does it. Netlink answers with an error number, where `ip` prints a text
//! that differs from version to version, and starts no process for it.
//!
//! The messages are those of the crate netlink-packet-route. The crate rtnetlink, which would send
//! them, needs an async runtime (tokio), and starting one costs a hook call more than its requests.

pub(crate) mod commands;
mod connected;
pub(crate) mod connection;
pub(crate) mod error;
pub(crate) mod interfaces;
pub(crate) mod kernel;
mod links;
mod messages;
pub(crate) mod net_objects;
pub(crate) mod network;
mod origin;
mod path_mtu;
mod routes;
mod rule_marks;
mod saved_route;
mod vti;
pub mod xfrm;

pub(crate) use connected::connected_networks;
pub use error::{NetlinkError, NetlinkFault};
pub use interfaces::XfrmInterface;
pub(crate) use interfaces::{interface_names, xfrm_interfaces};
pub use kernel::Kernel;
pub use net_objects::{
    AddressScope, AssignedAddress, NetObject, PolicyRule, ProxyNeighbour, Route, RouteOption, RouteTable, VtiInterface,
};
pub use network::{
    Deleted, Ends, InstallResult, Link, LinkKind, Lookup, Medium, NetConfig, NextHop, NoRoute, RouteKind, RouteQuery,
};
pub use origin::Origin;
pub(crate) use path_mtu::path_mtu;
pub(crate) use rule_marks::marked_rules;
pub use saved_route::SavedRoute;
