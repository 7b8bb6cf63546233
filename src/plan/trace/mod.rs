//! What our rules do to a packet, as far as they are known: from the record, not from the kernel.
//!
//! Not everything about a packet need be known. Where a rule asks for what is not, both answers are
//! followed, and every way that comes of it says which answers it took for granted. Nor is it known
//! in which order tunnels came up; where that decides, what it comes to in another order is told,
//! too.

mod doubt;
mod order;
mod packet;
mod packet_trace;
mod walk;

pub use doubt::{Assumption, Doubt};
pub use packet::{ConnectionDirection, Endpoint, Packet, PacketCtState, seen_from_destination};
pub use packet_trace::{HookTrace, RulesetModel, Trace};
pub use walk::{DecidingRule, RuleOrder, Walk, WalkEnd};
