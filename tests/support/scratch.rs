//! Folders for the time of a test.

#![allow(dead_code, reason = "each test binary uses its part of this module")]

use nix::sys::statvfs::{FsFlags, statvfs};
use tempfile::TempDir;

/// A folder in memory, as `/run` is, where the record is: on a disk every call would wait for the
/// disk. Where the system has no such place that programs may be run from, in the usual one. Not for
/// a test that mounts something over `/dev`.
pub fn scratch() -> TempDir {
    const MEMORY: &str = "/dev/shm";
    let usable = statvfs(MEMORY).is_ok_and(|found| !found.flags().contains(FsFlags::ST_NOEXEC));
    let folder = match usable {
        true => TempDir::new_in(MEMORY).or_else(|_| TempDir::new()),
        false => TempDir::new(),
    };
    folder.expect("a temporary folder")
}
