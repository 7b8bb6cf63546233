//! Who uses a peer's name servers, and what was changed for it.
//!
//! It has a folder and a lock of its own below the namespace's: programs that are told of name
//! servers can hang, and no tunnel waits with its rules for them. What a call asks is a file in
//! `requests` before it waits for that lock. Whoever holds the lock does what all of them ask, so
//! that a call which does not get it in time has lost nothing.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::daemon_process::DaemonProcess;
use super::error::RecordError;
use super::file;
use super::lock::Lock;
use super::store::{Store, absent_is_none};
use super::tunnel::FORMAT;
use crate::selector::{Expected, Interface};
use crate::updown_env::{Domain, NameService, ResolverUser};

/// The folder of what calls ask.
const REQUESTS: &str = "requests";

/// The copies of a file that was taken over.
const ORIGINAL: &str = "original";
const WRITTEN: &str = "written";
const NEXT: &str = "next";

/// The end of the name of a file that is being written.
const NEW: &str = ".new";

/// With how many digits a request's number is written.
const DIGITS: usize = 10;

/// How many requests wait at most: as many as there are only where the record cannot be read.
const MOST: usize = 1024;

/// How often a request is written anew because the folder went with what others asked.
const RACES: usize = 1000;

/// What the file `resolver/state` says. Everything that a user has changed follows from it, so that
/// it can be changed again, or back, whatever became of the call that did it. What is not confirmed
/// to be changed stays in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResolverRecord {
    /// The format of this file, [`FORMAT`] when it is written.
    pub format: u32,
    /// The users, in the order in which they came.
    pub users: Vec<NameUser>,
    /// The file that was taken over, with no symbolic link on the way to it; what it held is in
    /// `resolver/original`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<PathBuf>,
    /// Which file that is: the same path leads to another one in another mount namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity: Option<FileIdentity>,
    /// The domains that unbound was told to forward, and to where; to nowhere, as long as it is not
    /// confirmed what it has.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub forwards: BTreeMap<Domain, Vec<IpAddr>>,
    /// The run of unbound that was told. The next one knows nothing of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unbound: Option<ProcessRun>,
    /// The devices whose name servers systemd-resolved was told.
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
    /// Whether nothing is changed for anybody, and nothing left to be undone.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.users.is_empty() && self.file.is_none() && self.forwards.is_empty() && self.links.is_empty()
    }
}

/// A file, and where its path leads to it. Inodes are used again, but not while their file is
/// there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileIdentity {
    /// The device of its file system (stat(2), `st_dev`).
    pub device: u64,
    /// Its inode.
    pub inode: u64,
    /// The mount namespace of the call that changed it, by the inode of `/proc/self/ns/mnt`.
    pub mount_namespace: u64,
}

/// One run of a program that is no IKE daemon. A process number alone comes again; with its start
/// time it does not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessRun {
    /// Process number.
    pub pid: u32,
    /// When it started, in clock ticks since boot (proc(5), field 22 of `stat`).
    pub started: u64,
}

/// One user and what it uses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NameUser {
    /// Who.
    pub user: ResolverUser,
    /// The daemon that it belongs to; none for calls made by hand.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub daemon: Option<DaemonProcess>,
    /// The name servers.
    pub servers: Vec<IpAddr>,
    /// The domains that they are for.
    pub domains: Vec<Domain>,
    /// By what means; decided when it came, so that it goes the same way.
    pub by: NameServerMeans,
}

/// By what means a user's names are resolved.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NameServerMeans {
    /// `resolv.conf`.
    File,
    /// unbound, which asks these name servers about these domains.
    Unbound,
    /// systemd-resolved, on this device.
    Link(Interface),
}

/// A device that systemd-resolved was told name servers of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkRecord {
    /// What it had before the first user.
    pub before: LinkSettings,
    /// The name servers that it was told; none where those of before stand.
    pub servers: Vec<IpAddr>,
    /// The same of domains.
    pub domains: Vec<Domain>,
    /// Whether it is known that it has them.
    #[serde(default, skip_serializing_if = "Confirmation::is_known")]
    pub confirmation: Confirmation,
}

