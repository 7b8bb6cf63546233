//! What a tunnel allows, and what else is done with its packets: the keys of `[tunnel]` and
//! `[[connection]]`.

use std::fmt;
use std::net::IpAddr;
use std::num::NonZeroU16;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::service::Service;
use crate::netfilter::AdministratorChain;

/// All that is set for one tunnel. The default, which applies without a file, allows everything and
/// translates nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Policy {
    /// The traffic that is allowed out of it.
    pub allow: Allow,
    /// Whether the gateway itself is reached through it.
    pub host_access: GatewayAccess,
    /// The address translation of its packets.
    pub nat: Nat,
    /// Networks that neither `nat` nor `when-down` touches; none set: for `nat` those that are
    /// connected, for `when-down` none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bypass: Option<Vec<IpNet>>,
    /// The clamping of the maximum segment size of TCP connections through it.
    pub mss: Mss,
    /// Which of its packets are logged.
    pub log: PacketLog,
    /// Whether unencrypted packets between its two networks are blocked.
    pub when_down: WhenDown,
    /// A chain of the administrator's that its packets traverse first.
    pub chain: Option<AdministratorChain>,
    /// Whether the tunnel is refused if its rules cannot be installed.
    pub on_error: OnError,
}

impl Policy {
    /// Whether it forbids traffic that the daemon has negotiated with the peer, or may forbid it:
    /// what a chain of the administrator's does is unknown.
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

    /// Whether packets to the networks that the gateway is connected to are to keep their source.
    #[must_use]
    pub(crate) fn bypasses_connected(&self) -> bool {
        let source_nats = match self.nat {
            Nat::Masquerade | Nat::Address(_) => true,
            Nat::Exempt | Nat::Leave => false,
        };
        source_nats && self.bypass.is_none()
    }

    /// Whether an `up` whose rules cannot be installed fails.
    #[must_use]
    pub(crate) fn refuses_on_error(&self) -> bool {
        match self.on_error {
            OnError::Refuse => true,
            OnError::Continue => false,
            OnError::Auto => self.restricts(),
        }
    }
}

impl Policy {
    /// The policy that allows what both allow: for packets of which it is unknown which of the two
    /// policies applies to them.
    ///
    /// `allow` is the intersection, `host-access` the least, `when-down` and `on-error` the
    /// stricter, `log` the union. `nat` and `mss` restrict nothing and are those of `self`; so is
    /// `chain` where both name the same. [`Policy::conflicts`] lists where they differ.
    ///
    /// What a chain of the administrator's accepts or drops is unknown. So a chain that one policy
    /// alone has stays only where the other policy allows everything; otherwise nothing passes.
    #[must_use]
    pub fn intersect(&self, other: &Self) -> Self {
        let (allow, chain) = match (&self.chain, &other.chain) {
            (one, same) if one == same => (self.allow.intersect(&other.allow), one.clone()),
            (Some(chain), None) if other.allows_everything() => (self.allow.clone(), Some(chain.clone())),
            (None, Some(chain)) if self.allows_everything() => (other.allow.clone(), Some(chain.clone())),
            _ => (Allow::None, None),
        };
        Self {
            allow,
            host_access: self.host_access.least(other.host_access),
            nat: self.nat,
            bypass: match (&self.bypass, &other.bypass) {
                (one, same) if one == same => one.clone(),
                // What only one of them bypasses must not pass unencrypted.
                (one, other) => {
                    let other = other.as_deref().unwrap_or_default();
                    let both = one.iter().flatten().filter(|network| other.contains(network));
                    Some(both.copied().collect())
                }
            },
            mss: self.mss,
            log: self.log.union(other.log),
            when_down: match (self.when_down, other.when_down) {
                (WhenDown::Leave, WhenDown::Leave) => WhenDown::Leave,
                (WhenDown::Block, _) | (_, WhenDown::Block) => WhenDown::Block,
            },
            chain,
            on_error: match (self.refuses_on_error(), other.refuses_on_error()) {
                (true, _) | (_, true) => OnError::Refuse,
                (false, false) => self.on_error,
            },
        }
    }

