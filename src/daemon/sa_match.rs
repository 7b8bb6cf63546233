//! The match on a tunnel's packets: an IPsec policy or an interface.
//!
//! A mistake here would open the firewall for unencrypted packets: those of an interface that is no
//! tunnel's.

#[cfg(test)]
mod tests;

use super::call::SaMatch;
use super::env_reader::{EnvReader, missing, unexpected};
use super::error::EnvError;
use super::kind::Daemon;
use super::tunnel::Phase;
use crate::net::{Interface, SaProtocol};

/// The first number that Pluto gives out itself, in steps of four; those below are the
/// administrator's (`reqid=`).
const FIRST_AUTOMATIC_REQID: u32 = 16384;

/// What a reqid is, for errors.
const REQID: &str = "a reqid, a number above 0";

/// Reads what matches a tunnel's packets.
pub(crate) fn read_sa_match(env: EnvReader<'_>, daemon: Daemon, phase: Phase) -> Result<SaMatch, EnvError> {
    match daemon {
        Daemon::StrongSwan => strongswan(env, phase),
        Daemon::Libreswan(_) => libreswan(env, phase),
        Daemon::Openswan => openswan(env),
        Daemon::FreesWan => klips(env, "PLUTO_INTERFACE"),
    }
}

fn strongswan(env: EnvReader<'_>, phase: Phase) -> Result<SaMatch, EnvError> {
    let protocol = match env.required_text("PLUTO_PROTO")? {
        "esp" => SaProtocol::Esp,
        "ah" => SaProtocol::Ah,
        other => return Err(unexpected("PLUTO_PROTO", other, "esp or ah")),
    };
    let reqid = reqid(env, "PLUTO_REQID", phase)?;
    Ok(SaMatch::Policy {
        protocol: Some(protocol),
        reqid,
    })
}

fn libreswan(env: EnvReader<'_>, phase: Phase) -> Result<SaMatch, EnvError> {
    if let Some(interface) = env.parsed_value("VTI_IFACE")? {
        return Ok(SaMatch::Interface(interface));
    }
    match env.text_value("PLUTO_XFRMI_ROUTE")? {
        Some("yes") => return env.required_value("PLUTO_VIRT_INTERFACE").map(SaMatch::Interface),
        Some(other) => return Err(unexpected("PLUTO_XFRMI_ROUTE", other, "yes or nothing")),
        None => {}
    }
    if let Some(interface) = libreswan_klips(env)? {
        return Ok(interface);
    }
    libreswan_policy(env, phase)
}

/// The interface of KLIPS under libreswan 3.x; `None` if packets are matched by their policy.
pub(crate) fn libreswan_klips(env: EnvReader<'_>) -> Result<Option<SaMatch>, EnvError> {
    let virtual_device = env.word_value("PLUTO_VIRT_INTERFACE")?;
    if let Some("klips" | "mast") = env.text_value("PLUTO_STACK")? {
        // The first variable has the KLIPS interface up to 3.31, the other one in 3.32.
        let variable = virtual_device.map_or("PLUTO_INTERFACE", |_| "PLUTO_VIRT_INTERFACE");
        return klips(env, variable).map(Some);
    }
    if let Some(interface) = virtual_device {
        // 3.32 to 4.3 set the outer interface here when there is no ipsec-interface: unencrypted
        // packets use that one too.
        let outer = env.word_value("PLUTO_INTERFACE")?.ok_or(missing("PLUTO_INTERFACE"))?;
        if interface != outer {
            return Err(missing("PLUTO_XFRMI_ROUTE"));
        }
    }
    Ok(None)
}

/// What matches the packets of Openswan's and FreeS/WAN's tunnels, at any verb; nothing for the
/// other daemons.
pub(crate) fn without_reqid(env: EnvReader<'_>, daemon: Daemon) -> Result<Option<SaMatch>, EnvError> {
    match daemon {
        Daemon::StrongSwan | Daemon::Libreswan(_) => Ok(None),
        Daemon::Openswan => openswan(env).map(Some),
        Daemon::FreesWan => klips(env, "PLUTO_INTERFACE").map(Some),
    }
}

/// libreswan 4.x passes the base of the connection's reqids, 5.x the one in use. The kernel has
/// base, base + 1 and base + 2 for AH, ESP and IPComp where libreswan chose the base, which is a
/// multiple of four, and no real number of ESP's or IPComp's is.
fn libreswan_policy(env: EnvReader<'_>, phase: Phase) -> Result<SaMatch, EnvError> {
    let protocol = match env.required_text("PLUTO_SA_TYPE")? {
        "ESP" => Some(SaProtocol::Esp),
        "AH" => Some(SaProtocol::Ah),
        "IPCOMP" => Some(SaProtocol::Ipcomp),
        "none" | "unknown?" => None,
        other => return Err(unexpected("PLUTO_SA_TYPE", other, "ESP, AH, IPCOMP, none or unknown?")),
    };
    let step = match protocol {
        None | Some(SaProtocol::Ah) => 0,
        Some(SaProtocol::Esp) => 1,
        Some(SaProtocol::Ipcomp) => 2,
    };
    let is_base = |number: u32| number >= FIRST_AUTOMATIC_REQID && number.is_multiple_of(4);
    let number = reqid(env, "PLUTO_SA_REQID", phase)?;
    let reqid = number.map(|number| if is_base(number) { number + step } else { number });
    Ok(SaMatch::Policy { protocol, reqid })
}

fn openswan(env: EnvReader<'_>) -> Result<SaMatch, EnvError> {
    match env.required_text("PLUTO_STACK")? {
        "klips" | "mast" => klips(env, "PLUTO_INTERFACE"),
        "netkey" | "bsdkame" => Ok(SaMatch::Policy {
            protocol: None,
            reqid: None,
        }),
        other => Err(unexpected("PLUTO_STACK", other, "klips, mast, netkey or bsdkame")),
    }
}

/// KLIPS' interface for the tunnels. Any other interface may have unencrypted packets.
fn klips(env: EnvReader<'_>, variable: &'static str) -> Result<SaMatch, EnvError> {
    let interface: Interface = env.required_value(variable)?;
    let number = ["ipsec", "mast"]
        .iter()
        .find_map(|stem| interface.as_str().strip_prefix(stem));
    match number {
        Some(number) if !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()) => {
            Ok(SaMatch::Interface(interface))
        }
        Some(_) | None => Err(unexpected(
            variable,
            interface.as_str(),
            "a KLIPS interface, such as ipsec0 or mast0",
        )),
    }
}

/// A reqid that must be there. Zero is none: at `up` nothing could be opened by it, at `down` it
/// does not matter any more.
fn reqid(env: EnvReader<'_>, variable: &'static str, phase: Phase) -> Result<Option<u32>, EnvError> {
    let number: u32 = env.required_number(variable, REQID)?;
    match (number, phase) {
        (0, Phase::Opening) => Err(unexpected(variable, env.required_text(variable)?, REQID)),
        (0, Phase::Closing) => Ok(None),
        (number, Phase::Opening | Phase::Closing) => Ok(Some(number)),
    }
}
