//! Packets, byte by byte.
//!
//! Without checksums but for those of ICMP, which the nat table looks at, and IPv4's, which the kernel adds.

use std::net::IpAddr;

use pluto_updown::net::Family;

/// The addresses of a family, by the names in the table.
pub(super) struct Names(&'static [(&'static str, &'static str)]);

const V4: [(&str, &str); 11] = [
    ("gatelan", "10.1.0.1"),
    ("gate", "192.0.2.1"),
    ("known", "192.0.2.2"),
    ("stranger", "198.51.100.7"),
    ("friend", "203.0.113.9"),
    ("published", "198.18.0.9"),
    ("farnet", "10.2.0.0/24"),
    ("far", "10.2.0.7"),
    ("lannet", "10.1.0.0/24"),
    ("lan2", "10.1.0.10"),
    ("lan", "10.1.0.9"),
];

const V6: [(&str, &str); 11] = [
    ("gatelan", "fd00:1::1"),
    ("gate", "2001:db8::1"),
    ("known", "2001:db8::2"),
    ("stranger", "2001:db8:f::7"),
    ("friend", "2001:db8:e::9"),
    ("published", "2001:db8:77::9"),
    ("farnet", "fd00:2::/64"),
    ("far", "fd00:2::7"),
    ("lannet", "fd00:1::/64"),
    ("lan2", "fd00:1::a"),
    ("lan", "fd00:1::9"),
];

impl Names {
    pub(super) fn for_family(family: Family) -> Self {
        match family {
            Family::Ipv4 => Self(&V4),
            Family::Ipv6 => Self(&V6),
        }
    }

    pub(super) fn address(&self, name: &str) -> &'static str {
        let mut known = self.0.iter();
        let found = known.find(|(known, _)| *known == name);
        found.unwrap_or_else(|| panic!("no address {name}")).1
    }

    /// A text with the names in capitals replaced. A longer name stands before one that it begins with.
    pub(super) fn put_into(&self, text: &str) -> String {
        let names = self.0.iter();
        names.fold(text.to_owned(), |text, (name, address)| {
            text.replace(&format!("\"{}\"", name.to_uppercase()), &format!("\"{address}\""))
        })
    }
}

/// What is in a packet.
#[derive(Debug, Clone)]
pub(super) enum Content {
    Udp(u16, u16),
    /// Ports and the byte of flags.
    Tcp(u16, u16, u8),
    Esp,
    Ah,
    Gre,
    /// Type and code, of either family's ICMP.
    Icmp(u8, u8),
    /// That a UDP packet with these ports, which went the other way, did not arrive.
    Unreachable(u16, u16),
}

const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;
const GRE: u8 = 47;
const ESP: u8 = 50;
const AH: u8 = 51;
const ICMPV6: u8 = 58;
const NO_NEXT_HEADER: u8 = 59;

impl Content {
    pub(super) fn parse(words: &[&str], family: Family) -> Option<Self> {
        let number = |index: usize| words.get(index)?.parse().ok();
        let byte = |index: usize| words.get(index).map_or(Some(0), |word| word.parse().ok());
        let (echo, dhcp) = match family {
            Family::Ipv4 => (8, (67, 68)),
            Family::Ipv6 => (128, (547, 546)),
        };
        Some(match *words.first()? {
            "udp" => Self::Udp(number(1)?, number(2)?),
            "tcp" => Self::Tcp(number(1)?, number(2)?, flags(words.get(3)?)),
            "esp" => Self::Esp,
            "ah" => Self::Ah,
            "gre" => Self::Gre,
            "ping" => Self::Icmp(echo, 0),
            "dhcp" => Self::Udp(dhcp.0, dhcp.1),
            "icmp" => Self::Icmp(byte(1)?, byte(2)?),
            "unreachable" => Self::Unreachable(number(1)?, number(2)?),
            _ => return None,
        })
    }

