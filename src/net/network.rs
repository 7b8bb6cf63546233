//! Networks: the selectors at either end of a tunnel.

use crate::net::displayed_type;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};

use super::Expected;

/// An address family. Always taken from an address, never from a verb's suffix: libreswan 4.x forms
/// that from its own IKE address and says `up-client` of IPv6 networks in an IPv4 tunnel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Family {
    /// IPv4, the realm of `iptables`.
    Ipv4,
    /// IPv6, the realm of `ip6tables`.
    Ipv6,
}

impl Family {
    /// Both families, in the order in which they are worked through.
    pub const ALL: [Self; 2] = [Self::Ipv4, Self::Ipv6];

    /// The family of an address.
    #[must_use]
    pub fn of_address(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Self::Ipv4,
            IpAddr::V6(_) => Self::Ipv6,
        }
    }

    /// How many bits an address of this family has.
    #[must_use]
    pub fn bits(self) -> u8 {
        match self {
            Self::Ipv4 => 32,
            Self::Ipv6 => 128,
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ipv4 => "ipv4",
            Self::Ipv6 => "ipv6",
        })
    }
}

/// The addresses at one end of a tunnel.
///
/// Written `10.1.0.0/24`, `10.1.0.7` for one address alone, or `10.1.0.5-10.1.0.9` where the
/// selector is no single prefix (libreswan 5.2 and later; strongSwan widens such a range to the
/// next prefix before it calls). Host bits below a prefix are cleared, as the daemons and iptables
/// do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Network {
    /// All addresses below one prefix.
    Prefix(IpNet),
    /// The addresses from the first to the last, both included; never a single prefix, both of one
    /// family, first < last.
    Range(IpAddr, IpAddr),
}

impl Network {
    /// The network that holds a single address.
    #[must_use]
    pub fn host(address: IpAddr) -> Self {
        Self::Prefix(IpNet::from(address))
    }

    /// The family of its addresses.
    #[must_use]
    pub fn family(&self) -> Family {
        match self {
            Self::Prefix(IpNet::V4(_)) | Self::Range(IpAddr::V4(_), _) => Family::Ipv4,
            Self::Prefix(IpNet::V6(_)) | Self::Range(IpAddr::V6(_), _) => Family::Ipv6,
        }
    }

    /// Its first address.
    #[must_use]
    pub fn first(&self) -> IpAddr {
        match self {
            Self::Prefix(prefix) => prefix.network(),
            Self::Range(first, _) => *first,
        }
    }

    /// Its last address.
    #[must_use]
    pub fn last(&self) -> IpAddr {
        match self {
            Self::Prefix(prefix) => prefix.broadcast(),
            Self::Range(_, last) => *last,
        }
    }

    /// Whether every address of another network is one of this one, too.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        self.family() == other.family() && self.first() <= other.first() && other.last() <= self.last()
    }

    /// Whether it is this one address and no other.
    #[must_use]
    pub fn is_host(&self, address: IpAddr) -> bool {
        *self == Self::host(address)
    }

    /// Whether an address lies in it.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        match self {
            Self::Prefix(prefix) => prefix.contains(&address),
            Self::Range(first, last) => {
                Family::of_address(*first) == Family::of_address(address) && (first..=last).contains(&&address)
            }
        }
    }

    /// The longest prefix that covers the network, made `shorter` bits shorter. Everything
    /// (`0.0.0.0/0`, `::/0`) covers itself only.
    #[must_use]
    pub(crate) fn supernet(&self, shorter: u8) -> IpNet {
        let (address, length) = match *self {
            Self::Prefix(prefix) => (prefix.network(), prefix.prefix_len()),
            Self::Range(first, last) => (first, common_prefix(first, last)),
        };
        prefix(address, length.saturating_sub(shorter))
    }
}

/// How many leading bits two addresses of one family share.
fn common_prefix(first: IpAddr, last: IpAddr) -> u8 {
    let shared = match (first, last) {
        (IpAddr::V4(a), IpAddr::V4(b)) => (a.to_bits() ^ b.to_bits()).leading_zeros(),
        (IpAddr::V6(a), IpAddr::V6(b)) => (a.to_bits() ^ b.to_bits()).leading_zeros(),
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => 0,
    };
    u8::try_from(shared).unwrap_or(u8::MAX)
}

/// A prefix with its host bits cleared. A length beyond the family's is cut to it.
fn prefix(address: IpAddr, length: u8) -> IpNet {
    let length = length.min(Family::of_address(address).bits());
    match address {
        IpAddr::V4(address) => IpNet::V4(Ipv4Net::new_assert(address, length).trunc()),
        IpAddr::V6(address) => IpNet::V6(Ipv6Net::new_assert(address, length).trunc()),
    }
}

