//! From tunnels that go and tunnels that come to the commands of one run of `iptables-restore`.

use std::collections::BTreeSet;

use super::base_chains::{JumpConfig, jump_check};
use super::chain_fragment::ChainFragment;
use super::dispatch::SharedChains;
use super::ordered_change::{Around, OrderedChange};
use super::packet_path::PacketPath;
use super::tunnel_rules::TunnelRules;
use crate::netfilter::{BuiltIn, Chain, ChainName, PlacedRule, RestoreCommand, Section, Table};

/// What changes in one ruleset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RulesetChange {
    /// What the tunnels that go have installed, by their records.
    pub removed: Vec<TunnelRules>,
    /// What the tunnels that come will install.
    pub added: Vec<TunnelRules>,
    /// The shared parts that other tunnels need as well; of those that `removed` and `added` need,
    /// at least.
    pub staying: BTreeSet<SharedChains>,
    /// What other tunnels have where the order counts.
    pub around: Around,
    /// Where the tree stands.
    pub jump_config: JumpConfig,
}

impl RulesetChange {
    /// No change of a tree that stands here.
    #[must_use]
    pub fn unchanged(jump_config: JumpConfig) -> Self {
        Self {
            removed: Vec::new(),
            added: Vec::new(),
            staying: BTreeSet::new(),
            around: Around::default(),
            jump_config,
        }
    }
}

/// What makes a change, table by table. Nothing, if it changes nothing.
///
/// What is taken out must stand exactly so in the kernel, and our jumps in the built-in chains must
/// stand; otherwise the section fails, which is how a call learns that somebody has reloaded the
/// firewall.
///
/// One table can come to stand without the next. So the filter table, the only one that accepts,
/// opens last, when all is there that its packets need; and it closes first.
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

fn table_commands(change: &RulesetChange, table: Table) -> Vec<RestoreCommand> {
    let before = shared_chains_in(&change.removed, table);
    let staying: BTreeSet<_> = change
        .staying
        .iter()
        .filter(|shared_chains| shared_chains.table() == table)
        .cloned()
        .collect();
    let after: BTreeSet<_> = shared_chains_in(&change.added, table)
        .union(&staying)
        .cloned()
        .collect();
    let dying = before
        .difference(&after)
        .map(|shared_chains| shared_chains.fragment(change.jump_config));
    let fresh = after
        .iter()
        .filter(|shared_chains| !before.contains(shared_chains) && !staying.contains(shared_chains))
        .map(|shared_chains| shared_chains.fragment(change.jump_config));
    // The shared parts first, so that a tunnel's rules find their chains; and out in the opposite
    // order.
    let removed: Vec<_> = own_fragments(&change.removed, &change.added, table)
        .chain(dying)
        .collect();
    let added: Vec<_> = fresh
        .chain(own_fragments(&change.added, &change.removed, table))
        .collect();
    let order = OrderedChange::new(change, table, [&before, &staying, &after]);
    if removed.is_empty() && added.is_empty() {
        return Vec::new();
    }
    let base = SharedChains::Base(table);
    let mut commands = if before.contains(&base) || staying.contains(&base) {
        jump_checks(change, table, &removed)
    } else {
        Vec::new()
    };
    delete_rules(&mut commands, &removed, &added);
    commands.extend(order.removals(&own_chains(&removed)));
    add_rules(&mut commands, &added, &order);
    delete_chains(&mut commands, table, change.jump_config, &removed, &added);
    commands
}

fn shared_chains_in(all_rules: &[TunnelRules], table: Table) -> BTreeSet<SharedChains> {
    let nodes = all_rules.iter().flat_map(TunnelRules::shared_chains);
    nodes.filter(|shared_chains| shared_chains.table() == table).collect()
}

