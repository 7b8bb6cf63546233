//! One rule, and its text in the order and spelling of `iptables -S`.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::target::Target;
use crate::net::{
    Expected, Family, Interface, InterfacePattern, InterfaceWildcard, MarkBit, Network, PortProtocol, Ports,
    SaProtocol, Traffic,
};

/// A rule: its matches and its target.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Rule {
    /// All of these must match. Without any, every packet matches.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub matches: Vec<Match>,
    /// What happens to a matching packet.
    #[serde(rename = "verdict")]
    pub target: Target,
}

impl Rule {
    /// A rule without matches.
    #[must_use]
    pub fn always(target: Target) -> Self {
        Self {
            matches: Vec::new(),
            target,
        }
    }

    /// A rule with one match.
    #[must_use]
    pub fn when(matched: Match, target: Target) -> Self {
        Self {
            matches: vec![matched],
            target,
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for matched in &self.matches {
            write!(f, "{matched} ")?;
        }
        write!(f, "{}", self.target)
    }
}

/// One match of a rule.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Match {
    /// `-s`: the source address.
    Source(Network),
    /// `-d`: the destination address.
    Destination(Network),
    /// `-i`: the receiving interface.
    In(InterfaceMatch),
    /// `-o`: the sending interface.
    Out(InterfaceMatch),
    /// `-p`: protocol, ports or ICMP type, as seen from the gateway. For an inbound packet, the
    /// remote ports are the source ports.
    Traffic(Direction, Family, Traffic),
    /// The source address lies outside this network.
    NotSource(Network),
    /// The destination address lies outside this network.
    NotDestination(Network),
    /// The packet arrived by IPsec, or will leave by IPsec.
    Policy(PolicyMatch),
    /// The packet arrived unencrypted, or will leave unencrypted. What arrives on a tunnel
    /// interface counts as unencrypted: for that interface, it is.
    #[serde(rename = "clear")]
    PolicyNone(Direction),
    /// The state in connection tracking.
    #[serde(rename = "state")]
    CtState(CtState),
    /// The packet is a reply in a connection whose source was translated to this address. It has
    /// this destination until it is translated back.
    #[serde(rename = "behind")]
    CtReplDst(IpAddr),
    /// It goes in the direction of its connection's first packet, which was of this kind and, if
    /// one is named, for this network, before any translation of its destination. Seen from the
    /// gateway, as it came in. A prefix: conntrack knows no ranges.
    CtOrig(Family, Traffic, Option<IpNet>),
    /// The source is no address of this machine.
    #[serde(rename = "foreign")]
    SrcNotLocal,
    /// The packet's mark has this bit.
    Mark(MarkBit),
    /// The packet's mark does not have this bit.
    NotMark(MarkBit),
    /// A TCP packet that carries an MSS option: SYN or SYN,ACK.
    Syn,
    /// At most ten packets a minute, after a burst of five.
    #[serde(rename = "rate")]
    Limit,
    /// Matches every packet; a comment for whoever reads the rule.
    Comment(Comment),
}

impl Match {
    /// The reqid that the match requires.
    #[must_use]
    pub fn reqid(&self) -> Option<u32> {
        match self {
            Self::Policy(policy) => policy.reqid,
            Self::Source(_)
            | Self::Destination(_)
            | Self::In(_)
            | Self::Out(_)
            | Self::Traffic(..)
            | Self::NotSource(_)
            | Self::NotDestination(_)
            | Self::PolicyNone(_)
            | Self::CtState(_)
            | Self::CtReplDst(_)
            | Self::CtOrig(..)
            | Self::SrcNotLocal
            | Self::Mark(_)
            | Self::NotMark(_)
            | Self::Syn
            | Self::Limit
            | Self::Comment(_) => None,
        }
    }
}

