//! What can be wrong with the record.

use std::io;
use std::path::PathBuf;

/// Why the record cannot be read or written. Every one names the file.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The system refused.
    #[error("{}: cannot {action}: {error}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What was to be done with it.
        action: &'static str,
        /// Why not.
        error: io::Error,
    },
    /// It is something that others can change, so that nothing in it can be believed.
    #[error("{}: {what}, expected {expected}", path.display())]
    Untrusted {
        /// The file or folder.
        path: PathBuf,
        /// What it is.
        what: &'static str,
        /// What it should be.
        expected: &'static str,
    },
    /// It is not what this program writes.
    #[error("{}: not a record: {reason}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Where reading it ended.
        reason: String,
    },
    /// A newer version of this program wrote it.
    #[error("{}: written by a newer version (format {found}, this one knows {known})", path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: u32,
        /// The newest that this version knows.
        known: u32,
    },
    /// It is larger than any that is written.
    #[error("{}: {size} bytes, expected {largest} at most", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Its size, in bytes; of one that is read, as far as it was read.
        size: usize,
        /// The largest one that is written.
        largest: u64,
    },
    /// Another call held the lock all the time that this one could wait.
    #[error("{}: another call held the lock for {waited} ms", path.display())]
    Locked {
        /// The lock.
        path: PathBuf,
        /// How long this call waited, in milliseconds.
        waited: u128,
    },
    /// Every short name that the tunnel could bear is another tunnel's.
    #[error("{connection}: no free name for its chains")]
    NoName {
        /// The connection.
        connection: String,
    },
}

impl RecordError {
    /// For `map_err`: the file and what was to be done with it.
    pub(super) fn io(path: impl Into<PathBuf>, action: &'static str) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |error| Self::Io { path, action, error }
    }

    /// The same of the folder instead of a file in it, whose name is long.
    pub(super) fn with_folder(mut self, folder: PathBuf) -> Self {
        if let Self::Io { path, .. } = &mut self {
            *path = folder;
        }
        self
    }

    /// Whether the reason is that the file system is full.
    #[must_use]
    pub fn is_no_space(&self) -> bool {
        matches!(
            self.io_kind(),
            Some(io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
        )
    }

    /// Whether the reason is that a file or folder is not there.
    #[must_use]
    pub fn is_absence(&self) -> bool {
        self.io_kind() == Some(io::ErrorKind::NotFound)
    }

    /// Why the system refused, if it did.
    fn io_kind(&self) -> Option<io::ErrorKind> {
        match self {
            Self::Io { error, .. } => Some(error.kind()),
            Self::Untrusted { .. }
            | Self::Malformed { .. }
            | Self::Newer { .. }
            | Self::TooLarge { .. }
            | Self::Locked { .. }
            | Self::NoName { .. } => None,
        }
    }
}
