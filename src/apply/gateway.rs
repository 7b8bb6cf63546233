//! `start`, `stop` and `unblock`: the gateway's own part, and what holds networks apart; and what changed settings do to tunnels that stand.

use std::collections::{BTreeMap, BTreeSet};

use super::tunnel::outer;
use super::{ApplyError, Session, Work, checked, pending};
use crate::contract::ConnectionName;
use crate::iptables::{Tables, TablesError};
use crate::netfilter::{Listing, Ruleset, Table};
use crate::plan::{JumpConfig, TunnelId, TunnelRules, gateway_rules, is_installed, move_jumps, release_base_chains};
use crate::record::{Entry, FORMAT, GatewayRecord, GuardRecord, Settle, TunnelRecord};
use crate::selector::{Family, Network};

/// What `start` or `stop` came to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Started {
    /// The rulesets that something was changed in.
    pub changed: BTreeSet<Ruleset>,
    /// What stands now.
    pub standing: Standing,
}

/// How much is on record.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Standing {
    /// Tunnels.
    pub tunnels: usize,
    /// Families with a gateway's part.
    pub gateways: usize,
    /// Pairs of networks that are held apart.
    pub guards: usize,
}

/// Which networks are not to be held apart any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Blocked {
    /// All.
    All,
    /// Those of a connection of this name, and those of which one is this network: a connection can have a name that is a network.
    By {
        /// The name.
        connection: ConnectionName,
        /// The network, if the name is one.
        network: Option<Network>,
    },
}

impl Blocked {
    fn means(&self, guard: &GuardRecord) -> bool {
        match self {
            Self::All => true,
            Self::By { connection, network } => {
                let is_end = |network| guard.near == network || guard.far == network;
                guard.is_for(connection) || network.is_some_and(is_end)
            }
        }
    }
}

