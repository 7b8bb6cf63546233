//! Queries the kernel's interfaces by netlink, without running `ip`.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "these enums are the kernel's, and grow with it"
)]

use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{InfoData, InfoKind, InfoXfrm, LinkAttribute, LinkInfo, LinkMessage};

use super::connection::NetlinkSocket;
use super::error::{NetlinkAction, NetlinkError};
use crate::net::Interface;

/// An XFRM interface: an interface whose packets go through the policies with its number (Linux
/// 4.19 and later).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct XfrmInterface {
    /// The interface.
    pub interface: Interface,
    /// The number, `if_id` in `ip link`. Several interfaces may have the same.
    pub if_id: u32,
}

/// The XFRM interfaces of this network namespace.
///
/// # Errors
/// If the kernel cannot be asked. Needs no rights.
pub(crate) fn xfrm_interfaces() -> Result<Vec<XfrmInterface>, NetlinkError> {
    let mut request = LinkMessage::default();
    // A kernel with this kind answers with these interfaces only.
    request
        .attributes
        .push(LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Xfrm)]));
    let mut interfaces = Vec::new();
    let answered = NetlinkSocket::open().and_then(|mut connection| {
        connection.list_answers(RouteNetlinkMessage::GetLink(request), |link| {
            interfaces.extend(xfrm_interface(&link));
        })
    });
    match answered {
        Ok(()) => Ok(interfaces),
        Err(fault) => Err(NetlinkError {
            doing: NetlinkAction::ListLinks,
            fault,
        }),
    }
}

/// The names of all interfaces of this network namespace, except those with a name that is no
/// [`Interface`].
///
/// # Errors
/// If the kernel cannot be asked. Needs no rights.
pub(crate) fn interface_names() -> Result<Vec<Interface>, NetlinkError> {
    let mut names = Vec::new();
    let answered = NetlinkSocket::open().and_then(|mut connection| {
        let request = RouteNetlinkMessage::GetLink(LinkMessage::default());
        connection.list_answers(request, |link| names.extend(name(&link)))
    });
    match answered {
        Ok(()) => Ok(names),
        Err(fault) => Err(NetlinkError {
            doing: NetlinkAction::ListLinks,
            fault,
        }),
    }
}

fn name(answer: &RouteNetlinkMessage) -> Option<Interface> {
    let RouteNetlinkMessage::NewLink(link) = answer else {
        return None;
    };
    link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::IfName(name) => name.parse().ok(),
        _ => None,
    })
}

fn xfrm_interface(answer: &RouteNetlinkMessage) -> Option<XfrmInterface> {
    let RouteNetlinkMessage::NewLink(link) = answer else {
        return None;
    };
    let mut interface = None;
    let mut number = None;
    for attribute in &link.attributes {
        match attribute {
            LinkAttribute::IfName(name) => interface = name.parse().ok(),
            LinkAttribute::LinkInfo(infos) => number = infos.iter().find_map(if_id),
            _ => {}
        }
    }
    Some(XfrmInterface {
        interface: interface?,
        if_id: number?,
    })
}

fn if_id(info: &LinkInfo) -> Option<u32> {
    let LinkInfo::Data(InfoData::Xfrm(data)) = info else {
        return None;
    };
    data.iter().find_map(|object| match object {
        InfoXfrm::IfId(number) => Some(*number),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(attributes: Vec<LinkAttribute>) -> RouteNetlinkMessage {
        let mut link = LinkMessage::default();
        link.attributes = attributes;
        RouteNetlinkMessage::NewLink(link)
    }

    #[test]
    fn an_xfrm_interface_is_known_by_its_number() {
        let data = LinkInfo::Data(InfoData::Xfrm(vec![InfoXfrm::Link(2), InfoXfrm::IfId(7)]));
        let infos = vec![LinkInfo::Kind(InfoKind::Xfrm), data];
        let answer = link(vec![
            LinkAttribute::IfName("ipsec7".to_owned()),
            LinkAttribute::LinkInfo(infos),
        ]);
        assert_eq!(
            xfrm_interface(&answer),
            Some(XfrmInterface {
                interface: "ipsec7".parse().unwrap(),
                if_id: 7
            })
        );
    }

    #[test]
    fn another_interface_is_none() {
        let infos = vec![LinkInfo::Kind(InfoKind::Veth)];
        let answer = link(vec![
            LinkAttribute::IfName("veth0".to_owned()),
            LinkAttribute::LinkInfo(infos),
        ]);
        assert_eq!(xfrm_interface(&answer), None);
    }

    #[test]
    fn the_kernel_answers_a_request_for_a_list() {
        let mut links = Vec::new();
        let request = RouteNetlinkMessage::GetLink(LinkMessage::default());
        let mut connection = NetlinkSocket::open().unwrap();
        connection.list_answers(request, |link| links.push(link)).unwrap();
        let loopback = |answer: &RouteNetlinkMessage| match answer {
            RouteNetlinkMessage::NewLink(link) => link.attributes.contains(&LinkAttribute::IfName("lo".to_owned())),
            _ => false,
        };
        assert!(links.iter().any(loopback));
        assert!(xfrm_interfaces().is_ok());
        assert!(interface_names().unwrap().contains(&"lo".parse().unwrap()));
    }
}
