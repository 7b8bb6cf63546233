//! Which of the administrator's own rules match a packet, as far as its addresses, kind and
//! connection state decide that.

use std::borrow::Cow;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::net::{Icmp, Ports, Traffic};
use crate::netfilter::{BuiltIn, ChainName, SavedRule, SavedTable};
use crate::trace::{Endpoint, Packet, PacketCtState};

/// A rule of the administrator's that decides about a packet, or may.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct OwnRule<'a> {
    /// Its chain.
    pub(super) chain: &'a str,
    pub(super) rule: &'a SavedRule,
    /// Whether everything that it asks for is known to be so.
    pub(super) is_certain: bool,
}

/// Which of the administrator's rules in a built-in chain are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Region {
    /// Those before this program's jump.
    BeforeOurs,
    /// All.
    All,
}

/// How deep chains lead into one another: the kernel allows no loops, but a listing is text.
const DEEPEST: usize = 16;

/// The targets that decide about a packet.
const FINAL: [&str; 5] = ["ACCEPT", "DROP", "REJECT", "QUEUE", "NFQUEUE"];

/// The rules that may decide about a packet, in the order in which the kernel asks them, up to the
/// first that surely does.
pub(super) fn deciding_rules<'a>(
    table: &'a SavedTable,
    built_in: BuiltIn,
    region: Region,
    packet: &Packet,
) -> Vec<OwnRule<'a>> {
    let mut search = Search {
        table,
        region,
        packet,
        found: Vec::new(),
    };
    search.chain(built_in.name(), true, DEEPEST);
    search.found
}

struct Search<'a, 'p> {
    table: &'a SavedTable,
    region: Region,
    packet: &'p Packet,
    found: Vec<OwnRule<'a>>,
}

/// Whether a packet returns from a chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SearchState {
    /// It returns, or may return.
    Goes,
    /// It surely does not; or the walk reached this program's jump, and only rules before it are
    /// searched.
    Ended,
}

impl<'a> Search<'a, '_> {
    fn chain(&mut self, name: &'a str, is_certain: bool, depth: usize) -> SearchState {
        let table = self.table;
        for rule in table.rules(name) {
            let Some((matched, (jump, target))) = matched(rule, self.packet).zip(target(rule)) else {
                continue;
            };
            let is_sure = matched == Matched::Surely;
            let is_certain = is_certain && is_sure;
            if target.parse::<ChainName>().is_ok() {
                match self.region {
                    Region::BeforeOurs => return SearchState::Ended,
                    Region::All => continue,
                }
            }
            if FINAL.contains(&&*target) {
                self.found.push(OwnRule {
                    chain: name,
                    rule,
                    is_certain,
                });
                if is_certain {
                    return SearchState::Ended;
                }
            } else if target == "RETURN" && is_sure {
                return SearchState::Goes;
            } else if let Some((next, _)) = table.chains().find(|(other, _)| *other == target)
                && depth > 0
            {
                if self.chain(next, is_certain, depth - 1) == SearchState::Ended {
                    return SearchState::Ended;
                }
                if jump == "-g" && is_sure {
                    return SearchState::Goes;
                }
            }
            // A rule that surely matches and decides hides the rules after it in its chain.
            if FINAL.contains(&&*target) && is_sure {
                return SearchState::Goes;
            }
        }
        SearchState::Goes
    }
}

/// `-j` or `-g`, and where it leads.
fn target(rule: &SavedRule) -> Option<(&'static str, Cow<'_, str>)> {
    let is_goto = rule.words().any(|word| word == "-g");
    Some((if is_goto { "-g" } else { "-j" }, rule.jump_target()?))
}

/// Whether a rule is for a packet, if it is not surely for others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Matched {
    Surely,
    Perhaps,
}

fn matched(rule: &SavedRule, packet: &Packet) -> Option<Matched> {
    let mut words = rule.words();
    let mut is_sure = true;
    let mut is_negated = false;
    while let Some(word) = words.next() {
        if word == "!" {
            is_negated = true;
            continue;
        }
        let holds = match &*word {
            "-j" | "-g" => break,
            "-m" | "--comment" => {
                words.next();
                Some(true)
            }
            "-s" => words.next().and_then(|value| network_contains(&value, packet.source)),
            "-d" => words
                .next()
                .and_then(|value| network_contains(&value, packet.destination)),
            "-i" => words.next().and_then(|value| interface(&value, &packet.from)),
            "-o" => words.next().and_then(|value| interface(&value, &packet.to)),
            "-p" => words.next().and_then(|value| protocol(&value, &packet.kind)),
            "--dport" | "--dports" => words
                .next()
                .and_then(|value| ports(&value, destination_ports(&packet.kind)?)),
            "--sport" | "--sports" => words
                .next()
                .and_then(|value| ports(&value, source_ports(&packet.kind)?)),
            "--icmp-type" | "--icmpv6-type" => words.next().and_then(|value| icmp(&value, &packet.kind)),
            "--ctstate" | "--state" => words.next().map(|value| state(&value, packet.connection)),
            option if option.starts_with('-') => None,
            // A value of an option that is not known here.
            _ => continue,
        };
        match holds.map(|holds| holds != is_negated) {
            Some(false) => return None,
            Some(true) => {}
            None => is_sure = false,
        }
        is_negated = false;
    }
    Some(if is_sure { Matched::Surely } else { Matched::Perhaps })
}

