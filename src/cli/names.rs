//! Names that people type for a command, and the command that they mean.

use std::ffi::OsString;

use clap::Command;

/// Other names of a command, and what runs for them. Neither help nor the manual page nor a
/// completion has them.
///
/// None of them changes more than the command's own name says: a word that could mean two commands,
/// or one that removes something, is among the [`HINTS`].
const ALIASES: [(&str, &[&str]); 13] = [
    ("list", &["status"]),
    ("ls", &["status"]),
    ("show", &["status"]),
    ("why", &["explain"]),
    ("trace", &["explain"]),
    ("doctor", &["check"]),
    ("verify", &["check"]),
    ("repair", &["restore"]),
    ("apply", &["start"]),
    ("plan", &["start", "--dry-run"]),
    ("diff", &["start", "--dry-run"]),
    ("clean", &["prune"]),
    ("version", &["--version"]),
];

const START: &str = "\"start\" (apply the settings)";
const RESTORE: &str = "\"restore\" (reinstall rules that a firewall reload removed)";
const FLUSH: &str = "\"flush\" (remove every rule of pluto-updown, also of tunnels that are up)";
const UNBLOCK: &str = "\"unblock\" (allow unencrypted packets of a blocked pair)";

/// Words that are never run: they could mean two commands, or what they would do cannot be undone.
const HINTS: [(&str, &[&str]); 7] = [
    ("reload", &[START, RESTORE]),
    ("reset", &[FLUSH]),
    ("clear", &[FLUSH]),
    ("undo", &[FLUSH]),
    ("purge", &[FLUSH]),
    ("allow", &[UNBLOCK]),
    ("open", &[UNBLOCK]),
];

/// The commands that a word may have meant, for a question.
pub(super) fn command_hint(word: &str) -> Option<String> {
    let (_, meant) = HINTS.iter().find(|(name, _)| name.eq_ignore_ascii_case(word))?;
    Some(meant.join(" or "))
}

/// A command line with the command's own name in the place of another that people type. `line` says
/// which options take a value.
pub(super) fn with_own_names(mut arguments: Vec<OsString>, line: &Command) -> Vec<OsString> {
    let Some(place) = command_place(&arguments, line) else {
        return arguments;
    };
    let is_help = arguments.get(place).is_some_and(|word| word == "help");
    if is_help {
        // `help COMMAND` is `COMMAND --help`.
        arguments.remove(place);
        arguments.push("--help".into());
    }
    let word = arguments.get(place).and_then(|word| word.to_str());
    if let Some((_, words)) = ALIASES.iter().find(|(alias, _)| Some(*alias) == word) {
        arguments.splice(place..=place, words.iter().map(OsString::from));
    }
    arguments
}

/// The position of the command: the first word that is neither an option nor the value of one.
fn command_place(arguments: &[OsString], line: &Command) -> Option<usize> {
    let mut words = arguments.iter().enumerate().skip(1);
    while let Some((place, word)) = words.next() {
        // A word that is no text is neither a command nor an option.
        let word = word.to_str().unwrap_or_default();
        if !word.starts_with('-') {
            return Some(place);
        }
        if takes_next(word, line) {
            words.next();
        }
    }
    None
}

/// Whether the value of an option is the next word.
fn takes_next(word: &str, line: &Command) -> bool {
    let mut options = line.get_arguments().filter(|option| option.get_action().takes_values());
    options.any(|option| match word.strip_prefix("--") {
        Some(long) => option.get_long() == Some(long),
        None => option.get_short().is_some_and(|short| word == format!("-{short}")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::command_line;

    fn named(words: &str) -> String {
        let arguments = std::iter::once("pluto-updown").chain(words.split_whitespace());
        let arguments = with_own_names(arguments.map(OsString::from).collect(), &command_line());
        let words: Vec<_> = arguments.iter().skip(1).map(|word| word.to_str().unwrap()).collect();
        words.join(" ")
    }

    #[test]
    fn another_name_of_a_command_becomes_its_own_wherever_it_is() {
        for (typed, meant) in [
            ("ls", "status"),
            ("--wait 5 ls --json", "--wait 5 status --json"),
            ("-w 5 ls", "-w 5 status"),
            ("-w5 ls", "-w5 status"),
            ("--config=list show", "--config=list status"),
            ("--config list list", "--config list status"),
            ("diff", "start --dry-run"),
            ("-n plan -v", "-n start --dry-run -v"),
            ("why list", "explain list"),
            ("help", "--help"),
            ("help explain", "explain --help"),
            ("help why", "explain --help"),
            ("version", "--version"),
            ("", ""),
            ("--config", "--config"),
        ] {
            assert_eq!(named(typed), meant, "{typed}");
        }
    }

    #[test]
    fn no_name_is_two_things() {
        let line = command_line();
        let own = line.get_subcommands().map(Command::get_name);
        let names: Vec<_> = own
            .chain(ALIASES.map(|(name, _)| name))
            .chain(HINTS.map(|(name, _)| name))
            .chain(["help"])
            .collect();
        let once: std::collections::BTreeSet<_> = names.iter().collect();
        assert_eq!(once.len(), names.len());
        for (_, words) in ALIASES {
            let command = words[0];
            assert!(
                command == "--version" || line.find_subcommand(command).is_some(),
                "{command}"
            );
        }
    }

    #[test]
    fn what_removes_or_opens_is_only_hinted_at() {
        for word in ["reload", "reset", "clear", "undo", "purge", "allow", "open", "PURGE"] {
            assert_eq!(named(word), word);
            assert!(command_hint(word).is_some());
        }
    }
}
