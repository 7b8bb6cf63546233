//! Twins of a gateway: one on each backend, with tunnels of each family. Tests say their addresses in IPv4.

#![allow(dead_code, reason = "each test binary uses its part of this module")]

use std::ops::{Deref, DerefMut};

use pluto_updown::net::Family;
use pluto_updown::netfilter::Backend;

use super::emulator::Emulator;
use super::packet::{Packet, Verdict};
use super::world::World;

/// The chains that all tunnels need; the last two are for forwarded packets alone.
pub const SHARED_CHAINS: [&str; 12] = [
    "INPUT",
    "FORWARD",
    "OUTPUT",
    "PLUTO-INPUT",
    "PLUTO-FORWARD",
    "PLUTO-OUTPUT",
    "PLUTO-DECRYPTED",
    "PLUTO-ONWARD",
    "PLUTO-I",
    "PLUTO-O",
    "PLUTO-FI",
    "PLUTO-FO",
];

/// A gateway on a backend, whose tunnels have packets of a family.
#[derive(Debug)]
pub struct Gateway {
    pub world: World,
    pub family: Family,
}

/// Every backend with every family.
pub fn twins() -> impl Iterator<Item = (Backend, Family)> {
    let backends = [Backend::Nft, Backend::Legacy].into_iter();
    backends.flat_map(|backend| Family::ALL.map(|family| (backend, family)))
}

/// One on each backend, with tunnels of each family, and with this settings file.
pub fn gateways(file: &str) -> impl Iterator<Item = Gateway> + '_ {
    twins().map(move |(backend, family)| Gateway {
        world: World::with_file(&in_family(file, family)).on(backend),
        family,
    })
}

impl Deref for Gateway {
    type Target = World;

    fn deref(&self) -> &World {
        &self.world
    }
}

impl DerefMut for Gateway {
    fn deref_mut(&mut self) -> &mut World {
        &mut self.world
    }
}

impl Gateway {
    /// What is said in IPv4, in the family of this one.
    pub fn in_family(&self, text: &str) -> String {
        in_family(text, self.family)
    }

    /// A network of ours, and one of a peer's.
    pub fn networks(&self) -> [String; 2] {
        ["10.1.0.0/24", "10.2.0.0/24"].map(|network| self.in_family(network))
    }

    /// Another settings file.
    pub fn set_file(&mut self, file: &str) {
        self.world.set_file(&in_family(file, self.family));
    }

    pub fn emulator(&mut self) -> &mut Emulator {
        self.world.emulator(self.family)
    }

    /// The verdict on a packet in the filter table.
    pub fn verdict(&mut self, packet: &Packet) -> Verdict {
        self.world.verdict(self.family, packet)
    }
}

/// What is said in IPv4, in a family.
pub fn in_family(text: &str, family: Family) -> String {
    match family {
        Family::Ipv4 => text.to_owned(),
        Family::Ipv6 => in_ipv6(text),
    }
}

/// With the IPv6 address or network that stands for each IPv4 one in a test of both families: `fd00::` and the old one's bits.
pub fn in_ipv6(text: &str) -> String {
    let mut replaced = String::new();
    let mut rest = text;
    while let Some(start) = rest.find(|letter: char| letter.is_ascii_digit()) {
        let word = &rest[start..];
        let end = word
            .find(|letter: char| !(letter.is_ascii_hexdigit() || ".:/".contains(letter)))
            .unwrap_or(word.len());
        // What ends a sentence or begins a verdict is no part of an address.
        let word = word[..end].trim_end_matches([':', '.']);
        replaced.push_str(&rest[..start]);
        replaced.push_str(&embedded(word).unwrap_or_else(|| word.to_owned()));
        rest = &rest[start + word.len()..];
    }
    replaced + rest
}

fn embedded(word: &str) -> Option<String> {
    let (address, length) = word.split_once('/').map_or((word, None), |(a, l)| (a, Some(l)));
    let address: std::net::Ipv4Addr = address.parse().ok()?;
    let six = std::net::Ipv6Addr::from_bits((0xfd00 << 112) | u128::from(address.to_bits()));
    match length {
        None => Some(six.to_string()),
        Some("0") => Some("::/0".to_owned()),
        Some(length) => Some(format!("{six}/{}", length.parse::<u8>().ok()? + 96)),
    }
}
