//! Packets in words, and what happened to them.
//!
//! ```text
//! FROM SOURCE -> TO DESTINATION WHAT [STATE]: VERDICT[, MORE]...
//! ```
//!
//! FROM and TO are `gateway`, `clear(DEVICE)` or `tunnel(NAME)`, WHAT is `tcp SOURCE-PORT DESTINATION-PORT`, `udp ...`, `icmp NAME` or
//! `protocol NUMBER`. STATE is `new` (if nothing is said), `syn`, `later` (in a connection that its sender opened), `reply`, `related` (an ICMP
//! error about a connection that its destination opened), `related to a reply` (one about a connection that its source opened), `expected`
//! and `expected later` (in a connection that a conntrack helper expects), or `reply to ADDRESS` where the connection's source was translated
//! to that. `asked ADDRESS PORT` may precede it: what the peer asked for, where a DNAT rule of the administrator's has sent it to the
//! destination that the line has.

use std::net::IpAddr;

use pluto_updown::daemon::{SaMatch, Tunnel};
use pluto_updown::net::Family;

use crate::support::emulator::{Emulator, Mss};
use crate::support::gateway::in_ipv6;
use crate::support::packet::{ConnectionState, ESP, From, Packet, To, Translation, Verdict, trace_packet};

/// A type of ICMP and its code.
type Kind = (u8, u8);

/// The types of ICMP that have a name here, in both families.
const ICMP: [(&str, Kind, Kind); 8] = [
    ("echo-request", (8, 0), (128, 0)),
    ("echo-reply", (0, 0), (129, 0)),
    ("too-big", (3, 4), (2, 0)),
    ("unreachable", (3, 1), (1, 0)),
    ("time-exceeded", (11, 0), (3, 0)),
    ("parameter-problem", (12, 0), (4, 0)),
    ("redirect", (5, 0), (137, 0)),
    ("neighbour-solicitation", (255, 0), (135, 0)),
];

/// Reads a packet. `tunnel` finds a tunnel by its name.
pub(crate) fn packet(text: &str, tunnel: impl Fn(&str) -> Tunnel) -> Packet {
    let words: Vec<_> = text.split_whitespace().collect();
    let [from, source, "->", to, destination, what @ ..] = &words[..] else {
        panic!("{text}")
    };
    let mut packet = Packet::between(source, destination);
    packet.from = match place(from, &tunnel) {
        Place::Gateway => From::Local,
        Place::Clear(interface) => From::Unencrypted(interface),
        Place::Tunnel(reqid) => From::Ipsec {
            interface: "w0".to_owned(),
            reqid,
            protocol: ESP,
        },
    };
    packet.to = match place(to, &tunnel) {
        Place::Gateway => To::Local,
        Place::Clear(interface) => To::Unencrypted(interface),
        Place::Tunnel(reqid) => To::Ipsec {
            interface: "w0".to_owned(),
            reqid,
            protocol: ESP,
        },
    };
    packet.device_address = Some(outer_address(packet.source));
    in_state(kind(packet, what, text), what, text)
}

/// What MASQUERADE makes of a source.
fn outer_address(source: IpAddr) -> IpAddr {
    let text = match source {
        IpAddr::V4(_) => "192.0.2.1".to_owned(),
        IpAddr::V6(_) => in_ipv6("192.0.2.1"),
    };
    text.parse().expect("an address")
}

fn kind(packet: Packet, what: &[&str], text: &str) -> Packet {
    let number = |index: usize| what[index].parse::<u16>().unwrap_or_else(|_| panic!("{text}"));
    match what[0] {
        "tcp" => packet.tcp(number(1), number(2)),
        "udp" => packet.udp(number(1), number(2)),
        "protocol" => packet.protocol(u8::try_from(number(1)).expect("a protocol")),
        "icmp" => {
            let known = ICMP.iter().find(|(name, ..)| *name == what[1]);
            let (_, four, six) = known.unwrap_or_else(|| panic!("{text}"));
            let (kind, code) = if packet.source.is_ipv4() { *four } else { *six };
            packet.icmp(kind, code)
        }
        other => panic!("{text}: {other}"),
    }
}

