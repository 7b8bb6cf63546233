//! The last check of a finished plan, before the kernel gets it.
//!
//! It knows nothing of how plans are made. What it finds is a mistake in this program, and a
//! firewall is not the place to try it out: the call fails instead.

use std::collections::BTreeSet;

use super::base_chains::{
    base_chain, base_chain_jump, decrypted_chain, interfaces_chain, mark_chain, onward_chain, unencrypted_chain,
};
use super::tunnel::PacketPath;
use crate::netfilter::{BuiltIn, Chain, ChainName, Direction, Match, RestoreCommand, Rule, Section, Table, Target};

/// An error in a plan.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanFault {
    /// A rule other than this program's jump is added to a chain of the administrator's.
    #[error("a rule other than our jump in {}: {rule}", chain.name())]
    InBuiltIn {
        /// The built-in chain.
        chain: BuiltIn,
        /// The rule.
        rule: Rule,
    },
    /// A rule that accepts is added to a chain that this plan does not fill from the start.
    #[error("an ACCEPT in {chain}, which is not new: {rule}")]
    AcceptInOldChain {
        /// The chain.
        chain: ChainName,
        /// The rule.
        rule: Rule,
    },
    /// A rule that changes a packet is added elsewhere than to a tunnel's own chain of the proper
    /// table, filled from the start.
    #[error("an address translation in {chain}: {rule}")]
    Translation {
        /// The chain.
        chain: ChainName,
        /// The rule.
        rule: Rule,
    },
    /// A rule sets or clears a bit of the mark in a chain other than those that handle the inbound
    /// tunnel's consent.
    #[error("a change of the packet mark in {chain}: {rule}")]
    Mark {
        /// The chain.
        chain: ChainName,
        /// The rule.
        rule: Rule,
    },
    /// A rule jumps from a tunnel's or a bucket's chain to a dispatcher.
    #[error("a jump from {chain} to all tunnels: {rule}")]
    NoTree {
        /// The chain.
        chain: ChainName,
        /// The rule.
        rule: Rule,
    },
    /// A rule jumps to a chain that accepts or translates, without matching a policy or an
    /// interface.
    #[error("a jump to {target} that matches neither an IPsec policy nor an interface: {rule}")]
    NoPolicyMatch {
        /// The tunnel's chain.
        target: ChainName,
        /// The rule.
        rule: Rule,
    },
}

/// The errors in these sections.
#[must_use]
pub fn plan_faults(sections: &[Section]) -> Vec<PlanFault> {
    sections.iter().flat_map(section_faults).collect()
}

fn section_faults(section: &Section) -> Vec<PlanFault> {
    let declared: BTreeSet<_> = section.commands.iter().filter_map(RestoreCommand::new_chain).collect();
    let puts = section.commands.iter().filter_map(added_rule);
    puts.filter_map(|(chain, rule)| rule_fault(section.table, &declared, &chain, rule))
        .collect()
}

fn rule_fault(table: Table, declared: &BTreeSet<&ChainName>, chain: &Chain, rule: &Rule) -> Option<PlanFault> {
    let is_tunnels = |chain: &ChainName| declared.contains(chain) && is_tunnel_chain(chain);
    match (chain, &rule.target) {
        (Chain::BuiltIn(chain), _) => (*rule != base_chain_jump(*chain)).then(|| PlanFault::InBuiltIn {
            chain: *chain,
            rule: rule.clone(),
        }),
        (Chain::Own(chain), Target::Accept) => {
            let may_be_old = table != Table::Filter || is_esp_peer(chain, rule);
            (!may_be_old && !declared.contains(chain)).then(|| PlanFault::AcceptInOldChain {
                chain: chain.clone(),
                rule: rule.clone(),
            })
        }
        (Chain::Own(chain), Target::Snat(_) | Target::Dnat(_)) => {
            (table != Table::Nat || !is_tunnels(chain)).then(|| PlanFault::Translation {
                chain: chain.clone(),
                rule: rule.clone(),
            })
        }
        (Chain::Own(chain), Target::Jump(target) | Target::Goto(target)) => {
            let is_open = is_tunnels(target) && !rule.matches.iter().any(|matched| is_sa_match(table, matched));
            is_open
                .then(|| PlanFault::NoPolicyMatch {
                    target: target.clone(),
                    rule: rule.clone(),
                })
                .or_else(|| no_tree(chain, rule, target))
        }
        (Chain::Own(chain), Target::SetMark(_)) => misplaced_mark(chain, rule, &[onward_chain(), mark_chain()]),
        (Chain::Own(chain), Target::ClearMark(_)) => {
            misplaced_mark(chain, rule, &[decrypted_chain(), interfaces_chain()])
        }
        (Chain::Own(chain), Target::SetMss(_) | Target::ClampMssToPmtu) => {
            (table != Table::Mangle || !is_tunnels(chain)).then(|| PlanFault::Translation {
                chain: chain.clone(),
                rule: rule.clone(),
            })
        }
        (Chain::Own(_), Target::Nflog(_) | Target::Log(_) | Target::Drop | Target::Return | Target::JumpUser(_)) => {
            None
        }
    }
}

