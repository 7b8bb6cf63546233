//! A whole listing by `iptables-save -c`: every chain and rule with its counters.
//!
//! Rules stay text here. iptables rewrites what it is given, so a parsed rule would be a guess. But
//! iptables accepts its own listing again.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use super::{BuiltIn, ChainName, Table, rule_words};

/// The counters of a rule.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Packets.
    pub packets: u64,
    /// Bytes of these packets.
    pub bytes: u64,
}

impl std::ops::Add for Counters {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            packets: self.packets.saturating_add(other.packets),
            bytes: self.bytes.saturating_add(other.bytes),
        }
    }
}

/// A rule as listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SavedRule {
    /// The counters; zero where the listing has none.
    pub counters: Counters,
    /// The text after `-A CHAIN `.
    pub text: String,
}

impl SavedRule {
    /// Its words; a quoted text is one of them.
    pub fn words(&self) -> impl Iterator<Item = Cow<'_, str>> {
        rule_words(&self.text)
    }

    /// The chain or target of `-j` or `-g`.
    #[must_use]
    pub(crate) fn jump_target(&self) -> Option<Cow<'_, str>> {
        let mut words = rule_words(&self.text);
        while let Some(word) = words.next() {
            match &*word {
                // The only options whose value is free text and lacks quotes where it needs none.
                "--comment" | "--nflog-prefix" | "--log-prefix" => drop(words.next()),
                "-j" | "-g" => return words.next(),
                _ => {}
            }
        }
        None
    }

    /// Whether no packet reaches the rules after it in its chain.
    fn ends_chain(&self) -> bool {
        let mut words = self.text.split(' ');
        match (words.next(), words.next()) {
            (Some("-j"), Some(target)) => ["ACCEPT", "DROP", "REJECT", "RETURN"].contains(&target),
            (Some("-g"), Some(_)) => true,
            (_, _) => false,
        }
    }

    /// Whether the rule is a jump to this chain without any match: the one form that iptables lists
    /// exactly as given.
    #[must_use]
    pub(crate) fn is_plain_jump(&self, to: &ChainName) -> bool {
        self.text.strip_prefix("-j ") == Some(to.as_str())
    }
}

/// One table of a listing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SavedTable {
    chains: BTreeMap<String, Vec<SavedRule>>,
    /// The policy at the end of a built-in chain, ACCEPT or DROP.
    policies: BTreeMap<String, String>,
}

impl SavedTable {
    /// Parses the output of `iptables-save -t TABLE`. A table that the kernel has not created yet
    /// is not listed: it is empty.
    #[must_use]
    pub fn parse(text: &str, table: Table) -> Self {
        IptablesSave::parse(text).tables.remove(&table).unwrap_or_default()
    }

    /// All chains by name: built-in, the administrator's and this program's.
    pub fn chains(&self) -> impl Iterator<Item = (&str, &[SavedRule])> {
        self.chains.iter().map(|(name, rules)| (&**name, &**rules))
    }

    /// The rules of a chain; none if there is no such chain.
    #[must_use]
    pub fn rules(&self, chain: &str) -> &[SavedRule] {
        self.chains.get(chain).map_or(&[], |rules| rules)
    }

    /// The policy of a built-in chain: `ACCEPT` or `DROP`. None for a chain of users.
    #[must_use]
    pub fn policy(&self, built_in: &str) -> Option<&str> {
        self.policies.get(built_in).map(String::as_str)
    }

    /// Whether the table has this chain.
    #[must_use]
    pub fn has_chain(&self, chain: &str) -> bool {
        self.chains.contains_key(chain)
    }

    /// The chains of this program.
    pub(crate) fn own_chains(&self) -> impl Iterator<Item = ChainName> {
        self.chains.keys().filter_map(|name| name.parse().ok())
    }

    /// The number of plain jumps from a built-in chain to this chain.
    #[must_use]
    pub(crate) fn plain_jumps(&self, from: BuiltIn, to: &ChainName) -> usize {
        let rules = self.rules(from.name()).iter();
        rules.filter(|rule| rule.is_plain_jump(to)).count()
    }

    /// Whether a rule of any chain jumps to this chain.
    #[must_use]
    pub(crate) fn has_jump_to(&self, chain: &ChainName) -> bool {
        let mut rules = self.chains.values().flatten();
        rules.any(|rule| rule.jump_target().is_some_and(|target| target == chain.as_str()))
    }

