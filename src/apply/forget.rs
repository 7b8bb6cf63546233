//! Work that no daemon calls for.

use std::collections::BTreeMap;

use super::{ApplyError, Change, Engine, TunnelOutcome};
use crate::daemon::Tunnel;
use crate::netfilter::Ruleset;
use crate::netfilter::iptables::{RefusalReason, Tables, TablesError};
use crate::state::{Journal, Record, RecordError, Recovery, Store, TunnelRecord};

/// Whether a `down` has to be noted to be executed later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Owed {
    /// The `down`, or the rest of it, has to be noted.
    Note,
    /// No note is needed: the `down` is executed, or the journal contains it.
    Nothing,
}

impl<T: Tables> Engine<'_, T> {
    /// Completes or rolls back a change whose call died.
    ///
    /// # Errors
    /// If it fails; the next call finds the same record and tries again.
    pub fn recover(&mut self) -> Result<(), ApplyError> {
        let Some(journal) = self.store.journal()? else {
            return Ok(());
        };
        self.store.recover(&journal)?;
        self.bring_to_record(&journal, &[], &[])?;
        self.store.clear_journal()?;
        self.forget_completed_ups(&journal)
    }

    /// Forgets that a call which died noted its tunnel as up without rules: it has them now.
    fn forget_completed_ups(&mut self, journal: &Journal) -> Result<(), ApplyError> {
        if journal.recovery == Recovery::RollBack || !self.store.has_failed_ups()? {
            return Ok(());
        }
        for id in &journal.added {
            let record = self.store.readable_entry(journal.ruleset, id)?;
            if let Some(record) = record.and_then(Record::into_tunnel) {
                let counted: Vec<_> = record.opened_by().iter().map(|opener| opener.unique_id).collect();
                self.count_failed_ups(&record.tunnel, &counted);
            }
        }
        Ok(())
    }

    /// Executes the downs that earlier calls could not. One that still cannot be executed keeps its
    /// note, and its connection from coming up until then; it is no obstacle to others.
    ///
    /// # Errors
    /// If no change would be made just now.
    pub(crate) fn close_owed(&mut self) -> Result<(), ApplyError> {
        for owed in self.store.owed_downs()? {
            let Some(tunnel) = &owed.tunnel else { continue };
            let (closed, left) = self.try_close(tunnel);
            match (closed, left) {
                (Ok(_), _) => self.store.drop_owed_down(&owed)?,
                (Err(error), Owed::Nothing) => {
                    self.store.drop_owed_down(&owed)?;
                    return Err(error);
                }
                (Err(error), Owed::Note) if concerns_every_change(&error) => return Err(error),
                (Err(error), Owed::Note) => self.failed_owed_downs.push((tunnel.connection.clone(), error)),
            }
        }
        Ok(())
    }

    /// Closes the firewall for a tunnel, and returns whether the `down` has to be noted.
    pub(super) fn try_close(&mut self, tunnel: &Tunnel) -> (Result<TunnelOutcome, ApplyError>, Owed) {
        match self.close_once(tunnel) {
            // With one opener less, the record is written again, which needs as much space as the
            // old one.
            (Err(ApplyError::Record(error)), Owed::Note) if error.is_no_space() && self.store.release_spares() => {
                self.close_once(tunnel)
            }
            other => other,
        }
    }

    fn close_once(&mut self, tunnel: &Tunnel) -> (Result<TunnelOutcome, ApplyError>, Owed) {
        let plan = match self.plan_close(tunnel) {
            Ok(plan) => plan,
            Err(error) => return (Err(error), Owed::Note),
        };
        let (mut closed, mut owed) = (Ok(plan.outcome), Owed::Nothing);
        for (index, change) in plan.changes.iter().enumerate() {
            let Err(error) = self.carry_out(change) else { continue };
            // As long as the journal has a change, the next call makes it, and no other may begin.
            let journal = self.store.journal();
            let has_it = matches!(&journal, Ok(Some(journal)) if !journal.removed.is_empty());
            let is_rest = index > 0 || has_it;
            let has_more = !has_it || index + 1 < plan.changes.len();
            if has_more && !(is_rest && matches!(plan.outcome, TunnelOutcome::StillNeeded(_))) {
                owed = Owed::Note;
            }
            closed = closed.and(Err(error));
            if !matches!(journal, Ok(None)) {
                break;
            }
        }
        (closed, owed)
    }

    /// Why a `down` of this connection could not be executed, if there is one.
    pub(super) fn check_unpaid(&mut self, tunnel: &Tunnel) -> Result<(), ApplyError> {
        let mut failed_owed_downs = self.failed_owed_downs.iter();
        let index = failed_owed_downs.position(|(connection, _)| *connection == tunnel.connection);
        index.map_or(Ok(()), |index| Err(self.failed_owed_downs.remove(index).1))
    }

    /// Notes a `down` that failed.
    pub(super) fn note_failed_down(&self, tunnel: &Tunnel, error: ApplyError) -> ApplyError {
        note_down(self.store, tunnel, error)
    }

    /// The changes that remove these tunnels: one for each ruleset.
    pub(crate) fn plan_tunnel_removal(&self, removed: Vec<(Ruleset, TunnelRecord)>) -> Result<Vec<Change>, ApplyError> {
        let mut entries: BTreeMap<Ruleset, Vec<Record>> = BTreeMap::new();
        for (ruleset, record) in removed {
            if self.may_have_esp_peers(ruleset, std::iter::once(&record))? {
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

    /// Removes the rules and records of tunnels, in one transaction for each ruleset, or in several
    /// for very many tunnels.
    ///
    /// # Errors
    /// If it fails; the records of rules that are still installed stay then.
    pub(crate) fn remove_tunnels(&mut self, changes: &[Change]) -> Result<(), ApplyError> {
        let mut changes = changes.iter().cloned();
        changes.try_for_each(|change| self.carry_out_in_parts(change))
    }
}

/// Whether other changes would be refused for the same reason, or may not begin before the next
/// call has looked.
fn concerns_every_change(error: &ApplyError) -> bool {
    match error {
        ApplyError::Tables(TablesError::Refused { reason, .. }) => *reason == RefusalReason::System,
        ApplyError::Tables(TablesError::Unknown { .. }) => true,
        ApplyError::Tables(TablesError::Missing { .. } | TablesError::NoFamily(_) | TablesError::NotRun(_))
        | ApplyError::Record(_)
        | ApplyError::Owed(_)
        | ApplyError::Forgotten { .. }
        | ApplyError::Faulty(_)
        | ApplyError::Policy { .. } => false,
    }
}

/// Notes a `down` that failed for this reason, so that the next call executes it.
#[must_use]
pub fn note_down(store: &Store, tunnel: &Tunnel, error: ApplyError) -> ApplyError {
    match store.note_owed_down(tunnel) {
        Ok(true) => {
            // Now, because an `up` that comes before the next call is later than this `down`.
            let _ = store.forget_failed_up(tunnel);
            ApplyError::Owed(Box::new(error))
        }
        Ok(false) | Err(RecordError::Untrusted { .. }) => error,
        Err(other) => ApplyError::Forgotten {
            error: Box::new(error),
            note: other,
        },
    }
}
