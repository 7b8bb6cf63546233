//! Everything anew, from the record, whatever the kernel still holds of it.

use std::collections::{BTreeMap, BTreeSet};

use super::layout::Layout;
use super::piece::Piece;
use super::tree::{Node, entrance_jump};
use crate::netfilter::{BuiltIn, Chain, ChainName, Command, Listing, Place, Placed, Section, Table};

/// What makes the kernel hold exactly these tunnels, given what it holds of ours now in each of these tables; a table that is not listed is
/// not touched.
///
/// Chains of ours that stand are emptied and filled again, those that belong to no tunnel are removed, and our jumps in the
/// built-in chains are left where they stand; only a missing one is put in and a second one taken out. The filter table comes first: what it
/// lets in by mistake must not wait for the others.
#[must_use]
pub fn rebuild(layouts: &[Layout], listings: &BTreeMap<Table, Listing>) -> Vec<Section> {
    let sections = listings.iter().map(|(table, listing)| Section {
        table: *table,
        commands: in_table(layouts, *table, listing),
    });
    sections.filter(|section| !section.commands.is_empty()).collect()
}

fn in_table(layouts: &[Layout], table: Table, listing: &Listing) -> Vec<Command> {
    let nodes: BTreeSet<_> = layouts.iter().flat_map(Layout::nodes).collect();
    let nodes = nodes.iter().filter(|node| node.table() == table);
    let own = layouts.iter().filter_map(|layout| layout.piece(table));
    let pieces: Vec<_> = nodes.map(Node::piece).chain(own.cloned()).collect();
    let wanted: BTreeSet<&ChainName> = pieces.iter().flat_map(|piece| &piece.chains).collect();
    let stray: Vec<_> = listing
        .chains()
        .filter(|chain| !wanted.contains(chain))
        .cloned()
        .collect();

    let mut commands: Vec<_> = wanted.into_iter().cloned().map(Command::Declare).collect();
    commands.extend(stray.iter().cloned().map(Command::Flush));
    commands.extend(pieces.iter().flat_map(own_rules).cloned().map(Command::Put));
    for built_in in table.built_in() {
        mend_jump(&mut commands, *built_in, usize::from(!pieces.is_empty()), listing);
    }
    commands.extend(stray.into_iter().map(Command::Remove));
    commands
}

fn own_rules(piece: &Piece) -> impl Iterator<Item = &Placed> {
    piece.rules.iter().filter(|placed| match placed.chain {
        Chain::BuiltIn(_) => false,
        Chain::Own(_) => true,
    })
}

fn mend_jump(commands: &mut Vec<Command>, built_in: BuiltIn, wanted: usize, listing: &Listing) {
    let rule = entrance_jump(built_in);
    let standing = listing.jumps(built_in, &super::tree::entrance(built_in));
    for _ in wanted..standing {
        commands.push(Command::Delete(built_in.into(), rule.clone()));
    }
    for _ in standing..wanted {
        commands.push(Command::Put(Placed {
            chain: built_in.into(),
            place: Place::Head,
            rule: rule.clone(),
        }));
    }
}
