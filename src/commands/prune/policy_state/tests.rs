use std::collections::BTreeSet;

use super::*;
use crate::daemon::{FirewallAction, RawEnv, Tunnel, read_call};
use crate::firewall::{NatExemption, PolicyContext, TunnelId, TunnelKey, tunnel_rules};
use crate::net::Mark;
use crate::settings::{self, Esp};
use crate::state::FORMAT;

const STRONGSWAN: &str = "PLUTO_VERSION=1.1 PLUTO_VERB=up-client PLUTO_CONNECTION=net PLUTO_INTERFACE=eth0 PLUTO_REQID=7 \
    PLUTO_PROTO=esp PLUTO_UNIQUEID=1 PLUTO_ME=192.0.2.1 PLUTO_MY_ID=a PLUTO_MY_CLIENT=10.1.0.0/24 PLUTO_MY_PORT=0 \
    PLUTO_MY_PROTOCOL=0 PLUTO_PEER=192.0.2.2 PLUTO_PEER_ID=b PLUTO_PEER_CLIENT=10.2.0.0/24 PLUTO_PEER_PORT=0 PLUTO_PEER_PROTOCOL=0";

const LIBRESWAN: &str = "PLUTO_VERB=up-client PLUTO_CONNECTION=net PLUTO_CONN_KIND=CK_PERMANENT PLUTO_STACK=xfrm PLUTO_INTERFACE=eth0 \
    PLUTO_CLIENT_FAMILY=ipv4 PLUTO_VIRT_INTERFACE=NULL PLUTO_XFRMI_ROUTE= VTI_IFACE= PLUTO_ME=192.0.2.1 PLUTO_MY_ID=@a \
    PLUTO_MY_CLIENT=10.1.0.0/24 PLUTO_MY_PORT=0 PLUTO_MY_PROTOCOL=0 PLUTO_PEER=192.0.2.2 PLUTO_PEER_ID=@b \
    PLUTO_PEER_CLIENT=10.2.0.0/24 PLUTO_PEER_PORT=0 PLUTO_PEER_PROTOCOL=0 PLUTO_SA_REQID=16389 PLUTO_SA_TYPE=ESP SPI_IN=0x1 SPI_OUT=0x2";

/// The record of a call with these changes.
fn record(variables: &str, changes: &[(&str, &str)]) -> TunnelRecord {
    let pairs = variables
        .split_ascii_whitespace()
        .filter_map(|word| word.split_once('='));
    let pairs = pairs.chain(changes.iter().copied());
    let event = read_call(&RawEnv::new([], pairs.map(|(name, value)| (name.into(), value.into())))).unwrap();
    let FirewallAction::Open(tunnel) = event.firewall else {
        panic!("an up")
    };
    of_tunnel(&tunnel)
}

fn of_tunnel(tunnel: &Tunnel) -> TunnelRecord {
    let key = TunnelKey::from_tunnel(tunnel);
    let id: TunnelId = key.ids().next().unwrap();
    let policy = settings::Policy::default();
    let context = PolicyContext {
        policy: &policy,
        esp: Esp::default(),
        peers: &BTreeSet::new(),
        ipcomp_hosts: &tunnel.ipcomp_hosts().into_iter().collect(),
        nat_exemption: NatExemption::Never,
        connected: &[],
        interfaces: &[],
        path_mtu: None,
    };
    TunnelRecord {
        format: FORMAT,
        tunnel_rules: tunnel_rules(tunnel, &id, &context).unwrap(),
        id,
        key,
        up_counting: tunnel.up_counting,
        count: 1,
        since: 0,
        daemon: None,
        tunnel: tunnel.clone(),
        policy,
        openers: Vec::new(),
        effective: None,
        turn: 0,
    }
}

fn policy(direction: XfrmDirection, source: &str, destination: &str, reqids: &[u32]) -> XfrmPolicy {
    XfrmPolicy {
        direction,
        source: source.parse().unwrap(),
        destination: destination.parse().unwrap(),
        protocol: 0,
        source_port: (0, 0),
        destination_port: (0, 0),
        reqids: reqids.to_vec(),
        mark: None,
        if_id: 0,
    }
}

fn judged(record: &TunnelRecord, policies: &[XfrmPolicy]) -> PolicyState {
    let kernel = KernelPolicies::new(policies.to_vec(), BTreeMap::new());
    policy_state(&SoughtTunnel::from(record), DaemonLife::Gone, &kernel)
}

/// A policy of some other tunnel's.
fn other() -> XfrmPolicy {
    policy(XfrmDirection::Out, "10.8.0.0/24", "10.9.0.0/24", &[99])
}

#[test]
fn a_policy_of_any_direction_between_its_networks_with_its_number_keeps_a_tunnel() {
    for (direction, source, destination) in [
        (XfrmDirection::Out, "10.1.0.0/24", "10.2.0.0/24"),
        (XfrmDirection::In, "10.2.0.0/24", "10.1.0.0/24"),
        (XfrmDirection::Forward, "10.2.0.0/24", "10.1.0.0/24"),
    ] {
        let up = policy(direction, source, destination, &[7]);
        assert_eq!(judged(&record(STRONGSWAN, &[]), &[other(), up]), PolicyState::Up);
        let compressed = policy(direction, source, destination, &[16390, 16389]);
        assert_eq!(judged(&record(LIBRESWAN, &[]), &[compressed]), PolicyState::Up);
        // The same policy in the other direction is none.
        let turned = policy(direction, destination, source, &[7]);
        assert_eq!(judged(&record(STRONGSWAN, &[]), &[turned]), PolicyState::Gone);
    }
}

