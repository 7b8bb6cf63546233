//! The packet that is asked about.

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU8;

use super::names::{Directory, service_port};
use crate::net::{Family, Icmp, PortProtocol, Ports, Protocol, Traffic};
use crate::settings::Service;
use crate::words::escaped;

/// What is asked about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PacketQuery {
    /// The packet's source.
    pub source: IpAddr,
    /// Its destination, of the same family.
    pub destination: IpAddr,
    /// Its kinds, seen from the destination. Several, if one word means several.
    pub kinds: Vec<Traffic>,
    /// The host names that were written, each with the address that it was taken for.
    pub names: Vec<(String, IpAddr)>,
}

/// Why some words are no packet.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PacketQueryError {
    /// A word is neither an address nor a name.
    #[error("{0}: expected an address or a host name, with :PORT or without")]
    Address(String),
    /// A name has no address, or none was found in time.
    #[error("{name}: {reason}")]
    Name {
        /// The name.
        name: String,
        /// Why it has no address.
        reason: String,
    },
    /// The two addresses do not go together.
    #[error("an IPv4 and an IPv6 address, expected two of one family")]
    Families,
    /// A word is no kind of packet; and what else is one.
    #[error("{0}: expected a TCP port, a service such as https, tcp:443 or udp/53, icmp and a type, or {1}")]
    Kind(String, &'static str),
    /// The port is given twice.
    #[error("{0}: the address already has a port")]
    PortTwice(String),
    /// The kind is one of the other family.
    #[error("{family} has no {word}")]
    OtherFamily {
        /// The kind.
        word: String,
        /// The family of the two addresses.
        family: &'static str,
    },
    /// A diagram is one of a tunnel.
    #[error("expected the name of one tunnel to draw")]
    NoTunnel,
    /// They are too few.
    #[error("expected FROM TO [SERVICE], and at most one NAME")]
    Form,
}

impl PacketQuery {
    /// Reads `FROM TO [PORT|SERVICE|PROTOCOL [PORT]]`. Only names are asked of `directory`.
    ///
    /// # Errors
    /// If these words are no packet.
    pub fn parse(words: &[String], directory: &impl Directory) -> Result<Self, PacketQueryError> {
        let [source, destination, kind @ ..] = words else {
            return Err(PacketQueryError::Form);
        };
        let (from, to) = (Written::parse_word(source)?, Written::parse_word(destination)?);
        let (sources, destinations) = (from.addresses(directory)?, to.addresses(directory)?);
        let same_family = |source: &IpAddr| {
            let family = Family::of_address(*source);
            let mut destinations = destinations.iter();
            let destination = destinations.find(|destination| Family::of_address(**destination) == family)?;
            Some((*source, *destination))
        };
        let pair = sources.iter().find_map(same_family);
        let (source, destination) = pair.ok_or(PacketQueryError::Families)?;
        let kinds = parse_kinds(kind, to.port, Family::of_address(destination))?;
        let names = [(from.name, source), (to.name, destination)];
        Ok(Self {
            source,
            destination,
            kinds: kinds.into_iter().map(|kind| from_port(kind, from.port)).collect(),
            names: names
                .into_iter()
                .filter_map(|(name, address)| Some((name?, address)))
                .collect(),
        })
    }
}

/// One end as it is written.
struct Written {
    name: Option<String>,
    address: Option<IpAddr>,
    port: Option<u16>,
}

impl Written {
    /// `10.1.0.5`, `10.1.0.5:443`, `2001:db8::5`, `[2001:db8::5]:443`, `db.example`,
    /// `db.example:443`
    fn parse_word(word: &str) -> Result<Self, PacketQueryError> {
        let bare = word
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'))
            .unwrap_or(word);
        let address = |address, port| Self {
            name: None,
            address: Some(address),
            port,
        };
        if let Ok(ip) = bare.parse() {
            return Ok(address(ip, None));
        }
        if let Ok(socket) = word.parse::<SocketAddr>() {
            return Ok(address(socket.ip(), Some(socket.port())));
        }
        let (name, port) = match word.split_once(':') {
            Some((name, port)) => (
                name,
                Some(
                    port.parse::<u16>()
                        .map_err(|_| PacketQueryError::Address(quoted_word(word)))?,
                ),
            ),
            None => (word, None),
        };
        match is_host_name(name) {
            true => Ok(Self {
                name: Some(name.to_owned()),
                address: None,
                port,
            }),
            false => Err(PacketQueryError::Address(quoted_word(word))),
        }
    }

