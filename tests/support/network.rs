//! An emulator of the kernel's network configuration, small enough to be read: interfaces, addresses, routes, rules, neighbours.
//!
//! `tests/privileged/kernel/model.rs` holds it against the real one.

#![allow(dead_code, reason = "each test binary uses its part of this module")]

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;
use nix::errno::Errno;
use pluto_updown::net::{Family, Interface};
use pluto_updown::netlink::{
    AssignedAddress, Deleted, Ends, InstallResult, Link, LinkKind, Lookup, Medium, NetConfig, NetObject, NetlinkError,
    NetlinkFault, NextHop, NoRoute, Origin, Route, RouteKind, RouteOption, RouteQuery, RouteTable, SavedRoute,
};

/// Who has put the routes to the links in.
const KERNEL: Origin = Origin(2);

/// A kernel whose interfaces are all up, which routes packets that have no mark, and of which somebody else's items are a part.
#[derive(Debug, Clone, Default)]
pub struct FakeNetwork {
    /// The interfaces.
    pub links: BTreeMap<Interface, Link>,
    /// Everything that is in, whoever installed it; no VTI, which is an interface.
    pub items: BTreeSet<NetObject>,
    /// Networks to which a route of somebody else's forbids the way.
    pub forbidden: BTreeMap<IpNet, NoRoute>,
    /// How many changes there were, refused ones too.
    pub changes: usize,
    refusals: BTreeMap<usize, Errno>,
}

impl FakeNetwork {
    /// A machine with a loopback interface and nothing else.
    pub fn new() -> Self {
        let mut network = Self::default();
        network.add_link("lo", Medium::Loopback, Ends::Many);
        network
    }

    /// A machine with an address of each family on an Ethernet interface `eth0`, as that of `tests/privileged/kernel`.
    pub fn gateway() -> Self {
        let mut network = Self::new();
        network.add_link("eth0", Medium::Ethernet, Ends::Many);
        network.add_address("192.0.2.1/24", "eth0");
        network.add_address("2001:db8::1/64", "eth0");
        network
    }

    /// Adds an interface.
    pub fn add_link(&mut self, name: &str, medium: Medium, ends: Ends) {
        self.insert_link(name.parse().expect("a device"), medium, ends, LinkKind::Other);
    }

    fn insert_link(&mut self, interface: Interface, medium: Medium, ends: Ends, kind: LinkKind) {
        let index = self.links.values().map(|link| link.index).max().unwrap_or(0) + 1;
        let hardware_address = match medium {
            Medium::Ethernet => Some(vec![2, 0, 0, 0, 0, 1]),
            Medium::Loopback => Some(vec![0; 6]),
            Medium::Other(_) => None,
        };
        let link = Link {
            interface: interface.clone(),
            index,
            medium,
            ends,
            hardware_address,
            kind,
        };
        self.links.insert(interface, link);
    }

    /// Adds an address of the administrator's.
    pub fn add_address(&mut self, address: &str, interface: &str) {
        let item = NetObject::Address(AssignedAddress {
            address: address.parse().expect("an address"),
            interface: interface.parse().expect("a device"),
            scope: Default::default(),
        });
        assert_eq!(self.place(&item).expect("a good address"), InstallResult::New);
    }

    /// From now on, the change with this number is refused with this error; the next one has the number 1.
    pub fn refuse(&mut self, number: usize, errno: Errno) {
        self.refusals.insert(self.changes + number, errno);
    }

    /// Forgets what it was to refuse and has not refused yet.
    pub fn refuse_no_more(&mut self) {
        self.refusals.clear();
    }

    /// Takes an interface away with everything on it, as when its driver goes.
    pub fn remove_link(&mut self, interface: &Interface) {
        self.links.remove(interface);
        let on_it: Vec<_> = self
            .items
            .iter()
            .filter(|item| device_of(item) == Some(interface))
            .cloned()
            .collect();
        for item in on_it {
            self.drop_item(&item);
        }
    }

    fn count(&mut self) -> Result<(), NetlinkFault> {
        self.changes += 1;
        self.refusals
            .get(&self.changes)
            .map_or(Ok(()), |errno| Err(NetlinkFault::Refused(*errno)))
    }

