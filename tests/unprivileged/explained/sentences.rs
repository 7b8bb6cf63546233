//! What a tunnel is said to let pass on each of its four ways, held against packets on them.

use std::net::IpAddr;

use pluto_updown::daemon::SaMatch;
use pluto_updown::firewall::{AllowedTraffic, PacketPath, filter_paths};
use pluto_updown::net::{Family, Icmp, Network, PortProtocol, Ports, Traffic};
use pluto_updown::netfilter::{Backend, Direction, Ruleset};
use pluto_updown::settings::{Allow, Service};
use pluto_updown::state::{Store, TunnelRecord};
use pluto_updown::trace::{ConnectionDirection, Endpoint, Packet, PacketCtState, RulesetModel, WalkEnd};
use proptest::prelude::*;

use super::worlds::{calls, desired_state, files, world};
use crate::support::property::cases;
use crate::support::world::World;

const LANES: [PacketPath; 4] = [
    PacketPath::ForwardIn,
    PacketPath::ForwardOut,
    PacketPath::Input,
    PacketPath::Output,
];

/// The only tunnel that is up, if its settings let it.
fn record(world: &World) -> Option<TunnelRecord> {
    let store = Store::open_unlocked(&world.folder.path().join("state"), 1);
    let ruleset = Ruleset {
        backend: Backend::Nft,
        family: Family::Ipv4,
    };
    store.tunnels(ruleset).expect("a record").pop()
}

fn kinds() -> Vec<Traffic> {
    let ports = |protocol, my, peer| Traffic::Ports {
        protocol,
        local: Ports::single(my),
        remote: Ports::single(peer),
    };
    vec![
        ports(PortProtocol::Tcp, 22, 40000),
        ports(PortProtocol::Tcp, 80, 40000),
        ports(PortProtocol::Udp, 550, 40000),
        Traffic::Icmp(Icmp::Code(8, 0)),
        Traffic::Icmp(Icmp::Code(0, 0)),
    ]
}

fn tunnel_endpoint(record: &TunnelRecord) -> Endpoint {
    match &record.tunnel.sa_match {
        SaMatch::Interface(interface) => Endpoint::Unencrypted(Some(interface.clone())),
        SaMatch::Policy { protocol, reqid } => Endpoint::Ipsec {
            interface: None,
            reqid: *reqid,
            protocol: *protocol,
        },
    }
}

/// A packet on one of the ways, between the first addresses of the networks.
fn packet(
    record: &TunnelRecord,
    path: PacketPath,
    local: &Network,
    kind: Traffic,
    connection: PacketCtState,
) -> Packet {
    let (local, remote): (IpAddr, IpAddr) = (local.first(), record.tunnel.remote_client.first());
    let inward = path.direction() == Direction::In;
    let is_here = [PacketPath::Input, PacketPath::Output].contains(&path);
    let other = if is_here {
        Endpoint::Gateway
    } else {
        Endpoint::Unencrypted(None)
    };
    let (source, destination) = if inward { (remote, local) } else { (local, remote) };
    let (from, to) = if inward {
        (tunnel_endpoint(record), other)
    } else {
        (other, tunnel_endpoint(record))
    };
    Packet {
        source,
        destination,
        kind,
        from,
        to,
        connection,
        consented: false,
        requested: None,
        answered_at: Some(source),
    }
}

fn is_offered(services: &[Service], kind: &Traffic) -> bool {
    let mut offered = services.iter().flat_map(|service| service.traffic(Family::Ipv4));
    offered.any(|service| service.intersect(kind, Family::Ipv4).as_ref() == Some(kind))
}

/// What the words promise; nothing, where they promise nothing of such a packet.
fn promised_verdict(
    path: PacketPath,
    passes: Option<&AllowedTraffic>,
    record: &TunnelRecord,
    kind: &Traffic,
    connection: PacketCtState,
) -> Option<WalkEnd> {
    let is_its = record.key.traffic.intersect(kind, Family::Ipv4).as_ref() == Some(kind);
    let is_reply = connection == PacketCtState::Established(ConnectionDirection::Reply);
    match passes {
        // No machine of the tunnel's is there: what comes was sent there by a rule of the administrator's.
        None if path.direction() == Direction::In => Some(match &record.effective_policy().allow {
            Allow::All => WalkEnd::Left,
            Allow::None => WalkEnd::Dropped,
            Allow::Replies if is_its && is_reply => WalkEnd::Left,
            Allow::Services(services) if is_its && (is_reply || is_offered(services, kind)) => WalkEnd::Left,
            Allow::Replies | Allow::Services(_) => WalkEnd::Dropped,
        }),
        None | Some(AllowedTraffic::Undecided) => Some(WalkEnd::Left),
        Some(AllowedTraffic::All) if is_its => Some(WalkEnd::Accepted),
        Some(AllowedTraffic::All) => Some(WalkEnd::Left),
        Some(AllowedTraffic::None) => Some(WalkEnd::Dropped),
        Some(AllowedTraffic::Replies) if is_its && is_reply => Some(WalkEnd::Accepted),
        Some(AllowedTraffic::Replies) => Some(WalkEnd::Dropped),
        Some(AllowedTraffic::Services(services)) => {
            let passes = is_its && (is_offered(services, kind) || is_reply);
            Some(if passes { WalkEnd::Accepted } else { WalkEnd::Dropped })
        }
    }
}

proptest! {
    #![proptest_config(cases(150))]

    #[test]
    fn what_a_tunnel_is_said_to_let_pass_passes_and_the_rest_does_not(file in files(), up in 0..calls().len()) {
        // Networks that are blocked, and other neighbours, have the last word about where packets go on unencrypted.
        let file = file.replace("when-down = \"block\"", "").replace("between = [[\"10.1.0.0/24\", \"10.5.0.0/24\"]]", "");
        // What `only-ipsec` forbids depends on where the packet goes on, which is not said here.
        let file: String = file.lines().filter(|line| !line.starts_with("only-ipsec")).map(|line| format!("{line}\n")).collect();
        let world = world(&file, &[up]);
        let Some(record) = record(&world) else { return Ok(()) };
        let wanted = desired_state(world.folder.path());
        let rules = RulesetModel::new(&wanted);
        let paths = filter_paths(&record.tunnel, record.effective_policy());
        for path in LANES {
            let filter_path = paths.iter().find(|filter_path| filter_path.path == path);
            let local = filter_path.map_or(record.tunnel.local_client, |filter_path| filter_path.local);
            let is_in_clear = matches!(tunnel_endpoint(&record), Endpoint::Unencrypted(_));
            for kind in kinds() {
                for connection in [
                    PacketCtState::New,
                    PacketCtState::Established(ConnectionDirection::Original),
                    PacketCtState::Established(ConnectionDirection::Reply),
                ] {
                    // What a tunnel's interface leaves alone is unencrypted to the gateway's own rules.
                    let Some(end) = promised_verdict(path, filter_path.map(|filter_path| &filter_path.allowed), &record, &kind, connection)
                        .filter(|end| *end != WalkEnd::Left || !is_in_clear) else { continue };
                    let seen = match path.direction() {
                        Direction::In => kind.clone(),
                        Direction::Out => pluto_updown::trace::seen_from_destination(Direction::Out, &kind),
                    };
                    let ends: Vec<_> = rules.traces(packet(&record, path, &local, seen, connection)).iter().map(|trace| trace.walk_end()).collect();
                    prop_assert!(ends.iter().all(|other| *other == end), "{path:?} {kind:?} {connection:?} {filter_path:?}: {ends:?}");
                }
            }
        }
    }
}
