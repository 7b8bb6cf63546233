//! nft and legacy, IPv4 and IPv6 on one machine.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use pluto_updown::net::Family;
use pluto_updown::netfilter::Backend;

use crate::support::binary::{Call, Hook};
use crate::support::captures::{find_call, libreswan_up, strongswan_up};
use crate::support::namespace::{Namespace, VARIANTS, link_programs, own_chain_sizes, prefix, tool};

/// Both families of both backends under their full names, and `iptables` as one of them.
fn link_both(machine: &Namespace, name: &str, plain: Backend) -> PathBuf {
    let folder = machine.path(name);
    link_programs(&folder, plain);
    for prefix in Family::ALL.map(prefix) {
        for backend in VARIANTS {
            for action in ["restore", "save"] {
                let full = format!("{prefix}-{backend}-{action}");
                symlink(tool(&full), folder.join(full)).expect("a link to the program");
            }
        }
    }
    folder
}

/// Brings a tunnel up while `iptables` is one backend, and up again and down while it is the other.
fn assert_stays_where_it_is(backend: Backend, other: Backend, up: &Call) {
    let machine = Namespace::new(backend);
    let before = machine.listing();
    fs::remove_dir_all(machine.programs()).expect("no other programs");
    let [first, later] = [backend, other].map(|plain| {
        let folder = link_both(&machine, &plain.to_string(), plain);
        machine.hook().option("--programs", folder)
    });
    first.expect_success(up);
    assert!(machine.own_chains()[0].len() > 5);
    // Somebody has turned `iptables` round with update-alternatives. A second up goes where the first one is.
    later.expect_success(up);
    assert!(own_chain_sizes(&machine.saved_by(other, Family::Ipv4)).is_empty());
    later.expect_success(&up.clone().opposite());
    // Where ups are counted it takes as many downs; elsewhere this one has nothing to do.
    later.expect_success(&up.clone().opposite());
    machine.assert_as_before(&before);
    assert!(own_chain_sizes(&machine.saved_by(other, Family::Ipv4)).is_empty());
}

#[test]
#[ignore = "needs root and iptables: run by contrib/test"]
fn a_tunnel_is_removed_with_the_variant_it_was_installed_with() {
    for (backend, other) in [(Backend::Nft, Backend::Legacy), (Backend::Legacy, Backend::Nft)] {
        for up in [libreswan_up(), strongswan_up()] {
            assert_stays_where_it_is(backend, other, &up);
        }
    }
}

#[test]
#[ignore = "needs root and iptables: run by contrib/test"]
fn tunnels_of_both_variants_are_up_beside_each_other() {
    let machine = Namespace::new(Backend::Nft);
    let before = machine.listing();
    let legacy_before = own_chain_sizes(&machine.saved_by(Backend::Legacy, Family::Ipv4));
    let nft = link_both(&machine, "nft", Backend::Nft);
    let legacy = link_both(&machine, "legacy", Backend::Legacy);
    fs::remove_dir_all(machine.programs()).expect("no other programs");
    machine
        .hook()
        .option("--programs", &nft)
        .expect_success(&libreswan_up());
    machine
        .hook()
        .option("--programs", &legacy)
        .expect_success(&libreswan_up().of_tunnel(3));
    assert!(!own_chain_sizes(&machine.saved_by(Backend::Legacy, Family::Ipv4)).is_empty());
    machine
        .hook()
        .option("--programs", &legacy)
        .expect_success(&libreswan_up().opposite());
    machine
        .hook()
        .option("--programs", &nft)
        .expect_success(&libreswan_up().of_tunnel(3).opposite());
    machine.assert_as_before(&before);
    assert_eq!(
        own_chain_sizes(&machine.saved_by(Backend::Legacy, Family::Ipv4)),
        legacy_before
    );
}

#[test]
#[ignore = "needs root and iptables: run by contrib/test"]
fn both_families_are_installed_beside_each_other() {
    for backend in VARIANTS {
        let machine = Namespace::new(backend);
        let before = machine.listing();
        let v6 = find_call("strongswan-6.0.1", "v6", "up-client-v6");
        machine.hook().expect_success(&strongswan_up());
        assert!(machine.own_chains()[1].is_empty());
        machine.hook().expect_success(&v6);
        assert!(machine.own_chains().iter().all(|chains| chains.len() > 5));
        machine.hook().expect_success(&strongswan_up().opposite());
        assert!(machine.own_chains()[0].is_empty() && !machine.own_chains()[1].is_empty());
        machine.hook().expect_success(&v6.opposite());
        machine.assert_as_before(&before);
    }
}

