//! Patterns for names and identities: `*` for any run of bytes, `?` for one.

use std::fmt::{self, Write as _};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::daemon::{ConnectionName, PeerText};
use crate::net::Expected;

/// The longest pattern, in bytes.
const LONGEST: usize = 512;

/// A pattern for the name of a connection. The administrator chose the names, so a star stands for
/// anything.
///
/// 1 to 512 bytes of UTF-8 without control characters; compared byte for byte, upper and lower case
/// unlike.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct NamePattern(String);

/// A pattern for an identity, which the peer chose.
///
/// 1 to 512 bytes of UTF-8 without control characters. A star or a question mark never matches
/// `,`, `=`, `/`, backslash or a control character. Nor does it match `@` or a blank, unless the
/// pattern has a `=` and so is a distinguished name's. So `C=CH, CN=x@staff.example` never
/// passes for the mail address that `*@staff.example` asks for, nor one part of a distinguished
/// name for two.
///
/// The `@` that libreswan writes before a host name, and strongSwan does not, is ignored at the
/// beginning.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct IdentityPattern(String);

/// Whether an entry of the settings is about a tunnel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Fit {
    /// It is not.
    No,
    /// An administrator may have meant it: what the peer chose fits in one reading and not in
    /// another.
    Doubtful,
    /// It is.
    Yes,
}

impl From<bool> for Fit {
    fn from(fits: bool) -> Self {
        match fits {
            true => Self::Yes,
            false => Self::No,
        }
    }
}

impl NamePattern {
    /// Whether the connection is meant. The pattern is compared with the name, and with the name as
    /// it is escaped in logs.
    #[must_use]
    pub fn fits(&self, name: &ConnectionName) -> bool {
        self.fits_text(&name.bytes()) || self.fits_text(name.as_str().as_bytes())
    }

    /// The same for a connection of Pluto's, which forms names of its own from those in its
    /// configuration: the parts of `leftsubnets=` are called `NAME/1x2` (`starterwhack.c`), the
    /// members of an opportunistic group `NAME#192.0.2.0/24` (`foodgroups.c`).
    #[must_use]
    pub(crate) fn fits_plutos(&self, name: &ConnectionName) -> bool {
        self.fits(name) || name.configured().is_some_and(|configured| self.fits(&configured))
    }

    /// Whether it may fit a connection of this name in a daemon's configuration, or a name that
    /// Pluto forms from that: with anything behind `NAME/` or `NAME#`.
    #[must_use]
    pub(crate) fn may_fit_configured(&self, name: &ConnectionName) -> bool {
        let (pattern, text) = (self.0.as_bytes(), name.bytes());
        let is_end = |end: usize| match pattern.get(end) {
            None | Some(b'/' | b'#' | b'*' | b'?') => true,
            // A star stands for the rest of the name and for what is behind it.
            Some(_) => end > 0 && pattern[end - 1] == b'*',
        };
        let mut ends = (0..=pattern.len()).filter(|end| is_end(*end));
        self.fits(name) || ends.any(|end| fits(&pattern[..end], &text, |_| true, |pattern, byte| pattern == byte))
    }

    /// Whether every connection is meant.
    #[must_use]
    pub(crate) fn fits_all(&self) -> bool {
        self.0.bytes().all(|byte| byte == b'*')
    }

    fn fits_text(&self, text: &[u8]) -> bool {
        fits(self.0.as_bytes(), text, |_| true, |pattern, byte| pattern == byte)
    }
}

impl IdentityPattern {
    /// Whether the identity is meant.
    ///
    /// In doubt if it fits only where a star stands for a separator, where upper and lower case are
    /// alike, as the daemons compare host names and mail addresses (RFC 7296 leaves it to them), or
    /// where the daemon's spelling can stand for other bytes; and if the identity was cut, and its
    /// beginning fits.
    #[must_use]
    pub fn fit(&self, identity: &PeerText) -> Fit {
        let text = identity.bytes();
        let (pattern, text) = (without_at(self.0.as_bytes()), without_at(&text));
        let separators: &[u8] = if self.0.contains('=') { b",=/\\" } else { b",=/\\@ " };
        let wild = |byte: u8| !separators.contains(&byte) && !byte.is_ascii_control();
        if !identity.is_cut() && !text.is_empty() && fits(pattern, text, wild, |pattern, byte| pattern == byte) {
            return Fit::Yes;
        }
        let may_fit = |text: &[u8]| match identity.is_cut() {
            true => starts_with_folded(pattern, text),
            false => fits(pattern, text, |_| true, may_be),
        };
        match may_fit(text) || may_fit(&octal(text)) {
            true => Fit::Doubtful,
            false => Fit::No,
        }
    }

