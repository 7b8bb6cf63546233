//! The record of name servers: who uses a peer's, and what was changed for it.
//!
//! It has its own folder and lock below the namespace's. Programs that set name servers can hang,
//! and no tunnel's rules wait for them. A call writes its request to a file in `requests` before it
//! waits for that lock, and the holder of the lock executes all requests. So a call that does not
//! get the lock in time loses nothing.

use crate::net::text_type;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::domain::Domain;
use super::env::{NameService, ResolverUser};
use crate::net::{Expected, Interface};
use crate::state::{DaemonProcess, FORMAT, Lock, RecordError, Store, absent_is_none, file};

/// The folder of requests.
const REQUESTS: &str = "requests";

/// The copies of a `resolv.conf` that was taken over.
const ORIGINAL: &str = "original";
const WRITTEN: &str = "written";
const NEXT: &str = "next";

/// The suffix of the name of a file that is being written.
const NEW: &str = ".new";

/// The number of digits in a request's number.
const DIGITS: usize = 10;

/// The maximum number of waiting requests. Only a record that cannot be read lets so many collect.
const MOST: usize = 1024;

/// How many times a request is written again because another call has removed the folder.
const RACES: usize = 1000;

/// The content of the file `resolver/state`. It names every change that was made for a user, so
/// that a later call can complete the change or undo it even if the call died. Changes that are not
/// confirmed stay in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResolverRecord {
    /// The format of this file, [`FORMAT`] when it is written.
    pub format: u32,
    /// The users, in the order of their ups.
    pub users: Vec<NameUser>,
    /// The path of the `resolv.conf` that was taken over, without symbolic links;
    /// `resolver/original` holds its original content.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<PathBuf>,
    /// The file's identity: in another mount namespace the same path names another file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity: Option<FileIdentity>,
    /// The forward zones set in unbound, with their name servers; an empty list while it is not
    /// confirmed what unbound has.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub forwards: BTreeMap<Domain, Vec<IpAddr>>,
    /// The run of unbound in which they were set. They end with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unbound: Option<ProcessRun>,
    /// The links whose name servers were set in systemd-resolved.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub links: BTreeMap<Interface, LinkRecord>,
}

impl Default for ResolverRecord {
    fn default() -> Self {
        Self {
            format: FORMAT,
            users: Vec::new(),
            file: None,
            identity: None,
            forwards: BTreeMap::new(),
            unbound: None,
            links: BTreeMap::new(),
        }
    }
}

impl ResolverRecord {
    /// Whether there is no user and no change to undo.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.users.is_empty() && self.file.is_none() && self.forwards.is_empty() && self.links.is_empty()
    }
}

/// The identity of a file, in one mount namespace. Inodes are not reused while their file exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileIdentity {
    /// The number of its file system (stat(2), `st_dev`).
    pub device: u64,
    /// Its inode.
    pub inode: u64,
    /// The mount namespace of the call that changed it, by the inode of `/proc/self/ns/mnt`.
    pub mount_namespace: u64,
}

/// One run of a program other than an IKE daemon. The kernel reuses process numbers; number and
/// start time together are unique.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessRun {
    /// Process number.
    pub pid: u32,
    /// When it started, in clock ticks since boot (proc(5), field 22 of `stat`).
    pub started: u64,
}

/// One user of name servers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NameUser {
    /// The tunnel that uses them.
    pub user: ResolverUser,
    /// The daemon that called; `None` for calls made by hand.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub daemon: Option<DaemonProcess>,
    /// The name servers.
    pub servers: Vec<IpAddr>,
    /// The domains that they are for.
    pub domains: Vec<Domain>,
    /// How they are set; decided at `up`, so that `down` undoes the same.
    pub by: NameServerMeans,
}

/// How a user's name servers are set.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NameServerMeans {
    /// `resolv.conf`.
    File,
    /// unbound, which asks these name servers about these domains.
    Unbound,
    /// systemd-resolved, on this link.
    Link(Interface),
}

