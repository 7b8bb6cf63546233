//! What applies to all rules of a ruleset: the position of the jumps, the mark bit, the version of
//! the layout.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::error::RecordError;
use super::file;
use super::store::{Store, absent_is_none};
use super::tunnel::FORMAT;
use crate::firewall::JumpConfig;
use crate::net::{Expected, MarkBit};
use crate::netfilter::Ruleset;
use crate::settings::JumpPlace;

/// What applies to all rules of a ruleset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Installed {
    /// The position of the jumps in the built-in chains.
    pub place: JumpPlace,
    /// The mark bit that says: the inbound tunnel allows the packet.
    #[serde(default)]
    pub mark: MarkBit,
    /// The version of the chain layout.
    #[serde(default, rename = "tunnel_rules", alias = "layout")]
    pub layout: LayoutVersion,
}

/// The version of the layout of a ruleset's chains.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub enum LayoutVersion {
    /// An inbound tunnel's chain jumps to those of outbound tunnels (formats 1 and 2 of records).
    #[default]
    One,
    /// The consent of the inbound tunnel is a bit of the packet's mark.
    Two,
    /// The order of tunnels does not depend on which one came up first.
    Three,
    /// Packets into a tunnel that allows nothing are dropped unless an inbound tunnel has allowed
    /// them.
    Four,
}

impl LayoutVersion {
    /// The layout that this version of the program installs.
    pub(crate) const CURRENT: Self = Self::Four;
}

impl TryFrom<u32> for LayoutVersion {
    type Error = Expected;

    fn try_from(number: u32) -> Result<Self, Expected> {
        match number {
            1 => Ok(Self::One),
            2 => Ok(Self::Two),
            3 => Ok(Self::Three),
            4 => Ok(Self::Four),
            _ => Err(Expected("a version of the rule layout, 1 to 4")),
        }
    }
}

impl From<LayoutVersion> for u32 {
    fn from(version: LayoutVersion) -> Self {
        match version {
            LayoutVersion::One => 1,
            LayoutVersion::Two => 2,
            LayoutVersion::Three => 3,
            LayoutVersion::Four => 4,
        }
    }
}

impl Installed {
    /// The jumps' position and the mark bit, as the plan needs them.
    #[must_use]
    pub fn jump_config(self, ruleset: Ruleset) -> JumpConfig {
        JumpConfig {
            family: ruleset.family,
            place: self.place,
            mark: self.mark,
        }
    }

    /// Whether an older version of this program installed the rules, in another layout.
    #[must_use]
    pub(crate) fn is_older(self) -> bool {
        self.layout < LayoutVersion::CURRENT
    }

    fn before_notes() -> Self {
        Self {
            place: JumpPlace::First,
            mark: MarkBit::default(),
            layout: LayoutVersion::One,
        }
    }
}

/// The content of the file `place`. A missing field has the value that was fixed before the field
/// existed.
#[derive(Debug, Serialize, Deserialize)]
struct InstalledNote {
    format: u32,
    #[serde(flatten)]
    installed: Installed,
}

impl Store {
    /// What applies to all rules of a ruleset, as it was when they were installed.
    ///
    /// # Errors
    /// If the file `place` cannot be read.
    pub fn installed(&self, ruleset: Ruleset) -> Result<Installed, RecordError> {
        if let Some(known) = self.cache().installed.get(&ruleset) {
            return Ok(*known);
        }
        let note: Option<InstalledNote> = absent_is_none(file::read_json(&self.place_file(ruleset)))?;
        // Versions before the second layout wrote the file only if the jumps were not in first
        // position.
        let installed = note.map_or_else(Installed::before_notes, |note| note.installed);
        if self.lock.is_some() {
            self.cache().installed.insert(ruleset, installed);
        }
        Ok(installed)
    }

    /// Records what applies to all rules of a ruleset from now on.
    pub(crate) fn set_installed(&self, ruleset: Ruleset, installed: Installed) -> Result<(), RecordError> {
        self.invalidate();
        let new = self.ruleset_folder(ruleset).join("place.new");
        file::make_folder(&self.ruleset_folder(ruleset))?;
        file::write_json(
            &new,
            &InstalledNote {
                format: FORMAT,
                installed,
            },
        )?;
        file::rename(&new, &self.place_file(ruleset))
    }

    /// Whether rules in the layout of an older version are installed, which have to be written
    /// again.
    pub(crate) fn has_older_layout(&self) -> Result<bool, RecordError> {
        for ruleset in Ruleset::all_rulesets() {
            if self.has_entries(ruleset)? && self.installed(ruleset)?.is_older() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn place_file(&self, ruleset: Ruleset) -> PathBuf {
        self.ruleset_folder(ruleset).join("place")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_file_names_its_layout_as_any_version_did() {
        for key in ["tunnel_rules", "layout"] {
            let text = format!("{{\"format\": 3, \"place\": \"last\", \"{key}\": 3}}");
            let note: InstalledNote = serde_json::from_str(&text).unwrap();
            assert_eq!(note.installed.layout, LayoutVersion::Three, "{text}");
            let written = serde_json::to_string(&note).unwrap();
            assert!(written.contains("\"tunnel_rules\":3"), "{written}");
        }
        let first: InstalledNote = serde_json::from_str("{\"format\": 3, \"place\": \"last\"}").unwrap();
        assert_eq!(first.installed.layout, LayoutVersion::One);
    }
}
