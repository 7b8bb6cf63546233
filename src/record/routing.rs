//! The record of the routes, addresses and devices that are installed for a far network.
//!
//! Unlike a firewall's change, theirs is not one transaction. So a record says at any time at least
//! what is installed: what is about to come is written down before it comes, and what goes is
//! struck off after it has gone. To take out what is not there is no fault.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::daemon_process::DaemonProcess;
use super::error::RecordError;
use super::file;
use super::store::{Store, absent_is_none, is_any};
use crate::plan::{RoutingKey, object_key as slot_of};
use crate::rtnetlink::{NetObject, SavedRoute};
use crate::updown_env::ConnectionName;

/// What is installed for one far network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoutingRecord {
    /// The format of this record, [`super::FORMAT`].
    pub format: u32,
    /// For what it is.
    pub key: RoutingKey,
    /// The connection that the daemon named last.
    pub connection: ConnectionName,
    /// The connection for which the routes were made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub routed_for: Option<ConnectionName>,
    /// The daemon; none for calls made by hand.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub daemon: Option<DaemonProcess>,
    /// When something was first installed, in seconds since 1970 (UTC).
    pub since: u64,
    /// What is installed, in the order in which it was put in.
    #[serde(rename = "items")]
    pub objects: Vec<NetObject>,
}

/// A route that one of ours has replaced.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct ReplacedRecord {
    /// The format of this record, [`super::FORMAT`].
    format: u32,
    /// The route.
    route: SavedRoute,
}

impl Store {
    /// What is installed for a far network.
    ///
    /// # Errors
    /// If the record is there and cannot be read.
    pub fn routing_record(&self, key: &RoutingKey) -> Result<Option<RoutingRecord>, RecordError> {
        self.routing_named(&key.to_string())
    }

    /// What is installed for any far network.
    ///
    /// # Errors
    /// If one of the records cannot be read.
    pub fn routing_records(&self) -> Result<Vec<RoutingRecord>, RecordError> {
        let mut names: Vec<_> = file::file_names(&self.networks_folder())?.collect::<Result<_, _>>()?;
        names.retain(|name| !name.ends_with(".new"));
        names.sort();
        names
            .iter()
            .filter_map(|name| self.routing_named(name).transpose())
            .collect()
    }

    /// Whether anything is installed for any far network.
    ///
    /// # Errors
    /// If the folder cannot be listed.
    pub fn has_routings(&self) -> Result<bool, RecordError> {
        is_any(file::file_names(&self.networks_folder())?, |name| {
            !name.ends_with(".new")
        })
    }

    /// The object that is installed for another remote network in this slot, or may be.
    ///
    /// # Errors
    /// If the record of who holds it cannot be read.
    pub fn held_object(&self, slot: &str, except: &RoutingKey) -> Result<Option<NetObject>, RecordError> {
        Ok(self.held_objects(slot, except)?.into_iter().next())
    }

    /// All of them: after a call that died, a record also names what was never installed.
    ///
    /// # Errors
    /// If the record of who holds it cannot be read.
    pub fn held_objects(&self, slot: &str, except: &RoutingKey) -> Result<Vec<NetObject>, RecordError> {
        let except = except.to_string();
        let mut held = Vec::new();
        for name in file::file_names(&self.holders_folder(slot))? {
            let name = name?;
            if name != except {
                let objects = self.routing_named(&name)?.into_iter().flat_map(|record| record.objects);
                held.extend(objects.filter(|object| slot_of(object) == slot));
            }
        }
        Ok(held)
    }

    /// Writes down what is or is about to be installed. `before` is what the record said until now.
    ///
    /// # Errors
    /// If a file cannot be written; what the record said before stands then.
    pub fn write_routing(&self, before: &[NetObject], record: &RoutingRecord) -> Result<(), RecordError> {
        record.daemon.as_ref().map_or(Ok(()), |daemon| self.register(daemon))?;
        let name = record.key.to_string();
        // What failed holds nothing: for want of space, say, of which its files would take more.
        self.put_routing(record)
            .inspect_err(|_| drop(self.leave_slots(&name, &record.objects, before)))?;
        self.leave_slots(&name, before, &record.objects)
    }

