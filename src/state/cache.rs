//! What a call that holds the lock has read, so that it reads nothing twice.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{MutexGuard, PoisonError};

use super::error::RecordError;
use super::file;
use super::index::is_other;
use super::installed::Installed;
use super::store::{NEW, Store, is_any};
use crate::firewall::TunnelId;
use crate::netfilter::Ruleset;

/// What has been read under the lock. No other process changes it, so it is valid until
/// [`Store::invalidate`].
#[derive(Debug, Default)]
pub(super) struct Cache {
    /// The names in the namespace's folder.
    names: Option<BTreeSet<String>>,
    pub(super) listed: BTreeMap<Ruleset, ListedRecords>,
    pub(super) installed: BTreeMap<Ruleset, Installed>,
}

/// How many names of records are read to answer whether there are others than those that a change
/// is about: it is about one tunnel, and with it about what belongs to that, most often.
const MOST_LISTED: usize = 4;

/// The names of some records of a ruleset.
#[derive(Debug, Default)]
pub(super) struct ListedRecords {
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
    pub(super) fn has_others(&self, ids: &BTreeSet<&TunnelId>) -> Option<bool> {
        match self.names.iter().any(|name| is_other(name, ids)) {
            true => Some(true),
            false => self.is_all.then_some(false),
        }
    }

    /// After a change that is complete.
    fn change(&mut self, removed: &[TunnelId], added: &[TunnelId]) {
        let is_of = |ids: &[TunnelId], name: &str| ids.iter().any(|id| id.as_str() == name);
        self.names.retain(|name| !is_of(removed, name) && !is_of(added, name));
        self.names.extend(added.iter().map(|id| id.as_str().to_owned()));
    }
}

impl Store {
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

    pub(super) fn cache(&self) -> MutexGuard<'_, Cache> {
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
    pub(crate) fn records_changed(
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
}