/// Whether a program that was told something said that it has done so.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Confirmation {
    /// It did.
    #[default]
    Confirmed,
    /// It failed, or was killed because it took too long, or the call died: it may have done it or
    /// not.
    Unconfirmed,
}

impl Confirmation {
    fn is_known(&self) -> bool {
        *self == Self::Confirmed
    }
}

/// What a call asks of the resolver, until it is done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResolverRequest {
    /// The format of its file, [`FORMAT`] when it is written.
    pub format: u32,
    /// Who asks, and what.
    pub names: NameService,
    /// The daemon that called.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub daemon: Option<DaemonProcess>,
}

/// What systemd-resolved says of a device, to be told it again one day.
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

impl fmt::Display for LinkWord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for LinkWord {
    type Error = Expected;

    fn try_from(text: String) -> Result<Self, Expected> {
        text.parse()
    }
}

impl From<LinkWord> for String {
    fn from(word: LinkWord) -> Self {
        word.0
    }
}

impl Store {
    /// Whether anything of the resolver is on record.
    pub(super) fn has_resolver(&self) -> bool {
        self.resolver().is_in_use()
    }

    /// The resolver's part, to be looked at.
    #[must_use]
    pub fn resolver(&self) -> ResolverStore {
        ResolverStore {
            folder: self.folder.join("resolver"),
            _lock: None,
        }
    }
}

/// The resolver's part of a namespace's record.
///
/// Made with [`ResolverStore::locked`] it holds the lock; with [`Store::resolver`] it only reads,
/// and what it reads may be changing.
#[derive(Debug)]
pub struct ResolverStore {
    folder: PathBuf,
    /// Held until it is dropped.
    _lock: Option<Lock>,
}

impl ResolverStore {
    /// The same with its lock held; nothing, if there is nothing on record any more.
    ///
    /// # Errors
    /// If the lock is held by another until `deadline`, or cannot be opened.
    pub fn locked(self, deadline: Instant) -> Result<Option<Self>, RecordError> {
        let lock = Lock::acquire_existing(&self.folder, deadline)?;
        Ok(lock.map(|lock| Self {
            folder: self.folder,
            _lock: Some(lock),
        }))
    }

    /// Whether anything is on record.
    #[must_use]
    pub fn is_in_use(&self) -> bool {
        self.folder.exists()
    }

    /// Whether something is left to do: a call asks for it, or died in the middle, or a change
    /// could not be confirmed; or a daemon that is dead has left its users.
    ///
    /// # Errors
    /// If the record is there and cannot be read.
    pub fn needs_attention(&self) -> Result<bool, RecordError> {
        if !self.is_in_use() {
            return Ok(false);
        }
        let users = self.read_state()?.users;
        let is_orphaned = users
            .iter()
            .any(|user| user.daemon.is_some_and(|daemon| daemon.is_dead()));
        Ok(is_orphaned || self.is_pending() || !self.request_names()?.is_empty())
    }

    /// Whether a change has not come to its end, or is not confirmed.
    #[must_use]
    pub fn is_pending(&self) -> bool {
        self.file_path("pending").exists()
    }

    /// What is on record; nobody uses the resolver where there is no record.
    ///
    /// # Errors
    /// If the record cannot be read.
    pub fn read_state(&self) -> Result<ResolverRecord, RecordError> {
        let found = absent_is_none(file::read_json(&self.file_path("state")))?;
        Ok(found.unwrap_or_default())
    }

    /// Writes down what a call asks. Needs no lock.
    ///
    /// # Errors
    /// If it cannot be written: then nobody will ever do it.
    pub fn add_request(&self, request: &ResolverRequest) -> Result<(), RecordError> {
        let asked = self.write_request(request);
        if asked.is_err() {
            // On a full file system: what is left of it would keep the rest of the record from
            // going one day.
            let _ = file::remove_if_empty(&self.file_path(REQUESTS));
            let _ = file::remove_if_empty(&self.folder);
        }
        asked
    }

