//! Variables that are missing or say what they cannot mean.

use super::dialects::samples;
use super::fakes::Fakes;
use crate::support::binary::Call;
use crate::support::captures::{libreswan_up, strongswan_up};

/// What a variable must not say, whoever sets it.
const MALFORMED: [(&str, &[&str]); 15] = [
    ("PLUTO_CONNECTION", &[""]),
    ("PLUTO_MY_CLIENT", NO_NETWORK),
    ("PLUTO_PEER_CLIENT", NO_NETWORK),
    ("PLUTO_MY_PROTOCOL", NO_PROTOCOL),
    ("PLUTO_PEER_PROTOCOL", NO_PROTOCOL),
    ("PLUTO_MY_PORT", NO_PORT),
    ("PLUTO_PEER_PORT", NO_PORT),
    ("PLUTO_SA_TYPE", &["", "esp", "TCP", "ESP,AH"]),
    ("PLUTO_SA_REQID", NO_REQID),
    ("PLUTO_PROTO", &["", "ESP", "6", "esp ah"]),
    ("PLUTO_REQID", NO_REQID),
    ("PLUTO_STACK", &["", "xfrm", "linux"]),
    ("PLUTO_VERSION", &["", "9", "1.10"]),
    (
        "PLUTO_INTERFACE",
        &["", "eth0", "unknown", "ipsec", "ipsec0+", "ipsec0 -j ACCEPT"],
    ),
    ("PLUTO_ME", &["300.1.1.1", "192.1.2.45/32", "west.example"]),
];

const NO_NETWORK: &[&str] = &[
    "",
    "NULL",
    "%any",
    "x",
    "10.1.0.0/33",
    "10.1.0/24",
    "10.1.0.0/24 ",
    "10.1.0.0/-1",
    "10.1.0.0/24/24",
    "!10.1.0.0/24",
    "10.1.0.0/24,10.3.0.0/24",
    "10.1.0.9-10.1.0.1",
    "fd00::/129",
    "%group",
];
const NO_PROTOCOL: &[&str] = &["", "256", "-1", "+6", "tcp", "6 ", "0x6", "6,17"];
const NO_PORT: &[&str] = &[
    "",
    "65536",
    "-1",
    "http",
    "80-90",
    "1:2:3",
    "90:80",
    " 80",
    "80 -j ACCEPT",
];
const NO_REQID: &[&str] = &["", "0", "-1", "4294967296", "0x10", "1 ", "none"];

/// The dialects in which these variables mean something else, or nothing.
fn is_exempt(dialect: &str, name: &str) -> bool {
    match name {
        "PLUTO_STACK" => dialect != "Openswan",
        "PLUTO_VERSION" | "PLUTO_INTERFACE" => dialect != "FreeS/WAN",
        _ => false,
    }
}

#[track_caller]
fn assert_refused(fakes: &mut Fakes, call: &Call, named: &str) {
    let ending = fakes.call(call);
    ending.assert_refused(1, &[named]);
    fakes.assert_nothing_started();
    fakes.assert_forgotten();
}

#[test]
fn the_sample_of_every_dialect_opens_and_closes_a_tunnel() {
    for sample in samples() {
        let mut fakes = Fakes::new();
        fakes.expect_success(&sample.up);
        assert_eq!(fakes.inputs().len(), 1, "{}", sample.name);
        fakes.expect_success(&sample.up.clone().with_verb("down-client"));
        assert_eq!(fakes.chains(0), Vec::<&str>::new(), "{}", sample.name);
        fakes.assert_forgotten();
    }
}

#[test]
fn each_variable_that_is_missing_is_named() {
    let mut fakes = Fakes::new();
    for sample in samples() {
        for name in sample.required {
            assert_refused(&mut fakes, &sample.up.clone().without(name), name);
        }
    }
}

#[test]
fn each_variable_that_is_malformed_is_named() {
    let mut fakes = Fakes::new();
    for sample in samples() {
        let set = MALFORMED
            .iter()
            .filter(|(name, _)| sample.up.variables.contains_key(std::ffi::OsStr::new(name)));
        for (name, values) in set.filter(|(name, _)| !is_exempt(sample.name, name)) {
            for value in *values {
                assert_refused(&mut fakes, &sample.up.clone().with(name, value), name);
            }
        }
    }
}

#[test]
fn a_down_is_refused_for_the_variables_that_say_which_tunnel_is_meant() {
    let mut fakes = Fakes::new();
    for sample in samples() {
        let down = sample.up.clone().with_verb("down-client");
        for name in ["PLUTO_CONNECTION", "PLUTO_MY_CLIENT", "PLUTO_PEER_CLIENT"] {
            assert_refused(&mut fakes, &down.clone().without(name), name);
            assert_refused(&mut fakes, &down.clone().with(name, ""), name);
        }
    }
}

#[test]
fn a_down_whose_reqid_or_peer_is_gone_is_good() {
    let mut fakes = Fakes::new();
    fakes.expect_success(&strongswan_up());
    let down = strongswan_up()
        .opposite()
        .with("PLUTO_REQID", "0")
        .with("PLUTO_INTERFACE", "unknown");
    fakes.expect_success(&down.with("PLUTO_PEER", "%any").with("PLUTO_ME", "%any"));
    fakes.assert_forgotten();
}

