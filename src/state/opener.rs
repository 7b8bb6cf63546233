//! The openers of a tunnel: the `up` calls that have had no `down`. Under strongSwan a tunnel can
//! have several, with one name and equal selectors: two clients behind one NAT, or one client whose
//! new association is up before its old one is down.

use std::collections::BTreeSet;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::tunnel::TunnelRecord;
use crate::daemon::{Compression, HostAccess, PeerText, Tunnel};
use crate::settings::Policy;

/// How many openers are made at most for ups that an older version of this program only counted.
const GUESSED_MAX: u32 = 64;

/// One `up` that has had no `down`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Opener {
    /// The peer's authenticated identity.
    #[serde(rename = "peer_id")]
    pub remote_id: PeerText,
    /// The user name of XAUTH or EAP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<PeerText>,
    /// Whether the identity and the user are known.
    #[serde(default, skip_serializing_if = "is_certain")]
    pub certainty: Certainty,
    /// The local address of the IKE association at that `up`.
    #[serde(rename = "me", default, skip_serializing_if = "Option::is_none")]
    pub local_host: Option<IpAddr>,
    /// The peer's address of the IKE association at that `up`.
    #[serde(rename = "peer", default, skip_serializing_if = "Option::is_none")]
    pub remote_host: Option<IpAddr>,
    /// charon's number of the IKE association (`PLUTO_UNIQUEID`). charon never reuses a number, but
    /// a rekeyed association gets a new one, without a call. So an equal number identifies the
    /// opener; a different number proves nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unique_id: Option<u32>,
    /// Whether the gateway's own addresses are reachable through the tunnel too.
    pub host_access: HostAccess,
    /// Whether its peer uses IPComp, if that differs from the record's tunnel.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compression: Option<Compression>,
    /// The policy set for this opener, if it differs from the record's policy, which is the
    /// intersection of all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<Policy>,
}

/// Whether the identity behind an `up` is known.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Certainty {
    /// It is known.
    #[default]
    Certain,
    /// An older version of this program counted ups, and recorded the identity of the last one
    /// only.
    Guessed,
}

fn is_certain(certainty: &Certainty) -> bool {
    *certainty == Certainty::Certain
}

impl Opener {
    /// The opener that a call describes.
    #[must_use]
    pub(crate) fn of_call(tunnel: &Tunnel, policy: Policy) -> Self {
        Self {
            remote_id: tunnel.remote_id.clone(),
            user: tunnel.user.clone(),
            certainty: Certainty::Certain,
            local_host: tunnel.local_host,
            remote_host: tunnel.remote_host,
            unique_id: tunnel.unique_id,
            host_access: tunnel.host_access,
            compression: Some(tunnel.compression),
            policy: Some(policy),
        }
    }

    /// A tunnel as this opener's `up` described it.
    #[must_use]
    pub fn tunnel(&self, tunnel: &Tunnel) -> Tunnel {
        Tunnel {
            remote_id: self.remote_id.clone(),
            user: self.user.clone(),
            local_host: self.local_host,
            remote_host: self.remote_host,
            unique_id: self.unique_id,
            host_access: self.host_access,
            compression: self.compression.unwrap_or(tunnel.compression),
            ..tunnel.clone()
        }
    }

    /// Whether a call has this opener's number of the IKE association.
    #[must_use]
    pub(crate) fn has_number_of(&self, call: &Tunnel) -> bool {
        self.unique_id.is_some() && self.unique_id == call.unique_id
    }

    /// Whether a call has this opener's identity and user, for certain.
    #[must_use]
    pub(crate) fn has_identity_of(&self, call: &Tunnel) -> bool {
        is_certain(&self.certainty) && self.remote_id == call.remote_id && self.user == call.user
    }

    /// Whether a call may have this opener's identity, because one of the two is unknown.
    #[must_use]
    pub(crate) fn may_have_identity_of(&self, call: &Tunnel) -> bool {
        !is_certain(&self.certainty) || call.remote_id.is_empty()
    }

