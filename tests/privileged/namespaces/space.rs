//! A /run that is full or read-only.

use std::ffi::OsStr;
use std::fs;

use super::routes::{Router, route};
use crate::support::binary::{Call, Ending};
use crate::support::captures::{libreswan_up, strongswan_up};
use crate::support::namespace::{Namespace, VARIANTS};

/// What may run short.
#[derive(Clone, Copy, Debug)]
enum Resource {
    /// Files and folders.
    Inodes,
    /// Pages of 4096 bytes.
    Pages,
}

/// A machine whose record is on a small file system of its own; that can only be seen from inside.
fn with_small_record(backend: pluto_updown::netfilter::Backend) -> Namespace {
    let machine = Namespace::new(backend);
    shrink_record(&machine);
    machine
}

fn shrink_record(machine: &Namespace) {
    let state = machine.state();
    fs::create_dir(&state).expect("a folder");
    machine.shell(&format!(
        "mount -t tmpfs -o size=128k,nr_inodes=64,mode=700 tmpfs {}",
        state.display()
    ));
}

fn remount(machine: &Namespace, how: &str) {
    machine.shell(&format!("mount -o remount,{how} {}", machine.state().display()));
}

/// Fills it until this much is left.
fn fill_file_system(machine: &Namespace, resource: Resource, left: usize) {
    let state = machine.state().display().to_string();
    machine.shell(&match resource {
        Resource::Inodes => format!(
            "mkdir {state}/filler; free=$(stat -f -c %d {state}); while [ $free -gt {left} ]; do : >{state}/filler/$free; free=$((free - 1)); done"
        ),
        Resource::Pages => format!(
            "mkdir {state}/filler; head -c $((($(stat -f -c %a {state}) - {left}) * 4096)) /dev/zero >{state}/filler/0"
        ),
    });
}

fn empty(machine: &Namespace) {
    machine.shell(&format!("rm -r {}/filler", machine.state().display()));
}

/// Every file of the record with its content but for the time, and every folder.
fn contents(machine: &Namespace) -> String {
    let state = machine.state().display().to_string();
    machine.shell(&format!(
        "cd {state} && find . -path ./filler -prune -o -name downs -prune -o -type d -print -o -print -exec sed 's,\"since\":[0-9]*,,' {{}} + | sort"
    ))
}

/// Makes a call with so much space left. Either it goes well, or it says so in one line and nothing has changed.
fn with_space_left(machine: &Namespace, call: &Call, resource: Resource, left: usize) -> Ending {
    let (before, record) = (machine.listing(), contents(machine));
    fill_file_system(machine, resource, left);
    let ending = machine.hook().call(call);
    if ending.code == Some(0) {
        ending.assert_done();
    } else {
        ending.assert_refused(1, &["No space left"]);
        assert_eq!(machine.listing(), before, "{call} with {left} {resource:?} left");
        let text = machine.hook().operate(&["status"]).out_text();
        empty(machine);
        // charon keeps the tunnel, and calls again when it ends.
        if call.variables.contains_key(OsStr::new("PLUTO_UNIQUEID")) {
            let is_shown = text.contains("up without rules for ");
            assert!(
                is_shown || matches!(resource, Resource::Inodes),
                "{left} {resource:?}: {text}"
            );
            machine.hook().expect_success(&call.clone().opposite());
        }
        assert_eq!(contents(machine), record, "{call} with {left} {resource:?} left");
        return ending;
    }
    empty(machine);
    ending
}

/// Tries a call with ever more space left, until it goes well with enough. Both must have happened.
fn assert_whole_or_not_at_all(machine: &Namespace, call: &Call, undo: &[Call]) {
    for (resource, most) in [(Resource::Inodes, 40), (Resource::Pages, 5)] {
        let before = (machine.listing(), contents(machine));
        let mut endings = Vec::new();
        for left in 0..=most {
            let ending = with_space_left(machine, call, resource, left);
            if ending.code == Some(0) {
                machine.call_all(undo);
                assert_eq!((machine.listing(), contents(machine)), before, "undone {call}");
            }
            endings.push(ending.code);
        }
        assert!(
            endings.is_sorted_by(|a, b| a >= b),
            "{call}: more space, yet refused: {endings:?}"
        );
        assert_eq!(
            (endings.first(), endings.last()),
            (Some(&Some(1)), Some(&Some(0))),
            "{call}, {resource:?}"
        );
    }
}

#[test]
#[ignore = "needs root and iptables: run by contrib/test"]
fn a_first_up_without_space_is_refused_whole() {
    for backend in VARIANTS {
        for up in [libreswan_up(), strongswan_up()] {
            let machine = with_small_record(backend);
            assert_whole_or_not_at_all(&machine, &up, &[up.clone().opposite()]);
        }
    }
}

#[test]
#[ignore = "needs root and iptables: run by contrib/test"]
fn an_up_beside_another_tunnel_without_space_is_refused_whole() {
    for backend in VARIANTS {
        let machine = with_small_record(backend);
        machine.hook().expect_success(&strongswan_up().of_tunnel(130));
        assert_whole_or_not_at_all(&machine, &libreswan_up(), &[libreswan_up().opposite()]);
    }
}

