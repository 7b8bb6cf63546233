//! What comes of calls, as lines of `ip`.

use std::net::IpAddr;

use super::*;
use crate::daemon::env_reader::EnvReader;
use crate::daemon::{Call, RawEnv, read_call};
use crate::netlink::{Ends, Link, LinkKind, Lookup, Medium, NextHop, NoRoute, RouteKind};
use crate::routing::read_routing;

/// A call of libreswan 4, a network behind each end and the peer behind a next hop.
const LIBRESWAN_4: &[(&str, &str)] = &[
    ("PLUTO_VERB", "route-client"),
    ("PLUTO_CONNECTION", "net-net"),
    ("PLUTO_STACK", "xfrm"),
    ("PLUTO_INTERFACE", "eth0"),
    ("PLUTO_VIRT_INTERFACE", "NULL"),
    ("PLUTO_XFRMI_ROUTE", ""),
    ("PLUTO_CONN_KIND", "CK_PERMANENT"),
    ("PLUTO_NEXT_HOP", "192.0.2.254"),
    ("PLUTO_ME", "192.0.2.1"),
    ("PLUTO_PEER", "198.51.100.1"),
    ("PLUTO_PEER_ID", "@east"),
    ("PLUTO_MY_CLIENT", "10.1.0.0/24"),
    ("PLUTO_PEER_CLIENT", "10.2.0.0/24"),
    ("PLUTO_MY_PORT", "0"),
    ("PLUTO_PEER_PORT", "0"),
    ("PLUTO_MY_PROTOCOL", "0"),
    ("PLUTO_PEER_PROTOCOL", "0"),
    ("PLUTO_SA_REQID", "16388"),
    ("PLUTO_SA_TYPE", "ESP"),
    ("VTI_IFACE", ""),
    ("VTI_ROUTING", "no"),
    ("VTI_SHARED", "no"),
];

const V5: (&str, &str) = ("PLUTO_CLIENT_FAMILY", "ipv4");
const V54: (&str, &str) = ("PLUTO_DNS_RESOLVER", "file");
const SOURCE: (&str, &str) = ("PLUTO_MY_SOURCEIP", "10.1.0.1");

struct Case {
    call: Call,
    routing: Routing,
    options: RouteOptions,
    answers: KernelAnswers,
    recorded: RecordedRoutes,
}

fn route_by(interface: &str, via: Option<&str>) -> Lookup {
    Lookup::Found(NextHop {
        kind: RouteKind::Unicast,
        interface: interface.parse().ok(),
        via: via.and_then(|via| via.parse().ok()),
    })
}

fn link(interface: &str) -> Link {
    Link {
        interface: interface.parse().unwrap(),
        index: 2,
        medium: Medium::Ethernet,
        ends: Ends::Many,
        hardware_address: Some(vec![2, 0, 0, 0, 0, 1]),
        kind: LinkKind::Other,
    }
}

/// A call that is about a route.
fn read_routed(raw_env: &RawEnv) -> (Call, Routing) {
    let call = read_call(raw_env).unwrap();
    let routing = read_routing(EnvReader::new(raw_env), call.daemon, &call.verb).unwrap();
    (call, *routing.unwrap())
}

/// A machine with a default route by eth0.
fn case(changes: &[(&str, &str)]) -> Case {
    let variables = LIBRESWAN_4
        .iter()
        .chain(changes)
        .map(|(name, value)| (name.into(), value.into()));
    let (call, routing) = read_routed(&RawEnv::new([], variables));
    Case {
        call,
        routing,
        options: RouteOptions::default(),
        answers: KernelAnswers {
            to_peer: Some(route_by("eth0", Some("192.0.2.254"))),
            on_link: Some(link("eth0")),
            to_next_hop: Some(route_by("eth0", None)),
            from_local: Some(route_by("eth0", None)),
            source: Some(route_by("eth0", Some("192.0.2.254"))),
            outer: Some(link("eth0")),
            gateway: Some(("192.0.2.254".parse().unwrap(), "eth0".parse().unwrap())),
        },
        recorded: RecordedRoutes::default(),
    }
}

