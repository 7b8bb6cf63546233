//! `explain`: what may flow through a tunnel, and which chains a packet comes through within this machine; or what becomes of one packet.
//!
//! Everything is judged by our own rules as they are on record. Before that the record is compared with what the kernel lists: where the
//! two differ, the answer says so first, because it is not about what the kernel does.

mod about;
mod diagram;
mod drawing;
mod find;
mod kernel_view;
mod kinds;
mod packet;
mod packet_query;
mod record_view;
mod svg;
mod traffic_class;
mod verdict;

use std::fmt::Write as _;

use log::error;

use super::command_context::{CommandContext, print};
use crate::cli::Options;
use crate::hook::HookError;
use find::FoundTunnel;
use record_view::{RecordView, RulesetView};

pub use packet_query::{PacketQuery, PacketQueryError};

/// What is asked for.
#[derive(Debug)]
pub(super) struct Asked {
    /// The connection or the short name of a tunnel.
    pub(super) name: Option<String>,
    /// The words of a packet.
    pub(super) packet: Option<Vec<String>>,
    pub(super) form: Form,
}

/// How it is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Words,
    Picture,
}

/// Tells it. Returns the exit code: 1 if no tunnel has the name, 2 if the words are no packet.
pub(super) fn run(options: &Options, asked: &Asked) -> Result<u8, HookError> {
    let question = match asked.packet.as_deref().map(PacketQuery::parse).transpose() {
        Ok(question) => question,
        Err(error) => return Ok(complain(2, &error)),
    };
    let ground = CommandContext::new(options)?;
    let scene = RecordView::look(&ground)?;
    let found = match &asked.name {
        None => Vec::new(),
        Some(name) => match find::find(&scene, name) {
            Ok(found) => found,
            Err(error) => return Ok(complain(1, &error)),
        },
    };
    let warning = match &question {
        Some(question) => kernel_view::warning(scene.rulesets_for(question.destination)),
        None => kernel_view::warning(found.iter().map(|found| found.ruleset)),
    };
    let answer = match (question, asked.form) {
        (Some(question), _) => packet::text(&scene, &question, &found),
        (None, Form::Words) => words(&scene, &found),
        (None, Form::Picture) => svg::draw(&diagrams(&scene, &found)),
    };
    let (warned, code) = warning.map_or((String::new(), 0), |warning| (warning.text, warning.code));
    match asked.form {
        Form::Words => print(&format!("{warned}{answer}"))?,
        Form::Picture => {
            warned
                .lines()
                .filter(|line| !line.is_empty())
                .for_each(|line| error!("{line}"));
            print(&answer)?;
        }
    }
    Ok(code)
}

fn complain(code: u8, error: &dyn std::fmt::Display) -> u8 {
    error!("explain: {error}");
    code
}

fn words(scene: &RecordView, found: &[FoundTunnel<'_>]) -> String {
    let mut text = String::new();
    for (number, found) in found.iter().enumerate() {
        let between = if number > 0 { "\n" } else { "" };
        // Writing into a String cannot fail.
        let _ = write!(text, "{between}{}", about::text(scene, found));
        for diagram in [diagram::inbound(scene, found), diagram::outbound(scene, found)] {
            let _ = write!(text, "\n{}", drawing::draw(&diagram));
        }
    }
    text
}

fn diagrams(scene: &RecordView, found: &[FoundTunnel<'_>]) -> Vec<diagram::Diagram> {
    let both = found
        .iter()
        .flat_map(|found| [diagram::inbound(scene, found), diagram::outbound(scene, found)]);
    both.collect()
}
