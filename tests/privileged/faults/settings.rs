//! An `up` by settings that need every table and a blocked pair, and a `start` that changes all there is, killed at any step.

use pluto_updown::net::Family;
use pluto_updown::netfilter::{Backend, Table};

use super::steps::{Step, die, live};
use crate::support::binary::Call;
use crate::support::captures::{libreswan_up, strongswan_up};
use crate::support::namespace::{Namespace, order_independent};

/// Everything for one connection.
const ALL: &str = "[[connection]]\nname = \"net-net\"\nallow = [\"tcp/22\"]\nhost-access = \"no\"\nnat = \"masquerade\"\nmss = 1300\n\
                   log = \"all\"\nwhen-down = \"block\"\nbetween = [[\"10.1.0.0/24\", \"10.2.0.0/24\"]]\n";

const GATEWAY: &str = "[gateway]\nike = \"any\"\nesp = \"negotiated\"\nthrough = \"deny\"\nicmp = \"safe\"\n";

fn restricted(up: Call) -> Call {
    up.with("PLUTO_MY_SOURCEIP", "10.1.0.1")
}

/// A tunnel in the same bucket that was up before and is not concerned.
fn unconcerned_call() -> Call {
    libreswan_up().of_tunnel(9).with("PLUTO_PEER_CLIENT", "10.2.9.0/24")
}

/// All tables of IPv4.
fn tables(machine: &Namespace) -> String {
    Table::ALL
        .map(|table| order_independent(&machine.saved_table(machine.backend, Family::Ipv4, table)))
        .concat()
}

fn command(machine: &Namespace, words: &str) {
    let ending = machine.hook().operate(&words.split(' ').collect::<Vec<_>>());
    assert_eq!(
        (ending.code, ending.err_but_own_jumps()),
        (Some(0), String::new()),
        "{words}"
    );
}

/// A machine with a bystander and these settings.
fn begin(machine: &Namespace, settings: &str) {
    machine.hook().expect_success(&unconcerned_call());
    machine.settings(settings);
}

/// Takes everything down that may be up.
fn end(machine: &Namespace, before: &str, up: &Call, what: &str) {
    for _ in 0..4 {
        machine.hook().expect_success(&up.clone().with_verb("down-client"));
    }
    machine.hook().expect_success(&unconcerned_call().opposite());
    command(machine, "stop");
    command(machine, "unblock --all");
    machine.settings("");
    assert_eq!(tables(machine), before, "left behind: {what}");
    assert!(!machine.state().exists(), "a record: {what}");
}

/// Kills a call at every step. What it is about stands behind the next call as it did before, or as it would had the call gone well, and as
/// the record says.
struct Death<'a> {
    machine: &'a Namespace,
    settings: &'a str,
    /// What is done before the call that is killed, with settings of its own.
    first: &'a dyn Fn(&Namespace),
    killed: Call,
    up: Call,
    /// Whether it is gone wholly, or there wholly, when a call that asks nothing of the firewall has settled it; nothing, if either may be.
    settles_as: Option<bool>,
}

impl Death<'_> {
    fn prepare(&self) {
        self.machine.settings("");
        (self.first)(self.machine);
        begin(self.machine, self.settings);
    }

    fn at_every_step(&self) {
        let machine = self.machine;
        let before = tables(machine);
        self.prepare();
        let old = tables(machine);
        let steps = live(machine, Namespace::started_by, &self.killed);
        let new = tables(machine);
        assert_ne!(old, new);
        end(machine, &before, &self.up, "no death");
        let mut deaths = 0;
        for step in &steps {
            self.prepare();
            if die(machine, Namespace::started_by, &self.killed, step) {
                deaths += 1;
                self.go_on([&old, &new], step);
            }
            end(machine, &before, &self.up, &step.to_string());
        }
        let waits = steps.iter().filter(|step| step.is_waiting()).count();
        assert!(deaths + waits >= steps.len(), "{deaths} deaths in {}", steps.len());
    }

    fn go_on(&self, [old, new]: [&String; 2], step: &Step) {
        let machine = self.machine;
        let pending = machine.record_exists("pending");
        machine
            .hook()
            .expect_success(&unconcerned_call().with_verb("route-client"));
        let what = format!("{} killed at {step} (pending: {pending})", self.killed);
        assert!(!machine.record_exists("pending"), "{what}: still pending");
        let now = tables(machine);
        assert!(
            now == *old || now == *new,
            "{what}: neither as before nor as wanted:\n{now}"
        );
        if let (true, Some(is_new)) = (pending, self.settles_as) {
            assert_eq!(now == *new, is_new, "{what}");
        }
        // The same call again does it.
        let ending = machine.hook().call(&self.killed);
        assert_eq!((ending.code, ending.err_text()), (Some(0), String::new()), "{what}");
        assert_eq!(&tables(machine), new, "{what}, again");
    }
}

