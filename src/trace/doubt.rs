//! Unknown properties of a packet, and assumptions about them.

use std::net::IpAddr;

use super::packet::MatchAnswer;
use crate::net::{Family, InterfacePattern, Traffic};
use crate::netfilter::Direction;

/// A property of a packet that a rule matches and that is not known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Doubt {
    /// Whether it is of this kind, seen from its destination.
    Kind(Traffic),
    /// Whether it came in, or leaves, by such an interface.
    Interface(Direction, InterfacePattern),
    /// Whether it is a reply to a host that is source-NATed to this address.
    CtReplDst(IpAddr),
}

/// An assumption about a packet, to follow one of its paths.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Assumption {
    /// All of these hold.
    Holds(Vec<Doubt>),
    /// Not all of these hold.
    Fails(Vec<Doubt>),
}

/// All assumptions so far.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Doubts(pub(super) Vec<Assumption>);

impl Doubts {
    fn decided(&self, holds: bool) -> impl Iterator<Item = &Doubt> {
        self.0.iter().flat_map(move |assumption| match (assumption, holds) {
            (Assumption::Holds(doubts), true) => &doubts[..],
            // If not all of several doubts hold, it is unknown which one fails.
            (Assumption::Fails(doubts), false) if doubts.len() == 1 => &doubts[..],
            (Assumption::Holds(_) | Assumption::Fails(_), _) => &[],
        })
    }

    /// Whether both have the same assumptions, in whatever order.
    pub(crate) fn is_same_set(&self, other: &Self) -> bool {
        let has = |all: &Self, one: &Assumption| all.0.contains(one);
        self.0.len() == other.0.len() && self.0.iter().all(|assumption| has(other, assumption))
    }

    /// The answer to a doubt, as far as it follows from the assumptions.
    pub(crate) fn answer_for(&self, doubt: Doubt) -> MatchAnswer {
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
    pub(crate) fn rules_out_kind(&self, kind: &Traffic, family: Family) -> bool {
        self.decided(false).any(|denied| match denied {
            Doubt::Kind(denied) => kind.intersect(denied, family).as_ref() == Some(kind),
            Doubt::Interface(..) | Doubt::CtReplDst(_) => false,
        })
    }

    /// Whether it was assumed that not all of these doubts hold.
    pub(crate) fn rule_out_all(&self, doubts: &[Doubt]) -> bool {
        let same = |assumption: &Assumption| *assumption == Assumption::Fails(doubts.to_vec());
        self.0.iter().any(same)
    }
}

impl Doubt {
    /// Whether another doubt holds if this one does; `None` if that does not follow.
    fn is_answered_by(&self, other: &Self) -> Option<bool> {
        match (self, other) {
            (Self::Interface(direction, known), Self::Interface(asked_direction, asked))
                if direction == asked_direction =>
            {
                known.decides(asked)
            }
            (Self::CtReplDst(known), Self::CtReplDst(asked)) => Some(known == asked),
            (Self::Kind(_) | Self::Interface(..) | Self::CtReplDst(_), _) => None,
        }
    }
}
