//! What a tunnel is made of, but for its traffic and its attachment.

use super::*;
use crate::daemon::{Daemon, Scope, UpCounting};

#[test]
fn up_opens_down_closes_and_the_rest_does_nothing() {
    for (verb, opens, closes) in [
        ("up-client", true, false),
        ("up-host-v6", true, false),
        ("prepare-route-up", true, false),
        ("prepare-up", true, false),
        ("down-client-v6", false, true),
        ("prepare-client", false, false),
        ("route-client", false, false),
        ("unroute-client", false, false),
        ("prepare-route", false, false),
        ("updateresolvconf-client", false, false),
    ] {
        let event = libreswan54().with("PLUTO_VERB", verb).parse_event().unwrap();
        assert_eq!(event.verb.to_string(), verb);
        assert_eq!(matches!(event.firewall, FirewallAction::Open(_)), opens, "{verb}");
        assert_eq!(matches!(event.firewall, FirewallAction::Close(_)), closes, "{verb}");
    }
}

#[test]
fn a_verb_must_be_there_and_known() {
    assert_eq!(
        strongswan().without("PLUTO_VERB").event_error(),
        "PLUTO_VERB is missing"
    );
    assert_eq!(
        strongswan().with("PLUTO_VERB", "rekey-client").event_error(),
        "PLUTO_VERB: \"rekey-client\": expected <operation>-host or <operation>-client, with -v6 or without, \
         or a join such as prepare-route-up"
    );
}

#[test]
fn a_call_is_understood() {
    let Event {
        daemon,
        verb,
        firewall: action,
        routing,
        resolver: _,
    } = libreswan4().parse_event().unwrap();
    assert_eq!(
        (daemon.to_string(), verb.to_string()),
        ("libreswan 3 or 4".into(), "up-client".into())
    );
    let FirewallAction::Open(tunnel) = action else {
        panic!("{action:?}")
    };
    assert_eq!(tunnel.connection.as_str(), "net-net");
    assert_eq!(tunnel.local_client.to_string(), "10.1.0.0/24");
    assert_eq!(tunnel.remote_client.to_string(), "10.2.0.0/24");
    assert_eq!(tunnel.local_host, "192.0.2.1".parse().ok());
    assert_eq!(tunnel.remote_host, "198.51.100.1".parse().ok());
    assert_eq!(
        (tunnel.local_id.as_str(), tunnel.remote_id.as_str()),
        ("@west", "@east")
    );
    assert_eq!(routing.unwrap().remote_client, tunnel.remote_client);
}

#[test]
fn the_family_is_that_of_the_networks_whatever_the_verb_says() {
    let six = libreswan4()
        .with("PLUTO_MY_CLIENT", "2001:db8:1::/64")
        .with("PLUTO_PEER_CLIENT", "::/0");
    assert_eq!(six.tunnel().family().to_string(), "ipv6");
    assert_eq!(
        libreswan4()
            .with("PLUTO_VERB", "up-client-v6")
            .tunnel()
            .family()
            .to_string(),
        "ipv4"
    );
}

#[test]
fn networks_of_two_families_are_refused() {
    assert_eq!(
        strongswan().with("PLUTO_PEER_CLIENT", "2001:db8::/64").event_error(),
        "PLUTO_MY_CLIENT is \"10.1.0.0/24\" and PLUTO_PEER_CLIENT is \"2001:db8::/64\": expected networks of one family"
    );
}

#[test]
fn networks_are_prefixes_or_ranges() {
    let client = |text: &str| libreswan54().with("PLUTO_PEER_CLIENT", text);
    assert_eq!(
        client("10.2.0.5-10.2.0.9").tunnel().remote_client.to_string(),
        "10.2.0.5-10.2.0.9"
    );
    for text in ["10.2.0.0/33", "10.2.0.0/", "10.2.0.0/255.255.255.0", "10.2.0.0/24\n"] {
        let error = client(text).event_error();
        assert!(error.starts_with("PLUTO_PEER_CLIENT: \"10.2.0.0"), "{error}");
        assert!(
            error.ends_with("\": expected an address with a prefix length, or a range of addresses"),
            "{error}"
        );
    }
    for text in ["", "NULL", "%any", "<unset-address>"] {
        assert_eq!(client(text).event_error(), "PLUTO_PEER_CLIENT is missing", "{text}");
        assert_eq!(
            client(text).with("PLUTO_MY_CLIENT", text).event_error(),
            "PLUTO_MY_CLIENT is missing",
            "{text}"
        );
    }
}

#[test]
fn a_verb_without_a_scope_has_that_of_our_network() {
    let scope = |client: &str| {
        let call = libreswan54()
            .with("PLUTO_VERB", "prepare-up")
            .with("PLUTO_MY_CLIENT", client);
        (call.tunnel().scope, call.without("PLUTO_ME").tunnel().scope)
    };
    assert_eq!(scope("10.1.0.0/24"), (Scope::Client, Scope::Client));
    assert_eq!(scope("192.0.2.1/32"), (Scope::Host, Scope::Client));
    assert_eq!(scope("192.0.2.0/24"), (Scope::Client, Scope::Client));
}

