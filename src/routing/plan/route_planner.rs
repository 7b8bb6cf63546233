//! Plans the routes, addresses and interfaces of one call.

use std::net::{IpAddr, Ipv6Addr};

use ipnet::{IpNet, IpSubnets, Ipv6Net};

use super::kernel_query::KernelAnswers;
use super::{RecordedRoutes, RouteOptions, is_route};
use crate::daemon::{ConnectionName, Daemon, Libreswan};
use crate::net::{Family, Interface, Network};
use crate::netlink::{
    self, AssignedAddress, Ends, Lookup, NetObject, NextHop, NoRoute, PolicyRule, ProxyNeighbour, Route, RouteKind,
    RouteOption, RouteTable,
};
use crate::routing::env::{RoutedBy, Routing, VtiRouting, VtiSettings};
use crate::settings::{AlwaysRoute, RouteArguments};

/// The table of the routes that the tunnels' own packets take past an XFRM interface, as the stock
/// script has it.
const BYPASS_TABLE: RouteTable = RouteTable(50);

/// The place of the rules that lead there, as the stock script has it.
const BYPASS_PRIORITY: u32 = 100;

/// The scope of a source address in IPv4: by it the stock script knows its own again.
const SOURCE_SCOPE: netlink::AddressScope = netlink::AddressScope(50);

/// 2000::/3, the global unicast addresses of IPv6 that are assigned (RFC 4291, section 2.4).
fn global_unicast() -> IpNet {
    IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0), 3))
}

/// All that decides.
#[derive(Clone, Copy)]
pub(super) struct RoutePlanner<'a> {
    pub(super) daemon: Daemon,
    pub(super) routing: &'a Routing,
    pub(super) options: &'a RouteOptions,
    pub(super) answers: &'a KernelAnswers,
    pub(super) recorded: &'a RecordedRoutes,
}

