//! A change to the record: the journal is written before the kernel is changed, and the records are
//! committed or rolled back after it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::any_record::Record;
use super::error::RecordError;
use super::file;
use super::index::member_id;
use super::journal::{Journal, Recovery};
use super::store::{RecordList, Store, absent_is_none};
use crate::firewall::TunnelId;
use crate::netfilter::Ruleset;

impl Store {
    /// Writes the new records and the journal. After this, only [`Store::commit_change`] or
    /// [`Store::roll_back`] make the record consistent again.
    ///
    /// # Errors
    /// If a file cannot be written, as on a full file system; what was written of the change is
    /// removed then.
    pub(crate) fn begin_change(
        &self,
        journal: &Journal,
        removed: &[Record],
        added: &[Record],
    ) -> Result<(), RecordError> {
        let mut written = self.write_records_and_journal(journal, added);
        if let Err(error) = &written
            && error.is_no_space()
            && added.is_empty()
            && self.release_spares()
        {
            written = self.write_records_and_journal(journal, added);
        }
        if written.is_err() {
            // An error of the roll back is ignored here: it keeps the next call from working too,
            // which reports it.
            let _ = file::remove(&self.folder.join("pending.new"));
            let _ = self
                .roll_back(journal, removed, added)
                .and_then(|()| self.clear_journal());
        }
        written
    }

    /// The order matters. The new records come first: once the journal exists, a later call may
    /// complete the change from them. The index files under `nodes` come last: a call that dies
    /// before the journal exists must not have made any.
    fn write_records_and_journal(&self, journal: &Journal, added: &[Record]) -> Result<(), RecordError> {
        if !added.is_empty() {
            self.prepare_for_downs()?;
        }
        for record in added {
            self.write_new(journal.ruleset, record)?;
            record.daemon().map_or(Ok(()), |daemon| self.register(&daemon))?;
        }
        self.write_journal(journal)?;
        added
            .iter()
            .try_for_each(|record| self.add_index_files(journal.ruleset, record))
    }

    fn write_journal(&self, journal: &Journal) -> Result<(), RecordError> {
        let new = self.folder.join("pending.new");
        let noted = file::write_json(&new, journal).and_then(|()| file::rename(&new, &self.folder.join("pending")));
        self.made("pending", noted)
    }

    /// Rewrites the journal of a change that was rolled back: it names no record to remove or to
    /// add, but keeps the tables, which may hold a part of the change.
    ///
    /// # Errors
    /// If it cannot be written; the journal is unchanged then.
    pub(crate) fn drop_change(&self, journal: &Journal) -> Result<(), RecordError> {
        let given_up = Journal {
            removed: Vec::new(),
            added: Vec::new(),
            installed: None,
            user_jumps: BTreeMap::new(),
            ..journal.clone()
        };
        self.write_journal(&given_up)
            .inspect_err(|_| drop(file::remove(&self.folder.join("pending.new"))))
    }

    /// Commits the change to the record, once the kernel has it.
    ///
    /// # Errors
    /// If a file cannot be changed; the journal stays then, and the next call completes the change
    /// or rolls it back.
    pub(crate) fn commit_change(
        &self,
        journal: &Journal,
        removed: &[Record],
        added: &[Record],
    ) -> Result<(), RecordError> {
        let ruleset = journal.ruleset;
        for record in removed {
            self.remove_index_files(ruleset, record, added)?;
        }
        self.finish_files(journal, Recovery::RollForward)?;
        self.clear_journal()
    }

    /// Restores the records as they were before a change that the kernel refused. The journal stays
    /// until [`Store::clear_journal`], because a part of the change may have been made.
    pub(crate) fn roll_back(&self, journal: &Journal, removed: &[Record], added: &[Record]) -> Result<(), RecordError> {
        for record in added {
            self.remove_index_files(journal.ruleset, record, removed)?;
        }
        self.finish_files(journal, Recovery::RollBack)
    }

