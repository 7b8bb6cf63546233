//! Which record a call means.

use std::collections::BTreeMap;

use super::{ApplyError, Engine};
use crate::daemon::{Scope, Tunnel, UpCounting};
use crate::firewall::{
    DispatchBucket, PacketPath, Precedence, SharedChains, TunnelId, TunnelKey, can_move, may_have_become,
};
use crate::netfilter::iptables::Tables;
use crate::netfilter::{Backend, Ruleset};
use crate::settings::Policy;
use crate::state::{Opener, RecordError, Store, TunnelRecord, TunnelSlot};

impl<T: Tables> Engine<'_, T> {
    /// A tunnel's record: in the ruleset of the backend that `iptables` is now, or of another that
    /// it was when the tunnel came up.
    fn find_record(&self, tunnel: &Tunnel, key: &TunnelKey) -> Result<Option<(Ruleset, TunnelRecord)>, ApplyError> {
        Ok(match self.find_slot(tunnel, key)? {
            FoundSlot::Taken(ruleset, record) => Some((ruleset, *record)),
            FoundSlot::Free(_) => None,
        })
    }

    /// Whether a tunnel is recorded.
    pub(super) fn is_recorded(&self, tunnel: &Tunnel, key: &TunnelKey) -> Result<bool, ApplyError> {
        Ok(self.find_record(tunnel, key)?.is_some())
    }

    /// A tunnel's record, or where the record of a new one goes: its ruleset and its name.
    pub(super) fn find_or_place(
        &self,
        tunnel: &Tunnel,
        key: &TunnelKey,
    ) -> Result<(Ruleset, Option<TunnelRecord>, TunnelId), ApplyError> {
        let mut free = match self.find_slot(tunnel, key)? {
            FoundSlot::Taken(ruleset, record) => return Ok((ruleset, Some(*record.clone()), record.id)),
            FoundSlot::Free(free) => free,
        };
        let family = tunnel.family();
        let ruleset = Ruleset {
            backend: self.tables.default_backend(family)?,
            family,
        };
        let id = free.remove(&ruleset).ok_or_else(|| RecordError::NoName {
            connection: key.connection.to_string(),
        })?;
        Ok((ruleset, None, id))
    }

    fn find_slot(&self, tunnel: &Tunnel, key: &TunnelKey) -> Result<FoundSlot, ApplyError> {
        let mut free = BTreeMap::new();
        for ruleset in rulesets(tunnel) {
            match self.store.tunnel_slot(ruleset, key)? {
                TunnelSlot::Taken(record) => return Ok(FoundSlot::Taken(ruleset, record)),
                TunnelSlot::Free(id) => free.insert(ruleset, id),
            };
        }
        Ok(FoundSlot::Free(free))
    }

    /// The record that a `down` means, and under charon whose `up` in it.
    ///
    /// charon has several tunnels of one name up at a time, with equal selectors and one reqid.
    /// PLUTO_UNIQUEID is the number of an IKE association: where it is recorded it decides. It
    /// changes without a call when the association is rekeyed; then the peer's identity decides,
    /// and among several ups of one peer the one without which the least is allowed.
    ///
    /// MOBIKE changes reqid and selectors of a tunnel to the peer's own address without a call
    /// (5.9.6 and later), to those of another one that is up. So in that case its peer's other
    /// tunnels are looked at too. A tunnel to a network keeps its selectors, but can get another
    /// reqid together with one that does not.
    ///
    /// An `up` that failed is not recorded, and its `down` must not close another tunnel. So if
    /// none of this holds, the `down` has no effect.
    pub(super) fn find_open(&self, tunnel: &Tunnel) -> Result<Option<Meant>, ApplyError> {
        let key = TunnelKey::from_tunnel(tunnel);
        let recorded: Vec<_> = self.find_record(tunnel, &key)?.into_iter().collect();
        match tunnel.up_counting {
            UpCounting::Counted => {}
            UpCounting::Single | UpCounting::Instances => {
                return Ok(recorded.into_iter().next().map(Meant::whole_record));
            }
        }
        let by_number = |opener: &Opener| opener.has_number_of(tunnel);
        let by_identity = |opener: &Opener| opener.has_identity_of(tunnel);
        let by_doubt = |opener: &Opener| opener.may_have_identity_of(tunnel);
        if let Some(meant) = only_record_with(&recorded, by_number) {
            return Ok(Some(meant));
        }
        let moved = self.moved(tunnel, &key)?;
        let found = only_record_with(&moved, by_number)
            .or_else(|| only_record_with(&recorded, by_identity))
            .or_else(|| only_record_with(&recorded, by_doubt))
            .or_else(|| only_record_with(&moved, by_identity));
        if found.is_some() {
            return Ok(found);
        }
        let by_moved_number = |opener: &Opener| opener.has_number_of(tunnel) && opener.has_other_hosts_than(tunnel);
        Ok(only_record_with(&self.renumbered(tunnel, &key)?, by_moved_number))
    }

    /// The peer's tunnels under other keys that MOBIKE may have made this one of.
    fn moved(&self, tunnel: &Tunnel, key: &TunnelKey) -> Result<Vec<(Ruleset, TunnelRecord)>, ApplyError> {
        if !can_move(tunnel) {
            return Ok(Vec::new());
        }
        let is_meant = |record: &TunnelRecord| record.key != *key && may_have_become(&record.tunnel, tunnel);
        self.in_each_ruleset(
            tunnel,
            |store, ruleset| store.tunnels_of_mobile_peer(ruleset, tunnel),
            is_meant,
        )
    }

    /// The tunnels that differ only in the reqid.
    fn renumbered(&self, tunnel: &Tunnel, key: &TunnelKey) -> Result<Vec<(Ruleset, TunnelRecord)>, ApplyError> {
        let buckets = Precedence::ALL
            .map(|precedence| DispatchBucket::for_remote(any_path(tunnel), precedence, &tunnel.remote_client));
        let is_meant = |record: &TunnelRecord| record.key != *key && record.key.same_but_reqid(key);
        let in_buckets = |store: &Store, ruleset| {
            let records = buckets.map(|bucket| store.tunnels_at(ruleset, &SharedChains::Bucket(bucket)));
            let records: Result<Vec<_>, _> = records.into_iter().collect();
            Ok(records?.concat())
        };
        self.in_each_ruleset(tunnel, in_buckets, is_meant)
    }

    fn in_each_ruleset(
        &self,
        tunnel: &Tunnel,
        records: impl Fn(&Store, Ruleset) -> Result<Vec<TunnelRecord>, RecordError>,
        is_meant: impl Fn(&TunnelRecord) -> bool,
    ) -> Result<Vec<(Ruleset, TunnelRecord)>, ApplyError> {
        let mut found = Vec::new();
        for ruleset in rulesets(tunnel) {
            let records = records(self.store, ruleset)?.into_iter();
            found.extend(records.filter(&is_meant).map(|record| (ruleset, record)));
        }
        Ok(found)
    }
}

