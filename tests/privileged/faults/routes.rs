//! A `route` or `unroute` that is killed at any step, or finds no room for its record.

use std::collections::BTreeSet;

use pluto_updown::netfilter::Backend;

use super::life::Next;
use super::steps::{Step, die, live};
use crate::support::binary::Call;
use crate::support::captures::libreswan_up;
use crate::support::figures::print_figure;
use crate::support::namespace::Namespace;

/// A gateway with a way out.
const ROUTER: &str = "
    ip link set lo up
    ip link add w0 type veth peer name outside
    ip link set outside up
    ip link set w0 up
    ip address add 192.1.2.45/24 dev w0
    ip route add default via 192.1.2.254
";

fn router() -> Namespace {
    let machine = Namespace::bare(Backend::Nft);
    machine.shell(ROUTER);
    machine
}

/// Every route and address of IPv4.
fn network(machine: &Namespace) -> BTreeSet<String> {
    let lines = machine.shell("ip -4 route show table all; ip -4 -o address");
    lines.lines().map(str::to_owned).collect()
}

/// A route to everything: two halves, and a source address that this machine does not have.
fn route() -> Call {
    libreswan_up()
        .with_verb("route-client")
        .with("PLUTO_PEER_CLIENT", "0.0.0.0/0")
        .with("PLUTO_MY_SOURCEIP", "10.1.0.1")
}

/// A route to another network that was there before and is not concerned.
fn unconcerned_call(source: &str) -> Call {
    route().of_tunnel(9).with("PLUTO_MY_SOURCEIP", source)
}

fn unrouted(call: &Call) -> Call {
    call.clone().with_verb("unroute-client")
}

/// A route, one beside it, and the call that is killed.
struct Life {
    bystander: Call,
    killed: Call,
}

/// What there is at the ends of a life, with the bystander and with both.
struct Expected {
    before: BTreeSet<String>,
    alone: BTreeSet<String>,
    together: BTreeSet<String>,
}

impl Life {
    fn with_a_death_at_every_step(&self, nexts: &[Next]) {
        let machine = router();
        let expected = self.expected(&machine);
        self.begin(&machine);
        let steps = live(&machine, Namespace::whole_hook, &self.killed);
        self.end(&machine, &expected.before, "no death");
        let changes = steps.iter().filter(|step| step.asks_the_kernel()).count();
        assert!(changes >= 2, "of {} steps {changes} change a route", steps.len());
        for next in nexts {
            let mut deaths = 0;
            for step in &steps {
                self.begin(&machine);
                if die(&machine, Namespace::whole_hook, &self.killed, step) {
                    deaths += 1;
                    self.go_on(&machine, &expected, *next, step);
                }
                self.end(&machine, &expected.before, &format!("{step}, then {next:?}"));
            }
            let waits = steps.iter().filter(|step| step.is_waiting()).count();
            print_figure(format_args!(
                "{} killed, then {next:?}: {} steps, {deaths} deaths, {deaths} right",
                self.killed,
                steps.len()
            ));
            assert!(deaths + waits >= steps.len(), "{deaths} deaths in {}", steps.len());
        }
    }

    fn routes(&self) -> bool {
        self.killed.get("PLUTO_VERB").starts_with("route")
    }

    fn begin(&self, machine: &Namespace) {
        machine.whole_hook(&[]).expect_success(&self.bystander);
        if !self.routes() {
            machine.whole_hook(&[]).expect_success(&route());
        }
    }

    /// The other calls of the two routes' life leave nothing, whatever was killed.
    fn end(&self, machine: &Namespace, before: &BTreeSet<String>, what: &str) {
        machine.whole_hook(&[]).expect_success(&unrouted(&route()));
        machine.whole_hook(&[]).expect_success(&unrouted(&self.bystander));
        assert_eq!(&network(machine), before, "left behind by {} at {what}", self.killed);
        assert!(!machine.state().exists(), "a record of {} at {what}", self.killed);
    }

    fn expected(&self, machine: &Namespace) -> Expected {
        let before = network(machine);
        machine.whole_hook(&[]).expect_success(&self.bystander);
        let alone = network(machine);
        machine.whole_hook(&[]).expect_success(&route());
        let together = network(machine);
        self.end(machine, &before, "no step");
        Expected {
            before,
            alone,
            together,
        }
    }

    fn go_on(&self, machine: &Namespace, expected: &Expected, next: Next, step: &Step) {
        let opposite = if self.routes() { unrouted(&route()) } else { route() };
        machine.whole_hook(&[]).expect_success(&match next {
            Next::Again => self.killed.clone(),
            Next::Opposite => opposite,
            Next::Other => self.bystander.clone(),
        });
        let (there, what) = (
            network(machine),
            format!("{} killed at {step}, then {next:?}", self.killed),
        );
        let routed = match next {
            Next::Again => Some(self.routes()),
            Next::Opposite => Some(!self.routes()),
            Next::Other => None,
        };
        match routed {
            Some(true) => assert_eq!(there, expected.together, "{what}"),
            Some(false) => assert_eq!(there, expected.alone, "{what}"),
            None => {
                assert!(there.is_superset(&expected.alone), "{what}: {there:#?}");
                assert!(there.is_subset(&expected.together), "{what}: {there:#?}");
            }
        }
    }
}

#[test]
#[ignore = "needs root and iptables: run by contrib/test"]
fn a_killed_route_is_completed_or_undone_by_the_next_call() {
    Life {
        bystander: unconcerned_call("10.1.0.2"),
        killed: route(),
    }
    .with_a_death_at_every_step(&Next::ALL);
}

#[test]
#[ignore = "needs root and iptables: run by contrib/test"]
fn a_killed_unroute_is_completed_or_undone_by_the_next_call() {
    Life {
        bystander: unconcerned_call("10.1.0.2"),
        killed: unrouted(&route()),
    }
    .with_a_death_at_every_step(&Next::ALL);
}

#[test]
#[ignore = "needs root and iptables: run by contrib/test"]
fn a_killed_route_leaves_a_source_address_to_the_other_network() {
    for killed in [route(), unrouted(&route())] {
        Life {
            bystander: unconcerned_call("10.1.0.1"),
            killed,
        }
        .with_a_death_at_every_step(&[Next::Opposite]);
    }
}
