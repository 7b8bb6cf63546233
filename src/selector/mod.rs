//! What a tunnel covers: the words in which a traffic selector (RFC 4301, section 4.4.1.1) is said.
//!
//! Every type here has a closed alphabet and a constructor that can refuse, because each of them
//! ends in a firewall rule. They know nothing of daemons or of iptables: the contract stage makes
//! them out of variables, the plan stage puts them into rules.

mod interface;
mod mark;
mod network;
mod traffic;

pub use interface::{Interface, InterfacePattern, InterfaceWildcard};
pub use mark::{Mark, MarkBit};
pub use network::{Family, Network};
pub use traffic::{Icmp, PortProtocol, Ports, Protocol, SaProtocol, Traffic};

/// Why a text is not what its type stands for. Says what was expected; whoever read the text adds
/// its name and value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected {0}")]
pub struct Expected(pub &'static str);
