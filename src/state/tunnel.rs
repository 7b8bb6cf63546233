//! The record of one tunnel.

use serde::{Deserialize, Serialize};

use super::daemon_process::DaemonProcess;
use super::opener::Opener;
use crate::daemon::{Tunnel, UpCounting};
use crate::firewall::{TunnelId, TunnelKey, TunnelRules};
use crate::settings::Policy;

/// The newest format of records that this version writes and reads.
pub const FORMAT: u32 = 3;

/// What is installed for one tunnel, and what is known about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TunnelRecord {
    /// The format of this record; [`FORMAT`] when it is written.
    pub format: u32,
    /// Its id.
    pub id: TunnelId,
    /// Its key.
    pub key: TunnelKey,
    /// Whether the daemon's ups are counted.
    #[serde(rename = "multiplicity")]
    pub up_counting: UpCounting,
    /// How many `up` calls have had no `down`; more than one only where they are counted.
    pub count: u32,
    /// When its rules were installed, in seconds since 1970 (UTC).
    pub since: u64,
    /// The daemon that called; `None` for calls made by hand.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub daemon: Option<DaemonProcess>,
    /// The tunnel as the last `up` without a `down` described it.
    pub tunnel: Tunnel,
    /// The policy in the settings when its rules were made: the intersection over all openers.
    #[serde(default)]
    pub policy: Policy,
    /// The openers, where ups are counted, in the order of their ups; empty in the record of an
    /// older version, which only counted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub openers: Vec<Opener>,
    /// The policy that applies while other tunnels are up that the kernel cannot distinguish from
    /// it; `None` if it equals `policy`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effective: Option<Policy>,
    /// Its position among those in the order of their ups, from 0.
    #[serde(default, skip_serializing_if = "is_first")]
    pub turn: u32,
    /// Every rule that is installed for it: `down` removes them, and a rebuild installs them again.
    #[serde(rename = "layout")]
    pub tunnel_rules: TunnelRules,
}

fn is_first(turn: &u32) -> bool {
    *turn == 0
}

impl TunnelRecord {
    /// The policy that applies to its packets.
    #[must_use]
    pub fn effective_policy(&self) -> &Policy {
        self.effective.as_ref().unwrap_or(&self.policy)
    }
}
