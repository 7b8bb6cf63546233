//! Differences between kernel and record, counted by kind for people.

use std::collections::BTreeMap;

use crate::firewall::{Drift, DriftKind};
use crate::words::counted_noun;

/// What is wrong with something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum DriftClass {
    /// It should be installed and is not.
    Missing,
    /// No record needs it.
    Unexpected,
    /// It is installed at another place than it should be.
    Misplaced,
    /// An older version of this program has installed everything.
    Older,
}

/// A kind of difference: what is wrong, and with what.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct DriftSort {
    pub(super) class: DriftClass,
    /// `rule`, `chain` or `jump`.
    noun: &'static str,
}

impl DriftSort {
    /// The sort of a difference, and how many things it counts for.
    pub(super) fn of_kind(kind: &DriftKind) -> (Self, usize) {
        let (class, noun, number) = match kind {
            DriftKind::Nothing(chains) => (DriftClass::Missing, "chain", *chains),
            DriftKind::NoChain(_) => (DriftClass::Missing, "chain", 1),
            DriftKind::NoRule(..) => (DriftClass::Missing, "rule", 1),
            DriftKind::NoJump(_) | DriftKind::NoUserJump(..) => (DriftClass::Missing, "jump", 1),
            DriftKind::OrphanChain(_) | DriftKind::KeptChain(..) => (DriftClass::Unexpected, "chain", 1),
            DriftKind::UnexpectedRule(..) => (DriftClass::Unexpected, "rule", 1),
            DriftKind::Jumps(..) => (DriftClass::Unexpected, "jump", 1),
            DriftKind::Misplaced(..) => (DriftClass::Misplaced, "jump", 1),
            DriftKind::Order(_) => (DriftClass::Misplaced, "chain", 1),
            DriftKind::OlderLayout => (DriftClass::Older, "layout", 1),
        };
        (Self { class, noun }, number)
    }

    /// So many of it: `12 missing rules`.
    pub(super) fn counted_words(self, number: usize) -> String {
        let adjective = match (self.class, self.noun) {
            (DriftClass::Missing, _) => "missing",
            (DriftClass::Unexpected, "chain") => "leftover",
            (DriftClass::Unexpected, _) => "unexpected",
            (DriftClass::Misplaced, "chain") => "reordered",
            (DriftClass::Misplaced, _) => "misplaced",
            (DriftClass::Older, _) => "older",
        };
        counted_noun(number, &format!("{adjective} {}", self.noun))
    }

    /// Whether it is about rules in a chain.
    pub(super) fn is_of_rules(self) -> bool {
        self.noun == "rule"
    }

    /// What a repair does to it.
    fn repair(self) -> &'static str {
        match (self.class, self.noun) {
            (DriftClass::Missing, _) => "restored",
            (DriftClass::Unexpected, _) => "removed",
            (DriftClass::Misplaced, "chain") => "reordered",
            (DriftClass::Misplaced, _) => "moved",
            (DriftClass::Older, _) => "rewritten",
        }
    }
}

/// These differences, counted by sort.
fn by_sort(drifts: &[&Drift]) -> BTreeMap<DriftSort, usize> {
    let mut sums = BTreeMap::new();
    for drift in drifts {
        let (sort, number) = DriftSort::of_kind(&drift.kind);
        *sums.entry(sort).or_default() += number;
    }
    sums
}

/// These differences, in a few words: `632 missing rules, 1 missing jump, 1 leftover chain`.
pub(super) fn counted_drifts(drifts: &[&Drift]) -> String {
    let sums = by_sort(drifts).into_iter();
    let words = sums.map(|(sort, number)| sort.counted_words(number));
    words.collect::<Vec<_>>().join(", ")
}

/// What a repair does to these differences, in a few words: `restored 632 rules, 1 jump; removed 1
/// chain`.
pub(super) fn repairs(drifts: &[&Drift]) -> String {
    let sums = by_sort(drifts);
    let mut by_verb: Vec<(&str, Vec<String>)> = Vec::new();
    for (sort, number) in sums {
        let thing = counted_noun(number, sort.noun);
        match by_verb.iter_mut().find(|(verb, _)| *verb == sort.repair()) {
            Some((_, things)) => things.push(thing),
            None => by_verb.push((sort.repair(), vec![thing])),
        }
    }
    let words = by_verb
        .iter()
        .map(|(verb, things)| format!("{verb} {}", things.join(", ")));
    words.collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netfilter::{BuiltIn, Table};

    #[test]
    fn repairs_are_summed_up_by_what_is_done_and_to_what() {
        let drift = |kind| Drift {
            table: Table::Filter,
            kind,
        };
        let chain = || "PLUTO-FORWARD".parse().unwrap();
        let drifts = [
            drift(DriftKind::UnexpectedRule(chain(), "-j DROP".to_owned())),
            drift(DriftKind::Nothing(21)),
            drift(DriftKind::NoJump(BuiltIn::Forward)),
            drift(DriftKind::Order(chain())),
            drift(DriftKind::UnexpectedRule(chain(), "-j DROP".to_owned())),
        ];
        assert_eq!(
            repairs(&drifts.iter().collect::<Vec<_>>()),
            "restored 21 chains, 1 jump; removed 2 rules; reordered 1 chain"
        );
        assert_eq!(
            DriftSort::of_kind(&drifts[1].kind).0.counted_words(21),
            "21 missing chains"
        );
    }
}