    fn write_request(&self, request: &ResolverRequest) -> Result<(), RecordError> {
        let folder = self.file_path(REQUESTS);
        let new = folder.join(format!("{}{NEW}", std::process::id()));
        for _ in 0..RACES {
            // Whoever does the last request removes the folders.
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

    /// Gives a request the next number. Two calls that do so at the same moment have none in
    /// common: their processes' numbers differ.
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

    /// The names of what calls have asked, in their order.
    ///
    /// # Errors
    /// If the folder cannot be listed.
    pub fn request_names(&self) -> Result<Vec<String>, RecordError> {
        let mut names: Vec<_> = file::file_names(&self.file_path(REQUESTS))?.collect::<Result<_, _>>()?;
        names.retain(|name| !name.ends_with(NEW));
        names.sort();
        Ok(names)
    }

    /// What a call has asked.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn request(&self, name: &str) -> Result<ResolverRequest, RecordError> {
        file::read_json(&self.file_path(REQUESTS).join(name))
    }

    /// Removes a request that is done.
    ///
    /// # Errors
    /// If it cannot be removed; it will be done once more.
    pub fn remove_request(&self, name: &str) -> Result<(), RecordError> {
        file::remove(&self.file_path(REQUESTS).join(name))
    }

    /// Writes down what the resolver shall be, before anything of it is done.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn begin_change(&self, record: &ResolverRecord) -> Result<(), RecordError> {
        file::create_empty(&self.file_path("pending"))?;
        self.write_state(record)
    }

    /// Writes down what has changed on the way.
    ///
    /// # Errors
    /// If it cannot be written; what was written before stands then.
    pub fn write_state(&self, record: &ResolverRecord) -> Result<(), RecordError> {
        self.replace_file("state", |path| file::write_json(path, record))
    }

    /// The change is made, and confirmed.
    ///
    /// # Errors
    /// If a file cannot be changed; the next call tries again.
    pub fn clear_journal(&self, record: &ResolverRecord) -> Result<(), RecordError> {
        match record.is_empty() {
            true => file::remove(&self.file_path("state"))?,
            false => self.write_state(record)?,
        }
        file::remove(&self.file_path("pending"))
    }

    /// Removes the folder, and the lock with it, if nothing is on record and nobody asks for
    /// anything.
    ///
    /// File by file: a call may write down what it asks at any time.
    ///
    /// # Errors
    /// If a file cannot be removed.
    pub fn remove_if_unused(&self) -> Result<(), RecordError> {
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

    /// Keeps what the file is to be when the last user has gone.
    ///
    /// # Errors
    /// If it cannot be written; what was kept before stands then.
    pub fn keep_original(&self, content: &[u8]) -> Result<(), RecordError> {
        self.replace_file(ORIGINAL, |path| file::write_bytes(path, content))
    }

    /// Keeps what the file holds now, as far as we know.
    ///
    /// # Errors
    /// If it cannot be written; what was kept before stands then.
    pub fn keep_written(&self, content: &[u8]) -> Result<(), RecordError> {
        self.replace_file(WRITTEN, |path| file::write_bytes(path, content))
    }

    /// Keeps what the file is about to hold.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn keep_next(&self, content: &[u8]) -> Result<(), RecordError> {
        self.replace_file(NEXT, |path| file::write_bytes(path, content))
    }

    /// The file has been read again, and holds what was about to be written.
    ///
    /// # Errors
    /// If the copies cannot be changed.
    pub fn drop_journal(&self) -> Result<(), RecordError> {
        file::rename(&self.file_path(NEXT), &self.file_path(WRITTEN))
    }

    /// Removes the copies: the file is no more ours.
    ///
    /// # Errors
    /// If one of them cannot be removed.
    pub fn forget_copies(&self) -> Result<(), RecordError> {
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
    /// What it is to be when the last user has gone.
    pub original: Vec<u8>,
    /// What was written into it last; none where an older version did so.
    pub written: Option<Vec<u8>>,
    /// What was about to be written into it by a call that died.
    pub next: Option<Vec<u8>>,
}
