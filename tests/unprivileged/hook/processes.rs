//! What iptables-restore may do instead of its work.

use std::ffi::OsStr;
use std::fs;
use std::path::Path;

use super::fakes::Fakes;
use crate::support::binary::{Call, Ending, write_program};
use crate::support::captures::{libreswan_up, strongswan_up};

/// A gateway with one tunnel, of libreswan.
fn with_a_tunnel() -> Fakes {
    let mut fakes = Fakes::new();
    fakes.expect_success(&libreswan_up().of_tunnel(9));
    fakes
}

/// Makes a call that fails, and nothing has changed by it.
#[track_caller]
fn fails(fakes: &mut Fakes, call: &Call, named: &[&str]) -> Ending {
    let before = fakes.everything();
    let ending = fakes.call_in_vain(call);
    ending.assert_refused(1, named);
    if call.variables.contains_key(OsStr::new("PLUTO_UNIQUEID")) {
        // charon keeps the tunnel, which is noted until its `down`.
        fakes.hook().call(&call.clone().opposite()).assert_done();
    }
    assert_eq!(fakes.everything(), before, "{call}");
    ending
}

#[test]
fn a_restore_that_fails_leaves_everything_as_it_was() {
    for status in ["1", "2", "4", "111"] {
        let mut fakes = with_a_tunnel();
        fakes.restore_does(&format!("echo 'iptables-restore: line 2 failed' >&2; exit {status}"));
        let named = [&format!("status {status}"), "iptables-restore", "line 2 failed"];
        fails(&mut fakes, &libreswan_up(), &named);
        fails(&mut fakes, &strongswan_up(), &named);
        fakes.assert_owes(&libreswan_up().of_tunnel(9).opposite(), &named);
        fakes.restore_does("exit 0");
        fakes.expect_success(&libreswan_up().of_tunnel(9).opposite());
        assert_eq!(fakes.chains(0), Vec::<&str>::new());
        fakes.assert_forgotten();
    }
}

/// As iptables-nft 1.8.9 and iptables-legacy 1.8.9 say it.
#[test]
fn a_module_that_the_kernel_lacks_is_named_in_one_line_and_nothing_is_opened() {
    const WARNING: &str = "Warning: Extension MARK revision 0 not supported, missing kernel module?";
    for error in [
        "iptables-restore v1.8.9 (nf_tables): line 9: RULE_APPEND failed (No such file or directory): rule in chain PLUTO-DECRYPTED",
        "iptables-restore: line 31 failed",
    ] {
        for settings in ["", "tunnel.allow = \"none\"\ntunnel.on-error = \"continue\"\n"] {
            let mut fakes = Fakes::new();
            fakes.settings(settings);
            fakes.restore_does(&format!("printf '%s\\n' '{WARNING}' '{error}' >&2; exit 1"));
            for up in [libreswan_up(), strongswan_up()] {
                let ending = fakes.call_in_vain(&up);
                ending.assert_one_line();
                let text = ending.err_text();
                for words in ["up-client", "Extension MARK", "missing kernel module?"] {
                    assert!(text.contains(words), "{words}: {text}");
                }
                // What is recorded is at most that the tunnel is up without rules.
                let recorded = fakes.everything().into_keys();
                let rules: Vec<_> = recorded
                    .filter(|path| path.to_string_lossy().contains("plain-ipv4"))
                    .collect();
                assert_eq!(rules, [""; 0].map(std::path::PathBuf::from), "{settings}");
            }
        }
    }
}

#[test]
fn the_first_up_that_fails_leaves_no_file() {
    for up in [libreswan_up(), strongswan_up()] {
        let mut fakes = Fakes::new();
        fakes.restore_does("exit 1");
        fails(&mut fakes, &up, &["status 1"]);
        assert_eq!(
            fakes.started_by_last().len(),
            3,
            "another firewall may have loaded its rules meanwhile: it looks, and tries once more"
        );
        fakes.assert_forgotten();
    }
}

#[test]
fn a_failure_that_is_no_drift_is_not_tried_again() {
    for stderr in [
        "Another app is currently holding the xtables lock; still 0s 0us time ahead to have a chance to grab the lock...",
        "iptables-restore v1.8.9 (nf_tables): Could not fetch rule set generation id: Permission denied (you must be root)",
    ] {
        let mut fakes = with_a_tunnel();
        fakes.restore_does(&format!("echo '{stderr}' >&2; exit 4"));
        fails(&mut fakes, &libreswan_up(), &["status 4", &stderr[..20]]);
        assert_eq!(fakes.started_by_last().len(), 1);
    }
}

#[test]
fn a_replacement_that_fails_leaves_the_tunnel_that_was_up() {
    let mut fakes = with_a_tunnel();
    fakes.restore_does("exit 1");
    fails(
        &mut fakes,
        &libreswan_up().of_tunnel(9).with("PLUTO_SA_REQID", "16393"),
        &["status 1"],
    );
    fakes.restore_does("exit 0");
    fakes.expect_success(&libreswan_up().of_tunnel(9));
    fakes.assert_nothing_started();
}

