//! Connections with every two settings together: few enough to try them all, and a fault seldom needs three.

use super::{Case, whole_life};
use crate::side_by_side::calls::{Connection, Family, Version};
use crate::side_by_side::world::{DefaultRoute, Site, World};

/// A connection in the making.
struct Draft {
    connection: Connection,
    world: World,
}

/// A setting: its name, and what it does. The first of each axis is the ordinary one.
type Setting = (&'static str, fn(&mut Draft));

/// One after the other, as the later ones build on what the earlier ones have set.
const AXES: &[&[Setting]] = &[
    &[
        ("IPv4", |_| {}),
        ("IPv6", |draft| {
            draft.connection = Connection::v6(draft.connection.version);
        }),
        ("IPv6 in IPv4", |draft| {
            clients(draft, "2001:db8:0:1::/64", "2001:db8:0:2::/64");
        }),
        ("IPv4 in IPv6", |draft| {
            draft.connection = Connection::v6(draft.connection.version);
            clients(draft, "10.1.0.0/24", "10.2.0.0/24");
        }),
    ],
    &[
        ("on our link", |_| {}),
        ("behind a router", |draft| {
            match Family::from_address(draft.connection.me) {
                Family::V4 => (draft.connection.peer, draft.connection.next_hop) = ("198.51.100.7", "192.1.2.254"),
                Family::V6 => {
                    (draft.connection.peer, draft.connection.next_hop) = ("2001:db8:77::7", "2001:db8:1:2::fe");
                }
            }
        }),
    ],
    &[
        ("to a network", |_| {}),
        ("to everything", |draft| peer_client(draft, "0.0.0.0/0", "::/0")),
        ("to one far address", |draft| {
            peer_client(draft, "10.9.0.10/32", "2001:db8:9::10/128");
        }),
        ("to one address of our LAN", |draft| {
            peer_client(draft, "10.1.0.77/32", "2001:db8:0:1::77/128");
        }),
        ("to the peer's network", |draft| {
            peer_client(draft, "198.51.100.0/24", "2001:db8:77::/64");
        }),
        ("to the peer alone", |draft| {
            peer_client(draft, "192.1.2.23/32", "2001:db8:1:2::23/128");
        }),
    ],
    &[
        ("from our LAN", |_| {}),
        ("from our own address", |draft| {
            my_client(draft, "192.1.2.45/32", "2001:db8:1:2::45/128");
        }),
        ("from the same network", |draft| {
            draft.connection.my_client = draft.connection.peer_client;
        }),
    ],
    &[
        ("no source", |_| {}),
        ("own source", |draft| source(draft, "10.1.0.1", "2001:db8:0:1::1")),
        ("new source", |draft| source(draft, "10.9.0.77", "2001:db8:9::77")),
    ],
    &[("no mtu", |_| {}), ("mtu", |draft| set(draft, "PLUTO_MTU", "1400"))],
    &[
        ("no metric", |_| {}),
        ("metric", |draft| set(draft, "PLUTO_METRIC", "77")),
    ],
    &[
        ("default route", |_| {}),
        ("no default route", |draft| {
            draft.world.default_route = DefaultRoute::Absent;
        }),
    ],
    &[
        ("on Ethernet", |_| {}),
        ("on a point-to-point link", |draft| {
            draft.world.site = Site::PointToPoint;
        }),
    ],
    &[
        ("by policy", |_| {}),
        ("by an XFRM interface", |draft| xfrm_interface(draft, "")),
        ("by an XFRM interface with a mark", |draft| {
            xfrm_interface(draft, "5/0xffffffff");
        }),
    ],
    &[
        ("no arguments", |_| {}),
        ("--route yes", |draft| {
            draft.connection.arguments = vec!["--route", "yes"];
        }),
        ("--route no", |draft| draft.connection.arguments = vec!["--route", "no"]),
        ("--iproute", |draft| {
            draft.connection.arguments = vec!["--route", "yes", "--iproute", "advmss 1300 proto static"];
        }),
    ],
];

pub fn cases(version: Version) -> Vec<Case> {
    choices().iter().map(|choice| case(version, choice)).collect()
}

fn case(version: Version, choice: &[usize]) -> Case {
    let mut draft = Draft {
        connection: Connection::new(version),
        world: World::ORDINARY,
    };
    let mut name = Vec::new();
    for (axis, chosen) in AXES.iter().zip(choice) {
        let (word, apply) = axis[*chosen];
        apply(&mut draft);
        name.push(word);
    }
    whole_life(name.join(", "), draft.world, &draft.connection)
}

/// For each case the setting of each axis: greedily, so that any two settings of two axes are together in one of them.
fn choices() -> Vec<Vec<usize>> {
    let mut missing: Vec<[(usize, usize); 2]> = Vec::new();
    for (first, axis) in AXES.iter().enumerate() {
        for (second, other) in AXES.iter().enumerate().skip(first + 1) {
            for setting in 0..axis.len() {
                missing.extend((0..other.len()).map(|with| [(first, setting), (second, with)]));
            }
        }
    }
    let mut choices = Vec::new();
    while let Some(wanted) = missing.first().copied() {
        let choice = choose(wanted, &missing);
        missing.retain(|pair| !pair.iter().all(|(axis, setting)| choice[*axis] == *setting));
        choices.push(choice);
    }
    choices
}

/// A case with this pair, and with as many of the others as can be had.
fn choose(wanted: [(usize, usize); 2], missing: &[[(usize, usize); 2]]) -> Vec<usize> {
    let mut choice: Vec<Option<usize>> = vec![None; AXES.len()];
    for (axis, setting) in wanted {
        choice[axis] = Some(setting);
    }
    for axis in 0..AXES.len() {
        if choice[axis].is_some() {
            continue;
        }
        let gain = |setting: usize| {
            let mut with = choice.clone();
            with[axis] = Some(setting);
            let had = |pair: &&[(usize, usize); 2]| pair.iter().all(|(axis, setting)| with[*axis] == Some(*setting));
            missing.iter().filter(had).count()
        };
        choice[axis] = (0..AXES[axis].len()).rev().max_by_key(|setting| gain(*setting));
    }
    choice.into_iter().map(|setting| setting.unwrap_or(0)).collect()
}

fn set(draft: &mut Draft, name: &'static str, value: &'static str) {
    draft.connection.more.push((name, value));
}

fn clients(draft: &mut Draft, mine: &'static str, peers: &'static str) {
    (draft.connection.my_client, draft.connection.peer_client) = (mine, peers);
}

fn peer_client(draft: &mut Draft, v4: &'static str, v6: &'static str) {
    draft.connection.peer_client = match Family::from_address(draft.connection.peer_client) {
        Family::V4 => v4,
        Family::V6 => v6,
    };
}

fn my_client(draft: &mut Draft, v4: &'static str, v6: &'static str) {
    draft.connection.my_client = match Family::from_address(draft.connection.my_client) {
        Family::V4 => v4,
        Family::V6 => v6,
    };
}

fn source(draft: &mut Draft, v4: &'static str, v6: &'static str) {
    draft.connection.source = Some(match Family::from_address(draft.connection.my_client) {
        Family::V4 => v4,
        Family::V6 => v6,
    });
}

fn xfrm_interface(draft: &mut Draft, mark: &'static str) {
    set(draft, "PLUTO_XFRMI_ROUTE", "yes");
    set(draft, "PLUTO_VIRT_INTERFACE", "ipsec5");
    set(draft, "PLUTO_XFRMI_FWMARK", mark);
}

#[test]
fn every_two_settings_are_together_in_a_case() {
    let choices = choices();
    for (first, axis) in AXES.iter().enumerate() {
        for (second, other) in AXES.iter().enumerate().skip(first + 1) {
            for (setting, with) in (0..axis.len()).flat_map(|setting| (0..other.len()).map(move |with| (setting, with)))
            {
                let together = |choice: &Vec<usize>| choice[first] == setting && choice[second] == with;
                assert!(
                    choices.iter().any(together),
                    "{} and {}",
                    axis[setting].0,
                    other[with].0
                );
            }
        }
    }
    assert!(choices.len() < 60, "{} cases take their time", choices.len());
}
