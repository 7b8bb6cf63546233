//! From the variables of a call to what it asks of the resolver.

use std::ffi::OsStr;
use std::net::IpAddr;
use std::os::unix::ffi::OsStrExt as _;
use std::str::FromStr;

use super::{
    DnsConfig, DnsMeans, DnsRequest, NameService, NmNotice, NmReason, NmService, ResolverAction, ResolverUser,
};
use crate::daemon::env_reader::{EnvReader, missing, unexpected};
use crate::daemon::{Daemon, EnvError, Libreswan, Operation, Scope, Tunnel, Verb, tunnel};
use crate::dns::domain::Domain;
use crate::net::{Expected, Interface};

/// The variables with the peer's name servers: the names since libreswan 3.8, and the older ones,
/// which Openswan has too.
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
enum ResolverEvent {
    Up,
    Down,
    Failed,
}

/// Reads what a call asks of the resolver. `tunnel` is that of an `up` or a `down`, which has been
/// read already.
pub(crate) fn read_resolver(
    env: EnvReader<'_>,
    daemon: Daemon,
    verb: &Verb,
    tunnel: Option<&Tunnel>,
) -> Option<Box<ResolverAction>> {
    let event = resolver_event(env, daemon, verb, tunnel)?;
    let mut faults = Vec::new();
    let action = ResolverAction {
        names: read_names(env, daemon, event, tunnel, &mut faults),
        notice: read_notice(env, daemon, verb, event, &mut faults),
        faults,
    };
    let idle = action.names.is_none() && action.notice.is_none() && action.faults.is_empty();
    (!idle).then(|| Box::new(action))
}

/// libreswan's script sets name servers at `up` and `down` of clients; Openswan has verbs of its
/// own for it, which it sends for Cisco's peers only, as old versions of libreswan do not.
fn resolver_event(env: EnvReader<'_>, daemon: Daemon, verb: &Verb, tunnel: Option<&Tunnel>) -> Option<ResolverEvent> {
    match daemon {
        Daemon::Libreswan(_) | Daemon::Openswan => {}
        Daemon::StrongSwan | Daemon::FreesWan => return None,
    }
    if verb.asks(Operation::DisconnectNm) {
        return Some(ResolverEvent::Failed);
    }
    if verb.asks(Operation::RestoreResolvConf) {
        return Some(ResolverEvent::Down);
    }
    if verb.asks(Operation::UpdateResolvConf) {
        return is_set(env, "PLUTO_IS_PEER_CISCO").then_some(ResolverEvent::Up);
    }
    let tunnel = tunnel.filter(|tunnel| tunnel.scope == Scope::Client)?;
    debug_assert!(verb.asks(Operation::Up) || verb.asks(Operation::Down), "{tunnel:?}");
    Some(if verb.asks(Operation::Up) {
        ResolverEvent::Up
    } else {
        ResolverEvent::Down
    })
}

fn read_names(
    env: EnvReader<'_>,
    daemon: Daemon,
    event: ResolverEvent,
    tunnel: Option<&Tunnel>,
    faults: &mut Vec<EnvError>,
) -> Option<NameService> {
    let request = match event {
        ResolverEvent::Up => DnsRequest::Use(dns_config(env, daemon, tunnel, faults)?),
        // Requested whatever the daemon says now: the record has what is to be restored.
        ResolverEvent::Down => DnsRequest::GiveBack,
        ResolverEvent::Failed => return None,
    };
    let user = match tunnel {
        Some(tunnel) => Ok(ResolverUser {
            connection: tunnel.connection.clone(),
            local_client: tunnel.local_client,
            remote_client: tunnel.remote_client,
        }),
        None => user(env, daemon),
    };
    let user = user.map_err(|fault| faults.push(fault)).ok()?;
    Some(NameService { user, request })
}

fn user(env: EnvReader<'_>, daemon: Daemon) -> Result<ResolverUser, EnvError> {
    let (local_client, remote_client) = tunnel::clients(env, daemon)?;
    Ok(ResolverUser {
        connection: tunnel::connection_name(env)?,
        local_client,
        remote_client,
    })
}

