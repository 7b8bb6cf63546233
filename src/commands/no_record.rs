//! What is to be said where nothing is recorded, and the kernel has chains of ours or IPsec SAs.

use std::collections::BTreeSet;
use std::path::Path;

use super::fix::Fix;
use crate::netfilter::Ruleset;
use crate::netlink::xfrm::sas;
use crate::words::counted_noun;

/// The kernel has SAs, and no tunnel is recorded: somebody has flushed the rules, the record is
/// lost, or the connections do not call this program.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct UnrecordedSas {
    pub(super) number: usize,
    pub(super) text: String,
    pub(super) fix: Fix,
}

impl UnrecordedSas {
    /// Asks the kernel, for a command that has found no recorded tunnel. Policies are not counted:
    /// those of on-demand tunnels are there before any `up`.
    pub(super) fn in_kernel() -> Option<Self> {
        // Without root, or without XFRM, nothing is known.
        let number = sas().ok()?.len();
        (number > 0).then(|| Self {
            number,
            text: format!(
                "the kernel has {}, but no tunnel is recorded: no tunnel rules are loaded",
                counted_noun(number, "IPsec SA")
            ),
            fix: Fix::Advice(
                "if the rules were flushed, re-initiate the connections; if they never call pluto-updown: pluto-updown check"
                    .to_owned(),
            ),
        })
    }
}

/// Chains of this program are loaded, and nothing is recorded. With another record than the one
/// that they were installed with, everything would seem to be left over.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct LostRecord {
    pub(super) text: String,
    pub(super) fix: Fix,
}

impl LostRecord {
    pub(super) fn with_rulesets(rulesets: impl Iterator<Item = Ruleset>, state_dir: &Path) -> Self {
        let rulesets: BTreeSet<_> = rulesets.collect();
        let rulesets: Vec<_> = rulesets.iter().map(ToString::to_string).collect();
        Self {
            text: format!(
                "chains of pluto-updown are loaded ({}), but there is no record in {}: wrong --state-dir, or a saved rule set was loaded",
                rulesets.join(", "),
                state_dir.display()
            ),
            fix: Fix::Advice(
                "name the right --state-dir; if there is none, pluto-updown restore removes these chains".to_owned(),
            ),
        }
    }
}
