//! What one call of a daemon asks of the firewall, and for which tunnel.

use std::net::IpAddr;
use std::num::NonZeroU16;

use serde::{Deserialize, Serialize};

use super::kind::Daemon;
use super::names::{ConnectionName, PeerText};
use super::verb::Verb;
use crate::net::{Family, Interface, Network, SaProtocol, Traffic};

/// One call, as far as the firewall is concerned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Call {
    /// The daemon that called.
    pub daemon: Daemon,
    /// The verb.
    pub verb: Verb,
    /// What the verb asks of the firewall.
    pub firewall: FirewallAction,
}

/// What a call asks of the firewall.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FirewallAction {
    /// Open it for this tunnel (`up`).
    Open(Box<Tunnel>),
    /// Close it again (`down`).
    Close(Box<Tunnel>),
    /// Nothing: `prepare`, `route`, `unroute` and the like.
    Nothing,
}

/// One tunnel as its daemon describes it: one connection and one pair of traffic selectors.
///
/// At `down` much of it can differ from what `up` said (peer, own address, reqid), so it serves
/// there only to find the record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tunnel {
    /// `PLUTO_CONNECTION`: the connection under Pluto, the CHILD_SA's configuration under
    /// strongSwan.
    pub connection: ConnectionName,
    /// How many tunnels of this connection and these selectors there can be at a time.
    #[serde(rename = "multiplicity")]
    pub up_counting: UpCounting,
    /// Whether our own end is the gateway alone or a network.
    pub scope: Scope,
    /// The local network.
    #[serde(rename = "my_client")]
    pub local_client: Network,
    /// The remote network, of the same family as `local_client`.
    #[serde(rename = "peer_client")]
    pub remote_client: Network,
    /// The protocol and ports.
    pub traffic: Traffic,
    /// What matches its packets.
    #[serde(rename = "attachment")]
    pub sa_match: SaMatch,
    /// The number of the XFRM interface that its packets leave by (strongSwan's `if_id_out`). The
    /// daemon does not name the interface. Inbound packets of such an interface match their policy;
    /// outbound packets match none until they are inside the interface.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub if_id_out: Option<u32>,
    /// Our own address of the IKE association, where it is known. Moves with MOBIKE.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[serde(rename = "me")]
    pub local_host: Option<IpAddr>,
    /// The peer's address of the IKE association, where it is known. Moves with MOBIKE.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[serde(rename = "peer")]
    pub remote_host: Option<IpAddr>,
    /// Our own identity.
    #[serde(rename = "my_id")]
    pub local_id: PeerText,
    /// The identity that the peer showed. The peer chose it.
    #[serde(rename = "peer_id")]
    pub remote_id: PeerText,
    /// The user name of XAUTH or EAP. The peer chose it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<PeerText>,
    /// Our own addresses inside the tunnel: `leftsourceip=`, or the virtual addresses that the peer
    /// assigned.
    pub source_addresses: Vec<IpAddr>,
    /// Whether the gateway's own addresses are to be reached through the tunnel too.
    pub host_access: HostAccess,
    /// Whether IPComp was negotiated along with ESP or AH.
    pub compression: Compression,
    /// The NFLOG group that a copy of each of its packets goes to (`nflog=`, libreswan 3.15 and
    /// later).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log_group: Option<LogGroup>,
    /// Between which addresses its packets are translated (`leftcat=yes`, libreswan 3.18 and
    /// later).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub translation: Option<ClientTranslation>,
    /// strongSwan's number of the IKE_SA. It changes when that is rekeyed, without a call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unique_id: Option<u32>,
    /// The security parameter indexes at the time of the call; a rekey changes them without a call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spis: Option<Spis>,
}

impl FirewallAction {
    /// The tunnel that is opened or closed.
    #[must_use]
    pub fn tunnel(&self) -> Option<&Tunnel> {
        match self {
            Self::Open(tunnel) | Self::Close(tunnel) => Some(tunnel),
            Self::Nothing => None,
        }
    }
}

impl Tunnel {
    /// The family of the packets inside it.
    #[must_use]
    pub fn family(&self) -> Family {
        self.local_client.family()
    }

    /// The gateway's and the peer's address, between which packets that were not worth compressing
    /// arrive as IP in IP; none if the peer does not compress.
    #[must_use]
    pub fn ipcomp_hosts(&self) -> Option<(IpAddr, IpAddr)> {
        match self.compression {
            Compression::None => None,
            Compression::Ipcomp => self.local_host.zip(self.remote_host),
        }
    }
}

/// How many tunnels of one connection and one pair of selectors a daemon can have at a time, and
/// how it says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum UpCounting {
    /// One. A second `up` replaces the first (Pluto, permanent connections).
    Single,
    /// One for every reqid: instances of a template connection, such as two peers behind one NAT in
    /// transport mode (Pluto, `CK_INSTANCE`).
    Instances,
    /// Several that look the same, each with an `up` and a `down` of its own: strongSwan
    /// reauthenticates by `up`(new), `down`(old).
    Counted,
}

/// Whether our own end of a tunnel is the gateway itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// The gateway's own address and nothing else (`up-host`).
    Host,
    /// A network, or an address other than that of the IKE association (`up-client`).
    Client,
}

/// What matches a tunnel's packets, besides their addresses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SaMatch {
    /// By the IPsec policy that they came by or will leave by.
    Policy {
        /// ESP, AH or IPComp, where the daemon says so.
        protocol: Option<SaProtocol>,
        /// The kernel's number, corrected where the daemon passes the base (libreswan 4.x); absent
        /// under Openswan and FreeS/WAN.
        reqid: Option<u32>,
    },
    /// By the interface that they come in and leave by: VTI, XFRM interface, or KLIPS' `ipsecN`.
    #[serde(rename = "device")]
    Interface(Interface),
}

/// Whether the daemon asked that the gateway itself be reached through the tunnel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HostAccess {
    /// It did (`hostaccess=yes`).
    Asked,
    /// It did not.
    NotAsked,
}

/// Whether packets are compressed before they are encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    /// IPComp was negotiated.
    Ipcomp,
    /// Nothing is compressed.
    None,
}

/// The number of an NFLOG group, 1 to 65535: whoever listens to it gets the packets. Pluto has no
/// group 0; it is its word for none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogGroup(pub NonZeroU16);

/// Client address translation, libreswan's CAT.
///
/// The peer gave us an address, but the gateway does not take it for its own and keeps using the
/// one it has. libreswan's policies lead packets of both addresses into the tunnel; those of our
/// own have to leave with the one that the peer gave us, or it refuses them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientTranslation {
    /// Our address inside the tunnel, given by the peer.
    pub assigned: IpAddr,
    /// The local address that is translated to it, of the same family and different.
    pub own: IpAddr,
}

/// The numbers of a tunnel's two security associations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spis {
    /// Of what comes in. libreswan calls it `SPI_OUT`.
    pub inbound: u32,
    /// Of what goes out. libreswan calls it `SPI_IN`.
    pub outbound: u32,
}
