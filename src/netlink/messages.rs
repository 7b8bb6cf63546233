//! Items as the messages that iproute2 (6.1) sends for the command lines of [`super::commands`].

use std::net::IpAddr;

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE};
use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_packet_route::link::{InfoData, InfoKind, InfoVti, LinkAttribute, LinkFlags, LinkInfo, LinkMessage};
use netlink_packet_route::neighbour::{NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState};
use netlink_packet_route::route::{
    RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteMetric, RouteScope, RouteType, RouteVia,
};
use netlink_packet_route::rule::{RuleAction, RuleAttribute, RuleMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use super::net_objects::{
    AssignedAddress, NetObject, PolicyRule, ProxyNeighbour, Route, RouteOption, RouteTable, VtiInterface,
};
use super::origin::Origin;
use crate::net::Family;

/// What is done with an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ObjectAction {
    Install,
    Delete,
}

/// The request for that. `index` is the index of the object's interface, if it has one already.
pub(super) fn request(action: ObjectAction, object: &NetObject, index: Option<u32>) -> RouteNetlinkMessage {
    use RouteNetlinkMessage as Message;
    match (action, object) {
        (ObjectAction::Install, NetObject::Route(it)) => Message::NewRoute(route(action, it, index)),
        (ObjectAction::Delete, NetObject::Route(it)) => Message::DelRoute(route(action, it, index)),
        (ObjectAction::Install, NetObject::Rule(it)) => Message::NewRule(rule(action, it)),
        (ObjectAction::Delete, NetObject::Rule(it)) => Message::DelRule(rule(action, it)),
        (ObjectAction::Install, NetObject::Address(it)) => Message::NewAddress(address(it, index)),
        (ObjectAction::Delete, NetObject::Address(it)) => Message::DelAddress(address(it, index)),
        (ObjectAction::Install, NetObject::ProxyNeighbour(it)) => Message::NewNeighbour(proxy_neighbour(it, index)),
        (ObjectAction::Delete, NetObject::ProxyNeighbour(it)) => Message::DelNeighbour(proxy_neighbour(it, index)),
        (ObjectAction::Install, NetObject::VtiInterface(it)) => Message::NewLink(vti(it)),
        (ObjectAction::Delete, NetObject::VtiInterface(_)) => Message::DelLink(link_message(index)),
    }
}

/// The flags of the request: a route replaces the one with its key, any other object does not.
pub(super) fn flags(action: ObjectAction, object: &NetObject) -> u16 {
    match (action, object) {
        (ObjectAction::Delete, _) => 0,
        (ObjectAction::Install, NetObject::Route(_)) => NLM_F_CREATE | NLM_F_REPLACE,
        (
            ObjectAction::Install,
            NetObject::Rule(_) | NetObject::Address(_) | NetObject::ProxyNeighbour(_) | NetObject::VtiInterface(_),
        ) => NLM_F_CREATE | NLM_F_EXCL,
    }
}

/// The request and the flags that add a route unless there is one with its key.
pub(super) fn addition(it: &Route, index: Option<u32>) -> (RouteNetlinkMessage, u16) {
    let request = RouteNetlinkMessage::NewRoute(route(ObjectAction::Install, it, index));
    (request, NLM_F_CREATE | NLM_F_EXCL)
}

/// The flags that put a saved route in the place of another.
pub(super) const REPLACEMENT: u16 = NLM_F_CREATE | NLM_F_REPLACE;

/// A family as the kernel numbers it.
pub(super) fn address_family(address: IpAddr) -> AddressFamily {
    match Family::of_address(address) {
        Family::Ipv4 => AddressFamily::Inet,
        Family::Ipv6 => AddressFamily::Inet6,
    }
}

fn route(action: ObjectAction, route: &Route, index: Option<u32>) -> RouteMessage {
    let to = route.destination.trunc().addr();
    let (table, further_table) = split_table(route.table);
    let mut message = RouteMessage::default();
    message.header = route_header(action, route, table);
    let attributes = &mut message.attributes;
    attributes.push(RouteAttribute::Destination(to.into()));
    attributes.extend(route.via.map(|via| next_hop(to, via)));
    attributes.extend(index.map(RouteAttribute::Oif));
    attributes.extend(route.source.map(|source| RouteAttribute::PrefSource(source.into())));
    attributes.extend(route.metric.map(RouteAttribute::Priority));
    attributes.extend(further_table.map(RouteAttribute::Table));
    let metrics: Vec<_> = metrics(route).collect();
    if !metrics.is_empty() {
        attributes.push(RouteAttribute::Metrics(metrics));
    }
    message
}

