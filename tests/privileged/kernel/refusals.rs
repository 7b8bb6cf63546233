//! What the kernel refuses is said in one line.

use pluto_updown::netlink::{
    AddressScope, AssignedAddress, Deleted, Kernel, NetConfig as _, NetObject, NetlinkFault, ProxyNeighbour, Route,
};

use super::{gateway, install_item, route, take_out};

#[test]
#[ignore = "needs root and iptables: run by contrib/test"]
fn a_refusal_names_the_item_and_the_reason() {
    let machine = gateway();
    let off_link = Route {
        via: Some("203.0.113.9".parse().unwrap()),
        ..route("10.2.0.0/24", "eth0")
    };
    let off_link6 = Route {
        via: Some("2001:db8:9::9".parse().unwrap()),
        ..route("2001:db8:2::/48", "eth0")
    };
    let foreign = Route {
        source: Some("10.77.0.1".parse().unwrap()),
        ..route("10.2.0.0/24", "eth0")
    };
    for (route, said) in [
        (
            off_link,
            r#""ip -4 route replace 10.2.0.0/24 via 203.0.113.9 dev eth0": Network is unreachable"#,
        ),
        (
            off_link6,
            r#""ip -6 route replace 2001:db8:2::/48 via 2001:db8:9::9 dev eth0": No route to host"#,
        ),
        (
            foreign,
            r#""ip -4 route replace 10.2.0.0/24 dev eth0 src 10.77.0.1": Invalid argument"#,
        ),
        (
            route("10.2.0.0/24", "down0"),
            r#""ip -4 route replace 10.2.0.0/24 dev down0": Network is down"#,
        ),
        (
            route("10.2.0.0/24", "eth7"),
            r#""ip -4 route replace 10.2.0.0/24 dev eth7": there is no interface eth7"#,
        ),
    ] {
        assert_eq!(
            install_item(&machine, &NetObject::Route(route)),
            Err(format!("cannot install {said}"))
        );
    }
}

#[test]
#[ignore = "needs root and iptables: run by contrib/test"]
fn a_refusal_is_reported_by_its_number() {
    let machine = gateway();
    let item = NetObject::Route(route("10.2.0.0/24", "down0"));
    let error = machine.inside(|| Kernel::open().unwrap().install(&item).unwrap_err());
    assert!(
        matches!(error.fault, NetlinkFault::Refused(nix::errno::Errno::ENETDOWN)),
        "{error:?}"
    );
}

#[test]
#[ignore = "needs root and iptables: run by contrib/test"]
fn what_went_with_its_interface_is_absent() {
    let machine = gateway();
    let address = AssignedAddress {
        address: "10.1.0.1/32".parse().unwrap(),
        interface: "eth7".parse().unwrap(),
        scope: AddressScope(50),
    };
    let neighbour = ProxyNeighbour {
        address: "192.0.2.77".parse().unwrap(),
        interface: "eth7".parse().unwrap(),
    };
    let items = [
        NetObject::Route(route("10.2.0.0/24", "eth7")),
        NetObject::Address(address),
        NetObject::ProxyNeighbour(neighbour),
    ];
    for item in items {
        assert_eq!(take_out(&machine, &item), Ok(Deleted::Absent), "{item:?}");
    }
}

#[test]
#[ignore = "needs root and iptables: run by contrib/test"]
fn one_socket_goes_on_after_a_refusal() {
    let machine = gateway();
    let kernel = &mut machine.inside(|| Kernel::open().unwrap());
    for _ in 0..3 {
        kernel
            .install(&NetObject::Route(route("10.2.0.0/24", "down0")))
            .unwrap_err();
        kernel.install(&NetObject::Route(route("10.2.0.0/24", "eth0"))).unwrap();
        assert!(kernel.link(&"eth0".parse().unwrap()).unwrap().is_some());
        assert_eq!(
            kernel.delete(&NetObject::Route(route("10.2.0.0/24", "eth0"))).unwrap(),
            Deleted::Out
        );
    }
}
