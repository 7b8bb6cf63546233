//! Rules for tunnels whose `up` failed, and that are up all the same.

use log::{error, warn};

use super::ProgramsEngine;
use crate::commands::command_context::CommandContext;
use crate::commands::prune::{PolicyState, SoughtTunnel, policy_states};
use crate::settings::Settings;
use crate::state::FailedUp;
use crate::updown::opening_context;

/// The tunnels without rules that are certainly up: their daemon runs, and the kernel has their
/// policy. Rules of a tunnel that has ended would accept the packets of the next one with its
/// reqid.
pub(in crate::commands) fn tunnels_without_rules(command: &CommandContext<'_>) -> Vec<FailedUp> {
    let failed = command.peek().failed_ups().unwrap_or_else(|error| {
        warn!("{error}");
        Vec::new()
    });
    let sought: Vec<_> = failed.iter().map(SoughtTunnel::from).collect();
    let states = policy_states(&sought).unwrap_or_else(|error| {
        warn!("{error}");
        Vec::new()
    });
    let is_up = |(failed, state): &(FailedUp, PolicyState)| {
        *state == PolicyState::Up && failed.daemon.is_none_or(|daemon| !daemon.is_dead())
    };
    let up = failed.into_iter().zip(states).filter(is_up);
    up.map(|(failed, _)| failed).collect()
}

/// How many tunnels got rules, and how many are still without.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct LateRules {
    pub(super) installed: usize,
    pub(super) failed: usize,
}

/// Opens the firewall for them, as their `up` would have. A failure for one does not stop the
/// others.
pub(super) fn install_late(
    command: &CommandContext<'_>,
    engine: &mut ProgramsEngine<'_>,
    settings: &Settings,
) -> LateRules {
    let mut late = LateRules::default();
    for failed in tunnels_without_rules(command) {
        let context = opening_context(&failed, settings, command.now);
        match engine.open_late(&failed.tunnel, context) {
            Ok(_) => late.installed += 1,
            Err(error) => {
                late.failed += 1;
                error!("start: {}: still up without rules: {error}", failed.tunnel.connection);
            }
        }
    }
    late
}
