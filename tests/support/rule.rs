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
        let (mut rule, mut words) = (Self::default(), Words(words));
        while !words.0.is_empty() {
            rule.read_part(&mut words)?;
        }
        rule.check_mss()?;
        Ok(rule)
    }

    /// Reads a condition or the target, each at most once but for `-m`. What belongs to a match or a target stands right behind its name, in
    /// the order in which it is printed.
    fn read_part(&mut self, words: &mut Words<'_>) -> Result<(), String> {
        let (negated, rest) = match words.0 {
            ["!", rest @ ..] => (true, rest),
            rest => (false, rest),
        };
        let bad = || format!("Bad argument `{}'", words.0.join(" "));
        let [option, value, rest @ ..] = rest else {
            return Err(bad());
        };
        let slot_is_free = match *option {
            "-s" => self.source.is_none(),
            "-d" => self.destination.is_none(),
            "-i" => self.in_device.is_none(),
            "-o" => self.out_device.is_none(),
            "-p" => self.protocol.is_none() && !negated,
            "-j" | "-g" => self.target.is_none() && !negated,
            "-m" => !negated,
            _ => return Err(bad()),
        };
        if !slot_is_free {
            return Err(format!("{option} twice, or behind a !"));
        }
        words.0 = rest;
        match *option {
            "-s" => self.source = Some(net(value, negated)?),
            "-d" => self.destination = Some(net(value, negated)?),
            "-i" => self.in_device = Some(interface(value, negated)?),
            "-o" => self.out_device = Some(interface(value, negated)?),
            "-p" => self.protocol = Some(protocol(value)?),
            "-g" => self.target = Some(Target::Goto((*value).to_owned())),
            "-j" => self.target = Some(read_target(value, words)?),
            _ => {
                let read = read_match(value, self.protocol, words)?;
                self.matches.push(read);
            }
        }
        Ok(())
    }

    /// The chain the rule jumps or goes to.
    pub fn leads_to(&self) -> Option<&str> {
        if let Some(Target::Jump(chain) | Target::Goto(chain)) = &self.target {
            return Some(chain);
        }
        None
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

/// The longest prefix of a log line, in bytes; the command would cut off the rest.
const LONGEST_LOG_PREFIX: usize = 29;
/// The largest MSS that both families take.
const LARGEST_MSS: u16 = 65_495;

/// The words of a rule that are still to be read.
struct Words<'a>(&'a [&'a str]);

impl<'a> Words<'a> {
    /// The value of this option, if it comes next.
    fn option(&mut self, name: &str) -> Option<&'a str> {
        let [next, value, rest @ ..] = self.0 else { return None };
        let is_next = *next == name;
        if is_next {
            self.0 = rest;
        }
        is_next.then_some(value)
    }

    /// The same, where a `!` may stand in front of it.
    fn asked(&mut self, name: &str) -> Option<Asked<&'a str>> {
        let ["!", rest @ ..] = self.0 else {
            return self.option(name).map(Asked::Is);
        };
        let mut behind = Words(rest);
        let value = behind.option(name)?;
        self.0 = behind.0;
        Some(Asked::IsNot(value))
    }

    /// The value of an option that must come next.
    fn needed(&mut self, name: &str) -> Result<&'a str, String> {
        self.option(name)
            .ok_or_else(|| format!("option \"{name}\" must be specified"))
    }

    /// The same, read; nothing if another one comes next.
    fn parsed<T>(&mut self, name: &str, parse: impl Fn(&str) -> Result<T, String>) -> Result<Option<T>, String> {
        self.option(name).map(parse).transpose()
    }
}

fn asked<T>(text: Asked<&str>, parse: impl Fn(&str) -> Result<T, String>) -> Result<Asked<T>, String> {
    Ok(match text {
        Asked::Is(text) => Asked::Is(parse(text)?),
        Asked::IsNot(text) => Asked::IsNot(parse(text)?),
    })
}

/// A match with its options. Some work with the protocol in front of them alone.
fn read_match(name: &str, protocol: Option<u8>, words: &mut Words<'_>) -> Result<Match, String> {
    let works_with: &[u8] = match name {
        "tcp" => &[6],
        "udp" => &[17],
        "multiport" => &[6, 17, 33, 132, 136],
        "icmp" => &[1],
        "icmp6" => &[58],
        _ => &[],
    };
    if !works_with.is_empty() && !protocol.is_some_and(|protocol| works_with.contains(&protocol)) {
        return Err(format!("match {name} needs its -p in front of it"));
    }
    Ok(match name {
        "tcp" | "udp" => Match::Transport {
            source: words.parsed("--sport", PortRange::parse)?,
            destination: words.parsed("--dport", PortRange::parse)?,
            flags: if name == "tcp" { read_flags(words)? } else { None },
        },
        "multiport" => match words.parsed("--sports", PortRange::parse_multiport)? {
            Some(ports) => Match::SourcePorts(ports),
            None => Match::DestinationPorts(PortRange::parse_multiport(words.needed("--dports")?)?),
        },
        "icmp" => Match::Icmp(IcmpPattern::parse(Family::V4, words.needed("--icmp-type")?)?),
        "icmp6" => Match::Icmp(IcmpPattern::parse(Family::V6, words.needed("--icmpv6-type")?)?),
        "ah" => Match::Authentication,
        "iprange" => {
            let mut range = |option| {
                words
                    .asked(option)
                    .map(|text| asked(text, AddressRange::parse))
                    .transpose()
            };
            let (source, destination) = (range("--src-range")?, range("--dst-range")?);
            if source.is_none() && destination.is_none() {
                return Err("iprange: At least one option is required".to_owned());
            }
            Match::Addresses { source, destination }
        }
        "policy" => read_policy(words)?,
        "conntrack" => read_connection(words)?,
        "addrtype" => {
            let local = |text: &str| {
                (text == "LOCAL")
                    .then_some(())
                    .ok_or("only LOCAL is known here".to_owned())
            };
            let text = words.asked("--src-type").ok_or("addrtype: --src-type is missing")?;
            Match::SourceIsLocal(asked(text, local)?)
        }
        "mark" => {
            let text = words.asked("--mark").ok_or("mark: --mark is missing")?;
            Match::Mark(asked(text, MarkBits::parse)?)
        }
        "limit" => {
            let rate = words.needed("--limit")?;
            Match::Limit(RateLimit::parse(rate, words.option("--limit-burst"))?)
        }
        "comment" => Match::Comment(comment(words.needed("--comment")?)?),
        _ => return Err(format!("Couldn't load match `{name}'")),
    })
}

