//! What may flow through a tunnel, and what is done besides: the keys of `[tunnel]` and `[[connection]]`.

use std::fmt;
use std::net::IpAddr;
use std::num::NonZeroU16;

use serde::{Deserialize, Serialize};

use super::service::Service;
use crate::netfilter::AdministratorChain;

/// All that is set for one tunnel. The default is what counts without a file: everything is allowed, nothing of it is translated.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Policy {
    /// What may come out of it.
    pub allow: Allow,
    /// Whether the gateway itself is reached through it.
    pub host_access: GatewayAccess,
    /// What becomes of the addresses of its packets.
    pub nat: Nat,
    /// What becomes of the segment size that TCP connections through it agree on.
    pub mss: Mss,
    /// Which of its packets are logged.
    pub log: PacketLog,
    /// What becomes of packets in clear between its two networks.
    pub when_down: WhenDown,
    /// A chain of the administrator's that its packets come through first.
    pub chain: Option<AdministratorChain>,
    /// What becomes of the tunnel if its rules cannot be put in.
    pub on_error: OnError,
}

impl Policy {
    /// Whether it keeps something from flowing that the daemon has agreed on with the peer, or may: what a chain of the administrator's does
    /// is not known.
    #[must_use]
    pub fn restricts(&self) -> bool {
        let gateway_is_closed = match self.host_access {
            GatewayAccess::No => true,
            GatewayAccess::Auto | GatewayAccess::Yes => false,
        };
        let blocks = match self.when_down {
            WhenDown::Block => true,
            WhenDown::Leave => false,
        };
        self.allow != Allow::All || gateway_is_closed || blocks || self.chain.is_some()
    }

    /// Whether an `up` whose rules cannot be put in is to fail.
    #[must_use]
    pub fn refuses_on_error(&self) -> bool {
        match self.on_error {
            OnError::Refuse => true,
            OnError::Continue => false,
            OnError::Auto => self.restricts(),
        }
    }
}

/// What may come out of a tunnel: key `allow`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Allow {
    /// Everything, and everything may go in: `"all"`.
    #[default]
    All,
    /// Only what belongs to connections from our side, into which everything may go: `"replies"`.
    Replies,
    /// Nothing, and nothing may go in: `"none"`.
    None,
    /// New connections to these services of ours, and what belongs to connections from our side: a list. Not empty.
    Services(Vec<Service>),
}

/// As in the settings file.
impl fmt::Display for Allow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("all"),
            Self::Replies => f.write_str("replies"),
            Self::None => f.write_str("none"),
            Self::Services(services) => {
                let names: Vec<_> = services.iter().map(Service::to_string).collect();
                f.write_str(&names.join(", "))
            }
        }
    }
}

/// Whether the gateway itself is reached through a tunnel between networks: key `host-access`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum GatewayAccess {
    /// As the daemon says, which is what the stock scripts do: if it has an address of its own in the tunnel, or with `hostaccess=yes`.
    #[default]
    Auto,
    /// It is.
    Yes,
    /// It is not; answers to what it asks itself come in.
    No,
}

/// What becomes of the addresses of packets that go into a tunnel: key `nat`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Nat {
    /// They stay, whatever other rules translate: `"exempt"`.
    #[default]
    Exempt,
    /// Machines behind us are hidden behind the gateway's own address in the tunnel: `"masquerade"`.
    Masquerade,
    /// Machines behind us are hidden behind this address: `"10.9.9.1"`.
    Address(IpAddr),
    /// Other rules decide: `"leave"`.
    Leave,
}

/// What becomes of the maximum segment size of TCP connections through a tunnel, in both directions: key `mss`. It is never raised.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mss {
    /// Nothing: `"leave"`.
    #[default]
    Leave,
    /// No larger than fits the path to the peer with what IPsec adds: `"pmtu"`.
    PathMtu,
    /// No larger than this many bytes, 536 to 65495; with IPv6 20 less, as its header is 20 bytes longer.
    Fixed(NonZeroU16),
}

/// Which packets of a tunnel are logged: key `log`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PacketLog {
    /// None: `"leave"`.
    #[default]
    Leave,
    /// The first of each connection that is allowed: `"new"`.
    New,
    /// Those that are not allowed: `"denied"`.
    Denied,
    /// Both: `"all"`.
    All,
}

impl PacketLog {
    /// Whether the first packets of connections are logged.
    #[must_use]
    pub fn has_new(self) -> bool {
        match self {
            Self::New | Self::All => true,
            Self::Leave | Self::Denied => false,
        }
    }

    /// Whether what is not allowed is logged.
    #[must_use]
    pub fn has_denied(self) -> bool {
        match self {
            Self::Denied | Self::All => true,
            Self::Leave | Self::New => false,
        }
    }
}

/// What becomes of packets in clear between a tunnel's two networks, above all while it is down: key `when-down`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WhenDown {
    /// Other rules decide: `"leave"`.
    #[default]
    Leave,
    /// They are dropped, from `start` or the first `up` on, until that is lifted: `"block"`.
    Block,
}

/// What becomes of a tunnel whose rules cannot be put in: key `on-error`. Only Pluto acts on it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnError {
    /// The call fails, and libreswan takes the tunnel down: `"refuse"`.
    Refuse,
    /// It is logged, and the tunnel stands without its rules: `"continue"`.
    Continue,
    /// `refuse` where the policy restricts, otherwise `continue`: `"auto"`.
    #[default]
    Auto,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_up_is_refused_where_something_would_be_open_that_should_not_be() {
        assert!(!Policy::default().refuses_on_error());
        let restricting = [
            Policy {
                allow: Allow::Replies,
                ..Policy::default()
            },
            Policy {
                host_access: GatewayAccess::No,
                ..Policy::default()
            },
            Policy {
                when_down: WhenDown::Block,
                ..Policy::default()
            },
            Policy {
                chain: "vpn-in".parse().ok(),
                ..Policy::default()
            },
        ];
        for policy in restricting {
            assert!(policy.refuses_on_error(), "{policy:?}");
            let continuing = Policy {
                on_error: OnError::Continue,
                ..policy
            };
            assert!(!continuing.refuses_on_error());
        }
        let refusing = Policy {
            on_error: OnError::Refuse,
            ..Policy::default()
        };
        assert!(refusing.refuses_on_error());
    }
}
