//! What a call would do, for `--dry-run`.

use std::path::PathBuf;

use super::apply::{ResolverEngine, UnknownAuthor, unreported_link};
use super::env::{NameService, ResolverAction};
use super::error::DnsError;
use super::notice;
use super::plan::{self, DnsNames, ResolverCommand};
use super::record::{LinkSettings, ResolverRecord};
use super::resolv_conf_file::{self, ResolvConfKind};
use super::resolvconf::{Content, content, merge_users, without_ours};
use super::system::System;
use crate::apply::Preview;
use crate::state::Store;

/// Adds what a call would do.
pub(crate) fn preview(action: &ResolverAction, store: &Store, system: &System, preview: &mut Preview) {
    let mut errors: Vec<_> = action.faults.iter().cloned().map(DnsError::LeftOut).collect();
    if let Some(names) = &action.names {
        errors = in_preview(store, system, errors, |engine| engine.preview_names(names, preview));
    }
    if let Some(notice) = &action.notice {
        preview.add_commands("run", &[notice::notice_text(notice)]);
    }
    errors.iter().for_each(|error| preview.sum_up(error));
}

/// Adds what is done when all users give everything back.
pub(crate) fn preview_give_back_all(store: &Store, system: &System, preview: &mut Preview) {
    let errors = in_preview(store, system, Vec::new(), |engine| {
        let mut record = engine.store.read_state()?;
        for user in std::mem::take(&mut record.users) {
            let servers: Vec<_> = user.servers.iter().map(ToString::to_string).collect();
            preview.sum_up(format_args!("would remove the name servers {}", servers.join(", ")));
        }
        engine.preview_record(&record, UnknownAuthor::Leave, preview)
    });
    errors.iter().for_each(|error| preview.sum_up(error));
}

fn in_preview(
    store: &Store,
    system: &System,
    errors: Vec<DnsError>,
    work: impl FnOnce(&mut ResolverEngine<'_>) -> Result<(), DnsError>,
) -> Vec<DnsError> {
    let resolver = store.resolver();
    let mut engine = ResolverEngine::new(&resolver, system, errors);
    let done = work(&mut engine);
    engine.errors.extend(done.err());
    engine.errors
}

impl ResolverEngine<'_> {
    fn preview_names(&mut self, names: &NameService, preview: &mut Preview) -> Result<(), DnsError> {
        let mut record = self.store.read_state()?;
        match self.add_user(&mut record, names, None) {
            Some(foreign) => self.preview_record(&record, foreign, preview),
            None => Ok(()),
        }
    }

    /// Adds what brings programs and files to this record.
    fn preview_record(
        &self,
        record: &ResolverRecord,
        foreign: UnknownAuthor,
        preview: &mut Preview,
    ) -> Result<(), DnsError> {
        preview.add_commands("run", &commands(record));
        if let Some((path, content)) = self.file_to_be(record, foreign)? {
            preview.add(
                format_args!("write {}", path.display()),
                String::from_utf8_lossy(&content),
            );
        }
        Ok(())
    }

    /// What would be written to which file.
    fn file_to_be(
        &self,
        record: &ResolverRecord,
        foreign: UnknownAuthor,
    ) -> Result<Option<(PathBuf, Vec<u8>)>, DnsError> {
        let users = plan::in_file(&record.users);
        let kept = self.kept_original(record)?;
        let is_foreign = record.file.is_some() && kept.is_none();
        if users.is_empty() || (is_foreign && foreign == UnknownAuthor::Leave) {
            return Ok(kept);
        }
        let ResolvConfKind::Plain(path) = resolv_conf_file::locate(&self.system.root)? else {
            return Ok(None);
        };
        let current = resolv_conf_file::read_resolv_conf(&path)?;
        let original = kept.filter(|(taken, _)| *taken == path);
        let original = original.map_or_else(|| current.clone(), |(_, original)| original);
        let merged = merge_users(&original, &users);
        Ok((merged != current).then_some((path, merged)))
    }

    /// The file that was taken over and its original content, if this program's lines are in it.
    fn kept_original(&self, record: &ResolverRecord) -> Result<Option<(PathBuf, Vec<u8>)>, DnsError> {
        let Some(path) = &record.file else { return Ok(None) };
        let (current, copies) = (resolv_conf_file::read_resolv_conf(path)?, self.store.copies()?);
        let original = match content(&current, &copies) {
            Content::Ours => copies.original,
            Content::Edited => without_ours(&current, &copies),
            Content::Others => return Ok(None),
        };
        Ok(Some((path.clone(), original)))
    }
}

/// The commands that would be run.
fn commands(record: &ResolverRecord) -> Vec<ResolverCommand> {
    let (changes, last) = plan::forwards_to_change(&plan::forwards(&record.users), &record.forwards);
    let mut commands: Vec<_> = changes
        .into_iter()
        .flat_map(|change| [change.command, change.flush])
        .chain(last)
        .collect();
    let links = plan::links(&record.users);
    let untouched = unreported_link(LinkSettings::default());
    for (interface, names) in &links {
        let held = record.links.get(interface).unwrap_or(&untouched);
        commands.extend(plan::link_commands(interface, names, held));
    }
    for (interface, held) in record
        .links
        .iter()
        .filter(|(interface, _)| !links.contains_key(*interface))
    {
        commands.extend(plan::link_commands(interface, &DnsNames::default(), held));
    }
    commands
}
