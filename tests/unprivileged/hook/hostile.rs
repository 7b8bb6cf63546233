//! Texts that a peer or an administrator chose, and bytes that no daemon should let through.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStringExt as _;

use super::fakes::Fakes;
use crate::support::binary::Call;
use crate::support::captures::{libreswan_up, strongswan_up};

/// What means something to a shell, to iptables-restore, to a terminal or to a file system.
const MEANINGFUL: [&[u8]; 18] = [
    b"$(touch @X@)",
    b"`touch @X@`",
    b";touch @X@;",
    b"'\"'\"",
    b"--foo",
    b"-j ACCEPT",
    b"a\" -j ACCEPT -m comment --comment \"b",
    b"a\n-A INPUT -j ACCEPT",
    b"COMMIT\n*nat\n-F\nCOMMIT\n",
    b"\r\n",
    b"\x1b[2J\x1b]0;title\x07",
    b"\x01",
    b"\xff\xfe",
    b"\xc3\xa4\xe2\x80\xae",
    b"../../../../tmp/x",
    b"%s%n%x",
    b"\\x41\\n",
    b" ",
];

/// Those, and some that are long.
fn hostile_texts() -> Vec<OsString> {
    let short = MEANINGFUL.into_iter().map(<[u8]>::to_vec);
    let long = [b'x', 0xff].map(|byte| vec![byte; 64 << 10]);
    short.chain(long).map(OsString::from_vec).collect()
}

/// The same with a file to be made in the place of `@X@`.
fn texts_touching(fakes: &Fakes) -> Vec<OsString> {
    let path = fakes
        .path("touched")
        .into_os_string()
        .into_string()
        .expect("a plain path");
    let touching = |text: OsString| match text.into_string() {
        Ok(text) => text.replace("@X@", &path).into(),
        Err(text) => text,
    };
    hostile_texts().into_iter().map(touching).collect()
}

/// What a call of this tunnel gives to its restore, if it is not refused.
fn restore_text(fakes: &mut Fakes, call: &Call) -> Option<String> {
    let ending = fakes.call(call);
    assert!(!fakes.path("touched").exists(), "a shell has read {call:?}");
    if ending.code != Some(0) {
        ending.assert_refused(1, &[]);
        fakes.assert_nothing_started();
        fakes.assert_forgotten();
        return None;
    }
    ending.assert_done();
    let mut inputs = fakes.inputs();
    fakes.expect_success(&call.clone().with_verb("down-client"));
    fakes.assert_forgotten();
    inputs.pop().map(|(_, text)| text)
}

/// What the peer or its administrator chooses, and what no rule depends on.
const CHOSEN_OF_LIBRESWAN: [&str; 10] = [
    "PLUTO_PEER_ID",
    "PLUTO_MY_ID",
    "PLUTO_USERNAME",
    "PLUTO_XAUTH_USERNAME",
    "PLUTO_PEER_DOMAIN_INFO",
    "PLUTO_PEER_DNS_INFO",
    "PLUTO_PEER_BANNER",
    "PLUTO_PEER_CA",
    "PLUTO_CONN_POLICY",
    "PATH",
];
const CHOSEN_OF_STRONGSWAN: [&str; 5] = [
    "PLUTO_PEER_ID",
    "PLUTO_XAUTH_ID",
    "PLUTO_MY_ID",
    "PLUTO_DNS4_1",
    "PLUTO_UDP_ENC",
];

#[test]
fn what_the_peer_says_of_itself_changes_not_a_byte_of_the_rules() {
    let mut fakes = Fakes::new();
    for (up, names) in [
        (libreswan_up(), &CHOSEN_OF_LIBRESWAN[..]),
        (strongswan_up(), &CHOSEN_OF_STRONGSWAN),
    ] {
        let plain = restore_text(&mut fakes, &up);
        assert!(plain.is_some());
        let texts = texts_touching(&fakes);
        for (name, text) in names.iter().flat_map(|name| texts.iter().map(move |text| (name, text))) {
            let call = up.clone().with(name, text);
            assert_eq!(restore_text(&mut fakes, &call), plain, "{name}={text:?}");
        }
    }
}

