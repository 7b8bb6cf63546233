//! The way of a packet through all tables, in the kernel's order.

use std::collections::BTreeMap;

use super::doubt::{Assumption, Doubts};
use super::order::Listed;
use super::packet::{Leg, Packet};
use super::walk::{Chains, End, Order, Traveller, Walk, walk};
use crate::netfilter::{BuiltIn, Table};
use crate::plan::shared::entrance;
use crate::plan::wanted::Wanted;

/// Our rules, ready to be asked.
#[derive(Debug)]
pub struct Rules<'a> {
    tables: BTreeMap<Table, Chains<'a>>,
}

/// One of the ways that a packet can take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Journey {
    /// What was taken for granted.
    pub assumed: Vec<Assumption>,
    /// In which order the rules of unlike tunnels stood.
    pub order: Order,
    /// The tables on its way that have chains of ours, and the filter table in any case.
    pub stations: Vec<Station>,
    /// The packet as it is at the end.
    pub packet: Packet,
}

/// One table, by one of its built-in chains.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Station {
    /// The table.
    pub table: Table,
    /// The built-in chain.
    pub built_in: BuiltIn,
    /// Our chains there; nothing, if we have none.
    pub walk: Option<Walk>,
}

impl Journey {
    /// What became of it in the filter table.
    #[must_use]
    pub fn station(&self) -> Option<&Station> {
        self.stations.iter().find(|station| station.table == Table::Filter)
    }

    /// Whether it passes, is gone, or is left to other rules.
    #[must_use]
    pub fn end(&self) -> End {
        let walk = self.station().and_then(|station| station.walk.as_ref());
        walk.map_or(End::Left, |walk| walk.end)
    }
}

/// The tables and built-in chains on the way of a packet in which we may have something.
fn stations(packet: &Packet) -> &'static [(Table, BuiltIn)] {
    use BuiltIn::{Forward, Input, Output, PostRouting, PreRouting};
    use Table::{Filter, Mangle, Nat};
    match (&packet.from, &packet.to) {
        (_, Leg::Gateway) => &[(Mangle, PreRouting), (Nat, PreRouting), (Filter, Input)],
        (Leg::Gateway, Leg::Clear(_) | Leg::Ipsec { .. }) => {
            &[(Filter, Output), (Mangle, PostRouting), (Nat, PostRouting)]
        }
        (Leg::Clear(_) | Leg::Ipsec { .. }, Leg::Clear(_) | Leg::Ipsec { .. }) => &[
            (Mangle, PreRouting),
            (Nat, PreRouting),
            (Filter, Forward),
            (Mangle, PostRouting),
            (Nat, PostRouting),
        ],
    }
}

impl<'a> Rules<'a> {
    /// Those of a ruleset.
    #[must_use]
    pub fn of(wanted: &'a Wanted) -> Self {
        let chains = |table| wanted.chains(table).map(|(name, chain)| (name, Listed::of(chain)));
        let tables = wanted.tables().map(|table| (table, chains(table).collect()));
        Self {
            tables: tables.collect(),
        }
    }

    /// Every way that a packet can take, in the order of the rules: behind each that asks for something come those where that is not so.
    ///
    /// What the nat table would do to the first packet of a connection is done to the others too.
    ///
    /// A table without chains of ours leaves it alone, and so do other people's rules: it is traced as if they let it pass.
    #[must_use]
    pub fn journeys(&self, packet: Packet) -> Vec<Journey> {
        let stations = stations(&packet);
        let doubts = Doubts::default();
        let mut open = vec![(
            Traveller {
                packet,
                doubts,
                order: Order::First,
            },
            Vec::new(),
        )];
        for (table, built_in) in stations {
            let ways = open.into_iter();
            open = ways
                .flat_map(|(traveller, before)| self.pass(*table, *built_in, traveller, &before))
                .collect();
        }
        let journey = |(traveller, stations): (Traveller, Vec<Station>)| Journey {
            assumed: traveller.doubts.0,
            order: traveller.order,
            stations,
            packet: traveller.packet,
        };
        open.into_iter().map(journey).collect()
    }

    /// Through one table more, unless it was dropped.
    fn pass(
        &self,
        table: Table,
        built_in: BuiltIn,
        traveller: Traveller,
        before: &[Station],
    ) -> Vec<(Traveller, Vec<Station>)> {
        let first = entrance(built_in);
        let chains = self.tables.get(&table).filter(|chains| chains.contains_key(&first));
        let is_gone = before
            .iter()
            .any(|station| station.walk.as_ref().is_some_and(|walk| walk.end == End::Dropped));
        let with = |walk| [before, &[Station { table, built_in, walk }]].concat();
        match (chains, table) {
            _ if is_gone => vec![(traveller, before.to_vec())],
            (Some(chains), _) => walk(chains, &first, traveller)
                .into_iter()
                .map(|(traveller, walk)| (translated(traveller, walk.end), with(Some(walk))))
                .collect(),
            (None, Table::Filter) => vec![(traveller, with(None))],
            (None, Table::Nat | Table::Mangle) => vec![(traveller, before.to_vec())],
        }
    }
}

fn translated(mut traveller: Traveller, end: End) -> Traveller {
    match end {
        End::Source(address) => traveller.packet.source = address,
        End::Destination(address) => traveller.packet.destination = address,
        End::Accepted | End::Dropped | End::Left => {}
    }
    traveller
}