impl fmt::Display for Match {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Source(Network::Prefix(prefix)) => write!(f, "-s {prefix}"),
            Self::Source(range @ Network::Range(..)) => write!(f, "-m iprange --src-range {range}"),
            Self::Destination(Network::Prefix(prefix)) => write!(f, "-d {prefix}"),
            Self::Destination(range @ Network::Range(..)) => write!(f, "-m iprange --dst-range {range}"),
            Self::In(interface) => write!(f, "-i {interface}"),
            Self::Out(interface) => write!(f, "-o {interface}"),
            Self::Traffic(direction, family, traffic) => write_traffic(f, *direction, *family, traffic),
            // Follows a match on the source network, which takes the `-s`.
            Self::NotSource(network) => write!(f, "-m iprange ! --src-range {}", AddressRange(network)),
            Self::NotDestination(network) => write!(f, "-m iprange ! --dst-range {}", AddressRange(network)),
            Self::Policy(policy) => write!(f, "{policy}"),
            Self::PolicyNone(direction) => write!(f, "-m policy --dir {direction} --pol none"),
            Self::CtState(state) => write!(f, "-m conntrack --ctstate {state}"),
            Self::CtReplDst(address) => {
                write!(
                    f,
                    "-m conntrack --ctstate {} --ctrepldst {address} --ctdir REPLY",
                    CtState::RelatedEstablished
                )
            }
            Self::CtOrig(family, traffic, network) => write_requested(f, *family, traffic, *network),
            Self::SrcNotLocal => f.write_str("-m addrtype ! --src-type LOCAL"),
            Self::Mark(bit) => write!(f, "-m mark --mark {bit}/{bit}"),
            Self::NotMark(bit) => write!(f, "-m mark ! --mark {bit}/{bit}"),
            Self::Syn => f.write_str("-p tcp -m tcp --tcp-flags SYN,RST SYN"),
            Self::Limit => f.write_str("-m limit --limit 10/min"),
            Self::Comment(comment) => write!(f, "-m comment --comment \"{}\"", comment.as_str()),
        }
    }
}

/// A network as first and last address.
struct AddressRange<'a>(&'a Network);

impl fmt::Display for AddressRange<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.0.first(), self.0.last())
    }
}

/// Authentication Header, RFC 4302
const AH: u8 = 51;

fn write_traffic(f: &mut fmt::Formatter<'_>, direction: Direction, family: Family, traffic: &Traffic) -> fmt::Result {
    match traffic {
        // iptables treats this as no `-p` at all. The plan omits the match instead.
        Traffic::Any => f.write_str("-p all"),
        // ip6tables-legacy skips AH as an extension header and never matches it by `-p`.
        Traffic::Protocol(protocol) if family == Family::Ipv6 && protocol.number() == AH => f.write_str("-m ah"),
        Traffic::Protocol(protocol) => write!(f, "-p {}", protocol.number()),
        Traffic::Icmp(icmp) => match family {
            Family::Ipv4 => write!(f, "-p icmp -m icmp --icmp-type {icmp}"),
            Family::Ipv6 => write!(f, "-p ipv6-icmp -m icmp6 --icmpv6-type {icmp}"),
        },
        Traffic::Ports {
            protocol,
            local,
            remote,
        } => {
            let (source, destination) = match direction {
                Direction::In => (remote, local),
                Direction::Out => (local, remote),
            };
            write_ports(f, *protocol, source, destination)
        }
    }
}

/// What was asked for: ports as conntrack has them, all else as for the packet itself.
fn write_requested(
    f: &mut fmt::Formatter<'_>,
    family: Family,
    traffic: &Traffic,
    network: Option<IpNet>,
) -> fmt::Result {
    let none = Ports::Any;
    let (source, destination) = match traffic {
        Traffic::Ports {
            protocol,
            local,
            remote,
        } => {
            write!(f, "-p {} ", protocol.name())?;
            (remote, local)
        }
        Traffic::Any => (&none, &none),
        Traffic::Protocol(_) | Traffic::Icmp(_) => {
            write_traffic(f, Direction::In, family, traffic)?;
            f.write_str(" ")?;
            (&none, &none)
        }
    };
    f.write_str("-m conntrack")?;
    match network {
        // iptables shows an address without the length of its prefix.
        Some(host) if host.prefix_len() == host.max_prefix_len() => write!(f, " --ctorigdst {}", host.addr())?,
        Some(network) => write!(f, " --ctorigdst {network}")?,
        None => {}
    }
    write_port_option(f, "--ctorigsrcport", source)?;
    write_port_option(f, "--ctorigdstport", destination)?;
    f.write_str(" --ctdir ORIGINAL")
}

