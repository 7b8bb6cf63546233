//! `explain`: the verdict on a packet and the setting that decides; or what a tunnel allows, and
//! the chains that its packets meet.
//!
//! Every verdict is by this program's rules as recorded. Before that, the record is compared with
//! the kernel's listing: if they differ, the answer says so first, because it may not be what the
//! kernel does. Of other rules, the listing shows the first one that matches.

mod about;
mod answer;
mod diagram;
mod drawing;
mod find;
mod kernel_view;
mod kinds;
mod list;
mod names;
mod own_rules;
mod packet;
mod packet_query;
mod reason;
mod record_view;
mod routes;
mod svg;
mod traffic_class;
mod verdict;

pub use names::Directory;
pub use packet_query::PacketQuery;
pub(crate) use packet_query::PacketQueryError;

use std::fmt::Write as _;

use log::error;

use super::Detail;
use super::command_context::{CommandContext, print};
use super::no_record::LostRecord;
use super::paint::on_stdout;
use super::screen_size::ScreenSize;
use super::status::{Colours, is_of};
use crate::cli::Options;
use crate::updown::HookError;
use find::FoundTunnel;
use names::Resolver;
use record_view::{RecordView, RulesetView};

/// What is asked for.
#[derive(Debug)]
pub(super) struct ExplainRequest {
    /// The connection or the short name of a tunnel, or the words of a packet.
    pub(super) words: Vec<String>,
    /// The words of a packet, where a tunnel can be named beside it.
    pub(super) packet: Option<Vec<String>>,
    pub(super) form: Form,
    pub(super) detail: Detail,
}

/// The form of the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Words,
    Diagram,
    Svg,
}

/// What is asked about.
enum Subject {
    /// Nothing yet: which tunnels there are.
    List,
    Tunnel(String),
    Packet {
        query: PacketQuery,
        named: Option<String>,
    },
}

/// The narrowest line that is written, in characters.
const NARROWEST: usize = 40;

/// How many tunnels of a connection are explained one after the other; of more, one has to be
/// named.
const MAX_TUNNELS: usize = 3;

/// Prints the answer. Returns the exit code:
///
/// - 1 if no tunnel has the name, an older version installed the rules, or the kernel differs from
///   the record
/// - 2 if the words are no packet, or if several tunnels have the name with `--svg`
/// - 3 if the kernel's rules could not be listed
pub(super) fn run(options: &Options, asked: &ExplainRequest, colours: Colours) -> Result<u8, HookError> {
    let subject = match subject(asked) {
        Ok(subject) => subject,
        Err(error) => return Ok(print_error(2, &error)),
    };
    let command = CommandContext::new(options)?;
    let record_view = RecordView::gather_records(&command, line_width())?;
    let found = match &subject {
        Subject::List | Subject::Packet { named: None, .. } => Vec::new(),
        Subject::Tunnel(name) | Subject::Packet { named: Some(name), .. } => {
            match find::find_tunnels(&record_view, name) {
                Ok(found) => found,
                Err(error) => {
                    if let Some(text) = without_rules(&command, name) {
                        return Ok(print_error(1, &text));
                    }
                    if let Some(LostRecord { text, fix }) = record_view.lost_record() {
                        print_error(1, &format!("{text}; fix: {}", fix.fix_text()));
                    }
                    let set = find::settings_of(&record_view, name);
                    return Ok(print_error(1, &format!("{error}{set}")));
                }
            }
        }
    };
    if asked.form == Form::Svg && found.len() > 1 {
        let name = crate::words::one_line(asked.words.first().map_or("", String::as_str));
        return Ok(print_error(
            2,
            &list::of_connection(&name, found, record_view.width).trim_end(),
        ));
    }
    let ruleset_views: Vec<_> = match &subject {
        Subject::Packet { query, .. } => record_view.rulesets_for(query.destination).collect(),
        Subject::Tunnel(_) => found.iter().map(|found| found.ruleset).take(1).collect(),
        // Rules of an older version work, and the list explains none of them.
        Subject::List => {
            let rulesets = record_view.rulesets.iter();
            rulesets
                .filter(|ruleset_view| !ruleset_view.has_older_layout())
                .collect()
        }
    };
    if let Some(older) = ruleset_views
        .iter()
        .find(|ruleset_view| ruleset_view.has_older_layout())
    {
        return Ok(print_error(1, &older_layout(older)));
    }
    let warning = kernel_view::warning(&record_view, ruleset_views);
    let answer = match (subject, asked.form) {
        (Subject::List, _) => list::tunnel_list(find::all_tunnels(&record_view).collect(), record_view.width),
        (Subject::Packet { query, .. }, _) => {
            packet::packet_text(&record_view, &query, &found, asked.detail, on_stdout(colours))
        }
        (Subject::Tunnel(_), Form::Svg) => found.first().map_or_else(String::new, |found| {
            svg::draw_svg(&svg_title(found), &diagrams(&record_view, found))
        }),
        (Subject::Tunnel(name), form) => {
            let list = list::of_connection(&crate::words::one_line(&name), found.clone(), record_view.width);
            let text = |found: &FoundTunnel<'_>| match form {
                Form::Words | Form::Svg => about::tunnel_text(&record_view, found),
                Form::Diagram => {
                    let drawings =
                        diagrams(&record_view, found).map(|diagram| drawing::draw_text(&diagram, record_view.width));
                    drawings.join("\n")
                }
            };
            match found.len() {
                1 => each_tunnel(&found, text),
                2..=MAX_TUNNELS => format!("{list}\n{}", each_tunnel(&found, text)),
                _ => list,
            }
        }
    };
    let (warned, code) = warning.map_or((String::new(), 0), |warning| (warning.text, warning.code));
    match asked.form {
        Form::Words | Form::Diagram => print(&format!("{warned}{answer}"))?,
        Form::Svg => {
            warned
                .lines()
                .filter(|line| !line.is_empty())
                .for_each(|line| error!("{line}"));
            print(&answer)?;
        }
    }
    Ok(code)
}

