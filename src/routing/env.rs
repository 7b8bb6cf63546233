//! The routes, addresses and interfaces that a call of Pluto needs.

use std::net::{IpAddr, Ipv4Addr};
use std::str::FromStr;

use ipnet::IpNet;

use crate::daemon::env_reader::{EnvReader, unexpected};
use crate::daemon::{ConnectionName, Daemon, EnvError, Operation, SaMatch, Scope, Verb, sa_match, tunnel};
use crate::net::{Expected, Interface, Mark, Network};

/// How a connection's packets are routed into its tunnel.
///
/// Pluto leaves that to its hook: FreeS/WAN and Openswan wholly, libreswan all except its XFRM
/// interfaces. strongSwan does it itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Routing {
    /// `PLUTO_CONNECTION`. At `unroute` it may be another connection than at `route`: they share
    /// the remote network.
    pub connection: ConnectionName,
    /// Whether our own end is the gateway alone or a network.
    pub scope: Scope,
    /// The local network.
    pub local_client: Network,
    /// The remote network, which is routed; of the same family as `local_client`.
    pub remote_client: Network,
    /// Our own address of the IKE association, where it is known.
    pub local_host: Option<IpAddr>,
    /// The peer's address of the IKE association; none for a template.
    pub remote_host: Option<IpAddr>,
    /// The next hop on the way to the peer (`leftnexthop=`); the peer itself where that is on the
    /// link.
    pub next_hop: Option<IpAddr>,
    /// The interface towards the peer; under KLIPS that of the tunnels.
    pub interface: Option<Interface>,
    /// By what the packets get into the tunnel.
    pub by: RoutedBy,
    /// The address that our own packets are to have (`leftsourceip=`, or one that the peer
    /// assigned).
    pub source: Option<IpAddr>,
    /// The greatest packet, in bytes (`mtu=`).
    pub mtu: Option<u32>,
    /// The preference of the route, lower is better (`metric=`).
    pub metric: Option<u32>,
    /// Why an `unroute` comes.
    pub unroute_reason: UnrouteReason,
    /// Whether the peer is one of Cisco's (`remote-peer-type=cisco`), whose route goes at `down`
    /// already.
    pub peer_type: PeerType,
}

/// By what packets get into a tunnel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RoutedBy {
    /// By a policy, whatever interface they would leave by.
    Policy,
    /// By an XFRM interface that Pluto has made (`ipsec-interface=`).
    XfrmInterface {
        /// The interface.
        interface: Interface,
        /// The mark of the tunnel's own ESP packets, if the peer is within the remote network: they
        /// must not go into the interface.
        bypass: Option<Mark>,
    },
    /// By a VTI interface that the hook makes (`vti-interface=`).
    Vti(VtiSettings),
    /// By an interface of KLIPS.
    Klips(Interface),
}

/// The settings of a connection's VTI interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VtiSettings {
    /// Its name.
    pub interface: Interface,
    /// The marks of the connection's policies, which become the keys of the interface; without both
    /// there is no interface (`mark=`).
    pub marks: Option<VtiMarks>,
    /// Whether the remote network is routed into it (`vti-routing=`).
    pub routing: VtiRouting,
    /// Its remote endpoint: `None` if several peers use the interface (`vti-shared=`, instances of
    /// a template).
    pub remote: Option<Ipv4Addr>,
    /// Its own address (`leftvti=`).
    pub address: Option<IpNet>,
}

/// The marks of a VTI interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VtiMarks {
    /// Of what comes in.
    pub inbound: Mark,
    /// Of what goes out.
    pub outbound: Mark,
}

/// Whether a remote network is routed into the VTI interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VtiRouting {
    /// The hook does it.
    Wanted,
    /// The administrator does.
    Unwanted,
}

/// Why a connection is unrouted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnrouteReason {
    /// It is over.
    ForGood,
    /// Our own address is gone and the tunnel waits for another one (MOBIKE, RFC 4555): it keeps
    /// its source address.
    Moving,
}

/// What kind of gateway the peer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PeerType {
    /// One of Cisco's.
    Cisco,
    /// Any other.
    Other,
}

/// Whether a verb concerns routes, addresses or interfaces at all. `down` does so only with Cisco's
/// gateways.
fn is_routing_verb(env: EnvReader<'_>, verb: &Verb) -> Result<bool, EnvError> {
    use Operation::{Down, Prepare, Route, Unroute, Up};
    let always = [Prepare, Route, Unroute, Up]
        .into_iter()
        .any(|operation| verb.asks(operation));
    Ok(always || verb.asks(Down) && peer_type(env)? == PeerType::Cisco)
}

