//! Routes of others, saved as the kernel lists them, to be restored.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "these enums are the kernel's, and grow with it"
)]

use std::fmt::Write as _;

use ipnet::IpNet;
use netlink_packet_core::{Emitable as _, NetlinkDeserializable as _, NetlinkHeader};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::route::{RouteAttribute, RouteFlags, RouteMessage, RouteNextHop, RouteNextHopFlags};
use serde::{Deserialize, Serialize};

use super::net_objects::Route;
use super::routes::{destination, metric, table};

/// The type of the message (`linux/rtnetlink.h`).
const RTM_NEWROUTE: u16 = 24;

/// A route of any kind of another program: unicast, blackhole, with several next hops, or one of
/// the kernel's own.
///
/// Kept as the message in which the kernel lists it, as `ip route save` does, because no type of
/// this program has all attributes of a route.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedRoute {
    /// Where it leads.
    pub destination: IpNet,
    /// The message (`struct rtmsg` and its attributes, rtnetlink(7)) in hexadecimal digits.
    message: String,
}

impl SavedRoute {
    /// The route to a network in a message of these bytes.
    #[must_use]
    pub fn new(destination: IpNet, message: &[u8]) -> Self {
        let mut text = String::with_capacity(2 * message.len());
        for byte in message {
            // Writing to a String cannot fail.
            let _ = write!(text, "{byte:02x}");
        }
        Self {
            destination,
            message: text,
        }
    }

    /// The message; nothing if it is none.
    #[must_use]
    pub fn bytes(&self) -> Option<Vec<u8>> {
        let digits = |at: usize| self.message.get(at..at + 2);
        let bytes = (0..self.message.len()).step_by(2);
        bytes.map(|at| u8::from_str_radix(digits(at)?, 16).ok()).collect()
    }

    /// A listed route, if it has another route's key.
    pub(super) fn in_place_of(route: &Route, listed: &RouteMessage) -> Option<Self> {
        let is_it = !listed.header.flags.contains(RouteFlags::Cloned)
            && table(listed) == route.table
            && destination(listed) == Some(route.destination.trunc())
            && metric(listed) == route.metric.unwrap_or(default_metric(route));
        is_it.then(|| {
            let message = installable(listed.clone());
            let mut bytes = vec![0; message.buffer_len()];
            message.emit(&mut bytes);
            Self::new(route.destination.trunc(), &bytes)
        })
    }

    /// The message that restores it.
    pub(super) fn message(&self) -> Option<RouteNetlinkMessage> {
        let mut header = NetlinkHeader::default();
        header.message_type = RTM_NEWROUTE;
        RouteNetlinkMessage::deserialize(&header, &self.bytes()?).ok()
    }
}

/// The metric of a route of which none is said.
fn default_metric(route: &Route) -> u32 {
    if route.destination.addr().is_ipv6() { 1024 } else { 0 }
}

/// A listed route without what only the kernel may say: states of its next hops, ages, and next
/// hops if the route uses a nexthop object (`RTA_NH_ID`).
fn installable(mut message: RouteMessage) -> RouteMessage {
    message.header.flags &= RouteFlags::Onlink;
    let has_object = message
        .attributes
        .iter()
        .any(|it| matches!(it, RouteAttribute::NhId(_)));
    message.attributes.retain(|attribute| match attribute {
        RouteAttribute::CacheInfo(_) => false,
        RouteAttribute::Oif(_) | RouteAttribute::Gateway(_) | RouteAttribute::Via(_) | RouteAttribute::MultiPath(_) => {
            !has_object
        }
        _ => true,
    });
    for attribute in &mut message.attributes {
        if let RouteAttribute::MultiPath(hops) = attribute {
            hops.iter_mut().for_each(clear_state);
        }
    }
    message
}

fn clear_state(hop: &mut RouteNextHop) {
    hop.flags &= RouteNextHopFlags::Onlink;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_back_from_their_digits() {
        let route = SavedRoute::new("10.2.0.0/24".parse().unwrap(), &[0, 0x7f, 0xff]);
        assert_eq!(route.bytes(), Some(vec![0, 0x7f, 0xff]));
        let text = serde_json::to_string(&route).unwrap();
        assert_eq!(text, r#"{"destination":"10.2.0.0/24","message":"007fff"}"#);
        for message in ["0", "0g", "\u{e4}\u{e4}"] {
            let text = format!(r#"{{"destination":"10.2.0.0/24","message":"{message}"}}"#);
            let route: SavedRoute = serde_json::from_str(&text).unwrap();
            assert_eq!(route.message(), None, "{message}");
        }
    }
}
