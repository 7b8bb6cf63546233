//! Services: the kinds of new connections that a peer may open.

use crate::net::displayed_type;
use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::net::{Expected, Family, Icmp, PortProtocol, Ports, Protocol, Traffic};

/// A kind of connection that a peer may open, named as in the settings file.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Service {
    /// Ports at our end: `tcp/22`, `udp/33434:33633`, also `sctp`, `dccp`, `udplite`.
    Ports(PortProtocol, RangeInclusive<u16>),
    /// A protocol without ports, or with all of them: `tcp`, `gre`, `ipip`, `esp`, `ah`, or
    /// `protocol/132`.
    Protocol(Protocol),
    /// A type of ICMP: `icmp/8`, `icmp/echo-request`, `icmp/3/4`; of ICMPv6: `icmpv6/128`.
    Icmp(Family, Icmp),
    /// Echo requests of both families: `ping`.
    Ping,
    /// UDP 33434 to 33633: `traceroute`.
    Traceroute,
    /// UDP 1701: `l2tp`.
    L2tp,
    /// Nested IPsec, IKE (UDP 500 and 4500, TCP 4500), ESP and AH: `ipsec`.
    Ipsec,
}

/// What a service may be written as, for messages.
const FORM: Expected = Expected(
    "a service: tcp/22, udp/33434:33633, icmp/echo-request, icmpv6/128, gre, protocol/132, ping, traceroute, l2tp or ipsec",
);

/// Protocols that have a name of their own here.
const PROTOCOLS: [(&str, u8); 9] = [
    ("tcp", 6),
    ("udp", 17),
    ("gre", 47),
    ("ipip", 4),
    ("esp", 50),
    ("ah", 51),
    ("sctp", 132),
    ("icmp", 1),
    ("icmpv6", 58),
];

/// Types of ICMP by the names that iptables has for them.
const ICMP_TYPES: [(&str, u8); 7] = [
    ("echo-reply", 0),
    ("destination-unreachable", 3),
    ("redirect", 5),
    ("echo-request", 8),
    ("time-exceeded", 11),
    ("parameter-problem", 12),
    ("timestamp-request", 13),
];

/// Types of ICMPv6 by the names that ip6tables has for them.
const ICMPV6_TYPES: [(&str, u8); 6] = [
    ("destination-unreachable", 1),
    ("packet-too-big", 2),
    ("time-exceeded", 3),
    ("parameter-problem", 4),
    ("echo-request", 128),
    ("echo-reply", 129),
];

impl Service {
    /// The words that need no number.
    pub(crate) const WORDS: [&'static str; 4] = ["ping", "traceroute", "l2tp", "ipsec"];

    /// Every spelling that needs no number.
    pub(super) fn spellings() -> Vec<String> {
        let protocols = PROTOCOLS.map(|(name, _)| name.to_owned());
        let types = ICMP_TYPES.map(|(name, _)| format!("icmp/{name}"));
        let types_of_ipv6 = ICMPV6_TYPES.map(|(name, _)| format!("icmpv6/{name}"));
        let words = Self::WORDS.map(str::to_owned);
        words
            .into_iter()
            .chain(protocols)
            .chain(types)
            .chain(types_of_ipv6)
            .collect()
    }

    /// A service as other programs write it: `22/tcp`, `tcp:22`, `TCP 22`.
    pub(crate) fn respelt(text: &str) -> Option<Self> {
        let text = text.trim().to_ascii_lowercase();
        let turned = text.split_once('/').map(|(one, other)| format!("{other}/{one}"));
        let parted = text.replacen([':', ' ', '-'], "/", 1);
        let spellings = [Some(text), turned, Some(parted)];
        spellings.into_iter().flatten().find_map(|text| text.parse().ok())
    }

    /// The traffic of the service out of a tunnel of this family, seen from the local end. Empty
    /// for a service of the other family.
    #[must_use]
    pub fn traffic(&self, family: Family) -> Vec<Traffic> {
        match self {
            Self::Ports(protocol, ports) => vec![to_ports(*protocol, ports.clone())],
            Self::Protocol(protocol) => vec![Traffic::Protocol(*protocol)],
            Self::Icmp(of, icmp) if *of == family => vec![Traffic::Icmp(*icmp)],
            Self::Icmp(..) => Vec::new(),
            Self::Ping => vec![Traffic::Icmp(Icmp::Type(echo_request(family)))],
            Self::Traceroute => vec![to_ports(PortProtocol::Udp, 33434..=33633)],
            Self::L2tp => vec![to_ports(PortProtocol::Udp, 1701..=1701)],
            Self::Ipsec => ipsec(),
        }
    }
}

impl Service {
    /// The services that both lists allow, each once; empty if there is none.
    pub(super) fn intersect(one: &[Self], other: &[Self]) -> Vec<Self> {
        let (common, one): (Vec<_>, Vec<_>) = one.iter().cloned().partition(|service| other.contains(service));
        let other: Vec<_> = other.iter().flat_map(Self::parts).collect();
        let parts = one.iter().flat_map(Self::parts);
        let overlaps = parts.flat_map(|part| {
            other
                .iter()
                .filter_map(move |other| part.overlap(other))
                .collect::<Vec<_>>()
        });
        let mut both = Vec::new();
        for service in common.into_iter().chain(overlaps) {
            if !both.contains(&service) {
                both.push(service);
            }
        }
        both
    }

