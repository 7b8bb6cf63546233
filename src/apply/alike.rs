//! Tunnels that the kernel cannot tell apart: with equal selectors and one reqid, or one interface.
//!
//! charon gives equal selectors one reqid (`kernel_ipsec_interface`), so two connections between
//! the same networks share it. A packet of one fits the rules of all, and whose chain it comes to
//! first says nothing about whose it is. So there is one effective policy for all of them,
//! [`Policy::of_all`], from the first that is up to the last; in which order they came up matters
//! for nothing that restricts.

use std::collections::BTreeMap;

use super::{ApplyError, Change, Engine, Note};
use crate::iptables::Tables;
use crate::netfilter::Ruleset;
use crate::plan::TunnelId;
use crate::record::{Record, TunnelRecord};
use crate::selector::MarkBit;
use crate::settings::Policy;
use crate::updown_env::{Tunnel, UpCounting};

/// The policies of these tunnels, in the order in which they were opened.
fn in_turn<'a>(records: impl IntoIterator<Item = &'a TunnelRecord>) -> Vec<&'a Policy> {
    let mut records: Vec<_> = records.into_iter().collect();
    records.sort_by_key(|record| (record.turn, &record.id));
    records.into_iter().map(|record| &record.policy).collect()
}

impl<T: Tables> Engine<'_, T> {
    /// The tunnels on record but this one that the kernel cannot tell from it.
    pub(super) fn others_alike(
        &self,
        ruleset: Ruleset,
        tunnel: &Tunnel,
        id: &TunnelId,
    ) -> Result<Vec<TunnelRecord>, ApplyError> {
        Ok(self.store.others_alike(ruleset, tunnel, id)?)
    }

    /// Gives a tunnel the policy that counts beside others that are like it, and its rules by that.
    pub(super) fn agree(
        &self,
        record: TunnelRecord,
        alike: &[TunnelRecord],
        old: Option<&TunnelRecord>,
        mark: MarkBit,
    ) -> Result<TunnelRecord, ApplyError> {
        let agreed = Policy::of_all(in_turn(alike.iter().chain([&record])));
        let tunnel_rules = self.tunnel_rules(&record, &agreed, old, mark)?;
        let effective = (agreed != record.policy).then_some(agreed);
        Ok(TunnelRecord {
            effective,
            tunnel_rules,
            ..record
        })
    }

    /// Gives each of these tunnels, which are all there are, its rules by the policy that counts
    /// beside those of them that are like it.
    pub(super) fn agree_all(&self, records: Vec<TunnelRecord>, mark: MarkBit) -> Result<Vec<TunnelRecord>, ApplyError> {
        let mut alike: BTreeMap<TunnelId, Vec<TunnelRecord>> = BTreeMap::new();
        for record in records {
            alike.entry(TunnelId::alike(&record.tunnel)).or_default().push(record);
        }
        let mut agreed = Vec::new();
        for records in alike.values() {
            for record in records {
                let others = records.iter().filter(|other| other.id != record.id);
                let others: Vec<_> = others.cloned().collect();
                agreed.push(self.agree(record.clone(), &others, Some(record), mark)?);
            }
        }
        Ok(agreed)
    }

    /// Has the tunnels changed whose effective policy changes when others that are like them come
    /// or go. `all` are those that are up then.
    pub(super) fn follow(
        &self,
        change: &mut Change,
        changing: &[TunnelRecord],
        all: &[&TunnelRecord],
    ) -> Result<(), ApplyError> {
        let mark = self.installed(change.ruleset)?.mark;
        for old in changing {
            let others = all.iter().filter(|other| other.id != old.id);
            let others: Vec<_> = others.map(|other| (*other).clone()).collect();
            let new = self.agree(old.clone(), &others, Some(old), mark)?;
            if new != *old {
                change.removed.push(Record::from(old.clone()));
                change.added.push(new.into());
            }
        }
        Ok(())
    }
}

/// What to say where a tunnel comes up with a policy that has no intersection with that of the
/// first one like it, or of the first one that has it up. Nothing, if somebody has it up with the
/// same policy: that was said then.
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