#[test]
fn any_name_of_a_connection_ends_in_safe_letters() {
    let mut fakes = Fakes::new();
    for up in [libreswan_up(), strongswan_up()] {
        let plain = restore_text(&mut fakes, &up).expect("a good call");
        for name in texts_touching(&fakes) {
            let Some(text) = restore_text(&mut fakes, &up.clone().with("PLUTO_CONNECTION", &name)) else {
                assert!(name.len() > 1024, "refused for its name: {name:?}");
                continue;
            };
            assert_eq!(rule_shape(&text), rule_shape(&plain), "{name:?}");
            let safe = |c: char| c.is_ascii_alphanumeric() || "._@:/#=+,()%- *\"\n[]".contains(c);
            // The only exclamation mark is our own.
            let text = text.replace("-m mark ! --mark ", "-m mark --mark ");
            assert!(text.chars().all(safe), "{name:?} became {text}");
        }
    }
}

/// The text without comments and with the last part of every word that names a chain left out.
fn rule_shape(text: &str) -> Vec<String> {
    let line = |line: &str| {
        let bare: String = line.split('"').step_by(2).collect();
        let words = bare.split(' ').map(
            |word| match word.strip_prefix(':').unwrap_or(word).starts_with("PLUTO-") {
                true => "CHAIN",
                false => word,
            },
        );
        words.collect::<Vec<_>>().join(" ")
    };
    let mut shape: Vec<_> = text.lines().map(line).collect();
    shape.sort();
    shape
}

#[test]
fn any_bytes_in_any_variable_are_either_understood_or_refused_in_one_line() {
    let mut fakes = Fakes::new();
    for up in [libreswan_up(), strongswan_up()] {
        let names: Vec<OsString> = up.variables.keys().cloned().collect();
        for name in names.iter().filter_map(|name| name.to_str()) {
            for text in texts_touching(&fakes).into_iter().step_by(3) {
                let call = up.clone().with(name, &text);
                match name {
                    // Another verb may well have no work, and then the down has none either.
                    "PLUTO_VERB" => fakes.call(&call).assert_refused(1, &["PLUTO_VERB"]),
                    _ => drop(restore_text(&mut fakes, &call)),
                }
            }
        }
    }
    fakes.assert_forgotten();
}

#[test]
fn names_that_differ_in_their_strange_bytes_only_are_different_tunnels() {
    let mut fakes = Fakes::new();
    let names: [&[u8]; 6] = [b"a\x01b", b"a\x02b", b"a-b", b"a b", b"a\xffb", b"a\\xffb"];
    let calls =
        names.map(|name| libreswan_up().with("PLUTO_CONNECTION", OsStr::new(&OsString::from_vec(name.to_vec()))));
    for call in &calls {
        fakes.expect_success(call);
    }
    assert_eq!(fakes.recorded().len(), names.len());
    for call in calls {
        fakes.expect_success(&call.opposite());
    }
    fakes.assert_forgotten();
}

#[test]
fn a_variable_of_any_name_does_no_harm() {
    let mut fakes = Fakes::new();
    let plain = restore_text(&mut fakes, &libreswan_up());
    let names = [
        "LD_PRELOAD_",
        "IFS",
        "ENV",
        "BASH_ENV",
        "BASH_FUNC_x%%",
        "PLUTO_NEW_IN_6",
        "RUST_BACKTRACE",
        "RUST_LOG",
        "XTABLES_LOCKFILE",
    ];
    for name in names {
        let call = libreswan_up().with(name, "() { touch /tmp/x; }; $(touch /tmp/x)\n");
        assert_eq!(restore_text(&mut fakes, &call), plain, "{name}");
    }
}
