//! Parses the text of a settings file into [`Settings`]. The TOML parser returns a tree with
//! offsets; it is walked in the order of the file, so that the first error in the file is the one
//! reported.

mod checks;
mod found;
mod gateway;
mod lines;
mod network;
mod policy;
mod report;
#[cfg(test)]
mod tests;

use toml::de::{DeTable, DeValue};

use super::connection::{ConnectionFilter, ConnectionSettings, PolicyOverrides};
use super::policy::Policy;
use super::{Malformed, Settings};
use checks::SettingsTables;
use found::{TomlTable, TomlValue, entries};
pub(super) use lines::{SettingsLines, TableLines};
use report::{SettingsFault, alternatives};

/// The tables of the file.
const TABLES: [&str; 3] = ["gateway", "tunnel", "connection"];

/// The keys of `[gateway]`.
const GATEWAY: [&str; 9] = [
    "ike",
    "esp",
    "peers",
    "through",
    "only-ipsec",
    "icmp",
    "inner-only",
    "place",
    "mark",
];

/// The keys of `[tunnel]`, and of `[[connection]]` besides [`CONNECTION`].
const TUNNEL: [&str; 9] = [
    "allow",
    "host-access",
    "nat",
    "bypass",
    "mss",
    "log",
    "when-down",
    "chain",
    "on-error",
];

/// The keys of `[[connection]]` alone.
const CONNECTION: [&str; 5] = ["name", "peer-id", "user", "peer-network", "between"];

/// Reads a settings file. Takes time in its length, but for the one error.
pub(super) fn read_settings(text: &str) -> Result<Settings, Malformed> {
    let root = DeTable::parse(text).map_err(|error| SettingsFault::syntax(text, &error).in_text(text))?;
    let read = settings(text, root.get_ref()).map_err(|fault| fault.in_text(text))?;
    Ok(read.0)
}

/// The same, with the lines of the keys.
pub(super) fn read_with_lines(text: &str) -> Result<(Settings, SettingsLines), Malformed> {
    let root = DeTable::parse(text).map_err(|error| SettingsFault::syntax(text, &error).in_text(text))?;
    let (settings, tables) = settings(text, root.get_ref()).map_err(|fault| fault.in_text(text))?;
    Ok((settings, lines::find_lines(text, &tables)))
}

fn settings<'a>(text: &str, root: &'a DeTable<'a>) -> Result<(Settings, SettingsTables<'a>), SettingsFault> {
    let mut settings = Settings::default();
    let mut tables = SettingsTables::default();
    for entry in entries(TomlTable::Root, root) {
        match (entry.key.name, entry.value) {
            ("gateway", DeValue::Table(content)) => {
                tables.gateway = Some(content);
                settings.gateway = gateway::read_gateway(content)?;
            }
            ("tunnel", DeValue::Table(content)) => {
                tables.tunnel = Some(content);
                settings.tunnel = tunnel(content)?;
            }
            ("connection", DeValue::Array(_)) => {
                for (number, item) in (1..).zip(entry.list("")?) {
                    let content = table(item)?;
                    settings.connections.push(connection(number, item, content)?);
                    tables.connections.push((item.at, content));
                }
            }
            _ => return Err(misplaced(entry)),
        }
    }
    checks::check(text, &tables, &settings)?;
    Ok((settings, tables))
}

/// What is wrong with something at the outermost level.
fn misplaced(entry: TomlValue<'_>) -> SettingsFault {
    let form = match entry.key.name {
        "gateway" => "one table [gateway]",
        "tunnel" => "one table [tunnel]",
        "connection" => "tables [[connection]], in double brackets",
        _ => return unknown(entry, &TABLES),
    };
    entry.refused(form)
}

fn table(item: TomlValue<'_>) -> Result<&DeTable<'_>, SettingsFault> {
    match item.value {
        DeValue::Table(content) => Ok(content),
        DeValue::String(_)
        | DeValue::Integer(_)
        | DeValue::Float(_)
        | DeValue::Boolean(_)
        | DeValue::Datetime(_)
        | DeValue::Array(_) => Err(item.refused("tables [[connection]]")),
    }
}

fn tunnel(content: &DeTable<'_>) -> Result<Policy, SettingsFault> {
    let mut keys = PolicyOverrides::default();
    for entry in entries(TomlTable::Tunnel, content) {
        if !policy::read_policy_key(entry, &mut keys)? {
            return Err(unknown(entry, &TUNNEL));
        }
    }
    Ok(keys.apply_to(&Policy::default()))
}

fn connection<'a>(
    number: usize,
    item: TomlValue<'a>,
    content: &'a DeTable<'a>,
) -> Result<ConnectionSettings, SettingsFault> {
    let mut connection = ConnectionSettings::default();
    let table = checks::connection_table(number, content);
    for entry in entries(table, content) {
        let ConnectionFilter {
            name,
            remote_id: peer_id,
            user,
            remote_network: peer_network,
        } = &mut connection.filter;
        match entry.key.name {
            "name" => *name = Some(entry.parsed()?),
            "peer-id" => *peer_id = Some(entry.parsed()?),
            "user" => *user = Some(entry.parsed()?),
            "peer-network" => *peer_network = Some(network::network(entry, network::FORM)?),
            "between" => connection.between = entry.each_once(policy::PAIRS, policy::pair)?,
            _ if policy::read_policy_key(entry, &mut connection.overrides)? => {}
            _ => return Err(unknown(entry, &[&CONNECTION[..], &TUNNEL[..]].concat())),
        }
    }
    if connection.filter == ConnectionFilter::default() {
        let fault = "needs at least one of name, peer-id, user, peer-network";
        return Err(SettingsFault::new_at(item.at, table, fault));
    }
    Ok(connection)
}

/// The error for an unknown key. It names the table that the key belongs to, or a similar key.
fn unknown(entry: TomlValue<'_>, known: &[&str]) -> SettingsFault {
    let name = entry.key.name;
    let expected = match entry.key.table {
        TomlTable::Root => "[gateway], [tunnel] or [[connection]]".to_owned(),
        TomlTable::Gateway | TomlTable::Tunnel | TomlTable::Connection(..) => {
            alternatives(&known.iter().map(|key| (*key).to_owned()).collect::<Vec<_>>())
        }
    };
    let fault = SettingsFault::new(entry.key_at, entry.key, "an unknown key", expected);
    let homes = [
        ("[gateway]", &GATEWAY[..]),
        ("[tunnel]", &TUNNEL),
        ("[[connection]]", &CONNECTION),
    ];
    match homes.into_iter().find(|(_, keys)| keys.contains(&name)) {
        Some((home, _)) => fault.hint(Some(format!("{name} belongs in {home}"))),
        None => fault.hint_nearest(name, known),
    }
}
