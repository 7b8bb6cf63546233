//! Splits a change that creates very many chains into several commits.

use std::collections::{BTreeMap, BTreeSet};

use crate::netfilter::{Chain, ChainName, RestoreCommand, Rule, STAGE_CHAINS, Section, called_first};

/// Splits sections so that new chains are made and filled first, [`STAGE_CHAINS`] at a time, each
/// after its jump targets. No packet reaches them before the last commit, which alone adds the
/// jumps to them. So the change still takes effect at once or not at all.
///
/// Where the chains exist, or are few, everything stays in one commit.
#[must_use]
pub(crate) fn in_stages(sections: Vec<Section>, exists: impl Fn(&Section, &ChainName) -> bool) -> Vec<Section> {
    let staged = sections.into_iter().map(|section| {
        let declared = section.commands.iter().filter_map(RestoreCommand::new_chain);
        let fresh: BTreeSet<_> = declared.filter(|chain| !exists(&section, chain)).cloned().collect();
        match fresh.len() > STAGE_CHAINS {
            true => split_stages(section, &fresh),
            false => vec![section],
        }
    });
    staged.flatten().collect()
}

fn split_stages(section: Section, fresh: &BTreeSet<ChainName>) -> Vec<Section> {
    let table = section.table;
    let mut filling: BTreeMap<&ChainName, Vec<RestoreCommand>> = BTreeMap::new();
    let mut last = Vec::new();
    for command in section.commands {
        match filled_chain(&command).and_then(|chain| fresh.get(chain)) {
            Some(chain) => filling.entry(chain).or_default().push(command),
            None => last.push(command),
        }
    }
    let targets = |chain: &ChainName| {
        let targets = filling.get(chain).into_iter().flatten().filter_map(jump_target);
        let known = targets.filter_map(|target| filling.get_key_value(target));
        known.map(|(target, _)| *target).collect::<Vec<_>>()
    };
    let mut sections: Vec<_> = called_first(filling.keys().copied(), targets)
        .chunks(STAGE_CHAINS)
        .map(|chains| Section {
            table,
            commands: fill_stage(chains, &mut filling),
        })
        .collect();
    sections.push(Section { table, commands: last });
    sections.retain(|section| !section.commands.is_empty());
    sections
}

/// Creates all of these chains before it fills the first.
fn fill_stage<'a>(
    chains: &[&'a ChainName],
    filling: &mut BTreeMap<&'a ChainName, Vec<RestoreCommand>>,
) -> Vec<RestoreCommand> {
    let (mut made, mut rules) = (Vec::new(), Vec::new());
    for command in chains.iter().filter_map(|chain| filling.remove(chain)).flatten() {
        match command.new_chain() {
            Some(_) => made.push(command),
            None => rules.push(command),
        }
    }
    made.append(&mut rules);
    made
}

/// The chain that a command makes, or adds a rule to.
fn filled_chain(command: &RestoreCommand) -> Option<&ChainName> {
    match command {
        RestoreCommand::NewChain(chain)
        | RestoreCommand::AppendWithCounters(chain, ..)
        | RestoreCommand::InsertAt(chain, ..) => Some(chain),
        RestoreCommand::Insert(chain, _) | RestoreCommand::Append(chain, _) => match chain {
            Chain::Own(chain) => Some(chain),
            Chain::BuiltIn(_) => None,
        },
        RestoreCommand::Check(..)
        | RestoreCommand::Delete(..)
        | RestoreCommand::DeleteText(..)
        | RestoreCommand::Flush(_)
        | RestoreCommand::DeleteChain(_) => None,
    }
}

