//! All that one tunnel puts in, table by table.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::path::Path;
use super::piece::Piece;
use super::tree::{Block, Node, Shared};
use crate::netfilter::{Chain, ChainName, Match, Rule, RulePosition, Table, Target};
use crate::selector::{Device, Network};

/// All that a tunnel puts in: what is its own, and the shared parts of the tree that it needs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layout {
    /// Its chains and their rules in the filter table, and the rules in the blocks that lead to them.
    piece: Piece,
    /// The same in other tables, if it has anything there.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    elsewhere: BTreeMap<Table, Piece>,
    /// The blocks that it hangs in.
    pub blocks: BTreeSet<Block>,
    /// Its device, if it is known by one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<Device>,
    /// The other shared parts that it needs.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub shared: BTreeSet<Shared>,
}

/// A chain of a tunnel's own, and how packets get there.
#[derive(Debug)]
pub(super) struct OwnChain {
    /// The way that its packets are on.
    pub(super) path: Path,
    /// Its name.
    pub(super) name: ChainName,
    /// The far end, which says which block it hangs in.
    pub(super) far: Network,
    /// By what the block knows its packets. Each of these leads into the chain; without any it is not hung up.
    pub(super) conditions: Vec<Vec<Match>>,
    /// Its rules.
    pub(super) rules: Vec<Rule>,
}

impl Layout {
    /// Nothing yet.
    pub(super) fn new(device: Option<Device>) -> Self {
        Self {
            piece: Piece::default(),
            elsewhere: BTreeMap::new(),
            blocks: BTreeSet::new(),
            device,
            shared: BTreeSet::new(),
        }
    }

    /// What is its own in a table.
    #[must_use]
    pub fn piece(&self, table: Table) -> Option<&Piece> {
        match table {
            Table::Filter => Some(&self.piece),
            Table::Nat | Table::Mangle => self.elsewhere.get(&table),
        }
    }

    /// The tables that it has something in.
    #[must_use]
    pub fn tables(&self) -> BTreeSet<Table> {
        let elsewhere = self.elsewhere.keys().copied();
        let shared = self.shared.iter().map(|part| Node::Shared(part.clone()).table());
        elsewhere.chain(shared).chain([Table::Filter]).collect()
    }

    /// Whether it has nothing in a table but what keeps other rules from translating its packets: without the table nobody does.
    #[must_use]
    pub fn can_spare_nat(&self) -> bool {
        let is_nat = |part: &&Shared| Node::Shared((*part).clone()).table() == Table::Nat;
        let mut parts = self.shared.iter().filter(is_nat).peekable();
        let keeps = |part| match part {
            &Shared::Exempt | &Shared::ExemptDevice(_) => true,
            &(Shared::Clear | Shared::Apart | Shared::Hiding | Shared::Guards | Shared::Peers | Shared::Peer(_)) => {
                false
            }
        };
        !self.elsewhere.contains_key(&Table::Nat) && parts.peek().is_some() && parts.all(keeps)
    }

    /// The same without what it has in the nat table.
    #[must_use]
    pub fn without_nat(mut self) -> Self {
        self.elsewhere.remove(&Table::Nat);
        self.shared
            .retain(|part| Node::Shared(part.clone()).table() != Table::Nat);
        self
    }

    /// Every shared part that must stand for this tunnel, in the order in which they are put in.
    #[must_use]
    pub fn nodes(&self) -> BTreeSet<Node> {
        let mut nodes: BTreeSet<_> = self.blocks.iter().copied().map(Node::Block).collect();
        for table in self.tables() {
            nodes.insert(Node::Base(table));
            nodes.extend(self.device.iter().map(|device| Node::Class(table, device.class())));
        }
        if let Some(device) = &self.device {
            nodes.insert(Node::Devices);
            nodes.insert(Node::Device(device.clone()));
            nodes.insert(Node::Shared(Shared::Clear));
            nodes.insert(Node::Shared(Shared::Apart));
        }
        nodes.extend(self.shared.iter().cloned().map(Node::Shared));
        nodes
    }

    /// Hangs a chain into the block of its far network.
    pub(super) fn hang(&mut self, own: OwnChain) {
        let block = Block::of(own.path, &own.far);
        let piece = self.piece_mut(own.path.table());
        piece.chain(&own.name);
        for rule in own.rules {
            piece.tail(&own.name, rule);
        }
        for matches in own.conditions {
            piece.head(
                &block.chain(),
                Rule {
                    matches,
                    target: Target::Jump(own.name.clone()),
                },
            );
        }
        self.blocks.insert(block);
    }

    /// Puts a rule into the block of a far network.
    pub(super) fn put_in_block(&mut self, path: Path, far: &Network, place: RulePosition, rule: Rule) {
        let block = Block::of(path, far);
        let chain = block.chain();
        self.put(path.table(), &chain, place, rule);
        self.blocks.insert(block);
    }

    /// Puts a rule into a chain that some shared part brings.
    pub(super) fn put(&mut self, table: Table, chain: impl Into<Chain>, place: RulePosition, rule: Rule) {
        let piece = self.piece_mut(table);
        match place {
            RulePosition::Head => piece.head(chain, rule),
            RulePosition::Tail => piece.tail(chain, rule),
        }
    }

    /// Adds a chain of its own with its rules, that other rules of its lead to.
    pub(super) fn fill(&mut self, table: Table, chain: &ChainName, rules: impl IntoIterator<Item = Rule>) {
        let piece = self.piece_mut(table);
        piece.chain(chain);
        for rule in rules {
            piece.tail(chain, rule);
        }
    }

    fn piece_mut(&mut self, table: Table) -> &mut Piece {
        match table {
            Table::Filter => &mut self.piece,
            Table::Nat | Table::Mangle => self.elsewhere.entry(table).or_default(),
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
        let layout: Layout = serde_json::from_str(OLD).unwrap();
        assert_eq!(layout.tables(), BTreeSet::from([Table::Filter]));
        assert_eq!(layout.piece(Table::Filter).unwrap().rules.len(), 2);
        let old: serde_json::Value = serde_json::from_str(OLD).unwrap();
        assert_eq!(serde_json::to_value(&layout).unwrap(), old);
    }
}
