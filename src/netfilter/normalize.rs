//! Whether two texts are one rule in two spellings.

use std::borrow::Cow;

/// The words of a rule. What stands in quotes is one; a backslash in it stands for the character behind it.
pub(super) fn rule_words(text: &str) -> impl Iterator<Item = Cow<'_, str>> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let word;
        (word, rest) = match rest.strip_prefix('"') {
            _ if rest.is_empty() => return None,
            Some(quoted) => split_quoted(quoted),
            None => {
                let (word, rest) = rest.split_at(rest.find(' ').unwrap_or(rest.len()));
                (Cow::Borrowed(word), rest)
            }
        };
        rest = rest.trim_start_matches(' ');
        Some(word)
    })
}

/// What stands before the closing quote, and what behind it. With many tunnels this looks at a million words: only one that is not as it
/// stands there is copied.
fn split_quoted(text: &str) -> (Cow<'_, str>, &str) {
    let (mut word, mut rest) = (Cow::Borrowed(""), text);
    loop {
        let (plain, behind) = rest.split_at(rest.find(['"', '\\']).unwrap_or(rest.len()));
        word += plain;
        let mut behind = behind.chars();
        match behind.next() {
            Some('\\') => word.to_mut().extend(behind.next()),
            Some(_) | None => return (word, behind.as_str()),
        }
        rest = behind.as_str();
    }
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
pub fn normalize(text: &str) -> Vec<Cow<'_, str>> {
    let mut words: Vec<_> = rule_words(text).collect();
    for at in 1..words.len() {
        if words[at - 1] == "-p"
            && let Some((_, number)) = PROTOCOLS.iter().find(|(name, _)| *name == words[at])
        {
            words[at] = Cow::Borrowed(number);
        }
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_told_apart_by_blanks_and_quotes() {
        let told = |text| rule_words(text).map(Cow::into_owned).collect::<Vec<_>>();
        assert_eq!(told("-s 10.0.0.0/8  -j X "), ["-s", "10.0.0.0/8", "-j", "X"]);
        assert_eq!(told(r#""a b" c"#), ["a b", "c"]);
        assert_eq!(told(r#""a \"b\\ c\" d" e"#), ["a \"b\\ c\" d", "e"]);
        assert_eq!(told(r#""" x"#), ["", "x"]);
        assert_eq!(told(r#""open \"#), ["open "]);
        assert_eq!(told(r#"a"b c"#), ["a\"b", "c"]);
        assert!(told("").is_empty());
    }

    #[test]
    fn quotes_and_names_of_protocols_make_no_difference() {
        for (one, other) in [
            ("-p 4 -j ACCEPT", "-p ipencap -j ACCEPT"),
            ("-m comment --comment \"net\" -j X", "-m comment --comment net -j X"),
            ("-p tcp -m tcp --dport 22", "-p 6 -m tcp --dport 22"),
        ] {
            assert_eq!(normalize(one), normalize(other));
        }
        for (one, other) in [
            ("-m comment --comment \"a b\"", "-m comment --comment a b"),
            ("-m comment --comment tcp", "-m comment --comment 6"),
            ("-p 4", "-p 41"),
            ("-s 10.0.0.0/8", "-d 10.0.0.0/8"),
        ] {
            assert_ne!(normalize(one), normalize(other));
        }
    }
}
