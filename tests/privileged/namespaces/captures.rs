//! Every call that real daemons made.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use pluto_updown::net::Family;
use pluto_updown::netfilter::Backend;

use crate::support::captures::{calls, names, path};
use crate::support::namespace::{Namespace, VARIANTS, own_chain_sizes, the_administrators};
use crate::support::world::World;

fn replay(machine: &Namespace, name: &str) {
    let count = calls(name).len();
    let file = path(name);
    let ending = machine
        .hook()
        .operate(&["replay", file.to_str().expect("a plain path")]);
    assert_eq!(
        (ending.code, ending.err_text()),
        (Some(0), String::new()),
        "{}",
        ending.out_text()
    );
    assert!(
        ending
            .out_text()
            .ends_with(&format!("{count} calls, {count} ok, 0 failed\n")),
        "{}",
        ending.out_text()
    );
}

#[test]
#[ignore = "needs root and iptables: run by contrib/test"]
fn every_capture_replays_twice_and_leaves_the_listings_as_they_were() {
    for backend in VARIANTS {
        let machine = Namespace::new(backend);
        let before = machine.listing();
        assert!(before.iter().all(|listing| listing.contains("-A ADMIN")));
        for name in names().iter().flat_map(|name| [name, name]) {
            replay(&machine, name);
            machine.assert_as_before(&before);
        }
    }
}

#[test]
#[ignore = "needs root and iptables: run by contrib/test"]
fn the_captures_replay_on_a_machine_without_rules() {
    for backend in VARIANTS {
        let machine = Namespace::bare(backend);
        for name in names() {
            replay(&machine, &name);
            assert_eq!(machine.own_chains(), [const { std::collections::BTreeMap::new() }; 2]);
            assert!(!machine.state().exists());
        }
    }
}

/// Makes every call of every capture here and on the emulator, and compares what the two then hold.
fn assert_like_the_emulator(backend: Backend) {
    let machine = Namespace::new(backend);
    let before = machine.listing();
    for name in names() {
        let mut world = World::default();
        world.tables.default = backend;
        for call in calls(&name) {
            machine.hook().expect_success(&call);
            world
                .call(&call.firewall_action())
                .unwrap_or_else(|error| panic!("{name}: {call}: {error}"));
            let emulated = Family::ALL.map(|family| own_chain_sizes(&world.emulator(family).save()));
            assert_eq!(machine.own_chains(), emulated, "{name}: {call}");
            let admin_rules = machine.listing().map(|listing| the_administrators(&listing));
            assert_eq!(admin_rules, before, "{name}: {call}");
        }
        machine.assert_as_before(&before);
    }
}

#[test]
#[ignore = "needs root and iptables: run by contrib/test"]
fn after_each_captured_call_nft_holds_what_the_emulator_holds() {
    assert_like_the_emulator(Backend::Nft);
}

#[test]
#[ignore = "needs root and iptables: run by contrib/test"]
fn after_each_captured_call_legacy_holds_what_the_emulator_holds() {
    assert_like_the_emulator(Backend::Legacy);
}

/// Looks at the tables again and again until it is stopped, and returns how often.
fn watch(machine: &Namespace, before: &[String; 2], done: &AtomicBool) -> usize {
    let mut looks = 0;
    while !done.load(Ordering::Relaxed) {
        for (family, before) in Family::ALL.into_iter().zip(before) {
            let listing = the_administrators(&machine.saved(family));
            assert_eq!(without_repeats(&listing), without_repeats(before));
        }
        looks += 1;
    }
    looks
}

/// iptables-nft-save reads a table in parts, and begins again where it changes meanwhile; 1.8.9 then lists a rule twice that it had read
/// already. What is missing or out of order is not forgiven.
fn without_repeats(listing: &str) -> Vec<&str> {
    let mut lines: Vec<_> = listing.lines().collect();
    lines.dedup();
    lines
}

#[test]
#[ignore = "needs root and iptables: run by contrib/test"]
fn at_no_moment_of_a_replay_are_the_administrators_rules_different() {
    for backend in VARIANTS {
        let machine = Namespace::new(backend);
        let before = machine.listing();
        let done = AtomicBool::new(false);
        let looks = thread::scope(|scope| {
            let watcher = scope.spawn(|| watch(&machine, &before, &done));
            for name in names() {
                replay(&machine, &name);
            }
            done.store(true, Ordering::Relaxed);
            watcher.join().expect("nothing was different")
        });
        assert!(looks > 10, "looked {looks} times only");
        machine.assert_as_before(&before);
    }
}
