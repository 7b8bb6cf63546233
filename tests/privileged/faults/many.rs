//! `flush` and `start` of very many tunnels, killed between two of their commits.

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use pluto_updown::net::Family;
use pluto_updown::netfilter::Backend;

use crate::support::binary::{Call, Ending};
use crate::support::captures::strongswan_up;
use crate::support::namespace::{Namespace, VARIANTS, order_independent, own_chain_sizes, tool};

/// Four chains each: more than one commit of iptables-nft has.
const TUNNELS: usize = 270;

const OPEN: &str = "";
const CLOSED: &str = "[tunnel]\nallow = [\"tcp/22\"]\nhost-access = \"no\"\n";

fn up(number: usize) -> Call {
    strongswan_up()
        .with("PLUTO_CONNECTION", format!("branch-{number}"))
        .with(
            "PLUTO_PEER_CLIENT",
            format!("10.{}.{}.0/24", 100 + number / 64, number % 64),
        )
        .with("PLUTO_REQID", (number + 1).to_string())
}

/// A machine with the tunnels, and a copy of its record.
fn machine(backend: Backend) -> (Namespace, [String; 2]) {
    let machine = Namespace::bare(backend);
    let before = machine.listing();
    machine.settings(OPEN);
    (0..TUNNELS).for_each(|number| machine.hook().expect_success(&up(number)));
    machine.shell(&format!(
        "cp -a {} {}",
        machine.state().display(),
        copy(&machine).display()
    ));
    (machine, before)
}

fn copy(machine: &Namespace) -> std::path::PathBuf {
    machine.path("copy")
}

fn replace(state: &Path, by: &Path, machine: &Namespace) {
    machine.shell(&format!("rm -rf {0} && cp -a {1} {0}", state.display(), by.display()));
}

/// Starts a command whose processes strace watches, and does this to the system call.
fn strace(machine: &Namespace, system_call: &str, inject: &str, words: &[&str]) -> Ending {
    let strace = tool("strace").display().to_string();
    let inject = format!("inject={system_call}:{inject}");
    let trace = format!("trace={system_call}");
    let entry = [
        &*strace,
        "-f",
        "-qq",
        "-o",
        "/dev/null",
        "-e",
        &trace,
        "-e",
        &inject,
        "--",
    ];
    machine.started_by(&entry).operate(words)
}

/// Starts a command, and kills whichever process of it makes this system call for this time.
fn die(machine: &Namespace, words: &[&str], system_call: &str, number: usize) -> Ending {
    strace(machine, system_call, &format!("signal=SIGKILL:when={number}"), words)
}

fn sorted(text: &str) -> Vec<String> {
    let mut lines: Vec<_> = order_independent(text).lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

/// All recorded rules are loaded. `status` says more: that no tunnel here has an IPsec policy, once the first is up for a minute.
fn assert_whole(machine: &Namespace) {
    assert_eq!(machine.done(&["restore"]), "nothing to restore, all rules are loaded\n");
}

#[test]
#[ignore = "needs root and iptables: run by contrib/test"]
fn a_flush_that_dies_between_commits_leaves_no_way_to_our_chains_and_one_more_completes_it() {
    for backend in VARIANTS {
        let (machine, before) = machine(backend);
        let installed = sorted(&machine.saved(Family::Ipv4));
        let (mut deaths, mut halves) = (0, 0);
        // iptables-nft commits with sendmsg, iptables-legacy with setsockopt.
        for number in [1, 2, 3, 4, 6] {
            let system_call = match backend {
                Backend::Nft => "sendmsg",
                Backend::Legacy | Backend::Plain => "setsockopt",
            };
            let killed = die(&machine, &["flush", "--yes"], system_call, number);
            let now = machine.saved(Family::Ipv4);
            let is_unhooked = !now.contains(" -j PLUTO-FORWARD") && !now.contains(" -j PLUTO-INPUT");
            assert!(
                is_unhooked || sorted(&now) == installed,
                "{backend}, killed at {number}: neither whole nor without a way to it:\n{now}"
            );
            let chains = own_chain_sizes(&now).len();
            if killed.code != Some(0) {
                deaths += 1;
                halves += usize::from(is_unhooked && chains > 0);
                assert_eq!(
                    machine.hook().operate(&["flush", "--yes"]).code,
                    Some(0),
                    "{backend} {number}"
                );
            }
            machine.assert_as_before(&before);
            replace(&machine.state(), &copy(&machine), &machine);
            assert_eq!(machine.hook().operate(&["restore"]).code, Some(0));
            assert_eq!(sorted(&machine.saved(Family::Ipv4)), installed, "{backend}");
        }
        assert!(
            deaths > 0 && (backend == Backend::Legacy || halves > 0),
            "{backend}: {deaths} {halves}"
        );
    }
}

#[test]
#[ignore = "needs root and iptables: run by contrib/test"]
fn a_start_of_many_that_dies_between_parts_is_completed_by_one_more() {
    for backend in VARIANTS {
        let (machine, _) = machine(backend);
        let before = sorted(&machine.saved(Family::Ipv4));
        machine.settings(CLOSED);
        assert_eq!(machine.hook().operate(&["start"]).code, Some(0));
        let wanted = sorted(&machine.saved(Family::Ipv4));
        assert_ne!(before, wanted);
        for (settings, wanted) in [(OPEN, &before), (CLOSED, &wanted)] {
            machine.settings(settings);
            let mut deaths = 0;
            // Each part renames the journal into its place, and its records into theirs.
            for number in [1, 60, 128, 200, 260] {
                deaths += usize::from(die(&machine, &["start", "--force"], "/^rename", number).code != Some(0));
            }
            assert!(deaths > 0, "{backend}");
            machine.done(&["start", "--force"]);
            assert_eq!(&sorted(&machine.saved(Family::Ipv4)), wanted, "{backend}");
            assert_whole(&machine);
        }
    }
}

#[test]
#[ignore = "needs root and iptables: run by contrib/test"]
fn calls_of_a_daemon_get_between_the_parts_of_a_start() {
    let (machine, _) = machine(Backend::Nft);
    machine.settings(CLOSED);
    // Each iptables-restore of the start is slow, as with 10 000 tunnels.
    thread::scope(|scope| {
        let started = scope.spawn(|| {
            let begun = Instant::now();
            strace(&machine, "sendmsg", "delay_enter=700000:when=2", &["start"]).said();
            begun.elapsed()
        });
        thread::sleep(Duration::from_millis(300));
        let mut longest = Duration::ZERO;
        for number in [TUNNELS, TUNNELS + 1, TUNNELS + 2] {
            let begun = Instant::now();
            machine.hook().expect_success(&up(number));
            longest = longest.max(begun.elapsed());
        }
        let whole = started.join().expect("a start that goes well");
        assert!(longest * 3 < whole * 2, "a call waited {longest:?} of {whole:?}");
    });
    assert_whole(&machine);
    let ending = machine.hook().operate(&["start"]);
    assert!(
        ending.out_text().starts_with("nothing to change"),
        "{}",
        ending.out_text()
    );
}
