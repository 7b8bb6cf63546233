//! Stands in for `iptables-restore --noflush`: one `filter` table of one family.
//!
//! A test hands it the text that would go to the command and then looks at the
//! chains, or sends packets through them (see [`super::packet`]). A text that the
//! command would refuse is refused here, as a whole, with the number of its line.
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
//! writes, wants `-p` before the match that needs it, one `-m policy` in a rule, one
//! table and one `COMMIT` in a text, and no loop even where no packet can come.
//! It keeps a rule in the spelling it got (blanks and the quotes of a comment apart),
//! where iptables prints `-s 10.0.0.1` as `-s 10.0.0.1/32` and so on.

#![allow(dead_code, unreachable_pub, reason = "each test binary uses its part of this module")]

use super::packet::{AddressRange, DevicePattern, Direction, Family, IcmpPattern, Net};
use super::packet::{PolicyMatch, PortRange};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

/// The chains every filter table has, in the order `iptables-save` prints them.
const BUILT_IN: [&str; 3] = ["INPUT", "FORWARD", "OUTPUT"];
/// Names a user chain may not have.
const TARGETS: [&str; 6] = ["ACCEPT", "DROP", "RETURN", "REJECT", "LOG", "QUEUE"];
/// The longest name of a chain, in bytes.
const LONGEST_NAME: usize = 28;
/// nft follows a packet through so many user chains, jumps and gotos alike.
const DEEPEST: usize = 15;

/// A table, and the command that changes it.
#[derive(Clone, Debug, Default)]
pub struct Emulator {
    table: Table,
    failure: Option<String>,
    /// How often [`Emulator::restore`] was called, failures included.
    pub restores: usize,
}

impl Emulator {
    pub fn new() -> Self {
        Self::default()
    }

    /// A table whose built-in chain `chain` ends with `policy`, ACCEPT or DROP.
    pub fn with_policy(mut self, chain: &str, policy: &str) -> Self {
        let declared = self.table.declare(&format!("{chain} {policy} [0:0]"));
        assert_eq!(declared, Ok(()), "setting a policy");
        self
    }

    /// `iptables-restore --noflush`: all of the text, or nothing and the reason.
    pub fn restore(&mut self, text: &str) -> Result<(), String> {
        self.restores += 1;
        match self.failure.take() {
            Some(message) => Err(message),
            None => self.table.apply(text),
        }
    }

    /// `iptables-restore`: the text takes the place of all chains and rules.
    pub fn replace(&mut self, text: &str) -> Result<(), String> {
        let mut table = self.table.clone();
        table.wipe();
        table.apply(text)?;
        self.table = table;
        Ok(())
    }

    /// `iptables-save -t filter`. It can be restored and replaced from.
    pub fn save(&self) -> String {
        let mut text = "*filter\n".to_owned();
        for chain in &self.table.chains {
            let policy = chain.policy.as_deref().unwrap_or("-");
            let _ = writeln!(text, ":{} {policy} [0:0]", chain.name);
        }
        for chain in &self.table.chains {
            for rule in &chain.texts {
                let _ = writeln!(text, "{}", append_line(&chain.name, rule));
            }
        }
        text + "COMMIT\n"
    }

    /// `iptables -F`: the rules of all chains go, the chains stay.
    pub fn flush(&mut self) {
        self.table.chains.iter_mut().for_each(Chain::clear);
    }

    /// A reload of a firewall: all rules and user chains go, the policies stay.
    pub fn wipe(&mut self) {
        self.table.wipe();
    }

    /// The next restore fails with this message and changes nothing.
    pub fn fail_next(&mut self, message: &str) {
        self.failure = Some(message.to_owned());
    }

    /// All chains: the built-in ones, then those of users by name.
    pub fn chains(&self) -> Vec<&str> {
        let chains = self.table.chains.iter();
        chains.map(|chain| chain.name.as_str()).collect()
    }

    pub fn has_chain(&self, name: &str) -> bool {
        self.table.position(name).is_ok()
    }

    /// The rules of a chain, each as the text behind `-A CHAIN`. Panics when there is
    /// no such chain, so that a misspelled name does not pass for an empty chain.
    pub fn rules(&self, chain: &str) -> &[String] {
        &self.chain(chain).texts
    }

    /// The same rules, read.
    pub fn parsed_rules(&self, chain: &str) -> &[ParsedRule] {
        &self.chain(chain).rules
    }

    /// The family of the addresses seen so far.
    pub fn family(&self) -> Option<Family> {
        self.table.family
    }

    fn chain(&self, name: &str) -> &Chain {
        let at = self.table.position(name);
        &self.table.chains[at.unwrap_or_else(|_| panic!("no chain {name}"))]
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

#[derive(Clone, Debug)]
struct Table {
    /// The built-in chains, then the user chains sorted by name.
    chains: Vec<Chain>,
    family: Option<Family>,
}

impl Default for Table {
    fn default() -> Self {
        let chains = BUILT_IN.map(|name| Chain {
            name: name.to_owned(),
            policy: Some("ACCEPT".to_owned()),
            ..Chain::default()
        });
        Self {
            chains: chains.into(),
            family: None,
        }
    }
}

/// How far the reading of a text has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    BeforeTable,
    InTable,
    Committed,
}

impl Table {
    /// Works on a copy, so that an error leaves everything as it was.
    fn apply(&mut self, text: &str) -> Result<(), String> {
        let mut copy = self.clone();
        let mut stage = Stage::BeforeTable;
        let mut number = 0;
        for line in text.split_inclusive('\n') {
            number += 1;
            stage = copy
                .line(line, stage)
                .map_err(|why| format!("line {number} failed: {why}"))?;
        }
        if stage != Stage::Committed {
            return Err(format!("line {} failed: COMMIT expected", number + 1));
        }
        *self = copy;
        Ok(())
    }

