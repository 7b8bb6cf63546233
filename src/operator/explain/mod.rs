//! `explain`: what may flow through a tunnel, and which chains a packet comes through within this machine; or what becomes of one packet.
//!
//! Everything is judged by our own rules as they are on record. The kernel is asked one thing only, which addresses are the gateway's own;
//! whether the rules stand is for `status` to say.

mod about;
mod diagram;
mod drawing;
mod find;
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
    print(&match (question, asked.form) {
        (Some(question), _) => packet::text(&scene, &question, &found),
        (None, Form::Words) => words(&scene, &found),
        (None, Form::Picture) => svg::draw(&diagrams(&scene, &found)),
    })?;
    Ok(0)
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
