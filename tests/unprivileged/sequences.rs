//! Whatever happens in whatever order, the installed rules are those of the tunnels that are up.

use std::collections::BTreeMap;

use crate::support::charon::SETTINGS;
use crate::support::emulator::Kind;
use crate::support::model::{Ended, Model, Verb};
use crate::support::property::cases;
use crate::support::world::{Death, World, libreswan, strongswan, tunnel, with};
use pluto_updown::apply::{ApplyError, TunnelOutcome};
use pluto_updown::iptables::TablesError;
use pluto_updown::selector::Family;
use pluto_updown::settings::Settings;
use pluto_updown::updown_env::{FirewallAction, Tunnel};
use proptest::prelude::*;

const OURS: &str = "10.1.0.0/24";

/// Tunnels that share names, networks, buckets and interfaces in every way that matters.
fn tunnels() -> Vec<Tunnel> {
    let west = libreswan("up-client", "west", 16389, OURS, "10.2.0.0/24");
    let vti = |name: &str, interface: &str, remote: &str| {
        with(
            &libreswan("up-client", name, 16413, OURS, remote),
            "VTI_IFACE",
            interface,
        )
    };
    let road = |reqid: &str| {
        let road = libreswan("up-client", "road", 16501, OURS, "203.0.113.7/32");
        with(&with(&road, "PLUTO_CONN_KIND", "CK_INSTANCE"), "PLUTO_SA_REQID", reqid)
    };
    [
        strongswan("up-client", "net", 1, OURS, "10.2.0.0/24"),
        strongswan("up-client", "net", 2, OURS, "10.2.0.0/24"),
        strongswan("up-client", "net", 1, OURS, "10.2.1.0/24"),
        strongswan("up-client", "net", 3, "2001:db8:1::/64", "2001:db8:2::/64"),
        with(
            &strongswan("up-client", "access", 4, OURS, "10.3.0.0/24"),
            "PLUTO_HOST_ACCESS",
            "1",
        ),
        with(
            &strongswan("up-host", "host", 5, "192.0.2.1/32", "192.0.2.2/32"),
            "PLUTO_IPCOMP",
            "1",
        ),
        west.clone(),
        // The same connection after it was deleted and added again.
        with(&west, "PLUTO_SA_REQID", "16393"),
        // And with an address inside.
        with(&west, "PLUTO_MY_SOURCEIP", "10.1.0.1"),
        vti("vti-a", "vti1", "0.0.0.0/0"),
        vti("vti-b", "vti1", "10.2.0.0/24"),
        vti("vti-c", "vti2", "10.2.0.0/24"),
        vti("other", "tunnel", "10.2.0.0/24"),
        // Two peers behind one NAT, in transport mode.
        road("16501"),
        road("16505"),
        with(
            &libreswan("up-client", "range", 16601, OURS, "10.7.0.5-10.7.0.9"),
            "PLUTO_CONN_KIND",
            "CK_PERMANENT",
        ),
        with(&west, "NFLOG", "13"),
        // Behind a NAT, with an address of the peer's; one is logged too, one has an interface.
        cat(16701, "10.0.10.1/32", "10.2.0.0/24"),
        with(&cat(16705, "10.0.10.1/32", "10.2.1.0/24"), "NFLOG", "14"),
        with(&cat(16709, "10.0.10.1/32", "10.2.2.0/24"), "VTI_IFACE", "vti1"),
        cat(16713, "2001:db8:a::1/128", "2001:db8:2::/64"),
        // Another peer that has the first one up, by an association of its own; and its first one after a rekey.
        peers(&strongswan("up-client", "net", 1, OURS, "10.2.0.0/24"), "guest", 2),
        peers(&strongswan("up-client", "net", 1, OURS, "10.2.0.0/24"), "spoke", 3),
        // A road warrior without a virtual address, where it moved to, and who was there.
        peers(&roaming(7, 9), "anna", 5),
        peers(&roaming(8, 10), "anna", 5),
        peers(&roaming(8, 10), "eve", 6),
    ]
    .iter()
    .map(|variables| tunnel(variables))
    .collect()
}

