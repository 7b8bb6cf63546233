//! Sends a made-up packet through the rules an emulator holds.
//!
//! A test that compares rule texts says that the text is what it was. This module
//! answers the question behind it: does the gateway let the packet through? It
//! follows the rules as the kernel does and tells the verdict, every rule it had to
//! look at (what the packet costs), and the rules that matched.
//!
//! ```text
//! let packet = Packet::between("10.2.0.7", "10.1.0.1").tcp(40000, 443)
//!     .in_by_ipsec("eth0", 7).for_gateway();
//! assert_eq!(trace(&table, &packet).verdict, Verdict::Accept);
//! ```
//!
//! [`trace_packet`] sends it through every table in the order in which the kernel does.

#![allow(
    dead_code,
    unused_imports,
    unreachable_pub,
    reason = "each test binary uses its part of this module"
)]

pub use super::pattern::{AddressRange, Direction, Family, IcmpPattern, InterfacePattern, Net, PolicyMatch, PortRange};
pub use super::trace::{
    Decision, PacketTrace, TableTrace, Trace, Translation, Verdict, after_routing, before_routing, trace, trace_chain,
    trace_packet,
};

use super::pattern::{TcpFlags, address};
use std::net::IpAddr;

pub const ICMP: u8 = 1;
pub const TCP: u8 = 6;
pub const UDP: u8 = 17;
pub const ESP: u8 = 50;
pub const AH: u8 = 51;
pub const ICMPV6: u8 = 58;
pub const IPCOMP: u8 = 108;

/// Where a packet comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum From {
    /// Made by the gateway itself.
    Local,
    /// Received unencrypted.
    Unencrypted(String),
    /// Received under IPsec and decapsulated. The interface is the one the rules see:
    /// the real one, or the XFRM interface the packet came out of.
    Ipsec {
        interface: String,
        reqid: u32,
        protocol: u8,
    },
}

/// Where a packet goes.
///
/// A packet routed *into* an XFRM interface is `Unencrypted` here: the chains see it
/// before the interface has looked for a policy, so `--dir out --pol ipsec` is false.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum To {
    /// To the gateway itself.
    Local,
    /// Leaves unencrypted.
    Unencrypted(String),
    /// Leaves under IPsec because a policy says so.
    Ipsec {
        interface: String,
        reqid: u32,
        protocol: u8,
    },
}

/// What the kernel knows of the connection that a packet belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectionState {
    New,
    Established,
    Related,
    /// It belongs to none and begins none.
    Invalid,
}

/// The way of a packet in its connection: with the first one, or against it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectionDirection {
    Original,
    Reply,
}

/// A packet at the moment the filter table sees it: decapsulated, not yet encrypted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    pub from: From,
    pub to: To,
    pub source: IpAddr,
    pub destination: IpAddr,
    pub protocol: u8,
    pub source_port: u16,
    pub destination_port: u16,
    /// Type and code, for ICMP of either family.
    pub icmp: Option<(u8, u8)>,
    /// A fragment behind the first one carries no ports and no ICMP type.
    pub later_fragment: bool,
    /// The bits of the TCP flags; see [`TcpFlags`].
    pub flags: u8,
    pub state: ConnectionState,
    pub direction: ConnectionDirection,
    /// A conntrack helper expects its connection.
    pub is_expected: bool,
    /// Where the first packet of its connection went, address and port, if a translation has changed that.
    pub requested: Option<(IpAddr, u16)>,
    /// Where the replies of its connection go, if not to the one who began it. It is the new source when that was translated.
    pub replies_to: Option<IpAddr>,
    /// The source of its connection was translated.
    pub source_translated: bool,
    /// The destination of its connection was translated.
    pub destination_translated: bool,
    /// Its source is an address of the gateway. That is so with all that the gateway made.
    pub source_is_ours: bool,
    /// Its mark.
    pub mark: u32,
    /// What MASQUERADE makes of its source.
    pub device_address: Option<IpAddr>,
}

impl Packet {
    /// A packet of protocol 253 (for experiments) that still lacks where it
    /// comes from and where it goes.
    pub fn between(source: &str, destination: &str) -> Self {
        let parsed = |text| address(text).unwrap_or_else(|why| panic!("{why}"));
        Self {
            from: From::Local,
            to: To::Local,
            source: parsed(source),
            destination: parsed(destination),
            protocol: 253,
            source_port: 0,
            destination_port: 0,
            icmp: None,
            later_fragment: false,
            flags: 0,
            state: ConnectionState::New,
            direction: ConnectionDirection::Original,
            is_expected: false,
            requested: None,
            replies_to: None,
            source_translated: false,
            destination_translated: false,
            source_is_ours: false,
            mark: 0,
            device_address: None,
        }
    }

    pub fn protocol(mut self, protocol: u8) -> Self {
        self.protocol = protocol;
        self
    }

    pub fn ports(mut self, source: u16, destination: u16) -> Self {
        self.source_port = source;
        self.destination_port = destination;
        self
    }

    pub fn tcp(self, source_port: u16, destination_port: u16) -> Self {
        self.protocol(TCP).ports(source_port, destination_port)
    }

    pub fn udp(self, source_port: u16, destination_port: u16) -> Self {
        self.protocol(UDP).ports(source_port, destination_port)
    }

    /// ICMP of the family of the addresses.
    pub fn icmp(mut self, kind: u8, code: u8) -> Self {
        self.icmp = Some((kind, code));
        match Family::of_address(self.source) {
            Family::V4 => self.protocol(ICMP),
            Family::V6 => self.protocol(ICMPV6),
        }
    }

    pub fn later_fragment(mut self) -> Self {
        self.later_fragment = true;
        self
    }

