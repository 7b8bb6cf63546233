//! The possible orders of a chain's rules.

use std::collections::BTreeSet;
use std::rc::Rc;

use crate::firewall::{ChainRegion, DesiredChain};
use crate::netfilter::Rule;

/// The rules of a chain.
#[derive(Debug)]
pub(crate) struct OrderedRules<'a> {
    pub(crate) rules: Vec<&'a Rule>,
    /// The region and the part of each rule.
    places: Vec<(ChainRegion, usize)>,
}

impl<'a> OrderedRules<'a> {
    pub(crate) fn new(chain: &'a DesiredChain) -> Self {
        Self {
            rules: chain.rules().collect(),
            places: chain.positions(),
        }
    }

    /// The orders that make a difference to a packet, given which rules are for it.
    ///
    /// The record does not contain the order in which parts were installed. Where several parts
    /// match the packet, only the first that decides matters. So it is enough that each is the
    /// first once.
    pub(crate) fn orders(&self, is_asked: impl Fn(&Rule) -> bool) -> Vec<Rc<[usize]>> {
        let asked: BTreeSet<_> = (self.places.iter().zip(&self.rules))
            .filter(|(_, rule)| is_asked(rule))
            .map(|(place, _)| *place)
            .collect();
        let firsts = |region: ChainRegion| {
            let parts: Vec<_> = asked.iter().filter(|(of, _)| *of == region).map(Some).collect();
            if parts.is_empty() { vec![None] } else { parts }
        };
        let tails = firsts(ChainRegion::Tail);
        let pairs = firsts(ChainRegion::Head)
            .into_iter()
            .flat_map(|head| tails.iter().map(move |tail| [head, *tail]));
        pairs.map(|firsts| self.with_first(firsts)).collect()
    }

    fn with_first(&self, firsts: [Option<&(ChainRegion, usize)>; 2]) -> Rc<[usize]> {
        let mut order: Vec<_> = (0..self.rules.len()).collect();
        order.sort_by_key(|index| {
            let place = self.places.get(*index);
            (place.map(|(region, _)| *region), !firsts.contains(&place), *index)
        });
        order.into()
    }
}
