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
use crate::apply::{Engine, RoutingEngine, RoutingError};
use crate::cli::{Mode, Options, RoutingOwner};
use crate::hook::{HookError, close_late};
use crate::netfilter::{Ruleset, Table, restore_text};
use crate::plan::{Drift, Repair};
use crate::record::Store;
use crate::rtnetlink;
use crate::words::one_line;

/// Reinstalls what is missing, and reports it. Returns the exit code: 1 if something could not be
/// reinstalled.
pub(super) fn run(options: &Options, detail: Detail) -> Result<u8, HookError> {
    let ground = CommandContext::new(options)?;
    let restored = match options.mode {
        Mode::DryRun => rehearse(&ground, &ground.peek(), detail)?,
        Mode::Real => {
            let store = ground.open_store()?;
            let restored = restore(&ground, &store, detail);
            store.remove_unused()?;
            let mut restored = restored?;
            // Without the lock, so that a program that hangs does not delay any tunnel's rules.
            drop(store);
            close_late(ground.options, ground.namespace);
            let kept = ground.peek().dead_daemons()?.into_iter().collect();
            for trouble in ground.settle_resolver(&kept)? {
                restored.fail(&trouble);
            }
            restored
        }
    };
    print(&restored.report_text())?;
    Ok(u8::from(restored.failed > 0))
}

/// What was put back, and how much could not be.
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
fn restore(ground: &CommandContext<'_>, store: &Store, detail: Detail) -> Result<Restored, HookError> {
    let mut restored = Restored::default();
    let mut programs = ground.programs(store);
    let rulesets = rulesets(&programs, store)?;
    let mut session = Engine::new(store, &mut programs, ground.changing_context(store)?);
    session.recover()?;
    for ruleset in session.upgrade()? {
        // Writing into a String cannot fail.
        let _ = writeln!(
            restored.text,
            "rewritten: {ruleset} (an older version had installed the rules)"
        );
    }
    if let Err(error) = session.close_owed() {
        restored.fail(&error);
    }
    for (connection, error) in session.unpaid() {
        restored.fail(&format_args!("{connection}: its `down` cannot be executed: {error}"));
    }
    for ruleset in rulesets {
        match session.reconcile(ruleset) {
            Ok(drifts) => restored.text.push_str(&repaired(ruleset, &drifts, detail)),
            Err(error) => restored.fail(&error),
        }
    }
    let late = tunnels_without_rules(ground);
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
    if ground.options.routing == RoutingOwner::Ours && store.has_routings()? {
        restore_routes(ground, store, &mut restored)?;
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

fn restore_routes(ground: &CommandContext<'_>, store: &Store, restored: &mut Restored) -> Result<(), HookError> {
    let mut kernel = rtnetlink::Kernel::open().map_err(RoutingError::from)?;
    let mut session = RoutingEngine::new(store, &mut kernel, None, ground.now);
    let (items, faults) = session.restore()?;
    for command in items.iter().flat_map(rtnetlink::NetObject::install_commands) {
        let _ = writeln!(restored.text, "restored: {command}");
    }
    faults.iter().for_each(|fault| restored.fail(fault));
    Ok(())
}

/// What it would do.
fn rehearse(ground: &CommandContext<'_>, store: &Store, detail: Detail) -> Result<Restored, HookError> {
    let mut restored = Restored::default();
    let mut programs = ground.programs(store);
    let rulesets = rulesets(&programs, store)?;
    let mut session = Engine::new(store, &mut programs, ground.context());
    for ruleset in rulesets {
        let comparison = session.compare(ruleset)?;
        let sections = session.reconcile_sections(ruleset, &comparison, Repair::Patch)?;
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
