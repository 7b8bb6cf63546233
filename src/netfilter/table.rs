//! The tables.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::chain::BuiltIn;

/// A table that we have something in. `iptables-restore` commits each by itself: all of it, or nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Table {
    /// What passes.
    Filter,
    /// What becomes of the addresses. Sees the first packet of a connection only; the others follow it.
    Nat,
    /// What is changed in packets besides. Comes before the others on every way.
    Mangle,
}

impl Table {
    /// Every one.
    pub const ALL: [Self; 3] = [Self::Filter, Self::Nat, Self::Mangle];

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Filter => "filter",
            Self::Nat => "nat",
            Self::Mangle => "mangle",
        }
    }

    /// Those of its built-in chains that hold a jump of ours, in the order of a listing.
    #[must_use]
    pub fn built_in(self) -> &'static [BuiltIn] {
        match self {
            Self::Filter => &[BuiltIn::Input, BuiltIn::Forward, BuiltIn::Output],
            Self::Nat | Self::Mangle => &[BuiltIn::PreRouting, BuiltIn::PostRouting],
        }
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
