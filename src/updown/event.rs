//! From the variables of a call to a typed event.

#[cfg(test)]
mod tests;

use crate::daemon::env_reader::EnvReader;
use crate::daemon::{Call, Daemon, EnvError, FirewallAction, RawEnv, Verb, read_call};
use crate::dns::{ResolverAction, read_resolver};
use crate::routing::{Routing, read_routing};

/// One call, understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// The daemon that called.
    pub daemon: Daemon,
    /// The verb.
    pub verb: Verb,
    /// What the verb asks of the firewall.
    pub firewall: FirewallAction,
    /// The routes, addresses and interfaces that it needs (Pluto).
    pub routing: Option<Box<Routing>>,
    /// What it asks of the resolver, under Pluto.
    pub resolver: Option<Box<ResolverAction>>,
}

/// Reads one call.
///
/// # Errors
///
/// If `PLUTO_VERB` is missing or unknown, or a variable that the verb needs is missing, malformed
/// or contradicts another. The error names it. Verbs that need no action are not parsed further.
pub fn read_event(raw_env: &RawEnv) -> Result<Event, EnvError> {
    let Call { daemon, verb, firewall } = read_call(raw_env)?;
    let env = EnvReader::new(raw_env);
    Ok(Event {
        routing: read_routing(env, daemon, &verb)?,
        resolver: read_resolver(env, daemon, &verb, firewall.tunnel()),
        daemon,
        verb,
        firewall,
    })
}
