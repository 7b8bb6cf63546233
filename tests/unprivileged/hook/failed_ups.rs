//! A tunnel that is up without rules is shown until it has rules, or is no longer up.

use std::fs::{self, File};

use nix::fcntl::{Flock, FlockArg};
use serde_json::Value;

use super::fakes::Fakes;
use crate::support::binary::{Call, is_printable};
use crate::support::captures::{libreswan_up, strongswan_up};

/// What `status --json` says of tunnels without rules. It is a problem exactly if there is one.
fn without_rules_in_json(fakes: &mut Fakes) -> Vec<Value> {
    let ending = fakes.operate(&["status", "--json"]);
    let document: Value = serde_json::from_str(&ending.out_text()).expect("JSON");
    let shown = document["without_rules"].as_array().expect("a list").clone();
    let problems = document["problems"].as_array().expect("problems");
    let output = problems.iter().filter(|problem| problem["kind"] == "no-rules").count();
    assert_eq!(output, shown.len(), "{document}");
    shown
}

/// The kernel takes nothing, until this is over.
fn refusing(fakes: &mut Fakes, call: &Call) {
    fakes.restore_does("echo refused >&2; exit 4");
    fakes.call_in_vain(call).assert_refused(1, &["refused"]);
    fakes.restore_does("exit 0");
}

#[test]
fn charon_keeps_a_tunnel_whose_up_failed_and_status_says_so() {
    let mut fakes = Fakes::new();
    let up = strongswan_up();
    refusing(&mut fakes, &up);
    let shown = without_rules_in_json(&mut fakes);
    assert_eq!(shown.len(), 1);
    assert_eq!(shown[0]["connection"], "net-net");
    assert!(shown[0]["reason"].as_str().expect("a reason").contains("refused"));
    let ending = fakes.operate(&["status"]);
    assert_eq!(ending.code, Some(1));
    let text = ending.out_text();
    assert!(
        text.starts_with("NOT OK: 1 tunnel up without rules (1 tunnel up)"),
        "{text}"
    );
    assert!(text.contains("net-net (10.2.0.0/24): up without rules for "), "{text}");
    assert!(text.contains("  fix: pluto-updown start\n"), "{text}");
    // Asked for by name, it is not said not to be up.
    let text = fakes.operate(&["status", "net-net"]).out_text();
    assert!(!text.contains("no tunnel is up"), "{text}");
    let ending = fakes.operate(&["explain", "net-net"]);
    assert_eq!(ending.code, Some(1));
    assert!(
        ending.err_text().contains("net-net is up without rules: "),
        "{}",
        ending.err_text()
    );
    let text = fakes.operate(&["status", "--expect", "net-net"]).out_text();
    assert!(!text.contains("not up"), "{text}");
    let text = fakes.operate(&["status", "--prometheus"]).out_text();
    assert!(text.contains("\npluto_updown_tunnels_without_rules 1\n"), "{text}");
    assert!(text.contains("problems{severity=\"error\"} 1\n"), "{text}");
    let ending = fakes.operate(&["status", "--nagios"]);
    assert!(
        ending.code == Some(2) && ending.out_text().contains("up without rules"),
        "{}",
        ending.out_text()
    );
}

/// A failed `up` ends a tunnel under Pluto, unless `on-error` says otherwise.
#[test]
fn pluto_keeps_only_what_on_error_tolerates() {
    let mut fakes = Fakes::new();
    let up = libreswan_up();
    refusing(&mut fakes, &up);
    fakes.assert_forgotten();
    fakes.settings("[tunnel]\nnat = \"leave\"\non-error = \"continue\"\n");
    fakes.restore_does("echo refused >&2; exit 4");
    assert_eq!(fakes.call_in_vain(&up).code, Some(0));
    assert_eq!(without_rules_in_json(&mut fakes).len(), 1);
    fakes.restore_does("exit 0");
    fakes.expect_success(&up);
    assert_eq!(without_rules_in_json(&mut fakes), Vec::<Value>::new());
    fakes.expect_success(&up.opposite());
    fakes.assert_forgotten();
}

