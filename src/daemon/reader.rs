//! Turns a raw environment into a [`Call`].

use super::call::{Call, FirewallAction};
use super::env_reader::{self, EnvReader};
use super::error::EnvError;
use super::kind::{Daemon, detect};
use super::raw_env::RawEnv;
use super::tunnel::{self, Phase};
use super::verb::{Operation, Verb};

/// Reads what a call asks of the firewall.
///
/// # Errors
///
/// If `PLUTO_VERB` is missing or unknown, or a variable that the verb needs is missing, malformed
/// or contradicts another. The error names it. Verbs that need no action are not parsed further.
pub(crate) fn read_call(raw_env: &RawEnv) -> Result<Call, EnvError> {
    let env = EnvReader::new(raw_env);
    let verb: Verb = env_reader::parse("PLUTO_VERB", env.required_text("PLUTO_VERB")?)?;
    let daemon = match detect(env) {
        // No daemon is recognised, and this verb is never refused: taken as FreeS/WAN's, for which
        // nothing is done.
        Err(_) if verb.operations().iter().all(|operation| operation.is_never_refused()) => Daemon::FreesWan,
        other => other?,
    };
    let firewall = firewall_action(env, daemon, &verb)?;
    Ok(Call { daemon, verb, firewall })
}

/// A verb asks for one of the two at most: nothing is joined with `down`.
fn firewall_action(env: EnvReader<'_>, daemon: Daemon, verb: &Verb) -> Result<FirewallAction, EnvError> {
    let tunnel = |phase| tunnel::read_tunnel(env, daemon, verb.scope(), phase).map(Box::new);
    if verb.asks(Operation::Up) {
        return tunnel(Phase::Opening).map(FirewallAction::Open);
    }
    if verb.asks(Operation::Down) {
        return tunnel(Phase::Closing).map(FirewallAction::Close);
    }
    Ok(FirewallAction::Nothing)
}
