//! The desired content of every chain, computed from all records.

use std::collections::{BTreeMap, BTreeSet};

use super::base_chains::JumpConfig;
use super::chain_fragment::ChainFragment;
use super::dispatch::DispatchBucket;
use super::tunnel::{PacketPath, TunnelRules};
use crate::netfilter::{BuiltIn, Chain, ChainName, RestoreCommand, Rule, RulePosition, Table};

/// The desired chains of all tables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DesiredState {
    /// The jumps' position and the mark bit.
    pub(crate) jump_config: JumpConfig,
    /// At a move to `place = "own"`: how many jumps without a match each built-in chain of the
    /// filter table keeps, because they are the administrator's.
    pub(crate) user_jumps: BTreeMap<BuiltIn, usize>,
    /// Whether the records are all that there are.
    pub(crate) scope: RecordScope,
    tables: BTreeMap<Table, BTreeMap<ChainName, DesiredChain>>,
}

/// Whether a desired state is that of all records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RecordScope {
    /// It is. What else is in the chains of this program is deleted.
    Complete,
    /// Some records cannot be read. What no other record explains may be theirs, and stays.
    Partial,
}

/// The desired rules of a chain.
///
/// Its own rules have one order; the jumps of a dispatcher and all rules of a bucket are among
/// them, by [`super::TunnelOrder`]. The rules that other shared chains add before or after them are
/// in order of installation, which no record contains. Nothing depends on that order: each rule is
/// about another interface or peer. Only the rules of one such part keep their order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DesiredChain {
    /// Before its own rules, part by part.
    pub(crate) heads: Vec<Vec<Rule>>,
    /// Its own.
    pub(crate) own: Vec<Rule>,
    /// Behind them.
    pub(crate) tails: Vec<Vec<Rule>>,
}

/// The region of a chain: before its own rules, among them, or after them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum ChainRegion {
    /// Before them.
    Head,
    /// It is one of them.
    Own,
    /// Behind them.
    Tail,
}

impl DesiredChain {
    /// Its rules, in a valid order.
    pub fn rules(&self) -> impl Iterator<Item = &Rule> {
        let heads = self.heads.iter().flatten();
        heads.chain(&self.own).chain(self.tails.iter().flatten())
    }

    /// The region and the part of each rule, in the order of [`DesiredChain::rules`].
    pub(crate) fn positions(&self) -> Vec<(ChainRegion, usize)> {
        let heads = self.heads.iter().map(|part| (ChainRegion::Head, part));
        let own = std::iter::once((ChainRegion::Own, &self.own));
        let tails = self.tails.iter().map(|part| (ChainRegion::Tail, part));
        let parts = heads.chain(own).chain(tails).enumerate();
        parts
            .flat_map(|(number, (region, part))| part.iter().map(move |_| (region, number)))
            .collect()
    }

    /// The command that adds a missing rule, provided that the rules before it exist; `None` if its
    /// position depends on other parts.
    pub(crate) fn insertion(&self, name: &ChainName, rule: &Rule) -> Option<RestoreCommand> {
        let is_alone = |part: &Vec<Rule>| part[..] == [rule.clone()];
        if self.heads.iter().any(is_alone) {
            return Some(RestoreCommand::Insert(name.into(), rule.clone()));
        }
        if self.tails.iter().any(is_alone) {
            return Some(RestoreCommand::Append(name.into(), rule.clone()));
        }
        let mut same = self.rules().enumerate().filter(|(_, other)| *other == rule);
        let (index, _) = same.next()?;
        let is_own = self.own.contains(rule) && same.next().is_none();
        is_own.then(|| RestoreCommand::InsertAt(name.clone(), index + 1, rule.clone()))
    }

    fn add(&mut self, fragment: &ChainFragment, name: &ChainName) {
        let (mut head, mut tail) = (Vec::new(), Vec::new());
        for placed in &fragment.rules {
            match (&placed.chain, placed.position) {
                (Chain::Own(chain), RulePosition::Head) if chain == name => head.insert(0, placed.rule.clone()),
                (Chain::Own(chain), RulePosition::Tail) if chain == name => tail.push(placed.rule.clone()),
                (Chain::Own(_) | Chain::BuiltIn(_), _) => {}
            }
        }
        if fragment.chains.contains(name) {
            self.own = [head, tail].concat();
            return;
        }
        if !head.is_empty() {
            self.heads.insert(0, head);
        }
        if !tail.is_empty() {
            self.tails.push(tail);
        }
    }
}

