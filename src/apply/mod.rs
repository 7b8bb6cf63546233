//! Executes a plan: record, kernel, record.
//!
//! Every change that changes a rule has the same steps: it writes the journal, runs
//! `iptables-restore` once, and commits the record. If the kernel refuses because its rules differ
//! from the record (the firewall was reloaded), the two are compared, and the differences are
//! repaired, once.
//!
//! The kernel commits each table as a whole, but a change of two tables can fail between them. The
//! journal stays until such a remainder is removed, by this call or by the next.

mod alike;
mod clear_text_blocks;
mod find;
mod forget;
mod gateway;
mod in_parts;
mod preview;
mod restore;
mod tunnel;

pub use forget::note_down;
pub use gateway::{Blocked, StartReport};
pub(crate) use gateway::{InstalledRecords, RecordedRulesets};
pub(crate) use preview::Preview;
pub(crate) use restore::Comparison;

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::daemon::{ConnectionName, PeerText};
use crate::firewall::{
    DesiredState, Drift, JumpConfig, MissingInterface, PlanFault, PolicyError, RecordScope, RulesetChange, TunnelId,
    plan_faults, transition,
};
use crate::net::Family;
use crate::netfilter::iptables::{RefusalReason, Tables, TablesError};
use crate::netfilter::{Ruleset, Section, Table, restore_text};
use crate::netlink::XfrmInterface;
use crate::settings::Settings;
use crate::state::{
    DaemonProcess, Installed, Journal, LayoutVersion, Record, RecordError, RecordList, Recovery, Store,
};
use restore::all_rules;

/// From so many records on a change is made in parts, see [`Change::in_parts`].
const BULK_THRESHOLD: usize = 256;

/// The context of a call.
#[derive(Debug, Clone, Default)]
pub struct Context {
    /// The daemon that called; `None` for calls made by hand.
    pub daemon: Option<DaemonProcess>,
    /// The time, in seconds since 1970 (UTC).
    pub now: u64,
    /// The existing XFRM interfaces; needed only for a tunnel whose daemon passes an interface id.
    pub interfaces: Vec<XfrmInterface>,
    /// The networks that the gateway is connected to, if they were queried; otherwise those in a
    /// tunnel's record are used.
    pub connected: Option<Vec<IpNet>>,
    /// Queries them if a `down` turns out to need them: the remaining openers' policy may use
    /// source NAT.
    pub ask_connected: Option<fn() -> Option<Vec<IpNet>>>,
    /// The path MTUs to peers, in bytes; needed only to clamp the MSS to them.
    pub path_mtus: BTreeMap<IpAddr, u16>,
    /// Queries one of them if it turns out to be needed: a `down` can change the rules of the
    /// tunnels that stay, and an `up` those of others that the kernel cannot distinguish.
    pub ask_path_mtu: Option<fn(IpAddr) -> Option<u16>>,
    /// The settings.
    pub settings: Settings,
    /// Where they come from.
    pub settings_origin: SettingsOrigin,
}

/// Where a call has its settings from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum SettingsOrigin {
    /// From the file, or there is none.
    #[default]
    File,
    /// None: a removal needs none, or the file cannot be read. The policies of the tunnels are
    /// recorded.
    Record,
}

/// One call at work: the record, locked, and the tables.
#[derive(Debug)]
pub struct Engine<'a, T: Tables> {
    store: &'a Store,
    tables: &'a mut T,
    context: Context,
    notes: Vec<Note>,
    /// The connections with a `down` that still could not be executed, and why.
    failed_owed_downs: Vec<(ConnectionName, ApplyError)>,
}

