//! What a call asks of the resolver: the name servers and domains that the peer offers to a client
//! of its config mode.
//!
//! The peer chooses all of it, and it is written to a file or to the command line of a program. So
//! words that are no address or domain are left out and reported. None of it is a reason to refuse
//! a tunnel.

mod read;

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::domain::Domain;
use crate::daemon::{ConnectionName, EnvError, PeerText};
use crate::net::{Interface, Network};

pub(crate) use read::read_resolver;

/// What a call of Pluto's asks of the resolver, and of NetworkManager, which may do it instead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResolverAction {
    /// The change for a user of name servers.
    pub names: Option<NameService>,
    /// The notice to NetworkManager.
    pub notice: Option<NmNotice>,
    /// What was said and not understood, and is left out.
    pub faults: Vec<EnvError>,
}

impl ResolverAction {
    /// Whether name servers are to be removed, which must happen even if everything else fails.
    #[must_use]
    pub(crate) fn gives_back(&self) -> bool {
        let names = self.names.iter().any(|names| names.request == DnsRequest::GiveBack);
        names || self.notice.iter().any(|notice| notice.reason == NmReason::Disconnect)
    }
}

/// A user, and what it asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NameService {
    /// Who.
    pub user: ResolverUser,
    /// What.
    pub request: DnsRequest,
}

/// Who uses a peer's name servers: one connection and one pair of networks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResolverUser {
    /// `PLUTO_CONNECTION`.
    pub connection: ConnectionName,
    /// The local network: usually the address that the peer assigned.
    #[serde(rename = "my_client")]
    pub local_client: Network,
    /// The remote network.
    #[serde(rename = "peer_client")]
    pub remote_client: Network,
}

/// What is done about a user's name servers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DnsRequest {
    /// They are used from now on.
    Use(DnsConfig),
    /// They are no longer used; the record has them.
    GiveBack,
}

/// What the peer offers, and where it goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DnsConfig {
    /// Its name servers, in its order and none twice.
    pub servers: Vec<IpAddr>,
    /// The domains that they are for, in its order and none twice.
    pub domains: Vec<Domain>,
    /// Where it goes.
    pub means: DnsMeans,
}

/// How names are resolved on this machine, as far as the daemon passes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DnsMeans {
    /// By `resolv.conf`; or by an unbound that runs, if there are domains; or, where that file
    /// turns out to be systemd-resolved's, by that service on this link.
    File(Option<Interface>),
    /// By an unbound that runs; otherwise by NetworkManager, which writes `resolv.conf`.
    Unbound,
    /// By systemd-resolved, on this link (libreswan 5.4).
    Systemd(Interface),
}

/// A notice to NetworkManager's service, and the program that sends it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NmNotice {
    /// Whose service.
    pub service: NmService,
    /// What happened.
    pub reason: NmReason,
    /// The peer's name servers.
    pub servers: Vec<IpAddr>,
    /// Their domains.
    pub domains: Vec<Domain>,
    /// The peer's greeting.
    pub banner: PeerText,
    /// Our address inside the tunnel.
    pub source: Option<IpAddr>,
    /// The peer's address.
    pub peer: Option<IpAddr>,
}

/// NetworkManager's plugins for Pluto.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NmService {
    /// NetworkManager-libreswan.
    Libreswan,
    /// NetworkManager-openswan.
    Openswan,
}

/// The reason of a notice to NetworkManager.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NmReason {
    /// The connection is there.
    Connect,
    /// It has ended, or was never established.
    Disconnect,
}
