//! Files that only we can have written.

use std::fs::{self, DirBuilder, File, Metadata, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use nix::libc;
use nix::unistd::geteuid;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::error::RecordError;

/// The largest file that is written and read, in bytes. What is larger is refused before anything
/// changes: thousands of services in each of a tunnel's chains, which no kernel would walk for a
/// packet either.
const LARGEST: u64 = 1 << 24;

/// How many times a folder is made again that another call removes in between. Each time, another
/// call has removed its last tunnel.
const RACES: usize = 1000;

/// Repeats an operation that a signal interrupted. The standard library does so only for some
/// system calls, and on some file systems every one can be.
pub(crate) fn retried<T>(mut change: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match change() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}

/// Makes a folder unless it exists, and checks that only this user can write to it.
pub(crate) fn make_folder(path: &Path) -> Result<(), RecordError> {
    for _ in 0..RACES {
        match retried(|| DirBuilder::new().mode(0o700).create(path)) {
            Ok(()) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(RecordError::io(path, "create the directory")(error)),
        }
        match check_folder(path) {
            Err(error) if error.is_absence() => {}
            other => return other,
        }
    }
    check_folder(path)
}

/// The same for a folder that is nearly always there.
pub(crate) fn ensure_folder(path: &Path) -> Result<(), RecordError> {
    match check_folder(path) {
        Err(error) if error.is_absence() => make_folder(path),
        other => other,
    }
}

/// Checks that a path is a folder that this user owns and only this user can write to.
pub(crate) fn check_folder(path: &Path) -> Result<(), RecordError> {
    let metadata = retried(|| fs::symlink_metadata(path)).map_err(RecordError::io(path, "examine it"))?;
    if metadata.is_symlink() {
        return Err(untrusted(path, "a symbolic link", "a directory"));
    }
    if !metadata.is_dir() {
        return Err(untrusted(path, "not a directory", "a directory"));
    }
    check_owner(path, &metadata)
}

fn check_owner(path: &Path, metadata: &Metadata) -> Result<(), RecordError> {
    if metadata.uid() != geteuid().as_raw() {
        return Err(untrusted(
            path,
            "owned by another user",
            "the user that runs this (run it as root)",
        ));
    }
    if metadata.mode() & 0o022 != 0 {
        return Err(untrusted(path, "writable by others", "mode 0700 or 0600"));
    }
    Ok(())
}

fn untrusted(path: &Path, what: &'static str, expected: &'static str) -> RecordError {
    RecordError::Untrusted {
        path: path.to_owned(),
        what,
        expected,
    }
}

/// Reads a file of the record.
pub(crate) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T, RecordError> {
    parse(path, &read_bytes(path)?)
}

/// Reads the bytes of a file of the record.
///
/// Follows no symbolic link, and does not block if the file is a named pipe.
pub(crate) fn read_bytes(path: &Path) -> Result<Vec<u8>, RecordError> {
    let mut bytes = Vec::new();
    read_into(path, &mut bytes)?;
    Ok(bytes)
}

/// Like [`read_bytes`], into a buffer that is used again: that saves an allocation for each of ten
/// thousand files.
pub(crate) fn read_into(path: &Path, bytes: &mut Vec<u8>) -> Result<(), RecordError> {
    let opened = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(path);
    let file = match opened {
        Err(error) if error.raw_os_error() == Some(libc::ELOOP) => {
            return Err(untrusted(path, "a symbolic link", "a file"));
        }
        other => other.map_err(RecordError::io(path, "read"))?,
    };
    let metadata = file.metadata().map_err(RecordError::io(path, "examine it"))?;
    if !metadata.is_file() {
        return Err(untrusted(path, "not a file", "a file"));
    }
    check_owner(path, &metadata)?;
    // Files are replaced and never grow. The buffer has the size of the file, so that one read is
    // enough, without another one for the end; a file that is too large is read until it can be
    // refused.
    let length = metadata.len().min(LARGEST + 1);
    bytes.clear();
    bytes.reserve(usize::try_from(length).unwrap_or_default());
    let read = file.take(length).read_to_end(bytes);
    read.map_err(RecordError::io(path, "read"))?;
    check_size(path, bytes)
}

/// Refuses a file that is too large to be read again.
fn check_size(path: &Path, content: &[u8]) -> Result<(), RecordError> {
    match u64::try_from(content.len()) {
        Ok(..=LARGEST) => Ok(()),
        Ok(_) | Err(_) => Err(RecordError::TooLarge {
            path: path.to_owned(),
            size: content.len(),
            largest: LARGEST,
        }),
    }
}

/// The field that every file has.
#[derive(serde::Deserialize)]
struct Format {
    format: u32,
}

fn parse<T: DeserializeOwned>(path: &Path, bytes: &[u8]) -> Result<T, RecordError> {
    parse_by(path, bytes, |bytes| serde_json::from_slice(bytes))
}

/// Parses a file with `read`, unless a newer version of this program wrote it.
pub(crate) fn parse_by<T>(
    path: &Path,
    bytes: &[u8],
    read: impl FnOnce(&[u8]) -> serde_json::Result<T>,
) -> Result<T, RecordError> {
    let malformed = |error: serde_json::Error| RecordError::Malformed {
        path: path.to_owned(),
        reason: error.to_string(),
    };
    let Format { format: found } = serde_json::from_slice(bytes).map_err(malformed)?;
    let known = super::tunnel::FORMAT;
    if found > known {
        return Err(RecordError::Newer {
            path: path.to_owned(),
            found,
            known,
        });
    }
    read(bytes).map_err(malformed)
}

/// Writes a new file as compact JSON. A file that an earlier call left there is replaced.
pub(crate) fn write_json<T: Serialize>(path: &Path, content: &T) -> Result<(), RecordError> {
    let mut text = serde_json::to_vec(content).map_err(|error| RecordError::Malformed {
        path: path.to_owned(),
        reason: error.to_string(),
    })?;
    text.push(b'\n');
    check_size(path, &text)?;
    write_bytes(path, &text)
}

/// Writes bytes to a new file.
pub(crate) fn write_bytes(path: &Path, content: &[u8]) -> Result<(), RecordError> {
    create_new(path)?
        .write_all(content)
        .map_err(RecordError::io(path, "write"))
}

fn create_new(path: &Path) -> Result<File, RecordError> {
    let new = || OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    match new() {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            remove(path)?;
            new().map_err(RecordError::io(path, "make"))
        }
        other => other.map_err(RecordError::io(path, "make")),
    }
}

