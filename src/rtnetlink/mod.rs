//! The kernel's network configuration, by netlink (rtnetlink(7)): what is put in and taken out, and what is asked.
//!
//! [`items`] says what there is, [`commands`] how `ip` would say it, [`network`] what can be done with it, [`kernel`]
//! does it. Netlink answers with
//! an error number, where `ip` prints a text that differs from version to version, and starts no process for it.

pub mod commands;
pub(crate) mod connection;
pub mod error;
pub mod interfaces;
pub mod items;
pub mod kernel;
mod links;
mod messages;
pub mod network;
mod origin;
mod path_mtu;
mod routes;
mod saved_route;
mod vti;

pub use error::{Doing, Fault, NetlinkError};
pub use interfaces::{XfrmInterface, xfrm_interfaces};
pub use items::{Address, Item, ProxyNeighbour, Route, RouteOption, Rule, Scope, Table, Vti};
pub use kernel::Kernel;
pub use network::{Ends, Link, LinkKind, Lookup, Medium, Network, NoRoute, Put, Taken, VtiEnds, Wanted, Way, WayKind};
pub use origin::Origin;
pub use path_mtu::path_mtu;
pub use saved_route::SavedRoute;
