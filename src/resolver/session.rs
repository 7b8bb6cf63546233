//! One call at work on the resolver.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

use super::notice;
use super::place::{self, Place};
use super::plan::{self, Command, Names};
use super::resolvconf::{Author, author, merge};
use super::system::System;
use super::trouble::Trouble;
use crate::contract::{Means, NameService, Offer, Request, ResolverDuty};
use crate::record::{By, Daemon, LinkRecord, LinkSettings, LinkWord, NameUser, ResolverRecord, Store};
use crate::selector::Device;

/// What is done about a `resolv.conf` that somebody else has written since.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Foreign {
    /// It is taken over: somebody needs his name servers in it.
    TakeOver,
    /// It is left as it is: somebody has gone, and what he brought is not in it any more.
    Leave,
}

/// Does what a call asks of the resolver. `store` must hold its lock. Returns what went wrong.
#[must_use]
pub fn carry_out(duty: &ResolverDuty, store: &Store, system: &System, daemon: Option<Daemon>) -> Vec<Trouble> {
    let mut troubles: Vec<_> = duty.faults.iter().cloned().map(Trouble::LeftOut).collect();
    if let Some(names) = &duty.names {
        let mut session = Session::new(store, system, troubles);
        if let Err(trouble) = session.change(names, daemon) {
            session.troubles.push(trouble);
        }
        troubles = session.troubles;
    }
    if let Some(notice) = &duty.notice {
        troubles.extend(notice::tell(notice, system).err());
    }
    troubles
}

/// Does what no daemon calls for: makes up for a call that died, and takes back what the users of dead daemons have brought.
/// Returns what went wrong.
#[must_use]
pub fn housekeep(store: &Store, system: &System) -> Vec<Trouble> {
    let mut session = Session::new(store, system, Vec::new());
    if let Err(trouble) = session.housekeep() {
        session.troubles.push(trouble);
    }
    session.troubles
}

/// Gives everything back, whoever still uses it. Returns what went wrong.
#[must_use]
pub fn give_back_all(store: &Store, system: &System) -> Vec<Trouble> {
    let mut session = Session::new(store, system, Vec::new());
    if let Err(trouble) = session.give_back_all() {
        session.troubles.push(trouble);
    }
    session.troubles
}

/// A call at work.
pub(super) struct Session<'a> {
    pub(super) store: &'a Store,
    pub(super) system: &'a System,
    pub(super) troubles: Vec<Trouble>,
}

impl<'a> Session<'a> {
    pub(super) fn new(store: &'a Store, system: &'a System, troubles: Vec<Trouble>) -> Self {
        Self {
            store,
            system,
            troubles,
        }
    }

    fn change(&mut self, names: &NameService, daemon: Option<Daemon>) -> Result<(), Trouble> {
        let mut record = self.store.resolver()?;
        let Some(foreign) = self.enter(&mut record, names, daemon) else {
            return Ok(());
        };
        self.reconcile(record, foreign)
    }

    fn housekeep(&mut self) -> Result<(), Trouble> {
        if self.store.resolver_was_interrupted() {
            self.reconcile(self.store.resolver()?, Foreign::TakeOver)?;
        }
        let mut record = self.store.resolver()?;
        let before = record.users.len();
        record
            .users
            .retain(|user| user.daemon.is_none_or(|daemon| !daemon.is_dead()));
        match record.users.len() == before {
            true => Ok(()),
            false => self.reconcile(record, Foreign::Leave),
        }
    }

    fn give_back_all(&mut self) -> Result<(), Trouble> {
        let mut record = self.store.resolver()?;
        if record == ResolverRecord::default() && !self.store.resolver_was_interrupted() {
            return Ok(());
        }
        record.users.clear();
        self.reconcile(record, Foreign::Leave)
    }

    /// Enters a user in the record or strikes it. Nothing, if there is nothing to do then.
    pub(super) fn enter(
        &mut self,
        record: &mut ResolverRecord,
        names: &NameService,
        daemon: Option<Daemon>,
    ) -> Option<Foreign> {
        let position = record.users.iter().position(|user| user.user == names.user);
        match &names.request {
            Request::Use(offer) => {
                let by = self
                    .means(offer)
                    .map_err(|trouble| self.troubles.push(trouble))
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
                Some(Foreign::TakeOver)
            }
            Request::GiveBack => {
                record.users.remove(position?);
                Some(Foreign::Leave)
            }
        }
    }

    /// By what means an offer is used; nothing if it is NetworkManager's.
    fn means(&self, offer: &Offer) -> Result<Option<By>, Trouble> {
        let for_unbound = !offer.servers.is_empty() && !offer.domains.is_empty();
        let device = match &offer.means {
            Means::Systemd(device) => return Ok(Some(By::Link(device.clone()))),
            Means::File(_) | Means::Unbound if for_unbound && self.system.runs("unbound") => {
                return Ok(Some(By::Unbound));
            }
            Means::Unbound => return Ok(None),
            Means::File(device) => device,
        };
        let root = &self.system.root;
        match (place::locate(root)?, device) {
            (Place::Plain(_), _) => Ok(Some(By::File)),
            (Place::Missing, _) => Err(Trouble::NoFile),
            (Place::Resolved(_), Some(device)) if place::resolved_listens(root) => Ok(Some(By::Link(device.clone()))),
            (Place::Resolved(path), device) => Err(Trouble::Resolved {
                path,
                why: match device {
                    Some(_) => "does not run",
                    None => "PLUTO_INTERFACE names no device",
                },
            }),
        }
    }

