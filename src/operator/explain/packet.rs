//! `explain --packet`: the verdict on an unencrypted packet, and on the same one through every
//! tunnel that its addresses match.

use std::fmt::Write as _;

use super::answer;
use super::find::{FoundTunnel, all_tunnels};
use super::kinds;
use super::packet_query::PacketQuery;
use super::record_view::{RecordView, RulesetView};
use super::routes::{OwnAddresses, TunnelRoute, routes};
use super::verdict::{Grain, details, labelled_line, moments, other_orders, outcome_text, outcomes, phase, rule};
use crate::netfilter::Direction;
use crate::operator::Colours;
use crate::operator::Detail;
use crate::plan::{Endpoint, PacketCtState, seen_from_destination};
use crate::record::TunnelRecord;
use crate::selector::Traffic;
use crate::words::folded;

/// How many routes are shown. Of more tunnels for one packet, each has to be named.
const TOLD: usize = 24;

/// The answer for each ruleset that has rules of this program, in detail with every route; if
/// tunnels are named, about these alone.
pub(super) fn packet_text(
    scene: &RecordView,
    question: &PacketQuery,
    named: &[FoundTunnel<'_>],
    detail: Detail,
    colours: Colours,
) -> String {
    let books: Vec<_> = scene.rulesets_for(question.destination).collect();
    let recorded: Vec<_> = books.iter().copied().filter(|book| book.is_recorded()).collect();
    // If no rules of this program are loaded, the administrator's rules are in the first ruleset
    // that can be listed.
    let books = if recorded.is_empty() {
        &books[..books.len().min(1)]
    } else {
        &recorded[..]
    };
    let mut text = String::new();
    for book in books {
        if books.len() > 1 {
            let _ = writeln!(text, "{}:", book.ruleset);
        }
        text.push_str(&answer::answers_text(scene, book, question, named, detail, colours));
        if detail == Detail::Full {
            let own_addresses = OwnAddresses::for_packet(book, question.source, question.destination);
            text.push('\n');
            text.push_str(&in_book(scene, book, question, named, own_addresses));
        }
    }
    match text.is_empty() {
        true => "no iptables is found: every packet passes\n".to_owned(),
        false => text,
    }
}

fn in_book(
    scene: &RecordView,
    book: &RulesetView,
    question: &PacketQuery,
    named: &[FoundTunnel<'_>],
    own_addresses: OwnAddresses,
) -> String {
    let fitting = all_tunnels(scene)
        .filter(|found| found.ruleset.ruleset == book.ruleset)
        .filter(|found| named.is_empty() || named.iter().any(|other| other.record.id == found.record.id));
    let fitting: Vec<_> = fitting.map(|found| found.record).collect();
    let ways = routes(question, &fitting, own_addresses);
    let mut text = String::new();
    for kind in &question.kinds {
        let PacketQuery {
            source, destination, ..
        } = question;
        let moment = kinds::packets(kind, book.ruleset.family);
        let head = format!("{}: {source} -> {destination}, {moment}", book.ruleset);
        let _ = writeln!(text, "{}", folded(&head, book.width).join("\n"));
        for way in ways.iter().take(TOLD) {
            text.push_str(&route_text(book, question, kind, way));
        }
        if let more @ 1.. = ways.len().saturating_sub(TOLD) {
            let _ = writeln!(text, "\nand {more} more paths: name a connection");
        }
    }
    text
}

fn route_text(book: &RulesetView, question: &PacketQuery, kind: &Traffic, way: &TunnelRoute<'_>) -> String {
    let mut text = format!("\n{}\n", folded(&way.title, book.width).join("\n"));
    text.push_str(&labelled_line("kernel", &hooks(way), book.width));
    for note in packet_notes(book, question, kind, way) {
        text.push_str(&labelled_line("note", &note, book.width));
    }
    let mut before: Option<String> = None;
    for connection in moments(kind, book.ruleset.family) {
        let moment = moment_text(book, question, kind, way, *connection);
        let _ = match &before {
            Some(before) if *before == moment => {
                let line = format!("  {}: the same", phase(*connection));
                writeln!(text, "{}", folded(&line, book.width).join("\n"))
            }
            Some(_) | None => {
                let line = format!("  {}:", phase(*connection));
                write!(
                    text,
                    "{}
{moment}",
                    folded(&line, book.width).join("\n")
                )
            }
        };
        before = Some(moment);
    }
    text
}

/// How many rules that may decide about one packet are shown. If there are more, too little is
/// known about the packet.
const RULES: usize = 4;

fn moment_text(
    book: &RulesetView,
    question: &PacketQuery,
    kind: &Traffic,
    way: &TunnelRoute<'_>,
    connection: PacketCtState,
) -> String {
    let traces = way.traces(book, question, kind, connection);
    let family = book.ruleset.family;
    let by_rule = outcomes(&traces, family, Grain::Rule);
    let is_vague = by_rule.len() > RULES;
    let fates = if is_vague {
        outcomes(&traces, family, Grain::End)
    } else {
        by_rule
    };
    let mut text = String::new();
    for fate in &fates {
        text.push_str(&labelled_line(
            "verdict",
            &outcome_text(fate, fates.len() == 1),
            book.width,
        ));
        if !is_vague {
            text.push_str(&details(&fate.trace, book.width));
        }
    }
    if is_vague {
        text.push_str(&labelled_line("note", "name a service to see the rule", book.width));
    }
    for other in other_orders(&traces, family) {
        let by = rule(&other.trace).map_or_else(String::new, |rule| format!(" by {rule}"));
        let moment = format!(
            "{}{by}, had tunnels come up in another order",
            outcome_text(&other, true)
        );
        text.push_str(&labelled_line("or", &moment, book.width));
    }
    text
}

/// The kernel's hooks on a route.
fn hooks(way: &TunnelRoute<'_>) -> String {
    let closed = |tunnel: Option<&TunnelRecord>, words: &'static str| tunnel.map_or("", |_| words);
    let before = closed(way.out_of, "ESP: PREROUTING > INPUT; decrypted: ");
    let after = closed(way.into, "; encrypted: OUTPUT > POSTROUTING");
    let open = match (&way.from, &way.to) {
        (_, Endpoint::Gateway) => "PREROUTING > INPUT",
        (Endpoint::Gateway, _) => "OUTPUT > POSTROUTING",
        _ => "PREROUTING > FORWARD > POSTROUTING",
    };
    format!("{before}{open}{after}")
}

fn packet_notes(book: &RulesetView, question: &PacketQuery, kind: &Traffic, way: &TunnelRoute<'_>) -> Vec<String> {
    let family = book.ruleset.family;
    let mut notes: Vec<_> = book.rules_before_jump(way.built_in()).into_iter().collect();
    let other_kind = |record: &TunnelRecord, direction| {
        let made_for = seen_from_destination(direction, &record.key.traffic);
        kind.intersect(&made_for, family)
            .is_none()
            .then(|| kinds::of_tunnel(&record.key.traffic, family))
    };
    if let Some(made_for) = way.into.and_then(|record| other_kind(record, Direction::Out)) {
        notes.push(format!(
            "the tunnel is for {made_for}: the kernel does not send such a packet into it"
        ));
    }
    if let Some(made_for) = way.out_of.and_then(|record| other_kind(record, Direction::In)) {
        notes.push(format!(
            "the tunnel is for {made_for}: the peer should not send such a packet"
        ));
    }
    let hidden = |record: &TunnelRecord| super::about::hidden_behind(record) == Some(question.destination);
    if way.out_of.is_some_and(hidden) {
        notes.push("a reply to a host that is source-NATed to this address gets that host's own address first, and passes in FORWARD".to_owned());
    }
    notes
}
