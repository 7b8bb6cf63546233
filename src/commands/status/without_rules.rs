//! Tunnels that are up without rules.

use super::gather::{POLICY_GRACE, StatusReport, title};
use super::problem::{Problem, ProblemKind, Severity};
use crate::commands::fix::Fix;
use crate::commands::prune::{PolicyState, SoughtTunnel, policy_states};
use crate::state::{FailedUp, Store};
use crate::updown::HookError;
use crate::words::duration_text;

/// Adds the tunnels that are up without rules, each with its reason. One that the kernel has no
/// policy of any more is not up.
pub(super) fn add_without_rules(report: &mut StatusReport, store: &Store) -> Result<(), HookError> {
    let mut failed = store.failed_ups()?;
    let sought: Vec<_> = failed.iter().map(SoughtTunnel::from).collect();
    // Without root, or without XFRM, nothing is known of any.
    if let Ok(states) = policy_states(&sought) {
        let mut states = states.into_iter();
        let is_new = |failed: &FailedUp| report.now.saturating_sub(failed.since) <= POLICY_GRACE;
        failed.retain(|failed| states.next() != Some(PolicyState::Gone) || is_new(failed));
    }
    let problems = failed.iter().map(|failed| problem(failed, report.now));
    report.problems.extend(problems.collect::<Vec<_>>());
    report.without_rules = failed;
    Ok(())
}

fn problem(failed: &FailedUp, now: u64) -> Problem {
    let text = format!(
        "{}: up without rules for {}: {}",
        title(&failed.tunnel),
        duration_text(now.saturating_sub(failed.since)),
        failed.reason
    );
    let problem = Problem::new(Severity::Error, ProblemKind::NoRules, text, Fix::START);
    match failed.id() {
        Some(id) => problem.about_tunnel(id.as_str()),
        None => problem,
    }
}
