//! Several peers that have one tunnel up under strongSwan: children of one name, with equal selectors and one reqid. What all of them are
//! allowed counts; and a `down` takes the one that it is about.

use std::fs;

use pluto_updown::apply::TunnelOutcome;
use pluto_updown::netfilter::Backend;
use pluto_updown::rtnetlink::XfrmInterface;
use pluto_updown::selector::Family;
use pluto_updown::settings::Settings;
use pluto_updown::updown_env::{FirewallAction, HostAccess, Tunnel};

use super::what_may_flow::words::in_ipv6;
use crate::support::emulator::Kind;
use crate::support::packet::{Packet, Verdict, trace};
use crate::support::world::{RestoreFailure, World, strongswan, tunnel, with};

/// A gateway on a backend, whose tunnels have packets of a family.
pub(crate) struct Gateway {
    pub(crate) world: World,
    pub(crate) family: Family,
}

/// An IPv4 text, in a family.
pub(crate) fn in_family(text: &str, family: Family) -> String {
    match family {
        Family::Ipv4 => text.to_owned(),
        Family::Ipv6 => in_ipv6(text),
    }
}

fn file(text: &str, family: Family) -> Settings {
    Settings::parse(&in_family(text, family)).expect("good settings")
}

/// One on each backend, with tunnels of each family.
pub(crate) fn gateways(settings: &str) -> impl Iterator<Item = Gateway> + '_ {
    let backends = [Backend::Nft, Backend::Legacy].into_iter();
    let kinds = backends.flat_map(|backend| Family::ALL.map(|family| (backend, family)));
    kinds.map(move |(backend, family)| {
        let mut world = World {
            settings: file(settings, family),
            ..World::default()
        };
        world.tables.default = backend;
        Gateway { world, family }
    })
}

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
    pub(crate) fn networks(&self) -> [String; 2] {
        ["10.1.0.0/24", "10.2.0.0/24"].map(|network| in_family(network, self.family))
    }

    /// What charon says of a child `net` that a peer has up by an association with this number.
    fn net(&self, peer: &str, number: u32) -> Tunnel {
        let [local, remote] = self.networks();
        let call = strongswan("up-client", "net", 1, &local, &remote);
        tunnel(&with(
            &with(&call, "PLUTO_PEER_ID", peer),
            "PLUTO_UNIQUEID",
            &number.to_string(),
        ))
    }

    /// The same of a peer at this address that compresses, or not, with a child to everywhere.
    fn everywhere(&self, peer: &str, number: u32, compresses: bool) -> Tunnel {
        let [local, _] = self.networks();
        let local_host = in_family("192.0.2.1", self.family);
        let remote = in_family("0.0.0.0/0", self.family);
        let call = strongswan("up-client", "net", 1, &local, &remote);
        let call = with(
            &with(&call, "PLUTO_ME", &local_host),
            "PLUTO_PEER",
            &in_family(peer, self.family),
        );
        let call = with(
            &with(&call, "PLUTO_PEER_ID", peer),
            "PLUTO_UNIQUEID",
            &number.to_string(),
        );
        tunnel(&match compresses {
            true => with(&call, "PLUTO_IPCOMP", "1"),
            false => call,
        })
    }

    /// The verdict on IP in IP out of the tunnel from a peer, which was not worth compressing.
    fn uncompressed_verdict(&mut self, peer: &str) -> Verdict {
        let [from, to] = [peer, "192.0.2.1"].map(|address| in_family(address, self.family));
        let protocol = match self.family {
            Family::Ipv4 => 4,
            Family::Ipv6 => 41,
        };
        let packet = Packet::between(&from, &to).protocol(protocol).in_by_ipsec("eth0", 1);
        trace(self.world.tables.emulator(self.family), &packet).verdict
    }

    /// The same of a road warrior without a virtual address.
    fn road(&self, peer: &str, number: u32, reqid: u32, host: u8) -> Tunnel {
        let [address, network] = ["", "/32"].map(|end| in_family(&format!("203.0.113.{host}{end}"), self.family));
        let call = strongswan("up-client", "road", reqid, &self.networks()[0], &network);
        let call = with(
            &with(&call, "PLUTO_PEER_ID", peer),
            "PLUTO_UNIQUEID",
            &number.to_string(),
        );
        tunnel(&with(&call, "PLUTO_PEER", &address))
    }

    /// The verdict on a new connection out of a tunnel to this port behind us.
    fn verdict(&mut self, reqid: u32, from: &str, port: u16) -> Verdict {
        let [from, to] = [from, "10.1.0.9"].map(|address| in_family(address, self.family));
        let packet = Packet::between(&from, &to).tcp(40000, port);
        let packet = packet.in_by_ipsec("eth0", reqid).out_by("lan0");
        trace(self.world.tables.emulator(self.family), &packet).verdict
    }

    fn net_verdict(&mut self, port: u16) -> Verdict {
        self.verdict(1, "10.2.0.7", port)
    }

    fn road_verdict(&mut self, reqid: u32, host: u8) -> Verdict {
        self.verdict(reqid, &format!("203.0.113.{host}"), 80)
    }

    fn up(&mut self, openers: &[Tunnel]) {
        for opener in openers {
            self.world.up(opener);
        }
    }

    fn everything(&mut self) -> String {
        let emulator = self.world.tables.emulator(self.family);
        Kind::ALL.map(|kind| emulator.table(kind).save()).concat()
    }

    fn filter(&mut self) -> String {
        self.world.tables.emulator(self.family).table(Kind::Filter).save()
    }

    pub(crate) fn set(&mut self, settings: &str) {
        self.world.settings = file(settings, self.family);
    }

    fn assert_nothing_is_left(&mut self) {
        assert!(self.world.is_forgotten());
        let filter = self.filter();
        assert!(!filter.contains("PLUTO"), "{filter}");
    }
}

