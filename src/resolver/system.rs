//! The machine as the resolver's duty sees it: where its files are, and its programs.

use std::fs;
use std::path::PathBuf;
use std::time::Instant;

use super::plan::{Command, Program};
use super::trouble::Trouble;
use crate::iptables::DIRECTORIES;
use crate::process::{self, Ending, Invocation, Output};

/// Where NetworkManager's plugins have their programs: Fedora's place, which is the only one that the stock script knows; Debian's; Arch's.
const NM_DIRECTORIES: [&str; 3] = ["/usr/libexec", "/usr/lib/NetworkManager", "/usr/lib"];

/// The machine.
#[derive(Debug, Clone)]
pub struct System {
    /// What its files are below: `/`.
    pub root: PathBuf,
    /// Where its programs are; empty for the usual places.
    pub programs: Vec<PathBuf>,
    /// When programs are killed.
    pub deadline: Instant,
}

impl System {
    /// Whether a process of this name runs.
    pub(super) fn runs(&self, name: &str) -> bool {
        let Ok(entries) = fs::read_dir(self.root.join("proc")) else {
            return false;
        };
        let is_process = |name: &str| name.bytes().all(|byte| byte.is_ascii_digit());
        entries.flatten().any(|entry| {
            entry.file_name().to_str().is_some_and(is_process)
                && fs::read(entry.path().join("comm")).is_ok_and(|comm| comm.trim_ascii() == name.as_bytes())
        })
    }

    /// Runs a program to its end and returns what it wrote.
    pub(super) fn run(&self, command: &Command, environment: &[(&str, &str)]) -> Result<Vec<u8>, Trouble> {
        let program = self.find(command.program)?;
        let arguments: Vec<_> = command.arguments.iter().map(String::as_str).collect();
        let finished = process::run(&Invocation {
            program: &program,
            arguments: &arguments,
            environment,
            input: &[],
            output: Output::Kept,
            deadline: self.deadline,
        })?;
        let how = match finished.ending {
            Ending::Exit(0) => return Ok(finished.output),
            Ending::Exit(status) => format!("failed with status {status}: {}", finished.complaint),
            Ending::Signal(signal) => format!("was killed by signal {signal}"),
            Ending::TimedOut => "took too long and was killed".to_owned(),
            Ending::Lost => "ended unseen (is SIGCHLD ignored?)".to_owned(),
        };
        Err(Trouble::Failed {
            command: command.to_string(),
            how,
        })
    }

    fn find(&self, program: Program) -> Result<PathBuf, Trouble> {
        let usual: &[&str] = match program {
            Program::UnboundControl | Program::Resolvectl => &DIRECTORIES,
            Program::NmLibreswan | Program::NmOpenswan => &NM_DIRECTORIES,
        };
        let folders = match self.programs.is_empty() {
            true => usual.iter().map(PathBuf::from).collect(),
            false => self.programs.clone(),
        };
        process::find(&folders, program.name()).ok_or_else(|| Trouble::NoProgram {
            name: program.name(),
            folders: folders
                .iter()
                .map(|path| path.display().to_string())
                .collect::<Vec<_>>()
                .join(", "),
        })
    }
}
