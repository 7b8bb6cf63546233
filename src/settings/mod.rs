//! The settings file, `/etc/pluto-updown.toml`.
//!
//! Each key has a type, and each part a module: [`Gateway`] for `[gateway]`, [`Policy`] for
//! `[tunnel]`, and [`ConnectionSettings`] for every `[[connection]]`. An unknown key is refused:
//! its author expects an effect, and a firewall that silently ignores a setting is worse than one
//! that refuses it.

mod connection;
mod file;
mod gateway;
mod pattern;
mod policy;
mod reader;
mod route;
mod salvage;
mod service;
mod source;
mod stock;

pub(crate) use connection::ConnectionSettings;
pub(crate) use file::{DEFAULT_PATH, SettingsError};
pub use gateway::{Esp, Gateway, JumpPlace};
pub(crate) use gateway::{IcmpFilter, Ike, IpsecOnlyScope, Through};
pub(crate) use pattern::{Fit, NamePattern};
pub use policy::{Allow, GatewayAccess, Nat, Policy, WhenDown};
pub(crate) use policy::{Mss, PacketLog};
pub use route::AlwaysRoute;
pub(crate) use route::RouteArguments;
pub(crate) use salvage::only_ipsec;
pub use service::Service;
pub(crate) use source::{SettingPlace, SettingTable, SettingsSource};
pub(crate) use stock::StockSettings;

use std::collections::BTreeSet;
use std::fmt;

use ipnet::IpNet;

use crate::daemon::Tunnel;
use crate::net::{Family, Network};

/// What the administrator has set.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settings {
    /// `[gateway]`: the rules that `start` installs.
    pub gateway: Gateway,
    /// `[tunnel]`: the settings for every tunnel.
    pub tunnel: Policy,
    /// Every `[[connection]]`, in order: the first that matches applies, before `[tunnel]`.
    pub connections: Vec<ConnectionSettings>,
}

impl Settings {
    /// Whether the addresses of every tunnel's packets are left to other rules, so that this
    /// program does not touch the nat table.
    #[must_use]
    pub(crate) fn leaves_nat_alone(&self) -> bool {
        let others = self.connections.iter().filter_map(|entry| entry.overrides.nat);
        others.chain([self.tunnel.nat]).all(|nat| nat == Nat::Leave)
    }

    /// The policy of a tunnel. If it is uncertain whether an entry applies, the intersection of the
    /// policies with the entry and without it.
    #[must_use]
    pub fn policy(&self, tunnel: &Tunnel) -> Policy {
        let Applying { entry, doubtful } = self.applying(tunnel);
        let certain = entry.map_or_else(
            || self.tunnel.clone(),
            |(_, entry)| entry.overrides.apply_to(&self.tunnel),
        );
        doubtful.into_iter().fold(certain, |policy, (_, entry)| {
            policy.intersect(&entry.overrides.apply_to(&self.tunnel))
        })
    }

    /// The pairs that the settings block for a tunnel, the local network first, of the tunnel's
    /// family.
    #[must_use]
    pub fn blocked_pairs_of(&self, tunnel: &Tunnel) -> Vec<(Network, Network)> {
        let Applying { entry, doubtful } = self.applying(tunnel);
        let entries = entry.into_iter().chain(doubtful).map(|(_, entry)| entry);
        let pairs = entries.flat_map(ConnectionSettings::pairs);
        pairs.filter(|(local, _)| local.family() == tunnel.family()).collect()
    }

