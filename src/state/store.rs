//! The record of one network namespace: its folders and files.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::any_record::Record;
use super::daemon_process::DaemonProcess;
use super::error::RecordError;
use super::file;
use super::lock::Lock;
use super::namespace::{is_mark_known, namespace_mark};
use super::tunnel::{FORMAT, TunnelRecord};
use crate::daemon::Tunnel;
use crate::firewall::{
    Around, BucketMember, DispatchBucket, INTERFACES, JumpConfig, OptionalChains, PacketPath, SharedChains, TunnelId,
    TunnelKey, TunnelOrder, TunnelRules, are_alike, can_move,
};
use crate::net::{Expected, MarkBit};
use crate::netfilter::{Ruleset, Table};
use crate::settings::JumpPlace;

/// The suffix of the name of a record whose rules are not yet installed.
const NEW: &str = ".new";

/// The largest number of buckets of a path whose dispatcher a change reads: each costs iptables-nft
/// 3 µs (1.8.9).
const SHORT: u64 = 256;

/// The record of one network namespace.
///
/// [`Store::open_locked`] makes one that holds the lock; from [`Store::open_unlocked`] it only
/// reads, and another call may change it meanwhile.
#[derive(Debug)]
pub struct Store {
    pub(crate) top: PathBuf,
    pub(crate) folder: PathBuf,
    lock: Option<Lock>,
    /// The name of the file that identifies this process's namespace; `None` for the record of
    /// another namespace.
    pub(crate) mark: Option<String>,
    cache: Mutex<Cache>,
}

/// What has been read under the lock. No other process changes it, so it is valid until
/// [`Store::invalidate`].
#[derive(Debug, Default)]
struct Cache {
    /// The names in the namespace's folder.
    names: Option<BTreeSet<String>>,
    listed: BTreeMap<Ruleset, ListedRecords>,
    installed: BTreeMap<Ruleset, Installed>,
}

/// How many names of records are read to answer whether there are others than those that a change
/// is about: it is about one tunnel, and with it about what belongs to that, most often.
const MOST_LISTED: usize = 4;

/// The names of some records of a ruleset.
#[derive(Debug, Default)]
struct ListedRecords {
    names: Vec<String>,
    /// Whether there are no others.
    is_all: bool,
}

impl ListedRecords {
    /// Whether there is a record; nothing, if these names do not tell.
    fn is_any(&self) -> Option<bool> {
        match self.names.is_empty() {
            false => Some(true),
            true => self.is_all.then_some(false),
        }
    }

    /// Whether there are records but these; nothing, if these names do not tell.
    fn has_others(&self, ids: &BTreeSet<&TunnelId>) -> Option<bool> {
        match self.names.iter().any(|name| is_other(name, ids)) {
            true => Some(true),
            false => self.is_all.then_some(false),
        }
    }

    /// After a change that is settled.
    fn change(&mut self, removed: &[TunnelId], added: &[TunnelId]) {
        let is_of = |ids: &[TunnelId], name: &str| ids.iter().any(|id| id.as_str() == name);
        self.names.retain(|name| !is_of(removed, name) && !is_of(added, name));
        self.names.extend(added.iter().map(|id| id.as_str().to_owned()));
    }
}

/// What applies to all rules of a ruleset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Installed {
    /// The position of the jumps in the built-in chains.
    pub place: JumpPlace,
    /// The mark bit that says: the inbound tunnel allows the packet.
    #[serde(default)]
    pub mark: MarkBit,
    /// The version of the chain layout.
    #[serde(default, rename = "tunnel_rules", alias = "layout")]
    pub layout: LayoutVersion,
}

/// The version of the layout of a ruleset's chains.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub enum LayoutVersion {
    /// An inbound tunnel's chain jumps to those of outbound tunnels (formats 1 and 2 of records).
    #[default]
    One,
    /// The consent of the inbound tunnel is a bit of the packet's mark.
    Two,
    /// The order of tunnels does not depend on which one came up first.
    Three,
    /// Packets into a tunnel that allows nothing are dropped unless an inbound tunnel has allowed
    /// them.
    Four,
}

