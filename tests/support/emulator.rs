//! Stands in for `iptables-restore --noflush`: the tables `filter`, `nat` and `mangle` of one family.
//!
//! A test hands it the text that would go to the command and then looks at the
//! chains, or sends packets through them (see [`super::packet`]). A section of a text
//! that the command would refuse is refused here, as a whole, with the number of its
//! line; the sections before it stand then, as they do with the command, and those
//! behind it are not read.
//!
//! There are two backends of the command, nft and legacy, and a gateway may have
//! either. What one of them refuses is refused here:
//!
//! - legacy: a `COMMIT` without its newline, a policy for a user chain,
//!   `--dir out` in a chain that INPUT reaches (`--dir in`, OUTPUT), a change of
//!   the MSS in a rule that does not ask for a SYN, `--clamp-mss-to-pmtu` in a
//!   user chain that INPUT or PREROUTING reaches, and a limit with an overflow;
//! - nft: a way of more than 15 user chains, a chain name that begins with `-`
//!   or `!`, and the contrary of every address.
//!
//! On purpose it is stricter than both: it knows only the options the project
//! writes, in the spelling and in the order in which they are printed, right behind
//! their match or target, wants `-p` before the match that needs it, a table once in a text, the MSS changed in `mangle`, and no loop
//! even where no packet can come. `tests/privileged/strictness.rs` holds that against both.
//! It keeps a rule in the spelling it got (blanks and the quotes of a comment apart),
//! where iptables prints `-s 10.0.0.1` as `-s 10.0.0.1/32` and so on.

#![allow(
    dead_code,
    unused_imports,
    unreachable_pub,
    reason = "each test binary uses its part of this module"
)]

pub use super::rule::{Mss, ParsedRule, Target};

use super::pattern::{Direction, Family};
use super::rule::{render, words};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

/// Names a user chain may not have.
const TARGETS: [&str; 12] = [
    "ACCEPT",
    "DROP",
    "RETURN",
    "REJECT",
    "LOG",
    "QUEUE",
    "NFLOG",
    "SNAT",
    "DNAT",
    "MARK",
    "MASQUERADE",
    "TCPMSS",
];
/// The longest name of a chain, in bytes.
const LONGEST_NAME: usize = 28;
/// nft follows a packet through so many user chains, jumps and gotos alike.
const DEEPEST: usize = 15;

/// The tables, and the command that changes them.
#[derive(Clone, Debug)]
pub struct Emulator {
    filter: Table,
    nat: Table,
    mangle: Table,
    failure: Option<(Option<Kind>, String)>,
    refused: Vec<(Kind, String)>,
    /// The tables that the kernel does not have.
    pub lacks: BTreeSet<Kind>,
    /// The command dies when it has committed its first table.
    pub dies_halfway: bool,
    /// How often [`Emulator::restore`] was called, failures included.
    pub restores: usize,
}

impl Default for Emulator {
    fn default() -> Self {
        Self {
            filter: Table::new(Kind::Filter),
            nat: Table::new(Kind::Nat),
            mangle: Table::new(Kind::Mangle),
            failure: None,
            refused: Vec::new(),
            lacks: BTreeSet::new(),
            dies_halfway: false,
            restores: 0,
        }
    }
}

impl Emulator {
    pub fn new() -> Self {
        Self::default()
    }

    /// Those of `iptables` or of `ip6tables`, which do not wait for an address to know what they are.
    pub fn for_family(family: Family) -> Self {
        let mut tables = Self::new();
        for kind in Kind::ALL {
            tables.table_mut(kind).family = Some(family);
        }
        tables
    }

    /// A filter table whose built-in chain `chain` ends with `policy`, ACCEPT or DROP.
    pub fn with_policy(mut self, chain: &str, policy: &str) -> Self {
        let declared = self.filter.declare(&format!("{chain} {policy} [0:0]"));
        assert_eq!(declared, Ok(()), "setting a policy");
        self
    }

