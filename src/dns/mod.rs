//! The resolver: a peer's name servers are taken into use as long as its tunnel is up, as
//! libreswan's and Openswan's stock scripts do it for clients of the config mode.
//!
//! The users of name servers are [recorded](ResolverRecord). The desired state of
//! `resolv.conf`, unbound and systemd-resolved follows from them ([`plan`], [`merge_users`]; both
//! pure), and every change goes from the recorded state to the desired one. So users can be added
//! and removed in any order, a call that died is completed by doing the same again, and after the
//! last user everything is as before the first.
//!
//! Unconfirmed changes stay recorded, and every later call tries them again. All of this is done
//! after the firewall's changes and without their lock: a program that hangs costs time, but delays
//! no tunnel's rules.
//!
//! Nothing of this is worth refusing a tunnel for, as in the stock scripts: what goes wrong is a
//! line in the log.

mod apply;
mod domain;
mod env;
mod error;
mod notice;
pub(crate) mod plan;
mod preview;
mod record;
mod report;
pub(crate) mod resolv_conf_file;
mod resolvconf;
mod system;
#[cfg(test)]
mod tests;

pub(crate) use apply::{add_request, give_back_all, needs_attention, notify, work_on_requests};
pub(crate) use domain::Domain;
pub(crate) use env::ResolverAction;
pub(crate) use env::read_resolver;
#[cfg(test)]
pub(crate) use env::{DnsConfig, DnsMeans, DnsRequest, NmReason, NmService};
pub(crate) use error::DnsError;
pub use plan::DnsNames;
pub(crate) use preview::{preview, preview_give_back_all};
pub use record::ResolverRecord;
pub(crate) use record::{NameServerMeans, NameUser};
pub(crate) use report::report;
pub use resolvconf::{Author, author, merge_users};
pub(crate) use system::System;
