//! From a snapshot to an event.

use super::dialect::{self, Dialect};
use super::error::ContractError;
use super::event::{Duty, Event};
use super::resolver;
use super::routing;
use super::snapshot::Snapshot;
use super::tunnel::{self, Moment};
use super::values::{self, Values};
use super::verb::{Operation, Verb};

/// Reads one call.
///
/// # Errors
///
/// If `PLUTO_VERB` is missing or unknown, or a variable that the verb's duties need is missing, malformed or contradicts another. The
/// error names it. Verbs without a duty here are not looked into.
pub fn read(snapshot: &Snapshot) -> Result<Event, ContractError> {
    let values = Values::of(snapshot);
    let verb: Verb = values::parse("PLUTO_VERB", values.required("PLUTO_VERB")?)?;
    let dialect = match dialect::detect(values) {
        // Then it asks for nothing.
        Err(_) if verb.operations().iter().all(|operation| operation.is_never_refused()) => Dialect::FreesWan,
        other => other?,
    };
    let duty = duty(values, dialect, &verb)?;
    Ok(Event {
        routing: routing::read(values, dialect, &verb)?,
        resolver: resolver::read(values, dialect, &verb, duty.tunnel()),
        dialect,
        verb,
        duty,
    })
}

/// A verb asks for one of the two at most: nothing is joined with `down`.
fn duty(values: Values<'_>, dialect: Dialect, verb: &Verb) -> Result<Duty, ContractError> {
    let tunnel = |moment| tunnel::read(values, dialect, verb.scope(), moment).map(Box::new);
    if verb.asks(Operation::Up) {
        return tunnel(Moment::Opening).map(Duty::Open);
    }
    if verb.asks(Operation::Down) {
        return tunnel(Moment::Closing).map(Duty::Close);
    }
    Ok(Duty::Nothing)
}
