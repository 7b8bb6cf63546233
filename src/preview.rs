//! What a call would do, for `--dry-run`.

use std::fmt::Write as _;

use crate::apply::{ApplyError, Session, Work};
use crate::contract::{Duty, Event};
use crate::iptables::Tables;
use crate::netfilter::restore_text;
use crate::record::TunnelRecord;

/// The exact text that `iptables-restore --noflush` would get, and the record that would be written or erased.
///
/// # Errors
/// If the record cannot be read, or there is no iptables.
pub fn preview<T: Tables>(event: &Event, session: &Session<'_, T>) -> Result<String, ApplyError> {
    let work = match &event.duty {
        Duty::Nothing => return Ok(format!("# {}: nothing to do\n", event.verb)),
        Duty::Open(tunnel) => Some(session.opening(tunnel)?),
        Duty::Close(tunnel) => session.closing(tunnel)?,
    };
    match work {
        None => Ok(format!("# {}: no such tunnel on record, nothing to do\n", event.verb)),
        Some(work) => show(event, session, &work),
    }
}

fn show<T: Tables>(event: &Event, session: &Session<'_, T>, work: &Work) -> Result<String, ApplyError> {
    let sections = session.sections(work)?;
    let tables: Vec<_> = sections.iter().map(|section| section.table.name()).collect();
    let (verb, rulebook) = (&event.verb, work.rulebook);
    let mut text = match &tables[..] {
        [] => format!("# {verb}: would change no table: the rules of {rulebook} stand already, or stay\n"),
        [table] => format!("# {verb}: would change the {rulebook} {table} table:\n"),
        several => format!(
            "# {verb}: would change the {rulebook} tables {}:\n",
            several.join(" and ")
        ),
    };
    text.push_str(&restore_text(&sections));
    // Writing into a String cannot fail.
    for record in work
        .gone
        .iter()
        .filter(|record| !work.come.iter().any(|other| other.id == record.id))
    {
        let _ = writeln!(text, "# would erase the record {}", record.id);
    }
    for record in &work.come {
        let _ = writeln!(text, "# would write the record {}:\n{}", record.id, json(record));
    }
    Ok(text)
}

fn json(record: &TunnelRecord) -> String {
    serde_json::to_string_pretty(record).unwrap_or_else(|error| format!("# {error}"))
}
