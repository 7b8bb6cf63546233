use super::*;
use crate::daemon::sample_call::{SampleCall, freeswan, libreswan4, libreswan54, openswan, strongswan};

/// A call with protocol and port at both ends.
fn selecting(call: SampleCall, local: (&str, &str), remote: (&str, &str)) -> SampleCall {
    call.with(MY_PROTOCOL, local.0)
        .with(MY_PORT, local.1)
        .with(PEER_PROTOCOL, remote.0)
        .with(PEER_PORT, remote.1)
}

fn ipv6(call: SampleCall) -> SampleCall {
    call.with("PLUTO_MY_CLIENT", "2001:db8:1::/64")
        .with("PLUTO_PEER_CLIENT", "2001:db8:2::/64")
}

fn traffic(call: SampleCall, local: (&str, &str), remote: (&str, &str)) -> Traffic {
    selecting(call, local, remote).tunnel().traffic
}

fn error(call: SampleCall, local: (&str, &str), remote: (&str, &str)) -> String {
    selecting(call, local, remote).error()
}

fn protocol(number: u8) -> Traffic {
    Traffic::Protocol(Protocol(NonZeroU8::new(number).unwrap()))
}

fn tcp(local: Ports, remote: Ports) -> Traffic {
    Traffic::Ports {
        protocol: PortProtocol::Tcp,
        local,
        remote,
    }
}

fn plutos() -> [SampleCall; 4] {
    [libreswan4(), libreswan54(), openswan(), freeswan()]
}

#[test]
fn nothing_given_is_anything_allowed() {
    for call in plutos().into_iter().chain([strongswan()]) {
        assert_eq!(call.tunnel().traffic, Traffic::Any);
    }
}

#[test]
fn a_protocol_at_one_end_is_the_protocol_of_both() {
    for (local, remote) in [("6", "6"), ("0", "6"), ("6", "0")] {
        assert_eq!(
            traffic(strongswan(), (local, "0"), (remote, "8080")),
            tcp(Ports::Any, Ports::single(8080))
        );
        assert_eq!(traffic(libreswan54(), (local, "0"), (remote, "0")), protocol(6));
    }
}

#[test]
fn protocols_that_differ_are_refused() {
    assert_eq!(
        error(strongswan(), ("6", "0"), ("17", "0")),
        "PLUTO_MY_PROTOCOL is \"6\" and PLUTO_PEER_PROTOCOL is \"17\": expected the same protocol, or 0 at one end"
    );
}

#[test]
fn a_protocol_is_a_number_below_256() {
    for text in ["256", "-1", "+6", "tcp", "6 ", "0x6"] {
        assert_eq!(
            error(strongswan(), (text, "0"), ("0", "0")),
            format!("PLUTO_MY_PROTOCOL: \"{text}\": expected a protocol, 0 to 255")
        );
    }
}

#[test]
fn ports_are_single_or_ranges() {
    for (text, ports) in [
        ("80", Ports::single(80)),
        ("65535", Ports::single(65535)),
        ("1000:2000", Ports::Range(1000..=2000)),
        ("0:1023", Ports::Range(0..=1023)),
        ("7:7", Ports::single(7)),
    ] {
        assert_eq!(
            traffic(strongswan(), ("6", text), ("6", "0")),
            tcp(ports.clone(), Ports::Any)
        );
        assert_eq!(traffic(strongswan(), ("0", "0"), ("6", text)), tcp(Ports::Any, ports));
    }
}

#[test]
fn every_port_protocol_has_ports() {
    for (number, ported) in [
        ("6", PortProtocol::Tcp),
        ("17", PortProtocol::Udp),
        ("33", PortProtocol::Dccp),
        ("132", PortProtocol::Sctp),
        ("136", PortProtocol::UdpLite),
    ] {
        let expected = Traffic::Ports {
            protocol: ported,
            local: Ports::single(1701),
            remote: Ports::Any,
        };
        assert_eq!(traffic(libreswan4(), (number, "1701"), (number, "0")), expected);
    }
}

#[test]
fn all_ports_are_any_port() {
    assert_eq!(
        traffic(strongswan(), ("17", "0:65535"), ("17", "0:65535")),
        protocol(17)
    );
    assert_eq!(traffic(strongswan(), ("0", "0:65535"), ("0", "0")), Traffic::Any);
}

#[test]
fn opaque_is_port_0_and_not_any_port() {
    assert_eq!(
        traffic(strongswan(), ("6", "65535:0"), ("6", "0")),
        tcp(Ports::single(0), Ports::Any)
    );
    assert_eq!(
        traffic(strongswan(), ("6", "65535:0"), ("6", "65535:0")),
        tcp(Ports::single(0), Ports::single(0))
    );
}

#[test]
fn ranges_that_run_backwards_and_other_nonsense_are_refused() {
    for text in [
        "2000:1000",
        "65535:1",
        "65534:0",
        "65536",
        "-1",
        "+80",
        "80:",
        ":80",
        "1:2:3",
        "http",
        "80 ",
        "1-2",
    ] {
        assert_eq!(
            error(strongswan(), ("6", text), ("6", "0")),
            format!("PLUTO_MY_PORT: \"{text}\": expected a port, or a range of ports such as 1000:2000")
        );
    }
}

#[test]
fn a_port_needs_a_protocol_that_has_ports() {
    for text in ["80", "1000:2000", "65535:0"] {
        assert_eq!(
            error(strongswan(), ("0", "0"), ("0", text)),
            format!("PLUTO_PEER_PORT: \"{text}\": expected 0, because no protocol is given")
        );
        assert_eq!(
            error(strongswan(), ("47", text), ("47", "0")),
            format!("PLUTO_MY_PORT: \"{text}\": expected 0, because the protocol has no ports in this family")
        );
    }
    assert_eq!(traffic(strongswan(), ("47", "0"), ("0", "0")), protocol(47));
    assert_eq!(traffic(libreswan4(), ("255", "0"), ("255", "0")), protocol(255));
}

