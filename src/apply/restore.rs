//! Compares the kernel's rules with the record, and repairs them.

use std::collections::BTreeMap;
use std::panic::resume_unwind;
use std::thread;

use super::gateway::difference;
use super::{ApplyError, Change, Engine, SettingsOrigin, checked, may_be_drift, scope_of};
use crate::firewall::{
    DesiredState, Drift, DriftKind, Repair, RuleProbe, TunnelRules, detect_drift, in_stages, reconcile, rule_probes,
};
use crate::netfilter::iptables::{Tables, TablesError};
use crate::netfilter::{
    Backend, Chain, ChainName, IptablesSave, RestoreCommand, Ruleset, Section, Table, restore_text,
};
use crate::state::{Record, RecordError, RecordList, TunnelRecord};

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
                let RecordList { records, unreadable } = store.read_all(ruleset)?;
                let wanted = DesiredState::from_rules(&all_rules(&records), installed.jump_config(ruleset));
                Ok::<_, RecordError>((records, wanted.of_scope(scope_of(&unreadable))))
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
        let comparison = self.compare(ruleset)?;
        let found = comparison.drifts.clone();
        let mut repaired = self.repair(ruleset, &comparison);
        for _ in 1..TRIES {
            match &repaired {
                // The rules have changed since the listing.
                Err(ApplyError::Tables(error)) if may_be_drift(error) => {
                    let comparison = self.compare(ruleset)?;
                    repaired = self.repair(ruleset, &comparison);
                }
                Ok(()) | Err(_) => break,
            }
        }
        repaired.map(|()| found)
    }

    /// Makes rules again for tunnels whose XFRM interface was created or renamed since. The
    /// recorded policies stay. Returns how many tunnels have changed.
    ///
    /// # Errors
    /// If a record cannot be read, or a change cannot be made.
    pub fn match_new_interfaces(&mut self) -> Result<usize, ApplyError> {
        let mut changed = 0;
        for change in self.plan_new_interfaces()? {
            changed += change.added.len();
            self.carry_out_in_parts(change)?;
        }
        Ok(changed)
    }

    /// The changes that this makes.
    ///
    /// # Errors
    /// If a record cannot be read.
    pub fn plan_new_interfaces(&mut self) -> Result<Vec<Change>, ApplyError> {
        // Without any the recorded ones stay.
        if self.context.interfaces.is_empty() {
            return Ok(Vec::new());
        }
        let origin = std::mem::replace(&mut self.context.settings_origin, SettingsOrigin::Record);
        let changes = Ruleset::all_rulesets().map(|ruleset| self.new_interfaces_of(ruleset));
        let changes: Result<Vec<_>, _> = changes.collect();
        self.context.settings_origin = origin;
        Ok(changes?.into_iter().filter(|change| !change.is_empty()).collect())
    }

    fn new_interfaces_of(&self, ruleset: Ruleset) -> Result<Change, ApplyError> {
        let mut change = difference(ruleset, &[], &[]);
        let tunnels = self.store.tunnels(ruleset)?;
        if tunnels.iter().all(|record| record.tunnel.if_id_out.is_none()) {
            return Ok(change);
        }
        let mut before: BTreeMap<_, _> = tunnels.iter().map(|record| (&record.id, record)).collect();
        for new in self.agree_all(tunnels.clone())? {
            // What else has changed since is left to `start`.
            let is_moved = |old: &&TunnelRecord| old.tunnel_rules.interface != new.tunnel_rules.interface;
            if let Some(old) = before.remove(&new.id).filter(is_moved) {
                change.removed.push(old.clone().into());
                change.added.push(new.into());
            }
        }
        Ok(change)
    }

    /// Repairs a ruleset to match a desired state. Correct rules are not touched. The kernel is not
    /// asked for rules that it lists in another form, since a daemon may be waiting: they are
    /// written again.
    pub(super) fn bring_to(&mut self, ruleset: Ruleset, wanted: DesiredState) -> Result<(), ApplyError> {
        let saved = IptablesSave::parse(&self.tables.save_all(ruleset)?);
        self.repair(ruleset, &Comparison::unasked(wanted, saved))
    }

    /// Repairs the differences: where iptables refuses the rules that differ, by whole chains.
    fn repair(&mut self, ruleset: Ruleset, comparison: &Comparison) -> Result<(), ApplyError> {
        let sections = self.reconcile_sections(ruleset, comparison, Repair::Patch)?;
        match self.resume(ruleset, &sections) {
            // Perhaps iptables does not find a rule in the form in which it lists it.
            Err(error) if may_be_drift(&error) => {
                let whole_chains = self.reconcile_sections(ruleset, comparison, Repair::Refill)?;
                match whole_chains == sections {
                    true => Err(error.into()),
                    false => Ok(self.resume(ruleset, &whole_chains)?),
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

    /// The commands that repair the differences.
    ///
    /// # Errors
    /// If the plan fails its own check.
    pub(crate) fn reconcile_sections(
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
            confirmed,
        } = comparison;
        let sections = checked(reconcile(wanted, saved, confirmed, drifts, repair))?;
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
    /// Whether the kernel's rules do something else than the record says.
    #[must_use]
    pub fn differs(&self) -> bool {
        self.drifts.iter().any(Drift::has_effect)
    }

    /// The comparison without asking the kernel for rules that it lists in another form.
    fn unasked(wanted: DesiredState, saved: IptablesSave) -> Self {
        Self {
            entries: Vec::new(),
            drifts: detect_drift(&wanted, &saved, &[]),
            wanted,
            saved,
            confirmed: Vec::new(),
        }
    }

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

pub(super) fn all_rules(entries: &[Record]) -> Vec<TunnelRules> {
    entries.iter().map(|entry| entry.tunnel_rules().clone()).collect()
}