#[test]
fn optional_variables_that_are_malformed_are_named() {
    let libreswan: [(&str, &[&str]); 8] = [
        ("NFLOG", &["x", "-1", "65536", "13 -j ACCEPT"]),
        ("PLUTO_PEER", &["x", "1.2.3"]),
        ("PLUTO_MY_SOURCEIP", &["x", "10.1.0.1-10.1.0.2"]),
        ("SPI_IN", &["x", "1", "0x1ffffffff", "0x-1"]),
        ("SPI_OUT", &["x", "0x 1"]),
        ("VTI_IFACE", &["vti 0", "a/b", "vti+", "a-name-that-is-too-long", "-j"]),
        ("PLUTO_XFRMI_ROUTE", &["maybe"]),
        ("PLUTO_VIRT_INTERFACE", &["ipsec1"]),
    ];
    let strongswan: [(&str, &[&str]); 3] = [
        ("PLUTO_UNIQUEID", &["x", "-1"]),
        ("PLUTO_MY_SOURCEIP4_1", &["x"]),
        ("PLUTO_VERSION", &["2.0"]),
    ];
    let mut fakes = Fakes::new();
    for (up, table) in [(libreswan_up(), &libreswan[..]), (strongswan_up(), &strongswan[..])] {
        for (name, values) in table {
            for value in *values {
                let named = if *name == "PLUTO_VIRT_INTERFACE" {
                    "PLUTO_XFRMI_ROUTE"
                } else {
                    name
                };
                assert_refused(&mut fakes, &up.clone().with(name, value), named);
            }
        }
    }
}

#[test]
fn variables_that_contradict_each_other_are_both_named() {
    let mut fakes = Fakes::new();
    let families = libreswan_up().with("PLUTO_PEER_CLIENT", "fd00:2::/64");
    fakes
        .call(&families)
        .assert_refused(1, &["PLUTO_MY_CLIENT", "PLUTO_PEER_CLIENT"]);
    let protocols = libreswan_up()
        .with("PLUTO_MY_PROTOCOL", "6")
        .with("PLUTO_PEER_PROTOCOL", "17");
    fakes
        .call(&protocols)
        .assert_refused(1, &["PLUTO_MY_PROTOCOL", "PLUTO_PEER_PROTOCOL"]);
    let daemons = libreswan_up().with("PLUTO_UNIQUEID", "1");
    fakes
        .call(&daemons)
        .assert_refused(1, &["PLUTO_UNIQUEID", "PLUTO_SA_REQID"]);
    fakes.assert_forgotten();
}

#[test]
fn a_translation_between_nothing_and_something_is_refused() {
    let mut fakes = Fakes::new();
    let cat = libreswan_up()
        .with("CAT", "YES")
        .with("PLUTO_MY_CLIENT", "10.0.10.1/32");
    assert_refused(&mut fakes, &cat.clone().without("PLUTO_ME"), "PLUTO_ME");
    assert_refused(&mut fakes, &cat.clone().with("PLUTO_ME", "%any"), "PLUTO_ME");
    assert_refused(&mut fakes, &cat.clone().with("PLUTO_ME", "fd00::1"), "PLUTO_ME");
    fakes.expect_success(&cat);
    // By now they may be gone.
    fakes.expect_success(&cat.opposite().without("PLUTO_ME").without("CAT"));
    fakes.assert_forgotten();
}

#[test]
fn the_culprit_is_named_even_if_everything_else_is_long() {
    let mut fakes = Fakes::new();
    let long = [0xff; 1024].map(char::from).iter().collect::<String>();
    let call = libreswan_up()
        .with("PLUTO_CONNECTION", &long[..1000])
        .with("PLUTO_SA_TYPE", "x".repeat(200));
    fakes.call(&call).assert_refused(1, &["PLUTO_SA_TYPE"]);
    let verb = libreswan_up()
        .with("PLUTO_CONNECTION", &long[..1000])
        .with("PLUTO_VERB", &long);
    fakes.call(&verb).assert_refused(1, &["PLUTO_VERB"]);
}

#[test]
fn an_unknown_verb_is_named() {
    let mut fakes = Fakes::new();
    let unknown = [
        "",
        "up",
        "up-",
        "up-client-v4",
        "UP-CLIENT",
        "up-client-v6-v6",
        "up-client ",
        "up-up",
        "down-up",
        "start",
        "--help",
    ];
    for verb in unknown {
        assert_refused(&mut fakes, &libreswan_up().with_verb(verb), "PLUTO_VERB");
    }
}

#[test]
fn verbs_without_work_succeed_quietly_and_start_nothing() {
    let mut fakes = Fakes::new();
    let operations = [
        "prepare",
        "route",
        "unroute",
        "disconnectNM",
        "updateresolvconf",
        "restoreresolvconf",
        "spdadd",
        "spddel",
    ];
    let suffixes = ["-host", "-client", "-host-v6", "-client-v6"];
    let scoped = operations
        .iter()
        .flat_map(|operation| suffixes.map(|suffix| format!("{operation}{suffix}")));
    for verb in scoped.chain(["disconnectNM".to_owned(), "prepare-route".to_owned()]) {
        fakes.expect_success(&libreswan_up().with_verb(&verb));
    }
    for verb in ["disconnectNM", "spdadd-client", "spddel-host-v6"] {
        // Not even the variables are looked at.
        fakes.expect_success(&Call::default().with_verb(verb));
        fakes.expect_success(&libreswan_up().with_verb(verb).with("PLUTO_MY_CLIENT", "nonsense"));
    }
    assert_eq!(fakes.started(), Vec::<String>::new());
    fakes.assert_forgotten();
}