fn peers(call: &str, peer: &str, association: u32) -> String {
    with(
        &with(call, "PLUTO_PEER_ID", peer),
        "PLUTO_UNIQUEID",
        &association.to_string(),
    )
}

fn roaming(reqid: u32, host: u8) -> String {
    let address = format!("203.0.113.{host}");
    let call = strongswan("up-client", "roaming", reqid, OURS, &format!("{address}/32"));
    with(&call, "PLUTO_PEER", &address)
}

/// A tunnel with client address translation. Its own end is the address that the peer gave.
fn cat(reqid: u32, assigned: &str, remote: &str) -> String {
    let me = if assigned.contains(':') {
        "2001:db8::1"
    } else {
        "192.0.2.1"
    };
    let up = libreswan("up-client", "cat", reqid, assigned, remote);
    with(
        &with(&with(&up, "PLUTO_ME", me), "CAT", "YES"),
        "PLUTO_CONN_KIND",
        "CK_INSTANCE",
    )
}

#[derive(Debug, Clone)]
enum Step {
    Up(usize),
    Down(usize),
    /// The hook dies in the middle of an up.
    DyingUp(usize, Death),
    /// The hook dies in the middle of a down.
    DyingDown(usize, Death),
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
    let which = 0..tunnels().len();
    let death = prop_oneof![Just(Death::Before), Just(Death::Halfway), Just(Death::After)];
    let family = prop_oneof![Just(Family::Ipv4), Just(Family::Ipv6)];
    let kind = prop_oneof![Just(Kind::Filter), Just(Kind::Nat)];
    prop_oneof![
        6 => which.clone().prop_map(Step::Up),
        4 => which.clone().prop_map(Step::Down),
        2 => (which.clone(), death.clone()).prop_map(|(which, death)| Step::DyingUp(which, death)),
        2 => (which, death).prop_map(|(which, death)| Step::DyingDown(which, death)),
        1 => (family.clone(), kind.clone()).prop_map(|(family, kind)| Step::Reload(family, kind)),
        1 => (family.clone(), kind.clone()).prop_map(|(family, kind)| Step::Flush(family, kind)),
        1 => family.clone().prop_map(Step::Refusal),
        1 => (family, kind).prop_map(|(family, kind)| Step::RefusalIn(family, kind)),
    ]
}

/// A gateway, and beside it what is known to be up.
struct Run {
    tunnels: Vec<Tunnel>,
    world: World,
    model: Model,
}

/// A gateway on which peers are allowed different things.
fn world() -> World {
    let mut world = World {
        settings: Settings::parse(SETTINGS).expect("good settings"),
        ..World::default()
    };
    all_tables(&mut world);
    world
}

impl Run {
    fn new() -> Self {
        Self {
            tunnels: tunnels(),
            world: world(),
            model: Model::default(),
        }
    }

    fn make_step(&mut self, step: &Step) {
        match *step {
            Step::Up(which) => self.call(which, true),
            Step::Down(which) => self.call(which, false),
            Step::DyingUp(which, death) => self.dying(which, true, death),
            Step::DyingDown(which, death) => self.dying(which, false, death),
            Step::Reload(family, kind) => {
                self.world.tables.emulator(family).table_mut(kind).flush_all();
                administrators_rules(&mut self.world, family, kind);
            }
            Step::Flush(family, kind) => {
                self.world.tables.emulator(family).table_mut(kind).flush();
                administrators_rules(&mut self.world, family, kind);
            }
            Step::Refusal(family) => self.world.tables.emulator(family).fail_next("line 1 failed: emulated"),
            Step::RefusalIn(family, kind) => {
                let emulator = self.world.tables.emulator(family);
                emulator.fail_next_in(kind, "line 9 failed: emulated");
            }
        }
    }

