//! What opening and closing the firewall for a tunnel comes to.

use super::{ApplyError, Change, Engine, Plan, SettingsSource, TunnelOutcome, alike};
use crate::iptables::Tables;
use crate::netfilter::{Ruleset, Table};
use crate::plan::{
    NatExemption, OptionalChains, PolicyContext, SharedChains, TunnelId, TunnelKey, TunnelRules, esp_peer_rules, kept_sources, tunnel_rules,
};
use crate::record::{EspPeerRecord, FORMAT, Record, Recovery, TunnelRecord};
use crate::selector::{Family, MarkBit};
use crate::settings::{Esp, Policy, Settings};
use crate::updown_env::{Tunnel, UpCounting};

impl<T: Tables> Engine<'_, T> {
    /// Opens the firewall for a tunnel.
    ///
    /// # Errors
    /// If that is not possible; nothing of it is left then.
    pub fn open(&mut self, tunnel: &Tunnel) -> Result<TunnelOutcome, ApplyError> {
        let plan = self.plan_open(tunnel)?;
        for (index, change) in plan.changes.iter().enumerate() {
            if let Err(error) = self.carry_out(change) {
                // What was done in the other family's ruleset goes again. If that fails, the next `down` finds it.
                for done in plan.changes[..index].iter().rev() {
                    let _ = self.carry_out(&reversed(done));
                }
                return Err(error);
            }
        }
        self.notes.extend(plan.notes);
        Ok(plan.outcome)
    }

    /// Closes the firewall for a tunnel, by its record.
    ///
    /// # Errors
    /// If that is not possible; the record stands then.
    pub fn close(&mut self, tunnel: &Tunnel) -> Result<TunnelOutcome, ApplyError> {
        let plan = self.plan_close(tunnel)?;
        let results: Vec<_> = plan.changes.iter().map(|change| self.carry_out(change)).collect();
        results.into_iter().collect::<Result<(), _>>()?;
        Ok(plan.outcome)
    }

    /// What opening the firewall for a tunnel comes to.
    ///
    /// # Errors
    /// If the record cannot be read, there is no iptables, or what is set for the tunnel does not go with it.
    pub fn plan_open(&self, tunnel: &Tunnel) -> Result<Plan, ApplyError> {
        let key = TunnelKey::from_tunnel(tunnel);
        let (ruleset, old, id) = match self.find_record(tunnel, &key)? {
            Some((ruleset, old)) => (ruleset, Some(old.clone()), old.id),
            None => self.place(tunnel, &key)?,
        };
        let (count, recovery) = match tunnel.up_counting {
            UpCounting::Counted => (
                old.as_ref().map_or(1, |old| old.count.saturating_add(1)),
                Recovery::RollForward,
            ),
            UpCounting::Single | UpCounting::Instances => (1, Recovery::RollBack),
        };
        let alike = self.others_alike(ruleset, tunnel, &id)?;
        let last = alike.iter().map(|other| other.turn.saturating_add(1)).max();
        let new = TunnelRecord {
            format: FORMAT,
            id,
            key,
            up_counting: tunnel.up_counting,
            count,
            since: self.context.now,
            daemon: self.context.daemon,
            tunnel: tunnel.clone(),
            policy: self.context.settings.policy(tunnel),
            effective: None,
            turn: old.as_ref().map_or(last.unwrap_or_default(), |old| old.turn),
            tunnel_rules: TunnelRules::default(),
        };
        let mut new = self.agree(new, &alike, old.as_ref(), self.installed(ruleset)?.mark)?;
        let stood = old.as_ref().filter(|old| old.tunnel_rules == new.tunnel_rules);
        new.since = stood.map_or(new.since, |old| old.since);
        let outcome = match stood {
            Some(_) => TunnelOutcome::AlreadyOpen(count),
            None => TunnelOutcome::Opened,
        };
        let changes_policy = old.as_ref().is_none_or(|old| old.policy != new.policy);
        let conflict = alike::conflict(&new, &alike).filter(|_| changes_policy);
        let unguarded = self.unguarded(&new).filter(|_| changes_policy);
        let mut changes = Vec::from_iter(self.plan_esp_peer_open(&new, recovery)?);
        let mut change = Change {
            ruleset,
            removed: old.map(Record::from).into_iter().collect(),
            added: Vec::new(),
            recovery,
        };
        self.add_clear_text_blocks(&mut change, &new)?;
        let all: Vec<_> = alike.iter().chain([&new]).collect();
        self.follow(&mut change, &alike, &all)?;
        change.added.push(new.into());
        changes.push(change);
        Ok(Plan {
            changes,
            outcome,
            notes: conflict.into_iter().chain(unguarded).collect(),
        })
    }

    /// The rules of a tunnel. One whose nat table takes none of ours goes on without.
    pub(super) fn tunnel_rules(
        &self,
        tunnel: &Tunnel,
        id: &TunnelId,
        policy: &Policy,
        old: Option<&TunnelRecord>,
        mark: MarkBit,
    ) -> Result<TunnelRules, ApplyError> {
        let (esp, nat_exemption) = self.of_all_tunnels(old);
        let recorded = || old.map(|old| kept_sources(&old.tunnel_rules)).unwrap_or_default();
        let connected = self.context.connected.clone().unwrap_or_else(recorded);
        let terms = PolicyContext {
            policy,
            connected: &connected,
            esp,
            nat_exemption,
            mark,
            interfaces: &self.context.interfaces,
            path_mtu: tunnel
                .remote_host
                .and_then(|peer| self.context.path_mtus.get(&peer).copied()),
        };
        let tunnel_rules = tunnel_rules(tunnel, id, &terms).map_err(|fault| ApplyError::Policy {
            connection: tunnel.connection.clone(),
            fault,
        })?;
        let spared = old.is_some_and(|old| old.tunnel_rules == tunnel_rules.clone().without_nat());
        match spared && tunnel_rules.can_omit_nat() {
            true => Ok(tunnel_rules.without_nat()),
            false => Ok(tunnel_rules),
        }
    }

    /// What is set for all tunnels alike; where that is not known, what it was when this one's rules were made.
    fn of_all_tunnels(&self, old: Option<&TunnelRecord>) -> (Esp, NatExemption) {
        let settings = &self.context.settings;
        let (esp, leaves_nat_alone) = match (self.context.settings_source, old) {
            (SettingsSource::Record, Some(old)) => {
                let esp_peers = SharedChains::Optional(OptionalChains::EspPeers);
                let esp = match old.tunnel_rules.shared_chains().contains(&esp_peers) {
                    true => Esp::Negotiated,
                    false => Esp::Leave,
                };
                (esp, !old.tunnel_rules.tables().contains(&Table::Nat))
            }
            (SettingsSource::Record, None) | (SettingsSource::File, _) => {
                (settings.gateway.esp, settings.leaves_nat_alone())
            }
        };
        match leaves_nat_alone {
            true => (esp, NatExemption::Never),
            false => (esp, NatExemption::Possible),
        }
    }

    /// What lets in the ESP of a tunnel whose packets are of the other family. Before the tunnel itself, which nothing comes by without it.
    fn plan_esp_peer_open(&self, record: &TunnelRecord, recovery: Recovery) -> Result<Option<Change>, ApplyError> {
        let Some((family, new)) = outer(record, &self.context.settings) else {
            return Ok(None);
        };
        let ruleset = Ruleset {
            backend: self.tables.default_backend(family)?,
            family,
        };
        let old = self.store.entry(ruleset, &new.id)?;
        Ok(Some(Change {
            ruleset,
            removed: old.into_iter().collect(),
            added: vec![Record::EspPeer(new)],
            recovery,
        }))
    }

    /// Has a tunnel's networks held apart, if that is set for it. That stays when the tunnel goes.
    fn add_clear_text_blocks(&self, change: &mut Change, record: &TunnelRecord) -> Result<(), ApplyError> {
        for new in self.clear_text_blocks(change.ruleset, record)? {
            let old = self.store.entry(change.ruleset, new.id())?;
            if let Some(Record::ClearTextBlock(old)) = &old
                && old.tunnel_rules == *new.tunnel_rules()
                && old.tunnel.is_some()
            {
                continue;
            }
            change.removed.extend(old);
            change.added.push(new);
        }
        Ok(())
    }

    /// What closing it comes to; no work, if the tunnel is not on record.
    ///
    /// # Errors
    /// If the record cannot be read.
    pub fn plan_close(&self, tunnel: &Tunnel) -> Result<Plan, ApplyError> {
        let Some((ruleset, record)) = self.find_open(tunnel)? else {
            return Ok(Plan {
                changes: match crosses(tunnel) {
                    true => self.plan_esp_peer_close(TunnelKey::from_tunnel(tunnel).ids())?,
                    false => Vec::new(),
                },
                outcome: TunnelOutcome::NothingThere,
                notes: Vec::new(),
            });
        };
        let (id, crosses) = (record.id.clone(), crosses(&record.tunnel));
        let left = record.count.saturating_sub(1);
        let (added, outcome) = match left {
            0 => (Vec::new(), TunnelOutcome::Closed),
            1.. => (
                vec![Record::from(TunnelRecord {
                    count: left,
                    ..record.clone()
                })],
                TunnelOutcome::StillNeeded(left),
            ),
        };
        let alike = self.others_alike(ruleset, &record.tunnel, &id)?;
        let mut change = Change {
            ruleset,
            removed: vec![record.into()],
            added,
            recovery: Recovery::RollForward,
        };
        if outcome == TunnelOutcome::Closed {
            self.follow(&mut change, &alike, &alike.iter().collect::<Vec<_>>())?;
        }
        let mut changes = vec![change];
        if outcome == TunnelOutcome::Closed && crosses {
            changes.extend(self.plan_esp_peer_close([id])?);
        }
        Ok(Plan {
            changes,
            outcome,
            notes: Vec::new(),
        })
    }

    pub(super) fn plan_esp_peer_close(
        &self,
        ids: impl IntoIterator<Item = TunnelId>,
    ) -> Result<Vec<Change>, ApplyError> {
        let mut changes = Vec::new();
        for outer in ids.into_iter().map(|id| TunnelId::for_esp_peer(&id)) {
            for ruleset in Ruleset::all() {
                if let Some(entry) = self.store.entry(ruleset, &outer)? {
                    changes.push(Change {
                        ruleset,
                        removed: vec![entry],
                        added: Vec::new(),
                        recovery: Recovery::RollForward,
                    });
                }
            }
        }
        Ok(changes)
    }
}

/// Whether a tunnel's packets are of another family than what they are sent in.
pub(super) fn crosses(tunnel: &Tunnel) -> bool {
    tunnel
        .remote_host
        .is_some_and(|peer| Family::of_address(peer) != tunnel.family())
}

/// What undoes some work.
fn reversed(change: &Change) -> Change {
    Change {
        ruleset: change.ruleset,
        removed: change.added.clone(),
        added: change.removed.clone(),
        recovery: Recovery::RollForward,
    }
}

/// What lets in ESP for a tunnel whose packets are of the other family, and the family of its ruleset; nothing, if that is not asked for.
pub(super) fn outer(record: &TunnelRecord, settings: &Settings) -> Option<(Family, EspPeerRecord)> {
    match settings.gateway.esp {
        Esp::Negotiated => {}
        Esp::Any | Esp::Known | Esp::Leave => return None,
    }
    let peer = record.tunnel.remote_host.filter(|_| crosses(&record.tunnel))?;
    let new = EspPeerRecord {
        format: FORMAT,
        id: TunnelId::for_esp_peer(&record.id),
        daemon: record.daemon,
        tunnel_rules: esp_peer_rules(peer),
    };
    Some((Family::of_address(peer), new))
}