#[test]
#[ignore = "needs root and iptables: run by contrib/test"]
fn a_replacing_up_without_space_leaves_the_old_one() {
    for backend in VARIANTS {
        let machine = with_small_record(backend);
        machine.hook().expect_success(&libreswan_up());
        let next = libreswan_up().with("PLUTO_SA_REQID", "16401");
        assert_whole_or_not_at_all(&machine, &next, &[libreswan_up()]);
    }
}

/// Settings that change the tunnel that is up, and bring a gateway's part and a blocked pair.
const SETTINGS: &str = "[gateway]\nike = \"any\"\n[[connection]]\nname = \"net-net\"\nallow = \"replies\"\nwhen-down = \"block\"\n\
                        nat = \"leave\"\n[tunnel]\nnat = \"leave\"\n";

/// Has everything made as these settings say, and returns the tables of both families.
fn start_with(machine: &Namespace, settings: &str) -> [String; 2] {
    machine.settings(settings);
    assert_eq!(machine.hook().operate(&["start"]).code, Some(0), "{settings}");
    machine.listing()
}

#[test]
#[ignore = "needs root and iptables: run by contrib/test"]
fn a_start_without_space_changes_a_family_whole_or_not_at_all() {
    const PLAIN: &str = "[tunnel]\nnat = \"leave\"\n";
    for backend in VARIANTS {
        let machine = with_small_record(backend);
        machine.settings(PLAIN);
        machine.hook().expect_success(&libreswan_up());
        let new = start_with(&machine, SETTINGS);
        let old = start_with(&machine, PLAIN);
        for (resource, most) in [(Resource::Inodes, 40), (Resource::Pages, 12)] {
            let before = contents(&machine);
            let mut codes = Vec::new();
            for left in 0..=most {
                machine.settings(SETTINGS);
                fill_file_system(&machine, resource, left);
                let ending = machine.hook().operate(&["start"]);
                empty(&machine);
                codes.push(ending.code);
                let what = format!("{backend} {left} {resource:?} left: {ending:?}");
                for (now, (old, new)) in machine.listing().iter().zip(old.iter().zip(&new)) {
                    assert!(now == old || now == new, "{what}: {now}");
                }
                match ending.code {
                    Some(0) => assert_eq!(machine.listing(), new, "{what}"),
                    _ => ending.assert_refused(1, &["No space left"]),
                }
                assert_eq!(start_with(&machine, PLAIN), old, "{what}");
                assert_eq!(contents(&machine), before, "{what}");
            }
            assert_eq!(
                (codes.first(), codes.last()),
                (Some(&Some(1)), Some(&Some(0))),
                "{codes:?}"
            );
            assert!(codes.is_sorted_by(|a, b| a >= b), "more space, yet refused: {codes:?}");
        }
    }
}

/// strongSwan ignores how a `down` ended, and never calls again.
#[test]
#[ignore = "needs root and iptables: run by contrib/test"]
fn a_down_needs_no_space() {
    for backend in VARIANTS {
        for resource in [Resource::Inodes, Resource::Pages] {
            let machine = with_small_record(backend);
            let before = machine.listing();
            let (counted, single) = (strongswan_up().of_tunnel(130), libreswan_up());
            for up in [&counted, &counted, &single] {
                machine.hook().expect_success(up);
            }
            fill_file_system(&machine, resource, 0);
            for up in [counted.clone(), single, counted] {
                machine.hook().expect_success(&up.opposite());
            }
            assert_eq!(machine.listing(), before, "{backend} {resource:?}");
            empty(&machine);
            assert_eq!(contents(&machine), ".\n", "{backend} {resource:?}");
        }
    }
}

/// Not even a note of it does: an empty file takes no page.
#[test]
#[ignore = "needs root and iptables: run by contrib/test"]
fn a_down_that_finds_no_space_and_no_lock_is_executed_by_the_next_call() {
    for backend in VARIANTS {
        let machine = with_small_record(backend);
        let before = machine.listing();
        let up = libreswan_up();
        machine.hook().expect_success(&up);
        fill_file_system(&machine, Resource::Pages, 0);
        let record = machine.shell(&format!("ls -d {}/[0-9]*", machine.state().display()));
        let held = format!("flock {}/lock sleep 18", record.trim());
        let mut holder = machine.command(["/bin/sh", "-c", &held]).spawn().expect("starting it");
        machine.shell("sleep 0.5");
        let hook = machine.hook().option("--wait", "1");
        hook.call(&up.clone().opposite())
            .assert_refused(1, &["postponed", "another call held the lock"]);
        holder.wait().expect("its end");
        machine.hook().expect_success(&up.with_verb("prepare-client"));
        assert_eq!(machine.listing(), before, "{backend}");
        empty(&machine);
        assert_eq!(contents(&machine), ".\n", "{backend}");
    }
}

