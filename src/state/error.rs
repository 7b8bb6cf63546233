//! Errors of the record.

use std::io;
use std::path::PathBuf;

/// Why the record cannot be read or written. Every error names the file.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The operating system refused an operation.
    #[error("{}: cannot {action}: {error}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The operation that failed.
        action: &'static str,
        /// The reason.
        error: io::Error,
    },
    /// Another user can change it, so its content cannot be trusted.
    #[error("{}: {what}, expected {expected}", path.display())]
    Untrusted {
        /// The file or folder.
        path: PathBuf,
        /// What it is.
        what: &'static str,
        /// What it should be.
        expected: &'static str,
    },
    /// The content is not a record.
    #[error("{}: not a record: {reason}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// The parser's error.
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
    /// The file is larger than any that this program writes.
    #[error("{}: {size} bytes, expected {largest} at most", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Its size, in bytes. For a file that is read: the bytes read until the limit was
        /// exceeded.
        size: usize,
        /// The largest size that this program writes, in bytes.
        largest: u64,
    },
    /// Another call held the lock until the deadline.
    #[error("{}: another call held the lock for {waited} ms", path.display())]
    Locked {
        /// The lock.
        path: PathBuf,
        /// How long this call waited, in milliseconds.
        waited: u128,
    },
    /// Other tunnels have every id that this tunnel could have.
    #[error("{connection}: no free name for its chains")]
    NoName {
        /// The connection.
        connection: String,
    },
}

impl RecordError {
    /// For `map_err`: adds the path and the operation.
    pub(crate) fn io(path: impl Into<PathBuf>, action: &'static str) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |error| Self::Io { path, action, error }
    }

    /// Names the folder instead of the file in it, whose name is long.
    pub(crate) fn with_folder(mut self, folder: PathBuf) -> Self {
        if let Self::Io { path, .. } = &mut self {
            *path = folder;
        }
        self
    }

    /// Whether a file was read, and its content cannot be used: other files can be, all the same.
    #[must_use]
    pub(crate) fn is_of_content(&self) -> bool {
        match self {
            Self::Untrusted { .. } | Self::Malformed { .. } | Self::Newer { .. } | Self::TooLarge { .. } => true,
            Self::Io { .. } | Self::Locked { .. } | Self::NoName { .. } => false,
        }
    }

    /// Whether the reason is that the file system is full.
    #[must_use]
    pub(crate) fn is_no_space(&self) -> bool {
        matches!(
            self.io_kind(),
            Some(io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
        )
    }

    /// Whether a file or folder does not exist.
    #[must_use]
    pub(crate) fn is_absence(&self) -> bool {
        self.io_kind() == Some(io::ErrorKind::NotFound)
    }

    /// The system's reason, if it refused.
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