impl<T: Tables> Session<'_, T> {
    /// Makes everything as it is set: the gateway's own part, the networks that are held apart, and the rules of tunnels that stand.
    ///
    /// Everything in a table changes at once, so that there is no moment in which a restricted tunnel is open or an open one closed.
    /// What is in already is not touched. Chains of ours that nobody has put in, as after a boot with rules that were saved while tunnels
    /// were up, are cleared.
    ///
    /// # Errors
    /// If something set does not go with a tunnel that stands, before anything is changed; or if it cannot be done.
    pub fn start(&mut self) -> Result<Started, ApplyError> {
        let wanted = self.wanted()?;
        let mut started = Started::default();
        for ruleset in Ruleset::all() {
            let wanted = wanted.get(&ruleset).map_or(&[][..], Vec::as_slice);
            if self.make(ruleset, wanted)? {
                started.changed.insert(ruleset);
            }
        }
        started.standing = self.standing()?;
        Ok(started)
    }

    /// What `start` comes to in each ruleset where something changes, apart from jumps that move and chains that nobody has put in.
    ///
    /// # Errors
    /// If a record cannot be read, or something set does not go with a tunnel that stands.
    pub fn starting(&self) -> Result<Vec<Work>, ApplyError> {
        let wanted = self.wanted()?;
        let works = Ruleset::all().map(|ruleset| {
            let wanted = wanted.get(&ruleset).map_or(&[][..], Vec::as_slice);
            Ok(difference(ruleset, &self.store.entries(ruleset)?, wanted))
        });
        let works = works.collect::<Result<Vec<_>, ApplyError>>()?;
        Ok(works.into_iter().filter(|work| !work.is_empty()).collect())
    }

    /// Takes the gateway's own part out, and chains of ours that stand empty for jumps that are gone. Tunnels stay as long as they are up, and
    /// networks that are held apart stay so.
    ///
    /// # Errors
    /// If it cannot be done.
    pub fn stop(&mut self) -> Result<Started, ApplyError> {
        let mut started = self.remove(|entry| matches!(entry, Entry::Gateway(_)))?;
        for ruleset in self.default_rulesets()?.into_values() {
            if !self.store.has_entries(ruleset)? && self.give_up_entrances(ruleset)? {
                started.changed.insert(ruleset);
            }
        }
        Ok(started)
    }

    /// Takes away the chains that stay, with `place = "own"`, while there is nothing in them. Those that a rule still leads to it leaves.
    fn give_up_entrances(&mut self, ruleset: Ruleset) -> Result<bool, ApplyError> {
        // Where there is no such table, nothing of ours is in it.
        let Ok(listing) = self.tables.save(ruleset, Table::Filter) else {
            return Ok(false);
        };
        let sections = checked(release_base_chains(&Listing::parse_save(&listing)))?;
        self.give(ruleset, &sections)?;
        Ok(!sections.is_empty())
    }

    /// Holds these networks apart no more.
    ///
    /// # Errors
    /// If it cannot be done.
    pub fn unblock(&mut self, blocked: &Blocked) -> Result<Started, ApplyError> {
        self.remove(|entry| match entry {
            Entry::Guard(guard) => blocked.means(guard),
            Entry::Tunnel(_) | Entry::Gateway(_) | Entry::Outer(_) => false,
        })
    }

    fn remove(&mut self, is_meant: impl Fn(&Entry) -> bool) -> Result<Started, ApplyError> {
        let mut started = Started::default();
        for ruleset in Ruleset::all() {
            let gone: Vec<_> = self.store.entries(ruleset)?.into_iter().filter(&is_meant).collect();
            if gone.is_empty() {
                continue;
            }
            self.carry_out(&Work {
                ruleset,
                gone,
                come: Vec::new(),
                settle: Settle::Complete,
            })?;
            started.changed.insert(ruleset);
        }
        started.standing = self.standing()?;
        Ok(started)
    }

    /// What is on record.
    ///
    /// # Errors
    /// If a record cannot be read.
    pub fn standing(&self) -> Result<Standing, ApplyError> {
        let mut standing = Standing::default();
        for ruleset in Ruleset::all() {
            for entry in self.store.entries(ruleset)? {
                match entry {
                    Entry::Tunnel(_) => standing.tunnels += 1,
                    Entry::Gateway(_) => standing.gateways += 1,
                    Entry::Guard(_) => standing.guards += 1,
                    Entry::Outer(_) => {}
                }
            }
        }
        Ok(standing)
    }

    /// What is to be in, ruleset by ruleset, by the settings and the tunnels on record.
    fn wanted(&self) -> Result<BTreeMap<Ruleset, Vec<Entry>>, ApplyError> {
        let mut wanted: BTreeMap<Ruleset, BTreeMap<TunnelId, Entry>> = BTreeMap::new();
        let mut add = |ruleset: Ruleset, entry: Entry| {
            wanted.entry(ruleset).or_default().insert(entry.id().clone(), entry);
        };
        let ours = self.default_rulesets()?;
        for ruleset in ours.values() {
            for entry in self.named_guards(*ruleset)? {
                add(*ruleset, entry);
            }
            if let Some(gateway) = self.gateway(*ruleset)? {
                add(*ruleset, gateway);
            }
        }
        for ruleset in Ruleset::all() {
            let entries = self.store.entries(ruleset)?;
            for entry in &entries {
                if let Entry::Guard(guard) = entry
                    && self.still_blocks(guard)
                {
                    add(ruleset, entry.clone());
                }
            }
            let records = entries.into_iter().filter_map(Entry::into_tunnel).collect();
            for record in self.laid_out_anew(records)? {
                for guard in self.guards(ruleset, &record)? {
                    add(ruleset, guard);
                }
                if let Some((family, outer)) = outer(&record, &self.caller.settings)
                    && let Some(ruleset) = ours.get(&family)
                {
                    add(*ruleset, Entry::Outer(outer));
                }
                add(ruleset, record.into());
            }
        }
        let entries = wanted.into_iter();
        Ok(entries
            .map(|(ruleset, entries)| (ruleset, entries.into_values().collect()))
            .collect())
    }

    /// The rulesets that something new goes to, family by family. It is no fault that there is none for a family that nothing is set for,
    /// or that the kernel does not know.
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
        let settings = &self.caller.settings;
        let mut pairs = settings.connections.iter().flat_map(|entry| &entry.between);
        gateway_rules(&settings.gateway, family).is_some()
            || pairs.any(|(near, _)| Network::Prefix(*near).family() == family)
    }

    fn gateway(&self, ruleset: Ruleset) -> Result<Option<Entry>, ApplyError> {
        let Some(tunnel_rules) = gateway_rules(&self.caller.settings.gateway, ruleset.family) else {
            return Ok(None);
        };
        let id = TunnelId::for_gateway();
        let since = match self.store.entry(ruleset, &id)? {
            Some(Entry::Gateway(old)) if old.tunnel_rules == tunnel_rules => old.since,
            Some(_) | None => self.caller.now,
        };
        Ok(Some(Entry::Gateway(GatewayRecord {
            format: FORMAT,
            id,
            since,
            tunnel_rules,
        })))
    }

    /// Tunnels as they are to be by the settings.
    fn laid_out_anew(&self, records: Vec<TunnelRecord>) -> Result<Vec<TunnelRecord>, ApplyError> {
        let mut alike: BTreeMap<TunnelId, Vec<TunnelRecord>> = BTreeMap::new();
        for record in records {
            let policy = self.caller.settings.policy(&record.tunnel);
            let known_by = TunnelId::alike(&record.tunnel);
            alike
                .entry(known_by)
                .or_default()
                .push(TunnelRecord { policy, ..record });
        }
        let mut anew = Vec::new();
        for records in alike.values() {
            for record in records {
                let others = records.iter().filter(|other| other.id != record.id);
                let others: Vec<_> = others.cloned().collect();
                anew.push(self.agree(record.clone(), &others, Some(record))?);
            }
        }
        Ok(anew)
    }

    /// Makes a ruleset hold these entries and no others. Says whether that changed anything.
    fn make(&mut self, ruleset: Ruleset, wanted: &[Entry]) -> Result<bool, ApplyError> {
        let entries = self.store.entries(ruleset)?;
        let work = difference(ruleset, &entries, wanted);
        let place = self.caller.settings.gateway.place;
        let moved = !entries.is_empty() && self.store.place(ruleset)? != place;
        let has_work = !work.is_empty();
        if moved {
            self.move_jumps(&work, wanted)?;
        } else if has_work {
            self.carry_out(&work)?;
        }
        let mended = self.clear_strays(ruleset)?;
        Ok(has_work || moved || mended)
    }

    /// The same where our jumps move to another place: everything is put in anew, in one change of the table.
    fn move_jumps(&mut self, work: &Work, wanted: &[Entry]) -> Result<(), ApplyError> {
        let ruleset = work.ruleset;
        let (old, new) = (self.store.place(ruleset)?, self.caller.settings.gateway.place);
        let all_rules: Vec<_> = wanted.iter().map(|entry| entry.tunnel_rules().clone()).collect();
        let mut pending = pending(work, &[]);
        // What goes may have been in other tables than what stays.
        pending.tables = work
            .gone
            .iter()
            .flat_map(|entry| entry.tunnel_rules().tables())
            .collect();
        self.store.begin(&pending, &work.gone, &work.come)?;
        self.store.set_place(ruleset, new)?;
        let made = self.listings(&pending, &all_rules).and_then(|listings| {
            let jump_config = |place| JumpConfig {
                family: ruleset.family,
                place,
            };
            let sections = checked(move_jumps(&all_rules, &listings, jump_config(old), jump_config(new)))?;
            // After a reload nothing of ours is left to move.
            Ok(self.give(ruleset, &sections)?)
        });
        match made {
            Ok(()) => Ok(self.store.commit(&pending, &work.gone, &work.come)?),
            Err(ApplyError::Tables(error @ TablesError::Unknown { .. })) => Err(error.into()),
            Err(error) => {
                self.store.set_place(ruleset, old)?;
                self.store.abandon(&pending, &work.gone, &work.come)?;
                self.clear_up(&pending, false)?;
                Err(error)
            }
        }
    }

    /// Puts everything in anew where chains of ours stand that nobody has put in, or others are missing. Says whether it did.
    fn clear_strays(&mut self, ruleset: Ruleset) -> Result<bool, ApplyError> {
        let entries = self.store.entries(ruleset)?;
        let is_default = self.tables.default_backend(ruleset.family).ok() == Some(ruleset.backend);
        if entries.is_empty() && !is_default {
            return Ok(false);
        }
        let all_rules: Vec<_> = entries.iter().map(|entry| entry.tunnel_rules().clone()).collect();
        let mut all = BTreeSet::from([Table::Filter]);
        all.extend(all_rules.iter().flat_map(TunnelRules::tables));
        if self.stands_as_it_should(ruleset, &all_rules, &all)? {
            return Ok(false);
        }
        let work = Work {
            ruleset,
            gone: Vec::new(),
            come: Vec::new(),
            settle: Settle::Complete,
        };
        let mut pending = pending(&work, &[]);
        pending.tables = Table::ALL.into_iter().collect();
        self.store.begin(&pending, &[], &[])?;
        self.rebuild(&pending, &[], &[])?;
        self.store.settled()?;
        Ok(true)
    }

    fn stands_as_it_should(
        &mut self,
        ruleset: Ruleset,
        all_rules: &[TunnelRules],
        tables: &BTreeSet<Table>,
    ) -> Result<bool, ApplyError> {
        let family = ruleset.family;
        let place = self.store.place(ruleset)?;
        for table in tables {
            let listing = Listing::parse_save(&self.tables.save(ruleset, *table)?);
            if !is_installed(all_rules, *table, &listing, JumpConfig { family, place }) {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// What makes these entries of those.
fn difference(ruleset: Ruleset, entries: &[Entry], wanted: &[Entry]) -> Work {
    let without = |all: &[Entry], others: &[Entry]| {
        let others: BTreeMap<_, _> = others.iter().map(|entry| (entry.id(), entry)).collect();
        let unlike = all.iter().filter(|entry| others.get(entry.id()) != Some(entry));
        unlike.cloned().collect()
    };
    Work {
        ruleset,
        gone: without(entries, wanted),
        come: without(wanted, entries),
        settle: Settle::Complete,
    }
}
