use super::*;
use crate::daemon::sample_call::{
    SampleCall, freeswan, libreswan3_klips, libreswan4, libreswan5, libreswan43, libreswan54, openswan, strongswan,
};

fn daemon(call: &SampleCall) -> Daemon {
    call.parse_call().unwrap().daemon
}

#[test]
fn every_daemon_is_recognised() {
    assert_eq!(daemon(&strongswan()), Daemon::StrongSwan);
    assert_eq!(daemon(&libreswan3_klips()), Daemon::Libreswan(Libreswan::V4));
    assert_eq!(daemon(&libreswan43()), Daemon::Libreswan(Libreswan::V4));
    assert_eq!(daemon(&libreswan4()), Daemon::Libreswan(Libreswan::V4));
    assert_eq!(daemon(&libreswan5()), Daemon::Libreswan(Libreswan::V5));
    assert_eq!(daemon(&libreswan54()), Daemon::Libreswan(Libreswan::V54));
    assert_eq!(daemon(&openswan()), Daemon::Openswan);
    assert_eq!(daemon(&freeswan()), Daemon::FreesWan);
}

#[test]
fn strongswan_is_recognised_without_any_one_of_its_marks() {
    assert_eq!(daemon(&strongswan().without("PLUTO_VERSION")), Daemon::StrongSwan);
    assert_eq!(daemon(&strongswan().without("PLUTO_UNIQUEID")), Daemon::StrongSwan);
    assert_eq!(strongswan().without("PLUTO_REQID").error(), "PLUTO_REQID is missing");
    assert_eq!(strongswan().without("PLUTO_PROTO").error(), "PLUTO_PROTO is missing");
}

#[test]
fn strongswan_without_all_of_its_marks_opens_no_interface() {
    let bare = strongswan()
        .without("PLUTO_UNIQUEID")
        .without("PLUTO_REQID")
        .without("PLUTO_PROTO");
    assert_eq!(
        bare.error(),
        "PLUTO_INTERFACE: \"eth0\": expected a KLIPS interface, such as ipsec0 or mast0"
    );
}

#[test]
fn libreswan_without_a_reqid_is_not_taken_for_openswan() {
    for call in [
        libreswan3_klips(),
        libreswan43(),
        libreswan4(),
        libreswan5(),
        libreswan54(),
    ] {
        let call = call
            .with("PLUTO_STACK", "xfrm")
            .without("PLUTO_SA_REQID")
            .with("PLUTO_VIRT_INTERFACE", "NULL");
        assert_eq!(call.error(), "PLUTO_SA_REQID is missing");
        assert_eq!(call.with("PLUTO_VERSION", "2.0").error(), "PLUTO_SA_REQID is missing");
    }
}

#[test]
fn libreswan_is_recognised_without_its_stack() {
    assert_eq!(
        daemon(&libreswan4().without("PLUTO_STACK")),
        Daemon::Libreswan(Libreswan::V4)
    );
    assert_eq!(
        daemon(&libreswan43().without("PLUTO_VERSION")),
        Daemon::Libreswan(Libreswan::V4)
    );
}

#[test]
fn openswan_needs_both_of_its_marks() {
    assert_eq!(openswan().without("PLUTO_VERSION").error(), "PLUTO_VERSION is missing");
    assert_eq!(openswan().without("PLUTO_STACK").error(), "PLUTO_STACK is missing");
    assert_eq!(
        openswan().with("PLUTO_VERSION", "1.1").error(),
        "PLUTO_VERSION: \"1.1\": expected 2.0, as Openswan has it"
    );
}

#[test]
fn freeswan_has_nothing_but_its_version() {
    let unknown = EnvError::NoDaemon.to_string();
    assert_eq!(freeswan().without("PLUTO_VERSION").error(), unknown);
    assert_eq!(freeswan().with("PLUTO_VERSION", "").error(), unknown);
    assert_eq!(
        freeswan().with("PLUTO_VERSION", "1.0").error(),
        "PLUTO_VERSION: \"1.0\": expected 1.1 or 2.0"
    );
}

#[test]
fn a_version_that_does_not_fit_is_refused() {
    assert_eq!(
        strongswan().with("PLUTO_VERSION", "2.0").error(),
        "PLUTO_VERSION: \"2.0\": expected 1.1, as strongSwan has it"
    );
    assert_eq!(
        libreswan4().with("PLUTO_VERSION", "1.1").error(),
        "PLUTO_VERSION: \"1.1\": expected 2.0 or none, as libreswan has it"
    );
}

#[test]
fn variables_of_two_daemons_are_refused() {
    assert_eq!(
        strongswan().with("PLUTO_STACK", "xfrm").error(),
        "PLUTO_UNIQUEID is \"3\" and PLUTO_STACK is \"xfrm\": expected the variables of one daemon"
    );
    assert_eq!(
        libreswan4().with("PLUTO_PROTO", "esp").error(),
        "PLUTO_PROTO is \"esp\" and PLUTO_SA_REQID is \"16388\": expected the variables of one daemon"
    );
}

#[test]
fn a_verb_alone_names_the_variables_of_every_daemon() {
    let error = SampleCall::from_lines("").with("PLUTO_VERB", "up-client").error();
    for name in STRONGSWAN.into_iter().chain([STACK, VERSION]) {
        assert!(error.contains(name), "{error}");
    }
    assert!(error.len() < 200, "{error}");
    // With them the next one that is missing is named.
    let error = SampleCall::from_lines("")
        .with("PLUTO_VERB", "up-client")
        .with("PLUTO_UNIQUEID", "1")
        .error();
    assert_eq!(error, "PLUTO_CONNECTION is missing");
}

#[test]
fn a_call_that_asks_for_nothing_is_never_refused() {
    for verb in ["disconnectNM", "spdadd-client", "spddel-host-v6"] {
        let call = SampleCall::from_lines("").with("PLUTO_VERB", verb);
        assert_eq!(daemon(&call), Daemon::FreesWan, "{verb}");
        let call = strongswan()
            .with("PLUTO_STACK", "xfrm")
            .with("PLUTO_MY_CLIENT", "nonsense");
        assert!(call.with("PLUTO_VERB", verb).parse_call().is_ok(), "{verb}");
    }
}

#[test]
fn a_dialect_has_a_name_for_the_log() {
    assert_eq!(Daemon::StrongSwan.to_string(), "strongSwan");
    assert_eq!(Daemon::Libreswan(Libreswan::V54).to_string(), "libreswan 5.4 or later");
    assert_eq!(Daemon::FreesWan.to_string(), "FreeS/WAN");
}
