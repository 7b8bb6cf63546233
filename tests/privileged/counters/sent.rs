//! What is sent through the gateway, and the packets that this makes.

#![allow(
    unreachable_pub,
    reason = "a module of a test binary is reached by that binary alone"
)]

use std::io::Write as _;
use std::net::{SocketAddr, UdpSocket};

use pluto_updown::net::Family;

use super::lab::{Addresses, Lab, addresses, socket_address};
use crate::support::emulator::Emulator;
use crate::support::packet::{ConnectionState, Packet, trace_packet};

fn unreachable(family: Family, packet: Packet) -> Packet {
    match family {
        Family::Ipv4 => packet.icmp(3, 3),
        Family::Ipv6 => packet.icmp(1, 4),
    }
}

impl Lab {
    pub fn there(&self) -> Packet {
        let Addresses { left, right, .. } = addresses(self.family);
        Packet::between(left, right).in_by("eth1").out_by("eth2")
    }

    pub fn back(&self) -> Packet {
        let Addresses { left, right, .. } = addresses(self.family);
        Packet::between(right, left).in_by("eth2").out_by("eth1").reply()
    }

    /// Sends something from a socket to an address, and waits until it is there.
    pub fn send(&self, from: &UdpSocket, to: &UdpSocket, address: &str) -> SocketAddr {
        let port = to.local_addr().expect("its address").port();
        from.send_to(b"x", socket_address(address, port)).expect("sending");
        let (_, source) = to.recv_from(&mut [0; 8]).expect("something comes");
        source
    }

    /// A question and its answer, and another question.
    pub fn ask_and_answer(&self, emulator: &Emulator) {
        let Addresses { left, right, .. } = addresses(self.family);
        let (from, to) = (self.udp(&self.left, left, 40_001), self.udp(&self.right, right, 500));
        self.reset();
        self.send(&from, &to, right);
        self.assert_counted(emulator, &[self.there().udp(40_001, 500)], "a question");
        self.reset();
        self.send(&to, &from, left);
        self.assert_counted(emulator, &[self.back().udp(500, 40_001)], "an answer");
        self.reset();
        self.send(&from, &to, right);
        let known = self.there().udp(40_001, 500).state(ConnectionState::Established);
        self.assert_counted(emulator, &[known], "another question");
    }

    /// Through a translation of the source, whose answer comes back to the address of the gateway.
    pub fn translate_the_source(&self, emulator: &Emulator, port: u16) {
        let Addresses { left, right, .. } = addresses(self.family);
        let (from, to) = (self.udp(&self.left, left, 40_002), self.udp(&self.right, right, port));
        self.reset();
        let source = self.send(&from, &to, right);
        // Which one of the gateway's addresses is the one of the interface, is for the kernel to say.
        let address = &source.ip().to_string();
        let question = self.there().udp(40_002, port).device_address(address);
        assert_eq!(trace_packet(emulator, &question).packet.source, source.ip());
        self.assert_counted(emulator, &[question], "a translated question");
        self.reset();
        to.send_to(b"x", source).expect("sending");
        from.recv(&mut [0; 8]).expect("something comes");
        let answer = self.back().udp(port, 40_002).source_translated(address);
        self.assert_counted(emulator, &[answer], "the answer to it");
        self.reset();
        self.send(&from, &to, right);
        let known = self.there().udp(40_002, port).source_translated(address);
        let known = known.state(ConnectionState::Established);
        self.assert_counted(emulator, &[known], "another translated question");
    }

