//! When a tunnel was last called about.

use std::fs;
use std::time::UNIX_EPOCH;

use super::store::Store;
use crate::netfilter::Ruleset;
use crate::plan::TunnelId;

impl Store {
    /// When a daemon last called about a tunnel, in seconds since 1970 (UTC): each `up` writes its
    /// record anew, and so does each `down` that leaves it standing.
    #[must_use]
    pub fn last_call(&self, ruleset: Ruleset, id: &TunnelId) -> Option<u64> {
        let metadata = fs::symlink_metadata(self.tunnel_file(ruleset, id)).ok()?;
        let since = metadata.modified().ok()?.duration_since(UNIX_EPOCH).ok()?;
        Some(since.as_secs())
    }
}