    /// `iptables-restore --noflush`: table by table all of the text, up to the reason why not.
    pub fn restore(&mut self, text: &str) -> Result<(), String> {
        self.restores += 1;
        let dies_halfway = std::mem::take(&mut self.dies_halfway);
        let failure = self.failure.take();
        if let Some((None, message)) = failure {
            return Err(message);
        }
        for section in sections(text)? {
            match &failure {
                Some((Some(kind), message)) if *kind == section.kind => return Err(message.clone()),
                Some(_) | None => {}
            }
            self.section(&section)?;
            if dies_halfway {
                return Err("killed".to_owned());
            }
        }
        Ok(())
    }

    fn section(&mut self, section: &Section<'_>) -> Result<(), String> {
        if self.lacks.contains(&section.kind) {
            let name = section.kind.name();
            return Err(format!(
                "line {}: can't initialize iptables table `{name}'",
                section.first
            ));
        }
        let holds = |words: &String| section.lines.iter().any(|line| line.contains(words.as_str()));
        let mut refused = self.refused.iter();
        if let Some((_, words)) = refused.find(|(kind, words)| *kind == section.kind && holds(words)) {
            return Err(format!("line {}: {words}: refused", section.first));
        }
        let table = self.table_mut(section.kind);
        let mut copy = table.clone();
        copy.apply(section)?;
        *table = copy;
        Ok(())
    }

    /// `iptables-restore`: the text takes the place of all chains and rules of its tables.
    pub fn replace(&mut self, text: &str) -> Result<(), String> {
        let mut copy = self.clone();
        for section in sections(text)? {
            copy.table_mut(section.kind).flush_all();
        }
        copy.restore(text)?;
        *self = copy;
        Ok(())
    }

    /// `iptables-save -t filter`. It can be restored and replaced from.
    pub fn save(&self) -> String {
        self.filter.save()
    }

    /// `iptables-save`: all tables.
    pub fn save_all(&self) -> String {
        Kind::ALL.map(|kind| self.table(kind).save()).concat()
    }

    /// Its lines, sorted: without the order in which tunnels came.
    pub fn sorted_lines(&self) -> Vec<String> {
        let mut lines: Vec<_> = self.save_all().lines().map(str::to_owned).collect();
        lines.sort();
        lines
    }

    /// Every chain of every table with its rules in their order.
    pub fn ordered(&self) -> Contents {
        let of_table = |kind: Kind| {
            let chains = self.table(kind).chains.iter();
            chains.map(move |chain| (format!("{} {}", kind.name(), chain.name), chain.texts.clone()))
        };
        Kind::ALL.into_iter().flat_map(of_table).collect()
    }

    /// The same, but the rules of our chains sorted: in which order the tunnels came is not looked at.
    pub fn contents(&self) -> Contents {
        let mut contents = self.ordered();
        let ours = contents.iter_mut().filter(|(chain, _)| chain.contains(" PLUTO-"));
        ours.for_each(|(_, rules)| rules.sort());
        contents
    }

    /// `iptables -F`: the rules of all chains of the filter table go, the chains stay.
    pub fn flush(&mut self) {
        self.filter.flush();
    }

    /// A reload of a firewall: all rules and user chains of the filter table go, the policies stay.
    pub fn flush_all(&mut self) {
        self.filter.flush_all();
    }

    /// The next restore fails with this message and changes nothing.
    pub fn fail_next(&mut self, message: &str) {
        self.failure = Some((None, message.to_owned()));
    }

    /// The next restore fails with this message when it comes to a table, if it does.
    pub fn fail_next_in(&mut self, kind: Kind, message: &str) {
        self.failure = Some((Some(kind), message.to_owned()));
    }

    /// From now on every section of a table fails that has this in one of its lines.
    pub fn refuse(&mut self, kind: Kind, words: &str) {
        self.refused.push((kind, words.to_owned()));
    }

    /// What was refused is taken again.
    pub fn accept_again(&mut self) {
        self.refused.clear();
    }

    /// All chains of the filter table: the built-in ones, then those of users by name.
    pub fn chains(&self) -> Vec<&str> {
        self.filter.chains()
    }

    pub fn has_chain(&self, name: &str) -> bool {
        self.filter.has_chain(name)
    }

    /// The rules of a chain of the filter table, each as the text behind `-A CHAIN`. Panics when there is
    /// no such chain, so that a misspelled name does not pass for an empty chain.
    pub fn rules(&self, chain: &str) -> &[String] {
        self.filter.rules(chain)
    }

