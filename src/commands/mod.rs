//! Commands for people, one file each.

mod check;
mod columns;
mod command_context;
mod drift_words;
mod explain;
mod fix;
mod flush;
mod no_record;
mod paint;
mod prune;
mod replay;
mod restore;
mod screen_size;
mod settings_changes;
mod start;
mod status;

pub use explain::{Directory, PacketQuery};
pub(crate) use status::Colours;

use std::time::Duration;

use anyhow::Context as _;
use check::Privileges;
use start::{StartRequest, StartTrigger};
use status::{StatusForm, StatusRequest};

use crate::cli::{CliCommand, CommandLine, Options, StatusArguments};
use crate::netfilter::UserRules;
use crate::updown::{HookError, log_failure};

/// How often `status --watch` looks, in seconds, if nothing is said.
const WATCH_INTERVAL: u64 = 2;

/// Whether `--yes` allows a command to do what it would otherwise ask about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Consent {
    /// By an option.
    Given,
    /// Not yet.
    Missing,
}

/// How much a command prints.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Detail {
    /// What was done, in a few lines.
    Summary,
    /// Everything: every rule, every other path.
    Full,
}

impl Detail {
    fn from_flag(is_verbose: bool) -> Self {
        match is_verbose {
            true => Self::Full,
            false => Self::Summary,
        }
    }
}

/// Carries out a command and returns the exit code.
#[must_use]
pub fn run(line: CommandLine, colours: Colours) -> u8 {
    let CommandLine { common, command } = line;
    let options = Options::from(common);
    match command {
        CliCommand::Replay { file } => replay::run(&file, &options),
        CliCommand::Start { boot, force, verbose } => {
            let asked = StartRequest {
                trigger: if boot { StartTrigger::Boot } else { StartTrigger::Change },
                consent: if force { Consent::Given } else { Consent::Missing },
                detail: Detail::from_flag(verbose),
            };
            exit_code("start", start::start(&options, asked))
        }
        CliCommand::Stop { verbose } => exit_code("stop", start::stop(&options, Detail::from_flag(verbose))),
        CliCommand::Unblock {
            which: None,
            all: false,
            verbose: _,
        } => exit_code(
            "unblock",
            Err(HookError::Refused(
                "name a connection or a network (status shows what is blocked), or use --all".to_owned(),
            )),
        ),
        CliCommand::Unblock { which, all: _, verbose } => exit_code(
            "unblock",
            start::unblock(&options, which.as_deref(), Detail::from_flag(verbose)),
        ),
        CliCommand::Check { as_daemon } => {
            let rights = if as_daemon {
                Privileges::Daemon
            } else {
                Privileges::Administrator
            };
            looked("check", check::run(&options, rights, colours))
        }
        CliCommand::Explain {
            words,
            packet,
            diagram,
            svg,
            verbose,
        } => {
            let form = match (svg, diagram) {
                (true, _) => explain::Form::Svg,
                (false, true) => explain::Form::Diagram,
                (false, false) => explain::Form::Words,
            };
            let asked = explain::ExplainRequest {
                words,
                packet,
                form,
                detail: Detail::from_flag(verbose),
            };
            exit_code("explain", explain::run(&options, &asked, colours))
        }
        CliCommand::Flush { force, yes, verbose } => {
            let others = if force { UserRules::Delete } else { UserRules::Keep };
            let consent = if yes { Consent::Given } else { Consent::Missing };
            exit_code(
                "flush",
                flush::run(&options, others, consent, Detail::from_flag(verbose)),
            )
        }
        CliCommand::Restore { verbose } => exit_code("restore", restore::run(&options, Detail::from_flag(verbose))),
        CliCommand::Status(StatusArguments { names: true, .. }) => looked("status", status::print_names(&options)),
        CliCommand::Status(arguments) => looked("status", status::run(&options, &status_request(arguments, colours))),
        CliCommand::Prune { verbose } => exit_code("prune", prune::run(&options, Detail::from_flag(verbose))),
    }
}

/// The exit code of a command, once the reason is logged if it failed.
fn exit_code(command: &str, done: Result<u8, HookError>) -> u8 {
    done.with_context(|| format!("{command} failed"))
        .unwrap_or_else(|error| log_failure(&error))
}

/// The same of a command that only looks: 3 where it could not.
fn looked(command: &str, done: Result<u8, HookError>) -> u8 {
    let is_failure = done.as_ref().is_err_and(|error| error.exit_code() == 1);
    match (exit_code(command, done), is_failure) {
        (_, true) => 3,
        (code, false) => code,
    }
}

/// What the command line asks of `status`.
fn status_request(arguments: StatusArguments, colours: Colours) -> StatusRequest {
    let form = if arguments.json {
        StatusForm::Json
    } else if arguments.prometheus {
        StatusForm::Prometheus
    } else if arguments.nagios {
        StatusForm::Nagios
    } else if arguments.users {
        StatusForm::Users
    } else {
        StatusForm::Tunnels
    };
    let mut names = arguments.which;
    let every = arguments.watch.map(|seconds| {
        // `--watch 5`: a number that follows is no tunnel's name.
        let is_interval = |name: &String| name.parse().ok().filter(|number| (1..=3600).contains(number));
        let typed = names.first().filter(|_| seconds.is_none()).and_then(is_interval);
        if typed.is_some() {
            names.remove(0);
        }
        Duration::from_secs(seconds.or(typed).unwrap_or(WATCH_INTERVAL))
    });
    StatusRequest {
        form,
        detail: Detail::from_flag(arguments.verbose),
        names,
        expected: arguments.expect,
        every,
        colours,
    }
}
