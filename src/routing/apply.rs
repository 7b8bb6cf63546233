//! Carries out a plan of routes, addresses and interfaces.
//!
//! rtnetlink has no transactions. Installation stops at the first object that the kernel refuses,
//! and rolls back. Removal continues after an error, and objects that could not be removed stay
//! recorded.

use std::net::IpAddr;

use super::env::Routing;
use super::facts::facts;
use super::plan::{
    RecordedRoutes, RouteOptions, RoutingKey, address_key, install_order, interface_key, kernel_queries, net_objects,
    object_key,
};
use super::record::RoutingRecord;
use crate::apply::Preview;
use crate::daemon::{ConnectionName, Daemon, Operation};
use crate::netlink::{InstallResult, NetConfig, NetObject, NetlinkError, RouteQuery, VtiInterface};
use crate::state::{DaemonProcess, FORMAT, RecordError, Store};

/// One call at work on routes: the record, and the kernel.
#[derive(Debug)]
pub struct RoutingEngine<'a, N: NetConfig> {
    pub(super) store: &'a Store,
    pub(super) kernel: &'a mut N,
    daemon: Option<DaemonProcess>,
    now: u64,
}

/// A change of a remote network's routes, addresses and interfaces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoutingChange {
    /// The remote network, and the interface if there is one.
    pub key: RoutingKey,
    /// The record before the change.
    pub before: Option<RoutingRecord>,
    /// The objects to be installed after the change, in the order of installation.
    pub after: Vec<NetObject>,
    /// The connection that was named.
    pub connection: ConnectionName,
    /// The connection for which the routes are made.
    pub routed_for: Option<ConnectionName>,
}

/// Why nothing was installed.
#[derive(Debug, thiserror::Error)]
pub enum RoutingError {
    /// The record cannot be read or written.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// The kernel refused a request, or did not answer.
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
}

/// The result of removing an object.
#[derive(Debug)]
pub(super) enum Removal {
    /// It is removed, or another remote network needs it.
    Out,
    /// It is removed, and another program's route has its key.
    Replaced(String),
    /// It is removed, but the object of another remote network with its key could not be installed.
    Bare(NetlinkError),
    /// A route of another program, or an object that could not be removed, needs it: it stays,
    /// recorded.
    InUse,
}

/// The result of an installation.
#[derive(Debug, Default)]
struct Setup {
    /// How many objects were installed that were not recorded.
    installed: usize,
    /// The objects installed now, without those that existed before and are not this program's.
    own_objects: Vec<NetObject>,
}

/// The objects that could not be removed.
#[derive(Debug, Default)]
struct Rest {
    /// These stay recorded.
    stuck: Vec<NetObject>,
    /// The keys for which other programs' routes were restored. Nothing with these keys is removed
    /// any more.
    restored: Vec<String>,
    /// The errors, where the kernel refused a removal.
    faults: Vec<NetlinkError>,
}

/// The outcome of a change.
#[derive(Debug, Default)]
pub struct RoutingOutcome {
    /// How many objects were installed that were not recorded.
    pub installed: usize,
    /// How many were removed.
    pub removed_count: usize,
    /// The objects that could not be removed.
    pub faults: Vec<NetlinkError>,
}

impl RoutingChange {
    /// The recorded objects.
    #[must_use]
    pub fn recorded(&self) -> &[NetObject] {
        self.before.as_ref().map_or(&[], |record| &record.objects)
    }

    /// The objects to remove, in the order of removal: the last installed first.
    pub(crate) fn outgoing(&self) -> impl Iterator<Item = &NetObject> {
        let stays = |object: &NetObject| self.after.iter().any(|other| object_key(other) == object_key(object));
        self.recorded().iter().rev().filter(move |object| !stays(object))
    }

    /// Everything that may be installed during the change: the added and the removed objects, and
    /// those that another object with the same key replaces.
    fn before_and_after(&self) -> Vec<NetObject> {
        let besides = self.recorded().iter().filter(|object| !self.after.contains(object));
        let mut both: Vec<_> = besides.chain(&self.after).cloned().collect();
        both.sort_by_key(install_order);
        both
    }

    /// The change that removes everything of a record.
    #[must_use]
    pub(crate) fn removal(record: RoutingRecord) -> Self {
        Self {
            key: record.key.clone(),
            connection: record.connection.clone(),
            routed_for: None,
            before: Some(record),
            after: Vec::new(),
        }
    }

    /// Adds it to a preview, as command lines of `ip`.
    pub(crate) fn preview(&self, preview: &mut Preview) {
        let installed = self.after.iter().flat_map(NetObject::install_commands);
        let commands: Vec<_> = installed
            .chain(self.outgoing().map(NetObject::delete_command))
            .collect();
        let action = format!("change routes, addresses or interfaces for {}", self.key);
        preview.add_commands(action, &commands);
    }

