//! Finds `iptables-restore` and `iptables-save` in their backends, and runs them.

use std::collections::BTreeSet;
use std::fmt;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::{Backend, Ruleset, Table};
use crate::net::Family;
use crate::sys::process::{self, Exit, Invocation, ProcessError, ProcessOutput, StandardOutput};
use crate::words::one_line;

/// Where iptables is looked for, in this order. Not in `PATH`: the daemon's may be empty, or
/// `(null)`.
pub(crate) const DIRECTORIES: [&str; 7] = [
    "/usr/sbin",
    "/sbin",
    "/usr/local/sbin",
    "/usr/bin",
    "/bin",
    "/usr/local/bin",
    "/run/current-system/sw/bin",
];

/// The tables of this network namespace, as the engine needs them. Tests put an emulator here.
pub trait Tables {
    /// The backend that `iptables` is for a family, if no record says otherwise.
    ///
    /// # Errors
    /// If there is no iptables.
    fn default_backend(&self, family: Family) -> Result<Backend, TablesError>;

    /// Carries out a change, section by section: all of a section or nothing, and after a refusal
    /// no further one.
    ///
    /// # Errors
    /// If a section was refused, or it is not known what became of the change.
    fn restore(&mut self, ruleset: Ruleset, text: &str) -> Result<(), TablesError>;

    /// The same, where the rules bring with them what they have counted.
    ///
    /// # Errors
    /// The same.
    fn resume(&mut self, ruleset: Ruleset, text: &str) -> Result<(), TablesError>;

    /// Lists a table, as `iptables-save` does.
    ///
    /// # Errors
    /// If it cannot be listed.
    fn save(&mut self, ruleset: Ruleset, table: Table) -> Result<String, TablesError>;

    /// Lists all the tables that the kernel has loaded, with counters, as `iptables-save -c` does.
    /// It loads none.
    ///
    /// # Errors
    /// If they cannot be listed.
    fn save_all(&mut self, ruleset: Ruleset) -> Result<String, TablesError>;

    /// The backends that can be looked at: the one that `iptables` is, and those that have programs
    /// of their own name.
    fn backends(&self, family: Family) -> BTreeSet<Backend>;
}

/// Why a table was not read or changed.
#[derive(Debug, thiserror::Error)]
pub enum TablesError {
    /// There is no such program.
    #[error("{name} not found in {directories}: is the package iptables installed?")]
    Missing {
        /// Its name.
        name: String,
        /// Where it was looked for.
        directories: String,
    },
    /// This kernel has no such family, so that there are no packets of it.
    #[error("this kernel has no {0}")]
    NoFamily(Family),
    /// It could not be run.
    #[error(transparent)]
    NotRun(#[from] ProcessError),
    /// It refused a section of the change, and changed nothing there; the sections before it are
    /// committed.
    #[error("{program} failed with status {status}: {stderr}")]
    Refused {
        /// The program.
        program: String,
        /// Its exit status.
        status: i32,
        /// Its standard error.
        stderr: String,
        /// Whether the kernel's present rules may be the reason, rather than the system or the new
        /// rules.
        reason: RefusalReason,
    },
    /// It ended in a way that does not show which part of the change was made.
    #[error("{program} {how}; the next call checks what it changed")]
    Unknown {
        /// The program.
        program: String,
        /// How it ended.
        how: String,
    },
}

/// What a refusal may come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefusalReason {
    /// Perhaps the kernel does not hold what the record says.
    Rules,
    /// The lock was held all the time, or the rights are missing: the rules are not the reason.
    System,
}

/// The iptables programs of this machine.
#[derive(Debug)]
pub struct Programs<'a> {
    directories: Vec<PathBuf>,
    lock_wait: Duration,
    deadline: Instant,
    held: Option<&'a File>,
}

