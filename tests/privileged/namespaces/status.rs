//! What `status` says, to people and to programs.

use std::fs;

use pluto_updown::net::Family;
use pluto_updown::netfilter::Backend;
use serde_json::Value;

use super::daemons::Daemon;
use crate::support::binary::{Call, Hook, is_printable, write_program};
use crate::support::captures::{find_call, libreswan_up, strongswan_up};
use crate::support::namespace::{Namespace, VARIANTS, order_independent, prefix, tool};

/// What it prints, and its exit code.
fn status(hook: &Hook, words: &[&str]) -> (i32, String) {
    let ending = hook.operate(&[&["status"], words].concat());
    assert_eq!(ending.err_text(), "");
    (ending.code.expect("an exit code"), ending.out_text())
}

fn json(hook: &Hook) -> Value {
    let (code, text) = status(hook, &["--json"]);
    let document: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(document["version"], 2);
    assert_eq!(document["ok"], code == 0, "{text}");
    assert_eq!(text.lines().count(), 1, "{text}");
    document
}

/// Every rule has counted seven packets of 777 bytes, if iptables takes that: ip6tables-nft-restore 1.8.9 does not. Says how many each has
/// counted, with their bytes.
fn count(machine: &Namespace, family: Family) -> (u64, u64) {
    let listing = machine.save(family, &["-c"]);
    machine.load(family, &["--counters"], &listing.replace("\n[0:0] -A", "\n[7:777] -A"));
    match machine.save(family, &["-c"]).contains("\n[7:777] -A PLUTO-") {
        true => (7, 777),
        false => (0, 0),
    }
}

fn v6() -> Call {
    find_call("libreswan-5.4", "v6", "up-client-v6")
}

#[test]
#[ignore = "needs root and iptables: run by contrib/test"]
fn tunnels_of_both_families_are_shown_with_what_they_have_counted() {
    for backend in VARIANTS {
        let machine = Namespace::new(backend);
        let (code, text) = status(&machine.hook(), &[]);
        assert!(code == 0 && text.starts_with("OK: no tunnel up"), "{text}");
        assert_eq!(text.lines().count(), 1, "{text}");
        for up in [strongswan_up(), libreswan_up().of_tunnel(3), v6()] {
            machine.hook().expect_success(&up);
        }
        machine
            .hook()
            .expect_success(&strongswan_up().with("PLUTO_UNIQUEID", "99"));
        let [v4, v6] = Family::ALL.map(|family| count(&machine, family));
        assert_eq!(v4, (7, 777));
        let (code, text) = status(&machine.hook(), &[]);
        assert_eq!(code, 0, "{text}");
        assert!(
            text.lines()
                .all(|line| line.len() <= 80 && is_printable(line.as_bytes())),
            "{text}"
        );
        assert!(text.contains("tunnel-3 ") && text.contains(" 10.3.0.0/24 "), "{text}");
        assert!(text.starts_with("OK: 3 tunnels up, all rules loaded"), "{text}");
        assert_eq!(text.lines().count(), 5, "{text}");
        let document = json(&machine.hook());
        let tunnels = document["tunnels"].as_array().expect("tunnels");
        let names: Vec<_> = tunnels
            .iter()
            .map(|tunnel| tunnel["connection"].as_str().expect("a name"))
            .collect();
        assert_eq!(names, ["net-net", "tunnel-3", "v6"]);
        // The second has an address of the gateway's in the tunnel, and with it two chains each way.
        for (tunnel, (chains, (packets, bytes))) in tunnels.iter().zip([(1, v4), (2, v4), (1, v6)]) {
            assert_eq!(tunnel["backend"], backend.to_string());
            for way in ["received", "sent"] {
                assert_eq!(tunnel[way]["packets"], packets * chains, "{backend}: {tunnel}");
                assert_eq!(tunnel[way]["bytes"], bytes * chains, "{backend}: {tunnel}");
            }
        }
        assert_eq!(
            (&tunnels[0]["ups"], &tunnels[1]["ups"]),
            (&Value::from(2), &Value::from(1))
        );
        assert_eq!(tunnels[2]["family"], "ipv6");
        assert_eq!(tunnels[0]["allowed"]["mode"], "all");
        assert_eq!(tunnels[0]["traffic"]["text"], "any");
    }
}

