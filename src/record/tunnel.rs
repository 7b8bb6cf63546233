//! The record of one tunnel.

use serde::{Deserialize, Serialize};

use super::daemon_process::DaemonProcess;
use super::opener::Opener;
use crate::plan::{TunnelId, TunnelKey, TunnelRules};
use crate::settings::Policy;
use crate::updown_env::{Tunnel, UpCounting};

/// The newest format of records that this version writes and reads.
pub const FORMAT: u32 = 3;

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
    #[serde(rename = "multiplicity")]
    pub up_counting: UpCounting,
    /// How many `up` have had no `down` yet; more than one only where they are counted.
    pub count: u32,
    /// When its rules were put in, in seconds since 1970 (UTC).
    pub since: u64,
    /// The daemon that it belongs to; none for calls made by hand.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub daemon: Option<DaemonProcess>,
    /// What the last `up` said of it that has had no `down` yet.
    pub tunnel: Tunnel,
    /// What was set for it when its rules were made: for all that have it up.
    #[serde(default)]
    pub policy: Policy,
    /// Who has it up, where ups are counted, in the order of their ups; none in the record of an
    /// older version, which only counted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub openers: Vec<Opener>,
    /// What counts instead while tunnels are up that the kernel cannot tell from it; none where
    /// that is the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effective: Option<Policy>,
    /// In which turn it was opened among those, from 0 on.
    #[serde(default, skip_serializing_if = "is_first")]
    pub turn: u32,
    /// Every rule that is in for it: what `down` takes out, and a rebuild puts back.
    #[serde(rename = "layout")]
    pub tunnel_rules: TunnelRules,
}

fn is_first(turn: &u32) -> bool {
    *turn == 0
}

impl TunnelRecord {
    /// What counts for its packets.
    #[must_use]
    pub fn effective_policy(&self) -> &Policy {
        self.effective.as_ref().unwrap_or(&self.policy)
    }
}