/// Reads the routes, addresses and interfaces that a call needs; `None` if the daemon itself
/// configures them.
pub(crate) fn read_routing(env: EnvReader<'_>, daemon: Daemon, verb: &Verb) -> Result<Option<Box<Routing>>, EnvError> {
    match daemon {
        Daemon::StrongSwan => return Ok(None),
        Daemon::Libreswan(_) | Daemon::Openswan | Daemon::FreesWan => {}
    }
    if !is_routing_verb(env, verb)? {
        return Ok(None);
    }
    let (local_client, remote_client) = tunnel::clients(env, daemon)?;
    let local_host = env.address("PLUTO_ME")?;
    Ok(Some(Box::new(Routing {
        connection: tunnel::connection_name(env)?,
        scope: verb
            .scope()
            .unwrap_or_else(|| tunnel::scope_of(&local_client, local_host)),
        local_client,
        remote_client,
        local_host,
        remote_host: env.address("PLUTO_PEER")?,
        next_hop: env.address("PLUTO_NEXT_HOP")?,
        // An invalid name is ignored: usually the kernel decides the interface.
        interface: env.parsed_value("PLUTO_INTERFACE").unwrap_or_default(),
        by: routed_by(env, daemon)?,
        source: env.address("PLUTO_MY_SOURCEIP")?,
        mtu: positive(env, "PLUTO_MTU")?,
        metric: positive(env, "PLUTO_METRIC")?,
        unroute_reason: unroute_reason(env)?,
        peer_type: peer_type(env)?,
    })))
}

/// A number that Pluto leaves out where it is 0.
fn positive(env: EnvReader<'_>, name: &str) -> Result<Option<u32>, EnvError> {
    Ok(env.number(name, "a number")?.filter(|number| *number != 0))
}

fn routed_by(env: EnvReader<'_>, daemon: Daemon) -> Result<RoutedBy, EnvError> {
    match daemon {
        Daemon::Libreswan(_) => {}
        Daemon::StrongSwan => return Ok(RoutedBy::Policy),
        Daemon::Openswan | Daemon::FreesWan => return Ok(klips_or_policy(sa_match::without_reqid(env, daemon)?)),
    }
    if let Some(interface) = env.parsed_value("VTI_IFACE")? {
        return Ok(RoutedBy::Vti(vti(env, interface)?));
    }
    match env.text_value("PLUTO_XFRMI_ROUTE")? {
        Some("yes") => Ok(RoutedBy::XfrmInterface {
            interface: env.required_value("PLUTO_VIRT_INTERFACE")?,
            bypass: env.parsed_value("PLUTO_XFRMI_FWMARK")?,
        }),
        Some(other) => Err(unexpected("PLUTO_XFRMI_ROUTE", other, "yes or nothing")),
        None => Ok(klips_or_policy(sa_match::libreswan_klips(env)?)),
    }
}

/// Only `ipsecN` is routed to; packets get into a `mastN` by their marks.
fn klips_or_policy(sa_match: Option<SaMatch>) -> RoutedBy {
    match sa_match {
        Some(SaMatch::Interface(interface)) if interface.as_str().starts_with("ipsec") => RoutedBy::Klips(interface),
        Some(SaMatch::Interface(_) | SaMatch::Policy { .. }) | None => RoutedBy::Policy,
    }
}

fn vti(env: EnvReader<'_>, interface: Interface) -> Result<VtiSettings, EnvError> {
    let marks = env
        .parsed_value("CONNMARK_IN")?
        .zip(env.parsed_value("CONNMARK_OUT")?)
        .map(|(inbound, outbound)| VtiMarks { inbound, outbound });
    let shared =
        env.text_value("VTI_SHARED")? == Some("yes") || env.text_value("PLUTO_CONN_KIND")? == Some("CK_INSTANCE");
    let remote = match env.address("PLUTO_PEER")? {
        Some(IpAddr::V4(peer)) if !shared => Some(peer),
        Some(_) | None => None,
    };
    let address: Option<InterfaceAddress> = env.parsed_value("VTI_IP")?;
    Ok(VtiSettings {
        interface,
        marks,
        routing: match env.text_value("VTI_ROUTING")? {
            Some("yes") => VtiRouting::Wanted,
            Some(_) | None => VtiRouting::Unwanted,
        },
        remote,
        address: address.map(|InterfaceAddress(address)| address),
    })
}

/// `yes` in the `unroute` of a tunnel that moves, and empty otherwise.
fn unroute_reason(env: EnvReader<'_>) -> Result<UnrouteReason, EnvError> {
    Ok(match env.text_value("PLUTO_MOBIKE_EVENT")? {
        Some(_) => UnrouteReason::Moving,
        None => UnrouteReason::ForGood,
    })
}

fn peer_type(env: EnvReader<'_>) -> Result<PeerType, EnvError> {
    Ok(match env.text_value("PLUTO_IS_PEER_CISCO")? {
        Some("1") => PeerType::Cisco,
        Some(_) | None => PeerType::Other,
    })
}

/// An address with its prefix length, `10.1.0.1/24`.
struct InterfaceAddress(IpNet);

impl FromStr for InterfaceAddress {
    type Err = Expected;

    fn from_str(text: &str) -> Result<Self, Expected> {
        text.parse::<IpNet>()
            .or_else(|_| text.parse::<IpAddr>().map(IpNet::from))
            .map(Self)
            .map_err(|_| Expected("an address and the length of its network, such as 10.1.0.1/24"))
    }
}
