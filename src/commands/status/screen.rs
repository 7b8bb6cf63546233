//! The terminal's alternate screen while `--watch` runs.

use std::os::fd::AsFd as _;
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use super::Colours;
use crate::commands::command_context::print;
use crate::updown::HookError;

/// Why a wait has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wake {
    /// The time is over, or the terminal has another size.
    Again,
    /// The user ends it.
    End,
}

/// A screen that is written again and again. When dropped, it restores what was there before.
#[derive(Debug)]
pub(super) struct Screen {
    has_escapes: bool,
    signals: Option<SignalFd>,
    is_first: bool,
}

impl Screen {
    /// Takes the alternate screen, where there is one: the shell's is there again afterwards.
    pub(super) fn open(colours: Colours) -> Result<Self, HookError> {
        let has_escapes = colours != Colours::Unknown;
        let screen = Self {
            has_escapes,
            signals: if has_escapes { signals().ok() } else { None },
            is_first: true,
        };
        if has_escapes {
            // The alternate screen (xterm's 1049), without a cursor.
            print("\u{1b}[?1049h\u{1b}[?25l")?;
        }
        Ok(screen)
    }

    /// Shows a text in the place of the one before it, or under it.
    pub(super) fn show_text(&mut self, text: &str) -> Result<(), HookError> {
        match (self.has_escapes, std::mem::replace(&mut self.is_first, false)) {
            // Each line clears what is left of it, and the last one what is below: nothing
            // flickers.
            (true, _) => {
                let lines: Vec<_> = text.lines().map(|line| format!("{line}\u{1b}[K")).collect();
                print(&format!("\u{1b}[H{}\u{1b}[J", lines.join("\r\n")))
            }
            (false, true) => print(text),
            (false, false) => print(&format!("\n{text}")),
        }
    }

    /// Waits for this time, or until the terminal's size changes or the user ends it.
    pub(super) fn wait_for_key(&self, time: Duration) -> Wake {
        let Some(signals) = &self.signals else {
            std::thread::sleep(time);
            return Wake::Again;
        };
        let timeout = PollTimeout::try_from(time).unwrap_or(PollTimeout::MAX);
        let mut files = [PollFd::new(signals.as_fd(), PollFlags::POLLIN)];
        match poll(&mut files, timeout) {
            Ok(0) | Err(Errno::EINTR) => Wake::Again,
            Err(_) => Wake::End,
            Ok(_) => match signals.read_signal() {
                Ok(Some(info)) if i64::from(info.ssi_signo) != Signal::SIGWINCH as i64 => Wake::End,
                Ok(_) | Err(_) => Wake::Again,
            },
        }
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        if self.has_escapes {
            // An error cannot be reported any more.
            let _ = print("\u{1b}[?25h\u{1b}[?1049l");
        }
    }
}

/// What ends the program ends a wait instead, so that the terminal is left as it was. A program
/// that is started has its own signals.
fn signals() -> nix::Result<SignalFd> {
    let set: SigSet = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGWINCH]
        .into_iter()
        .collect();
    set.thread_block()?;
    SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
}
