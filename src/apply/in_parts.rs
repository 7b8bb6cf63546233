//! Changes of very many tunnels in several parts, so that calls of daemons need not wait for all of
//! them: each part is a [`Change`] with a journal entry of its own, and each tunnel changes whole.
//!
//! Two tunnels decide about a packet from one to the other, and gateway rules about many. So the
//! order of the parts counts: first each tunnel that only loses, then all else at once, then each
//! tunnel that only gains. A packet that passes in between passed before, or passes after.

use std::collections::BTreeMap;

use super::{ApplyError, BULK_THRESHOLD, Change, Engine, gateway::difference};
use crate::firewall::{DispatchBucket, OptionalChains, TunnelId};
use crate::netfilter::Backend;
use crate::netfilter::STAGE_CHAINS;
use crate::netfilter::iptables::Tables;
use crate::state::Record;

/// How many tunnels change at a time. Most have four chains in the filter table.
const TUNNELS: usize = STAGE_CHAINS / 4;

/// A record before and after a change.
type Replacement = (Option<Record>, Option<Record>);

/// When a record changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum PartOrder {
    /// A tunnel that allows nothing that it has not allowed before.
    Closing,
    /// Gateway rules, blocked pairs, and tunnels that allow less and more.
    Both,
    /// A tunnel that allows everything that it has allowed before.
    Opening,
}

impl Change {
    /// The same change in parts. One of fewer than `BULK_THRESHOLD` records stays whole, and so
    /// does one of iptables-legacy, which writes the whole table at each commit.
    #[must_use]
    pub fn in_parts(self) -> Vec<Self> {
        let (ruleset, recovery) = (self.ruleset, self.recovery);
        if ruleset.backend != Backend::Nft || self.removed.len().max(self.added.len()) < BULK_THRESHOLD {
            return vec![self];
        }
        let mut orders: BTreeMap<PartOrder, Vec<Replacement>> = BTreeMap::new();
        for pair in self.pairs().into_values() {
            orders.entry(part_order(&pair)).or_default().push(pair);
        }
        let mut parts = Vec::new();
        for (order, mut pairs) in orders {
            // Neighbours share buckets, so that few are read for a part.
            pairs.sort_by_cached_key(first_bucket);
            let at_once = match order {
                PartOrder::Both => pairs.len(),
                PartOrder::Closing | PartOrder::Opening => TUNNELS,
            };
            for part in pairs.chunks(at_once) {
                let (removed, added) = split(part.iter().cloned());
                parts.push(Self {
                    ruleset,
                    removed,
                    added,
                    recovery,
                });
            }
        }
        parts
    }

    fn pairs(self) -> BTreeMap<TunnelId, Replacement> {
        let mut pairs: BTreeMap<_, Replacement> = BTreeMap::new();
        for record in self.removed {
            let pair = pairs.entry(record.id().clone()).or_default();
            pair.0 = Some(record);
        }
        for record in self.added {
            let pair = pairs.entry(record.id().clone()).or_default();
            pair.1 = Some(record);
        }
        pairs
    }
}

fn split(pairs: impl Iterator<Item = Replacement>) -> (Vec<Record>, Vec<Record>) {
    let (removed, added): (Vec<_>, Vec<_>) = pairs.unzip();
    (
        removed.into_iter().flatten().collect(),
        added.into_iter().flatten().collect(),
    )
}

fn part_order(pair: &Replacement) -> PartOrder {
    match pair {
        (Some(before @ Record::Tunnel(old)), Some(after @ Record::Tunnel(new))) => {
            // Where the gateway drops all other ESP, its rule must be removed before the peer's.
            let keeps_esp = accepts_esp(after) || !accepts_esp(before);
            let (old, new) = (old.effective_policy(), new.effective_policy());
            match old.nat == new.nat {
                true if new.is_as_strict_as(old) && keeps_esp => PartOrder::Closing,
                true if old.is_as_strict_as(new) => PartOrder::Opening,
                true | false => PartOrder::Both,
            }
        }
        (Some(Record::Tunnel(_)), None) => PartOrder::Closing,
        (None, Some(Record::Tunnel(_))) => PartOrder::Opening,
        _ => PartOrder::Both,
    }
}

/// Whether its rules accept ESP from its peer (`esp = "negotiated"`).
fn accepts_esp(record: &Record) -> bool {
    record.tunnel_rules().optional.contains(&OptionalChains::EspPeers)
}

fn first_bucket((old, new): &Replacement) -> Option<DispatchBucket> {
    let record = new.as_ref().or(old.as_ref())?;
    record.tunnel_rules().buckets.first().copied()
}

impl<T: Tables> Engine<'_, T> {
    /// The parts of `start` that can be made one by one, with other calls in between; none, if it
    /// is quick at once. [`Engine::start`] makes the rest.
    ///
    /// # Errors
    /// As for [`Engine::plan_start`].
    pub fn plan_start_parts(&self) -> Result<Vec<Change>, ApplyError> {
        let mut parts = Vec::new();
        // A tunnel that goes down between two parts would be installed again where it is moved to.
        if self.has_moves()? {
            return Ok(parts);
        }
        for change in self.plan_start()? {
            if !self.has_other_layout(change.ruleset)? {
                let ruleset_parts = change.in_parts();
                if ruleset_parts.len() > 1 {
                    parts.extend(ruleset_parts);
                }
            }
        }
        Ok(parts)
    }

    /// Makes a part of `start`, with the present records: a call in between may have changed them.
    /// Tunnels that the kernel cannot distinguish change together.
    ///
    /// # Errors
    /// If it cannot be made.
    pub fn start_part(&mut self, part: &Change) -> Result<(), ApplyError> {
        let ruleset = part.ruleset;
        let (mut tunnels, mut before, mut after) = (BTreeMap::new(), Vec::new(), Vec::new());
        for (id, (old, new)) in part.clone().pairs() {
            match self.store.readable_entry(ruleset, &id)? {
                Some(Record::Tunnel(record)) => {
                    let alike = self.store.others_alike(ruleset, &record.tunnel, &id)?.into_iter();
                    tunnels.extend(alike.chain([*record]).map(|record| (record.id.clone(), record)));
                }
                entry if entry == old => {
                    before.extend(old);
                    after.extend(new);
                }
                _ => {}
            }
        }
        before.extend(tunnels.values().cloned().map(Record::from));
        let tunnels = self.in_present_layout(tunnels.into_values().collect())?;
        after.extend(tunnels.into_iter().map(Record::from));
        let change = difference(ruleset, &before, &after);
        match change.is_empty() {
            true => Ok(()),
            false => self.carry_out(&change),
        }
    }
}
