//! What the kernel answers.

use std::net::IpAddr;

use pluto_updown::net::Interface;
use pluto_updown::netlink::{
    Ends, Kernel, LinkKind, Lookup, Medium, NetConfig as _, NextHop, NoRoute, RouteKind, RouteOption, RouteQuery,
};

use super::{gateway, route};
use crate::support::namespace::Namespace;

fn lookup(machine: &Namespace, to: &str, from: Option<&str>) -> Lookup {
    let address = |text: &str| text.parse::<IpAddr>().unwrap();
    machine.inside(|| Kernel::open().unwrap().lookup(address(to), from.map(address)).unwrap())
}

fn found(kind: RouteKind, interface: &str, via: Option<&str>) -> Lookup {
    Lookup::Found(NextHop {
        kind,
        interface: Some(interface.parse().unwrap()),
        via: via.map(|via| via.parse().unwrap()),
    })
}

#[test]
#[ignore = "needs root and iptables: run by contrib/test"]
fn the_way_is_the_one_that_the_routes_say() {
    let machine = gateway();
    machine.shell(
        "ip -4 route add 10.5.0.0/24 via 192.0.2.254
        ip -6 route add 2001:db8:5::/48 via 2001:db8::fe
        ip -4 route add 10.6.0.0/24 via inet6 2001:db8::fe dev eth0",
    );
    let unicast = |via| found(RouteKind::Unicast, "eth0", via);
    assert_eq!(lookup(&machine, "192.0.2.1", None), found(RouteKind::Local, "lo", None));
    assert_eq!(
        lookup(&machine, "2001:db8::1", None),
        found(RouteKind::Local, "lo", None)
    );
    assert_eq!(lookup(&machine, "192.0.2.9", None), unicast(None));
    assert_eq!(lookup(&machine, "2001:db8::9", None), unicast(None));
    assert_eq!(lookup(&machine, "10.5.0.1", None), unicast(Some("192.0.2.254")));
    assert_eq!(
        lookup(&machine, "10.5.0.1", Some("192.0.2.1")),
        unicast(Some("192.0.2.254"))
    );
    assert_eq!(lookup(&machine, "2001:db8:5::1", None), unicast(Some("2001:db8::fe")));
    assert_eq!(
        lookup(&machine, "2001:db8:5::1", Some("2001:db8::1")),
        unicast(Some("2001:db8::fe"))
    );
    assert_eq!(lookup(&machine, "10.6.0.1", None), unicast(Some("2001:db8::fe")));
    assert_eq!(
        lookup(&machine, "192.0.2.255", None),
        found(RouteKind::Other, "eth0", None)
    );
}

#[test]
#[ignore = "needs root and iptables: run by contrib/test"]
fn that_there_is_no_way_is_an_answer() {
    let machine = gateway();
    machine.shell(
        "ip -4 route add unreachable 10.66.0.0/24
        ip -4 route add blackhole 10.67.0.0/24
        ip -4 route add prohibit 10.68.0.0/24
        ip -4 route add throw 10.69.0.0/24
        ip -6 route add unreachable 2001:db8:66::/48
        ip -6 route add blackhole 2001:db8:67::/48
        ip -6 route add prohibit 2001:db8:68::/48
        ip -6 route add throw 2001:db8:69::/48",
    );
    for (to, reason) in [
        ("10.99.0.1", NoRoute::Network),
        ("10.66.0.1", NoRoute::Host),
        ("10.67.0.1", NoRoute::Blackhole),
        ("10.68.0.1", NoRoute::Prohibited),
        ("10.69.0.1", NoRoute::Network),
        ("2001:db8:99::1", NoRoute::Network),
        ("2001:db8:66::1", NoRoute::Host),
        ("2001:db8:67::1", NoRoute::Blackhole),
        ("2001:db8:68::1", NoRoute::Prohibited),
        ("2001:db8:69::1", NoRoute::Network),
    ] {
        assert_eq!(lookup(&machine, to, None), Lookup::Unreachable(reason), "{to}");
    }
}

