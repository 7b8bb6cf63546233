//! Turns removed and added records into the commands of one run of `iptables-restore`.

use std::collections::{BTreeMap, BTreeSet};

use super::base_chains::JumpConfig;
use super::chain_fragment::ChainFragment;
use super::dispatch::SharedChains;
use super::ordered_change::{Around, OrderedChange};
use super::tunnel::{PacketPath, TunnelRules};
use crate::netfilter::{Chain, ChainName, PlacedRule, RestoreCommand, Rule, Section, Table};

/// What changes in one ruleset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RulesetChange {
    /// The recorded rules to remove.
    pub removed: Vec<TunnelRules>,
    /// The rules to install.
    pub added: Vec<TunnelRules>,
    /// The shared parts that other tunnels need as well; of those that `removed` and `added` need,
    /// at least.
    pub staying: BTreeSet<SharedChains>,
    /// What other tunnels have where the order counts.
    pub around: Around,
    /// The jumps' position and the mark bit.
    pub jump_config: JumpConfig,
}

impl RulesetChange {
    /// An empty change.
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

/// The commands of a change, table by table. None, if it changes nothing.
///
/// The kernel must have every removed rule exactly as recorded, the jumps in the built-in chains,
/// and a rule of each chain that all tunnels need. Otherwise the section fails. That is how a call
/// notices that the firewall was reloaded, or one of these chains emptied.
///
/// Each table is a commit of its own, and a later one may fail. So the filter table, the only one
/// that accepts, opens last, when everything that its packets need is installed; and it closes
/// first.
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
    let stays = |part: &&SharedChains| staying.contains(*part) || before.contains(*part);
    // Of the other buckets, the first one is checked on behalf of its dispatcher.
    let others = change.around.buckets.iter().copied().map(SharedChains::Bucket);
    let mut others: Vec<_> = others
        .filter(|part| part.table() == table && !before.contains(part))
        .collect();
    others.dedup_by_key(|part| part.as_bucket().map(|bucket| bucket.path));
    let mut commands = standing_checks(change, after.iter().filter(stays).chain(&others));
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

/// The fragments of these rules in a table that the others do not have: unchanged fragments are not
/// touched.
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

/// Tests one rule of each chain that the shared parts which stay have rules in, the built-in ones
/// among them: `iptables -F CHAIN` has left none.
///
/// iptables-nft reads the chain that it tests, and the one that the rule leads to (1.8.9). So the
/// rule is one that does not lead to a dispatcher, where there is such, and the dispatchers in
/// [`Around::long`] are not read at all.
fn standing_checks<'a>(change: &RulesetChange, staying: impl Iterator<Item = &'a SharedChains>) -> Vec<RestoreCommand> {
    let dispatchers = PacketPath::ALL.map(PacketPath::dispatcher_name);
    let long: Vec<_> = change.around.long.iter().map(|path| path.dispatcher()).collect();
    let is_read = |chain: &ChainName| !long.contains(chain);
    let mut checks: BTreeMap<Chain, Rule> = BTreeMap::new();
    for (chain, rule) in staying.flat_map(|part| standing_rules(part, change.jump_config)) {
        let is_short = match &chain {
            Chain::BuiltIn(_) => true,
            Chain::Own(own) => is_read(own) && rule.target.own_chain().is_none_or(is_read),
        };
        let is_costly = |rule: &Rule| {
            rule.target
                .own_chain()
                .is_some_and(|target| dispatchers.contains(&target.as_str()))
        };
        if is_short
            && checks
                .get(&chain)
                .is_none_or(|other| is_costly(other) && !is_costly(&rule))
        {
            checks.insert(chain, rule);
        }
    }
    checks
        .into_iter()
        .map(|(chain, rule)| RestoreCommand::Check(chain, rule))
        .collect()
}

/// The rules of shared chains that every change may check for. The chains of interfaces and peers
/// are left out: they have a rule for each interface or peer.
fn standing_rules(part: &SharedChains, jump_config: JumpConfig) -> Vec<(Chain, Rule)> {
    match part {
        SharedChains::Base(_) => {
            let rules = part.fragment(jump_config).rules.into_iter();
            rules.map(|placed| (placed.chain, placed.rule)).collect()
        }
        SharedChains::Bucket(bucket) => vec![(Chain::Own(bucket.path.dispatcher()), bucket.jump())],
        SharedChains::Interfaces
        | SharedChains::Wildcard(..)
        | SharedChains::Interface(_)
        | SharedChains::Optional(_) => Vec::new(),
    }
}

/// Deletes, one by one, the rules in chains that stay. The other rules are deleted with their
/// chain.
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

/// Declares the chains, which empties existing ones, and fills them. The rules in built-in chains
/// come last: a jump is added when its target is complete.
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

/// Empties all unneeded chains before it deletes the first, because they jump to one another.
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
