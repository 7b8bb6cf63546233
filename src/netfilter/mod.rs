//! The firewall as data: tables, chains, rules, the commands that change them, and their text for
//! `iptables-restore`.
//!
//! Rules are values of closed enums, and rendering decides nothing. A listed rule is never parsed
//! back into a [`Rule`], because iptables rewrites what it is given. From a listing the program
//! takes its own chains, the jumps to them, and each rule as text with its counters
//! ([`IptablesSave`]). [`normalize()`] decides whether a listed rule is one that it would write.

mod chain;
pub mod iptables;
mod iptables_save;
mod normalize;
mod purge;
mod restore_text;
mod rule;
mod table;
mod target;

pub(crate) use chain::{AdministratorChain, Chain, PREFIX};
pub use chain::{BuiltIn, ChainName, LONGEST_CHAIN_NAME};
pub(crate) use chain::{called_first, short_hash};
pub use iptables_save::IptablesSave;
pub(crate) use iptables_save::{Counters, SavedRule, SavedTable};
pub use normalize::normalize;
pub(crate) use normalize::rule_words;
pub(crate) use purge::Purge;
pub use purge::{JumpOwner, UserRules, purge};
pub(crate) use restore_text::STAGE_CHAINS;
pub use restore_text::{PlacedRule, RestoreCommand, RulePosition, Section, restore_text};
pub use rule::{Comment, CtState, Direction, InterfaceMatch, Match, PolicyMatch, Rule};
pub use table::Table;
pub use target::{LogPrefix, NflogPrefix, NflogTarget, Target};

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::net::Family;

/// The implementation of iptables that holds a rule. Rules of one are invisible to the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Backend {
    /// `xtables-nft-multi`: the rules are part of nf_tables.
    Nft,
    /// `xtables-legacy-multi`: the rules are part of the kernel's x_tables.
    Legacy,
    /// An iptables whose name shows neither: a single binary, as before 1.8 or on small systems.
    Plain,
}

impl Backend {
    /// Every backend, in search order.
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

/// The tables of one address family in one backend. One run of `iptables-restore` makes all changes
/// of a call to them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Ruleset {
    /// The implementation that holds the tables.
    #[serde(rename = "variant")]
    pub backend: Backend,
    /// The address family of the packets.
    pub family: Family,
}

impl Ruleset {
    /// Every possible ruleset.
    pub(crate) fn all_rulesets() -> impl Iterator<Item = Self> {
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
