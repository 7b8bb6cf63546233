//! Packet marks.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::Expected;

/// What a packet must bear, and in which bits: `fwmark` of `ip rule`, the keys of a VTI device.
///
/// Written as libreswan and strongSwan write it: `5/0xffffffff`; either part decimal or `0x` and hexadecimal, the mask all ones
/// if there is none.
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
            value: number(value).ok_or(FORM)?,
            mask: number(mask).ok_or(FORM)?,
        })
    }
}

fn number(text: &str) -> Option<u32> {
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

#[cfg(test)]
mod tests {
    use super::*;

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
