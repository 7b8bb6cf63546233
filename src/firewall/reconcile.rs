//! Turns drift into the commands that repair it, and no others.

use std::collections::BTreeSet;

use super::base_chains::{base_chain, base_chain_jump};
use super::desired_state::{DesiredChain, DesiredState, RecordScope};
use super::drift::{Drift, DriftKind, MatchedRules, RuleProbe, user_jump_to};
use crate::netfilter::{
    BuiltIn, ChainName, Counters, IptablesSave, RestoreCommand, Rule, SavedRule, SavedTable, Section, Table, Target,
    normalize,
};
use crate::settings::JumpPlace;

/// How a chain with differences is repaired.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Repair {
    /// By the rules that differ, if that is enough.
    Patch,
    /// By all its rules: iptables may not find a rule in the form in which it lists it.
    Refill,
}

/// The commands that repair these tables. Unexpected rules in a chain of this program are deleted,
/// and missing ones added. If that is not enough, the chain is emptied and filled again, and its
/// rules keep their counters (ip6tables-nft 1.8.9 and older ignores them and starts from zero). All
/// other chains, and the administrator's rules, are not touched. A chain that no record needs is
/// deleted, unless a rule of the administrator's jumps to it: then it stays, empty.
///
/// The filter table comes first: packets that it accepts by mistake must not wait for the other
/// tables.
#[must_use]
pub fn reconcile(
    desired: &DesiredState,
    saved: &IptablesSave,
    confirmed: &[RuleProbe],
    drifts: &[Drift],
    repair: Repair,
) -> Vec<Section> {
    let nothing = SavedTable::default();
    let sections = Table::ALL.map(|table| {
        let kinds: Vec<_> = drifts
            .iter()
            .filter(|drift| drift.table == table)
            .map(|drift| &drift.kind)
            .collect();
        let listed = saved.table(table).unwrap_or(&nothing);
        let commands = reconcile_table(desired, table, listed, confirmed, &kinds, repair);
        Section { table, commands }
    });
    sections
        .into_iter()
        .filter(|section| !section.commands.is_empty())
        .collect()
}

fn reconcile_table(
    desired: &DesiredState,
    table: Table,
    listed: &SavedTable,
    confirmed: &[RuleProbe],
    kinds: &[&DriftKind],
    repair: Repair,
) -> Vec<RestoreCommand> {
    let orphan: BTreeSet<_> = kinds.iter().filter_map(|kind| orphan_chain(kind)).collect();
    let (mut commands, mut rules) = (Vec::new(), Vec::new());
    for name in drifted_chains(desired, table, kinds) {
        let compared = desired.desired_chain(table, &name).map(|chain| {
            let answers = confirmed_rules(table, &name, confirmed);
            (chain, MatchedRules::new(chain, listed.rules(name.as_str()), &answers))
        });
        let patch = compared.as_ref().and_then(|(chain, matched)| {
            // Also for a refill: what may belong to a record that cannot be read would be lost.
            let around = (desired.scope == RecordScope::Partial).then(|| patch_around(chain, &name, matched));
            around.flatten().or_else(|| match repair {
                Repair::Patch if listed.has_chain(name.as_str()) => patch_chain(chain, &name, matched),
                Repair::Patch | Repair::Refill => None,
            })
        });
        if let Some(patch) = patch {
            rules.extend(patch);
        } else {
            commands.push(RestoreCommand::NewChain(name.clone()));
            rules.extend(
                compared
                    .iter()
                    .flat_map(|(chain, matched)| refill_chain(chain, &name, matched)),
            );
        }
    }
    commands.extend(orphan.iter().copied().cloned().map(RestoreCommand::Flush));
    commands.append(&mut rules);
    commands.extend(kinds.iter().flat_map(|kind| jump_commands(desired, table, kind)));
    let is_kept = |chain: &ChainName| {
        user_jump_to(table, listed, chain).is_some() || desired.jump_config.keeps_chain(table, chain)
    };
    let removed = orphan.into_iter().filter(|chain| !is_kept(chain));
    commands.extend(removed.cloned().map(RestoreCommand::DeleteChain));
    commands
}

