//! `prune`: removes tunnels that are no longer up, although no daemon said so.
//!
//! A daemon that is killed calls no hook. Its tunnels are removed at the first call of the next
//! daemon; without one, the rules stay. The kernel decides whether a tunnel is up: its policies
//! outlive their daemon, and packets use them.

mod policy_state;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use super::command_context::{CommandContext, print};
use crate::apply::Engine;
use crate::cli::{Mode, Options};
use crate::net::Interface;
use crate::netfilter::{Ruleset, restore_text};
use crate::netlink::xfrm::{XfrmSa, policies, sas};
use crate::netlink::{self, LinkKind, NetConfig as _, xfrm_interfaces};
use crate::routing::{RoutingEngine, RoutingError};
use crate::state::{DaemonProcess, FailedUp, Store, TunnelRecord};
use crate::updown::{HookError, close_late};
use crate::words::counted_noun;
use policy_state::{DaemonLife, KernelPolicies, TunnelTag, policy_state, sa_state};
pub(super) use policy_state::{PolicyState, PruneDoubt, SoughtTunnel};

/// Removes these tunnels, and reports them. Returns the exit code.
pub(super) fn run(options: &Options) -> Result<u8, HookError> {
    let command = CommandContext::new(options)?;
    match options.mode {
        Mode::DryRun => show_pruned(&command, &command.peek()),
        Mode::Real => prune(&command, command.open_store()?),
    }
}

fn prune(command: &CommandContext<'_>, store: Store) -> Result<u8, HookError> {
    let done = prune_locked(command, &store);
    let tidied = store.remove_unused();
    let (mut text, kept) = done?;
    tidied?;
    // Without the lock, so that a program that hangs does not delay any tunnel's rules.
    drop(store);
    close_late(command.options, command.namespace);
    for trouble in command.settle_resolver(&kept)? {
        let _ = writeln!(text, "{trouble}");
    }
    print(&text)?;
    Ok(0)
}

/// What is done under the lock, in words, and the dead daemons that have tunnels still.
fn prune_locked(command: &CommandContext<'_>, store: &Store) -> Result<(String, BTreeSet<DaemonProcess>), HookError> {
    let mut programs = command.programs(store);
    let mut engine = Engine::new(store, &mut programs, command.changing_context(store)?);
    engine.recover()?;
    engine.upgrade()?;
    engine.close_owed()?;
    let judged = judge_tunnels(store)?;
    let mut text = judged.report_text("removed");
    let changes = engine.plan_tunnel_removal(judged.gone)?;
    engine.remove_tunnels(&changes)?;
    for failed in ended_without_rules(store)? {
        store.forget_failed_up(&failed.tunnel)?;
        let (connection, network) = (&failed.tunnel.connection, failed.tunnel.remote_client);
        // Writing into a String cannot fail.
        let _ = writeln!(
            text,
            "{connection} ({network}): was up without rules, the kernel has no policy of it any more"
        );
    }
    let (cleared, kept) = clear_dead(command, store)?;
    text.push_str(&cleared);
    Ok((text, kept))
}

fn show_pruned(command: &CommandContext<'_>, store: &Store) -> Result<u8, HookError> {
    let mut programs = command.programs(store);
    let engine = Engine::new(store, &mut programs, command.context());
    let judged = judge_tunnels(store)?;
    let mut text = judged.report_text("would be removed");
    for change in engine.plan_tunnel_removal(judged.gone)? {
        let ruleset = change.ruleset;
        let sections = engine.sections(&change)?;
        // Writing into a String cannot fail.
        let _ = write!(
            text,
            "# would change the {ruleset} tables:\n{}",
            restore_text(&sections)
        );
    }
    print(&text)?;
    Ok(0)
}

/// The decisions about all recorded tunnels.
struct PruneReport {
    /// How many there are.
    total: usize,
    gone: Vec<(Ruleset, TunnelRecord)>,
    doubtful: Vec<(TunnelRecord, policy_state::PruneDoubt)>,
}

impl PruneReport {
    fn report_text(&self, word: &str) -> String {
        let mut text = String::new();
        for (_, record) in &self.gone {
            let _ = writeln!(
                text,
                "{}: stale, no IPsec policy in the kernel, {word} ({})",
                record.key.connection,
                tunnel_words(record)
            );
        }
        for (record, doubt) in &self.doubtful {
            let _ = writeln!(
                text,
                "{}: kept: {doubt} ({})",
                record.key.connection,
                tunnel_words(record)
            );
        }
        let gone = self.gone.len();
        let doubtful = self.doubtful.len();
        let _ = writeln!(
            text,
            "{} recorded, {gone} {word}, {doubtful} kept (cannot tell)",
            counted_noun(self.total, "tunnel")
        );
        text
    }
}

/// A tunnel, for people.
fn tunnel_words(record: &TunnelRecord) -> String {
    let number = match (record.reqid(), &record.tunnel_rules.interface) {
        (Some(reqid), _) => format!(", reqid {reqid}"),
        (None, Some(interface)) => format!(", interface {interface}"),
        (None, None) => String::new(),
    };
    format!("{} to {}{number}", record.key.local_client, record.key.remote_client)
}

