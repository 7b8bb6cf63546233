//! The life of a tunnel one of whose calls is killed.

use std::collections::BTreeMap;

use pluto_updown::net::Family;
use pluto_updown::netfilter::{Backend, Table};

use super::steps::{Step, die, live};
use crate::support::binary::Call;
use crate::support::captures::libreswan_up;
use crate::support::figures::print_figure;
use crate::support::namespace::{Namespace, order_independent, own_chain_sizes};

/// The call behind the one that was killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// The same again.
    Again,
    /// The `down` of that `up`, or the `up` of that `down`.
    Opposite,
    /// One that asks nothing of the firewall.
    Other,
}

impl Next {
    pub(crate) const ALL: [Self; 3] = [Self::Again, Self::Opposite, Self::Other];
}

/// A tunnel and the call that is killed.
pub(crate) struct Life {
    /// Its `up`.
    pub(crate) up: Call,
    /// How many of them went well before.
    pub(crate) ups: usize,
    /// The call that is killed.
    pub(crate) killed: Call,
    /// Whether the tunnel stands when a later call has settled the change that was under way; nothing, if it may be either of two.
    pub(crate) stands_if_settled: Option<bool>,
}

/// The number by which a replacement differs from what it replaces.
pub(crate) const REPLACING_REQID: &str = "16401";

/// A tunnel in the same bucket that was up before and is not concerned.
fn unconcerned_call() -> Call {
    libreswan_up().of_tunnel(9).with("PLUTO_PEER_CLIENT", "10.2.9.0/24")
}

/// The filter table, and what of ours is in the nat table.
fn tables(machine: &Namespace) -> String {
    order_independent(&machine.saved(Family::Ipv4)) + &format!("{:?}", nat(machine))
}

fn nat(machine: &Namespace) -> BTreeMap<String, usize> {
    own_chain_sizes(&machine.saved_table(machine.backend, Family::Ipv4, Table::Nat))
}

/// What the tables hold with the tunnel and without.
struct Expected {
    before: [String; 2],
    alone: String,
    /// With it as it is after its `up`, and as it is after the killed call, had that gone well.
    together: [String; 2],
}

impl Life {
    /// Kills the call at every step that it takes.
    pub(crate) fn with_a_death_at_every_step(&self, backend: Backend, next: Next) {
        let machine = Namespace::new(backend);
        let before = machine.listing();
        self.begin(&machine);
        let steps = live(&machine, Namespace::started_by, &self.killed);
        self.end(&machine);
        machine.assert_as_before(&before);
        let expected = self.expected(&machine, before);
        let mut deaths = 0;
        for step in &steps {
            self.begin(&machine);
            if die(&machine, Namespace::started_by, &self.killed, step) {
                deaths += 1;
                self.go_on(&machine, &expected, next, step);
            }
            self.end(&machine);
            machine.assert_as_before(&expected.before);
            assert_eq!(nat(&machine), BTreeMap::new(), "left behind by {step}");
        }
        // How often it waits depends on how fast iptables-restore is.
        let waits = steps.iter().filter(|step| step.is_waiting()).count();
        print_figure(format_args!(
            "{} killed on {backend}, then {next:?}: {} steps, {deaths} deaths, {deaths} right",
            self.killed,
            steps.len()
        ));
        assert!(
            deaths + waits >= steps.len(),
            "{deaths} deaths in {} steps",
            steps.len()
        );
    }

    fn begin(&self, machine: &Namespace) {
        machine.hook().expect_success(&unconcerned_call());
        (0..self.ups).for_each(|_| machine.hook().expect_success(&self.up));
    }

    /// The rest of the two tunnels' life, with as many downs as there may be ups.
    fn end(&self, machine: &Namespace) {
        for _ in 0..self.ups + 2 {
            machine.hook().expect_success(&self.up.clone().with_verb("down-client"));
        }
        machine.hook().expect_success(&unconcerned_call().opposite());
    }

    fn expected(&self, machine: &Namespace, before: [String; 2]) -> Expected {
        machine.hook().expect_success(&unconcerned_call());
        let alone = tables(machine);
        machine.hook().expect_success(&self.up);
        let first = tables(machine);
        let as_killed = self.killed.clone().with_verb("up-client");
        machine.hook().expect_success(&as_killed);
        let together = [first, tables(machine)];
        self.end(machine);
        Expected {
            before,
            alone,
            together,
        }
    }

    /// Makes the next call, and looks whether the tables hold what they should.
    fn go_on(&self, machine: &Namespace, expected: &Expected, next: Next, step: &Step) {
        let pending = machine.record_exists("pending");
        let was_on_record = machine.recorded("net-net").is_some();
        machine.hook().expect_success(&match next {
            Next::Again => self.killed.clone(),
            Next::Opposite => self.killed.clone().opposite(),
            Next::Other => unconcerned_call().with_verb("route-client"),
        });
        let what = format!("{} killed at {step} (pending: {pending}), then {next:?}", self.killed);
        let record = machine.recorded("net-net");
        if let Some(is_up) = self.is_up_after(next, pending, was_on_record) {
            assert_eq!(record.is_some(), is_up, "{what}: should the tunnel be recorded?");
        }
        // Of an up that replaces another it is open which of the two stands: the record knows.
        let right = match &record {
            Some(record) => &expected.together[usize::from(record.contains(REPLACING_REQID))],
            None => &expected.alone,
        };
        assert_eq!(&tables(machine), right, "{what}");
        assert!(!machine.record_exists("pending"), "{what}: still pending");
    }

    /// Whether the tunnel stands after the next call; nothing, if it may or may not.
    fn is_up_after(&self, next: Next, pending: bool, was_on_record: bool) -> Option<bool> {
        let verb = self.killed.get("PLUTO_VERB");
        match next {
            Next::Other if pending => Some(self.stands_if_settled.unwrap_or(true)),
            Next::Other => Some(was_on_record),
            Next::Again => Some(verb.starts_with("up")),
            // Where ups are counted, it is open whether the second one, killed, counts.
            Next::Opposite if self.ups == 1 && self.stands_if_settled == Some(true) => None,
            Next::Opposite => Some(verb.starts_with("down")),
        }
    }
}