    fn put_routing(&self, record: &RoutingRecord) -> Result<(), RecordError> {
        for folder in [
            self.network_folder(),
            self.networks_folder(),
            self.network_folder().join("holders"),
        ] {
            file::make_folder(&folder)?;
        }
        let name = record.key.to_string();
        for item in &record.objects {
            let folder = self.holders_folder(&slot_of(item));
            file::make_folder(&folder)?;
            file::create_empty(&folder.join(&name))?;
        }
        let new = self.networks_folder().join(format!("{name}.new"));
        file::write_json(&new, record).inspect_err(|_| drop(file::remove(&new)))?;
        file::rename(&new, &self.networks_folder().join(&name))
    }

    /// The route that stood where one of ours stands now.
    ///
    /// # Errors
    /// If it is on record and cannot be read.
    pub fn replaced_route(&self, slot: &str) -> Result<Option<SavedRoute>, RecordError> {
        let record: Option<ReplacedRecord> =
            absent_is_none(file::read_json(&self.replaced_routes_folder().join(slot)))?;
        Ok(record.map(|record| record.route))
    }

    /// Writes down the route that one of ours is about to replace, to put it back when ours goes.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn record_replaced_route(&self, slot: &str, route: &SavedRoute) -> Result<(), RecordError> {
        for folder in [self.network_folder(), self.replaced_routes_folder()] {
            file::make_folder(&folder)?;
        }
        // Not half of it, if the call dies meanwhile.
        let new = self.network_folder().join("replaced.new");
        let record = ReplacedRecord {
            format: super::FORMAT,
            route: route.clone(),
        };
        file::write_json(&new, &record).inspect_err(|_| drop(file::remove(&new)))?;
        file::rename(&new, &self.replaced_routes_folder().join(slot))
    }

    /// Strikes off a route that is back, or is not to come back.
    ///
    /// # Errors
    /// If the file cannot be removed.
    pub fn erase_replaced_route(&self, slot: &str) -> Result<(), RecordError> {
        file::remove(&self.replaced_routes_folder().join(slot))
    }

    /// Strikes off everything for a far network.
    ///
    /// # Errors
    /// If a file cannot be removed.
    pub fn erase_routing(&self, record: &RoutingRecord) -> Result<(), RecordError> {
        let name = record.key.to_string();
        file::remove(&self.networks_folder().join(&name))?;
        self.leave_slots(&name, &record.objects, &[])
    }

    /// Gives up the slots of what was, unless it is among what is.
    fn leave_slots(&self, name: &str, before: &[NetObject], after: &[NetObject]) -> Result<(), RecordError> {
        for slot in before.iter().map(slot_of) {
            if !after.iter().any(|item| slot_of(item) == slot) {
                let folder = self.holders_folder(&slot);
                file::remove(&folder.join(name))?;
                file::remove_if_empty(&folder)?;
            }
        }
        Ok(())
    }

    fn routing_named(&self, name: &str) -> Result<Option<RoutingRecord>, RecordError> {
        absent_is_none(file::read_json(&self.networks_folder().join(name)))
    }

    pub(super) fn network_folder(&self) -> PathBuf {
        self.folder.join("network")
    }

    fn networks_folder(&self) -> PathBuf {
        self.network_folder().join("installed")
    }

    /// The folder whose files are the routes that ours have replaced, by slot.
    fn replaced_routes_folder(&self) -> PathBuf {
        self.network_folder().join("replaced")
    }

    /// The folder whose files name the far networks that something is installed for.
    fn holders_folder(&self, slot: &str) -> PathBuf {
        self.network_folder().join("holders").join(slot)
    }
}