/// The name servers and domains that the peer passed; `None` if the resolver can use none of them.
fn dns_config(
    env: EnvReader<'_>,
    daemon: Daemon,
    tunnel: Option<&Tunnel>,
    faults: &mut Vec<EnvError>,
) -> Option<DnsConfig> {
    // Openswan has no such variable; its verb alone says as much.
    let is_client = tunnel.is_none() || is_set(env, "PLUTO_CFG_CLIENT");
    let configured = match daemon {
        Daemon::Libreswan(Libreswan::V54) => configured(env, faults)?,
        Daemon::Libreswan(Libreswan::V4 | Libreswan::V5) | Daemon::Openswan | Daemon::FreesWan | Daemon::StrongSwan => {
            Configured::File
        }
    };
    // The stock script calls systemd-resolved for mode-config clients and others alike.
    if !is_client && configured == Configured::File {
        return None;
    }
    let (servers, domains) = (servers(env, faults), domains(env, faults));
    let usable = match configured {
        Configured::File => !servers.is_empty(),
        Configured::Systemd => !servers.is_empty() || !domains.is_empty(),
    };
    if !usable {
        return None;
    }
    let means = read_means(env, configured, faults)?;
    Some(DnsConfig {
        servers,
        domains,
        means,
    })
}

/// What `PLUTO_DNS_RESOLVER` says; nothing if that is not known.
fn configured(env: EnvReader<'_>, faults: &mut Vec<EnvError>) -> Option<Configured> {
    const VARIABLE: &str = "PLUTO_DNS_RESOLVER";
    match env.raw(VARIABLE).unwrap_or_default().as_bytes() {
        b"systemd" => Some(Configured::Systemd),
        b"file" => Some(Configured::File),
        other => {
            faults.push(unexpected(VARIABLE, OsStr::from_bytes(other), "file or systemd"));
            None
        }
    }
}

fn read_means(env: EnvReader<'_>, configured: Configured, faults: &mut Vec<EnvError>) -> Option<DnsMeans> {
    const VARIABLE: &str = "PLUTO_INTERFACE";
    let interface: Result<Option<Interface>, _> = env.parsed_value(VARIABLE);
    match configured {
        Configured::Systemd => {
            let interface = interface.and_then(|interface| interface.ok_or(missing(VARIABLE)));
            interface
                .map(DnsMeans::Systemd)
                .map_err(|fault| faults.push(fault))
                .ok()
        }
        Configured::File if is_set(env, "PLUTO_NM_CONFIGURED") => Some(DnsMeans::Unbound),
        Configured::File => Some(DnsMeans::File(interface.unwrap_or_default())),
    }
}

fn read_notice(
    env: EnvReader<'_>,
    daemon: Daemon,
    verb: &Verb,
    event: ResolverEvent,
    faults: &mut Vec<EnvError>,
) -> Option<NmNotice> {
    if !is_set(env, "PLUTO_NM_CONFIGURED") {
        return None;
    }
    let service = match daemon {
        Daemon::Libreswan(_) => NmService::Libreswan,
        // Its script sends no notice at `up` and `down`.
        Daemon::Openswan if verb.asks(Operation::Up) || verb.asks(Operation::Down) => return None,
        Daemon::Openswan => NmService::Openswan,
        Daemon::FreesWan | Daemon::StrongSwan => return None,
    };
    // Omissions were reported where `dns_config` was read; otherwise they are reported here.
    let is_reported = !faults.is_empty();
    let mut own = Vec::new();
    let notice = NmNotice {
        service,
        reason: match event {
            ResolverEvent::Up => NmReason::Connect,
            ResolverEvent::Down | ResolverEvent::Failed => NmReason::Disconnect,
        },
        servers: servers(env, &mut own),
        domains: domains(env, &mut own),
        banner: env.peer_text("PLUTO_PEER_BANNER").unwrap_or_default(),
        source: env.address("PLUTO_MY_SOURCEIP").ok().flatten(),
        peer: env.address("PLUTO_PEER").ok().flatten(),
    };
    if !is_reported {
        faults.append(&mut own);
    }
    Some(notice)
}

fn servers(env: EnvReader<'_>, faults: &mut Vec<EnvError>) -> Vec<IpAddr> {
    read_list::<Server>(env, SERVERS, "addresses of name servers", faults)
        .into_iter()
        .map(|Server(address)| address)
        .collect()
}

fn domains(env: EnvReader<'_>, faults: &mut Vec<EnvError>) -> Vec<Domain> {
    read_list(env, DOMAINS, "names of domains", faults)
}

/// The words of a list that are what they should be, none twice. All others together make one
/// fault.
fn read_list<T: FromStr + PartialEq>(
    env: EnvReader<'_>,
    names: [&str; 2],
    expected: &'static str,
    faults: &mut Vec<EnvError>,
) -> Vec<T> {
    let Some(name) = names.into_iter().find(|name| env.is_set(name)) else {
        return Vec::new();
    };
    let raw = match env.bytes(name) {
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

/// Whether a flag is set. Any other value means no, and does not refuse a tunnel.
fn is_set(env: EnvReader<'_>, name: &str) -> bool {
    env.raw(name).is_some_and(|value| value == "1")
}
