//! Who called. The daemons share names of variables but not what they mean, so this comes before anything else is read.

use std::fmt;

use super::error::ContractError;
use super::values::{Values, missing, unexpected};

/// The daemon that called, as far as its calls differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Dialect {
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

impl fmt::Display for Dialect {
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

/// What libreswan sets and Openswan does not. The first is in every call since 3.8; the others came between 3.10 and 5.4.
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

/// The version of the interface: 1.1 in FreeS/WAN and strongSwan, 2.0 in Openswan and libreswan up to 4.3, none since.
const VERSION: &str = "PLUTO_VERSION";

/// Tells who called by what is set.
///
/// No variable decides alone, so that a call that lacks one is still taken for what it is, or refused: taken for Openswan's, a call
/// of libreswan would open a tunnel for the packets of every other one.
pub(super) fn detect(values: Values<'_>) -> Result<Dialect, ContractError> {
    let libreswan = first_set(values, &LIBRESWAN);
    let pluto = libreswan.or(first_set(values, &[STACK]));
    match (first_set(values, &STRONGSWAN), pluto) {
        // Most likely a hook that was started by hand from within another daemon's hook.
        (Some(charons), Some(plutos)) => Err(values.contradiction(charons, plutos, "the variables of one daemon")),
        (Some(_), None) => strongswan(values),
        (None, Some(_)) if libreswan.is_some() => libreswan_series(values),
        (None, Some(_)) => openswan(values),
        (None, None) => freeswan(values),
    }
}

fn strongswan(values: Values<'_>) -> Result<Dialect, ContractError> {
    match values.text(VERSION)? {
        None | Some("1.1") => Ok(Dialect::StrongSwan),
        Some(other) => Err(unexpected(VERSION, other, "1.1, as strongSwan has it")),
    }
}

fn libreswan_series(values: Values<'_>) -> Result<Dialect, ContractError> {
    match values.text(VERSION)? {
        None | Some("2.0") => Ok(Dialect::Libreswan(series(values))),
        Some(other) => Err(unexpected(VERSION, other, "2.0 or none, as libreswan has it")),
    }
}

fn openswan(values: Values<'_>) -> Result<Dialect, ContractError> {
    match values.required(VERSION)? {
        "2.0" => Ok(Dialect::Openswan),
        other => Err(unexpected(VERSION, other, "2.0, as Openswan has it")),
    }
}

fn freeswan(values: Values<'_>) -> Result<Dialect, ContractError> {
    match values.text(VERSION)? {
        Some("1.1") => Ok(Dialect::FreesWan),
        // Openswan, but it has lost its PLUTO_STACK.
        Some("2.0") => Err(missing(STACK)),
        Some(other) => Err(unexpected(VERSION, other, "1.1 or 2.0")),
        None => Err(ContractError::NoDaemon),
    }
}

fn series(values: Values<'_>) -> Libreswan {
    if values.has("PLUTO_DNS_RESOLVER") {
        Libreswan::V54
    } else if values.has("PLUTO_CLIENT_FAMILY") {
        Libreswan::V5
    } else {
        Libreswan::V4
    }
}

fn first_set(values: Values<'_>, names: &[&'static str]) -> Option<&'static str> {
    names.iter().copied().find(|name| values.has(name))
}

#[cfg(test)]
mod tests;