    /// One of the tables.
    pub fn table(&self, kind: Kind) -> &Table {
        match kind {
            Kind::Filter => &self.filter,
            Kind::Nat => &self.nat,
            Kind::Mangle => &self.mangle,
        }
    }

    /// One of the tables, to change it behind everybody's back.
    pub fn table_mut(&mut self, kind: Kind) -> &mut Table {
        match kind {
            Kind::Filter => &mut self.filter,
            Kind::Nat => &mut self.nat,
            Kind::Mangle => &mut self.mangle,
        }
    }
}

/// Chains, each as `TABLE CHAIN`, and their rules.
pub type Contents = BTreeMap<String, Vec<String>>;

/// Which table it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Filter,
    Nat,
    Mangle,
}

impl Kind {
    pub const ALL: [Self; 3] = [Self::Filter, Self::Nat, Self::Mangle];

    pub fn name(self) -> &'static str {
        match self {
            Self::Filter => "filter",
            Self::Nat => "nat",
            Self::Mangle => "mangle",
        }
    }

    /// The chains that every such table has, in the order `iptables-save` prints them.
    fn built_in(self) -> &'static [&'static str] {
        match self {
            Self::Filter => &["INPUT", "FORWARD", "OUTPUT"],
            Self::Nat => &["PREROUTING", "INPUT", "OUTPUT", "POSTROUTING"],
            Self::Mangle => &["PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"],
        }
    }

    /// Whether a rule in any of its chains may have this target. Both backends change the MSS in the other tables too, which is not
    /// what those are for.
    fn accepts_target(self, target: &Target) -> bool {
        let of_nat = matches!(target, Target::Snat(_) | Target::Dnat(_) | Target::Masquerade);
        let is_out_of_place = match self {
            Self::Filter => of_nat || matches!(target, Target::TcpMss(_)),
            Self::Nat => matches!(target, Target::Drop | Target::Reject | Target::TcpMss(_)),
            Self::Mangle => of_nat || matches!(target, Target::Reject),
        };
        !is_out_of_place
    }
}

/// Whether a packet of this built-in chain may get there. nft looks at the chain of the rule only when it is a change of the MSS.
fn stands_behind(built_in: &str, target: &Target) -> bool {
    let only_behind = [
        (matches!(target, Target::Snat(_)), &["POSTROUTING", "INPUT"][..]),
        (matches!(target, Target::Dnat(_)), &["PREROUTING", "OUTPUT"]),
        (matches!(target, Target::Masquerade), &["POSTROUTING"]),
        (
            matches!(target, Target::TcpMss(Mss::Clamped)),
            &["FORWARD", "OUTPUT", "POSTROUTING"],
        ),
    ];
    only_behind
        .iter()
        .all(|(is_meant, chains)| !is_meant || chains.contains(&built_in))
}

/// The part of a text that is about one table.
#[derive(Debug)]
struct Section<'a> {
    kind: Kind,
    /// The number of its first line in the text.
    first: usize,
    /// The lines behind `*table`, the `COMMIT` included.
    lines: Vec<&'a str>,
}

/// The sections of a text. One that does not begin or end as it should is an error of its own, behind those before it; to keep it simple it
/// is found before any of them is carried out, which a test of a transaction never needs to distinguish.
fn sections(text: &str) -> Result<Vec<Section<'_>>, String> {
    let mut sections: Vec<Section<'_>> = Vec::new();
    let mut open = false;
    let mut number = 0;
    for line in text.split_inclusive('\n') {
        number += 1;
        if line == "\n" || line.starts_with('#') {
            continue;
        }
        let begun = Kind::ALL.into_iter().find(|kind| line == format!("*{}\n", kind.name()));
        match (open, begun) {
            (false, Some(kind)) => sections.push(Section {
                kind,
                first: number,
                lines: Vec::new(),
            }),
            (false, None) if sections.is_empty() => return Err(format!("line {number} failed: no table")),
            (false, None) => return Err(format!("line {number} failed: text behind COMMIT")),
            (true, _) => {}
        }
        if let (true, Some(section)) = (open, sections.last_mut()) {
            section.lines.push(line);
        }
        open = line != "COMMIT\n";
    }
    match open {
        true => Err(format!("line {} failed: COMMIT expected", number + 1)),
        false => Ok(sections),
    }
}

