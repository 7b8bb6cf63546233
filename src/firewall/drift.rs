//! Drift: differences between the record and the kernel's rules.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fmt;

use super::base_chains::base_chain;
use super::desired_state::{ChainRegion, DesiredChain, DesiredState, RecordScope};
use crate::netfilter::{BuiltIn, ChainName, Counters, IptablesSave, Rule, SavedRule, SavedTable, Table, normalize};
use crate::settings::JumpPlace;

/// A difference between the record and the kernel's rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drift {
    /// In which table.
    pub table: Table,
    /// What.
    pub kind: DriftKind,
}

/// The kinds of differences.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DriftKind {
    /// An older version of this program installed the rules, in another layout.
    OlderLayout,
    /// No chain of this program exists, though so many should.
    Nothing(usize),
    /// A chain is missing.
    NoChain(ChainName),
    /// A chain exists that no record needs.
    OrphanChain(ChainName),
    /// A chain that no record needs, and that stays, empty: the administrator's rule in this chain
    /// jumps to it.
    KeptChain(ChainName, String, String),
    /// A rule is missing in its chain.
    NoRule(ChainName, Rule),
    /// A rule in a chain of this program that no record has, or a duplicate.
    UnexpectedRule(ChainName, String),
    /// The rules of a chain are in another order.
    Order(ChainName),
    /// A built-in chain has no jump to this program's chain.
    NoJump(BuiltIn),
    /// A built-in chain has this number of jumps to this program's chain.
    Jumps(BuiltIn, usize),
    /// The jump in a built-in chain is misplaced: so many other rules are on the wrong side of it,
    /// of which this is the first.
    Misplaced(BuiltIn, JumpPlace, usize, String),
    /// No rule of the administrator's leads from the built-in chain to this chain of pluto-updown,
    /// where the administrator is to install it. Perhaps this chain has such a rule, and nothing
    /// leads there.
    NoUserJump(ChainName, Option<String>),
}

impl fmt::Display for Drift {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.table)?;
        match &self.kind {
            DriftKind::OlderLayout => f.write_str("older layout: an older version of pluto-updown installed the rules"),
            DriftKind::Nothing(chains) => write!(f, "missing: all {chains} chains of pluto-updown"),
            DriftKind::NoChain(chain) => write!(f, "missing chain {chain}"),
            DriftKind::OrphanChain(chain) => write!(f, "leftover chain {chain} (no tunnel uses it)"),
            DriftKind::KeptChain(chain, holder, rule) => write!(
                f,
                "leftover chain {chain} (empty, no tunnel uses it): your rule in {holder} jumps to it: {rule}"
            ),
            DriftKind::NoRule(chain, rule) => write!(f, "missing rule in {chain}: {rule}"),
            DriftKind::UnexpectedRule(chain, rule) => write!(f, "unexpected rule in {chain}: {rule}"),
            DriftKind::Order(chain) => write!(f, "rules of {chain} in another order"),
            DriftKind::NoJump(chain) => write!(f, "missing jump: {} -> {}", chain.name(), base_chain(*chain)),
            DriftKind::Jumps(chain, 1) => write!(
                f,
                "unexpected jump {} -> {} (expected 0, found 1)",
                chain.name(),
                base_chain(*chain)
            ),
            DriftKind::Jumps(chain, times) => {
                write!(
                    f,
                    "unexpected jumps {} -> {} (found {times})",
                    chain.name(),
                    base_chain(*chain)
                )
            }
            DriftKind::Misplaced(chain, place, rules, rule) => {
                let side = match place {
                    JumpPlace::First | JumpPlace::Own => "ahead of",
                    JumpPlace::Last => "behind",
                };
                let (count, more) = match rules {
                    1 => ("rule".to_owned(), ""),
                    rules => (format!("{rules} rules"), " ..."),
                };
                write!(f, "{count} {side} the {} jump: {rule}{more}", base_chain(*chain))
            }
            DriftKind::NoUserJump(chain, holder) => {
                write!(f, "missing: your jump to {chain} (place = \"own\")")?;
                match holder {
                    Some(holder) if self.table.is_built_in(holder) => {
                        write!(
                            f,
                            ": the one in {holder} comes after a rule that ends the chain for every packet"
                        )
                    }
                    Some(holder) => write!(f, ": nothing leads to your chain {holder}, which has one"),
                    None => Ok(()),
                }
            }
        }
    }
}

