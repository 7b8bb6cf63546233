//! Reads `only-ipsec` from a settings file with an error.

use super::Settings;

/// What the key `only-ipsec` of `[gateway]` says, entry by entry, in a text that is no settings
/// file: each entry that can be read alone. Nothing, if there is none. Whatever else the file
/// allows or forbids, these stay closed to all that is not encrypted.
#[must_use]
pub(crate) fn only_ipsec(text: &str) -> Option<Settings> {
    let mut settings = Settings::default();
    for word in entries(text) {
        if let Ok(one) = Settings::parse(&format!("[gateway]\nonly-ipsec = [{word}]\n")) {
            let new = one.gateway.only_ipsec.into_iter();
            let only_ipsec = &mut settings.gateway.only_ipsec;
            new.filter(|entry| !only_ipsec.contains(entry))
                .collect::<Vec<_>>()
                .into_iter()
                .for_each(|entry| only_ipsec.push(entry));
        }
    }
    (!settings.gateway.only_ipsec.is_empty()).then_some(settings)
}

/// The quoted words of the lists that the key has.
fn entries(text: &str) -> Vec<String> {
    let mut entries = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let line = line.trim_start();
        let line = line.strip_prefix("gateway.").unwrap_or(line);
        let Some(value) = line
            .strip_prefix("only-ipsec")
            .and_then(|rest| rest.trim_start().strip_prefix('='))
        else {
            continue;
        };
        let mut value = value.to_owned();
        // A list continues until it is closed, or until a line that cannot be part of it.
        while !without_comment(&value).contains(']') {
            let is_part = |line: &&str| !line.contains('=') && !line.trim_start().starts_with('[');
            let Some(next) = lines.clone().next().filter(is_part) else {
                break;
            };
            value.push('\n');
            value.push_str(next);
            lines.next();
        }
        entries.extend(quoted(&value));
    }
    entries
}

fn without_comment(text: &str) -> String {
    text.lines()
        .map(|line| line.split('#').next().unwrap_or_default())
        .collect()
}

/// The words between quotes, with their quotes, outside of comments.
fn quoted(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    for line in text.lines() {
        let mut rest = line.split('#').next().unwrap_or_default();
        while let Some(start) = rest.find(['"', '\'']) {
            let quote = rest.as_bytes()[start] as char;
            let Some(length) = rest[start + 1..].find(quote) else {
                break;
            };
            words.push(rest[start..start + length + 2].to_owned());
            rest = &rest[start + length + 2..];
        }
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_closes_is_read_out_of_a_file_that_is_broken_elsewhere_or_in_it() {
        let expected = |list: &str| Settings::parse(&format!("[gateway]\nonly-ipsec = {list}\n")).ok();
        for (text, list) in [
            (
                "[gateway]\nesp = \"anny\"\nonly-ipsec = [\"eth1\", 'ppp+']\n",
                "[\"eth1\", \"ppp+\"]",
            ),
            ("[gateway\nonly-ipsec=[\"eth1\"] # mine \"eth9\"\n", "[\"eth1\"]"),
            (
                "gateway.only-ipsec = [ # mine\n  \"eth1\", # \"eth8\"\n\n  \"192.0.2.0/24\",\n]\nx",
                "[\"eth1\", \"192.0.2.0/24\"]",
            ),
            ("[gateway]\nonly-ipsec = [\"eth1\", \"no such thing!\"]\n", "[\"eth1\"]"),
            ("[gateway]\nonly-ipsec = [\"eth1\"\nike = \"any\"\n", "[\"eth1\"]"),
            (
                "only-ipsec = [\"eth1\", \"eth1\"\n[tunnel]\nallow = \"all\"\n",
                "[\"eth1\"]",
            ),
        ] {
            assert_eq!(only_ipsec(text), expected(list), "{text}");
        }
        for text in [
            "",
            "[gateway]\nike = \"anny\"\n",
            "# only-ipsec = [\"eth1\"]\nx",
            "only-ipsec\n",
            "only-ipsec = [\"\"]",
        ] {
            assert_eq!(only_ipsec(text), None, "{text}");
        }
    }
}
