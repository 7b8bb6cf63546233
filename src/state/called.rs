//! The time of a tunnel's last call.

use std::fs;
use std::time::UNIX_EPOCH;

use super::store::Store;
use crate::firewall::TunnelId;
use crate::netfilter::Ruleset;

impl Store {
    /// When a daemon last called for a tunnel, in seconds since 1970 (UTC). It is the time of the
    /// record's file: each `up` writes the file again, and so does each `down` that leaves the
    /// tunnel up.
    #[must_use]
    pub(crate) fn last_call(&self, ruleset: Ruleset, id: &TunnelId) -> Option<u64> {
        let metadata = fs::symlink_metadata(self.tunnel_file(ruleset, id)).ok()?;
        let since = metadata.modified().ok()?.duration_since(UNIX_EPOCH).ok()?;
        Some(since.as_secs())
    }
}