impl LayoutVersion {
    /// The layout that this version of the program installs.
    pub(crate) const CURRENT: Self = Self::Four;
}

impl TryFrom<u32> for LayoutVersion {
    type Error = Expected;

    fn try_from(number: u32) -> Result<Self, Expected> {
        match number {
            1 => Ok(Self::One),
            2 => Ok(Self::Two),
            3 => Ok(Self::Three),
            4 => Ok(Self::Four),
            _ => Err(Expected("a version of the rule layout, 1 to 4")),
        }
    }
}

impl From<LayoutVersion> for u32 {
    fn from(version: LayoutVersion) -> Self {
        match version {
            LayoutVersion::One => 1,
            LayoutVersion::Two => 2,
            LayoutVersion::Three => 3,
            LayoutVersion::Four => 4,
        }
    }
}

impl Installed {
    /// The jumps' position and the mark bit, as the plan needs them.
    #[must_use]
    pub fn jump_config(self, ruleset: Ruleset) -> JumpConfig {
        JumpConfig {
            family: ruleset.family,
            place: self.place,
            mark: self.mark,
        }
    }

    /// Whether an older version of this program installed the rules, in another layout.
    #[must_use]
    pub(crate) fn is_older(self) -> bool {
        self.layout < LayoutVersion::CURRENT
    }

    fn before_notes() -> Self {
        Self {
            place: JumpPlace::First,
            mark: MarkBit::default(),
            layout: LayoutVersion::One,
        }
    }
}

/// The content of the file `place`. A missing field has the value that was fixed before the field
/// existed.
#[derive(Debug, Serialize, Deserialize)]
struct InstalledNote {
    format: u32,
    #[serde(flatten)]
    installed: Installed,
}

