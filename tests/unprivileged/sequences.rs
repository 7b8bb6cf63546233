//! Whatever happens in whatever order, the installed rules are those of the tunnels that are up.

use std::fmt::Debug;

use crate::support::binary::Call;
use crate::support::charon::SETTINGS;
use crate::support::emulator::Kind;
use crate::support::model::{Modelled, Verb};
use crate::support::property::cases;
use crate::support::world::{RestoreFailure, World, libreswan, strongswan};
use pluto_updown::apply::{ApplyError, TunnelOutcome};
use pluto_updown::daemon::{FirewallAction, Tunnel};
use pluto_updown::net::Family;
use pluto_updown::netfilter::iptables::TablesError;
use proptest::prelude::*;

const OURS: &str = "10.1.0.0/24";

/// Tunnels that share names, networks, buckets and interfaces in every way that matters.
fn all_tunnels() -> Vec<Tunnel> {
    let west = || libreswan("west", 16389, OURS, "10.2.0.0/24");
    let vti = |name, interface, remote| libreswan(name, 16413, OURS, remote).with("VTI_IFACE", interface);
    let road = |reqid| {
        let road = libreswan("road", 16501, OURS, "203.0.113.7/32");
        road.with("PLUTO_CONN_KIND", "CK_INSTANCE")
            .with("PLUTO_SA_REQID", reqid)
    };
    [
        net(),
        strongswan("net", 2, OURS, "10.2.0.0/24"),
        strongswan("net", 1, OURS, "10.2.1.0/24"),
        strongswan("net", 3, "2001:db8:1::/64", "2001:db8:2::/64"),
        strongswan("access", 4, OURS, "10.3.0.0/24").with("PLUTO_HOST_ACCESS", "1"),
        host().with("PLUTO_IPCOMP", "1"),
        west(),
        // The same connection after it was deleted and added again.
        west().with("PLUTO_SA_REQID", "16393"),
        // And with an address inside.
        west().with("PLUTO_MY_SOURCEIP", "10.1.0.1"),
        vti("vti-a", "vti1", "0.0.0.0/0"),
        vti("vti-b", "vti1", "10.2.0.0/24"),
        vti("vti-c", "vti2", "10.2.0.0/24"),
        vti("other", "tunnel", "10.2.0.0/24"),
        // Two peers behind one NAT, in transport mode.
        road("16501"),
        road("16505"),
        libreswan("range", 16601, OURS, "10.7.0.5-10.7.0.9"),
        west().with("NFLOG", "13"),
        // Behind a NAT, with an address of the peer's; one is logged too, one has an interface.
        cat(16701, "10.0.10.1/32", "10.2.0.0/24"),
        cat(16705, "10.0.10.1/32", "10.2.1.0/24").with("NFLOG", "14"),
        cat(16709, "10.0.10.1/32", "10.2.2.0/24").with("VTI_IFACE", "vti1"),
        cat(16713, "2001:db8:a::1/128", "2001:db8:2::/64"),
        // Another peer that has the first one up, by an association of its own; and its first one after a rekey.
        net().of_peer("guest", 2),
        net().of_peer("spoke", 3),
        // A road warrior without a virtual address, where it moved to, and who was there.
        roaming(7, 9).of_peer("anna", 5),
        roaming(8, 10).of_peer("anna", 5),
        roaming(8, 10).of_peer("eve", 6),
    ]
    .iter()
    .map(Call::tunnel)
    .collect()
}

fn net() -> Call {
    strongswan("net", 1, OURS, "10.2.0.0/24")
}

fn host() -> Call {
    strongswan("host", 5, "192.0.2.1/32", "192.0.2.2/32").between_hosts()
}

fn roaming(reqid: u32, host: u8) -> Call {
    let address = format!("203.0.113.{host}");
    strongswan("roaming", reqid, OURS, &format!("{address}/32")).with("PLUTO_PEER", address)
}

/// A tunnel with client address translation. Its own end is the address that the peer gave.
fn cat(reqid: u32, assigned: &str, remote: &str) -> Call {
    let me = if assigned.contains(':') {
        "2001:db8::1"
    } else {
        "192.0.2.1"
    };
    libreswan("cat", reqid, assigned, remote)
        .with("PLUTO_ME", me)
        .with("CAT", "YES")
        .with("PLUTO_CONN_KIND", "CK_INSTANCE")
}

