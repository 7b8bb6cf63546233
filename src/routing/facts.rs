//! The kernel's answers that a plan of routes, addresses and interfaces depends on.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::env::Routing;
use super::plan::{KernelAnswers, KernelQuery};
use crate::net::{Family, Interface};
use crate::netlink::{Link, Lookup, NetConfig, NetlinkError, RouteQuery};

/// Queries the kernel for the answers that a plan needs, and no others: the daemon waits for each.
pub(super) fn facts<N: NetConfig>(
    kernel: &mut N,
    routing: &Routing,
    needed: &BTreeSet<KernelQuery>,
) -> Result<KernelAnswers, NetlinkError> {
    let mut facts = KernelAnswers::default();
    for fact in needed {
        match fact {
            KernelQuery::ToPeer => facts.to_peer = Some(kernel.lookup(routing.remote_client.first(), None)?),
            KernelQuery::OnLink => facts.on_link = link_of_route(kernel, facts.to_peer.as_ref())?,
            KernelQuery::ToNextHop => facts.to_next_hop = lookup(kernel, routing.next_hop, None)?,
            KernelQuery::FromMe => facts.from_local = lookup(kernel, routing.next_hop, routing.local_host)?,
            KernelQuery::Source => facts.source = lookup(kernel, routing.source, None)?,
            KernelQuery::Outer => facts.outer = query_link(kernel, routing.interface.as_ref())?,
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

fn query_link<N: NetConfig>(kernel: &mut N, interface: Option<&Interface>) -> Result<Option<Link>, NetlinkError> {
    interface.map_or(Ok(None), |interface| kernel.link(interface))
}

/// The link of a route.
fn link_of_route<N: NetConfig>(kernel: &mut N, route: Option<&Lookup>) -> Result<Option<Link>, NetlinkError> {
    match route {
        Some(Lookup::Found(route)) => query_link(kernel, route.interface.as_ref()),
        Some(Lookup::Unreachable(_)) | None => Ok(None),
    }
}

/// The next hop of the default route, and its interface.
fn default_gateway<N: NetConfig>(kernel: &mut N, family: Family) -> Result<Option<(IpAddr, Interface)>, NetlinkError> {
    let everywhere = match family {
        Family::Ipv4 => IpNet::V4(Ipv4Net::default()),
        Family::Ipv6 => IpNet::V6(Ipv6Net::default()),
    };
    let routes = kernel.routes(&RouteQuery::To(everywhere))?;
    Ok(routes.into_iter().find_map(|route| route.via.zip(route.interface)))
}
