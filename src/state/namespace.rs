//! Which network namespace a record belongs to.
//!
//! The folder's name is the namespace's inode number, which the kernel reuses for a new namespace
//! once the old one is deleted. The inode of the kernel's own rtnetlink socket distinguishes the
//! two: each namespace has that socket as long as it exists. Sockets' inode numbers come from a
//! counter (`get_next_ino`), so none is used twice before the counter has run through 2^32.
//! `SO_NETNS_COOKIE` would serve as well.

use std::fs::{self, File};
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::sync::{Mutex, PoisonError};

use super::error::RecordError;
use super::file::{self, retried};
use super::store::Store;
use crate::netfilter::Ruleset;

/// The prefix of the name of the file that identifies the record's namespace.
const MARK: &str = "socket-";

/// The number of our own network namespace, and its mark. It is found out once.
static FOUND: Mutex<Option<(u64, String)>> = Mutex::new(None);

/// Whether the mark of this namespace is found out already.
pub(super) fn is_mark_known(namespace: u64) -> bool {
    let found = FOUND.lock().unwrap_or_else(PoisonError::into_inner);
    found.as_ref().is_some_and(|(number, _)| *number == namespace)
}

/// The name of the file that says that a record is of our own network namespace, if this is its
/// number.
pub(super) fn namespace_mark(namespace: u64) -> Option<String> {
    let mut found = FOUND.lock().unwrap_or_else(PoisonError::into_inner);
    match &*found {
        Some((number, mark)) if *number == namespace => Some(mark.clone()),
        Some(_) | None => {
            let mark = find_mark(namespace)?;
            *found = Some((namespace, mark.clone()));
            Some(mark)
        }
    }
}

fn find_mark(namespace: u64) -> Option<String> {
    let own = fs::metadata("/proc/self/ns/net").ok()?.ino();
    let mut file = (own == namespace)
        .then(|| File::open("/proc/thread-self/net/netlink"))?
        .ok()?;
    let mut sockets = String::new();
    let mut chunk = [0; 4096];
    // The kernel's own socket is among the first, and each read returns whole lines.
    loop {
        match retried(|| file.read(&mut chunk)).ok()? {
            0 => return None,
            length => sockets.push_str(str::from_utf8(chunk.get(..length)?).ok()?),
        }
        if let Some(socket) = kernel_socket(&sockets) {
            return Some(format!("{MARK}{socket}"));
        }
    }
}

/// The inode number of the kernel's own socket of protocol 0 (NETLINK_ROUTE), in what
/// `/proc/net/netlink` says: the columns sk, Eth, Pid, Groups, Rmem, Wmem, Dump, Locks, Drops,
/// Inode (`netlink_seq_show`).
fn kernel_socket(sockets: &str) -> Option<u64> {
    sockets.lines().find_map(|line| {
        let mut columns = line.split_ascii_whitespace().skip(1);
        let is_it = columns.next()? == "0" && columns.next()? == "0";
        columns.last()?.parse().ok().filter(|_| is_it)
    })
}

impl Store {
    /// Whether the record belongs to a deleted namespace that had the same inode number.
    pub(super) fn is_of_former_namespace(&self) -> bool {
        let is_mark = |name: Result<String, RecordError>| name.is_ok_and(|name| name.starts_with(MARK));
        !self.has_mark() && file::file_names(&self.folder).is_ok_and(|mut names| names.any(is_mark))
    }

    /// Whether the record belongs to the present namespace. True for another process's namespace,
    /// of which it cannot be known.
    fn has_mark(&self) -> bool {
        self.namespace_file
            .as_ref()
            .is_none_or(|mark| match self.lock().is_some() {
                // The names are needed later anyway.
                true => self.has_name(mark).unwrap_or(false),
                false => self.folder.join(mark).exists(),
            })
    }

    /// Marks the record as this namespace's, after it has erased what a deleted namespace with the
    /// same number left.
    pub(super) fn take_over(&self) -> Result<(), RecordError> {
        if self.has_mark() {
            return Ok(());
        }
        if self.is_of_former_namespace() {
            self.forget_former_namespace()?;
        }
        if let Some(mark) = &self.namespace_file {
            // On a full file system the record stays unmarked.
            let _ = self.made(mark, file::create_empty(&self.folder.join(mark)));
        }
        Ok(())
    }

    /// Erases the record of a deleted namespace, whose rules and routes the kernel has deleted. The
    /// record of name servers stays: they are not part of a namespace, and their users are removed
    /// when their daemons have exited.
    fn forget_former_namespace(&self) -> Result<(), RecordError> {
        for ruleset in Ruleset::all_rulesets() {
            file::remove_tree(&self.ruleset_folder(ruleset))?;
        }
        self.clear_journal()?;
        file::remove_tree(&self.network_folder())?;
        file::remove_tree(&self.folder.join("daemons"))?;
        self.drop_owed_downs()?;
        self.forget_failed_ups()?;
        self.remove_marks()?;
        self.invalidate();
        Ok(())
    }

    pub(super) fn remove_marks(&self) -> Result<(), RecordError> {
        for name in file::file_names(&self.folder)? {
            let name = name?;
            if name.starts_with(MARK) {
                file::remove(&self.folder.join(name))?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_own_socket_is_that_of_protocol_0_without_a_process() {
        let sockets = "sk               Eth Pid        Groups   Rmem     Wmem     Dump  Locks    Drops    Inode\n\
                       00000000357ac36c 0   4711       00000000 0        0        0     2        0        9       \n\
                       00000000357ac36c 4   0          00000000 0        0        0     2        0        8       \n\
                       00000000357ac36c 0   0          00000000 0        0        0     2        0        11052209\n";
        assert_eq!(kernel_socket(sockets), Some(11_052_209));
        assert_eq!(kernel_socket(""), None);
    }

    #[test]
    fn only_our_own_namespace_has_a_mark() {
        let own = fs::metadata("/proc/self/ns/net").unwrap().ino();
        assert!(namespace_mark(own).is_some());
        assert_eq!(namespace_mark(own + 1), None);
    }
}