#[test]
fn the_next_up_or_the_down_or_a_flush_ends_it() {
    let up = strongswan_up();
    let by_up = |fakes: &mut Fakes| {
        fakes.expect_success(&up);
        assert_eq!(without_rules_in_json(fakes), Vec::<Value>::new());
        fakes.expect_success(&up.clone().opposite());
    };
    let by_down = |fakes: &mut Fakes| fakes.expect_success(&up.clone().opposite());
    let by_flush = |fakes: &mut Fakes| assert_eq!(fakes.operate(&["flush"]).code, Some(0));
    let ends: [&dyn Fn(&mut Fakes); 3] = [&by_up, &by_down, &by_flush];
    for end in ends {
        let mut fakes = Fakes::new();
        refusing(&mut fakes, &up);
        refusing(&mut fakes, &up);
        assert_eq!(
            without_rules_in_json(&mut fakes).len(),
            1,
            "the second note replaces the first"
        );
        end(&mut fakes);
        fakes.assert_forgotten();
    }
}

/// Two SAs of one peer with equal selectors: the old and the new one at a reauthentication. charon numbers them.
#[test]
fn of_two_ups_without_rules_a_down_ends_one() {
    let at = |number: &str| strongswan_up().with("PLUTO_UNIQUEID", number);
    for ended in ["1", "2", "7"] {
        let mut fakes = Fakes::new();
        refusing(&mut fakes, &at("1"));
        refusing(&mut fakes, &at("2"));
        assert_eq!(without_rules_in_json(&mut fakes).len(), 2);
        fakes.expect_success(&at(ended).opposite());
        assert_eq!(without_rules_in_json(&mut fakes).len(), 1, "{ended}");
        // A rekey of IKE has given another number, without a call.
        fakes.expect_success(&at("8").opposite());
        fakes.assert_forgotten();
    }
    let mut fakes = Fakes::new();
    refusing(&mut fakes, &at("1"));
    refusing(&mut fakes, &at("2"));
    fakes.expect_success(&at("3"));
    assert_eq!(
        without_rules_in_json(&mut fakes),
        Vec::<Value>::new(),
        "they have rules now"
    );
}

/// How many `up`s the record counts.
fn openers_in_json(fakes: &mut Fakes) -> u64 {
    let ending = fakes.operate(&["status", "--json"]);
    let document: Value = serde_json::from_str(&ending.out_text()).expect("JSON");
    let tunnels = document["tunnels"].as_array().expect("a list");
    tunnels.iter().map(|tunnel| tunnel["ups"].as_u64().expect("ups")).sum()
}

/// charon ignores that an `up` failed, so the `down` of that SA comes, and is not that of the SA that has brought the rules. At a
/// reauthentication it comes after the `up` of the new SA.
#[test]
fn the_down_of_an_up_that_failed_leaves_the_rules_of_another_sa() {
    let at = |number: &str| strongswan_up().with("PLUTO_UNIQUEID", number);
    for (failed, downs) in [
        (&["1"][..], ["1", "3"].as_slice()),
        (&["1"], &["3", "1"]),
        (&["1", "2"], &["1", "2", "3"]),
        (&["1", "2"], &["3", "2", "1"]),
    ] {
        let mut fakes = Fakes::new();
        failed.iter().for_each(|number| refusing(&mut fakes, &at(number)));
        fakes.expect_success(&at("3"));
        assert_eq!(without_rules_in_json(&mut fakes), Vec::<Value>::new());
        for (left, number) in (0..downs.len()).rev().zip(downs) {
            fakes.expect_success(&at(number).opposite());
            assert_eq!(
                openers_in_json(&mut fakes),
                left as u64,
                "{failed:?} {downs:?} {number}"
            );
        }
        fakes.assert_forgotten();
    }
}

/// Others' calls leave it alone, and so does a second peer of the same selectors.
#[test]
fn it_ends_with_no_other_tunnels_call() {
    let mut fakes = Fakes::new();
    let up = strongswan_up();
    let others = [
        up.clone().of_tunnel(9),
        up.clone().with("PLUTO_PEER_ID", "somebody else"),
    ];
    refusing(&mut fakes, &up);
    for other in &others {
        fakes.expect_success(other);
        fakes.expect_success(&other.clone().opposite());
        assert_eq!(without_rules_in_json(&mut fakes).len(), 1, "{other}");
    }
    fakes.expect_success(&up.opposite());
    fakes.assert_forgotten();
}

