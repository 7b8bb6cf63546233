//! Stands in for `iptables-restore --noflush`: the tables `filter` and `nat` of one family.
//!
//! A test hands it the text that would go to the command and then looks at the
//! chains, or sends packets through them (see [`super::packet`]). A section of a text
//! that the command would refuse is refused here, as a whole, with the number of its
//! line; the sections before it stand then, as they do with the command, and those
//! behind it are not read.
//!
//! There are two variants of the command, nft and legacy, and a gateway may have
//! either. What one of them refuses is refused here:
//!
//! - legacy: a `COMMIT` without its newline, a policy for a user chain, and
//!   `--dir out` in a chain that INPUT reaches (`--dir in`, OUTPUT);
//! - nft: a way of more than 15 user chains, and a chain name that begins with `-`
//!   or `!`.
//!
//! On purpose it is stricter than both: it knows only the options the project
//! writes, wants `-p` before the match that needs it, one `-m policy` in a rule, a
//! table once in a text, and no loop even where no packet can come.
//! It keeps a rule in the spelling it got (blanks and the quotes of a comment apart),
//! where iptables prints `-s 10.0.0.1` as `-s 10.0.0.1/32` and so on.

#![allow(dead_code, unreachable_pub, reason = "each test binary uses its part of this module")]

use super::packet::{AddressRange, DevicePattern, Direction, Family, IcmpPattern, Net};
use super::packet::{PolicyMatch, PortRange};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::net::IpAddr;

/// Names a user chain may not have.
const TARGETS: [&str; 9] = [
    "ACCEPT", "DROP", "RETURN", "REJECT", "LOG", "QUEUE", "NFLOG", "SNAT", "DNAT",
];
/// The longest name of a chain, in bytes.
const LONGEST_NAME: usize = 28;
/// nft follows a packet through so many user chains, jumps and gotos alike.
const DEEPEST: usize = 15;

/// The two tables, and the command that changes them.
#[derive(Clone, Debug)]
pub struct Emulator {
    filter: Table,
    nat: Table,
    failure: Option<(Option<Kind>, String)>,
    refused: Vec<(Kind, String)>,
    /// The kernel has no nat table.
    pub lacks_nat: bool,
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
            failure: None,
            refused: Vec::new(),
            lacks_nat: false,
            dies_halfway: false,
            restores: 0,
        }
    }
}

impl Emulator {
    pub fn new() -> Self {
        Self::default()
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
        if section.kind == Kind::Nat && self.lacks_nat {
            return Err(format!("line {}: can't initialize iptables table `nat'", section.first));
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
            copy.table_mut(section.kind).wipe();
        }
        copy.restore(text)?;
        *self = copy;
        Ok(())
    }

    /// `iptables-save -t filter`. It can be restored and replaced from.
    pub fn save(&self) -> String {
        self.filter.save()
    }

    /// `iptables -F`: the rules of all chains of the filter table go, the chains stay.
    pub fn flush(&mut self) {
        self.filter.flush();
    }

    /// A reload of a firewall: all rules and user chains of the filter table go, the policies stay.
    pub fn wipe(&mut self) {
        self.filter.wipe();
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
    pub fn relent(&mut self) {
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
        }
    }

    /// One of the tables, to change it behind everybody's back.
    pub fn table_mut(&mut self, kind: Kind) -> &mut Table {
        match kind {
            Kind::Filter => &mut self.filter,
            Kind::Nat => &mut self.nat,
        }
    }
}

/// Which table it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Filter,
    Nat,
}

impl Kind {
    pub const ALL: [Self; 2] = [Self::Filter, Self::Nat];

