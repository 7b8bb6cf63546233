//! `status`: which tunnels are open, what passes through them, and whether the kernel holds what the record says.
//!
//! It takes no lock and changes nothing. A daemon's call can come between its looks; what differs only for that reason is looked at once
//! more.

mod gather;
mod json;
mod table;

use std::collections::BTreeSet;
use std::io::{self, IsTerminal as _};
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::command_context::{CommandContext, print};
use crate::cli::Options;
use crate::hook::HookError;
use crate::netfilter::Ruleset;
use gather::{StatusReport, gather};

/// How the report looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StatusForm {
    /// For people.
    Table,
    /// For programs.
    Json,
}

/// Whether colours are wanted where a terminal shows them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Colours {
    /// They are.
    Wanted,
    /// `NO_COLOR` is set.
    Unwanted,
    /// The terminal is a plain one (`TERM=dumb`), or none: it would print every escape as text.
    Unknown,
}

/// Prints the name of every connection that has a tunnel on record, one a line. It starts no program: a shell asks for them while
/// somebody types.
pub(super) fn names(options: &Options) -> Result<u8, HookError> {
    let store = CommandContext::new(options)?.peek();
    let mut names = BTreeSet::new();
    for ruleset in Ruleset::all() {
        let tunnels = store.tunnels(ruleset)?;
        names.extend(tunnels.into_iter().map(|record| record.key.connection.to_string()));
    }
    print(&names.iter().map(|name| format!("{name}\n")).collect::<String>())?;
    Ok(0)
}

/// Reports once, or again and again. Returns 1 if something is not as it should be.
pub(super) fn run(
    options: &Options,
    form: StatusForm,
    every: Option<Duration>,
    colours: Colours,
) -> Result<u8, HookError> {
    let terminal = io::stdout().is_terminal();
    let colours = if terminal { colours } else { Colours::Unknown };
    let mut before: Option<(Instant, StatusReport)> = None;
    loop {
        let begun = Instant::now();
        let report = gather(&CommandContext::new(options)?)?;
        let since = before
            .as_ref()
            .map(|(then, report)| (begun.duration_since(*then), report));
        if every.is_some() && form == StatusForm::Table {
            print(before_a_report(colours, before.is_some()))?;
        }
        print(&match form {
            StatusForm::Table => table::text(&report, since, colours),
            StatusForm::Json => json::text(&report),
        })?;
        let Some(every) = every else {
            return Ok(u8::from(!report.problems.is_empty()));
        };
        before = Some((begun, report));
        sleep(every);
    }
}

/// What separates a report from the one before it: the cursor goes home and the screen is cleared, or a line stays empty.
fn before_a_report(colours: Colours, is_later: bool) -> &'static str {
    match (colours, is_later) {
        (Colours::Wanted | Colours::Unwanted, _) => "\u{1b}[H\u{1b}[2J",
        (Colours::Unknown, true) => "\n",
        (Colours::Unknown, false) => "",
    }
}