    /// Brings everything from what it was told to what it should say.
    ///
    /// The record comes first. It says what is left to do if this call dies, or cannot do it: a file that could not be put back is
    /// tried again at every call.
    fn reconcile(&mut self, mut record: ResolverRecord, foreign: Foreign) -> Result<(), Trouble> {
        self.store.begin_resolver(&record)?;
        self.forward(&mut record);
        self.links(&mut record)?;
        match self.file(&mut record, foreign) {
            Err(trouble) if record.users.is_empty() => {
                self.store.update_resolver(&record)?;
                Err(trouble)
            }
            other => {
                self.troubles.extend(other.err());
                Ok(self.store.settle_resolver(&record)?)
            }
        }
    }

    /// Tells unbound. If it does not run any more, it has forgotten what it was told.
    fn forward(&mut self, record: &mut ResolverRecord) {
        let wanted = plan::forwards(&record.users);
        if wanted != record.forwards && self.system.runs("unbound") {
            self.run(&plan::forward_commands(&wanted, &record.forwards));
        }
        record.forwards = wanted;
    }

    /// Tells systemd-resolved.
    fn links(&mut self, record: &mut ResolverRecord) -> Result<(), Trouble> {
        let wanted = plan::links(&record.users);
        for (device, names) in &wanted {
            if !record.links.contains_key(device) {
                match self.before(device) {
                    Ok(before) => drop(record.links.insert(device.clone(), untold(before))),
                    Err(trouble) => self.troubles.push(trouble),
                }
                self.store.update_resolver(record)?;
            }
            if let Some(held) = record.links.get_mut(device) {
                self.run(&plan::link_commands(device, names, held));
                held.servers.clone_from(&names.servers);
                held.domains.clone_from(&names.domains);
            }
        }
        let (stay, go) = std::mem::take(&mut record.links)
            .into_iter()
            .partition::<BTreeMap<_, _>, _>(|(device, _)| wanted.contains_key(device));
        record.links = stay;
        for (device, held) in go {
            self.run(&plan::link_commands(&device, &Names::default(), &held));
        }
        Ok(())
    }

    /// What systemd-resolved has for a device.
    fn before(&self, device: &Device) -> Result<LinkSettings, Trouble> {
        let ask = |what| {
            let answer = self.system.run(&plan::link_question(what, device), &[])?;
            Ok::<_, Trouble>(link_words(&String::from_utf8_lossy(&answer)))
        };
        Ok(LinkSettings {
            servers: ask("dns")?,
            domains: ask("domain")?,
        })
    }

    /// Runs commands one after the other. One that fails does not keep the others from being run; one that hangs does.
    fn run(&mut self, commands: &[Command]) {
        for command in commands {
            if Instant::now() >= self.system.deadline {
                self.troubles.push(Trouble::NoTime(command.to_string()));
                return;
            }
            self.troubles.extend(self.system.run(command, &[]).err());
        }
    }

    /// Puts the users' name servers into `resolv.conf`, or what was there before.
    fn file(&mut self, record: &mut ResolverRecord, foreign: Foreign) -> Result<(), Trouble> {
        let users = plan::in_file(&record.users);
        let here = match users.is_empty() {
            true => None,
            false => match place::locate(&self.system.root)? {
                Place::Plain(path) => Some(path),
                Place::Missing | Place::Resolved(_) => None,
            },
        };
        if record.file.is_some() && record.file != here {
            self.put_back(record)?;
        }
        let Some(path) = here else { return Ok(()) };
        let current = place::read(&path)?;
        let known = record.file.is_some() && author(&current) == Author::Ours;
        if !known && record.file.is_some() && foreign == Foreign::Leave {
            return Ok(());
        }
        let original = match known {
            true => self.store.original()?,
            false => self.take_over(record, &path, &current)?,
        };
        let merged = merge(&original, &users);
        match merged == current {
            true => Ok(()),
            false => place::replace(&path, &merged),
        }
    }

    fn take_over(&mut self, record: &mut ResolverRecord, path: &Path, current: &[u8]) -> Result<Vec<u8>, Trouble> {
        let whose = match author(current) {
            Author::Other => None,
            Author::Ours => Some("this program, which has no record of it"),
            Author::StockScript => Some("a stock script, which may have kept a copy of what was before in /run/pluto"),
        };
        self.troubles.extend(whose.map(|whose| Trouble::Leftover {
            path: path.to_owned(),
            whose,
        }));
        self.store.keep_original(current)?;
        record.file = Some(path.to_owned());
        self.store.update_resolver(record)?;
        Ok(current.to_vec())
    }

    /// Puts back what was in the file that was taken over; unless somebody else has written it since.
    fn put_back(&mut self, record: &mut ResolverRecord) -> Result<(), Trouble> {
        let Some(path) = record.file.clone() else { return Ok(()) };
        if is_ours(&path)? {
            match self.store.original() {
                // Nobody will ever know what it was.
                Err(error) if error.is_absence() => self.troubles.push(error.into()),
                original => place::replace(&path, &original?)?,
            }
        }
        record.file = None;
        Ok(self.store.update_resolver(record)?)
    }
}

/// Whether a file is there and ours.
pub(super) fn is_ours(path: &Path) -> Result<bool, Trouble> {
    match place::read(path) {
        Err(Trouble::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => Ok(false),
        other => Ok(author(&other?) == Author::Ours),
    }
}

/// A device that nobody was told anything of yet.
pub(super) fn untold(before: LinkSettings) -> LinkRecord {
    LinkRecord {
        before,
        servers: Vec::new(),
        domains: Vec::new(),
    }
}

/// What stands behind `Link 3 (eth0):`, word for word; what is not what resolvectl writes there is left out.
fn link_words(answer: &str) -> Vec<LinkWord> {
    let words = answer.split_once("):").map_or("", |(_, words)| words);
    words
        .split_ascii_whitespace()
        .filter_map(|word| word.parse().ok())
        .collect()
}
