//! `--help`, and what is said of a command line that is not understood.

use clap::CommandFactory as _;
use pluto_updown::cli::CommandLine;

use crate::support::binary::{Ending, Hook};

/// What a terminal shows at least: lines, and columns.
const SCREEN: (usize, usize) = (24, 80);

/// The names of the commands.
pub(crate) fn commands() -> Vec<String> {
    let line = CommandLine::command();
    line.get_subcommands()
        .map(|command| command.get_name().to_owned())
        .collect()
}

fn run(words: &[&str]) -> Ending {
    Hook::new().operate(words)
}

fn fits(words: &[&str]) {
    let ending = run(words);
    let text = ending.out_text();
    assert_eq!((ending.code, ending.err_text().as_str()), (Some(0), ""), "{words:?}");
    assert!(text.is_ascii(), "{words:?}: {text}");
    assert!(
        text.lines().count() <= SCREEN.0,
        "{words:?} has {} lines:\n{text}",
        text.lines().count()
    );
    for line in text.lines() {
        assert!(line.len() <= SCREEN.1, "{words:?}: {} columns: {line}", line.len());
    }
}

#[test]
fn help_fits_a_screen() {
    fits(&["--help"]);
    for command in commands() {
        fits(&[&command, "--help"]);
    }
}

#[test]
fn the_short_help_is_the_long_one() {
    for words in [vec![], vec!["status"], vec!["explain"]] {
        let said = |option| run(&[&words[..], &[option]].concat()).out_text();
        assert_eq!(said("-h"), said("--help"), "{words:?}");
    }
}

#[test]
fn what_is_not_understood_ends_with_2_and_a_hint() {
    let wrong: [&[&str]; 8] = [
        &[],
        &["statsu"],
        &["status", "--jsn"],
        &["explain"],
        &["--wait", "0", "status"],
        &["status", "--names", "--json"],
        &["replay"],
        &["unblock", "a", "b"],
    ];
    for words in wrong {
        let ending = run(words);
        let text = ending.err_text();
        assert_eq!((ending.code, ending.out_text().as_str()), (Some(2), ""), "{words:?}");
        assert!(text.contains("Usage:") || text.contains("--help"), "{words:?}: {text}");
        for line in text.lines() {
            assert!(line.len() <= 100, "{words:?}: {line}");
        }
    }
}

#[test]
fn a_word_that_is_nearly_a_command_is_answered_with_the_command() {
    for (word, meant) in [
        ("statsu", "status"),
        ("restor", "restore"),
        ("explian", "explain"),
        ("chek", "check"),
    ] {
        let text = run(&[word]).err_text();
        assert!(text.contains(&format!("did you mean \"{meant}\"?")), "{word}: {text}");
    }
}
