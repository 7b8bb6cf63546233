//! Gathers the data of a report from the record and the kernel.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use nix::unistd::geteuid;

use super::interfaces::add_missing_interfaces;
use super::problem::{Problem, ProblemKind, Severity, UNAPPLIED};
use super::without_rules::add_without_rules;
use crate::apply::{Context, Engine, RecordedRulesets};
use crate::commands::command_context::{Calls, CommandContext, rulesets};
use crate::commands::fix::Fix;
use crate::commands::no_record::{LostRecord, UnrecordedSas};
use crate::commands::prune::{PolicyState, PruneDoubt, SoughtTunnel, policy_states};
use crate::commands::settings_changes::SettingsChanges;
use crate::daemon::Tunnel;
use crate::dns::{self, NameUser};
use crate::firewall::{PacketPath, RecordScope, TunnelId, TunnelRules};
use crate::net::Network;
use crate::netfilter::{Counters, IptablesSave, Ruleset, SavedRule, Table, Target, normalize};
use crate::settings::{DEFAULT_PATH, Settings, SettingsError};
use crate::state::{ClearTextBlockRecord, FailedUp, Record, Store, TunnelRecord};
use crate::sys::files::read_plain;
use crate::updown::{HookError, know_tunnels};
use crate::words::{counted_noun, escaped, natural_order, one_line};

/// The state of the machine at one moment.
#[derive(Debug, Default)]
pub(super) struct StatusReport {
    /// When, in seconds since 1970 (UTC).
    pub(super) now: u64,
    /// The network namespace, by inode.
    pub(super) namespace: u64,
    /// This machine's name, if it has one.
    pub(super) hostname: Option<String>,
    /// The settings file.
    pub(super) settings: SettingsStatus,
    /// The recorded tunnels, by name.
    pub(super) tunnels: Vec<TunnelStatus>,
    /// Tunnels that are up and have no rules.
    pub(super) without_rules: Vec<FailedUp>,
    /// The gateway's own part, family by family.
    pub(super) gateways: Vec<GatewayStatus>,
    /// The blocked pairs.
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
    /// The counters of its rules; `None` if the firewall cannot be listed.
    pub(super) traffic: Option<TrafficCounters>,
    /// Whether its daemon runs; `None` if the daemon is unknown.
    pub(super) daemon_runs: Option<bool>,
    /// Whether the kernel has its IPsec policy; `None` if that is unknown.
    pub(super) policy_present: Option<bool>,
}

impl StatusReport {
    /// Whether everything is as it should be. A note is no fault.
    pub(super) fn is_ok(&self) -> bool {
        !self.has(Severity::Error) && !self.has(Severity::Unknown)
    }

    /// Whether there is a problem of this severity.
    pub(super) fn has(&self, severity: Severity) -> bool {
        self.problems.iter().any(|problem| problem.severity == severity)
    }
}

impl TunnelStatus {
    /// Whether a word names it: as [`is_called`], or by its id.
    pub(super) fn is_called(&self, name: &str) -> bool {
        let record = &self.record;
        record.id.as_str() == name || record.opener_views().iter().any(|(view, _)| is_called(view, name))
    }

    pub(super) fn title(&self) -> String {
        title(&self.record.tunnel)
    }
}

/// Whether a tunnel is of a connection of this name: as the daemon calls it, or as its
/// configuration does.
pub(in crate::commands) fn is_of(tunnel: &Tunnel, name: &str) -> bool {
    let connection = &tunnel.connection;
    let configured = connection.configured();
    connection.as_str() == name || configured.is_some_and(|configured| configured.as_str() == name)
}

/// Whether a word names a tunnel: its connection's name, an opener's user or identity, a peer's
/// address, its remote network, or an address in that.
pub(super) fn is_called(tunnel: &Tunnel, name: &str) -> bool {
    let network = &tunnel.remote_client;
    is_of(tunnel, name)
        || tunnel.user.as_ref().is_some_and(|user| user.as_str() == name)
        || tunnel.remote_id.as_str() == name
        || tunnel.remote_host.is_some_and(|host| name.parse() == Ok(host))
        || name.parse::<IpAddr>().is_ok_and(|address| network.contains(address))
        || name.parse::<Network>().is_ok_and(|other| other == *network)
}

