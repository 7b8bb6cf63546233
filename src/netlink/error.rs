//! Errors of netlink requests.

use std::io;
use std::net::IpAddr;

use ipnet::IpNet;
use netlink_packet_core::DecodeError;
use nix::errno::Errno;

use super::net_objects::NetObject;
use crate::net::Interface;

/// What the kernel did not do, and why; one line.
#[derive(Debug, thiserror::Error)]
#[error("cannot {doing}: {fault}")]
pub struct NetlinkError {
    /// What was being done.
    pub doing: NetlinkAction,
    /// Why it was not.
    pub fault: NetlinkFault,
}

impl NetlinkError {
    /// An object could not be installed.
    #[must_use]
    pub fn not_installed(object: &NetObject, fault: NetlinkFault) -> Self {
        let command = object.install_commands().into_iter().next().unwrap_or_default();
        Self {
            doing: NetlinkAction::Install(command),
            fault,
        }
    }

    /// An object could not be removed.
    #[must_use]
    pub fn not_deleted(object: &NetObject, fault: NetlinkFault) -> Self {
        Self {
            doing: NetlinkAction::Delete(object.delete_command()),
            fault,
        }
    }
}

/// What was being done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NetlinkAction {
    /// Something was to be installed, as this command line does.
    #[error("install {0:?}")]
    Install(String),
    /// Another program's route was to be restored.
    #[error("restore the previous route to {0}")]
    PutBack(IpNet),
    /// Something was to be deleted, as this command line does.
    #[error("delete {0:?}")]
    Delete(String),
    /// The route to an address was requested.
    #[error("look up the route to {0}")]
    Lookup(IpAddr),
    /// An interface was requested.
    #[error("look up the interface {0}")]
    Link(Interface),
    /// Routes were requested.
    #[error("list the routes")]
    ListRoutes,
    /// Interfaces were requested.
    #[error("list the interfaces")]
    ListLinks,
    /// Policy rules were requested.
    #[error("list the policy rules")]
    ListRules,
    /// Addresses were requested.
    #[error("list the addresses")]
    ListAddresses,
    /// IPsec policies were requested.
    #[error("list the IPsec policies")]
    ListPolicies,
    /// The SAs were requested.
    #[error("list the IPsec SAs")]
    ListSas,
    /// A netlink socket was to be opened.
    #[error("open a netlink socket")]
    Open,
}

/// Why something was not done.
#[derive(Debug, thiserror::Error)]
pub enum NetlinkFault {
    /// The kernel refused it. By number: the texts that go with it are not the same in all kernels.
    #[error("{}", errno_text(*.0))]
    Refused(Errno),
    /// There is no such interface.
    #[error("there is no interface {0}")]
    NoDevice(Interface),
    /// There is such an interface, but it is no VTI: packets leave by it unencrypted.
    #[error("the interface {0} is no VTI")]
    NoVti(Interface),
    /// The kernel did not answer within two seconds.
    #[error("the kernel does not answer")]
    Silent,
    /// What the kernel listed changed meanwhile, so that something may be missing in the list.
    #[error("it changed while it was listed")]
    Interrupted,
    /// The kernel answered what cannot be read.
    #[error("the kernel's answer cannot be read: {0}")]
    Malformed(DecodeError),
}

/// An error as `ip` and every other program says it: `Errno::desc` has words of its own.
fn errno_text(errno: Errno) -> String {
    let text = io::Error::from(errno).to_string();
    text.split(" (os error").next().unwrap_or_default().to_owned()
}

impl From<DecodeError> for NetlinkFault {
    fn from(error: DecodeError) -> Self {
        Self::Malformed(error)
    }
}

impl From<Errno> for NetlinkFault {
    fn from(errno: Errno) -> Self {
        Self::Refused(errno)
    }
}

impl From<io::Error> for NetlinkFault {
    fn from(error: io::Error) -> Self {
        Self::Refused(error.raw_os_error().map_or(Errno::UnknownErrno, Errno::from_raw))
    }
}
