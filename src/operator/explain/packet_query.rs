//! The packet that is asked about.

use std::net::IpAddr;

use crate::selector::{Family, Traffic};
use crate::settings::Service;
use crate::words::escaped;

/// What is asked about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PacketQuery {
    /// Where the packet comes from.
    pub source: IpAddr,
    /// Where it goes; of the same family.
    pub destination: IpAddr,
    /// Of what kinds, seen from the destination. Several, where a word stands for several.
    pub kinds: Vec<Traffic>,
}

/// Why some words are no packet.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PacketQueryError {
    /// A word is no address.
    #[error("--packet: {0}: expected an address")]
    Address(String),
    /// The two addresses do not go together.
    #[error("--packet: an IPv4 and an IPv6 address, expected two of one family")]
    Families,
    /// A word is no kind of packet; and what else is one.
    #[error("--packet: {0}: expected tcp or udp and a port, icmp and a type, the number of a protocol, or {1}")]
    Kind(String, &'static str),
    /// The kind is one of the other family.
    #[error("--packet: no {family} packet is of the kind {word}")]
    OtherFamily {
        /// The kind.
        word: String,
        /// The family of the two addresses.
        family: &'static str,
    },
    /// They are too few.
    #[error("--packet: expected SOURCE DESTINATION [PROTOCOL [PORT]]")]
    Form,
}

impl PacketQuery {
    /// Reads `SOURCE DESTINATION [PROTOCOL [PORT]]`.
    ///
    /// # Errors
    /// If these words are no packet.
    pub fn parse(words: &[String]) -> Result<Self, PacketQueryError> {
        let [source, destination, kind @ ..] = words else {
            return Err(PacketQueryError::Form);
        };
        let (source, destination) = (address(source)?, address(destination)?);
        let family = Family::of_address(destination);
        if Family::of_address(source) != family {
            return Err(PacketQueryError::Families);
        }
        Ok(Self {
            source,
            destination,
            kinds: kinds(kind, family)?,
        })
    }
}

fn address(word: &str) -> Result<IpAddr, PacketQueryError> {
    word.parse().map_err(|_| PacketQueryError::Address(shown(word)))
}

fn shown(word: &str) -> String {
    escaped(word.as_bytes(), 60)
}

fn kinds(words: &[String], family: Family) -> Result<Vec<Traffic>, PacketQueryError> {
    let word = match words {
        [] => return Ok(vec![Traffic::Any]),
        [word] if word.bytes().all(|byte| byte.is_ascii_digit()) => format!("protocol/{word}"),
        [word] => word.to_ascii_lowercase(),
        [protocol, port, ..] => format!("{}/{port}", protocol.to_ascii_lowercase()),
    };
    let word = match (word.strip_prefix("icmp/"), family) {
        // Whoever says ICMP of an IPv6 packet means ICMPv6.
        (Some(kind), Family::Ipv6) => format!("icmpv6/{kind}"),
        (Some(_), Family::Ipv4) | (None, _) => word,
    };
    let service: Service = word
        .parse()
        .map_err(|expected: crate::selector::Expected| PacketQueryError::Kind(shown(&word), expected.0))?;
    // A service is told from the end that its packets go to.
    let kinds = service.traffic(family);
    match kinds.is_empty() {
        true => Err(PacketQueryError::OtherFamily {
            word: shown(&word),
            family: match family {
                Family::Ipv4 => "IPv4",
                Family::Ipv6 => "IPv6",
            },
        }),
        false => Ok(kinds),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<PacketQuery, String> {
        let words: Vec<_> = text.split(' ').map(str::to_owned).collect();
        PacketQuery::parse(&words).map_err(|error| error.to_string())
    }

    fn told(text: &str) -> String {
        let question = read(text).unwrap();
        let family = Family::of_address(question.source);
        let kinds = question.kinds.iter();
        let kinds: Vec<_> = kinds.map(|kind| super::super::kinds::packets(kind, family)).collect();
        kinds.join(", ")
    }

    #[test]
    fn a_packet_is_told_as_in_the_settings_or_in_two_words() {
        for (kind, expected) in [
            ("", "of any kind"),
            (" tcp", "TCP"),
            (" tcp 22", "TCP to port 22"),
            (" TCP 22", "TCP to port 22"),
            (" tcp/22", "TCP to port 22"),
            (" udp/33434:33633", "UDP to ports 33434:33633"),
            (" ping", "ICMP type 8"),
            (" icmp", "ICMP"),
            (" icmp echo-request", "ICMP type 8"),
            (" icmp 3/4", "ICMP type 3/4"),
            (" 47", "GRE"),
            (" 89", "protocol 89"),
            (" l2tp", "UDP to port 1701"),
            (" ipsec", "UDP to port 500, UDP to port 4500, TCP to port 4500, ESP, AH"),
        ] {
            assert_eq!(told(&format!("10.2.0.9 10.1.0.5{kind}")), expected, "{kind}");
        }
        assert_eq!(told("2001:db8::1 2001:db8::2 ping"), "ICMPv6 type 128");
        assert_eq!(told("2001:db8::1 2001:db8::2 icmp 128"), "ICMPv6 type 128");
    }

    #[test]
    fn what_is_no_packet_is_named() {
        for (words, named) in [
            ("10.2.0.0/24 10.1.0.5", "10.2.0.0/24: expected an address"),
            ("10.2.0.9 2001:db8::1", "two of one family"),
            ("10.2.0.9 10.1.0.5 ssh", "ssh: expected tcp or udp and a port"),
            ("10.2.0.9 10.1.0.5 tcp 0", "tcp/0: expected"),
            (
                "10.2.0.9 10.1.0.5 icmpv6 128",
                "no IPv4 packet is of the kind icmpv6/128",
            ),
            ("10.2.0.9 10.1.0.5 \u{1b}[2J", "\\x1b[2j: expected"),
        ] {
            let error = read(words).unwrap_err();
            assert!(error.contains(named), "{words}: {error}");
            assert!(error.is_ascii() && !error.contains('\u{1b}'));
        }
    }
}