/// A tunnel's connection, with the user or the network where the connection may have several.
pub(super) fn title(tunnel: &Tunnel) -> String {
    match &tunnel.user {
        Some(user) => format!("{} ({user})", tunnel.connection),
        None => format!("{} ({})", tunnel.connection, tunnel.remote_client),
    }
}

/// The gateway's own part in a ruleset.
#[derive(Debug)]
pub(super) struct GatewayStatus {
    pub(super) ruleset: Ruleset,
    /// When it was installed, in seconds since 1970 (UTC).
    pub(super) since: u64,
}

/// A blocked pair of networks.
#[derive(Debug)]
pub(super) struct BlockedPair {
    pub(super) ruleset: Ruleset,
    pub(super) record: ClearTextBlockRecord,
    /// The packets dropped between them; `None` if the firewall cannot be listed.
    pub(super) dropped: Option<Counters>,
}

/// The counters of a tunnel's rules since it came up, or since they were reset.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct TrafficCounters {
    pub(super) inbound: Counters,
    pub(super) outbound: Counters,
}

/// The settings file, and whether what it says is applied.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct SettingsStatus {
    /// The path of the file, whether or not it exists.
    pub(super) path: PathBuf,
    /// Whether the file exists.
    pub(super) is_there: bool,
    /// The error in the file, on one line.
    pub(super) error: Option<String>,
    /// Whether what it says is applied to the gateway and to tunnels that are up; nothing, if that
    /// is not known.
    pub(super) applied: Option<bool>,
}

/// How long a tunnel must be up, and not called about, before a missing policy is a problem, in
/// seconds: an SA ends before its `down` is called, and begins before its `up`.
pub(super) const POLICY_GRACE: u64 = 60;

/// How long an SA that ends is given to have its `down` called before policies are looked at a
/// second time.
const SECOND_LOOK: Duration = Duration::from_secs(1);

/// Looks at everything: one listing for each ruleset, and more only where calls changed something
/// meanwhile, or an SA may be about to end.
pub(super) fn gather(command: &CommandContext<'_>) -> Result<StatusReport, HookError> {
    let look = || {
        let report = gather_unsorted(command).map_err(|error| as_root(command, error))?;
        let is_unread = |problem: &Problem| problem.kind == ProblemKind::Unreadable;
        match report.problems.iter().any(is_unread) && !geteuid().is_root() {
            true => Err(HookError::NotRoot),
            false => Ok(report),
        }
    };
    let mut earlier: Option<Vec<Problem>> = None;
    command.look_undisturbed(look, |report, calls| {
        let lacks_policy = report
            .problems
            .iter()
            .any(|problem| problem.kind == ProblemKind::NoPolicy);
        match calls {
            Calls::Quiet if !lacks_policy || earlier.is_some() => return true,
            Calls::Quiet => {}
            // A call's own changes are seen in one look, and not in the next.
            Calls::Changing => report.problems.retain(|problem| {
                !problem.may_pass() || earlier.as_ref().is_none_or(|earlier| earlier.contains(problem))
            }),
            Calls::Stuck => spare_running_call(report, &command.peek()),
        }
        if !report.problems.iter().any(Problem::may_pass) {
            return true;
        }
        if lacks_policy && earlier.is_none() {
            sleep(SECOND_LOOK);
        }
        earlier = Some(report.problems.clone());
        false
    })
}

