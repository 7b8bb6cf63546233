//! Sends a made-up packet through the rules an [`Emulator`] holds.
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
//! The patterns that a rule holds against the fields of a packet are here too, each
//! with the text it is read from: [`Net`], [`AddressRange`], [`PortRange`],
//! [`DevicePattern`], [`IcmpPattern`], [`PolicyMatch`].

#![allow(dead_code, unreachable_pub, reason = "each test binary uses its part of this module")]

use super::emulator::{Emulator, Kind, ParsedRule, Table, Target, append_line};
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
    /// Received in clear.
    Device(String),
    /// Received under IPsec and decapsulated. The device is the one the rules see:
    /// the real one, or the XFRM interface the packet came out of.
    Ipsec { device: String, reqid: u32, protocol: u8 },
}

/// Where a packet goes.
///
/// A packet routed *into* an XFRM interface is a `Device` here: the chains see it
/// before the interface has looked for a policy, so `--dir out --pol ipsec` is false.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum To {
    /// To the gateway itself.
    Local,
    /// Leaves in clear.
    Device(String),
    /// Leaves under IPsec because a policy says so.
    Ipsec { device: String, reqid: u32, protocol: u8 },
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
}

impl Packet {
    /// A packet of protocol 253 (for experiments) that still has to be told where it
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
        match Family::of(self.source) {
            Family::V4 => self.protocol(ICMP),
            Family::V6 => self.protocol(ICMPV6),
        }
    }

    pub fn later_fragment(mut self) -> Self {
        self.later_fragment = true;
        self
    }

    pub fn made_here(mut self) -> Self {
        self.from = From::Local;
        self
    }

    pub fn in_by(mut self, device: &str) -> Self {
        self.from = From::Device(device.to_owned());
        self
    }

    /// Decapsulated from ESP. For AH or IPComp write the field `from` itself.
    pub fn in_by_ipsec(mut self, device: &str, reqid: u32) -> Self {
        self.from = From::Ipsec {
            device: device.to_owned(),
            reqid,
            protocol: ESP,
        };
        self
    }

    pub fn for_gateway(mut self) -> Self {
        self.to = To::Local;
        self
    }

    pub fn out_by(mut self, device: &str) -> Self {
        self.to = To::Device(device.to_owned());
        self
    }

    /// Leaves under ESP. For AH or IPComp write the field `to` itself.
    pub fn out_by_ipsec(mut self, device: &str, reqid: u32) -> Self {
        self.to = To::Ipsec {
            device: device.to_owned(),
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
            (From::Device(_) | From::Ipsec { .. }, To::Local) => "INPUT",
            (From::Local, To::Device(_) | To::Ipsec { .. }) => "OUTPUT",
            (From::Device(_) | From::Ipsec { .. }, To::Device(_) | To::Ipsec { .. }) => "FORWARD",
        }
    }

    /// The device it came in by: the empty name for what the gateway made.
    fn in_device(&self) -> &str {
        match &self.from {
            From::Local => "",
            From::Device(device) | From::Ipsec { device, .. } => device,
        }
    }

    fn out_device(&self) -> &str {
        match &self.to {
            To::Local => "",
            To::Device(device) | To::Ipsec { device, .. } => device,
        }
    }

    /// Reqid and protocol of the IPsec state on that side of the gateway.
    fn state(&self, direction: Direction) -> Option<(u32, u8)> {
        let came = match self.from {
            From::Local | From::Device(_) => None,
            From::Ipsec { reqid, protocol, .. } => Some((reqid, protocol)),
        };
        let leaves = match self.to {
            To::Local | To::Device(_) => None,
            To::Ipsec { reqid, protocol, .. } => Some((reqid, protocol)),
        };
        match direction {
            Direction::In => came,
            Direction::Out => leaves,
        }
    }
}

/// What became of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Accept,
    Drop,
    Reject,
    /// Its source or its destination is this from now on.
    Translate(Direction, IpAddr),
    /// It came to the end of the built-in chain: the rules leave it to the administrator.
    Policy,
}

