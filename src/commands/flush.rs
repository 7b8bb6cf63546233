//! `flush`: removes everything of this program.
//!
//! Rules are removed by the kernel's listing, in both backends and both families: the record may be
//! lost, or a reload may have restored rules that were saved while tunnels were up. Routes,
//! addresses, interfaces and name servers are removed by the record, because only the record shows
//! which are this program's. Objects that could not be removed stay recorded.

use std::collections::BTreeSet;
use std::fmt::{self, Write as _};
use std::io::{self, IsTerminal as _, Write as _};

use super::Consent;
use super::command_context::{CommandContext, print};
use super::prune::{PolicyState, SoughtTunnel, policy_states};
use super::start::tunnels_without_rules;
use crate::cli::{Mode, Options};
use crate::dns;
use crate::net::Family;
use crate::netfilter::iptables::{Tables, TablesError};
use crate::netfilter::{IptablesSave, JumpOwner, Purge, Ruleset, UserRules, purge};
use crate::netlink::{self, NetObject};
use crate::routing::{RoutingChange, RoutingEngine, RoutingError};
use crate::settings::JumpPlace;
use crate::state::{FailedUp, Store};
use crate::updown::HookError;
use crate::words::counted_noun;

/// How a tunnel that is up gets rules again.
const REINITIATE: &str = "restore cannot reinstall them.\n\
    To get rules back, re-initiate each tunnel: swanctl --terminate and --initiate,\n\
    or ipsec down and ipsec up (libreswan 4: ipsec auto --down and --up)";

/// Removes what there is, and says what. Returns the exit code: 1 also where something had to stay.
pub(super) fn run(options: &Options, others: UserRules, consent: Consent) -> Result<u8, HookError> {
    let command = CommandContext::new(options)?;
    let up = tunnels_up(&command.peek());
    if options.mode == Mode::Real && consent == Consent::Missing && up > 0 && !is_confirmed(up)? {
        print("nothing removed\n")?;
        return Ok(1);
    }
    let mut noted = 0;
    let mut report = match options.mode {
        Mode::DryRun => rehearse(&command, &command.peek(), others),
        Mode::Real => {
            let store = command.open_store()?;
            let bereft = bereft_tunnels(&command, &store);
            let mut report = flush(&command, &store, others);
            // Without the lock, so that a program that hangs does not delay any tunnel's rules.
            drop(store);
            for trouble in dns::give_back_all(&command.peek(), &command.system()) {
                report.add_problem(&trouble);
            }
            let store = command.open_store()?;
            noted = note_bereft(&command, &store, &bereft)?;
            store.remove_unused()?;
            report
        }
    };
    if up > 0 {
        let tunnels = counted_noun(up, "tunnel");
        match options.mode {
            Mode::DryRun => report.add_line(format_args!("# {tunnels} up would lose all rules")),
            Mode::Real if noted == 0 => report.add_line(format_args!("{tunnels} up lost all rules; {REINITIATE}")),
            Mode::Real => report.add_line(format_args!(
                "{tunnels} up lost all rules; pluto-updown start reinstalls those of {noted}"
            )),
        }
    }
    print(&report.report_text())?;
    Ok(u8::from(!report.problems.is_empty()))
}

/// The number of recorded tunnels. A record that cannot be read counts as none, because flush is
/// for a broken record too.
fn tunnels_up(store: &Store) -> usize {
    let tunnels = Ruleset::all_rulesets().filter_map(|ruleset| store.tunnels(ruleset).ok());
    tunnels.map(|records| records.len()).sum()
}

/// The tunnels that are certainly up, by the kernel's policies. Once the record is gone nobody
/// knows of them any more.
fn bereft_tunnels(command: &CommandContext<'_>, store: &Store) -> Vec<(Option<Ruleset>, FailedUp)> {
    let tunnels = Ruleset::all_rulesets().flat_map(|ruleset| {
        let tunnels = store.tunnels(ruleset).unwrap_or_default();
        tunnels.into_iter().map(move |record| (ruleset, record))
    });
    let tunnels: Vec<_> = tunnels.collect();
    let sought: Vec<_> = tunnels.iter().map(|(_, record)| SoughtTunnel::from(record)).collect();
    let states = policy_states(&sought).unwrap_or_default();
    let is_up = |state: &PolicyState| *state == PolicyState::Up;
    let up = tunnels.into_iter().zip(states).filter(|(_, state)| is_up(state));
    let bereft = up.flat_map(|((ruleset, record), _)| {
        let views = record.opener_views().into_iter();
        views.map(move |(tunnel, _)| {
            let failed = FailedUp {
                tunnel,
                daemon: record.daemon,
                reason: FLUSHED.to_owned(),
                since: 0,
            };
            (Some(ruleset), failed)
        })
    });
    let without_rules = tunnels_without_rules(command).into_iter();
    bereft.chain(without_rules.map(|failed| (None, failed))).collect()
}

