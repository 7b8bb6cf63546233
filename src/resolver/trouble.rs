//! What can be wrong with the resolver. None of it is a reason to refuse a tunnel.

use std::io;
use std::path::{Path, PathBuf};

use crate::contract::ContractError;
use crate::process::ProcessError;
use crate::record::RecordError;

/// Why something that the resolver was asked for is not done. One line for the log.
#[derive(Debug, thiserror::Error)]
pub enum Trouble {
    /// What the peer offers is not understood, and left out.
    #[error("left out: {0}")]
    LeftOut(ContractError),
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
    #[error("{}: {what}: left alone, and the peer's name servers are not in it", path.display())]
    Unfit {
        /// The file.
        path: PathBuf,
        /// What it is.
        what: &'static str,
    },
    /// There is no `resolv.conf`.
    #[error("no /etc/resolv.conf: the peer's name servers are not used")]
    NoFile,
    /// `resolv.conf` is systemd-resolved's, and that does not run, or it is not known which device to tell it.
    #[error("{} is systemd-resolved's and {why}: the peer's name servers are not used", path.display())]
    Resolved {
        /// The file.
        path: PathBuf,
        /// What is missing.
        why: &'static str,
    },
    /// The file that is taken over was written by a script, so that "as before" is not as before that.
    #[error("{} was left by {whose}: it will come back as it is now", path.display())]
    Leftover {
        /// The file.
        path: PathBuf,
        /// Who left it.
        whose: &'static str,
    },
    /// There is no such program.
    #[error("{name} not found in {folders}")]
    NoProgram {
        /// Its name.
        name: &'static str,
        /// Where it was looked for.
        folders: String,
    },
    /// Those before it took all the time there was.
    #[error("{0}: not run, no time is left")]
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

impl Trouble {
    pub(super) fn io(path: &Path, action: &'static str, source: io::Error) -> Self {
        Self::Io {
            path: path.to_owned(),
            action,
            source,
        }
    }
}
