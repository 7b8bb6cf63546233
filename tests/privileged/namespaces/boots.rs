//! A boot with rules that `iptables-save` wrote while tunnels were up: they are in the kernel, and no record knows them.

use pluto_updown::net::Family;
use pluto_updown::netfilter::Backend;

use crate::support::binary::Call;
use crate::support::captures::{find_call, libreswan_up, strongswan_up};
use crate::support::namespace::{Namespace, VARIANTS, the_administrators};

/// Tunnels that were up when the rules were saved: by policy and by interface, in both families.
fn dead() -> [Call; 3] {
    [
        strongswan_up().with("PLUTO_CONNECTION", "dead"),
        find_call("libreswan-5.4", "vti", "up-client"),
        find_call("libreswan-5.4", "v6", "up-client-v6"),
    ]
}

/// Loads what was saved, as a unit does at boot: into a machine that has no record.
fn boot(backend: Backend, saved: &[String; 2]) -> Namespace {
    let machine = Namespace::new(backend);
    for (family, text) in Family::ALL.into_iter().zip(saved) {
        machine.load(family, &[], text);
    }
    machine
}

/// What the administrator saved while the tunnels were up.
fn saved(backend: Backend) -> [String; 2] {
    let machine = Namespace::new(backend);
    machine.call_all(&dead());
    Family::ALL.map(|family| machine.save(family, &[]))
}

/// The tables of a machine that never had a tunnel.
fn clean(saved: &[String; 2], backend: Backend) -> Vec<String> {
    let admin_rules = saved.clone().map(|text| {
        let lines = text.lines().filter(|line| !line.contains("PLUTO-"));
        lines.fold(String::new(), |text, line| text + line + "\n")
    });
    boot(backend, &admin_rules).everything()
}

/// What `status` and `check` say of it, for which they end with 1.
fn status_and_check(machine: &Namespace) -> (String, String) {
    let [status, check] = ["status", "check"].map(|command| {
        let ending = machine.hook().operate(&[command]);
        assert_eq!(ending.code, Some(1), "{command}: {}", ending.out_text());
        ending.out_text()
    });
    (status, check)
}

fn says_so(machine: &Namespace, family: Family) {
    let (status, check) = status_and_check(machine);
    let ruleset = format!("{}-{family}", machine.backend);
    let is_left = status.contains(&format!("{ruleset} filter: ")) && status.contains(" leftover chain");
    let is_unrecorded = status.contains("chains of pluto-updown are loaded") && status.contains(&ruleset);
    assert!(is_left || is_unrecorded, "{status}");
    assert!(check.contains(&format!("WRONG {ruleset}: ")), "{check}");
}

#[test]
#[ignore = "needs root and iptables: run by contrib/test"]
fn status_and_check_tell_of_rules_that_were_saved_while_tunnels_were_up() {
    for backend in VARIANTS {
        let machine = boot(backend, &saved(backend));
        Family::ALL.into_iter().for_each(|family| says_so(&machine, family));
    }
}

#[test]
#[ignore = "needs root and iptables: run by contrib/test"]
fn start_and_restore_take_out_what_was_saved_while_tunnels_were_up() {
    for backend in VARIANTS {
        let saved = saved(backend);
        for command in ["start", "restore"] {
            let machine = boot(backend, &saved);
            let ending = machine.hook().operate(&[command]);
            assert_eq!(ending.code, Some(0), "{backend}, {command}: {}", ending.out_text());
            assert_eq!(machine.everything(), clean(&saved, backend), "{backend}, {command}");
            assert!(!machine.state().exists());
            assert_eq!(
                machine.hook().operate(&["status"]).code,
                Some(0),
                "{backend}, {command}"
            );
        }
    }
}

/// The chains that a packet can come to from the built-in ones.
fn reachable(listing: &str) -> Vec<&str> {
    let mut chains = vec!["INPUT", "FORWARD", "OUTPUT"];
    let mut next = 0;
    while let Some(chain) = chains.get(next).copied() {
        next += 1;
        let start = format!("-A {chain} ");
        for line in listing.lines().filter(|line| line.starts_with(&start)) {
            let mut words = line.split(' ').skip_while(|word| !["-j", "-g"].contains(word));
            if let Some(target) = words.nth(1).filter(|target| !chains.contains(target)) {
                chains.push(target);
            }
        }
    }
    chains
}

/// Without `start`: the first call writes the chains that its tunnel shares with others again, and so leaves no way to a dead one.
#[test]
#[ignore = "needs root and iptables: run by contrib/test"]
fn the_first_up_after_a_boot_opens_nothing_for_tunnels_that_are_dead() {
    for backend in VARIANTS {
        let saved = saved(backend);
        // In the bucket of the dead tunnel, and in another.
        for living in [libreswan_up(), libreswan_up().of_tunnel(3)] {
            let machine = boot(backend, &saved);
            machine.hook().expect_success(&living);
            let listing = machine.saved(Family::Ipv4);
            let dead = |chain: &&&str| chain.starts_with("PLUTO-dead-") || chain.starts_with("PLUTO-vti-");
            let open: Vec<_> = reachable(&listing)
                .iter()
                .filter(dead)
                .map(ToString::to_string)
                .collect();
            assert_eq!(open, Vec::<String>::new(), "{backend}: {listing}");
            // The call has nothing to do with IPv6.
            says_so(&machine, Family::Ipv6);
            assert_eq!(machine.hook().operate(&["restore"]).code, Some(0));
            let calm = Namespace::new(backend);
            calm.hook().expect_success(&living);
            assert_eq!(machine.own_chains(), calm.own_chains(), "{backend}");
            machine.hook().expect_success(&living.opposite());
            assert_eq!(machine.everything(), clean(&saved, backend), "{backend}");
            assert!(!machine.state().exists());
        }
    }
}

/// A saved file that lost the rules of our chains, as the plugin for netfilter-persistent leaves it, opens nothing.
#[test]
#[ignore = "needs root and iptables: run by contrib/test"]
fn chains_of_ours_that_were_loaded_empty_are_no_obstacle() {
    for backend in VARIANTS {
        let saved = saved(backend);
        let emptied = saved.clone().map(|text| {
            let lines = text.lines().filter(|line| !line.starts_with("-A PLUTO-"));
            lines.fold(String::new(), |text, line| text + line + "\n")
        });
        let machine = boot(backend, &emptied);
        let admin_rules = Family::ALL.map(|family| the_administrators(&machine.saved(family)));
        machine.hook().expect_success(&libreswan_up());
        assert_eq!(machine.hook().operate(&["restore"]).code, Some(0));
        let calm = Namespace::new(backend);
        calm.hook().expect_success(&libreswan_up());
        assert_eq!(machine.own_chains(), calm.own_chains(), "{backend}");
        assert_eq!(
            Family::ALL.map(|family| the_administrators(&machine.saved(family))),
            admin_rules
        );
        machine.hook().expect_success(&libreswan_up().opposite());
        assert_eq!(machine.everything(), clean(&saved, backend), "{backend}");
    }
}
