//! Everything anew, from the record, whatever the kernel still holds of it.

use std::collections::{BTreeMap, BTreeSet};

use super::layout::Layout;
use super::piece::Piece;
use super::shared::{Site, entrance, entrance_jump};
use crate::netfilter::{BuiltIn, Chain, ChainName, Command, Listing, PlacedRule, Section, Table};
use crate::settings::JumpPlace;

/// What makes the kernel hold exactly these tunnels, given what it holds of ours now in each of these tables; a table that is not listed is
/// not touched.
///
/// Chains of ours that stand are emptied and filled again, and those that belong to no tunnel are removed. In the built-in chains a missing
/// jump of ours is put in, a second one taken out, and one that is to come first put first again if others have been put before it. The filter table comes first: what it
/// lets in by mistake must not wait for the others.
#[must_use]
pub fn rebuild(layouts: &[Layout], listings: &BTreeMap<Table, Listing>, site: Site) -> Vec<Section> {
    let sections = listings.iter().map(|(table, listing)| Section {
        table: *table,
        commands: in_table(layouts, *table, listing, site),
    });
    sections.filter(|section| !section.commands.is_empty()).collect()
}

/// The same, but our jumps go from where they stand to another place. One of the administrator's stays.
#[must_use]
pub fn move_jumps(layouts: &[Layout], listings: &BTreeMap<Table, Listing>, from: Site, to: Site) -> Vec<Section> {
    let mut sections = rebuild(
        layouts,
        listings,
        Site {
            place: JumpPlace::Own,
            ..to
        },
    );
    let standing = listings.get(&Table::Filter).cloned().unwrap_or_default();
    let filter = sections.iter_mut().find(|section| section.table == Table::Filter);
    if let Some(section) = filter {
        for built_in in Table::Filter.built_in() {
            move_jump(&mut section.commands, *built_in, &standing, from, to);
        }
    }
    sections
}

fn move_jump(commands: &mut Vec<Command>, built_in: BuiltIn, standing: &Listing, from: Site, to: Site) {
    let rule = entrance_jump(built_in);
    if from.place(Table::Filter) != JumpPlace::Own && standing.jumps(built_in, &entrance(built_in)) > 0 {
        commands.push(Command::Delete(built_in.into(), rule.clone()));
    }
    match to.place(Table::Filter) {
        JumpPlace::First => commands.push(Command::Insert(built_in.into(), rule)),
        JumpPlace::Last => commands.push(Command::Append(built_in.into(), rule)),
        JumpPlace::Own => {}
    }
}

/// What takes away the chains that stood only for jumps of the administrator's, where no rule leads to them any more.
#[must_use]
pub fn give_up_entrances(filter: &Listing) -> Vec<Section> {
    let entrances: BTreeSet<_> = Table::Filter.built_in().iter().copied().map(entrance).collect();
    let left = filter.chains().filter(|chain| entrances.contains(chain));
    let unnamed: Vec<_> = left.filter(|chain| !filter.has_jump_to(chain)).cloned().collect();
    let emptied = unnamed.iter().cloned().map(Command::Flush);
    let commands: Vec<_> = emptied
        .chain(unnamed.iter().cloned().map(Command::DeleteChain))
        .collect();
    let section = Section {
        table: Table::Filter,
        commands,
    };
    std::iter::once(section)
        .filter(|section| !section.commands.is_empty())
        .collect()
}

/// Whether a table holds the chains and the jumps of these layouts and no others of ours, as far as a listing tells.
#[must_use]
pub fn holds(layouts: &[Layout], table: Table, listing: &Listing, site: Site) -> bool {
    let nodes: BTreeSet<_> = layouts.iter().flat_map(Layout::nodes).collect();
    let nodes = nodes.iter().filter(|node| node.table() == table);
    let own = layouts.iter().filter_map(|layout| layout.piece(table));
    let pieces: Vec<_> = nodes.map(|node| node.piece(site)).chain(own.cloned()).collect();
    let wanted: BTreeSet<&ChainName> = pieces.iter().flat_map(|piece| &piece.chains).collect();
    let standing: BTreeSet<_> = listing.chains().filter(|chain| !site.keeps(table, chain)).collect();
    let has_jumps = |built_in: &BuiltIn| match site.place(table) {
        JumpPlace::Own => true,
        place @ (JumpPlace::First | JumpPlace::Last) => {
            let wanted = !pieces.is_empty();
            let number = listing.jumps(*built_in, &entrance(*built_in));
            number == usize::from(wanted) && !(wanted && is_overtaken(*built_in, place, listing))
        }
    };
    wanted
        .into_iter()
        .filter(|chain| !site.keeps(table, chain))
        .collect::<BTreeSet<_>>()
        == standing
        && table.built_in().iter().all(has_jumps)
}

fn in_table(layouts: &[Layout], table: Table, listing: &Listing, site: Site) -> Vec<Command> {
    let nodes: BTreeSet<_> = layouts.iter().flat_map(Layout::nodes).collect();
    let nodes = nodes.iter().filter(|node| node.table() == table);
    let own = layouts.iter().filter_map(|layout| layout.piece(table));
    let pieces: Vec<_> = nodes.map(|node| node.piece(site)).chain(own.cloned()).collect();
    let wanted: BTreeSet<&ChainName> = pieces.iter().flat_map(|piece| &piece.chains).collect();
    let stray: Vec<_> = listing
        .chains()
        .filter(|chain| !wanted.contains(chain))
        .cloned()
        .collect();

    let mut commands: Vec<_> = wanted.into_iter().cloned().map(Command::NewChain).collect();
    commands.extend(stray.iter().cloned().map(Command::Flush));
    commands.extend(pieces.iter().flat_map(own_rules).cloned().map(Command::from));
    for built_in in table.built_in() {
        match site.place(table) {
            JumpPlace::Own => {}
            place @ (JumpPlace::First | JumpPlace::Last) => {
                mend_jump(&mut commands, *built_in, place, !pieces.is_empty(), listing);
            }
        }
    }
    let removed = stray.into_iter().filter(|chain| !site.keeps(table, chain));
    commands.extend(removed.map(Command::DeleteChain));
    commands
}

fn own_rules(piece: &Piece) -> impl Iterator<Item = &PlacedRule> {
    piece.rules.iter().filter(|placed| match placed.chain {
        Chain::BuiltIn(_) => false,
        Chain::Own(_) => true,
    })
}

/// Whether our jump is to come before all other rules, and somebody has put one before it since.
fn is_overtaken(built_in: BuiltIn, place: JumpPlace, listing: &Listing) -> bool {
    match place {
        JumpPlace::First => !listing.starts_with_jump(built_in, &entrance(built_in)),
        // Rules are added behind it all the time.
        JumpPlace::Last | JumpPlace::Own => false,
    }
}

/// Leaves one jump if it is wanted, at its place, and none otherwise.
fn mend_jump(commands: &mut Vec<Command>, built_in: BuiltIn, place: JumpPlace, is_wanted: bool, listing: &Listing) {
    let rule = entrance_jump(built_in);
    let standing = listing.jumps(built_in, &entrance(built_in));
    let kept = usize::from(is_wanted && standing > 0 && !is_overtaken(built_in, place, listing));
    for _ in kept..standing {
        commands.push(Command::Delete(built_in.into(), rule.clone()));
    }
    let add = match place {
        JumpPlace::First => Command::Insert,
        JumpPlace::Last => Command::Append,
        JumpPlace::Own => return,
    };
    for _ in kept..usize::from(is_wanted) {
        commands.push(add(built_in.into(), rule.clone()));
    }
}
