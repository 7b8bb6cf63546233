//! What the kernel holds, brought to what the record says.

use std::panic::resume_unwind;
use std::thread;

use super::{ApplyError, Engine, checked, may_be_drift};
use crate::iptables::{Tables, TablesError};
use crate::netfilter::{
    Backend, Chain, ChainName, IptablesSave, RestoreCommand, Ruleset, Section, Table, restore_text,
};
use crate::plan::{
    DesiredState, Drift, DriftKind, Repair, RuleProbe, TunnelRules, detect_drift, in_stages, reconcile, rule_probes,
};
use crate::record::{Record, RecordError};

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
        let comparison = self.compare(ruleset)?;
        let found = comparison.drifts.clone();
        let mut repaired = self.repair(ruleset, comparison);
        for _ in 1..TRIES {
            match &repaired {
                // Somebody has changed what was listed.
                Err(ApplyError::Tables(error)) if may_be_drift(error) => {
                    let comparison = self.compare(ruleset)?;
                    repaired = self.repair(ruleset, comparison);
                }
                Ok(()) | Err(_) => break,
            }
        }
        repaired.map(|()| found)
    }

    /// Brings a ruleset to what is wanted. What is right is not touched. The kernel is not asked
    /// for rules that are listed in another spelling, since a daemon may be waiting: they are
    /// written again.
    pub(super) fn bring_to(&mut self, ruleset: Ruleset, wanted: DesiredState) -> Result<(), ApplyError> {
        let saved = IptablesSave::parse(&self.tables.save_all(ruleset)?);
        self.repair(ruleset, Comparison::unasked(wanted, saved))
    }

    /// Sets right what a comparison has found.
    fn repair(&mut self, ruleset: Ruleset, comparison: Comparison) -> Result<(), ApplyError> {
        let sections = self.reconcile_sections(ruleset, &comparison, Repair::Patch)?;
        match self.resume(ruleset, &sections) {
            // Somebody has changed what was listed, or iptables does not find what it has listed.
            Err(error) if may_be_drift(&error) => {
                let saved = IptablesSave::parse(&self.tables.save_all(ruleset)?);
                let comparison = Comparison::unasked(comparison.wanted, saved);
                let others = self.reconcile_sections(ruleset, &comparison, Repair::Refill)?;
                match others == sections {
                    true => Err(error.into()),
                    false => Ok(self.resume(ruleset, &others)?),
                }
            }
            other => Ok(other?),
        }
    }

    fn resume(&mut self, ruleset: Ruleset, sections: &[Section]) -> Result<(), TablesError> {
        match sections.is_empty() {
            true => Ok(()),
            false => self.tables.resume(ruleset, &restore_text(sections)),
        }
    }

    /// What sets right what a comparison has found.
    ///
    /// # Errors
    /// If the plan does not stand its own check.
    pub fn reconcile_sections(
        &self,
        ruleset: Ruleset,
        comparison: &Comparison,
        repair: Repair,
    ) -> Result<Vec<Section>, ApplyError> {
        let Comparison {
            entries: _,
            wanted,
            saved,
            drifts,
            stands,
        } = comparison;
        let sections = checked(reconcile(wanted, saved, stands, drifts, repair))?;
        let has = |section: &Section, chain: &ChainName| {
            let listed = saved.table(section.table);
            listed.is_some_and(|listed| listed.has_chain(chain.as_str()))
        };
        Ok(match ruleset.backend {
            Backend::Nft => in_stages(sections, has),
            // It writes the whole table at each commit.
            Backend::Legacy | Backend::Plain => sections,
        })
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
    /// Without asking the kernel for what is listed in another spelling.
    fn unasked(wanted: DesiredState, saved: IptablesSave) -> Self {
        Self {
            entries: Vec::new(),
            drifts: detect_drift(&wanted, &saved, &[]),
            wanted,
            saved,
            stands: Vec::new(),
        }
    }

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

pub(super) fn all_rules(entries: &[Record]) -> Vec<TunnelRules> {
    entries.iter().map(|entry| entry.tunnel_rules().clone()).collect()
}
