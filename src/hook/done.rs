//! What a call came to.

use std::fmt;

use crate::apply::{Outcome, RoutingOutcome};

/// What a call came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Done {
    /// What changed in the firewall; none if the verb asks nothing of it.
    pub firewall: Option<Outcome>,
    /// How many routes, addresses and interfaces were installed.
    pub put: usize,
    /// How many of them were removed.
    pub taken_out: usize,
    /// Whether it was only shown.
    pub shown: bool,
}

impl Done {
    /// Adds the routes, addresses and interfaces that an operation installed and removed.
    pub(super) fn count(&mut self, outcome: &RoutingOutcome) {
        self.put += outcome.put;
        self.taken_out += outcome.taken_out;
    }
}

impl fmt::Display for Done {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.shown {
            return f.write_str("shown");
        }
        let mut words: Vec<_> = self.firewall.iter().map(firewall).collect();
        for (number, what) in [(self.put, "put in"), (self.taken_out, "taken out")] {
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

fn firewall(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Opened => "opened".to_owned(),
        Outcome::StoodAlready(1) => "stood already".to_owned(),
        Outcome::StoodAlready(count) => format!("stood already, {count} ups open"),
        Outcome::Closed => "closed".to_owned(),
        Outcome::StillNeeded(count) => format!("stays, {count} ups open"),
        Outcome::NothingThere => "nothing there".to_owned(),
    }
}
