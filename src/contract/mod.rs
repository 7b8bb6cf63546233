//! What a daemon said: from argv and environment to a typed [`Event`].
//!
//! Two steps. A [`Snapshot`] is a faithful copy of what was given and judges nothing. [`read`] turns it into an [`Event`] for
//! the dialect that it is written in, or says which variable is at fault. After that nobody reads a variable again.

mod attachment;
mod captures;
mod dialect;
mod domain;
mod error;
mod event;
mod identity;
mod reader;
mod resolver;
mod routing;
mod snapshot;
mod text;
mod traffic;
mod tunnel;
mod values;
mod variables;
mod verb;

pub use captures::{CapturedCall, captured_calls};
pub use dialect::{Dialect, Libreswan};
pub use domain::Domain;
pub use error::{ContractError, Quoted};
pub use event::{
    Attachment, ClientTranslation, Compression, Duty, Event, HostAccess, LogGroup, Multiplicity, SaProtocol, Scope,
    Spis, Tunnel,
};
pub use reader::read;
pub use resolver::{Means, NameService, NmService, Notice, Offer, Reason, Request, ResolverDuty, ResolverUser};
pub use routing::{Departure, PeerType, RoutedBy, Routing, Vti, VtiMarks, VtiRouting};
pub use snapshot::Snapshot;
pub use text::{ConnectionName, PeerText};
pub use variables::{Treatment, VARIABLES};
pub use verb::{Operation, Verb};

#[cfg(test)]
mod tests;
