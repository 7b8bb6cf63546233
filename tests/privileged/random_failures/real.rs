//! On real iptables, behind a program that fails in its place.

use std::fs;

use pluto_updown::daemon::Tunnel;
use pluto_updown::net::Family;
use pluto_updown::netfilter::Backend;

use crate::support::binary::{Call, Ending, write_program};
use crate::support::captures::libreswan_up;
use crate::support::charon::{ByChance, Charon, SETTINGS};
use crate::support::figures::print_figure;
use crate::support::model::{Ended, Model};
use crate::support::namespace::{Namespace, VARIANTS, order_independent, prefix, tool};
use crate::support::random::{parameter, seed};

/// How many connections there are of each kind.
const CONNECTIONS: usize = 6;

/// Takes the place of iptables-restore. One in three fails: it refuses, is killed before it does anything, or when it has done everything. The
/// file beside it has the seed and what was met.
const FAILING: &str = r#"#!/usr/bin/perl
use integer;
open my $file, '+<', 'FOLDER/chance' or die;
my ($seed, $count, @met) = split ' ', <$file>;
my $number = ++$count;
for (1 .. 3) { $number = ($number * 1103515245 + $seed * 12345 + 54321) & 0x7fffffff; $number ^= $number >> 13 }
my $fate = $number % 9;
$met[$fate]++ if $fate < 3;
seek $file, 0, 0;
printf $file "%d %d %d %d %d\n", $seed, $count, $met[0] || 0, $met[1] || 0, $met[2] || 0;
close $file;
if ($fate == 0) { print STDERR "iptables-restore: line 1 failed: injected\n"; exit 1 }
kill 'KILL', $$ if $fate == 1;
my $status = system 'PROGRAM', @ARGV;
kill 'KILL', $$ if $fate == 2;
exit $status >> 8;
"#;

/// Puts the failing program in the place of the real one.
fn fail_from_now_on(machine: &Namespace, seed: u64) {
    fs::write(machine.path("chance"), format!("{} 0 0 0 0", seed % 1_000_000)).expect("the file of chance");
    for program in restorers(machine) {
        let real = tool(&program);
        let text = FAILING.replace("FOLDER", &machine.folder().display().to_string());
        let text = text.replace("PROGRAM", &real.display().to_string());
        write_program(&machine.programs().join(&program), text.as_bytes());
    }
}

fn calm_down(machine: &Namespace) {
    for program in restorers(machine) {
        fs::remove_file(machine.programs().join(program)).expect("removing the failing program");
    }
}

fn restorers(machine: &Namespace) -> [String; 2] {
    Family::ALL.map(|family| format!("{}-{}-restore", prefix(family), machine.backend))
}

fn ended(ending: &Ending) -> Ended {
    match (
        ending.code,
        ending.err_text().contains("the next call checks what it changed"),
    ) {
        (Some(0), _) => Ended::Done,
        (Some(1), true) => Ended::Open,
        (Some(1), false) => Ended::Refused,
        _ => panic!("{ending:?}"),
    }
}

fn random_life(backend: Backend, events: usize, seed: u64) {
    let machine = Namespace::new(backend);
    machine.settings(SETTINGS);
    let empty = machine.listing();
    let (mut model, mut charon, mut failed) = (Model::default(), Charon::new(seed, CONNECTIONS), 0);
    // As the daemon announced each up that is open.
    let mut calls: Vec<(Tunnel, Call)> = Vec::new();
    fail_from_now_on(&machine, seed);
    for _ in 0..events {
        // What an earlier call left open is settled by one that asks nothing of the firewall, so that each answer is about its own call.
        while machine.record_exists("pending") {
            machine.hook().call(&libreswan_up().with_verb("route-client"));
        }
        let ByChance { verb, call } = charon.call();
        let tunnel = call.tunnel();
        let ended = ended(&machine.hook().call(&call));
        failed += usize::from(ended != Ended::Done);
        model.call(&tunnel, verb, ended);
        calls.push((tunnel, call));
    }
    let met = fs::read_to_string(machine.path("chance")).expect("the file of chance");
    calm_down(&machine);
    let restored = machine.hook().operate(&["restore"]);
    assert_eq!(restored.code, Some(0), "seed {seed}: {restored:?}");
    let orderly = Namespace::new(backend);
    orderly.settings(SETTINGS);
    let call_of = |up: &Tunnel| {
        let found = calls.iter().find(|(tunnel, _)| tunnel == up);
        found.map(|(_, call)| call.clone()).expect("the call of an up")
    };
    for up in model.open_ups() {
        orderly.hook().expect_success(&as_up(call_of(up)));
    }
    for family in Family::ALL {
        let [now, right] = [&machine, &orderly].map(|machine| sorted(&order_independent(&machine.saved(family))));
        assert_eq!(now, right, "{family}, seed {seed}");
    }
    for up in model.open_ups() {
        machine.hook().expect_success(&as_up(call_of(up)).opposite());
    }
    machine.assert_as_before(&empty);
    let words: Vec<_> = met.split_whitespace().skip(1).collect();
    print_figure(format_args!(
        "{backend}, seed {seed}: {events} calls, {CONNECTIONS} connections, {} rekeyed or moved, {} up at the end",
        charon.silent,
        model.open_ups().len()
    ));
    print_figure(format_args!(
        "  restores, refused, killed before, killed after: {}",
        words.join(", ")
    ));
    print_figure(format_args!(
        "  calls that failed: {failed}; record, kernel and model agree after one restore"
    ));
}

/// libreswan's `down` can be the last that was said of a tunnel.
fn as_up(call: Call) -> Call {
    match call.get("PLUTO_VERB").starts_with("up") {
        true => call,
        false => call.opposite(),
    }
}

/// Rules in the order of their text: which tunnel came first in a bucket is irrelevant.
fn sorted(listing: &str) -> Vec<String> {
    let mut lines: Vec<_> = listing.lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

#[test]
#[ignore = "needs root and iptables: run by contrib/test"]
fn a_restore_in_three_fails_on_real_iptables_and_all_agree_at_the_end() {
    for backend in VARIANTS {
        random_life(backend, parameter("FAULTS_EVENTS", 60), seed());
    }
}
