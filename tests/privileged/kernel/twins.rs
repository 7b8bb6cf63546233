//! Two machines alike: in one we do it, in the other a root shell does it with the lines that a dry run shows.

use std::net::IpAddr;

use pluto_updown::net::Mark;
use pluto_updown::netlink::{
    AddressScope, AssignedAddress, Deleted, InstallResult, Kernel, NetConfig as _, NetObject, Origin, PolicyRule,
    ProxyNeighbour, Route, RouteOption, RouteTable,
};

use super::{configuration, gateway, install_item, route, take_out};
use crate::support::namespace::Namespace;

fn routes(destination: &str, via: &str, source: &str) -> Vec<Route> {
    let plain = route(destination, "eth0");
    let by_router = Route {
        via: Some(via.parse().unwrap()),
        ..plain.clone()
    };
    let full = Route {
        source: Some(source.parse().unwrap()),
        mtu: Some(1400),
        metric: Some(5),
        ..by_router.clone()
    };
    let options = vec![
        RouteOption::Advmss(1300),
        RouteOption::Window(8000),
        RouteOption::Initcwnd(20),
        RouteOption::Initrwnd(30),
        RouteOption::Hoplimit(9),
        RouteOption::Quickack(1),
    ];
    vec![
        Route {
            mtu: Some(1380),
            ..plain.clone()
        },
        Route {
            interface: None,
            ..by_router.clone()
        },
        Route {
            table: RouteTable(50),
            ..full.clone()
        },
        Route {
            table: RouteTable(5000),
            ..plain.clone()
        },
        Route {
            options: vec![RouteOption::Onlink],
            ..by_router.clone()
        },
        Route {
            options,
            ..plain.clone()
        },
        Route {
            options: vec![RouteOption::Proto(Origin(4))],
            ..plain.clone()
        },
        Route {
            options: vec![RouteOption::Proto(Origin(99))],
            ..full.clone()
        },
        plain,
        by_router,
        full,
    ]
}

fn all_routes() -> Vec<Route> {
    let mut all = routes("10.2.0.0/24", "192.0.2.254", "192.0.2.1");
    all.extend(routes("10.2.0.7/32", "192.0.2.254", "192.0.2.1"));
    all.extend(routes("2001:db8:2::/48", "2001:db8::fe", "2001:db8::1"));
    all.extend(routes("2001:db8:2::7/128", "2001:db8::fe", "2001:db8::1"));
    all.extend(["0.0.0.0/1", "128.0.0.0/1", "::/1", "8000::/1", "2000::/3"].map(|half| route(half, "eth0")));
    all.extend(["0.0.0.0/0", "::/0"].map(|everything| route(everything, "eth0")));
    all.push(Route {
        via: Some("2001:db8::fe".parse().unwrap()),
        ..route("10.2.0.0/24", "eth0")
    });
    all
}

fn rules() -> Vec<PolicyRule> {
    let networks = [
        "10.2.0.0/24",
        "10.2.0.7/32",
        "0.0.0.0/0",
        "2001:db8:2::/48",
        "2001:db8::7/128",
        "::/0",
    ];
    let tables = [RouteTable(50), RouteTable(254), RouteTable(5000)];
    let masks = [u32::MAX, 0xff];
    let each = |(network, (table, mask)): (&str, (RouteTable, u32))| PolicyRule {
        priority: 100,
        to: network.parse().unwrap(),
        mark: Mark { value: 5, mask },
        table,
    };
    networks
        .into_iter()
        .zip(tables.into_iter().cycle().zip(masks.into_iter().cycle()))
        .map(each)
        .collect()
}

