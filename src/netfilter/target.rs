//! The target of a rule.

use std::fmt;
use std::net::IpAddr;
use std::num::NonZeroU16;

use serde::{Deserialize, Serialize};

use super::chain::{AdministratorChain, ChainName};
use super::rule::{Comment, is_plain};
use crate::net::{Expected, MarkBit};

/// The target of a rule: what happens to a matching packet.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Target {
    /// Accepts the packet. In the nat table: leaves its addresses unchanged.
    Accept,
    /// Drops the packet without an answer.
    Drop,
    /// Returns to the calling chain.
    Return,
    /// Calls another chain; a packet that nothing there decides returns.
    Jump(ChainName),
    /// Calls a chain of the administrator.
    #[serde(rename = "consult")]
    JumpUser(AdministratorChain),
    /// Continues in another chain without coming back here. A packet that nothing there decides
    /// returns to the caller of this chain.
    Goto(ChainName),
    /// Sends a copy to NFLOG listeners; the packet continues with the next rule.
    #[serde(rename = "log")]
    Nflog(NflogTarget),
    /// Writes a line to the kernel log; the packet continues with the next rule.
    #[serde(rename = "kernellog")]
    Log(LogPrefix),
    /// This bit of its mark is set, and it goes on to the next rule.
    SetMark(MarkBit),
    /// This bit of its mark is cleared, and it goes on to the next rule.
    ClearMark(MarkBit),
    /// Lowers the MSS option of a SYN to this many bytes. In the mangle table only.
    #[serde(rename = "segmentsize")]
    SetMss(NonZeroU16),
    /// Lowers the MSS option of a SYN to what the route's path MTU allows. In the mangle table
    /// only, and not after PREROUTING or INPUT, where the route is unknown.
    #[serde(rename = "segmentsizeofpath")]
    ClampMssToPmtu,
    /// Replaces the source address, for all packets of the connection. In the nat table only, after
    /// POSTROUTING.
    Snat(IpAddr),
    /// Replaces the destination address, for all packets of the connection. In the nat table only,
    /// after PREROUTING.
    Dnat(IpAddr),
}

impl Target {
    /// The chain of this program that it jumps to.
    #[must_use]
    pub(crate) fn own_chain(&self) -> Option<&ChainName> {
        let (Self::Jump(chain) | Self::Goto(chain)) = self else {
            return None;
        };
        Some(chain)
    }

    /// The new source address, if the target changes it.
    #[must_use]
    pub(crate) fn snat_source(&self) -> Option<IpAddr> {
        let Self::Snat(address) = self else {
            return None;
        };
        Some(*address)
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Accept => f.write_str("-j ACCEPT"),
            Self::Drop => f.write_str("-j DROP"),
            Self::Return => f.write_str("-j RETURN"),
            Self::JumpUser(chain) => write!(f, "-j {chain}"),
            Self::Log(prefix) => write!(f, "-j LOG --log-prefix \"{} \"", prefix.as_str()),
            Self::SetMark(bit) => write!(f, "-j MARK --set-xmark {bit}/{bit}"),
            Self::ClearMark(bit) => write!(f, "-j MARK --set-xmark 0x0/{bit}"),
            Self::SetMss(size) => write!(f, "-j TCPMSS --set-mss {size}"),
            Self::ClampMssToPmtu => f.write_str("-j TCPMSS --clamp-mss-to-pmtu"),
            Self::Jump(chain) => write!(f, "-j {chain}"),
            Self::Goto(chain) => write!(f, "-g {chain}"),
            Self::Nflog(NflogTarget { group, prefix }) => {
                write!(
                    f,
                    "-j NFLOG --nflog-prefix \"{}\" --nflog-group {group}",
                    prefix.as_str()
                )
            }
            Self::Snat(address) => write!(f, "-j SNAT --to-source {address}"),
            Self::Dnat(address) => write!(f, "-j DNAT --to-destination {address}"),
        }
    }
}

/// Options of the NFLOG target.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct NflogTarget {
    /// The group of the NFLOG family (`nfnetlink_log`) that listeners bind to.
    pub group: NonZeroU16,
    /// The prefix of each copy.
    pub prefix: NflogPrefix,
}

/// The longest NFLOG prefix, in bytes: the kernel has room for 64 with the NUL (`struct
/// xt_nflog_info`).
const NFLOG_PREFIX_MAX: usize = 63;

/// The prefix of a packet copy: up to 63 bytes of the alphabet of a [`Comment`].
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct NflogPrefix(String);

impl NflogPrefix {
    /// The prefix as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// As much of a comment as fits.
impl From<&Comment> for NflogPrefix {
    fn from(comment: &Comment) -> Self {
        Self(comment.as_str().chars().take(NFLOG_PREFIX_MAX).collect())
    }
}

impl TryFrom<String> for NflogPrefix {
    type Error = Expected;

    fn try_from(text: String) -> Result<Self, Expected> {
        if !is_plain(&text, NFLOG_PREFIX_MAX) {
            return Err(Expected(
                "a prefix of up to 63 letters, digits, blanks and ._@:/#=+,()%-",
            ));
        }
        Ok(Self(text))
    }
}

impl From<NflogPrefix> for String {
    fn from(prefix: NflogPrefix) -> Self {
        prefix.0
    }
}

/// The longest LOG prefix without the blank after it, in bytes: the kernel has room for 30 with the
/// NUL (`struct xt_log_info`).
const LOG_PREFIX_MAX: usize = 28;

/// The beginning of a line in the kernel log: up to 28 bytes of the alphabet of a [`Comment`]. A
/// blank follows.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct LogPrefix(String);

impl LogPrefix {
    /// The prefix as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for LogPrefix {
    type Error = Expected;

    fn try_from(text: String) -> Result<Self, Expected> {
        if !is_plain(&text, LOG_PREFIX_MAX) {
            return Err(Expected(
                "a prefix of up to 28 letters, digits, blanks and ._@:/#=+,()%-",
            ));
        }
        Ok(Self(text))
    }
}

impl From<LogPrefix> for String {
    fn from(prefix: LogPrefix) -> Self {
        prefix.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_is_the_beginning_of_a_comment_and_can_be_stored() {
        let comment = Comment::try_from("private-or-clear#10.0.0.0/8 ".repeat(4)).unwrap();
        let prefix = NflogPrefix::from(&comment);
        assert_eq!(prefix.as_str(), &comment.as_str()[..63]);
        assert_eq!(NflogPrefix::try_from(String::from(prefix.clone())).unwrap(), prefix);
    }

    #[test]
    fn a_prefix_that_would_need_an_escape_or_be_cut_is_refused() {
        for text in ["", "a\"b", "a\\", "a\nb", "$a", &"a".repeat(64)] {
            assert!(NflogPrefix::try_from(text.to_owned()).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_translation_is_spelt_by_what_it_changes() {
        let v4 = "10.0.10.1".parse().unwrap();
        let v6 = "2001:db8::1".parse().unwrap();
        assert_eq!(Target::Snat(v4).to_string(), "-j SNAT --to-source 10.0.10.1");
        assert_eq!(Target::Dnat(v6).to_string(), "-j DNAT --to-destination 2001:db8::1");
    }
}
