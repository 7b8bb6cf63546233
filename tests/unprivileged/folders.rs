//! The order of the folders of `src`: each uses only those before it.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// The order, lowest first. A file beside the folders stands for itself.
const ORDER: [&str; 18] = [
    "words",
    "sys",
    "net",
    "logging",
    "netfilter",
    "netlink",
    "daemon",
    "settings",
    "firewall",
    "trace",
    "state",
    "apply",
    "routing",
    "dns",
    "cli",
    "updown",
    "commands",
    "lib",
];

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// The folder, or the file beside the folders, that a path below `src` belongs to.
fn folder_of(path: &Path) -> String {
    let first = path.components().next().expect("a path below src");
    let name = first.as_os_str().to_str().expect("a plain name");
    name.trim_end_matches(".rs").to_owned()
}

/// The folders that a source text names: behind `crate::`, alone or in braces. Comments count, since they make a reader look there.
fn named(text: &str) -> Vec<String> {
    let mut names = Vec::new();
    for (at, prefix) in text.match_indices("crate::") {
        let rest = &text[at + prefix.len()..];
        let paths = match rest.strip_prefix('{') {
            Some(group) => top_level(group),
            None => vec![rest],
        };
        names.extend(paths.into_iter().map(first_word));
    }
    names
}

/// The parts of a group in braces, split at its own commas and not at those of groups within.
fn top_level(group: &str) -> Vec<&str> {
    let (mut parts, mut depth, mut begin) = (Vec::new(), 0, 0);
    for (at, character) in group.char_indices() {
        match (character, depth) {
            ('{', _) => depth += 1,
            ('}', 0) => {
                parts.push(group[begin..at].trim());
                parts.retain(|part| !part.is_empty());
                break;
            }
            ('}', _) => depth -= 1,
            (',', 0) => {
                parts.push(group[begin..at].trim());
                begin = at + 1;
            }
            _ => {}
        }
    }
    parts
}

fn first_word(path: &str) -> String {
    path.chars()
        .take_while(|c| c.is_ascii_alphanumeric() || *c == '_')
        .collect()
}

/// Every use of a folder that is not before the user's own: `FILE uses FOLDER`.
fn backward(folder: &str, path: &str, text: &str) -> Vec<String> {
    let place = |name: &str| ORDER.iter().position(|known| *known == name);
    let own = place(folder);
    let names = named(text).into_iter().filter(|name| name != folder);
    // What is no folder is something in `lib.rs`, which comes last.
    names
        // A helper of the tests, which stands beside the crate.
        .filter(|name| *name != "property")
        .filter(|name| place(name).unwrap_or(ORDER.len()) >= own.unwrap_or(0))
        .map(|name| format!("{path} uses {name}"))
        .collect()
}

fn sources(folder: &Path, found: &mut BTreeMap<String, String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            let below = path.strip_prefix(Path::new(ROOT).join("src")).unwrap();
            found.insert(below.to_str().unwrap().to_owned(), text);
        }
    }
}

/// Every source file, by its path below `src`. The program's `main.rs` is a crate of its own.
fn all_sources() -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    sources(&Path::new(ROOT).join("src"), &mut found);
    found.remove("main.rs").expect("the program");
    found
}

#[test]
fn a_folder_uses_only_those_before_it() {
    let mut wrong = Vec::new();
    for (path, text) in all_sources() {
        wrong.extend(backward(&folder_of(Path::new(&path)), &path, &text));
    }
    assert_eq!(wrong, Vec::<String>::new());
}

#[test]
fn every_folder_has_its_place_in_the_order_and_on_the_page() {
    let mut folders: Vec<_> = all_sources().keys().map(|path| folder_of(Path::new(path))).collect();
    folders.dedup();
    let mut ordered = ORDER.map(str::to_owned).to_vec();
    ordered.sort();
    assert_eq!(folders, ordered);
    let page = fs::read_to_string(Path::new(ROOT).join("docs/architecture.md")).unwrap();
    let mut places = ORDER
        .iter()
        .filter(|name| **name != "lib")
        .map(|name| (page.find(&format!("| *{name}* |")), name));
    assert!(
        places.clone().all(|(place, _)| place.is_some()),
        "{:?}",
        places.find(|(place, _)| place.is_none())
    );
    assert!(places.is_sorted(), "the page has another order");
}

#[test]
fn a_backward_use_is_found_however_it_is_written() {
    for text in [
        "use crate::firewall::Path;",
        "pub(crate) use crate::firewall;",
        "use crate::{net::{Interface, Family}, firewall::{Path, Way}};",
        "fn f() -> crate::firewall::Path {",
        "    use crate::{\n        words,\n        firewall,\n    };",
        "/// See [`crate::firewall`].",
        "use crate::colours;",
    ] {
        let found = backward("settings", "settings/mod.rs", text);
        assert_eq!(found.len(), 1, "{text}: {found:?}");
    }
    for text in [
        "use crate::net::{Interface, Family};",
        "use crate::settings::Mss;",
        "use super::plan;",
    ] {
        assert_eq!(
            backward("settings", "settings/mod.rs", text),
            Vec::<String>::new(),
            "{text}"
        );
    }
}
