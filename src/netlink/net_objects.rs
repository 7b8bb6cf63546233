//! The objects that can be added to the kernel's network configuration, and removed.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::network::VtiEnds;
use super::origin::Origin;
use crate::net::{Family, Interface, Mark};

/// An object in the kernel's network configuration.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NetObject {
    /// A route, as `ip route` has them.
    Route(Route),
    /// A rule that says which table is asked, as `ip rule` has them.
    Rule(PolicyRule),
    /// An address of this machine, as `ip address` has them.
    Address(AssignedAddress),
    /// An address that is answered for on an interface (proxy ARP, RFC 1027; proxy NDP, RFC 4389),
    /// as `ip neigh … proxy` has them.
    ProxyNeighbour(ProxyNeighbour),
    /// A tunnel interface with marks as its keys.
    #[serde(rename = "vti")]
    VtiInterface(VtiInterface),
}

/// A unicast route.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Route {
    /// The destination. Host bits are cleared before it is used, because the kernel refuses them.
    pub destination: IpNet,
    /// Its table.
    #[serde(default, skip_serializing_if = "RouteTable::is_main")]
    pub table: RouteTable,
    /// The next hop; `None` if the destination is on the interface's link. It may be of the other
    /// family for an IPv4 destination (RFC 5549, Linux 5.2 and later).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub via: Option<IpAddr>,
    /// The interface; `None` if the next hop decides it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[serde(rename = "device")]
    pub interface: Option<Interface>,
    /// The source address of packets that have none yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<IpAddr>,
    /// The path's MTU, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
    /// The lower one of two routes to a destination is taken. None is 0 in IPv4 and 1024 in IPv6.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metric: Option<u32>,
    /// Further options, in the order of the command line, each at most once.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub options: Vec<RouteOption>,
}

impl Route {
    /// The program that added it, or is to be shown as that.
    #[must_use]
    pub fn origin(&self) -> Origin {
        let mut named = self.options.iter().filter_map(|option| match option {
            RouteOption::Proto(origin) => Some(*origin),
            RouteOption::Onlink
            | RouteOption::Advmss(_)
            | RouteOption::Window(_)
            | RouteOption::Initcwnd(_)
            | RouteOption::Initrwnd(_)
            | RouteOption::Hoplimit(_)
            | RouteOption::Quickack(_) => None,
        });
        named.next().unwrap_or_default()
    }

    /// Whether the kernel lists this route as that one: it names an interface and, in IPv6, a
    /// metric that need not have been said, and has an order of its own for options.
    #[must_use]
    pub(crate) fn is_listed_as(&self, listed: &Self) -> bool {
        let spelt = |route: &Self| {
            let mut route = route.clone();
            route.destination = route.destination.trunc();
            route.interface = route.interface.or_else(|| listed.interface.clone());
            let unsaid = if route.destination.addr().is_ipv6() { 1024 } else { 0 };
            route.metric = Some(route.metric.unwrap_or(unsaid));
            route.options.sort();
            route
        };
        spelt(self) == spelt(listed)
    }

    /// A route in the main table, of which nothing else is said yet.
    #[must_use]
    pub fn to(destination: IpNet) -> Self {
        Self {
            destination: destination.trunc(),
            table: RouteTable::MAIN,
            via: None,
            interface: None,
            source: None,
            mtu: None,
            metric: None,
            options: Vec::new(),
        }
    }
}

/// A lesser property of a route, by its name in `ip route` (ip-route(8)).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RouteOption {
    /// The next hop is on the interface's link, although it is in none of the interface's networks.
    Onlink,
    /// The MSS that is advertised to a TCP peer, in bytes.
    Advmss(u32),
    /// The largest window that is advertised to a TCP peer, in bytes.
    Window(u32),
    /// The first congestion window of a TCP connection, in segments.
    Initcwnd(u32),
    /// The first receive window of a TCP connection, in segments.
    Initrwnd(u32),
    /// How many routers a packet may pass: 0 to 255.
    Hoplimit(u32),
    /// Whether TCP acknowledges at once: 0 or 1.
    Quickack(u32),
    /// The protocol that installed it; [`Origin::BOOT`] by default.
    Proto(Origin),
}

impl RouteOption {
    /// The property of this name with this number, if there is one; [`RouteOption::Onlink`] has no
    /// number, [`RouteOption::Proto`] names.
    #[must_use]
    pub fn numbered(name: &str, number: u32) -> Option<Self> {
        Some(match name {
            "advmss" => Self::Advmss(number),
            "window" => Self::Window(number),
            "initcwnd" => Self::Initcwnd(number),
            "initrwnd" => Self::Initrwnd(number),
            "hoplimit" => Self::Hoplimit(number),
            "quickack" => Self::Quickack(number),
            _ => return None,
        })
    }
}

