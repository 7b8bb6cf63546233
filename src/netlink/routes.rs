//! Questions about routes.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "these enums are the kernel's, and grow with it"
)]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteMessage, RouteMetric, RouteType, RouteVia,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use nix::errno::Errno;

use super::error::NetlinkFault;
use super::messages::address_family;
use super::net_objects::{Route, RouteOption, RouteTable};
use super::network::{NoRoute, RouteKind, RouteQuery};
use super::origin::Origin;

/// The request for a route lookup.
pub(super) fn lookup(to: IpAddr, from: Option<IpAddr>) -> RouteNetlinkMessage {
    let whole = |address: IpAddr| IpNet::from(address).prefix_len();
    let mut message = RouteMessage::default();
    message.header.address_family = address_family(to);
    message.header.destination_prefix_length = whole(to);
    message.header.source_prefix_length = from.map_or(0, whole);
    message.attributes.push(RouteAttribute::Destination(to.into()));
    message
        .attributes
        .extend(from.map(|from| RouteAttribute::Source(from.into())));
    RouteNetlinkMessage::GetRoute(message)
}

/// The request for the routes of the main table.
pub(super) fn main_table(wanted: &RouteQuery) -> RouteNetlinkMessage {
    let mut message = RouteMessage::default();
    message.header.address_family = address_family(match wanted {
        RouteQuery::To(network) => network.addr(),
        RouteQuery::From(source) => *source,
    });
    message.header.table = u8::try_from(RouteTable::MAIN.0).unwrap_or_default();
    RouteNetlinkMessage::GetRoute(message)
}

/// The request for all routes of a table and a family.
pub(super) fn whole_table(route: &Route) -> RouteNetlinkMessage {
    let mut message = RouteMessage::default();
    message.header.address_family = address_family(route.destination.addr());
    let RouteTable(number) = route.table;
    match u8::try_from(number) {
        Ok(small) => message.header.table = small,
        Err(_) => message.attributes.push(RouteAttribute::Table(number)),
    }
    RouteNetlinkMessage::GetRoute(message)
}

/// The reason in a refused lookup.
pub(super) fn no_route(fault: &NetlinkFault) -> Option<NoRoute> {
    match fault {
        NetlinkFault::Refused(Errno::ENETUNREACH) => Some(NoRoute::Network),
        NetlinkFault::Refused(Errno::EHOSTUNREACH) => Some(NoRoute::Host),
        NetlinkFault::Refused(Errno::EACCES) => Some(NoRoute::Prohibited),
        NetlinkFault::Refused(Errno::EINVAL) => Some(NoRoute::Blackhole),
        _ => None,
    }
}

/// The kind of route in an answer. Where newer kernels refuse the lookup, older ones answer in IPv6
/// with the route that forbids it.
pub(super) fn way_kind(kind: RouteType) -> Result<RouteKind, NoRoute> {
    match kind {
        RouteType::Local => Ok(RouteKind::Local),
        RouteType::Unicast => Ok(RouteKind::Unicast),
        RouteType::Unreachable => Err(NoRoute::Host),
        RouteType::Prohibit => Err(NoRoute::Prohibited),
        RouteType::BlackHole => Err(NoRoute::Blackhole),
        RouteType::Throw => Err(NoRoute::Network),
        _ => Ok(RouteKind::Other),
    }
}

/// The next hop in an answer, and the index of the interface.
pub(super) fn next_hop(answer: &RouteMessage) -> (Option<IpAddr>, Option<u32>) {
    let mut via = None;
    let mut index = None;
    for attribute in &answer.attributes {
        match attribute {
            RouteAttribute::Gateway(gateway) => via = ip(gateway),
            RouteAttribute::Via(RouteVia::Inet(gateway)) => via = Some(IpAddr::V4(*gateway)),
            RouteAttribute::Via(RouteVia::Inet6(gateway)) => via = Some(IpAddr::V6(*gateway)),
            RouteAttribute::Oif(number) => index = Some(*number),
            _ => {}
        }
    }
    (via, index)
}

