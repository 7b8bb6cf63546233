//! The xtables lock of iptables-legacy, held by somebody else.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use pluto_updown::netfilter::Backend;

use crate::support::binary::Call;
use crate::support::captures::{libreswan_up, strongswan_up};
use crate::support::figures::print_figure;
use crate::support::namespace::{Namespace, tool};

/// Somebody who holds the lock.
struct Holder(Child);

impl Holder {
    fn for_machine(machine: &Namespace) -> Self {
        let flock = tool("flock").display().to_string();
        let mut command = machine.command([&flock, "/run/xtables.lock", "/bin/sh", "-c", "echo held; cat"]);
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("starting flock");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("its output"))
            .read_line(&mut line)
            .expect("its word");
        assert_eq!(line, "held\n");
        Self(child)
    }

    fn release(mut self) {
        drop(self.0.stdin.take());
        self.0.wait().expect("its end");
    }
}

/// Waits, but not for ever, until this is so; says whether it is.
fn becomes_true(longest: Duration, is_so: impl Fn() -> bool) -> bool {
    let begun = Instant::now();
    while !is_so() && begun.elapsed() < longest {
        sleep(Duration::from_millis(5));
    }
    is_so()
}

/// Waits until a call has got as far as its restore.
fn wait_for_a_restore(machine: &Namespace) {
    assert!(
        becomes_true(Duration::from_secs(20), || restores(machine) == 1),
        "no restore was started"
    );
}

/// How many restores run in this machine.
fn restores(machine: &Namespace) -> usize {
    let running = machine.shell("cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' ' '");
    running
        .matches(&format!("{}/iptables-restore", machine.programs().display()))
        .count()
}

#[test]
#[ignore = "needs root and iptables: run by contrib/test"]
fn a_lock_that_is_held_too_long_refuses_the_call_and_changes_nothing() {
    let machine = Namespace::new(Backend::Legacy);
    let before = machine.listing();
    let hook = machine.hook().option("--wait", "1");
    let holder = Holder::for_machine(&machine);
    for up in [libreswan_up(), strongswan_up()] {
        let begun = Instant::now();
        hook.call(&up).assert_refused(1, &["iptables-restore", "xtables lock"]);
        print_figure(format_args!(
            "{up} with --wait 1 and the xtables lock held: refused after {:.1?}",
            begun.elapsed()
        ));
        assert_eq!(machine.listing(), before);
        // charon keeps the tunnel, which is noted until its `down`.
        hook.expect_success(&up.opposite());
        machine.assert_as_before(&before);
    }
    holder.release();
    hook.expect_success(&libreswan_up());
    let up = machine.listing();
    let holder = Holder::for_machine(&machine);
    // Nothing to change, nothing to wait for.
    hook.expect_success(&libreswan_up());
    hook.expect_success(&libreswan_up().with_verb("route-client"));
    hook.call(&libreswan_up().opposite())
        .assert_refused(1, &["postponed", "xtables.lock"]);
    assert_eq!(machine.listing(), up);
    holder.release();
    hook.expect_success(&libreswan_up().with_verb("prepare-client"));
    machine.assert_as_before(&before);
}

#[test]
#[ignore = "needs root and iptables: run by contrib/test"]
fn a_lock_that_is_released_in_time_is_no_obstacle() {
    let machine = Namespace::new(Backend::Legacy);
    let before = machine.listing();
    for call in [libreswan_up(), libreswan_up().opposite()] {
        let holder = Holder::for_machine(&machine);
        let child = machine
            .hook()
            .option("--wait", "30")
            .command(&call)
            .spawn()
            .expect("starting the call");
        wait_for_a_restore(&machine);
        holder.release();
        let output = child.wait_with_output().expect("the end of the call");
        assert!(output.status.success());
    }
    machine.assert_as_before(&before);
}

#[test]
#[ignore = "needs root and iptables: run by contrib/test"]
fn nft_needs_no_such_lock() {
    let machine = Namespace::new(Backend::Nft);
    let before = machine.listing();
    let holder = Holder::for_machine(&machine);
    machine.hook().option("--wait", "1").expect_success(&libreswan_up());
    machine
        .hook()
        .option("--wait", "1")
        .expect_success(&libreswan_up().opposite());
    holder.release();
    machine.assert_as_before(&before);
}

/// Kills a call whose restore waits for the lock, and makes another call, which must not come before it.
fn kill_and_call_next(machine: &Namespace, killed: &Call, next: &Call) {
    let hook = machine.hook().option("--wait", "30");
    let holder = Holder::for_machine(machine);
    let mut call = hook.command(killed).spawn().expect("starting the call");
    wait_for_a_restore(machine);
    call.kill().expect("killing the call");
    call.wait().expect("its end");
    let call = hook.command(next).spawn().expect("starting the next call");
    let overtaken = becomes_true(Duration::from_millis(500), || restores(machine) > 1);
    holder.release();
    assert!(call.wait_with_output().expect("its end").status.success());
    assert!(
        !overtaken,
        "the next call did not wait for the restore of the one that was killed"
    );
}

/// The restore outlives its call here: it waits for the lock while the call is killed, and commits when the lock is free.
#[test]
#[ignore = "needs root and iptables: run by contrib/test"]
fn a_restore_that_outlives_its_call_does_not_undo_what_the_next_call_does() {
    for (up, is_completed) in [(libreswan_up(), false), (strongswan_up(), true)] {
        let machine = Namespace::new(Backend::Legacy);
        let before = machine.listing();
        let next = up.clone().of_tunnel(9);
        kill_and_call_next(&machine, &up, &next);
        let orderly = Namespace::new(Backend::Legacy);
        let stand = [&up, &next].into_iter().skip(usize::from(!is_completed));
        stand.for_each(|up| orderly.hook().expect_success(up));
        assert_eq!(machine.own_chains(), orderly.own_chains(), "{up}");
        machine.hook().expect_success(&up.opposite());
        machine.hook().expect_success(&next.opposite());
        machine.assert_as_before(&before);
    }
}