fn addresses() -> Vec<AssignedAddress> {
    let each = |(address, interface, scope): (&str, &str, AddressScope)| AssignedAddress {
        address: address.parse().unwrap(),
        interface: interface.parse().unwrap(),
        scope,
    };
    [
        ("10.1.0.1/32", "lo", AddressScope(50)),
        ("10.1.0.1/32", "lo", AddressScope::UNIVERSE),
        ("10.9.0.1/30", "eth0", AddressScope::LINK),
        ("10.9.0.1/24", "far", AddressScope::HOST),
        ("127.0.0.9/32", "lo", AddressScope::UNIVERSE),
        ("2001:db8:1::1/128", "lo", AddressScope::UNIVERSE),
        ("2001:db8:1::1/128", "lo", AddressScope(50)),
    ]
    .map(each)
    .to_vec()
}

fn neighbours() -> Vec<ProxyNeighbour> {
    let each = |address: &str| ProxyNeighbour {
        address: address.parse().unwrap(),
        interface: "eth0".parse().unwrap(),
    };
    ["192.0.2.77", "2001:db8::77"].map(each).to_vec()
}

/// The configuration, as soon as the address can be used: the shell does not wait for that, as we do.
fn usable_configuration(machine: &Namespace, item: &NetObject) -> String {
    if let NetObject::Address(AssignedAddress { address, .. }) = item {
        let ip = address.addr();
        machine.shell(&format!(
            "until ip -o route get {ip} | grep -q '^local '; do sleep 0.01; done"
        ));
    }
    configuration(machine)
}

/// Each item by us and by the shell, in and out, with everything the same after each step.
fn assert_alike(items: impl IntoIterator<Item = NetObject>) {
    let [by_program, by_shell] = [gateway(), gateway()];
    let before = configuration(&by_program);
    for item in items {
        let lines = item.install_commands().join("\n");
        assert_eq!(install_item(&by_program, &item), Ok(InstallResult::New), "{lines}");
        by_shell.shell(&lines);
        let with = configuration(&by_program);
        assert_eq!(with, usable_configuration(&by_shell, &item), "{lines}");
        assert_ne!(with, before, "{lines} changes nothing");
        let line = item.delete_command();
        assert_eq!(take_out(&by_program, &item), Ok(Deleted::Out), "{line}");
        by_shell.shell(&line);
        let without = configuration(&by_program);
        assert_eq!(without, configuration(&by_shell), "{line}");
        assert_eq!(without, before, "{line} leaves something behind");
        assert_eq!(
            take_out(&by_program, &item),
            Ok(Deleted::Absent),
            "{line}, a second time"
        );
    }
}

#[test]
#[ignore = "needs root and iptables: run by contrib/test"]
fn a_route_is_what_its_lines_make() {
    assert_alike(all_routes().into_iter().map(NetObject::Route));
}

#[test]
#[ignore = "needs root and iptables: run by contrib/test"]
fn a_rule_is_what_its_lines_make() {
    assert_alike(rules().into_iter().map(NetObject::Rule));
}

#[test]
#[ignore = "needs root and iptables: run by contrib/test"]
fn an_address_is_what_its_lines_make() {
    assert_alike(addresses().into_iter().map(NetObject::Address));
}

#[test]
#[ignore = "needs root and iptables: run by contrib/test"]
fn a_proxy_neighbour_is_what_its_lines_make() {
    assert_alike(neighbours().into_iter().map(NetObject::ProxyNeighbour));
}

#[test]
#[ignore = "needs root and iptables: run by contrib/test"]
fn a_route_takes_the_place_of_the_one_that_was_there() {
    for (destination, via) in [("10.2.0.0/24", "192.0.2.254"), ("2001:db8:2::/48", "2001:db8::fe")] {
        let [by_program, by_shell] = [gateway(), gateway()];
        let plain = route(destination, "eth0");
        let via = Route {
            via: Some(via.parse().unwrap()),
            ..plain.clone()
        };
        for item in [
            plain,
            via.clone(),
            Route {
                mtu: Some(1400),
                ..via.clone()
            },
            via,
        ]
        .map(NetObject::Route)
        {
            let lines = item.install_commands().join("\n");
            assert_eq!(install_item(&by_program, &item), Ok(InstallResult::New), "{lines}");
            by_shell.shell(&lines);
            assert_eq!(configuration(&by_program), configuration(&by_shell), "{lines}");
        }
    }
}

