//! Why a call cannot be understood.

use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt;

use super::names::push_escaped;

/// How much of a value an error shows, in characters after escaping.
const SHOWN: usize = 60;

/// Why a call cannot be understood: which variable, what it says, and what was expected.
///
/// Its message is one line of printable ASCII whatever the daemon or the peer sent, because Pluto
/// and charon copy it to their logs.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EnvError {
    /// A variable that this daemon always sets is missing or empty, or has a word for a missing
    /// value.
    #[error("{variable} is missing")]
    Missing {
        /// Which.
        variable: &'static str,
    },
    /// No variable says which daemon called.
    #[error(
        "no daemon's variables are set: expected PLUTO_UNIQUEID, PLUTO_REQID and PLUTO_PROTO (strongSwan), PLUTO_STACK \
         (libreswan, Openswan) or PLUTO_VERSION (FreeS/WAN) beside PLUTO_VERB"
    )]
    NoDaemon,
    /// A variable does not have the expected content.
    #[error("{variable}: {value}: expected {expected}")]
    Unexpected {
        /// Which.
        variable: String,
        /// What it holds.
        value: QuotedValue,
        /// The expected content.
        expected: &'static str,
    },
    /// A variable is longer than any daemon makes it: Pluto keeps all of them together below 2048
    /// bytes.
    #[error("{variable} is {length} bytes long: expected at most {most}")]
    TooLong {
        /// Which.
        variable: String,
        /// How long it is, in bytes.
        length: usize,
        /// How long it may be, in bytes.
        most: usize,
    },
    /// Two variables contradict each other.
    #[error("{first} is {first_value} and {second} is {second_value}: expected {expected}")]
    Contradiction {
        /// One of them.
        first: &'static str,
        /// What it holds.
        first_value: QuotedValue,
        /// The other one.
        second: &'static str,
        /// What that holds.
        second_value: QuotedValue,
        /// How they should agree.
        expected: &'static str,
    },
}

/// A value as an error shows it: in double quotes, with everything but plain printable ASCII as
/// `\xNN`, and cut to 60 characters, in which case `...` follows the closing quote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QuotedValue(String);

impl QuotedValue {
    /// Quotes a value.
    #[must_use]
    pub fn new(value: &OsStr) -> Self {
        let mut text = String::from("\"");
        for &byte in value.as_bytes() {
            let mut shown = String::new();
            match byte {
                b'"' | b'\\' => shown.extend(['\\', char::from(byte)]),
                plain_or_not => push_escaped(&mut shown, plain_or_not),
            }
            if text.len() + shown.len() > SHOWN + 1 {
                return Self(text + "\"...");
            }
            text += &shown;
        }
        Self(text + "\"")
    }
}

impl fmt::Display for QuotedValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quoted(value: &[u8]) -> String {
        QuotedValue::new(OsStr::from_bytes(value)).to_string()
    }

    #[test]
    fn nothing_reaches_a_message_unescaped() {
        assert_eq!(quoted(b"up-client"), r#""up-client""#);
        assert_eq!(quoted(b"a\"b\\c"), r#""a\"b\\c""#);
        assert_eq!(quoted(b"a\nb\x1b[1m\xff\x7f\t"), r#""a\x0ab\x1b[1m\xff\x7f\x09""#);
        assert_eq!(quoted("\u{e4}".as_bytes()), r#""\xc3\xa4""#);
        assert_eq!(quoted(b""), r#""""#);
    }

    #[test]
    fn a_long_value_is_cut_between_two_escapes() {
        assert_eq!(quoted(&[b'a'; 60]), format!("\"{}\"", "a".repeat(60)));
        assert_eq!(quoted(&[b'a'; 61]), format!("\"{}\"...", "a".repeat(60)));
        assert_eq!(quoted(&[0xff; 16]), format!("\"{}\"...", r"\xff".repeat(15)));
        assert_eq!(
            quoted(b"a\xff".repeat(13).as_slice()),
            format!("\"{}\"...", r"a\xff".repeat(12))
        );
    }
}
