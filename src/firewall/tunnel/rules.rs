//! All rules of one record, by table.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::order::{BucketMember, TunnelOrder};
use super::packet_path::PacketPath;
use crate::firewall::chain_fragment::ChainFragment;
use crate::firewall::dispatch::{DispatchBucket, OptionalChains, Precedence, SharedChains};
use crate::net::{Interface, Network};
use crate::netfilter::{Chain, ChainName, Match, Rule, RulePosition, Table, Target};

/// All rules of one record: its own ones, and the shared chains that it needs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TunnelRules {
    /// Its chains and their rules in the filter table, the jumps to them in buckets, and its rules
    /// in shared chains.
    #[serde(rename = "piece")]
    filter: ChainFragment,
    /// The same in other tables, if it has anything there.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[serde(rename = "elsewhere")]
    other_tables: BTreeMap<Table, ChainFragment>,
    /// The buckets that it needs.
    #[serde(rename = "blocks")]
    pub buckets: BTreeSet<DispatchBucket>,
    /// The position of its rules in buckets. `None` without rules in buckets, and before the third
    /// layout.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub order: Option<TunnelOrder>,
    /// Its interface, if its packets are matched by one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[serde(rename = "device")]
    pub interface: Option<Interface>,
    /// The other shared parts that it needs.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    #[serde(rename = "shared")]
    pub optional: BTreeSet<OptionalChains>,
}

/// A chain of a tunnel's own, and how packets get there.
#[derive(Debug)]
pub(crate) struct TunnelChain {
    /// The path of its packets.
    pub(crate) path: PacketPath,
    /// Its precedence.
    pub(crate) precedence: Precedence,
    /// Its name.
    pub(crate) name: ChainName,
    /// The remote network, which selects the bucket.
    pub(crate) remote: Network,
    /// The matches on its packets in the bucket. Each becomes a jump to the chain.
    pub(crate) conditions: Vec<Vec<Match>>,
    /// Its rules.
    pub(crate) rules: Vec<Rule>,
}

/// A part of a tunnel's rules. [`TunnelRules::attach`] links it to the tree of chains.
#[derive(Debug)]
pub(crate) enum TunnelPart {
    /// A chain of its own, with the jumps to it from the bucket of the remote network.
    Chain(TunnelChain),
    /// A chain of its own, to which other parts jump.
    Unlinked(Table, ChainName, Vec<Rule>),
    /// A rule in a bucket.
    InBucket(DispatchBucket, RulePosition, Rule),
    /// A rule at the head of a chain that shared parts bring.
    AtHead(Table, ChainName, Rule),
    /// Shared chains that it needs.
    Shared(OptionalChains),
    /// A peer whose ESP and AH is accepted.
    EspPeer(IpAddr),
}

impl TunnelRules {
    /// Nothing yet.
    pub(crate) fn new(order: Option<TunnelOrder>, interface: Option<Interface>) -> Self {
        Self {
            filter: ChainFragment::default(),
            other_tables: BTreeMap::new(),
            buckets: BTreeSet::new(),
            order,
            interface,
            optional: BTreeSet::new(),
        }
    }

    /// Its own chains and rules in a table.
    #[must_use]
    pub fn fragment(&self, table: Table) -> Option<&ChainFragment> {
        match table {
            Table::Filter => Some(&self.filter),
            Table::Nat | Table::Mangle => self.other_tables.get(&table),
        }
    }

    /// Whether a rule in a chain of the filter table is among these.
    #[must_use]
    pub(crate) fn contains_rule(&self, chain: &ChainName, rule: &Rule) -> bool {
        let mut rules = self.filter.rules.iter();
        rules.any(|placed| placed.rule == *rule && placed.chain == Chain::Own(chain.clone()))
    }

    /// The tables that it has rules in.
    #[must_use]
    pub fn tables(&self) -> BTreeSet<Table> {
        let elsewhere = self.other_tables.keys().copied();
        let shared = self
            .optional
            .iter()
            .map(|part| SharedChains::Optional(part.clone()).table());
        elsewhere.chain(shared).chain([Table::Filter]).collect()
    }

