//! Every message, word for word.

use crate::settings::Settings;

/// Settings, and after `=> ` the line and the message that they are refused with.
const MESSAGES: &str = include_str!("messages.txt");

/// The parts of [`MESSAGES`].
fn messages() -> Vec<(String, &'static str)> {
    let mut messages = Vec::new();
    let mut text = String::new();
    for line in MESSAGES.lines() {
        match line.strip_prefix("=> ") {
            Some(message) => messages.push((std::mem::take(&mut text), message)),
            None => text.extend([line, "\n"]),
        }
    }
    // A blank line parts each from the one before it.
    let parted = |text: String| text.strip_prefix('\n').map(str::to_owned).unwrap_or(text);
    messages
        .into_iter()
        .map(|(text, message)| (parted(text), message))
        .collect()
}

#[test]
fn every_error_is_reported_with_line_key_found_and_expected() {
    let messages = messages();
    assert!(messages.len() > 80);
    for (text, message) in messages {
        let error = Settings::parse(&text).expect_err(&text);
        assert_eq!(format!("{}: {}", error.line, error.message), message, "{text}");
    }
}

#[test]
fn the_first_error_in_the_file_is_reported() {
    let text = "[tunnel]\nmss = 1\nallow = 1\n[gateway]\nike = 1\n";
    assert_eq!(Settings::parse(text).unwrap_err().line, 2);
}

#[test]
fn what_an_administrator_pasted_is_shown_escaped_and_cut() {
    let text = format!("[tunnel]\nallow = '\u{9b}31m{}'\n", "x".repeat(1000));
    let message = Settings::parse(&text).unwrap_err().message;
    assert!(
        message.starts_with("tunnel.allow: found \"\\xc2\\x9b31mxxx"),
        "{message}"
    );
    assert!(message.len() < 200, "{message}");
}
