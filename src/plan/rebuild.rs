//! Rebuilds all rules from the record, whatever the kernel still has of them.

use std::collections::{BTreeMap, BTreeSet};

use super::base_chains::{JumpConfig, base_chain, base_chain_jump};
use super::desired_state::DesiredState;
use super::tunnel_rules::TunnelRules;
use crate::netfilter::{BuiltIn, RestoreCommand, SavedTable, Section, Table};
use crate::settings::JumpPlace;

/// The commands after which the kernel has exactly these rules, given the present listing of each
/// table; a table that is not listed is not touched.
///
/// Existing chains of this program are emptied and filled again, and those that no record needs are
/// deleted. In the built-in chains a missing jump is added, a second one deleted, and a jump that
/// is to be first is moved if other rules are before it. The filter table comes first: packets that
/// it accepts by mistake must not wait for the other tables.
#[must_use]
pub fn rebuild(
    all_rules: &[TunnelRules],
    listings: &BTreeMap<Table, SavedTable>,
    jump_config: JumpConfig,
) -> Vec<Section> {
    let desired = DesiredState::from_rules(all_rules, jump_config);
    let sections = listings.iter().map(|(table, listing)| Section {
        table: *table,
        commands: rebuild_table(&desired, *table, listing),
    });
    sections.filter(|section| !section.commands.is_empty()).collect()
}

/// Like [`rebuild`], but moves the jumps to another position. The administrator's jump stays.
#[must_use]
pub fn move_jumps(
    all_rules: &[TunnelRules],
    listings: &BTreeMap<Table, SavedTable>,
    from: JumpConfig,
    to: JumpConfig,
) -> Vec<Section> {
    let mut sections = rebuild(
        all_rules,
        listings,
        JumpConfig {
            place: JumpPlace::Own,
            ..to
        },
    );
    let listed = listings.get(&Table::Filter).cloned().unwrap_or_default();
    let filter = sections.iter_mut().find(|section| section.table == Table::Filter);
    if let Some(section) = filter {
        for built_in in Table::Filter.built_in() {
            move_jump(&mut section.commands, *built_in, &listed, from, to);
        }
    }
    sections
}

fn move_jump(
    commands: &mut Vec<RestoreCommand>,
    built_in: BuiltIn,
    listed: &SavedTable,
    from: JumpConfig,
    to: JumpConfig,
) {
    let rule = base_chain_jump(built_in);
    if from.place(Table::Filter) != JumpPlace::Own && listed.plain_jumps(built_in, &base_chain(built_in)) > 0 {
        commands.push(RestoreCommand::Delete(built_in.into(), rule.clone()));
    }
    match to.place(Table::Filter) {
        JumpPlace::First => commands.push(RestoreCommand::Insert(built_in.into(), rule)),
        JumpPlace::Last => commands.push(RestoreCommand::Append(built_in.into(), rule)),
        JumpPlace::Own => {}
    }
}

/// The commands that delete the chains that existed only for the administrator's jumps, if no rule
/// jumps to them.
#[must_use]
pub fn release_base_chains(filter: &SavedTable) -> Vec<Section> {
    let entrances: BTreeSet<_> = Table::Filter.built_in().iter().copied().map(base_chain).collect();
    let left = filter.own_chains().filter(|chain| entrances.contains(chain));
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

/// Whether a table has the chains and the jumps of these rules and no other chains of this program,
/// as far as the listing shows.
#[must_use]
pub fn is_installed(all_rules: &[TunnelRules], table: Table, listing: &SavedTable, jump_config: JumpConfig) -> bool {
    let desired = DesiredState::from_rules(all_rules, jump_config);
    let listed_chains: BTreeSet<_> = listing
        .own_chains()
        .filter(|chain| !jump_config.keeps_chain(table, chain))
        .collect();
    let has_jumps = |built_in: &BuiltIn| match jump_config.place(table) {
        JumpPlace::Own => true,
        place @ (JumpPlace::First | JumpPlace::Last) => {
            let is_wanted = desired.needs_table(table);
            let number = listing.plain_jumps(*built_in, &base_chain(*built_in));
            number == usize::from(is_wanted) && !(is_wanted && is_overtaken(*built_in, place, listing))
        }
    };
    let chains = desired.chains(table).map(|(name, _)| name);
    let chains: BTreeSet<_> = chains.filter(|chain| !jump_config.keeps_chain(table, chain)).collect();
    chains == listed_chains.iter().collect() && table.built_in().iter().all(has_jumps)
}

fn rebuild_table(desired: &DesiredState, table: Table, listing: &SavedTable) -> Vec<RestoreCommand> {
    let jump_config = desired.jump_config;
    let orphan: Vec<_> = listing
        .own_chains()
        .filter(|chain| desired.desired_chain(table, chain).is_none())
        .collect();

    let chains = || desired.chains(table);
    let mut commands: Vec<_> = chains()
        .map(|(name, _)| RestoreCommand::NewChain(name.clone()))
        .collect();
    commands.extend(orphan.iter().cloned().map(RestoreCommand::Flush));
    let rules = chains().flat_map(|(name, chain)| chain.rules().map(move |rule| (name, rule)));
    commands.extend(rules.map(|(name, rule)| RestoreCommand::Append(name.into(), rule.clone())));
    for built_in in table.built_in() {
        match jump_config.place(table) {
            JumpPlace::Own => {}
            place @ (JumpPlace::First | JumpPlace::Last) => {
                reconcile_jump(&mut commands, *built_in, place, desired.needs_table(table), listing);
            }
        }
    }
    let removed = orphan
        .into_iter()
        .filter(|chain| !jump_config.keeps_chain(table, chain));
    commands.extend(removed.map(RestoreCommand::DeleteChain));
    commands
}

/// Whether the jump should be first, and another rule is before it.
fn is_overtaken(built_in: BuiltIn, place: JumpPlace, listing: &SavedTable) -> bool {
    match place {
        JumpPlace::First => !listing.starts_with_jump(built_in, &base_chain(built_in)),
        // Rules after a last jump are common, and no reason to move it.
        JumpPlace::Last | JumpPlace::Own => false,
    }
}

/// Leaves one jump if it is wanted, at its place, and none otherwise.
fn reconcile_jump(
    commands: &mut Vec<RestoreCommand>,
    built_in: BuiltIn,
    place: JumpPlace,
    is_wanted: bool,
    listing: &SavedTable,
) {
    let rule = base_chain_jump(built_in);
    let installed = listing.plain_jumps(built_in, &base_chain(built_in));
    let kept = usize::from(is_wanted && installed > 0 && !is_overtaken(built_in, place, listing));
    for _ in kept..installed {
        commands.push(RestoreCommand::Delete(built_in.into(), rule.clone()));
    }
    let add = match place {
        JumpPlace::First => RestoreCommand::Insert,
        JumpPlace::Last => RestoreCommand::Append,
        JumpPlace::Own => return,
    };
    for _ in kept..usize::from(is_wanted) {
        commands.push(add(built_in.into(), rule.clone()));
    }
}