fn in_state(packet: Packet, what: &[&str], text: &str) -> Packet {
    let said = match what[0] {
        "tcp" | "udp" => &what[3..],
        _ => &what[2..],
    };
    // What was asked for, where a DNAT rule has sent it elsewhere.
    let (said, packet) = match said {
        ["asked", address, port, rest @ ..] => {
            let address = address.parse().unwrap_or_else(|_| panic!("{text}"));
            (
                rest,
                packet.requested(address, port.parse().unwrap_or_else(|_| panic!("{text}"))),
            )
        }
        all => (all, packet),
    };
    match said {
        [] | ["new"] => packet,
        ["syn"] => packet.syn(),
        ["reply"] => packet.reply(),
        ["reply", "syn"] => packet.reply().flags("SYN,ACK"),
        ["later"] => packet.state(ConnectionState::Established),
        ["related"] => packet.error_about_theirs(),
        ["related", "to", "a", "reply"] => packet.state(ConnectionState::Related),
        ["expected"] => packet.state(ConnectionState::Related).expected(),
        ["expected", "later"] => packet.state(ConnectionState::Established).expected(),
        ["reply", "to", hidden] => packet.reply().source_translated(hidden),
        other => panic!("{text}: {other:?}"),
    }
}

enum Place {
    Gateway,
    Clear(String),
    Tunnel(u32),
}

fn place(text: &str, tunnel: impl Fn(&str) -> Tunnel) -> Place {
    let (kind, inner) = match text.trim_end_matches(')').split_once('(') {
        Some((kind, inner)) => (kind, inner),
        None => (text, ""),
    };
    match kind {
        "gateway" => Place::Gateway,
        "clear" => Place::Clear(inner.to_owned()),
        "tunnel" => match tunnel(inner).sa_match {
            SaMatch::Interface(interface) => Place::Clear(interface.as_str().to_owned()),
            SaMatch::Policy { reqid, .. } => Place::Tunnel(reqid.expect("a tunnel with a number")),
        },
        other => panic!("{text}: {other}"),
    }
}

/// The tables that a packet comes through.
pub(crate) fn family(packet: &Packet) -> Family {
    Family::of_address(packet.source)
}

/// The verdict on a packet, in words.
pub(crate) fn verdict_words(tables: &Emulator, packet: &Packet) -> String {
    let trace = trace_packet(tables, packet);
    let verdict = match (trace.verdict, decider(trace.decided_by.rule.as_deref())) {
        (Verdict::Policy | Verdict::Return, _) | (_, Decider::Administrator) => "is left".to_owned(),
        (Verdict::Accept, Decider::Ours) => "passes".to_owned(),
        (Verdict::Drop, Decider::Ours) => "is dropped".to_owned(),
        (Verdict::Accept, Decider::Consulted(chain)) => format!("is accepted by {chain}"),
        (Verdict::Drop, Decider::Consulted(chain)) => format!("is dropped by {chain}"),
        (other, _) => panic!("{other:?} by {:?}", trace.decided_by),
    };
    let translations = trace.translations().into_iter().map(|translation| match translation {
        Translation::Source(address) => format!("as from {address}"),
        Translation::Destination(address) => format!("as to {address}"),
        Translation::Masquerade => "masqueraded".to_owned(),
    });
    let sizes = trace.mss().into_iter().map(|mss| match mss {
        Mss::Set(size) => format!("with segments of {size}"),
        Mss::Clamped => "with segments for the path".to_owned(),
    });
    let logs = trace
        .logs()
        .into_iter()
        .map(|prefix| format!("logged as {}", prefix_without_hash(prefix)));
    let logs: Vec<_> = logs.collect();
    std::iter::once(verdict)
        .chain(translations)
        .chain(sizes)
        .chain(logs)
        .collect::<Vec<_>>()
        .join(", ")
}

enum Decider {
    Ours,
    Administrator,
    Consulted(String),
}

fn decider(rule: Option<&str>) -> Decider {
    match rule.and_then(|rule| rule.split(' ').nth(1)) {
        None | Some("INPUT" | "FORWARD" | "OUTPUT" | "PREROUTING" | "POSTROUTING") => Decider::Administrator,
        Some(chain) if chain.starts_with("PLUTO-") => Decider::Ours,
        Some(chain) => Decider::Consulted(chain.to_owned()),
    }
}

/// A prefix of the log without the hash behind the connection's name.
fn prefix_without_hash(prefix: &str) -> String {
    let (id, what) = prefix.trim_end().split_once(' ').expect("a name and a word");
    let (name, _) = id.rsplit_once('-').expect("a name and a hash");
    format!("{name} {what}")
}

#[test]
fn addresses_are_written_in_the_other_family() {
    assert_eq!(in_ipv6("x = [\"10.1.0.0/24\"]"), "x = [\"fd00::a01:0/120\"]");
    assert_eq!(
        in_ipv6("-> clear(w0) 0.0.0.0/0 tcp 4 80: passes, as from 10.9.9.1"),
        "-> clear(w0) ::/0 tcp 4 80: passes, as from fd00::a09:901"
    );
    assert_eq!(in_ipv6("udp/33434:33633 fd00:1::/64"), "udp/33434:33633 fd00:1::/64");
}
