//! Whether two texts are one rule in two spellings.

use std::iter::Peekable;
use std::str::Chars;

/// The words of a rule. What stands in quotes is one; a backslash in it stands for the character behind it.
pub(super) fn words(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut rest = text.chars().peekable();
    while rest.peek().is_some() {
        let word = match rest.next_if_eq(&'"') {
            Some(_) => quoted(&mut rest),
            None => std::iter::from_fn(|| rest.next_if(|c| *c != ' ')).collect(),
        };
        words.push(word);
        while rest.next_if_eq(&' ').is_some() {}
    }
    words
}

fn quoted(rest: &mut Peekable<Chars<'_>>) -> String {
    let mut word = String::new();
    while let Some(c) = rest.next() {
        match c {
            '"' => break,
            '\\' => word.extend(rest.next()),
            c => word.push(c),
        }
    }
    word
}

/// The names that iptables shows for protocols: its own, and the commonest of `/etc/protocols`. Another name is no mistake: two texts are
/// not known for one rule then, and the kernel is asked.
const PROTOCOLS: [(&str, &str); 14] = [
    ("icmp", "1"),
    ("igmp", "2"),
    ("ipencap", "4"),
    ("tcp", "6"),
    ("udp", "17"),
    ("dccp", "33"),
    ("ipv6", "41"),
    ("gre", "47"),
    ("esp", "50"),
    ("ah", "51"),
    ("ipv6-icmp", "58"),
    ("ospf", "89"),
    ("sctp", "132"),
    ("udplite", "136"),
];

/// The words of a rule in the one spelling that tells rules apart: no quotes, protocols by number. iptables takes a comment's quotes off
/// where they are not needed, and knows protocols by name.
#[must_use]
pub fn spelling(text: &str) -> Vec<String> {
    let mut words = words(text);
    for at in 1..words.len() {
        if words[at - 1] == "-p"
            && let Some((_, number)) = PROTOCOLS.iter().find(|(name, _)| *name == words[at])
        {
            words[at] = (*number).to_owned();
        }
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_and_names_of_protocols_make_no_difference() {
        for (one, other) in [
            ("-p 4 -j ACCEPT", "-p ipencap -j ACCEPT"),
            ("-m comment --comment \"net\" -j X", "-m comment --comment net -j X"),
            ("-p tcp -m tcp --dport 22", "-p 6 -m tcp --dport 22"),
        ] {
            assert_eq!(spelling(one), spelling(other));
        }
        for (one, other) in [
            ("-m comment --comment \"a b\"", "-m comment --comment a b"),
            ("-m comment --comment tcp", "-m comment --comment 6"),
            ("-p 4", "-p 41"),
            ("-s 10.0.0.0/8", "-d 10.0.0.0/8"),
        ] {
            assert_ne!(spelling(one), spelling(other));
        }
    }
}
