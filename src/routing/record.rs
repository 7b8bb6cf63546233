//! The record of the routes, addresses and interfaces that are installed for a remote network.
//!
//! Unlike iptables, rtnetlink has no transactions. So a record always names at least what is
//! installed: an object is recorded before it is installed, and erased after it has been removed.
//! Removing an object that is absent is no error.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::plan::{RoutingKey, object_key as key_of};
use crate::daemon::ConnectionName;
use crate::netlink::{NetObject, SavedRoute};
use crate::state::{DaemonProcess, RecordError, Store, absent_is_none, file};

/// The objects that are installed for one remote network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoutingRecord {
    /// The format of this record, [`crate::state::FORMAT`].
    pub format: u32,
    /// The remote network, and the interface if there is one.
    pub key: RoutingKey,
    /// The connection that the daemon last called for.
    pub connection: ConnectionName,
    /// The connection for which the routes were made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub routed_for: Option<ConnectionName>,
    /// The daemon that called; `None` for calls made by hand.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub daemon: Option<DaemonProcess>,
    /// When something was first installed, in seconds since 1970 (UTC).
    pub since: u64,
    /// The installed objects, in the order of their installation.
    #[serde(rename = "items")]
    pub objects: Vec<NetObject>,
}

/// The record of a route that one of this program's routes has replaced.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct ReplacedRecord {
    /// The format of this record, [`crate::state::FORMAT`].
    format: u32,
    /// The route.
    route: SavedRoute,
}

impl Store {
    /// The record of a remote network.
    ///
    /// # Errors
    /// If the record exists and cannot be read.
    pub fn routing_record(&self, key: &RoutingKey) -> Result<Option<RoutingRecord>, RecordError> {
        self.routing_named(&key.to_string())
    }

    /// The records of all remote networks.
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

    /// The object that is recorded with this key for another remote network.
    pub(crate) fn held_object(&self, key: &str, except: &RoutingKey) -> Result<Option<NetObject>, RecordError> {
        Ok(self.held_objects(key, except)?.into_iter().next())
    }

    /// All objects that are recorded with this key for other remote networks. After a call that
    /// died, a record may also name objects that were never installed.
    pub(crate) fn held_objects(&self, key: &str, except: &RoutingKey) -> Result<Vec<NetObject>, RecordError> {
        let except = except.to_string();
        let mut held = Vec::new();
        for name in file::file_names(&self.holders_folder(key))? {
            let name = name?;
            if name != except {
                let objects = self.routing_named(&name)?.into_iter().flat_map(|record| record.objects);
                held.extend(objects.filter(|object| key_of(object) == key));
            }
        }
        Ok(held)
    }

    /// Writes a record of what is installed or about to be. `before` are the objects in the record
    /// until now.
    ///
    /// # Errors
    /// If a file cannot be written; the record is unchanged then.
    pub(crate) fn write_routing(&self, before: &[NetObject], record: &RoutingRecord) -> Result<(), RecordError> {
        record.daemon.as_ref().map_or(Ok(()), |daemon| self.register(daemon))?;
        let name = record.key.to_string();
        // A record that could not be written holds no key: the file system may be full, and the
        // keys' files need space.
        self.put_routing(record)
            .inspect_err(|_| drop(self.release_keys(&name, &record.objects, before)))?;
        self.release_keys(&name, before, &record.objects)
    }

    fn put_routing(&self, record: &RoutingRecord) -> Result<(), RecordError> {
        self.make_network_folder()?;
        for folder in [self.networks_folder(), self.network_folder().join("holders")] {
            file::make_folder(&folder)?;
        }
        let name = record.key.to_string();
        for item in &record.objects {
            let folder = self.holders_folder(&key_of(item));
            file::make_folder(&folder)?;
            file::create_empty(&folder.join(&name))?;
        }
        let new = self.networks_folder().join(format!("{name}.new"));
        file::write_json(&new, record).inspect_err(|_| drop(file::remove(&new)))?;
        file::rename(&new, &self.networks_folder().join(&name))
    }

    /// The saved route that one of this program's routes has replaced.
    pub(crate) fn replaced_route(&self, key: &str) -> Result<Option<SavedRoute>, RecordError> {
        let record: Option<ReplacedRecord> = absent_is_none(file::read_json(&self.replaced_routes_folder().join(key)))?;
        Ok(record.map(|record| record.route))
    }

    /// Records the route that one of this program's routes is about to replace, so that it can be
    /// restored.
    pub(crate) fn record_replaced_route(&self, key: &str, route: &SavedRoute) -> Result<(), RecordError> {
        self.make_network_folder()?;
        file::make_folder(&self.replaced_routes_folder())?;
        // By rename, so that a call that dies leaves no half of a file.
        let new = self.network_folder().join("replaced.new");
        let record = ReplacedRecord {
            format: crate::state::FORMAT,
            route: route.clone(),
        };
        file::write_json(&new, &record).inspect_err(|_| drop(file::remove(&new)))?;
        file::rename(&new, &self.replaced_routes_folder().join(key))
    }

    /// Erases a saved route that has been restored, or is not to be restored.
    pub(crate) fn erase_replaced_route(&self, key: &str) -> Result<(), RecordError> {
        file::remove(&self.replaced_routes_folder().join(key))
    }

    /// Erases the record of a remote network.
    pub(crate) fn erase_routing(&self, record: &RoutingRecord) -> Result<(), RecordError> {
        let name = record.key.to_string();
        file::remove(&self.networks_folder().join(&name))?;
        self.release_keys(&name, &record.objects, &[])
    }

    /// Releases the keys of the objects in `before` that are not in `after`.
    fn release_keys(&self, name: &str, before: &[NetObject], after: &[NetObject]) -> Result<(), RecordError> {
        for key in before.iter().map(key_of) {
            if !after.iter().any(|item| key_of(item) == key) {
                let folder = self.holders_folder(&key);
                file::remove(&folder.join(name))?;
                file::remove_if_empty(&folder)?;
            }
        }
        Ok(())
    }

    fn routing_named(&self, name: &str) -> Result<Option<RoutingRecord>, RecordError> {
        absent_is_none(file::read_json(&self.networks_folder().join(name)))
    }

    /// The folder of the saved routes, by key.
    fn replaced_routes_folder(&self) -> PathBuf {
        self.network_folder().join("replaced")
    }

    /// The folder whose files name the remote networks that hold a key.
    fn holders_folder(&self, key: &str) -> PathBuf {
        self.network_folder().join("holders").join(key)
    }
}
