//! What the kernel holds, spoilt in many ways and restored from the record, against the emulator.

use std::time::{Duration, Instant};

use crate::support::emulator::{Emulator, Kind};
use crate::support::world::{Fate, World, libreswan, strongswan};
use pluto_updown::apply::{ApplyError, Context, Engine};
use pluto_updown::daemon::Tunnel;
use pluto_updown::firewall::Drift;
use pluto_updown::net::Family;
use pluto_updown::netfilter::{Backend, Ruleset};
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
    let mut session = Engine::new(&store, &mut world.tables, caller);
    session.recover()?;
    let drifts = session.reconcile(BOOK)?;
    store.remove_unused()?;
    Ok(drifts)
}

fn restore(world: &mut World) -> Vec<Drift> {
    try_restore(world).expect("a restore")
}

fn book(world: &mut World) -> &mut Emulator {
    world.book(Family::Ipv4)
}

/// Two tunnels in one block, one elsewhere, one with a device, one with something in the nat table.
fn five_tunnels() -> [Tunnel; 5] {
    let plain = |name: &str, reqid, far| libreswan(name, reqid, "10.1.0.0/24", far);
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

fn living() -> World {
    let mut world = World::default();
    let admin = "*filter\n:ADMIN - [0:0]\n-A INPUT -i lo -j ACCEPT\n-A FORWARD -i eth1 -j ADMIN\nCOMMIT\n";
    book(&mut world).restore(admin).expect("the administrator's rules");
    for tunnel in &five_tunnels() {
        world.up(tunnel);
    }
    world
}

/// The tables, sorted: the order in which tunnels came is not on record.
fn sorted(world: &mut World) -> Vec<String> {
    book(world).sorted_lines()
}

type Damage = (&'static str, fn(&mut Emulator) -> Result<(), String>);

fn change(book: &mut Emulator, table: &str, commands: &str) -> Result<(), String> {
    book.restore(&format!("*{table}\n{commands}\nCOMMIT\n"))
}

/// What happens to a firewall.
const DAMAGES: [Damage; 12] = [
    ("all rules flushed", |book| {
        book.flush();
        Ok(())
    }),
    ("all rules and chains gone", |book| {
        book.wipe();
        Ok(())
    }),
    ("nat gone", |book| {
        book.table_mut(Kind::Nat).wipe();
        Ok(())
    }),
    ("both gone", |book| {
        book.wipe();
        book.table_mut(Kind::Nat).wipe();
        Ok(())
    }),
    ("a jump gone", |book| {
        change(book, "filter", "-D FORWARD -j PLUTO-FORWARD")
    }),
    ("a jump twice", |book| change(book, "filter", "-A INPUT -j PLUTO-INPUT")),
    ("a rule before our jump", |book| {
        change(book, "filter", "-I FORWARD -i eth7 -j DROP")
    }),
    ("a nat rule before our jump", |book| {
        change(book, "nat", "-I POSTROUTING -o eth0 -j SNAT --to-source 192.0.2.9")
    }),
    ("a chain flushed", |book| {
        change(book, "filter", "-F PLUTO-FI-10.2.0.0-18")
    }),
    ("a foreign rule", |book| {
        change(book, "filter", "-I PLUTO-ONWARD -s 10.9.0.0/16 -j DROP")
    }),
    ("a foreign chain", |book| {
        change(
            book,
            "filter",
            ":PLUTO-old - [0:0]\n-A PLUTO-old -j ACCEPT\n-A PLUTO-I -j PLUTO-old",
        )
    }),
    ("another order", |book| {
        const GO_ON: &str = "PLUTO-DECRYPTED -g PLUTO-FO";
        change(book, "filter", &format!("-D {GO_ON}\n-I {GO_ON}"))
    }),
];

/// What of a listing is ours, or the administrator's.
fn whose(lines: &[String], ours: bool) -> Vec<&String> {
    let foreign = "-s 10.9.0.0/16 -j DROP";
    lines
        .iter()
        .filter(|line| line.contains("PLUTO-") == ours && !line.contains(foreign))
        .collect()
}

#[test]
fn what_stands_as_it_should_is_not_touched() {
    let mut world = living();
    let restores = world.tables.restores();
    assert_eq!(restore(&mut world), []);
    assert_eq!(world.tables.restores(), restores);
}

#[test]
fn every_two_damages_together_are_mended_and_nothing_else_is_touched() {
    let whole = sorted(&mut living());
    for (at, (first, damage)) in DAMAGES.iter().enumerate() {
        for (second, other) in &DAMAGES[at..] {
            let mut world = living();
            damage(book(&mut world)).expect("a damage");
            // What it needs can be gone already.
            let _ = other(book(&mut world));
            let what = format!("{first}, {second}");
            let spoilt = sorted(&mut world);
            assert_ne!(restore(&mut world), [], "{what}");
            let mended = sorted(&mut world);
            assert!(whose(&mended, true) == whose(&whole, true), "{what}: {mended:#?}");
            assert!(whose(&mended, false) == whose(&spoilt, false), "{what}: {mended:#?}");
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
    let mut world = living();
    let saved = book(&mut world).save();
    for tunnel in &five_tunnels() {
        world.down(tunnel);
    }
    let before = sorted(&mut world);
    book(&mut world).replace(&saved).expect("loading it");
    assert_ne!(restore(&mut world), []);
    assert_eq!(sorted(&mut world), before);
    assert!(world.is_forgotten());
}

#[test]
fn a_refusal_is_told_and_the_record_stands() {
    let mut world = living();
    book(&mut world).wipe();
    book(&mut world).refuse(Kind::Filter, "10.77.0.0/24");
    assert!(try_restore(&mut world).is_err());
    book(&mut world).relent();
    assert_ne!(restore(&mut world), []);
    assert_eq!(whose(&sorted(&mut world), true), whose(&sorted(&mut living()), true));
}

/// Another program changes the tables between our listing and our change.
#[test]
fn a_refusal_that_passes_is_tried_again() {
    let mut world = living();
    book(&mut world).wipe();
    book(&mut world).fail_next("somebody was faster");
    assert_ne!(restore(&mut world), []);
    assert_eq!(whose(&sorted(&mut world), true), whose(&sorted(&mut living()), true));
}

/// As at boot, where another firewall loads its rules at the same moment.
#[test]
fn a_first_up_that_is_refused_is_tried_once_more() {
    for backend in [Backend::Nft, Backend::Legacy] {
        for tunnel in five_tunnels() {
            let mut world = World::default().on(backend);
            world.tables.fates = [Fate::Refused].into();
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
            world.tables.fates = [Fate::Refused, Fate::Refused, Fate::Refused, Fate::Refused].into();
            world.try_up(&tunnel).expect_err("it is refused again and again");
            assert!(world.is_forgotten());
        }
    }
}

/// So many tunnels that their chains are made in several commits.
fn crowd() -> World {
    let mut world = World::default();
    for number in 0..300 {
        let (name, far) = (
            format!("branch-{number}"),
            format!("10.{}.{}.0/24", 100 + number / 16, number % 16),
        );
        world.up(&strongswan(&name, number + 1, "10.1.0.0/24", &far).tunnel());
    }
    world
}

#[test]
fn where_the_restore_of_many_tunnels_ends_halfway_nothing_leads_to_them_and_the_next_one_completes_it() {
    let mut world = crowd();
    let before = sorted(&mut world);
    book(&mut world).wipe();
    world.tables.fates.push_back(Fate::KilledHalfway);
    try_restore(&mut world).expect_err("the killed one");
    let chains = book(&mut world).chains().len();
    assert!((100..800).contains(&chains), "{chains} chains");
    for chain in ["INPUT", "FORWARD", "OUTPUT"] {
        assert!(book(&mut world).rules(chain).is_empty(), "{chain}");
    }
    restore(&mut world);
    assert_eq!(sorted(&mut world), before);
    assert_eq!(restore(&mut world), []);
}

#[test]
fn a_call_puts_many_tunnels_back_after_a_reload() {
    let mut world = crowd();
    let before = sorted(&mut world);
    book(&mut world).wipe();
    let late = late();
    world.up(&late);
    world.down(&late);
    assert_eq!(sorted(&mut world), before);
}

#[test]
fn a_call_among_many_tunnels_that_misses_a_jump_puts_in_only_that() {
    let mut world = crowd();
    let late = late();
    let before = book(&mut world).save();
    change(book(&mut world), "filter", "-D FORWARD -j PLUTO-FORWARD").expect("the jump");
    world.up(&late);
    world.down(&late);
    // The order of the rules in a block is that in which the tunnels came: nothing was written anew.
    assert_eq!(book(&mut world).save(), before);
}

#[test]
fn a_change_among_many_tunnels_ends_whole_or_not_at_all_however_it_fails() {
    let late = late();
    let mut world = crowd();
    let without = sorted(&mut world);
    world.up(&late);
    let with = sorted(&mut world);
    for fate in Fate::ALL {
        world.down(&late);
        book(&mut world).wipe();
        world.tables.fates.extend([Fate::Refused, fate]);
        let _ = world.try_up(&late);
        world.tables.fates.clear();
        try_restore(&mut world).expect("a restore");
        let expected = match world.recorded().keys().any(|name| name.starts_with("late")) {
            true => &with,
            false => &without,
        };
        assert_eq!(&sorted(&mut world), expected, "{fate:?}");
        world.up(&late);
        assert_eq!(sorted(&mut world), with, "{fate:?}");
    }
}
