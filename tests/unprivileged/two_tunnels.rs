//! Every answer of a tunnel that a packet comes out of beside every answer of where it goes, for every kind of tunnel at either end:
//! `two_tunnels.txt` states each verdict, as it is and as it was while one tunnel's chain led to all others'.

use pluto_updown::net::Family;

use crate::support::binary::Call;
use crate::support::packet::{Packet, Verdict};
use crate::support::tunnel_kind::TunnelKind;
use crate::support::world::{World, strongswan};

const WEST: &str = "10.2.0.0/24";
const EAST: &str = "10.3.0.0/24";

/// The reqid of the tunnel that the packet comes out of, and of the one that it goes into.
const REQIDS: [u32; 2] = [16389, 16393];

/// What the packet finds: UDP to port 80 from west to east.
const SETTINGS: &str = "
[tunnel]
nat = \"leave\"
[[connection]]
name = \"service\"
allow = [\"udp/80\"]
[[connection]]
name = \"refused\"
allow = [\"udp/22\"]
[[connection]]
name = \"replies\"
allow = \"replies\"
[[connection]]
name = \"nothing\"
allow = \"none\"
";

const KINDS: [&str; 3] = ["policy", "vti", "xfrmi"];
const FROM: [&str; 7] = ["none", "open", "service", "refused", "narrowed", "replies", "beside"];
const TO: [&str; 5] = ["clear", "open", "nothing", "narrowed", "none"];

/// The tunnels that give an answer at one end, as calls.
fn calls_for(answer: &str, kind: TunnelKind, reqid: u32, local: &str, remote: &str) -> Vec<Call> {
    let named = |name: &str| kind.up(name, reqid, local, remote);
    match answer {
        // Another tunnel of the kind is up all the same: the chains for interfaces are installed.
        "none" | "clear" => vec![kind.up("other", reqid + 8, "10.8.0.0/24", "10.9.0.0/24")],
        "narrowed" => vec![named("open").for_protocol("6")],
        "replies" => vec![named("replies").for_protocol("6")],
        // Two that have one number, each for its own protocol: the first is restricted, the second takes the packet.
        "beside" => ["replies 6", "service 17"]
            .map(|pair| {
                let (name, protocol) = pair.split_once(' ').expect("two words");
                match kind {
                    TunnelKind::Policy => strongswan(name, reqid, local, remote).for_protocol(protocol),
                    TunnelKind::Vti | TunnelKind::Xfrmi => named(name).for_protocol(protocol),
                }
            })
            .into(),
        name => vec![named(name)],
    }
}

/// The verdict on the packet.
fn verdict([from_kind, to_kind]: [TunnelKind; 2], from: &str, to: &str) -> char {
    let mut world = World::with_file(SETTINGS);
    let [first, second] = REQIDS;
    let all = [
        calls_for(from, from_kind, first, EAST, WEST),
        calls_for(to, to_kind, second, WEST, EAST),
    ];
    for call in all.concat() {
        world.up(&call.tunnel());
    }
    let packet = from_kind.comes(Packet::between("10.2.0.7", "10.3.0.7").udp(40000, 80), first);
    let packet = match to {
        "clear" => packet.out_by("lan0"),
        _ => to_kind.leaves(packet, second),
    };
    match world.verdict(Family::Ipv4, &packet) {
        Verdict::Accept => 'A',
        Verdict::Drop => 'D',
        Verdict::Policy => '.',
        other @ (Verdict::Reject | Verdict::Translate(..) | Verdict::Masquerade | Verdict::Return) => {
            panic!("{other:?}")
        }
    }
}

/// The table, as it is: `FROM-KIND TO-KIND`, then a row for each answer.
fn table() -> String {
    let mut text = String::new();
    let kinds = || KINDS.into_iter().zip(TunnelKind::ALL);
    for (from_name, from_kind) in kinds() {
        for (to_name, to_kind) in kinds() {
            text.push_str(&format!("{from_name} {to_name}\n"));
            for from in FROM {
                let row: String = TO.map(|to| verdict([from_kind, to_kind], from, to)).iter().collect();
                text.push_str(&format!("  {from:<9}{row}\n"));
            }
        }
    }
    text
}

/// The lines of the file without the third column, and that column beside each.
fn lines() -> Vec<(String, Option<&'static str>)> {
    let lines = include_str!("two_tunnels.txt").lines();
    let lines = lines.filter(|line| !line.starts_with('#'));
    lines
        .map(|line| match line.split_whitespace().collect::<Vec<_>>()[..] {
            [from, now, before] => (format!("  {from:<9}{now}"), Some(before)),
            _ => (line.to_owned(), None),
        })
        .collect()
}

#[test]
fn two_tunnels_answer_as_the_table_says_whatever_kinds_they_are() {
    let stated: String = lines().iter().map(|(line, _)| format!("{line}\n")).collect();
    assert_eq!(table(), stated);
}

#[test]
fn since_the_second_layout_what_no_tunnel_takes_is_left_and_what_one_forbids_is_dropped() {
    for (line, before) in lines() {
        let Some(before) = before else { continue };
        let now = line.split_whitespace().last().expect("a row");
        for (at, (now, before)) in now.chars().zip(before.chars()).enumerate() {
            let is_taken = !["narrowed", "none"].contains(&TO[at]);
            let is_forbidden = TO[at] == "nothing" && (before, now) == ('.', 'D');
            assert!(
                now == before || (now == '.' && !is_taken) || is_forbidden,
                "{line}, into {}",
                TO[at]
            );
            assert!(
                TO[at] != "nothing" || now == 'D',
                "{line}, into a tunnel that allows nothing"
            );
        }
    }
}
