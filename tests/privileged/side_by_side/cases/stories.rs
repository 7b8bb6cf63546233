//! What several calls, several connections or somebody else make of a route.

use super::{Case, whole_life};
use crate::side_by_side::calls::{Connection, Verb, Version};
use crate::side_by_side::world::{DefaultRoute, World};
use crate::support::binary::Call;

const DEVICE_ADDRESS: &str =
    "ip address add 10.9.0.77/32 dev ipsec5; ip address add 2001:db8:9::77/128 dev ipsec5 nodad";

pub fn cases(version: Version) -> Vec<Case> {
    let mut cases = alone(version);
    cases.extend(ordinary(version));
    cases.extend(together(version));
    cases.extend(roaming(version));
    cases.extend(others(version));
    cases.extend(odd_calls(version));
    cases
}

/// The kinds of connections that people have, each thing by itself.
fn ordinary(version: Version) -> Vec<Case> {
    let mut cases = Vec::new();
    for plain in [Connection::new(version), Connection::v6(version)] {
        let v6 = plain.me.contains(':');
        let pick = |v4: &'static str, v6_form: &'static str| if v6 { v6_form } else { v4 };
        let to = |peer_client| Connection {
            peer_client,
            ..plain.clone()
        };
        let (own, new) = (pick("10.1.0.1", "2001:db8:0:1::1"), pick("10.9.0.77", "2001:db8:9::77"));
        let from = |connection: &Connection, source| Connection {
            source: Some(source),
            ..connection.clone()
        };
        let (all, remote) = (
            to(pick("0.0.0.0/0", "::/0")),
            to(pick("10.9.0.10/32", "2001:db8:9::10/128")),
        );
        let lan = to(pick("10.1.0.77/32", "2001:db8:0:1::77/128"));
        let interface = plain
            .clone()
            .set("PLUTO_XFRMI_ROUTE", "yes")
            .set("PLUTO_VIRT_INTERFACE", "ipsec5");
        let marked = interface.clone().set("PLUTO_XFRMI_FWMARK", "5/0xffffffff");
        let route = |connection: &Connection| Connection {
            arguments: vec!["--route", "yes"],
            ..connection.clone()
        };
        let kinds = [
            ("nothing asked", plain.clone()),
            ("own source", from(&plain, own)),
            ("new source", from(&plain, new)),
            ("mtu", plain.clone().set("PLUTO_MTU", "1400")),
            ("metric", route(&plain).set("PLUTO_METRIC", "77")),
            ("all", all.clone()),
            ("all, --route yes", route(&all)),
            ("all, new source", from(&all, new)),
            (
                "all, device",
                Connection {
                    peer_client: all.peer_client,
                    ..interface.clone()
                },
            ),
            ("one far address", remote),
            ("one address of our LAN", lan.clone()),
            ("one address of our LAN, new source", from(&lan, new)),
            ("device", interface.clone()),
            ("device and new source", from(&interface, new)),
            ("device and mark", marked.clone()),
            ("device, mark and new source", from(&marked, new)),
        ];
        for (name, connection) in kinds {
            for default_route in [DefaultRoute::Present, DefaultRoute::Absent] {
                // Since 5.0 the daemon itself gives an XFRM interface its address.
                let more = match (version, name) {
                    (Version::V5_2, "device and new source" | "device, mark and new source") => DEVICE_ADDRESS,
                    (Version::V4_10 | Version::V5_2, _) => "",
                };
                let world = World {
                    default_route,
                    more,
                    ..World::ORDINARY
                };
                let family = pick("IPv4", "IPv6");
                cases.push(whole_life(
                    format!("{family}: {name}, default route {default_route:?}"),
                    world,
                    &connection,
                ));
            }
        }
    }
    cases
}