    /// The service without words: as ports, protocols and types of ICMP.
    fn parts(&self) -> Vec<Self> {
        match self {
            Self::Ports(..) | Self::Protocol(_) | Self::Icmp(..) => vec![self.clone()],
            Self::Ping => Family::ALL
                .map(|family| Self::Icmp(family, Icmp::Type(echo_request(family))))
                .into(),
            // The same in both families.
            Self::Traceroute | Self::L2tp | Self::Ipsec => self
                .traffic(Family::Ipv4)
                .into_iter()
                .filter_map(Self::of_traffic)
                .collect(),
        }
    }

    fn of_traffic(traffic: Traffic) -> Option<Self> {
        match traffic {
            Traffic::Ports {
                protocol,
                local: Ports::Range(ports),
                remote: _,
            } => Some(Self::Ports(protocol, ports)),
            Traffic::Protocol(protocol) => Some(Self::Protocol(protocol)),
            Traffic::Any | Traffic::Ports { .. } | Traffic::Icmp(_) => None,
        }
    }

    /// The service that two have in common; both without words.
    fn overlap(&self, other: &Self) -> Option<Self> {
        match (self, other) {
            (Self::Ports(protocol, one), Self::Ports(same, other)) if protocol == same => {
                let ports = *one.start().max(other.start())..=*one.end().min(other.end());
                Some(Self::Ports(*protocol, ports)).filter(|_| one.start() <= other.end() && other.start() <= one.end())
            }
            (ports @ Self::Ports(protocol, _), Self::Protocol(whole))
            | (Self::Protocol(whole), ports @ Self::Ports(protocol, _)) => {
                Some(ports.clone()).filter(|_| protocol.number() == whole.number())
            }
            (Self::Protocol(one), Self::Protocol(other)) => Some(self.clone()).filter(|_| one == other),
            (icmp @ Self::Icmp(family, _), Self::Protocol(whole))
            | (Self::Protocol(whole), icmp @ Self::Icmp(family, _)) => {
                Some(icmp.clone()).filter(|_| Protocol::icmp(*family) == whole.number())
            }
            (Self::Icmp(family, one), Self::Icmp(same, other)) if family == same => match (one, other) {
                (Icmp::Type(kind), Icmp::Type(other)) => Some(self.clone()).filter(|_| kind == other),
                (Icmp::Type(kind), code @ Icmp::Code(of, _)) | (code @ Icmp::Code(of, _), Icmp::Type(kind)) => {
                    Some(Self::Icmp(*family, *code)).filter(|_| kind == of)
                }
                (Icmp::Code(..), Icmp::Code(..)) => Some(self.clone()).filter(|_| one == other),
            },
            _ => None,
        }
    }
}

fn to_ports(protocol: PortProtocol, ports: RangeInclusive<u16>) -> Traffic {
    Traffic::Ports {
        protocol,
        local: Ports::Range(ports),
        remote: Ports::Any,
    }
}

fn echo_request(family: Family) -> u8 {
    match family {
        Family::Ipv4 => 8,
        Family::Ipv6 => 128,
    }
}

/// IKE by UDP (RFC 7296), with NAT between (RFC 3948) and by TCP (RFC 9329), then ESP and AH.
fn ipsec() -> Vec<Traffic> {
    let ike = [
        (PortProtocol::Udp, 500),
        (PortProtocol::Udp, 4500),
        (PortProtocol::Tcp, 4500),
    ];
    let ike = ike.map(|(protocol, port)| to_ports(protocol, port..=port));
    let protocols = [50, 51].into_iter().filter_map(std::num::NonZeroU8::new);
    let protocols = protocols.map(|number| Traffic::Protocol(Protocol(number)));
    ike.into_iter().chain(protocols).collect()
}

impl FromStr for Service {
    type Err = Expected;

