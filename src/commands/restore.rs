//! `restore`: reinstalls what is recorded and missing.
//!
//! A reload of the firewall removes this program's rules without a call. Correct rules are not
//! touched, so `restore` can be run at any time, repeatedly, and while a daemon calls.

use std::fmt::Write as _;

use super::Detail;
use super::command_context::{CommandContext, print, rulesets, show};
use super::drift_words::{counted_drifts, repairs};
use super::no_record::UnrecordedSas;
use super::start::tunnels_without_rules;
use crate::apply::{Context, Engine, Preview};
use crate::cli::{Mode, Options, RoutingOwner};
use crate::firewall::{Drift, Repair};
use crate::netfilter::{Ruleset, Table, restore_text};
use crate::netlink::{self, xfrm_interfaces};
use crate::routing::{RoutingEngine, RoutingError};
use crate::state::{FailedUp, Store};
use crate::updown::{HookError, close_late, note_leftovers};
use crate::words::{counted_noun, one_line};

/// Reinstalls what is missing, and reports it. Returns the exit code: 1 if something could not be
/// reinstalled.
pub(super) fn run(options: &Options, detail: Detail) -> Result<u8, HookError> {
    let command = CommandContext::new(options)?;
    if options.mode == Mode::DryRun {
        return preview(&command, detail);
    }
    let store = command.open_store()?;
    let restored = restore(&command, &store, detail);
    store.remove_unused()?;
    let mut restored = restored?;
    // Without the lock, so that a program that hangs does not delay any tunnel's rules.
    drop(store);
    close_late(command.options, command.namespace, &command.peek());
    let kept = command.peek().dead_daemons()?.into_iter().collect();
    for trouble in command.settle_resolver(&kept)? {
        restored.fail(&trouble);
    }
    print(&restored.report_text())?;
    Ok(u8::from(restored.failed > 0))
}

/// The report on what was reinstalled, and the number of things that could not be.
#[derive(Debug, Default)]
struct Restored {
    text: String,
    failed: usize,
}

impl Restored {
    fn report_text(&self) -> String {
        match self.text.is_empty() {
            true => "nothing to restore, all rules are loaded\n".to_owned(),
            false => self.text.clone(),
        }
    }

    fn fail(&mut self, why: &dyn std::fmt::Display) {
        self.failed += 1;
        // Writing into a String cannot fail.
        let _ = writeln!(self.text, "failed: {why}");
    }
}

/// That one ruleset cannot be set right keeps none of the others from it.
fn restore(command: &CommandContext<'_>, store: &Store, detail: Detail) -> Result<Restored, HookError> {
    let mut restored = Restored::default();
    let mut programs = command.programs(store);
    let rulesets = rulesets(&programs, store)?;
    let mut engine = Engine::new(store, &mut programs, with_interfaces(command.changing_context(store)?));
    engine.recover()?;
    for ruleset in engine.upgrade()? {
        // Writing into a String cannot fail.
        let _ = writeln!(
            restored.text,
            "rewritten: {ruleset} (an older version had installed the rules)"
        );
    }
    if let Err(error) = engine.close_owed() {
        restored.fail(&error);
    }
    for (connection, error) in engine.failed_owed_downs() {
        restored.fail(&format_args!("{connection}: its `down` cannot be executed: {error}"));
    }
    for ruleset in rulesets {
        match engine.reconcile(ruleset) {
            Ok(drifts) => restored.text.push_str(&repaired(ruleset, &drifts, detail, repairs)),
            Err(error) => restored.fail(&error),
        }
    }
    match engine.match_new_interfaces() {
        Ok(0) => {}
        Ok(tunnels) => {
            let tunnels = counted_noun(tunnels, "tunnel");
            // Writing into a String cannot fail.
            let _ = writeln!(restored.text, "restored: the rules of {tunnels} for an XFRM interface");
        }
        Err(error) => restored.fail(&error),
    }
    let late = tunnels_without_rules(command);
    if late.is_empty()
        && !has_tunnels(store)?
        && let Some(found) = UnrecordedSas::in_kernel()
    {
        // Writing into a String cannot fail.
        let _ = writeln!(restored.text, "needs you: {}; {}", found.text, found.fix.fix_text());
    }
    for failed in late {
        // Writing into a String cannot fail.
        let _ = writeln!(restored.text, "{}", without_rules_line(&failed));
    }
    if command.options.routing == RoutingOwner::Ours && store.has_routings()? {
        restore_routes(command, store, &mut restored)?;
    }
    Ok(restored)
}