/// One connection, and calls that come twice, late, or not at all.
fn alone(version: Version) -> Vec<Case> {
    let world = World::ORDINARY;
    let plain = Connection::new(version);
    let with_source = Connection {
        source: Some("10.9.0.77"),
        ..plain.clone()
    };
    let all = Connection {
        peer_client: "0.0.0.0/0",
        ..with_source.clone()
    };
    let mut cases = Vec::new();
    for (name, connection) in [("network", &with_source), ("everything", &all)] {
        let call = |verb| connection.call(verb);
        let [prepare, route, unroute, up, down] =
            [Verb::Prepare, Verb::Route, Verb::Unroute, Verb::Up, Verb::Down].map(call);
        let of_calls =
            |what: &str, calls: &[&Call]| Case::new(format!("{name}: {what}"), world, calls.iter().copied().cloned());
        cases.extend([
            of_calls(
                "on demand",
                &[&prepare, &route, &prepare, &up, &down, &up, &down, &unroute],
            ),
            of_calls(
                "routed twice",
                &[&prepare, &route, &prepare, &route, &unroute, &unroute],
            ),
            of_calls("unrouted only", &[&unroute, &down, &unroute]),
            of_calls("up twice", &[&up, &up, &route, &down, &unroute, &down]),
            of_calls("up only", &[&up, &down, &unroute]),
            of_calls("route with no up", &[&route, &unroute, &route, &unroute]),
        ]);
    }
    cases
}

/// Two connections that share something.
fn together(version: Version) -> Vec<Case> {
    let world = World::ORDINARY;
    let first = Connection {
        name: "first".to_owned(),
        source: Some("10.9.0.77"),
        ..Connection::new(version)
    };
    let second = Connection {
        name: "second".to_owned(),
        my_client: "10.1.1.0/24",
        ..first.clone()
    };
    let elsewhere = Connection {
        name: "elsewhere".to_owned(),
        peer_client: "10.3.0.0/24",
        ..first.clone()
    };
    let other_source = Connection {
        source: Some("10.9.0.78"),
        ..second.clone()
    };
    let no_source = Connection {
        source: None,
        ..second.clone()
    };
    let ups = |connection: &Connection| [connection.call(Verb::Up)];
    let downs = |connection: &Connection| [connection.call(Verb::Down)];
    let shares = |name: &str, other: &Connection| {
        Case::new(name, world, first.comes_up())
            .then(ups(other))
            .then(downs(&first))
            .then(downs(other))
            .then([other.call(Verb::Unroute)])
    };
    let mut cases = vec![
        shares("a peer's network for two of ours", &second),
        shares("a peer's network, the last has another source", &other_source),
        shares("a peer's network, the last has no source", &no_source),
        both("a source address for two networks", &first, &elsewhere),
        both("the same route by two connections", &first, &second),
    ];
    let interface = |connection: &Connection| {
        let connection = Connection {
            source: None,
            ..connection.clone()
        };
        connection
            .set("PLUTO_XFRMI_ROUTE", "yes")
            .set("PLUTO_VIRT_INTERFACE", "ipsec5")
            .set("PLUTO_XFRMI_FWMARK", "5/0xffffffff")
    };
    cases.push(both(
        "an XFRM interface's peer for two networks",
        &interface(&first),
        &interface(&elsewhere),
    ));
    cases.push(both(
        "an XFRM interface's peer and network for two",
        &interface(&first),
        &interface(&second),
    ));
    cases
}

/// Two whole lives, the second within the first, and then the other way round.
fn both(name: &str, first: &Connection, second: &Connection) -> Case {
    Case::new(name, World::ORDINARY, first.comes_up())
        .then(second.comes_up())
        .then(second.goes())
        .then(second.comes_up())
        .then(first.goes())
        .then(second.goes())
}

/// MOBIKE: our own address vanishes, and another one comes.
fn roaming(version: Version) -> Vec<Case> {
    let mut cases = Vec::new();
    for (name, source) in [("without a source", None), ("with a new source", Some("10.9.0.77"))] {
        let here = Connection {
            source,
            ..Connection::new(version)
        };
        let there = Connection {
            me: "10.1.0.1",
            interface: "lan0",
            next_hop: "10.1.0.254",
            ..here.clone()
        };
        let resumed = match version {
            Version::V4_10 => [Verb::Up, Verb::Route],
            Version::V5_2 => [Verb::Route, Verb::Up],
        };
        let suspended = match source {
            None => here.call(Verb::Unroute),
            Some(_) => here.call(Verb::Unroute).with("PLUTO_MOBIKE_EVENT", "yes"),
        };
        cases.push(
            Case::new(format!("MOBIKE {name}"), World::ORDINARY, here.comes_up())
                .meanwhile("ip address delete 192.1.2.45/24 dev w0; ip route add default via 10.1.0.254")
                .then([here.call(Verb::Down), suspended])
                .then(resumed.map(|verb| there.call(verb)))
                .then(there.goes()),
        );
    }
    cases
}

