use crate::daemon::SaMatch;
use crate::daemon::sample_call::{
    SampleCall, freeswan, libreswan3_klips, libreswan4, libreswan5, libreswan43, libreswan54, openswan, openswan_klips,
    strongswan, vti, xfrm_interface,
};
use crate::net::SaProtocol;

fn sa_match(call: &SampleCall) -> SaMatch {
    call.tunnel().sa_match
}

fn policy(protocol: Option<SaProtocol>, reqid: Option<u32>) -> SaMatch {
    SaMatch::Policy { protocol, reqid }
}

fn interface(name: &str) -> SaMatch {
    SaMatch::Interface(name.parse().unwrap())
}

const ESP: Option<SaProtocol> = Some(SaProtocol::Esp);
const AH: Option<SaProtocol> = Some(SaProtocol::Ah);
const IPCOMP: Option<SaProtocol> = Some(SaProtocol::Ipcomp);

#[test]
fn strongswan_tells_the_reqid_of_the_kernel() {
    assert_eq!(sa_match(&strongswan()), policy(ESP, Some(7)));
    assert_eq!(sa_match(&strongswan().with("PLUTO_PROTO", "ah")), policy(AH, Some(7)));
    assert_eq!(
        sa_match(&strongswan().with("PLUTO_REQID", "16388")),
        policy(ESP, Some(16388))
    );
    assert_eq!(
        strongswan().with("PLUTO_PROTO", "ESP").error(),
        "PLUTO_PROTO: \"ESP\": expected esp or ah"
    );
}

#[test]
fn libreswan_4_tells_the_base() {
    assert_eq!(sa_match(&libreswan4()), policy(ESP, Some(16389)));
    assert_eq!(
        sa_match(&libreswan4().with("PLUTO_SA_TYPE", "AH")),
        policy(AH, Some(16388))
    );
    assert_eq!(
        sa_match(&libreswan4().with("PLUTO_SA_TYPE", "IPCOMP")),
        policy(IPCOMP, Some(16390))
    );
}

#[test]
fn libreswan_5_tells_the_number_in_use() {
    for call in [libreswan5(), libreswan54()] {
        assert_eq!(sa_match(&call), policy(ESP, Some(16389)));
        let ah = call.clone().with("PLUTO_SA_TYPE", "AH").with("PLUTO_SA_REQID", "16388");
        assert_eq!(sa_match(&ah), policy(AH, Some(16388)));
        let ipcomp = call.with("PLUTO_SA_TYPE", "IPCOMP").with("PLUTO_SA_REQID", "16390");
        assert_eq!(sa_match(&ipcomp), policy(IPCOMP, Some(16390)));
    }
}

#[test]
fn the_administrators_reqids_are_left_alone() {
    for number in [1, 4, 77, 16380, 16383] {
        let call = libreswan4().with("PLUTO_SA_REQID", &number.to_string());
        assert_eq!(sa_match(&call), policy(ESP, Some(number)));
    }
    assert_eq!(
        sa_match(&libreswan4().with("PLUTO_SA_REQID", "16384")),
        policy(ESP, Some(16385))
    );
    let last = (u32::MAX - 3).to_string();
    assert_eq!(
        sa_match(&libreswan4().with("PLUTO_SA_REQID", &last)),
        policy(ESP, Some(u32::MAX - 2))
    );
}

#[test]
fn without_a_security_association_the_number_is_left_alone() {
    for kind in ["none", "unknown?"] {
        assert_eq!(
            sa_match(&libreswan4().with("PLUTO_SA_TYPE", kind)),
            policy(None, Some(16388))
        );
    }
    assert_eq!(
        libreswan4().with("PLUTO_SA_TYPE", "esp").error(),
        "PLUTO_SA_TYPE: \"esp\": expected ESP, AH, IPCOMP, none or unknown?"
    );
}

#[test]
fn a_reqid_of_0_is_an_error_at_up_and_none_at_down() {
    for (call, variable) in [(strongswan(), "PLUTO_REQID"), (libreswan4(), "PLUTO_SA_REQID")] {
        let call = call.with(variable, "0");
        assert_eq!(
            call.error(),
            format!("{variable}: \"0\": expected a reqid, a number above 0")
        );
        assert_eq!(sa_match(&call.down()), policy(ESP, None));
    }
}

