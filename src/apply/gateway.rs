//! `start`, `stop` and `unblock`: the gateway's own part, and what holds networks apart; and what
//! changed settings do to tunnels that stand.

use std::collections::{BTreeMap, BTreeSet};

use super::restore::all_rules;
use super::tunnel::outer;
use super::{ApplyError, Change, Engine, checked, journal, may_be_drift};
use crate::iptables::{Tables, TablesError};
use crate::netfilter::{BuiltIn, Ruleset, SavedTable, Section, Table};
use crate::plan::{DesiredState, Drift, TunnelId, base_chain, block_order, gateway_rules, release_base_chains};
use crate::record::{ClearTextBlockRecord, FORMAT, GatewayRecord, Installed, Record, Recovery, TunnelRecord};
use crate::selector::{Family, MarkBit, Network};
use crate::settings::JumpPlace;
use crate::updown_env::ConnectionName;

/// What `start` or `stop` came to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StartReport {
    /// The rulesets that something was changed in.
    pub changed: BTreeSet<Ruleset>,
    /// What stands now.
    pub standing: InstalledRecords,
}

/// How much is on record.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct InstalledRecords {
    /// Tunnels.
    pub tunnels: usize,
    /// Families with a gateway's part.
    pub gateways: usize,
    /// Pairs of networks that are held apart.
    pub clear_text_blocks: usize,
}

/// Which networks are not to be held apart any more.
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
    fn means(&self, guard: &ClearTextBlockRecord) -> bool {
        match self {
            Self::All => true,
            Self::By { connection, network } => {
                let is_end = |network| guard.local == network || guard.remote == network;
                guard.is_for(connection) || network.is_some_and(is_end)
            }
        }
    }
}

