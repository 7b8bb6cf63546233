//! Chains: the kernel's, the administrator's and this program's.

use crate::net::{displayed_type, text_type};
use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize, Serializer};
use sha2::{Digest, Sha256};

use crate::net::Expected;

/// The prefix of every chain of this program, and of no other chain.
pub(crate) const PREFIX: &str = "PLUTO-";

/// The longest chain name that iptables takes, in bytes (`XT_EXTENSION_MAXNAMELEN` less its NUL).
pub const LONGEST_CHAIN_NAME: usize = 28;

/// A built-in chain. Several tables have one of the same name; the context says which table is
/// meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum BuiltIn {
    /// Packets to the gateway itself.
    Input,
    /// Packets through the gateway.
    Forward,
    /// Packets that the gateway itself sends.
    Output,
    /// Received packets, before the routing decision.
    PreRouting,
    /// Packets about to be sent.
    PostRouting,
}

impl BuiltIn {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Input,
        Self::Forward,
        Self::Output,
        Self::PreRouting,
        Self::PostRouting,
    ];

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Input => "INPUT",
            Self::Forward => "FORWARD",
            Self::Output => "OUTPUT",
            Self::PreRouting => "PREROUTING",
            Self::PostRouting => "POSTROUTING",
        }
    }
}

/// The name of a chain of this program. It begins with [`PREFIX`] and has at most
/// [`LONGEST_CHAIN_NAME`] bytes of `A-Za-z0-9._-`.
///
/// It is kept in place, because a plan copies hundreds of names, and each copy of a `String` would
/// be an allocation. The bytes behind the name are 0, so that names compare as texts do.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(try_from = "String")]
pub struct ChainName {
    bytes: [u8; LONGEST_CHAIN_NAME],
    length: u8,
}

impl ChainName {
    /// A name from the source code. Its validity is checked by the tests of the code that writes
    /// it.
    pub(crate) fn literal(name: &'static str) -> Self {
        debug_assert!(name.parse::<Self>().is_ok(), "{name} is no chain name");
        Self::cut(name)
    }

    /// The name with this text, of which no more is kept than a name can have.
    fn cut(text: &str) -> Self {
        let mut bytes = [0; LONGEST_CHAIN_NAME];
        let mut length = 0;
        for (place, byte) in bytes.iter_mut().zip(text.bytes()) {
            *place = byte;
            length += 1;
        }
        Self { bytes, length }
    }

    /// [`PREFIX`] and these parts, joined by dashes.
    ///
    /// Cannot fail: where a part is too long or holds a byte that no chain name may hold, a hash of
    /// all parts takes their place. It has 110 bits, so that two names never meet.
    pub(crate) fn from_parts(parts: &[&str]) -> Self {
        let mut name = String::with_capacity(2 * LONGEST_CHAIN_NAME);
        name.push_str(PREFIX);
        for (index, part) in parts.iter().enumerate() {
            if index > 0 {
                name.push('-');
            }
            name.push_str(part);
        }
        name.parse().unwrap_or_else(|_| {
            let hash = short_hash(&name, LONGEST_CHAIN_NAME - PREFIX.len());
            Self::cut(&format!("{PREFIX}{hash}"))
        })
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        let name = self.bytes.get(..usize::from(self.length));
        name.and_then(|name| str::from_utf8(name).ok()).unwrap_or_default()
    }
}

impl FromStr for ChainName {
    type Err = Expected;

    fn from_str(text: &str) -> Result<Self, Expected> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        let is_own = text.strip_prefix(PREFIX).is_some_and(|rest| !rest.is_empty());
        if !is_own || text.len() > LONGEST_CHAIN_NAME || !text.bytes().all(plain) {
            return Err(Expected("a chain name PLUTO-..., up to 28 of A-Z a-z 0-9 . _ -"));
        }
        Ok(Self::cut(text))
    }
}

impl fmt::Debug for ChainName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ChainName").field(&self.as_str()).finish()
    }
}

impl fmt::Display for ChainName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for ChainName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

displayed_type!(ChainName);

/// A chain of the administrator: 1 to 28 bytes of `A-Za-z0-9._-`, the first not `-`. The name is
/// neither that of a built-in chain or a target, nor one of this program's.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct AdministratorChain(String);