    fn from_str(text: &str) -> Result<Self, Expected> {
        match (text, text.split_once('/')) {
            ("ping", _) => Ok(Self::Ping),
            ("traceroute", _) => Ok(Self::Traceroute),
            ("l2tp", _) => Ok(Self::L2tp),
            ("ipsec", _) => Ok(Self::Ipsec),
            (name, None) => protocol(name).map(Self::Protocol),
            (_, Some(("protocol", number))) => number
                .parse()
                .map(|number| Self::Protocol(Protocol(number)))
                .map_err(|_| FORM),
            (_, Some(("icmp", kind))) => Ok(Self::Icmp(Family::Ipv4, icmp(kind, &ICMP_TYPES)?)),
            (_, Some(("icmpv6" | "ipv6-icmp", kind))) => Ok(Self::Icmp(Family::Ipv6, icmp(kind, &ICMPV6_TYPES)?)),
            (_, Some((name, ports))) => Ok(Self::Ports(port_protocol(name)?, parse_ports(ports)?)),
        }
    }
}

fn protocol(name: &str) -> Result<Protocol, Expected> {
    let known = PROTOCOLS.into_iter().find(|(known, _)| *known == name);
    known
        .and_then(|(_, number)| std::num::NonZeroU8::new(number))
        .map(Protocol)
        .ok_or(FORM)
}

fn port_protocol(name: &str) -> Result<PortProtocol, Expected> {
    PortProtocol::ALL
        .into_iter()
        .find(|known| known.name() == name)
        .ok_or(FORM)
}

/// `22`, `1000:2000` or, as many write it, `1000-2000`.
fn parse_ports(text: &str) -> Result<RangeInclusive<u16>, Expected> {
    let (first, last) = text.split_once([':', '-']).unwrap_or((text, text));
    let port = |text: &str| text.parse::<u16>().ok().filter(|port| *port > 0).ok_or(FORM);
    let (first, last) = (port(first)?, port(last)?);
    if first > last {
        return Err(Expected("a range of ports from the lower to the higher"));
    }
    Ok(first..=last)
}

/// A type by name or number, with a code or without. Not 255, which iptables takes for every type.
fn icmp(text: &str, names: &[(&str, u8)]) -> Result<Icmp, Expected> {
    let (kind, code) = text
        .split_once('/')
        .map_or((text, None), |(kind, code)| (kind, Some(code)));
    let named = names.iter().find(|(name, _)| *name == kind).map(|(_, number)| *number);
    let kind = named
        .or_else(|| kind.parse().ok())
        .filter(|kind| *kind < u8::MAX)
        .ok_or(FORM)?;
    match code {
        None => Ok(Icmp::Type(kind)),
        Some(code) => code.parse().map(|code| Icmp::Code(kind, code)).map_err(|_| FORM),
    }
}

/// As it can be written in the settings file.
impl fmt::Display for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ports(protocol, ports) => write!(f, "{}/{}", protocol.name(), Ports::Range(ports.clone())),
            Self::Protocol(protocol) => {
                let number = protocol.number();
                match PROTOCOLS.into_iter().find(|(_, known)| *known == number) {
                    Some((name, _)) => f.write_str(name),
                    None => write!(f, "protocol/{number}"),
                }
            }
            Self::Icmp(Family::Ipv4, icmp) => write!(f, "icmp/{icmp}"),
            Self::Icmp(Family::Ipv6, icmp) => write!(f, "icmpv6/{icmp}"),
            Self::Ping => f.write_str("ping"),
            Self::Traceroute => f.write_str("traceroute"),
            Self::L2tp => f.write_str("l2tp"),
            Self::Ipsec => f.write_str("ipsec"),
        }
    }
}

