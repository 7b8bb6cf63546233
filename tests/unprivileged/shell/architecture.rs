//! docs/architecture.md matches the tree: every module in it exists, and every module is in it.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

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

/// Every module: a file, or a folder for all that is below it.
fn modules(folder: &Path, top: bool) -> Vec<String> {
    let mut paths: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    paths.sort();
    let mut modules = Vec::new();
    for path in paths {
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        match (path.is_dir(), name.as_str()) {
            (true, "tests") => {}
            (true, _) => modules.extend(modules_below(&path)),
            (false, "tests.rs") => {}
            (false, "mod.rs") if !top => {}
            (false, _) => modules.push(path.to_str().unwrap().to_owned()),
        }
    }
    modules
}

fn modules_below(folder: &Path) -> Vec<String> {
    modules(folder, false)
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
fn every_module_is_on_the_page() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let named = named();
    for path in modules(&root.join("src"), true) {
        let path = path.strip_prefix(&format!("{}/", root.display())).unwrap();
        assert!(named.contains(path), "{path} is not in docs/architecture.md");
    }
}

#[test]
fn every_module_of_the_test_programs_is_on_the_page() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let named = named();
    for top in ["tests/unprivileged", "tests/privileged"] {
        for entry in fs::read_dir(root.join(top)).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            let path = format!("{top}/{name}");
            assert!(
                name == "main.rs" || named.contains(&path),
                "{path} is not in docs/architecture.md"
            );
        }
    }
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
