//! The tables that the program uses.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::chain::BuiltIn;

/// A table with chains of this program. `iptables-restore` commits each table on its own: all of it
/// or nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Table {
    /// Accepts and drops packets.
    Filter,
    /// Translates addresses. Only the first packet of a connection passes here; the others follow
    /// it.
    Nat,
    /// Changes other fields, here the MSS of TCP SYNs. Comes before the other tables at every hook.
    Mangle,
}

impl Table {
    /// Every table.
    pub const ALL: [Self; 3] = [Self::Filter, Self::Nat, Self::Mangle];

    /// The name in iptables.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Filter => "filter",
            Self::Nat => "nat",
            Self::Mangle => "mangle",
        }
    }

    /// Whether this is the name of a built-in chain of it.
    #[must_use]
    pub fn is_built_in(self, chain: &str) -> bool {
        self.built_in().iter().any(|built_in| built_in.name() == chain)
    }

    /// The built-in chains that hold a jump of this program, in the order of a listing.
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