fn only(answers: &KernelAnswers, needed: &BTreeSet<KernelQuery>) -> KernelAnswers {
    let mut asked = KernelAnswers::default();
    for fact in needed {
        match fact {
            KernelQuery::ToPeer => asked.to_peer.clone_from(&answers.to_peer),
            KernelQuery::OnLink => asked.on_link.clone_from(&answers.on_link),
            KernelQuery::ToNextHop => asked.to_next_hop.clone_from(&answers.to_next_hop),
            KernelQuery::FromMe => asked.from_local.clone_from(&answers.from_local),
            KernelQuery::Source => asked.source.clone_from(&answers.source),
            KernelQuery::Outer => asked.outer.clone_from(&answers.outer),
            KernelQuery::Gateway => asked.gateway.clone_from(&answers.gateway),
        }
    }
    asked
}

impl Case {
    /// What it comes to. It must come to the same if the kernel was asked only for what is needed.
    fn objects(&self) -> Vec<NetObject> {
        let routing = &self.routing;
        let operation = self.call.verb.operations()[0];
        let by = |answers: &KernelAnswers| {
            net_objects(
                self.call.daemon,
                routing,
                operation,
                &self.options,
                answers,
                &self.recorded,
            )
        };
        let all = by(&self.answers);
        let asked = only(&self.answers, &kernel_queries(self.call.daemon, routing, operation));
        assert_eq!(by(&asked), all, "{operation:?}, and only {asked:?}");
        all
    }

    fn lines(&self) -> Vec<String> {
        self.objects().iter().flat_map(NetObject::install_commands).collect()
    }

    fn options(mut self, always: AlwaysRoute, before: &str, after: &str) -> Self {
        self.options = RouteOptions {
            always,
            before: before.parse().unwrap(),
            after: after.parse().unwrap(),
        };
        self
    }

    fn reaching(mut self, lookup: Lookup) -> Self {
        self.answers.to_peer = Some(lookup);
        self
    }
}

#[test]
fn a_policy_with_a_way_to_the_remote_network_needs_no_route() {
    for version in [&[][..], &[V5], &[V5, V54]] {
        assert!(case(version).lines().is_empty());
    }
}

#[test]
fn a_remote_network_that_no_route_leads_to_gets_one() {
    for no_route in [NoRoute::Network, NoRoute::Host] {
        let lines = case(&[]).reaching(Lookup::Unreachable(no_route)).lines();
        assert_eq!(lines, ["ip -4 route replace 10.2.0.0/24 via 192.0.2.254 dev eth0"]);
    }
}

#[test]
fn what_an_administrator_forbids_stays_forbidden() {
    for no_route in [NoRoute::Prohibited, NoRoute::Blackhole] {
        assert!(case(&[]).reaching(Lookup::Unreachable(no_route)).lines().is_empty());
    }
}

#[test]
fn a_route_that_was_needed_is_needed_when_it_is_installed() {
    let mut case = case(&[]);
    case.recorded.own = case_unreachable();
    assert_eq!(
        case.lines(),
        ["ip -4 route replace 10.2.0.0/24 via 192.0.2.254 dev eth0"]
    );
}

fn case_unreachable() -> Vec<NetObject> {
    case(&[]).reaching(Lookup::Unreachable(NoRoute::Network)).objects()
}

#[test]
fn mtu_metric_and_source_make_a_route_and_are_in_it() {
    assert_eq!(
        case(&[("PLUTO_MTU", "1400"), ("PLUTO_METRIC", "77")]).lines(),
        ["ip -4 route replace 10.2.0.0/24 via 192.0.2.254 dev eth0 mtu 1400 metric 77"]
    );
    assert!(
        case(&[("PLUTO_METRIC", "77")]).lines().is_empty(),
        "a metric alone needs no route"
    );
    assert_eq!(
        case(&[SOURCE]).lines(),
        [
            "ip -4 address add 10.1.0.1/32 dev lo scope 50",
            "ip -4 route replace 10.2.0.0/24 via 192.0.2.254 dev eth0 src 10.1.0.1"
        ]
    );
}

#[test]
fn a_source_address_that_is_ours_already_is_only_named() {
    let mut case = case(&[SOURCE]);
    case.answers.source = Some(Lookup::Found(NextHop {
        kind: RouteKind::Local,
        interface: "lo".parse().ok(),
        via: None,
    }));
    assert_eq!(
        case.lines(),
        ["ip -4 route replace 10.2.0.0/24 via 192.0.2.254 dev eth0 src 10.1.0.1"]
    );
    // But where we have added it, for this network or another, it is held.
    case.recorded.source = vec![address("10.1.0.1/32", "lo")];
    assert_eq!(case.lines().len(), 2);
    case.recorded = RecordedRoutes {
        own: vec![address("10.1.0.1/32", "lo")],
        ..RecordedRoutes::default()
    };
    assert_eq!(case.lines().len(), 2);
}