/// A call that takes long is not one that died, and what it is changing is not judged yet.
fn spare_running_call(report: &mut StatusReport, store: &Store) {
    let Some(journal) = store.journal().ok().flatten() else {
        return;
    };
    let is_its = |problem: &Problem| {
        let is_changing = problem.table.is_none_or(|table| journal.tables.contains(&table));
        let is_of_rules = matches!(problem.kind, ProblemKind::Interrupted | ProblemKind::Drift(_));
        is_of_rules && is_changing && problem.ruleset == Some(journal.ruleset)
    };
    report.problems.retain(|problem| !is_its(problem));
    let text = format!(
        "{}: a call has been running for more than a second; what it changes is not compared",
        journal.ruleset
    );
    let fix = "look again; if it does not end, see what it waits for: ps -ef | grep -e iptables -e pluto-updown";
    let problem = Problem::new(Severity::Note, ProblemKind::Running, text, Fix::Advice(fix.to_owned()));
    report.problems.push(problem.in_ruleset(journal.ruleset));
}

/// What cannot be read without root's rights is said to need them.
fn as_root(command: &CommandContext<'_>, error: HookError) -> HookError {
    match geteuid().is_root() || command.peek().is_readable() {
        true => error,
        false => HookError::NotRoot,
    }
}

fn gather_unsorted(command: &CommandContext<'_>) -> Result<StatusReport, HookError> {
    let store = command.peek();
    let mut programs = command.programs(&store);
    let rulesets = rulesets(&programs, &store)?;
    let settings = Settings::load(command.options.config.as_deref());
    let mut report = StatusReport {
        now: command.now,
        namespace: command.namespace,
        hostname: hostname(),
        settings: settings_status(command, settings.as_ref().err()),
        ..StatusReport::default()
    };
    let mut engine = Engine::new(&store, &mut programs, command.context());
    report.problems.extend(interrupted(&store)?);
    report.problems.extend(owed_problems(&store)?);
    add_without_rules(&mut report, &store)?;
    add_name_servers(&mut report, &store)?;
    let mut loaded = Vec::new();
    let (mut recorded, mut listings) = (RecordedRulesets::new(), BTreeMap::new());
    for ruleset in rulesets {
        let comparison = match engine.compare(ruleset) {
            Ok(comparison) => comparison,
            Err(error) => {
                report.problems.push(unreadable(ruleset, &error));
                recorded.insert(ruleset, store.entries(ruleset)?);
                continue;
            }
        };
        // Each record is read once, unless one cannot be read.
        if comparison.wanted.scope == RecordScope::Partial {
            let lost = store.read_all(ruleset)?.unreadable;
            let lost = lost.iter().map(|(id, error)| lost_record(ruleset, id, error));
            report.problems.extend(lost);
        }
        let owners = owners(&comparison.entries);
        let drifts = comparison.drifts.iter();
        loaded.extend(drifts.map(|drift| Problem::drift(ruleset, drift, |chain| owners.get(chain).cloned())));
        recorded.insert(ruleset, comparison.entries);
        listings.insert(ruleset, comparison.saved);
    }
    drop(engine);
    let is_error = |problem: &Problem| problem.severity == Severity::Error;
    // Before the records become a part of the report: each is read once.
    let settings = settings.map(|settings| unapplied(command, &store, settings, &recorded));
    for (ruleset, entries) in recorded {
        add_entries(&mut report, &store, ruleset, entries, listings.get(&ruleset));
    }
    let is_lost = loaded.iter().any(is_error) && is_nothing_recorded(&report, &store)?;
    report.problems.extend(match is_lost {
        true => vec![without_record(command, &loaded)],
        false => loaded,
    });
    if report.tunnels.is_empty() && report.without_rules.is_empty() {
        report.problems.extend(unrecorded());
    }
    report.tunnels.sort_by(|a, b| in_order(&a.record, &b.record));
    let pair_order = |pair: &BlockedPair| (pair.record.local.first(), pair.record.remote.first());
    report.blocked.sort_by_key(pair_order);
    add_policies(&mut report);
    add_missing_interfaces(&mut report);
    let orphans: Vec<_> = report.tunnels.iter().filter_map(orphan).collect();
    report.problems.extend(orphans);
    match settings {
        Ok(unapplied) => add_unapplied(&mut report, unapplied),
        Err(error) => report.problems.push(Problem::new(
            Severity::Error,
            ProblemKind::Settings,
            format_args!("settings: {error}"),
            Fix::Advice("correct this line, then: pluto-updown start".to_owned()),
        )),
    }
    Ok(report)
}

