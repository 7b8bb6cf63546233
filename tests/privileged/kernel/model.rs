//! The emulator that other tests take for the kernel, beside the kernel.

use std::net::IpAddr;

use nix::errno::Errno;
use pluto_updown::net::Mark;
use pluto_updown::netlink::{
    AddressScope, AssignedAddress, Deleted, InstallResult, Kernel, Lookup, NetConfig, NetObject, NoRoute, Origin,
    PolicyRule, ProxyNeighbour, Route, RouteOption, RouteQuery, RouteTable, VtiInterface,
};
use proptest::prelude::*;

use super::{gateway, route};
use crate::support::network::FakeNetwork;
use crate::support::property::cases;

/// What a call can do or ask.
#[derive(Debug, Clone)]
enum Step {
    Put(NetObject),
    TakeOut(NetObject),
    Lookup(IpAddr, Option<IpAddr>),
    Routes(RouteQuery),
}

/// What came of it, as far as it can be compared.
#[derive(Debug, PartialEq)]
enum Result {
    Put(InstallResult),
    Taken(Deleted),
    Lookup(Lookup),
    Routes(Vec<Route>),
    /// With which error is not compared: where several things are wrong, the order of the kernel's checks decides.
    Refused,
}

fn take(network: &mut dyn NetConfig, step: &Step) -> Result {
    let result = match step {
        Step::Put(item) => network.install(item).map(Result::Put),
        Step::TakeOut(item) => network.delete(item).map(Result::Taken),
        Step::Lookup(to, from) => network.lookup(*to, *from).map(Result::Lookup),
        Step::Routes(wanted) => network.routes(wanted).map(sorted),
    };
    result.unwrap_or(Result::Refused)
}

fn sorted(mut routes: Vec<Route>) -> Result {
    routes.sort();
    Result::Routes(routes)
}

fn any_route() -> impl Strategy<Value = Route> {
    let v4 = (
        prop::sample::select(vec![
            "10.2.0.0/24",
            "10.2.0.0/16",
            "10.2.0.7/32",
            "10.66.0.0/16",
            "10.66.0.1/32",
            "0.0.0.0/1",
            "0.0.0.0/0",
        ]),
        prop::option::of(prop::sample::select(vec!["192.0.2.254", "192.0.2.253", "203.0.113.9"])),
        prop::option::of(prop::sample::select(vec!["192.0.2.1", "10.1.0.1"])),
    );
    let v6 = (
        prop::sample::select(vec![
            "2001:db8:2::/48",
            "2001:db8::/32",
            "2001:db8:2::7/128",
            "2001:db8:66::/47",
            "2001:db8:66::1/128",
            "2000::/3",
            "::/0",
        ]),
        prop::option::of(prop::sample::select(vec!["2001:db8::fe", "2001:db8::fd", "3fff::9"])),
        prop::option::of(prop::sample::select(vec!["2001:db8::1", "2001:db8:1::1"])),
    );
    let metric = prop::option::of(prop::sample::select(vec![5, 9]));
    let mtu = prop::option::of(prop::sample::select(vec![1380, 1400]));
    let table = prop::sample::select(vec![RouteTable::MAIN, RouteTable::MAIN, RouteTable(50)]);
    let interface = prop::sample::select(vec!["eth0", "eth0", "eth0", "eth7"]);
    let options = prop::sample::select(vec![vec![], vec![], vec![RouteOption::Onlink]]);
    let origin = prop::option::weighted(0.2, prop::sample::select(vec![Origin(4), Origin(99)]));
    let options = (options, origin);
    (prop_oneof![v4, v6], metric, mtu, table, interface, options).prop_map(
        |((to, via, source), metric, mtu, table, interface, (options, origin))| Route {
            via: via.map(|via| via.parse().unwrap()),
            source: source.map(|source| source.parse().unwrap()),
            metric,
            mtu,
            table,
            options: (options.into_iter().filter(|_| via.is_some()))
                .chain(origin.map(RouteOption::Proto))
                .collect(),
            ..route(to, interface)
        },
    )
}

fn other_items() -> Vec<NetObject> {
    let address = |address: &str, scope| {
        NetObject::Address(AssignedAddress {
            address: address.parse().unwrap(),
            interface: "lo".parse().unwrap(),
            scope,
        })
    };
    let neighbour = |address: &str, interface: &str| {
        NetObject::ProxyNeighbour(ProxyNeighbour {
            address: address.parse().unwrap(),
            interface: interface.parse().unwrap(),
        })
    };
    let rule = |to: &str, value| {
        NetObject::Rule(PolicyRule {
            priority: 100,
            to: to.parse().unwrap(),
            mark: Mark { value, mask: u32::MAX },
            table: RouteTable(50),
        })
    };
    vec![
        address("10.1.0.1/32", AddressScope(50)),
        address("10.1.0.1/32", AddressScope::UNIVERSE),
        address("10.1.0.1/24", AddressScope::UNIVERSE),
        address("2001:db8:1::1/128", AddressScope::UNIVERSE),
        address("2001:db8:1::1/64", AddressScope::UNIVERSE),
        neighbour("192.0.2.77", "eth0"),
        neighbour("2001:db8::77", "eth0"),
        neighbour("192.0.2.77", "eth7"),
        rule("10.2.0.0/24", 5),
        rule("10.2.0.0/24", 6),
        rule("2001:db8:2::/48", 5),
    ]
}

