//! The part of a change in chains in which the order of tunnels matters: dispatchers and buckets.
//!
//! A rule at the head or the tail of its chain costs nothing. For one in the middle iptables-nft
//! reads the chain first: a bucket, or a dispatcher, which has a rule for each bucket. The position
//! comes from the record; the kernel's rules are not listed for it.

use std::collections::{BTreeMap, BTreeSet};

use super::chain_fragment::ChainFragment;
use super::change::RulesetChange;
use super::dispatch::{DispatchBucket, SharedChains};
use super::tunnel::{BucketMember, PacketPath, TunnelRules};
use crate::netfilter::{Chain, ChainName, RestoreCommand, Rule, RulePosition, Table};

/// What others have in the chains in which the order of tunnels counts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Around {
    /// Their rules in the buckets that the change concerns.
    pub members: BTreeMap<DispatchBucket, Vec<BucketMember>>,
    /// The existing buckets in the paths where the change makes one, and one of each path that the
    /// change does not concern.
    pub buckets: BTreeSet<DispatchBucket>,
    /// What may precede those: shared chains, and the gateway's rules.
    pub parts: BTreeSet<SharedChains>,
    /// The gateway's rules.
    pub gateway: Option<TunnelRules>,
    /// The paths with so many buckets that reading their dispatchers would make a call slower.
    pub long: BTreeSet<PacketPath>,
}

/// The part of a change that concerns these chains.
pub(super) struct OrderedChange<'a> {
    change: &'a RulesetChange,
    table: Table,
    /// The shared chains of the records concerned, before and after the change.
    before: &'a BTreeSet<SharedChains>,
    after: &'a BTreeSet<SharedChains>,
    /// The buckets that are made.
    fresh: BTreeSet<DispatchBucket>,
    /// The buckets that are removed.
    dying: BTreeSet<DispatchBucket>,
}

/// The content of such a chain, from its head to its tail.
#[derive(Debug)]
enum Slot {
    /// This number of rules that are installed.
    Installed(usize),
    /// A rule to add.
    Coming(Rule),
}

/// What follows these slots in the chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum AfterSlots {
    Nothing,
    Rules,
}