/// What is known of a tunnel of this name that is up without rules.
fn without_rules(command: &CommandContext<'_>, name: &str) -> Option<String> {
    let failed = command.peek().failed_ups().ok()?;
    let failed = failed.into_iter().find(|failed| is_of(&failed.tunnel, name))?;
    Some(format!(
        "{} is up without rules: {}; fix: pluto-updown start",
        failed.tunnel.connection, failed.reason
    ))
}

/// How wide a line is, in characters. Labels and a few words fit the narrowest one.
fn line_width() -> usize {
    ScreenSize::of_stdout().width.max(NARROWEST)
}

fn subject(asked: &ExplainRequest) -> Result<Subject, PacketQueryError> {
    match (&asked.packet, &asked.words[..]) {
        (Some(packet), words @ ([] | [_])) => Ok(Subject::Packet {
            query: PacketQuery::parse(packet, &Resolver)?,
            named: words.first().cloned(),
        }),
        (Some(_), _) => Err(PacketQueryError::Form),
        (None, []) => match asked.form {
            Form::Words => Ok(Subject::List),
            Form::Diagram | Form::Svg => Err(PacketQueryError::NoTunnel),
        },
        (None, [name]) => Ok(Subject::Tunnel(name.clone())),
        (None, _) if asked.form != Form::Words => Err(PacketQueryError::NoTunnel),
        (None, words) => Ok(Subject::Packet {
            query: PacketQuery::parse(words, &Resolver)?,
            named: None,
        }),
    }
}

fn print_error(code: u8, error: &dyn std::fmt::Display) -> u8 {
    error!("explain: {error}");
    code
}

/// Why a ruleset's packets are not explained.
fn older_layout(ruleset_view: &RulesetView) -> String {
    format!(
        "{}: older layout: an older version of pluto-updown installed the rules, and their path is not known; fix: pluto-updown start",
        ruleset_view.ruleset
    )
}

/// The texts of all tunnels, with a line between.
fn each_tunnel(found: &[FoundTunnel<'_>], text_of: impl Fn(&FoundTunnel<'_>) -> String) -> String {
    let mut text = String::new();
    for (number, found) in found.iter().enumerate() {
        let between = if number > 0 { "\n" } else { "" };
        // Writing into a String cannot fail.
        let _ = write!(text, "{between}{}", text_of(found));
    }
    text
}

fn svg_title(found: &FoundTunnel<'_>) -> String {
    let record = found.record;
    format!(
        "Path of the packets of tunnel {} ({}) within this machine",
        record.key.connection, record.id
    )
}

fn diagrams(record_view: &RecordView, found: &FoundTunnel<'_>) -> [diagram::Diagram; 2] {
    [
        diagram::inbound(record_view, found),
        diagram::outbound(record_view, found),
    ]
}
