//! A strongSwan tunnel whose XFRM interface does not exist at its `up`: what its settings forbid does not pass by the interface once it
//! does.

use pluto_updown::daemon::Tunnel;
use pluto_updown::net::Family;
use pluto_updown::netfilter::Backend;
use pluto_updown::netlink::XfrmInterface;
use pluto_updown::settings::Settings;

use crate::support::emulator::Kind;
use crate::support::packet::{Packet, Verdict};
use crate::support::world::{World, libreswan, strongswan};

/// The hub's own networks, those of the spoke that the settings restrict, and those of another one.
const NETWORKS: [[&str; 3]; 2] = [
    ["10.0.0.0/8", "10.2.0.0/24", "10.3.0.0/24"],
    ["fd00::/16", "fd00:2::/64", "fd00:3::/64"],
];

/// A host in each of them.
const HOSTS: [[&str; 3]; 2] = [
    ["10.1.0.9", "10.2.0.7", "10.3.0.5"],
    ["fd00:1::9", "fd00:2::7", "fd00:3::5"],
];

fn settings(restriction: &str) -> Settings {
    let text = format!("tunnel.nat = \"leave\"\n[[connection]]\nname = \"closed\"\n{restriction}\n");
    Settings::parse(&text).expect("good settings")
}

fn interface(name: &str, if_id: u32) -> XfrmInterface {
    XfrmInterface {
        interface: name.parse().expect("a name"),
        if_id,
    }
}

fn closed(local: &str, remote: &str) -> Tunnel {
    let up = strongswan("closed", 1, local, remote);
    up.with("PLUTO_IF_ID_IN", "8").with("PLUTO_IF_ID_OUT", "8").tunnel()
}

fn worlds(restriction: &str) -> impl Iterator<Item = (World, Family, [&'static str; 3], [&'static str; 3])> {
    let settings = settings(restriction);
    [Backend::Nft, Backend::Legacy].into_iter().flat_map(move |backend| {
        let settings = settings.clone();
        Family::ALL
            .into_iter()
            .zip(NETWORKS)
            .zip(HOSTS)
            .map(move |((family, networks), hosts)| {
                let mut world = World {
                    settings: settings.clone(),
                    ..World::default()
                };
                world.tables.default = backend;
                (world, family, networks, hosts)
            })
    })
}

/// Every packet that could enter the tunnel by an interface that no call knows.
fn outbound([here, there, beyond]: [&str; 3], interface: &str) -> [Packet; 4] {
    [
        Packet::between(here, there).tcp(1, 2).in_by("lan0"),
        Packet::between(here, there).tcp(1, 2).made_here(),
        // Another tunnel allows it.
        Packet::between(beyond, there).tcp(1, 2).in_by_ipsec("eth0", 2),
        // Nobody allows it.
        Packet::between(beyond, there).tcp(1, 2).in_by_ipsec("eth0", 77),
    ]
    .map(|packet| packet.out_by(interface))
}

fn filter(world: &mut World, family: Family) -> String {
    world.emulator(family).table(Kind::Filter).save()
}

#[test]
fn what_may_not_enter_a_tunnel_does_not_enter_it_by_an_interface_that_is_created_later() {
    for restriction in ["allow = \"none\"", "chain = \"mine\"\nallow = \"all\""] {
        for (mut world, family, [local, remote, other], hosts) in worlds(restriction) {
            world
                .emulator(family)
                .restore("*filter\n:mine - [0:0]\nCOMMIT\n")
                .expect("a chain");
            let before = filter(&mut world, family);
            let beyond = strongswan("beyond", 2, local, other).tunnel();
            // Between the same networks, by an interface that exists.
            let beside = libreswan("beside", 16393, local, remote)
                .with("VTI_IFACE", "vti1")
                .tunnel();
            for tunnels in [
                [&beyond, &beside, &closed(local, remote)],
                [&closed(local, remote), &beside, &beyond],
            ] {
                for tunnel in tunnels {
                    world.up(tunnel);
                }
                for packet in outbound(hosts, "xfrm8") {
                    let verdict = world.verdict(family, &packet);
                    assert_eq!(verdict, Verdict::Drop, "{restriction} {packet:?}");
                }
                let allowed = outbound(hosts, "vti1")[0].clone();
                assert_eq!(world.verdict(family, &allowed), Verdict::Accept);
                for tunnel in tunnels {
                    world.down(tunnel);
                }
                assert!(world.is_forgotten());
                assert_eq!(filter(&mut world, family), before);
            }
            let [note, ..] = &world.notes[..] else {
                panic!("nobody is told")
            };
            assert!(
                note.contains("if_id 8") && note.contains("dropped by their addresses"),
                "{note}"
            );
        }
    }
}

