//! The tunnel that an `up` or a `down` is about.

use std::net::IpAddr;
use std::num::NonZeroU16;
use std::os::unix::ffi::OsStrExt;

use super::attachment;
use super::dialect::{Dialect, Libreswan};
use super::error::ContractError;
use super::event::{ClientTranslation, Compression, HostAccess, LogGroup, Multiplicity, Scope, Spis, Tunnel};
use super::text::{ConnectionName, PeerText};
use super::traffic;
use super::values::{Values, missing, unexpected};
use crate::selector::{Family, Network};

/// What is done with the tunnel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Moment {
    /// It is opened: nothing that a rule needs may be unknown.
    Opening,
    /// It is closed: the record knows what was opened, and a number that no longer exists is no obstacle.
    Closing,
}

/// Reads the tunnel of a call.
pub(super) fn read(
    values: Values<'_>,
    dialect: Dialect,
    scope: Option<Scope>,
    moment: Moment,
) -> Result<Tunnel, ContractError> {
    let connection = connection(values)?;
    let (my_client, peer_client) = clients(values, dialect)?;
    let me = values.address("PLUTO_ME")?;
    Ok(Tunnel {
        connection,
        multiplicity: multiplicity(values, dialect)?,
        scope: scope.unwrap_or_else(|| scope_of(&my_client, me)),
        my_client,
        peer_client,
        traffic: traffic::read(values, dialect, my_client.family())?,
        attachment: attachment::read(values, dialect, moment)?,
        if_id_out: if_id_out(values, dialect)?,
        me,
        peer: values.address("PLUTO_PEER")?,
        my_id: values.identity("PLUTO_MY_ID", dialect).unwrap_or_default(),
        peer_id: peer_id(values, dialect, moment)?,
        user: user(values, dialect),
        source_addresses: source_addresses(values, dialect)?,
        host_access: host_access(values, dialect)?,
        compression: compression(values, dialect)?,
        log_group: log_group(values, dialect)?,
        translation: translation(values, dialect, moment, &my_client, me)?,
        unique_id: unique_id(values, dialect)?,
        spis: spis(values, dialect)?,
    })
}

pub(super) fn connection(values: Values<'_>) -> Result<ConnectionName, ContractError> {
    const VARIABLE: &str = "PLUTO_CONNECTION";
    let raw = values.bytes(VARIABLE)?.ok_or(missing(VARIABLE))?;
    ConnectionName::new(raw.as_bytes()).map_err(|expected| unexpected(VARIABLE, raw, expected.0))
}

/// The networks at both ends. Their own text tells their family: the suffix of the verb can be that of the IKE association.
pub(super) fn clients(values: Values<'_>, dialect: Dialect) -> Result<(Network, Network), ContractError> {
    const MY_CLIENT: &str = "PLUTO_MY_CLIENT";
    const PEER_CLIENT: &str = "PLUTO_PEER_CLIENT";
    let my: Network = values.required_place(MY_CLIENT)?;
    let peer: Network = values.required_place(PEER_CLIENT)?;
    if my.family() != peer.family() {
        return Err(values.contradiction(MY_CLIENT, PEER_CLIENT, "networks of one family"));
    }
    Ok((my, outer_client(values, dialect, peer)?))
}

/// The far network as packets bear it. libreswan up to 4.3 and Openswan tell of a peer behind NAT in transport mode (L2TP, RFC 3193) the
/// address that it has behind the NAT; its packets bear that of the NAT, `PLUTO_PEER`. 4.4 and later tell that themselves (`kernel.c`).
fn outer_client(values: Values<'_>, dialect: Dialect, client: Network) -> Result<Network, ContractError> {
    let tells_inner = match dialect {
        // Only these set it.
        Dialect::Libreswan(Libreswan::V4) => values.text("PLUTO_VERSION")? == Some("2.0"),
        Dialect::Openswan => true,
        Dialect::Libreswan(Libreswan::V5 | Libreswan::V54) | Dialect::StrongSwan | Dialect::FreesWan => false,
    };
    let mut words = policy_words(values);
    let is_transport = values.has("PLUTO_CONN_POLICY") && !words.any(|word| word == b"TUNNEL");
    let peer = values.address("PLUTO_PEER")?;
    Ok(match peer.filter(|peer| Family::of(*peer) == client.family()) {
        Some(peer) if tells_inner && is_transport && client.is_host(client.first()) => Network::host(peer),
        Some(_) | None => client,
    })
}

/// The words of the connection's policy. 4.3 forgets the blank behind the last one, which the shell then joins with the next variable.
fn policy_words<'a>(values: Values<'a>) -> impl Iterator<Item = &'a [u8]> {
    let policy = values.raw("PLUTO_CONN_POLICY").unwrap_or_default().as_bytes();
    let end = policy.len() - joined_kind(values).map_or(0, |kind| kind.len() + JOINED_KIND.len());
    policy[..end].split(|byte| *byte == b'+')
}

