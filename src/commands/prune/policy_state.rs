//! Whether a recorded tunnel is still up, by the kernel's policies. Pure.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::daemon::{SaMatch, Scope};
use crate::firewall::TunnelKey;
use crate::net::{Interface, Network};
use crate::netlink::xfrm::{XfrmDirection, XfrmPolicy, XfrmSa};
use crate::state::{DaemonProcess, FailedUp, TunnelRecord};

/// The tag that the policies of an interface's packets have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TunnelTag {
    /// Marks, outbound and inbound: a VTI interface's keys.
    Marks(u32, u32),
    /// A number: an XFRM interface's.
    IfId(u32),
}

/// What the kernel knows.
#[derive(Debug, Default)]
pub(super) struct KernelPolicies {
    policies: Vec<XfrmPolicy>,
    /// The tags of the interfaces that recorded tunnels match.
    tags: BTreeMap<Interface, TunnelTag>,
    /// The policies by remote network, so that ten thousand tunnels do not each search all
    /// policies.
    by_remote: HashMap<IpNet, Vec<usize>>,
}

impl KernelPolicies {
    pub(super) fn new(policies: Vec<XfrmPolicy>, tags: BTreeMap<Interface, TunnelTag>) -> Self {
        let mut by_remote: HashMap<_, Vec<_>> = HashMap::new();
        for (number, policy) in policies.iter().enumerate() {
            by_remote.entry(policy_ends(policy).1).or_default().push(number);
        }
        Self {
            policies,
            tags,
            by_remote,
        }
    }

    /// The policies between a tunnel's networks.
    fn policies_between(&self, key: &TunnelKey) -> Vec<&XfrmPolicy> {
        let is_its = |policy: &&XfrmPolicy| is_between(key, policy);
        match &key.remote_client {
            Network::Prefix(prefix) => {
                let numbers = self.by_remote.get(prefix).into_iter().flatten();
                numbers
                    .filter_map(|number| self.policies.get(*number))
                    .filter(is_its)
                    .collect()
            }
            // The kernel knows no ranges: its policies are of each part.
            Network::Range(..) => self.policies.iter().filter(is_its).collect(),
        }
    }
}

/// Whether a daemon runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DaemonLife {
    /// It runs.
    Alive,
    /// It has exited, or is unknown.
    Gone,
}

/// The properties of a tunnel by which its policies are found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::commands) struct SoughtTunnel {
    key: TunnelKey,
    pub(super) reqid: Option<u32>,
    /// The addresses of its peers.
    peers: BTreeSet<IpAddr>,
    pub(super) interface: Option<Interface>,
    scope: Scope,
    pub(super) daemon: Option<DaemonProcess>,
}

impl From<&TunnelRecord> for SoughtTunnel {
    fn from(record: &TunnelRecord) -> Self {
        Self {
            key: record.key.clone(),
            reqid: record.reqid(),
            peers: record.peers(),
            interface: record.tunnel_rules.interface.clone(),
            scope: record.tunnel.scope,
            daemon: record.daemon,
        }
    }
}

impl From<&FailedUp> for SoughtTunnel {
    fn from(failed: &FailedUp) -> Self {
        let (reqid, interface) = match &failed.tunnel.sa_match {
            SaMatch::Policy { reqid, .. } => (*reqid, None),
            SaMatch::Interface(interface) => (None, Some(interface.clone())),
        };
        Self {
            key: TunnelKey::from_tunnel(&failed.tunnel),
            reqid,
            peers: failed.tunnel.remote_host.into_iter().collect(),
            interface,
            scope: failed.tunnel.scope,
            daemon: failed.daemon,
        }
    }
}

/// The decision about a recorded tunnel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::commands) enum PolicyState {
    /// The kernel has its policy.
    Up,
    /// The kernel has none that could be its.
    Gone,
    /// It is kept, because its state is unknown.
    Doubtful(PruneDoubt),
}

/// Why a tunnel's state is unknown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::commands) enum PruneDoubt {
    /// There is a policy between the two networks, but it has another number.
    OtherNumber(u32),
    /// There is a policy with its reqid, but between other addresses: strongSwan changes the
    /// addresses (MOBIKE) without a call.
    OtherAddresses(IpNet, IpNet),
    /// There is an SA with its number, to or from its peer, and no policy of it (strongSwan's
    /// `policies = no`).
    NoPolicyButSa,
    /// There is no policy at all, although the daemon runs: it keeps them elsewhere, or they were
    /// flushed.
    NoPolicies,
}