/// Targets that are not chains.
const TARGETS: [&str; 60] = [
    "ACCEPT",
    "ACCOUNT",
    "AUDIT",
    "BALANCE",
    "CHAOS",
    "CHECKSUM",
    "CLASSIFY",
    "CLUSTERIP",
    "CONNMARK",
    "CONNSECMARK",
    "CT",
    "DELUDE",
    "DHCPMAC",
    "DNAT",
    "DNETMAP",
    "DNPT",
    "DROP",
    "DSCP",
    "ECHO",
    "ECN",
    "HL",
    "HMARK",
    "IDLETIMER",
    "IPMARK",
    "LED",
    "LOG",
    "LOGMARK",
    "MARK",
    "MASQUERADE",
    "MIRROR",
    "NAT",
    "NDPI",
    "NETMAP",
    "NFLOG",
    "NFQUEUE",
    "NOTRACK",
    "PROTO",
    "QUEUE",
    "RATEEST",
    "RAWNAT",
    "REDIRECT",
    "REJECT",
    "RETURN",
    "ROUTE",
    "SAME",
    "SECMARK",
    "SET",
    "SNAT",
    "SNPT",
    "SYNPROXY",
    "SYSRQ",
    "TARPIT",
    "TCPMSS",
    "TCPOPTSTRIP",
    "TEE",
    "TOS",
    "TPROXY",
    "TRACE",
    "TTL",
    "ULOG",
];

impl FromStr for AdministratorChain {
    type Err = Expected;

    fn from_str(text: &str) -> Result<Self, Expected> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        let formed =
            (1..=LONGEST_CHAIN_NAME).contains(&text.len()) && text.bytes().all(plain) && !text.starts_with('-');
        let taken = text.starts_with(PREFIX)
            || TARGETS.contains(&text)
            || BuiltIn::ALL.iter().any(|chain| chain.name() == text);
        if !formed || taken {
            return Err(Expected(
                "the name of a chain of yours, up to 28 of A-Z a-z 0-9 . _ -, not beginning with PLUTO-",
            ));
        }
        Ok(Self(text.to_owned()))
    }
}

text_type!(AdministratorChain, parsed);

/// The chain that holds a rule.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Chain {
    /// A built-in chain, shared with the administrator's rules.
    BuiltIn(BuiltIn),
    /// A chain of this program.
    Own(ChainName),
}

impl fmt::Display for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BuiltIn(chain) => f.write_str(chain.name()),
            Self::Own(chain) => f.write_str(chain.as_str()),
        }
    }
}

impl From<BuiltIn> for Chain {
    fn from(chain: BuiltIn) -> Self {
        Self::BuiltIn(chain)
    }
}

/// These chains in an order in which each comes behind all of them that its rules jump to. The
/// kernel accepts no rules that jump in a circle.
pub(crate) fn called_first<'a, C: IntoIterator<Item = &'a ChainName>>(
    chains: impl Iterator<Item = &'a ChainName>,
    called: impl Fn(&ChainName) -> C,
) -> Vec<&'a ChainName> {
    enum Visit {
        Enter,
        Leave,
    }
    let (mut seen, mut order) = (BTreeSet::new(), Vec::new());
    for first in chains {
        let mut stack = vec![(first, Visit::Enter)];
        while let Some((chain, visit)) = stack.pop() {
            match visit {
                Visit::Leave => order.push(chain),
                Visit::Enter if seen.insert(chain) => {
                    stack.push((chain, Visit::Leave));
                    stack.extend(called(chain).into_iter().map(|target| (target, Visit::Enter)));
                }
                Visit::Enter => {}
            }
        }
    }
    order
}

impl From<&ChainName> for Chain {
    fn from(chain: &ChainName) -> Self {
        Self::Own(chain.clone())
    }
}

/// Letters and digits that are not easily confused (no `l`, `o`, `0`, `1`).
const ALPHABET: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";