    pub fn translate_the_destination(&self, emulator: &Emulator) {
        let Addresses {
            left, right, near_left, ..
        } = addresses(self.family);
        let (from, to) = (self.udp(&self.left, left, 40_003), self.udp(&self.right, right, 700));
        self.reset();
        let source = self.send(&from, &to, near_left);
        let question = Packet::between(left, near_left).udp(40_003, 700);
        let question = question.in_by("eth1").out_by("eth2");
        assert_eq!(trace_packet(emulator, &question).packet.destination.to_string(), right);
        self.assert_counted(emulator, &[question], "a question to another");
        self.reset();
        to.send_to(b"x", source).expect("sending");
        from.recv(&mut [0; 8]).expect("something comes");
        let answer = self.back().udp(700, 40_003).destination_translated();
        self.assert_counted(emulator, &[answer], "the answer of the other");
    }

    /// To a port where nobody listens: the question, and an error that is related to it.
    pub fn ask_nobody(&self, emulator: &Emulator) {
        let Addresses { left, right, .. } = addresses(self.family);
        let from = self.udp(&self.left, left, 40_004);
        from.connect(socket_address(right, 4500)).expect("connecting");
        self.reset();
        from.send(b"x").expect("sending");
        assert!(from.recv(&mut [0; 8]).is_err(), "somebody listens");
        let error = unreachable(self.family, self.back()).state(ConnectionState::Related);
        let question = self.there().udp(40_004, 4500);
        self.assert_counted(emulator, &[question, error], "a question to nobody");
    }

    /// From the gateway, and to it, and from one who says that it is the gateway.
    pub fn talk_with_the_gateway(&self, emulator: &Emulator) {
        let Addresses { right, near_right, .. } = addresses(self.family);
        let (from, to) = (
            self.udp(&self.gateway, near_right, 40_005),
            self.udp(&self.right, right, 4500),
        );
        self.reset();
        self.send(&from, &to, right);
        let question = Packet::between(near_right, right)
            .udp(40_005, 4500)
            .made_here()
            .out_by("eth2");
        self.assert_counted(emulator, &[question], "a question of the gateway");
        self.reset();
        self.send(&to, &from, near_right);
        let answer = Packet::between(right, near_right)
            .udp(4500, 40_005)
            .in_by("eth2")
            .for_gateway();
        self.assert_counted(emulator, &[answer.reply()], "an answer to the gateway");
        let (to, from) = (
            self.udp(&self.gateway, near_right, 500),
            self.udp(&self.right, right, 40_006),
        );
        self.reset();
        self.send(&from, &to, near_right);
        let question = Packet::between(right, near_right)
            .udp(40_006, 500)
            .in_by("eth2")
            .for_gateway();
        self.assert_counted(emulator, &[question], "a question to the gateway");
        let (from, to) = (
            self.udp(&self.left, near_right, 40_007),
            self.udp(&self.right, right, 500),
        );
        self.reset();
        self.send(&from, &to, right);
        let question = Packet::between(near_right, right).udp(40_007, 500);
        let question = question.in_by("eth1").out_by("eth2").with_our_source();
        self.assert_counted(emulator, &[question], "a false source");
    }

    /// TCP: where somebody listens, and where nobody does.
    pub fn connect_twice(&mut self, emulator: &Emulator) {
        let _listener = self.listen(80);
        self.reset();
        let stream = self.connect(80).expect("a connection");
        let port = stream.local_addr().expect("its address").port();
        let established = self.there().tcp(port, 80).state(ConnectionState::Established);
        let packets = [
            self.there().tcp(port, 80).syn(),
            self.back().tcp(80, port).flags("SYN,ACK"),
            established.clone().flags("ACK"),
        ];
        self.assert_counted(emulator, &packets, "a connection");
        self.reset();
        (&stream).write_all(b"x").expect("sending");
        let packets = [established.flags("PSH,ACK"), self.back().tcp(80, port).flags("ACK")];
        self.assert_counted(emulator, &packets, "data");
        self.reset();
        assert!(self.connect(81).is_err(), "somebody listens");
        // Which port it was nobody knows any more, and nobody asks.
        let packets = [self.there().tcp(0, 81).syn(), self.back().tcp(81, 0).flags("RST,ACK")];
        self.assert_counted(emulator, &packets, "a connection to nobody");
    }
}
