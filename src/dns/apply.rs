//! One call at work on the resolver.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Instant;

use super::domain::Domain;
use super::env::{DnsConfig, DnsMeans, DnsRequest, NameService, ResolverAction};
use super::error::DnsError;
use super::notice;
use super::plan::{self, DnsNames, Forward, ResolverCommand};
use super::record::{
    Confirmation, FileCopies, LinkRecord, LinkSettings, LinkWord, NameServerMeans, NameUser, ResolverRecord,
    ResolverRequest, ResolverStore,
};
use super::resolv_conf_file::{self, ResolvConfKind};
use super::resolvconf::{Author, Content, author, content, merge_users, without_ours};
use super::system::System;
use crate::net::Interface;
use crate::state::{DaemonProcess, RecordError, Store};

/// What is done with a `resolv.conf` that another program has written since.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum UnknownAuthor {
    /// It is taken over: a user needs its name servers in it.
    TakeOver,
    /// It is left as it is: a user was removed, and its name servers are no longer in the file.
    Leave,
}

/// The result of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum CommandResult {
    /// It succeeded.
    Obeyed,
    /// What it was about no longer exists.
    Gone,
    /// It is unknown whether it succeeded.
    Unknown,
}

/// Records what a call asks of the resolver; [`work_on_requests`] carries it out. Returns what was
/// left out, and what went wrong.
#[must_use]
pub(crate) fn add_request(action: &ResolverAction, store: &Store, daemon: Option<DaemonProcess>) -> Vec<DnsError> {
    let mut errors: Vec<_> = action.faults.iter().cloned().map(DnsError::LeftOut).collect();
    let resolver = store.resolver();
    // Without a record there is nothing to restore.
    let is_due = |names: &&NameService| names.request != DnsRequest::GiveBack || resolver.is_in_use();
    if let Some(names) = action.names.as_ref().filter(is_due) {
        let request = ResolverRequest {
            format: crate::state::FORMAT,
            names: names.clone(),
            daemon,
        };
        errors.extend(resolver.add_request(&request).err().map(DnsError::from));
    }
    errors
}

/// Notifies NetworkManager's service as the call requests. Returns the error, if there is one.
#[must_use]
pub(crate) fn notify(action: &ResolverAction, system: &System) -> Option<DnsError> {
    notice::send_notice(action.notice.as_ref()?, system).err()
}

/// Whether something is left to do that no call has to ask for.
#[must_use]
pub(crate) fn needs_attention(store: &Store, system: &System) -> bool {
    let resolver = store.resolver();
    // A record that cannot be read is reported at the next request.
    let knows_less = || {
        resolver
            .read_state()
            .is_ok_and(|record| has_lost_forwards(&record, system))
    };
    resolver.is_in_use() && (resolver.needs_attention().unwrap_or(false) || knows_less())
}

/// Whether unbound was restarted and lost the forward zones that it should have.
fn has_lost_forwards(record: &ResolverRecord, system: &System) -> bool {
    if !record.users.iter().any(|user| user.by == NameServerMeans::Unbound) {
        return false;
    }
    let is_older = record.unbound.is_none() && !record.forwards.is_empty();
    !is_older && system.unbound().is_some_and(|run| record.unbound != Some(run))
}

/// Executes the requests of calls, retries unconfirmed changes, and removes the users of daemons
/// that have exited, except those in `kept`. The firewall's lock need not be held. Returns the
/// errors.
#[must_use]
pub(crate) fn work_on_requests(store: &Store, system: &System, kept: &BTreeSet<DaemonProcess>) -> Vec<DnsError> {
    if !needs_attention(store, system) {
        return Vec::new();
    }
    with_engine(store, system, |engine| engine.execute_requests(kept))
}

/// Restores everything, even if it has users. Returns the errors.
#[must_use]
pub(crate) fn give_back_all(store: &Store, system: &System) -> Vec<DnsError> {
    if !store.resolver().is_in_use() {
        return Vec::new();
    }
    with_engine(store, system, |engine| engine.give_back_all())
}

