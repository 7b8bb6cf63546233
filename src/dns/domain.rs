//! Names of domains, as a peer offers them.

use crate::net::text_type;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::net::Expected;

/// The longest label and the longest name, in bytes (RFC 1035, section 2.3.4; without the length
/// byte and the root).
const LONGEST_LABEL: usize = 63;
const LONGEST: usize = 253;

/// The name of a domain: labels of 1 to 63 letters, digits, `-` and `_`, joined by dots, 253 bytes
/// at most; no label begins with `-`.
///
/// Kept in lower case and without the dot at its end, so that one domain has one form: it is a key
/// in the record of name servers.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Domain(String);

impl Domain {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Domain {
    type Err = Expected;

    fn from_str(text: &str) -> Result<Self, Expected> {
        let name = text.strip_suffix('.').unwrap_or(text);
        if name.len() > LONGEST || !name.split('.').all(is_label) {
            return Err(Expected("names of domains"));
        }
        Ok(Self(name.to_ascii_lowercase()))
    }
}

fn is_label(label: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    (1..=LONGEST_LABEL).contains(&label.len()) && label.bytes().all(plain) && !label.starts_with('-')
}

text_type!(Domain, parsed);

#[cfg(test)]
mod tests {
    use super::*;

    fn domain(text: &str) -> Option<String> {
        text.parse().ok().map(|Domain(name)| name)
    }

    #[test]
    fn one_domain_has_one_form() {
        for text in ["corp.example", "Corp.Example.", "CORP.EXAMPLE"] {
            assert_eq!(domain(text).as_deref(), Some("corp.example"));
        }
        assert_eq!(domain("_tcp.a-b.7").as_deref(), Some("_tcp.a-b.7"));
    }

    #[test]
    fn names_are_as_long_as_the_protocol_allows() {
        let label = "a".repeat(LONGEST_LABEL);
        assert!(domain(&label).is_some() && domain(&format!("{label}a")).is_none());
        let name = format!("{label}.{label}.{label}.{}", "b".repeat(61));
        assert_eq!(name.len(), LONGEST);
        assert!(domain(&name).is_some() && domain(&format!("{name}.")).is_some());
        assert!(domain(&format!("{name}b")).is_none());
    }

    #[test]
    fn what_is_no_name_is_refused() {
        for text in [
            "",
            ".",
            "..",
            "a..b",
            ".a",
            "a..",
            "-a",
            "a.-b",
            "foo$(id).bar;`x`",
            "*",
            "~.",
            "a b",
            "a\nb",
            "a\\b",
            "a/b",
            "\u{e4}.example",
            "a#b",
            "--help",
        ] {
            assert_eq!(domain(text), None, "{text:?}");
        }
    }
}
