//! Starts programs; nothing else in this crate does.
//!
//! Always by absolute path, with nothing in the environment but the C locale, a `PATH` and what the
//! caller puts there, with its input in memory and with a bounded wait. The daemon reads the hook's
//! output to its end, so a child that outlived the hook would stop every tunnel: a program that
//! takes too long is killed with all its children.

use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use signal_hook::consts::SIGCHLD;
use signal_hook::flag;

use crate::words::one_line;

/// How much of what a program says on its standard error is kept, from its end, in bytes.
const KEPT: usize = 1024;

/// How long one look at a silent program lasts: it may have ended and left its standard error to a
/// child of its own.
const LOOK: Duration = Duration::from_millis(20);

/// How many links a program's name may lead through: as many as Linux follows (path_resolution(7)).
const MOST_LINKS: usize = 40;

/// How many times in a row `try_wait` is tried before sleeping, once a program has closed its
/// standard error: some 50 µs.
const TURNS: u32 = 200;

/// A program and how to run it.
#[derive(Debug, Clone)]
pub(crate) struct Invocation<'a> {
    /// Where it is, from the root.
    pub program: &'a Path,
    /// Its arguments.
    pub arguments: &'a [&'a str],
    /// Its environment besides the locale and the path.
    pub environment: &'a [(&'a str, &'a str)],
    /// What it reads.
    pub input: &'a [u8],
    /// Its standard output.
    pub output: StandardOutput<'a>,
    /// When it is killed.
    pub deadline: Instant,
}

/// What is done with a program's standard output.
#[derive(Debug, Clone, Copy)]
pub(crate) enum StandardOutput<'a> {
    /// It is kept, all of it.
    Kept,
    /// It is discarded.
    Dropped,
    /// It is discarded: standard output is this file, which is not open for writing. The file, and
    /// its lock, stays open as long as the program runs, even if the hook is killed.
    Holding(&'a File),
}

/// How a program ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ProcessOutput {
    /// How.
    pub exit: Exit,
    /// What it wrote, if it was to be kept.
    pub output: Vec<u8>,
    /// The end of what it wrote to its standard error, escaped, on one line.
    pub stderr: String,
}

/// How a program ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// By itself, with this status.
    Code(i32),
    /// By a signal.
    Signal(i32),
    /// By this program: it took longer than its deadline.
    TimedOut,
    /// Somehow: the system does not say.
    Lost,
}

/// Why a program was not run at all.
#[derive(Debug, thiserror::Error)]
#[error("{}: cannot {action}: {error}", program.display())]
pub struct ProcessError {
    program: PathBuf,
    action: &'static str,
    error: io::Error,
}

/// The first of these folders that has a program of this name.
#[must_use]
pub(crate) fn find_program(folders: &[PathBuf], name: &str) -> Option<PathBuf> {
    let runs =
        |path: &PathBuf| fs::metadata(path).is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0);
    folders.iter().map(|folder| folder.join(name)).find(runs)
}

/// The file that a program's name leads to. Only its links are followed, and not those among its
/// folders, which takes fewer system calls than its canonical path.
#[must_use]
pub(crate) fn link_target(program: PathBuf) -> PathBuf {
    let mut target = program;
    for _ in 0..MOST_LINKS {
        let Ok(link) = fs::read_link(&target) else { break };
        // A link's target is relative to the folder of the link.
        target.pop();
        target.push(link);
    }
    target
}

/// Runs a program to its end.
///
/// # Errors
/// If it cannot be started, or its output not be read. That it failed is no error here, nor that it
/// is not known how it ended: it may have done its work.
pub(crate) fn run(invocation: &Invocation<'_>) -> Result<ProcessOutput, ProcessError> {
    let failed = |action| {
        move |error: io::Error| ProcessError {
            program: invocation.program.to_owned(),
            action,
            error,
        }
    };
    let input = in_memory(invocation.input).map_err(failed("keep its input in memory"))?;
    let copy = |file: &File| file.try_clone().map_err(failed("open its output"));
    let (output, stdout) = match invocation.output {
        StandardOutput::Kept => {
            let kept = in_memory(&[]).map_err(failed("keep its output in memory"))?;
            let stdout = copy(&kept)?;
            (Some(kept), stdout.into())
        }
        StandardOutput::Dropped => (None, Stdio::null()),
        StandardOutput::Holding(file) => (None, copy(file)?.into()),
    };
    keep_exit_statuses().map_err(failed("learn how it ends"))?;
    let mut child = start(invocation, input, stdout).map_err(failed("start it"))?;
    let mut stderr = child.stderr.take();
    let mut tail = Vec::new();
    let ending = wait_for_exit(&mut child, stderr.as_mut(), &mut tail, invocation.deadline);
    let output = output
        .map_or_else(|| Ok(Vec::new()), read_back)
        .map_err(failed("read its output"))?;
    Ok(ProcessOutput {
        exit: ending,
        output,
        stderr: one_line(&String::from_utf8_lossy(&tail)),
    })
}

