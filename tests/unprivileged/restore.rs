//! What the kernel holds, spoilt in many ways and restored from the record, against the emulator.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use crate::support::emulator::{Emulator, Kind};
use crate::support::world::{RestoreFailure, World, libreswan, strongswan};
use pluto_updown::apply::{ApplyError, Context, Engine};
use pluto_updown::daemon::Tunnel;
use pluto_updown::firewall::Drift;
use pluto_updown::net::Family;
use pluto_updown::netfilter::{Backend, Ruleset};
use pluto_updown::settings::Settings;
use pluto_updown::state::Store;

const BOOK: Ruleset = Ruleset {
    backend: Backend::Nft,
    family: Family::Ipv4,
};

fn try_restore(world: &mut World) -> Result<Vec<Drift>, ApplyError> {
    let deadline = Instant::now() + Duration::from_secs(10);
    let store = Store::open_locked(&world.folder.path().join("state"), 1, deadline)?;
    let caller = Context {
        now: 1_700_000_000,
        ..Context::default()
    };
    let mut engine = Engine::new(&store, &mut world.tables, caller);
    engine.recover()?;
    let drifts = engine.reconcile(BOOK)?;
    store.remove_unused()?;
    Ok(drifts)
}

fn restore(world: &mut World) -> Vec<Drift> {
    try_restore(world).expect("a restore")
}

fn ipv4_emulator(world: &mut World) -> &mut Emulator {
    world.emulator(Family::Ipv4)
}

/// Two tunnels in one bucket, one elsewhere, one with an interface, one with something in the nat table.
fn five_tunnels() -> [Tunnel; 5] {
    let plain = |name: &str, reqid, remote| libreswan(name, reqid, "10.1.0.0/24", remote);
    [
        plain("one", 16389, "10.2.0.0/24"),
        strongswan("two", 7, "10.1.0.0/24", "10.2.1.0/24"),
        plain("three", 16397, "10.77.0.0/24"),
        plain("four", 16401, "10.4.0.0/24").with("VTI_IFACE", "vti1"),
        plain("five", 16405, "10.5.0.0/24")
            .with("PLUTO_MY_CLIENT", "10.0.10.1/32")
            .with("CAT", "YES"),
    ]
    .map(|call| call.tunnel())
}

/// One that comes late.
fn late() -> Tunnel {
    strongswan("late", 999, "10.1.0.0/24", "10.99.0.0/24").tunnel()
}

fn world_with_tunnels() -> World {
    let mut world = World::default();
    let admin = "*filter\n:ADMIN - [0:0]\n-A INPUT -i lo -j ACCEPT\n-A FORWARD -i eth1 -j ADMIN\nCOMMIT\n";
    ipv4_emulator(&mut world)
        .restore(admin)
        .expect("the administrator's rules");
    for tunnel in &five_tunnels() {
        world.up(tunnel);
    }
    world
}

/// The tables, sorted: the order in which tunnels came is not recorded.
fn sorted(world: &mut World) -> Vec<String> {
    ipv4_emulator(world).sorted_lines()
}

