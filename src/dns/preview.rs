//! What a call would do, for `--dry-run`.

use std::fmt::Write as _;
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
use crate::state::Store;

/// What a call would do, as lines; empty if nothing.
#[must_use]
pub(crate) fn preview(action: &ResolverAction, store: &Store, system: &System) -> String {
    let mut text = String::new();
    let mut errors: Vec<_> = action.faults.iter().cloned().map(DnsError::LeftOut).collect();
    if let Some(names) = &action.names {
        let resolver = store.resolver();
        let mut engine = ResolverEngine::new(&resolver, system, errors);
        match engine.preview_names(names) {
            Ok(shown) => text.push_str(&shown),
            Err(error) => engine.errors.push(error),
        }
        errors = engine.errors;
    }
    // Writing into a String cannot fail.
    if let Some(notice) = &action.notice {
        let _ = writeln!(text, "# would run:\n{}", notice::notice_text(notice));
    }
    for error in errors {
        let _ = writeln!(text, "# {error}");
    }
    text
}

impl ResolverEngine<'_> {
    /// The lines of a preview.
    fn preview_names(&mut self, names: &NameService) -> Result<String, DnsError> {
        let mut record = self.store.read_state()?;
        let Some(foreign) = self.add_user(&mut record, names, None) else {
            return Ok(String::new());
        };
        let commands = commands(&record);
        let mut text = String::new();
        // Writing into a String cannot fail.
        for (position, command) in commands.iter().enumerate() {
            let heading = if position == 0 { "# would run:\n" } else { "" };
            let _ = writeln!(text, "{heading}{command}");
        }
        if let Some((path, content)) = self.file_to_be(&record, foreign)? {
            let _ = write!(
                text,
                "# would write {}:\n{}",
                path.display(),
                String::from_utf8_lossy(&content)
            );
        }
        Ok(text)
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
            Content::Foreign => return Ok(None),
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
