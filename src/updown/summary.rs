//! What a call changed.

use std::fmt;

use crate::apply::TunnelOutcome;
use crate::routing::RoutingOutcome;
use crate::words::counted_noun;

/// What a call came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Summary {
    /// What changed in the firewall; none if the verb asks nothing of it.
    pub firewall: Option<TunnelOutcome>,
    /// How many routes, addresses and interfaces were installed.
    pub added: usize,
    /// How many of them were removed.
    pub removed: usize,
    /// Whether it was only shown.
    pub shown: bool,
}

impl Summary {
    /// Adds the routes, addresses and interfaces that an operation installed and removed.
    pub(super) fn count_routing(&mut self, outcome: &RoutingOutcome) {
        self.added += outcome.installed;
        self.removed += outcome.removed_count;
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.shown {
            return f.write_str("shown");
        }
        let mut words: Vec<_> = self.firewall.iter().map(firewall).collect();
        for (number, what) in [(self.added, "installed"), (self.removed, "removed")] {
            if number > 0 {
                words.push(format!("{number} {what}"));
            }
        }
        if words.is_empty() {
            return f.write_str("nothing to do");
        }
        f.write_str(&words.join(", "))
    }
}

fn firewall(outcome: &TunnelOutcome) -> String {
    match outcome {
        TunnelOutcome::Opened => "opened".to_owned(),
        TunnelOutcome::AlreadyOpen(1) => "already open".to_owned(),
        TunnelOutcome::AlreadyOpen(count) => format!("already open, {count} ups without a down"),
        TunnelOutcome::Closed => "closed".to_owned(),
        TunnelOutcome::StillNeeded(count) => {
            format!("still open, {} without a down", counted_noun(*count as usize, "up"))
        }
        TunnelOutcome::NothingThere => "nothing to close".to_owned(),
    }
}
