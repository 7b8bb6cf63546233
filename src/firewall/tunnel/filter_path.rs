//! The paths for which a tunnel has a chain in the filter table, and the allowed packets.

use super::packet_path::PacketPath;
use crate::daemon::{HostAccess, Scope, Tunnel};
use crate::net::Network;
use crate::settings::{Allow, GatewayAccess, Policy, Service};

/// A path for which a tunnel has a chain in the filter table.
#[derive(Debug)]
pub struct FilterPath {
    /// The path.
    pub path: PacketPath,
    /// The local network, as the filter table sees it.
    pub local: Network,
    /// The allowed packets.
    pub allowed: AllowedTraffic,
}

/// The packets of a tunnel that are allowed on a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AllowedTraffic {
    /// All.
    All,
    /// Replies in connections that the local side opened, ICMP errors about them, and connections
    /// that a conntrack helper expects.
    Replies,
    /// Those, and new connections to these services.
    Services(Vec<Service>),
    /// Nothing.
    None,
    /// Not decided here: the chain only copies packets to NFLOG, or jumps to the administrator's
    /// chain.
    Undecided,
}

impl FilterPath {
    pub(super) fn ends_in_drop(&self) -> bool {
        match self.allowed {
            AllowedTraffic::Replies | AllowedTraffic::Services(_) | AllowedTraffic::None => true,
            AllowedTraffic::All | AllowedTraffic::Undecided => false,
        }
    }
}

/// The paths for which a tunnel has a chain in the filter table. On other paths the administrator's
/// rules decide about its packets.
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
        // libreswan's script copies packets to and from the gateway to NFLOG whether or not they
        // are accepted. And the administrator's chain (`chain`) comes first on every path.
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

/// Whether the gateway forwards packets of a tunnel. It does not if the tunnel ends at the gateway,
/// if the remote network is the gateway's own address inside the tunnel (as for strongSwan's
/// script), or with client address translation, where libreswan's policies have two local
/// addresses, both of the gateway.
fn forwards_packets(tunnel: &Tunnel) -> bool {
    let mut source_addresses = tunnel.source_addresses.iter();
    match (tunnel.scope, tunnel.translation) {
        (Scope::Host, _) | (_, Some(_)) => false,
        (Scope::Client, None) => !source_addresses.any(|address| tunnel.remote_client.is_host(*address)),
    }
}

/// The allowed packets to and from the gateway itself.
///
/// If the gateway is closed to a restricted tunnel, or with `host-access = "no"`, packets out of
/// the tunnel to the gateway are dropped, except replies to the gateway's own connections. The
/// administrator's rules decide which connections the gateway may open. With `allow = "none"` all
/// these packets are dropped, in both directions.
fn gateway_paths(tunnel: &Tunnel, policy: &Policy) -> Vec<(PacketPath, AllowedTraffic)> {
    let [input, output] = GATEWAY_PATHS;
    let opened = match policy.host_access {
        GatewayAccess::Yes => true,
        GatewayAccess::No => false,
        GatewayAccess::Auto => daemon_opens_gateway(tunnel),
    };
    let is_undecided = policy.host_access == GatewayAccess::Auto && policy.allow == Allow::All;
    match &policy.allow {
        allow if opened => vec![(input, allowed_inbound(allow)), (output, allowed_outbound(allow))],
        Allow::None => vec![(input, AllowedTraffic::None), (output, AllowedTraffic::None)],
        Allow::All | Allow::Replies | Allow::Services(_) if is_undecided => Vec::new(),
        Allow::All | Allow::Replies | Allow::Services(_) => vec![(input, AllowedTraffic::Replies)],
    }
}

fn daemon_opens_gateway(tunnel: &Tunnel) -> bool {
    match (tunnel.scope, tunnel.translation, tunnel.host_access) {
        (Scope::Host, _, _) | (_, Some(_), _) | (_, _, HostAccess::Asked) => true,
        (Scope::Client, None, HostAccess::NotAsked) => !tunnel.source_addresses.is_empty(),
    }
}
