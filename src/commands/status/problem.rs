//! What is not as it should be, and how it is summed up.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;

use crate::commands::drift_words::{DriftClass, DriftSort};
use crate::commands::fix::Fix;
use crate::firewall::{Drift, DriftKind};
use crate::netfilter::{Ruleset, Table};
use crate::words::{counted_noun, one_line};

/// How much a problem matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Severity {
    /// It is wrong.
    Error,
    /// Something could not be looked at.
    Unknown,
    /// Worth knowing; it may be meant.
    Note,
}

impl Severity {
    /// As `status --json` has it.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Unknown => "unknown",
            Self::Note => "note",
        }
    }
}

/// What kind of problem it is, as `status --json` has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum ProblemKind {
    /// A difference between kernel and record.
    Drift(DriftSort),
    /// The kernel has no IPsec policy of a tunnel.
    NoPolicy,
    /// A tunnel's XFRM interface does not exist, or its rules are for another one.
    NoInterface,
    /// The settings file has an error.
    Settings,
    /// The settings are not applied.
    Unapplied,
    /// Chains are loaded, and nothing is recorded.
    NoRecord,
    /// A tunnel's daemon has exited.
    Stale,
    /// A run ended halfway.
    Interrupted,
    /// A run takes long.
    Running,
    /// A `down` is still to be executed.
    Owed,
    /// A tunnel is up without rules.
    NoRules,
    /// A change of name servers that is not confirmed.
    Unconfirmed,
    /// A tunnel that should be up is not.
    Expected,
    /// A record cannot be read.
    LostRecord,
    /// The firewall could not be listed.
    Unreadable,
}

impl ProblemKind {
    /// As `status --json` has it.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Drift(sort) => match sort.class {
                DriftClass::Missing => "missing",
                DriftClass::Unexpected => "foreign",
                DriftClass::Misplaced => "changed",
                DriftClass::Older => "older",
            },
            Self::NoPolicy => "no-policy",
            Self::NoInterface => "no-interface",
            Self::Settings => "settings",
            Self::Unapplied => "unapplied",
            Self::NoRecord => "no-record",
            Self::Stale => "stale",
            Self::Interrupted => "interrupted",
            Self::Running => "running",
            Self::Owed => "owed",
            Self::NoRules => "no-rules",
            Self::Unconfirmed => "unconfirmed",
            Self::Expected => "expected",
            Self::LostRecord => "lost-record",
            Self::Unreadable => "unreadable",
        }
    }

    /// So many of it, for people.
    fn counted(self, number: usize) -> String {
        match self {
            Self::Drift(sort) => sort.counted_words(number),
            Self::NoPolicy => format!(
                "{} without an IPsec policy in the kernel",
                counted_noun(number, "tunnel")
            ),
            Self::NoInterface => format!("{} without rules for an XFRM interface", counted_noun(number, "tunnel")),
            Self::Settings => "the settings file has an error".to_owned(),
            Self::Unapplied => format!("{} of the settings not applied", counted_noun(number, "change")),
            Self::NoRecord => "nothing is recorded".to_owned(),
            Self::Stale => format!("{} whose IKE daemon has exited", counted_noun(number, "tunnel")),
            Self::Interrupted => format!("{} interrupted", counted_noun(number, "previous run")),
            Self::Running => format!("{} running", counted_noun(number, "call")),
            Self::Owed => format!("{} not executed yet", counted_noun(number, "down")),
            Self::NoRules => format!("{} up without rules", counted_noun(number, "tunnel")),
            Self::Unconfirmed => format!("{} of name servers not confirmed", counted_noun(number, "change")),
            Self::Expected => format!("{} asked for not up", counted_noun(number, "tunnel")),
            Self::LostRecord => format!("{} cannot be read", counted_noun(number, "record")),
            Self::Unreadable => format!("{} unreadable", counted_noun(number, "firewall")),
        }
    }
}

/// A problem in a report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Problem {
    pub(super) severity: Severity,
    pub(super) kind: ProblemKind,
    pub(super) ruleset: Option<Ruleset>,
    pub(super) table: Option<Table>,
    /// The short name of the tunnel that it is about.
    pub(super) tunnel: Option<String>,
    pub(super) chain: Option<String>,
    pub(super) rule: Option<String>,
    /// How many things it counts for: if all chains are missing, their number.
    pub(super) count: usize,
    /// What is wrong, in a line.
    pub(super) text: String,
    /// What repairs it.
    pub(super) fix: Fix,
}

