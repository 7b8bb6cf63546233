//! What holds networks apart: by a tunnel that has come up, and by what the settings name.

use std::collections::BTreeSet;

use ipnet::IpNet;

use super::{ApplyError, Note, Session};
use crate::contract::Tunnel;
use crate::iptables::Tables;
use crate::netfilter::Ruleset;
use crate::plan::{PolicyError, TunnelId, can_block_clear_text, clear_text_block, guards_nothing};
use crate::record::{Entry, FORMAT, GuardRecord, RecordError, TunnelRecord};
use crate::selector::Network;
use crate::settings::WhenDown;

impl<T: Tables> Session<'_, T> {
    /// What holds networks apart for a tunnel that is up: its own two, and those that are named for it.
    ///
    /// # Errors
    /// If its own two are the same and none are named; or if a record cannot be read.
    pub(super) fn guards(&self, ruleset: Ruleset, record: &TunnelRecord) -> Result<Vec<Entry>, ApplyError> {
        match record.policy.when_down {
            WhenDown::Leave => return Ok(Vec::new()),
            WhenDown::Block => {}
        }
        let tunnel = &record.tunnel;
        let mut pairs = self.caller.settings.between(tunnel);
        let own = (tunnel.my_client, tunnel.peer_client);
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
        let guards = pairs.into_iter().map(|pair| self.guard(ruleset, pair, Some(tunnel)));
        Ok(guards.collect::<Result<_, _>>()?)
    }

    /// What to say where blocking guards nothing.
    pub(super) fn unguarded(&self, record: &TunnelRecord) -> Option<Note> {
        let tunnel = &record.tunnel;
        let blocks = record.policy.when_down == WhenDown::Block && self.caller.settings.between(tunnel).is_empty();
        (blocks && guards_nothing(tunnel)).then(|| Note::GuardsNothing {
            connection: tunnel.connection.clone(),
            address: tunnel.my_client.first(),
        })
    }

    /// What holds the networks apart that the settings name.
    pub(super) fn named_guards(&self, ruleset: Ruleset) -> Result<Vec<Entry>, ApplyError> {
        let pairs = self.caller.settings.held_apart(ruleset.family);
        let guards = pairs.into_iter().map(|pair| self.guard(ruleset, pair, None));
        Ok(guards.collect::<Result<_, _>>()?)
    }

    /// Whether what a tunnel once brought is still set for it.
    pub(super) fn still_blocks(&self, guard: &GuardRecord) -> bool {
        let settings = &self.caller.settings;
        let pair = (guard.near, guard.far);
        guard.tunnel.as_ref().is_some_and(|tunnel| {
            let is_meant = pair == (tunnel.my_client, tunnel.peer_client) || settings.between(tunnel).contains(&pair);
            is_meant && settings.policy(tunnel).when_down == WhenDown::Block
        })
    }

    /// What passes unencrypted between two networks all the same: what everybody lets by who has them blocked, the tunnel as well as the
    /// connections for which the settings name them. Only what is set counts: a network learned from DHCP must not open what is closed.
    fn bypassed(&self, pair: &(Network, Network), tunnel: Option<&Tunnel>) -> Vec<IpNet> {
        let settings = &self.caller.settings;
        let of_tunnel = tunnel.map(|tunnel| settings.policy(tunnel).bypass.unwrap_or_default());
        let mut lists = of_tunnel.into_iter().chain(settings.bypasses(pair));
        let mut all = lists.next().unwrap_or_default();
        lists.for_each(|list| all.retain(|network| list.contains(network)));
        all
    }

    /// What holds two networks apart, with what is on record of it: since when, and for which tunnel.
    fn guard(
        &self,
        ruleset: Ruleset,
        (near, far): (Network, Network),
        tunnel: Option<&Tunnel>,
    ) -> Result<Entry, RecordError> {
        let id = TunnelId::for_clear_text_block(&near, &far);
        let bypass = self.bypassed(&(near, far), tunnel);
        let tunnel_rules = clear_text_block(&id, &near, &far, &bypass);
        let old = match self.store.entry(ruleset, &id)? {
            Some(Entry::Guard(old)) => Some(*old),
            Some(Entry::Tunnel(_) | Entry::Gateway(_) | Entry::Outer(_)) | None => None,
        };
        let stood = old.as_ref().filter(|old| old.tunnel_rules == tunnel_rules);
        Ok(Entry::Guard(Box::new(GuardRecord {
            format: FORMAT,
            since: stood.map_or(self.caller.now, |old| old.since),
            tunnel: tunnel.cloned().or_else(|| old.and_then(|old| old.tunnel)),
            name: self.caller.settings.named_between(&(near, far)).cloned(),
            id,
            near,
            far,
            tunnel_rules,
        })))
    }
}
