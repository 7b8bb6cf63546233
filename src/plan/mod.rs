//! What a change does to the firewall, decided: pure functions from tunnels and records to commands.
//!
//! # The chains
//!
//! Four paths lead through a gateway's filter table, and each has a dispatcher of its own ([`Path`]); two more lead through its nat table,
//! which has chains of ours only while a tunnel needs them:
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
//! A packet in clear text fails two tests and is through. A block chain holds the tunnels of at most 64 networks, so that
//! neither a packet nor a change ever meets a chain that grows with the number of tunnels. Whatever no rule of ours accepts
//! falls back into the built-in chain, where the administrator's rules decide: these chains accept, they never drop.
//!
//! A packet that comes out of one tunnel and goes into another passes only if both allow it. That is why a tunnel's `FI`
//! chain does not accept but sends on to `PLUTO-ONWARD`, and why the way into `PLUTO-FI` is a goto: what the first tunnel does
//! not allow never reaches the second one's rules.

mod filter_rules;
mod change;
mod check;
mod drift;
mod gateway;
mod clear_text_block;
mod identity;
mod tunnel_rules;
mod reconcile;
mod nat;
mod packet_path;
mod chain_fragment;
mod rebuild;
mod routing;
mod base_chains;
mod stages;
mod trace;
mod dispatch;
mod tunnel;
mod desired_state;

pub use change::{RulesetChange, transition};
pub use check::{PlanFault, plan_faults};
pub use drift::{Drift, DriftKind, RuleProbe, detect_drift, rule_probes};
pub use gateway::gateway_rules;
pub use clear_text_block::{can_block_clear_text, clear_text_block};
pub use identity::{TunnelId, TunnelKey};
pub use tunnel_rules::TunnelRules;
pub use reconcile::reconcile;
pub use packet_path::PacketPath;
pub use chain_fragment::ChainFragment;
pub use rebuild::{release_base_chains, is_installed, move_jumps, rebuild};
pub use routing::{AlwaysRoute, KernelQuery, KernelAnswers, RouteArguments, RouteOptions, RoutingKey, RecordedRoutes};
pub use routing::{address_key, interface_key, net_objects, kernel_queries, install_order, object_key};
pub use base_chains::JumpConfig;
pub use stages::in_stages;
pub use trace::{
    Assumption, PacketCtState, DecidingRule, Doubt, WalkEnd, Trace, Endpoint, RuleOrder, Packet, RulesetModel, HookTrace, Walk,
    seen_from_destination,
};
pub use dispatch::{BUCKET_BITS, DispatchBucket, SharedChains, OptionalChains};
pub use tunnel::{NatExemption, AllowedTraffic, PolicyError, PolicyContext, FilterPath, tunnel_rules, esp_peer_rules, filter_paths};
pub use desired_state::{DesiredState, DesiredChain};
