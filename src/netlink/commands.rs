//! Items as the command lines that do the same: what a dry run shows and an error message names.

use std::fmt;
use std::net::IpAddr;

use super::net_objects::{AssignedAddress, NetObject, PolicyRule, ProxyNeighbour, Route, VtiInterface};
use crate::net::{Family, Interface};

/// The kernel variables of a new VTI, and what they are set to: its packets have been through the
/// policies already, may come from any network, and are passed on.
pub(super) const VTI_VARIABLES: [(&str, &str); 3] = [("disable_policy", "1"), ("rp_filter", "0"), ("forwarding", "1")];

impl NetObject {
    /// The command lines for a root shell that install it.
    #[must_use]
    pub fn install_commands(&self) -> Vec<String> {
        match self {
            Self::Route(route) => vec![words_of_route("replace", route)],
            Self::Rule(rule) => vec![words_of_rule("add", rule)],
            Self::Address(address) => vec![words_of_address("add", address)],
            Self::ProxyNeighbour(neighbour) => vec![words_of_neighbour("add", neighbour)],
            Self::VtiInterface(vti) => vti.commands(),
        }
    }

    /// The command line for a root shell that removes it.
    #[must_use]
    pub fn delete_command(&self) -> String {
        match self {
            Self::Route(route) => words_of_route("del", route),
            Self::Rule(rule) => words_of_rule("del", rule),
            Self::Address(address) => words_of_address("del", address),
            Self::ProxyNeighbour(neighbour) => words_of_neighbour("del", neighbour),
            Self::VtiInterface(vti) => format!("ip link delete dev {} type vti", vti.interface),
        }
    }
}

/// The beginning of a command: `ip -4 route`.
fn ip(address: IpAddr, object: &str) -> String {
    match Family::of_address(address) {
        Family::Ipv4 => format!("ip -4 {object}"),
        Family::Ipv6 => format!("ip -6 {object}"),
    }
}

fn words_of_route(action: &str, route: &Route) -> String {
    let mut line = ip(route.destination.addr(), "route");
    line += &format!(" {action} {}", route.destination.trunc());
    let mut add = |name: &str, value: Option<&dyn fmt::Display>| {
        if let Some(value) = value {
            line += &format!(" {name} {value}");
        }
    };
    let same_family = |via: &IpAddr| Family::of_address(*via) == Family::of_address(route.destination.addr());
    let hop = if route.via.as_ref().is_none_or(same_family) {
        "via"
    } else {
        "via inet6"
    };
    add(hop, route.via.as_ref().map(|via| via as _));
    add("dev", route.interface.as_ref().map(|interface| interface as _));
    add("mtu", route.mtu.as_ref().map(|mtu| mtu as _));
    add("metric", route.metric.as_ref().map(|metric| metric as _));
    add("src", route.source.as_ref().map(|source| source as _));
    add("table", (!route.table.is_main()).then_some(&route.table as _));
    for option in &route.options {
        line += &format!(" {option}");
    }
    line
}

fn words_of_rule(action: &str, rule: &PolicyRule) -> String {
    let PolicyRule {
        priority,
        to,
        mark,
        table,
    } = rule;
    let to = to.trunc();
    let start = ip(to.addr(), "rule");
    format!("{start} {action} priority {priority} to {to} fwmark {mark} table {table}")
}

fn words_of_address(action: &str, address: &AssignedAddress) -> String {
    let AssignedAddress {
        address,
        interface,
        scope,
    } = address;
    let start = ip(address.addr(), "address");
    format!("{start} {action} {address} dev {interface} scope {scope}")
}

fn words_of_neighbour(action: &str, neighbour: &ProxyNeighbour) -> String {
    let ProxyNeighbour { address, interface } = neighbour;
    let start = ip(*address, "neigh");
    format!("{start} {action} proxy {address} dev {interface}")
}

impl VtiInterface {
    fn commands(&self) -> Vec<String> {
        let mut lines = vec![self.creation()];
        lines.extend(VTI_VARIABLES.map(|(name, value)| variable_command(&self.interface, name, value)));
        lines.extend(self.own_address().map(|address| words_of_address("add", &address)));
        lines.push(self.activation());
        lines
    }

    /// The line that makes the interface.
    pub(super) fn creation(&self) -> String {
        let Self {
            interface,
            local,
            output_key,
            input_key,
            ..
        } = self;
        let remote = self
            .remote
            .map_or_else(|| "any".to_owned(), |remote| remote.to_string());
        format!("ip tunnel add {interface} mode vti local {local} remote {remote} okey {output_key} ikey {input_key}")
    }

    /// The line that lets packets through it.
    pub(super) fn activation(&self) -> String {
        format!("ip link set {} up", self.interface)
    }

    /// The address that is put on it.
    pub(super) fn own_address(&self) -> Option<AssignedAddress> {
        let address = self.address?;
        Some(AssignedAddress {
            address,
            interface: self.interface.clone(),
            scope: Default::default(),
        })
    }
}

