//! What a call would do, for `--dry-run`.

use std::fmt::Write as _;

use crate::apply::{ApplyError, Course, RoutingWork, Session, Work};
use crate::contract::{Duty, Event};
use crate::iptables::Tables;
use crate::netfilter::restore_text;
use crate::record::Entry;
use crate::rtnetlink::Item;

/// The exact text that `iptables-restore --noflush` would get, the routes, addresses and devices as lines of `ip`, and the records that
/// would be written or erased.
///
/// # Errors
/// If the record cannot be read, or there is no iptables.
pub fn preview<T: Tables>(
    event: &Event,
    session: &Session<'_, T>,
    works: &[RoutingWork],
) -> Result<String, ApplyError> {
    let mut text = match &event.duty {
        Duty::Nothing => String::new(),
        Duty::Open(tunnel) => show_all(event, session, &session.opening(tunnel)?)?,
        Duty::Close(tunnel) => match session.closing(tunnel)? {
            Course { works, .. } if works.is_empty() => {
                format!("# {}: no such tunnel on record, nothing to do\n", event.verb)
            }
            course => show_all(event, session, &course)?,
        },
    };
    for work in works.iter().filter(|work| !work.is_empty()) {
        text.push_str(&ways(event, work));
    }
    Ok(text)
}

/// What would become of routes, addresses and devices.
fn ways(event: &Event, work: &RoutingWork) -> String {
    let mut text = format!("# {}: would see to the way to {}:\n", event.verb, work.key);
    let lines = work
        .after
        .iter()
        .flat_map(Item::put_in_commands)
        .chain(work.outgoing().map(Item::take_out_command));
    for line in lines {
        text.push_str(&line);
        text.push('\n');
    }
    text
}

fn show_all<T: Tables>(event: &Event, session: &Session<'_, T>, course: &Course) -> Result<String, ApplyError> {
    course.works.iter().map(|work| show(event, session, work)).collect()
}

fn show<T: Tables>(event: &Event, session: &Session<'_, T>, work: &Work) -> Result<String, ApplyError> {
    let sections = session.sections(work)?;
    let tables: Vec<_> = sections.iter().map(|section| section.table.name()).collect();
    let (verb, ruleset) = (&event.verb, work.ruleset);
    let mut text = match &tables[..] {
        [] => format!("# {verb}: would change no table: the rules of {ruleset} stand already, or stay\n"),
        [table] => format!("# {verb}: would change the {ruleset} {table} table:\n"),
        several => format!(
            "# {verb}: would change the {ruleset} tables {}:\n",
            several.join(" and ")
        ),
    };
    text.push_str(&restore_text(&sections));
    // Writing into a String cannot fail.
    for record in work
        .gone
        .iter()
        .filter(|record| !work.come.iter().any(|other| other.id() == record.id()))
    {
        let _ = writeln!(text, "# would erase the record {}", record.id());
    }
    for record in &work.come {
        let _ = writeln!(text, "# would write the record {}:\n{}", record.id(), json(record));
    }
    Ok(text)
}

fn json(record: &Entry) -> String {
    serde_json::to_string_pretty(record).unwrap_or_else(|error| format!("# {error}"))
}
