//! Commands for people, one file each.

mod ground;
mod replay;
mod start;

use crate::cli::{CommandLine, Operation, Options};
use crate::hook::HookError;
use crate::log::Log;

/// Carries out a command and returns the exit code.
#[must_use]
pub fn run(line: CommandLine) -> u8 {
    let CommandLine { common, command } = line;
    let options = Options::from(common);
    match command {
        Operation::Replay { file } => replay::run(&file, &options),
        Operation::Start => told("start", start::start(&options)),
        Operation::Stop => told("stop", start::stop(&options)),
        Operation::Unblock { which } => told("unblock", start::unblock(&options, which.as_deref())),
    }
}

/// The exit code of a command; of one that failed, when the reason has been told.
fn told(command: &str, done: Result<u8, HookError>) -> u8 {
    done.unwrap_or_else(|error| {
        Log::Stderr.error(&format_args!("{command} failed: {error}"));
        error.exit_code()
    })
}
