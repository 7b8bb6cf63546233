//! `start`, `stop` and `unblock`: the gateway's own rules, blocked pairs, and the effect of changed
//! settings on tunnels that are up.

use std::collections::{BTreeMap, BTreeSet};

use super::restore::all_rules;
use super::tunnel::other_family_esp;
use super::{ApplyError, Change, Engine, Note, checked, journal, may_be_drift};
use crate::daemon::ConnectionName;
use crate::firewall::{DesiredState, Drift, TunnelId, base_chain, block_order, gateway_rules, release_base_chains};
use crate::net::{Family, Network};
use crate::netfilter::iptables::{Tables, TablesError};
use crate::netfilter::{BuiltIn, Ruleset, SavedTable, Section, Table};
use crate::settings::JumpPlace;
use crate::state::{
    ClearTextBlockRecord, FORMAT, GatewayRecord, Installed, Record, RecordList, Recovery, TunnelRecord,
};

/// The records of each ruleset.
pub(crate) type RecordedRulesets = BTreeMap<Ruleset, Vec<Record>>;

/// The result of `start` or `stop`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StartReport {
    /// The rulesets that something was changed in.
    pub changed: BTreeSet<Ruleset>,
    /// The number of records now.
    pub installed: InstalledRecords,
}

/// The number of records, by kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct InstalledRecords {
    /// Tunnels.
    pub tunnels: usize,
    /// Families with a gateway's part.
    pub gateways: usize,
    /// Blocked pairs of networks.
    pub clear_text_blocks: usize,
}

/// The pairs to unblock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Blocked {
    /// All.
    All,
    /// Those of a connection of this name, and those of which one is this network: a connection can
    /// have a name that is a network.
    By {
        /// The name.
        connection: ConnectionName,
        /// The network, if the name is one.
        network: Option<Network>,
    },
}

impl Blocked {
    fn includes_block(&self, block: &ClearTextBlockRecord) -> bool {
        match self {
            Self::All => true,
            Self::By { connection, network } => {
                let is_end = |network| block.local == network || block.remote == network;
                block.is_for(connection) || network.is_some_and(is_end)
            }
        }
    }
}

