//! One hook call, from the daemon's variables to the exit code.

mod call;
mod dns_hook;
mod event;
mod interface;
mod summary;
mod tunnel_line;

pub use event::{Event, read_event};
pub(crate) use summary::Summary;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use std::{fmt, fs, io};

use anyhow::Context as _;
use ipnet::IpNet;
use log::{error, warn};

use crate::apply::{ApplyError, Context, Engine, Preview, SettingsOrigin};
use crate::cli::{HookArgumentError, Mode, Options, RoutingOwner, hook_arguments};
use crate::daemon::{Daemon, EnvError, FirewallAction, Operation, RawEnv, Tunnel};
use crate::logging::{self, Destination};
use crate::netfilter::Ruleset;
use crate::netfilter::iptables::Programs;
use crate::netlink::{Kernel, XfrmInterface, connected_networks, path_mtu, xfrm_interfaces};
use crate::routing::{RouteOptions, RoutingEngine, RoutingError};
use crate::settings::{Mss, Policy, Settings, SettingsError, StockSettings};
use crate::state::{DaemonProcess, FailedUp, RecordError, Store, TunnelRecord};
use crate::words::{escaped, one_line};

use call::HookCall;

/// How long a whole call may take beyond waiting for the xtables lock. Pluto's watchdog kills it
/// after 200 s; a peer gives up on an unanswered message after about 60 s.
pub(crate) const CALL_TIMEOUT: Duration = Duration::from_secs(15);

/// How often a call looks for downs that came while it executed others.
const MOST_LATE: usize = 100;

/// How much is kept of the reason for which a tunnel has no rules, in bytes.
const LONGEST_REASON: usize = 400;

/// How long the programs of the resolver may take in all, once a call.
pub(crate) const RESOLVER_TIMEOUT: Duration = Duration::from_secs(5);