fn with_engine(
    store: &Store,
    system: &System,
    change: impl FnOnce(&mut ResolverEngine<'_>) -> Result<(), DnsError>,
) -> Vec<DnsError> {
    let locked = match store.resolver().locked(system.deadline) {
        Ok(None) => return Vec::new(),
        Ok(Some(locked)) => locked,
        Err(error @ RecordError::Locked { .. }) => return vec![DnsError::Busy(error)],
        Err(error) => return vec![error.into()],
    };
    let mut engine = ResolverEngine::new(&locked, system, Vec::new());
    let done = change(&mut engine);
    engine.errors.extend(done.err());
    engine
        .errors
        .extend(locked.remove_if_unused().err().map(DnsError::from));
    engine.errors
}

/// The engine of one call.
pub(super) struct ResolverEngine<'a> {
    pub(super) store: &'a ResolverStore,
    pub(super) system: &'a System,
    pub(super) errors: Vec<DnsError>,
    /// Whether something is not as it should be, and has to be tried again.
    is_unsettled: bool,
}

impl<'a> ResolverEngine<'a> {
    pub(super) fn new(store: &'a ResolverStore, system: &'a System, errors: Vec<DnsError>) -> Self {
        Self {
            store,
            system,
            errors,
            is_unsettled: false,
        }
    }

    /// What others ask meanwhile is done too, as long as there is time: they wait for it.
    fn execute_requests(&mut self, kept: &BTreeSet<DaemonProcess>) -> Result<(), DnsError> {
        let mut is_first = true;
        loop {
            let mut record = self.store.read_state()?;
            let mut unknown_author = (is_first && self.store.is_pending()).then_some(UnknownAuthor::TakeOver);
            let is_orphan = |user: &NameUser| {
                user.daemon
                    .is_some_and(|daemon| daemon.is_dead() && !kept.contains(&daemon))
            };
            if is_first && record.users.iter().any(is_orphan) {
                record.users.retain(|user| !is_orphan(user));
                unknown_author = unknown_author.or(Some(UnknownAuthor::Leave));
            }
            if is_first && has_lost_forwards(&record, self.system) {
                unknown_author = unknown_author.or(Some(UnknownAuthor::Leave));
            }
            let answered = self.enter_requests(&mut record, &mut unknown_author)?;
            if let Some(unknown_author) = unknown_author {
                self.reconcile(record, &answered, unknown_author)?;
            }
            answered.iter().try_for_each(|name| self.store.remove_request(name))?;
            is_first = false;
            if answered.is_empty() || Instant::now() >= self.system.deadline {
                return Ok(());
            }
        }
    }

    /// Enters what calls have asked. Returns the names of their requests, which are done when the
    /// record is written.
    fn enter_requests(
        &mut self,
        record: &mut ResolverRecord,
        unknown_author: &mut Option<UnknownAuthor>,
    ) -> Result<Vec<String>, DnsError> {
        let mut answered = Vec::new();
        for name in self.store.request_names()? {
            match self.store.request(&name) {
                Ok(request) => {
                    let entered = self.add_user(record, &request.names, request.daemon);
                    *unknown_author = match (*unknown_author, entered) {
                        (Some(UnknownAuthor::TakeOver), _) | (_, Some(UnknownAuthor::TakeOver)) => {
                            Some(UnknownAuthor::TakeOver)
                        }
                        (before, entered) => before.or(entered),
                    };
                }
                // It cannot be done, and must not keep the others from being done.
                Err(error) => self.errors.push(error.into()),
            }
            answered.push(name);
        }
        Ok(answered)
    }

    fn give_back_all(&mut self) -> Result<(), DnsError> {
        let mut record = self.store.read_state()?;
        record.users.clear();
        let names = self.store.request_names()?;
        self.reconcile(record, &names, UnknownAuthor::Leave)?;
        Ok(names.iter().try_for_each(|name| self.store.remove_request(name))?)
    }

    /// Adds a user to the record or removes it. `None` if nothing is to be done then.
    pub(super) fn add_user(
        &mut self,
        record: &mut ResolverRecord,
        names: &NameService,
        daemon: Option<DaemonProcess>,
    ) -> Option<UnknownAuthor> {
        let position = record.users.iter().position(|user| user.user == names.user);
        match &names.request {
            DnsRequest::Use(offer) => {
                let by = self
                    .choose_means(offer)
                    .map_err(|error| self.errors.push(error))
                    .ok()??;
                let user = NameUser {
                    user: names.user.clone(),
                    daemon,
                    servers: offer.servers.clone(),
                    domains: offer.domains.clone(),
                    by,
                };
                match position {
                    Some(position) => record.users[position] = user,
                    None => record.users.push(user),
                }
                Some(UnknownAuthor::TakeOver)
            }
            DnsRequest::GiveBack => {
                record.users.remove(position?);
                Some(UnknownAuthor::Leave)
            }
        }
    }