impl FromStr for Network {
    type Err = Expected;

    fn from_str(text: &str) -> Result<Self, Expected> {
        const FORM: Expected = Expected("an address with a prefix length, or a range of addresses");
        if let Some((first, last)) = text.split_once('-') {
            let first: IpAddr = first.parse().map_err(|_| FORM)?;
            let last: IpAddr = last.parse().map_err(|_| FORM)?;
            return Self::from_range(first, last);
        }
        // libreswan 4.4 and 4.5 write the address of a NATed peer in transport mode without a
        // length (`kernel.c`, `jam_common_shell_out`).
        if let Ok(address) = text.parse() {
            return Ok(Self::host(address));
        }
        let prefix: IpNet = text.parse().map_err(|_| FORM)?;
        Ok(Self::Prefix(prefix.trunc()))
    }
}

impl Network {
    /// The addresses from `first` to `last`; a prefix where they make one.
    fn from_range(first: IpAddr, last: IpAddr) -> Result<Self, Expected> {
        if Family::of_address(first) != Family::of_address(last) || first > last {
            return Err(Expected("a range from a lower to a higher address of one family"));
        }
        let cover = prefix(first, common_prefix(first, last));
        if cover.network() == first && cover.broadcast() == last {
            return Ok(Self::Prefix(cover));
        }
        Ok(Self::Range(first, last))
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Prefix(prefix) => write!(f, "{prefix}"),
            Self::Range(first, last) => write!(f, "{first}-{last}"),
        }
    }
}

displayed_type!(Network);

#[cfg(test)]
mod tests {
    use super::*;

    fn network(text: &str) -> Network {
        text.parse().unwrap()
    }

    #[test]
    fn host_bits_below_a_prefix_are_cleared() {
        assert_eq!(network("10.1.0.7/24").to_string(), "10.1.0.0/24");
        assert_eq!(network("2001:db8::7/64").to_string(), "2001:db8::/64");
    }

    #[test]
    fn an_address_alone_is_a_network_of_one() {
        assert_eq!(network("10.1.0.7"), network("10.1.0.7/32"));
        assert_eq!(network("2001:db8::7"), network("2001:db8::7/128"));
    }

    #[test]
    fn a_range_that_is_a_prefix_becomes_one() {
        assert_eq!(network("10.1.0.0-10.1.0.255"), network("10.1.0.0/24"));
        assert_eq!(network("0.0.0.0-255.255.255.255"), network("0.0.0.0/0"));
        assert_eq!(network("10.1.0.5-10.1.0.5"), network("10.1.0.5/32"));
        assert_eq!(network("10.1.0.5-10.1.0.9").to_string(), "10.1.0.5-10.1.0.9");
        assert_eq!(
            network("2001:db8::1-2001:db8::5").to_string(),
            "2001:db8::1-2001:db8::5"
        );
    }

    #[test]
    fn a_network_covers_what_lies_in_it() {
        for (outer, inner, covers) in [
            ("0.0.0.0/0", "10.1.0.0/24", true),
            ("10.1.0.0/24", "10.1.0.0/24", true),
            ("10.1.0.0/24", "10.0.0.0/8", false),
            ("10.1.0.0/24", "10.1.0.5-10.1.0.9", true),
            ("10.1.0.5-10.1.0.9", "10.1.0.9/32", true),
            ("10.1.0.5-10.1.0.9", "10.1.0.10/32", false),
            ("::/0", "10.1.0.0/24", false),
            ("2001:db8::/32", "2001:db8:7::/48", true),
        ] {
            assert_eq!(network(outer).covers(&network(inner)), covers, "{outer} {inner}");
        }
    }

    #[test]
    fn nonsense_is_refused() {
        for text in [
            "",
            "10.1.0",
            "10.1.0.0/33",
            "10.1.0.0/-1",
            "10.1.0.0/24 ",
            "10.1.0.9-10.1.0.5",
            "10.1.0.1-::1",
            "-",
            "10.0.0.1-",
        ] {
            assert!(text.parse::<Network>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_block_covers_the_network_six_bits_shorter() {
        let cover = |text: &str| network(text).supernet(6).to_string();
        assert_eq!(cover("10.2.0.0/24"), "10.2.0.0/18");
        assert_eq!(cover("10.9.0.7/32"), "10.9.0.0/26");
        assert_eq!(cover("0.0.0.0/0"), "0.0.0.0/0");
        assert_eq!(cover("128.0.0.0/1"), "0.0.0.0/0");
        assert_eq!(cover("10.1.0.5-10.1.0.9"), "10.1.0.0/22");
        assert_eq!(cover("2001:db8:0:2::/64"), "2001:db8::/58");
    }
}
