//! Which ups are open, by how each call ended: what a `down` takes is decided here a second time, from what the calls said and nothing else.

#![allow(dead_code, reason = "each test binary uses its part of this module")]

use std::collections::BTreeMap;
use std::net::IpAddr;

use pluto_updown::apply::{ApplyError, TunnelOutcome};
use pluto_updown::daemon::{Scope, Tunnel, UpCounting};
use pluto_updown::firewall::TunnelKey;
use pluto_updown::net::Network;
use pluto_updown::netfilter::iptables::TablesError;

use super::binary::Call;
use super::world::World;

/// What a call was for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    Up,
    Down,
}

impl Verb {
    /// The call with this verb, of an `up`.
    pub fn of_call(self, up: Call) -> Call {
        match self {
            Self::Up => up,
            Self::Down => up.opposite(),
        }
    }
}

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Well.
    Done,
    /// It reported to the daemon that nothing was changed; a `down` is noted then.
    Refused,
    /// It reported to the daemon that it failed, and the next call finds out what was changed: an `up` that can be called again is undone, whatever
    /// is counted and every `down` is completed.
    Open,
}

/// The ups that have had no `down`, in their order, each as its call described the tunnel.
#[derive(Clone, Debug, Default)]
pub struct Model {
    ups: Vec<Tunnel>,
}

impl Model {
    pub fn call(&mut self, tunnel: &Tunnel, verb: Verb, ended: Ended) {
        let is_counted = tunnel.up_counting == UpCounting::Counted;
        match (verb, ended) {
            (Verb::Up, Ended::Refused) => {}
            (Verb::Up, Ended::Open) if !is_counted => {}
            (Verb::Up, Ended::Done | Ended::Open) if is_counted => self.ups.push(tunnel.clone()),
            (Verb::Up, Ended::Done | Ended::Open) => match self.ups.iter_mut().find(|up| has_key_of(up, tunnel)) {
                Some(up) => *up = tunnel.clone(),
                None => self.ups.push(tunnel.clone()),
            },
            // What cannot be removed now is noted, and removed before anything else happens to the connection.
            (Verb::Down, Ended::Done | Ended::Open | Ended::Refused) => {
                if let Some(which) = self.meant(tunnel) {
                    self.ups.remove(which);
                }
            }
        }
    }

    /// Which up a `down` means.
    pub fn meant(&self, call: &Tunnel) -> Option<usize> {
        let ups = || self.ups.iter().enumerate();
        let first = |is_meant: &dyn Fn(&Tunnel) -> bool| ups().find(|(_, up)| is_meant(up)).map(|(which, _)| which);
        let here = |up: &Tunnel| has_key_of(up, call);
        if call.up_counting != UpCounting::Counted {
            return first(&here);
        }
        let there = |up: &Tunnel| !here(up) && became(up, call);
        let number = |up: &Tunnel| up.unique_id.is_some() && up.unique_id == call.unique_id;
        let peer = |up: &Tunnel| (&up.remote_id, &up.user) == (&call.remote_id, &call.user);
        // Two under different keys are two tunnels: which of them moved is unknown.
        let only = |is_meant: &dyn Fn(&Tunnel) -> bool| {
            let which = first(is_meant)?;
            let mut all = ups().filter(|(_, up)| is_meant(up));
            all.all(|(_, up)| has_key_of(up, &self.ups[which])).then_some(which)
        };
        first(&|up| here(up) && number(up))
            .or_else(|| only(&|up| there(up) && number(up)))
            .or_else(|| first(&|up| here(up) && peer(up)))
            .or_else(|| only(&|up| there(up) && peer(up)))
    }

    /// The open ups, in their order.
    pub fn open_ups(&self) -> &[Tunnel] {
        &self.ups
    }

    /// What the record should say: the name of each tunnel, and who has it up.
    pub fn record(&self) -> BTreeMap<String, Vec<String>> {
        let mut record: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for up in &self.ups {
            let id = TunnelKey::from_tunnel(up).ids().next().expect("a name");
            record.entry(id.to_string()).or_default().push(opener(up));
        }
        record
    }
}

/// A gateway, and beside it the model of what is up.
#[derive(Debug)]
pub struct Modelled {
    pub world: World,
    pub model: Model,
}

impl Modelled {
    pub fn new(world: World) -> Self {
        let model = Model::default();
        Self { world, model }
    }

    /// A call to both. Says whether it went well.
    pub fn call(&mut self, tunnel: &Tunnel, verb: Verb) -> bool {
        let result = match verb {
            Verb::Up => self.world.try_up(tunnel),
            Verb::Down => self.world.try_down(tunnel),
        };
        let ended = match &result {
            Ok(_) => Ended::Done,
            // It never knew how its restore ended.
            Err(ApplyError::Tables(TablesError::Unknown { .. })) if self.world.began => Ended::Open,
            Err(ApplyError::Tables(_) | ApplyError::Owed(_)) => Ended::Refused,
            Err(error) => panic!("{error}"),
        };
        self.model.call(tunnel, verb, ended);
        result.is_ok()
    }

    /// The record and the tables hold what the model says, and no more than its ups make on a fresh gateway.
    #[track_caller]
    pub fn assert_agrees(&mut self, mut fresh: World, what: &str) {
        fresh.up_all(self.model.open_ups());
        assert_eq!(self.world.openers(), self.model.record(), "the record, {what}");
        assert_eq!(self.world.contents(), fresh.contents(), "the tables, {what}");
    }

    /// Every up that is open goes down, and nothing is left but what an empty gateway has.
    #[track_caller]
    pub fn assert_ends(&mut self, mut empty: World, what: &str) {
        for up in self.model.open_ups() {
            assert_ne!(self.world.down(up), TunnelOutcome::NothingThere, "{what}");
        }
        assert_eq!(self.world.contents(), empty.contents(), "the end, {what}");
        assert!(self.world.is_forgotten(), "the record at the end, {what}");
    }
}

/// Who has a tunnel up, in a word.
pub fn opener(up: &Tunnel) -> String {
    match up.up_counting {
        UpCounting::Counted => format!("{} {}", up.remote_id, up.unique_id.unwrap_or_default()),
        UpCounting::Single | UpCounting::Instances => up.remote_id.to_string(),
    }
}

fn has_key_of(up: &Tunnel, other: &Tunnel) -> bool {
    TunnelKey::from_tunnel(up) == TunnelKey::from_tunnel(other)
}

/// Whether MOBIKE can have made one of the other: what differs is the address of the association at both times.
fn became(up: &Tunnel, now: &Tunnel) -> bool {
    let is_own = |network: &Network, host: Option<IpAddr>| host.is_some_and(|host| network.is_host(host));
    let local = |tunnel: &Tunnel| tunnel.scope == Scope::Host && is_own(&tunnel.local_client, tunnel.local_host);
    let remote = |tunnel: &Tunnel| is_own(&tunnel.remote_client, tunnel.remote_host);
    let same_near = up.local_client == now.local_client || (local(up) && local(now));
    let same_far = up.remote_client == now.remote_client || (remote(up) && remote(now));
    let moves = local(up) || remote(up);
    moves && same_near && same_far && up.connection == now.connection && up.traffic == now.traffic
}
