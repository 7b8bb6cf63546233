//! The lines of `iptables-restore` input: the changes table by table, in order.

use std::fmt::Write as _;

use super::iptables_save::Counters;
use super::{Chain, ChainName, Rule, Table};

/// A rule, its chain, and its position there.
#[derive(Debug, Clone, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct PlacedRule {
    /// The chain that holds the rule.
    pub chain: Chain,
    /// Before or after the rules that are in the chain already.
    #[serde(rename = "place")]
    pub position: RulePosition,
    /// The rule.
    pub rule: Rule,
}

/// The end of a chain that a rule is added to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RulePosition {
    /// Before all rules of the chain.
    Head,
    /// After all rules of the chain.
    Tail,
}

/// One line of `iptables-restore` input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RestoreCommand {
    /// Creates a chain, or empties it where it exists (`:CHAIN - [0:0]`).
    NewChain(ChainName),
    /// Fails the whole restore unless the chain holds the rule (`-C`). Changes nothing.
    Check(Chain, Rule),
    /// Adds a rule before all rules of a chain (`-I`).
    Insert(Chain, Rule),
    /// Adds a rule to a chain of this program as the one of this number, counted from 1 (`-I CHAIN
    /// NUMBER`). iptables-nft reads the chain for it.
    InsertAt(ChainName, usize, Rule),
    /// Adds a rule after all rules of a chain (`-A`).
    Append(Chain, Rule),
    /// Appends a rule with what it has counted already. Restored without counters it begins at
    /// zero.
    AppendWithCounters(ChainName, Rule, Counters),
    /// Deletes one rule (`-D`). Fails if the chain does not hold it.
    Delete(Chain, Rule),
    /// Deletes a rule of another program by its text in the listing (`-D`).
    DeleteText(ChainName, String),
    /// Deletes all rules of a chain (`-F`).
    Flush(ChainName),
    /// Deletes a chain (`-X`). The chain must be empty and unreferenced.
    DeleteChain(ChainName),
}

impl RestoreCommand {
    /// The chain that this command creates or empties.
    #[must_use]
    pub(crate) fn new_chain(&self) -> Option<&ChainName> {
        match self {
            Self::NewChain(chain) => Some(chain),
            Self::Check(..)
            | Self::Insert(..)
            | Self::InsertAt(..)
            | Self::Append(..)
            | Self::AppendWithCounters(..)
            | Self::Delete(..)
            | Self::DeleteText(..)
            | Self::Flush(_)
            | Self::DeleteChain(_) => None,
        }
    }
}

impl From<PlacedRule> for RestoreCommand {
    fn from(PlacedRule { chain, position, rule }: PlacedRule) -> Self {
        match position {
            RulePosition::Head => Self::Insert(chain, rule),
            RulePosition::Tail => Self::Append(chain, rule),
        }
    }
}

/// How many chains a commit makes or deletes at most, where it need not do all at once.
///
/// iptables-nft keeps the names that a commit mentions in a sorted list, and walks through it for
/// each one that it reads (`nft-cache.c`, 1.8.9 and 1.8.11): to make 40 000 chains in one commit
/// took it 36 s where commits of 500 took 4.5, of 100 6.5 and of 2000 5.3.
pub(crate) const STAGE_CHAINS: usize = 500;

/// The changes to one table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Section {
    /// The table.
    pub table: Table,
    /// The commands. The kernel accepts all of them or none.
    pub commands: Vec<RestoreCommand>,
}

/// The input of `iptables-restore --noflush` for a change.
///
/// iptables-restore commits a section before it reads the next one, nft and legacy alike (measured
/// with 1.8.9: an error in the second section leaves the first one installed). So the order of the
/// sections decides which tables can be changed without the others.
#[must_use]
pub fn restore_text(sections: &[Section]) -> String {
    sections.iter().map(section_text).collect()
}

fn section_text(section: &Section) -> String {
    let mut text = format!("*{}\n", section.table);
    for command in &section.commands {
        // Writing into a String cannot fail.
        let _ = match command {
            RestoreCommand::NewChain(chain) => writeln!(text, ":{chain} - [0:0]"),
            RestoreCommand::Check(chain, rule) => writeln!(text, "-C {chain} {rule}"),
            RestoreCommand::Insert(chain, rule) => writeln!(text, "-I {chain} {rule}"),
            RestoreCommand::InsertAt(chain, number, rule) => writeln!(text, "-I {chain} {number} {rule}"),
            RestoreCommand::Append(chain, rule) => writeln!(text, "-A {chain} {rule}"),
            RestoreCommand::AppendWithCounters(chain, rule, Counters { packets, bytes }) => {
                writeln!(text, "[{packets}:{bytes}] -A {chain} {rule}")
            }
            RestoreCommand::Delete(chain, rule) => writeln!(text, "-D {chain} {rule}"),
            RestoreCommand::DeleteText(chain, rule) => writeln!(text, "-D {chain} {rule}"),
            RestoreCommand::Flush(chain) => writeln!(text, "-F {chain}"),
            RestoreCommand::DeleteChain(chain) => writeln!(text, "-X {chain}"),
        };
    }
    text.push_str("COMMIT\n");
    text
}
