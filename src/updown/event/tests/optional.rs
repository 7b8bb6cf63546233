//! Variables that only some daemons set, and only for some tunnels.

use super::*;
use crate::daemon::{ClientTranslation, Compression, HostAccess, LogGroup, PeerText, Spis};

#[test]
fn a_user_whose_password_was_wrong_is_nobody() {
    for call in [libreswan4(), libreswan5(), libreswan54()] {
        let user = |failed: &str| {
            call.clone()
                .with("PLUTO_USERNAME", "anna")
                .with("XAUTH_FAILED", failed)
                .tunnel()
                .user
        };
        let anna = Some(PeerText::new(b"anna"));
        assert_eq!((user("0"), user("")), (anna.clone(), anna));
        assert_eq!((user("1"), user("yes")), (None, None));
    }
    // Another daemon does not set it: the variable is one that it happens to inherit.
    let call = strongswan().with("PLUTO_XAUTH_ID", "anna").with("XAUTH_FAILED", "1");
    assert_eq!(call.tunnel().user, Some(PeerText::new(b"anna")));
}

#[test]
fn the_user_has_a_name_of_its_own_in_each_daemon() {
    let user = |call: SampleCall, name: &str| call.with(name, "alice").tunnel().user;
    let alice = Some(PeerText::new(b"alice"));
    assert_eq!(user(strongswan(), "PLUTO_XAUTH_ID"), alice);
    assert_eq!(user(libreswan54(), "PLUTO_USERNAME"), alice);
    assert_eq!(user(libreswan3_klips(), "PLUTO_XAUTH_USERNAME"), alice);
    assert_eq!(user(openswan(), "PLUTO_XAUTH_USERNAME"), alice);
    assert_eq!(user(freeswan(), "PLUTO_USERNAME"), None);
    assert_eq!(user(libreswan54(), "PLUTO_XAUTH_ID"), None);
    assert_eq!(strongswan().with("PLUTO_XAUTH_ID", "").tunnel().user, None);
}

#[test]
fn source_addresses_are_collected_once_each() {
    let addresses =
        |call: SampleCall| -> Vec<String> { call.tunnel().source_addresses.iter().map(ToString::to_string).collect() };
    let several = strongswan()
        .with("PLUTO_MY_SOURCEIP", "10.9.0.1")
        .with("PLUTO_MY_SOURCEIP4_1", "10.9.0.1")
        .with("PLUTO_MY_SOURCEIP4_2", "10.9.0.2")
        .with("PLUTO_MY_SOURCEIP4_4", "10.9.0.4")
        .with("PLUTO_MY_SOURCEIP6_1", "2001:db8:9::1");
    assert_eq!(addresses(several), ["10.9.0.1", "10.9.0.2", "2001:db8:9::1"]);
    assert_eq!(
        addresses(libreswan4().with("PLUTO_MY_SOURCEIP", "10.1.0.1")),
        ["10.1.0.1"]
    );
    assert!(addresses(strongswan()).is_empty());
    assert!(addresses(strongswan().with("PLUTO_MY_SOURCEIP", "0.0.0.0")).is_empty());
    let broken = strongswan().with("PLUTO_MY_SOURCEIP6_1", "x");
    assert_eq!(broken.event_error(), "PLUTO_MY_SOURCEIP6_1: \"x\": expected an address");
}

#[test]
fn only_strongswan_has_variables_for_host_access_and_compression() {
    let switched = |call: SampleCall, value: &str| {
        let tunnel = call
            .with("PLUTO_HOST_ACCESS", value)
            .with("PLUTO_IPCOMP", value)
            .tunnel();
        (tunnel.host_access, tunnel.compression)
    };
    assert_eq!(switched(strongswan(), "1"), (HostAccess::Asked, Compression::Ipcomp));
    assert_eq!(switched(strongswan(), ""), (HostAccess::NotAsked, Compression::None));
    assert_eq!(switched(libreswan54(), "1"), (HostAccess::NotAsked, Compression::None));
    assert_eq!(strongswan().tunnel().host_access, HostAccess::NotAsked);
}

#[test]
fn the_number_of_the_ike_sa_is_strongswans() {
    assert_eq!(strongswan().tunnel().unique_id, Some(3));
    assert_eq!(strongswan().without("PLUTO_UNIQUEID").tunnel().unique_id, None);
    assert_eq!(libreswan4().tunnel().unique_id, None);
    assert_eq!(
        strongswan().with("PLUTO_UNIQUEID", "three").event_error(),
        "PLUTO_UNIQUEID: \"three\": expected a number"
    );
}

