//! Two machines, a gateway between them, and what its rules have counted.

#![allow(
    unreachable_pub,
    reason = "a module of a test binary is reached by that binary alone"
)]

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use pluto_updown::net::Family;
use pluto_updown::netfilter::Backend;

use crate::support::emulator::{Emulator, Kind};
use crate::support::namespace::Namespace;
use crate::support::packet::{self, Packet, PacketTrace, trace_packet};

/// The addresses of a family.
#[derive(Clone, Copy)]
pub struct Addresses {
    /// The machine behind eth1 of the gateway, and the one behind eth2.
    pub left: &'static str,
    pub right: &'static str,
    /// The gateway's own.
    pub near_left: &'static str,
    pub near_right: &'static str,
    /// Another one of the gateway's at eth2, for translations.
    pub translated: &'static str,
    pub left_network: &'static str,
    pub right_network: &'static str,
}

pub const V4: Addresses = Addresses {
    left: "10.1.0.2",
    right: "10.2.0.2",
    near_left: "10.1.0.1",
    near_right: "10.2.0.1",
    translated: "10.2.0.9",
    left_network: "10.1.0.0/24",
    right_network: "10.2.0.0/24",
};

pub const V6: Addresses = Addresses {
    left: "fd00:1::2",
    right: "fd00:2::2",
    near_left: "fd00:1::1",
    near_right: "fd00:2::1",
    translated: "fd00:2::9",
    left_network: "fd00:1::/64",
    right_network: "fd00:2::/64",
};

pub fn addresses(family: Family) -> Addresses {
    match family {
        Family::Ipv4 => V4,
        Family::Ipv6 => V6,
    }
}

/// Two machines and a gateway between them.
pub struct Lab {
    pub left: Namespace,
    pub gateway: Namespace,
    pub right: Namespace,
    pub backend: Backend,
    pub family: Family,
    /// What must not be closed, for that sends packets.
    pub streams: Vec<TcpStream>,
}

impl Lab {
    pub fn new(backend: Backend, family: Family) -> Self {
        let [left, gateway, right] = [(); 3].map(|()| Namespace::bare(backend));
        let addresses = addresses(family);
        let length = addresses.left_network.split_once('/').expect("a length").1;
        gateway.shell(&format!(
            "ip link set lo up
            ip link add eth1 type veth peer name eth0 netns {}
            ip link add eth2 type veth peer name eth0 netns {}
            ip address add {}/{length} dev eth1 {nodad}
            ip address add {}/{length} dev eth2 {nodad}
            ip address add {}/{length} dev eth2 {nodad}
            ip link set eth1 up
            ip link set eth2 up
            sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1 net.ipv4.conf.eth1.accept_local=1
            sysctl -qw net.ipv4.conf.eth1.rp_filter=0 net.ipv4.conf.all.rp_filter=0",
            left.pid(),
            right.pid(),
            addresses.near_left,
            addresses.near_right,
            addresses.translated,
            nodad = nodad(family),
        ));
        let end = |namespace: &Namespace, address: &str, via: &str| {
            namespace.shell(&format!(
                "ip link set lo up
                ip link set eth0 up
                ip address add {address}/{length} dev eth0 {nodad}
                until ip link show eth0 | grep -q 'state UP'; do sleep 0.01; done
                ip route add default via {via}",
                nodad = nodad(family),
            ));
        };
        end(&left, addresses.left, addresses.near_left);
        end(&right, addresses.right, addresses.near_right);
        // The left machine may say that it is the gateway.
        left.shell(&format!(
            "ip address add {} dev lo {}",
            addresses.near_right,
            nodad(family)
        ));
        Self {
            left,
            gateway,
            right,
            backend,
            family,
            streams: Vec::new(),
        }
    }

    /// Loads the text into the gateway, in place of all that its tables held, and into an emulator.
    pub fn load(&self, text: &str) -> Emulator {
        self.gateway.load(self.family, &[], text);
        let mut emulator = Emulator::for_family(match self.family {
            Family::Ipv4 => packet::Family::V4,
            Family::Ipv6 => packet::Family::V6,
        });
        assert_eq!(emulator.restore(text), Ok(()), "{text}");
        emulator
    }