    /// The policy where all of these apply, the first one first: what all of them allow,
    /// [`Policy::intersect`].
    #[must_use]
    pub(crate) fn of_all<'a>(policies: impl IntoIterator<Item = &'a Self>) -> Self {
        let mut policies = policies.into_iter();
        let first = policies.next().cloned().unwrap_or_default();
        policies.fold(first, |agreed, policy| match agreed == *policy {
            true => agreed,
            false => agreed.intersect(policy),
        })
    }

    /// Whether it allows nothing that another policy forbids.
    #[must_use]
    pub(crate) fn is_as_strict_as(&self, other: &Self) -> bool {
        let both = self.intersect(other);
        (both.allow, both.host_access, both.chain, both.when_down, both.bypass)
            == (
                self.allow.clone(),
                self.host_access,
                self.chain.clone(),
                self.when_down,
                self.bypass.clone(),
            )
    }

    /// The keys that have no intersection and in which two policies differ, as they are named in
    /// the settings file.
    #[must_use]
    pub(crate) fn conflicts(&self, other: &Self) -> Vec<&'static str> {
        let differ = [
            ("chain", self.chain != other.chain),
            ("nat", self.nat != other.nat),
            ("mss", self.mss != other.mss),
        ];
        differ
            .into_iter()
            .filter(|(_, differ)| *differ)
            .map(|(key, _)| key)
            .collect()
    }

    /// Whether no packet that a chain of the administrator's accepts is one that this policy
    /// forbids.
    fn allows_everything(&self) -> bool {
        self.allow == Allow::All && self.host_access != GatewayAccess::No
    }
}

impl Allow {
    /// What both allow.
    fn intersect(&self, other: &Self) -> Self {
        match (self, other) {
            (Self::None, _) | (_, Self::None) => Self::None,
            (Self::All, both) | (both, Self::All) => both.clone(),
            (Self::Replies, _) | (_, Self::Replies) => Self::Replies,
            (Self::Services(one), Self::Services(other)) => match Service::intersect(one, other) {
                both if both.is_empty() => Self::Replies,
                both => Self::Services(both),
            },
        }
    }
}

impl GatewayAccess {
    /// The one that opens less.
    fn least(self, other: Self) -> Self {
        match (self, other) {
            (Self::No, _) | (_, Self::No) => Self::No,
            (Self::Auto, _) | (_, Self::Auto) => Self::Auto,
            (Self::Yes, Self::Yes) => Self::Yes,
        }
    }
}

impl PacketLog {
    /// What either logs.
    fn union(self, other: Self) -> Self {
        match (
            self.has_new() || other.has_new(),
            self.has_denied() || other.has_denied(),
        ) {
            (false, false) => Self::Leave,
            (true, false) => Self::New,
            (false, true) => Self::Denied,
            (true, true) => Self::All,
        }
    }
}

/// The traffic that is allowed out of a tunnel: key `allow`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Allow {
    /// Everything, and everything may go in: `"all"`.
    #[default]
    All,
    /// Only what belongs to connections from the local side; everything may go into the tunnel:
    /// `"replies"`.
    Replies,
    /// Nothing, and nothing may go in: `"none"`.
    None,
    /// New connections to these services at the local end, and what belongs to connections from the
    /// local side: a list. Not empty.
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
    /// As the daemon says, which is what the stock scripts do: if it has an address of its own in
    /// the tunnel, or with `hostaccess=yes`.
    #[default]
    Auto,
    /// It is.
    Yes,
    /// It is not; replies to the gateway's own connections are accepted, unless
    /// `allow = "none"`.
    No,
}

/// The address translation of packets into a tunnel: key `nat`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Nat {
    /// They stay, whatever other rules translate: `"exempt"`.
    #[default]
    Exempt,
    /// Hosts behind the gateway are source-NATed to the gateway's own address in the tunnel:
    /// `"masquerade"`.
    Masquerade,
    /// Hosts behind the gateway are source-NATed to this address: `"10.9.9.1"`.
    Address(IpAddr),
    /// Other rules decide: `"leave"`.
    Leave,
}

/// The clamping of the maximum segment size of TCP connections through a tunnel, in both
/// directions: key `mss`. It is never raised.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mss {
    /// Nothing: `"leave"`.
    #[default]
    Leave,
    /// No larger than fits the path to the peer with what IPsec adds: `"pmtu"`.
    PathMtu,
    /// No larger than this many bytes, 536 to 65495; with IPv6 20 less, as its header is 20 bytes
    /// longer.
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
    pub(crate) fn has_new(self) -> bool {
        match self {
            Self::New | Self::All => true,
            Self::Leave | Self::Denied => false,
        }
    }

    /// Whether what is not allowed is logged.
    #[must_use]
    pub(crate) fn has_denied(self) -> bool {
        match self {
            Self::Denied | Self::All => true,
            Self::Leave | Self::New => false,
        }
    }
}

