//! The kernel that this program runs on.

use std::net::IpAddr;
use std::thread::sleep;
use std::time::{Duration, Instant};

use netlink_packet_route::RouteNetlinkMessage;
use nix::errno::Errno;

use super::connection::NetlinkSocket;
use super::error::{NetlinkAction, NetlinkError, NetlinkFault};
use super::links::{self, Which};
use super::messages::{ObjectAction, REPLACEMENT, addition, asked_neighbour, flags, request};
use super::net_objects::{AssignedAddress, NetObject, ProxyNeighbour, Route};
use super::network::{Deleted, InstallResult, Link, Lookup, Medium, NetConfig, NextHop, RouteKind, RouteQuery};
use super::saved_route::SavedRoute;
use super::{routes, vti};
use crate::net::Interface;

/// How long a new address may take until it can be used.
const SETTLING: Duration = Duration::from_millis(500);

/// How long it is left alone between two looks.
const LOOK: Duration = Duration::from_micros(100);

/// The network configuration of the network namespace in which it was opened.
#[derive(Debug)]
pub struct Kernel {
    connection: NetlinkSocket,
}

impl Kernel {
    /// Opens the one socket that everything goes through.
    ///
    /// # Errors
    /// If there is none to be had. Needs no rights.
    pub fn open() -> Result<Self, NetlinkError> {
        let connection = NetlinkSocket::open().map_err(|fault| NetlinkError {
            doing: NetlinkAction::Open,
            fault,
        })?;
        Ok(Self { connection })
    }
}

impl NetConfig for Kernel {
    fn install(&mut self, object: &NetObject) -> Result<InstallResult, NetlinkError> {
        match object {
            NetObject::VtiInterface(vti) => vti::install_vti(&mut self.connection, vti),
            NetObject::Route(_) | NetObject::Rule(_) | NetObject::Address(_) | NetObject::ProxyNeighbour(_) => {
                install_object(&mut self.connection, object).map_err(|fault| NetlinkError::not_installed(object, fault))
            }
        }
    }

    fn add_route(&mut self, route: &Route) -> Result<InstallResult, NetlinkError> {
        add_route(&mut self.connection, route)
            .map_err(|fault| NetlinkError::not_installed(&NetObject::Route(route.clone()), fault))
    }

    fn in_place_of(&mut self, route: &Route) -> Result<Option<SavedRoute>, NetlinkError> {
        in_place_of(&mut self.connection, route).map_err(|fault| NetlinkError {
            doing: NetlinkAction::ListRoutes,
            fault,
        })
    }

    fn put_back(&mut self, saved: &SavedRoute) -> Result<(), NetlinkError> {
        let malformed = || NetlinkFault::Malformed("it is no route".into());
        let message = saved.message().ok_or_else(malformed);
        let result = message.and_then(|message| self.connection.change(message, REPLACEMENT));
        result.map_err(|fault| NetlinkError {
            doing: NetlinkAction::PutBack(saved.destination),
            fault,
        })
    }

    fn delete(&mut self, object: &NetObject) -> Result<Deleted, NetlinkError> {
        delete_object(&mut self.connection, object).map_err(|fault| NetlinkError::not_deleted(object, fault))
    }

    fn lookup(&mut self, to: IpAddr, from: Option<IpAddr>) -> Result<Lookup, NetlinkError> {
        lookup(&mut self.connection, to, from).map_err(|fault| NetlinkError {
            doing: NetlinkAction::Lookup(to),
            fault,
        })
    }

    fn link(&mut self, interface: &Interface) -> Result<Option<Link>, NetlinkError> {
        let failed = |fault| NetlinkError {
            doing: NetlinkAction::Link(interface.clone()),
            fault,
        };
        links::find_link(&mut self.connection, Which::Name(interface)).map_err(failed)
    }

