//! What is said about an error: one line of printable ASCII.

use std::fmt;

use toml::de::DeValue;

use crate::settings::Malformed;
use crate::words::{escaped, nearest, one_line};

/// How much of a text is shown, in bytes.
const SHOWN: usize = 60;

/// What is wrong, and where in the text, counted in bytes.
#[derive(Debug)]
pub(super) struct SettingsFault {
    at: usize,
    message: String,
}

impl SettingsFault {
    pub(super) fn new(
        at: usize,
        key: impl fmt::Display,
        found: impl fmt::Display,
        expected: impl fmt::Display,
    ) -> Self {
        Self::new_at(at, key, format_args!("found {found}, expected {expected}"))
    }

    /// Where what is wrong is not a value.
    pub(super) fn new_at(at: usize, key: impl fmt::Display, fault: impl fmt::Display) -> Self {
        let message = format!("{key}: {fault}");
        Self { at, message }
    }

    /// What the parser of TOML says, and the word that it stopped at.
    pub(super) fn syntax(text: &str, error: &toml::de::Error) -> Self {
        let span = error.span().unwrap_or_default();
        let message = one_line(error.message());
        let word = text.get(span.clone()).unwrap_or_default();
        let word = word.split(['\n', '\r']).next().unwrap_or_default();
        let message = match word {
            "" => format!("not TOML: {message}"),
            word => format!("not TOML: {message}, at {}", quoted(word)),
        };
        let at = span.start;
        Self { at, message }
    }

    /// With what may help, if there is anything.
    pub(super) fn hint(mut self, hint: Option<String>) -> Self {
        if let Some(hint) = hint {
            self.message.push_str("; ");
            self.message.push_str(&hint);
        }
        self
    }

    /// With the valid spelling that is nearest to what was written.
    pub(super) fn hint_nearest(self, written: &str, valid: &[&str]) -> Self {
        self.hint(nearest(written, valid).map(|word| meant_hint(&format!("\"{word}\""))))
    }

    /// With the number of its line.
    pub(super) fn in_text(self, text: &str) -> Malformed {
        Malformed {
            line: line_number(text, self.at),
            message: self.message,
        }
    }
}

pub(super) fn meant_hint(what: &str) -> String {
    format!("did you mean {what}?")
}

/// The line of a place in the text, both counted from 0 and 1 respectively. Only looked for where
/// there is an error.
pub(super) fn line_number(text: &str, at: usize) -> usize {
    text.bytes().take(at).filter(|byte| *byte == b'\n').count() + 1
}

/// A text as it is shown.
pub(super) fn quoted(text: &str) -> String {
    let shown = escaped(text.as_bytes(), SHOWN);
    let whole = escaped(text.as_bytes(), shown.len() + 4).len() == shown.len();
    format!("\"{shown}{}\"", if whole { "" } else { "..." })
}

/// A value as it is shown.
pub(super) fn value_text(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => quoted(text),
        DeValue::Integer(number) => format!("the number {}", escaped(number.to_string().as_bytes(), SHOWN)),
        DeValue::Float(number) => format!("the number {}", escaped(number.as_str().as_bytes(), SHOWN)),
        DeValue::Boolean(value) => value.to_string(),
        DeValue::Datetime(date) => format!("the date {date}"),
        DeValue::Array(items) if items.is_empty() => "an empty list".to_owned(),
        DeValue::Array(_) => "a list".to_owned(),
        DeValue::Table(_) => "a table".to_owned(),
    }
}

/// Words to choose from: `"any", "known" or "leave"`; followed by `more`, which is no such word.
pub(super) fn choice(words: &[&str], more: Option<&str>) -> String {
    let quoted = words.iter().map(|word| format!("\"{word}\""));
    alternatives(&quoted.chain(more.map(str::to_owned)).collect::<Vec<_>>())
}

/// `one, two or three`.
pub(super) fn alternatives(choices: &[String]) -> String {
    match choices {
        [] => String::new(),
        [one] => one.clone(),
        [first @ .., last] => format!("{} or {last}", first.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_text_is_shown_in_part() {
        assert_eq!(quoted("short"), "\"short\"");
        assert_eq!(quoted(&"a".repeat(60)), format!("\"{}\"", "a".repeat(60)));
        assert_eq!(quoted(&"a".repeat(61)), format!("\"{}...\"", "a".repeat(60)));
        assert_eq!(quoted("a\u{e4}\n\"\u{1b}"), "\"a\\xc3\\xa4\\n\\\"\\x1b\"");
    }
}
