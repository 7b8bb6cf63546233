//! The matches of a rule, each with the text it is read from: [`Net`], [`AddressRange`], [`PortRange`],
//! [`InterfacePattern`], [`IcmpPattern`], [`TcpFlags`], [`PolicyMatch`], [`ConnectionMatch`], [`RateLimit`].

#![allow(dead_code, unreachable_pub, reason = "each test binary uses its part of this module")]

use super::packet::{AH, ConnectionDirection, ConnectionState, Packet};
use std::net::IpAddr;

/// A condition, or with a `!` in front of it the contrary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asked<T> {
    Is(T),
    IsNot(T),
}

impl<T> Asked<T> {
    pub fn value(&self) -> &T {
        match self {
            Self::Is(value) | Self::IsNot(value) => value,
        }
    }

    pub fn holds(&self, test: impl FnOnce(&T) -> bool) -> bool {
        match self {
            Self::Is(value) => test(value),
            Self::IsNot(value) => !test(value),
        }
    }
}

/// The two families; a table is of one of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    V4,
    V6,
}

impl Family {
    pub fn of_address(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }
}

pub(super) fn address(text: &str) -> Result<IpAddr, String> {
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
        let longest = match Family::of_address(address) {
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
        Family::of_address(self.address) == Family::of_address(address) && differing.leading_zeros() >= self.length
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
        if first > last || Family::of_address(first) != Family::of_address(last) {
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

    /// As `--sports` and `--dports` take it: a list in which a range counts for two ports, and to which `5:5` is an error.
    pub fn parse_multiport(text: &str) -> Result<Vec<Self>, String> {
        let mut room = 15_usize;
        let mut ranges = Vec::new();
        for part in text.split(',') {
            let range = Self::parse(part)?;
            let is_range = part.contains(':');
            if range.first == range.last && is_range {
                return Err("invalid portrange specified".to_owned());
            }
            room = room
                .checked_sub(1 + usize::from(is_range))
                .ok_or("too many ports specified")?;
            ranges.push(range);
        }
        Ok(ranges)
    }

    pub fn contains(self, port: u16) -> bool {
        (self.first..=self.last).contains(&port)
    }
}

/// `-i` and `-o`: an interface, or with a trailing `+` all interfaces that begin so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InterfacePattern {
    Named(String),
    BeginsWith(String),
}

impl InterfacePattern {
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() || text.len() > 15 {
            return Err(format!("interface name `{text}' must be 1 to 15 bytes"));
        }
        Ok(match text.strip_suffix('+') {
            Some(beginning) => Self::BeginsWith(beginning.to_owned()),
            None => Self::Named(text.to_owned()),
        })
    }

    pub fn matches(&self, interface: &str) -> bool {
        match self {
            Self::Named(name) => interface == name,
            Self::BeginsWith(beginning) => interface.starts_with(beginning),
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
    /// `--pol none` asks for no IPsec at all: a reqid beside it has no effect.
    pub fn matches(self, packet: &Packet) -> bool {
        match packet.sa(self.direction) {
            None => !self.ipsec,
            Some((reqid, protocol)) => {
                self.ipsec
                    && self.reqid.is_none_or(|wanted| wanted == reqid)
                    && self.protocol.is_none_or(|wanted| wanted == protocol)
            }
        }
    }
}

/// `--tcp-flags MASK SET`: of the flags in the mask exactly these are set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TcpFlags {
    pub mask: u8,
    pub set: u8,
}

impl TcpFlags {
    pub const SYN: u8 = 2;
    const NAMES: [(&'static str, u8); 8] = [
        ("FIN", 1),
        ("SYN", Self::SYN),
        ("RST", 4),
        ("PSH", 8),
        ("ACK", 16),
        ("URG", 32),
        ("ALL", 63),
        ("NONE", 0),
    ];

    pub fn parse(mask: &str, set: &str) -> Result<Self, String> {
        Ok(Self {
            mask: Self::bits(mask)?,
            set: Self::bits(set)?,
        })
    }

    /// The bits of `SYN,ACK`. The command takes small letters and empty names too.
    pub fn bits(text: &str) -> Result<u8, String> {
        text.split(',').try_fold(0, |bits, name| {
            let known = Self::NAMES.iter().find(|(known, _)| *known == name);
            let (_, bit) = known.ok_or_else(|| format!("Unknown TCP flag `{name}'"))?;
            Ok(bits | bit)
        })
    }

    pub fn matches(self, flags: u8) -> bool {
        flags & self.mask == self.set
    }
}

/// One of the words of `--ctstate`. The last two are no states: they say what was done to the addresses of the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StateWord {
    State(ConnectionState),
    Snat,
    Dnat,
}

impl StateWord {
    fn parse(text: &str) -> Result<Self, String> {
        Ok(match text {
            "NEW" => Self::State(ConnectionState::New),
            "ESTABLISHED" => Self::State(ConnectionState::Established),
            "RELATED" => Self::State(ConnectionState::Related),
            "INVALID" => Self::State(ConnectionState::Invalid),
            "SNAT" => Self::Snat,
            "DNAT" => Self::Dnat,
            _ => return Err(format!("Bad ctstate \"{text}\"")),
        })
    }

    fn holds(self, packet: &Packet) -> bool {
        let is_known = packet.state != ConnectionState::Invalid;
        match self {
            Self::State(state) => packet.state == state,
            Self::Snat => is_known && packet.source_translated,
            Self::Dnat => is_known && packet.destination_translated,
        }
    }
}

/// `-m conntrack`. What is `None` is not asked; one of them must be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConnectionMatch {
    /// One of these must hold.
    pub states: Option<Vec<StateWord>>,
    /// Where the first packet of the connection went, before any translation.
    pub requested: Option<Net>,
    /// From which port it came, and to which it went.
    pub requested_ports: [Option<PortRange>; 2],
    pub reply_destination: Option<Net>,
    pub direction: Option<ConnectionDirection>,
    /// `--ctstatus EXPECTED`.
    pub is_expected: Option<bool>,
}

