//! Walks a plan of routes, addresses and devices.
//!
//! The kernel takes them one by one. Setting up stops at the first that it refuses and goes back to what was; taking down goes on, and
//! what could not be taken out stays on record.

use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::contract::{Event, Operation, RoutedBy, Routing};
use crate::plan::{Facts, RouteOptions, RoutingKey, Standing, address_slot, items, slot};
use crate::record::{Daemon, FORMAT, RecordError, RoutingRecord, Store};
use crate::rtnetlink::{Item, Lookup, NetlinkError, Network, Put, Wanted};
use crate::selector::{Device, Family};

/// One call at work on routes: the record, and the kernel.
#[derive(Debug)]
pub struct RoutingSession<'a, N: Network> {
    store: &'a Store,
    kernel: &'a mut N,
    daemon: Option<Daemon>,
    now: u64,
}

/// What of a far network's routes, addresses and devices changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoutingWork {
    /// For which network.
    pub key: RoutingKey,
    /// What the record says.
    pub before: Option<RoutingRecord>,
    /// What is to be installed when it is done, in the order in which it is put in.
    pub after: Vec<Item>,
    /// The connection that was named.
    pub connection: crate::contract::ConnectionName,
}

/// Why nothing was set up.
#[derive(Debug, thiserror::Error)]
pub enum RoutingError {
    /// The record cannot be read or written.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// The kernel refused, or cannot be asked.
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
}

/// What became of an item that was to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Removal {
    /// It is out, or left to another far network.
    Out,
    /// Somebody else's route needs it: it stays, on record.
    InUse,
}

/// What came of setting up.
#[derive(Debug, Default)]
struct Setup<'w> {
    /// How many items are in that were not on record.
    put: usize,
    /// Those that stood there and are nobody's of ours.
    foreign: Vec<&'w Item>,
}

/// What came of it.
#[derive(Debug, Default)]
pub struct RoutingOutcome {
    /// How many items were put in that were not on record.
    pub put: usize,
    /// How many were taken out.
    pub taken_out: usize,
    /// What could not be taken out.
    pub faults: Vec<NetlinkError>,
}

impl RoutingWork {
    /// What is on record.
    #[must_use]
    pub fn standing(&self) -> &[Item] {
        self.before.as_ref().map_or(&[], |record| &record.items)
    }

    /// What goes, in the order in which it is taken out: last in, first out.
    pub fn outgoing(&self) -> impl Iterator<Item = &Item> {
        let stays = |item: &Item| self.after.iter().any(|other| slot(other) == slot(item));
        self.standing().iter().rev().filter(move |item| !stays(item))
    }

    /// Whether there is nothing to do: nothing is installed, and nothing is to be.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.after.is_empty() && self.standing().is_empty()
    }
}

impl<'a, N: Network> RoutingSession<'a, N> {
    /// Begins to work on a record.
    pub fn new(store: &'a Store, kernel: &'a mut N, daemon: Option<Daemon>, now: u64) -> Self {
        Self {
            store,
            kernel,
            daemon,
            now,
        }
    }

    /// What an operation comes to.
    ///
    /// # Errors
    /// If the record cannot be read or the kernel not be asked.
    pub fn work(
        &mut self,
        event: &Event,
        routing: &Routing,
        operation: Operation,
        options: &RouteOptions,
    ) -> Result<RoutingWork, RoutingError> {
        let key = RoutingKey::of(routing);
        let before = self.store.routing(&key)?;
        let own = before.as_ref().map_or_else(Vec::new, |record| record.items.clone());
        let standing = Standing {
            source: self.held_source(routing, &key)?,
            own,
        };
        let after = match operation {
            Operation::Prepare | Operation::Route | Operation::Up => {
                let facts = facts(self.kernel, routing)?;
                items(event.dialect, routing, operation, options, &facts, &standing)
            }
            // Nothing that the kernel says matters to what goes.
            Operation::Unroute
            | Operation::Down
            | Operation::DisconnectNm
            | Operation::UpdateResolvConf
            | Operation::RestoreResolvConf
            | Operation::SpdAdd
            | Operation::SpdDel => items(event.dialect, routing, operation, options, &Facts::default(), &standing),
        };
        Ok(RoutingWork {
            key,
            before,
            after,
            connection: routing.connection.clone(),
        })
    }