    /// The first packet of a TCP connection.
    pub fn syn(self) -> Self {
        self.flags("SYN")
    }

    /// TCP flags as `--tcp-flags` names them.
    pub fn flags(mut self, names: &str) -> Self {
        self.flags = TcpFlags::bits(names).unwrap_or_else(|why| panic!("{why}"));
        self
    }

    /// It is of this state; what is not said is new.
    pub fn state(mut self, state: ConnectionState) -> Self {
        self.state = state;
        self
    }

    /// It answers a packet that passed. Its addresses are those that it has behind the translation back.
    pub fn reply(mut self) -> Self {
        self.direction = ConnectionDirection::Reply;
        self.state(ConnectionState::Established)
    }

    /// It is an ICMP error about a packet that went the other way, in a connection that began there.
    pub fn error_about_theirs(mut self) -> Self {
        self.direction = ConnectionDirection::Reply;
        self.state(ConnectionState::Related)
    }

    /// A conntrack helper expects its connection.
    pub fn expected(mut self) -> Self {
        self.is_expected = true;
        self
    }

    /// The source of its connection became this, to which the replies go.
    pub fn source_translated(mut self, to: &str) -> Self {
        self.source_translated = true;
        self.replies_to = Some(address(to).unwrap_or_else(|why| panic!("{why}")));
        self
    }

    /// The first packet of its connection went there, before a DNAT rule of the administrator's.
    pub fn requested(mut self, address: IpAddr, port: u16) -> Self {
        self.requested = Some((address, port));
        self.destination_translated()
    }

    /// The destination of its connection became another.
    pub fn destination_translated(mut self) -> Self {
        self.destination_translated = true;
        self
    }

    /// Its source is an address of the gateway, wherever the packet comes from.
    pub fn with_our_source(mut self) -> Self {
        self.source_is_ours = true;
        self
    }

    /// The address of the interface by which it leaves.
    pub fn device_address(mut self, device_address: &str) -> Self {
        self.device_address = Some(address(device_address).unwrap_or_else(|why| panic!("{why}")));
        self
    }

    pub fn made_here(mut self) -> Self {
        self.from = From::Local;
        self
    }

    pub fn in_by(mut self, interface: &str) -> Self {
        self.from = From::Unencrypted(interface.to_owned());
        self
    }

    /// Decapsulated from ESP. For AH or IPComp write the field `from` itself.
    pub fn in_by_ipsec(mut self, interface: &str, reqid: u32) -> Self {
        self.from = From::Ipsec {
            interface: interface.to_owned(),
            reqid,
            protocol: ESP,
        };
        self
    }

    pub fn for_gateway(mut self) -> Self {
        self.to = To::Local;
        self
    }

    pub fn out_by(mut self, interface: &str) -> Self {
        self.to = To::Unencrypted(interface.to_owned());
        self
    }

    /// Leaves under ESP. For AH or IPComp write the field `to` itself.
    pub fn out_by_ipsec(mut self, interface: &str, reqid: u32) -> Self {
        self.to = To::Ipsec {
            interface: interface.to_owned(),
            reqid,
            protocol: ESP,
        };
        self
    }

    /// The built-in chain the packet goes through.
    pub fn built_in_chain(&self) -> &'static str {
        match (&self.from, &self.to) {
            (From::Local, To::Local) => panic!(
                "a packet from the gateway to itself passes OUTPUT and then INPUT: \
                 trace one half, to or from the device lo"
            ),
            (From::Unencrypted(_) | From::Ipsec { .. }, To::Local) => "INPUT",
            (From::Local, To::Unencrypted(_) | To::Ipsec { .. }) => "OUTPUT",
            (From::Unencrypted(_) | From::Ipsec { .. }, To::Unencrypted(_) | To::Ipsec { .. }) => "FORWARD",
        }
    }

    /// The interface it came in by: the empty name for what the gateway made.
    pub(super) fn in_device(&self) -> &str {
        match &self.from {
            From::Local => "",
            From::Unencrypted(interface) | From::Ipsec { interface, .. } => interface,
        }
    }

    pub(super) fn out_device(&self) -> &str {
        match &self.to {
            To::Local => "",
            To::Unencrypted(interface) | To::Ipsec { interface, .. } => interface,
        }
    }

    /// Where the replies of its connection go.
    pub fn reply_destination(&self) -> IpAddr {
        let unchanged = match self.direction {
            ConnectionDirection::Original => self.source,
            ConnectionDirection::Reply => self.destination,
        };
        self.replies_to.unwrap_or(unchanged)
    }

    /// Where the first packet of its connection went, address and port.
    pub fn request(&self) -> (IpAddr, u16) {
        let unchanged = match self.direction {
            ConnectionDirection::Original => (self.destination, self.destination_port),
            ConnectionDirection::Reply => (self.source, self.source_port),
        };
        self.requested.unwrap_or(unchanged)
    }

    /// The port that it came from.
    pub fn request_source_port(&self) -> u16 {
        match self.direction {
            ConnectionDirection::Original => self.source_port,
            ConnectionDirection::Reply => self.destination_port,
        }
    }

    pub fn source_is_local(&self) -> bool {
        self.source_is_ours || self.from == From::Local
    }

    /// Reqid and protocol of the IPsec state on that side of the gateway.
    pub(super) fn sa(&self, direction: Direction) -> Option<(u32, u8)> {
        let came = match self.from {
            From::Local | From::Unencrypted(_) => None,
            From::Ipsec { reqid, protocol, .. } => Some((reqid, protocol)),
        };
        let leaves = match self.to {
            To::Local | To::Unencrypted(_) => None,
            To::Ipsec { reqid, protocol, .. } => Some((reqid, protocol)),
        };
        match direction {
            Direction::In => came,
            Direction::Out => leaves,
        }
    }
}