/// What others have put there, or take away.
fn others(version: Version) -> Vec<Case> {
    let plain = Connection::new(version);
    let with_source = Connection {
        source: Some("10.9.0.77"),
        ..plain.clone()
    };
    let all = Connection {
        peer_client: "0.0.0.0/0",
        ..with_source.clone()
    };
    let within = |more| World {
        more,
        ..World::ORDINARY
    };
    let in_the_way = [
        (
            "unreachable",
            "ip route add unreachable 10.2.0.0/24; ip -6 route add unreachable 2001:db8:0:2::/64",
        ),
        ("prohibited", "ip route add prohibit 10.2.0.0/24"),
        ("swallowed", "ip route add blackhole 10.2.0.0/24"),
        ("routed elsewhere", "ip route add 10.2.0.0/24 via 10.1.0.254 dev lan0"),
    ];
    let mut cases = Vec::new();
    for (name, more) in in_the_way {
        cases.push(whole_life(format!("peer's network is {name}"), within(more), &plain));
        cases.push(whole_life(
            format!("peer's network is {name}, new source"),
            within(more),
            &with_source,
        ));
    }
    cases.push(whole_life(
        "peer's network is unreachable, IPv6",
        within(in_the_way[0].1),
        &Connection::v6(version),
    ));
    let unlucky = Connection {
        peer: "198.51.100.7",
        next_hop: "172.16.0.1",
        ..with_source.clone()
    };
    let world = World {
        default_route: DefaultRoute::Absent,
        ..World::ORDINARY
    };
    cases.push(whole_life("no way to the next hop", world, &unlucky));
    let settings = "printf '%s\\n' 'ROUTE=yes' 'IPROUTEARGS=\"table 7 proto 77\"' >/etc/default/pluto_updown";
    cases.push(whole_life("settings of the distribution", within(settings), &plain));
    let taken = |what: &str, connection: &Connection, lines| {
        Case::new(format!("meanwhile {what}"), World::ORDINARY, connection.comes_up())
            .meanwhile(lines)
            .then(connection.goes())
    };
    cases.extend([
        taken("the route is gone", &with_source, "ip route delete 10.2.0.0/24"),
        taken("half of the route is gone", &all, "ip route delete 0.0.0.0/1"),
        taken("the other half is gone", &all, "ip route delete 128.0.0.0/1"),
        taken(
            "the address is gone",
            &with_source,
            "ip address delete 10.9.0.77/32 dev lo",
        ),
        taken(
            "the device is down",
            &with_source,
            "ip link set w0-p down; ip link set w0 down",
        ),
        taken(
            "another uses the source",
            &with_source,
            "ip route add 10.8.0.0/24 dev w0 src 10.9.0.77",
        ),
    ]);
    cases
}

/// Calls that are wrong, or seldom.
fn odd_calls(version: Version) -> Vec<Case> {
    let world = World::ORDINARY;
    let plain = Connection {
        arguments: vec!["--route", "yes"],
        ..Connection::new(version)
    };
    let route = plain.call(Verb::Route);
    let with_source = Connection {
        source: Some("10.9.0.77"),
        ..Connection::new(version)
    };
    let wrong = |name: &str, call: Call| Case::new(name, world, [call]);
    vec![
        wrong("an unknown family", route.clone().with("PLUTO_CONN_ADDRFAMILY", "ipx")),
        wrong("an unknown verb", route.clone().with_verb("route-moon")),
        wrong(
            "an unknown argument",
            Call {
                arguments: vec!["--bogus".into()],
                ..route.clone()
            },
        ),
        wrong("no next hop", route.without("PLUTO_NEXT_HOP").without("PLUTO_MTU")),
        whole_life(
            "an alias of the device",
            world,
            &Connection {
                interface: "w0:1",
                ..with_source.clone()
            },
        ),
        whole_life(
            "a Cisco peer",
            world,
            &with_source.clone().set("PLUTO_IS_PEER_CISCO", "1"),
        ),
        whole_life(
            "a peer that is not known yet",
            world,
            &Connection {
                peer: "0.0.0.0",
                ..plain
            }
            .set("PLUTO_CONN_KIND", "CK_TEMPLATE"),
        ),
        whole_life(
            "custom",
            world,
            &Connection {
                arguments: vec!["custom", "--route", "yes"],
                ..with_source
            },
        ),
    ]
}
