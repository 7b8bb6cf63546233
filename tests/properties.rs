//! What must hold for every tunnel there can be, whatever its daemon or its peer calls it.

mod support;

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;

use pluto_updown::contract::{Duty, Snapshot, Tunnel, read};
use pluto_updown::netfilter::{ChainName, Command, LONGEST_CHAIN_NAME, Listing, restore_text};
use pluto_updown::plan::{Change, Layout, TunnelKey, faults, lay_out, rebuild, transition};
use proptest::prelude::*;
use support::emulator::Emulator;
use support::world::strongswan;

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

/// A call with these words in every variable that takes words, between these networks.
fn tunnel(words: &[Vec<u8>], networks: &(String, String), reqid: u32) -> Option<Tunnel> {
    let variables = strongswan("up-client", "name", reqid, &networks.0, &networks.1);
    let mut pairs: Vec<(OsString, OsString)> = variables
        .lines()
        .filter_map(|line| line.split_once('='))
        .map(|(name, value)| (name.into(), value.into()))
        .collect();
    for (name, word) in ["PLUTO_CONNECTION", "PLUTO_PEER_ID", "PLUTO_MY_ID", "PLUTO_XAUTH_ID"]
        .iter()
        .zip(words)
    {
        pairs.push((name.into(), OsString::from_vec(word.clone())));
    }
    match read(&Snapshot::new([], pairs)).expect("words are only words").duty {
        Duty::Open(tunnel) => Some(*tunnel),
        Duty::Close(_) | Duty::Nothing => None,
    }
}

fn layout(tunnel: &Tunnel) -> Layout {
    let id = TunnelKey::of(tunnel).ids().next().expect("a first name");
    lay_out(tunnel, &id, &[])
}

fn any_tunnel() -> impl Strategy<Value = Tunnel> {
    let networks = prop_oneof![2 => (network(), network()), 1 => (network_v6(), network_v6())];
    (prop::collection::vec(bytes(), 4), networks, 1..1000_u32)
        .prop_filter_map("a tunnel", |(words, networks, reqid)| tunnel(&words, &networks, reqid))
}

/// The one line that a rule may be: no quote but the two around a comment, no byte that is not printable ASCII.
fn is_plain(line: &str) -> bool {
    let printable = line.bytes().all(|byte| matches!(byte, b' '..=b'~'));
    let quotes = line.matches('"').count();
    printable && (quotes == 0 || (quotes == 2 && line.contains("--comment \""))) && !line.contains('\\')
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nothing_in_a_transaction_is_anybodys_words(tunnel in any_tunnel()) {
        let layout = layout(&tunnel);
        let up = transition(&Change { come: vec![layout.clone()], ..Change::default() });
        let down = transition(&Change { gone: vec![layout.clone()], ..Change::default() });
        let anew = rebuild(&[layout], &Listing::default());
        for commands in [&up, &down, &anew] {
            let text = restore_text(commands);
            prop_assert_eq!(text.lines().count(), commands.len() + 2);
            for line in text.lines() {
                prop_assert!(is_plain(line), "{}", line);
            }
            prop_assert_eq!(faults(commands), vec![]);
        }
    }

    #[test]
    fn what_goes_in_comes_out(tunnels in prop::collection::vec(any_tunnel(), 1..4)) {
        let family = tunnels[0].family();
        let layouts: Vec<_> = tunnels.iter().filter(|tunnel| tunnel.family() == family).map(layout).collect();
        let mut table = Emulator::new();
        let before = table.save();
        let up = transition(&Change { come: layouts.clone(), ..Change::default() });
        prop_assert_eq!(table.restore(&restore_text(&up)), Ok(()));
        let down = transition(&Change { gone: layouts, ..Change::default() });
        prop_assert_eq!(table.restore(&restore_text(&down)), Ok(()));
        prop_assert_eq!(table.save(), before);
    }

    #[test]
    fn chains_of_unlike_tunnels_have_unlike_names(tunnels in prop::collection::vec(any_tunnel(), 2..30)) {
        let keys: BTreeSet<String> = tunnels.iter().map(|tunnel| format!("{:?}", TunnelKey::of(tunnel))).collect();
        let layouts: Vec<_> = tunnels.iter().map(layout).collect();
        let own: Vec<BTreeSet<_>> = layouts.iter().map(|layout| layout.piece.chains.iter().cloned().collect()).collect();
        let names: BTreeSet<_> = own.iter().collect();
        prop_assert_eq!(names.len(), keys.len());
        for chain in own.iter().flatten() {
            prop_assert!(chain.as_str().len() <= LONGEST_CHAIN_NAME);
        }
    }

    #[test]
    fn blocks_of_unlike_networks_have_unlike_chains(networks in prop::collection::vec(prop_oneof![network(), network_v6()], 2..30)) {
        use pluto_updown::plan::{Block, Path};
        use pluto_updown::selector::Network;
        let blocks: BTreeSet<_> = networks
            .iter()
            .map(|text| text.parse::<Network>().expect("a network"))
            .flat_map(|network| Path::ALL.map(|path| Block::of(path, &network)))
            .collect();
        let chains: BTreeSet<_> = blocks.iter().map(Block::chain).collect();
        prop_assert_eq!(chains.len(), blocks.len());
    }
}

#[test]
fn two_names_that_look_alike_in_a_chain_are_two_chains() {
    let networks = ("10.1.0.0/24".to_owned(), "10.2.0.0/24".to_owned());
    let named = |name: &str| tunnel(&[name.as_bytes().to_vec()], &networks, 1).expect("a tunnel");
    let chains = |name: &str| layout(&named(name)).piece.chains;
    assert_ne!(chains("a/b"), chains("a b"));
    assert_ne!(chains("long-name-of-a-branch-1"), chains("long-name-of-a-branch-2"));
    assert_ne!(chains("a\\x5cb"), chains("a\\b"));
}

#[test]
fn a_plan_that_would_touch_the_administrators_rules_is_refused() {
    use pluto_updown::netfilter::{BuiltIn, Place, Placed, Rule, Verdict};
    let networks = ("10.1.0.0/24".to_owned(), "10.2.0.0/24".to_owned());
    let layout = layout(&tunnel(&[b"net".to_vec()], &networks, 1).expect("a tunnel"));
    let good = transition(&Change {
        come: vec![layout.clone()],
        ..Change::default()
    });
    assert_eq!(faults(&good), []);
    let with = |placed: Placed| good.iter().cloned().chain([Command::Put(placed)]).collect::<Vec<_>>();
    let accept = |chain| Placed {
        chain,
        place: Place::Head,
        rule: Rule::always(Verdict::Accept),
    };
    assert_eq!(faults(&with(accept(BuiltIn::Forward.into()))).len(), 1);
    let old: ChainName = "PLUTO-old".parse().expect("a name");
    assert_eq!(faults(&with(accept((&old).into()))).len(), 1);
    // A way into the tunnel's chain for packets that did not come by IPsec.
    let target = layout.piece.chains[0].clone();
    let open = Placed {
        chain: (&old).into(),
        place: Place::Head,
        rule: Rule::always(Verdict::Jump(target)),
    };
    assert_eq!(faults(&with(open)).len(), 1);
}
