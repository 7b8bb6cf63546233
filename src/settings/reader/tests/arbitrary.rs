//! Properties over generated settings and texts.

use ipnet::IpNet;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};

use super::rendered::rendered;
use super::*;
use crate::settings::connection::PolicyOverrides;
use crate::settings::gateway::{Gateway, IpsecOnlyScope, JumpPlace, Through};
use crate::settings::policy::{Allow, Mss, Nat, WhenDown};

fn one_of<T: Clone + std::fmt::Debug + 'static>(words: &'static [(&'static str, T)]) -> impl Strategy<Value = T> {
    select(words).prop_map(|(_, meaning)| meaning)
}

/// Some of some texts, each once.
fn some<T: std::str::FromStr<Err: std::fmt::Debug> + std::fmt::Debug>(
    texts: &'static [&'static str],
    least: usize,
) -> impl Strategy<Value = Vec<T>> {
    subsequence(texts, least..=texts.len())
        .prop_shuffle()
        .prop_map(|texts| texts.into_iter().map(|text| text.parse().unwrap()).collect())
}

const NETWORKS: [&str; 6] = [
    "192.0.2.1/32",
    "198.51.100.0/24",
    "0.0.0.0/0",
    "2001:db8::/32",
    "fd00::1/128",
    "::/0",
];

const SERVICES: [&str; 9] = [
    "tcp/22",
    "udp/33434:33633",
    "icmp/8",
    "icmpv6/128",
    "gre",
    "protocol/89",
    "ping",
    "l2tp",
    "ipsec",
];

fn gateways() -> impl Strategy<Value = Gateway> {
    let through = prop_oneof![one_of(&gateway::THROUGH), some(&NETWORKS, 1).prop_map(Through::Listed)];
    let interfaces = some(&["eth1", "ppp+", "br-lan"], 0);
    let words = (
        one_of(&gateway::IKE),
        one_of(&gateway::ESP),
        one_of(&gateway::ICMP),
        one_of(&gateway::PLACE),
        (0..32u32).prop_map(|bit| (1u32 << bit).to_string().parse().unwrap()),
    );
    let lists = (
        some(&NETWORKS, 1),
        some::<IpNet>(&NETWORKS, 0),
        interfaces,
        some(&["l2tp", "gre", "tcp/22"], 0),
    );
    (words, through, lists).prop_map(
        |((ike, esp, icmp, place, mark), through, (peers, only, interfaces, inner_only))| {
            let interfaces = interfaces.into_iter().map(IpsecOnlyScope::Interface);
            Gateway {
                ike,
                esp,
                peers,
                through,
                only_ipsec: interfaces.chain(only.into_iter().map(IpsecOnlyScope::Peer)).collect(),
                icmp,
                inner_only,
                place,
                mark,
            }
        },
    )
}

fn keys() -> impl Strategy<Value = PolicyOverrides> {
    let allow = prop_oneof![one_of(&policy::ALLOW), some(&SERVICES, 1).prop_map(Allow::Services)];
    let address = select(&["10.9.9.1", "fd00::9"][..]).prop_map(|text| Nat::Address(text.parse().unwrap()));
    let nat = prop_oneof![one_of(&policy::NAT), address];
    let size = (536..=65495u16).prop_map(|bytes| Mss::Fixed(bytes.try_into().unwrap()));
    let mss = prop_oneof![one_of(&policy::MSS), size];
    let chain =
        option::of("[A-Za-z0-9_][A-Za-z0-9._-]{0,10}x").prop_map(|chain| chain.map(|name| name.parse().unwrap()));
    let words: (_, _, _, _) = (
        option::of(one_of(&policy::HOST_ACCESS)),
        option::of(one_of(&policy::LOG)),
        option::of(one_of(&policy::WHEN_DOWN)),
        option::of(one_of(&policy::ON_ERROR)),
    );
    let bypass = subsequence(NETWORKS.to_vec(), 0..=2);
    let bypass = option::of(option::of(
        bypass.prop_map(|all| all.iter().map(|text| text.parse().unwrap()).collect()),
    ));
    let others = (
        option::of(allow),
        option::of(nat),
        bypass,
        option::of(mss),
        option::of(chain),
    );
    (words, others).prop_map(
        |((host_access, log, when_down, on_error), (allow, nat, bypass, mss, chain))| PolicyOverrides {
            allow,
            host_access,
            nat,
            bypass,
            mss,
            log,
            when_down,
            chain,
            on_error,
        },
    )
}

fn connections() -> impl Strategy<Value = ConnectionSettings> {
    // Printable, with everything that TOML escapes.
    let pattern = || option::of("[ -~]{1,12}");
    let network = option::of(select(&NETWORKS[..]).prop_map(|text| text.parse().unwrap()));
    let pair = |local: &str, remote: &str| (local.parse().unwrap(), remote.parse().unwrap());
    let pairs = vec![pair("10.1.0.0/24", "10.2.0.0/24"), pair("fd01::/64", "::/0")];
    let between = subsequence(pairs, 0..=2);
    (pattern(), pattern(), pattern(), network, keys(), between).prop_map(
        |(name, peer_id, user, peer_network, keys, between)| ConnectionSettings {
            filter: ConnectionFilter {
                name: name.map(|text| text.parse().unwrap()),
                remote_id: peer_id.map(|text| text.parse().unwrap()),
                user: user.map(|text| text.parse().unwrap()),
                remote_network: peer_network,
            },
            overrides: keys,
            between,
        },
    )
}

