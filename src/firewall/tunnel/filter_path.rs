//! The paths of the filter table on which a tunnel has a chain, and what passes there.

use super::packet_path::PacketPath;
use crate::daemon::{HostAccess, Scope, Tunnel};
use crate::net::Network;
use crate::settings::{Allow, GatewayAccess, Policy, Service};

/// A path of the filter table that a tunnel has a chain on.
#[derive(Debug)]
pub struct FilterPath {
    /// The path.
    pub path: PacketPath,
    /// Our end of it.
    pub local: Network,
    /// What passes.
    pub allowed: AllowedTraffic,
}

/// A tunnel's packets that pass on a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AllowedTraffic {
    /// All.
    All,
    /// What belongs to connections from the other side of the gateway.
    Replies,
    /// That, and new connections to these.
    Services(Vec<Service>),
    /// Nothing.
    None,
    /// Other rules decide; it is only looked at.
    Undecided,
}

impl FilterPath {
    pub(super) fn is_restricted(&self) -> bool {
        match self.allowed {
            AllowedTraffic::Replies | AllowedTraffic::Services(_) | AllowedTraffic::None => true,
            AllowedTraffic::All | AllowedTraffic::Undecided => false,
        }
    }
}

/// The paths of the filter table that a tunnel has a chain on. On others its packets are left to
/// other rules.
#[must_use]
pub fn filter_paths(tunnel: &Tunnel, policy: &Policy) -> Vec<FilterPath> {
    let local = tunnel.translation.map_or(tunnel.local_client, |translation| {
        // The filter table never sees the translated address: PREROUTING replaces it before INPUT,
        // and POSTROUTING replaces the local one after OUTPUT.
        Network::host(translation.own)
    });
    let mut allowed = Vec::new();
    if forwards_packets(tunnel) {
        allowed.push((PacketPath::ForwardIn, allowed_inbound(&policy.allow)));
        allowed.push((PacketPath::ForwardOut, allowed_outbound(&policy.allow)));
    }
    allowed.extend(gateway_paths(tunnel, policy));
    if tunnel.log_group.is_some() || policy.chain.is_some() {
        // libreswan's script logs there whether or not packets are accepted; and the
        // administrator's chain comes first everywhere.
        for path in GATEWAY_PATHS {
            if !allowed.iter().any(|(taken, _)| *taken == path) {
                allowed.push((path, AllowedTraffic::Undecided));
            }
        }
    }
    let filter_paths = allowed.into_iter();
    filter_paths
        .map(|(path, allowed)| FilterPath { path, local, allowed })
        .collect()
}

fn allowed_inbound(allow: &Allow) -> AllowedTraffic {
    match allow {
        Allow::All => AllowedTraffic::All,
        Allow::Replies => AllowedTraffic::Replies,
        Allow::None => AllowedTraffic::None,
        Allow::Services(services) => AllowedTraffic::Services(services.clone()),
    }
}

fn allowed_outbound(allow: &Allow) -> AllowedTraffic {
    match allow {
        Allow::All | Allow::Replies | Allow::Services(_) => AllowedTraffic::All,
        Allow::None => AllowedTraffic::None,
    }
}

/// The paths that end or begin at the gateway itself.
const GATEWAY_PATHS: [PacketPath; 2] = [PacketPath::Input, PacketPath::Output];

/// Whether packets are forwarded for a tunnel. Not for a host tunnel, which ends at the gateway.
/// Not if the remote network is the gateway's own address inside the tunnel. And not with client
/// address translation, where libreswan has policies for two addresses only, both the gateway's.
fn forwards_packets(tunnel: &Tunnel) -> bool {
    let mut source_addresses = tunnel.source_addresses.iter();
    match (tunnel.scope, tunnel.translation) {
        (Scope::Host, _) | (_, Some(_)) => false,
        (Scope::Client, None) => !source_addresses.any(|address| tunnel.remote_client.is_host(*address)),
    }
}

/// What passes to and from the gateway itself.
///
/// Where the gateway is closed to the tunnel, and where other rules would decide although the
/// tunnel is restricted, packets out of the tunnel to the gateway are dropped, except replies to
/// the gateway's own connections. Other rules decide which connections the gateway may open.
fn gateway_paths(tunnel: &Tunnel, policy: &Policy) -> Vec<(PacketPath, AllowedTraffic)> {
    let [input, output] = GATEWAY_PATHS;
    let opened = match policy.host_access {
        GatewayAccess::Yes => true,
        GatewayAccess::No => false,
        GatewayAccess::Auto => daemon_opens_gateway(tunnel),
    };
    let is_left = policy.host_access == GatewayAccess::Auto && policy.allow == Allow::All;
    match &policy.allow {
        allow if opened => vec![(input, allowed_inbound(allow)), (output, allowed_outbound(allow))],
        Allow::None => vec![(input, AllowedTraffic::None), (output, AllowedTraffic::None)],
        Allow::All | Allow::Replies | Allow::Services(_) if is_left => Vec::new(),
        Allow::All | Allow::Replies | Allow::Services(_) => vec![(input, AllowedTraffic::Replies)],
    }
}

fn daemon_opens_gateway(tunnel: &Tunnel) -> bool {
    match (tunnel.scope, tunnel.translation, tunnel.host_access) {
        (Scope::Host, _, _) | (_, Some(_), _) | (_, _, HostAccess::Asked) => true,
        (Scope::Client, None, HostAccess::NotAsked) => !tunnel.source_addresses.is_empty(),
    }
}
