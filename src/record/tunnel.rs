//! The record of one tunnel.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::daemon::Daemon;
use crate::contract::{Multiplicity, PeerText, Scope, Spis, Tunnel};
use crate::plan::{Layout, TunnelId, TunnelKey};

/// The newest format of records that this version writes and reads.
pub const FORMAT: u32 = 1;

/// What is installed for one tunnel, and what is known about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TunnelRecord {
    /// The format of this record; [`FORMAT`] when it is written.
    pub format: u32,
    /// Its short name.
    pub id: TunnelId,
    /// Which tunnel it is.
    pub key: TunnelKey,
    /// How many of it there can be at a time.
    pub multiplicity: Multiplicity,
    /// How many `up` have had no `down` yet; more than one only where they are counted.
    pub count: u32,
    /// When its rules were put in, in seconds since 1970 (UTC).
    pub since: u64,
    /// The daemon that it belongs to; none for calls made by hand.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub daemon: Option<Daemon>,
    /// What the last `up` said and no rule depends on.
    pub about: About,
    /// Every rule that is in for it: what `down` takes out, and a rebuild puts back.
    pub layout: Layout,
}

/// What the last `up` said about a tunnel, for finding and showing it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct About {
    /// Whether our end is the gateway alone.
    pub scope: Scope,
    /// Our own address at the time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub me: Option<IpAddr>,
    /// The peer's address at the time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer: Option<IpAddr>,
    /// The peer's identity.
    pub peer_id: PeerText,
    /// The user name of XAUTH or EAP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<PeerText>,
    /// strongSwan's number of the IKE_SA at the time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unique_id: Option<u32>,
    /// The security parameter indexes at the time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spis: Option<Spis>,
}

impl From<&Tunnel> for About {
    fn from(tunnel: &Tunnel) -> Self {
        Self {
            scope: tunnel.scope,
            me: tunnel.me,
            peer: tunnel.peer,
            peer_id: tunnel.peer_id.clone(),
            user: tunnel.user.clone(),
            unique_id: tunnel.unique_id,
            spis: tunnel.spis,
        }
    }
}
