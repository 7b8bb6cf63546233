//! A call that is slow where others are fast: what it has just seen is gone when it wants it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use crate::support::binary::{Ending, Hook};
use crate::support::captures::libreswan_up;
use crate::support::namespace::{Namespace, VARIANTS, tool};

/// The program, held up behind each of the system calls by which it comes to its lock.
fn slowed_hook(machine: &Namespace) -> Hook {
    const HELD_UP: &str = "inject=?mkdir,mkdirat,statx,flock:delay_exit=15000";
    let strace = tool("strace").display().to_string();
    machine.started_by(&[&strace, "-qq", "-o", "/dev/null", "-e", HELD_UP, "--"])
}

#[test]
#[ignore = "needs root and iptables: run by contrib/test"]
fn a_slow_call_gets_its_lock_while_others_make_and_remove_the_folders() {
    let machine = Namespace::new(VARIANTS[0]);
    let before = machine.listing();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let fast = scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                machine.hook().expect_success(&libreswan_up().of_tunnel(9));
                machine.hook().expect_success(&libreswan_up().of_tunnel(9).opposite());
            }
        });
        let endings: Vec<_> = (0..12)
            .map(|_| slowed_hook(&machine).call(&libreswan_up().opposite()))
            .collect();
        done.store(true, Ordering::Relaxed);
        fast.join().expect("nothing went wrong with the others");
        endings.iter().for_each(Ending::assert_done);
    });
    machine.assert_as_before(&before);
}

/// A process that ignores SIGCHLD leaves that to the programs that it starts, who then never hear how theirs ended.
#[test]
#[ignore = "needs root and iptables: run by contrib/test"]
fn a_restore_whose_end_nobody_tells_is_found_out_by_the_next_call() {
    for backend in VARIANTS {
        let machine = Namespace::new(backend);
        let before = machine.listing();
        let perl = tool("perl").display().to_string();
        let deaf = machine.started_by(&[&perl, "-e", "$SIG{CHLD} = 'IGNORE'; exec @ARGV"]);
        deaf.call(&libreswan_up())
            .assert_refused(1, &["ended without an exit status"]);
        machine.hook().expect_success(&libreswan_up().with_verb("route-client"));
        machine.assert_as_before(&before);
        machine.hook().expect_success(&libreswan_up());
        deaf.call(&libreswan_up().opposite())
            .assert_refused(1, &["ended without an exit status"]);
        machine
            .hook()
            .expect_success(&libreswan_up().with_verb("unroute-client"));
        machine.assert_as_before(&before);
    }
}
