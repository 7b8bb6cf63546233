//! Which ups are open, by how each call ended: what a `down` takes is decided here a second time, from what the calls said and nothing else.

#![allow(dead_code, reason = "each test binary uses its part of this module")]

use std::collections::BTreeMap;
use std::net::IpAddr;

use pluto_updown::plan::TunnelKey;
use pluto_updown::selector::Network;
use pluto_updown::updown_env::{Scope, Tunnel, UpCounting};

/// What a call was for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    Up,
    Down,
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