    /// By what means an offer is used; nothing if it is NetworkManager's.
    fn choose_means(&self, offer: &DnsConfig) -> Result<Option<NameServerMeans>, DnsError> {
        let for_unbound = !offer.servers.is_empty() && !offer.domains.is_empty();
        let interface = match &offer.means {
            DnsMeans::Systemd(interface) => return Ok(Some(NameServerMeans::Link(interface.clone()))),
            DnsMeans::File(_) | DnsMeans::Unbound if for_unbound && self.system.unbound().is_some() => {
                return Ok(Some(NameServerMeans::Unbound));
            }
            DnsMeans::Unbound => return Ok(None),
            DnsMeans::File(interface) => interface,
        };
        let root = &self.system.root;
        match (resolv_conf_file::locate(root)?, interface) {
            (ResolvConfKind::Plain(_), _) => Ok(Some(NameServerMeans::File)),
            (ResolvConfKind::Missing, _) => Err(DnsError::NoFile),
            (ResolvConfKind::Resolved(_), Some(interface)) if resolv_conf_file::resolved_listens(root) => {
                Ok(Some(NameServerMeans::Link(interface.clone())))
            }
            (ResolvConfKind::Resolved(path), interface) => Err(DnsError::Resolved {
                path,
                why: match interface {
                    Some(_) => "which does not run",
                    None => "and PLUTO_INTERFACE names no interface",
                },
            }),
        }
    }

    /// Changes every program and file to the desired state.
    ///
    /// The record is written first. If this call dies or fails, it shows what is left to do:
    /// unconfirmed changes are tried again at every call. So the requests themselves can be
    /// removed.
    fn reconcile(
        &mut self,
        mut record: ResolverRecord,
        answered: &[String],
        unknown_author: UnknownAuthor,
    ) -> Result<(), DnsError> {
        self.store.begin_change(&record)?;
        answered.iter().try_for_each(|name| self.store.remove_request(name))?;
        self.is_unsettled = false;
        self.forward(&mut record)?;
        self.links(&mut record)?;
        if let Err(error) = self.file(&mut record, unknown_author) {
            self.errors.push(error);
            // With users it is tried again when one is added or removed; without users, every call
            // has to try.
            self.is_unsettled |= record.users.is_empty();
        }
        match self.is_unsettled {
            true => Ok(self.store.write_state(&record)?),
            false => Ok(self.store.clear_journal(&record)?),
        }
    }

    /// Sets unbound's forward zones. An unbound that was restarted since, or does not run, has
    /// none.
    fn forward(&mut self, record: &mut ResolverRecord) -> Result<(), DnsError> {
        let unbound = self.system.unbound();
        let is_another = record.unbound.is_some() && record.unbound != unbound;
        if unbound.is_none() || is_another {
            record.forwards.clear();
        }
        record.unbound = unbound;
        if unbound.is_some() {
            self.forward_changes(record)?;
        }
        record.unbound = unbound.filter(|_| !record.forwards.is_empty());
        Ok(())
    }

    fn forward_changes(&mut self, record: &mut ResolverRecord) -> Result<(), DnsError> {
        let wanted = plan::forwards(&record.users);
        let (changes, last) = plan::forwards_to_change(&wanted, &record.forwards);
        if changes.is_empty() {
            return Ok(());
        }
        // Before the change, because the result is unknown if this call dies.
        for Forward { domain, .. } in &changes {
            record.forwards.insert(domain.clone(), Vec::new());
        }
        self.store.write_state(record)?;
        for change in changes {
            self.forward_one(record, &wanted, change);
        }
        if let Some(command) = last {
            self.run(&command);
        }
        Ok(())
    }

    fn forward_one(
        &mut self,
        record: &mut ResolverRecord,
        wanted: &BTreeMap<Domain, Vec<std::net::IpAddr>>,
        change: Forward,
    ) {
        let result = self.run(&change.command);
        if result == CommandResult::Unknown {
            self.is_unsettled = true;
            return;
        }
        match wanted.get(&change.domain) {
            Some(servers) => drop(record.forwards.insert(change.domain, servers.clone())),
            None => drop(record.forwards.remove(&change.domain)),
        }
        self.run(&change.flush);
    }

