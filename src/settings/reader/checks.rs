//! What the keys of a file say together.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use toml::de::DeTable;

use super::found::{TomlTable, TomlValue, find_key};
use super::report::{SettingsFault, line_number};
use crate::settings::Settings;
use crate::settings::connection::ConnectionSettings;
use crate::settings::gateway::{Esp, Ike, JumpPlace};
use crate::settings::policy::WhenDown;

/// Where the tables of a file are.
#[derive(Debug, Default)]
pub(super) struct SettingsTables<'a> {
    pub(super) gateway: Option<&'a DeTable<'a>>,
    pub(super) tunnel: Option<&'a DeTable<'a>>,
    /// Each with the place of its header, in bytes.
    pub(super) connections: Vec<(usize, &'a DeTable<'a>)>,
}

impl<'a> SettingsTables<'a> {
    fn gateway_key(&self, name: &str) -> Option<TomlValue<'a>> {
        find_key(TomlTable::Gateway, self.gateway?, name)
    }
}

/// How a `[[connection]]` is called in messages.
pub(super) fn connection_table<'a>(number: usize, content: &'a DeTable<'a>) -> TomlTable<'a> {
    let name = content.get("name").and_then(|name| name.get_ref().as_str());
    TomlTable::Connection(number, name.filter(|name| !name.is_empty()))
}

/// Whether the keys go together.
pub(super) fn check(text: &str, tables: &SettingsTables<'_>, settings: &Settings) -> Result<(), SettingsFault> {
    known_peers_are_listed(tables, settings)?;
    each_connection_can_count(text, tables, settings)?;
    only_what_is_blocked_has_pairs(tables, settings)?;
    nothing_goes_before_what_must_drop(tables, settings)
}

fn known_peers_are_listed(tables: &SettingsTables<'_>, settings: &Settings) -> Result<(), SettingsFault> {
    let gateway = &settings.gateway;
    let ike = (gateway.ike == Ike::Known).then_some("ike");
    let esp = (gateway.esp == Esp::Known).then_some("esp");
    let key = ike.or(esp).and_then(|name| tables.gateway_key(name));
    match key {
        Some(key) if gateway.peers.is_empty() => Err(SettingsFault::new(
            key.at,
            key.key,
            "\"known\" without peers",
            "peers = [\"192.0.2.1\", ...] beside it",
        )),
        Some(_) | None => Ok(()),
    }
}

/// The first entry that matches a tunnel applies. One after an entry for the same tunnels, or for
/// every tunnel, never does.
fn each_connection_can_count(
    text: &str,
    tables: &SettingsTables<'_>,
    settings: &Settings,
) -> Result<(), SettingsFault> {
    let mut seen = HashMap::new();
    let mut everyone = None;
    for (number, (connection, (at, content))) in (1..).zip(settings.connections.iter().zip(&tables.connections)) {
        let never = |first: usize, tunnels: &str| {
            let fault = format!(
                "never used: line {} already matches {tunnels}",
                line_number(text, first)
            );
            Err(SettingsFault::new_at(*at, connection_table(number, content), fault))
        };
        if let Some(first) = everyone {
            return never(first, "every tunnel; move this above it");
        }
        match seen.entry(&connection.filter) {
            Entry::Occupied(first) => return never(*first.get(), "the same tunnels"),
            Entry::Vacant(place) => place.insert(*at),
        };
        everyone = connection.filter.is_everyone().then_some(*at);
    }
    Ok(())
}

fn only_what_is_blocked_has_pairs(tables: &SettingsTables<'_>, settings: &Settings) -> Result<(), SettingsFault> {
    for (number, (connection, (_, content))) in (1..).zip(settings.connections.iter().zip(&tables.connections)) {
        let key = find_key(connection_table(number, content), content, "between");
        match key {
            Some(key) if !connection.between.is_empty() && when_down(connection, settings) != WhenDown::Block => {
                return Err(SettingsFault::new(
                    key.at,
                    key.key,
                    "networks without when-down = \"block\"",
                    "when-down = \"block\" beside it",
                ));
            }
            Some(_) | None => {}
        }
    }
    Ok(())
}

fn when_down(connection: &ConnectionSettings, settings: &Settings) -> WhenDown {
    connection.overrides.when_down.unwrap_or(settings.tunnel.when_down)
}

/// After all other rules, no rule of this program can drop packets that one of them has accepted.
fn nothing_goes_before_what_must_drop(tables: &SettingsTables<'_>, settings: &Settings) -> Result<(), SettingsFault> {
    let Settings {
        gateway,
        tunnel,
        connections,
    } = settings;
    let Some(place) = tables.gateway_key("place").filter(|_| gateway.place == JumpPlace::Last) else {
        return Ok(());
    };
    let blocks = tunnel.when_down == WhenDown::Block
        || connections
            .iter()
            .any(|connection| when_down(connection, settings) == WhenDown::Block);
    let beside = match (gateway.only_ipsec.is_empty(), gateway.inner_only.is_empty()) {
        (false, _) => "only-ipsec",
        (true, false) => "inner-only",
        (true, true) if blocks => "when-down = \"block\"",
        (true, true) => return Ok(()),
    };
    Err(SettingsFault::new(
        place.at,
        place.key,
        format_args!("\"last\" beside {beside}"),
        "\"first\" or \"own\": an ACCEPT before it would win",
    ))
}
