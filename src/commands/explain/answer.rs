//! The first lines about a packet: the verdict with its reason, the setting that decides, the fix,
//! and the rule with its counter.

use std::net::IpAddr;

use super::find::FoundTunnel;
use super::kinds;
use super::own_rules::{OwnRule, Region, deciding_rules};
use super::packet_query::{PacketQuery, reply_traffic, service};
use super::reason::{Decided, Reason};
use super::record_view::{RecordView, RulesetView};
use super::routes::{OwnAddresses, TunnelRoute, routes};
use super::verdict::{Grain, Outcome, conntrack_states, outcomes};
use crate::commands::Detail;
use crate::commands::paint::{Tone, painted};
use crate::commands::status::Colours;
use crate::net::{Family, Traffic};
use crate::netfilter::Direction;
use crate::state::{Record, TunnelRecord};
use crate::trace::{ConnectionDirection, Packet, PacketCtState, seen_from_destination};
use crate::words::{counted_noun, folded, one_line, wrapped};

/// How wide the words at the beginning of a line are, in characters.
const LABEL: usize = 9;

/// So many tunnels that a packet fits are answered for one by one.
const TUNNELS: usize = 3;

/// So many rules of the administrator's are shown.
const RULES: usize = 4;

/// So many connections are named where none of them fits.
const NAMES: usize = 8;

/// The answer's first line, and its labelled lines.
#[derive(Debug, Default)]
pub(super) struct Answer {
    head: String,
    tone: Option<Tone>,
    lines: Vec<(&'static str, String)>,
}

impl Answer {
    fn add_line(&mut self, label: &'static str, text: impl Into<String>) {
        self.lines.push((label, text.into()));
    }

    /// The verdict in its colour, then the lines, folded where they are too long.
    fn answer_text(&self, colours: Colours, width: usize) -> String {
        let mut text = folded(&self.head, width).join("\n") + "\n";
        // In the folded text: the verdict may be longer than a line.
        if let Some((tone, end)) = self.tone.zip(text.find(':')) {
            text = painted(&text[..end], tone, colours) + &text[end..];
        }
        for (label, line) in &self.lines {
            for (number, line) in wrapped(std::slice::from_ref(line), width - LABEL - 2)
                .iter()
                .enumerate()
            {
                let label = if number == 0 { label } else { "" };
                text.push_str(format!("  {label:<LABEL$}{line}").trim_end());
                text.push('\n');
            }
        }
        text
    }
}

/// What is asked: one kind of packet between two addresses, in a ruleset.
struct AnswerContext<'a> {
    record_view: &'a RecordView,
    ruleset_view: &'a RulesetView,
    query: &'a PacketQuery,
    kind: &'a Traffic,
    own_addresses: OwnAddresses,
    detail: Detail,
}

/// The hint after the rule that `-v` shows more, and what that is.
const MORE: &str = "     -v: chains, other paths";
const MORE_SHOWN: &str = "chains, other paths";

