//! The last look at a finished plan, before the kernel gets it.
//!
//! It knows nothing of how plans are made. What it finds is a mistake in this program, and a firewall is not the place to try
//! it out: the call fails instead.

use std::collections::BTreeSet;

use super::path::Path;
use super::tree::entrance_jump;
use crate::netfilter::{BuiltIn, Chain, ChainName, Command, Match, Placed, Rule, Section, Table, Verdict};

/// What is wrong with a plan.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// Something other than our jump is put into a chain of the administrator's.
    #[error("a rule other than our jump in {}: {rule}", chain.name())]
    InBuiltIn {
        /// The built-in chain.
        chain: BuiltIn,
        /// The rule.
        rule: Rule,
    },
    /// A rule that accepts stands in a chain that this plan does not fill from the start.
    #[error("an ACCEPT in {chain}, which is not new: {rule}")]
    AcceptInOldChain {
        /// The chain.
        chain: ChainName,
        /// The rule.
        rule: Rule,
    },
    /// A rule that changes an address stands elsewhere than in a tunnel's own chain of the nat table, filled from the start.
    #[error("a translation in {chain}: {rule}")]
    Translation {
        /// The chain.
        chain: ChainName,
        /// The rule.
        rule: Rule,
    },
    /// A rule leads to what a tunnel allows or changes without asking for its policy or its device.
    #[error("a way into {target} that asks for neither a policy nor a device: {rule}")]
    Unguarded {
        /// The tunnel's chain.
        target: ChainName,
        /// The rule.
        rule: Rule,
    },
}

/// Everything that is wrong with these sections.
#[must_use]
pub fn faults(sections: &[Section]) -> Vec<Fault> {
    sections.iter().flat_map(faults_in).collect()
}

fn faults_in(section: &Section) -> Vec<Fault> {
    let declared: BTreeSet<_> = section.commands.iter().filter_map(declared).collect();
    let puts = section.commands.iter().filter_map(put);
    puts.filter_map(|placed| fault(section.table, &declared, placed))
        .collect()
}

fn fault(table: Table, declared: &BTreeSet<&ChainName>, Placed { chain, place: _, rule }: &Placed) -> Option<Fault> {
    let is_tunnels = |chain: &ChainName| declared.contains(chain) && is_tunnel_chain(chain);
    match (chain, &rule.verdict) {
        (Chain::BuiltIn(chain), _) => (*rule != entrance_jump(*chain)).then(|| Fault::InBuiltIn {
            chain: *chain,
            rule: rule.clone(),
        }),
        (Chain::Own(chain), Verdict::Accept) => (!declared.contains(chain)).then(|| Fault::AcceptInOldChain {
            chain: chain.clone(),
            rule: rule.clone(),
        }),
        (Chain::Own(chain), Verdict::Snat(_) | Verdict::Dnat(_)) => {
            (table != Table::Nat || !is_tunnels(chain)).then(|| Fault::Translation {
                chain: chain.clone(),
                rule: rule.clone(),
            })
        }
        (Chain::Own(_), Verdict::Jump(target) | Verdict::Goto(target)) => {
            let is_open = is_tunnels(target) && !rule.matches.iter().any(is_guard);
            is_open.then(|| Fault::Unguarded {
                target: target.clone(),
                rule: rule.clone(),
            })
        }
        (Chain::Own(_), Verdict::Log(_)) => None,
    }
}

fn declared(command: &Command) -> Option<&ChainName> {
    match command {
        Command::Declare(chain) => Some(chain),
        Command::Check(..) | Command::Put(_) | Command::Delete(..) | Command::Flush(_) | Command::Remove(_) => None,
    }
}

fn put(command: &Command) -> Option<&Placed> {
    match command {
        Command::Put(placed) => Some(placed),
        Command::Declare(_) | Command::Check(..) | Command::Delete(..) | Command::Flush(_) | Command::Remove(_) => None,
    }
}

/// Whether a chain is one tunnel's: by its name, since the plan says no more.
fn is_tunnel_chain(chain: &ChainName) -> bool {
    let tags = Path::ALL.map(Path::tag).into_iter().chain(["C"]);
    let is_dispatcher = Path::ALL.into_iter().any(|path| path.dispatcher() == *chain);
    !is_dispatcher
        && chain
            .as_str()
            .rsplit_once('-')
            .is_some_and(|(_, tag)| tags.into_iter().any(|known| known == tag))
}

fn is_guard(matched: &Match) -> bool {
    match matched {
        Match::Policy(_) | Match::In(_) | Match::Out(_) => true,
        Match::Source(_) | Match::Destination(_) | Match::Traffic(..) | Match::Comment(_) => false,
    }
}
