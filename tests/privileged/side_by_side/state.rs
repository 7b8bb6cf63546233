//! What a hook can change about a machine's network, a fact a line.

use std::collections::BTreeSet;
use std::fmt;

/// The facts, from the listings of `ip` and from /proc/sys.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct State(BTreeSet<String>);

impl State {
    /// Reads the listings: those of IPv4, those of IPv6 after `=v6=`, and the interfaces' settings after `=sysctl=`.
    pub fn parse(listing: &str) -> Self {
        let mut facts = BTreeSet::new();
        let mut part = Part::Ipv4;
        for line in listing.lines() {
            match line {
                "=v6=" => part = Part::Ipv6,
                "=sysctl=" => part = Part::Settings,
                _ => facts.extend(part.fact(line)),
            }
        }
        Self(facts)
    }

    /// What is here and not there.
    pub fn beyond<'a>(&'a self, other: &'a Self) -> impl Iterator<Item = &'a str> {
        self.0.difference(&other.0).map(String::as_str)
    }

    /// The fact that is not the machine's but the call's.
    pub fn exit_code(&self) -> Option<String> {
        self.0.iter().find(|fact| fact.starts_with("exit ")).cloned()
    }

    /// With one fact more.
    pub fn with(mut self, fact: String) -> Self {
        self.0.insert(fact);
        self
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|fact| writeln!(f, "{fact}"))
    }
}

/// Whose listing a line is in.
#[derive(Debug, Clone, Copy)]
enum Part {
    Ipv4,
    Ipv6,
    Settings,
}

impl Part {
    fn fact(self, line: &str) -> Option<String> {
        let family = match self {
            Self::Settings => return Some(setting(line)),
            Self::Ipv4 => "v4",
            Self::Ipv6 => "v6",
        };
        let words = words(line);
        let first = words.first()?;
        let rest = |from: usize| words[from..].join(" ");
        Some(match (first.strip_suffix(':'), words.get(2)) {
            // Links are the same in both families' listings.
            (Some(_), Some(third)) if third.starts_with('<') => format!("link {}", rest(1)),
            (Some(_), Some(third)) if third.starts_with("inet") => {
                format!("address {family} {} dev {} {}", words[3], words[1], rest(4))
            }
            (Some(priority), Some(_)) => format!("rule {family} {priority}: {}", rest(1)),
            (None, _) if words.last() == Some(&"proxy") => format!("proxy {family} {line}", line = rest(0)),
            (None, _) => format!("route {family} {}", rest(0)),
            (Some(_), None) => panic!("what is this: {line}"),
        })
    }
}

/// The words of a line, but for what changes by itself.
fn words(line: &str) -> Vec<&str> {
    let mut words = Vec::new();
    let mut rest = line.split([' ', '\t', '\\']).filter(|word| !word.is_empty());
    while let Some(word) = rest.next() {
        match word {
            "expires" => drop(rest.next()),
            "cache" | "tentative" | "nodad" => {}
            _ => words.push(word),
        }
    }
    words
}

/// `sysctl v4 eth0 forwarding = 1` from `ipv4/conf/eth0/forwarding:1`.
fn setting(line: &str) -> String {
    let (path, value) = line.split_once(':').unwrap_or((line, ""));
    let mut names = path.rsplit('/');
    let (name, interface) = (names.next().unwrap_or_default(), names.next().unwrap_or_default());
    let family = if path.starts_with("ipv6/") { "v6" } else { "v4" };
    format!("sysctl {family} {interface} {name} = {value}")
}

#[test]
fn a_listing_is_read_as_facts() {
    let listing = "3: w0@w0p: <UP> mtu 1500\\    link/ether 02:00:00:00:00:01\n\
                   3: w0    inet 10.9.0.1/32 scope 50 lo\\       valid_lft forever\n\
                   unicast default via 192.0.2.254 dev w0 table main proto boot scope global \n\
                   100:\tfrom all to 10.2.0.0/24 fwmark 0x5 lookup 50\n\
                   10.1.0.77 dev lan0  proxy\n=v6=\n\
                   unicast 2000::/3 dev w0 table main metric 1024 expires 17sec pref medium\n\
                   =sysctl=\nipv6/conf/vti0/disable_policy:1\n";
    let facts: Vec<_> = State::parse(listing).0.into_iter().collect();
    assert_eq!(
        facts,
        [
            "address v4 10.9.0.1/32 dev w0 scope 50 lo valid_lft forever",
            "link w0@w0p: <UP> mtu 1500 link/ether 02:00:00:00:00:01",
            "proxy v4 10.1.0.77 dev lan0 proxy",
            "route v4 unicast default via 192.0.2.254 dev w0 table main proto boot scope global",
            "route v6 unicast 2000::/3 dev w0 table main metric 1024 pref medium",
            "rule v4 100: from all to 10.2.0.0/24 fwmark 0x5 lookup 50",
            "sysctl v6 vti0 disable_policy = 1",
        ]
    );
}
