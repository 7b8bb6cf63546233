//! Which tunnel is which: the key that finds a record again, and the short name that chains and
//! files bear.

use crate::net::text_type;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::daemon::{ConnectionName, PeerText, SaMatch, Scope, Tunnel, UpCounting};
use crate::net::{Expected, Network, Traffic};
use crate::netfilter::short_hash;

/// The longest part of the connection's name in a short name, in bytes.
const NAME_PART: usize = 10;

/// The number of characters, of five bits each, in the hash of a tunnel's id.
const HASH: usize = 8;

/// The number of such characters in the id of a record that is no tunnel. As many as fit, because a
/// collision is not resolved here.
const LONG_HASH: usize = 12;

/// How many short names are tried for one tunnel before it is refused. A peer that can choose its
/// address could search for one whose short name collides with another tunnel's (2^40 tries); with
/// this it gains nothing.
const ATTEMPTS: u8 = 4;

/// What `up` and `down` of one tunnel usually have in common; the exceptions are in
/// `apply/find.rs`.
///
/// Not the peer's address, which moves with MOBIKE, and not `PLUTO_UNIQUEID`, which strongSwan
/// changes when it rekeys the IKE_SA.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct TunnelKey {
    /// The connection; instances of a road warrior's connection share it.
    pub connection: ConnectionName,
    /// The local network.
    #[serde(rename = "my_client")]
    pub local_client: Network,
    /// The remote network.
    #[serde(rename = "peer_client")]
    pub remote_client: Network,
    /// The protocol and ports.
    pub traffic: Traffic,
    /// The reqid, where one connection can have several tunnels with the same selectors at a time.
    pub reqid: Option<u32>,
}

impl TunnelKey {
    /// The key of a tunnel.
    #[must_use]
    pub fn from_tunnel(tunnel: &Tunnel) -> Self {
        Self {
            connection: tunnel.connection.clone(),
            local_client: tunnel.local_client,
            remote_client: tunnel.remote_client,
            traffic: tunnel.traffic.clone(),
            reqid: match tunnel.up_counting {
                // A permanent connection has one tunnel, whatever its number: a second `up`
                // replaces the first.
                UpCounting::Single => None,
                UpCounting::Instances | UpCounting::Counted => match &tunnel.sa_match {
                    SaMatch::Policy { reqid, .. } => *reqid,
                    SaMatch::Interface(_) => None,
                },
            },
        }
    }

    /// Whether it differs from another key in nothing but the reqid.
    #[must_use]
    pub(crate) fn same_but_reqid(&self, other: &Self) -> bool {
        let Self {
            connection,
            local_client,
            remote_client,
            traffic,
            reqid: _,
        } = self;
        (connection, local_client, remote_client, traffic)
            == (
                &other.connection,
                &other.local_client,
                &other.remote_client,
                &other.traffic,
            )
    }

    /// The short names that this tunnel may have, in the order in which they are tried. The record
    /// of each says whose it is.
    pub fn ids(&self) -> impl Iterator<Item = TunnelId> {
        let slug = self.connection.slug(NAME_PART);
        let text = format!(
            "{} {} {} {:?} {}",
            self.local_client, self.remote_client, self.traffic, self.reqid, self.connection
        );
        (0..ATTEMPTS).map(move |attempt| TunnelId(format!("{slug}-{}", short_hash(&format!("{attempt} {text}"), HASH))))
    }
}

/// The interface or reqid by which the kernel matches a tunnel's packets besides their addresses.
/// Not ESP or AH: a tunnel that does not say which matches both.
fn sa_match_key(tunnel: &Tunnel) -> String {
    match &tunnel.sa_match {
        SaMatch::Interface(interface) => format!("by {interface}"),
        SaMatch::Policy { reqid, protocol: _ } => format!("{reqid:?}"),
    }
}

/// Whether the kernel cannot distinguish the packets of two tunnels: equal selectors, and the same
/// reqid or interface.
#[must_use]
pub(crate) fn are_alike(one: &Tunnel, other: &Tunnel) -> bool {
    let known_by = |tunnel: &Tunnel| {
        (
            tunnel.local_client,
            tunnel.remote_client,
            tunnel.traffic.clone(),
            sa_match_key(tunnel),
        )
    };
    known_by(one) == known_by(other)
}

/// Whether an end of a tunnel is the address of the IKE association there: a road warrior without a
/// virtual address, or two hosts.
///
/// Then charon changes the selector when MOBIKE changes that address, since 5.9.6 the reqid too,
/// without a call of the hook (`child_sa.c`, `update_sas`).
#[must_use]
pub(crate) fn can_move(tunnel: &Tunnel) -> bool {
    local_moves(tunnel) || remote_moves(tunnel)
}