/// What repairs a difference.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DriftRemedy<'a> {
    /// `restore`, which installs what is missing, and deletes or moves what should not be there.
    Restore,
    /// `start`, or the next call: the rules are written again in the present layout.
    Rewrite,
    /// The administrator, who adds a jump to this chain of pluto-updown. Perhaps this chain of the
    /// administrator's has one, and nothing leads there.
    UserJump(&'a ChainName, Option<&'a str>),
    /// The administrator, who deletes a rule of this chain of theirs: it jumps to one of ours.
    UserRule(&'a str),
}

impl Drift {
    /// Whether `restore` can fix it without the administrator.
    #[must_use]
    pub(crate) fn is_repairable(&self) -> bool {
        !matches!(
            self.kind.remedy(),
            DriftRemedy::UserJump(..) | DriftRemedy::UserRule(..)
        )
    }

    /// Whether it changes what happens to packets.
    #[must_use]
    pub(crate) fn has_effect(&self) -> bool {
        !matches!(self.kind, DriftKind::KeptChain(..))
    }
}

impl DriftKind {
    /// What repairs it.
    #[must_use]
    pub(crate) fn remedy(&self) -> DriftRemedy<'_> {
        match self {
            Self::OlderLayout => DriftRemedy::Rewrite,
            Self::NoUserJump(chain, holder) => DriftRemedy::UserJump(chain, holder.as_deref()),
            Self::KeptChain(_, holder, _) => DriftRemedy::UserRule(holder),
            Self::Nothing(_)
            | Self::NoChain(_)
            | Self::OrphanChain(_)
            | Self::NoRule(..)
            | Self::UnexpectedRule(..)
            | Self::Order(_)
            | Self::NoJump(_)
            | Self::Jumps(..)
            | Self::Misplaced(..) => DriftRemedy::Restore,
        }
    }
}

/// A rule that the listing does not clearly show or lack, so that the kernel has to be asked
/// (`iptables -C`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleProbe {
    /// In which table.
    pub table: Table,
    /// In which chain.
    pub chain: ChainName,
    /// The rule to check.
    pub rule: Rule,
}

/// The rules to check before the two can be compared: iptables rewrites its input, and another
/// version of it may do so differently.
#[must_use]
pub fn rule_probes(desired: &DesiredState, saved: &IptablesSave) -> Vec<RuleProbe> {
    let mut questions = Vec::new();
    for (table, listed) in saved.tables() {
        for (name, chain) in desired.chains(table) {
            let lines = listed.rules(name.as_str());
            if lines.is_empty() {
                continue;
            }
            let matched = MatchedRules::new(chain, lines, &[]);
            if matched.unexpected().next().is_some() {
                questions.extend(matched.missing.into_iter().map(|rule| RuleProbe {
                    table,
                    chain: name.clone(),
                    rule,
                }));
            }
        }
    }
    questions
}

/// Compares the desired state with a listing. `confirmed` are those of the [`rule_probes`] that the
/// kernel has confirmed.
#[must_use]
pub fn detect_drift(desired: &DesiredState, saved: &IptablesSave, confirmed: &[RuleProbe]) -> Vec<Drift> {
    let nothing = SavedTable::default();
    let mut found = Vec::new();
    for table in Table::ALL {
        let listed = saved.table(table).unwrap_or(&nothing);
        let kinds = table_drift(desired, table, listed, confirmed);
        found.extend(kinds.into_iter().map(|kind| Drift { table, kind }));
    }
    found
}

