//! The settings file of the stock scripts, `/etc/sysconfig/pluto_updown` or
//! `/etc/default/pluto_updown`.
//!
//! They run it as shell. Here only what sets a variable to a value is understood, and of those
//! variables the ones that concern routes.

use std::path::Path;

use super::file::is_absent;
use super::route::{AlwaysRoute, RouteArguments};
use crate::sys::files::read_plain;
use crate::words::escaped;

/// Where it is, below the root of the file system: the first of these that is there.
pub(crate) const STOCK_PATHS: [&str; 2] = ["etc/sysconfig/pluto_updown", "etc/default/pluto_updown"];

/// The largest file that is read, in bytes.
const LARGEST: u64 = 1 << 16;

/// What the file says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct StockSettings {
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
    pub(crate) fn load(root: &Path) -> Self {
        for path in STOCK_PATHS.map(|path| root.join(path)) {
            match read_plain(&path, LARGEST) {
                Ok(text) => return Self::parse(path, &String::from_utf8_lossy(&text)),
                Err(error) if is_absent(&path, &error) => {}
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
        let mut messages = Vec::new();
        for (number, line) in (1..).zip(text.lines()) {
            if let Err(error) = settings.read_line(line.trim()) {
                messages.push(format!("{}:{number}: {error}", path.as_ref().display()));
            }
        }
        let more = messages.len().saturating_sub(1);
        settings.warning = messages.into_iter().next().map(|first| match more {
            0 => first,
            more => format!("{first} (and {more} more)"),
        });
        settings
    }

    fn read_line(&mut self, line: &str) -> Result<(), String> {
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

/// `NAME=VALUE`, `export NAME="VALUE"`: the value without its quotes. Nothing if the shell would
/// make more of it than its text.
fn assignment(line: &str) -> Option<(&str, &str)> {
    let line = line.strip_prefix("export ").unwrap_or(line);
    let (name, value) = line.split_once('=')?;
    let value = without_comment(value);
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

/// The part of a line before a comment. As in the shell, a `#` begins one at the beginning of a
/// word and outside quotes.
fn without_comment(value: &str) -> &str {
    let mut open = None;
    let mut before = ' ';
    for (position, letter) in value.char_indices() {
        match (open, letter) {
            (None, '\'' | '"') => open = Some(letter),
            (Some(quote), letter) if quote == letter => open = None,
            (None, '#') if position > 0 && before.is_ascii_whitespace() => return value[..position].trim_end(),
            (None | Some(_), _) => {}
        }
        before = letter;
    }
    value
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
    fn a_comment_behind_a_value_is_none_of_it() {
        for text in [
            "IPROUTEARGS=\"metric 5\" # comment",
            "IPROUTEARGS='metric 5'\t#comment's \"end",
            "export IPROUTEARGS=\"metric 5\"  ",
        ] {
            let settings = parse(text);
            assert_eq!(
                (settings.arguments, settings.warning),
                ("metric 5".parse().unwrap(), None),
                "{text}"
            );
        }
        assert_eq!(parse("ROUTE=yes # always").always_route, AlwaysRoute::Yes);
        // To the shell this is one word.
        assert!(parse("ROUTE=yes#no").warning.is_some());
        assert!(
            parse("IPROUTEARGS=\"metric 5 # 6\"")
                .warning
                .unwrap()
                .contains("has no effect")
        );
    }

    #[test]
    fn a_file_that_would_be_waited_for_is_reported_and_left_alone() {
        let root = tempfile::TempDir::new().unwrap();
        let path = root.path().join(STOCK_PATHS[1]);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRUSR).unwrap();
        let warning = StockSettings::load(root.path()).warning.unwrap();
        assert!(
            warning.ends_with("pluto_updown: cannot read: not a regular file"),
            "{warning}"
        );
    }

    #[test]
    fn what_has_no_effect_is_reported_once_with_its_line() {
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
            warning.starts_with("/f:1: IPROUTEARGS=\"mtu big\" has no effect, expected arguments of ip route"),
            "{warning}"
        );
    }
}
