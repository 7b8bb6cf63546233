//! Walks a packet through the chains of one table.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::rc::Rc;

use super::doubt::{Assumption, Doubt, Doubts};
use super::order::OrderedRules;
use super::packet::{MatchAnswer, Packet};
use crate::netfilter::{ChainName, Rule, Target};

/// The chains of a table.
pub(crate) type ChainMap<'a> = BTreeMap<&'a ChainName, OrderedRules<'a>>;

/// How a packet's walk through this program's chains ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WalkEnd {
    /// It passes; in the nat table: its addresses stay as they are.
    Accepted,
    /// The packet was dropped.
    Dropped,
    /// It returned to the built-in chain: other rules decide.
    Left,
    /// Its source address was translated to this.
    Source(IpAddr),
    /// Its destination address was translated to this.
    Destination(IpAddr),
}

/// A rule, and the chain that it is in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DecidingRule {
    /// The chain.
    pub chain: ChainName,
    /// The rule.
    pub rule: Rule,
}

/// A packet's walk through this program's chains.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Walk {
    /// How it ended.
    pub end: WalkEnd,
    /// The rule that ended it; `None` if the packet came to the end of a chain.
    pub decided_by: Option<DecidingRule>,
    /// The chains that led to the end, in order; if the packet returned, all chains that it went
    /// through.
    pub path: Vec<ChainName>,
    /// The rules that jumped from each chain of the path to the next; none if the packet returned.
    pub jumps: Vec<DecidingRule>,
    /// The rules that it matched without being decided: logging, MSS clamping, jumps to the
    /// administrator's chain.
    pub met: Vec<DecidingRule>,
}

/// A packet, and the assumptions about it.
#[derive(Debug, Clone)]
pub(crate) struct TraceState {
    pub(crate) packet: Packet,
    pub(crate) doubts: Doubts,
    pub(crate) order: RuleOrder,
}

/// The order of those rules whose order is not recorded, on one walk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RuleOrder {
    /// An arbitrary order. If the order does not matter, these walks are all.
    First,
    /// Another order, with another outcome.
    Other,
}

/// A packet on its walk through the chains.
#[derive(Debug, Clone)]
struct Walker {
    state: TraceState,
    here: WalkPosition,
    /// The positions to return to.
    callers: Vec<WalkPosition>,
    trail: Vec<ChainName>,
    /// The rules that led from one chain of the trail to the next.
    jumps: Vec<DecidingRule>,
    entered: Vec<ChainName>,
    met: Vec<DecidingRule>,
}

#[derive(Debug, Clone)]
struct WalkPosition {
    chain: ChainName,
    /// The order of its rules.
    order: Rc<[usize]>,
    next: usize,
    /// The length of the trail up to this chain: the packet's return truncates the trail to it.
    trail: usize,
}

/// What a packet does at a rule.
enum WalkStep {
    On,
    Into(ChainName),
    Ended(Walk),
}

/// The maximum number of walks, which bounds the time for any settings. Walks fork at the
/// interfaces and traffic that the settings name.
const MAX_WALKS: usize = 1000;

/// Every possible walk of a packet from a chain. Walks with the same outcome in another order of
/// rules are returned once.
pub(super) fn walk_chains(chains: &ChainMap<'_>, first: &ChainName, state: TraceState) -> Vec<(TraceState, Walk)> {
    let mut open = Vec::new();
    Walker::at_chain_start(first, state).enter_chain(first, chains, &mut open);
    let mut done: Vec<(TraceState, Walk)> = Vec::new();
    while let Some(walker) = open.pop() {
        let Some((state, walk)) = walker.run(chains, &mut open) else {
            continue;
        };
        if !done.iter().any(|done| is_same(done, &state, &walk)) {
            done.push((state, walk));
        }
        if done.len() + open.len() > MAX_WALKS {
            break;
        }
    }
    done
}

fn is_same((state, walk): &(TraceState, Walk), other: &TraceState, another: &Walk) -> bool {
    other.order == RuleOrder::Other
        && state.doubts.is_same_set(&other.doubts)
        && (walk.end, &walk.decided_by) == (another.end, &another.decided_by)
}

impl Walker {
    fn at_chain_start(chain: &ChainName, state: TraceState) -> Self {
        Self {
            state,
            here: WalkPosition {
                chain: chain.clone(),
                order: Rc::from([]),
                next: 0,
                trail: 0,
            },
            callers: Vec::new(),
            trail: Vec::new(),
            jumps: Vec::new(),
            entered: Vec::new(),
            met: Vec::new(),
        }
    }

    /// Enters a chain, once for every possible order of its rules.
    fn enter_chain(mut self, chain: &ChainName, chains: &ChainMap<'_>, open: &mut Vec<Self>) {
        self.trail.push(chain.clone());
        self.entered.push(chain.clone());
        let is_asked = |rule: &Rule| self.open_doubts(rule).is_some();
        let orders = chains.get(chain).map(|listed| listed.orders(is_asked));
        let orders = orders.unwrap_or_else(|| vec![Rc::from([])]);
        // The last that is pushed is followed first.
        for (number, order) in orders.into_iter().enumerate().rev() {
            let here = WalkPosition {
                chain: chain.clone(),
                order,
                next: 0,
                trail: self.trail.len(),
            };
            let mut walker = Self { here, ..self.clone() };
            if number > 0 {
                walker.state.order = RuleOrder::Other;
            }
            open.push(walker);
        }
    }

