//! Commands for people, one file each.

mod check;
mod command_context;
mod explain;
mod flush;
mod paint;
mod prune;
mod replay;
mod restore;
mod start;
mod status;

use std::time::Duration;

use anyhow::Context as _;
use check::Privileges;
pub use explain::{PacketQuery, PacketQueryError};
use start::Occasion;
pub use status::Colours;
use status::StatusForm;

use crate::cli::{CliCommand, CommandLine, Options};
use crate::hook::{HookError, log_failure};
use crate::netfilter::UserRules;

/// Carries out a command and returns the exit code.
#[must_use]
pub fn run(line: CommandLine, colours: Colours) -> u8 {
    let CommandLine { common, command } = line;
    let options = Options::from(common);
    match command {
        CliCommand::Replay { file } => replay::run(&file, &options),
        CliCommand::Start { boot } => {
            let occasion = if boot { Occasion::Boot } else { Occasion::Change };
            ended("start", start::start(&options, occasion))
        }
        CliCommand::Stop => ended("stop", start::stop(&options)),
        CliCommand::Unblock { which } => ended("unblock", start::unblock(&options, which.as_deref())),
        CliCommand::Check { as_daemon } => {
            let rights = if as_daemon {
                Privileges::Daemon
            } else {
                Privileges::Administrator
            };
            ended("check", check::run(&options, rights, colours))
        }
        CliCommand::Explain { name, packet, svg } => {
            let form = if svg {
                explain::Form::Picture
            } else {
                explain::Form::Words
            };
            let asked = explain::Asked { name, packet, form };
            ended("explain", explain::run(&options, &asked))
        }
        CliCommand::Flush { force } => {
            let others = if force { UserRules::Delete } else { UserRules::Keep };
            ended("flush", flush::run(&options, others))
        }
        CliCommand::Restore => ended("restore", restore::run(&options)),
        CliCommand::Status { names: true, .. } => ended("status", status::names(&options)),
        CliCommand::Status { json, watch, .. } => {
            let form = if json { StatusForm::Json } else { StatusForm::Table };
            let every = watch.map(Duration::from_secs);
            ended("status", status::run(&options, form, every, colours))
        }
        CliCommand::Prune => ended("prune", prune::run(&options)),
    }
}

/// The exit code of a command, once the reason is logged if it failed.
fn ended(command: &str, done: Result<u8, HookError>) -> u8 {
    done.with_context(|| format!("{command} failed"))
        .unwrap_or_else(|error| log_failure(&error))
}
