//! Downs that could not be executed, and who executes them.

use std::fs::File;
use std::process::Stdio;

use nix::fcntl::{Flock, FlockArg};

use crate::support::binary::Call;
use crate::support::captures::{find_call, libreswan_up, strongswan_up};
use crate::support::namespace::{Namespace, VARIANTS};

/// One tunnel of each daemon, and one of IPv6; strongSwan's is up twice.
fn downs() -> [Call; 4] {
    let six = find_call("libreswan-5.4", "v6", "up-client-v6");
    let counted = strongswan_up().of_tunnel(5);
    [counted.clone(), counted, libreswan_up(), six].map(Call::opposite)
}

/// A machine with these tunnels, all of which are called down while another call holds the record's lock.
fn machine(backend: pluto_updown::netfilter::Backend) -> (Namespace, [String; 2]) {
    let machine = Namespace::new(backend);
    let before = machine.listing();
    for down in downs() {
        machine.hook().expect_success(&down.opposite());
    }
    (machine, before)
}

fn call_in_vain(machine: &Namespace) {
    let file = File::open(machine.record().join("lock")).expect("the lock");
    let held = Flock::lock(file, FlockArg::LockExclusive).expect("holding it");
    let hook = machine.hook().option("--wait", "1");
    let start = |down: &Call| hook.command(down).stderr(Stdio::piped()).spawn().expect("starting it");
    let children: Vec<_> = downs().iter().map(start).collect();
    for child in children {
        let output = child.wait_with_output().expect("its end");
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{text}");
        assert!(text.contains("postponed to the next call"), "{text}");
    }
    let status = machine.hook().operate(&["status", "-v"]);
    let text = status.out_text();
    assert_eq!(status.code, Some(1), "{text}");
    assert_eq!(text.matches("could not be executed yet").count(), 4, "{text}");
    drop(held);
}

#[test]
#[ignore = "needs root and iptables: run by contrib/test"]
fn downs_that_did_not_get_the_lock_are_executed_by_the_next_call_of_any_kind() {
    std::thread::scope(|scope| {
        for backend in VARIANTS {
            for next in ["a call", "start", "stop", "restore", "prune"] {
                scope.spawn(move || {
                    let (machine, before) = machine(backend);
                    call_in_vain(&machine);
                    match next {
                        "a call" => machine
                            .hook()
                            .expect_success(&libreswan_up().with_verb("prepare-client")),
                        command => assert_eq!(machine.hook().operate(&[command]).code, Some(0), "{command}"),
                    }
                    machine.assert_as_before(&before);
                });
            }
        }
    });
}
