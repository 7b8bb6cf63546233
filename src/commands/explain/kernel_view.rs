//! What the kernel holds, and how that differs from the record that `explain` answers from.

use super::record_view::{RecordView, RulesetView};
use crate::commands::fix::Fix;
use crate::commands::no_record::LostRecord;
use crate::firewall::{Drift, DriftKind};
use crate::netfilter::{Counters, IptablesSave, SavedTable, Table, normalize};
use crate::trace::DecidingRule;
use crate::words::{counted_noun, folded, one_line, wrapped};

/// What the kernel holds of a ruleset.
#[derive(Debug)]
pub(super) enum KernelView {
    /// It was listed and compared.
    Listed { saved: IptablesSave, drifts: Vec<Drift> },
    /// It could not be listed, for this reason. One line.
    Unknown(String),
}

/// How many differences of a ruleset are printed.
const SHOWN: usize = 3;

impl KernelView {
    /// The filter table as it was listed; none, where it could not be, or has nothing.
    pub(super) fn filter(&self) -> Option<&SavedTable> {
        match self {
            Self::Listed { saved, .. } => saved.table(Table::Filter),
            Self::Unknown(_) => None,
        }
    }

    /// The counters of a rule of this program in the filter table, if it is listed in the same
    /// form.
    pub(super) fn counters(&self, rule: &DecidingRule) -> Option<Counters> {
        let text = rule.rule.to_string();
        let words = normalize(&text);
        let mut listed = self.filter()?.rules(rule.chain.as_str()).iter();
        Some(listed.find(|line| normalize(&line.text) == words)?.counters)
    }

    /// Whether it holds anything else than the record says.
    pub(super) fn differs(&self) -> bool {
        match self {
            Self::Listed { drifts, .. } => drifts.iter().any(Drift::has_effect),
            Self::Unknown(_) => false,
        }
    }
}

/// What is to be known before the answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct KernelWarning {
    /// Lines, the last one empty.
    pub(super) text: String,
    /// The exit status: 1 if the kernel differs, 3 if that is unknown.
    pub(super) code: u8,
}

/// The warning about these rulesets, if there is a reason for one.
pub(super) fn warning<'a>(
    record_view: &RecordView,
    ruleset_views: impl IntoIterator<Item = &'a RulesetView>,
) -> Option<KernelWarning> {
    if let Some(LostRecord { text, fix }) = record_view.lost_record() {
        let lines = [text, format!("fix: {}", fix.fix_text())];
        return Some(KernelWarning::new(
            "WARNING: nothing is recorded",
            &lines,
            1,
            record_view.width,
        ));
    }
    let (mut differences, mut unknown) = (Vec::new(), Vec::new());
    for ruleset_view in ruleset_views {
        match &ruleset_view.kernel {
            KernelView::Listed { drifts, .. } if ruleset_view.kernel.differs() => {
                differences.extend(differing(ruleset_view, drifts));
            }
            KernelView::Listed { .. } => {}
            // Without records there is nothing to compare.
            KernelView::Unknown(_) if !ruleset_view.is_recorded() => {}
            KernelView::Unknown(reason) => unknown.push(format!("{}: {reason}", ruleset_view.ruleset)),
        }
    }
    let (title, lines, code) = match (differences.is_empty(), unknown.is_empty()) {
        (true, true) => return None,
        (true, false) => (
            "WARNING: not compared with the kernel, the answer is by the record alone",
            unknown,
            3,
        ),
        (false, _) => (
            "WARNING: the kernel differs from the record, by which the answer below is given",
            [differences, unknown].concat(),
            1,
        ),
    };
    Some(KernelWarning::new(title, &lines, code, record_view.width))
}

impl KernelWarning {
    fn new(title: &str, lines: &[String], code: u8, width: usize) -> Self {
        let lines = lines
            .iter()
            .flat_map(|line| wrapped(std::slice::from_ref(line), width - 2));
        let lines: String = lines.map(|line| format!("  {line}\n")).collect();
        Self {
            text: format!("{}\n{lines}\n", folded(title, width).join("\n")),
            code,
        }
    }
}

/// The first differences of a ruleset, and the command that repairs them.
fn differing(ruleset_view: &RulesetView, drifts: &[Drift]) -> Vec<String> {
    let mut drifts: Vec<_> = drifts.iter().filter(|drift| drift.has_effect()).collect();
    // The filter table decides what passes, and a jump about all of it.
    drifts.sort_by_key(|drift| (drift.table != Table::Filter, !is_about_all(&drift.kind)));
    let mut lines: Vec<_> = drifts
        .iter()
        .take(SHOWN)
        .map(|drift| one_line(&format!("{} {drift}", ruleset_view.ruleset)))
        .collect();
    if let more @ 1.. = drifts.len().saturating_sub(SHOWN) {
        lines.push(format!(
            "and {}: pluto-updown status",
            counted_noun(more, "more difference")
        ));
    }
    lines.push(format!("fix: {}", fix(&drifts).fix_text()));
    lines
}

/// Whether every packet of a built-in chain is concerned.
fn is_about_all(kind: &DriftKind) -> bool {
    match kind {
        DriftKind::OlderLayout
        | DriftKind::Nothing(_)
        | DriftKind::NoJump(_)
        | DriftKind::NoUserJump(..)
        | DriftKind::Jumps(..)
        | DriftKind::Misplaced(..) => true,
        DriftKind::NoChain(_)
        | DriftKind::OrphanChain(_)
        | DriftKind::KeptChain(..)
        | DriftKind::NoRule(..)
        | DriftKind::UnexpectedRule(..)
        | DriftKind::Order(_) => false,
    }
}

/// The command that repairs most of it; advice, where none does.
fn fix(drifts: &[&Drift]) -> Fix {
    let mut fixes = drifts.iter().map(|drift| Fix::for_drift(&drift.kind));
    let commands = [Fix::START, Fix::RESTORE];
    let command = commands
        .into_iter()
        .find(|command| fixes.clone().any(|fix| fix == *command));
    command.or_else(|| fixes.next()).unwrap_or(Fix::RESTORE)
}
