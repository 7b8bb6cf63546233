//! An upgrade with tunnels up. `upgrade/` has what 0.1.0 of 2026-11-28 (record format 2, commit c80e852 and those around it) left in a
//! machine: its record, the tables of iptables-nft, and `resolv.conf`. What a version leaves does not change, so these files never do;
//! a format that an upgrade has to cope with gets a folder of its own.

use std::fs;
use std::path::{Path, PathBuf};

use pluto_updown::netfilter::Backend;
use pluto_updown::selector::Family;

use crate::support::binary::{Call, Hook};
use crate::support::captures::find_call;
use crate::support::namespace::{Namespace, VARIANTS, prefix, tool};

const HOME: &str = "nameserver 192.0.2.1\nsearch home.example\n";

/// The tunnels that the old version opened: strongSwan's, which blocks clear text, a client of libreswan's with name servers, and IPv6.
fn ups() -> [Call; 3] {
    [
        find_call("strongswan-6.0.1", "net-net", "up-client"),
        find_call("libreswan-4.10", "rw", "up-client"),
        find_call("libreswan-5.4", "v6", "up-client-v6"),
    ]
}

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/privileged/namespaces/upgrade")
        .join(name)
}

fn text(name: &str) -> String {
    fs::read_to_string(fixture(name)).expect("a file of the fixture")
}

/// Copies a folder of the record; paths in it are this machine's.
fn copy(from: &Path, to: &Path, root: &str) {
    fs::create_dir_all(to).expect("a folder");
    for entry in fs::read_dir(from).expect("a folder") {
        let entry = entry.expect("an entry");
        let target = to.join(entry.file_name());
        if entry.file_type().expect("its kind").is_dir() {
            copy(&entry.path(), &target, root);
        } else {
            let content = fs::read_to_string(entry.path()).expect("a record");
            fs::write(target, content.replace("@ROOT@", root)).expect("a copy");
        }
    }
}

/// A machine as the old version left it.
fn machine() -> Namespace {
    machine_with(Backend::Nft)
}

/// The same, had its iptables been this one.
fn machine_with(backend: Backend) -> Namespace {
    let machine = Namespace::bare(backend);
    for family in Family::ALL {
        let load = tool(&format!("{}-{backend}-restore", prefix(family)));
        machine.run([load], &text(&format!("{family}.rules")));
    }
    machine.settings(&text("settings.toml"));
    fs::create_dir_all(machine.path("root/etc")).expect("a folder");
    fs::write(machine.path("root/etc/resolv.conf"), text("resolv.conf")).expect("a file");
    let namespace = machine.run(["stat", "-L", "-c", "%i", "/proc/self/ns/net"], "");
    let root = machine.path("root").display().to_string();
    let state = machine.state().join(namespace.trim());
    copy(&fixture("record"), &state, &root);
    for family in Family::ALL {
        let (nft, own) = (format!("nft-{family}"), format!("{backend}-{family}"));
        fs::rename(state.join(nft), state.join(own)).expect("a folder of the record");
    }
    machine
}

fn hook(machine: &Namespace) -> Hook {
    machine.hook().option("--root", machine.path("root"))
}

#[track_caller]
fn assert_status(machine: &Namespace, tunnels: usize) {
    let ending = hook(machine).operate(&["status"]);
    let text = ending.out_text();
    assert_eq!(ending.code, Some(0), "{text}");
    let words = match tunnels {
        0 => "OK: no tunnel up".to_owned(),
        _ => format!("OK: {tunnels} tunnel"),
    };
    assert!(text.starts_with(&words), "{text}");
}

/// What is left of us: nothing, and of others nothing was there.
#[track_caller]
fn assert_gone(machine: &Namespace) {
    for family in Family::ALL {
        assert!(!machine.saved(family).contains("PLUTO"), "{}", machine.saved(family));
    }
    let content = fs::read_to_string(machine.path("root/etc/resolv.conf")).expect("a file");
    assert_eq!(content, HOME);
    assert!(!machine.state().exists());
}

#[test]
#[ignore = "needs root and iptables: run by contrib/test"]
fn what_the_old_version_left_goes_tunnel_by_tunnel() {
    let machine = machine();
    for up in ups() {
        hook(&machine).must(&up.opposite());
    }
    for command in [&["stop"][..], &["unblock", "--all"]] {
        assert_eq!(hook(&machine).operate(command).code, Some(0), "{command:?}");
    }
    assert_gone(&machine);
}

/// Until a call changes something the rules stand as they are, and none of them is compared with those that are written now.
#[test]
#[ignore = "needs root and iptables: run by contrib/test"]
fn the_first_call_writes_what_the_old_version_left_in_the_present_layout() {
    for backend in VARIANTS {
        let machine = machine_with(backend);
        let saved = || Family::ALL.map(|family| machine.saved(family)).concat();
        let before = saved();
        let status = hook(&machine).operate(&["status"]);
        assert_eq!(status.code, Some(1), "{backend}");
        let text = status.out_text();
        assert!(
            text.contains("older layout") && text.contains("pluto-updown start"),
            "{backend}: {text}"
        );
        assert!(
            !text.contains("missing") && !text.contains("foreign"),
            "{backend}: {text}"
        );
        assert_eq!(saved(), before, "{backend}");
        // One that is up already: what it asks for itself changes nothing.
        let [_, client, _] = ups();
        hook(&machine).must(&client);
        let after = saved();
        assert_eq!(
            after.matches("-A PLUTO-DECRYPTED -j PLUTO-FI").count(),
            2,
            "{backend}: {after}"
        );
        assert!(!after.contains("-A PLUTO-ONWARD -j ACCEPT"), "{backend}: {after}");
        assert_status(&machine, 3);
        assert_eq!(hook(&machine).operate(&["flush", "--yes"]).code, Some(0), "{backend}");
        assert_gone(&machine);
    }
}

/// `restore` is what the packages run after an upgrade: the chains that tunnels share may be others in the new version.
#[test]
#[ignore = "needs root and iptables: run by contrib/test"]
fn what_the_old_version_left_is_as_it_should_be_after_a_restore() {
    let machine = machine();
    assert_eq!(hook(&machine).operate(&["restore"]).code, Some(0));
    assert_status(&machine, 3);
    for (left, up) in (0..3).rev().zip(ups()) {
        hook(&machine).must(&up.opposite());
        assert_status(&machine, left);
    }
}

#[test]
#[ignore = "needs root and iptables: run by contrib/test"]
fn what_the_old_version_left_comes_back_after_a_reload_beside_new_tunnels() {
    let machine = machine();
    for family in Family::ALL {
        let load = tool(&format!("{}-nft-restore", prefix(family)));
        machine.run([load], "*filter\nCOMMIT\n*nat\nCOMMIT\n*mangle\nCOMMIT\n");
    }
    assert_eq!(hook(&machine).operate(&["status"]).code, Some(1));
    assert_eq!(hook(&machine).operate(&["restore"]).code, Some(0));
    assert_status(&machine, 3);
    // A rekey, another client of the same gateway, and changed settings.
    let [net_net, client, _] = ups();
    hook(&machine).must(&client);
    hook(&machine).must(&net_net.of_tunnel(9));
    assert_status(&machine, 4);
    assert_eq!(hook(&machine).operate(&["start"]).code, Some(0));
    assert_status(&machine, 4);
    assert_eq!(hook(&machine).operate(&["flush", "--yes"]).code, Some(0));
    assert_gone(&machine);
}