/// A link whose name servers were set in systemd-resolved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkRecord {
    /// The link's settings before the first user.
    pub before: LinkSettings,
    /// The name servers that were set; empty while the link has its own.
    pub servers: Vec<IpAddr>,
    /// The domains that were set, likewise.
    pub domains: Vec<Domain>,
    /// Whether systemd-resolved has confirmed them.
    #[serde(default, skip_serializing_if = "Confirmation::is_known")]
    pub confirmation: Confirmation,
}

/// Whether a program has confirmed a change.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Confirmation {
    /// The program exited with success.
    #[default]
    Confirmed,
    /// The program failed, or was killed at its time limit, or the call died. The change may have
    /// been made or not.
    Unconfirmed,
}

impl Confirmation {
    fn is_known(&self) -> bool {
        *self == Self::Confirmed
    }
}

/// A call's request to the resolver, until it is executed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResolverRequest {
    /// The format of its file, [`FORMAT`] when it is written.
    pub format: u32,
    /// The user, and the name servers and domains.
    pub names: NameService,
    /// The daemon that called.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub daemon: Option<DaemonProcess>,
}

/// A link's settings in systemd-resolved, to be restored later.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkSettings {
    /// Its name servers.
    pub servers: Vec<LinkWord>,
    /// Its domains.
    pub domains: Vec<LinkWord>,
}

/// A name server or a domain as `resolvectl` writes it: `192.0.2.1`, `fe80::1%2`,
/// `[2001:db8::1]:53#dns.example`, `~corp.example`, `~.`; 1 to 300 bytes of `A-Za-z0-9._~:%#[]-`,
/// not beginning with `-`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct LinkWord(String);

impl LinkWord {
    /// The word as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for LinkWord {
    type Err = Expected;

    fn from_str(text: &str) -> Result<Self, Expected> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._~:%#[]-".contains(&byte);
        if !(1..=300).contains(&text.len()) || !text.bytes().all(plain) || text.starts_with('-') {
            return Err(Expected("a name server or a domain as resolvectl writes it"));
        }
        Ok(Self(text.to_owned()))
    }
}

text_type!(LinkWord, parsed);

impl Store {
    /// The record of name servers, read-only.
    #[must_use]
    pub fn resolver(&self) -> ResolverStore {
        ResolverStore {
            folder: self.resolver_folder(),
            _lock: None,
        }
    }
}

/// The part of a namespace's record that is about name servers.
///
/// [`ResolverStore::locked`] makes one that holds the lock; from [`Store::resolver`] it only reads,
/// and another call may change it meanwhile.
#[derive(Debug)]
pub struct ResolverStore {
    folder: PathBuf,
    /// Held until it is dropped.
    _lock: Option<Lock>,
}

impl ResolverStore {
    /// The same record with its lock held; `None` if there is none.
    ///
    /// # Errors
    /// If the lock is held by another until `deadline`, or cannot be opened.
    pub(crate) fn locked(self, deadline: Instant) -> Result<Option<Self>, RecordError> {
        let lock = Lock::acquire_existing(&self.folder, deadline)?;
        Ok(lock.map(|lock| Self {
            folder: self.folder,
            _lock: Some(lock),
        }))
    }

    /// Whether there is a record.
    #[must_use]
    pub(crate) fn is_in_use(&self) -> bool {
        self.folder.exists()
    }

    /// Whether there is work: a request waits, a call died before it was complete, a change is not
    /// confirmed, or a daemon exited and left its users.
    pub(crate) fn needs_attention(&self) -> Result<bool, RecordError> {
        if !self.is_in_use() {
            return Ok(false);
        }
        let users = self.read_state()?.users;
        let is_orphaned = users
            .iter()
            .any(|user| user.daemon.is_some_and(|daemon| daemon.is_dead()));
        Ok(is_orphaned || self.is_pending() || !self.request_names()?.is_empty())
    }

