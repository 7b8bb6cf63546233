//! Comments in `src` and `tests` use the field's words. Those in `src` are wrapped at 100 columns, so
//! that they can be read beside the code.

use std::fs;
use std::path::{Path, PathBuf};

/// The widest comment line, in characters, with its indentation.
const WIDEST: usize = 100;

/// Words and phrases that comments do not use, and the field's words for them. Names in backticks
/// and links are not looked at.
const PRIVATE: &[(&[&str], &str)] = &[
    (&["on record", "struck", "strikes", "strikes off"], "recorded, deletes"),
    (&["in clear", "clear text", "cleartext"], "unencrypted"),
    (
        &["held apart", "hold apart", "holds apart", "tell apart", "told apart"],
        "blocked, distinguish",
    ),
    (&["told", "untold"], "reported, passed, set"),
    (&["mend", "mends", "mended"], "repair, fix"),
    (&["device", "devices"], "interface"),
    (&["guard", "guards"], "blocked pair"),
    (&["piece", "pieces"], "fragment, part"),
    (&["duty", "duties", "sees to"], "action, does"),
    (&["put in", "puts in", "putting in"], "installed, installs, adds"),
    (&["taken out", "takes out", "take out"], "removed, removes"),
    (
        &["far network", "far end", "far side", "near network", "near end"],
        "remote, local",
    ),
    (&["hung", "hang together"], "jumps to, is attached"),
    (&["hidden behind", "becomes of"], "source-NATed to, the verdict on"),
    (
        &[
            "stood",
            "it stands",
            "that stands",
            "that stand",
            "stands in",
            "stands there",
        ],
        "is installed",
    ),
    (&["remembered", "anew"], "recorded, again"),
    (
        &["put back", "puts back", "gives back", "given back", "give back"],
        "restored, restores",
    ),
    (
        &["up no more", "runs no more", "no more ours"],
        "no longer up, has exited",
    ),
    (&["lifted", "lifts everything"], "unblocked"),
    (&["the clear", "spoken", "lets by"], "unencrypted, exchanged, bypasses"),
    (&["may flow"], "is allowed"),
    (&["nobody s business", "none of our business"], "irrelevant"),
];

/// Phrases with such words that are plain English all the same.
const PLAIN: &[&str] = &["named pipe, a device", "stands in for", "stand in for", "stands for"];

/// A comment's line in lower case, without names in backticks and without punctuation.
fn plain_words(comment: &str) -> String {
    let lower = comment.to_lowercase();
    let without_plain = PLAIN.iter().fold(lower, |text, phrase| text.replace(phrase, ""));
    let prose: String = without_plain.split('`').step_by(2).collect::<Vec<_>>().join(" ");
    let is_word = |letter: char| letter.is_alphanumeric() || letter == '-';
    let words: Vec<_> = prose
        .split(|letter| !is_word(letter))
        .filter(|word| !word.is_empty())
        .collect();
    format!(" {} ", words.join(" "))
}

/// The comment blocks of a file, each with the number of its first line.
fn comment_blocks(text: &str) -> Vec<(usize, String)> {
    let mut blocks: Vec<(usize, String)> = Vec::new();
    let mut follows = false;
    for (line, number) in text.lines().zip(1..) {
        let comment = line
            .trim_start()
            .strip_prefix("//")
            .map(|rest| rest.trim_start_matches(['/', '!']));
        match (comment, blocks.last_mut()) {
            (Some(comment), Some((_, block))) if follows => {
                block.push(' ');
                block.push_str(comment);
            }
            (Some(comment), _) => blocks.push((number, comment.to_owned())),
            (None, _) => {}
        }
        follows = comment.is_some();
    }
    blocks
}

/// The private words in a comment, with the field's words.
fn private_words(comment: &str) -> Vec<String> {
    let words = plain_words(comment);
    let entries = PRIVATE
        .iter()
        .flat_map(|(phrases, better)| phrases.iter().map(move |phrase| (phrase, better)));
    entries
        .filter(|(phrase, _)| words.contains(&format!(" {phrase} ")))
        .map(|(phrase, better)| format!("\"{phrase}\", better: {better}"))
        .collect()
}

#[test]
fn comments_use_the_fields_words() {
    let roots = ["src", "tests"].map(|root| Path::new(env!("CARGO_MANIFEST_DIR")).join(root));
    let mut found = Vec::new();
    // This file has private words as samples.
    let files = roots.iter().flat_map(|root| sources(root));
    for file in files.filter(|file| !file.ends_with(file!())) {
        let text = fs::read_to_string(&file).expect("a source file");
        for (number, comment) in comment_blocks(&text) {
            let words = private_words(&comment).into_iter();
            found.extend(words.map(|word| format!("{}:{number}: {word}", file.display())));
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn private_words_are_found_and_names_are_not() {
    let comment =
        "    /// Tunnels on\n    /// record, by device.\n    fn told() {}\n    // Their `device` is not looked at.\n";
    let found: Vec<_> = comment_blocks(comment)
        .iter()
        .map(|(number, text)| (*number, private_words(text).len()))
        .collect();
    assert_eq!(found, [(1, 2), (4, 0)]);
}

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