fn table_drift(desired: &DesiredState, table: Table, listed: &SavedTable, confirmed: &[RuleProbe]) -> Vec<DriftKind> {
    let mut kinds = Vec::new();
    let chains = desired.chains(table).count();
    if desired.needs_table(table) && listed.own_chains().next().is_none() {
        return vec![DriftKind::Nothing(chains)];
    }
    // Records that cannot be read may need the jumps.
    let is_sure = desired.scope == RecordScope::Complete || desired.needs_table(table);
    for built_in in table.built_in().iter().filter(|_| is_sure) {
        kinds.extend(match desired.jump_config.place(table) {
            JumpPlace::Own => leftover_jumps(desired, *built_in, listed)
                .or_else(|| user_jump_drift(*built_in, listed, desired.needs_table(table))),
            place @ (JumpPlace::First | JumpPlace::Last) => {
                jump_drift(*built_in, place, listed, desired.needs_table(table))
            }
        });
    }
    for (name, chain) in desired.chains(table) {
        if listed.has_chain(name.as_str()) {
            let answers: Vec<_> = confirmed
                .iter()
                .filter(|probe| probe.table == table && probe.chain == *name)
                .map(|probe| &probe.rule)
                .collect();
            let matched = MatchedRules::new(chain, listed.rules(name.as_str()), &answers);
            kinds.extend(chain_drift(name, chain, &matched));
        } else {
            kinds.push(DriftKind::NoChain(name.clone()));
        }
    }
    // One that is kept for the administrator's jump is as it should be when it is empty.
    let is_kept =
        |name: &ChainName| desired.jump_config.keeps_chain(table, name) && listed.rules(name.as_str()).is_empty();
    let orphan = listed
        .own_chains()
        .filter(|name| desired.desired_chain(table, name).is_none() && !is_kept(name));
    kinds.extend(orphan.map(|name| match user_jump_to(table, listed, &name) {
        Some((holder, rule)) if listed.rules(name.as_str()).is_empty() => {
            DriftKind::KeptChain(name, holder.to_owned(), rule.text.clone())
        }
        Some(_) | None => DriftKind::OrphanChain(name),
    }));
    match desired.scope {
        RecordScope::Complete => {}
        RecordScope::Partial => {
            kinds.retain(|kind| !matches!(kind, DriftKind::OrphanChain(_) | DriftKind::UnexpectedRule(..)));
        }
    }
    kinds
}

/// The administrator's first rule that jumps to a chain of this program, and its chain.
pub(super) fn user_jump_to<'s>(
    table: Table,
    listed: &'s SavedTable,
    name: &ChainName,
) -> Option<(&'s str, &'s SavedRule)> {
    let mut jumps = listed.jumps_to_own_chains();
    let jump = jumps.find(|(chain, rule, target)| target == name && !is_own_jump(table, chain, rule, target));
    jump.map(|(chain, rule, _)| (chain, rule))
}

/// Whether a rule is this program's jump in a built-in chain.
fn is_own_jump(table: Table, chain: &str, rule: &SavedRule, target: &ChainName) -> bool {
    let meant = table.built_in().iter().find(|built_in| built_in.name() == chain);
    meant.is_some_and(|built_in| base_chain(*built_in) == *target) && rule.is_plain_jump(target)
}

fn jump_drift(built_in: BuiltIn, place: JumpPlace, listed: &SavedTable, desired: bool) -> Option<DriftKind> {
    let base_chain = base_chain(built_in);
    match (listed.plain_jumps(built_in, &base_chain), desired) {
        (0, true) => return Some(DriftKind::NoJump(built_in)),
        (0, false) => return None,
        (1, true) => {}
        (times, _) => return Some(DriftKind::Jumps(built_in, times)),
    }
    let rules = listed.rules(built_in.name());
    let at = rules.iter().position(|rule| rule.is_plain_jump(&base_chain))?;
    let wrong = match place {
        JumpPlace::First | JumpPlace::Own => &rules[..at],
        JumpPlace::Last => &rules[at + 1..],
    };
    let first = wrong.first()?.text.clone();
    Some(DriftKind::Misplaced(built_in, place, wrong.len(), first))
}

/// This program's jumps that a move to `place = "own"` deletes.
fn leftover_jumps(desired: &DesiredState, built_in: BuiltIn, listed: &SavedTable) -> Option<DriftKind> {
    let kept = desired.user_jumps.get(&built_in)?;
    let found = listed.plain_jumps(built_in, &base_chain(built_in));
    (found > *kept).then_some(DriftKind::Jumps(built_in, found))
}

/// Of a jump that the administrator installs, only the target is known: it must be in a chain that
/// the built-in one leads to.
fn user_jump_drift(built_in: BuiltIn, listed: &SavedTable, desired: bool) -> Option<DriftKind> {
    let base_chain = base_chain(built_in);
    if !desired || listed.leads_to(built_in, &base_chain) {
        return None;
    }
    let mut jumps = listed.jumps_to_own_chains();
    // In another chain, or behind a rule that ends its own.
    let holder = jumps.find(|(_, _, target)| *target == base_chain);
    Some(DriftKind::NoUserJump(
        base_chain,
        holder.map(|(holder, _, _)| holder.to_owned()),
    ))
}

