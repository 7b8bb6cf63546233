//! Calls that real daemons made.

use super::*;
use crate::daemon::{Daemon, EnvError, Libreswan, SaMatch, UpCounting, treatment};

const LIBRESWAN_4: &str = include_str!(concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/tests/captures/libreswan-4.10.calls"
));
const LIBRESWAN_5: &str = include_str!(concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/tests/captures/libreswan-5.2.calls"
));
const LIBRESWAN_54: &str = include_str!(concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/tests/captures/libreswan-5.4.calls"
));
const ASYNC: &str = include_str!(concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/tests/captures/libreswan-5.4-async.calls"
));
const STRONGSWAN: &str = include_str!(concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/tests/captures/strongswan-6.0.1.calls"
));

/// Hub and spoke, two road warriors, NAT, MOBIKE, AH and more.
const MORE_LIBRESWAN_4: &str = include_str!(concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/tests/captures/libreswan-4.10-more.calls"
));
const MORE_LIBRESWAN_5: &str = include_str!(concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/tests/captures/libreswan-5.2-more.calls"
));
const MORE_STRONGSWAN: &str = include_str!(concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/tests/captures/strongswan-6.0-more.calls"
));

const FILES: [(&str, Daemon); 8] = [
    (LIBRESWAN_4, Daemon::Libreswan(Libreswan::V4)),
    (LIBRESWAN_5, Daemon::Libreswan(Libreswan::V5)),
    (LIBRESWAN_54, Daemon::Libreswan(Libreswan::V54)),
    (ASYNC, Daemon::Libreswan(Libreswan::V54)),
    (STRONGSWAN, Daemon::StrongSwan),
    (MORE_LIBRESWAN_4, Daemon::Libreswan(Libreswan::V4)),
    (MORE_LIBRESWAN_5, Daemon::Libreswan(Libreswan::V5)),
    (MORE_STRONGSWAN, Daemon::StrongSwan),
];

/// The calls of a file: each a `>` with the arguments, then a line for each variable.
fn calls(file: &str) -> Vec<SampleCall> {
    file.split("\n\n")
        .filter(|block| block.starts_with('>'))
        .map(SampleCall::from_lines)
        .collect()
}

/// The first `up` of the road warrior in each file that has one: the calls with the most variables.
pub(super) fn road_warriors() -> impl Iterator<Item = SampleCall> {
    [LIBRESWAN_4, LIBRESWAN_5, LIBRESWAN_54, STRONGSWAN]
        .into_iter()
        .map(|file| up(file, "rw"))
}

/// The first `up` of a connection.
fn up(file: &str, connection: &str) -> SampleCall {
    let ups = |call: &SampleCall| matches!(call.parse_event().unwrap().firewall, FirewallAction::Open(tunnel) if tunnel.connection.as_str() == connection);
    calls(file).into_iter().find(ups).unwrap()
}

#[test]
fn every_call_is_understood_in_its_dialect() {
    for (file, daemon) in FILES {
        let calls = calls(file);
        assert!(calls.len() > 10);
        for call in calls {
            assert_eq!(call.parse_event().unwrap().daemon, daemon, "{call:?}");
        }
    }
}

#[test]
fn every_variable_is_in_the_table() {
    for name in FILES
        .iter()
        .flat_map(|(file, _)| calls(file))
        .flat_map(|call| call.names())
    {
        assert!(treatment(&name).is_some(), "{name}");
    }
}

#[test]
fn an_up_and_its_down_name_the_same_tunnel() {
    for (file, _) in FILES {
        let mut open = Vec::new();
        for call in calls(file) {
            let key = |tunnel: &Tunnel| {
                (
                    tunnel.connection.clone(),
                    tunnel.local_client,
                    tunnel.remote_client,
                    tunnel.traffic.clone(),
                    tunnel.sa_match.clone(),
                )
            };
            match call.parse_event().unwrap().firewall {
                FirewallAction::Open(tunnel) => open.push(key(&tunnel)),
                FirewallAction::Close(tunnel) => {
                    let position = open.iter().position(|open| *open == key(&tunnel));
                    open.swap_remove(position.unwrap());
                }
                FirewallAction::Nothing => {}
            }
        }
    }
}

#[test]
fn reqids_are_those_that_the_kernel_had() {
    for (file, reqid) in [
        (LIBRESWAN_4, 16389),
        (LIBRESWAN_5, 16389),
        (LIBRESWAN_54, 16389),
        (STRONGSWAN, 1),
    ] {
        let sa_match = up(file, "net-net").tunnel().sa_match;
        assert!(matches!(sa_match, SaMatch::Policy { reqid: Some(number), .. } if number == reqid));
    }
}

