//! The rules of every captured tunnel, asked about sample packets: `verdicts.txt` says in words what must happen to them.

use crate::support::captures::{calls, calls_of};
use crate::support::packet::{From, Packet, To, Verdict, trace};
use crate::support::world::{World, strongswan};
use pluto_updown::daemon::FirewallAction;
use pluto_updown::net::Family;

/// One line of the table.
struct Line<'a> {
    capture: &'a str,
    connections: Vec<&'a str>,
    packet: Packet,
    verdict: Verdict,
}

impl<'a> Line<'a> {
    fn parse(text: &'a str) -> Self {
        let [tunnels, packet, verdict] = text.splitn(3, ": ").collect::<Vec<_>>()[..] else {
            panic!("{text}")
        };
        let (capture, connections) = tunnels.split_once(' ').unwrap_or_else(|| panic!("{text}"));
        let verdict = match verdict.split(',').next() {
            Some("passes") => Verdict::Accept,
            Some("is left") => Verdict::Policy,
            other => panic!("{text}: {other:?}"),
        };
        Self {
            capture,
            connections: connections.split('+').collect(),
            packet: packet_of(packet),
            verdict,
        }
    }
}

fn packet_of(text: &str) -> Packet {
    let words: Vec<_> = text.split(' ').collect();
    let [from, source, "->", to, destination, what, numbers @ ..] = &words[..] else {
        panic!("{text}")
    };
    let mut packet = Packet::between(source, destination);
    packet.from = place(from, From::Local, From::Unencrypted, |interface, reqid, protocol| {
        From::Ipsec {
            interface,
            reqid,
            protocol,
        }
    });
    packet.to = place(to, To::Local, To::Unencrypted, |interface, reqid, protocol| To::Ipsec {
        interface,
        reqid,
        protocol,
    });
    let number = |index: usize| numbers[index].parse::<u16>().unwrap_or_else(|_| panic!("{text}"));
    let byte = |index: usize| u8::try_from(number(index)).unwrap_or_else(|_| panic!("{text}"));
    match *what {
        "tcp" => packet.tcp(number(0), number(1)),
        "udp" => packet.udp(number(0), number(1)),
        "icmp" => packet.icmp(byte(0), byte(1)),
        "protocol" => packet.protocol(byte(0)),
        other => panic!("{text}: {other}"),
    }
}

fn place<P>(text: &str, gateway: P, clear: fn(String) -> P, tunnel: fn(String, u32, u8) -> P) -> P {
    const ESP: u8 = 50;
    const AH: u8 = 51;
    if text == "gateway" {
        return gateway;
    }
    let (kind, inner) = text
        .trim_end_matches(')')
        .split_once('(')
        .unwrap_or_else(|| panic!("{text}"));
    let reqid = |number: &str| number.parse().unwrap_or_else(|_| panic!("{text}"));
    match (kind, inner.split_once(',')) {
        ("clear" | "device", None) => clear(inner.to_owned()),
        ("device", Some((interface, number))) => tunnel(interface.to_owned(), reqid(number), ESP),
        ("tunnel", None) => tunnel("w0".to_owned(), reqid(inner), ESP),
        ("tunnel", Some((number, "ah"))) => tunnel("w0".to_owned(), reqid(number), AH),
        _ => panic!("{text}"),
    }
}

/// A gateway on which the captured tunnels of these connections are up, as at their first time in the file: a connection that is
/// added again has another reqid.
fn world(capture: &str, connections: &[&str]) -> World {
    let mut world = World::default();
    for connection in connections {
        let calls = calls_of(capture, connection).into_iter();
        let actions = calls.map(|call| call.firewall_action());
        let first = actions.take_while(|action| !matches!(action, FirewallAction::Close(_)));
        let ups: Vec<_> = first
            .filter(|action| matches!(action, FirewallAction::Open(_)))
            .collect();
        assert!(!ups.is_empty(), "{capture} brings {connection} up");
        for up in ups {
            world.call(&up).expect("a captured up");
        }
    }
    world
}

fn lines() -> impl Iterator<Item = &'static str> {
    include_str!("verdicts.txt")
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
}

#[test]
fn every_sample_packet_gets_the_verdict_that_the_table_says() {
    for text in lines() {
        let Line {
            capture,
            connections,
            packet,
            verdict,
        } = Line::parse(text);
        let mut world = world(capture, &connections);
        let family = Family::of_address(packet.source);
        let trace = trace(world.emulator(family), &packet);
        assert_eq!(
            trace.verdict,
            verdict,
            "{text}\nmatched {:#?}\n{}",
            trace.matched,
            world.emulator(family).save()
        );
    }
}

#[test]
fn the_table_speaks_of_every_captured_tunnel() {
    for capture in [
        "libreswan-4.10",
        "libreswan-5.2",
        "libreswan-5.4",
        "libreswan-5.4-async",
        "strongswan-6.0.1",
    ] {
        let spoken: Vec<_> = lines()
            .map(Line::parse)
            .filter(|line| line.capture == capture)
            .collect();
        assert!(!spoken.is_empty(), "{capture}");
    }
    for call in [calls("strongswan-6.0.1"), calls("libreswan-5.2")].concat() {
        let name = call.get("PLUTO_CONNECTION");
        let kind = name.split('/').next().expect("a first part");
        let spoken = lines()
            .map(Line::parse)
            .any(|line| line.connections.iter().any(|known| known.starts_with(kind)));
        assert!(spoken || kind == "v1", "{name}");
    }
}

#[test]
fn unencrypted_traffic_meets_three_rules_at_most_however_many_tunnels_are_up() {
    let mut world = World::default();
    for number in 0..200 {
        let peer = format!("10.{}.{}.0/24", 100 + number / 64, number % 64);
        world.up(&strongswan(&format!("t{number}"), number + 1, "10.1.0.0/24", &peer).tunnel());
    }
    let emulator = world.emulator(Family::Ipv4);
    let through = Packet::between("198.51.100.1", "198.51.100.2")
        .tcp(1, 2)
        .in_by("eth0")
        .out_by("eth1");
    let here = Packet::between("198.51.100.1", "198.51.100.2")
        .tcp(1, 2)
        .in_by("eth0")
        .for_gateway();
    let from_here = Packet::between("198.51.100.1", "198.51.100.2")
        .tcp(1, 2)
        .made_here()
        .out_by("eth0");
    assert_eq!(trace(emulator, &through).cost(), 3);
    assert_eq!(trace(emulator, &here).cost(), 2);
    assert_eq!(trace(emulator, &from_here).cost(), 2);
}

#[test]
fn no_block_holds_more_than_sixty_four_networks() {
    let mut world = World::default();
    for number in 0..130 {
        let peer = format!("10.9.{}.{}/32", number / 100, number % 100);
        world.up(&strongswan("road", number + 1, "10.1.0.0/24", &peer).tunnel());
    }
    let emulator = world.emulator(Family::Ipv4);
    let blocks: Vec<_> = emulator
        .chains()
        .into_iter()
        .filter(|chain| chain.starts_with("PLUTO-FI-10.9."))
        .collect();
    assert_eq!(
        blocks,
        ["PLUTO-FI-10.9.0.0-26", "PLUTO-FI-10.9.0.64-26", "PLUTO-FI-10.9.1.0-26"]
    );
    assert!(blocks.iter().all(|block| emulator.rules(block).len() <= 64));
}
