//! What is on the command line, and the settings file.

use std::ffi::OsString;
use std::fs::{self, Permissions};
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::PermissionsExt as _;

use super::fakes::Fakes;
use crate::support::binary::{Call, is_printable};
use crate::support::captures::{libreswan_up, strongswan_up};

fn with_arguments<W: Into<OsString>>(call: Call, words: impl IntoIterator<Item = W>) -> Call {
    Call {
        arguments: words.into_iter().map(Into::into).collect(),
        ..call
    }
}

#[test]
fn the_stock_scripts_arguments_change_nothing() {
    let mut fakes = Fakes::new();
    fakes.expect_success(&libreswan_up());
    let plain = fakes.inputs();
    fakes.expect_success(&libreswan_up().opposite());
    let lines: [&[&str]; 7] = [
        &["iptables"],
        &["ipfwadm"],
        &["custom", "a", "--b", "$(c)"],
        &["--route", "yes"],
        &["--route=no"],
        &["--iproute", "mtu 1400 advmss 1360"],
        &["--route", "yes", "--iproute=table 7", "custom", ""],
    ];
    for words in lines {
        fakes.expect_success(&with_arguments(libreswan_up(), words.iter().copied()));
        let texts = |inputs: Vec<(String, String)>| inputs.into_iter().map(|(_, text)| text).collect::<Vec<_>>();
        assert_eq!(texts(fakes.inputs()), texts(plain.clone()), "{words:?}");
        fakes.expect_success(&with_arguments(libreswan_up().opposite(), words.iter().copied()));
    }
    fakes.assert_forgotten();
}

#[test]
fn an_unknown_argument_is_wrong_use_and_no_usage_text() {
    let mut fakes = Fakes::new();
    for word in [
        "--help",
        "-h",
        "--version",
        "start",
        "--foo",
        "-j ACCEPT",
        "--x\n\x1b[31m",
    ] {
        let named = word.split('\n').next().expect("a first part");
        for verb in ["up-client", "down-client", "prepare-client"] {
            let call = with_arguments(libreswan_up().with_verb(verb), [word]);
            fakes.call(&call).assert_refused(2, &[named]);
        }
    }
    let strange = with_arguments(strongswan_up(), [OsString::from_vec(vec![0xff; 64 << 10])]);
    fakes.call(&strange).assert_refused(2, &["\\xff"]);
    fakes.assert_forgotten();
}

#[test]
fn an_option_without_its_value_is_named() {
    let mut fakes = Fakes::new();
    for option in [
        "--route",
        "--iproute",
        "--config",
        "--state-dir",
        "--programs",
        "--wait",
    ] {
        fakes
            .call(&with_arguments(libreswan_up(), [option]))
            .assert_refused(2, &[option]);
    }
    for wait in ["0", "61", "-1", "x", "1.5", "99999999999999999999"] {
        fakes
            .call(&with_arguments(libreswan_up(), ["--wait", wait]))
            .assert_refused(2, &["--wait"]);
    }
    fakes.assert_forgotten();
}

#[test]
fn a_dry_run_shows_all_and_does_nothing() {
    let mut fakes = Fakes::new();
    for up in [libreswan_up(), strongswan_up()] {
        let ending = fakes.call(&with_arguments(up, ["--dry-run"]));
        assert_eq!((ending.code, ending.err_text()), (Some(0), String::new()));
        let shown = ending.out_text();
        let text = shown.split_once("*filter\n").expect("a restore text").1;
        let (rules, record) = text.split_once("COMMIT\n").expect("an end of it");
        assert_eq!(
            fakes.tables[0].clone().restore(&format!("*filter\n{rules}COMMIT\n")),
            Ok(())
        );
        assert!(record.contains("\"connection\": \"net-net\""), "{record}");
        assert!(ending.out.split(|byte| *byte == b'\n').all(is_printable), "{shown}");
    }
    assert_eq!(fakes.started(), Vec::<String>::new());
    fakes.assert_forgotten();
}

#[test]
fn a_dry_run_shows_every_table_that_would_change() {
    let mut fakes = Fakes::new();
    let cat = libreswan_up()
        .with("CAT", "YES")
        .with("PLUTO_MY_CLIENT", "10.0.10.1/32");
    let shown = fakes.call(&with_arguments(cat, ["--dry-run"])).out_text();
    let mut lines = shown.lines();
    let title = "# up-client: would change the plain-ipv4 tables nat and filter:";
    assert_eq!(lines.next(), Some(title));
    let text: String = lines
        .take_while(|line| !line.starts_with('#'))
        .map(|line| format!("{line}\n"))
        .collect();
    assert!(text.contains("-j SNAT --to-source 10.0.10.1"), "{text}");
    assert_eq!(fakes.tables[0].clone().restore(&text), Ok(()));
}

