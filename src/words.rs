//! Text for people: foreign text made safe for one line of a log or a terminal, and our own.

mod nearest;

pub(crate) use nearest::{nearest, nearest_name};

use std::cmp::Ordering;

/// Bytes as printable ASCII, everything else escaped as in a string literal of Rust; at most
/// `longest` bytes of it, cut between two escapes.
#[must_use]
pub(crate) fn escaped(bytes: &[u8], longest: usize) -> String {
    let mut text = String::new();
    for escaped_byte in bytes.iter().map(|byte| std::ascii::escape_default(*byte)) {
        if text.len() + escaped_byte.len() > longest {
            break;
        }
        text.extend(escaped_byte.map(char::from));
    }
    text
}

/// A text of several lines on one, with nothing in it that is not printable ASCII.
#[must_use]
pub(crate) fn one_line(text: &str) -> String {
    let lines: Vec<_> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let escape = |c| {
        if matches!(c, ' '..='~') {
            c.to_string()
        } else {
            c.escape_default().to_string()
        }
    };
    lines.join("; ").chars().map(escape).collect()
}

/// A number with what it counts: `1 tunnel`, `2 tunnels`.
#[must_use]
pub(crate) fn counted_noun(number: usize, what: &str) -> String {
    match number {
        1 => format!("1 {what}"),
        number => format!("{number} {what}s"),
    }
}

/// A span of time in at most six characters: `59s`, `12m`, `2h13m`, `3d04h`, `120d`.
#[must_use]
pub(crate) fn duration_text(seconds: u64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, minutes) => format!("{minutes}m"),
        (0, hours, minutes) => format!("{hours}h{:02}m", minutes % 60),
        (days @ 1..100, hours, _) => format!("{days}d{:02}h", hours % 24),
        (days, ..) => format!("{days}d"),
    }
}

/// The order of two texts in which numbers count as such: `user7` comes before `user10`.
#[must_use]
pub(crate) fn natural_order(a: &str, b: &str) -> Ordering {
    let (mut one, mut other) = (a, b);
    while let (Some(first), Some(second)) = (first_piece(one), first_piece(other)) {
        let is_number = |part: &str| part.starts_with(|first: char| first.is_ascii_digit());
        let number = |part: &str| {
            let digits = part.trim_start_matches('0');
            (digits.len(), digits.to_owned())
        };
        let order = match is_number(first) && is_number(second) {
            true => number(first).cmp(&number(second)),
            false => first.cmp(second),
        };
        if order.is_ne() {
            return order;
        }
        (one, other) = (&one[first.len()..], &other[second.len()..]);
    }
    // Where one begins the other; and of `user7` and `user07`.
    one.len().cmp(&other.len()).then_with(|| a.cmp(b))
}

/// The digits that a text begins with, or what stands before the first one.
fn first_piece(text: &str) -> Option<&str> {
    let is_digit = text.chars().next()?.is_ascii_digit();
    let end = text.find(|next: char| next.is_ascii_digit() != is_digit);
    text.get(..end.unwrap_or(text.len()))
}

/// Lines of at most so many characters, broken at blanks where there are any. Nothing is cut off: a
/// network that is not shown whole is another network.
#[must_use]
pub(crate) fn wrapped(texts: &[String], width: usize) -> Vec<String> {
    let mut lines = Vec::new();
    for text in texts {
        let mut line = String::new();
        for word in text.split(' ') {
            let mut word = word;
            if !line.is_empty() && line.len() + 1 + word.len() > width {
                lines.push(std::mem::take(&mut line));
            }
            // All of it is ASCII: names and identities are escaped when they are read.
            while word.len() > width {
                let (first, rest) = word.split_at_checked(width).unwrap_or((word, ""));
                lines.push(first.to_owned());
                word = rest;
            }
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
        lines.push(line);
    }
    lines
}

/// A line in lines of at most so many characters, the later ones indented. No word is broken: it
/// may be an address.
#[must_use]
pub(crate) fn folded(text: &str, width: usize) -> Vec<String> {
    let indent = text.len() - text.trim_start().len();
    let mut lines = Vec::new();
    let mut line = " ".repeat(indent);
    let mut is_empty = true;
    for word in text.split_whitespace() {
        if !is_empty && line.len() + 1 + word.len() > width {
            lines.push(std::mem::replace(&mut line, " ".repeat(indent + 4)));
            is_empty = true;
        }
        if !is_empty {
            line.push(' ');
        }
        line.push_str(word);
        is_empty = false;
    }
    lines.push(line);
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_cut_in_the_middle_of_an_escape() {
        assert_eq!(escaped(b"ab\x1b\n\"", 60), "ab\\x1b\\n\\\"");
        assert_eq!(escaped(b"ab\x1b", 5), "ab");
        assert_eq!(escaped(b"ab\x1b", 6), "ab\\x1b");
    }

    #[test]
    fn numbers_in_texts_are_in_the_order_of_numbers() {
        let sorted = [
            "",
            "07",
            "7",
            "10",
            "a",
            "a1b2",
            "a1b10",
            "a2",
            "user",
            "user07",
            "user7",
            "user7a",
            "user10",
            "user99999999999999999999",
            "user100000000000000000000",
            "users",
        ];
        for (number, one) in sorted.iter().enumerate() {
            for (place, other) in sorted.iter().enumerate() {
                assert_eq!(natural_order(one, other), number.cmp(&place), "{one} {other}");
            }
        }
    }

    #[test]
    fn many_lines_become_one() {
        assert_eq!(one_line("one \n\n  two\u{1b}\u{e4}\n"), "one; two\\u{1b}\\u{e4}");
    }

    #[test]
    fn spans_are_short() {
        for (seconds, text) in [
            (0, "0s"),
            (59, "59s"),
            (3599, "59m"),
            (7980, "2h13m"),
            (86_400 + 7200, "1d02h"),
            (86_400 * 120, "120d"),
        ] {
            assert_eq!(duration_text(seconds), text);
        }
    }

    #[test]
    fn what_is_too_long_goes_on_in_the_next_line_and_is_never_cut() {
        let texts = ["10.1.0.0/24 - 2001:db8:aaaa:bbbb:cccc::/80".to_owned(), "x".repeat(25)];
        let lines = wrapped(&texts, 20);
        assert_eq!(
            lines,
            [
                "10.1.0.0/24 -",
                "2001:db8:aaaa:bbbb:c",
                "ccc::/80",
                &"x".repeat(20),
                "xxxxx"
            ]
        );
    }
}