fn route_header(action: ObjectAction, route: &Route, table: u8) -> RouteHeader {
    let mut header = RouteHeader {
        address_family: address_family(route.destination.addr()),
        destination_prefix_length: route.destination.prefix_len(),
        table,
        scope: scope(action, route),
        ..RouteHeader::default()
    };
    header.protocol = origin(action, route).0.into();
    if action == ObjectAction::Install {
        header.kind = RouteType::Unicast;
    }
    if route.options.contains(&RouteOption::Onlink) {
        header.flags = RouteFlags::Onlink;
    }
    header
}

/// The protocol (`rtm_protocol`) of a route to install. A deletion names none, unless the route
/// does: then only a route of that protocol is deleted.
fn origin(action: ObjectAction, route: &Route) -> Origin {
    match (action, route.origin()) {
        (ObjectAction::Delete, Origin::BOOT) => Origin(0),
        (ObjectAction::Install | ObjectAction::Delete, origin) => origin,
    }
}

/// The scope of a route. IPv6 has none; a deletion names none.
fn scope(action: ObjectAction, route: &Route) -> RouteScope {
    match (Family::of_address(route.destination.addr()), action, route.via) {
        (Family::Ipv6, _, _) => RouteScope::Universe,
        (Family::Ipv4, ObjectAction::Delete, _) => RouteScope::NoWhere,
        (Family::Ipv4, ObjectAction::Install, None) => RouteScope::Link,
        (Family::Ipv4, ObjectAction::Install, Some(_)) => RouteScope::Universe,
    }
}

fn next_hop(destination: IpAddr, via: IpAddr) -> RouteAttribute {
    match Family::of_address(destination) == Family::of_address(via) {
        true => RouteAttribute::Gateway(via.into()),
        false => RouteAttribute::Via(RouteVia::from(via)),
    }
}

fn metrics(route: &Route) -> impl Iterator<Item = RouteMetric> {
    let numbered = route.options.iter().filter_map(|option| match *option {
        RouteOption::Onlink | RouteOption::Proto(_) => None,
        RouteOption::Advmss(number) => Some(RouteMetric::Advmss(number)),
        RouteOption::Window(number) => Some(RouteMetric::Window(number)),
        RouteOption::Initcwnd(number) => Some(RouteMetric::InitCwnd(number)),
        RouteOption::Initrwnd(number) => Some(RouteMetric::InitRwnd(number)),
        RouteOption::Hoplimit(number) => Some(RouteMetric::Hoplimit(number)),
        RouteOption::Quickack(number) => Some(RouteMetric::QuickAck(number)),
    });
    route.mtu.map(RouteMetric::Mtu).into_iter().chain(numbered)
}

/// A table's number: in the header if that has room for it, else in an attribute.
fn split_table(RouteTable(table): RouteTable) -> (u8, Option<u32>) {
    u8::try_from(table).map_or((0, Some(table)), |small| (small, None))
}

fn rule(action: ObjectAction, rule: &PolicyRule) -> RuleMessage {
    let to = rule.to.trunc();
    let (table, further_table) = split_table(rule.table);
    let mut message = RuleMessage::default();
    message.header.family = address_family(to.addr());
    message.header.dst_len = to.prefix_len();
    message.header.table = table;
    if action == ObjectAction::Install {
        message.header.action = RuleAction::ToTable;
    }
    message.attributes = vec![
        RuleAttribute::Priority(rule.priority),
        RuleAttribute::Destination(to.addr()),
        RuleAttribute::FwMark(rule.mark.value),
        RuleAttribute::FwMask(rule.mark.mask),
    ];
    message.attributes.extend(further_table.map(RuleAttribute::Table));
    message
}