    /// The entries of which it is uncertain whether they apply to a tunnel.
    #[must_use]
    pub fn uncertain_entries(&self, tunnel: &Tunnel) -> Option<UncertainEntries<'_>> {
        let Applying { entry, doubtful } = self.applying(tunnel);
        let certain = entry.map_or_else(
            || self.tunnel.clone(),
            |(_, entry)| entry.overrides.apply_to(&self.tunnel),
        );
        let conflicts =
            |(_, entry): &(usize, &ConnectionSettings)| certain.conflicts(&entry.overrides.apply_to(&self.tunnel));
        let conflicts: BTreeSet<_> = doubtful.iter().flat_map(conflicts).collect();
        (!doubtful.is_empty()).then_some(UncertainEntries { doubtful, conflicts })
    }

    /// Every pair of a family that the settings block.
    #[must_use]
    pub(crate) fn blocked_pairs_of_family(&self, family: Family) -> Vec<(Network, Network)> {
        let blocks = |entry: &&ConnectionSettings| entry.overrides.apply_to(&self.tunnel).when_down == WhenDown::Block;
        let pairs = self
            .connections
            .iter()
            .filter(blocks)
            .flat_map(ConnectionSettings::pairs);
        pairs.filter(|(local, _)| local.family() == family).collect()
    }

    /// The `bypass` of each connection for which two networks are named.
    pub(crate) fn bypasses(&self, pair: &(Network, Network)) -> impl Iterator<Item = Vec<IpNet>> {
        let entries = self.connections.iter();
        let entries = entries.filter(move |entry| entry.pairs().any(|other| other == *pair));
        entries.map(|entry| entry.overrides.apply_to(&self.tunnel).bypass.unwrap_or_default())
    }

    /// The names of the connections for which two networks are named.
    pub(crate) fn named_blocked_pairs(&self, pair: &(Network, Network)) -> impl Iterator<Item = &NamePattern> {
        let entries = self.connections.iter();
        let entries = entries.filter(move |entry| entry.pairs().any(|other| other == *pair));
        entries.filter_map(|entry| entry.filter.name.as_ref())
    }

    /// The first entry that fits a tunnel, and the doubtful ones before it.
    fn applying(&self, tunnel: &Tunnel) -> Applying<'_> {
        let mut applying = Applying::default();
        for (number, entry) in (1..).zip(&self.connections) {
            match entry.filter.fit(tunnel) {
                Fit::No => {}
                Fit::Doubtful => applying.doubtful.push((number, entry)),
                Fit::Yes => {
                    applying.entry = Some((number, entry));
                    break;
                }
            }
        }
        applying
    }
}

/// The entries that apply to a tunnel, or may.
#[derive(Debug, Default)]
struct Applying<'a> {
    /// With its number, from 1; so are the doubtful ones.
    entry: Option<(usize, &'a ConnectionSettings)>,
    doubtful: Vec<(usize, &'a ConnectionSettings)>,
}

/// That some entries may apply to a tunnel, for a log. One line.
#[derive(Debug, PartialEq, Eq)]
pub struct UncertainEntries<'a> {
    doubtful: Vec<(usize, &'a ConnectionSettings)>,
    /// The keys in which they differ from what is certain, and that have no intersection.
    conflicts: BTreeSet<&'static str>,
}

impl fmt::Display for UncertainEntries<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some((number, entry)) = self.doubtful.first() else {
            return Ok(());
        };
        write!(f, "[[connection]] {number}")?;
        let patterns = [("peer-id", &entry.filter.remote_id), ("user", &entry.filter.user)];
        let patterns = patterns
            .into_iter()
            .filter_map(|(key, pattern)| Some((key, pattern.as_ref()?)));
        for (key, pattern) in patterns {
            write!(f, ", {key} = \"{pattern}\"")?;
        }
        match self.doubtful.len() - 1 {
            0 => {}
            more => write!(f, ", and {more} more")?,
        }
        f.write_str(" may or may not apply: only what both allow is allowed")?;
        match self.conflicts.contains("chain") {
            true => f.write_str(" (chain differs)"),
            false => Ok(()),
        }
    }
}

/// What is wrong in the text of the settings. Printable ASCII on one line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {message}")]
pub struct Malformed {
    /// The line, counted from 1.
    pub line: usize,
    /// The key, what was found, what was expected, and what may have been meant.
    pub message: String,
}

impl Settings {
    /// Reads the text of a settings file.
    ///
    /// # Errors
    /// If it holds what is no setting: the first error in it.
    pub fn parse(text: &str) -> Result<Self, Malformed> {
        reader::read_settings(text)
    }
}