    fn dying(&mut self, which: usize, up: bool, death: Death) {
        // What an earlier death left is settled first, so that this one befalls the call itself.
        while self.world.call(&FirewallAction::Nothing).is_err() {}
        self.world.tables.death = Some(death);
        self.call(which, up);
        self.world.tables.death = None;
    }

    fn call(&mut self, which: usize, up: bool) {
        let tunnel = self.tunnels[which].clone();
        let verb = if up { Verb::Up } else { Verb::Down };
        let result = self.world.call(&match verb {
            Verb::Up => FirewallAction::Open(Box::new(tunnel.clone())),
            Verb::Down => FirewallAction::Close(Box::new(tunnel.clone())),
        });
        let ended = match result {
            Ok(_) => Ended::Done,
            // It never knew how its restore ended.
            Err(ApplyError::Tables(TablesError::Unknown { .. })) => Ended::Open,
            Err(ApplyError::Tables(TablesError::Refused { .. }) | ApplyError::Owed(_)) => Ended::Refused,
            Err(error) => panic!("{error}"),
        };
        self.model.call(&tunnel, verb, ended);
    }

    /// One more event in each family, which finds out whatever happened unseen.
    fn come_to_rest(&mut self) {
        while self.world.call(&FirewallAction::Nothing).is_err() {}
        for last in [
            strongswan("up-client", "last", 99, OURS, "172.16.0.0/24"),
            strongswan("up-client", "last", 99, "2001:db8:1::/64", "2001:db8:f::/64"),
            cat(16801, "10.0.10.1/32", "172.16.0.0/24"),
            cat(16805, "2001:db8:a::1/128", "2001:db8:f::/64"),
        ] {
            let last = tunnel(&last);
            while self.world.call(&FirewallAction::Open(Box::new(last.clone()))).is_err() {}
            while self.world.call(&FirewallAction::Close(Box::new(last.clone()))).is_err() {}
        }
    }
}

fn all_tables(world: &mut World) {
    for family in Family::ALL {
        Kind::ALL
            .into_iter()
            .for_each(|kind| administrators_rules(world, family, kind));
    }
}

fn administrators_rules(world: &mut World, family: Family, kind: Kind) {
    let text = match kind {
        Kind::Filter => "*filter\n-A INPUT -i lo -j ACCEPT\n-A FORWARD -i lan0 -j ACCEPT\nCOMMIT\n",
        Kind::Nat => "*nat\n-A PREROUTING -i w0 -j LOG\n-A POSTROUTING -o w0 -j ACCEPT\nCOMMIT\n",
        Kind::Mangle => "*mangle\n-A FORWARD -o w0 -j ACCEPT\nCOMMIT\n",
    };
    // A refusal that waits for the next transaction befalls this one too.
    while world.tables.emulator(family).restore(text).is_err() {}
}

/// Every chain of both tables with its rules. The order of tunnels in a bucket is irrelevant.
fn contents(world: &mut World, family: Family) -> BTreeMap<String, Vec<String>> {
    let emulator = world.tables.emulator(family);
    let of_table = |kind: Kind| {
        let table = emulator.table(kind);
        table.chains().into_iter().map(move |chain| {
            let mut rules = table.rules(chain).to_vec();
            if is_sorted_by_nobody(chain) {
                rules.sort();
            }
            (format!("{} {chain}", kind.name()), rules)
        })
    };
    Kind::ALL.into_iter().flat_map(of_table).collect()
}

/// In our chains tunnels stand beside one another in the order in which they came. Where the order matters, [`order_is_safe`] looks.
fn is_sorted_by_nobody(chain: &str) -> bool {
    chain.starts_with("PLUTO-")
}

