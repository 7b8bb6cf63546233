//! `explain --packet`: what becomes of a packet in clear, and of the same one through every tunnel that its addresses fit.

use std::fmt::Write as _;
use std::net::IpAddr;

use super::find::{FoundTunnel, all};
use super::kinds;
use super::packet_query::PacketQuery;
use super::record_view::{RecordView, RulesetView, is_ours};
use super::verdict::{Grain, details, line, moments, others, outcomes, phase, rule, told};
use crate::netfilter::{BuiltIn, Direction};
use crate::plan::{Endpoint, Packet, PacketCtState, Trace, seen_from_destination};
use crate::record::TunnelRecord;
use crate::selector::{Family, Traffic};
use crate::updown_env::SaMatch;

/// One way on which a packet may come.
struct TunnelRoute<'a> {
    title: String,
    from: Endpoint,
    to: Endpoint,
    /// The tunnel that it comes out of, and the one that it goes into.
    out_of: Option<&'a TunnelRecord>,
    into: Option<&'a TunnelRecord>,
}

/// How many ways are told. More tunnels than that for one packet are named one by one.
const TOLD: usize = 24;

/// Whose the two addresses are.
#[derive(Debug, Clone, Copy)]
pub(super) struct OwnAddresses {
    source: bool,
    destination: bool,
}

/// What becomes of a packet; with tunnels named, of these alone.
pub(super) fn text(scene: &RecordView, question: &PacketQuery, named: &[FoundTunnel<'_>]) -> String {
    let family = Family::of_address(question.destination);
    let books = scene
        .rulesets_for(question.destination)
        .filter(|book| book.is_recorded());
    let mut text = String::new();
    for book in books {
        let ours = OwnAddresses {
            source: is_ours(Some(book), question.source),
            destination: is_ours(Some(book), question.destination),
        };
        text.push_str(&in_book(scene, book, question, named, ours));
    }
    match text.is_empty() {
        true => format!("nothing of ours stands in the tables of {family}: your own rules decide\n"),
        false => text,
    }
}

pub(super) fn in_book(
    scene: &RecordView,
    book: &RulesetView,
    question: &PacketQuery,
    named: &[FoundTunnel<'_>],
    ours: OwnAddresses,
) -> String {
    let fitting = all(scene)
        .filter(|found| found.ruleset.ruleset == book.ruleset)
        .filter(|found| named.is_empty() || named.iter().any(|other| other.record.id == found.record.id));
    let fitting: Vec<_> = fitting.map(|found| found.record).collect();
    let ways = ways(question, &fitting, ours);
    let mut text = String::new();
    for kind in &question.kinds {
        let PacketQuery {
            source, destination, ..
        } = question;
        let told = kinds::packets(kind, book.ruleset.family);
        let _ = writeln!(text, "{}: {source} -> {destination}, {told}", book.ruleset);
        for way in ways.iter().take(TOLD) {
            text.push_str(&told_way(book, question, kind, way));
        }
        if let more @ 1.. = ways.len().saturating_sub(TOLD) {
            let _ = writeln!(text, "\nand {more} ways more: name a connection");
        }
    }
    text
}

fn told_way(book: &RulesetView, question: &PacketQuery, kind: &Traffic, way: &TunnelRoute<'_>) -> String {
    let mut text = format!("\n{}\n", way.title);
    text.push_str(&line("kernel", &hooks(way)));
    for note in notes(book, question, kind, way) {
        text.push_str(&line("note", &note));
    }
    let mut before: Option<String> = None;
    for connection in moments(kind, book.ruleset.family) {
        let told = told_moment(book, question, kind, way, *connection);
        let _ = match &before {
            Some(before) if *before == told => writeln!(text, "  {}: the same", phase(*connection)),
            Some(_) | None => write!(text, "  {}:\n{told}", phase(*connection)),
        };
        before = Some(told);
    }
    text
}

/// So many rules can decide over one packet, and are told. Where it is more, too little is known of the packet.
const RULES: usize = 4;

fn told_moment(
    book: &RulesetView,
    question: &PacketQuery,
    kind: &Traffic,
    way: &TunnelRoute<'_>,
    connection: PacketCtState,
) -> String {
    let traces = traces(book, question, kind, way, connection);
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
        text.push_str(&line("verdict", &told(fate, fates.len() == 1)));
        if !is_vague {
            text.push_str(&details(&fate.trace));
        }
    }
    if is_vague {
        text.push_str(&line("note", "say PROTOCOL and PORT, and the rule is told, too"));
    }
    for other in others(&traces, family) {
        let by = rule(&other.trace).map_or_else(String::new, |rule| format!(" by {rule}"));
        let told = format!("{}{by}, had tunnels come up in another order", told(&other, true));
        text.push_str(&line("or", &told));
    }
    text
}

fn traces(
    book: &RulesetView,
    question: &PacketQuery,
    kind: &Traffic,
    way: &TunnelRoute<'_>,
    connection: PacketCtState,
) -> Vec<Trace> {
    book.traces(Packet {
        source: question.source,
        destination: question.destination,
        kind: kind.clone(),
        from: way.from.clone(),
        to: way.to.clone(),
        connection,
        consented: false,
        requested: None,
        answered_at: None,
    })
}

/// The kernel's own places on a way.
fn hooks(way: &TunnelRoute<'_>) -> String {
    let closed = |tunnel: Option<&TunnelRecord>, words: &'static str| tunnel.map_or("", |_| words);
    let before = closed(way.out_of, "ESP: PREROUTING > INPUT; decapsulated: ");
    let after = closed(way.into, "; encapsulated: OUTPUT > POSTROUTING");
    let open = match (&way.from, &way.to) {
        (_, Endpoint::Gateway) => "PREROUTING > INPUT",
        (Endpoint::Gateway, _) => "OUTPUT > POSTROUTING",
        _ => "PREROUTING > FORWARD > POSTROUTING",
    };
    format!("{before}{open}{after}")
}

fn built_in(way: &TunnelRoute<'_>) -> BuiltIn {
    match (&way.from, &way.to) {
        (_, Endpoint::Gateway) => BuiltIn::Input,
        (Endpoint::Gateway, Endpoint::Unencrypted(_) | Endpoint::Ipsec { .. }) => BuiltIn::Output,
        (Endpoint::Unencrypted(_) | Endpoint::Ipsec { .. }, Endpoint::Unencrypted(_) | Endpoint::Ipsec { .. }) => {
            BuiltIn::Forward
        }
    }
}

fn notes(book: &RulesetView, question: &PacketQuery, kind: &Traffic, way: &TunnelRoute<'_>) -> Vec<String> {
    let family = book.ruleset.family;
    let mut notes: Vec<_> = book.before(built_in(way)).into_iter().collect();
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
        notes.push("what answers a machine that is hidden behind this address is given that machine's own address first, and passes in FORWARD".to_owned());
    }
    notes
}