    pub fn reset(&self) {
        for kind in Kind::ALL {
            self.gateway.tables(self.family, &["-t", kind.name(), "-Z"]);
        }
    }

    /// How many packets each rule with a comment has counted, of those that have counted any.
    pub fn counted(&self) -> BTreeMap<String, usize> {
        let mut counted = BTreeMap::new();
        for kind in Kind::ALL {
            let listing = self.gateway.save(self.family, &["-c", "-t", kind.name()]);
            for line in listing.lines().filter(|line| line.starts_with('[')) {
                let number = line[1..].split(':').next().and_then(|number| number.parse().ok());
                let number = number.unwrap_or_else(|| panic!("{line}"));
                if let (Some(name), 1..) = (comment(line), number) {
                    counted.insert(name.to_owned(), number);
                }
            }
        }
        counted
    }

    /// The gateway must have counted these packets, no more and no less; a packet may take its time.
    #[track_caller]
    pub fn assert_counted(&self, emulator: &Emulator, packets: &[Packet], what: &str) {
        let mut expected = BTreeMap::new();
        let traces: Vec<PacketTrace> = packets.iter().map(|packet| trace_packet(emulator, packet)).collect();
        for rule in traces.iter().flat_map(PacketTrace::matched) {
            if let Some(name) = comment(rule) {
                *expected.entry(name.to_owned()).or_default() += 1;
            }
        }
        let deadline = Instant::now() + Duration::from_secs(2);
        let mut counted = self.counted();
        while counted != expected && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(20));
            counted = self.counted();
        }
        let differing = |one: &BTreeMap<String, usize>, other: &BTreeMap<String, usize>| -> Vec<String> {
            let lacks = |(name, number): &(&String, &usize)| other.get(*name) != Some(*number);
            one.iter()
                .filter(lacks)
                .map(|(name, number)| format!("{number}: {name}"))
                .collect()
        };
        let (real, traced) = (differing(&counted, &expected), differing(&expected, &counted));
        assert_eq!(
            real, traced,
            "{what}, {} {}: counted, and traced",
            self.backend, self.family
        );
        assert!(!expected.is_empty(), "{what}: nothing to compare");
    }

    pub fn udp(&self, machine: &Namespace, address: &str, port: u16) -> UdpSocket {
        let socket = machine.inside(|| freed(|| UdpSocket::bind(socket_address(address, port))));
        socket
            .set_read_timeout(Some(Duration::from_secs(5)))
            .expect("a timeout");
        socket
    }

    pub fn listen(&self, port: u16) -> TcpListener {
        let address = addresses(self.family).right;
        self.right
            .inside(|| freed(|| TcpListener::bind(socket_address(address, port))))
    }

    /// A connection from the left machine to the right one.
    pub fn connect(&mut self, port: u16) -> io::Result<TcpStream> {
        let address = addresses(self.family).right;
        let stream = self
            .left
            .inside(|| TcpStream::connect_timeout(&socket_address(address, port), Duration::from_secs(5)))?;
        self.streams.push(stream.try_clone().expect("the same connection"));
        Ok(stream)
    }
}

fn nodad(family: Family) -> &'static str {
    match family {
        Family::Ipv4 => "",
        Family::Ipv6 => "nodad",
    }
}

/// What an address is bound to. A program that another thread starts keeps a closed socket open until it runs.
fn freed<T>(bind: impl Fn() -> io::Result<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(5);
    loop {
        match bind() {
            Ok(socket) => return socket,
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(5));
            }
            Err(error) => panic!("{error}"),
        }
    }
}

pub fn socket_address(address: &str, port: u16) -> SocketAddr {
    let address: IpAddr = address.parse().expect("an address");
    SocketAddr::new(address, port)
}

/// What is in the comment of a rule, by which it is known: no two have the same. A word is printed without quotes.
fn comment(rule: &str) -> Option<&str> {
    let text = rule.split_once("--comment ")?.1;
    match text.strip_prefix('"') {
        Some(quoted) => quoted.split('"').next(),
        None => text.split(' ').next(),
    }
}
