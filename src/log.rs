//! What is said, and to whom: facts to syslog, errors to syslog and standard error.
//!
//! Through the Unix socket and nothing else, and never waiting: a syslog that does not take a line loses it, since the IKE
//! daemon stands still as long as we do. Standard error is read by the daemon, which logs it; nothing is said there when all went
//! well, because libreswan 5.4 in its `async` mode takes any output for a fault.

use std::fmt;
use std::io::{self, Write as _};

use syslog::{Facility, Formatter3164, Logger, LoggerBackend};

use crate::contract::Tunnel;

/// The longest line, in bytes: Pluto folds what a hook says at 255, with its own prefix counted in.
const LONGEST: usize = 230;

/// Where lines go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Log {
    /// To syslog, and errors to standard error too.
    Syslog,
    /// To standard error, and only errors: a rehearsal.
    Stderr,
}

/// The tag and facility of a line.
#[derive(Debug, Clone, Copy)]
enum Voice {
    /// That of the stock scripts, for the lines that log watchers know: `vpn`, local0.notice.
    Stock,
    /// Our own, daemon.warning.
    Warning,
    /// Our own, daemon.err.
    Error,
}

/// A tunnel that comes or goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sign {
    /// It comes: `+`.
    Up,
    /// It goes: `-`.
    Down,
}

impl Log {
    /// Says that a tunnel came or went, in the words of strongSwan's script.
    pub fn peer(self, sign: Sign, tunnel: &Tunnel) {
        match self {
            Self::Syslog => send(Voice::Stock, &PeerLine { sign, tunnel }.to_string()),
            Self::Stderr => {}
        }
    }

    /// Says what went well enough and should be looked at.
    pub fn warning(self, message: &dyn fmt::Display) {
        match self {
            Self::Syslog => send(Voice::Warning, &one_line(&message.to_string())),
            Self::Stderr => {}
        }
    }

    /// Says what went wrong.
    pub fn error(self, message: &dyn fmt::Display) {
        let line = one_line(&message.to_string());
        // Nobody reads it: then nobody misses it.
        let _ = writeln!(io::stderr(), "pluto-updown: {line}");
        match self {
            Self::Syslog => send(Voice::Error, &line),
            Self::Stderr => {}
        }
    }
}

/// `+ PEER-ID PEER-NETWORK == PEER -- ME == MY-NETWORK`; a network is left out where it is the gateway itself.
struct PeerLine<'a> {
    sign: Sign,
    tunnel: &'a Tunnel,
}

impl fmt::Display for PeerLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Tunnel {
            me,
            peer,
            my_client,
            peer_client,
            peer_id,
            ..
        } = self.tunnel;
        f.write_str(match self.sign {
            Sign::Up => "+ ",
            Sign::Down => "- ",
        })?;
        write!(f, "{peer_id} ")?;
        let address =
            |address: &Option<_>| address.map_or_else(|| "%any".to_owned(), |ip: std::net::IpAddr| ip.to_string());
        if peer.is_none_or(|peer| !peer_client.is_host(peer)) {
            write!(f, "{peer_client} == ")?;
        }
        write!(f, "{} -- {}", address(peer), address(me))?;
        if me.is_none_or(|me| !my_client.is_host(me)) {
            write!(f, " == {my_client}")?;
        }
        Ok(())
    }
}

fn one_line(text: &str) -> String {
    let mut line: String = text
        .chars()
        .map(|c| if matches!(c, ' '..='~') { c } else { '?' })
        .collect();
    if line.len() > LONGEST {
        line.truncate(LONGEST - 3);
        line.push_str("...");
    }
    line
}

fn send(voice: Voice, line: &str) {
    let (process, facility) = match voice {
        Voice::Stock => ("vpn", Facility::LOG_LOCAL0),
        Voice::Warning | Voice::Error => ("pluto-updown", Facility::LOG_DAEMON),
    };
    let formatter = Formatter3164 {
        facility,
        hostname: None,
        process: process.to_owned(),
        pid: std::process::id(),
    };
    // No syslog, no line: a firewall must not fail for that.
    let Ok(mut logger) = syslog::unix(formatter) else {
        return;
    };
    if stop_waiting(&logger).is_err() {
        return;
    }
    let _ = match voice {
        Voice::Stock => logger.notice(line),
        Voice::Warning => logger.warning(line),
        Voice::Error => logger.err(line),
    };
}

fn stop_waiting(logger: &Logger<LoggerBackend, Formatter3164>) -> io::Result<()> {
    match &logger.backend {
        LoggerBackend::Unix(socket) => socket.set_nonblocking(true),
        LoggerBackend::UnixStream(socket) => socket.get_ref().set_nonblocking(true),
        LoggerBackend::Udp(..) | LoggerBackend::Tcp(_) => Err(io::ErrorKind::Unsupported.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_short_and_printable() {
        let line = one_line(&format!("a\nb\u{1b}{}", "x".repeat(400)));
        assert!(line.starts_with("a?b?xxx"));
        assert_eq!(line.len(), LONGEST);
        assert!(line.ends_with("..."));
    }
}