    fn addresses(&self, directory: &impl Directory) -> Result<Vec<IpAddr>, PacketQueryError> {
        match (&self.name, self.address) {
            (_, Some(address)) => Ok(vec![address]),
            (Some(name), None) => directory.addresses(name).map_err(|reason| PacketQueryError::Name {
                name: quoted_word(name),
                reason,
            }),
            (None, None) => Err(PacketQueryError::Form),
        }
    }
}

/// Letters, digits, dashes and dots (RFC 1123, section 2.1), with a letter somewhere: what looks
/// like an address and is none is a slip.
fn is_host_name(word: &str) -> bool {
    let labels = word.strip_suffix('.').unwrap_or(word).split('.');
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
            && !label.starts_with('-')
    };
    word.len() <= 253 && word.bytes().any(|byte| byte.is_ascii_alphabetic()) && labels.into_iter().all(is_label)
}

fn quoted_word(word: &str) -> String {
    escaped(word.as_bytes(), 60)
}

/// A kind with its source port.
fn from_port(kind: Traffic, port: Option<u16>) -> Traffic {
    match (kind, port) {
        (Traffic::Ports { protocol, local, .. }, Some(port)) => Traffic::Ports {
            protocol,
            local,
            remote: Ports::single(port),
        },
        (kind, _) => kind,
    }
}

fn parse_kinds(words: &[String], port: Option<u16>, family: Family) -> Result<Vec<Traffic>, PacketQueryError> {
    let service = match (words, port) {
        ([], None) => return Ok(vec![Traffic::Any]),
        ([], Some(port)) => Service::Ports(PortProtocol::Tcp, port..=port),
        ([word], None) => one_word(word, family)?,
        ([protocol], Some(port)) => with_port(protocol, &port.to_string(), family)?,
        ([protocol, port, ..], None) => with_port(protocol, port, family)?,
        ([_, port, ..], Some(_)) => return Err(PacketQueryError::PortTwice(quoted_word(port))),
    };
    // A service is described from its packets' destination.
    let kinds = service.traffic(family);
    match kinds.is_empty() {
        true => Err(PacketQueryError::OtherFamily {
            word: service.to_string(),
            family: match family {
                Family::Ipv4 => "IPv4",
                Family::Ipv6 => "IPv6",
            },
        }),
        false => Ok(kinds),
    }
}

/// `443`, `https`, `tcp:443`, `tcp/443`, `443/tcp`, `ping`, `esp`
fn one_word(word: &str, family: Family) -> Result<Service, PacketQueryError> {
    if let Ok(port @ 1..) = word.parse::<u16>() {
        return Ok(Service::Ports(PortProtocol::Tcp, port..=port));
    }
    let lower = in_family(&word.to_ascii_lowercase(), family);
    let named = || {
        let (protocol, port) = [PortProtocol::Tcp, PortProtocol::Udp, PortProtocol::Sctp]
            .into_iter()
            .find_map(|protocol| Some((protocol, service_port(&lower, protocol)?)))?;
        Some(Service::Ports(protocol, port..=port))
    };
    lower
        .parse()
        .ok()
        .or_else(|| Service::respelt(&lower))
        .or_else(named)
        .or_else(|| {
            let (protocol, port) = lower.split_once([':', '/'])?;
            with_port(protocol, port, family).ok()
        })
        .ok_or_else(|| no_kind(&lower))
}

/// A protocol and a port, a type, or a service's name: `tcp 443`, `tcp https`, `icmp 8`.
fn with_port(protocol: &str, port: &str, family: Family) -> Result<Service, PacketQueryError> {
    let word = in_family(&format!("{}/{port}", protocol.to_ascii_lowercase()), family);
    let named = || {
        let protocol = PortProtocol::ALL
            .into_iter()
            .find(|known| known.name() == protocol.to_ascii_lowercase())?;
        let port = service_port(&port.to_ascii_lowercase(), protocol)?;
        Some(Service::Ports(protocol, port..=port))
    };
    word.parse().ok().or_else(named).ok_or_else(|| no_kind(&word))
}

