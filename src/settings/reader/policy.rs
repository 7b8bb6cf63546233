//! The keys of `[tunnel]` and `[[connection]]`.

use std::num::NonZeroU16;
use std::ops::RangeInclusive;

use ipnet::IpNet;
use toml::de::{DeInteger, DeValue};

use super::found::TomlValue;
use super::network::{self, network};
use super::report::{SettingsFault, choice, meant_hint};
use crate::net::{Expected, Family};
use crate::settings::connection::PolicyOverrides;
use crate::settings::policy::{Allow, GatewayAccess, Mss, Nat, OnError, PacketLog, WhenDown};
use crate::settings::service::Service;

pub(super) const ALLOW: [(&str, Allow); 3] = [("all", Allow::All), ("replies", Allow::Replies), ("none", Allow::None)];

pub(super) const HOST_ACCESS: [(&str, GatewayAccess); 3] = [
    ("auto", GatewayAccess::Auto),
    ("yes", GatewayAccess::Yes),
    ("no", GatewayAccess::No),
];

pub(super) const NAT: [(&str, Nat); 3] = [
    ("exempt", Nat::Exempt),
    ("masquerade", Nat::Masquerade),
    ("leave", Nat::Leave),
];

pub(super) const MSS: [(&str, Mss); 2] = [("leave", Mss::Leave), ("pmtu", Mss::PathMtu)];

pub(super) const LOG: [(&str, PacketLog); 4] = [
    ("leave", PacketLog::Leave),
    ("new", PacketLog::New),
    ("denied", PacketLog::Denied),
    ("all", PacketLog::All),
];

pub(super) const WHEN_DOWN: [(&str, WhenDown); 2] = [("leave", WhenDown::Leave), ("block", WhenDown::Block)];

pub(super) const ON_ERROR: [(&str, OnError); 3] = [
    ("refuse", OnError::Refuse),
    ("continue", OnError::Continue),
    ("auto", OnError::Auto),
];

/// The segment sizes that iptables takes and IPv4 allows (RFC 9293: 536 is what every host can
/// take).
const SEGMENT: RangeInclusive<u16> = 536..=65495;

/// Reads a key, if it is one of these.
pub(super) fn read_policy_key(entry: TomlValue<'_>, keys: &mut PolicyOverrides) -> Result<bool, SettingsFault> {
    match entry.key.name {
        "allow" => keys.allow = Some(allow(entry)?),
        "host-access" => keys.host_access = Some(entry.one_of_words(&HOST_ACCESS, None)?),
        "nat" => keys.nat = Some(nat(entry)?),
        "bypass" => keys.bypass = Some(bypass(entry)?),
        "mss" => keys.mss = Some(mss(entry)?),
        "log" => keys.log = Some(entry.one_of_words(&LOG, None)?),
        "when-down" => keys.when_down = Some(entry.one_of_words(&WHEN_DOWN, None)?),
        "chain" => {
            keys.chain = Some(match entry.value.as_str() {
                Some("") => None,
                Some(_) | None => Some(entry.parsed()?),
            });
        }
        "on-error" => keys.on_error = Some(entry.one_of_words(&ON_ERROR, None)?),
        _ => return Ok(false),
    }
    Ok(true)
}

/// The word for the networks that the gateway is connected to.
const BYPASS: [(&str, ()); 1] = [("auto", ())];

fn bypass(entry: TomlValue<'_>) -> Result<Option<Vec<IpNet>>, SettingsFault> {
    match entry.value {
        DeValue::Array(_) => entry
            .each_once(network::LIST, |item| network(item, network::FORM))
            .map(Some),
        DeValue::String(_)
        | DeValue::Integer(_)
        | DeValue::Float(_)
        | DeValue::Boolean(_)
        | DeValue::Datetime(_)
        | DeValue::Table(_) => entry.one_of_words(&BYPASS, Some(network::LIST)).map(|()| None),
    }
}

const SERVICES: &str = "a list of services such as [\"tcp/22\", \"ping\"]";

