//! What each chain of ours should hold, all records taken together.

use std::collections::{BTreeMap, BTreeSet};

use super::layout::Layout;
use super::piece::Piece;
use super::shared::Site;
use crate::netfilter::{Chain, ChainName, Rule, RulePosition, Table};

/// What the tables should hold of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// Where they stand.
    pub(super) site: Site,
    tables: BTreeMap<Table, BTreeMap<ChainName, WantedChain>>,
}

/// What a chain should hold.
///
/// Its own rules stand in one order. What others put before or behind them stands in the order in which they came, which no record
/// tells and nothing depends on: each leads to another tunnel or block. Only what one of them puts in keeps its order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WantedChain {
    /// Before its own rules, part by part.
    pub(super) heads: Vec<Vec<Rule>>,
    /// Its own.
    pub(super) own: Vec<Rule>,
    /// Behind them.
    pub(super) tails: Vec<Vec<Rule>>,
}

/// Where a rule stands to the chain's own ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Region {
    /// Before them.
    Head,
    /// It is one of them.
    Own,
    /// Behind them.
    Tail,
}

impl WantedChain {
    /// Its rules, in an order that will do.
    pub fn rules(&self) -> impl Iterator<Item = &Rule> {
        let heads = self.heads.iter().flatten();
        heads.chain(&self.own).chain(self.tails.iter().flatten())
    }

    /// For each of its rules, as [`WantedChain::rules`] counts them: where it stands to the chain's own, and which part it belongs to.
    pub(super) fn places(&self) -> Vec<(Region, usize)> {
        let heads = self.heads.iter().map(|part| (Region::Head, part));
        let own = std::iter::once((Region::Own, &self.own));
        let tails = self.tails.iter().map(|part| (Region::Tail, part));
        let parts = heads.chain(own).chain(tails).enumerate();
        parts
            .flat_map(|(number, (region, part))| part.iter().map(move |_| (region, number)))
            .collect()
    }

    /// Where one of its rules goes that is missing; nothing, where that depends on others.
    pub(super) fn place_of(&self, rule: &Rule) -> Option<RulePosition> {
        let is_alone = |part: &Vec<Rule>| part[..] == [rule.clone()];
        match (self.heads.iter().any(is_alone), self.tails.iter().any(is_alone)) {
            (true, _) => Some(RulePosition::Head),
            (false, true) => Some(RulePosition::Tail),
            (false, false) => None,
        }
    }

    fn add(&mut self, piece: &Piece, name: &ChainName) {
        let (mut head, mut tail) = (Vec::new(), Vec::new());
        for placed in &piece.rules {
            match (&placed.chain, placed.position) {
                (Chain::Own(chain), RulePosition::Head) if chain == name => head.insert(0, placed.rule.clone()),
                (Chain::Own(chain), RulePosition::Tail) if chain == name => tail.push(placed.rule.clone()),
                (Chain::Own(_) | Chain::BuiltIn(_), _) => {}
            }
        }
        if piece.chains.contains(name) {
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

impl Wanted {
    /// What these records want.
    #[must_use]
    pub fn of(layouts: &[Layout], site: Site) -> Self {
        let nodes: BTreeSet<_> = layouts.iter().flat_map(Layout::nodes).collect();
        let mut wanted = Self {
            site,
            tables: BTreeMap::new(),
        };
        for table in Table::ALL {
            let nodes = nodes.iter().filter(|node| node.table() == table);
            let own = layouts.iter().filter_map(|layout| layout.piece(table)).cloned();
            let pieces = nodes.map(|node| node.piece(site)).chain(own);
            pieces.for_each(|piece| wanted.add(table, &piece));
        }
        wanted
    }

    fn add(&mut self, table: Table, piece: &Piece) {
        let placed_in = piece.rules.iter().filter_map(|placed| match &placed.chain {
            Chain::Own(chain) => Some(chain),
            Chain::BuiltIn(_) => None,
        });
        let names: BTreeSet<_> = piece.chains.iter().chain(placed_in).collect();
        let chains = self.tables.entry(table).or_default();
        for name in names {
            chains.entry(name.clone()).or_default().add(piece, name);
        }
    }

    /// The tables that it has something in.
    pub fn tables(&self) -> impl Iterator<Item = Table> {
        self.tables
            .iter()
            .filter(|(_, chains)| !chains.is_empty())
            .map(|(table, _)| *table)
    }

    /// The chains that should stand in a table.
    pub fn chains(&self, table: Table) -> impl Iterator<Item = (&ChainName, &WantedChain)> {
        self.tables.get(&table).into_iter().flatten()
    }

    /// Whether a table needs to be led to.
    #[must_use]
    pub fn needs(&self, table: Table) -> bool {
        self.tables.get(&table).is_some_and(|chains| !chains.is_empty())
    }

    /// A chain, if it should stand.
    #[must_use]
    pub fn chain(&self, table: Table, name: &ChainName) -> Option<&WantedChain> {
        self.tables.get(&table)?.get(name)
    }
}
