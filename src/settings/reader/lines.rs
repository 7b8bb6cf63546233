//! The lines of the tables and keys of a file, counted from 1.

use std::collections::BTreeMap;

use toml::de::DeTable;

use super::checks::SettingsTables;

/// The lines of a settings file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in super::super) struct SettingsLines {
    pub(in super::super) gateway: TableLines,
    pub(in super::super) tunnel: TableLines,
    /// Each `[[connection]]`, in the order of the file.
    pub(in super::super) connections: Vec<TableLines>,
}

/// The lines of a table and its keys.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in super::super) struct TableLines {
    /// The header of a `[[connection]]`.
    pub(in super::super) header: Option<usize>,
    pub(in super::super) keys: BTreeMap<String, usize>,
}

pub(super) fn find_lines(text: &str, tables: &SettingsTables<'_>) -> SettingsLines {
    let ends: Vec<_> = text.match_indices('\n').map(|(at, _)| at).collect();
    let line = |at: usize| ends.partition_point(|end| *end < at) + 1;
    let keys = |content: &DeTable<'_>| {
        let keys = content.iter();
        keys.map(|(key, _)| (key.get_ref().to_string(), line(key.span().start)))
            .collect()
    };
    let table = |content: Option<&DeTable<'_>>| TableLines {
        header: None,
        keys: content.map(keys).unwrap_or_default(),
    };
    let connections = tables.connections.iter().map(|(at, content)| TableLines {
        header: Some(line(*at)),
        keys: keys(content),
    });
    SettingsLines {
        gateway: table(tables.gateway),
        tunnel: table(tables.tunnel),
        connections: connections.collect(),
    }
}
