//! The kinds of tunnels: how each comes up, and how its packets come and leave.

#![allow(dead_code, reason = "each test binary uses its part of this module")]

use super::binary::Call;
use super::packet::Packet;
use super::world::libreswan;

/// A kind of tunnel, as the gateway sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TunnelKind {
    Policy,
    Vti,
    Xfrmi,
}

impl TunnelKind {
    pub const ALL: [Self; 3] = [Self::Policy, Self::Vti, Self::Xfrmi];

    /// The `up` of such a tunnel between two networks, with an interface of its own where it has any.
    pub fn up(self, name: &str, reqid: u32, local: &str, remote: &str) -> Call {
        let up = libreswan(name, reqid, local, remote);
        match self {
            Self::Policy => up,
            Self::Vti => up.with("VTI_IFACE", format!("vti{reqid}")),
            Self::Xfrmi => up
                .with("PLUTO_VIRT_INTERFACE", format!("ipsec{reqid}"))
                .with("PLUTO_XFRMI_ROUTE", "yes"),
        }
    }

    /// A packet that has come out of it.
    pub fn comes(self, packet: Packet, reqid: u32) -> Packet {
        match self {
            Self::Policy => packet.in_by_ipsec("eth0", reqid),
            Self::Vti => packet.in_by(&format!("vti{reqid}")),
            Self::Xfrmi => packet.in_by_ipsec(&format!("ipsec{reqid}"), reqid),
        }
    }

    /// A packet that goes into it. No policy applies before an interface has the packet.
    pub fn leaves(self, packet: Packet, reqid: u32) -> Packet {
        match self {
            Self::Policy => packet.out_by_ipsec("eth0", reqid),
            Self::Vti => packet.out_by(&format!("vti{reqid}")),
            Self::Xfrmi => packet.out_by(&format!("ipsec{reqid}")),
        }
    }
}
