//! What shells complete is what there is.

#![expect(clippy::disallowed_methods, reason = "tests start programs")]

use std::fs;
use std::process::Command;

use super::help::commands;
use super::manual::options;
use crate::support::binary::write_program;

const BASH: &str = include_str!("../../../contrib/completions/pluto-updown.bash");
const ZSH: &str = include_str!("../../../contrib/completions/pluto-updown.zsh");
const FISH: &str = include_str!("../../../contrib/completions/pluto-updown.fish");

/// The words of a text in which only letters and dashes count.
fn has(text: &str, word: &str) -> bool {
    let part = |c: char| c.is_ascii_alphanumeric() || c == '-';
    text.split(|c| !part(c)).any(|other| other == word)
}

#[test]
fn every_command_and_every_option_is_completed_by_every_shell() {
    for command in commands() {
        assert!(has(BASH, &command) && has(ZSH, &command), "{command}");
        assert!(FISH.contains(&format!(" -a {command} ")), "{command}");
    }
    for option in options() {
        let long = format!("--{option}");
        assert!(has(BASH, &long), "bash: {long}");
        // A dash or a bracket ends it, as zsh has values.
        assert!(
            ZSH.contains(&format!("{long}["))
                || ZSH.contains(&format!("{long}=-["))
                || ZSH.contains(&format!("{long}}}")),
            "zsh: {long}"
        );
        assert!(FISH.contains(&format!(" -l {option} ")), "fish: {long}");
    }
}

#[test]
fn no_shell_completes_an_option_that_there_is_not() {
    let all = options();
    for line in FISH.lines().filter(|line| line.starts_with("complete ")) {
        let words: Vec<_> = line.split(' ').collect();
        for pair in words.windows(2).filter(|pair| pair[0] == "-l") {
            assert!(
                all.contains(pair[1]) || pair[1] == "help" || pair[1] == "version",
                "fish: {line}"
            );
        }
    }
    for text in [BASH, ZSH] {
        let part = |c: char| c.is_ascii_lowercase() || c == '-';
        for word in text.split(|c| !part(c)).filter_map(|word| word.strip_prefix("--")) {
            assert!(
                word.is_empty() || all.contains(word.trim_end_matches('-')) || word == "version",
                "{word}"
            );
        }
    }
}

/// What bash offers behind these words, the last of which is being typed. The program in them has these tunnels.
fn bash(words: &[&str], tunnels: &str) -> Vec<String> {
    let folder = tempfile::TempDir::new().unwrap();
    let program = folder.path().join("pluto-updown");
    fs::write(folder.path().join("names"), tunnels).unwrap();
    let names = folder.path().join("names");
    let text = format!("#!/bin/sh\n[ \"$*\" = 'status --names' ] && cat {}\n", names.display());
    write_program(&program, text.as_bytes());
    let script = "eval \"$1\"; shift; COMP_WORDS=(\"$@\"); COMP_CWORD=$(($# - 1)); _pluto_updown; \
                  ((${#COMPREPLY[@]} == 0)) || printf '%s\\n' \"${COMPREPLY[@]}\"";
    let output = Command::new("bash")
        .args(["-c", script, "bash", BASH])
        .arg(&program)
        .args(words)
        .current_dir(folder.path())
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .map(str::to_owned)
        .collect()
}

#[test]
fn bash_completes_commands_options_and_files() {
    assert_eq!(bash(&["st"], ""), ["start", "stop", "status"]);
    assert_eq!(bash(&["--config", "/x", "ex"], ""), ["explain"]);
    assert_eq!(bash(&["status", "--nam"], ""), ["--names"]);
    assert_eq!(bash(&["flush", "--fo"], ""), ["--force"]);
    assert_eq!(bash(&["status", "--fo"], ""), [""; 0]);
    assert_eq!(bash(&["replay", "na"], ""), ["names"]);
    assert_eq!(bash(&["--config", "na"], ""), ["names"]);
    assert_eq!(bash(&["--wait", "1"], ""), [""; 0]);
}

#[test]
fn bash_completes_the_names_of_tunnels_whatever_is_in_them() {
    let tunnels = "office\noff the record\n$(touch x)\n*\nroad-1\n";
    assert_eq!(bash(&["explain", "off"], tunnels), ["office", "off\\ the\\ record"]);
    assert_eq!(bash(&["unblock", ""], tunnels).len(), 5);
    assert_eq!(bash(&["explain", "$"], tunnels), ["\\$\\(touch\\ x\\)"]);
    assert_eq!(bash(&["explain", "x"], tunnels), [""; 0]);
}

/// Whether a shell that is here takes a file. One that is not here says nothing.
#[test]
fn the_shells_that_are_here_understand_their_files() {
    for (shell, text) in [("bash", BASH), ("zsh", ZSH), ("fish", FISH)] {
        let folder = tempfile::TempDir::new().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, text).unwrap();
        if let Ok(output) = Command::new(shell).arg("-n").arg(&file).output() {
            assert!(output.status.success(), "{shell}: {output:?}");
        }
    }
}
