//! What a tunnel is said to let pass on each of its four ways, held against packets on them.

use std::net::IpAddr;

use pluto_updown::contract::Attachment;
use pluto_updown::netfilter::{Backend, Direction, Ruleset};
use pluto_updown::plan::{Connection, ConnectionDirection, End, Leg, Packet, Passes, Path, Rules, ways};
use pluto_updown::record::{Store, TunnelRecord};
use pluto_updown::selector::{Family, Icmp, Network, PortProtocol, Ports, Traffic};
use proptest::prelude::*;

use super::worlds::{calls, files, wanted, world};
use crate::support::world::World;

const LANES: [Path; 4] = [Path::ForwardIn, Path::ForwardOut, Path::Input, Path::Output];

/// The only tunnel that is up, if its settings let it.
fn record(world: &World) -> Option<TunnelRecord> {
    let store = Store::peek(&world.folder.path().join("state"), 1);
    let ruleset = Ruleset {
        backend: Backend::Nft,
        family: Family::Ipv4,
    };
    store.tunnels(ruleset).expect("a record").pop()
}

fn kinds() -> Vec<Traffic> {
    let ports = |protocol, my, peer| Traffic::Ports {
        protocol,
        my: Ports::single(my),
        peer: Ports::single(peer),
    };
    vec![
        ports(PortProtocol::Tcp, 22, 40000),
        ports(PortProtocol::Tcp, 80, 40000),
        ports(PortProtocol::Udp, 550, 40000),
        Traffic::Icmp(Icmp::Code(8, 0)),
        Traffic::Icmp(Icmp::Code(0, 0)),
    ]
}

fn leg(record: &TunnelRecord) -> Leg {
    match &record.tunnel.attachment {
        Attachment::Device(device) => Leg::Clear(Some(device.clone())),
        Attachment::Policy { protocol, reqid } => Leg::Ipsec {
            device: None,
            reqid: *reqid,
            protocol: *protocol,
        },
    }
}

/// A packet on one of the ways, between the first addresses of the networks.
fn packet(record: &TunnelRecord, path: Path, near: &Network, kind: Traffic, connection: Connection) -> Packet {
    let (near, far): (IpAddr, IpAddr) = (near.first(), record.tunnel.peer_client.first());
    let inward = path.direction() == Direction::In;
    let is_here = [Path::Input, Path::Output].contains(&path);
    let other = if is_here { Leg::Gateway } else { Leg::Clear(None) };
    let (source, destination) = if inward { (far, near) } else { (near, far) };
    let (from, to) = if inward {
        (leg(record), other)
    } else {
        (other, leg(record))
    };
    Packet {
        source,
        destination,
        kind,
        from,
        to,
        connection,
        answered_at: Some(source),
    }
}

/// What the words promise; nothing, where they promise nothing of such a packet.
fn promised(passes: Option<&Passes>, record: &TunnelRecord, kind: &Traffic, connection: Connection) -> Option<End> {
    let is_its = record.key.traffic.and(kind, Family::Ipv4).as_ref() == Some(kind);
    let is_reply = connection == Connection::Established(ConnectionDirection::Reply);
    match passes {
        None | Some(Passes::Unknown) => Some(End::Left),
        Some(Passes::All) if is_its => Some(End::Accepted),
        Some(Passes::All) => Some(End::Left),
        Some(Passes::Nothing) => Some(End::Dropped),
        Some(Passes::Replies) if is_its && is_reply => Some(End::Accepted),
        Some(Passes::Replies) => Some(End::Dropped),
        Some(Passes::Services(services)) => {
            let mut offered = services.iter().flat_map(|service| service.traffic(Family::Ipv4));
            let is_offered = offered.any(|service| service.and(kind, Family::Ipv4).as_ref() == Some(kind));
            let passes = is_its && (is_offered || is_reply);
            Some(if passes { End::Accepted } else { End::Dropped })
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_a_tunnel_is_said_to_let_pass_passes_and_the_rest_does_not(file in files(), up in 0..calls().len()) {
        // Networks that are held apart, and other neighbours, have the last word about where packets go on in clear.
        let file = file.replace("when-down = \"block\"", "").replace("between = [[\"10.1.0.0/24\", \"10.5.0.0/24\"]]", "");
        // What `only-ipsec` forbids depends on where the packet goes on, which is not said here.
        let file: String = file.lines().filter(|line| !line.starts_with("only-ipsec")).map(|line| format!("{line}\n")).collect();
        let world = world(&file, &[up]);
        let Some(record) = record(&world) else { return Ok(()) };
        let wanted = wanted(world.folder.path());
        let rules = Rules::of(&wanted);
        let told = ways(&record.tunnel, record.effective_policy());
        for path in LANES {
            let way = told.iter().find(|way| way.path == path);
            let near = way.map_or(record.tunnel.my_client, |way| way.near);
            let is_in_clear = matches!(leg(&record), Leg::Clear(_));
            for kind in kinds() {
                for connection in [
                    Connection::New,
                    Connection::Established(ConnectionDirection::Original),
                    Connection::Established(ConnectionDirection::Reply),
                ] {
                    // What a tunnel's device leaves alone is in clear to the gateway's own rules.
                    let Some(end) = promised(way.map(|way| &way.passes), &record, &kind, connection)
                        .filter(|end| *end != End::Left || !is_in_clear) else { continue };
                    let seen = match path.direction() {
                        Direction::In => kind.clone(),
                        Direction::Out => pluto_updown::plan::from_its_destination(Direction::Out, &kind),
                    };
                    let ends: Vec<_> = rules.journeys(packet(&record, path, &near, seen, connection)).iter().map(|journey| journey.end()).collect();
                    prop_assert!(ends.iter().all(|other| *other == end), "{path:?} {kind:?} {connection:?} {way:?}: {ends:?}");
                }
            }
        }
    }
}
