//! From a snapshot to an event.

use super::dialect::{self, Dialect};
use super::error::ContractError;
use super::event::{Duty, Event};
use super::resolver;
use super::snapshot::Snapshot;
use super::tunnel::{self, Moment};
use super::values::{self, Values};
use super::verb::{Operation, Verb};

/// Reads one call.
///
/// A verb that neither opens nor closes is never refused for what its variables say: only whether those are set that tell the daemons
/// apart is looked at, and a call without any of them passes for [`Dialect::FreesWan`], whose calls have none.
///
/// # Errors
///
/// If `PLUTO_VERB` is missing or unknown, or, at `up` and `down`, a variable is missing, malformed or contradicts another. The error
/// names it.
pub fn read(snapshot: &Snapshot) -> Result<Event, ContractError> {
    let values = Values::of(snapshot);
    let verb: Verb = values::parse("PLUTO_VERB", values.required("PLUTO_VERB")?)?;
    let dialect = dialect::detect(values);
    // A verb asks for one of the two at most: nothing is joined with `down`.
    if verb.asks(Operation::Up) {
        let dialect = dialect?;
        let tunnel = tunnel::read(values, dialect, verb.scope(), Moment::Opening)?;
        return Ok(Event {
            dialect,
            resolver: resolver::read(values, dialect, &verb, Some(&tunnel)),
            verb,
            duty: Duty::Open(Box::new(tunnel)),
        });
    }
    if verb.asks(Operation::Down) {
        let dialect = dialect?;
        let tunnel = tunnel::read(values, dialect, verb.scope(), Moment::Closing)?;
        return Ok(Event {
            dialect,
            resolver: resolver::read(values, dialect, &verb, Some(&tunnel)),
            verb,
            duty: Duty::Close(Box::new(tunnel)),
        });
    }
    let dialect = dialect.unwrap_or(Dialect::FreesWan);
    Ok(Event {
        dialect,
        resolver: resolver::read(values, dialect, &verb, None),
        verb,
        duty: Duty::Nothing,
    })
}
