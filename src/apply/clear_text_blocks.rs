//! Blocked pairs of networks: those of tunnels that come up, and those that the settings name.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;

use super::{ApplyError, Engine, Note};
use crate::daemon::Tunnel;
use crate::firewall::{PolicyError, TunnelId, block_has_no_effect, can_block_clear_text, clear_text_block};
use crate::net::Network;
use crate::netfilter::Ruleset;
use crate::netfilter::iptables::Tables;
use crate::settings::{Policy, WhenDown};
use crate::state::{ClearTextBlockRecord, FORMAT, Record, RecordError, TunnelRecord};

/// The maximum number of recorded tunnels that ask for a blocked pair. A peer chooses its identity,
/// and must not fill the record with it. At the maximum, further askers are unknown: the pair stays
/// blocked until `unblock`.
const ASKERS_MAX: usize = 64;

/// A blocked pair, the local network first.
type Pair = (Network, Network);

/// The tunnels that ask for each blocked pair; empty for a pair that only the settings name.
type Askers = BTreeMap<Pair, Vec<Tunnel>>;

impl<T: Tables> Engine<'_, T> {
    /// The blocked pairs from an `up` on: the tunnel's own networks and those that the settings
    /// name for it, if its openers' policies ask for that. Earlier askers are kept.
    ///
    /// # Errors
    /// If its own two are the same and none are named; or if a record cannot be read.
    pub(super) fn clear_text_blocks(&self, ruleset: Ruleset, record: &TunnelRecord) -> Result<Vec<Record>, ApplyError> {
        let mut askers = Askers::new();
        self.add_askers(&mut askers, record)?;
        let mut all = Vec::new();
        for (pair, new) in askers {
            let old = self.recorded_block(ruleset, &pair)?;
            let mut askers: Vec<_> = old.iter().flat_map(ClearTextBlockRecord::askers).cloned().collect();
            new.into_iter().for_each(|asker| add_asker(&mut askers, &pair, asker));
            all.push(self.clear_text_block(pair, askers, old));
        }
        Ok(all)
    }

    /// The blocked pairs by the settings: those that the settings name, in the default ruleset;
    /// those that the tunnels ask for that are up; and those that other tunnels have asked for, as
    /// long as the settings still say so for one of them.
    ///
    /// # Errors
    /// If a tunnel's own two networks are the same and none are named; or if a record cannot be
    /// read.
    pub(super) fn desired_blocks(
        &self,
        ruleset: Ruleset,
        is_default: bool,
        recorded: &[ClearTextBlockRecord],
        tunnels: &[TunnelRecord],
    ) -> Result<Vec<Record>, ApplyError> {
        let mut askers = Askers::new();
        for block in recorded {
            let pair = (block.local, block.remote);
            let asking = self.still_asking(block);
            asking.for_each(|asker| add_asker(askers.entry(pair).or_default(), &pair, asker.clone()));
        }
        for record in tunnels {
            self.add_askers(&mut askers, record)?;
        }
        if is_default {
            let named = self
                .context
                .settings
                .blocked_pairs_of_family(ruleset.family)
                .into_iter();
            named.for_each(|pair| {
                askers.entry(pair).or_default();
            });
        }
        let blocks = askers.into_iter().map(|(pair, askers)| {
            let old = recorded.iter().find(|block| (block.local, block.remote) == pair);
            self.clear_text_block(pair, askers, old.cloned())
        });
        Ok(blocks.collect())
    }

    /// Adds a tunnel's openers whose policy asks for blocked pairs.
    fn add_askers(&self, askers: &mut Askers, record: &TunnelRecord) -> Result<(), ApplyError> {
        let blocks = |policy: &Policy| policy.when_down == WhenDown::Block;
        // Most tunnels ask for none. If one opener asks, the record's policy says so.
        let views = if blocks(&record.policy) {
            record.opener_views()
        } else {
            Vec::new()
        };
        for (tunnel, _) in views.iter().filter(|(_, policy)| blocks(policy)) {
            for pair in self.pairs_of(tunnel)? {
                add_asker(askers.entry(pair).or_default(), &pair, tunnel.clone());
            }
        }
        Ok(())
    }

    /// The pairs to block for a tunnel: its own networks, and those that the settings name for it.
    fn pairs_of(&self, tunnel: &Tunnel) -> Result<BTreeSet<Pair>, ApplyError> {
        // Its own may be among those that are named.
        let mut pairs = BTreeSet::from_iter(self.context.settings.blocked_pairs_of(tunnel));
        let own = own_pair(tunnel);
        if can_block_clear_text(&own.0, &own.1) {
            pairs.insert(own);
        } else if pairs.is_empty() {
            return Err(ApplyError::Policy {
                connection: tunnel.connection.clone(),
                fault: PolicyError::SameNetwork { network: own.0 },
            });
        }
        Ok(pairs)
    }

    /// The note for a tunnel whose block has no effect.
    pub(super) fn unguarded(&self, record: &TunnelRecord) -> Option<Note> {
        let tunnel = &record.tunnel;
        let blocks =
            record.policy.when_down == WhenDown::Block && self.context.settings.blocked_pairs_of(tunnel).is_empty();
        (blocks && block_has_no_effect(tunnel)).then(|| Note::BlockHasNoEffect {
            connection: tunnel.connection.clone(),
            address: tunnel.local_client.first(),
        })
    }

    /// The recorded askers for which the settings still block the pair; all askers, if there may be
    /// unrecorded ones.
    fn still_asking<'b>(&self, block: &'b ClearTextBlockRecord) -> impl Iterator<Item = &'b Tunnel> {
        let (settings, pair) = (&self.context.settings, (block.local, block.remote));
        let is_full = block.askers().count() >= ASKERS_MAX;
        block.askers().filter(move |tunnel| {
            let is_meant = || pair == own_pair(tunnel) || settings.blocked_pairs_of(tunnel).contains(&pair);
            is_full || (settings.policy(tunnel).when_down == WhenDown::Block && is_meant())
        })
    }

    /// The networks that may talk unencrypted all the same: those that are in `bypass` of every
    /// tunnel and every connection that has the pair blocked. Only settings count: a network
    /// learned from DHCP must not open what is closed.
    fn bypassed(&self, pair: &Pair, askers: &[Tunnel]) -> Vec<IpNet> {
        let settings = &self.context.settings;
        let of_tunnels = askers
            .iter()
            .map(|tunnel| settings.policy(tunnel).bypass.unwrap_or_default());
        let mut lists = of_tunnels.chain(settings.bypasses(pair));
        let mut all = lists.next().unwrap_or_default();
        lists.for_each(|list| all.retain(|network| list.contains(network)));
        all
    }

    fn recorded_block(
        &self,
        ruleset: Ruleset,
        (local, remote): &Pair,
    ) -> Result<Option<ClearTextBlockRecord>, RecordError> {
        let entry = self
            .store
            .readable_entry(ruleset, &TunnelId::for_clear_text_block(local, remote))?;
        Ok(entry.as_ref().and_then(Record::as_clear_text_block).cloned())
    }

    /// The record of a blocked pair, with `since` of the old record.
    fn clear_text_block(&self, pair: Pair, askers: Vec<Tunnel>, old: Option<ClearTextBlockRecord>) -> Record {
        let id = TunnelId::for_clear_text_block(&pair.0, &pair.1);
        let bypass = self.bypassed(&pair, &askers);
        let tunnel_rules = clear_text_block(&id, &pair.0, &pair.1, &bypass);
        let unchanged = old.filter(|old| old.tunnel_rules == tunnel_rules);
        let (mut askers, mut names) = (
            askers.into_iter(),
            self.context.settings.named_blocked_pairs(&pair).cloned(),
        );
        Record::ClearTextBlock(Box::new(ClearTextBlockRecord {
            format: FORMAT,
            since: unchanged.map_or(self.context.now, |old| old.since),
            tunnel: askers.next(),
            other_tunnels: askers.collect(),
            name: names.next(),
            other_names: names.collect(),
            id,
            local: pair.0,
            remote: pair.1,
            tunnel_rules,
        }))
    }
}

fn own_pair(tunnel: &Tunnel) -> Pair {
    (tunnel.local_client, tunnel.remote_client)
}

/// Adds an asker of a pair, unless it is known. For a tunnel's own networks each opener counts. For
/// other pairs one asker per connection is enough, because the settings name them for the whole
/// connection.
fn add_asker(askers: &mut Vec<Tunnel>, pair: &Pair, asker: Tunnel) {
    let is_same = |other: &Tunnel| {
        let is_peers = (&other.remote_id, &other.user) == (&asker.remote_id, &asker.user);
        other.connection == asker.connection && (is_peers || own_pair(&asker) != *pair)
    };
    if !askers.iter().any(is_same) && askers.len() < ASKERS_MAX {
        askers.push(asker);
    }
}
