//! Every rule that we can write, as iptables lists it: as we wrote it but for quotes that it does not need and protocols that it has
//! names for.

use std::collections::BTreeSet;
use std::net::IpAddr;

use pluto_updown::net::{
    Family, Icmp, Interface, MarkBit, Network, PortProtocol, Ports, Protocol, SaProtocol, Traffic,
};
use pluto_updown::netfilter::{
    BuiltIn, ChainName, Comment, CtState, Direction, InterfaceMatch, IptablesSave, LogPrefix, Match, NflogPrefix,
    NflogTarget, PolicyMatch, Rule, Table, Target, normalize,
};

use crate::support::gateway::twins;
use crate::support::namespace::{Namespace, VARIANTS};

fn network(text: &str) -> Network {
    text.parse().unwrap()
}

fn ethernet_interface() -> Interface {
    "vti01".parse().unwrap()
}

/// Networks of every shape.
fn networks(family: Family) -> Vec<Network> {
    let texts: &[&str] = match family {
        Family::Ipv4 => &["10.1.0.0/24", "10.1.0.7/32", "128.0.0.0/1", "10.1.0.5-10.1.0.9"],
        Family::Ipv6 => &[
            "2001:db8::/64",
            "2001:db8::7/128",
            "fd00::/8",
            "::ffff:0:0/96",
            "2001:db8::5-2001:db8::9",
        ],
    };
    texts.iter().map(|text| network(text)).collect()
}

fn ports(protocol: PortProtocol, my: Ports, peer: Ports) -> Traffic {
    Traffic::Ports {
        protocol,
        local: my,
        remote: peer,
    }
}

/// Traffic of every kind. What is any is no match.
fn traffics() -> Vec<Traffic> {
    let mut traffics: Vec<_> = [2, 4, 6, 17, 41, 47, 50, 51, 58, 89, 255]
        .map(|number| Traffic::Protocol(Protocol(number.try_into().unwrap())))
        .into();
    traffics.extend([
        Traffic::Icmp(Icmp::Type(8)),
        Traffic::Icmp(Icmp::Code(3, 4)),
        Traffic::Icmp(Icmp::Type(128)),
    ]);
    for protocol in [
        PortProtocol::Tcp,
        PortProtocol::Udp,
        PortProtocol::Dccp,
        PortProtocol::Sctp,
        PortProtocol::UdpLite,
    ] {
        traffics.push(ports(protocol, Ports::single(22), Ports::Any));
        traffics.push(ports(protocol, Ports::Any, Ports::Range(1000..=2000)));
        traffics.push(ports(protocol, Ports::single(0), Ports::Range(0..=65534)));
    }
    traffics
}

fn policies() -> Vec<PolicyMatch> {
    let protocols = [
        None,
        Some(SaProtocol::Esp),
        Some(SaProtocol::Ah),
        Some(SaProtocol::Ipcomp),
    ];
    let mut policies = Vec::new();
    for direction in [Direction::In, Direction::Out] {
        for reqid in [None, Some(0), Some(7), Some(u32::MAX)] {
            policies.extend(protocols.map(|protocol| PolicyMatch {
                direction,
                reqid,
                protocol,
            }));
        }
    }
    policies
}

fn comments() -> Vec<Comment> {
    [
        "net",
        "net-net_7",
        "private-or-clear#10.0.0.0/8",
        "a b",
        "50% (x)",
        "-j",
        &"x".repeat(128),
    ]
    .map(|text| Comment::try_from(text.to_owned()).unwrap())
    .into()
}

/// Whichever match this is not made for breaks the build here, and gets its samples below.
fn kind(matched: &Match) -> &'static str {
    match matched {
        Match::Source(Network::Prefix(_)) => "source",
        Match::Source(Network::Range(..)) => "source range",
        Match::Destination(Network::Prefix(_)) => "destination",
        Match::Destination(Network::Range(..)) => "destination range",
        Match::In(_) => "in",
        Match::Out(_) => "out",
        Match::Traffic(..) => "traffic",
        Match::NotSource(_) => "not source",
        Match::NotDestination(_) => "not destination",
        Match::PolicyNone(_) => "clear",
        Match::CtState(_) => "state",
        Match::CtReplDst(_) => "behind",
        Match::CtOrig(..) => "requested",
        Match::SrcNotLocal => "foreign",
        Match::Mark(_) => "mark",
        Match::NotMark(_) => "not mark",
        Match::Syn => "syn",
        Match::Limit => "rate",
        Match::Policy(_) => "policy",
        Match::Comment(_) => "comment",
    }
}

const KINDS: usize = 20;

