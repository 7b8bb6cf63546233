//! Several peers that have one tunnel up under strongSwan: children of one name, with equal selectors and one reqid. What all of them are
//! allowed counts; and a `down` takes the one that it is about.

use std::fs;

use pluto_updown::apply::TunnelOutcome;
use pluto_updown::daemon::{HostAccess, Tunnel};
use pluto_updown::net::Family;
use pluto_updown::netlink::XfrmInterface;

use crate::support::gateway::{Gateway, gateways};
use crate::support::packet::{Packet, Verdict};
use crate::support::world::{RestoreFailure, World, strongswan};

const GUEST_AND_STAFF: &str = "
[tunnel]
nat = \"leave\"
allow = \"none\"
[[connection]]
peer-id = \"*@staff\"
allow = \"all\"
[[connection]]
peer-id = \"*@web\"
allow = [\"tcp/80\"]
[[connection]]
peer-id = \"*@ssh\"
allow = [\"tcp/22\"]
";

impl Gateway {
    /// What charon says of a child `net` that a peer has up by an association with this number.
    fn net(&self, peer: &str, number: u32) -> Tunnel {
        let [local, remote] = self.networks();
        strongswan("net", 1, &local, &remote).of_peer(peer, number).tunnel()
    }

    /// The same of a peer at this address that compresses, or not, with a child to everywhere.
    fn everywhere(&self, peer: &str, number: u32, compresses: bool) -> Tunnel {
        let [local, _] = self.networks();
        let call = strongswan("net", 1, &local, &self.in_family("0.0.0.0/0"))
            .with("PLUTO_ME", self.in_family("192.0.2.1"))
            .with("PLUTO_PEER", self.in_family(peer))
            .of_peer(peer, number);
        match compresses {
            true => call.with("PLUTO_IPCOMP", "1").tunnel(),
            false => call.tunnel(),
        }
    }

    /// The verdict on IP in IP out of the tunnel from a peer, which was not worth compressing.
    fn uncompressed_verdict(&mut self, peer: &str) -> Verdict {
        let [from, to] = [peer, "192.0.2.1"].map(|address| self.in_family(address));
        let protocol = match self.family {
            Family::Ipv4 => 4,
            Family::Ipv6 => 41,
        };
        let packet = Packet::between(&from, &to).protocol(protocol);
        self.verdict(&packet.in_by_ipsec("eth0", 1))
    }

    /// The same of a road warrior without a virtual address.
    fn road(&self, peer: &str, number: u32, reqid: u32, host: u8) -> Tunnel {
        let [address, network] = ["", "/32"].map(|end| self.in_family(&format!("203.0.113.{host}{end}")));
        let call = strongswan("road", reqid, &self.networks()[0], &network);
        call.of_peer(peer, number).with("PLUTO_PEER", address).tunnel()
    }

    /// The verdict on a new connection out of a tunnel to this port behind us.
    fn verdict_from(&mut self, reqid: u32, from: &str, port: u16) -> Verdict {
        let [from, to] = [from, "10.1.0.9"].map(|address| self.in_family(address));
        let packet = Packet::between(&from, &to).tcp(40000, port);
        self.verdict(&packet.in_by_ipsec("eth0", reqid).out_by("lan0"))
    }

    fn net_verdict(&mut self, port: u16) -> Verdict {
        self.verdict_from(1, "10.2.0.7", port)
    }

    fn road_verdict(&mut self, reqid: u32, host: u8) -> Verdict {
        self.verdict_from(reqid, &format!("203.0.113.{host}"), 80)
    }

    fn assert_nothing_is_left(&mut self) {
        assert!(self.is_forgotten());
        let filter = self.emulator().save();
        assert!(!filter.contains("PLUTO"), "{filter}");
    }
}

#[test]
fn what_all_openers_are_allowed_counts_and_what_the_others_are_when_one_leaves() {
    for ups in [["guest", "anna@staff"], ["anna@staff", "guest"]] {
        for mut gateway in gateways(GUEST_AND_STAFF) {
            let openers = ups.map(|peer| gateway.net(peer, u32::try_from(peer.len()).expect("small")));
            gateway.up_all(&openers);
            assert_eq!(gateway.net_verdict(80), Verdict::Drop, "{ups:?}");
            gateway.start().expect("a start");
            assert_eq!(gateway.net_verdict(80), Verdict::Drop, "{ups:?}");
            // Without what the first one has, the second one's own counts, and `start` changes nothing of it.
            assert_eq!(gateway.down(&openers[0]), TunnelOutcome::StillNeeded(1));
            let alone = [Verdict::Drop, Verdict::Accept][usize::from(ups[1] == "anna@staff")];
            assert_eq!(gateway.net_verdict(80), alone, "{ups:?}");
            assert!(gateway.start().expect("a start").changed.is_empty());
            assert_eq!(gateway.net_verdict(80), alone, "{ups:?}");
            assert_eq!(gateway.down(&openers[1]), TunnelOutcome::Closed);
            gateway.assert_nothing_is_left();
        }
    }
}

#[test]
fn openers_with_different_services_are_allowed_those_of_both() {
    for mut gateway in gateways(GUEST_AND_STAFF) {
        let [web, ssh] = [("eve@web", 1), ("eve@ssh", 2)].map(|(peer, number)| gateway.net(peer, number));
        gateway.up(&web);
        assert_eq!(gateway.net_verdict(80), Verdict::Accept);
        gateway.up(&ssh);
        assert_eq!(
            [80, 22].map(|port| gateway.net_verdict(port)),
            [Verdict::Drop, Verdict::Drop]
        );
        gateway.down(&web);
        assert_eq!(
            [80, 22].map(|port| gateway.net_verdict(port)),
            [Verdict::Drop, Verdict::Accept]
        );
        gateway.down(&ssh);
        gateway.assert_nothing_is_left();
    }
}

#[test]
fn what_a_peer_did_not_compress_passes_as_long_as_that_peer_has_the_tunnel_up() {
    let peers @ [anna, ben, eve] = ["198.51.100.7", "203.0.113.7", "203.0.113.9"];
    for allow in ["all", "replies", "none"] {
        let settings = format!("[tunnel]\nnat = \"leave\"\nallow = \"{allow}\"\n");
        for mut gateway in gateways(&settings) {
            // Restricted to everywhere: what is not from one of them meets a DROP.
            let other = if allow == "all" { Verdict::Policy } else { Verdict::Drop };
            let [anna, ben] = [(anna, 1), (ben, 2)].map(|(peer, number)| gateway.everywhere(peer, number, true));
            // Her peer does not compress.
            let eve = gateway.everywhere(eve, 3, false);
            let stages: [(&[&Tunnel], _); 4] = [
                (&[&anna], [Verdict::Accept, other, other]),
                (&[&anna, &ben], [Verdict::Accept, Verdict::Accept, other]),
                (&[&anna, &ben, &eve], [Verdict::Accept, Verdict::Accept, other]),
                (&[&ben, &eve], [other, Verdict::Accept, other]),
            ];
            let mut are_up: Vec<&Tunnel> = Vec::new();
            for (wanted, verdicts) in stages {
                for gone in are_up.iter().filter(|tunnel| !wanted.contains(tunnel)) {
                    gateway.down(gone);
                }
                for come in wanted.iter().filter(|tunnel| !are_up.contains(tunnel)) {
                    gateway.up(come);
                }
                are_up = wanted.to_vec();
                let found = peers.map(|peer| gateway.uncompressed_verdict(peer));
                assert_eq!(found, verdicts, "{allow}");
                gateway.start().expect("a start");
                let found = peers.map(|peer| gateway.uncompressed_verdict(peer));
                assert_eq!(found, verdicts, "{allow}, after a start");
            }
            for gone in are_up {
                gateway.down(gone);
            }
            gateway.assert_nothing_is_left();
        }
    }
}

#[test]
fn an_association_that_was_rekeyed_is_known_by_its_peer() {
    for mut gateway in gateways(GUEST_AND_STAFF) {
        // The number 1 is 2 by now, and nobody has said so.
        let [anna, rekeyed, guest] =
            [("anna@staff", 1), ("anna@staff", 2), ("guest", 3)].map(|(peer, number)| gateway.net(peer, number));
        gateway.up(&anna);
        gateway.up(&guest);
        assert_eq!(gateway.down(&rekeyed), TunnelOutcome::StillNeeded(1));
        assert_eq!(gateway.net_verdict(80), Verdict::Drop);
        assert_eq!(gateway.down(&guest), TunnelOutcome::Closed);
        gateway.assert_nothing_is_left();
        // The same peer twice, and the first association is rekeyed.
        let again = gateway.net("anna@staff", 3);
        gateway.up(&anna);
        gateway.up(&again);
        assert_eq!(gateway.down(&rekeyed), TunnelOutcome::StillNeeded(1));
        assert_eq!(gateway.net_verdict(80), Verdict::Accept);
        assert_eq!(gateway.down(&again), TunnelOutcome::Closed);
        gateway.assert_nothing_is_left();
    }
}

#[test]
fn of_one_peers_ups_the_one_goes_that_leaves_the_least_open() {
    const OPEN: &str = "[tunnel]\nnat = \"leave\"\n";
    const CLOSED: &str = "[tunnel]\nnat = \"leave\"\nallow = \"none\"\n";
    for files in [[OPEN, CLOSED], [CLOSED, OPEN]] {
        for mut gateway in gateways("") {
            for (number, file) in (1..).zip(files) {
                gateway.set_file(file);
                let opener = gateway.net("anna", number);
                gateway.up(&opener);
            }
            let unknown = gateway.net("anna", 9);
            assert_eq!(gateway.down(&unknown), TunnelOutcome::StillNeeded(1));
            assert_eq!(gateway.net_verdict(80), Verdict::Drop, "{files:?}");
            assert_eq!(gateway.down(&unknown), TunnelOutcome::Closed);
            gateway.assert_nothing_is_left();
        }
    }
    // Two that cannot be compared: neither is left alone.
    for mut gateway in gateways("") {
        for (number, service) in [(1, "tcp/80"), (2, "tcp/22")] {
            gateway.set_file(&format!("[tunnel]\nnat = \"leave\"\nallow = [\"{service}\"]\n"));
            let opener = gateway.net("anna", number);
            gateway.up(&opener);
        }
        let unknown = gateway.net("anna", 9);
        gateway.down(&unknown);
        assert_eq!(
            [80, 22].map(|port| gateway.net_verdict(port)),
            [Verdict::Drop, Verdict::Drop]
        );
    }
}

#[test]
fn a_down_whose_up_is_not_recorded_closes_nothing() {
    for mut gateway in gateways(GUEST_AND_STAFF) {
        let anna = gateway.net("anna@staff", 1);
        gateway.up(&anna);
        let before = gateway.emulator().save();
        let other_reqid = |opener: &Tunnel| {
            let [local, remote] = gateway.networks();
            let call = strongswan("net", 2, &local, &remote);
            Tunnel {
                remote_id: opener.remote_id.clone(),
                unique_id: opener.unique_id,
                ..call.tunnel()
            }
        };
        // Another peer's, whose up failed; with a number of its own for the selectors, also of the same association.
        let strangers = [
            gateway.net("guest", 2),
            other_reqid(&gateway.net("guest", 2)),
            other_reqid(&gateway.net("anna@staff", 2)),
            other_reqid(&anna),
        ];
        for stranger in strangers {
            assert_eq!(gateway.down(&stranger), TunnelOutcome::NothingThere, "{stranger:?}");
            assert_eq!(gateway.emulator().save(), before);
        }
        assert_eq!(gateway.down(&anna), TunnelOutcome::Closed);
        gateway.assert_nothing_is_left();
    }
}

#[test]
fn a_tunnel_that_got_another_reqid_when_its_peer_moved_is_known_by_the_association() {
    for mut gateway in gateways("") {
        let anna = gateway.net("anna@staff", 1);
        gateway.up(&anna);
        let [local, remote] = gateway.networks();
        // It has a selector beside this one that is the peer's own address.
        let call = strongswan("net", 2, &local, &remote)
            .with_verb("down-client")
            .with("PLUTO_PEER", "198.51.100.77");
        assert_eq!(
            gateway.down(&call.clone().with("PLUTO_UNIQUEID", "7").tunnel()),
            TunnelOutcome::NothingThere
        );
        assert_eq!(gateway.down(&call.tunnel()), TunnelOutcome::Closed);
        gateway.assert_nothing_is_left();
    }
}

#[test]
fn a_peer_that_moved_is_closed_by_its_association_or_its_identity() {
    for mut gateway in gateways("") {
        for number in [1, 9] {
            let anna = gateway.road("anna", 1, 1, 5);
            gateway.up(&anna);
            let stranger = gateway.road("eve", 9, 2, 7);
            assert_eq!(gateway.down(&stranger), TunnelOutcome::NothingThere);
            let moved = gateway.road("anna", number, 2, 7);
            assert_eq!(gateway.down(&moved), TunnelOutcome::Closed);
            gateway.assert_nothing_is_left();
        }
    }
}

#[test]
fn the_down_of_a_peer_that_moved_to_where_another_is_leaves_the_other_up() {
    for second in ["anna", "eve"] {
        for mut gateway in gateways("") {
            let anna = gateway.road("anna", 1, 1, 5);
            gateway.up(&anna);
            // Anna moves to behind the NAT of the second one: both have its address and reqid 2 then.
            let live = gateway.road(second, 2, 2, 7);
            gateway.up(&live);
            let moved = gateway.road("anna", 1, 2, 7);
            assert_eq!(gateway.down(&moved), TunnelOutcome::Closed);
            assert_eq!(gateway.road_verdict(1, 5), Verdict::Policy);
            assert_eq!(gateway.road_verdict(2, 7), Verdict::Accept);
            assert_eq!(gateway.down(&live), TunnelOutcome::Closed);
            gateway.assert_nothing_is_left();
        }
    }
    // The same when the association was rekeyed on the way: the identity tells.
    for mut gateway in gateways("") {
        let anna = gateway.road("anna", 1, 1, 5);
        gateway.up(&anna);
        let live = gateway.road("eve", 2, 2, 7);
        gateway.up(&live);
        let moved = gateway.road("anna", 9, 2, 7);
        assert_eq!(gateway.down(&moved), TunnelOutcome::Closed);
        assert_eq!(gateway.road_verdict(2, 7), Verdict::Accept);
        gateway.down(&live);
        gateway.assert_nothing_is_left();
    }
}

#[test]
fn of_a_peers_several_tunnels_none_is_closed_for_one_that_moved_and_is_unknown() {
    for mut gateway in gateways("") {
        let phones = [gateway.road("anna", 1, 1, 5), gateway.road("anna", 2, 2, 6)];
        gateway.up_all(&phones);
        let moved = gateway.road("anna", 9, 3, 7);
        assert_eq!(gateway.down(&moved), TunnelOutcome::NothingThere);
        assert_eq!(
            [gateway.road_verdict(1, 5), gateway.road_verdict(2, 6)],
            [Verdict::Accept, Verdict::Accept]
        );
    }
}

#[test]
fn the_index_of_moving_tunnels_follows_who_has_them_up() {
    for mut gateway in gateways("") {
        // Two behind one NAT; the first leaves, the second moves and leaves.
        let [anna, eve] = [gateway.road("anna", 1, 1, 5), gateway.road("eve", 2, 1, 5)];
        gateway.up(&anna);
        gateway.up(&eve);
        assert_eq!(gateway.down(&anna), TunnelOutcome::StillNeeded(1));
        let [moved_anna, moved_eve] = [gateway.road("anna", 1, 2, 7), gateway.road("eve", 2, 2, 7)];
        assert_eq!(gateway.down(&moved_anna), TunnelOutcome::NothingThere);
        assert_eq!(gateway.down(&moved_eve), TunnelOutcome::Closed);
        gateway.assert_nothing_is_left();
    }
}

#[test]
fn the_esp_of_each_peer_is_accepted_as_long_as_it_has_the_tunnel_up() {
    for mut gateway in gateways("[gateway]\nesp = \"negotiated\"\n[tunnel]\nnat = \"leave\"\n") {
        gateway.start().expect("a start");
        let hosts = ["198.51.100.7", "198.51.100.8", "2001:db8:7::7", "2001:db8:7::8"];
        let openers = hosts.map(|host| Tunnel {
            remote_host: host.parse().ok(),
            ..gateway.net(host, host.bytes().map(u32::from).sum())
        });
        gateway.up_all(&openers);
        let open = |gateway: &mut Gateway| {
            let lines = Family::ALL.map(|family| gateway.world.emulator(family).save());
            let is_open = |host: &str| lines.iter().any(|lines| lines.contains(&format!("-s {host}/")));
            hosts.map(is_open)
        };
        assert_eq!(open(&mut gateway), [true; 4]);
        assert!(gateway.start().expect("a start").changed.is_empty());
        for gone in 0..hosts.len() {
            gateway.down(&openers[gone]);
            let expected = std::array::from_fn(|host| host > gone);
            assert_eq!(open(&mut gateway), expected, "{}", hosts[gone]);
        }
        gateway.stop().expect("a stop");
        assert!(gateway.is_forgotten());
    }
}

#[test]
fn a_gateway_is_reached_only_if_all_openers_asked_for_it() {
    for mut gateway in gateways("[tunnel]\nnat = \"leave\"\n") {
        let asked = |opener: Tunnel| Tunnel {
            host_access: HostAccess::Asked,
            ..opener
        };
        let [anna, eve] = [asked(gateway.net("anna", 1)), gateway.net("eve", 2)];
        gateway.up(&anna);
        let reached = gateway.emulator().save();
        gateway.up(&eve);
        assert_ne!(gateway.emulator().save(), reached);
        gateway.down(&eve);
        assert_eq!(gateway.emulator().save(), reached);
    }
}

#[test]
fn a_changed_file_is_applied_to_each_opener() {
    for mut gateway in gateways("[tunnel]\nnat = \"leave\"\n") {
        let [anna, guest] = [gateway.net("anna@staff", 1), gateway.net("guest", 2)];
        gateway.up(&guest);
        gateway.up(&anna);
        assert_eq!(gateway.net_verdict(80), Verdict::Accept);
        gateway.set_file(GUEST_AND_STAFF);
        gateway.start().expect("a start");
        assert_eq!(gateway.net_verdict(80), Verdict::Drop);
        gateway.down(&guest);
        assert_eq!(gateway.net_verdict(80), Verdict::Accept);
    }
}

#[test]
fn rules_stay_that_cannot_be_made_of_what_the_others_have() {
    const SETTINGS: &str = "
[tunnel]
nat = \"leave\"
[[connection]]
peer-id = \"guest\"
allow = \"none\"
[[connection]]
peer-id = \"odd\"
nat = \"masquerade\"
";
    for mut gateway in gateways(SETTINGS) {
        let [guest, odd] = [gateway.net("guest", 1), gateway.net("odd", 2)];
        gateway.up(&guest);
        gateway.up(&odd);
        assert_eq!(gateway.down(&guest), TunnelOutcome::StillNeeded(1));
        assert_eq!(gateway.net_verdict(80), Verdict::Drop);
        assert_eq!(gateway.down(&odd), TunnelOutcome::Closed);
        gateway.assert_nothing_is_left();
    }
}

#[test]
fn whoever_runs_the_machine_is_warned_once_where_openers_conflict() {
    const START: &str = "net has the selectors and the reqid of net for anna, but another ";
    const CHAINS: &str = "; a chain applies only if the other tunnel allows everything, otherwise no packet passes";
    for (keys, expected) in [
        ("mss = 1360", "mss: both use the mss of net for anna".to_owned()),
        ("chain = \"vpn-in\"", format!("chain{CHAINS}")),
        (
            "mss = 1360\nchain = \"vpn-in\"",
            format!("chain and mss: both use the mss of net for anna{CHAINS}"),
        ),
    ] {
        for mut gateway in gateways(&format!("[[connection]]\npeer-id = \"anna\"\n{keys}\n")) {
            let emulator = gateway.emulator();
            emulator
                .restore("*filter\n:vpn-in - [0:0]\nCOMMIT\n")
                .expect("a chain of the administrator's");
            for (number, peer) in (1..).zip(["anna", "eve", "eve", "anna"]) {
                let opener = gateway.net(peer, number);
                gateway.up(&opener);
            }
            assert_eq!(gateway.notes, [format!("{START}{expected}")]);
        }
    }
}

/// Takes from the records what an older version did not write.
fn make_records_older(gateway: &Gateway) {
    let state = gateway.folder.path().join("state");
    let mut folders = vec![state];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.parent().is_some_and(|parent| parent.ends_with("tunnels")) {
                let text = fs::read(&path).expect("a record");
                let mut record: serde_json::Value = serde_json::from_slice(&text).expect("JSON");
                record.as_object_mut().expect("an object").remove("openers");
                fs::write(&path, record.to_string()).expect("writing it");
            }
        }
    }
}

