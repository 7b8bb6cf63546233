//! Tunnels of libreswan with client address translation (`leftcat=yes`) or a log group (`nflog=`), asked about sample packets.

use crate::support::binary::Call;
use crate::support::emulator::{Emulator, Kind};
use crate::support::packet::{Packet, Verdict, after_routing, before_routing, trace};
use crate::support::world::{World, libreswan};
use pluto_updown::firewall::TunnelKey;
use pluto_updown::net::Family;

const NUMBER: u32 = 16701;

/// The addresses of a gateway behind a NAT, in one family.
#[derive(Debug, Clone, Copy)]
struct Place {
    family: Family,
    /// Our own address.
    own: &'static str,
    /// Another one of ours.
    other: &'static str,
    /// What the peer gave us.
    assigned: &'static str,
    /// The network behind the peer.
    remote: &'static str,
    /// A machine in it.
    there: &'static str,
    /// A machine elsewhere.
    stranger: &'static str,
}

const PLACES: [Place; 2] = [
    Place {
        family: Family::Ipv4,
        own: "192.0.2.1",
        other: "192.0.2.99",
        assigned: "10.0.10.1",
        remote: "10.2.0.0/24",
        there: "10.2.0.7",
        stranger: "10.3.0.7",
    },
    Place {
        family: Family::Ipv6,
        own: "2001:db8::1",
        other: "2001:db8::99",
        assigned: "2001:db8:a::1",
        remote: "2001:db8:2::/64",
        there: "2001:db8:2::7",
        stranger: "2001:db8:3::7",
    },
];

impl Place {
    fn up(self) -> Call {
        let bits = if self.family == Family::Ipv4 { 32 } else { 128 };
        let assigned = format!("{}/{bits}", self.assigned);
        libreswan("cat", NUMBER, &assigned, self.remote)
            .with("PLUTO_ME", self.own)
            .with("CAT", "YES")
    }

    fn gateway(self, up: &Call) -> Emulator {
        let mut world = World::default();
        world.up(&up.tunnel());
        world.emulator(self.family).clone()
    }
}

/// Whether the gateway lets a connection out, and by which source the peer gets to know it.
fn leaves(tables: &Emulator, packet: &Packet) -> (Verdict, String) {
    (
        trace(tables, packet).verdict,
        after_routing(tables, packet).source.to_string(),
    )
}

/// Whether the gateway lets a connection in, and where to.
fn arrives(tables: &Emulator, packet: &Packet) -> (Verdict, String) {
    let inside = before_routing(tables, packet);
    (trace(tables, &inside).verdict, inside.destination.to_string())
}

fn from_here(source: &str, destination: &str) -> Packet {
    Packet::between(source, destination).tcp(40000, 80).made_here()
}

fn to_here(source: &str, destination: &str) -> Packet {
    Packet::between(source, destination).tcp(40000, 22).for_gateway()
}

#[test]
fn what_leaves_by_the_tunnel_leaves_with_the_address_that_the_peer_gave() {
    for place in PLACES {
        let tables = place.gateway(&place.up());
        let of = |packet: Packet| leaves(&tables, &packet);
        let own = from_here(place.own, place.there);
        assert_eq!(
            of(own.clone().out_by_ipsec("w0", NUMBER)),
            (Verdict::Accept, place.assigned.into())
        );
        // Unencrypted, by another tunnel, to another network.
        let untouched = (Verdict::Policy, place.own.to_owned());
        assert_eq!(of(own.clone().out_by("w0")), untouched);
        assert_eq!(of(own.out_by_ipsec("w0", NUMBER + 4)), untouched);
        let elsewhere = from_here(place.own, place.stranger);
        assert_eq!(of(elsewhere.out_by_ipsec("w0", NUMBER)), untouched);
        // libreswan has no policy for other sources; if one matched, it would be somebody else's.
        let other = from_here(place.other, place.there);
        assert_eq!(
            of(other.out_by_ipsec("w0", NUMBER)),
            (Verdict::Policy, place.other.into())
        );
    }
}

