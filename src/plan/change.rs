//! From tunnels that go and tunnels that come to the commands of one run of `iptables-restore`.

use std::collections::BTreeSet;

use super::layout::Layout;
use super::path::Path;
use super::piece::Piece;
use super::shared::{Site, jump_check};
use super::tree::Node;
use crate::netfilter::{BuiltIn, Chain, ChainName, Command, PlacedRule, Section, Table};

/// What changes in one ruleset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// What the tunnels that go have installed, by their records.
    pub gone: Vec<Layout>,
    /// What the tunnels that come will install.
    pub come: Vec<Layout>,
    /// The shared parts that other tunnels need as well; of those that `gone` and `come` need, at least.
    pub staying: BTreeSet<Node>,
    /// Where the tree stands.
    pub site: Site,
}

impl Change {
    /// No change of a tree that stands here.
    #[must_use]
    pub fn at(site: Site) -> Self {
        Self {
            gone: Vec::new(),
            come: Vec::new(),
            staying: BTreeSet::new(),
            site,
        }
    }
}

/// What makes a change, table by table. Nothing, if it changes nothing.
///
/// What is taken out must stand exactly so in the kernel, and our jumps in the built-in chains must stand; otherwise the
/// section fails, which is how a call learns that somebody has reloaded the firewall.
///
/// One table can come to stand without the next. So the filter table, the only one that accepts, opens last, when all is there that its
/// packets need; and it closes first.
#[must_use]
pub fn transition(change: &Change) -> Vec<Section> {
    let opens = !change.come.is_empty();
    let mut tables = Table::ALL;
    tables.sort_by_key(|table| (*table == Table::Filter) == opens);
    let sections = tables.map(|table| Section {
        table,
        commands: in_table(change, table),
    });
    let changes = |section: &Section| !section.commands.is_empty();
    sections.into_iter().filter(changes).collect()
}

fn in_table(change: &Change, table: Table) -> Vec<Command> {
    let before = nodes(&change.gone, table);
    let staying: BTreeSet<_> = change
        .staying
        .iter()
        .filter(|node| node.table() == table)
        .cloned()
        .collect();
    let after: BTreeSet<_> = nodes(&change.come, table).union(&staying).cloned().collect();
    let dying = before.difference(&after).map(|node| node.piece(change.site));
    let fresh = after
        .iter()
        .filter(|node| !before.contains(node) && !staying.contains(node))
        .map(|node| node.piece(change.site));
    // The shared parts first, so that a tunnel's rules find their chains; and out in the opposite order.
    let gone: Vec<_> = own_pieces(&change.gone, &change.come, table).chain(dying).collect();
    let come: Vec<_> = fresh.chain(own_pieces(&change.come, &change.gone, table)).collect();
    if gone.is_empty() && come.is_empty() {
        return Vec::new();
    }
    let base = Node::Base(table);
    let mut commands = if before.contains(&base) || staying.contains(&base) {
        checks(change, table, &gone)
    } else {
        Vec::new()
    };
    take_out(&mut commands, &gone, &come);
    put_in(&mut commands, &come);
    remove_chains(&mut commands, table, change.site, &gone, &come);
    commands
}

fn nodes(layouts: &[Layout], table: Table) -> BTreeSet<Node> {
    let nodes = layouts.iter().flat_map(Layout::nodes);
    nodes.filter(|node| node.table() == table).collect()
}

/// The pieces of these layouts in a table that the others do not have too: what is to stand as it stood is not touched.
fn own_pieces<'a>(layouts: &'a [Layout], others: &'a [Layout], table: Table) -> impl Iterator<Item = Piece> + 'a {
    let pieces = layouts.iter().filter_map(move |layout| layout.piece(table));
    let unlike = move |piece: &&Piece| !others.iter().any(|other| other.piece(table) == Some(piece));
    pieces.filter(unlike).cloned()
}

fn owned(pieces: &[Piece]) -> BTreeSet<&ChainName> {
    pieces.iter().flat_map(|piece| &piece.chains).collect()
}

/// Tests for the jumps that the change's packets need. A jump that the change itself takes out needs no test: taking out
/// what does not stand fails as well.
fn checks(change: &Change, table: Table, gone: &[Piece]) -> Vec<Command> {
    let blocks = change.gone.iter().chain(&change.come).flat_map(|layout| &layout.blocks);
    let paths = blocks.map(|block| block.path).filter(|path| path.table() == table);
    let needed: BTreeSet<_> = paths.flat_map(Path::built_in).copied().collect();
    let takes_out = |built_in: &BuiltIn| {
        gone.iter()
            .flat_map(|piece| &piece.rules)
            .any(|placed| placed.chain == Chain::BuiltIn(*built_in))
    };
    needed
        .into_iter()
        .filter(|built_in| !takes_out(built_in))
        .map(|built_in| jump_check(table, built_in, change.site))
        .collect()
}

/// Takes out, one by one, the rules that stand in chains which outlive the change. The others go with their chain.
fn take_out(commands: &mut Vec<Command>, gone: &[Piece], come: &[Piece]) {
    let (dying, declared) = (owned(gone), owned(come));
    for PlacedRule {
        chain,
        position: _,
        rule,
    } in gone.iter().flat_map(|piece| &piece.rules)
    {
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
    commands.extend(owned(come).into_iter().cloned().map(Command::NewChain));
    let rules = || come.iter().flat_map(|piece| &piece.rules);
    let in_built_in = |placed: &&PlacedRule| match placed.chain {
        Chain::BuiltIn(_) => true,
        Chain::Own(_) => false,
    };
    let own = rules().filter(|placed| !in_built_in(placed));
    commands.extend(own.chain(rules().filter(in_built_in)).cloned().map(Command::from));
}

/// Empties all the chains that nobody needs any more before it removes the first: they name one another.
///
/// The chains that the administrator's own jumps lead to stay, empty: his rules name them.
fn remove_chains(commands: &mut Vec<Command>, table: Table, site: Site, gone: &[Piece], come: &[Piece]) {
    let declared = owned(come);
    let dead: Vec<_> = owned(gone)
        .into_iter()
        .filter(|chain| !declared.contains(chain))
        .cloned()
        .collect();
    commands.extend(dead.iter().cloned().map(Command::Flush));
    let removed = dead.into_iter().filter(|chain| !site.keeps(table, chain));
    commands.extend(removed.map(Command::DeleteChain));
}
