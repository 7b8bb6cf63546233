//! What is understood, key by key.

use std::net::IpAddr;

use super::*;
use crate::settings::connection::PolicyOverrides;
use crate::settings::gateway::{Gateway, IpsecOnlyScope, JumpPlace, Through};
use crate::settings::policy::{Allow, GatewayAccess, Mss, Nat, OnError, PacketLog, WhenDown};

fn parsed(text: &str) -> Settings {
    Settings::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn of_gateway(line: &str) -> Gateway {
    parsed(&format!("[gateway]\n{line}\n")).gateway
}

/// The same in `[tunnel]` and in a `[[connection]]`.
fn of_tunnel(line: &str) -> Policy {
    let policy = parsed(&format!("[tunnel]\n{line}\n")).tunnel;
    let entry = parsed(&format!("[[connection]]\nname = \"a\"\n{line}\n"));
    assert_eq!(
        entry.connections[0].overrides.apply_to(&Policy::default()),
        policy,
        "{line}"
    );
    policy
}

#[test]
fn nothing_is_set_in_a_file_of_comments() {
    for text in [
        "",
        "# nothing yet\n",
        "\u{feff}[gateway]\n[tunnel]\n",
        "connection = []\n",
    ] {
        assert_eq!(parsed(text), Settings::default(), "{text}");
    }
}

#[test]
fn every_word_of_the_gateway_is_understood() {
    for (word, ike) in gateway::IKE {
        let peers = "peers = [\"192.0.2.1\"]";
        assert_eq!(of_gateway(&format!("{peers}\nike = \"{word}\"")).ike, ike);
    }
    for (word, esp) in gateway::ESP {
        let peers = "peers = [\"192.0.2.1\"]";
        assert_eq!(of_gateway(&format!("{peers}\nesp = \"{word}\"")).esp, esp);
    }
    for (word, through) in gateway::THROUGH {
        assert_eq!(of_gateway(&format!("through = \"{word}\"")).through, through);
    }
    for (word, icmp) in gateway::ICMP {
        assert_eq!(of_gateway(&format!("icmp = \"{word}\"")).icmp, icmp);
    }
    for (word, place) in gateway::PLACE {
        assert_eq!(of_gateway(&format!("place = \"{word}\"")).place, place);
    }
}

#[test]
fn the_lists_of_the_gateway_are_understood() {
    let both = ["192.0.2.1/32", "2001:db8::/32"].map(|network| network.parse().unwrap());
    assert_eq!(of_gateway("peers = [\"192.0.2.1\", \"2001:db8::/32\"]").peers, both);
    assert_eq!(of_gateway("peers = []"), Gateway::default());
    assert_eq!(
        of_gateway("through = [\"192.0.2.1/32\", \"2001:DB8::/32\"]").through,
        Through::Listed(both.to_vec())
    );
    let neighbours =
        of_gateway("only-ipsec = [\"eth1\", \"ppp+\", \"eth0.10\", \"192.0.2.1\", \"2001:db8::/32\"]").only_ipsec;
    let interfaces = ["eth1", "ppp+", "eth0.10"].map(|interface| IpsecOnlyScope::Interface(interface.parse().unwrap()));
    assert_eq!(neighbours, [&interfaces[..], &both.map(IpsecOnlyScope::Peer)].concat());
    let services = ["l2tp", "gre", "tcp/22", "ipip", "udp/501:4499", "udp/1701", "tcp"];
    let inner = of_gateway(&format!("inner-only = {services:?}")).inner_only;
    assert_eq!(inner, services.map(|service| service.parse().unwrap()));
}

#[test]
fn every_word_of_a_tunnel_is_understood() {
    let set = |line: &str, policy: Policy| assert_eq!(of_tunnel(line), policy, "{line}");
    let base = Policy::default;
    for (word, allow) in [("all", Allow::All), ("replies", Allow::Replies), ("none", Allow::None)] {
        set(&format!("allow = \"{word}\""), Policy { allow, ..base() });
    }
    for (word, host_access) in [
        ("auto", GatewayAccess::Auto),
        ("yes", GatewayAccess::Yes),
        ("no", GatewayAccess::No),
    ] {
        set(&format!("host-access = \"{word}\""), Policy { host_access, ..base() });
    }
    for (word, log) in [
        ("leave", PacketLog::Leave),
        ("new", PacketLog::New),
        ("denied", PacketLog::Denied),
        ("all", PacketLog::All),
    ] {
        set(&format!("log = \"{word}\""), Policy { log, ..base() });
    }
    for (word, when_down) in [("leave", WhenDown::Leave), ("block", WhenDown::Block)] {
        set(&format!("when-down = \"{word}\""), Policy { when_down, ..base() });
    }
    for (word, on_error) in [
        ("refuse", OnError::Refuse),
        ("continue", OnError::Continue),
        ("auto", OnError::Auto),
    ] {
        set(&format!("on-error = \"{word}\""), Policy { on_error, ..base() });
    }
}

#[test]
fn what_is_no_word_of_a_tunnel_is_understood() {
    let set = |line: &str, policy: Policy| assert_eq!(of_tunnel(line), policy, "{line}");
    let base = Policy::default;
    let services = ["tcp/22", "ping", "icmp/echo-request", "udp/33434-33633"];
    let allow = Allow::Services(services.map(|service| service.parse().unwrap()).to_vec());
    set(&format!("allow = {services:?}"), Policy { allow, ..base() });
    let address = |text: &str| Nat::Address(text.parse::<IpAddr>().unwrap());
    for (text, nat) in [
        ("exempt", Nat::Exempt),
        ("masquerade", Nat::Masquerade),
        ("leave", Nat::Leave),
        ("10.9.9.1", address("10.9.9.1")),
        ("fd00::1", address("fd00::1")),
    ] {
        set(&format!("nat = \"{text}\""), Policy { nat, ..base() });
    }
    let fixed = |bytes: u16| Mss::Fixed(bytes.try_into().unwrap());
    for (text, mss) in [
        ("\"leave\"", Mss::Leave),
        ("\"pmtu\"", Mss::PathMtu),
        ("536", fixed(536)),
        ("65495", fixed(65495)),
        ("1_360", fixed(1360)),
    ] {
        set(&format!("mss = {text}"), Policy { mss, ..base() });
    }
    let chain = Some("vpn-in".parse().unwrap());
    set("chain = \"vpn-in\"", Policy { chain, ..base() });
    set("chain = \"\"", base());
}

#[test]
fn a_connection_lifts_what_the_tunnels_have() {
    let text = "[tunnel]\nchain = \"vpn-in\"\n[[connection]]\nname = \"a\"\nchain = \"\"\n";
    assert_eq!(
        parsed(text).connections[0].overrides,
        PolicyOverrides {
            chain: Some(None),
            ..PolicyOverrides::default()
        }
    );
}

#[test]
fn a_connection_says_for_whom_it_counts() {
    let who = |line: &str| {
        parsed(&format!("[[connection]]\n{line}\n"))
            .connections
            .remove(0)
            .filter
    };
    let name = Some("road-*".parse().unwrap());
    assert_eq!(
        who("name = \"road-*\""),
        ConnectionFilter {
            name,
            ..ConnectionFilter::default()
        }
    );
    let remote_id = Some("C=CH, O=staff, CN=*".parse().unwrap());
    assert_eq!(
        who("peer-id = \"C=CH, O=staff, CN=*\""),
        ConnectionFilter {
            remote_id,
            ..ConnectionFilter::default()
        }
    );
    let user = Some("anna".parse().unwrap());
    assert_eq!(
        who("user = \"anna\""),
        ConnectionFilter {
            user,
            ..ConnectionFilter::default()
        }
    );
    let remote_network = Some("10.9.0.0/16".parse().unwrap());
    assert_eq!(
        who("peer-network = \"10.9.0.0/16\""),
        ConnectionFilter {
            remote_network,
            ..ConnectionFilter::default()
        }
    );
}

#[test]
fn pairs_may_be_wherever_the_block_comes_from() {
    let pairs = "between = [[\"10.1.0.0/24\", \"10.2.0.0/24\"], [\"fd01::/64\", \"fd02::1\"]]";
    let own = format!("[[connection]]\nname = \"a\"\nwhen-down = \"block\"\n{pairs}\n");
    let inherited = format!("[[connection]]\nname = \"a\"\n{pairs}\n[tunnel]\nwhen-down = \"block\"\n");
    for text in [own, inherited] {
        let between = parsed(&text).connections.remove(0).between;
        let pair = |local: &str, remote: &str| (local.parse().unwrap(), remote.parse().unwrap());
        assert_eq!(
            between,
            [pair("10.1.0.0/24", "10.2.0.0/24"), pair("fd01::/64", "fd02::1/128")]
        );
    }
    parsed("[[connection]]\nname = \"a\"\nbetween = []\n");
}

#[test]
fn last_is_a_place_for_what_only_accepts() {
    let text = "[gateway]\nplace = \"last\"\n[tunnel]\nwhen-down = \"leave\"\n[[connection]]\nname = \"*\"\nallow = \"replies\"\n";
    assert_eq!(parsed(text).gateway.place, JumpPlace::Last);
}

#[test]
fn one_for_every_tunnel_may_be_at_the_end() {
    let text =
        "[[connection]]\nname = \"a\"\n[[connection]]\nname = \"*\"\npeer-id = \"*\"\n[[connection]]\nname = \"*\"\n";
    assert_eq!(parsed(text).connections.len(), 3);
}

#[test]
fn a_key_of_the_lists_is_one_that_the_reader_knows() {
    let tables = [
        ("[gateway]", &GATEWAY[..]),
        ("[tunnel]", &TUNNEL),
        ("[[connection]]", &TUNNEL),
        ("[[connection]]", &CONNECTION),
    ];
    for (table, keys) in tables {
        for key in keys {
            // A date is what no key takes.
            let message = Settings::parse(&format!("{table}\n{key} = 1979-05-27\n"))
                .unwrap_err()
                .message;
            assert!(message.contains("found the date 1979-05-27, expected "), "{message}");
        }
    }
}
