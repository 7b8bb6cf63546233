//! What the kernel holds, brought to what the record says.

use std::collections::BTreeSet;
use std::panic::resume_unwind;
use std::thread;

use super::{ApplyError, Engine, checked, may_be_drift, staged};
use crate::iptables::{Tables, TablesError};
use crate::netfilter::{Chain, ChainName, IptablesSave, RestoreCommand, Ruleset, Section, Table, restore_text};
use crate::plan::{DesiredState, Drift, DriftKind, RuleProbe, TunnelRules, detect_drift, reconcile, rule_probes};
use crate::record::{FORMAT, Journal, Record, RecordError, Recovery};

/// How often what the kernel holds is compared anew, if it changes while it is being set right.
const TRIES: usize = 3;

/// How many rules the kernel is asked for that are spelt otherwise than we write them. Each costs a
/// run of iptables; what is not asked counts as changed, which is mended by writing it again.
const ASKED: usize = 64;

/// What the record wants of a ruleset beside what the kernel lists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Comparison {
    /// What is on record.
    pub entries: Vec<Record>,
    /// What the record wants.
    pub wanted: DesiredState,
    /// What the kernel lists.
    pub saved: IptablesSave,
    /// What differs.
    pub drifts: Vec<Drift>,
    stands: Vec<RuleProbe>,
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
        self.compared(ruleset, entries, wanted, &listed?)
    }

    fn compared(
        &mut self,
        ruleset: Ruleset,
        entries: Vec<Record>,
        wanted: DesiredState,
        listed: &str,
    ) -> Result<Comparison, ApplyError> {
        let saved = IptablesSave::parse(listed);
        let mut drifts = detect_drift(&wanted, &saved, &[]);
        let mut stands = Vec::new();
        if !drifts.is_empty() {
            for question in rule_probes(&wanted, &saved).into_iter().take(ASKED) {
                if self.holds(ruleset, &question)? {
                    stands.push(question);
                }
            }
            drifts = detect_drift(&wanted, &saved, &stands);
        }
        Ok(Comparison {
            entries,
            wanted,
            saved,
            drifts,
            stands,
        })
    }

    /// Brings a ruleset to what the record says, and returns what was wrong with it. What is right
    /// is not touched.
    ///
    /// It takes one run of `iptables-restore`, and of what that commits for a table only the last
    /// thing lets anything through.
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
                // Somebody has changed what was listed.
                Err(error) if may_be_drift(&error) => {}
                other => return Ok(other.map(|()| found)?),
            }
        }
        self.rebuild(&whole(ruleset, tables), &[], &[])?;
        Ok(found)
    }

    /// Brings a ruleset to what is wanted. What is right is not touched.
    pub(super) fn bring_to(&mut self, ruleset: Ruleset, wanted: DesiredState) -> Result<(), ApplyError> {
        let listed = self.tables.save_all(ruleset)?;
        let comparison = self.compared(ruleset, Vec::new(), wanted, &listed)?;
        self.write_differences(ruleset, &comparison)
    }

    /// The same where many rules differ because they are to be others now: the kernel is not asked
    /// for each whether it stands in another spelling, and what does is written again.
    pub(super) fn change_to(&mut self, ruleset: Ruleset, wanted: DesiredState) -> Result<(), ApplyError> {
        let saved = IptablesSave::parse(&self.tables.save_all(ruleset)?);
        let comparison = Comparison {
            entries: Vec::new(),
            drifts: detect_drift(&wanted, &saved, &[]),
            wanted,
            saved,
            stands: Vec::new(),
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

    /// What sets right what a comparison has found.
    ///
    /// # Errors
    /// If the plan does not stand its own check.
    pub fn reconcile_sections(&self, ruleset: Ruleset, comparison: &Comparison) -> Result<Vec<Section>, ApplyError> {
        let Comparison {
            entries: _,
            wanted,
            saved,
            drifts,
            stands,
        } = comparison;
        let sections = checked(reconcile(wanted, saved, stands, drifts))?;
        let has = |table, chain: &ChainName| {
            saved
                .table(table)
                .is_some_and(|listed| listed.has_chain(chain.as_str()))
        };
        Ok(staged(ruleset, sections, has))
    }

    /// Asks the kernel whether a rule stands, whatever it lists it as. `iptables-restore --test`
    /// would not do: the one of nft looks at no rule then. A section of nothing but this writes
    /// nothing.
    fn holds(&mut self, ruleset: Ruleset, question: &RuleProbe) -> Result<bool, ApplyError> {
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
    /// What an older version has put in is not compared, rule by rule, with what this one would.
    fn older(entries: Vec<Record>, wanted: DesiredState, listed: &str) -> Self {
        Self {
            entries,
            wanted,
            saved: IptablesSave::parse(listed),
            drifts: vec![Drift {
                table: Table::Filter,
                kind: DriftKind::OlderLayout,
            }],
            stands: Vec::new(),
        }
    }
}

fn all_rules(entries: &[Record]) -> Vec<TunnelRules> {
    entries.iter().map(|entry| entry.tunnel_rules().clone()).collect()
}

/// A change of everything in these tables.
fn whole(ruleset: Ruleset, tables: BTreeSet<Table>) -> Journal {
    Journal {
        format: FORMAT,
        ruleset,
        tables,
        removed: Vec::new(),
        added: Vec::new(),
        recovery: Recovery::RollForward,
    }
}
