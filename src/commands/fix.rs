//! What repairs a problem, in the words of every command that shows one.

use crate::firewall::{DriftKind, DriftRemedy};
use crate::netfilter::Table;
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
        match kind.remedy() {
            DriftRemedy::Restore => Self::RESTORE,
            DriftRemedy::Rewrite => Self::START,
            DriftRemedy::UserJump(chain, None) => {
                Self::Advice(format!("add a jump to {chain} to your own rules (place = \"own\")"))
            }
            DriftRemedy::UserJump(chain, Some(holder)) if Table::Filter.is_built_in(holder) => {
                Self::Advice(format!("move your jump to {chain} before that rule of {holder}"))
            }
            DriftRemedy::UserJump(chain, Some(holder)) => Self::Advice(format!(
                "put your jump to {chain} into a chain that packets come to, or lead them to {}",
                one_line(holder)
            )),
            DriftRemedy::UserRule(holder) => Self::Advice(format!(
                "delete that rule of {}, then: pluto-updown restore",
                one_line(holder)
            )),
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
