//! A record that cannot be read: its rules stay as they are, and it stops no work on the others.

use std::fs;
use std::path::PathBuf;

use pluto_updown::daemon::Tunnel;
use pluto_updown::net::Family;
use pluto_updown::netfilter::Backend;

use crate::support::packet::{Packet, Verdict};
use crate::support::world::{World, libreswan, strongswan};

const SETTINGS: &str = "[gateway]\nike = \"any\"\n[tunnel]\nnat = \"leave\"\n[[connection]]\nname = \"lost\"\nallow = \"none\"\n\
    [[connection]]\nname = \"near\"\nallow = \"replies\"\n";

fn lost() -> Tunnel {
    libreswan("lost", 16393, "10.1.0.0/24", "10.2.0.0/24").tunnel()
}

/// In the same bucket, and in another one.
fn others() -> [Tunnel; 2] {
    [
        strongswan("near", 2, "10.1.0.0/24", "10.2.1.0/24").tunnel(),
        strongswan("far", 3, "10.1.0.0/24", "172.16.0.0/24").tunnel(),
    ]
}

/// The file of the tunnel's record.
fn file(world: &World) -> PathBuf {
    let folder = world
        .folder
        .path()
        .join(format!("state/1/{}-ipv4/tunnels", world.tables.default));
    let mut names = fs::read_dir(folder)
        .expect("a folder")
        .map(|entry| entry.expect("an entry").path());
    let is_lost = |path: &PathBuf| {
        path.file_name()
            .is_some_and(|name| name.to_string_lossy().starts_with("lost-"))
    };
    names.find(is_lost).expect("its record")
}

/// Contents that no version reads: cut, of a newer format, and none.
const CONTENTS: [&str; 3] = ["{\"kind\":\"tunnel\",\"format\":3,\"id\":\"lo", "{\"format\":99}", ""];

fn worlds() -> impl Iterator<Item = World> {
    CONTENTS.into_iter().flat_map(|content| {
        [Backend::Nft, Backend::Legacy].map(|backend| {
            let mut world = World::with_file(SETTINGS).on(backend);
            world.start().expect("a start");
            world.up(&lost());
            fs::write(file(&world), content).expect("a broken record");
            world
        })
    })
}

/// Nothing enters the tunnel, and nothing comes out.
#[track_caller]
fn assert_closed(world: &mut World) {
    let out = Packet::between("10.1.0.9", "10.2.0.7").tcp(1, 2).in_by("lan0");
    let back = Packet::between("10.2.0.7", "10.1.0.9").tcp(2, 1).out_by("lan0");
    for packet in [out.out_by_ipsec("eth0", 16393), back.in_by_ipsec("eth0", 16393)] {
        assert_eq!(world.verdict(Family::Ipv4, &packet), Verdict::Drop, "{packet:?}");
    }
}

#[track_caller]
fn assert_open(world: &mut World) {
    for (host, reqid) in [("10.2.1.7", 2), ("172.16.0.7", 3)] {
        let packet = Packet::between("10.1.0.9", host)
            .tcp(1, 2)
            .in_by("lan0")
            .out_by_ipsec("eth0", reqid);
        assert_eq!(world.verdict(Family::Ipv4, &packet), Verdict::Accept, "{packet:?}");
    }
}

/// The rules, in whatever order: where one of a record that cannot be read belongs is not known.
fn sorted(listing: &str) -> Vec<String> {
    let mut lines: Vec<_> = listing.lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

#[test]
fn other_tunnels_come_and_go_beside_a_record_that_cannot_be_read() {
    for mut world in worlds() {
        let alone = world.emulator(Family::Ipv4).save_all();
        for tunnel in &others() {
            world.up(tunnel);
        }
        assert_open(&mut world);
        assert_closed(&mut world);
        world.start().expect("a start");
        assert_eq!(world.restore().expect("a restore"), []);
        for tunnel in &others() {
            world.down(tunnel);
        }
        assert_closed(&mut world);
        assert_eq!(world.emulator(Family::Ipv4).save_all(), alone);
        assert_eq!(world.restore().expect("a restore"), []);
    }
}

#[test]
fn what_is_missing_is_restored_around_the_rules_of_a_record_that_cannot_be_read() {
    for mut world in worlds() {
        for tunnel in &others() {
            world.up(tunnel);
        }
        let whole = world.emulator(Family::Ipv4).save_all();
        let rules: Vec<_> = whole
            .lines()
            .filter(|line| line.starts_with("-A ") && line.contains("near-"))
            .collect();
        assert!(rules.len() >= 4, "{rules:?}");
        let is_jump = |line: &&&str| line.starts_with("-A PLUTO-FI-10.2") || line.starts_with("-A PLUTO-FO-10.2");
        let jumps: Vec<_> = rules.iter().filter(is_jump).collect();
        assert_eq!(jumps.len(), 2);
        let text: String = jumps.iter().map(|line| line.replacen("-A", "-D", 1) + "\n").collect();
        world
            .emulator(Family::Ipv4)
            .restore(&format!("*filter\n{text}-D FORWARD -j PLUTO-FORWARD\nCOMMIT\n"))
            .expect("deleted");
        assert_eq!(world.restore().expect("a restore").len(), 3);
        assert_eq!(sorted(&world.emulator(Family::Ipv4).save_all()), sorted(&whole));
        assert_closed(&mut world);
        // A change that meets the same.
        world
            .emulator(Family::Ipv4)
            .restore(&format!("*filter\n{text}-D FORWARD -j PLUTO-FORWARD\nCOMMIT\n"))
            .expect("deleted");
        let [near, far] = others();
        world.down(&near);
        world.up(&near);
        assert_open(&mut world);
        assert_closed(&mut world);
        world.down(&far);
        assert_closed(&mut world);
    }
}

/// After a call that was killed, the index is made again.
#[test]
fn a_recovery_keeps_the_rules_of_a_record_that_cannot_be_read() {
    use crate::support::world::RestoreFailure;
    for mut world in worlds() {
        let [near, far] = others();
        world.tables.failures.push_back(RestoreFailure::KilledBefore);
        world.try_up(&near).expect_err("it is killed");
        world.up(&far);
        assert_open(&mut world);
        assert_closed(&mut world);
        for tunnel in [&near, &far] {
            world.down(tunnel);
        }
        assert_closed(&mut world);
    }
}

#[test]
fn without_the_file_restore_removes_its_rules() {
    for mut world in worlds() {
        for tunnel in &others() {
            world.up(tunnel);
        }
        fs::remove_file(file(&world)).expect("deleted");
        world.restore().expect("a restore");
        assert!(!world.emulator(Family::Ipv4).save_all().contains("lost"));
        world.up(&lost());
        assert_closed(&mut world);
        assert_open(&mut world);
        world.down(&lost());
        for tunnel in &others() {
            world.down(tunnel);
        }
        world.stop().expect("a stop");
        assert!(world.is_forgotten());
    }
}
