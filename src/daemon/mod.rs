//! What a daemon said: from argv and environment to a typed [`Tunnel`].
//!
//! Two steps. A [`RawEnv`] is a faithful copy of what was given and judges nothing. Its variables
//! are parsed as the daemon that called writes them, or an error names the variable. No later stage
//! reads a variable. The folders `routing` and `dns` parse theirs by the same reader.

mod call;
mod captures;
pub(crate) mod env_reader;
mod error;
mod identity;
mod kind;
mod names;
mod raw_env;
mod reader;
pub(crate) mod sa_match;
#[cfg(test)]
pub(crate) mod sample_call;
mod traffic;
pub(crate) mod tunnel;
mod variables;
mod verb;

#[cfg(test)]
pub(crate) use call::Spis;
pub(crate) use call::{Call, ClientTranslation, Compression, LogGroup};
pub use call::{FirewallAction, HostAccess, SaMatch, Scope, Tunnel, UpCounting};
pub(crate) use captures::CapturedCall;
pub use captures::captured_calls;
pub(crate) use error::EnvError;
pub(crate) use kind::{Daemon, Libreswan};
pub use names::ConnectionName;
pub(crate) use names::PeerText;
pub use raw_env::RawEnv;
pub(crate) use reader::read_call;
#[cfg(test)]
pub(crate) use variables::treatment;
pub use variables::{Treatment, VARIABLES};
pub(crate) use verb::{Operation, Verb};
