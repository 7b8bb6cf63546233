//! The syslog of a machine for a test: a datagram socket at `/dev/log`.

#![allow(dead_code, reason = "each test binary uses its part of this module")]

use std::io::ErrorKind;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::namespace::Namespace;

/// How a line of local0.notice begins (RFC 3164: facility 16 times 8, and severity 5).
pub const LOCAL0_NOTICE: &str = "<133>";
/// How a line of daemon.warning begins.
pub const DAEMON_WARNING: &str = "<28>";
/// How a line of daemon.err begins.
pub const DAEMON_ERR: &str = "<27>";

/// Receives what programs in a machine send to syslog.
pub struct Syslog {
    socket: UnixDatagram,
    path: PathBuf,
}

impl Syslog {
    /// Receives it from now on.
    pub fn new(machine: &Namespace) -> Self {
        let path = machine.path("syslog");
        let socket = UnixDatagram::bind(&path).expect("a socket");
        socket
            .set_read_timeout(Some(Duration::from_millis(200)))
            .expect("a timeout");
        machine.shell(&format!(
            "mount -t tmpfs -o mode=755 tmpfs /dev; mknod -m 666 /dev/null c 1 3; ln -s {} /dev/log",
            path.display()
        ));
        Self { socket, path }
    }

    /// The lines that have come since the last look, with the priority in front.
    pub fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        let mut buffer = [0; 2048];
        loop {
            match self.socket.recv(&mut buffer) {
                Ok(length) => lines.push(String::from_utf8_lossy(&buffer[..length]).into_owned()),
                // A signal that some child of this process has ended.
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return lines,
            }
        }
    }

    /// Where the socket is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}
