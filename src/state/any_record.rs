//! The records of one ruleset: tunnels, the gateway's own rules, blocked pairs, and ESP peers.

use serde::{Deserialize, Serialize};

use super::daemon_process::DaemonProcess;
use super::tunnel::TunnelRecord;
use crate::daemon::{ConnectionName, Tunnel};
use crate::firewall::{TunnelId, TunnelRules};
use crate::net::Network;
use crate::settings::NamePattern;

/// One record: something that has rules of its own in a ruleset.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Record {
    /// A tunnel that is up.
    Tunnel(Box<TunnelRecord>),
    /// The gateway's own rules, from `start` to `stop`.
    Gateway(GatewayRecord),
    /// A pair of networks that is blocked from talking unencrypted, from `start` or the first `up`
    /// until `unblock`.
    #[serde(rename = "guard")]
    ClearTextBlock(Box<ClearTextBlockRecord>),
    /// The rule that accepts ESP for a tunnel whose inner packets are of the other family. The
    /// tunnel's own record is in the other family's ruleset; this id is a hash of the tunnel's.
    #[serde(rename = "outer")]
    EspPeer(EspPeerRecord),
}

/// The record of the gateway's own rules.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GatewayRecord {
    /// The format of this record, [`super::FORMAT`].
    pub format: u32,
    /// Its id, [`TunnelId::for_gateway`].
    pub id: TunnelId,
    /// When its rules were installed, in seconds since 1970 (UTC).
    pub since: u64,
    /// Its rules.
    #[serde(rename = "layout")]
    pub tunnel_rules: TunnelRules,
}

/// The record of a pair of networks that is blocked from talking unencrypted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClearTextBlockRecord {
    /// The format of this record, [`super::FORMAT`].
    pub format: u32,
    /// Its id, [`TunnelId::for_clear_text_block`].
    pub id: TunnelId,
    /// The local network.
    #[serde(rename = "near")]
    pub local: Network,
    /// The remote network.
    #[serde(rename = "far")]
    pub remote: Network,
    /// The tunnel that asked for the block first, as its `up` described it; `None` if only the
    /// settings name these networks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tunnel: Option<Tunnel>,
    /// Other tunnels that have asked for the block.
    #[serde(default, rename = "tunnels", skip_serializing_if = "Vec::is_empty")]
    pub other_tunnels: Vec<Tunnel>,
    /// The `name` of the settings entry that names these networks, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<NamePattern>,
    /// The names of further such entries.
    #[serde(default, rename = "names", skip_serializing_if = "Vec::is_empty")]
    pub other_names: Vec<NamePattern>,
    /// When its rules were installed, in seconds since 1970 (UTC).
    pub since: u64,
    /// Its rules.
    #[serde(rename = "layout")]
    pub tunnel_rules: TunnelRules,
}

/// The record of a rule that accepts ESP for a tunnel of the other family.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EspPeerRecord {
    /// The format of this record, [`super::FORMAT`].
    pub format: u32,
    /// Its id, [`TunnelId::for_esp_peer`] of the tunnel's.
    pub id: TunnelId,
    /// The tunnel's daemon.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub daemon: Option<DaemonProcess>,
    /// Its rules.
    #[serde(rename = "layout")]
    pub tunnel_rules: TunnelRules,
}

/// Which [`Record`] a file holds.
#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum RecordKind {
    Tunnel,
    Gateway,
    #[serde(rename = "guard")]
    ClearTextBlock,
    #[serde(rename = "outer")]
    EspPeer,
}

#[derive(Deserialize)]
struct Tag {
    kind: RecordKind,
}

impl Record {
    /// Parses a record in two passes: the first reads only `kind`. One pass (serde's `tag`) would
    /// buffer all fields until it finds `kind`.
    ///
    /// # Errors
    /// If the bytes are not a record.
    pub fn from_json(bytes: &[u8]) -> serde_json::Result<Self> {
        let Tag { kind } = serde_json::from_slice(bytes)?;
        Ok(match kind {
            RecordKind::Tunnel => Self::Tunnel(serde_json::from_slice(bytes)?),
            RecordKind::Gateway => Self::Gateway(serde_json::from_slice(bytes)?),
            RecordKind::ClearTextBlock => Self::ClearTextBlock(serde_json::from_slice(bytes)?),
            RecordKind::EspPeer => Self::EspPeer(serde_json::from_slice(bytes)?),
        })
    }

