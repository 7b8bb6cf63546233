//! The lines of a restore: what changes, table by table, in order.

use std::fmt::Write as _;

use super::chain::{Chain, ChainName};
use super::rule::Rule;
use super::saved::Counters;
use super::table::Table;

/// A rule and where it is to stand.
#[derive(Debug, Clone, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct Placed {
    /// The chain that holds it.
    pub chain: Chain,
    /// Before or behind the rules that are there already.
    pub place: Place,
    /// The rule.
    pub rule: Rule,
}

/// Where in a chain a rule goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Place {
    /// Before all that is there.
    Head,
    /// Behind all that is there.
    Tail,
}

/// One line of a restore.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Makes a chain, or empties it where it exists.
    Declare(ChainName),
    /// Fails the whole restore unless the rule stands. Writes nothing.
    Check(Chain, Rule),
    /// Puts a rule in.
    Put(Placed),
    /// Puts a rule in that has counted already, behind all that is in the chain. Restored without counters it begins at zero.
    Resume(ChainName, Rule, Counters),
    /// Takes one rule out, which must stand.
    Delete(Chain, Rule),
    /// Takes out a rule that is not ours, by what it is listed as.
    Strike(ChainName, String),
    /// Takes all rules out of a chain.
    Flush(ChainName),
    /// Takes away a chain, which must be empty and which nothing may name.
    Remove(ChainName),
}

impl Command {
    /// The chain that it makes, or empties where it exists.
    #[must_use]
    pub fn declared(&self) -> Option<&ChainName> {
        match self {
            Self::Declare(chain) => Some(chain),
            Self::Check(..)
            | Self::Put(_)
            | Self::Resume(..)
            | Self::Delete(..)
            | Self::Strike(..)
            | Self::Flush(_)
            | Self::Remove(_) => None,
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
            Command::Declare(chain) => writeln!(text, ":{chain} - [0:0]"),
            Command::Check(chain, rule) => writeln!(text, "-C {chain} {rule}"),
            Command::Put(Placed {
                chain,
                place: Place::Head,
                rule,
            }) => writeln!(text, "-I {chain} {rule}"),
            Command::Put(Placed {
                chain,
                place: Place::Tail,
                rule,
            }) => writeln!(text, "-A {chain} {rule}"),
            Command::Resume(chain, rule, Counters { packets, bytes }) => {
                writeln!(text, "[{packets}:{bytes}] -A {chain} {rule}")
            }
            Command::Delete(chain, rule) => writeln!(text, "-D {chain} {rule}"),
            Command::Strike(chain, rule) => writeln!(text, "-D {chain} {rule}"),
            Command::Flush(chain) => writeln!(text, "-F {chain}"),
            Command::Remove(chain) => writeln!(text, "-X {chain}"),
        };
    }
    text.push_str("COMMIT\n");
    text
}
