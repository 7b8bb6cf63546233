//! What only some daemons tell of a tunnel, and only of some tunnels.

use super::*;
use crate::contract::{Compression, HostAccess, PeerText, Spis};

#[test]
fn the_user_has_a_name_of_its_own_in_each_daemon() {
    let user = |call: Call, name: &str| call.with(name, "alice").tunnel().user;
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
        |call: Call| -> Vec<String> { call.tunnel().source_addresses.iter().map(ToString::to_string).collect() };
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
    assert_eq!(broken.error(), "PLUTO_MY_SOURCEIP6_1: \"x\": expected an address");
}

#[test]
fn only_strongswan_has_variables_for_host_access_and_compression() {
    let switched = |call: Call, value: &str| {
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
        strongswan().with("PLUTO_UNIQUEID", "three").error(),
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
        let error = libreswan4().with("SPI_IN", text).error();
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
