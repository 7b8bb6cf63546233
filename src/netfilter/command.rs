//! The lines of a restore: what changes, table by table, in order.

use std::fmt::Write as _;

use super::chain::{Chain, ChainName};
use super::iptables_save::Counters;
use super::rule::Rule;
use super::table::Table;

/// A rule and where it is to stand.
#[derive(Debug, Clone, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct PlacedRule {
    /// The chain that holds it.
    pub chain: Chain,
    /// Before or behind the rules that are there already.
    #[serde(rename = "place")]
    pub position: RulePosition,
    /// The rule.
    pub rule: Rule,
}

/// Where in a chain a rule goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RulePosition {
    /// Before all that is there.
    Head,
    /// Behind all that is there.
    Tail,
}

/// One line of a restore.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Makes a chain, or empties it where it exists.
    NewChain(ChainName),
    /// Fails the whole restore unless the rule stands. Writes nothing.
    Check(Chain, Rule),
    /// Adds a rule before all rules of a chain (`-I`).
    Insert(Chain, Rule),
    /// Adds a rule after all rules of a chain (`-A`).
    Append(Chain, Rule),
    /// Appends a rule with what it has counted already. Restored without counters it begins at zero.
    AppendWithCounters(ChainName, Rule, Counters),
    /// Takes one rule out, which must stand.
    Delete(Chain, Rule),
    /// Takes out a rule that is not ours, by what it is listed as.
    DeleteText(ChainName, String),
    /// Takes all rules out of a chain.
    Flush(ChainName),
    /// Takes away a chain, which must be empty and which nothing may name.
    DeleteChain(ChainName),
}

impl Command {
    /// The chain that it makes, or empties where it exists.
    #[must_use]
    pub fn new_chain(&self) -> Option<&ChainName> {
        match self {
            Self::NewChain(chain) => Some(chain),
            Self::Check(..)
            | Self::Insert(..)
            | Self::Append(..)
            | Self::AppendWithCounters(..)
            | Self::Delete(..)
            | Self::DeleteText(..)
            | Self::Flush(_)
            | Self::DeleteChain(_) => None,
        }
    }
}

impl From<PlacedRule> for Command {
    fn from(PlacedRule { chain, position, rule }: PlacedRule) -> Self {
        match position {
            RulePosition::Head => Self::Insert(chain, rule),
            RulePosition::Tail => Self::Append(chain, rule),
        }
    }
}

/// What changes in one table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Section {
    /// The table.
    pub table: Table,
    /// The commands. The kernel takes all of them or none.
    pub commands: Vec<Command>,
}

/// The text of a change, for `iptables-restore --noflush`.
///
/// It commits a section before it reads the next one, nft and legacy alike (measured with 1.8.9: whatever is wrong in a second section, the
/// first one stands). So the order of the sections tells what can come to stand without the rest.
#[must_use]
pub fn restore_text(sections: &[Section]) -> String {
    sections.iter().map(section_text).collect()
}

fn section_text(section: &Section) -> String {
    let mut text = format!("*{}\n", section.table);
    for command in &section.commands {
        // Writing into a String cannot fail.
        let _ = match command {
            Command::NewChain(chain) => writeln!(text, ":{chain} - [0:0]"),
            Command::Check(chain, rule) => writeln!(text, "-C {chain} {rule}"),
            Command::Insert(chain, rule) => writeln!(text, "-I {chain} {rule}"),
            Command::Append(chain, rule) => writeln!(text, "-A {chain} {rule}"),
            Command::AppendWithCounters(chain, rule, Counters { packets, bytes }) => {
                writeln!(text, "[{packets}:{bytes}] -A {chain} {rule}")
            }
            Command::Delete(chain, rule) => writeln!(text, "-D {chain} {rule}"),
            Command::DeleteText(chain, rule) => writeln!(text, "-D {chain} {rule}"),
            Command::Flush(chain) => writeln!(text, "-F {chain}"),
            Command::DeleteChain(chain) => writeln!(text, "-X {chain}"),
        };
    }
    text.push_str("COMMIT\n");
    text
}
