//! Does the tracer judge a packet as the kernel does? Real packets go through a real gateway whose rules count, and each rule must have
//! counted the packets that the tracer says it matched: in every table, by both backends and in both families. They need root.
//!
//! IPsec itself is not asked here (a kernel for tests often has no ESP), only that there is none.

mod lab;
mod rules;
mod sent;

use std::io::Write as _;
use std::time::Duration;

use crate::support::emulator::Kind;
use crate::support::gateway::twins;
use crate::support::namespace::VARIANTS;
use crate::support::packet::{ConnectionState, Packet, trace_packet};
use lab::{Lab, V4, socket_address};
use pluto_updown::net::Family;
use rules::{counting, with_rule};

#[test]
#[ignore = "needs root: run by contrib/test"]
fn every_rule_counts_the_packets_that_the_tracer_says_it_matches() {
    for (backend, family) in twins() {
        let mut lab = Lab::new(backend, family);
        // A connection from before the rules, which the gateway will not take for one.
        let _listener = lab.listen(8080);
        let old = lab.connect(8080).expect("a connection");
        lab.gateway.shell("sysctl -qw net.netfilter.nf_conntrack_tcp_loose=0");
        let emulator = lab.load(&counting(family));
        lab.reset();
        (&old).write_all(b"x").expect("sending");
        let port = old.local_addr().expect("its address").port();
        let invalid = |packet: Packet| packet.state(ConnectionState::Invalid);
        let packets = [
            invalid(lab.there().tcp(port, 8080).flags("PSH,ACK")),
            invalid(lab.back().tcp(8080, port).flags("ACK")),
        ];
        lab.assert_counted(&emulator, &packets, "data of no connection");
        lab.ask_and_answer(&emulator);
        lab.translate_the_source(&emulator, 600);
        lab.translate_the_source(&emulator, 601);
        lab.translate_the_destination(&emulator);
        lab.ask_nobody(&emulator);
        lab.talk_with_the_gateway(&emulator);
        lab.connect_twice(&emulator);
    }
}

#[test]
#[ignore = "needs root: run by contrib/test"]
fn a_journey_goes_and_ends_where_the_kernels_does() {
    const RULES: [&str; 8] = [
        "policy",
        "-j DROP",
        "-j REJECT",
        "-j ACCEPT",
        "-j RETURN",
        "-j USER",
        "-g USER",
        "-j LOG --log-prefix \"x \"",
    ];
    let hooks = [
        (Kind::Mangle, "PREROUTING"),
        (Kind::Nat, "PREROUTING"),
        (Kind::Mangle, "FORWARD"),
        (Kind::Filter, "FORWARD"),
        (Kind::Mangle, "POSTROUTING"),
        (Kind::Nat, "POSTROUTING"),
    ];
    for backend in VARIANTS {
        let lab = Lab::new(backend, Family::Ipv4);
        let to = lab.udp(&lab.right, V4.right, 500);
        let mut port = 40_100;
        for (kind, hook) in hooks {
            let is_counted = |rule: &&&str| match **rule {
                "-j DROP" => kind != Kind::Nat,
                "-j REJECT" => kind == Kind::Filter,
                _ => true,
            };
            for rule in RULES.iter().filter(is_counted) {
                let emulator = lab.load(&with_rule(kind, hook, rule));
                port += 1;
                let from = lab.udp(&lab.left, V4.left, port);
                lab.reset();
                from.send_to(b"x", socket_address(V4.right, 500)).expect("sending");
                let packet = lab.there().udp(port, 500);
                let passes = trace_packet(&emulator, &packet).passes;
                lab.assert_counted(&emulator, &[packet], &format!("{rule} in {} {hook}", kind.name()));
                to.set_read_timeout(Some(Duration::from_millis(if passes { 5_000 } else { 50 })))
                    .expect("a timeout");
                assert_eq!(to.recv(&mut [0; 8]).is_ok(), passes, "{rule} in {} {hook}", kind.name());
            }
        }
    }
}

#[test]
#[ignore = "needs root: run by contrib/test"]
fn a_limit_lets_its_burst_through() {
    for backend in VARIANTS {
        let lab = Lab::new(backend, Family::Ipv4);
        lab.load("*filter\n-A FORWARD -p udp -m limit --limit 10/min -m comment --comment \"limit\"\nCOMMIT\n");
        let (from, to) = (lab.udp(&lab.left, V4.left, 40_001), lab.udp(&lab.right, V4.right, 500));
        for _ in 0..9 {
            lab.send(&from, &to, V4.right);
        }
        assert_eq!(lab.counted().get("limit"), Some(&5), "{backend}");
    }
}
