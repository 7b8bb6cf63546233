//! The parts of the chain tree that tunnels share. Each stands as long as a tunnel needs it.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::identity::short_hash;
use super::path::Path;
use super::piece::Piece;
use super::shared::{self, Site};
use crate::netfilter::{ChainName, LONGEST_CHAIN_NAME, PREFIX, Table};
use crate::selector::{Device, DeviceClass, Network};

/// How many bits shorter than a tunnel's network its block is: 6, so that a block holds at most 64 networks of that size.
pub const BLOCK_BITS: u8 = 6;

/// A block: the tunnels of one path whose far networks lie close together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Block {
    /// The path.
    pub path: Path,
    /// What covers the far networks of all its tunnels.
    pub network: IpNet,
}

impl Block {
    /// The block of a far network.
    #[must_use]
    pub fn of(path: Path, far: &Network) -> Self {
        Self {
            path,
            network: far.cover(BLOCK_BITS),
        }
    }

    /// Its chain: `PLUTO-FI-10.2.0.0-18`, or with a hash where an IPv6 network would be too long. No two blocks share one:
    /// the readable form gives the network back, and the hash has 75 bits.
    #[must_use]
    pub fn chain(&self) -> ChainName {
        let tag = self.path.tag();
        let network = self.network.to_string().replace(':', ".").replace('/', "-");
        let readable = format!("{PREFIX}{tag}-{network}");
        let text = if readable.len() <= LONGEST_CHAIN_NAME {
            readable
        } else {
            format!(
                "{PREFIX}{tag}-{}-{}",
                short_hash(&network, 15),
                self.network.prefix_len()
            )
        };
        // Letters, digits, dots and dashes, and short enough by the line above: it parses.
        text.parse().unwrap_or_else(|_| self.path.dispatcher())
    }
}

/// A shared part of the tree that some tunnels need by what is set for them, and some gateways by what is set for those.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Shared {
    /// What sorts forwarded packets in clear further, in the filter table.
    Clear,
    /// The chains by which packets in clear come to the gateway's own rules and to the networks that are held apart. They know tunnels'
    /// devices, by which nothing comes in clear.
    Apart,
    /// What keeps the addresses of packets that will leave by IPsec as they are.
    Exempt,
    /// The same for those that will leave by a tunnel's device.
    ExemptDevice(Device),
    /// What leads packets in clear to the tunnels that hide their sources.
    Hiding,
    /// What leads packets in clear to these chains.
    Guards,
    /// The chain that knows the peers whose ESP and AH is accepted.
    Peers,
    /// One of them.
    Peer(IpAddr),
}

/// One shared part of the tree. The order is that in which parts are put in.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Node {
    /// A table's jumps in the built-in chains, and what every tunnel needs that has something in the table.
    Base(Table),
    /// What tunnels with a device of their own need in the filter table.
    Devices,
    /// A class of devices, `vti+`.
    Class(Table, DeviceClass),
    /// One device, in the filter table.
    Device(Device),
    /// One block.
    Block(Block),
    /// What depends on the settings.
    Shared(Shared),
}

impl Node {
    /// The table that it is a part of.
    #[must_use]
    pub fn table(&self) -> Table {
        match self {
            Self::Base(table) | Self::Class(table, _) => *table,
            Self::Devices | Self::Device(_) => Table::Filter,
            Self::Block(block) => block.path.table(),
            Self::Shared(Shared::Clear | Shared::Apart | Shared::Guards | Shared::Peers | Shared::Peer(_)) => {
                Table::Filter
            }
            Self::Shared(Shared::Exempt | Shared::ExemptDevice(_) | Shared::Hiding) => Table::Nat,
        }
    }

    /// What it consists of.
    #[must_use]
    pub fn piece(&self, site: Site) -> Piece {
        match self {
            Self::Base(table) => shared::base(*table, site),
            Self::Devices => shared::devices(site.mark),
            Self::Class(table, class) => shared::class(*table, class, site.mark),
            Self::Device(device) => shared::device(device),
            Self::Block(block) => shared::block(block),
            Self::Shared(part) => shared::part(part, site),
        }
    }
}

/// What the record calls it: `base`, `nat-base`, `devices`, `class-vti+`, `nat-class-vti+`, `device-vti01`, `FI-10.2.0.0-18`, `exempt`,
/// `peer-192.0.2.1`.
impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Base(Table::Filter) => f.write_str("base"),
            Self::Base(table @ (Table::Nat | Table::Mangle)) => write!(f, "{table}-base"),
            Self::Devices => f.write_str("devices"),
            Self::Class(Table::Filter, class) => write!(f, "class-{}", class.as_str()),
            Self::Class(table @ (Table::Nat | Table::Mangle), class) => write!(f, "{table}-class-{}", class.as_str()),
            Self::Device(device) => write!(f, "device-{device}"),
            Self::Block(Block { path, network }) => {
                write!(f, "{}-{}-{}", path.tag(), network.addr(), network.prefix_len())
            }
            Self::Shared(part) => write!(f, "{part}"),
        }
    }
}

impl fmt::Display for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Clear => f.write_str("clear"),
            Self::Apart => f.write_str("apart"),
            Self::Exempt => f.write_str("exempt"),
            Self::ExemptDevice(device) => write!(f, "exempt-device-{device}"),
            Self::Hiding => f.write_str("hiding"),
            Self::Guards => f.write_str("guards"),
            Self::Peers => f.write_str("peers"),
            Self::Peer(address) => write!(f, "peer-{address}"),
        }
    }
}
