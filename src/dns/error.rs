//! What can be wrong with the resolver. None of it is a reason to refuse a tunnel.

use std::io;
use std::path::{Path, PathBuf};

use crate::daemon::EnvError;
use crate::state::RecordError;
use crate::sys::process::ProcessError;

/// Why something that the resolver was asked for is not done. One line for the log.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DnsError {
    /// What the peer offers is not understood, and left out.
    #[error("ignored: {0}")]
    LeftOut(EnvError),
    /// The record cannot be read or written.
    #[error("resolver: {0}")]
    Record(#[from] RecordError),
    /// The system refused.
    #[error("{}: cannot {action}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What was to be done with it.
        action: &'static str,
        /// Why not.
        source: io::Error,
    },
    /// A file is not what can be changed.
    #[error("{}: {what}: not changed, the peer's name servers are not used", path.display())]
    Unfit {
        /// The file.
        path: PathBuf,
        /// What it is.
        what: &'static str,
    },
    /// There is no `resolv.conf`.
    #[error("no /etc/resolv.conf: the peer's name servers are not used")]
    NoFile,
    /// `resolv.conf` is systemd-resolved's, and that does not run, or its link is unknown.
    #[error("{} belongs to systemd-resolved, {why}: the peer's name servers are not used", path.display())]
    Resolved {
        /// The file.
        path: PathBuf,
        /// What is missing.
        why: &'static str,
    },
    /// The file that is taken over was written by a script, so that "as before" is not as before
    /// that.
    #[error("{} was written by {whose}: it will be restored as it is now", path.display())]
    Leftover {
        /// The file.
        path: PathBuf,
        /// Who left it.
        whose: &'static str,
    },
    /// The file was edited while it had a peer's name servers.
    #[error("{}: edited while a peer's name servers are in it; the edit is kept", path.display())]
    Edited {
        /// The file.
        path: PathBuf,
    },
    /// The file that was changed is another one than its path leads to here.
    #[error("{}: changed in the mount namespace {namespace}, and another file here: not changed; run `pluto-updown restore` there (nsenter --mount, ip netns exec)", path.display())]
    Elsewhere {
        /// Its path.
        path: PathBuf,
        /// That mount namespace, by inode.
        namespace: u64,
    },
    /// What was written did not come to be in the file.
    #[error("{}: does not contain what was written; the next call tries again", path.display())]
    NotVerified {
        /// The file.
        path: PathBuf,
    },
    /// Another call works on it, and did not come to its end in time.
    #[error("name servers: {0}; that call or the next one completes the change")]
    Busy(RecordError),
    /// There is no such program.
    #[error("{name} not found in {folders}")]
    NoProgram {
        /// Its name.
        name: &'static str,
        /// Where it was looked for.
        folders: String,
    },
    /// Those before it took all the time there was.
    #[error("{0}: not run, the call has no time left")]
    NoTime(String),
    /// A program could not be run.
    #[error(transparent)]
    NotRun(#[from] ProcessError),
    /// A program failed.
    #[error("{command}: {how}")]
    Failed {
        /// The program and its arguments.
        command: String,
        /// How it ended, and what it said.
        how: String,
    },
}

impl DnsError {
    /// Whether resolvectl reports that the link no longer exists, and with it its settings in
    /// systemd-resolved.
    pub(super) fn is_about_a_lost_device(&self) -> bool {
        matches!(self, Self::Failed { command, how } if command.starts_with("resolvectl ") && how.contains("No such device"))
    }

    pub(super) fn io(path: &Path, action: &'static str, source: io::Error) -> Self {
        Self::Io {
            path: path.to_owned(),
            action,
            source,
        }
    }
}
