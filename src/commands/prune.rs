//! `prune`: removes tunnels that are no longer up, although no daemon said so.
//!
//! A daemon that is killed calls no hook. Its tunnels are removed at the first call of the next
//! daemon; without one, the rules stay. The kernel decides whether a tunnel is up: its policies
//! outlive their daemon, and packets use them.

mod policy_state;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use super::Detail;
use super::command_context::{CommandContext, print, show};
use crate::apply::{Engine, Preview};
use crate::cli::{Mode, Options};
use crate::net::Interface;
use crate::netfilter::Ruleset;
use crate::netlink::xfrm::{XfrmSa, policies, sas};
use crate::netlink::{self, LinkKind, NetConfig as _, xfrm_interfaces};
use crate::routing::{RoutingChange, RoutingEngine, RoutingError};
use crate::state::{DaemonProcess, FailedUp, Store, TunnelRecord};
use crate::updown::{HookError, close_late, note_leftovers};
use crate::words::counted_noun;
use policy_state::{DaemonLife, KernelPolicies, TunnelTag, policy_state, sa_state};
pub(super) use policy_state::{PolicyState, PruneDoubt, SoughtTunnel};

/// Removes these tunnels, and reports them. Returns the exit code.
pub(super) fn run(options: &Options, detail: Detail) -> Result<u8, HookError> {
    let command = CommandContext::new(options)?;
    match options.mode {
        Mode::DryRun => preview(&command, &command.peek(), detail),
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
    close_late(command.options, command.namespace, &command.peek());
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
    let plan = PrunePlan::new(store)?;
    let mut text = plan.report_text("removed");
    let changes = engine.plan_tunnel_removal(plan.gone)?;
    engine.remove_tunnels(&changes)?;
    for failed in &plan.ended {
        store.forget_failed_up(&failed.tunnel)?;
    }
    if !plan.routes.is_empty() {
        let mut kernel = netlink::Kernel::open().map_err(RoutingError::from)?;
        let mut engine = RoutingEngine::new(store, &mut kernel, None, command.now);
        for change in &plan.routes {
            let faults = engine.carry_out(change)?.faults;
            text.extend(faults.iter().map(|fault| format!("{fault}\n")));
        }
    }
    for daemon in &plan.dead {
        store.unregister(daemon)?;
    }
    Ok((text, plan.kept))
}

/// Shows what it would do.
fn preview(command: &CommandContext<'_>, store: &Store, detail: Detail) -> Result<u8, HookError> {
    let mut programs = command.programs(store);
    let engine = Engine::new(store, &mut programs, command.context());
    let mut preview = Preview::new("prune");
    note_leftovers(store, &mut preview)?;
    let plan = PrunePlan::new(store)?;
    plan.report_text("would be removed")
        .lines()
        .for_each(|line| preview.sum_up(line));
    engine.preview(&engine.plan_tunnel_removal(plan.gone)?, &mut preview)?;
    plan.routes.iter().for_each(|change| change.preview(&mut preview));
    show(&preview, detail)?;
    Ok(0)
}

/// What has to be removed, and the decisions about all recorded tunnels.
#[derive(Default)]
struct PrunePlan {
    /// How many tunnels there are.
    total: usize,
    gone: Vec<(Ruleset, TunnelRecord)>,
    doubtful: Vec<(TunnelRecord, PruneDoubt)>,
    /// The tunnels that were up without rules, and are no longer up.
    ended: Vec<FailedUp>,
    /// The daemons of the tunnels that stay. Their routes and name servers stay too, because the
    /// tunnels may need them.
    kept: BTreeSet<DaemonProcess>,
    /// The other daemons that have exited.
    dead: Vec<DaemonProcess>,
    /// Their routes, addresses and interfaces.
    routes: Vec<RoutingChange>,
}

impl PrunePlan {
    /// Queries the kernel after the record is locked: a daemon installs a tunnel's policies before
    /// it calls `up`, so every tunnel that is recorded by now has them.
    fn new(store: &Store) -> Result<Self, HookError> {
        let mut plan = Self::default();
        let mut records = Vec::new();
        for ruleset in Ruleset::all_rulesets() {
            records.extend(store.tunnels(ruleset)?.into_iter().map(|record| (ruleset, record)));
        }
        plan.total = records.len();
        let sought: Vec<_> = records.iter().map(|(_, record)| SoughtTunnel::from(record)).collect();
        for ((ruleset, record), state) in records.into_iter().zip(policy_states(&sought)?) {
            if state != PolicyState::Gone {
                plan.kept.extend(record.daemon);
            }
            match state {
                PolicyState::Up => {}
                PolicyState::Gone => plan.gone.push((ruleset, record)),
                PolicyState::Doubtful(doubt) => plan.doubtful.push((record, doubt)),
            }
        }
        let failed = store.failed_ups()?;
        let sought: Vec<_> = failed.iter().map(SoughtTunnel::from).collect();
        for (failed, state) in failed.into_iter().zip(policy_states(&sought)?) {
            match state {
                PolicyState::Gone => plan.ended.push(failed),
                PolicyState::Up | PolicyState::Doubtful(_) => plan.kept.extend(failed.daemon),
            }
        }
        let dead = store.dead_daemons()?.into_iter();
        plan.dead = dead.filter(|daemon| !plan.kept.contains(daemon)).collect();
        let routes = store.routing_records()?.into_iter();
        let routes = routes.filter(|record| record.daemon.is_some_and(|daemon| plan.dead.contains(&daemon)));
        plan.routes = routes.map(RoutingChange::removal).collect();
        Ok(plan)
    }

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
        for failed in &self.ended {
            let (connection, network) = (&failed.tunnel.connection, failed.tunnel.remote_client);
            let _ = writeln!(
                text,
                "{connection} ({network}): was up without rules, the kernel has no policy of it any more"
            );
        }
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
