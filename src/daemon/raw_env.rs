//! What was given to the process, unjudged.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};

/// The arguments and the environment of one call, byte for byte as the daemon gave them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawEnv {
    arguments: Vec<OsString>,
    variables: BTreeMap<OsString, OsString>,
}

impl RawEnv {
    /// Copies the arguments after the program's name, and the whole environment.
    ///
    /// Where a variable is given twice, the last one counts.
    pub fn new(
        arguments: impl IntoIterator<Item = OsString>,
        variables: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Self {
        Self {
            arguments: arguments.into_iter().collect(),
            variables: variables.into_iter().collect(),
        }
    }

    /// The arguments after the program's name.
    #[must_use]
    pub fn arguments(&self) -> &[OsString] {
        &self.arguments
    }

    /// The value of a variable. A variable that is set to nothing is there, and empty.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&OsStr> {
        self.variables.get(OsStr::new(name)).map(OsString::as_os_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_given_is_kept() {
        let pairs = [("A", "1"), ("B", ""), ("A", "2")].map(|(name, value)| (name.into(), value.into()));
        let raw_env = RawEnv::new(["custom".into(), "arg".into()], pairs);
        assert_eq!(raw_env.arguments(), ["custom", "arg"]);
        assert_eq!(raw_env.get("A"), Some(OsStr::new("2")));
        assert_eq!(raw_env.get("B"), Some(OsStr::new("")));
        assert_eq!(raw_env.get("C"), None);
    }
}
