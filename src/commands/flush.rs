//! `flush`: removes everything of this program.
//!
//! Rules are removed by the kernel's listing, in both backends and both families: the record may be
//! lost, or a reload may have restored rules that were saved while tunnels were up. Routes,
//! addresses, interfaces and name servers are removed by the record, because only the record shows
//! which are this program's. Objects that could not be removed stay recorded.

use std::collections::BTreeSet;
use std::io::{self, IsTerminal as _, Write as _};

use super::command_context::{CommandContext, print, show};
use super::prune::{PolicyState, SoughtTunnel, policy_states};
use super::start::tunnels_without_rules;
use super::{Consent, Detail};
use crate::apply::Preview;
use crate::cli::{Mode, Options};
use crate::dns;
use crate::net::Family;
use crate::netfilter::iptables::{Programs, Tables};
use crate::netfilter::{IptablesSave, JumpOwner, Purge, Ruleset, UserRules, purge};
use crate::netlink;
use crate::routing::{RoutingChange, RoutingEngine, RoutingError};
use crate::settings::JumpPlace;
use crate::state::{FailedUp, Store, TunnelRecord};
use crate::updown::HookError;
use crate::words::counted_noun;

/// How a tunnel that is up gets rules again.
const REINITIATE: &str = "restore cannot reinstall them.\n\
    To get rules back, re-initiate each tunnel: swanctl --terminate and --initiate,\n\
    or ipsec down and ipsec up (libreswan 4: ipsec auto --down and --up)";

/// Removes what there is, and says what. Returns the exit code: 1 also where something had to stay.
pub(super) fn run(options: &Options, others: UserRules, consent: Consent, detail: Detail) -> Result<u8, HookError> {
    let command = CommandContext::new(options)?;
    let up = tunnels_up(&command.peek());
    if options.mode == Mode::DryRun {
        let store = command.peek();
        let plan = FlushPlan::new(&store, &mut command.programs(&store), others);
        show(&plan.preview(&command, up), detail)?;
        return Ok(u8::from(!plan.problems.is_empty()));
    }
    if consent == Consent::Missing && up > 0 && !is_confirmed(up)? {
        print("nothing removed\n")?;
        return Ok(1);
    }
    let (mut report, noted) = flush(&command, others)?;
    if up > 0 {
        let tunnels = counted_noun(up, "tunnel");
        report.done.push(match noted {
            0 => format!("{tunnels} up lost all rules; {REINITIATE}"),
            _ => format!("{tunnels} up lost all rules; pluto-updown start reinstalls those of {noted}"),
        });
    }
    print(&report.report_text())?;
    Ok(u8::from(!report.problems.is_empty()))
}

/// Removes everything. Returns also how many tunnels are noted as up without rules now.
fn flush(command: &CommandContext<'_>, others: UserRules) -> Result<(FlushReport, usize), HookError> {
    let store = command.open_store()?;
    let bereft = bereft_tunnels(command, &store);
    let mut programs = command.programs(&store);
    let plan = FlushPlan::new(&store, &mut programs, others);
    let mut report = plan.carry_out(command, &store, &mut programs);
    drop(programs);
    // Without the lock, so that a program that hangs does not delay any tunnel's rules.
    drop(store);
    let errors = dns::give_back_all(&command.peek(), &command.system());
    report.problems.extend(errors.iter().map(ToString::to_string));
    let store = command.open_store()?;
    let noted = note_bereft(command, &store, &bereft)?;
    store.remove_unused()?;
    Ok((report, noted))
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
    // As for `start`, which gives no rules to the tunnels of a daemon that has exited.
    let is_up = |record: &TunnelRecord, state: &PolicyState| {
        *state == PolicyState::Up && record.daemon.is_none_or(|daemon| !daemon.is_dead())
    };
    let up = tunnels.into_iter().zip(states);
    let up = up.filter(|((_, record), state)| is_up(record, state));
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
    done: Vec<String>,
    problems: Vec<String>,
}

impl FlushReport {
    fn report_text(&self) -> String {
        let lines = self.done.iter().chain(&self.problems);
        let text: String = lines.map(|line| format!("{line}\n")).collect();
        match text.is_empty() {
            true => "no rules or chains of pluto-updown found\n".to_owned(),
            false => text,
        }
    }
}

/// Everything that flush removes, besides name servers.
#[derive(Debug)]
struct FlushPlan {
    routes: Vec<RoutingChange>,
    purges: Vec<(Ruleset, Purge)>,
    others: UserRules,
    /// What cannot be removed, and why.
    problems: Vec<String>,
}

