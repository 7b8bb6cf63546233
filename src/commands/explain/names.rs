//! Names on the command line: of hosts and of services. No other name is ever looked up.

use std::collections::BTreeSet;
use std::net::{IpAddr, ToSocketAddrs as _};
use std::sync::mpsc;
use std::time::Duration;
use std::{fs, thread};

use crate::net::PortProtocol;
use crate::words::one_line;

/// What knows the addresses of host names.
pub trait Directory {
    /// The addresses of a host.
    ///
    /// # Errors
    /// Why there are none.
    fn addresses(&self, name: &str) -> Result<Vec<IpAddr>, String>;
}

/// The resolver of this machine.
#[derive(Debug)]
pub(super) struct Resolver;

/// How long a name is waited for. glibc asks each name server for 5 s, twice; whose tunnel is down
/// has name servers that do not answer.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(5);

impl Directory for Resolver {
    fn addresses(&self, name: &str) -> Result<Vec<IpAddr>, String> {
        let (sender, answer) = mpsc::channel();
        let asked = name.to_owned();
        // It cannot be ended: it ends with this process at the latest.
        thread::spawn(move || {
            let found = (asked.as_str(), 0).to_socket_addrs();
            // The receiver may have stopped waiting.
            let _ = sender.send(found.map(|found| found.map(|socket| socket.ip()).collect::<Vec<_>>()));
        });
        match answer.recv_timeout(LOOKUP_TIMEOUT) {
            Ok(Ok(addresses)) if !addresses.is_empty() => Ok(unique_addresses(addresses)),
            Ok(Ok(_)) => Err("has no address".to_owned()),
            Ok(Err(error)) => Err(one_line(&error.to_string())),
            Err(_) => Err(format!(
                "no answer from the resolver in {} s; write the address",
                LOOKUP_TIMEOUT.as_secs()
            )),
        }
    }
}

fn unique_addresses(mut addresses: Vec<IpAddr>) -> Vec<IpAddr> {
    let mut seen = BTreeSet::new();
    addresses.retain(|address| seen.insert(*address));
    addresses
}

/// Services that people ask about, for machines without `/etc/services`.
const SERVICES: [(&str, &str, u16); 16] = [
    ("ftp", "tcp", 21),
    ("ssh", "tcp", 22),
    ("smtp", "tcp", 25),
    ("domain", "tcp", 53),
    ("domain", "udp", 53),
    ("http", "tcp", 80),
    ("ntp", "udp", 123),
    ("imap", "tcp", 143),
    ("ldap", "tcp", 389),
    ("https", "tcp", 443),
    ("https", "udp", 443),
    ("submission", "tcp", 587),
    ("ldaps", "tcp", 636),
    ("imaps", "tcp", 993),
    ("mysql", "tcp", 3306),
    ("postgresql", "tcp", 5432),
];

/// The port of a service by the name that `services(5)` has for it.
pub(super) fn service_port(name: &str, protocol: PortProtocol) -> Option<u16> {
    let known = SERVICES.iter();
    let mut known = known.filter(|(other, of, _)| (*other, *of) == (name, protocol.name()));
    if let Some((_, _, port)) = known.next() {
        return Some(*port);
    }
    port_in(&fs::read_to_string("/etc/services").ok()?, name, protocol)
}

/// `https 443/tcp alias # comment`
fn port_in(services: &str, name: &str, protocol: PortProtocol) -> Option<u16> {
    services.lines().find_map(|line| {
        let line = line.split('#').next().unwrap_or_default();
        let mut words = line.split_ascii_whitespace();
        let (first, port) = (words.next()?, words.next()?);
        let (port, of) = port.split_once('/')?;
        let is_named = first == name || words.any(|alias| alias == name);
        (is_named && of == protocol.name()).then(|| port.parse().ok())?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_is_found_by_name_or_alias_and_protocol() {
        let services =
            "# mine\nhttps\t443/tcp\t\t# http over TLS\nms-wbt-server 3389/tcp rdp # not https\nbad\nx y/tcp\n";
        let port = |name, protocol| port_in(services, name, protocol);
        assert_eq!(port("https", PortProtocol::Tcp), Some(443));
        assert_eq!(port("https", PortProtocol::Udp), None);
        assert_eq!(port("rdp", PortProtocol::Tcp), Some(3389));
        assert_eq!(port("x", PortProtocol::Tcp), None);
        assert_eq!(port("mine", PortProtocol::Tcp), None);
    }

    #[test]
    fn a_name_without_an_address_is_answered_and_not_waited_for() {
        let answer = Resolver.addresses("nowhere.invalid");
        assert!(answer.is_err(), "{answer:?}");
        assert_eq!(Resolver.addresses("127.0.0.1"), Ok(vec!["127.0.0.1".parse().unwrap()]));
    }
}