fn allow(entry: TomlValue<'_>) -> Result<Allow, SettingsFault> {
    match entry.value {
        DeValue::Array(services) if services.is_empty() => {
            Err(entry.refused("services in the list, or \"none\" without one"))
        }
        DeValue::Array(_) => entry.each_once(SERVICES, service).map(Allow::Services),
        DeValue::String(text) if text.parse::<Service>().is_ok() => {
            let words = ALLOW.map(|(word, _)| word);
            let hint = meant_hint(&format!("[\"{text}\"]"));
            Err(entry.refused(choice(&words, Some(SERVICES))).hint(Some(hint)))
        }
        DeValue::String(_)
        | DeValue::Integer(_)
        | DeValue::Float(_)
        | DeValue::Boolean(_)
        | DeValue::Datetime(_)
        | DeValue::Table(_) => entry.one_of_words(&ALLOW, Some(SERVICES)),
    }
}

/// A service in a list.
pub(super) fn service(item: TomlValue<'_>) -> Result<Service, SettingsFault> {
    let text = item.string_value("a service in quotes, such as \"tcp/22\"")?;
    text.parse().map_err(|expected: Expected| {
        let fault = item.refused(expected.0);
        let alone = ALLOW.iter().find(|(word, _)| item.key.name == "allow" && *word == text);
        match (alone, Service::respelt(text)) {
            (Some((word, _)), _) => fault.hint(Some(meant_hint(&format!("\"{word}\" without a list")))),
            (None, Some(service)) => fault.hint(Some(meant_hint(&format!("\"{service}\"")))),
            (None, None) => {
                let spellings = Service::spellings();
                fault.hint_nearest(text, &spellings.iter().map(String::as_str).collect::<Vec<_>>())
            }
        }
    })
}

fn nat(entry: TomlValue<'_>) -> Result<Nat, SettingsFault> {
    let address = entry
        .value
        .as_str()
        .map(|text| network::machine(entry, text))
        .transpose()?;
    match address.flatten() {
        Some(address) => Ok(Nat::Address(address)),
        None => entry.one_of_words(&NAT, Some("one address such as \"10.9.9.1\"")),
    }
}

fn mss(entry: TomlValue<'_>) -> Result<Mss, SettingsFault> {
    let size = |size: Option<u16>| size.filter(|size| SEGMENT.contains(size)).and_then(NonZeroU16::new);
    let bytes = entry.value.as_integer().and_then(|number| size(to_u16(number)));
    let form = format!("a number from {} to {}", SEGMENT.start(), SEGMENT.end());
    let quoted = entry.value.as_str().and_then(|text| size(text.parse().ok()));
    match bytes {
        Some(bytes) => Ok(Mss::Fixed(bytes)),
        None => entry
            .one_of_words(&MSS, Some(&form))
            .map_err(|fault| fault.hint(quoted.map(|bytes| meant_hint(&format!("{bytes} without quotes"))))),
    }
}

fn to_u16(number: &DeInteger<'_>) -> Option<u16> {
    u16::from_str_radix(number.as_str(), number.radix()).ok()
}

/// What `between` is written as.
pub(super) const PAIRS: &str = "a list of pairs such as [[\"10.1.0.0/24\", \"10.2.0.0/24\"]], the local one first";

/// The local network and the remote one.
pub(super) fn pair(item: TomlValue<'_>) -> Result<(IpNet, IpNet), SettingsFault> {
    let mut ends = item.list(PAIRS)?;
    let (Some(local), Some(remote), None) = (ends.next(), ends.next(), ends.next()) else {
        return Err(item.refused(PAIRS));
    };
    let remote_at = remote.at;
    let (local, remote) = (network(local, network::FORM)?, network(remote, network::FORM)?);
    let pair = format!("\"{local}\" and \"{remote}\"");
    if Family::of_address(local.addr()) != Family::of_address(remote.addr()) {
        return Err(SettingsFault::new(
            remote_at,
            item.key,
            pair,
            "two networks of one family",
        ));
    }
    if local == remote {
        return Err(SettingsFault::new(
            remote_at,
            item.key,
            pair,
            "two networks that are not the same",
        ));
    }
    Ok((local, remote))
}