/// The way of a packet through the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trace {
    pub verdict: Verdict,
    /// Chain and index (from 0, as in [`Emulator::rules`]) of each rule looked at.
    pub looked_at: Vec<(String, usize)>,
    /// The rules that matched, written as `-A CHAIN rule`.
    pub matched: Vec<String>,
}

impl Trace {
    /// How many rules the packet was held against.
    pub fn cost(&self) -> usize {
        self.looked_at.len()
    }

    /// How many copies of the packet went to a log group.
    pub fn copies(&self) -> usize {
        self.matched.iter().filter(|rule| rule.contains(" -j NFLOG ")).count()
    }
}

/// What the packet does behind a rule that was looked at.
enum Move {
    NextRule,
    LeaveChain,
    Jump(String),
    Goto(String),
    End(Verdict),
}

/// Sends the packet through the filter table.
pub fn trace(tables: &Emulator, packet: &Packet) -> Trace {
    walk(tables.table(Kind::Filter), packet.built_in_chain(), packet)
}

/// The first packet of a connection as it is behind PREROUTING of the nat table: whether it goes to the gateway is decided by the destination
/// that it has then.
pub fn before_routing(tables: &Emulator, packet: &Packet) -> Packet {
    let verdict = walk(tables.table(Kind::Nat), "PREROUTING", packet).verdict;
    translated(packet, verdict)
}

/// The first packet of a connection as it is behind POSTROUTING of the nat table.
pub fn after_routing(tables: &Emulator, packet: &Packet) -> Packet {
    let verdict = walk(tables.table(Kind::Nat), "POSTROUTING", packet).verdict;
    translated(packet, verdict)
}

fn translated(packet: &Packet, verdict: Verdict) -> Packet {
    let mut packet = packet.clone();
    match verdict {
        Verdict::Translate(Direction::In, address) => packet.destination = address,
        Verdict::Translate(Direction::Out, address) => packet.source = address,
        Verdict::Accept | Verdict::Drop | Verdict::Reject | Verdict::Policy => {}
    }
    packet
}

fn walk(table: &Table, built_in: &str, packet: &Packet) -> Trace {
    check_family(table, packet);
    let mut trace = Trace {
        verdict: Verdict::Policy,
        looked_at: Vec::new(),
        matched: Vec::new(),
    };
    // The return addresses: only -j leaves one. So a chain reached by -g ends as the
    // chain that held the goto would have ended.
    let mut callers = Vec::new();
    let mut here = (built_in.to_owned(), 0);
    loop {
        let next = look_at(table, packet, &here, &mut trace);
        here.1 += 1;
        match next {
            Move::NextRule => {}
            Move::Jump(chain) => callers.push(std::mem::replace(&mut here, (chain, 0))),
            Move::Goto(chain) => here = (chain, 0),
            Move::LeaveChain => match callers.pop() {
                Some(caller) => here = caller,
                None => return trace,
            },
            Move::End(verdict) => return Trace { verdict, ..trace },
        }
    }
}

/// Holds the packet against one rule; behind the last rule the chain is left.
fn look_at(table: &Table, packet: &Packet, here: &(String, usize), trace: &mut Trace) -> Move {
    let (chain, index) = here;
    let Some(rule) = table.parsed_rules(chain).get(*index) else {
        return Move::LeaveChain;
    };
    trace.looked_at.push(here.clone());
    if !matches(rule, packet) {
        return Move::NextRule;
    }
    let text = &table.rules(chain)[*index];
    trace.matched.push(append_line(chain, text));
    match &rule.target {
        None | Some(Target::Log | Target::Nflog(..)) => Move::NextRule,
        Some(Target::Snat(address)) => Move::End(Verdict::Translate(Direction::Out, *address)),
        Some(Target::Dnat(address)) => Move::End(Verdict::Translate(Direction::In, *address)),
        Some(Target::Accept) => Move::End(Verdict::Accept),
        Some(Target::Drop) => Move::End(Verdict::Drop),
        Some(Target::Reject) => Move::End(Verdict::Reject),
        Some(Target::Return) => Move::LeaveChain,
        Some(Target::Jump(chain)) => Move::Jump(chain.clone()),
        Some(Target::Goto(chain)) => Move::Goto(chain.clone()),
    }
}