/// The answer for each kind of packet and each tunnel that it fits.
pub(super) fn answers_text(
    record_view: &RecordView,
    ruleset_view: &RulesetView,
    query: &PacketQuery,
    named: &[FoundTunnel<'_>],
    detail: Detail,
    colours: Colours,
) -> String {
    let is_named = |record: &TunnelRecord| named.is_empty() || named.iter().any(|other| other.record.id == record.id);
    let tunnels: Vec<_> = ruleset_view.tunnels().filter(|record| is_named(record)).collect();
    let own_addresses = OwnAddresses::for_packet(ruleset_view, query.source, query.destination);
    let all = routes(query, &tunnels, own_addresses);
    let mut answers = Vec::new();
    for kind in &query.kinds {
        let asked = AnswerContext {
            record_view,
            ruleset_view,
            query,
            kind,
            own_addresses,
            detail,
        };
        let chosen = asked.likely_routes(&all);
        for route in chosen.iter().take(TUNNELS) {
            answers.push(asked.answer_for_route(route, chosen.len()));
        }
        if let (more @ 1.., Some(answer)) = (chosen.len().saturating_sub(TUNNELS), answers.last_mut()) {
            let text = format!(
                "it also matches {}: name one with --packet",
                counted_noun(more, "more tunnel")
            );
            answer.add_line("note", text);
        }
    }
    let texts = answers
        .iter()
        .map(|answer| answer.answer_text(colours, record_view.width));
    texts.collect::<Vec<_>>().join("\n")
}

impl AnswerContext<'_> {
    fn family(&self) -> Family {
        self.ruleset_view.ruleset.family
    }

    /// The routes that such a packet takes if all policies are installed: through the tunnels that
    /// match it, otherwise unencrypted. IPsec itself is not sent through a tunnel.
    fn likely_routes<'r, 't>(&self, all: &'r [TunnelRoute<'t>]) -> Vec<&'r TunnelRoute<'t>> {
        let tunnels = all.iter().filter(|route| route.is_of_tunnels() && !self.is_outer());
        let (fitting, others): (Vec<_>, Vec<_>) = tunnels.partition(|route| self.carries(route));
        match (fitting.is_empty(), others.is_empty()) {
            (false, _) => fitting,
            (true, false) => others,
            (true, true) => all.iter().filter(|route| !route.is_of_tunnels()).collect(),
        }
    }

    /// Whether it is IKE or ESP between the gateway and a peer.
    fn is_outer(&self) -> bool {
        let ipsec = crate::settings::Service::Ipsec.traffic(self.family());
        let is_ipsec = ipsec
            .iter()
            .any(|kind| kind.intersect(self.kind, self.family()).as_ref() == Some(self.kind));
        is_ipsec && self.own_addresses.is_local()
    }

    /// Whether the selectors of the tunnels on a route match such packets.
    fn carries(&self, route: &TunnelRoute<'_>) -> bool {
        let takes = |record: Option<&TunnelRecord>, direction| {
            let made_for = record.map(|record| seen_from_destination(direction, &record.key.traffic));
            made_for.is_none_or(|made_for| self.kind.intersect(&made_for, self.family()).is_some())
        };
        takes(route.out_of, Direction::In) && takes(route.into, Direction::Out)
    }

    fn answer_for_route(&self, route: &TunnelRoute<'_>, of: usize) -> Answer {
        let states = conntrack_states(self.kind, self.family());
        let state = states.first().copied().unwrap_or(PacketCtState::New);
        let traces = route.traces(self.ruleset_view, self.query, self.kind, state);
        let outcomes = outcomes(&traces, self.family(), Grain::End);
        let mut answer = match &outcomes[..] {
            [outcome] => self.verdict(route, outcome, state),
            outcomes => self.conditional_answer(route, outcomes),
        };
        self.add_notes(&mut answer, route, of);
        self.add_hint(&mut answer);
        answer
    }

    /// `10.2.0.9 -> 10.1.0.5, tcp/443`
    fn packet_words(&self) -> String {
        let PacketQuery {
            source, destination, ..
        } = self.query;
        format!("{source} -> {destination}, {}", self.kind_words())
    }

    fn kind_words(&self) -> String {
        kind_words(self.kind, self.family())
    }

    fn verdict(&self, route: &TunnelRoute<'_>, outcome: &Outcome, state: PacketCtState) -> Answer {
        let reason = Reason::find_reason(self.record_view, self.ruleset_view, route, outcome, self.kind);
        let mut answer = Answer::default();
        let decided = Decided::from_end(outcome.end);
        (answer.head, answer.tone) = self.verdict_line(route, decided, &reason);
        for setting in &reason.settings {
            answer.add_line("setting", setting.clone());
        }
        if let Some(fix) = reason.fix(decided) {
            answer.add_line("fix", fix);
        }
        match decided {
            Decided::Left => self.add_own_rules(&mut answer, route, state),
            Decided::Passes if state == PacketCtState::New => answer.add_line("replies", self.replies(route)),
            Decided::Passes | Decided::Dropped => {}
        }
        if let Some(rule) = reason.rule {
            self.add_rule(&mut answer, rule);
        }
        if decided != Decided::Left {
            self.add_earlier_rule(&mut answer, route, state);
        }
        answer
    }

    /// The verdict and the reason for it. It is no verdict on what the kernel does where that does
    /// not hold what the record says.
    fn verdict_line(&self, route: &TunnelRoute<'_>, decided: Decided, reason: &Reason) -> (String, Option<Tone>) {
        let differs = self.ruleset_view.kernel.differs();
        let by = if differs { ", by the record" } else { "" };
        let words = &reason.words;
        let (head, tone) = match decided {
            Decided::Dropped => (format!("DROPPED by pluto-updown{by}: {words}"), Some(Tone::Bad)),
            Decided::Passes => (format!("PASSES{by}: {words}"), Some(Tone::Good)),
            Decided::Left => {
                let (chain, packet) = (route.built_in().name(), self.packet_words());
                (
                    format!("not decided here: your {chain} rules decide about {packet}"),
                    None,
                )
            }
        };
        (head, tone.filter(|_| !differs))
    }

    fn add_rule(&self, answer: &mut Answer, rule: String) {
        let fits = LABEL + 2 + rule.len() + MORE.len() <= self.record_view.width;
        match (self.detail, fits) {
            (Detail::Summary, true) => answer.add_line("rule", rule + MORE),
            (Detail::Full, _) | (Detail::Summary, false) => answer.add_line("rule", rule),
        }
    }

    /// The hint that `-v` shows more, last, where the line of the rule has no place for it.
    fn add_hint(&self, answer: &mut Answer) {
        let rule = answer.lines.iter().find(|(label, _)| *label == "rule");
        let lacks_it = rule.is_some_and(|(_, rule)| !rule.ends_with(MORE));
        if self.detail == Detail::Summary && lacks_it {
            answer.add_line("-v", MORE_SHOWN);
        }
    }

    /// Where the verdict depends on what is not said about the packet.
    fn conditional_answer(&self, route: &TunnelRoute<'_>, outcomes: &[Outcome]) -> Answer {
        let reasons: Vec<_> = outcomes
            .iter()
            .map(|outcome| Reason::find_reason(self.record_view, self.ruleset_view, route, outcome, self.kind))
            .collect();
        let dropped = outcomes
            .iter()
            .position(|outcome| Decided::from_end(outcome.end) == Decided::Dropped);
        let reason = reasons.get(dropped.unwrap_or_default());
        let mut answer = Answer {
            head: format!(
                "It depends on more than {}: {}",
                self.packet_words(),
                reason.map_or("", |reason| reason.words.as_str())
            ),
            ..Answer::default()
        };
        for outcome in outcomes {
            let verdict = match Decided::from_end(outcome.end) {
                Decided::Dropped => "DROPPED".to_owned(),
                Decided::Left => format!("not decided here: your {} rules decide", route.built_in().name()),
                Decided::Passes => "PASSES".to_owned(),
            };
            let condition = outcome.condition(false).unwrap_or_default();
            match condition.strip_prefix("if ") {
                Some(condition) => answer.add_line("if", format!("{condition}: {verdict}")),
                None => answer.add_line("else", verdict),
            }
        }
        let mut settings: Vec<&String> = Vec::new();
        for setting in reasons.iter().flat_map(|reason| &reason.settings) {
            if !settings.contains(&setting) {
                settings.push(setting);
                answer.add_line("setting", setting.clone());
            }
        }
        answer
    }

    /// The verdict on what answers, in the other direction of the same connection.
    fn replies(&self, route: &TunnelRoute<'_>) -> String {
        let back = route.reply_route(self.own_addresses);
        let PacketQuery {
            source, destination, ..
        } = self.query;
        let kind = reply_traffic(self.kind, self.family());
        let state = PacketCtState::Established(ConnectionDirection::Reply);
        let traces = self
            .ruleset_view
            .traces(back.packet(*destination, *source, &kind, state));
        let outcomes = outcomes(&traces, self.family(), Grain::End);
        let direction = format!("{destination} -> {source}");
        let is_only = outcomes.len() == 1;
        let words: Vec<_> = outcomes
            .iter()
            .map(|outcome| {
                let reason = Reason::find_reason(self.record_view, self.ruleset_view, &back, outcome, &kind);
                let rule = reason
                    .rule
                    .filter(|_| Decided::from_end(outcome.end) == Decided::Dropped);
                let by = rule.map_or_else(String::new, |rule| format!(" by {rule}"));
                let verdict = match Decided::from_end(outcome.end) {
                    Decided::Dropped => "DROPPED".to_owned(),
                    Decided::Left => format!("not decided here: your {} rules decide", back.built_in().name()),
                    Decided::Passes => "pass".to_owned(),
                };
                let condition = outcome
                    .condition(is_only)
                    .map_or_else(String::new, |condition| condition + ": ");
                format!("{condition}{verdict}{by}")
            })
            .collect();
        format!("{} ({direction})", words.join("; "))
    }

    /// The policy of the built-in chain and the first rule of the administrator's that the packet
    /// fits.
    fn add_own_rules(&self, answer: &mut Answer, route: &TunnelRoute<'_>, state: PacketCtState) {
        let built_in = route.built_in();
        let Some(table) = self.ruleset_view.kernel.filter() else {
            answer.add_line(
                "policy",
                format!("{}: no filter table is loaded, everything passes", built_in.name()),
            );
            return;
        };
        let packet = self.packet(route, state);
        let rules = deciding_rules(table, built_in, Region::All, &packet);
        if rules.is_empty() {
            answer.add_line("own rule", "none of yours matches");
        }
        for rule in rules.iter().take(RULES) {
            answer.add_line("own rule", own_rule(rule));
        }
        match rules.len().saturating_sub(RULES) {
            0 => {}
            more => answer.add_line("own rule", format!("and {}", counted_noun(more, "more rule"))),
        }
        let policy = one_line(table.policy(built_in.name()).unwrap_or("unknown"));
        answer.add_line("policy", format!("{} {policy}", built_in.name()));
    }

    /// A rule of the administrator's that decides before this program's rules: then it is the
    /// verdict.
    fn add_earlier_rule(&self, answer: &mut Answer, route: &TunnelRoute<'_>, state: PacketCtState) {
        let table = self.ruleset_view.kernel.filter();
        let packet = self.packet(route, state);
        let rules = table.map(|table| deciding_rules(table, route.built_in(), Region::BeforeOurs, &packet));
        let rules = rules.unwrap_or_default();
        let surely = rules.iter().find(|rule| rule.is_certain);
        let rule = surely.or(rules.first());
        let Some(rule) = rule else { return };
        answer.add_line(
            "own rule",
            format!("{}; it comes before the rules of pluto-updown", own_rule(rule)),
        );
        if rule.is_certain {
            let (verdict, tone) = match rule.rule.jump_target().as_deref() {
                Some("ACCEPT") => ("PASSES", Tone::Good),
                _ => ("DROPPED", Tone::Bad),
            };
            // What our rules would need for another verdict changes nothing.
            answer.lines.retain(|(label, _)| *label != "fix");
            if !self.ruleset_view.kernel.differs() {
                answer.add_line(
                    "fix",
                    "change or delete that rule of yours, if the verdict should be another",
                );
            }
            answer.head = format!(
                "{verdict} by a rule of yours before the rules of pluto-updown; otherwise {}",
                answer.head
            );
            answer.tone = Some(tone);
        }
    }

    fn packet(&self, route: &TunnelRoute<'_>, state: PacketCtState) -> Packet {
        route.packet(self.query.source, self.query.destination, self.kind, state)
    }

    fn add_notes(&self, answer: &mut Answer, route: &TunnelRoute<'_>, of: usize) {
        for (name, address) in &self.query.names {
            answer.add_line("name", format!("{} is {address}", one_line(name)));
        }
        if !self.carries(route) {
            let made_for = [route.out_of, route.into].into_iter().flatten();
            for record in made_for.filter(|record| record.key.traffic != Traffic::Any) {
                let kind = kinds::of_tunnel(&record.key.traffic, self.family());
                answer.add_line("note", format!("tunnel {} carries {kind} only", record.key.connection));
            }
        }
        for record in [route.out_of, route.into].into_iter().flatten() {
            if let Some(chain) = &record.effective_policy().chain {
                let text = format!("your chain {chain} is called first; its verdict is final");
                answer.add_line("note", text);
            }
        }
        if of > 1 && !answer.head.contains("(") {
            let ids = [route.out_of, route.into]
                .into_iter()
                .flatten()
                .map(|record| record.id.as_str());
            answer.add_line("tunnel", ids.collect::<Vec<_>>().join(", "));
        }
        if !route.is_of_tunnels() && !self.is_outer() {
            answer.add_line("tunnels", self.no_tunnel());
        }
    }

    /// That none is up that takes the packet, and which are; and whether it is blocked meanwhile.
    fn no_tunnel(&self) -> String {
        let mut names: Vec<_> = self
            .ruleset_view
            .tunnels()
            .map(|record| record.key.connection.to_string())
            .collect();
        names.sort();
        names.dedup();
        let up = match names.len() {
            0 => "no tunnel is up".to_owned(),
            number => {
                let more = match number.saturating_sub(NAMES) {
                    0 => String::new(),
                    more => format!(" and {more} more"),
                };
                let names = names.iter().take(NAMES).cloned().collect::<Vec<_>>().join(", ");
                format!("none between these addresses is up; up: {names}{more}")
            }
        };
        match self.is_blocked() {
            true => up,
            false => format!("{up}; when-down blocks nothing between these addresses"),
        }
    }

    /// Whether a blocked pair of networks is about these addresses.
    fn is_blocked(&self) -> bool {
        let PacketQuery {
            source, destination, ..
        } = self.query;
        let ends = |one: &IpAddr, other: &IpAddr, record: &Record| match record {
            Record::ClearTextBlock(block) => block.local.contains(*one) && block.remote.contains(*other),
            Record::Tunnel(_) | Record::Gateway(_) | Record::EspPeer(_) => false,
        };
        let mut records = self.ruleset_view.records().iter();
        records.any(|record| ends(source, destination, record) || ends(destination, source, record))
    }
}

