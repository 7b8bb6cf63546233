//! Traces a packet through this program's rules: those of the record, not of the kernel.
//!
//! Not everything about a packet need be known. Where a rule matches an unknown property, both
//! answers are followed, and each resulting trace lists its assumptions. Nor is the order known in
//! which some rules were installed; where that decides, the outcome in another order is traced too.

mod doubt;
mod order;
mod packet;
mod packet_trace;
mod walk;

pub use doubt::{Assumption, Doubt};
pub use packet::{ConnectionDirection, Endpoint, Packet, PacketCtState, seen_from_destination};
pub use packet_trace::{HookTrace, RulesetModel, Trace};
pub(crate) use walk::DecidingRule;
pub use walk::{RuleOrder, Walk, WalkEnd};
