//! A settings file with the lines of its keys, for `explain`.

use std::fmt;
use std::path::{Path, PathBuf};

use super::connection::ConnectionFilter;
use super::file::{DEFAULT_PATH, SettingsError};
use super::reader::{self, SettingsLines, TableLines};
use super::{Applying, Settings};
use crate::daemon::{ConnectionName, Tunnel};
use crate::net::Network;
use crate::words::one_line;

/// A settings file that was read.
#[derive(Debug, Clone)]
pub(crate) struct SettingsSource {
    path: PathBuf,
    text: String,
    settings: Settings,
    lines: SettingsLines,
}

/// Where a key is set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SettingPlace {
    path: PathBuf,
    /// The key.
    pub key: &'static str,
    /// What sets it in the file; none where the default counts.
    pub origin: Option<SettingOrigin>,
}

/// A line that sets a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SettingOrigin {
    /// Its table.
    pub table: SettingTable,
    /// The line, counted from 1.
    pub line: usize,
    text: String,
}

/// A table of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum SettingTable {
    /// `[gateway]`
    Gateway,
    /// `[tunnel]`, for every tunnel.
    Tunnel,
    /// A `[[connection]]`, by the tunnels that it is about.
    Connection(ConnectionFilter),
}

impl fmt::Display for SettingTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gateway => f.write_str("[gateway]"),
            Self::Tunnel => f.write_str("[tunnel]"),
            Self::Connection(filter) => write!(f, "[[connection]] {filter}"),
        }
    }
}

/// `/etc/pluto-updown.toml:6  [[connection]] name = "road-*": allow = ["tcp/22"]`
impl fmt::Display for SettingPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = one_line(&self.path.display().to_string());
        match &self.origin {
            Some(SettingOrigin { table, line, text }) => write!(f, "{path}:{line}  {table}: {text}"),
            None => write!(f, "{path}  sets no {}: the default applies", self.key),
        }
    }
}

impl SettingsSource {
    /// Reads the file, as [`Settings::load`] does.
    pub(crate) fn load(config: Option<&Path>) -> Result<Self, SettingsError> {
        let path = config.unwrap_or(Path::new(DEFAULT_PATH)).to_owned();
        let text = Settings::read_text(config)?;
        let (settings, lines) = reader::read_with_lines(&text).map_err(|malformed| malformed.in_file(&path))?;
        Ok(Self {
            path,
            text,
            settings,
            lines,
        })
    }

    /// What it sets.
    #[must_use]
    pub(crate) fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Where a key of a tunnel is set: in the entry that applies, otherwise in `[tunnel]`; if it is
    /// uncertain which of several entries apply, in each.
    #[must_use]
    pub(crate) fn of_tunnel(&self, tunnel: &Tunnel, key: &'static str) -> Vec<SettingPlace> {
        let Applying { entry, doubtful } = self.settings.applying(tunnel);
        let numbers: Vec<_> = doubtful.into_iter().map(|(number, _)| number).collect();
        let certain = self.of_entry(entry.map(|(number, _)| number), key);
        let mut places = vec![certain];
        for place in numbers.into_iter().map(|number| self.of_entry(Some(number), key)) {
            if !places.contains(&place) {
                places.push(place);
            }
        }
        places
    }

    /// Where a key is set for connections of this name, of which no tunnel is up: by the first
    /// entry that names them.
    #[must_use]
    pub(crate) fn of_connection(&self, connection: &ConnectionName, key: &'static str) -> SettingPlace {
        let names = |filter: &ConnectionFilter| filter.name.as_ref().is_some_and(|name| name.fits_plutos(connection));
        let entry = self.settings.connections.iter().position(|entry| names(&entry.filter));
        self.of_entry(entry.map(|index| index + 1), key)
    }

    /// The entry that names two networks in `between`, local first.
    #[must_use]
    pub(crate) fn of_pair(&self, pair: &(Network, Network)) -> Option<SettingPlace> {
        let mut entries = (1..).zip(&self.settings.connections);
        let (number, _) = entries.find(|(_, entry)| entry.pairs().any(|other| other == *pair))?;
        Some(self.of_entry(Some(number), "when-down"))
    }

