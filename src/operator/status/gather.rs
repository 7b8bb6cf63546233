//! Everything that a report says, from the record and the kernel.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};

use super::super::command_context::{CommandContext, rulesets};
use crate::apply::{Comparison, Engine};
use crate::hook::HookError;
use crate::netfilter::{Counters, IptablesSave, Ruleset, SavedRule, Table, Target, normalize};
use crate::plan::{Drift, DriftKind, PacketPath, TunnelRules};
use crate::record::{ClearTextBlockRecord, NameUser, Record, Store, TunnelRecord};
use crate::resolver;
use crate::words::one_line;

/// What is, at one moment.
#[derive(Debug, Default)]
pub(super) struct StatusReport {
    /// When, in seconds since 1970 (UTC).
    pub(super) now: u64,
    /// The network namespace, by inode.
    pub(super) namespace: u64,
    /// The tunnels on record, by name.
    pub(super) tunnels: Vec<TunnelStatus>,
    /// The gateway's own part, family by family.
    pub(super) gateways: Vec<GatewayStatus>,
    /// The networks that are held apart.
    pub(super) blocked: Vec<BlockedPair>,
    /// Who uses name servers of a peer.
    pub(super) name_users: Vec<NameUser>,
    /// What is not as it should be.
    pub(super) problems: Vec<Problem>,
}

/// One tunnel.
#[derive(Debug)]
pub(super) struct TunnelStatus {
    pub(super) ruleset: Ruleset,
    pub(super) record: TunnelRecord,
    /// When a daemon last called about it, in seconds since 1970 (UTC).
    pub(super) last_call: Option<u64>,
    /// What came out of it and went into it; nothing, where the firewall cannot be listed.
    pub(super) traffic: Option<TrafficCounters>,
    /// Whether its daemon runs; nothing, where it is not known which one it was.
    pub(super) daemon_runs: Option<bool>,
}

/// The gateway's own part in a ruleset.
#[derive(Debug)]
pub(super) struct GatewayStatus {
    pub(super) ruleset: Ruleset,
    /// When it was put in, in seconds since 1970 (UTC).
    pub(super) since: u64,
}

/// Two networks that are held apart.
#[derive(Debug)]
pub(super) struct BlockedPair {
    pub(super) ruleset: Ruleset,
    pub(super) record: ClearTextBlockRecord,
    /// What was dropped between them; nothing, where the firewall cannot be listed.
    pub(super) dropped: Option<Counters>,
}

/// What a tunnel's rules have counted since it came up, or since somebody set the counters back.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct TrafficCounters {
    pub(super) inbound: Counters,
    pub(super) outbound: Counters,
}

/// One thing that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Problem {
    pub(super) ruleset: Option<Ruleset>,
    pub(super) table: Option<Table>,
    pub(super) kind: &'static str,
    /// What is wrong, in a line.
    pub(super) text: String,
    /// The command that mends it.
    pub(super) fix: &'static str,
}

const RESTORE: &str = "pluto-updown restore";
const START: &str = "pluto-updown start";
const OWN: &str = "put it into your own rules";
const PRUNE: &str = "pluto-updown prune";
const CHECK: &str = "pluto-updown check";

/// Looks at everything: one listing for each ruleset at most, a second one where something seems wrong.
pub(super) fn gather(ground: &CommandContext<'_>) -> Result<StatusReport, HookError> {
    let first = look(ground)?;
    // A call may have changed what we had only half looked at.
    match first.problems.is_empty() {
        true => Ok(first),
        false => look(ground),
    }
}

fn look(ground: &CommandContext<'_>) -> Result<StatusReport, HookError> {
    let store = ground.peek();
    let mut programs = ground.programs(&store);
    let rulesets = rulesets(&programs, &store)?;
    let mut session = Engine::new(&store, &mut programs, ground.context());
    let mut report = StatusReport {
        now: ground.now,
        namespace: ground.namespace,
        ..StatusReport::default()
    };
    report.problems.extend(interrupted(&store)?);
    report.problems.extend(owed(&store)?);
    add_name_servers(&mut report, &store)?;
    for ruleset in rulesets {
        let mut comparison = match session.compare(ruleset) {
            Ok(comparison) => Some(comparison),
            Err(error) => {
                report.problems.push(unreadable(ruleset, &error));
                None
            }
        };
        let entries = match &mut comparison {
            Some(comparison) => std::mem::take(&mut comparison.entries),
            None => store.entries(ruleset)?,
        };
        let saved = comparison.as_ref().map(|comparison| &comparison.saved);
        add_entries(&mut report, &store, ruleset, entries, saved);
        report
            .problems
            .extend(comparison.iter().flat_map(|found| drifted(ruleset, found)));
    }
    report
        .tunnels
        .sort_by(|a, b| (&a.record.key.connection, &a.record.id).cmp(&(&b.record.key.connection, &b.record.id)));
    let orphans: Vec<_> = report.tunnels.iter().filter_map(orphan).collect();
    report.problems.extend(orphans);
    Ok(report)
}

fn add_entries(
    report: &mut StatusReport,
    store: &Store,
    ruleset: Ruleset,
    entries: Vec<Record>,
    saved: Option<&IptablesSave>,
) {
    let counted = saved.map(counted);
    let mut runs = BTreeMap::new();
    for entry in entries {
        match entry {
            Record::Tunnel(record) => report.tunnels.push(TunnelStatus {
                ruleset,
                last_call: store.last_call(ruleset, &record.id),
                traffic: counted.as_ref().map(|counted| traffic(&record.tunnel_rules, counted)),
                daemon_runs: record
                    .daemon
                    .map(|daemon| *runs.entry(daemon).or_insert_with(|| !daemon.is_dead())),
                record: *record,
            }),
            Record::Gateway(record) => report.gateways.push(GatewayStatus {
                ruleset,
                since: record.since,
            }),
            Record::ClearTextBlock(record) => report.blocked.push(BlockedPair {
                ruleset,
                dropped: saved.map(|saved| dropped(&record.tunnel_rules, saved)),
                record: *record,
            }),
            // A part of its tunnel.
            Record::EspPeer(_) => {}
        }
    }
}

