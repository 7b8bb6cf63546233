//! An upgrade with tunnels up. `upgrade/` has what 0.1.0 of 2026-11-28 (record format 2, commit c80e852 and those around it) left in a
//! machine: its record, the tables of iptables-nft, and `resolv.conf`. What a version leaves does not change, so these files never do;
//! a format that an upgrade has to cope with gets a folder of its own. `upgrade/layout-3/` has the same of commit 3069de6, whose rules are in
//! the third layout: tunnels of every `allow`, one with an interface, and one that two peers with IPComp have up.

use std::fs;
use std::path::{Path, PathBuf};

use pluto_updown::net::Family;
use pluto_updown::netfilter::Backend;

use crate::support::binary::{Call, Hook, write_program};
use crate::support::captures::{find_call, libreswan_up};
use crate::support::namespace::{Namespace, VARIANTS, prefix};

const HOME: &str = "nameserver 192.0.2.1\nsearch home.example\n";

/// The tunnels that the old version opened: strongSwan's, which blocks unencrypted packets, a client of libreswan's with name servers, and IPv6.
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

fn fixture_text(name: &str) -> String {
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
    let machine = machine_of("", backend);
    fs::create_dir_all(machine.path("root/etc")).expect("a folder");
    fs::write(machine.path("root/etc/resolv.conf"), fixture_text("resolv.conf")).expect("a file");
    machine
}

/// A machine as the version left it that this folder is about.
fn machine_of(folder: &str, backend: Backend) -> Namespace {
    let machine = Namespace::bare(backend);
    for family in Family::ALL {
        machine.load(family, &[], &fixture_text(&format!("{folder}{family}.rules")));
    }
    machine.settings(&fixture_text(&format!("{folder}settings.toml")));
    let namespace = machine.run(["stat", "-L", "-c", "%i", "/proc/self/ns/net"], "");
    let root = machine.path("root").display().to_string();
    let state = machine.state().join(namespace.trim());
    copy(&fixture(&format!("{folder}record")), &state, &root);
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
        hook(&machine).expect_success(&up.opposite());
    }
    for command in [&["stop"][..], &["unblock", "--all"]] {
        assert_eq!(hook(&machine).operate(command).code, Some(0), "{command:?}");
    }
    assert_gone(&machine);
}

/// Until a call changes something the rules stay as they are, and none of them is compared with those that are written now.
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
        hook(&machine).expect_success(&client);
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
        hook(&machine).expect_success(&up.opposite());
        assert_status(&machine, left);
    }
}

#[test]
#[ignore = "needs root and iptables: run by contrib/test"]
fn what_the_old_version_left_comes_back_after_a_reload_beside_new_tunnels() {
    let machine = machine();
    for family in Family::ALL {
        machine.load(family, &[], "*filter\nCOMMIT\n*nat\nCOMMIT\n*mangle\nCOMMIT\n");
    }
    assert_eq!(hook(&machine).operate(&["status"]).code, Some(1));
    assert_eq!(hook(&machine).operate(&["restore"]).code, Some(0));
    assert_status(&machine, 3);
    // A rekey, another client of the same gateway, and changed settings.
    let [net_net, client, _] = ups();
    hook(&machine).expect_success(&client);
    hook(&machine).expect_success(&net_net.of_tunnel(9));
    assert_status(&machine, 4);
    assert_eq!(hook(&machine).operate(&["start"]).code, Some(0));
    assert_status(&machine, 4);
    assert_eq!(hook(&machine).operate(&["flush", "--yes"]).code, Some(0));
    assert_gone(&machine);
}

/// Has every `iptables-restore` write down what it is given.
fn write_down_restores(machine: &Namespace) {
    for family in Family::ALL {
        let real = machine.program(family, "restore");
        let log = machine.path(&format!("restored-{family}"));
        // Its name tells which backend it is.
        let fake = machine.path(&format!("fake-{family}-{}-restore", machine.backend));
        let script = format!("#!/bin/sh\ntee -a {} | {} \"$@\"\n", log.display(), real.display());
        write_program(&fake, script.as_bytes());
        machine.replace_program(&format!("{}-restore", prefix(family)), &fake);
    }
}

/// The tables that were changed, a commit each.
fn commits(machine: &Namespace, family: Family) -> Vec<String> {
    let log = machine.path(&format!("restored-{family}"));
    let text = fs::read_to_string(log).unwrap_or_default();
    let tables = text.lines().filter_map(|line| line.strip_prefix('*'));
    tables.map(str::to_owned).collect()
}

/// A call that repeats what is up in `layout-3`, and changes nothing itself.
fn of_layout_3() -> Call {
    libreswan_up()
        .with("PLUTO_CONNECTION", "list")
        .with("PLUTO_MY_CLIENT", "10.1.0.0/24")
        .with("PLUTO_PEER_CLIENT", "10.4.0.0/24")
        .with("PLUTO_SA_REQID", "16389")
        .with("PLUTO_MY_SOURCEIP", "")
}

/// Between two commits of one table a packet would meet half of the one layout and half of the other.
#[test]
#[ignore = "needs root and iptables: run by contrib/test"]
fn the_third_layout_becomes_the_present_one_in_one_commit_a_table() {
    const DROPS: &str = "-A PLUTO-RO-10.3.0.0-18 -s 10.1.0.0/24 -d 10.3.0.0/24";
    for backend in VARIANTS {
        for way in ["a call", "start", "restore"] {
            let machine = machine_of("layout-3/", backend);
            let saved = || Family::ALL.map(|family| machine.saved(family)).concat();
            let before = saved();
            let status = machine.hook().operate(&["status"]);
            assert_eq!(status.code, Some(1), "{backend}");
            assert!(status.out_text().contains("older layout"), "{}", status.out_text());
            let explained = machine.hook().operate(&["explain", "10.3.0.7", "10.1.0.9", "22"]);
            assert_eq!(explained.code, Some(1), "{backend}");
            assert!(
                explained.err_text().contains("older layout"),
                "{}",
                explained.err_text()
            );
            assert_eq!(saved(), before, "{backend}");
            assert!(!before.contains("PLUTO-RO"), "{backend}");

            write_down_restores(&machine);
            match way {
                "a call" => machine.hook().expect_success(&of_layout_3()),
                command => assert_eq!(machine.hook().operate(&[command]).code, Some(0), "{backend} {way}"),
            }
            for family in Family::ALL {
                assert_eq!(commits(&machine, family), ["filter"], "{backend} {family} {way}");
            }
            let after = saved();
            assert!(after.contains(DROPS), "{backend} {way}: {after}");
            // Only the last peer's IP in IP was let in.
            for peer in ["198.51.100.7", "203.0.113.7"] {
                let accepts = format!("-s {peer}/32 -d 192.0.2.1/32 -p ipencap");
                assert_eq!(after.matches(&accepts).count(), 1, "{backend} {way} {peer}: {after}");
            }
            let status = machine.hook().operate(&["status"]);
            assert_eq!(status.code, Some(0), "{backend} {way}: {}", status.out_text());
            assert_eq!(
                machine.hook().operate(&["flush", "--yes"]).code,
                Some(0),
                "{backend} {way}"
            );
            assert!(!saved().contains("PLUTO"), "{backend} {way}");
        }
    }
}
