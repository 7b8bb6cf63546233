//! What no daemon calls for.

use std::collections::BTreeMap;

use super::tunnel::crosses;
use super::{ApplyError, Change, Engine};
use crate::iptables::Tables;
use crate::netfilter::Ruleset;
use crate::record::{Record, Recovery, TunnelRecord};

impl<T: Tables> Engine<'_, T> {
    /// Settles a change whose call died.
    ///
    /// # Errors
    /// If that is not possible; the record says so to the next call too.
    pub fn recover(&mut self) -> Result<(), ApplyError> {
        let Some(journal) = self.store.journal()? else {
            return Ok(());
        };
        self.store.recover(&journal)?;
        self.rebuild(&journal, &[], &[])?;
        Ok(self.store.clear_journal()?)
    }

    /// What forgetting these tunnels comes to: some work in each ruleset, with all of them.
    ///
    /// # Errors
    /// If the record cannot be read.
    pub fn forgetting(&self, removed: Vec<(Ruleset, TunnelRecord)>) -> Result<Vec<Change>, ApplyError> {
        let mut entries: BTreeMap<Ruleset, Vec<Record>> = BTreeMap::new();
        for (ruleset, record) in removed {
            if crosses(&record) {
                for outer in self.plan_esp_peer_close([record.id.clone()])? {
                    entries.entry(outer.ruleset).or_default().extend(outer.removed);
                }
            }
            entries.entry(ruleset).or_default().push(record.into());
        }
        let changes = entries.into_iter().map(|(ruleset, removed)| Change {
            ruleset,
            removed,
            added: Vec::new(),
            recovery: Recovery::RollForward,
        });
        Ok(changes.collect())
    }

    /// Takes out what tunnels have put in, in one transaction for each ruleset, and strikes them off the record.
    ///
    /// # Errors
    /// If that is not possible; the record of what stands still stands then.
    pub fn forget(&mut self, changes: &[Change]) -> Result<(), ApplyError> {
        changes.iter().try_for_each(|change| self.carry_out(change))
    }
}