#[expect(clippy::disallowed_methods, reason = "the one place that starts programs")]
fn start(invocation: &Invocation<'_>, input: File, stdout: Stdio) -> io::Result<Child> {
    Command::new(invocation.program)
        .args(invocation.arguments)
        .env_clear()
        .env("LC_ALL", "C")
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .envs(invocation.environment.iter().copied())
        .stdin(input)
        .stdout(stdout)
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()
}

/// Makes the kernel keep the exit statuses of the programs. A parent that ignores SIGCHLD passes
/// that on to this process, and the kernel then discards them (wait(2)). With a handler it does
/// not. That costs two system calls; to ask whether SIGCHLD is ignored would cost more. The
/// programs start with the default again (execve(2)).
fn keep_exit_statuses() -> io::Result<()> {
    static IS_DONE: AtomicBool = AtomicBool::new(false);
    if !IS_DONE.swap(true, Ordering::Relaxed) {
        // Nobody reads the flag.
        flag::register(SIGCHLD, Arc::new(AtomicBool::new(false)))?;
    }
    Ok(())
}

fn in_memory(content: &[u8]) -> io::Result<File> {
    let mut file = File::from(memfd_create("pluto-updown", MFdFlags::MFD_CLOEXEC)?);
    file.write_all(content)?;
    file.rewind()?;
    Ok(file)
}

fn read_back(mut file: File) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    file.rewind()?;
    file.read_to_end(&mut content)?;
    Ok(content)
}

fn wait_for_exit(
    child: &mut Child,
    mut stderr: Option<&mut ChildStderr>,
    tail: &mut Vec<u8>,
    deadline: Instant,
) -> Exit {
    let mut turns = 0;
    loop {
        match child.try_wait() {
            Ok(Some(status)) => {
                if let Some(stderr) = stderr {
                    while read_stderr(stderr, tail, Duration::ZERO) == Heard::Something {}
                }
                return exit_of(status);
            }
            // It has ended, and somebody else has taken its status.
            Err(error) if error.raw_os_error() == Some(libc::ECHILD) => return Exit::Lost,
            Ok(None) | Err(_) => {}
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return kill_child(child);
        }
        match &mut stderr {
            Some(open) => {
                if read_stderr(open, tail, left.min(LOOK)) == Heard::End {
                    stderr = None;
                }
            }
            // It has closed its standard error and is about to end: most often within microseconds,
            // and a sleep takes 150 at least.
            None if turns < TURNS => turns += 1,
            // SIGCHLD ends this, unless it comes just before.
            None => drop(poll(&mut [], PollTimeout::from(1_u8))),
        }
    }
}

/// What came of listening to a program.
#[derive(PartialEq, Eq)]
enum Heard {
    Something,
    Nothing,
    End,
}

/// Waits for a program to say something, and keeps the end of it. Where that fails it has said
/// nothing more: how it ends is what counts.
fn read_stderr(stderr: &mut ChildStderr, tail: &mut Vec<u8>, patience: Duration) -> Heard {
    let timeout = PollTimeout::try_from(patience).unwrap_or(PollTimeout::ZERO);
    let mut watched = [PollFd::new(stderr.as_fd(), PollFlags::POLLIN)];
    match poll(&mut watched, timeout) {
        Ok(0) | Err(Errno::EINTR) => return Heard::Nothing,
        Ok(_) => {}
        Err(_) => return Heard::End,
    }
    let mut chunk = [0; 4096];
    match stderr.read(&mut chunk) {
        Ok(length @ 1..) => {
            tail.extend_from_slice(&chunk[..length]);
            tail.drain(..tail.len().saturating_sub(KEPT));
            Heard::Something
        }
        Err(error) if error.kind() == io::ErrorKind::Interrupted => Heard::Nothing,
        Ok(0) | Err(_) => Heard::End,
    }
}