    /// Whether a change is incomplete or not confirmed.
    #[must_use]
    pub(crate) fn is_pending(&self) -> bool {
        self.file_path("pending").exists()
    }

    /// The state; the default, without users, if there is no record.
    pub(crate) fn read_state(&self) -> Result<ResolverRecord, RecordError> {
        let found = absent_is_none(file::read_json(&self.file_path("state")))?;
        Ok(found.unwrap_or_default())
    }

    /// Writes a call's request. Needs no lock.
    ///
    /// # Errors
    /// If it cannot be written: then the request is lost.
    pub(crate) fn add_request(&self, request: &ResolverRequest) -> Result<(), RecordError> {
        let asked = self.write_request(request);
        if asked.is_err() {
            // On a full file system: empty folders would keep the record from being removed.
            let _ = file::remove_if_empty(&self.file_path(REQUESTS));
            let _ = file::remove_if_empty(&self.folder);
        }
        asked
    }

    fn write_request(&self, request: &ResolverRequest) -> Result<(), RecordError> {
        let folder = self.file_path(REQUESTS);
        let new = folder.join(format!("{}{NEW}", std::process::id()));
        for _ in 0..RACES {
            // The call that executes the last request removes the folders.
            let written = self
                .make_folders()
                .and_then(|()| file::write_json(&new, request))
                .and_then(|()| self.enqueue(&new));
            match written {
                Err(error) if error.is_absence() => {}
                other => {
                    let _ = file::remove(&new);
                    return other;
                }
            }
        }
        file::check_folder(&folder)
    }

    fn make_folders(&self) -> Result<(), RecordError> {
        let above = self.folder.ancestors().skip(1).take(2).collect::<Vec<_>>();
        above.into_iter().rev().try_for_each(file::make_folder)?;
        file::make_folder(&self.folder)?;
        file::make_folder(&self.file_path(REQUESTS))
    }

    /// Gives a request the next number. The names of two calls that do so at the same moment differ
    /// by the process number.
    fn enqueue(&self, new: &Path) -> Result<(), RecordError> {
        let names = self.request_names()?;
        if names.len() >= MOST {
            return Err(RecordError::io(self.file_path(REQUESTS), "note another request")(
                std::io::ErrorKind::QuotaExceeded.into(),
            ));
        }
        let last = names.last().and_then(|name| name.get(..DIGITS)?.parse::<u64>().ok());
        let name = format!("{:0DIGITS$}-{}", last.unwrap_or_default() + 1, std::process::id());
        file::rename(new, &self.file_path(REQUESTS).join(name))
    }

    /// The names of the requests, in order.
    pub(crate) fn request_names(&self) -> Result<Vec<String>, RecordError> {
        let mut names: Vec<_> = file::file_names(&self.file_path(REQUESTS))?.collect::<Result<_, _>>()?;
        names.retain(|name| !name.ends_with(NEW));
        names.sort();
        Ok(names)
    }

