//! Removal of everything of this program from the tables, by their listing and not by any record.
//!
//! First nothing jumps to a chain of this program any more, table by table; then the chains go,
//! each before those that its rules jump to. So if a removal is killed, no packet meets a half of
//! the rules: they apply as a whole or not at all. The next removal finds what is left.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use super::iptables_save::{IptablesSave, SavedRule, SavedTable};
use super::restore_text::STAGE_CHAINS;
use super::{Backend, BuiltIn, ChainName, Table, called_first};

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
    /// The commits, in this order; none if there is nothing to remove.
    pub stages: Vec<PurgeStage>,
    /// Number of the program's own jumps to delete.
    pub jumps: usize,
    /// The administrator's rules that jump to a chain of this program: table, chain, rule.
    pub user_rules: Vec<(Table, String, String)>,
}

/// One commit of a removal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PurgeStage {
    /// The table.
    pub table: Table,
    /// Rules to delete in chains that are not of this program: chain and rule. They jump to chains
    /// that are.
    pub jumps: Vec<(String, String)>,
    /// Chains to empty.
    pub emptied: Vec<ChainName>,
    /// Those of them to delete. All are emptied before the first is deleted: their rules name them.
    pub deleted: Vec<ChainName>,
}

impl Purge {
    /// Input for `iptables-restore --noflush`.
    #[must_use]
    pub fn restore_text(&self) -> String {
        self.stages.iter().map(PurgeStage::restore_text).collect()
    }

    /// Number of chains to delete.
    #[must_use]
    pub fn chains(&self) -> usize {
        self.stages.iter().map(|stage| stage.deleted.len()).sum()
    }
}

impl PurgeStage {
    fn restore_text(&self) -> String {
        let mut text = format!("*{}\n", self.table);
        // Writing into a String cannot fail.
        for (chain, rule) in &self.jumps {
            let _ = writeln!(text, "-D {chain} {rule}");
        }
        for chain in &self.emptied {
            let _ = writeln!(text, "-F {chain}");
        }
        for chain in &self.deleted {
            let _ = writeln!(text, "-X {chain}");
        }
        text.push_str("COMMIT\n");
        text
    }
}

/// Plans the removal.
#[must_use]
pub fn purge(saved: &IptablesSave, backend: Backend, owner: JumpOwner, others: UserRules) -> Purge {
    let mut purged = Purge::default();
    let mut later = Vec::new();
    // The filter table first, as at every removal: what it accepts needs the other tables' rules.
    for (table, listed) in saved.tables() {
        let owner = match table {
            Table::Filter => owner,
            Table::Nat | Table::Mangle => JumpOwner::Program,
        };
        later.extend(purge_table(&mut purged, table, listed, backend, owner, others));
    }
    purged.stages.append(&mut later);
    purged
}

/// Adds what makes the chains of a table unreachable, and returns what removes them then. If they
/// are not many, the first stage does both. So it is with iptables-legacy, which writes the whole
/// table at each commit.
fn purge_table(
    purged: &mut Purge,
    table: Table,
    listed: &SavedTable,
    backend: Backend,
    owner: JumpOwner,
    others: UserRules,
) -> Vec<PurgeStage> {
    let calls = own_calls(listed);
    let mut kept = BTreeSet::new();
    let mut jumps = Vec::new();
    for (chain, rule, target) in listed.jumps_to_own_chains() {
        let is_ours = owner == JumpOwner::Program && is_own_jump(chain, rule, &target);
        if !is_ours {
            purged.user_rules.push((table, chain.to_owned(), rule.text.clone()));
        }
        if is_ours || others == UserRules::Delete {
            purged.jumps += usize::from(is_ours);
            jumps.push((chain.to_owned(), rule.text.clone()));
        } else {
            kept.insert(target);
        }
    }
    let mut chains = called_first(calls.keys(), |chain| calls.get(chain).into_iter().flatten());
    chains.reverse();
    let stage = |chains: &[&ChainName]| {
        let emptied: Vec<_> = chains.iter().copied().cloned().collect();
        let deleted = emptied.iter().filter(|chain| !kept.contains(*chain)).cloned().collect();
        PurgeStage {
            table,
            jumps: Vec::new(),
            emptied,
            deleted,
        }
    };
    let is_one_commit = backend != Backend::Nft || chains.len() <= STAGE_CHAINS;
    let first = match is_one_commit {
        true => PurgeStage {
            jumps,
            ..stage(&chains)
        },
        // A chain that an administrator's rule still jumps to lets packets return from there.
        false => PurgeStage {
            table,
            jumps,
            emptied: kept.iter().cloned().collect(),
            deleted: Vec::new(),
        },
    };
    if !(first.jumps.is_empty() && first.emptied.is_empty()) {
        purged.stages.push(first);
    }
    match is_one_commit {
        true => Vec::new(),
        false => chains.chunks(STAGE_CHAINS).map(stage).collect(),
    }
}

