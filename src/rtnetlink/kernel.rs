//! The kernel that this program runs on.

use std::net::IpAddr;
use std::thread::sleep;
use std::time::{Duration, Instant};

use netlink_packet_route::RouteNetlinkMessage;
use nix::errno::Errno;

use super::connection::Connection;
use super::error::{Doing, Fault, NetlinkError};
use super::items::{Address, Item, ProxyNeighbour, Route};
use super::links::{self, Which};
use super::messages::{Action, REPLACEMENT, addition, asked_neighbour, flags, request};
use super::network::{Link, Lookup, Medium, Network, Put, Taken, Wanted, Way, WayKind};
use super::saved_route::SavedRoute;
use super::{routes, vti};
use crate::selector::Device;

/// How long a new address may take until it can be used.
const SETTLING: Duration = Duration::from_millis(500);

/// How long it is left alone between two looks.
const LOOK: Duration = Duration::from_micros(100);

/// The network configuration of the network namespace in which it was opened.
#[derive(Debug)]
pub struct Kernel {
    connection: Connection,
}

impl Kernel {
    /// Opens the one socket that everything goes through.
    ///
    /// # Errors
    /// If there is none to be had. Needs no rights.
    pub fn open() -> Result<Self, NetlinkError> {
        let connection = Connection::open().map_err(|fault| NetlinkError {
            doing: Doing::Open,
            fault,
        })?;
        Ok(Self { connection })
    }
}

impl Network for Kernel {
    fn put(&mut self, item: &Item) -> Result<Put, NetlinkError> {
        match item {
            Item::Vti(vti) => vti::put(&mut self.connection, vti),
            Item::Route(_) | Item::Rule(_) | Item::Address(_) | Item::ProxyNeighbour(_) => {
                put(&mut self.connection, item).map_err(|fault| NetlinkError::put_in(item, fault))
            }
        }
    }

    fn add_route(&mut self, route: &Route) -> Result<Put, NetlinkError> {
        add_route(&mut self.connection, route).map_err(|fault| NetlinkError::put_in(&Item::Route(route.clone()), fault))
    }

    fn in_place_of(&mut self, route: &Route) -> Result<Option<SavedRoute>, NetlinkError> {
        in_place_of(&mut self.connection, route).map_err(|fault| NetlinkError {
            doing: Doing::ListRoutes,
            fault,
        })
    }

    fn put_back(&mut self, saved: &SavedRoute) -> Result<(), NetlinkError> {
        let malformed = || Fault::Malformed("it is no route".into());
        let message = saved.message().ok_or_else(malformed);
        let put = message.and_then(|message| self.connection.change(message, REPLACEMENT));
        put.map_err(|fault| NetlinkError {
            doing: Doing::PutBack(saved.destination),
            fault,
        })
    }

    fn take_out(&mut self, item: &Item) -> Result<Taken, NetlinkError> {
        take_out(&mut self.connection, item).map_err(|fault| NetlinkError::take_out(item, fault))
    }

    fn lookup(&mut self, to: IpAddr, from: Option<IpAddr>) -> Result<Lookup, NetlinkError> {
        lookup(&mut self.connection, to, from).map_err(|fault| NetlinkError {
            doing: Doing::Lookup(to),
            fault,
        })
    }

    fn link(&mut self, device: &Device) -> Result<Option<Link>, NetlinkError> {
        let failed = |fault| NetlinkError {
            doing: Doing::Link(device.clone()),
            fault,
        };
        links::find(&mut self.connection, Which::Name(device)).map_err(failed)
    }

    fn routes(&mut self, wanted: &Wanted) -> Result<Vec<Route>, NetlinkError> {
        list(&mut self.connection, wanted).map_err(|fault| NetlinkError {
            doing: Doing::ListRoutes,
            fault,
        })
    }
}

/// Puts in anything but a VTI.
pub(super) fn put(connection: &mut Connection, item: &Item) -> Result<Put, Fault> {
    let link = match device(item) {
        None => None,
        Some(device) => match links::find(connection, Which::Name(device))? {
            None => return Err(Fault::NoDevice(device.clone())),
            Some(link) => Some(link),
        },
    };
    let index = link.as_ref().map(|link| link.index);
    if let Item::ProxyNeighbour(neighbour) = item
        && answers_for(connection, neighbour, index)?
    {
        return Ok(Put::Stood);
    }
    match connection.change(request(Action::PutIn, item, index), flags(Action::PutIn, item)) {
        Ok(()) => {}
        Err(Fault::Refused(Errno::EEXIST)) => return Ok(Put::Stood),
        Err(fault) => return Err(fault),
    }
    if let (Item::Address(address), Some(link)) = (item, link) {
        let _usable = wait_for(connection, address, &link);
    }
    Ok(Put::New)
}

/// Puts a route in where none stands in its way.
fn add_route(connection: &mut Connection, route: &Route) -> Result<Put, Fault> {
    let index = match &route.device {
        None => None,
        Some(device) => {
            let link = links::find(connection, Which::Name(device))?;
            Some(link.ok_or_else(|| Fault::NoDevice(device.clone()))?.index)
        }
    };
    let (request, flags) = addition(route, index);
    match connection.change(request, flags) {
        Ok(()) => Ok(Put::New),
        Err(Fault::Refused(Errno::EEXIST)) => Ok(Put::Stood),
        Err(fault) => Err(fault),
    }
}