displayed_type!(Service);

#[cfg(test)]
mod tests {
    use super::*;

    fn service(text: &str) -> Service {
        text.parse().unwrap()
    }

    #[test]
    fn a_service_is_written_as_it_is_read() {
        for text in [
            "tcp/22",
            "udp/33434:33633",
            "icmp/8",
            "icmp/3/4",
            "icmpv6/128",
            "gre",
            "protocol/89",
            "ping",
            "traceroute",
            "l2tp",
            "ipsec",
            "sctp/7",
            "tcp",
        ] {
            assert_eq!(service(text).to_string(), text);
        }
        assert_eq!(service("icmp/echo-request").to_string(), "icmp/8");
        assert_eq!(service("udp/1000-2000").to_string(), "udp/1000:2000");
    }

    #[test]
    fn what_is_no_service_is_refused() {
        for text in [
            "",
            "tcp/",
            "tcp/0",
            "tcp/65536",
            "tcp/22:21",
            "gre/1",
            "icmp/255",
            "icmp/echo",
            "protocol/0",
            "ssh",
            "tcp/22 ",
            "TCP/22",
            "ping/1",
        ] {
            assert!(text.parse::<Service>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_ping_is_an_echo_request_of_either_family() {
        assert_eq!(Service::Ping.traffic(Family::Ipv4), [Traffic::Icmp(Icmp::Type(8))]);
        assert_eq!(Service::Ping.traffic(Family::Ipv6), [Traffic::Icmp(Icmp::Type(128))]);
        assert_eq!(service("icmp/8").traffic(Family::Ipv6), []);
    }

    #[test]
    fn two_lists_have_in_common_what_both_allow() {
        let list = |text: &str| -> Vec<Service> { text.split_whitespace().map(service).collect() };
        for (one, other, both) in [
            ("tcp/22", "tcp/80", ""),
            ("tcp/22 tcp/80", "tcp/80 udp/80", "tcp/80"),
            ("tcp/1000:2000", "tcp/1500:3000", "tcp/1500:2000"),
            ("tcp/1000:2000", "tcp/2000:3000", "tcp/2000"),
            ("tcp", "tcp/80", "tcp/80"),
            ("protocol/6", "tcp", "tcp"),
            ("ping", "ping", "ping"),
            ("ping", "icmp/8", "icmp/8"),
            ("ping", "icmp", "icmp/8"),
            ("icmp/3", "icmp/3/4 icmp/3/3", "icmp/3/4 icmp/3/3"),
            ("icmp/3/4", "icmp/3/3", ""),
            ("icmp/8", "icmpv6/128", ""),
            ("traceroute l2tp", "udp", "udp/33434:33633 udp/1701"),
            ("ipsec", "udp/500 esp", "udp/500 esp"),
            ("gre", "ipip", ""),
        ] {
            let (one, other, both) = (list(one), list(other), list(both));
            assert_eq!(Service::intersect(&one, &other), both, "{one:?} {other:?}");
            let turned = Service::intersect(&other, &one);
            assert!(
                turned.len() == both.len() && both.iter().all(|service| turned.contains(service)),
                "{turned:?}"
            );
        }
    }
}
