//! Walks a plan: record, kernel, record.
//!
//! Every change goes one way: it writes down what is about to be done, gives the kernel one run of `iptables-restore`, and sets the record
//! right. If the kernel refuses because it does not hold what the record says (somebody has reloaded the firewall), everything is rebuilt
//! from the record, once.
//!
//! The kernel takes one table or leaves it, but a change of two tables can end between them. The note of what was about to be done stands
//! until such a remainder is cleared, by this call or by the next.

mod find;
mod routing;

use std::collections::{BTreeMap, BTreeSet};

use crate::contract::{Multiplicity, Tunnel};
use crate::iptables::{Reason, Tables, TablesError};
use crate::netfilter::{Listing, Rulebook, Section, Table, restore_text};
use crate::plan::{Change, Fault, Layout, TunnelKey, faults, lay_out, rebuild, transition};
use crate::record::{About, Daemon, FORMAT, Pending, RecordError, Settle, Store, TunnelRecord};
use crate::rtnetlink::XfrmInterface;

pub use routing::{RoutingError, RoutingOutcome, RoutingSession, RoutingWork};

/// What a call found around it.
#[derive(Debug, Clone)]
pub struct Caller {
    /// The daemon that called; none if somebody calls by hand.
    pub daemon: Option<Daemon>,
    /// The time, in seconds since 1970 (UTC).
    pub now: u64,
    /// The XFRM interfaces there are; needed only for a tunnel whose daemon tells the number of one.
    pub interfaces: Vec<XfrmInterface>,
}

/// One call at work: the record, locked, and the tables.
#[derive(Debug)]
pub struct Session<'a, T: Tables> {
    store: &'a Store,
    tables: &'a mut T,
    caller: Caller,
}

/// What came of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The tunnel's rules were put in.
    Opened,
    /// They were there already, as they should be; this many ups are open now.
    StoodAlready(u32),
    /// The tunnel's rules were taken out.
    Closed,
    /// They stay: this many ups are still open.
    StillNeeded(u32),
    /// There was nothing to take out.
    NothingThere,
}

/// Why a change was not made.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// The record cannot be read or written.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// The tables cannot be read or changed.
    #[error(transparent)]
    Tables(#[from] TablesError),
    /// The plan is wrong. A mistake in this program.
    #[error("refused by its own check, please report this: {0}")]
    Faulty(Fault),
}

/// What a call comes to in one rulebook: which records go and which come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Work {
    /// The rulebook.
    pub rulebook: Rulebook,
    /// The records that go.
    pub gone: Vec<TunnelRecord>,
    /// The records that come; one that also goes is replaced.
    pub come: Vec<TunnelRecord>,
    /// What becomes of it if this call dies.
    pub settle: Settle,
    /// What to say when it is done.
    pub outcome: Outcome,
}

impl<'a, T: Tables> Session<'a, T> {
    /// Begins to work on a record.
    pub fn new(store: &'a Store, tables: &'a mut T, caller: Caller) -> Self {
        Self { store, tables, caller }
    }

    /// Does what no daemon calls for: settles a change whose call died, and clears what dead daemons left.
    ///
    /// The latter is a matter of security: a new daemon gives the dead one's reqids to other tunnels.
    ///
    /// # Errors
    /// If that is not possible; the record says so to the next call too.
    pub fn housekeep(&mut self) -> Result<(), ApplyError> {
        if let Some(pending) = self.store.pending()? {
            self.store.recover(&pending)?;
            self.rebuild(&pending, &[], &[])?;
            self.store.settled()?;
        }
        for daemon in self.store.dead_daemons()? {
            for rulebook in Rulebook::all() {
                let tunnels = self.store.tunnels(rulebook)?;
                let gone: Vec<_> = tunnels
                    .into_iter()
                    .filter(|record| record.daemon == Some(daemon))
                    .collect();
                let work = Work {
                    rulebook,
                    gone,
                    come: Vec::new(),
                    settle: Settle::Complete,
                    outcome: Outcome::Closed,
                };
                self.carry_out(&work)?;
            }
            self.store.unregister(&daemon)?;
        }
        Ok(())
    }

