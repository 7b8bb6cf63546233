//! A call that is slow where others are fast: what it has just seen is gone when it wants it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use pluto_updown::net::Family;

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

/// A process that ignores SIGCHLD leaves that to the programs that it starts, whose kernel then discards how their programs ended.
#[test]
#[ignore = "needs root and iptables: run by contrib/test"]
fn a_caller_that_ignores_sigchld_learns_how_a_call_ended() {
    for backend in VARIANTS {
        let machine = Namespace::new(backend);
        let before = machine.listing();
        let perl = tool("perl").display().to_string();
        let deaf = machine.started_by(&[&perl, "-e", "$SIG{CHLD} = 'IGNORE'; exec @ARGV"]);
        deaf.expect_success(&libreswan_up());
        assert_eq!(deaf.operate(&["status"]).code, Some(0), "{backend}");
        machine.reload(Family::Ipv4);
        let restored = deaf.operate(&["restore"]);
        assert!(restored.out_text().starts_with("restored"), "{backend}: {restored:?}");
        // A target that does not exist: iptables-restore refuses, and says why.
        machine.settings("[tunnel]\nchain = \"nowhere\"\non-error = \"refuse\"\n");
        let refused = libreswan_up().of_tunnel(9);
        deaf.call(&refused)
            .assert_refused(1, &["iptables-restore failed with status"]);
        deaf.expect_success(&libreswan_up().opposite());
        machine.assert_as_before(&before);
    }
}
