//! Which IKE daemon a tunnel belongs to.

use crate::net::displayed_type;
use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::str::FromStr;

use nix::libc;
use serde::{Deserialize, Serialize};

use super::file::retried;
use crate::net::Expected;

/// The names that IKE daemons have as processes, as `/proc/PID/stat` shows them (cut to 15 bytes).
const NAMES: [&str; 4] = ["pluto", "charon", "charon-systemd", "charon-nm"];

/// More than a process says in `/proc/PID/stat`, in bytes: 52 numbers of 20 digits at most, and a
/// name.
const LONGEST_STAT: usize = 2048;

/// How many parent processes are searched for the daemon, from the hook upwards. Between the two
/// are one or two shells (`sh -c`, `ipsec`, or the administrator's script that calls this program).
const ANCESTORS: usize = 10;

/// One run of an IKE daemon. The kernel reuses process numbers; number and start time together are
/// unique.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DaemonProcess {
    /// Process number, as its PID namespace counts.
    pub pid: u32,
    /// When it started, in clock ticks since boot (proc(5), field 22 of `stat`).
    pub started: u64,
    /// Its PID namespace, by inode: from another one it cannot be seen whether it lives.
    pub namespace: u64,
}

/// The fields of `/proc/PID/stat` that are used here.
struct Process {
    name: String,
    parent: u32,
    started: u64,
}

impl DaemonProcess {
    /// The daemon among the ancestors of the process `parent`, if one of them has the name of one.
    #[must_use]
    pub(crate) fn from_parent(parent: u32) -> Option<Self> {
        let namespace = own_namespace()?;
        let mut pid = parent;
        for _ in 0..ANCESTORS {
            let process = Process::from_proc(pid)?;
            if NAMES.contains(&process.name.as_str()) {
                return Some(Self {
                    pid,
                    started: process.started,
                    namespace,
                });
            }
            pid = process.parent;
        }
        None
    }

    /// Whether it is certain that this daemon has exited.
    #[must_use]
    pub(crate) fn is_dead(&self) -> bool {
        if own_namespace() != Some(self.namespace) {
            return false;
        }
        match Process::try_from_proc(self.pid) {
            Ok(process) => process.is_none_or(|process| process.started != self.started),
            // It ended while it was looked at (ESRCH), or before.
            Err(error) => error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(libc::ESRCH),
        }
    }
}

fn own_namespace() -> Option<u64> {
    fs::metadata("/proc/self/ns/pid").ok().map(|metadata| metadata.ino())
}

/// When a process started, by its `/proc/PID/stat`: in clock ticks since boot.
#[must_use]
pub(crate) fn start_time(stat: &str) -> Option<u64> {
    Process::parse(stat).map(|process| process.started)
}

impl Process {
    /// Reads `/proc/PID/stat`; nothing where there is no such process.
    fn from_proc(pid: u32) -> Option<Self> {
        Self::try_from_proc(pid).ok()?
    }

    /// Like `from_proc`, with the error if the file cannot be read; `None` if the line cannot be
    /// parsed.
    fn try_from_proc(pid: u32) -> io::Result<Option<Self>> {
        let mut file = File::open(format!("/proc/{pid}/stat"))?;
        let mut line = [0; LONGEST_STAT];
        // One read: the kernel generates the line again for each.
        let length = retried(|| file.read(&mut line))?;
        let line = String::from_utf8_lossy(line.get(..length).unwrap_or_default());
        Ok(Self::parse(&line))
    }

    /// The name is in brackets, and may contain blanks and brackets. So the line is parsed from its
    /// last bracket.
    fn parse(stat: &str) -> Option<Self> {
        let (start, rest) = stat.rsplit_once(") ")?;
        let name = start.split_once('(')?.1.to_owned();
        let mut fields = rest.split(' ');
        let parent = fields.nth(1)?.parse().ok()?;
        let started = fields.nth(17)?.parse().ok()?;
        Some(Self { name, parent, started })
    }
}

/// The name of its file: `PID-START-NAMESPACE`.
impl fmt::Display for DaemonProcess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}-{}", self.pid, self.started, self.namespace)
    }
}

impl FromStr for DaemonProcess {
    type Err = Expected;

    fn from_str(text: &str) -> Result<Self, Expected> {
        const FORM: Expected = Expected("a daemon's PID-START-NAMESPACE");
        let mut parts = text.split('-');
        let mut number = || parts.next().and_then(|part| part.parse::<u64>().ok()).ok_or(FORM);
        let (pid, started, namespace) = (number()?, number()?, number()?);
        let pid = u32::try_from(pid).map_err(|_| FORM)?;
        parts
            .next()
            .is_none()
            .then_some(Self {
                pid,
                started,
                namespace,
            })
            .ok_or(FORM)
    }
}

displayed_type!(DaemonProcess);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_with_brackets_in_its_name_is_read() {
        let stat = "42 (a) (b) S 7 42 42 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 9912 0 0";
        let process = Process::parse(stat).unwrap();
        assert_eq!(
            (process.name.as_str(), process.parent, process.started),
            ("a) (b", 7, 9912)
        );
    }

    #[test]
    fn a_process_number_that_came_again_is_not_the_same_daemon() {
        let started = Process::from_proc(std::process::id()).unwrap().started;
        let namespace = own_namespace().unwrap();
        let this = DaemonProcess {
            pid: std::process::id(),
            started,
            namespace,
        };
        assert!(!this.is_dead());
        assert!(
            DaemonProcess {
                started: started + 1,
                ..this
            }
            .is_dead()
        );
        assert!(
            !DaemonProcess {
                started: started + 1,
                namespace: namespace + 1,
                ..this
            }
            .is_dead(),
            "not ours to say"
        );
    }

    #[test]
    fn a_daemon_is_written_and_read_back() {
        let daemon = DaemonProcess {
            pid: 1,
            started: 2,
            namespace: 3,
        };
        assert_eq!(daemon.to_string().parse(), Ok(daemon));
        for text in ["", "1-2", "1-2-3-4", "a-2-3", "99999999999-2-3"] {
            assert!(text.parse::<DaemonProcess>().is_err(), "{text:?}");
        }
    }
}
