//! Chains: the kernel's own and ours.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::selector::Expected;

/// What every chain of ours begins with, and no other chain may.
pub const PREFIX: &str = "PLUTO-";

/// The longest chain name that iptables takes, in bytes (`XT_EXTENSION_MAXNAMELEN` less its NUL).
pub const LONGEST_CHAIN_NAME: usize = 28;

/// A chain that the kernel made. Tables have chains of the same name; which table is meant, what holds this says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum BuiltIn {
    /// Packets to the gateway itself.
    Input,
    /// Packets through the gateway.
    Forward,
    /// Packets of the gateway itself.
    Output,
    /// Packets that have come in, before it is decided where they go.
    PreRouting,
    /// Packets that are about to leave.
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

/// The name of a chain of ours: begins with [`PREFIX`], has at most [`LONGEST_CHAIN_NAME`] bytes, all of `A-Za-z0-9._-`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ChainName(String);

impl ChainName {
    /// A name that stands in the program; that it is a good one is a test of whoever writes it.
    pub(crate) fn literal(name: &'static str) -> Self {
        debug_assert!(name.parse::<Self>().is_ok(), "{name} is no chain name");
        Self(name.to_owned())
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ChainName {
    type Err = Expected;

    fn from_str(text: &str) -> Result<Self, Expected> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        let ours = text.strip_prefix(PREFIX).is_some_and(|rest| !rest.is_empty());
        if !ours || text.len() > LONGEST_CHAIN_NAME || !text.bytes().all(plain) {
            return Err(Expected("a chain name PLUTO-..., up to 28 of A-Z a-z 0-9 . _ -"));
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for ChainName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for ChainName {
    type Error = Expected;

    fn try_from(text: String) -> Result<Self, Expected> {
        text.parse()
    }
}

impl From<ChainName> for String {
    fn from(chain: ChainName) -> Self {
        chain.0
    }
}

/// A chain of the administrator's: 1 to 28 bytes of `A-Za-z0-9._-`, not beginning with `-`, and neither a chain of the kernel's, a target nor
/// one of ours.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct AdministratorChain(String);

/// What a rule can lead to that is no chain: the targets of iptables 1.8.11 (`libxt_`, `libipt_`, `libip6t_*.so`), of older kernels, and of
/// xtables-addons 3. iptables takes such a name for the target, whatever chain there is.
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

impl fmt::Display for AdministratorChain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for AdministratorChain {
    type Error = Expected;

    fn try_from(text: String) -> Result<Self, Expected> {
        text.parse()
    }
}

impl From<AdministratorChain> for String {
    fn from(chain: AdministratorChain) -> Self {
        chain.0
    }
}

/// Where a rule stands.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Chain {
    /// In a chain of the kernel's, among the administrator's rules.
    BuiltIn(BuiltIn),
    /// In one of ours.
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

impl From<&ChainName> for Chain {
    fn from(chain: &ChainName) -> Self {
        Self::Own(chain.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
