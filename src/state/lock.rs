//! One change at a time.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::libc;

use super::error::RecordError;
use super::file::{check_folder, ensure_folder};

/// The longest pause between two tries to take the lock.
pub(crate) const LOCK_PAUSE: Duration = Duration::from_millis(10);

/// The lock of one network namespace's record, held until it is dropped.
#[derive(Debug)]
pub(crate) struct Lock {
    /// `Some` until it is dropped.
    held: Option<Flock<File>>,
}

/// `Flock`'s own `drop` panics if unlocking fails.
impl Drop for Lock {
    fn drop(&mut self) {
        let mut held = self.held.take();
        while let Some(lock) = held {
            held = match lock.unlock() {
                Err((lock, Errno::EINTR)) => Some(lock),
                // The end of this process releases it.
                Err((lock, _)) => {
                    std::mem::forget(lock);
                    None
                }
                Ok(_) => None,
            };
        }
    }
}

impl Lock {
    /// Takes the lock `top/NAMESPACE/lock`, and makes the missing folders. Waits until `deadline`
    /// at most.
    ///
    /// The last tunnel's `down` removes the file and the folders while it holds the lock. A call
    /// that waited for that file then holds a lock on a deleted file, and tries again.
    pub(crate) fn acquire(top: &Path, folder: &Path, deadline: Instant) -> Result<Self, RecordError> {
        let path = folder.join("lock");
        retry_until(&path, deadline, || {
            ensure_folder(top)?;
            // Another call has removed `top` with its last tunnel.
            match ensure_folder(folder) {
                Err(error) if error.is_absence() => return Ok(None),
                other => other?,
            }
            try_lock(&path)
        })
    }

    /// Takes the lock `folder/lock` if there is such a folder, and makes none. Waits until
    /// `deadline` at most.
    pub(crate) fn acquire_existing(folder: &Path, deadline: Instant) -> Result<Option<Self>, RecordError> {
        let path = folder.join("lock");
        retry_until(&path, deadline, || match check_folder(folder) {
            Err(error) if error.is_absence() => Ok(Some(None)),
            other => other.and_then(|()| Ok(try_lock(&path)?.map(Some))),
        })
    }
}

/// Repeats `attempt` until it returns something, or until `deadline`.
fn retry_until<T>(
    path: &Path,
    deadline: Instant,
    mut attempt: impl FnMut() -> Result<Option<T>, RecordError>,
) -> Result<T, RecordError> {
    let begun = Instant::now();
    let mut pause = Duration::from_millis(1);
    loop {
        if let Some(lock) = attempt()? {
            return Ok(lock);
        }
        if Instant::now() >= deadline {
            return Err(RecordError::Locked {
                path: path.to_owned(),
                waited: begun.elapsed().as_millis(),
            });
        }
        sleep(pause.min(deadline.saturating_duration_since(Instant::now())));
        pause = (pause * 2).min(LOCK_PAUSE);
    }
}

impl Lock {
    /// The locked file. A program that inherits it shares the lock.
    pub(crate) fn file(&self) -> Option<&File> {
        self.held.as_deref()
    }
}

fn try_lock(path: &Path) -> Result<Option<Lock>, RecordError> {
    let file = match open_lock_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other.map_err(RecordError::io(path, "open"))?,
    };
    let lock = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(held) => Lock { held: Some(held) },
        Err((_, Errno::EWOULDBLOCK | Errno::EINTR)) => return Ok(None),
        Err((_, error)) => return Err(RecordError::io(path, "lock")(error.into())),
    };
    let looked_at = |metadata: io::Result<Metadata>| metadata.map_err(RecordError::io(path, "examine it"));
    let inode = match lock.file() {
        Some(file) => looked_at(file.metadata())?.ino(),
        None => return Ok(None),
    };
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        current => Ok((looked_at(current)?.ino() == inode).then_some(lock)),
    }
}

/// Opens the file, or makes it. Not for writing: child programs inherit it as their standard
/// output.
fn open_lock_file(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .mode(0o600)
        .custom_flags(libc::O_CREAT | libc::O_NOFOLLOW)
        .open(path)
}
