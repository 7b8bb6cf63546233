//! Kinds of traffic, in words.

use crate::net::{Family, Ports, Protocol, Traffic};

/// A kind of packet, seen from its destination: `TCP to port 22`.
pub(super) fn packets(kind: &Traffic, family: Family) -> String {
    match kind {
        Traffic::Any => "any protocol".to_owned(),
        Traffic::Protocol(protocol) => protocol_text(*protocol, family),
        Traffic::Icmp(icmp) => format!("{} type {icmp}", icmp_name(family)),
        Traffic::Ports {
            protocol,
            local: local_ports,
            remote: remote_ports,
        } => {
            let from = port(remote_ports).map_or_else(String::new, |port| format!(" from {port}"));
            let to = port(local_ports).map_or_else(String::new, |port| format!(" to {port}"));
            format!("{}{from}{to}", protocol.name().to_uppercase())
        }
    }
}

/// What a tunnel was made for, seen from the gateway: `TCP between port 22 here and any port
/// there`.
pub(super) fn of_tunnel(kind: &Traffic, family: Family) -> String {
    match kind {
        Traffic::Ports {
            protocol,
            local: local_ports,
            remote: remote_ports,
        } => {
            let end = |ports| port(ports).unwrap_or_else(|| "any port".to_owned());
            format!(
                "{} between {} here and {} there",
                protocol.name().to_uppercase(),
                end(local_ports),
                end(remote_ports)
            )
        }
        Traffic::Any | Traffic::Protocol(_) | Traffic::Icmp(_) => packets(kind, family),
    }
}

fn port(ports: &Ports) -> Option<String> {
    match ports {
        Ports::Any => None,
        Ports::Range(range) if range.start() == range.end() => Some(format!("port {ports}")),
        Ports::Range(_) => Some(format!("ports {ports}")),
    }
}

fn protocol_text(protocol: Protocol, family: Family) -> String {
    match protocol.number() {
        4 => "IP in IP".to_owned(),
        6 => "TCP".to_owned(),
        17 => "UDP".to_owned(),
        41 => "IPv6 in IP".to_owned(),
        47 => "GRE".to_owned(),
        50 => "ESP".to_owned(),
        51 => "AH".to_owned(),
        number if number == Protocol::icmp(family) => icmp_name(family).to_owned(),
        number => format!("protocol {number}"),
    }
}

fn icmp_name(family: Family) -> &'static str {
    match family {
        Family::Ipv4 => "ICMP",
        Family::Ipv6 => "ICMPv6",
    }
}