    /// Walks until the end, or until the walk forks.
    fn run(mut self, chains: &ChainMap<'_>, open: &mut Vec<Self>) -> Option<(TraceState, Walk)> {
        loop {
            let step = match self.next_rule(chains) {
                None => self.return_from_chain(None),
                Some(rule) => self.meet_rule(rule, open),
            };
            match step {
                WalkStep::On => {}
                WalkStep::Into(chain) => {
                    self.enter_chain(&chain, chains, open);
                    return None;
                }
                WalkStep::Ended(walk) => return Some((self.state, walk)),
            }
        }
    }

    fn next_rule<'a>(&mut self, chains: &ChainMap<'a>) -> Option<&'a Rule> {
        let index = self.here.order.get(self.here.next).copied();
        self.here.next += 1;
        chains.get(&self.here.chain)?.rules.get(index?).copied()
    }

    fn meet_rule(&mut self, rule: &Rule, open: &mut Vec<Self>) -> WalkStep {
        let Some(doubts) = self.open_doubts(rule) else {
            return WalkStep::On;
        };
        if !doubts.is_empty() {
            let mut other = self.clone();
            other.state.doubts.0.push(Assumption::Fails(doubts.clone()));
            open.push(other);
            for doubt in &doubts {
                self.state.packet.assume_doubt(doubt);
            }
            self.state.doubts.0.push(Assumption::Holds(doubts));
        }
        self.execute_target(rule)
    }

    /// The doubts on which it depends whether a rule matches; `None` if it does not match.
    fn open_doubts(&self, rule: &Rule) -> Option<Vec<Doubt>> {
        let TraceState { packet, doubts, .. } = &self.state;
        let mut open = Vec::new();
        for matched in &rule.matches {
            match packet.match_answer(matched, doubts) {
                MatchAnswer::Yes => {}
                MatchAnswer::No => return None,
                MatchAnswer::Unknown(doubt) => open.push(doubt),
            }
        }
        (open.is_empty() || !doubts.rule_out_all(&open)).then_some(open)
    }

    fn execute_target(&mut self, rule: &Rule) -> WalkStep {
        match &rule.target {
            Target::Accept => self.end_walk(WalkEnd::Accepted, rule),
            Target::Drop => self.end_walk(WalkEnd::Dropped, rule),
            Target::Snat(address) => self.end_walk(WalkEnd::Source(*address), rule),
            Target::Dnat(address) => self.end_walk(WalkEnd::Destination(*address), rule),
            Target::Return => self.return_from_chain(Some(rule)),
            Target::Jump(chain) => {
                self.callers.push(self.here.clone());
                self.go_into(chain, rule)
            }
            Target::Goto(chain) => self.go_into(chain, rule),
            Target::SetMark(_) => self.set_consent_mark(true),
            Target::ClearMark(_) => self.set_consent_mark(false),
            Target::JumpUser(_) | Target::Nflog(_) | Target::Log(_) | Target::SetMss(_) | Target::ClampMssToPmtu => {
                self.met.push(self.deciding_rule(rule));
                WalkStep::On
            }
        }
    }

    fn go_into(&mut self, chain: &ChainName, rule: &Rule) -> WalkStep {
        self.jumps.push(self.deciding_rule(rule));
        WalkStep::Into(chain.clone())
    }

    fn set_consent_mark(&mut self, consented: bool) -> WalkStep {
        self.state.packet.consented = consented;
        WalkStep::On
    }

    fn deciding_rule(&self, rule: &Rule) -> DecidingRule {
        DecidingRule {
            chain: self.here.chain.clone(),
            rule: rule.clone(),
        }
    }

    fn return_from_chain(&mut self, rule: Option<&Rule>) -> WalkStep {
        match self.callers.pop() {
            Some(caller) => {
                self.trail.truncate(caller.trail);
                // No rule of this program jumps to the first chain of the trail.
                self.jumps.truncate(caller.trail.saturating_sub(1));
                self.here = caller;
                WalkStep::On
            }
            None => WalkStep::Ended(Walk {
                end: WalkEnd::Left,
                decided_by: rule.map(|rule| self.deciding_rule(rule)),
                path: std::mem::take(&mut self.entered),
                jumps: Vec::new(),
                met: std::mem::take(&mut self.met),
            }),
        }
    }

    fn end_walk(&mut self, end: WalkEnd, rule: &Rule) -> WalkStep {
        WalkStep::Ended(Walk {
            end,
            decided_by: Some(self.deciding_rule(rule)),
            path: std::mem::take(&mut self.trail),
            jumps: std::mem::take(&mut self.jumps),
            met: std::mem::take(&mut self.met),
        })
    }
}