#[derive(Debug, Clone)]
enum Step {
    Call(usize, Verb),
    /// The hook dies in the middle of a call.
    Dying(usize, Verb, RestoreFailure),
    /// Somebody loads another rule set into a table.
    Reload(Family, Kind),
    /// Somebody empties every chain of a table.
    Flush(Family, Kind),
    /// iptables refuses the next transaction, for a reason of its own.
    Refusal(Family),
    /// It refuses a table of the next transaction, if that comes up.
    RefusalIn(Family, Kind),
}

fn step() -> impl Strategy<Value = Step> {
    let which = 0..all_tunnels().len();
    let verb = prop_oneof![6 => Just(Verb::Up), 4 => Just(Verb::Down)];
    let verb_of_dying = prop::sample::select(vec![Verb::Up, Verb::Down]);
    let death = prop::sample::select(RestoreFailure::KILLED.to_vec());
    let family = prop_oneof![Just(Family::Ipv4), Just(Family::Ipv6)];
    let kind = prop_oneof![Just(Kind::Filter), Just(Kind::Nat)];
    prop_oneof![
        10 => (which.clone(), verb).prop_map(|(which, verb)| Step::Call(which, verb)),
        4 => (which, verb_of_dying, death).prop_map(|(which, verb, death)| Step::Dying(which, verb, death)),
        1 => (family.clone(), kind.clone()).prop_map(|(family, kind)| Step::Reload(family, kind)),
        1 => (family.clone(), kind.clone()).prop_map(|(family, kind)| Step::Flush(family, kind)),
        1 => family.clone().prop_map(Step::Refusal),
        1 => (family, kind).prop_map(|(family, kind)| Step::RefusalIn(family, kind)),
    ]
}

/// A gateway on which peers are allowed different things.
fn world() -> World {
    World::with_file(SETTINGS).administered()
}

/// A gateway with its model, and what may come up there.
struct Run {
    tunnels: Vec<Tunnel>,
    gateway: Modelled,
}

impl Run {
    fn new() -> Self {
        Self {
            tunnels: all_tunnels(),
            gateway: Modelled::new(world()),
        }
    }

    fn make_step(&mut self, step: &Step) {
        let world = &mut self.gateway.world;
        match *step {
            Step::Call(which, verb) => drop(self.gateway.call(&self.tunnels[which], verb)),
            Step::Dying(which, verb, death) => {
                // What an earlier death left is settled first, so that this one befalls the call itself.
                while world.call(&FirewallAction::Nothing).is_err() {}
                world.tables.failures = [death].into();
                self.gateway.call(&self.tunnels[which], verb);
                self.gateway.world.tables.failures.clear();
            }
            Step::Reload(family, kind) => {
                world.emulator(family).table_mut(kind).flush_all();
                world.load_administrators(family, kind);
            }
            Step::Flush(family, kind) => {
                world.emulator(family).table_mut(kind).flush();
                world.load_administrators(family, kind);
            }
            Step::Refusal(family) => world.emulator(family).fail_next("line 1 failed: emulated"),
            Step::RefusalIn(family, kind) => world.emulator(family).fail_next_in(kind, "line 9 failed: emulated"),
        }
    }

    /// One more event in each family, which finds out whatever happened unseen.
    fn come_to_rest(&mut self) {
        let world = &mut self.gateway.world;
        while world.call(&FirewallAction::Nothing).is_err() {}
        for last in [
            strongswan("last", 99, OURS, "172.16.0.0/24"),
            strongswan("last", 99, "2001:db8:1::/64", "2001:db8:f::/64"),
            cat(16801, "10.0.10.1/32", "172.16.0.0/24"),
            cat(16805, "2001:db8:a::1/128", "2001:db8:f::/64"),
        ] {
            let last = last.tunnel();
            while world.try_up(&last).is_err() {}
            while world.try_down(&last).is_err() {}
        }
    }
}

