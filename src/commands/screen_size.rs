//! How large the terminal is.

use std::io::{self, IsTerminal as _};

use terminal_size::{Height, Width, terminal_size_of};

/// How wide a line is where no terminal says it: most mails and logs are read so.
const WIDTH: usize = 80;

/// How large the terminal is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ScreenSize {
    /// In characters.
    pub(super) width: usize,
    /// In lines; none where nothing scrolls away.
    pub(super) height: Option<usize>,
}

impl ScreenSize {
    /// That of standard output.
    pub(super) fn of_stdout() -> Self {
        let none = Self {
            width: WIDTH,
            height: None,
        };
        if !io::stdout().is_terminal() {
            return none;
        }
        match terminal_size_of(io::stdout()) {
            // A terminal that does not know its size says 0.
            Some((Width(width), Height(height))) if width > 0 && height > 0 => Self {
                width: usize::from(width),
                height: Some(usize::from(height)),
            },
            Some(_) | None => none,
        }
    }
}
