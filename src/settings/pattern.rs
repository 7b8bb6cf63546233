//! Patterns for names and identities: `*` for any run of characters, `?` for one.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::contract::{ConnectionName, PeerText};
use crate::selector::Expected;

/// The longest pattern, in bytes.
const LONGEST: usize = 512;

/// A pattern for the name of a connection. The administrator chose the names, so a star stands for anything.
///
/// 1 to 512 bytes of printable ASCII; compared with the escaped name byte for byte, upper and lower case unlike.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct NamePattern(String);

/// A pattern for an identity, which the peer chose.
///
/// 1 to 512 bytes of printable ASCII. A star or a question mark stands for no `,`, `=`, `/` or backslash, and for no `@` or blank either
/// unless the pattern has a `=` and so is a distinguished name's. So `C=CH, CN=x@staff.example` never passes for the mail address that
/// `*@staff.example` asks for, nor one part of a distinguished name for two; and a byte that was escaped is never taken for a letter.
///
/// The `@` that libreswan writes before a host name, and strongSwan does not, counts for nothing at the beginning.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct IdentityPattern(String);

impl NamePattern {
    /// Whether the connection is meant.
    #[must_use]
    pub fn fits(&self, name: &ConnectionName) -> bool {
        fits(self.0.as_bytes(), name.as_str().as_bytes(), |_| true)
    }

    /// Whether every connection is meant.
    #[must_use]
    pub fn fits_all(&self) -> bool {
        self.0.bytes().all(|byte| byte == b'*')
    }
}

impl IdentityPattern {
    /// Whether the identity is meant. One that is empty, or was cut because it is too long, never is.
    #[must_use]
    pub fn fits(&self, identity: &PeerText) -> bool {
        let text = identity.as_str();
        if text.is_empty() || identity.is_cut() {
            return false;
        }
        let separators: &[u8] = if self.0.contains('=') { b",=/\\" } else { b",=/\\@ " };
        fits(bare(&self.0).as_bytes(), bare(text).as_bytes(), |byte| {
            !separators.contains(&byte)
        })
    }
}

fn bare(text: &str) -> &str {
    text.strip_prefix('@').unwrap_or(text)
}

/// Whether a text fits a pattern, where `wild` says which bytes a star or a question mark stands for. Takes time in the product of the
/// two lengths at most.
fn fits(pattern: &[u8], text: &[u8], wild: impl Fn(u8) -> bool) -> bool {
    let (mut at, mut read) = (0, 0);
    // Where to go on if what follows the last star does not fit: behind the star, with one byte more taken by it.
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
            Some(byte) if *byte == text[read] && *byte != b'?' => {
                at += 1;
                read += 1;
                continue;
            }
            Some(_) | None => {}
        }
        match retry {
            // An earlier star could take nothing that this one cannot: whatever stopped this one would have to be passed by it too.
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
    let printable = text.bytes().all(|byte| (b' '..=b'~').contains(&byte));
    if !printable || !(1..=LONGEST).contains(&text.len()) {
        return Err(Expected(
            "a pattern of 1 to 512 printable characters, * and ? among them",
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

impl fmt::Display for NamePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for IdentityPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(pattern: &str, name: &str) -> bool {
        let name = ConnectionName::new(name.as_bytes()).unwrap();
        pattern.parse::<NamePattern>().unwrap().fits(&name)
    }

    fn identified(pattern: &str, identity: &str) -> bool {
        let identity = PeerText::new(identity.as_bytes());
        pattern.parse::<IdentityPattern>().unwrap().fits(&identity)
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
            ("*?", "", false),
        ] {
            if !name.is_empty() {
                assert_eq!(named(pattern, name), fits, "{pattern} {name}");
            }
        }
    }

    #[test]
    fn a_distinguished_name_never_passes_for_a_mail_address() {
        assert!(identified("*@staff.example", "anna@staff.example"));
        for hostile in [
            "C=CH, CN=anna@staff.example",
            "x, anna@staff.example",
            "anna@evil.example@staff.example",
            "anna@staff.example, CN=x",
            "anna@staff.example ",
            "@staff.example/anna",
            "*@staff.exampl?",
            "anna@staff.example\n",
            "anna\\040@staff.example",
            "\u{0}@staff.example",
        ] {
            assert!(!identified("*@staff.example", hostile), "{hostile:?}");
        }
        assert!(identified("C=CH, O=staff, CN=*", "C=CH, O=staff, CN=Anna Meier"));
        assert!(!identified("C=CH, O=staff, CN=*", "C=CH, O=staff, CN=x, O=staff"));
        assert!(!identified("*, O=staff, CN=*", "C=CH, O=evil, O=staff, CN=anna"));
    }

    #[test]
    fn what_the_peer_says_is_no_pattern() {
        assert!(!identified("anna@staff.example", "*@staff.example"));
        assert!(!identified("anna@staff.example", "?nna@staff.example"));
        assert!(identified("?nna@staff.example", "?nna@staff.example"));
    }

    #[test]
    fn the_sign_that_only_one_daemon_writes_counts_for_nothing() {
        assert!(identified("@gate.example", "gate.example"));
        assert!(identified("*.example", "@gate.example"));
    }

    #[test]
    fn an_identity_that_is_empty_or_was_cut_fits_nothing() {
        assert!(!identified("*", ""));
        assert!(!identified("*", &"a".repeat(600)));
    }

    #[test]
    fn a_hostile_text_takes_no_time() {
        let text = "a".repeat(500);
        assert!(!identified(&format!("{}b", "*a".repeat(200)), &text));
    }
}
