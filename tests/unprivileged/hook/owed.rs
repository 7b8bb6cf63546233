//! A `down` that cannot be executed is executed by whoever comes next.

use std::fs::File;
use std::process::{Child, Stdio};
use std::thread::sleep;
use std::time::Duration;

use nix::fcntl::{Flock, FlockArg};

use super::fakes::Fakes;
use crate::support::binary::Call;
use crate::support::captures::{libreswan_up, strongswan_up};

fn lock(fakes: &Fakes) -> Flock<File> {
    let file = File::open(fakes.namespace().join("lock")).expect("the lock");
    Flock::lock(file, FlockArg::LockExclusive).expect("holding it")
}

/// Starts calls that find the lock held all the time, at once because each waits for it for long.
fn refused_meanwhile(fakes: &Fakes, calls: &[Call]) {
    let start = |call: &Call| {
        let hook = fakes.hook().option("--wait", "1");
        hook.command(call).stderr(Stdio::piped()).spawn().expect("starting it")
    };
    let children: Vec<Child> = calls.iter().map(start).collect();
    for child in children {
        let output = child.wait_with_output().expect("its end");
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{text}");
        assert!(
            text.contains("postponed to the next call") && text.contains("another call held the lock"),
            "{text}"
        );
    }
}

/// Under strongSwan two downs of one name are two: one of them leaves the tunnel up.
#[test]
fn a_down_that_did_not_get_the_lock_is_executed_once() {
    let mut fakes = Fakes::new();
    let up = strongswan_up();
    fakes.expect_success(&up);
    fakes.expect_success(&up);
    let held = lock(&fakes);
    refused_meanwhile(&fakes, &[up.clone().opposite()]);
    drop(held);
    for _ in 0..3 {
        fakes.expect_success(&up.clone().with_verb("prepare-client"));
        assert_eq!(fakes.recorded().len(), 1);
    }
    fakes.expect_success(&up.opposite());
    fakes.assert_forgotten();
}

#[test]
fn whoever_holds_the_lock_executes_downs_that_come_meanwhile() {
    let mut fakes = Fakes::new();
    let up = strongswan_up();
    fakes.expect_success(&up);
    fakes.settings("[tunnel]\nnat = \"leave\"\nallow = \"replies\"\n");
    fakes.restore_does("case $(cat $dir/input.$number) in *ctdir*) sleep 18 ;; esac");
    let start = fakes
        .hook()
        .option("--root", fakes.path("root"))
        .command(&Call::command(&["start"]))
        .stdout(Stdio::null())
        .spawn();
    let mut start = start.expect("starting it");
    while fakes.started().len() < 2 {
        sleep(Duration::from_millis(20));
    }
    refused_meanwhile(&fakes, &[up.opposite()]);
    assert!(start.wait().expect("its end").success());
    fakes.assert_forgotten();
}

/// As when iptables-legacy's lock is held, or when the system has no memory for a program.
#[test]
fn a_down_whose_change_is_refused_is_executed_by_the_next_call() {
    let mut fakes = Fakes::new();
    let up = libreswan_up();
    fakes.expect_success(&up);
    fakes.restore_does("echo xtables lock >&2; exit 4");
    fakes
        .call_in_vain(&up.clone().opposite())
        .assert_refused(1, &["postponed", "xtables lock"]);
    fakes
        .call_in_vain(&up.clone().of_tunnel(9))
        .assert_refused(1, &["xtables lock"]);
    fakes.restore_does("exit 0");
    fakes.expect_success(&up.with_verb("route-client"));
    assert_eq!(fakes.chains(0), Vec::<&str>::new());
    fakes.assert_forgotten();
}

/// What the journal has is made by the next call, and not once more.
#[test]
fn a_down_that_is_in_the_journal_is_not_noted_besides() {
    let mut fakes = Fakes::new();
    let up = strongswan_up();
    fakes.expect_success(&up);
    fakes.expect_success(&up);
    fakes.expect_success(&up.clone().of_tunnel(9).with("PLUTO_REQID", "9"));
    fakes.restore_does("kill -9 $$");
    let last = up.clone().of_tunnel(9).with("PLUTO_REQID", "9").opposite();
    let ending = fakes.call_in_vain(&last);
    ending.assert_refused(1, &["signal 9"]);
    assert!(!ending.err_text().contains("postponed"), "{}", ending.err_text());
    fakes.restore_does("exit 0");
    fakes.expect_success(&up.clone().opposite());
    fakes.expect_success(&up.opposite());
    fakes.assert_forgotten();
}

/// A family whose iptables is gone cannot be changed; the other can.
#[test]
fn a_down_that_cannot_be_executed_keeps_only_its_own_connection_back() {
    let mut fakes = Fakes::new();
    let v6 = libreswan_up()
        .of_tunnel(6)
        .with("PLUTO_MY_CLIENT", "fd00:1::/64")
        .with("PLUTO_PEER_CLIENT", "fd00:2::/64");
    fakes.expect_success(&v6);
    let program = fakes.programs().join("ip6tables-restore");
    std::fs::rename(&program, program.with_extension("gone")).expect("moving it away");
    fakes
        .call(&v6.clone().opposite())
        .assert_refused(1, &["postponed", "ip6tables"]);
    fakes.call(&v6).assert_refused(1, &["ip6tables"]);
    fakes.expect_success(&libreswan_up());
    fakes.expect_success(&libreswan_up().opposite());
    std::fs::rename(program.with_extension("gone"), &program).expect("moving it back");
    fakes.expect_success(&libreswan_up().with_verb("prepare-client"));
    assert_eq!(fakes.chains(1), Vec::<&str>::new());
    fakes.assert_forgotten();
}
