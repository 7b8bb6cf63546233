//! `replay FILE`: every call of a captures file, as if its daemon made it now.

use std::io::{self, Write as _};
use std::path::Path;

use anyhow::{Context as _, ensure};
use log::error;

use crate::cli::Options;
use crate::daemon::{CapturedCall, RawEnv, captured_calls};
use crate::sys::files::read_plain;
use crate::updown::{self, HookError, Summary};
use crate::words::escaped;

/// A call is a kilobyte or two: thousands of them, in bytes.
const LARGEST: u64 = 64 << 20;

/// Replays the calls of a file, prints a line for each and a summary, and returns 0 if all of them
/// went well.
pub(super) fn run(file: &Path, options: &Options) -> u8 {
    let calls = match read_calls(file) {
        Ok(calls) => calls,
        Err(error) => {
            error!("{error:#}");
            return 2;
        }
    };
    match replay(&calls, options).context("standard output") {
        Ok(0) => 0,
        Ok(_) => 1,
        Err(error) => {
            error!("{error:#}");
            1
        }
    }
}

fn read_calls(file: &Path) -> anyhow::Result<Vec<CapturedCall>> {
    let bytes = read_plain(file, LARGEST).with_context(|| format!("{}: cannot read", file.display()))?;
    let calls = captured_calls(&bytes);
    ensure!(
        !calls.is_empty(),
        "{}: no calls found, expected lines that begin with >",
        file.display()
    );
    Ok(calls)
}

/// Stops at no call; returns how many failed.
fn replay(calls: &[CapturedCall], options: &Options) -> io::Result<usize> {
    let mut output = io::stdout().lock();
    let mut failed = 0;
    for call in calls {
        let raw_env = call.raw_env();
        let result = match call.fault {
            Some(line) => Err(format!("line {line}: expected NAME=value")),
            None => replay_call(&raw_env, options)
                .map(|done| done.to_string())
                .map_err(|error| error.to_string()),
        };
        failed += usize::from(result.is_err());
        let (mark, words) = match &result {
            Ok(done) => ("ok", done),
            Err(error) => ("FAILED", error),
        };
        writeln!(
            output,
            "{:>5} {} {}: {mark}: {words}",
            call.line,
            variable_text(&raw_env, "PLUTO_VERB"),
            variable_text(&raw_env, "PLUTO_CONNECTION")
        )?;
    }
    writeln!(
        output,
        "{} calls, {} ok, {failed} failed",
        calls.len(),
        calls.len() - failed
    )?;
    Ok(failed)
}

fn replay_call(raw_env: &RawEnv, options: &Options) -> Result<Summary, HookError> {
    // The routes follow the call's own arguments, all else follows the command line of `replay`.
    let Options { route, iproute, .. } = crate::cli::hook_arguments(raw_env.arguments())?;
    let options = Options {
        route,
        iproute,
        ..options.clone()
    };
    updown::call(raw_env, &options, updown::parent_daemon())
}

fn variable_text(raw_env: &RawEnv, name: &str) -> String {
    escaped(raw_env.get(name).map_or(b"-", |value| value.as_encoded_bytes()), 60)
}