#[test]
fn what_all_openers_are_allowed_counts_and_what_the_others_are_when_one_leaves() {
    for ups in [["guest", "anna@staff"], ["anna@staff", "guest"]] {
        for mut gateway in gateways(GUEST_AND_STAFF) {
            let openers = ups.map(|peer| gateway.net(peer, u32::try_from(peer.len()).expect("small")));
            gateway.up(&openers);
            assert_eq!(gateway.net_verdict(80), Verdict::Drop, "{ups:?}");
            gateway.world.start().expect("a start");
            assert_eq!(gateway.net_verdict(80), Verdict::Drop, "{ups:?}");
            // Without what the first one has, the second one's own counts, and `start` changes nothing of it.
            assert_eq!(gateway.world.down(&openers[0]), TunnelOutcome::StillNeeded(1));
            let alone = [Verdict::Drop, Verdict::Accept][usize::from(ups[1] == "anna@staff")];
            assert_eq!(gateway.net_verdict(80), alone, "{ups:?}");
            assert!(gateway.world.start().expect("a start").changed.is_empty());
            assert_eq!(gateway.net_verdict(80), alone, "{ups:?}");
            assert_eq!(gateway.world.down(&openers[1]), TunnelOutcome::Closed);
            gateway.assert_nothing_is_left();
        }
    }
}

