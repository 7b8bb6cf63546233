//! A change to the record: written down before the kernel is touched, and made or undone after.

use std::collections::BTreeSet;

use super::entry::Entry;
use super::error::RecordError;
use super::file;
use super::pending::{Pending, Settle};
use super::store::{Store, absent_is_none};
use crate::netfilter::Ruleset;

impl Store {
    /// Writes down what is about to be done. After this only [`Store::commit`] or [`Store::abandon`] set the record right.
    ///
    /// # Errors
    /// If something cannot be written, as on a full file system; nothing is left of it then.
    pub fn begin(&self, pending: &Pending, gone: &[Entry], come: &[Entry]) -> Result<(), RecordError> {
        let written = self.write_begin(pending, come);
        if written.is_err() {
            // What stands in the way of undoing this stands in the way of the next call too, which will say so.
            let _ = file::remove(&self.folder.join("pending.new"));
            let _ = self.abandon(pending, gone, come).and_then(|()| self.settled());
        }
        written
    }

    /// The whole records first: once `pending` stands, a later call may complete the change from them. The entries under `nodes`
    /// last: a call that dies before `pending` stands must not have made any.
    fn write_begin(&self, pending: &Pending, come: &[Entry]) -> Result<(), RecordError> {
        for record in come {
            self.write_new(pending.ruleset, record)?;
            record.daemon().map_or(Ok(()), |daemon| self.register(&daemon))?;
        }
        self.note(pending)?;
        come.iter().try_for_each(|record| self.enter(pending.ruleset, record))
    }

    fn note(&self, pending: &Pending) -> Result<(), RecordError> {
        file::write(&self.folder.join("pending.new"), pending)?;
        file::rename(&self.folder.join("pending.new"), &self.folder.join("pending"))
    }

    /// Makes the note of a change that was abandoned say that nothing goes and nothing comes, but that its tables may hold a part of it.
    ///
    /// # Errors
    /// If it cannot be written; it says what it said before then.
    pub fn give_up(&self, pending: &Pending) -> Result<(), RecordError> {
        let given_up = Pending {
            gone: Vec::new(),
            come: Vec::new(),
            ..pending.clone()
        };
        self.note(&given_up)
            .inspect_err(|_| drop(file::remove(&self.folder.join("pending.new"))))
    }

    /// Makes the record say what the kernel now holds.
    ///
    /// # Errors
    /// If a file cannot be changed; `pending` stands then, and the next call completes or undoes the change.
    pub fn commit(&self, pending: &Pending, gone: &[Entry], come: &[Entry]) -> Result<(), RecordError> {
        let ruleset = pending.ruleset;
        for record in gone {
            self.leave(ruleset, record, come)?;
        }
        self.settle_files(pending, Settle::Complete)?;
        self.settled()
    }

    /// Makes the record say what it said before, since the kernel refused the change. `pending` stands until [`Store::settled`]: a part of
    /// the change can have been made.
    ///
    /// # Errors
    /// If a file cannot be changed.
    pub fn abandon(&self, pending: &Pending, gone: &[Entry], come: &[Entry]) -> Result<(), RecordError> {
        for record in come {
            self.leave(pending.ruleset, record, gone)?;
        }
        self.settle_files(pending, Settle::Abandon)
    }

    /// The change that a call which died was about to make.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn pending(&self) -> Result<Option<Pending>, RecordError> {
        absent_is_none(file::read(&self.folder.join("pending")))
    }

    /// Sets the record right after a call that died: the change is made or not made, as it says itself. What the kernel holds is
    /// unknown and has to be rebuilt; only then [`Store::settled`].
    ///
    /// # Errors
    /// If a file cannot be changed or a record not be read.
    pub fn recover(&self, pending: &Pending) -> Result<(), RecordError> {
        self.settle_files(pending, pending.settle)?;
        file::remove_tree(&self.ruleset_folder(pending.ruleset).join("nodes"))?;
        for record in self.entries(pending.ruleset)? {
            self.enter(pending.ruleset, &record)?;
        }
        Ok(())
    }

    /// Forgets the change that was under way.
    ///
    /// # Errors
    /// If the file cannot be removed.
    pub fn settled(&self) -> Result<(), RecordError> {
        file::remove(&self.folder.join("pending"))
    }

    fn settle_files(&self, pending: &Pending, settle: Settle) -> Result<(), RecordError> {
        let ruleset = pending.ruleset;
        match settle {
            Settle::Complete => {
                for id in pending.gone.iter().filter(|id| !pending.come.contains(id)) {
                    file::remove(&self.tunnel_file(ruleset, id))?;
                }
                for id in &pending.come {
                    // Not there where an earlier try got further than this one has to.
                    let renamed = file::rename(&self.new_file(ruleset, id), &self.tunnel_file(ruleset, id));
                    absent_is_none(renamed)?;
                }
            }
            Settle::Abandon => {
                for id in &pending.come {
                    file::remove(&self.new_file(ruleset, id))?;
                    // There where a call died after it had begun to commit. One that replaced another stays: the old one is lost.
                    if !pending.gone.contains(id) {
                        file::remove(&self.tunnel_file(ruleset, id))?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Enters what comes in the folders that it is found by.
    fn enter(&self, ruleset: Ruleset, record: &Entry) -> Result<(), RecordError> {
        file::make_folder(&self.ruleset_folder(ruleset).join("nodes"))?;
        for folder in self.index_folders(ruleset, record) {
            file::make_folder(&folder)?;
            file::touch(&folder.join(record.id().as_str()))?;
        }
        Ok(())
    }

    /// Strikes what goes from the folders that it is found by no more, and removes those that are empty.
    fn leave(&self, ruleset: Ruleset, record: &Entry, stays: &[Entry]) -> Result<(), RecordError> {
        let kept: BTreeSet<_> = stays
            .iter()
            .filter(|other| other.id() == record.id())
            .flat_map(|other| self.index_folders(ruleset, other))
            .collect();
        for folder in self.index_folders(ruleset, record).difference(&kept) {
            file::remove(&folder.join(record.id().as_str()))?;
            file::remove_if_empty(folder)?;
        }
        Ok(())
    }
}
