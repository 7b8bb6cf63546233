//! Who uses a peer's name servers, and what was changed for it.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::daemon::Daemon;
use super::error::RecordError;
use super::file;
use super::store::{Store, absent_is_none};
use super::tunnel::FORMAT;
use crate::contract::{Domain, ResolverUser};
use crate::selector::{Device, Expected};

/// What the file `resolver/state` says. Everything that a user has changed follows from it, so that it can be changed again, or
/// back, whatever became of the call that did it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResolverRecord {
    /// The format of this file, [`FORMAT`] when it is written.
    pub format: u32,
    /// The users, in the order in which they came.
    pub users: Vec<NameUser>,
    /// The file that was taken over, with no symbolic link on the way to it; what it held is in `resolver/original`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<PathBuf>,
    /// The domains that unbound was told to forward, and to where.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub forwards: BTreeMap<Domain, Vec<IpAddr>>,
    /// The devices whose name servers systemd-resolved was told.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub links: BTreeMap<Device, LinkRecord>,
}

impl Default for ResolverRecord {
    fn default() -> Self {
        Self {
            format: FORMAT,
            users: Vec::new(),
            file: None,
            forwards: BTreeMap::new(),
            links: BTreeMap::new(),
        }
    }
}

/// One user and what it uses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NameUser {
    /// Who.
    pub user: ResolverUser,
    /// The daemon that it belongs to; none for calls made by hand.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub daemon: Option<Daemon>,
    /// The name servers.
    pub servers: Vec<IpAddr>,
    /// The domains that they are for.
    pub domains: Vec<Domain>,
    /// By what means; decided when it came, so that it goes the same way.
    pub by: By,
}

/// By what means a user's names are resolved.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum By {
    /// `resolv.conf`.
    File,
    /// unbound, which asks these name servers about these domains.
    Unbound,
    /// systemd-resolved, on this device.
    Link(Device),
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
}

/// What systemd-resolved says of a device, to be told it again one day.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkSettings {
    /// Its name servers.
    pub servers: Vec<LinkWord>,
    /// Its domains.
    pub domains: Vec<LinkWord>,
}

/// A name server or a domain as `resolvectl` writes it: `192.0.2.1`, `fe80::1%2`, `[2001:db8::1]:53#dns.example`, `~corp.example`,
/// `~.`; 1 to 300 bytes of `A-Za-z0-9._~:%#[]-`, not beginning with `-`.
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
        self.resolver_folder().exists()
    }

    /// Whether a call that changed the resolver has not come to its end, or not undone all that it should have.
    #[must_use]
    pub fn resolver_was_interrupted(&self) -> bool {
        self.resolver_folder().join("pending").exists()
    }

    /// What is on record of the resolver; nobody uses it where there is no record.
    ///
    /// # Errors
    /// If the record cannot be read.
    pub fn resolver(&self) -> Result<ResolverRecord, RecordError> {
        let found = absent_is_none(file::read(&self.resolver_folder().join("state")))?;
        Ok(found.unwrap_or_default())
    }

    /// Writes down what the resolver shall be, before anything of it is done.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn begin_resolver(&self, record: &ResolverRecord) -> Result<(), RecordError> {
        let begun = self.write_begin_resolver(record);
        if begun.is_err() && !self.resolver_folder().join("state").exists() {
            // On a full file system: what is left of it would keep the rest of the record from going one day.
            let _ = file::remove_tree(&self.resolver_folder());
        }
        begun
    }

    fn write_begin_resolver(&self, record: &ResolverRecord) -> Result<(), RecordError> {
        file::make_folder(&self.resolver_folder())?;
        file::touch(&self.resolver_folder().join("pending"))?;
        for daemon in record.users.iter().filter_map(|user| user.daemon.as_ref()) {
            self.register(daemon)?;
        }
        self.update_resolver(record)
    }

    /// Writes down what has changed on the way.
    ///
    /// # Errors
    /// If it cannot be written; what was written before stands then.
    pub fn update_resolver(&self, record: &ResolverRecord) -> Result<(), RecordError> {
        self.replace("state", |path| file::write(path, record))
    }

    /// The change is made. With the last user, and all undone that was done for any, nothing is left on record.
    ///
    /// # Errors
    /// If a file cannot be changed; the next call tries again.
    pub fn settle_resolver(&self, record: &ResolverRecord) -> Result<(), RecordError> {
        if *record == ResolverRecord::default() {
            return file::remove_tree(&self.resolver_folder());
        }
        self.update_resolver(record)?;
        file::remove(&self.resolver_folder().join("pending"))
    }

    /// The file that was taken over as it was before.
    ///
    /// # Errors
    /// If it is not there or cannot be read.
    pub fn original(&self) -> Result<Vec<u8>, RecordError> {
        file::read_bytes(&self.resolver_folder().join("original"))
    }

    /// Keeps a file that is about to be taken over; what was kept before is replaced.
    ///
    /// # Errors
    /// If it cannot be written; what was kept before stands then.
    pub fn keep_original(&self, content: &[u8]) -> Result<(), RecordError> {
        self.replace("original", |path| file::write_bytes(path, content))
    }

    fn replace(
        &self,
        name: &str,
        write: impl FnOnce(&std::path::Path) -> Result<(), RecordError>,
    ) -> Result<(), RecordError> {
        let new = self.resolver_folder().join(format!("{name}.new"));
        let written = write(&new).and_then(|()| file::rename(&new, &self.resolver_folder().join(name)));
        if written.is_err() {
            let _ = file::remove(&new);
        }
        written
    }

    fn resolver_folder(&self) -> PathBuf {
        self.folder.join("resolver")
    }
}