fn bits() -> [MarkBit; 3] {
    ["0x1", "0x10000000", "0x80000000"].map(|bit| bit.parse().unwrap())
}

const NETWORK: [&str; 2] = ["10.1.0.0/24", "fd00:1::/64"];

const HOST: [&str; 2] = ["10.1.0.7/32", "fd00:1::7/128"];

const STATES: [CtState; 6] = [
    CtState::New,
    CtState::Established,
    CtState::Related,
    CtState::RelatedEstablished,
    CtState::Reply,
    CtState::Expected,
];

fn matches(family: Family) -> Vec<Match> {
    let mut matches = Vec::new();
    for network in networks(family) {
        matches.extend([Match::Source(network), Match::Destination(network)]);
        matches.extend([Match::NotSource(network), Match::NotDestination(network)]);
    }
    for interface in [
        InterfaceMatch::Interface(ethernet_interface()),
        InterfaceMatch::Wildcard(ethernet_interface().wildcard()),
        InterfaceMatch::Pattern("eth+".parse().unwrap()),
        InterfaceMatch::Loopback,
    ] {
        matches.extend([Match::In(interface.clone()), Match::Out(interface)]);
    }
    matches.extend([Match::PolicyNone(Direction::In), Match::PolicyNone(Direction::Out)]);
    matches.extend(STATES.map(Match::CtState));
    matches.extend([
        Match::CtReplDst(address(family)),
        Match::SrcNotLocal,
        Match::Syn,
        Match::Limit,
    ]);
    for network in [None, Some(NETWORK), Some(HOST)] {
        let network = network.map(|[four, six]| match family {
            Family::Ipv4 => four,
            Family::Ipv6 => six,
        });
        let network = network.map(|text| text.parse().unwrap());
        matches.extend(
            traffics()
                .into_iter()
                .map(|traffic| Match::CtOrig(family, traffic, network)),
        );
    }
    for bit in bits() {
        matches.extend([Match::Mark(bit), Match::NotMark(bit)]);
    }
    for direction in [Direction::In, Direction::Out] {
        matches.extend(
            traffics()
                .into_iter()
                .map(|traffic| Match::Traffic(direction, family, traffic)),
        );
    }
    matches.extend(policies().into_iter().map(Match::Policy));
    matches.extend(comments().into_iter().map(Match::Comment));
    matches
}

/// The same for verdicts: the table that a rule with it is for.
fn table_of(verdict: &Target) -> (&'static str, Table) {
    match verdict {
        Target::Accept => ("accept", Table::Filter),
        Target::Jump(_) => ("jump", Table::Filter),
        Target::Goto(_) => ("goto", Table::Filter),
        Target::Nflog(_) => ("log", Table::Filter),
        Target::Snat(_) => ("snat", Table::Nat),
        Target::Dnat(_) => ("dnat", Table::Nat),
        Target::Drop => ("drop", Table::Filter),
        Target::Return => ("return", Table::Filter),
        Target::JumpUser(_) => ("consult", Table::Filter),
        Target::Log(_) => ("kernel log", Table::Filter),
        Target::SetMark(_) => ("set mark", Table::Filter),
        Target::ClearMark(_) => ("clear mark", Table::Filter),
        Target::SetMss(_) => ("segment size", Table::Mangle),
        Target::ClampMssToPmtu => ("segment size of path", Table::Mangle),
    }
}

const VERDICTS: usize = 14;

fn address(family: Family) -> IpAddr {
    match family {
        Family::Ipv4 => "10.0.10.1".parse().unwrap(),
        Family::Ipv6 => "2001:db8::1".parse().unwrap(),
    }
}

fn verdicts(family: Family) -> Vec<Target> {
    let to: ChainName = "PLUTO-TARGET".parse().unwrap();
    let mut verdicts = vec![
        Target::Accept,
        Target::Drop,
        Target::Return,
        Target::Jump(to.clone()),
        Target::Goto(to),
        Target::JumpUser("ADMIN".parse().unwrap()),
        Target::Snat(address(family)),
        Target::Dnat(address(family)),
        Target::SetMss(1360.try_into().unwrap()),
        Target::ClampMssToPmtu,
    ];
    verdicts.extend(
        bits()
            .into_iter()
            .flat_map(|bit| [Target::SetMark(bit), Target::ClearMark(bit)]),
    );
    verdicts.extend(comments().iter().flat_map(|comment| {
        [1, 65535].map(|group| {
            Target::Nflog(NflogTarget {
                group: group.try_into().unwrap(),
                prefix: NflogPrefix::from(comment),
            })
        })
    }));
    for prefix in ["net", "net-net 7", "private-or-clear#10.0.0.0/8", "-j"] {
        let prefix = LogPrefix::try_from(prefix.to_owned()).unwrap();
        verdicts.push(Target::Log(prefix));
    }
    verdicts
}