    /// Sets systemd-resolved's links.
    fn links(&mut self, record: &mut ResolverRecord) -> Result<(), DnsError> {
        let wanted = plan::links(&record.users);
        for interface in wanted.keys() {
            if !record.links.contains_key(interface) {
                match self.link_settings_before(interface) {
                    Ok(before) => drop(record.links.insert(interface.clone(), unreported_link(before))),
                    Err(error) => {
                        self.errors.push(error);
                        self.is_unsettled = true;
                    }
                }
            }
        }
        let interfaces: Vec<_> = record.links.keys().cloned().collect();
        for interface in interfaces {
            let names = wanted.get(&interface).cloned();
            self.set_link(record, &interface, names.as_ref())?;
        }
        Ok(())
    }

    /// Sets one link in systemd-resolved: to the desired settings, or to those before the first
    /// user.
    fn set_link(
        &mut self,
        record: &mut ResolverRecord,
        interface: &Interface,
        wanted: Option<&DnsNames>,
    ) -> Result<(), DnsError> {
        let Some(held) = record.links.get_mut(interface) else {
            return Ok(());
        };
        let names = wanted.cloned().unwrap_or_default();
        let commands = plan::link_commands(interface, &names, held);
        if !commands.is_empty() {
            // Before the change, because the link's settings are unknown if this call dies.
            held.confirmation = Confirmation::Unconfirmed;
            self.store.write_state(record)?;
        }
        let results: Vec<_> = commands.iter().map(|command| self.run(command)).collect();
        if results.contains(&CommandResult::Unknown) {
            self.is_unsettled = true;
            return Ok(());
        }
        match (wanted, record.links.get_mut(interface)) {
            (Some(names), Some(held)) => {
                held.servers.clone_from(&names.servers);
                held.domains.clone_from(&names.domains);
                held.confirmation = Confirmation::Confirmed;
            }
            (None, _) | (_, None) => drop(record.links.remove(interface)),
        }
        Ok(())
    }

    /// A link's settings in systemd-resolved.
    fn link_settings_before(&self, interface: &Interface) -> Result<LinkSettings, DnsError> {
        let ask = |what| {
            let answer = self.system.run(&plan::link_question(what, interface), &[])?;
            Ok::<_, DnsError>(link_words(&String::from_utf8_lossy(&answer)))
        };
        Ok(LinkSettings {
            servers: ask("dns")?,
            domains: ask("domain")?,
        })
    }

    /// Runs a command, as long as there is time. Later commands run even if one fails, but not if
    /// one hangs.
    fn run(&mut self, command: &ResolverCommand) -> CommandResult {
        let result = match Instant::now() >= self.system.deadline {
            true => Err(DnsError::NoTime(command.to_string())),
            false => self.system.run(command, &[]),
        };
        match result {
            Ok(_) => CommandResult::Obeyed,
            Err(error) if error.is_about_a_lost_device() => CommandResult::Gone,
            Err(error) => {
                self.errors.push(error);
                CommandResult::Unknown
            }
        }
    }

    /// Writes the users' name servers to `resolv.conf`, or its original content.
    fn file(&mut self, record: &mut ResolverRecord, unknown_author: UnknownAuthor) -> Result<(), DnsError> {
        let users = plan::in_file(&record.users);
        let here = match users.is_empty() {
            true => None,
            false => match resolv_conf_file::locate(&self.system.root)? {
                ResolvConfKind::Plain(path) => Some(path),
                ResolvConfKind::Missing | ResolvConfKind::Resolved(_) => None,
            },
        };
        self.check_place(record)?;
        if record.file.is_some() && record.file != here {
            self.put_back(record)?;
        }
        let Some(path) = here else { return Ok(()) };
        let current = resolv_conf_file::read_resolv_conf(&path)?;
        let original = match (record.file.is_some(), unknown_author) {
            (false, _) => Some(self.take_over(record, &path, &current)?),
            (true, unknown_author) => self.original(record, &path, &current, unknown_author)?,
        };
        match original {
            Some(original) => self.write_file(record, &path, &current, &merge_users(&original, &users)),
            None => Ok(()),
        }
    }

    /// In another mount namespace the path may lead to another file, which this program has not
    /// changed.
    fn check_place(&self, record: &ResolverRecord) -> Result<(), DnsError> {
        let (Some(path), Some(identity)) = (&record.file, record.identity) else {
            return Ok(());
        };
        match resolv_conf_file::leads_to(path, identity)? {
            true => Ok(()),
            false => Err(DnsError::Elsewhere {
                path: path.clone(),
                namespace: identity.mount_namespace,
            }),
        }
    }

