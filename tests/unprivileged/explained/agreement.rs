//! What the tracer says, and what the emulator does.

use std::borrow::Cow;

use pluto_updown::net::Family;
use pluto_updown::netfilter::{Table, Target as RuleVerdict, normalize};
use pluto_updown::trace::{Assumption, HookTrace, RuleOrder, RulesetModel, Trace as PacketTrace, Walk, WalkEnd};
use proptest::prelude::*;

use super::packets::{ignorance, is_so, known, packets, vague};
use super::worlds::{calls, files, wanted, world};
use crate::support::emulator::{Emulator, Kind, Mss};
use crate::support::packet::{
    ConnectionDirection, ConnectionState, Direction, From, Packet, Trace, Verdict, before_routing, journey, trace,
};
use crate::support::property::cases;

fn kind(table: Table) -> Kind {
    match table {
        Table::Filter => Kind::Filter,
        Table::Nat => Kind::Nat,
        Table::Mangle => Kind::Mangle,
    }
}

fn verdict(end: WalkEnd) -> Verdict {
    match end {
        WalkEnd::Accepted => Verdict::Accept,
        WalkEnd::Dropped => Verdict::Drop,
        WalkEnd::Left => Verdict::Policy,
        WalkEnd::Source(address) => Verdict::Translate(Direction::Out, address),
        WalkEnd::Destination(address) => Verdict::Translate(Direction::In, address),
    }
}

/// A rule's chain, and its words as a listing spells them.
type Spelt = (String, Vec<String>);

fn words(rule: &str) -> Vec<String> {
    normalize(rule).into_iter().map(Cow::into_owned).collect()
}

fn decided_by(walk: &Walk) -> Option<Spelt> {
    let deciding = walk.decided_by.as_ref()?;
    Some((deciding.chain.to_string(), words(&deciding.rule.to_string())))
}

/// The same of `-A CHAIN rule`.
fn spelt(line: &str) -> Spelt {
    let mut line = line.splitn(3, ' ').skip(1);
    let chain = line.next().unwrap_or_default().to_owned();
    (chain, words(line.next().unwrap_or_default()))
}

fn sizes(walk: &Walk) -> Vec<Mss> {
    let met = walk.met.iter();
    met.filter_map(|deciding| match &deciding.rule.target {
        RuleVerdict::SetMss(size) => Some(Mss::Set(size.get())),
        RuleVerdict::ClampMssToPmtu => Some(Mss::Clamped),
        RuleVerdict::Accept
        | RuleVerdict::Drop
        | RuleVerdict::Return
        | RuleVerdict::Jump(_)
        | RuleVerdict::JumpUser(_)
        | RuleVerdict::Goto(_)
        | RuleVerdict::SetMark(_)
        | RuleVerdict::ClearMark(_)
        | RuleVerdict::Nflog(_)
        | RuleVerdict::Log(_)
        | RuleVerdict::Snat(_)
        | RuleVerdict::Dnat(_) => None,
    })
    .collect()
}

/// What differs between a walk and what the emulator did.
fn differs(walk: &Walk, trace: &Trace) -> Option<String> {
    let ours = (verdict(walk.end), decided_by(walk));
    let theirs = (trace.verdict, trace.decided_by.as_deref().map(spelt));
    // What comes back to the built-in chain goes on there: no rule of ours has decided.
    let is_left = walk.end == WalkEnd::Left && trace.verdict == Verdict::Policy;
    let same = (is_left || ours == theirs) && sizes(walk) == trace.mss;
    (!same).then(|| format!("explained: {ours:?}\nemulated:  {theirs:?}"))
}

fn of_first(tables: &Emulator, packet: &Packet, ours: &PacketTrace) -> Result<(), TestCaseError> {
    let theirs = journey(tables, packet);
    for HookTrace { table, built_in, walk } in &ours.hooks {
        let trace = theirs.trace_in(kind(*table), built_in.name());
        match (walk, trace) {
            (Some(walk), Some(trace)) => prop_assert_eq!(differs(walk, trace), None, "{} {:?}", table, built_in),
            (None, Some(trace)) => prop_assert_eq!(trace.verdict, Verdict::Policy),
            (_, None) => prop_assert!(false, "the emulator never came to {} {:?}", table, built_in),
        }
    }
    prop_assert_eq!(ours.packet.source, theirs.packet.source);
    prop_assert_eq!(ours.packet.destination, theirs.packet.destination);
    Ok(())
}

