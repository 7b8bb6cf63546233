//! The verdict on a packet, in words.

use super::kinds;
use crate::net::{Family, Icmp, Traffic};
use crate::netfilter::{BuiltIn, Direction, Table, Target};
use crate::trace::ConnectionDirection::{Original, Reply};
use crate::trace::{Assumption, DecidingRule, Doubt, HookTrace, PacketCtState, RuleOrder, Trace, Walk, WalkEnd};
use crate::words::wrapped;

/// The traces of a packet that end alike, by the same rule.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) end: WalkEnd,
    /// The first of them.
    pub(super) trace: Trace,
    /// The condition of each trace; `None` for a trace without one.
    ifs: Vec<Option<String>>,
}

/// How wide the words at the beginning of a line are.
const LABEL: usize = 12;

/// How many conditions of one outcome are shown.
const MAX_ROUTES: usize = 12;

/// Which packets are worth asking about: the first of a connection and those that follow; or an
/// error about one, which begins none.
pub(super) fn conntrack_states(kind: &Traffic, family: Family) -> &'static [PacketCtState] {
    let errors: &[u8] = match family {
        Family::Ipv4 => &[3, 11, 12],
        Family::Ipv6 => &[1, 2, 3, 4],
    };
    match kind {
        Traffic::Icmp(Icmp::Type(number) | Icmp::Code(number, _)) if errors.contains(number) => {
            &[PacketCtState::Related(Reply), PacketCtState::Related(Original)]
        }
        Traffic::Icmp(_) | Traffic::Any | Traffic::Protocol(_) | Traffic::Ports { .. } => &[
            PacketCtState::New,
            PacketCtState::Established(Original),
            PacketCtState::Established(Reply),
        ],
    }
}

/// What a packet is to its connection.
pub(super) fn phase(connection: PacketCtState) -> &'static str {
    match connection {
        PacketCtState::New => "NEW",
        PacketCtState::Established(Original) => "ESTABLISHED",
        PacketCtState::Established(Reply) => "ESTABLISHED, as a reply",
        PacketCtState::Related(Reply) => "RELATED: an error about a connection that its destination opened",
        PacketCtState::Related(Original) => "RELATED: an error about a connection that its source opened",
    }
}

/// How finely outcomes are distinguished.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Grain {
    /// By the rule that decides.
    Rule,
    /// By the verdict.
    End,
}

/// The outcomes of a packet, in an order in which the first that applies decides.
///
/// Traces are in the order of the rules, each after those with more conditions. So the failed
/// conditions of a trace are those of the traces before it, and only neighbours may be merged.
pub(super) fn outcomes(traces: &[Trace], family: Family, grain: Grain) -> Vec<Outcome> {
    let mut outcomes: Vec<Outcome> = Vec::new();
    for trace in traces.iter().filter(|trace| trace.order == RuleOrder::First) {
        let condition = condition(trace, family);
        match outcomes.last_mut().filter(|outcome| outcome.is_as(trace, grain)) {
            Some(outcome) => outcome.add_trace(condition, trace),
            None => outcomes.push(Outcome {
                end: trace.walk_end(),
                trace: trace.clone(),
                ifs: vec![condition],
            }),
        }
    }
    outcomes
}

/// The outcomes that differ if rules were installed in another order.
pub(super) fn other_orders(traces: &[Trace], family: Family) -> Vec<Outcome> {
    let mut others: Vec<Outcome> = Vec::new();
    let is_first = |trace: &&Trace| trace.order == RuleOrder::First;
    for trace in traces.iter().filter(|trace| trace.order == RuleOrder::Other) {
        let is_other = |first: &Trace| first.walk_end() != trace.walk_end() || decided_by(first) != decided_by(trace);
        let mut firsts = traces.iter().filter(is_first);
        let differs = firsts.any(|first| is_other(first) && can_be_one(first, trace, family));
        let is_known = others.iter().any(|other| other.is_as(trace, Grain::Rule));
        if differs && !is_known && others.len() < OTHERS {
            others.push(Outcome {
                end: trace.walk_end(),
                trace: trace.clone(),
                ifs: vec![condition(trace, family)],
            });
        }
    }
    others
}

/// How many of these are shown.
const OTHERS: usize = 3;

