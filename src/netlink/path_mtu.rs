//! The path MTU to an address.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "these enums are the kernel's, and grow with it"
)]

use std::net::IpAddr;

use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{LinkAttribute, LinkMessage};
use netlink_packet_route::route::{RouteAttribute, RouteMetric};

use super::connection::NetlinkSocket;
use super::error::NetlinkFault;
use super::routes::lookup;

/// The path MTU to an address, in bytes: that of the route, configured or learnt, or otherwise that
/// of the interface. `None` if it is unknown, for example without a route.
#[must_use]
pub(crate) fn path_mtu(to: IpAddr) -> Option<u16> {
    let size = NetlinkSocket::open()
        .and_then(|mut connection| ask_path_mtu(&mut connection, to))
        .ok()??;
    Some(u16::try_from(size).unwrap_or(u16::MAX))
}

fn ask_path_mtu(connection: &mut NetlinkSocket, to: IpAddr) -> Result<Option<u32>, NetlinkFault> {
    let RouteNetlinkMessage::NewRoute(route) = connection.send_request(lookup(to, None))? else {
        return Ok(None);
    };
    let mut interface = None;
    for attribute in route.attributes {
        match attribute {
            RouteAttribute::Metrics(metrics) => {
                let said = metrics.into_iter().find_map(|metric| match metric {
                    RouteMetric::Mtu(size) if size > 0 => Some(size),
                    _ => None,
                });
                if said.is_some() {
                    return Ok(said);
                }
            }
            RouteAttribute::Oif(index) => interface = Some(index),
            _ => {}
        }
    }
    interface.map_or(Ok(None), |index| of_device(connection, index))
}

fn of_device(connection: &mut NetlinkSocket, index: u32) -> Result<Option<u32>, NetlinkFault> {
    let mut request = LinkMessage::default();
    request.header.index = index;
    let RouteNetlinkMessage::NewLink(link) = connection.send_request(RouteNetlinkMessage::GetLink(request))? else {
        return Ok(None);
    };
    Ok(link.attributes.into_iter().find_map(|attribute| match attribute {
        LinkAttribute::Mtu(size) => Some(size),
        _ => None,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_way_to_this_machine_itself_takes_large_packets() {
        // The loopback's MTU is 65536 bytes, one more than an IP packet can have. In a namespace
        // where it is down there is no route.
        let size = path_mtu("127.0.0.1".parse().unwrap());
        assert!(size.is_none_or(|size| size == u16::MAX), "{size:?}");
    }
}
