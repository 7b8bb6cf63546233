//! A standard error that nobody reads: the IKE daemon waits, and with it every tunnel, as long as a call lasts.

use std::io::{PipeReader, PipeWriter, Write as _, pipe};
use std::process::Stdio;
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, OFlag, fcntl};

use super::fakes::Fakes;
use crate::support::binary::{Call, Hook};
use crate::support::captures::libreswan_up;

/// How long a call may take here. It waits half a second for its reader; the rest is for a busy machine.
const BOUND: Duration = Duration::from_secs(20);

/// A pipe that is full to the last byte. Whoever writes to it waits until the reader reads or is closed.
fn full_pipe() -> (PipeReader, PipeWriter) {
    let (reader, mut writer) = pipe().expect("a pipe");
    fcntl(&writer, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).expect("a pipe that does not wait");
    while writer.write(&[b'x'; 4096]).is_ok() {}
    while writer.write(b"x").is_ok() {}
    fcntl(&writer, FcntlArg::F_SETFL(OFlag::empty())).expect("a pipe that waits");
    (reader, writer)
}

/// Makes a call with its standard error in this pipe, and returns its exit code. One that does not end is killed, and has none.
fn exit_code(hook: &Hook, call: &Call, stderr: &PipeWriter) -> Option<i32> {
    let stderr = stderr.try_clone().expect("a copy of the pipe");
    let mut command = hook.command(call);
    let mut child = command
        .stdout(Stdio::null())
        .stderr(stderr)
        .spawn()
        .expect("starting it");
    let begun = Instant::now();
    loop {
        if let Some(status) = child.try_wait().expect("its status") {
            return status.code();
        }
        if begun.elapsed() > BOUND {
            child.kill().expect("killing it");
        }
        sleep(Duration::from_millis(10));
    }
}

/// Whether writers to this pipe wait: a flag that every process shares that has it open.
fn is_blocking(writer: &PipeWriter) -> bool {
    let flags = fcntl(writer, FcntlArg::F_GETFL).expect("the flags of a pipe");
    !OFlag::from_bits_retain(flags).contains(OFlag::O_NONBLOCK)
}

#[test]
fn a_call_whose_errors_nobody_reads_ends_and_releases_the_lock() {
    let mut fakes = Fakes::new();
    fakes.expect_success(&libreswan_up().of_tunnel(9));
    // The program is killed, so that the record needs repair. The route is then called in vain: it complains under the lock.
    fakes.restore_does("kill -9 $$");
    fakes.save_does("exit 3");
    fakes.call_in_vain(&libreswan_up()).assert_refused(1, &["signal 9"]);
    for (verb, code) in [("route-client", 0), ("up-client", 1), ("down-client", 1)] {
        let (_unread, stderr) = full_pipe();
        let call = libreswan_up().with_verb(verb);
        assert_eq!(exit_code(&fakes.hook(), &call, &stderr), Some(code), "{verb}");
        assert!(is_blocking(&stderr), "{verb}: the daemon's end of the pipe is changed");
    }
    fakes.restore_does("exit 0");
    fakes.save_does("exit 0");
    fakes.expect_success(&libreswan_up().of_tunnel(9).opposite());
    fakes.assert_forgotten();
}

#[test]
fn a_dry_run_and_a_command_whose_errors_nobody_reads_end() {
    let fakes = Fakes::new();
    let (_unread, stderr) = full_pipe();
    let refused = libreswan_up().without("PLUTO_MY_CLIENT");
    assert_eq!(exit_code(&fakes.hook().word("--dry-run"), &refused, &stderr), Some(1));
    fakes.settings("nonsense");
    for words in [&["start"][..], &["no-such-command"], &["replay", "/nonexistent"]] {
        let code = exit_code(&fakes.hook(), &Call::command(words), &stderr);
        assert_eq!(code, Some(2), "{words:?}");
    }
}

#[test]
fn a_call_whose_standard_error_is_broken_ends_as_it_would() {
    let fakes = Fakes::new();
    let (reader, stderr) = pipe().expect("a pipe");
    drop(reader);
    let refused = libreswan_up().without("PLUTO_MY_CLIENT");
    assert_eq!(exit_code(&fakes.hook(), &refused, &stderr), Some(1));
}