#[test]
fn a_reqid_is_a_number_of_32_bits() {
    for text in ["-1", "+1", "0x10", "1 ", "4294967296", "seven", "%unique"] {
        for call in [
            strongswan().with("PLUTO_REQID", text),
            libreswan4().with("PLUTO_SA_REQID", text),
        ] {
            assert!(call.error().ends_with(": expected a reqid, a number above 0"), "{text}");
            assert!(call.down().parse_call().is_err(), "{text}");
        }
    }
}

#[test]
fn a_vti_interface_needs_no_reqid() {
    assert_eq!(sa_match(&vti()), interface("vti01"));
    assert_eq!(sa_match(&vti().without("PLUTO_SA_REQID")), interface("vti01"));
    assert_eq!(
        vti().with("VTI_IFACE", "vti+").error(),
        "VTI_IFACE: \"vti+\": expected the name of an interface, up to 15 of A-Z a-z 0-9 . _ -"
    );
}

#[test]
fn an_xfrm_interface_is_recognized_by_two_variables() {
    assert_eq!(sa_match(&xfrm_interface()), interface("ipsec5"));
    for name in ["NULL", ""] {
        let call = xfrm_interface().with("PLUTO_VIRT_INTERFACE", name);
        assert_eq!(call.error(), "PLUTO_VIRT_INTERFACE is missing");
    }
    for route in ["", "NULL"] {
        assert!(
            xfrm_interface()
                .with("PLUTO_XFRMI_ROUTE", route)
                .error()
                .starts_with("PLUTO_XFRMI_ROUTE")
        );
    }
    assert_eq!(
        xfrm_interface().with("PLUTO_XFRMI_ROUTE", "no").error(),
        "PLUTO_XFRMI_ROUTE: \"no\": expected yes or nothing"
    );
}

#[test]
fn the_outer_interface_that_libreswan_up_to_4_3_gives_twice_is_not_opened() {
    assert_eq!(sa_match(&libreswan43()), policy(ESP, Some(16389)));
    let alias = libreswan43()
        .with("PLUTO_INTERFACE", "eth0:1")
        .with("PLUTO_VIRT_INTERFACE", "eth0:1");
    assert_eq!(sa_match(&alias), policy(ESP, Some(16389)));
}

#[test]
fn an_outer_interface_with_an_unusual_name_is_no_obstacle() {
    let call = libreswan43()
        .with("PLUTO_INTERFACE", "wan+dsl")
        .with("PLUTO_VIRT_INTERFACE", "wan+dsl");
    assert_eq!(sa_match(&call), policy(ESP, Some(16389)));
    assert_eq!(
        sa_match(&strongswan().with("PLUTO_INTERFACE", "unknown")),
        policy(ESP, Some(7))
    );
}

#[test]
fn klips_interfaces_are_believed_and_no_others() {
    assert_eq!(sa_match(&freeswan()), interface("ipsec0"));
    assert_eq!(sa_match(&openswan_klips()), interface("ipsec0"));
    let mast = openswan_klips()
        .with("PLUTO_STACK", "mast")
        .with("PLUTO_INTERFACE", "mast0");
    assert_eq!(sa_match(&mast), interface("mast0"));
    assert_eq!(sa_match(&libreswan3_klips()), interface("ipsec0"));
    let later = libreswan3_klips()
        .with("PLUTO_INTERFACE", "eth0")
        .with("PLUTO_VIRT_INTERFACE", "ipsec0");
    assert_eq!(sa_match(&later), interface("ipsec0"));
    for name in ["eth0", "ipsec", "ipsecx", "ipsec0a", "NULL", ""] {
        for call in [freeswan(), openswan_klips(), libreswan3_klips()] {
            assert!(
                call.with("PLUTO_INTERFACE", name)
                    .error()
                    .starts_with("PLUTO_INTERFACE"),
                "{name}"
            );
        }
    }
}

#[test]
fn openswan_under_netkey_tells_no_reqid() {
    assert_eq!(sa_match(&openswan()), policy(None, None));
    assert_eq!(sa_match(&openswan().with("PLUTO_STACK", "bsdkame")), policy(None, None));
    assert_eq!(
        openswan().with("PLUTO_STACK", "xfrm").error(),
        "PLUTO_STACK: \"xfrm\": expected klips, mast, netkey or bsdkame"
    );
}
