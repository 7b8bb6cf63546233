//! The objects that VTI interfaces need.

use std::net::IpAddr;

use ipnet::IpNet;

use super::route_planner::RoutePlanner;
use crate::net::Network;
use crate::netlink::{self, NetObject};
use crate::routing::env::{RoutedBy, VtiRouting, VtiSettings};
use crate::settings::RouteArguments;

impl RoutePlanner<'_> {
    /// The VTI interface, if the connection has the marks that it needs. Its outer family is IPv4,
    /// whatever its inner packets are.
    pub(super) fn vti_device(self) -> Vec<NetObject> {
        match (&self.routing.by, self.routing.local_host) {
            (
                RoutedBy::Vti(VtiSettings {
                    interface,
                    marks: Some(marks),
                    routing: _,
                    remote,
                    address,
                }),
                Some(IpAddr::V4(local)),
            ) => vec![NetObject::VtiInterface(netlink::VtiInterface {
                interface: interface.clone(),
                local,
                remote: *remote,
                output_key: marks.outbound.value,
                input_key: marks.inbound.value,
                address: *address,
            })],
            (RoutedBy::Vti(_) | RoutedBy::Policy | RoutedBy::XfrmInterface { .. } | RoutedBy::Klips(_), _) => {
                Vec::new()
            }
        }
    }

    /// The routes into the VTI interface, if the connection has `vti-routing=yes` and marks.
    pub(super) fn vti_routes(self) -> Vec<NetObject> {
        match &self.routing.by {
            RoutedBy::Vti(VtiSettings {
                routing: VtiRouting::Wanted,
                marks: Some(_),
                ..
            }) => self.routes(),
            RoutedBy::Vti(_) | RoutedBy::Policy | RoutedBy::XfrmInterface { .. } | RoutedBy::Klips(_) => Vec::new(),
        }
    }

    /// A route to the default gateway, if that is in the remote network: otherwise the VTI
    /// interface's route would cover it.
    pub(super) fn pinned_gateway(self) -> Option<NetObject> {
        let RoutedBy::Vti(_) = self.routing.by else { return None };
        let Network::Prefix(remote) = self.routing.remote_client else {
            return None;
        };
        let (gateway, interface) = self
            .answers
            .gateway
            .as_ref()
            .filter(|(gateway, _)| remote.contains(gateway))?;
        let on_link = RouteArguments {
            interface: Some(interface.clone()),
            ..RouteArguments::default()
        };
        (remote.prefix_len() > 0).then(|| NetObject::Route(on_link.route(IpNet::from(*gateway))))
    }
}
