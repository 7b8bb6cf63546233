//! Packets, as the emulator takes them, as `explain` takes them, and as `explain` takes them when less is known.

use std::num::NonZeroU8;

use pluto_updown::net::{Family, Icmp, Interface, PortProtocol, Ports, Protocol, SaProtocol, Traffic};
use pluto_updown::netfilter::Direction;
use pluto_updown::trace::{Assumption, ConnectionDirection, Doubt, Endpoint, Packet, PacketCtState};
use proptest::prelude::*;

use crate::support::packet::{self as emulated, ConnectionState, ESP, From, To};

const ADDRESSES: [&str; 16] = [
    "10.1.0.9",
    "10.1.0.1",
    "10.2.0.7",
    "10.2.0.70",
    "10.3.0.7",
    "10.4.0.7",
    "10.5.0.7",
    "10.6.0.7",
    "10.7.0.7",
    "10.9.0.9",
    "10.99.0.1",
    "10.99.0.2",
    "192.0.2.1",
    "192.0.2.2",
    "198.51.100.6",
    "203.0.113.5",
];

const REQIDS: [u32; 10] = [1, 2, 4, 5, 6, 8, 9, 12, 13, 16389];

fn kind() -> impl Strategy<Value = Kind> {
    let port = || prop::sample::select(vec![22, 80, 67, 68, 500, 550, 1701, 4500, 33500, 40000]);
    let icmp = prop::sample::select(vec![0, 3, 5, 8, 11]);
    prop_oneof![
        3 => (port(), port()).prop_map(|(from, to)| Kind::Tcp(from, to)),
        3 => (port(), port()).prop_map(|(from, to)| Kind::Udp(from, to)),
        2 => (icmp, 0..5_u8).prop_map(|(kind, code)| Kind::Icmp(kind, code)),
        2 => prop::sample::select(vec![4, 47, 50, 51, 253]).prop_map(Kind::Protocol),
    ]
}

#[derive(Clone, Debug)]
enum Kind {
    Tcp(u16, u16),
    Udp(u16, u16),
    Icmp(u8, u8),
    Protocol(u8),
}

