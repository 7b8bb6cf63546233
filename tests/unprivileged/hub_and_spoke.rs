//! From one tunnel into another: both must allow it, whatever kinds of tunnel they are.

use crate::support::binary::Call;
use crate::support::packet::{Packet, Verdict, trace};
use crate::support::tunnel_kind::TunnelKind;
use crate::support::world::{World, libreswan, strongswan};
use pluto_updown::daemon::Tunnel;
use pluto_updown::net::Family;
use pluto_updown::netlink::XfrmInterface;

const WEST: &str = "10.2.0.0/24";
const EAST: &str = "10.3.0.0/24";

/// Only TCP to port 80 behind the remote end.
fn narrowed(up: Call) -> Call {
    up.for_protocol("6").with("PLUTO_PEER_PORT", "80")
}

/// The verdict on a packet from the west spoke (reqid 16389) to port 80 in the east one (reqid 16393).
fn verdict(kinds: (TunnelKind, TunnelKind), tunnels: &[Tunnel]) -> Verdict {
    let mut world = World::default();
    for tunnel in tunnels {
        world.up(tunnel);
    }
    let packet = Packet::between("10.2.0.7", "10.3.0.7").udp(40000, 80);
    let packet = kinds.1.leaves(kinds.0.comes(packet, 16389), 16393);
    world.verdict(Family::Ipv4, &packet)
}

fn pairs() -> impl Iterator<Item = (TunnelKind, TunnelKind)> {
    TunnelKind::ALL
        .into_iter()
        .flat_map(|first| TunnelKind::ALL.map(|second| (first, second)))
}

fn west(kind: TunnelKind) -> Call {
    kind.up("west", 16389, EAST, WEST)
}

fn east(kind: TunnelKind) -> Call {
    kind.up("east", 16393, WEST, EAST)
}

#[test]
fn a_packet_passes_from_spoke_to_spoke_when_both_tunnels_allow_it() {
    for kinds in pairs() {
        let tunnels = [west(kinds.0).tunnel(), east(kinds.1).tunnel()];
        assert_eq!(verdict(kinds, &tunnels), Verdict::Accept, "{kinds:?}");
    }
}

#[test]
fn the_first_tunnel_alone_does_not_let_it_into_the_second() {
    for kinds in pairs() {
        let tunnels = [west(kinds.0).tunnel(), narrowed(east(kinds.1)).tunnel()];
        assert_eq!(verdict(kinds, &tunnels), Verdict::Policy, "{kinds:?}");
    }
}

#[test]
fn the_second_tunnel_alone_does_not_let_it_out_of_the_first() {
    for kinds in pairs() {
        let tunnels = [narrowed(west(kinds.0)).tunnel(), east(kinds.1).tunnel()];
        assert_eq!(verdict(kinds, &tunnels), Verdict::Policy, "{kinds:?}");
    }
}

#[test]
fn a_tunnel_that_is_not_up_accepts_nothing_in_either_direction() {
    for kinds in pairs() {
        // Another tunnel of the same kind keeps the chains for interfaces standing.
        let other = |kind: TunnelKind, reqid| kind.up("other", reqid, "10.8.0.0/24", "10.9.0.0/24").tunnel();
        let without_west = [east(kinds.1).tunnel(), other(kinds.0, 16401)];
        // An interface that is none of ours is as good as unencrypted: what comes by it and goes into a tunnel is the tunnel's to allow.
        let expected = if kinds.0 == TunnelKind::Vti {
            Verdict::Accept
        } else {
            Verdict::Policy
        };
        assert_eq!(verdict(kinds, &without_west), expected, "{kinds:?}");
        // But one that is named like a tunnel's interface and is none of ours may lead into somebody else's tunnel: what comes out of a tunnel
        // of ours does not pass there for that tunnel's sake alone.
        let without_east = [west(kinds.0).tunnel(), other(kinds.1, 16401)];
        assert_eq!(verdict(kinds, &without_east), Verdict::Policy, "{kinds:?}");
    }
}

#[test]
fn both_tunnels_are_asked_under_strongswan_too() {
    let up = |name, reqid, local, remote| strongswan(name, reqid, local, remote).tunnel();
    let both = [up("west", 16389, EAST, WEST), up("east", 16393, WEST, EAST)];
    assert_eq!(
        verdict((TunnelKind::Policy, TunnelKind::Policy), &both),
        Verdict::Accept
    );
    assert_eq!(
        verdict((TunnelKind::Policy, TunnelKind::Policy), &both[..1]),
        Verdict::Policy
    );
    assert_eq!(
        verdict((TunnelKind::Policy, TunnelKind::Policy), &both[1..]),
        Verdict::Policy
    );
}

#[test]
fn an_interface_named_like_a_tunnels_hides_no_tunnel_from_the_question() {
    // The administrator calls a VTI interface eth7, so that the class of tunnel interfaces covers eth0 as well.
    let odd = libreswan("odd", 16401, "10.8.0.0/24", "10.9.0.0/24").with("VTI_IFACE", "eth7");
    let tunnels = [
        odd.tunnel(),
        west(TunnelKind::Policy).tunnel(),
        narrowed(east(TunnelKind::Policy)).tunnel(),
    ];
    assert_eq!(
        verdict((TunnelKind::Policy, TunnelKind::Policy), &tunnels),
        Verdict::Policy
    );
    let tunnels = [
        odd.tunnel(),
        narrowed(west(TunnelKind::Policy)).tunnel(),
        east(TunnelKind::Policy).tunnel(),
    ];
    assert_eq!(
        verdict((TunnelKind::Policy, TunnelKind::Policy), &tunnels),
        Verdict::Policy
    );
    let tunnels = [
        odd.tunnel(),
        west(TunnelKind::Policy).tunnel(),
        east(TunnelKind::Policy).tunnel(),
    ];
    assert_eq!(
        verdict((TunnelKind::Policy, TunnelKind::Policy), &tunnels),
        Verdict::Accept
    );
}

#[test]
fn strongswans_if_id_is_matched_on_the_interface_that_has_it() {
    let up = strongswan("ifid", 1, "10.1.0.0/24", "10.2.0.0/24");
    let up = up.with("PLUTO_IF_ID_IN", "7").with("PLUTO_IF_ID_OUT", "8");
    let interface = |name: &str, if_id| XfrmInterface {
        interface: name.parse().expect("a device"),
        if_id,
    };
    let mut world = World {
        interfaces: vec![interface("xfrm7", 7), interface("xfrm8", 8)],
        ..World::default()
    };
    world.up(&up.tunnel());
    let emulator = world.emulator(Family::Ipv4);
    let out = || Packet::between("10.1.0.9", "10.2.0.7").tcp(1, 2).in_by("lan0");
    let back = || Packet::between("10.2.0.7", "10.1.0.9").tcp(2, 1).out_by("lan0");
    assert_eq!(trace(emulator, &out().out_by("xfrm8")).verdict, Verdict::Accept);
    assert_eq!(trace(emulator, &out().out_by("xfrm7")).verdict, Verdict::Policy);
    assert_eq!(trace(emulator, &out().out_by("eth0")).verdict, Verdict::Policy);
    assert_eq!(
        trace(emulator, &back().in_by_ipsec("xfrm7", 1)).verdict,
        Verdict::Accept
    );
    assert_eq!(
        trace(emulator, &back().in_by_ipsec("xfrm7", 2)).verdict,
        Verdict::Policy
    );
    assert_eq!(trace(emulator, &back().in_by("xfrm7")).verdict, Verdict::Policy);
    world.down(&up.tunnel());
    assert!(world.is_forgotten());
}
