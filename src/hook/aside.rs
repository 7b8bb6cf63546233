//! What is done beside the firewall's work and never makes a call fail: the resolver.

use std::time::Instant;

use log::warn;

use super::RESOLVER_PATIENCE;
use crate::cli::Options;
use crate::contract::ResolverDuty;
use crate::record::{Daemon, Store};
use crate::resolver::{self, System, Trouble};

/// What a call asks of the resolver.
#[derive(Debug, Clone, Copy)]
pub(super) struct Aside<'a> {
    pub(super) duty: Option<&'a ResolverDuty>,
    pub(super) options: &'a Options,
}

impl Aside<'_> {
    /// Takes back what dead daemons and dead calls left.
    pub(super) fn housekeep(self, store: &Store) {
        tell(&resolver::housekeep(store, &self.system()));
    }

    /// Does what this call asks: at `up` for a tunnel that is open, at `down` in any case.
    pub(super) fn carry_out<R, E>(self, store: &Store, daemon: Option<Daemon>, firewall: &Result<R, E>) {
        let Some(duty) = self.duty else { return };
        if firewall.is_ok() || duty.gives_back() {
            tell(&resolver::carry_out(duty, store, &self.system(), daemon));
        }
    }

    /// What it would do.
    pub(super) fn preview(self, store: &Store) -> String {
        self.duty
            .map_or_else(String::new, |duty| resolver::preview(duty, store, &self.system()))
    }

    /// The machine, from now on for a bounded time.
    fn system(self) -> System {
        System {
            root: self.options.root.clone(),
            programs: self.options.programs.clone(),
            deadline: Instant::now() + RESOLVER_PATIENCE,
        }
    }
}

fn tell(troubles: &[Trouble]) {
    for trouble in troubles {
        warn!("{trouble}");
    }
}