#[test]
fn a_port_of_an_end_without_protocol_belongs_to_the_protocol_of_the_other() {
    assert_eq!(
        traffic(strongswan(), ("0", "80"), ("6", "0")),
        tcp(Ports::single(80), Ports::Any)
    );
}

#[test]
fn pluto_packs_icmp_into_one_number_at_either_end() {
    for call in plutos() {
        for (local, remote, expected) in [
            ("0", "0", protocol(1)),
            ("2048", "0", Traffic::Icmp(Icmp::Type(8))),
            ("0", "2048", Traffic::Icmp(Icmp::Type(8))),
            ("2048", "2048", Traffic::Icmp(Icmp::Type(8))),
            ("772", "0", Traffic::Icmp(Icmp::Code(3, 4))),
            ("8", "0", Traffic::Icmp(Icmp::Code(0, 8))),
        ] {
            assert_eq!(traffic(call.clone(), ("1", local), ("1", remote)), expected);
        }
        assert_eq!(
            error(call.clone(), ("1", "65535"), ("1", "0")),
            NO_TYPE_255.replace("{}", "65535")
        );
        assert_eq!(
            error(call.clone(), ("1", "2048"), ("1", "772")),
            "PLUTO_MY_PORT is \"2048\" and PLUTO_PEER_PORT is \"772\": expected the same kind of ICMP, or 0 at one end"
        );
        for text in ["65536", "8:0", "65535:0"] {
            assert_eq!(
                error(call.clone(), ("1", text), ("1", "0")),
                format!("PLUTO_MY_PORT: \"{text}\": expected an ICMP type times 256 plus a code")
            );
        }
    }
}

/// iptables takes type 255 for any type.
const NO_TYPE_255: &str = "PLUTO_MY_PORT: \"{}\": expected an ICMP type from 0 to 254";

#[test]
fn the_icmp_type_that_iptables_takes_for_any_type_is_refused() {
    // OPAQUE, as charon splits it.
    assert_eq!(
        error(strongswan(), ("1", "255"), ("1", "255")),
        NO_TYPE_255.replace("{}", "255")
    );
    assert_eq!(
        error(strongswan(), ("1", "255"), ("1", "0")),
        NO_TYPE_255.replace("{}", "255")
    );
}

#[test]
fn strongswan_splits_icmp_over_both_ends() {
    for (kind, code, expected) in [
        ("0", "0", protocol(1)),
        ("8", "0", Traffic::Icmp(Icmp::Type(8))),
        ("3", "4", Traffic::Icmp(Icmp::Code(3, 4))),
        ("0", "4", Traffic::Icmp(Icmp::Code(0, 4))),
    ] {
        assert_eq!(traffic(strongswan(), ("1", kind), ("1", code)), expected);
        assert_eq!(traffic(strongswan(), ("0", kind), ("1", code)), expected);
    }
    for text in ["2048", "256", "65535:0", "3:4"] {
        assert_eq!(
            error(strongswan(), ("1", text), ("1", "0")),
            format!("PLUTO_MY_PORT: \"{text}\": expected an ICMP type, 0 to 255")
        );
        assert_eq!(
            error(strongswan(), ("1", "0"), ("1", text)),
            format!("PLUTO_PEER_PORT: \"{text}\": expected an ICMP code, 0 to 255")
        );
    }
}

#[test]
fn icmpv6_goes_by_the_same_rules() {
    let types = |call| traffic(ipv6(call), ("58", "128"), ("58", "0"));
    assert_eq!(types(strongswan()), Traffic::Icmp(Icmp::Type(128)));
    assert_eq!(
        traffic(ipv6(libreswan54()), ("58", "32768"), ("58", "0")),
        Traffic::Icmp(Icmp::Type(128))
    );
    assert_eq!(traffic(ipv6(libreswan54()), ("58", "0"), ("58", "0")), protocol(58));
}

#[test]
fn the_icmp_of_the_other_family_is_a_protocol_without_types() {
    assert_eq!(traffic(ipv6(strongswan()), ("1", "0"), ("1", "0")), protocol(1));
    assert_eq!(traffic(strongswan(), ("58", "0"), ("58", "0")), protocol(58));
    for (call, number) in [(ipv6(strongswan()), "1"), (strongswan(), "58"), (libreswan4(), "58")] {
        assert_eq!(
            error(call, (number, "8"), (number, "0")),
            "PLUTO_MY_PORT: \"8\": expected 0, because the protocol has no ports in this family"
        );
    }
}

#[test]
fn protocols_and_ports_may_be_missing_only_together_and_only_under_freeswan() {
    let names = [MY_PROTOCOL, PEER_PROTOCOL, MY_PORT, PEER_PORT];
    let bare = |call| names.into_iter().fold(call, SampleCall::without);
    assert_eq!(bare(freeswan()).tunnel().traffic, Traffic::Any);
    for call in [strongswan(), libreswan4(), libreswan54(), openswan()] {
        assert_eq!(bare(call).error(), "PLUTO_MY_PROTOCOL is missing");
    }
    for call in plutos().into_iter().chain([strongswan()]) {
        for name in names {
            assert_eq!(call.clone().without(name).error(), format!("{name} is missing"));
            assert_eq!(call.clone().with(name, "").error(), format!("{name} is missing"));
        }
    }
}
