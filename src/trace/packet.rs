//! A packet, and whether a match applies to it.

use std::net::IpAddr;
use std::num::NonZeroU8;

use ipnet::IpNet;

use super::doubt::{Doubt, Doubts};
use crate::net::{Family, Interface, PortProtocol, Protocol, SaProtocol, Traffic};
use crate::netfilter::{CtState, Direction, InterfaceMatch, Match, PolicyMatch};

/// A packet at the moment at which the tables see it: decapsulated, not yet encapsulated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packet {
    /// Its source address.
    pub source: IpAddr,
    /// Its destination address, of the same family.
    pub destination: IpAddr,
    /// Its protocol and ports, seen from its destination: `local` are the destination ports. As
    /// narrow as is known.
    pub kind: Traffic,
    /// How it arrived.
    pub from: Endpoint,
    /// How it leaves.
    pub to: Endpoint,
    /// Its place in its connection. In a TCP connection it is the first one of its direction.
    pub connection: PacketCtState,
    /// Whether its mark has the bit by which the inbound tunnel consents, the only one that the
    /// rules match.
    pub consented: bool,
    /// Where its connection's first packet went before its destination was translated; none if it
    /// was not.
    pub requested: Option<IpAddr>,
    /// The destination of its connection's replies, which shows whether its source was translated;
    /// `None` if unknown.
    pub answered_at: Option<IpAddr>,
}

/// One side of a packet's path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Endpoint {
    /// The gateway itself made it, or gets it.
    Gateway,
    /// Unencrypted, by this interface; `None` for an unknown one that is no tunnel's.
    Unencrypted(Option<Interface>),
    /// By IPsec.
    Ipsec {
        /// The tunnel's own interface, or the one towards the peer if it is known.
        interface: Option<Interface>,
        /// The reqid of its policies; `None` if unknown, and then no rule's reqid matches.
        reqid: Option<u32>,
        /// ESP, AH or IPComp; `None` if unknown, and then every rule's protocol matches.
        protocol: Option<SaProtocol>,
    },
}

/// A packet's place in its connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PacketCtState {
    /// It begins one.
    New,
    /// It belongs to one that both ends have sent on.
    Established(ConnectionDirection),
    /// It is an ICMP error about a packet of such a connection. If it has reply direction, that
    /// packet had original direction.
    Related(ConnectionDirection),
}

/// The direction of a packet in its connection: `--ctdir`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConnectionDirection {
    /// As the first packet.
    Original,
    /// Against it.
    Reply,
}

/// Whether a match applies to a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum MatchAnswer {
    Yes,
    No,
    /// It depends on this.
    Unknown(Doubt),
}

impl From<bool> for MatchAnswer {
    fn from(holds: bool) -> Self {
        if holds { Self::Yes } else { Self::No }
    }
}

impl Packet {
    /// The family of its addresses.
    #[must_use]
    pub fn family(&self) -> Family {
        Family::of_address(self.destination)
    }

    fn endpoint(&self, direction: Direction) -> &Endpoint {
        match direction {
            Direction::In => &self.from,
            Direction::Out => &self.to,
        }
    }

    /// Whether a match applies to the packet, given the assumptions so far.
    pub(crate) fn match_answer(&self, matched: &Match, doubts: &Doubts) -> MatchAnswer {
        match matched {
            Match::Source(network) => network.contains(self.source).into(),
            Match::Destination(network) => network.contains(self.destination).into(),
            Match::In(interface) => self.interface_answer(Direction::In, interface, doubts),
            Match::Out(interface) => self.interface_answer(Direction::Out, interface, doubts),
            Match::NotSource(network) => (!network.contains(self.source)).into(),
            Match::NotDestination(network) => (!network.contains(self.destination)).into(),
            Match::Traffic(direction, _, traffic) => {
                self.is_traffic(&seen_from_destination(*direction, traffic), doubts)
            }
            Match::Policy(policy) => self.endpoint(policy.direction).matches_policy(policy).into(),
            Match::PolicyNone(direction) => (!self.endpoint(*direction).is_ipsec()).into(),
            Match::CtState(state) => self.connection.matches_state(*state).into(),
            Match::CtReplDst(address) => self.has_reply_destination(*address, doubts),
            Match::CtOrig(_, traffic, network) => self.asked_for(traffic, *network, doubts),
            Match::SrcNotLocal => (self.from != Endpoint::Gateway).into(),
            Match::Mark(_) => self.consented.into(),
            Match::NotMark(_) => (!self.consented).into(),
            Match::Syn => any_tcp().map_or(MatchAnswer::No, |tcp| self.is_traffic(&tcp, doubts)),
            // A single packet never exceeds a rate limit.
            Match::Limit | Match::Comment(_) => MatchAnswer::Yes,
        }
    }

    /// Whether its connection's original tuple has this traffic and network. Translations by other
    /// rules are unknown.
    fn asked_for(&self, traffic: &Traffic, network: Option<IpNet>, doubts: &Doubts) -> MatchAnswer {
        let requested = self.requested.unwrap_or(self.destination);
        match network.is_none_or(|network| network.contains(&requested)) && !self.connection.is_reply() {
            true => self.is_traffic(traffic, doubts),
            false => MatchAnswer::No,
        }
    }