fn network_contains(value: &str, address: IpAddr) -> Option<bool> {
    let network: IpNet = match value.parse() {
        Ok(network) => network,
        Err(_) => IpNet::from(value.parse::<IpAddr>().ok()?),
    };
    Some(network.contains(&address))
}

/// Of forwarded packets it is only known that they do not arrive on the loopback interface.
fn interface(value: &str, endpoint: &Endpoint) -> Option<bool> {
    match (endpoint.interface(), value.strip_suffix('+')) {
        (Some(interface), Some(start)) => Some(interface.as_str().starts_with(start)),
        (Some(interface), None) => Some(interface.as_str() == value),
        (None, _) if value == "lo" => Some(false),
        (None, _) => None,
    }
}

fn protocol(value: &str, kind: &Traffic) -> Option<bool> {
    let number = match value {
        "all" => return Some(true),
        "tcp" => 6,
        "udp" => 17,
        "udplite" => 136,
        "icmp" => 1,
        "ipv6-icmp" | "icmpv6" => 58,
        "esp" => 50,
        "ah" => 51,
        "gre" => 47,
        "sctp" => 132,
        other => other.parse().ok()?,
    };
    match kind {
        Traffic::Any => None,
        Traffic::Protocol(protocol) => Some(protocol.number() == number),
        Traffic::Icmp(_) => Some(number == 1 || number == 58),
        Traffic::Ports { protocol, .. } => Some(protocol.number() == number),
    }
}

fn destination_ports(kind: &Traffic) -> Option<&Ports> {
    match kind {
        Traffic::Ports { local, .. } => Some(local),
        Traffic::Any | Traffic::Protocol(_) | Traffic::Icmp(_) => None,
    }
}

fn source_ports(kind: &Traffic) -> Option<&Ports> {
    match kind {
        Traffic::Ports { remote, .. } => Some(remote),
        Traffic::Any | Traffic::Protocol(_) | Traffic::Icmp(_) => None,
    }
}

/// Whether all of the packet's ports are among those of a rule: `22`, `1000:2000`, `22,80`.
fn ports(value: &str, asked: &Ports) -> Option<bool> {
    let Ports::Range(asked) = asked else { return None };
    let mut meets = false;
    for part in value.split(',') {
        let (first, last) = part.split_once(':').unwrap_or((part, part));
        let (first, last): (u16, u16) = (first.parse().ok()?, last.parse().ok()?);
        if first <= *asked.start() && *asked.end() <= last {
            return Some(true);
        }
        meets |= first <= *asked.end() && *asked.start() <= last;
    }
    if meets { None } else { Some(false) }
}

fn icmp(value: &str, kind: &Traffic) -> Option<bool> {
    let asked: u8 = value.split('/').next()?.parse().ok()?;
    match kind {
        Traffic::Icmp(Icmp::Type(kind) | Icmp::Code(kind, _)) if *kind != asked => Some(false),
        Traffic::Icmp(Icmp::Type(_)) if !value.contains('/') => Some(true),
        Traffic::Icmp(Icmp::Code(..)) if !value.contains('/') => Some(true),
        Traffic::Icmp(_) | Traffic::Any | Traffic::Protocol(_) => None,
        Traffic::Ports { .. } => Some(false),
    }
}

