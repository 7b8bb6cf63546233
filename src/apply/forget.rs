//! What no daemon calls for.

use std::collections::BTreeMap;

use super::tunnel::crosses;
use super::{ApplyError, Session, Work};
use crate::iptables::Tables;
use crate::netfilter::Ruleset;
use crate::record::{Entry, Settle, TunnelRecord};

impl<T: Tables> Session<'_, T> {
    /// Settles a change whose call died.
    ///
    /// # Errors
    /// If that is not possible; the record says so to the next call too.
    pub fn settle(&mut self) -> Result<(), ApplyError> {
        let Some(pending) = self.store.pending()? else {
            return Ok(());
        };
        self.store.recover(&pending)?;
        self.rebuild(&pending, &[], &[])?;
        Ok(self.store.settled()?)
    }

    /// What forgetting these tunnels comes to: some work in each ruleset, with all of them.
    ///
    /// # Errors
    /// If the record cannot be read.
    pub fn forgetting(&self, gone: Vec<(Ruleset, TunnelRecord)>) -> Result<Vec<Work>, ApplyError> {
        let mut entries: BTreeMap<Ruleset, Vec<Entry>> = BTreeMap::new();
        for (ruleset, record) in gone {
            if crosses(&record.tunnel) {
                for outer in self.outer_closing([record.id.clone()])? {
                    entries.entry(outer.ruleset).or_default().extend(outer.gone);
                }
            }
            entries.entry(ruleset).or_default().push(record.into());
        }
        let works = entries.into_iter().map(|(ruleset, gone)| Work {
            ruleset,
            gone,
            come: Vec::new(),
            settle: Settle::Complete,
        });
        Ok(works.collect())
    }

    /// Takes out what tunnels have put in, in one transaction for each ruleset, and strikes them off the record.
    ///
    /// # Errors
    /// If that is not possible; the record of what stands still stands then.
    pub fn forget(&mut self, works: &[Work]) -> Result<(), ApplyError> {
        works.iter().try_for_each(|work| self.carry_out(work))
    }
}
