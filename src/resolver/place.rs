//! The file `resolv.conf`: where it really is, and how it is replaced.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, fchown};
use std::path::{Path, PathBuf};

use nix::fcntl::{FallocateFlags, fallocate};
use nix::libc;

use super::trouble::Trouble;

/// The file, below the root.
const RESOLV_CONF: &str = "etc/resolv.conf";

/// How many symbolic links in a row are followed, as the kernel does.
const LINKS: usize = 40;

/// Nobody's `resolv.conf` comes near this size, in bytes.
const LARGEST: u64 = 1 << 20;

/// What is at `/etc/resolv.conf`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A file that can be changed, here, with no symbolic link on the way.
    Plain(PathBuf),
    /// A file that systemd-resolved writes and nobody else should.
    Resolved(PathBuf),
    /// Nothing.
    Missing,
}

/// Finds the file. A symbolic link is followed: what is read is what it leads to, and what is changed too.
///
/// # Errors
/// If a link cannot be read, or leads nowhere.
pub fn locate(root: &Path) -> Result<Place, Trouble> {
    let named = root.join(RESOLV_CONF);
    let mut path = named.clone();
    for _ in 0..LINKS {
        match fs::symlink_metadata(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Place::Missing),
            Err(error) => return Err(Trouble::io(&path, "look at it", error)),
            Ok(metadata) if metadata.is_symlink() => {}
            Ok(_) => return Ok(kind(root, &path)),
        }
        let target = fs::read_link(&path).map_err(|error| Trouble::io(&path, "read the link", error))?;
        path = match target.strip_prefix("/") {
            Ok(below) => root.join(below),
            Err(_) => path.parent().unwrap_or(root).join(target),
        };
    }
    Err(Trouble::Unfit {
        path: named,
        what: "a circle of symbolic links",
    })
}

/// The files of systemd-resolved: two that it writes, and one that comes with it and never changes.
fn kind(root: &Path, path: &Path) -> Place {
    let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let root = root.canonicalize().unwrap_or_else(|_| root.to_owned());
    let is_resolveds = path.parent() == Some(&root.join("run/systemd/resolve"))
        || path == root.join("usr/lib/systemd/resolv.conf")
        || path == root.join("lib/systemd/resolv.conf");
    match is_resolveds {
        true => Place::Resolved(path),
        false => Place::Plain(path),
    }
}

/// Whether systemd-resolved listens.
#[must_use]
pub fn resolved_listens(root: &Path) -> bool {
    root.join("run/systemd/resolve/io.systemd.Resolve").exists()
}

/// Reads a file whole.
///
/// # Errors
/// If it cannot be read, or is no plain file, or beyond all measure.
pub fn read(path: &Path) -> Result<Vec<u8>, Trouble> {
    let failed = |error| Trouble::io(path, "read", error);
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(path)
        .map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    let unfit = |what| Trouble::Unfit {
        path: path.to_owned(),
        what,
    };
    if !metadata.is_file() {
        return Err(unfit("not a file"));
    }
    if metadata.len() > LARGEST {
        return Err(unfit("larger than 1 MiB"));
    }
    let mut content = Vec::new();
    file.take(LARGEST).read_to_end(&mut content).map_err(failed)?;
    Ok(content)
}

/// Puts other content into a file: all of it, or none.
///
/// A new file takes its place, with its mode and owner, so that nobody reads a half-written one. Where that is not possible (in a
/// container the file is a mount of its own; its folder may be read-only; Pluto's hooks may not give files away) the file itself is
/// written. One that its owner may not write is left alone: somebody wants it so.
///
/// # Errors
/// If it cannot be written; it is whole then, and as it was.
pub fn replace(path: &Path, content: &[u8]) -> Result<(), Trouble> {
    let failed = |error| Trouble::io(path, "write", error);
    let metadata = fs::symlink_metadata(path).map_err(failed)?;
    if metadata.mode() & 0o200 == 0 {
        return Err(Trouble::Unfit {
            path: path.to_owned(),
            what: "read-only by its mode",
        });
    }
    let Some(name) = path.file_name() else {
        return Err(failed(io::ErrorKind::InvalidFilename.into()));
    };
    let mut hidden = std::ffi::OsString::from(".");
    hidden.push(name);
    hidden.push(".pluto-updown");
    let beside = path.with_file_name(hidden);
    let replaced = write_beside(&beside, &metadata, content).and_then(|()| fs::rename(&beside, path));
    if replaced.is_err() {
        let _ = fs::remove_file(&beside);
    }
    match replaced {
        Err(error) if is_about_the_folder(&error) => overwrite(path, content).map_err(failed),
        other => other.map_err(failed),
    }
}

/// Whether the file itself may be written all the same.
fn is_about_the_folder(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EBUSY | libc::EXDEV | libc::EROFS | libc::EACCES | libc::EPERM)
    )
}

fn write_beside(beside: &Path, like: &Metadata, content: &[u8]) -> io::Result<()> {
    match fs::remove_file(beside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Err(_) | Ok(()) => {}
    }
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(beside)?;
    let own = file.metadata()?;
    if (own.uid(), own.gid()) != (like.uid(), like.gid()) {
        fchown(&file, Some(like.uid()), Some(like.gid()))?;
    }
    file.set_permissions(fs::Permissions::from_mode(like.mode() & 0o7777))?;
    file.write_all(content)
}

/// Writes into the file itself. The room is taken first: on a full file system nothing is changed.
fn overwrite(path: &Path, content: &[u8]) -> io::Result<()> {
    let old = fs::read(path)?;
    let mut file = OpenOptions::new()
        .write(true)
        .custom_flags(libc::O_NOFOLLOW)
        .open(path)?;
    let length = i64::try_from(content.len()).unwrap_or(i64::MAX);
    match fallocate(&file, FallocateFlags::FALLOC_FL_KEEP_SIZE, 0, length.max(1)) {
        Ok(()) | Err(nix::Error::EOPNOTSUPP) => {}
        Err(error) => return Err(error.into()),
    }
    let written = fill(&mut file, content);
    if written.is_err() {
        // As good as it goes: the original is on record as well.
        let _ = fill(&mut file, &old);
    }
    written
}

fn fill(file: &mut File, content: &[u8]) -> io::Result<()> {
    io::Seek::rewind(file)?;
    file.write_all(content)?;
    file.set_len(content.len() as u64)
}