#[test]
fn garbage_from_a_restore_becomes_one_line() {
    let noises = [
        "head -c 1000000 /dev/urandom",
        "yes 'a\x1b[2Jb' | head -c 1000000",
        "head -c 1000000 /dev/zero",
        "printf '\\n\\n\\r\\n'",
    ];
    for noise in noises {
        let mut fakes = with_a_tunnel();
        fakes.restore_does(&format!("{noise} >&2; {noise}; exit 1"));
        fails(&mut fakes, &libreswan_up(), &["status 1"]);
        fakes.restore_does(&format!("{noise}; {noise} >&2; exit 0"));
        fakes.expect_success(&libreswan_up());
    }
}

#[test]
fn garbage_from_a_save_is_passed_over() {
    let mut fakes = with_a_tunnel();
    fakes.save_does("yes ':PLUTO-\x1b -j $(x)' | head -c 1000000; head -c 1000000 /dev/urandom");
    fakes.restore_does("kill -9 $$");
    fakes.call_in_vain(&libreswan_up()).assert_refused(1, &["signal 9"]);
    fakes.restore_does("exit 0");
    // The next call compares, by what the listing says, and sets right what somebody has reloaded.
    fakes.tables = Default::default();
    fakes.call(&libreswan_up().with_verb("prepare-client")).assert_done();
    assert_eq!(fakes.inputs().len(), 1);
    assert_eq!(fakes.recorded().len(), 1);
}

#[test]
fn a_save_that_fails_keeps_the_work_for_the_next_call() {
    let mut fakes = with_a_tunnel();
    fakes.restore_does("kill -9 $$");
    fakes.call_in_vain(&libreswan_up()).assert_refused(1, &["signal 9"]);
    fakes.save_does("echo 'no memory' >&2; exit 3");
    fakes
        .call_in_vain(&libreswan_up())
        .assert_refused(1, &["iptables-save", "status 3", "no memory"]);
    assert!(fakes.namespace().join("pending").exists());
    // A route is no reason to refuse, but the line is worth saying.
    let route = fakes.call_in_vain(&libreswan_up().with_verb("route-client"));
    route.assert_refused(0, &["iptables-save", "status 3"]);
    assert_eq!(fakes.recorded().len(), 1);
    fakes.save_does("exit 0");
    fakes.restore_does("exit 0");
    fakes.expect_success(&libreswan_up().of_tunnel(9).opposite());
    fakes.assert_forgotten();
}

#[test]
fn a_restore_that_was_killed_is_completed_for_strongswan_and_undone_for_libreswan() {
    // Whether the kernel had committed or not: the next call makes no difference.
    for committed in [false, true] {
        for (up, stays) in [(strongswan_up(), true), (libreswan_up(), false)] {
            for next in [up.clone().with_verb("prepare-client"), libreswan_up().of_tunnel(5)] {
                let mut fakes = with_a_tunnel();
                fakes.restore_does("kill -9 $$");
                fakes
                    .call_in_vain(&up)
                    .assert_refused(1, &["iptables-restore", "signal 9"]);
                assert!(fakes.namespace().join("pending").exists());
                if committed {
                    fakes.take();
                }
                fakes.restore_does("exit 0");
                fakes.expect_success(&next);
                let is_installed = |name| fakes.chains(0).iter().any(|chain| chain.contains(name));
                assert_eq!(
                    (is_installed("PLUTO-net-net-"), is_installed("PLUTO-tunnel-9-")),
                    (stays, true),
                    "{up}"
                );
                assert!(!fakes.namespace().join("pending").exists());
                finish(
                    &mut fakes,
                    [up.clone(), libreswan_up().of_tunnel(5), libreswan_up().of_tunnel(9)],
                );
            }
        }
    }
}

#[test]
fn a_down_whose_restore_was_killed_is_completed() {
    for committed in [false, true] {
        let mut fakes = with_a_tunnel();
        fakes.expect_success(&libreswan_up());
        fakes.restore_does("kill -9 $$");
        fakes
            .call_in_vain(&libreswan_up().opposite())
            .assert_refused(1, &["signal 9"]);
        if committed {
            fakes.take();
        }
        fakes.restore_does("exit 0");
        fakes.expect_success(&libreswan_up().with_verb("unroute-client"));
        assert!(!fakes.chains(0).iter().any(|chain| chain.contains("net-net")));
        finish(&mut fakes, [libreswan_up(), libreswan_up().of_tunnel(9)]);
    }
}

/// Takes these tunnels down, of which some may not be up, and nothing is left.
#[track_caller]
fn finish<const N: usize>(fakes: &mut Fakes, ups: [Call; N]) {
    for up in ups {
        fakes.expect_success(&up.opposite());
    }
    assert_eq!(fakes.chains(0), Vec::<&str>::new());
    fakes.assert_forgotten();
}

