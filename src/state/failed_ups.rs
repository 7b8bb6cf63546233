//! Tunnels that are up without rules: their `up` failed, and their daemon keeps them all the same.
//!
//! strongSwan ignores how its hook ended, and `on-error` can tell any daemon to go on. Such a
//! tunnel becomes a folder with a note, until its `down`, its next `up`, or its daemon's end. Where
//! ups are counted, there is a note for each SA: two can be up with one name, identity and
//! selectors, and the `down` of one is not that of the other.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::daemon_process::DaemonProcess;
use super::error::RecordError;
use super::note::NameNote;
use super::store::Store;
use super::{file, note};
use crate::daemon::{Tunnel, UpCounting};
use crate::firewall::{TunnelId, TunnelKey, can_move, may_have_become};

/// The folder with a folder for each of them.
const FOLDER: &str = "failed-ups";

/// How often a note is written that other calls take the folders away from: each with its last
/// tunnel.
const TRIES: usize = 3;

/// A tunnel that is up without rules.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailedUp {
    /// The tunnel, as the call described it.
    pub tunnel: Tunnel,
    /// The daemon that called; none for calls made by hand.
    pub daemon: Option<DaemonProcess>,
    /// Why it has no rules. One line.
    pub reason: String,
    /// When that was, in seconds since 1970 (UTC).
    #[serde(skip)]
    pub since: u64,
}

impl FailedUp {
    /// The short name that it would have.
    #[must_use]
    pub fn id(&self) -> Option<TunnelId> {
        TunnelKey::from_tunnel(&self.tunnel).ids().next()
    }
}

impl Store {
    /// Notes, below the folder `top`, that a tunnel is up without rules in the namespace with this
    /// inode. Needs no lock: each tunnel has a folder of its own, and a second note replaces the
    /// first.
    ///
    /// # Errors
    /// If it cannot be written: then nobody will know.
    pub(crate) fn note_failed_up(top: &Path, namespace: u64, failed: &FailedUp) -> Result<(), RecordError> {
        let mut tries = 0..TRIES;
        loop {
            tries.next();
            match Self::try_note(top, namespace, failed) {
                Err(error) if error.is_absence() && !tries.is_empty() => {}
                other => return other,
            }
        }
    }

    fn try_note(top: &Path, namespace: u64, failed: &FailedUp) -> Result<(), RecordError> {
        file::make_folder(top)?;
        file::make_folder(&top.join(namespace.to_string()))?;
        let mut store = Self::open_unlocked(top, namespace);
        // A deleted namespace's, until a call that holds the lock takes it over: this one, unless
        // another has it and does.
        if !store.folder.exists() {
            drop(Self::open_locked(top, namespace, Instant::now()));
            store = Self::open_unlocked(top, namespace);
        }
        if !store.folder.exists() {
            return Ok(());
        }
        store.take_over()?;
        match store.write_failed_up(failed) {
            Err(error) if error.is_no_space() && store.release_spares() => store.write_failed_up(failed),
            other => other,
        }
    }

    fn write_failed_up(&self, failed: &FailedUp) -> Result<(), RecordError> {
        let folder = self.failed_up_folder(&failed.tunnel);
        let number = note_number(&failed.tunnel);
        file::make_folder(&self.folder.join(FOLDER))?;
        match failed.tunnel.up_counting {
            UpCounting::Counted => remove_note(&folder, &number)?,
            UpCounting::Single | UpCounting::Instances => file::remove_tree(&folder)?,
        }
        file::make_folder(&folder)?;
        let written = note::write_note(&folder, &number, &note::encode_for_name(failed)).and_then(|()| {
            // So that its end is noticed.
            failed.daemon.map_or(Ok(()), |daemon| self.register(&daemon))
        });
        if written.is_err() {
            let _ = remove_note(&folder, &number).and_then(|()| file::remove_if_empty(&folder));
        }
        written
    }

    /// The tunnels that are up without rules. A note that cannot be read is left out: it may be
    /// about to be written.
    ///
    /// # Errors
    /// If a folder cannot be listed.
    pub fn failed_ups(&self) -> Result<Vec<FailedUp>, RecordError> {
        self.failed_ups_named(|_| true)
    }

    /// Those with the key and the identity of this tunnel.
    pub(crate) fn failed_ups_of(&self, tunnel: &Tunnel) -> Result<Vec<FailedUp>, RecordError> {
        self.failed_ups_named(|name| name == folder_name(tunnel))
    }

