//! The reqid that a tunnel's rules match.

use super::tunnel::TunnelRecord;
use crate::netfilter::Match;

impl TunnelRecord {
    /// The reqid that its rules match, if they match one; with IPComp, the reqid of the
    /// transformation that is not IPComp.
    #[must_use]
    pub fn reqid(&self) -> Option<u32> {
        let tables = self.tunnel_rules.tables().into_iter();
        let rules = tables
            .filter_map(|table| self.tunnel_rules.fragment(table))
            .flat_map(|fragment| &fragment.rules);
        rules.flat_map(|placed| &placed.rule.matches).find_map(Match::reqid)
    }
}
