//! Packet marks.

use crate::net::displayed_type;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::Expected;

/// A mark and its mask: `fwmark` of `ip rule`, the keys of a VTI interface.
///
/// Written as libreswan and strongSwan write it: `5/0xffffffff`; either part decimal or `0x` and
/// hexadecimal, the mask all ones if there is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Mark {
    /// The bits.
    pub value: u32,
    /// The bits that count.
    pub mask: u32,
}

impl FromStr for Mark {
    type Err = Expected;

    fn from_str(text: &str) -> Result<Self, Expected> {
        const FORM: Expected = Expected("a mark such as 5/0xffffffff");
        let (value, mask) = text.split_once('/').unwrap_or((text, "0xffffffff"));
        Ok(Self {
            value: parse_number(value).ok_or(FORM)?,
            mask: parse_number(mask).ok_or(FORM)?,
        })
    }
}

fn parse_number(text: &str) -> Option<u32> {
    match text.strip_prefix("0x") {
        Some(digits) if digits.bytes().all(|byte| byte.is_ascii_hexdigit()) => u32::from_str_radix(digits, 16).ok(),
        None if text.bytes().all(|byte| byte.is_ascii_digit()) => text.parse().ok(),
        Some(_) | None => None,
    }
}

/// As `ip rule` takes it.
impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}/{:#x}", self.value, self.mask)
    }
}

/// One bit of a packet's mark, which the rules of the filter table set and clear: `0x10000000`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MarkBit(u32);

impl MarkBit {
    /// Bit 28. Unique marks of libreswan and strongSwan count from below, kube-proxy has 0x4000 and
    /// 0x8000, Tailscale 0xff0000; Calico by default 0xffff0000, which has it.
    pub const DEFAULT: Self = Self(0x1000_0000);

    /// The mask with this bit alone.
    #[must_use]
    pub fn mask(self) -> u32 {
        self.0
    }
}

impl Default for MarkBit {
    fn default() -> Self {
        Self::DEFAULT
    }
}

impl FromStr for MarkBit {
    type Err = Expected;

    fn from_str(text: &str) -> Result<Self, Expected> {
        let mask = parse_number(text).filter(|mask| mask.is_power_of_two());
        mask.map(Self)
            .ok_or(Expected("one bit of a mark, such as \"0x10000000\""))
    }
}

impl fmt::Display for MarkBit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

displayed_type!(MarkBit);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bit_of_a_mark_is_a_single_one_in_any_spelling() {
        let bit = |text: &str| text.parse::<MarkBit>().map(|bit| bit.to_string());
        assert_eq!(bit("0x10000000").as_deref(), Ok("0x10000000"));
        assert_eq!(bit("1").as_deref(), Ok("0x1"));
        assert_eq!(bit("0x80000000").as_deref(), Ok("0x80000000"));
        assert_eq!(MarkBit::default().to_string(), "0x10000000");
        for text in ["", "0", "0x0", "3", "0x30000000", "0x100000000", "-1", "0x1/0x1"] {
            assert!(text.parse::<MarkBit>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_mark_is_read_as_the_daemons_write_it() {
        let mark = |text: &str| text.parse::<Mark>().map(|mark| (mark.value, mark.mask));
        assert_eq!(mark("5/0xffffffff"), Ok((5, u32::MAX)));
        assert_eq!(mark("0x10/255"), Ok((16, 255)));
        assert_eq!(mark("7"), Ok((7, u32::MAX)));
        for text in [
            "",
            "/",
            "5/",
            "-1/0xffffffff",
            "+5/1",
            "0x/1",
            "0x+5/1",
            "4294967296/1",
            "5/1/1",
        ] {
            assert!(text.parse::<Mark>().is_err(), "{text:?}");
        }
    }
}
