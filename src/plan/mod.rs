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
//! An unencrypted packet fails two tests and returns. A dispatch bucket holds the tunnels of at most 64 networks, so that neither a packet
//! nor a change meets a chain that grows with the number of tunnels. Packets that no rule of ours decides return to the built-in chain,
//! where the administrator's rules decide. Our chains drop only what a setting forbids: the traffic that `allow` and `host-access`
//! do not name, unencrypted traffic by `when-down = "block"`, and what `[gateway]` refuses.
//!
//! A packet that comes out of one tunnel and goes into another passes only if both allow it. That is why a tunnel's `FI`
//! chain does not accept but sends on to `PLUTO-ONWARD`, and why the way into `PLUTO-FI` is a goto: what the first tunnel does
//! not allow never reaches the second one's rules.

mod allowance;
mod change;
mod check;
mod drift;
mod gateway;
mod guard;
mod identity;
mod layout;
mod mend;
mod nat;
mod path;
mod piece;
mod rebuild;
mod routing;
mod shared;
mod stages;
mod trace;
mod tree;
mod tunnel;
mod wanted;

pub use change::{Change, transition};
pub use check::{Fault, faults};
pub use drift::{Drift, DriftKind, Question, drift, questions};
pub use gateway::lay_out_gateway;
pub use guard::{can_be_apart, lay_out_guard};
pub use identity::{TunnelId, TunnelKey, are_alike};
pub use layout::Layout;
pub use mend::mend;
pub use path::Path;
pub use piece::Piece;
pub use rebuild::{give_up_entrances, holds, move_jumps, rebuild};
pub use routing::{Fact, Facts, RouteOptions, RoutingKey, Standing};
pub use routing::{address_slot, device_slot, items, needed, rank, slot};
pub use shared::Site;
pub use stages::in_stages;
pub use trace::{
    Assumption, Connection, ConnectionDirection, Deciding, Doubt, End, Journey, Leg, Order, Packet, Rules, Station,
    Walk, from_its_destination,
};
pub use tree::{BLOCK_BITS, Block, Node, Shared};
pub use tunnel::{Exempting, Passes, PolicyError, Terms, Way, lay_out, lay_out_peer, ways};
pub use wanted::{Wanted, WantedChain};