    /// Whether packets can come from a built-in chain to this chain of this program, through the
    /// administrator's chains: by a rule that is not behind one that ends the chain for every
    /// packet.
    #[must_use]
    pub fn leads_to(&self, from: BuiltIn, to: &ChainName) -> bool {
        let (mut reached, mut ahead) = (BTreeSet::new(), vec![from.name().to_owned()]);
        while let Some(chain) = ahead.pop() {
            if chain == to.as_str() {
                return true;
            }
            let is_ours = chain.parse::<ChainName>().is_ok();
            if !is_ours && !reached.contains(&chain) {
                let rules = self.rules(&chain).iter();
                let ends = rules.clone().position(SavedRule::ends_chain);
                let met = rules.take(ends.map_or(usize::MAX, |at| at + 1));
                ahead.extend(met.filter_map(|rule| Some(rule.jump_target()?.into_owned())));
                reached.insert(chain);
            }
        }
        false
    }

    /// Rules of other programs' chains that jump to a chain of this program: the chain, the rule,
    /// and the target.
    pub(crate) fn jumps_to_own_chains(&self) -> impl Iterator<Item = (&str, &SavedRule, ChainName)> {
        let foreign_chains = self.chains().filter(|(name, _)| name.parse::<ChainName>().is_err());
        foreign_chains.flat_map(|(name, rules)| {
            let leads = |rule| Some((rule, SavedRule::jump_target(rule)?.parse().ok()?));
            rules
                .iter()
                .filter_map(leads)
                .map(move |(rule, target): (&SavedRule, _)| (name, rule, target))
        })
    }
}

/// The tables of one ruleset that may hold chains of this program.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IptablesSave {
    tables: BTreeMap<Table, SavedTable>,
}

impl IptablesSave {
    /// Parses the output of `iptables-save -c`. Other tables are skipped.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let mut saved = Self::default();
        let mut current = None;
        for line in text.lines() {
            if let Some(name) = line.strip_prefix('*') {
                current = Table::ALL.into_iter().find(|table| table.name() == name);
            }
            let Some(table) = current.map(|table| saved.tables.entry(table).or_default()) else {
                continue;
            };
            if let Some(declared) = line.strip_prefix(':') {
                let mut words = declared.split(' ');
                let name = words.next().unwrap_or_default();
                table.chains.entry(name.to_owned()).or_default();
                if let Some(policy) = words.next().filter(|policy| *policy != "-") {
                    table.policies.insert(name.to_owned(), policy.to_owned());
                }
            } else if let Some((chain, rule)) = parse_rule(line) {
                table.chains.entry(chain.to_owned()).or_default().push(rule);
            }
        }
        saved
    }

    /// The listed tables.
    pub fn tables(&self) -> impl Iterator<Item = (Table, &SavedTable)> {
        self.tables.iter().map(|(table, saved)| (*table, saved))
    }

    /// One table, if listed.
    #[must_use]
    pub fn table(&self, table: Table) -> Option<&SavedTable> {
        self.tables.get(&table)
    }

    /// Whether any table has a chain of this program.
    #[must_use]
    pub(crate) fn has_own_chains(&self) -> bool {
        self.tables.values().any(|table| table.own_chains().next().is_some())
    }
}

