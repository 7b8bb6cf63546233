//! Which record a call means.

use super::{ApplyError, Engine};
use crate::iptables::Tables;
use crate::netfilter::{Backend, Ruleset};
use crate::plan::{DispatchBucket, PacketPath, Precedence, SharedChains, TunnelId, TunnelKey};
use crate::record::{TunnelRecord, TunnelSlot};
use crate::updown_env::{Scope, Tunnel, UpCounting};

impl<T: Tables> Engine<'_, T> {
    /// A tunnel's record: in the ruleset of the backend that `iptables` is now, or of another that it was when the tunnel came up.
    pub(super) fn find_record(
        &self,
        tunnel: &Tunnel,
        key: &TunnelKey,
    ) -> Result<Option<(Ruleset, TunnelRecord)>, ApplyError> {
        for ruleset in rulesets(tunnel) {
            if let TunnelSlot::Taken(record) = self.store.tunnel_slot(ruleset, key)? {
                return Ok(Some((ruleset, *record)));
            }
        }
        Ok(None)
    }

    /// Where a tunnel that is not on record goes.
    pub(super) fn place(
        &self,
        tunnel: &Tunnel,
        key: &TunnelKey,
    ) -> Result<(Ruleset, Option<TunnelRecord>, TunnelId), ApplyError> {
        let family = tunnel.family();
        let ruleset = Ruleset {
            backend: self.tables.default_backend(family)?,
            family,
        };
        Ok(match self.store.tunnel_slot(ruleset, key)? {
            TunnelSlot::Taken(record) => (ruleset, Some(*record.clone()), record.id),
            TunnelSlot::Free(id) => (ruleset, None, id),
        })
    }

    /// The record that a `down` means. Its reqid, and in a host tunnel its addresses, may have changed since `up`: strongSwan
    /// gives a tunnel with dynamic selectors a new reqid when MOBIKE moves it (5.9.6 and later), and calls nobody.
    pub(super) fn find_open(&self, tunnel: &Tunnel) -> Result<Option<(Ruleset, TunnelRecord)>, ApplyError> {
        let key = TunnelKey::from_tunnel(tunnel);
        if let Some(found) = self.find_record(tunnel, &key)? {
            return Ok(Some(found));
        }
        for ruleset in rulesets(tunnel) {
            let mut alike = Vec::new();
            for precedence in Precedence::ALL {
                let bucket = DispatchBucket::for_remote(any_path(tunnel), precedence, &tunnel.remote_client);
                alike.extend(self.store.tunnels_at(ruleset, &SharedChains::Bucket(bucket))?);
            }
            alike.retain(|record| record.key.same_but_reqid(&key));
            if let Some(record) = single(alike) {
                return Ok(Some((ruleset, record)));
            }
            if let (UpCounting::Counted, Scope::Host, Some(_)) = (tunnel.up_counting, tunnel.scope, tunnel.unique_id) {
                let mut moved = self.store.tunnels(ruleset)?;
                moved.retain(|record| is_moved_host(record, tunnel));
                if let Some(record) = single(moved) {
                    return Ok(Some((ruleset, record)));
                }
            }
        }
        Ok(None)
    }
}

fn rulesets(tunnel: &Tunnel) -> impl Iterator<Item = Ruleset> + use<> {
    let family = tunnel.family();
    Backend::ALL.into_iter().map(move |backend| Ruleset { backend, family })
}

/// One of the paths that a tunnel of this scope is on.
fn any_path(tunnel: &Tunnel) -> PacketPath {
    match (tunnel.scope, tunnel.translation) {
        (Scope::Host, _) | (Scope::Client, Some(_)) => PacketPath::Input,
        (Scope::Client, None) => PacketPath::ForwardIn,
    }
}

/// The only record there is, if there is only one: with two it cannot be told which of them is meant.
fn single(mut records: Vec<TunnelRecord>) -> Option<TunnelRecord> {
    let record = records.pop();
    record.filter(|_| records.is_empty())
}

fn is_moved_host(record: &TunnelRecord, tunnel: &Tunnel) -> bool {
    record.key.connection == tunnel.connection
        && record.tunnel.scope == Scope::Host
        && record.tunnel.unique_id == tunnel.unique_id
        && record.key.traffic == tunnel.traffic
}
