//! The tunnel that an `up` or a `down` is about.

use std::net::IpAddr;
use std::num::NonZeroU16;
use std::os::unix::ffi::OsStrExt;

use super::call::{ClientTranslation, Compression, HostAccess, LogGroup, Scope, Spis, Tunnel, UpCounting};
use super::env_reader::{EnvReader, missing, unexpected};
use super::error::EnvError;
use super::kind::{Daemon, Libreswan};
use super::names::{ConnectionName, PeerText};
use super::{sa_match, traffic};
use crate::net::{Family, Network};

/// What is done with the tunnel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// It is opened: nothing that a rule needs may be unknown.
    Opening,
    /// It is closed: the record knows what was opened, and a number that no longer exists is no
    /// obstacle.
    Closing,
}

/// Reads the tunnel of a call.
pub(crate) fn read_tunnel(
    env: EnvReader<'_>,
    daemon: Daemon,
    scope: Option<Scope>,
    phase: Phase,
) -> Result<Tunnel, EnvError> {
    let connection = connection_name(env)?;
    let (local_client, remote_client) = clients(env, daemon)?;
    let local_host = env.address("PLUTO_ME")?;
    Ok(Tunnel {
        connection,
        up_counting: up_counting(env, daemon)?,
        scope: scope.unwrap_or_else(|| scope_of(&local_client, local_host)),
        local_client,
        remote_client,
        traffic: traffic::read_traffic(env, daemon, local_client.family())?,
        sa_match: sa_match::read_sa_match(env, daemon, phase)?,
        if_id_out: if_id_out(env, daemon)?,
        local_host,
        remote_host: env.address("PLUTO_PEER")?,
        local_id: env.identity("PLUTO_MY_ID", daemon).unwrap_or_default(),
        remote_id: remote_id(env, daemon, phase)?,
        user: user(env, daemon),
        source_addresses: source_addresses(env, daemon)?,
        host_access: host_access(env, daemon)?,
        compression: compression(env, daemon)?,
        log_group: log_group(env, daemon)?,
        translation: translation(env, daemon, phase, &local_client, local_host)?,
        unique_id: unique_id(env, daemon)?,
        spis: spis(env, daemon)?,
    })
}

pub(crate) fn connection_name(env: EnvReader<'_>) -> Result<ConnectionName, EnvError> {
    const VARIABLE: &str = "PLUTO_CONNECTION";
    let raw = env.bytes(VARIABLE)?.ok_or(missing(VARIABLE))?;
    ConnectionName::new(raw.as_bytes()).map_err(|expected| unexpected(VARIABLE, raw, expected.0))
}

/// The networks at both ends. Their family is that of their own text: the suffix of the verb may be
/// that of the IKE association.
pub(crate) fn clients(env: EnvReader<'_>, daemon: Daemon) -> Result<(Network, Network), EnvError> {
    const MY_CLIENT: &str = "PLUTO_MY_CLIENT";
    const PEER_CLIENT: &str = "PLUTO_PEER_CLIENT";
    let local: Network = env.required_value(MY_CLIENT)?;
    let remote: Network = env.required_value(PEER_CLIENT)?;
    if local.family() != remote.family() {
        return Err(env.contradiction(MY_CLIENT, PEER_CLIENT, "networks of one family"));
    }
    Ok((local, outer_client(env, daemon, remote)?))
}

/// The remote network as packets have it. For a peer behind NAT in transport mode (L2TP, RFC 3193),
/// libreswan up to 4.3 and Openswan pass the address behind the NAT; its packets have the NAT's
/// address, `PLUTO_PEER`. 4.4 and later pass that themselves (`kernel.c`).
fn outer_client(env: EnvReader<'_>, daemon: Daemon, client: Network) -> Result<Network, EnvError> {
    let tells_inner = match daemon {
        // Only these set it.
        Daemon::Libreswan(Libreswan::V4) => env.text_value("PLUTO_VERSION")? == Some("2.0"),
        Daemon::Openswan => true,
        Daemon::Libreswan(Libreswan::V5 | Libreswan::V54) | Daemon::StrongSwan | Daemon::FreesWan => false,
    };
    let mut words = policy_words(env);
    let is_transport = env.is_set("PLUTO_CONN_POLICY") && !words.any(|word| word == b"TUNNEL");
    let peer = env.address("PLUTO_PEER")?;
    Ok(match peer.filter(|peer| Family::of_address(*peer) == client.family()) {
        Some(peer) if tells_inner && is_transport && client.is_host(client.first()) => Network::host(peer),
        Some(_) | None => client,
    })
}

/// The words of the connection's policy. 4.3 forgets the blank behind the last one, which the shell
/// then joins with the next variable.
fn policy_words<'a>(env: EnvReader<'a>) -> impl Iterator<Item = &'a [u8]> {
    let policy = env.raw("PLUTO_CONN_POLICY").unwrap_or_default().as_bytes();
    let end = policy.len() - joined_kind(env).map_or(0, |kind| kind.len() + JOINED_KIND.len());
    policy[..end].split(|byte| *byte == b'+')
}