/// Where a tunnel's record is, in all rulesets of its family.
enum FoundSlot {
    /// In this one.
    Taken(Ruleset, Box<TunnelRecord>),
    /// In none. It may bear these names.
    Free(BTreeMap<Ruleset, TunnelId>),
}

/// The record that a `down` closes.
#[derive(Debug)]
pub(super) struct Meant {
    pub(super) ruleset: Ruleset,
    pub(super) record: TunnelRecord,
    /// The record afterwards, if other openers have the tunnel up.
    pub(super) left: Option<TunnelRecord>,
}

impl Meant {
    fn whole_record((ruleset, record): (Ruleset, TunnelRecord)) -> Self {
        Self {
            ruleset,
            record,
            left: None,
        }
    }
}

/// The record with an `up` that is meant, if there is only one: two are for different selectors,
/// and the wrong one may be alive.
fn only_record_with(records: &[(Ruleset, TunnelRecord)], is_meant: impl Fn(&Opener) -> bool) -> Option<Meant> {
    let mut found = records
        .iter()
        .filter(|(_, record)| record.opened_by().iter().any(&is_meant));
    let (ruleset, record) = found.next()?;
    found.next().is_none().then(|| Meant {
        ruleset: *ruleset,
        record: record.clone(),
        left: strictest_rest(record, is_meant),
    })
}

/// A tunnel without one of its matching openers: the one without which the policy is strictest. If
/// no policy is strictest, the policy is the intersection of the candidates: it must not be more
/// open than without any one of them.
fn strictest_rest(record: &TunnelRecord, is_meant: impl Fn(&Opener) -> bool) -> Option<TunnelRecord> {
    let openers = record.opened_by();
    let without = |leaving: usize| {
        let mut rest = openers.clone();
        rest.remove(leaving);
        rest
    };
    let meant = openers.iter().enumerate().filter(|(_, opener)| is_meant(opener));
    let mut rests = meant
        .map(|(leaving, _)| without(leaving))
        .filter(|rest| !rest.is_empty());
    let mut strictest = rests.next()?;
    for rest in rests {
        let [policy, other] =
            [&strictest, &rest].map(|rest| Policy::of_all(rest.iter().filter_map(|one| one.policy.as_ref())));
        if policy.is_as_strict_as(&other) {
        } else if other.is_as_strict_as(&policy) {
            strictest = rest;
        } else if let Some(first) = strictest.first_mut() {
            first.policy = Some(policy.intersect(&other));
        }
    }
    Some(record.clone().with_openers(strictest))
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
