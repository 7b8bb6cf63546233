//! The parts of the chain tree that tunnels share. Each exists as long as a tunnel needs it.

use std::cmp::{Ordering, Reverse};
use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::base_chains::{self, JumpConfig};
use super::chain_fragment::ChainFragment;
use super::tunnel::PacketPath;
use crate::net::{Interface, InterfaceWildcard, Network};
use crate::netfilter::{ChainName, LONGEST_CHAIN_NAME, PREFIX, Rule, Table, short_hash};

/// How many bits shorter a bucket's prefix is than the tunnel's network: 6, so that a bucket covers
/// 64 networks of that size.
pub(crate) const BUCKET_BITS: u8 = 6;

/// The precedence of a path's buckets, whatever their networks. The order matters for security: the
/// buckets of each precedence come before those of the next.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precedence {
    /// IP in IP between two gateways, which is no traffic of a tunnel yet. A restricted tunnel to
    /// everywhere would drop it.
    Ipcomp,
    /// Chains that end in a DROP. What a restriction forbids must not meet a wider tunnel first
    /// that allows it.
    Restricted,
    /// All others.
    #[default]
    Open,
    /// Rules that drop the remaining packets, after every tunnel's.
    Rest,
}

impl Precedence {
    /// All of them, in their order.
    pub const ALL: [Self; 4] = [Self::Ipcomp, Self::Restricted, Self::Open, Self::Rest];

    /// How the names of chains end that have it.
    fn suffix(self) -> &'static str {
        match self {
            Self::Ipcomp => "C",
            Self::Restricted => "R",
            Self::Open => "",
            Self::Rest => "X",
        }
    }

    fn is_open(&self) -> bool {
        *self == Self::Open
    }
}

/// What the record calls the folder of interfaces.
pub(crate) const INTERFACES: &str = "device";

/// A bucket: the tunnels of one path whose remote networks have a common prefix.
///
/// Buckets are ordered by precedence, then longer prefixes first. Two prefixes of one length do not
/// overlap.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct DispatchBucket {
    /// The path.
    pub path: PacketPath,
    /// Its precedence.
    #[serde(default, skip_serializing_if = "Precedence::is_open")]
    pub precedence: Precedence,
    /// The prefix that covers the remote networks of all its tunnels.
    pub network: IpNet,
}

impl Ord for DispatchBucket {
    fn cmp(&self, other: &Self) -> Ordering {
        let key = |bucket: &Self| {
            (
                bucket.path,
                bucket.precedence,
                Reverse(bucket.network.prefix_len()),
                bucket.network,
            )
        };
        key(self).cmp(&key(other))
    }
}

impl PartialOrd for DispatchBucket {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl DispatchBucket {
    /// The bucket of a remote network.
    #[must_use]
    pub fn for_remote(path: PacketPath, precedence: Precedence, remote: &Network) -> Self {
        Self {
            path,
            precedence,
            network: remote.supernet(BUCKET_BITS),
        }
    }

    /// Whether its rules are those of its members, in their order. Those of ESP's peers are not:
    /// two tunnels can have one peer.
    #[must_use]
    pub(crate) fn is_ordered(&self) -> bool {
        self.path != PacketPath::EspPeer
    }

    /// The rule of its path's dispatcher that leads to it.
    #[must_use]
    pub fn jump(&self) -> Rule {
        base_chains::bucket_jump(self)
    }

    /// Its name in the record, below that of its path: `10.2.0.0-18`, `10.2.0.0-18R`.
    #[must_use]
    pub fn name_in_path(&self) -> String {
        let Self {
            network, precedence, ..
        } = self;
        format!("{}-{}{}", network.addr(), network.prefix_len(), precedence.suffix())
    }

    /// The bucket of such a name.
    #[must_use]
    pub fn from_name(path: PacketPath, name: &str) -> Option<Self> {
        let (address, rest) = name.split_once('-')?;
        let digits = rest.trim_end_matches(|end: char| !end.is_ascii_digit());
        let suffix = &rest[digits.len()..];
        let precedence = Precedence::ALL.into_iter().find(|known| known.suffix() == suffix)?;
        let network = IpNet::new(address.parse().ok()?, digits.parse().ok()?).ok()?;
        Some(Self {
            path,
            precedence,
            network,
        })
    }

    /// Its chain: `PLUTO-FI-10.2.0.0-18`, or with a hash where an IPv6 network would be too long. A
    /// suffix letter names the precedence. No two buckets share a name: the readable form is
    /// unique, and the hash has 75 bits.
    #[must_use]
    pub fn chain_name(&self) -> ChainName {
        let tag = self.path.tag();
        let network = match self.network {
            IpNet::V4(_) => self.name_in_path(),
            IpNet::V6(_) => self.name_in_path().replace(':', "."),
        };
        if PREFIX.len() + tag.len() + 1 + network.len() <= LONGEST_CHAIN_NAME {
            return ChainName::from_parts(&[tag, &network]);
        }
        let length = self.network.prefix_len().to_string();
        ChainName::from_parts(&[tag, &short_hash(&network, 15), &length])
    }
}

/// Shared chains that some tunnels or gateways need because of their settings.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OptionalChains {
    /// The chain for forwarded unencrypted packets, in the filter table.
    #[serde(rename = "clear")]
    Unencrypted,
    /// The chains through which unencrypted packets reach the gateway's own rules and the blocked
    /// pairs. They except tunnels' interfaces, whose packets are encrypted.
    #[serde(rename = "apart")]
    ClearTextEntry,
    /// What keeps the addresses of packets that will leave by IPsec as they are.
    #[serde(rename = "exempt")]
    NatExempt,
    /// The same for packets that will leave by a tunnel's interface.
    #[serde(rename = "exemptdevice")]
    NatExemptInterface(Interface),
    /// The jump from nat's POSTROUTING for unencrypted packets, to the tunnels that source-NAT.
    #[serde(rename = "hiding")]
    SourceNat,
    /// The jumps for unencrypted packets to the blocked pairs.
    #[serde(rename = "guards")]
    ClearTextBlocks,
    /// The chain that knows the peers whose ESP and AH is accepted.
    #[serde(rename = "peers")]
    EspPeers,
    /// One of them.
    #[serde(rename = "peer")]
    EspPeer(IpAddr),
}

