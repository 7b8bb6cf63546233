//! From the variables of a call to what it asks of the resolver.

use std::ffi::OsStr;
use std::net::IpAddr;
use std::os::unix::ffi::OsStrExt as _;
use std::str::FromStr;

use super::{Means, NameService, NmService, Notice, Offer, Reason, Request, ResolverDuty, ResolverUser};
use crate::contract::dialect::{Dialect, Libreswan};
use crate::contract::domain::Domain;
use crate::contract::error::ContractError;
use crate::contract::event::{Scope, Tunnel};
use crate::contract::tunnel;
use crate::contract::values::{Values, missing, unexpected};
use crate::contract::verb::{Operation, Verb};
use crate::selector::{Device, Expected};

/// Where a daemon tells what the peer offers: the names since libreswan 3.8, and the older ones, which are Openswan's too.
const SERVERS: [&str; 2] = ["PLUTO_PEER_DNS_INFO", "PLUTO_CISCO_DNS_INFO"];
const DOMAINS: [&str; 2] = ["PLUTO_PEER_DOMAIN_INFO", "PLUTO_CISCO_DOMAIN_INFO"];

/// What libreswan 5.4 says that names are resolved by; older ones know nothing but the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Configured {
    File,
    Systemd,
}

/// What a verb means to the resolver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Occasion {
    Up,
    Down,
    Failed,
}

/// Reads what a call asks of the resolver. `tunnel` is that of an `up` or a `down`, which has been read already.
pub(in crate::contract) fn read(
    values: Values<'_>,
    dialect: Dialect,
    verb: &Verb,
    tunnel: Option<&Tunnel>,
) -> Option<Box<ResolverDuty>> {
    let occasion = occasion(values, dialect, verb, tunnel)?;
    let mut faults = Vec::new();
    let duty = ResolverDuty {
        names: names(values, dialect, occasion, tunnel, &mut faults),
        notice: notice(values, dialect, verb, occasion, &mut faults),
        faults,
    };
    let idle = duty.names.is_none() && duty.notice.is_none() && duty.faults.is_empty();
    (!idle).then(|| Box::new(duty))
}

/// libreswan's script sees to it at `up` and `down` of clients; Openswan has verbs of its own for it, which it sends for Cisco's peers
/// only, as old versions of libreswan do not.
fn occasion(values: Values<'_>, dialect: Dialect, verb: &Verb, tunnel: Option<&Tunnel>) -> Option<Occasion> {
    match dialect {
        Dialect::Libreswan(_) | Dialect::Openswan => {}
        Dialect::StrongSwan | Dialect::FreesWan => return None,
    }
    if verb.asks(Operation::DisconnectNm) {
        return Some(Occasion::Failed);
    }
    if verb.asks(Operation::RestoreResolvConf) {
        return Some(Occasion::Down);
    }
    if verb.asks(Operation::UpdateResolvConf) {
        return is_set(values, "PLUTO_IS_PEER_CISCO").then_some(Occasion::Up);
    }
    let tunnel = tunnel.filter(|tunnel| tunnel.scope == Scope::Client)?;
    debug_assert!(verb.asks(Operation::Up) || verb.asks(Operation::Down), "{tunnel:?}");
    Some(if verb.asks(Operation::Up) {
        Occasion::Up
    } else {
        Occasion::Down
    })
}

fn names(
    values: Values<'_>,
    dialect: Dialect,
    occasion: Occasion,
    tunnel: Option<&Tunnel>,
    faults: &mut Vec<ContractError>,
) -> Option<NameService> {
    let request = match occasion {
        Occasion::Up => Request::Use(offer(values, dialect, tunnel, faults)?),
        // Asked for whatever the daemon says now: the record knows whether there is anything to give back.
        Occasion::Down => Request::GiveBack,
        Occasion::Failed => return None,
    };
    let user = match tunnel {
        Some(tunnel) => Ok(ResolverUser {
            connection: tunnel.connection.clone(),
            my_client: tunnel.my_client,
            peer_client: tunnel.peer_client,
        }),
        None => user(values, dialect),
    };
    let user = user.map_err(|fault| faults.push(fault)).ok()?;
    Some(NameService { user, request })
}

fn user(values: Values<'_>, dialect: Dialect) -> Result<ResolverUser, ContractError> {
    let (my_client, peer_client) = tunnel::clients(values, dialect)?;
    Ok(ResolverUser {
        connection: tunnel::connection(values)?,
        my_client,
        peer_client,
    })
}

/// What is offered, if anything is that can be used where it would go.
fn offer(
    values: Values<'_>,
    dialect: Dialect,
    tunnel: Option<&Tunnel>,
    faults: &mut Vec<ContractError>,
) -> Option<Offer> {
    // Openswan has no such variable; its verb alone says as much.
    let is_client = tunnel.is_none() || is_set(values, "PLUTO_CFG_CLIENT");
    let configured = match dialect {
        Dialect::Libreswan(Libreswan::V54) => configured(values, faults)?,
        Dialect::Libreswan(Libreswan::V4 | Libreswan::V5)
        | Dialect::Openswan
        | Dialect::FreesWan
        | Dialect::StrongSwan => Configured::File,
    };
    // The stock script asks systemd-resolved whether this is a client of the config mode or not.
    if !is_client && configured == Configured::File {
        return None;
    }
    let (servers, domains) = (servers(values, faults), domains(values, faults));
    let usable = match configured {
        Configured::File => !servers.is_empty(),
        Configured::Systemd => !servers.is_empty() || !domains.is_empty(),
    };
    if !usable {
        return None;
    }
    let means = means(values, configured, faults)?;
    Some(Offer {
        servers,
        domains,
        means,
    })
}