/// Every way on which such a packet can come.
fn ways<'a>(question: &PacketQuery, tunnels: &[&'a TunnelRecord], ours: OwnAddresses) -> Vec<TunnelRoute<'a>> {
    let PacketQuery {
        source, destination, ..
    } = question;
    let came: Vec<_> = (tunnels.iter().filter(|record| is_out_of(record, *source, *destination))).collect();
    let leave: Vec<_> = (tunnels.iter().filter(|record| is_out_of(record, *destination, *source))).collect();
    let mut ways = vec![TunnelRoute::new(None, None, ours)];
    for record in &came {
        // Where a policy takes what leaves, nothing leaves in clear.
        if ours.destination || leave.is_empty() {
            ways.push(TunnelRoute::new(Some(record), None, ours));
            continue;
        }
        let others = leave.iter().filter(|other| other.id != record.id);
        ways.extend(others.map(|other| TunnelRoute::new(Some(record), Some(other), ours)));
    }
    if !ours.destination {
        ways.extend(leave.iter().map(|record| TunnelRoute::new(None, Some(record), ours)));
    }
    ways
}

/// Whether the addresses are a tunnel's: the far one and ours.
fn is_out_of(record: &TunnelRecord, far: IpAddr, near: IpAddr) -> bool {
    let tunnel = &record.tunnel;
    let is_own = tunnel.translation.is_some_and(|translation| translation.own == near);
    tunnel.remote_client.contains(far) && (tunnel.local_client.contains(near) || is_own)
}

impl<'a> TunnelRoute<'a> {
    fn new(out_of: Option<&'a TunnelRecord>, into: Option<&'a TunnelRecord>, ours: OwnAddresses) -> Self {
        let clear = |is_ours| {
            if is_ours {
                Endpoint::Gateway
            } else {
                Endpoint::Unencrypted(None)
            }
        };
        let from = out_of.map_or_else(|| clear(ours.source), |record| leg(record, Direction::In));
        let to = into.map_or_else(|| clear(ours.destination), |record| leg(record, Direction::Out));
        let name = |record: &TunnelRecord| format!("{} ({})", record.key.connection, record.id);
        let through = match (&from, &to) {
            (_, Endpoint::Gateway) => "to the gateway itself",
            (Endpoint::Gateway, _) => "from the gateway itself",
            _ => "through the gateway",
        };
        let title = match (out_of, into) {
            (None, None) => format!("In clear, {through}"),
            (Some(record), None) => format!("Out of the tunnel {}, {through}", name(record)),
            (None, Some(record)) => format!("Into the tunnel {}, {through}", name(record)),
            (Some(one), Some(other)) => format!("Out of the tunnel {} and into {}", name(one), name(other)),
        };
        Self {
            title,
            from,
            to,
            out_of,
            into,
        }
    }
}

/// How a tunnel's packets come or leave.
pub(super) fn leg(record: &TunnelRecord, direction: Direction) -> Endpoint {
    let device = record.tunnel_rules.interface.clone();
    match (&record.tunnel.sa_match, direction, &device) {
        (SaMatch::Interface(device), _, _) => Endpoint::Unencrypted(Some(device.clone())),
        // The device has it first, and asks for the policy afterwards.
        (SaMatch::Policy { .. }, Direction::Out, Some(_)) => Endpoint::Unencrypted(device),
        (SaMatch::Policy { protocol, reqid }, Direction::In, _)
        | (SaMatch::Policy { protocol, reqid }, Direction::Out, None) => Endpoint::Ipsec {
            interface: device,
            reqid: *reqid,
            protocol: *protocol,
        },
    }
}