    /// Where a key of `[gateway]` is set.
    #[must_use]
    pub(crate) fn of_gateway(&self, key: &'static str) -> SettingPlace {
        self.setting_place(SettingTable::Gateway, &self.lines.gateway, key)
            .unwrap_or_else(|| self.default_place(key))
    }

    /// A key as an entry, counted from 1, sets it, or else `[tunnel]`.
    fn of_entry(&self, number: Option<usize>, key: &'static str) -> SettingPlace {
        let index = number.and_then(|number| number.checked_sub(1));
        let own = index.and_then(|index| {
            let filter = self.settings.connections.get(index)?.filter.clone();
            let lines = self.lines.connections.get(index)?;
            self.setting_place(SettingTable::Connection(filter), lines, key)
        });
        own.or_else(|| self.setting_place(SettingTable::Tunnel, &self.lines.tunnel, key))
            .unwrap_or_else(|| self.default_place(key))
    }

    fn setting_place(&self, table: SettingTable, lines: &TableLines, key: &'static str) -> Option<SettingPlace> {
        let line = *lines.keys.get(key)?;
        let text = self.text.lines().nth(line - 1).unwrap_or_default();
        Some(SettingPlace {
            path: self.path.clone(),
            key,
            origin: Some(SettingOrigin {
                table,
                line,
                text: one_line(text),
            }),
        })
    }

    fn default_place(&self, key: &'static str) -> SettingPlace {
        SettingPlace {
            path: self.path.clone(),
            key,
            origin: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn source(text: &str) -> (tempfile::TempDir, SettingsSource) {
        let folder = tempfile::TempDir::new().unwrap();
        let path = folder.path().join("s.toml");
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        let source = SettingsSource::load(Some(&path)).unwrap();
        (folder, source)
    }

    /// Without the folder.
    fn place_text(place: &SettingPlace) -> String {
        let text = place.to_string();
        text[text.find("s.toml").unwrap()..].to_owned()
    }

    const FILE: &str = "\
# mine
[gateway]
icmp = \"safe\"
only-ipsec = [
  \"eth1\",
]

[tunnel]
when-down = \"block\"
[[connection]]
name = \"road-*\"
user = \"anna\"
allow = [\"tcp/22\"]
[[connection]]
name = \"b\"
when-down = \"leave\"
";

    #[test]
    fn a_key_is_found_by_its_line_in_the_table_that_applies() {
        let (_folder, source) = source(FILE);
        assert_eq!(
            place_text(&source.of_gateway("icmp")),
            "s.toml:3  [gateway]: icmp = \"safe\""
        );
        assert_eq!(
            place_text(&source.of_gateway("only-ipsec")),
            "s.toml:4  [gateway]: only-ipsec = ["
        );
        assert_eq!(
            place_text(&source.of_gateway("esp")),
            "s.toml  sets no esp: the default applies"
        );
        let of =
            |name: &str, key| place_text(&source.of_connection(&ConnectionName::new(name.as_bytes()).unwrap(), key));
        assert_eq!(
            of("road-1", "allow"),
            "s.toml:13  [[connection]] name = \"road-*\", user = \"anna\": allow = [\"tcp/22\"]"
        );
        // What the entry does not set, [tunnel] does.
        assert_eq!(of("road-1", "when-down"), "s.toml:9  [tunnel]: when-down = \"block\"");
        assert_eq!(
            of("b", "when-down"),
            "s.toml:16  [[connection]] name = \"b\": when-down = \"leave\""
        );
        assert_eq!(of("c", "when-down"), "s.toml:9  [tunnel]: when-down = \"block\"");
        assert_eq!(of("c", "allow"), "s.toml  sets no allow: the default applies");
    }

    #[test]
    fn a_key_with_dots_and_a_table_on_one_line_have_their_lines_too() {
        let (_folder, source) = source("\ntunnel.allow = \"none\"\ngateway = { icmp = \"safe\" }\n");
        assert!(place_text(&source.of_gateway("icmp")).starts_with("s.toml:3  [gateway]"));
        let name = ConnectionName::new(b"x").unwrap();
        assert!(place_text(&source.of_connection(&name, "allow")).starts_with("s.toml:2  [tunnel]"));
    }
}
