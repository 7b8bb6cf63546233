//! What a call that holds the lock has read, so that it reads nothing twice.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
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
    /// Folders of the index that are not there.
    absent: BTreeSet<PathBuf>,
}

/// How many names of records are read to answer whether there are others than those that a change
/// is about. Where a ruleset has no more, which is most often, these names also tell which records
/// there are not: looking for one takes as long as reading ten names.
const MOST_LISTED: usize = 16;

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

    /// Whether a record is known not to be there.
    fn lacks(&self, id: &TunnelId) -> bool {
        self.is_all && !self.names.iter().any(|name| name == id.as_str())
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

    /// Whether a record is known not to be there, without looking for it.
    pub(super) fn is_known_to_lack(&self, ruleset: Ruleset, id: &TunnelId) -> bool {
        let cache = self.cache();
        cache.listed.get(&ruleset).is_some_and(|listed| listed.lacks(id))
    }

    /// A record that is known to be there, other than these.
    pub(super) fn listed_other(&self, ruleset: Ruleset, ids: &BTreeSet<&TunnelId>) -> Option<String> {
        let cache = self.cache();
        let mut names = cache.listed.get(&ruleset)?.names.iter();
        names.find(|name| is_other(name, ids)).cloned()
    }

    /// The names in a folder of the index; none if it is not there, which is kept in mind.
    pub(super) fn index_names(&self, folder: &Path) -> Result<Vec<String>, RecordError> {
        let names: Vec<_> = file::file_names(folder)?.collect::<Result<_, _>>()?;
        if names.is_empty() {
            self.cache().absent.insert(folder.to_owned());
        }
        Ok(names)
    }

    /// Whether a folder of the index, which is about to be made, was found absent.
    pub(super) fn was_absent(&self, folder: &Path) -> bool {
        self.cache().absent.remove(folder)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_whole_list_tells_which_records_there_are_not() {
        let [id, other] = ["net-net-a7enwvb8", "net-net-wqj4h2ia"].map(|id| id.parse::<TunnelId>().unwrap());
        for (names, is_all, lacks) in [
            (vec![], true, true),
            (vec![&other], true, true),
            (vec![&id, &other], true, false),
            (vec![&other], false, false),
        ] {
            let names: Vec<_> = names.into_iter().map(|id| id.as_str().to_owned()).collect();
            let mut listed = ListedRecords { names, is_all };
            assert_eq!(listed.lacks(&id), lacks, "{listed:?}");
            listed.change(std::slice::from_ref(&other), std::slice::from_ref(&id));
            assert!(!listed.lacks(&id), "{listed:?}");
            assert_eq!(listed.lacks(&other), is_all, "{listed:?}");
        }
    }
}
