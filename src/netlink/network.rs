//! The operations and queries on the kernel's network configuration.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;

use super::error::NetlinkError;
use super::net_objects::{NetObject, Route};
use super::saved_route::SavedRoute;
use crate::net::Interface;

/// The kernel's network configuration. [`Kernel`](super::Kernel) is the real one; a trait, so that
/// tests can put an emulator in its place.
pub trait NetConfig {
    /// Installs an object. A route replaces the one to the same destination with the same metric in
    /// the same table; any other existing object stays as it is. An address can be used afterwards,
    /// except an IPv6 one on Ethernet.
    ///
    /// # Errors
    /// If the kernel refuses it, or there is no such interface. Nothing has been installed then.
    fn install(&mut self, object: &NetObject) -> Result<InstallResult, NetlinkError>;

    /// Adds a route, unless there is one to the same destination with the same metric in the same
    /// table, of any program.
    ///
    /// # Errors
    /// If the kernel refuses it, or there is no such interface. Nothing has been installed then.
    fn add_route(&mut self, route: &Route) -> Result<InstallResult, NetlinkError>;

    /// The present route with another route's key: the same destination, metric and
    /// table. Reads the whole table.
    ///
    /// # Errors
    /// If the kernel cannot be asked.
    fn in_place_of(&mut self, route: &Route) -> Result<Option<SavedRoute>, NetlinkError>;

    /// Restores a saved route, in place of the present one.
    ///
    /// # Errors
    /// If the kernel refuses it, for example if its interface no longer exists.
    fn put_back(&mut self, saved: &SavedRoute) -> Result<(), NetlinkError>;

    /// Removes an object, if it exists with all its properties, as far as the kernel compares them:
    /// it ignores source, MTU and options of an IPv6 route, and the scope of an address, and a
    /// route without a metric matches any metric.
    ///
    /// # Errors
    /// If the kernel refuses that. That there is no such thing is no error.
    fn delete(&mut self, object: &NetObject) -> Result<Deleted, NetlinkError>;

    /// The route of a packet that this machine sends, as by `ip route get`. A source must be an
    /// address of this machine.
    ///
    /// # Errors
    /// If the kernel cannot be queried. A missing route is no error.
    fn lookup(&mut self, to: IpAddr, from: Option<IpAddr>) -> Result<Lookup, NetlinkError>;

    /// An interface, if there is one of this name.
    ///
    /// # Errors
    /// If the kernel cannot be asked.
    fn link(&mut self, interface: &Interface) -> Result<Option<Link>, NetlinkError>;

    /// The unicast routes of the main table that are looked for, in the kernel's order. Reads the
    /// whole table.
    ///
    /// # Errors
    /// If the kernel cannot be asked.
    fn routes(&mut self, wanted: &RouteQuery) -> Result<Vec<Route>, NetlinkError>;
}

/// The result of installing an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InstallResult {
    /// It was installed.
    New,
    /// It existed already, or an interface of that name did. The program that installed it removes
    /// it.
    Existed,
}

/// The result of removing an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deleted {
    /// It existed, and is removed.
    Out,
    /// It did not exist.
    Absent,
}

/// The result of a route lookup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lookup {
    /// The route.
    Found(NextHop),
    /// None.
    Unreachable(NoRoute),
}

/// The route of a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NextHop {
    /// The receiver.
    pub kind: RouteKind,
    /// The interface that it leaves by.
    pub interface: Option<Interface>,
    /// The next hop; `None` if its destination is on the interface's link.
    pub via: Option<IpAddr>,
}

/// The receiver of a packet (`rtm_type`, rtnetlink(7)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RouteKind {
    /// This machine.
    Local,
    /// Another.
    Unicast,
    /// Several: broadcast, multicast, anycast.
    Other,
}

/// Why there is no route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoRoute {
    /// No route leads there, or the source is no address of this machine (`ENETUNREACH`, "Network
    /// is unreachable").
    Network,
    /// A route of type unreachable (`EHOSTUNREACH`, "No route to host").
    Host,
    /// A route prohibits it (`EACCES`, "Permission denied").
    Prohibited,
    /// A blackhole route drops it (`EINVAL`, "Invalid argument"). Older kernels say so too where
    /// the source is no address of this machine.
    Blackhole,
}

/// An interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Its name.
    pub interface: Interface,
    /// Its number.
    pub index: u32,
    /// Its link layer, which says whether neighbours must be resolved.
    pub medium: Medium,
    /// Whether it is point-to-point.
    pub ends: Ends,
    /// Its hardware address; none where it has none. An address all of zeros, as that of the
    /// loopback, is one.
    pub hardware_address: Option<Vec<u8>>,
    /// Its kind.
    pub kind: LinkKind,
}

/// An interface's link layer (`ARPHRD_`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Medium {
    /// Ethernet, or made to look like it.
    Ethernet,
    /// The loopback.
    Loopback,
    /// Another, mostly without frames.
    Other(u16),
}

/// Whether an interface is point-to-point (`IFF_POINTOPOINT`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ends {
    /// One peer.
    PointToPoint,
    /// Any number of neighbours.
    Many,
}

/// The kind of an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkKind {
    /// A virtual tunnel interface, and what it is bound to.
    Vti(VtiEnds),
    /// A virtual tunnel interface for IPv6 outside.
    Vti6,
    /// An XFRM interface.
    Xfrm,
    /// None that the kernel names: a hardware interface, or one of KLIPS.
    Unnamed,
    /// Another driver.
    Other,
}

/// What a virtual tunnel interface is bound to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VtiEnds {
    /// Our end; none is any address.
    pub local: Option<Ipv4Addr>,
    /// The other end; none is any address.
    pub remote: Option<Ipv4Addr>,
    /// The mark of what goes out.
    pub output_key: u32,
    /// The mark of what comes in.
    pub input_key: u32,
}

/// Which routes are looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RouteQuery {
    /// Those to exactly this network; `0.0.0.0/0` is the default route.
    To(IpNet),
    /// Those that give packets this source.
    From(IpAddr),
}