fn has_tunnels(store: &Store) -> Result<bool, HookError> {
    for ruleset in Ruleset::all_rulesets() {
        if store.has_tunnels(ruleset)? {
            return Ok(true);
        }
    }
    Ok(false)
}

fn restore_routes(command: &CommandContext<'_>, store: &Store, restored: &mut Restored) -> Result<(), HookError> {
    let mut kernel = netlink::Kernel::open().map_err(RoutingError::from)?;
    let mut engine = RoutingEngine::new(store, &mut kernel, None, command.now);
    let (items, faults) = engine.restore()?;
    for command in items.iter().flat_map(netlink::NetObject::install_commands) {
        let _ = writeln!(restored.text, "restored: {command}");
    }
    faults.iter().for_each(|fault| restored.fail(fault));
    Ok(())
}

/// Shows what it would do.
fn preview(command: &CommandContext<'_>, detail: Detail) -> Result<u8, HookError> {
    let store = command.peek();
    let mut programs = command.programs(&store);
    let rulesets = rulesets(&programs, &store)?;
    let mut engine = Engine::new(&store, &mut programs, with_interfaces(command.context()));
    let mut preview = Preview::new("restore");
    note_leftovers(&store, &mut preview)?;
    for ruleset in rulesets {
        let comparison = engine.compare(ruleset)?;
        let drifts = repaired(ruleset, &comparison.drifts, detail, counted_drifts);
        drifts.lines().for_each(|line| preview.sum_up(line));
        let sections = engine.reconcile_sections(ruleset, &comparison, Repair::Patch)?;
        if !sections.is_empty() {
            preview.add_rules(ruleset, restore_text(&sections));
        }
    }
    for change in engine.plan_new_interfaces()? {
        let tunnels = counted_noun(change.added.len(), "tunnel");
        preview.sum_up(format_args!(
            "{tunnels}: rules for an XFRM interface ({})",
            change.ruleset
        ));
        preview.add_rules(change.ruleset, restore_text(&engine.sections(&change)?));
    }
    let without_rules = tunnels_without_rules(command).into_iter();
    without_rules.for_each(|failed| preview.sum_up(without_rules_line(&failed)));
    if command.options.routing == RoutingOwner::Ours && store.has_routings()? {
        let mut kernel = netlink::Kernel::open().map_err(RoutingError::from)?;
        let missing = RoutingEngine::new(&store, &mut kernel, None, command.now).missing_routes();
        let commands: Vec<_> = missing?.iter().flat_map(netlink::NetObject::install_commands).collect();
        commands
            .iter()
            .for_each(|command| preview.sum_up(format_args!("missing: {command}")));
        preview.add_commands("run", &commands);
    }
    show(&preview, detail)?;
    Ok(0)
}

/// The context with the present XFRM interfaces. Without them the recorded ones stay.
fn with_interfaces(context: Context) -> Context {
    Context {
        interfaces: xfrm_interfaces().unwrap_or_default(),
        ..context
    }
}

fn without_rules_line(failed: &FailedUp) -> String {
    let (connection, network) = (&failed.tunnel.connection, failed.tunnel.remote_client);
    format!("needs you: {connection} ({network}) is up without rules: pluto-updown start")
}

/// The differences in a ruleset, table by table, in these words; with [`Detail::Full`]
/// difference by difference. What only the administrator can repair is always a line of its own.
fn repaired(ruleset: Ruleset, drifts: &[Drift], detail: Detail, words: impl Fn(&[&Drift]) -> String) -> String {
    let mut text = String::new();
    for table in Table::ALL {
        let drifts = drifts
            .iter()
            .filter(|drift| drift.table == table && drift.is_repairable());
        let repairs = words(&drifts.collect::<Vec<_>>());
        if !repairs.is_empty() {
            // Writing into a String cannot fail.
            let _ = writeln!(text, "{repairs} ({ruleset} {table})");
        }
    }
    for drift in drifts {
        match (drift.is_repairable(), detail) {
            (false, _) => drop(writeln!(text, "needs you: {ruleset} {}", one_line(&drift.to_string()))),
            (true, Detail::Full) => drop(writeln!(text, "    {ruleset} {}", one_line(&drift.to_string()))),
            (true, Detail::Summary) => {}
        }
    }
    text
}
