//! What passes with strongSwan's own script passes with us, and nothing else does.
//!
//! The script runs on a call in a network namespace with real iptables; its rules and ours are then asked about the same packets. Where
//! the two differ on purpose, the script has a bug: those are the last tests here, and docs/differences.md lists them.
//!
//! The script is `/usr/lib/ipsec/_updown` of Debian's package strongswan-libcharon. `contrib/test` unpacks it and says where in
//! the variable `STRONGSWAN_UPDOWN`.

#![expect(
    clippy::disallowed_methods,
    reason = "a test starts the program that it compares with"
)]

use std::process::Command;

use crate::support::binary::Call;
use crate::support::captures::calls_of;
use crate::support::emulator::Emulator;
use crate::support::packet::{Packet, Verdict, trace};
use crate::support::world::{World, strongswan};
use pluto_updown::net::Family;
use pluto_updown::netlink::XfrmInterface;

/// The rules that the script makes for these calls, in both families.
fn script(calls: &[Call]) -> [Emulator; 2] {
    let path =
        std::env::var("STRONGSWAN_UPDOWN").expect("STRONGSWAN_UPDOWN says where the script is; contrib/test sets it");
    let mut commands = String::from("set -e\n");
    for call in calls {
        let quoted = call.variables.iter().map(|(name, value)| {
            let pair = format!("{}={}", name.display(), value.display());
            format!("'{}'", pair.replace('\'', "'\\''"))
        });
        let quoted: Vec<_> = quoted.collect();
        commands += &format!(
            "env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin {} sh {path} iptables >/dev/null 2>&1 || true\n",
            quoted.join(" ")
        );
    }
    commands += "iptables-save -t filter; echo ====; ip6tables-save -t filter\n";
    let output = Command::new("unshare")
        .args(["--net", "bash", "-c", &commands])
        .output()
        .expect("unshare and bash");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let listing = String::from_utf8(output.stdout).expect("a listing");
    let (v4, v6) = listing.split_once("====\n").expect("two listings");
    [table(v4), table(v6)]
}

fn table(save: &str) -> Emulator {
    let mut table = Emulator::new();
    let lines: Vec<_> = save.lines().filter(|line| !line.starts_with('#')).collect();
    if !lines.is_empty() {
        table
            .replace(&format!("{}\n", lines.join("\n")))
            .expect("rules of the script");
    }
    table
}

/// The rules that we make for them.
fn own_rules(calls: &[Call]) -> [Emulator; 2] {
    let mut world = World::default();
    for call in calls {
        world.up(&call.tunnel());
    }
    Family::ALL.map(|family| world.emulator(family).clone())
}

/// Packets of every kind between addresses inside and beside the networks of these tests, over a policy and unencrypted, as far as
/// they are of this family.
fn packets(family: Family) -> Vec<Packet> {
    let (remote, local): (&[&str], &[&str]) = match family {
        Family::Ipv4 => (
            &[
                "10.2.0.7",
                "10.2.0.70",
                "10.2.0.130",
                "10.2.0.200",
                "10.2.1.7",
                "192.1.2.23",
                "203.0.113.9",
                "10.9.0.1",
            ],
            &[
                "10.1.0.9",
                "10.1.0.70",
                "10.1.0.130",
                "10.1.0.200",
                "10.1.1.9",
                "192.1.2.45",
                "10.9.0.1",
                "10.9.0.2",
            ],
        ),
        Family::Ipv6 => (
            &["2001:db8:0:2::7", "2001:db8:77::1"],
            &["2001:db8:0:1::9", "2001:db8:9::1"],
        ),
    };
    let pairs = remote
        .iter()
        .flat_map(|remote| local.iter().map(move |local| (*remote, *local)));
    pairs
        .flat_map(|(remote, local)| {
            kinds(remote, local)
                .into_iter()
                .flat_map(|packet| packet_and_answers(&packet))
        })
        .collect()
}

fn kinds(remote: &str, local: &str) -> Vec<Packet> {
    let between = || Packet::between(remote, local);
    vec![
        between().tcp(8080, 40000),
        between().tcp(40000, 8080),
        between().tcp(1500, 22),
        between().tcp(40000, 22),
        between().udp(8080, 40000),
        between().icmp(8, 0),
        between().icmp(0, 0),
        between().icmp(3, 4),
        between().icmp(128, 0),
        between().protocol(4),
        between().protocol(41),
        between().protocol(47),
    ]
}