#[test]
#[ignore = "needs root and iptables: run by contrib/test"]
fn an_interface_is_recognized_by_its_name() {
    let machine = gateway();
    let link = |name: &str| {
        let interface: Interface = name.parse().unwrap();
        machine.inside(|| Kernel::open().unwrap().link(&interface).unwrap())
    };
    let eth0 = link("eth0").unwrap();
    let index = machine.shell("cat /proc/self/net/dev_snmp6/eth0 | sed -n 's/^ifIndex[[:space:]]*//p'");
    assert_eq!(eth0.interface.as_str(), "eth0");
    assert_eq!(eth0.index.to_string(), index.trim());
    assert_eq!(eth0.hardware_address.as_deref(), Some(&[2, 0, 0, 0, 0, 1][..]));
    assert_eq!(
        (eth0.medium, eth0.ends, eth0.kind),
        (Medium::Ethernet, Ends::Many, LinkKind::Other)
    );
    assert_eq!(link("lo").unwrap().medium, Medium::Loopback);
    assert_eq!(link("eth7"), None);
}

#[test]
#[ignore = "needs root and iptables: run by contrib/test"]
fn routes_of_the_main_table_are_found_by_where_they_lead_and_by_their_source() {
    let machine = gateway();
    machine.shell(
        "ip -4 route add default via 192.0.2.254
        ip -6 route add default via 2001:db8::fe
        ip -4 route add 10.2.0.0/24 dev eth0 src 192.0.2.1 metric 5 mtu 1400 advmss 1300
        ip -4 route add 10.2.0.0/24 via 192.0.2.254 metric 7
        ip -4 route add 10.2.0.0/24 dev eth0 table 50
        ip -4 route add 10.2.0.0/16 dev eth0",
    );
    let found = |wanted: RouteQuery| machine.inside(|| Kernel::open().unwrap().routes(&wanted).unwrap());
    let to = |network: &str| found(RouteQuery::To(network.parse().unwrap()));
    let mut expected = route("10.2.0.0/24", "eth0");
    expected.source = Some("192.0.2.1".parse().unwrap());
    expected.metric = Some(5);
    expected.mtu = Some(1400);
    expected.options = vec![RouteOption::Advmss(1300)];
    let mut by_router = route("10.2.0.0/24", "eth0");
    by_router.via = Some("192.0.2.254".parse().unwrap());
    by_router.metric = Some(7);
    assert_eq!(to("10.2.0.0/24"), [expected.clone(), by_router]);
    let default = |network: &str| to(network).into_iter().map(|route| route.via.unwrap().to_string());
    assert_eq!(default("0.0.0.0/0").collect::<Vec<_>>(), ["192.0.2.254"]);
    assert_eq!(default("::/0").collect::<Vec<_>>(), ["2001:db8::fe"]);
    let from = found(RouteQuery::From("192.0.2.1".parse().unwrap()));
    let others = from.iter().filter(|route| **route != expected);
    // The kernel's own route to the link.
    assert_eq!(
        others.map(|route| route.destination.to_string()).collect::<Vec<_>>(),
        ["192.0.2.0/24"]
    );
    assert_eq!(from.len(), 2);
    assert_eq!(to("10.3.0.0/24"), []);
}

#[test]
#[ignore = "needs root and iptables: run by contrib/test"]
fn a_list_longer_than_a_datagram_is_read_to_its_end() {
    let machine = gateway();
    machine.shell(
        "for i in $(seq 0 39); do for j in $(seq 0 49); do echo route add 10.$i.$j.0/24 dev eth0 src 192.0.2.1; done; done |
        ip -batch -",
    );
    let wanted = RouteQuery::From("192.0.2.1".parse().unwrap());
    let mut kernel = machine.inside(|| Kernel::open().unwrap());
    assert_eq!(kernel.routes(&wanted).unwrap().len(), 2001);
    // And what comes after it is not mistaken for a part of it.
    assert_eq!(
        kernel
            .routes(&RouteQuery::To("10.39.49.0/24".parse().unwrap()))
            .unwrap()
            .len(),
        1
    );
    assert!(kernel.link(&"eth0".parse().unwrap()).unwrap().is_some());
}

#[test]
#[ignore = "needs root and iptables: run by contrib/test"]
fn a_machine_without_any_route_has_an_empty_list() {
    let machine = Namespace::bare(pluto_updown::netfilter::Backend::Nft);
    for everything in ["0.0.0.0/0", "::/0"] {
        let wanted = RouteQuery::To(everything.parse().unwrap());
        assert_eq!(machine.inside(|| Kernel::open().unwrap().routes(&wanted).unwrap()), []);
    }
}