/// The line that appends the rule. A rule may have no condition and no target.
pub fn append_line(chain: &str, rule: &str) -> String {
    format!("-A {chain} {rule}").trim_end().to_owned()
}

/// A chain; only a built-in one has a policy. `texts` and `rules` go in step.
#[derive(Clone, Debug, Default)]
struct Chain {
    name: String,
    policy: Option<String>,
    texts: Vec<String>,
    rules: Vec<ParsedRule>,
}

impl Chain {
    fn clear(&mut self) {
        self.texts.clear();
        self.rules.clear();
    }

    /// The chains its rules jump or go to.
    fn leads_to(&self) -> impl Iterator<Item = &str> {
        self.rules.iter().filter_map(ParsedRule::leads_to)
    }
}

/// One table. What changes it from outside does so behind everybody's back.
#[derive(Clone, Debug)]
pub struct Table {
    kind: Kind,
    /// The built-in chains, then the user chains sorted by name.
    chains: Vec<Chain>,
    family: Option<Family>,
}

impl Table {
    fn new(kind: Kind) -> Self {
        let chains = kind.built_in().iter().map(|name| Chain {
            name: (*name).to_owned(),
            policy: Some("ACCEPT".to_owned()),
            ..Chain::default()
        });
        Self {
            kind,
            chains: chains.collect(),
            family: None,
        }
    }

    /// `iptables-save -t TABLE`.
    pub fn save(&self) -> String {
        let mut text = format!("*{}\n", self.kind.name());
        for chain in &self.chains {
            let policy = chain.policy.as_deref().unwrap_or("-");
            let _ = writeln!(text, ":{} {policy} [0:0]", chain.name);
        }
        for chain in &self.chains {
            for rule in &chain.texts {
                let _ = writeln!(text, "{}", append_line(&chain.name, rule));
            }
        }
        text + "COMMIT\n"
    }

    pub fn flush(&mut self) {
        self.chains.iter_mut().for_each(Chain::clear);
    }

    pub fn flush_all(&mut self) {
        self.chains.truncate(self.kind.built_in().len());
        self.flush();
    }

    pub fn chains(&self) -> Vec<&str> {
        let chains = self.chains.iter();
        chains.map(|chain| chain.name.as_str()).collect()
    }

    pub fn has_chain(&self, name: &str) -> bool {
        self.position(name).is_ok()
    }

    pub fn is_built_in(&self, chain: &str) -> bool {
        self.kind.built_in().contains(&chain)
    }

    pub fn rules(&self, chain: &str) -> &[String] {
        &self.known(chain).texts
    }

    /// The same rules, read.
    pub fn parsed_rules(&self, chain: &str) -> &[ParsedRule] {
        &self.known(chain).rules
    }

    /// ACCEPT or DROP: what happens to what comes to the end of a built-in chain.
    pub fn policy(&self, built_in: &str) -> &str {
        let policy = self.known(built_in).policy.as_deref();
        policy.unwrap_or_else(|| panic!("{built_in} has no policy"))
    }

    /// The family of the addresses seen so far.
    pub fn family(&self) -> Option<Family> {
        self.family
    }

    fn known(&self, name: &str) -> &Chain {
        let at = self.position(name);
        &self.chains[at.unwrap_or_else(|_| panic!("no chain {name}"))]
    }

    /// Carries a section out, up to the line that cannot be.
    fn apply(&mut self, section: &Section<'_>) -> Result<(), String> {
        for (index, line) in section.lines.iter().enumerate() {
            let done = match *line {
                "COMMIT\n" => self.check(),
                declaration if declaration.starts_with(':') => self.declare(&declaration[1..]),
                command => self.command(command),
            };
            // Skipped lines are not counted: no test of ours has any in a section.
            done.map_err(|why| format!("line {} failed: {why}", section.first + 1 + index))?;
        }
        Ok(())
    }