/// `[1:60] -A CHAIN REST`, or without the counters.
fn parse_rule(line: &str) -> Option<(&str, SavedRule)> {
    let (counters, rest) = match line.strip_prefix('[') {
        Some(counted) => {
            let (counters, rest) = counted.split_once("] ")?;
            let (packets, bytes) = counters.split_once(':')?;
            let counters = Counters {
                packets: packets.parse().ok()?,
                bytes: bytes.parse().ok()?,
            };
            (counters, rest)
        }
        None => (Counters::default(), line),
    };
    let rule = rest.strip_prefix("-A ")?.trim_end();
    let (chain, text) = rule.split_once(' ').unwrap_or((rule, ""));
    let text = text.to_owned();
    Some((chain, SavedRule { counters, text }))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAVE: &str = r#"# Generated by iptables-save v1.8.9
*raw
:PREROUTING ACCEPT [0:0]
:PLUTO-RAW - [0:0]
COMMIT
*filter
:INPUT DROP [3:180]
:PLUTO-INPUT - [0:0]
:PLUTOCRATS - [0:0]
[1:60] -A INPUT -j PLUTO-INPUT
[0:0] -A INPUT -m comment --comment "a \"-j PLUTO-INPUT\" b" -j ACCEPT
[0:0] -A INPUT -m comment --comment -j -g PLUTO-INPUT
[0:0] -A INPUT -j PLUTOCRATS
[0:0] -A INPUT
[7:8] -A PLUTO-INPUT -m policy --dir in --pol ipsec -j PLUTO-I
COMMIT
"#;

    #[test]
    fn chains_rules_and_counters_are_read() {
        let saved = IptablesSave::parse(SAVE);
        let filter = saved.table(Table::Filter).unwrap();
        assert_eq!(saved.tables().count(), 1);
        assert_eq!(
            filter.own_chains().map(String::from).collect::<Vec<_>>(),
            ["PLUTO-INPUT"]
        );
        let [rule] = filter.rules("PLUTO-INPUT") else {
            panic!("one rule")
        };
        assert_eq!(rule.text, "-m policy --dir in --pol ipsec -j PLUTO-I");
        assert_eq!(rule.counters, Counters { packets: 7, bytes: 8 });
        assert_eq!(filter.rules("INPUT").len(), 5);
        assert_eq!(filter.policy("INPUT"), Some("DROP"));
        assert_eq!((filter.policy("PLUTO-INPUT"), filter.policy("FORWARD")), (None, None));
    }

    #[test]
    fn a_way_in_is_a_target_and_no_word_of_a_comment() {
        let saved = IptablesSave::parse(SAVE);
        let chains: Vec<_> = saved
            .table(Table::Filter)
            .unwrap()
            .jumps_to_own_chains()
            .map(|(_, rule, target)| (rule.text.clone(), target.to_string()))
            .collect();
        let target = "PLUTO-INPUT".to_owned();
        assert_eq!(
            chains,
            [
                ("-j PLUTO-INPUT".to_owned(), target.clone()),
                ("-m comment --comment -j -g PLUTO-INPUT".to_owned(), target)
            ]
        );
    }

    fn filter(rules: &str) -> SavedTable {
        SavedTable::parse(&format!("*filter\n{rules}\nCOMMIT\n"), Table::Filter)
    }

    #[test]
    fn only_a_jump_without_matches_is_the_one_that_this_program_installs() {
        let chain = "PLUTO-INPUT".parse().unwrap();
        let table = filter(
            "-A INPUT -j PLUTO-INPUT\n[5:300] -A INPUT -j PLUTO-INPUT\n-A INPUT -i lo -j PLUTO-INPUT\n\
             -A FORWARD -j PLUTO-INPUTS\n-A OUTPUT -g PLUTO-INPUT",
        );
        assert_eq!(table.plain_jumps(BuiltIn::Input, &chain), 2);
        assert_eq!(table.plain_jumps(BuiltIn::Forward, &chain), 0);
        assert_eq!(table.plain_jumps(BuiltIn::Output, &chain), 0);
    }

    #[test]
    fn a_rule_of_any_form_and_any_chain_that_leads_to_a_chain_is_a_jump_to_it() {
        let chain = "PLUTO-X".parse().unwrap();
        for line in [
            "-A INPUT -j PLUTO-X",
            "[1:60] -A MINE -s 10.0.0.0/8 -g PLUTO-X",
            "-A PLUTO-Y -p tcp -j PLUTO-X",
        ] {
            assert!(filter(line).has_jump_to(&chain), "{line}");
        }
        for line in [
            ":PLUTO-X - [0:0]",
            "-A PLUTO-X -j ACCEPT",
            "-A INPUT -j PLUTO-XY",
            "-A INPUT -m comment --comment \"-j PLUTO-X\" -j ACCEPT",
        ] {
            assert!(!filter(line).has_jump_to(&chain), "{line}");
        }
    }

    #[test]
    fn a_chain_is_led_to_by_chains_that_the_built_in_one_leads_to() {
        let chain = "PLUTO-X".parse().unwrap();
        for (lines, leads) in [
            ("-A INPUT -i eth0 -j PLUTO-X", true),
            ("-A INPUT -j A\n-A A -p tcp -g B\n-A B -j PLUTO-X", true),
            ("-A A -j PLUTO-X", false),
            ("-A FORWARD -j A\n-A A -j PLUTO-X", false),
            ("-A A -j B\n-A B -j A\n-A B -j PLUTO-X", false),
            ("-A INPUT -j A\n-A A -j B\n-A B -j A", false),
            ("-A INPUT -j PLUTO-Y\n-A PLUTO-Y -j PLUTO-X", false),
            ("-A INPUT -j ACCEPT\n-A INPUT -j PLUTO-X", false),
            (
                "-A INPUT -j REJECT --reject-with icmp-port-unreachable\n-A INPUT -j PLUTO-X",
                false,
            ),
            ("-A INPUT -i lo -j ACCEPT\n-A INPUT -j LOG\n-A INPUT -j PLUTO-X", true),
            ("-A INPUT -j A\n-A INPUT -j PLUTO-X\n-A A -j RETURN", true),
            ("-A INPUT -g A\n-A INPUT -j PLUTO-X\n-A A -j B", false),
        ] {
            assert_eq!(filter(lines).leads_to(BuiltIn::Input, &chain), leads, "{lines}");
        }
    }

    #[test]
    fn a_table_that_is_not_listed_is_empty() {
        assert_eq!(SavedTable::parse("", Table::Nat), SavedTable::default());
        assert_eq!(SavedTable::parse(SAVE, Table::Nat), SavedTable::default());
        assert!(SavedTable::parse(SAVE, Table::Filter).has_chain("PLUTO-INPUT"));
    }
}