    /// The source address, if it is there for another far network.
    fn held_source(&self, routing: &Routing, key: &RoutingKey) -> Result<Option<Item>, RecordError> {
        match routing.source {
            Some(source) => self.store.held(&address_slot(source), key),
            None => Ok(None),
        }
    }

    /// Does it.
    ///
    /// # Errors
    /// If something cannot be put in, or the record not be written; everything is as before then.
    pub fn carry_out(&mut self, work: &RoutingWork) -> Result<RoutingOutcome, RoutingError> {
        if work.is_empty() {
            return Ok(RoutingOutcome::default());
        }
        let outgoing: Vec<_> = work.outgoing().cloned().collect();
        // At first what comes besides what stands, so that nothing is ever installed that no record tells of.
        let both = self.record(work, work.after.iter().chain(outgoing.iter().rev()));
        if work.before.as_ref() != Some(&both) {
            self.store.write_routing(work.standing(), &both)?;
        }
        let Setup { put, foreign } = self.set_up(work, &both)?;
        let (faults, stuck) = self.take_down(&work.key, &outgoing)?;
        let ours = work.after.iter().filter(|item| !foreign.contains(item));
        let left = self.record(work, ours.chain(stuck.iter().rev()));
        match left.items.is_empty() {
            true => self.store.erase_routing(&both)?,
            false if left != both => self.store.write_routing(&both.items, &left)?,
            false => {}
        }
        let taken_out = outgoing.len() - stuck.len();
        Ok(RoutingOutcome { put, taken_out, faults })
    }

    fn record<'i>(&self, work: &RoutingWork, items: impl Iterator<Item = &'i Item>) -> RoutingRecord {
        RoutingRecord {
            format: FORMAT,
            key: work.key.clone(),
            connection: work.connection.clone(),
            daemon: self.daemon,
            since: work.before.as_ref().map_or(self.now, |record| record.since),
            items: items.cloned().collect(),
        }
    }

    /// Puts in what is to be there, what stood included: somebody may have taken it away.
    fn set_up<'w>(&mut self, work: &'w RoutingWork, both: &RoutingRecord) -> Result<Setup<'w>, RoutingError> {
        let mut setup = Setup::default();
        let mut new = Vec::new();
        for item in &work.after {
            let stood = work.standing().iter().any(|other| slot(other) == slot(item));
            match self.kernel.put(item) {
                Ok(Put::New) => {
                    setup.put += usize::from(!stood);
                    new.push(item);
                }
                Ok(Put::Stood) if stood || self.store.held(&slot(item), &work.key)?.is_some() => {}
                // Somebody else's: not ours to take out.
                Ok(Put::Stood) => setup.foreign.push(item),
                Err(error) => {
                    self.roll_back(work, &new, both);
                    return Err(error.into());
                }
            }
        }
        Ok(setup)
    }

    /// Goes back to what was. The first error is the one that is told; those of this would say the same.
    fn roll_back(&mut self, work: &RoutingWork, new: &[&Item], both: &RoutingRecord) {
        for item in new.iter().rev() {
            let _ = match work.standing().iter().find(|other| slot(other) == slot(item)) {
                Some(old) => self.kernel.put(old).map(drop).map_err(RoutingError::from),
                None => self.remove(&work.key, item).map(drop),
            };
        }
        let _ = match &work.before {
            Some(before) => self.store.write_routing(&both.items, before),
            None => self.store.erase_routing(both),
        };
    }

    /// Takes out what goes, and returns what could not be taken out, with the reasons.
    fn take_down(
        &mut self,
        key: &RoutingKey,
        outgoing: &[Item],
    ) -> Result<(Vec<NetlinkError>, Vec<Item>), RecordError> {
        let (mut faults, mut stuck) = (Vec::new(), Vec::new());
        for item in outgoing {
            match self.remove(key, item) {
                Ok(Removal::Out) => {}
                Ok(Removal::InUse) => stuck.push(item.clone()),
                Err(RoutingError::Record(error)) => return Err(error),
                Err(RoutingError::Netlink(error)) => {
                    faults.push(error);
                    stuck.push(item.clone());
                }
            }
        }
        Ok((faults, stuck))
    }

    /// Takes an item out, unless another far network needs it, or puts that one's in its place.
    fn remove(&mut self, key: &RoutingKey, item: &Item) -> Result<Removal, RoutingError> {
        match self.store.held(&slot(item), key)? {
            Some(other) if other == *item => {}
            Some(other) => drop(self.kernel.put(&other)?),
            None if self.is_in_use(item)? => return Ok(Removal::InUse),
            None => drop(self.kernel.take_out(item)?),
        }
        Ok(Removal::Out)
    }

    /// Whether a route that is not ours has this address for its source: the kernel would take that one out along with the address.
    fn is_in_use(&mut self, item: &Item) -> Result<bool, NetlinkError> {
        match item {
            Item::Address(address) => Ok(!self.kernel.routes(&Wanted::From(address.address.addr()))?.is_empty()),
            Item::Route(_) | Item::Rule(_) | Item::ProxyNeighbour(_) | Item::Vti(_) => Ok(false),
        }
    }

    /// Puts back whatever is on record and not there any more, and returns what that was and what could not be put back.
    ///
    /// # Errors
    /// If the record cannot be read.
    pub fn restore(&mut self) -> Result<(Vec<Item>, Vec<NetlinkError>), RecordError> {
        let (mut restored, mut faults) = (Vec::new(), Vec::new());
        for item in self.store.routings()?.into_iter().flat_map(|record| record.items) {
            match self.kernel.put(&item) {
                Ok(Put::New) => restored.push(item),
                Ok(Put::Stood) => {}
                Err(error) => faults.push(error),
            }
        }
        Ok((restored, faults))
    }

    /// Takes out what a dead daemon left.
    ///
    /// # Errors
    /// If the record cannot be read or written.
    pub fn clear(&mut self, daemon: &Daemon) -> Result<Vec<NetlinkError>, RoutingError> {
        let mut faults = Vec::new();
        for record in self
            .store
            .routings()?
            .into_iter()
            .filter(|record| record.daemon.as_ref() == Some(daemon))
        {
            let work = RoutingWork {
                key: record.key.clone(),
                connection: record.connection.clone(),
                before: Some(record),
                after: Vec::new(),
            };
            faults.extend(self.carry_out(&work)?.faults);
        }
        Ok(faults)
    }
}