#[test]
fn openers_with_different_services_are_allowed_those_of_both() {
    for mut gateway in gateways(GUEST_AND_STAFF) {
        let [web, ssh] = [("eve@web", 1), ("eve@ssh", 2)].map(|(peer, number)| gateway.net(peer, number));
        gateway.world.up(&web);
        assert_eq!(gateway.net_verdict(80), Verdict::Accept);
        gateway.world.up(&ssh);
        assert_eq!(
            [80, 22].map(|port| gateway.net_verdict(port)),
            [Verdict::Drop, Verdict::Drop]
        );
        gateway.world.down(&web);
        assert_eq!(
            [80, 22].map(|port| gateway.net_verdict(port)),
            [Verdict::Drop, Verdict::Accept]
        );
        gateway.world.down(&ssh);
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
                    gateway.world.down(gone);
                }
                for come in wanted.iter().filter(|tunnel| !are_up.contains(tunnel)) {
                    gateway.world.up(come);
                }
                are_up = wanted.to_vec();
                let found = peers.map(|peer| gateway.uncompressed_verdict(peer));
                assert_eq!(found, verdicts, "{allow}");
                gateway.world.start().expect("a start");
                let found = peers.map(|peer| gateway.uncompressed_verdict(peer));
                assert_eq!(found, verdicts, "{allow}, after a start");
            }
            for gone in are_up {
                gateway.world.down(gone);
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
        gateway.world.up(&anna);
        gateway.world.up(&guest);
        assert_eq!(gateway.world.down(&rekeyed), TunnelOutcome::StillNeeded(1));
        assert_eq!(gateway.net_verdict(80), Verdict::Drop);
        assert_eq!(gateway.world.down(&guest), TunnelOutcome::Closed);
        gateway.assert_nothing_is_left();
        // The same peer twice, and the first association is rekeyed.
        let again = gateway.net("anna@staff", 3);
        gateway.world.up(&anna);
        gateway.world.up(&again);
        assert_eq!(gateway.world.down(&rekeyed), TunnelOutcome::StillNeeded(1));
        assert_eq!(gateway.net_verdict(80), Verdict::Accept);
        assert_eq!(gateway.world.down(&again), TunnelOutcome::Closed);
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
                gateway.set(file);
                let opener = gateway.net("anna", number);
                gateway.world.up(&opener);
            }
            let unknown = gateway.net("anna", 9);
            assert_eq!(gateway.world.down(&unknown), TunnelOutcome::StillNeeded(1));
            assert_eq!(gateway.net_verdict(80), Verdict::Drop, "{files:?}");
            assert_eq!(gateway.world.down(&unknown), TunnelOutcome::Closed);
            gateway.assert_nothing_is_left();
        }
    }
    // Two that cannot be compared: neither is left alone.
    for mut gateway in gateways("") {
        for (number, service) in [(1, "tcp/80"), (2, "tcp/22")] {
            gateway.set(&format!("[tunnel]\nnat = \"leave\"\nallow = [\"{service}\"]\n"));
            let opener = gateway.net("anna", number);
            gateway.world.up(&opener);
        }
        let unknown = gateway.net("anna", 9);
        gateway.world.down(&unknown);
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
        gateway.world.up(&anna);
        let before = gateway.filter();
        let other_reqid = |opener: &Tunnel| {
            let [local, remote] = gateway.networks();
            let call = strongswan("up-client", "net", 2, &local, &remote);
            Tunnel {
                remote_id: opener.remote_id.clone(),
                unique_id: opener.unique_id,
                ..tunnel(&call)
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
            assert_eq!(
                gateway.world.down(&stranger),
                TunnelOutcome::NothingThere,
                "{stranger:?}"
            );
            assert_eq!(gateway.filter(), before);
        }
        assert_eq!(gateway.world.down(&anna), TunnelOutcome::Closed);
        gateway.assert_nothing_is_left();
    }
}

#[test]
fn a_tunnel_that_got_another_reqid_when_its_peer_moved_is_known_by_the_association() {
    for mut gateway in gateways("") {
        let anna = gateway.net("anna@staff", 1);
        gateway.world.up(&anna);
        let [local, remote] = gateway.networks();
        // It has a selector beside this one that is the peer's own address.
        let call = with(
            &strongswan("down-client", "net", 2, &local, &remote),
            "PLUTO_PEER",
            "198.51.100.77",
        );
        assert_eq!(
            gateway.world.down(&tunnel(&with(&call, "PLUTO_UNIQUEID", "7"))),
            TunnelOutcome::NothingThere
        );
        assert_eq!(gateway.world.down(&tunnel(&call)), TunnelOutcome::Closed);
        gateway.assert_nothing_is_left();
    }
}

#[test]
fn a_peer_that_moved_is_closed_by_its_association_or_its_identity() {
    for mut gateway in gateways("") {
        for number in [1, 9] {
            let anna = gateway.road("anna", 1, 1, 5);
            gateway.world.up(&anna);
            let stranger = gateway.road("eve", 9, 2, 7);
            assert_eq!(gateway.world.down(&stranger), TunnelOutcome::NothingThere);
            let moved = gateway.road("anna", number, 2, 7);
            assert_eq!(gateway.world.down(&moved), TunnelOutcome::Closed);
            gateway.assert_nothing_is_left();
        }
    }
}

