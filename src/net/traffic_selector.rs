//! The traffic that a selector covers: protocol, ports, ICMP type.

use std::fmt;
use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};

use super::network::Family;

/// An IP protocol number (IANA), 1 to 255. Zero, "any", is [`Traffic::Any`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Protocol(pub std::num::NonZeroU8);

impl Protocol {
    /// The number.
    #[must_use]
    pub fn number(self) -> u8 {
        self.0.get()
    }

    /// The protocol of ICMP in a family: 1, or 58 for ICMPv6.
    #[must_use]
    pub fn icmp(family: Family) -> u8 {
        match family {
            Family::Ipv4 => 1,
            Family::Ipv6 => 58,
        }
    }
}

/// The protocols whose ports iptables can match.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PortProtocol {
    /// 6
    Tcp,
    /// 17
    Udp,
    /// 33
    Dccp,
    /// 132
    Sctp,
    /// 136
    UdpLite,
}

impl PortProtocol {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Tcp, Self::Udp, Self::Dccp, Self::Sctp, Self::UdpLite];

    /// Its IANA number.
    #[must_use]
    pub fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
            Self::Dccp => 33,
            Self::Sctp => 132,
            Self::UdpLite => 136,
        }
    }

    /// The protocol of that number, if it is one with ports.
    #[must_use]
    pub(crate) fn from_number(protocol: Protocol) -> Option<Self> {
        Self::ALL.into_iter().find(|known| known.number() == protocol.number())
    }

    /// The name that iptables and `/etc/protocols` know it by.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Dccp => "dccp",
            Self::Sctp => "sctp",
            Self::UdpLite => "udplite",
        }
    }
}

/// The ports at one end.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Ports {
    /// Every port.
    Any,
    /// From the first to the last, both included. `0..=0` stands for OPAQUE (RFC 7296, section
    /// 3.13.1): the kernel's policy then matches only port 0, and so do the rules.
    Range(RangeInclusive<u16>),
}

impl Ports {
    /// A single port.
    #[must_use]
    pub fn single(port: u16) -> Self {
        Self::Range(port..=port)
    }
}

impl fmt::Display for Ports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("any"),
            Self::Range(ports) if ports.start() == ports.end() => write!(f, "{}", ports.start()),
            Self::Range(ports) => write!(f, "{}:{}", ports.start(), ports.end()),
        }
    }
}

/// One kind of ICMP (or ICMPv6) message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Icmp {
    /// A type with all of its codes.
    Type(u8),
    /// A type with one code.
    Code(u8, u8),
}

impl fmt::Display for Icmp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Type(kind) => write!(f, "{kind}"),
            Self::Code(kind, code) => write!(f, "{kind}/{code}"),
        }
    }
}

/// The traffic of a tunnel between its two networks.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Traffic {
    /// Everything.
    Any,
    /// One protocol, whatever its ports or types.
    Protocol(Protocol),
    /// One protocol between these ports. Not both are [`Ports::Any`].
    Ports {
        /// The protocol.
        protocol: PortProtocol,
        /// The ports of the local network.
        #[serde(rename = "my")]
        local: Ports,
        /// The ports of the remote network.
        #[serde(rename = "peer")]
        remote: Ports,
    },
    /// ICMP, or ICMPv6 where the networks are IPv6.
    Icmp(Icmp),
}

impl fmt::Display for Traffic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("any"),
            Self::Protocol(protocol) => write!(f, "protocol {}", protocol.number()),
            Self::Ports {
                protocol,
                local,
                remote,
            } => write!(f, "{} {local}<>{remote}", protocol.name()),
            Self::Icmp(icmp) => write!(f, "icmp {icmp}"),
        }
    }
}

impl Ports {
    /// The ports that both have; nothing, if there are none.
    fn intersect(&self, other: &Self) -> Option<Self> {
        match (self, other) {
            (Self::Any, ports) | (ports, Self::Any) => Some(ports.clone()),
            (Self::Range(a), Self::Range(b)) => {
                let (first, last) = (*a.start().max(b.start()), *a.end().min(b.end()));
                (first <= last).then_some(Self::Range(first..=last))
            }
        }
    }
}

impl Ports {
    /// How many there are.
    fn count(&self) -> u64 {
        match self {
            Self::Any => 1 << 16,
            Self::Range(ports) => ports.len() as u64,
        }
    }
}

