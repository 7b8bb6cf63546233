//! Reads a rule as `iptables-restore` does.

#![allow(dead_code, unreachable_pub, reason = "each test binary uses its part of this module")]

use super::packet::ConnectionDirection;
use super::pattern::{
    AddressRange, Asked, ConnectionMatch, Direction, Family, IcmpPattern, InterfacePattern, MarkBits, Match, Net,
    PolicyMatch, PortRange, RateLimit, TcpFlags,
};
use std::net::IpAddr;

/// What a rule does with a packet that matches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    Accept,
    Drop,
    Return,
    Reject,
    /// A line in the kernel's log that begins with this.
    Log(String),
    /// A copy of the packet to a group, marked with a prefix.
    Nflog(u16, String),
    Snat(IpAddr),
    Dnat(IpAddr),
    /// Its source becomes the address of the interface by which it leaves.
    Masquerade,
    TcpMss(Mss),
    /// `MARK --set-xmark`: clears the bits of the mask, then turns those of the value over.
    Mark(MarkBits),
    Jump(String),
    Goto(String),
}

impl Target {
    /// The address that it puts into a packet.
    fn address(&self) -> Option<IpAddr> {
        if let Self::Snat(address) | Self::Dnat(address) = self {
            return Some(*address);
        }
        None
    }
}

/// What happens to the largest segment that a SYN announces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mss {
    /// `--set-mss`: at most this.
    Set(u16),
    /// `--clamp-mss-to-pmtu`: what the way can carry.
    Clamped,
}

/// A rule as it was read. All conditions must hold; what is empty is no condition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ParsedRule {
    pub source: Option<Asked<Net>>,
    pub destination: Option<Asked<Net>>,
    pub in_device: Option<Asked<InterfacePattern>>,
    pub out_device: Option<Asked<InterfacePattern>>,
    pub protocol: Option<u8>,
    pub matches: Vec<Match>,
    pub target: Option<Target>,
}

impl ParsedRule {
    /// Reads the part of a rule behind `-A CHAIN`.
    pub fn parse(text: &str) -> Result<Self, String> {
        let words = words(text)?;
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        Self::from_words(&words)
    }

    pub(super) fn from_words(words: &[&str]) -> Result<Self, String> {
        let mut reader = Reader::default();
        let mut rest = words;
        while !rest.is_empty() {
            rest = reader.option(rest)?;
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
            | Target::Log(_)
            | Target::Nflog(..)
            | Target::Snat(_)
            | Target::Dnat(_)
            | Target::Masquerade
            | Target::Mark(_)
            | Target::TcpMss(_) => None,
        }
    }

    pub fn policies(&self) -> impl Iterator<Item = PolicyMatch> {
        self.matches.iter().filter_map(Match::policy)
    }

    /// Whether a limit keeps it from matching often.
    pub fn is_limited(&self) -> bool {
        self.matches.iter().any(|one| matches!(one, Match::Limit(_)))
    }

    /// The families that parts of the rule belong to.
    pub(super) fn families(&self) -> Vec<Family> {
        let nets = self.source.iter().chain(&self.destination);
        let addresses = nets.map(|net| net.value().address);
        let translated = self.target.iter().filter_map(Target::address);
        let matches = self.matches.iter().flat_map(Match::families);
        addresses
            .chain(translated)
            .map(Family::of_address)
            .chain(matches)
            .collect()
    }

    /// What both backends ask of a rule whose MSS is changed; legacy alone asks for the SYN, nft would let the rule do nothing.
    fn check_mss(&self) -> Result<(), String> {
        let syn = |flags: TcpFlags| flags.set & TcpFlags::SYN != 0;
        let asks_for_syn = |one: &Match| matches!(one, Match::Transport { flags: Some(flags), .. } if syn(*flags));
        match self.target {
            Some(Target::TcpMss(_)) if self.protocol != Some(6) => Err("TCPMSS works with -p tcp only".to_owned()),
            Some(Target::TcpMss(_)) if !self.matches.iter().any(asks_for_syn) => {
                Err("TCPMSS works on SYN packets only".to_owned())
            }
            _ => Ok(()),
        }
    }
}

/// An option of a match or a target.
#[derive(Debug)]
struct Shape {
    name: &'static str,
    values: usize,
    /// A `!` may stand in front of it.
    has_contrary: bool,
}

