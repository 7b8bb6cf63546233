//! From tunnels that go and tunnels that come to the commands of one run of `iptables-restore`.

use std::collections::BTreeSet;

use super::tunnel_rules::TunnelRules;
use super::packet_path::PacketPath;
use super::chain_fragment::ChainFragment;
use super::base_chains::{JumpConfig, jump_check};
use super::dispatch::SharedChains;
use crate::netfilter::{BuiltIn, Chain, ChainName, Command, PlacedRule, Section, Table};

/// What changes in one ruleset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RulesetChange {
    /// What the tunnels that go have installed, by their records.
    pub removed: Vec<TunnelRules>,
    /// What the tunnels that come will install.
    pub added: Vec<TunnelRules>,
    /// The shared parts that other tunnels need as well; of those that `gone` and `come` need, at least.
    pub staying: BTreeSet<SharedChains>,
    /// Where the tree stands.
    pub jump_config: JumpConfig,
}

impl RulesetChange {
    /// No change of a tree that stands here.
    #[must_use]
    pub fn unchanged(site: JumpConfig) -> Self {
        Self {
            removed: Vec::new(),
            added: Vec::new(),
            staying: BTreeSet::new(),
            jump_config: site,
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
pub fn transition(change: &RulesetChange) -> Vec<Section> {
    let opens = !change.added.is_empty();
    let mut tables = Table::ALL;
    tables.sort_by_key(|table| (*table == Table::Filter) == opens);
    let sections = tables.map(|table| Section {
        table,
        commands: table_commands(change, table),
    });
    let changes = |section: &Section| !section.commands.is_empty();
    sections.into_iter().filter(changes).collect()
}

fn table_commands(change: &RulesetChange, table: Table) -> Vec<Command> {
    let before = shared_chains_in(&change.removed, table);
    let staying: BTreeSet<_> = change
        .staying
        .iter()
        .filter(|node| node.table() == table)
        .cloned()
        .collect();
    let after: BTreeSet<_> = shared_chains_in(&change.added, table).union(&staying).cloned().collect();
    let dying = before.difference(&after).map(|node| node.fragment(change.jump_config));
    let fresh = after
        .iter()
        .filter(|node| !before.contains(node) && !staying.contains(node))
        .map(|node| node.fragment(change.jump_config));
    // The shared parts first, so that a tunnel's rules find their chains; and out in the opposite order.
    let gone: Vec<_> = own_fragments(&change.removed, &change.added, table).chain(dying).collect();
    let come: Vec<_> = fresh.chain(own_fragments(&change.added, &change.removed, table)).collect();
    if gone.is_empty() && come.is_empty() {
        return Vec::new();
    }
    let base = SharedChains::Base(table);
    let mut commands = if before.contains(&base) || staying.contains(&base) {
        jump_checks(change, table, &gone)
    } else {
        Vec::new()
    };
    delete_rules(&mut commands, &gone, &come);
    add_rules(&mut commands, &come);
    delete_chains(&mut commands, table, change.jump_config, &gone, &come);
    commands
}

fn shared_chains_in(layouts: &[TunnelRules], table: Table) -> BTreeSet<SharedChains> {
    let nodes = layouts.iter().flat_map(TunnelRules::shared_chains);
    nodes.filter(|node| node.table() == table).collect()
}

/// The pieces of these layouts in a table that the others do not have too: what is to stand as it stood is not touched.
fn own_fragments<'a>(layouts: &'a [TunnelRules], others: &'a [TunnelRules], table: Table) -> impl Iterator<Item = ChainFragment> + 'a {
    let pieces = layouts.iter().filter_map(move |layout| layout.fragment(table));
    let unlike = move |piece: &&ChainFragment| !others.iter().any(|other| other.fragment(table) == Some(piece));
    pieces.filter(unlike).cloned()
}

fn own_chains(pieces: &[ChainFragment]) -> BTreeSet<&ChainName> {
    pieces.iter().flat_map(|piece| &piece.chains).collect()
}

/// Tests for the jumps that the change's packets need. A jump that the change itself takes out needs no test: taking out
/// what does not stand fails as well.
fn jump_checks(change: &RulesetChange, table: Table, gone: &[ChainFragment]) -> Vec<Command> {
    let blocks = change.removed.iter().chain(&change.added).flat_map(|layout| &layout.buckets);
    let paths = blocks.map(|block| block.path).filter(|path| path.table() == table);
    let needed: BTreeSet<_> = paths.flat_map(PacketPath::built_in).copied().collect();
    let takes_out = |built_in: &BuiltIn| {
        gone.iter()
            .flat_map(|piece| &piece.rules)
            .any(|placed| placed.chain == Chain::BuiltIn(*built_in))
    };
    needed
        .into_iter()
        .filter(|built_in| !takes_out(built_in))
        .map(|built_in| jump_check(table, built_in, change.jump_config))
        .collect()
}

/// Takes out, one by one, the rules that stand in chains which outlive the change. The others go with their chain.
fn delete_rules(commands: &mut Vec<Command>, gone: &[ChainFragment], come: &[ChainFragment]) {
    let (dying, declared) = (own_chains(gone), own_chains(come));
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
fn add_rules(commands: &mut Vec<Command>, come: &[ChainFragment]) {
    commands.extend(own_chains(come).into_iter().cloned().map(Command::NewChain));
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
fn delete_chains(commands: &mut Vec<Command>, table: Table, site: JumpConfig, gone: &[ChainFragment], come: &[ChainFragment]) {
    let declared = own_chains(come);
    let dead: Vec<_> = own_chains(gone)
        .into_iter()
        .filter(|chain| !declared.contains(chain))
        .cloned()
        .collect();
    commands.extend(dead.iter().cloned().map(Command::Flush));
    let removed = dead.into_iter().filter(|chain| !site.keeps_chain(table, chain));
    commands.extend(removed.map(Command::DeleteChain));
}
