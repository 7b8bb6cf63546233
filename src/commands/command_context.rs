//! The context of commands that work on the record.

use std::collections::BTreeSet;
use std::io::{self, Write as _};
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::Detail;
use crate::apply::{Context, Preview, SettingsOrigin};
use crate::cli::Options;
use crate::dns::{self, DnsError, System};
use crate::net::Family;
use crate::netfilter::Ruleset;
use crate::netfilter::iptables::{Programs, Tables};
use crate::settings::Settings;
use crate::state::{Activity, DaemonProcess, LOCK_PAUSE, Store};
use crate::updown::{
    CALL_TIMEOUT, HookError, RESOLVER_TIMEOUT, know_recorded_tunnels, network_namespace, removing_context, unix_time,
};

/// How long iptables may take for a person: of 40 000 chains iptables-nft-save alone sorts the
/// names for 14 s. A daemon's call gives up on the lock before that.
const LISTING: Duration = Duration::from_secs(120);

/// How often record and kernel are looked at while calls change both.
const LOOKS: usize = 3;

/// How long a look waits for the call that is running: most take some milliseconds.
const CALL_PATIENCE: Duration = Duration::from_secs(1);

/// What calls did while record and kernel were looked at without the lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Calls {
    /// No call changed anything.
    Quiet,
    /// Calls may have changed something: what differs may be as it should be by now.
    Changing,
    /// One call had the lock all the time, for longer than a look waits for it.
    Stuck,
}

/// The options of a command, the namespace, the time, and the deadline.
#[derive(Debug)]
pub(super) struct CommandContext<'a> {
    pub(super) options: &'a Options,
    pub(super) namespace: u64,
    pub(super) now: u64,
    deadline: Instant,
}

impl<'a> CommandContext<'a> {
    /// Finds the network namespace and the time.
    pub(super) fn new(options: &'a Options) -> Result<Self, HookError> {
        Ok(Self {
            options,
            namespace: network_namespace()?,
            now: unix_time(),
            deadline: Instant::now() + CALL_TIMEOUT + options.wait,
        })
    }

    /// The deadline of an operation that takes at most this long.
    pub(super) fn deadline_after(&self, timeout: Duration) -> Instant {
        self.deadline.max(Instant::now() + timeout)
    }

    /// Opens the record with its lock, so that no call of a daemon changes it meanwhile.
    pub(super) fn open_store(&self) -> Result<Store, HookError> {
        // A command may take it several times, and work between.
        let deadline = self.deadline_after(CALL_TIMEOUT + self.options.wait);
        Ok(Store::open_locked(&self.options.state_dir, self.namespace, deadline)?)
    }

    /// The record without its lock, for reading.
    pub(super) fn peek(&self) -> Store {
        Store::open_unlocked(&self.options.state_dir, self.namespace)
    }

    /// Looks at record and kernel, without the lock: no call waits for a command that only shows
    /// something. Looks again while calls change what it looks at, until `is_enough`.
    pub(super) fn look_undisturbed<T>(
        &self,
        mut look: impl FnMut() -> Result<T, HookError>,
        mut is_enough: impl FnMut(&mut T, Calls) -> bool,
    ) -> Result<T, HookError> {
        let mut earlier: Option<Activity> = None;
        let mut number = 1;
        loop {
            let before = self.settled_activity();
            let mut found = look()?;
            let is_same = self.peek().activity() == before && earlier.is_none_or(|earlier| earlier == before);
            let calls = match (before.is_locked, is_same) {
                (false, true) => Calls::Quiet,
                (true, true) => Calls::Stuck,
                (_, false) => Calls::Changing,
            };
            if is_enough(&mut found, calls) || number == LOOKS {
                return Ok(found);
            }
            earlier = Some(before).filter(|before| before.is_locked);
            number += 1;
        }
    }

    /// What calls do, once the one that is running has ended; or if it does not.
    fn settled_activity(&self) -> Activity {
        let deadline = Instant::now() + CALL_PATIENCE;
        let store = self.peek();
        loop {
            let activity = store.activity();
            if !activity.is_locked || Instant::now() >= deadline {
                return activity;
            }
            sleep(LOCK_PAUSE);
        }
    }

    /// The iptables of this machine.
    pub(super) fn programs<'s>(&self, store: &'s Store) -> Programs<'s> {
        Programs::new(
            self.options.programs.clone(),
            self.options.wait,
            self.deadline_after(LISTING),
            store.lock(),
        )
    }

    /// The context of a command: no daemon, and no settings.
    pub(super) fn context(&self) -> Context {
        let settings = Settings::load(self.options.config.as_deref());
        Context {
            now: self.now,
            settings_origin: match &settings {
                Ok(_) => SettingsOrigin::File,
                Err(_) => SettingsOrigin::Record,
            },
            settings: settings.unwrap_or_default(),
            ..Context::default()
        }
    }

    /// The context of a command that changes rules, and may have to write rules of an older version
    /// again.
    pub(super) fn changing_context(&self, store: &Store) -> Result<Context, HookError> {
        let mut context = self.context();
        if store.has_older_layout()? {
            know_recorded_tunnels(&mut context, store)?;
        }
        Ok(context)
    }

    /// The context of a command that only removes.
    pub(super) fn removing_context(&self, store: &Store) -> Result<Context, HookError> {
        let context = Context {
            now: self.now,
            ..Context::default()
        };
        removing_context(context, self.options, store)
    }

    /// Executes the requests about name servers that calls could not execute, and removes the users
    /// of daemons that have exited, except those in `kept`. Returns the errors. The record's lock
    /// must not be held.
    pub(super) fn settle_resolver(&self, kept: &BTreeSet<DaemonProcess>) -> Result<Vec<DnsError>, HookError> {
        let store = self.peek();
        if !store.resolver().is_in_use() {
            return Ok(Vec::new());
        }
        let errors = dns::work_on_requests(&store, &self.system(), kept);
        if !store.resolver().is_in_use() {
            self.open_store()?.remove_unused()?;
        }
        Ok(errors)
    }

    /// The machine, as the resolver needs it.
    pub(super) fn system(&self) -> System {
        System {
            root: self.options.root.clone(),
            programs: self.options.programs.clone(),
            deadline: Instant::now() + RESOLVER_TIMEOUT,
        }
    }
}

/// Every ruleset that can be listed, and those that have records.
pub(super) fn rulesets<T: Tables>(tables: &T, store: &Store) -> Result<BTreeSet<Ruleset>, HookError> {
    let mut rulesets = BTreeSet::new();
    for family in Family::ALL {
        let backends = tables.backends(family).into_iter();
        rulesets.extend(backends.map(|backend| Ruleset { backend, family }));
    }
    for ruleset in Ruleset::all_rulesets() {
        if store.has_entries(ruleset)? {
            rulesets.insert(ruleset);
        }
    }
    Ok(rulesets)
}

/// Prints the output of a command.
pub(super) fn print(text: &str) -> Result<(), HookError> {
    io::stdout().write_all(text.as_bytes()).map_err(HookError::Output)
}

/// Prints what a command would do.
pub(super) fn show(preview: &Preview, detail: Detail) -> Result<(), HookError> {
    print(&match detail {
        Detail::Summary => preview.summary_text(),
        Detail::Full => preview.full_text(),
    })
}
