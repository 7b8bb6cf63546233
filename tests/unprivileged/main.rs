//! What can be tested without root: the library, against an emulated kernel, and the program, with stand-ins for iptables.

#[path = "../support/mod.rs"]
mod support;

mod again;
mod blocked_pairs;
mod comments;
mod declared;
mod downs;
mod emptied;
mod emulator;
mod explained;
mod folders;
mod fuzzed;
mod hook;
mod hub_and_spoke;
mod in_parts;
mod lost_records;
mod missing_interface;
mod missing_modules;
mod names;
mod one_order;
mod openers;
mod properties;
mod restore;
mod routing_sequences;
mod sequences;
mod settings;
mod shell;
mod switched;
mod translated_and_logged;
mod two_tunnels;
mod verdicts;
mod what_may_flow;