/// The record of a tunnel, or a free id for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum TunnelSlot {
    /// The tunnel is recorded.
    Taken(Box<TunnelRecord>),
    /// The tunnel is not recorded; this id is free.
    Free(TunnelId),
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
            mark: namespace_mark(namespace),
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
            mark: None,
            cache: Mutex::default(),
        };
        if is_mark_known(namespace) || store.folder.exists() {
            store.mark = namespace_mark(namespace);
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

    /// Whether this ruleset has any record.
    pub(crate) fn has_entries(&self, ruleset: Ruleset) -> Result<bool, RecordError> {
        if self.lock.is_none() {
            return is_any(file::file_names(&self.tunnels_folder(ruleset))?, |name| {
                !name.ends_with(NEW)
            });
        }
        if let Some(known) = self.cache().listed.get(&ruleset).and_then(ListedRecords::is_any) {
            return Ok(known);
        }
        let listed = self.list_some(ruleset)?;
        let found = !listed.names.is_empty();
        self.cache().listed.insert(ruleset, listed);
        Ok(found)
    }

    /// Whether this ruleset has a tunnel's record. Reads none.
    ///
    /// # Errors
    /// If the folder cannot be listed.
    pub fn has_tunnels(&self, ruleset: Ruleset) -> Result<bool, RecordError> {
        is_any(file::file_names(&self.tunnels_folder(ruleset))?, |name| {
            member_id(name).is_some_and(|id| id.is_tunnel())
        })
    }

    fn list_some(&self, ruleset: Ruleset) -> Result<ListedRecords, RecordError> {
        let mut listed = ListedRecords {
            names: Vec::new(),
            is_all: true,
        };
        if !self.has_name(&ruleset.to_string())? {
            return Ok(listed);
        }
        for name in file::file_names(&self.tunnels_folder(ruleset))? {
            let name = name?;
            if name.ends_with(NEW) {
                continue;
            }
            if listed.names.len() == MOST_LISTED {
                listed.is_all = false;
                break;
            }
            listed.names.push(name);
        }
        Ok(listed)
    }

    /// Whether the namespace's folder has this name in it: that of the journal, of the daemons, or
    /// of a ruleset. One listing answers for all of them.
    pub(crate) fn has_name(&self, name: &str) -> Result<bool, RecordError> {
        if self.lock.is_none() {
            // Without the lock the list would not stay true; the read itself finds out.
            return Ok(true);
        }
        let mut cache = self.cache();
        let names = match &mut cache.names {
            Some(names) => names,
            unread => unread.insert(file::file_names(&self.folder)?.collect::<Result<_, _>>()?),
        };
        Ok(names.contains(name))
    }

    fn cache(&self) -> MutexGuard<'_, Cache> {
        // A panic elsewhere leaves no half of a change: each one is a single assignment.
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets what was read: much is about to be written, or has been.
    pub(crate) fn invalidate(&self) {
        *self.cache() = Cache::default();
    }

    /// Keeps what was read true after a change. After one that failed nothing is known.
    fn changed<T>(&self, result: Result<T, RecordError>, change: impl FnOnce(&mut Cache)) -> Result<T, RecordError> {
        match &result {
            Ok(_) => change(&mut self.cache()),
            Err(_) => self.invalidate(),
        }
        result
    }

    /// The same for a file or a folder in the namespace's folder that was made.
    pub(crate) fn made(&self, name: &str, result: Result<(), RecordError>) -> Result<(), RecordError> {
        self.changed(result, |cache| {
            if let Some(names) = &mut cache.names {
                names.insert(name.to_owned());
            }
        })
    }

    /// The same for one that was removed.
    pub(crate) fn removed(&self, name: &str, result: Result<(), RecordError>) -> Result<(), RecordError> {
        self.changed(result, |cache| {
            if let Some(names) = &mut cache.names {
                names.remove(name);
            }
        })
    }

    /// The same for records that went and came in a ruleset.
    pub(crate) fn settled(
        &self,
        ruleset: Ruleset,
        [removed, added]: [&[TunnelId]; 2],
        result: Result<(), RecordError>,
    ) -> Result<(), RecordError> {
        self.changed(result, |cache| {
            if let Some(listed) = cache.listed.get_mut(&ruleset) {
                listed.change(removed, added);
            }
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

    /// All records of a ruleset.
    ///
    /// # Errors
    /// If one of the records cannot be read: ignoring it would remove its rules.
    pub fn entries(&self, ruleset: Ruleset) -> Result<Vec<Record>, RecordError> {
        let mut ids = self.members(&self.tunnels_folder(ruleset))?;
        ids.sort();
        let mut room = Vec::new();
        ids.iter()
            .filter_map(|id| self.read_entry(ruleset, id, &mut room).transpose())
            .collect()
    }

    /// All recorded tunnels of a ruleset.
    ///
    /// # Errors
    /// If one of the records cannot be read.
    pub fn tunnels(&self, ruleset: Ruleset) -> Result<Vec<TunnelRecord>, RecordError> {
        let entries = self.entries(ruleset)?.into_iter();
        Ok(entries.filter_map(Record::into_tunnel).collect())
    }

    /// The tunnels that need these shared chains.
    pub(crate) fn tunnels_at(
        &self,
        ruleset: Ruleset,
        shared_chains: &SharedChains,
    ) -> Result<Vec<TunnelRecord>, RecordError> {
        let ids = self.members(&self.node_folder(ruleset, shared_chains))?;
        let entries: Result<Vec<_>, _> = ids
            .iter()
            .filter(|id| id.is_tunnel())
            .filter_map(|id| self.entry(ruleset, id).transpose())
            .collect();
        Ok(entries?.into_iter().filter_map(Record::into_tunnel).collect())
    }

    /// The other recorded tunnels that the kernel cannot distinguish from this one.
    pub(crate) fn others_alike(
        &self,
        ruleset: Ruleset,
        tunnel: &Tunnel,
        id: &TunnelId,
    ) -> Result<Vec<TunnelRecord>, RecordError> {
        let folder = self.alike_folder(ruleset, tunnel);
        let mut ids = absent_is_none(self.members(&folder))?.unwrap_or_default();
        ids.retain(|other| other != id);
        let mut tunnels = Vec::new();
        for id in ids {
            let record = self.entry(ruleset, &id)?.and_then(Record::into_tunnel);
            tunnels.extend(record.filter(|record| are_alike(&record.tunnel, tunnel)));
        }
        Ok(tunnels)
    }

    /// The tunnels of a connection that this peer has up and whose selectors MOBIKE can change,
    /// whatever the selectors were at `up`.
    pub(crate) fn tunnels_of_mobile_peer(
        &self,
        ruleset: Ruleset,
        call: &Tunnel,
    ) -> Result<Vec<TunnelRecord>, RecordError> {
        let folder = self.nodes_folder(ruleset).join(opener_id(call).as_str());
        let ids = absent_is_none(self.members(&folder))?.unwrap_or_default().into_iter();
        let records = ids.filter_map(|id| self.entry(ruleset, &id).transpose());
        records
            .filter_map(|record| record.map(Record::into_tunnel).transpose())
            .collect()
    }

    /// What applies to all rules of a ruleset, as it was when they were installed.
    ///
    /// # Errors
    /// If the file `place` cannot be read.
    pub fn installed(&self, ruleset: Ruleset) -> Result<Installed, RecordError> {
        if let Some(known) = self.cache().installed.get(&ruleset) {
            return Ok(*known);
        }
        let note: Option<InstalledNote> = absent_is_none(file::read_json(&self.place_file(ruleset)))?;
        // Versions before the second layout wrote the file only if the jumps were not in first
        // position.
        let installed = note.map_or_else(Installed::before_notes, |note| note.installed);
        if self.lock.is_some() {
            self.cache().installed.insert(ruleset, installed);
        }
        Ok(installed)
    }

    /// Records what applies to all rules of a ruleset from now on.
    pub(crate) fn set_installed(&self, ruleset: Ruleset, installed: Installed) -> Result<(), RecordError> {
        self.invalidate();
        let new = self.ruleset_folder(ruleset).join("place.new");
        file::make_folder(&self.ruleset_folder(ruleset))?;
        file::write_json(
            &new,
            &InstalledNote {
                format: FORMAT,
                installed,
            },
        )?;
        file::rename(&new, &self.place_file(ruleset))
    }

    /// Whether rules in the layout of an older version are installed, which have to be written
    /// again.
    pub(crate) fn has_older_layout(&self) -> Result<bool, RecordError> {
        for ruleset in Ruleset::all_rulesets() {
            if self.has_entries(ruleset)? && self.installed(ruleset)?.is_older() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn place_file(&self, ruleset: Ruleset) -> PathBuf {
        self.ruleset_folder(ruleset).join("place")
    }

    /// What other records share with the removed and the added ones: the shared chains that both
    /// need, and the members of those chains in which the order of tunnels matters.
    pub(crate) fn shared_around(
        &self,
        ruleset: Ruleset,
        [removed, added]: [&[Record]; 2],
    ) -> Result<(BTreeSet<SharedChains>, Around), RecordError> {
        let ids: BTreeSet<_> = removed.iter().chain(added).map(Record::id).collect();
        let nodes = |records: &[Record]| -> BTreeSet<_> {
            let all = records.iter().map(Record::tunnel_rules);
            all.flat_map(TunnelRules::shared_chains).collect()
        };
        let [before, after] = [removed, added].map(nodes);
        let (mut staying, mut around) = (BTreeSet::new(), Around::default());
        // Who needs a shared part of a table needs the table's base too: that comes last.
        for shared_chains in (&before | &after).iter().rev() {
            let stays = match shared_chains.as_bucket().filter(DispatchBucket::is_ordered) {
                None if shared_chains.is_base_of_any(&staying) => true,
                None => self.is_needed(ruleset, shared_chains, &ids)?,
                Some(bucket) => {
                    let members = self.bucket_members(ruleset, bucket, &ids)?;
                    let stays = !members.is_empty();
                    around.members.insert(bucket, members);
                    stays
                }
            };
            if stays {
                staying.insert(shared_chains.clone());
            }
        }
        let fresh = after
            .iter()
            .filter(|part| !before.contains(part) && !staying.contains(part));
        let paths: BTreeSet<_> = fresh
            .filter_map(SharedChains::as_bucket)
            .map(|bucket| bucket.path)
            .collect();
        self.add_dispatchers(ruleset, &paths, &ids, &mut around)?;
        around.long = self.long_paths(ruleset, before.union(&after));
        self.add_other_paths(ruleset, before.union(&after), &mut around)?;
        Ok((staying, around))
    }

    /// Adds one bucket of each path of the table that none of these shared chains is on.
    fn add_other_paths<'a>(
        &self,
        ruleset: Ruleset,
        parts: impl Iterator<Item = &'a SharedChains> + Clone,
        around: &mut Around,
    ) -> Result<(), RecordError> {
        let tables = parts.clone().filter_map(|part| match part {
            SharedChains::Base(table) => Some(*table),
            SharedChains::Interfaces
            | SharedChains::Wildcard(..)
            | SharedChains::Interface(_)
            | SharedChains::Bucket(_)
            | SharedChains::Optional(_) => None,
        });
        let own: BTreeSet<_> = parts
            .filter_map(SharedChains::as_bucket)
            .map(|bucket| bucket.path)
            .collect();
        for path in tables
            .flat_map(PacketPath::tunnel_paths)
            .filter(|path| !own.contains(path))
        {
            let mut names = file::file_names(&self.nodes_folder(ruleset).join(path.tag()))?;
            let name = names.next().transpose()?;
            around
                .buckets
                .extend(name.and_then(|name| DispatchBucket::from_name(*path, &name)));
        }
        Ok(())
    }

    /// The paths with more than [`SHORT`] buckets, of those that these shared chains belong to.
    fn long_paths<'a>(&self, ruleset: Ruleset, parts: impl Iterator<Item = &'a SharedChains>) -> BTreeSet<PacketPath> {
        let paths = parts.flat_map(|part| match part {
            SharedChains::Base(table) => PacketPath::tunnel_paths(*table).to_vec(),
            SharedChains::Bucket(bucket) => vec![bucket.path],
            SharedChains::Interfaces
            | SharedChains::Wildcard(..)
            | SharedChains::Interface(_)
            | SharedChains::Optional(_) => Vec::new(),
        });
        // On tmpfs and most other file systems a folder has two links and one for each folder in
        // it. Where it always has one, every path is taken for short.
        let buckets = |path: &PacketPath| {
            let folder = self.nodes_folder(ruleset).join(path.tag());
            fs::symlink_metadata(folder).map_or(0, |folder| folder.nlink().saturating_sub(2))
        };
        let paths: BTreeSet<_> = paths.collect();
        paths.into_iter().filter(|path| buckets(path) > SHORT).collect()
    }

    /// Whether records other than these need shared chains.
    fn is_needed(
        &self,
        ruleset: Ruleset,
        shared_chains: &SharedChains,
        ids: &BTreeSet<&TunnelId>,
    ) -> Result<bool, RecordError> {
        if *shared_chains == SharedChains::Base(Table::Filter)
            && let Some(known) = self
                .cache()
                .listed
                .get(&ruleset)
                .and_then(|listed| listed.has_others(ids))
        {
            return Ok(known);
        }
        let names = file::file_names(&self.node_folder(ruleset, shared_chains))?;
        is_any(names, |name| is_other(name, ids))
    }

    /// The members of a bucket, without these records.
    fn bucket_members(
        &self,
        ruleset: Ruleset,
        bucket: DispatchBucket,
        ids: &BTreeSet<&TunnelId>,
    ) -> Result<Vec<BucketMember>, RecordError> {
        let folder = self.node_folder(ruleset, &SharedChains::Bucket(bucket));
        let mut members = Vec::new();
        for name in file::file_names(&folder)? {
            members.extend(bucket_member(&name?).filter(|member| !ids.contains(member.order.id())));
        }
        Ok(members)
    }

    /// Adds the buckets of these paths, and what other records may have before the buckets in the
    /// dispatchers.
    fn add_dispatchers(
        &self,
        ruleset: Ruleset,
        paths: &BTreeSet<PacketPath>,
        ids: &BTreeSet<&TunnelId>,
        around: &mut Around,
    ) -> Result<(), RecordError> {
        for path in paths {
            for name in file::file_names(&self.nodes_folder(ruleset).join(path.tag()))? {
                around.buckets.extend(DispatchBucket::from_name(*path, &name?));
            }
        }
        if paths.is_empty() {
            return Ok(());
        }
        if paths.contains(&PacketPath::BlockIn) || paths.contains(&PacketPath::BlockOut) {
            for name in file::file_names(&self.nodes_folder(ruleset).join(INTERFACES))? {
                let interface = name?.parse().ok().map(SharedChains::Interface);
                around.parts.extend(interface);
            }
        }
        let blocks = SharedChains::Optional(OptionalChains::ClearTextBlocks);
        if self.is_needed(ruleset, &blocks, ids)? {
            around.parts.insert(blocks);
        }
        let gateway = TunnelId::for_gateway();
        if !ids.contains(&gateway) {
            let record = self.entry(ruleset, &gateway)?;
            around.gateway = record.map(|record| record.tunnel_rules().clone());
        }
        Ok(())
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
        self.settled(ruleset, [&[], std::slice::from_ref(new.id())], renamed)?;
        moved.map_or(Ok(()), |old| {
            self.remove_index_files(ruleset, old, std::slice::from_ref(new))
        })
    }

    /// Whether any remote network has a record.
    pub(crate) fn has_routings(&self) -> Result<bool, RecordError> {
        is_any(file::file_names(&self.networks_folder())?, |name| {
            !name.ends_with(".new")
        })
    }

    /// The folder of what is recorded about routes, addresses and interfaces.
    pub(crate) fn network_folder(&self) -> PathBuf {
        self.folder.join("network")
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
        if !has_routings {
            file::remove_tree(&self.network_folder())?;
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
        self.read_entry(ruleset, id, &mut Vec::new())
    }

    fn read_entry(&self, ruleset: Ruleset, id: &TunnelId, room: &mut Vec<u8>) -> Result<Option<Record>, RecordError> {
        let path = self.tunnel_file(ruleset, id);
        let read = file::read_into(&path, room).and_then(|()| file::parse_by(&path, room, Record::from_json));
        absent_is_none(read)
    }

    fn members(&self, folder: &Path) -> Result<Vec<TunnelId>, RecordError> {
        let names: Vec<_> = file::file_names(folder)?.collect::<Result<_, _>>()?;
        let names = names.iter().filter(|name| !name.ends_with(NEW));
        Ok(names.filter_map(|name| member_id(name)).collect())
    }

    pub(crate) fn ruleset_folder(&self, ruleset: Ruleset) -> PathBuf {
        self.folder.join(ruleset.to_string())
    }

    fn tunnels_folder(&self, ruleset: Ruleset) -> PathBuf {
        self.ruleset_folder(ruleset).join("tunnels")
    }

    pub(crate) fn tunnel_file(&self, ruleset: Ruleset, id: &TunnelId) -> PathBuf {
        self.tunnels_folder(ruleset).join(id.as_str())
    }

    pub(crate) fn new_file(&self, ruleset: Ruleset, id: &TunnelId) -> PathBuf {
        self.tunnels_folder(ruleset).join(format!("{id}{NEW}"))
    }

    /// The folder whose files name the tunnels that the kernel cannot distinguish from this one.
    fn alike_folder(&self, ruleset: Ruleset, tunnel: &Tunnel) -> PathBuf {
        self.nodes_folder(ruleset).join(TunnelId::alike(tunnel).as_str())
    }

    pub(crate) fn nodes_folder(&self, ruleset: Ruleset) -> PathBuf {
        self.ruleset_folder(ruleset).join("nodes")
    }

    /// A record's files in the index: one for each of the shared chains that it needs, and for a
    /// tunnel one for its selectors, and one for each opener if MOBIKE can change the selectors. A
    /// bucket's files also encode the tunnel's position and the number of its rules.
    pub(crate) fn index_files(&self, ruleset: Ruleset, entry: &Record) -> BTreeSet<PathBuf> {
        let (rules, id) = (entry.tunnel_rules(), entry.id().as_str());
        let nodes = rules.shared_chains().into_iter();
        let nodes = nodes.filter(|shared_chains| *shared_chains != SharedChains::Base(Table::Filter));
        let mut files: BTreeSet<_> = nodes
            .map(|shared_chains| {
                let bucket = shared_chains.as_bucket();
                let member = bucket.and_then(|bucket| rules.member_of(&bucket));
                let name = member.map_or_else(|| id.to_owned(), |member| member_name(&member));
                self.node_folder(ruleset, &shared_chains).join(name)
            })
            .collect();
        if let Record::Tunnel(record) = entry {
            files.insert(self.alike_folder(ruleset, &record.tunnel).join(id));
            let openers = record.openers.iter().filter(|_| can_move(&record.tunnel));
            let names = openers.map(|opener| opener_id(&opener.tunnel(&record.tunnel)));
            files.extend(names.map(|name| self.nodes_folder(ruleset).join(name.as_str()).join(id)));
        }
        files
    }

    /// The folder whose files name the records that need these shared chains. Every record needs
    /// the filter table's base.
    pub(crate) fn node_folder(&self, ruleset: Ruleset, shared_chains: &SharedChains) -> PathBuf {
        match shared_chains {
            SharedChains::Base(Table::Filter) => self.tunnels_folder(ruleset),
            SharedChains::Base(Table::Nat | Table::Mangle)
            | SharedChains::Interfaces
            | SharedChains::Wildcard(..)
            | SharedChains::Interface(_)
            | SharedChains::Bucket(_)
            | SharedChains::Optional(_) => self.nodes_folder(ruleset).join(shared_chains.to_string()),
        }
    }
}

/// The name of a bucket's file: the id, the three widths that precede the id in the order of
/// tunnels, and the numbers of rules at the head and at the tail.
fn member_name(member: &BucketMember) -> String {
    let [remote, local, traffic] = member.order.breadths();
    let BucketMember { order, heads, tails } = member;
    format!("{}+{remote}+{local}+{traffic}+{heads}+{tails}", order.id())
}

/// Whether a file of the index is about another record than these.
fn is_other(name: &str, ids: &BTreeSet<&TunnelId>) -> bool {
    member_id(name).is_some_and(|id| !ids.contains(&id))
}

/// The id of the record that a file of the index belongs to.
fn member_id(name: &str) -> Option<TunnelId> {
    let id = name.split('+').next()?;
    id.parse().ok().filter(|_| !name.ends_with(NEW))
}

/// The member that a bucket's file encodes.
fn bucket_member(name: &str) -> Option<BucketMember> {
    let mut words = name.split('+');
    let id = words.next()?.parse().ok()?;
    let numbers: Vec<u64> = words.map(|word| word.parse().ok()).collect::<Option<_>>()?;
    let [remote, local, traffic, heads, tails] = numbers[..] else {
        return None;
    };
    Some(BucketMember {
        order: TunnelOrder::from_breadths([remote, local, traffic], id)?,
        heads: usize::try_from(heads).ok()?,
        tails: usize::try_from(tails).ok()?,
    })
}

/// The name of the folder whose files name the tunnels that a call's peer has up.
fn opener_id(call: &Tunnel) -> TunnelId {
    TunnelId::for_opener(&call.connection, &call.remote_id, call.user.as_ref())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_file_names_its_layout_as_any_version_did() {
        for key in ["tunnel_rules", "layout"] {
            let text = format!("{{\"format\": 3, \"place\": \"last\", \"{key}\": 3}}");
            let note: InstalledNote = serde_json::from_str(&text).unwrap();
            assert_eq!(note.installed.layout, LayoutVersion::Three, "{text}");
            let written = serde_json::to_string(&note).unwrap();
            assert!(written.contains("\"tunnel_rules\":3"), "{written}");
        }
        let first: InstalledNote = serde_json::from_str("{\"format\": 3, \"place\": \"last\"}").unwrap();
        assert_eq!(first.installed.layout, LayoutVersion::One);
    }
}