    fn routes(&mut self, wanted: &RouteQuery) -> Result<Vec<Route>, NetlinkError> {
        list_routes(&mut self.connection, wanted).map_err(|fault| NetlinkError {
            doing: NetlinkAction::ListRoutes,
            fault,
        })
    }
}

/// Installs any object except a VTI.
pub(super) fn install_object(
    connection: &mut NetlinkSocket,
    object: &NetObject,
) -> Result<InstallResult, NetlinkFault> {
    let link = match needed_interface(object) {
        None => None,
        Some(interface) => match links::find_link(connection, Which::Name(interface))? {
            None => return Err(NetlinkFault::NoDevice(interface.clone())),
            Some(link) => Some(link),
        },
    };
    let index = link.as_ref().map(|link| link.index);
    if let NetObject::ProxyNeighbour(neighbour) = object
        && answers_for(connection, neighbour, index)?
    {
        return Ok(InstallResult::Existed);
    }
    match connection.change(
        request(ObjectAction::Install, object, index),
        flags(ObjectAction::Install, object),
    ) {
        Ok(()) => {}
        Err(NetlinkFault::Refused(Errno::EEXIST)) => return Ok(InstallResult::Existed),
        Err(fault) => return Err(fault),
    }
    if let (NetObject::Address(address), Some(link)) = (object, link) {
        let _usable = wait_for(connection, address, &link);
    }
    Ok(InstallResult::New)
}

/// Adds a route unless there is one with its key.
fn add_route(connection: &mut NetlinkSocket, route: &Route) -> Result<InstallResult, NetlinkFault> {
    let index = match &route.interface {
        None => None,
        Some(interface) => {
            let link = links::find_link(connection, Which::Name(interface))?;
            Some(link.ok_or_else(|| NetlinkFault::NoDevice(interface.clone()))?.index)
        }
    };
    let (request, flags) = addition(route, index);
    match connection.change(request, flags) {
        Ok(()) => Ok(InstallResult::New),
        Err(NetlinkFault::Refused(Errno::EEXIST)) => Ok(InstallResult::Existed),
        Err(fault) => Err(fault),
    }
}

fn in_place_of(connection: &mut NetlinkSocket, route: &Route) -> Result<Option<SavedRoute>, NetlinkFault> {
    let mut found = None;
    connection.filter_in_kernel();
    let listed = connection.list_answers(routes::whole_table(route), |answer| {
        if let RouteNetlinkMessage::NewRoute(answer) = answer {
            found = found.take().or_else(|| SavedRoute::in_place_of(route, &answer));
        }
    });
    match listed {
        Ok(()) | Err(NetlinkFault::Refused(Errno::ENOENT)) => Ok(found),
        Err(fault) => Err(fault),
    }
}

/// Waits until an IPv6 address can be used, which is a moment after it was added: a thread of the
/// kernel's does the rest (`addrconf_dad_work`), and until then refuses a route that has it as its
/// source. Measured without this: four of five.
///
/// On Ethernet the neighbours are asked first whether the address is theirs (RFC 4862, section
/// 5.4), which takes seconds: that is not waited for.
fn wait_for(connection: &mut NetlinkSocket, address: &AssignedAddress, link: &Link) -> Result<(), NetlinkFault> {
    let ip = address.address.addr();
    if ip.is_ipv4() || link.medium == Medium::Ethernet {
        return Ok(());
    }
    let deadline = Instant::now() + SETTLING;
    while !is_local(&lookup(connection, ip, None)?) && Instant::now() < deadline {
        sleep(LOOK);
    }
    Ok(())
}

fn is_local(lookup: &Lookup) -> bool {
    matches!(
        lookup,
        Lookup::Found(NextHop {
            kind: RouteKind::Local,
            ..
        })
    )
}

/// The interface that an object needs.
fn needed_interface(object: &NetObject) -> Option<&Interface> {
    match object {
        NetObject::Route(route) => route.interface.as_ref(),
        NetObject::Address(address) => Some(&address.interface),
        NetObject::ProxyNeighbour(neighbour) => Some(&neighbour.interface),
        NetObject::Rule(_) | NetObject::VtiInterface(_) => None,
    }
}

