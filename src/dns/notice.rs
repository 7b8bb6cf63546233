//! Notices to NetworkManager's service: by a program of its plugin, which reads its environment.

use super::env::{NmNotice, NmReason, NmService};
use super::error::DnsError;
use super::plan::{ResolverCommand, ResolverProgram};
use super::system::System;

/// Sends the notice.
pub(super) fn send_notice(notice: &NmNotice, system: &System) -> Result<(), DnsError> {
    let environment = environment(notice);
    let variables: Vec<_> = environment
        .iter()
        .map(|(name, value)| (*name, value.as_str()))
        .collect();
    system.run(&command(notice), &variables).map(drop)
}

/// The line that `--dry-run` shows.
pub(super) fn notice_text(notice: &NmNotice) -> String {
    let quoted = |(name, value): &(&str, String)| format!("{name}='{}' ", value.replace('\'', "'\\''"));
    let variables: String = environment(notice).iter().map(quoted).collect();
    format!("{variables}{}", command(notice))
}

fn command(notice: &NmNotice) -> ResolverCommand {
    let program = match notice.service {
        NmService::Libreswan => ResolverProgram::NmLibreswan,
        NmService::Openswan => ResolverProgram::NmOpenswan,
    };
    ResolverCommand {
        program,
        arguments: Vec::new(),
    }
}

/// The variables that the stock scripts export, from the parsed values.
fn environment(notice: &NmNotice) -> Vec<(&'static str, String)> {
    let reason = match notice.reason {
        NmReason::Connect => "connect",
        NmReason::Disconnect => "disconnect",
    };
    let [about, domains, servers] = match notice.service {
        NmService::Libreswan => ["libreswan_reason", "PLUTO_PEER_DOMAIN_INFO", "PLUTO_PEER_DNS_INFO"],
        NmService::Openswan => ["openswan_reason", "PLUTO_CISCO_DOMAIN_INFO", "PLUTO_CISCO_DNS_INFO"],
    };
    let mut variables = vec![
        (about, reason.to_owned()),
        (domains, joined_words(&notice.domains)),
        (servers, joined_words(&notice.servers)),
        ("PLUTO_PEER_BANNER", notice.banner.to_string()),
    ];
    variables.extend(notice.source.map(|address| ("PLUTO_MY_SOURCEIP", address.to_string())));
    variables.extend(notice.peer.map(|address| ("PLUTO_PEER", address.to_string())));
    variables
}

fn joined_words(items: &[impl ToString]) -> String {
    items.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}
