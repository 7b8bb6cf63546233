//! A daemon by chance: peers come and go, some behind one NAT; associations are rekeyed and peers move without a call; a `down` that was
//! refused never comes again.

#![allow(dead_code, reason = "each test binary uses its part of this module")]

use std::collections::BTreeMap;

use pluto_updown::net::Family;

use super::binary::Call;
use super::model::Verb;
use super::random::Random;
use super::world::{libreswan, strongswan};

/// Settings under which peers are allowed different things.
pub const SETTINGS: &str = "
[tunnel]
nat = \"leave\"
on-error = \"refuse\"
[[connection]]
peer-id = \"guest\"
allow = \"none\"
[[connection]]
peer-id = \"eve\"
allow = [\"tcp/80\"]
host-access = \"no\"
[[connection]]
peer-id = \"bob\"
allow = [\"tcp/22\"]
log = \"denied\"
";

/// Who comes; what is allowed to the first is everything.
const PEERS: [&str; 4] = ["anna", "guest", "eve", "bob"];

/// A child that lives, as the daemon knows it by now.
#[derive(Clone, Debug)]
struct Child {
    name: String,
    family: Family,
    peer: &'static str,
    association: u32,
    /// The peer's host of those that there are.
    host: usize,
    selectors: [String; 2],
    reqid: u32,
}

/// A call, and what it is for.
#[derive(Clone, Debug)]
pub struct ByChance {
    pub verb: Verb,
    pub call: Call,
}

/// The daemon.
#[derive(Debug)]
pub struct Charon {
    random: Random,
    children: Vec<Child>,
    associations: u32,
    /// The reqid of each pair of selectors that lives, as charon gives them: the lowest that is free.
    reqids: BTreeMap<[String; 2], u32>,
    /// How many connections there are of each kind.
    connections: usize,
    /// How often a call was about a child that was rekeyed or had moved.
    pub silent: usize,
}

impl Charon {
    pub fn new(seed: u64, connections: usize) -> Self {
        Self {
            random: Random::seeded(seed),
            children: Vec::new(),
            associations: 0,
            reqids: BTreeMap::new(),
            connections,
            silent: 0,
        }
    }

    /// The next call.
    pub fn call(&mut self) -> ByChance {
        loop {
            match self.random.below(12) {
                0..=3 => return self.up(),
                4..=6 if !self.children.is_empty() => return self.down(),
                7 | 8 if !self.children.is_empty() => self.rekey(),
                9 if !self.children.is_empty() => self.reposition(),
                10 | 11 => return self.plutos(),
                _ => {}
            }
        }
    }

    fn up(&mut self) -> ByChance {
        let number = self.random.below(self.connections);
        let family = self.random.pick(&Family::ALL);
        let peer = self.random.pick(&PEERS);
        let host = self.random.below(4);
        self.associations += 1;
        let name = match number % 2 {
            0 => format!("net-{number}"),
            _ => format!("road-{number}"),
        };
        let mut child = Child {
            name,
            family,
            peer,
            association: self.associations,
            host,
            selectors: selectors(number, family, host),
            reqid: 0,
        };
        child.reqid = self.reqid(&child.selectors);
        self.children.push(child.clone());
        called(Verb::Up, &child)
    }

    fn down(&mut self) -> ByChance {
        let which = self.random.below(self.children.len());
        let child = self.children.remove(which);
        self.release(&child.selectors);
        called(Verb::Down, &child)
    }

    /// Gives an association another number.
    fn rekey(&mut self) {
        let which = self.random.below(self.children.len());
        self.associations += 1;
        self.children[which].association = self.associations;
        self.silent += 1;
    }

    /// Moves a peer to another host; a road warrior's selectors and reqid go with it.
    fn reposition(&mut self) {
        let which = self.random.below(self.children.len());
        let mut child = self.children.remove(which);
        child.host = self.random.below(4);
        if child.name.starts_with("road") {
            self.release(&child.selectors);
            child.selectors[1] = network(child.family, child.host);
            child.reqid = self.reqid(&child.selectors);
        }
        self.children.push(child);
        self.silent += 1;
    }

    /// A call of a libreswan beside it, about one of its permanent connections.
    fn plutos(&mut self) -> ByChance {
        let number = u32::try_from(self.random.below(self.connections)).expect("small");
        let verb = self.random.pick(&[Verb::Up, Verb::Down]);
        let local = ["10.1.0.0/24", "10.0.10.1/32"][usize::from(number % 2 == 1)];
        let remote = format!("10.{}.0.0/24", 100 + number);
        let up = libreswan(&format!("pluto-{number}"), 16389 + 4 * number, local, &remote);
        let call = verb.of_call(match number % 2 {
            0 => up,
            _ => up.with("CAT", "YES").with("PLUTO_CONN_KIND", "CK_INSTANCE"),
        });
        ByChance { verb, call }
    }

    fn reqid(&mut self, selectors: &[String; 2]) -> u32 {
        let free = (1..).find(|number| !self.reqids.values().any(|taken| taken == number));
        *self.reqids.entry(selectors.clone()).or_insert(free.expect("a number"))
    }

    fn release(&mut self, selectors: &[String; 2]) {
        if !self.children.iter().any(|child| child.selectors == *selectors) {
            self.reqids.remove(selectors);
        }
    }
}

/// The calls of each child that lives yet.
impl Iterator for Charon {
    type Item = ByChance;

    fn next(&mut self) -> Option<ByChance> {
        let child = self.children.pop()?;
        Some(called(Verb::Down, &child))
    }
}

fn address(family: Family, host: usize) -> String {
    match family {
        Family::Ipv4 => format!("203.0.113.{}", 1 + host),
        Family::Ipv6 => format!("2001:db8:113::{}", 1 + host),
    }
}

fn network(family: Family, host: usize) -> String {
    let bits = match family {
        Family::Ipv4 => 32,
        Family::Ipv6 => 128,
    };
    format!("{}/{bits}", address(family, host))
}

/// The selectors of a connection: to a network, or to the host of a road warrior without a virtual address.
fn selectors(number: usize, family: Family, host: usize) -> [String; 2] {
    let local = match family {
        Family::Ipv4 => "10.1.0.0/24",
        Family::Ipv6 => "2001:db8:1::/64",
    };
    let remote = match (number % 2, family) {
        (0, Family::Ipv4) => format!("10.{}.{}.0/24", 32 + number / 8, number % 8),
        (0, Family::Ipv6) => format!("2001:db8:{:x}::/64", 0x1000 + number),
        (_, family) => network(family, host),
    };
    [local.to_owned(), remote]
}

fn called(verb: Verb, child: &Child) -> ByChance {
    let [local, remote] = &child.selectors;
    let up = strongswan(&child.name, child.reqid, local, remote)
        .of_peer(child.peer, child.association)
        .with("PLUTO_PEER", address(child.family, child.host));
    let call = verb.of_call(up);
    ByChance { verb, call }
}