    fn place(&mut self, item: &NetObject) -> Result<InstallResult, NetlinkFault> {
        if let Some(interface) = device_of(item)
            && !self.links.contains_key(interface)
        {
            return Err(NetlinkFault::NoDevice(interface.clone()));
        }
        match item {
            NetObject::Route(route) => return self.place_route(route),
            NetObject::VtiInterface(vti) if self.links.contains_key(&vti.interface) => {
                return Ok(InstallResult::Existed);
            }
            NetObject::VtiInterface(vti) => {
                let kind = LinkKind::Vti(vti.ends());
                self.insert_link(vti.interface.clone(), Medium::Other(768), Ends::PointToPoint, kind);
                self.items
                    .extend(vti.address.map(|address| own_address(address, &vti.interface)));
                return Ok(InstallResult::New);
            }
            NetObject::Address(address) if self.addresses().any(|other| same_address(other, address)) => {
                return Ok(InstallResult::Existed);
            }
            NetObject::Rule(_) | NetObject::Address(_) | NetObject::ProxyNeighbour(_) => {}
        }
        Ok(match self.items.insert(item.clone()) {
            true => InstallResult::New,
            false => InstallResult::Existed,
        })
    }

    /// The route that excludes another.
    fn conflicting_route(&self, route: &Route) -> Option<&Route> {
        let key = |route: &Route| (route.destination.trunc(), route.table, metric(route));
        self.installed_routes().find(|other| key(other) == key(route))
    }

    fn place_route(&mut self, route: &Route) -> Result<InstallResult, NetlinkFault> {
        let family = Family::of_address(route.destination.addr());
        let source_is_ours = route
            .source
            .is_none_or(|source| self.addresses().any(|it| it.address.addr() == source));
        if !source_is_ours {
            return Err(NetlinkFault::Refused(Errno::EINVAL));
        }
        let interface = match (route.via, &route.interface) {
            (None, None) => return Err(NetlinkFault::Refused(Errno::ENODEV)),
            (None, Some(interface)) => interface.clone(),
            (Some(_), Some(interface)) if route.options.contains(&RouteOption::Onlink) => interface.clone(),
            (Some(via), _) => self
                .neighbour_device(via, route)
                .ok_or(NetlinkFault::Refused(match family {
                    Family::Ipv4 => Errno::ENETUNREACH,
                    Family::Ipv6 => Errno::EHOSTUNREACH,
                }))?,
        };
        let whole = Route {
            interface: Some(interface),
            ..route.clone()
        };
        let key = |route: &Route| (route.destination, route.table, metric(route));
        self.items
            .retain(|item| !matches!(item, NetObject::Route(other) if key(other) == key(&whole)));
        self.items.insert(NetObject::Route(whole));
        Ok(InstallResult::New)
    }

    /// The interface on whose link the next hop of a route is, by the route's own table or else by the main one. IPv4 passes over
    /// what leads elsewhere, IPv6 takes the best route or none.
    fn neighbour_device(&self, via: IpAddr, route: &Route) -> Option<Interface> {
        let fits =
            |other: &Route| other.via.is_none() && (route.interface.is_none() || other.interface == route.interface);
        let may_be = |other: &Route| via.is_ipv6() || fits(other);
        let tables = [route.table, RouteTable::MAIN]
            .into_iter()
            .filter(|_| !self.is_local(via));
        let mut found = tables.filter_map(|table| self.best(table, via, may_be).filter(fits));
        found.next()?.interface
    }

    fn displace(&mut self, item: &NetObject) -> Deleted {
        match item {
            NetObject::VtiInterface(vti) => match self.links.get(&vti.interface).map(|link| link.kind) {
                Some(LinkKind::Vti(ends)) if ends == vti.ends() => {
                    self.remove_link(&vti.interface);
                    Deleted::Out
                }
                Some(_) | None => Deleted::Absent,
            },
            NetObject::Route(asked) => {
                let found = self.installed_routes().find(|route| goes_with(route, asked)).cloned();
                self.drop_if_found(found.map(NetObject::Route))
            }
            NetObject::Address(asked) => {
                let is_it = |it: &&AssignedAddress| it.interface == asked.interface && it.address == asked.address;
                let found = self.addresses().find(is_it).cloned();
                self.drop_if_found(found.map(NetObject::Address))
            }
            NetObject::Rule(_) | NetObject::ProxyNeighbour(_) => self.drop_if_found(self.items.get(item).cloned()),
        }
    }

    fn drop_if_found(&mut self, found: Option<NetObject>) -> Deleted {
        let Some(item) = found else { return Deleted::Absent };
        self.drop_item(&item);
        Deleted::Out
    }

    fn drop_item(&mut self, item: &NetObject) {
        self.items.remove(item);
        if let NetObject::Address(address) = item {
            let ip = address.address.addr();
            if !self.addresses().any(|other| other.address.addr() == ip) {
                self.forget_source(ip);
            }
        }
    }

