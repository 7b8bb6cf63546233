//! Walks a plan of routes, addresses and devices.
//!
//! The kernel takes them one by one. Setting up stops at the first that it refuses and goes back to what was; taking down goes on, and
//! what could not be taken out stays on record.

use std::net::IpAddr;

use super::facts::facts;
use crate::contract::{ConnectionName, Event, Operation, Routing};
use crate::plan::{
    RecordedRoutes, RouteOptions, RoutingKey, address_key, install_order, interface_key, kernel_queries, net_objects,
    object_key,
};
use crate::record::{Daemon, FORMAT, RecordError, RoutingRecord, Store};
use crate::rtnetlink::{Item, NetlinkError, Network, Put, Vti, Wanted};

/// One call at work on routes: the record, and the kernel.
#[derive(Debug)]
pub struct RoutingSession<'a, N: Network> {
    pub(super) store: &'a Store,
    pub(super) kernel: &'a mut N,
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
    pub connection: ConnectionName,
    /// The connection for which the routes are made.
    pub routed_for: Option<ConnectionName>,
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
#[derive(Debug)]
pub(super) enum Removal {
    /// It is out, or left to another far network.
    Out,
    /// It is out, and somebody else's route stands in this slot.
    Replaced(String),
    /// It is out, but what another far network has in its slot could not be put in its place.
    Bare(NetlinkError),
    /// Somebody else's route needs it, or what could not be taken out: it stays, on record.
    InUse,
}

/// What came of setting up.
#[derive(Debug, Default)]
struct Setup {
    /// How many items are in that were not on record.
    put: usize,
    /// What is in now, less what stood there and is nobody's of ours.
    ours: Vec<Item>,
}