/// What stands between the last word of 4.3's policy and the kind of the connection.
const JOINED_KIND: &[u8] = b"PLUTO_CONN_KIND=";

/// The kind of the connection, where it has become a part of the policy.
fn joined_kind<'a>(values: Values<'a>) -> Option<&'a [u8]> {
    let policy = values.raw("PLUTO_CONN_POLICY")?.as_bytes();
    let at = policy
        .windows(JOINED_KIND.len())
        .position(|window| window == JOINED_KIND)?;
    policy.get(at + JOINED_KIND.len()..)
}

/// Where the verb does not say it (libreswan 5.4, asynchronous), as the daemon itself would have decided.
pub(super) fn scope_of(my_client: &Network, me: Option<IpAddr>) -> Scope {
    match me {
        Some(me) if my_client.is_host(me) => Scope::Host,
        Some(_) | None => Scope::Client,
    }
}

fn multiplicity(values: Values<'_>, dialect: Dialect) -> Result<Multiplicity, ContractError> {
    match dialect {
        Dialect::StrongSwan => Ok(Multiplicity::Counted),
        Dialect::Libreswan(_) => match values.text("PLUTO_CONN_KIND")? {
            None if joined_kind(values).is_some_and(|kind| kind != b"CK_PERMANENT") => Ok(Multiplicity::Instances),
            // libreswan does not always tell (not before 3.18). A second `up` replaces the first then, which opens less, not more.
            None | Some("CK_PERMANENT") => Ok(Multiplicity::Single),
            // An instance, an instance that is being deleted (CK_GOING_AWAY in 4.x), or what instances are made of.
            Some(_) => Ok(Multiplicity::Instances),
        },
        // They have instances too, but neither a word nor a reqid to tell them apart by.
        Dialect::Openswan | Dialect::FreesWan => Ok(Multiplicity::Single),
    }
}

/// The peer's identity. At `up` it must be there, since what is allowed may depend on it; it can be empty.
fn peer_id(values: Values<'_>, dialect: Dialect, moment: Moment) -> Result<PeerText, ContractError> {
    const VARIABLE: &str = "PLUTO_PEER_ID";
    match moment {
        Moment::Opening if !values.has(VARIABLE) => Err(missing(VARIABLE)),
        Moment::Opening | Moment::Closing => Ok(values.identity(VARIABLE, dialect).unwrap_or_default()),
    }
}

/// The user's name, if the daemon has authenticated it. With `xauthfail=soft` libreswan tells the name and `XAUTH_FAILED=1` of a user who
/// showed a wrong password (`ikev1_xauth.c`): that is nobody.
fn user(values: Values<'_>, dialect: Dialect) -> Option<PeerText> {
    match dialect {
        Dialect::StrongSwan => values.identity("PLUTO_XAUTH_ID", dialect),
        Dialect::Libreswan(_)
            if !values
                .raw("XAUTH_FAILED")
                .is_none_or(|failed| failed.is_empty() || failed == "0") =>
        {
            None
        }
        // Renamed in 3.17.
        Dialect::Libreswan(_) => values
            .identity("PLUTO_USERNAME", dialect)
            .or_else(|| values.identity("PLUTO_XAUTH_USERNAME", dialect)),
        Dialect::Openswan => values.identity("PLUTO_XAUTH_USERNAME", dialect),
        Dialect::FreesWan => None,
    }
}

/// Our addresses inside the tunnel, in the order given and none twice: strongSwan gives the first one under two names.
fn source_addresses(values: Values<'_>, dialect: Dialect) -> Result<Vec<IpAddr>, ContractError> {
    let mut addresses = Vec::from_iter(values.address("PLUTO_MY_SOURCEIP")?);
    let numbered: &[&str] = match dialect {
        Dialect::StrongSwan => &["PLUTO_MY_SOURCEIP4_", "PLUTO_MY_SOURCEIP6_"],
        Dialect::Libreswan(_) | Dialect::Openswan | Dialect::FreesWan => &[],
    };
    for stem in numbered {
        let names = (1u32..).map(|number| format!("{stem}{number}"));
        for name in names.take_while(|name| values.has(name)) {
            addresses.extend(values.address(&name)?.filter(|address| !addresses.contains(address)));
        }
    }
    Ok(addresses)
}

/// strongSwan's only, so that a variable which Pluto happens to inherit opens nothing. It is set to `1`, or not at all.
fn host_access(values: Values<'_>, dialect: Dialect) -> Result<HostAccess, ContractError> {
    match dialect {
        Dialect::StrongSwan if values.text("PLUTO_HOST_ACCESS")?.is_some() => Ok(HostAccess::Asked),
        Dialect::StrongSwan | Dialect::Libreswan(_) | Dialect::Openswan | Dialect::FreesWan => Ok(HostAccess::NotAsked),
    }
}