/// Asks the kernel all that a plan depends on.
fn facts<N: Network>(kernel: &mut N, routing: &Routing) -> Result<Facts, NetlinkError> {
    let to_peer = kernel.lookup(routing.peer_client.first(), None)?;
    let on_link = match &to_peer {
        Lookup::Found(way) => way
            .device
            .as_ref()
            .map(|device| kernel.link(device))
            .transpose()?
            .flatten(),
        Lookup::Unreachable(_) => None,
    };
    let mut lookup = |to: Option<_>, from| to.map(|to| kernel.lookup(to, from)).transpose();
    let to_next_hop = lookup(routing.next_hop, None)?;
    let from_me = lookup(routing.next_hop, routing.me)?;
    let source = lookup(routing.source, None)?;
    let outer = routing
        .interface
        .as_ref()
        .map(|device| kernel.link(device))
        .transpose()?
        .flatten();
    let gateway = match routing.by {
        RoutedBy::Vti(_) => default_gateway(kernel, routing.peer_client.family())?,
        RoutedBy::Policy | RoutedBy::XfrmInterface { .. } | RoutedBy::Klips(_) => None,
    };
    Ok(Facts {
        to_peer: Some(to_peer),
        on_link,
        to_next_hop,
        from_me,
        source,
        outer,
        gateway,
    })
}

/// The next hop of the default route, and its device.
fn default_gateway<N: Network>(kernel: &mut N, family: Family) -> Result<Option<(IpAddr, Device)>, NetlinkError> {
    let everywhere = match family {
        Family::Ipv4 => IpNet::V4(Ipv4Net::default()),
        Family::Ipv6 => IpNet::V6(Ipv6Net::default()),
    };
    let routes = kernel.routes(&Wanted::To(everywhere))?;
    Ok(routes.into_iter().find_map(|route| route.via.zip(route.device)))
}
