//! Queries about interfaces.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "these enums are the kernel's, and grow with it"
)]

use std::net::{IpAddr, Ipv4Addr};

use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{
    InfoData, InfoKind, InfoVti, LinkAttribute, LinkExtentMask, LinkFlags, LinkInfo, LinkLayerType, LinkMessage,
};
use nix::errno::Errno;

use super::connection::NetlinkSocket;
use super::error::NetlinkFault;
use super::network::{Ends, Link, LinkKind, Medium, VtiEnds};
use crate::net::Interface;

/// How an interface is identified to the kernel.
#[derive(Debug, Clone, Copy)]
pub(super) enum Which<'a> {
    Name(&'a Interface),
    Index(u32),
}

/// Queries an interface. `None` if there is none, or if its name is no [`Interface`].
pub(super) fn find_link(connection: &mut NetlinkSocket, which: Which<'_>) -> Result<Option<Link>, NetlinkFault> {
    let mut request = LinkMessage::default();
    match which {
        Which::Name(interface) => request
            .attributes
            .push(LinkAttribute::IfName(interface.as_str().to_owned())),
        Which::Index(index) => request.header.index = index,
    }
    let needless = LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats]);
    request.attributes.push(needless);
    match connection.send_request(RouteNetlinkMessage::GetLink(request)) {
        Ok(RouteNetlinkMessage::NewLink(answer)) => Ok(parse_link(answer)),
        Ok(_) | Err(NetlinkFault::Refused(Errno::ENODEV)) => Ok(None),
        Err(fault) => Err(fault),
    }
}

fn parse_link(answer: LinkMessage) -> Option<Link> {
    let mut name = None;
    let mut hardware_address = None;
    let mut kind = LinkKind::Unnamed;
    for attribute in answer.attributes {
        match attribute {
            LinkAttribute::IfName(text) => name = text.parse().ok(),
            LinkAttribute::Address(bytes) if !bytes.is_empty() => hardware_address = Some(bytes),
            LinkAttribute::LinkInfo(infos) => kind = link_kind(&infos),
            _ => {}
        }
    }
    Some(Link {
        interface: name?,
        index: answer.header.index,
        medium: link_medium(answer.header.link_layer_type),
        ends: link_ends(answer.header.flags),
        hardware_address,
        kind,
    })
}

fn link_medium(layer: LinkLayerType) -> Medium {
    match layer {
        LinkLayerType::Ether => Medium::Ethernet,
        LinkLayerType::Loopback => Medium::Loopback,
        other => Medium::Other(other.into()),
    }
}

fn link_ends(flags: LinkFlags) -> Ends {
    match flags.contains(LinkFlags::Pointopoint) {
        true => Ends::PointToPoint,
        false => Ends::Many,
    }
}

fn link_kind(infos: &[LinkInfo]) -> LinkKind {
    let kind = infos.iter().find_map(|info| match info {
        LinkInfo::Kind(kind) => Some(kind),
        _ => None,
    });
    match kind {
        Some(InfoKind::Vti) => LinkKind::Vti(vti_ends(infos)),
        Some(InfoKind::Xfrm) => LinkKind::Xfrm,
        Some(InfoKind::Vti6) => LinkKind::Vti6,
        Some(_) => LinkKind::Other,
        None => LinkKind::Unnamed,
    }
}

fn vti_ends(infos: &[LinkInfo]) -> VtiEnds {
    let mut ends = VtiEnds {
        local: None,
        remote: None,
        output_key: 0,
        input_key: 0,
    };
    let data = infos.iter().find_map(|info| match info {
        LinkInfo::Data(InfoData::Vti(data)) => Some(data),
        _ => None,
    });
    for end in data.into_iter().flatten() {
        match end {
            InfoVti::Local(address) => ends.local = specified(*address),
            InfoVti::Remote(address) => ends.remote = specified(*address),
            InfoVti::OKey(key) => ends.output_key = *key,
            InfoVti::IKey(key) => ends.input_key = *key,
            _ => {}
        }
    }
    ends
}

/// The address, where it is one: the kernel says 0.0.0.0 for any.
fn specified(address: IpAddr) -> Option<Ipv4Addr> {
    match address {
        IpAddr::V4(address) if !address.is_unspecified() => Some(address),
        IpAddr::V4(_) | IpAddr::V6(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vti_is_recognized_by_its_ends() {
        let ends = vec![
            InfoVti::IKey(6),
            InfoVti::OKey(5),
            InfoVti::Local("192.0.2.1".parse().unwrap()),
            InfoVti::Remote("0.0.0.0".parse().unwrap()),
        ];
        let mut answer = LinkMessage::default();
        answer.header.index = 7;
        answer.header.link_layer_type = LinkLayerType::Tunnel;
        answer.header.flags = LinkFlags::Pointopoint | LinkFlags::Noarp;
        answer.attributes = vec![
            LinkAttribute::IfName("vti01".to_owned()),
            LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Vti), LinkInfo::Data(InfoData::Vti(ends))]),
            LinkAttribute::Address(Vec::new()),
        ];
        let kind = LinkKind::Vti(VtiEnds {
            local: Some("192.0.2.1".parse().unwrap()),
            remote: None,
            output_key: 5,
            input_key: 6,
        });
        let expected = Link {
            interface: "vti01".parse().unwrap(),
            index: 7,
            medium: Medium::Other(768),
            ends: Ends::PointToPoint,
            hardware_address: None,
            kind,
        };
        assert_eq!(parse_link(answer), Some(expected));
    }
}
