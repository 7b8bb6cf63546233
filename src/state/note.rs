//! Text in the names of empty files, which a full file system can still create.
//!
//! On a full tmpfs an empty file takes no page.

use std::path::{Path, PathBuf};

use serde::Serialize;

use super::error::RecordError;
use super::file;

/// How much of a text one name holds, in bytes: a name has 255 at most (`NAME_MAX`), and the
/// numbers in front take up to 40.
const PART: usize = 210;

/// A text in the names of files.
pub(super) struct NameNote {
    /// The text; nothing if it is not whole: it is being written, or could not be.
    pub(super) text: Option<String>,
    /// The names of its files, in their order.
    pub(super) names: Vec<String>,
}

/// The name of a part, `NOTE.PART-PARTS.TEXT`. The note's own name begins with a digit.
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

/// A value as text that can be a part of a file's name.
pub(super) fn encode_for_name(value: &impl Serialize) -> String {
    // A JSON string may write any character by its number.
    serde_json::to_string(value).unwrap_or_default().replace('/', "\\u002f")
}

/// Writes a note, whole or not at all.
pub(super) fn write_note(folder: &Path, note: &str, text: &str) -> Result<(), RecordError> {
    let parts = split_into_parts(text);
    let mut written: Vec<PathBuf> = Vec::new();
    for (part, text) in (1..).zip(&parts) {
        let path = folder.join(format!("{note}.{part}-{}.{text}", parts.len()));
        if let Err(error) = file::create_empty(&path) {
            for path in written {
                let _ = file::remove(&path);
            }
            return Err(error.with_folder(folder.to_owned()));
        }
        written.push(path);
    }
    Ok(())
}

/// The notes in a folder, in the order of their names.
pub(super) fn read_notes(folder: &Path) -> Result<Vec<NameNote>, RecordError> {
    let names = note_names(folder)?;
    let parts: Vec<_> = names
        .iter()
        .filter_map(|name| Some((name, Part::parse(name)?)))
        .collect();
    let notes = parts.chunk_by(|(_, one), (_, other)| one.note == other.note);
    let notes = notes.map(|parts| {
        let is_whole = parts.iter().all(|(_, part)| part.parts == parts.len());
        let text: String = parts.iter().map(|(_, part)| part.text).collect();
        NameNote {
            text: is_whole.then_some(text),
            names: parts.iter().map(|(name, _)| (*name).clone()).collect(),
        }
    });
    Ok(notes.collect())
}

/// The names of notes' files, note by note and part by part.
pub(super) fn note_names(folder: &Path) -> Result<Vec<String>, RecordError> {
    let mut names: Vec<_> = file::file_names(folder)?.collect::<Result<_, _>>()?;
    names.retain(|name| Part::parse(name).is_some());
    names.sort_by_cached_key(|name| Part::parse(name).map(|part| (part.note.to_owned(), part.part)));
    Ok(names)
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