fn killed_up(up: Call, settles_as: bool, backend: Backend) {
    Death {
        machine: &Namespace::new(backend),
        settings: ALL,
        first: &|_| (),
        killed: restricted(up.clone()),
        up: restricted(up),
        settles_as: Some(settles_as),
    }
    .at_every_step();
}

#[test]
#[ignore = "needs root and iptables: run by contrib/test"]
fn a_killed_up_of_libreswans_that_restricts_is_undone_in_every_table_with_its_blocked_pair_on_nft() {
    killed_up(libreswan_up(), false, Backend::Nft);
}

#[test]
#[ignore = "needs root and iptables: run by contrib/test"]
fn a_killed_up_of_libreswans_that_restricts_is_undone_in_every_table_with_its_blocked_pair_on_legacy() {
    killed_up(libreswan_up(), false, Backend::Legacy);
}

#[test]
#[ignore = "needs root and iptables: run by contrib/test"]
fn a_killed_up_of_strongswans_that_restricts_is_completed_in_every_table_with_its_blocked_pair() {
    killed_up(strongswan_up(), true, Backend::Nft);
}

/// A `start` that installs the gateway's part and a blocked pair and changes a tunnel that is up.
fn killed_start(backend: Backend) {
    let up = restricted(strongswan_up());
    let before = up.clone();
    Death {
        machine: &Namespace::new(backend),
        settings: &format!("{GATEWAY}{ALL}"),
        first: &move |machine: &Namespace| machine.hook().expect_success(&before),
        killed: Call::command(&["start"]),
        up,
        settles_as: Some(true),
    }
    .at_every_step();
}

#[test]
#[ignore = "needs root and iptables: run by contrib/test"]
fn a_killed_start_is_completed_by_the_next_call_on_nft() {
    killed_start(Backend::Nft);
}

#[test]
#[ignore = "needs root and iptables: run by contrib/test"]
fn a_killed_start_is_completed_by_the_next_call_on_legacy() {
    killed_start(Backend::Legacy);
}

/// A `start` after the administrator has put jumps of his own in and has set `place = "own"`: ours go, his stay.
fn killed_move_to_own(backend: Backend) {
    let machine = Namespace::new(backend);
    let before = tables(&machine);
    let up = strongswan_up();
    let own = "[gateway]\nplace = \"own\"\n";
    let jumps = |action: &str| {
        for chain in ["INPUT", "FORWARD", "OUTPUT"] {
            machine.tables(Family::Ipv4, &[action, chain, "-j", &format!("PLUTO-{chain}")]);
        }
    };
    let prepare = || {
        machine.settings("");
        machine.hook().expect_success(&up);
        jumps("-A");
        machine.settings(own);
    };
    let end = || {
        machine.hook().expect_success(&up.clone().opposite());
        command(&machine, "stop");
        command(&machine, "flush --yes --force");
        machine.settings("");
    };
    let start = Call::command(&["start"]);
    prepare();
    let steps = live(&machine, Namespace::started_by, &start);
    let wanted = tables(&machine);
    for chain in ["INPUT", "FORWARD", "OUTPUT"] {
        let jump = format!("-A {chain} -j PLUTO-{chain}\n");
        assert_eq!(wanted.matches(&jump).count(), 1, "{backend}: {wanted}");
    }
    end();
    let mut deaths = 0;
    for step in &steps {
        prepare();
        if die(&machine, Namespace::started_by, &start, step) {
            deaths += 1;
            // What is pending is settled by any call; what had not begun is done by one more start.
            machine
                .hook()
                .expect_success(&unconcerned_call().with_verb("route-client"));
            assert!(!machine.record_exists("pending"), "{step}");
            command(&machine, "start");
            assert_eq!(tables(&machine), wanted, "{backend}: killed at {step}");
        }
        end();
    }
    assert_eq!(tables(&machine), before, "{backend}");
    let waits = steps.iter().filter(|step| step.is_waiting()).count();
    assert!(deaths + waits >= steps.len(), "{deaths} deaths in {}", steps.len());
}

#[test]
#[ignore = "needs root and iptables: run by contrib/test"]
fn a_start_killed_while_the_jumps_become_the_administrators_comes_right_on_nft() {
    killed_move_to_own(Backend::Nft);
}

#[test]
#[ignore = "needs root and iptables: run by contrib/test"]
fn a_start_killed_while_the_jumps_become_the_administrators_comes_right_on_legacy() {
    killed_move_to_own(Backend::Legacy);
}
