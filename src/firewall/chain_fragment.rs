//! A part of the chain tree that is installed and removed as a whole.

use serde::{Deserialize, Serialize};

use crate::netfilter::{Chain, ChainName, PlacedRule, Rule, RulePosition};

/// Some chains and the rules that belong to them, in these chains or in others.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChainFragment {
    /// The chains that are its own.
    pub chains: Vec<ChainName>,
    /// Its rules, in the order of installation.
    pub rules: Vec<PlacedRule>,
}

impl ChainFragment {
    /// Adds a chain of its own.
    pub(super) fn add_chain(&mut self, chain: &ChainName) {
        self.chains.push(chain.clone());
    }

    /// Adds a rule at the head of its chain.
    pub(super) fn insert_rule(&mut self, chain: impl Into<Chain>, rule: Rule) {
        self.rules.push(PlacedRule {
            chain: chain.into(),
            position: RulePosition::Head,
            rule,
        });
    }

    /// Adds a rule at the tail of its chain.
    pub(super) fn append_rule(&mut self, chain: impl Into<Chain>, rule: Rule) {
        self.rules.push(PlacedRule {
            chain: chain.into(),
            position: RulePosition::Tail,
            rule,
        });
    }
}
