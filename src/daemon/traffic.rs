//! Reads the protocol and port variables into [`Traffic`].
//!
//! The daemons agree on the names and on `0` for "any" only. Pluto gives one number at each end and
//! packs type and code of ICMP into it; charon gives ranges, and type and code of ICMP in the place
//! of our and the peer's port.

#[cfg(test)]
mod tests;

use std::num::NonZeroU8;

use super::env_reader::{EnvReader, decimal, unexpected};
use super::error::EnvError;
use super::kind::Daemon;
use crate::net::{Family, Icmp, PortProtocol, Ports, Protocol, Traffic};

const MY_PROTOCOL: &str = "PLUTO_MY_PROTOCOL";
const PEER_PROTOCOL: &str = "PLUTO_PEER_PROTOCOL";
const MY_PORT: &str = "PLUTO_MY_PORT";
const PEER_PORT: &str = "PLUTO_PEER_PORT";

/// Reads the traffic selector's protocol and ports, for networks of a family.
pub(super) fn read_traffic(env: EnvReader<'_>, daemon: Daemon, family: Family) -> Result<Traffic, EnvError> {
    let all = [MY_PROTOCOL, PEER_PROTOCOL, MY_PORT, PEER_PORT];
    if daemon == Daemon::FreesWan && !all.iter().any(|name| env.is_set(name)) {
        // Ports came to FreeS/WAN with the X.509 patch. Without it there are none of these, and no
        // restriction.
        return Ok(Traffic::Any);
    }
    let Some(protocol) = protocol(env)? else {
        portless(env, "0, because no protocol is given")?;
        return Ok(Traffic::Any);
    };
    if let Some(ported) = PortProtocol::from_number(protocol) {
        let (local, remote) = (ports(env, MY_PORT)?, ports(env, PEER_PORT)?);
        return Ok(match (local, remote) {
            (Ports::Any, Ports::Any) => Traffic::Protocol(protocol),
            (local, remote) => Traffic::Ports {
                protocol: ported,
                local,
                remote,
            },
        });
    }
    if protocol.number() == Protocol::icmp(family) {
        return Ok(icmp(env, daemon)?.map_or(Traffic::Protocol(protocol), Traffic::Icmp));
    }
    // Also the ICMP of the other family: no packet of that kind has types, so a type is a mistake.
    portless(env, "0, because the protocol has no ports in this family")?;
    Ok(Traffic::Protocol(protocol))
}

/// The protocol that both ends agree on. charon says 0 at an end that was not restricted itself,
/// although the pair is.
fn protocol(env: EnvReader<'_>) -> Result<Option<Protocol>, EnvError> {
    const NUMBER: &str = "a protocol, 0 to 255";
    let local: u8 = env.required_number(MY_PROTOCOL, NUMBER)?;
    let remote: u8 = env.required_number(PEER_PROTOCOL, NUMBER)?;
    if local != 0 && remote != 0 && local != remote {
        return Err(env.contradiction(MY_PROTOCOL, PEER_PROTOCOL, "the same protocol, or 0 at one end"));
    }
    Ok(NonZeroU8::new(local.max(remote)).map(Protocol))
}

/// Refuses ports where there can be none.
fn portless(env: EnvReader<'_>, expected: &'static str) -> Result<(), EnvError> {
    for variable in [MY_PORT, PEER_PORT] {
        if ports(env, variable)? != Ports::Any {
            return Err(unexpected(variable, env.required_text(variable)?, expected));
        }
    }
    Ok(())
}

/// The ports at one end: `0`, `80` or `1000:2000`.
///
/// charon writes `65535:0` for OPAQUE (RFC 7296, section 3.13.1), a selector for packets whose
/// ports cannot be seen, as in later fragments. The kernel's policy then asks for port 0, so this
/// is no range that runs backwards and above all not "any".
fn ports(env: EnvReader<'_>, variable: &'static str) -> Result<Ports, EnvError> {
    const OPAQUE: (u16, u16) = (u16::MAX, 0);
    const EVERY: (u16, u16) = (0, u16::MAX);
    let text = env.required_text(variable)?;
    let refused = || unexpected(variable, text, "a port, or a range of ports such as 1000:2000");
    let Some((first, last)) = text.split_once(':') else {
        let port: u16 = decimal(text).ok_or_else(refused)?;
        return Ok(if port == 0 { Ports::Any } else { Ports::single(port) });
    };
    match (decimal(first).ok_or_else(refused)?, decimal(last).ok_or_else(refused)?) {
        OPAQUE => Ok(Ports::single(0)),
        EVERY => Ok(Ports::Any),
        (first, last) if first <= last => Ok(Ports::Range(first..=last)),
        _ => Err(refused()),
    }
}

/// The kind of ICMP message; nothing for all of them.
fn icmp(env: EnvReader<'_>, daemon: Daemon) -> Result<Option<Icmp>, EnvError> {
    let (kind, code) = match daemon {
        Daemon::StrongSwan => split_icmp(env)?,
        Daemon::Libreswan(_) | Daemon::Openswan | Daemon::FreesWan => packed_icmp(env)?,
    };
    // A code of 0 means any code to both, because both give the kernel a mask of 0 for a number
    // that is 0. Type 0 with a code is taken literally, although the kernel's policy then covers
    // that code of every type; type 0 with code 0 (echo reply) cannot be distinguished from no type
    // at all, and the daemons' own policies cover all of ICMP then.
    Ok(match (kind, code) {
        (0, 0) => None,
        // iptables takes type 255 for every type, which would open all of ICMP. charon arrives here
        // with OPAQUE, because it splits 65535 like any other number; a packet whose type cannot be
        // seen cannot be matched by it either.
        (u8::MAX, _) => {
            return Err(unexpected(
                MY_PORT,
                env.required_text(MY_PORT)?,
                "an ICMP type from 0 to 254",
            ));
        }
        (kind, 0) => Some(Icmp::Type(kind)),
        (kind, code) => Some(Icmp::Code(kind, code)),
    })
}

/// charon's encoding: the type as the local port, the code as the remote port.
fn split_icmp(env: EnvReader<'_>) -> Result<(u8, u8), EnvError> {
    let kind = env.required_number(MY_PORT, "an ICMP type, 0 to 255")?;
    let code = env.required_number(PEER_PORT, "an ICMP code, 0 to 255")?;
    Ok((kind, code))
}

/// Pluto's encoding: type * 256 + code, at either end or the same at both.
fn packed_icmp(env: EnvReader<'_>) -> Result<(u8, u8), EnvError> {
    const NUMBER: &str = "an ICMP type times 256 plus a code";
    let local: u16 = env.required_number(MY_PORT, NUMBER)?;
    let remote: u16 = env.required_number(PEER_PORT, NUMBER)?;
    if local != 0 && remote != 0 && local != remote {
        return Err(env.contradiction(MY_PORT, PEER_PORT, "the same kind of ICMP, or 0 at one end"));
    }
    let [kind, code] = local.max(remote).to_be_bytes();
    Ok((kind, code))
}