/// Queries the kernel after the record is locked: a daemon installs a tunnel's policies before it
/// calls `up`, so every tunnel that is recorded by now has them.
fn judge_tunnels(store: &Store) -> Result<PruneReport, HookError> {
    let mut records = Vec::new();
    for ruleset in Ruleset::all_rulesets() {
        records.extend(store.tunnels(ruleset)?.into_iter().map(|record| (ruleset, record)));
    }
    let mut judged = PruneReport {
        total: records.len(),
        gone: Vec::new(),
        doubtful: Vec::new(),
    };
    if records.is_empty() {
        return Ok(judged);
    }
    let sought: Vec<_> = records.iter().map(|(_, record)| SoughtTunnel::from(record)).collect();
    let states = policy_states(&sought)?;
    for ((ruleset, record), state) in records.into_iter().zip(states) {
        match state {
            PolicyState::Up => {}
            PolicyState::Gone => judged.gone.push((ruleset, record)),
            PolicyState::Doubtful(doubt) => judged.doubtful.push((record, doubt)),
        }
    }
    Ok(judged)
}

/// The tunnels that were up without rules, and are no longer up.
fn ended_without_rules(store: &Store) -> Result<Vec<FailedUp>, HookError> {
    let failed = store.failed_ups()?;
    let sought: Vec<_> = failed.iter().map(SoughtTunnel::from).collect();
    let ended = failed.into_iter().zip(policy_states(&sought)?);
    let ended = ended.filter(|(_, state)| *state == PolicyState::Gone);
    Ok(ended.map(|(failed, _)| failed).collect())
}

/// Whether the kernel has the policies of these tunnels, by a dump of all its policies.
pub(super) fn policy_states(tunnels: &[SoughtTunnel]) -> Result<Vec<PolicyState>, HookError> {
    if tunnels.is_empty() {
        return Ok(Vec::new());
    }
    let kernel = kernel(tunnels)?;
    let mut lives = BTreeMap::new();
    let mut life = |sought: &SoughtTunnel| match sought.daemon {
        None => DaemonLife::Gone,
        Some(daemon) => *lives.entry(daemon).or_insert_with(|| match daemon.is_dead() {
            true => DaemonLife::Gone,
            false => DaemonLife::Alive,
        }),
    };
    let states = tunnels.iter().map(|sought| policy_state(sought, life(sought), &kernel));
    let states: Vec<_> = states.collect();
    if !states.contains(&PolicyState::Gone) {
        return Ok(states);
    }
    let mut by_reqid: BTreeMap<u32, Vec<XfrmSa>> = BTreeMap::new();
    for sa in sas().map_err(RoutingError::from)? {
        by_reqid.entry(sa.reqid).or_default().push(sa);
    }
    let sas = |sought: &SoughtTunnel| by_reqid.get(&sought.reqid?).map(Vec::as_slice);
    let states = tunnels
        .iter()
        .zip(states)
        .map(|(sought, state)| sa_state(sought, state, sas(sought).unwrap_or_default()));
    Ok(states.collect())
}

fn kernel(tunnels: &[SoughtTunnel]) -> Result<KernelPolicies, HookError> {
    let policies = policies().map_err(RoutingError::from)?;
    let interfaces: BTreeSet<_> = tunnels.iter().filter_map(|sought| sought.interface.as_ref()).collect();
    let tags = match interfaces.is_empty() {
        true => BTreeMap::new(),
        false => tags(&interfaces)?,
    };
    Ok(KernelPolicies::new(policies, tags))
}

fn tags(interfaces: &BTreeSet<&Interface>) -> Result<BTreeMap<Interface, TunnelTag>, HookError> {
    let mut kernel = netlink::Kernel::open().map_err(RoutingError::from)?;
    let existing = xfrm_interfaces().map_err(RoutingError::from)?;
    let mut tags = BTreeMap::new();
    for interface in interfaces {
        if let Some(xfrm) = existing.iter().find(|xfrm| xfrm.interface == **interface) {
            tags.insert((*interface).clone(), TunnelTag::IfId(xfrm.if_id));
        } else if let Some(LinkKind::Vti(ends)) = kernel
            .link(interface)
            .map_err(RoutingError::from)?
            .map(|link| link.kind)
        {
            tags.insert((*interface).clone(), TunnelTag::Marks(ends.output_key, ends.input_key));
        }
    }
    Ok(tags)
}

/// Removes the routes, addresses and interfaces of daemons that have exited. Not while a tunnel of
/// theirs is up, which may need them; returns those daemons, whose name servers stay as well.
fn clear_dead(command: &CommandContext<'_>, store: &Store) -> Result<(String, BTreeSet<DaemonProcess>), HookError> {
    let dead: BTreeSet<_> = store.dead_daemons()?.into_iter().collect();
    let mut with_tunnels = BTreeSet::new();
    for ruleset in Ruleset::all_rulesets() {
        with_tunnels.extend(store.tunnels(ruleset)?.into_iter().filter_map(|record| record.daemon));
    }
    with_tunnels.extend(store.failed_ups()?.into_iter().filter_map(|failed| failed.daemon));
    let without_tunnels: Vec<_> = dead.difference(&with_tunnels).collect();
    let mut text = String::new();
    for daemon in &without_tunnels {
        text.push_str(&clear_routes(command, store, daemon)?);
        store.unregister(daemon)?;
    }
    Ok((text, with_tunnels))
}

fn clear_routes(command: &CommandContext<'_>, store: &Store, daemon: &DaemonProcess) -> Result<String, HookError> {
    if !store.has_routings()? {
        return Ok(String::new());
    }
    let mut kernel = netlink::Kernel::open().map_err(RoutingError::from)?;
    let mut engine = RoutingEngine::new(store, &mut kernel, None, command.now);
    let faults = engine.clear(daemon)?;
    Ok(faults.iter().map(|fault| format!("{fault}\n")).collect())
}