/// Makes an empty file, unless it exists.
pub(crate) fn create_empty(path: &Path) -> Result<(), RecordError> {
    let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    match made {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other.map(drop).map_err(RecordError::io(path, "make")),
    }
}

/// Makes an empty file in a folder, and the folder if it is absent. Only this user can write to the
/// folder's parent.
pub(crate) fn create_empty_in(folder: &Path, name: &str) -> Result<(), RecordError> {
    let path = folder.join(name);
    match create_empty(&path) {
        Err(error) if error.is_absence() => {
            make_folder(folder)?;
            create_empty(&path)
        }
        other => other,
    }
}

/// Renames a file, replacing the target if it exists.
pub(crate) fn rename(from: &Path, to: &Path) -> Result<(), RecordError> {
    retried(|| fs::rename(from, to)).map_err(RecordError::io(from, "rename"))
}

/// Removes a file, if it exists.
pub(crate) fn remove(path: &Path) -> Result<(), RecordError> {
    absent_is_fine(retried(|| fs::remove_file(path))).map_err(RecordError::io(path, "remove"))
}

/// Removes a folder and its content, if it exists. Follows no symbolic link.
pub(crate) fn remove_tree(path: &Path) -> Result<(), RecordError> {
    absent_is_fine(retried(|| fs::remove_dir_all(path))).map_err(RecordError::io(path, "remove"))
}

/// Removes a folder if it exists and is empty.
pub(crate) fn remove_if_empty(path: &Path) -> Result<(), RecordError> {
    match retried(|| fs::remove_dir(path)) {
        Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => Ok(()),
        other => absent_is_fine(other).map_err(RecordError::io(path, "remove")),
    }
}

fn absent_is_fine(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// The names in a folder, none if it does not exist. Names that are not UTF-8 are skipped: this
/// program makes none.
///
/// An error in the middle of the list is returned, not taken for its end: shared chains that other
/// tunnels need would be removed otherwise.
pub(crate) fn file_names(
    path: &Path,
) -> Result<impl Iterator<Item = Result<String, RecordError>> + use<>, RecordError> {
    let entries = match retried(|| fs::read_dir(path)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        other => Some(other.map_err(RecordError::io(path, "list"))?),
    };
    let folder = path.to_owned();
    let name = move |entry: io::Result<fs::DirEntry>| match entry {
        Ok(entry) => entry.file_name().into_string().ok().map(Ok),
        Err(error) => Some(Err(RecordError::io(&folder, "list")(error))),
    };
    Ok(entries.into_iter().flatten().filter_map(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_not_be_read_back_is_not_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("record");
        let largest = usize::try_from(LARGEST).unwrap();
        // Quotes, and the newline at the end.
        let fits = "x".repeat(largest - 3);
        write_json(&path, &fits).unwrap();
        assert_eq!(read_bytes(&path).unwrap().len(), largest);
        let error = write_json(&path, &(fits + "x")).unwrap_err().to_string();
        assert!(error.ends_with("16777217 bytes, expected 16777216 at most"), "{error}");
        assert_eq!(read_bytes(&path).unwrap().len(), largest);
    }
}
