//! What the tracer says, and what the emulator does.

use std::borrow::Cow;

use pluto_updown::net::Family;
use pluto_updown::netfilter::{Table, Target as RuleVerdict, normalize};
use pluto_updown::trace::{Assumption, HookTrace, RuleOrder, RulesetModel, Trace as PacketTrace, Walk, WalkEnd};
use proptest::prelude::*;

use super::packets::{fully_known, is_so, packets, unknown_properties, with_less_known};
use super::worlds::{calls, desired_state, files, world};
use crate::support::emulator::{Emulator, Kind, Mss};
use crate::support::packet::{
    ConnectionDirection, ConnectionState, Direction, From, Packet, Trace, Verdict, before_routing, trace, trace_packet,
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
fn normal_form(line: &str) -> Spelt {
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
    let explained = (verdict(walk.end), decided_by(walk));
    let emulated = (trace.verdict, trace.decided_by.as_deref().map(normal_form));
    // What comes back to the built-in chain goes on there: no rule of ours has decided.
    let is_left = walk.end == WalkEnd::Left && trace.verdict == Verdict::Policy;
    let same = (is_left || explained == emulated) && sizes(walk) == trace.mss;
    (!same).then(|| format!("explained: {explained:?}\nemulated:  {emulated:?}"))
}

fn of_first(tables: &Emulator, packet: &Packet, explained: &PacketTrace) -> Result<(), TestCaseError> {
    let emulated = trace_packet(tables, packet);
    for HookTrace { table, built_in, walk } in &explained.hooks {
        let trace = emulated.trace_in(kind(*table), built_in.name());
        match (walk, trace) {
            (Some(walk), Some(trace)) => prop_assert_eq!(differs(walk, trace), None, "{} {:?}", table, built_in),
            (None, Some(trace)) => prop_assert_eq!(trace.verdict, Verdict::Policy),
            (_, None) => prop_assert!(false, "the emulator never came to {} {:?}", table, built_in),
        }
    }
    prop_assert_eq!(explained.packet.source, emulated.packet.source);
    prop_assert_eq!(explained.packet.destination, emulated.packet.destination);
    Ok(())
}

/// The verdict on a packet that is not the first of its connection: what nat has made of the first one was made of it, too.
fn of_later(tables: &Emulator, packet: &Packet, explained: &PacketTrace) -> Result<(), TestCaseError> {
    let inside = match packet.from {
        From::Local => packet.clone(),
        From::Unencrypted(_) | From::Ipsec { .. } => {
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
    let emulated = trace(tables, &inside);
    let walk = explained.hook().and_then(|hook| hook.walk.as_ref());
    match walk {
        Some(walk) => prop_assert_eq!(differs(walk, &emulated), None),
        None => prop_assert_eq!(emulated.verdict, Verdict::Policy),
    }
    Ok(())
}

fn agree(tables: &Emulator, packet: &Packet, explained: &PacketTrace) -> Result<(), TestCaseError> {
    match packet.state {
        ConnectionState::New => of_first(tables, packet, explained),
        ConnectionState::Established | ConnectionState::Related | ConnectionState::Invalid => {
            of_later(tables, packet, explained)
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

/// The verdict on a packet is one of the paths that were listed. Several can be so at once, by the order in which tunnels came up.
fn one_agrees(tables: &Emulator, packet: &Packet, explained: &[&PacketTrace]) -> Result<(), TestCaseError> {
    prop_assert!(!explained.is_empty(), "nothing is told of {:?}", packet);
    let differences: Vec<_> = explained
        .iter()
        .map(|trace| agree(tables, packet, trace))
        .filter_map(Result::err)
        .collect();
    prop_assert!(differences.len() < explained.len(), "{:?}\n{:?}", differences, packet);
    Ok(())
}

proptest! {
    #![proptest_config(cases(60))]

    #[test]
    fn what_is_explained_of_a_packet_is_what_happens_to_it(file in files(), up in ups(), packets in prop::collection::vec(packets(), 60)) {
        let mut world = world(&file, &up);
        let wanted = desired_state(world.folder.path());
        let rules = RulesetModel::new(&wanted);
        let tables = world.tables.emulator(Family::Ipv4);
        for packet in &packets {
            let journeys = rules.traces(fully_known(packet));
            prop_assert!(journeys.iter().all(|trace| trace.assumed.is_empty()), "{:?}", journeys);
            one_agrees(tables, packet, &journeys.iter().collect::<Vec<_>>())?;
        }
    }

    #[test]
    fn what_is_explained_of_a_packet_of_which_less_is_known_is_so(file in files(), up in ups(), packets in prop::collection::vec((packets(), unknown_properties()), 40)) {
        let mut world = world(&file, &up);
        let wanted = desired_state(world.folder.path());
        let rules = RulesetModel::new(&wanted);
        let tables = world.tables.emulator(Family::Ipv4);
        for (packet, ignorance) in &packets {
            let whole = fully_known(packet);
            let journeys = rules.traces(with_less_known(whole.clone(), *ignorance));
            let so = journeys.iter().filter(|trace| trace.assumed.iter().all(|assumption| is_so(assumption, &whole)));
            one_agrees(tables, packet, &so.collect::<Vec<_>>())?;
            // What is said of each path is only what must be so; the first that fits has to be right.
            let asked = |trace: &&PacketTrace| trace.assumed.iter().all(|assumption| is_denied(assumption) || is_so(assumption, &whole));
            let first = journeys.iter().filter(|trace| trace.order == RuleOrder::First).find(asked);
            prop_assert!(first.is_some_and(|trace| trace.assumed.iter().all(|assumption| is_so(assumption, &whole))), "{:?} {:?}", first, packet);
        }
    }
}
