//! What is on record, ready to be asked.

use std::io;
use std::net::IpAddr;

use super::super::ground::Ground;
use crate::hook::HookError;
use crate::netfilter::{BuiltIn, Ruleset};
use crate::plan::{DesiredState, Packet, RulesetModel, Trace, TunnelRules};
use crate::record::{Entry, GatewayRecord, GuardRecord, Installed, TunnelRecord};
use crate::rtnetlink::{self, Lookup, Network as _, WayKind};
use crate::selector::Family;
use crate::settings::JumpPlace;

/// Everything on record, and the time.
#[derive(Debug)]
pub(super) struct Scene {
    /// Now, in seconds since 1970 (UTC).
    pub(super) now: u64,
    /// The rulesets that something is on record in.
    pub(super) books: Vec<Book>,
}

/// One ruleset.
#[derive(Debug)]
pub(super) struct Book {
    pub(super) ruleset: Ruleset,
    pub(super) place: JumpPlace,
    entries: Vec<Entry>,
    wanted: DesiredState,
}

impl Scene {
    /// Reads the record.
    pub(super) fn look(ground: &Ground<'_>) -> Result<Self, HookError> {
        let store = ground.peek();
        if !store.is_readable() {
            return Err(HookError::Surroundings {
                what: "the record, which only root can read",
                error: io::ErrorKind::PermissionDenied.into(),
            });
        }
        let mut books = Vec::new();
        for ruleset in Ruleset::all() {
            let entries = store.entries(ruleset)?;
            if !entries.is_empty() {
                books.push(Book::of(ruleset, store.installed(ruleset)?, entries));
            }
        }
        Ok(Self { now: ground.now, books })
    }

    /// The ruleset of the same backend for another address.
    pub(super) fn book_for(&self, beside: Ruleset, address: IpAddr) -> Option<&Book> {
        let family = Family::of(address);
        let wanted = Ruleset { family, ..beside };
        self.books.iter().find(|book| book.ruleset == wanted)
    }
}

impl Book {
    pub(super) fn of(ruleset: Ruleset, installed: Installed, entries: Vec<Entry>) -> Self {
        let all_rules: Vec<TunnelRules> = entries.iter().map(|entry| entry.tunnel_rules().clone()).collect();
        Self {
            ruleset,
            place: installed.place,
            entries,
            wanted: DesiredState::from_rules(&all_rules, installed.jump_config(ruleset)),
        }
    }

    /// Every way that a packet can take.
    pub(super) fn journeys(&self, packet: Packet) -> Vec<Trace> {
        RulesetModel::new(&self.wanted).traces(packet)
    }

    pub(super) fn tunnels(&self) -> impl Iterator<Item = &TunnelRecord> {
        self.entries.iter().filter_map(|entry| match entry {
            Entry::Tunnel(record) => Some(&**record),
            Entry::Gateway(_) | Entry::Guard(_) | Entry::Outer(_) => None,
        })
    }

    pub(super) fn guards(&self) -> impl Iterator<Item = &GuardRecord> {
        self.entries.iter().filter_map(|entry| match entry {
            Entry::Guard(record) => Some(&**record),
            Entry::Gateway(_) | Entry::Tunnel(_) | Entry::Outer(_) => None,
        })
    }

    pub(super) fn gateway(&self) -> Option<&GatewayRecord> {
        self.entries.iter().find_map(|entry| match entry {
            Entry::Gateway(record) => Some(record),
            Entry::Tunnel(_) | Entry::Guard(_) | Entry::Outer(_) => None,
        })
    }

    /// Whose rules come first in a built-in chain, where they are not ours.
    pub(super) fn before(&self, built_in: BuiltIn) -> Option<String> {
        let chain = built_in.name();
        match self.place {
            JumpPlace::First => None,
            JumpPlace::Last => Some(format!("your own rules in {chain} come first (place = \"last\")")),
            JumpPlace::Own => Some(format!("where your own rules in {chain} lead to us (place = \"own\")")),
        }
    }
}

/// Whether an address is the gateway's own: by the kernel, or where that cannot be asked by what the tunnels' daemons said.
pub(super) fn is_ours(book: Option<&Book>, address: IpAddr) -> bool {
    let asked = rtnetlink::Kernel::open().and_then(|mut kernel| kernel.lookup(address, None));
    let is_local = match asked {
        Ok(Lookup::Found(way)) => way.kind == WayKind::Local,
        Ok(Lookup::Unreachable(_)) | Err(_) => false,
    };
    let mut tunnels = book.into_iter().flat_map(Book::tunnels);
    is_local || tunnels.any(|record| names(record, address))
}

/// Whether a daemon called it an address of this machine's.
fn names(record: &TunnelRecord, address: IpAddr) -> bool {
    let tunnel = &record.tunnel;
    tunnel.me == Some(address) || tunnel.source_addresses.contains(&address)
}
