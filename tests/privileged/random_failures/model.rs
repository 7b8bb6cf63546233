//! What should stand, by how each call ended.

use std::collections::BTreeMap;

use pluto_updown::plan::TunnelKey;
use pluto_updown::updown_env::{Tunnel, UpCounting};

/// What a call was for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verb {
    Up,
    Down,
}

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// Well.
    Done,
    /// It told the daemon that nothing was changed: a `down` is noted, and the next call executes it.
    Refused,
    /// It told the daemon that it failed, and the next call finds out what was changed: an `up` that can be called again is undone, whatever
    /// is counted and every `down` is completed.
    Open,
}

/// How many ups of each tunnel are open.
#[derive(Clone, Debug, Default)]
pub(crate) struct Model {
    up: BTreeMap<usize, u32>,
}

impl Model {
    pub(crate) fn call(&mut self, which: usize, tunnel: &Tunnel, verb: Verb, ended: Ended) {
        let is_counted = tunnel.up_counting == UpCounting::Counted;
        match (verb, ended) {
            (Verb::Up, Ended::Refused) => {}
            (Verb::Up, Ended::Open) if !is_counted => {}
            (Verb::Up, Ended::Done | Ended::Open) => {
                let count = self.up.entry(which).or_default();
                *count = if is_counted { *count + 1 } else { 1 };
            }
            // What cannot be removed now is noted, and removed before anything else is done.
            (Verb::Down, _) => {
                if let Some(count) = self.up.get_mut(&which) {
                    *count -= 1;
                    if *count == 0 {
                        self.up.remove(&which);
                    }
                }
            }
        }
    }

    /// Which tunnels stand, and how many times each.
    pub(crate) fn standing(&self) -> impl Iterator<Item = (usize, u32)> + '_ {
        self.up.iter().map(|(which, count)| (*which, *count))
    }

    /// What the record should say: the name of each tunnel, and how many times it is up.
    pub(crate) fn record(&self, tunnels: &[Tunnel]) -> BTreeMap<String, u32> {
        let name = |which: usize| {
            TunnelKey::from_tunnel(&tunnels[which])
                .ids()
                .next()
                .expect("a name")
                .to_string()
        };
        self.standing().map(|(which, count)| (name(which), count)).collect()
    }
}