#[test]
fn a_verb_with_a_scope_is_believed() {
    assert_eq!(libreswan54().with("PLUTO_VERB", "up-host").tunnel().scope, Scope::Host);
    assert_eq!(
        libreswan54().with("PLUTO_MY_CLIENT", "192.0.2.1/32").tunnel().scope,
        Scope::Client
    );
}

#[test]
fn only_strongswan_counts_and_only_instances_of_libreswan_are_many() {
    let kind = |kind: &str| libreswan4().with("PLUTO_CONN_KIND", kind).tunnel().up_counting;
    assert_eq!(strongswan().tunnel().up_counting, UpCounting::Counted);
    assert_eq!(kind("CK_PERMANENT"), UpCounting::Single);
    for many in ["CK_INSTANCE", "CK_GOING_AWAY", "CK_TEMPLATE", "CK_LABELED_CHILD"] {
        assert_eq!(kind(many), UpCounting::Instances, "{many}");
    }
    assert_eq!(
        libreswan4().without("PLUTO_CONN_KIND").tunnel().up_counting,
        UpCounting::Single
    );
    assert_eq!(openswan().tunnel().up_counting, UpCounting::Single);
    assert_eq!(freeswan().tunnel().up_counting, UpCounting::Single);
}

#[test]
fn words_for_no_address_are_no_address() {
    for text in [
        "",
        "NULL",
        "unknown",
        "%any",
        "%any6",
        "0.0.0.0",
        "::",
        "<unset-address>",
        "(null)",
    ] {
        let tunnel = strongswan().with("PLUTO_ME", text).with("PLUTO_PEER", text).tunnel();
        assert_eq!((tunnel.local_host, tunnel.remote_host), (None, None), "{text}");
    }
    let tunnel = strongswan().without("PLUTO_ME").without("PLUTO_PEER").tunnel();
    assert_eq!((tunnel.local_host, tunnel.remote_host), (None, None));
}

#[test]
fn an_address_that_is_none_is_refused() {
    for name in ["PLUTO_ME", "PLUTO_PEER", "PLUTO_MY_SOURCEIP"] {
        for text in ["192.0.2.256", "192.0.2.1/32", "east.example", " 192.0.2.1"] {
            let error = strongswan().with(name, text).event_error();
            assert_eq!(error, format!("{name}: \"{text}\": expected an address"));
        }
    }
}

#[test]
fn words_for_no_interface_are_names_like_others_elsewhere() {
    for text in ["unknown", "NULL", "%any"] {
        assert_eq!(
            strongswan().with("PLUTO_CONNECTION", text).tunnel().connection.as_str(),
            text
        );
        assert_eq!(
            strongswan().with("PLUTO_PEER_ID", text).tunnel().remote_id.as_str(),
            text
        );
    }
}

#[test]
fn a_connection_has_a_name() {
    assert_eq!(
        strongswan().without("PLUTO_CONNECTION").event_error(),
        "PLUTO_CONNECTION is missing"
    );
    assert_eq!(
        strongswan().with("PLUTO_CONNECTION", "").event_error(),
        "PLUTO_CONNECTION is missing"
    );
    assert_eq!(
        strongswan().with("PLUTO_CONNECTION", &"n".repeat(1025)).event_error(),
        format!(
            "PLUTO_CONNECTION: \"{}\"...: expected a name of 1 to 1024 bytes",
            "n".repeat(60)
        )
    );
    let raw = strongswan().with_bytes("PLUTO_CONNECTION", b"b\xfcro").tunnel();
    assert_eq!(raw.connection.as_str(), "b\\xfcro");
}

#[test]
fn identities_may_be_long_and_of_any_bytes() {
    let long = [0xff_u8; 9000];
    for name in ["PLUTO_MY_ID", "PLUTO_PEER_ID", "PLUTO_XAUTH_ID"] {
        let tunnel = strongswan().with_bytes(name, &long).tunnel();
        let cut = [Some(&tunnel.local_id), Some(&tunnel.remote_id), tunnel.user.as_ref()];
        assert!(
            cut.into_iter()
                .flatten()
                .any(|text| text.as_str().ends_with("\\xff\\...")),
            "{name}"
        );
    }
}

#[test]
fn an_identity_of_the_peer_must_be_there_to_open_but_may_be_empty() {
    assert_eq!(
        strongswan().without("PLUTO_PEER_ID").event_error(),
        "PLUTO_PEER_ID is missing"
    );
    assert!(strongswan().with("PLUTO_PEER_ID", "").tunnel().remote_id.is_empty());
    assert!(
        strongswan()
            .without("PLUTO_PEER_ID")
            .down()
            .tunnel()
            .remote_id
            .is_empty()
    );
    assert!(strongswan().without("PLUTO_MY_ID").tunnel().local_id.is_empty());
}

#[test]
fn other_values_may_not_be_long() {
    for name in [
        "PLUTO_CONNECTION",
        "PLUTO_MY_CLIENT",
        "PLUTO_ME",
        "PLUTO_REQID",
        "PLUTO_VERSION",
        "PLUTO_VERB",
    ] {
        let error = strongswan().with(name, &"1".repeat(4097)).event_error();
        assert_eq!(error, format!("{name} is 4097 bytes long: expected at most 4096"));
    }
}