fn write_ports(f: &mut fmt::Formatter<'_>, protocol: PortProtocol, source: &Ports, destination: &Ports) -> fmt::Result {
    let name = protocol.name();
    write!(f, "-p {name}")?;
    match protocol {
        PortProtocol::Tcp | PortProtocol::Udp => {
            write!(f, " -m {name}")?;
            write_port_option(f, "--sport", source)?;
            write_port_option(f, "--dport", destination)
        }
        // Each of these has a match of its own, a kernel module that few machines have. `multiport`
        // handles their ports too and comes with TCP and UDP. It takes one end per match.
        PortProtocol::Dccp | PortProtocol::Sctp | PortProtocol::UdpLite => {
            write_port_option(f, "-m multiport --sports", source)?;
            write_port_option(f, "-m multiport --dports", destination)
        }
    }
}

fn write_port_option(f: &mut fmt::Formatter<'_>, option: &str, ports: &Ports) -> fmt::Result {
    match ports {
        Ports::Any => Ok(()),
        Ports::Range(_) => write!(f, " {option} {ports}"),
    }
}

/// The direction of a packet, as seen from the gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// Out of a tunnel.
    In,
    /// Into a tunnel.
    Out,
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::In => "in",
            Self::Out => "out",
        })
    }
}

/// The state of a packet in connection tracking.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CtState {
    /// NEW: the first packet of a connection, or no reply was seen yet.
    New,
    /// ESTABLISHED: packets were seen in both directions.
    Established,
    /// RELATED: it concerns such a connection, as an ICMP error does, or was announced in one.
    Related,
    /// RELATED or ESTABLISHED.
    #[serde(rename = "ongoing")]
    RelatedEstablished,
    /// The same, against the direction of the connection's first packet: a reply, or an ICMP error
    /// about what the opener has sent.
    Reply,
    /// The same, in a connection that a conntrack helper expects (`IPS_EXPECTED`), as FTP's data
    /// connection. Helpers are assigned by the administrator (`-j CT --helper`).
    Expected,
}

impl fmt::Display for CtState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::New => "NEW",
            Self::Established => "ESTABLISHED",
            Self::Related => "RELATED",
            Self::RelatedEstablished => "RELATED,ESTABLISHED",
            // iptables shows the status before the direction.
            Self::Reply => "RELATED,ESTABLISHED --ctdir REPLY",
            Self::Expected => "RELATED,ESTABLISHED --ctstatus EXPECTED",
        })
    }
}

/// An interface, or several interfaces by their names.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum InterfaceMatch {
    /// One interface.
    #[serde(rename = "device")]
    Interface(Interface),
    /// All interfaces whose names have one prefix.
    #[serde(skip)]
    Wildcard(InterfaceWildcard),
    /// All interfaces that the administrator's pattern matches.
    Pattern(InterfacePattern),
    /// The loopback interface.
    Loopback,
}

impl fmt::Display for InterfaceMatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Interface(interface) => f.write_str(interface.as_str()),
            Self::Wildcard(class) => f.write_str(class.as_str()),
            Self::Pattern(pattern) => write!(f, "{pattern}"),
            Self::Loopback => f.write_str("lo"),
        }
    }
}

/// A match on the IPsec policy by which a packet arrived or will leave.
///
/// Not `--strict`: with IPComp a packet has two transformations, and the tunnel's own is one of
/// them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PolicyMatch {
    /// Arrived by it or will leave by it.
    pub direction: Direction,
    /// The reqid of the tunnel's policies; any if unset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reqid: Option<u32>,
    /// ESP, AH or IPComp; any if unset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<SaProtocol>,
}

impl PolicyMatch {
    /// Any IPsec policy, in one direction.
    #[must_use]
    pub fn any_ipsec(direction: Direction) -> Self {
        Self {
            direction,
            reqid: None,
            protocol: None,
        }
    }
}

