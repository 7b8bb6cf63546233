//! Compares the kernel's rules with the record, and repairs them.

use std::collections::BTreeSet;
use std::panic::resume_unwind;
use std::thread;

use super::{ApplyError, Engine, checked, may_be_drift, staged};
use crate::iptables::{Tables, TablesError};
use crate::netfilter::{Chain, ChainName, IptablesSave, RestoreCommand, Ruleset, Section, Table, restore_text};
use crate::plan::{DesiredState, Drift, DriftKind, RuleProbe, TunnelRules, detect_drift, reconcile, rule_probes};
use crate::record::{FORMAT, Journal, Record, RecordError, Recovery};

/// How many times the comparison is repeated if the kernel's rules change during the repair.
const TRIES: usize = 3;

/// How many rules are checked in the kernel because it lists them in another form than they were
/// written. Each check costs a run of iptables; rules beyond that count as changed, and are written
/// again.
const ASKED: usize = 64;

/// The comparison of a ruleset's record with the kernel's listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Comparison {
    /// The records.
    pub entries: Vec<Record>,
    /// The desired state by the records.
    pub wanted: DesiredState,
    /// The kernel's listing.
    pub saved: IptablesSave,
    /// The differences.
    pub drifts: Vec<Drift>,
    confirmed: Vec<RuleProbe>,
}

