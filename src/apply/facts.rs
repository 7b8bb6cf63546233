//! What a plan of routes, addresses and devices depends on.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::plan::{KernelAnswers, KernelQuery};
use crate::rtnetlink::{Link, Lookup, NetConfig, NetlinkError, RouteQuery};
use crate::selector::{Family, Interface};
use crate::updown_env::Routing;

/// Asks the kernel what a plan depends on, and no more: the daemon waits for every answer.
pub(super) fn facts<N: NetConfig>(
    kernel: &mut N,
    routing: &Routing,
    needed: &BTreeSet<KernelQuery>,
) -> Result<KernelAnswers, NetlinkError> {
    let mut facts = KernelAnswers::default();
    for fact in needed {
        match fact {
            KernelQuery::ToPeer => facts.to_peer = Some(kernel.lookup(routing.remote_client.first(), None)?),
            KernelQuery::OnLink => facts.on_link = link_of(kernel, facts.to_peer.as_ref())?,
            KernelQuery::ToNextHop => facts.to_next_hop = lookup(kernel, routing.next_hop, None)?,
            KernelQuery::FromMe => facts.from_local = lookup(kernel, routing.next_hop, routing.local_host)?,
            KernelQuery::Source => facts.source = lookup(kernel, routing.source, None)?,
            KernelQuery::Outer => facts.outer = link(kernel, routing.interface.as_ref())?,
            KernelQuery::Gateway => facts.gateway = default_gateway(kernel, routing.remote_client.family())?,
        }
    }
    Ok(facts)
}

fn lookup<N: NetConfig>(
    kernel: &mut N,
    to: Option<IpAddr>,
    from: Option<IpAddr>,
) -> Result<Option<Lookup>, NetlinkError> {
    to.map(|to| kernel.lookup(to, from)).transpose()
}

fn link<N: NetConfig>(kernel: &mut N, device: Option<&Interface>) -> Result<Option<Link>, NetlinkError> {
    device.map_or(Ok(None), |device| kernel.link(device))
}

/// The device of a way.
fn link_of<N: NetConfig>(kernel: &mut N, way: Option<&Lookup>) -> Result<Option<Link>, NetlinkError> {
    match way {
        Some(Lookup::Found(way)) => link(kernel, way.interface.as_ref()),
        Some(Lookup::Unreachable(_)) | None => Ok(None),
    }
}

/// The next hop of the default route, and its device.
fn default_gateway<N: NetConfig>(kernel: &mut N, family: Family) -> Result<Option<(IpAddr, Interface)>, NetlinkError> {
    let everywhere = match family {
        Family::Ipv4 => IpNet::V4(Ipv4Net::default()),
        Family::Ipv6 => IpNet::V6(Ipv6Net::default()),
    };
    let routes = kernel.routes(&RouteQuery::To(everywhere))?;
    Ok(routes.into_iter().find_map(|route| route.via.zip(route.interface)))
}
