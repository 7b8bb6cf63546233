//! A virtual tunnel interface is a device, three kernel variables and an address: it is put in step by step, or not at all.

use std::fs;

use nix::errno::Errno;

use super::commands::{VTI_VARIABLES, variable_command};
use super::connection::Connection;
use super::error::{Doing, Fault, NetlinkError};
use super::items::{Item, Vti};
use super::kernel;
use super::links::{self, Which};
use super::messages::{Action, activation, flags, request};
use super::network::{Link, LinkKind, Put};
use crate::selector::Device;

/// Puts it in.
pub(super) fn put(connection: &mut Connection, vti: &Vti) -> Result<Put, NetlinkError> {
    let item = Item::Vti(vti.clone());
    let failed = |fault| step(vti.creation(), fault);
    match connection.change(request(Action::PutIn, &item, None), flags(Action::PutIn, &item)) {
        Ok(()) => {}
        // Either by its name, or by its ends: then there is another device of another name, and this one is missing.
        Err(Fault::Refused(Errno::EEXIST)) => {
            return match links::find(connection, Which::Name(&vti.device)).map_err(failed)? {
                Some(link) if is_vti(&link) => Ok(Put::Stood),
                // Routes into it would lead out of the tunnel.
                Some(_) => Err(failed(Fault::NoVti(vti.device.clone()))),
                None => Err(failed(Fault::Refused(Errno::EEXIST))),
            };
        }
        Err(fault) => return Err(failed(fault)),
    }
    let Some(link) = links::find(connection, Which::Name(&vti.device)).map_err(failed)? else {
        return Err(failed(Fault::NoDevice(vti.device.clone())));
    };
    if let Err(error) = furnish(connection, vti, &link) {
        // What went wrong first is what is said.
        let _ = connection.change(request(Action::TakeOut, &item, Some(link.index)), 0);
        return Err(error);
    }
    Ok(Put::New)
}

fn is_vti(link: &Link) -> bool {
    match link.kind {
        LinkKind::Vti(_) | LinkKind::Vti6 => true,
        LinkKind::Xfrm | LinkKind::Unnamed | LinkKind::Other => false,
    }
}

/// Makes a new device usable.
fn furnish(connection: &mut Connection, vti: &Vti, link: &Link) -> Result<(), NetlinkError> {
    for (name, value) in VTI_VARIABLES {
        set(&vti.device, name, value).map_err(|fault| step(variable_command(&vti.device, name, value), fault))?;
    }
    if let Some(address) = vti.own_address() {
        let item = Item::Address(address);
        kernel::put(connection, &item).map_err(|fault| NetlinkError::put_in(&item, fault))?;
    }
    let up = connection.change(activation(link.index), 0);
    up.map_err(|fault| step(vti.activation(), fault))
}

/// Sets a kernel variable of a device in the network namespace of this thread.
fn set(device: &Device, name: &str, value: &str) -> Result<(), Fault> {
    Ok(fs::write(format!("/proc/sys/net/ipv4/conf/{device}/{name}"), value)?)
}

fn step(command: String, fault: Fault) -> NetlinkError {
    NetlinkError {
        doing: Doing::PutIn(command),
        fault,
    }
}

/// Whether a device may go with an item: a VTI only if it is one with these ends, anything else does not take its device along.
pub(super) fn may_go(item: &Item, link: &Link) -> bool {
    let Item::Vti(vti) = item else { return true };
    match link.kind {
        LinkKind::Vti(ends) => ends == vti.ends(),
        LinkKind::Vti6 | LinkKind::Xfrm | LinkKind::Unnamed | LinkKind::Other => false,
    }
}
