//! README, CONTRIBUTING and docs: the files, headings and commands that they name exist.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use pluto_updown::cli::parse;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// Every page, by its path from the root.
fn pages() -> BTreeMap<PathBuf, String> {
    let docs = fs::read_dir(Path::new(ROOT).join("docs")).unwrap();
    let docs = docs.map(|entry| Path::new("docs").join(entry.unwrap().file_name()));
    let others = ["README.md", "CONTRIBUTING.md", "contrib/examples/pairs/README.md"].map(PathBuf::from);
    let paths = docs
        .chain(others)
        .filter(|path| path.extension().is_some_and(|extension| extension == "md"));
    paths
        .map(|path| (path.clone(), fs::read_to_string(Path::new(ROOT).join(path)).unwrap()))
        .collect()
}

/// A page without its blocks of code.
fn prose(page: &str) -> String {
    page.split("```").step_by(2).collect()
}

/// The anchors of a page's headings, as GitHub makes them.
fn anchors(page: &str) -> Vec<String> {
    let headings = page.lines().filter(|line| line.starts_with('#'));
    let plain = headings.map(|line| line.trim_start_matches('#').trim().to_lowercase());
    plain
        .map(|heading| {
            let kept = heading.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
            kept.map(|c| if c == ' ' { '-' } else { c }).collect()
        })
        .collect()
}

#[test]
fn every_link_of_a_page_leads_to_a_file_and_a_heading() {
    let pages = pages();
    let mut links = 0;
    for (path, page) in &pages {
        for link in prose(page).split("](").skip(1) {
            let target = link.split(')').next().unwrap();
            if target.starts_with("https://") {
                continue;
            }
            links += 1;
            let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
            let linked = if file.is_empty() {
                path.clone()
            } else {
                path.parent().unwrap().join(file)
            };
            let linked = Path::new(ROOT).join(linked);
            assert!(linked.exists(), "{}: {target} is not there", path.display());
            if !anchor.is_empty() {
                let there = anchors(&prose(&fs::read_to_string(&linked).unwrap()));
                assert!(
                    there.contains(&anchor.to_owned()),
                    "{}: {target}: there is only {there:?}",
                    path.display()
                );
            }
        }
    }
    assert!(links > 50, "{links}");
}

#[test]
fn every_source_file_that_a_page_names_exists() {
    let mut named = 0;
    for (path, page) in pages() {
        for span in prose(&page).split('`').skip(1).step_by(2) {
            if span.starts_with("src/") || span.starts_with("tests/") || span.starts_with("docs/") {
                named += 1;
                assert!(
                    Path::new(ROOT).join(span).exists(),
                    "{} names {span}, which is not there",
                    path.display()
                );
            }
        }
    }
    assert!(named > 20, "{named}");
}

/// The commands of this program in a page, between backquotes or at the head of a line of code. Words in capitals stand
/// for something. Hook calls (`pluto-updown --dry-run` after variables) are no commands.
fn commands(page: &str) -> BTreeSet<String> {
    let spans = page.split('`').map(str::to_owned);
    let fenced = page.split("```").skip(1).step_by(2).flat_map(str::lines);
    let code = fenced.chain(page.lines().filter(|line| line.starts_with("    ")));
    let lines = code.map(|line| line.trim_start_matches([' ', '#', '$']).to_owned());
    let texts = spans
        .chain(lines)
        .filter(|text| text.starts_with("pluto-updown ") && !text.starts_with("pluto-updown --"))
        // The heads of a table.
        .filter(|text| !text.contains("   "));
    texts
        .map(|text| {
            let end = text
                .find(['\n', ';', '|', '#', '`', ','].as_slice())
                .unwrap_or(text.len());
            text[..end].trim_end().to_owned()
        })
        .collect()
}

/// What stands for something, as something.
fn filled_in(word: &str) -> Option<&str> {
    match word {
        "..." | "[...]" => None,
        "FROM" | "TO" | "PEER" | "US" | "ADDRESS" => Some("192.0.2.1"),
        "PORT" => Some("80"),
        "PROTOCOL" => Some("udp"),
        "NAME" => Some("office"),
        other => Some(other),
    }
}

#[test]
fn every_command_of_a_page_is_understood() {
    let mut tried = 0;
    for (path, page) in pages() {
        for command in commands(&page) {
            let words: Vec<OsString> = command
                .split_whitespace()
                .filter_map(filled_in)
                .map(OsString::from)
                .collect();
            tried += 1;
            let parsed = parse(words);
            let is_shown = |error: &clap::Error| error.exit_code() == 0;
            assert!(
                parsed.as_ref().err().is_none_or(is_shown),
                "{}: {command}: {}",
                path.display(),
                parsed.unwrap_err()
            );
        }
    }
    assert!(tried > 40, "{tried}");
}