/// Why a call was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum HookError {
    /// The daemon's arguments are not understood.
    #[error(transparent)]
    Arguments(#[from] HookArgumentError),
    /// The daemon's variables are not understood.
    #[error(transparent)]
    Env(#[from] EnvError),
    /// The settings are not understood.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// A file of the system cannot be read.
    #[error("{what}: {error}")]
    Surroundings {
        /// What could not be read.
        what: &'static str,
        /// Why not.
        error: io::Error,
    },
    /// The change cannot be made.
    #[error(transparent)]
    Apply(#[from] ApplyError),
    /// A tunnel's rules cannot be installed, and `on-error` says that this is no reason to refuse
    /// the tunnel. The outcome comes before the reason, because the reason can be long, and a line
    /// is cut.
    #[error("the tunnel is up without its rules: {0}")]
    Tolerated(ApplyError),
    /// The routes, addresses or interfaces cannot be installed.
    #[error(transparent)]
    Routing(#[from] RoutingError),
    /// The record or the firewall is only root's to read.
    #[error("must be run as root: only root can read the record and the firewall (sudo pluto-updown ...)")]
    NotRoot,
    /// A command would do more than whoever typed it may expect, and waits for an option that says
    /// so.
    #[error("{0}")]
    Refused(String),
    /// What would be done cannot be shown.
    #[error("cannot write to standard output: {0}")]
    Output(io::Error),
}

impl HookError {
    /// 0 where the failure is no reason to refuse the tunnel, 2 where the call's arguments or the
    /// settings are wrong, 1 otherwise.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Tolerated(_) => 0,
            Self::Arguments(_) | Self::Settings(_) | Self::Refused(_) => 2,
            Self::Env(_)
            | Self::NotRoot
            | Self::Surroundings { .. }
            | Self::Apply(_)
            | Self::Routing(_)
            | Self::Output(_) => 1,
        }
    }
}

impl From<RecordError> for HookError {
    fn from(error: RecordError) -> Self {
        Self::Apply(error.into())
    }
}

/// Carries out a call of a daemon and returns the exit code.
///
/// Only `--dry-run` writes to standard output. A failure is one line on standard error.
#[must_use]
pub fn run(raw_env: &RawEnv) -> u8 {
    let options = hook_arguments(raw_env.arguments());
    logging::init(match &options {
        Ok(Options { mode: Mode::DryRun, .. }) => Destination::Stderr,
        Ok(Options { mode: Mode::Real, .. }) | Err(_) => Destination::Syslog,
    });
    let done = options
        .map_err(HookError::from)
        .and_then(|options| call(raw_env, &options, parent_daemon()))
        .with_context(|| failed_call(raw_env));
    done.map_or_else(|error| log_failure(&error), |_| 0)
}

/// Logs why a call or a command failed, and returns its exit code.
pub(crate) fn log_failure(error: &anyhow::Error) -> u8 {
    error!("{error:#}");
    error.downcast_ref().map_or(1, HookError::exit_code)
}

/// The context of every error of a call: `up-client net-net failed`.
fn failed_call(raw_env: &RawEnv) -> String {
    let mut words = String::new();
    // The administrator chose both, yet they are escaped like everything else. They are cut, so
    // that the reason still fits the line.
    for name in ["PLUTO_VERB", "PLUTO_CONNECTION"] {
        if let Some(value) = raw_env.get(name) {
            words += &escaped(value.as_encoded_bytes(), 32);
            words.push(' ');
        }
    }
    words + "failed"
}

/// Carries out a call.
///
/// # Errors
/// If its variables or the settings are not understood, or the change cannot be made.
pub fn call(raw_env: &RawEnv, options: &Options, daemon: Option<DaemonProcess>) -> Result<Summary, HookError> {
    let mut event = read_event(raw_env)?;
    if options.routing == RoutingOwner::Others {
        event.routing = None;
    }
    let namespace = network_namespace()?;
    let done = call_about(raw_env, options, daemon, namespace, &event);
    if let (Err(error), Mode::Real) = (&done, options.mode) {
        note_failed_up(options, daemon, namespace, &event, error);
    }
    done
}

/// Carries out a call whose variables are understood.
fn call_about(
    raw_env: &RawEnv,
    options: &Options,
    daemon: Option<DaemonProcess>,
    namespace: u64,
    event: &Event,
) -> Result<Summary, HookError> {
    let settings = match &event.firewall {
        // Wrong settings end the call here, before anything is changed.
        FirewallAction::Open(_) => Settings::load(options.config.as_deref())?,
        // Removal needs only the record, so that a broken file never keeps a rule installed.
        FirewallAction::Close(_) | FirewallAction::Nothing => Settings::default(),
    };
    let call = HookCall {
        raw_env,
        options,
        namespace,
        daemon,
        now: unix_time(),
        routes: route_options(options, event),
        settings,
    };
    if let FirewallAction::Open(tunnel) = &event.firewall {
        interface::check(event, tunnel).map_err(|error| call.with_on_error(event, error))?;
    }
    match options.mode {
        Mode::DryRun => call.preview_call(event),
        Mode::Real => call.carry_out(event),
    }
}

/// Notes that a tunnel is up without rules, if its `up` failed and it is up all the same: the exit
/// status says that it may, or the daemon ignores that (charon, `updown_listener.c`). That it
/// cannot be noted changes nothing.
fn note_failed_up(options: &Options, daemon: Option<DaemonProcess>, namespace: u64, event: &Event, error: &HookError) {
    let FirewallAction::Open(tunnel) = &event.firewall else {
        return;
    };
    if error.exit_code() != 0 && event.daemon != Daemon::StrongSwan {
        return;
    }
    let reason = match error {
        // Without the prefix of `Tolerated`: `status` prints it itself.
        HookError::Tolerated(error) => error.to_string(),
        HookError::Arguments(_)
        | HookError::Env(_)
        | HookError::Settings(_)
        | HookError::Surroundings { .. }
        | HookError::Apply(_)
        | HookError::Routing(_)
        | HookError::NotRoot
        | HookError::Refused(_)
        | HookError::Output(_) => error.to_string(),
    };
    let failed = FailedUp {
        tunnel: (**tunnel).clone(),
        daemon,
        reason: one_line(&reason).chars().take(LONGEST_REASON).collect(),
        since: 0,
    };
    // The log has the failure, in one line.
    let _ = Store::note_failed_up(&options.state_dir, namespace, &failed);
}

/// The administrator's options for routes: from the command line, else from the stock scripts' own
/// file.
fn route_options(options: &Options, event: &Event) -> RouteOptions {
    let makes_routes = event.routing.as_ref().is_some_and(|routing| {
        event.verb.asks(Operation::Route) || event.verb.asks(Operation::Up) && routing.source.is_some()
    });
    if !makes_routes {
        return RouteOptions::default();
    }
    let StockSettings {
        always_route,
        arguments,
        warning,
    } = StockSettings::load(&options.root);
    if let Some(warning) = warning {
        warn!("{warning}");
    }
    RouteOptions {
        always: options.route.unwrap_or(always_route),
        before: options.iproute.clone(),
        after: arguments,
    }
}

/// The XFRM interfaces, where the tunnel to be opened leaves by one of which only the number is
/// known.
///
/// Without them the tunnel is opened all the same: packets out of it are accepted.
fn interfaces(action: &FirewallAction) -> Vec<XfrmInterface> {
    match action {
        FirewallAction::Open(tunnel) if tunnel.if_id_out.is_some() => xfrm_interfaces().unwrap_or_else(|error| {
            warn!("{error}");
            Vec::new()
        }),
        FirewallAction::Open(_) | FirewallAction::Close(_) | FirewallAction::Nothing => Vec::new(),
    }
}

/// The path MTU to the peer, in bytes, if `mss` of the tunnel to be opened depends on it.
fn path_mtus(action: &FirewallAction, settings: &Settings) -> BTreeMap<IpAddr, u16> {
    let FirewallAction::Open(tunnel) = action else {
        return BTreeMap::new();
    };
    let peer = tunnel
        .remote_host
        .filter(|_| settings.policy(tunnel).mss == Mss::PathMtu);
    peer.and_then(|peer| Some((peer, path_mtu(peer)?)))
        .into_iter()
        .collect()
}

/// The networks that the gateway is connected to, if the tunnel to be opened uses source NAT except
/// to these.
fn connected(action: &FirewallAction, settings: &Settings) -> Option<Vec<IpNet>> {
    let FirewallAction::Open(tunnel) = action else {
        return None;
    };
    if !settings.policy(tunnel).bypasses_connected() {
        return None;
    }
    ask_connected()
}

/// Asks the kernel for the networks that the gateway is connected to.
fn ask_connected() -> Option<Vec<IpNet>> {
    match connected_networks() {
        Ok(networks) => Some(networks.into_iter().collect()),
        Err(error) => {
            warn!("{error}");
            None
        }
    }
}

/// What its `up` would have known of a tunnel that is up without rules.
pub(crate) fn opening_context(failed: &FailedUp, settings: &Settings, now: u64) -> Context {
    let action = FirewallAction::Open(Box::new(failed.tunnel.clone()));
    Context {
        daemon: failed.daemon,
        now,
        interfaces: interfaces(&action),
        connected: connected(&action, settings),
        ask_connected: Some(ask_connected),
        ask_path_mtu: Some(path_mtu),
        path_mtus: path_mtus(&action, settings),
        settings: settings.clone(),
        settings_origin: SettingsOrigin::File,
    }
}

/// Adds to the context the answers that are needed to make the rules of every recorded tunnel
/// again.
pub(crate) fn know_recorded_tunnels(context: &mut Context, store: &Store) -> Result<(), HookError> {
    let mut records: Vec<TunnelRecord> = Vec::new();
    for ruleset in Ruleset::all_rulesets() {
        records.extend(store.tunnels(ruleset)?);
    }
    know_tunnels(context, &records.iter().collect::<Vec<_>>());
    Ok(())
}

/// The same for records that have been read already.
pub(crate) fn know_tunnels(context: &mut Context, records: &[&TunnelRecord]) {
    if context.interfaces.is_empty() && records.iter().any(|record| record.tunnel.if_id_out.is_some()) {
        // Without them such a tunnel gets the rules of one without its interface.
        context.interfaces = xfrm_interfaces().unwrap_or_default();
    }
    let settings = &context.settings;
    let views = records.iter().flat_map(|record| record.opener_views());
    let views: Vec<_> = views
        .map(|(tunnel, policy)| (settings.policy(&tunnel), tunnel, policy))
        .collect();
    let may_bypass =
        |(set, _, policy): &(Policy, Tunnel, Policy)| [set, policy].into_iter().any(Policy::bypasses_connected);
    if context.connected.is_none() && views.iter().any(may_bypass) {
        context.connected = connected_networks().ok().map(|networks| networks.into_iter().collect());
    }
    let is_clamped = |(set, _, policy): &&(Policy, Tunnel, Policy)| [set.mss, policy.mss].contains(&Mss::PathMtu);
    for peer in views
        .iter()
        .filter(is_clamped)
        .filter_map(|(_, tunnel, _)| tunnel.remote_host)
    {
        if let (false, Some(size)) = (context.path_mtus.contains_key(&peer), path_mtu(peer)) {
            context.path_mtus.insert(peer, size);
        }
    }
}

/// Says in a preview what comes before the rest.
pub(crate) fn note_leftovers(store: &Store, preview: &mut Preview) -> Result<(), HookError> {
    if store.needs_attention()? || store.resolver().needs_attention()? {
        preview.note("first, it would remove what an interrupted run or a daemon that exited left behind");
    }
    Ok(())
}

/// Removes the routes that dead daemons left, and tells `complain` what went wrong. This comes
/// before the removal of their tunnels, which forgets the dead daemon.
pub(crate) fn clear_dead_routes(
    store: &Store,
    caller: Option<DaemonProcess>,
    now: u64,
    complain: impl Fn(&dyn fmt::Display),
) {
    let clear = || -> Result<(), RoutingError> {
        // First what costs nothing, because the dead daemons are looked for once more.
        if !store.has_routings()? {
            return Ok(());
        }
        let dead = store.dead_daemons()?;
        if dead.is_empty() {
            return Ok(());
        }
        let mut kernel = Kernel::open()?;
        let mut engine = RoutingEngine::new(store, &mut kernel, caller, now);
        for daemon in dead {
            engine.clear(&daemon)?.iter().for_each(|fault| complain(fault));
        }
        Ok(())
    };
    if let Err(error) = clear() {
        complain(&error);
    }
}

/// Executes downs that other calls noted while this call held the record's lock, which is released
/// by now. A call that notes one comes here too, so none is left over: if the lock is held again,
/// its holder executes the notes.
pub(crate) fn close_late(options: &Options, namespace: u64, unlocked: &Store) {
    for _ in 0..MOST_LATE {
        if !unlocked.has_owed_downs().unwrap_or_default() {
            return;
        }
        match close_owed(options, namespace) {
            Ok(()) => {}
            Err(HookError::Apply(ApplyError::Record(RecordError::Locked { .. }))) => return,
            Err(error) => {
                error!("{error}");
                return;
            }
        }
    }
}

fn close_owed(options: &Options, namespace: u64) -> Result<(), HookError> {
    let store = Store::open_locked(&options.state_dir, namespace, Instant::now())?;
    let deadline = Instant::now() + CALL_TIMEOUT + options.wait;
    let mut programs = Programs::new(options.programs.clone(), options.wait, deadline, store.lock());
    let context = Context {
        now: unix_time(),
        ask_connected: Some(ask_connected),
        ask_path_mtu: Some(path_mtu),
        ..Context::default()
    };
    let context = removing_context(context, options, &store)?;
    let mut engine = Engine::new(&store, &mut programs, context);
    let closed = engine.recover().and_then(|()| engine.close_owed());
    let tidied = store.remove_unused();
    closed?;
    Ok(tidied?)
}

/// The context of a removal. It needs no settings; but it writes rules of an older version again,
/// and those need the mark bit of the settings.
pub(crate) fn removing_context(context: Context, options: &Options, store: &Store) -> Result<Context, HookError> {
    let mut context = Context {
        settings: Settings::default(),
        settings_origin: SettingsOrigin::Record,
        ..context
    };
    if store.has_older_layout()? {
        let set = Settings::load(options.config.as_deref()).unwrap_or_default();
        context.settings.gateway.mark = set.gateway.mark;
        know_recorded_tunnels(&mut context, store)?;
    }
    Ok(context)
}

/// The daemon that this process is the hook of.
#[must_use]
pub(crate) fn parent_daemon() -> Option<DaemonProcess> {
    DaemonProcess::from_parent(std::os::unix::process::parent_id())
}

pub(crate) fn network_namespace() -> Result<u64, HookError> {
    let what = "/proc/self/ns/net";
    fs::metadata(Path::new(what))
        .map(|metadata| metadata.ino())
        .map_err(|error| HookError::Surroundings { what, error })
}

#[expect(
    clippy::disallowed_methods,
    reason = "the time of a call is taken here and nowhere else"
)]
pub(crate) fn unix_time() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}
