//! Commands for people, one file each.

mod replay;

use crate::cli::{CommandLine, Operation, Options};

/// Carries out a command and returns the exit code.
#[must_use]
pub fn run(line: CommandLine) -> u8 {
    let CommandLine { common, command } = line;
    let options = Options::from(common);
    match command {
        Operation::Replay { file } => replay::run(&file, &options),
    }
}
