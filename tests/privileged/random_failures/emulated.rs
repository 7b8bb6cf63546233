//! In one process, against tables that are emulated: quick enough for thousands of calls.

use std::collections::BTreeMap;
use std::time::Instant;

use pluto_updown::apply::ApplyError;
use pluto_updown::iptables::TablesError;
use pluto_updown::selector::Family;
use pluto_updown::settings::Settings;
use pluto_updown::updown_env::{FirewallAction, Tunnel};

use super::model::{Ended, Model, Verb};
use crate::support::emulator::Kind;
use crate::support::figures::tell;
use crate::support::random::{Random, parameter, seed};
use crate::support::world::{Chance, Fate, World, libreswan, strongswan, tunnel, with};

/// Tunnels of both daemons and both families, four in a block, one in ten with something in two tables.
fn tunnels(count: usize) -> Vec<Tunnel> {
    let one = |number: usize| {
        let (reqid, far) = (u32::try_from(number).expect("small") + 1, number / 4);
        let network = format!("10.{}.{}.0/24", 32 + far, number % 4);
        let name = format!("tunnel-{number}");
        match number % 10 {
            9 => {
                let up = libreswan("up-client", &name, 16389 + 4 * reqid, "10.0.10.1/32", &network);
                with(&with(&up, "CAT", "YES"), "PLUTO_CONN_KIND", "CK_INSTANCE")
            }
            8 => strongswan(
                "up-client",
                &name,
                reqid,
                "2001:db8:1::/64",
                &format!("2001:db8:{number:x}::/64"),
            ),
            0 | 2 | 4 | 6 => strongswan("up-client", &name, reqid, "10.1.0.0/24", &network),
            _ => libreswan("up-client", &name, 16389 + 4 * reqid, "10.1.0.0/24", &network),
        }
    };
    (0..count).map(|number| tunnel(&one(number))).collect()
}

/// An administrator's rules, which nobody may touch.
fn machine() -> World {
    const TEXT: &str = "*filter\n-A INPUT -i lo -j ACCEPT\n-A FORWARD -i lan0 -j ACCEPT\nCOMMIT\n\
                        *nat\n-A POSTROUTING -o w0 -j ACCEPT\nCOMMIT\n";
    let mut world = World::default();
    for family in Family::ALL {
        world.tables.book(family).restore(TEXT).expect("rules");
    }
    world
}