impl fmt::Display for PolicyMatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "-m policy --dir {} --pol ipsec", self.direction)?;
        if let Some(reqid) = self.reqid {
            write!(f, " --reqid {reqid}")?;
        }
        if let Some(protocol) = self.protocol {
            write!(f, " --proto {protocol}")?;
        }
        Ok(())
    }
}

/// A comment in a rule: up to 128 bytes of `A-Za-z0-9`, blanks and `._@:/#=+,()%-`, so that it
/// needs no escape inside the quotes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Comment(String);

impl Comment {
    /// The comment as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Comment {
    type Error = Expected;

    fn try_from(text: String) -> Result<Self, Expected> {
        if !is_plain(&text, 128) {
            return Err(Expected(
                "a comment of up to 128 letters, digits, blanks and ._@:/#=+,()%-",
            ));
        }
        Ok(Self(text))
    }
}

/// Whether a text needs no escape between quotes in a rule.
pub(crate) fn is_plain(text: &str, longest: usize) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b" ._@:/#=+,()%-".contains(&byte);
    (1..=longest).contains(&text.len()) && text.bytes().all(plain)
}

impl From<Comment> for String {
    fn from(comment: Comment) -> Self {
        comment.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::Icmp;

    fn tcp(local: Ports, remote: Ports) -> Traffic {
        Traffic::Ports {
            protocol: PortProtocol::Tcp,
            local,
            remote,
        }
    }

    #[test]
    fn ports_are_written_from_the_gateway_outwards() {
        let traffic = tcp(Ports::single(22), Ports::Range(1000..=2000));
        let text = |direction| Match::Traffic(direction, Family::Ipv4, traffic.clone()).to_string();
        assert_eq!(text(Direction::In), "-p tcp -m tcp --sport 1000:2000 --dport 22");
        assert_eq!(text(Direction::Out), "-p tcp -m tcp --sport 22 --dport 1000:2000");
    }

    #[test]
    fn where_a_packet_does_not_come_from_is_a_range() {
        let text = |network: &str| Match::NotSource(network.parse().unwrap()).to_string();
        assert_eq!(text("10.1.0.0/24"), "-m iprange ! --src-range 10.1.0.0-10.1.0.255");
        assert_eq!(
            text("2001:db8::/127"),
            "-m iprange ! --src-range 2001:db8::-2001:db8::1"
        );
    }

    #[test]
    fn icmp_is_spelt_by_family() {
        let traffic = Traffic::Icmp(Icmp::Code(3, 4));
        let text = |family| Match::Traffic(Direction::In, family, traffic.clone()).to_string();
        assert_eq!(text(Family::Ipv4), "-p icmp -m icmp --icmp-type 3/4");
        assert_eq!(text(Family::Ipv6), "-p ipv6-icmp -m icmp6 --icmpv6-type 3/4");
    }

    #[test]
    fn ah_is_found_in_ipv6_too() {
        let traffic = Traffic::Protocol(crate::net::Protocol(std::num::NonZeroU8::new(AH).unwrap()));
        let text = |family| Match::Traffic(Direction::In, family, traffic.clone()).to_string();
        assert_eq!(text(Family::Ipv4), "-p 51");
        assert_eq!(text(Family::Ipv6), "-m ah");
    }

    #[test]
    fn rare_protocols_go_by_multiport_one_end_at_a_time() {
        let traffic = Traffic::Ports {
            protocol: PortProtocol::Sctp,
            local: Ports::Any,
            remote: Ports::single(7),
        };
        let text = Match::Traffic(Direction::In, Family::Ipv4, traffic).to_string();
        assert_eq!(text, "-p sctp -m multiport --sports 7");
    }

    #[test]
    fn a_comment_cannot_end_its_quotes_or_its_line() {
        for text in ["a\"b", "a\nb", "a\\", "", "$(id)", "`id`", "a'b"] {
            assert!(Comment::try_from(text.to_owned()).is_err(), "{text:?}");
        }
    }
}
