//! Whether the table of variables is true.
//!
//! Nothing is recorded: a variable that is read must be able to change what comes out of a call,
//! and one that is ignored must not, whatever it is set to. That nothing outside the table is read,
//! the reading itself asserts in every test.

use super::*;
use crate::daemon::{Treatment, VARIABLES, treatment};

/// Values to try in every variable: some are right for some variables, the others are right for
/// none.
const VALUES: [&str; 14] = [
    "",
    "0",
    "1",
    "2.0",
    "yes",
    "YES",
    "NULL",
    "klips",
    "ipsec7",
    "203.0.113.7",
    "ipv6",
    "CK_INSTANCE",
    "IKEv2+COMPRESS",
    "n\u{4e2d}\n",
];

/// Whether there is a call whose outcome depends on the variable.
fn matters(name: &str) -> bool {
    let calls = every_kind()
        .into_iter()
        .map(|(_, call)| call)
        .chain(captured::road_warriors())
        .chain([cisco_client(), libreswan5().with("PLUTO_USERNAME", "anna")]);
    calls.flat_map(|call| [call.clone(), call.down()]).any(|call| {
        let outcome = call.parse_event();
        let changes = |value: &str| call.clone().with(name, value).parse_event() != outcome;
        call.clone().without(name).parse_event() != outcome || VALUES.iter().any(|value| changes(value))
    })
}

#[test]
fn what_is_read_matters_and_what_is_ignored_does_not() {
    for (pattern, treatment) in VARIABLES {
        let name = pattern.replace('*', "1");
        assert_eq!(matters(&name), *treatment == Treatment::Read, "{name}");
    }
}

#[test]
fn the_table_is_sorted_and_without_repetition() {
    assert!(VARIABLES.is_sorted_by(|(a, _), (b, _)| a < b));
}

#[test]
fn every_reason_says_something() {
    for (name, treatment) in VARIABLES {
        if let Treatment::Ignored(reason) = treatment {
            assert!(reason.len() > 20 && !reason.ends_with('.'), "{name}");
        }
    }
}

#[test]
fn a_star_stands_for_a_number_from_1() {
    assert!(treatment("PLUTO_DNS4_1").is_some());
    assert!(treatment("PLUTO_DNS4_12").is_some());
    for name in [
        "PLUTO_DNS4_",
        "PLUTO_DNS4_0",
        "PLUTO_DNS4_01",
        "PLUTO_DNS4_x",
        "PLUTO_DNS4_*",
        "PLUTO_DNS4",
        "HOME",
    ] {
        assert_eq!(treatment(name), None, "{name}");
    }
}
