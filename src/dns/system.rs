//! The parts of the machine that name servers need: the paths of files, and the programs.

use std::fs;
use std::path::PathBuf;
use std::time::Instant;

use super::error::DnsError;
use super::plan::{ResolverCommand, ResolverProgram};
use super::record::ProcessRun;
use crate::netfilter::iptables::DIRECTORIES;
use crate::state::start_time;
use crate::sys::files::read_plain;
use crate::sys::process::{self, Exit, Invocation, StandardOutput};

/// Where NetworkManager's plugins have their programs: Fedora's place, which is the only one that
/// the stock script knows; Debian's; Arch's.
const NM_DIRECTORIES: [&str; 3] = ["/usr/libexec", "/usr/lib/NetworkManager", "/usr/lib"];

/// How much of a file in `/proc/PID` is read, in bytes.
const LONGEST: u64 = 1 << 16;

/// The first number of a person's account: below it are the system's (login.defs(5), `UID_MIN`).
const FIRST_USER: u32 = 1000;

/// The machine.
#[derive(Debug, Clone)]
pub(crate) struct System {
    /// What its files are below: `/`.
    pub root: PathBuf,
    /// Where its programs are; empty for the usual places.
    pub programs: Vec<PathBuf>,
    /// When programs are killed.
    pub deadline: Instant,
}

impl System {
    /// The run of unbound that is this machine's own, if there is one.
    ///
    /// Any user can give a process this name, and a container of another PID namespace can have an
    /// unbound of its own: neither is what this machine asks for names.
    pub(super) fn unbound(&self) -> Option<ProcessRun> {
        let entries = fs::read_dir(self.root.join("proc")).ok()?;
        entries.flatten().find_map(|entry| {
            let pid = entry.file_name().to_str()?.parse().ok()?;
            let read = |name: &str| {
                let bytes = read_plain(&entry.path().join(name), LONGEST).ok()?;
                Some(String::from_utf8_lossy(&bytes).into_owned())
            };
            let is_it = read("comm")?.trim() == "unbound" && is_system_service(&read("status")?);
            let started = is_it.then(|| start_time(&read("stat")?))??;
            Some(ProcessRun { pid, started })
        })
    }

    /// Runs a program to its end and returns what it wrote.
    pub(super) fn run(&self, command: &ResolverCommand, environment: &[(&str, &str)]) -> Result<Vec<u8>, DnsError> {
        let program = self.program_path(command.program)?;
        let arguments: Vec<_> = command.arguments.iter().map(String::as_str).collect();
        let finished = process::run(&Invocation {
            program: &program,
            arguments: &arguments,
            environment,
            input: &[],
            output: StandardOutput::Kept,
            deadline: self.deadline,
        })?;
        let how = match finished.exit {
            Exit::Code(0) => return Ok(finished.output),
            Exit::Code(status) => format!("failed with status {status}: {}", finished.stderr),
            Exit::Signal(signal) => format!("was killed by signal {signal}"),
            Exit::TimedOut => "took too long and was killed".to_owned(),
            Exit::Lost => "ended without an exit status".to_owned(),
        };
        Err(DnsError::Failed {
            command: command.to_string(),
            how,
        })
    }

    fn program_path(&self, program: ResolverProgram) -> Result<PathBuf, DnsError> {
        let usual: &[&str] = match program {
            ResolverProgram::UnboundControl | ResolverProgram::Resolvectl => &DIRECTORIES,
            ResolverProgram::NmLibreswan | ResolverProgram::NmOpenswan => &NM_DIRECTORIES,
        };
        let folders = match self.programs.is_empty() {
            true => usual.iter().map(PathBuf::from).collect(),
            false => self.programs.clone(),
        };
        process::find_program(&folders, program.name()).ok_or_else(|| DnsError::NoProgram {
            name: program.name(),
            folders: folders
                .iter()
                .map(|path| path.display().to_string())
                .collect::<Vec<_>>()
                .join(", "),
        })
    }
}

/// Whether `/proc/PID/status` is that of a service of this machine: a system's account, and no
/// other PID namespace than this process's below.
fn is_system_service(status: &str) -> bool {
    let words = |key: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(key))?;
        Some(line.split_ascii_whitespace().collect::<Vec<_>>())
    };
    let is_account = |uid: &&str| uid.parse::<u32>().is_ok_and(|uid| uid < FIRST_USER);
    let owner = words("Uid:").is_some_and(|uids| uids.first().is_some_and(is_account));
    owner && words("NSpid:").is_none_or(|pids| pids.len() == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_system_account_in_this_pid_namespace_is_a_service() {
        for (status, expected) in [
            ("Name:\tunbound\nUid:\t0\t0\t0\t0\nNSpid:\t812\n", true),
            ("Uid:\t115\t115\t115\t115\n", true),
            ("Uid:\t1000\t0\t0\t0\nNSpid:\t812\n", false),
            ("Uid:\t100115\t100115\t100115\t100115\nNSpid:\t812\n", false),
            ("Uid:\t0\t0\t0\t0\nNSpid:\t812\t7\n", false),
            ("", false),
        ] {
            assert_eq!(is_system_service(status), expected, "{status}");
        }
    }
}
