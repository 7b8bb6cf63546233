//! pluto-updown(8) names what there is, and nothing else. (That pluto-updown.toml(5) does is a test of the settings' reader.)
//!
//! The page is written by hand: clap_mangen would write a page a command from the help texts, and most of the page is about what no option says.

use std::collections::BTreeSet;

use pluto_updown::cli::{command_line, hook_arguments};
use pluto_updown::daemon::{Treatment, VARIABLES};

use super::help::commands;

const PAGE: &str = include_str!("../../../contrib/man/pluto-updown.8");

/// The lines of a section.
fn section(name: &str) -> Vec<&'static str> {
    let heading = format!(".Sh {name}");
    let lines = PAGE.lines().skip_while(move |line| *line != heading).skip(1);
    let lines: Vec<_> = lines.take_while(|line| !line.starts_with(".Sh ")).collect();
    assert!(!lines.is_empty(), "{name}");
    lines
}

/// The words behind a macro in the heads of a section's lists.
fn heads<'a>(lines: &[&'a str], mark: &'a str) -> impl Iterator<Item = &'a str> {
    let heads: Vec<_> = lines.iter().filter(|line| line.starts_with(".It ")).copied().collect();
    heads.into_iter().flat_map(move |line| {
        let words: Vec<_> = line.split_ascii_whitespace().collect();
        let behind = |index: &usize| *index > 0 && words[index - 1] == mark;
        (0..words.len())
            .filter(behind)
            .map(|index| words[index])
            .collect::<Vec<_>>()
    })
}

/// The long options of every command that help shows, or that the page has for other reasons.
pub(crate) fn options() -> BTreeSet<String> {
    let mut line = command_line();
    line.build();
    let own = line.get_arguments();
    let all = line.get_subcommands().flat_map(clap::Command::get_arguments).chain(own);
    let longs = all.filter_map(|argument| argument.get_long()).map(str::to_owned);
    // How `check` starts itself; nobody types it.
    longs.filter(|long| long != "as-daemon").collect()
}

/// What a hook call is listed as accepting.
fn hook_options() -> BTreeSet<String> {
    let said = hook_arguments(&["--unheard-of".into()]).unwrap_err().to_string();
    let (_, expected) = said.split_once("expected ").unwrap();
    let words = expected.split([' ', ',']);
    words
        .filter_map(|word| word.strip_prefix("--"))
        .map(str::to_owned)
        .collect()
}

#[test]
fn every_option_is_in_the_manual_and_every_option_of_the_manual_is_one() {
    let lines: Vec<_> = PAGE.lines().collect();
    let described: BTreeSet<_> = heads(&lines, "Fl")
        .filter_map(|word| word.strip_prefix('-'))
        .map(str::to_owned)
        .collect();
    let all: BTreeSet<_> = options().union(&hook_options()).cloned().collect();
    assert_eq!(described, all);
}

/// mdoc quotes all of a line but delimiters at its end: `.Ql ok , note` would be shown as one quotation.
#[test]
fn no_delimiter_is_quoted_together_with_the_words_on_both_sides_of_it() {
    let settings = include_str!("../../../contrib/man/pluto-updown.toml.5");
    for line in PAGE.lines().chain(settings.lines()) {
        let is_delimiter = |word: &str| [".", ",", ":", ";", "(", ")", "?", "!"].contains(&word);
        for quoting in [".Ql ", ".Dq ", ".Sq ", ".Qq "] {
            let words = line.strip_prefix(quoting).unwrap_or_default().split(' ');
            let words: Vec<_> = words.skip_while(|word| is_delimiter(word)).collect();
            let end = words.iter().rposition(|word| !is_delimiter(word)).unwrap_or_default();
            assert!(!words[..end].iter().any(|word| is_delimiter(word)), "{line}");
        }
    }
}

#[test]
fn every_command_is_in_the_manual_and_every_command_of_the_manual_is_one() {
    let described: Vec<_> = section("COMMANDS")
        .iter()
        .filter_map(|line| line.strip_prefix(".It Cm "))
        .map(|line| line.split(' ').next().unwrap().to_owned())
        .collect();
    assert_eq!(described, commands());
}

#[test]
fn every_variable_that_is_read_is_in_the_manual_and_no_other() {
    let lines = section("ENVIRONMENT");
    let described: BTreeSet<_> = lines
        .iter()
        .filter_map(|line| line.strip_prefix(".It Ev "))
        .flat_map(|line| line.split(" , "))
        .collect();
    let read: BTreeSet<_> = VARIABLES
        .iter()
        .filter(|(_, treatment)| *treatment == Treatment::Read)
        .map(|(name, _)| *name)
        // Not the daemon's.
        .chain(["NO_COLOR", "TERM"])
        .collect();
    assert_eq!(described, read);
}

#[test]
fn the_exit_codes_of_the_manual_are_those_of_the_program() {
    let described: Vec<_> = section("EXIT STATUS")
        .iter()
        .filter_map(|line| line.strip_prefix(".It "))
        .collect();
    assert_eq!(described, ["0", "1", "2", "3"]);
}

#[test]
fn the_manual_has_the_commands_in_its_synopsis() {
    let lines = section("SYNOPSIS");
    for command in commands() {
        let is_there = |line: &&str| line.starts_with(".Cm ") && line.split(' ').any(|word| word == command);
        assert!(lines.iter().any(is_there), "{command}");
    }
}
