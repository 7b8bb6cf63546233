//! What a change does to the firewall, decided: pure functions from tunnels and records to
//! commands.
//!
//! # The chains
//!
//! Each path of packets has its own dispatcher ([`PacketPath`]). Those of the nat and mangle tables
//! exist only while a tunnel needs them:
//!
//! | path | packets | comes from | sorted by |
//! |---|---|---|---|
//! | `I`  | out of a tunnel, to the gateway | INPUT | source |
//! | `O`  | of the gateway, into a tunnel | OUTPUT | destination |
//! | `FI` | out of a tunnel, through the gateway | FORWARD | source |
//! | `FO` | through the gateway, into a tunnel | FORWARD | destination |
//! | `RI`, `RF` | not allowed, out of a restricted tunnel | INPUT, FORWARD | source |
//! | `RO` | not allowed, into a tunnel that allows nothing | FORWARD | destination |
//! | `E` | ESP and AH of a peer | INPUT | source |
//! | `BI`, `BO` | unencrypted, between a blocked pair of networks | all three | the remote end |
//! | `NI`, `NO` | out of a tunnel, into a tunnel | nat: PREROUTING, POSTROUTING | the remote end |
//! | `MI`, `MO` | the same, the beginnings of TCP connections | mangle: the same | the remote end |
//!
//! ```text
//! FORWARD ─ PLUTO-FORWARD ─┬ came by IPsec ─▶ PLUTO-DECRYPTED ─┬ PLUTO-FI ─ PLUTO-FI-10.2.0.0-18 ─ PLUTO-net-net-k3f9q2m7-FI ─ PLUTO-ONWARD
//!                          │                                   ├ without the bit ─▶ PLUTO-RF, PLUTO-RO
//!                          │                                   └ with the bit ─▶ PLUTO-FO
//!                          └ will leave by IPsec ─▶ PLUTO-FO ─ PLUTO-FO-10.2.0.0-18 ─ PLUTO-net-net-k3f9q2m7-FO ─ ACCEPT
//! ```
//!
//! An unencrypted packet fails two tests and returns. A dispatch bucket usually holds the tunnels
//! of at most 64 networks, so that neither a packet nor a change meets a chain that grows with the
//! number of tunnels. Packets that no rule of this program decides return to the built-in chain,
//! where the administrator's rules decide. This program's chains drop only packets that a setting
//! forbids: the traffic that `allow` and `host-access` do not name, unencrypted traffic by
//! `when-down = "block"`, and what `[gateway]` refuses.
//!
//! A packet that comes out of one tunnel and goes into another passes only if both allow it. That
//! is why a tunnel's `FI` chain does not accept. It jumps to `PLUTO-ONWARD`, which accepts what
//! leaves unencrypted and sets a bit of the mark of the rest. The rule of `PLUTO-FORWARD` that
//! leads to `PLUTO-DECRYPTED` is a goto: a packet that the inbound tunnel does not allow never
//! reaches the outbound tunnel's rules.

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
