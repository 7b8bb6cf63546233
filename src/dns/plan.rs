//! The desired state of unbound and systemd-resolved for the present users, and the commands that
//! set it. Pure.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use super::domain::Domain;
use super::record::{Confirmation, LinkRecord, NameServerMeans, NameUser};
use crate::net::Interface;

/// Name servers and the domains that they are for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DnsNames {
    /// The name servers.
    pub servers: Vec<IpAddr>,
    /// The domains.
    pub domains: Vec<Domain>,
}

/// A program that configures a resolver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ResolverProgram {
    /// unbound's.
    UnboundControl,
    /// systemd-resolved's.
    Resolvectl,
    /// That of NetworkManager-libreswan.
    NmLibreswan,
    /// That of NetworkManager-openswan.
    NmOpenswan,
}

impl ResolverProgram {
    /// The name of its file.
    #[must_use]
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::UnboundControl => "unbound-control",
            Self::Resolvectl => "resolvectl",
            Self::NmLibreswan => "nm-libreswan-service-helper",
            Self::NmOpenswan => "nm-openswan-service-helper",
        }
    }
}

/// A program with its arguments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ResolverCommand {
    /// The program.
    pub program: ResolverProgram,
    /// Its arguments, all of which come out of closed alphabets.
    pub arguments: Vec<String>,
}

impl fmt::Display for ResolverCommand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.program.name())?;
        for argument in &self.arguments {
            let quotes = if argument.is_empty() { "\"\"" } else { "" };
            write!(f, " {quotes}{argument}")?;
        }
        Ok(())
    }
}

/// What those users have who go by `resolv.conf`, in the order in which they came.
#[must_use]
pub(crate) fn in_file(users: &[NameUser]) -> Vec<DnsNames> {
    let by_file = users.iter().filter(|user| user.by == NameServerMeans::File);
    by_file.map(dns_names).collect()
}

/// Where unbound is to ask about which domain. Of two users with one domain the later one's name
/// servers are asked.
#[must_use]
pub(crate) fn forwards(users: &[NameUser]) -> BTreeMap<Domain, Vec<IpAddr>> {
    let by_unbound = users.iter().filter(|user| user.by == NameServerMeans::Unbound);
    by_unbound
        .flat_map(|user| user.domains.iter().map(|domain| (domain.clone(), user.servers.clone())))
        .collect()
}

/// The desired settings of each link in systemd-resolved: those of all its users, the latest one's
/// first.
#[must_use]
pub(crate) fn links(users: &[NameUser]) -> BTreeMap<Interface, DnsNames> {
    let mut links: BTreeMap<Interface, DnsNames> = BTreeMap::new();
    for user in users.iter().rev() {
        let interface = match &user.by {
            NameServerMeans::Link(interface) => interface,
            NameServerMeans::File | NameServerMeans::Unbound => continue,
        };
        let link = links.entry(interface.clone()).or_default();
        add_missing(&mut link.servers, &user.servers);
        add_missing(&mut link.domains, &user.domains);
    }
    links
}

fn dns_names(user: &NameUser) -> DnsNames {
    DnsNames {
        servers: user.servers.clone(),
        domains: user.domains.clone(),
    }
}

fn add_missing<T: Clone + PartialEq>(list: &mut Vec<T>, more: &[T]) {
    for item in more {
        if !list.contains(item) {
            list.push(item.clone());
        }
    }
}

/// The commands to unbound for one domain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Forward {
    /// The domain.
    pub domain: Domain,
    /// The command that must succeed.
    pub command: ResolverCommand,
    /// The commands that flush cached answers about the domain.
    pub flush: ResolverCommand,
}

/// The commands that change unbound's forward zones from the present to the desired ones, and at
/// the end make it send pending queries again.
#[must_use]
pub(crate) fn forwards_to_change(
    wanted: &BTreeMap<Domain, Vec<IpAddr>>,
    held: &BTreeMap<Domain, Vec<IpAddr>>,
) -> (Vec<Forward>, Option<ResolverCommand>) {
    let unbound_control = |words: Vec<String>| ResolverCommand {
        program: ResolverProgram::UnboundControl,
        arguments: words,
    };
    let change = |verb: &str, domain: &Domain, servers: &[IpAddr]| Forward {
        domain: domain.clone(),
        command: unbound_control(
            [verb.to_owned(), domain.to_string()]
                .into_iter()
                .chain(servers.iter().map(ToString::to_string))
                .collect(),
        ),
        flush: unbound_control(vec!["flush_zone".into(), domain.to_string()]),
    };
    let removed = held.keys().filter(|domain| !wanted.contains_key(*domain));
    let changed = wanted
        .iter()
        .filter(|(domain, servers)| held.get(*domain) != Some(*servers));
    let changes: Vec<_> = removed
        .map(|domain| change("forward_remove", domain, &[]))
        .chain(changed.map(|(domain, servers)| change("forward_add", domain, servers)))
        .collect();
    let last = (!changes.is_empty()).then(|| unbound_control(vec!["flush_requestlist".into()]));
    (changes, last)
}

/// The commands that set a link. Settings that no user wants stay as before the first user.
#[must_use]
pub(crate) fn link_commands(interface: &Interface, wanted: &DnsNames, held: &LinkRecord) -> Vec<ResolverCommand> {
    let mut commands = Vec::new();
    let is_unsure = held.confirmation == Confirmation::Unconfirmed;
    if wanted.servers != held.servers || is_unsure {
        commands.push(link_command("dns", interface, &wanted.servers, &held.before.servers));
    }
    if wanted.domains != held.domains || is_unsure {
        commands.push(link_command("domain", interface, &wanted.domains, &held.before.domains));
    }
    commands
}

fn link_command(
    what: &str,
    interface: &Interface,
    wanted: &[impl ToString],
    before: &[impl ToString],
) -> ResolverCommand {
    let mut words: Vec<_> = wanted.iter().map(ToString::to_string).collect();
    if words.is_empty() {
        words = before.iter().map(ToString::to_string).collect();
    }
    if words.is_empty() {
        // An empty word means none; without a word resolvectl would only show the setting.
        words.push(String::new());
    }
    let mut arguments = vec![what.to_owned(), interface.to_string()];
    arguments.append(&mut words);
    ResolverCommand {
        program: ResolverProgram::Resolvectl,
        arguments,
    }
}

/// The command that shows a link's settings.
#[must_use]
pub(crate) fn link_question(what: &str, interface: &Interface) -> ResolverCommand {
    ResolverCommand {
        program: ResolverProgram::Resolvectl,
        arguments: vec![what.to_owned(), interface.to_string()],
    }
}