    fn line(&mut self, line: &str, stage: Stage) -> Result<Stage, String> {
        match (stage, line) {
            (_, "\n") => return Ok(stage),
            (_, comment) if comment.starts_with('#') => return Ok(stage),
            (Stage::BeforeTable, "*filter\n") => return Ok(Stage::InTable),
            (Stage::InTable, "COMMIT\n") => self.check()?,
            (Stage::InTable, declaration) if declaration.starts_with(':') => {
                self.declare(&declaration[1..])?;
                return Ok(stage);
            }
            (Stage::InTable, command) => {
                self.command(command)?;
                return Ok(stage);
            }
            (Stage::BeforeTable, _) => return Err("no table".to_owned()),
            (Stage::Committed, _) => return Err("text behind COMMIT".to_owned()),
        }
        Ok(Stage::Committed)
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
        match (BUILT_IN.contains(&name), policy) {
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
        let users = &self.chains[BUILT_IN.len()..];
        let at = BUILT_IN.len() + users.partition_point(|chain| chain.name.as_str() < name);
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
            let there = self.position(target).is_ok() && !BUILT_IN.contains(&target);
            there.then_some(()).ok_or(format!("Chain '{target}' does not exist"))?;
        }
        if chain == "OUTPUT" && rule.in_device.is_some() {
            return Err("Can't use -i with OUTPUT".to_owned());
        }
        if chain == "INPUT" && rule.out_device.is_some() {
            return Err("Can't use -o with INPUT".to_owned());
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
        self.check_direction("INPUT", Direction::Out)?;
        self.check_direction("OUTPUT", Direction::In)
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

    /// The kernel refuses a policy match for the direction that a chain can not have.
    fn check_direction(&self, from: &str, impossible: Direction) -> Result<(), String> {
        let mut reached = BTreeSet::new();
        let mut ahead = vec![from];
        while let Some(name) = ahead.pop() {
            if !reached.insert(name) {
                continue;
            }
            let chain = &self.chains[self.position(name)?];
            ahead.extend(chain.leads_to());
            let mut policies = chain.rules.iter().filter_map(|rule| rule.policy);
            if policies.any(|policy| policy.direction == impossible) {
                return Err(format!("--dir {impossible:?} in {name}, reached from {from}"));
            }
        }
        Ok(())
    }

    fn wipe(&mut self) {
        self.chains.truncate(BUILT_IN.len());
        self.chains.iter_mut().for_each(Chain::clear);
    }

    fn chain(&mut self, name: &str) -> Result<&mut Chain, String> {
        let at = self.position(name)?;
        Ok(&mut self.chains[at])
    }

    fn position(&self, name: &str) -> Result<usize, String> {
        if let Some(at) = BUILT_IN.iter().position(|built_in| *built_in == name) {
            return Ok(at);
        }
        let users = &self.chains[BUILT_IN.len()..];
        let at = users.binary_search_by(|chain| chain.name.as_str().cmp(name));
        at.map(|at| BUILT_IN.len() + at)
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
            Target::Accept | Target::Drop | Target::Return | Target::Reject | Target::Log => None,
        }
    }

    /// The families that parts of the rule belong to.
    fn families(&self) -> Vec<Family> {
        let nets = self.source.iter().chain(&self.destination);
        let ranges = self.source_ranges.iter().chain(&self.destination_ranges);
        let addresses = nets.map(|net| net.address).chain(ranges.map(|range| range.first));
        let icmp = self.icmp.iter().map(|pattern| pattern.family);
        addresses.map(Family::of).chain(icmp).collect()
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
            "-j" => rule.target = Some(target(value)),
            "-g" => rule.target = Some(Target::Goto(value.to_owned())),
            _ => return self.policy_option(option, value),
        }
        Ok(())
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

/// Writes a rule as `iptables-save` would: single blanks, and quotes around a comment
/// that holds anything but letters, digits, `-` and `_`.
fn render(words: &[&str]) -> String {
    let mut rendered = Vec::new();
    let mut is_comment = false;
    for word in words {
        let plain = |character: char| character.is_ascii_alphanumeric() || "-_".contains(character);
        if is_comment && (word.is_empty() || !word.chars().all(plain)) {
            let mut escaped = word.replace('\\', r"\\");
            for quote in ['"', '\''] {
                escaped = escaped.replace(quote, &format!("\\{quote}"));
            }
            rendered.push(format!("\"{escaped}\""));
        } else {
            rendered.push((*word).to_owned());
        }
        is_comment = *word == "--comment";
    }
    rendered.join(" ")
}
