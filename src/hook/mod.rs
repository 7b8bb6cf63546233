//! One hook call, from what the daemon said to the exit code.

use std::fmt;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use std::{fs, io};

use crate::apply::{ApplyError, Caller, Outcome, Session};
use crate::cli::{HookArgumentError, Mode, Options, hook_arguments};
use crate::contract::{ContractError, Duty, Event, ResolverDuty, Snapshot, read};
use crate::iptables::Programs;
use crate::log::{Log, Sign};
use crate::preview;
use crate::record::{Daemon, RecordError, Store};
use crate::resolver::{self, System, Trouble};
use crate::rtnetlink::{XfrmInterface, xfrm_interfaces};
use crate::settings::{Settings, SettingsError};
use crate::words::escaped;

/// How long a whole call may take beyond waiting for the xtables lock. Pluto's watchdog kills it after 200 s; a peer gives up
/// on an unanswered message after about 60 s.
const PATIENCE: Duration = Duration::from_secs(15);

/// How long the programs of the resolver may take in all, once a call.
const RESOLVER_PATIENCE: Duration = Duration::from_secs(5);

/// Why a call was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum HookError {
    /// The daemon's arguments are not understood.
    #[error(transparent)]
    Arguments(#[from] HookArgumentError),
    /// The daemon's variables are not understood.
    #[error(transparent)]
    Contract(#[from] ContractError),
    /// The settings are not understood.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// The surroundings cannot be found out.
    #[error("{what}: {source}")]
    Surroundings {
        /// What could not be read.
        what: &'static str,
        /// Why not.
        source: io::Error,
    },
    /// The change cannot be made.
    #[error(transparent)]
    Apply(#[from] ApplyError),
    /// What would be done cannot be shown.
    #[error("standard output: {0}")]
    Output(io::Error),
}

impl HookError {
    /// 2 where the administrator has to mend the call or the settings, 1 otherwise.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Arguments(_) | Self::Settings(_) => 2,
            Self::Contract(_) | Self::Surroundings { .. } | Self::Apply(_) | Self::Output(_) => 1,
        }
    }
}

impl From<RecordError> for HookError {
    fn from(error: RecordError) -> Self {
        Self::Apply(error.into())
    }
}

/// Carries out a call of a daemon and returns the exit code. Says nothing on standard output but what `--dry-run` shows, and one
/// line on standard error if it fails.
#[must_use]
pub fn run(snapshot: &Snapshot) -> u8 {
    let options = hook_arguments(snapshot.arguments());
    let log = match &options {
        Ok(Options { mode: Mode::DryRun, .. }) => Log::Stderr,
        Ok(Options { mode: Mode::Real, .. }) | Err(_) => Log::Syslog,
    };
    let done = options
        .map_err(HookError::from)
        .and_then(|options| call(snapshot, &options, log, parent_daemon()));
    match done {
        Ok(_) => 0,
        Err(error) => {
            log.error(&Told {
                snapshot,
                error: &error,
            });
            error.exit_code()
        }
    }
}

/// What a call came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Done {
    /// The verb asks nothing of the firewall.
    NothingToDo,
    /// This.
    Firewall(Outcome),
    /// It was shown and not done.
    Shown,
}

impl fmt::Display for Done {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NothingToDo => f.write_str("nothing to do"),
            Self::Firewall(Outcome::Opened) => f.write_str("opened"),
            Self::Firewall(Outcome::StoodAlready(1)) => f.write_str("stood already"),
            Self::Firewall(Outcome::StoodAlready(count)) => write!(f, "stood already, {count} ups open"),
            Self::Firewall(Outcome::Closed) => f.write_str("closed"),
            Self::Firewall(Outcome::StillNeeded(count)) => write!(f, "stays, {count} ups open"),
            Self::Firewall(Outcome::NothingThere) => f.write_str("nothing there"),
            Self::Shown => f.write_str("shown"),
        }
    }
}

/// Carries out a call.
///
/// # Errors
/// If its variables or the settings are not understood, or the change cannot be made.
pub fn call(snapshot: &Snapshot, options: &Options, log: Log, daemon: Option<Daemon>) -> Result<Done, HookError> {
    let event = read(snapshot)?;
    let namespace = network_namespace()?;
    let caller = Caller {
        daemon,
        now: now(),
        interfaces: interfaces(&event.duty, log),
    };
    if let Duty::Open(_) = &event.duty {
        // The settings have nothing to say yet; that they are sound is known before anything is changed. Not read for a `down`:
        // what was put in can be taken out, whatever has become of the file.
        let Settings {} = Settings::load(options.config.as_deref())?;
    }
    if options.mode == Mode::DryRun {
        return show(&event, options, namespace, caller).map(|()| Done::Shown);
    }
    let aside = Aside {
        resolver: event.resolver.as_deref(),
        log,
    };
    match &event.duty {
        Duty::Nothing => {
            // A new daemon's first call may well be one of these, and what the dead one left must not wait for the next `up`.
            // That it fails is no reason to refuse a route.
            if let Err(error) = look_after(options, namespace, caller, aside) {
                log.error(&error);
            }
            Ok(Done::NothingToDo)
        }
        Duty::Open(tunnel) => {
            let outcome = with_session(options, namespace, caller, aside, |session| session.open(tunnel))?;
            log.peer(Sign::Up, tunnel);
            Ok(Done::Firewall(outcome))
        }
        Duty::Close(tunnel) => {
            let outcome = with_session(options, namespace, caller, aside, |session| session.close(tunnel))?;
            log.peer(Sign::Down, tunnel);
            Ok(Done::Firewall(outcome))
        }
    }
}