#[test]
#[ignore = "needs root and iptables: run by contrib/test"]
fn every_peer_that_has_a_tunnel_up_is_shown_and_what_all_of_them_are_allowed() {
    const FILE: &str = "[[connection]]\npeer-id = \"guest\"\nallow = \"none\"\n";
    let ups = [
        (Family::Ipv4, strongswan_up()),
        (Family::Ipv6, find_call("strongswan-6.0.1", "v6", "up-client-v6")),
    ];
    for (backend, (family, up)) in VARIANTS
        .into_iter()
        .flat_map(|backend| ups.clone().map(|up| (backend, up)))
    {
        let machine = Namespace::new(backend);
        let empty = machine.listing();
        machine.settings(FILE);
        let hook = machine.hook();
        let of = |peer: &str, number: &str| {
            let up = up.clone().with("PLUTO_PEER_ID", peer);
            up.with("PLUTO_UNIQUEID", number).with("PLUTO_XAUTH_ID", peer)
        };
        let seen = |peers: &[&str], allowed: &str| {
            let (code, text) = status(&hook, &[]);
            assert_eq!(code, 0, "{text}");
            let document = json(&hook);
            let openers = document["tunnels"][0]["openers"].as_array().expect("openers");
            let names: Vec<_> = openers.iter().map(|opener| opener["remote_id"].as_str()).collect();
            assert_eq!(names, peers.iter().map(|peer| Some(*peer)).collect::<Vec<_>>());
            assert_eq!(openers[0]["user"], peers[0]);
            assert_eq!(document["tunnels"][0]["allowed"]["mode"], allowed);
            let shown = |peer: &&str| text.contains(peer);
            assert!(peers.iter().all(shown), "{text}");
        };
        hook.expect_success(&of("anna", "1"));
        let alone = order_independent(&machine.saved(family));
        seen(&["anna"], "all");
        hook.expect_success(&of("guest", "2"));
        seen(&["anna", "guest"], "none");
        assert_ne!(order_independent(&machine.saved(family)), alone);
        hook.expect_success(&of("guest", "2").opposite());
        seen(&["anna"], "all");
        assert_eq!(order_independent(&machine.saved(family)), alone);
        hook.expect_success(&of("guest", "2").opposite());
        seen(&["anna"], "all");
        hook.expect_success(&of("anna", "1").opposite());
        machine.assert_as_before(&empty);
    }
}

#[test]
#[ignore = "needs root and iptables: run by contrib/test"]
fn what_differs_is_reported_in_a_line_with_the_command_that_fixes_it() {
    for backend in VARIANTS {
        let machine = Namespace::new(backend);
        machine.hook().expect_success(&libreswan_up());
        machine.hook().expect_success(&v6());
        machine.tables(Family::Ipv4, &["-D", "FORWARD", "-j", "PLUTO-FORWARD"]);
        machine.tables(Family::Ipv4, &["-A", "PLUTO-ONWARD", "-j", "DROP"]);
        machine.reload(Family::Ipv6);
        let before = machine.listing();
        let (code, text) = status(&machine.hook(), &[]);
        assert_eq!(code, 1, "{text}");
        for line in [
            "ipv4 filter: missing jump: FORWARD -> PLUTO-FORWARD\n",
            "ipv4 filter: unexpected rule in PLUTO-ONWARD: -j DROP\n",
            "ipv6 filter: missing: all ",
        ] {
            assert!(text.contains(&format!("{backend}-{line}")), "{text}");
        }
        assert!(
            text.starts_with("NOT OK: 16 missing chains, 1 missing jump, 1 unexpected rule (2 tunnels up)"),
            "{text}"
        );
        assert_eq!(text.matches("  fix: pluto-updown restore\n").count(), 1, "{text}");
        let (_, whole) = status(&machine.hook(), &["-v"]);
        assert_eq!(whole.matches(" -- fix: pluto-updown restore\n").count(), 3, "{whole}");
        assert_eq!(machine.listing(), before, "it only looks");
        let problems = json(&machine.hook())["problems"].clone();
        let kinds: Vec<_> = problems
            .as_array()
            .expect("problems")
            .iter()
            .map(|problem| problem["kind"].clone())
            .collect();
        assert_eq!(kinds, ["missing", "foreign", "missing"]);
        // What it says helps.
        machine.hook().operate(&["restore"]);
        assert_eq!(status(&machine.hook(), &[]).0, 0);
    }
}

