//! From one tunnel into another: both must allow it, whatever kinds of tunnel they are.

use crate::support::packet::{Packet, Verdict, trace};
use crate::support::world::{World, libreswan, strongswan, tunnel, with};
use pluto_updown::rtnetlink::XfrmInterface;
use pluto_updown::selector::Family;
use pluto_updown::updown_env::Tunnel;

const WEST: &str = "10.2.0.0/24";
const EAST: &str = "10.3.0.0/24";

/// A kind of tunnel, as the hub sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Policy,
    Vti,
    Xfrmi,
}

const KINDS: [Kind; 3] = [Kind::Policy, Kind::Vti, Kind::Xfrmi];

/// The hub's tunnel to one spoke: the other spoke's network is what is behind the hub.
fn spoke(kind: Kind, name: &str, reqid: u32, local: &str, remote: &str) -> String {
    let variables = libreswan("up-client", name, reqid, local, remote);
    match kind {
        Kind::Policy => variables,
        Kind::Vti => with(&variables, "VTI_IFACE", &format!("vti{reqid}")),
        Kind::Xfrmi => with(
            &with(&variables, "PLUTO_VIRT_INTERFACE", &format!("ipsec{reqid}")),
            "PLUTO_XFRMI_ROUTE",
            "yes",
        ),
    }
}

/// Only TCP to port 80 behind the remote end.
fn narrowed(variables: &str) -> String {
    [
        ("PLUTO_MY_PROTOCOL", "6"),
        ("PLUTO_PEER_PROTOCOL", "6"),
        ("PLUTO_PEER_PORT", "80"),
    ]
    .iter()
    .fold(variables.to_owned(), |variables, (name, value)| {
        with(&variables, name, value)
    })
}

fn comes_by(packet: Packet, kind: Kind, reqid: u32) -> Packet {
    match kind {
        Kind::Policy => packet.in_by_ipsec("eth0", reqid),
        Kind::Vti => packet.in_by(&format!("vti{reqid}")),
        Kind::Xfrmi => packet.in_by_ipsec(&format!("ipsec{reqid}"), reqid),
    }
}

fn leaves_by(packet: Packet, kind: Kind, reqid: u32) -> Packet {
    match kind {
        Kind::Policy => packet.out_by_ipsec("eth0", reqid),
        // No policy applies before the interface has the packet.
        Kind::Vti => packet.out_by(&format!("vti{reqid}")),
        Kind::Xfrmi => packet.out_by(&format!("ipsec{reqid}")),
    }
}

/// The verdict on a packet from the west spoke (reqid 16389) to port 80 in the east one (reqid 16393).
fn verdict(kinds: (Kind, Kind), tunnels: &[Tunnel]) -> Verdict {
    let mut world = World::default();
    for tunnel in tunnels {
        world.up(tunnel);
    }
    let packet = Packet::between("10.2.0.7", "10.3.0.7").udp(40000, 80);
    let packet = leaves_by(comes_by(packet, kinds.0, 16389), kinds.1, 16393);
    trace(world.tables.emulator(Family::Ipv4), &packet).verdict
}

fn pairs() -> impl Iterator<Item = (Kind, Kind)> {
    KINDS.into_iter().flat_map(|first| KINDS.map(|second| (first, second)))
}

fn west(kind: Kind) -> String {
    spoke(kind, "west", 16389, EAST, WEST)
}

fn east(kind: Kind) -> String {
    spoke(kind, "east", 16393, WEST, EAST)
}

#[test]
fn a_packet_passes_from_spoke_to_spoke_when_both_tunnels_allow_it() {
    for kinds in pairs() {
        let tunnels = [tunnel(&west(kinds.0)), tunnel(&east(kinds.1))];
        assert_eq!(verdict(kinds, &tunnels), Verdict::Accept, "{kinds:?}");
    }
}

#[test]
fn the_first_tunnel_alone_does_not_let_it_into_the_second() {
    for kinds in pairs() {
        let tunnels = [tunnel(&west(kinds.0)), tunnel(&narrowed(&east(kinds.1)))];
        assert_eq!(verdict(kinds, &tunnels), Verdict::Policy, "{kinds:?}");
    }
}