/// By name, then user, each with numbers as numbers, then remote network.
pub(in crate::commands) fn in_order(a: &TunnelRecord, b: &TunnelRecord) -> Ordering {
    let by_user = match (&a.tunnel.user, &b.tunnel.user) {
        (Some(one), Some(other)) => natural_order(one.as_str(), other.as_str()),
        (one, other) => one.is_some().cmp(&other.is_some()),
    };
    let by_network = (a.key.remote_client.first(), &a.id).cmp(&(b.key.remote_client.first(), &b.id));
    natural_order(a.key.connection.as_str(), b.key.connection.as_str())
        .then(by_user)
        .then(by_network)
}

fn hostname() -> Option<String> {
    let bytes = read_plain(Path::new("/proc/sys/kernel/hostname"), 256).ok()?;
    Some(escaped(bytes.trim_ascii(), 64))
}

fn settings_status(command: &CommandContext<'_>, error: Option<&SettingsError>) -> SettingsStatus {
    let config = command.options.config.as_deref();
    SettingsStatus {
        path: config.unwrap_or(Path::new(DEFAULT_PATH)).to_owned(),
        is_there: !Settings::is_file_absent(config),
        error: error.map(|error| one_line(&error.to_string())),
        applied: None,
    }
}

/// Which tunnel each chain is of.
fn owners(entries: &[Record]) -> HashMap<String, String> {
    let chains = entries.iter().filter_map(Record::as_tunnel).flat_map(|record| {
        let fragments = Table::ALL
            .into_iter()
            .filter_map(|table| record.tunnel_rules.fragment(table));
        fragments
            .flat_map(|fragment| &fragment.chains)
            .map(|chain| (chain.to_string(), record.id.as_str().to_owned()))
    });
    chains.collect()
}

fn is_nothing_recorded(report: &StatusReport, store: &Store) -> Result<bool, HookError> {
    let is_empty = report.tunnels.is_empty() && report.gateways.is_empty() && report.blocked.is_empty();
    Ok(is_empty && !store.has_routings()?)
}

/// Instead of what is loaded, ruleset by ruleset.
fn without_record(command: &CommandContext<'_>, loaded: &[Problem]) -> Problem {
    let rulesets = loaded.iter().filter_map(|problem| problem.ruleset);
    let LostRecord { text, fix } = LostRecord::with_rulesets(rulesets, &command.options.state_dir);
    Problem {
        count: loaded.len(),
        ..Problem::new(Severity::Error, ProblemKind::NoRecord, text, fix)
    }
}

/// A note where the kernel has SAs, and no tunnel is recorded.
fn unrecorded() -> Option<Problem> {
    let UnrecordedSas { number, text, fix } = UnrecordedSas::in_kernel()?;
    Some(Problem {
        count: number,
        ..Problem::new(Severity::Note, ProblemKind::NoRecord, text, fix)
    })
}

