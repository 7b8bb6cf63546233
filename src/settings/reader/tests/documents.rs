//! The manual page and the example say what the reader understands.

use std::collections::BTreeSet;

use super::*;
use crate::settings::service::Service;

const MANUAL: &str = include_str!("../../../../contrib/man/pluto-updown.toml.5");

const EXAMPLE: &str = include_str!("../../../../contrib/examples/pluto-updown.toml");

/// The lines of a section of the manual.
fn section(name: &str) -> impl Iterator<Item = &'static str> {
    let heading = format!(".Sh {name}");
    let lines = MANUAL.lines().skip_while(move |line| *line != heading).skip(1);
    lines.take_while(|line| !line.starts_with(".Sh "))
}

/// The lines about each key in a section.
fn described(name: &str) -> Vec<(&'static str, Vec<&'static str>)> {
    let mut keys: Vec<(&str, Vec<&str>)> = Vec::new();
    for line in section(name) {
        match (line.strip_prefix(".It Cm "), keys.last_mut()) {
            (Some(key), _) => keys.push((key, Vec::new())),
            (None, Some((_, lines))) => lines.push(line),
            (None, None) => {}
        }
    }
    keys
}

/// The displays among some lines.
fn displays(lines: impl IntoIterator<Item = &'static str>) -> Vec<String> {
    let mut displays = Vec::new();
    let mut open: Option<String> = None;
    for line in lines {
        match (&mut open, line) {
            (_, ".Bd -literal -offset indent") => open = Some(String::new()),
            (Some(_), ".Ed") => displays.extend(open.take()),
            (Some(text), line) => text.extend([line, "\n"]),
            (None, _) => {}
        }
    }
    displays
}

const SECTIONS: [(&str, &[&str]); 3] = [
    ("THE GATEWAY", &GATEWAY),
    ("TUNNELS", &TUNNEL),
    ("CONNECTIONS", &CONNECTION),
];

#[test]
fn every_key_is_in_the_manual_and_every_key_of_the_manual_is_one() {
    for (name, keys) in SECTIONS {
        let described: Vec<_> = described(name).into_iter().map(|(key, _)| key).collect();
        assert_eq!(described, keys, "{name}");
    }
}

#[test]
fn every_word_is_in_the_manual_and_every_word_of_the_manual_is_one() {
    let mut checked = 0;
    for (name, keys) in [("THE GATEWAY", &GATEWAY[..]), ("TUNNELS", &TUNNEL)] {
        let table = if keys == &GATEWAY[..] { "[gateway]" } else { "[tunnel]" };
        for (key, lines) in described(name) {
            let message = Settings::parse(&format!("{table}\n{key} = 1.5\n")).unwrap_err().message;
            // Of `"any", "known" or a list such as ["eth1"]` the words before the list.
            let words = message
                .split(" or a ")
                .next()
                .unwrap()
                .split(" or one ")
                .next()
                .unwrap();
            let words: BTreeSet<_> = words.split('"').skip(1).step_by(2).collect();
            let described: BTreeSet<_> = lines.iter().filter_map(|line| line.strip_prefix(".It Li ")).collect();
            if !described.is_empty() {
                assert_eq!(words, described, "{key}: {message}");
                checked += 1;
            }
        }
    }
    assert_eq!(checked, 13, "all but the lists and the chain");
}

#[test]
fn the_example_of_every_key_in_the_manual_is_understood() {
    for (name, keys) in SECTIONS {
        for (key, lines) in described(name) {
            let examples = displays(lines);
            assert_eq!(examples.len(), 1, "{key}");
            let example = &examples[0];
            assert!(example.starts_with(&format!("{key} = ")), "{key}");
            let beside = match key {
                "ike" | "esp" => "peers = [\"192.0.2.1\"]\n",
                "between" => "name = \"a\"\nwhen-down = \"block\"\n",
                _ => "",
            };
            let header = match name {
                "THE GATEWAY" => "[gateway]",
                "TUNNELS" => "[tunnel]",
                _ => "[[connection]]",
            };
            let text = format!("{header}\n{beside}{example}");
            let settings = Settings::parse(&text).unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_ne!(settings, Settings::default(), "{text}");
            assert!(keys.contains(&key));
        }
    }
}

#[test]
fn the_whole_files_in_the_manual_are_understood() {
    let examples = [displays(section("DESCRIPTION")), displays(section("EXAMPLES"))].concat();
    assert_eq!(examples.len(), 5);
    for text in examples {
        Settings::parse(&text).unwrap_or_else(|error| panic!("{text}: {error}"));
    }
}

#[test]
fn the_error_in_the_manual_is_one_that_is_reported() {
    let (_, message) = MANUAL.split_once("/etc/pluto-updown.toml:7: ").unwrap();
    let (message, _) = message.split_once("\n.Ed").unwrap();
    let text = "\n\n\n\n\n[tunnel]\nalow = \"all\"\n";
    let error = Settings::parse(text).unwrap_err();
    assert_eq!((error.line, error.message), (7, message.replace('\n', " ")));
}

/// The example with every setting uncommented: those after a `#` without a blank.
fn uncommented() -> String {
    let line = |line: &'static str| match line.strip_prefix('#') {
        Some(setting) if !setting.starts_with(' ') => setting,
        Some(_) | None => line,
    };
    EXAMPLE.lines().flat_map(|text| [line(text), "\n"]).collect()
}

#[test]
fn the_example_file_sets_nothing_as_it_is() {
    assert_eq!(Settings::parse(EXAMPLE), Ok(Settings::default()));
}

#[test]
fn the_example_file_has_every_key_at_its_default() {
    let text = uncommented();
    let Settings {
        gateway,
        tunnel,
        connections,
    } = Settings::parse(&text).unwrap();
    assert_eq!((gateway, tunnel), Default::default());
    assert_eq!(connections.len(), 1);
    for key in [&GATEWAY[..], &TUNNEL, &CONNECTION].concat() {
        let set = text
            .lines()
            .filter(|line| line.starts_with(&format!("{key} = ")))
            .count();
        // The block that goes with the pairs is set a second time.
        assert_eq!(set, if key == "when-down" { 2 } else { 1 }, "{key}");
    }
}

#[test]
fn every_setting_in_the_example_file_has_a_line_of_explanation() {
    let lines: Vec<_> = EXAMPLE.lines().collect();
    for pair in lines.windows(2) {
        if pair[1].starts_with('#') && !pair[1].starts_with("# ") {
            assert!(pair[0].starts_with("# "), "{}", pair[1]);
        }
    }
}

#[test]
fn every_word_for_a_service_is_in_the_manual() {
    let words: Vec<_> = section("SERVICES").flat_map(str::split_whitespace).collect();
    for spelling in Service::spellings().iter().filter(|spelling| !spelling.contains('/')) {
        assert!(words.contains(&spelling.as_str()), "{spelling}");
    }
}