#[test]
fn what_no_setting_forbids_is_left_to_other_rules() {
    for (mut world, family, [local, remote, _], hosts) in worlds("allow = \"replies\"") {
        world.up(&closed(local, remote));
        let allowed = outbound(hosts, "xfrm8")[0].clone();
        assert_eq!(world.verdict(family, &allowed), Verdict::Policy);
        assert!(world.notes[0].contains("your own rules decide"), "{:?}", world.notes);
    }
}

#[test]
fn a_tunnel_between_everything_and_everything_is_not_blocked_by_addresses() {
    for (mut world, family, _, hosts) in worlds("allow = \"none\"") {
        let everything = match family {
            Family::Ipv4 => "0.0.0.0/0",
            Family::Ipv6 => "::/0",
        };
        world.up(&closed(everything, everything));
        let allowed = outbound(hosts, "lan1")[0].clone();
        assert_eq!(world.verdict(family, &allowed), Verdict::Policy);
        assert!(world.notes[0].contains("are not restricted"), "{:?}", world.notes);
    }
}

/// The local network stays in touch with itself.
#[test]
fn what_stays_in_the_local_network_is_not_blocked() {
    for (mut world, family, [local, ..], hosts) in worlds("allow = \"none\"") {
        let everything = match family {
            Family::Ipv4 => "0.0.0.0/0",
            Family::Ipv6 => "::/0",
        };
        world.up(&closed(local, everything));
        let within = outbound(hosts, "lan1")[0].clone();
        assert_eq!(world.verdict(family, &within), Verdict::Policy);
        let [here, ..] = hosts;
        let away = match family {
            Family::Ipv4 => "203.0.113.1",
            Family::Ipv6 => "2001:db8::1",
        };
        let away = Packet::between(here, away).tcp(1, 2).in_by("lan0").out_by("xfrm8");
        assert_eq!(world.verdict(family, &away), Verdict::Drop);
    }
}

#[test]
fn start_and_restore_bring_the_rules_of_an_interface_that_was_created_or_renamed() {
    for command in [World::start_quietly as fn(&mut World), World::match_new_interfaces] {
        for restriction in ["allow = \"none\"", "allow = \"replies\""] {
            for (mut world, family, [local, remote, _], _) in worlds(restriction) {
                let tunnel = closed(local, remote);
                let mut wanted = Vec::new();
                for name in ["xfrm8", "renamed"] {
                    world.interfaces = vec![interface("xfrm7", 7), interface(name, 8)];
                    world.up(&tunnel);
                    wanted.push(filter(&mut world, family));
                    world.down(&tunnel);
                }
                world.interfaces = vec![interface("xfrm7", 7)];
                world.up(&tunnel);
                assert!(!wanted.contains(&filter(&mut world, family)));
                for (name, wanted) in ["xfrm8", "renamed"].into_iter().zip(wanted) {
                    world.interfaces.truncate(1);
                    world.interfaces.push(interface(name, 8));
                    command(&mut world);
                    assert_eq!(filter(&mut world, family), wanted, "{restriction} {name}");
                }
                world.down(&tunnel);
                assert!(world.is_forgotten());
            }
        }
    }
}