impl<T: Tables> Engine<'_, T> {
    /// Compares a ruleset with its record. Changes nothing.
    ///
    /// # Errors
    /// If the record cannot be read, or the tables not be listed.
    pub fn compare(&mut self, ruleset: Ruleset) -> Result<Comparison, ApplyError> {
        let (store, installed) = (self.store, self.installed(ruleset)?);
        // Both take long with many tunnels, and neither waits for the other.
        let (read, listed) = thread::scope(|scope| {
            let reading = scope.spawn(|| {
                let entries = store.entries(ruleset)?;
                let wanted = DesiredState::from_rules(&all_rules(&entries), installed.jump_config(ruleset));
                Ok::<_, RecordError>((entries, wanted))
            });
            let listed = self.tables.save_all(ruleset);
            (reading.join().unwrap_or_else(|panic| resume_unwind(panic)), listed)
        });
        let (entries, wanted) = read?;
        if installed.is_older() {
            return Ok(Comparison::older(entries, wanted, &listed?));
        }
        self.compare_listing(ruleset, entries, wanted, &listed?)
    }

    fn compare_listing(
        &mut self,
        ruleset: Ruleset,
        entries: Vec<Record>,
        wanted: DesiredState,
        listed: &str,
    ) -> Result<Comparison, ApplyError> {
        let saved = IptablesSave::parse(listed);
        let mut drifts = detect_drift(&wanted, &saved, &[]);
        let mut confirmed = Vec::new();
        if !drifts.is_empty() {
            for question in rule_probes(&wanted, &saved).into_iter().take(ASKED) {
                if self.kernel_has_rule(ruleset, &question)? {
                    confirmed.push(question);
                }
            }
            drifts = detect_drift(&wanted, &saved, &confirmed);
        }
        Ok(Comparison {
            entries,
            wanted,
            saved,
            drifts,
            confirmed,
        })
    }

    /// Repairs a ruleset to match the record, and returns the differences. Correct rules are not
    /// touched.
    ///
    /// It runs `iptables-restore` once, and of the commits for a table only the last one adds jumps
    /// to the new chains.
    ///
    /// # Errors
    /// If the record cannot be read, or the tables not be listed or changed.
    pub fn reconcile(&mut self, ruleset: Ruleset) -> Result<Vec<Drift>, ApplyError> {
        let mut found = Vec::new();
        let mut tables = BTreeSet::new();
        for _ in 0..TRIES {
            let comparison = self.compare(ruleset)?;
            tables.extend(comparison.saved.tables().map(|(table, _)| table));
            if found.is_empty() {
                found.clone_from(&comparison.drifts);
            }
            let sections = self.reconcile_sections(ruleset, &comparison)?;
            if sections.is_empty() {
                return Ok(found);
            }
            match self.tables.resume(ruleset, &restore_text(&sections)) {
                // The rules have changed since the listing.
                Err(error) if may_be_drift(&error) => {}
                other => return Ok(other.map(|()| found)?),
            }
        }
        self.rebuild(&whole_tables_journal(ruleset, tables), &[], &[])?;
        Ok(found)
    }

    /// Repairs a ruleset to match a desired state. Correct rules are not touched.
    pub(super) fn bring_to(&mut self, ruleset: Ruleset, wanted: DesiredState) -> Result<(), ApplyError> {
        let listed = self.tables.save_all(ruleset)?;
        let comparison = self.compare_listing(ruleset, Vec::new(), wanted, &listed)?;
        self.write_differences(ruleset, &comparison)
    }

    /// The same for a new desired state in which many rules differ: the kernel is not asked whether
    /// it lists each of them in another form; rules that it does are written again.
    pub(super) fn change_to(&mut self, ruleset: Ruleset, wanted: DesiredState) -> Result<(), ApplyError> {
        let saved = IptablesSave::parse(&self.tables.save_all(ruleset)?);
        let comparison = Comparison {
            entries: Vec::new(),
            drifts: detect_drift(&wanted, &saved, &[]),
            wanted,
            saved,
            confirmed: Vec::new(),
        };
        self.write_differences(ruleset, &comparison)
    }

    fn write_differences(&mut self, ruleset: Ruleset, comparison: &Comparison) -> Result<(), ApplyError> {
        let sections = self.reconcile_sections(ruleset, comparison)?;
        match sections.is_empty() {
            true => Ok(()),
            false => Ok(self.tables.resume(ruleset, &restore_text(&sections))?),
        }
    }

    /// The commands that repair the differences.
    ///
    /// # Errors
    /// If the plan fails its own check.
    pub fn reconcile_sections(&self, ruleset: Ruleset, comparison: &Comparison) -> Result<Vec<Section>, ApplyError> {
        let Comparison {
            entries: _,
            wanted,
            saved,
            drifts,
            confirmed,
        } = comparison;
        let sections = checked(reconcile(wanted, saved, confirmed, drifts))?;
        let has = |table, chain: &ChainName| {
            saved
                .table(table)
                .is_some_and(|listed| listed.has_chain(chain.as_str()))
        };
        Ok(staged(ruleset, sections, has))
    }

    /// Asks the kernel whether a rule exists, however it lists it. `iptables-restore --test` is not
    /// enough: iptables-nft checks no rule then. A section with only a check changes nothing.
    fn kernel_has_rule(&mut self, ruleset: Ruleset, question: &RuleProbe) -> Result<bool, ApplyError> {
        let RuleProbe { table, chain, rule } = question.clone();
        let commands = vec![RestoreCommand::Check(Chain::Own(chain), rule)];
        match self
            .tables
            .restore(ruleset, &restore_text(&[Section { table, commands }]))
        {
            Ok(()) => Ok(true),
            Err(error @ TablesError::Refused { .. }) if may_be_drift(&error) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

impl Comparison {
    /// The comparison for rules in an older layout, which are not compared rule by rule.
    fn older(entries: Vec<Record>, wanted: DesiredState, listed: &str) -> Self {
        Self {
            entries,
            wanted,
            saved: IptablesSave::parse(listed),
            drifts: vec![Drift {
                table: Table::Filter,
                kind: DriftKind::OlderLayout,
            }],
            confirmed: Vec::new(),
        }
    }
}

fn all_rules(entries: &[Record]) -> Vec<TunnelRules> {
    entries.iter().map(|entry| entry.tunnel_rules().clone()).collect()
}

/// The journal of a change of all rules in these tables.
fn whole_tables_journal(ruleset: Ruleset, tables: BTreeSet<Table>) -> Journal {
    Journal {
        format: FORMAT,
        ruleset,
        tables,
        removed: Vec::new(),
        added: Vec::new(),
        recovery: Recovery::RollForward,
    }
}