/// A note for the administrator about a change that was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Note {
    /// The kernel has no nat table for this ruleset, so no tunnel's packets are exempt from
    /// translation there.
    NotExempt(Ruleset),
    /// Two tunnels that the kernel cannot distinguish differ in keys that have no intersection.
    Conflict {
        /// The connection that came up.
        connection: ConnectionName,
        /// The one that was up first.
        first: ConnectionName,
        /// Who had that up, if it is the same connection.
        first_peer: Option<PeerText>,
        /// The keys.
        keys: Vec<&'static str>,
    },
    /// Something is set for a family that this kernel does not have, or not yet.
    NoFamily(Family),
    /// No packet reaches this program's rules, because the administrator's jump is missing.
    NoUserJump(Ruleset, Drift),
    /// `when-down = "block"` has no effect for a tunnel without a local network.
    BlockHasNoEffect {
        /// The connection.
        connection: ConnectionName,
        /// Its virtual address.
        address: IpAddr,
    },
    /// A tunnel's XFRM interface does not exist.
    MissingInterface {
        /// The connection.
        connection: ConnectionName,
        /// The interface's number.
        if_id: u32,
        /// What happens to packets into the tunnel.
        effect: MissingInterface,
    },
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotExempt(ruleset) => write!(
                f,
                "{ruleset}: the nat table takes no rules, tunnels are not exempted from NAT; if they need not be, set nat = \"leave\""
            ),
            Self::NoFamily(family) => write!(
                f,
                "no rules for {family}: this kernel does not have it yet; load its module before, or run start again then"
            ),
            Self::NoUserJump(ruleset, drift) => write!(f, "{ruleset} {drift}: no packet comes to our rules there"),
            Self::BlockHasNoEffect { connection, address } => write!(
                f,
                "{connection}: when-down = \"block\" blocks only packets from {address}, which the gateway has only while the tunnel is up; to send nothing unencrypted, name the interface in only-ipsec"
            ),
            Self::MissingInterface {
                connection,
                if_id,
                effect,
            } => write!(
                f,
                "{connection}: no XFRM interface has if_id {if_id}: {}; create it, and run pluto-updown start",
                match effect {
                    MissingInterface::Undecided => "your own rules decide about packets into the tunnel",
                    MissingInterface::Dropped => "packets into the tunnel are dropped by their addresses",
                    MissingInterface::Unrestricted => "packets into the tunnel are not restricted",
                }
            ),
            Self::Conflict {
                connection,
                first,
                first_peer,
                keys,
            } => {
                let peer = first_peer.iter().map(|peer| format!(" for {peer}")).collect::<String>();
                write!(
                    f,
                    "{connection} has the selectors and the reqid of {first}{peer}, but another {}",
                    keys.join(" and ")
                )?;
                let others: Vec<_> = keys.iter().filter(|key| **key != "chain").copied().collect();
                if !others.is_empty() {
                    write!(f, ": both use the {} of {first}{peer}", others.join(" and "))?;
                }
                match keys.contains(&"chain") {
                    true => f.write_str(
                        "; a chain applies only if the other tunnel allows everything, otherwise no packet passes",
                    ),
                    false => Ok(()),
                }
            }
        }
    }
}

/// The outcome of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TunnelOutcome {
    /// The tunnel's rules were installed.
    Opened,
    /// They were there already, as they should be; this many ups are open now.
    AlreadyOpen(u32),
    /// The tunnel's rules were removed.
    Closed,
    /// They stay: this many ups are still open.
    StillNeeded(u32),
    /// There was nothing to remove.
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
    /// A `down` is not executed yet. The outcome comes before the reason, because the reason can be
    /// long, and a line is cut.
    #[error("postponed to the next call: {0}")]
    Owed(Box<ApplyError>),
    /// A `down` is lost.
    #[error("its rules stay installed, remove them with pluto-updown prune ({note}): {error}")]
    Forgotten {
        /// Why it was not executed.
        error: Box<ApplyError>,
        /// Why it could not be noted either.
        note: RecordError,
    },
    /// The plan is wrong. A mistake in this program.
    #[error("nothing changed, the planned rules fail a self-check, please report this: {0}")]
    Faulty(PlanFault),
    /// A tunnel's settings conflict with the tunnel.
    #[error("{connection}: {fault}")]
    Policy {
        /// The tunnel's connection.
        connection: ConnectionName,
        /// The conflict.
        fault: PolicyError,
    },
}