    /// Those whose folders have such a name.
    fn failed_ups_named(&self, is_meant: impl Fn(&str) -> bool) -> Result<Vec<FailedUp>, RecordError> {
        let mut names: Vec<_> = file::file_names(&self.folder.join(FOLDER))?.collect::<Result<_, _>>()?;
        names.retain(|name: &String| is_meant(name));
        names.sort();
        let mut failed = Vec::new();
        for name in names {
            let folder = self.folder.join(FOLDER).join(name);
            for note in note::read_notes(&folder)? {
                let since = note.names.first().and_then(|name| changed(&folder.join(name)));
                let since = since.and_then(|since| since.duration_since(UNIX_EPOCH).ok());
                let read = note.text.and_then(|text| serde_json::from_str::<FailedUp>(&text).ok());
                failed.extend(read.map(|read| FailedUp {
                    since: since.unwrap_or_default().as_secs(),
                    ..read
                }));
            }
        }
        Ok(failed)
    }

    /// Whether there is one.
    pub(super) fn is_any_without_rules(&self) -> Result<bool, RecordError> {
        Ok(self.has_failed_ups()? && file::file_names(&self.folder.join(FOLDER))?.next().is_some())
    }

    /// Whether there may be one. Costs nothing where the namespace's folder has been listed.
    pub(crate) fn has_failed_ups(&self) -> Result<bool, RecordError> {
        self.has_name(FOLDER)
    }

    /// Forgets that a tunnel is up without rules: it has some now, or is no longer up.
    pub(crate) fn forget_failed_up(&self, tunnel: &Tunnel) -> Result<(), RecordError> {
        file::remove_tree(&self.failed_up_folder(tunnel))?;
        file::remove_if_empty(&self.folder.join(FOLDER))
    }

    /// Forgets one `up` without rules, at a `down`: that of the same SA; if its number has changed
    /// since (charon gives a new one at a rekey of IKE, without a call), the oldest. Returns
    /// whether there was one.
    pub(crate) fn forget_ended_up(&self, tunnel: &Tunnel) -> Result<bool, RecordError> {
        let folder = self.failed_up_folder(tunnel);
        let mut notes = note::read_notes(&folder)?;
        notes.sort_by_key(|note| note.names.first().and_then(|name| changed(&folder.join(name))));
        let number = note_number(tunnel) + ".";
        let is_its = |note: &NameNote| note.names.iter().any(|name| name.starts_with(&number));
        let ended = notes.iter().find(|note| is_its(note)).or(notes.first());
        for name in ended.iter().flat_map(|note| &note.names) {
            file::remove(&folder.join(name))?;
        }
        file::remove_if_empty(&folder)?;
        file::remove_if_empty(&self.folder.join(FOLDER))?;
        Ok(ended.is_some())
    }

    /// The same at the `down` of a tunnel that has neither rules nor a note: MOBIKE may have made
    /// it out of another one. If two come into question, both stay: one of them is up without
    /// rules.
    pub(crate) fn forget_moved_failed_up(&self, tunnel: &Tunnel) -> Result<(), RecordError> {
        if !can_move(tunnel) {
            return Ok(());
        }
        let mut moved = self.failed_ups_named(|name| name.ends_with(&format!("+{}", opener(tunnel))))?;
        moved.retain(|failed| may_have_become(&failed.tunnel, tunnel));
        if let [failed] = &moved[..] {
            self.forget_ended_up(&failed.tunnel)?;
        }
        Ok(())
    }

    /// Forgets those of a daemon that has exited.
    pub(crate) fn forget_failed_ups_of(&self, daemon: &DaemonProcess) -> Result<(), RecordError> {
        for failed in self.failed_ups()? {
            if failed.daemon == Some(*daemon) {
                self.forget_ended_up(&failed.tunnel)?;
            }
        }
        Ok(())
    }

    /// Forgets all of them.
    pub(crate) fn forget_failed_ups(&self) -> Result<(), RecordError> {
        self.invalidate();
        file::remove_tree(&self.folder.join(FOLDER))
    }

    fn failed_up_folder(&self, tunnel: &Tunnel) -> PathBuf {
        self.folder.join(FOLDER).join(folder_name(tunnel))
    }
}

/// The name of the folder with a tunnel's notes.
fn folder_name(tunnel: &Tunnel) -> String {
    let id = TunnelKey::from_tunnel(tunnel).ids().next();
    let id = id.map_or_else(String::new, String::from);
    format!("{id}+{}", opener(tunnel))
}

/// The name of a tunnel's note: the number of its SA, where ups are counted.
fn note_number(tunnel: &Tunnel) -> String {
    tunnel.unique_id.unwrap_or_default().to_string()
}

/// Removes the note with a name, if there is one.
fn remove_note(folder: &Path, number: &str) -> Result<(), RecordError> {
    let names = note::note_names(folder)?;
    let mut its = names.iter().filter(|name| name.starts_with(&format!("{number}.")));
    its.try_for_each(|name| file::remove(&folder.join(name)))
}

fn opener(tunnel: &Tunnel) -> TunnelId {
    TunnelId::for_opener(&tunnel.connection, &tunnel.remote_id, tunnel.user.as_ref())
}

/// When a file was made.
fn changed(path: &Path) -> Option<SystemTime> {
    fs::symlink_metadata(path).ok()?.modified().ok()
}