#[test]
fn a_peer_that_mobike_has_moved_is_found_by_its_identity() {
    let mut fakes = Fakes::new();
    let up = strongswan_up()
        .with("PLUTO_PEER", "192.0.2.7")
        .with("PLUTO_PEER_CLIENT", "192.0.2.7/32");
    refusing(&mut fakes, &up);
    let moved = up
        .opposite()
        .with("PLUTO_PEER", "192.0.2.99")
        .with("PLUTO_PEER_CLIENT", "192.0.2.99/32");
    fakes.expect_success(&moved);
    fakes.assert_forgotten();
}

/// Children of one peer, and peers that cannot be distinguished by their identity.
#[test]
fn it_does_not_end_with_another_tunnel_of_a_peer_that_can_move() {
    let child = |local: &str, peer: &str| {
        strongswan_up()
            .with("PLUTO_MY_CLIENT", format!("{local}/24"))
            .with("PLUTO_PEER", peer)
            .with("PLUTO_PEER_CLIENT", format!("{peer}/32"))
    };
    let up = child("10.1.0.0", "192.0.2.7");
    for other in [child("10.5.0.0", "192.0.2.7"), child("10.1.0.0", "192.0.2.99")] {
        let mut fakes = Fakes::new();
        refusing(&mut fakes, &up);
        fakes.expect_success(&other);
        assert_eq!(without_rules_in_json(&mut fakes).len(), 1, "{other}");
        fakes.expect_success(&other.clone().opposite());
        assert_eq!(without_rules_in_json(&mut fakes).len(), 1, "{other}");
        refusing(&mut fakes, &other);
        assert_eq!(without_rules_in_json(&mut fakes).len(), 2, "{other}");
        fakes.expect_success(&other.clone().opposite());
        assert_eq!(without_rules_in_json(&mut fakes).len(), 1, "{other}");
        fakes.expect_success(&up.clone().opposite());
        fakes.assert_forgotten();
    }
}

/// Which of two peers has moved is not known, so both stay.
#[test]
fn a_down_that_may_mean_either_of_two_ends_neither() {
    let mut fakes = Fakes::new();
    let at = |peer: &str| {
        strongswan_up()
            .with("PLUTO_PEER", peer)
            .with("PLUTO_PEER_CLIENT", format!("{peer}/32"))
    };
    refusing(&mut fakes, &at("192.0.2.7"));
    refusing(&mut fakes, &at("192.0.2.8"));
    fakes.expect_success(&at("192.0.2.99").opposite());
    assert_eq!(without_rules_in_json(&mut fakes).len(), 2);
}

/// The call does not get the lock.
fn locked_out(fakes: &mut Fakes, call: &Call) {
    let file = File::open(fakes.namespace().join("lock")).expect("the lock");
    let held = Flock::lock(file, FlockArg::LockExclusive).expect("holding it");
    let ending = fakes.hook().option("--wait", "1").call(call);
    drop(held);
    assert!(ending.err_text().contains("held the lock"), "{}", ending.err_text());
}

/// A `down` that is executed late is older than the `up` that failed after it.
#[test]
fn a_late_down_does_not_end_what_failed_after_it() {
    let up = strongswan_up();
    let down = up.clone().opposite();
    let causes: [fn(&mut Fakes, &Call); 2] = [locked_out, refusing];
    for postpone in causes {
        let mut fakes = Fakes::new();
        fakes.expect_success(&up);
        postpone(&mut fakes, &down);
        // Fails before it would execute the `down`.
        fakes.settings("[tunnel]\nallow = \"everything\"\n");
        fakes.call_in_vain(&up).assert_refused(2, &["settings.toml"]);
        assert_eq!(fakes.recorded().len(), 1);
        fakes.expect_success(&up.clone().with_verb("prepare-client"));
        assert!(fakes.recorded().is_empty());
        assert_eq!(without_rules_in_json(&mut fakes).len(), 1);
        fakes.expect_success(&down);
        fakes.assert_forgotten();
    }
}