/// The text between the last word of 4.3's policy and the kind of the connection.
const JOINED_KIND: &[u8] = b"PLUTO_CONN_KIND=";

/// The kind of the connection, where it has become a part of the policy.
fn joined_kind<'a>(env: EnvReader<'a>) -> Option<&'a [u8]> {
    let policy = env.raw("PLUTO_CONN_POLICY")?.as_bytes();
    let at = policy
        .windows(JOINED_KIND.len())
        .position(|window| window == JOINED_KIND)?;
    policy.get(at + JOINED_KIND.len()..)
}

/// Where the verb does not say it (libreswan 5.4, asynchronous), as the daemon itself would have
/// decided.
pub(crate) fn scope_of(local_client: &Network, local_host: Option<IpAddr>) -> Scope {
    match local_host {
        Some(local_host) if local_client.is_host(local_host) => Scope::Host,
        Some(_) | None => Scope::Client,
    }
}

fn up_counting(env: EnvReader<'_>, daemon: Daemon) -> Result<UpCounting, EnvError> {
    match daemon {
        Daemon::StrongSwan => Ok(UpCounting::Counted),
        Daemon::Libreswan(_) => match env.text_value("PLUTO_CONN_KIND")? {
            None if joined_kind(env).is_some_and(|kind| kind != b"CK_PERMANENT") => Ok(UpCounting::Instances),
            // libreswan does not always set it (not before 3.18). A second `up` replaces the first
            // then, which opens less, not more.
            None | Some("CK_PERMANENT") => Ok(UpCounting::Single),
            // An instance, an instance that is being deleted (CK_GOING_AWAY in 4.x), or what
            // instances are made of.
            Some(_) => Ok(UpCounting::Instances),
        },
        // They have instances too, but neither a word nor a reqid to distinguish them.
        Daemon::Openswan | Daemon::FreesWan => Ok(UpCounting::Single),
    }
}

/// The peer's identity. At `up` it must be there, since what is allowed may depend on it; it can be
/// empty.
fn remote_id(env: EnvReader<'_>, daemon: Daemon, phase: Phase) -> Result<PeerText, EnvError> {
    const VARIABLE: &str = "PLUTO_PEER_ID";
    match phase {
        Phase::Opening if !env.is_set(VARIABLE) => Err(missing(VARIABLE)),
        Phase::Opening | Phase::Closing => Ok(env.identity(VARIABLE, daemon).unwrap_or_default()),
    }
}

/// The user's name, if the daemon has authenticated it. With `xauthfail=soft` libreswan passes the
/// name and `XAUTH_FAILED=1` of a user with a wrong password (`ikev1_xauth.c`): that is no user.
fn user(env: EnvReader<'_>, daemon: Daemon) -> Option<PeerText> {
    match daemon {
        Daemon::StrongSwan => env.identity("PLUTO_XAUTH_ID", daemon),
        Daemon::Libreswan(_)
            if !env
                .raw("XAUTH_FAILED")
                .is_none_or(|failed| failed.is_empty() || failed == "0") =>
        {
            None
        }
        // Renamed in 3.17.
        Daemon::Libreswan(_) => env
            .identity("PLUTO_USERNAME", daemon)
            .or_else(|| env.identity("PLUTO_XAUTH_USERNAME", daemon)),
        Daemon::Openswan => env.identity("PLUTO_XAUTH_USERNAME", daemon),
        Daemon::FreesWan => None,
    }
}

/// Our addresses inside the tunnel, in the order given and none twice: strongSwan gives the first
/// one under two names.
fn source_addresses(env: EnvReader<'_>, daemon: Daemon) -> Result<Vec<IpAddr>, EnvError> {
    let mut addresses = Vec::from_iter(env.address("PLUTO_MY_SOURCEIP")?);
    let numbered: &[&str] = match daemon {
        Daemon::StrongSwan => &["PLUTO_MY_SOURCEIP4_", "PLUTO_MY_SOURCEIP6_"],
        Daemon::Libreswan(_) | Daemon::Openswan | Daemon::FreesWan => &[],
    };
    for stem in numbered {
        let names = (1u32..).map(|number| format!("{stem}{number}"));
        for name in names.take_while(|name| env.is_set(name)) {
            addresses.extend(env.address(&name)?.filter(|address| !addresses.contains(address)));
        }
    }
    Ok(addresses)
}

/// strongSwan's only, so that a variable which Pluto happens to inherit opens nothing. It is set to
/// `1`, or not at all.
fn host_access(env: EnvReader<'_>, daemon: Daemon) -> Result<HostAccess, EnvError> {
    match daemon {
        Daemon::StrongSwan if env.text_value("PLUTO_HOST_ACCESS")?.is_some() => Ok(HostAccess::Asked),
        Daemon::StrongSwan | Daemon::Libreswan(_) | Daemon::Openswan | Daemon::FreesWan => Ok(HostAccess::NotAsked),
    }
}

