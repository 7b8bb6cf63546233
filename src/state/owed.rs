//! Owed downs: `down` calls that could not be executed, for want of the lock or of disk space, or
//! because the change was refused.
//!
//! strongSwan ignores its hook's exit code and never calls again, so such a `down` would be lost.
//! It is noted in empty files whose names encode the tunnel, in a folder that the first `up` has
//! made: on a full tmpfs an empty file needs no page. The next call that holds the lock executes
//! the note, and looks for further notes once it has released the lock.

use super::error::RecordError;
use super::store::Store;
use super::{file, note};
use crate::daemon::Tunnel;

/// The folder of the notes and of the spare files.
const FOLDER: &str = "downs";

/// Spare files for a full file system: a removal deletes them, and so has space for the journal.
/// The first one has a page of content.
const SPARES: [&str; 4] = ["spare-0", "spare-1", "spare-2", "spare-3"];

/// The size of a page, in bytes.
const PAGE: usize = 4096;

/// The number of digits in a note's number.
const DIGITS: usize = 10;

/// A `down` that is yet to be executed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OwedDown {
    /// The tunnel, as the call described it; `None` if the note cannot be parsed, or is being
    /// written.
    pub tunnel: Option<Tunnel>,
    /// The names of its files, in order.
    names: Vec<String>,
}

impl Store {
    /// Notes a `down` that is yet to be executed. Needs no lock. Returns false if there is no
    /// record: then there is nothing to remove.
    ///
    /// # Errors
    /// If the note cannot be written: then the `down` is lost.
    pub(crate) fn note_owed_down(&self, tunnel: &Tunnel) -> Result<bool, RecordError> {
        // Writes only to folders that no other user can change.
        for folder in [&self.top, &self.folder, &self.folder.join(FOLDER)] {
            match file::check_folder(folder) {
                Err(error) if error.is_absence() && folder != &self.folder.join(FOLDER) => return Ok(false),
                // A record of an older version has no such folder.
                Err(error) if error.is_absence() => file::make_folder(folder)?,
                other => other?,
            }
        }
        let text = note::encode_for_name(tunnel);
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
        let last = note::note_names(&folder)?
            .last()
            .and_then(|name| name.get(..DIGITS)?.parse::<u64>().ok());
        let number = format!("{:0DIGITS$}-{}", last.unwrap_or_default() + 1, std::process::id());
        note::write_note(&folder, &number, text)
    }

    /// The downs that are yet to be executed, in the order of their calls.
    pub(crate) fn owed_downs(&self) -> Result<Vec<OwedDown>, RecordError> {
        let notes = note::read_notes(&self.folder.join(FOLDER))?.into_iter();
        let owed = notes.map(|note| OwedDown {
            tunnel: note.text.and_then(|text| serde_json::from_str(&text).ok()),
            names: note.names,
        });
        Ok(owed.collect())
    }

    /// Whether a `down` is yet to be executed.
    pub(crate) fn has_owed_downs(&self) -> Result<bool, RecordError> {
        Ok(!note::note_names(&self.folder.join(FOLDER))?.is_empty())
    }

    /// Deletes the note of a `down` that has been executed.
    ///
    /// # Errors
    /// If a file cannot be removed; the `down` is executed once more then.
    pub(crate) fn drop_owed_down(&self, owed: &OwedDown) -> Result<(), RecordError> {
        let mut names = owed.names.iter();
        names.try_for_each(|name| file::remove(&self.folder.join(FOLDER).join(name)))
    }

    /// Deletes all notes, because no tunnel is installed.
    pub(crate) fn drop_owed_downs(&self) -> Result<(), RecordError> {
        file::remove_tree(&self.folder.join(FOLDER))
    }

    /// Makes the folder of notes and the spare files. An `up` does without the spare files if they
    /// cannot be made.
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

    /// Deletes the spare files. Returns whether there were any.
    pub(crate) fn release_spares(&self) -> bool {
        let folder = self.folder.join(FOLDER);
        let is_kept = folder.join(SPARES[0]).exists();
        for name in SPARES {
            let _ = file::remove(&folder.join(name));
        }
        is_kept
    }
}
