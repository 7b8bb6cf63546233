//! Whatever happens in whatever order, a last `start` leaves exactly what the settings of that moment and the tunnels that are up make.

use std::collections::{BTreeMap, BTreeSet};

use pluto_updown::apply::{ApplyError, Blocked};
use pluto_updown::daemon::Tunnel;
use pluto_updown::net::Family;
use pluto_updown::settings::WhenDown;
use proptest::prelude::*;

use super::generated::{comes_up, tunnels_of};
use crate::support::emulator::Kind;
use crate::support::property::cases;
use crate::support::world::World;

/// Settings files that differ in everything that a change can be about.
const FILES: [&str; 9] = [
    "",
    "[tunnel]\nallow = \"replies\"\nlog = \"denied\"",
    "[tunnel]\nallow = [\"tcp/22\", \"ping\"]\nhost-access = \"no\"\nmss = 1360",
    "[tunnel]\nwhen-down = \"block\"",
    "[gateway]\nike = \"any\"\nesp = \"negotiated\"\nicmp = \"safe\"\n[tunnel]\nnat = \"leave\"",
    "[gateway]\nonly-ipsec = [\"w0\"]\ninner-only = [\"l2tp\"]\nthrough = \"deny\"\n[tunnel]\nmss = \"pmtu\"",
    "[gateway]\nplace = \"last\"\nike = \"any\"\n[tunnel]\nallow = \"none\"",
    // Most tunnels have no address to hide behind, and are refused.
    "[tunnel]\nnat = \"masquerade\"\nallow = \"replies\"",
    "[[connection]]\nname = \"of*\"\nwhen-down = \"block\"\nbetween = [[\"10.1.0.0/24\", \"10.2.0.0/24\"], [\"10.66.0.0/24\", \"10.2.0.0/24\"]]\n\
     [[connection]]\nname = \"west\"\nallow = \"none\"\nchain = \"vpn-in\"",
];

#[derive(Debug, Clone)]
enum Step {
    Up(usize),
    Down(usize),
    /// The file is changed.
    File(usize),
    Start,
    Stop,
    Unblock,
    /// Somebody loads another rule set.
    Reload,
}

fn step() -> impl Strategy<Value = Step> {
    let which = 0..tunnels_of(Family::Ipv4).len();
    prop_oneof![
        5 => which.clone().prop_map(Step::Up),
        3 => which.prop_map(Step::Down),
        3 => (0..FILES.len()).prop_map(Step::File),
        2 => Just(Step::Start),
        1 => Just(Step::Stop),
        1 => Just(Step::Unblock),
        1 => Just(Step::Reload),
    ]
}

/// The administrator's rules, in a table that has lost all others.
fn load(world: &mut World) {
    let emulator = world.emulator(Family::Ipv4);
    Kind::ALL
        .into_iter()
        .for_each(|kind| emulator.table_mut(kind).flush_all());
    let text = "*filter\n:vpn-in - [0:0]\n-A INPUT -i lo -j ACCEPT\n-A FORWARD -i lan0 -j ACCEPT\nCOMMIT\n*nat\n-A POSTROUTING -o w0 -j MASQUERADE\nCOMMIT\n";
    assert_eq!(emulator.restore(text), Ok(()));
}

fn new_world(file: usize) -> World {
    let mut world = World::with_file(FILES[file]);
    load(&mut world);
    world
}

/// A gateway, and beside it what is known of it.
struct Run {
    tunnels: Vec<Tunnel>,
    world: World,
    file: usize,
    /// How often each tunnel came up without going down.
    up: BTreeMap<usize, u32>,
    /// Those whose networks are blocked because they were up once.
    brought: BTreeSet<usize>,
}

impl Run {
    fn new() -> Self {
        Self {
            tunnels: tunnels_of(Family::Ipv4),
            world: new_world(0),
            file: 0,
            up: BTreeMap::new(),
            brought: BTreeSet::new(),
        }
    }

