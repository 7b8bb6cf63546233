//! Where log lines go: syslog, and errors to standard error too.
//!
//! Nothing here waits for a reader for long, because a hook call blocks the IKE daemon. A syslog
//! socket that is full loses the line. The socket is the datagram socket `/dev/log` and never the
//! network; connecting to a stream socket could wait. The daemon reads standard error and logs it.
//! A call that goes well writes nothing there, because libreswan 5.4 takes any output of an `async`
//! call for a failure.

use std::io::{self, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixDatagram;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Instant;

use log::{Level, LevelFilter, Log, Metadata, Record};
use nix::errno::Errno;
use nix::libc::PIPE_BUF;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use syslog::{Facility, Formatter3164, Logger, LoggerBackend};

/// The target of the lines that log watchers know from the stock scripts: tag `vpn`, local0.notice.
pub(crate) const VPN: &str = "vpn";

/// The longest line, in bytes. Pluto folds what a hook writes at 255, counting a prefix of its own.
const MAX_LINE: usize = 230;

/// How long one process waits in total for a reader of its standard error, in milliseconds. A pipe
/// buffers 64 KiB: with a reader there is no wait at all.
const STDERR_TIMEOUT: u16 = 500;

static LOGGER: OnceLock<ProcessLogger> = OnceLock::new();

/// Where the lines of this process go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Destination {
    /// Every line to syslog, errors to standard error too: a hook call.
    Syslog,
    /// Errors to standard error, nothing else anywhere: a dry run, or a command.
    Stderr,
}

/// Sends the records of the `log` crate to their destination from now on. The first call decides,
/// since a process is one hook call or one command.
pub(crate) fn init(destination: Destination) {
    let logger = LOGGER.get_or_init(|| ProcessLogger { destination });
    if log::set_logger(logger).is_ok() {
        log::set_max_level(match destination {
            Destination::Syslog => LevelFilter::Info,
            Destination::Stderr => LevelFilter::Error,
        });
    }
}

/// Writes to standard error, unless it has no reader.
///
/// The descriptor is shared with the daemon, so that `O_NONBLOCK` would change the daemon's end
/// too. Instead `poll` says when a pipe has room, and then a write of at most `PIPE_BUF` bytes does
/// not block (pipe(7)).
pub(crate) fn write_stderr(text: &str) {
    static MILLISECONDS_LEFT: AtomicU16 = AtomicU16::new(STDERR_TIMEOUT);
    let mut stderr = io::stderr().lock();
    for chunk in text.as_bytes().chunks(PIPE_BUF) {
        let begun = Instant::now();
        let left = MILLISECONDS_LEFT.load(Ordering::Relaxed);
        let mut watched = [PollFd::new(stderr.as_fd(), PollFlags::POLLOUT)];
        let mut ready = poll(&mut watched, PollTimeout::from(left));
        if ready == Err(Errno::EINTR) {
            // A program that was killed has ended.
            ready = poll(&mut watched, PollTimeout::from(left));
        }
        let is_ready = ready.is_ok_and(|ready| ready > 0);
        let waited = u16::try_from(begun.elapsed().as_millis()).unwrap_or(u16::MAX);
        MILLISECONDS_LEFT.store(left.saturating_sub(waited), Ordering::Relaxed);
        // A closed or broken standard error is ready too: the write then fails at once.
        if !is_ready || stderr.write(chunk).is_err() {
            return;
        }
    }
}

/// The logger of this process.
#[derive(Debug)]
struct ProcessLogger {
    destination: Destination,
}

impl Log for ProcessLogger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= log::max_level() && is_ours(metadata.target())
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let line = one_line(&record.args().to_string());
        if record.level() == Level::Error {
            write_stderr(&format!("pluto-updown: {line}\n"));
        }
        if self.destination == Destination::Syslog {
            // A line that syslog does not take is lost: a firewall must not fail for that.
            let _ = write_syslog(record.metadata(), &line);
        }
    }

    fn flush(&self) {}
}

/// Whether a record is of this crate. The netlink crates log too: a warning for every attribute
/// that they do not know.
fn is_ours(target: &str) -> bool {
    let root = target.split("::").next();
    target == VPN || root == Some(env!("CARGO_CRATE_NAME"))
}

/// One line of printable ASCII, cut to [`MAX_LINE`]: a peer chose parts of it.
fn one_line(text: &str) -> String {
    let mut line: String = text
        .chars()
        .map(|c| if matches!(c, ' '..='~') { c } else { '?' })
        .collect();
    if line.len() > MAX_LINE {
        line.truncate(MAX_LINE - 3);
        line.push_str("...");
    }
    line
}

/// Sends a line as local0.notice for [`VPN`], as daemon.err or daemon.warning otherwise.
fn write_syslog(metadata: &Metadata<'_>, line: &str) -> syslog::Result<()> {
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    socket.connect("/dev/log")?;
    let (tag, facility) = match metadata.target() {
        VPN => (VPN, Facility::LOG_LOCAL0),
        _ => ("pluto-updown", Facility::LOG_DAEMON),
    };
    let formatter = Formatter3164 {
        facility,
        hostname: None,
        process: tag.to_owned(),
        pid: std::process::id(),
    };
    let mut logger = Logger::new(LoggerBackend::Unix(socket), formatter);
    match (metadata.target(), metadata.level()) {
        (VPN, _) => logger.notice(line),
        (_, Level::Error) => logger.err(line),
        (_, Level::Warn | Level::Info | Level::Debug | Level::Trace) => logger.warning(line),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_crates_do_not_log() {
        assert!(is_ours(VPN) && is_ours(module_path!()) && is_ours("pluto_updown"));
        for other in [
            "netlink_packet_route::link::link_info",
            "vpn::tunnel",
            "pluto_updown_other",
        ] {
            assert!(!is_ours(other), "{other}");
        }
    }

    #[test]
    fn a_line_is_short_and_printable() {
        let line = one_line(&format!("a\nb\u{1b}{}", "x".repeat(400)));
        assert!(line.starts_with("a?b?xxx"));
        assert_eq!(line.len(), MAX_LINE);
        assert!(line.ends_with("..."));
    }
}
