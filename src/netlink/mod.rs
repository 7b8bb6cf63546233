//! The kernel's network configuration, by netlink (rtnetlink(7)): objects that are installed and
//! removed, and queries.
//!
//! [`net_objects`] says what there is, [`commands`] how `ip` would say it, [`network`] what can be
//! done with it, [`kernel`] does it. Netlink answers with an error number, where `ip` prints a text
//! that differs from version to version, and starts no process for it.

pub mod commands;
mod connected;
pub(crate) mod connection;
pub mod error;
pub mod interfaces;
pub mod kernel;
mod links;
mod messages;
pub mod net_objects;
pub mod network;
mod origin;
mod path_mtu;
mod routes;
mod rule_marks;
mod saved_route;
mod vti;
pub mod xfrm;

pub use connected::connected_networks;
pub use error::{NetlinkAction, NetlinkError, NetlinkFault};
pub use interfaces::{XfrmInterface, interface_names, xfrm_interfaces};
pub use kernel::Kernel;
pub use net_objects::{
    AddressScope, AssignedAddress, NetObject, PolicyRule, ProxyNeighbour, Route, RouteOption, RouteTable, VtiInterface,
};
pub use network::{
    Deleted, Ends, InstallResult, Link, LinkKind, Lookup, Medium, NetConfig, NextHop, NoRoute, RouteKind, RouteQuery,
    VtiEnds,
};
pub use origin::Origin;
pub use path_mtu::path_mtu;
pub use rule_marks::{MarkedRule, marked_rules};
pub use saved_route::SavedRoute;
