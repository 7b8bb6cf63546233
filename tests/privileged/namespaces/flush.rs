//! Everything of ours out, whatever the record says.

use std::fs;

use pluto_updown::net::Family;
use pluto_updown::netfilter::Backend;

use crate::support::binary::{Call, Hook};
use crate::support::captures::{kinds_of_ups, libreswan_up, strongswan_up};
use crate::support::namespace::{Namespace, VARIANTS, link_programs, own_chain_sizes};

fn flush(machine: &Namespace, words: &[&str]) -> (Option<i32>, String) {
    let ending = machine.hook().operate(&[&["flush", "--yes"], words].concat());
    assert_eq!(ending.err_text(), "");
    (ending.code, ending.out_text())
}

/// Tunnels of both families and of each kind.
fn four_ups() -> Vec<Call> {
    [&[strongswan_up()], &kinds_of_ups()[..]].concat()
}

/// A machine whose nat tables are there, since they stay when the first tunnel has made them.
fn machine(backend: Backend) -> Namespace {
    let machine = Namespace::new(backend);
    for family in Family::ALL {
        machine.tables(
            family,
            &["-t", "nat", "-A", "POSTROUTING", "-o", "eth0", "-j", "ACCEPT"],
        );
    }
    machine
}

#[test]
#[ignore = "needs root and iptables: run by contrib/test"]
fn afterwards_everything_is_as_before_the_first_tunnel() {
    for backend in VARIANTS {
        let machine = machine(backend);
        let before = machine.everything();
        assert_eq!(
            flush(&machine, &[]),
            (Some(0), "no rules or chains of pluto-updown found\n".to_owned())
        );
        machine.call_all(&four_ups());
        let installed = machine.everything();
        let (code, text) = flush(&machine, &["--dry-run"]);
        assert_eq!(code, Some(0));
        assert!(
            text.contains(&format!("# {backend}-ipv6: would remove ")) && text.contains(" up would lose all rules\n"),
            "{text}"
        );
        assert_eq!(machine.everything(), installed);
        let (code, text) = flush(&machine, &[]);
        assert_eq!(code, Some(0), "{text}");
        assert!(
            text.contains(&format!("{backend}-ipv4: removed ")) && text.contains(", 5 jumps\n"),
            "{text}"
        );
        assert_eq!(machine.everything(), before, "{backend}");
        assert!(!machine.state().exists());
        // The daemon knows nothing of it.
        machine.down_all(&four_ups());
        machine.call_all(&four_ups());
        assert_eq!(machine.everything(), installed, "{backend}");
    }
}

/// What an administrator saved while tunnels were up, and loaded at the next boot.
#[test]
#[ignore = "needs root and iptables: run by contrib/test"]
fn what_no_record_knows_goes_too() {
    for backend in VARIANTS {
        let machine = machine(backend);
        let before = machine.everything();
        machine.call_all(&four_ups());
        fs::remove_dir_all(machine.state()).expect("losing the record");
        machine.tables(Family::Ipv4, &["-N", "PLUTO-of-an-older-version"]);
        machine.tables(Family::Ipv4, &["-A", "INPUT", "-j", "PLUTO-INPUT"]);
        let (code, text) = flush(&machine, &[]);
        assert_eq!(code, Some(0), "{text}");
        assert_eq!(machine.everything(), before, "{backend}");
        assert!(!machine.state().exists());
    }
}

#[test]
#[ignore = "needs root and iptables: run by contrib/test"]
fn a_record_that_cannot_be_read_is_no_obstacle() {
    let machine = Namespace::new(Backend::Nft);
    let before = machine.listing();
    machine.hook().expect_success(&libreswan_up());
    for entry in fs::read_dir(machine.record().join("nft-ipv4/tunnels")).expect("the tunnels") {
        fs::write(entry.expect("an entry").path(), "nonsense").expect("spoiling it");
    }
    fs::write(machine.record().join("pending"), "nonsense").expect("spoiling it");
    assert_eq!(flush(&machine, &[]).0, Some(0));
    machine.assert_as_before(&before);
}

#[test]
#[ignore = "needs root and iptables: run by contrib/test"]
fn an_administrators_rule_that_leads_to_a_chain_of_ours_is_reported_and_goes_only_when_asked() {
    for backend in VARIANTS {
        let machine = Namespace::new(backend);
        let before = machine.listing();
        machine.hook().expect_success(&libreswan_up());
        let rule = [
            "-A",
            "ADMIN",
            "-i",
            "eth7",
            "-m",
            "comment",
            "--comment",
            "mine, all mine",
            "-j",
            "PLUTO-INPUT",
        ];
        machine.tables(Family::Ipv4, &rule);
        let (code, text) = flush(&machine, &[]);
        assert_eq!(code, Some(1), "{text}");
        let output =
            "kept: your rule in chain \"ADMIN\": -i eth7 -m comment --comment \"mine, all mine\" -j PLUTO-INPUT";
        assert!(text.contains(output), "{text}");
        let expected = [("ADMIN".to_owned(), 1), ("PLUTO-INPUT".to_owned(), 0)];
        assert_eq!(
            own_chain_sizes(&machine.saved(Family::Ipv4)),
            expected.into(),
            "{backend}"
        );
        assert!(!machine.state().exists());
        let (code, text) = flush(&machine, &["--force"]);
        assert_eq!(code, Some(0), "{text}");
        assert_eq!(machine.listing(), before, "{backend}");
    }
}

#[test]
#[ignore = "needs root and iptables: run by contrib/test"]
fn both_variants_are_looked_at() {
    let machine = Namespace::new(Backend::Legacy);
    let other = machine.path("nft");
    link_programs(&other, Backend::Nft);
    machine.hook().expect_success(&libreswan_up());
    // A hook of another machine's, so to speak: its record is lost.
    let elsewhere = Hook::new()
        .through(machine.entry())
        .option("--state-dir", machine.path("lost"))
        .option("--programs", &other)
        .word("--no-routes");
    elsewhere.expect_success(&strongswan_up());
    let all = Hook::new()
        .through(machine.entry())
        .option("--state-dir", machine.state());
    let text = all.operate(&["flush", "--yes"]).said();
    for backend in VARIANTS {
        assert!(text.contains(&format!("{backend}-ipv4: removed")), "{text}");
        assert!(!machine.saved_by(backend, Family::Ipv4).contains("PLUTO-"), "{backend}");
    }
    assert!(!machine.state().exists());
}
