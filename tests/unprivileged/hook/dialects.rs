//! An `up` of every dialect, and what it cannot do without.

use crate::support::binary::Call;
use crate::support::captures::find_call;

/// An `up` and the variables that it must have, each with values that it must not have.
pub(crate) struct Sample {
    pub(crate) name: &'static str,
    pub(crate) up: Call,
    /// Those that have to be there.
    pub(crate) required: &'static [&'static str],
}

const COMMON: [&str; 8] = [
    "PLUTO_CONNECTION",
    "PLUTO_MY_CLIENT",
    "PLUTO_PEER_CLIENT",
    "PLUTO_MY_PROTOCOL",
    "PLUTO_PEER_PROTOCOL",
    "PLUTO_MY_PORT",
    "PLUTO_PEER_PORT",
    "PLUTO_PEER_ID",
];

const LIBRESWAN: [&str; 10] = with(["PLUTO_SA_TYPE", "PLUTO_SA_REQID"]);
const STRONGSWAN: [&str; 10] = with(["PLUTO_PROTO", "PLUTO_REQID"]);
const OPENSWAN: [&str; 10] = with(["PLUTO_STACK", "PLUTO_VERSION"]);
const FREESWAN: [&str; 6] = [
    "PLUTO_CONNECTION",
    "PLUTO_MY_CLIENT",
    "PLUTO_PEER_CLIENT",
    "PLUTO_PEER_ID",
    "PLUTO_VERSION",
    "PLUTO_INTERFACE",
];

const fn with(own: [&'static str; 2]) -> [&'static str; 10] {
    let [a, b, c, d, e, f, g, h] = COMMON;
    [a, b, c, d, e, f, g, h, own[0], own[1]]
}

/// One `up` of each dialect. Those of Openswan and FreeS/WAN are made by hand, after the contract.
pub(crate) fn samples() -> Vec<Sample> {
    let captured = |name, capture, verb, required| Sample {
        name,
        up: find_call(capture, "net-net", verb),
        required,
    };
    let mut samples = vec![
        captured("libreswan 4", "libreswan-4.10", "up-client", &LIBRESWAN[..]),
        captured("libreswan 5.2", "libreswan-5.2", "up-client", &LIBRESWAN),
        captured("libreswan 5.4", "libreswan-5.4", "up-client", &LIBRESWAN),
        captured(
            "libreswan 5.4 async",
            "libreswan-5.4-async",
            "prepare-route-up",
            &LIBRESWAN,
        ),
        captured("strongSwan", "strongswan-6.0.1", "up-client", &STRONGSWAN),
    ];
    samples.push(Sample {
        name: "Openswan",
        up: openswan(),
        required: &OPENSWAN,
    });
    samples.push(Sample {
        name: "FreeS/WAN",
        up: freeswan(),
        required: &FREESWAN,
    });
    samples
}

fn openswan() -> Call {
    let ports = [
        "PLUTO_MY_PROTOCOL",
        "PLUTO_PEER_PROTOCOL",
        "PLUTO_MY_PORT",
        "PLUTO_PEER_PORT",
    ];
    let call = freeswan()
        .with("PLUTO_VERSION", "2.0")
        .with("PLUTO_STACK", "netkey")
        .with("PLUTO_INTERFACE", "eth0");
    ports.into_iter().fold(call, |call, name| call.with(name, "0"))
}

fn freeswan() -> Call {
    let variables = [
        ("PLUTO_VERSION", "1.1"),
        ("PLUTO_VERB", "up-client"),
        ("PLUTO_CONNECTION", "net-net"),
        ("PLUTO_NEXT_HOP", "192.1.2.23"),
        ("PLUTO_INTERFACE", "ipsec0"),
        ("PLUTO_ME", "192.1.2.45"),
        ("PLUTO_MY_CLIENT", "10.1.0.0/24"),
        ("PLUTO_PEER", "192.1.2.23"),
        ("PLUTO_PEER_ID", "@east.example"),
        ("PLUTO_PEER_CLIENT", "10.2.0.0/24"),
    ];
    variables
        .into_iter()
        .fold(Call::default(), |call, (name, value)| call.with(name, value))
}