impl ConnectionMatch {
    pub fn parse_states(text: &str) -> Result<Vec<StateWord>, String> {
        text.split(',').map(StateWord::parse).collect()
    }

    /// What belongs to no connection has no direction and no reply: the kernel asks it for its state only, and when it is not asked
    /// for that it does not match.
    pub fn matches(&self, packet: &Packet) -> bool {
        let one_of = |words: &Vec<StateWord>| words.iter().any(|word| word.holds(packet));
        if packet.state == ConnectionState::Invalid {
            return self.states.as_ref().is_some_and(one_of);
        }
        self.states.as_ref().is_none_or(one_of)
            && self.direction.is_none_or(|direction| direction == packet.direction)
            && self.requested.is_none_or(|net| net.contains(packet.request().0))
            && self.requested_ports[0].is_none_or(|ports| ports.contains(packet.request_source_port()))
            && self.requested_ports[1].is_none_or(|ports| ports.contains(packet.request().1))
            && self
                .is_expected
                .is_none_or(|is_expected| is_expected == packet.is_expected)
            && self
                .reply_destination
                .is_none_or(|net| net.contains(packet.reply_destination()))
    }
}

/// A value and the mask beside it, `0x1/0x1`, as they are printed: in hexadecimal, and the mask always.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MarkBits {
    pub value: u32,
    pub mask: u32,
}

impl MarkBits {
    pub fn parse(text: &str) -> Result<Self, String> {
        let number = |text: &str| u32::from_str_radix(text.strip_prefix("0x")?, 16).ok();
        let parts = text.split_once('/');
        let bits = parts.and_then(|(value, mask)| {
            Some(Self {
                value: number(value)?,
                mask: number(mask)?,
            })
        });
        bits.ok_or_else(|| format!("mark: bad value \"{text}\""))
    }

    /// What `--set-xmark` makes of a mark.
    pub fn set(self, mark: u32) -> u32 {
        (mark & !self.mask) ^ self.value
    }
}

/// `-m limit`: so many packets a minute or second, after so many at once. There is one packet only, so that nobody counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateLimit;