/// A change of one ruleset: the records to remove and to add.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The ruleset.
    pub ruleset: Ruleset,
    /// The records that go.
    pub removed: Vec<Record>,
    /// The records to add; one that is also removed is replaced.
    pub added: Vec<Record>,
    /// What the next call does with the change if this call dies.
    pub recovery: Recovery,
}

impl Change {
    /// Whether the change removes and adds nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.removed.is_empty() && self.added.is_empty()
    }
}

/// The plan of a call: a change of each ruleset concerned, in this order, and the outcome to
/// report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The work.
    pub changes: Vec<Change>,
    /// The outcome to report.
    pub outcome: TunnelOutcome,
    /// Notes for the administrator.
    pub notes: Vec<Note>,
}

impl<'a, T: Tables> Engine<'a, T> {
    /// Begins to work on a record.
    pub fn new(store: &'a Store, tables: &'a mut T, caller: Context) -> Self {
        Self {
            store,
            tables,
            context: caller,
            notes: Vec::new(),
            failed_owed_downs: Vec::new(),
        }
    }

    /// Notes for the administrator about the changes that were made.
    #[must_use]
    pub fn notes(&self) -> &[Note] {
        &self.notes
    }

    /// The connections with a `down` that still could not be executed, and why.
    #[must_use]
    pub(crate) fn failed_owed_downs(&self) -> &[(ConnectionName, ApplyError)] {
        &self.failed_owed_downs
    }

    /// Does the work that no daemon calls for: recovers a change whose call died, writes rules of
    /// an older version again, removes the tunnels of daemons that have exited, and executes owed
    /// downs.
    ///
    /// Clearing is a matter of security: a new daemon gives the dead one's reqids to other tunnels.
    ///
    /// # Errors
    /// If it fails; the next call finds the same record and tries again.
    pub fn housekeep(&mut self) -> Result<(), ApplyError> {
        self.recover()?;
        self.upgrade()?;
        self.clear_dead_daemons()?;
        self.close_owed()
    }

    fn clear_dead_daemons(&mut self) -> Result<(), ApplyError> {
        for daemon in self.store.dead_daemons()? {
            for ruleset in Ruleset::all_rulesets() {
                let entries = self.store.entries(ruleset)?;
                let removed: Vec<_> = entries
                    .into_iter()
                    .filter(|entry| entry.daemon() == Some(daemon))
                    .collect();
                let change = Change {
                    ruleset,
                    removed,
                    added: Vec::new(),
                    recovery: Recovery::RollForward,
                };
                self.carry_out_in_parts(change)?;
            }
            self.store.forget_failed_ups_of(&daemon)?;
            self.store.unregister(&daemon)?;
        }
        Ok(())
    }

    /// What applies to the rules of a ruleset: to those installed, or to the next ones.
    fn installed(&self, ruleset: Ruleset) -> Result<Installed, RecordError> {
        match self.store.has_entries(ruleset)? {
            true => self.store.installed(ruleset),
            false => Ok(self.as_set()),
        }
    }

    /// What applies to new rules, by the settings.
    fn as_set(&self) -> Installed {
        let gateway = &self.context.settings.gateway;
        Installed {
            place: gateway.place,
            mark: gateway.mark,
            layout: LayoutVersion::CURRENT,
        }
    }

    /// The jumps' position and the mark bit of the installed rules, or of the next ones.
    fn jump_config(&self, ruleset: Ruleset) -> Result<JumpConfig, RecordError> {
        Ok(self.installed(ruleset)?.jump_config(ruleset))
    }