/// strongSwan sets `PLUTO_IPCOMP` to `1`, or not at all. libreswan says in a word of the connection's policy that compression is
/// configured; whether the peer agreed to it, it does not say. That word is the only one that is looked for, and nothing else there is an
/// error: the words change with every version.
fn compression(values: Values<'_>, dialect: Dialect) -> Result<Compression, ContractError> {
    let compresses = match dialect {
        Dialect::StrongSwan => values.text("PLUTO_IPCOMP")?.is_some(),
        Dialect::Libreswan(_) => policy_words(values).any(|word| word == b"COMPRESS"),
        Dialect::Openswan | Dialect::FreesWan => false,
    };
    Ok(if compresses {
        Compression::Ipcomp
    } else {
        Compression::None
    })
}

/// libreswan's only. Unset where there is none.
fn log_group(values: Values<'_>, dialect: Dialect) -> Result<Option<LogGroup>, ContractError> {
    match dialect {
        Dialect::Libreswan(_) => {
            let number: Option<u16> = values.number("NFLOG", "the number of an NFLOG group, up to 65535")?;
            Ok(number.and_then(NonZeroU16::new).map(LogGroup))
        }
        Dialect::StrongSwan | Dialect::Openswan | Dialect::FreesWan => Ok(None),
    }
}

/// libreswan's only, and only its own word for it: the name is one that an environment may well hold for other reasons, and up to 5.3
/// Pluto hands on all of its own.
fn translation(
    values: Values<'_>,
    dialect: Dialect,
    moment: Moment,
    my_client: &Network,
    me: Option<IpAddr>,
) -> Result<Option<ClientTranslation>, ContractError> {
    let asked = match dialect {
        Dialect::Libreswan(_) => values.raw("CAT").is_some_and(|word| word == "YES"),
        Dialect::StrongSwan | Dialect::Openswan | Dialect::FreesWan => false,
    };
    let assigned = my_client.first();
    match (me, moment) {
        _ if !asked || assigned.is_unspecified() => Ok(None),
        // 5.x also says so where the peer gave us the address that we have.
        (Some(own), _) if own == assigned => Ok(None),
        (Some(own), _) if Family::of(own) == Family::of(assigned) => Ok(Some(ClientTranslation { assigned, own })),
        (Some(_) | None, Moment::Closing) => Ok(None),
        (Some(_), Moment::Opening) => {
            Err(values.contradiction("PLUTO_MY_CLIENT", "PLUTO_ME", "addresses of one family, for CAT"))
        }
        (None, Moment::Opening) => Err(missing("PLUTO_ME")),
    }
}

/// strongSwan's only. Unset where there is none.
fn if_id_out(values: Values<'_>, dialect: Dialect) -> Result<Option<u32>, ContractError> {
    match dialect {
        Dialect::StrongSwan => Ok(values
            .number("PLUTO_IF_ID_OUT", "the number of an XFRM interface")?
            .filter(|number| *number != 0)),
        Dialect::Libreswan(_) | Dialect::Openswan | Dialect::FreesWan => Ok(None),
    }
}

fn unique_id(values: Values<'_>, dialect: Dialect) -> Result<Option<u32>, ContractError> {
    match dialect {
        Dialect::StrongSwan => values.number("PLUTO_UNIQUEID", "a number"),
        Dialect::Libreswan(_) | Dialect::Openswan | Dialect::FreesWan => Ok(None),
    }
}

/// The numbers of the security associations. libreswan names them from the peer's side: `SPI_IN` is of what we send.
fn spis(values: Values<'_>, dialect: Dialect) -> Result<Option<Spis>, ContractError> {
    match dialect {
        Dialect::Libreswan(_) => {}
        Dialect::StrongSwan | Dialect::Openswan | Dialect::FreesWan => return Ok(None),
    }
    let spis = Spis {
        inbound: spi(values, "SPI_OUT")?,
        outbound: spi(values, "SPI_IN")?,
    };
    Ok(Some(spis).filter(|spis| spis.inbound != 0 || spis.outbound != 0))
}

/// One such number, `0x` and hexadecimal digits; 0 where there is none.
fn spi(values: Values<'_>, name: &str) -> Result<u32, ContractError> {
    let Some(text) = values.text(name)? else {
        return Ok(0);
    };
    let digits = text
        .strip_prefix("0x")
        .filter(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()));
    digits
        .and_then(|digits| u32::from_str_radix(digits, 16).ok())
        .ok_or_else(|| unexpected(name, text, "0x and up to 8 hexadecimal digits"))
}