const fn one(name: &'static str) -> Shape {
    Shape {
        name,
        values: 1,
        has_contrary: false,
    }
}

/// What `-m` loads, or `-j`.
#[derive(Debug)]
struct Extension {
    name: &'static str,
    /// The protocols it works with; empty for any, also none.
    protocols: &'static [u8],
    options: &'static [Shape],
}

const PORTS: [Shape; 2] = [one("--sport"), one("--dport")];

#[rustfmt::skip]
const MATCHES: [Extension; 13] = [
    Extension { name: "tcp", protocols: &[6], options: &[one("--sport"), one("--dport"),
        Shape { name: "--tcp-flags", values: 2, has_contrary: false }] },
    Extension { name: "udp", protocols: &[17], options: &PORTS },
    Extension { name: "multiport", protocols: &[6, 17, 33, 132, 136], options: &[one("--sports"), one("--dports")] },
    Extension { name: "icmp", protocols: &[1], options: &[one("--icmp-type")] },
    Extension { name: "icmp6", protocols: &[58], options: &[one("--icmpv6-type")] },
    Extension { name: "ah", protocols: &[], options: &[] },
    Extension { name: "iprange", protocols: &[], options: &[
        Shape { name: "--src-range", values: 1, has_contrary: true },
        Shape { name: "--dst-range", values: 1, has_contrary: true }] },
    Extension { name: "policy", protocols: &[], options: &[one("--dir"), one("--pol"), one("--reqid"), one("--proto")] },
    Extension { name: "conntrack", protocols: &[], options: &[one("--ctstate"), one("--ctorigdst"), one("--ctrepldst"), one("--ctorigsrcport"), one("--ctorigdstport"), one("--ctstatus"), one("--ctdir")] },
    Extension { name: "addrtype", protocols: &[],
        options: &[Shape { name: "--src-type", values: 1, has_contrary: true }] },
    Extension { name: "mark", protocols: &[],
        options: &[Shape { name: "--mark", values: 1, has_contrary: true }] },
    Extension { name: "limit", protocols: &[], options: &[one("--limit"), one("--limit-burst")] },
    Extension { name: "comment", protocols: &[], options: &[one("--comment")] },
];

/// The targets with options.
#[rustfmt::skip]
const TARGETS: [Extension; 6] = [
    Extension { name: "MARK", protocols: &[], options: &[one("--set-xmark")] },
    Extension { name: "LOG", protocols: &[], options: &[one("--log-prefix")] },
    Extension { name: "NFLOG", protocols: &[], options: &[one("--nflog-group"), one("--nflog-prefix")] },
    Extension { name: "SNAT", protocols: &[], options: &[one("--to-source")] },
    Extension { name: "DNAT", protocols: &[], options: &[one("--to-destination")] },
    Extension { name: "TCPMSS", protocols: &[],
        options: &[one("--set-mss"), Shape { name: "--clamp-mss-to-pmtu", values: 0, has_contrary: false }] },
];

/// The longest prefix of a log line, in bytes; the command would cut off the rest.
const LONGEST_LOG_PREFIX: usize = 29;
/// The largest MSS that both families take.
const LARGEST_MSS: u16 = 65_495;

/// What was loaded, with the options that were given to it.
#[derive(Debug)]
struct Loaded {
    extension: &'static Extension,
    given: Vec<(&'static str, Asked<Vec<String>>)>,
}

impl Loaded {
    fn new(extension: &'static Extension) -> Self {
        Self {
            extension,
            given: Vec::new(),
        }
    }

    fn option_form(&self, option: &str) -> Option<&'static Shape> {
        self.extension.options.iter().find(|shape| shape.name == option)
    }

    fn add_value(&mut self, shape: &'static Shape, value: Asked<Vec<String>>) -> Result<(), String> {
        let name = self.extension.name;
        if self.given.iter().any(|(given, _)| *given == shape.name) {
            return Err(format!("{name}: option \"{}\" can only be used once.", shape.name));
        }
        if matches!(value, Asked::IsNot(_)) && !shape.has_contrary {
            return Err(format!("{name}: option \"{}\" cannot be inverted.", shape.name));
        }
        self.given.push((shape.name, value));
        Ok(())
    }

    fn asked(&self, option: &str) -> Option<&Asked<Vec<String>>> {
        let mut given = self.given.iter();
        given.find(|(name, _)| *name == option).map(|(_, asked)| asked)
    }