/// Whoever says ICMP of an IPv6 packet means ICMPv6.
fn in_family(word: &str, family: Family) -> String {
    match (word.strip_prefix("icmp/"), family) {
        (Some(kind), Family::Ipv6) => format!("icmpv6/{kind}"),
        (None, Family::Ipv6) if word == "icmp" => "icmpv6".to_owned(),
        _ => word.to_owned(),
    }
}

fn no_kind(word: &str) -> PacketQueryError {
    let expected = word.parse::<Service>().map_or_else(|expected| expected.0, |_| "");
    PacketQueryError::Kind(quoted_word(word), expected)
}

/// A kind as a settings file names it, if it has a service for it.
pub(super) fn service(kind: &Traffic, family: Family) -> Option<Service> {
    match kind {
        Traffic::Icmp(icmp) => {
            let ping = Service::Ping;
            let is_ping = ping.traffic(family).contains(kind);
            Some(if is_ping { ping } else { Service::Icmp(family, *icmp) })
        }
        Traffic::Ports {
            protocol,
            local: Ports::Range(ports),
            ..
        } => Some(Service::Ports(*protocol, ports.clone())),
        Traffic::Protocol(protocol) => Some(Service::Protocol(*protocol)),
        Traffic::Any | Traffic::Ports { .. } => None,
    }
}

/// The kind of the packets that answer one.
pub(super) fn reply_traffic(kind: &Traffic, family: Family) -> Traffic {
    let echo = match family {
        Family::Ipv4 => (8, 0),
        Family::Ipv6 => (128, 129),
    };
    match kind {
        Traffic::Ports {
            protocol,
            local,
            remote,
        } => Traffic::Ports {
            protocol: *protocol,
            local: remote.clone(),
            remote: local.clone(),
        },
        Traffic::Icmp(Icmp::Type(number) | Icmp::Code(number, _)) if *number == echo.0 => {
            Traffic::Icmp(Icmp::Type(echo.1))
        }
        Traffic::Any | Traffic::Protocol(_) | Traffic::Icmp(_) => kind.clone(),
    }
}

/// Encapsulating Security Payload, RFC 4303
pub(super) const ESP: u8 = 50;

