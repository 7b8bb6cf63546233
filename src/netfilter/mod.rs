//! The firewall as data: tables, chains, rules, the commands that change them, and their text for `iptables-restore`.
//!
//! Rules are values of closed enums; rendering them decides nothing, and nothing is ever read back as a rule, because iptables
//! rewrites what it is given. A listing is read for two things only: which chains are ours, and where our jumps stand.

mod chain;
mod command;
mod listing;
mod rule;
mod saved;
mod spelling;
mod sweep;
mod table;
mod verdict;

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::selector::Family;

pub use chain::{AdministratorChain, BuiltIn, Chain, ChainName, LONGEST_CHAIN_NAME, PREFIX};
pub use command::{Command, Place, Placed, Section, restore_text};
pub use listing::Listing;
pub use rule::{Comment, Direction, InterfaceMatch, Match, PolicyMatch, Rule, State};
pub use saved::{Counters, Saved, SavedRule, SavedTable};
pub use spelling::spelling;
pub use sweep::{Jumps, Others, Sweep, sweep};
pub use table::Table;
pub use verdict::{KernelLogPrefix, LogPrefix, LogTarget, Verdict};

/// Which implementation of iptables holds a rule: rules of one are invisible to the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Variant {
    /// `xtables-nft-multi`: rules live in nf_tables.
    Nft,
    /// `xtables-legacy-multi`: rules live in the kernel's old xtables.
    Legacy,
    /// An iptables that is neither by its name (a single binary, as before 1.8 or on small systems).
    Plain,
}

impl Variant {
    /// Every variant, in the order in which they are searched.
    pub const ALL: [Self; 3] = [Self::Nft, Self::Legacy, Self::Plain];
}

impl fmt::Display for Variant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Nft => "nft",
            Self::Legacy => "legacy",
            Self::Plain => "plain",
        })
    }
}

/// The tables of one family in one variant. All changes of a call to them are one run of `iptables-restore`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Rulebook {
    /// The implementation that keeps it.
    pub variant: Variant,
    /// The family of its packets.
    pub family: Family,
}

impl Rulebook {
    /// Every rulebook there can be.
    pub fn all() -> impl Iterator<Item = Self> {
        Variant::ALL
            .into_iter()
            .flat_map(|variant| Family::ALL.map(|family| Self { variant, family }))
    }
}

impl fmt::Display for Rulebook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.variant, self.family)
    }
}
