//! What libreswan's own scripts do to the network, we do.
//!
//! Two machines alike get the same calls, one after the other; the script runs on one of them and our program on the other. After each
//! call everything that a route, an address, a rule, a proxy neighbour, a link or an interface's setting is made of is compared. Where the two
//! differ on purpose, `differences` says why; anything else is a fault, and so is a difference that no longer shows.
//!
//! The scripts are those of Debian's packages; `contrib/test` unpacks them and says where in `LIBRESWAN_UPDOWN_4_10` and `_5_2`.

#![expect(
    clippy::disallowed_methods,
    reason = "tests start programs, and are told where the scripts are"
)]
#![allow(
    unreachable_pub,
    reason = "a module of a test binary is reached by that binary alone"
)]

mod calls;
mod cases;
mod differences;
mod machine;
mod state;
mod twins;
mod world;

use std::io::Write as _;

use calls::Version;
use cases::Case;
use machine::Machine;
use twins::{Finding, Hook, Side, Twins};
use world::World;

/// Runs these cases, but those that this kernel cannot do.
fn run(left: Hook, right: Hook, cases: &[Case]) -> Vec<Finding> {
    let (vti, others): (Vec<_>, Vec<_>) = cases.iter().partition(|case| case.wants_vti());
    let mut twins = Twins::new(left, right);
    let mut findings: Vec<_> = others.into_iter().flat_map(|case| twins.run(case)).collect();
    if kernel_has_vti() {
        findings.extend(vti.into_iter().flat_map(|case| twins.run(case)));
    } else {
        // Past the test harness, which would keep it to itself.
        let names: Vec<_> = vti.iter().map(|case| case.name.as_str()).collect();
        let line = format!(
            "not compared, as this kernel has no VTI: {}; contrib/daemons/run vti tries it\n",
            names.join("; ")
        );
        std::io::stderr().write_all(line.as_bytes()).expect("standard error");
    }
    findings
}

fn kernel_has_vti() -> bool {
    let mut machine = Machine::new("");
    machine.send_lines(
        "ip tunnel add vti9 mode vti local 192.0.2.1 remote 192.0.2.2 okey 9 ikey 9 2>/dev/null || echo none",
    );
    machine.read_answer().said.is_empty()
}

fn report<'a>(findings: impl IntoIterator<Item = &'a Finding>) -> String {
    findings.into_iter().map(|finding| format!("{finding}\n")).collect()
}

#[test]
#[ignore = "needs root and iptables: run by contrib/test"]
fn one_script_on_both_machines_makes_no_difference() {
    for version in [Version::V4_10, Version::V5_2] {
        let cases = cases::captured(version);
        let findings = run(Hook::Stock(version), Hook::Stock(version), &cases);
        assert!(findings.is_empty(), "{}", report(&findings));
    }
}

#[test]
#[ignore = "needs root and iptables: run by contrib/test"]
fn whatever_one_machine_has_more_is_found() {
    let version = Version::V4_10;
    for (planted, side, expected) in [
        (
            "ip route add 10.66.0.0/24 dev lan0",
            Side::Right,
            "route v4 unicast 10.66.0.0/24 dev lan0 table main",
        ),
        (
            "ip route add 10.66.0.0/24 dev lan0 table 50",
            Side::Right,
            "route v4 unicast 10.66.0.0/24 dev lan0 table 50",
        ),
        (
            "ip -6 route add 2001:db8:66::/64 dev lan0 mtu 1300",
            Side::Right,
            "route v6 unicast 2001:db8:66::/64 dev lan0",
        ),
        (
            "ip route delete default",
            Side::Left,
            "route v4 unicast default via 192.1.2.254",
        ),
        (
            "ip address add 10.66.0.1/32 dev lo scope 50",
            Side::Right,
            "address v4 10.66.0.1/32 dev lo scope 50",
        ),
        (
            "ip address add 2001:db8:66::1/128 dev lo",
            Side::Right,
            "address v6 2001:db8:66::1/128 dev lo",
        ),
        (
            "ip rule add priority 100 to 10.66.0.0/24 lookup 50",
            Side::Right,
            "rule v4 100: from all to 10.66.0.0/24",
        ),
        (
            "ip -6 rule add priority 100 fwmark 5 lookup 50",
            Side::Right,
            "rule v6 100: from all fwmark 0x5",
        ),
        (
            "ip neighbour add proxy 10.66.0.1 dev lan0",
            Side::Right,
            "proxy v4 10.66.0.1 dev lan0",
        ),
        (
            "ip -6 neighbour add proxy 2001:db8:66::1 dev lan0",
            Side::Right,
            "proxy v6 2001:db8:66::1 dev lan0",
        ),
        (
            "ip link set lan0 mtu 1300",
            Side::Right,
            "link lan0@lan0-p: <BROADCAST,MULTICAST,UP,LOWER_UP> mtu 1300",
        ),
        (
            "ip link add fresh type veth peer name fresh-p",
            Side::Right,
            "link fresh@fresh-p:",
        ),
        (
            "echo 1 >/proc/sys/net/ipv4/conf/lan0/disable_policy",
            Side::Right,
            "sysctl v4 lan0 disable_policy = 1",
        ),
        (
            "echo 1 >/proc/sys/net/ipv6/conf/lan0/forwarding",
            Side::Right,
            "sysctl v6 lan0 forwarding = 1",
        ),
    ] {
        let case = cases::plainest(version);
        let findings = Twins::new(Hook::Stock(version), Hook::Planted(version, planted)).run(&case);
        let is_it = |finding: &Finding| finding.side == side && finding.fact.starts_with(expected);
        assert!(findings.iter().any(is_it), "{planted}: {}", report(&findings));
        assert!(
            findings
                .iter()
                .all(|finding| finding.world == World::ORDINARY && finding.step == 1),
            "{planted}"
        );
    }
}

/// The script of this version and our program make the same of all calls, but for what the table says.
fn assert_alike(version: Version) {
    let cases = cases::all(version);
    let findings = run(Hook::Stock(version), Hook::Ours, &cases);
    let (unexplained, unseen) = differences::judge(differences::TABLE, version, &findings);
    let unseen: String = unseen.iter().map(|row| format!("{row}\n")).collect();
    let count = unexplained.len();
    assert!(
        count == 0 && unseen.is_empty(),
        "{count} differences that no row explains:\n{}no call shows any more:\n{unseen}",
        report(unexplained)
    );
}

#[test]
#[ignore = "needs root and iptables: run by contrib/test"]
fn the_script_of_libreswan_4_10_and_we_leave_the_same() {
    assert_alike(Version::V4_10);
}

#[test]
#[ignore = "needs root and iptables: run by contrib/test"]
fn the_script_of_libreswan_5_2_and_we_leave_the_same() {
    assert_alike(Version::V5_2);
}
