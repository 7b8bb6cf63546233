//! What calls ask of the resolver.

use super::*;
use crate::dns::{DnsConfig, DnsMeans, DnsRequest, NmReason, NmService, ResolverAction};

fn action(call: &SampleCall) -> ResolverAction {
    *call.parse_event().unwrap().resolver.expect("a duty")
}

fn offer(call: &SampleCall) -> DnsConfig {
    match action(call).names.expect("a user").request {
        DnsRequest::Use(offer) => offer,
        DnsRequest::GiveBack => panic!("nothing is offered"),
    }
}

fn list(items: &[impl ToString]) -> String {
    items.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}

/// What is left out of a call, as it is reported.
fn faults(call: &SampleCall) -> Vec<String> {
    action(call).faults.iter().map(ToString::to_string).collect()
}

#[test]
fn a_client_of_the_config_mode_uses_what_the_peer_offers() {
    for call in [libreswan4(), libreswan5(), libreswan54()] {
        let call = config_client(call);
        let offer = offer(&call);
        assert_eq!(list(&offer.servers), "10.2.0.53 2001:db8::53");
        assert_eq!(list(&offer.domains), "example.test corp.example.test");
        assert_eq!(offer.means, DnsMeans::File("eth0".parse().ok()));
        let user = action(&call).names.unwrap().user;
        assert_eq!(
            (
                user.connection.as_str(),
                user.local_client.to_string(),
                user.remote_client.to_string()
            ),
            ("net-net", "10.1.0.0/24".to_owned(), "10.2.0.0/24".to_owned())
        );
        assert_eq!(action(&call).notice, None);
    }
}

#[test]
fn the_suffix_of_the_verb_and_a_join_change_nothing() {
    let call = config_client(libreswan54());
    for verb in ["up-client-v6", "prepare-route-up", "prepare-up"] {
        let other = call.clone().with("PLUTO_VERB", verb);
        assert_eq!(action(&other), action(&call), "{verb}");
    }
}

#[test]
fn nobody_else_is_asked_anything_at_up() {
    for call in [
        libreswan4(),
        config_client(libreswan4()).with("PLUTO_CFG_CLIENT", "0"),
        config_client(libreswan4()).with("PLUTO_PEER_DNS_INFO", ""),
        config_client(libreswan4()).with("PLUTO_VERB", "up-host"),
        config_client(libreswan4()).with("PLUTO_VERB", "route-client"),
        config_client(libreswan54()).with("PLUTO_VERB", "prepare-route"),
        config_client(strongswan()),
        config_client(freeswan()),
        cisco_client().with("PLUTO_VERB", "up-client"),
        cisco_client().with("PLUTO_IS_PEER_CISCO", "0"),
    ] {
        assert_eq!(call.parse_event().unwrap().resolver, None, "{call:?}");
    }
}

#[test]
fn every_down_gives_back_whatever_it_says() {
    for call in [libreswan4(), config_client(libreswan54()), openswan()] {
        let user = action(&config_client(libreswan4())).names.unwrap().user;
        let given = action(&call.down()).names.unwrap();
        assert_eq!((given.user, given.request), (user, DnsRequest::GiveBack));
    }
    assert_eq!(strongswan().down().parse_event().unwrap().resolver, None);
}

#[test]
fn systemd_resolved_is_configured_on_the_interface_whoever_the_client_is() {
    let call = config_client(libreswan54()).with("PLUTO_DNS_RESOLVER", "systemd");
    let expected = DnsMeans::Systemd("eth0".parse().unwrap());
    for call in [
        call.clone(),
        call.clone().with("PLUTO_CFG_CLIENT", "0"),
        call.clone().with("PLUTO_PEER_DNS_INFO", ""),
        call.clone().with("PLUTO_VERB", "up-client-v6"),
        call.clone().with("PLUTO_INTERFACE", "eth0:1"),
    ] {
        assert_eq!(offer(&call).means, expected, "{call:?}");
    }
    let nothing = call
        .clone()
        .with("PLUTO_PEER_DNS_INFO", "")
        .with("PLUTO_PEER_DOMAIN_INFO", "");
    assert_eq!(nothing.parse_event().unwrap().resolver, None);
    assert_eq!(
        faults(&call.clone().with("PLUTO_INTERFACE", "NULL")),
        ["PLUTO_INTERFACE is missing"]
    );
    let unknown = call.with("PLUTO_DNS_RESOLVER", "dnsmasq");
    assert_eq!(
        faults(&unknown),
        ["PLUTO_DNS_RESOLVER: \"dnsmasq\": expected file or systemd"]
    );
    assert_eq!(action(&unknown).names, None);
}

#[test]
fn the_older_names_of_the_variables_are_known() {
    let call = config_client(libreswan3_klips())
        .without("PLUTO_PEER_DNS_INFO")
        .without("PLUTO_PEER_DOMAIN_INFO")
        .with("PLUTO_CISCO_DNS_INFO", "10.2.0.53")
        .with("PLUTO_CISCO_DOMAIN_INFO", "example.test");
    assert_eq!(list(&offer(&call).servers), "10.2.0.53");
    assert_eq!(list(&offer(&call).domains), "example.test");
}

