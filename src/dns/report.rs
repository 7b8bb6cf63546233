//! Reports on the name servers in use and on incomplete changes, for `status` and `check`.

use super::record::{Confirmation, NameServerMeans, NameUser, ResolverRecord, ResolverStore};
use super::resolv_conf_file;
use crate::state::{RecordError, Store};

/// The recorded users, and the problems, one line each.
pub(crate) fn report(store: &Store) -> Result<(Vec<NameUser>, Vec<String>), RecordError> {
    let resolver = store.resolver();
    if !resolver.is_in_use() {
        return Ok((Vec::new(), Vec::new()));
    }
    let record = resolver.read_state()?;
    let unfinished = unfinished(&record, &resolver)?;
    Ok((record.users, unfinished))
}

fn unfinished(record: &ResolverRecord, resolver: &ResolverStore) -> Result<Vec<String>, RecordError> {
    let mut lines = Vec::new();
    for (domain, _) in record.forwards.iter().filter(|(_, servers)| servers.is_empty()) {
        lines.push(format!("unbound did not confirm the change for {domain}"));
    }
    for (interface, link) in &record.links {
        if link.confirmation == Confirmation::Unconfirmed {
            lines.push(format!("systemd-resolved did not confirm the change for {interface}"));
        }
    }
    let is_file_in_use = record.users.iter().any(|user| user.by == NameServerMeans::File);
    if let (Some(path), Some(identity)) = (&record.file, record.identity) {
        let shown = path.display();
        if !resolv_conf_file::leads_to(path, identity).unwrap_or(true) {
            let namespace = identity.mount_namespace;
            lines.push(format!(
                "{shown} was changed in the mount namespace {namespace}, and is another file here"
            ));
        } else if !is_file_in_use {
            lines.push(format!("{shown} is not restored yet"));
        }
    }
    match resolver.request_names()?.len() {
        0 => {}
        1 => lines.push("1 change of name servers is pending".to_owned()),
        number => lines.push(format!("{number} changes of name servers are pending")),
    }
    if lines.is_empty() && resolver.is_pending() {
        lines.push("a previous run was interrupted while it changed name servers".to_owned());
    }
    Ok(lines)
}
