//! The paths of a tunnel's packets through the tables.

use serde::{Deserialize, Serialize};

use crate::firewall::base_chains::onward_chain;
use crate::net::Network;
use crate::netfilter::{BuiltIn, ChainName, Direction, InterfaceMatch, Match, Table, Target};

/// A path through a gateway's tables that concerns tunnels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum PacketPath {
    /// Out of a tunnel, to the gateway itself.
    #[serde(rename = "I")]
    Input,
    /// Of the gateway itself, into a tunnel.
    #[serde(rename = "O")]
    Output,
    /// Out of a tunnel, through the gateway.
    #[serde(rename = "FI")]
    ForwardIn,
    /// Through the gateway, into a tunnel.
    #[serde(rename = "FO")]
    ForwardOut,
    /// Out of a tunnel, before routing.
    #[serde(rename = "NI")]
    NatIn,
    /// Into a tunnel, from any source.
    #[serde(rename = "NO")]
    NatOut,
    /// Out of a tunnel, to any destination: the SYNs of TCP connections.
    #[serde(rename = "MI")]
    MssIn,
    /// Into a tunnel, from any source: the same.
    #[serde(rename = "MO")]
    MssOut,
    /// Unencrypted, from the remote network of a blocked pair.
    #[serde(rename = "BI")]
    BlockIn,
    /// Unencrypted, to such a network.
    #[serde(rename = "BO")]
    BlockOut,
    /// ESP and AH of a tunnel's peer, to the gateway.
    #[serde(rename = "E")]
    EspPeer,
    /// Out of a tunnel, to the gateway itself, where no tunnel has allowed it.
    #[serde(rename = "RI")]
    RefuseInput,
    /// Out of a tunnel, through the gateway, where no tunnel has allowed it.
    #[serde(rename = "RF")]
    RefuseForward,
    /// Out of IPsec, through the gateway and into a tunnel, where no inbound tunnel has allowed it.
    #[serde(rename = "RO")]
    RefuseOut,
}

impl PacketPath {
    /// All of them.
    pub const ALL: [Self; 14] = [
        Self::Input,
        Self::Output,
        Self::ForwardIn,
        Self::ForwardOut,
        Self::NatIn,
        Self::NatOut,
        Self::MssIn,
        Self::MssOut,
        Self::BlockIn,
        Self::BlockOut,
        Self::EspPeer,
        Self::RefuseInput,
        Self::RefuseForward,
        Self::RefuseOut,
    ];

    /// The paths whose chains never accept, for packets that no tunnel has allowed.
    pub(crate) const REFUSE: [Self; 3] = [Self::RefuseInput, Self::RefuseForward, Self::RefuseOut];