#[test]
fn the_down_of_a_peer_that_moved_to_where_another_is_leaves_the_other_up() {
    for second in ["anna", "eve"] {
        for mut gateway in gateways("") {
            let anna = gateway.road("anna", 1, 1, 5);
            gateway.world.up(&anna);
            // Anna moves to behind the NAT of the second one: both have its address and reqid 2 then.
            let live = gateway.road(second, 2, 2, 7);
            gateway.world.up(&live);
            let moved = gateway.road("anna", 1, 2, 7);
            assert_eq!(gateway.world.down(&moved), TunnelOutcome::Closed);
            assert_eq!(gateway.road_verdict(1, 5), Verdict::Policy);
            assert_eq!(gateway.road_verdict(2, 7), Verdict::Accept);
            assert_eq!(gateway.world.down(&live), TunnelOutcome::Closed);
            gateway.assert_nothing_is_left();
        }
    }
    // The same when the association was rekeyed on the way: the identity tells.
    for mut gateway in gateways("") {
        let anna = gateway.road("anna", 1, 1, 5);
        gateway.world.up(&anna);
        let live = gateway.road("eve", 2, 2, 7);
        gateway.world.up(&live);
        let moved = gateway.road("anna", 9, 2, 7);
        assert_eq!(gateway.world.down(&moved), TunnelOutcome::Closed);
        assert_eq!(gateway.road_verdict(2, 7), Verdict::Accept);
        gateway.world.down(&live);
        gateway.assert_nothing_is_left();
    }
}

#[test]
fn of_a_peers_several_tunnels_none_is_closed_for_one_that_moved_and_is_unknown() {
    for mut gateway in gateways("") {
        let phones = [gateway.road("anna", 1, 1, 5), gateway.road("anna", 2, 2, 6)];
        gateway.up(&phones);
        let moved = gateway.road("anna", 9, 3, 7);
        assert_eq!(gateway.world.down(&moved), TunnelOutcome::NothingThere);
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
        gateway.world.up(&anna);
        gateway.world.up(&eve);
        assert_eq!(gateway.world.down(&anna), TunnelOutcome::StillNeeded(1));
        let [moved_anna, moved_eve] = [gateway.road("anna", 1, 2, 7), gateway.road("eve", 2, 2, 7)];
        assert_eq!(gateway.world.down(&moved_anna), TunnelOutcome::NothingThere);
        assert_eq!(gateway.world.down(&moved_eve), TunnelOutcome::Closed);
        gateway.assert_nothing_is_left();
    }
}

#[test]
fn the_esp_of_each_peer_is_let_in_as_long_as_it_has_the_tunnel_up() {
    for mut gateway in gateways("[gateway]\nesp = \"negotiated\"\n[tunnel]\nnat = \"leave\"\n") {
        gateway.world.start().expect("a start");
        let hosts = ["198.51.100.7", "198.51.100.8", "2001:db8:7::7", "2001:db8:7::8"];
        let openers = hosts.map(|host| Tunnel {
            remote_host: host.parse().ok(),
            ..gateway.net(host, host.bytes().map(u32::from).sum())
        });
        gateway.up(&openers);
        let open = |gateway: &mut Gateway| {
            let lines = Family::ALL.map(|family| gateway.world.tables.emulator(family).table(Kind::Filter).save());
            let is_open = |host: &str| lines.iter().any(|lines| lines.contains(&format!("-s {host}/")));
            hosts.map(is_open)
        };
        assert_eq!(open(&mut gateway), [true; 4]);
        assert!(gateway.world.start().expect("a start").changed.is_empty());
        for gone in 0..hosts.len() {
            gateway.world.down(&openers[gone]);
            let expected = std::array::from_fn(|host| host > gone);
            assert_eq!(open(&mut gateway), expected, "{}", hosts[gone]);
        }
        gateway.world.stop().expect("a stop");
        assert!(gateway.world.is_forgotten());
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
        gateway.world.up(&anna);
        let reached = gateway.filter();
        gateway.world.up(&eve);
        assert_ne!(gateway.filter(), reached);
        gateway.world.down(&eve);
        assert_eq!(gateway.filter(), reached);
    }
}

#[test]
fn a_changed_file_is_applied_to_each_opener() {
    for mut gateway in gateways("[tunnel]\nnat = \"leave\"\n") {
        let [anna, guest] = [gateway.net("anna@staff", 1), gateway.net("guest", 2)];
        gateway.world.up(&guest);
        gateway.world.up(&anna);
        assert_eq!(gateway.net_verdict(80), Verdict::Accept);
        gateway.set(GUEST_AND_STAFF);
        gateway.world.start().expect("a start");
        assert_eq!(gateway.net_verdict(80), Verdict::Drop);
        gateway.world.down(&guest);
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
        gateway.world.up(&guest);
        gateway.world.up(&odd);
        assert_eq!(gateway.world.down(&guest), TunnelOutcome::StillNeeded(1));
        assert_eq!(gateway.net_verdict(80), Verdict::Drop);
        assert_eq!(gateway.world.down(&odd), TunnelOutcome::Closed);
        gateway.assert_nothing_is_left();
    }
}