/// Adds whether the kernel has the policies of the tunnels. An unknown state is no problem, unless
/// the kernel has no policy at all.
fn add_policies(report: &mut StatusReport) {
    let tunnels = report.tunnels.iter();
    let sought: Vec<_> = tunnels.map(|tunnel| SoughtTunnel::from(&tunnel.record)).collect();
    // Without root, or without XFRM, nothing is known of any.
    let Ok(states) = policy_states(&sought) else {
        return;
    };
    let mut none_at_all = 0;
    let mut problems = Vec::new();
    for (tunnel, state) in report.tunnels.iter_mut().zip(states) {
        let called = tunnel.last_call.unwrap_or_default().max(tunnel.record.since);
        tunnel.policy_present = match state {
            PolicyState::Up => Some(true),
            PolicyState::Gone => Some(false),
            PolicyState::Doubtful(PruneDoubt::NoPolicies) => {
                none_at_all += 1;
                None
            }
            PolicyState::Doubtful(_) => None,
        };
        if tunnel.policy_present == Some(false) && report.now.saturating_sub(called) > POLICY_GRACE {
            let text = format!("{}: no IPsec policy in the kernel", tunnel.title());
            let problem = Problem::new(Severity::Error, ProblemKind::NoPolicy, text, Fix::PRUNE);
            problems.push(
                problem
                    .in_ruleset(tunnel.ruleset)
                    .about_tunnel(tunnel.record.id.as_str()),
            );
        }
    }
    if none_at_all > 0 {
        let text = format!(
            "{} up, and the kernel has no IPsec policy at all: traffic may leave unencrypted",
            counted_noun(none_at_all, "tunnel")
        );
        let fix = "see ip xfrm policy; if they were flushed, restart the IKE daemon".to_owned();
        problems.push(Problem {
            count: none_at_all,
            ..Problem::new(Severity::Note, ProblemKind::NoPolicy, text, Fix::Advice(fix))
        });
    }
    report.problems.extend(problems);
}

/// What `start` would change, in lines; nothing, if that cannot be computed: the cause is a problem
/// of its own.
fn unapplied(
    command: &CommandContext<'_>,
    store: &Store,
    settings: Settings,
    recorded: &RecordedRulesets,
) -> Option<Vec<String>> {
    let mut context = Context {
        now: command.now,
        settings,
        ..Context::default()
    };
    let tunnels = recorded.values().flatten().filter_map(Record::as_tunnel);
    know_tunnels(&mut context, &tunnels.collect::<Vec<_>>());
    let mut programs = command.programs(store);
    let engine = Engine::new(store, &mut programs, context);
    let moves = Ruleset::all_rulesets().map(|ruleset| engine.has_other_layout(ruleset));
    let moves = moves.collect::<Result<Vec<_>, _>>().ok()?.contains(&true);
    let mut lines = SettingsChanges::from_changes(&engine.plan_start_from(recorded).ok()?).change_lines();
    if moves {
        lines.push("all rules: another place, mark or layout".to_owned());
    }
    Some(lines)
}

/// Adds what `start` would change.
fn add_unapplied(report: &mut StatusReport, lines: Option<Vec<String>>) {
    let Some(lines) = lines else { return };
    report.settings.applied = Some(lines.is_empty());
    let fix = match report.settings.is_there {
        true => Fix::START,
        false => Fix::Advice(format!(
            "{} is not there: name the settings file with --config, or restore it",
            report.settings.path.display()
        )),
    };
    report.problems.extend(lines.into_iter().map(|line| {
        let text = format!("{UNAPPLIED}{line}");
        Problem::new(Severity::Note, ProblemKind::Unapplied, text, fix.clone())
    }));
}

