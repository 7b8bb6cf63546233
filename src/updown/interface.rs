//! Whether the interface that matches a tunnel's packets carries only IPsec.

use super::event::Event;
use log::warn;

use super::HookError;
use crate::apply::ApplyError;
use crate::daemon::{SaMatch, Tunnel};
use crate::firewall::PolicyError;
use crate::net::Interface;
use crate::netlink::{Kernel, LinkKind, NetConfig};
use crate::routing::{RoutedBy, RoutingError, VtiSettings};

/// Refuses a tunnel whose interface is an ordinary one: a rule that accepts what comes in by `eth0`
/// accepts unencrypted packets.
///
/// The daemon only passes on a name of its configuration (`vti-interface=`, `ipsec-interface=`), so
/// that the kernel is asked. An interface that does not exist yet is accepted, because libreswan
/// 4.x calls `up` before the VTI is made: its rules match no packet until then.
///
/// # Errors
/// If the interface is an ordinary one, or the kernel cannot be asked.
pub(super) fn check(event: &Event, tunnel: &Tunnel) -> Result<(), HookError> {
    let SaMatch::Interface(interface) = &tunnel.sa_match else {
        return Ok(());
    };
    let kernel = Kernel::open().and_then(|mut kernel| kernel.link(interface));
    match kernel.map_err(RoutingError::from)?.map(|link| link.kind) {
        Some(kind) if !is_ipsecs(interface, kind) => Err(HookError::Apply(ApplyError::Policy {
            connection: tunnel.connection.clone(),
            fault: PolicyError::UnencryptedInterface {
                interface: interface.clone(),
            },
        })),
        None if !is_made(event) => {
            warn!(
                "{}: interface {interface} does not exist yet: its rules match no packet until it does",
                tunnel.connection
            );
            Ok(())
        }
        Some(_) | None => Ok(()),
    }
}

/// Whether an interface carries only packets that IPsec protects. KLIPS names no kind; its
/// interfaces have fixed names.
fn is_ipsecs(interface: &Interface, kind: LinkKind) -> bool {
    match kind {
        LinkKind::Vti(_) | LinkKind::Vti6 | LinkKind::Xfrm => true,
        LinkKind::Unnamed => ["ipsec", "mast"].iter().any(|stem| {
            let number = interface.as_str().strip_prefix(stem);
            number.is_some_and(|number| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()))
        }),
        LinkKind::Other => false,
    }
}

/// Whether this call makes the interface itself.
fn is_made(event: &Event) -> bool {
    let routing = event.routing.as_ref();
    routing.is_some_and(|routing| matches!(&routing.by, RoutedBy::Vti(VtiSettings { marks: Some(_), .. })))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_interfaces_of_ipsec_carry_nothing_else() {
        for (name, kind, expected) in [
            ("vti6-1", LinkKind::Vti6, true),
            ("ipsec1", LinkKind::Xfrm, true),
            ("ipsec0", LinkKind::Unnamed, true),
            ("mast0", LinkKind::Unnamed, true),
            ("ipsec0", LinkKind::Other, false),
            ("ipsec", LinkKind::Unnamed, false),
            ("eth0", LinkKind::Unnamed, false),
            ("vti0", LinkKind::Other, false),
        ] {
            assert_eq!(is_ipsecs(&name.parse().unwrap(), kind), expected, "{name} {kind:?}");
        }
    }
}