    /// Whether there is nothing to do: nothing is installed, and nothing is to be installed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.after.is_empty() && self.recorded().is_empty()
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

    /// The change of an operation.
    ///
    /// # Errors
    /// If the record cannot be read, or the kernel cannot be queried.
    pub fn change(
        &mut self,
        daemon: Daemon,
        routing: &Routing,
        operation: Operation,
        options: &RouteOptions,
    ) -> Result<RoutingChange, RoutingError> {
        let key = RoutingKey::from_routing(routing);
        let before = self.store.routing_record(&key)?;
        let own = before.as_ref().map_or_else(Vec::new, |record| record.objects.clone());
        let recorded = RecordedRoutes {
            source: self.held_source(routing, &key)?,
            connection: before.as_ref().and_then(|record| record.routed_for.clone()),
            own,
        };
        let facts = facts(self.kernel, routing, &kernel_queries(daemon, routing, operation))?;
        let after = net_objects(daemon, routing, operation, options, &facts, &recorded);
        let is_new = |item: &NetObject| matches!(item, NetObject::Route(_)) && !recorded.own.contains(item);
        let routed_for = match operation == Operation::Route || after.iter().any(is_new) {
            true => Some(routing.connection.clone()),
            false => recorded.connection,
        };
        Ok(RoutingChange {
            key,
            before,
            after,
            connection: routing.connection.clone(),
            routed_for,
        })
    }

    /// The source address, if it is installed for another remote network, after its interface, if
    /// that is installed for another one too.
    fn held_source(&self, routing: &Routing, key: &RoutingKey) -> Result<Vec<NetObject>, RecordError> {
        let Some(source) = routing.source else {
            return Ok(Vec::new());
        };
        let held = self.store.held_object(&address_key(source), key)?;
        let interface = match &held {
            Some(NetObject::Address(address)) => self.store.held_object(&interface_key(&address.interface), key)?,
            Some(
                NetObject::Route(_) | NetObject::Rule(_) | NetObject::ProxyNeighbour(_) | NetObject::VtiInterface(_),
            )
            | None => None,
        };
        Ok(interface.into_iter().chain(held).collect())
    }

