//! From what is not as it should be to the commands that set it right, and nothing else.

use std::collections::BTreeSet;

use super::drift::{Drift, DriftKind, Matched, Question};
use super::shared::{entrance, entrance_jump};
use super::wanted::Wanted;
use crate::netfilter::{
    BuiltIn, ChainName, Command, Counters, IptablesSave, Rule, RulePosition, SavedRule, SavedTable, Section, Table,
    Target, normalize,
};
use crate::settings::JumpPlace;

/// What sets these tables right. From a chain of ours what is foreign is taken out, and what is missing is put in; if that will not do, it
/// is emptied and filled again, with what its rules have counted (ip6tables-nft 1.8.9 and older begins at zero there, whatever it is told).
/// All others, and the administrator's rules, are not touched. A chain that nobody needs goes, unless a rule of the administrator's leads to
/// it: then it stays, empty.
///
/// The filter table comes first: what it lets in by mistake must not wait for the others.
#[must_use]
pub fn mend(wanted: &Wanted, saved: &IptablesSave, stands: &[Question], drifts: &[Drift]) -> Vec<Section> {
    let nothing = SavedTable::default();
    let sections = Table::ALL.map(|table| {
        let kinds: Vec<_> = drifts
            .iter()
            .filter(|drift| drift.table == table)
            .map(|drift| &drift.kind)
            .collect();
        let listed = saved.table(table).unwrap_or(&nothing);
        let commands = in_table(wanted, table, listed, stands, &kinds);
        Section { table, commands }
    });
    sections
        .into_iter()
        .filter(|section| !section.commands.is_empty())
        .collect()
}

fn in_table(
    wanted: &Wanted,
    table: Table,
    listed: &SavedTable,
    stands: &[Question],
    kinds: &[&DriftKind],
) -> Vec<Command> {
    let stray: BTreeSet<_> = kinds.iter().filter_map(|kind| stray(kind)).collect();
    let (mut commands, mut rules) = (Vec::new(), Vec::new());
    for name in broken(wanted, table, kinds) {
        if let Some(patch) = patch(wanted, table, &name, listed, stands) {
            rules.extend(patch);
        } else {
            commands.push(Command::NewChain(name.clone()));
            rules.extend(refill(wanted, table, &name, listed, stands));
        }
    }
    commands.extend(stray.iter().copied().cloned().map(Command::Flush));
    commands.append(&mut rules);
    commands.extend(kinds.iter().flat_map(|kind| jumps(wanted, table, kind)));
    let led_to: BTreeSet<_> = listed
        .jumps_to_own_chains()
        .filter(|(chain, rule, target)| !is_our_jump(table, chain, &rule.text, target))
        .map(|(_, _, target)| target)
        .collect();
    let removed = stray
        .into_iter()
        .filter(|chain| !led_to.contains(*chain) && !wanted.site.keeps(table, chain));
    commands.extend(removed.cloned().map(Command::DeleteChain));
    commands
}

/// The chains in which something is wrong.
fn broken(wanted: &Wanted, table: Table, kinds: &[&DriftKind]) -> BTreeSet<ChainName> {
    let mut broken = BTreeSet::new();
    for kind in kinds {
        match kind {
            DriftKind::Nothing(_) => broken.extend(wanted.chains(table).map(|(name, _)| name.clone())),
            DriftKind::NoChain(name)
            | DriftKind::NoRule(name, _)
            | DriftKind::Foreign(name, _)
            | DriftKind::Order(name) => drop(broken.insert(name.clone())),
            DriftKind::Stray(_)
            | DriftKind::NoJump(_)
            | DriftKind::Jumps(..)
            | DriftKind::Misplaced(..)
            | DriftKind::NotLedTo(_) => {}
        }
    }
    broken
}

fn stray(kind: &DriftKind) -> Option<&ChainName> {
    match kind {
        DriftKind::Stray(name) => Some(name),
        DriftKind::Nothing(_)
        | DriftKind::NoChain(_)
        | DriftKind::NoRule(..)
        | DriftKind::Foreign(..)
        | DriftKind::Order(_)
        | DriftKind::NoJump(_)
        | DriftKind::Jumps(..)
        | DriftKind::Misplaced(..)
        | DriftKind::NotLedTo(_) => None,
    }
}

