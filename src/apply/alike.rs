//! Tunnels that the kernel cannot distinguish: with equal selectors and the same reqid or
//! interface.
//!
//! charon gives equal selectors one reqid (`kernel_ipsec_interface`), so two connections between
//! the same networks share it. A packet of one matches the rules of all, so the chain that it
//! reaches first need not be its own tunnel's. So all of them have one effective policy,
//! [`Policy::of_all`], as long as any of them is up. The order of their ups does not affect what is
//! restricted.

use std::collections::BTreeMap;

use super::{ApplyError, Change, Engine, Note};
use crate::daemon::{Tunnel, UpCounting};
use crate::firewall::{TunnelId, are_alike};
use crate::netfilter::Ruleset;
use crate::netfilter::iptables::Tables;
use crate::settings::Policy;
use crate::state::{Record, TunnelRecord};

/// The policies of these tunnels, in the order in which they were opened.
fn in_turn<'a>(records: impl IntoIterator<Item = &'a TunnelRecord>) -> Vec<&'a Policy> {
    let mut records: Vec<_> = records.into_iter().collect();
    records.sort_by_key(|record| (record.turn, &record.id));
    records.into_iter().map(|record| &record.policy).collect()
}

impl<T: Tables> Engine<'_, T> {
    /// The other recorded tunnels that the kernel cannot distinguish from this one.
    pub(super) fn others_alike(
        &self,
        ruleset: Ruleset,
        tunnel: &Tunnel,
        id: &TunnelId,
    ) -> Result<Vec<TunnelRecord>, ApplyError> {
        Ok(self.store.others_alike(ruleset, tunnel, id)?)
    }

    /// The same without those whose records cannot be read, for a `down`: their rules stay, and are
    /// not more open for it.
    pub(super) fn readable_alike(
        &self,
        ruleset: Ruleset,
        tunnel: &Tunnel,
        id: &TunnelId,
    ) -> Result<Vec<TunnelRecord>, ApplyError> {
        match self.store.others_alike(ruleset, tunnel, id) {
            Err(error) if error.is_of_content() => {
                let mut tunnels = self.store.tunnels(ruleset)?;
                tunnels.retain(|other| other.id != *id && are_alike(&other.tunnel, tunnel));
                Ok(tunnels)
            }
            other => Ok(other?),
        }
    }

    /// Gives a tunnel its effective policy beside the tunnels that the kernel cannot distinguish
    /// from it, and the rules by that policy.
    pub(super) fn agree(
        &self,
        record: TunnelRecord,
        alike: &[TunnelRecord],
        old: Option<&TunnelRecord>,
    ) -> Result<TunnelRecord, ApplyError> {
        let agreed = Policy::of_all(in_turn(alike.iter().chain([&record])));
        let tunnel_rules = self.tunnel_rules(&record, &agreed, old)?;
        let effective = (agreed != record.policy).then_some(agreed);
        Ok(TunnelRecord {
            effective,
            tunnel_rules,
            ..record
        })
    }

    /// Gives each of these tunnels its rules by its effective policy. They must be all tunnels that
    /// are up.
    pub(super) fn agree_all(&self, records: Vec<TunnelRecord>) -> Result<Vec<TunnelRecord>, ApplyError> {
        let mut alike: BTreeMap<TunnelId, Vec<TunnelRecord>> = BTreeMap::new();
        for record in records {
            alike.entry(TunnelId::alike(&record.tunnel)).or_default().push(record);
        }
        let mut agreed = Vec::new();
        for records in alike.values() {
            for record in records {
                let others = records.iter().filter(|other| other.id != record.id);
                let others: Vec<_> = others.cloned().collect();
                agreed.push(self.agree(record.clone(), &others, Some(record))?);
            }
        }
        Ok(agreed)
    }

    /// Adds to a change the tunnels whose effective policy changes when others like them are added
    /// or removed. `all` are the tunnels that are up after the change.
    pub(super) fn change_affected(
        &self,
        change: &mut Change,
        changing: &[TunnelRecord],
        all: &[&TunnelRecord],
    ) -> Result<(), ApplyError> {
        for old in changing {
            let others = all.iter().filter(|other| other.id != old.id);
            let others: Vec<_> = others.map(|other| (*other).clone()).collect();
            let new = self.agree(old.clone(), &others, Some(old))?;
            if new != *old {
                change.removed.push(Record::from(old.clone()));
                change.added.push(new.into());
            }
        }
        Ok(())
    }
}

/// The note for a tunnel whose policy has keys without an intersection with the policy of the first
/// tunnel like it, or of its first opener. `None` if another opener has the same policy: that
/// opener's `up` reported it.
pub(super) fn conflict(
    tunnel: &Tunnel,
    own: &Policy,
    old: Option<&TunnelRecord>,
    alike: &[TunnelRecord],
) -> Option<Note> {
    let old = old.filter(|_| tunnel.up_counting == UpCounting::Counted);
    let views = |record: &TunnelRecord| record.opener_views();
    if old.is_some_and(|old| views(old).iter().any(|(_, policy)| policy == own)) {
        return None;
    }
    let first = alike.iter().chain(old).min_by_key(|record| (record.turn, &record.id))?;
    let (first, policy) = views(first).into_iter().next()?;
    let keys = policy.conflicts(own);
    (!keys.is_empty()).then(|| Note::Conflict {
        connection: tunnel.connection.clone(),
        first: first.connection.clone(),
        first_peer: (first.connection == tunnel.connection).then_some(first.remote_id),
        keys,
    })
}
