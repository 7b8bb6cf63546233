//! What holds networks apart: by a tunnel that has come up, and by what the settings name.

use std::collections::BTreeSet;

use super::{ApplyError, Session};
use crate::contract::Tunnel;
use crate::iptables::Tables;
use crate::netfilter::Ruleset;
use crate::plan::{PolicyError, TunnelId, can_block_clear_text, clear_text_block};
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

    /// What holds two networks apart, with what is on record of it: since when, and for which tunnel.
    fn guard(
        &self,
        ruleset: Ruleset,
        (near, far): (Network, Network),
        tunnel: Option<&Tunnel>,
    ) -> Result<Entry, RecordError> {
        let id = TunnelId::for_clear_text_block(&near, &far);
        let tunnel_rules = clear_text_block(&near, &far);
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