/// Whether one packet can have either of two traces, as far as its kind decides that.
fn can_be_one(one: &Trace, other: &Trace, family: Family) -> bool {
    let Some(both) = one.packet.kind.intersect(&other.packet.kind, family) else {
        return false;
    };
    let is_ruled_out = |assumption: &Assumption| match assumption {
        Assumption::Holds(_) => false,
        Assumption::Fails(doubts) => match &doubts[..] {
            [Doubt::Kind(kind)] => both.intersect(kind, family).as_ref() == Some(&both),
            _ => false,
        },
    };
    !one.assumed.iter().chain(&other.assumed).any(is_ruled_out)
}

impl Outcome {
    fn add_trace(&mut self, condition: Option<String>, trace: &Trace) {
        if condition.is_none() {
            self.trace = trace.clone();
        }
        self.ifs.push(condition);
    }

    /// Whether another trace has the same outcome.
    fn is_as(&self, trace: &Trace, grain: Grain) -> bool {
        let by_rule = grain == Grain::End || decided_by(&self.trace) == decided_by(trace);
        self.end == trace.walk_end() && by_rule
    }

    /// Whether it needs no condition.
    pub(super) fn is_rest(&self) -> bool {
        self.ifs.contains(&None)
    }

    /// When it is so, if not always.
    pub(super) fn condition(&self, is_only: bool) -> Option<String> {
        match (self.is_rest(), is_only) {
            (true, true) => None,
            (true, false) => Some("otherwise".to_owned()),
            (false, _) => Some(format!("if {}", self.any_verdict())),
        }
    }

    /// `it is ESP, AH, or it comes in by eth1`
    fn any_verdict(&self) -> String {
        let mut text = String::new();
        for condition in self.ifs.iter().flatten().take(MAX_ROUTES) {
            let kind = condition.strip_prefix("it is ").filter(|_| !text.is_empty());
            text.push_str(match (text.is_empty(), kind) {
                (true, _) => "",
                (false, Some(_)) => ", ",
                (false, None) => ", or ",
            });
            text.push_str(kind.unwrap_or(condition));
        }
        match self.ifs.len().saturating_sub(MAX_ROUTES) {
            0 => text,
            more => format!("{text}, and {more} more"),
        }
    }

    /// `passes`, `is dropped`, `is not decided here: your FORWARD rules decide`
    pub(super) fn outcome_words(&self) -> String {
        let built_in = self.trace.hook().map_or(BuiltIn::Forward, |hook| hook.built_in);
        end_words(self.end, built_in)
    }
}

pub(super) fn end_words(end: WalkEnd, built_in: BuiltIn) -> String {
    match end {
        WalkEnd::Accepted | WalkEnd::Source(_) | WalkEnd::Destination(_) => "passes".to_owned(),
        WalkEnd::Dropped => "is dropped".to_owned(),
        WalkEnd::Left => format!("is not decided here: your {} rules decide", built_in.name()),
    }
}

/// The outcome, with its condition if there is one.
pub(super) fn outcome_text(outcome: &Outcome, is_only: bool) -> String {
    match outcome.condition(is_only) {
        None => outcome.outcome_words(),
        Some(condition) => format!("{condition}: {}", outcome.outcome_words()),
    }
}

/// All outcomes of a packet in one line.
pub(super) fn brief_verdict(traces: &[Trace], family: Family) -> String {
    let outcomes = outcomes(traces, family, Grain::End);
    let is_only = outcomes.len() == 1;
    let words = outcomes.iter().map(|outcome| outcome_text(outcome, is_only));
    words.collect::<Vec<_>>().join("; ")
}

fn decided_by(trace: &Trace) -> Option<&DecidingRule> {
    trace.hook()?.walk.as_ref()?.decided_by.as_ref()
}

/// What of all that was taken for granted is said; that the rest is not so follows from what else
/// is said.
fn condition(trace: &Trace, family: Family) -> Option<String> {
    let held = || {
        trace.assumed.iter().flat_map(|assumption| match assumption {
            Assumption::Holds(doubts) => &doubts[..],
            Assumption::Fails(_) => &[],
        })
    };
    let is_narrowed = held().any(|doubt| matches!(doubt, Doubt::Kind(_)));
    let kind = is_narrowed.then(|| format!("it is {}", kinds::packets(&trace.packet.kind, family)));
    let words: Vec<_> = kind.into_iter().chain(held().filter_map(doubtful)).collect();
    (!words.is_empty()).then(|| words.join(" and "))
}

