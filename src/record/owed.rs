//! Downs that could not be executed: what a call leaves that got neither the lock nor the space, or
//! whose change was refused.
//!
//! strongSwan ignores how its hook ended and never calls again, so such a `down` would be
//! forgotten. It becomes a note: empty files whose names hold the tunnel, in a folder that the
//! first `up` has made. On a full tmpfs an empty file takes no page. Whoever holds the lock next
//! executes the note, and looks for others once more when it has released the lock.

use std::path::PathBuf;

use super::error::RecordError;
use super::file;
use super::store::Store;
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

/// How much of a tunnel one name holds, in bytes: a name has 255 at most (`NAME_MAX`), and the
/// numbers in front take up to 40.
const PART: usize = 210;

/// A `down` that is still to be executed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwedDown {
    /// The tunnel, as the call described it; nothing, if the note cannot be read, or is being
    /// written.
    pub tunnel: Option<Tunnel>,
    /// The names of its files, in their order.
    names: Vec<String>,
}

/// The name of a part, `NUMBER-PID.PART-PARTS.TEXT`.
struct Part<'a> {
    note: &'a str,
    part: usize,
    parts: usize,
    text: &'a str,
}

impl<'a> Part<'a> {
    fn parse(name: &'a str) -> Option<Self> {
        let (note, rest) = name.split_once('.')?;
        let (number, text) = rest.split_once('.')?;
        let (part, parts) = number.split_once('-')?;
        note.starts_with(|first: char| first.is_ascii_digit()).then_some(())?;
        Some(Self {
            note,
            part: part.parse().ok()?,
            parts: parts.parse().ok()?,
            text,
        })
    }
}

impl Store {
    /// Notes a `down` that is still to be executed. Needs no lock. Says whether there was anything
    /// to note it in: without a record there is nothing to remove.
    ///
    /// # Errors
    /// If it cannot be written: then nobody will ever execute it.
    pub fn note_owed_down(&self, tunnel: &Tunnel) -> Result<bool, RecordError> {
        // Nothing that others can change is written to.
        for folder in [&self.top, &self.folder, &self.folder.join(FOLDER)] {
            match file::check_folder(folder) {
                Err(error) if error.is_absence() && folder != &self.folder.join(FOLDER) => return Ok(false),
                // The record of an older version has none.
                Err(error) if error.is_absence() => file::make_folder(folder)?,
                other => other?,
            }
        }
        let text = encode_for_name(tunnel);
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
        let parts = split_into_parts(text);
        let last = self
            .owed_names()?
            .last()
            .and_then(|name| name.get(..DIGITS)?.parse::<u64>().ok());
        let note = format!("{:0DIGITS$}-{}", last.unwrap_or_default() + 1, std::process::id());
        let mut written: Vec<PathBuf> = Vec::new();
        for (part, text) in (1..).zip(&parts) {
            let path = self
                .folder
                .join(FOLDER)
                .join(format!("{note}.{part}-{}.{text}", parts.len()));
            if let Err(error) = file::create_empty(&path) {
                for path in written {
                    let _ = file::remove(&path);
                }
                return Err(error.with_folder(self.folder.join(FOLDER)));
            }
            written.push(path);
        }
        Ok(())
    }

    /// The downs that are still to be executed, in the order in which they were called.
    ///
    /// # Errors
    /// If the folder cannot be listed.
    pub fn owed_downs(&self) -> Result<Vec<OwedDown>, RecordError> {
        let names = self.owed_names()?;
        let parts: Vec<_> = names
            .iter()
            .filter_map(|name| Some((name, Part::parse(name)?)))
            .collect();
        let notes = parts.chunk_by(|(_, one), (_, other)| one.note == other.note);
        let owed = notes.map(|parts| {
            let is_whole = parts.iter().all(|(_, part)| part.parts == parts.len());
            let text: String = parts.iter().map(|(_, part)| part.text).collect();
            OwedDown {
                tunnel: serde_json::from_str(&text).ok().filter(|_| is_whole),
                names: parts.iter().map(|(name, _)| (*name).clone()).collect(),
            }
        });
        Ok(owed.collect())
    }

    /// Whether a `down` is still to be executed.
    ///
    /// # Errors
    /// If the folder cannot be listed.
    pub fn has_owed_downs(&self) -> Result<bool, RecordError> {
        Ok(!self.owed_names()?.is_empty())
    }

    /// Forgets a `down` that has been executed.
    ///
    /// # Errors
    /// If a file cannot be removed; it will be executed once more.
    pub fn drop_owed_down(&self, owed: &OwedDown) -> Result<(), RecordError> {
        let mut names = owed.names.iter();
        names.try_for_each(|name| file::remove(&self.folder.join(FOLDER).join(name)))
    }

    /// Forgets all of them, since nothing is installed any more.
    ///
    /// # Errors
    /// If the folder cannot be removed.
    pub fn drop_owed_downs(&self) -> Result<(), RecordError> {
        file::remove_tree(&self.folder.join(FOLDER))
    }

    /// The names of notes' files, note by note and part by part.
    fn owed_names(&self) -> Result<Vec<String>, RecordError> {
        let mut names: Vec<_> = file::file_names(&self.folder.join(FOLDER))?.collect::<Result<_, _>>()?;
        names.retain(|name| Part::parse(name).is_some());
        names.sort_by_cached_key(|name| Part::parse(name).map(|part| (part.note.to_owned(), part.part)));
        Ok(names)
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

/// A tunnel as text that can be a part of a file's name.
fn encode_for_name(tunnel: &Tunnel) -> String {
    // A JSON string may write any character by its number.
    serde_json::to_string(tunnel)
        .unwrap_or_default()
        .replace('/', "\\u002f")
}

/// A text in parts, each short enough for a name and none cut within a character.
fn split_into_parts(text: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let end = (0..=PART.min(rest.len())).rev().find(|end| rest.is_char_boundary(*end));
        let (part, others) = rest.split_at(end.unwrap_or(rest.len()));
        parts.push(part);
        rest = others;
    }
    parts
}
