//! `start` beside many tunnels, over and over, refused, and without space; and an `up` that needs every table.

use std::fs;

use pluto_updown::net::Family;
use pluto_updown::netfilter::{Backend, Table};

use super::settings::Pair;
use super::tables::{break_restore, machine, repair, saved};
use crate::support::binary::{Call, write_program};
use crate::support::captures::{libreswan_up, strongswan_up};
use crate::support::namespace::{Namespace, VARIANTS, prefix};

/// Has this machine's iptables do something first: a line of shell for a program's name.
fn before_each(machine: &Namespace, line: impl Fn(&str) -> String) {
    for family in Family::ALL {
        for action in ["restore", "save"] {
            let name = format!("{}-{action}", prefix(family));
            let real = machine.program(family, action);
            let wrapper = machine.path(&format!("wrapped-{}-{name}", machine.backend));
            let script = format!("#!/bin/sh\n{}\nexec {} \"$@\"\n", line(&name), real.display());
            write_program(&wrapper, script.as_bytes());
            machine.replace_program(&name, &wrapper);
        }
    }
}

/// Has this machine's iptables note what is started.
fn record_starts(machine: &Namespace) {
    let log = machine.path("started").display().to_string();
    before_each(machine, |name| format!("echo {name} >>{log}"));
}

/// The programs that restore, of those that were started since the last question.
fn restores(machine: &Namespace) -> Vec<String> {
    let log = machine.path("started");
    let text = fs::read_to_string(&log).unwrap_or_default();
    fs::write(&log, "").expect("an empty log");
    let names = text.lines().filter(|name| name.ends_with("-restore"));
    names.map(str::to_owned).collect()
}

const EVERYTHING: &str = "[gateway]\nike = \"any\"\nesp = \"negotiated\"\nthrough = \"deny\"\nonly-ipsec = [\"eth7\"]\nicmp = \"safe\"\n\
    inner-only = [\"l2tp\"]\n[[connection]]\nname = \"net-net\"\nallow = \"replies\"\nnat = \"masquerade\"\nmss = 1300\nlog = \"all\"\n\
    when-down = \"block\"\nbetween = [[\"10.1.0.0/24\", \"10.2.0.0/24\"]]\n";

fn up() -> Call {
    libreswan_up().with("PLUTO_MY_SOURCEIP", "10.1.0.1")
}

fn all_tables(machine: &Namespace) -> [[String; 3]; 2] {
    Family::ALL.map(|family| saved(machine, family))
}

/// Every file of the record, with its content.
fn record(machine: &Namespace) -> String {
    let state = machine.state().display().to_string();
    machine.shell(&format!(
        "[ ! -e {state} ] || find {state} -type d -print -o -print -exec cat {{}} + | sort"
    ))
}

#[test]
#[ignore = "needs root and iptables: run by contrib/test"]
fn a_second_start_changes_nothing_and_starts_no_restore() {
    for backend in VARIANTS {
        let machine = machine(backend);
        let before = all_tables(&machine);
        record_starts(&machine);
        machine.settings(EVERYTHING);
        for tunnels in [false, true] {
            if tunnels {
                machine.hook().expect_success(&up());
                restores(&machine);
            } else {
                machine.hook().operate(&["start"]);
                assert_eq!(
                    restores(&machine),
                    ["iptables-restore", "ip6tables-restore"],
                    "{backend}"
                );
            }
            let (installed, recorded) = (all_tables(&machine), record(&machine));
            for _ in 0..2 {
                let ending = machine.hook().operate(&["start"]);
                assert!(
                    ending.out_text().starts_with("nothing to change: "),
                    "{}",
                    ending.out_text()
                );
                assert_eq!(restores(&machine), [""; 0], "{backend}");
                assert_eq!(all_tables(&machine), installed, "{backend}");
                assert_eq!(record(&machine), recorded, "{backend}");
            }
        }
        machine.hook().expect_success(&up().opposite());
        for words in [&["stop"][..], &["unblock", "--all"]] {
            assert_eq!(machine.hook().operate(words).code, Some(0));
        }
        assert_eq!(all_tables(&machine), before, "{backend}");
        assert!(!machine.state().exists());
    }
}

/// The `up` of one of 200 tunnels: 150 of IPv4, 50 of IPv6.
fn one_of_many(number: usize) -> Call {
    let call = strongswan_up()
        .of_tunnel(number)
        .with("PLUTO_REQID", (number + 1).to_string());
    match number {
        0..150 => call.with("PLUTO_PEER_CLIENT", format!("10.9.{number}.0/24")),
        _ => call
            .with_verb("up-client-v6")
            .with("PLUTO_MY_CLIENT", "fd00:1::/64")
            .with("PLUTO_PEER_CLIENT", format!("fd00:9:{number}::/64")),
    }
}

