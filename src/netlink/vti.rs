//! A virtual tunnel interface is an interface, three kernel variables and an address: it is
//! installed step by step, and removed if one step fails.

use std::fs;

use nix::errno::Errno;

use super::commands::{VTI_VARIABLES, variable_command};
use super::connection::NetlinkSocket;
use super::error::{NetlinkAction, NetlinkError, NetlinkFault};
use super::kernel;
use super::links::{self, Which};
use super::messages::{ObjectAction, activation, flags, request};
use super::net_objects::{NetObject, VtiInterface};
use super::network::{InstallResult, Link, LinkKind};
use crate::net::Interface;

/// Installs the interface.
pub(super) fn install_vti(connection: &mut NetlinkSocket, vti: &VtiInterface) -> Result<InstallResult, NetlinkError> {
    let object = NetObject::VtiInterface(vti.clone());
    let failed = |fault| failed_step(vti.creation(), fault);
    match connection.change(
        request(ObjectAction::Install, &object, None),
        flags(ObjectAction::Install, &object),
    ) {
        Ok(()) => {}
        // An interface exists with its name, or with its endpoints. In the second case it has
        // another name, and this one is missing.
        Err(NetlinkFault::Refused(Errno::EEXIST)) => {
            return match links::find_link(connection, Which::Name(&vti.interface)).map_err(failed)? {
                Some(link) if is_vti(&link) => Ok(InstallResult::Existed),
                // Routes into it would lead out of the tunnel.
                Some(_) => Err(failed(NetlinkFault::NoVti(vti.interface.clone()))),
                None => Err(failed(NetlinkFault::Refused(Errno::EEXIST))),
            };
        }
        Err(fault) => return Err(failed(fault)),
    }
    let Some(link) = links::find_link(connection, Which::Name(&vti.interface)).map_err(failed)? else {
        return Err(failed(NetlinkFault::NoDevice(vti.interface.clone())));
    };
    if let Err(error) = configure_vti(connection, vti, &link) {
        // What went wrong first is what is said.
        let _ = connection.change(request(ObjectAction::Delete, &object, Some(link.index)), 0);
        return Err(error);
    }
    Ok(InstallResult::New)
}

fn is_vti(link: &Link) -> bool {
    match link.kind {
        LinkKind::Vti(_) | LinkKind::Vti6 => true,
        LinkKind::Xfrm | LinkKind::Unnamed | LinkKind::Other => false,
    }
}

/// Configures a new interface.
fn configure_vti(connection: &mut NetlinkSocket, vti: &VtiInterface, link: &Link) -> Result<(), NetlinkError> {
    for (name, value) in VTI_VARIABLES {
        set_sysctl(&vti.interface, name, value)
            .map_err(|fault| failed_step(variable_command(&vti.interface, name, value), fault))?;
    }
    if let Some(address) = vti.own_address() {
        let object = NetObject::Address(address);
        kernel::install_object(connection, &object).map_err(|fault| NetlinkError::not_installed(&object, fault))?;
    }
    let up = connection.change(activation(link.index), 0);
    up.map_err(|fault| failed_step(vti.activation(), fault))
}

/// Sets a kernel variable of an interface in the network namespace of this thread.
fn set_sysctl(interface: &Interface, name: &str, value: &str) -> Result<(), NetlinkFault> {
    Ok(fs::write(format!("/proc/sys/net/ipv4/conf/{interface}/{name}"), value)?)
}

fn failed_step(command: String, fault: NetlinkFault) -> NetlinkError {
    NetlinkError {
        doing: NetlinkAction::Install(command),
        fault,
    }
}

/// Whether an interface may be removed with an object: a VTI only if it has these endpoints; other
/// objects leave their interface.
pub(super) fn may_go(object: &NetObject, link: &Link) -> bool {
    let NetObject::VtiInterface(vti) = object else {
        return true;
    };
    match link.kind {
        LinkKind::Vti(ends) => ends == vti.ends(),
        LinkKind::Vti6 | LinkKind::Xfrm | LinkKind::Unnamed | LinkKind::Other => false,
    }
}