impl<T: Tables> Engine<'_, T> {
    /// Makes everything as it is set: the gateway's own part, the networks that are held apart, and
    /// the rules of tunnels that stand.
    ///
    /// Everything in a table changes at once, so that there is no moment in which a restricted
    /// tunnel is open or an open one closed. What is in already is not touched. Chains of ours that
    /// nobody has put in, as after a boot with rules that were saved while tunnels were up, are
    /// cleared.
    ///
    /// # Errors
    /// If something set does not go with a tunnel that stands, before anything is changed; or if it
    /// cannot be done.
    pub fn start(&mut self) -> Result<StartReport, ApplyError> {
        let wanted = self.desired_records()?;
        let mut started = StartReport::default();
        for ruleset in Ruleset::all() {
            let wanted = wanted.get(&ruleset).map_or(&[][..], Vec::as_slice);
            let made = match self.make(ruleset, wanted) {
                // Another firewall that loads its rules at the same moment, as at boot, removes
                // what was just listed.
                Err(ApplyError::Tables(error)) if may_be_drift(&error) => self.make(ruleset, wanted),
                other => other,
            };
            if made? {
                started.changed.insert(ruleset);
            }
        }
        started.standing = self.installed_records()?;
        Ok(started)
    }

    /// What `start` comes to in each ruleset where something changes, apart from jumps that move
    /// and chains that nobody has put in.
    ///
    /// # Errors
    /// If a record cannot be read, or something set does not go with a tunnel that stands.
    pub fn plan_start(&self) -> Result<Vec<Change>, ApplyError> {
        let wanted = self.desired_records()?;
        let changes = Ruleset::all().map(|ruleset| {
            let wanted = wanted.get(&ruleset).map_or(&[][..], Vec::as_slice);
            Ok(difference(ruleset, &self.store.entries(ruleset)?, wanted))
        });
        let changes = changes.collect::<Result<Vec<_>, ApplyError>>()?;
        Ok(changes.into_iter().filter(|change| !change.is_empty()).collect())
    }

    /// Takes the gateway's own part out, and chains of ours that stand empty for jumps that are
    /// gone. Tunnels stay as long as they are up, and networks that are held apart stay so.
    ///
    /// # Errors
    /// If it cannot be done.
    pub fn stop(&mut self) -> Result<StartReport, ApplyError> {
        let mut started = self.remove(self.plan_stop()?)?;
        for ruleset in self.default_rulesets()?.into_values() {
            if self.store.has_entries(ruleset)? {
                continue;
            }
            let sections = self.empty_base_chains(ruleset)?;
            self.restore(ruleset, &sections)?;
            if !sections.is_empty() {
                started.changed.insert(ruleset);
            }
        }
        Ok(started)
    }

    /// The changes that `stop` makes, apart from empty chains that it removes.
    ///
    /// # Errors
    /// If a record cannot be read.
    pub fn plan_stop(&self) -> Result<Vec<Change>, ApplyError> {
        self.plan_removal(|entry| matches!(entry, Record::Gateway(_)))
    }

    /// The changes of `stop` to chains that stay, with `place = "own"`, while they are empty,
    /// ruleset by ruleset: none while a tunnel or a blocked pair is recorded there.
    ///
    /// # Errors
    /// If a record cannot be read, or there is no iptables.
    pub fn plan_stop_chains(&mut self) -> Result<Vec<(Ruleset, Vec<Section>)>, ApplyError> {
        let mut planned = Vec::new();
        for ruleset in self.default_rulesets()?.into_values() {
            let entries = self.store.entries(ruleset)?;
            if entries.iter().all(|entry| matches!(entry, Record::Gateway(_))) {
                planned.push((ruleset, self.empty_base_chains(ruleset)?));
            }
        }
        Ok(planned)
    }

    /// Removes the base chains of a ruleset that are empty, unless a rule of somebody else jumps to
    /// them.
    fn empty_base_chains(&mut self, ruleset: Ruleset) -> Result<Vec<Section>, ApplyError> {
        // Where there is no such table, nothing of ours is in it.
        match self.tables.save(ruleset, Table::Filter) {
            Ok(listing) => checked(release_base_chains(&SavedTable::parse(&listing, Table::Filter))),
            Err(_) => Ok(Vec::new()),
        }
    }

    /// Holds these networks apart no more.
    ///
    /// # Errors
    /// If it cannot be done.
    pub fn unblock(&mut self, blocked: &Blocked) -> Result<StartReport, ApplyError> {
        self.remove(self.plan_unblock(blocked)?)
    }

    /// The changes that `unblock` makes.
    ///
    /// # Errors
    /// If a record cannot be read.
    pub fn plan_unblock(&self, blocked: &Blocked) -> Result<Vec<Change>, ApplyError> {
        self.plan_removal(|entry| match entry {
            Record::ClearTextBlock(guard) => blocked.means(guard),
            Record::Tunnel(_) | Record::Gateway(_) | Record::EspPeer(_) => false,
        })
    }

    fn plan_removal(&self, is_meant: impl Fn(&Record) -> bool) -> Result<Vec<Change>, ApplyError> {
        let mut changes = Vec::new();
        for ruleset in Ruleset::all() {
            let removed: Vec<_> = self.store.entries(ruleset)?.into_iter().filter(&is_meant).collect();
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
        started.standing = self.installed_records()?;
        Ok(started)
    }

    /// What is on record.
    ///
    /// # Errors
    /// If a record cannot be read.
    pub fn installed_records(&self) -> Result<InstalledRecords, ApplyError> {
        let mut standing = InstalledRecords::default();
        for ruleset in Ruleset::all() {
            for entry in self.store.entries(ruleset)? {
                match entry {
                    Record::Tunnel(_) => standing.tunnels += 1,
                    Record::Gateway(_) => standing.gateways += 1,
                    Record::ClearTextBlock(_) => standing.clear_text_blocks += 1,
                    Record::EspPeer(_) => {}
                }
            }
        }
        Ok(standing)
    }

    /// What is to be in, ruleset by ruleset, by the settings and the tunnels on record.
    fn desired_records(&self) -> Result<BTreeMap<Ruleset, Vec<Record>>, ApplyError> {
        let mut wanted: BTreeMap<Ruleset, BTreeMap<TunnelId, Record>> = BTreeMap::new();
        let mut add = |ruleset: Ruleset, entry: Record| {
            wanted.entry(ruleset).or_default().insert(entry.id().clone(), entry);
        };
        let ours = self.default_rulesets()?;
        for ruleset in ours.values() {
            if let Some(gateway) = self.gateway(*ruleset)? {
                add(*ruleset, gateway);
            }
        }
        for ruleset in Ruleset::all() {
            let (mut guards, mut records) = (Vec::new(), Vec::new());
            for entry in self.store.entries(ruleset)? {
                match entry {
                    Record::Tunnel(record) => records.push(*record),
                    Record::ClearTextBlock(guard) => guards.push(*guard),
                    Record::Gateway(_) | Record::EspPeer(_) => {}
                }
            }
            let records = self.laid_out_anew(records)?;
            let is_default = ours.get(&ruleset.family) == Some(&ruleset);
            for guard in self.desired_blocks(ruleset, is_default, &guards, &records)? {
                add(ruleset, guard);
            }
            for record in records {
                if let Some((family, outer)) = outer(&record, self.context.settings.gateway.esp)
                    && let Some(ruleset) = ours.get(&family)
                {
                    add(*ruleset, Record::EspPeer(outer));
                }
                add(ruleset, record.into());
            }
        }
        let entries = wanted.into_iter();
        Ok(entries
            .map(|(ruleset, entries)| (ruleset, entries.into_values().collect()))
            .collect())
    }

    /// The rulesets that something new goes to, family by family. It is no fault that there is none
    /// for a family that nothing is set for, or that the kernel does not know.
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
            || pairs.any(|(near, _)| Network::Prefix(*near).family() == family)
    }

    fn gateway(&self, ruleset: Ruleset) -> Result<Option<Record>, ApplyError> {
        let Some(tunnel_rules) = gateway_rules(&self.context.settings.gateway, ruleset.family) else {
            return Ok(None);
        };
        let id = TunnelId::for_gateway();
        let since = match self.store.entry(ruleset, &id)? {
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
    pub(super) fn laid_out_anew(&self, records: Vec<TunnelRecord>) -> Result<Vec<TunnelRecord>, ApplyError> {
        let settings = &self.context.settings;
        let records = records.into_iter();
        let records = records.map(|record| record.with_policies(|tunnel| settings.policy(tunnel)));
        self.agree_all(records.collect(), settings.gateway.mark)
    }

    /// Makes a ruleset hold these entries and no others. Says whether that changed anything.
    fn make(&mut self, ruleset: Ruleset, wanted: &[Record]) -> Result<bool, ApplyError> {
        let entries = self.store.entries(ruleset)?;
        let change = difference(ruleset, &entries, wanted);
        let has_work = !change.is_empty();
        let moved = self.moves(ruleset)?;
        if moved {
            self.carry_over(&change, wanted, self.as_set())?;
        } else if has_work {
            self.carry_out(&change)?;
        }
        let repaired = self.repair_all(ruleset)?;
        Ok(has_work || moved || repaired)
    }

    /// Whether `start` changes what holds for all rules of a ruleset: where our jumps stand, the
    /// bit of the mark, or how the chains hang together.
    ///
    /// # Errors
    /// If the record cannot be read.
    pub fn moves(&self, ruleset: Ruleset) -> Result<bool, ApplyError> {
        Ok(self.installed(ruleset)? != self.as_set())
    }

    /// Writes rules anew that an older version of this program has put in: in one commit a table,
    /// as the tunnels were set when they came up. Until then they stand as they are, and open
    /// nothing that was closed. What the settings say of tunnels and of the gateway by now takes
    /// effect with the next `start`, as always. Returns the rulesets that it changed.
    ///
    /// # Errors
    /// If it cannot be done; the older rules stand then.
    pub fn upgrade(&mut self) -> Result<Vec<Ruleset>, ApplyError> {
        let mut upgraded = Vec::new();
        for ruleset in Ruleset::all() {
            let installed = self.installed(ruleset)?;
            if !installed.is_older() {
                continue;
            }
            let new = Installed {
                place: installed.place,
                ..self.as_set()
            };
            let entries = self.store.entries(ruleset)?;
            let wanted = self.upgraded(entries.clone(), new.mark)?;
            self.carry_over(&difference(ruleset, &entries, &wanted), &wanted, new)?;
            upgraded.push(ruleset);
        }
        Ok(upgraded)
    }

    /// Entries in the present layout and the present format, so that each is written anew and found
    /// by all that it is looked for now. The policies are those on record.
    fn upgraded(&self, entries: Vec<Record>, mark: MarkBit) -> Result<Vec<Record>, ApplyError> {
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
        upgraded.extend(self.agree_all(tunnels, mark)?.into_iter().map(Record::from));
        Ok(upgraded)
    }

    /// Makes a ruleset hold these entries, and no others, where what holds for all its rules
    /// changes: in one change of each table.
    fn carry_over(&mut self, change: &Change, wanted: &[Record], new: Installed) -> Result<(), ApplyError> {
        let ruleset = change.ruleset;
        let old = self.store.installed(ruleset)?;
        let mut journal = journal(change, &[]);
        // What goes may have been in other tables than what stays.
        journal.tables = change
            .removed
            .iter()
            .flat_map(|entry| entry.tunnel_rules().tables())
            .collect();
        journal.installed = Some(new);
        if new.place == JumpPlace::Own && old.place != JumpPlace::Own {
            journal.user_jumps = self.user_jumps(ruleset)?;
        }
        self.store.begin(&journal, &change.removed, &change.added)?;
        self.store.set_installed(ruleset, new)?;
        let wanted = DesiredState::from_rules(&all_rules(wanted), new.jump_config(ruleset));
        let made = self.bring_to(ruleset, wanted.with_user_jumps(journal.user_jumps.clone()));
        match made {
            Ok(()) => Ok(self.store.commit_all(&journal)?),
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
    /// one, which is ours.
    fn user_jumps(&mut self, ruleset: Ruleset) -> Result<BTreeMap<BuiltIn, usize>, ApplyError> {
        let filter = SavedTable::parse(&self.tables.save(ruleset, Table::Filter)?, Table::Filter);
        let built_in = Table::Filter.built_in().iter();
        let jumps = built_in.map(|built_in| (*built_in, filter.plain_jumps(*built_in, &base_chain(*built_in))));
        Ok(jumps
            .map(|(built_in, jumps)| (built_in, jumps.saturating_sub(1)))
            .collect())
    }

    /// Sets right what others have made of a ruleset, and removes chains of ours that nothing on
    /// record needs. Says whether there was anything to do.
    fn repair_all(&mut self, ruleset: Ruleset) -> Result<bool, ApplyError> {
        let is_default = self.tables.default_backend(ruleset.family).ok() == Some(ruleset.backend);
        if !is_default && !self.store.has_entries(ruleset)? {
            return Ok(false);
        }
        Ok(self.reconcile(ruleset)?.iter().any(Drift::is_repairable))
    }
}

/// What makes these entries of those.
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
