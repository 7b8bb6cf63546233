//! Opens and closes the firewall for a tunnel.

use std::collections::BTreeSet;
use std::net::IpAddr;

use log::warn;

use super::find::Meant;
use super::forget::Owed;
use super::{ApplyError, Change, Context, Engine, Note, Plan, SettingsOrigin, TunnelOutcome, alike};
use crate::daemon::{Tunnel, UpCounting};
use crate::firewall::{
    MissingInterface, NatExemption, OptionalChains, PolicyContext, SharedChains, TunnelId, TunnelKey, TunnelRules,
    esp_peer_rules, kept_sources, tunnel_rules,
};
use crate::net::Family;
use crate::netfilter::iptables::Tables;
use crate::netfilter::{Backend, Ruleset, Table};
use crate::netlink::XfrmInterface;
use crate::settings::{Esp, Mss, Policy};
use crate::state::{EspPeerRecord, FORMAT, FailedUp, Opener, Record, RecordError, Recovery, TunnelRecord};

impl<T: Tables> Engine<'_, T> {
    /// Opens the firewall for a tunnel.
    ///
    /// # Errors
    /// If it fails; no rule of the tunnel is installed then.
    pub fn open_tunnel(&mut self, tunnel: &Tunnel) -> Result<TunnelOutcome, ApplyError> {
        // The owed `down` would later remove what is installed now.
        let failed_owed_downs = self
            .failed_owed_downs
            .iter()
            .position(|(connection, _)| *connection == tunnel.connection);
        if let Some(index) = failed_owed_downs {
            return Err(self.failed_owed_downs.swap_remove(index).1);
        }
        // Before anything is written: until then this costs nothing.
        let has_failed_ups = self.store.has_failed_ups()?;
        let outcome = self.open_and_count(tunnel)?;
        if has_failed_ups {
            self.count_failed_ups(tunnel, &[tunnel.unique_id]);
        }
        Ok(outcome)
    }

    /// Counts as up the SAs of a tunnel whose `up` failed before it got its rules. charon ignores
    /// such a failure, so their `down` comes too. It must not be taken for that of an SA that is
    /// up: at a reauthentication it comes after the `up` of the new SA. `counted` are the numbers
    /// of the SAs that the record has.
    pub(super) fn count_failed_ups(&mut self, tunnel: &Tunnel, counted: &[Option<u32>]) {
        // After an error they may go on being shown; the rules are installed all the same.
        let failed = self.store.failed_ups_of(tunnel).unwrap_or_default();
        let _ = self.store.forget_failed_up(tunnel);
        let is_other = |failed: &&FailedUp| {
            failed.tunnel.up_counting == UpCounting::Counted
                && !counted.contains(&failed.tunnel.unique_id)
                && failed.daemon == self.context.daemon
        };
        let others: Vec<_> = failed.iter().filter(is_other).collect();
        for other in others {
            if let Err(error) = self.open_and_count(&other.tunnel) {
                warn!("{}: {error}", tunnel.connection);
            }
        }
    }

    fn open_and_count(&mut self, tunnel: &Tunnel) -> Result<TunnelOutcome, ApplyError> {
        let plan = self.plan_open(tunnel)?;
        for (index, change) in plan.changes.iter().enumerate() {
            if let Err(error) = self.carry_out(change) {
                // The changes in the other family's ruleset are undone. If that fails, the next
                // `down` removes them.
                for done in plan.changes[..index].iter().rev() {
                    let _ = self.carry_out(&reversed(done));
                }
                return Err(error);
            }
        }
        self.notes.extend(plan.notes);
        Ok(plan.outcome)
    }

    /// Opens the firewall for a tunnel with the context that its `up` would have had.
    pub(crate) fn open_late(&mut self, tunnel: &Tunnel, context: Context) -> Result<TunnelOutcome, ApplyError> {
        let own = std::mem::replace(&mut self.context, context);
        let opened = self.open_and_count(tunnel);
        self.context = own;
        if opened.is_ok() {
            let _ = self.store.forget_ended_up(tunnel);
        }
        opened
    }

    /// Closes the firewall for a tunnel, by its record. If that fails, the `down` is noted, and the
    /// next call of any kind executes it.
    ///
    /// # Errors
    /// If that is not possible.
    pub fn close_tunnel(&mut self, tunnel: &Tunnel) -> Result<TunnelOutcome, ApplyError> {
        // The tunnel is no longer up, whether or not its rules can be removed. An error here keeps
        // no rule installed. Not where an owed `down` is executed: an `up` may have failed since.
        let has_failed_ups = self.store.has_failed_ups().unwrap_or_default();
        let was_noted = has_failed_ups && self.store.forget_ended_up(tunnel).unwrap_or_default();
        // In order: the effect of the second one depends on the first.
        if let Err(error) = self.check_unpaid(tunnel) {
            return Err(self.note_failed_down(tunnel, error));
        }
        let (closed, owed) = self.try_close(tunnel);
        if has_failed_ups && !was_noted && matches!(closed, Ok(TunnelOutcome::NothingThere)) {
            let _ = self.store.forget_moved_failed_up(tunnel);
        }
        match (closed, owed) {
            (Err(error), Owed::Note) => Err(self.note_failed_down(tunnel, error)),
            (closed, Owed::Note | Owed::Nothing) => closed,
        }
    }

    /// The plan that opens the firewall for a tunnel.
    ///
    /// # Errors
    /// If the record cannot be read, there is no iptables, or the tunnel's settings conflict with
    /// the tunnel.
    pub(crate) fn plan_open(&self, tunnel: &Tunnel) -> Result<Plan, ApplyError> {
        let key = TunnelKey::from_tunnel(tunnel);
        let (ruleset, old, id) = self.find_or_place(tunnel, &key)?;
        let recovery = match tunnel.up_counting {
            UpCounting::Counted => Recovery::RollForward,
            UpCounting::Single | UpCounting::Instances => Recovery::RollBack,
        };
        let alike = self.others_alike(ruleset, tunnel, &id)?;
        let last = alike.iter().map(|other| other.turn.saturating_add(1)).max();
        let policy = self.context.settings.policy(tunnel);
        let conflict = alike::conflict(tunnel, &policy, old.as_ref(), &alike);
        let new = TunnelRecord {
            format: FORMAT,
            id,
            key,
            up_counting: tunnel.up_counting,
            count: 1,
            since: self.context.now,
            daemon: self.context.daemon,
            tunnel: tunnel.clone(),
            policy,
            openers: Vec::new(),
            effective: None,
            turn: old.as_ref().map_or(last.unwrap_or_default(), |old| old.turn),
            tunnel_rules: TunnelRules::default(),
        };
        let new = opened(new, old.as_ref());
        let count = new.count;
        let mut new = self.agree(new, &alike, old.as_ref())?;
        let unchanged = old.as_ref().filter(|old| old.tunnel_rules == new.tunnel_rules);
        new.since = unchanged.map_or(new.since, |old| old.since);
        let outcome = match unchanged {
            Some(_) => TunnelOutcome::AlreadyOpen(count),
            None => TunnelOutcome::Opened,
        };
        let changes_policy = old.as_ref().is_none_or(|old| old.policy != new.policy);
        let conflict = conflict.filter(|_| changes_policy || count > 1);
        let unguarded = self.unguarded(&new).filter(|_| changes_policy);
        let missing = missing_interface(&new);
        let mut changes = Vec::from_iter(self.plan_esp_peers(ruleset, old.as_ref(), Some(&new), recovery)?);
        let mut change = Change {
            ruleset,
            removed: old.map(Record::from).into_iter().collect(),
            added: Vec::new(),
            recovery,
        };
        self.add_clear_text_blocks(&mut change, &new)?;
        let all: Vec<_> = alike.iter().chain([&new]).collect();
        self.change_affected(&mut change, &alike, &all)?;
        change.added.push(new.into());
        changes.push(change);
        Ok(Plan {
            changes,
            outcome,
            notes: conflict.into_iter().chain(unguarded).chain(missing).collect(),
        })
    }

    /// The rules of a tunnel, without those of the nat table if that cannot have any.
    pub(super) fn tunnel_rules(
        &self,
        record: &TunnelRecord,
        policy: &Policy,
        old: Option<&TunnelRecord>,
    ) -> Result<TunnelRules, ApplyError> {
        let (tunnel, peers, ipcomp_hosts) = (&record.tunnel, record.peers(), record.ipcomp_hosts());
        let (esp, nat_exemption) = self.of_all_tunnels(old);
        let recorded = || old.map(|old| kept_sources(&old.tunnel_rules)).unwrap_or_default();
        let asked = || self.context.ask_connected.filter(|_| policy.bypasses_connected())?();
        let connected = match (&self.context.connected, recorded()) {
            (Some(connected), _) => connected.clone(),
            // The policy before may have excepted no networks.
            (None, recorded) if recorded.is_empty() => asked().unwrap_or_default(),
            (None, recorded) => recorded,
        };
        let interfaces = self.interfaces(tunnel, old);
        let context = PolicyContext {
            policy,
            connected: &connected,
            esp,
            peers: &peers,
            ipcomp_hosts: &ipcomp_hosts,
            nat_exemption,
            interfaces: &interfaces,
            path_mtu: tunnel
                .remote_host
                .filter(|_| policy.mss == Mss::PathMtu)
                .and_then(|peer| self.path_mtu(peer)),
        };
        let tunnel_rules = tunnel_rules(tunnel, &record.id, &context).map_err(|fault| ApplyError::Policy {
            connection: tunnel.connection.clone(),
            fault,
        })?;
        let spared = old.is_some_and(|old| old.tunnel_rules == tunnel_rules.clone().without_nat());
        match spared && tunnel_rules.can_omit_nat() {
            true => Ok(tunnel_rules.without_nat()),
            false => Ok(tunnel_rules),
        }
    }

    fn path_mtu(&self, peer: IpAddr) -> Option<u16> {
        let known = self.context.path_mtus.get(&peer).copied();
        known.or_else(|| self.context.ask_path_mtu?(peer))
    }

    /// The existing XFRM interfaces; if the call did not query them, the one in the tunnel's
    /// recorded rules.
    fn interfaces(&self, tunnel: &Tunnel, old: Option<&TunnelRecord>) -> Vec<XfrmInterface> {
        let recorded = || {
            let interface = old?.tunnel_rules.interface.clone()?;
            let if_id = tunnel.if_id_out?;
            Some(XfrmInterface { interface, if_id })
        };
        match self.context.interfaces.is_empty() {
            true => recorded().into_iter().collect(),
            false => self.context.interfaces.clone(),
        }
    }

    /// The settings for all tunnels; if they are unknown, those in this tunnel's recorded rules.
    fn of_all_tunnels(&self, old: Option<&TunnelRecord>) -> (Esp, NatExemption) {
        let settings = &self.context.settings;
        let (esp, leaves_nat_alone) = match (self.context.settings_origin, old) {
            (SettingsOrigin::Record, Some(old)) => {
                let esp_peers = SharedChains::Optional(OptionalChains::EspPeers);
                let esp = match old.tunnel_rules.shared_chains().contains(&esp_peers) {
                    true => Esp::Negotiated,
                    false => Esp::Leave,
                };
                (esp, !old.tunnel_rules.tables().contains(&Table::Nat))
            }
            (SettingsOrigin::Record, None) | (SettingsOrigin::File, _) => {
                (settings.gateway.esp, settings.leaves_nat_alone())
            }
        };
        match leaves_nat_alone {
            true => (esp, NatExemption::Never),
            false => (esp, NatExemption::Possible),
        }
    }

    /// The changes of the records that accept ESP for a tunnel in other rulesets than its own, as
    /// long as the tunnel has an opener. At `up` they precede the tunnel's own change, because no
    /// packet arrives without them; at `down` they follow.
    fn plan_esp_peers(
        &self,
        ruleset: Ruleset,
        old: Option<&TunnelRecord>,
        new: Option<&TunnelRecord>,
        recovery: Recovery,
    ) -> Result<Vec<Change>, ApplyError> {
        let Some(id) = new.or(old).map(|record| &record.id) else {
            return Ok(Vec::new());
        };
        if !self.may_have_esp_peers(ruleset, old.into_iter().chain(new))? {
            return Ok(Vec::new());
        }
        let mut changes = self.plan_esp_peer_close([id.clone()])?;
        let esp = match (self.context.settings_origin, changes.is_empty()) {
            (SettingsOrigin::File, _) => self.context.settings.gateway.esp,
            (SettingsOrigin::Record, true) => Esp::Leave,
            (SettingsOrigin::Record, false) => Esp::Negotiated,
        };
        let Some(new) = new.filter(|_| negotiates(esp)) else {
            return Ok(changes);
        };
        for target in self.esp_rulesets(ruleset, new)? {
            let Some(wanted) = esp_peer(new, target.family) else {
                continue;
            };
            let stays = changes.iter().position(|change| change.ruleset == target);
            let removed = stays.map(|index| changes.remove(index).removed);
            changes.push(Change {
                ruleset: target,
                removed: removed.unwrap_or_default(),
                added: vec![Record::EspPeer(wanted)],
                recovery,
            });
        }
        Ok(changes)
    }

    /// Whether a tunnel's ESP may have to be accepted in another ruleset than its own: if its inner
    /// packets are of another family, or if another iptables has installed rules before.
    pub(super) fn may_have_esp_peers<'r>(
        &self,
        ruleset: Ruleset,
        mut records: impl Iterator<Item = &'r TunnelRecord>,
    ) -> Result<bool, RecordError> {
        if records.any(crosses) {
            return Ok(true);
        }
        for backend in Backend::ALL.into_iter().filter(|backend| *backend != ruleset.backend) {
            if self.store.has_entries(Ruleset { backend, ..ruleset })? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The other rulesets in which a tunnel's ESP is to be accepted: the default one of the peers'
    /// family, and those in which the gateway drops the ESP of unknown peers. Before `start` has
    /// moved all rules to another iptables, that can be one of the iptables before.
    fn esp_rulesets(&self, own: Ruleset, record: &TunnelRecord) -> Result<BTreeSet<Ruleset>, ApplyError> {
        let mut rulesets = BTreeSet::new();
        let families: BTreeSet<_> = record.peers().into_iter().map(Family::of_address).collect();
        for family in families {
            if family != own.family {
                let backend = self.tables.default_backend(family)?;
                rulesets.insert(Ruleset { backend, family });
            }
            for backend in Backend::ALL {
                let ruleset = Ruleset { backend, family };
                if ruleset != own && self.store.has_entries(ruleset)? && self.knows_esp_peers(ruleset)? {
                    rulesets.insert(ruleset);
                }
            }
        }
        Ok(rulesets)
    }

    fn knows_esp_peers(&self, ruleset: Ruleset) -> Result<bool, RecordError> {
        let gateway = self.store.readable_entry(ruleset, &TunnelId::for_gateway())?;
        Ok(gateway.is_some_and(|gateway| gateway.tunnel_rules().optional.contains(&OptionalChains::EspPeers)))
    }

    /// Adds the blocked pairs of a tunnel, if its policy asks for them. They stay when the tunnel
    /// goes down.
    fn add_clear_text_blocks(&self, change: &mut Change, record: &TunnelRecord) -> Result<(), ApplyError> {
        for new in self.clear_text_blocks(change.ruleset, record)? {
            let old = match self.store.entry(change.ruleset, new.id()) {
                // It blocks the pair as it is.
                Err(error) if error.is_of_content() => continue,
                other => other?,
            };
            if old.as_ref() == Some(&new) {
                continue;
            }
            change.removed.extend(old);
            change.added.push(new);
        }
        Ok(())
    }

    /// The plan that closes the firewall for a tunnel; without changes if the tunnel is not
    /// recorded.
    pub(crate) fn plan_close(&self, tunnel: &Tunnel) -> Result<Plan, ApplyError> {
        let Some(Meant { ruleset, record, left }) = self.find_open(tunnel)? else {
            return self.plan_close_nothing(tunnel);
        };
        let alike = self.readable_alike(ruleset, &record.tunnel, &record.id)?;
        let left = left.map(|left| self.left_open(left, &alike, &record)).transpose()?;
        let outcome = match &left {
            None => TunnelOutcome::Closed,
            Some(left) => TunnelOutcome::StillNeeded(left.count),
        };
        let esp_peers = self.plan_esp_peers(ruleset, Some(&record), left.as_ref(), Recovery::RollForward)?;
        let copies = match &left {
            None => self.plan_copy_removal(ruleset, &record)?,
            Some(_) => Vec::new(),
        };
        let mut change = Change {
            ruleset,
            removed: vec![record.into()],
            added: Vec::new(),
            recovery: Recovery::RollForward,
        };
        self.change_affected(&mut change, &alike, &alike.iter().chain(&left).collect::<Vec<_>>())?;
        change.added.extend(left.map(Record::from));
        Ok(Plan {
            changes: std::iter::once(change).chain(copies).chain(esp_peers).collect(),
            outcome,
            notes: Vec::new(),
        })
    }

    /// The changes that remove a tunnel from other rulesets of its family: a call that moved it
    /// there, or from there, has died.
    fn plan_copy_removal(&self, ruleset: Ruleset, record: &TunnelRecord) -> Result<Vec<Change>, RecordError> {
        let mut changes = Vec::new();
        for backend in Backend::ALL.into_iter().filter(|backend| *backend != ruleset.backend) {
            let other = Ruleset { backend, ..ruleset };
            let copy = match self.store.has_entries(other)? {
                true => self.store.readable_entry(other, &record.id)?,
                false => None,
            };
            if let Some(Record::Tunnel(copy)) = copy
                && copy.key == record.key
            {
                changes.push(Change {
                    ruleset: other,
                    removed: vec![Record::Tunnel(copy)],
                    added: Vec::new(),
                    recovery: Recovery::RollForward,
                });
            }
        }
        Ok(changes)
    }

    /// The plan for a `down` of a tunnel that is not up: the record that accepts its ESP may still
    /// exist.
    fn plan_close_nothing(&self, tunnel: &Tunnel) -> Result<Plan, ApplyError> {
        let key = TunnelKey::from_tunnel(tunnel);
        let other_family = tunnel
            .remote_host
            .is_some_and(|peer| Family::of_address(peer) != tunnel.family());
        let is_anothers = self.is_recorded(tunnel, &key)?;
        Ok(Plan {
            changes: match other_family && !is_anothers {
                true => self.plan_esp_peer_close(key.ids())?,
                false => Vec::new(),
            },
            outcome: TunnelOutcome::NothingThere,
            notes: Vec::new(),
        })
    }

    /// A tunnel after one of its openers is removed, with rules by the others' policies. If those
    /// rules cannot be made, the old ones stay, which are not more open.
    fn left_open(
        &self,
        left: TunnelRecord,
        alike: &[TunnelRecord],
        old: &TunnelRecord,
    ) -> Result<TunnelRecord, ApplyError> {
        let unchanged = |record: &TunnelRecord| {
            let hosts = (record.peers(), record.ipcomp_hosts());
            (record.policy.clone(), record.tunnel.host_access, hosts)
        };
        if unchanged(&left) == unchanged(old) {
            return Ok(left);
        }
        match self.agree(left.clone(), alike, Some(old)) {
            Err(ApplyError::Policy { .. }) => Ok(TunnelRecord {
                effective: Some(old.effective_policy().clone()),
                ..left
            }),
            other => other,
        }
    }

    pub(super) fn plan_esp_peer_close(
        &self,
        ids: impl IntoIterator<Item = TunnelId>,
    ) -> Result<Vec<Change>, ApplyError> {
        let mut changes = Vec::new();
        for outer in ids.into_iter().map(|id| TunnelId::for_esp_peer(&id)) {
            for ruleset in Ruleset::all_rulesets() {
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

/// Whether a tunnel's inner packets are of another family than the outer packets of one of its
/// peers.
fn crosses(record: &TunnelRecord) -> bool {
    let family = record.tunnel.family();
    record
        .peers()
        .into_iter()
        .any(|peer| Family::of_address(peer) != family)
}

/// A tunnel with one `up` more, where ups are counted; otherwise an `up` replaces the one before.
fn opened(new: TunnelRecord, old: Option<&TunnelRecord>) -> TunnelRecord {
    match new.up_counting {
        UpCounting::Single | UpCounting::Instances => new,
        UpCounting::Counted => {
            let mut openers = old.map(TunnelRecord::opened_by).unwrap_or_default();
            openers.push(Opener::of_call(&new.tunnel, new.policy.clone()));
            new.with_openers(openers)
        }
    }
}

/// The note for a tunnel whose XFRM interface does not exist.
fn missing_interface(record: &TunnelRecord) -> Option<Note> {
    let effect = MissingInterface::of_tunnel(
        &record.tunnel,
        record.effective_policy(),
        record.tunnel_rules.interface.as_ref(),
    )?;
    Some(Note::MissingInterface {
        connection: record.tunnel.connection.clone(),
        if_id: record.tunnel.if_id_out?,
        effect,
    })
}

/// The change that undoes a change.
fn reversed(change: &Change) -> Change {
    Change {
        ruleset: change.ruleset,
        removed: change.added.clone(),
        added: change.removed.clone(),
        recovery: Recovery::RollForward,
    }
}

/// The record that accepts the ESP of a tunnel's peers of a family in a ruleset that is not the
/// tunnel's own; `None` if it has none.
fn esp_peer(record: &TunnelRecord, family: Family) -> Option<EspPeerRecord> {
    let peers = record.peers().into_iter();
    let peers: Vec<_> = peers.filter(|peer| Family::of_address(*peer) == family).collect();
    (!peers.is_empty()).then(|| EspPeerRecord {
        format: FORMAT,
        id: TunnelId::for_esp_peer(&record.id),
        daemon: record.daemon,
        tunnel_rules: esp_peer_rules(peers),
    })
}

/// Whether the gateway accepts only ESP of peers whose tunnel is up.
fn negotiates(esp: Esp) -> bool {
    match esp {
        Esp::Negotiated => true,
        Esp::Any | Esp::Known | Esp::Leave => false,
    }
}

/// The record that accepts ESP for a tunnel whose inner packets are of the other family, and that
/// family; `None` if none is needed.
pub(super) fn other_family_esp(record: &TunnelRecord, esp: Esp) -> Option<(Family, EspPeerRecord)> {
    let mut families = Family::ALL
        .into_iter()
        .filter(|family| *family != record.tunnel.family());
    let family = families.next().filter(|_| negotiates(esp))?;
    Some((family, esp_peer(record, family)?))
}
