//! The networks that this machine is connected to, by the addresses of its interfaces.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "these enums are the kernel's, and grow with it"
)]

use std::collections::BTreeSet;

use ipnet::IpNet;
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::address::{AddressAttribute, AddressMessage, AddressScope};

use super::connection::NetlinkSocket;
use super::error::{NetlinkAction, NetlinkError};

/// The networks of both families that this machine has an address in; not those of one machine
/// only, nor of one link.
///
/// # Errors
/// If the kernel cannot be asked. Needs no rights.
pub(crate) fn connected_networks() -> Result<BTreeSet<IpNet>, NetlinkError> {
    let mut networks = BTreeSet::new();
    let listed = NetlinkSocket::open().and_then(|mut connection| {
        let request = RouteNetlinkMessage::GetAddress(AddressMessage::default());
        connection.list_answers(request, |answer| networks.extend(network(&answer)))
    });
    match listed {
        Ok(()) => Ok(networks),
        Err(fault) => Err(NetlinkError {
            doing: NetlinkAction::ListAddresses,
            fault,
        }),
    }
}

fn network(answer: &RouteNetlinkMessage) -> Option<IpNet> {
    let RouteNetlinkMessage::NewAddress(message) = answer else {
        return None;
    };
    if message.header.scope != AddressScope::Universe && message.header.scope != AddressScope::Site {
        return None;
    }
    // On a link between two machines this is the other one's.
    let address = message.attributes.iter().find_map(|attribute| match attribute {
        AddressAttribute::Address(address) => Some(*address),
        _ => None,
    })?;
    let network = IpNet::new(address, message.header.prefix_len).ok()?.trunc();
    (network.prefix_len() < network.max_prefix_len()).then_some(network)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_is_no_network_that_others_are_in() {
        let networks = connected_networks().unwrap();
        assert!(
            networks.iter().all(|network| !network.addr().is_loopback()),
            "{networks:?}"
        );
    }
}
