//! On real iptables, behind a program that fails in its place.

use std::fs;

use pluto_updown::netfilter::Backend;
use pluto_updown::selector::Family;
use pluto_updown::updown_env::{FirewallAction, Tunnel};

use super::model::{Ended, Model, Verb};
use crate::support::binary::{Call, Ending, write_program};
use crate::support::captures::{libreswan_up, strongswan_up};
use crate::support::figures::tell;
use crate::support::namespace::{Namespace, VARIANTS, timeless, tool};
use crate::support::random::{Random, parameter, seed};

/// How many tunnels there are.
const TUNNELS: usize = 40;

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

fn up(number: usize) -> Call {
    let call = if number.is_multiple_of(2) {
        strongswan_up()
    } else {
        libreswan_up()
    };
    let far = format!("10.{}.{}.0/24", 100 + number / 4, number % 4);
    let reqid = (16389 + 4 * number).to_string();
    let call = call.of_tunnel(number).with("PLUTO_PEER_CLIENT", far);
    if number.is_multiple_of(2) {
        call.with("PLUTO_REQID", reqid)
    } else {
        call.with("PLUTO_SA_REQID", reqid)
    }
}

fn tunnel(call: &Call) -> Tunnel {
    match call.duty() {
        FirewallAction::Open(tunnel) | FirewallAction::Close(tunnel) => *tunnel,
        FirewallAction::Nothing => panic!("{call} is about no tunnel"),
    }
}

/// Puts the failing program in the place of the real one.
fn fail_from_now_on(machine: &Namespace, seed: u64) {
    let real = tool(&format!("iptables-{}-restore", machine.backend));
    let text = FAILING.replace("FOLDER", &machine.folder().display().to_string());
    let text = text.replace("PROGRAM", &real.display().to_string());
    fs::write(machine.path("chance"), format!("{} 0 0 0 0", seed % 1_000_000)).expect("the file of chance");
    let program = machine.programs().join(format!("iptables-{}-restore", machine.backend));
    write_program(&program, text.as_bytes());
}

fn calm_down(machine: &Namespace) {
    let program = machine.programs().join(format!("iptables-{}-restore", machine.backend));
    fs::remove_file(program).expect("removing the failing program");
}

fn ended(ending: &Ending) -> Ended {
    match (ending.code, ending.err_text().contains("the next call will find out")) {
        (Some(0), _) => Ended::Done,
        (Some(1), true) => Ended::Open,
        (Some(1), false) => Ended::Refused,
        _ => panic!("{ending:?}"),
    }
}

fn live(backend: Backend, events: usize, seed: u64) {
    let machine = Namespace::new(backend);
    let empty = machine.listing();
    let calls: Vec<_> = (0..TUNNELS).map(up).collect();
    let tunnels: Vec<_> = calls.iter().map(tunnel).collect();
    let (mut model, mut random, mut failed) = (Model::default(), Random::seeded(seed), 0);
    fail_from_now_on(&machine, seed);
    for _ in 0..events {
        // What an earlier call left open is settled by one that asks nothing of the firewall, so that each answer is about its own call.
        while machine.record_exists("pending") {
            machine.hook().call(&libreswan_up().saying("route-client"));
        }
        let which = random.below(TUNNELS);
        let verb = random.pick(&[Verb::Up, Verb::Up, Verb::Up, Verb::Down, Verb::Down]);
        let call = match verb {
            Verb::Up => calls[which].clone(),
            Verb::Down => calls[which].clone().opposite(),
        };
        let ended = ended(&machine.hook().call(&call));
        failed += usize::from(ended != Ended::Done);
        model.call(which, &tunnels[which], verb, ended);
    }
    let met = fs::read_to_string(machine.path("chance")).expect("the file of chance");
    calm_down(&machine);
    let restored = machine.hook().operate(&["restore"]);
    assert_eq!(restored.code, Some(0), "seed {seed}: {restored:?}");
    let orderly = Namespace::new(backend);
    for (which, count) in model.standing() {
        (0..count).for_each(|_| orderly.hook().must(&calls[which]));
    }
    let [now, right] = [&machine, &orderly].map(|machine| timeless(&machine.saved(Family::Ipv4)));
    assert_eq!(now, right, "seed {seed}");
    let standing: Vec<_> = model.standing().collect();
    for (which, count) in &standing {
        (0..*count).for_each(|_| machine.hook().must(&calls[*which].clone().opposite()));
    }
    machine.assert_as_before(&empty);
    let words: Vec<_> = met.split_whitespace().skip(1).collect();
    tell(format_args!(
        "{backend}, seed {seed}: {events} calls, {TUNNELS} tunnels, {} up at the end",
        standing.len()
    ));
    tell(format_args!(
        "  restores, refused, killed before, killed after: {}",
        words.join(", ")
    ));
    tell(format_args!(
        "  calls that failed: {failed}; record, kernel and model agree after one restore"
    ));
}

#[test]
#[ignore = "needs root and iptables: run by contrib/test"]
fn a_restore_in_three_fails_on_real_iptables_and_all_agree_at_the_end() {
    for backend in VARIANTS {
        live(backend, parameter("FAULTS_EVENTS", 60), seed());
    }
}