/// Every chain with its rules; in which order tunnels stand in ours is nobody's business.
fn contents(world: &mut World) -> BTreeMap<String, Vec<String>> {
    let mut contents = BTreeMap::new();
    for family in Family::ALL {
        let book = world.tables.book(family);
        for kind in Kind::ALL {
            for chain in book.table(kind).chains() {
                let mut rules = book.table(kind).rules(chain).to_vec();
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
fn expected(tunnels: &[Tunnel], model: &Model) -> BTreeMap<String, Vec<String>> {
    let mut fresh = machine();
    for (which, _) in model.standing() {
        fresh.up(&tunnels[which]);
    }
    contents(&mut fresh)
}

#[test]
fn a_change_that_is_refused_halfway_is_not_made_later_either() {
    let counted = strongswan("up-client", "counted", 1, "10.1.0.0/24", "10.2.0.0/24");
    let single = with(
        &libreswan("up-client", "single", 16389, "10.0.10.1/32", "10.3.0.0/24"),
        "CAT",
        "YES",
    );
    for variables in [counted, single] {
        let tunnel = tunnel(&variables);
        let mut world = machine();
        world.settings = Settings::default();
        world.up(&tunnel);
        let (stood, recorded) = (contents(&mut world), world.recorded());
        // The restore, the rebuild that takes its place, and the one that clears up behind both.
        world.tables.fates = [Fate::RefusedHalfway, Fate::RefusedHalfway, Fate::Refused].into();
        let refused = world.call(&FirewallAction::Close(Box::new(tunnel.clone())));
        assert!(matches!(refused, Err(ApplyError::Tables(TablesError::Refused { .. }))));
        assert!(world.tables.fates.is_empty());
        world.call(&FirewallAction::Nothing).expect("the next call");
        assert_eq!((contents(&mut world), world.recorded()), (stood, recorded));
    }
}

/// A machine in which restores fail, the tunnels, and what should stand.
struct Life {
    tunnels: Vec<Tunnel>,
    world: World,
    model: Model,
    random: Random,
    failed: usize,
}

impl Life {
    fn new(count: usize, seed: u64) -> Self {
        let mut world = machine();
        world.tables.chance = Some(Chance {
            random: Random::seeded(seed),
            one_in: 3,
            met: BTreeMap::new(),
        });
        Self {
            tunnels: tunnels(count),
            world,
            model: Model::default(),
            random: Random::seeded(!seed),
            failed: 0,
        }
    }

    fn event(&mut self) {
        let which = self.random.below(self.tunnels.len());
        // A little more often up, so that many of them stand.
        let verb = self
            .random
            .pick(&[Verb::Up, Verb::Up, Verb::Up, Verb::Down, Verb::Down]);
        let tunnel = Box::new(self.tunnels[which].clone());
        let result = self.world.call(&match verb {
            Verb::Up => FirewallAction::Open(tunnel),
            Verb::Down => FirewallAction::Close(tunnel),
        });
        self.failed += usize::from(result.is_err());
        let ended = match result {
            Ok(_) => Ended::Done,
            Err(_) if !self.world.began => Ended::Refused,
            Err(ApplyError::Tables(TablesError::Unknown { .. })) => Ended::Open,
            Err(ApplyError::Tables(TablesError::Refused { .. })) => Ended::Refused,
            Err(error) => panic!("{error}"),
        };
        self.model.call(which, &self.tunnels[which], verb, ended);
    }

    /// No restore fails any more.
    fn calm_down(&mut self) -> Chance {
        self.world.tables.chance.take().expect("chance until now")
    }
}

fn live(events: usize, count: usize, seed: u64) {
    let begun = Instant::now();
    let mut life = Life::new(count, seed);
    (0..events).for_each(|_| life.event());
    let restores = life.world.tables.restores();
    let chance = life.calm_down();
    let drifts = life.world.restore().expect("a restore");
    let standing = life.model.standing().count();
    tell(format_args!(
        "emulated tables, seed {seed}: {events} events, {count} tunnels, {standing} up at the end"
    ));
    let failed: usize = chance.met.values().sum();
    tell(format_args!(
        "  restores: {restores} reached the tables; {failed} of all failed: {:?}",
        chance.met
    ));
    tell(format_args!(
        "  calls that failed: {}; mended by the one restore: {}",
        life.failed,
        drifts.len()
    ));
    assert_eq!(
        life.world.recorded(),
        life.model.record(&life.tunnels),
        "the record, seed {seed}"
    );
    assert_eq!(
        contents(&mut life.world),
        expected(&life.tunnels, &life.model),
        "the kernel, seed {seed}"
    );
    assert_eq!(
        life.world.restore().expect("a restore"),
        [],
        "a second restore, seed {seed}"
    );
    for (which, count) in life.model.standing().collect::<Vec<_>>() {
        for _ in 0..count {
            life.world.down(&life.tunnels[which]);
        }
    }
    assert_eq!(
        contents(&mut life.world),
        contents(&mut machine()),
        "the end, seed {seed}"
    );
    assert!(life.world.is_forgotten(), "the record at the end, seed {seed}");
    tell(format_args!(
        "  record, kernel and model agree, and nothing is left at the end: {:.1?}",
        begun.elapsed()
    ));
}

#[test]
fn a_restore_in_three_fails_and_the_record_and_the_kernel_agree_at_the_end() {
    live(parameter("FAULTS_EVENTS", 400), parameter("FAULTS_TUNNELS", 60), seed());
}
