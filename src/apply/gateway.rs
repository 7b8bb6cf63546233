//! `start`, `stop` and `unblock`: the gateway's own part, and what holds networks apart; and what changed settings do to tunnels that stand.

use std::collections::{BTreeMap, BTreeSet};

use super::tunnel::outer;
use super::{ApplyError, Session, Work, checked, pending};
use crate::contract::ConnectionName;
use crate::iptables::{Tables, TablesError};
use crate::netfilter::{Listing, Rulebook, Table};
use crate::plan::{Layout, Site, TunnelId, give_up_entrances, holds, lay_out_gateway, move_jumps};
use crate::record::{Entry, FORMAT, GatewayRecord, GuardRecord, Settle, TunnelRecord};
use crate::selector::{Family, Network};

/// What `start` or `stop` came to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Started {
    /// The rulebooks that something was changed in.
    pub changed: BTreeSet<Rulebook>,
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
    /// Those of a connection.
    Of(ConnectionName),
    /// Those of which one is this.
    From(Network),
}

impl Blocked {
    fn means(&self, guard: &GuardRecord) -> bool {
        match self {
            Self::All => true,
            Self::Of(connection) => guard.is_for(connection),
            Self::From(network) => guard.near == *network || guard.far == *network,
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
        for rulebook in Rulebook::all() {
            let wanted = wanted.get(&rulebook).map_or(&[][..], Vec::as_slice);
            if self.make(rulebook, wanted)? {
                started.changed.insert(rulebook);
            }
        }
        started.standing = self.standing()?;
        Ok(started)
    }

    /// What `start` comes to in each rulebook where something changes, apart from jumps that move and chains that nobody has put in.
    ///
    /// # Errors
    /// If a record cannot be read, or something set does not go with a tunnel that stands.
    pub fn starting(&self) -> Result<Vec<Work>, ApplyError> {
        let wanted = self.wanted()?;
        let works = Rulebook::all().map(|rulebook| {
            let wanted = wanted.get(&rulebook).map_or(&[][..], Vec::as_slice);
            Ok(difference(rulebook, &self.store.entries(rulebook)?, wanted))
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
        for rulebook in self.default_rulebooks()?.into_values() {
            if !self.store.has_entries(rulebook)? && self.give_up_entrances(rulebook)? {
                started.changed.insert(rulebook);
            }
        }
        Ok(started)
    }

    /// Takes away the chains that stay, with `place = "own"`, while there is nothing in them. Those that a rule still leads to it leaves.
    fn give_up_entrances(&mut self, rulebook: Rulebook) -> Result<bool, ApplyError> {
        // Where there is no such table, nothing of ours is in it.
        let Ok(listing) = self.tables.save(rulebook, Table::Filter) else {
            return Ok(false);
        };
        let sections = checked(give_up_entrances(&Listing::of_save(&listing)))?;
        self.give(rulebook, &sections)?;
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
        for rulebook in Rulebook::all() {
            let gone: Vec<_> = self.store.entries(rulebook)?.into_iter().filter(&is_meant).collect();
            if gone.is_empty() {
                continue;
            }
            self.carry_out(&Work {
                rulebook,
                gone,
                come: Vec::new(),
                settle: Settle::Complete,
            })?;
            started.changed.insert(rulebook);
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
        for rulebook in Rulebook::all() {
            for entry in self.store.entries(rulebook)? {
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

    /// What is to be in, rulebook by rulebook, by the settings and the tunnels on record.
    fn wanted(&self) -> Result<BTreeMap<Rulebook, Vec<Entry>>, ApplyError> {
        let mut wanted: BTreeMap<Rulebook, BTreeMap<TunnelId, Entry>> = BTreeMap::new();
        let mut add = |rulebook: Rulebook, entry: Entry| {
            wanted.entry(rulebook).or_default().insert(entry.id().clone(), entry);
        };
        let ours = self.default_rulebooks()?;
        for rulebook in ours.values() {
            for entry in self.named_guards(*rulebook)? {
                add(*rulebook, entry);
            }
            if let Some(gateway) = self.gateway(*rulebook)? {
                add(*rulebook, gateway);
            }
        }
        for rulebook in Rulebook::all() {
            let entries = self.store.entries(rulebook)?;
            for entry in &entries {
                if let Entry::Guard(guard) = entry
                    && self.still_blocks(guard)
                {
                    add(rulebook, entry.clone());
                }
            }
            for record in entries.into_iter().filter_map(Entry::into_tunnel) {
                let record = self.laid_out_anew(record)?;
                for guard in self.guards(rulebook, &record)? {
                    add(rulebook, guard);
                }
                if let Some((family, outer)) = outer(&record, &self.caller.settings)
                    && let Some(rulebook) = ours.get(&family)
                {
                    add(*rulebook, Entry::Outer(outer));
                }
                add(rulebook, record.into());
            }
        }
        let entries = wanted.into_iter();
        Ok(entries
            .map(|(rulebook, entries)| (rulebook, entries.into_values().collect()))
            .collect())
    }

    /// The rulebooks that something new goes to, family by family. It is no fault that there is none for a family that nothing is set for,
    /// or that the kernel does not know.
    fn default_rulebooks(&self) -> Result<BTreeMap<Family, Rulebook>, ApplyError> {
        let mut rulebooks = BTreeMap::new();
        for family in Family::ALL {
            match self.tables.default_variant(family) {
                Ok(variant) => drop(rulebooks.insert(family, Rulebook { variant, family })),
                Err(TablesError::NoFamily(_)) => {}
                Err(error) if self.is_set_for(family) => return Err(error.into()),
                Err(_) => {}
            }
        }
        Ok(rulebooks)
    }

    fn is_set_for(&self, family: Family) -> bool {
        let settings = &self.caller.settings;
        let mut pairs = settings.connections.iter().flat_map(|entry| &entry.between);
        lay_out_gateway(&settings.gateway, family).is_some()
            || pairs.any(|(near, _)| Network::Prefix(*near).family() == family)
    }

    fn gateway(&self, rulebook: Rulebook) -> Result<Option<Entry>, ApplyError> {
        let Some(layout) = lay_out_gateway(&self.caller.settings.gateway, rulebook.family) else {
            return Ok(None);
        };
        let id = TunnelId::gateway();
        let since = match self.store.entry(rulebook, &id)? {
            Some(Entry::Gateway(old)) if old.layout == layout => old.since,
            Some(_) | None => self.caller.now,
        };
        Ok(Some(Entry::Gateway(GatewayRecord {
            format: FORMAT,
            id,
            since,
            layout,
        })))
    }

    /// A tunnel as it is to be by the settings.
    fn laid_out_anew(&self, record: TunnelRecord) -> Result<TunnelRecord, ApplyError> {
        let policy = self.caller.settings.policy(&record.tunnel);
        let layout = self.layout(&record.tunnel, &record.id, &policy, Some(&record))?;
        Ok(TunnelRecord {
            policy,
            layout,
            ..record
        })
    }

    /// Makes a rulebook hold these entries and no others. Says whether that changed anything.
    fn make(&mut self, rulebook: Rulebook, wanted: &[Entry]) -> Result<bool, ApplyError> {
        let entries = self.store.entries(rulebook)?;
        let work = difference(rulebook, &entries, wanted);
        let place = self.caller.settings.gateway.place;
        let moved = !entries.is_empty() && self.store.place(rulebook)? != place;
        let has_work = !work.is_empty();
        if moved {
            self.move_jumps(&work, wanted)?;
        } else if has_work {
            self.carry_out(&work)?;
        }
        let mended = self.clear_strays(rulebook)?;
        Ok(has_work || moved || mended)
    }

    /// The same where our jumps move to another place: everything is put in anew, in one change of the table.
    fn move_jumps(&mut self, work: &Work, wanted: &[Entry]) -> Result<(), ApplyError> {
        let rulebook = work.rulebook;
        let (old, new) = (self.store.place(rulebook)?, self.caller.settings.gateway.place);
        let layouts: Vec<_> = wanted.iter().map(|entry| entry.layout().clone()).collect();
        let mut pending = pending(work, &[]);
        // What goes may have been in other tables than what stays.
        pending.tables = work.gone.iter().flat_map(|entry| entry.layout().tables()).collect();
        self.store.begin(&pending, &work.gone, &work.come)?;
        self.store.set_place(rulebook, new)?;
        let made = self.listings(&pending, &layouts).and_then(|listings| {
            let site = |place| Site {
                family: rulebook.family,
                place,
            };
            let sections = checked(move_jumps(&layouts, &listings, site(old), site(new)))?;
            // After a reload nothing of ours is left to move.
            Ok(self.give(rulebook, &sections)?)
        });
        match made {
            Ok(()) => Ok(self.store.commit(&pending, &work.gone, &work.come)?),
            Err(ApplyError::Tables(error @ TablesError::Unknown { .. })) => Err(error.into()),
            Err(error) => {
                self.store.set_place(rulebook, old)?;
                self.store.abandon(&pending, &work.gone, &work.come)?;
                self.clear_up(&pending, false)?;
                Err(error)
            }
        }
    }

    /// Puts everything in anew where chains of ours stand that nobody has put in, or others are missing. Says whether it did.
    fn clear_strays(&mut self, rulebook: Rulebook) -> Result<bool, ApplyError> {
        let entries = self.store.entries(rulebook)?;
        let is_default = self.tables.default_variant(rulebook.family).ok() == Some(rulebook.variant);
        if entries.is_empty() && !is_default {
            return Ok(false);
        }
        let layouts: Vec<_> = entries.iter().map(|entry| entry.layout().clone()).collect();
        let mut all = BTreeSet::from([Table::Filter]);
        all.extend(layouts.iter().flat_map(Layout::tables));
        if self.stands_as_it_should(rulebook, &layouts, &all)? {
            return Ok(false);
        }
        let work = Work {
            rulebook,
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
        rulebook: Rulebook,
        layouts: &[Layout],
        tables: &BTreeSet<Table>,
    ) -> Result<bool, ApplyError> {
        let family = rulebook.family;
        let place = self.store.place(rulebook)?;
        for table in tables {
            let listing = Listing::of_save(&self.tables.save(rulebook, *table)?);
            if !holds(layouts, *table, &listing, Site { family, place }) {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// What makes these entries of those.
fn difference(rulebook: Rulebook, entries: &[Entry], wanted: &[Entry]) -> Work {
    let without = |all: &[Entry], others: &[Entry]| {
        let others: BTreeMap<_, _> = others.iter().map(|entry| (entry.id(), entry)).collect();
        let unlike = all.iter().filter(|entry| others.get(entry.id()) != Some(entry));
        unlike.cloned().collect()
    };
    Work {
        rulebook,
        gone: without(entries, wanted),
        come: without(wanted, entries),
        settle: Settle::Complete,
    }
}
