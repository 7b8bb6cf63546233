//! Colours for verdicts, where a terminal shows them and they are wanted.

use std::io::{self, IsTerminal as _};

use super::status::Colours;

/// What a coloured text is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tone {
    /// As it should be, or it passes: bold green.
    Good,
    /// Wrong, or dropped: bold red.
    Bad,
}

impl Tone {
    /// The parameters of the escape sequence SGR (ECMA-48).
    fn sgr(self) -> &'static str {
        match self {
            Self::Good => "1;32",
            Self::Bad => "1;31",
        }
    }
}

/// What standard output is to show: no colours where it is no terminal.
pub(super) fn on_stdout(colours: Colours) -> Colours {
    match io::stdout().is_terminal() {
        true => colours,
        false => Colours::Unknown,
    }
}

/// A text in its colour.
pub(super) fn painted(text: &str, tone: Tone, colours: Colours) -> String {
    match colours {
        Colours::Wanted => format!("\u{1b}[{}m{text}\u{1b}[0m", tone.sgr()),
        Colours::Unwanted | Colours::Unknown => text.to_owned(),
    }
}
