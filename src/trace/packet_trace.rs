//! Traces a packet through all tables, in the kernel's order.

use std::collections::BTreeMap;

use super::doubt::{Assumption, Doubts};
use super::order::OrderedRules;
use super::packet::{Endpoint, Packet};
use super::walk::{ChainMap, RuleOrder, TraceState, Walk, WalkEnd, walk_chains};
use crate::firewall::{DesiredState, base_chain};
use crate::netfilter::{BuiltIn, Table};

/// The rules of a ruleset, prepared for tracing.
#[derive(Debug)]
pub struct RulesetModel<'a> {
    tables: BTreeMap<Table, ChainMap<'a>>,
}

/// One of the possible traces of a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trace {
    /// The assumptions about the packet.
    pub assumed: Vec<Assumption>,
    /// The order of those rules whose order is not recorded.
    pub order: RuleOrder,
    /// The tables on its path that have chains of this program, and the filter table in any case.
    pub hooks: Vec<HookTrace>,
    /// The packet as it is at the end.
    pub packet: Packet,
}

/// One table, by one of its built-in chains.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HookTrace {
    /// The table.
    pub table: Table,
    /// The built-in chain.
    pub built_in: BuiltIn,
    /// The walk through this program's chains there; `None` if there are none.
    pub walk: Option<Walk>,
}

impl Trace {
    /// The trace through the filter table.
    #[must_use]
    pub fn hook(&self) -> Option<&HookTrace> {
        self.hooks.iter().find(|hook| hook.table == Table::Filter)
    }

    /// How the trace ended: accepted, dropped, or left to other rules.
    #[must_use]
    pub fn walk_end(&self) -> WalkEnd {
        let walk = self.hook().and_then(|hook| hook.walk.as_ref());
        walk.map_or(WalkEnd::Left, |walk| walk.end)
    }
}

/// The tables and built-in chains on a packet's path in which this program may have rules.
fn hook_order(packet: &Packet) -> &'static [(Table, BuiltIn)] {
    use BuiltIn::{Forward, Input, Output, PostRouting, PreRouting};
    use Table::{Filter, Mangle, Nat};
    match (&packet.from, &packet.to) {
        (_, Endpoint::Gateway) => &[(Mangle, PreRouting), (Nat, PreRouting), (Filter, Input)],
        (Endpoint::Gateway, Endpoint::Unencrypted(_) | Endpoint::Ipsec { .. }) => {
            &[(Filter, Output), (Mangle, PostRouting), (Nat, PostRouting)]
        }
        (Endpoint::Unencrypted(_) | Endpoint::Ipsec { .. }, Endpoint::Unencrypted(_) | Endpoint::Ipsec { .. }) => &[
            (Mangle, PreRouting),
            (Nat, PreRouting),
            (Filter, Forward),
            (Mangle, PostRouting),
            (Nat, PostRouting),
        ],
    }
}

impl<'a> RulesetModel<'a> {
    /// Those of a ruleset.
    #[must_use]
    pub fn new(desired: &'a DesiredState) -> Self {
        let chains = |table| {
            desired
                .chains(table)
                .map(|(name, chain)| (name, OrderedRules::new(chain)))
        };
        let tables = desired.tables().map(|table| (table, chains(table).collect()));
        Self {
            tables: tables.collect(),
        }
    }

    /// Every possible trace of a packet, in the order of the rules: a trace that assumes a match
    /// comes before those that assume it fails.
    ///
    /// What the nat table would do to the first packet of a connection is done to the others too.
    ///
    /// Tables without chains of this program are skipped. Other rules are ignored, as if they let
    /// the packet pass.
    #[must_use]
    pub fn traces(&self, packet: Packet) -> Vec<Trace> {
        let hook_order = hook_order(&packet);
        let doubts = Doubts::default();
        let mut open = vec![(
            TraceState {
                packet,
                doubts,
                order: RuleOrder::First,
            },
            Vec::new(),
        )];
        for (table, built_in) in hook_order {
            let states = open.into_iter();
            open = states
                .flat_map(|(state, before)| self.pass(*table, *built_in, state, &before))
                .collect();
        }
        let trace = |(state, hook_order): (TraceState, Vec<HookTrace>)| Trace {
            assumed: state.doubts.0,
            order: state.order,
            hooks: hook_order,
            packet: state.packet,
        };
        open.into_iter().map(trace).collect()
    }

    /// Traces the packet through one more table, unless it was dropped.
    fn pass(
        &self,
        table: Table,
        built_in: BuiltIn,
        state: TraceState,
        before: &[HookTrace],
    ) -> Vec<(TraceState, Vec<HookTrace>)> {
        let first = base_chain(built_in);
        let chains = self.tables.get(&table).filter(|chains| chains.contains_key(&first));
        let is_gone = before
            .iter()
            .any(|hook| hook.walk.as_ref().is_some_and(|walk| walk.end == WalkEnd::Dropped));
        let with = |walk| [before, &[HookTrace { table, built_in, walk }]].concat();
        match (chains, table) {
            _ if is_gone => vec![(state, before.to_vec())],
            (Some(chains), _) => walk_chains(chains, &first, state)
                .into_iter()
                .map(|(state, walk)| (translated(state, walk.end), with(Some(walk))))
                .collect(),
            (None, Table::Filter) => vec![(state, with(None))],
            (None, Table::Nat | Table::Mangle) => vec![(state, before.to_vec())],
        }
    }
}

fn translated(mut state: TraceState, end: WalkEnd) -> TraceState {
    match end {
        WalkEnd::Source(address) => state.packet.source = address,
        WalkEnd::Destination(address) => {
            let packet = &mut state.packet;
            packet.requested.get_or_insert(packet.destination);
            packet.destination = address;
        }
        WalkEnd::Accepted | WalkEnd::Dropped | WalkEnd::Left => {}
    }
    state
}
