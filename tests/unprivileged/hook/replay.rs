//! `replay` of files that are not captures.

use std::fs;

use super::fakes::Fakes;
use crate::support::binary::{Ending, is_printable};
use crate::support::captures::{names, path};

fn replay(fakes: &Fakes, content: &[u8]) -> Ending {
    let file = fakes.path("file.calls");
    fs::write(&file, content).expect("writing the file");
    let ending = fakes.hook().operate(&["replay", file.to_str().expect("a plain path")]);
    assert!(
        ending.out.split(|byte| *byte == b'\n').all(is_printable),
        "{}",
        ending.out_text()
    );
    ending
}

#[test]
fn every_capture_replays_with_every_call_good() {
    for name in names() {
        let fakes = Fakes::new();
        let file = path(&name);
        let ending = fakes.hook().operate(&["replay", file.to_str().expect("a plain path")]);
        assert_eq!(
            (ending.code, ending.err_text()),
            (Some(0), String::new()),
            "{}",
            ending.out_text()
        );
        let calls = fs::read_to_string(file)
            .expect("the capture")
            .lines()
            .filter(|line| line.starts_with('>'))
            .count();
        let summary = format!("{calls} calls, {calls} ok, 0 failed\n");
        assert!(ending.out_text().ends_with(&summary), "{}", ending.out_text());
        assert_eq!(ending.out_text().lines().count(), calls + 1);
        fakes.assert_forgotten();
    }
}

#[test]
fn a_file_without_calls_is_wrong_use() {
    let fakes = Fakes::new();
    for content in [
        &b""[..],
        b"\n\n",
        b"# only words\n",
        b"PLUTO_VERB=up-client\n",
        &[0xff; 4096],
        &[0; 4096],
    ] {
        replay(&fakes, content).assert_refused(2, &["file.calls", "no calls"]);
    }
    fakes.assert_forgotten();
}

#[test]
fn a_file_that_cannot_be_read_is_wrong_use() {
    let fakes = Fakes::new();
    for name in ["missing.calls", "programs"] {
        let file = fakes.path(name);
        fakes
            .hook()
            .operate(&["replay", file.to_str().expect("a plain path")])
            .assert_refused(2, &[name]);
    }
}

#[test]
fn a_call_that_is_junk_fails_alone() {
    let fakes = Fakes::new();
    let good = fs::read_to_string(path("libreswan-5.4")).expect("a capture");
    let junk: [&[u8]; 9] = [
        b"> \nnonsense\n",
        b"> \n=value\n",
        b"> \nPLUTO_VERB=\n",
        b"> \nPLUTO_VERB=up-client\n",
        b"> \nPLUTO_VERB=up-client\nPLUTO_CONNECTION=\x1b[2J\xff\0\n",
        b"> [--foo]\nPLUTO_VERB=up-client\n",
        b"> [unclosed\nPLUTO_VERB=down-client\n",
        b">\n",
        b"> \nPLUTO_VERB=\xff\xfe\n",
    ];
    for junk in junk {
        let ending = replay(&fakes, &[junk, b"\n", good.as_bytes(), b"\n", junk].concat());
        assert_eq!(
            (ending.code, ending.err_text()),
            (Some(1), String::new()),
            "{}",
            ending.out_text()
        );
        assert!(
            ending.out_text().ends_with("65 calls, 63 ok, 2 failed\n"),
            "{}",
            ending.out_text()
        );
        fakes.assert_forgotten();
    }
}