impl FlushPlan {
    fn new(store: &Store, programs: &mut Programs<'_>, others: UserRules) -> Self {
        let mut plan = Self {
            routes: Vec::new(),
            purges: Vec::new(),
            others,
            problems: Vec::new(),
        };
        match store.routing_records() {
            Ok(records) => plan.routes = records.into_iter().map(RoutingChange::removal).collect(),
            Err(error) => plan.problems.push(error.to_string()),
        }
        let known = rulesets(programs);
        for ruleset in Ruleset::all_rulesets().filter(|ruleset| !known.contains(ruleset)) {
            if store.has_entries(ruleset).unwrap_or(true) {
                plan.problems.push(format!(
                    "{ruleset}: rules are recorded, but this iptables is no longer installed"
                ));
            }
        }
        for ruleset in known {
            match programs.save_all(ruleset) {
                Ok(listing) => {
                    let saved = IptablesSave::parse(&listing);
                    let purge = purge(&saved, ruleset.backend, jumps(store, ruleset), others);
                    if others == UserRules::Keep {
                        let kept = user_rules(ruleset, "kept:", &purge).into_iter();
                        let kept = kept.map(|line| format!("{line} (--force deletes it)"));
                        plan.problems.extend(kept);
                    }
                    plan.purges.push((ruleset, purge));
                }
                Err(error) => plan.problems.push(error.to_string()),
            }
        }
        plan
    }

    fn preview(&self, command: &CommandContext<'_>, up: usize) -> Preview {
        let mut preview = Preview::new("flush");
        for change in self.routes.iter().filter(|change| !change.is_empty()) {
            preview.sum_up(routes_line(change, "would remove", change.outgoing().count()));
            change.preview(&mut preview);
        }
        dns::preview_give_back_all(&command.peek(), &command.system(), &mut preview);
        for (ruleset, purge) in self.purges.iter().filter(|(_, purge)| !purge.stages.is_empty()) {
            preview.add_rules(*ruleset, purge.restore_text());
        }
        let removed = self.purges.iter();
        let removed = removed.flat_map(|(ruleset, purge)| self.purge_lines(*ruleset, "would remove", purge));
        let lost = (up > 0).then(|| format!("{} up would lose all rules", counted_noun(up, "tunnel")));
        let lines = removed.chain(lost).chain(self.problems.iter().cloned());
        lines.for_each(|line| preview.sum_up(line));
        preview
    }

    /// The firewall after the routes: it can be found without the record, so that the next flush
    /// completes one that died.
    fn carry_out(&self, command: &CommandContext<'_>, store: &Store, programs: &mut Programs<'_>) -> FlushReport {
        let mut report = FlushReport::default();
        if let Err(error) = self.remove_routes(command, store, &mut report) {
            report.problems.push(error.to_string());
        }
        for (ruleset, purge) in &self.purges {
            let removed = match purge.stages.is_empty() {
                true => Ok(()),
                false => programs.restore(*ruleset, &purge.restore_text()),
            };
            match removed {
                Ok(()) => {
                    report.done.extend(self.purge_lines(*ruleset, "removed", purge));
                    report
                        .problems
                        .extend(store.erase(*ruleset).err().map(|error| error.to_string()));
                }
                Err(error) => report.problems.push(error.to_string()),
            }
        }
        report.problems.extend_from_slice(&self.problems);
        report
    }

    fn remove_routes(
        &self,
        command: &CommandContext<'_>,
        store: &Store,
        report: &mut FlushReport,
    ) -> Result<(), RoutingError> {
        if self.routes.is_empty() {
            return Ok(());
        }
        let mut kernel = netlink::Kernel::open()?;
        let mut engine = RoutingEngine::new(store, &mut kernel, None, command.now);
        for change in &self.routes {
            let outcome = engine.carry_out(change)?;
            report.problems.extend(outcome.faults.iter().map(ToString::to_string));
            report.done.push(routes_line(change, "removed", outcome.removed_count));
        }
        Ok(())
    }

    fn purge_lines(&self, ruleset: Ruleset, word: &str, purge: &Purge) -> Vec<String> {
        let (chains, jumps) = (counted_noun(purge.chains(), "chain"), counted_noun(purge.jumps, "jump"));
        let mut lines = vec![format!("{ruleset}: {word} {chains}, {jumps}")];
        if purge.stages.is_empty() {
            lines.clear();
        }
        if self.others == UserRules::Delete {
            lines.extend(user_rules(ruleset, word, purge));
        }
        lines
    }
}

fn routes_line(change: &RoutingChange, word: &str, count: usize) -> String {
    let nouns = match count {
        1 => "route, address or interface",
        _ => "routes, addresses or interfaces",
    };
    format!("{}: {word} {count} {nouns}", change.key)
}

/// The rules of the administrator that jump to chains of this program, each in a line.
fn user_rules(ruleset: Ruleset, word: &str, purge: &Purge) -> Vec<String> {
    let rules = purge.user_rules.iter();
    let lines =
        rules.map(|(table, chain, rule)| format!("{ruleset} {table}: {word} your rule in chain \"{chain}\": {rule}"));
    lines.collect()
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