    /// The paths of tunnels' packets through a table. Their dispatchers exist as long as any tunnel
    /// has rules in it.
    #[must_use]
    pub(crate) fn tunnel_paths(table: Table) -> &'static [Self] {
        match table {
            Table::Filter => &[Self::Input, Self::Output, Self::ForwardIn, Self::ForwardOut],
            Table::Nat => &[Self::NatIn, Self::NatOut],
            Table::Mangle => &[Self::MssIn, Self::MssOut],
        }
    }

    /// The table that it leads through.
    #[must_use]
    pub fn table(self) -> Table {
        match self {
            Self::Input
            | Self::Output
            | Self::ForwardIn
            | Self::ForwardOut
            | Self::BlockIn
            | Self::BlockOut
            | Self::EspPeer
            | Self::RefuseInput
            | Self::RefuseForward
            | Self::RefuseOut => Table::Filter,
            Self::NatIn | Self::NatOut => Table::Nat,
            Self::MssIn | Self::MssOut => Table::Mangle,
        }
    }

    /// How chain names show it: one or two letters, unique across tables.
    #[must_use]
    pub fn tag(self) -> &'static str {
        match self {
            Self::Input => "I",
            Self::Output => "O",
            Self::ForwardIn => "FI",
            Self::ForwardOut => "FO",
            Self::NatIn => "NI",
            Self::NatOut => "NO",
            Self::MssIn => "MI",
            Self::MssOut => "MO",
            Self::BlockIn => "BI",
            Self::BlockOut => "BO",
            Self::EspPeer => "E",
            Self::RefuseInput => "RI",
            Self::RefuseForward => "RF",
            Self::RefuseOut => "RO",
        }
    }

    /// Whether packets come out of the tunnel or go into it.
    #[must_use]
    pub fn direction(self) -> Direction {
        match self {
            Self::Input
            | Self::ForwardIn
            | Self::NatIn
            | Self::MssIn
            | Self::BlockIn
            | Self::EspPeer
            | Self::RefuseInput
            | Self::RefuseForward => Direction::In,
            Self::Output | Self::ForwardOut | Self::NatOut | Self::MssOut | Self::BlockOut | Self::RefuseOut => {
                Direction::Out
            }
        }
    }

    /// The chain that sends this path's packets to buckets.
    #[must_use]
    pub(crate) fn dispatcher(self) -> ChainName {
        ChainName::literal(self.dispatcher_name())
    }

    /// The name of this chain.
    pub(crate) fn dispatcher_name(self) -> &'static str {
        match self {
            Self::Input => "PLUTO-I",
            Self::Output => "PLUTO-O",
            Self::ForwardIn => "PLUTO-FI",
            Self::ForwardOut => "PLUTO-FO",
            Self::NatIn => "PLUTO-NI",
            Self::NatOut => "PLUTO-NO",
            Self::MssIn => "PLUTO-MI",
            Self::MssOut => "PLUTO-MO",
            Self::BlockIn => "PLUTO-BI",
            Self::BlockOut => "PLUTO-BO",
            Self::EspPeer => "PLUTO-E",
            Self::RefuseInput => "PLUTO-RI",
            Self::RefuseForward => "PLUTO-RF",
            Self::RefuseOut => "PLUTO-RO",
        }
    }

    /// The built-in chains that its packets traverse.
    #[must_use]
    pub fn built_in(self) -> &'static [BuiltIn] {
        match self {
            Self::Input | Self::EspPeer | Self::RefuseInput => &[BuiltIn::Input],
            Self::Output => &[BuiltIn::Output],
            Self::ForwardIn | Self::ForwardOut | Self::RefuseForward | Self::RefuseOut => &[BuiltIn::Forward],
            Self::NatIn | Self::MssIn => &[BuiltIn::PreRouting],
            Self::NatOut | Self::MssOut => &[BuiltIn::PostRouting],
            Self::BlockIn => &[BuiltIn::Input, BuiltIn::Forward],
            Self::BlockOut => &[BuiltIn::Forward, BuiltIn::Output],
        }
    }

    /// The target for packets that the tunnel allows, at the end of the tunnel's chain.
    ///
    /// A forwarded packet out of a tunnel may go into another one, which has to allow it too.
    #[must_use]
    pub(crate) fn accept_target(self) -> Target {
        self.consent(Target::Jump)
    }

    /// The same target in a chain that ends with a DROP. A packet that the tunnel allows returns
    /// from `PLUTO-ONWARD` with the bit set if it goes into another tunnel. It must not return into
    /// this chain, or the tunnel would drop a packet that it has allowed.
    #[must_use]
    pub(crate) fn accept_target_before_drop(self) -> Target {
        self.consent(Target::Goto)
    }

    fn consent(self, onward: impl FnOnce(ChainName) -> Target) -> Target {
        match self {
            Self::Input
            | Self::Output
            | Self::ForwardOut
            | Self::NatIn
            | Self::NatOut
            | Self::MssIn
            | Self::MssOut
            | Self::BlockIn
            | Self::BlockOut
            | Self::EspPeer
            | Self::RefuseInput
            | Self::RefuseForward
            | Self::RefuseOut => Target::Accept,
            Self::ForwardIn => onward(onward_chain()),
        }
    }

    /// The match on the remote network: packets come from it, or go to it.
    pub(crate) fn remote_match(self, network: Network) -> Match {
        match self.direction() {
            Direction::In => Match::Source(network),
            Direction::Out => Match::Destination(network),
        }
    }

    /// The match on the local network.
    pub(crate) fn local_match(self, network: Network) -> Match {
        match self.direction() {
            Direction::In => Match::Destination(network),
            Direction::Out => Match::Source(network),
        }
    }

    /// The match on the interface that the packet came in or will leave by.
    pub(crate) fn interface_match(self, interface: InterfaceMatch) -> Match {
        match self.direction() {
            Direction::In => Match::In(interface),
            Direction::Out => Match::Out(interface),
        }
    }
}