    /// The request with this name.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn request(&self, name: &str) -> Result<ResolverRequest, RecordError> {
        file::read_json(&self.file_path(REQUESTS).join(name))
    }

    /// Removes a request that has been executed.
    ///
    /// # Errors
    /// If it cannot be removed; it is executed once more then.
    pub(crate) fn remove_request(&self, name: &str) -> Result<(), RecordError> {
        file::remove(&self.file_path(REQUESTS).join(name))
    }

    /// Writes the state that is to be reached, before anything is changed.
    pub(crate) fn begin_change(&self, record: &ResolverRecord) -> Result<(), RecordError> {
        file::create_empty(&self.file_path("pending"))?;
        self.write_state(record)
    }

    /// Writes the state while a change is made.
    ///
    /// # Errors
    /// If it cannot be written; the old state stays then.
    pub(crate) fn write_state(&self, record: &ResolverRecord) -> Result<(), RecordError> {
        self.replace_file("state", |path| file::write_json(path, record))
    }

    /// Ends a change that is made and confirmed.
    ///
    /// # Errors
    /// If a file cannot be changed; the next call tries again.
    pub(crate) fn clear_journal(&self, record: &ResolverRecord) -> Result<(), RecordError> {
        match record.is_empty() {
            true => file::remove(&self.file_path("state"))?,
            false => self.write_state(record)?,
        }
        file::remove(&self.file_path("pending"))
    }

    /// Removes the folder, and the lock with it, if there is neither a user nor a request.
    ///
    /// File by file, because a call may write a request at any time.
    pub(crate) fn remove_if_unused(&self) -> Result<(), RecordError> {
        if self.is_pending() || !self.read_state()?.is_empty() || !self.request_names()?.is_empty() {
            return Ok(());
        }
        ["state", ORIGINAL, WRITTEN, NEXT]
            .into_iter()
            .try_for_each(|name| file::remove(&self.file_path(name)))?;
        file::remove_if_empty(&self.file_path(REQUESTS))?;
        if !self.file_path(REQUESTS).exists() {
            // The lock last: until then nobody else is here.
            file::remove(&self.file_path("lock"))?;
        }
        file::remove_if_empty(&self.folder)
    }

    /// The copies of the file that was taken over.
    ///
    /// # Errors
    /// If the original is not there, or one of them cannot be read.
    pub fn copies(&self) -> Result<FileCopies, RecordError> {
        let copy = |name| file::read_bytes(&self.file_path(name));
        Ok(FileCopies {
            original: copy(ORIGINAL)?,
            written: absent_is_none(copy(WRITTEN))?,
            next: absent_is_none(copy(NEXT))?,
        })
    }

    /// Saves the content that the file gets when the last user is removed.
    ///
    /// # Errors
    /// If it cannot be written; the old copy stays then.
    pub(crate) fn keep_original(&self, content: &[u8]) -> Result<(), RecordError> {
        self.replace_file(ORIGINAL, |path| file::write_bytes(path, content))
    }

    /// Saves the content that was written to the file.
    ///
    /// # Errors
    /// If it cannot be written; the old copy stays then.
    pub(crate) fn keep_written(&self, content: &[u8]) -> Result<(), RecordError> {
        self.replace_file(WRITTEN, |path| file::write_bytes(path, content))
    }

    /// Keeps what the file is about to hold.
    pub(crate) fn keep_next(&self, content: &[u8]) -> Result<(), RecordError> {
        self.replace_file(NEXT, |path| file::write_bytes(path, content))
    }

    /// The file has been read again, and holds what was about to be written.
    pub(crate) fn drop_journal(&self) -> Result<(), RecordError> {
        file::rename(&self.file_path(NEXT), &self.file_path(WRITTEN))
    }

    /// Removes the copies: this program no longer changes the file.
    pub(crate) fn forget_copies(&self) -> Result<(), RecordError> {
        [ORIGINAL, WRITTEN, NEXT]
            .into_iter()
            .try_for_each(|name| file::remove(&self.file_path(name)))
    }

    fn replace_file(
        &self,
        name: &str,
        write: impl FnOnce(&Path) -> Result<(), RecordError>,
    ) -> Result<(), RecordError> {
        let new = self.file_path(&format!("{name}{NEW}"));
        let written = write(&new).and_then(|()| file::rename(&new, &self.file_path(name)));
        if written.is_err() {
            let _ = file::remove(&new);
        }
        written
    }

    fn file_path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }
}

/// The file that was taken over, as it was and as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileCopies {
    /// The content that the file gets when the last user is removed.
    pub original: Vec<u8>,
    /// What was written into it last; none where an older version did so.
    pub written: Option<Vec<u8>>,
    /// What was about to be written into it by a call that died.
    pub next: Option<Vec<u8>>,
}