#[test]
#[ignore = "needs root and iptables: run by contrib/test"]
fn a_peers_words_do_nothing_to_a_terminal() {
    let machine = Namespace::new(Backend::Nft);
    let identity = "a\u{1b}[2J\u{7}\u{9b}31m\n\"b\\\u{202e}";
    machine
        .hook()
        .expect_success(&libreswan_up().with("PLUTO_PEER_ID", identity));
    let (code, text) = status(&machine.hook(), &[]);
    assert_eq!(code, 0);
    assert!(text.lines().all(|line| is_printable(line.as_bytes())), "{text}");
    assert!(text.contains("a\\x1b[2J"), "{text}");
    let document = json(&machine.hook());
    let shown = document["tunnels"][0]["remote_id"].as_str().expect("an identity");
    assert!(
        is_printable(shown.as_bytes()) && shown.starts_with("a\\x1b[2J"),
        "{shown}"
    );
}

#[test]
#[ignore = "needs root and iptables: run by contrib/test"]
fn a_daemon_that_has_exited_is_reported() {
    let machine = Namespace::new(Backend::Nft);
    let mut daemon = Daemon::start(&machine, "pluto");
    daemon.calls(&libreswan_up());
    assert_eq!(json(&machine.hook())["tunnels"][0]["daemon"]["running"], true);
    daemon.dies();
    let document = json(&machine.hook());
    assert_eq!(document["problems"][0]["kind"], "stale");
    assert_eq!(document["problems"][0]["fix_command"], "pluto-updown prune");
    assert_eq!(document["problems"][0]["tunnel"], document["tunnels"][0]["id"]);
}

#[test]
#[ignore = "needs root and iptables: run by contrib/test"]
fn one_listing_for_each_family_is_enough() {
    for backend in VARIANTS {
        let machine = Namespace::new(backend);
        machine.hook().expect_success(&libreswan_up());
        machine.hook().expect_success(&v6());
        let log = machine.path("log");
        for family in Family::ALL {
            let name = format!("{}-save", prefix(family));
            let real = tool(&format!("{}-{backend}-save", prefix(family)))
                .display()
                .to_string();
            let script = format!(
                "#!/bin/sh\necho {name} \"$@\" >>{}\nexec {real} \"$@\"\n",
                log.display()
            );
            let fake = machine.path(&format!("fake-{backend}-{name}"));
            write_program(&fake, script.as_bytes());
            let link = machine.programs().join(&name);
            fs::remove_file(&link).expect("removing the link");
            std::os::unix::fs::symlink(&fake, &link).expect("a link");
        }
        assert_eq!(status(&machine.hook(), &[]).0, 0);
        let calls = fs::read_to_string(&log).expect("the log");
        assert_eq!(calls, "iptables-save -c\nip6tables-save -c\n", "{backend}");
    }
}

#[test]
#[ignore = "needs root and iptables: run by contrib/test"]
fn watching_shows_rates_and_ends_with_its_reader() {
    let machine = Namespace::new(Backend::Nft);
    machine.hook().expect_success(&libreswan_up());
    let timeout = tool("timeout").display().to_string();
    let hook = machine.started_by(&[&timeout, "2.5"]);
    let ending = hook.operate(&["status", "--watch=1"]);
    assert_eq!(ending.code, Some(124), "it ends when it is killed");
    let text = ending.out_text();
    assert!(text.matches("NAME ").count() >= 2, "{text}");
    assert!(text.contains("RX/s") && !text.contains('\u{1b}'), "{text}");
}

#[test]
#[ignore = "needs root, iptables and strace: run by contrib/test"]
fn each_record_is_read_once() {
    let machine = Namespace::new(Backend::Nft);
    let ups = [2, 3, 4].map(|number| {
        strongswan_up()
            .of_tunnel(number)
            .with("PLUTO_REQID", number.to_string())
    });
    ups.iter().for_each(|up| machine.hook().expect_success(up));
    machine.hook().expect_success(&v6());
    let log = machine.path("strace").display().to_string();
    let strace = tool("strace").display().to_string();
    let hook = machine.started_by(&[&strace, "-f", "-e", "trace=openat", "-o", &log]);
    assert_eq!(status(&hook, &[]).0, 0);
    let opened = fs::read_to_string(&log).expect("what strace has written");
    for name in ["tunnel-2", "tunnel-3", "tunnel-4", "v6"] {
        assert_eq!(
            opened.matches(&format!("/tunnels/{name}-")).count(),
            1,
            "{name}: {opened}"
        );
    }
}