    fn command(&mut self, line: &str) -> Result<(), String> {
        let words = words(line)?;
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let words = match words.as_slice() {
            // What it has counted, with which nothing is done here.
            [counted, rest @ ..] if counted.starts_with('[') && rest.first() == Some(&"-A") => rest,
            whole => whole,
        };
        match words {
            ["-A", chain, rule @ ..] => {
                let end = self.chain(chain)?.texts.len();
                self.insert(chain, end, rule)
            }
            ["-I", chain, number, rule @ ..] if number.parse::<usize>().is_ok() => {
                let number: Option<usize> = number.parse().ok();
                let at = number.and_then(|number| number.checked_sub(1));
                let at = at.ok_or("Invalid rule number `0'")?;
                self.insert(chain, at, rule)
            }
            ["-I", chain, rule @ ..] => self.insert(chain, 0, rule),
            ["-D", chain, rule @ ..] => self.delete(chain, rule),
            ["-C", chain, rule @ ..] => self.find_rule(chain, rule).map(|_| ()),
            ["-F", chain] => self.chain(chain).map(Chain::clear),
            ["-N", chain] => match self.position(chain) {
                Ok(_) => Err("Chain already exists.".to_owned()),
                Err(_) => self.create(chain),
            },
            ["-X", chain] => self.remove(chain),
            _ => Err(format!("Bad argument `{}'", line.trim())),
        }
    }

    /// `CHAIN POLICY [0:0]`, the part behind the colon. A built-in chain takes the
    /// policy and keeps its rules; a user chain loses them.
    fn declare(&mut self, declaration: &str) -> Result<(), String> {
        let words: Vec<&str> = declaration.split_whitespace().collect();
        let (name, policy) = match words.as_slice() {
            [name, policy] | [name, policy, _] => (*name, *policy),
            _ => return Err(format!("Bad argument `{}'", declaration.trim())),
        };
        match (self.kind.built_in().contains(&name), policy) {
            (false, "-") => match self.chain(name) {
                Ok(chain) => chain.clear(),
                Err(_) => self.create(name)?,
            },
            (true, "-") => {}
            (true, "ACCEPT" | "DROP") => self.chain(name)?.policy = Some(policy.to_owned()),
            (_, _) => return Err(format!("Can't set policy `{policy}' on `{name}'")),
        }
        Ok(())
    }

    fn create(&mut self, name: &str) -> Result<(), String> {
        if name.len() > LONGEST_NAME {
            let why = format!("chain name `{name}' too long (must be under 29 chars)");
            return Err(why);
        }
        if name.starts_with(['-', '!']) {
            return Err("chain name not allowed to start with `-' or `!'".to_owned());
        }
        if TARGETS.contains(&name) {
            return Err("chain name may not clash with target name".to_owned());
        }
        let built_in = self.kind.built_in().len();
        let users = &self.chains[built_in..];
        let at = built_in + users.partition_point(|chain| chain.name.as_str() < name);
        let name = name.to_owned();
        let chain = Chain {
            name,
            ..Chain::default()
        };
        self.chains.insert(at, chain);
        Ok(())
    }

    fn remove(&mut self, name: &str) -> Result<(), String> {
        let at = self.position(name)?;
        let chain = &self.chains[at];
        if chain.policy.is_some() {
            return Err("a built-in chain stays".to_owned());
        }
        if !chain.texts.is_empty() {
            return Err("Directory not empty.".to_owned());
        }
        let mut chains = self.chains.iter();
        if chains.any(|chain| chain.leads_to().any(|target| target == name)) {
            return Err("Too many links.".to_owned());
        }
        self.chains.remove(at);
        Ok(())
    }

    fn insert(&mut self, name: &str, at: usize, words: &[&str]) -> Result<(), String> {
        let rule = self.parse_rule(name, words)?;
        for family in rule.families() {
            if *self.family.get_or_insert(family) != family {
                return Err("address or match of the other family".to_owned());
            }
        }
        let chain = self.chain(name)?;
        if at > chain.texts.len() {
            return Err("Index of insertion too big.".to_owned());
        }
        chain.texts.insert(at, render(words));
        chain.rules.insert(at, rule);
        Ok(())
    }

    fn delete(&mut self, name: &str, words: &[&str]) -> Result<(), String> {
        let at = self.find_rule(name, words)?;
        let chain = self.chain(name)?;
        chain.texts.remove(at);
        chain.rules.remove(at);
        Ok(())
    }

