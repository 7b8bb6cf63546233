//! How many programs a call starts and with what, and calls at the same time.

use std::time::{Duration, Instant};
use std::{fs, thread};

use super::fakes::Fakes;
use crate::support::captures::{find_call, libreswan_up, strongswan_up};

const RESTORE: &str = "iptables-restore --noflush -w 5";

#[test]
fn a_life_of_a_libreswan_tunnel_takes_two_restores() {
    let mut fakes = Fakes::new();
    let call = |verb: &str| libreswan_up().with_verb(verb);
    for (verb, programs) in [
        ("prepare-client", 0),
        ("route-client", 0),
        ("up-client", 1),
        ("up-client", 0),
        ("prepare-client", 0),
        ("route-client", 0),
        ("up-client", 0),
        ("down-client", 1),
        ("down-client", 0),
        ("unroute-client", 0),
    ] {
        fakes.expect_success(&call(verb));
        assert_eq!(fakes.started_by_last(), vec![RESTORE; programs], "{verb}");
    }
    fakes.assert_forgotten();
}

#[test]
fn a_joined_verb_takes_one_restore() {
    let mut fakes = Fakes::new();
    let up = find_call("libreswan-5.4-async", "net-net", "prepare-route-up");
    fakes.expect_success(&up);
    assert_eq!(fakes.started_by_last(), [RESTORE]);
    fakes.expect_success(&up);
    fakes.assert_nothing_started();
    fakes.expect_success(&up.with_verb("down-client"));
    assert_eq!(fakes.started_by_last(), [RESTORE]);
    fakes.assert_forgotten();
}

#[test]
fn strongswans_ups_are_counted_without_a_program() {
    let mut fakes = Fakes::new();
    // Reauthentication: the new one comes before the old one goes.
    for (unique_id, verb, programs) in [
        ("1", "up-client", 1),
        ("2", "up-client", 0),
        ("1", "down-client", 0),
        ("3", "up-client", 0),
        ("9", "down-client", 0),
        ("3", "down-client", 1),
        ("3", "down-client", 0),
    ] {
        fakes.expect_success(&strongswan_up().with_verb(verb).with("PLUTO_UNIQUEID", unique_id));
        assert_eq!(fakes.started_by_last(), vec![RESTORE; programs], "{unique_id} {verb}");
    }
    fakes.assert_forgotten();
}

#[test]
fn a_tunnel_with_something_in_two_tables_takes_one_restore_too() {
    let mut fakes = Fakes::new();
    let cat = libreswan_up()
        .with("CAT", "YES")
        .with("PLUTO_MY_CLIENT", "10.0.10.1/32");
    for (call, sections) in [
        (cat.clone(), ["*nat", "*filter"]),
        (cat.opposite(), ["*filter", "*nat"]),
    ] {
        fakes.expect_success(&call);
        assert_eq!(fakes.started_by_last(), [RESTORE]);
        let (_, text) = fakes.inputs().remove(0);
        let begun: Vec<_> = text.lines().filter(|line| line.starts_with('*')).collect();
        assert_eq!(begun, sections);
    }
    fakes.assert_forgotten();
}

#[test]
fn a_call_that_finds_rules_missing_lists_the_tables_once_and_loads_none() {
    let cat = libreswan_up()
        .with("CAT", "YES")
        .with("PLUTO_MY_CLIENT", "10.0.10.1/32");
    for up in [libreswan_up(), cat] {
        let mut fakes = Fakes::new();
        fakes.expect_success(&up);
        // Somebody reloads the firewall.
        fakes.tables = Default::default();
        fakes.restore_does("grep -q -e '^-C' -e '^-D' \"$dir/input.$number\" && exit 1; exit 0");
        fakes.call_in_vain(&up.clone().of_tunnel(9)).assert_done();
        let all = fakes.started_by_last();
        // With -t, iptables-legacy-save would load a table into the kernel.
        assert_eq!(all[1..all.len() - 1], ["iptables-save -c"]);
    }
}

#[test]
fn an_up_that_changes_its_tunnel_takes_one_restore() {
    let mut fakes = Fakes::new();
    fakes.expect_success(&libreswan_up());
    fakes.expect_success(&libreswan_up().with("PLUTO_SA_REQID", "16393"));
    assert_eq!(fakes.started_by_last(), [RESTORE]);
    assert!(fakes.tables[0].save().contains("--reqid 16393") && !fakes.tables[0].save().contains("--reqid 16389"));
    // What was installed counts, not what the call says.
    fakes.expect_success(&libreswan_up().opposite());
    assert_eq!(fakes.chains(0), Vec::<&str>::new());
}

#[test]
fn a_family_has_its_own_program() {
    let mut fakes = Fakes::new();
    let v6 = find_call("libreswan-5.4", "v6", "up-client-v6");
    fakes.expect_success(&v6);
    assert_eq!(fakes.started_by_last(), ["ip6tables-restore --noflush -w 5"]);
    // libreswan 4 forms the suffix of the verb by the family of the hosts.
    fakes.expect_success(&v6.clone().with_verb("up-client"));
    fakes.assert_nothing_started();
    assert_eq!(fakes.chains(0), Vec::<&str>::new());
    fakes.expect_success(&v6.with_verb("down-client"));
    fakes.assert_forgotten();
}

#[test]
fn the_lock_of_xtables_is_waited_for_as_long_as_asked() {
    let fakes = Fakes::new();
    fakes.hook().option("--wait", "7").expect_success(&libreswan_up());
    assert_eq!(fakes.started(), ["iptables-restore --noflush -w 7"]);
}

#[test]
fn calls_that_make_and_remove_the_same_folders_at_once_all_succeed() {
    let fakes = Fakes::new();
    let life = |number: usize| {
        let up = libreswan_up().of_tunnel(number);
        for _ in 0..60 {
            fakes.hook().expect_success(&up);
            fakes.hook().expect_success(&up.clone().opposite());
        }
    };
    thread::scope(|scope| {
        for number in 1..=6 {
            scope.spawn(move || life(number));
        }
    });
    fakes.assert_forgotten();
}

/// Waits, but not for ever, until something is so; says whether it is.
fn becomes_true(longest: Duration, is_so: impl Fn() -> bool) -> bool {
    let begun = Instant::now();
    while !is_so() && begun.elapsed() < longest {
        thread::sleep(Duration::from_millis(5));
    }
    is_so()
}

/// A restore that outlives its call may yet commit. Were the next call to begin before, that commit would come on top of what it
/// has set right, and nobody would know.
#[test]
fn a_call_does_not_begin_while_a_killed_calls_restore_still_runs() {
    let fakes = Fakes::new();
    fakes.restore_does("until [ -e \"$dir/go\" ]; do sleep 0.01; done; echo 'restore ends' >>\"$dir/log\"");
    let mut killed = fakes.hook().command(&libreswan_up()).spawn().expect("a first call");
    assert!(
        becomes_true(Duration::from_secs(20), || fakes.started().len() == 1),
        "no restore was started"
    );
    killed.kill().expect("killing the first call");
    killed.wait().expect("the end of the first call");

    let second = fakes
        .hook()
        .command(&libreswan_up().of_tunnel(9))
        .spawn()
        .expect("a second call");
    let overtaken = becomes_true(Duration::from_secs(1), || fakes.started().len() > 1);
    fs::write(fakes.path("go"), "").expect("letting the restores end");
    let ending = second.wait_with_output().expect("the end of the second call");
    assert!(ending.status.success());
    assert!(!overtaken, "{:?}", fakes.started());
}