#[test]
fn a_restore_that_hangs_is_killed_with_its_children_and_undone() {
    let mut fakes = with_a_tunnel();
    fakes.restore_does("sleep 1000 & echo $! $$ >\"$dir/hanging\"; wait");
    let ending = fakes.hook().option("--wait", "1").call(&libreswan_up());
    ending.assert_refused(1, &["iptables-restore", "took too long"]);
    let hanging = fs::read_to_string(fakes.path("hanging")).expect("the numbers of the processes");
    for pid in hanging.split_whitespace() {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        assert!(stat.is_empty() || stat.contains(") Z "), "still runs: {stat}");
    }
    fakes.restore_does("exit 0");
    fakes.expect_success(&libreswan_up().with_verb("prepare-client"));
    assert!(!fakes.chains(0).iter().any(|chain| chain.contains("net-net")));
    finish(&mut fakes, [libreswan_up().of_tunnel(9)]);
}

/// Takes the programs away in one of many ways.
fn break_programs(restore: &Path, how: &str) {
    fs::remove_file(restore).expect("taking the program away");
    match how {
        "a folder" => fs::create_dir(restore).expect("a folder"),
        "not executable" => fs::write(restore, "#!/bin/sh\n").expect("a file"),
        "a link to nothing" => std::os::unix::fs::symlink("/nonexistent", restore).expect("a link"),
        "without its interpreter" => write_program(restore, b"#!/nonexistent\n"),
        "no program" => write_program(restore, b"\0\x01nonsense\n"),
        _ => {}
    }
}

#[test]
fn programs_that_are_missing_or_cannot_be_run_are_named() {
    for how in [
        "missing",
        "a folder",
        "not executable",
        "a link to nothing",
        "without its interpreter",
        "no program",
    ] {
        let mut fakes = with_a_tunnel();
        break_programs(&fakes.programs().join("iptables-restore"), how);
        fails(&mut fakes, &libreswan_up(), &["iptables-restore"]);
        fails(&mut fakes, &strongswan_up(), &["iptables-restore"]);
        fakes.assert_owes(&libreswan_up().of_tunnel(9).opposite(), &["iptables-restore"]);
        let mut fresh = Fakes::new();
        break_programs(&fresh.programs().join("iptables-restore"), how);
        fails(&mut fresh, &libreswan_up(), &["iptables-restore"]);
        fresh.assert_forgotten();
        fresh.expect_success(&libreswan_up().opposite());
    }
}

#[test]
fn a_family_whose_program_is_missing_does_not_stop_the_other() {
    let mut fakes = Fakes::new();
    break_programs(&fakes.programs().join("ip6tables-restore"), "missing");
    fakes.expect_success(&libreswan_up());
    let v6 = libreswan_up()
        .with("PLUTO_MY_CLIENT", "fd00:1::/64")
        .with("PLUTO_PEER_CLIENT", "fd00:2::/64");
    fails(&mut fakes, &v6, &["ip6tables-restore"]);
    fakes.expect_success(&libreswan_up().opposite());
    fakes.assert_forgotten();
}

/// Settings, and how an `up` ends by them that cannot be carried out.
const POLICIES: [(&str, i32); 7] = [
    ("", 0),
    ("[tunnel]\nallow = \"replies\"\n", 1),
    ("[tunnel]\nhost-access = \"no\"\n", 1),
    ("[tunnel]\nwhen-down = \"block\"\n", 1),
    ("[tunnel]\non-error = \"refuse\"\n", 1),
    ("[tunnel]\nallow = \"none\"\non-error = \"continue\"\n", 0),
    ("[[connection]]\nname = \"net-net\"\nallow = \"none\"\n", 1),
];

/// What breaks something that a call needs.
type Breakage = (&'static str, fn(&Fakes));

const BREAKAGES: [Breakage; 4] = [
    ("a refusal", |fakes| fakes.restore_does("exit 2")),
    ("a killed program", |fakes| fakes.restore_does("kill -9 $$")),
    ("no programs", |fakes| {
        fs::remove_file(fakes.programs().join("iptables-restore")).expect("a program");
    }),
    ("a record that cannot be", |fakes| {
        fs::write(fakes.state(), "").expect("a file in its place");
    }),
];

#[test]
fn an_up_that_cannot_be_carried_out_is_refused_where_the_policy_restricts() {
    for (what, break_it) in BREAKAGES {
        for (settings, code) in POLICIES {
            for up in [libreswan_up(), strongswan_up()] {
                let mut fakes = Fakes::new();
                fakes.settings(settings);
                break_it(&fakes);
                let ending = fakes.call_in_vain(&up);
                ending.assert_refused(code, &["up-client net-net failed: "]);
                let is_up = ending.err_text().contains("the tunnel is up without its rules");
                assert_eq!(is_up, code == 0, "{what}, {settings}: {}", ending.err_text());
            }
        }
    }
}

#[test]
fn a_down_that_cannot_be_carried_out_fails_whatever_the_policy_is() {
    for (settings, _) in POLICIES {
        let mut fakes = Fakes::new();
        fakes.settings(settings);
        fakes.expect_success(&libreswan_up());
        fakes.restore_does("exit 2");
        fakes
            .call_in_vain(&libreswan_up().opposite())
            .assert_refused(1, &["down-client net-net failed: "]);
    }
}
