//! Whose the process is, and whose the record.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::PathBuf;

use crate::support::binary::{Call, Hook, PROGRAM, write_program};
use crate::support::captures::{libreswan_up, strongswan_up};
use crate::support::namespace::{Namespace, VARIANTS, tool};

const NOBODY: u32 = 65534;

/// The program, started by `setpriv` with these options. A copy, because that user may not get at cargo's folder.
fn with_rights(machine: &Namespace, options: &[&str]) -> Hook {
    fs::set_permissions(machine.folder(), fs::Permissions::from_mode(0o755)).expect("permissions");
    let copy = machine.path("pluto-updown");
    if !copy.exists() {
        write_program(&copy, &fs::read(PROGRAM).expect("the program"));
    }
    let setpriv = tool("setpriv").display().to_string();
    let hook = Hook::new()
        .through(machine.entry())
        .through([&*setpriv])
        .through(options);
    hook.program(copy)
        .option("--config", machine.config())
        .option("--programs", machine.programs())
}

fn as_nobody(machine: &Namespace) -> Hook {
    with_rights(machine, &["--reuid=65534", "--regid=65534", "--clear-groups"])
}

/// A folder that belongs to nobody.
fn nobodys_folder(machine: &Namespace) -> PathBuf {
    let folder = machine.path("nobody");
    if !folder.exists() {
        fs::create_dir(&folder).expect("a folder");
        chown(&folder, Some(NOBODY), Some(NOBODY)).expect("giving it away");
    }
    folder
}

#[test]
#[ignore = "needs root and iptables: run by contrib/test"]
fn without_rights_a_call_fails_in_one_line_and_leaves_nothing() {
    for backend in VARIANTS {
        let machine = Namespace::new(backend);
        let before = machine.listing();
        let folder = nobodys_folder(&machine);
        let hook = as_nobody(&machine).option("--state-dir", folder.join("state"));
        for up in [libreswan_up(), strongswan_up()] {
            hook.call(&up).assert_refused(1, &["iptables-restore", "ermi"]);
            machine.assert_as_before(&before);
            // charon keeps the tunnel, which is noted until its `down`.
            hook.expect_success(&up.clone().opposite());
            assert_eq!(fs::read_dir(&folder).expect("the folder").count(), 0, "left behind");
            hook.expect_success(&up.with_verb("prepare-client"));
        }
    }
}

#[test]
#[ignore = "needs root and iptables: run by contrib/test"]
fn without_rights_roots_record_stops_the_call() {
    let machine = Namespace::new(VARIANTS[0]);
    machine.hook().expect_success(&libreswan_up());
    let before = machine.listing();
    let hook = as_nobody(&machine).option("--state-dir", machine.state());
    hook.call(&libreswan_up().of_tunnel(3))
        .assert_refused(1, &["state", "owned by another user"]);
    hook.call(&libreswan_up().opposite())
        .assert_refused(1, &["state", "owned by another user"]);
    let elsewhere = as_nobody(&machine).option("--state-dir", machine.path("other"));
    elsewhere
        .call(&libreswan_up())
        .assert_refused(1, &["other", "Permission denied"]);
    assert_eq!(machine.listing(), before);
}

#[test]
#[ignore = "needs root and iptables: run by contrib/test"]
fn a_dry_run_needs_no_rights() {
    for backend in VARIANTS {
        let machine = Namespace::new(backend);
        machine.hook().expect_success(&libreswan_up());
        let before = machine.listing();
        for state in [
            machine.state(),
            machine.path("none"),
            PathBuf::from("/run/pluto-updown"),
        ] {
            let hook = as_nobody(&machine).option("--state-dir", state).word("--dry-run");
            let ending = hook.call(&libreswan_up().of_tunnel(3));
            assert_eq!((ending.code, ending.err_text()), (Some(0), String::new()));
            assert!(ending.out_text().contains("*filter\n") && ending.out_text().contains("\"tunnel-3\""));
        }
        assert_eq!(machine.listing(), before);
        assert!(!machine.path("none").exists());
    }
}

