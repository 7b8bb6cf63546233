//! `--help`, and what is said of a command line that is not understood.

use pluto_updown::cli::command_line;

use crate::support::binary::{Ending, Hook};

/// What a terminal shows at least: lines, and columns.
const SCREEN: (usize, usize) = (24, 80);

/// The names of the commands.
pub(crate) fn commands() -> Vec<String> {
    let line = command_line();
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
fn the_help_of_a_command_has_only_options_that_apply() {
    for (command, has, lacks) in [
        ("start", &["--boot", "--dry-run", "--wait"][..], &["--no-routes"][..]),
        (
            "status",
            &["-j, --json", "-w, --watch"],
            &["--dry-run", "--wait", "--no-routes"],
        ),
        (
            "explain",
            &["--packet", "--diagram", "-v, --verbose"],
            &["--dry-run", "--wait", "--no-routes"],
        ),
        ("check", &["--wait"], &["--dry-run", "--no-routes"]),
        ("restore", &["-n, --dry-run", "-w, --wait", "--no-routes"], &[]),
        ("replay", &["--dry-run", "--no-routes"], &[]),
    ] {
        let text = run(&[command, "--help"]).out_text();
        for option in has.iter().chain(&["--config", "--state-dir", "--programs"]) {
            assert!(text.contains(option), "{command} {option}: {text}");
        }
        for option in lacks {
            assert!(!text.contains(option), "{command} {option}: {text}");
        }
    }
}

#[test]
fn an_option_that_does_not_apply_is_accepted_before_and_behind_the_command() {
    let none = tempfile::TempDir::new().unwrap();
    let folder = none.path().to_str().unwrap();
    for words in [
        &["--no-routes", "-w", "3", "status", "--names"][..],
        &["status", "--names", "--wait", "3", "-n", "--no-routes"],
        &["ls", "--names"],
    ] {
        let ending = run(&[&["--state-dir", folder][..], words].concat());
        assert_eq!((ending.code, ending.err_text().as_str()), (Some(0), ""), "{words:?}");
    }
}

#[test]
fn another_name_of_a_command_is_understood_and_is_in_no_help() {
    let help = |words: &[&str]| run(words).out_text();
    for (alias, command) in [
        ("list", "status"),
        ("ls", "status"),
        ("show", "status"),
        ("why", "explain"),
        ("trace", "explain"),
        ("doctor", "check"),
        ("verify", "check"),
        ("repair", "restore"),
        ("apply", "start"),
        ("plan", "start"),
        ("diff", "start"),
        ("clean", "prune"),
    ] {
        assert_eq!(help(&[alias, "--help"]), help(&[command, "--help"]), "{alias}");
        assert_eq!(help(&["help", alias]), help(&[command, "--help"]), "{alias}");
        assert!(!help(&["--help"]).contains(&format!("  {alias} ")), "{alias}");
    }
    assert_eq!(help(&["help"]), help(&["--help"]));
    assert_eq!(help(&["version"]), help(&["--version"]));
}

#[test]
fn a_plan_only_shows() {
    let folder = tempfile::TempDir::new().unwrap();
    let empty = folder.path().to_str().unwrap();
    for words in [&["plan"][..], &["diff"], &["start", "-n"], &["-n", "apply"]] {
        let state = folder.path().join("state");
        let options = ["--programs", empty, "--state-dir", state.to_str().unwrap()];
        let ending = run(&[&options[..], words].concat());
        assert!(!state.exists(), "{words:?}: {}", ending.err_text());
    }
}

#[test]
fn a_word_that_could_remove_or_open_something_is_answered_with_a_question() {
    for (word, meant) in [
        (
            "reload",
            "\"start\" (apply the settings) or \"restore\" (reinstall rules",
        ),
        ("reset", "\"flush\" (remove"),
        ("clear", "\"flush\" (remove"),
        ("undo", "\"flush\" (remove"),
        ("purge", "\"flush\" (remove"),
        ("allow", "\"unblock\" (allow"),
        ("open", "\"unblock\" (allow"),
    ] {
        let ending = run(&[word]);
        let text = ending.err_text();
        assert_eq!((ending.code, ending.out_text().as_str()), (Some(2), ""), "{word}");
        assert!(text.contains(&format!("did you mean {meant}")), "{word}: {text}");
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
        &["explain", "--packet", "10.1.0.9"],
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