/// What could not be taken out.
#[derive(Debug, Default)]
struct Rest {
    /// It stays on record.
    stuck: Vec<Item>,
    /// The slots in which routes of others stand again. Nothing is taken out of them any more.
    restored: Vec<String>,
    /// Why, where the kernel refused it.
    faults: Vec<NetlinkError>,
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
        let stays = |item: &Item| self.after.iter().any(|other| object_key(other) == object_key(item));
        self.standing().iter().rev().filter(move |item| !stays(item))
    }

    /// Everything that may be in while it is done: what comes, what goes, and what gives way to something in its slot.
    fn both(&self) -> Vec<Item> {
        let besides = self.standing().iter().filter(|item| !self.after.contains(item));
        let mut both: Vec<_> = besides.chain(&self.after).cloned().collect();
        both.sort_by_key(install_order);
        both
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
        let key = RoutingKey::from_routing(routing);
        let before = self.store.routing(&key)?;
        let own = before.as_ref().map_or_else(Vec::new, |record| record.items.clone());
        let standing = RecordedRoutes {
            source: self.held_source(routing, &key)?,
            connection: before.as_ref().and_then(|record| record.routed_for.clone()),
            own,
        };
        let facts = facts(self.kernel, routing, &kernel_queries(event.dialect, routing, operation))?;
        let after = net_objects(event.dialect, routing, operation, options, &facts, &standing);
        let is_new = |item: &Item| matches!(item, Item::Route(_)) && !standing.own.contains(item);
        let routed_for = match operation == Operation::Route || after.iter().any(is_new) {
            true => Some(routing.connection.clone()),
            false => standing.connection,
        };
        Ok(RoutingWork {
            key,
            before,
            after,
            connection: routing.connection.clone(),
            routed_for,
        })
    }

    /// The source address, if it is there for another far network, behind the device that it is on if that is there for one too.
    fn held_source(&self, routing: &Routing, key: &RoutingKey) -> Result<Vec<Item>, RecordError> {
        let Some(source) = routing.source else {
            return Ok(Vec::new());
        };
        let held = self.store.held(&address_key(source), key)?;
        let device = match &held {
            Some(Item::Address(address)) => self.store.held(&interface_key(&address.device), key)?,
            Some(Item::Route(_) | Item::Rule(_) | Item::ProxyNeighbour(_) | Item::Vti(_)) | None => None,
        };
        Ok(device.into_iter().chain(held).collect())
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
        let both = self.record(work, work.both());
        if work.before.as_ref() != Some(&both) {
            self.store.write_routing(work.standing(), &both)?;
        }
        let Setup { put, ours } = self.set_up(work, &both)?;
        let Rest { faults, stuck, .. } = self.take_down(&work.key, &outgoing)?;
        let taken_out = outgoing.len() - stuck.len();
        let left = self.record(work, ours.into_iter().chain(stuck.into_iter().rev()).collect());
        match left.items.is_empty() {
            true => self.store.erase_routing(&both)?,
            false if left != both => self.store.write_routing(&both.items, &left)?,
            false => {}
        }
        Ok(RoutingOutcome { put, taken_out, faults })
    }

    fn record(&self, work: &RoutingWork, items: Vec<Item>) -> RoutingRecord {
        RoutingRecord {
            format: FORMAT,
            key: work.key.clone(),
            connection: work.connection.clone(),
            routed_for: work.routed_for.clone(),
            daemon: self.daemon,
            since: work.before.as_ref().map_or(self.now, |record| record.since),
            items,
        }
    }

    /// Puts in what is to be there, what stood included: somebody may have taken it away.
    fn set_up(&mut self, work: &RoutingWork, both: &RoutingRecord) -> Result<Setup, RoutingError> {
        let mut setup = Setup::default();
        let mut new = Vec::new();
        for item in &work.after {
            let stood = work
                .standing()
                .iter()
                .any(|other| object_key(other) == object_key(item));
            match self.put(work, item) {
                Ok(Put::New) => {
                    setup.put += usize::from(!stood);
                    new.push(item);
                    setup.ours.push(item.clone());
                }
                Ok(Put::Stood) => setup.ours.extend(self.what_stood(work, item)?),
                Err(error) => {
                    self.roll_back(work, &new, both);
                    return Err(error);
                }
            }
        }
        Ok(setup)
    }

    /// What was there where an item was to be put in; nothing if it is somebody else's, which is not ours to take out.
    fn what_stood(&self, work: &RoutingWork, item: &Item) -> Result<Option<Item>, RecordError> {
        let standing = work.standing();
        let same = standing.iter().find(|other| *other == item);
        match same.or_else(|| standing.iter().find(|other| object_key(other) == object_key(item))) {
            Some(stood) => Ok(Some(stood.clone())),
            None => self.store.held(&object_key(item), &work.key),
        }
    }

    /// Goes back to what was. The first error is the one that is told; those of this would say the same.
    fn roll_back(&mut self, work: &RoutingWork, new: &[&Item], both: &RoutingRecord) {
        let mut rest = Rest::default();
        for item in new.iter().rev() {
            let done = match work
                .standing()
                .iter()
                .find(|other| object_key(other) == object_key(item))
            {
                Some(old) => self.kernel.put(old).map(drop).map_err(RoutingError::from),
                None => self.take_away(&work.key, item, &mut rest).map_err(RoutingError::from),
            };
            if done.is_err() {
                rest.stuck.push((*item).clone());
            }
        }
        // As long as something cannot be taken back, what is on record now is what may be in.
        let _ = match &work.before {
            _ if !rest.stuck.is_empty() => Ok(()),
            Some(before) => self.store.write_routing(&both.items, before),
            None => self.store.erase_routing(both),
        };
    }

    /// Takes out what goes, and returns what could not be taken out, with the reasons.
    fn take_down(&mut self, key: &RoutingKey, outgoing: &[Item]) -> Result<Rest, RecordError> {
        let mut rest = Rest::default();
        for item in outgoing {
            self.take_away(key, item, &mut rest)?;
        }
        Ok(rest)
    }

    fn take_away(&mut self, key: &RoutingKey, item: &Item, rest: &mut Rest) -> Result<(), RecordError> {
        if rest.restored.contains(&object_key(item)) {
            return Ok(());
        }
        let removal = match rest.stuck.iter().any(|other| stands_on(other, item)) {
            true => Ok(Removal::InUse),
            false => self.remove(key, item),
        };
        match removal {
            Ok(Removal::Out) => {}
            Ok(Removal::Replaced(slot)) => rest.restored.push(slot),
            Ok(Removal::Bare(error)) => rest.faults.push(error),
            Ok(Removal::InUse) => rest.stuck.push(item.clone()),
            Err(RoutingError::Record(error)) => return Err(error),
            Err(RoutingError::Netlink(error)) => {
                rest.faults.push(error);
                rest.stuck.push(item.clone());
            }
        }
        Ok(())
    }

    /// Takes an item out, unless another far network needs it, or puts that one's in its place.
    fn remove(&mut self, key: &RoutingKey, item: &Item) -> Result<Removal, RoutingError> {
        match self.store.held(&object_key(item), key)? {
            Some(other) if other == *item => {}
            Some(other) => {
                if let Err(error) = self.kernel.put(&other) {
                    self.kernel.take_out(item)?;
                    return Ok(Removal::Bare(error));
                }
            }
            None if self.is_in_use(item)? => return Ok(Removal::InUse),
            None => return self.take_out(key, item),
        }
        Ok(Removal::Out)
    }

    /// Whether a route that is not ours has this address for its source, or one that would go with this device: the kernel would take
    /// that route out along with the address. A route into the device itself goes with it in any case.
    fn is_in_use(&mut self, item: &Item) -> Result<bool, NetlinkError> {
        let mut users = |address: IpAddr| self.kernel.routes(&Wanted::From(address));
        match item {
            Item::Address(address) => Ok(!users(address.address.addr())?.is_empty()),
            Item::Vti(Vti {
                device,
                address: Some(address),
                ..
            }) => Ok((users(address.addr())?.iter()).any(|route| route.device.as_ref() != Some(device))),
            Item::Vti(_) | Item::Route(_) | Item::Rule(_) | Item::ProxyNeighbour(_) => Ok(false),
        }
    }

    /// Puts back whatever is on record and not there any more, and returns what that was and what could not be put back.
    ///
    /// # Errors
    /// If the record cannot be read.
    pub fn restore(&mut self) -> Result<(Vec<Item>, Vec<NetlinkError>), RecordError> {
        let (mut restored, mut faults) = (Vec::new(), Vec::new());
        for item in self.store.routings()?.into_iter().flat_map(|record| record.items) {
            match self.put_back(&item) {
                Ok(Put::New) => restored.push(item),
                Ok(Put::Stood) => {}
                Err(error) => faults.push(error),
            }
        }
        Ok((restored, faults))
    }

    /// Puts an item in unless it stands. A route is put in by replacing what is there, and the kernel then does not tell whether that was
    /// the same; so it is looked for first. Of other tables than the main one nothing is listed.
    fn put_back(&mut self, item: &Item) -> Result<Put, NetlinkError> {
        if let Item::Route(route) = item
            && route.table.is_main()
            && (self.kernel.routes(&Wanted::To(route.destination))?.iter()).any(|listed| route.is_listed_as(listed))
        {
            return Ok(Put::Stood);
        }
        self.kernel.put(item)
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
                routed_for: None,
                before: Some(record),
                after: Vec::new(),
            };
            faults.extend(self.carry_out(&work)?.faults);
        }
        Ok(faults)
    }
}

/// Whether the kernel takes an item out along with another: a route with its source, anything with its device.
fn stands_on(item: &Item, other: &Item) -> bool {
    match (item, other) {
        (Item::Route(route), Item::Address(address)) => route.source == Some(address.address.addr()),
        (Item::Route(route), Item::Vti(vti)) => route.device.as_ref() == Some(&vti.device),
        (Item::Address(address), Item::Vti(vti)) => address.device == vti.device,
        (Item::ProxyNeighbour(neighbour), Item::Vti(vti)) => neighbour.device == vti.device,
        (Item::Address(_) | Item::Route(_) | Item::Rule(_) | Item::ProxyNeighbour(_) | Item::Vti(_), _) => false,
    }
}
