//! What must hold for every tunnel there can be, whatever its daemon or its peer calls it.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;

use crate::support::binary::Call;
use crate::support::emulator::{Emulator, Kind};
use crate::support::property::cases;
use crate::support::world::{libreswan, strongswan};
use pluto_updown::daemon::{FirewallAction, Tunnel};
use pluto_updown::firewall::{
    ChainFragment, DesiredState, JumpConfig, NatExemption, PacketPath, PolicyContext, Repair, RulesetChange, TunnelKey,
    TunnelRules, detect_drift, plan_faults, reconcile, transition, tunnel_rules,
};
use pluto_updown::net::{Family, MarkBit};
use pluto_updown::netfilter::{ChainName, IptablesSave, LONGEST_CHAIN_NAME, RestoreCommand, Table, restore_text};
use pluto_updown::settings::{Esp, JumpPlace, Nat, Policy};
use proptest::prelude::*;

/// What can stand in a variable: bytes that a shell, a terminal, a log or iptables would take for something else come often.
fn bytes() -> impl Strategy<Value = Vec<u8>> {
    let special = prop::sample::select(b"\n\r\t\"'\\`$();|&<>*?[]{}#~!:/@%= -\x01\x1b\x7f\xff\xc3".to_vec());
    let words = prop::sample::select(vec![
        "-j ACCEPT",
        "--foo",
        "$(id)",
        "\nCOMMIT\n",
        "\" -j ACCEPT",
        "*filter",
        "PLUTO-",
        "../../etc",
    ]);
    let piece = prop_oneof![
        4 => any::<u8>().prop_filter("no NUL in an environment", |byte| *byte != 0).prop_map(|byte| vec![byte]),
        3 => special.prop_map(|byte| vec![byte]),
        1 => words.prop_map(|word| word.as_bytes().to_vec()),
    ];
    prop::collection::vec(piece, 1..60).prop_map(|pieces| pieces.concat())
}

fn network() -> impl Strategy<Value = String> {
    let v4 = (any::<[u8; 4]>(), 0..=32_u8).prop_map(|([a, b, c, d], length)| format!("{a}.{b}.{c}.{d}/{length}"));
    let range = (any::<[u8; 3]>(), 0..100_u8, 100..=255_u8)
        .prop_map(|([a, b, c], first, last)| format!("{a}.{b}.{c}.{first}-{a}.{b}.{c}.{last}"));
    prop_oneof![3 => v4, 1 => range]
}

fn network_v6() -> impl Strategy<Value = String> {
    (any::<u128>(), 0..=128_u8).prop_map(|(bits, length)| format!("{}/{length}", std::net::Ipv6Addr::from_bits(bits)))
}

/// A call of strongSwan with these words in every variable that takes words, between these networks.
fn tunnel(words: &[Vec<u8>], networks: &(String, String), reqid: u32) -> Option<Tunnel> {
    worded(words, strongswan("name", reqid, &networks.0, &networks.1))
}

/// A call of libreswan, perhaps for a tunnel that is logged or translated.
fn libreswans(words: &[Vec<u8>], networks: &(String, String), reqid: u32, extras: &[(&str, &str)]) -> Option<Tunnel> {
    let me = if networks.0.contains(':') {
        "2001:db8::1"
    } else {
        "192.0.2.1"
    };
    let call = libreswan("name", reqid, &networks.0, &networks.1);
    worded(words, call.with("PLUTO_ME", me).with_all(extras))
}

fn worded(words: &[Vec<u8>], call: Call) -> Option<Tunnel> {
    let names = ["PLUTO_CONNECTION", "PLUTO_PEER_ID", "PLUTO_MY_ID", "PLUTO_XAUTH_ID"];
    let pairs = names.into_iter().zip(words);
    let call = pairs.fold(call, |call, (name, word)| call.with(name, OsStr::from_bytes(word)));
    match call.firewall_action() {
        FirewallAction::Open(tunnel) => Some(*tunnel),
        FirewallAction::Close(_) | FirewallAction::Nothing => None,
    }
}