/// What takes foreign rules out of a chain and puts those in that others have put before or behind the chain's own; what stands is not
/// touched then. Nothing, where that would not do: where the chain's own rules are missing, or the order has to change.
fn patch(
    wanted: &Wanted,
    table: Table,
    name: &ChainName,
    listed: &SavedTable,
    stands: &[Question],
) -> Option<Vec<Command>> {
    let chain = wanted.chain(table, name).filter(|_| listed.has_chain(name.as_str()))?;
    let matched = Matched::of(chain, listed.rules(name.as_str()), &answers(table, name, stands));
    if !matched.is_in_order(chain) {
        return None;
    }
    // To take out one of two alike would take the first, which may be ours.
    let texts: Vec<_> = chain.rules().map(Rule::to_string).collect();
    let ours: BTreeSet<_> = texts.iter().map(|text| normalize(text)).collect();
    let strike = |line: &SavedRule| {
        let is_double = ours.contains(&normalize(&line.text));
        (!is_double).then(|| Command::DeleteText(name.clone(), line.text.clone()))
    };
    // What opens something is only put into a chain that is filled from the start.
    let opens = |rule: &Rule| matches!(rule.target, Target::Accept | Target::Snat(_) | Target::Dnat(_));
    let put = |rule: &Rule| {
        (!opens(rule)).then_some(())?;
        Some(match chain.place_of(rule)? {
            RulePosition::Head => Command::Insert(name.into(), rule.clone()),
            RulePosition::Tail => Command::Append(name.into(), rule.clone()),
        })
    };
    let strikes = matched.foreign().map(strike);
    strikes.chain(matched.missing.iter().map(put)).collect()
}

/// The rules of a chain that the kernel says stand, however it lists them.
fn answers<'s>(table: Table, name: &ChainName, stands: &'s [Question]) -> Vec<&'s Rule> {
    stands
        .iter()
        .filter(|question| question.table == table && question.chain == *name)
        .map(|question| &question.rule)
        .collect()
}

/// All the rules of a chain. What stood in it goes on counting from what it had when it was listed.
fn refill(wanted: &Wanted, table: Table, name: &ChainName, listed: &SavedTable, stands: &[Question]) -> Vec<Command> {
    let Some(chain) = wanted.chain(table, name) else {
        return Vec::new();
    };
    let answers = answers(table, name, stands);
    let counters = Matched::of(chain, listed.rules(name.as_str()), &answers).counters();
    chain
        .rules()
        .enumerate()
        .map(|(number, rule)| {
            let counted = counters.get(&number).copied().unwrap_or_default();
            match counted == Counters::default() {
                true => Command::Append(name.into(), rule.clone()),
                false => Command::AppendWithCounters(name.clone(), rule.clone(), counted),
            }
        })
        .collect()
}

/// Sets the jump from a built-in chain right. One that has to move, or that stands several times, is taken out and put in anew. One of
/// the administrator's is not touched.
fn jumps(wanted: &Wanted, table: Table, kind: &DriftKind) -> Vec<Command> {
    let add = match wanted.site.place(table) {
        JumpPlace::First => Command::Insert,
        JumpPlace::Last => Command::Append,
        JumpPlace::Own => return Vec::new(),
    };
    let anew = |built_in: BuiltIn, standing, needed| {
        let rule = entrance_jump(built_in);
        let mut commands = vec![Command::Delete(built_in.into(), rule.clone()); standing];
        commands.extend(vec![add(built_in.into(), rule); needed]);
        commands
    };
    match kind {
        DriftKind::Nothing(_) => table
            .built_in()
            .iter()
            .flat_map(|built_in| anew(*built_in, 0, 1))
            .collect(),
        DriftKind::NoJump(built_in) => anew(*built_in, 0, 1),
        DriftKind::Misplaced(built_in, ..) => anew(*built_in, 1, 1),
        DriftKind::Jumps(built_in, times) => anew(*built_in, *times, usize::from(wanted.needs(table))),
        DriftKind::NoChain(_)
        | DriftKind::Stray(_)
        | DriftKind::NoRule(..)
        | DriftKind::Foreign(..)
        | DriftKind::Order(_)
        | DriftKind::NotLedTo(_) => Vec::new(),
    }
}

/// Whether a rule is the one that we put into a built-in chain.
fn is_our_jump(table: Table, chain: &str, rule: &str, target: &ChainName) -> bool {
    let meant = table.built_in().iter().find(|built_in| built_in.name() == chain);
    meant.is_some_and(|built_in| entrance(*built_in) == *target) && rule == format!("-j {target}")
}