/// What a guard's own rules have dropped.
fn dropped(tunnel_rules: &TunnelRules, saved: &IptablesSave) -> Counters {
    let rules = tunnel_rules
        .fragment(Table::Filter)
        .into_iter()
        .flat_map(|piece| &piece.rules);
    let drops = rules.filter(|placed| placed.rule.target == Target::Drop);
    let counters = drops.filter_map(|placed| {
        let text = placed.rule.to_string();
        let listed = saved.table(Table::Filter)?.rules(&placed.chain.to_string());
        let is_it = |line: &&SavedRule| normalize(&line.text) == normalize(&text);
        Some(listed.iter().find(is_it)?.counters)
    });
    counters.fold(Counters::default(), |sum, counters| sum + counters)
}

/// How much each chain of ours in the filter table was sent.
fn counted(saved: &IptablesSave) -> HashMap<Cow<'_, str>, Counters> {
    let mut counted: HashMap<_, Counters> = HashMap::new();
    let chains = saved.table(Table::Filter).into_iter().flat_map(|table| table.chains());
    for rule in chains.flat_map(|(_, rules)| rules) {
        if let Some(target) = rule.jump_target() {
            let sum = counted.entry(target).or_default();
            *sum = *sum + rule.counters;
        }
    }
    counted
}

/// What a tunnel's own chains were sent, by where their names say that their packets go. What arrived as IP in IP, too small to be worth
/// compressing, comes by once more as what it is, and is counted then.
fn traffic(tunnel_rules: &TunnelRules, counted: &HashMap<Cow<'_, str>, Counters>) -> TrafficCounters {
    let mut traffic = TrafficCounters::default();
    let chains = tunnel_rules
        .fragment(Table::Filter)
        .into_iter()
        .flat_map(|piece| &piece.chains);
    for chain in chains {
        let tag = chain.as_str().rsplit('-').next().unwrap_or_default();
        let is = |path: PacketPath| path.tag() == tag;
        let sum = if is(PacketPath::Input) || is(PacketPath::ForwardIn) {
            &mut traffic.inbound
        } else if is(PacketPath::Output) || is(PacketPath::ForwardOut) {
            &mut traffic.outbound
        } else {
            continue;
        };
        *sum = *sum + counted.get(chain.as_str()).copied().unwrap_or_default();
    }
    traffic
}

fn drifted(ruleset: Ruleset, found: &Comparison) -> Vec<Problem> {
    let problem = |drift: &Drift| Problem {
        ruleset: Some(ruleset),
        table: Some(drift.table),
        kind: match drift.kind {
            DriftKind::Nothing(_)
            | DriftKind::NoChain(_)
            | DriftKind::NoRule(..)
            | DriftKind::NoJump(_)
            | DriftKind::NoUserJump(_) => "missing",
            DriftKind::OrphanChain(_) | DriftKind::UnexpectedRule(..) => "foreign",
            DriftKind::Order(_) | DriftKind::Jumps(..) | DriftKind::Misplaced(..) => "changed",
            DriftKind::OlderLayout => "older",
        },
        text: one_line(&format!("{ruleset} {drift}")),
        fix: if drift.kind == DriftKind::OlderLayout {
            START
        } else if drift.is_repairable() {
            RESTORE
        } else {
            OWN
        },
    };
    found.drifts.iter().map(problem).collect()
}

fn unreadable(ruleset: Ruleset, error: &dyn std::fmt::Display) -> Problem {
    Problem {
        ruleset: Some(ruleset),
        table: None,
        kind: "unreadable",
        text: one_line(&format!("{ruleset}: {error}")),
        fix: CHECK,
    }
}

fn interrupted(store: &Store) -> Result<Option<Problem>, HookError> {
    Ok(store.journal()?.map(|pending| Problem {
        ruleset: Some(pending.ruleset),
        table: None,
        kind: "interrupted",
        text: format!("{}: a call died before it was through", pending.ruleset),
        fix: RESTORE,
    }))
}

/// Downs that are still to be executed.
fn owed(store: &Store) -> Result<Vec<Problem>, HookError> {
    let owed = store.owed()?.into_iter().map(|owed| {
        let (text, fix) = match owed.tunnel {
            Some(tunnel) => (
                format!(
                    "{}: its `down` could not be executed yet, its rules are still installed",
                    tunnel.connection
                ),
                RESTORE,
            ),
            None => ("a note of a `down` cannot be read".to_owned(), PRUNE),
        };
        Problem {
            ruleset: None,
            table: None,
            kind: "owed",
            text,
            fix,
        }
    });
    Ok(owed.collect())
}

/// Name servers in use, and what of them is not confirmed or not undone.
fn add_name_servers(report: &mut StatusReport, store: &Store) -> Result<(), HookError> {
    let (users, unfinished) = resolver::report(store)?;
    report.name_users = users;
    report.problems.extend(unfinished.into_iter().map(|text| Problem {
        ruleset: None,
        table: None,
        kind: "unconfirmed",
        text,
        fix: RESTORE,
    }));
    Ok(())
}

fn orphan(tunnel: &TunnelStatus) -> Option<Problem> {
    (tunnel.daemon_runs == Some(false)).then(|| Problem {
        ruleset: Some(tunnel.ruleset),
        table: None,
        kind: "stale",
        text: format!("{}: its daemon runs no more", tunnel.record.key.connection),
        fix: PRUNE,
    })
}