#[derive(Clone, Debug)]
enum Side {
    Gateway,
    Clear(&'static str),
    Ipsec(&'static str, u32),
}

fn side() -> impl Strategy<Value = Side> {
    let reqid = prop::sample::select(REQIDS.to_vec());
    let interface = prop::sample::select(vec!["w0", "w1", "lan0", "vti1", "vti2", "vti9", "lo"]);
    prop_oneof![
        2 => Just(Side::Gateway),
        3 => interface.prop_map(Side::Clear),
        3 => reqid.prop_map(|reqid| Side::Ipsec("w0", reqid)),
    ]
}

/// A packet between random places; not from the gateway to itself.
pub(crate) fn packets() -> impl Strategy<Value = emulated::Packet> {
    let address = || prop::sample::select(ADDRESSES.to_vec());
    let state = prop::sample::select(vec![
        ConnectionState::New,
        ConnectionState::New,
        ConnectionState::Established,
        ConnectionState::Related,
    ]);
    let hidden = prop::option::of(prop::sample::select(vec!["10.1.0.1", "10.99.0.2"]));
    (
        address(),
        address(),
        kind(),
        side(),
        side(),
        (state, any::<bool>()),
        hidden,
    )
        .prop_filter_map(
            "the gateway speaks with itself",
            |(source, destination, kind, from, to, (state, is_reply), hidden)| {
                if let (Side::Gateway, Side::Gateway) = (&from, &to) {
                    return None;
                }
                let mut packet = of_kind(emulated::Packet::between(source, destination), &kind);
                (packet.from, packet.to) = (came(&from), leaves(&to));
                packet.state = state;
                if is_reply && state != ConnectionState::New {
                    packet.direction = emulated::ConnectionDirection::Reply;
                }
                if let (Some(hidden), true) = (hidden, state != ConnectionState::New) {
                    packet = packet.source_translated(hidden);
                }
                Some(packet)
            },
        )
}

fn of_kind(packet: emulated::Packet, kind: &Kind) -> emulated::Packet {
    match kind {
        Kind::Tcp(from, to) => packet.tcp(*from, *to).syn(),
        Kind::Udp(from, to) => packet.udp(*from, *to),
        Kind::Icmp(kind, code) => packet.icmp(*kind, *code),
        Kind::Protocol(number) => packet.protocol(*number),
    }
}

fn came(side: &Side) -> From {
    match side {
        Side::Gateway => From::Local,
        Side::Clear(interface) => From::Unencrypted((*interface).to_owned()),
        Side::Ipsec(interface, reqid) => From::Ipsec {
            interface: (*interface).to_owned(),
            reqid: *reqid,
            protocol: ESP,
        },
    }
}

fn leaves(side: &Side) -> To {
    match side {
        Side::Gateway => To::Local,
        Side::Clear(interface) => To::Unencrypted((*interface).to_owned()),
        Side::Ipsec(interface, reqid) => To::Ipsec {
            interface: (*interface).to_owned(),
            reqid: *reqid,
            protocol: ESP,
        },
    }
}

fn interface(name: &str) -> Option<Interface> {
    Some(name.parse().expect("a device"))
}

fn ipsec(name: &str, reqid: u32) -> Endpoint {
    Endpoint::Ipsec {
        interface: interface(name),
        reqid: Some(reqid),
        protocol: Some(SaProtocol::Esp),
    }
}

/// The same packet for `explain`, with all that is known of it.
pub(crate) fn fully_known(packet: &emulated::Packet) -> Packet {
    Packet {
        source: packet.source,
        destination: packet.destination,
        kind: traffic(packet),
        from: match &packet.from {
            From::Local => Endpoint::Gateway,
            From::Unencrypted(name) => Endpoint::Unencrypted(interface(name)),
            From::Ipsec { interface, reqid, .. } => ipsec(interface, *reqid),
        },
        to: match &packet.to {
            To::Local => Endpoint::Gateway,
            To::Unencrypted(name) => Endpoint::Unencrypted(interface(name)),
            To::Ipsec { interface, reqid, .. } => ipsec(interface, *reqid),
        },
        connection: match packet.state {
            ConnectionState::New => PacketCtState::New,
            ConnectionState::Established => PacketCtState::Established(direction(packet)),
            ConnectionState::Related => PacketCtState::Related(direction(packet)),
            ConnectionState::Invalid => panic!("no packet of these"),
        },
        consented: false,
        requested: None,
        answered_at: Some(packet.reply_destination()),
    }
}

fn direction(packet: &emulated::Packet) -> ConnectionDirection {
    match packet.direction {
        emulated::ConnectionDirection::Original => ConnectionDirection::Original,
        emulated::ConnectionDirection::Reply => ConnectionDirection::Reply,
    }
}

fn traffic(packet: &emulated::Packet) -> Traffic {
    let ports = |protocol| Traffic::Ports {
        protocol,
        local: Ports::single(packet.destination_port),
        remote: Ports::single(packet.source_port),
    };
    match (packet.protocol, packet.icmp) {
        (6, _) => ports(PortProtocol::Tcp),
        (17, _) => ports(PortProtocol::Udp),
        (_, Some((kind, code))) => Traffic::Icmp(Icmp::Code(kind, code)),
        (number, None) => Traffic::Protocol(Protocol(NonZeroU8::new(number).expect("a protocol"))),
    }
}

/// What is not known of a packet.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Ignorance {
    SourcePort,
    Ports,
    Protocol,
}

pub(crate) fn unknown_properties() -> impl Strategy<Value = Ignorance> {
    prop::sample::select(vec![Ignorance::SourcePort, Ignorance::Ports, Ignorance::Protocol])
}

/// The same packet with less known of it: interfaces that are no tunnel's and what its connection was translated to are not, either.
pub(crate) fn with_less_known(mut packet: Packet, ignorance: Ignorance) -> Packet {
    packet.kind = match (ignorance, packet.kind) {
        (Ignorance::Protocol, _) => Traffic::Any,
        (
            Ignorance::SourcePort,
            Traffic::Ports {
                protocol, local: my, ..
            },
        ) => Traffic::Ports {
            protocol,
            local: my,
            remote: Ports::Any,
        },
        (Ignorance::SourcePort, Traffic::Icmp(Icmp::Code(kind, _))) => Traffic::Icmp(Icmp::Type(kind)),
        (Ignorance::Ports, Traffic::Ports { protocol, .. }) => numbered(protocol.number()),
        (Ignorance::Ports, Traffic::Icmp(_)) => numbered(1),
        (_, known) => known,
    };
    packet.answered_at = None;
    for endpoint in [&mut packet.from, &mut packet.to] {
        if let Endpoint::Unencrypted(Some(known)) = endpoint
            && ["w0", "w1", "lan0"].contains(&known.as_str())
        {
            *endpoint = Endpoint::Unencrypted(None);
        }
    }
    packet
}

fn numbered(number: u8) -> Traffic {
    Traffic::Protocol(Protocol(NonZeroU8::new(number).expect("a protocol")))
}

/// Whether what was taken for granted is so.
pub(crate) fn is_so(assumption: &Assumption, packet: &Packet) -> bool {
    match assumption {
        Assumption::Holds(doubts) => doubts.iter().all(|doubt| holds(doubt, packet)),
        Assumption::Fails(doubts) => !doubts.iter().all(|doubt| holds(doubt, packet)),
    }
}

fn holds(doubt: &Doubt, packet: &Packet) -> bool {
    match doubt {
        Doubt::Kind(kind) => packet.kind.intersect(kind, Family::Ipv4).as_ref() == Some(&packet.kind),
        Doubt::Interface(direction, pattern) => {
            let endpoint = match direction {
                Direction::In => &packet.from,
                Direction::Out => &packet.to,
            };
            endpoint.interface().is_some_and(|interface| pattern.fits(interface))
        }
        Doubt::CtReplDst(address) => packet.answered_at == Some(*address),
    }
}