impl<'a> OrderedChange<'a> {
    /// A change in a table, with the shared parts before it, those that stay and those after it.
    pub(super) fn new(
        change: &'a RulesetChange,
        table: Table,
        [before, staying, after]: [&'a BTreeSet<SharedChains>; 3],
    ) -> Self {
        let fresh = after
            .iter()
            .filter(|part| !before.contains(part) && !staying.contains(part));
        Self {
            change,
            table,
            before,
            after,
            fresh: fresh.filter_map(SharedChains::as_bucket).collect(),
            dying: before.difference(after).filter_map(SharedChains::as_bucket).collect(),
        }
    }

    /// The chains of the buckets concerned: their rules are added only here.
    pub(super) fn chains(&self) -> BTreeSet<ChainName> {
        self.buckets().map(|bucket| bucket.chain_name()).collect()
    }

    /// Deletes the jumps to removed buckets from dispatchers that stay.
    pub(super) fn removals(&self, dying: &BTreeSet<&ChainName>) -> Vec<RestoreCommand> {
        let jumps = self
            .dying
            .iter()
            .map(|bucket| (bucket.path.dispatcher(), bucket.jump()));
        jumps
            .filter(|(dispatcher, _)| !dying.contains(dispatcher))
            .map(|(dispatcher, jump)| RestoreCommand::Delete(Chain::Own(dispatcher), jump))
            .collect()
    }

    /// Adds the rules of buckets, then the jumps to new buckets, after everything else has been
    /// added.
    pub(super) fn additions(&self) -> Vec<RestoreCommand> {
        let mut commands = Vec::new();
        for bucket in self.buckets() {
            commands.extend(place_rules(
                &bucket.chain_name(),
                self.bucket_slots(&bucket),
                AfterSlots::Nothing,
            ));
        }
        let paths: BTreeSet<_> = self.fresh.iter().map(|bucket| bucket.path).collect();
        let heads = match paths.is_empty() {
            true => Vec::new(),
            false => self.heads(),
        };
        for path in paths {
            // After all buckets is the jump to PLUTO-RI, which refuses packets that no tunnel has
            // allowed to the gateway.
            let after = match path == PacketPath::Input {
                true => AfterSlots::Rules,
                false => AfterSlots::Nothing,
            };
            let dispatcher = path.dispatcher();
            let before = heads.iter().filter(|chain| **chain == dispatcher).count();
            commands.extend(place_rules(&dispatcher, self.dispatcher_slots(path, before), after));
        }
        commands
    }

    fn buckets(&self) -> impl Iterator<Item = DispatchBucket> {
        self.all_buckets().filter(DispatchBucket::is_ordered)
    }

    fn bucket_slots(&self, bucket: &DispatchBucket) -> Vec<Slot> {
        let mut members = BTreeMap::new();
        for member in self.change.around.members.get(bucket).into_iter().flatten() {
            let [heads, tails] = [member.heads, member.tails].map(|rules| vec![Slot::Installed(rules)]);
            members.insert(&member.order, (heads, tails));
        }
        let added = self.change.added.iter().filter(|rules| rules.buckets.contains(bucket));
        for (tunnel_rules, order) in added.filter_map(|rules| Some((rules, rules.order.as_ref()?))) {
            let slots = |rules: Vec<&Rule>| match self.is_untouched(tunnel_rules) {
                true => vec![Slot::Installed(rules.len())],
                false => rules.into_iter().cloned().map(Slot::Coming).collect(),
            };
            let [heads, tails] = tunnel_rules.in_bucket(bucket).map(slots);
            members.insert(order, (heads, tails));
        }
        let (heads, tails): (Vec<_>, Vec<_>) = members.into_values().unzip();
        heads.into_iter().chain(tails).flatten().collect()
    }

    /// Whether an added record has the same rules in this table as before. The change leaves them
    /// alone then.
    fn is_untouched(&self, tunnel_rules: &TunnelRules) -> bool {
        let fragment = tunnel_rules.fragment(self.table);
        let mut removed = self.change.removed.iter();
        removed.any(|other| other.fragment(self.table) == fragment)
    }

    /// A path's dispatcher, which has so many rules before its buckets.
    fn dispatcher_slots(&self, path: PacketPath, before: usize) -> Vec<Slot> {
        let stays = |bucket: &DispatchBucket| bucket.path == path && !self.dying.contains(bucket);
        let installed = self.change.around.buckets.iter().copied();
        let buckets: BTreeSet<_> = installed.chain(self.all_buckets()).filter(stays).collect();
        let jumps = buckets.iter().map(|bucket| match self.fresh.contains(bucket) {
            true => Slot::Coming(bucket.jump()),
            false => Slot::Installed(1),
        });
        std::iter::once(Slot::Installed(before)).chain(jumps).collect()
    }

    fn all_buckets(&self) -> impl Iterator<Item = DispatchBucket> {
        self.after.iter().filter_map(SharedChains::as_bucket)
    }

    /// The chains of all rules that are at the head of their chain after the change, once for each
    /// rule: in a dispatcher those come before the buckets.
    fn heads(&self) -> Vec<ChainName> {
        let around = &self.change.around;
        let installed = around.parts.iter().filter(|part| !self.before.contains(part));
        // A bucket's part is only its chain.
        let parts: Vec<_> = (installed.collect::<BTreeSet<_>>())
            .union(&self.after.iter().collect())
            .filter(|part| part.as_bucket().is_none())
            .map(|part| part.fragment(self.change.jump_config))
            .collect();
        let own = self.change.added.iter().chain(&around.gateway);
        let fragments = parts.iter().chain(own.filter_map(|rules| rules.fragment(self.table)));
        let rules = fragments.flat_map(|fragment: &ChainFragment| &fragment.rules);
        let heads = rules.filter(|placed| placed.position == RulePosition::Head);
        heads
            .filter_map(|placed| match &placed.chain {
                Chain::Own(chain) => Some(chain.clone()),
                Chain::BuiltIn(_) => None,
            })
            .collect()
    }
}

/// Adds new rules among those installed. New rules before all others are inserted at the head, last
/// one first; those after all others are appended.
fn place_rules(chain: &ChainName, mut slots: Vec<Slot>, after: AfterSlots) -> Vec<RestoreCommand> {
    slots.retain(|slot| !matches!(slot, Slot::Installed(0)));
    let is_installed = |slot: &Slot| matches!(slot, Slot::Installed(_));
    let last = slots.iter().rposition(is_installed);
    let first = match (slots.iter().position(is_installed), after) {
        (Some(first), _) => first,
        (None, AfterSlots::Rules) => slots.len(),
        (None, AfterSlots::Nothing) => 0,
    };
    let (mut leading, mut commands, mut number) = (Vec::new(), Vec::new(), 0);
    for (index, slot) in slots.into_iter().enumerate() {
        let rule = match slot {
            Slot::Installed(rules) => {
                number += rules;
                continue;
            }
            Slot::Coming(rule) => rule,
        };
        number += 1;
        let is_last = last.is_none_or(|last| last < index) && after == AfterSlots::Nothing;
        match is_last {
            _ if index < first => leading.push(RestoreCommand::Insert(chain.into(), rule)),
            true => commands.push(RestoreCommand::Append(chain.into(), rule)),
            false => commands.push(RestoreCommand::InsertAt(chain.clone(), number, rule)),
        }
    }
    leading.into_iter().rev().chain(commands).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netfilter::Target;

    fn coming(name: &str) -> Slot {
        Slot::Coming(Rule::always(Target::Jump(format!("PLUTO-{name}").parse().unwrap())))
    }

    /// What a chain of five rules holds after these commands.
    fn placed(slots: Vec<Slot>, installed: usize, after: AfterSlots) -> Vec<String> {
        let chain: ChainName = "PLUTO-x".parse().unwrap();
        let mut rules = vec!["old".to_owned(); installed];
        if after == AfterSlots::Rules {
            rules.push("behind".to_owned());
        }
        for command in place_rules(&chain, slots, after) {
            match command {
                RestoreCommand::Insert(_, rule) => rules.insert(0, rule.to_string()),
                RestoreCommand::InsertAt(_, number, rule) => rules.insert(number - 1, rule.to_string()),
                RestoreCommand::Append(_, rule) => rules.push(rule.to_string()),
                other @ (RestoreCommand::NewChain(_)
                | RestoreCommand::Check(..)
                | RestoreCommand::AppendWithCounters(..)
                | RestoreCommand::Delete(..)
                | RestoreCommand::DeleteText(..)
                | RestoreCommand::Flush(_)
                | RestoreCommand::DeleteChain(_)) => panic!("{other:?}"),
            }
        }
        rules.iter().map(|rule| rule.replace("-j PLUTO-", "")).collect()
    }

    #[test]
    fn each_rule_comes_to_its_place_among_those_that_are_installed() {
        let slots = || {
            vec![
                Slot::Installed(0),
                coming("a"),
                coming("b"),
                Slot::Installed(2),
                coming("c"),
                coming("d"),
                Slot::Installed(1),
                coming("e"),
                coming("f"),
            ]
        };
        let all = ["a", "b", "old", "old", "c", "d", "old", "e", "f"];
        assert_eq!(placed(slots(), 3, AfterSlots::Nothing), all);
        assert_eq!(placed(slots(), 3, AfterSlots::Rules), [&all[..], &["behind"]].concat());
    }

    #[test]
    fn an_empty_chain_is_filled_in_order() {
        let slots = || vec![coming("a"), coming("b"), coming("c")];
        assert_eq!(placed(slots(), 0, AfterSlots::Nothing), ["a", "b", "c"]);
        assert_eq!(placed(slots(), 0, AfterSlots::Rules), ["a", "b", "c", "behind"]);
    }
}