    fn value(&self, option: &str) -> Option<&str> {
        self.asked(option)?.value().first().map(String::as_str)
    }

    fn parse_option<T>(
        &self,
        option: &str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Result<Option<T>, String> {
        self.value(option).map(parse).transpose()
    }

    /// The value of an option that must be there.
    fn needed(&self, option: &str) -> Result<&str, String> {
        let missing = || format!("{}: option \"{option}\" must be specified", self.extension.name);
        self.value(option).ok_or_else(missing)
    }

    fn some_option(&self) -> Result<(), String> {
        match self.given.is_empty() {
            true => Err(format!("{}: At least one option is required", self.extension.name)),
            false => Ok(()),
        }
    }

    fn into_match(self) -> Result<Match, String> {
        Ok(match self.extension.name {
            "tcp" | "udp" => self.transport()?,
            "multiport" => match (self.value("--sports"), self.value("--dports")) {
                (Some(ports), None) => Match::SourcePorts(PortRange::parse_multiport(ports)?),
                (None, Some(ports)) => Match::DestinationPorts(PortRange::parse_multiport(ports)?),
                (_, _) => return Err("multiport: one option is required".to_owned()),
            },
            "icmp" => Match::Icmp(IcmpPattern::parse(Family::V4, self.needed("--icmp-type")?)?),
            "icmp6" => Match::Icmp(IcmpPattern::parse(Family::V6, self.needed("--icmpv6-type")?)?),
            "ah" => Match::Authentication,
            "iprange" => {
                self.some_option()?;
                Match::Addresses {
                    source: self.range("--src-range")?,
                    destination: self.range("--dst-range")?,
                }
            }
            "policy" => self.policy()?,
            "conntrack" => self.connection()?,
            "addrtype" => self.source_type()?,
            "mark" => {
                let mark = MarkBits::parse(self.needed("--mark")?)?;
                Match::Mark(match self.asked("--mark") {
                    Some(Asked::IsNot(_)) => Asked::IsNot(mark),
                    Some(Asked::Is(_)) | None => Asked::Is(mark),
                })
            }
            "limit" => Match::Limit(RateLimit::parse(self.needed("--limit")?, self.value("--limit-burst"))?),
            _ => Match::Comment(comment(self.needed("--comment")?)?),
        })
    }

    fn transport(&self) -> Result<Match, String> {
        let flags = match self.asked("--tcp-flags").map(Asked::value).map(Vec::as_slice) {
            Some([mask, set]) => Some(TcpFlags::parse(mask, set)?),
            _ => None,
        };
        Ok(Match::Transport {
            source: self.parse_option("--sport", PortRange::parse)?,
            destination: self.parse_option("--dport", PortRange::parse)?,
            flags,
        })
    }

    fn connection(&self) -> Result<Match, String> {
        self.some_option()?;
        let direction = |text: &str| match text {
            "ORIGINAL" => Ok(ConnectionDirection::Original),
            "REPLY" => Ok(ConnectionDirection::Reply),
            _ => Err(format!("conntrack: Bad value for \"--ctdir\" option: \"{text}\"")),
        };
        let status = |text: &str| match text {
            "EXPECTED" => Ok(true),
            other => Err(format!(
                "conntrack: only the status EXPECTED is known here, not {other}"
            )),
        };
        Ok(Match::Connection(ConnectionMatch {
            states: self.parse_option("--ctstate", ConnectionMatch::parse_states)?,
            requested: self.parse_option("--ctorigdst", Net::parse)?,
            requested_ports: [
                self.parse_option("--ctorigsrcport", PortRange::parse)?,
                self.parse_option("--ctorigdstport", PortRange::parse)?,
            ],
            reply_destination: self.parse_option("--ctrepldst", Net::parse)?,
            direction: self.parse_option("--ctdir", direction)?,
            is_expected: self.parse_option("--ctstatus", status)?,
        }))
    }

    fn range(&self, option: &str) -> Result<Option<Asked<AddressRange>>, String> {
        let range = self.parse_option(option, AddressRange::parse)?;
        Ok(range.map(|range| match self.asked(option) {
            Some(Asked::IsNot(_)) => Asked::IsNot(range),
            Some(Asked::Is(_)) | None => Asked::Is(range),
        }))
    }

    fn source_type(&self) -> Result<Match, String> {
        match (self.needed("--src-type")?, self.asked("--src-type")) {
            ("LOCAL", Some(Asked::IsNot(_))) => Ok(Match::SourceIsLocal(Asked::IsNot(()))),
            ("LOCAL", _) => Ok(Match::SourceIsLocal(Asked::Is(()))),
            (other, _) => Err(format!("addrtype: only LOCAL is known here, not {other}")),
        }
    }

    fn policy(&self) -> Result<Match, String> {
        let bad = |option: &str, value: &str| format!("policy: bad value for option \"{option}\": {value}");
        let direction = match self.needed("--dir")? {
            "in" => Direction::In,
            "out" => Direction::Out,
            other => return Err(bad("--dir", other)),
        };
        let ipsec = match self.needed("--pol")? {
            "ipsec" => true,
            "none" => false,
            other => return Err(bad("--pol", other)),
        };
        let protocol = |text: &str| match text {
            "esp" => Ok(50),
            "ah" => Ok(51),
            "ipcomp" => Ok(108),
            other => Err(bad("--proto", other)),
        };
        Ok(Match::Policy(PolicyMatch {
            direction,
            ipsec,
            reqid: self.parse_option("--reqid", |text| text.parse().map_err(|_| bad("--reqid", text)))?,
            protocol: self.parse_option("--proto", protocol)?,
        }))
    }

    fn into_target(self) -> Result<Target, String> {
        let address = |option| {
            let text = self.needed(option)?;
            text.parse().map_err(|_| format!("Bad IP address \"{text}\""))
        };
        let prefix = |option, longest: usize| match self.value(option).unwrap_or_default() {
            long if long.len() > longest => Err(format!("{option} is longer than {longest} bytes")),
            "" if self.value(option).is_some() => Err(format!("{option} is empty")),
            prefix => Ok(prefix.to_owned()),
        };
        let group = |text: &str| {
            text.parse()
                .map_err(|_| "bad value for option \"--nflog-group\"".to_owned())
        };
        Ok(match self.extension.name {
            "LOG" => Target::Log(prefix("--log-prefix", LONGEST_LOG_PREFIX)?),
            "MARK" => Target::Mark(MarkBits::parse(self.needed("--set-xmark")?)?),
            "SNAT" => Target::Snat(address("--to-source")?),
            "DNAT" => Target::Dnat(address("--to-destination")?),
            "TCPMSS" => Target::TcpMss(self.mss()?),
            _ => Target::Nflog(
                self.parse_option("--nflog-group", group)?.unwrap_or_default(),
                prefix("--nflog-prefix", 63)?,
            ),
        })
    }

    fn mss(&self) -> Result<Mss, String> {
        match (self.value("--set-mss"), self.asked("--clamp-mss-to-pmtu")) {
            (None, Some(_)) => Ok(Mss::Clamped),
            (Some(text), None) => match text.parse() {
                Ok(mss) if mss <= LARGEST_MSS => Ok(Mss::Set(mss)),
                Ok(_) | Err(_) => Err("TCPMSS: bad value for option \"--set-mss\", or out of range".to_owned()),
            },
            (_, _) => Err("TCPMSS: one of its options is required, and no more".to_owned()),
        }
    }
}

/// A rule on the way to being read.
#[derive(Debug, Default)]
struct Reader {
    rule: ParsedRule,
    /// The options of the rule itself so far.
    seen: Vec<&'static str>,
    matches: Vec<Loaded>,
    /// The target, if it has options of its own.
    target: Option<Loaded>,
}

impl Reader {
    /// Reads an option with its values, and returns what is behind it.
    fn option<'a, 'b>(&mut self, words: &'a [&'b str]) -> Result<&'a [&'b str], String> {
        let (negated, words) = match words {
            ["!", rest @ ..] => (true, rest),
            all => (false, all),
        };
        let asked = |value| if negated { Asked::IsNot(value) } else { Asked::Is(value) };
        match words {
            [] => Err("nothing appropriate following !".to_owned()),
            ["!", ..] => Err("multiple consecutive ! not allowed".to_owned()),
            [option, ..] if !option.starts_with('-') => Err(format!("Bad argument `{option}'")),
            ["-m" | "-j" | "-g" | "-p", ..] if negated => Err("! where it can not stand".to_owned()),
            ["-m", name, rest @ ..] => self.load(name).map(|()| rest),
            [
                option @ ("-s" | "-d" | "-i" | "-o" | "-p" | "-j" | "-g"),
                value,
                rest @ ..,
            ] => self.own(option, value, negated).map(|()| rest),
            [option, rest @ ..] => {
                let latest = self.matches.iter_mut().rev().chain(&mut self.target);
                let mut owners = latest.filter_map(|loaded| loaded.option_form(option).map(|shape| (loaded, shape)));
                let unknown = || format!("unknown option \"{option}\", or one without its argument");
                let (loaded, shape) = owners.next().ok_or_else(unknown)?;
                if rest.len() < shape.values {
                    return Err(format!("option \"{option}\" requires an argument"));
                }
                let (values, rest) = rest.split_at(shape.values);
                let values = values.iter().map(|value| (*value).to_owned()).collect();
                loaded.add_value(shape, asked(values)).map(|()| rest)
            }
        }
    }

    fn load(&mut self, name: &str) -> Result<(), String> {
        let known = MATCHES.iter().find(|known| known.name == name);
        let new = known.ok_or_else(|| format!("Couldn't load match `{name}'"))?;
        let fits = |protocol| new.protocols.contains(&protocol);
        if !new.protocols.is_empty() && !self.rule.protocol.is_some_and(fits) {
            return Err(format!("match {name} needs its -p in front of it"));
        }
        self.matches.push(Loaded::new(new));
        Ok(())
    }

    /// An option of the rule itself: `-s` and the like.
    fn own(&mut self, option: &str, value: &str, negated: bool) -> Result<(), String> {
        // These two exclude each other.
        let names = ["-s", "-d", "-i", "-o", "-p", "-j"];
        let name = names.into_iter().find(|name| *name == option).unwrap_or("-j");
        if self.seen.contains(&name) {
            return Err(format!("multiple {option} flags not allowed"));
        }
        self.seen.push(name);
        match option {
            "-s" => self.rule.source = Some(net(value, negated)?),
            "-d" => self.rule.destination = Some(net(value, negated)?),
            "-i" => self.rule.in_device = Some(interface(value, negated)?),
            "-o" => self.rule.out_device = Some(interface(value, negated)?),
            "-p" => self.rule.protocol = Some(protocol(value)?),
            "-g" => self.rule.target = Some(Target::Goto(value.to_owned())),
            _ => match TARGETS.iter().find(|target| target.name == value) {
                Some(target) => self.target = Some(Loaded::new(target)),
                None => self.rule.target = Some(plain_target(value)),
            },
        }
        Ok(())
    }

    fn finish(mut self) -> Result<ParsedRule, String> {
        let matches = self.matches.into_iter().map(Loaded::into_match);
        self.rule.matches = matches.collect::<Result<_, _>>()?;
        if let Some(target) = self.target {
            self.rule.target = Some(target.into_target()?);
        }
        self.rule.check_mss()?;
        Ok(self.rule)
    }
}