fn state(value: &str, connection: PacketCtState) -> bool {
    let name = match connection {
        PacketCtState::New => "NEW",
        PacketCtState::Established(_) => "ESTABLISHED",
        PacketCtState::Related(_) => "RELATED",
    };
    value.split(',').any(|state| state == name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::PortProtocol;
    use crate::netfilter::IptablesSave;
    use crate::netfilter::Table;
    use crate::trace::ConnectionDirection;

    fn packet() -> Packet {
        Packet {
            source: "10.2.0.9".parse().unwrap(),
            destination: "10.1.0.5".parse().unwrap(),
            kind: Traffic::Ports {
                protocol: PortProtocol::Tcp,
                local: Ports::single(443),
                remote: Ports::Any,
            },
            from: Endpoint::Unencrypted(None),
            to: Endpoint::Unencrypted(None),
            connection: PacketCtState::New,
            consented: false,
            requested: None,
            answered_at: None,
        }
    }

    fn found(rules: &[&str], region: Region, packet: &Packet) -> Option<(String, bool)> {
        let lines: String = rules.iter().map(|rule| format!("-A {rule}\n")).collect();
        let text = format!("*filter\n:FORWARD DROP [0:0]\n:mine - [0:0]\n:PLUTO-FORWARD - [0:0]\n{lines}COMMIT\n");
        let saved = IptablesSave::parse(&text);
        let table = saved.table(Table::Filter).unwrap();
        let rule = deciding_rules(table, BuiltIn::Forward, region, packet)
            .into_iter()
            .next()?;
        Some((format!("{} {}", rule.chain, rule.rule.text), rule.is_certain))
    }

    fn first(rules: &[&str]) -> Option<(String, bool)> {
        found(rules, Region::All, &packet())
    }

    #[test]
    fn the_first_rule_whose_addresses_kind_and_state_fit_is_found() {
        let last = "FORWARD -j DROP";
        for passed in [
            "FORWARD -s 10.3.0.0/16 -j ACCEPT",
            "FORWARD ! -s 10.2.0.0/16 -j ACCEPT",
            "FORWARD -d 10.1.0.6/32 -j ACCEPT",
            "FORWARD -p udp -j ACCEPT",
            "FORWARD -p tcp -m tcp --dport 22 -j ACCEPT",
            "FORWARD -p tcp -m multiport --dports 22,80:90 -j ACCEPT",
            "FORWARD -p tcp -m tcp ! --dport 443 -j ACCEPT",
            "FORWARD -p icmp -m icmp --icmp-type 8 -j ACCEPT",
            "FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
            "FORWARD -i lo -j ACCEPT",
            "FORWARD -m comment --comment \"-j DROP\" -j LOG --log-prefix \"-j ACCEPT\"",
            "FORWARD -j PLUTO-FORWARD",
            "FORWARD -j mine",
        ] {
            let found = first(&[passed, last]);
            assert_eq!(found, Some(("FORWARD -j DROP".to_owned(), true)), "{passed}");
        }
        assert_eq!(first(&["FORWARD -s 10.3.0.0/16 -j ACCEPT"]), None);
    }

    #[test]
    fn what_is_not_known_makes_a_rule_uncertain() {
        for rule in [
            "FORWARD -i eth0 -j ACCEPT",
            "FORWARD -m mark --mark 0x1 -j ACCEPT",
            "FORWARD -p tcp -m tcp --sport 80 -j ACCEPT",
            "FORWARD -m set ! --match-set bad src -j DROP",
        ] {
            assert_eq!(first(&[rule]), Some((rule.to_owned(), false)), "{rule}");
        }
    }

    #[test]
    fn behind_a_rule_that_may_decide_the_next_ones_are_found_up_to_one_that_surely_does() {
        let lines = "-A FORWARD -i eth1 -j ACCEPT\n-A FORWARD -i eth2 -j mine\n-A FORWARD -j REJECT\n-A FORWARD -j DROP\n-A mine -j DROP\n-A mine -j ACCEPT\n";
        let saved = IptablesSave::parse(&format!("*filter\n:FORWARD DROP [0:0]\n:mine - [0:0]\n{lines}COMMIT\n"));
        let table = saved.table(Table::Filter).unwrap();
        let found = deciding_rules(table, BuiltIn::Forward, Region::All, &packet());
        let found: Vec<_> = found
            .iter()
            .map(|rule| (rule.chain, rule.rule.text.as_str(), rule.is_certain))
            .collect();
        assert_eq!(
            found,
            [
                ("FORWARD", "-i eth1 -j ACCEPT", false),
                ("mine", "-j DROP", false),
                ("FORWARD", "-j REJECT", true),
            ]
        );
    }

    #[test]
    fn chains_are_followed_and_left_again() {
        let drop = ("mine -j DROP".to_owned(), true);
        assert_eq!(first(&["FORWARD -j mine", "mine -j DROP"]), Some(drop));
        let rules = [
            "FORWARD -s 10.2.0.0/16 -j mine",
            "FORWARD -j REJECT",
            "mine -j RETURN",
            "mine -j DROP",
        ];
        assert_eq!(first(&rules), Some(("FORWARD -j REJECT".to_owned(), true)));
        let rules = ["FORWARD -i eth0 -j mine", "mine -j DROP"];
        assert_eq!(first(&rules), Some(("mine -j DROP".to_owned(), false)));
        assert_eq!(first(&["FORWARD -g mine", "FORWARD -j DROP"]), None);
        assert_eq!(first(&["FORWARD -j mine", "mine -j mine"]), None);
    }

    #[test]
    fn before_our_jump_only_rules_there_count() {
        let rules = ["FORWARD -j mine", "FORWARD -j PLUTO-FORWARD", "FORWARD -j DROP"];
        assert_eq!(found(&rules, Region::BeforeOurs, &packet()), None);
        let rules = ["FORWARD -s 10.0.0.0/8 -j DROP", "FORWARD -j PLUTO-FORWARD"];
        assert!(found(&rules, Region::BeforeOurs, &packet()).is_some());
        // If the administrator installs the jump, it may be in a user chain.
        let rules = ["FORWARD -j mine", "FORWARD -j DROP", "mine -j PLUTO-FORWARD"];
        assert_eq!(found(&rules, Region::BeforeOurs, &packet()), None);
    }

    #[test]
    fn a_packet_of_a_connection_is_one_of_it() {
        let established = Packet {
            connection: PacketCtState::Established(ConnectionDirection::Reply),
            ..packet()
        };
        let rule = "FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT";
        assert_eq!(found(&[rule], Region::All, &established), Some((rule.to_owned(), true)));
    }
}
