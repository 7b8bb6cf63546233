//! A firewall that is reloaded between two calls.

use pluto_updown::net::Family;
use pluto_updown::netfilter::Backend;

use crate::support::binary::Call;
use crate::support::captures::{find_call, libreswan_up, strongswan_up};
use crate::support::gateway::{SHARED_CHAINS, twins};
use crate::support::namespace::{Namespace, VARIANTS, the_administrators};

/// What administrators and other programs do to the tables.
const WAYS: [&str; 7] = [
    "restored",
    "flushed",
    "flushed and chains removed",
    "FORWARD flushed",
    "PLUTO-FORWARD flushed",
    "a jump taken out",
    "wiped by nft",
];

fn reload(machine: &Namespace, family: Family, how: &str) {
    let tables = |arguments: &[&str]| drop(machine.tables(family, arguments));
    match how {
        "restored" => machine.reload(family),
        "flushed" => tables(&["-F"]),
        "flushed and chains removed" => {
            tables(&["-F"]);
            tables(&["-X"]);
        }
        "FORWARD flushed" => tables(&["-F", "FORWARD"]),
        "PLUTO-FORWARD flushed" => tables(&["-F", "PLUTO-FORWARD"]),
        "a jump taken out" => tables(&["-D", "FORWARD", "-j", "PLUTO-FORWARD"]),
        "wiped by nft" => drop(machine.run(["/usr/sbin/nft", "flush", "ruleset"], "")),
        _ => panic!("{how}"),
    }
}

/// Three tunnels that stay: two in one bucket, and one with an interface of its own.
fn permanent_tunnels() -> [Call; 3] {
    [
        strongswan_up().with("PLUTO_CONNECTION", "stays"),
        libreswan_up().of_tunnel(3),
        find_call("libreswan-5.4", "vti", "up-client"),
    ]
}

/// The chains that a machine has on which only these tunnels came up.
fn machine_without_reloads(backend: Backend, ups: &[Call]) -> Namespace {
    let machine = Namespace::new(backend);
    machine.call_all(ups);
    machine
}

/// Reloads while tunnels are up, makes one call, and all rules are there again, exactly once.
fn assert_found_out(backend: Backend, how: &str, installed: &[Call], next: &Call, stand: &[Call]) {
    let machine = machine_without_reloads(backend, installed);
    reload(&machine, Family::Ipv4, how);
    let admin_rules = the_administrators(&machine.saved(Family::Ipv4));
    machine.hook().expect_success(next);
    assert_eq!(
        machine.own_chains(),
        machine_without_reloads(backend, stand).own_chains(),
        "{backend}, {how}, {next}"
    );
    assert_eq!(
        the_administrators(&machine.saved(Family::Ipv4)),
        with_policies(&admin_rules),
        "{backend}, {how}, {next}"
    );
    machine.down_all(stand);
    assert_eq!(
        machine.saved(Family::Ipv4),
        with_policies(&admin_rules),
        "{backend}, {how}, {next}"
    );
    assert!(!machine.state().exists());
}

/// Where nft has no table left, the first rule makes it with its built-in chains.
fn with_policies(listing: &str) -> String {
    match listing {
        "" => "*filter\n:INPUT ACCEPT\n:FORWARD ACCEPT\n:OUTPUT ACCEPT\nCOMMIT\n".to_owned(),
        listing => listing.to_owned(),
    }
}

/// The ways that there are with a backend.
fn reload_kinds(backend: Backend) -> impl Iterator<Item = &'static str> {
    WAYS.into_iter()
        .filter(move |how| backend == Backend::Nft || *how != "wiped by nft")
}

#[test]
#[ignore = "needs root and iptables: run by contrib/test"]
fn the_next_up_puts_every_living_tunnel_back_once() {
    for backend in VARIANTS {
        for how in reload_kinds(backend) {
            let [a, b, c] = permanent_tunnels();
            let next = libreswan_up();
            assert_found_out(
                backend,
                how,
                &[a.clone(), b.clone(), c.clone()],
                &next,
                &[a, b, c, next.clone()],
            );
        }
    }
}

#[test]
#[ignore = "needs root and iptables: run by contrib/test"]
fn the_next_down_puts_every_living_tunnel_back_once() {
    for backend in VARIANTS {
        for how in reload_kinds(backend) {
            let [a, b, c] = permanent_tunnels();
            let goes = libreswan_up();
            let installed = [a.clone(), b.clone(), c.clone(), goes.clone()];
            assert_found_out(backend, how, &installed, &goes.opposite(), &[a, b, c]);
        }
    }
}

