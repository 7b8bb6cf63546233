//! The steps of a call: firewall, routes and name servers, as its verb asks.

use super::event::Event;
use std::fmt;
use std::io::{self, Write as _};
use std::path::Path;
use std::time::Instant;

use log::{error, info, warn};

use super::dns_hook::DnsHook;
use super::summary::Summary;
use super::tunnel_line::{TunnelEvent, TunnelLine};
use super::{
    CALL_TIMEOUT, HookError, ask_connected, clear_dead_routes, close_late, connected, failed_call, interfaces,
    know_recorded_tunnels, note_leftovers, path_mtus, removing_context,
};
use crate::apply::{ApplyError, Context, Engine, Preview, SettingsOrigin, note_down};
use crate::cli::Options;
use crate::daemon::{FirewallAction, Operation, RawEnv, Tunnel};
use crate::logging::VPN;
use crate::netfilter::iptables::Programs;
use crate::netlink::{Kernel, path_mtu};
use crate::routing::{RouteOptions, Routing, RoutingChange, RoutingEngine, RoutingError};
use crate::settings::{Settings, UncertainEntries};
use crate::state::{DaemonProcess, RecordError, Store};

/// A call, with its options, its settings and the facts about the system that it depends on.
pub(super) struct HookCall<'a> {
    pub(super) raw_env: &'a RawEnv,
    pub(super) options: &'a Options,
    pub(super) namespace: u64,
    pub(super) daemon: Option<DaemonProcess>,
    pub(super) now: u64,
    pub(super) routes: RouteOptions,
    pub(super) settings: Settings,
}