#[test]
fn what_is_not_text_is_refused_and_shown_escaped() {
    let error = strongswan().with_bytes("PLUTO_MY_PORT", b"\xff\n80").event_error();
    assert_eq!(error, r#"PLUTO_MY_PORT: "\xff\x0a80": expected text"#);
}

#[test]
fn a_down_needs_no_more_than_an_up() {
    for (kind, call) in every_kind() {
        for name in call.names().into_iter().filter(|name| name != "PLUTO_VERB") {
            let (up, down) = (call.clone().without(&name), call.clone().down().without(&name));
            assert!(
                up.parse_event().is_err() || down.parse_event().is_ok(),
                "{kind} without {name}"
            );
        }
    }
}

#[test]
fn a_down_after_everything_has_moved_is_understood() {
    let moved = strongswan()
        .down()
        .with("PLUTO_INTERFACE", "unknown")
        .with("PLUTO_ME", "%any")
        .with("PLUTO_PEER", "%any6")
        .with("PLUTO_REQID", "0");
    assert!(matches!(
        moved.parse_event().unwrap(),
        Event {
            daemon: Daemon::StrongSwan,
            firewall: FirewallAction::Close(_),
            ..
        }
    ));
}

#[test]
fn a_bare_address_is_a_network_of_one() {
    for call in [libreswan4(), libreswan5()] {
        let tunnel = call.clone().with("PLUTO_PEER_CLIENT", "198.51.100.7").tunnel();
        assert_eq!(tunnel.remote_client.to_string(), "198.51.100.7/32");
    }
    let six = libreswan5()
        .with("PLUTO_MY_CLIENT", "2001:db8::1")
        .with("PLUTO_PEER_CLIENT", "2001:db8::7");
    assert_eq!(six.tunnel().remote_client.to_string(), "2001:db8::7/128");
}

#[test]
fn the_packets_of_a_peer_behind_nat_bear_its_outer_address_in_transport_mode() {
    let client = |call: SampleCall, policy: &str| {
        let call = call
            .with("PLUTO_PEER", "203.0.113.7")
            .with("PLUTO_PEER_CLIENT", "192.168.1.5/32");
        let tunnel = call.clone().with("PLUTO_CONN_POLICY", policy).tunnel();
        let down = call.down().with("PLUTO_CONN_POLICY", policy).tunnel();
        assert_eq!(tunnel.remote_client, down.remote_client);
        tunnel.remote_client.to_string()
    };
    let old = || libreswan4().with("PLUTO_VERSION", "2.0");
    assert_eq!(client(old(), "PSK+ENCRYPT+DONT_REKEY+IKEV1_ALLOW"), "203.0.113.7/32");
    assert_eq!(client(openswan(), "PSK+ENCRYPT+DONTREKEY"), "203.0.113.7/32");
    assert_eq!(client(old(), "PSK+ENCRYPT+TUNNEL+PFS"), "192.168.1.5/32");
    assert_eq!(client(old(), "PSK+TUNNELPLUTO_CONN_KIND=CK_INSTANCE"), "192.168.1.5/32");
    // From 4.4 on the daemon passes the outer address itself, if there is one.
    assert_eq!(client(libreswan4(), "PSK+ENCRYPT+DONT_REKEY"), "192.168.1.5/32");
    let network = old()
        .with("PLUTO_PEER_CLIENT", "10.2.0.0/24")
        .with("PLUTO_CONN_POLICY", "PSK");
    assert_eq!(network.tunnel().remote_client.to_string(), "10.2.0.0/24");
}

#[test]
fn a_kind_that_the_shell_has_joined_with_the_policy_counts() {
    let multiplicity = |kind: &str| {
        let call = libreswan4().without("PLUTO_CONN_KIND").with("PLUTO_VERSION", "2.0");
        let policy = format!("PSK+ENCRYPT+COMPRESSPLUTO_CONN_KIND={kind}");
        let tunnel = call.with("PLUTO_CONN_POLICY", &policy).tunnel();
        (tunnel.up_counting, tunnel.compression)
    };
    assert_eq!(
        multiplicity("CK_INSTANCE"),
        (UpCounting::Instances, crate::daemon::Compression::Ipcomp)
    );
    assert_eq!(
        multiplicity("CK_PERMANENT"),
        (UpCounting::Single, crate::daemon::Compression::Ipcomp)
    );
}

#[test]
fn a_call_about_routes_is_refused_where_it_cannot_be_understood() {
    for verb in ["prepare-client", "route-host", "unroute-client-v6", "prepare-route"] {
        let error = SampleCall::from_lines("").with("PLUTO_VERB", verb).event_error();
        assert_eq!(error, EnvError::NoDaemon.to_string());
        let nonsense = libreswan4()
            .with("PLUTO_VERB", verb)
            .with("PLUTO_PEER_CLIENT", "nonsense");
        assert!(
            nonsense.event_error().starts_with("PLUTO_PEER_CLIENT: \"nonsense\""),
            "{verb}"
        );
    }
}
