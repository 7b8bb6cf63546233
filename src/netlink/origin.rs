//! Which program added a route.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::net::Expected;

/// Which program added a route (`rtm_protocol`, rtnetlink(7)): a routing daemon finds its own
/// routes again by it. Its text is a name that every `ip` knows, or the number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Origin(pub u8);

/// The names that iproute2 has built in (`lib/rt_names.c`), with the numbers of
/// `linux/rtnetlink.h`. `/etc/iproute2/rt_protos` can name more, and is not read: the names in it
/// are one machine's.
const NAMES: [(&str, Origin); 21] = [
    ("unspec", Origin(0)),
    ("redirect", Origin(1)),
    ("kernel", Origin(2)),
    ("boot", Origin::BOOT),
    ("static", Origin(4)),
    ("gated", Origin(8)),
    ("ra", Origin(9)),
    ("mrt", Origin(10)),
    ("zebra", Origin(11)),
    ("bird", Origin(12)),
    ("dnrouted", Origin(13)),
    ("xorp", Origin(14)),
    ("ntk", Origin(15)),
    ("dhcp", Origin(16)),
    ("keepalived", Origin(18)),
    ("babel", Origin(42)),
    ("bgp", Origin(186)),
    ("isis", Origin(187)),
    ("ospf", Origin(188)),
    ("rip", Origin(189)),
    ("eigrp", Origin(192)),
];

impl Origin {
    /// An administrator's command line, of which nothing else is said.
    pub const BOOT: Self = Self(3);
}

impl Default for Origin {
    fn default() -> Self {
        Self::BOOT
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match NAMES.iter().find(|(_, origin)| origin == self) {
            Some((name, _)) => f.write_str(name),
            None => self.0.fmt(f),
        }
    }
}

impl FromStr for Origin {
    type Err = Expected;

    fn from_str(text: &str) -> Result<Self, Expected> {
        if let Some((_, origin)) = NAMES.iter().find(|(name, _)| *name == text) {
            return Ok(*origin);
        }
        let number = text
            .parse()
            .map_err(|_| Expected("a number from 0 to 255 or a name as static"))?;
        Ok(Self(number))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_or_a_number_is_read_and_the_name_shown() {
        for (text, number, shown) in [
            ("static", 4, "static"),
            ("16", 16, "dhcp"),
            ("99", 99, "99"),
            ("0", 0, "unspec"),
        ] {
            let origin: Origin = text.parse().unwrap();
            assert_eq!((origin, origin.to_string()), (Origin(number), shown.to_owned()));
        }
    }

    #[test]
    fn another_name_and_a_number_that_is_too_large_are_refused() {
        for text in ["", "256", "-1", "Static", "openr;id"] {
            assert!(text.parse::<Origin>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn no_name_and_no_number_is_there_twice() {
        for (index, (name, origin)) in NAMES.iter().enumerate() {
            let same = |other: &&(&str, Origin)| other.0 == *name || other.1 == *origin;
            assert_eq!(NAMES.iter().skip(index + 1).find(same), None);
        }
    }
}