/// What becomes of a packet that is not the first of its connection: what nat has made of the first one was made of it, too.
fn of_later(tables: &Emulator, packet: &Packet, ours: &PacketTrace) -> Result<(), TestCaseError> {
    let inside = match packet.from {
        From::Local => packet.clone(),
        From::Device(_) | From::Ipsec { .. } => {
            let first = Packet {
                state: ConnectionState::New,
                direction: ConnectionDirection::Original,
                ..packet.clone()
            };
            let destination = before_routing(tables, &first).destination;
            match destination == packet.destination || packet.direction == ConnectionDirection::Reply {
                true => Packet {
                    destination,
                    ..packet.clone()
                },
                false => Packet {
                    destination,
                    ..packet.clone()
                }
                .requested(packet.destination, packet.destination_port),
            }
        }
    };
    let theirs = trace(tables, &inside);
    let walk = ours.hook().and_then(|station| station.walk.as_ref());
    match walk {
        Some(walk) => prop_assert_eq!(differs(walk, &theirs), None),
        None => prop_assert_eq!(theirs.verdict, Verdict::Policy),
    }
    Ok(())
}

fn agree(tables: &Emulator, packet: &Packet, ours: &PacketTrace) -> Result<(), TestCaseError> {
    match packet.state {
        ConnectionState::New => of_first(tables, packet, ours),
        ConnectionState::Established | ConnectionState::Related | ConnectionState::Invalid => {
            of_later(tables, packet, ours)
        }
    }
}

fn is_denied(assumption: &Assumption) -> bool {
    match assumption {
        Assumption::Holds(_) => false,
        Assumption::Fails(_) => true,
    }
}

fn ups() -> impl Strategy<Value = Vec<usize>> {
    prop::sample::subsequence((0..calls().len()).collect::<Vec<_>>(), 1..=calls().len()).prop_shuffle()
}

/// What becomes of a packet is one of the ways that were told. Several can be so at once, by the order in which tunnels came up.
fn one_agrees(tables: &Emulator, packet: &Packet, ours: &[&PacketTrace]) -> Result<(), TestCaseError> {
    prop_assert!(!ours.is_empty(), "nothing is told of {:?}", packet);
    let differences: Vec<_> = ours
        .iter()
        .map(|journey| agree(tables, packet, journey))
        .filter_map(Result::err)
        .collect();
    prop_assert!(differences.len() < ours.len(), "{:?}\n{:?}", differences, packet);
    Ok(())
}

proptest! {
    #![proptest_config(cases(60))]

    #[test]
    fn what_is_explained_of_a_packet_is_what_becomes_of_it(file in files(), up in ups(), packets in prop::collection::vec(packets(), 60)) {
        let mut world = world(&file, &up);
        let wanted = wanted(world.folder.path());
        let rules = RulesetModel::new(&wanted);
        let tables = world.tables.book(Family::Ipv4);
        for packet in &packets {
            let journeys = rules.traces(known(packet));
            prop_assert!(journeys.iter().all(|journey| journey.assumed.is_empty()), "{:?}", journeys);
            one_agrees(tables, packet, &journeys.iter().collect::<Vec<_>>())?;
        }
    }

    #[test]
    fn what_is_explained_of_a_packet_of_which_less_is_known_is_so(file in files(), up in ups(), packets in prop::collection::vec((packets(), ignorance()), 40)) {
        let mut world = world(&file, &up);
        let wanted = wanted(world.folder.path());
        let rules = RulesetModel::new(&wanted);
        let tables = world.tables.book(Family::Ipv4);
        for (packet, ignorance) in &packets {
            let whole = known(packet);
            let journeys = rules.traces(vague(whole.clone(), *ignorance));
            let so = journeys.iter().filter(|journey| journey.assumed.iter().all(|assumption| is_so(assumption, &whole)));
            one_agrees(tables, packet, &so.collect::<Vec<_>>())?;
            // What is told of each way is only what must be so; the first that fits has to be right.
            let asked = |journey: &&PacketTrace| journey.assumed.iter().all(|assumption| is_denied(assumption) || is_so(assumption, &whole));
            let first = journeys.iter().filter(|journey| journey.order == RuleOrder::First).find(asked);
            prop_assert!(first.is_some_and(|journey| journey.assumed.iter().all(|assumption| is_so(assumption, &whole))), "{:?} {:?}", first, packet);
        }
    }
}
