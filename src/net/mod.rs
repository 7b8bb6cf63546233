//! What a tunnel covers: the parts of a traffic selector (RFC 4301, section 4.4.1.1).
//!
//! Every type here has a closed alphabet and a constructor that can refuse, because each of them
//! becomes part of a firewall rule. They are independent of daemons and iptables: the folder
//! `daemon` parses them from variables, `netfilter` renders them into rules.

mod interface;
mod mark;
mod network;
mod text_type;
mod traffic_selector;

pub use interface::Interface;
pub(crate) use interface::{InterfacePattern, InterfaceWildcard};
pub use mark::{Mark, MarkBit};
pub use network::{Family, Network};
pub(crate) use text_type::{displayed_type, parsed_type, text_type};
pub use traffic_selector::{Icmp, PortProtocol, Ports, Protocol, SaProtocol, Traffic};

/// Why a text does not parse as its type. It names what was expected; the caller adds the name and
/// the value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected {0}")]
pub struct Expected(pub &'static str);