/// The XFRM interfaces, where the tunnel to be opened leaves by one of which only the number is known.
///
/// Without them the tunnel is opened all the same: what comes out of it passes, and what goes into it is left to other rules.
fn interfaces(duty: &Duty, log: Log) -> Vec<XfrmInterface> {
    let number = match duty {
        Duty::Open(tunnel) => tunnel.if_id_out,
        Duty::Close(_) | Duty::Nothing => None,
    };
    let Some(number) = number else { return Vec::new() };
    match xfrm_interfaces() {
        Ok(interfaces) => {
            if !interfaces.iter().any(|interface| interface.if_id == number) {
                log.warning(&format_args!("no XFRM interface has if_id {number} (PLUTO_IF_ID_OUT): what goes into the tunnel is left to other rules"));
            }
            interfaces
        }
        Err(error) => {
            log.warning(&error);
            Vec::new()
        }
    }
}

/// The daemon that this process is the hook of.
#[must_use]
pub fn parent_daemon() -> Option<Daemon> {
    Daemon::above(std::os::unix::process::parent_id())
}

fn look_after(options: &Options, namespace: u64, caller: Caller, aside: Aside<'_>) -> Result<(), HookError> {
    if aside.resolver.is_some() || Store::peek(&options.state_dir, namespace).needs_attention()? {
        with_session(options, namespace, caller, aside, |_| Ok(()))?;
    }
    Ok(())
}

/// What is done beside the firewall's work, and never makes a call fail.
#[derive(Debug, Clone, Copy)]
struct Aside<'a> {
    resolver: Option<&'a ResolverDuty>,
    log: Log,
}

impl Aside<'_> {
    /// Takes back what dead daemons and dead calls left of the resolver's.
    fn housekeep(self, store: &Store, options: &Options) {
        self.tell(&resolver::housekeep(store, &system(options)));
    }

    /// Does what this call asks of the resolver: at `up` for a tunnel that is open, at `down` in any case.
    fn carry_out<R>(self, store: &Store, options: &Options, daemon: Option<Daemon>, firewall: &Result<R, ApplyError>) {
        let Some(duty) = self.resolver else { return };
        if firewall.is_ok() || duty.gives_back() {
            self.tell(&resolver::carry_out(duty, store, &system(options), daemon));
        }
    }

    fn tell(self, troubles: &[Trouble]) {
        for trouble in troubles {
            self.log.warning(trouble);
        }
    }
}

/// The machine as the resolver's duty sees it, from now on for a bounded time.
fn system(options: &Options) -> System {
    System {
        root: options.root.clone(),
        programs: options.programs.clone(),
        deadline: Instant::now() + RESOLVER_PATIENCE,
    }
}

/// Takes the lock, does what is due in any case, then the work, and leaves no empty folder behind.
fn with_session<R>(
    options: &Options,
    namespace: u64,
    caller: Caller,
    aside: Aside<'_>,
    work: impl FnOnce(&mut Session<'_, Programs<'_>>) -> Result<R, ApplyError>,
) -> Result<R, HookError> {
    let deadline = Instant::now() + PATIENCE + options.wait;
    let store = Store::open(&options.state_dir, namespace, deadline)?;
    let mut programs = Programs::new(options.programs.clone(), options.wait, deadline, store.lock());
    let daemon = caller.daemon;
    let mut session = Session::new(&store, &mut programs, caller);
    aside.housekeep(&store, options);
    let result = session.housekeep().and_then(|()| work(&mut session));
    aside.carry_out(&store, options, daemon, &result);
    let tidied = store.tidy();
    let result = result?;
    tidied?;
    Ok(result)
}

fn show(event: &Event, options: &Options, namespace: u64, caller: Caller) -> Result<(), HookError> {
    let deadline = Instant::now() + PATIENCE;
    let mut store = Store::peek(&options.state_dir, namespace);
    let mut text = String::new();
    if !store.is_readable() {
        text.push_str("# the record needs root to be read; this is what would be done if no tunnel were up\n");
        store = Store::peek(Path::new("/nonexistent"), namespace);
    }
    if store.needs_attention()? {
        text.push_str("# before that, what a call or a daemon that died has left would be cleared\n");
    }
    let mut programs = Programs::new(options.programs.clone(), options.wait, deadline, store.lock());
    let session = Session::new(&store, &mut programs, caller);
    text.push_str(&preview::preview(event, &session)?);
    if let Some(duty) = &event.resolver {
        text.push_str(&resolver::preview(duty, &store, &system(options)));
    }
    io::Write::write_all(&mut io::stdout(), text.as_bytes()).map_err(HookError::Output)
}

fn network_namespace() -> Result<u64, HookError> {
    let what = "/proc/self/ns/net";
    fs::metadata(Path::new(what))
        .map(|metadata| metadata.ino())
        .map_err(|source| HookError::Surroundings { what, source })
}

#[expect(
    clippy::disallowed_methods,
    reason = "the time of a call is taken here and nowhere else"
)]
fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

/// An error with the call that it befell.
struct Told<'a> {
    snapshot: &'a Snapshot,
    error: &'a HookError,
}

impl fmt::Display for Told<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Both are the administrator's own words, yet escaped like everything else, and cut: the culprit comes behind them.
        for name in ["PLUTO_VERB", "PLUTO_CONNECTION"] {
            if let Some(value) = self.snapshot.get(name) {
                write!(f, "{} ", escaped(value.as_encoded_bytes(), 32))?;
            }
        }
        write!(f, "failed: {}", self.error)
    }
}
