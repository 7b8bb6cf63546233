//! In one process, against tables that are emulated: quick enough for thousands of calls.

use std::collections::BTreeMap;
use std::time::Instant;

use pluto_updown::apply::ApplyError;
use pluto_updown::iptables::TablesError;
use pluto_updown::netfilter::Backend;
use pluto_updown::selector::Family;
use pluto_updown::settings::Settings;
use pluto_updown::updown_env::FirewallAction;

use crate::support::charon::{ByChance, Charon, SETTINGS};
use crate::support::emulator::Kind;
use crate::support::figures::print_figure;
use crate::support::model::{Ended, Model, Verb};
use crate::support::random::{Random, parameter, seed};
use crate::support::world::{Chance, RestoreFailure, World, libreswan, strongswan, tunnel, with};

/// An administrator's rules, which nobody may touch.
fn machine(backend: Backend) -> World {
    const TEXT: &str = "*filter\n-A INPUT -i lo -j ACCEPT\n-A FORWARD -i lan0 -j ACCEPT\nCOMMIT\n\
                        *nat\n-A POSTROUTING -o w0 -j ACCEPT\nCOMMIT\n";
    let mut world = World {
        settings: Settings::parse(SETTINGS).expect("good settings"),
        ..World::default()
    };
    world.tables.default = backend;
    for family in Family::ALL {
        world.tables.emulator(family).restore(TEXT).expect("rules");
    }
    world
}

/// Every chain with its rules; the order of tunnels in our chains is irrelevant.
fn contents(world: &mut World) -> BTreeMap<String, Vec<String>> {
    let mut contents = BTreeMap::new();
    for family in Family::ALL {
        let emulator = world.tables.emulator(family);
        for kind in Kind::ALL {
            for chain in emulator.table(kind).chains() {
                let mut rules = emulator.table(kind).rules(chain).to_vec();
                if chain.starts_with("PLUTO-") {
                    rules.sort();
                }
                contents.insert(format!("{family} {} {chain}", kind.name()), rules);
            }
        }
    }
    contents
}

/// What the kernel should hold.
fn expected(backend: Backend, model: &Model) -> BTreeMap<String, Vec<String>> {
    let mut fresh = machine(backend);
    for up in model.open_ups() {
        fresh.up(up);
    }
    contents(&mut fresh)
}

#[test]
fn a_down_that_is_refused_halfway_is_made_by_the_next_call() {
    let counted = strongswan("up-client", "counted", 1, "10.1.0.0/24", "10.2.0.0/24");
    let single = with(
        &libreswan("up-client", "single", 16389, "10.0.10.1/32", "10.3.0.0/24"),
        "CAT",
        "YES",
    );
    for variables in [counted, single] {
        let tunnel = tunnel(&variables);
        let mut world = machine(Backend::Nft);
        world.settings = Settings::default();
        world.up(&tunnel);
        // The restore, the rebuild that takes its place, and the one that clears up behind both.
        world.tables.failures = [
            RestoreFailure::RefusedHalfway,
            RestoreFailure::RefusedHalfway,
            RestoreFailure::Refused,
        ]
        .into();
        let refused = world.call(&FirewallAction::Close(Box::new(tunnel.clone())));
        let Err(ApplyError::Owed(reason)) = refused else {
            panic!("{refused:?}");
        };
        assert!(matches!(*reason, ApplyError::Tables(TablesError::Refused { .. })));
        assert!(world.tables.failures.is_empty());
        world.call(&FirewallAction::Nothing).expect("the next call");
        assert_eq!(contents(&mut world), contents(&mut machine(Backend::Nft)));
        assert!(world.is_forgotten());
    }
}

/// A machine in which restores fail, the daemon, and what should be up.
struct Life {
    world: World,
    model: Model,
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
            world,
            model: Model::default(),
            charon: Charon::new(!seed, connections),
            failed: 0,
        }
    }

    fn event(&mut self) {
        let ByChance { verb, variables } = self.charon.call();
        let tunnel = tunnel(&variables);
        let result = self.world.call(&match verb {
            Verb::Up => FirewallAction::Open(Box::new(tunnel.clone())),
            Verb::Down => FirewallAction::Close(Box::new(tunnel.clone())),
        });
        self.failed += usize::from(result.is_err());
        let ended = match result {
            Ok(_) => Ended::Done,
            Err(ApplyError::Owed(_)) => Ended::Refused,
            Err(_) if !self.world.began => Ended::Refused,
            Err(ApplyError::Tables(TablesError::Unknown { .. })) => Ended::Open,
            Err(ApplyError::Tables(TablesError::Refused { .. })) => Ended::Refused,
            Err(error) => panic!("{error}"),
        };
        self.model.call(&tunnel, verb, ended);
    }

    /// No restore fails any more.
    fn calm_down(&mut self) -> Chance {
        self.world.tables.chance.take().expect("chance until now")
    }

    /// What is left of the daemon's children goes, and then what refused downs have left.
    fn end(&mut self) {
        for ByChance { variables, .. } in self.charon.by_ref() {
            let tunnel = tunnel(&variables);
            self.world.down(&tunnel);
            self.model.call(&tunnel, Verb::Down, Ended::Done);
        }
        assert_eq!(self.world.openers(), self.model.record());
        for up in self.model.open_ups() {
            self.world.down(up);
        }
    }
}

/// How many calls and restores failed, what reached the tables, and how many ups stood at the end.
#[derive(Debug, Default)]
struct Figures {
    failed: usize,
    met: BTreeMap<RestoreFailure, usize>,
    restores: usize,
    silent: usize,
    installed: usize,
    mended: usize,
}

fn random_life(backend: Backend, events: usize, connections: usize, seed: u64, figures: &mut Figures) {
    let mut life = Life::new(backend, connections, seed);
    (0..events).for_each(|_| life.event());
    figures.restores += life.world.tables.restores();
    for (failure, count) in life.calm_down().met {
        *figures.met.entry(failure).or_default() += count;
    }
    figures.mended += life.world.restore().expect("a restore").len();
    figures.failed += life.failed;
    figures.silent += life.charon.silent;
    figures.installed += life.model.open_ups().len();
    let what = format!("{backend}, seed {seed}");
    assert_eq!(life.world.openers(), life.model.record(), "the record, {what}");
    assert_eq!(
        contents(&mut life.world),
        expected(backend, &life.model),
        "the kernel, {what}"
    );
    assert_eq!(life.world.restore().expect("a restore"), [], "a second restore, {what}");
    life.end();
    assert_eq!(
        contents(&mut life.world),
        contents(&mut machine(backend)),
        "the end, {what}"
    );
    assert!(life.world.is_forgotten(), "the record at the end, {what}");
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
        figures.failed, figures.silent, figures.installed, figures.mended
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
