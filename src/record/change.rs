//! A change to the record: written down before the kernel is touched, and made or undone after.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::any_record::Record;
use super::error::RecordError;
use super::file;
use super::journal::{Journal, Recovery};
use super::store::{Store, absent_is_none};
use crate::netfilter::Ruleset;

impl Store {
    /// Writes down what is about to be done. After this only [`Store::commit`] or
    /// [`Store::roll_back`] set the record right.
    ///
    /// # Errors
    /// If something cannot be written, as on a full file system; nothing is left of it then.
    pub fn begin(&self, journal: &Journal, removed: &[Record], added: &[Record]) -> Result<(), RecordError> {
        let mut written = self.write_begin(journal, added);
        if let Err(error) = &written
            && error.is_no_space()
            && added.is_empty()
            && self.release_spares()
        {
            written = self.write_begin(journal, added);
        }
        if written.is_err() {
            // What stands in the way of undoing this stands in the way of the next call too, which
            // will say so.
            let _ = file::remove(&self.folder.join("pending.new"));
            let _ = self
                .roll_back(journal, removed, added)
                .and_then(|()| self.clear_journal());
        }
        written
    }

    /// The whole records first: once `journal` stands, a later call may complete the change from
    /// them. The entries under `nodes` last: a call that dies before `journal` stands must not have
    /// made any.
    fn write_begin(&self, journal: &Journal, added: &[Record]) -> Result<(), RecordError> {
        if !added.is_empty() {
            self.prepare_for_downs()?;
        }
        for record in added {
            self.write_new(journal.ruleset, record)?;
            record.daemon().map_or(Ok(()), |daemon| self.register(&daemon))?;
        }
        self.note(journal)?;
        added.iter().try_for_each(|record| self.enter(journal.ruleset, record))
    }

    fn note(&self, journal: &Journal) -> Result<(), RecordError> {
        let new = self.folder.join("pending.new");
        let noted = file::write(&new, journal).and_then(|()| file::rename(&new, &self.folder.join("pending")));
        self.made("pending", noted)
    }

    /// Makes the note of a change that was abandoned say that nothing goes and nothing comes, but
    /// that its tables may hold a part of it.
    ///
    /// # Errors
    /// If it cannot be written; it says what it said before then.
    pub fn drop_change(&self, journal: &Journal) -> Result<(), RecordError> {
        let given_up = Journal {
            removed: Vec::new(),
            added: Vec::new(),
            installed: None,
            user_jumps: BTreeMap::new(),
            ..journal.clone()
        };
        self.note(&given_up)
            .inspect_err(|_| drop(file::remove(&self.folder.join("pending.new"))))
    }

    /// Makes the record say what the kernel now holds.
    ///
    /// # Errors
    /// If a file cannot be changed; `journal` stands then, and the next call completes or undoes
    /// the change.
    pub fn commit(&self, journal: &Journal, removed: &[Record], added: &[Record]) -> Result<(), RecordError> {
        let ruleset = journal.ruleset;
        for record in removed {
            self.leave(ruleset, record, added)?;
        }
        self.settle_files(journal, Recovery::RollForward)?;
        self.clear_journal()
    }

    /// Makes the record say what it said before, since the kernel refused the change. `journal`
    /// stands until [`Store::clear_journal`]: a part of the change can have been made.
    ///
    /// # Errors
    /// If a file cannot be changed.
    pub fn roll_back(&self, journal: &Journal, removed: &[Record], added: &[Record]) -> Result<(), RecordError> {
        for record in added {
            self.leave(journal.ruleset, record, removed)?;
        }
        self.settle_files(journal, Recovery::RollBack)
    }

