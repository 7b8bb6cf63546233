//! Comments in `src` are wrapped at 100 columns, so that they can be read beside the code.

use std::fs;
use std::path::{Path, PathBuf};

/// The widest comment line, in characters, with its indentation.
const WIDEST: usize = 100;

fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            files.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files
}

/// Whether a line of a source file is a comment that is too wide. Pictures and tables cannot be wrapped.
fn is_too_wide(line: &str) -> bool {
    let Some(comment) = line.trim_start().strip_prefix("//") else {
        return false;
    };
    let text = comment.trim_start_matches(['/', '!']);
    line.chars().count() > WIDEST && !text.starts_with("     ") && !text.contains(['─', '▶', '│'])
}

#[test]
fn comments_are_wrapped() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut wide = Vec::new();
    for file in sources(&source) {
        let text = fs::read_to_string(&file).expect("a source file");
        let lines = text.lines().zip(1..).filter(|(line, _)| is_too_wide(line));
        wide.extend(lines.map(|(line, number)| format!("{}:{number}: {line}", file.display())));
    }
    assert!(wide.is_empty(), "wider than {WIDEST} columns:\n{}", wide.join("\n"));
}

#[test]
fn what_is_too_wide_is_found() {
    let words = "word ".repeat(20);
    assert!(is_too_wide(&format!("    /// {words}")));
    assert!(is_too_wide(&format!("//! {words}")));
    assert!(!is_too_wide(&format!("//!     {words}")));
    assert!(!is_too_wide(&format!("let words = \"{words}\";")));
}
