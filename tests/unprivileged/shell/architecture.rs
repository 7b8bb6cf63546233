//! docs/architecture.md matches the tree: what it names exists, and it names every folder of tests, script and page.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

const PAGE: &str = include_str!("../../../docs/architecture.md");

/// Every file and folder that the page names between backquotes, as a path from the root of the tree.
fn named() -> BTreeSet<String> {
    let spans = PAGE.split('`').skip(1).step_by(2);
    let paths = spans.filter(|span| {
        ["src/", "tests/", "contrib/", "docs/"]
            .iter()
            .any(|top| span.starts_with(top))
    });
    paths.map(|path| path.trim_end_matches('/').to_owned()).collect()
}

/// Every Rust file below a folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let paths = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let found = paths.flat_map(|path| match path.is_dir() {
        true => files(&path),
        false => vec![path],
    });
    found
        .filter(|path| path.extension().is_some_and(|extension| extension == "rs"))
        .collect()
}

#[test]
fn what_the_page_names_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let named = named();
    assert!(named.len() > 20);
    for path in named {
        assert!(
            root.join(&path).exists(),
            "docs/architecture.md names {path}, which is not there"
        );
    }
}

#[test]
fn every_module_says_in_its_first_line_what_it_is_for() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for path in ["src", "tests"].iter().flat_map(|top| files(&root.join(top))) {
        let text = fs::read_to_string(&path).unwrap();
        let is_of_tests_beside = path.ends_with("tests.rs") || path.ends_with("tests/mod.rs");
        assert!(
            text.starts_with("//! ") || is_of_tests_beside,
            "{} has no //! line",
            path.display()
        );
    }
}

#[test]
fn the_page_can_be_read_at_a_sitting() {
    assert!(PAGE.lines().count() <= 120);
}

#[test]
fn every_folder_of_tests_and_contrib_is_on_the_page() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let named = named();
    for top in ["tests", "contrib", "docs"] {
        for entry in fs::read_dir(root.join(top)).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            assert!(
                named.contains(&format!("{top}/{name}")),
                "{top}/{name} is not in docs/architecture.md"
            );
        }
    }
}