impl HookCall<'_> {
    /// Carries it out.
    pub(super) fn carry_out(&self, event: &Event) -> Result<Summary, HookError> {
        let asks_nothing_of_firewall = match &event.firewall {
            FirewallAction::Nothing => true,
            FirewallAction::Open(_) | FirewallAction::Close(_) => false,
        };
        // Most calls that ask nothing of the firewall need no route either, and wait for no lock.
        if asks_nothing_of_firewall && self.is_idle(event) {
            return Ok(Summary::default());
        }
        let mut rules_result = Err(());
        let done = self.with_engine(event, &mut rules_result);
        let unlocked = Store::open_unlocked(&self.options.state_dir, self.namespace);
        // What was refused to us just now would be refused again.
        match &done {
            Err(HookError::Apply(error) | HookError::Tolerated(error)) if is_refusal(error) => {}
            Ok(_) | Err(_) => close_late(self.options, self.namespace, &unlocked),
        }
        self.dns_hook(event).carry_out(&unlocked, &rules_result);
        match done {
            // A new daemon's first call may well be one of these, and what the dead one left must
            // not wait for the next `up`. That it fails is no reason to refuse a route.
            Err(error) if asks_nothing_of_firewall && !event.verb.tells_of_routes() => {
                self.log_problem(&error);
                Ok(Summary::default())
            }
            other => other.map_err(|error| self.with_on_error(event, error)),
        }
    }

    /// The error, as [`HookError::Tolerated`] if `on-error` keeps the tunnel.
    pub(super) fn with_on_error(&self, event: &Event, error: HookError) -> HookError {
        match (error, &event.firewall) {
            (HookError::Apply(error), FirewallAction::Open(tunnel)) if self.tolerates(tunnel) => {
                HookError::Tolerated(error)
            }
            (error, FirewallAction::Open(_) | FirewallAction::Close(_) | FirewallAction::Nothing) => error,
        }
    }

    fn tolerates(&self, tunnel: &Tunnel) -> bool {
        !self.settings.policy(tunnel).refuses_on_error()
    }

    /// Whether a call that asks nothing of the firewall finds nothing to do.
    fn is_idle(&self, event: &Event) -> bool {
        let store = Store::open_unlocked(&self.options.state_dir, self.namespace);
        let idle = || -> Result<bool, HookError> {
            Ok(event.resolver.is_none()
                && !store.needs_attention()?
                && !store.resolver().needs_attention()?
                && !self.dns_hook(event).needs_attention(&store)
                && self.routing_changes(event, &store)?.iter().all(RoutingChange::is_empty))
        };
        // An error here occurs again under the lock, and is reported there.
        idle().unwrap_or(false)
    }

    /// The call's changes of routes, addresses and interfaces, one per operation.
    fn routing_changes(&self, event: &Event, store: &Store) -> Result<Vec<RoutingChange>, RoutingError> {
        let Some(routing) = &event.routing else {
            return Ok(Vec::new());
        };
        let mut kernel = Kernel::open()?;
        let mut engine = RoutingEngine::new(store, &mut kernel, self.daemon, self.now);
        let operations = event.verb.operations().iter();
        operations
            .map(|operation| engine.change(event.daemon, routing, *operation, &self.routes))
            .collect()
    }

    /// Takes the lock, does the housekeeping, executes the verb's operations, and removes empty
    /// folders. Sets `rules_result` to whether the tunnel has its firewall rules.
    fn with_engine(&self, event: &Event, rules_result: &mut Result<(), ()>) -> Result<Summary, HookError> {
        let deadline = Instant::now() + CALL_TIMEOUT + self.options.wait;
        let dns_hook = self.dns_hook(event);
        let opened = Store::open_locked(&self.options.state_dir, self.namespace, deadline);
        if opened.is_err() {
            // A request to restore name servers is written even so.
            dns_hook.write_request(
                &Store::open_unlocked(&self.options.state_dir, self.namespace),
                rules_result,
            );
        }
        let store = opened.map_err(|error| self.note_owed_down(event, error.into()))?;
        let mut programs = self.programs(deadline, &store);
        let mut engine = Engine::new(&store, &mut programs, self.full_context(event, &store));
        clear_dead_routes(&store, self.daemon, self.now, |error| self.log_problem(error));
        let kept = engine.housekeep();
        // A removal does not fail because of other work, but no change begins before the one in the
        // journal is recovered.
        let goes_on = match (&kept, &event.firewall) {
            (Ok(()), _) | (Err(_), FirewallAction::Nothing) => true,
            (Err(_), FirewallAction::Close(_)) => matches!(store.journal(), Ok(None)),
            (Err(_), FirewallAction::Open(_)) => false,
        };
        let result = match &kept {
            Err(error) if goes_on => {
                self.log_problem(error);
                self.execute_steps(event, &store, &mut engine)
            }
            Err(_) => Ok(Summary::default()),
            Ok(()) => self.execute_steps(event, &store, &mut engine),
        };
        *rules_result = match (&kept, &result) {
            (Ok(()), Ok(_) | Err(HookError::Tolerated(_))) => Ok(()),
            (Ok(()), Err(_)) | (Err(_), _) => Err(()),
        };
        dns_hook.write_request(&store, rules_result);
        let tidied = store.remove_unused();
        let done = result?;
        match (kept, &event.firewall) {
            // It is reported already, and tidying up fails for the same reason.
            (Err(_), _) if goes_on => Ok(done),
            (Err(error), _) => Err(self.note_owed_down(event, error)),
            (Ok(()), _) => {
                // What was asked for is done, and the next call tidies up.
                tidied.unwrap_or_else(|error| self.log_problem(&error));
                Ok(done)
            }
        }
    }

    /// Why a call failed before it came to its tunnel: what it was to remove is noted.
    fn note_owed_down(&self, event: &Event, error: ApplyError) -> HookError {
        match &event.firewall {
            FirewallAction::Close(tunnel) => {
                let store = Store::open_unlocked(&self.options.state_dir, self.namespace);
                note_down(&store, tunnel, error).into()
            }
            FirewallAction::Open(_) | FirewallAction::Nothing => error.into(),
        }
    }

    /// Executes the verb's operations. A tunnel that is up without its rules gets its routes all
    /// the same.
    fn execute_steps(
        &self,
        event: &Event,
        store: &Store,
        engine: &mut Engine<'_, Programs<'_>>,
    ) -> Result<Summary, HookError> {
        let mut done = Summary::default();
        let mut tolerated = None;
        for operation in event.verb.operations() {
            match (operation, &event.firewall) {
                (Operation::Up, FirewallAction::Open(tunnel)) => match engine.open_tunnel(tunnel) {
                    Ok(outcome) => {
                        done.firewall = Some(outcome);
                        if let Some(doubts) = self.settings.uncertain_entries(tunnel) {
                            warn_of_doubts(tunnel, &doubts);
                        }
                        engine.notes().iter().for_each(|note| warn!("{note}"));
                        log_tunnel(TunnelEvent::Up, tunnel);
                    }
                    Err(error) if self.tolerates(tunnel) => tolerated = Some(error),
                    Err(error) => return Err(error.into()),
                },
                (Operation::Down, FirewallAction::Close(tunnel)) => {
                    done.firewall = Some(engine.close_tunnel(tunnel)?);
                    log_tunnel(TunnelEvent::Down, tunnel);
                }
                (_, FirewallAction::Open(_) | FirewallAction::Close(_) | FirewallAction::Nothing) => {}
            }
            if let Some(routing) = &event.routing {
                self.route(event, routing, *operation, store, &mut done)?;
            }
        }
        tolerated.map_or(Ok(done), |error| Err(HookError::Tolerated(error)))
    }

    /// Sets up or removes routes, addresses and interfaces for an operation.
    ///
    /// The stock scripts report a failure only in their branches for IPv6. Reporting more would
    /// refuse tunnels that they keep.
    fn route(
        &self,
        event: &Event,
        routing: &Routing,
        operation: Operation,
        store: &Store,
        done: &mut Summary,
    ) -> Result<(), HookError> {
        match self.try_route(event, routing, operation, store, done) {
            Err(error) if event.verb.tells_of_routes() => Err(error.into()),
            Err(error) => {
                self.log_problem(&error);
                Ok(())
            }
            Ok(()) => Ok(()),
        }
    }

    fn try_route(
        &self,
        event: &Event,
        routing: &Routing,
        operation: Operation,
        store: &Store,
        done: &mut Summary,
    ) -> Result<(), RoutingError> {
        let mut kernel = Kernel::open()?;
        let mut engine = RoutingEngine::new(store, &mut kernel, self.daemon, self.now);
        let change = engine.change(event.daemon, routing, operation, &self.routes)?;
        let outcome = engine.carry_out(&change)?;
        outcome.faults.iter().for_each(|fault| self.log_problem(fault));
        done.count_routing(&outcome);
        Ok(())
    }

    /// Shows what it would do.
    pub(super) fn preview_call(&self, event: &Event) -> Result<Summary, HookError> {
        let deadline = Instant::now() + CALL_TIMEOUT;
        let mut preview = Preview::new(&event.verb);
        let mut store = Store::open_unlocked(&self.options.state_dir, self.namespace);
        if !store.is_readable() {
            preview.note("only root can read the record: this is what would be done if no tunnel were up");
            store = Store::open_unlocked(Path::new("/nonexistent"), self.namespace);
        }
        note_leftovers(&store, &mut preview)?;
        let mut programs = self.programs(deadline, &store);
        let engine = Engine::new(&store, &mut programs, self.context(event));
        let changes = match &event.firewall {
            FirewallAction::Nothing => Vec::new(),
            FirewallAction::Open(tunnel) => engine.plan_open(tunnel)?.changes,
            FirewallAction::Close(tunnel) => {
                let changes = engine.plan_close(tunnel)?.changes;
                if changes.is_empty() {
                    preview.sum_up(format_args!("{}: no such tunnel recorded, nothing to do", event.verb));
                }
                changes
            }
        };
        engine.preview(&changes, &mut preview)?;
        for change in self.routing_changes(event, &store)? {
            change.preview(&mut preview);
        }
        self.dns_hook(event).preview(&store, &mut preview);
        let text = preview.full_text();
        io::stdout().write_all(text.as_bytes()).map_err(HookError::Output)?;
        Ok(Summary {
            shown: true,
            ..Summary::default()
        })
    }

    fn dns_hook<'s>(&'s self, event: &'s Event) -> DnsHook<'s> {
        DnsHook {
            action: event.resolver.as_deref(),
            options: self.options,
            namespace: self.namespace,
            daemon: self.daemon,
        }
    }

    fn programs<'s>(&self, deadline: Instant, store: &'s Store) -> Programs<'s> {
        Programs::new(self.options.programs.clone(), self.options.wait, deadline, store.lock())
    }

    /// The context, with the answers that are needed to write rules of an older version again, if
    /// there are any. Errors are reported when the record is read for that.
    fn full_context(&self, event: &Event, store: &Store) -> Context {
        let mut context = self.context(event);
        match &event.firewall {
            FirewallAction::Open(_) if store.has_older_layout().unwrap_or_default() => {
                let _ = know_recorded_tunnels(&mut context, store);
                context
            }
            FirewallAction::Open(_) => context,
            FirewallAction::Close(_) | FirewallAction::Nothing => {
                removing_context(context.clone(), self.options, store).unwrap_or(context)
            }
        }
    }

    fn context(&self, event: &Event) -> Context {
        Context {
            daemon: self.daemon,
            now: self.now,
            interfaces: interfaces(&event.firewall),
            connected: connected(&event.firewall, &self.settings),
            ask_connected: Some(ask_connected),
            ask_path_mtu: Some(path_mtu),
            path_mtus: path_mtus(&event.firewall, &self.settings),
            settings: self.settings.clone(),
            settings_origin: match &event.firewall {
                FirewallAction::Open(_) => SettingsOrigin::File,
                FirewallAction::Close(_) | FirewallAction::Nothing => SettingsOrigin::Record,
            },
        }
    }

    /// Logs an error that does not end the call.
    fn log_problem(&self, error: &dyn fmt::Display) {
        error!("{}: {error}", failed_call(self.raw_env));
    }
}

/// Whether iptables, or something in the record, has refused a change.
fn is_refusal(error: &ApplyError) -> bool {
    match error {
        ApplyError::Tables(_) | ApplyError::Forgotten { .. } => true,
        ApplyError::Owed(reason) => !matches!(**reason, ApplyError::Record(RecordError::Locked { .. })),
        ApplyError::Record(_) | ApplyError::Faulty(_) | ApplyError::Policy { .. } => false,
    }
}

fn log_tunnel(event: TunnelEvent, tunnel: &Tunnel) {
    info!(target: VPN, "{}", TunnelLine { event, tunnel });
}

/// The texts that the peer chose come last, because they can be long.
fn warn_of_doubts(tunnel: &Tunnel, doubts: &UncertainEntries<'_>) {
    let user: String = tunnel.user.iter().map(|user| format!(", user {user}")).collect();
    warn!("{}: {doubts}; peer {}{user}", tunnel.connection, tunnel.remote_id);
}