/// Whether unencrypted packets between a tunnel's two networks are blocked, above all while it is
/// down: key `when-down`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WhenDown {
    /// Other rules decide: `"leave"`.
    #[default]
    Leave,
    /// They are dropped, from `start` or the first `up` on, until `unblock`: `"block"`.
    Block,
}

/// Whether a tunnel is refused whose rules cannot be installed: key `on-error`. Only Pluto acts on
/// it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnError {
    /// The call fails, and libreswan takes the tunnel down: `"refuse"`.
    Refuse,
    /// It is logged, and the tunnel is up without its rules: `"continue"`.
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

    fn services(texts: &[&str]) -> Allow {
        Allow::Services(texts.iter().map(|text| text.parse().unwrap()).collect())
    }

    fn allowing(allow: Allow) -> Policy {
        Policy {
            allow,
            ..Policy::default()
        }
    }

    #[test]
    fn an_intersection_allows_what_both_allow() {
        let ssh = || services(&["tcp/22"]);
        for (one, other, both) in [
            (Allow::All, Allow::All, Allow::All),
            (Allow::All, Allow::Replies, Allow::Replies),
            (Allow::All, Allow::None, Allow::None),
            (Allow::All, ssh(), ssh()),
            (ssh(), Allow::Replies, Allow::Replies),
            (ssh(), Allow::None, Allow::None),
            (ssh(), services(&["tcp/80"]), Allow::Replies),
            (ssh(), services(&["tcp/80", "tcp/22"]), ssh()),
        ] {
            let (one, other, both) = (allowing(one), allowing(other), allowing(both));
            assert_eq!(one.intersect(&other).allow, both.allow, "{one:?} {other:?}");
            assert_eq!(other.intersect(&one).allow, both.allow, "{other:?} {one:?}");
        }
    }

    #[test]
    fn an_intersection_is_the_stricter_in_every_key() {
        let one = Policy {
            host_access: GatewayAccess::Yes,
            log: PacketLog::New,
            when_down: WhenDown::Block,
            on_error: OnError::Continue,
            nat: Nat::Masquerade,
            ..Policy::default()
        };
        let other = Policy {
            host_access: GatewayAccess::No,
            log: PacketLog::Denied,
            mss: Mss::PathMtu,
            ..Policy::default()
        };
        let both = one.intersect(&other);
        assert_eq!(both.host_access, GatewayAccess::No);
        assert_eq!(both.log, PacketLog::All);
        assert_eq!(both.when_down, WhenDown::Block);
        assert_eq!(both.on_error, OnError::Refuse);
        assert_eq!((both.nat, both.mss), (Nat::Masquerade, Mss::Leave));
        assert_eq!(one.conflicts(&other), ["nat", "mss"]);
        assert_eq!(one.intersect(&one), one);
    }

    #[test]
    fn of_many_policies_the_strictest_in_each_key_counts_in_whatever_order() {
        let blocking = Policy {
            when_down: WhenDown::Block,
            ..allowing(Allow::All)
        };
        let all = [allowing(Allow::All), allowing(services(&["tcp/22"])), blocking];
        for turn in 0..all.len() {
            let mut turned = all.to_vec();
            turned.rotate_left(turn);
            let both = Policy::of_all(&turned);
            assert_eq!((&both.allow, both.when_down), (&services(&["tcp/22"]), WhenDown::Block));
            assert!(all.iter().all(|one| both.is_as_strict_as(one)));
            assert!(!all.iter().any(|one| one.is_as_strict_as(&both)));
        }
        assert_eq!(Policy::of_all([]), Policy::default());
    }

    #[test]
    fn a_chain_that_only_one_policy_has_opens_nothing_that_the_other_forbids() {
        let with = |allow, chain: &str| Policy {
            allow,
            chain: chain.parse().ok(),
            ..Policy::default()
        };
        let both = |one: &Policy, other: &Policy| {
            let both = one.intersect(other);
            assert_eq!(both, other.intersect(one));
            (both.allow, both.chain.is_some())
        };
        let chained = with(Allow::Replies, "vpn-in");
        assert_eq!(both(&chained, &allowing(Allow::All)), (Allow::Replies, true));
        assert_eq!(both(&chained, &allowing(services(&["tcp/22"]))), (Allow::None, false));
        assert_eq!(both(&chained, &with(Allow::All, "vpn-in")), (Allow::Replies, true));
        assert_eq!(both(&chained, &with(Allow::All, "other")), (Allow::None, false));
        assert_eq!(both(&chained, &chained), (Allow::Replies, true));
    }
}