/// The number of a protocol without ports, as a kind of traffic.
pub(super) fn protocol(number: u8) -> Traffic {
    NonZeroU8::new(number).map_or(Traffic::Any, |number| Traffic::Protocol(Protocol(number)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Knows two names.
    struct Known;

    impl Directory for Known {
        fn addresses(&self, name: &str) -> Result<Vec<IpAddr>, String> {
            let addresses = match name {
                "db.example" => vec!["2001:db8::5", "10.1.0.5"],
                "branch" => vec!["10.2.0.9", "10.2.0.10"],
                _ => return Err("no such host".to_owned()),
            };
            Ok(addresses.into_iter().map(|address| address.parse().unwrap()).collect())
        }
    }

    fn parse_query(text: &str) -> Result<PacketQuery, String> {
        let words: Vec<_> = text.split(' ').map(str::to_owned).collect();
        PacketQuery::parse(&words, &Known).map_err(|error| error.to_string())
    }

    fn asked_kind(text: &str) -> String {
        let query = parse_query(text).unwrap();
        let family = Family::of_address(query.source);
        let kinds = query.kinds.iter();
        let kinds: Vec<_> = kinds.map(|kind| super::super::kinds::packets(kind, family)).collect();
        kinds.join(", ")
    }

    #[test]
    fn a_packet_is_written_as_in_the_settings_or_as_people_write_it() {
        for (kind, expected) in [
            ("", "any protocol"),
            (" 443", "TCP to port 443"),
            (" https", "TCP to port 443"),
            (" HTTPS", "TCP to port 443"),
            (" tcp:443", "TCP to port 443"),
            (" 443/tcp", "TCP to port 443"),
            (" tcp/https", "TCP to port 443"),
            (" udp domain", "UDP to port 53"),
            (" tcp", "TCP"),
            (" tcp 22", "TCP to port 22"),
            (" TCP 22", "TCP to port 22"),
            (" tcp/22", "TCP to port 22"),
            (" ssh", "TCP to port 22"),
            (" udp/33434:33633", "UDP to ports 33434:33633"),
            (" ping", "ICMP type 8"),
            (" icmp", "ICMP"),
            (" icmp echo-request", "ICMP type 8"),
            (" icmp 3/4", "ICMP type 3/4"),
            (" gre", "GRE"),
            (" protocol/89", "protocol 89"),
            (" l2tp", "UDP to port 1701"),
            (" ipsec", "UDP to port 500, UDP to port 4500, TCP to port 4500, ESP, AH"),
        ] {
            assert_eq!(asked_kind(&format!("10.2.0.9 10.1.0.5{kind}")), expected, "{kind}");
        }
        assert_eq!(asked_kind("10.2.0.9 10.1.0.5:443"), "TCP to port 443");
        assert_eq!(
            asked_kind("10.2.0.9:5000 10.1.0.5:443 udp"),
            "UDP from port 5000 to port 443"
        );
        assert_eq!(asked_kind("2001:db8::1 2001:db8::2 ping"), "ICMPv6 type 128");
        assert_eq!(asked_kind("2001:db8::1 2001:db8::2 icmp 128"), "ICMPv6 type 128");
        assert_eq!(asked_kind("2001:db8::1 [2001:db8::2]:22"), "TCP to port 22");
        assert_eq!(asked_kind("2001:db8::1 [2001:db8::2] icmp"), "ICMPv6");
    }

    #[test]
    fn names_are_looked_up_and_two_addresses_of_one_family_are_taken() {
        let query = parse_query("branch db.example:443").unwrap();
        let (branch, db) = ("10.2.0.9".parse().unwrap(), "10.1.0.5".parse().unwrap());
        assert_eq!((query.source, query.destination), (branch, db));
        assert_eq!(
            query.names,
            [("branch".to_owned(), branch), ("db.example".to_owned(), db)]
        );
        assert_eq!(
            parse_query("2001:db8::1 db.example").unwrap().destination,
            "2001:db8::5".parse::<IpAddr>().unwrap()
        );
        assert_eq!(
            parse_query("branch nowhere.example").unwrap_err(),
            "nowhere.example: no such host"
        );
        assert!(parse_query("10.2.0.9 10.1.0.5").unwrap().names.is_empty());
    }

    #[test]
    fn what_is_no_packet_is_named() {
        for (words, named) in [
            ("10.2.0.0/24 10.1.0.5", "10.2.0.0/24: expected an address"),
            ("10.2.0.300 10.1.0.5", "10.2.0.300: expected an address"),
            ("10.2.0.9 10.1.0.5:https", "10.1.0.5:https: expected an address"),
            ("10.2.0.9 2001:db8::1", "two of one family"),
            ("10.2.0.9 10.1.0.5 nosuchservice", "nosuchservice: expected a TCP port"),
            ("10.2.0.9 10.1.0.5 0", "0: expected"),
            ("10.2.0.9 10.1.0.5 tcp 0", "tcp/0: expected"),
            ("10.2.0.9 10.1.0.5:443 tcp 22", "22: the address already has a port"),
            ("10.2.0.9 10.1.0.5 icmpv6 128", "IPv4 has no icmpv6/128"),
            ("10.2.0.9 10.1.0.5 \u{1b}[2J", "\\x1b[2j: expected"),
            ("10.2.0.9", "expected FROM TO [SERVICE]"),
        ] {
            let error = parse_query(words).unwrap_err();
            assert!(error.contains(named), "{words}: {error}");
            assert!(error.is_ascii() && !error.contains('\u{1b}'));
        }
    }

    #[test]
    fn what_answers_goes_from_the_port_that_was_asked() {
        let asked_kind = |kind: &str| {
            let kind = &parse_query(&format!("10.2.0.9 10.1.0.5 {kind}")).unwrap().kinds[0];
            super::super::kinds::packets(&reply_traffic(kind, Family::Ipv4), Family::Ipv4)
        };
        assert_eq!(asked_kind("443"), "TCP from port 443");
        assert_eq!(asked_kind("ping"), "ICMP type 0");
        assert_eq!(asked_kind("gre"), "GRE");
    }
}
