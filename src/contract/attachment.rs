//! By what the packets of a tunnel are known: an IPsec policy or a device.
//!
//! This is where a mistake would open the firewall for clear text: a device that is none of IPsec's carries it.

use super::dialect::Dialect;
use super::error::ContractError;
use super::event::{Attachment, SaProtocol};
use super::tunnel::Moment;
use super::values::{Values, missing, unexpected};
use crate::selector::Device;

/// The first number that Pluto gives out itself, in steps of four; those below are the administrator's (`reqid=`).
const FIRST_AUTOMATIC_REQID: u32 = 16384;

/// What a reqid is, for errors.
const REQID: &str = "a reqid, a number above 0";

/// Reads by what a tunnel's packets are known.
pub(super) fn read(values: Values<'_>, dialect: Dialect, moment: Moment) -> Result<Attachment, ContractError> {
    match dialect {
        Dialect::StrongSwan => strongswan(values, moment),
        Dialect::Libreswan(_) => libreswan(values, moment),
        Dialect::Openswan => openswan(values),
        Dialect::FreesWan => klips(values, "PLUTO_INTERFACE"),
    }
}

fn strongswan(values: Values<'_>, moment: Moment) -> Result<Attachment, ContractError> {
    let protocol = match values.required("PLUTO_PROTO")? {
        "esp" => SaProtocol::Esp,
        "ah" => SaProtocol::Ah,
        other => return Err(unexpected("PLUTO_PROTO", other, "esp or ah")),
    };
    let reqid = reqid(values, "PLUTO_REQID", moment)?;
    Ok(Attachment::Policy {
        protocol: Some(protocol),
        reqid,
    })
}

fn libreswan(values: Values<'_>, moment: Moment) -> Result<Attachment, ContractError> {
    if let Some(device) = values.place("VTI_IFACE")? {
        return Ok(Attachment::Device(device));
    }
    match values.text("PLUTO_XFRMI_ROUTE")? {
        Some("yes") => return values.required_place("PLUTO_VIRT_INTERFACE").map(Attachment::Device),
        Some(other) => return Err(unexpected("PLUTO_XFRMI_ROUTE", other, "yes or nothing")),
        None => {}
    }
    if let Some(device) = libreswan_device(values)? {
        return Ok(device);
    }
    libreswan_policy(values, moment)
}

/// The device of KLIPS under libreswan 3.x; nothing where packets are known by their policy.
pub(super) fn libreswan_device(values: Values<'_>) -> Result<Option<Attachment>, ContractError> {
    let virtual_device = values.word("PLUTO_VIRT_INTERFACE")?;
    if let Some("klips" | "mast") = values.text("PLUTO_STACK")? {
        // The KLIPS device is told by the one up to 3.31 and by the other in 3.32.
        let variable = virtual_device.map_or("PLUTO_INTERFACE", |_| "PLUTO_VIRT_INTERFACE");
        return klips(values, variable).map(Some);
    }
    if let Some(device) = virtual_device {
        // 3.32 to 4.3 give the outer device here when there is no ipsec-interface: the one that carries clear text too.
        let outer = values.word("PLUTO_INTERFACE")?.ok_or(missing("PLUTO_INTERFACE"))?;
        if device != outer {
            return Err(missing("PLUTO_XFRMI_ROUTE"));
        }
    }
    Ok(None)
}

/// By what Openswan's and FreeS/WAN's tunnels are known, at any verb; nothing for the other daemons.
pub(super) fn older(values: Values<'_>, dialect: Dialect) -> Result<Option<Attachment>, ContractError> {
    match dialect {
        Dialect::StrongSwan | Dialect::Libreswan(_) => Ok(None),
        Dialect::Openswan => openswan(values).map(Some),
        Dialect::FreesWan => klips(values, "PLUTO_INTERFACE").map(Some),
    }
}

/// libreswan 4.x tells the base of the connection's reqids, 5.x the one in use. The kernel holds base, base + 1 and base + 2 for AH, ESP
/// and IPComp where libreswan chose the base, which is a multiple of four, and no real number of ESP's or IPComp's is.
fn libreswan_policy(values: Values<'_>, moment: Moment) -> Result<Attachment, ContractError> {
    let protocol = match values.required("PLUTO_SA_TYPE")? {
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
    let number = reqid(values, "PLUTO_SA_REQID", moment)?;
    let reqid = number.map(|number| if is_base(number) { number + step } else { number });
    Ok(Attachment::Policy { protocol, reqid })
}

fn openswan(values: Values<'_>) -> Result<Attachment, ContractError> {
    match values.required("PLUTO_STACK")? {
        "klips" | "mast" => klips(values, "PLUTO_INTERFACE"),
        "netkey" | "bsdkame" => Ok(Attachment::Policy {
            protocol: None,
            reqid: None,
        }),
        other => Err(unexpected("PLUTO_STACK", other, "klips, mast, netkey or bsdkame")),
    }
}

/// KLIPS' device for the tunnels. Anything else would be a device that carries clear text.
fn klips(values: Values<'_>, variable: &'static str) -> Result<Attachment, ContractError> {
    let device: Device = values.required_place(variable)?;
    let number = ["ipsec", "mast"]
        .iter()
        .find_map(|stem| device.as_str().strip_prefix(stem));
    match number {
        Some(number) if !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()) => {
            Ok(Attachment::Device(device))
        }
        Some(_) | None => Err(unexpected(
            variable,
            device.as_str(),
            "a device of KLIPS, such as ipsec0 or mast0",
        )),
    }
}

/// A reqid that must be there. Zero is none: at `up` nothing could be opened by it, at `down` it does not matter any more.
fn reqid(values: Values<'_>, variable: &'static str, moment: Moment) -> Result<Option<u32>, ContractError> {
    let number: u32 = values.required_number(variable, REQID)?;
    match (number, moment) {
        (0, Moment::Opening) => Err(unexpected(variable, values.required(variable)?, REQID)),
        (0, Moment::Closing) => Ok(None),
        (number, Moment::Opening | Moment::Closing) => Ok(Some(number)),
    }
}

#[cfg(test)]
mod tests;
