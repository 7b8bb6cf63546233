//! What the integration tests share.
//!
//! [`emulator`] stands in for `iptables-restore`, [`packet`] asks what the rules it
//! then holds do to a packet. Both read the text that goes to the command and know
//! nothing of the code that wrote it: that is what makes them a second opinion.
//! [`network`] stands in for the kernel's network configuration.

#![allow(
    unreachable_pub,
    reason = "a module of a test binary is reached by that binary alone"
)]

pub mod binary;
pub mod captures;
pub mod charon;
pub mod emulator;
pub mod figures;
pub mod gateway;
pub mod model;
pub mod namespace;
pub mod network;
pub mod packet;
pub mod pattern;
pub mod property;
pub mod random;
pub mod rule;
pub mod scratch;
pub mod syslog;
pub mod trace;
pub mod tunnel_kind;
pub mod world;
