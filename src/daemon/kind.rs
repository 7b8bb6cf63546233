//! Which daemon called. The daemons share names of variables but not their meaning, so this is
//! decided before anything else is read.

#[cfg(test)]
mod tests;

use std::fmt;

use super::env_reader::{EnvReader, missing, unexpected};
use super::error::EnvError;

/// The daemon that called, as far as its calls differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Daemon {
    /// charon, strongSwan 5 and 6.
    StrongSwan,
    /// Pluto of libreswan.
    Libreswan(Libreswan),
    /// Pluto of Openswan 2.6 and 3.0; also libreswan before 3.6, which sends the same.
    Openswan,
    /// Pluto of FreeS/WAN and of Openswan 2.0 to 2.4.
    FreesWan,
}

/// The series of libreswan, as far as their calls differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Libreswan {
    /// 3.6 to 4.15. `PLUTO_SA_REQID` is the base of the connection's numbers.
    V4,
    /// 5.0 to 5.3. They set `PLUTO_CLIENT_FAMILY`.
    V5,
    /// 5.4 and later. They set `PLUTO_DNS_RESOLVER`, and can call asynchronously.
    V54,
}

impl fmt::Display for Daemon {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::StrongSwan => "strongSwan",
            Self::Libreswan(Libreswan::V4) => "libreswan 3 or 4",
            Self::Libreswan(Libreswan::V5) => "libreswan 5.0 to 5.3",
            Self::Libreswan(Libreswan::V54) => "libreswan 5.4 or later",
            Self::Openswan => "Openswan",
            Self::FreesWan => "FreeS/WAN",
        })
    }
}

/// What strongSwan alone sets: every call has all of them (`PLUTO_PROTO` since 5.1.2).
const STRONGSWAN: [&str; 3] = ["PLUTO_UNIQUEID", "PLUTO_REQID", "PLUTO_PROTO"];

/// What libreswan sets and Openswan does not. The first is in every call since 3.8; the others came
/// between 3.10 and 5.4.
const LIBRESWAN: [&str; 7] = [
    "PLUTO_SA_REQID",
    "PLUTO_SA_TYPE",
    "SPI_IN",
    "SPI_OUT",
    "VTI_IFACE",
    "PLUTO_CLIENT_FAMILY",
    "PLUTO_DNS_RESOLVER",
];

/// What every Pluto but FreeS/WAN's sets.
const STACK: &str = "PLUTO_STACK";

/// The version of the interface: 1.1 in FreeS/WAN and strongSwan, 2.0 in Openswan and libreswan up
/// to 4.3, none since.
const VERSION: &str = "PLUTO_VERSION";

/// Detects the daemon by the variables that are set.
///
/// No variable decides alone, so that a call that lacks one is still taken for what it is, or
/// refused: taken for Openswan's, a call of libreswan would open a tunnel for the packets of every
/// other one.
pub(crate) fn detect(env: EnvReader<'_>) -> Result<Daemon, EnvError> {
    let libreswan = first_set(env, &LIBRESWAN);
    let pluto = libreswan.or(first_set(env, &[STACK]));
    match (first_set(env, &STRONGSWAN), pluto) {
        // Most likely a hook that was started by hand from within another daemon's hook.
        (Some(charons), Some(plutos)) => Err(env.contradiction(charons, plutos, "the variables of one daemon")),
        (Some(_), None) => strongswan(env),
        (None, Some(_)) if libreswan.is_some() => libreswan_series(env),
        (None, Some(_)) => openswan(env),
        (None, None) => freeswan(env),
    }
}

fn strongswan(env: EnvReader<'_>) -> Result<Daemon, EnvError> {
    match env.text_value(VERSION)? {
        None | Some("1.1") => Ok(Daemon::StrongSwan),
        Some(other) => Err(unexpected(VERSION, other, "1.1, as strongSwan has it")),
    }
}

fn libreswan_series(env: EnvReader<'_>) -> Result<Daemon, EnvError> {
    match env.text_value(VERSION)? {
        None | Some("2.0") => Ok(Daemon::Libreswan(series_from_env(env))),
        Some(other) => Err(unexpected(VERSION, other, "2.0 or none, as libreswan has it")),
    }
}

fn openswan(env: EnvReader<'_>) -> Result<Daemon, EnvError> {
    match env.required_text(VERSION)? {
        "2.0" => Ok(Daemon::Openswan),
        other => Err(unexpected(VERSION, other, "2.0, as Openswan has it")),
    }
}

fn freeswan(env: EnvReader<'_>) -> Result<Daemon, EnvError> {
    match env.text_value(VERSION)? {
        Some("1.1") => Ok(Daemon::FreesWan),
        // Openswan, but it has lost its PLUTO_STACK.
        Some("2.0") => Err(missing(STACK)),
        Some(other) => Err(unexpected(VERSION, other, "1.1 or 2.0")),
        None => Err(EnvError::NoDaemon),
    }
}

fn series_from_env(env: EnvReader<'_>) -> Libreswan {
    if env.is_set("PLUTO_DNS_RESOLVER") {
        Libreswan::V54
    } else if env.is_set("PLUTO_CLIENT_FAMILY") {
        Libreswan::V5
    } else {
        Libreswan::V4
    }
}

fn first_set(env: EnvReader<'_>, names: &[&'static str]) -> Option<&'static str> {
    names.iter().copied().find(|name| env.is_set(name))
}