#[test]
fn what_comes_to_that_address_by_the_tunnel_comes_to_our_own() {
    for place in PLACES {
        let tables = place.gateway(&place.up());
        let of = |packet: Packet| arrives(&tables, &packet);
        let packet = to_here(place.there, place.assigned);
        assert_eq!(
            of(packet.clone().in_by_ipsec("w0", NUMBER)),
            (Verdict::Accept, place.own.into())
        );
        // Unencrypted, by another tunnel, from another network.
        let untouched = (Verdict::Policy, place.assigned.to_owned());
        assert_eq!(of(packet.clone().in_by("w0")), untouched);
        assert_eq!(of(packet.in_by_ipsec("w0", NUMBER + 4)), untouched);
        let elsewhere = to_here(place.stranger, place.assigned);
        assert_eq!(of(elsewhere.in_by_ipsec("w0", NUMBER)), untouched);
        let other = to_here(place.there, place.other);
        assert_eq!(
            of(other.in_by_ipsec("w0", NUMBER)),
            (Verdict::Policy, place.other.into())
        );
    }
}

#[test]
fn nothing_passes_through_a_gateway_that_has_one_address_inside() {
    for place in PLACES {
        let tables = place.gateway(&place.up());
        let out = Packet::between(place.other, place.there).in_by("lan0");
        assert_eq!(trace(&tables, &out.out_by_ipsec("w0", NUMBER)).verdict, Verdict::Policy);
        let into = Packet::between(place.there, place.assigned).in_by_ipsec("w0", NUMBER);
        assert_eq!(trace(&tables, &into.out_by("lan0")).verdict, Verdict::Policy);
    }
}

#[test]
fn a_narrowed_tunnel_translates_what_it_allows() {
    for place in PLACES {
        let tables = place.gateway(&place.up().for_protocol("6").with("PLUTO_PEER_PORT", "80"));
        let of = |port| {
            let packet = Packet::between(place.own, place.there).tcp(40000, port).made_here();
            leaves(&tables, &packet.out_by_ipsec("w0", NUMBER))
        };
        assert_eq!(of(80), (Verdict::Accept, place.assigned.into()));
        assert_eq!(of(81), (Verdict::Policy, place.own.into()));
    }
}

#[test]
fn a_translated_tunnel_with_an_interface_is_known_by_that() {
    for place in PLACES {
        let tables = place.gateway(&place.up().with("VTI_IFACE", "vti1"));
        let own = from_here(place.own, place.there);
        assert_eq!(
            leaves(&tables, &own.clone().out_by("vti1")),
            (Verdict::Accept, place.assigned.into())
        );
        assert_eq!(
            leaves(&tables, &own.out_by("vti2")),
            (Verdict::Policy, place.own.into())
        );
        let packet = to_here(place.there, place.assigned);
        assert_eq!(
            arrives(&tables, &packet.clone().in_by("vti1")),
            (Verdict::Accept, place.own.into())
        );
        assert_eq!(
            arrives(&tables, &packet.in_by("vti2")),
            (Verdict::Policy, place.assigned.into())
        );
    }
}

#[test]
fn a_translation_comes_before_the_administrators_own() {
    let place = PLACES[0];
    let mut world = World::default();
    let admin_rules = "*nat\n-A POSTROUTING -o w0 -j SNAT --to-source 192.0.2.99\nCOMMIT\n";
    assert_eq!(world.emulator(place.family).restore(admin_rules), Ok(()));
    world.up(&place.up().tunnel());
    let packet = from_here(place.own, place.there);
    let by_tunnel = packet.clone().out_by_ipsec("w0", NUMBER);
    let tables = world.emulator(place.family);
    assert_eq!(leaves(tables, &by_tunnel).1, place.assigned);
    assert_eq!(leaves(tables, &packet.out_by("w0")).1, "192.0.2.99");
}

#[test]
fn a_tunnel_that_translates_nothing_leaves_the_nat_table_alone() {
    let place = PLACES[0];
    for up in [place.up().with("CAT", ""), place.up().with("NFLOG", "13")] {
        let is_translated = up.get("CAT") == "YES";
        let tables = place.gateway(&up);
        let untouched = tables.table(Kind::Nat).save() == Emulator::new().table(Kind::Nat).save();
        assert_eq!(untouched, !is_translated);
    }
}

/// A tunnel between two networks that is logged.
fn logged(connection: &str, number: u32, remote: &str) -> Call {
    libreswan(connection, number, "10.1.0.0/24", remote).with("NFLOG", "13")
}

/// How many copies a log gets of a packet, and what happens to it.
fn copies(tables: &Emulator, packet: &Packet) -> (usize, Verdict) {
    let trace = trace(tables, packet);
    (trace.copies(), trace.verdict)
}

