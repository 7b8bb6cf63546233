//! The record, prepared for queries.

use std::net::IpAddr;
use std::path::PathBuf;
use std::{fmt, io};

use super::kernel_view::KernelView;
use crate::apply::{Comparison, Engine};
use crate::commands::command_context::{Calls, CommandContext, rulesets};
use crate::commands::no_record::LostRecord;
use crate::firewall::{DesiredState, TunnelRules};
use crate::net::Family;
use crate::netfilter::{BuiltIn, Ruleset};
use crate::netlink::{self, Lookup, NetConfig as _, RouteKind};
use crate::settings::{JumpPlace, SettingsSource};
use crate::state::{ClearTextBlockRecord, GatewayRecord, Installed, Record, Store, TunnelRecord};
use crate::trace::{DecidingRule, Packet, RulesetModel, Trace};
use crate::updown::HookError;
use crate::words::one_line;

/// All records, and the time.
#[derive(Debug)]
pub(super) struct RecordView {
    /// Now, in seconds since 1970 (UTC).
    pub(super) now: u64,
    /// How wide a line is, in characters.
    pub(super) width: usize,
    /// The rulesets that can be listed, and those that have records.
    pub(super) rulesets: Vec<RulesetView>,
    /// The settings file as it is now, or what is wrong with it.
    pub(super) settings: Result<SettingsSource, String>,
    /// Below which folder the record is.
    state_dir: PathBuf,
}

/// One ruleset.
#[derive(Debug)]
pub(super) struct RulesetView {
    pub(super) ruleset: Ruleset,
    /// How wide a line is, in characters.
    pub(super) width: usize,
    /// What holds for all its rules.
    installed: Installed,
    /// What the kernel holds of it.
    pub(super) kernel: KernelView,
    records: Vec<Record>,
    desired: DesiredState,
}

impl RecordView {
    /// Reads the record and compares it with the kernel's listing.
    pub(super) fn gather_records(command: &CommandContext<'_>, width: usize) -> Result<Self, HookError> {
        let store = command.peek();
        if !store.is_readable() {
            return Err(HookError::Surroundings {
                what: "the record (only root can read it)",
                error: io::ErrorKind::PermissionDenied.into(),
            });
        }
        let look = || Self::look_once(command, &store, width);
        command.look_undisturbed(look, |view, calls| {
            calls == Calls::Quiet || !view.rulesets.iter().any(|ruleset_view| ruleset_view.kernel.differs())
        })
    }

    /// Whether chains of this program are loaded though nothing is recorded, and where the record
    /// should be.
    pub(super) fn lost_record(&self) -> Option<LostRecord> {
        let is_recorded = self.rulesets.iter().any(RulesetView::is_recorded);
        let loaded = self
            .rulesets
            .iter()
            .filter(|ruleset_view| ruleset_view.kernel.differs());
        let rulesets: Vec<_> = loaded.map(|ruleset_view| ruleset_view.ruleset).collect();
        (!is_recorded && !rulesets.is_empty()).then(|| LostRecord::with_rulesets(rulesets.into_iter(), &self.state_dir))
    }

    fn look_once(command: &CommandContext<'_>, store: &Store, width: usize) -> Result<Self, HookError> {
        let mut programs = command.programs(store);
        let known = rulesets(&programs, store)?;
        let mut engine = Engine::new(store, &mut programs, command.context());
        let mut ruleset_views = Vec::new();
        for ruleset in known {
            ruleset_views.push(match engine.compare(ruleset) {
                Ok(comparison) => RulesetView::compared(ruleset, store.installed(ruleset)?, comparison, width),
                Err(error) => RulesetView::without_listing(ruleset, store, &error, width)?,
            });
        }
        let settings = SettingsSource::load(command.options.config.as_deref());
        Ok(Self {
            now: command.now,
            width,
            rulesets: ruleset_views,
            settings: settings.map_err(|error| one_line(&error.to_string())),
            state_dir: command.options.state_dir.clone(),
        })
    }

    /// The rulesets that packets to this address meet.
    pub(super) fn rulesets_for(&self, destination: IpAddr) -> impl Iterator<Item = &RulesetView> {
        let family = Family::of_address(destination);
        self.rulesets
            .iter()
            .filter(move |ruleset_view| ruleset_view.ruleset.family == family)
    }

    /// The ruleset of the same backend for another address.
    pub(super) fn ruleset_beside(&self, beside: Ruleset, address: IpAddr) -> Option<&RulesetView> {
        let family = Family::of_address(address);
        let wanted = Ruleset { family, ..beside };
        self.rulesets.iter().find(|ruleset_view| ruleset_view.ruleset == wanted)
    }
}