    /// Opens the firewall for a tunnel.
    ///
    /// # Errors
    /// If that is not possible; nothing of it is left then.
    pub fn open(&mut self, tunnel: &Tunnel) -> Result<Outcome, ApplyError> {
        let work = self.opening(tunnel)?;
        self.carry_out(&work)?;
        Ok(work.outcome)
    }

    /// Closes the firewall for a tunnel, by its record.
    ///
    /// # Errors
    /// If that is not possible; the record stands then.
    pub fn close(&mut self, tunnel: &Tunnel) -> Result<Outcome, ApplyError> {
        let Some(work) = self.closing(tunnel)? else {
            return Ok(Outcome::NothingThere);
        };
        self.carry_out(&work)?;
        Ok(work.outcome)
    }

    /// What opening the firewall for a tunnel comes to.
    ///
    /// # Errors
    /// If the record cannot be read, or there is no iptables.
    pub fn opening(&self, tunnel: &Tunnel) -> Result<Work, ApplyError> {
        let key = TunnelKey::of(tunnel);
        let (rulebook, old, id) = match self.find(tunnel, &key)? {
            Some((rulebook, old)) => (rulebook, Some(old.clone()), old.id),
            None => self.place(tunnel, &key)?,
        };
        let (count, settle) = match tunnel.multiplicity {
            Multiplicity::Counted => (
                old.as_ref().map_or(1, |old| old.count.saturating_add(1)),
                Settle::Complete,
            ),
            Multiplicity::Single | Multiplicity::Instances => (1, Settle::Abandon),
        };
        let layout = lay_out(tunnel, &id, &self.caller.interfaces);
        let stood = old.as_ref().filter(|old| old.layout == layout);
        let outcome = if stood.is_some() {
            Outcome::StoodAlready(count)
        } else {
            Outcome::Opened
        };
        let new = TunnelRecord {
            format: FORMAT,
            id,
            key,
            multiplicity: tunnel.multiplicity,
            count,
            since: stood.map_or(self.caller.now, |old| old.since),
            daemon: self.caller.daemon,
            about: About::from(tunnel),
            layout,
        };
        Ok(Work {
            rulebook,
            gone: old.into_iter().collect(),
            come: vec![new],
            settle,
            outcome,
        })
    }

    /// What closing it comes to; nothing, if the tunnel is not on record.
    ///
    /// # Errors
    /// If the record cannot be read.
    pub fn closing(&self, tunnel: &Tunnel) -> Result<Option<Work>, ApplyError> {
        let Some((rulebook, record)) = self.find_open(tunnel)? else {
            return Ok(None);
        };
        let left = record.count.saturating_sub(1);
        let (come, outcome) = match left {
            0 => (Vec::new(), Outcome::Closed),
            1.. => (
                vec![TunnelRecord {
                    count: left,
                    ..record.clone()
                }],
                Outcome::StillNeeded(left),
            ),
        };
        Ok(Some(Work {
            rulebook,
            gone: vec![record],
            come,
            settle: Settle::Complete,
            outcome,
        }))
    }

    /// What some work takes, table by table; nothing, if only the record changes.
    ///
    /// # Errors
    /// If the record cannot be read, or the plan does not stand its own check.
    pub fn sections(&self, work: &Work) -> Result<Vec<Section>, ApplyError> {
        let layouts: Vec<_> = work
            .gone
            .iter()
            .chain(&work.come)
            .map(|record| &record.layout)
            .collect();
        let ids: BTreeSet<_> = work.gone.iter().chain(&work.come).map(|record| &record.id).collect();
        let staying = self.store.staying(work.rulebook, &layouts, &ids)?;
        let layouts_of = |records: &[TunnelRecord]| records.iter().map(|record| record.layout.clone()).collect();
        checked(transition(&Change {
            gone: layouts_of(&work.gone),
            come: layouts_of(&work.come),
            staying,
        }))
    }

