//! What a plan of routes, addresses and devices depends on.

use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::contract::{RoutedBy, Routing};
use crate::plan::Facts;
use crate::rtnetlink::{Lookup, NetlinkError, Network, Wanted};
use crate::selector::{Device, Family};

/// Asks the kernel all that a plan depends on.
pub(super) fn facts<N: Network>(kernel: &mut N, routing: &Routing) -> Result<Facts, NetlinkError> {
    let to_peer = kernel.lookup(routing.peer_client.first(), None)?;
    let on_link = match &to_peer {
        Lookup::Found(way) => way
            .device
            .as_ref()
            .map(|device| kernel.link(device))
            .transpose()?
            .flatten(),
        Lookup::Unreachable(_) => None,
    };
    let mut lookup = |to: Option<_>, from| to.map(|to| kernel.lookup(to, from)).transpose();
    let to_next_hop = lookup(routing.next_hop, None)?;
    let from_me = lookup(routing.next_hop, routing.me)?;
    let source = lookup(routing.source, None)?;
    let outer = routing
        .interface
        .as_ref()
        .map(|device| kernel.link(device))
        .transpose()?
        .flatten();
    let gateway = match routing.by {
        RoutedBy::Vti(_) => default_gateway(kernel, routing.peer_client.family())?,
        RoutedBy::Policy | RoutedBy::XfrmInterface { .. } | RoutedBy::Klips(_) => None,
    };
    Ok(Facts {
        to_peer: Some(to_peer),
        on_link,
        to_next_hop,
        from_me,
        source,
        outer,
        gateway,
    })
}

/// The next hop of the default route, and its device.
fn default_gateway<N: Network>(kernel: &mut N, family: Family) -> Result<Option<(IpAddr, Device)>, NetlinkError> {
    let everywhere = match family {
        Family::Ipv4 => IpNet::V4(Ipv4Net::default()),
        Family::Ipv6 => IpNet::V6(Ipv6Net::default()),
    };
    let routes = kernel.routes(&Wanted::To(everywhere))?;
    Ok(routes.into_iter().find_map(|route| route.via.zip(route.device)))
}