#[test]
fn whoever_runs_the_machine_is_told_once_where_openers_conflict() {
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
            let emulator = gateway.world.tables.emulator(gateway.family);
            emulator
                .restore("*filter\n:vpn-in - [0:0]\nCOMMIT\n")
                .expect("a chain of the administrator's");
            for (number, peer) in (1..).zip(["anna", "eve", "eve", "anna"]) {
                let opener = gateway.net(peer, number);
                gateway.world.up(&opener);
            }
            assert_eq!(gateway.world.notes, [format!("{START}{expected}")]);
        }
    }
}

/// Takes from the records what an older version did not write.
fn make_records_older(gateway: &Gateway) {
    let state = gateway.world.folder.path().join("state");
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
        gateway.world.up(&guest);
        gateway.world.up(&anna);
        make_records_older(&gateway);
        let eve = gateway.net("eve@web", 3);
        assert_eq!(gateway.world.up(&eve), TunnelOutcome::AlreadyOpen(3));
        assert_eq!(gateway.net_verdict(80), Verdict::Drop);
        assert_eq!(gateway.world.down(&guest), TunnelOutcome::StillNeeded(2));
        assert_eq!(gateway.world.down(&eve), TunnelOutcome::StillNeeded(1));
        assert_eq!(gateway.world.down(&anna), TunnelOutcome::Closed);
        gateway.assert_nothing_is_left();
        gateway.world.up(&guest);
        make_records_older(&gateway);
        assert_eq!(gateway.world.down(&anna), TunnelOutcome::Closed);
        gateway.assert_nothing_is_left();
    }
}

#[test]
fn an_up_that_is_refused_leaves_the_openers_as_they_were() {
    for mut gateway in gateways(GUEST_AND_STAFF) {
        let [guest, anna] = [gateway.net("guest", 1), gateway.net("anna@staff", 2)];
        gateway.world.up(&anna);
        gateway.world.tables.failures = [RestoreFailure::RefusedBySystem].into();
        assert!(
            gateway
                .world
                .call(&FirewallAction::Open(Box::new(guest.clone())))
                .is_err()
        );
        assert_eq!(gateway.world.down(&guest), TunnelOutcome::NothingThere);
        assert_eq!(gateway.net_verdict(80), Verdict::Accept);
        assert_eq!(gateway.world.down(&anna), TunnelOutcome::Closed);
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
        gateway.world.interfaces = vec![XfrmInterface {
            interface: "xfrm7".parse().expect("an interface"),
            if_id: 7,
        }];
        gateway.world.connected = lan().expect("networks");
        gateway.world.ask_connected = Some(lan);
        let inside = in_family("10.1.0.1", gateway.family);
        for if_id in [None, Some(7)] {
            let of = |peer: &str, number| Tunnel {
                if_id_out: if_id,
                source_addresses: vec![inside.parse().expect("an address")],
                ..gateway.net(peer, number)
            };
            let [anna, guest] = [of("anna", 1), of("guest", 2)];
            gateway.world.up(&anna);
            let alone = gateway.everything();
            for ups in [[&guest, &anna], [&anna, &guest]] {
                gateway.world.down(&anna);
                gateway.world.up(ups[0]);
                gateway.world.up(ups[1]);
                assert_ne!(gateway.everything(), alone);
                assert_eq!(gateway.world.down(&guest), TunnelOutcome::StillNeeded(1));
                assert_eq!(gateway.everything(), alone, "{if_id:?}");
            }
            gateway.world.down(&anna);
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
        gateway.world.ask_path_mtu = Some(mtu);
        let [anna, guest] = [gateway.net("anna", 1), gateway.net("guest", 2)];
        gateway.world.up(&anna);
        let alone = gateway.everything();
        gateway.world.up(&guest);
        assert_ne!(gateway.everything(), alone);
        gateway.world.down(&guest);
        assert_eq!(gateway.everything(), alone);
    }
}

/// As at a boot before the module ipv6 is loaded.
#[test]
fn start_says_that_rules_are_set_for_a_family_that_the_kernel_does_not_have() {
    for (settings, notes) in [("[gateway]\nonly-ipsec = [\"eth0\"]\n", 1), ("", 0)] {
        let mut world = World {
            settings: Settings::parse(settings).expect("settings"),
            ..World::default()
        };
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