/// The chains in which something is wrong.
fn drifted_chains(desired: &DesiredState, table: Table, kinds: &[&DriftKind]) -> BTreeSet<ChainName> {
    let mut broken = BTreeSet::new();
    for kind in kinds {
        match kind {
            DriftKind::Nothing(_) => broken.extend(desired.chains(table).map(|(name, _)| name.clone())),
            DriftKind::NoChain(name)
            | DriftKind::NoRule(name, _)
            | DriftKind::UnexpectedRule(name, _)
            | DriftKind::Order(name) => drop(broken.insert(name.clone())),
            DriftKind::OlderLayout
            | DriftKind::OrphanChain(_)
            | DriftKind::KeptChain(..)
            | DriftKind::NoJump(_)
            | DriftKind::Jumps(..)
            | DriftKind::Misplaced(..)
            | DriftKind::NoUserJump(..) => {}
        }
    }
    broken
}

fn orphan_chain(kind: &DriftKind) -> Option<&ChainName> {
    match kind {
        DriftKind::OrphanChain(name) => Some(name),
        DriftKind::OlderLayout
        | DriftKind::Nothing(_)
        | DriftKind::NoChain(_)
        | DriftKind::KeptChain(..)
        | DriftKind::NoRule(..)
        | DriftKind::UnexpectedRule(..)
        | DriftKind::Order(_)
        | DriftKind::NoJump(_)
        | DriftKind::Jumps(..)
        | DriftKind::Misplaced(..)
        | DriftKind::NoUserJump(..) => None,
    }
}

/// The commands that delete unexpected rules from a chain, and add missing rules before or after
/// the chain's own; installed rules are not touched. `None` if that is not enough: if own rules of
/// the chain are missing, or the order has to change.
fn patch_chain(chain: &DesiredChain, name: &ChainName, matched: &MatchedRules<'_>) -> Option<Vec<RestoreCommand>> {
    if !matched.is_in_order(chain) {
        return None;
    }
    // iptables deletes the first of two equal rules, which may be the expected one.
    let texts: Vec<_> = chain.rules().map(Rule::to_string).collect();
    let desired_texts: BTreeSet<_> = texts.iter().map(|text| normalize(text)).collect();
    let delete = |line: &SavedRule| {
        let is_double = desired_texts.contains(&normalize(&line.text));
        (!is_double).then(|| RestoreCommand::DeleteText(name.clone(), line.text.clone()))
    };
    let insert = |rule: &Rule| match needs_new_chain(&rule.target) {
        true => None,
        false => chain.insertion(name, rule),
    };
    let deletions = matched.unexpected().map(delete);
    deletions.chain(matched.missing.iter().map(insert)).collect()
}

/// Whether rules with this target are only added to a chain that is filled from the start: what
/// opens something or changes packets. The self-check refuses them in other chains.
fn needs_new_chain(target: &Target) -> bool {
    match target {
        Target::Accept
        | Target::SetMark(_)
        | Target::Snat(_)
        | Target::Dnat(_)
        | Target::SetMss(_)
        | Target::ClampMssToPmtu => true,
        Target::Drop
        | Target::Return
        | Target::Jump(_)
        | Target::Goto(_)
        | Target::JumpUser(_)
        | Target::ClearMark(_)
        | Target::Nflog(_)
        | Target::Log(_) => false,
    }
}

/// The commands that add missing rules to a chain with rules that may belong to records that cannot
/// be read: each behind the rule before it. `None` if there are no such rules.
fn patch_around(chain: &DesiredChain, name: &ChainName, matched: &MatchedRules<'_>) -> Option<Vec<RestoreCommand>> {
    matched.unexpected().next()?;
    let mut lines = matched.rules.clone();
    let mut commands = Vec::new();
    for (number, rule) in chain.rules().enumerate() {
        if !lines.contains(&Some(number)) && matched.missing.contains(rule) {
            let is_before = |line: &Option<usize>| line.is_some_and(|other| other < number);
            let at = lines.iter().rposition(is_before).map_or(0, |before| before + 1);
            lines.insert(at, Some(number));
            commands.push(RestoreCommand::InsertAt(name.clone(), at + 1, rule.clone()));
        }
    }
    Some(commands)
}