/// Shared chains: one part of the tree. The order is the order of installation.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SharedChains {
    /// A table's jumps in the built-in chains, and the chains that every tunnel with rules in the
    /// table needs.
    Base(Table),
    /// The chains in the filter table for tunnels with their own interface.
    Interfaces,
    /// An interface wildcard, such as `vti+`.
    Wildcard(Table, InterfaceWildcard),
    /// One interface, in the filter table.
    Interface(Interface),
    /// One bucket.
    Bucket(DispatchBucket),
    /// What depends on the settings.
    Optional(OptionalChains),
}

impl SharedChains {
    /// The table that it is a part of.
    #[must_use]
    pub fn table(&self) -> Table {
        match self {
            Self::Base(table) | Self::Wildcard(table, _) => *table,
            Self::Interfaces | Self::Interface(_) => Table::Filter,
            Self::Bucket(bucket) => bucket.path.table(),
            Self::Optional(
                OptionalChains::Unencrypted
                | OptionalChains::ClearTextEntry
                | OptionalChains::ClearTextBlocks
                | OptionalChains::EspPeers
                | OptionalChains::EspPeer(_),
            ) => Table::Filter,
            Self::Optional(
                OptionalChains::NatExempt | OptionalChains::NatExemptInterface(_) | OptionalChains::SourceNat,
            ) => Table::Nat,
        }
    }

    /// Whether it is the base that one of these parts needs. All of them need that of the filter
    /// table.
    #[must_use]
    pub(crate) fn is_base_of_any(&self, parts: &BTreeSet<Self>) -> bool {
        match self {
            Self::Base(Table::Filter) => !parts.is_empty(),
            Self::Base(table) => parts.iter().any(|part| part.table() == *table),
            Self::Interfaces | Self::Wildcard(..) | Self::Interface(_) | Self::Bucket(_) | Self::Optional(_) => false,
        }
    }

    /// The bucket that it is.
    #[must_use]
    pub(crate) fn as_bucket(&self) -> Option<DispatchBucket> {
        match self {
            Self::Bucket(bucket) => Some(*bucket),
            Self::Base(_) | Self::Interfaces | Self::Wildcard(..) | Self::Interface(_) | Self::Optional(_) => None,
        }
    }

    /// Its chains and rules; of a bucket only the chain, see [`DispatchBucket::jump`].
    #[must_use]
    pub fn fragment(&self, jump_config: JumpConfig) -> ChainFragment {
        match self {
            Self::Base(table) => base_chains::table_base(*table, jump_config),
            Self::Interfaces => base_chains::interfaces(jump_config.mark),
            Self::Wildcard(table, class) => base_chains::wildcard(*table, class, jump_config.mark),
            Self::Interface(interface) => base_chains::interface(interface),
            Self::Bucket(bucket) => base_chains::bucket(bucket),
            Self::Optional(part) => base_chains::optional_chains(part, jump_config),
        }
    }
}

/// What the record calls it: `base`, `nat-base`, `interfaces`, `class-vti+`, `nat-class-vti+`,
/// `device/vti01`, `FI/10.2.0.0-18`, `exempt`, `peer-192.0.2.1`.
impl fmt::Display for SharedChains {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Base(Table::Filter) => f.write_str("base"),
            Self::Base(table @ (Table::Nat | Table::Mangle)) => write!(f, "{table}-base"),
            Self::Interfaces => f.write_str("devices"),
            Self::Wildcard(Table::Filter, class) => write!(f, "class-{}", class.as_str()),
            Self::Wildcard(table @ (Table::Nat | Table::Mangle), class) => {
                write!(f, "{table}-class-{}", class.as_str())
            }
            Self::Interface(interface) => write!(f, "{INTERFACES}/{interface}"),
            Self::Bucket(bucket) => write!(f, "{}/{}", bucket.path.tag(), bucket.name_in_path()),
            Self::Optional(part) => write!(f, "{part}"),
        }
    }
}

impl fmt::Display for OptionalChains {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unencrypted => f.write_str("clear"),
            Self::ClearTextEntry => f.write_str("apart"),
            Self::NatExempt => f.write_str("exempt"),
            Self::NatExemptInterface(interface) => write!(f, "exempt-device-{interface}"),
            Self::SourceNat => f.write_str("hiding"),
            Self::ClearTextBlocks => f.write_str("guards"),
            Self::EspPeers => f.write_str("peers"),
            Self::EspPeer(address) => write!(f, "peer-{address}"),
        }
    }
}
