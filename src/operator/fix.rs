//! What repairs a problem, in the words of every command that shows one.

use crate::netfilter::Table;
use crate::plan::DriftKind;
use crate::words::one_line;

/// What repairs a problem.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Fix {
    /// This command.
    Command(&'static str),
    /// What a person has to do.
    Advice(String),
}

impl Fix {
    pub(super) const RESTORE: Self = Self::Command("pluto-updown restore");
    pub(super) const START: Self = Self::Command("pluto-updown start");
    pub(super) const PRUNE: Self = Self::Command("pluto-updown prune");
    pub(super) const CHECK: Self = Self::Command("pluto-updown check");

    /// What repairs a difference between kernel and record.
    pub(super) fn for_drift(kind: &DriftKind) -> Self {
        match kind {
            DriftKind::OlderLayout => Self::START,
            DriftKind::NoUserJump(chain, None) => {
                Self::Advice(format!("add a jump to {chain} to your own rules (place = \"own\")"))
            }
            DriftKind::NoUserJump(chain, Some(holder)) if Table::Filter.is_built_in(holder) => Self::Advice(format!(
                "move your jump to {chain} before that rule of {holder}"
            )),
            DriftKind::NoUserJump(chain, Some(holder)) => Self::Advice(format!(
                "put your jump to {chain} into a chain that packets come to, or lead them to {}",
                one_line(holder)
            )),
            DriftKind::KeptChain(_, holder, _) => Self::Advice(format!(
                "delete that rule of {}, then: pluto-updown restore",
                one_line(holder)
            )),
            DriftKind::Nothing(_)
            | DriftKind::NoChain(_)
            | DriftKind::OrphanChain(_)
            | DriftKind::NoRule(..)
            | DriftKind::UnexpectedRule(..)
            | DriftKind::Order(_)
            | DriftKind::NoJump(_)
            | DriftKind::Jumps(..)
            | DriftKind::Misplaced(..) => Self::RESTORE,
        }
    }

    /// For people.
    pub(super) fn fix_text(&self) -> &str {
        match self {
            Self::Command(text) => text,
            Self::Advice(text) => text,
        }
    }
}