#[test]
fn the_ups_that_an_older_version_counted_are_closed_by_as_many_downs() {
    for mut gateway in gateways(GUEST_AND_STAFF) {
        let [guest, anna] = [gateway.net("guest", 1), gateway.net("anna@staff", 2)];
        gateway.up(&guest);
        gateway.up(&anna);
        make_records_older(&gateway);
        let eve = gateway.net("eve@web", 3);
        assert_eq!(gateway.up(&eve), TunnelOutcome::AlreadyOpen(3));
        assert_eq!(gateway.net_verdict(80), Verdict::Drop);
        assert_eq!(gateway.down(&guest), TunnelOutcome::StillNeeded(2));
        assert_eq!(gateway.down(&eve), TunnelOutcome::StillNeeded(1));
        assert_eq!(gateway.down(&anna), TunnelOutcome::Closed);
        gateway.assert_nothing_is_left();
        gateway.up(&guest);
        make_records_older(&gateway);
        assert_eq!(gateway.down(&anna), TunnelOutcome::Closed);
        gateway.assert_nothing_is_left();
    }
}

#[test]
fn an_up_that_is_refused_leaves_the_openers_as_they_were() {
    for mut gateway in gateways(GUEST_AND_STAFF) {
        let [guest, anna] = [gateway.net("guest", 1), gateway.net("anna@staff", 2)];
        gateway.up(&anna);
        gateway.tables.failures = [RestoreFailure::RefusedBySystem].into();
        assert!(gateway.try_up(&guest).is_err());
        assert_eq!(gateway.down(&guest), TunnelOutcome::NothingThere);
        assert_eq!(gateway.net_verdict(80), Verdict::Accept);
        assert_eq!(gateway.down(&anna), TunnelOutcome::Closed);
        gateway.assert_nothing_is_left();
    }
}

