//! What is done to the kernel's network configuration, and asked of it.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;

use super::error::NetlinkError;
use super::net_objects::{NetObject, Route};
use super::saved_route::SavedRoute;
use crate::selector::Interface;

/// The kernel's network configuration. [`Kernel`](super::Kernel) is the real one; a trait, so that
/// tests can put an emulator in its place.
pub trait NetConfig {
    /// Puts an item in. A route replaces the one to the same destination with the same metric in
    /// the same table; anything else that is there already stays as it is. An address can be used
    /// afterwards, but for an IPv6 one on Ethernet.
    ///
    /// # Errors
    /// If the kernel refuses it, or there is no such device. Nothing has been put in then.
    fn install(&mut self, object: &NetObject) -> Result<InstallResult, NetlinkError>;

    /// Puts a route in, unless there is one to the same destination with the same metric in the
    /// same table, whoever put it in.
    ///
    /// # Errors
    /// If the kernel refuses it, or there is no such device. Nothing has been put in then.
    fn add_route(&mut self, route: &Route) -> Result<InstallResult, NetlinkError>;

    /// The route that stands in the way of another: to the same destination with the same metric in
    /// the same table. Reads the whole table.
    ///
    /// # Errors
    /// If the kernel cannot be asked.
    fn in_place_of(&mut self, route: &Route) -> Result<Option<SavedRoute>, NetlinkError>;

    /// Puts a route back that was saved, in place of the one that stands there.
    ///
    /// # Errors
    /// If the kernel refuses it, as where its device is gone.
    fn put_back(&mut self, saved: &SavedRoute) -> Result<(), NetlinkError>;

    /// Takes an item out, if it is there with all that the item says, as far as the kernel
    /// compares: of an IPv6 route it takes no notice of source, MTU and options, of an address none
    /// of the scope, and a route of which no metric is said goes whatever its metric is.
    ///
    /// # Errors
    /// If the kernel refuses that. That there is no such thing is no error.
    fn delete(&mut self, object: &NetObject) -> Result<Deleted, NetlinkError>;

    /// Which way a packet goes that this machine sends, as `ip route get` says it. A source must be
    /// an address of this machine.
    ///
    /// # Errors
    /// If the kernel cannot be asked. That there is no way is no error.
    fn lookup(&mut self, to: IpAddr, from: Option<IpAddr>) -> Result<Lookup, NetlinkError>;

    /// A device, if there is one of this name.
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

/// What became of an item that was to be put in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InstallResult {
    /// It is in, by us.
    New,
    /// It stood there already, or a device of that name did. Whoever put it in takes it out.
    Existed,
}

/// What became of an item that was to be taken out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deleted {
    /// It was there, and is out.
    Out,
    /// It was not there.
    Absent,
}

/// Which way a packet goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lookup {
    /// This way.
    Found(NextHop),
    /// None.
    Unreachable(NoRoute),
}

/// The way of a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NextHop {
    /// Who gets it.
    pub kind: RouteKind,
    /// The device it leaves by.
    pub interface: Option<Interface>,
    /// The next hop; none where its destination is on the device's link.
    pub via: Option<IpAddr>,
}

/// Who gets a packet (`rtm_type`, rtnetlink(7)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RouteKind {
    /// This machine.
    Local,
    /// Another.
    Unicast,
    /// Several others: broadcast, multicast, anycast.
    Other,
}

/// Why there is no way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoRoute {
    /// No route leads there, or the source is no address of this machine (`ENETUNREACH`, "Network
    /// is unreachable").
    Network,
    /// A route says that there is nobody (`EHOSTUNREACH`, "No route to host").
    Host,
    /// A route prohibits it (`EACCES`, "Permission denied").
    Prohibited,
    /// A route swallows it (`EINVAL`, "Invalid argument"). Older kernels say so too where the
    /// source is no address of this machine.
    Blackhole,
}

/// A device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Its name.
    pub interface: Interface,
    /// Its number.
    pub index: u32,
    /// Whether there are neighbours to be asked for.
    pub medium: Medium,
    /// What is at the other end.
    pub ends: Ends,
    /// Its hardware address; none where it has none. An address all of zeros, as that of the
    /// loopback, is one.
    pub hardware_address: Option<Vec<u8>>,
    /// What made it.
    pub kind: LinkKind,
}

/// What a device's frames are like (`ARPHRD_`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Medium {
    /// Ethernet, or made to look like it.
    Ethernet,
    /// The loopback.
    Loopback,
    /// Another, mostly without frames.
    Other(u16),
}

/// What is at the other end of a device (`IFF_POINTOPOINT`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ends {
    /// One peer.
    PointToPoint,
    /// Any number of neighbours.
    Many,
}

/// What made a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkKind {
    /// A virtual tunnel interface, and what it is bound to.
    Vti(VtiEnds),
    /// A virtual tunnel interface for IPv6 outside.
    Vti6,
    /// An XFRM interface.
    Xfrm,
    /// None that the kernel names: a device of hardware, or of KLIPS.
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