    /// Whether its only rules in the nat table keep other rules from translating its packets:
    /// without the table nothing translates them.
    #[must_use]
    pub(crate) fn can_omit_nat(&self) -> bool {
        let is_nat = |part: &&OptionalChains| SharedChains::Optional((*part).clone()).table() == Table::Nat;
        let mut parts = self.optional.iter().filter(is_nat).peekable();
        let keeps = |part| match part {
            &OptionalChains::NatExempt | &OptionalChains::NatExemptInterface(_) => true,
            &(OptionalChains::Unencrypted
            | OptionalChains::ClearTextEntry
            | OptionalChains::SourceNat
            | OptionalChains::ClearTextBlocks
            | OptionalChains::EspPeers
            | OptionalChains::EspPeer(_)) => false,
        };
        !self.other_tables.contains_key(&Table::Nat) && parts.peek().is_some() && parts.all(keeps)
    }

    /// The same rules without those of the nat table.
    #[must_use]
    pub fn without_nat(mut self) -> Self {
        self.other_tables.remove(&Table::Nat);
        self.optional
            .retain(|part| SharedChains::Optional(part.clone()).table() != Table::Nat);
        self
    }

    /// The shared chains that this tunnel needs, in the order of installation.
    #[must_use]
    pub(crate) fn shared_chains(&self) -> BTreeSet<SharedChains> {
        let mut needed: BTreeSet<_> = self.buckets.iter().copied().map(SharedChains::Bucket).collect();
        for table in self.tables() {
            needed.insert(SharedChains::Base(table));
            needed.extend(
                self.interface
                    .iter()
                    .map(|interface| SharedChains::Wildcard(table, interface.wildcard())),
            );
        }
        if let Some(interface) = &self.interface {
            needed.insert(SharedChains::Interfaces);
            needed.insert(SharedChains::Interface(interface.clone()));
            needed.insert(SharedChains::Optional(OptionalChains::Unencrypted));
            needed.insert(SharedChains::Optional(OptionalChains::ClearTextEntry));
        }
        needed.extend(self.optional.iter().cloned().map(SharedChains::Optional));
        needed
    }

    /// Links a part to the tree.
    pub(crate) fn attach(&mut self, part: TunnelPart) {
        match part {
            TunnelPart::Chain(own) => self.attach_chain(own),
            TunnelPart::Unlinked(table, chain, rules) => self.add_chain(table, &chain, rules),
            TunnelPart::InBucket(bucket, position, rule) => self.add_to_bucket(bucket, position, rule),
            TunnelPart::AtHead(table, chain, rule) => self.add_rule(table, &chain, RulePosition::Head, rule),
            TunnelPart::Shared(chains) => drop(self.optional.insert(chains)),
            TunnelPart::EspPeer(host) => {
                let network = Network::host(host);
                let bucket = DispatchBucket::for_remote(PacketPath::EspPeer, Precedence::Open, &network);
                self.buckets.insert(bucket);
                self.optional
                    .extend([OptionalChains::EspPeers, OptionalChains::EspPeer(host)]);
            }
        }
    }

    /// Adds a chain, and in the bucket of its remote network the jumps to it.
    fn attach_chain(&mut self, own: TunnelChain) {
        let bucket = DispatchBucket::for_remote(own.path, own.precedence, &own.remote);
        let fragment = self.fragment_mut(own.path.table());
        fragment.add_chain(&own.name);
        for rule in own.rules {
            fragment.append_rule(&own.name, rule);
        }
        for matches in own.conditions {
            fragment.insert_rule(
                &bucket.chain_name(),
                Rule {
                    matches,
                    target: Target::Jump(own.name.clone()),
                },
            );
        }
        self.buckets.insert(bucket);
    }

    /// Adds a rule to a bucket.
    fn add_to_bucket(&mut self, bucket: DispatchBucket, place: RulePosition, rule: Rule) {
        self.add_rule(bucket.path.table(), &bucket.chain_name(), place, rule);
        self.buckets.insert(bucket);
    }