/// The line that sets a kernel variable of an interface. A dot in an interface's name is written as
/// a slash (sysctl(8)).
pub(super) fn variable_command(interface: &Interface, name: &str, value: &str) -> String {
    let interface = interface.as_str().replace('.', "/");
    format!("sysctl -w net.ipv4.conf.{interface}.{name}={value}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::Mark;
    use crate::netlink::net_objects::{AddressScope, RouteOption, RouteTable};

    fn full_route() -> Route {
        Route {
            via: Some("192.0.2.254".parse().unwrap()),
            interface: Some("eth0".parse().unwrap()),
            source: Some("10.1.0.1".parse().unwrap()),
            mtu: Some(1400),
            metric: Some(5),
            table: RouteTable(50),
            options: vec![RouteOption::Onlink, RouteOption::Advmss(1360)],
            ..Route::to("10.2.0.0/24".parse().unwrap())
        }
    }

    #[test]
    fn a_route_is_said_with_all_that_it_has() {
        let words = "10.2.0.0/24 via 192.0.2.254 dev eth0 mtu 1400 metric 5 src 10.1.0.1 table 50 onlink advmss 1360";
        let object = NetObject::Route(full_route());
        assert_eq!(object.install_commands(), [format!("ip -4 route replace {words}")]);
        assert_eq!(object.delete_command(), format!("ip -4 route del {words}"));
    }

    #[test]
    fn a_next_hop_of_the_other_family_is_said_with_it() {
        let via = Some("fe80::1".parse().unwrap());
        let lines = |destination: &str| {
            NetObject::Route(Route {
                via,
                ..Route::to(destination.parse().unwrap())
            })
            .delete_command()
        };
        assert_eq!(lines("10.2.0.0/24"), "ip -4 route del 10.2.0.0/24 via inet6 fe80::1");
        assert_eq!(lines("2001:db8::/32"), "ip -6 route del 2001:db8::/32 via fe80::1");
    }

    #[test]
    fn a_rule_an_address_and_a_neighbour_are_one_line_each() {
        let rule = PolicyRule {
            priority: 100,
            to: "10.2.0.0/24".parse().unwrap(),
            mark: Mark {
                value: 5,
                mask: u32::MAX,
            },
            table: RouteTable(50),
        };
        let interface: Interface = "lo".parse().unwrap();
        let address = AssignedAddress {
            address: "10.1.0.1/32".parse().unwrap(),
            interface: interface.clone(),
            scope: AddressScope(50),
        };
        let neighbour = ProxyNeighbour {
            address: "2001:db8::7".parse().unwrap(),
            interface,
        };
        let lines = |object: NetObject| object.install_commands().join("\n");
        assert_eq!(
            lines(NetObject::Rule(rule)),
            "ip -4 rule add priority 100 to 10.2.0.0/24 fwmark 0x5/0xffffffff table 50"
        );
        assert_eq!(
            lines(NetObject::Address(address)),
            "ip -4 address add 10.1.0.1/32 dev lo scope 50"
        );
        assert_eq!(
            lines(NetObject::ProxyNeighbour(neighbour)),
            "ip -6 neigh add proxy 2001:db8::7 dev lo"
        );
    }

    #[test]
    fn a_vti_takes_several_lines() {
        let vti = VtiInterface {
            interface: "vti0.1".parse().unwrap(),
            local: "192.0.2.1".parse().unwrap(),
            remote: None,
            output_key: 5,
            input_key: 6,
            address: Some("10.9.0.1/30".parse().unwrap()),
        };
        let lines = [
            "ip tunnel add vti0.1 mode vti local 192.0.2.1 remote any okey 5 ikey 6",
            "sysctl -w net.ipv4.conf.vti0/1.disable_policy=1",
            "sysctl -w net.ipv4.conf.vti0/1.rp_filter=0",
            "sysctl -w net.ipv4.conf.vti0/1.forwarding=1",
            "ip -4 address add 10.9.0.1/30 dev vti0.1 scope global",
            "ip link set vti0.1 up",
        ];
        let object = NetObject::VtiInterface(vti);
        assert_eq!(object.install_commands(), lines);
        assert_eq!(object.delete_command(), "ip link delete dev vti0.1 type vti");
    }

    #[test]
    fn a_record_says_no_more_than_there_is() {
        let route = NetObject::Route(Route {
            interface: Some("eth0".parse().unwrap()),
            ..Route::to("10.2.0.0/24".parse().unwrap())
        });
        let text = r#"{"route":{"destination":"10.2.0.0/24","device":"eth0"}}"#;
        assert_eq!(serde_json::to_string(&route).unwrap(), text);
        assert_eq!(serde_json::from_str::<NetObject>(text).unwrap(), route);
        let full = NetObject::Route(full_route());
        let text = serde_json::to_string(&full).unwrap();
        assert!(text.contains(r#""options":["onlink",{"advmss":1360}]"#), "{text}");
        assert_eq!(serde_json::from_str::<NetObject>(&text).unwrap(), full);
    }
}
