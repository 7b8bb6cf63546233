//! What is set for tunnels and for the gateway, on emulated tables: what is installed, what passes, and what is left.

use std::net::IpAddr;

use crate::support::binary::Call;
use crate::support::emulator::Kind;
use crate::support::world::{World, libreswan, settings, strongswan};
use pluto_updown::daemon::Tunnel;
use pluto_updown::net::Family;

fn net() -> Tunnel {
    strongswan("net", 1, "10.1.0.0/24", "10.2.0.0/24").tunnel()
}

/// A road warrior of strongSwan's with this identity.
fn road_warrior(identity: &str) -> Call {
    strongswan("rw", 1, "10.1.0.0/24", "10.9.0.1/32").with("PLUTO_PEER_ID", identity)
}

fn rules(world: &mut World, kind: Kind) -> String {
    world.emulator(Family::Ipv4).table(kind).save()
}

#[test]
fn a_tunnel_that_allows_nothing_hides_nobody() {
    let mut world = World::with_file("[tunnel]\nallow = \"none\"\nnat = \"masquerade\"\n");
    world.up(&strongswan("net", 1, "10.1.0.1/32", "10.2.0.0/24").tunnel());
    assert!(!rules(&mut world, Kind::Nat).contains("SNAT"));
}

#[test]
fn what_libreswan_translates_itself_is_not_hidden_once_more() {
    let mut world = World::with_file("[tunnel]\nnat = \"masquerade\"\n");
    let cat = libreswan("road", 16389, "10.0.10.1/32", "10.2.0.0/24").with("CAT", "YES");
    world.up(&cat.tunnel());
    let nat = rules(&mut world, Kind::Nat);
    assert_eq!(nat.matches("SNAT").count(), 1, "{nat}");
}

#[test]
fn the_esp_of_a_peer_of_the_other_family_is_accepted_with_its_tunnel_and_no_longer() {
    let mut world = World::with_file("[gateway]\nesp = \"negotiated\"\n");
    world.start().expect("a start");
    let up = strongswan("six", 1, "2001:db8:1::/64", "2001:db8:2::/64").with("PLUTO_PEER", "198.51.100.7");
    world.up(&up.tunnel());
    assert!(rules(&mut world, Kind::Filter).contains("-s 198.51.100.7/32 -j ACCEPT"));
    world.down(&up.tunnel());
    assert!(!rules(&mut world, Kind::Filter).contains("198.51.100.7"));
    world.stop().expect("a stop");
    assert!(world.is_forgotten());
}

#[test]
fn a_tunnel_is_refused_whose_hiding_address_is_not_in_it() {
    let mut world = World::with_file("[tunnel]\nnat = \"10.9.9.1\"\n");
    let error = world.try_up(&net()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "net: nat = \"10.9.9.1\": not an address in 10.1.0.0/24, packets from it would not enter the tunnel"
    );
    assert!(world.is_forgotten());
}

#[test]
fn segments_fit_the_path_in_both_directions() {
    let mut world = World::with_file("[tunnel]\nmss = \"pmtu\"\n");
    let peer: IpAddr = "192.0.2.2".parse().expect("an address");
    world.path_mtus.insert(peer, 1420);
    world.up(&net());
    let mangle = rules(&mut world, Kind::Mangle);
    // 1420 less 121 for IPsec and 40 for IPv4 and TCP.
    assert!(mangle.contains("-j TCPMSS --set-mss 1259"), "{mangle}");
    assert!(mangle.contains("-j TCPMSS --clamp-mss-to-pmtu"), "{mangle}");
}

#[test]
fn chains_for_jumps_of_ones_own_exist_from_start_to_stop() {
    let mut world = World::with_file("[gateway]\nplace = \"own\"\n");
    let started = world.start().expect("a start");
    assert_eq!(started.installed.gateways, 2);
    let jump = "*filter\n-A FORWARD -j PLUTO-FORWARD\nCOMMIT\n";
    world.emulator(Family::Ipv4).restore(jump).expect("a jump");
    let tunnel = net();
    world.up(&tunnel);
    world.down(&tunnel);
    let installed = rules(&mut world, Kind::Filter);
    for chain in [":PLUTO-INPUT ", ":PLUTO-FORWARD ", ":PLUTO-OUTPUT "] {
        assert!(installed.contains(chain), "{installed}");
    }
    // What a rule names cannot go; it stays, empty.
    world.stop().expect("a stop");
    let installed = rules(&mut world, Kind::Filter);
    assert_eq!(installed.matches("PLUTO").count(), 2, "{installed}");
    let no_jump = "*filter\n-D FORWARD -j PLUTO-FORWARD\nCOMMIT\n";
    world.emulator(Family::Ipv4).restore(no_jump).expect("no jump");
    world.stop().expect("a stop");
    assert!(!rules(&mut world, Kind::Filter).contains("PLUTO"));
    assert!(world.is_forgotten());
}