fn local_moves(tunnel: &Tunnel) -> bool {
    let host = tunnel.local_host.filter(|_| tunnel.scope == Scope::Host);
    host.is_some_and(|host| tunnel.local_client.is_host(host))
}

fn remote_moves(tunnel: &Tunnel) -> bool {
    tunnel
        .remote_host
        .is_some_and(|host| tunnel.remote_client.is_host(host))
}

/// Whether MOBIKE alone can have turned `tunnel` into `now`: each end is the same, or was and is
/// the address of the IKE association.
#[must_use]
pub(crate) fn may_have_become(tunnel: &Tunnel, now: &Tunnel) -> bool {
    let local = tunnel.local_client == now.local_client || (local_moves(tunnel) && local_moves(now));
    let remote = tunnel.remote_client == now.remote_client || (remote_moves(tunnel) && remote_moves(now));
    can_move(tunnel) && local && remote && (&tunnel.connection, &tunnel.traffic) == (&now.connection, &now.traffic)
}

/// The short name of a tunnel, `net-net-k3f9q2m7`: a readable part and a hash, at most 19 bytes of
/// `A-Za-z0-9._-`. It is the middle of its chains' names and the name of its file.
///
/// Ids that begin with `_` are not of tunnels: the records `_gateway`, `_guard-HASH` (a blocked
/// pair) and `_outer-HASH` (ESP of a tunnel's peers), and the keys `_alike-HASH` and `_peer-HASH`
/// of the record's index.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TunnelId(String);

impl TunnelId {
    /// The id of the record of the gateway's own rules. No tunnel's id begins with `_`.
    #[must_use]
    pub fn for_gateway() -> Self {
        Self("_gateway".to_owned())
    }

    /// The id of a blocked pair.
    #[must_use]
    pub(crate) fn for_clear_text_block(local: &Network, remote: &Network) -> Self {
        Self(format!(
            "_guard-{}",
            short_hash(&format!("{local} {remote}"), LONG_HASH)
        ))
    }

    /// The id of the record that accepts ESP for a tunnel whose inner packets are of the other
    /// family.
    #[must_use]
    pub(crate) fn for_esp_peer(tunnel: &Self) -> Self {
        Self(format!("_outer-{}", short_hash(&tunnel.0, LONG_HASH)))
    }

    /// The id that tunnels share if the kernel cannot distinguish them. Only a hash: [`are_alike`]
    /// decides whether two are alike.
    #[must_use]
    pub fn alike(tunnel: &Tunnel) -> Self {
        let (local, remote, attached) = (tunnel.local_client, tunnel.remote_client, sa_match_key(tunnel));
        let text = format!("{local} {remote} {} {attached}", tunnel.traffic);
        Self(format!("_alike-{}", short_hash(&text, LONG_HASH)))
    }

    /// The id that the tunnels of a connection share if a peer with this identity and user name has
    /// opened them. Only a hash.
    #[must_use]
    pub(crate) fn for_opener(connection: &ConnectionName, remote_id: &PeerText, user: Option<&PeerText>) -> Self {
        let text = format!("{connection} {remote_id} {user:?}");
        Self(format!("_peer-{}", short_hash(&text, LONG_HASH)))
    }

    /// Whether it is a tunnel's.
    #[must_use]
    pub(crate) fn is_tunnel(&self) -> bool {
        !self.0.starts_with('_')
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for TunnelId {
    type Err = Expected;

    fn from_str(text: &str) -> Result<Self, Expected> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        let first = text.strip_prefix('_').unwrap_or(text).bytes().next();
        let starts_well = first.is_some_and(|first| first.is_ascii_alphanumeric());
        if !starts_well || text.len() > NAME_PART + 1 + HASH || !text.bytes().all(plain) {
            return Err(Expected("a tunnel's short name, up to 19 of A-Z a-z 0-9 . _ -"));
        }
        Ok(Self(text.to_owned()))
    }
}

text_type!(TunnelId, parsed);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_hash_is_the_same_for_ever() {
        // Records outlive the program that wrote them: an upgrade must find them.
        assert_eq!(short_hash("", 8), short_hash("", 19)[..8]);
        assert_eq!(short_hash("abc", 8), "zj6bpr6r");
    }

    #[test]
    fn a_short_name_is_also_a_good_file_name() {
        for text in ["", ".", "..", "-a", "a/b", "a b", "12345678901234567890"] {
            assert!(text.parse::<TunnelId>().is_err(), "{text:?}");
        }
    }
}
