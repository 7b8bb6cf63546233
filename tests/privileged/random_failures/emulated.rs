//! In one process, against tables that are emulated: quick enough for thousands of calls.

use std::collections::BTreeMap;
use std::time::Instant;

use pluto_updown::apply::ApplyError;
use pluto_updown::daemon::FirewallAction;
use pluto_updown::netfilter::Backend;
use pluto_updown::netfilter::iptables::TablesError;

use crate::support::charon::{ByChance, Charon, SETTINGS};
use crate::support::figures::print_figure;
use crate::support::model::{Modelled, Verb};
use crate::support::random::{Random, parameter, seed};
use crate::support::world::{Chance, RestoreFailure, World, libreswan, strongswan};

fn machine(backend: Backend) -> World {
    World::with_file(SETTINGS).on(backend).administered()
}

#[test]
fn a_down_that_is_refused_halfway_is_made_by_the_next_call() {
    let counted = strongswan("counted", 1, "10.1.0.0/24", "10.2.0.0/24");
    let single = libreswan("single", 16389, "10.0.10.1/32", "10.3.0.0/24").with("CAT", "YES");
    for call in [counted, single] {
        let tunnel = call.tunnel();
        let mut world = machine(Backend::Nft);
        world.set_file("");
        world.up(&tunnel);
        // The restore, the rebuild that takes its place, and the one that clears up behind both.
        world.tables.failures = [
            RestoreFailure::RefusedHalfway,
            RestoreFailure::RefusedHalfway,
            RestoreFailure::Refused,
        ]
        .into();
        let refused = world.try_down(&tunnel);
        let Err(ApplyError::Owed(reason)) = refused else {
            panic!("{refused:?}");
        };
        assert!(matches!(*reason, ApplyError::Tables(TablesError::Refused { .. })));
        assert!(world.tables.failures.is_empty());
        world.call(&FirewallAction::Nothing).expect("the next call");
        assert_eq!(world.contents(), machine(Backend::Nft).contents());
        assert!(world.is_forgotten());
    }
}

/// A machine in which restores fail, and the daemon.
struct Life {
    gateway: Modelled,
    charon: Charon,
    failed: usize,
}

impl Life {
    fn new(backend: Backend, connections: usize, seed: u64) -> Self {
        let mut world = machine(backend);
        world.tables.chance = Some(Chance {
            random: Random::seeded(seed),
            one_in: 3,
            met: BTreeMap::new(),
        });
        Self {
            gateway: Modelled::new(world),
            charon: Charon::new(!seed, connections),
            failed: 0,
        }
    }

    fn event(&mut self) {
        let ByChance { verb, call } = self.charon.call();
        self.failed += usize::from(!self.gateway.call(&call.tunnel(), verb));
    }

    /// No restore fails any more.
    fn calm_down(&mut self) -> Chance {
        self.gateway.world.tables.chance.take().expect("chance until now")
    }

    /// What is left of the daemon's children goes, and then what refused downs have left.
    fn end(&mut self, backend: Backend, what: &str) {
        for ByChance { call, .. } in self.charon.by_ref() {
            assert!(self.gateway.call(&call.tunnel(), Verb::Down), "{what}");
        }
        self.gateway.assert_agrees(machine(backend), what);
        self.gateway.assert_ends(machine(backend), what);
    }
}

/// How many calls and restores failed, what reached the tables, and how many ups were open at the end.
#[derive(Debug, Default)]
struct Figures {
    failed: usize,
    met: BTreeMap<RestoreFailure, usize>,
    restores: usize,
    silent: usize,
    installed: usize,
    repaired: usize,
}

fn random_life(backend: Backend, events: usize, connections: usize, seed: u64, figures: &mut Figures) {
    let mut life = Life::new(backend, connections, seed);
    (0..events).for_each(|_| life.event());
    figures.restores += life.gateway.world.tables.restores();
    for (failure, count) in life.calm_down().met {
        *figures.met.entry(failure).or_default() += count;
    }
    figures.repaired += life.gateway.world.restore().expect("a restore").len();
    figures.failed += life.failed;
    figures.silent += life.charon.silent;
    figures.installed += life.gateway.model.open_ups().len();
    let what = format!("{backend}, seed {seed}");
    life.gateway.assert_agrees(machine(backend), &what);
    let again = life.gateway.world.restore().expect("a restore");
    assert_eq!(again, [], "a second restore, {what}");
    life.end(backend, &what);
}

/// So many sequences on each backend, with tunnels of both families.
fn live_often(sequences: usize, events: usize, connections: usize) {
    let (begun, first) = (Instant::now(), seed());
    let mut figures = Figures::default();
    for backend in [Backend::Nft, Backend::Legacy] {
        for number in 0..u64::try_from(sequences).expect("small") {
            random_life(backend, events, connections, first.wrapping_add(number), &mut figures);
        }
    }
    let failed: usize = figures.met.values().sum();
    print_figure(format_args!(
        "emulated tables, nft and legacy, seed {first}: {sequences} sequences of {events} calls each, {connections} connections"
    ));
    print_figure(format_args!(
        "  restores: {} reached the tables; {failed} of all failed: {:?}",
        figures.restores, figures.met
    ));
    print_figure(format_args!(
        "  calls that failed: {}; rekeyed or moved without a call: {}; ups that stood at the ends: {}; mended by a restore: {}",
        figures.failed, figures.silent, figures.installed, figures.repaired
    ));
    print_figure(format_args!(
        "  record, kernel and model agree, and nothing is left at the end: {:.1?}",
        begun.elapsed()
    ));
}

#[test]
fn a_restore_in_three_fails_and_the_record_and_the_kernel_agree_at_the_end() {
    live_often(1, parameter("FAULTS_EVENTS", 200), parameter("FAULTS_TUNNELS", 60));
}

#[test]
fn peers_that_share_tunnels_move_and_are_rekeyed_while_restores_fail() {
    live_often(parameter("FAULTS_SEQUENCES", 10), 40, 4);
}
