//! Addresses and networks as they are written in the file.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::{IpNet, Ipv4Net};

use super::found::TomlValue;
use super::report::SettingsFault;
use crate::net::Family;

/// What an address or a network is written as, for messages.
pub(super) const FORM: &str = "an address or a network such as \"192.0.2.1\", \"198.51.100.0/24\" or \"2001:db8::/32\"";

/// What a list of them is written as.
pub(super) const LIST: &str = "a list of addresses and networks such as [\"192.0.2.1\", \"198.51.100.0/24\"]";

/// What [`network`] and [`machine`] refuse though it is well formed.
const UNFIT: &str = "addresses of other hosts, not multicast, loopback or unspecified";

/// Whether a text can only be meant as an address, well formed or not, rather than as the name of
/// an interface.
pub(super) fn is_meant(text: &str) -> bool {
    text.contains([':', '/']) || (text.contains('.') && text.starts_with(|c: char| c.is_ascii_digit()))
}

/// An address, or a network with nothing in it below the length of its prefix. `form` is what is
/// expected if it is neither.
pub(super) fn network(found: TomlValue<'_>, form: &str) -> Result<IpNet, SettingsFault> {
    let network = parse_network(found.string_value(form)?).ok_or_else(|| found.refused(form))?;
    if let Some(bare) = unmapped(network) {
        return Err(found.refused(format_args!("\"{}\", in IPv4 notation", network_text(bare))));
    }
    if network.addr() != network.network() {
        let right = network.trunc();
        let address = network.addr();
        return Err(found.refused(format_args!("\"{right}\", or \"{address}\" for that address alone")));
    }
    if !is_of_machines(network) {
        return Err(found.refused(UNFIT));
    }
    Ok(network)
}

/// The address of one machine. Nothing if it is no address at all.
pub(super) fn machine(found: TomlValue<'_>, text: &str) -> Result<Option<IpAddr>, SettingsFault> {
    let Ok(address) = text.parse::<IpAddr>() else {
        return Ok(None);
    };
    let network = IpNet::from(address);
    if let Some(bare) = unmapped(network) {
        return Err(found.refused(format_args!("\"{}\", in IPv4 notation", network_text(bare))));
    }
    if !is_of_machines(network) {
        return Err(found.refused("the address of a host, not multicast, loopback or unspecified"));
    }
    Ok(Some(address))
}

/// `192.0.2.1` or `192.0.2.0/24`; the length of the prefix in digits, without a sign or a zero
/// before it.
fn parse_network(text: &str) -> Option<IpNet> {
    let Some((address, length)) = text.split_once('/') else {
        return text.parse::<IpAddr>().ok().map(IpNet::from);
    };
    let plain = length.bytes().all(|byte| byte.is_ascii_digit()) && (length == "0" || !length.starts_with('0'));
    let length = length.parse().ok().filter(|_| plain)?;
    IpNet::new(address.parse().ok()?, length).ok()
}

/// The network as the file has it: a single address without the length of its prefix.
fn network_text(network: IpNet) -> String {
    match network.prefix_len() == Family::of_address(network.addr()).bits() {
        true => network.addr().to_string(),
        false => network.to_string(),
    }
}

/// The IPv4 network that an IPv4-mapped IPv6 network means (RFC 4291, section 2.5.5.2). No packet
/// has such an address.
fn unmapped(network: IpNet) -> Option<IpNet> {
    match network {
        IpNet::V4(_) => None,
        IpNet::V6(network) => {
            let address = network.addr().to_ipv4_mapped()?;
            let length = network.prefix_len().checked_sub(96)?;
            Ipv4Net::new(address, length).ok().map(IpNet::V4)
        }
    }
}

/// Whether there can be a machine in it, and one that is not this machine to itself.
fn is_of_machines(network: IpNet) -> bool {
    let address = network.addr();
    let (multicast, loopback) = match network {
        IpNet::V4(network) => (network.prefix_len() >= 4, network.prefix_len() >= 8),
        IpNet::V6(network) => (network.prefix_len() >= 8, network.prefix_len() == 128),
    };
    let single = network.prefix_len() == Family::of_address(address).bits();
    let nobody = single && (address.is_unspecified() || address == IpAddr::V4(Ipv4Addr::BROADCAST));
    !(nobody || multicast && address.is_multicast() || loopback && address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_is_an_address_and_the_length_of_its_prefix() {
        for (text, network) in [
            ("192.0.2.1", Some("192.0.2.1/32")),
            ("192.0.2.0/24", Some("192.0.2.0/24")),
            ("0.0.0.0/0", Some("0.0.0.0/0")),
            ("2001:db8::1", Some("2001:db8::1/128")),
            ("2001:DB8::/32", Some("2001:db8::/32")),
        ] {
            assert_eq!(
                parse_network(text),
                network.map(|network| network.parse().unwrap()),
                "{text}"
            );
        }
        for text in [
            "",
            "192.0.2",
            "192.0.2.0/33",
            "192.0.2.0/",
            "192.0.2.0/+8",
            "192.0.2.0/08",
            "192.0.2.0/255.255.255.0",
            "192.0.2.256",
            "192.0.2.0-192.0.2.9",
            "gate.example",
            "fe80::1%eth0",
            " 192.0.2.1",
        ] {
            assert_eq!(parse_network(text), None, "{text}");
        }
    }

    #[test]
    fn only_networks_of_other_machines_are_fit() {
        for (text, fit) in [
            ("0.0.0.0/0", true),
            ("::/0", true),
            ("224.0.0.0/3", true),
            ("fe80::1", true),
            ("0.0.0.0", false),
            ("255.255.255.255", false),
            ("::", false),
            ("127.0.0.0/8", false),
            ("127.0.0.1", false),
            ("::1", false),
            ("224.0.0.5", false),
            ("224.0.0.0/4", false),
            ("ff02::1", false),
        ] {
            assert_eq!(is_of_machines(parse_network(text).unwrap()), fit, "{text}");
        }
    }

    #[test]
    fn what_is_meant_as_an_address_is_never_taken_for_an_interface() {
        for text in ["192.0.2.300", "10.0.0.0/8", "10.1.2.x", "fe80::1", "eth0:1"] {
            assert!(is_meant(text), "{text}");
        }
        for text in ["eth0", "eth0.10", "ppp+", "br-lan"] {
            assert!(!is_meant(text), "{text}");
        }
    }
}