#[test]
fn openswan_has_verbs_of_its_own_for_it() {
    let update = offer(&cisco_client());
    assert_eq!(list(&update.servers), "10.2.0.53 10.2.0.54");
    let restore = cisco_client().with("PLUTO_VERB", "restoreresolvconf-client");
    let (update, restore) = (action(&cisco_client()).names.unwrap(), action(&restore).names.unwrap());
    assert_eq!((restore.user, restore.request), (update.user, DnsRequest::GiveBack));
    let nameless = cisco_client().without("PLUTO_CONNECTION");
    assert_eq!(
        (faults(&nameless), action(&nameless).names),
        (vec!["PLUTO_CONNECTION is missing".into()], None)
    );
}

#[test]
fn what_is_no_address_or_domain_is_left_out_and_reported_once() {
    let call = config_client(libreswan4())
        .with(
            "PLUTO_PEER_DOMAIN_INFO",
            "example.com foo$(id).bar;`x` * EXAMPLE.com. a\nb\\134c -x",
        )
        .with(
            "PLUTO_PEER_DNS_INFO",
            "10.2.0.53 0.0.0.0 ::1%eth0 224.0.0.1 10.2.0.53 example.com 10.2.0.54",
        );
    assert_eq!(list(&offer(&call).domains), "example.com a");
    assert_eq!(list(&offer(&call).servers), "10.2.0.53 10.2.0.54");
    assert_eq!(
        faults(&call),
        [
            "PLUTO_PEER_DNS_INFO: \"0.0.0.0 ::1%eth0 224.0.0.1 example.com\": expected addresses of name servers",
            "PLUTO_PEER_DOMAIN_INFO: \"foo$(id).bar;`x` * b\\\\134c -x\": expected names of domains",
        ]
    );
    let long = config_client(libreswan4()).with("PLUTO_PEER_DOMAIN_INFO", &"a".repeat(500));
    assert_eq!(faults(&long).len(), 1);
    assert!(offer(&long).domains.is_empty());
    let huge = config_client(libreswan4()).with("PLUTO_PEER_DNS_INFO", &"10.2.0.53 ".repeat(500));
    assert_eq!(
        faults(&huge),
        ["PLUTO_PEER_DNS_INFO is 5000 bytes long: expected at most 4096"]
    );
}

#[test]
fn network_manager_is_notified_and_takes_care_of_the_file_itself() {
    let call = config_client(libreswan4())
        .with("PLUTO_NM_CONFIGURED", "1")
        .with("PLUTO_PEER_BANNER", "wel\x1bcome")
        .with("PLUTO_PEER_DOMAIN_INFO", "example.test *")
        .with("PLUTO_MY_SOURCEIP", "10.9.0.10");
    assert_eq!(offer(&call).means, DnsMeans::Unbound);
    let notice = action(&call).notice.unwrap();
    assert_eq!(
        (notice.service, notice.reason),
        (NmService::Libreswan, NmReason::Connect)
    );
    assert_eq!(notice.banner.as_str(), "wel\\x1bcome");
    assert_eq!(
        (notice.source, notice.peer),
        ("10.9.0.10".parse().ok(), "198.51.100.1".parse().ok())
    );
    assert_eq!(list(&notice.domains), "example.test");
    assert_eq!(faults(&call).len(), 1);
    assert_eq!(
        action(&call.clone().down()).notice.unwrap().reason,
        NmReason::Disconnect
    );
    let no_client = action(&call.with("PLUTO_CFG_CLIENT", "0"));
    assert_eq!((no_client.names, no_client.faults.len()), (None, 1));
    assert!(no_client.notice.is_some());
}

#[test]
fn network_manager_is_notified_of_an_attempt_that_failed() {
    for verb in ["disconnectNM", "disconnectNM-client", "disconnectNM-host-v6"] {
        for (call, service) in [
            (libreswan4(), NmService::Libreswan),
            (cisco_client(), NmService::Openswan),
        ] {
            let call = call.with("PLUTO_VERB", verb).with("PLUTO_NM_CONFIGURED", "1");
            let ResolverAction { names, notice, .. } = action(&call);
            let notice = notice.unwrap();
            assert_eq!(
                (names, notice.service, notice.reason),
                (None, service, NmReason::Disconnect)
            );
        }
        assert_eq!(
            libreswan4().with("PLUTO_VERB", verb).parse_event().unwrap().resolver,
            None
        );
    }
}

#[test]
fn openswan_tells_network_manager_by_the_same_verbs() {
    let call = cisco_client().with("PLUTO_NM_CONFIGURED", "1");
    assert_eq!(action(&call).notice.unwrap().reason, NmReason::Connect);
    let restore = call.clone().with("PLUTO_VERB", "restoreresolvconf-client");
    assert_eq!(action(&restore).notice.unwrap().reason, NmReason::Disconnect);
    assert_eq!(action(&call.down()).notice, None);
}