    fn find_rule(&mut self, name: &str, words: &[&str]) -> Result<usize, String> {
        self.parse_rule(name, words)?;
        let text = render(words);
        let mut texts = self.chain(name)?.texts.iter();
        let at = texts.position(|rule| *rule == text);
        at.ok_or_else(|| "Bad rule (does a matching rule exist in that chain?).".to_owned())
    }

    /// Reads a rule for the chain. What it jumps to must be there already: iptables
    /// does not look further down the text for it.
    fn parse_rule(&self, chain: &str, words: &[&str]) -> Result<ParsedRule, String> {
        self.position(chain)?;
        let rule = ParsedRule::from_words(words)?;
        if let Some(target) = rule.target.as_ref().filter(|target| !self.kind.accepts_target(target)) {
            return Err(format!("{target:?} in the table {}", self.kind.name()));
        }
        if let Some(target) = rule.leads_to() {
            let there = self.position(target).is_ok() && !self.kind.built_in().contains(&target);
            there.then_some(()).ok_or(format!("Chain '{target}' does not exist"))?;
        }
        if ["OUTPUT", "POSTROUTING"].contains(&chain) && rule.in_device.is_some() {
            return Err(format!("Can't use -i with {chain}"));
        }
        if ["INPUT", "PREROUTING"].contains(&chain) && rule.out_device.is_some() {
            return Err(format!("Can't use -o with {chain}"));
        }
        Ok(rule)
    }

    /// What is looked at when the text is complete: the graph of the chains.
    fn check(&self) -> Result<(), String> {
        let mut depths = BTreeMap::new();
        for chain in &self.chains {
            let depth = self.depth(&chain.name, &mut depths)?;
            if chain.policy.is_some() && depth > DEEPEST {
                return Err(format!("Too many links: {} leads {depth} deep", chain.name));
            }
        }
        for name in self.kind.built_in() {
            self.check_reached(name)?;
        }
        Ok(())
    }

    /// How many chains deep a packet can get behind this one. A chain that is met
    /// again before its depth is known leads to itself.
    fn depth<'a>(&'a self, name: &'a str, known: &mut BTreeMap<&'a str, Option<usize>>) -> Result<usize, String> {
        match known.get(name) {
            Some(Some(depth)) => return Ok(*depth),
            Some(None) => return Err(format!("loop through chain {name}")),
            None => known.insert(name, None),
        };
        let mut depth = 0;
        for target in self.chains[self.position(name)?].leads_to() {
            depth = depth.max(1 + self.depth(target, known)?);
        }
        known.insert(name, Some(depth));
        Ok(depth)
    }

    /// The kernel refuses a policy match for the direction that a chain can not have, and a translation where it is not known yet or too late.
    fn check_reached(&self, from: &str) -> Result<(), String> {
        let impossible = match from {
            "INPUT" | "PREROUTING" => Some(Direction::Out),
            "OUTPUT" | "POSTROUTING" => Some(Direction::In),
            _ => None,
        };
        let mut reached = BTreeSet::new();
        let mut ahead = vec![from];
        while let Some(name) = ahead.pop() {
            if !reached.insert(name) {
                continue;
            }
            let chain = &self.chains[self.position(name)?];
            ahead.extend(chain.leads_to());
            let mut policies = chain.rules.iter().flat_map(ParsedRule::policies);
            if policies.any(|policy| Some(policy.direction) == impossible) {
                return Err(format!("--dir {impossible:?} in {name}, reached from {from}"));
            }
            let mut targets = chain.rules.iter().filter_map(|rule| rule.target.as_ref());
            if let Some(target) = targets.find(|target| !stands_behind(from, target)) {
                return Err(format!("{target:?} in {name}, reached from {from}"));
            }
        }
        Ok(())
    }

    fn chain(&mut self, name: &str) -> Result<&mut Chain, String> {
        let at = self.position(name)?;
        Ok(&mut self.chains[at])
    }

    fn position(&self, name: &str) -> Result<usize, String> {
        let built_in = self.kind.built_in();
        if let Some(at) = built_in.iter().position(|known| *known == name) {
            return Ok(at);
        }
        let users = &self.chains[built_in.len()..];
        let at = users.binary_search_by(|chain| chain.name.as_str().cmp(name));
        at.map(|at| built_in.len() + at)
            .map_err(|_| format!("No chain/target/match by that name: {name}"))
    }
}