fn in_place_of(connection: &mut Connection, route: &Route) -> Result<Option<SavedRoute>, Fault> {
    let mut found = None;
    connection.filter_in_kernel();
    let listed = connection.list(routes::whole_table(route), |answer| {
        if let RouteNetlinkMessage::NewRoute(answer) = answer {
            found = found.take().or_else(|| SavedRoute::in_place_of(route, &answer));
        }
    });
    match listed {
        Ok(()) | Err(Fault::Refused(Errno::ENOENT)) => Ok(found),
        Err(fault) => Err(fault),
    }
}

/// Waits until an IPv6 address can be used, which is a moment after it was put in: a thread of the kernel's does the rest
/// (`addrconf_dad_work`), and until then refuses a route that has it as its source. Measured without this: four of five.
///
/// On Ethernet the neighbours are asked first whether the address is theirs (RFC 4862, section 5.4), which takes seconds: that is
/// not waited for.
fn wait_for(connection: &mut Connection, address: &Address, link: &Link) -> Result<(), Fault> {
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

fn is_local(way: &Lookup) -> bool {
    matches!(
        way,
        Lookup::Found(Way {
            kind: WayKind::Local,
            ..
        })
    )
}

/// The device that must be there before the item is.
fn device(item: &Item) -> Option<&Device> {
    match item {
        Item::Route(route) => route.device.as_ref(),
        Item::Address(address) => Some(&address.device),
        Item::ProxyNeighbour(neighbour) => Some(&neighbour.device),
        Item::Rule(_) | Item::Vti(_) => None,
    }
}

/// Whether an address is answered for already: unlike everything else the kernel puts it in a second time and says nothing.
/// Before Linux 5.0 it cannot be asked for one, and the answer is no.
fn answers_for(connection: &mut Connection, neighbour: &ProxyNeighbour, index: Option<u32>) -> Result<bool, Fault> {
    let question = RouteNetlinkMessage::GetNeighbour(asked_neighbour(neighbour, index));
    match connection.ask(question) {
        Ok(_) => Ok(true),
        Err(Fault::Refused(Errno::ENOENT | Errno::EOPNOTSUPP)) => Ok(false),
        Err(fault) => Err(fault),
    }
}

fn take_out(connection: &mut Connection, item: &Item) -> Result<Taken, Fault> {
    let named = match item {
        Item::Vti(vti) => Some(&vti.device),
        Item::Route(_) | Item::Rule(_) | Item::Address(_) | Item::ProxyNeighbour(_) => device(item),
    };
    let index = match named {
        None => None,
        Some(device) => match links::find(connection, Which::Name(device))? {
            Some(link) if vti::may_go(item, &link) => Some(link.index),
            Some(_) | None => return Ok(Taken::Absent),
        },
    };
    match connection.change(request(Action::TakeOut, item, index), flags(Action::TakeOut, item)) {
        Ok(()) => Ok(Taken::Out),
        Err(Fault::Refused(Errno::ESRCH | Errno::ENOENT | Errno::EADDRNOTAVAIL | Errno::ENODEV)) => Ok(Taken::Absent),
        Err(fault) => Err(fault),
    }
}

fn lookup(connection: &mut Connection, to: IpAddr, from: Option<IpAddr>) -> Result<Lookup, Fault> {
    let answer = match connection.ask(routes::lookup(to, from)) {
        Ok(RouteNetlinkMessage::NewRoute(answer)) => answer,
        Ok(_) => return Err(Fault::Malformed("it is no route".into())),
        Err(fault) => return routes::no_route(&fault).map(Lookup::Unreachable).ok_or(fault),
    };
    let kind = match routes::way_kind(answer.header.kind) {
        Ok(kind) => kind,
        Err(none) => return Ok(Lookup::Unreachable(none)),
    };
    let (via, index) = routes::next_hop(&answer);
    let device = name(connection, index)?;
    Ok(Lookup::Found(Way { kind, device, via }))
}

/// The name of the device with this number.
fn name(connection: &mut Connection, index: Option<u32>) -> Result<Option<Device>, Fault> {
    let Some(index) = index else { return Ok(None) };
    Ok(links::find(connection, Which::Index(index))?.map(|link| link.device))
}

fn list(connection: &mut Connection, wanted: &Wanted) -> Result<Vec<Route>, Fault> {
    let mut found = Vec::new();
    connection.filter_in_kernel();
    let listed = connection.list(routes::main_table(wanted), |answer| {
        if let RouteNetlinkMessage::NewRoute(answer) = answer {
            found.extend(routes::listed(&answer, wanted));
        }
    });
    match listed {
        // There is no main table as long as there is no route.
        Ok(()) | Err(Fault::Refused(Errno::ENOENT)) => {}
        Err(fault) => return Err(fault),
    }
    let mut routes = Vec::new();
    for (mut route, index) in found {
        route.device = name(connection, index)?;
        routes.push(route);
    }
    Ok(routes)
}
