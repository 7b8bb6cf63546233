//! The resolver: a peer's name servers are taken into use as long as its tunnel is up, as
//! libreswan's and Openswan's stock scripts do it for clients of the config mode.
//!
//! Who uses which name servers is on [record](crate::record::ResolverRecord). What `resolv.conf`,
//! unbound and systemd-resolved should say follows from that ([`plan`], [`merge`]; both pure), and
//! every change brings them from what they were told to what they should say. So users can come and
//! go in any order, a call that died is made up for by doing the same again, and with the last user
//! everything is as it was before the first one.
//!
//! What a program did not confirm stays on record, and every later call tries it again. All of it
//! is done after the firewall's work and without its lock: a program that hangs costs time, and no
//! tunnel its rules.
//!
//! Nothing of this is worth refusing a tunnel for, as in the stock scripts: what goes wrong is a
//! line in the log.

mod engine;
mod error;
mod notice;
pub mod plan;
mod preview;
mod report;
pub mod resolv_conf_file;
mod resolvconf;
mod system;

pub use engine::{add_request, give_back_all, needs_attention, notify, work_on_requests};
pub use error::DnsError;
pub use plan::{DnsNames, ResolverCommand, ResolverProgram};
pub use preview::preview;
pub use report::report;
pub use resolvconf::{Author, Content, author, content, merge_users, without_ours};
pub use system::System;

#[cfg(test)]
mod tests;
