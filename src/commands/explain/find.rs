//! Which tunnels a name means.

use std::collections::BTreeSet;
use std::fmt;

use super::record_view::{RecordView, RulesetView};
use crate::commands::status::in_order;
use crate::daemon::ConnectionName;
use crate::settings::SettingTable;
use crate::state::TunnelRecord;
use crate::words::{escaped, nearest_name};

/// A recorded tunnel.
#[derive(Debug, Clone, Copy)]
pub(super) struct FoundTunnel<'a> {
    pub(super) ruleset: &'a RulesetView,
    pub(super) record: &'a TunnelRecord,
}

/// No tunnel bears a name.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct NoTunnel {
    /// As it was asked for, escaped.
    name: String,
    meant: Option<String>,
    names: BTreeSet<String>,
}

/// How many names are shown.
const NAMES_SHOWN: usize = 20;

/// The tunnels of a connection, in the order of `status`, or the one with a short name.
pub(super) fn find_tunnels<'a>(record_view: &'a RecordView, name: &str) -> Result<Vec<FoundTunnel<'a>>, NoTunnel> {
    let connection = ConnectionName::new(name.as_bytes()).ok();
    let mut found: Vec<_> = all_tunnels(record_view)
        .filter(|found| {
            let record = found.record;
            let own = &record.key.connection;
            let is_named = |name: &ConnectionName| name == own || own.configured().as_ref() == Some(name);
            connection.as_ref().is_some_and(is_named)
                || record.key.connection.as_str() == name
                || record.id.as_str() == name
        })
        .collect();
    found.sort_by(|a, b| in_order(a.record, b.record));
    match found.is_empty() {
        true => Err(NoTunnel::for_name(record_view, name)),
        false => Ok(found),
    }
}

/// What is set for a connection of which no tunnel is up, and whether unencrypted packets are
/// blocked for it meanwhile.
pub(super) fn settings_of(record_view: &RecordView, name: &str) -> String {
    let Ok(connection) = ConnectionName::new(name.as_bytes()) else {
        return String::new();
    };
    let place = record_view
        .settings
        .as_ref()
        .ok()
        .map(|source| source.of_connection(&connection, "allow"));
    let own = place.filter(|place| {
        let table = place.origin.as_ref().map(|origin| &origin.table);
        matches!(table, Some(SettingTable::Connection(_)))
    });
    let mut blocks = record_view.rulesets.iter().flat_map(RulesetView::clear_text_blocks);
    let set = own.map_or_else(String::new, |place| format!(". Set for it: {place}"));
    match blocks.any(|block| block.is_for(&connection)) {
        true => format!("{set}. when-down = \"block\" drops its unencrypted packets"),
        false => set,
    }
}

/// Every recorded tunnel.
pub(super) fn all_tunnels(record_view: &RecordView) -> impl Iterator<Item = FoundTunnel<'_>> {
    record_view.rulesets.iter().flat_map(|ruleset_view| {
        ruleset_view.tunnels().map(move |record| FoundTunnel {
            ruleset: ruleset_view,
            record,
        })
    })
}

impl NoTunnel {
    fn for_name(record_view: &RecordView, name: &str) -> Self {
        let names: BTreeSet<_> = all_tunnels(record_view)
            .map(|found| found.record.key.connection.to_string())
            .collect();
        let ids = all_tunnels(record_view).map(|found| found.record.id.to_string());
        let known: Vec<_> = names.iter().cloned().chain(ids).collect();
        let meant = nearest_name(name, &known).map(str::to_owned);
        Self {
            name: escaped(name.as_bytes(), 60),
            meant,
            names,
        }
    }
}

impl fmt::Display for NoTunnel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no tunnel \"{}\" is up", self.name)?;
        if self.names.is_empty() {
            return f.write_str(", nor any other");
        }
        if let Some(meant) = &self.meant {
            write!(f, "; did you mean \"{meant}\"?")?;
        } else {
            f.write_str(".")?;
        }
        let shown: Vec<_> = self.names.iter().take(NAMES_SHOWN).map(String::as_str).collect();
        write!(f, " There are: {}", shown.join(", "))?;
        match self.names.len().saturating_sub(NAMES_SHOWN) {
            0 => Ok(()),
            more => write!(f, " and {more} more"),
        }
    }
}