fn any_step() -> impl Strategy<Value = Step> {
    let item = prop_oneof![3 => any_route().prop_map(NetObject::Route), 2 => prop::sample::select(other_items())];
    let item = item.boxed();
    let address = prop::sample::select(vec![
        "10.2.0.7",
        "10.2.0.9",
        "10.2.9.9",
        "10.1.0.1",
        "192.0.2.1",
        "192.0.2.9",
        "203.0.113.5",
        "10.66.0.1",
        "2001:db8:66::1",
        "2001:db8:2::7",
        "2001:db8:2::9",
        "2001:db8:1::1",
        "2001:db8::9",
        "3fff::1",
    ])
    .prop_map(|text| text.parse::<IpAddr>().unwrap())
    .boxed();
    let network = prop::sample::select(vec!["10.2.0.0/24", "0.0.0.0/0", "2001:db8:2::/48", "::/0"]);
    let lookup = (address.clone(), prop::option::of(address.clone())).prop_filter_map("of one family", |(to, from)| {
        from.is_none_or(|from| from.is_ipv4() == to.is_ipv4())
            .then_some(Step::Lookup(to, from))
    });
    prop_oneof![
        4 => item.clone().prop_map(Step::Put),
        3 => item.prop_map(Step::TakeOut),
        2 => lookup,
        1 => network.prop_map(|network| Step::Routes(RouteQuery::To(network.parse().unwrap()))),
        1 => address.prop_map(|address| Step::Routes(RouteQuery::From(address))),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { max_shrink_iters: 200, ..cases(60) })]

    #[test]
    #[ignore = "needs root and iptables: run by contrib/test"]
    fn the_emulator_does_what_the_kernel_does(steps in prop::collection::vec(any_step(), 1..40)) {
        let machine = gateway();
        machine.shell("ip route add unreachable 10.66.0.0/24; ip -6 route add prohibit 2001:db8:66::/48");
        let mut kernel = machine.inside(|| Kernel::open().unwrap());
        let mut fake = FakeNetwork::gateway();
        fake.forbidden.insert("10.66.0.0/24".parse().unwrap(), NoRoute::Host);
        fake.forbidden.insert("2001:db8:66::/48".parse().unwrap(), NoRoute::Prohibited);
        for (number, step) in steps.iter().enumerate() {
            prop_assert_eq!(take(&mut fake, step), take(&mut kernel, step), "step {} of {:#?}", number, steps);
        }
    }
}

#[test]
fn a_change_that_the_emulator_refuses_is_none() {
    let mut fake = FakeNetwork::gateway();
    let item = NetObject::Route(route("10.2.0.0/24", "eth0"));
    fake.refuse(2, Errno::ENOMEM);
    assert_eq!(fake.install(&item).unwrap(), InstallResult::New);
    let with = fake.items.clone();
    let error = fake.delete(&item).unwrap_err();
    let said = "cannot delete \"ip -4 route del 10.2.0.0/24 dev eth0\": Cannot allocate memory";
    assert_eq!(error.to_string(), said);
    assert_eq!(fake.items, with);
    assert_eq!(fake.delete(&item).unwrap(), Deleted::Out);
    assert_eq!(fake.items, FakeNetwork::gateway().items);
}

#[test]
fn with_a_vti_of_the_emulator_goes_what_is_on_it() {
    let mut fake = FakeNetwork::gateway();
    let vti = VtiInterface {
        interface: "vti01".parse().unwrap(),
        local: "192.0.2.1".parse().unwrap(),
        remote: None,
        output_key: 5,
        input_key: 6,
        address: Some("10.9.0.1/30".parse().unwrap()),
    };
    let another = NetObject::VtiInterface(VtiInterface {
        output_key: 7,
        ..vti.clone()
    });
    let item = NetObject::VtiInterface(vti);
    assert_eq!(fake.install(&item).unwrap(), InstallResult::New);
    assert_eq!(fake.install(&another).unwrap(), InstallResult::Existed);
    assert_eq!(
        fake.install(&NetObject::Route(route("10.2.0.0/24", "vti01"))).unwrap(),
        InstallResult::New
    );
    assert_eq!(fake.delete(&another).unwrap(), Deleted::Absent);
    assert_eq!(fake.delete(&item).unwrap(), Deleted::Out);
    assert_eq!(fake.items, FakeNetwork::gateway().items);
    assert_eq!(fake.links, FakeNetwork::gateway().links);
}