#[test]
fn tunnels_with_an_interface_are_known_by_it() {
    for file in [LIBRESWAN_4, LIBRESWAN_5, LIBRESWAN_54] {
        assert_eq!(
            up(file, "vti").tunnel().sa_match,
            SaMatch::Interface("vti01".parse().unwrap())
        );
        assert_eq!(
            up(file, "xfrmi").tunnel().sa_match,
            SaMatch::Interface("ipsec5".parse().unwrap())
        );
    }
}

#[test]
fn road_warriors_are_instances() {
    for file in [LIBRESWAN_4, LIBRESWAN_5, LIBRESWAN_54] {
        assert_eq!(up(file, "rw").tunnel().up_counting, UpCounting::Instances);
        assert_eq!(up(file, "net-net").tunnel().up_counting, UpCounting::Single);
    }
}

#[test]
fn traffic_is_restricted_as_configured() {
    let traffic = |file, name| up(file, name).tunnel().traffic.to_string();
    assert_eq!(traffic(LIBRESWAN_4, "tcp-only"), "tcp any<>8080");
    assert_eq!(traffic(LIBRESWAN_54, "tcp-only"), "tcp any<>8080");
    assert_eq!(traffic(STRONGSWAN, "ports"), "tcp any<>8080");
    assert_eq!(traffic(STRONGSWAN, "icmp"), "icmp 8");
    assert_eq!(traffic(STRONGSWAN, "net-net"), "any");
}

/// The variables without which an `up` is an error that names them; without any other it is the
/// same dialect's valid event.
fn required(call: &SampleCall) -> Vec<String> {
    let daemon = call.parse_event().unwrap().daemon;
    let mut required = call.names();
    required.retain(|name| match call.clone().without(name).parse_event() {
        Ok(event) => {
            assert!(
                event.daemon == daemon || ["PLUTO_CLIENT_FAMILY", "PLUTO_DNS_RESOLVER"].contains(&name.as_str()),
                "{name}"
            );
            false
        }
        Err(error) => {
            // What FreeS/WAN sends beside its version, every daemon sends.
            let unknown = name == "PLUTO_VERSION" && error == EnvError::NoDaemon;
            assert!(
                unknown || error.to_string() == format!("{name} is missing"),
                "{name}: {error}"
            );
            true
        }
    });
    required
}

/// What no `up` can do without.
const ALWAYS: [&str; 9] = [
    "PLUTO_CONNECTION",
    "PLUTO_MY_CLIENT",
    "PLUTO_MY_PORT",
    "PLUTO_MY_PROTOCOL",
    "PLUTO_PEER_CLIENT",
    "PLUTO_PEER_ID",
    "PLUTO_PEER_PORT",
    "PLUTO_PEER_PROTOCOL",
    "PLUTO_VERB",
];

fn always_and(more: &[&str]) -> Vec<String> {
    let mut names: Vec<_> = ALWAYS.iter().chain(more).map(ToString::to_string).collect();
    names.sort();
    names
}

#[test]
fn each_variable_of_an_up_is_named_when_it_is_missing_or_not_needed() {
    for file in [LIBRESWAN_4, LIBRESWAN_5, LIBRESWAN_54, ASYNC] {
        assert_eq!(
            required(&up(file, "net-net")),
            always_and(&["PLUTO_SA_REQID", "PLUTO_SA_TYPE"])
        );
    }
    for file in [LIBRESWAN_4, LIBRESWAN_5, LIBRESWAN_54] {
        assert_eq!(
            required(&up(file, "rw")),
            always_and(&["PLUTO_SA_REQID", "PLUTO_SA_TYPE"])
        );
        assert_eq!(
            required(&up(file, "xfrmi")),
            always_and(&["PLUTO_VIRT_INTERFACE", "PLUTO_XFRMI_ROUTE"])
        );
        // Without its interface, the tunnel is matched by its policy, which opens no unencrypted
        // traffic.
        assert_eq!(required(&up(file, "vti")), always_and(&[]));
    }
    for connection in ["net-net", "rw", "ports", "icmp", "marked", "ifid"] {
        assert_eq!(
            required(&up(STRONGSWAN, connection)),
            always_and(&["PLUTO_PROTO", "PLUTO_REQID"])
        );
    }
    // No daemon to capture: written from what these are known to send.
    assert_eq!(
        required(&libreswan43()),
        always_and(&["PLUTO_INTERFACE", "PLUTO_SA_REQID", "PLUTO_SA_TYPE"])
    );
    assert_eq!(required(&libreswan3_klips()), always_and(&["PLUTO_INTERFACE"]));
    assert_eq!(required(&openswan()), always_and(&["PLUTO_STACK", "PLUTO_VERSION"]));
    assert_eq!(
        required(&openswan_klips()),
        always_and(&["PLUTO_INTERFACE", "PLUTO_STACK", "PLUTO_VERSION"])
    );
    assert_eq!(required(&freeswan()), always_and(&["PLUTO_INTERFACE", "PLUTO_VERSION"]));
}