/// Of the tests below.
fn lan() -> Option<Vec<ipnet::IpNet>> {
    Some(vec![
        "10.7.0.0/24".parse().expect("a network"),
        "fd00:7::/64".parse().expect("a network"),
    ])
}

#[test]
fn what_is_left_of_a_tunnel_is_what_the_others_ups_alone_would_have_made() {
    const SETTINGS: &str = "
[tunnel]
nat = \"masquerade\"
[[connection]]
peer-id = \"guest\"
allow = \"none\"
";
    for mut gateway in gateways(SETTINGS) {
        gateway.interfaces = vec![XfrmInterface {
            interface: "xfrm7".parse().expect("an interface"),
            if_id: 7,
        }];
        gateway.connected = lan().expect("networks");
        gateway.ask_connected = Some(lan);
        let inside = gateway.in_family("10.1.0.1");
        for if_id in [None, Some(7)] {
            let of = |peer: &str, number| Tunnel {
                if_id_out: if_id,
                source_addresses: vec![inside.parse().expect("an address")],
                ..gateway.net(peer, number)
            };
            let [anna, guest] = [of("anna", 1), of("guest", 2)];
            gateway.up(&anna);
            let alone = gateway.emulator().save_all();
            for ups in [[&guest, &anna], [&anna, &guest]] {
                gateway.down(&anna);
                gateway.up(ups[0]);
                gateway.up(ups[1]);
                assert_ne!(gateway.emulator().save_all(), alone);
                assert_eq!(gateway.down(&guest), TunnelOutcome::StillNeeded(1));
                assert_eq!(gateway.emulator().save_all(), alone, "{if_id:?}");
            }
            gateway.down(&anna);
            gateway.assert_nothing_is_left();
        }
    }
}