    /// With an address its IPv4 routes go; the IPv6 routes lose it.
    fn forget_source(&mut self, source: IpAddr) {
        let using: Vec<_> = self
            .installed_routes()
            .filter(|route| route.source == Some(source))
            .cloned()
            .collect();
        for route in using {
            self.items.remove(&NetObject::Route(route.clone()));
            if source.is_ipv6() {
                self.items.insert(NetObject::Route(Route { source: None, ..route }));
            }
        }
    }

    fn installed_routes(&self) -> impl Iterator<Item = &Route> {
        self.items.iter().filter_map(|item| match item {
            NetObject::Route(route) => Some(route),
            NetObject::Rule(_) | NetObject::Address(_) | NetObject::ProxyNeighbour(_) | NetObject::VtiInterface(_) => {
                None
            }
        })
    }

    fn addresses(&self) -> impl Iterator<Item = &AssignedAddress> {
        self.items.iter().filter_map(|item| match item {
            NetObject::Address(address) => Some(address),
            NetObject::Route(_) | NetObject::Rule(_) | NetObject::ProxyNeighbour(_) | NetObject::VtiInterface(_) => {
                None
            }
        })
    }

    /// Whether an address is this machine's own. On the loopback, IPv4 takes the whole network for its own.
    fn is_local(&self, ip: IpAddr) -> bool {
        let whole = |it: &AssignedAddress| ip.is_ipv4() && it.interface.as_str() == "lo" && it.address.contains(&ip);
        ip.is_loopback() || self.addresses().any(|it| it.address.addr() == ip || whole(it))
    }

    /// The kernel's own routes to the links: of IPv6 also to a single address, of IPv4 none to the loopback.
    fn link_routes(&self) -> impl Iterator<Item = Route> {
        let has_one = |it: &&AssignedAddress| match it.address {
            IpNet::V4(network) => network.prefix_len() < 32 && it.interface.as_str() != "lo",
            IpNet::V6(_) => true,
        };
        self.addresses().filter(has_one).map(|it| Route {
            interface: Some(it.interface.clone()),
            source: Some(it.address.addr()).filter(IpAddr::is_ipv4),
            metric: Some(256).filter(|_| it.address.addr().is_ipv6()),
            options: vec![RouteOption::Proto(KERNEL)],
            ..Route::to(it.address)
        })
    }

    fn table(&self, table: RouteTable) -> impl Iterator<Item = Route> {
        let put_in = self
            .installed_routes()
            .filter(move |route| route.table == table)
            .cloned();
        put_in.chain(self.link_routes().filter(move |_| table.is_main()))
    }

    fn best(&self, table: RouteTable, to: IpAddr, may_be: impl Fn(&Route) -> bool) -> Option<Route> {
        let leading = self
            .table(table)
            .filter(|route| route.destination.contains(&to) && may_be(route));
        leading.min_by_key(|route| (u8::MAX - route.destination.prefix_len(), metric(route)))
    }

    /// The way of a packet without a mark, which no rule of ours sees, by the routes of one table.
    fn route_to(&self, to: IpAddr, table: RouteTable) -> Option<NextHop> {
        if self.is_local(to) {
            let interface = Some("lo".parse().expect("a device"));
            return Some(NextHop {
                kind: RouteKind::Local,
                interface,
                via: None,
            });
        }
        let best = self.best(table, to, |_| true)?;
        let stands_before = |network: &IpNet| network.contains(&to) && best.destination.contains(network);
        let forbidden = self.forbidden.keys().any(stands_before);
        (!forbidden).then_some(NextHop {
            kind: RouteKind::Unicast,
            interface: best.interface,
            via: best.via,
        })
    }

    fn why_not(&self, to: IpAddr) -> NoRoute {
        let leading = self.forbidden.iter().filter(|(network, _)| network.contains(&to));
        let longest = leading.max_by_key(|(network, _)| network.prefix_len());
        longest.map_or(NoRoute::Network, |(_, reason)| *reason)
    }
}

impl NetConfig for FakeNetwork {
    fn install(&mut self, item: &NetObject) -> Result<InstallResult, NetlinkError> {
        let done = self.count().and_then(|()| self.place(item));
        done.map_err(|fault| NetlinkError::not_installed(item, fault))
    }

