//! The file `resolv.conf`: where it really is, which one that is, and how it is written.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Seek as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use nix::libc;

use super::error::DnsError;
use super::record::FileIdentity;
use crate::sys::files::read_plain;

/// The file, below the root.
const RESOLV_CONF: &str = "etc/resolv.conf";

/// How many symbolic links in a row are followed, as the kernel does.
const LINKS: usize = 40;

/// The largest `resolv.conf` that is read, in bytes.
const LARGEST: u64 = 1 << 20;

/// What is at `/etc/resolv.conf`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ResolvConfKind {
    /// A file that can be changed, by its path without symbolic links.
    Plain(PathBuf),
    /// A file that only systemd-resolved may write.
    Resolved(PathBuf),
    /// Nothing.
    Missing,
}

/// Finds the file. A symbolic link is followed: what is read is what it leads to, and what is
/// changed too.
///
/// # Errors
/// If a link cannot be read, or leads nowhere.
pub(crate) fn locate(root: &Path) -> Result<ResolvConfKind, DnsError> {
    let named = root.join(RESOLV_CONF);
    let mut path = named.clone();
    for _ in 0..LINKS {
        match fs::symlink_metadata(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(ResolvConfKind::Missing),
            Err(error) => return Err(DnsError::io(&path, "examine it", error)),
            Ok(metadata) if metadata.is_symlink() => {}
            Ok(_) => return Ok(file_kind(root, &path)),
        }
        let target = fs::read_link(&path).map_err(|error| DnsError::io(&path, "read the link", error))?;
        path = match target.strip_prefix("/") {
            Ok(below) => root.join(below),
            Err(_) => path.parent().unwrap_or(root).join(target),
        };
    }
    Err(unfit(&named, "a loop of symbolic links"))
}

/// The files of systemd-resolved: two that it writes, and one that comes with it and never changes.
fn file_kind(root: &Path, path: &Path) -> ResolvConfKind {
    let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let root = root.canonicalize().unwrap_or_else(|_| root.to_owned());
    let is_resolveds = path.parent() == Some(&root.join("run/systemd/resolve"))
        || path == root.join("usr/lib/systemd/resolv.conf")
        || path == root.join("lib/systemd/resolv.conf");
    match is_resolveds {
        true => ResolvConfKind::Resolved(path),
        false => ResolvConfKind::Plain(path),
    }
}

/// Whether systemd-resolved listens.
#[must_use]
pub(crate) fn resolved_listens(root: &Path) -> bool {
    root.join("run/systemd/resolve/io.systemd.Resolve").exists()
}

/// Reads a file whole.
///
/// # Errors
/// If it cannot be read, or is no plain file, or beyond all measure.
pub(crate) fn read_resolv_conf(path: &Path) -> Result<Vec<u8>, DnsError> {
    read_plain(path, LARGEST).map_err(|error| match error.kind() == io::ErrorKind::FileTooLarge {
        true => unfit(path, "larger than 1 MiB"),
        false => DnsError::io(path, "read", error),
    })
}

/// Which file is at a path.
pub(crate) fn identify(path: &Path) -> Result<FileIdentity, DnsError> {
    let look = |path: &Path| fs::symlink_metadata(path).map_err(|error| DnsError::io(path, "examine it", error));
    let file = look(path)?;
    Ok(FileIdentity {
        device: file.dev(),
        inode: file.ino(),
        mount_namespace: mount_namespace()?,
    })
}

/// Whether a path leads to the file that was changed there. In the mount namespace where it was
/// changed it does, even if the file was replaced; in another one only if it is the same file.
pub(crate) fn leads_to(path: &Path, changed: FileIdentity) -> Result<bool, DnsError> {
    if mount_namespace()? == changed.mount_namespace {
        return Ok(true);
    }
    let is_it = |file: fs::Metadata| (file.dev(), file.ino()) == (changed.device, changed.inode);
    Ok(fs::symlink_metadata(path).is_ok_and(is_it))
}

fn mount_namespace() -> Result<u64, DnsError> {
    let path = Path::new("/proc/self/ns/mnt");
    let metadata = fs::metadata(path).map_err(|error| DnsError::io(path, "examine it", error))?;
    Ok(metadata.ino())
}

fn unfit(path: &Path, what: &'static str) -> DnsError {
    DnsError::Unfit {
        path: path.to_owned(),
        what,
    }
}

/// Overwrites a file's content.
///
/// It is written in place, as libreswan's script does it: owner, mode, label, access control lists
/// and attributes stay, links and mounts lead to it as before, and Pluto's hook may neither give a
/// file away nor read all of its attributes. What could be read meanwhile is a `resolv.conf` too:
/// see [`padded`]. A file that its owner may not write is left alone, because that is intended.
///
/// # Errors
/// If it cannot be written; the old content is restored then, if possible.
pub(crate) fn overwrite(path: &Path, content: &[u8]) -> Result<(), DnsError> {
    let failed = |error| DnsError::io(path, "write", error);
    let before = read_resolv_conf(path)?;
    let metadata = fs::symlink_metadata(path).map_err(failed)?;
    if metadata.mode() & 0o200 == 0 {
        return Err(unfit(path, "read-only by its mode"));
    }
    let mut file = OpenOptions::new()
        .write(true)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(path)
        .map_err(failed)?;
    let written = write_over(&mut file, &padded(content, before.len()), content.len());
    if written.is_err() {
        // A file system that is full takes this: the room is the file's own.
        let _ = write_over(&mut file, &before, before.len());
    }
    remove_leftover(path);
    written.map_err(failed)
}

/// The content padded with empty lines, so that it hides all of the longer content that it
/// overwrites until the file is truncated.
#[must_use]
pub(crate) fn padded(content: &[u8], length: usize) -> Vec<u8> {
    let mut padded = content.to_vec();
    padded.resize(content.len().max(length), b'\n');
    padded
}

fn write_over(file: &mut File, content: &[u8], length: usize) -> io::Result<()> {
    file.rewind()?;
    file.write_all(content)?;
    file.set_len(length as u64)
}

/// Older versions wrote a file beside it first, and a call that died left it there.
fn remove_leftover(path: &Path) {
    if let Some(name) = path.file_name() {
        let mut hidden = std::ffi::OsString::from(".");
        hidden.push(name);
        hidden.push(".pluto-updown");
        let _ = fs::remove_file(path.with_file_name(hidden));
    }
}