/// Whether an address is answered for already: unlike other objects, the kernel adds it a second
/// time without an error. Before Linux 5.0 it cannot be queried, and the answer is no.
fn answers_for(
    connection: &mut NetlinkSocket,
    neighbour: &ProxyNeighbour,
    index: Option<u32>,
) -> Result<bool, NetlinkFault> {
    let question = RouteNetlinkMessage::GetNeighbour(asked_neighbour(neighbour, index));
    match connection.send_request(question) {
        Ok(_) => Ok(true),
        Err(NetlinkFault::Refused(Errno::ENOENT | Errno::EOPNOTSUPP)) => Ok(false),
        Err(fault) => Err(fault),
    }
}

fn delete_object(connection: &mut NetlinkSocket, object: &NetObject) -> Result<Deleted, NetlinkFault> {
    let named = match object {
        NetObject::VtiInterface(vti) => Some(&vti.interface),
        NetObject::Route(_) | NetObject::Rule(_) | NetObject::Address(_) | NetObject::ProxyNeighbour(_) => {
            needed_interface(object)
        }
    };
    let index = match named {
        None => None,
        Some(interface) => match links::find_link(connection, Which::Name(interface))? {
            Some(link) if vti::may_go(object, &link) => Some(link.index),
            Some(_) | None => return Ok(Deleted::Absent),
        },
    };
    match connection.change(
        request(ObjectAction::Delete, object, index),
        flags(ObjectAction::Delete, object),
    ) {
        Ok(()) => Ok(Deleted::Out),
        Err(NetlinkFault::Refused(Errno::ESRCH | Errno::ENOENT | Errno::EADDRNOTAVAIL | Errno::ENODEV)) => {
            Ok(Deleted::Absent)
        }
        Err(fault) => Err(fault),
    }
}

fn lookup(connection: &mut NetlinkSocket, to: IpAddr, from: Option<IpAddr>) -> Result<Lookup, NetlinkFault> {
    let answer = match connection.send_request(routes::lookup(to, from)) {
        Ok(RouteNetlinkMessage::NewRoute(answer)) => answer,
        Ok(_) => return Err(NetlinkFault::Malformed("it is no route".into())),
        Err(fault) => return routes::no_route(&fault).map(Lookup::Unreachable).ok_or(fault),
    };
    let kind = match routes::way_kind(answer.header.kind) {
        Ok(kind) => kind,
        Err(none) => return Ok(Lookup::Unreachable(none)),
    };
    let (via, index) = routes::next_hop(&answer);
    let interface = interface_name(connection, index)?;
    Ok(Lookup::Found(NextHop { kind, interface, via }))
}

/// The name of the interface with this index.
fn interface_name(connection: &mut NetlinkSocket, index: Option<u32>) -> Result<Option<Interface>, NetlinkFault> {
    let Some(index) = index else { return Ok(None) };
    Ok(links::find_link(connection, Which::Index(index))?.map(|link| link.interface))
}

fn list_routes(connection: &mut NetlinkSocket, wanted: &RouteQuery) -> Result<Vec<Route>, NetlinkFault> {
    let mut found = Vec::new();
    connection.filter_in_kernel();
    let listed = connection.list_answers(routes::main_table(wanted), |answer| {
        if let RouteNetlinkMessage::NewRoute(answer) = answer {
            found.extend(routes::listed(&answer, wanted));
        }
    });
    match listed {
        // There is no main table as long as there is no route.
        Ok(()) | Err(NetlinkFault::Refused(Errno::ENOENT)) => {}
        Err(fault) => return Err(fault),
    }
    let mut routes = Vec::new();
    for (mut route, index) in found {
        route.interface = interface_name(connection, index)?;
        routes.push(route);
    }
    Ok(routes)
}