/// `FORWARD: -s 10.0.0.0/8 -j DROP (17 packets)`
fn own_rule(
    OwnRule {
        chain,
        rule,
        is_certain,
    }: &OwnRule<'_>,
) -> String {
    let packets = usize::try_from(rule.counters.packets).unwrap_or(usize::MAX);
    let doubt = if *is_certain { "" } else { ", if the rest of it matches" };
    format!(
        "{}: {} ({}){doubt}",
        one_line(chain),
        one_line(&rule.text),
        counted_noun(packets, "packet")
    )
}

/// `tcp/443`, `ping`, `TCP from port 5000 to port 443`
pub(super) fn kind_words(kind: &Traffic, family: Family) -> String {
    let has_source = matches!(kind, Traffic::Ports { remote, .. } if *remote != crate::net::Ports::Any);
    match service(kind, family).filter(|_| !has_source) {
        Some(service) => service.to_string(),
        None => kinds::packets(kind, family),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer() -> Answer {
        Answer {
            head: format!("DROPPED by pluto-updown: {}", "word ".repeat(20)),
            tone: Some(Tone::Bad),
            lines: vec![("fix", "do ".repeat(40)), ("rule", "X: -j DROP (1 packet)".to_owned())],
        }
    }

    #[test]
    fn the_verdict_is_coloured_where_colours_are_wanted_and_only_there() {
        let coloured = answer().answer_text(Colours::Wanted, 80);
        assert!(
            coloured.starts_with("\u{1b}[1;31mDROPPED by pluto-updown\u{1b}[0m: word"),
            "{coloured:?}"
        );
        for colours in [Colours::Unwanted, Colours::Unknown] {
            let text = answer().answer_text(colours, 80);
            assert!(
                text.starts_with("DROPPED by pluto-updown: word") && !text.contains('\u{1b}'),
                "{text:?}"
            );
        }
    }

    #[test]
    fn a_verdict_that_is_longer_than_a_line_is_coloured_whole_and_said_once() {
        let answer = Answer {
            head: "PASSES by a rule of yours that comes before ours; otherwise DROPPED by pluto-updown: x".to_owned(),
            ..answer()
        };
        let text = answer.answer_text(Colours::Wanted, 60);
        let plain = text.replace("\u{1b}[1;31m", "").replace("\u{1b}[0m", "");
        assert_eq!(plain, answer.answer_text(Colours::Unwanted, 60));
        assert!(text.contains("pluto-updown\u{1b}[0m: x\n"), "{text:?}");
    }

    #[test]
    fn every_line_is_folded_below_its_own_text() {
        for width in [40, 60, 80, 120] {
            let text = answer().answer_text(Colours::Unknown, width);
            assert!(text.lines().all(|line| line.len() <= width), "{width}: {text}");
        }
        let text = answer().answer_text(Colours::Unknown, 80);
        let lines: Vec<_> = text.lines().collect();
        assert!(lines[1].starts_with("    word"), "{text}");
        assert!(lines.iter().any(|line| line.starts_with("  fix      do do")), "{text}");
        assert!(lines.iter().any(|line| line.starts_with("           do do")), "{text}");
        assert_eq!(lines.last(), Some(&"  rule     X: -j DROP (1 packet)"));
    }
}
