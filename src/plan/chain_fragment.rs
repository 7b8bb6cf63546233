//! A part of the chain tree that comes and goes as a whole.

use serde::{Deserialize, Serialize};

use crate::netfilter::{Chain, ChainName, PlacedRule, Rule, RulePosition};

/// Some chains and the rules that belong to them, in these chains or in others.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChainFragment {
    /// The chains that are its own.
    pub chains: Vec<ChainName>,
    /// Its rules, in the order in which they are put in.
    pub rules: Vec<PlacedRule>,
}

impl ChainFragment {
    /// Adds a chain of its own.
    pub(super) fn add_chain(&mut self, chain: &ChainName) {
        self.chains.push(chain.clone());
    }

    /// Adds a rule before those that are in the chain already.
    pub(super) fn insert_rule(&mut self, chain: impl Into<Chain>, rule: Rule) {
        self.rules.push(PlacedRule {
            chain: chain.into(),
            position: RulePosition::Head,
            rule,
        });
    }

    /// Adds a rule behind those that are in the chain already.
    pub(super) fn append_rule(&mut self, chain: impl Into<Chain>, rule: Rule) {
        self.rules.push(PlacedRule {
            chain: chain.into(),
            position: RulePosition::Tail,
            rule,
        });
    }
}