/// The ways that a packet and its answer can take. From one tunnel into another is not among them: the script asks only one of the two.
fn packet_and_answers(packet: &Packet) -> Vec<Packet> {
    let answer = || {
        let mut answer = packet.clone();
        (answer.source, answer.destination) = (packet.destination, packet.source);
        (answer.source_port, answer.destination_port) = (packet.destination_port, packet.source_port);
        answer
    };
    let mut packets = vec![
        packet.clone().in_by("w0").out_by("lan0"),
        packet.clone().in_by("w0").for_gateway(),
        answer().in_by("lan0").out_by("w0"),
        answer().made_here().out_by("w0"),
    ];
    for reqid in [1, 2] {
        packets.push(packet.clone().in_by_ipsec("w0", reqid).out_by("lan0"));
        packets.push(packet.clone().in_by_ipsec("w0", reqid).for_gateway());
        packets.push(answer().in_by("lan0").out_by_ipsec("w0", reqid));
        packets.push(answer().made_here().out_by_ipsec("w0", reqid));
    }
    packets
}

/// The packets about which the two differ: whether the script lets it pass, and the packet.
fn differences(calls: &[Call]) -> Vec<(bool, Packet)> {
    let (script, own_rules_after) = (script(calls), own_rules(calls));
    let passes = |table: &Emulator, packet: &Packet| trace(table, packet).verdict == Verdict::Accept;
    let mut differences = Vec::new();
    let mut passed = 0;
    for (index, family) in Family::ALL.into_iter().enumerate() {
        for packet in packets(family) {
            let with_script = passes(&script[index], &packet);
            passed += usize::from(with_script);
            if with_script != passes(&own_rules_after[index], &packet) {
                differences.push((with_script, packet));
            }
        }
    }
    assert!(
        passed > 0 || !differences.is_empty(),
        "none of the packets is of these tunnels"
    );
    differences
}

fn assert_same(calls: &[Call], what: &str) {
    assert_eq!(differences(calls), [], "{what}");
}

fn ups(connection: &str) -> Vec<Call> {
    let calls = calls_of("strongswan-6.0.1", connection).into_iter();
    calls
        .take_while(|call| !call.get("PLUTO_VERB").starts_with("down"))
        .collect()
}

fn client(my_client: &str, peer_client: &str) -> Call {
    strongswan("made", 1, my_client, peer_client).with_all(&[
        ("PLUTO_INTERFACE", "w0"),
        ("PLUTO_ME", "192.1.2.45"),
        ("PLUTO_PEER", "192.1.2.23"),
    ])
}

#[test]
#[ignore = "needs root and iptables: run by contrib/test"]
fn every_captured_tunnel_accepts_what_the_script_does() {
    for connection in [
        "net-net", "multi-ts", "ports", "icmp", "host", "marked", "ifid", "v6", "rw", "trap",
    ] {
        assert_same(&ups(connection), connection);
    }
}