fn misplaced_mark(chain: &ChainName, rule: &Rule, places: &[ChainName]) -> Option<PlanFault> {
    (!places.contains(chain)).then(|| PlanFault::Mark {
        chain: chain.clone(),
        rule: rule.clone(),
    })
}

/// Whether a rule leads to all tunnels from a chain that is not one of a fixed number.
fn no_tree(chain: &ChainName, rule: &Rule, target: &ChainName) -> Option<PlanFault> {
    let tunnels = Table::ALL.into_iter().flat_map(PacketPath::tunnel_paths);
    let mut dispatchers = tunnels.chain(&PacketPath::REFUSE).map(|path| path.dispatcher_name());
    let leads_to_all = *target == decrypted_chain() || dispatchers.any(|dispatcher| dispatcher == target.as_str());
    let mut base_chains = BuiltIn::ALL.into_iter().map(base_chain);
    // PLUTO-I jumps to PLUTO-RI, after all tunnels.
    let fixed = [decrypted_chain(), unencrypted_chain(), PacketPath::Input.dispatcher()];
    let is_fixed = fixed.contains(chain) || base_chains.any(|base_chain| base_chain == *chain);
    (leads_to_all && !is_fixed).then(|| PlanFault::NoTree {
        chain: chain.clone(),
        rule: rule.clone(),
    })
}

fn added_rule(command: &RestoreCommand) -> Option<(Chain, &Rule)> {
    match command {
        RestoreCommand::Insert(chain, rule) | RestoreCommand::Append(chain, rule) => Some((chain.clone(), rule)),
        RestoreCommand::AppendWithCounters(chain, rule, _) | RestoreCommand::InsertAt(chain, _, rule) => {
            Some((chain.into(), rule))
        }
        RestoreCommand::NewChain(_)
        | RestoreCommand::Check(..)
        | RestoreCommand::Delete(..)
        | RestoreCommand::DeleteText(..)
        | RestoreCommand::Flush(_)
        | RestoreCommand::DeleteChain(_) => None,
    }
}

/// Whether a chain is one tunnel's: by its name, because the plan does not say.
fn is_tunnel_chain(chain: &ChainName) -> bool {
    // The chains of blocked pairs are for packets outside tunnels, and accept none.
    let is_block = |path: &PacketPath| [PacketPath::BlockIn, PacketPath::BlockOut].contains(path);
    let paths = PacketPath::ALL.into_iter().filter(|path| !is_block(path));
    let mut tags = paths.map(PacketPath::tag).chain(["C", "H"]);
    let is_dispatcher = PacketPath::ALL
        .into_iter()
        .any(|path| path.dispatcher_name() == chain.as_str());
    !is_dispatcher
        && chain
            .as_str()
            .rsplit_once('-')
            .is_some_and(|(_, tag)| tags.any(|known| known == tag))
}

/// Whether a rule accepts the ESP of one peer: only ESP and AH reach its chain.
fn is_esp_peer(chain: &ChainName, rule: &Rule) -> bool {
    let of_peers = chain
        .as_str()
        .strip_prefix(PacketPath::EspPeer.dispatcher_name())
        .is_some_and(|rest| rest.starts_with('-'));
    of_peers && matches!(rule.matches[..], [Match::Source(_)])
}

/// Whether a match is on a policy or an interface. Before source NAT a packet has neither: in the
/// nat table, which accepts nothing, a match on unencrypted packets is enough.
fn is_sa_match(table: Table, matched: &Match) -> bool {
    match matched {
        Match::Policy(_) | Match::In(_) | Match::Out(_) => true,
        Match::PolicyNone(Direction::Out) => table == Table::Nat,
        Match::PolicyNone(Direction::In)
        | Match::Source(_)
        | Match::Destination(_)
        | Match::NotSource(_)
        | Match::NotDestination(_)
        | Match::Traffic(..)
        | Match::CtState(_)
        | Match::CtReplDst(_)
        | Match::CtOrig(..)
        | Match::SrcNotLocal
        | Match::Mark(_)
        | Match::NotMark(_)
        | Match::Syn
        | Match::Limit
        | Match::Comment(_) => false,
    }
}
