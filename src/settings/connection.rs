//! Which tunnels an entry `[[connection]]` is about.

use std::fmt;

use ipnet::IpNet;

use super::pattern::{Fit, IdentityPattern, NamePattern};
use super::policy::{Allow, GatewayAccess, Mss, Nat, OnError, PacketLog, Policy, WhenDown};
use crate::daemon::{Tunnel, UpCounting};
use crate::net::Network;
use crate::netfilter::AdministratorChain;

/// An entry `[[connection]]`: which tunnels it applies to, and what it sets.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ConnectionSettings {
    /// The tunnels that it applies to. All keys that are set must match; the parser refuses an
    /// entry without one.
    pub filter: ConnectionFilter,
    /// What it sets besides `[tunnel]`.
    pub overrides: PolicyOverrides,
    /// Key `between`: pairs of networks, local and remote, that `when-down = "block"` blocks from
    /// `start` on. Pairs of one family.
    pub between: Vec<(IpNet, IpNet)>,
}

impl ConnectionSettings {
    /// The networks named in `between`, the local one first.
    pub fn pairs(&self) -> impl Iterator<Item = (Network, Network)> + '_ {
        let pairs = self.between.iter();
        pairs.map(|(local, remote)| (Network::Prefix(*local), Network::Prefix(*remote)))
    }
}

/// The tunnels that an entry is about.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct ConnectionFilter {
    /// Key `name`: the connection's name, `PLUTO_CONNECTION`.
    pub name: Option<NamePattern>,
    /// Key `peer-id`: the peer's identity, `PLUTO_PEER_ID`.
    pub remote_id: Option<IdentityPattern>,
    /// Key `user`: the name of XAUTH or EAP, `PLUTO_USERNAME` or `PLUTO_XAUTH_ID`.
    pub user: Option<IdentityPattern>,
    /// Key `peer-network`: a network that contains the whole remote network; for road warriors with
    /// virtual addresses.
    pub remote_network: Option<IpNet>,
}

/// `name = "road-*", user = "anna"`, as in the file.
impl fmt::Display for ConnectionFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            name,
            remote_id: peer_id,
            user,
            remote_network: peer_network,
        } = self;
        let keys = [
            ("name", name.as_ref().map(ToString::to_string)),
            ("peer-id", peer_id.as_ref().map(ToString::to_string)),
            ("user", user.as_ref().map(ToString::to_string)),
            ("peer-network", peer_network.map(|network| network.to_string())),
        ];
        let keys = keys.into_iter().filter_map(|(key, value)| Some((key, value?)));
        for (number, (key, value)) in keys.enumerate() {
            let between = if number > 0 { ", " } else { "" };
            write!(f, "{between}{key} = \"{value}\"")?;
        }
        Ok(())
    }
}

impl ConnectionFilter {
    /// Whether the filter fits a tunnel: every key that is set must fit.
    #[must_use]
    pub fn fit(&self, tunnel: &Tunnel) -> Fit {
        let Self {
            name,
            remote_id: peer_id,
            user,
            remote_network: peer_network,
        } = self;
        let name = name.as_ref().map(|pattern| match tunnel.up_counting {
            UpCounting::Counted => pattern.fits(&tunnel.connection),
            UpCounting::Single | UpCounting::Instances => pattern.fits_plutos(&tunnel.connection),
        });
        let user = user.as_ref().map(|pattern| match (&tunnel.user, tunnel.up_counting) {
            (None, _) => Fit::No,
            (Some(user), UpCounting::Counted) => pattern.fit(user),
            (Some(user), UpCounting::Single | UpCounting::Instances) => pattern.fit_stripped(user),
        });
        let surest = match (&user, is_claimed(tunnel)) {
            (None, true) => Fit::Doubtful,
            (Some(_), _) | (None, false) => Fit::Yes,
        };
        let all = [
            name.map(Fit::from),
            peer_id
                .as_ref()
                .map(|pattern| pattern.fit(&tunnel.remote_id).min(surest)),
            user,
            peer_network.map(|network| lies_in(&tunnel.remote_client, network).into()),
        ];
        all.into_iter().flatten().min().unwrap_or(Fit::Yes)
    }

    /// Whether every tunnel matches, whatever its name.
    #[must_use]
    pub(crate) fn is_everyone(&self) -> bool {
        let Self {
            name,
            remote_id: peer_id,
            user,
            remote_network: peer_network,
        } = self;
        let name = name.as_ref().is_some_and(NamePattern::fits_all);
        name && peer_id.is_none() && user.is_none() && peer_network.is_none()
    }
}

/// Whether the peer's identity may be no more than what the peer says: strongSwan does not check it
/// against the user that it has authenticated by EAP or XAuth (`ike_sa.c`, `get_other_eap_id`; RFC
/// 7296, section 2.16). Beside a pattern for the user it is believed, as where a certificate and
/// EAP are both asked for.
fn is_claimed(tunnel: &Tunnel) -> bool {
    match tunnel.up_counting {
        UpCounting::Counted => tunnel.user.as_ref().is_some_and(|user| *user != tunnel.remote_id),
        UpCounting::Single | UpCounting::Instances => false,
    }
}

fn lies_in(remote: &Network, network: IpNet) -> bool {
    let prefix = match remote {
        Network::Prefix(prefix) => return network.contains(prefix),
        Network::Range(first, last) => [first, last],
    };
    prefix.into_iter().all(|address| network.contains(address))
}

/// The keys of a tunnel, each set or not.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PolicyOverrides {
    /// Key `allow`.
    pub allow: Option<Allow>,
    /// Key `host-access`.
    pub host_access: Option<GatewayAccess>,
    /// Key `nat`.
    pub nat: Option<Nat>,
    /// Key `bypass`; `Some(None)` is `"auto"`.
    pub bypass: Option<Option<Vec<IpNet>>>,
    /// Key `mss`.
    pub mss: Option<Mss>,
    /// Key `log`.
    pub log: Option<PacketLog>,
    /// Key `when-down`.
    pub when_down: Option<WhenDown>,
    /// Key `chain`; set to nothing by an empty text.
    pub chain: Option<Option<AdministratorChain>>,
    /// Key `on-error`.
    pub on_error: Option<OnError>,
}

impl PolicyOverrides {
    /// `base` with these keys applied.
    #[must_use]
    pub(crate) fn apply_to(&self, base: &Policy) -> Policy {
        let keys = self.clone();
        let base = base.clone();
        Policy {
            allow: keys.allow.unwrap_or(base.allow),
            host_access: keys.host_access.unwrap_or(base.host_access),
            nat: keys.nat.unwrap_or(base.nat),
            bypass: keys.bypass.unwrap_or(base.bypass),
            mss: keys.mss.unwrap_or(base.mss),
            log: keys.log.unwrap_or(base.log),
            when_down: keys.when_down.unwrap_or(base.when_down),
            chain: keys.chain.unwrap_or(base.chain),
            on_error: keys.on_error.unwrap_or(base.on_error),
        }
    }
}
