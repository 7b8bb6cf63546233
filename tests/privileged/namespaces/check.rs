//! What would go wrong, found before it does.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};

use pluto_updown::net::Family;
use pluto_updown::netfilter::Backend;

use crate::support::binary::{Hook, write_program};
use crate::support::captures::libreswan_up;
use crate::support::namespace::{Namespace, VARIANTS, link_programs, tool};

/// What `check` finds wrong, and all that it says.
fn check(hook: &Hook) -> (Vec<String>, String) {
    let ending = hook.operate(&["check"]);
    let text = ending.out_text();
    assert_eq!(ending.err_text(), "");
    let wrong: Vec<_> = text
        .lines()
        .filter_map(|line| line.strip_prefix("WRONG "))
        .map(str::to_owned)
        .collect();
    assert_eq!(ending.code, Some(i32::from(!wrong.is_empty())), "{text}");
    assert!(text.ends_with(&format!(" checks, {} wrong\n", wrong.len())), "{text}");
    (wrong, text)
}

#[track_caller]
fn assert_finds(hook: &Hook, words: &[&str]) {
    let (wrong, text) = check(hook);
    for words in words {
        assert!(wrong.iter().any(|line| line.contains(words)), "{words} in:\n{text}");
    }
    assert_eq!(wrong.len(), words.len(), "{text}");
    assert!(
        text.contains("\n      why:  ") && text.contains("\n      fix:  "),
        "{text}"
    );
}

#[test]
#[ignore = "needs root and iptables: run by contrib/test"]
fn a_sound_machine_has_nothing_wrong_and_is_not_changed() {
    for backend in VARIANTS {
        let machine = Namespace::new(backend);
        let before = machine.listing();
        let loaded = || machine.shell("cat /proc/net/ip_tables_names; nft list tables");
        let tables = loaded();
        let (wrong, text) = check(&machine.hook());
        assert_eq!(wrong, [""; 0], "{text}");
        assert!(
            text.contains("ok    ipv4: ") && text.contains(&format!(", {backend}\n")),
            "{text}"
        );
        assert!(text.contains("the same results with a daemon's rights"), "{text}");
        assert_eq!(loaded(), tables, "{backend}");
        machine.assert_as_before(&before);
        machine.hook().expect_success(&libreswan_up());
        let before = machine.listing();
        let (wrong, text) = check(&machine.hook());
        assert_eq!(wrong, [""; 0], "{text}");
        assert!(
            text.contains(&format!("ok    {backend}-ipv4: all rules loaded")),
            "{text}"
        );
        assert_eq!(machine.listing(), before);
    }
}

#[test]
#[ignore = "needs root and iptables: run by contrib/test"]
fn an_entry_for_a_connection_that_is_not_configured_is_noted() {
    for backend in VARIANTS {
        let machine = Namespace::new(backend);
        let root = machine.path("root");
        fs::create_dir_all(root.join("etc/ipsec.d")).expect("a folder");
        fs::write(root.join("etc/ipsec.conf"), "include /etc/ipsec.d/*.conf\n").expect("a file");
        fs::write(root.join("etc/ipsec.d/a.conf"), "conn office\n conn branch-zurich\n").expect("a file");
        machine.settings("[[connection]]\nname = \"office\"\n[[connection]]\nname = \"branch-zurihc\"\n");
        let (wrong, text) = check(&machine.hook().option("--root", &root));
        assert_eq!(wrong, [""; 0], "{text}");
        let notes: Vec<_> = text.lines().filter(|line| line.contains("[[connection]]")).collect();
        assert_eq!(
            notes,
            ["note  [[connection]] 2: no connection is called \"branch-zurihc\"; did you mean \"branch-zurich\"?"],
            "{text}"
        );
    }
}

#[test]
#[ignore = "needs root and iptables: run by contrib/test"]
fn rules_that_are_in_the_way_are_named() {
    for backend in VARIANTS {
        let machine = Namespace::new(backend);
        machine.settings("");
        machine.hook().expect_success(&libreswan_up());
        machine.tables(Family::Ipv4, &["-I", "FORWARD", "-i", "eth7", "-j", "DROP"]);
        assert_finds(
            &machine.hook(),
            &["rule ahead of the PLUTO-FORWARD jump: -i eth7 -j DROP"],
        );
        machine.tables(
            Family::Ipv4,
            &["-t", "nat", "-I", "POSTROUTING", "-o", "eth0", "-j", "MASQUERADE"],
        );
        machine.tables(Family::Ipv4, &["-D", "OUTPUT", "-j", "PLUTO-OUTPUT"]);
        let found = [
            "ahead of the PLUTO-FORWARD jump",
            "ahead of the PLUTO-POSTROUTING jump",
            "nat: POSTROUTING: -o eth0 -j MASQUERADE",
            "1 difference from the record",
        ];
        assert_finds(&machine.hook(), &found);
        machine.hook().operate(&["restore"]);
        assert_eq!(check(&machine.hook()).0, [""; 0]);
    }
}