    /// Whether a user is meant whose name libreswan has stripped to `[-_.0-9A-Za-z]`
    /// (`jam_clean_xauth_username`). In doubt if only the pattern, stripped like the name, fits.
    #[must_use]
    pub(crate) fn fit_stripped(&self, user: &PeerText) -> Fit {
        let stripped: String = self.0.chars().filter(|character| is_left(*character)).collect();
        let doubt = match stripped != self.0 && Self(stripped).fit(user) > Fit::No {
            true => Fit::Doubtful,
            false => Fit::No,
        };
        self.fit(user).max(doubt)
    }

    /// Whether it is ASCII, as all that strongSwan writes is: see `may_be`.
    #[must_use]
    pub fn is_ascii(&self) -> bool {
        self.0.is_ascii()
    }

    /// Whether it is about names that libreswan passes unchanged: see [`Self::fit_stripped`].
    #[must_use]
    pub(crate) fn is_stripped(&self) -> bool {
        self.0.chars().all(is_left)
    }
}

fn is_left(character: char) -> bool {
    character.is_ascii_alphanumeric() || "-_.*?".contains(character)
}

/// Whether a byte of an identity may be that of a pattern. strongSwan writes `?` for every byte
/// that is not printable ASCII.
fn may_be(pattern: u8, byte: u8) -> bool {
    pattern.eq_ignore_ascii_case(&byte) || byte == b'?' && !pattern.is_ascii()
}

/// A text with every `\ooo` beyond ASCII, three octal digits, as the byte that libreswan 5.4 may
/// have meant by it (`jam_sanitized_bytes`); it leaves a backslash of the peer's as it is, so that
/// this is not known.
fn octal(text: &[u8]) -> Vec<u8> {
    let mut rest = text;
    let mut decoded = Vec::with_capacity(text.len());
    while let Some((&first, behind)) = rest.split_first() {
        let digits = behind.get(..3).and_then(|digits| std::str::from_utf8(digits).ok());
        let byte = digits.and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match byte.filter(|byte| first == b'\\' && !byte.is_ascii()) {
            Some(byte) => {
                decoded.push(byte);
                rest = &behind[3..];
            }
            None => {
                decoded.push(first);
                rest = behind;
            }
        }
    }
    decoded
}

/// Whether a text that begins like this may fit, if stars and question marks stand for anything.
fn starts_with_folded(pattern: &[u8], text: &[u8]) -> bool {
    // The ends of the pattern's prefixes that the text so far can fit.
    let mut ends = vec![false; pattern.len() + 1];
    ends[0] = true;
    let pass_stars = |ends: &mut Vec<bool>| {
        for at in 0..pattern.len() {
            ends[at + 1] |= ends[at] && pattern[at] == b'*';
        }
    };
    pass_stars(&mut ends);
    for byte in text {
        let mut next = vec![false; ends.len()];
        for at in (0..pattern.len()).filter(|at| ends[*at]) {
            match pattern[at] {
                b'*' => next[at] = true,
                b'?' => next[at + 1] = true,
                other => next[at + 1] |= may_be(other, *byte),
            }
        }
        ends = next;
        pass_stars(&mut ends);
    }
    ends.contains(&true)
}

fn without_at(text: &[u8]) -> &[u8] {
    text.strip_prefix(b"@").unwrap_or(text)
}

/// Whether a text fits a pattern, where `wild` says which bytes a star or a question mark stands
/// for, and `same` whether a byte of the pattern stands for a byte of the text. Takes time in the
/// product of the two lengths at most.
fn fits(pattern: &[u8], text: &[u8], wild: impl Fn(u8) -> bool, same: impl Fn(u8, u8) -> bool) -> bool {
    let (mut at, mut read) = (0, 0);
    // Where to continue if the rest after the last star does not fit: after the star, which matches
    // one byte more.
    let mut retry: Option<(usize, usize)> = None;
    while read < text.len() {
        match pattern.get(at) {
            Some(b'*') => {
                at += 1;
                retry = Some((at, read));
                continue;
            }
            Some(b'?') if wild(text[read]) => {
                at += 1;
                read += 1;
                continue;
            }
            Some(byte) if *byte != b'?' && same(*byte, text[read]) => {
                at += 1;
                read += 1;
                continue;
            }
            Some(_) | None => {}
        }
        match retry {
            // An earlier star could take nothing that this one cannot: whatever stopped this one
            // would have to be passed by it too.
            Some((behind, taken)) if wild(text[taken]) => {
                retry = Some((behind, taken + 1));
                (at, read) = (behind, taken + 1);
            }
            Some(_) | None => return false,
        }
    }
    pattern[at..].iter().all(|byte| *byte == b'*')
}

