//! The record of one network namespace: its folders and files.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Instant;

use super::any_record::Record;
use super::cache::Cache;
use super::daemon_process::DaemonProcess;
use super::error::RecordError;
use super::file;
use super::index::member_id;
use super::lock::Lock;
use super::namespace::{is_mark_known, namespace_mark};
use super::tunnel::TunnelRecord;
use crate::firewall::{TunnelId, TunnelKey};
use crate::netfilter::Ruleset;

/// The suffix of the name of a record whose rules are not yet installed.
pub(crate) const NEW: &str = ".new";

/// As long as nearly every path is below the namespace's folder, in bytes. A longer one only takes
/// another allocation.
const LONGEST_BELOW: usize = 120;

/// The folder of what is recorded about routes, addresses and interfaces.
const NETWORK: &str = "network";

/// The record of one network namespace.
///
/// [`Store::open_locked`] makes one that holds the lock; from [`Store::open_unlocked`] it only
/// reads, and another call may change it meanwhile.
#[derive(Debug)]
pub struct Store {
    pub(crate) top: PathBuf,
    pub(crate) folder: PathBuf,
    pub(super) lock: Option<Lock>,
    /// The name of the file that identifies this process's namespace; `None` for the record of
    /// another namespace.
    pub(crate) namespace_file: Option<String>,
    pub(super) cache: Mutex<Cache>,
}

/// The record of a tunnel, or a free id for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum TunnelSlot {
    /// The tunnel is recorded.
    Taken(Box<TunnelRecord>),
    /// The tunnel is not recorded; this id is free.
    Free(TunnelId),
}

/// The records of a ruleset.
#[derive(Debug, Default)]
pub(crate) struct RecordList {
    /// Those that can be used.
    pub(crate) records: Vec<Record>,
    /// The others, and why not.
    pub(crate) unreadable: Vec<(TunnelId, RecordError)>,
}

impl Store {
    /// Opens the record of the namespace with this inode, below the folder `top`, and takes its
    /// lock. Makes the missing folders.
    ///
    /// # Errors
    /// If a folder cannot be made, if another user can write to it, or if the lock is held until
    /// `deadline`.
    pub fn open_locked(top: &Path, namespace: u64, deadline: Instant) -> Result<Self, RecordError> {
        let folder = top.join(namespace.to_string());
        let lock = Lock::acquire(top, &folder, deadline);
        if let Err(RecordError::Io { .. }) = lock {
            // On a full file system perhaps only the folders could be made.
            let _ = file::remove_if_empty(&folder);
            let _ = file::remove_if_empty(top);
        }
        let store = Self {
            top: top.to_owned(),
            folder,
            lock: Some(lock?),
            namespace_file: namespace_mark(namespace),
            cache: Mutex::default(),
        };
        store.take_over()?;
        Ok(store)
    }

    /// Opens the record without taking the lock.
    #[must_use]
    pub fn open_unlocked(top: &Path, namespace: u64) -> Self {
        let mut store = Self {
            top: top.to_owned(),
            folder: top.join(namespace.to_string()),
            lock: None,
            namespace_file: None,
            cache: Mutex::default(),
        };
        if is_mark_known(namespace) || store.folder.exists() {
            store.namespace_file = namespace_mark(namespace);
            if store.is_of_former_namespace() {
                // No folder has this name, so the record is empty.
                store.folder = top.join(format!("{namespace}{NEW}"));
            }
        }
        store
    }

    /// The locked file, if the lock is held.
    #[must_use]
    pub fn lock(&self) -> Option<&File> {
        self.lock.as_ref().and_then(Lock::file)
    }

    /// Whether the record can be read, or does not exist.
    #[must_use]
    pub(crate) fn is_readable(&self) -> bool {
        match std::fs::read_dir(&self.folder) {
            Ok(_) => true,
            Err(error) => error.kind() == std::io::ErrorKind::NotFound,
        }
    }

    /// Whether there is work that no daemon has called for: a call died before it was complete, a
    /// `down` is owed, or a daemon exited and left its tunnels.
    pub(crate) fn needs_attention(&self) -> Result<bool, RecordError> {
        let interrupted = self.folder.join("pending").exists() || self.has_owed_downs()?;
        Ok(interrupted || !self.dead_daemons()?.is_empty())
    }

    /// The daemons that have tunnels here and have exited.
    pub(crate) fn dead_daemons(&self) -> Result<Vec<DaemonProcess>, RecordError> {
        if !self.has_name("daemons")? {
            return Ok(Vec::new());
        }
        let names: Vec<_> = file::file_names(&self.folder.join("daemons"))?.collect::<Result<_, _>>()?;
        let daemons = names.iter().filter_map(|name| name.parse::<DaemonProcess>().ok());
        Ok(daemons.filter(DaemonProcess::is_dead).collect())
    }

    /// Records that a daemon has tunnels here.
    pub(crate) fn register(&self, daemon: &DaemonProcess) -> Result<(), RecordError> {
        let made = file::create_empty_in(&self.folder.join("daemons"), &daemon.to_string());
        self.made("daemons", made)
    }