#[test]
#[ignore = "needs root and iptables: run by contrib/test"]
fn what_is_missing_or_mixed_is_named() {
    let machine = Namespace::new(Backend::Legacy);
    machine.hook().expect_success(&libreswan_up());
    let mixed = machine.path("mixed");
    link_programs(&mixed, Backend::Nft);
    for action in ["restore", "save"] {
        let name = format!("iptables-legacy-{action}");
        symlink(tool(&name), mixed.join(&name)).expect("a link");
    }
    let hook = Hook::new()
        .through(machine.entry())
        .option("--state-dir", machine.state())
        .option("--programs", &mixed);
    let (_, text) = check(&hook);
    assert!(
        text.contains("note  legacy-ipv4 has chains of pluto-updown, but iptables is now nft"),
        "{text}"
    );
    assert!(text.contains("note  legacy-ipv4 has rules of other programs"), "{text}");
    fs::remove_file(mixed.join("ip6tables-restore")).expect("removing it");
    assert_finds(&hook, &["ip6tables-restore not found in "]);
    symlink(tool("ip6tables-legacy-restore"), mixed.join("ip6tables-restore")).expect("a link");
    assert_finds(&hook, &["iptables is nft, ip6tables is legacy"]);
}

#[test]
#[ignore = "needs root and iptables: run by contrib/test"]
fn a_match_that_iptables_does_not_know_is_named_with_what_needs_it() {
    let machine = Namespace::new(Backend::Nft);
    let real = tool("iptables-nft-restore").display().to_string();
    let script = format!(
        "#!/bin/sh\ninput=$(cat)\ncase $input in *iprange*) echo 'no iprange here' >&2; exit 2 ;; esac\necho \"$input\" | exec {real} \"$@\"\n"
    );
    let fake = machine.path("fake-nft-restore");
    write_program(&fake, script.as_bytes());
    let link = machine.programs().join("iptables-restore");
    fs::remove_file(&link).expect("removing the link");
    symlink(&fake, &link).expect("a link");
    assert_finds(&machine.hook(), &["-m iprange --src-range 192.0.2.1-192.0.2.9"]);
    let (_, text) = check(&machine.hook());
    assert!(
        text.contains("needed for tunnels between ranges of addresses"),
        "{text}"
    );
}

#[test]
#[ignore = "needs root and iptables: run by contrib/test"]
fn what_only_a_daemon_may_not_is_found_by_its_rights() {
    let machine = Namespace::new(Backend::Nft);
    // Root writes there by its own capability only, which Pluto drops.
    let closed = machine.path("closed");
    fs::create_dir(&closed).expect("a folder");
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o500)).expect("permissions");
    let hook = Hook::new()
        .through(machine.entry())
        .option("--state-dir", closed.join("state"))
        .option("--programs", machine.programs());
    let (wrong, text) = check(&hook);
    assert_eq!(wrong.len(), 1, "{text}");
    assert!(wrong[0].starts_with("with a daemon's rights: "), "{text}");
    assert!(wrong[0].contains("Permission denied"), "{text}");
}

#[test]
#[ignore = "needs root and iptables: run by contrib/test"]
fn settings_that_are_not_understood_are_named() {
    let machine = Namespace::new(Backend::Nft);
    fs::write(machine.path("settings"), "nonsense = 1\n").expect("writing it");
    assert_finds(
        &machine.hook().option("--config", machine.path("settings")),
        &["settings:1: "],
    );
}