impl DesiredState {
    /// The desired content of the chains for these records.
    #[must_use]
    pub fn from_rules(all_rules: &[TunnelRules], jump_config: JumpConfig) -> Self {
        let nodes: BTreeSet<_> = all_rules.iter().flat_map(TunnelRules::shared_chains).collect();
        let mut sorted: Vec<_> = all_rules.iter().collect();
        sorted.sort_by_key(|tunnel_rules| &tunnel_rules.order);
        let buckets = bucket_rules(&sorted);
        let ordered: BTreeSet<_> = buckets
            .keys()
            .filter(|bucket| bucket.is_ordered())
            .map(DispatchBucket::chain_name)
            .collect();
        let mut desired = Self {
            jump_config,
            user_jumps: BTreeMap::new(),
            scope: RecordScope::Complete,
            tables: BTreeMap::new(),
        };
        for shared_chains in &nodes {
            desired.add(shared_chains.table(), &shared_chains.fragment(jump_config), &ordered);
        }
        for table in Table::ALL {
            for fragment in sorted.iter().filter_map(|tunnel_rules| tunnel_rules.fragment(table)) {
                desired.add(table, fragment, &ordered);
            }
        }
        desired.add_buckets(buckets);
        desired
    }

    /// The same from records that are, or are not, all that there are.
    #[must_use]
    pub(crate) fn of_scope(self, scope: RecordScope) -> Self {
        Self { scope, ..self }
    }

    /// The same for a move to `place = "own"`, with the administrator's jumps.
    #[must_use]
    pub(crate) fn with_user_jumps(self, user_jumps: BTreeMap<BuiltIn, usize>) -> Self {
        Self { user_jumps, ..self }
    }

    /// Adds a fragment, without the rules of the chains in `ordered`.
    fn add(&mut self, table: Table, fragment: &ChainFragment, ordered: &BTreeSet<ChainName>) {
        let placed_in = fragment.rules.iter().filter_map(|placed| match &placed.chain {
            Chain::Own(chain) => Some(chain),
            Chain::BuiltIn(_) => None,
        });
        let names: BTreeSet<_> = fragment.chains.iter().chain(placed_in).collect();
        let chains = self.tables.entry(table).or_default();
        for name in names.into_iter().filter(|name| !ordered.contains(*name)) {
            chains.entry(name.clone()).or_default().add(fragment, name);
        }
    }

    /// Sets the rules of buckets in their order, and the jumps to them before the dispatchers' own
    /// rules.
    fn add_buckets(&mut self, buckets: BTreeMap<DispatchBucket, [Vec<Rule>; 2]>) {
        let mut jumps: BTreeMap<PacketPath, Vec<Rule>> = BTreeMap::new();
        for (bucket, [heads, tails]) in buckets {
            jumps.entry(bucket.path).or_default().push(bucket.jump());
            if bucket.is_ordered() {
                let chains = self.tables.entry(bucket.path.table()).or_default();
                chains.entry(bucket.chain_name()).or_default().own = [heads, tails].concat();
            }
        }
        for (path, jumps) in jumps {
            let chains = self.tables.entry(path.table()).or_default();
            chains.entry(path.dispatcher()).or_default().own.splice(0..0, jumps);
        }
    }

    /// The tables that it has something in.
    pub fn tables(&self) -> impl Iterator<Item = Table> {
        self.tables
            .iter()
            .filter(|(_, chains)| !chains.is_empty())
            .map(|(table, _)| *table)
    }

    /// The desired chains of a table.
    pub fn chains(&self, table: Table) -> impl Iterator<Item = (&ChainName, &DesiredChain)> {
        self.tables.get(&table).into_iter().flatten()
    }

    /// Whether a table needs to be led to.
    #[must_use]
    pub(crate) fn needs_table(&self, table: Table) -> bool {
        self.tables.get(&table).is_some_and(|chains| !chains.is_empty())
    }

    /// A chain, if it is desired.
    #[must_use]
    pub(crate) fn desired_chain(&self, table: Table, name: &ChainName) -> Option<&DesiredChain> {
        self.tables.get(&table)?.get(name)
    }
}

/// What tunnels in their order have in each bucket, at its head and at its tail.
fn bucket_rules(sorted: &[&TunnelRules]) -> BTreeMap<DispatchBucket, [Vec<Rule>; 2]> {
    let mut buckets: BTreeMap<_, [Vec<Rule>; 2]> = BTreeMap::new();
    for tunnel_rules in sorted {
        for bucket in &tunnel_rules.buckets {
            let all = buckets.entry(*bucket).or_default();
            for (all, own) in all.iter_mut().zip(tunnel_rules.in_bucket(bucket)) {
                all.extend(own.into_iter().cloned());
            }
        }
    }
    buckets
}
