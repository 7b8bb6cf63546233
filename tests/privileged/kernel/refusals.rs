//! What the kernel refuses is said in one line.

use pluto_updown::rtnetlink::{Address, Fault, Item, Kernel, Network as _, ProxyNeighbour, Route, Scope, Taken};

use super::{gateway, put, route, take_out};

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
            r#""ip -4 route replace 10.2.0.0/24 dev eth7": there is no device eth7"#,
        ),
    ] {
        assert_eq!(put(&machine, &Item::Route(route)), Err(format!("cannot put in {said}")));
    }
}

#[test]
#[ignore = "needs root and iptables: run by contrib/test"]
fn a_refusal_is_told_by_its_number() {
    let machine = gateway();
    let item = Item::Route(route("10.2.0.0/24", "down0"));
    let error = machine.inside(|| Kernel::open().unwrap().put(&item).unwrap_err());
    assert!(
        matches!(error.fault, Fault::Refused(nix::errno::Errno::ENETDOWN)),
        "{error:?}"
    );
}

#[test]
#[ignore = "needs root and iptables: run by contrib/test"]
fn what_went_with_its_device_is_absent() {
    let machine = gateway();
    let address = Address {
        address: "10.1.0.1/32".parse().unwrap(),
        device: "eth7".parse().unwrap(),
        scope: Scope(50),
    };
    let neighbour = ProxyNeighbour {
        address: "192.0.2.77".parse().unwrap(),
        device: "eth7".parse().unwrap(),
    };
    let items = [
        Item::Route(route("10.2.0.0/24", "eth7")),
        Item::Address(address),
        Item::ProxyNeighbour(neighbour),
    ];
    for item in items {
        assert_eq!(take_out(&machine, &item), Ok(Taken::Absent), "{item:?}");
    }
}

#[test]
#[ignore = "needs root and iptables: run by contrib/test"]
fn one_socket_goes_on_after_a_refusal() {
    let machine = gateway();
    let kernel = &mut machine.inside(|| Kernel::open().unwrap());
    for _ in 0..3 {
        kernel.put(&Item::Route(route("10.2.0.0/24", "down0"))).unwrap_err();
        kernel.put(&Item::Route(route("10.2.0.0/24", "eth0"))).unwrap();
        assert!(kernel.link(&"eth0".parse().unwrap()).unwrap().is_some());
        assert_eq!(
            kernel.take_out(&Item::Route(route("10.2.0.0/24", "eth0"))).unwrap(),
            Taken::Out
        );
    }
}