#[test]
fn a_late_down_ends_what_failed_before_it_at_once() {
    let mut fakes = Fakes::new();
    let (up, other) = (strongswan_up(), strongswan_up().of_tunnel(9));
    fakes.expect_success(&other);
    refusing(&mut fakes, &up);
    assert_eq!(without_rules_in_json(&mut fakes).len(), 1);
    locked_out(&mut fakes, &up.opposite());
    assert_eq!(without_rules_in_json(&mut fakes), Vec::<Value>::new());
    fakes.expect_success(&other.opposite());
    fakes.assert_forgotten();
}

/// Whatever the reason: the settings, the lock, or what the tunnel is.
#[test]
fn every_reason_is_reported_on_one_printable_line() {
    let mut fakes = Fakes::new();
    let hostile = strongswan_up().with("PLUTO_PEER_ID", "a/b\u{1b}[2J\u{202e}'\"\\ ".repeat(20));
    fakes.settings("[tunnel]\nallow = \"everything\"\n");
    fakes.call_in_vain(&hostile).assert_refused(2, &["settings.toml"]);
    fakes.settings("[tunnel]\nnat = \"leave\"\n");
    fakes.expect_success(&libreswan_up().of_tunnel(3));
    let file = File::open(fakes.namespace().join("lock")).expect("the lock");
    let held = Flock::lock(file, FlockArg::LockExclusive).expect("holding it");
    let ending = fakes.hook().option("--wait", "1").call(&strongswan_up().of_tunnel(4));
    assert!(ending.err_text().contains("held the lock"), "{}", ending.err_text());
    drop(held);
    let reasons: Vec<_> = without_rules_in_json(&mut fakes)
        .iter()
        .map(|one| one["reason"].to_string())
        .collect();
    assert_eq!(reasons.len(), 2, "{reasons:?}");
    assert!(reasons.iter().any(|reason| reason.contains("allow")), "{reasons:?}");
    assert!(
        reasons.iter().any(|reason| reason.contains("held the lock")),
        "{reasons:?}"
    );
    let text = fakes.operate(&["status", "-v"]).out_text();
    assert!(text.lines().all(|line| is_printable(line.as_bytes())), "{text}");
    fakes.expect_success(&hostile.opposite());
    assert_eq!(without_rules_in_json(&mut fakes).len(), 1);
}

/// What is only shown is not noted.
#[test]
fn a_dry_run_notes_nothing() {
    let fakes = Fakes::new();
    fakes.settings("[tunnel]\nallow = \"everything\"\n");
    let ending = fakes.hook().word("--dry-run").call(&strongswan_up());
    assert_eq!(ending.code, Some(2));
    fakes.assert_forgotten();
}

/// A deleted namespace had the number of this one, and left a record. The first `up` fails before it takes the lock.
#[test]
fn a_first_up_that_fails_in_a_namespace_with_a_number_that_is_used_again_is_noted() {
    let mut fakes = Fakes::new();
    fakes.expect_success(&libreswan_up().of_tunnel(9));
    let folder = fakes.namespace();
    let names = fs::read_dir(&folder)
        .expect("a record")
        .map(|entry| entry.expect("an entry").file_name());
    let marks: Vec<_> = names
        .filter(|name| name.to_string_lossy().starts_with("socket-"))
        .collect();
    let [mark] = &marks[..] else { panic!("{marks:?}") };
    fs::rename(folder.join(mark), folder.join("socket-1")).expect("another namespace's mark");
    fakes.tables = Default::default();
    fakes.settings("[tunnel]\nallow = \"everything\"\n");
    fakes.call_in_vain(&strongswan_up()).assert_refused(2, &["allow"]);
    assert_eq!(without_rules_in_json(&mut fakes).len(), 1);
    assert!(!fakes.operate(&["status"]).out_text().contains("tunnel-9"));
}

#[test]
fn an_up_that_was_killed_and_is_completed_by_the_next_call_has_rules() {
    let mut fakes = Fakes::new();
    let up = strongswan_up();
    fakes.restore_does("kill -9 $$");
    fakes.call_in_vain(&up).assert_refused(1, &["signal 9"]);
    fakes.restore_does("exit 0");
    assert_eq!(without_rules_in_json(&mut fakes).len(), 1);
    fakes.expect_success(&libreswan_up().with_verb("route-client"));
    assert_eq!(without_rules_in_json(&mut fakes).len(), 0);
    fakes.expect_success(&up.opposite());
    fakes.assert_forgotten();
}
