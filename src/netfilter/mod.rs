//! The firewall as data: tables, chains, rules, the commands that change them, and their text for `iptables-restore`.
//!
//! Rules are values of closed enums, and rendering them decides nothing. No text is parsed back into a rule, because iptables rewrites
//! what it is given. A listing by `iptables-save` stays text: it gives the chains, the jumps to ours, the counters, and by
//! [`normalize`] whether a rule is the one that we would write.

mod chain;
mod command;
mod iptables_save;
mod listing;
mod normalize;
mod purge;
mod rule;
mod table;
mod target;

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::selector::Family;

pub use chain::{AdministratorChain, BuiltIn, Chain, ChainName, LONGEST_CHAIN_NAME, PREFIX};
pub use command::{Command, PlacedRule, RulePosition, Section, restore_text};
pub use iptables_save::{Counters, IptablesSave, SavedRule, SavedTable};
pub use listing::Listing;
pub use normalize::normalize;
pub use purge::{JumpOwner, Purge, UserRules, purge};
pub use rule::{Comment, CtState, Direction, InterfaceMatch, Match, PolicyMatch, Rule};
pub use table::Table;
pub use target::{LogPrefix, NflogPrefix, NflogTarget, Target};

/// Which implementation of iptables holds a rule: rules of one are invisible to the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Backend {
    /// `xtables-nft-multi`: rules live in nf_tables.
    Nft,
    /// `xtables-legacy-multi`: rules live in the kernel's old xtables.
    Legacy,
    /// An iptables that is neither by its name (a single binary, as before 1.8 or on small systems).
    Plain,
}

impl Backend {
    /// Every backend, in the order in which they are searched.
    pub const ALL: [Self; 3] = [Self::Nft, Self::Legacy, Self::Plain];
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Nft => "nft",
            Self::Legacy => "legacy",
            Self::Plain => "plain",
        })
    }
}

/// The tables of one family in one backend. All changes of a call to them are one run of `iptables-restore`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Ruleset {
    /// The implementation that keeps it.
    #[serde(rename = "variant")]
    pub backend: Backend,
    /// The family of its packets.
    pub family: Family,
}

impl Ruleset {
    /// Every ruleset there can be.
    pub fn all() -> impl Iterator<Item = Self> {
        Backend::ALL
            .into_iter()
            .flat_map(|backend| Family::ALL.map(|family| Self { backend, family }))
    }
}

impl fmt::Display for Ruleset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.backend, self.family)
    }
}
