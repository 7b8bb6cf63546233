//! Names and texts that come from configurations and from peers, made safe to store, to log and to
//! put into a rule's comment.

#[cfg(test)]
mod tests;

use crate::net::text_type;
use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use crate::net::Expected;

/// The longest name of a connection, in bytes as the daemon gives it. libreswan gives all variables
/// together 2047 bytes.
const NAME_MAX: usize = 1024;

/// The longest text of a peer that is kept, in bytes. charon prints identities into 512 bytes
/// (`BUF_LEN` in `utils.h`), and so did Pluto up to libreswan 3.x (`IDTOA_BUF`): one of 511 may
/// have been longer.
const TEXT_MAX: usize = 510;

/// The longest comment, in bytes. iptables takes 255; half of it leaves room for a prefix of this
/// program.
const COMMENT_MAX: usize = 128;

/// The end of a text that was cut. No escape begins like that.
const CUT: &str = "\\...";

/// What a slug is where a name has nothing readable.
const NAMELESS: &str = "tunnel";

/// The name of a connection, 1 to 1024 bytes: `PLUTO_CONNECTION`.
///
/// Kept as printable ASCII, every other byte and the backslash as `\xNN` (lower case), so that
/// different names stay different. Pluto's names contain `/`, `#`, `(`, `)`, `=`, `-` and `%` where
/// it makes them itself (`leftsubnets=`, opportunistic groups).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ConnectionName(String);

impl ConnectionName {
    /// The name of these bytes, as a daemon gives them.
    pub fn new(raw: &[u8]) -> Result<Self, Expected> {
        if !(1..=NAME_MAX).contains(&raw.len()) {
            return Err(Expected("a name of 1 to 1024 bytes"));
        }
        Ok(Self(escaped_text(raw)))
    }

    /// The escaped name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name as the daemon gave it, byte for byte.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        unescape(&self.0).unwrap_or_default()
    }

    /// The name in the daemon's configuration, if Pluto formed this one from it: `NAME/1x2` for a
    /// part of `leftsubnets=` (`starterwhack.c`), `NAME#192.0.2.0/24` for a member of an
    /// opportunistic group (`foodgroups.c`).
    #[must_use]
    pub(crate) fn configured(&self) -> Option<Self> {
        let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let part = self.0.rsplit_once('/').filter(|(_, part)| {
            let ends = part.split_once('x');
            ends.is_some_and(|(local, remote)| is_number(local) && is_number(remote))
        });
        let (name, _) = part.or_else(|| self.0.split_once('#'))?;
        Some(Self(name.to_owned())).filter(|_| !name.is_empty())
    }

    /// What of the name is readable in the name of a chain: at most `most` bytes of `A-Za-z0-9._-`
    /// that begin and end with a letter or digit. Runs of anything else become one `-`. Different
    /// names can have one slug.
    #[must_use]
    pub(crate) fn slug(&self, most: usize) -> String {
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

    /// The name for the comment of a rule: at most 128 bytes of `A-Za-z0-9._@:/#=+,()%-` and blank,
    /// with `_` for anything else.
    #[must_use]
    pub fn comment(&self) -> String {
        let plain = |c: char| c.is_ascii_alphanumeric() || "._@:/#=+,()%- ".contains(c);
        self.characters()
            .map(|c| if plain(c) { c } else { '_' })
            .take(COMMENT_MAX)
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

impl TryFrom<String> for ConnectionName {
    type Error = Expected;

    /// Takes the escaped form back. Only the form that [`ConnectionName::new`] makes is taken, so
    /// that one name has one form.
    fn try_from(text: String) -> Result<Self, Expected> {
        let form = Expected("a name in printable ASCII with other bytes as \\xNN");
        let raw = unescape(&text).ok_or(form.clone())?;
        let name = Self::new(&raw)?;
        if name.0 == text { Ok(name) } else { Err(form) }
    }
}

text_type!(ConnectionName);

/// A text that the peer or its administrator chose: an identity or a user name. Can be empty.
///
/// Kept as printable ASCII, every other byte and the backslash as `\xNN` (lower case). At most 510
/// bytes of it are kept; `\...` at the end says that more followed, or that the rest is unknown.
/// Records of older versions hold backslashes that begin nothing of this.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PeerText(String);

impl PeerText {
    /// The text of these bytes. One that a daemon may have cut itself counts as cut.
    #[must_use]
    pub fn new(raw: &[u8]) -> Self {
        let text = Self(escaped_text(raw.get(..TEXT_MAX).unwrap_or(raw)));
        match raw.len() > TEXT_MAX {
            true => text.cut_to_limit(),
            false => text,
        }
    }

    /// The text as the beginning of one whose rest is unknown.
    #[must_use]
    pub(super) fn cut_to_limit(mut self) -> Self {
        if !self.is_cut() {
            self.0.push_str(CUT);
        }
        self
    }

    /// The escaped text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What is known of the text, byte for byte.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        let mut rest = self.0.strip_suffix(CUT).unwrap_or(&self.0).as_bytes();
        let mut raw = Vec::with_capacity(rest.len());
        while let Some((&first, behind)) = rest.split_first() {
            let escape = (first == b'\\').then(|| escaped_byte(behind)).flatten();
            raw.push(escape.unwrap_or(first));
            rest = if escape.is_some() { &behind[3..] } else { behind };
        }
        raw
    }

    /// Whether more may have followed that is unknown.
    #[must_use]
    pub(crate) fn is_cut(&self) -> bool {
        self.0.ends_with(CUT)
    }

    /// Whether there is nothing in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl TryFrom<String> for PeerText {
    type Error = Expected;

    fn try_from(text: String) -> Result<Self, Expected> {
        if text.len() > 4 * TEXT_MAX + CUT.len() || !text.bytes().all(is_printable) {
            return Err(Expected("up to 2044 bytes of printable ASCII"));
        }
        Ok(Self(text))
    }
}

text_type!(PeerText);

/// Printable ASCII as it is, other bytes and the backslash as `\xNN`.
fn escaped_text(raw: &[u8]) -> String {
    let mut text = String::with_capacity(raw.len());
    for &byte in raw {
        if byte == b'\\' {
            escape_always(&mut text, byte);
        } else {
            push_escaped(&mut text, byte);
        }
    }
    text
}

/// Appends a byte: printable ASCII as it is, another as `\xNN`.
pub(super) fn push_escaped(text: &mut String, byte: u8) {
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

/// The bytes that `\xNN` and plain characters stand for; `None` if a backslash begins anything
/// else.
fn unescape(text: &str) -> Option<Vec<u8>> {
    let mut raw = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, behind)) = rest.split_first() {
        if first == b'\\' {
            raw.push(escaped_byte(behind)?);
            rest = behind.get(3..)?;
        } else {
            raw.push(first);
            rest = behind;
        }
    }
    Some(raw)
}

/// The byte that `xNN` after a backslash means.
fn escaped_byte(behind: &[u8]) -> Option<u8> {
    let digits = behind.strip_prefix(b"x")?.get(..2)?;
    let value = |digit: u8| {
        char::from(digit)
            .to_digit(16)
            .and_then(|value| u8::try_from(value).ok())
    };
    Some(value(digits[0])? * 16 + value(digits[1])?)
}
