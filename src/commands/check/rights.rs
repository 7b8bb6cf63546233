//! What a daemon leaves its hook: no environment and three capabilities.

use std::fs;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::fcntl::{Flock, FlockArg};
use nix::libc;
use nix::sys::statvfs::statvfs;

use super::Finding;
use crate::commands::command_context::CommandContext;
use crate::netfilter::iptables::DIRECTORIES;
use crate::netlink::xfrm::policies;
use crate::sys::process::{self, Exit, Invocation, StandardOutput};

/// What Pluto leaves.
const LEFT: &str = "--bounding-set=-all,+net_admin,+net_raw,+dac_read_search";

/// How long the whole program may take with these rights.
const PROBE_TIMEOUT: Duration = Duration::from_secs(20);

/// What can be done with the rights that we have.
pub(super) fn findings(command: &CommandContext<'_>) -> Vec<Finding> {
    let mut findings = vec![record(command)];
    findings.extend(space(&command.options.state_dir));
    findings.extend(interrupted(command));
    findings.extend([lock(&command.options.root), kernel()]);
    findings
}

/// Whether the record can be locked and written: tries it, and removes what it made.
fn record(command: &CommandContext<'_>) -> Finding {
    let folder = command.options.state_dir.display();
    match command.open_store().and_then(|store| Ok(store.remove_unused()?)) {
        Ok(()) => Finding::ok_finding(format_args!("{folder}: the record can be locked")),
        Err(error) => Finding::wrong_finding(
            error,
            "a call that cannot record its change makes none",
            "the directory and everything in it must belong to root and be writable by no other user; pluto-updown makes them with modes 0700 and 0600",
        ),
    }
}

/// A file system of the record that has no space or no inode left, as root has it.
fn space(folder: &Path) -> Option<Finding> {
    let (place, free) = folder
        .ancestors()
        .find_map(|place| Some((place, statvfs(place).ok()?)))?;
    let is_full = free.blocks() > 0 && free.blocks_free() == 0;
    let has_no_inodes = free.files() > 0 && free.files_free() == 0;
    (is_full || has_no_inodes).then(|| {
        let what = if is_full { "space" } else { "inode" };
        Finding::wrong_finding(
            format_args!("{}: no {what} left", place.display()),
            "no tunnel can be opened: a call that cannot write its record changes nothing",
            "delete what fills it (du -x, df -i), or enlarge it: mount -o remount,size=...",
        )
    })
}

/// A finding about a change whose call died. That of a call which is running has the lock.
fn interrupted(command: &CommandContext<'_>) -> Option<Finding> {
    command.peek().journal().ok()??;
    let journal = command.open_store().ok()?.journal().ok()??;
    Some(Finding::wrong_finding(
        format_args!("{}: a previous run was interrupted", journal.ruleset),
        "kernel and record may differ; the next hook call completes or undoes the change",
        "pluto-updown restore",
    ))
}

/// The lock of iptables-legacy, one file for the whole machine.
fn lock(root: &Path) -> Finding {
    let path = root.join("run/xtables.lock");
    let shown = path.display();
    let opened = fs::OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(&path);
    let file = match opened {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Finding::ok_finding(format_args!("{shown}: not there yet; iptables-legacy creates it"));
        }
        Err(error) => {
            return Finding::wrong_finding(
                format_args!("{shown}: {error}"),
                "iptables-legacy changes nothing without it",
                "make it a regular file that root owns",
            );
        }
    };
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(_) => Finding::ok_finding(format_args!("{shown}: free")),
        Err(_) => Finding::note_finding(
            format_args!("{shown}: another program holds the lock"),
            "meanwhile iptables-legacy changes nothing; each call waits up to 5 seconds, or as long as --wait says",
            "if it is always held, find out by which program: lsof /run/xtables.lock",
        ),
    }
}

fn kernel() -> Finding {
    match policies() {
        Ok(policies) => Finding::ok_finding(format_args!(
            "the kernel has {}",
            match policies.len() {
                1 => "1 IPsec policy".to_owned(),
                number => format!("{number} IPsec policies"),
            }
        )),
        Err(error) => Finding::wrong_finding(
            error,
            "without IPsec policies -m policy matches nothing, and prune cannot tell which tunnels are up",
            "run it as root, on a kernel with CONFIG_XFRM_USER",
        ),
    }
}

