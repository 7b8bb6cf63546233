//! `docs/what-may-flow.md` and `table.txt`: every sentence of the page has its rows, and every row its sentence.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use pluto_updown::net::Family;

use super::scenario::{Scenario, Tunnels};

const PAGE: &str = include_str!("../../../docs/what-may-flow.md");
const TABLE: &str = include_str!("table.txt");

/// What the table has for a sentence.
pub(crate) struct Block<'a> {
    number: u32,
    pub(crate) sentence: &'a str,
    /// Its lines, without their indentation.
    lines: Vec<&'a str>,
}

/// `12. A sentence.`
fn numbered(line: &str) -> Option<(u32, &str)> {
    let (number, sentence) = line.split_once(". ")?;
    Some((number.parse().ok()?, sentence))
}

/// The tunnels that a table declares.
pub(crate) fn tunnels_of(table: &str) -> Tunnels {
    let declared = table.lines().filter_map(|line| line.strip_prefix("tunnel "));
    let declared = declared.filter_map(|line| line.split_once(": "));
    declared
        .map(|(name, line)| (name.to_owned(), line.to_owned()))
        .collect()
}

/// What a table has, sentence by sentence.
pub(crate) fn of_table(table: &str) -> Vec<Block<'_>> {
    let mut blocks: Vec<Block<'_>> = Vec::new();
    for line in table
        .lines()
        .filter(|line| !(line.is_empty() || line.starts_with('#') || line.starts_with("tunnel ")))
    {
        match (numbered(line), blocks.last_mut()) {
            (Some((number, sentence)), _) => blocks.push(Block {
                number,
                sentence,
                lines: Vec::new(),
            }),
            (None, Some(block)) if line.starts_with("  ") => block.lines.push(line.trim_start()),
            (None, _) => panic!("{line}"),
        }
    }
    blocks
}

/// The sentences of the page. Behind its introduction it has nothing else but headings.
fn sentences() -> BTreeMap<u32, String> {
    let body = PAGE.split_once("\n## ").expect("a first heading").1;
    let mut sentences: BTreeMap<u32, String> = BTreeMap::new();
    for line in body
        .lines()
        .skip(1)
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
    {
        match numbered(line) {
            Some((number, sentence)) => {
                let next = sentences.last_key_value().map_or(1, |(last, _)| last + 1);
                assert_eq!(number, next, "{line}");
                sentences.insert(number, sentence.to_owned());
            }
            None => {
                let (_, sentence) = sentences.iter_mut().next_back().unwrap_or_else(|| panic!("{line}"));
                assert!(line.starts_with("   "), "not a numbered sentence: {line}");
                let _ = write!(sentence, " {}", line.trim_start());
            }
        }
    }
    sentences
}

fn is_row(line: &str) -> bool {
    line.contains(" -> ")
}

#[test]
fn every_sentence_has_its_rows_and_every_row_its_sentence() {
    let sentences = sentences();
    let blocks = of_table(TABLE);
    let listed: Vec<_> = blocks
        .iter()
        .map(|block| (block.number, block.sentence.to_owned()))
        .collect();
    let of_page: Vec<_> = sentences.into_iter().collect();
    assert_eq!(listed, of_page);
    for block in blocks {
        let rows = block.lines.iter().filter(|line| is_row(line)).count();
        assert!(rows > 0, "{}. {}: no row", block.number, block.sentence);
    }
}

#[test]
fn every_packet_of_the_table_has_the_fate_that_the_page_tells() {
    let tunnels = tunnels_of(TABLE);
    let mut wrong = Vec::new();
    for block in of_table(TABLE) {
        for family in Family::ALL {
            wrong.extend(differences(&block, family, &tunnels, None));
        }
    }
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}

/// The rows of a block that come out otherwise in a family, on a gateway that begins with a settings file.
pub(crate) fn differences(block: &Block<'_>, family: Family, tunnels: &Tunnels, file: Option<&str>) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut scenario = Scenario::new(family, tunnels);
    file.into_iter().for_each(|text| scenario.file(text));
    let mut counts = true;
    for line in &block.lines {
        match *line {
            "anew" | "anew, IPv4" | "anew, IPv6" => {
                scenario = Scenario::new(family, tunnels);
                counts = match line.split_once(", ") {
                    None => true,
                    Some((_, only)) => (only == "IPv4") == (family == Family::Ipv4),
                };
            }
            _ if !counts => {}
            row if is_row(row) => {
                let (fate, expected) = scenario.verdict_and_expectation(row);
                if fate != expected {
                    wrong.push(format!(
                        "{}. {} ({family})\n    {row}\n    it {fate}",
                        block.number, block.sentence
                    ));
                }
            }
            event => wrong.extend(
                scenario
                    .make_event(event)
                    .err()
                    .map(|why| format!("{}. ({family}) {why}", block.number)),
            ),
        }
    }
    wrong
}
