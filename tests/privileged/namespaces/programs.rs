//! The programs that a call starts, as the kernel sees it.

use std::fs;

use crate::support::binary::Call;
use crate::support::captures::{find_call, libreswan_up, strongswan_up};
use crate::support::namespace::{Namespace, VARIANTS, tool};

/// What a call has executed, the program itself left out.
fn executed(machine: &Namespace, call: &Call) -> Vec<String> {
    let log = machine.path("trace");
    let strace = tool("strace").display().to_string();
    let words = [
        &strace,
        "-f",
        "-qq",
        "-e",
        "trace=execve,execveat",
        "-o",
        log.to_str().expect("a plain path"),
        "--",
    ];
    machine.started_by(&words).expect_success(call);
    let text = fs::read_to_string(&log).expect("what strace has written");
    let names = text
        .lines()
        .filter_map(|line| line.split_once("execve(\"")?.1.split('"').next());
    let names = names.filter_map(|path| path.rsplit('/').next()).map(str::to_owned);
    names.skip(1).collect()
}

#[test]
#[ignore = "needs root and iptables: run by contrib/test"]
fn a_libreswan_call_starts_one_restore_where_something_changes_and_nothing_else() {
    for backend in VARIANTS {
        let machine = Namespace::new(backend);
        for (verb, programs) in [
            ("prepare-client", &[][..]),
            ("route-client", &[]),
            ("up-client", &["iptables-restore"]),
            ("up-client", &[]),
            ("prepare-client", &[]),
            ("down-client", &["iptables-restore"]),
            ("down-client", &[]),
            ("unroute-client", &[]),
        ] {
            assert_eq!(
                executed(&machine, &libreswan_up().with_verb(verb)),
                programs,
                "{backend} {verb}"
            );
        }
    }
}

#[test]
#[ignore = "needs root and iptables: run by contrib/test"]
fn a_strongswan_call_starts_one_restore_where_something_changes_and_nothing_else() {
    for backend in VARIANTS {
        let machine = Namespace::new(backend);
        for (verb, programs) in [
            ("up-client", &["iptables-restore"][..]),
            ("up-client", &[]),
            ("down-client", &[]),
            ("down-client", &["iptables-restore"]),
        ] {
            assert_eq!(
                executed(&machine, &strongswan_up().with_verb(verb)),
                programs,
                "{backend} {verb}"
            );
        }
    }
}

#[test]
#[ignore = "needs root and iptables: run by contrib/test"]
fn a_tunnel_beside_others_costs_no_more_programs() {
    let machine = Namespace::new(VARIANTS[0]);
    let others = (1..=3).map(|number| libreswan_up().of_tunnel(number * 40));
    others.for_each(|call| machine.hook().expect_success(&call));
    assert_eq!(executed(&machine, &libreswan_up()), ["iptables-restore"]);
    assert_eq!(executed(&machine, &libreswan_up().opposite()), ["iptables-restore"]);
    let v6 = find_call("libreswan-5.4", "v6", "up-client-v6");
    assert_eq!(executed(&machine, &v6), ["ip6tables-restore"]);
    assert_eq!(executed(&machine, &v6.opposite()), ["ip6tables-restore"]);
}

#[test]
#[ignore = "needs root and iptables: run by contrib/test"]
fn a_reload_costs_one_failed_restore_one_look_and_one_restore() {
    for backend in VARIANTS {
        let machine = Namespace::new(backend);
        machine.hook().expect_success(&libreswan_up());
        machine.reload(pluto_updown::net::Family::Ipv4);
        let programs = executed(&machine, &libreswan_up().of_tunnel(9));
        assert_eq!(programs, ["iptables-restore", "iptables-save", "iptables-restore"]);
        // And no more from then on.
        assert_eq!(
            executed(&machine, &libreswan_up().of_tunnel(9).opposite()),
            ["iptables-restore"]
        );
    }
}