fn add_entries(
    report: &mut StatusReport,
    store: &Store,
    ruleset: Ruleset,
    entries: Vec<Record>,
    saved: Option<&IptablesSave>,
) {
    let counted = saved.map(chain_counters);
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
                policy_present: None,
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

/// The counters of a blocked pair's own rules.
fn dropped(tunnel_rules: &TunnelRules, saved: &IptablesSave) -> Counters {
    let rules = tunnel_rules
        .fragment(Table::Filter)
        .into_iter()
        .flat_map(|fragment| &fragment.rules);
    let drops = rules.filter(|placed| placed.rule.target == Target::Drop);
    let counters = drops.filter_map(|placed| {
        let text = placed.rule.to_string();
        let listed = saved.table(Table::Filter)?.rules(&placed.chain.to_string());
        let is_it = |line: &&SavedRule| normalize(&line.text) == normalize(&text);
        Some(listed.iter().find(is_it)?.counters)
    });
    counters.fold(Counters::default(), |sum, counters| sum + counters)
}

/// How many packets and bytes were sent to each chain of this program in the filter table.
fn chain_counters(saved: &IptablesSave) -> HashMap<Cow<'_, str>, Counters> {
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

/// The counters of the jumps to a tunnel's own chains. An IP-in-IP packet, too small to be worth
/// compressing, arrives once more as the inner packet, and is counted then.
fn traffic(tunnel_rules: &TunnelRules, counted: &HashMap<Cow<'_, str>, Counters>) -> TrafficCounters {
    let sum_of = |paths: [PacketPath; 2]| {
        let chains = paths.into_iter().flat_map(|path| tunnel_rules.chains_on(path));
        let counters = chains.filter_map(|(_, chain)| counted.get(chain.as_str()));
        counters.fold(Counters::default(), |sum, counters| sum + *counters)
    };
    TrafficCounters {
        inbound: sum_of([PacketPath::Input, PacketPath::ForwardIn]),
        outbound: sum_of([PacketPath::Output, PacketPath::ForwardOut]),
    }
}

fn unreadable(ruleset: Ruleset, error: &dyn std::fmt::Display) -> Problem {
    let text = format!("{ruleset}: {error}");
    Problem::new(Severity::Unknown, ProblemKind::Unreadable, text, Fix::CHECK).in_ruleset(ruleset)
}

/// A record that cannot be read. Its rules stay as they are.
fn lost_record(ruleset: Ruleset, id: &TunnelId, error: &dyn std::fmt::Display) -> Problem {
    let text = format!("{ruleset}: the record of {id} cannot be read, its rules stay as they are: {error}");
    let fix = "delete this file, then: pluto-updown restore; and bring the tunnel up again".to_owned();
    let problem = Problem::new(Severity::Error, ProblemKind::LostRecord, text, Fix::Advice(fix));
    problem.in_ruleset(ruleset).about_tunnel(id.as_str())
}

fn interrupted(store: &Store) -> Result<Option<Problem>, HookError> {
    Ok(store.journal()?.map(|journal| {
        let text = format!("{}: a previous run was interrupted", journal.ruleset);
        Problem::new(Severity::Error, ProblemKind::Interrupted, text, Fix::RESTORE).in_ruleset(journal.ruleset)
    }))
}

/// Downs that are still to be executed.
fn owed_problems(store: &Store) -> Result<Vec<Problem>, HookError> {
    let owed = store.owed_downs()?.into_iter().map(|owed| {
        let (text, fix) = match owed.tunnel {
            Some(tunnel) => (
                format!(
                    "{}: its `down` could not be executed yet, its rules are still installed",
                    tunnel.connection
                ),
                Fix::RESTORE,
            ),
            None => ("a postponed `down` cannot be read".to_owned(), Fix::PRUNE),
        };
        Problem::new(Severity::Error, ProblemKind::Owed, text, fix)
    });
    Ok(owed.collect())
}

/// Name servers in use, and what of them is not confirmed or not undone.
fn add_name_servers(report: &mut StatusReport, store: &Store) -> Result<(), HookError> {
    let (users, unfinished) = dns::report(store)?;
    report.name_users = users;
    let problem = |text| Problem::new(Severity::Error, ProblemKind::Unconfirmed, text, Fix::RESTORE);
    report.problems.extend(unfinished.into_iter().map(problem));
    Ok(())
}

fn orphan(tunnel: &TunnelStatus) -> Option<Problem> {
    let daemon = tunnel.record.daemon.filter(|_| tunnel.daemon_runs == Some(false))?;
    let text = format!("{}: its IKE daemon (pid {}) has exited", tunnel.title(), daemon.pid);
    let fix = match tunnel.policy_present {
        // Packets still use it: prune keeps the tunnel.
        Some(true) => Fix::Advice("start the IKE daemon again: its first call removes these tunnels".to_owned()),
        Some(false) | None => Fix::PRUNE,
    };
    let problem = Problem::new(Severity::Error, ProblemKind::Stale, text, fix);
    Some(
        problem
            .in_ruleset(tunnel.ruleset)
            .about_tunnel(tunnel.record.id.as_str()),
    )
}
