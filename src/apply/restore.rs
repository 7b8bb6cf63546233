//! What the kernel holds, brought to what the record says.

use std::collections::BTreeSet;

use super::{ApplyError, Session, checked, may_be_drift};
use crate::iptables::{Tables, TablesError};
use crate::netfilter::{Chain, Command, Rulebook, Saved, Section, Table, restore_text};
use crate::plan::{Drift, Layout, Question, Wanted, drift, mend, questions};
use crate::record::{FORMAT, Pending, Settle};

/// How often what the kernel holds is compared anew, if it changes while it is being set right.
const TRIES: usize = 3;

/// How many rules the kernel is asked for that are spelt otherwise than we write them. Each costs a run of iptables; what is not asked
/// counts as changed, which is mended by writing it again.
const ASKED: usize = 64;

/// What the record wants of a rulebook beside what the kernel lists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Comparison {
    /// What the record wants.
    pub wanted: Wanted,
    /// What the kernel lists.
    pub saved: Saved,
    /// What differs.
    pub drifts: Vec<Drift>,
    stands: Vec<Question>,
}

impl<T: Tables> Session<'_, T> {
    /// Compares a rulebook with its record. Changes nothing.
    ///
    /// # Errors
    /// If the record cannot be read, or the tables not be listed.
    pub fn compare(&mut self, rulebook: Rulebook) -> Result<Comparison, ApplyError> {
        let wanted = Wanted::of(&self.layouts(rulebook)?, self.site(rulebook)?);
        let saved = Saved::read(&self.tables.save_all(rulebook)?);
        let mut stands = Vec::new();
        for question in questions(&wanted, &saved).into_iter().take(ASKED) {
            if self.holds(rulebook, &question)? {
                stands.push(question);
            }
        }
        let drifts = drift(&wanted, &saved, &stands);
        Ok(Comparison {
            wanted,
            saved,
            drifts,
            stands,
        })
    }

    /// Brings a rulebook to what the record says, in one transaction, and returns what was wrong with it. What is right is not touched.
    ///
    /// # Errors
    /// If the record cannot be read, or the tables not be listed or changed.
    pub fn restore(&mut self, rulebook: Rulebook) -> Result<Vec<Drift>, ApplyError> {
        let mut found = Vec::new();
        let mut tables = BTreeSet::new();
        for _ in 0..TRIES {
            let comparison = self.compare(rulebook)?;
            tables.extend(comparison.saved.tables().map(|(table, _)| table));
            if found.is_empty() {
                found.clone_from(&comparison.drifts);
            }
            let sections = self.mending(&comparison)?;
            if sections.is_empty() {
                return Ok(found);
            }
            match self.tables.resume(rulebook, &restore_text(&sections)) {
                // Somebody has changed what was listed.
                Err(error) if may_be_drift(&error) => {}
                other => return Ok(other.map(|()| found)?),
            }
        }
        self.rebuild(&whole(rulebook, tables), &[], &[])?;
        Ok(found)
    }

    /// What sets right what a comparison has found.
    ///
    /// # Errors
    /// If the plan does not stand its own check.
    pub fn mending(&self, comparison: &Comparison) -> Result<Vec<Section>, ApplyError> {
        let Comparison {
            wanted,
            saved,
            drifts,
            stands,
        } = comparison;
        checked(mend(wanted, saved, stands, drifts))
    }

    /// All that is on record in a rulebook.
    fn layouts(&self, rulebook: Rulebook) -> Result<Vec<Layout>, ApplyError> {
        let entries = self.store.entries(rulebook)?;
        Ok(entries.iter().map(|entry| entry.layout().clone()).collect())
    }

    /// Asks the kernel whether a rule stands, whatever it lists it as. `iptables-restore --test` would not do: the one of nft looks at no
    /// rule then. A section of nothing but this writes nothing.
    fn holds(&mut self, rulebook: Rulebook, question: &Question) -> Result<bool, ApplyError> {
        let Question { table, chain, rule } = question.clone();
        let commands = vec![Command::Check(Chain::Own(chain), rule)];
        match self
            .tables
            .restore(rulebook, &restore_text(&[Section { table, commands }]))
        {
            Ok(()) => Ok(true),
            Err(error @ TablesError::Refused { .. }) if may_be_drift(&error) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

/// A change of everything in these tables.
fn whole(rulebook: Rulebook, tables: BTreeSet<Table>) -> Pending {
    Pending {
        format: FORMAT,
        rulebook,
        tables,
        gone: Vec::new(),
        come: Vec::new(),
        settle: Settle::Complete,
    }
}