type Damage = (&'static str, fn(&mut Emulator) -> Result<(), String>);

fn change(emulator: &mut Emulator, table: &str, commands: &str) -> Result<(), String> {
    emulator.restore(&format!("*{table}\n{commands}\nCOMMIT\n"))
}

/// What happens to a firewall.
const DAMAGES: [Damage; 12] = [
    ("all rules flushed", |emulator| {
        emulator.flush();
        Ok(())
    }),
    ("all rules and chains gone", |emulator| {
        emulator.flush_all();
        Ok(())
    }),
    ("nat gone", |emulator| {
        emulator.table_mut(Kind::Nat).flush_all();
        Ok(())
    }),
    ("both gone", |emulator| {
        emulator.flush_all();
        emulator.table_mut(Kind::Nat).flush_all();
        Ok(())
    }),
    ("a jump gone", |emulator| {
        change(emulator, "filter", "-D FORWARD -j PLUTO-FORWARD")
    }),
    ("a jump twice", |emulator| {
        change(emulator, "filter", "-A INPUT -j PLUTO-INPUT")
    }),
    ("a rule before our jump", |emulator| {
        change(emulator, "filter", "-I FORWARD -i eth7 -j DROP")
    }),
    ("a nat rule before our jump", |emulator| {
        change(emulator, "nat", "-I POSTROUTING -o eth0 -j SNAT --to-source 192.0.2.9")
    }),
    ("a chain flushed", |emulator| {
        change(emulator, "filter", "-F PLUTO-FI-10.2.0.0-18")
    }),
    ("a foreign rule", |emulator| {
        change(emulator, "filter", "-I PLUTO-ONWARD -s 10.9.0.0/16 -j DROP")
    }),
    ("a foreign chain", |emulator| {
        change(
            emulator,
            "filter",
            ":PLUTO-old - [0:0]\n-A PLUTO-old -j ACCEPT\n-A PLUTO-I -j PLUTO-old",
        )
    }),
    ("another order", |emulator| {
        const GO_ON: &str = "PLUTO-DECRYPTED -g PLUTO-FO";
        change(emulator, "filter", &format!("-D {GO_ON}\n-I {GO_ON}"))
    }),
];

/// What of a listing is ours, or the administrator's.
fn lines_of(lines: &[String], are_own: bool) -> Vec<&String> {
    let other_chain = "-s 10.9.0.0/16 -j DROP";
    lines
        .iter()
        .filter(|line| line.contains("PLUTO-") == are_own && !line.contains(other_chain))
        .collect()
}

#[test]
fn what_stands_as_it_should_is_not_touched() {
    let mut world = world_with_tunnels();
    let restores = world.tables.restores();
    assert_eq!(restore(&mut world), []);
    assert_eq!(world.tables.restores(), restores);
}

#[test]
fn every_two_damages_together_are_mended_and_nothing_else_is_touched() {
    let whole = sorted(&mut world_with_tunnels());
    for (at, (first, damage)) in DAMAGES.iter().enumerate() {
        for (second, other) in &DAMAGES[at..] {
            let mut world = world_with_tunnels();
            damage(ipv4_emulator(&mut world)).expect("a damage");
            // What it needs can be gone already.
            let _ = other(ipv4_emulator(&mut world));
            let what = format!("{first}, {second}");
            let spoilt = sorted(&mut world);
            assert_ne!(restore(&mut world), [], "{what}");
            let repaired = sorted(&mut world);
            assert!(
                lines_of(&repaired, true) == lines_of(&whole, true),
                "{what}: {repaired:#?}"
            );
            assert!(
                lines_of(&repaired, false) == lines_of(&spoilt, false),
                "{what}: {repaired:#?}"
            );
            let restores = world.tables.restores();
            assert_eq!(restore(&mut world), [], "{what}: once more");
            assert_eq!(world.tables.restores(), restores, "{what}: once more");
            for tunnel in &five_tunnels() {
                world.down(tunnel);
            }
            assert!(world.is_forgotten(), "{what}");
            assert!(!sorted(&mut world).iter().any(|line| line.contains("PLUTO-")), "{what}");
        }
    }
}

/// `iptables-save` was run while tunnels were up, and what it wrote is loaded at the next boot.
#[test]
fn what_nothing_on_record_needs_goes() {
    let mut world = world_with_tunnels();
    let saved = ipv4_emulator(&mut world).save();
    for tunnel in &five_tunnels() {
        world.down(tunnel);
    }
    let before = sorted(&mut world);
    ipv4_emulator(&mut world).replace(&saved).expect("loading it");
    assert_ne!(restore(&mut world), []);
    assert_eq!(sorted(&mut world), before);
    assert!(world.is_forgotten());
}

#[test]
fn a_refusal_is_told_and_the_record_stands() {
    let mut world = world_with_tunnels();
    ipv4_emulator(&mut world).flush_all();
    ipv4_emulator(&mut world).refuse(Kind::Filter, "10.77.0.0/24");
    assert!(try_restore(&mut world).is_err());
    ipv4_emulator(&mut world).accept_again();
    assert_ne!(restore(&mut world), []);
    assert_eq!(
        lines_of(&sorted(&mut world), true),
        lines_of(&sorted(&mut world_with_tunnels()), true)
    );
}

/// Another program changes the tables between our listing and our change.
#[test]
fn a_refusal_that_passes_is_tried_again() {
    let mut world = world_with_tunnels();
    ipv4_emulator(&mut world).flush_all();
    ipv4_emulator(&mut world).fail_next("somebody was faster");
    assert_ne!(restore(&mut world), []);
    assert_eq!(
        lines_of(&sorted(&mut world), true),
        lines_of(&sorted(&mut world_with_tunnels()), true)
    );
}

/// As at boot, where another firewall loads its rules at the same moment.
#[test]
fn a_first_up_that_is_refused_is_tried_once_more() {
    for backend in [Backend::Nft, Backend::Legacy] {
        for tunnel in five_tunnels() {
            let mut world = World::default().on(backend);
            world.tables.failures = [RestoreFailure::Refused].into();
            world.up(&tunnel);
            let mut fresh = World::default().on(backend);
            fresh.up(&tunnel);
            assert_eq!(
                sorted(&mut world),
                sorted(&mut fresh),
                "{backend}, {}",
                tunnel.connection
            );
            world.down(&tunnel);
            assert!(world.is_forgotten());
            world.tables.failures = [
                RestoreFailure::Refused,
                RestoreFailure::Refused,
                RestoreFailure::Refused,
                RestoreFailure::Refused,
            ]
            .into();
            world.try_up(&tunnel).expect_err("it is refused again and again");
            assert!(world.is_forgotten());
        }
    }
}

/// So many tunnels that their chains are made in several commits.
fn world_with_many_tunnels() -> World {
    let mut world = World::default();
    for number in 0..300 {
        let (name, remote) = (
            format!("branch-{number}"),
            format!("10.{}.{}.0/24", 100 + number / 16, number % 16),
        );
        world.up(&strongswan(&name, number + 1, "10.1.0.0/24", &remote).tunnel());
    }
    world
}

#[test]
fn where_the_restore_of_many_tunnels_ends_halfway_nothing_leads_to_them_and_the_next_one_completes_it() {
    let mut world = world_with_many_tunnels();
    let before = sorted(&mut world);
    ipv4_emulator(&mut world).flush_all();
    world.tables.failures.push_back(RestoreFailure::KilledHalfway);
    try_restore(&mut world).expect_err("the killed one");
    let chains = ipv4_emulator(&mut world).chains().len();
    assert!((100..800).contains(&chains), "{chains} chains");
    for chain in ["INPUT", "FORWARD", "OUTPUT"] {
        assert!(ipv4_emulator(&mut world).rules(chain).is_empty(), "{chain}");
    }
    restore(&mut world);
    assert_eq!(sorted(&mut world), before);
    assert_eq!(restore(&mut world), []);
}

#[test]
fn a_call_puts_many_tunnels_back_after_a_reload() {
    let mut world = world_with_many_tunnels();
    let before = sorted(&mut world);
    ipv4_emulator(&mut world).flush_all();
    let late = late();
    world.up(&late);
    world.down(&late);
    assert_eq!(sorted(&mut world), before);
}

#[test]
fn a_call_among_many_tunnels_that_misses_a_jump_puts_in_only_that() {
    let mut world = world_with_many_tunnels();
    let late = late();
    let before = ipv4_emulator(&mut world).save();
    change(ipv4_emulator(&mut world), "filter", "-D FORWARD -j PLUTO-FORWARD").expect("the jump");
    world.up(&late);
    world.down(&late);
    // The order of the rules in a bucket is that in which the tunnels came: nothing was written again.
    assert_eq!(ipv4_emulator(&mut world).save(), before);
}

#[test]
fn a_change_among_many_tunnels_ends_whole_or_not_at_all_however_it_fails() {
    let late = late();
    let mut world = world_with_many_tunnels();
    let without = sorted(&mut world);
    world.up(&late);
    let with = sorted(&mut world);
    for failure in RestoreFailure::ALL {
        world.down(&late);
        ipv4_emulator(&mut world).flush_all();
        world.tables.failures.extend([RestoreFailure::Refused, failure]);
        let _ = world.try_up(&late);
        world.tables.failures.clear();
        try_restore(&mut world).expect("a restore");
        let expected = match world.recorded().keys().any(|name| name.starts_with("late")) {
            true => &with,
            false => &without,
        };
        assert_eq!(&sorted(&mut world), expected, "{failure:?}");
        world.up(&late);
        assert_eq!(sorted(&mut world), with, "{failure:?}");
    }
}

/// Tunnels and a gateway with rules of every kind.
const ALL_KINDS: &str = "
[gateway]
ike = \"any\"
esp = \"negotiated\"
only-ipsec = [\"ppp+\"]
[tunnel]
mss = \"pmtu\"
log = \"all\"
[[connection]]
name = \"one\"
allow = [\"tcp/22\"]
mss = 1300
when-down = \"block\"
[[connection]]
name = \"two\"
nat = \"10.1.0.1\"
[[connection]]
name = \"three\"
allow = \"none\"
";

#[test]
fn every_rule_that_is_deleted_and_every_chain_that_is_emptied_comes_back() {
    let mut world = World {
        settings: Settings::parse(ALL_KINDS).expect("good settings"),
        ..World::default()
    };
    world.start().expect("a start");
    for tunnel in &five_tunnels() {
        world.up(tunnel);
    }
    let before = sorted(&mut world);
    for kind in Kind::ALL {
        let table = ipv4_emulator(&mut world).table(kind).save();
        let rules = table.lines().filter_map(|line| line.strip_prefix("-A "));
        let rules: Vec<_> = rules.filter(|rule| rule.starts_with("PLUTO-")).collect();
        let deletions = rules.iter().map(|rule| format!("-D {rule}"));
        let chains: BTreeSet<_> = rules.iter().filter_map(|rule| rule.split(' ').next()).collect();
        let flushes = chains.iter().map(|chain| format!("-F {chain}"));
        for damage in deletions.chain(flushes) {
            change(ipv4_emulator(&mut world), kind.name(), &damage).expect("a change");
            let restored = try_restore(&mut world).map(|drifts| drifts.is_empty());
            assert!(matches!(restored, Ok(false)), "{damage}: {restored:?}");
            assert_eq!(sorted(&mut world), before, "{damage}");
        }
    }
}