fn checked(text: &str) -> Result<String, Expected> {
    let printable = !text.chars().any(char::is_control);
    if !printable || !(1..=LONGEST).contains(&text.len()) {
        return Err(Expected(
            "a pattern of 1 to 512 bytes without control characters, * and ? among them",
        ));
    }
    Ok(text.to_owned())
}

impl FromStr for NamePattern {
    type Err = Expected;

    fn from_str(text: &str) -> Result<Self, Expected> {
        checked(text).map(Self)
    }
}

impl TryFrom<String> for NamePattern {
    type Error = Expected;

    fn try_from(text: String) -> Result<Self, Expected> {
        text.parse()
    }
}

impl From<NamePattern> for String {
    fn from(pattern: NamePattern) -> Self {
        pattern.0
    }
}

impl FromStr for IdentityPattern {
    type Err = Expected;

    fn from_str(text: &str) -> Result<Self, Expected> {
        checked(text).map(Self)
    }
}

/// ASCII as it is, other bytes as `\xNN`.
fn write_ascii(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    text.bytes().try_for_each(|byte| match byte.is_ascii() {
        true => f.write_char(char::from(byte)),
        false => write!(f, "\\x{byte:02x}"),
    })
}

impl fmt::Display for NamePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_ascii(f, &self.0)
    }
}

