//! Network interfaces.

use crate::net::text_type;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::Expected;

/// The longest name the kernel takes (`IFNAMSIZ` less its NUL), in bytes.
const LONGEST: usize = 15;

/// The name of a network interface: 1 to 15 bytes of `A-Za-z0-9._-`, not beginning with `-`.
///
/// The kernel allows more, but a `+` at the end would be a pattern to iptables, and no daemon makes
/// such a name. The part after a `:` (an alias of `ifconfig`, as in `eth0:1`) is no part of the
/// interface's name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Interface(String);

impl Interface {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The interfaces with this name except for the digits at its end.
    #[must_use]
    pub fn wildcard(&self) -> InterfaceWildcard {
        let stem = self.0.trim_end_matches(|c: char| c.is_ascii_digit());
        if stem.is_empty() || stem.len() == self.0.len() {
            return InterfaceWildcard(self.0.clone());
        }
        InterfaceWildcard(format!("{stem}+"))
    }
}

impl FromStr for Interface {
    type Err = Expected;

    fn from_str(text: &str) -> Result<Self, Expected> {
        let name = text.split_once(':').map_or(text, |(interface, _alias)| interface);
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        let known = (1..=LONGEST).contains(&name.len()) && name.bytes().all(plain);
        if !known || name.starts_with('-') || name == "." || name == ".." {
            return Err(Expected("the name of an interface, up to 15 of A-Z a-z 0-9 . _ -"));
        }
        Ok(Self(name.to_owned()))
    }
}

text_type!(Interface, parsed);

/// All interfaces with one stem, `vti+` for `vti1`, `vti02` and so on; a name without digits at its
/// end is its own wildcard.
///
/// A wildcard only preselects packets: those that it matches are matched again by the exact name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InterfaceWildcard(String);

impl InterfaceWildcard {
    /// The wildcard as iptables writes it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether iptables matches an interface by this wildcard: it matches every name with this
    /// beginning.
    #[must_use]
    pub fn fits(&self, interface: &Interface) -> bool {
        is_meant(&self.0, interface)
    }
}

/// An interface by its name, or with a `+` at the end all interfaces whose names begin so: `eth1`,
/// `ppp+`. Not `+` alone, and not `lo`, the loopback interface, nor a beginning of it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct InterfacePattern(String);

/// Whether iptables matches an interface by a name, or by the beginning of names.
fn is_meant(pattern: &str, interface: &Interface) -> bool {
    match pattern.strip_suffix('+') {
        Some(stem) => interface.as_str().starts_with(stem),
        None => interface.as_str() == pattern,
    }
}

impl InterfacePattern {
    /// What all its names begin with, if it is no single name.
    fn stem(&self) -> Option<&str> {
        self.0.strip_suffix('+')
    }

    /// Whether the pattern matches an interface.
    #[must_use]
    pub fn fits(&self, interface: &Interface) -> bool {
        is_meant(&self.0, interface)
    }

    /// Whether interfaces that this pattern matches are matched by another; `None` if some are.
    #[must_use]
    pub fn decides(&self, other: &Self) -> Option<bool> {
        let meets = |longer: &str, stem: &str| longer.starts_with(stem);
        match (self.stem(), other.stem()) {
            (None, None) => Some(self.0 == other.0),
            (None, Some(stem)) => Some(meets(&self.0, stem)),
            (Some(stem), None) if meets(&other.0, stem) => None,
            (Some(_), None) => Some(false),
            (Some(stem), Some(asked)) if meets(stem, asked) => Some(true),
            (Some(stem), Some(asked)) if meets(asked, stem) => None,
            (Some(_), Some(_)) => Some(false),
        }
    }
}

impl FromStr for InterfacePattern {
    type Err = Expected;

    fn from_str(text: &str) -> Result<Self, Expected> {
        const FORM: Expected = Expected("an interface such as eth1, or ppp+ for all whose names begin with ppp");
        let stem = text.strip_suffix('+').unwrap_or(text);
        let interface: Interface = stem.parse().map_err(|_| FORM)?;
        let meets_loopback = if stem == text {
            stem == "lo"
        } else {
            "lo".starts_with(stem)
        };
        if interface.as_str() != stem || text.len() > LONGEST || meets_loopback {
            return Err(FORM);
        }
        Ok(Self(text.to_owned()))
    }
}

text_type!(InterfacePattern, parsed);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alias_is_no_part_of_the_interface() {
        assert_eq!("eth0:1".parse::<Interface>().unwrap().as_str(), "eth0");
    }

    #[test]
    fn a_class_is_the_name_without_its_digits() {
        let class = |name: &str| name.parse::<Interface>().unwrap().wildcard().as_str().to_owned();
        assert_eq!(class("vti01"), "vti+");
        assert_eq!(class("ipsec5"), "ipsec+");
        assert_eq!(class("tunnel"), "tunnel");
        assert_eq!(class("42"), "42");
        assert_eq!(class("abcdefghijklmn1"), "abcdefghijklmn+");
    }

    #[test]
    fn a_pattern_is_a_name_or_the_beginning_of_names() {
        for text in ["eth1", "ppp+", "ipsec0"] {
            assert!(text.parse::<InterfacePattern>().is_ok(), "{text}");
        }
        for text in [
            "+",
            "",
            "lo",
            "lo+",
            "l+",
            "eth0:1",
            "a b",
            "eth++",
            "-i",
            "abcdefghijklmno+",
        ] {
            assert!(text.parse::<InterfacePattern>().is_err(), "{text}");
        }
    }

    #[test]
    fn names_that_are_patterns_or_options_are_refused() {
        for name in [
            "",
            "vti+",
            "-j",
            "a b",
            "eth0/1",
            "..",
            "sixteen-letters-",
            "eth\n0",
            ":1",
            "vti\u{e4}",
        ] {
            assert!(name.parse::<Interface>().is_err(), "{name:?}");
        }
    }
}