impl RulesetView {
    fn compared(ruleset: Ruleset, installed: Installed, comparison: Comparison, width: usize) -> Self {
        let Comparison {
            entries,
            wanted,
            saved,
            drifts,
            ..
        } = comparison;
        Self {
            ruleset,
            width,
            installed,
            records: entries,
            desired: wanted,
            kernel: KernelView::Listed { saved, drifts },
        }
    }

    /// By the record alone, where the kernel cannot be asked.
    fn without_listing(
        ruleset: Ruleset,
        store: &Store,
        error: &dyn fmt::Display,
        width: usize,
    ) -> Result<Self, HookError> {
        let (records, installed) = (store.entries(ruleset)?, store.installed(ruleset)?);
        let all_rules: Vec<TunnelRules> = records.iter().map(|record| record.tunnel_rules().clone()).collect();
        Ok(Self {
            ruleset,
            width,
            installed,
            desired: DesiredState::from_rules(&all_rules, installed.jump_config(ruleset)),
            records,
            kernel: KernelView::Unknown(one_line(&error.to_string())),
        })
    }

    /// Whether it has records.
    pub(super) fn is_recorded(&self) -> bool {
        !self.records.is_empty()
    }

    /// Whether its rules are in the layout of an older version of this program. The path of a
    /// packet there is unknown, because the trace models only the present layout.
    pub(super) fn has_older_layout(&self) -> bool {
        self.is_recorded() && self.installed.is_older()
    }

    /// The record that a rule of this program in the filter table belongs to; none for a rule that
    /// all share.
    pub(super) fn owner(&self, rule: &DecidingRule) -> Option<&Record> {
        let mut records = self.records.iter();
        records.find(|record| record.tunnel_rules().contains_rule(&rule.chain, &rule.rule))
    }

    pub(super) fn records(&self) -> &[Record] {
        &self.records
    }

    /// Every possible trace of a packet.
    pub(super) fn traces(&self, packet: Packet) -> Vec<Trace> {
        RulesetModel::new(&self.desired).traces(packet)
    }

    pub(super) fn tunnels(&self) -> impl Iterator<Item = &TunnelRecord> {
        self.records.iter().filter_map(|entry| match entry {
            Record::Tunnel(record) => Some(&**record),
            Record::Gateway(_) | Record::ClearTextBlock(_) | Record::EspPeer(_) => None,
        })
    }

    pub(super) fn clear_text_blocks(&self) -> impl Iterator<Item = &ClearTextBlockRecord> {
        self.records.iter().filter_map(|entry| match entry {
            Record::ClearTextBlock(record) => Some(&**record),
            Record::Gateway(_) | Record::Tunnel(_) | Record::EspPeer(_) => None,
        })
    }

    pub(super) fn gateway(&self) -> Option<&GatewayRecord> {
        self.records.iter().find_map(|entry| match entry {
            Record::Gateway(record) => Some(record),
            Record::Tunnel(_) | Record::ClearTextBlock(_) | Record::EspPeer(_) => None,
        })
    }

    /// The sentence about other rules that come first in a built-in chain.
    pub(super) fn rules_before_jump(&self, built_in: BuiltIn) -> Option<String> {
        let chain = built_in.name();
        match self.installed.place {
            JumpPlace::First => None,
            JumpPlace::Last => Some(format!("your own rules in {chain} come first (place = \"last\")")),
            JumpPlace::Own => Some(format!(
                "where your own rules in {chain} jump to PLUTO chains (place = \"own\")"
            )),
        }
    }
}

/// Whether an address is the gateway's own: by the kernel, or where that cannot be asked by what
/// the tunnels' daemons said.
pub(super) fn is_ours(ruleset_view: Option<&RulesetView>, address: IpAddr) -> bool {
    let asked = netlink::Kernel::open().and_then(|mut kernel| kernel.lookup(address, None));
    let is_local = match asked {
        Ok(Lookup::Found(route)) => route.kind == RouteKind::Local,
        Ok(Lookup::Unreachable(_)) | Err(_) => false,
    };
    let mut tunnels = ruleset_view.into_iter().flat_map(RulesetView::tunnels);
    is_local || tunnels.any(|record| names_address(record, address))
}

/// Whether a daemon called it an address of this machine's.
fn names_address(record: &TunnelRecord, address: IpAddr) -> bool {
    let tunnel = &record.tunnel;
    tunnel.local_host == Some(address) || tunnel.source_addresses.contains(&address)
}
