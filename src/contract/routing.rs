//! What a call of Pluto's asks of routes, addresses and devices.

use std::net::{IpAddr, Ipv4Addr};
use std::str::FromStr;

use ipnet::IpNet;

use super::dialect::Dialect;
use super::error::ContractError;
use super::event::Scope;
use super::text::ConnectionName;
use super::tunnel;
use super::values::{Values, unexpected};
use super::verb::{Operation, Verb};
use super::{attachment, event::Attachment};
use crate::selector::{Device, Expected, Mark, Network};

/// How the packets of a connection are to find their way into its tunnel.
///
/// Pluto leaves that to its hook: FreeS/WAN and Openswan wholly, libreswan all but its XFRM devices. strongSwan does it itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Routing {
    /// `PLUTO_CONNECTION`. Whoever is unrouted may be another connection than was routed: they share the far network.
    pub connection: ConnectionName,
    /// Whether our own end is the gateway alone or a network.
    pub scope: Scope,
    /// What is behind us.
    pub my_client: Network,
    /// What is behind the peer, which is what is routed; of the same family as `my_client`.
    pub peer_client: Network,
    /// Our own address of the IKE association, where it is known.
    pub me: Option<IpAddr>,
    /// The peer's address of the IKE association; none for a template.
    pub peer: Option<IpAddr>,
    /// The next hop on the way to the peer (`leftnexthop=`); the peer itself where that is on the link.
    pub next_hop: Option<IpAddr>,
    /// The device towards the peer; under KLIPS that of the tunnels.
    pub interface: Option<Device>,
    /// By what the packets get into the tunnel.
    pub by: RoutedBy,
    /// The address that our own packets are to have (`leftsourceip=`, or one that the peer assigned).
    pub source: Option<IpAddr>,
    /// The greatest packet, in bytes (`mtu=`).
    pub mtu: Option<u32>,
    /// The preference of the route, lower is better (`metric=`).
    pub metric: Option<u32>,
    /// Why an `unroute` comes.
    pub departure: Departure,
    /// Whether the peer is one of Cisco's (`remote-peer-type=cisco`), whose route goes at `down` already.
    pub peer_type: PeerType,
}

/// By what packets get into a tunnel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RoutedBy {
    /// By a policy, whatever device they would leave by.
    Policy,
    /// By an XFRM interface that Pluto has made (`ipsec-interface=`).
    XfrmInterface {
        /// The device.
        device: Device,
        /// The mark of the tunnel's own packets, where the peer lies within the far network: they must not go into the device.
        bypass: Option<Mark>,
    },
    /// By a VTI device that is the hook's to make (`vti-interface=`).
    Vti(Vti),
    /// By a device of KLIPS.
    Klips(Device),
}

/// A VTI device as a connection wants it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vti {
    /// Its name.
    pub device: Device,
    /// The marks of the connection's policies, which become the keys of the device; without both there is no device (`mark=`).
    pub marks: Option<VtiMarks>,
    /// Whether the far network is routed into it (`vti-routing=`).
    pub routing: VtiRouting,
    /// Its far end: none where several peers use the device (`vti-shared=`, instances of a template).
    pub remote: Option<Ipv4Addr>,
    /// Its own address (`leftvti=`).
    pub address: Option<IpNet>,
}

/// The marks of a VTI device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VtiMarks {
    /// Of what comes in.
    pub inbound: Mark,
    /// Of what goes out.
    pub outbound: Mark,
}

/// Whether a far network is routed into the VTI device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VtiRouting {
    /// The hook does it.
    Wanted,
    /// The administrator does.
    Unwanted,
}

/// Why a connection is unrouted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Departure {
    /// It is over.
    ForGood,
    /// Our own address is gone and the tunnel waits for another one (MOBIKE, RFC 4555): it keeps its source address.
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

/// Whether a verb has to do with routes, addresses or devices at all. `down` has not, but with Cisco's gateways.
fn concerns(values: Values<'_>, verb: &Verb) -> Result<bool, ContractError> {
    use Operation::{Down, Prepare, Route, Unroute, Up};
    let always = [Prepare, Route, Unroute, Up]
        .into_iter()
        .any(|operation| verb.asks(operation));
    Ok(always || verb.asks(Down) && peer_type(values)? == PeerType::Cisco)
}