    /// The commands of a change, by table; empty if only the record changes.
    ///
    /// # Errors
    /// If the record cannot be read, or the plan fails its own check.
    pub fn sections(&self, change: &Change) -> Result<Vec<Section>, ApplyError> {
        let Change {
            ruleset,
            removed,
            added,
            ..
        } = change;
        let (staying, around) = self.store.shared_around(*ruleset, [removed, added])?;
        let rules_of = |entries: &[Record]| entries.iter().map(|entry| entry.tunnel_rules().clone()).collect();
        checked(transition(&RulesetChange {
            removed: rules_of(&change.removed),
            added: rules_of(&change.added),
            staying,
            around,
            jump_config: self.jump_config(change.ruleset)?,
        }))
    }

    /// Carries out a change. If the kernel has no nat table, no packets are translated: rules that
    /// only exempt packets from translation are left out then.
    fn carry_out(&mut self, change: &Change) -> Result<(), ApplyError> {
        match self.try_change(change) {
            Err(ApplyError::Tables(error)) if may_be_drift(&error) => match without_nat(change) {
                None => Err(error.into()),
                Some(spared) => {
                    self.try_change(&spared).map_err(|_| error)?;
                    self.notes.push(Note::NotExempt(change.ruleset));
                    Ok(())
                }
            },
            other => other,
        }
    }

    /// The same for a change that may be of very many tunnels.
    fn carry_out_in_parts(&mut self, change: Change) -> Result<(), ApplyError> {
        change.in_parts().iter().try_for_each(|part| self.carry_out(part))
    }

    fn try_change(&mut self, change: &Change) -> Result<(), ApplyError> {
        let Change {
            ruleset,
            removed,
            added,
            ..
        } = change;
        let sections = self.sections(change)?;
        if sections.is_empty() && changes_no_rule(change) {
            let old = |entry: &Record| removed.iter().find(|old| old.id() == entry.id());
            return Ok(added
                .iter()
                .try_for_each(|entry| self.store.update_record(*ruleset, old(entry), entry))?);
        }
        let journal = journal(change, &sections);
        let has_records = self.store.has_entries(*ruleset)?;
        if !has_records {
            self.store.set_installed(*ruleset, self.as_set())?;
        }
        self.store.begin_change(&journal, removed, added)?;
        let made = match self.load_sections(*ruleset, &sections) {
            // Also at the first `up`, when another firewall may have loaded its rules meanwhile.
            Err(error) if may_be_drift(&error) => self.bring_to_record(&journal, removed, added),
            other => other.map_err(ApplyError::from),
        };
        match made {
            Ok(()) => Ok(self.store.commit_change(&journal, removed, added)?),
            // The kernel's rules are unknown: the journal stays, and the next call rebuilds them.
            Err(ApplyError::Tables(error @ TablesError::Unknown { .. })) => Err(error.into()),
            Err(error) => {
                self.store.roll_back(&journal, removed, added)?;
                self.clear_up(&journal, has_records && lost_too_much(&error))?;
                Err(error)
            }
        }
    }

    /// Gives the kernel the changes. Starts no program without any: an entry can consist of parts
    /// that others share.
    fn load_sections(&mut self, ruleset: Ruleset, sections: &[Section]) -> Result<(), TablesError> {
        match sections.is_empty() {
            true => Ok(()),
            false => self.tables.restore(ruleset, &restore_text(sections)),
        }
    }

    /// Repairs the kernel's rules after a refusal, if that may be needed: other tunnels may have
    /// lost their rules, or the first table of the change may be committed. The record has been
    /// rolled back already.
    fn clear_up(&mut self, journal: &Journal, lost: bool) -> Result<(), RecordError> {
        let is_half = journal.tables.len() > 1;
        if is_half {
            // The exit code reports to the daemon that nothing was changed, so the next call must
            // not complete the change. If there is no space to say so in the journal, the journal
            // may be removed all the same.
            let _ = self.store.drop_change(journal);
        }
        let cleared = match lost || is_half {
            true => self.bring_to_record(journal, &[], &[]),
            false => Ok(()),
        };
        // The call reports why the change was refused, not why the repair was.
        match cleared {
            Err(_) if is_half => Ok(()),
            Ok(()) | Err(_) => self.store.clear_journal(),
        }
    }