#[test]
#[ignore = "needs root and iptables: run by contrib/test"]
fn the_family_is_that_of_the_networks_and_not_of_the_verb() {
    for backend in VARIANTS {
        let machine = Namespace::new(backend);
        let before = machine.listing();
        // A tunnel of IPv6 between hosts of IPv4, in the words of libreswan 4; and the other way round.
        let inner6 = find_call("libreswan-4.10", "net-net", "up-client")
            .with("PLUTO_MY_CLIENT", "fd00:1::/64")
            .with("PLUTO_PEER_CLIENT", "fd00:2::/64");
        let inner4 = find_call("libreswan-4.10", "net-net", "up-client")
            .with_verb("up-client-v6")
            .with("PLUTO_ME", "2001:db8::1")
            .with("PLUTO_PEER", "2001:db8::2");
        for (up, family) in [(inner6, 1), (inner4, 0)] {
            machine.hook().expect_success(&up);
            let chains = machine.own_chains();
            assert!(
                chains[family].len() > 5 && chains[1 - family].is_empty(),
                "{backend}: {chains:?}"
            );
            machine.hook().expect_success(&up.clone().with_verb("down-client"));
            machine.assert_as_before(&before);
        }
    }
}

#[test]
#[ignore = "needs root and iptables: run by contrib/test"]
fn the_systems_own_iptables_and_the_default_folder_do() {
    // The machine's /run is its own.
    let machine = Namespace::new(Backend::Nft);
    // What libreswan names as the interface, which an `up` may lead a route over.
    machine.shell("ip link add w0 type veth peer name outside; ip link set w0 up");
    let listings =
        || [Backend::Nft, Backend::Legacy].map(|backend| own_chain_sizes(&machine.saved_by(backend, Family::Ipv4)));
    let before = listings();
    let hook = Hook::new().through(machine.entry());
    hook.expect_success(&libreswan_up());
    assert_ne!(listings(), before);
    assert_eq!(machine.shell("ls /run/pluto-updown | wc -l"), "1\n");
    hook.expect_success(&libreswan_up().opposite());
    assert_eq!(listings(), before);
    // The source address stays until then.
    hook.expect_success(&libreswan_up().with_verb("unroute-client"));
    assert_eq!(
        machine.shell("ls -d /run/pluto-updown 2>/dev/null || echo gone"),
        "gone\n"
    );
}

#[test]
#[ignore = "needs root and iptables: run by contrib/test"]
fn start_moves_what_the_other_variant_has() {
    for (backend, other) in [(Backend::Nft, Backend::Legacy), (Backend::Legacy, Backend::Nft)] {
        let machine = Namespace::new(backend);
        machine.settings("[gateway]\nesp = \"negotiated\"\n[tunnel]\nallow = \"replies\"\n");
        let own_of = |backend| Family::ALL.map(|family| own_chain_sizes(&machine.saved_by(backend, family)));
        let before = [backend, other].map(own_of);
        fs::remove_dir_all(machine.programs()).expect("no other programs");
        let [first, later] = [backend, other].map(|plain| {
            let folder = link_both(&machine, &plain.to_string(), plain);
            machine.hook().option("--programs", folder)
        });
        let inner6 = find_call("libreswan-4.10", "net-net", "up-client")
            .with("PLUTO_MY_CLIENT", "fd00:1::/64")
            .with("PLUTO_PEER_CLIENT", "fd00:2::/64");
        assert_eq!(first.operate(&["start"]).code, Some(0));
        first.expect_success(&strongswan_up());
        first.expect_success(&inner6);
        let status = later.operate(&["status"]).out_text();
        assert!(status.contains("to install with the present iptables"), "{status}");
        let started = later.operate(&["start"]);
        assert_eq!(started.code, Some(0), "{backend}: {}", started.err_text());
        assert_eq!(own_of(backend), before[0], "{backend}");
        let peers = machine.saved_by(other, Family::Ipv4);
        assert!(peers.contains("-A PLUTO-E-"), "{backend}: {peers}");
        assert_eq!(
            later.operate(&["restore"]).out_text(),
            "nothing to restore, all rules are loaded\n"
        );
        later.expect_success(&strongswan_up().opposite());
        later.expect_success(&inner6.clone().with_verb("down-client"));
        assert_eq!(later.operate(&["stop"]).code, Some(0));
        assert_eq!([backend, other].map(own_of), before, "{backend}");
    }
}