impl<'a> Programs<'a> {
    /// Programs in these directories, or in [`DIRECTORIES`] if there are none. Each run waits for
    /// the xtables lock for `lock_wait` at most, and is killed at `deadline`.
    ///
    /// Whatever changes a table keeps `held` open. That is the record's lock: if this call is
    /// killed while its iptables-restore waits or works, the next call must not repair anything
    /// before that one has ended.
    #[must_use]
    pub fn new(directories: Vec<PathBuf>, lock_wait: Duration, deadline: Instant, held: Option<&'a File>) -> Self {
        let directories = if directories.is_empty() {
            DIRECTORIES.iter().map(PathBuf::from).collect()
        } else {
            directories
        };
        Self {
            directories,
            lock_wait,
            deadline,
            held,
        }
    }

    fn program_path(&self, name: &str) -> Option<PathBuf> {
        process::find_program(&self.directories, name)
    }

    /// The program for a backend: `iptables-nft-restore` before `iptables-restore`, so that a
    /// tunnel's rules are removed with the backend that installed them, whatever `iptables` is by
    /// now.
    fn program(&self, ruleset: Ruleset, action: &str) -> Result<PathBuf, TablesError> {
        let prefix = prefix(ruleset.family);
        let names = match ruleset.backend {
            Backend::Nft | Backend::Legacy => vec![
                format!("{prefix}-{}-{action}", ruleset.backend),
                format!("{prefix}-{action}"),
            ],
            Backend::Plain => vec![format!("{prefix}-{action}")],
        };
        names
            .iter()
            .find_map(|name| self.program_path(name))
            .ok_or_else(|| self.missing(&names[0]))
    }

    fn missing(&self, name: &str) -> TablesError {
        let directories: Vec<_> = self.directories.iter().map(|path| path.display().to_string()).collect();
        TablesError::Missing {
            name: name.to_owned(),
            directories: directories.join(", "),
        }
    }

    fn run(
        &self,
        program: &Path,
        arguments: &[&str],
        input: &str,
        output: StandardOutput<'_>,
    ) -> Result<ProcessOutput, TablesError> {
        let invocation = Invocation {
            program,
            arguments,
            environment: &[],
            input: input.as_bytes(),
            output,
            deadline: self.deadline,
        };
        let finished = process::run(&invocation)?;
        match finished.exit {
            Exit::Code(0) => Ok(finished),
            Exit::Code(status) => Err(refused(program, status, finished.stderr)),
            Exit::Signal(signal) => Err(unknown(program, format_args!("was killed by signal {signal}"))),
            Exit::TimedOut => Err(unknown(program, format_args!("took too long and was killed"))),
            Exit::Lost => Err(unknown(program, format_args!("ended without an exit status"))),
        }
    }

    /// Whether a change would be taken. It is read, and what it needs is looked for, but nothing is
    /// done.
    pub(crate) fn rehearse(&self, ruleset: Ruleset, text: &str) -> Result<(), TablesError> {
        let program = self.program(ruleset, "restore")?;
        self.run(&program, &["--test", "--noflush"], text, StandardOutput::Dropped)
            .map(drop)
    }

    /// What iptables says that it is, `iptables-restore v1.8.9 (nf_tables)`.
    ///
    /// # Errors
    /// If there is none, or it says nothing.
    pub fn version(&self, ruleset: Ruleset) -> Result<String, TablesError> {
        let program = self.program(ruleset, "restore")?;
        let finished = self.run(&program, &["--version"], "", StandardOutput::Kept)?;
        Ok(one_line(&String::from_utf8_lossy(&finished.output)))
    }

    fn change(&self, ruleset: Ruleset, arguments: &[&str], text: &str) -> Result<(), TablesError> {
        let program = self.program(ruleset, "restore")?;
        let output = self.held.map_or(StandardOutput::Dropped, StandardOutput::Holding);
        self.run(&program, arguments, text, output).map(drop)
    }

    /// How long a program may wait for the xtables lock, in whole seconds: not beyond the deadline,
    /// but at least one.
    fn lock_wait(&self) -> String {
        let left = self.deadline.saturating_duration_since(Instant::now());
        self.lock_wait.min(left).as_secs().max(1).to_string()
    }
}