    /// Makes the change.
    ///
    /// # Errors
    /// If an object cannot be installed, or the record cannot be written; the change is rolled back
    /// then.
    pub fn carry_out(&mut self, change: &RoutingChange) -> Result<RoutingOutcome, RoutingError> {
        if change.is_empty() {
            return Ok(RoutingOutcome::default());
        }
        let outgoing: Vec<_> = change.outgoing().cloned().collect();
        // The record first names the added objects besides the installed ones, so that it names
        // everything that may be installed at any time.
        let both = self.record(change, change.before_and_after());
        if change.before.as_ref() != Some(&both) {
            self.store.write_routing(change.recorded(), &both)?;
        }
        let Setup { installed, own_objects } = self.set_up(change, &both)?;
        let Rest { faults, stuck, .. } = self.take_down(&change.key, &outgoing)?;
        let removed_count = outgoing.len() - stuck.len();
        let left = self.record(change, own_objects.into_iter().chain(stuck.into_iter().rev()).collect());
        match left.objects.is_empty() {
            true => self.store.erase_routing(&both)?,
            false if left != both => self.store.write_routing(&both.objects, &left)?,
            false => {}
        }
        Ok(RoutingOutcome {
            installed,
            removed_count,
            faults,
        })
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

    /// Installs all objects, including recorded ones, which may have been removed by others.
    fn set_up(&mut self, change: &RoutingChange, both: &RoutingRecord) -> Result<Setup, RoutingError> {
        let mut setup = Setup::default();
        let mut new = Vec::new();
        for object in &change.after {
            let was_installed = change
                .recorded()
                .iter()
                .any(|other| object_key(other) == object_key(object));
            match self.install_object(change, object) {
                Ok(InstallResult::New) => {
                    setup.installed += usize::from(!was_installed);
                    new.push(object);
                    setup.own_objects.push(object.clone());
                }
                Ok(InstallResult::Existed) => setup.own_objects.extend(self.previous_object(change, object)?),
                Err(error) => {
                    self.roll_back(change, &new, both);
                    return Err(error);
                }
            }
        }
        Ok(setup)
    }

    /// The installed object with an object's key; `None` if it is another program's, which
    /// must not be removed.
    fn previous_object(&self, change: &RoutingChange, object: &NetObject) -> Result<Option<NetObject>, RecordError> {
        let recorded = change.recorded();
        let same = recorded.iter().find(|other| *other == object);
        match same.or_else(|| recorded.iter().find(|other| object_key(other) == object_key(object))) {
            Some(previous) => Ok(Some(previous.clone())),
            None => self.store.held_object(&object_key(object), &change.key),
        }
    }

    /// Rolls back. Only the first error is reported; errors of the roll back would have the same
    /// cause.
    fn roll_back(&mut self, change: &RoutingChange, new: &[&NetObject], both: &RoutingRecord) {
        let mut rest = Rest::default();
        for object in new.iter().rev() {
            let done = match change
                .recorded()
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
        // If an object cannot be removed, the present record, which names everything that may be
        // installed, stays.
        let _ = match &change.before {
            _ if !rest.stuck.is_empty() => Ok(()),
            Some(before) => self.store.write_routing(&both.objects, before),
            None => self.store.erase_routing(both),
        };
    }

    /// Removes objects, and returns those that could not be removed, with the reasons.
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
        let removal = match rest.stuck.iter().any(|other| depends_on(other, object)) {
            true => Ok(Removal::InUse),
            false => self.remove(key, object),
        };
        match removal {
            Ok(Removal::Out) => {}
            Ok(Removal::Replaced(key)) => rest.restored.push(key),
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

    /// Removes an object, unless another remote network needs it, or installs that network's object
    /// with the same key.
    fn remove(&mut self, key: &RoutingKey, object: &NetObject) -> Result<Removal, RoutingError> {
        match self.store.held_object(&object_key(object), key)? {
            Some(other) if other == *object => {}
            // Installing the other one would replace a route that has not been saved.
            Some(_) if self.is_somebody_elses(key, object)? => return Ok(Removal::Replaced(object_key(object))),
            Some(other) => {
                if let Err(error) = self.kernel.install(&other) {
                    self.kernel.delete(object)?;
                    return Ok(Removal::Bare(error));
                }
            }
            None if self.is_in_use(object)? => return Ok(Removal::InUse),
            None => return self.remove_object(key, object),
        }
        Ok(Removal::Out)
    }

    /// Whether another program's route has this address as its source, or an address on this
    /// interface: the kernel would delete that route along with the address. A route into the
    /// interface itself is deleted with it in any case.
    fn is_in_use(&mut self, object: &NetObject) -> Result<bool, NetlinkError> {
        let mut users = |address: IpAddr| self.kernel.routes(&RouteQuery::From(address));
        match object {
            NetObject::Address(address) => Ok(!users(address.address.addr())?.is_empty()),
            NetObject::VtiInterface(VtiInterface {
                interface,
                address: Some(address),
                ..
            }) => Ok((users(address.addr())?.iter()).any(|route| route.interface.as_ref() != Some(interface))),
            NetObject::VtiInterface(_) | NetObject::Route(_) | NetObject::Rule(_) | NetObject::ProxyNeighbour(_) => {
                Ok(false)
            }
        }
    }

    /// Installs recorded objects that are missing, and returns them, and the errors.
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

    /// The recorded routes of the main table that are missing.
    ///
    /// # Errors
    /// If the record cannot be read, or the routes not be listed.
    pub(crate) fn missing_routes(&mut self) -> Result<Vec<NetObject>, RoutingError> {
        let mut missing = Vec::new();
        for object in self
            .store
            .routing_records()?
            .into_iter()
            .flat_map(|record| record.objects)
        {
            if self.is_listed(&object)? == Some(false) {
                missing.push(object);
            }
        }
        Ok(missing)
    }

    /// Whether a route is in the main table. Nothing, for what is not listed.
    fn is_listed(&mut self, object: &NetObject) -> Result<Option<bool>, NetlinkError> {
        let NetObject::Route(route) = object else {
            return Ok(None);
        };
        if !route.table.is_main() {
            return Ok(None);
        }
        let listed = self.kernel.routes(&RouteQuery::To(route.destination))?;
        Ok(Some(listed.iter().any(|listed| route.is_listed_as(listed))))
    }

    /// Installs an object unless it exists. A route is installed by replacing the present one, and
    /// the kernel does not report whether that was the same; so the route is looked up first.
    /// Tables other than the main one are not listed.
    fn put_back(&mut self, object: &NetObject) -> Result<InstallResult, NetlinkError> {
        match self.is_listed(object)? {
            Some(true) => Ok(InstallResult::Existed),
            Some(false) | None => self.kernel.install(object),
        }
    }

    /// Removes the objects of a daemon that has exited.
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
            faults.extend(self.carry_out(&RoutingChange::removal(record))?.faults);
        }
        Ok(faults)
    }
}

/// Whether the kernel deletes an object along with another: a route with its source, anything with
/// its interface.
fn depends_on(object: &NetObject, other: &NetObject) -> bool {
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
