//! Colours come on a terminal, and nowhere else.

#![expect(clippy::disallowed_methods, reason = "tests start programs")]

use std::process::{Command, Stdio};

use crate::support::binary::PROGRAM;

/// What `status` writes where there are no tunnels and no iptables: one line, which is green where colours are wanted.
fn status(on_terminal: bool, variables: &[(&str, &str)]) -> String {
    let folder = tempfile::TempDir::new().unwrap();
    let empty = folder.path().display();
    shell_output(
        on_terminal,
        variables,
        &format!("{PROGRAM} --programs {empty} --state-dir {empty}/none status"),
    )
}

/// The same of `status --watch`, until it has reported twice.
fn watch_output(on_terminal: bool, variables: &[(&str, &str)]) -> String {
    let folder = tempfile::TempDir::new().unwrap();
    let empty = folder.path().display();
    let watch = format!("{PROGRAM} --programs {empty} --state-dir {empty}/none status --watch=1");
    shell_output(on_terminal, variables, &format!("timeout 1.5 {watch} || true"))
}

/// What a line of shell writes.
fn shell_output(on_terminal: bool, variables: &[(&str, &str)], line: &str) -> String {
    let mut command = if on_terminal {
        // It gives the command a pseudo terminal, and copies what comes there.
        let mut script = Command::new("script");
        script.args(["--quiet", "--return", "--command", line, "/dev/null"]);
        script
    } else {
        let mut shell = Command::new("sh");
        shell.args(["-c", line]);
        shell
    };
    command.env_clear().env("PATH", "/usr/bin:/bin").env("SHELL", "/bin/sh");
    let output = command
        .envs(variables.iter().copied())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// The same of `check`, which finds no iptables there.
fn checked(on_terminal: bool, variables: &[(&str, &str)]) -> String {
    let folder = tempfile::TempDir::new().unwrap();
    let empty = folder.path().display();
    let check = format!("{PROGRAM} --programs {empty} --state-dir {empty}/none --root {empty} check");
    shell_output(on_terminal, variables, &format!("{check} || true"))
}

#[test]
fn what_is_wrong_is_red_in_a_check_on_a_terminal_that_has_colours() {
    if !nix::unistd::geteuid().is_root() {
        // Anybody else is only informed that it needs root.
        assert!(checked(false, &[]).is_empty());
        return;
    }
    let text = checked(true, &[("TERM", "xterm")]);
    assert!(text.contains("\u{1b}[1;31mWRONG\u{1b}[0m "), "{text:?}");
    assert!(text.contains("wrong\u{1b}[0m"), "{text:?}");
    for (on_terminal, variables) in [
        (false, &[("TERM", "xterm")][..]),
        (true, &[("TERM", "xterm"), ("NO_COLOR", "1")]),
        (true, &[("TERM", "dumb")]),
        (true, &[]),
    ] {
        let text = checked(on_terminal, variables);
        assert!(text.contains("WRONG "), "{text}");
        assert!(!text.contains('\u{1b}'), "{on_terminal} {variables:?}: {text:?}");
    }
}

#[test]
fn colours_come_on_a_terminal_that_has_them() {
    assert!(status(true, &[("TERM", "xterm")]).contains("\u{1b}[1;32mOK: no tunnel up\u{1b}[0m"));
    assert!(status(true, &[("TERM", "xterm"), ("NO_COLOR", "")]).contains("\u{1b}[1;32mOK: no tunnel up\u{1b}[0m"));
}

#[test]
fn colours_come_nowhere_else() {
    for (on_terminal, variables) in [
        (false, &[("TERM", "xterm")][..]),
        (true, &[("TERM", "xterm"), ("NO_COLOR", "1")]),
        (true, &[("TERM", "dumb")]),
        (true, &[]),
    ] {
        let text = status(on_terminal, variables);
        assert!(!text.contains('\u{1b}'), "{on_terminal} {variables:?}: {text:?}");
        assert!(text.starts_with("OK: no tunnel up"), "{text}");
    }
}

#[test]
fn watching_clears_the_screen_where_that_is_known_and_writes_no_escape_elsewhere() {
    for (on_terminal, variables, clears) in [
        (true, &[("TERM", "xterm")][..], true),
        (true, &[("TERM", "xterm"), ("NO_COLOR", "1")], true),
        (true, &[("TERM", "dumb")], false),
        (true, &[], false),
        (false, &[("TERM", "xterm")], false),
    ] {
        let text = watch_output(on_terminal, variables);
        assert!(text.contains("OK: no tunnel up"), "{text}");
        assert_eq!(text.contains('\u{1b}'), clears, "{on_terminal} {variables:?}: {text:?}");
    }
}