    fn is_traffic(&self, asked: &Traffic, doubts: &Doubts) -> MatchAnswer {
        match self.kind.intersect(asked, self.family()) {
            None => MatchAnswer::No,
            Some(common) if common == self.kind => MatchAnswer::Yes,
            Some(common) if doubts.rules_out_kind(&common, self.family()) => MatchAnswer::No,
            Some(_) => MatchAnswer::Unknown(Doubt::Kind(asked.clone())),
        }
    }

    fn has_reply_destination(&self, address: IpAddr, doubts: &Doubts) -> MatchAnswer {
        match self.answered_at {
            _ if !self.connection.is_reply() => MatchAnswer::No,
            Some(known) => (known == address).into(),
            None => doubts.answer_for(Doubt::CtReplDst(address)),
        }
    }

    fn interface_answer(&self, direction: Direction, interface: &InterfaceMatch, doubts: &Doubts) -> MatchAnswer {
        match (interface, self.endpoint(direction).interface()) {
            (InterfaceMatch::Interface(asked), interface) => (interface == Some(asked)).into(),
            (InterfaceMatch::Wildcard(class), interface) => {
                interface.is_some_and(|interface| class.fits(interface)).into()
            }
            (InterfaceMatch::Loopback, interface) => {
                interface.is_some_and(|interface| interface.as_str() == "lo").into()
            }
            (InterfaceMatch::Pattern(pattern), Some(interface)) => pattern.fits(interface).into(),
            (InterfaceMatch::Pattern(pattern), None) => match self.endpoint(direction) {
                Endpoint::Gateway => MatchAnswer::No,
                Endpoint::Unencrypted(_) | Endpoint::Ipsec { .. } => {
                    doubts.answer_for(Doubt::Interface(direction, pattern.clone()))
                }
            },
        }
    }

    /// Takes for granted that it has this.
    pub(crate) fn assume_doubt(&mut self, doubt: &Doubt) {
        match doubt {
            Doubt::Kind(kind) => {
                if let Some(common) = self.kind.intersect(kind, self.family()) {
                    self.kind = common;
                }
            }
            Doubt::CtReplDst(address) => self.answered_at = Some(*address),
            // The assumption itself is all that is known of its interface.
            Doubt::Interface(..) => {}
        }
    }
}

impl Endpoint {
    /// The interface, if it is known.
    #[must_use]
    pub fn interface(&self) -> Option<&Interface> {
        match self {
            Self::Gateway => None,
            Self::Unencrypted(interface) | Self::Ipsec { interface, .. } => interface.as_ref(),
        }
    }

    /// Whether a policy of IPsec applies to it.
    #[must_use]
    pub(crate) fn is_ipsec(&self) -> bool {
        match self {
            Self::Ipsec { .. } => true,
            Self::Gateway | Self::Unencrypted(_) => false,
        }
    }

    fn matches_policy(&self, asked: &PolicyMatch) -> bool {
        match self {
            Self::Gateway | Self::Unencrypted(_) => false,
            Self::Ipsec { reqid, protocol, .. } => {
                let same_protocol = |asked: SaProtocol| protocol.is_none_or(|protocol| protocol == asked);
                asked.reqid.is_none_or(|asked| *reqid == Some(asked)) && asked.protocol.is_none_or(same_protocol)
            }
        }
    }
}

impl PacketCtState {
    fn matches_state(self, state: CtState) -> bool {
        match (self, state) {
            (Self::New, CtState::New)
            | (Self::Established(_), CtState::Established | CtState::RelatedEstablished)
            | (Self::Related(_), CtState::Related | CtState::RelatedEstablished)
            | (
                Self::Established(ConnectionDirection::Reply) | Self::Related(ConnectionDirection::Reply),
                CtState::Reply,
            ) => true,
            // It is not known which connections helpers expect.
            (Self::New | Self::Established(_) | Self::Related(_), _) => false,
        }
    }

    fn is_reply(self) -> bool {
        self.matches_state(CtState::Reply)
    }
}

fn any_tcp() -> Option<Traffic> {
    NonZeroU8::new(PortProtocol::Tcp.number()).map(|number| Traffic::Protocol(Protocol(number)))
}

/// A kind of traffic as it is seen from the destination of packets in one direction.
#[must_use]
pub fn seen_from_destination(direction: Direction, traffic: &Traffic) -> Traffic {
    match (direction, traffic) {
        (
            Direction::Out,
            Traffic::Ports {
                protocol,
                local: local_ports,
                remote: remote_ports,
            },
        ) => Traffic::Ports {
            protocol: *protocol,
            local: remote_ports.clone(),
            remote: local_ports.clone(),
        },
        (Direction::In, Traffic::Ports { .. }) | (_, Traffic::Any | Traffic::Protocol(_) | Traffic::Icmp(_)) => {
            traffic.clone()
        }
    }
}