/// Whether every packet is asked where it comes from before it is asked where it goes, and accepted after all questions.
fn order_is_safe(world: &mut World, family: Family) -> bool {
    let emulator = world.emulator(family);
    let rules = |chain: &str| {
        if emulator.has_chain(chain) {
            emulator.rules(chain).to_vec()
        } else {
            Vec::new()
        }
    };
    let asks_whence = |rule: &String| rule.contains("-i ") || rule.contains("--dir in");
    let whence_first = rules("PLUTO-FORWARD").is_sorted_by_key(|rule| !asks_whence(rule));
    let accept_last = rules("PLUTO-ONWARD").is_sorted_by_key(|rule| !rule.contains("-o "));
    let clears = |chain| {
        rules(chain)
            .first()
            .is_none_or(|rule: &String| rule.contains("--set-xmark 0x0/"))
    };
    whence_first && accept_last && clears("PLUTO-DECRYPTED") && clears("PLUTO-INTERFACES")
}

proptest! {
    #![proptest_config(cases(150))]

    #[test]
    fn the_rules_are_those_of_the_living_tunnels(steps in prop::collection::vec(step(), 1..40)) {
        let mut run = Run::new();
        for step in &steps {
            run.make_step(step);
        }
        run.come_to_rest();
        let Modelled { world, .. } = &mut run.gateway;
        prop_assert!(Family::ALL.into_iter().all(|family| order_is_safe(world, family)));
        run.gateway.assert_agrees(self::world(), "at rest");
        run.gateway.assert_ends(World::default().administered(), "in the end");
    }
}

#[test]
fn a_second_up_writes_nothing() {
    for tunnel in all_tunnels() {
        let mut world = World::default();
        assert_eq!(world.up(&tunnel), TunnelOutcome::Opened);
        let restores = world.tables.restores();
        assert!(matches!(world.up(&tunnel), TunnelOutcome::AlreadyOpen(_)));
        assert_eq!(world.tables.restores(), restores);
    }
}

#[test]
fn strongswans_up_up_down_leaves_the_tunnel_standing() {
    let tunnel = net().tunnel();
    let mut world = World::default();
    assert_eq!(world.up(&tunnel), TunnelOutcome::Opened);
    assert_eq!(world.up(&tunnel), TunnelOutcome::AlreadyOpen(2));
    let installed = world.emulator(Family::Ipv4).save();
    assert_eq!(world.down(&tunnel), TunnelOutcome::StillNeeded(1));
    assert_eq!(world.emulator(Family::Ipv4).save(), installed);
    assert_eq!(world.down(&tunnel), TunnelOutcome::Closed);
    assert!(world.is_forgotten());
}

#[test]
fn a_down_without_an_up_is_quiet_and_starts_nothing() {
    for tunnel in all_tunnels() {
        let mut world = World::default();
        assert_eq!(world.down(&tunnel), TunnelOutcome::NothingThere);
        assert_eq!(world.tables.restores(), 0);
        assert!(world.is_forgotten());
    }
}

#[test]
fn a_host_tunnel_that_mobike_moved_is_found_by_its_ike_sa() {
    let up = host();
    let moved = up
        .clone()
        .with("PLUTO_ME", "192.0.2.9")
        .with("PLUTO_MY_CLIENT", "192.0.2.9/32")
        .with("PLUTO_REQID", "6");
    let mut world = World::default();
    world.up(&up.tunnel());
    assert_eq!(
        world.down(&moved.clone().with("PLUTO_PEER_ID", "another").tunnel()),
        TunnelOutcome::NothingThere
    );
    assert_eq!(world.down(&moved.tunnel()), TunnelOutcome::Closed);
    assert!(world.is_forgotten());
}

/// Gateways on which nothing is up, another tunnel, or one more that is translated.
fn worlds() -> impl Iterator<Item = World> {
    let stays = strongswan("stays", 1, OURS, "10.2.0.0/24").tunnel();
    let too = cat(16717, "10.0.10.1/32", "10.2.3.0/24").tunnel();
    [vec![], vec![stays.clone()], vec![stays, too]].into_iter().map(|ups| {
        let mut world = World::default().administered();
        for up in ups {
            world.up(&up);
        }
        world
    })
}

fn translated() -> Tunnel {
    cat(16701, "10.0.10.1/32", "10.2.0.0/24").tunnel()
}