/// A doubt about anything but the kind.
fn doubtful(doubt: &Doubt) -> Option<String> {
    match doubt {
        Doubt::Kind(_) => None,
        Doubt::Interface(Direction::In, pattern) => Some(format!("it arrives by {pattern}")),
        Doubt::Interface(Direction::Out, pattern) => Some(format!("it leaves by {pattern}")),
        Doubt::CtReplDst(address) => Some(format!("it answers a host that is source-NATed to {address}")),
    }
}

/// A line that begins with a label, folded where it is too long.
pub(super) fn labelled_line(label: &str, text: &str, width: usize) -> String {
    let lines = wrapped(&[text.to_owned()], width - LABEL - 4);
    let lines = lines.iter().enumerate().map(|(number, line)| {
        let label = if number == 0 { label } else { "" };
        format!("    {label:<LABEL$}{line}\n")
    });
    lines.collect()
}

/// The rule that decided, if one did.
pub(super) fn rule(trace: &Trace) -> Option<String> {
    let DecidingRule { chain, rule } = decided_by(trace)?;
    Some(format!("-A {chain} {rule}"))
}

/// The deciding rule, the chains, and the logging and clamping rules that matched.
pub(super) fn details(trace: &Trace, width: usize) -> String {
    let mut text = String::new();
    if let Some(rule) = rule(trace) {
        text.push_str(&labelled_line("rule", &rule, width));
    }
    for hook in &trace.hooks {
        if let Some(walk) = &hook.walk {
            text.push_str(&passed(hook, walk, width));
        }
    }
    text
}

fn passed(hook: &HookTrace, walk: &Walk, width: usize) -> String {
    let mut text = String::new();
    if hook.table == Table::Filter {
        let chains = walk.path.iter().map(ToString::to_string);
        let chains: Vec<_> = std::iter::once(hook.built_in.name().to_owned()).chain(chains).collect();
        text.push_str(&labelled_line("chains", &chains.join(" > "), width));
    }
    for met in &walk.met {
        if let Some(words) = on_the_way(&met.rule.target) {
            text.push_str(&labelled_line("also", &format!("{words} ({})", met.chain), width));
        }
    }
    text.push_str(&translated(hook, walk, width));
    text
}

fn translated(hook: &HookTrace, walk: &Walk, width: usize) -> String {
    let by = walk.path.last().map_or_else(String::new, |chain| format!(" ({chain})"));
    match walk.end {
        WalkEnd::Source(address) => labelled_line(
            "nat",
            &format!("its source becomes {address}, and the kernel looks for an IPsec policy again{by}"),
            width,
        ),
        WalkEnd::Destination(address) => labelled_line("nat", &format!("its destination becomes {address}{by}"), width),
        WalkEnd::Accepted if hook.table == Table::Nat => labelled_line(
            "nat",
            &format!(
                "its addresses stay, whatever your own rules in {} say",
                hook.built_in.name()
            ),
            width,
        ),
        WalkEnd::Accepted | WalkEnd::Dropped | WalkEnd::Left => String::new(),
    }
}

/// The words for a rule that matches without deciding.
pub(super) fn on_the_way(verdict: &Target) -> Option<String> {
    match verdict {
        Target::JumpUser(chain) => Some(format!("your chain {chain} is called first; its verdict is final")),
        Target::Nflog(target) => Some(format!("a copy goes to NFLOG group {}", target.group)),
        Target::Log(prefix) => Some(format!(
            "a line \"{}\" in the kernel's log, ten a minute at most",
            prefix.as_str()
        )),
        Target::SetMss(size) => Some(format!("the TCP MSS is limited to {size} bytes")),
        Target::ClampMssToPmtu => Some("the TCP MSS is limited to the path MTU".to_owned()),
        Target::Accept
        | Target::Drop
        | Target::Return
        | Target::Jump(_)
        | Target::Goto(_)
        | Target::SetMark(_)
        | Target::ClearMark(_)
        | Target::Snat(_)
        | Target::Dnat(_) => None,
    }
}