/// Whether every packet is asked where it comes from before it is asked where it goes, and accepted after all questions.
fn order_is_safe(world: &mut World, family: Family) -> bool {
    let emulator = world.tables.emulator(family);
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

        let mut fresh = world();
        for up in run.model.open_ups() {
            fresh.up(up);
        }
        prop_assert_eq!(run.world.openers(), run.model.record());
        for family in Family::ALL {
            prop_assert_eq!(contents(&mut run.world, family), contents(&mut fresh, family));
            prop_assert!(order_is_safe(&mut run.world, family));
        }

        for up in run.model.open_ups() {
            let outcome = run.world.down(up);
            prop_assert!(matches!(outcome, TunnelOutcome::Closed | TunnelOutcome::StillNeeded(_)));
        }
        let mut empty = World::default();
        all_tables(&mut empty);
        for family in Family::ALL {
            prop_assert_eq!(contents(&mut run.world, family), contents(&mut empty, family));
        }
        prop_assert!(run.world.is_forgotten());
    }
}

#[test]
fn a_second_up_writes_nothing() {
    for tunnel in tunnels() {
        let mut world = World::default();
        assert_eq!(world.up(&tunnel), TunnelOutcome::Opened);
        let restores = world.tables.restores();
        assert!(matches!(world.up(&tunnel), TunnelOutcome::AlreadyOpen(_)));
        assert_eq!(world.tables.restores(), restores);
    }
}

#[test]
fn strongswans_up_up_down_leaves_the_tunnel_standing() {
    let tunnel = tunnel(&strongswan("up-client", "net", 1, OURS, "10.2.0.0/24"));
    let mut world = World::default();
    assert_eq!(world.up(&tunnel), TunnelOutcome::Opened);
    assert_eq!(world.up(&tunnel), TunnelOutcome::AlreadyOpen(2));
    let installed = world.tables.emulator(Family::Ipv4).save();
    assert_eq!(world.down(&tunnel), TunnelOutcome::StillNeeded(1));
    assert_eq!(world.tables.emulator(Family::Ipv4).save(), installed);
    assert_eq!(world.down(&tunnel), TunnelOutcome::Closed);
    assert!(world.is_forgotten());
}

#[test]
fn a_down_without_an_up_is_quiet_and_starts_nothing() {
    for tunnel in tunnels() {
        let mut world = World::default();
        assert_eq!(world.down(&tunnel), TunnelOutcome::NothingThere);
        assert_eq!(world.tables.restores(), 0);
        assert!(world.is_forgotten());
    }
}

#[test]
fn a_host_tunnel_that_mobike_moved_is_found_by_its_ike_sa() {
    let up = strongswan("up-host", "host", 5, "192.0.2.1/32", "192.0.2.2/32");
    let moved = with(
        &with(&with(&up, "PLUTO_ME", "192.0.2.9"), "PLUTO_MY_CLIENT", "192.0.2.9/32"),
        "PLUTO_REQID",
        "6",
    );
    let mut world = World::default();
    world.up(&tunnel(&up));
    assert_eq!(
        world.down(&tunnel(&with(&moved, "PLUTO_PEER_ID", "another"))),
        TunnelOutcome::NothingThere
    );
    assert_eq!(world.down(&tunnel(&moved)), TunnelOutcome::Closed);
    assert!(world.is_forgotten());
}

/// Gateways on which nothing is up, another tunnel, or one more that is translated.
fn worlds() -> impl Iterator<Item = World> {
    let stays = tunnel(&strongswan("up-client", "stays", 1, OURS, "10.2.0.0/24"));
    let too = tunnel(&cat(16717, "10.0.10.1/32", "10.2.3.0/24"));
    [vec![], vec![stays.clone()], vec![stays, too]].into_iter().map(|ups| {
        let mut world = World::default();
        all_tables(&mut world);
        for up in ups {
            world.up(&up);
        }
        world
    })
}

fn translated() -> Tunnel {
    tunnel(&cat(16701, "10.0.10.1/32", "10.2.0.0/24"))
}

