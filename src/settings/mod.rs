//! The settings file, `/etc/pluto-updown.toml`.
//!
//! What it can say is a type for each key, in a module for each part: [`Gateway`] for `[gateway]`, [`Policy`] for `[tunnel]`, and
//! [`Connection`] for every `[[connection]]`. A key that nobody knows is refused: whoever writes one expects it to have an effect, and a
//! firewall that ignores what it is told is worse than one that says so.

mod connection;
mod file;
mod gateway;
mod pattern;
mod policy;
mod reader;
mod route;
mod service;
mod stock;

use crate::contract::Tunnel;
use crate::selector::{Family, Network};

pub use connection::{Connection, Keys, Who};
pub use file::{DEFAULT_PATH, SettingsError};
pub use gateway::{Esp, Gateway, IcmpFilter, Ike, JumpPlace, Neighbour, Through};
pub use pattern::{IdentityPattern, NamePattern};
pub use policy::{Allow, GatewayAccess, Mss, Nat, OnError, PacketLog, Policy, WhenDown};
pub use route::{AlwaysRoute, RouteArguments};
pub use service::Service;
pub use stock::{STOCK_PATHS, StockSettings};

/// What the administrator has set.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settings {
    /// `[gateway]`: what `start` puts in.
    pub gateway: Gateway,
    /// `[tunnel]`: what counts for every tunnel.
    pub tunnel: Policy,
    /// Every `[[connection]]`, in order: the first that fits counts, over `[tunnel]`.
    pub connections: Vec<Connection>,
}

impl Settings {
    /// Whether the addresses of every tunnel's packets are left to other rules, so that the nat table is none of our business.
    #[must_use]
    pub fn leaves_nat_alone(&self) -> bool {
        let others = self.connections.iter().filter_map(|entry| entry.keys.nat);
        others.chain([self.tunnel.nat]).all(|nat| nat == Nat::Leave)
    }

    /// What is set for a tunnel.
    #[must_use]
    pub fn policy(&self, tunnel: &Tunnel) -> Policy {
        let entry = self.connection(tunnel);
        entry.map_or_else(|| self.tunnel.clone(), |entry| entry.keys.over(&self.tunnel))
    }

    /// The networks that are named to be held apart for a tunnel, ours first, as far as they are of its family.
    #[must_use]
    pub fn between(&self, tunnel: &Tunnel) -> Vec<(Network, Network)> {
        let entry = self.connection(tunnel);
        let pairs = entry.into_iter().flat_map(Connection::pairs);
        pairs.filter(|(near, _)| near.family() == tunnel.family()).collect()
    }

    /// Every two networks of a family that are named to be held apart.
    #[must_use]
    pub fn held_apart(&self, family: Family) -> Vec<(Network, Network)> {
        let blocks = |entry: &&Connection| entry.keys.over(&self.tunnel).when_down == WhenDown::Block;
        let pairs = self.connections.iter().filter(blocks).flat_map(Connection::pairs);
        pairs.filter(|(near, _)| near.family() == family).collect()
    }

    /// The name of the connections for which two networks are named.
    #[must_use]
    pub fn named_between(&self, pair: &(Network, Network)) -> Option<&NamePattern> {
        let mut entries = self.connections.iter();
        let entry = entries.find(|entry| entry.pairs().any(|other| other == *pair))?;
        entry.who.name.as_ref()
    }

    fn connection(&self, tunnel: &Tunnel) -> Option<&Connection> {
        self.connections.iter().find(|entry| entry.who.fits(tunnel))
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
        reader::read(text)
    }
}