impl fmt::Display for IdentityPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_ascii(f, &self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(pattern: &str, name: &str) -> bool {
        let name = ConnectionName::new(name.as_bytes()).unwrap();
        pattern.parse::<NamePattern>().unwrap().fits(&name)
    }

    fn fit(pattern: &str, identity: &str) -> Fit {
        let identity = PeerText::new(identity.as_bytes());
        pattern.parse::<IdentityPattern>().unwrap().fit(&identity)
    }

    #[test]
    fn a_star_stands_for_any_run_and_a_question_mark_for_one() {
        for (pattern, name, fits) in [
            ("road-*", "road-warrior", true),
            ("road-*", "road-", true),
            ("road-*", "rail-road-1", false),
            ("*", "x", true),
            ("net?", "net1", true),
            ("net?", "net", false),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "a-b-b-cd", false),
            ("net/*x*", "net/1x2", true),
            ("ROAD", "road", false),
            ("B\u{fc}ro", "B\u{fc}ro", true),
            ("B\\xc3\\xbcro", "B\u{fc}ro", true),
            ("B??ro", "B\u{fc}ro", true),
        ] {
            assert_eq!(named(pattern, name), fits, "{pattern} {name}");
        }
    }

    #[test]
    fn a_connection_of_plutos_has_the_name_in_its_configuration_too() {
        for (pattern, name, fits) in [
            ("subnets", "subnets/1x1", true),
            ("subnets", "subnets/10x2", true),
            ("subnets/1x1", "subnets/1x1", true),
            ("subnets/1x1", "subnets/1x2", false),
            ("subnets", "subnets/1x", false),
            ("subnets", "subnets/x1", false),
            ("subnets", "subnets/1x1/1x1", false),
            ("private", "private#10.0.0.0/8", true),
            ("private", "private#10.0.0.0/8-(6--80--0)", true),
            ("private", "private#2001:db8::/32", true),
            ("private#*", "private#10.0.0.0/8", true),
            ("private", "private2#10.0.0.0/8", false),
        ] {
            let name = ConnectionName::new(name.as_bytes()).unwrap();
            let pattern: NamePattern = pattern.parse().unwrap();
            assert_eq!(pattern.fits_plutos(&name), fits, "{pattern} {name}");
        }
    }

    #[test]
    fn a_distinguished_name_never_passes_for_a_mail_address() {
        assert_eq!(fit("*@staff.example", "anna@staff.example"), Fit::Yes);
        for hostile in [
            "C=CH, CN=anna@staff.example",
            "x, anna@staff.example",
            "anna@evil.example@staff.example",
            "anna x@staff.example",
            "anna\\040@staff.example",
            "ev/e@staff.example",
            "\u{0}@staff.example",
            "anna@Staff.example",
        ] {
            assert_eq!(fit("*@staff.example", hostile), Fit::Doubtful, "{hostile:?}");
        }
        for stranger in ["anna@staff.example, CN=x", "anna@staff.example ", "@staff.example/anna"] {
            assert_eq!(fit("*@staff.example", stranger), Fit::No, "{stranger:?}");
        }
    }

    #[test]
    fn a_star_stands_for_no_separator_of_a_distinguished_name() {
        assert_eq!(fit("C=CH, O=staff, CN=*", "C=CH, O=staff, CN=Anna Meier"), Fit::Yes);
        assert_eq!(
            fit("C=CH, O=staff, CN=*", "C=CH, O=staff, CN=x, O=staff"),
            Fit::Doubtful
        );
        assert_eq!(fit("*, O=staff, CN=*", "C=CH, O=evil, O=staff, CN=anna"), Fit::Doubtful);
        assert_eq!(fit("C=CH, O=staff, CN=*", "C=CH, O=guest, CN=Anna Meier"), Fit::No);
    }

    #[test]
    fn a_pattern_can_hold_what_is_no_ascii() {
        let pattern = "C=DE, O=Gr\u{fc}n \"Nord\" GmbH, CN=*";
        assert_eq!(fit(pattern, "C=DE, O=Gr\u{fc}n \"Nord\" GmbH, CN=J\u{fc}rg"), Fit::Yes);
        // As strongSwan writes it: every byte may be another one.
        assert_eq!(fit(pattern, "C=DE, O=Gr??n \"Nord\" GmbH, CN=J??rg"), Fit::Doubtful);
        assert_eq!(fit(pattern, "C=DE, O=Gr?n \"Nord\" GmbH, CN=J??rg"), Fit::No);
        // As libreswan 5.4 writes what is no distinguished name.
        assert_eq!(fit("*@gr\u{fc}n.example", r"eve@gr\303\274n.example"), Fit::Doubtful);
        assert!("a\tb".parse::<IdentityPattern>().is_err());
        assert!("a\u{85}b".parse::<IdentityPattern>().is_err());
    }

    #[test]
    fn what_the_peer_says_is_no_pattern() {
        assert_eq!(fit("anna@staff.example", "*@staff.example"), Fit::No);
        assert_eq!(fit("anna@staff.example", "?nna@staff.example"), Fit::No);
        assert_eq!(fit("?nna@staff.example", "?nna@staff.example"), Fit::Yes);
    }

    #[test]
    fn the_sign_that_only_one_daemon_writes_is_ignored() {
        assert_eq!(fit("@gate.example", "gate.example"), Fit::Yes);
        assert_eq!(fit("*.example", "@gate.example"), Fit::Yes);
    }

    #[test]
    fn an_identity_that_is_empty_or_was_cut_is_in_doubt_where_it_may_fit() {
        assert_eq!(fit("*", ""), Fit::Doubtful);
        assert_eq!(fit("a*", ""), Fit::No);
        let long = format!("eve{}", "a".repeat(600));
        for (pattern, expected) in [
            ("*", Fit::Doubtful),
            ("eve*@guest.example", Fit::Doubtful),
            ("*@guest.example", Fit::Doubtful),
            ("anna*", Fit::No),
            ("eve", Fit::No),
        ] {
            assert_eq!(fit(pattern, &long), expected, "{pattern}");
        }
    }

    #[test]
    fn a_user_whose_name_was_stripped_is_in_doubt() {
        let fit = |pattern: &str, user: &str| {
            let pattern: IdentityPattern = pattern.parse().unwrap();
            (
                pattern.fit_stripped(&PeerText::new(user.as_bytes())),
                pattern.is_stripped(),
            )
        };
        assert_eq!(fit("anna", "anna"), (Fit::Yes, true));
        assert_eq!(fit("*.guest", "eve.guest"), (Fit::Yes, true));
        assert_eq!(fit("*@guest.example", "eveguest.example"), (Fit::Doubtful, false));
        assert_eq!(fit("*@guest.example", "anna"), (Fit::No, false));
    }

    #[test]
    fn a_hostile_text_takes_no_time() {
        let text = "a".repeat(500);
        assert_eq!(fit(&format!("{}b", "*a".repeat(200)), &text), Fit::No);
        assert_eq!(fit(&format!("{}b", "*a".repeat(200)), &"a".repeat(5000)), Fit::Doubtful);
    }
}