impl Tables for Programs<'_> {
    fn default_backend(&self, family: Family) -> Result<Backend, TablesError> {
        if family == Family::Ipv6 && !Path::new("/proc/self/net/if_inet6").exists() {
            return Err(TablesError::NoFamily(family));
        }
        let name = format!("{}-restore", prefix(family));
        let program = self.program_path(&name).ok_or_else(|| self.missing(&name))?;
        // Debian and Fedora keep `iptables-restore` as a link that ends at xtables-nft-multi or
        // xtables-legacy-multi. To ask `iptables --version` instead would cost a process a call.
        let target = process::link_target(program);
        let target = target.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Ok(match (target.contains("nft"), target.contains("legacy")) {
            (true, _) => Backend::Nft,
            (false, true) => Backend::Legacy,
            (false, false) => Backend::Plain,
        })
    }

    fn restore(&mut self, ruleset: Ruleset, text: &str) -> Result<(), TablesError> {
        self.change(ruleset, &["--noflush", "-w", &self.lock_wait()], text)
    }

    fn resume(&mut self, ruleset: Ruleset, text: &str) -> Result<(), TablesError> {
        self.change(ruleset, &["--noflush", "--counters", "-w", &self.lock_wait()], text)
    }

    fn save(&mut self, ruleset: Ruleset, table: Table) -> Result<String, TablesError> {
        let program = self.program(ruleset, "save")?;
        let finished = self.run(&program, &["-t", table.name()], "", StandardOutput::Kept)?;
        Ok(String::from_utf8_lossy(&finished.output).into_owned())
    }

    fn save_all(&mut self, ruleset: Ruleset) -> Result<String, TablesError> {
        if ruleset.backend == Backend::Legacy && has_no_legacy_tables(ruleset.family) {
            return Ok(String::new());
        }
        let program = self.program(ruleset, "save")?;
        let finished = self.run(&program, &["-c"], "", StandardOutput::Kept)?;
        Ok(String::from_utf8_lossy(&finished.output).into_owned())
    }

    fn backends(&self, family: Family) -> BTreeSet<Backend> {
        let named = [Backend::Nft, Backend::Legacy].into_iter().filter(|backend| {
            self.program_path(&format!("{}-{backend}-save", prefix(family)))
                .is_some()
        });
        named.chain(self.default_backend(family)).collect()
    }
}

/// Whether the kernel reports that no table of iptables-legacy is loaded, which saves a process. If
/// it cannot be read, a table may be loaded.
fn has_no_legacy_tables(family: Family) -> bool {
    let names = fs::read(match family {
        Family::Ipv4 => "/proc/self/net/ip_tables_names",
        Family::Ipv6 => "/proc/self/net/ip6_tables_names",
    });
    match names {
        Ok(names) => names.is_empty(),
        Err(error) => error.kind() == std::io::ErrorKind::NotFound,
    }
}

fn prefix(family: Family) -> &'static str {
    match family {
        Family::Ipv4 => "iptables",
        Family::Ipv6 => "ip6tables",
    }
}

fn unknown(program: &Path, how: fmt::Arguments<'_>) -> TablesError {
    TablesError::Unknown {
        program: program.display().to_string(),
        how: how.to_string(),
    }
}

fn refused(program: &Path, status: i32, stderr: String) -> TablesError {
    // The same words in 1.8.2 to 1.8.11. Taken wrongly they cost one more try, or one fewer, and
    // nothing else.
    const OF_THE_SYSTEM: [&str; 3] = ["xtables lock", "Permission denied", "Operation not permitted"];
    let of_the_system = OF_THE_SYSTEM.iter().any(|words| stderr.contains(words));
    let reason = if of_the_system {
        RefusalReason::System
    } else {
        RefusalReason::Rules
    };
    TablesError::Refused {
        program: program.display().to_string(),
        status,
        stderr,
        reason,
    }
}