    /// The journal of a call that died before its change was complete.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn journal(&self) -> Result<Option<Journal>, RecordError> {
        if !self.has_name("pending")? {
            return Ok(None);
        }
        absent_is_none(file::read_json(&self.folder.join("pending")))
    }

    /// Makes the record consistent after a call that died: completes the change or rolls it back,
    /// as the journal says. The rules in the kernel are unknown then and have to be rebuilt before
    /// [`Store::clear_journal`] is called.
    ///
    /// # Errors
    /// If a file cannot be changed, or a record cannot be read.
    pub fn recover(&self, journal: &Journal) -> Result<(), RecordError> {
        self.finish_files(journal, journal.recovery)?;
        if let Some(installed) = journal.installed {
            self.set_installed(journal.ruleset, installed)?;
        }
        self.reindex(journal.ruleset)
    }

    /// Commits a change that wrote every rule of the ruleset again, and makes the index again: that
    /// of an older version may have other folders.
    ///
    /// # Errors
    /// If a file cannot be changed, or a record cannot be read; the journal stays then.
    pub(crate) fn commit_rebuild(&self, journal: &Journal) -> Result<(), RecordError> {
        self.finish_files(journal, Recovery::RollForward)?;
        self.reindex(journal.ruleset)?;
        self.clear_journal()
    }

    fn reindex(&self, ruleset: Ruleset) -> Result<(), RecordError> {
        self.invalidate();
        let RecordList { records, unreadable } = self.read_all(ruleset)?;
        let unreadable: BTreeSet<_> = unreadable.iter().map(|(id, _)| id).collect();
        match unreadable.is_empty() {
            true => file::remove_tree(&self.nodes_folder(ruleset))?,
            // What they need is known from these files only.
            false => keep_index_files_of(&unreadable, &self.nodes_folder(ruleset))?,
        }
        records
            .iter()
            .try_for_each(|record| self.add_index_files(ruleset, record))
    }

    /// Removes the journal.
    pub(crate) fn clear_journal(&self) -> Result<(), RecordError> {
        let removed = file::remove(&self.folder.join("pending"));
        self.removed("pending", removed)
    }

    fn finish_files(&self, journal: &Journal, recovery: Recovery) -> Result<(), RecordError> {
        let finished = self.try_finish_files(journal, recovery);
        match recovery {
            Recovery::RollForward => {
                self.records_changed(journal.ruleset, [&journal.removed, &journal.added], finished)
            }
            Recovery::RollBack => {
                self.invalidate();
                finished
            }
        }
    }

    fn try_finish_files(&self, journal: &Journal, recovery: Recovery) -> Result<(), RecordError> {
        let ruleset = journal.ruleset;
        match recovery {
            Recovery::RollForward => {
                for id in journal.removed.iter().filter(|id| !journal.added.contains(id)) {
                    file::remove(&self.tunnel_file(ruleset, id))?;
                }
                for id in &journal.added {
                    // Absent if an earlier recovery, which died, has renamed it.
                    let renamed = file::rename(&self.new_file(ruleset, id), &self.tunnel_file(ruleset, id));
                    absent_is_none(renamed)?;
                }
            }
            Recovery::RollBack => {
                for id in &journal.added {
                    file::remove(&self.new_file(ruleset, id))?;
                    // Present if a call died while it committed. A record that replaced another one
                    // stays, because the old one is lost.
                    if !journal.removed.contains(id) {
                        file::remove(&self.tunnel_file(ruleset, id))?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Makes a record's files in the index, under `nodes`.
    pub(super) fn add_index_files(&self, ruleset: Ruleset, record: &Record) -> Result<(), RecordError> {
        for path in self.index_files(ruleset, record) {
            let is_parent_there = path.parent().is_none_or(|folder| !self.was_absent(folder));
            match is_parent_there.then(|| file::create_empty(&path)) {
                Some(Err(error)) if !error.is_absence() => return Err(error),
                Some(Ok(())) => {}
                Some(Err(_)) | None => {
                    make_parent(&path, &self.ruleset_folder(ruleset))?;
                    file::create_empty(&path)?;
                }
            }
        }
        Ok(())
    }

    /// Removes a record's files from the index, except those that a record with the same id in
    /// `stays` needs, and removes the folders that are empty then.
    pub(super) fn remove_index_files(
        &self,
        ruleset: Ruleset,
        record: &Record,
        stays: &[Record],
    ) -> Result<(), RecordError> {
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

/// Removes the files of the index but those of these records.
fn keep_index_files_of(ids: &BTreeSet<&TunnelId>, folder: &Path) -> Result<(), RecordError> {
    for name in file::file_names(folder)? {
        let name = name?;
        let path = folder.join(&name);
        if path.is_dir() {
            keep_index_files_of(ids, &path)?;
            file::remove_if_empty(&path)?;
        } else if member_id(&name).is_none_or(|id| !ids.contains(&id)) {
            file::remove(&path)?;
        }
    }
    Ok(())
}

/// Makes the folder of a file of the index, below `top`, which exists. Some are nested:
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
