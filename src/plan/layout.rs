//! All that one tunnel puts in, table by table.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::path::Path;
use super::piece::Piece;
use super::tree::{Block, Node};
use crate::netfilter::{ChainName, Match, Rule, Table, Verdict};
use crate::selector::{Device, Network};

/// All that a tunnel puts in: what is its own, and the shared parts of the tree that it needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
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
    /// By what the block knows its packets.
    pub(super) conditions: Vec<Match>,
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
        }
    }

    /// What is its own in a table.
    #[must_use]
    pub fn piece(&self, table: Table) -> Option<&Piece> {
        match table {
            Table::Filter => Some(&self.piece),
            Table::Nat => self.elsewhere.get(&table),
        }
    }

    /// The tables that it has something in.
    #[must_use]
    pub fn tables(&self) -> BTreeSet<Table> {
        let elsewhere = self.elsewhere.keys().copied();
        elsewhere.chain([Table::Filter]).collect()
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
        }
        nodes
    }

    /// Hangs a chain into the block of its far network.
    pub(super) fn hang(&mut self, own: OwnChain) {
        let block = Block::of(own.path, &own.far);
        let piece = match own.path.table() {
            Table::Filter => &mut self.piece,
            table @ Table::Nat => self.elsewhere.entry(table).or_default(),
        };
        piece.chain(&own.name);
        for rule in own.rules {
            piece.tail(&own.name, rule);
        }
        piece.head(
            &block.chain(),
            Rule {
                matches: own.conditions,
                verdict: Verdict::Jump(own.name),
            },
        );
        self.blocks.insert(block);
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