/// The chains of this program in a table, each with those of them that its rules jump to.
fn own_calls(listed: &SavedTable) -> BTreeMap<ChainName, Vec<ChainName>> {
    let called = |chain: &ChainName| {
        let targets = listed.rules(chain.as_str()).iter().filter_map(SavedRule::jump_target);
        let existing = targets.filter(|target| listed.has_chain(target));
        existing.filter_map(|target| target.parse().ok()).collect()
    };
    listed
        .own_chains()
        .map(|chain| (chain.clone(), called(&chain)))
        .collect()
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
        let purged = purge(
            &IptablesSave::parse(SAVE),
            Backend::Nft,
            JumpOwner::Program,
            UserRules::Keep,
        );
        let text = "*filter
-D INPUT -j PLUTO-INPUT
-D INPUT -j PLUTO-INPUT
-F PLUTO-left-behind
-F PLUTO-INPUT
-F PLUTO-I
-X PLUTO-left-behind
-X PLUTO-I
COMMIT
";
        assert_eq!(purged.restore_text(), text);
        assert_eq!((purged.chains(), purged.jumps), (2, 2));
        let other = (Table::Filter, "ADMIN".to_owned(), "-i eth0 -j PLUTO-INPUT".to_owned());
        assert_eq!(purged.user_rules, [other]);
    }

    /// So many chains below PLUTO-FORWARD, and one below each of them that sorts first.
    fn many(count: usize) -> IptablesSave {
        let mut text = "*nat\n:POSTROUTING ACCEPT [0:0]\n:PLUTO-POSTROUTING - [0:0]\n\
                        -A POSTROUTING -j PLUTO-POSTROUTING\nCOMMIT\n*filter\n:FORWARD ACCEPT [0:0]\n"
            .to_owned();
        text.push_str(":PLUTO-FORWARD - [0:0]\n-A FORWARD -j PLUTO-FORWARD\n-A ADMIN -j PLUTO-z1\n");
        for number in 0..count {
            text.push_str(&format!(
                ":PLUTO-z{number} - [0:0]\n:PLUTO-a{number} - [0:0]\n\
                 -A PLUTO-FORWARD -j PLUTO-z{number}\n-A PLUTO-z{number} -j PLUTO-a{number}\n"
            ));
        }
        IptablesSave::parse(&format!("{text}COMMIT\n"))
    }

    #[test]
    fn before_the_first_of_many_chains_is_deleted_no_packet_meets_any() {
        let purged = purge(&many(STAGE_CHAINS), Backend::Nft, JumpOwner::Program, UserRules::Keep);
        let (unhooked, later): (Vec<_>, Vec<_>) = purged.stages.iter().partition(|stage| !stage.jumps.is_empty());
        assert_eq!(unhooked, purged.stages.iter().take(2).collect::<Vec<_>>());
        assert_eq!(unhooked[0].table, Table::Filter);
        // The administrator's rule still jumps to it.
        assert_eq!(unhooked[0].emptied, ["PLUTO-z1".parse().unwrap()]);
        assert_eq!(unhooked[0].deleted, []);
        assert!(later.iter().all(|stage| stage.emptied.len() <= STAGE_CHAINS));
        assert_eq!(later.len(), 3);
        assert_eq!(purged.chains(), 2 * STAGE_CHAINS + 1);
    }

    #[test]
    fn each_of_many_chains_is_deleted_when_no_rule_jumps_to_it_any_more() {
        let saved = many(STAGE_CHAINS);
        let purged = purge(&saved, Backend::Nft, JumpOwner::Program, UserRules::Delete);
        let calls = own_calls(saved.table(Table::Filter).unwrap());
        let mut emptied = BTreeSet::new();
        for stage in purged.stages.iter().filter(|stage| stage.table == Table::Filter) {
            emptied.extend(&stage.emptied);
            for chain in &stage.deleted {
                let mut callers = calls.iter().filter(|(_, called)| called.contains(chain));
                assert!(callers.all(|(caller, _)| emptied.contains(caller)), "{chain}");
            }
        }
        assert_eq!(emptied.len(), calls.len());
    }

    #[test]
    fn iptables_legacy_does_all_of_a_table_at_once() {
        let purged = purge(
            &many(STAGE_CHAINS),
            Backend::Legacy,
            JumpOwner::Program,
            UserRules::Keep,
        );
        assert_eq!(purged.stages.len(), 2);
    }

    #[test]
    fn a_removal_that_was_killed_goes_on_where_it_stopped() {
        let unhooked =
            "*filter\n:INPUT ACCEPT [0:0]\n:PLUTO-I - [0:0]\n:PLUTO-a - [0:0]\n-A PLUTO-I -j PLUTO-a\nCOMMIT\n";
        let purged = purge(
            &IptablesSave::parse(unhooked),
            Backend::Nft,
            JumpOwner::Program,
            UserRules::Keep,
        );
        assert_eq!(
            purged.restore_text(),
            "*filter\n-F PLUTO-I\n-F PLUTO-a\n-X PLUTO-I\n-X PLUTO-a\nCOMMIT\n"
        );
        assert_eq!(purged.jumps, 0);
    }

    #[test]
    fn an_administrators_rule_goes_where_that_is_asked_for() {
        let purged = purge(
            &IptablesSave::parse(SAVE),
            Backend::Nft,
            JumpOwner::Program,
            UserRules::Delete,
        );
        assert!(
            purged.restore_text().contains("-D ADMIN -i eth0 -j PLUTO-INPUT\n"),
            "{}",
            purged.restore_text()
        );
        assert!(
            purged.restore_text().contains("-X PLUTO-INPUT\n"),
            "{}",
            purged.restore_text()
        );
        assert_eq!((purged.chains(), purged.user_rules.len()), (3, 1));
    }

    #[test]
    fn tables_without_anything_of_ours_are_not_touched() {
        let saved = "*filter\n:INPUT ACCEPT [0:0]\n-A INPUT -j PLUTOCRATS\nCOMMIT\n";
        assert_eq!(
            purge(
                &IptablesSave::parse(saved),
                Backend::Nft,
                JumpOwner::Program,
                UserRules::Delete
            ),
            Purge::default()
        );
    }

    #[test]
    fn a_jump_that_the_administrator_has_installed_is_his() {
        let purged = purge(
            &IptablesSave::parse(SAVE),
            Backend::Nft,
            JumpOwner::User,
            UserRules::Keep,
        );
        assert!(!purged.restore_text().contains("-D "), "{}", purged.restore_text());
        assert_eq!((purged.jumps, purged.user_rules.len()), (0, 3));
    }
}