#[test]
fn a_log_group_has_all_packets_of_the_tunnel_and_changes_nothing_else() {
    let mut world = World::default();
    world.up(&logged("net", 16389, "10.2.0.0/24").tunnel());
    let tables = world.emulator(Family::Ipv4);
    let from_peer = Packet::between("10.2.0.7", "10.1.0.9");
    let to_peer = Packet::between("10.1.0.9", "10.2.0.7");
    let into = from_peer.clone().in_by_ipsec("w0", 16389);
    let out = to_peer.clone().out_by_ipsec("w0", 16389);
    assert_eq!(copies(tables, &into.clone().out_by("lan0")), (1, Verdict::Accept));
    assert_eq!(copies(tables, &out.clone().in_by("lan0")), (1, Verdict::Accept));
    // To and from the gateway nothing is open; the script logs there.
    assert_eq!(copies(tables, &into.for_gateway()), (1, Verdict::Policy));
    assert_eq!(copies(tables, &out.made_here()), (1, Verdict::Policy));
    // Nobody else's packets.
    let stranger = from_peer.clone().in_by_ipsec("w0", 16393);
    assert_eq!(copies(tables, &stranger.out_by("lan0")), (0, Verdict::Policy));
    assert_eq!(
        copies(tables, &from_peer.in_by("w0").out_by("lan0")),
        (0, Verdict::Policy)
    );
    assert_eq!(copies(tables, &to_peer.made_here().out_by("w0")), (0, Verdict::Policy));
}

#[test]
fn what_is_not_allowed_is_logged_too() {
    let narrowed = logged("net", 16389, "10.2.0.0/24").for_protocol("6");
    let mut world = World::default();
    world.up(&narrowed.tunnel());
    let into = Packet::between("10.2.0.7", "10.1.0.9")
        .udp(1, 2)
        .in_by_ipsec("w0", 16389);
    assert_eq!(
        copies(world.emulator(Family::Ipv4), &into.out_by("lan0")),
        (1, Verdict::Policy)
    );
}

#[test]
fn a_packet_through_two_tunnels_is_logged_by_each_that_has_a_log_group() {
    let mut world = World::default();
    world.up(&logged("a", 16389, "10.2.0.0/24")
        .with("PLUTO_MY_CLIENT", "10.0.0.0/8")
        .tunnel());
    world.up(&logged("b", 16393, "10.3.0.0/24")
        .with("PLUTO_MY_CLIENT", "10.0.0.0/8")
        .tunnel());
    let packet = Packet::between("10.2.0.7", "10.3.0.7")
        .in_by_ipsec("w0", 16389)
        .out_by_ipsec("w0", 16393);
    assert_eq!(copies(world.emulator(Family::Ipv4), &packet), (2, Verdict::Accept));
}

#[test]
fn a_translated_tunnel_is_logged_with_our_own_address() {
    for place in PLACES {
        let tables = place.gateway(&place.up().with("NFLOG", "13"));
        let out = from_here(place.own, place.there).out_by_ipsec("w0", NUMBER);
        let into = before_routing(&tables, &to_here(place.there, place.assigned).in_by_ipsec("w0", NUMBER));
        assert_eq!(copies(&tables, &out), (1, Verdict::Accept));
        assert_eq!(copies(&tables, &into), (1, Verdict::Accept));
    }
}

#[test]
fn the_mark_on_a_copy_is_the_connections_name_as_far_as_there_is_room() {
    for (name, mark) in [
        (
            "private-or-clear#192.1.2.0/24",
            "private-or-clear#192.1.2.0/24".to_owned(),
        ),
        ("a\"b\\c$d", "a_b_c_d".to_owned()),
        (&"n".repeat(200), "n".repeat(63)),
    ] {
        let mut world = World::default();
        let tunnel = logged(name, 16389, "10.2.0.0/24").tunnel();
        world.up(&tunnel);
        let id = TunnelKey::from_tunnel(&tunnel).ids().next().expect("a name");
        let rules = world.emulator(Family::Ipv4).rules(&format!("PLUTO-{id}-I")).to_vec();
        let plain = |text: &str| text.replace('"', "");
        assert_eq!(
            rules.iter().map(|rule| plain(rule)).collect::<Vec<_>>(),
            [format!("-j NFLOG --nflog-prefix {mark} --nflog-group 13")]
        );
    }
}
