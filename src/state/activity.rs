//! Whether calls change the record and the kernel while somebody looks at both without the lock.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use nix::sys::stat::{major, minor};

use super::store::Store;
use crate::sys::files::read_plain;

/// How much of `/proc/locks` is read, in bytes: one lock is a line of about 60.
const LOCKS: u64 = 4 << 20;

/// What shows, before a look and after it, whether a call has changed something meanwhile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Activity {
    /// Whether a call holds the lock.
    pub is_locked: bool,
    /// The folder of the namespace, by inode, and when it was changed last, in seconds and
    /// nanoseconds: every change of rules makes and removes a journal there.
    changed: Option<(u64, i64, i64)>,
}

impl Store {
    /// What calls do at this moment. The lock is not touched: a call that wants it would have to
    /// wait.
    #[must_use]
    pub fn activity(&self) -> Activity {
        let folder = fs::symlink_metadata(&self.folder).ok();
        Activity {
            is_locked: is_locked(&self.folder.join("lock")),
            changed: folder.map(|folder| (folder.ino(), folder.mtime(), folder.mtime_nsec())),
        }
    }
}

/// Whether a process holds a `flock` on a file, by the kernel's list of locks (proc_locks(5)). One
/// in a PID namespace that this process cannot see is not listed.
fn is_locked(path: &Path) -> bool {
    let Ok(file) = fs::symlink_metadata(path) else {
        return false;
    };
    let Ok(locks) = read_plain(Path::new("/proc/locks"), LOCKS) else {
        return false;
    };
    let inode = format!("{:02x}:{:02x}:{}", major(file.dev()), minor(file.dev()), file.ino());
    String::from_utf8_lossy(&locks).lines().any(|line| {
        // `1: FLOCK  ADVISORY  WRITE 4711 00:19:1234 0 EOF`; who waits has `->` before `FLOCK`.
        let mut words = line.split_whitespace().skip(1);
        words.next() == Some("FLOCK") && words.nth(3) == Some(&inode)
    })
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn a_call_is_seen_while_it_holds_the_lock_and_after_it_has_changed_something() {
        let folder = tempfile::TempDir::new().unwrap();
        let looking = Store::open_unlocked(folder.path(), 7);
        let before = looking.activity();
        assert!(!before.is_locked);
        let store = Store::open_locked(folder.path(), 7, Instant::now() + Duration::from_secs(5)).unwrap();
        assert!(looking.activity().is_locked);
        drop(store);
        let after = looking.activity();
        assert!(!after.is_locked);
        assert_ne!(before, after, "the folder is new");
        assert_eq!(after, looking.activity());
    }
}
