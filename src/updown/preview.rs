//! What a call would do, for `--dry-run`.

use super::event::Event;
use std::fmt::Write as _;

use crate::apply::{ApplyError, Change, Engine, Plan};
use crate::daemon::FirewallAction;
use crate::netfilter::iptables::Tables;
use crate::netfilter::restore_text;
use crate::netlink::NetObject;
use crate::routing::RoutingChange;
use crate::state::Record;

/// The exact text that `iptables-restore --noflush` would get, the routes, addresses and interfaces
/// as lines of `ip`, and the records that would be written or erased.
///
/// # Errors
/// If the record cannot be read, or there is no iptables.
pub(crate) fn preview<T: Tables>(
    event: &Event,
    engine: &Engine<'_, T>,
    changes: &[RoutingChange],
) -> Result<String, ApplyError> {
    let mut text = match &event.firewall {
        FirewallAction::Nothing => String::new(),
        FirewallAction::Open(tunnel) => show_all(event, engine, &engine.plan_open(tunnel)?)?,
        FirewallAction::Close(tunnel) => match engine.plan_close(tunnel)? {
            Plan { changes, .. } if changes.is_empty() => {
                format!("# {}: no such tunnel recorded, nothing to do\n", event.verb)
            }
            plan => show_all(event, engine, &plan)?,
        },
    };
    for change in changes.iter().filter(|change| !change.is_empty()) {
        text.push_str(&routing_lines(event, change));
    }
    Ok(text)
}

/// The changes of routes, addresses and interfaces that would be made.
fn routing_lines(event: &Event, change: &RoutingChange) -> String {
    let mut text = format!(
        "# {}: would change routes, addresses or interfaces for {}:\n",
        event.verb, change.key
    );
    let lines = change
        .after
        .iter()
        .flat_map(NetObject::install_commands)
        .chain(change.outgoing().map(NetObject::delete_command));
    for line in lines {
        text.push_str(&line);
        text.push('\n');
    }
    text
}

fn show_all<T: Tables>(event: &Event, engine: &Engine<'_, T>, plan: &Plan) -> Result<String, ApplyError> {
    plan.changes
        .iter()
        .map(|change| firewall_text(event, engine, change))
        .collect()
}

fn firewall_text<T: Tables>(event: &Event, engine: &Engine<'_, T>, change: &Change) -> Result<String, ApplyError> {
    let sections = engine.sections(change)?;
    let tables: Vec<_> = sections.iter().map(|section| section.table.name()).collect();
    let (verb, ruleset) = (&event.verb, change.ruleset);
    let mut text = match &tables[..] {
        [] => {
            format!("# {verb}: would change no table: the rules of {ruleset} are already installed, or still needed\n")
        }
        [table] => format!("# {verb}: would change the {ruleset} {table} table:\n"),
        several => format!(
            "# {verb}: would change the {ruleset} tables {}:\n",
            several.join(" and ")
        ),
    };
    text.push_str(&restore_text(&sections));
    // Writing into a String cannot fail.
    for record in change
        .removed
        .iter()
        .filter(|record| !change.added.iter().any(|other| other.id() == record.id()))
    {
        let _ = writeln!(text, "# would delete the record {}", record.id());
    }
    for record in &change.added {
        let _ = writeln!(text, "# would write the record {}:\n{}", record.id(), json(record));
    }
    Ok(text)
}

fn json(record: &Record) -> String {
    serde_json::to_string_pretty(record).unwrap_or_else(|error| format!("# {error}"))
}