/// `! -s 0.0.0.0/0` matches nothing: nft refuses it, legacy does not.
fn net(text: &str, negated: bool) -> Result<Asked<Net>, String> {
    let net = Net::parse(text)?;
    match negated {
        true if net.length == 0 => Err(format!("! {text} would never match")),
        true => Ok(Asked::IsNot(net)),
        false => Ok(Asked::Is(net)),
    }
}

/// `! -i +` matches nothing with nft and everything with legacy.
fn interface(text: &str, negated: bool) -> Result<Asked<InterfacePattern>, String> {
    let pattern = InterfacePattern::parse(text)?;
    match negated {
        true if text == "+" => Err("! + means this or that".to_owned()),
        true => Ok(Asked::IsNot(pattern)),
        false => Ok(Asked::Is(pattern)),
    }
}

/// A target without options.
fn plain_target(name: &str) -> Target {
    match name {
        "ACCEPT" => Target::Accept,
        "DROP" => Target::Drop,
        "RETURN" => Target::Return,
        "REJECT" => Target::Reject,
        "MASQUERADE" => Target::Masquerade,
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

/// The words of a line. A quoted word may hold blanks, and a backslash in it is
/// an escape for the character behind it.
pub(super) fn words(line: &str) -> Result<Vec<String>, String> {
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
pub(super) fn render(words: &[&str]) -> String {
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
        is_free = ["--comment", "--nflog-prefix", "--log-prefix"].contains(word);
    }
    rendered.join(" ")
}
