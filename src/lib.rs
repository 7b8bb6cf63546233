//! pluto-updown opens the firewall for IPsec tunnels.
//!
//! An IKE daemon (libreswan, Openswan, FreeS/WAN, strongSwan) runs it as its `_updown` hook
//! whenever a tunnel comes up or goes down. A call passes through stages:
//!
//! ```text
//! environment ─▶ raw text ─▶ event ─▶ plan ─▶ iptables-restore ─▶ record
//!  (untrusted)              (typed)  (data)   + netlink           (in /run)
//! ```
//!
//! `docs/architecture.md` has the folders in their order, and the decisions with their reasons.

#![cfg_attr(not(test), warn(clippy::unwrap_used, clippy::expect_used))]

pub mod apply;
pub mod cli;
pub mod commands;
pub mod daemon;
pub mod dns;
pub mod firewall;
mod logging;
pub mod net;
pub mod netfilter;
pub mod netlink;
pub mod routing;
pub mod settings;
pub mod state;
mod sys;
pub mod trace;
pub mod updown;
mod words;

#[cfg(test)]
#[path = "../tests/support/property.rs"]
mod property;

use std::ffi::OsString;
use std::io::Write as _;

/// The whole program: a hook call where `PLUTO_VERB` is set, a command otherwise. Returns the exit
/// code: 0 done, 1 failed or a problem found, 2 wrong use or settings, 3 not looked at.
pub fn run(arguments: impl Iterator<Item = OsString>, variables: impl Iterator<Item = (OsString, OsString)>) -> u8 {
    let arguments: Vec<_> = arguments.collect();
    let raw_env = daemon::RawEnv::new(arguments.iter().skip(1).cloned(), variables);
    if raw_env.get("PLUTO_VERB").is_some() {
        return updown::run(&raw_env);
    }
    match cli::parse(arguments) {
        Ok(line) => {
            logging::init(logging::Destination::Stderr);
            commands::run(line, colours(&raw_env))
        }
        Err(error) => {
            let text = cli::one_line_error(&error);
            // Asked for with --help or --version it is what was wanted; otherwise it is an error.
            if error.use_stderr() {
                logging::write_stderr(&text);
                return 2;
            }
            std::io::stdout().write_all(text.as_bytes()).map_or(1, |()| 0)
        }
    }
}

/// What a terminal is to show: no colours where they are not wanted (no-color.org), no escape at
/// all where it knows none.
fn colours(raw_env: &daemon::RawEnv) -> commands::Colours {
    let is_set = raw_env.get("NO_COLOR").is_some_and(|value| !value.is_empty());
    let is_plain = raw_env.get("TERM").is_none_or(|terminal| terminal == "dumb");
    match (is_plain, is_set) {
        (true, _) => commands::Colours::Unknown,
        (false, true) => commands::Colours::Unwanted,
        (false, false) => commands::Colours::Wanted,
    }
}