    /// The protocol's number, and the bytes behind the header of IP.
    fn bytes(&self, from: IpAddr, to: IpAddr) -> (u8, Vec<u8>) {
        let icmp = if from.is_ipv4() { ICMP } else { ICMPV6 };
        match *self {
            Self::Udp(source, destination) => (UDP, udp(source, destination)),
            Self::Tcp(source, destination, flags) => (TCP, tcp(source, destination, flags)),
            Self::Esp => (ESP, vec![0, 0, 1, 0, 0, 0, 0, 1]),
            // 24 bytes, of which 12 are the check value.
            Self::Ah => (
                AH,
                [&[NO_NEXT_HEADER, 4, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1][..], &[0; 12]].concat(),
            ),
            Self::Gre => (GRE, vec![0, 0, 8, 0]),
            Self::Icmp(kind, code) => (icmp, vec![kind, code, 0, 0, 0, 1, 0, 1]),
            Self::Unreachable(source, destination) => {
                let (kind, code) = if from.is_ipv4() { (3, 3) } else { (1, 4) };
                let lost = with_header(to, from, UDP, &udp(source, destination));
                (icmp, [&[kind, code, 0, 0, 0, 0, 0, 0][..], &lost].concat())
            }
        }
    }

    /// The packet, padded to this length in bytes.
    pub(super) fn packet(&self, from: IpAddr, to: IpAddr, length: u16) -> Vec<u8> {
        let (protocol, mut bytes) = self.bytes(from, to);
        let header = if from.is_ipv4() { 20 } else { 40 };
        bytes.resize(usize::from(length) - header, 0);
        let length = u16::try_from(bytes.len()).expect("a short packet");
        match self {
            Self::Udp(..) => bytes[4..6].copy_from_slice(&length.to_be_bytes()),
            Self::Icmp(..) | Self::Unreachable(..) => {
                let sum = checksum(&[pseudo_header(from, to, length), bytes.clone()].concat());
                bytes[2..4].copy_from_slice(&sum.to_be_bytes());
            }
            Self::Tcp(..) | Self::Esp | Self::Ah | Self::Gre => {}
        }
        with_header(from, to, protocol, &bytes)
    }
}

/// What the checksum of ICMPv6 covers besides the message (RFC 4443, section 2.3); ICMP's covers nothing.
fn pseudo_header(from: IpAddr, to: IpAddr, length: u16) -> Vec<u8> {
    match (from, to) {
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            let [high, low] = length.to_be_bytes();
            [&from.octets()[..], &to.octets(), &[0, 0, high, low, 0, 0, 0, ICMPV6]].concat()
        }
        (IpAddr::V4(_), _) | (_, IpAddr::V4(_)) => Vec::new(),
    }
}

/// RFC 1071.
fn checksum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks(2).map(|word| match *word {
        [high, low] => u32::from(u16::from_be_bytes([high, low])),
        [high] => u32::from(high) << 8,
        _ => 0,
    });
    let sum: u32 = words.sum();
    let folded = (sum >> 16) + (sum & 0xffff);
    !u16::try_from((folded >> 16) + (folded & 0xffff)).expect("16 bits")
}

fn flags(letters: &str) -> u8 {
    let bit = |letter| match letter {
        'S' => 0x02,
        'R' => 0x04,
        'A' => 0x10,
        other => panic!("no flag {other}"),
    };
    letters.chars().map(bit).sum()
}

fn udp(source: u16, destination: u16) -> Vec<u8> {
    [source, destination, 8, 0]
        .into_iter()
        .flat_map(u16::to_be_bytes)
        .collect()
}

/// The first packet of its direction: it acknowledges, if it does, the first of the other.
fn tcp(source: u16, destination: u16, flags: u8) -> Vec<u8> {
    let ports = [source, destination].into_iter().flat_map(u16::to_be_bytes);
    let numbers = [0, 0, 0, 1, 0, 0, 0, if flags & 0x10 == 0 { 0 } else { 2 }];
    let rest = [0x50, flags, 4, 0, 0, 0, 0, 0];
    ports.chain(numbers).chain(rest).collect()
}

fn with_header(from: IpAddr, to: IpAddr, protocol: u8, bytes: &[u8]) -> Vec<u8> {
    let length = |header: usize| {
        u16::try_from(bytes.len() + header)
            .expect("a short packet")
            .to_be_bytes()
    };
    let header = match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            let [high, low] = length(20);
            let head = [0x45, 0, high, low, 0, 1, 0, 0, 64, protocol, 0, 0];
            [&head[..], &from.octets(), &to.octets()].concat()
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            let [high, low] = length(0);
            let head = [0x60, 0, 0, 0, high, low, protocol, 64];
            [&head[..], &from.octets(), &to.octets()].concat()
        }
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => panic!("{from} to {to}"),
    };
    [header, bytes.to_vec()].concat()
}