    /// Its own chains on a path, each with the bucket that leads there. Not the one for IP in IP
    /// between two gateways, which is no traffic of the tunnel yet.
    #[must_use]
    pub fn chains_on(&self, path: PacketPath) -> BTreeSet<(DispatchBucket, &ChainName)> {
        let is_here = |bucket: &&DispatchBucket| bucket.path == path && bucket.precedence != Precedence::Ipcomp;
        let of_bucket = |bucket: &DispatchBucket| {
            let (bucket, rules) = (*bucket, self.in_bucket(bucket).concat());
            rules.into_iter().filter_map(move |rule| {
                let Target::Jump(chain) = &rule.target else { return None };
                Some((bucket, chain))
            })
        };
        self.buckets.iter().filter(is_here).flat_map(of_bucket).collect()
    }

    /// Its rules in a bucket: those at the head, and those at the tail.
    pub(crate) fn in_bucket(&self, bucket: &DispatchBucket) -> [Vec<&Rule>; 2] {
        let chain = Chain::Own(bucket.chain_name());
        let (mut heads, mut tails) = (Vec::new(), Vec::new());
        let rules = self.fragment(bucket.path.table()).into_iter();
        for placed in rules.flat_map(|fragment| &fragment.rules) {
            match placed.position {
                _ if placed.chain != chain => {}
                RulePosition::Head => heads.insert(0, &placed.rule),
                RulePosition::Tail => tails.push(&placed.rule),
            }
        }
        [heads, tails]
    }

    /// Its position and number of rules in a bucket; `None` where the order of tunnels does not
    /// matter.
    #[must_use]
    pub(crate) fn member_of(&self, bucket: &DispatchBucket) -> Option<BucketMember> {
        let order = self.order.clone().filter(|_| bucket.is_ordered())?;
        let [heads, tails] = self.in_bucket(bucket).map(|rules| rules.len());
        Some(BucketMember { order, heads, tails })
    }

    /// Adds a rule to a shared chain.
    pub(crate) fn add_rule(&mut self, table: Table, chain: impl Into<Chain>, place: RulePosition, rule: Rule) {
        let fragment = self.fragment_mut(table);
        match place {
            RulePosition::Head => fragment.insert_rule(chain, rule),
            RulePosition::Tail => fragment.append_rule(chain, rule),
        }
    }

    /// Adds a chain of its own with its rules, to which other rules of the tunnel jump.
    pub(crate) fn add_chain(&mut self, table: Table, chain: &ChainName, rules: impl IntoIterator<Item = Rule>) {
        let fragment = self.fragment_mut(table);
        fragment.add_chain(chain);
        for rule in rules {
            fragment.append_rule(chain, rule);
        }
    }

    fn fragment_mut(&mut self, table: Table) -> &mut ChainFragment {
        match table {
            Table::Filter => &mut self.filter,
            Table::Nat | Table::Mangle => self.other_tables.entry(table).or_default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As it was written when there was only the filter table.
    const OLD: &str = r#"{
        "piece": {
            "chains": ["PLUTO-net-abcdefgh-I"],
            "rules": [
                {"chain": {"own": "PLUTO-net-abcdefgh-I"}, "place": "tail", "rule": {"verdict": "accept"}},
                {
                    "chain": {"own": "PLUTO-I-10.2.0.0-18"},
                    "place": "head",
                    "rule": {
                        "matches": [{"source": "10.2.0.0/24"}, {"policy": {"direction": "in", "reqid": 1}}],
                        "verdict": {"jump": "PLUTO-net-abcdefgh-I"}
                    }
                }
            ]
        },
        "blocks": [{"path": "I", "network": "10.2.0.0/18"}]
    }"#;

    #[test]
    fn what_an_older_version_wrote_is_read_and_written_as_it_was() {
        let tunnel_rules: TunnelRules = serde_json::from_str(OLD).unwrap();
        assert_eq!(tunnel_rules.tables(), BTreeSet::from([Table::Filter]));
        assert_eq!(tunnel_rules.fragment(Table::Filter).unwrap().rules.len(), 2);
        let old: serde_json::Value = serde_json::from_str(OLD).unwrap();
        assert_eq!(serde_json::to_value(&tunnel_rules).unwrap(), old);
    }
}