#[test]
#[ignore = "needs root and iptables: run by contrib/test"]
fn every_documented_kind_of_tunnel_accepts_what_the_script_does() {
    let net = client("10.1.0.0/24", "10.2.0.0/24");
    let net6 = client("2001:db8:0:1::/64", "2001:db8:0:2::/64");
    let host = client("192.1.2.45/32", "192.1.2.23/32").between_hosts();
    let ports = |my, peer| {
        net.clone().with_all(&[
            ("PLUTO_MY_PROTOCOL", "6"),
            ("PLUTO_PEER_PROTOCOL", "6"),
            ("PLUTO_MY_PORT", my),
            ("PLUTO_PEER_PORT", peer),
        ])
    };
    let icmp = |base: &Call, number, kind, code| {
        base.clone().with_all(&[
            ("PLUTO_MY_PROTOCOL", number),
            ("PLUTO_PEER_PROTOCOL", number),
            ("PLUTO_MY_PORT", kind),
            ("PLUTO_PEER_PORT", code),
        ])
    };
    for (what, call) in [
        ("client", net.clone()),
        ("client, IPv6", net6.clone()),
        ("host access", net.clone().with("PLUTO_HOST_ACCESS", "1")),
        ("host access, IPv6", net6.clone().with("PLUTO_HOST_ACCESS", "1")),
        ("host", host.clone()),
        (
            "host to network",
            client("192.1.2.45/32", "10.2.0.0/24").between_hosts(),
        ),
        (
            "virtual address",
            client("10.9.0.1/32", "0.0.0.0/0").with("PLUTO_MY_SOURCEIP", "10.9.0.1"),
        ),
        (
            "virtual address alone",
            client("10.1.0.0/24", "10.9.0.1/32").with("PLUTO_MY_SOURCEIP", "10.9.0.1"),
        ),
        ("road warrior's gateway", client("10.1.0.0/24", "203.0.113.9/32")),
        ("IPComp", net.clone().with("PLUTO_IPCOMP", "1")),
        ("IPComp, host", host.clone().with("PLUTO_IPCOMP", "1")),
        ("IPComp, IPv6", net6.clone().with("PLUTO_IPCOMP", "1")),
        (
            "IPComp and host access",
            net.clone()
                .with_all(&[("PLUTO_IPCOMP", "1"), ("PLUTO_HOST_ACCESS", "1")]),
        ),
        ("port", ports("0", "8080")),
        ("ports", ports("22", "1000:2000")),
        ("ports and host access", ports("22", "0").with("PLUTO_HOST_ACCESS", "1")),
        ("ICMP", icmp(&net, "1", "0", "0")),
        ("ICMP type", icmp(&net, "1", "8", "0")),
        ("ICMP type and code", icmp(&net, "1", "3", "4")),
        ("ICMPv6 type", icmp(&net6, "58", "128", "0")),
        (
            "ICMP type and host access",
            icmp(&net, "1", "8", "0").with("PLUTO_HOST_ACCESS", "1"),
        ),
        (
            "marks",
            net.clone()
                .with_all(&[("PLUTO_MARK_IN", "42/0xffffffff"), ("PLUTO_MARK_OUT", "42/0xffffffff")]),
        ),
        (
            "interface numbers",
            net.clone()
                .with_all(&[("PLUTO_IF_ID_IN", "7"), ("PLUTO_IF_ID_OUT", "7")]),
        ),
        ("AH", net.clone().with("PLUTO_PROTO", "ah")),
    ] {
        let calls = [call];
        if what == "AH" {
            // The packets are ESP's: neither lets any of them pass.
            assert_eq!(differences_allowing_none(&calls), [], "{what}");
        } else {
            assert_same(&calls, what);
        }
    }
}

fn differences_allowing_none(calls: &[Call]) -> Vec<(bool, Packet)> {
    let never = strongswan("never", 2, "10.1.0.0/24", "10.2.0.0/24");
    let with_another: Vec<_> = calls
        .iter()
        .cloned()
        .chain([never.with("PLUTO_INTERFACE", "w0")])
        .collect();
    differences(&with_another)
}

#[test]
#[ignore = "needs root and iptables: run by contrib/test"]
fn overlapping_peers_with_marks_of_their_own_let_through_what_the_script_does() {
    let first = client("10.1.0.0/24", "10.2.0.0/24").with("PLUTO_MARK_IN", "10/0xffffffff");
    let second = first.clone().with_all(&[
        ("PLUTO_CONNECTION", "other"),
        ("PLUTO_MARK_IN", "20/0xffffffff"),
        ("PLUTO_REQID", "2"),
    ]);
    assert_same(&[first, second], "two peers with one network");
}

#[test]
#[ignore = "needs root and iptables: run by contrib/test"]
fn several_virtual_addresses_of_both_families_let_through_what_the_script_does() {
    let own = [
        ("PLUTO_MY_SOURCEIP", "10.9.0.1"),
        ("PLUTO_MY_SOURCEIP4_1", "10.9.0.1"),
        ("PLUTO_MY_SOURCEIP4_2", "10.9.0.2"),
        ("PLUTO_MY_SOURCEIP6_1", "2001:db8:9::1"),
    ];
    let mine = |my_client, peer_client| client(my_client, peer_client).with_all(&own);
    let road_warrior = [
        mine("10.9.0.1/32", "10.2.0.0/24"),
        mine("10.9.0.2/32", "10.2.0.0/24"),
        mine("2001:db8:9::1/128", "2001:db8:0:2::/64"),
    ];
    assert_same(&road_warrior, "a road warrior");
    let given = [
        ("PLUTO_PEER_SOURCEIP", "203.0.113.9"),
        ("PLUTO_PEER_SOURCEIP4_1", "203.0.113.9"),
        ("PLUTO_PEER_SOURCEIP6_1", "2001:db8:77::1"),
    ];
    let script_rules = |my_client, peer_client| client(my_client, peer_client).with_all(&given);
    let gateway = [
        script_rules("10.1.0.0/24", "203.0.113.9/32"),
        script_rules("2001:db8:0:1::/64", "2001:db8:77::1/128"),
    ];
    assert_same(&gateway, "its gateway");
}

