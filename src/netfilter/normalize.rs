//! Compares rules that iptables spells differently.

use std::borrow::Cow;

/// The words of a rule. A quoted text is one word; in it, a backslash escapes the next character.
pub(crate) fn rule_words(text: &str) -> impl Iterator<Item = Cow<'_, str>> {
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

/// The text before the closing quote, and the text after it. With many tunnels this runs on a
/// million words, so only a word with an escape is copied.
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

/// The protocol names that iptables prints: its own, and the commonest of `/etc/protocols`. A
/// missing name is harmless: the two texts then count as different rules, and the kernel is asked.
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

/// The words of a rule in one normal form: no quotes, protocols by number. iptables drops the
/// quotes of a comment where they are not needed, and prints protocols by name.
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
    fn words_are_separated_by_blanks_and_quotes() {
        let words = |text| rule_words(text).map(Cow::into_owned).collect::<Vec<_>>();
        assert_eq!(words("-s 10.0.0.0/8  -j X "), ["-s", "10.0.0.0/8", "-j", "X"]);
        assert_eq!(words(r#""a b" c"#), ["a b", "c"]);
        assert_eq!(words(r#""a \"b\\ c\" d" e"#), ["a \"b\\ c\" d", "e"]);
        assert_eq!(words(r#""" x"#), ["", "x"]);
        assert_eq!(words(r#""open \"#), ["open "]);
        assert_eq!(words(r#"a"b c"#), ["a\"b", "c"]);
        assert!(words("").is_empty());
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
