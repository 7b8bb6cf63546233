//! What becomes of a packet that a rule matches.

use std::fmt;
use std::net::IpAddr;
use std::num::NonZeroU16;

use serde::{Deserialize, Serialize};

use super::chain::{AdministratorChain, ChainName};
use super::rule::{Comment, is_plain};
use crate::selector::{Expected, MarkBit};

/// What becomes of a packet.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Target {
    /// It passes; in the nat table: its addresses stay as they are.
    Accept,
    /// It is gone, and nobody is told.
    Drop,
    /// It goes back to where this chain was called from.
    Return,
    /// It goes through another chain and, if nothing there decides, comes back.
    Jump(ChainName),
    /// The same with a chain of the administrator's.
    #[serde(rename = "consult")]
    JumpUser(AdministratorChain),
    /// It goes on in another chain and does not come back here: if nothing decides there, it returns to where this chain was called from.
    Goto(ChainName),
    /// A copy of it goes to whoever listens, and it goes on to the next rule.
    #[serde(rename = "log")]
    Nflog(NflogTarget),
    /// A line about it goes to the kernel's log, and it goes on to the next rule.
    #[serde(rename = "kernellog")]
    Log(LogPrefix),
    /// This bit of its mark is set, and it goes on to the next rule.
    SetMark(MarkBit),
    /// This bit of its mark is cleared, and it goes on to the next rule.
    ClearMark(MarkBit),
    /// The maximum segment size that it tells becomes this, unless it is smaller already. In the mangle table only.
    #[serde(rename = "segmentsize")]
    SetMss(NonZeroU16),
    /// The maximum segment size that it tells becomes what fits the path that it takes, unless it is smaller already. In the mangle table
    /// only, and not behind PREROUTING or INPUT, where the path is not known.
    #[serde(rename = "segmentsizeofpath")]
    ClampMssToPmtu,
    /// Its source becomes this address, and that of the connection's later packets. In the nat table only, behind POSTROUTING.
    Snat(IpAddr),
    /// Its destination becomes this address, and that of the connection's later packets. In the nat table only, behind PREROUTING.
    Dnat(IpAddr),
}

impl Target {
    /// What a packet's source becomes, if that is changed.
    #[must_use]
    pub fn snat_source(&self) -> Option<IpAddr> {
        match self {
            Self::Snat(address) => Some(*address),
            Self::Accept
            | Self::Drop
            | Self::Return
            | Self::Jump(_)
            | Self::JumpUser(_)
            | Self::Goto(_)
            | Self::Nflog(_)
            | Self::Log(_)
            | Self::SetMark(_)
            | Self::ClearMark(_)
            | Self::SetMss(_)
            | Self::ClampMssToPmtu
            | Self::Dnat(_) => None,
        }
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

/// Where copies of packets go.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct NflogTarget {
    /// The group of the NFLOG family (`nfnetlink_log`) that listeners bind to.
    pub group: NonZeroU16,
    /// What each copy is marked with.
    pub prefix: NflogPrefix,
}

/// The longest prefix, in bytes: the kernel has room for 64 with the NUL (`struct xt_nflog_info`).
const NFLOG_PREFIX_MAX: usize = 63;

/// The mark on a copy of a packet: up to 63 bytes of the alphabet of a [`Comment`].
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct NflogPrefix(String);

impl NflogPrefix {
    /// The mark as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// As much of a comment as there is room for.
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

/// The longest prefix of a line in the kernel's log without the blank behind it, in bytes: the kernel has room for 30 with the NUL
/// (`struct xt_log_info`).
const LOG_PREFIX_MAX: usize = 28;

/// What a line in the kernel's log begins with, up to 28 bytes of the alphabet of a [`Comment`]; a blank follows.
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