#[test]
fn a_tunnel_without_a_policy_is_gone() {
    for variables in [STRONGSWAN, LIBRESWAN] {
        assert_eq!(judged(&record(variables, &[]), &[other()]), PolicyState::Gone);
        assert_eq!(judged(&record(variables, &[]), &[]), PolicyState::Gone);
    }
}

#[test]
fn the_trap_that_libreswan_leaves_is_no_tunnel() {
    let trap = policy(XfrmDirection::Out, "10.1.0.0/24", "10.2.0.0/24", &[0]);
    assert_eq!(judged(&record(LIBRESWAN, &[]), &[trap]), PolicyState::Gone);
    let shunt = policy(XfrmDirection::Out, "10.1.0.0/24", "10.2.0.0/24", &[]);
    assert_eq!(judged(&record(LIBRESWAN, &[]), &[shunt]), PolicyState::Gone);
}

#[test]
fn another_number_between_its_networks_leaves_a_doubt() {
    let renumbered = policy(XfrmDirection::In, "10.2.0.0/24", "10.1.0.0/24", &[8]);
    assert_eq!(
        judged(&record(STRONGSWAN, &[]), &[renumbered]),
        PolicyState::Doubtful(PruneDoubt::OtherNumber(8))
    );
}

#[test]
fn its_number_between_other_networks_is_another_tunnels_unless_hosts_can_move() {
    let reused = policy(XfrmDirection::Out, "10.8.0.0/24", "10.9.0.0/24", &[7]);
    assert_eq!(judged(&record(STRONGSWAN, &[]), &[reused]), PolicyState::Gone);
    let host = record(
        STRONGSWAN,
        &[
            ("PLUTO_VERB", "up-host"),
            ("PLUTO_MY_CLIENT", "192.0.2.1/32"),
            ("PLUTO_PEER_CLIENT", "192.0.2.2/32"),
        ],
    );
    let moved = policy(XfrmDirection::Out, "192.0.2.1/32", "198.51.100.7/32", &[7]);
    assert!(matches!(
        judged(&host, &[moved]),
        PolicyState::Doubtful(PruneDoubt::OtherAddresses(..))
    ));
}

#[test]
fn a_daemon_that_runs_without_any_policy_in_the_kernel_leaves_a_doubt() {
    let nothing = KernelPolicies::default();
    let record = record(STRONGSWAN, &[]);
    assert_eq!(
        policy_state(&SoughtTunnel::from(&record), DaemonLife::Alive, &nothing),
        PolicyState::Doubtful(PruneDoubt::NoPolicies)
    );
    let kernel = KernelPolicies::new(vec![other()], BTreeMap::new());
    assert_eq!(
        policy_state(&SoughtTunnel::from(&record), DaemonLife::Alive, &kernel),
        PolicyState::Gone
    );
}

#[test]
fn a_tunnel_with_an_interface_goes_by_what_the_interfaces_packets_bear() {
    let vti = record(
        LIBRESWAN,
        &[
            ("VTI_IFACE", "vti1"),
            ("CONNMARK_IN", "5/0xffffffff"),
            ("CONNMARK_OUT", "5/0xffffffff"),
        ],
    );
    let interface: Interface = "vti1".parse().unwrap();
    assert_eq!(vti.tunnel_rules.interface, Some(interface.clone()));
    let marked = |value| XfrmPolicy {
        mark: Some(Mark { value, mask: u32::MAX }),
        ..policy(XfrmDirection::Out, "10.1.0.0/24", "10.2.0.0/24", &[16389])
    };
    let numbered = XfrmPolicy {
        if_id: 5,
        ..policy(XfrmDirection::Out, "10.1.0.0/24", "10.2.0.0/24", &[16389])
    };
    let with = |tag: Option<TunnelTag>, policy: &XfrmPolicy| {
        let tags = tag.map(|tag| (interface.clone(), tag)).into_iter().collect();
        let kernel = KernelPolicies::new(vec![policy.clone()], tags);
        policy_state(&SoughtTunnel::from(&vti), DaemonLife::Gone, &kernel)
    };
    assert_eq!(with(Some(TunnelTag::Marks(4, 5)), &marked(5)), PolicyState::Up);
    assert_eq!(with(Some(TunnelTag::Marks(6, 6)), &marked(5)), PolicyState::Gone);
    assert_eq!(with(Some(TunnelTag::IfId(5)), &numbered), PolicyState::Up);
    assert_eq!(with(Some(TunnelTag::IfId(6)), &numbered), PolicyState::Gone);
    // Without the interface itself, the networks are enough.
    assert_eq!(with(None, &marked(5)), PolicyState::Up);
}

#[test]
fn each_part_of_a_range_is_the_ranges() {
    let range = record(LIBRESWAN, &[("PLUTO_PEER_CLIENT", "10.2.0.5-10.2.0.9")]);
    let part = policy(XfrmDirection::Out, "10.1.0.0/24", "10.2.0.6/31", &[16389]);
    assert_eq!(judged(&range, &[part]), PolicyState::Up);
    let beside = policy(XfrmDirection::Out, "10.1.0.0/24", "10.2.0.8/30", &[16389]);
    assert_eq!(judged(&range, &[beside]), PolicyState::Gone);
}
