//! What a change does to the firewall, decided: pure functions from tunnels and records to
//! commands.
//!
//! # The chains
//!
//! Four paths lead through a gateway's filter table, and each has its own dispatcher
//! ([`PacketPath`]). Two more lead through its nat table, which has chains of this program only
//! while a tunnel needs them:
//!
//! | path | packets | comes from | sorted by |
//! |---|---|---|---|
//! | `I`  | out of a tunnel, to the gateway | INPUT | source |
//! | `O`  | of the gateway, into a tunnel | OUTPUT | destination |
//! | `FI` | out of a tunnel, passing through | FORWARD | source |
//! | `FO` | passing through, into a tunnel | FORWARD | destination |
//! | `NI` | out of a tunnel, to wherever | PREROUTING of nat | source |
//! | `NO` | from wherever, into a tunnel | POSTROUTING of nat | destination |
//!
//! ```text
//! FORWARD ── PLUTO-FORWARD ─┬─ came by IPsec ──────── PLUTO-FI ── PLUTO-FI-10.2.0.0-18 ── PLUTO-net-net-k3f9q2m7-FI ─┐
//!                           └─ will leave by IPsec ── PLUTO-FO ── …                                                  │
//!                                                        ▲                                                           ▼
//!                                                        └──────── will leave by IPsec ─────────────────────── PLUTO-ONWARD ── ACCEPT
//! ```
//!
//! An unencrypted packet fails two tests and returns. A dispatch bucket holds the tunnels of at
//! most 64 networks, so that neither a packet nor a change meets a chain that grows with the number
//! of tunnels. Packets that no rule of this program decides return to the built-in chain, where the
//! administrator's rules decide. This program's chains drop only packets that a setting forbids:
//! the traffic that `allow` and `host-access` do not name, unencrypted traffic by `when-down =
//! "block"`, and what `[gateway]` refuses.
//!
//! A packet that comes out of one tunnel and goes into another passes only if both allow it. That
//! is why a tunnel's `FI` chain does not accept, but jumps to `PLUTO-ONWARD`, and why the jump to
//! `PLUTO-FI` is a goto: packets that the inbound tunnel does not allow never reach the outbound
//! tunnel's rules.

mod base_chains;
mod chain_fragment;
mod change;
mod clear_text_block;
mod desired_state;
mod dispatch;
mod drift;
mod gateway;
mod ordered_change;
mod reconcile;
mod self_check;
mod stages;
mod tunnel;

pub use base_chains::JumpConfig;
pub(crate) use base_chains::base_chain;
pub use chain_fragment::ChainFragment;
pub use change::{RulesetChange, transition};
pub(crate) use clear_text_block::{block_has_no_effect, block_order, can_block_clear_text, clear_text_block};
pub(crate) use desired_state::ChainRegion;
pub use desired_state::DesiredState;
pub(crate) use desired_state::{DesiredChain, RecordScope};
pub use dispatch::{DispatchBucket, Precedence};
pub(crate) use dispatch::{INTERFACES, OptionalChains, SharedChains};
pub use drift::{Drift, detect_drift, rule_probes};
pub(crate) use drift::{DriftKind, DriftRemedy, RuleProbe};
pub(crate) use gateway::{gateway_key, gateway_rules};
pub(crate) use ordered_change::Around;
pub(crate) use reconcile::release_base_chains;
pub use reconcile::{Repair, reconcile};
pub(crate) use self_check::PlanFault;
pub use self_check::plan_faults;
pub(crate) use stages::in_stages;
pub use tunnel::{
    AllowedTraffic, NatExemption, PacketPath, PolicyContext, TunnelKey, TunnelRules, esp_peer_rules, filter_paths,
    tunnel_rules,
};
pub(crate) use tunnel::{
    BucketMember, MissingInterface, PolicyError, TunnelId, TunnelOrder, are_alike, can_move, kept_sources,
    may_have_become,
};
