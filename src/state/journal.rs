//! The journal of a change in progress.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::installed::Installed;
use crate::firewall::TunnelId;
use crate::netfilter::{BuiltIn, Ruleset, Table};

/// The content of the file `pending`: the change that a call is about to make, and what the next
/// call does with it if this one dies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Journal {
    /// The format of this file, [`super::FORMAT`].
    pub format: u32,
    /// The ruleset that changes.
    #[serde(rename = "rulebook")]
    pub ruleset: Ruleset,
    /// The tables that change in it.
    #[serde(default = "filter_only", skip_serializing_if = "is_filter_only")]
    pub tables: BTreeSet<Table>,
    /// The records that the change removes.
    #[serde(rename = "gone")]
    pub removed: Vec<TunnelId>,
    /// The records that the change adds. Each one's content is in `tunnels/ID.new`.
    #[serde(rename = "come")]
    pub added: Vec<TunnelId>,
    /// What applies to all rules of the ruleset after the change, if that changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub installed: Option<Installed>,
    /// At a move to `place = "own"`: how many jumps of the administrator's each built-in chain has.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub user_jumps: BTreeMap<BuiltIn, usize>,
    /// What the next call does with the change.
    #[serde(rename = "settle")]
    pub recovery: Recovery,
}

fn filter_only() -> BTreeSet<Table> {
    BTreeSet::from([Table::Filter])
}

fn is_filter_only(tables: &BTreeSet<Table>) -> bool {
    *tables == filter_only()
}

/// What the next call does with a change whose call died before it was complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Recovery {
    /// Complete it. This holds for every `down`, because the tunnel is down in any case; and for
    /// strongSwan's `up`, because charon ignores its hook's exit code and will call `down` later.
    #[serde(rename = "complete")]
    RollForward,
    /// Roll it back. This holds for Pluto's `up`: to Pluto, a hook that dies has refused the
    /// tunnel, and no `down` follows.
    #[serde(rename = "abandon")]
    RollBack,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_that_names_no_table_was_one_of_the_filter_table() {
        let old = r#"{"format":1,"rulebook":{"variant":"nft","family":"ipv4"},"gone":[],"come":["net-abcdefgh"],"settle":"abandon"}"#;
        let journal: Journal = serde_json::from_str(old).unwrap();
        assert_eq!(journal.tables, filter_only());
        assert_eq!(serde_json::to_string(&journal).unwrap(), old);
        let both = Journal {
            tables: BTreeSet::from([Table::Filter, Table::Nat]),
            ..journal
        };
        let text = serde_json::to_string(&both).unwrap();
        assert_eq!(serde_json::from_str::<Journal>(&text).unwrap(), both);
    }
}
