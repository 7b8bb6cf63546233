//! Walks a plan of routes, addresses and devices.
//!
//! The kernel takes them one by one. Setting up stops at the first that it refuses and goes back to
//! what was; taking down goes on, and what could not be taken out stays on record.

use std::net::IpAddr;

use super::facts::facts;
use crate::plan::{
    RecordedRoutes, RouteOptions, RoutingKey, address_key, install_order, interface_key, kernel_queries, net_objects,
    object_key,
};
use crate::record::{DaemonProcess, FORMAT, RecordError, RoutingRecord, Store};
use crate::rtnetlink::{InstallResult, NetConfig, NetObject, NetlinkError, RouteQuery, VtiInterface};
use crate::updown_env::{ConnectionName, Event, Operation, Routing};

/// One call at work on routes: the record, and the kernel.
#[derive(Debug)]
pub struct RoutingEngine<'a, N: NetConfig> {
    pub(super) store: &'a Store,
    pub(super) kernel: &'a mut N,
    daemon: Option<DaemonProcess>,
    now: u64,
}

/// What of a far network's routes, addresses and devices changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoutingChange {
    /// For which network.
    pub key: RoutingKey,
    /// What the record says.
    pub before: Option<RoutingRecord>,
    /// What is to be installed when it is done, in the order in which it is put in.
    pub after: Vec<NetObject>,
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
    ours: Vec<NetObject>,
}

/// What could not be taken out.
#[derive(Debug, Default)]
struct Rest {
    /// It stays on record.
    stuck: Vec<NetObject>,
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

impl RoutingChange {
    /// What is on record.
    #[must_use]
    pub fn standing(&self) -> &[NetObject] {
        self.before.as_ref().map_or(&[], |record| &record.objects)
    }

    /// What goes, in the order in which it is taken out: last in, first out.
    pub fn outgoing(&self) -> impl Iterator<Item = &NetObject> {
        let stays = |object: &NetObject| self.after.iter().any(|other| object_key(other) == object_key(object));
        self.standing().iter().rev().filter(move |object| !stays(object))
    }

