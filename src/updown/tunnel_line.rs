//! The line that strongSwan's `_updown` logs when a tunnel comes up or goes down.

use std::fmt;
use std::net::IpAddr;

use crate::daemon::Tunnel;

/// Whether a tunnel comes up or goes down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TunnelEvent {
    /// Up: `+`.
    Up,
    /// Down: `-`.
    Down,
}

/// `+ PEER-ID PEER-NETWORK == PEER -- ME == MY-NETWORK`; a network is left out where it is the
/// gateway itself.
#[derive(Debug)]
pub(super) struct TunnelLine<'a> {
    pub(super) event: TunnelEvent,
    pub(super) tunnel: &'a Tunnel,
}

impl fmt::Display for TunnelLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Tunnel {
            local_host,
            remote_host,
            local_client,
            remote_client,
            remote_id,
            ..
        } = self.tunnel;
        f.write_str(match self.event {
            TunnelEvent::Up => "+ ",
            TunnelEvent::Down => "- ",
        })?;
        write!(f, "{remote_id} ")?;
        let address = |address: &Option<IpAddr>| address.map_or_else(|| "%any".to_owned(), |ip| ip.to_string());
        if remote_host.is_none_or(|host| !remote_client.is_host(host)) {
            write!(f, "{remote_client} == ")?;
        }
        write!(f, "{} -- {}", address(remote_host), address(local_host))?;
        if local_host.is_none_or(|host| !local_client.is_host(host)) {
            write!(f, " == {local_client}")?;
        }
        Ok(())
    }
}