/// The matches without which iptables refuses a verdict.
fn needed(verdict: &Target) -> Vec<Match> {
    match table_of(verdict).1 {
        Table::Mangle => vec![Match::Syn],
        Table::Filter | Table::Nat => Vec::new(),
    }
}

/// Every match and every verdict alone, and those that are used together, in the order in which the plan writes them.
fn rules(family: Family) -> Vec<Rule> {
    let alone = matches(family)
        .into_iter()
        .map(|matched| Rule::when(matched, Target::Accept));
    let verdicts = verdicts(family).into_iter().map(|verdict| Rule {
        matches: needed(&verdict),
        target: verdict,
    });
    let note = || Match::Comment(comments().remove(2));
    let [a, b] = [networks(family).remove(0), networks(family).remove(1)];
    let far_and_near = policies().into_iter().map(|policy| Rule {
        matches: vec![Match::Source(a), Match::Destination(b), Match::Policy(policy)],
        target: Target::Accept,
    });
    let by_interface = Rule {
        matches: vec![
            Match::Source(a),
            Match::Destination(b),
            Match::In(InterfaceMatch::Interface(ethernet_interface())),
        ],
        target: Target::Accept,
    };
    let narrowed = traffics().into_iter().map(|traffic| Rule {
        matches: vec![Match::Traffic(Direction::In, family, traffic), note()],
        target: Target::Accept,
    });
    let compressed = Rule {
        matches: vec![
            Match::Source(b),
            Match::Destination(b),
            Match::Traffic(
                Direction::In,
                family,
                Traffic::Protocol(Protocol(4.try_into().unwrap())),
            ),
            Match::Policy(PolicyMatch::any_ipsec(Direction::In)),
        ],
        target: Target::Accept,
    };
    let all = alone.chain(verdicts).chain(far_and_near).chain(narrowed);
    all.chain([by_interface, compressed]).collect()
}

#[test]
fn there_is_a_sample_of_every_match_and_verdict() {
    for family in Family::ALL {
        let kinds: BTreeSet<_> = matches(family).iter().map(kind).collect();
        assert_eq!(kinds.len(), KINDS);
        let kinds: BTreeSet<_> = verdicts(family).iter().map(|verdict| table_of(verdict).0).collect();
        assert_eq!(kinds.len(), VERDICTS);
    }
}

/// What differs here would be taken for changed by somebody else, as long as the kernel itself is not asked.
#[test]
#[ignore = "needs root and iptables: run by contrib/test"]
fn iptables_lists_every_rule_as_we_write_it() {
    for (backend, family) in twins() {
        let machine = Namespace::bare(backend);
        for table in Table::ALL {
            let rules: Vec<_> = rules(family)
                .into_iter()
                .filter(|rule| table_of(&rule.target).1 == table)
                .collect();
            let mut text = format!("*{table}\n:PLUTO-TARGET - [0:0]\n:ADMIN - [0:0]\n");
            for (number, rule) in rules.iter().enumerate() {
                text += &format!(":PLUTO-{number} - [0:0]\n-A PLUTO-{number} {rule}\n-C PLUTO-{number} {rule}\n");
            }
            text += "COMMIT\n";
            machine.load(family, &["--noflush"], &text);
            let saved = IptablesSave::parse(&machine.save(family, &["-c"]));
            let listed = saved.table(table).expect("the table");
            let mut differ = Vec::new();
            for (number, rule) in rules.iter().enumerate() {
                let [line] = listed.rules(&format!("PLUTO-{number}")) else {
                    panic!("{rule}: not one rule")
                };
                if normalize(&line.text) != normalize(&rule.to_string()) {
                    differ.push(format!("ours:   {rule}\nlisted: {}", line.text));
                }
            }
            assert!(differ.is_empty(), "{backend} {family} {table}:\n{}", differ.join("\n"));
        }
    }
}

/// The built-in chains are the kernel's.
#[test]
#[ignore = "needs root and iptables: run by contrib/test"]
fn every_table_has_the_built_in_chains_that_we_count_on() {
    for backend in VARIANTS {
        let machine = Namespace::bare(backend);
        for table in Table::ALL {
            let listing = machine.saved_table(backend, Family::Ipv4, table);
            for chain in table.built_in().iter().copied().map(BuiltIn::name) {
                machine.tables(Family::Ipv4, &["-t", table.name(), "-S", chain]);
                assert!(
                    backend.to_string() == "nft" || listing.contains(&format!(":{chain} ACCEPT")),
                    "{listing}"
                );
            }
        }
    }
}