#[track_caller]
fn assert_refused<T: Debug>(result: Result<T, ApplyError>) {
    match result {
        Err(ApplyError::Tables(TablesError::Refused { .. })) => {}
        Err(ApplyError::Owed(reason)) if matches!(*reason, ApplyError::Tables(TablesError::Refused { .. })) => {}
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_up_of_which_one_table_is_refused_leaves_nothing_in_the_other() {
    for kind in [Kind::Filter, Kind::Nat] {
        for mut world in worlds() {
            let before = world.contents();
            let forgotten = world.is_forgotten();
            world.emulator(Family::Ipv4).refuse(kind, "--reqid 16701");
            assert_refused(world.try_up(&translated()));
            assert_eq!(world.contents(), before, "{kind:?}");
            assert_eq!(world.is_forgotten(), forgotten);
            assert_eq!(world.down(&translated()), TunnelOutcome::NothingThere);
        }
    }
}

#[test]
fn a_down_of_which_one_table_is_refused_changes_nothing_until_the_next_call() {
    for kind in [Kind::Filter, Kind::Nat] {
        for mut world in worlds() {
            world.up(&translated());
            let before = world.contents();
            let own = "-X PLUTO-cat-";
            world.emulator(Family::Ipv4).refuse(kind, own);
            assert_refused(world.try_down(&translated()));
            assert_eq!(world.contents(), before, "{kind:?}");
            world.emulator(Family::Ipv4).accept_again();
            world.call(&FirewallAction::Nothing).expect("the next call");
            assert_eq!(world.down(&translated()), TunnelOutcome::NothingThere);
        }
    }
}

#[test]
fn what_cannot_be_cleared_at_once_the_next_call_clears() {
    for mut world in worlds() {
        let before = world.contents();
        let forgotten = world.is_forgotten();
        let emulator = world.emulator(Family::Ipv4);
        // The nat table is changed, the filter table is not, and then nothing can be removed of the nat table.
        emulator.refuse(Kind::Filter, "--reqid 16701");
        emulator.refuse(Kind::Nat, "-X ");
        assert_refused(world.try_up(&translated()));
        assert!(!world.is_forgotten());
        assert_refused(world.call(&FirewallAction::Nothing));
        world.emulator(Family::Ipv4).accept_again();
        assert!(world.call(&FirewallAction::Nothing).is_ok());
        assert_eq!(world.contents(), before);
        assert_eq!(world.is_forgotten(), forgotten);
    }
}

#[test]
fn without_a_nat_table_in_the_kernel_other_tunnels_come_and_go() {
    let stays = strongswan("stays", 1, OURS, "10.2.0.0/24").tunnel();
    let mut world = World::default();
    world.emulator(Family::Ipv4).lacks.insert(Kind::Nat);
    assert_refused(world.try_up(&translated()));
    assert!(world.is_forgotten());
    world.up(&stays);
    let before = world.emulator(Family::Ipv4).save();
    assert_refused(world.try_up(&translated()));
    assert_eq!(world.emulator(Family::Ipv4).save(), before);
    assert_eq!(world.down(&stays), TunnelOutcome::Closed);
    assert!(world.is_forgotten());
}

#[test]
fn the_filter_opens_last_and_closes_first() {
    let mut world = World::default();
    // The hook dies when the first of the two tables is committed; what is installed then?
    world.tables.failures = [RestoreFailure::KilledHalfway].into();
    assert!(world.try_up(&translated()).is_err());
    let stand = |world: &mut World, kind| {
        world
            .emulator(Family::Ipv4)
            .table(kind)
            .save()
            .contains("--reqid 16701")
    };
    assert!(stand(&mut world, Kind::Nat) && !stand(&mut world, Kind::Filter));
    // The next call takes it out again: Pluto has given the tunnel up.
    assert!(world.call(&FirewallAction::Nothing).is_ok());
    assert!(world.is_forgotten() && !stand(&mut world, Kind::Nat));
    world.up(&translated());
    world.tables.failures = [RestoreFailure::KilledHalfway].into();
    assert!(world.try_down(&translated()).is_err());
    assert!(stand(&mut world, Kind::Nat) && !stand(&mut world, Kind::Filter));
    assert!(world.call(&FirewallAction::Nothing).is_ok());
    assert!(world.is_forgotten() && !stand(&mut world, Kind::Nat));
}
