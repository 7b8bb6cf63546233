//! Walks a plan: record, kernel, record.
//!
//! Every change goes one way: it writes down what is about to be done, gives the kernel one
//! transaction, and sets the record right. If the kernel refuses because it does not hold what the record says (somebody has reloaded
//! the firewall), everything is rebuilt from the record, once.

mod find;
mod routing;

use std::collections::BTreeSet;

use crate::contract::{Multiplicity, Tunnel};
use crate::iptables::{Reason, Tables, TablesError};
use crate::netfilter::{Command, Listing, Rulebook, restore_text};
use crate::plan::{Change, Fault, TunnelKey, faults, lay_out, rebuild, transition};
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
            self.rebuild(pending.rulebook, &[], &[])?;
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

    /// The commands that some work takes; none, if only the record changes.
    ///
    /// # Errors
    /// If the record cannot be read, or the plan does not stand its own check.
    pub fn commands(&self, work: &Work) -> Result<Vec<Command>, ApplyError> {
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
            rulebook,
            gone,
            come,
            settle,
            outcome: _,
        } = work;
        let commands = self.commands(work)?;
        if commands.is_empty() {
            return Ok(come
                .iter()
                .try_for_each(|record| self.store.update(*rulebook, record))?);
        }
        let ids = |records: &[TunnelRecord]| records.iter().map(|record| record.id.clone()).collect();
        let pending = Pending {
            format: FORMAT,
            rulebook: *rulebook,
            gone: ids(gone),
            come: ids(come),
            settle: *settle,
        };
        let stood = self.store.has_tunnels(*rulebook)?;
        self.store.begin(&pending, gone, come)?;
        let made = match self.tables.restore(*rulebook, &restore_text(&commands)) {
            Err(error) if stood && may_be_drift(&error) => self.rebuild(*rulebook, gone, come),
            other => other.map_err(ApplyError::from),
        };
        match made {
            Ok(()) => Ok(self.store.commit(&pending, gone, come)?),
            // What the kernel holds is unknown: `pending` stays, and the next call rebuilds.
            Err(ApplyError::Tables(error @ TablesError::Unknown { .. })) => Err(error.into()),
            Err(error) => {
                self.store.abandon(&pending, gone, come)?;
                if stood && lost_too_much(&error) {
                    // Not this tunnel then; but the others can have their rules back. If not even that: the error above says why.
                    let _ = self.rebuild(*rulebook, &[], &[]);
                }
                Err(error)
            }
        }
    }

    /// Makes the kernel hold what the record says, less what goes and with what comes.
    fn rebuild(&mut self, rulebook: Rulebook, gone: &[TunnelRecord], come: &[TunnelRecord]) -> Result<(), ApplyError> {
        let mut records = self.store.tunnels(rulebook)?;
        records.retain(|record| !gone.iter().chain(come).any(|other| other.id == record.id));
        let layouts: Vec<_> = records.iter().chain(come).map(|record| record.layout.clone()).collect();
        let listing = Listing::of_save(&self.tables.save(rulebook)?);
        let commands = checked(rebuild(&layouts, &listing))?;
        if !commands.is_empty() {
            self.tables.restore(rulebook, &restore_text(&commands))?;
        }
        Ok(())
    }
}

fn checked(commands: Vec<Command>) -> Result<Vec<Command>, ApplyError> {
    match faults(&commands).into_iter().next() {
        Some(fault) => Err(ApplyError::Faulty(fault)),
        None => Ok(commands),
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
