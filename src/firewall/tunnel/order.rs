//! The order of tunnels' rules.
//!
//! Selectors may overlap: a road warrior's address lies in a site's network, and both tunnels use
//! one interface. Whose rules come first then decides which packets pass, so the order must not
//! depend on which tunnel came up last. Every part of the program uses this order: restricting
//! rules first ([`Precedence`](crate::firewall::Precedence)), then narrower remote networks,
//! narrower local networks, narrower traffic selectors, and the tunnel's id.

use serde::{Deserialize, Serialize};

use super::identity::TunnelId;
use crate::net::{Family, Network, Traffic};

/// The position of a tunnel in a bucket: the least comes first.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TunnelOrder {
    /// How many bits of an address the remote network leaves open. A range counts as the smallest
    /// prefix that covers it.
    remote: u8,
    /// The same of the local network.
    local: u8,
    /// The breadth of the traffic selector.
    traffic: u64,
    /// Decides between equal ones.
    id: TunnelId,
}

impl TunnelOrder {
    /// The position of a tunnel.
    pub(crate) fn new(id: &TunnelId, remote: &Network, local: &Network, traffic: &Traffic) -> Self {
        Self {
            remote: open_bits(remote),
            local: open_bits(local),
            traffic: traffic.breadth(),
            id: id.clone(),
        }
    }

    /// The tunnel.
    #[must_use]
    pub fn id(&self) -> &TunnelId {
        &self.id
    }

    /// The numbers that precede the id in the order, as in the record's file names.
    #[must_use]
    pub(crate) fn breadths(&self) -> [u64; 3] {
        [u64::from(self.remote), u64::from(self.local), self.traffic]
    }

    /// The order that a file name encodes.
    #[must_use]
    pub(crate) fn from_breadths([remote, local, traffic]: [u64; 3], id: TunnelId) -> Option<Self> {
        Some(Self {
            remote: u8::try_from(remote).ok()?,
            local: u8::try_from(local).ok()?,
            traffic,
            id,
        })
    }
}

/// How many bits of an address a network leaves open.
fn open_bits(network: &Network) -> u8 {
    let cover = network.supernet(0);
    Family::of_address(cover.addr()).bits() - cover.prefix_len()
}

/// A tunnel's rules in a bucket: how many at the head, and how many at the tail.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BucketMember {
    /// Its position.
    pub order: TunnelOrder,
    /// Its rules at the head.
    pub heads: usize,
    /// Its rules at the tail.
    pub tails: usize,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::{Icmp, PortProtocol, Ports, Protocol};

    fn order(remote: &str, local: &str, traffic: &Traffic, id: &str) -> TunnelOrder {
        let network = |text: &str| text.parse().unwrap();
        TunnelOrder::new(&id.parse().unwrap(), &network(remote), &network(local), traffic)
    }

    #[test]
    fn narrower_selectors_come_first_and_the_id_decides_between_equal_ones() {
        let tcp = |local, remote| Traffic::Ports {
            protocol: PortProtocol::Tcp,
            local,
            remote,
        };
        let icmp = Traffic::Protocol(Protocol(1.try_into().unwrap()));
        let sorted = [
            order("10.9.0.7/32", "10.1.0.0/16", &Traffic::Any, "z-z"),
            order("10.9.0.5-10.9.0.6", "10.1.0.0/16", &Traffic::Any, "z-z"),
            order("10.9.0.0/24", "10.1.0.7/32", &Traffic::Any, "z-z"),
            order(
                "10.9.0.0/24",
                "10.1.0.0/24",
                &tcp(Ports::single(22), Ports::single(22)),
                "z-z",
            ),
            order("10.9.0.0/24", "10.1.0.0/24", &Traffic::Icmp(Icmp::Type(8)), "z-z"),
            order("10.9.0.0/24", "10.1.0.0/24", &tcp(Ports::single(22), Ports::Any), "z-z"),
            order(
                "10.9.0.0/24",
                "10.1.0.0/24",
                &tcp(Ports::Range(22..=23), Ports::Any),
                "z-z",
            ),
            order("10.9.0.0/24", "10.1.0.0/24", &icmp, "z-z"),
            order("10.9.0.0/24", "10.1.0.0/24", &Traffic::Any, "a-a"),
            order("10.9.0.0/24", "10.1.0.0/24", &Traffic::Any, "b-b"),
            order("0.0.0.0/0", "10.1.0.7/32", &Traffic::Any, "a-a"),
        ];
        assert!(sorted.is_sorted(), "{sorted:#?}");
    }

    #[test]
    fn a_file_name_gives_the_order_back() {
        let order = order("10.9.0.0/24", "0.0.0.0/0", &Traffic::Any, "a.b-c");
        let again = TunnelOrder::from_breadths(order.breadths(), order.id().clone());
        assert_eq!(again, Some(order));
    }
}