fn rules_of(tunnel: &Tunnel) -> TunnelRules {
    rules_with(tunnel, &crate::support::world::nat_left_alone().tunnel)
}

fn rules_with(tunnel: &Tunnel, policy: &Policy) -> TunnelRules {
    let id = TunnelKey::from_tunnel(tunnel).ids().next().expect("a first name");
    let context = PolicyContext {
        policy,
        esp: Esp::Leave,
        peers: &BTreeSet::new(),
        ipcomp_hosts: &tunnel.ipcomp_hosts().into_iter().collect(),
        nat_exemption: NatExemption::Never,
        connected: &[],
        interfaces: &[],
        path_mtu: None,
    };
    tunnel_rules(tunnel, &id, &context).expect("nothing is set")
}

/// What is a tunnel's own in the filter table.
fn filter(rules_of: &TunnelRules) -> &ChainFragment {
    rules_of
        .fragment(Table::Filter)
        .expect("every tunnel has something there")
}

fn saved(tables: &Emulator) -> [String; 3] {
    Kind::ALL.map(|kind| tables.table(kind).save())
}

fn any_tunnel() -> impl Strategy<Value = Tunnel> {
    let networks = prop_oneof![2 => (network(), network()), 1 => (network_v6(), network_v6())];
    let extras = prop::option::of(prop::sample::select(vec![
        vec![],
        vec![("NFLOG", "13")],
        vec![("CAT", "YES")],
        vec![("CAT", "YES"), ("NFLOG", "65535")],
    ]));
    (prop::collection::vec(bytes(), 4), networks, 1..1000_u32, extras).prop_filter_map(
        "a tunnel",
        |(words, networks, reqid, extras)| match extras {
            None => tunnel(&words, &networks, reqid),
            Some(extras) => libreswans(&words, &networks, reqid, &extras),
        },
    )
}

/// The one line that a rule may be: no quote but the two around a comment or a prefix, no byte that is not printable ASCII.
fn is_plain(line: &str) -> bool {
    let printable = line.bytes().all(|byte| matches!(byte, b' '..=b'~'));
    let quotes = line.matches('"').count();
    let is_quoted = line.contains("--comment \"") || line.contains("--nflog-prefix \"");
    printable && (quotes == 0 || (quotes == 2 && is_quoted)) && !line.contains('\\')
}

fn site(family: Family) -> JumpConfig {
    let (place, mark) = (JumpPlace::First, MarkBit::DEFAULT);
    JumpConfig { family, place, mark }
}

/// The names of a tunnel's own chains on a path, without what is the same for all.
fn tags_on(rules_of: &TunnelRules, path: PacketPath) -> Vec<String> {
    let chains = rules_of.chains_on(path).into_iter();
    let tags = chains.map(|(_, chain)| chain.as_str().rsplit('-').next().unwrap_or_default().to_owned());
    tags.collect()
}

#[test]
fn the_replies_to_source_nated_hosts_are_on_the_path_of_forwarded_packets_and_ip_in_ip_is_on_none() {
    let call = strongswan("name", 1, "10.1.0.0/24", "10.2.0.0/24");
    let call = call.with_all(&[("PLUTO_IPCOMP", "1"), ("PLUTO_HOST_ACCESS", "1")]);
    let tunnel = call.tunnel();
    let policy = Policy {
        nat: Nat::Address("10.1.0.1".parse().expect("an address")),
        ..Policy::default()
    };
    let rules = rules_with(&tunnel, &policy);
    assert!(filter(&rules).chains.iter().any(|chain| chain.as_str().ends_with("-C")));
    for (path, tags) in [
        (PacketPath::Input, &["I"][..]),
        (PacketPath::Output, &["O"]),
        (PacketPath::ForwardIn, &["FI", "H"]),
        (PacketPath::ForwardOut, &["FO"]),
        (PacketPath::NatOut, &["NO"]),
    ] {
        assert_eq!(tags_on(&rules, path), tags, "{path:?}");
    }
}