impl Problem {
    /// One about nothing but what the text says.
    pub(super) fn new(severity: Severity, kind: ProblemKind, text: impl Display, fix: Fix) -> Self {
        Self {
            severity,
            kind,
            ruleset: None,
            table: None,
            tunnel: None,
            chain: None,
            rule: None,
            count: 1,
            text: one_line(&text.to_string()),
            fix,
        }
    }

    /// Whether a call that is running may cause it, or be about to end it.
    pub(super) fn may_pass(&self) -> bool {
        match self.kind {
            ProblemKind::Drift(_)
            | ProblemKind::NoPolicy
            | ProblemKind::NoRecord
            | ProblemKind::NoInterface
            | ProblemKind::Stale
            | ProblemKind::Interrupted
            | ProblemKind::Owed
            | ProblemKind::Unconfirmed => true,
            ProblemKind::Settings
            | ProblemKind::Unapplied
            | ProblemKind::Running
            | ProblemKind::NoRules
            | ProblemKind::Expected
            | ProblemKind::LostRecord
            | ProblemKind::Unreadable => false,
        }
    }

    /// The same of a ruleset.
    pub(super) fn in_ruleset(self, ruleset: Ruleset) -> Self {
        Self {
            ruleset: Some(ruleset),
            ..self
        }
    }

    /// The same about a tunnel.
    pub(super) fn about_tunnel(self, tunnel: &str) -> Self {
        Self {
            tunnel: Some(tunnel.to_owned()),
            ..self
        }
    }

    /// A difference between kernel and record. `owner` says which tunnel a chain is of.
    pub(super) fn drift(ruleset: Ruleset, drift: &Drift, owner: impl Fn(&str) -> Option<String>) -> Self {
        let (sort, count) = DriftSort::of_kind(&drift.kind);
        let (chain, rule) = match &drift.kind {
            DriftKind::NoChain(chain)
            | DriftKind::OrphanChain(chain)
            | DriftKind::Order(chain)
            | DriftKind::NoUserJump(chain, _) => (Some(chain.to_string()), None),
            DriftKind::NoRule(chain, rule) => (Some(chain.to_string()), Some(rule.to_string())),
            DriftKind::KeptChain(chain, _, rule) => (Some(chain.to_string()), Some(rule.clone())),
            DriftKind::UnexpectedRule(chain, rule) => (Some(chain.to_string()), Some(rule.clone())),
            DriftKind::NoJump(chain) | DriftKind::Jumps(chain, _) => (Some(chain.name().to_owned()), None),
            DriftKind::Misplaced(chain, _, _, rule) => (Some(chain.name().to_owned()), Some(rule.clone())),
            DriftKind::Nothing(_) | DriftKind::OlderLayout => (None, None),
        };
        Self {
            table: Some(drift.table),
            tunnel: chain.as_deref().and_then(owner),
            chain,
            rule: rule.map(|rule| one_line(&rule)),
            count,
            ..Self::new(
                if drift.has_effect() {
                    Severity::Error
                } else {
                    Severity::Note
                },
                ProblemKind::Drift(sort),
                format_args!("{ruleset} {drift}"),
                Fix::for_drift(&drift.kind),
            )
            .in_ruleset(ruleset)
        }
    }
}

/// How the text of a change that is not applied begins.
pub(super) const UNAPPLIED: &str = "settings not applied: ";

/// How many kinds of problems a verdict names.
const KINDS: usize = 3;

/// The problems of a severity for a verdict: each kind once, however many lines it has.
pub(super) fn counted_kinds(problems: &[Problem], severity: Severity) -> Vec<String> {
    let mut kinds: BTreeMap<ProblemKind, Vec<&Problem>> = BTreeMap::new();
    for problem in problems.iter().filter(|problem| problem.severity == severity) {
        kinds.entry(problem.kind).or_default().push(problem);
    }
    let more = kinds.len().saturating_sub(KINDS);
    let mut words: Vec<_> = kinds.iter().map(|(kind, members)| kind_words(*kind, members)).collect();
    words.truncate(KINDS);
    words.extend((more > 0).then(|| counted_noun(more, "more kind")));
    words
}

