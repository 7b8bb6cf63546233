//! From tunnels that go and tunnels that come to the commands of one transaction.

use std::collections::BTreeSet;

use super::piece::Piece;
use super::tree::{Node, entrance_jump};
use super::tunnel::Layout;
use crate::netfilter::{BuiltIn, Chain, ChainName, Command, Placed};

/// What changes in one rulebook.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Change {
    /// What the tunnels that go have installed, by their records.
    pub gone: Vec<Layout>,
    /// What the tunnels that come will install.
    pub come: Vec<Layout>,
    /// The shared parts that other tunnels need as well; of those that `gone` and `come` need, at least.
    pub staying: BTreeSet<Node>,
}

/// The commands that make a change. None, if it changes nothing.
///
/// What is taken out must stand exactly so in the kernel, and our jumps in the built-in chains must stand; otherwise the
/// whole transaction fails, which is how a call learns that somebody has reloaded the firewall.
#[must_use]
pub fn transition(change: &Change) -> Vec<Command> {
    let before = nodes(&change.gone);
    let after: BTreeSet<_> = nodes(&change.come).union(&change.staying).cloned().collect();
    let dying = before.difference(&after).map(Node::piece);
    let fresh = after
        .iter()
        .filter(|node| !before.contains(node) && !change.staying.contains(node))
        .map(Node::piece);
    // The shared parts first, so that a tunnel's rules find their chains; and out in the opposite order.
    let gone: Vec<_> = own_pieces(&change.gone, &change.come).chain(dying).collect();
    let come: Vec<_> = fresh.chain(own_pieces(&change.come, &change.gone)).collect();
    if gone.is_empty() && come.is_empty() {
        return Vec::new();
    }
    let mut commands = if before.contains(&Node::Base) || change.staying.contains(&Node::Base) {
        checks(change, &gone)
    } else {
        Vec::new()
    };
    take_out(&mut commands, &gone, &come);
    put_in(&mut commands, &come);
    remove_chains(&mut commands, &gone, &come);
    commands
}

fn nodes(layouts: &[Layout]) -> BTreeSet<Node> {
    layouts.iter().flat_map(Layout::nodes).collect()
}

/// The pieces of these layouts that the others do not have too: what is to stand as it stood is not touched.
fn own_pieces<'a>(layouts: &'a [Layout], others: &'a [Layout]) -> impl Iterator<Item = Piece> + 'a {
    let unlike = |layout: &&Layout| !others.iter().any(|other| other.piece == layout.piece);
    layouts.iter().filter(unlike).map(|layout| layout.piece.clone())
}

fn owned(pieces: &[Piece]) -> BTreeSet<&ChainName> {
    pieces.iter().flat_map(|piece| &piece.chains).collect()
}

/// Tests for the jumps that the change's packets need. A jump that the change itself takes out needs no test: taking out
/// what does not stand fails as well.
fn checks(change: &Change, gone: &[Piece]) -> Vec<Command> {
    let blocks = change.gone.iter().chain(&change.come).flat_map(|layout| &layout.blocks);
    let needed: BTreeSet<_> = blocks.map(|block| block.path.built_in()).collect();
    let takes_out = |built_in: &BuiltIn| {
        gone.iter()
            .flat_map(|piece| &piece.rules)
            .any(|placed| placed.chain == Chain::BuiltIn(*built_in))
    };
    needed
        .into_iter()
        .filter(|built_in| !takes_out(built_in))
        .map(|built_in| Command::Check(built_in.into(), entrance_jump(built_in)))
        .collect()
}

/// Takes out, one by one, the rules that stand in chains which outlive the change. The others go with their chain.
fn take_out(commands: &mut Vec<Command>, gone: &[Piece], come: &[Piece]) {
    let (dying, declared) = (owned(gone), owned(come));
    for Placed { chain, place: _, rule } in gone.iter().flat_map(|piece| &piece.rules) {
        let outlives = match chain {
            Chain::BuiltIn(_) => true,
            Chain::Own(name) => !dying.contains(name) && !declared.contains(name),
        };
        if outlives {
            commands.push(Command::Delete(chain.clone(), rule.clone()));
        }
    }
}

/// Declares the chains, which empties those that stand already, and fills them. The rules in built-in chains come last: a
/// jump is put in when what it leads to is complete.
fn put_in(commands: &mut Vec<Command>, come: &[Piece]) {
    commands.extend(owned(come).into_iter().cloned().map(Command::Declare));
    let rules = || come.iter().flat_map(|piece| &piece.rules);
    let in_built_in = |placed: &&Placed| match placed.chain {
        Chain::BuiltIn(_) => true,
        Chain::Own(_) => false,
    };
    let own = rules().filter(|placed| !in_built_in(placed));
    commands.extend(own.chain(rules().filter(in_built_in)).cloned().map(Command::Put));
}

/// Empties all the chains that nobody needs any more before it removes the first: they name one another.
fn remove_chains(commands: &mut Vec<Command>, gone: &[Piece], come: &[Piece]) {
    let declared = owned(come);
    let dead: Vec<_> = owned(gone)
        .into_iter()
        .filter(|chain| !declared.contains(chain))
        .cloned()
        .collect();
    commands.extend(dead.iter().cloned().map(Command::Flush));
    commands.extend(dead.into_iter().map(Command::Remove));
}