proptest! {
    #![proptest_config(cases(400))]

    #[test]
    fn every_chain_of_a_tunnel_is_on_the_path_that_its_name_shows(tunnel in any_tunnel()) {
        let rules_of = rules_of(&tunnel);
        let chains = Table::ALL.into_iter().filter_map(|table| rules_of.fragment(table)).flat_map(|own| &own.chains);
        let all: BTreeSet<_> = chains.collect();
        let mut found = BTreeSet::new();
        for path in PacketPath::ALL {
            for (bucket, chain) in rules_of.chains_on(path) {
                prop_assert_eq!(bucket.path, path);
                prop_assert!(chain.as_str().ends_with(&format!("-{}", path.tag())), "{} {:?}", chain, path);
                found.insert(chain);
            }
        }
        prop_assert_eq!(found, all);
    }

    #[test]
    fn nothing_in_a_transaction_is_anybodys_words(tunnel in any_tunnel()) {
        let rules_of = rules_of(&tunnel);
        let site = site(tunnel.family());
        let up = transition(&RulesetChange { added: vec![rules_of.clone()], ..RulesetChange::unchanged(site) });
        let down = transition(&RulesetChange { removed: vec![rules_of.clone()], ..RulesetChange::unchanged(site) });
        let (wanted, nothing) = (DesiredState::from_rules(&[rules_of], site), IptablesSave::default());
        let again = reconcile(&wanted, &nothing, &[], &detect_drift(&wanted, &nothing, &[]), Repair::Patch);
        for commands in [&up, &down, &again] {
            let text = restore_text(commands);
            let lines: usize = commands.iter().map(|section| section.commands.len() + 2).sum();
            prop_assert_eq!(text.lines().count(), lines);
            for line in text.lines() {
                prop_assert!(is_plain(line), "{}", line);
            }
            prop_assert_eq!(plan_faults(commands), vec![]);
        }
    }

    #[test]
    fn what_goes_in_comes_out(tunnels in prop::collection::vec(any_tunnel(), 1..4)) {
        let family = tunnels[0].family();
        let all_rules: Vec<_> = tunnels.iter().filter(|tunnel| tunnel.family() == family).map(rules_of).collect();
        let mut table = Emulator::new();
        let before = saved(&table);
        let up = transition(&RulesetChange { added: all_rules.clone(), ..RulesetChange::unchanged(site(family)) });
        prop_assert_eq!(table.restore(&restore_text(&up)), Ok(()));
        let down = transition(&RulesetChange { removed: all_rules, ..RulesetChange::unchanged(site(family)) });
        prop_assert_eq!(table.restore(&restore_text(&down)), Ok(()));
        prop_assert_eq!(saved(&table), before);
    }

    #[test]
    fn chains_of_unlike_tunnels_have_unlike_names(tunnels in prop::collection::vec(any_tunnel(), 2..30)) {
        let keys: BTreeSet<String> = tunnels.iter().map(|tunnel| format!("{:?}", TunnelKey::from_tunnel(tunnel))).collect();
        let all_rules: Vec<_> = tunnels.iter().map(rules_of).collect();
        let own: Vec<BTreeSet<_>> = all_rules.iter().map(|rules_of| filter(rules_of).chains.iter().cloned().collect()).collect();
        let names: BTreeSet<_> = own.iter().collect();
        prop_assert_eq!(names.len(), keys.len());
        for chain in own.iter().flatten() {
            prop_assert!(chain.as_str().len() <= LONGEST_CHAIN_NAME);
        }
    }

    #[test]
    fn blocks_of_unlike_networks_have_unlike_chains(networks in prop::collection::vec(prop_oneof![network(), network_v6()], 2..30)) {
        use pluto_updown::firewall::{DispatchBucket, PacketPath, Precedence};
        use pluto_updown::net::Network;
        let blocks: BTreeSet<_> = networks
            .iter()
            .map(|text| text.parse::<Network>().expect("a network"))
            .flat_map(|network| PacketPath::ALL.map(|path| (path, network)))
            .flat_map(|(path, network)| Precedence::ALL.map(|precedence| DispatchBucket::for_remote(path, precedence, &network)))
            .collect();
        let chains: BTreeSet<_> = blocks.iter().map(DispatchBucket::chain_name).collect();
        prop_assert_eq!(chains.len(), blocks.len());
        for block in blocks {
            prop_assert_eq!(DispatchBucket::from_name(block.path, &block.name_in_path()), Some(block));
        }
    }
}