    pub fn name(self) -> &'static str {
        match self {
            Self::Filter => "filter",
            Self::Nat => "nat",
        }
    }

    /// The chains that every such table has, in the order `iptables-save` prints them.
    fn built_in(self) -> &'static [&'static str] {
        match self {
            Self::Filter => &["INPUT", "FORWARD", "OUTPUT"],
            Self::Nat => &["PREROUTING", "INPUT", "OUTPUT", "POSTROUTING"],
        }
    }
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
/// is found before any of them is carried out, which a test of a transaction never needs to tell apart.
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
            (false, Some(kind)) if sections.iter().any(|section| section.kind == kind) => {
                return Err(format!("line {number} failed: a table twice"));
            }
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
        false if sections.is_empty() => Err(format!("line {} failed: COMMIT expected", number + 1)),
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

    pub fn wipe(&mut self) {
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

    pub fn rules(&self, chain: &str) -> &[String] {
        &self.known(chain).texts
    }

    /// The same rules, read.
    pub fn parsed_rules(&self, chain: &str) -> &[ParsedRule] {
        &self.known(chain).rules
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
        match words.as_slice() {
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
            ["-C", chain, rule @ ..] => self.find(chain, rule).map(|_| ()),
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
        let rule = self.read(name, words)?;
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
        let at = self.find(name, words)?;
        let chain = self.chain(name)?;
        chain.texts.remove(at);
        chain.rules.remove(at);
        Ok(())
    }

    fn find(&mut self, name: &str, words: &[&str]) -> Result<usize, String> {
        self.read(name, words)?;
        let text = render(words);
        let mut texts = self.chain(name)?.texts.iter();
        let at = texts.position(|rule| *rule == text);
        at.ok_or_else(|| "Bad rule (does a matching rule exist in that chain?).".to_owned())
    }

    /// Reads a rule for the chain. What it jumps to must be there already: iptables
    /// does not look further down the text for it.
    fn read(&self, chain: &str, words: &[&str]) -> Result<ParsedRule, String> {
        self.position(chain)?;
        let rule = ParsedRule::from_words(words)?;
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
            let mut policies = chain.rules.iter().filter_map(|rule| rule.policy);
            if policies.any(|policy| Some(policy.direction) == impossible) {
                return Err(format!("--dir {impossible:?} in {name}, reached from {from}"));
            }
            let translates = |rule: &ParsedRule| match rule.target {
                Some(Target::Snat(_)) => self.kind != Kind::Nat || !["POSTROUTING", "INPUT"].contains(&from),
                Some(Target::Dnat(_)) => self.kind != Kind::Nat || !["PREROUTING", "OUTPUT"].contains(&from),
                _ => false,
            };
            if chain.rules.iter().any(translates) {
                return Err(format!("a translation in {name}, reached from {from}"));
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

/// What a rule does with a packet that matches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    Accept,
    Drop,
    Return,
    Reject,
    Log,
    /// A copy of the packet to a group, marked with a prefix.
    Nflog(u16, String),
    Snat(IpAddr),
    Dnat(IpAddr),
    Jump(String),
    Goto(String),
}

/// A rule as it was read. All conditions must hold; what is empty is no condition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ParsedRule {
    pub source: Option<Net>,
    pub destination: Option<Net>,
    pub in_device: Option<DevicePattern>,
    pub out_device: Option<DevicePattern>,
    pub protocol: Option<u8>,
    /// `--sport` and `--sports`.
    pub source_ports: Vec<PortRange>,
    /// `--dport` and `--dports`.
    pub destination_ports: Vec<PortRange>,
    pub source_ranges: Vec<AddressRange>,
    pub destination_ranges: Vec<AddressRange>,
    pub icmp: Option<IcmpPattern>,
    /// There is a match on ports or on ICMP.
    pub reads_transport_header: bool,
    pub policy: Option<PolicyMatch>,
    pub comments: Vec<String>,
    pub target: Option<Target>,
}

impl ParsedRule {
    /// Reads the part of a rule behind `-A CHAIN`.
    pub fn parse(text: &str) -> Result<Self, String> {
        let words = words(text)?;
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        Self::from_words(&words)
    }

    fn from_words(words: &[&str]) -> Result<Self, String> {
        let mut reader = Reader::default();
        for pair in words.chunks(2) {
            match pair {
                [option, _] if !option.starts_with('-') => {
                    return Err(format!("Bad argument `{option}'"));
                }
                ["-m", name] => reader.load(name)?,
                [option, value] => {
                    reader.admit(option)?;
                    reader.option(option, value)?;
                }
                _ => return Err(format!("option {pair:?} requires an argument")),
            }
        }
        reader.finish()
    }

    /// The chain the rule jumps or goes to.
    pub fn leads_to(&self) -> Option<&str> {
        match self.target.as_ref()? {
            Target::Jump(chain) | Target::Goto(chain) => Some(chain),
            Target::Accept
            | Target::Drop
            | Target::Return
            | Target::Reject
            | Target::Log
            | Target::Nflog(..)
            | Target::Snat(_)
            | Target::Dnat(_) => None,
        }
    }

    /// The families that parts of the rule belong to.
    fn families(&self) -> Vec<Family> {
        let nets = self.source.iter().chain(&self.destination);
        let ranges = self.source_ranges.iter().chain(&self.destination_ranges);
        let addresses = nets.map(|net| net.address).chain(ranges.map(|range| range.first));
        let translated = self.target.iter().filter_map(|target| match target {
            Target::Snat(address) | Target::Dnat(address) => Some(*address),
            Target::Accept
            | Target::Drop
            | Target::Return
            | Target::Reject
            | Target::Log
            | Target::Nflog(..)
            | Target::Jump(_)
            | Target::Goto(_) => None,
        });
        let icmp = self.icmp.iter().map(|pattern| pattern.family);
        addresses.chain(translated).map(Family::of).chain(icmp).collect()
    }
}

/// A match that `-m` loads.
#[derive(Debug)]
struct Match {
    name: &'static str,
    /// The protocols it works with; empty for any, also none.
    protocols: &'static [u8],
    options: &'static [&'static str],
    /// Of each of these groups an option must be given.
    needs: &'static [&'static [&'static str]],
}

#[rustfmt::skip]
const MATCHES: [Match; 8] = [
    Match { name: "tcp", protocols: &[6], options: &["--sport", "--dport"], needs: &[] },
    Match { name: "udp", protocols: &[17], options: &["--sport", "--dport"], needs: &[] },
    Match { name: "multiport", protocols: &[6, 17, 33, 132, 136],
            options: &["--sports", "--dports"], needs: &[&["--sports", "--dports"]] },
    Match { name: "icmp", protocols: &[1], options: &["--icmp-type"], needs: &[&["--icmp-type"]] },
    Match { name: "icmp6", protocols: &[58],
            options: &["--icmpv6-type"], needs: &[&["--icmpv6-type"]] },
    Match { name: "iprange", protocols: &[], options: &["--src-range", "--dst-range"],
            needs: &[&["--src-range", "--dst-range"]] },
    Match { name: "policy", protocols: &[], options: &["--dir", "--pol", "--reqid", "--proto"],
            needs: &[&["--dir"], &["--pol"]] },
    Match { name: "comment", protocols: &[], options: &["--comment"], needs: &[&["--comment"]] },
];

/// A rule on the way to being read.
#[derive(Debug, Default)]
struct Reader {
    rule: ParsedRule,
    loaded: Vec<&'static Match>,
    /// The options so far, those of a match since it was last loaded.
    seen: Vec<String>,
    /// The target, if it has options of its own, and these.
    extension: Option<String>,
    address: Option<IpAddr>,
    group: Option<u16>,
    prefix: Option<String>,
    direction: Option<Direction>,
    ipsec: bool,
    reqid: Option<u32>,
    protocol: Option<u8>,
}

impl Reader {
    fn load(&mut self, name: &str) -> Result<(), String> {
        let known = MATCHES.iter().find(|known| known.name == name);
        let new = known.ok_or_else(|| format!("Couldn't load match `{name}'"))?;
        let fits = |protocol| new.protocols.contains(&protocol);
        if !new.protocols.is_empty() && !self.rule.protocol.is_some_and(fits) {
            return Err(format!("match {name} needs its -p in front of it"));
        }
        self.rule.reads_transport_header |= !new.protocols.is_empty();
        // A second -m of the same name is one more match, with options of its own.
        if self.loaded.iter().any(|loaded| loaded.name == name) {
            if name == "policy" {
                return Err("-m policy twice".to_owned());
            }
            self.complete(new)?;
            self.seen.retain(|seen| !new.options.contains(&seen.as_str()));
        }
        self.loaded.push(new);
        Ok(())
    }

    /// Whether the option may stand here: once, and behind the match it belongs to.
    fn admit(&mut self, option: &str) -> Result<(), String> {
        let owns = |one: &Match| one.options.contains(&option);
        let loaded = self.loaded.iter().any(|one| owns(one));
        if MATCHES.iter().any(owns) && !loaded {
            return Err(format!("unknown option \"{option}\""));
        }
        // These exclude each other.
        let name = match option {
            "-g" => "-j",
            "--sports" => "--dports",
            other => other,
        };
        if self.seen.iter().any(|seen| seen == name) {
            return Err(format!("multiple {option} flags not allowed"));
        }
        self.seen.push(name.to_owned());
        Ok(())
    }

    fn option(&mut self, option: &str, value: &str) -> Result<(), String> {
        let rule = &mut self.rule;
        match option {
            "-s" => rule.source = Some(Net::parse(value)?),
            "-d" => rule.destination = Some(Net::parse(value)?),
            "-i" => rule.in_device = Some(DevicePattern::parse(value)?),
            "-o" => rule.out_device = Some(DevicePattern::parse(value)?),
            "-p" => rule.protocol = Some(protocol(value)?),
            "--sport" => rule.source_ports.push(PortRange::parse(value)?),
            "--dport" => rule.destination_ports.push(PortRange::parse(value)?),
            "--sports" => rule.source_ports.push(PortRange::parse_multiport(value)?),
            "--dports" => rule.destination_ports.push(PortRange::parse_multiport(value)?),
            "--icmp-type" => rule.icmp = Some(IcmpPattern::parse(Family::V4, value)?),
            "--icmpv6-type" => rule.icmp = Some(IcmpPattern::parse(Family::V6, value)?),
            "--src-range" => rule.source_ranges.push(AddressRange::parse(value)?),
            "--dst-range" => rule.destination_ranges.push(AddressRange::parse(value)?),
            "--comment" => rule.comments.push(comment(value)?),
            "-j" if ["NFLOG", "SNAT", "DNAT"].contains(&value) => self.extension = Some(value.to_owned()),
            "-j" => rule.target = Some(target(value)),
            "-g" => rule.target = Some(Target::Goto(value.to_owned())),
            "--nflog-group" | "--nflog-prefix" | "--to-source" | "--to-destination" => {
                return self.target_option(option, value);
            }
            _ => return self.policy_option(option, value),
        }
        Ok(())
    }

    fn target_option(&mut self, option: &str, value: &str) -> Result<(), String> {
        let wrong = || format!("unknown option \"{option}\" or its value {value}");
        match (self.extension.as_deref(), option) {
            (Some("NFLOG"), "--nflog-group") => self.group = Some(value.parse().map_err(|_| wrong())?),
            (Some("NFLOG"), "--nflog-prefix") if value.len() <= 63 => self.prefix = Some(value.to_owned()),
            (Some("SNAT"), "--to-source") | (Some("DNAT"), "--to-destination") => {
                self.address = Some(value.parse().map_err(|_| wrong())?);
            }
            (_, _) => return Err(wrong()),
        }
        Ok(())
    }

    /// The target whose options are complete.
    fn extended(&mut self) -> Result<Option<Target>, String> {
        let Some(name) = &self.extension else { return Ok(None) };
        let address = self
            .address
            .ok_or_else(|| format!("{name}: an address must be specified"));
        Ok(Some(match name.as_str() {
            "SNAT" => Target::Snat(address?),
            "DNAT" => Target::Dnat(address?),
            _ => Target::Nflog(self.group.unwrap_or_default(), self.prefix.take().unwrap_or_default()),
        }))
    }

    fn policy_option(&mut self, option: &str, value: &str) -> Result<(), String> {
        match (option, value) {
            ("--dir", "in") => self.direction = Some(Direction::In),
            ("--dir", "out") => self.direction = Some(Direction::Out),
            ("--pol", "ipsec") => self.ipsec = true,
            ("--pol", "none") => self.ipsec = false,
            ("--reqid", reqid) => match reqid.parse() {
                Ok(reqid) => self.reqid = Some(reqid),
                Err(_) => return Err(format!("bad value for option \"--reqid\": {reqid}")),
            },
            ("--proto", "esp") => self.protocol = Some(50),
            ("--proto", "ah") => self.protocol = Some(51),
            ("--proto", "ipcomp") => self.protocol = Some(108),
            (_, _) => return Err(format!("unknown option \"{option}\" or its value {value}")),
        }
        Ok(())
    }

    fn complete(&self, one: &Match) -> Result<(), String> {
        let given = |option: &&str| self.seen.iter().any(|seen| seen == option);
        let missing = |group: &&&[&str]| !group.iter().any(given);
        match one.needs.iter().find(missing) {
            Some(group) => Err(format!("{}: one of {group:?} must be specified", one.name)),
            None => Ok(()),
        }
    }

    fn finish(mut self) -> Result<ParsedRule, String> {
        for one in &self.loaded {
            self.complete(one)?;
        }
        if let Some(target) = self.extended()? {
            self.rule.target = Some(target);
        }
        self.rule.policy = self.direction.map(|direction| PolicyMatch {
            direction,
            ipsec: self.ipsec,
            reqid: self.reqid,
            protocol: self.protocol,
        });
        Ok(self.rule)
    }
}

fn target(name: &str) -> Target {
    match name {
        "ACCEPT" => Target::Accept,
        "DROP" => Target::Drop,
        "RETURN" => Target::Return,
        "REJECT" => Target::Reject,
        "LOG" => Target::Log,
        chain => Target::Jump(chain.to_owned()),
    }
}

fn protocol(name: &str) -> Result<u8, String> {
    Ok(match name {
        "icmp" => 1,
        "ipencap" => 4,
        "tcp" => 6,
        "udp" => 17,
        "dccp" => 33,
        "ipv6" => 41,
        "gre" => 47,
        "esp" => 50,
        "ah" => 51,
        "ipv6-icmp" => 58,
        "sctp" => 132,
        "udplite" => 136,
        number => number
            .parse()
            .map_err(|_| format!("unknown protocol \"{number}\" specified"))?,
    })
}

/// A comment; the kernel has room for 255 bytes and would cut off the rest.
fn comment(text: &str) -> Result<String, String> {
    if text.len() > 255 {
        return Err("comment longer than 255 bytes".to_owned());
    }
    Ok(text.to_owned())
}

/// The words of a line. A quoted word may hold blanks, and a backslash in it stands
/// for the character behind it.
fn words(line: &str) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    let mut rest = line.trim_start_matches([' ', '\t', '\n']);
    while let Some(first) = rest.chars().next() {
        if first == '"' {
            let (word, behind) = quoted(&rest[1..])?;
            words.push(word);
            rest = behind;
        } else {
            let end = rest.find([' ', '\t', '\n', '"']).unwrap_or(rest.len());
            words.push(rest[..end].to_owned());
            rest = &rest[end..];
        }
        rest = rest.trim_start_matches([' ', '\t', '\n']);
    }
    Ok(words)
}

/// A word up to its closing quote, and what follows it.
fn quoted(text: &str) -> Result<(String, &str), String> {
    let mut word = String::new();
    let mut escaped = false;
    for (at, character) in text.char_indices() {
        match (escaped, character) {
            (false, '\\') => escaped = true,
            (false, '"') => return Ok((word, &text[at + 1..])),
            (_, _) => {
                escaped = false;
                word.push(character);
            }
        }
    }
    Err("quote without an end".to_owned())
}

/// Writes a rule as `iptables-save` would: single blanks, and quotes around a comment or a prefix
/// that holds anything but letters, digits, `-` and `_`.
fn render(words: &[&str]) -> String {
    let mut rendered = Vec::new();
    let mut is_free = false;
    for word in words {
        let plain = |character: char| character.is_ascii_alphanumeric() || "-_".contains(character);
        if is_free && (word.is_empty() || !word.chars().all(plain)) {
            let mut escaped = word.replace('\\', r"\\");
            for quote in ['"', '\''] {
                escaped = escaped.replace(quote, &format!("\\{quote}"));
            }
            rendered.push(format!("\"{escaped}\""));
        } else {
            rendered.push((*word).to_owned());
        }
        is_free = ["--comment", "--nflog-prefix"].contains(word);
    }
    rendered.join(" ")
}
