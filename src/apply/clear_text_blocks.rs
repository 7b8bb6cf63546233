//! What holds networks apart: by a tunnel that has come up, and by what the settings name.

use std::collections::BTreeSet;

use ipnet::IpNet;

use super::{ApplyError, Engine, Note};
use crate::iptables::Tables;
use crate::netfilter::Ruleset;
use crate::plan::{PolicyError, TunnelId, can_block_clear_text, clear_text_block, guards_nothing};
use crate::record::{ClearTextBlockRecord, FORMAT, Record, RecordError, TunnelRecord};
use crate::selector::Network;
use crate::settings::WhenDown;
use crate::updown_env::Tunnel;

impl<T: Tables> Engine<'_, T> {
    /// What holds networks apart for a tunnel that is up: its own two, and those that are named for it.
    ///
    /// # Errors
    /// If its own two are the same and none are named; or if a record cannot be read.
    pub(super) fn clear_text_blocks(&self, ruleset: Ruleset, record: &TunnelRecord) -> Result<Vec<Record>, ApplyError> {
        match record.policy.when_down {
            WhenDown::Leave => return Ok(Vec::new()),
            WhenDown::Block => {}
        }
        let tunnel = &record.tunnel;
        let mut pairs = self.context.settings.blocked_pairs_of(tunnel);
        let own = (tunnel.local_client, tunnel.remote_client);
        if can_block_clear_text(&own.0, &own.1) {
            pairs.push(own);
        } else if pairs.is_empty() {
            return Err(ApplyError::Policy {
                connection: tunnel.connection.clone(),
                fault: PolicyError::SameNetwork { network: own.0 },
            });
        }
        // Its own may be among those that are named.
        let pairs: BTreeSet<_> = pairs.into_iter().collect();
        let guards = pairs
            .into_iter()
            .map(|pair| self.clear_text_block(ruleset, pair, Some(tunnel)));
        Ok(guards.collect::<Result<_, _>>()?)
    }

    /// What to say where blocking guards nothing.
    pub(super) fn unguarded(&self, record: &TunnelRecord) -> Option<Note> {
        let tunnel = &record.tunnel;
        let blocks =
            record.policy.when_down == WhenDown::Block && self.context.settings.blocked_pairs_of(tunnel).is_empty();
        (blocks && guards_nothing(tunnel)).then(|| Note::GuardsNothing {
            connection: tunnel.connection.clone(),
            address: tunnel.local_client.first(),
        })
    }

    /// What holds the networks apart that the settings name.
    pub(super) fn named_clear_text_blocks(&self, ruleset: Ruleset) -> Result<Vec<Record>, ApplyError> {
        let pairs = self.context.settings.held_apart(ruleset.family);
        let guards = pairs.into_iter().map(|pair| self.clear_text_block(ruleset, pair, None));
        Ok(guards.collect::<Result<_, _>>()?)
    }

    /// Whether what a tunnel once brought is still set for it.
    pub(super) fn still_blocks(&self, guard: &ClearTextBlockRecord) -> bool {
        let settings = &self.context.settings;
        let pair = (guard.local, guard.remote);
        guard.tunnel.as_ref().is_some_and(|tunnel| {
            let is_meant = pair == (tunnel.local_client, tunnel.remote_client)
                || settings.blocked_pairs_of(tunnel).contains(&pair);
            is_meant && settings.policy(tunnel).when_down == WhenDown::Block
        })
    }

    /// What passes unencrypted between two networks all the same: what everybody lets by who has them blocked, the tunnel as well as the
    /// connections for which the settings name them. Only what is set counts: a network learned from DHCP must not open what is closed.
    fn bypassed(&self, pair: &(Network, Network), tunnel: Option<&Tunnel>) -> Vec<IpNet> {
        let settings = &self.context.settings;
        let of_tunnel = tunnel.map(|tunnel| settings.policy(tunnel).bypass.unwrap_or_default());
        let mut lists = of_tunnel.into_iter().chain(settings.bypasses(pair));
        let mut all = lists.next().unwrap_or_default();
        lists.for_each(|list| all.retain(|network| list.contains(network)));
        all
    }

    /// What holds two networks apart, with what is on record of it: since when, and for which tunnel.
    fn clear_text_block(
        &self,
        ruleset: Ruleset,
        (near, far): (Network, Network),
        tunnel: Option<&Tunnel>,
    ) -> Result<Record, RecordError> {
        let id = TunnelId::for_clear_text_block(&near, &far);
        let bypass = self.bypassed(&(near, far), tunnel);
        let tunnel_rules = clear_text_block(&id, &near, &far, &bypass);
        let old = match self.store.entry(ruleset, &id)? {
            Some(Record::ClearTextBlock(old)) => Some(*old),
            Some(Record::Tunnel(_) | Record::Gateway(_) | Record::EspPeer(_)) | None => None,
        };
        let stood = old.as_ref().filter(|old| old.tunnel_rules == tunnel_rules);
        Ok(Record::ClearTextBlock(Box::new(ClearTextBlockRecord {
            format: FORMAT,
            since: stood.map_or(self.context.now, |old| old.since),
            tunnel: tunnel.cloned().or_else(|| old.and_then(|old| old.tunnel)),
            name: self.context.settings.named_blocked_pairs(&(near, far)).cloned(),
            id,
            local: near,
            remote: far,
            tunnel_rules,
        })))
    }
}