/// The first `length` characters of a text's SHA-256, five bits each.
pub(crate) fn short_hash(text: &str, length: usize) -> String {
    let digest = Sha256::digest(text.as_bytes());
    let mut bits = 0_u32;
    let mut available = 0_u32;
    let mut bytes = digest.iter();
    let mut hash = String::with_capacity(length);
    while hash.len() < length {
        if available < 5 {
            let Some(byte) = bytes.next() else { break };
            bits = (bits << 8) | u32::from(*byte);
            available += 8;
        }
        available -= 5;
        hash.push(char::from(ALPHABET[(bits >> available) as usize & 31]));
    }
    hash
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chain_names_compare_and_are_written_as_their_texts() {
        let longest = format!("{PREFIX}{}", "z".repeat(LONGEST_CHAIN_NAME - PREFIX.len()));
        let texts = ["PLUTO-FI", "PLUTO-FI-10.2.0.0-18", "PLUTO-FO", "PLUTO-I", &longest];
        let names = texts.map(|text| text.parse::<ChainName>().unwrap());
        assert!(names.is_sorted(), "{names:?}");
        for (name, text) in names.iter().zip(texts) {
            assert_eq!((name.as_str(), name.to_string().as_str()), (text, text));
            let json = serde_json::to_string(name).unwrap();
            assert_eq!(json, format!("\"{text}\""));
            assert_eq!(serde_json::from_str::<ChainName>(&json).unwrap(), *name);
        }
        let hashed = ChainName::from_parts(&["FI", &"x".repeat(LONGEST_CHAIN_NAME)]);
        assert_eq!(hashed.as_str().len(), LONGEST_CHAIN_NAME);
        assert_eq!(hashed.as_str().parse::<ChainName>().unwrap(), hashed);
        assert!((longest + "z").parse::<ChainName>().is_err());
    }

    #[test]
    fn a_chain_of_the_administrators_is_none_of_ours_and_no_target() {
        assert!("vpn-in".parse::<AdministratorChain>().is_ok());
        for name in [
            "",
            "PLUTO-x",
            "INPUT",
            "DROP",
            "NFQUEUE",
            "CONNMARK",
            "CT",
            "TRACE",
            "TEE",
            "CLASSIFY",
            "NOTRACK",
            "REDIRECT",
            "TARPIT",
            "-j",
            "a b",
            "a;b",
            "23456789012345678901234567890",
        ] {
            assert!(name.parse::<AdministratorChain>().is_err(), "{name:?}");
        }
    }

    #[test]
    fn no_target_of_the_iptables_on_this_machine_is_a_chain() {
        let folders = [
            "/usr/lib/x86_64-linux-gnu/xtables",
            "/usr/lib/aarch64-linux-gnu/xtables",
            "/usr/lib64/xtables",
        ];
        let files = folders
            .into_iter()
            .filter_map(|folder| std::fs::read_dir(folder).ok())
            .flatten()
            .flatten();
        for file in files.filter_map(|file| file.file_name().into_string().ok()) {
            let name = file
                .strip_suffix(".so")
                .and_then(|file| file.split_once('_'))
                .map_or("", |(_, name)| name);
            let is_target = !name.starts_with(char::is_numeric) && !name.contains(|c: char| c.is_ascii_lowercase());
            assert!(!is_target || name.parse::<AdministratorChain>().is_err(), "{file}");
        }
    }

    #[test]
    fn a_name_of_any_parts_is_a_good_one_and_unlike_every_other() {
        assert_eq!(
            ChainName::from_parts(&["net-k3f9q2m7", "FI"]).as_str(),
            "PLUTO-net-k3f9q2m7-FI"
        );
        let odd: [&[&str]; 6] = [
            &[],
            &[""],
            &["a b"],
            &["a:b"],
            &["12345678901234567890123"],
            &["1234567890123456789012", "I"],
        ];
        let names: std::collections::BTreeSet<_> = odd.iter().map(|parts| ChainName::from_parts(parts)).collect();
        assert!(
            names.iter().all(|name| name.as_str().parse::<ChainName>().is_ok()),
            "{names:?}"
        );
        // No part and an empty one are the same text.
        assert_eq!(names.len(), odd.len() - 1);
    }

    #[test]
    fn only_short_plain_names_with_our_prefix_are_chains_of_ours() {
        assert!("PLUTO-net-net-k3f9q2m7-FI".parse::<ChainName>().is_ok());
        assert!("PLUTO-2345678901234567890123".parse::<ChainName>().is_ok());
        for name in [
            "PLUTO-",
            "INPUT",
            "PLUTO",
            "pluto-a",
            "PLUTO-23456789012345678901234",
            "PLUTO-a b",
            "PLUTO-a\n",
            "PLUTO-a:b",
        ] {
            assert!(name.parse::<ChainName>().is_err(), "{name:?}");
        }
    }
}