/// Settings that a file can have: what the checks refuse is corrected.
fn all_settings() -> impl Strategy<Value = Settings> {
    (gateways(), keys(), vec(connections(), 0..6)).prop_map(|(mut gateway, keys, mut connections)| {
        let tunnel = keys.apply_to(&Policy::default());
        let mut seen = std::collections::HashSet::new();
        connections.retain(|entry| {
            entry.filter != ConnectionFilter::default()
                && !entry.filter.is_everyone()
                && seen.insert(entry.filter.clone())
        });
        let down = |keys: &PolicyOverrides| keys.apply_to(&tunnel).when_down;
        for entry in &mut connections {
            if down(&entry.overrides) == WhenDown::Leave {
                entry.between.clear();
            }
        }
        let blocks = tunnel.when_down == WhenDown::Block
            || connections
                .iter()
                .any(|entry| down(&entry.overrides) == WhenDown::Block);
        if gateway.place == JumpPlace::Last
            && (blocks || !gateway.only_ipsec.is_empty() || !gateway.inner_only.is_empty())
        {
            gateway.place = JumpPlace::First;
        }
        Settings {
            gateway,
            tunnel,
            connections,
        }
    })
}

/// A part of a file, right or wrong.
fn pieces() -> impl Strategy<Value = String> {
    let names = [&GATEWAY[..], &TUNNEL, &CONNECTION, &TABLES].concat();
    let values = [
        "\"all\"",
        "\"block\"",
        "\"last\"",
        "\"known\"",
        "\"*\"",
        "[]",
        "[[]]",
        "{}",
        "1360",
        "-1",
        "1.5",
        "true",
        "1979-05-27",
        "\"192.0.2.1\"",
        "[\"192.0.2.1/24\"]",
        "[\"tcp/22\", \"ping\"]",
        "[[\"10.1.0.0/24\", \"10.2.0.0/24\"]]",
        "'\u{9b}'",
        "\"\\u0000\"",
        "all",
        "\"",
    ];
    let header = select(
        &[
            "[gateway]\n",
            "[tunnel]\n",
            "[[connection]]\n",
            "[connection]\n",
            "[\u{e4}]\n",
        ][..],
    );
    let line = (select(names), select(values.to_vec())).prop_map(|(name, value)| format!("{name} = {value}\n"));
    prop_oneof![
        2 => header.prop_map(str::to_owned),
        6 => line,
        1 => ".{0,20}\n",
    ]
}

fn assert_well_reported(text: &str) {
    if let Err(Malformed { line, message }) = Settings::parse(text) {
        assert!(message.bytes().all(|byte| (b' '..=b'~').contains(&byte)), "{message:?}");
        assert!(
            ["expected ", "not TOML: ", "needs at least one of ", "never used: "]
                .iter()
                .any(|part| message.contains(part)),
            "{message}"
        );
        assert!(
            (1..=text.matches('\n').count() + 1).contains(&line),
            "line {line} of {text:?}"
        );
    }
}

proptest! {
    #![proptest_config(crate::property::cases(256))]

    #[test]
    fn settings_are_read_as_they_are_written(settings in all_settings()) {
        let text = rendered(&settings);
        prop_assert_eq!(Settings::parse(&text), Ok(settings), "{}", text);
    }

    #[test]
    fn any_text_is_read_or_refused_in_one_line(text in any::<String>()) {
        assert_well_reported(&text);
    }

    #[test]
    fn any_pieces_are_read_or_refused_in_one_line(pieces in vec(pieces(), 0..12)) {
        assert_well_reported(&pieces.concat());
    }

    #[test]
    fn a_file_that_was_cut_or_garbled_is_read_or_refused_in_one_line(
        settings in all_settings(),
        cut in any::<prop::sample::Index>(),
        put in "[ -~\n]{0,2}",
    ) {
        let mut text = rendered(&settings);
        // All of it is ASCII.
        text.insert_str(cut.index(text.len()), &put);
        assert_well_reported(&text);
        assert_well_reported(&text[..cut.index(text.len())]);
    }
}

/// How long this thread has run, in nanoseconds: what else the machine does must not count. Brought
/// up to date at every tick.
fn on_the_processor() -> u64 {
    let figures = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    figures.split(' ').next().unwrap().parse().unwrap()
}

/// How long it takes to read files of so many connections, as often as makes the same number of
/// connections.
fn time_with(connections: usize) -> u64 {
    let entry = |number: usize| {
        format!("[[connection]]\nname = \"road-{number}\"\nallow = [\"tcp/22\", \"ping\"]\nlog = \"new\"\n")
    };
    let peer = |number: usize| format!("\"10.{}.{}.1\"", number / 256, number % 256);
    let peers: Vec<_> = (0..connections).map(peer).collect();
    let entries: String = (0..connections).map(entry).collect();
    let text = format!("[gateway]\npeers = [{}]\n{entries}", peers.join(", "));
    let begin = on_the_processor();
    for _ in 0..12_000 / connections {
        Settings::parse(&text).unwrap();
    }
    on_the_processor() - begin
}

#[test]
fn a_connection_takes_as_long_in_a_long_file_as_in_a_short_one() {
    let (short, long) = (time_with(200), time_with(12_000));
    assert!(long < 4 * short, "{short} {long} ns: sixty times would be the square");
}