    fn add_route(&mut self, route: &Route) -> Result<InstallResult, NetlinkError> {
        let item = NetObject::Route(route.clone());
        let done = self.count().and_then(|()| match self.conflicting_route(route) {
            Some(_) => Ok(InstallResult::Existed),
            None => self.place(&item),
        });
        done.map_err(|fault| NetlinkError::not_installed(&item, fault))
    }

    /// Saved in a form of its own.
    fn in_place_of(&mut self, route: &Route) -> Result<Option<SavedRoute>, NetlinkError> {
        let conflicting = self
            .conflicting_route(route)
            .map(|conflicting| NetObject::Route(conflicting.clone()));
        Ok(conflicting.map(|item| {
            let bytes = serde_json::to_vec(&item).expect("an item can be written");
            SavedRoute::new(route.destination.trunc(), &bytes)
        }))
    }

    fn put_back(&mut self, saved: &SavedRoute) -> Result<(), NetlinkError> {
        let bytes = saved.bytes().expect("what was saved can be read");
        self.install(&serde_json::from_slice(&bytes).expect("an item can be read"))
            .map(drop)
    }

    fn delete(&mut self, item: &NetObject) -> Result<Deleted, NetlinkError> {
        self.count().map_err(|fault| NetlinkError::not_deleted(item, fault))?;
        Ok(self.displace(item))
    }

    fn lookup(&mut self, to: IpAddr, from: Option<IpAddr>) -> Result<Lookup, NetlinkError> {
        if from.is_some_and(|from| from.is_ipv4() && !self.is_local(from)) {
            return Ok(Lookup::Unreachable(NoRoute::Network));
        }
        Ok(match self.route_to(to, RouteTable::MAIN) {
            Some(route) => Lookup::Found(route),
            None => Lookup::Unreachable(self.why_not(to)),
        })
    }

    fn link(&mut self, interface: &Interface) -> Result<Option<Link>, NetlinkError> {
        Ok(self.links.get(interface).cloned())
    }

    fn routes(&mut self, wanted: &RouteQuery) -> Result<Vec<Route>, NetlinkError> {
        let is_wanted = |route: &Route| match wanted {
            RouteQuery::To(network) => route.destination == network.trunc(),
            RouteQuery::From(source) => route.source == Some(*source),
        };
        // IPv4 does not say a metric of 0, IPv6 says one always.
        let as_said = |route: Route| Route {
            metric: Some(metric(&route)).filter(|metric| *metric > 0),
            ..route
        };
        let mut found: Vec<_> = self.table(RouteTable::MAIN).filter(is_wanted).map(as_said).collect();
        found.sort_by_key(metric);
        Ok(found)
    }
}

/// The interface without which an item cannot be.
fn device_of(item: &NetObject) -> Option<&Interface> {
    match item {
        NetObject::Route(route) => route.interface.as_ref(),
        NetObject::Address(address) => Some(&address.interface),
        NetObject::ProxyNeighbour(neighbour) => Some(&neighbour.interface),
        NetObject::Rule(_) | NetObject::VtiInterface(_) => None,
    }
}

fn own_address(address: IpNet, interface: &Interface) -> NetObject {
    NetObject::Address(AssignedAddress {
        address,
        interface: interface.clone(),
        scope: Default::default(),
    })
}

/// Whether one address excludes another: the scope does not distinguish them, and in IPv6 not even the length of the
/// prefix does.
fn same_address(one: &AssignedAddress, other: &AssignedAddress) -> bool {
    let same_length = one.address.prefix_len() == other.address.prefix_len();
    one.interface == other.interface
        && one.address.addr() == other.address.addr()
        && (same_length || one.address.addr().is_ipv6())
}

fn metric(route: &Route) -> u32 {
    let usual = match Family::of_address(route.destination.addr()) {
        Family::Ipv4 => 0,
        Family::Ipv6 => 1024,
    };
    route.metric.unwrap_or(usual)
}

/// Whether a route is the one that is to go: what was not said is not compared, and in IPv6 not all that was said.
fn goes_with(route: &Route, asked: &Route) -> bool {
    let same = |one: Option<u32>, other: Option<u32>| other.is_none() || one == other;
    let is_same = route.destination == asked.destination
        && route.table == asked.table
        && (asked.interface.is_none() || route.interface == asked.interface)
        && (asked.via.is_none() || route.via == asked.via)
        && same(Some(metric(route)), asked.metric)
        && (asked.origin() == Origin::BOOT || asked.origin() == route.origin());
    let rest = same(route.mtu, asked.mtu) && (asked.source.is_none() || route.source == asked.source);
    is_same && (rest || route.destination.addr().is_ipv6())
}
