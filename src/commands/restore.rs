//! `restore`: reinstalls what is recorded and missing.
//!
//! A reload of the firewall removes this program's rules without a call. Correct rules are not
//! touched, so `restore` can be run at any time, repeatedly, and while a daemon calls.

use std::fmt::Write as _;

use super::Detail;
use super::command_context::{CommandContext, print, rulesets};
use super::drift_words::repairs;
use super::no_record::UnrecordedSas;
use super::start::tunnels_without_rules;
use crate::apply::Engine;
use crate::cli::{Mode, Options, RoutingOwner};
use crate::firewall::{Drift, Repair};
use crate::netfilter::{Ruleset, Table, restore_text};
use crate::netlink;
use crate::routing::{RoutingEngine, RoutingError};
use crate::state::Store;
use crate::updown::{HookError, close_late};
use crate::words::one_line;

/// Reinstalls what is missing, and reports it. Returns the exit code: 1 if something could not be
/// reinstalled.
pub(super) fn run(options: &Options, detail: Detail) -> Result<u8, HookError> {
    let command = CommandContext::new(options)?;
    let restored = match options.mode {
        Mode::DryRun => rehearse(&command, &command.peek(), detail)?,
        Mode::Real => {
            let store = command.open_store()?;
            let restored = restore(&command, &store, detail);
            store.remove_unused()?;
            let mut restored = restored?;
            // Without the lock, so that a program that hangs does not delay any tunnel's rules.
            drop(store);
            close_late(command.options, command.namespace);
            let kept = command.peek().dead_daemons()?.into_iter().collect();
            for trouble in command.settle_resolver(&kept)? {
                restored.fail(&trouble);
            }
            restored
        }
    };
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
    let mut engine = Engine::new(store, &mut programs, command.changing_context(store)?);
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
            Ok(drifts) => restored.text.push_str(&repaired(ruleset, &drifts, detail)),
            Err(error) => restored.fail(&error),
        }
    }
    let late = tunnels_without_rules(command);
    if late.is_empty() && !has_tunnels(store)? {
        if let Some(found) = UnrecordedSas::in_kernel() {
            // Writing into a String cannot fail.
            let _ = writeln!(restored.text, "needs you: {}; {}", found.text, found.fix.fix_text());
        }
    }
    for failed in late {
        let (connection, network) = (&failed.tunnel.connection, failed.tunnel.remote_client);
        // Writing into a String cannot fail.
        let _ = writeln!(
            restored.text,
            "needs you: {connection} ({network}) is up without rules: pluto-updown start"
        );
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

/// What it would do.
fn rehearse(command: &CommandContext<'_>, store: &Store, detail: Detail) -> Result<Restored, HookError> {
    let mut restored = Restored::default();
    let mut programs = command.programs(store);
    let rulesets = rulesets(&programs, store)?;
    let mut engine = Engine::new(store, &mut programs, command.context());
    for ruleset in rulesets {
        let comparison = engine.compare(ruleset)?;
        let sections = engine.reconcile_sections(ruleset, &comparison, Repair::Patch)?;
        if !sections.is_empty() {
            let _ = writeln!(restored.text, "# would change the {ruleset} tables:");
            for line in repaired(ruleset, &comparison.drifts, detail).lines() {
                let _ = writeln!(restored.text, "# {line}");
            }
            restored.text.push_str(&restore_text(&sections));
        }
    }
    Ok(restored)
}

/// What was done about the differences in a ruleset, table by table; with [`Detail::Full`]
/// difference by difference. What only the administrator can repair is always a line of its own.
fn repaired(ruleset: Ruleset, drifts: &[Drift], detail: Detail) -> String {
    let mut text = String::new();
    for table in Table::ALL {
        let drifts = drifts
            .iter()
            .filter(|drift| drift.table == table && drift.is_repairable());
        let repairs = repairs(drifts);
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