/// A packet of the other family never meets this table: such a question is a slip.
fn check_family(table: &Table, packet: &Packet) {
    let family = Family::of(packet.source);
    assert_eq!(family, Family::of(packet.destination), "a packet has one family");
    if let Some(of_table) = table.family() {
        assert_eq!(family, of_table, "the table is of the other family");
    }
}

/// Whether every condition of the rule holds for the packet.
fn matches(rule: &ParsedRule, packet: &Packet) -> bool {
    // -p 0 is how iptables writes "any protocol".
    let protocol = rule.protocol.filter(|protocol| *protocol != 0);
    protocol.is_none_or(|protocol| protocol == packet.protocol)
        && addresses_match(rule, packet)
        && devices_match(rule, packet)
        && transport_matches(rule, packet)
        && rule.policy.is_none_or(|policy| policy.matches(packet))
}

fn addresses_match(rule: &ParsedRule, packet: &Packet) -> bool {
    let (from, to) = (packet.source, packet.destination);
    rule.source.is_none_or(|net| net.contains(from))
        && rule.destination.is_none_or(|net| net.contains(to))
        && rule.source_ranges.iter().all(|range| range.contains(from))
        && rule.destination_ranges.iter().all(|range| range.contains(to))
}

fn devices_match(rule: &ParsedRule, packet: &Packet) -> bool {
    let holds =
        |pattern: &Option<DevicePattern>, device: &str| pattern.as_ref().is_none_or(|pattern| pattern.matches(device));
    holds(&rule.in_device, packet.in_device()) && holds(&rule.out_device, packet.out_device())
}

/// Ports and ICMP type. A later fragment has none, and every match that would read
/// them is false for it.
fn transport_matches(rule: &ParsedRule, packet: &Packet) -> bool {
    if rule.reads_transport_header && packet.later_fragment {
        return false;
    }
    let mut sources = rule.source_ports.iter();
    let mut destinations = rule.destination_ports.iter();
    sources.all(|range| range.contains(packet.source_port))
        && destinations.all(|range| range.contains(packet.destination_port))
        && rule.icmp.is_none_or(|pattern| pattern.matches(packet.icmp))
}

/// The two families; a table is of one of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    V4,
    V6,
}

impl Family {
    pub fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }
}

fn address(text: &str) -> Result<IpAddr, String> {
    let parsed = text.parse();
    parsed.map_err(|_| format!("host/network `{text}' not found"))
}

/// The address as a number, aligned to the left so that a prefix length counts from
/// the top in both families.
fn left_aligned(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(address.to_bits()) << 96,
        IpAddr::V6(address) => address.to_bits(),
    }
}

/// `-s` and `-d`: an address, or a prefix. Bits behind the prefix do not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Net {
    pub address: IpAddr,
    pub length: u32,
}

impl Net {
    pub fn parse(text: &str) -> Result<Self, String> {
        let (host, length) = match text.split_once('/') {
            Some((host, length)) => (host, Some(length)),
            None => (text, None),
        };
        let address = address(host)?;
        let longest = match Family::of(address) {
            Family::V4 => 32,
            Family::V6 => 128,
        };
        match length.map_or(Ok(longest), str::parse) {
            Ok(length) if length <= longest => Ok(Self { address, length }),
            Ok(_) | Err(_) => Err(format!("invalid mask in `{text}'")),
        }
    }

    pub fn contains(self, address: IpAddr) -> bool {
        let differing = left_aligned(self.address) ^ left_aligned(address);
        Family::of(self.address) == Family::of(address) && differing.leading_zeros() >= self.length
    }
}

/// `--src-range A-B`, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddressRange {
    pub first: IpAddr,
    pub last: IpAddr,
}

