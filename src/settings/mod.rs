//! The settings file, `/etc/pluto-updown.toml`.
//!
//! What it can say is a type for each key, in a module for each part: [`Gateway`] for `[gateway]`, [`Policy`] for `[tunnel]`, and
//! [`Connection`] for every `[[connection]]`. A key that nobody knows is refused: whoever writes one expects it to have an effect, and a
//! firewall that ignores what it is told is worse than one that says so.

mod connection;
mod gateway;
mod pattern;
mod policy;
mod service;
mod stock;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::contract::Tunnel;
use crate::words::one_line;

pub use connection::{Connection, Keys, Who};
pub use gateway::{Esp, Gateway, IcmpFilter, Ike, JumpPlace, Neighbour, Through};
pub use pattern::{IdentityPattern, NamePattern};
pub use policy::{Allow, GatewayAccess, Mss, Nat, OnError, PacketLog, Policy, WhenDown};
pub use service::Service;
pub use stock::{STOCK_PATHS, StockSettings};

/// Where the settings are unless `--config` says otherwise.
pub const DEFAULT_PATH: &str = "/etc/pluto-updown.toml";

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
    /// What is set for a tunnel.
    #[must_use]
    pub fn policy(&self, tunnel: &Tunnel) -> Policy {
        let entry = self.connections.iter().find(|entry| entry.who.fits(tunnel));
        entry.map_or_else(|| self.tunnel.clone(), |entry| entry.keys.over(&self.tunnel))
    }
}

/// Why the settings cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The file cannot be read.
    #[error("{}: cannot read: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The file says something that nobody understands.
    #[error("{}:{line}: {message}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
        /// What is wrong in it.
        message: String,
    },
}

impl Settings {
    /// Reads the settings. Without a file at [`DEFAULT_PATH`] there are none; a file that `--config` names must be there.
    ///
    /// # Errors
    /// If the file cannot be read, or holds what is no setting.
    pub fn load(config: Option<&Path>) -> Result<Self, SettingsError> {
        let path = config.unwrap_or(Path::new(DEFAULT_PATH));
        let text = match fs::read_to_string(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound && config.is_none() => return Ok(Self::default()),
            other => other.map_err(|source| SettingsError::Io {
                path: path.to_owned(),
                source,
            })?,
        };
        Self::parse(&text).map_err(|(line, message)| SettingsError::Malformed {
            path: path.to_owned(),
            line,
            message,
        })
    }

    fn parse(text: &str) -> Result<Self, (usize, String)> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct NoKeys {}
        toml::from_str(text).map(|NoKeys {}| Self::default()).map_err(|error| {
            let offset = error.span().map_or(0, |span| span.start);
            let line = text.bytes().take(offset).filter(|byte| *byte == b'\n').count() + 1;
            (line, one_line(error.message()))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_refused_with_its_line_and_name() {
        let (line, message) = Settings::parse("# mine\n\n[tunnel]\nallow = \"all\"\n").unwrap_err();
        assert_eq!(line, 3);
        assert!(message.contains("tunnel"), "{message}");
    }

    #[test]
    fn comments_alone_are_settings() {
        assert_eq!(Settings::parse("# nothing yet\n"), Ok(Settings::default()));
    }

    #[test]
    fn what_is_no_toml_is_refused_with_its_line() {
        let (line, _) = Settings::parse("# one\n= two\n").unwrap_err();
        assert_eq!(line, 2);
    }
}