#[test]
#[ignore = "needs root and iptables: run by contrib/test"]
fn a_read_only_record_refuses_every_change() {
    for backend in VARIANTS {
        let machine = with_small_record(backend);
        let before = machine.listing();
        remount(&machine, "ro");
        for up in [libreswan_up(), strongswan_up()] {
            machine.hook().call(&up).assert_refused(1, &["state", "Read-only"]);
            machine.hook().expect_success(&up.with_verb("prepare-client"));
        }
        assert_eq!(machine.listing(), before);
        remount(&machine, "rw");
        machine.hook().expect_success(&libreswan_up());
        let up = machine.listing();
        remount(&machine, "ro");
        machine
            .hook()
            .call(&libreswan_up().opposite())
            .assert_refused(1, &["state", "Read-only"]);
        machine
            .hook()
            .call(&libreswan_up().of_tunnel(3))
            .assert_refused(1, &["state", "Read-only"]);
        machine
            .hook()
            .expect_success(&libreswan_up().with_verb("unroute-client"));
        assert_eq!(machine.listing(), up);
        remount(&machine, "rw");
        machine.hook().expect_success(&libreswan_up().opposite());
        assert_eq!(machine.listing(), before);
        assert_eq!(contents(&machine), ".\n");
    }
}

/// A router whose record is small, and that has a route to another network.
fn small_router() -> Router {
    let router = Router::new();
    shrink_record(&router.machine);
    router.expect_success(&route().of_tunnel(9));
    router
}

fn unroute() -> Call {
    route().with_verb("unroute-client")
}

#[test]
#[ignore = "needs root and iptables: run by contrib/test"]
fn a_route_without_space_is_made_whole_or_not_at_all() {
    let router = small_router();
    let (before, record) = (router.state(), contents(&router.machine));
    router.expect_success(&route());
    let routed = router.state();
    router.expect_success(&unroute());
    for (resource, most) in [(Resource::Inodes, 16), (Resource::Pages, 5)] {
        let mut refused = Vec::new();
        for left in 0..=most {
            fill_file_system(&router.machine, resource, left);
            let ending = router.hook().call(&route());
            refused.push(!ending.err.is_empty());
            if ending.err.is_empty() {
                ending.assert_done();
                assert_eq!(router.state(), routed, "with {left} {resource:?} left");
                router.expect_success(&unroute());
            } else {
                // The stock scripts hide it from the daemon, and so do we, but in the log.
                ending.assert_refused(0, &["route-client", "No space left"]);
            }
            empty(&router.machine);
            assert_eq!(router.state(), before, "with {left} {resource:?} left");
            assert_eq!(contents(&router.machine), record, "with {left} {resource:?} left");
        }
        assert!(refused.is_sorted_by(|a, b| a >= b), "{resource:?}: {refused:?}");
        assert_eq!(
            (refused.first(), refused.last()),
            (Some(&true), Some(&false)),
            "{resource:?}"
        );
    }
}

#[test]
#[ignore = "needs root and iptables: run by contrib/test"]
fn an_unroute_needs_no_space() {
    let router = small_router();
    let before = router.state();
    for resource in [Resource::Inodes, Resource::Pages] {
        router.expect_success(&route());
        fill_file_system(&router.machine, resource, 0);
        router.expect_success(&unroute());
        assert_eq!(router.state(), before, "{resource:?}");
        empty(&router.machine);
    }
}

#[test]
#[ignore = "needs root and iptables: run by contrib/test"]
fn a_move_without_space_is_known_to_the_next_call() {
    let router = small_router();
    let before = router.state();
    router.expect_success(&route());
    let routed = router.state();
    let moving = unroute().with("PLUTO_MOBIKE_EVENT", "yes");
    fill_file_system(&router.machine, Resource::Pages, 0);
    router.hook().call(&moving).assert_refused(0, &["No space left"]);
    empty(&router.machine);
    router.expect_success(&route());
    assert_eq!(router.state(), routed);
    router.expect_success(&unroute());
    assert_eq!(router.state(), before);
}

#[test]
#[ignore = "needs root and iptables: run by contrib/test"]
fn a_read_only_record_refuses_a_route_and_forgets_none() {
    let router = small_router();
    let before = router.state();
    remount(&router.machine, "ro");
    router
        .hook()
        .call(&route())
        .assert_refused(0, &["route-client", "Read-only"]);
    let with_status = route().with_verb("route-client-v6");
    router.hook().call(&with_status).assert_refused(1, &["Read-only"]);
    assert_eq!(router.state(), before);
    remount(&router.machine, "rw");
    router.expect_success(&route());
    remount(&router.machine, "ro");
    router.hook().call(&unroute()).assert_refused(0, &["Read-only"]);
    remount(&router.machine, "rw");
    router.expect_success(&unroute());
    assert_eq!(router.state(), before);
    router.expect_success(&unroute().of_tunnel(9));
    assert_eq!(contents(&router.machine), ".\n");
}