    /// Everything that may be in while it is done: what comes, what goes, and what gives way to
    /// something in its slot.
    fn both(&self) -> Vec<NetObject> {
        let besides = self.standing().iter().filter(|object| !self.after.contains(object));
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

impl<'a, N: NetConfig> RoutingEngine<'a, N> {
    /// Begins to work on a record.
    pub fn new(store: &'a Store, kernel: &'a mut N, daemon: Option<DaemonProcess>, now: u64) -> Self {
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
    pub fn change(
        &mut self,
        event: &Event,
        routing: &Routing,
        operation: Operation,
        options: &RouteOptions,
    ) -> Result<RoutingChange, RoutingError> {
        let key = RoutingKey::from_routing(routing);
        let before = self.store.routing_record(&key)?;
        let own = before.as_ref().map_or_else(Vec::new, |record| record.objects.clone());
        let standing = RecordedRoutes {
            source: self.held_source(routing, &key)?,
            connection: before.as_ref().and_then(|record| record.routed_for.clone()),
            own,
        };
        let facts = facts(self.kernel, routing, &kernel_queries(event.daemon, routing, operation))?;
        let after = net_objects(event.daemon, routing, operation, options, &facts, &standing);
        let is_new = |item: &NetObject| matches!(item, NetObject::Route(_)) && !standing.own.contains(item);
        let routed_for = match operation == Operation::Route || after.iter().any(is_new) {
            true => Some(routing.connection.clone()),
            false => standing.connection,
        };
        Ok(RoutingChange {
            key,
            before,
            after,
            connection: routing.connection.clone(),
            routed_for,
        })
    }

    /// The source address, if it is there for another far network, behind the device that it is on
    /// if that is there for one too.
    fn held_source(&self, routing: &Routing, key: &RoutingKey) -> Result<Vec<NetObject>, RecordError> {
        let Some(source) = routing.source else {
            return Ok(Vec::new());
        };
        let held = self.store.held_object(&address_key(source), key)?;
        let device = match &held {
            Some(NetObject::Address(address)) => self.store.held_object(&interface_key(&address.interface), key)?,
            Some(
                NetObject::Route(_) | NetObject::Rule(_) | NetObject::ProxyNeighbour(_) | NetObject::VtiInterface(_),
            )
            | None => None,
        };
        Ok(device.into_iter().chain(held).collect())
    }

    /// Does it.
    ///
    /// # Errors
    /// If something cannot be put in, or the record not be written; everything is as before then.
    pub fn carry_out(&mut self, change: &RoutingChange) -> Result<RoutingOutcome, RoutingError> {
        if change.is_empty() {
            return Ok(RoutingOutcome::default());
        }
        let outgoing: Vec<_> = change.outgoing().cloned().collect();
        // At first what comes besides what stands, so that nothing is ever installed that no record
        // tells of.
        let both = self.record(change, change.both());
        if change.before.as_ref() != Some(&both) {
            self.store.write_routing(change.standing(), &both)?;
        }
        let Setup { put, ours } = self.set_up(change, &both)?;
        let Rest { faults, stuck, .. } = self.take_down(&change.key, &outgoing)?;
        let taken_out = outgoing.len() - stuck.len();
        let left = self.record(change, ours.into_iter().chain(stuck.into_iter().rev()).collect());
        match left.objects.is_empty() {
            true => self.store.erase_routing(&both)?,
            false if left != both => self.store.write_routing(&both.objects, &left)?,
            false => {}
        }
        Ok(RoutingOutcome { put, taken_out, faults })
    }

    fn record(&self, change: &RoutingChange, objects: Vec<NetObject>) -> RoutingRecord {
        RoutingRecord {
            format: FORMAT,
            key: change.key.clone(),
            connection: change.connection.clone(),
            routed_for: change.routed_for.clone(),
            daemon: self.daemon,
            since: change.before.as_ref().map_or(self.now, |record| record.since),
            objects,
        }
    }

    /// Puts in what is to be there, what stood included: somebody may have taken it away.
    fn set_up(&mut self, change: &RoutingChange, both: &RoutingRecord) -> Result<Setup, RoutingError> {
        let mut setup = Setup::default();
        let mut new = Vec::new();
        for object in &change.after {
            let stood = change
                .standing()
                .iter()
                .any(|other| object_key(other) == object_key(object));
            match self.put(change, object) {
                Ok(InstallResult::New) => {
                    setup.put += usize::from(!stood);
                    new.push(object);
                    setup.ours.push(object.clone());
                }
                Ok(InstallResult::Existed) => setup.ours.extend(self.what_stood(change, object)?),
                Err(error) => {
                    self.roll_back(change, &new, both);
                    return Err(error);
                }
            }
        }
        Ok(setup)
    }

    /// What was there where an item was to be put in; nothing if it is somebody else's, which is
    /// not ours to take out.
    fn what_stood(&self, change: &RoutingChange, object: &NetObject) -> Result<Option<NetObject>, RecordError> {
        let standing = change.standing();
        let same = standing.iter().find(|other| *other == object);
        match same.or_else(|| standing.iter().find(|other| object_key(other) == object_key(object))) {
            Some(stood) => Ok(Some(stood.clone())),
            None => self.store.held_object(&object_key(object), &change.key),
        }
    }

    /// Goes back to what was. The first error is the one that is told; those of this would say the
    /// same.
    fn roll_back(&mut self, change: &RoutingChange, new: &[&NetObject], both: &RoutingRecord) {
        let mut rest = Rest::default();
        for object in new.iter().rev() {
            let done = match change
                .standing()
                .iter()
                .find(|other| object_key(other) == object_key(object))
            {
                Some(old) => self.kernel.install(old).map(drop).map_err(RoutingError::from),
                None => self
                    .take_away(&change.key, object, &mut rest)
                    .map_err(RoutingError::from),
            };
            if done.is_err() {
                rest.stuck.push((*object).clone());
            }
        }
        // As long as something cannot be taken back, what is on record now is what may be in.
        let _ = match &change.before {
            _ if !rest.stuck.is_empty() => Ok(()),
            Some(before) => self.store.write_routing(&both.objects, before),
            None => self.store.erase_routing(both),
        };
    }

    /// Takes out what goes, and returns what could not be taken out, with the reasons.
    fn take_down(&mut self, key: &RoutingKey, outgoing: &[NetObject]) -> Result<Rest, RecordError> {
        let mut rest = Rest::default();
        for object in outgoing {
            self.take_away(key, object, &mut rest)?;
        }
        Ok(rest)
    }

    fn take_away(&mut self, key: &RoutingKey, object: &NetObject, rest: &mut Rest) -> Result<(), RecordError> {
        if rest.restored.contains(&object_key(object)) {
            return Ok(());
        }
        let removal = match rest.stuck.iter().any(|other| stands_on(other, object)) {
            true => Ok(Removal::InUse),
            false => self.remove(key, object),
        };
        match removal {
            Ok(Removal::Out) => {}
            Ok(Removal::Replaced(slot)) => rest.restored.push(slot),
            Ok(Removal::Bare(error)) => rest.faults.push(error),
            Ok(Removal::InUse) => rest.stuck.push(object.clone()),
            Err(RoutingError::Record(error)) => return Err(error),
            Err(RoutingError::Netlink(error)) => {
                rest.faults.push(error);
                rest.stuck.push(object.clone());
            }
        }
        Ok(())
    }

    /// Takes an item out, unless another far network needs it, or puts that one's in its place.
    fn remove(&mut self, key: &RoutingKey, object: &NetObject) -> Result<Removal, RoutingError> {
        match self.store.held_object(&object_key(object), key)? {
            Some(other) if other == *object => {}
            // To install the other one would be to replace a route that nobody has saved.
            Some(_) if self.is_somebody_elses(key, object)? => return Ok(Removal::Replaced(object_key(object))),
            Some(other) => {
                if let Err(error) = self.kernel.install(&other) {
                    self.kernel.delete(object)?;
                    return Ok(Removal::Bare(error));
                }
            }
            None if self.is_in_use(object)? => return Ok(Removal::InUse),
            None => return self.take_out(key, object),
        }
        Ok(Removal::Out)
    }

    /// Whether a route that is not ours has this address for its source, or one that would go with
    /// this device: the kernel would take that route out along with the address. A route into the
    /// device itself goes with it in any case.
    fn is_in_use(&mut self, object: &NetObject) -> Result<bool, NetlinkError> {
        let mut users = |address: IpAddr| self.kernel.routes(&RouteQuery::From(address));
        match object {
            NetObject::Address(address) => Ok(!users(address.address.addr())?.is_empty()),
            NetObject::VtiInterface(VtiInterface {
                interface: device,
                address: Some(address),
                ..
            }) => Ok((users(address.addr())?.iter()).any(|route| route.interface.as_ref() != Some(device))),
            NetObject::VtiInterface(_) | NetObject::Route(_) | NetObject::Rule(_) | NetObject::ProxyNeighbour(_) => {
                Ok(false)
            }
        }
    }

    /// Puts back whatever is on record and not there any more, and returns what that was and what
    /// could not be put back.
    ///
    /// # Errors
    /// If the record cannot be read.
    pub fn restore(&mut self) -> Result<(Vec<NetObject>, Vec<NetlinkError>), RecordError> {
        let (mut restored, mut faults) = (Vec::new(), Vec::new());
        for object in self
            .store
            .routing_records()?
            .into_iter()
            .flat_map(|record| record.objects)
        {
            match self.put_back(&object) {
                Ok(InstallResult::New) => restored.push(object),
                Ok(InstallResult::Existed) => {}
                Err(error) => faults.push(error),
            }
        }
        Ok((restored, faults))
    }

    /// Puts an item in unless it stands. A route is put in by replacing what is there, and the
    /// kernel then does not tell whether that was the same; so it is looked for first. Of other
    /// tables than the main one nothing is listed.
    fn put_back(&mut self, object: &NetObject) -> Result<InstallResult, NetlinkError> {
        if let NetObject::Route(route) = object
            && route.table.is_main()
            && (self.kernel.routes(&RouteQuery::To(route.destination))?.iter()).any(|listed| route.is_listed_as(listed))
        {
            return Ok(InstallResult::Existed);
        }
        self.kernel.install(object)
    }

    /// Takes out what a dead daemon left.
    ///
    /// # Errors
    /// If the record cannot be read or written.
    pub fn clear(&mut self, daemon: &DaemonProcess) -> Result<Vec<NetlinkError>, RoutingError> {
        let mut faults = Vec::new();
        for record in self
            .store
            .routing_records()?
            .into_iter()
            .filter(|record| record.daemon.as_ref() == Some(daemon))
        {
            let change = RoutingChange {
                key: record.key.clone(),
                connection: record.connection.clone(),
                routed_for: None,
                before: Some(record),
                after: Vec::new(),
            };
            faults.extend(self.carry_out(&change)?.faults);
        }
        Ok(faults)
    }
}

/// Whether the kernel takes an item out along with another: a route with its source, anything with
/// its device.
fn stands_on(object: &NetObject, other: &NetObject) -> bool {
    match (object, other) {
        (NetObject::Route(route), NetObject::Address(address)) => route.source == Some(address.address.addr()),
        (NetObject::Route(route), NetObject::VtiInterface(vti)) => route.interface.as_ref() == Some(&vti.interface),
        (NetObject::Address(address), NetObject::VtiInterface(vti)) => address.interface == vti.interface,
        (NetObject::ProxyNeighbour(neighbour), NetObject::VtiInterface(vti)) => neighbour.interface == vti.interface,
        (
            NetObject::Address(_)
            | NetObject::Route(_)
            | NetObject::Rule(_)
            | NetObject::ProxyNeighbour(_)
            | NetObject::VtiInterface(_),
            _,
        ) => false,
    }
}
