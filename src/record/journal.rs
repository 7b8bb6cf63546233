//! A change under way.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::store::Installed;
use crate::netfilter::{BuiltIn, Ruleset, Table};
use crate::plan::TunnelId;

/// What the file `journal` says: which change a call was about to make, and what is to become of it
/// if that call dies.
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
    /// The tunnels that go.
    #[serde(rename = "gone")]
    pub removed: Vec<TunnelId>,
    /// The tunnels that come; the record of each stands beside as `ID.new`.
    #[serde(rename = "come")]
    pub added: Vec<TunnelId>,
    /// What holds for all rules of the ruleset from then on, if that changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub installed: Option<Installed>,
    /// Where our jumps make way for the administrator's: how many of those each built-in chain has.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub user_jumps: BTreeMap<BuiltIn, usize>,
    /// What the next call makes of it.
    #[serde(rename = "settle")]
    pub recovery: Recovery,
}

fn filter_only() -> BTreeSet<Table> {
    BTreeSet::from([Table::Filter])
}

fn is_filter_only(tables: &BTreeSet<Table>) -> bool {
    *tables == filter_only()
}

/// What becomes of a change whose call died on the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Recovery {
    /// It is made. So it is with every `down`, because the tunnel is gone in any case; and with
    /// strongSwan's `up`, because charon does not care how its hook ended and will call `down` for
    /// the tunnel one day.
    #[serde(rename = "complete")]
    RollForward,
    /// It is not made. So it is with Pluto's `up`: a hook that dies has refused the tunnel, and
    /// there will be no `down`.
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