    fn carry_out(&mut self, work: &Work) -> Result<(), ApplyError> {
        let Work {
            rulebook, gone, come, ..
        } = work;
        let sections = self.sections(work)?;
        if sections.is_empty() {
            return Ok(come
                .iter()
                .try_for_each(|record| self.store.update(*rulebook, record))?);
        }
        let pending = pending(work, &sections);
        let stood = self.store.has_tunnels(*rulebook)?;
        self.store.begin(&pending, gone, come)?;
        let made = match self.tables.restore(*rulebook, &restore_text(&sections)) {
            Err(error) if stood && may_be_drift(&error) => self.rebuild(&pending, gone, come),
            other => other.map_err(ApplyError::from),
        };
        match made {
            Ok(()) => Ok(self.store.commit(&pending, gone, come)?),
            // What the kernel holds is unknown: `pending` stays, and the next call rebuilds.
            Err(ApplyError::Tables(error @ TablesError::Unknown { .. })) => Err(error.into()),
            Err(error) => {
                self.store.abandon(&pending, gone, come)?;
                self.clear_up(&pending, stood && lost_too_much(&error))?;
                Err(error)
            }
        }
    }

    /// Sets the kernel right after a refusal, where there may be something to set right: other tunnels that lost their rules, or the first
    /// table of a change that got no further. The record already says what it said before.
    fn clear_up(&mut self, pending: &Pending, lost: bool) -> Result<(), RecordError> {
        let is_half = pending.tables.len() > 1;
        let cleared = match lost || is_half {
            true => self.rebuild(pending, &[], &[]),
            false => Ok(()),
        };
        // Why the change was refused is what the call tells, not why this was too.
        match cleared {
            Err(_) if is_half => Ok(()),
            Ok(()) | Err(_) => self.store.settled(),
        }
    }

    /// Makes the kernel hold what the record says, less what goes and with what comes.
    fn rebuild(&mut self, pending: &Pending, gone: &[TunnelRecord], come: &[TunnelRecord]) -> Result<(), ApplyError> {
        let rulebook = pending.rulebook;
        let mut records = self.store.tunnels(rulebook)?;
        records.retain(|record| !gone.iter().chain(come).any(|other| other.id == record.id));
        let layouts: Vec<_> = records.iter().chain(come).map(|record| record.layout.clone()).collect();
        let listings = self.listings(pending, &layouts)?;
        let sections = checked(rebuild(&layouts, &listings))?;
        if !sections.is_empty() {
            self.tables.restore(rulebook, &restore_text(&sections))?;
        }
        Ok(())
    }

    /// What of ours stands in the tables that the change or one of the tunnels has to do with. The others are not even looked at: with
    /// iptables-legacy that alone loads a table into the kernel.
    fn listings(&mut self, pending: &Pending, layouts: &[Layout]) -> Result<BTreeMap<Table, Listing>, ApplyError> {
        let mut needed = BTreeSet::from([Table::Filter]);
        needed.extend(layouts.iter().flat_map(Layout::tables));
        let mut listings = BTreeMap::new();
        for table in needed.union(&pending.tables) {
            match self.tables.save(pending.rulebook, *table) {
                Ok(text) => drop(listings.insert(*table, Listing::of_save(&text))),
                // A kernel without the table, most likely. It has refused the change then, and nothing of ours is in there.
                Err(error) if !needed.contains(table) && may_be_drift(&error) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(listings)
    }
}

fn pending(work: &Work, sections: &[Section]) -> Pending {
    let ids = |records: &[TunnelRecord]| records.iter().map(|record| record.id.clone()).collect();
    Pending {
        format: FORMAT,
        rulebook: work.rulebook,
        tables: sections.iter().map(|section| section.table).collect(),
        gone: ids(&work.gone),
        come: ids(&work.come),
        settle: work.settle,
    }
}

fn checked(sections: Vec<Section>) -> Result<Vec<Section>, ApplyError> {
    match faults(&sections).into_iter().next() {
        Some(fault) => Err(ApplyError::Faulty(fault)),
        None => Ok(sections),
    }
}

/// Whether the kernel may have refused because it does not hold what the record says.
fn may_be_drift(error: &TablesError) -> bool {
    match error {
        TablesError::Refused { reason, .. } => *reason == Reason::Rules,
        TablesError::Missing { .. } | TablesError::NotRun(_) | TablesError::Unknown { .. } => false,
    }
}

/// Whether a failed rebuild leaves the other tunnels to be put back.
fn lost_too_much(error: &ApplyError) -> bool {
    match error {
        ApplyError::Tables(error) => may_be_drift(error),
        ApplyError::Record(_) | ApplyError::Faulty(_) => false,
    }
}