#[test]
fn the_second_tunnel_alone_does_not_let_it_out_of_the_first() {
    for kinds in pairs() {
        let tunnels = [tunnel(&narrowed(&west(kinds.0))), tunnel(&east(kinds.1))];
        assert_eq!(verdict(kinds, &tunnels), Verdict::Policy, "{kinds:?}");
    }
}

#[test]
fn a_tunnel_that_is_not_up_lets_nothing_in_and_nothing_out() {
    for kinds in pairs() {
        // Another tunnel of the same kind keeps the chains for interfaces standing.
        let other = |kind, reqid| tunnel(&spoke(kind, "other", reqid, "10.8.0.0/24", "10.9.0.0/24"));
        let without_west = [tunnel(&east(kinds.1)), other(kinds.0, 16401)];
        // An interface that is none of ours is as good as unencrypted: what comes by it and goes into a tunnel is the tunnel's to allow.
        let expected = if kinds.0 == Kind::Vti {
            Verdict::Accept
        } else {
            Verdict::Policy
        };
        assert_eq!(verdict(kinds, &without_west), expected, "{kinds:?}");
        // But one that is named like a tunnel's interface and is none of ours may lead into somebody else's tunnel: what comes out of a tunnel
        // of ours does not pass there for that tunnel's sake alone.
        let without_east = [tunnel(&west(kinds.0)), other(kinds.1, 16401)];
        assert_eq!(verdict(kinds, &without_east), Verdict::Policy, "{kinds:?}");
    }
}

#[test]
fn both_tunnels_are_asked_under_strongswan_too() {
    let up = |name, reqid, local, remote| tunnel(&strongswan("up-client", name, reqid, local, remote));
    let both = [up("west", 16389, EAST, WEST), up("east", 16393, WEST, EAST)];
    assert_eq!(verdict((Kind::Policy, Kind::Policy), &both), Verdict::Accept);
    assert_eq!(verdict((Kind::Policy, Kind::Policy), &both[..1]), Verdict::Policy);
    assert_eq!(verdict((Kind::Policy, Kind::Policy), &both[1..]), Verdict::Policy);
}

#[test]
fn a_device_named_like_a_tunnels_hides_no_tunnel_from_the_question() {
    // The administrator calls a VTI interface eth7, so that the class of tunnel interfaces covers eth0 as well.
    let odd = with(
        &libreswan("up-client", "odd", 16401, "10.8.0.0/24", "10.9.0.0/24"),
        "VTI_IFACE",
        "eth7",
    );
    let tunnels = [
        tunnel(&odd),
        tunnel(&west(Kind::Policy)),
        tunnel(&narrowed(&east(Kind::Policy))),
    ];
    assert_eq!(verdict((Kind::Policy, Kind::Policy), &tunnels), Verdict::Policy);
    let tunnels = [
        tunnel(&odd),
        tunnel(&narrowed(&west(Kind::Policy))),
        tunnel(&east(Kind::Policy)),
    ];
    assert_eq!(verdict((Kind::Policy, Kind::Policy), &tunnels), Verdict::Policy);
    let tunnels = [tunnel(&odd), tunnel(&west(Kind::Policy)), tunnel(&east(Kind::Policy))];
    assert_eq!(verdict((Kind::Policy, Kind::Policy), &tunnels), Verdict::Accept);
}

#[test]
fn strongswans_if_id_is_matched_on_the_interface_that_has_it() {
    let up = strongswan("up-client", "ifid", 1, "10.1.0.0/24", "10.2.0.0/24");
    let up = with(&with(&up, "PLUTO_IF_ID_IN", "7"), "PLUTO_IF_ID_OUT", "8");
    let interface = |name: &str, if_id| XfrmInterface {
        interface: name.parse().expect("a device"),
        if_id,
    };
    let mut world = World {
        interfaces: vec![interface("xfrm7", 7), interface("xfrm8", 8)],
        ..World::default()
    };
    world.up(&tunnel(&up));
    let emulator = world.tables.emulator(Family::Ipv4);
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
    world.down(&tunnel(&with(&up, "PLUTO_VERB", "down-client")));
    assert!(world.is_forgotten());
}