    /// Repairs the kernel's rules to match the record, without the removed records and with the
    /// added ones.
    fn bring_to_record(&mut self, journal: &Journal, removed: &[Record], added: &[Record]) -> Result<(), ApplyError> {
        let ruleset = journal.ruleset;
        let RecordList {
            records: mut entries,
            unreadable,
        } = self.store.read_all(ruleset)?;
        entries.retain(|entry| !removed.iter().chain(added).any(|other| other.id() == entry.id()));
        entries.extend_from_slice(added);
        let jump_config = self.store.installed(ruleset)?.jump_config(ruleset);
        let wanted = DesiredState::from_rules(&all_rules(&entries), jump_config).of_scope(scope_of(&unreadable));
        self.bring_to(ruleset, wanted.with_user_jumps(journal.user_jumps.clone()))
    }
}

/// Whether all records could be read.
fn scope_of(unreadable: &[(TunnelId, RecordError)]) -> RecordScope {
    match unreadable.is_empty() {
        true => RecordScope::Complete,
        false => RecordScope::Partial,
    }
}

/// The same change without rules that only exempt packets in the nat table; `None` if there are
/// none, or other rules there too.
fn without_nat(change: &Change) -> Option<Change> {
    let has_nat = |entry: &&Record| entry.tunnel_rules().tables().contains(&Table::Nat);
    let mut in_nat = change.added.iter().filter(has_nat).peekable();
    in_nat.peek()?;
    if !in_nat.all(|entry| entry.tunnel_rules().can_omit_nat()) {
        return None;
    }
    let mut spared = change.clone();
    for entry in &mut spared.added {
        *entry.tunnel_rules_mut() = entry.tunnel_rules().clone().without_nat();
    }
    Some(spared)
}

/// Whether every record of a change has the same rules before and after it.
fn changes_no_rule(change: &Change) -> bool {
    let rules_by_id = |entries: &[Record]| -> BTreeMap<_, _> {
        let entries = entries.iter();
        entries
            .map(|entry| (entry.id().clone(), entry.tunnel_rules().clone()))
            .collect()
    };
    rules_by_id(&change.removed) == rules_by_id(&change.added)
}

fn journal(change: &Change, sections: &[Section]) -> Journal {
    let ids = |entries: &[Record]| entries.iter().map(|entry| entry.id().clone()).collect();
    Journal {
        format: crate::state::FORMAT,
        ruleset: change.ruleset,
        tables: sections.iter().map(|section| section.table).collect(),
        removed: ids(&change.removed),
        added: ids(&change.added),
        installed: None,
        user_jumps: BTreeMap::new(),
        recovery: change.recovery,
    }
}

fn checked(sections: Vec<Section>) -> Result<Vec<Section>, ApplyError> {
    match plan_faults(&sections).into_iter().next() {
        Some(fault) => Err(ApplyError::Faulty(fault)),
        None => Ok(sections),
    }
}

/// Whether the kernel may have refused because its rules differ from the record.
fn may_be_drift(error: &TablesError) -> bool {
    match error {
        TablesError::Refused { reason, .. } => *reason == RefusalReason::Rules,
        TablesError::Missing { .. }
        | TablesError::NoFamily(_)
        | TablesError::NotRun(_)
        | TablesError::Unknown { .. } => false,
    }
}

/// Whether the other tunnels' rules must be reinstalled after a failed rebuild.
fn lost_too_much(error: &ApplyError) -> bool {
    match error {
        ApplyError::Tables(error) => may_be_drift(error),
        ApplyError::Record(_)
        | ApplyError::Owed(_)
        | ApplyError::Forgotten { .. }
        | ApplyError::Faulty(_)
        | ApplyError::Policy { .. } => false,
    }
}