#[test]
fn libreswan_names_the_spis_from_the_peers_side() {
    let spis = |spi_in: &str, spi_out: &str| {
        libreswan4()
            .with("SPI_IN", spi_in)
            .with("SPI_OUT", spi_out)
            .tunnel()
            .spis
    };
    assert_eq!(
        spis("0xed8ebc33", "0xab"),
        Some(Spis {
            inbound: 0xab,
            outbound: 0xed8e_bc33
        })
    );
    assert_eq!(spis("0x0", "0x0"), None);
    assert_eq!(
        spis("0x1", "0x0"),
        Some(Spis {
            inbound: 0,
            outbound: 1
        })
    );
    assert_eq!(libreswan4().without("SPI_IN").without("SPI_OUT").tunnel().spis, None);
    assert_eq!(strongswan().tunnel().spis, None);
    for text in ["ed8ebc33", "0x", "0x100000000", "0x+1", "0xg"] {
        let error = libreswan4().with("SPI_IN", text).event_error();
        assert_eq!(
            error,
            format!("SPI_IN: \"{text}\": expected 0x and up to 8 hexadecimal digits")
        );
    }
}

#[test]
fn libreswan_tells_of_compression_by_a_word_of_its_policy() {
    for call in [libreswan4(), libreswan54()] {
        let compression = |policy| call.clone().with("PLUTO_CONN_POLICY", policy).tunnel().compression;
        assert_eq!(compression("IKEv2+PSK+ENCRYPT+COMPRESS+TUNNEL"), Compression::Ipcomp);
        assert_eq!(compression("IKEv2+PSK+ENCRYPT+TUNNEL"), Compression::None);
        assert_eq!(compression("IKEv2+NO_COMPRESS"), Compression::None);
        assert_eq!(
            call.clone().without("PLUTO_CONN_POLICY").tunnel().compression,
            Compression::None
        );
    }
}

#[test]
fn only_libreswan_has_a_log_group_and_none_is_zero() {
    let group = |call: SampleCall, value: &str| call.with("NFLOG", value).tunnel().log_group.map(|LogGroup(n)| n.get());
    assert_eq!(group(libreswan4(), "13"), Some(13));
    assert_eq!(group(libreswan54(), "65535"), Some(65535));
    assert_eq!(group(libreswan54(), "0"), None);
    assert_eq!(group(libreswan54(), ""), None);
    for call in [strongswan(), openswan(), freeswan()] {
        assert_eq!(group(call, "13"), None);
    }
    for text in ["65536", "-1", "x", "1 "] {
        let error = libreswan4().with("NFLOG", text).event_error();
        assert_eq!(
            error,
            format!("NFLOG: \"{text}\": expected the number of an NFLOG group, up to 65535")
        );
    }
}

/// A call of libreswan behind a NAT, whom the peer gave an address.
fn translated() -> SampleCall {
    libreswan4().with("CAT", "YES").with("PLUTO_MY_CLIENT", "10.0.10.1/32")
}

#[test]
fn a_translation_is_between_the_address_that_the_peer_gave_and_our_own() {
    let of = |assigned: &str, own: &str| {
        Some(ClientTranslation {
            assigned: assigned.parse().unwrap(),
            own: own.parse().unwrap(),
        })
    };
    assert_eq!(translated().tunnel().translation, of("10.0.10.1", "192.0.2.1"));
    let six = translated()
        .with("PLUTO_MY_CLIENT", "2001:db8:a::1/128")
        .with("PLUTO_PEER_CLIENT", "2001:db8:b::/64")
        .with("PLUTO_ME", "2001:db8::1");
    assert_eq!(six.tunnel().translation, of("2001:db8:a::1", "2001:db8::1"));
    // The script takes the first address of whatever network there is.
    let network = translated().with("PLUTO_MY_CLIENT", "10.0.10.8/29");
    assert_eq!(network.tunnel().translation, of("10.0.10.8", "192.0.2.1"));
}

#[test]
fn only_libreswans_own_word_asks_for_a_translation() {
    for word in ["", "yes", "no", "/bin/cat", "1"] {
        assert_eq!(translated().with("CAT", word).tunnel().translation, None, "{word}");
    }
    assert_eq!(translated().without("CAT").tunnel().translation, None);
    for call in [strongswan(), openswan(), freeswan()] {
        assert_eq!(call.with("CAT", "YES").tunnel().translation, None);
    }
}

#[test]
fn where_there_is_nothing_to_translate_nothing_is() {
    let client = |network: &str| translated().with("PLUTO_MY_CLIENT", network).tunnel().translation;
    assert_eq!(client("0.0.0.0/0"), None);
    assert_eq!(client("192.0.2.1/32"), None);
}

#[test]
fn a_translation_needs_our_own_address_at_up_and_not_at_down() {
    assert_eq!(translated().without("PLUTO_ME").event_error(), "PLUTO_ME is missing");
    assert_eq!(translated().without("PLUTO_ME").down().tunnel().translation, None);
    let mixed = translated().with("PLUTO_ME", "2001:db8::1");
    assert_eq!(
        mixed.event_error(),
        "PLUTO_MY_CLIENT is \"10.0.10.1/32\" and PLUTO_ME is \"2001:db8::1\": expected addresses of one family, for CAT"
    );
    assert_eq!(mixed.down().tunnel().translation, None);
}
