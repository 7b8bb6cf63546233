//! Everything that has rules of its own in a ruleset: tunnels, and what there is besides.

use serde::{Deserialize, Serialize};

use super::daemon_process::DaemonProcess;
use super::tunnel::TunnelRecord;
use crate::plan::{TunnelId, TunnelRules};
use crate::selector::Network;
use crate::settings::NamePattern;
use crate::updown_env::{ConnectionName, Tunnel};

/// One thing on record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Record {
    /// A tunnel that is up.
    Tunnel(Box<TunnelRecord>),
    /// The gateway's own part, from `start` to `stop`.
    Gateway(GatewayRecord),
    /// What holds two networks apart, from `start` or the first `up` until it is lifted.
    #[serde(rename = "guard")]
    ClearTextBlock(Box<ClearTextBlockRecord>),
    /// What lets in ESP for a tunnel whose packets are of the other family, and which is on record
    /// there under the same name.
    #[serde(rename = "outer")]
    EspPeer(EspPeerRecord),
}

/// The gateway's own part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GatewayRecord {
    /// The format of this record, [`super::FORMAT`].
    pub format: u32,
    /// Its name, [`TunnelId::for_gateway`].
    pub id: TunnelId,
    /// When it was put in, in seconds since 1970 (UTC).
    pub since: u64,
    /// Its rules.
    #[serde(rename = "layout")]
    pub tunnel_rules: TunnelRules,
}

/// What holds two networks apart.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClearTextBlockRecord {
    /// The format of this record, [`super::FORMAT`].
    pub format: u32,
    /// Its name, [`TunnelId::for_clear_text_block`].
    pub id: TunnelId,
    /// The network behind us.
    #[serde(rename = "near")]
    pub local: Network,
    /// The one behind the peer.
    #[serde(rename = "far")]
    pub remote: Network,
    /// The tunnel that asked for it first, as its `up` described it; none if only the settings name
    /// these networks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tunnel: Option<Tunnel>,
    /// The others that have asked for it.
    #[serde(default, rename = "tunnels", skip_serializing_if = "Vec::is_empty")]
    pub other_tunnels: Vec<Tunnel>,
    /// A name by which the settings know the connections that it is for, if they name these
    /// networks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<NamePattern>,
    /// Further such names.
    #[serde(default, rename = "names", skip_serializing_if = "Vec::is_empty")]
    pub other_names: Vec<NamePattern>,
    /// When it was put in, in seconds since 1970 (UTC).
    pub since: u64,
    /// Its rules.
    #[serde(rename = "layout")]
    pub tunnel_rules: TunnelRules,
}

/// What lets in ESP for a tunnel of the other family.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EspPeerRecord {
    /// The format of this record, [`super::FORMAT`].
    pub format: u32,
    /// The tunnel's name.
    pub id: TunnelId,
    /// The tunnel's daemon.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub daemon: Option<DaemonProcess>,
    /// Its rules.
    #[serde(rename = "layout")]
    pub tunnel_rules: TunnelRules,
}

/// Which [`Entry`] a record is.
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
    /// Reads one, in two goes: where its kind stands among its fields, one go would keep all of
    /// them aside until it is known.
    ///
    /// # Errors
    /// If it is none.
    pub fn from_json(bytes: &[u8]) -> serde_json::Result<Self> {
        let Tag { kind } = serde_json::from_slice(bytes)?;
        Ok(match kind {
            RecordKind::Tunnel => Self::Tunnel(serde_json::from_slice(bytes)?),
            RecordKind::Gateway => Self::Gateway(serde_json::from_slice(bytes)?),
            RecordKind::ClearTextBlock => Self::ClearTextBlock(serde_json::from_slice(bytes)?),
            RecordKind::EspPeer => Self::EspPeer(serde_json::from_slice(bytes)?),
        })
    }

    /// Its name, the only one such in its ruleset.
    #[must_use]
    pub fn id(&self) -> &TunnelId {
        match self {
            Self::Tunnel(record) => &record.id,
            Self::Gateway(record) => &record.id,
            Self::ClearTextBlock(record) => &record.id,
            Self::EspPeer(record) => &record.id,
        }
    }

    /// Every rule that is in for it.
    #[must_use]
    pub fn tunnel_rules(&self) -> &TunnelRules {
        match self {
            Self::Tunnel(record) => &record.tunnel_rules,
            Self::Gateway(record) => &record.tunnel_rules,
            Self::ClearTextBlock(record) => &record.tunnel_rules,
            Self::EspPeer(record) => &record.tunnel_rules,
        }
    }

    /// The same, to be changed.
    pub fn tunnel_rules_mut(&mut self) -> &mut TunnelRules {
        match self {
            Self::Tunnel(record) => &mut record.tunnel_rules,
            Self::Gateway(record) => &mut record.tunnel_rules,
            Self::ClearTextBlock(record) => &mut record.tunnel_rules,
            Self::EspPeer(record) => &mut record.tunnel_rules,
        }
    }

    /// The daemon with whose end it ends.
    #[must_use]
    pub fn daemon(&self) -> Option<DaemonProcess> {
        match self {
            Self::Tunnel(record) => record.daemon,
            Self::EspPeer(record) => record.daemon,
            Self::Gateway(_) | Self::ClearTextBlock(_) => None,
        }
    }

    /// What holds two networks apart, if it is that.
    #[must_use]
    pub fn as_clear_text_block(&self) -> Option<&ClearTextBlockRecord> {
        match self {
            Self::ClearTextBlock(block) => Some(block),
            Self::Tunnel(_) | Self::Gateway(_) | Self::EspPeer(_) => None,
        }
    }

    /// The tunnel that it is.
    #[must_use]
    pub fn into_tunnel(self) -> Option<TunnelRecord> {
        match self {
            Self::Tunnel(record) => Some(*record),
            Self::Gateway(_) | Self::ClearTextBlock(_) | Self::EspPeer(_) => None,
        }
    }
}

impl ClearTextBlockRecord {
    /// The tunnels that have asked for it, the first one first.
    pub fn askers(&self) -> impl Iterator<Item = &Tunnel> {
        self.tunnel.iter().chain(&self.other_tunnels)
    }

    /// The connections that have asked for it, each once; none if only the settings name its
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

    /// Whether it is for a connection, or would be: named as the daemon calls it, or as it is
    /// called in the daemon's configuration.
    #[must_use]
    pub fn is_for(&self, connection: &ConnectionName) -> bool {
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