/// Reads what a call asks of routes, addresses and devices; nothing where that is the daemon's own business.
pub(super) fn read(values: Values<'_>, dialect: Dialect, verb: &Verb) -> Result<Option<Box<Routing>>, ContractError> {
    match dialect {
        Dialect::StrongSwan => return Ok(None),
        Dialect::Libreswan(_) | Dialect::Openswan | Dialect::FreesWan => {}
    }
    if !concerns(values, verb)? {
        return Ok(None);
    }
    let (my_client, peer_client) = tunnel::clients(values, dialect)?;
    let me = values.address("PLUTO_ME")?;
    Ok(Some(Box::new(Routing {
        connection: tunnel::connection(values)?,
        scope: verb.scope().unwrap_or_else(|| tunnel::scope_of(&my_client, me)),
        my_client,
        peer_client,
        me,
        peer: values.address("PLUTO_PEER")?,
        next_hop: values.address("PLUTO_NEXT_HOP")?,
        // A name that no rule could bear is no obstacle: mostly the kernel tells the device.
        interface: values.place("PLUTO_INTERFACE").unwrap_or_default(),
        by: routed_by(values, dialect)?,
        source: values.address("PLUTO_MY_SOURCEIP")?,
        mtu: positive(values, "PLUTO_MTU")?,
        metric: positive(values, "PLUTO_METRIC")?,
        departure: departure(values)?,
        peer_type: peer_type(values)?,
    })))
}

/// A number that Pluto leaves out where it is 0.
fn positive(values: Values<'_>, name: &str) -> Result<Option<u32>, ContractError> {
    Ok(values.number(name, "a number")?.filter(|number| *number != 0))
}

fn routed_by(values: Values<'_>, dialect: Dialect) -> Result<RoutedBy, ContractError> {
    match dialect {
        Dialect::Libreswan(_) => {}
        Dialect::StrongSwan => return Ok(RoutedBy::Policy),
        Dialect::Openswan | Dialect::FreesWan => return Ok(klips_or_policy(attachment::older(values, dialect)?)),
    }
    if let Some(device) = values.place("VTI_IFACE")? {
        return Ok(RoutedBy::Vti(vti(values, device)?));
    }
    match values.text("PLUTO_XFRMI_ROUTE")? {
        Some("yes") => Ok(RoutedBy::XfrmInterface {
            device: values.required_place("PLUTO_VIRT_INTERFACE")?,
            bypass: values.place("PLUTO_XFRMI_FWMARK")?,
        }),
        Some(other) => Err(unexpected("PLUTO_XFRMI_ROUTE", other, "yes or nothing")),
        None => Ok(klips_or_policy(attachment::libreswan_device(values)?)),
    }
}

/// Only `ipsecN` is routed to; packets get into a `mastN` by their marks.
fn klips_or_policy(attachment: Option<Attachment>) -> RoutedBy {
    match attachment {
        Some(Attachment::Device(device)) if device.as_str().starts_with("ipsec") => RoutedBy::Klips(device),
        Some(Attachment::Device(_) | Attachment::Policy { .. }) | None => RoutedBy::Policy,
    }
}

fn vti(values: Values<'_>, device: Device) -> Result<Vti, ContractError> {
    let marks = values
        .place("CONNMARK_IN")?
        .zip(values.place("CONNMARK_OUT")?)
        .map(|(inbound, outbound)| VtiMarks { inbound, outbound });
    let shared = values.text("VTI_SHARED")? == Some("yes") || values.text("PLUTO_CONN_KIND")? == Some("CK_INSTANCE");
    let remote = match values.address("PLUTO_PEER")? {
        Some(IpAddr::V4(peer)) if !shared => Some(peer),
        Some(_) | None => None,
    };
    let address: Option<InterfaceAddress> = values.place("VTI_IP")?;
    Ok(Vti {
        device,
        marks,
        routing: match values.text("VTI_ROUTING")? {
            Some("yes") => VtiRouting::Wanted,
            Some(_) | None => VtiRouting::Unwanted,
        },
        remote,
        address: address.map(|InterfaceAddress(address)| address),
    })
}

/// `yes` in the `unroute` of a tunnel that moves, and empty otherwise.
fn departure(values: Values<'_>) -> Result<Departure, ContractError> {
    Ok(match values.text("PLUTO_MOBIKE_EVENT")? {
        Some(_) => Departure::Moving,
        None => Departure::ForGood,
    })
}

fn peer_type(values: Values<'_>) -> Result<PeerType, ContractError> {
    Ok(match values.text("PLUTO_IS_PEER_CISCO")? {
        Some("1") => PeerType::Cisco,
        Some(_) | None => PeerType::Other,
    })
}

/// An address with the length of its network behind it, `10.1.0.1/24`.
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