/// The rules of a chain that the kernel has confirmed, however it lists them.
fn confirmed_rules<'s>(table: Table, name: &ChainName, confirmed: &'s [RuleProbe]) -> Vec<&'s Rule> {
    confirmed
        .iter()
        .filter(|probe| probe.table == table && probe.chain == *name)
        .map(|probe| &probe.rule)
        .collect()
}

/// All rules of a chain. Rules that were installed keep the counters of the listing.
fn refill_chain(chain: &DesiredChain, name: &ChainName, matched: &MatchedRules<'_>) -> Vec<RestoreCommand> {
    let counters = matched.counters();
    chain
        .rules()
        .enumerate()
        .map(|(number, rule)| {
            let counted = counters.get(&number).copied().unwrap_or_default();
            match counted == Counters::default() {
                true => RestoreCommand::Append(name.into(), rule.clone()),
                false => RestoreCommand::AppendWithCounters(name.clone(), rule.clone(), counted),
            }
        })
        .collect()
}

/// The commands that repair the jump in a built-in chain. A jump that has to move, or that exists
/// several times, is deleted and added again. The administrator's jump is not touched.
fn jump_commands(desired: &DesiredState, table: Table, kind: &DriftKind) -> Vec<RestoreCommand> {
    let add = match desired.jump_config.place(table) {
        JumpPlace::First => RestoreCommand::Insert,
        JumpPlace::Last => RestoreCommand::Append,
        JumpPlace::Own => return leftover_jump_commands(desired, kind),
    };
    let move_jump = |built_in: BuiltIn, standing, needed| {
        let rule = base_chain_jump(built_in);
        let mut commands = vec![RestoreCommand::Delete(built_in.into(), rule.clone()); standing];
        commands.extend(vec![add(built_in.into(), rule); needed]);
        commands
    };
    match kind {
        DriftKind::Nothing(_) => table
            .built_in()
            .iter()
            .flat_map(|built_in| move_jump(*built_in, 0, 1))
            .collect(),
        DriftKind::NoJump(built_in) => move_jump(*built_in, 0, 1),
        DriftKind::Misplaced(built_in, ..) => move_jump(*built_in, 1, 1),
        DriftKind::Jumps(built_in, times) => move_jump(*built_in, *times, usize::from(desired.needs_table(table))),
        DriftKind::OlderLayout
        | DriftKind::NoChain(_)
        | DriftKind::OrphanChain(_)
        | DriftKind::KeptChain(..)
        | DriftKind::NoRule(..)
        | DriftKind::UnexpectedRule(..)
        | DriftKind::Order(_)
        | DriftKind::NoUserJump(..) => Vec::new(),
    }
}

/// Deletes this program's jumps at a move to `place = "own"`.
fn leftover_jump_commands(desired: &DesiredState, kind: &DriftKind) -> Vec<RestoreCommand> {
    let DriftKind::Jumps(built_in, times) = kind else {
        return Vec::new();
    };
    let kept = desired.user_jumps.get(built_in).copied().unwrap_or(*times);
    let delete = RestoreCommand::Delete((*built_in).into(), base_chain_jump(*built_in));
    vec![delete; times.saturating_sub(kept)]
}

/// Deletes the base chains that stayed only for the administrator's jumps, and that no rule jumps
/// to any more.
#[must_use]
pub(crate) fn release_base_chains(filter: &SavedTable) -> Vec<Section> {
    let base_chains: BTreeSet<_> = Table::Filter.built_in().iter().copied().map(base_chain).collect();
    let left = filter.own_chains().filter(|chain| base_chains.contains(chain));
    let unnamed: Vec<_> = left.filter(|chain| !filter.has_jump_to(chain)).collect();
    let emptied = unnamed.iter().cloned().map(RestoreCommand::Flush);
    let commands: Vec<_> = emptied
        .chain(unnamed.iter().cloned().map(RestoreCommand::DeleteChain))
        .collect();
    let section = Section {
        table: Table::Filter,
        commands,
    };
    std::iter::once(section)
        .filter(|section| !section.commands.is_empty())
        .collect()
}