impl RateLimit {
    /// So much of both that neither backend computes it out of its 32 bits; the fastest is the kernel's clock tick.
    pub fn parse(rate: &str, burst: Option<&str>) -> Result<Self, String> {
        let (packets, unit) = rate.split_once('/').ok_or("a rate without a unit")?;
        let fastest = match unit {
            "sec" => 10_000,
            "min" => 600_000,
            _ => return Err(format!("bad rate \"{rate}\"'")),
        };
        let is_within = |text: &str, most: u32| text.parse::<u32>().is_ok_and(|number| (1..=most).contains(&number));
        match is_within(packets, fastest) && burst.is_none_or(|burst| is_within(burst, 1000)) {
            true => Ok(Self),
            false => Err(format!("a rate of {rate} and a burst of {burst:?} are out of range")),
        }
    }
}

/// What a rule asks for with an `-m`, options and all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Match {
    /// `tcp`, `udp`.
    Transport {
        source: Option<PortRange>,
        destination: Option<PortRange>,
        flags: Option<TcpFlags>,
    },
    /// `multiport --sports`.
    SourcePorts(Vec<PortRange>),
    /// `multiport --dports`.
    DestinationPorts(Vec<PortRange>),
    Icmp(IcmpPattern),
    /// `ah`, of IPv6.
    Authentication,
    Addresses {
        source: Option<Asked<AddressRange>>,
        destination: Option<Asked<AddressRange>>,
    },
    Policy(PolicyMatch),
    Connection(ConnectionMatch),
    /// `addrtype --src-type LOCAL`.
    SourceIsLocal(Asked<()>),
    Mark(Asked<MarkBits>),
    Limit(RateLimit),
    Comment(String),
}

impl Match {
    /// Whether it holds for the packet. A later fragment has no ports, no flags and no ICMP type, and what would read them is
    /// false for it. Whether the rate is exceeded is not asked: there is one packet only.
    pub fn matches(&self, packet: &Packet) -> bool {
        let any_of = |ranges: &[PortRange], port| ranges.iter().any(|range| range.contains(port));
        match self {
            Self::Transport {
                source,
                destination,
                flags,
            } => {
                !packet.later_fragment
                    && source.is_none_or(|range| range.contains(packet.source_port))
                    && destination.is_none_or(|range| range.contains(packet.destination_port))
                    && flags.is_none_or(|flags| flags.matches(packet.flags))
            }
            Self::SourcePorts(ranges) => !packet.later_fragment && any_of(ranges, packet.source_port),
            Self::DestinationPorts(ranges) => !packet.later_fragment && any_of(ranges, packet.destination_port),
            Self::Icmp(pattern) => !packet.later_fragment && pattern.matches(packet.icmp),
            Self::Authentication => packet.protocol == AH,
            Self::Addresses { source, destination } => {
                let holds = |asked: &Option<Asked<AddressRange>>, address| {
                    let asked = asked.as_ref();
                    asked.is_none_or(|asked| asked.holds(|range| range.contains(address)))
                };
                holds(source, packet.source) && holds(destination, packet.destination)
            }
            Self::Policy(policy) => policy.matches(packet),
            Self::Connection(connection) => connection.matches(packet),
            Self::SourceIsLocal(asked) => asked.holds(|()| packet.source_is_local()),
            Self::Mark(asked) => asked.holds(|bits| packet.mark & bits.mask == bits.value),
            Self::Limit(_) | Self::Comment(_) => true,
        }
    }

    pub fn policy(&self) -> Option<PolicyMatch> {
        if let Self::Policy(policy) = self {
            return Some(*policy);
        }
        None
    }

    /// The families that parts of it belong to.
    pub fn families(&self) -> Vec<Family> {
        match self {
            Self::Icmp(pattern) => vec![pattern.family],
            Self::Authentication => vec![Family::V6],
            Self::Addresses { source, destination } => {
                let ranges = source.iter().chain(destination);
                ranges.map(|range| Family::of_address(range.value().first)).collect()
            }
            Self::Connection(connection) => {
                let net = connection.reply_destination.iter();
                net.map(|net| Family::of_address(net.address)).collect()
            }
            Self::Transport { .. }
            | Self::SourcePorts(_)
            | Self::DestinationPorts(_)
            | Self::Policy(_)
            | Self::SourceIsLocal(_)
            | Self::Mark(_)
            | Self::Limit(_)
            | Self::Comment(_) => Vec::new(),
        }
    }
}