#[test]
fn two_names_that_look_alike_in_a_chain_are_two_chains() {
    let networks = ("10.1.0.0/24".to_owned(), "10.2.0.0/24".to_owned());
    let named = |name: &str| tunnel(&[name.as_bytes().to_vec()], &networks, 1).expect("a tunnel");
    let chains = |name: &str| filter(&rules_of(&named(name))).chains.clone();
    assert_ne!(chains("a/b"), chains("a b"));
    assert_ne!(chains("long-name-of-a-branch-1"), chains("long-name-of-a-branch-2"));
    assert_ne!(chains("a\\x5cb"), chains("a\\b"));
}

#[test]
fn a_plan_that_would_touch_the_administrators_rules_is_refused() {
    use pluto_updown::netfilter::{BuiltIn, Rule, Target};
    use pluto_updown::netfilter::{PlacedRule, RulePosition, Section};
    let networks = ("10.1.0.1/32".to_owned(), "10.2.0.0/24".to_owned());
    let rules_of = rules_of(&libreswans(&[b"net".to_vec()], &networks, 1, &[("CAT", "YES")]).expect("a tunnel"));
    let good = transition(&RulesetChange {
        added: vec![rules_of.clone()],
        ..RulesetChange::unchanged(site(Family::Ipv4))
    });
    assert_eq!(good.len(), 2);
    assert_eq!(plan_faults(&good), []);
    // How many faults one more rule makes, in each of the two tables.
    let more = |table: Table, chain, verdict| {
        let placed = PlacedRule {
            chain,
            position: RulePosition::Head,
            rule: Rule::always(verdict),
        };
        let mut sections: Vec<Section> = good.clone();
        let mut meant = sections.iter_mut().filter(|section| section.table == table);
        meant
            .next()
            .expect("the table")
            .commands
            .push(RestoreCommand::from(placed));
        plan_faults(&sections).len()
    };
    let old: ChainName = "PLUTO-old".parse().expect("a name");
    let address = "10.1.0.1".parse().expect("an address");
    for table in [Table::Filter, Table::Nat] {
        assert_eq!(more(table, BuiltIn::Forward.into(), Target::Accept), 1);
        assert_eq!(more(table, BuiltIn::PostRouting.into(), Target::Snat(address)), 1);
        // In the nat table it lets nothing in.
        let opens = usize::from(table == Table::Filter);
        assert_eq!(more(table, (&old).into(), Target::Accept), opens);
        assert_eq!(more(table, (&old).into(), Target::Dnat(address)), 1);
        // A way into the tunnel's chain for packets that did not come by IPsec.
        let own = &rules_of.fragment(table).expect("something there").chains[0];
        assert_eq!(more(table, (&old).into(), Target::Jump(own.clone())), 1);
        // The mark changes where consent is noted and asked for, and no tunnel's chain or bucket leads to all tunnels.
        assert_eq!(more(table, own.into(), Target::SetMark(MarkBit::DEFAULT)), 1);
        assert_eq!(more(table, own.into(), Target::ClearMark(MarkBit::DEFAULT)), 1);
        let all: ChainName = "PLUTO-FO".parse().expect("a name");
        assert_eq!(more(table, own.into(), Target::Goto(all.clone())), 1);
        assert_eq!(more(table, (&old).into(), Target::Jump(all)), 1);
        // A translation of the tunnel's own is none in the filter table.
        let expected = usize::from(table == Table::Filter);
        assert_eq!(more(table, own.into(), Target::Snat(address)), expected);
    }
}
