//! The verb of a call, `PLUTO_VERB`.

use std::fmt;
use std::str::FromStr;

use super::call::Scope;
use crate::net::Expected;

/// What `PLUTO_VERB` may say.
const FORM: Expected =
    Expected("<operation>-host or <operation>-client, with -v6 or without, or a join such as prepare-route-up");

/// One operation that a daemon asks for. The names are those of the verbs; no daemon sends all of
/// them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Operation {
    /// A route is about to be installed (Pluto).
    Prepare,
    /// Install the route (Pluto); also for an on-demand connection without a security association.
    Route,
    /// Remove the route (Pluto).
    Unroute,
    /// The first security association of a pair of selectors is there. Not sent on a rekey.
    Up,
    /// The last security association of a pair of selectors is going.
    Down,
    /// NetworkManager's attempt failed (Openswan, libreswan before 5.4, with Cisco peers).
    DisconnectNm,
    /// Take the peer's name servers into use (Openswan, with Cisco peers).
    UpdateResolvConf,
    /// Go back to our own name servers (Openswan, with Cisco peers).
    RestoreResolvConf,
    /// Mark the packets of a security association (Openswan, stack `mast`).
    SpdAdd,
    /// Mark them no longer (Openswan, stack `mast`).
    SpdDel,
}

impl Operation {
    /// Every operation.
    pub const ALL: [Self; 10] = [
        Self::Prepare,
        Self::Route,
        Self::Unroute,
        Self::Up,
        Self::Down,
        Self::DisconnectNm,
        Self::UpdateResolvConf,
        Self::RestoreResolvConf,
        Self::SpdAdd,
        Self::SpdDel,
    ];

    /// Its name in `PLUTO_VERB`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Prepare => "prepare",
            Self::Route => "route",
            Self::Unroute => "unroute",
            Self::Up => "up",
            Self::Down => "down",
            Self::DisconnectNm => "disconnectNM",
            Self::UpdateResolvConf => "updateresolvconf",
            Self::RestoreResolvConf => "restoreresolvconf",
            Self::SpdAdd => "spdadd",
            Self::SpdDel => "spddel",
        }
    }

    /// Whether libreswan 5.4 joins it with others in one asynchronous call.
    fn is_joined(self) -> bool {
        match self {
            Self::Prepare | Self::Route | Self::Up => true,
            Self::Unroute
            | Self::Down
            | Self::DisconnectNm
            | Self::UpdateResolvConf
            | Self::RestoreResolvConf
            | Self::SpdAdd
            | Self::SpdDel => false,
        }
    }

    /// Whether it is executed as far as possible, and never refused.
    pub(crate) fn is_never_refused(self) -> bool {
        match self {
            Self::Prepare | Self::Route | Self::Unroute | Self::Up | Self::Down => false,
            Self::DisconnectNm | Self::UpdateResolvConf | Self::RestoreResolvConf | Self::SpdAdd | Self::SpdDel => true,
        }
    }

    fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|operation| operation.name() == name)
    }
}

/// One verb: the operations that it asks for, in order, and whether the local end is the gateway
/// alone.
///
/// `up-client-v6`, `route-host`; from libreswan 5.4 with `updown-config=async` also
/// `prepare-route-up` and `prepare-up`, which have no scope; `disconnectNM` with a scope and
/// without.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verb {
    operations: Vec<Operation>,
    scope: Option<Scope>,
    suffix: Suffix,
}

/// The family at the end of a verb. Kept to give the text back, and not to be believed: libreswan
/// 4.x, Openswan and FreeS/WAN form it from the addresses of the IKE association, which say nothing
/// of the networks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Suffix {
    None,
    V6,
}

impl Verb {
    /// What is asked for, in order; at least one, and none twice.
    #[must_use]
    pub fn operations(&self) -> &[Operation] {
        &self.operations
    }

    /// Whether an operation is among what is asked for.
    #[must_use]
    pub fn asks(&self, operation: Operation) -> bool {
        self.operations.contains(&operation)
    }

    /// Whether our end is the gateway alone, where the verb says so.
    #[must_use]
    pub fn scope(&self) -> Option<Scope> {
        self.scope
    }

    /// Whether the stock scripts of libreswan give the exit status of their route: they do in the
    /// branches with `-v6`.
    #[must_use]
    pub(crate) fn tells_of_routes(&self) -> bool {
        self.asks(Operation::Route) && self.suffix == Suffix::V6
    }