#[test]
#[ignore = "needs root and iptables: run by contrib/test"]
fn the_capabilities_that_pluto_leaves_are_enough() {
    const LEFT: &str = "-all,+net_admin,+net_raw,+dac_read_search";
    for backend in VARIANTS {
        let machine = Namespace::new(backend);
        // What libreswan names as the interface, which an `up` may lead a route over.
        machine.shell("ip link add w0 type veth peer name outside; ip link set w0 up");
        let before = machine.listing();
        let bounds = [format!("--bounding-set={LEFT}"), "--inh-caps=-all".to_owned()];
        let hook = with_rights(&machine, &[&bounds[0], &bounds[1]]).option("--state-dir", machine.state());
        for up in [libreswan_up(), strongswan_up()] {
            hook.expect_success(&up);
            assert!(machine.own_chains()[0].len() > 5, "{backend}");
            hook.expect_success(&libreswan_up().of_tunnel(3));
            hook.expect_success(&up.opposite());
            machine.reload(pluto_updown::net::Family::Ipv4);
            hook.expect_success(&libreswan_up().of_tunnel(3).opposite());
            // The source address stays until then.
            hook.expect_success(&libreswan_up().with_verb("unroute-client"));
            hook.expect_success(&libreswan_up().of_tunnel(3).with_verb("unroute-client"));
            machine.assert_as_before(&before);
        }
    }
}

#[test]
#[ignore = "needs root and iptables: run by contrib/test"]
fn a_record_that_belongs_to_somebody_else_stops_the_call() {
    let machine = Namespace::new(VARIANTS[0]);
    machine.hook().expect_success(&libreswan_up());
    let before = machine.listing();
    let record = machine.record();
    let tunnels = fs::read_dir(record.join("nft-ipv4/tunnels")).expect("the tunnels");
    let tunnel = tunnels
        .map(|entry| entry.expect("an entry").path())
        .next()
        .expect("a tunnel");
    for path in [machine.state(), record, tunnel] {
        chown(&path, Some(NOBODY), Some(NOBODY)).expect("giving it away");
        let refused = |call: &Call| {
            machine.hook().call(call).assert_refused(1, &["owned by another user"]);
            assert_eq!(machine.listing(), before);
        };
        refused(&libreswan_up());
        refused(&libreswan_up().opposite());
        chown(&path, Some(0), Some(0)).expect("taking it back");
    }
    machine.hook().expect_success(&libreswan_up().opposite());
}

#[test]
#[ignore = "needs root and iptables: run by contrib/test"]
fn a_folder_that_somebody_else_has_laid_out_beforehand_is_not_used() {
    for mode in [0o700, 0o777, 0o755] {
        let machine = Namespace::new(VARIANTS[0]);
        let before = machine.listing();
        fs::create_dir(machine.state()).expect("a folder");
        fs::set_permissions(machine.state(), fs::Permissions::from_mode(mode)).expect("permissions");
        chown(machine.state(), Some(NOBODY), Some(NOBODY)).expect("giving it away");
        machine
            .hook()
            .call(&libreswan_up())
            .assert_refused(1, &["state", "owned by another user"]);
        assert_eq!(machine.listing(), before);
        assert_eq!(fs::read_dir(machine.state()).expect("the folder").count(), 0);
    }
}

#[test]
#[ignore = "needs root and iptables: run by contrib/test"]
fn without_rights_explain_says_in_one_line_who_can_read_the_record() {
    let machine = Namespace::new(VARIANTS[0]);
    machine.hook().expect_success(&libreswan_up());
    let nobody = as_nobody(&machine).option("--state-dir", machine.state());
    for words in [
        &["explain", "net-net"][..],
        &["explain", "--packet", "10.1.0.9", "10.2.0.7"],
    ] {
        nobody
            .operate(words)
            .assert_refused(1, &["the record (only root can read it)", "ermission denied"]);
    }
}
