//! What is not known about a packet.

use std::net::IpAddr;

use super::packet::MatchAnswer;
use crate::netfilter::Direction;
use crate::selector::{Family, InterfacePattern, Traffic};

/// Something about a packet that a rule asks for and that is not known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Doubt {
    /// Whether it is of this kind, seen from its destination.
    Kind(Traffic),
    /// Whether it came in, or leaves, by such a device.
    Interface(Direction, InterfacePattern),
    /// Whether it answers a machine that is hidden behind this address.
    CtReplDst(IpAddr),
}

/// What was taken for granted about a packet, to follow one of its ways.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Assumption {
    /// It has all of this.
    Holds(Vec<Doubt>),
    /// It has not all of this.
    Fails(Vec<Doubt>),
}

/// All that was taken for granted so far.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Doubts(pub(super) Vec<Assumption>);

impl Doubts {
    fn decided(&self, holds: bool) -> impl Iterator<Item = &Doubt> {
        self.0.iter().flat_map(move |assumption| match (assumption, holds) {
            (Assumption::Holds(doubts), true) => &doubts[..],
            // That not all of several things hold does not say which.
            (Assumption::Fails(doubts), false) if doubts.len() == 1 => &doubts[..],
            (Assumption::Holds(_) | Assumption::Fails(_), _) => &[],
        })
    }

    /// Whether the same was taken for granted, in whatever order.
    pub(super) fn is_same_set(&self, other: &Self) -> bool {
        let has = |all: &Self, one: &Assumption| all.0.contains(one);
        self.0.len() == other.0.len() && self.0.iter().all(|assumption| has(other, assumption))
    }

    /// The answer that was given to this before, if one was.
    pub(super) fn answer_for(&self, doubt: Doubt) -> MatchAnswer {
        let known = self.decided(true).find_map(|known| known.is_answered_by(&doubt));
        let denied = || {
            self.decided(false)
                .any(|denied| doubt.is_answered_by(denied) == Some(true))
        };
        match known {
            Some(holds) => holds.into(),
            None if denied() => MatchAnswer::No,
            None => MatchAnswer::Unknown(doubt),
        }
    }

    /// Whether it is known that a packet is of no such kind.
    pub(super) fn rules_out_kind(&self, kind: &Traffic, family: Family) -> bool {
        self.decided(false).any(|denied| match denied {
            Doubt::Kind(denied) => kind.intersect(denied, family).as_ref() == Some(kind),
            Doubt::Interface(..) | Doubt::CtReplDst(_) => false,
        })
    }

    /// Whether it has been found that not all of this holds.
    pub(super) fn rule_out_all(&self, doubts: &[Doubt]) -> bool {
        let same = |assumption: &Assumption| *assumption == Assumption::Fails(doubts.to_vec());
        self.0.iter().any(same)
    }
}

impl Doubt {
    /// Whether another thing holds if this does; nothing, if that does not follow.
    fn is_answered_by(&self, other: &Self) -> Option<bool> {
        match (self, other) {
            (Self::Interface(direction, known), Self::Interface(asked_direction, asked))
                if direction == asked_direction =>
            {
                known.answers(asked)
            }
            (Self::CtReplDst(known), Self::CtReplDst(asked)) => Some(known == asked),
            (Self::Kind(_) | Self::Interface(..) | Self::CtReplDst(_), _) => None,
        }
    }
}