impl Icmp {
    fn intersect(self, other: Self) -> Option<Self> {
        match (self, other) {
            (Self::Type(a), Self::Type(b)) => (a == b).then_some(self),
            (Self::Type(kind), both @ Self::Code(other, _)) | (both @ Self::Code(other, _), Self::Type(kind)) => {
                (kind == other).then_some(both)
            }
            (Self::Code(..), Self::Code(..)) => (self == other).then_some(self),
        }
    }
}

impl Traffic {
    /// The traffic that both cover, between networks of this family; `None` if there is none.
    #[must_use]
    pub fn intersect(&self, other: &Self, family: Family) -> Option<Self> {
        match (self, other) {
            (Self::Any, traffic) | (traffic, Self::Any) => Some(traffic.clone()),
            (Self::Protocol(protocol), traffic) | (traffic, Self::Protocol(protocol)) => {
                (traffic.protocol(family) == Some(protocol.number())).then(|| traffic.clone())
            }
            (Self::Icmp(a), Self::Icmp(b)) => a.intersect(*b).map(Self::Icmp),
            (
                Self::Ports {
                    protocol,
                    local,
                    remote,
                },
                Self::Ports {
                    protocol: other_protocol,
                    local: other_local,
                    remote: other_remote,
                },
            ) if protocol == other_protocol => Some(Self::Ports {
                protocol: *protocol,
                local: local.intersect(other_local)?,
                remote: remote.intersect(other_remote)?,
            }),
            (Self::Icmp(_) | Self::Ports { .. }, Self::Icmp(_) | Self::Ports { .. }) => None,
        }
    }

    /// How many kinds of packets it covers: pairs of ports, or types and codes. A protocol counts
    /// as more than all pairs of ports, everything as most.
    #[must_use]
    pub(crate) fn breadth(&self) -> u64 {
        const PAIRS: u64 = 1 << 32;
        match self {
            Self::Any => u64::MAX,
            Self::Protocol(_) => PAIRS + 1,
            Self::Ports { local, remote, .. } => local.count() * remote.count(),
            Self::Icmp(Icmp::Type(_)) => 256,
            Self::Icmp(Icmp::Code(..)) => 1,
        }
    }

    /// The number of its protocol, if it is of one.
    #[must_use]
    pub fn protocol(&self, family: Family) -> Option<u8> {
        match self {
            Self::Any => None,
            Self::Protocol(protocol) => Some(protocol.number()),
            Self::Ports { protocol, .. } => Some(protocol.number()),
            Self::Icmp(_) => Some(Protocol::icmp(family)),
        }
    }
}

/// The protocol of a security association.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SaProtocol {
    /// Encapsulating Security Payload, RFC 4303
    Esp,
    /// Authentication Header, RFC 4302
    Ah,
    /// IP Payload Compression, RFC 3173
    Ipcomp,
}

impl fmt::Display for SaProtocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Esp => "esp",
            Self::Ah => "ah",
            Self::Ipcomp => "ipcomp",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp(local: Ports, remote: Ports) -> Traffic {
        Traffic::Ports {
            protocol: PortProtocol::Tcp,
            local,
            remote,
        }
    }

    fn protocol(number: u8) -> Traffic {
        Traffic::Protocol(Protocol(number.try_into().unwrap()))
    }

    #[test]
    fn what_two_kinds_of_traffic_have_in_common_is_of_both() {
        let ssh = tcp(Ports::single(22), Ports::Any);
        let from_high = tcp(Ports::Any, Ports::Range(1024..=65535));
        let both = tcp(Ports::single(22), Ports::Range(1024..=65535));
        let and = |a: &Traffic, b: &Traffic| {
            let common = a.intersect(b, Family::Ipv4);
            assert_eq!(common, b.intersect(a, Family::Ipv4), "{a} {b}");
            common
        };
        assert_eq!(and(&ssh, &from_high), Some(both));
        assert_eq!(and(&ssh, &Traffic::Any), Some(ssh.clone()));
        assert_eq!(and(&ssh, &protocol(6)), Some(ssh.clone()));
        assert_eq!(and(&ssh, &protocol(17)), None);
        assert_eq!(and(&ssh, &tcp(Ports::single(23), Ports::Any)), None);
        let (kind, code) = (Traffic::Icmp(Icmp::Type(3)), Traffic::Icmp(Icmp::Code(3, 4)));
        assert_eq!(and(&kind, &code), Some(code.clone()));
        assert_eq!(and(&code, &Traffic::Icmp(Icmp::Code(3, 1))), None);
        assert_eq!(and(&code, &protocol(1)), Some(code.clone()));
        assert_eq!(and(&code, &ssh), None);
        assert_eq!(code.intersect(&protocol(1), Family::Ipv6), None);
    }
}