/// strongSwan sets `PLUTO_IPCOMP` to `1`, or not at all. libreswan says in a word of the
/// connection's policy that compression is configured; whether the peer agreed to it, it does not
/// say. That word is the only one that is looked for, and nothing else there is an error: the words
/// change with every version.
fn compression(env: EnvReader<'_>, daemon: Daemon) -> Result<Compression, EnvError> {
    let compresses = match daemon {
        Daemon::StrongSwan => env.text_value("PLUTO_IPCOMP")?.is_some(),
        Daemon::Libreswan(_) => policy_words(env).any(|word| word == b"COMPRESS"),
        Daemon::Openswan | Daemon::FreesWan => false,
    };
    Ok(if compresses {
        Compression::Ipcomp
    } else {
        Compression::None
    })
}

/// libreswan's only. Unset where there is none.
fn log_group(env: EnvReader<'_>, daemon: Daemon) -> Result<Option<LogGroup>, EnvError> {
    match daemon {
        Daemon::Libreswan(_) => {
            let number: Option<u16> = env.number("NFLOG", "the number of an NFLOG group, up to 65535")?;
            Ok(number.and_then(NonZeroU16::new).map(LogGroup))
        }
        Daemon::StrongSwan | Daemon::Openswan | Daemon::FreesWan => Ok(None),
    }
}

/// libreswan's only, and only its own word for it: the name is one that an environment may well
/// hold for other reasons, and up to 5.3 Pluto hands on all of its own.
fn translation(
    env: EnvReader<'_>,
    daemon: Daemon,
    phase: Phase,
    local_client: &Network,
    local_host: Option<IpAddr>,
) -> Result<Option<ClientTranslation>, EnvError> {
    let is_requested = match daemon {
        Daemon::Libreswan(_) => env.raw("CAT").is_some_and(|word| word == "YES"),
        Daemon::StrongSwan | Daemon::Openswan | Daemon::FreesWan => false,
    };
    let assigned = local_client.first();
    match (local_host, phase) {
        _ if !is_requested || assigned.is_unspecified() => Ok(None),
        // 5.x also says so where the peer gave us the address that we have.
        (Some(own), _) if own == assigned => Ok(None),
        (Some(own), _) if Family::of_address(own) == Family::of_address(assigned) => {
            Ok(Some(ClientTranslation { assigned, own }))
        }
        (Some(_) | None, Phase::Closing) => Ok(None),
        (Some(_), Phase::Opening) => {
            Err(env.contradiction("PLUTO_MY_CLIENT", "PLUTO_ME", "addresses of one family, for CAT"))
        }
        (None, Phase::Opening) => Err(missing("PLUTO_ME")),
    }
}

/// strongSwan's only. Unset where there is none.
fn if_id_out(env: EnvReader<'_>, daemon: Daemon) -> Result<Option<u32>, EnvError> {
    match daemon {
        Daemon::StrongSwan => Ok(env
            .number("PLUTO_IF_ID_OUT", "the number of an XFRM interface")?
            .filter(|number| *number != 0)),
        Daemon::Libreswan(_) | Daemon::Openswan | Daemon::FreesWan => Ok(None),
    }
}

fn unique_id(env: EnvReader<'_>, daemon: Daemon) -> Result<Option<u32>, EnvError> {
    match daemon {
        Daemon::StrongSwan => env.number("PLUTO_UNIQUEID", "a number"),
        Daemon::Libreswan(_) | Daemon::Openswan | Daemon::FreesWan => Ok(None),
    }
}

/// The numbers of the security associations. libreswan names them from the peer's side: `SPI_IN` is
/// of what we send.
fn spis(env: EnvReader<'_>, daemon: Daemon) -> Result<Option<Spis>, EnvError> {
    match daemon {
        Daemon::Libreswan(_) => {}
        Daemon::StrongSwan | Daemon::Openswan | Daemon::FreesWan => return Ok(None),
    }
    let spis = Spis {
        inbound: spi(env, "SPI_OUT")?,
        outbound: spi(env, "SPI_IN")?,
    };
    Ok(Some(spis).filter(|spis| spis.inbound != 0 || spis.outbound != 0))
}

/// One such number, `0x` and hexadecimal digits; 0 where there is none.
fn spi(env: EnvReader<'_>, name: &str) -> Result<u32, EnvError> {
    let Some(text) = env.text_value(name)? else {
        return Ok(0);
    };
    let digits = text
        .strip_prefix("0x")
        .filter(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()));
    digits
        .and_then(|digits| u32::from_str_radix(digits, 16).ok())
        .ok_or_else(|| unexpected(name, text, "0x and up to 8 hexadecimal digits"))
}