fn exit_of(status: ExitStatus) -> Exit {
    match (status.code(), status.signal()) {
        (Some(code), _) => Exit::Code(code),
        (None, signal) => Exit::Signal(signal.unwrap_or_default()),
    }
}

/// Kills a program and its children, and does not wait for long: one that sleeps in the kernel
/// cannot be killed.
fn kill_child(child: &mut Child) -> Exit {
    if let Ok(group) = i32::try_from(child.id()) {
        // Gone in this very moment, or about to go.
        let _ = killpg(Pid::from_raw(group), Signal::SIGKILL);
    }
    for _ in 0..50 {
        if matches!(child.try_wait(), Ok(Some(_))) {
            break;
        }
        sleep(Duration::from_millis(10));
    }
    Exit::TimedOut
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, input: &[u8], milliseconds: u64) -> ProcessOutput {
        run(&Invocation {
            program: Path::new("/bin/sh"),
            arguments: &["-c", script],
            environment: &[],
            input,
            output: StandardOutput::Kept,
            deadline: Instant::now() + Duration::from_millis(milliseconds),
        })
        .unwrap()
    }

    #[test]
    fn a_program_gets_its_input_and_nothing_else() {
        let finished = shell("cat; unset PWD; env | sort", b"in\n", 5_000);
        assert_eq!(finished.exit, Exit::Code(0));
        let output = String::from_utf8(finished.output).unwrap();
        assert_eq!(output, "in\nLC_ALL=C\nPATH=/usr/sbin:/usr/bin:/sbin:/bin\n");
    }

    #[test]
    fn a_program_gets_the_environment_that_it_is_given() {
        let finished = run(&Invocation {
            program: Path::new("/bin/sh"),
            arguments: &["-c", "printf %s \"$WORDS\""],
            environment: &[("WORDS", "$(id) 'x'\n")],
            input: b"",
            output: StandardOutput::Kept,
            deadline: Instant::now() + Duration::from_secs(5),
        })
        .unwrap();
        assert_eq!(finished.output, b"$(id) 'x'\n");
    }

    #[test]
    fn more_input_and_output_than_a_pipe_holds_does_not_block() {
        let input = vec![b'x'; 1 << 20];
        assert_eq!(shell("cat", &input, 5_000).output.len(), input.len());
    }

    #[test]
    fn the_end_of_a_long_complaint_is_kept_on_one_line() {
        let finished = shell(
            "yes noise | head -c 200000 >&2; printf 'the\\nlast\\033word' >&2; exit 3",
            b"",
            5_000,
        );
        assert_eq!(finished.exit, Exit::Code(3));
        assert!(finished.stderr.len() < 2 * KEPT);
        assert!(finished.stderr.ends_with("the; last\\u{1b}word"), "{}", finished.stderr);
    }

    #[test]
    fn a_program_that_hangs_is_killed_with_its_children() {
        let begun = Instant::now();
        let finished = shell("sleep 60 & echo $! ; sleep 60", b"", 100);
        assert_eq!(finished.exit, Exit::TimedOut);
        assert!(begun.elapsed() < Duration::from_secs(30));
        let child = String::from_utf8(finished.output).unwrap();
        let status = || std::fs::read_to_string(format!("/proc/{}/stat", child.trim())).unwrap_or_default();
        let is_gone = || status().is_empty() || status().contains(") Z ");
        // The signal is pending; on a busy machine the child dies when it is scheduled.
        while !is_gone() && begun.elapsed() < Duration::from_secs(30) {
            std::thread::sleep(Duration::from_millis(10));
        }
        assert!(is_gone(), "{}", status());
    }

    #[test]
    fn a_child_that_keeps_standard_error_open_does_not_keep_us() {
        let begun = Instant::now();
        assert_eq!(shell("sleep 30 & exit 0", b"", 20_000).exit, Exit::Code(0));
        assert!(begun.elapsed() < Duration::from_secs(10));
    }

    #[test]
    fn a_program_that_is_killed_says_by_which_signal() {
        assert_eq!(shell("kill -9 $$", b"", 5_000).exit, Exit::Signal(9));
    }
}
