//! What is true of all calls.

mod arbitrary;
mod captured;
mod optional;
mod resolver;
mod table;
mod whole;

use super::{Event, read_event};
use crate::daemon::sample_call::{
    SampleCall, cisco_client, config_client, every_kind, freeswan, libreswan3_klips, libreswan4, libreswan5,
    libreswan43, libreswan54, openswan, openswan_klips, strongswan,
};
use crate::daemon::{EnvError, FirewallAction, Tunnel};

impl SampleCall {
    fn parse_event(&self) -> Result<Event, EnvError> {
        read_event(&self.raw_env())
    }

    /// The text of the error.
    fn event_error(&self) -> String {
        self.parse_event().unwrap_err().to_string()
    }
}
