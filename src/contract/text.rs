//! Names and texts that come from configurations and from peers, made safe to store, to log and to put into a rule's comment.

use std::fmt;
use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use crate::selector::Expected;

/// The longest name of a connection, in bytes as the daemon gives it. libreswan gives all variables together 2047 bytes.
const LONGEST_NAME: usize = 1024;

/// The longest text of a peer that is kept, in bytes after escaping.
const LONGEST_TEXT: usize = 512;

/// The longest comment, in bytes. iptables takes 255; half of it leaves room for a prefix of ours.
const LONGEST_COMMENT: usize = 128;

/// What stands at the end of a text that was cut.
const CUT: &str = "...";

/// What a slug is where a name has nothing readable.
const NAMELESS: &str = "tunnel";

/// The name of a connection, 1 to 1024 bytes: `PLUTO_CONNECTION`.
///
/// Kept as printable ASCII, every other byte and the backslash as `\xNN` (lower case), so that different names stay different.
/// Pluto's names contain `/`, `#`, `(`, `)`, `=`, `-` and `%` where it makes them itself (`leftsubnets=`, opportunistic groups).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ConnectionName(String);

impl ConnectionName {
    /// The name of these bytes, as a daemon gives them.
    pub fn new(raw: &[u8]) -> Result<Self, Expected> {
        if !(1..=LONGEST_NAME).contains(&raw.len()) {
            return Err(Expected("a name of 1 to 1024 bytes"));
        }
        let mut text = String::with_capacity(raw.len());
        for &byte in raw {
            if byte == b'\\' {
                escape_always(&mut text, byte);
            } else {
                escape(&mut text, byte);
            }
        }
        Ok(Self(text))
    }

    /// The escaped name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What of the name is readable in the name of a chain: at most `most` bytes of `A-Za-z0-9._-` that begin and end with a letter
    /// or digit. Runs of anything else become one `-`. Different names can have one slug.
    #[must_use]
    pub fn slug(&self, most: usize) -> String {
        let mut slug = String::new();
        for character in self.characters() {
            let readable = character.is_ascii_alphanumeric() || "._".contains(character);
            let character = if readable { character } else { '-' };
            let leading = slug.is_empty() && !character.is_ascii_alphanumeric();
            let repeated = character == '-' && slug.ends_with('-');
            if !leading && !repeated {
                slug.push(character);
            }
        }
        if slug.is_empty() {
            slug.push_str(NAMELESS);
        }
        slug.truncate(most);
        slug.truncate(slug.trim_end_matches(['-', '.', '_']).len());
        slug
    }

    /// The name for the comment of a rule: at most 128 bytes of `A-Za-z0-9._@:/#=+,()%-` and blank, with `_` for anything else.
    #[must_use]
    pub fn comment(&self) -> String {
        let plain = |c: char| c.is_ascii_alphanumeric() || "._@:/#=+,()%- ".contains(c);
        self.characters()
            .map(|c| if plain(c) { c } else { '_' })
            .take(LONGEST_COMMENT)
            .collect()
    }

    /// One character for each byte of the name; a backslash for each that is escaped.
    fn characters(&self) -> impl Iterator<Item = char> {
        let mut rest = self.0.chars();
        std::iter::from_fn(move || {
            let character = rest.next()?;
            if character == '\\' {
                rest.nth(2);
            }
            Some(character)
        })
    }
}

impl fmt::Display for ConnectionName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for ConnectionName {
    type Error = Expected;

    /// Takes the escaped form back. Only the form that [`ConnectionName::new`] makes is taken, so that one name has one form.
    fn try_from(text: String) -> Result<Self, Expected> {
        let form = Expected("a name in printable ASCII with other bytes as \\xNN");
        let raw = unescape(&text).ok_or(form.clone())?;
        let name = Self::new(&raw)?;
        if name.0 == text { Ok(name) } else { Err(form) }
    }
}

impl From<ConnectionName> for String {
    fn from(name: ConnectionName) -> Self {
        name.0
    }
}

/// A text that the peer or its administrator chose, for logs and listings: an identity or a user name.
///
/// Printable ASCII as it is, also the backslash, because libreswan has already written unusual bytes as `\ooo`; other bytes
/// as `\xNN`; at most 512 bytes of that, with `...` at the end where it was cut. Can be empty.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PeerText(String);

impl PeerText {
    /// The text of these bytes, as a daemon gives them.
    #[must_use]
    pub fn new(raw: &[u8]) -> Self {
        let mut text = String::new();
        // Where to cut if the text turns out too long: behind the last byte that leaves room for the dots.
        let mut whole = 0;
        for &byte in raw {
            escape(&mut text, byte);
            if text.len() + CUT.len() <= LONGEST_TEXT {
                whole = text.len();
            }
            if text.len() > LONGEST_TEXT {
                text.truncate(whole);
                text.push_str(CUT);
                break;
            }
        }
        Self(text)
    }

    /// The escaped text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it may have been cut: what stood behind is unknown then.
    #[must_use]
    pub fn is_cut(&self) -> bool {
        // A byte takes four characters at most, so that no cut text is shorter.
        self.0.ends_with(CUT) && self.0.len() + 4 > LONGEST_TEXT
    }

    /// Whether there is nothing in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Display for PeerText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for PeerText {
    type Error = Expected;

    fn try_from(text: String) -> Result<Self, Expected> {
        if text.len() > LONGEST_TEXT || !text.bytes().all(is_printable) {
            return Err(Expected("up to 512 bytes of printable ASCII"));
        }
        Ok(Self(text))
    }
}

impl From<PeerText> for String {
    fn from(text: PeerText) -> Self {
        text.0
    }
}

/// Appends a byte: printable ASCII as it is, another as `\xNN`.
pub(super) fn escape(text: &mut String, byte: u8) {
    if is_printable(byte) {
        text.push(char::from(byte));
    } else {
        escape_always(text, byte);
    }
}

fn escape_always(text: &mut String, byte: u8) {
    // Writing to a String cannot fail.
    let _ = write!(text, "\\x{byte:02x}");
}

fn is_printable(byte: u8) -> bool {
    (b' '..=b'~').contains(&byte)
}

/// The bytes that `\xNN` and plain characters stand for; nothing where a backslash begins something else.
fn unescape(text: &str) -> Option<Vec<u8>> {
    let mut raw = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, behind)) = rest.split_first() {
        if first == b'\\' {
            let digits = std::str::from_utf8(behind.strip_prefix(b"x")?.get(..2)?).ok()?;
            raw.push(u8::from_str_radix(digits, 16).ok()?);
            rest = behind.get(3..)?;
        } else {
            raw.push(first);
            rest = behind;
        }
    }
    Some(raw)
}

#[cfg(test)]
mod tests;
