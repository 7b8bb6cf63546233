//! `status`: which tunnels are open, what passes through them, and whether the kernel holds what
//! the record says.
//!
//! It takes no lock and changes nothing. A daemon's call can change record and kernel between the
//! two reads; so differences are read once more.

mod blocks;
mod figures;
mod gather;
mod interfaces;
mod json;
mod monitoring;
mod problem;
mod report;
mod screen;
mod without_rules;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use super::Detail;
use super::command_context::{CommandContext, print};
use super::fix::Fix;
use super::paint::on_stdout;
use super::screen_size::ScreenSize;
use crate::cli::Options;
use crate::daemon::Tunnel;
use crate::netfilter::Ruleset;
use crate::updown::HookError;
use crate::words::{escaped, nearest_name};
use gather::{StatusReport, gather, is_called};
pub(super) use gather::{in_order, is_of};
use problem::{Problem, ProblemKind, Severity};
use report::{Rows, View};
use screen::{Screen, Wake};

/// How the report looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StatusForm {
    /// For people: tunnels.
    Tunnels,
    /// For people: users.
    Users,
    /// For programs.
    Json,
    /// For node_exporter's textfile collector.
    Prometheus,
    /// A Nagios plugin's line.
    Nagios,
}

/// What `status` is asked for.
#[derive(Debug, Clone)]
pub(super) struct StatusRequest {
    pub(super) form: StatusForm,
    pub(super) detail: Detail,
    /// The only tunnels that are shown; all, if there are none.
    pub(super) names: Vec<String>,
    /// Connections that should be up.
    pub(super) expected: Vec<String>,
    /// How often it reports; once, if nothing is said.
    pub(super) every: Option<Duration>,
    pub(super) colours: Colours,
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

/// Prints the name of every connection that has a recorded tunnel, one per line. It starts no
/// program, because shells call it for completion.
pub(super) fn print_names(options: &Options) -> Result<u8, HookError> {
    let store = CommandContext::new(options)?.peek();
    let mut names = BTreeSet::new();
    for ruleset in Ruleset::all_rulesets() {
        let tunnels = store.tunnels(ruleset)?;
        names.extend(tunnels.into_iter().map(|record| record.key.connection.to_string()));
    }
    print(&names.iter().map(|name| format!("{name}\n")).collect::<String>())?;
    Ok(0)
}

/// Reports once, or again and again. Returns the exit code: 1 if something is not as it should be,
/// 3 if that could not be looked at; a Nagios plugin's own.
pub(super) fn run(options: &Options, asked: &StatusRequest) -> Result<u8, HookError> {
    let colours = on_stdout(asked.colours);
    match (asked.every, asked.form) {
        (Some(every), StatusForm::Tunnels | StatusForm::Users) => watch_status(options, asked, every, colours),
        (Some(every), _) => loop {
            print_once(options, asked, colours)?;
            std::thread::sleep(every);
        },
        (None, _) => print_once(options, asked, colours),
    }
}

fn gather_status(options: &Options, asked: &StatusRequest) -> Result<StatusReport, HookError> {
    let mut report = gather(&CommandContext::new(options)?)?;
    let is_up = |name: &String| {
        let mut tunnels = report.tunnels.iter();
        tunnels.any(|tunnel| is_of(&tunnel.record.tunnel, name)) || is_any_without_rules(&report, name, is_of)
    };
    let expected = asked.expected.iter().filter(|name| !is_up(name));
    let expected = expected.map(|name| format!("expected tunnel {name} is not up"));
    let is_named = |name: &String| {
        let mut tunnels = report.tunnels.iter();
        tunnels.any(|tunnel| tunnel.is_called(name)) || is_any_without_rules(&report, name, is_called)
    };
    let unknown = asked.names.iter().filter(|name| !is_named(name));
    let unknown = unknown.map(|name| no_such_tunnel(&report, name));
    let texts: Vec<_> = expected.chain(unknown).collect();
    report.problems.extend(texts.into_iter().map(|text| {
        let fix = Fix::Advice("see the log of the IKE daemon".to_owned());
        Problem::new(Severity::Error, ProblemKind::Expected, text, fix)
    }));
    Ok(report)
}

/// Whether a tunnel that is up without rules has a name. That it has none is a problem of its own.
fn is_any_without_rules(report: &StatusReport, name: &str, is_its: fn(&Tunnel, &str) -> bool) -> bool {
    let mut failed = report.without_rules.iter();
    failed.any(|failed| is_its(&failed.tunnel, name))
}

/// `no tunnel is up for "ofice"; did you mean "office"?`
fn no_such_tunnel(report: &StatusReport, name: &str) -> String {
    let tunnels = report.tunnels.iter().map(|tunnel| &tunnel.record.tunnel);
    let known = tunnels.flat_map(|tunnel| {
        let user = tunnel.user.iter().map(ToString::to_string);
        user.chain([tunnel.connection.to_string()])
    });
    let known: Vec<_> = known.collect();
    let meant = nearest_name(name, &known);
    let meant = meant.map_or_else(String::new, |meant| format!("; did you mean \"{meant}\"?"));
    format!("no tunnel is up for \"{}\"{meant}", escaped(name.as_bytes(), 60))
}

fn view<'a>(asked: &'a StatusRequest, colours: Colours, earlier: Option<figures::Earlier<'a>>) -> View<'a> {
    View {
        detail: asked.detail,
        rows: match asked.form {
            StatusForm::Users => Rows::Users,
            StatusForm::Tunnels | StatusForm::Json | StatusForm::Prometheus | StatusForm::Nagios => Rows::Tunnels,
        },
        names: &asked.names,
        size: ScreenSize::of_stdout(),
        colours,
        earlier,
    }
}

fn print_once(options: &Options, asked: &StatusRequest, colours: Colours) -> Result<u8, HookError> {
    let report = gather_status(options, asked)?;
    let mut view = view(asked, colours, None);
    let selected = report::selected(&report, &view);
    // One tunnel that is asked for by name is shown whole.
    if !asked.names.is_empty() && selected.len() == 1 && asked.form == StatusForm::Tunnels {
        view.detail = Detail::Full;
    }
    match asked.form {
        StatusForm::Tunnels | StatusForm::Users => print(&report::report_text(&report, &view))?,
        StatusForm::Json => print(&json::json_text(&report, &selected))?,
        StatusForm::Prometheus => print(&monitoring::prometheus(&report))?,
        StatusForm::Nagios => {
            let (line, code) = monitoring::nagios(&report);
            print(&line)?;
            return Ok(code);
        }
    }
    Ok(match (report.has(Severity::Error), report.has(Severity::Unknown)) {
        (true, _) => 1,
        (false, true) => 3,
        (false, false) => 0,
    })
}

/// Shows reports on one screen until it is ended.
fn watch_status(options: &Options, asked: &StatusRequest, every: Duration, colours: Colours) -> Result<u8, HookError> {
    let mut before: Option<(Instant, StatusReport)> = None;
    let first = gather_status(options, asked)?;
    let mut screen = Screen::open(colours)?;
    let mut next = Some(first);
    loop {
        let begun = Instant::now();
        let report = match next.take() {
            Some(report) => report,
            None => gather_status(options, asked)?,
        };
        let earlier = before.as_ref();
        let earlier = earlier.map(|(then, report)| (begun.duration_since(*then), report));
        screen.show_text(&report::screenful(&report, &view(asked, colours, earlier)))?;
        before = Some((begun, report));
        if screen.wait_for_key(every) == Wake::End {
            return Ok(0);
        }
    }
}