fn chain_drift(name: &ChainName, chain: &DesiredChain, matched: &MatchedRules<'_>) -> Vec<DriftKind> {
    let missing = matched
        .missing
        .iter()
        .map(|rule| DriftKind::NoRule(name.clone(), rule.clone()));
    let foreign = matched
        .unexpected()
        .map(|line| DriftKind::UnexpectedRule(name.clone(), line.text.clone()));
    let mut kinds: Vec<_> = missing.chain(foreign).collect();
    if kinds.is_empty() && !matched.is_in_order(chain) {
        kinds.push(DriftKind::Order(name.clone()));
    }
    kinds
}

/// Which listed line of a chain matches which desired rule.
#[derive(Debug)]
pub(super) struct MatchedRules<'s> {
    lines: &'s [SavedRule],
    /// For each line the number of its rule, as [`DesiredChain::rules`] counts.
    pub(crate) rules: Vec<Option<usize>>,
    /// The rules without a listed line.
    pub(super) missing: Vec<Rule>,
}

impl<'s> MatchedRules<'s> {
    /// Matches lines to rules. `confirmed` are rules that the kernel has confirmed in the chain,
    /// however it lists them.
    pub(super) fn new(chain: &DesiredChain, lines: &'s [SavedRule], confirmed: &[&Rule]) -> Self {
        if lines.is_empty() {
            let missing = chain.rules().cloned().collect();
            return Self {
                lines,
                rules: Vec::new(),
                missing,
            };
        }
        let texts: Vec<_> = chain.rules().map(Rule::to_string).collect();
        let mut by_spelling: HashMap<_, VecDeque<usize>> = HashMap::new();
        for (at, line) in lines.iter().enumerate() {
            by_spelling.entry(normalize(&line.text)).or_default().push_back(at);
        }
        let mut rules = vec![None; lines.len()];
        let mut left = Vec::new();
        for (number, (rule, text)) in chain.rules().zip(&texts).enumerate() {
            match by_spelling.get_mut(&normalize(text)).and_then(VecDeque::pop_front) {
                Some(at) => rules[at] = Some(number),
                None => left.push((number, rule)),
            }
        }
        let mut missing = Vec::new();
        for (number, rule) in left {
            let is_asked = confirmed.contains(&rule);
            match is_asked.then(|| most_similar_rule(rule, lines, &rules)).flatten() {
                Some(at) => rules[at] = Some(number),
                None => missing.push(rule.clone()),
            }
        }
        Self { lines, rules, missing }
    }

    pub(super) fn unexpected(&self) -> impl Iterator<Item = &'s SavedRule> {
        let unmatched = self.lines.iter().zip(&self.rules).filter(|(_, rule)| rule.is_none());
        unmatched.map(|(line, _)| line)
    }

    /// What each rule has counted.
    pub(super) fn counters(&self) -> BTreeMap<usize, Counters> {
        let counted = self.rules.iter().zip(self.lines);
        counted
            .filter_map(|(rule, line)| Some(((*rule)?, line.counters)))
            .collect()
    }

    /// Whether the rules are in their regions: before the chain's own rules, among them, or after
    /// them, and each part in its own order.
    pub(super) fn is_in_order(&self, chain: &DesiredChain) -> bool {
        let places = chain.positions();
        let mut farthest = ChainRegion::Head;
        let mut last: BTreeMap<usize, usize> = BTreeMap::new();
        self.rules.iter().flatten().all(|rule| {
            let (region, part) = places[*rule];
            let follows = region >= farthest && last.insert(part, *rule).is_none_or(|before| before < *rule);
            farthest = region;
            follows
        })
    }
}

/// The unmatched line that has most words in common with a rule.
fn most_similar_rule(rule: &Rule, lines: &[SavedRule], rules: &[Option<usize>]) -> Option<usize> {
    let text = rule.to_string();
    let words = normalize(&text);
    let common = |at: &usize| {
        normalize(&lines[*at].text)
            .iter()
            .filter(|word| words.contains(word))
            .count()
    };
    (0..lines.len()).filter(|at| rules[*at].is_none()).max_by_key(common)
}