#[test]
#[ignore = "needs root and iptables: run by contrib/test"]
fn a_changed_file_is_applied_to_200_tunnels_in_one_restore_a_family() {
    for backend in VARIANTS {
        let mut pair = Pair::new(backend);
        pair.set("");
        for number in 0..200 {
            pair.call(&one_of_many(number));
        }
        record_starts(&pair.machine);
        for (settings, restarts) in [
            ("[tunnel]\nallow = \"replies\"\nlog = \"denied\"\nmss = 1300\n", 2),
            ("[[connection]]\nname = \"tunnel-1*\"\nallow = [\"tcp/22\"]\n", 2),
            ("", 2),
            ("[[connection]]\nname = \"tunnel-7\"\nallow = \"none\"\n", 1),
        ] {
            pair.set(settings);
            pair.operate("start");
            let started = restores(&pair.machine);
            assert_eq!(started.len(), restarts, "{backend} {settings}: {started:?}");
            pair.assert_alike(&format!("{backend} {settings}"));
        }
    }
}

/// A line of each table that these settings install, by which a section can be spoilt.
const LINES: [(Table, &str); 3] = [
    (Table::Filter, "-j DROP"),
    (Table::Nat, "-j SNAT"),
    (Table::Mangle, "-j TCPMSS"),
];

#[test]
#[ignore = "needs root and iptables: run by contrib/test"]
fn an_up_that_restricts_is_refused_whole_whichever_table_refuses() {
    for backend in VARIANTS {
        for (table, line) in LINES {
            for beside in [None, Some(libreswan_up().of_tunnel(9))] {
                let machine = machine(backend);
                machine.settings(EVERYTHING);
                machine.call_all(&beside);
                let (before, recorded) = (all_tables(&machine), record(&machine));
                break_restore(&machine, Family::Ipv4, table, line);
                machine.hook().call(&up()).assert_refused(1, &["iptables-restore"]);
                let what = format!("{backend} {table} {beside:?}");
                assert_eq!(all_tables(&machine), before, "{what}");
                assert_eq!(record(&machine), recorded, "{what}");
                repair(&machine, Family::Ipv4);
                machine.hook().expect_success(&up());
                machine.hook().expect_success(&up().opposite());
                machine.hook().operate(&["unblock", "--all"]);
                assert_eq!(all_tables(&machine), before, "{what}");
            }
        }
    }
}

#[test]
#[ignore = "needs root and iptables: run by contrib/test"]
fn a_start_is_refused_whole_whichever_table_refuses() {
    for backend in VARIANTS {
        for (table, line) in LINES {
            let machine = machine(backend);
            machine.settings("");
            machine.hook().expect_success(&up());
            machine.settings(EVERYTHING);
            let (before, recorded) = (all_tables(&machine), record(&machine));
            break_restore(&machine, Family::Ipv4, table, line);
            let ending = machine.hook().operate(&["start"]);
            ending.assert_refused(1, &["iptables-restore"]);
            let what = format!("{backend} {table}");
            assert_eq!(all_tables(&machine), before, "{what}");
            assert_eq!(record(&machine), recorded, "{what}");
            repair(&machine, Family::Ipv4);
            assert_eq!(machine.hook().operate(&["start"]).code, Some(0), "{what}");
            assert_ne!(all_tables(&machine), before, "{what}");
        }
    }
}

#[test]
#[ignore = "needs root and iptables: run by contrib/test"]
fn a_file_with_an_error_changes_nothing() {
    for backend in [Backend::Nft, Backend::Legacy] {
        let machine = machine(backend);
        machine.settings(EVERYTHING);
        machine.hook().expect_success(&up());
        machine.hook().operate(&["start"]);
        let (before, recorded) = (all_tables(&machine), record(&machine));
        machine.settings("[tunnel]\nalow = \"all\"\n");
        let ending = machine.hook().operate(&["start"]);
        ending.assert_refused(2, &["settings.toml:2: ", "alow", "allow"]);
        assert_eq!(
            (all_tables(&machine), record(&machine)),
            (before, recorded),
            "{backend}"
        );
    }
}

#[test]
#[ignore = "needs root and iptables: run by contrib/test"]
fn a_start_whose_listing_another_firewall_has_made_stale_looks_once_more() {
    for backend in VARIANTS {
        // Twice it makes the change, and each time once more from a fresh listing.
        for most in [1, 4] {
            let machine = machine(backend);
            let before = all_tables(&machine);
            let tries = machine.path("tries").display().to_string();
            before_each(&machine, |name| match name.strip_suffix("-restore") {
                Some(prefix) => format!(
                    "echo >>{tries}-{prefix}; [ $(wc -l <{tries}-{prefix}) -gt {most} ] || \
                     {{ echo '{name}: line 2 failed: No chain/target/match by that name.' >&2; exit 1; }}"
                ),
                None => String::new(),
            });
            machine.settings("[gateway]\nike = \"any\"\n");
            let ending = machine.hook().operate(&["start"]);
            if most == 1 {
                assert_eq!(ending.code, Some(0), "{backend}: {}", ending.err_text());
                let tables = all_tables(&machine);
                assert!(
                    tables.iter().all(|[filter, ..]| filter.contains("PLUTO-GATEWAY-IN")),
                    "{backend}: {tables:?}"
                );
            } else {
                ending.assert_refused(1, &["line 2 failed"]);
                assert_eq!(all_tables(&machine), before, "{backend}");
            }
        }
    }
}
