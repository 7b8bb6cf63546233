//! The settings file of the stock scripts, `/etc/sysconfig/pluto_updown` or `/etc/default/pluto_updown`.
//!
//! They run it as shell. Here only what sets a variable to a value is understood, and of those variables the ones that concern routes.

use std::fs;
use std::io;
use std::path::Path;

use super::{AlwaysRoute, RouteArguments};
use crate::words::escaped;

/// Where it is, below the root of the file system: the first of these that is there.
pub const STOCK_PATHS: [&str; 2] = ["etc/sysconfig/pluto_updown", "etc/default/pluto_updown"];

/// What the file says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StockSettings {
    /// `ROUTE=yes`, or not.
    pub always_route: AlwaysRoute,
    /// `IPROUTEARGS`.
    pub arguments: RouteArguments,
    /// What in it has no effect, with file and line.
    pub warning: Option<String>,
}

impl StockSettings {
    /// Reads the file, if there is one.
    #[must_use]
    pub fn load(root: &Path) -> Self {
        for path in STOCK_PATHS.map(|path| root.join(path)) {
            match fs::read(&path) {
                Ok(text) => return Self::parse(path, &String::from_utf8_lossy(&text)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => {
                    let warning = Some(format!("{}: cannot read: {error}", path.display()));
                    return Self {
                        warning,
                        ..Self::default()
                    };
                }
            }
        }
        Self::default()
    }

    fn parse(path: impl AsRef<Path>, text: &str) -> Self {
        let mut settings = Self::default();
        let mut complaints = Vec::new();
        for (number, line) in (1..).zip(text.lines()) {
            if let Err(complaint) = settings.read(line.trim()) {
                complaints.push(format!("{}:{number}: {complaint}", path.as_ref().display()));
            }
        }
        let more = complaints.len().saturating_sub(1);
        settings.warning = complaints.into_iter().next().map(|first| match more {
            0 => first,
            more => format!("{first} (and {more} more)"),
        });
        settings
    }

    fn read(&mut self, line: &str) -> Result<(), String> {
        if line.is_empty() || line.starts_with('#') {
            return Ok(());
        }
        let (name, value) = assignment(line).ok_or_else(|| {
            format!(
                "\"{}\" has no effect, expected NAME=VALUE",
                escaped(line.as_bytes(), 60)
            )
        })?;
        match name {
            "ROUTE" => {
                self.always_route = if value == "yes" {
                    AlwaysRoute::Yes
                } else {
                    AlwaysRoute::No
                };
            }
            "IPROUTEARGS" => {
                self.arguments = value.parse().map_err(|error| {
                    format!(
                        "IPROUTEARGS=\"{}\" has no effect, {error}",
                        escaped(value.as_bytes(), 60)
                    )
                })?;
            }
            other => {
                return Err(format!(
                    "{} has no effect, expected ROUTE or IPROUTEARGS",
                    escaped(other.as_bytes(), 32)
                ));
            }
        }
        Ok(())
    }
}

/// `NAME=VALUE`, `export NAME="VALUE"`: the value without its quotes. Nothing if the shell would make more of it than its text.
fn assignment(line: &str) -> Option<(&str, &str)> {
    let line = line.strip_prefix("export ").unwrap_or(line);
    let (name, value) = line.split_once('=')?;
    let word = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    let quoted = |quote: char| {
        let inner = value.strip_prefix(quote)?.strip_suffix(quote)?;
        (!inner.contains(quote) && (quote == '\'' || !inner.contains(['$', '`', '\\']))).then_some(inner)
    };
    let bare = || {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-:/%+,@".contains(&byte);
        value.bytes().all(plain).then_some(value)
    };
    let value = quoted('"').or_else(|| quoted('\'')).or_else(bare)?;
    word(name).then_some((name, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> StockSettings {
        StockSettings::parse("/f", text)
    }

    #[test]
    fn assignments_are_understood_in_every_plain_spelling() {
        for text in ["ROUTE=yes", "  export ROUTE=\"yes\"\n", "# mine\n\nROUTE='yes'"] {
            assert_eq!(
                parse(text),
                StockSettings {
                    always_route: AlwaysRoute::Yes,
                    ..StockSettings::default()
                },
                "{text}"
            );
        }
        assert_eq!(parse("ROUTE=yes\nROUTE=no"), StockSettings::default());
        let settings = parse("IPROUTEARGS=\"mtu 1400 table 220\"");
        assert_eq!(settings.arguments, "mtu 1400 table 220".parse().unwrap());
        assert_eq!(settings.warning, None);
    }

    #[test]
    fn what_has_no_effect_is_told_once_with_its_line() {
        for (text, warning) in [
            (
                "ROUTE=yes\n. /etc/other",
                "/f:2: \". /etc/other\" has no effect, expected NAME=VALUE",
            ),
            (
                "ROUTE=$(id)",
                "/f:1: \"ROUTE=$(id)\" has no effect, expected NAME=VALUE",
            ),
            (
                "ROUTE=\"`id`\"",
                "/f:1: \"ROUTE=\\\"`id`\\\"\" has no effect, expected NAME=VALUE",
            ),
            (
                "IPRARGS=x",
                "/f:1: IPRARGS has no effect, expected ROUTE or IPROUTEARGS",
            ),
            (
                "A=1\nB=2\nC=3",
                "/f:1: A has no effect, expected ROUTE or IPROUTEARGS (and 2 more)",
            ),
        ] {
            assert_eq!(parse(text).warning.as_deref(), Some(warning));
        }
        let warning = parse("IPROUTEARGS='mtu big'").warning.unwrap();
        assert!(
            warning.starts_with("/f:1: IPROUTEARGS=\"mtu big\" has no effect, expected words of ip route"),
            "{warning}"
        );
    }
}