    /// Whether a call has other addresses of the IKE association: MOBIKE has moved it, or it is
    /// another opener.
    #[must_use]
    pub(crate) fn has_other_hosts_than(&self, call: &Tunnel) -> bool {
        (self.local_host, self.remote_host) != (call.local_host, call.remote_host)
    }
}

impl TunnelRecord {
    /// The openers, each with its own policy, in the order of their ups.
    #[must_use]
    pub(crate) fn opened_by(&self) -> Vec<Opener> {
        let own = |opener: &Opener| Opener {
            policy: opener.policy.clone().or_else(|| Some(self.policy.clone())),
            compression: opener.compression.or(Some(self.tunnel.compression)),
            ..opener.clone()
        };
        match self.openers.is_empty() {
            false => self.openers.iter().map(own).collect(),
            true => self.guessed_openers().collect(),
        }
    }

    /// Openers for ups that an older version only counted.
    fn guessed_openers(&self) -> impl Iterator<Item = Opener> + '_ {
        let last = self.count.min(GUESSED_MAX);
        (1..=last).map(move |number| Opener {
            certainty: Certainty::Guessed,
            unique_id: self.tunnel.unique_id.filter(|_| number == last),
            ..Opener::of_call(&self.tunnel, self.policy.clone())
        })
    }

    /// The record with these openers, each with its own policy. The record's policy is the
    /// intersection of theirs, and the gateway is reachable only if all of them asked for that.
    /// Everything else is as the last opener described it.
    #[must_use]
    pub(crate) fn with_openers(self, mut openers: Vec<Opener>) -> Self {
        let policy = Policy::of_all(openers.iter().filter_map(|opener| opener.policy.as_ref()));
        let closed = openers.iter().any(|opener| opener.host_access == HostAccess::NotAsked);
        let last = openers.last().map(|opener| opener.tunnel(&self.tunnel));
        let compression = last.as_ref().map(|last| last.compression);
        for opener in &mut openers {
            opener.policy = opener.policy.take().filter(|own| *own != policy);
            opener.compression = opener.compression.filter(|own| Some(*own) != compression);
        }
        Self {
            count: u32::try_from(openers.len()).unwrap_or(u32::MAX),
            tunnel: Tunnel {
                host_access: match closed {
                    true => HostAccess::NotAsked,
                    false => HostAccess::Asked,
                },
                ..last.unwrap_or(self.tunnel)
            },
            policy,
            openers,
            ..self
        }
    }

    /// The tunnel and the policy of each opener.
    #[must_use]
    pub fn opener_views(&self) -> Vec<(Tunnel, Policy)> {
        if self.openers.is_empty() {
            return vec![(self.tunnel.clone(), self.policy.clone())];
        }
        let openers = self.openers.iter();
        let view = |opener: &Opener| {
            let policy = opener.policy.as_ref().unwrap_or(&self.policy);
            (opener.tunnel(&self.tunnel), policy.clone())
        };
        openers.map(view).collect()
    }

    /// The record with each opener's policy set again.
    #[must_use]
    pub fn with_policies(self, policy: impl Fn(&Tunnel) -> Policy) -> Self {
        if self.openers.is_empty() {
            let policy = policy(&self.tunnel);
            return Self { policy, ..self };
        }
        let openers = self.openers.iter().map(|opener| Opener {
            policy: Some(policy(&opener.tunnel(&self.tunnel))),
            ..opener.clone()
        });
        let openers = openers.collect();
        self.with_openers(openers)
    }

    /// The pairs of IKE addresses of those openers that use IPComp.
    #[must_use]
    pub fn ipcomp_hosts(&self) -> BTreeSet<(IpAddr, IpAddr)> {
        let views = self.opener_views().into_iter();
        views.filter_map(|(tunnel, _)| tunnel.ipcomp_hosts()).collect()
    }

    /// The addresses of the openers' peers.
    #[must_use]
    pub fn peers(&self) -> BTreeSet<IpAddr> {
        let peers = self.openers.iter().filter_map(|opener| opener.remote_host);
        match self.openers.is_empty() {
            true => self.tunnel.remote_host.into_iter().collect(),
            false => peers.collect(),
        }
    }
}