/// A route of the main table, and the index of its interface, if the query matches it.
pub(super) fn listed(answer: &RouteMessage, wanted: &RouteQuery) -> Option<(Route, Option<u32>)> {
    let cached = answer.header.flags.contains(RouteFlags::Cloned);
    if cached || answer.header.kind != RouteType::Unicast || table(answer) != RouteTable::MAIN {
        return None;
    }
    let mut route = Route::to(destination(answer)?);
    let (via, index) = next_hop(answer);
    route.via = via;
    for attribute in &answer.attributes {
        match attribute {
            RouteAttribute::PrefSource(source) => route.source = ip(source),
            // IPv4 does not say 0, IPv6 always says a number.
            RouteAttribute::Priority(metric) => route.metric = Some(*metric),
            RouteAttribute::Metrics(metrics) => add_metrics(&mut route, metrics),
            _ => {}
        }
    }
    if answer.header.flags.contains(RouteFlags::Onlink) {
        route.options.push(RouteOption::Onlink);
    }
    let origin = Origin(answer.header.protocol.into());
    if origin != Origin::BOOT {
        route.options.push(RouteOption::Proto(origin));
    }
    is_wanted(&route, wanted).then_some((route, index))
}

fn is_wanted(route: &Route, wanted: &RouteQuery) -> bool {
    match wanted {
        RouteQuery::To(network) => route.destination == network.trunc(),
        RouteQuery::From(source) => route.source == Some(*source),
    }
}

fn add_metrics(route: &mut Route, metrics: &[RouteMetric]) {
    for metric in metrics {
        match *metric {
            RouteMetric::Mtu(number) => route.mtu = Some(number),
            RouteMetric::Advmss(number) => route.options.push(RouteOption::Advmss(number)),
            RouteMetric::Window(number) => route.options.push(RouteOption::Window(number)),
            RouteMetric::InitCwnd(number) => route.options.push(RouteOption::Initcwnd(number)),
            RouteMetric::InitRwnd(number) => route.options.push(RouteOption::Initrwnd(number)),
            RouteMetric::Hoplimit(number) => route.options.push(RouteOption::Hoplimit(number)),
            RouteMetric::QuickAck(number) => route.options.push(RouteOption::Quickack(number)),
            _ => {}
        }
    }
}

/// A route's metric as the kernel compares it.
pub(super) fn metric(answer: &RouteMessage) -> u32 {
    let said = answer.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Priority(metric) => Some(*metric),
        _ => None,
    });
    said.unwrap_or_default()
}

pub(super) fn table(answer: &RouteMessage) -> RouteTable {
    let whole = answer.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Table(number) => Some(*number),
        _ => None,
    });
    RouteTable(whole.unwrap_or(answer.header.table.into()))
}

/// Where a route leads. To everything the kernel names no address.
pub(super) fn destination(answer: &RouteMessage) -> Option<IpNet> {
    let named = answer.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Destination(address) => ip(address),
        _ => None,
    });
    let everything = match answer.header.address_family {
        AddressFamily::Inet => Some(IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
        AddressFamily::Inet6 => Some(IpAddr::V6(Ipv6Addr::UNSPECIFIED)),
        _ => None,
    };
    IpNet::new(named.or(everything)?, answer.header.destination_prefix_length).ok()
}

fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(address) => Some(IpAddr::V4(*address)),
        RouteAddress::Inet6(address) => Some(IpAddr::V6(*address)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_route_that_forbids_is_no_way() {
        assert_eq!(way_kind(RouteType::Unreachable), Err(NoRoute::Host));
        assert_eq!(way_kind(RouteType::Multicast), Ok(RouteKind::Other));
    }

    #[test]
    fn a_refusal_of_another_kind_says_nothing_of_the_way() {
        assert_eq!(no_route(&NetlinkFault::Refused(Errno::EPERM)), None);
        assert_eq!(no_route(&NetlinkFault::Silent), None);
    }
}