/// What `PLUTO_DNS_RESOLVER` says; nothing if that is not known.
fn configured(values: Values<'_>, faults: &mut Vec<ContractError>) -> Option<Configured> {
    const VARIABLE: &str = "PLUTO_DNS_RESOLVER";
    match values.raw(VARIABLE).unwrap_or_default().as_bytes() {
        b"systemd" => Some(Configured::Systemd),
        b"file" => Some(Configured::File),
        other => {
            faults.push(unexpected(VARIABLE, OsStr::from_bytes(other), "file or systemd"));
            None
        }
    }
}

fn means(values: Values<'_>, configured: Configured, faults: &mut Vec<ContractError>) -> Option<Means> {
    const VARIABLE: &str = "PLUTO_INTERFACE";
    let device: Result<Option<Device>, _> = values.place(VARIABLE);
    match configured {
        Configured::Systemd => {
            let device = device.and_then(|device| device.ok_or(missing(VARIABLE)));
            device.map(Means::Systemd).map_err(|fault| faults.push(fault)).ok()
        }
        Configured::File if is_set(values, "PLUTO_NM_CONFIGURED") => Some(Means::Unbound),
        Configured::File => Some(Means::File(device.unwrap_or_default())),
    }
}

fn notice(
    values: Values<'_>,
    dialect: Dialect,
    verb: &Verb,
    occasion: Occasion,
    faults: &mut Vec<ContractError>,
) -> Option<Notice> {
    if !is_set(values, "PLUTO_NM_CONFIGURED") {
        return None;
    }
    let service = match dialect {
        Dialect::Libreswan(_) => NmService::Libreswan,
        // Its script tells nothing at `up` and `down`.
        Dialect::Openswan if verb.asks(Operation::Up) || verb.asks(Operation::Down) => return None,
        Dialect::Openswan => NmService::Openswan,
        Dialect::FreesWan | Dialect::StrongSwan => return None,
    };
    // What was left out has been told where the offer was read; where nobody read it, it is told here.
    let told = !faults.is_empty();
    let mut own = Vec::new();
    let notice = Notice {
        service,
        reason: match occasion {
            Occasion::Up => Reason::Connect,
            Occasion::Down | Occasion::Failed => Reason::Disconnect,
        },
        servers: servers(values, &mut own),
        domains: domains(values, &mut own),
        banner: values.peer_text("PLUTO_PEER_BANNER").unwrap_or_default(),
        source: values.address("PLUTO_MY_SOURCEIP").ok().flatten(),
        peer: values.address("PLUTO_PEER").ok().flatten(),
    };
    if !told {
        faults.append(&mut own);
    }
    Some(notice)
}

fn servers(values: Values<'_>, faults: &mut Vec<ContractError>) -> Vec<IpAddr> {
    list::<Server>(values, SERVERS, "addresses of name servers", faults)
        .into_iter()
        .map(|Server(address)| address)
        .collect()
}

fn domains(values: Values<'_>, faults: &mut Vec<ContractError>) -> Vec<Domain> {
    list(values, DOMAINS, "names of domains", faults)
}

/// The words of a list that are what they should be, none twice. All others together make one fault.
fn list<T: FromStr + PartialEq>(
    values: Values<'_>,
    names: [&str; 2],
    expected: &'static str,
    faults: &mut Vec<ContractError>,
) -> Vec<T> {
    let Some(name) = names.into_iter().find(|name| values.has(name)) else {
        return Vec::new();
    };
    let raw = match values.bytes(name) {
        Ok(raw) => raw.unwrap_or_default(),
        Err(fault) => {
            faults.push(fault);
            return Vec::new();
        }
    };
    let mut good = Vec::new();
    let mut bad = Vec::new();
    for word in raw
        .as_bytes()
        .split(u8::is_ascii_whitespace)
        .filter(|word| !word.is_empty())
    {
        match std::str::from_utf8(word).ok().and_then(|text| text.parse().ok()) {
            Some(item) if good.contains(&item) => {}
            Some(item) => good.push(item),
            None => bad.push(word),
        }
    }
    if !bad.is_empty() {
        faults.push(unexpected(name, OsStr::from_bytes(&bad.join(&b' ')), expected));
    }
    good
}

/// The address of a name server: one that packets can be sent to.
#[derive(PartialEq)]
struct Server(IpAddr);

impl FromStr for Server {
    type Err = Expected;

    fn from_str(text: &str) -> Result<Self, Expected> {
        text.parse()
            .ok()
            .filter(|address: &IpAddr| !address.is_unspecified() && !address.is_multicast())
            .map(Self)
            .ok_or(Expected("the address of a name server"))
    }
}

/// Whether a flag is set. Whatever else stands in it is a reason to do nothing, and none to refuse a tunnel.
fn is_set(values: Values<'_>, name: &str) -> bool {
    values.raw(name).is_some_and(|value| value == "1")
}
