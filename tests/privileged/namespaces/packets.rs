//! Real unencrypted packets, at a gateway between two machines: `packets.txt` says what must happen to each.
//!
//! Every packet has a length of its own, by which nft counts it: where it comes in, and behind all of iptables' filter rules. There it
//! bears a mark if it came to the administrator's own rules.

mod lab;
mod wire;

use std::collections::BTreeMap;

use pluto_updown::net::Family;
use pluto_updown::netfilter::Backend;

use crate::support::gateway::twins;
use lab::{ForeignMark, Lab, Outcome, PacketPath};
use wire::{Content, Names};

/// A line of the table.
#[derive(Debug)]
enum Line {
    /// A case begins, with these settings.
    Case(String),
    /// Something is done.
    Action(String),
    /// A packet is sent.
    Packet {
        text: &'static str,
        path: PacketPath,
        from: &'static str,
        to: &'static str,
        content: Content,
        outcome: Outcome,
    },
}

/// The lines of the table for a family.
fn lines(family: Family) -> Vec<Line> {
    let names = Names::for_family(family);
    let digit = match family {
        Family::Ipv4 => "4 ",
        Family::Ipv6 => "6 ",
    };
    let lines = include_str!("packets.txt").lines();
    let lines = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
    let lines = lines.filter_map(|line| match line.strip_prefix(['4', '6']) {
        Some(rest) => line.starts_with(digit).then(|| rest.trim_start()),
        None => Some(line),
    });
    lines.map(|line| parse_line(line, family, &names)).collect()
}

fn parse_line(line: &'static str, family: Family, names: &Names) -> Line {
    if let Some(settings) = line.strip_prefix("== ") {
        return Line::Case(names.put_into(settings).replace("; ", "\n"));
    }
    let Some((packet, verdict)) = line.split_once(": ") else {
        return Line::Action(line.to_owned());
    };
    let words: Vec<_> = packet.split(' ').collect();
    let [path, from, to, content @ ..] = &words[..] else {
        panic!("{line}")
    };
    Line::Packet {
        text: line,
        path: PacketPath::parse(path).unwrap_or_else(|| panic!("{line}")),
        from: names.address(from),
        to: names.address(to),
        content: Content::parse(content, family).unwrap_or_else(|| panic!("{line}")),
        outcome: Outcome::parse(verdict).unwrap_or_else(|| panic!("{line}")),
    }
}

/// Carries out the table, and returns every line that is wrong.
fn wrong_lines(backend: Backend, family: Family, mark: ForeignMark) -> Vec<String> {
    let mut lab = Lab::new(backend, family, mark);
    let mut wrong = Vec::new();
    let mut case = String::new();
    let mut sent: BTreeMap<u16, (&str, PacketPath, Outcome)> = BTreeMap::new();
    let mut judge = |lab: &mut Lab, sent: &mut BTreeMap<u16, (&'static str, PacketPath, Outcome)>, case: &str| {
        let lengths: Vec<_> = sent.iter().map(|(length, (_, path, _))| (*length, *path)).collect();
        let outcomes = lab.outcomes(&lengths);
        for ((_, (text, _, expected)), outcome) in std::mem::take(sent).into_iter().zip(outcomes) {
            if outcome != Some(expected) {
                wrong.push(format!(
                    "{backend} {family} {mark:?}: {text}, but {outcome:?} with {case:?}"
                ));
            }
        }
    };
    for line in lines(family) {
        match line {
            Line::Case(settings) => {
                judge(&mut lab, &mut sent, &case);
                lab.begin(&settings);
                case = settings;
            }
            // What is under way must not meet other rules.
            Line::Action(action) => {
                lab.wait();
                lab.make_action(&action);
            }
            Line::Packet {
                text,
                path,
                from,
                to,
                content,
                outcome,
            } => {
                let length = lab.send(path, from, to, &content);
                sent.insert(length, (text, path, outcome));
            }
        }
    }
    judge(&mut lab, &mut sent, &case);
    lab.begin("");
    wrong
}

#[test]
#[ignore = "needs root and iptables: run by contrib/test"]
fn real_unencrypted_packets_pass_and_are_dropped_as_the_table_says() {
    let mut all = Vec::new();
    for (backend, family) in twins() {
        for mark in [ForeignMark::Nothing, ForeignMark::AllBits] {
            all.extend(wrong_lines(backend, family, mark));
        }
    }
    assert!(all.is_empty(), "{} wrong:\n{}", all.len(), all.join("\n"));
}
