//! Is the emulator as strict as `iptables-restore`? `strictness.txt` says of many texts who takes them; the emulator is held against
//! it, and it is held against the real programs: both backends and both families of iptables 1.8.9.

use std::io::Write as _;
use std::process::Stdio;

use crate::support::emulator::Emulator;
use crate::support::namespace::{Namespace, VARIANTS, prefix, tool};
use crate::support::packet;
use pluto_updown::net::Family;
use pluto_updown::netfilter::Backend;

/// Who takes a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Takers {
    /// Both backends and the emulator.
    All,
    /// Both backends. The emulator is stricter on purpose.
    BothVariants,
    Nft,
    Legacy,
    Nobody,
}

impl Takers {
    fn parse(word: &str) -> Self {
        match word {
            "taken" => Self::All,
            "strict" => Self::BothVariants,
            "nft" => Self::Nft,
            "legacy" => Self::Legacy,
            "refused" => Self::Nobody,
            other => panic!("{other}"),
        }
    }

    fn include(self, backend: Backend) -> bool {
        match self {
            Self::All | Self::BothVariants => true,
            Self::Nft => backend == Backend::Nft,
            Self::Legacy => backend == Backend::Legacy,
            Self::Nobody => false,
        }
    }
}

/// One line of the table, or a whole text.
struct Line {
    line: &'static str,
    takers: Takers,
    families: Vec<Family>,
    /// What goes to the command.
    text: String,
}

impl Line {
    fn parse(line: &'static str) -> Self {
        let (head, rules) = line.split_once(": ").unwrap_or_else(|| panic!("{line}"));
        let [takers, families, table] = head.split(' ').collect::<Vec<_>>()[..] else {
            panic!("{line}")
        };
        let families = match families {
            "4" => vec![Family::Ipv4],
            "6" => vec![Family::Ipv6],
            "46" => Family::ALL.to_vec(),
            other => panic!("{line}: {other}"),
        };
        Self {
            line,
            takers: Takers::parse(takers),
            families,
            text: format!("*{table}\n{}\nCOMMIT\n", rules.replace("; ", "\n")),
        }
    }
}

/// Whole texts: how one begins and ends, and what it may lack.
const TEXTS: [(Takers, &str); 17] = [
    (Takers::All, ""),
    (Takers::All, "\n"),
    (Takers::All, "# a comment\n"),
    (Takers::All, "# a comment"),
    (Takers::All, "*filter\nCOMMIT\n"),
    (Takers::All, "*filter\n\nCOMMIT\n"),
    (Takers::All, "*filter\n# a comment\nCOMMIT\n# another"),
    (Takers::All, "*filter\nCOMMIT\n*filter\nCOMMIT\n"),
    (Takers::Nft, "*filter\nCOMMIT"),
    (Takers::Nft, "*filter\n-A INPUT -j ACCEPT\nCOMMIT"),
    (Takers::Nobody, "*filter\n"),
    (Takers::Nobody, "*filter\n-A INPUT -j ACCEPT\n"),
    (Takers::Nobody, "-A INPUT -j ACCEPT\n"),
    (Takers::Nobody, "COMMIT\n"),
    (Takers::Nobody, "*filter\nCOMMIT\nCOMMIT\n"),
    (Takers::Nobody, " \n"),
    (Takers::Nobody, "*filter\n \nCOMMIT\n"),
];

fn lines() -> impl Iterator<Item = Line> {
    let texts = TEXTS.into_iter().map(|(takers, text)| Line {
        line: text,
        takers,
        families: Family::ALL.to_vec(),
        text: text.to_owned(),
    });
    include_str!("strictness.txt")
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(Line::parse)
        .chain(texts)
}

/// Every line that is not as it should be.
#[track_caller]
fn assert_none(wrong: &[String]) {
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn the_emulator_takes_what_both_variants_take_unless_it_is_stricter_on_purpose() {
    let mut wrong = Vec::new();
    for Line {
        line,
        takers,
        families,
        text,
    } in lines()
    {
        for family in families {
            let of = match family {
                Family::Ipv4 => packet::Family::V4,
                Family::Ipv6 => packet::Family::V6,
            };
            let restored = Emulator::for_family(of).restore(&text);
            if restored.is_ok() != (takers == Takers::All) {
                wrong.push(format!("{family}: {restored:?}: {line:?}"));
            }
        }
    }
    assert_none(&wrong);
}

#[test]
#[ignore = "needs root: run by contrib/test"]
fn iptables_takes_and_refuses_what_the_table_says() {
    let mut wrong = Vec::new();
    for backend in VARIANTS {
        let namespace = Namespace::bare(backend);
        for Line {
            line,
            takers,
            families,
            text,
        } in lines()
        {
            for family in families {
                let taken = takes(&namespace, backend, family, &text);
                if taken != takers.include(backend) {
                    wrong.push(format!("{backend} {family}: {taken}: {line:?}"));
                }
            }
        }
    }
    assert_none(&wrong);
}

/// Whether the real program takes the text, which then is all that its table holds.
fn takes(namespace: &Namespace, backend: Backend, family: Family, text: &str) -> bool {
    let program = tool(&format!("{}-{backend}-restore", prefix(family)));
    let mut command = namespace.command([program]);
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let mut child = command.spawn().expect("a running program");
    let mut input = child.stdin.take().expect("its input");
    input.write_all(text.as_bytes()).expect("a program that reads");
    drop(input);
    child.wait().expect("the end of the program").success()
}