#[test]
#[ignore = "needs root and iptables: run by contrib/test"]
fn the_last_down_after_a_reload_leaves_nothing() {
    for backend in VARIANTS {
        for how in reload_kinds(backend) {
            assert_found_out(backend, how, &[libreswan_up()], &libreswan_up().opposite(), &[]);
        }
    }
}

#[test]
#[ignore = "needs root and iptables: run by contrib/test"]
fn an_up_that_replaces_a_tunnel_finds_out() {
    for backend in VARIANTS {
        for how in reload_kinds(backend) {
            let [a, b, c] = permanent_tunnels();
            let next = b.clone().with("PLUTO_SA_REQID", "16401");
            assert_found_out(backend, how, &[a.clone(), b, c.clone()], &next, &[a, next.clone(), c]);
        }
    }
}

#[test]
#[ignore = "needs root and iptables: run by contrib/test"]
fn a_reload_of_one_family_leaves_the_other_alone() {
    for backend in VARIANTS {
        let v6 = find_call("libreswan-5.4", "v6", "up-client-v6");
        let machine = machine_without_reloads(backend, &[v6.clone(), libreswan_up()]);
        let v4 = machine.saved(Family::Ipv4);
        machine.reload(Family::Ipv6);
        let other = v6
            .clone()
            .with("PLUTO_CONNECTION", "other")
            .with("PLUTO_PEER_CLIENT", "fd00:77::/64");
        machine.hook().expect_success(&other);
        assert_eq!(
            machine.own_chains(),
            machine_without_reloads(backend, &[v6, libreswan_up(), other]).own_chains()
        );
        assert_eq!(machine.saved(Family::Ipv4), v4);
    }
}

#[test]
#[ignore = "needs root and iptables: run by contrib/test"]
fn jumps_that_somebody_doubled_do_not_disturb_the_rest_of_a_life() {
    for backend in VARIANTS {
        let machine = machine_without_reloads(backend, &[libreswan_up()]);
        for _ in 0..2 {
            machine.tables(Family::Ipv4, &["-A", "INPUT", "-j", "PLUTO-INPUT"]);
        }
        machine.hook().expect_success(&libreswan_up().opposite());
        assert_eq!(machine.listing(), Namespace::new(backend).listing(), "{backend}");
        assert!(!machine.state().exists());
    }
}

/// Whichever of the chains that all tunnels need is emptied, and whichever packets the next change is for.
#[test]
#[ignore = "needs root and iptables: run by contrib/test"]
fn the_next_call_refills_a_chain_that_somebody_has_emptied() {
    std::thread::scope(|scope| {
        for (backend, family) in twins() {
            scope.spawn(move || {
                SHARED_CHAINS[..10]
                    .iter()
                    .for_each(|chain| assert_refilled(backend, family, chain));
            });
        }
    });
}

/// Two tunnels of a family, one of which is up; a host has no packets to forward.
fn assert_refilled(backend: Backend, family: Family, chain: &str) {
    let [client, host] = match family {
        Family::Ipv4 => [
            libreswan_up(),
            find_call("libreswan-5.4", "host-host", "up-host").of_tunnel(5),
        ],
        Family::Ipv6 => [
            find_call("libreswan-5.4", "v6", "up-client-v6"),
            find_call("libreswan-5.4", "v6", "up-client-v6")
                .of_tunnel(5)
                .with_verb("up-host-v6")
                .with("PLUTO_MY_CLIENT", "2001:db8::1/128")
                .with("PLUTO_PEER_CLIENT", "2001:db8::2/128"),
        ],
    };
    for [first, second] in [[&client, &host], [&host, &client]] {
        let machine = machine_without_reloads(backend, std::slice::from_ref(first));
        let one = machine.own_chains();
        let both = machine_without_reloads(backend, &[first.clone(), second.clone()]).own_chains();
        for (call, expected) in [(second.clone(), both), (second.clone().opposite(), one)] {
            machine.tables(family, &["-F", chain]);
            machine.hook().expect_success(&call);
            assert_eq!(machine.own_chains(), expected, "{backend}, {chain}, {call}");
        }
    }
}