#[test]
fn a_dry_run_knows_the_record_and_leaves_it() {
    let mut fakes = Fakes::new();
    fakes.expect_success(&libreswan_up());
    let before = fakes.everything();
    let shows = |call: Call, fakes: &mut Fakes| {
        let ending = fakes.call(&with_arguments(call, ["--dry-run"]));
        assert_eq!((ending.code, ending.err_text()), (Some(0), String::new()));
        fakes.assert_nothing_started();
        ending.out_text()
    };
    assert!(shows(libreswan_up(), &mut fakes).contains("would change no table"));
    assert!(shows(libreswan_up().opposite(), &mut fakes).contains("-X PLUTO-"));
    assert!(shows(libreswan_up().opposite().of_tunnel(3), &mut fakes).contains("nothing to do"));
    assert!(shows(libreswan_up().with_verb("route-client"), &mut fakes).contains("nothing to do"));
    assert_eq!(fakes.everything(), before);
}

#[test]
fn a_dry_run_shows_nothing_that_a_terminal_would_obey() {
    let mut fakes = Fakes::new();
    for name in ["PLUTO_CONNECTION", "PLUTO_PEER_ID", "PLUTO_USERNAME"] {
        let value = OsString::from_vec(b"a\x1b[2Jb\r\x07\xff\nc".to_vec());
        let ending = fakes.call(&with_arguments(libreswan_up().with(name, value), ["--dry-run"]));
        assert_eq!(ending.code, Some(0));
        assert!(
            ending.out.split(|byte| *byte == b'\n').all(is_printable),
            "{}",
            ending.out_text()
        );
    }
}

/// What is in a settings file, the line that is at fault, and what is reported of it.
const SETTINGS: [(&str, usize, &str); 6] = [
    ("\n\nallow = \"all\"\n", 3, "allow: found an unknown key"),
    ("[tunnel]\nallow = 1\n", 2, "tunnel.allow: found the number 1"),
    ("# a\n[[connection]]\n", 2, "connection[1]: needs at least one of name"),
    ("\"\\u001b[31m\" = 1\n", 1, "\"\\x1b[31m\": found an unknown key"),
    ("= 1\n", 1, "not TOML: "),
    ("a = \"\n", 1, "not TOML: "),
];

#[test]
fn settings_with_an_error_refuse_an_up_by_file_line_and_key_and_no_down() {
    let mut fakes = Fakes::new();
    let file = fakes.path("settings.toml");
    let config = ["--config".into(), file.clone().into_os_string()];
    fs::write(&file, "# nothing yet\n").expect("writing the settings");
    fs::set_permissions(&file, Permissions::from_mode(0o644)).expect("setting the mode of the settings");
    fakes.expect_success(&with_arguments(libreswan_up(), config.clone()));
    for (content, line, output) in SETTINGS {
        fs::write(&file, content).expect("writing the settings");
        let other = with_arguments(libreswan_up().of_tunnel(3), config.clone());
        let at = format!("{}:{line}: {output}", file.display());
        fakes.call(&other).assert_refused(2, &[&at]);
        fakes.assert_nothing_started();
    }
    fs::write(&file, [0xff, 0xfe]).expect("writing the settings");
    fakes
        .call(&with_arguments(libreswan_up(), config.clone()))
        .assert_refused(2, &["settings.toml:1: found bytes that are not UTF-8"]);
    fakes.expect_success(&with_arguments(libreswan_up().opposite(), config));
    fakes.assert_forgotten();
}

#[test]
fn settings_that_others_may_write_refuse_an_up_and_no_down() {
    let mut fakes = Fakes::new();
    let file = fakes.path("settings.toml");
    let config = ["--config".into(), file.clone().into_os_string()];
    fs::write(&file, "").expect("writing the settings");
    fs::set_permissions(&file, Permissions::from_mode(0o666)).expect("setting the mode of the settings");
    fakes
        .call(&with_arguments(libreswan_up(), config.clone()))
        .assert_refused(2, &["settings.toml: found a file that others can write (mode 0666)"]);
    fakes.assert_nothing_started();
    fakes.expect_success(&with_arguments(libreswan_up().opposite(), config));
    fakes.assert_forgotten();
}

#[test]
fn settings_that_are_named_must_be_there() {
    let mut fakes = Fakes::new();
    for missing in ["no-such-file", "programs"] {
        let config = ["--config".into(), fakes.path(missing).into_os_string()];
        fakes
            .call(&with_arguments(libreswan_up(), config.clone()))
            .assert_refused(2, &[missing]);
        fakes.expect_success(&with_arguments(libreswan_up().opposite(), config));
    }
    fakes.assert_forgotten();
}