fn read_flags(words: &mut Words<'_>) -> Result<Option<TcpFlags>, String> {
    let ["--tcp-flags", mask, set, rest @ ..] = words.0 else {
        return Ok(None);
    };
    words.0 = rest;
    TcpFlags::parse(mask, set).map(Some)
}

fn read_policy(words: &mut Words<'_>) -> Result<Match, String> {
    let bad = |option: &str, value: &str| format!("policy: bad value for option \"{option}\": {value}");
    let direction = match words.needed("--dir")? {
        "in" => Direction::In,
        "out" => Direction::Out,
        other => return Err(bad("--dir", other)),
    };
    let ipsec = match words.needed("--pol")? {
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
        reqid: words.parsed("--reqid", |text| text.parse().map_err(|_| bad("--reqid", text)))?,
        protocol: words.parsed("--proto", protocol)?,
    }))
}

fn read_connection(words: &mut Words<'_>) -> Result<Match, String> {
    let direction = |text: &str| match text {
        "ORIGINAL" => Ok(ConnectionDirection::Original),
        "REPLY" => Ok(ConnectionDirection::Reply),
        _ => Err(format!("conntrack: Bad value for \"--ctdir\" option: \"{text}\"")),
    };
    let expected = |text: &str| match text {
        "EXPECTED" => Ok(true),
        other => Err(format!(
            "conntrack: only the status EXPECTED is known here, not {other}"
        )),
    };
    let (states, requested) = (
        words.parsed("--ctstate", ConnectionMatch::parse_states)?,
        words.parsed("--ctorigdst", Net::parse)?,
    );
    let read = ConnectionMatch {
        states,
        requested,
        reply_destination: words.parsed("--ctrepldst", Net::parse)?,
        requested_ports: [
            words.parsed("--ctorigsrcport", PortRange::parse)?,
            words.parsed("--ctorigdstport", PortRange::parse)?,
        ],
        is_expected: words.parsed("--ctstatus", expected)?,
        direction: words.parsed("--ctdir", direction)?,
    };
    match read == ConnectionMatch::default() {
        true => Err("conntrack: At least one option is required".to_owned()),
        false => Ok(Match::Connection(read)),
    }
}

/// A target with its options, or a chain.
fn read_target(name: &str, words: &mut Words<'_>) -> Result<Target, String> {
    let address = |text: &str| text.parse().map_err(|_| format!("Bad IP address \"{text}\""));
    let prefix = |text: Option<&str>, longest: usize| match text {
        Some("") => Err("an empty prefix".to_owned()),
        Some(long) if long.len() > longest => Err(format!("a prefix of more than {longest} bytes")),
        text => Ok(text.unwrap_or_default().to_owned()),
    };
    let group = |text: &str| {
        text.parse()
            .map_err(|_| "bad value for option \"--nflog-group\"".to_owned())
    };
    Ok(match name {
        "ACCEPT" => Target::Accept,
        "DROP" => Target::Drop,
        "RETURN" => Target::Return,
        "REJECT" => Target::Reject,
        "MASQUERADE" => Target::Masquerade,
        "LOG" => Target::Log(prefix(words.option("--log-prefix"), LONGEST_LOG_PREFIX)?),
        "NFLOG" => {
            let prefix = prefix(words.option("--nflog-prefix"), 63)?;
            Target::Nflog(words.parsed("--nflog-group", group)?.unwrap_or_default(), prefix)
        }
        "MARK" => Target::Mark(MarkBits::parse(words.needed("--set-xmark")?)?),
        "SNAT" => Target::Snat(address(words.needed("--to-source")?)?),
        "DNAT" => Target::Dnat(address(words.needed("--to-destination")?)?),
        "TCPMSS" => Target::TcpMss(read_mss(words)?),
        chain => Target::Jump(chain.to_owned()),
    })
}

fn read_mss(words: &mut Words<'_>) -> Result<Mss, String> {
    if let ["--clamp-mss-to-pmtu", rest @ ..] = words.0 {
        words.0 = rest;
        return Ok(Mss::Clamped);
    }
    match words.needed("--set-mss")?.parse() {
        Ok(mss) if mss <= LARGEST_MSS => Ok(Mss::Set(mss)),
        Ok(_) | Err(_) => Err("TCPMSS: bad value for option \"--set-mss\", or out of range".to_owned()),
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