/// The chain that a command's rule leads to.
fn jump_target(command: &RestoreCommand) -> Option<&ChainName> {
    let rule: &Rule = match command {
        RestoreCommand::Insert(_, rule)
        | RestoreCommand::InsertAt(_, _, rule)
        | RestoreCommand::Append(_, rule)
        | RestoreCommand::AppendWithCounters(_, rule, _) => rule,
        RestoreCommand::NewChain(_)
        | RestoreCommand::Check(..)
        | RestoreCommand::Delete(..)
        | RestoreCommand::DeleteText(..)
        | RestoreCommand::Flush(_)
        | RestoreCommand::DeleteChain(_) => return None,
    };
    rule.target.own_chain()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netfilter::{BuiltIn, Table, Target};

    fn name(text: &str) -> ChainName {
        text.parse().unwrap()
    }

    fn tunnel(number: usize) -> ChainName {
        name(&format!("PLUTO-tunnel-{number}-FI"))
    }

    fn append_rule(chain: impl Into<Chain>, target: Target) -> RestoreCommand {
        RestoreCommand::Append(chain.into(), Rule::always(target))
    }

    /// `count` tunnels in one bucket, which sorts before them; the chain that sorts last jumps to
    /// the bucket.
    fn tunnels(count: usize) -> Section {
        let (bucket, last) = (name("PLUTO-FI-10.0.0.0-8"), name("PLUTO-zone-FI"));
        let numbers = || 0..count;
        let mut commands = vec![
            RestoreCommand::NewChain(bucket.clone()),
            RestoreCommand::NewChain(last.clone()),
        ];
        commands.extend(numbers().map(|number| RestoreCommand::NewChain(tunnel(number))));
        commands.extend(numbers().map(|number| append_rule(&bucket, Target::Jump(tunnel(number)))));
        commands.extend(numbers().map(|number| append_rule(&tunnel(number), Target::Drop)));
        commands.extend(numbers().map(|number| append_rule(&tunnel(number), Target::Accept)));
        commands.push(append_rule(&last, Target::Goto(bucket)));
        commands.push(append_rule(BuiltIn::Forward, Target::Jump(last)));
        let table = Table::Filter;
        Section { table, commands }
    }

    fn staged(count: usize) -> Vec<Section> {
        in_stages(vec![tunnels(count)], |_, _| false)
    }

    #[test]
    fn few_chains_are_made_in_one_commit() {
        assert_eq!(staged(STAGE_CHAINS - 2), [tunnels(STAGE_CHAINS - 2)]);
    }

    #[test]
    fn many_chains_are_made_in_commits_of_so_many_at_most_and_nothing_is_lost() {
        let sections = staged(3 * STAGE_CHAINS);
        assert_eq!(sections.len(), 5);
        let made = |section: &Section| section.commands.iter().filter_map(RestoreCommand::new_chain).count();
        assert!(sections.iter().all(|section| made(section) <= STAGE_CHAINS));
        let key = |command: &RestoreCommand| format!("{command:?}");
        let mut staged: Vec<_> = sections.iter().flat_map(|section| &section.commands).map(key).collect();
        let mut whole: Vec<_> = tunnels(3 * STAGE_CHAINS).commands.iter().map(key).collect();
        staged.sort();
        whole.sort();
        assert_eq!(staged, whole);
    }

    #[test]
    fn each_chain_is_made_before_it_is_filled_and_before_a_rule_leads_to_it() {
        let mut made = BTreeSet::new();
        for command in staged(3 * STAGE_CHAINS).iter().flat_map(|section| &section.commands) {
            match command.new_chain() {
                Some(chain) => assert!(made.insert(chain.clone()), "{chain} is made twice"),
                None => {
                    let named = [filled_chain(command), jump_target(command)];
                    assert!(
                        named.into_iter().flatten().all(|chain| made.contains(chain)),
                        "{command:?}"
                    );
                }
            }
        }
    }

    #[test]
    fn each_chain_keeps_the_order_of_its_rules() {
        let rules = |sections: &[Section], chain: &ChainName| -> Vec<_> {
            let commands = sections.iter().flat_map(|section| section.commands.clone());
            commands
                .filter(|command| filled_chain(command) == Some(chain))
                .collect()
        };
        let whole = [tunnels(2 * STAGE_CHAINS)];
        for chain in [tunnel(7), name("PLUTO-FI-10.0.0.0-8")] {
            assert_eq!(rules(&staged(2 * STAGE_CHAINS), &chain), rules(&whole, &chain));
        }
    }

    #[test]
    fn only_the_last_commit_changes_installed_rules() {
        let sections = staged(2 * STAGE_CHAINS);
        let (last, before) = sections.split_last().unwrap();
        assert_eq!(
            last.commands,
            [append_rule(BuiltIn::Forward, Target::Jump(name("PLUTO-zone-FI")))]
        );
        let commands = || before.iter().flat_map(|section| &section.commands);
        assert!(commands().all(|command| filled_chain(command).is_some()));

        let bucket = name("PLUTO-FI-10.0.0.0-8");
        let sections = in_stages(vec![tunnels(2 * STAGE_CHAINS)], |_, chain| *chain == bucket);
        let (last, before) = sections.split_last().unwrap();
        let fills = |section: &Section| {
            section
                .commands
                .iter()
                .any(|command| filled_chain(command) == Some(&bucket))
        };
        assert!(fills(last));
        assert!(!before.iter().any(fills));
    }
}