    fn blocks(&self, which: usize) -> bool {
        self.world.settings.policy(&self.tunnels[which]).when_down == WhenDown::Block
    }

    fn make_step(&mut self, step: &Step) {
        match *step {
            Step::Up(which) => self.up(which),
            Step::Down(which) => self.down(which),
            Step::File(file) => {
                self.file = file;
                self.world.set_file(FILES[file]);
            }
            Step::Start => drop(self.start()),
            Step::Stop => drop(self.world.stop().expect("a stop")),
            Step::Unblock => {
                self.world.unblock(&Blocked::All).expect("an unblock");
                self.brought.clear();
            }
            Step::Reload => load(&mut self.world),
        }
    }

    fn up(&mut self, which: usize) {
        if comes_up(&mut self.world, &self.tunnels[which]) {
            let counted = self.tunnels[which].connection.as_str() != "vti";
            let count = self.up.entry(which).or_default();
            *count = if counted { *count + 1 } else { 1 };
            if self.blocks(which) {
                self.brought.insert(which);
            }
        }
    }

    fn down(&mut self, which: usize) {
        self.world.down(&self.tunnels[which]);
        if let Some(count) = self.up.get_mut(&which) {
            *count -= 1;
        }
        self.up.retain(|_, count| *count > 0);
    }

    /// Whether it was made as it is set; what is installed may conflict with that, and nothing is changed then.
    fn start(&mut self) -> bool {
        let before = self.world.contents();
        match self.world.start() {
            Ok(_) => {}
            Err(ApplyError::Policy { .. }) => {
                assert_eq!(self.world.contents(), before);
                return false;
            }
            Err(error) => panic!("{error}"),
        }
        let brought = std::mem::take(&mut self.brought);
        let up = self.up.keys().copied();
        self.brought = brought
            .into_iter()
            .chain(up)
            .filter(|which| self.blocks(*which))
            .collect();
        true
    }
}

/// After a reload there is nothing to be moved, and after `place = "own"` nothing to be moved to.
#[test]
fn jumps_that_move_between_no_rules_start_no_program() {
    for (file, text) in FILES.into_iter().enumerate() {
        let mut run = Run::new();
        for step in [Step::File(6), Step::Start, Step::Reload, Step::File(file), Step::Start] {
            run.make_step(&step);
        }
        let mut fresh = new_world(file);
        assert!(fresh.start().is_ok());
        assert_eq!(run.world.contents(), fresh.contents(), "{text}");
    }
}

proptest! {
    #![proptest_config(cases(100))]

    #[test]
    fn a_last_start_leaves_what_fresh_ups_make(steps in prop::collection::vec(step(), 1..30)) {
        let mut run = Run::new();
        for step in &steps {
            run.make_step(step);
        }
        while !run.start() {
            run.make_step(&Step::File((run.file + 1) % FILES.len()));
        }
        let mut fresh = new_world(run.file);
        prop_assert!(fresh.start().is_ok());
        for which in run.brought.iter().chain(run.up.keys()) {
            prop_assert!(comes_up(&mut fresh, &run.tunnels[*which]));
        }
        for which in run.brought.iter().filter(|which| !run.up.contains_key(which)) {
            fresh.down(&run.tunnels[*which]);
        }
        prop_assert_eq!(run.world.contents(), fresh.contents());

        // And a second one changes nothing.
        let restores = run.world.tables.restores();
        prop_assert!(run.start());
        prop_assert_eq!(run.world.tables.restores(), restores);

        // The end leaves nothing.
        for (which, count) in run.up.clone() {
            for _ in 0..count {
                run.down(which);
            }
        }
        run.make_step(&Step::Stop);
        run.make_step(&Step::Unblock);
        let mut empty = World::default();
        load(&mut empty);
        prop_assert_eq!(run.world.contents(), empty.contents());
        prop_assert!(run.world.is_forgotten());
    }
}