    /// Erases a daemon that has no tunnels here.
    pub(crate) fn unregister(&self, daemon: &DaemonProcess) -> Result<(), RecordError> {
        file::remove(&self.folder.join("daemons").join(daemon.to_string()))
    }

    /// Whether this ruleset has a tunnel's record. Reads none.
    pub(crate) fn has_tunnels(&self, ruleset: Ruleset) -> Result<bool, RecordError> {
        is_any(file::file_names(&self.tunnels_folder(ruleset))?, |name| {
            member_id(name).is_some_and(|id| id.is_tunnel())
        })
    }

    /// Finds a tunnel's record, or a free id for it.
    ///
    /// # Errors
    /// If a record that might be the tunnel's cannot be read, or if every id that it could have is
    /// taken.
    pub(crate) fn tunnel_slot(&self, ruleset: Ruleset, key: &TunnelKey) -> Result<TunnelSlot, RecordError> {
        if !self.has_entries(ruleset)? {
            let free = key.ids().next();
            return free.map(TunnelSlot::Free).ok_or_else(|| no_name(key));
        }
        let mut free = None;
        for id in key.ids() {
            match self.entry(ruleset, &id)? {
                Some(Record::Tunnel(record)) if record.key == *key => return Ok(TunnelSlot::Taken(record)),
                Some(_) => {}
                None => free = free.or(Some(id)),
            }
        }
        free.map(TunnelSlot::Free).ok_or_else(|| no_name(key))
    }

    /// The records of a ruleset, without those whose content cannot be used.
    ///
    /// # Errors
    /// If the folder or a file cannot be read.
    pub fn entries(&self, ruleset: Ruleset) -> Result<Vec<Record>, RecordError> {
        Ok(self.read_all(ruleset)?.records)
    }

    /// All records of a ruleset, and which of them have a content that cannot be used. Their rules
    /// stay as they are.
    ///
    /// # Errors
    /// If the folder or a file cannot be read.
    pub(crate) fn read_all(&self, ruleset: Ruleset) -> Result<RecordList, RecordError> {
        let mut ids = self.members(&self.tunnels_folder(ruleset))?;
        ids.sort();
        let (mut room, mut all) = (Vec::new(), RecordList::default());
        for id in ids {
            match self.read_entry(ruleset, &id, &mut room) {
                Ok(record) => all.records.extend(record),
                Err(error) if error.is_of_content() => all.unreadable.push((id, error)),
                Err(error) => return Err(error),
            }
        }
        Ok(all)
    }

    /// One record, if its content can be used.
    pub(crate) fn readable_entry(&self, ruleset: Ruleset, id: &TunnelId) -> Result<Option<Record>, RecordError> {
        match self.entry(ruleset, id) {
            Err(error) if error.is_of_content() => Ok(None),
            other => other,
        }
    }

    /// All recorded tunnels of a ruleset.
    ///
    /// # Errors
    /// If one of the records cannot be read.
    pub fn tunnels(&self, ruleset: Ruleset) -> Result<Vec<TunnelRecord>, RecordError> {
        let entries = self.entries(ruleset)?.into_iter();
        Ok(entries.filter_map(Record::into_tunnel).collect())
    }

    /// Replaces a record by one with the same rules.
    ///
    /// # Errors
    /// If it cannot be written; the old record stays then.
    pub(crate) fn update_record(
        &self,
        ruleset: Ruleset,
        old: Option<&Record>,
        new: &Record,
    ) -> Result<(), RecordError> {
        new.daemon().map_or(Ok(()), |daemon| self.register(&daemon))?;
        self.write_new(ruleset, new)?;
        let files = |entry: &Record| self.index_files(ruleset, entry);
        let moved = old.filter(|old| files(old) != files(new));
        if moved.is_some() {
            self.add_index_files(ruleset, new)?;
        }
        let renamed = file::rename(&self.new_file(ruleset, new.id()), &self.tunnel_file(ruleset, new.id()));
        self.records_changed(ruleset, [&[], std::slice::from_ref(new.id())], renamed)?;
        moved.map_or(Ok(()), |old| {
            self.remove_index_files(ruleset, old, std::slice::from_ref(new))
        })
    }

    /// Whether any remote network has a record.
    pub(crate) fn has_routings(&self) -> Result<bool, RecordError> {
        if !self.has_name(NETWORK)? {
            return Ok(false);
        }
        is_any(file::file_names(&self.networks_folder())?, |name| {
            !name.ends_with(".new")
        })
    }

    /// The folder of what is recorded about routes, addresses and interfaces.
    pub(crate) fn network_folder(&self) -> PathBuf {
        self.folder.join(NETWORK)
    }

    pub(crate) fn make_network_folder(&self) -> Result<(), RecordError> {
        self.made(NETWORK, file::make_folder(&self.network_folder()))
    }

    /// The folder of the records of remote networks.
    pub(crate) fn networks_folder(&self) -> PathBuf {
        self.network_folder().join("installed")
    }