#[test]
fn another_bit_of_the_mark_counts_from_the_next_start_in_one_change_of_the_table() {
    let mut world = World::with_file(
        "[[connection]]\nname = \"net\"\nallow = [\"tcp/22\"]\nnat = \"leave\"\n[tunnel]\nnat = \"leave\"\n",
    );
    let up = |name: &str, number, remote: &str| strongswan(name, number, "10.1.0.0/24", remote).tunnel();
    world.up(&up("net", 1, "10.2.0.0/24"));
    let set_mark = "[gateway]\nmark = \"0x20000000\"\n[tunnel]\nnat = \"leave\"\n[[connection]]\nname = \"net\"\nallow = [\"tcp/22\"]\n";
    world.set_file(set_mark);
    // A tunnel that comes up before that joins the others.
    world.up(&up("other", 2, "10.3.0.0/24"));
    let before = rules(&mut world, Kind::Filter);
    assert!(!before.contains("0x20000000"), "{before}");
    let restores = world.tables.restores();
    assert!(!world.start().expect("a start").changed.is_empty());
    assert_eq!(world.tables.restores(), restores + 1);
    let after = rules(&mut world, Kind::Filter);
    assert!(!after.contains("0x10000000"), "{after}");
    let sorted = |text: &str| {
        let mut lines: Vec<_> = text.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    assert_eq!(sorted(&before.replace("0x10000000", "0x20000000")), sorted(&after));
    assert!(world.start().expect("a start").changed.is_empty());
}

#[test]
fn start_puts_its_jumps_before_rules_that_were_put_before_them() {
    let mut world = World::with_file("[gateway]\ninner-only = [\"l2tp\"]\n");
    world.start().expect("a start");
    world.up(&net());
    let before: Vec<_> = [Kind::Filter, Kind::Nat].map(|kind| rules(&mut world, kind)).into();
    let above = "*filter\n-I INPUT 1 -j ACCEPT\nCOMMIT\n*nat\n-I POSTROUTING 1 -j MASQUERADE\nCOMMIT\n";
    world.emulator(Family::Ipv4).restore(above).expect("rules above");
    assert!(!world.start().expect("a start").changed.is_empty());
    for (kind, chain, before) in [
        (Kind::Filter, "INPUT", &before[0]),
        (Kind::Nat, "POSTROUTING", &before[1]),
    ] {
        let now = rules(&mut world, kind);
        let first = now.lines().find(|line| line.starts_with(&format!("-A {chain} ")));
        assert_eq!(first, Some(&*format!("-A {chain} -j PLUTO-{chain}")), "{now}");
        assert_eq!(now.lines().count(), before.lines().count() + 1, "{now}");
    }
    assert!(world.start().expect("a start").changed.is_empty());
}

#[test]
fn networks_that_a_tunnel_joins_and_the_settings_name_are_blocked_once() {
    let mut world = World::with_file(
        "[[connection]]\nname = \"net\"\nwhen-down = \"block\"\nbetween = [[\"10.1.0.0/24\", \"10.2.0.0/24\"]]\n",
    );
    world.up(&net());
    let filter = rules(&mut world, Kind::Filter);
    let dropped = "-s 10.2.0.0/24 -d 10.1.0.0/24 -j DROP";
    assert_eq!(filter.matches(dropped).count(), 1, "{filter}");
    world.start().expect("a start");
    assert_eq!(rules(&mut world, Kind::Filter), filter);
}

/// What is allowed to a tunnel that its daemon describes so.
fn allowed(file: &str, call: &Call) -> String {
    settings(file).policy(&call.tunnel()).allow.to_string()
}

const GUESTS: &str = "[tunnel]\nallow = \"all\"\n[[connection]]\npeer-id = \"*@guest.example\"\nallow = \"none\"\n";
const STAFF: &str = "[tunnel]\nallow = \"none\"\n[[connection]]\npeer-id = \"*@staff.example\"\nallow = \"all\"\n";

#[test]
fn no_spelling_of_an_identity_passes_by_an_entry_that_forbids() {
    let long = format!("{}@guest.example", "e".repeat(600));
    let cut = format!("{}@guest.example", "e".repeat(500));
    let cut = &cut[..511];
    for (identity, allow) in [
        ("eve@guest.example", "none"),
        ("eve,x@guest.example", "none"),
        ("a b@guest.example", "none"),
        ("eve\\x@guest.example", "none"),
        ("C=CH, CN=eve@guest.example", "none"),
        ("eve/x@guest.example", "none"),
        ("eve@x@guest.example", "none"),
        ("eve@Guest.EXAMPLE", "none"),
        (long.as_str(), "none"),
        (cut, "none"),
        ("anna@staff.example", "all"),
        ("guest.example", "all"),
    ] {
        assert_eq!(allowed(GUESTS, &road_warrior(identity)), allow, "{identity}");
    }
}

#[test]
fn no_spelling_of_an_identity_passes_for_one_that_an_entry_allows() {
    let long = format!("{}@staff.example", "e".repeat(600));
    for (identity, allow) in [
        ("anna@staff.example", "all"),
        ("eve,x@staff.example", "none"),
        ("C=CH, CN=eve@staff.example", "none"),
        ("anna@STAFF.example", "none"),
        (long.as_str(), "none"),
    ] {
        assert_eq!(allowed(STAFF, &road_warrior(identity)), allow, "{identity}");
    }
}

#[test]
fn an_identity_is_the_same_under_every_daemon_that_can_write_it() {
    let settings = "[tunnel]\nallow = \"none\"\n[[connection]]\npeer-id = \"C=FR, O=L'Exemple, CN=*\"\nallow = \"all\"\n\
                    [[connection]]\npeer-id = 'C=DE, O=Gr\u{fc}n \"Nord\" GmbH, CN=*'\nallow = \"replies\"\n";
    let libreswan5 = libreswan("rw", 16389, "10.1.0.0/24", "10.9.0.1/32");
    let libreswan4 = libreswan5.clone().without("PLUTO_CLIENT_FAMILY");
    let libreswan54 = libreswan5.clone().with("PLUTO_DNS_RESOLVER", "file");
    let strongswan = road_warrior("");
    for (call, identity, allow) in [
        (&libreswan4, r"C=FR, O=L\047Exemple, CN=anna", "all"),
        (&libreswan5, r"C=FR, O=L\047Exemple, CN=anna", "all"),
        (&libreswan54, "C=FR, O=L'Exemple, CN=anna", "all"),
        (&strongswan, "C=FR, O=L'Exemple, CN=anna", "all"),
        (
            &libreswan4,
            r"C=DE, O=Gr\134C3\134BCn \134\042Nord\134\042 GmbH, CN=anna",
            "replies",
        ),
        (
            &libreswan5,
            r"C=DE, O=Gr\134C3\134BCn \134\042Nord\134\042 GmbH, CN=anna",
            "replies",
        ),
        (&libreswan54, r#"C=DE, O=Gr\C3\BCn \"Nord\" GmbH, CN=anna"#, "replies"),
        // Every ? may be another byte: what both allow.
        (&strongswan, "C=DE, O=Gr??n \"Nord\" GmbH, CN=anna", "none"),
    ] {
        assert_eq!(
            allowed(settings, &call.clone().with("PLUTO_PEER_ID", identity)),
            allow,
            "{identity}"
        );
    }
}

#[test]
fn a_user_counts_only_when_authenticated_and_as_the_daemon_can_write_the_name() {
    let call = libreswan("rw", 16389, "10.1.0.0/24", "10.9.0.1/32");
    let anna = "[tunnel]\nallow = \"none\"\n[[connection]]\nuser = \"anna\"\nallow = \"all\"\n";
    let user = |failed: &str| call.clone().with("PLUTO_USERNAME", "anna").with("XAUTH_FAILED", failed);
    assert_eq!(allowed(anna, &user("0")), "all");
    assert_eq!(allowed(anna, &user("1")), "none");
    let realm = "[tunnel]\nallow = \"all\"\n[[connection]]\nuser = \"*@guest.example\"\nallow = \"none\"\n";
    // As libreswan strips eve@guest.example.
    assert_eq!(
        allowed(realm, &call.clone().with("PLUTO_USERNAME", "eveguest.example")),
        "none"
    );
    assert_eq!(allowed(realm, &user("0")), "all");
}

#[test]
fn a_name_is_the_connections_in_the_configuration() {
    let settings = "[tunnel]\nallow = \"none\"\n[[connection]]\nname = \"net\"\nallow = \"all\"\n\
                    [[connection]]\nname = \"part/1x2\"\nallow = \"replies\"\n";
    for (name, allow) in [
        ("net", "all"),
        ("net/1x1", "all"),
        ("net#192.0.2.0/24", "all"),
        ("net#192.0.2.0/24-(6--0--80)", "all"),
        ("network/1x1", "none"),
        ("part/1x2", "replies"),
        ("part/1x1", "none"),
    ] {
        let call = libreswan(name, 16389, "10.1.0.0/24", "10.9.0.1/32");
        assert_eq!(allowed(settings, &call), allow, "{name}");
    }
    // charon forms no names: this is another child.
    let call = strongswan("net/1x1", 1, "10.1.0.0/24", "10.9.0.1/32");
    assert_eq!(allowed(settings, &call), "none");
}

#[test]
fn a_doubt_is_reported_in_one_line() {
    let settings = settings(GUESTS);
    let doubts = |identity| {
        settings
            .uncertain_entries(&road_warrior(identity).tunnel())
            .map(|doubts| doubts.to_string())
    };
    assert_eq!(doubts("eve@guest.example"), None);
    assert_eq!(doubts("anna@staff.example"), None);
    assert_eq!(
        doubts("eve,x@guest.example").as_deref(),
        Some("[[connection]] 1, peer-id = \"*@guest.example\" may or may not apply: only what both allow is allowed")
    );
}

#[test]
fn networks_are_blocked_for_a_tunnel_that_may_be_meant() {
    let settings = settings(
        "[[connection]]\npeer-id = \"*@guest.example\"\nwhen-down = \"block\"\nbetween = [[\"10.1.0.0/16\", \"10.2.0.0/16\"]]\n",
    );
    let call = strongswan("rw", 1, "10.1.0.0/24", "10.2.0.0/24");
    let pairs = |identity| {
        settings
            .blocked_pairs_of(&call.clone().with("PLUTO_PEER_ID", identity).tunnel())
            .len()
    };
    assert_eq!((pairs("eve,x@guest.example"), pairs("anna@staff.example")), (1, 0));
}

#[test]
fn an_identity_that_a_user_only_claims_opens_nothing() {
    let claims = |user: &str| road_warrior("anna@staff.example").with("PLUTO_XAUTH_ID", user);
    assert_eq!(allowed(STAFF, &claims("anna@staff.example")), "all");
    assert_eq!(allowed(STAFF, &claims("eve")), "none");
    let both = STAFF.replace("allow = \"all\"", "user = \"anna\"\nallow = \"all\"");
    assert_eq!(allowed(&both, &claims("anna")), "all");
    assert_eq!(allowed(&both, &claims("eve")), "none");
}

#[test]
fn whoever_runs_the_machine_is_warned_what_blocks_nothing() {
    let mut world = World::with_file("[tunnel]\nwhen-down = \"block\"\n");
    let network = strongswan("net", 1, "10.1.0.0/24", "0.0.0.0/0");
    world.up(&network.tunnel());
    assert!(world.notes.is_empty(), "{:?}", world.notes);
    let road = strongswan("road", 2, "10.9.0.3/32", "0.0.0.0/0");
    let road = road.with("PLUTO_MY_SOURCEIP", "10.9.0.3").tunnel();
    world.up(&road);
    let [note] = &world.notes[..] else {
        panic!("{:?}", world.notes)
    };
    assert!(
        note.starts_with("road: when-down = \"block\" blocks only packets from 10.9.0.3"),
        "{note}"
    );
    // Once: an up that changes nothing is no news.
    world.up(&road);
    assert_eq!(world.notes.len(), 1);
}

#[test]
fn whoever_runs_the_machine_is_warned_where_tunnels_that_are_alike_conflict() {
    let mut world = World::with_file(
        "[[connection]]\nname = \"one\"\nmss = 1360\n[[connection]]\nname = \"two\"\nnat = \"leave\"\n",
    );
    for name in ["one", "two"] {
        world.up(&strongswan(name, 1, "10.1.0.0/24", "10.2.0.0/24").tunnel());
    }
    let [note] = &world.notes[..] else {
        panic!("{:?}", world.notes)
    };
    assert!(
        note.starts_with("two has the selectors and the reqid of one, but another nat and mss"),
        "{note}"
    );
}