fn mtu(_peer: std::net::IpAddr) -> Option<u16> {
    Some(1400)
}

/// A `down` reads no settings, and knows no path beforehand.
#[test]
fn segments_fit_the_path_also_when_a_down_changes_the_rules_of_who_stays() {
    const SETTINGS: &str = "
[tunnel]
mss = \"pmtu\"
[[connection]]
peer-id = \"guest\"
allow = \"none\"
";
    for mut gateway in gateways(SETTINGS) {
        gateway.ask_path_mtu = Some(mtu);
        let [anna, guest] = [gateway.net("anna", 1), gateway.net("guest", 2)];
        gateway.up(&anna);
        let alone = gateway.emulator().save_all();
        gateway.up(&guest);
        assert_ne!(gateway.emulator().save_all(), alone);
        gateway.down(&guest);
        assert_eq!(gateway.emulator().save_all(), alone);
    }
}

/// As at a boot before the module ipv6 is loaded.
#[test]
fn start_says_that_rules_are_set_for_a_family_that_the_kernel_does_not_have() {
    for (settings, notes) in [("[gateway]\nonly-ipsec = [\"eth0\"]\n", 1), ("", 0)] {
        let mut world = World::with_file(settings);
        world.tables.lacks_family = Some(Family::Ipv6);
        world.start().expect("a start");
        let is_about_it = |note: &&String| note.starts_with("no rules for ipv6: this kernel does not have it yet");
        assert_eq!(
            world.notes.iter().filter(is_about_it).count(),
            notes,
            "{:?}",
            world.notes
        );
    }
}