/// Runs the same checks with the capabilities that Pluto leaves to a hook, and reports the findings
/// that are new then.
pub(super) fn as_daemon(command: &CommandContext<'_>, before: &[Finding]) -> Vec<Finding> {
    let folders: Vec<_> = DIRECTORIES.iter().map(PathBuf::from).collect();
    let Some(setpriv) = process::find_program(&folders, "setpriv") else {
        return vec![Finding::note_finding(
            "setpriv not found (package util-linux)",
            "without it check cannot try what a hook is permitted to do",
            "install it, or bring a tunnel up and read the log",
        )];
    };
    match try_confined(command, &setpriv) {
        Err(error) => vec![Finding::wrong_finding(
            error,
            "this check ran as a daemon runs a hook, with three capabilities and an empty environment",
            "put the program where it can be run: not in a file system mounted noexec",
        )],
        Ok(said) => confined_findings(&said, before),
    }
}

fn try_confined(command: &CommandContext<'_>, setpriv: &Path) -> Result<String, String> {
    let program = fs::canonicalize("/proc/self/exe").map_err(|error| format!("/proc/self/exe: {error}"))?;
    let arguments = arguments(command, &program);
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    let finished = process::run(&Invocation {
        program: setpriv,
        arguments: &arguments,
        environment: &[],
        input: b"",
        output: StandardOutput::Kept,
        deadline: command.deadline_after(PROBE_TIMEOUT),
    });
    let finished = finished.map_err(|error| error.to_string())?;
    match finished.exit {
        Exit::Code(0 | 1) if !finished.output.is_empty() => Ok(String::from_utf8_lossy(&finished.output).into_owned()),
        Exit::Code(_) | Exit::Signal(_) | Exit::TimedOut | Exit::Lost => {
            Err(format!("setpriv {}: {}", program.display(), finished.stderr))
        }
    }
}

/// This program, with the options that it was given.
fn arguments(command: &CommandContext<'_>, program: &Path) -> Vec<String> {
    let options = command.options;
    let path = |path: &Path| path.display().to_string();
    let mut words = vec![LEFT.to_owned(), "--inh-caps=-all".to_owned(), path(program)];
    words.extend([
        "--state-dir".to_owned(),
        path(&options.state_dir),
        "--root".to_owned(),
        path(&options.root),
    ]);
    words.extend(["--wait".to_owned(), options.wait.as_secs().to_string()]);
    for folder in &options.programs {
        words.extend(["--programs".to_owned(), path(folder)]);
    }
    if let Some(config) = &options.config {
        words.extend(["--config".to_owned(), path(config)]);
    }
    words.extend(["check".to_owned(), "--as-daemon".to_owned()]);
    words
}

/// The findings that only the daemon's rights cause.
fn confined_findings(said: &str, before: &[Finding]) -> Vec<Finding> {
    let known = |what: &str| before.iter().any(|finding| finding.what == what);
    let wrong = said
        .lines()
        .filter_map(|line| line.strip_prefix("WRONG "))
        .filter(|what| !known(what));
    let findings: Vec<_> = wrong
        .map(|what| {
            Finding::wrong_finding(
                format_args!("with a daemon's rights: {what}"),
                "a hook has three capabilities (net_admin, net_raw, dac_read_search) and an empty environment",
                "check who owns the files named above, and that a hook of the daemon may run iptables",
            )
        })
        .collect();
    match findings.is_empty() {
        true => vec![Finding::ok_finding(
            "the same results with a daemon's rights and an empty environment",
        )],
        false => findings,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_in_any_case_is_not_reported_twice() {
        let before = [Finding::wrong_finding("a", "b", "c")];
        let same = confined_findings("ok    x\nWRONG a\n      why:  b\n", &before);
        assert!(same[0].what.starts_with("the same"), "{same:?}");
        let other = confined_findings("WRONG a\nWRONG d\n", &before);
        assert_eq!(other.len(), 1);
        assert_eq!(other[0].what, "with a daemon's rights: d");
    }
}
