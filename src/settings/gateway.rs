//! The gateway's own rules, which `start` installs: the keys of `[gateway]`.

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::service::Service;
use crate::net::{InterfacePattern, MarkBit};

/// What is set for the gateway. The default, which applies without a file, installs nothing.
///
/// It is serialized to be shown, as the file has it: the keys that decide about rules of its own.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Gateway {
    /// IKE to and from the gateway.
    pub ike: Ike,
    /// ESP and AH to and from the gateway.
    pub esp: Esp,
    /// The gateways that are known: addresses and prefixes of either family, none twice.
    pub peers: Vec<IpNet>,
    /// IPsec of other machines, through the gateway.
    pub through: Through,
    /// Interfaces and peers with which only IPsec is allowed.
    pub only_ipsec: Vec<IpsecOnlyScope>,
    /// ICMP and ICMPv6.
    pub icmp: IcmpFilter,
    /// What is accepted only out of a tunnel.
    pub inner_only: Vec<Service>,
    /// The position of the jumps in the built-in chains.
    #[serde(skip)]
    pub place: JumpPlace,
    /// The bit of a packet's mark that carries the consent of a first tunnel to a second one: key
    /// `mark`.
    #[serde(skip)]
    pub mark: MarkBit,
}

/// IKE, UDP 500 and 4500 and TCP 4500, to and from the gateway: key `ike`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Ike {
    /// From and to everyone: `"any"`.
    Any,
    /// With [`Gateway::peers`]; everything else of it is dropped: `"known"`.
    Known,
    /// Other rules decide: `"leave"`.
    #[default]
    Leave,
}

/// ESP and AH to and from the gateway: key `esp`. ESP in UDP or TCP 4500 is IKE to a packet filter.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Esp {
    /// With everyone: `"any"`.
    Any,
    /// With [`Gateway::peers`]; everything else of it is dropped: `"known"`.
    Known,
    /// With the peers of tunnels that are up; everything else of it is dropped: `"negotiated"`.
    Negotiated,
    /// Other rules decide: `"leave"`.
    #[default]
    Leave,
}

/// IKE, ESP and AH that the gateway forwards: key `through`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Through {
    /// It passes: `"allow"`.
    Allow,
    /// It is dropped: `"deny"`.
    Deny,
    /// Other rules decide: `"leave"`.
    #[default]
    Leave,
    /// It passes from and to these of our machines, and is dropped otherwise: a list of addresses
    /// and prefixes.
    #[serde(untagged)]
    Listed(Vec<IpNet>),
}

/// An interface, or addresses, with which only IPsec is allowed: an entry of key `only-ipsec`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
#[serde(untagged)]
pub enum IpsecOnlyScope {
    /// Every host by such an interface: `"eth1"`, `"ppp+"`.
    Interface(InterfacePattern),
    /// These addresses: `"192.0.2.7"`, `"198.51.100.0/24"`.
    Peer(IpNet),
}

/// ICMP and ICMPv6: key `icmp`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum IcmpFilter {
    /// Other rules decide: `"leave"`.
    #[default]
    Leave,
    /// Types without use are dropped, those that IPsec and IPv6 need pass: `"safe"`.
    Safe,
}

/// The position of the jumps in the built-in chains: key `place`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum JumpPlace {
    /// Before all other rules: `"first"`.
    #[default]
    First,
    /// After all other rules: `"last"`.
    Last,
    /// Where the administrator installs them: `"own"`.
    Own,
}