impl<T: Tables> Engine<'_, T> {
    /// Applies the settings: the gateway's own rules, the blocked pairs, and the rules of tunnels
    /// that are up.
    ///
    /// A table changes in one commit, so that at no moment a restricted tunnel is open or an open
    /// one closed. Unchanged rules are not touched. Chains of this program that no record needs, as
    /// after a boot with rules that were saved while tunnels were up, are deleted.
    ///
    /// # Errors
    /// If settings conflict with a tunnel that is up, before anything is changed; or if the change
    /// fails.
    pub fn start(&mut self) -> Result<StartReport, ApplyError> {
        let wanted = self.desired_records(&self.recorded()?)?;
        let mut started = StartReport::default();
        // Where iptables is another one now, the rules are installed by that one before they are
        // removed from the one before: a packet must pass both meanwhile.
        let defaults: BTreeSet<_> = self.default_rulesets()?.into_values().collect();
        let others = Ruleset::all_rulesets().filter(|ruleset| !defaults.contains(ruleset));
        for ruleset in defaults.iter().copied().chain(others) {
            let wanted = wanted.get(&ruleset).map_or(&[][..], Vec::as_slice);
            let made = match self.reach_desired(ruleset, wanted) {
                // Another firewall that loads its rules at the same moment, as at boot, removes
                // what was just listed.
                Err(ApplyError::Tables(error)) if may_be_drift(&error) => self.reach_desired(ruleset, wanted),
                other => other,
            };
            if made? {
                started.changed.insert(ruleset);
            }
        }
        started.installed = self.installed_records()?;
        let is_missing = |family: &Family| {
            let backend = self.tables.default_backend(*family);
            matches!(backend, Err(TablesError::NoFamily(_))) && self.is_set_for(*family)
        };
        let missing: Vec<_> = Family::ALL.into_iter().filter(is_missing).collect();
        self.notes.extend(missing.into_iter().map(Note::NoFamily));
        Ok(started)
    }

    /// The changes of `start` in each ruleset, apart from moved jumps and leftover chains.
    ///
    /// # Errors
    /// If a record cannot be read, or settings conflict with a tunnel that is up.
    pub(crate) fn plan_start(&self) -> Result<Vec<Change>, ApplyError> {
        self.plan_start_from(&self.recorded()?)
    }

    /// The same, for records that have been read already.
    ///
    /// # Errors
    /// As for [`Engine::plan_start`].
    pub(crate) fn plan_start_from(&self, recorded: &RecordedRulesets) -> Result<Vec<Change>, ApplyError> {
        let wanted = self.desired_records(recorded)?;
        let changes = Ruleset::all_rulesets().map(|ruleset| {
            let [entries, wanted] = [recorded, &wanted].map(|all| all.get(&ruleset).map_or(&[][..], Vec::as_slice));
            difference(ruleset, entries, wanted)
        });
        Ok(changes.filter(|change| !change.is_empty()).collect())
    }

    fn recorded(&self) -> Result<RecordedRulesets, ApplyError> {
        let read = Ruleset::all_rulesets().map(|ruleset| Ok((ruleset, self.store.entries(ruleset)?)));
        read.collect()
    }

    /// Removes the gateway's own rules, and empty chains of this program to which no rule jumps any
    /// more. Tunnels stay as long as they are up, and blocked pairs stay blocked.
    ///
    /// # Errors
    /// If it cannot be done.
    pub fn stop(&mut self) -> Result<StartReport, ApplyError> {
        let mut started = self.remove(self.plan_stop()?)?;
        for (ruleset, sections) in self.plan_stop_chains()? {
            self.load_sections(ruleset, &sections)?;
            started.changed.insert(ruleset);
        }
        Ok(started)
    }

    /// The changes that `stop` makes, apart from empty chains that it removes.
    pub(crate) fn plan_stop(&self) -> Result<Vec<Change>, ApplyError> {
        self.plan_removal(|entry| matches!(entry, Record::Gateway(_)))
    }

    /// The changes of `stop` to chains that stay, with `place = "own"`, while they are empty,
    /// ruleset by ruleset: none while a tunnel or a blocked pair is recorded there.
    ///
    /// # Errors
    /// If a record cannot be read, or there is no iptables.
    pub(crate) fn plan_stop_chains(&mut self) -> Result<Vec<(Ruleset, Vec<Section>)>, ApplyError> {
        let mut planned = Vec::new();
        for ruleset in self.default_rulesets()?.into_values() {
            let entries = self.store.entries(ruleset)?;
            if entries.iter().all(|entry| matches!(entry, Record::Gateway(_))) {
                let sections = self.empty_base_chains(ruleset)?;
                planned.extend((!sections.is_empty()).then_some((ruleset, sections)));
            }
        }
        Ok(planned)
    }

    /// Removes the base chains of a ruleset that are empty, unless another rule jumps to them.
    fn empty_base_chains(&mut self, ruleset: Ruleset) -> Result<Vec<Section>, ApplyError> {
        // A table that does not exist has no rules of this program.
        match self.tables.save(ruleset, Table::Filter) {
            Ok(listing) => checked(release_base_chains(&SavedTable::parse(&listing, Table::Filter))),
            Err(_) => Ok(Vec::new()),
        }
    }

    /// Unblocks these pairs.
    ///
    /// # Errors
    /// If it cannot be done.
    pub fn unblock(&mut self, blocked: &Blocked) -> Result<StartReport, ApplyError> {
        self.remove(self.plan_unblock(blocked)?)
    }

    /// The changes that `unblock` makes.
    pub(crate) fn plan_unblock(&self, blocked: &Blocked) -> Result<Vec<Change>, ApplyError> {
        self.plan_removal(|entry| match entry {
            Record::ClearTextBlock(block) => blocked.includes_block(block),
            Record::Tunnel(_) | Record::Gateway(_) | Record::EspPeer(_) => false,
        })
    }

    fn plan_removal(&self, is_meant: impl Fn(&Record) -> bool) -> Result<Vec<Change>, ApplyError> {
        let mut changes = Vec::new();
        for ruleset in Ruleset::all_rulesets() {
            let RecordList { records, unreadable } = self.store.read_all(ruleset)?;
            // It may be meant.
            if let Some((_, error)) = unreadable.into_iter().find(|(id, _)| !id.is_tunnel()) {
                return Err(error.into());
            }
            let removed: Vec<_> = records.into_iter().filter(&is_meant).collect();
            if !removed.is_empty() {
                changes.push(Change {
                    ruleset,
                    removed,
                    added: Vec::new(),
                    recovery: Recovery::RollForward,
                });
            }
        }
        Ok(changes)
    }

    fn remove(&mut self, changes: Vec<Change>) -> Result<StartReport, ApplyError> {
        let mut started = StartReport::default();
        for change in changes {
            self.carry_out(&change)?;
            started.changed.insert(change.ruleset);
        }
        started.installed = self.installed_records()?;
        Ok(started)
    }

    /// The number of records, by kind.
    pub(crate) fn installed_records(&self) -> Result<InstalledRecords, ApplyError> {
        let mut installed = InstalledRecords::default();
        for ruleset in Ruleset::all_rulesets() {
            for entry in self.store.entries(ruleset)? {
                match entry {
                    Record::Tunnel(_) => installed.tunnels += 1,
                    Record::Gateway(_) => installed.gateways += 1,
                    Record::ClearTextBlock(_) => installed.clear_text_blocks += 1,
                    Record::EspPeer(_) => {}
                }
            }
        }
        Ok(installed)
    }

    /// The desired records of each ruleset, by the settings and the recorded tunnels.
    fn desired_records(&self, recorded: &RecordedRulesets) -> Result<RecordedRulesets, ApplyError> {
        let mut wanted: BTreeMap<Ruleset, BTreeMap<TunnelId, Record>> = BTreeMap::new();
        let mut add = |ruleset: Ruleset, entry: Record| {
            wanted.entry(ruleset).or_default().insert(entry.id().clone(), entry);
        };
        let default_rulesets = self.default_rulesets()?;
        for ruleset in default_rulesets.values() {
            if let Some(gateway) = self.gateway(*ruleset)? {
                add(*ruleset, gateway);
            }
        }
        for (ruleset, recorded) in records_by_default(recorded, &default_rulesets) {
            let (mut blocks, mut records) = (Vec::new(), Vec::new());
            for entry in recorded.into_values() {
                match entry {
                    Record::Tunnel(record) => records.push((**record).clone()),
                    Record::ClearTextBlock(block) => blocks.push((**block).clone()),
                    Record::Gateway(_) | Record::EspPeer(_) => {}
                }
            }
            let records = self.in_present_layout(records)?;
            let is_default = default_rulesets.get(&ruleset.family) == Some(&ruleset);
            for block in self.desired_blocks(ruleset, is_default, &blocks, &records)? {
                add(ruleset, block);
            }
            for record in records {
                if let Some((family, outer)) = other_family_esp(&record, self.context.settings.gateway.esp)
                    && let Some(ruleset) = default_rulesets.get(&family)
                {
                    add(*ruleset, Record::EspPeer(outer));
                }
                add(ruleset, record.into());
            }
        }
        // What cannot be read stays as it is.
        for (ruleset, entries) in &mut wanted {
            let known: BTreeSet<_> = recorded.get(ruleset).into_iter().flatten().map(Record::id).collect();
            let is_lost = |id: &TunnelId| {
                let read = (!known.contains(id)).then(|| self.store.entry(*ruleset, id));
                read.is_some_and(|read| read.is_err_and(|error| error.is_of_content()))
            };
            entries.retain(|id, _| !is_lost(id));
        }
        let entries = wanted.into_iter();
        Ok(entries
            .map(|(ruleset, entries)| (ruleset, entries.into_values().collect()))
            .collect())
    }

    /// Whether another iptables than the default one has records that `start` moves.
    pub(super) fn has_moves(&self) -> Result<bool, ApplyError> {
        let defaults = self.default_rulesets()?;
        for ruleset in Ruleset::all_rulesets() {
            let is_other = defaults.get(&ruleset.family).is_some_and(|default| *default != ruleset);
            if is_other && self.store.has_entries(ruleset)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The default ruleset of each family. A family without settings may have none, and so may one
    /// that the kernel lacks.
    fn default_rulesets(&self) -> Result<BTreeMap<Family, Ruleset>, ApplyError> {
        let mut rulesets = BTreeMap::new();
        for family in Family::ALL {
            match self.tables.default_backend(family) {
                Ok(backend) => drop(rulesets.insert(family, Ruleset { backend, family })),
                Err(TablesError::NoFamily(_)) => {}
                Err(error) if self.is_set_for(family) => return Err(error.into()),
                Err(_) => {}
            }
        }
        Ok(rulesets)
    }

    fn is_set_for(&self, family: Family) -> bool {
        let settings = &self.context.settings;
        let mut pairs = settings.connections.iter().flat_map(|entry| &entry.between);
        gateway_rules(&settings.gateway, family).is_some()
            || pairs.any(|(local, _)| Network::Prefix(*local).family() == family)
    }

    fn gateway(&self, ruleset: Ruleset) -> Result<Option<Record>, ApplyError> {
        let Some(tunnel_rules) = gateway_rules(&self.context.settings.gateway, ruleset.family) else {
            return Ok(None);
        };
        let id = TunnelId::for_gateway();
        let since = match self.store.readable_entry(ruleset, &id)? {
            Some(Record::Gateway(old)) if old.tunnel_rules == tunnel_rules => old.since,
            Some(_) | None => self.context.now,
        };
        Ok(Some(Record::Gateway(GatewayRecord {
            format: FORMAT,
            id,
            since,
            tunnel_rules,
        })))
    }

    /// Tunnels as they are to be by the settings.
    pub(super) fn in_present_layout(&self, records: Vec<TunnelRecord>) -> Result<Vec<TunnelRecord>, ApplyError> {
        let settings = &self.context.settings;
        let records = records.into_iter();
        let records = records.map(|record| record.with_policies(|tunnel| settings.policy(tunnel)));
        self.agree_all(records.collect())
    }

    /// Changes a ruleset to these records and no others. Returns whether anything changed.
    fn reach_desired(&mut self, ruleset: Ruleset, wanted: &[Record]) -> Result<bool, ApplyError> {
        let entries = self.store.entries(ruleset)?;
        let change = difference(ruleset, &entries, wanted);
        let has_work = !change.is_empty();
        let moved = self.has_other_layout(ruleset)?;
        if moved {
            self.carry_over(&change, wanted, self.as_set())?;
        } else if has_work {
            self.carry_out(&change)?;
        }
        let repaired = self.repair_all(ruleset)?;
        Ok(has_work || moved || repaired)
    }

    /// Whether `start` changes what applies to all rules of a ruleset: the jumps' position, the
    /// mark bit, or the chain layout.
    pub(crate) fn has_other_layout(&self, ruleset: Ruleset) -> Result<bool, ApplyError> {
        Ok(self.installed(ruleset)? != self.as_set())
    }

    /// Writes rules again that an older version of this program installed: in one commit per table,
    /// with the recorded policies. Until then the old rules stay, and open nothing that was closed.
    /// Changed settings take effect at the next `start`, as always. Returns the rulesets that it
    /// changed.
    ///
    /// # Errors
    /// If it fails; the old rules stay then.
    pub fn upgrade(&mut self) -> Result<Vec<Ruleset>, ApplyError> {
        let mut upgraded = Vec::new();
        for ruleset in Ruleset::all_rulesets() {
            let installed = self.installed(ruleset)?;
            if !installed.is_older() {
                continue;
            }
            let new = Installed {
                place: installed.place,
                ..self.as_set()
            };
            let entries = self.store.entries(ruleset)?;
            let wanted = self.upgraded_records(entries.clone())?;
            self.carry_over(&difference(ruleset, &entries, &wanted), &wanted, new)?;
            upgraded.push(ruleset);
        }
        Ok(upgraded)
    }

    /// The records in the present layout and format, with the recorded policies, so that each is
    /// written again, with all its files in the index.
    fn upgraded_records(&self, entries: Vec<Record>) -> Result<Vec<Record>, ApplyError> {
        let (mut tunnels, mut upgraded) = (Vec::new(), Vec::new());
        for entry in entries {
            match entry {
                Record::Tunnel(record) => tunnels.push(TunnelRecord {
                    format: FORMAT,
                    ..*record
                }),
                Record::ClearTextBlock(mut record) => {
                    record.format = FORMAT;
                    record.tunnel_rules.order = Some(block_order(&record.id, &record.local, &record.remote));
                    upgraded.push(Record::ClearTextBlock(record));
                }
                other @ (Record::Gateway(_) | Record::EspPeer(_)) => upgraded.push(other),
            }
        }
        upgraded.extend(self.agree_all(tunnels)?.into_iter().map(Record::from));
        Ok(upgraded)
    }

    /// Changes a ruleset to these records, and no others, when what applies to all its rules
    /// changes: in one commit per table.
    fn carry_over(&mut self, change: &Change, wanted: &[Record], new: Installed) -> Result<(), ApplyError> {
        let ruleset = change.ruleset;
        // Its rules could not be made for the other layout.
        if let Some((_, error)) = self.store.read_all(ruleset)?.unreadable.into_iter().next() {
            return Err(error.into());
        }
        let old = self.store.installed(ruleset)?;
        let mut journal = journal(change, &[]);
        // Removed records may have rules in other tables than those that stay.
        journal.tables = change
            .removed
            .iter()
            .flat_map(|entry| entry.tunnel_rules().tables())
            .collect();
        journal.installed = Some(new);
        if new.place == JumpPlace::Own && old.place != JumpPlace::Own {
            journal.user_jumps = self.user_jumps(ruleset)?;
        }
        self.store.begin_change(&journal, &change.removed, &change.added)?;
        self.store.set_installed(ruleset, new)?;
        let wanted = DesiredState::from_rules(&all_rules(wanted), new.jump_config(ruleset));
        let made = self.bring_to(ruleset, wanted.with_user_jumps(journal.user_jumps.clone()));
        match made {
            Ok(()) => Ok(self.store.commit_rebuild(&journal)?),
            Err(ApplyError::Tables(error @ TablesError::Unknown { .. })) => Err(error.into()),
            Err(error) => {
                self.store.set_installed(ruleset, old)?;
                self.store.roll_back(&journal, &change.removed, &change.added)?;
                self.clear_up(&journal, false)?;
                Err(error)
            }
        }
    }

    /// How many of the jumps without a match from built-in chains are the administrator's: all but
    /// one, which is this program's.
    fn user_jumps(&mut self, ruleset: Ruleset) -> Result<BTreeMap<BuiltIn, usize>, ApplyError> {
        let filter = SavedTable::parse(&self.tables.save(ruleset, Table::Filter)?, Table::Filter);
        let built_in = Table::Filter.built_in().iter();
        let jumps = built_in.map(|built_in| (*built_in, filter.plain_jumps(*built_in, &base_chain(*built_in))));
        Ok(jumps
            .map(|(built_in, jumps)| (built_in, jumps.saturating_sub(1)))
            .collect())
    }

    /// Repairs a ruleset, and deletes chains of this program that no record needs. Returns whether
    /// there was anything to do.
    fn repair_all(&mut self, ruleset: Ruleset) -> Result<bool, ApplyError> {
        let is_default = self.tables.default_backend(ruleset.family).ok() == Some(ruleset.backend);
        if !is_default && !self.store.has_entries(ruleset)? {
            return Ok(false);
        }
        let found = self.reconcile(ruleset)?;
        for drift in found
            .iter()
            .filter(|drift| !drift.is_repairable() && drift.has_effect())
        {
            let note = Note::NoUserJump(ruleset, drift.clone());
            if !self.notes.contains(&note) {
                self.notes.push(note);
            }
        }
        Ok(found.iter().any(Drift::is_repairable))
    }
}

/// The records of each family, in its default ruleset: also those that another iptables has
/// installed. If a call died while it moved a record, it is in two rulesets; the first one counts,
/// as for every call.
fn records_by_default<'r>(
    recorded: &'r RecordedRulesets,
    defaults: &BTreeMap<Family, Ruleset>,
) -> BTreeMap<Ruleset, BTreeMap<&'r TunnelId, &'r Record>> {
    let mut by_default: BTreeMap<Ruleset, BTreeMap<&TunnelId, &Record>> = BTreeMap::new();
    for ruleset in defaults.values() {
        by_default.entry(*ruleset).or_default();
    }
    for ruleset in Ruleset::all_rulesets() {
        let target = defaults.get(&ruleset.family).copied().unwrap_or(ruleset);
        for entry in recorded.get(&ruleset).into_iter().flatten() {
            let records = by_default.entry(target).or_default();
            records.entry(entry.id()).or_insert(entry);
        }
    }
    by_default
}

/// The change from one set of records to another.
pub(super) fn difference(ruleset: Ruleset, entries: &[Record], wanted: &[Record]) -> Change {
    let without = |all: &[Record], others: &[Record]| {
        let others: BTreeMap<_, _> = others.iter().map(|entry| (entry.id(), entry)).collect();
        let unlike = all.iter().filter(|entry| others.get(entry.id()) != Some(entry));
        unlike.cloned().collect()
    };
    Change {
        ruleset,
        removed: without(entries, wanted),
        added: without(wanted, entries),
        recovery: Recovery::RollForward,
    }
}
