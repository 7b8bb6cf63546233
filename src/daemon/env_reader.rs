//! The variables of a call, read by kind: the only place that parses a [`RawEnv`].

use std::ffi::OsStr;
use std::net::IpAddr;
use std::os::unix::ffi::OsStrExt;
use std::str::FromStr;

use super::error::{EnvError, QuotedValue};
use super::kind::Daemon;
use super::names::PeerText;
use super::raw_env::RawEnv;
use super::{identity, variables};
use crate::net::Expected;

/// The longest value that is read, in bytes. Pluto gives all variables together 2047 bytes, so only
/// this program has the limit.
const VALUE_MAX: usize = 4096;

/// The words that daemons write for a missing address, network or interface: Pluto's missing
/// interface, charon's lost one, charon's unspecified addresses, Pluto's unset ones, and libc's way
/// to print a null pointer.
const ABSENT_WORDS: [&str; 6] = ["NULL", "unknown", "%any", "%any6", "<unset-address>", "(null)"];

/// The variables of one call.
#[derive(Debug, Clone, Copy)]
pub(crate) struct EnvReader<'a> {
    raw_env: &'a RawEnv,
}

impl<'a> EnvReader<'a> {
    pub(crate) fn new(raw_env: &'a RawEnv) -> Self {
        Self { raw_env }
    }

    /// Whether a variable is set, be it to nothing.
    pub(crate) fn is_set(self, name: &str) -> bool {
        self.raw(name).is_some()
    }

    /// What a variable holds, byte for byte.
    pub(crate) fn raw(self, name: &str) -> Option<&'a OsStr> {
        debug_assert!(variables::is_read(name), "{name} is not declared as read");
        self.raw_env.get(name)
    }

    /// What a variable holds, of a length that can be true. Nothing if it is missing or empty.
    pub(crate) fn bytes(self, name: &str) -> Result<Option<&'a OsStr>, EnvError> {
        let value = self.raw(name).filter(|value| !value.is_empty());
        match value {
            Some(value) if value.len() > VALUE_MAX => Err(EnvError::TooLong {
                variable: name.to_owned(),
                length: value.len(),
                most: VALUE_MAX,
            }),
            Some(_) | None => Ok(value),
        }
    }

    /// A variable as text. Nothing if it is missing or empty.
    pub(crate) fn text_value(self, name: &str) -> Result<Option<&'a str>, EnvError> {
        let value = self.bytes(name)?;
        value
            .map(|value| value.to_str().ok_or_else(|| unexpected(name, value, "text")))
            .transpose()
    }

    /// A variable as text. Nothing also if it holds a word for "none".
    pub(crate) fn word_value(self, name: &str) -> Result<Option<&'a str>, EnvError> {
        Ok(self.text_value(name)?.filter(|text| !ABSENT_WORDS.contains(text)))
    }

    /// A variable that must be there.
    pub(crate) fn required_text(self, variable: &'static str) -> Result<&'a str, EnvError> {
        self.text_value(variable)?.ok_or(missing(variable))
    }

    /// The value of a variable for an address, a network or an interface. `None` if it is one of
    /// these words.
    pub(crate) fn parsed_value<T: FromStr<Err = Expected>>(self, name: &str) -> Result<Option<T>, EnvError> {
        self.word_value(name)?.map(|text| parse(name, text)).transpose()
    }

    /// Such a variable that must be there and say something.
    pub(crate) fn required_value<T: FromStr<Err = Expected>>(self, variable: &'static str) -> Result<T, EnvError> {
        self.parsed_value(variable)?.ok_or(missing(variable))
    }

    /// An address. Nothing if it is unspecified, which is how Pluto shows the peer of a template
    /// (`0.0.0.0`).
    pub(crate) fn address(self, name: &str) -> Result<Option<IpAddr>, EnvError> {
        let address: Option<AddressText> = self.parsed_value(name)?;
        Ok(address
            .map(|AddressText(address)| address)
            .filter(|address| !address.is_unspecified()))
    }

    /// A decimal number.
    pub(crate) fn number<T: FromStr>(self, name: &str, expected: &'static str) -> Result<Option<T>, EnvError> {
        self.text_value(name)?
            .map(|text| decimal(text).ok_or_else(|| unexpected(name, text, expected)))
            .transpose()
    }

    /// A decimal number that must be there.
    pub(crate) fn required_number<T: FromStr>(
        self,
        variable: &'static str,
        expected: &'static str,
    ) -> Result<T, EnvError> {
        self.number(variable, expected)?.ok_or(missing(variable))
    }

    /// Two variables contradict each other.
    pub(crate) fn contradiction(self, first: &'static str, second: &'static str, expected: &'static str) -> EnvError {
        let [first_value, second_value] =
            [first, second].map(|name| QuotedValue::new(self.raw(name).unwrap_or(OsStr::new(""))));
        EnvError::Contradiction {
            first,
            first_value,
            second,
            second_value,
            expected,
        }
    }

    /// A text of the peer's choice, of any length and content. Nothing if it is missing or empty.
    pub(crate) fn peer_text(self, name: &str) -> Option<PeerText> {
        let value = self.raw(name).filter(|value| !value.is_empty())?;
        Some(PeerText::new(value.as_bytes()))
    }

    /// An identity or a user name. Nothing if it is missing or empty.
    pub(crate) fn identity(self, name: &str, daemon: Daemon) -> Option<PeerText> {
        let value = self.raw(name).filter(|value| !value.is_empty())?;
        let stack = self.raw("PLUTO_STACK").and_then(OsStr::to_str);
        Some(identity::unescape_identity(daemon, stack, value.as_bytes()))
    }
}

/// Makes a typed value of a text, or says what is wrong with it.
pub(crate) fn parse<T: FromStr<Err = Expected>>(name: &str, text: &str) -> Result<T, EnvError> {
    text.parse()
        .map_err(|Expected(expected)| unexpected(name, text, expected))
}

/// A number in decimal digits and nothing else; Rust's own parser takes a `+` in front too.
pub(crate) fn decimal<T: FromStr>(text: &str) -> Option<T> {
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    text.parse().ok()
}

/// A variable is not there that must be.
pub(crate) fn missing(variable: &'static str) -> EnvError {
    EnvError::Missing { variable }
}

/// A value is not what its variable should contain.
pub(crate) fn unexpected(name: &str, value: impl AsRef<OsStr>, expected: &'static str) -> EnvError {
    EnvError::Unexpected {
        variable: name.to_owned(),
        value: QuotedValue::new(value.as_ref()),
        expected,
    }
}

/// An IP address, with the error that this stage wants.
struct AddressText(IpAddr);

impl FromStr for AddressText {
    type Err = Expected;

    fn from_str(text: &str) -> Result<Self, Expected> {
        text.parse().map(Self).map_err(|_| Expected("an address"))
    }
}
