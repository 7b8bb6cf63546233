//! Downs that could not be executed: what a call leaves that got neither the lock nor the space, or
//! whose change was refused.
//!
//! strongSwan ignores how its hook ended and never calls again, so such a `down` would be
//! forgotten. It becomes a note: empty files whose names hold the tunnel, in a folder that the
//! first `up` has made. On a full tmpfs an empty file takes no page. Whoever holds the lock next
//! executes the note, and looks for others once more when it has released the lock.

use super::error::RecordError;
use super::store::Store;
use super::{file, note};
use crate::updown_env::Tunnel;

/// The folder of notes, and of what is kept for a full file system.
const FOLDER: &str = "downs";

/// The files that are kept for a full file system: a removal deletes them and has room for a
/// journal entry. The first one has a page.
const SPARES: [&str; 4] = ["spare-0", "spare-1", "spare-2", "spare-3"];

/// The size of a page, in bytes.
const PAGE: usize = 4096;

/// With how many digits a note's number is written.
const DIGITS: usize = 10;

/// A `down` that is still to be executed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwedDown {
    /// The tunnel, as the call described it; nothing, if the note cannot be read, or is being
    /// written.
    pub tunnel: Option<Tunnel>,
    /// The names of its files, in their order.
    names: Vec<String>,
}

impl Store {
    /// Notes a `down` that is still to be executed. Needs no lock. Says whether there was anything
    /// to note it in: without a record there is nothing to remove.
    ///
    /// # Errors
    /// If it cannot be written: then nobody will ever execute it.
    pub fn owe(&self, tunnel: &Tunnel) -> Result<bool, RecordError> {
        // Nothing that others can change is written to.
        for folder in [&self.top, &self.folder, &self.folder.join(FOLDER)] {
            match file::check_folder(folder) {
                Err(error) if error.is_absence() && folder != &self.folder.join(FOLDER) => return Ok(false),
                // The record of an older version has none.
                Err(error) if error.is_absence() => file::make_folder(folder)?,
                other => other?,
            }
        }
        let text = note::in_name(tunnel);
        match self.write_note(&text) {
            Err(error) if error.is_no_space() => {
                self.release_spares();
                self.write_note(&text)
            }
            other => other,
        }
        .map(|()| true)
    }

    fn write_note(&self, text: &str) -> Result<(), RecordError> {
        let folder = self.folder.join(FOLDER);
        let last = note::names(&folder)?
            .last()
            .and_then(|name| name.get(..DIGITS)?.parse::<u64>().ok());
        let number = format!("{:0DIGITS$}-{}", last.unwrap_or_default() + 1, std::process::id());
        note::write(&folder, &number, text)
    }

    /// The downs that are still to be executed, in the order in which they were called.
    ///
    /// # Errors
    /// If the folder cannot be listed.
    pub fn owed(&self) -> Result<Vec<OwedDown>, RecordError> {
        let notes = note::read(&self.folder.join(FOLDER))?.into_iter();
        let owed = notes.map(|note| OwedDown {
            tunnel: note.text.and_then(|text| serde_json::from_str(&text).ok()),
            names: note.names,
        });
        Ok(owed.collect())
    }

    /// Whether a `down` is still to be executed.
    ///
    /// # Errors
    /// If the folder cannot be listed.
    pub fn owes(&self) -> Result<bool, RecordError> {
        Ok(!note::names(&self.folder.join(FOLDER))?.is_empty())
    }

    /// Forgets a `down` that has been executed.
    ///
    /// # Errors
    /// If a file cannot be removed; it will be executed once more.
    pub fn settle(&self, owed: &OwedDown) -> Result<(), RecordError> {
        let mut names = owed.names.iter();
        names.try_for_each(|name| file::remove(&self.folder.join(FOLDER).join(name)))
    }

    /// Forgets all of them, since nothing is installed any more.
    ///
    /// # Errors
    /// If the folder cannot be removed.
    pub fn settle_all(&self) -> Result<(), RecordError> {
        file::remove_tree(&self.folder.join(FOLDER))
    }

    /// Makes the folder of notes beforehand, and what is kept for a full file system. An `up` goes
    /// on without the latter.
    pub(super) fn prepare_for_downs(&self) -> Result<(), RecordError> {
        let folder = self.folder.join(FOLDER);
        if folder.join(SPARES[0]).exists() {
            return Ok(());
        }
        file::make_folder(&folder)?;
        let kept = SPARES
            .iter()
            .try_for_each(|name| file::write_bytes(&folder.join(name), b""));
        let kept = kept.and_then(|()| file::write_bytes(&folder.join(SPARES[0]), &[b' '; PAGE]));
        if kept.is_err() {
            self.release_spares();
        }
        Ok(())
    }

    /// Deletes what is kept for a full file system. Says whether there was something.
    pub(crate) fn release_spares(&self) -> bool {
        let folder = self.folder.join(FOLDER);
        let is_kept = folder.join(SPARES[0]).exists();
        for name in SPARES {
            let _ = file::remove(&folder.join(name));
        }
        is_kept
    }
}