impl AddressRange {
    pub fn parse(text: &str) -> Result<Self, String> {
        let ends = text.split_once('-');
        let (first, last) = ends.ok_or_else(|| format!("`{text}' is not a range"))?;
        let (first, last) = (address(first)?, address(last)?);
        // iptables takes a reversed range with a mere warning; a test wants to know.
        if first > last || Family::of(first) != Family::of(last) {
            return Err(format!("range {text} is reversed and will never match"));
        }
        Ok(Self { first, last })
    }

    pub fn contains(self, address: IpAddr) -> bool {
        (self.first..=self.last).contains(&address)
    }
}

/// A port, or ports from the first to the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortRange {
    pub first: u16,
    pub last: u16,
}

impl PortRange {
    /// As `--sport` and `--dport` take it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (first, last) = text.split_once(':').unwrap_or((text, text));
        let invalid = |port| format!("invalid port/service `{port}' specified");
        let first = first.parse().map_err(|_| invalid(first))?;
        let last = last.parse().map_err(|_| invalid(last))?;
        if first > last {
            return Err("invalid portrange (min > max)".to_owned());
        }
        Ok(Self { first, last })
    }

    /// As `--sports` and `--dports` take it, to which `5:5` is an error.
    pub fn parse_multiport(text: &str) -> Result<Self, String> {
        let range = Self::parse(text)?;
        if range.first == range.last && text.contains(':') {
            return Err("invalid portrange specified".to_owned());
        }
        Ok(range)
    }

    pub fn contains(self, port: u16) -> bool {
        (self.first..=self.last).contains(&port)
    }
}

/// `-i` and `-o`: a device, or with a trailing `+` all devices that begin so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DevicePattern {
    Named(String),
    BeginsWith(String),
}

impl DevicePattern {
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() || text.len() > 15 {
            return Err(format!("interface name `{text}' must be 1 to 15 bytes"));
        }
        Ok(match text.strip_suffix('+') {
            Some(beginning) => Self::BeginsWith(beginning.to_owned()),
            None => Self::Named(text.to_owned()),
        })
    }

    pub fn matches(&self, device: &str) -> bool {
        match self {
            Self::Named(name) => device == name,
            Self::BeginsWith(beginning) => device.starts_with(beginning),
        }
    }
}

/// `--icmp-type` and `--icmpv6-type`: without a code, all codes of the type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IcmpPattern {
    pub family: Family,
    pub kind: u8,
    pub code: Option<u8>,
}

impl IcmpPattern {
    pub fn parse(family: Family, text: &str) -> Result<Self, String> {
        let unknown = |_| format!("Unknown ICMP type `{text}'");
        let (kind, code) = match text.split_once('/') {
            Some((kind, code)) => (kind, Some(code.parse().map_err(unknown)?)),
            None => (text, None),
        };
        let kind = kind.parse().map_err(unknown)?;
        Ok(Self { family, kind, code })
    }

    pub fn matches(self, packet: Option<(u8, u8)>) -> bool {
        // To the v4 match, 255 means any type.
        let any = self.family == Family::V4 && self.kind == 255;
        packet.is_some_and(|(kind, code)| any || (kind == self.kind && self.code.is_none_or(|wanted| wanted == code)))
    }
}

/// `--dir`: the side of the gateway a policy match looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    In,
    Out,
}

/// `-m policy`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PolicyMatch {
    pub direction: Direction,
    /// `--pol ipsec`; false for `--pol none`.
    pub ipsec: bool,
    pub reqid: Option<u32>,
    pub protocol: Option<u8>,
}

impl PolicyMatch {
    /// `--pol none` asks for no IPsec at all: a reqid beside it counts for nothing.
    pub fn matches(self, packet: &Packet) -> bool {
        match packet.state(self.direction) {
            None => !self.ipsec,
            Some((reqid, protocol)) => {
                self.ipsec
                    && self.reqid.is_none_or(|wanted| wanted == reqid)
                    && self.protocol.is_none_or(|wanted| wanted == protocol)
            }
        }
    }
}