    /// What a file that was taken over is to be in the end; nothing, if it is to be left as it is
    /// now.
    fn original(
        &mut self,
        record: &mut ResolverRecord,
        path: &Path,
        current: &[u8],
        unknown_author: UnknownAuthor,
    ) -> Result<Option<Vec<u8>>, DnsError> {
        let copies = self.store.copies()?;
        match (content(current, &copies), unknown_author) {
            (Content::Ours, _) => Ok(Some(copies.original)),
            (Content::Edited, _) => self.keep_edit(path, current, &copies).map(Some),
            (Content::Others, UnknownAuthor::TakeOver) => self.take_over(record, path, current).map(Some),
            (Content::Others, UnknownAuthor::Leave) => Ok(None),
        }
    }

    /// Another program's edits stay in the file when this program's lines are removed.
    fn keep_edit(&mut self, path: &Path, current: &[u8], copies: &FileCopies) -> Result<Vec<u8>, DnsError> {
        let original = without_ours(current, copies);
        self.store.keep_original(&original)?;
        self.errors.push(DnsError::Edited { path: path.to_owned() });
        Ok(original)
    }

    fn take_over(&mut self, record: &mut ResolverRecord, path: &Path, current: &[u8]) -> Result<Vec<u8>, DnsError> {
        let whose = match author(current) {
            Author::Other => None,
            Author::Ours => Some("pluto-updown, which has no record of it"),
            Author::StockScript => Some("a stock script, which may have kept a copy of the original in /run/pluto"),
        };
        self.errors.extend(whose.map(|whose| DnsError::Leftover {
            path: path.to_owned(),
            whose,
        }));
        self.store.keep_original(current)?;
        self.store.keep_written(current)?;
        record.file = Some(path.to_owned());
        record.identity = Some(resolv_conf_file::identify(path)?);
        self.store.write_state(record)?;
        Ok(current.to_vec())
    }

    /// Writes a file and reads it again. Until then the copy of what it held is kept.
    fn write_file(
        &self,
        record: &mut ResolverRecord,
        path: &Path,
        current: &[u8],
        wanted: &[u8],
    ) -> Result<(), DnsError> {
        if wanted != current {
            self.store.keep_next(wanted)?;
            resolv_conf_file::overwrite(path, wanted)?;
            if resolv_conf_file::read_resolv_conf(path)? != wanted {
                return Err(DnsError::NotVerified { path: path.to_owned() });
            }
            self.store.drop_journal()?;
        }
        record.identity = Some(resolv_conf_file::identify(path)?);
        Ok(())
    }

    /// Restores the original content of the file that was taken over, unless another program has
    /// written it since.
    fn put_back(&mut self, record: &mut ResolverRecord) -> Result<(), DnsError> {
        let Some(path) = record.file.clone() else { return Ok(()) };
        self.put_back_content(record, &path)?;
        record.file = None;
        record.identity = None;
        self.store.write_state(record)?;
        Ok(self.store.forget_copies()?)
    }

    fn put_back_content(&mut self, record: &mut ResolverRecord, path: &Path) -> Result<(), DnsError> {
        let current = match resolv_conf_file::read_resolv_conf(path) {
            Err(DnsError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            other => other?,
        };
        let copies = match self.store.copies() {
            // The original content is lost.
            Err(error) if error.is_absence() => {
                self.errors.push(error.into());
                return Ok(());
            }
            other => other?,
        };
        let original = match content(&current, &copies) {
            Content::Ours => copies.original,
            Content::Edited => self.keep_edit(path, &current, &copies)?,
            Content::Others => return Ok(()),
        };
        self.write_file(record, path, &current, &original)
    }
}

/// A link for which nothing was set yet.
pub(super) fn unreported_link(before: LinkSettings) -> LinkRecord {
    LinkRecord {
        before,
        servers: Vec::new(),
        domains: Vec::new(),
        confirmation: Confirmation::Confirmed,
    }
}

/// The words after `Link 3 (eth0):`; words that resolvectl does not write there are left out.
fn link_words(answer: &str) -> Vec<LinkWord> {
    let words = answer.split_once("):").map_or("", |(_, words)| words);
    words
        .split_ascii_whitespace()
        .filter_map(|word| word.parse().ok())
        .collect()
}
