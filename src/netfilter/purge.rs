//! Removal of everything of this program from the tables, by their listing and not by any record.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use super::chain::{BuiltIn, ChainName};
use super::iptables_save::{IptablesSave, SavedRule, SavedTable};
use super::table::Table;

/// What to do with the administrator's rules that jump to chains of this program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UserRules {
    /// Keep them. The chains that they jump to stay too, empty, so that packets return from there.
    Keep,
    /// Delete them.
    Delete,
}

/// Who owns the unconditional jumps from built-in chains of the filter table to chains of this
/// program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JumpOwner {
    /// The program, as in the other tables.
    Program,
    /// The administrator, who placed them (`place = "own"`).
    User,
}

/// A plan that removes everything of this program.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Purge {
    /// Input for `iptables-restore --noflush`; empty if there is nothing to remove.
    pub text: String,
    /// Number of chains to delete.
    pub chains: usize,
    /// Number of the program's own jumps to delete.
    pub jumps: usize,
    /// The administrator's rules that jump to a chain of this program: table, chain, rule.
    pub user_rules: Vec<(Table, String, String)>,
}

/// Plans the removal.
#[must_use]
pub fn purge(saved: &IptablesSave, jumps: JumpOwner, others: UserRules) -> Purge {
    let mut purged = Purge::default();
    for (table, listed) in saved.tables() {
        let jumps = match table {
            Table::Filter => jumps,
            Table::Nat | Table::Mangle => JumpOwner::Program,
        };
        purge_table(&mut purged, table, listed, jumps, others);
    }
    purged
}

fn purge_table(purged: &mut Purge, table: Table, listed: &SavedTable, jumps: JumpOwner, others: UserRules) {
    let own_chains: BTreeSet<_> = listed.own_chains().collect();
    if own_chains.is_empty() {
        return;
    }
    let mut kept = BTreeSet::new();
    // Writing into a String cannot fail.
    let _ = writeln!(purged.text, "*{table}");
    for (chain, rule, target) in listed.jumps_to_own_chains() {
        let is_ours = jumps == JumpOwner::Program && is_own_jump(chain, rule, &target);
        if !is_ours {
            purged.user_rules.push((table, chain.to_owned(), rule.text.clone()));
        }
        if is_ours || others == UserRules::Delete {
            purged.jumps += usize::from(is_ours);
            let _ = writeln!(purged.text, "-D {chain} {}", rule.text);
        } else {
            kept.insert(target);
        }
    }
    // All are emptied before the first is deleted: they refer to one another.
    for chain in &own_chains {
        let _ = writeln!(purged.text, "-F {chain}");
    }
    for chain in own_chains.difference(&kept) {
        purged.chains += 1;
        let _ = writeln!(purged.text, "-X {chain}");
    }
    purged.text.push_str("COMMIT\n");
}

/// Whether a rule is a jump that this program installed in a built-in chain: one without any match.
fn is_own_jump(chain: &str, rule: &SavedRule, target: &ChainName) -> bool {
    BuiltIn::ALL.into_iter().any(|built_in| built_in.name() == chain) && rule.is_plain_jump(target)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAVE: &str = "*nat
:POSTROUTING ACCEPT [0:0]
COMMIT
*filter
:INPUT DROP [0:0]
:ADMIN - [0:0]
:PLUTO-INPUT - [0:0]
:PLUTO-I - [0:0]
:PLUTO-left-behind - [0:0]
[0:0] -A INPUT -j PLUTO-INPUT
[0:0] -A INPUT -j PLUTO-INPUT
[0:0] -A ADMIN -i eth0 -j PLUTO-INPUT
[0:0] -A PLUTO-INPUT -j PLUTO-I
COMMIT
";

    #[test]
    fn every_chain_of_ours_goes_known_or_not_and_a_chain_that_is_led_to_stays_empty() {
        let purged = purge(&IptablesSave::parse(SAVE), JumpOwner::Program, UserRules::Keep);
        let text = "*filter
-D INPUT -j PLUTO-INPUT
-D INPUT -j PLUTO-INPUT
-F PLUTO-I
-F PLUTO-INPUT
-F PLUTO-left-behind
-X PLUTO-I
-X PLUTO-left-behind
COMMIT
";
        assert_eq!(purged.text, text);
        assert_eq!((purged.chains, purged.jumps), (2, 2));
        let other = (Table::Filter, "ADMIN".to_owned(), "-i eth0 -j PLUTO-INPUT".to_owned());
        assert_eq!(purged.user_rules, [other]);
    }

    #[test]
    fn an_administrators_rule_goes_where_that_is_asked_for() {
        let purged = purge(&IptablesSave::parse(SAVE), JumpOwner::Program, UserRules::Delete);
        assert!(
            purged.text.contains("-D ADMIN -i eth0 -j PLUTO-INPUT\n"),
            "{}",
            purged.text
        );
        assert!(purged.text.contains("-X PLUTO-INPUT\n"), "{}", purged.text);
        assert_eq!((purged.chains, purged.user_rules.len()), (3, 1));
    }

    #[test]
    fn tables_without_anything_of_ours_are_not_touched() {
        let saved = "*filter\n:INPUT ACCEPT [0:0]\n-A INPUT -j PLUTOCRATS\nCOMMIT\n";
        assert_eq!(
            purge(&IptablesSave::parse(saved), JumpOwner::Program, UserRules::Delete),
            Purge::default()
        );
    }

    #[test]
    fn a_jump_that_the_administrator_has_put_in_is_his() {
        let purged = purge(&IptablesSave::parse(SAVE), JumpOwner::User, UserRules::Keep);
        assert!(!purged.text.contains("-D "), "{}", purged.text);
        assert_eq!((purged.jumps, purged.user_rules.len()), (0, 3));
    }
}
