//! What a daemon said: from argv and environment to a typed [`Event`].
//!
//! Two steps. A [`RawEnv`] is a faithful copy of what was given and judges nothing. [`read_event`]
//! turns it into an [`Event`] for the daemon that called, or says which variable is at fault. No
//! later stage reads a variable.

mod captures;
mod daemon;
mod domain;
mod env_reader;
mod error;
mod event;
mod identity;
mod names;
mod raw_env;
mod reader;
mod resolver;
mod routing;
mod sa_match;
mod traffic;
mod tunnel;
mod variables;
mod verb;

pub use captures::{CapturedCall, captured_calls};
pub use daemon::{Daemon, Libreswan};
pub use domain::Domain;
pub use error::{EnvError, QuotedValue};
pub use event::{
    ClientTranslation, Compression, Event, FirewallAction, HostAccess, LogGroup, SaMatch, SaProtocol, Scope, Spis,
    Tunnel, UpCounting,
};
pub use names::{ConnectionName, PeerText};
pub use raw_env::RawEnv;
pub use reader::read_event;
pub use resolver::{
    DnsConfig, DnsMeans, DnsRequest, NameService, NmNotice, NmReason, NmService, ResolverAction, ResolverUser,
};
pub use routing::{PeerType, RoutedBy, Routing, UnrouteReason, VtiMarks, VtiRouting, VtiSettings};
pub use variables::{Treatment, VARIABLES};
pub use verb::{Operation, Verb};

#[cfg(test)]
mod tests;