fn address(address: &str, interface: &str) -> NetObject {
    NetObject::Address(AssignedAddress {
        address: address.parse().unwrap(),
        interface: interface.parse().unwrap(),
        scope: crate::netlink::AddressScope(50),
    })
}

#[test]
fn an_up_adds_the_source_address_of_a_network_and_not_of_a_host() {
    let up = |verb| case(&[SOURCE, ("PLUTO_VERB", verb)]).lines();
    assert_eq!(up("up-client"), ["ip -4 address add 10.1.0.1/32 dev lo scope 50"]);
    assert!(up("up-host").is_empty());
}

#[test]
fn the_default_route_is_eclipsed_and_not_replaced() {
    let halves = |version: &[(&str, &str)], client| {
        let mut changes = version.to_vec();
        changes.extend([("PLUTO_MTU", "1400"), ("PLUTO_PEER_CLIENT", client)]);
        if client == "::/0" {
            changes.extend([
                ("PLUTO_MY_CLIENT", "2001:db8:1::/64"),
                ("PLUTO_NEXT_HOP", "2001:db8:ff::fe"),
            ]);
        }
        case(&changes)
            .objects()
            .iter()
            .map(|object| object.install_commands()[0].split(' ').nth(4).unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    for version in [&[][..], &[V5], &[V5, V54]] {
        assert_eq!(halves(version, "0.0.0.0/0"), ["0.0.0.0/1", "128.0.0.0/1"]);
    }
    assert_eq!(halves(&[], "::/0"), ["2000::/3"]);
    assert_eq!(halves(&[V5], "::/0"), ["::/1", "8000::/1"]);
}

#[test]
fn a_range_is_routed_by_the_networks_that_make_it_up() {
    let lines = case(&[V5, ("PLUTO_MTU", "1400"), ("PLUTO_PEER_CLIENT", "10.2.0.5-10.2.0.9")]).lines();
    let networks: Vec<_> = lines.iter().filter_map(|line| line.split(' ').nth(4)).collect();
    assert_eq!(networks, ["10.2.0.5/32", "10.2.0.6/31", "10.2.0.8/31"]);
}

#[test]
fn a_peer_on_the_link_and_an_interface_with_one_end_need_no_next_hop() {
    let on_link = case(&[("PLUTO_MTU", "1400"), ("PLUTO_NEXT_HOP", "198.51.100.1")]);
    assert_eq!(on_link.lines(), ["ip -4 route replace 10.2.0.0/24 dev eth0 mtu 1400"]);
    let mut one_end = case(&[("PLUTO_MTU", "1400")]);
    one_end.answers.outer = Some(Link {
        ends: Ends::PointToPoint,
        ..link("eth0")
    });
    assert_eq!(one_end.lines(), ["ip -4 route replace 10.2.0.0/24 dev eth0 mtu 1400"]);
}

#[test]
fn a_next_hop_of_the_other_family_is_none() {
    let lines = case(&[
        ("PLUTO_MTU", "1400"),
        ("PLUTO_MY_CLIENT", "2001:db8:1::/64"),
        ("PLUTO_PEER_CLIENT", "2001:db8:2::/64"),
    ])
    .lines();
    assert_eq!(lines, ["ip -6 route replace 2001:db8:2::/64 dev eth0 mtu 1400"]);
}

#[test]
fn the_interface_is_that_of_the_next_hop_but_since_5_4_the_daemons_word() {
    let interface = |version: &[(&str, &str)]| {
        let mut case = case(&[version, &[("PLUTO_MTU", "1400")]].concat());
        case.answers.to_next_hop = Some(route_by("eth7", None));
        case.lines()[0].split_once("dev ").unwrap().1.to_owned()
    };
    assert_eq!(interface(&[]), "eth7 mtu 1400");
    assert_eq!(interface(&[V5]), "eth7 mtu 1400");
    assert_eq!(interface(&[V5, V54]), "eth0 mtu 1400");
}

#[test]
fn the_administrators_words_are_in_the_route() {
    let lines =
        |changes: &[(&str, &str)], before, after| case(changes).options(AlwaysRoute::Yes, before, after).lines();
    assert_eq!(
        lines(&[], "table 9", "table 220 mtu 1300"),
        ["ip -4 route replace 10.2.0.0/24 via 192.0.2.254 dev eth0 mtu 1300 table 220"],
        "--iproute does not count where there is a next hop"
    );
    assert_eq!(
        lines(
            &[("PLUTO_NEXT_HOP", "198.51.100.1"), ("PLUTO_MTU", "1400")],
            "mtu 1300 metric 5",
            ""
        ),
        ["ip -4 route replace 10.2.0.0/24 dev eth0 mtu 1400 metric 5"]
    );
}

const XFRM: &[(&str, &str)] = &[("PLUTO_XFRMI_ROUTE", "yes"), ("PLUTO_VIRT_INTERFACE", "ipsec5")];

#[test]
fn an_xfrm_interface_is_routed_to_unless_both_networks_are_one() {
    assert_eq!(case(XFRM).lines(), ["ip -4 route replace 10.2.0.0/24 dev ipsec5"]);
    let same = [XFRM, &[("PLUTO_MY_CLIENT", "10.2.0.0/24")]].concat();
    assert!(case(&same).lines().is_empty());
}

#[test]
fn the_tunnels_own_packets_pass_by_the_interface_that_leads_to_the_peer() {
    let default = [
        XFRM,
        &[
            ("PLUTO_XFRMI_FWMARK", "5/0xffffffff"),
            ("PLUTO_PEER_CLIENT", "0.0.0.0/0"),
            ("PLUTO_METRIC", "7"),
        ],
    ]
    .concat();
    let routes = [
        "ip -4 route replace 0.0.0.0/1 dev ipsec5 metric 7",
        "ip -4 route replace 128.0.0.0/1 dev ipsec5 metric 7",
    ];
    let rule = "ip -4 rule add priority 100 to 0.0.0.0/0 fwmark 0x5/0xffffffff table 50";
    let bypass = "ip -4 route replace 198.51.100.1/32 via 192.0.2.254 dev eth0 table 50";
    assert_eq!(case(&default).lines(), [routes[0], routes[1], bypass, rule]);
    let bypass = "ip -4 route replace 198.51.100.1/32 via 192.0.2.254 dev eth0 metric 7 table 50";
    assert_eq!(
        case(&[&default[..], &[V5]].concat()).lines(),
        [routes[0], routes[1], bypass, rule]
    );
}

#[test]
fn the_source_address_of_an_xfrm_interface_is_the_hooks_in_4_only() {
    let lines = |version: &[(&str, &str)]| case(&[XFRM, &[SOURCE], version].concat()).lines();
    let route = "ip -4 route replace 10.2.0.0/24 dev ipsec5 src 10.1.0.1";
    assert_eq!(lines(&[]), ["ip -4 address add 10.1.0.1/32 dev ipsec5 scope 50", route]);
    assert_eq!(lines(&[V5]), [route]);
}

const VTI: &[(&str, &str)] = &[
    ("VTI_IFACE", "vti01"),
    ("VTI_ROUTING", "yes"),
    ("CONNMARK_IN", "5/0xffffffff"),
    ("CONNMARK_OUT", "6/0xffffffff"),
];

#[test]
fn a_vti_interface_is_made_before_it_is_routed_to() {
    let lines = |verb, more: &[(&str, &str)]| {
        case(&[VTI, &[("PLUTO_VERB", verb), ("VTI_IP", "10.8.0.1/24")], more].concat()).lines()
    };
    let made = lines("prepare-client", &[]);
    assert_eq!(
        made[0],
        "ip tunnel add vti01 mode vti local 192.0.2.1 remote 198.51.100.1 okey 6 ikey 5"
    );
    assert!(
        made.contains(&"ip -4 address add 10.8.0.1/24 dev vti01 scope global".to_owned()),
        "{made:?}"
    );
    assert_eq!(
        lines("up-client", &[]).last().unwrap(),
        "ip -4 route replace 10.2.0.0/24 dev vti01"
    );
    let routed = [&made[..], &["ip -4 route replace 10.2.0.0/24 dev vti01".to_owned()]].concat();
    assert_eq!(lines("route-client", &[]), routed);
    assert_eq!(lines("route-client", &[("VTI_ROUTING", "no")]), made);
    assert!(
        lines("up-client", &[("CONNMARK_IN", "")]).is_empty(),
        "there is no device without marks"
    );
    let shared = lines("prepare-client", &[("VTI_SHARED", "yes")]);
    assert!(
        shared[0].contains("remote any") || !shared[0].contains("198.51.100.1"),
        "{shared:?}"
    );
}

#[test]
fn a_gateway_in_the_remote_network_of_a_vti_interface_is_pinned() {
    let mut case = case(&[VTI, &[("PLUTO_PEER_CLIENT", "192.0.2.0/24")]].concat());
    case.answers.to_peer = Some(route_by("eth0", None));
    let lines = case.lines();
    let routes: Vec<_> = lines.iter().filter(|line| line.contains("route replace")).collect();
    assert_eq!(
        routes,
        [
            "ip -4 route replace 192.0.2.0/24 dev vti01",
            "ip -4 route replace 192.0.2.254/32 dev eth0"
        ]
    );
}

#[test]
fn a_remote_host_on_our_own_network_is_answered_for_and_routed() {
    let host = |more: &[(&str, &str)]| {
        let mut case = case(&[&[("PLUTO_PEER_CLIENT", "10.1.0.77/32")], more].concat());
        case.answers.to_peer = Some(route_by("eth1", None));
        case.answers.on_link = Some(link("eth1"));
        case
    };
    assert_eq!(
        host(&[]).lines(),
        [
            "ip -4 neigh add proxy 10.1.0.77 dev eth1",
            "ip -4 route replace 10.1.0.77/32 via 192.0.2.254 dev eth0"
        ]
    );
    assert!(
        host(&[("PLUTO_PEER", "10.1.0.77")]).lines().is_empty(),
        "the peer itself"
    );
    assert!(
        host(&[("PLUTO_MY_CLIENT", "192.0.2.1/32")]).lines().is_empty(),
        "only the gateway at our end"
    );
    let mut tunnel = host(&[]);
    tunnel.answers.on_link = Some(Link {
        hardware_address: None,
        ..link("tun0")
    });
    assert!(tunnel.lines().is_empty(), "nobody asks for hardware addresses there");
    // Once it is routed the way says no more that it is on our link.
    let mut again = host(&[]);
    again.recorded.own = host(&[]).objects();
    again.answers.to_peer = Some(route_by("eth0", Some("192.0.2.254")));
    assert_eq!(again.lines(), host(&[]).lines());
}

#[test]
fn klips_routes_every_network_into_its_interface() {
    let openswan = [
        ("PLUTO_STACK", "klips"),
        ("PLUTO_VERSION", "2.0"),
        ("PLUTO_INTERFACE", "ipsec0"),
    ];
    let lines = |peer: &str| {
        let drop = [
            "PLUTO_SA_REQID",
            "PLUTO_SA_TYPE",
            "VTI_IFACE",
            "PLUTO_VIRT_INTERFACE",
            "PLUTO_XFRMI_ROUTE",
            "PLUTO_CONN_KIND",
        ];
        let variables = LIBRESWAN_4
            .iter()
            .filter(|(name, _)| !drop.contains(name))
            .chain(&openswan);
        let variables = variables
            .copied()
            .chain([("PLUTO_PEER", peer)])
            .map(|(name, value)| (name.into(), value.into()));
        let (call, routing) = read_routed(&RawEnv::new([], variables.collect::<Vec<_>>()));
        Case {
            call,
            routing,
            ..case(&[])
        }
        .lines()
    };
    assert_eq!(
        lines("198.51.100.1"),
        ["ip -4 route replace 10.2.0.0/24 via 192.0.2.254 dev ipsec0"]
    );
    assert_eq!(lines("192.0.2.254"), ["ip -4 route replace 10.2.0.0/24 dev ipsec0"]);
}

#[test]
fn an_unroute_takes_everything_but_leaves_a_moving_tunnel_its_address() {
    let unroute = |changes: &[(&str, &str)]| {
        let mut unroute = case(&[&[SOURCE, ("PLUTO_VERB", "unroute-client")], changes].concat());
        unroute.recorded.own = case(&[SOURCE]).objects();
        unroute.lines()
    };
    assert!(unroute(&[]).is_empty());
    assert_eq!(
        unroute(&[("PLUTO_MOBIKE_EVENT", "yes")]),
        ["ip -4 address add 10.1.0.1/32 dev lo scope 50"]
    );
}

#[test]
fn the_route_to_ciscos_gateways_goes_at_down() {
    let mut down = case(&[SOURCE, ("PLUTO_VERB", "down-client"), ("PLUTO_IS_PEER_CISCO", "1")]);
    down.recorded.own = case(&[SOURCE]).objects();
    assert_eq!(down.lines(), ["ip -4 address add 10.1.0.1/32 dev lo scope 50"]);
    let other: IpAddr = "10.1.0.1".parse().unwrap();
    assert!(down.routing.source == Some(other));
}

#[test]
fn a_key_is_a_network_and_an_interface_of_the_tunnels_own() {
    let key = |changes: &[(&str, &str)]| RoutingKey::from_routing(&case(changes).routing).to_string();
    assert_eq!(key(&[]), "10.2.0.0-24");
    assert_eq!(key(VTI), "10.2.0.0-24@vti01");
    assert_eq!(key(XFRM), "10.2.0.0-24@ipsec5");
    assert_eq!(
        key(&[("PLUTO_CONNECTION", "other"), ("PLUTO_INTERFACE", "eth9")]),
        "10.2.0.0-24"
    );
}

#[test]
fn an_up_with_another_source_address_renews_the_routes() {
    let routed = case(&[V5, SOURCE]).objects();
    let up = |version: &[(&str, &str)], own: &[NetObject], connection: &str| {
        let changes = [
            version,
            &[("PLUTO_VERB", "up-client"), ("PLUTO_MY_SOURCEIP", "10.1.0.9")],
        ]
        .concat();
        let mut case = case(&changes);
        case.recorded.own = own.to_vec();
        case.recorded.connection = ConnectionName::new(connection.as_bytes()).ok();
        case.lines()
    };
    let address = "ip -4 address add 10.1.0.9/32 dev lo scope 50";
    let route = "ip -4 route replace 10.2.0.0/24 via 192.0.2.254 dev eth0 src 10.1.0.9";
    for version in [&[][..], &[V5], &[V5, V54]] {
        assert_eq!(up(version, &routed, "net-net"), [address, route]);
    }
    // 5.0 and 5.1 tell the address first at `up`: then `route` made no route, or one without a
    // source.
    assert_eq!(up(&[V5], &[], "net-net"), [address, route]);
    assert_eq!(up(&[V5], &case_unreachable(), "net-net"), [address, route]);
    // Under 4.x `route` follows.
    assert_eq!(up(&[], &[], "net-net"), [address]);
    // The routes of another connection to the same network keep their source.
    let others = up(&[V5], &routed, "other");
    assert!(others.iter().any(|line| line.ends_with("src 10.1.0.1")), "{others:?}");
}

#[test]
fn a_next_hop_that_is_link_local_is_on_the_daemons_interface() {
    let six = [
        V5,
        ("PLUTO_MTU", "1400"),
        ("PLUTO_MY_CLIENT", "2001:db8:1::/64"),
        ("PLUTO_PEER_CLIENT", "2001:db8:2::/64"),
        ("PLUTO_PEER", "2001:db8:ff::1"),
        ("PLUTO_NEXT_HOP", "fe80::1"),
    ];
    let mut case = case(&six);
    // Any interface has such a network; the kernel names the first.
    case.answers.to_next_hop = Some(route_by("eth7", None));
    assert_eq!(
        case.lines(),
        ["ip -6 route replace 2001:db8:2::/64 via fe80::1 dev eth0 mtu 1400"]
    );
    let routing = &case.routing;
    let queries = kernel_queries(case.call.daemon, routing, Operation::Route);
    assert!(!queries.contains(&KernelQuery::ToNextHop));
}

#[test]
fn a_next_hop_that_only_its_own_route_leads_to_is_on_the_link() {
    for version in [&[][..], &[V5], &[V5, V54]] {
        let mut case = case(&[version, &[SOURCE]].concat());
        case.answers.to_next_hop = Some(route_by("eth0", Some("192.0.2.254")));
        let lines = case.lines();
        assert_eq!(
            lines[1],
            "ip -4 route replace 10.2.0.0/24 via 192.0.2.254 dev eth0 src 10.1.0.1 onlink"
        );
    }
}

#[test]
fn a_vti_that_the_administrator_routes_to_gets_no_route_where_there_is_none() {
    let vti = [
        ("VTI_IFACE", "vti01"),
        ("CONNMARK_IN", "5/0xffffffff"),
        ("CONNMARK_OUT", "6/0xffffffff"),
    ];
    let routes = |routing, always| {
        let case = case(&[&vti[..], &[("VTI_ROUTING", routing)]].concat()).options(always, "", "");
        let lines = case.reaching(Lookup::Unreachable(NoRoute::Network)).lines();
        lines.iter().filter(|line| line.contains(" route ")).count()
    };
    assert_eq!(routes("no", AlwaysRoute::No), 0);
    assert_eq!(routes("no", AlwaysRoute::Yes), 1);
    assert_eq!(routes("yes", AlwaysRoute::No), 1);
}