impl fmt::Display for PruneDoubt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OtherNumber(reqid) => write!(
                f,
                "the kernel has a policy between its networks, but of another tunnel (reqid {reqid})"
            ),
            Self::OtherAddresses(source, destination) => write!(
                f,
                "the kernel has a policy with its reqid, but from {source} to {destination}: has it moved?"
            ),
            Self::NoPolicyButSa => f.write_str("the kernel has its SA, but no policy (policies = no?)"),
            Self::NoPolicies => f.write_str(
                "its daemon runs, but the kernel has no IPsec policy at all: were they flushed, or are they in another network namespace?",
            ),
        }
    }
}

/// Decides about one tunnel.
///
/// A policy must have both networks and, if the tunnel's reqid is known, that reqid: every pluto
/// starts its reqids at the same number, so the reqid alone is not enough. libreswan leaves a
/// policy without a reqid when an on-demand tunnel goes down: it is a trap for the next packet, and
/// no tunnel. If no reqid is known, a policy between the networks with the interface's tag is
/// enough.
pub(super) fn policy_state(sought: &SoughtTunnel, life: DaemonLife, kernel: &KernelPolicies) -> PolicyState {
    let between = kernel.policies_between(&sought.key);
    let has_policy = match (sought.reqid, &sought.interface) {
        (Some(reqid), _) if between.iter().any(|policy| policy.reqids.contains(&reqid)) => true,
        (Some(reqid), _) => return without(sought, reqid, life, &between, kernel),
        (None, Some(interface)) => {
            let tag = kernel.tags.get(interface);
            between.iter().any(|policy| tag.is_none_or(|tag| has_tag(policy, *tag)))
        }
        (None, None) => between
            .iter()
            .any(|policy| policy.reqids.iter().any(|reqid| *reqid != 0)),
    };
    match has_policy {
        true => PolicyState::Up,
        false => state_of_removed(life, kernel),
    }
}

/// The state of a tunnel without a policy in the kernel, by the SAs with its reqid.
pub(super) fn sa_state(sought: &SoughtTunnel, state: PolicyState, sas: &[XfrmSa]) -> PolicyState {
    let is_its = |sa: &XfrmSa| {
        let mut ends = [sa.source, sa.destination].into_iter();
        ends.any(|end| sought.peers.contains(&end))
    };
    match state {
        PolicyState::Gone if sas.iter().any(is_its) => PolicyState::Doubtful(PruneDoubt::NoPolicyButSa),
        PolicyState::Up | PolicyState::Gone | PolicyState::Doubtful(_) => state,
    }
}

/// Decides about a tunnel whose number none of the policies between its networks has.
fn without(
    sought: &SoughtTunnel,
    reqid: u32,
    life: DaemonLife,
    between: &[&XfrmPolicy],
    kernel: &KernelPolicies,
) -> PolicyState {
    if let Some(other) = between
        .iter()
        .flat_map(|policy| &policy.reqids)
        .find(|reqid| **reqid != 0)
    {
        return PolicyState::Doubtful(PruneDoubt::OtherNumber(*other));
    }
    let moved = || kernel.policies.iter().find(|policy| policy.reqids.contains(&reqid));
    let moved = match sought.scope {
        Scope::Host => moved(),
        Scope::Client => None,
    };
    match (sought.scope, moved) {
        (Scope::Host, Some(policy)) => {
            PolicyState::Doubtful(PruneDoubt::OtherAddresses(policy.source, policy.destination))
        }
        // Given to another tunnel since.
        (Scope::Client, Some(_)) | (_, None) => state_of_removed(life, kernel),
    }
}

fn state_of_removed(life: DaemonLife, kernel: &KernelPolicies) -> PolicyState {
    match life {
        DaemonLife::Alive if kernel.policies.is_empty() => PolicyState::Doubtful(PruneDoubt::NoPolicies),
        DaemonLife::Alive | DaemonLife::Gone => PolicyState::Gone,
    }
}

/// Our network of a policy, and the peer's.
fn policy_ends(policy: &XfrmPolicy) -> (IpNet, IpNet) {
    match policy.direction {
        XfrmDirection::Out => (policy.source, policy.destination),
        XfrmDirection::In | XfrmDirection::Forward => (policy.destination, policy.source),
    }
}

fn is_between(key: &TunnelKey, policy: &XfrmPolicy) -> bool {
    let (local, remote) = policy_ends(policy);
    covers(&key.local_client, local) && covers(&key.remote_client, remote)
}

/// Whether a policy's network is a tunnel's. The kernel knows no ranges: of one, each part is.
fn covers(network: &Network, part: IpNet) -> bool {
    match network {
        Network::Prefix(prefix) => *prefix == part,
        Network::Range(first, last) => part.network() >= *first && part.broadcast() <= *last,
    }
}

fn has_tag(policy: &XfrmPolicy, tag: TunnelTag) -> bool {
    match tag {
        TunnelTag::Marks(out, inbound) => policy.mark.is_some_and(|mark| [out, inbound].contains(&mark.value)),
        TunnelTag::IfId(number) => policy.if_id == number,
    }
}