/// A bug of the script: what it lets through is less than the tunnel is for.
fn assert_script_forgets(calls: &[Call], what: &str) {
    let differences = differences(calls);
    assert!(!differences.is_empty(), "{what}: the script has learned it");
    for (with_script, packet) in differences {
        assert!(!with_script, "{what}: only the script lets this pass: {packet:?}");
    }
}

#[test]
#[ignore = "needs root and iptables: run by contrib/test"]
fn a_selector_with_a_protocol_at_one_end_only_is_half_lost_by_the_script() {
    let net = client("10.1.0.0/24", "10.2.0.0/24");
    let one_sided = net
        .clone()
        .with_all(&[("PLUTO_PEER_PROTOCOL", "6"), ("PLUTO_PEER_PORT", "8080")]);
    assert_script_forgets(&[one_sided], "any at our end, TCP at the peer's");
}

#[test]
#[ignore = "needs root and iptables: run by contrib/test"]
fn icmp_type_0_with_a_code_is_lost_by_the_script() {
    let net = client("10.1.0.0/24", "10.2.0.0/24");
    let icmp = net.clone().with_all(&[
        ("PLUTO_MY_PROTOCOL", "1"),
        ("PLUTO_PEER_PROTOCOL", "1"),
        ("PLUTO_PEER_PORT", "3"),
    ]);
    let calls = [icmp];
    let rules: usize = script(&calls)[0].rules("FORWARD").len();
    assert_eq!(rules, 0, "the script has learned it");
    assert_eq!(own_rules(&calls)[0].rules("PLUTO-FI-10.2.0.0-18").len(), 1);
}

#[test]
#[ignore = "needs root and iptables: run by contrib/test"]
fn a_tunnel_whose_interface_is_unknown_is_closed_to_the_script() {
    let unknown = client("10.1.0.0/24", "10.2.0.0/24").with("PLUTO_INTERFACE", "unknown");
    assert_script_forgets(&[unknown], "interface unknown");
}

/// The packets of a tunnel with an interface number: they come by that interface, and leave by it unencrypted, to be encrypted behind it.
fn packets_by(interface: &str) -> [Packet; 2] {
    let inward = Packet::between("10.2.0.7", "10.1.0.9").tcp(8080, 40000);
    let outward = Packet::between("10.1.0.9", "10.2.0.7").tcp(40000, 8080);
    [
        inward.in_by_ipsec(interface, 1).out_by("lan0"),
        outward.in_by("lan0").out_by(interface),
    ]
}

#[test]
#[ignore = "needs root and iptables: run by contrib/test"]
fn a_tunnel_with_an_interface_number_is_closed_to_the_script() {
    let net = client("10.1.0.0/24", "10.2.0.0/24");
    let calls = [net
        .clone()
        .with_all(&[("PLUTO_IF_ID_IN", "7"), ("PLUTO_IF_ID_OUT", "7")])];
    let xfrm_interface = |name: &str, if_id| XfrmInterface {
        interface: name.parse().expect("an interface"),
        if_id,
    };
    let mut world = World {
        interfaces: vec![xfrm_interface("xfrm7", 7), xfrm_interface("xfrm8", 8)],
        ..World::default()
    };
    world.up(&calls[0].tunnel());
    let own_rules_after = world.emulator(Family::Ipv4);
    let verdicts = |table: &Emulator, interface| packets_by(interface).map(|packet| trace(table, &packet).verdict);
    let script_rules = &script(&calls)[0];
    assert!(
        !verdicts(script_rules, "xfrm7").contains(&Verdict::Accept),
        "the script has learned it"
    );
    assert_eq!(verdicts(own_rules_after, "xfrm7"), [Verdict::Accept; 2]);
    assert_ne!(
        verdicts(own_rules_after, "xfrm8")[1],
        Verdict::Accept,
        "that is another tunnel's"
    );
}