#[track_caller]
fn assert_refused(world: &mut World, firewall_action: &FirewallAction) {
    match world.call(firewall_action) {
        Err(ApplyError::Tables(TablesError::Refused { .. })) => {}
        Err(ApplyError::Owed(reason)) if matches!(*reason, ApplyError::Tables(TablesError::Refused { .. })) => {}
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_up_of_which_one_table_is_refused_leaves_nothing_in_the_other() {
    let open = FirewallAction::Open(Box::new(translated()));
    for kind in [Kind::Filter, Kind::Nat] {
        for mut world in worlds() {
            let before = contents(&mut world, Family::Ipv4);
            let forgotten = world.is_forgotten();
            world.tables.emulator(Family::Ipv4).refuse(kind, "--reqid 16701");
            assert_refused(&mut world, &open);
            assert_eq!(contents(&mut world, Family::Ipv4), before, "{kind:?}");
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
            let before = contents(&mut world, Family::Ipv4);
            let own = "-X PLUTO-cat-";
            world.tables.emulator(Family::Ipv4).refuse(kind, own);
            assert_refused(&mut world, &FirewallAction::Close(Box::new(translated())));
            assert_eq!(contents(&mut world, Family::Ipv4), before, "{kind:?}");
            world.tables.emulator(Family::Ipv4).accept_again();
            world.call(&FirewallAction::Nothing).expect("the next call");
            assert_eq!(world.down(&translated()), TunnelOutcome::NothingThere);
        }
    }
}

#[test]
fn what_cannot_be_cleared_at_once_the_next_call_clears() {
    for mut world in worlds() {
        let before = contents(&mut world, Family::Ipv4);
        let forgotten = world.is_forgotten();
        let emulator = world.tables.emulator(Family::Ipv4);
        // The nat table is changed, the filter table is not, and then nothing can be removed of the nat table.
        emulator.refuse(Kind::Filter, "--reqid 16701");
        emulator.refuse(Kind::Nat, "-X ");
        assert_refused(&mut world, &FirewallAction::Open(Box::new(translated())));
        assert!(!world.is_forgotten());
        assert_refused(&mut world, &FirewallAction::Nothing);
        world.tables.emulator(Family::Ipv4).accept_again();
        assert!(world.call(&FirewallAction::Nothing).is_ok());
        assert_eq!(contents(&mut world, Family::Ipv4), before);
        assert_eq!(world.is_forgotten(), forgotten);
    }
}

#[test]
fn without_a_nat_table_in_the_kernel_other_tunnels_stand_and_go() {
    let stays = tunnel(&strongswan("up-client", "stays", 1, OURS, "10.2.0.0/24"));
    let open = FirewallAction::Open(Box::new(translated()));
    let mut world = World::default();
    world.tables.emulator(Family::Ipv4).lacks.insert(Kind::Nat);
    assert_refused(&mut world, &open);
    assert!(world.is_forgotten());
    world.up(&stays);
    let before = world.tables.emulator(Family::Ipv4).save();
    assert_refused(&mut world, &open);
    assert_eq!(world.tables.emulator(Family::Ipv4).save(), before);
    assert_eq!(world.down(&stays), TunnelOutcome::Closed);
    assert!(world.is_forgotten());
}

#[test]
fn the_filter_opens_last_and_closes_first() {
    let mut world = World::default();
    // The hook dies when the first of the two tables is committed; what is installed then?
    world.tables.death = Some(Death::Halfway);
    assert!(world.call(&FirewallAction::Open(Box::new(translated()))).is_err());
    let stand = |world: &mut World, kind| {
        world
            .tables
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
    world.tables.death = Some(Death::Halfway);
    assert!(world.call(&FirewallAction::Close(Box::new(translated()))).is_err());
    assert!(stand(&mut world, Kind::Nat) && !stand(&mut world, Kind::Filter));
    assert!(world.call(&FirewallAction::Nothing).is_ok());
    assert!(world.is_forgotten() && !stand(&mut world, Kind::Nat));
}