/// Notes the tunnels that are up and have no rules now, and forgets all others: `status` shows
/// them, and `start` reinstalls their rules. Returns how many. One that cannot be noted is only not
/// shown.
fn note_bereft(
    command: &CommandContext<'_>,
    store: &Store,
    bereft: &[(Option<Ruleset>, FailedUp)],
) -> Result<usize, HookError> {
    let (top, namespace) = (&command.options.state_dir, command.namespace);
    // Where the rules could not be removed, the record has the tunnel still.
    let has_lost =
        |ruleset: &Option<Ruleset>| ruleset.is_none_or(|ruleset| !store.has_entries(ruleset).unwrap_or(true));
    let lost: Vec<_> = bereft.iter().filter(|(ruleset, _)| has_lost(ruleset)).collect();
    store.forget_failed_ups()?;
    let noted = lost
        .into_iter()
        .filter(|(_, failed)| Store::note_failed_up(top, namespace, failed).is_ok());
    let ids: BTreeSet<_> = noted.filter_map(|(_, failed)| failed.id()).collect();
    Ok(ids.len())
}

/// Asks on a terminal whether these tunnels are to lose their rules.
fn is_confirmed(up: usize) -> Result<bool, HookError> {
    let tunnels = counted_noun(up, "tunnel");
    if !(io::stdin().is_terminal() && io::stdout().is_terminal()) {
        return Err(HookError::Refused(format!(
            "{tunnels} up would lose all rules until re-initiated; use --yes to do it"
        )));
    }
    print(&format!(
        "{tunnels} up would lose all rules; {REINITIATE}.\nRemove everything? [y/N] "
    ))?;
    io::stdout().flush().map_err(HookError::Output)?;
    let mut answer = String::new();
    // An end of input is no answer.
    let _ = io::stdin().read_line(&mut answer);
    Ok(["y", "yes"].contains(&answer.trim().to_ascii_lowercase().as_str()))
}

/// Why a tunnel has no rules after it.
const FLUSHED: &str = "flush removed its rules";

/// What was done, and what could not be.
#[derive(Debug, Default)]
struct FlushReport {
    done: String,
    problems: Vec<String>,
}

impl FlushReport {
    fn report_text(&self) -> String {
        let problems: String = self.problems.iter().map(|line| format!("{line}\n")).collect();
        match self.done.is_empty() && problems.is_empty() {
            true => "no rules or chains of pluto-updown found\n".to_owned(),
            false => format!("{}{problems}", self.done),
        }
    }

    fn add_line(&mut self, line: fmt::Arguments<'_>) {
        // Writing into a String cannot fail.
        let _ = writeln!(self.done, "{line}");
    }

    fn add_problem(&mut self, what: &dyn fmt::Display) {
        self.problems.push(what.to_string());
    }
}

/// The firewall after the routes: it can be found without the record, so that the next flush
/// completes one that died.
fn flush(command: &CommandContext<'_>, store: &Store, others: UserRules) -> FlushReport {
    let mut report = FlushReport::default();
    if let Err(error) = take_out_routes(command, store, &mut report) {
        report.add_problem(&error);
    }
    let mut programs = command.programs(store);
    let known = rulesets(&programs);
    for ruleset in Ruleset::all_rulesets().filter(|ruleset| !known.contains(ruleset)) {
        if store.has_entries(ruleset).unwrap_or(true) {
            report.add_problem(&format_args!(
                "{ruleset}: rules are recorded, but this iptables is no longer installed"
            ));
        }
    }
    for ruleset in known {
        match take_out_chains(&mut programs, ruleset, jumps(store, ruleset), others) {
            Ok(purged) => {
                report_purge(ruleset, &purged, others, &mut report);
                if let Err(error) = store.erase(ruleset) {
                    report.add_problem(&error);
                }
            }
            Err(error) => report.add_problem(&error),
        }
    }
    report
}