impl RoutePlanner<'_> {
    /// The objects for `route`.
    pub(super) fn objects(self) -> Vec<NetObject> {
        let proxy = self.proxy_neighbour();
        let routes = if self.needs_route(!proxy.is_empty()) {
            self.routes()
        } else {
            self.vti_routes()
        };
        [self.source_address(), proxy, routes, self.bypass_rule()].concat()
    }

    /// Whether the packets find into the tunnel only by a route of their own. A policy alone needs
    /// none, but that there be one at all: the kernel looks for a policy after it has found a
    /// route.
    fn needs_route(self, proxy: bool) -> bool {
        let Routing {
            by,
            source,
            mtu,
            remote_client,
            local_client,
            ..
        } = self.routing;
        let by_option = self.options.always == AlwaysRoute::Yes || self.is_unreachable();
        let by_way = match by {
            // Without `vti-routing=yes` the administrator makes the route, also where there is none
            // yet.
            RoutedBy::Vti(VtiSettings {
                routing: VtiRouting::Unwanted,
                ..
            }) => self.options.always == AlwaysRoute::Yes,
            RoutedBy::Policy | RoutedBy::Vti(_) => by_option,
            // `--route yes` has no effect here, as in the stock script.
            RoutedBy::XfrmInterface { bypass: Some(_), .. } => remote_client != local_client,
            RoutedBy::XfrmInterface { bypass: None, .. } => {
                remote_client != local_client || self.options.always == AlwaysRoute::Yes
            }
            RoutedBy::Klips(_) => true,
        };
        by_way || source.is_some() || mtu.is_some() || proxy
    }

    /// Whether there is no route to the remote network, or only the one that this program has made.
    fn is_unreachable(self) -> bool {
        let no_route = match &self.answers.to_peer {
            Some(Lookup::Unreachable(NoRoute::Network | NoRoute::Host)) => true,
            // Somebody wants nothing sent there, which a tunnel that is down must not change.
            Some(Lookup::Unreachable(NoRoute::Prohibited | NoRoute::Blackhole) | Lookup::Found(_)) | None => false,
        };
        no_route || self.recorded.own.iter().any(is_route)
    }

    pub(super) fn routes(self) -> Vec<NetObject> {
        self.destinations()
            .into_iter()
            .map(|destination| NetObject::Route(self.route_to(destination)))
            .chain(self.pinned_gateway())
            .collect()
    }

    fn route_to(self, destination: IpNet) -> Route {
        let Routing {
            mtu, metric, source, ..
        } = self.routing;
        let via = self.next_hop();
        // The stock script forgets them where there is a next hop.
        let before = if via.is_some() {
            RouteArguments::default()
        } else {
            self.options.before.clone()
        };
        let said = RouteArguments {
            via,
            mtu: *mtu,
            metric: *metric,
            options: onlink(via, self.answers.to_next_hop.as_ref()),
            ..RouteArguments::default()
        };
        let own = RouteArguments {
            interface: self.route_interface(),
            source: source.filter(|source| Family::of_address(*source) == self.family()),
            ..RouteArguments::default()
        };
        before
            .followed_by(said)
            .followed_by(self.options.after.clone())
            .followed_by(own)
            .route(destination)
    }

    /// The remote network as destinations of routes. The default route is not replaced: two more
    /// specific routes override it.
    fn destinations(self) -> Vec<IpNet> {
        match self.routing.remote_client {
            Network::Prefix(prefix) if prefix.prefix_len() == 0 => self.split_default_route(prefix),
            Network::Prefix(prefix) => vec![prefix],
            Network::Range(IpAddr::V4(first), IpAddr::V4(last)) => {
                IpSubnets::V4(ipnet::Ipv4Subnets::new(first, last, 0)).collect()
            }
            Network::Range(IpAddr::V6(first), IpAddr::V6(last)) => {
                IpSubnets::V6(ipnet::Ipv6Subnets::new(first, last, 0)).collect()
            }
            Network::Range(IpAddr::V4(_), IpAddr::V6(_)) | Network::Range(IpAddr::V6(_), IpAddr::V4(_)) => Vec::new(),
        }
    }

    /// libreswan up to 5.1 takes the global unicast addresses (RFC 4291) for all of IPv6; 5.0 and
    /// 5.1 cannot be distinguished from 5.2.
    fn split_default_route(self, everything: IpNet) -> Vec<IpNet> {
        let global_only = match self.daemon {
            Daemon::Libreswan(Libreswan::V4) => true,
            Daemon::Libreswan(Libreswan::V5 | Libreswan::V54)
            | Daemon::Openswan
            | Daemon::FreesWan
            | Daemon::StrongSwan => false,
        };
        match everything {
            IpNet::V6(_) if global_only => vec![global_unicast()],
            IpNet::V4(_) | IpNet::V6(_) => everything.subnets(1).map(Iterator::collect).unwrap_or_default(),
        }
    }

    fn family(self) -> Family {
        self.routing.remote_client.family()
    }

    /// The next hop of a route: none where the peer is on the link, nor over a point-to-point link
    /// or a tunnel's own interface.
    fn next_hop(self) -> Option<IpAddr> {
        let hop = self
            .routing
            .next_hop
            .filter(|hop| Family::of_address(*hop) == self.family())?;
        match (&self.routing.by, self.daemon) {
            (RoutedBy::XfrmInterface { .. } | RoutedBy::Vti(_), _) => None,
            // route(8) wanted a gateway for every network.
            (RoutedBy::Klips(_), Daemon::FreesWan) => Some(hop),
            (RoutedBy::Klips(_), _) => Some(hop).filter(|_| self.has_next_hop()),
            (RoutedBy::Policy, _) => Some(hop).filter(|_| self.has_next_hop() && !self.is_point_to_point()),
        }
    }

    fn has_next_hop(self) -> bool {
        self.routing.next_hop != self.routing.remote_host
    }

    fn is_point_to_point(self) -> bool {
        self.answers
            .outer
            .as_ref()
            .is_some_and(|link| link.ends == Ends::PointToPoint)
    }

    /// The interface of a route.
    fn route_interface(self) -> Option<Interface> {
        let outer = || self.routing.interface.clone();
        match (&self.routing.by, self.daemon) {
            (
                RoutedBy::XfrmInterface { interface, .. }
                | RoutedBy::Vti(VtiSettings { interface, .. })
                | RoutedBy::Klips(interface),
                _,
            ) => Some(interface.clone()),
            (RoutedBy::Policy, Daemon::Libreswan(Libreswan::V54)) => outer(),
            (RoutedBy::Policy, _) if has_link_local_hop(self.routing) => outer(),
            (RoutedBy::Policy, _) => lookup_interface(self.answers.to_next_hop.as_ref()).or_else(outer),
        }
    }

    /// The route and the rule for the tunnel's own packets, which bear a mark: past the XFRM
    /// interface that their destination leads to.
    fn bypass_rule(self) -> Vec<NetObject> {
        let RoutedBy::XfrmInterface { bypass: Some(mark), .. } = &self.routing.by else {
            return Vec::new();
        };
        // Only then can the remote network contain the peer.
        let Some(peer) = self
            .routing
            .remote_host
            .filter(|peer| Family::of_address(*peer) == self.family())
        else {
            return Vec::new();
        };
        let Network::Prefix(to) = self.routing.remote_client else {
            return Vec::new();
        };
        let metric = match self.daemon {
            Daemon::Libreswan(Libreswan::V4) => None,
            Daemon::Libreswan(Libreswan::V5 | Libreswan::V54)
            | Daemon::Openswan
            | Daemon::FreesWan
            | Daemon::StrongSwan => self.routing.metric,
        };
        let hop = self
            .routing
            .next_hop
            .filter(|_| self.has_next_hop() && !self.is_point_to_point());
        let route = RouteArguments {
            via: hop,
            interface: self.interface_to_peer(),
            options: onlink(hop, self.answers.from_local.as_ref()),
            metric,
            table: Some(BYPASS_TABLE),
            ..RouteArguments::default()
        };
        let rule = PolicyRule {
            priority: BYPASS_PRIORITY,
            to,
            mark: *mark,
            table: BYPASS_TABLE,
        };
        vec![NetObject::Route(route.route(IpNet::from(peer))), NetObject::Rule(rule)]
    }

    /// The interface by which encrypted packets leave.
    fn interface_to_peer(self) -> Option<Interface> {
        let lookup = self
            .answers
            .from_local
            .as_ref()
            .filter(|_| !has_link_local_hop(self.routing));
        lookup_interface(lookup).or_else(|| self.routing.interface.clone())
    }

    /// The routes with the source address of this `up`, where they were made with another one or
    /// with none: a client of config mode may get a new address when it connects again, and
    /// libreswan 5.0 and 5.1 pass the address only after `route`. With the old address packets
    /// match no policy and leave unencrypted. `None` where the routes are right, or were made for
    /// another connection.
    pub(super) fn routes_with_new_source(self) -> Option<Vec<NetObject>> {
        let source = self
            .routing
            .source
            .filter(|source| Family::of_address(*source) == self.family())?;
        let others = |connection: &ConnectionName| *connection != self.routing.connection;
        if self.recorded.connection.as_ref().is_some_and(others) {
            return None;
        }
        let destinations = self.destinations();
        let routes = self.recorded.own.iter().filter_map(as_route);
        let own: Vec<_> = routes
            .filter(|route| destinations.contains(&route.destination))
            .collect();
        if own.is_empty() {
            return is_routed_before_up(self.daemon).then(|| self.routes());
        }
        let is_stale = own.iter().any(|route| route.source != Some(source));
        is_stale.then(|| {
            let renewed = own.into_iter().map(|route| Route {
                source: Some(source),
                ..route.clone()
            });
            renewed.map(NetObject::Route).collect()
        })
    }

    /// The source address, where this machine does not have it, or this program has added it.
    pub(super) fn source_address(self) -> Vec<NetObject> {
        let Some(source) = self.routing.source else {
            return Vec::new();
        };
        let held = self.recorded.own.iter().find(|object| is_address(object, source));
        if let Some(object) = held {
            return vec![object.clone()];
        }
        if !self.recorded.source.is_empty() {
            return self.recorded.source.clone();
        }
        let has_it = matches!(
            self.answers.source,
            Some(Lookup::Found(NextHop {
                kind: RouteKind::Local,
                ..
            }))
        );
        let interface = if has_it { None } else { self.source_interface() };
        let object = |interface| {
            NetObject::Address(AssignedAddress {
                address: IpNet::from(source),
                interface,
                scope: match Family::of_address(source) {
                    Family::Ipv4 => SOURCE_SCOPE,
                    Family::Ipv6 => netlink::AddressScope::UNIVERSE,
                },
            })
        };
        interface.map(object).into_iter().collect()
    }

    /// The interface of the source address; `None` where Pluto adds the address itself.
    fn source_interface(self) -> Option<Interface> {
        let loopback = "lo".parse().ok();
        match (&self.routing.by, self.daemon) {
            (RoutedBy::XfrmInterface { interface, .. }, Daemon::Libreswan(Libreswan::V4)) => Some(interface.clone()),
            (RoutedBy::XfrmInterface { .. }, _) => None,
            (RoutedBy::Vti(vti), _) if vti.routing == VtiRouting::Wanted => Some(vti.interface.clone()),
            (RoutedBy::Klips(interface), _) => Some(interface.clone()),
            (RoutedBy::Policy | RoutedBy::Vti(_), Daemon::Openswan) => self.routing.interface.clone(),
            (RoutedBy::Policy | RoutedBy::Vti(_), _) => loopback,
        }
    }

    /// Proxy neighbour entries, for a remote host with an address of the local network.
    fn proxy_neighbour(self) -> Vec<NetObject> {
        // The route to it is this program's by now, and no longer shows its link.
        let mut own = self.recorded.own.iter();
        if let Some(object) = own.find(|object| matches!(object, NetObject::ProxyNeighbour(_))) {
            return vec![object.clone()];
        }
        let Routing {
            remote_client,
            local_client,
            remote_host: peer,
            local_host: me,
            ..
        } = self.routing;
        let Some(host) = single_address(remote_client) else {
            return Vec::new();
        };
        let of_gateways = Some(host) == *peer || me.is_some_and(|me| local_client.first() == me);
        match (&self.answers.to_peer, &self.answers.on_link) {
            (
                Some(Lookup::Found(NextHop {
                    kind: RouteKind::Unicast,
                    via: None,
                    ..
                })),
                Some(link),
            ) if !of_gateways && link.hardware_address.is_some() => {
                vec![NetObject::ProxyNeighbour(ProxyNeighbour {
                    address: host,
                    interface: link.interface.clone(),
                })]
            }
            _ => Vec::new(),
        }
    }
}