    /// The change that a call which died was about to make.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn journal(&self) -> Result<Option<Journal>, RecordError> {
        if !self.has_name("pending")? {
            return Ok(None);
        }
        absent_is_none(file::read(&self.folder.join("pending")))
    }

    /// Sets the record right after a call that died: the change is made or not made, as it says
    /// itself. What the kernel holds is unknown and has to be rebuilt; only then
    /// [`Store::clear_journal`].
    ///
    /// # Errors
    /// If a file cannot be changed or a record not be read.
    pub fn recover(&self, journal: &Journal) -> Result<(), RecordError> {
        self.settle_files(journal, journal.recovery)?;
        if let Some(installed) = journal.installed {
            self.set_installed(journal.ruleset, installed)?;
        }
        self.reindex(journal.ruleset)
    }

    /// Makes the record say what the kernel now holds, where all of it has changed: an older
    /// version may have entered records elsewhere.
    ///
    /// # Errors
    /// If a file cannot be changed or a record not be read; `journal` stands then.
    pub fn commit_all(&self, journal: &Journal) -> Result<(), RecordError> {
        self.settle_files(journal, Recovery::RollForward)?;
        self.reindex(journal.ruleset)?;
        self.clear_journal()
    }

    fn reindex(&self, ruleset: Ruleset) -> Result<(), RecordError> {
        self.invalidate();
        file::remove_tree(&self.nodes_folder(ruleset))?;
        self.entries(ruleset)?
            .iter()
            .try_for_each(|record| self.enter(ruleset, record))
    }

    /// Forgets the change that was under way.
    ///
    /// # Errors
    /// If the file cannot be removed.
    pub fn clear_journal(&self) -> Result<(), RecordError> {
        let removed = file::remove(&self.folder.join("pending"));
        self.removed("pending", removed)
    }

    fn settle_files(&self, journal: &Journal, recovery: Recovery) -> Result<(), RecordError> {
        let settled = self.try_settle_files(journal, recovery);
        match recovery {
            Recovery::RollForward => self.settled(journal.ruleset, [&journal.removed, &journal.added], settled),
            Recovery::RollBack => {
                self.invalidate();
                settled
            }
        }
    }

    fn try_settle_files(&self, journal: &Journal, recovery: Recovery) -> Result<(), RecordError> {
        let ruleset = journal.ruleset;
        match recovery {
            Recovery::RollForward => {
                for id in journal.removed.iter().filter(|id| !journal.added.contains(id)) {
                    file::remove(&self.tunnel_file(ruleset, id))?;
                }
                for id in &journal.added {
                    // Not there where an earlier try got further than this one has to.
                    let renamed = file::rename(&self.new_file(ruleset, id), &self.tunnel_file(ruleset, id));
                    absent_is_none(renamed)?;
                }
            }
            Recovery::RollBack => {
                for id in &journal.added {
                    file::remove(&self.new_file(ruleset, id))?;
                    // There where a call died after it had begun to commit. One that replaced
                    // another stays: the old one is lost.
                    if !journal.removed.contains(id) {
                        file::remove(&self.tunnel_file(ruleset, id))?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Enters what comes in the folders that it is found by.
    pub(super) fn enter(&self, ruleset: Ruleset, record: &Record) -> Result<(), RecordError> {
        for path in self.index_files(ruleset, record) {
            let touched = file::touch(&path);
            if touched.as_ref().is_err_and(RecordError::is_absence) {
                make_parent(&path, &self.ruleset_folder(ruleset))?;
                file::touch(&path)?;
            } else {
                touched?;
            }
        }
        Ok(())
    }

    /// Strikes what goes from the folders that it is found by no more, and removes those that are
    /// empty.
    pub(super) fn leave(&self, ruleset: Ruleset, record: &Record, stays: &[Record]) -> Result<(), RecordError> {
        let kept: BTreeSet<_> = stays
            .iter()
            .filter(|other| other.id() == record.id())
            .flat_map(|other| self.index_files(ruleset, other))
            .collect();
        let nodes = self.nodes_folder(ruleset);
        let mut folders = BTreeSet::new();
        for path in self.index_files(ruleset, record).difference(&kept) {
            file::remove(path)?;
            path.parent().map_or(Ok(()), file::remove_if_empty)?;
            folders.extend(
                path.ancestors()
                    .nth(2)
                    .filter(|folder| **folder != nodes)
                    .map(Path::to_owned),
            );
        }
        folders.iter().try_for_each(|folder| file::remove_if_empty(folder))
    }
}

/// Makes the folder of a file of the index, below one that stands. Some are in others:
/// `nodes/FI/10.2.0.0-18`, `nodes/device/vti01`.
fn make_parent(path: &Path, top: &Path) -> Result<(), RecordError> {
    let Some(folder) = path.parent().filter(|folder| *folder != top) else {
        return Ok(());
    };
    match file::make_folder(folder) {
        Err(error) if error.is_absence() => {
            make_parent(folder, top)?;
            file::make_folder(folder)
        }
        other => other,
    }
}