    /// The folder of what is recorded about name servers.
    pub(crate) fn resolver_folder(&self) -> PathBuf {
        self.folder.join("resolver")
    }

    /// Removes every folder that is empty. After the last tunnel, and the last user of a peer's
    /// name servers, it removes everything, the lock included.
    ///
    /// # Errors
    /// If a folder cannot be listed or removed.
    pub fn remove_unused(&self) -> Result<(), RecordError> {
        // A change that was interrupted needs its files.
        if self.journal()?.is_some() {
            return Ok(());
        }
        let has_routings = self.has_routings()?;
        if !has_routings && self.has_name(NETWORK)? {
            self.removed(NETWORK, file::remove_tree(&self.network_folder()))?;
        }
        let mut empty = !has_routings && !self.resolver_folder().exists() && !self.is_any_without_rules()?;
        for ruleset in Ruleset::all_rulesets() {
            if self.has_entries(ruleset)? {
                empty = false;
            } else if self.has_name(&ruleset.to_string())? {
                let removed = file::remove_tree(&self.ruleset_folder(ruleset));
                self.removed(&ruleset.to_string(), removed)?;
            }
        }
        if empty {
            // A `down` that was noted meanwhile has nothing to remove.
            self.drop_owed_downs()?;
            self.forget_failed_ups()?;
            file::remove_tree(&self.folder.join("daemons"))?;
            self.remove_marks()?;
            // The lock is the last file: until it is removed, no other call changes the record.
            file::remove(&self.folder.join("lock"))?;
            file::remove_if_empty(&self.folder)?;
            // The folder may be a mount point, or in a folder that this user cannot change. That it
            // is empty is enough.
            let _ = file::remove_if_empty(&self.top);
        }
        Ok(())
    }

    pub(crate) fn write_new(&self, ruleset: Ruleset, entry: &Record) -> Result<(), RecordError> {
        let path = self.new_file(ruleset, entry.id());
        let written = match file::write_json(&path, entry) {
            Err(error) if error.is_absence() => {
                file::make_folder(&self.ruleset_folder(ruleset))?;
                file::make_folder(&self.tunnels_folder(ruleset))?;
                file::write_json(&path, entry)
            }
            other => other,
        };
        if written.is_err() {
            let _ = file::remove(&path);
        }
        self.made(&ruleset.to_string(), written)
    }

    /// One record.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn entry(&self, ruleset: Ruleset, id: &TunnelId) -> Result<Option<Record>, RecordError> {
        match self.is_known_to_lack(ruleset, id) {
            true => Ok(None),
            false => self.read_entry(ruleset, id, &mut Vec::new()),
        }
    }

    fn read_entry(&self, ruleset: Ruleset, id: &TunnelId, room: &mut Vec<u8>) -> Result<Option<Record>, RecordError> {
        let path = self.tunnel_file(ruleset, id);
        let read = file::read_into(&path, room).and_then(|()| file::parse_by(&path, room, Record::from_json));
        absent_is_none(read)
    }

    pub(super) fn members(&self, folder: &Path) -> Result<Vec<TunnelId>, RecordError> {
        let names = self.index_names(folder)?;
        let names = names.iter().filter(|name| !name.ends_with(NEW));
        Ok(names.filter_map(|name| member_id(name)).collect())
    }

    pub(crate) fn ruleset_folder(&self, ruleset: Ruleset) -> PathBuf {
        let mut path = PathBuf::with_capacity(self.folder.as_os_str().len() + LONGEST_BELOW);
        path.push(&self.folder);
        below(path, ruleset.to_string())
    }

    pub(super) fn tunnels_folder(&self, ruleset: Ruleset) -> PathBuf {
        below(self.ruleset_folder(ruleset), "tunnels")
    }

    pub(crate) fn tunnel_file(&self, ruleset: Ruleset, id: &TunnelId) -> PathBuf {
        below(self.tunnels_folder(ruleset), id.as_str())
    }

    pub(crate) fn new_file(&self, ruleset: Ruleset, id: &TunnelId) -> PathBuf {
        below(self.tunnels_folder(ruleset), format!("{id}{NEW}"))
    }
}

/// A path with one more name, in the room of the path, which `join` would copy.
pub(super) fn below(mut path: PathBuf, name: impl AsRef<Path>) -> PathBuf {
    path.push(name);
    path
}

fn no_name(key: &TunnelKey) -> RecordError {
    RecordError::NoName {
        connection: key.connection.to_string(),
    }
}

/// Whether `is_meant` accepts one of these names. Stops at the first.
pub(crate) fn is_any(
    names: impl Iterator<Item = Result<String, RecordError>>,
    is_meant: impl Fn(&str) -> bool,
) -> Result<bool, RecordError> {
    for name in names {
        if is_meant(&name?) {
            return Ok(true);
        }
    }
    Ok(false)
}

pub(crate) fn absent_is_none<T>(result: Result<T, RecordError>) -> Result<Option<T>, RecordError> {
    match result {
        Err(error) if error.is_absence() => Ok(None),
        other => other.map(Some),
    }
}