/// Whether the next hop is an address that says nothing of its link (RFC 4291, section 2.5.6): the
/// interface is the daemon's word then.
pub(super) fn has_link_local_hop(routing: &Routing) -> bool {
    matches!(routing.next_hop, Some(IpAddr::V6(hop)) if hop.is_unicast_link_local())
}

/// Whether the daemon calls `route` before the first `up`, so that `up` completes what `route`
/// could not know.
pub(super) fn is_routed_before_up(daemon: Daemon) -> bool {
    match daemon {
        Daemon::Libreswan(Libreswan::V5 | Libreswan::V54) => true,
        Daemon::Libreswan(Libreswan::V4) | Daemon::Openswan | Daemon::FreesWan | Daemon::StrongSwan => false,
    }
}

/// `onlink`, where the next hop is in no connected network, as usual with /32 addresses in clouds:
/// the route to it has itself as next hop. Without that word the kernel refuses the route ("Nexthop
/// has invalid gateway").
fn onlink(hop: Option<IpAddr>, lookup: Option<&Lookup>) -> Vec<RouteOption> {
    match lookup {
        Some(Lookup::Found(lookup)) if hop.is_some() && lookup.via == hop => vec![RouteOption::Onlink],
        Some(Lookup::Found(_) | Lookup::Unreachable(_)) | None => Vec::new(),
    }
}

fn as_route(item: &NetObject) -> Option<&Route> {
    match item {
        NetObject::Route(route) => Some(route),
        NetObject::VtiInterface(_) | NetObject::Address(_) | NetObject::Rule(_) | NetObject::ProxyNeighbour(_) => None,
    }
}

fn lookup_interface(lookup: Option<&Lookup>) -> Option<Interface> {
    match lookup {
        Some(Lookup::Found(lookup)) => lookup.interface.clone(),
        Some(Lookup::Unreachable(_)) | None => None,
    }
}

fn is_address(object: &NetObject, desired: IpAddr) -> bool {
    match object {
        NetObject::Address(AssignedAddress { address, .. }) => address.addr() == desired,
        NetObject::VtiInterface(_) | NetObject::Route(_) | NetObject::Rule(_) | NetObject::ProxyNeighbour(_) => false,
    }
}

/// The one address of a network that has no other.
pub(super) fn single_address(network: &Network) -> Option<IpAddr> {
    match network {
        Network::Prefix(prefix) if prefix.prefix_len() == prefix.max_prefix_len() => {
            Some(prefix.addr()).filter(|address| !address.is_unspecified())
        }
        Network::Prefix(_) | Network::Range(..) => None,
    }
}