#[test]
#[ignore = "needs root and iptables: run by contrib/test"]
fn what_is_installed_already_is_left_alone() {
    let machine = gateway();
    let items = rules().into_iter().map(NetObject::Rule);
    let items = items.chain(addresses().into_iter().step_by(2).map(NetObject::Address));
    for item in items.chain(neighbours().into_iter().map(NetObject::ProxyNeighbour)) {
        let lines = item.install_commands().join("\n");
        machine.shell(&lines);
        let before = configuration(&machine);
        assert_eq!(install_item(&machine, &item), Ok(InstallResult::Existed), "{lines}");
        assert_eq!(configuration(&machine), before, "{lines}");
    }
}

#[test]
#[ignore = "needs root and iptables: run by contrib/test"]
fn a_new_address_can_be_the_source_of_a_route_at_once() {
    let machine = gateway();
    let mut kernel = machine.inside(|| Kernel::open().unwrap());
    for number in 1..50 {
        for (address, destination) in [("10.1.0.", "10.2.0.0/24"), ("2001:db8:1::", "2001:db8:2::/48")] {
            let source: IpAddr = format!("{address}{number}").parse().unwrap();
            let address = AssignedAddress {
                address: source.into(),
                interface: "lo".parse().unwrap(),
                scope: AddressScope::UNIVERSE,
            };
            let route = Route {
                source: Some(source),
                ..route(destination, "eth0")
            };
            assert_eq!(
                kernel.install(&NetObject::Address(address)).unwrap(),
                InstallResult::New
            );
            assert_eq!(kernel.install(&NetObject::Route(route)).unwrap(), InstallResult::New);
        }
    }
}

#[test]
#[ignore = "needs root and iptables: run by contrib/test"]
fn the_kernel_holds_who_has_put_a_route_in() {
    let machine = gateway();
    let of = |destination, origin| {
        NetObject::Route(Route {
            options: vec![RouteOption::Proto(Origin(origin))],
            ..route(destination, "eth0")
        })
    };
    for (family, destination) in [(4, "10.2.0.0/24"), (6, "2001:db8:2::/48")] {
        for (origin, shown) in [(4, "proto static"), (3, "proto boot"), (77, "proto 77")] {
            assert_eq!(install_item(&machine, &of(destination, origin)), Ok(InstallResult::New));
            let listed = machine.shell(&format!("ip -d -{family} route show {destination}"));
            assert!(listed.contains(shown), "{listed}");
            assert_eq!(
                take_out(&machine, &of(destination, 16)),
                Ok(Deleted::Absent),
                "dhcp's is another"
            );
            assert_eq!(take_out(&machine, &of(destination, origin)), Ok(Deleted::Out));
        }
    }
}

#[test]
#[ignore = "needs root and iptables: run by contrib/test"]
fn somebody_elses_route_stays() {
    let machine = gateway();
    let own_route = Route {
        mtu: Some(1400),
        ..route("10.2.0.0/24", "eth0")
    };
    for other_route in [
        "dev far",
        "via 192.0.2.9 dev eth0",
        "dev eth0 mtu 1200",
        "dev eth0 mtu 1400 table 60",
    ] {
        machine.shell(&format!("ip -4 route add 10.2.0.0/24 {other_route}"));
        let before = configuration(&machine);
        let own_route = Route {
            via: Some("192.0.2.254".parse().unwrap()),
            ..own_route.clone()
        };
        assert_eq!(
            take_out(&machine, &NetObject::Route(own_route)),
            Ok(Deleted::Absent),
            "{other_route}"
        );
        assert_eq!(configuration(&machine), before, "{other_route}");
        machine.shell(&format!("ip -4 route del 10.2.0.0/24 {other_route}"));
    }
}