/// So many of a kind. Of many rules, the number of their chains says more.
fn kind_words(kind: ProblemKind, members: &[&Problem]) -> String {
    let number = members.iter().map(|problem| problem.count).sum();
    let words = kind.counted(number);
    let chains = members
        .iter()
        .map(|problem| (problem.ruleset, problem.table, &problem.chain));
    let chains = chains.collect::<BTreeSet<_>>().len();
    match (words.strip_prefix(&format!("{number} ")), kind) {
        (Some(what), ProblemKind::Drift(sort)) if sort.is_of_rules() && number > 1 => {
            format!("{what} in {}", counted_noun(chains, "chain"))
        }
        _ => words,
    }
}

/// How many examples of a group are printed.
const EXAMPLES: usize = 3;

/// Problems of one kind in one table, with one fix.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct GroupKey<'a> {
    severity: Severity,
    fix: &'a Fix,
    place: String,
    kind: ProblemKind,
}

/// The problems of these severities by backend, table and kind, three examples each, and one line
/// for each fix.
pub(super) fn grouped(problems: &[Problem], is_meant: impl Fn(Severity) -> bool) -> Vec<String> {
    let mut groups: BTreeMap<GroupKey<'_>, Vec<&Problem>> = BTreeMap::new();
    for problem in problems.iter().filter(|problem| is_meant(problem.severity)) {
        let key = GroupKey {
            severity: problem.severity,
            fix: &problem.fix,
            place: problem_place(problem),
            kind: problem.kind,
        };
        groups.entry(key).or_default().push(problem);
    }
    let mut lines = Vec::new();
    let mut groups = groups.into_iter().peekable();
    while let Some((key, members)) = groups.next() {
        lines.extend(group(&key, &members));
        let same = groups
            .peek()
            .is_some_and(|(next, _)| next.fix == key.fix && next.severity == key.severity);
        if !same {
            lines.push(format!("  fix: {}", key.fix.fix_text()));
        }
    }
    lines
}

fn problem_place(problem: &Problem) -> String {
    match (problem.ruleset, problem.table) {
        (Some(ruleset), Some(table)) => format!("{ruleset} {table}: "),
        (Some(ruleset), None) => format!("{ruleset}: "),
        (None, _) => String::new(),
    }
}

fn group(key: &GroupKey<'_>, members: &[&Problem]) -> Vec<String> {
    let note = match key.severity {
        Severity::Error => "",
        Severity::Unknown => "unknown: ",
        Severity::Note => "note: ",
    };
    if let [one] = members {
        return vec![format!("{note}{}", one.text)];
    }
    let number = members.iter().map(|problem| problem.count).sum();
    let mut lines = vec![format!("{note}{}{}", key.place, key.kind.counted(number))];
    let prefix = if key.kind == ProblemKind::Unapplied {
        UNAPPLIED
    } else {
        &key.place
    };
    let example = |problem: &&&Problem| format!("    {}", problem.text.strip_prefix(prefix).unwrap_or(&problem.text));
    lines.extend(members.iter().take(EXAMPLES).map(|problem| example(&problem)));
    if members.len() > EXAMPLES {
        lines.push(format!("    +{} more (-v)", members.len() - EXAMPLES));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::Family;
    use crate::netfilter::{Backend, BuiltIn};

    #[test]
    fn many_problems_are_a_few_lines_with_one_fix() {
        let ruleset = Ruleset {
            backend: Backend::Nft,
            family: Family::Ipv4,
        };
        let drift = |kind| {
            Problem::drift(
                ruleset,
                &Drift {
                    table: Table::Filter,
                    kind,
                },
                |_| None,
            )
        };
        let chain = |number: usize| format!("PLUTO-{number}").parse().unwrap();
        let mut problems: Vec<_> = (1..=600)
            .map(|number| drift(DriftKind::UnexpectedRule(chain(number), "-j DROP".to_owned())))
            .collect();
        problems.push(drift(DriftKind::NoJump(BuiltIn::Forward)));
        problems.push(Problem::new(Severity::Note, ProblemKind::Unapplied, "x", Fix::START));
        let lines = grouped(&problems, |severity| severity != Severity::Note);
        assert_eq!(
            lines,
            [
                "nft-ipv4 filter: missing jump: FORWARD -> PLUTO-FORWARD",
                "nft-ipv4 filter: 600 unexpected rules",
                "    unexpected rule in PLUTO-1: -j DROP",
                "    unexpected rule in PLUTO-2: -j DROP",
                "    unexpected rule in PLUTO-3: -j DROP",
                "    +597 more (-v)",
                "  fix: pluto-updown restore",
            ]
        );
        let notes = grouped(&problems, |severity| severity == Severity::Note);
        assert_eq!(notes, ["note: x", "  fix: pluto-updown start"]);
    }
}
