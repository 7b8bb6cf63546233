//! The keys of `[gateway]`.

use std::ops::RangeInclusive;

use toml::de::{DeTable, DeValue};

use super::found::{TomlTable, TomlValue, entries};
use super::network::{FORM, LIST, is_meant, network};
use super::policy;
use super::report::SettingsFault;
use crate::net::{MarkBit, PortProtocol};
use crate::settings::gateway::{Esp, Gateway, IcmpFilter, Ike, IpsecOnlyScope, JumpPlace, Through};
use crate::settings::service::Service;

pub(super) const IKE: [(&str, Ike); 3] = [("any", Ike::Any), ("known", Ike::Known), ("leave", Ike::Leave)];

pub(super) const ESP: [(&str, Esp); 4] = [
    ("any", Esp::Any),
    ("known", Esp::Known),
    ("negotiated", Esp::Negotiated),
    ("leave", Esp::Leave),
];

pub(super) const THROUGH: [(&str, Through); 3] = [
    ("allow", Through::Allow),
    ("deny", Through::Deny),
    ("leave", Through::Leave),
];

pub(super) const ICMP: [(&str, IcmpFilter); 2] = [("leave", IcmpFilter::Leave), ("safe", IcmpFilter::Safe)];

pub(super) const PLACE: [(&str, JumpPlace); 3] = [
    ("first", JumpPlace::First),
    ("last", JumpPlace::Last),
    ("own", JumpPlace::Own),
];

/// Reads the table.
pub(super) fn read_gateway(content: &DeTable<'_>) -> Result<Gateway, SettingsFault> {
    let mut gateway = Gateway::default();
    for entry in entries(TomlTable::Gateway, content) {
        match entry.key.name {
            "ike" => gateway.ike = entry.one_of_words(&IKE, None)?,
            "esp" => gateway.esp = entry.one_of_words(&ESP, None)?,
            "peers" => gateway.peers = entry.each_once(LIST, |item| network(item, FORM))?,
            "through" => gateway.through = through(entry)?,
            "only-ipsec" => gateway.only_ipsec = entry.each_once(NEIGHBOURS, neighbour)?,
            "icmp" => gateway.icmp = entry.one_of_words(&ICMP, None)?,
            "inner-only" => gateway.inner_only = entry.each_once(INNER, inner)?,
            "place" => gateway.place = entry.one_of_words(&PLACE, None)?,
            "mark" => gateway.mark = mark(entry)?,
            _ => return Err(super::unknown(entry, &super::GATEWAY)),
        }
    }
    Ok(gateway)
}

fn mark(entry: TomlValue<'_>) -> Result<MarkBit, SettingsFault> {
    const FORM: &str = "one bit of a packet's mark, such as \"0x10000000\"";
    entry.string_value(FORM)?.parse().map_err(|_| entry.refused(FORM))
}

fn through(entry: TomlValue<'_>) -> Result<Through, SettingsFault> {
    match entry.value {
        DeValue::Array(machines) if machines.is_empty() => {
            Err(entry.refused("addresses in the list, or \"deny\" without one"))
        }
        DeValue::Array(_) => entry.each_once(LIST, |item| network(item, FORM)).map(Through::Listed),
        DeValue::String(_)
        | DeValue::Integer(_)
        | DeValue::Float(_)
        | DeValue::Boolean(_)
        | DeValue::Datetime(_)
        | DeValue::Table(_) => entry.one_of_words(&THROUGH, Some(LIST)),
    }
}

const NEIGHBOURS: &str = "a list of interfaces and addresses such as [\"eth1\", \"192.0.2.7\"]";

fn neighbour(item: TomlValue<'_>) -> Result<IpsecOnlyScope, SettingsFault> {
    const FORM: &str = "an interface such as \"eth1\" or \"ppp+\", or an address or a network such as \"192.0.2.7\"";
    if is_meant(item.string_value(FORM)?) {
        return network(item, FORM).map(IpsecOnlyScope::Peer);
    }
    item.parsed()
        .map(IpsecOnlyScope::Interface)
        .map_err(|_| item.refused(FORM))
}

const INNER: &str = "a list of services such as [\"l2tp\", \"gre\"]";

const OTHERS: &str = "ports, a protocol or l2tp; the key icmp decides about ICMP";

const TUNNELS_NEED_IT: &str = "ports or protocols without UDP 500 and 4500, ESP and AH, which tunnels need unencrypted";

/// A service that `inner-only` can name. Not ICMP, and not what tunnels themselves need.
fn inner(item: TomlValue<'_>) -> Result<Service, SettingsFault> {
    let service = policy::service(item)?;
    let ike = |ports: &RangeInclusive<u16>| ports.contains(&500) || ports.contains(&4500);
    match &service {
        Service::Ping | Service::Icmp(..) => Err(item.refused(OTHERS)),
        Service::Protocol(protocol) if [1, 58].contains(&protocol.number()) => Err(item.refused(OTHERS)),
        Service::Traceroute => Err(item.refused("ports, a protocol or l2tp; traceroute needs no tunnel")),
        Service::Ipsec => Err(item.refused(TUNNELS_NEED_IT)),
        Service::Protocol(protocol) if [17, 50, 51].contains(&protocol.number()) => Err(item.refused(TUNNELS_NEED_IT)),
        Service::Ports(PortProtocol::Udp, ports) if ike(ports) => Err(item.refused(TUNNELS_NEED_IT)),
        Service::Protocol(_) | Service::Ports(..) | Service::L2tp => Ok(service),
    }
}
