//! Other people's words, made fit for one line of a log or a terminal.

/// Bytes as printable ASCII, everything else escaped as in a string literal of Rust; at most `longest` bytes of it, cut between two
/// escapes.
#[must_use]
pub fn escaped(bytes: &[u8], longest: usize) -> String {
    let mut text = String::new();
    for piece in bytes.iter().map(|byte| std::ascii::escape_default(*byte)) {
        if text.len() + piece.len() > longest {
            break;
        }
        text.extend(piece.map(char::from));
    }
    text
}

/// A text of several lines on one, with nothing in it that is not printable ASCII.
#[must_use]
pub fn one_line(text: &str) -> String {
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
    fn many_lines_become_one() {
        assert_eq!(one_line("one \n\n  two\u{1b}\u{e4}\n"), "one; two\\u{1b}\\u{e4}");
    }
}