fn address(address: &AssignedAddress, index: Option<u32>) -> AddressMessage {
    let ip = address.address.addr();
    let mut message = AddressMessage::default();
    message.header.family = address_family(ip);
    message.header.prefix_len = address.address.prefix_len();
    message.header.scope = address.scope.0.into();
    message.header.index = index.unwrap_or_default();
    message.attributes = vec![AddressAttribute::Local(ip), AddressAttribute::Address(ip)];
    message
}

fn proxy_neighbour(neighbour: &ProxyNeighbour, index: Option<u32>) -> NeighbourMessage {
    let mut message = asked_neighbour(neighbour, index);
    message.header.state = NeighbourState::Permanent;
    message
}

/// The question whether an address is answered for; it may name no state.
pub(super) fn asked_neighbour(neighbour: &ProxyNeighbour, index: Option<u32>) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.family = address_family(neighbour.address);
    message.header.ifindex = index.unwrap_or_default();
    message.header.flags = NeighbourFlags::Proxy;
    message
        .attributes
        .push(NeighbourAttribute::Destination(neighbour.address.into()));
    message
}

fn vti(vti: &VtiInterface) -> LinkMessage {
    let mut ends = vec![
        InfoVti::IKey(vti.input_key),
        InfoVti::OKey(vti.output_key),
        InfoVti::Local(vti.local.into()),
    ];
    ends.extend(vti.remote.map(|remote| InfoVti::Remote(remote.into())));
    let mut message = LinkMessage::default();
    message.attributes = vec![
        LinkAttribute::IfName(vti.interface.as_str().to_owned()),
        LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Vti), LinkInfo::Data(InfoData::Vti(ends))]),
    ];
    message
}

fn link_message(index: Option<u32>) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.header.index = index.unwrap_or_default();
    message
}

/// The request that sets an interface up.
pub(super) fn activation(index: u32) -> RouteNetlinkMessage {
    let mut message = link_message(Some(index));
    message.header.flags = LinkFlags::Up;
    message.header.change_mask = LinkFlags::Up;
    RouteNetlinkMessage::SetLink(message)
}

#[cfg(test)]
mod tests {
    use netlink_packet_core::Emitable as _;

    use super::*;

    /// An attribute of up to four bytes, as it is laid out on a little-endian machine.
    fn attribute(kind: u8, value: [u8; 4]) -> Vec<u8> {
        [&[8, 0, kind, 0][..], &value].concat()
    }

    #[test]
    #[cfg(target_endian = "little")]
    fn a_vti_is_made_with_its_ends_and_keys() {
        let vti = VtiInterface {
            interface: "vti01".parse().unwrap(),
            local: "192.0.2.1".parse().unwrap(),
            remote: Some("198.51.100.1".parse().unwrap()),
            output_key: 5,
            input_key: 0x0600,
            address: None,
        };
        let message = request(ObjectAction::Install, &NetObject::VtiInterface(vti), None);
        let RouteNetlinkMessage::NewLink(message) = message else {
            panic!("{message:?}");
        };
        let mut bytes = vec![0; message.buffer_len()];
        message.emit(&mut bytes);
        // include/uapi/linux/if_link.h and if_tunnel.h: IFLA_IFNAME 3; IFLA_LINKINFO 18 with
        // IFLA_INFO_KIND 1 and IFLA_INFO_DATA 2, which has IFLA_VTI_IKEY 2, OKEY 3, LOCAL 4 and
        // REMOTE 5. Keys are in network order.
        let expected = [
            vec![0; 16],
            vec![10, 0, 3, 0, b'v', b't', b'i', b'0', b'1', 0, 0, 0],
            vec![48, 0, 18, 0, 8, 0, 1, 0, b'v', b't', b'i', 0],
            vec![36, 0, 2, 0],
            attribute(2, [0, 0, 6, 0]),
            attribute(3, [0, 0, 0, 5]),
            attribute(4, [192, 0, 2, 1]),
            attribute(5, [198, 51, 100, 1]),
        ];
        assert_eq!(bytes, expected.concat());
    }

    #[test]
    fn only_a_route_gives_way() {
        let route = NetObject::Route(Route::to("10.2.0.0/24".parse().unwrap()));
        assert_eq!(flags(ObjectAction::Install, &route), NLM_F_CREATE | NLM_F_REPLACE);
        assert_eq!(flags(ObjectAction::Delete, &route), 0);
    }
}