#[test]
#[ignore = "needs root and iptables: run by contrib/test"]
fn a_state_directory_without_space_and_a_call_that_died_halfway_are_wrong() {
    let machine = Namespace::new(Backend::Nft);
    machine.hook().expect_success(&libreswan_up());
    let state = machine.state().display().to_string();
    let ruleset = serde_json::json!({"variant": "nft", "family": "ipv4"});
    let journal = serde_json::json!({"format": 1, "rulebook": ruleset, "gone": [], "come": [], "settle": "abandon"});
    assert!(!check(&machine.hook()).1.contains("previous run was interrupted"));
    let pending = machine.shell(&format!("ls -d {state}/[0-9]*"));
    let pending = format!("{}/pending", pending.trim());
    std::fs::write(&pending, journal.to_string()).expect("a journal");
    machine.shell(&format!("chmod 600 {pending}"));
    let (wrong, text) = check(&machine.hook());
    assert!(
        wrong.contains(&"nft-ipv4: a previous run was interrupted".to_owned()),
        "{text}"
    );
    std::fs::remove_file(&pending).expect("no journal");
    machine.shell(&format!(
        "mount -t tmpfs -o size=64k,mode=700 tmpfs {state}; cat /dev/zero >{state}/fill 2>/dev/null || true"
    ));
    let (wrong, text) = check(&machine.hook());
    assert!(wrong.contains(&format!("{state}: no space left")), "{text}");
    machine.shell(&format!("umount {state}"));
}

#[test]
#[ignore = "needs root and iptables: run by contrib/test"]
fn whoever_uses_the_bit_of_the_mark_is_named_and_with_another_bit_nobody() {
    for backend in VARIANTS {
        let machine = Namespace::new(backend);
        let etc = machine.path("root/etc");
        fs::create_dir_all(&etc).expect("a folder");
        fs::write(etc.join("ipsec.conf"), "conn a\n\tmark=0x10000005/0xf0000000\n").expect("a file");
        machine.tables(
            Family::Ipv4,
            &[
                "-t",
                "mangle",
                "-A",
                "PREROUTING",
                "-i",
                "eth7",
                "-j",
                "MARK",
                "--set-xmark",
                "0x10000000/0x10000000",
            ],
        );
        machine.shell(
            "ip rule add fwmark 0x10000000/0x10000000 lookup 77 priority 700
             ip -6 rule add fwmark 0xf0000000/0xf0000000 lookup 77 priority 701
             ip rule add fwmark 0x5/0xff lookup 77 priority 702
             ip xfrm policy add src 10.66.0.0/16 dst 10.67.0.0/16 dir out mark 0x10000000 mask 0x10000000 \
             tmpl src 192.0.2.1 dst 192.0.2.2 proto esp reqid 5 mode tunnel",
        );
        let notes = |settings: &str| -> Vec<String> {
            machine.settings(settings);
            let (wrong, text) = check(&machine.hook().option("--root", machine.path("root")));
            assert_eq!(wrong, [""; 0], "{text}");
            let notes = text.lines().filter_map(|line| line.strip_prefix("note  "));
            notes
                .filter(|line| line.contains("of the mark"))
                .map(str::to_owned)
                .collect()
        };
        let found = notes("");
        let named = [
            "mangle: -A PREROUTING -i eth7 -j MARK",
            "the IPsec policy 10.66.0.0/16 - 10.67.0.0/16 asks for bit 0x10000000",
            "ip rule: 700: fwmark 0x10000000/0x10000000 uses bit 0x10000000",
            "ip rule: 701: fwmark 0xf0000000/0xf0000000 uses bit 0x10000000",
            "ipsec.conf:2: mark = 0x10000005/0xf0000000 uses bit 0x10000000",
        ];
        for words in named {
            assert!(
                found.iter().any(|line| line.contains(words)),
                "{backend}: {words} in {found:#?}"
            );
        }
        assert_eq!(found.len(), named.len(), "{backend}: {found:#?}");
        assert_eq!(notes("gateway.mark = \"0x100\"\n"), [""; 0], "{backend}");
    }
}

#[test]
#[ignore = "needs root and iptables: run by contrib/test"]
fn an_interface_that_is_only_named_like_a_tunnels_is_named() {
    for backend in VARIANTS {
        let machine = Namespace::new(backend);
        machine.hook().expect_success(&libreswan_up().with("VTI_IFACE", "vti1"));
        let named = |interface: &str| {
            let (_, text) = check(&machine.hook());
            text.contains(&format!(
                "note  the interface {interface} is named like vti1, a tunnel's, and is no tunnel's"
            ))
        };
        assert!(!named("vti9"), "{backend}");
        // A veth stands for it: kernels of test machines have no VTI.
        machine.shell("ip link add vti9 type veth peer name other0");
        assert!(named("vti9") && !named("other0"), "{backend}");
    }
}