/// The pieces of these layouts in a table that the others do not have too: what is to stand as it
/// stood is not touched.
fn own_fragments<'a>(
    all_rules: &'a [TunnelRules],
    others: &'a [TunnelRules],
    table: Table,
) -> impl Iterator<Item = ChainFragment> + 'a {
    let fragments = all_rules
        .iter()
        .filter_map(move |tunnel_rules| tunnel_rules.fragment(table));
    let unlike = move |fragment: &&ChainFragment| !others.iter().any(|other| other.fragment(table) == Some(fragment));
    fragments.filter(unlike).cloned()
}

fn own_chains(fragments: &[ChainFragment]) -> BTreeSet<&ChainName> {
    fragments.iter().flat_map(|fragment| &fragment.chains).collect()
}

/// Tests for the jumps that the change's packets need. A jump that the change itself takes out
/// needs no test: taking out what does not stand fails as well.
fn jump_checks(change: &RulesetChange, table: Table, removed: &[ChainFragment]) -> Vec<RestoreCommand> {
    let buckets = change
        .removed
        .iter()
        .chain(&change.added)
        .flat_map(|tunnel_rules| &tunnel_rules.buckets);
    let paths = buckets.map(|bucket| bucket.path).filter(|path| path.table() == table);
    let needed: BTreeSet<_> = paths.flat_map(PacketPath::built_in).copied().collect();
    let takes_out = |built_in: &BuiltIn| {
        removed
            .iter()
            .flat_map(|fragment| &fragment.rules)
            .any(|placed| placed.chain == Chain::BuiltIn(*built_in))
    };
    needed
        .into_iter()
        .filter(|built_in| !takes_out(built_in))
        .map(|built_in| jump_check(table, built_in, change.jump_config))
        .collect()
}

/// Takes out, one by one, the rules that stand in chains which outlive the change. The others go
/// with their chain.
fn delete_rules(commands: &mut Vec<RestoreCommand>, removed: &[ChainFragment], added: &[ChainFragment]) {
    let (dying, declared) = (own_chains(removed), own_chains(added));
    for PlacedRule {
        chain,
        position: _,
        rule,
    } in removed.iter().flat_map(|fragment| &fragment.rules)
    {
        let outlives = match chain {
            Chain::BuiltIn(_) => true,
            Chain::Own(name) => !dying.contains(name) && !declared.contains(name),
        };
        if outlives {
            commands.push(RestoreCommand::Delete(chain.clone(), rule.clone()));
        }
    }
}

/// Declares the chains, which empties those that stand already, and fills them. The rules in
/// built-in chains come last: a jump is put in when what it leads to is complete.
fn add_rules(commands: &mut Vec<RestoreCommand>, added: &[ChainFragment], order: &OrderedChange<'_>) {
    commands.extend(own_chains(added).into_iter().cloned().map(RestoreCommand::NewChain));
    let ordered = order.chains();
    let rules = || added.iter().flat_map(|fragment| &fragment.rules);
    let (mut own, mut built_in) = (Vec::new(), Vec::new());
    for placed in rules() {
        match &placed.chain {
            Chain::BuiltIn(_) => built_in.push(RestoreCommand::from(placed.clone())),
            Chain::Own(chain) if ordered.contains(chain) => {}
            Chain::Own(_) => own.push(RestoreCommand::from(placed.clone())),
        }
    }
    commands.append(&mut own);
    commands.extend(order.additions());
    commands.append(&mut built_in);
}

/// Empties all the chains that nobody needs any more before it removes the first: they name one
/// another.
///
/// The chains that the administrator's own jumps lead to stay, empty: his rules name them.
fn delete_chains(
    commands: &mut Vec<RestoreCommand>,
    table: Table,
    jump_config: JumpConfig,
    removed: &[ChainFragment],
    added: &[ChainFragment],
) {
    let declared = own_chains(added);
    let dead: Vec<_> = own_chains(removed)
        .into_iter()
        .filter(|chain| !declared.contains(chain))
        .cloned()
        .collect();
    commands.extend(dead.iter().cloned().map(RestoreCommand::Flush));
    let removed = dead.into_iter().filter(|chain| !jump_config.keeps_chain(table, chain));
    commands.extend(removed.map(RestoreCommand::DeleteChain));
}
