//! `explain --packet`: the verdict on an unencrypted packet, and on the same one through every
//! tunnel that its addresses match.

use std::fmt::Write as _;

use super::find::{FoundTunnel, all_tunnels};
use super::packet_query::PacketQuery;
use super::record_view::{RecordView, RulesetView};
use super::routes::{OwnAddresses, TunnelRoute, routes};
use super::verdict::{
    Grain, conntrack_states, details, labelled_line, other_orders, outcome_text, outcomes, phase, rule,
};
use super::{answer, kinds};
use crate::commands::Detail;
use crate::commands::status::Colours;
use crate::net::Traffic;
use crate::netfilter::Direction;
use crate::state::TunnelRecord;
use crate::trace::{Endpoint, PacketCtState, seen_from_destination};
use crate::words::folded;

/// How many routes are shown. Of more tunnels for one packet, each has to be named.
const MAX_ROUTES: usize = 24;

/// The answer for each ruleset that has rules of this program, in detail with every route; if
/// tunnels are named, about these alone.
pub(super) fn packet_text(
    record_view: &RecordView,
    query: &PacketQuery,
    named: &[FoundTunnel<'_>],
    detail: Detail,
    colours: Colours,
) -> String {
    let ruleset_views: Vec<_> = record_view.rulesets_for(query.destination).collect();
    let recorded: Vec<_> = ruleset_views
        .iter()
        .copied()
        .filter(|ruleset_view| ruleset_view.is_recorded())
        .collect();
    // If no rules of this program are loaded, the administrator's rules are in the first ruleset
    // that can be listed.
    let ruleset_views = if recorded.is_empty() {
        &ruleset_views[..ruleset_views.len().min(1)]
    } else {
        &recorded[..]
    };
    let mut text = String::new();
    for ruleset_view in ruleset_views {
        if ruleset_views.len() > 1 {
            let _ = writeln!(text, "{}:", ruleset_view.ruleset);
        }
        text.push_str(&answer::answers_text(
            record_view,
            ruleset_view,
            query,
            named,
            detail,
            colours,
        ));
        if detail == Detail::Full {
            let own_addresses = OwnAddresses::for_packet(ruleset_view, query.source, query.destination);
            text.push('\n');
            text.push_str(&ruleset_text(record_view, ruleset_view, query, named, own_addresses));
        }
    }
    match text.is_empty() {
        true => "no iptables is found: every packet passes\n".to_owned(),
        false => text,
    }
}

fn ruleset_text(
    record_view: &RecordView,
    ruleset_view: &RulesetView,
    query: &PacketQuery,
    named: &[FoundTunnel<'_>],
    own_addresses: OwnAddresses,
) -> String {
    let fitting = all_tunnels(record_view)
        .filter(|found| found.ruleset.ruleset == ruleset_view.ruleset)
        .filter(|found| named.is_empty() || named.iter().any(|other| other.record.id == found.record.id));
    let fitting: Vec<_> = fitting.map(|found| found.record).collect();
    let routes = routes(query, &fitting, own_addresses);
    let mut text = String::new();
    for kind in &query.kinds {
        let PacketQuery {
            source, destination, ..
        } = query;
        let packets = kinds::packets(kind, ruleset_view.ruleset.family);
        let head = format!("{}: {source} -> {destination}, {packets}", ruleset_view.ruleset);
        let _ = writeln!(text, "{}", folded(&head, ruleset_view.width).join("\n"));
        for route in routes.iter().take(MAX_ROUTES) {
            text.push_str(&route_text(ruleset_view, query, kind, route));
        }
        if let more @ 1.. = routes.len().saturating_sub(MAX_ROUTES) {
            let _ = writeln!(text, "\nand {more} more paths: name a connection");
        }
    }
    text
}

fn route_text(ruleset_view: &RulesetView, query: &PacketQuery, kind: &Traffic, route: &TunnelRoute<'_>) -> String {
    let mut text = format!("\n{}\n", folded(&route.title, ruleset_view.width).join("\n"));
    text.push_str(&labelled_line("kernel", &hooks(route), ruleset_view.width));
    for note in packet_notes(ruleset_view, query, kind, route) {
        text.push_str(&labelled_line("note", &note, ruleset_view.width));
    }
    let mut before: Option<String> = None;
    for connection in conntrack_states(kind, ruleset_view.ruleset.family) {
        let verdict = state_text(ruleset_view, query, kind, route, *connection);
        let _ = match &before {
            Some(before) if *before == verdict => {
                let line = format!("  {}: the same", phase(*connection));
                writeln!(text, "{}", folded(&line, ruleset_view.width).join("\n"))
            }
            Some(_) | None => {
                let line = format!("  {}:", phase(*connection));
                write!(
                    text,
                    "{}
{verdict}",
                    folded(&line, ruleset_view.width).join("\n")
                )
            }
        };
        before = Some(verdict);
    }
    text
}

/// How many rules that may decide about one packet are shown. If there are more, too little is
/// known about the packet.
const RULES: usize = 4;

fn state_text(
    ruleset_view: &RulesetView,
    query: &PacketQuery,
    kind: &Traffic,
    route: &TunnelRoute<'_>,
    connection: PacketCtState,
) -> String {
    let traces = route.traces(ruleset_view, query, kind, connection);
    let family = ruleset_view.ruleset.family;
    let by_rule = outcomes(&traces, family, Grain::Rule);
    let is_vague = by_rule.len() > RULES;
    let outcomes = if is_vague {
        outcomes(&traces, family, Grain::End)
    } else {
        by_rule
    };
    let mut text = String::new();
    for outcome in &outcomes {
        text.push_str(&labelled_line(
            "verdict",
            &outcome_text(outcome, outcomes.len() == 1),
            ruleset_view.width,
        ));
        if !is_vague {
            text.push_str(&details(&outcome.trace, ruleset_view.width));
        }
    }
    if is_vague {
        text.push_str(&labelled_line(
            "note",
            "name a service to see the rule",
            ruleset_view.width,
        ));
    }
    for other in other_orders(&traces, family) {
        let by = rule(&other.trace).map_or_else(String::new, |rule| format!(" by {rule}"));
        let verdict = format!(
            "{}{by}, had tunnels come up in another order",
            outcome_text(&other, true)
        );
        text.push_str(&labelled_line("or", &verdict, ruleset_view.width));
    }
    text
}

/// The kernel's hooks on a route.
fn hooks(route: &TunnelRoute<'_>) -> String {
    let closed = |tunnel: Option<&TunnelRecord>, words: &'static str| tunnel.map_or("", |_| words);
    let before = closed(route.out_of, "ESP: PREROUTING > INPUT; decrypted: ");
    let after = closed(route.into, "; encrypted: OUTPUT > POSTROUTING");
    let open = match (&route.from, &route.to) {
        (_, Endpoint::Gateway) => "PREROUTING > INPUT",
        (Endpoint::Gateway, _) => "OUTPUT > POSTROUTING",
        _ => "PREROUTING > FORWARD > POSTROUTING",
    };
    format!("{before}{open}{after}")
}

fn packet_notes(
    ruleset_view: &RulesetView,
    query: &PacketQuery,
    kind: &Traffic,
    route: &TunnelRoute<'_>,
) -> Vec<String> {
    let family = ruleset_view.ruleset.family;
    let mut notes: Vec<_> = ruleset_view.rules_before_jump(route.built_in()).into_iter().collect();
    let other_kind = |record: &TunnelRecord, direction| {
        let made_for = seen_from_destination(direction, &record.key.traffic);
        kind.intersect(&made_for, family)
            .is_none()
            .then(|| kinds::of_tunnel(&record.key.traffic, family))
    };
    if let Some(made_for) = route.into.and_then(|record| other_kind(record, Direction::Out)) {
        notes.push(format!(
            "the tunnel is for {made_for}: the kernel does not send such a packet into it"
        ));
    }
    if let Some(made_for) = route.out_of.and_then(|record| other_kind(record, Direction::In)) {
        notes.push(format!(
            "the tunnel is for {made_for}: the peer should not send such a packet"
        ));
    }
    let is_source_natted = |record: &TunnelRecord| super::about::source_natted_to(record) == Some(query.destination);
    if route.out_of.is_some_and(is_source_natted) {
        notes.push("a reply to a host that is source-NATed to this address gets that host's own address first, and passes in FORWARD".to_owned());
    }
    notes
}