    /// Its id, which is unique in its ruleset.
    #[must_use]
    pub fn id(&self) -> &TunnelId {
        match self {
            Self::Tunnel(record) => &record.id,
            Self::Gateway(record) => &record.id,
            Self::ClearTextBlock(record) => &record.id,
            Self::EspPeer(record) => &record.id,
        }
    }

    /// Every rule that is installed for it.
    #[must_use]
    pub fn tunnel_rules(&self) -> &TunnelRules {
        match self {
            Self::Tunnel(record) => &record.tunnel_rules,
            Self::Gateway(record) => &record.tunnel_rules,
            Self::ClearTextBlock(record) => &record.tunnel_rules,
            Self::EspPeer(record) => &record.tunnel_rules,
        }
    }

    /// Every rule that is installed for it, mutable.
    pub(crate) fn tunnel_rules_mut(&mut self) -> &mut TunnelRules {
        match self {
            Self::Tunnel(record) => &mut record.tunnel_rules,
            Self::Gateway(record) => &mut record.tunnel_rules,
            Self::ClearTextBlock(record) => &mut record.tunnel_rules,
            Self::EspPeer(record) => &mut record.tunnel_rules,
        }
    }

    /// The daemon whose exit ends it.
    #[must_use]
    pub fn daemon(&self) -> Option<DaemonProcess> {
        match self {
            Self::Tunnel(record) => record.daemon,
            Self::EspPeer(record) => record.daemon,
            Self::Gateway(_) | Self::ClearTextBlock(_) => None,
        }
    }

    /// The blocked pair, if the record is one.
    #[must_use]
    pub(crate) fn as_clear_text_block(&self) -> Option<&ClearTextBlockRecord> {
        match self {
            Self::ClearTextBlock(block) => Some(block),
            Self::Tunnel(_) | Self::Gateway(_) | Self::EspPeer(_) => None,
        }
    }

    /// The tunnel, if the record is one.
    #[must_use]
    pub(crate) fn as_tunnel(&self) -> Option<&TunnelRecord> {
        match self {
            Self::Tunnel(record) => Some(record),
            Self::Gateway(_) | Self::ClearTextBlock(_) | Self::EspPeer(_) => None,
        }
    }

    /// The same.
    #[must_use]
    pub(crate) fn into_tunnel(self) -> Option<TunnelRecord> {
        match self {
            Self::Tunnel(record) => Some(*record),
            Self::Gateway(_) | Self::ClearTextBlock(_) | Self::EspPeer(_) => None,
        }
    }
}

impl ClearTextBlockRecord {
    /// The tunnels that have asked for the block, the first one first.
    pub(crate) fn askers(&self) -> impl Iterator<Item = &Tunnel> {
        self.tunnel.iter().chain(&self.other_tunnels)
    }

    /// The connections that have asked for the block, each once; none if only the settings name its
    /// networks.
    #[must_use]
    pub fn connections(&self) -> Vec<&ConnectionName> {
        let mut connections = Vec::new();
        for asker in self.askers() {
            if !connections.contains(&&asker.connection) {
                connections.push(&asker.connection);
            }
        }
        connections
    }

    /// Whether a connection asked for the block, or a name in the settings fits it. The connection
    /// is named as the daemon calls it, or as the daemon's configuration does.
    #[must_use]
    pub(crate) fn is_for(&self, connection: &ConnectionName) -> bool {
        let is_its = |asker: &Tunnel| {
            let own = &asker.connection;
            own == connection || own.configured().as_ref() == Some(connection)
        };
        let mut names = self.name.iter().chain(&self.other_names);
        self.askers().any(is_its) || names.any(|name| name.fits_plutos(connection))
    }
}

impl From<TunnelRecord> for Record {
    fn from(record: TunnelRecord) -> Self {
        Self::Tunnel(Box::new(record))
    }
}
