//! The resolver's part of a call, which never makes the call fail.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use log::warn;

use super::RESOLVER_TIMEOUT;
use crate::apply::Preview;
use crate::cli::Options;
use crate::dns::{self, DnsError, ResolverAction, System};
use crate::state::{DaemonProcess, Store};

/// How long the record's lock is waited for to remove its last folder. Whoever holds it meanwhile
/// may do it as well.
const TIDYING: Duration = Duration::from_secs(1);

/// What a call asks of the resolver.
#[derive(Debug, Clone, Copy)]
pub(super) struct DnsHook<'a> {
    pub(super) action: Option<&'a ResolverAction>,
    pub(super) options: &'a Options,
    pub(super) namespace: u64,
    pub(super) daemon: Option<DaemonProcess>,
}

impl DnsHook<'_> {
    /// Whether something is left to do of what no call has to ask for.
    pub(super) fn needs_attention(self, store: &Store) -> bool {
        dns::needs_attention(store, &self.system())
    }

    /// Writes this call's request: at `up` for a tunnel that is open, at `down` in any case. While
    /// the firewall's lock is held, so that the requests of two calls for one tunnel are in the
    /// order in which they opened and closed it.
    pub(super) fn write_request<R, E>(self, store: &Store, firewall: &Result<R, E>) {
        if let Some(action) = self.action_after(firewall) {
            log_dns_errors(&dns::add_request(action, store, self.daemon));
        }
    }

    /// Executes the requests of this call and of others, after the firewall's lock is released, so
    /// that a program that hangs does not delay any tunnel's rules.
    pub(super) fn carry_out<R, E>(self, store: &Store, firewall: &Result<R, E>) {
        let system = self.system();
        let was_there = store.resolver().is_in_use();
        if was_there {
            log_dns_errors(&dns::work_on_requests(store, &system, &BTreeSet::new()));
        }
        if let Some(action) = self.action_after(firewall) {
            log_dns_errors(dns::notify(action, &system).as_slice());
        }
        if was_there && !store.resolver().is_in_use() {
            self.finish_requests();
        }
    }

    /// What it would do.
    pub(super) fn preview(self, store: &Store, preview: &mut Preview) {
        if let Some(action) = self.action {
            dns::preview(action, store, &self.system(), preview);
        }
    }

    fn action_after<R, E>(&self, firewall: &Result<R, E>) -> Option<&ResolverAction> {
        self.action.filter(|action| firewall.is_ok() || action.gives_back())
    }

    /// With the last user of name servers the rest of the record may go too. Where that fails the
    /// next call does it.
    fn finish_requests(self) {
        let store = Store::open_locked(&self.options.state_dir, self.namespace, Instant::now() + TIDYING);
        let _ = store.and_then(|store| store.remove_unused());
    }

    /// The machine, from now on for a bounded time.
    fn system(self) -> System {
        System {
            root: self.options.root.clone(),
            programs: self.options.programs.clone(),
            deadline: Instant::now() + RESOLVER_TIMEOUT,
        }
    }
}

fn log_dns_errors(errors: &[DnsError]) {
    for error in errors {
        warn!("{error}");
    }
}