/// Every ruleset that can be looked at.
fn rulesets<T: Tables>(tables: &T) -> Vec<Ruleset> {
    let of_family = |family| {
        tables
            .backends(family)
            .into_iter()
            .map(move |backend| Ruleset { backend, family })
    };
    Family::ALL.into_iter().flat_map(of_family).collect()
}

/// Who installed the jumps to this program's chains, by the record; this program, if the record
/// cannot be read.
fn jumps(store: &Store, ruleset: Ruleset) -> JumpOwner {
    match store.installed(ruleset).map(|installed| installed.place) {
        Ok(JumpPlace::Own) => JumpOwner::User,
        Ok(JumpPlace::First | JumpPlace::Last) | Err(_) => JumpOwner::Program,
    }
}

fn take_out_chains<T: Tables>(
    tables: &mut T,
    ruleset: Ruleset,
    jumps: JumpOwner,
    others: UserRules,
) -> Result<Purge, TablesError> {
    let saved = IptablesSave::parse(&tables.save_all(ruleset)?);
    let purged = purge(&saved, ruleset.backend, jumps, others);
    if !purged.stages.is_empty() {
        tables.restore(ruleset, &purged.restore_text())?;
    }
    Ok(purged)
}

fn report_purge(ruleset: Ruleset, purged: &Purge, others: UserRules, report: &mut FlushReport) {
    if !purged.stages.is_empty() {
        report.add_line(format_args!(
            "{ruleset}: removed {}, {}",
            counted_noun(purged.chains(), "chain"),
            counted_noun(purged.jumps, "jump")
        ));
    }
    for (table, chain, rule) in &purged.user_rules {
        match others {
            UserRules::Delete => report.add_line(format_args!(
                "{ruleset} {table}: removed your rule in chain \"{chain}\": {rule}"
            )),
            UserRules::Keep => report.add_problem(&format_args!(
                "{ruleset} {table}: kept: your rule in chain \"{chain}\": {rule} (--force deletes it)"
            )),
        }
    }
}

fn take_out_routes(command: &CommandContext<'_>, store: &Store, report: &mut FlushReport) -> Result<(), RoutingError> {
    if !store.has_routings()? {
        return Ok(());
    }
    let mut kernel = netlink::Kernel::open()?;
    let mut engine = RoutingEngine::new(store, &mut kernel, None, command.now);
    for change in departures(store)? {
        let outcome = engine.carry_out(&change)?;
        outcome.faults.iter().for_each(|fault| report.add_problem(fault));
        let count = outcome.removed_count;
        report.add_line(format_args!(
            "{}: removed {count} routes, addresses or interfaces",
            change.key
        ));
    }
    Ok(())
}

/// The changes that remove the objects of each remote network.
fn departures(store: &Store) -> Result<Vec<RoutingChange>, RoutingError> {
    let records = store.routing_records()?.into_iter();
    let changes = records.map(|record| RoutingChange {
        key: record.key.clone(),
        connection: record.connection.clone(),
        routed_for: None,
        before: Some(record),
        after: Vec::new(),
    });
    Ok(changes.collect())
}

/// What it would do.
fn rehearse(command: &CommandContext<'_>, store: &Store, others: UserRules) -> FlushReport {
    let mut report = FlushReport::default();
    match departures(store) {
        Ok(changes) => {
            for line in changes
                .iter()
                .flat_map(RoutingChange::outgoing)
                .map(NetObject::delete_command)
            {
                report.add_line(format_args!("{line}"));
            }
        }
        Err(error) => report.add_problem(&error),
    }
    match store.resolver().read_state() {
        Ok(record) => {
            for user in &record.users {
                let servers: Vec<_> = user.servers.iter().map(ToString::to_string).collect();
                report.add_line(format_args!("# would remove the name servers {}", servers.join(", ")));
            }
        }
        Err(error) => report.add_problem(&error),
    }
    let mut programs = command.programs(store);
    for ruleset in rulesets(&programs) {
        match programs.save_all(ruleset) {
            Ok(listing) => {
                let saved = IptablesSave::parse(&listing);
                let purged = purge(&saved, ruleset.backend, jumps(store, ruleset), others);
                if !purged.stages.is_empty() {
                    report.add_line(format_args!(
                        "# would change the {ruleset} tables:\n{}",
                        purged.restore_text().trim_end()
                    ));
                }
            }
            Err(error) => report.add_problem(&error),
        }
    }
    report
}