    /// The verb of one operation and a scope.
    fn scoped(operation: &str, scope: Scope, suffix: Suffix) -> Result<Self, Expected> {
        let operation = Operation::from_name(operation).ok_or(FORM)?;
        Ok(Self {
            operations: vec![operation],
            scope: Some(scope),
            suffix,
        })
    }

    /// A verb without a scope.
    fn scopeless(text: &str) -> Result<Self, Expected> {
        let operations: Option<Vec<_>> = text.split('-').map(Operation::from_name).collect();
        let operations = operations.ok_or(FORM)?;
        if operations != [Operation::DisconnectNm] && !is_join(&operations) {
            return Err(FORM);
        }
        Ok(Self {
            operations,
            scope: None,
            suffix: Suffix::None,
        })
    }
}

/// Whether these are operations that are sent as one: two or three of prepare, route and up, none
/// twice.
fn is_join(operations: &[Operation]) -> bool {
    let different = (1..operations.len()).all(|n| !operations[..n].contains(&operations[n]));
    operations.len() > 1 && different && operations.iter().all(|operation| operation.is_joined())
}

impl FromStr for Verb {
    type Err = Expected;

    fn from_str(text: &str) -> Result<Self, Expected> {
        let (stem, suffix) = match text.strip_suffix("-v6") {
            Some(stem) => (stem, Suffix::V6),
            None => (text, Suffix::None),
        };
        match stem.rsplit_once('-') {
            Some((operation, "host")) => Self::scoped(operation, Scope::Host, suffix),
            Some((operation, "client")) => Self::scoped(operation, Scope::Client, suffix),
            Some(_) | None => Self::scopeless(text),
        }
    }
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, operation) in self.operations.iter().enumerate() {
            let joint = if position == 0 { "" } else { "-" };
            write!(f, "{joint}{}", operation.name())?;
        }
        f.write_str(match self.scope {
            Some(Scope::Host) => "-host",
            Some(Scope::Client) => "-client",
            None => "",
        })?;
        f.write_str(match self.suffix {
            Suffix::V6 => "-v6",
            Suffix::None => "",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::Operation::{DisconnectNm, Prepare, Route, Up};
    use super::*;

    fn verb(text: &str) -> Verb {
        text.parse().unwrap()
    }

    #[test]
    fn every_operation_takes_both_scopes_and_the_suffix() {
        for operation in Operation::ALL {
            for (scope, name) in [(Scope::Host, "host"), (Scope::Client, "client")] {
                for suffix in ["", "-v6"] {
                    let text = format!("{}-{name}{suffix}", operation.name());
                    assert_eq!(verb(&text).operations(), [operation]);
                    assert_eq!(verb(&text).scope(), Some(scope));
                    assert_eq!(verb(&text).to_string(), text);
                }
            }
        }
    }

    #[test]
    fn joined_operations_keep_their_order_and_have_no_scope() {
        for (text, operations) in [
            ("prepare-route-up", &[Prepare, Route, Up][..]),
            ("prepare-up", &[Prepare, Up]),
            ("prepare-route", &[Prepare, Route]),
            ("route-up", &[Route, Up]),
            ("up-prepare", &[Up, Prepare]),
        ] {
            assert_eq!(verb(text).operations(), operations);
            assert_eq!(verb(text).scope(), None);
            assert_eq!(verb(text).to_string(), text);
        }
        assert!(verb("prepare-up").asks(Up));
        assert!(!verb("prepare-route").asks(Up));
    }

    #[test]
    fn network_manager_is_notified_without_a_scope_too() {
        assert_eq!(verb("disconnectNM").operations(), [DisconnectNm]);
        assert_eq!(verb("disconnectNM").to_string(), "disconnectNM");
    }

    #[test]
    fn what_no_daemon_sends_is_refused() {
        for text in [
            "",
            "-",
            "up",
            "down",
            "up-",
            "-client",
            "up-clients",
            "Up-client",
            "up-client-v4",
            "up-client-v6-v6",
            "up-v6",
            "up-up",
            "up-down",
            "prepare-up-v6",
            "prepare-up-client",
            "prepare-route-up-route",
            "plumb-client",
            "up-client ",
            "disconnectnm",
            "disconnectNM-v6",
            "spdadd",
            "down-unroute",
            "up-client\n",
            "client",
            "v6",
        ] {
            assert_eq!(text.parse::<Verb>(), Err(FORM), "{text:?}");
        }
    }
}