impl fmt::Display for RouteOption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Onlink => f.write_str("onlink"),
            Self::Advmss(number) => write!(f, "advmss {number}"),
            Self::Window(number) => write!(f, "window {number}"),
            Self::Initcwnd(number) => write!(f, "initcwnd {number}"),
            Self::Initrwnd(number) => write!(f, "initrwnd {number}"),
            Self::Hoplimit(number) => write!(f, "hoplimit {number}"),
            Self::Quickack(number) => write!(f, "quickack {number}"),
            Self::Proto(origin) => write!(f, "proto {origin}"),
        }
    }
}

/// The number of a routing table (ip-route(8)).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RouteTable(pub u32);

impl RouteTable {
    /// The table of all routes of which nothing else is said.
    pub const MAIN: Self = Self(254);

    /// Whether it is the main table.
    #[must_use]
    pub fn is_main(&self) -> bool {
        *self == Self::MAIN
    }
}

impl Default for RouteTable {
    fn default() -> Self {
        Self::MAIN
    }
}

impl fmt::Display for RouteTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Says of marked packets to a network that another table is asked. Its family is the network's.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PolicyRule {
    /// Its place among the rules; the lowest is asked first.
    pub priority: u32,
    /// Where the packets go.
    pub to: IpNet,
    /// What mark they have.
    pub mark: Mark,
    /// The table that is asked.
    pub table: RouteTable,
}

/// An address of this machine.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct AssignedAddress {
    /// The address, and how much of it is the network on the link; host bits are the point of it.
    pub address: IpNet,
    /// Its interface.
    #[serde(rename = "device")]
    pub interface: Interface,
    /// Its scope. In IPv6 the kernel computes the scope itself, and ignores this.
    #[serde(default, skip_serializing_if = "AddressScope::is_universe")]
    pub scope: AddressScope,
}

/// How far an address is valid (`rtm_scope`, rtnetlink(7)); 1 to 199 are free for administrators.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Default)]
#[serde(transparent)]
pub struct AddressScope(pub u8);

impl AddressScope {
    /// Everywhere; `ip` calls it `global`.
    pub const UNIVERSE: Self = Self(0);
    /// Inside the site.
    pub(crate) const SITE: Self = Self(200);
    /// On the link.
    pub const LINK: Self = Self(253);
    /// Inside this machine.
    pub const HOST: Self = Self(254);

    /// Whether it is everywhere.
    #[must_use]
    pub(crate) fn is_universe(&self) -> bool {
        *self == Self::UNIVERSE
    }
}

impl fmt::Display for AddressScope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::UNIVERSE => f.write_str("global"),
            Self::SITE => f.write_str("site"),
            Self::LINK => f.write_str("link"),
            Self::HOST => f.write_str("host"),
            Self(number) => number.fmt(f),
        }
    }
}

/// An address that the gateway answers for on an interface.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ProxyNeighbour {
    /// The address.
    pub address: IpAddr,
    /// The interface on which the gateway answers for it.
    #[serde(rename = "device")]
    pub interface: Interface,
}

/// A virtual tunnel interface: what goes out through it gets the one mark, what comes in through a
/// policy with the other comes out of it. It is installed with its policy check and reverse path
/// filter off, forwarding on, and up.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct VtiInterface {
    /// Its name.
    #[serde(rename = "device")]
    pub interface: Interface,
    /// Our end.
    pub local: Ipv4Addr,
    /// The other end; none where there can be many.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remote: Option<Ipv4Addr>,
    /// The mark of what goes out.
    pub output_key: u32,
    /// The mark of what comes in.
    pub input_key: u32,
    /// An address to add to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<IpNet>,
}

impl VtiInterface {
    /// What it is bound to.
    #[must_use]
    pub fn ends(&self) -> VtiEnds {
        VtiEnds {
            local: Some(self.local).filter(|local| !local.is_unspecified()),
            remote: self.remote.filter(|remote| !remote.is_unspecified()),
            output_key: self.output_key,
            input_key: self.input_key,
        }
    }
}

impl NetObject {
    /// The family whose configuration it belongs to.
    #[must_use]
    pub fn family(&self) -> Family {
        Family::of_address(match self {
            Self::Route(route) => route.destination.addr(),
            Self::Rule(rule) => rule.to.addr(),
            Self::Address(address) => address.address.addr(),
            Self::ProxyNeighbour(neighbour) => neighbour.address,
            Self::VtiInterface(vti) => IpAddr::V4(vti.local),
        })
    }
}
