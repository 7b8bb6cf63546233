//! The most similar valid word.

use std::mem;

/// The longest word that is looked at, in bytes: longer ones are no slip of the hand, and the work
/// grows with the product of two lengths.
const LONGEST: usize = 40;

/// The valid spelling that is nearest to what was written, whether in upper or lower case: at most
/// two letters wrong, left out, too many or swapped (one, in words of up to four letters), or else
/// the only one that begins so.
pub(crate) fn nearest<'a>(written: &str, valid: &[&'a str]) -> Option<&'a str> {
    let written = written.trim().to_ascii_lowercase();
    if !(2..=LONGEST).contains(&written.len()) {
        return None;
    }
    let most_similar = valid
        .iter()
        .map(|word| (distance(written.as_bytes(), word.as_bytes()), *word))
        .filter(|(distance, word)| *distance <= if word.len() > 4 { 2 } else { 1 })
        .min_by_key(|(distance, _)| *distance);
    let mut longer = valid.iter().filter(|word| word.starts_with(&written));
    most_similar
        .map(|(_, word)| word)
        .or_else(|| match (longer.next(), longer.next()) {
            (Some(word), None) => Some(*word),
            (Some(_) | None, _) => None,
        })
}

/// The same among names as they are written: those of people's own things.
#[must_use]
pub(crate) fn nearest_name<'a>(written: &str, names: &'a [String]) -> Option<&'a str> {
    let lower: Vec<_> = names.iter().map(|name| name.to_ascii_lowercase()).collect();
    let lower: Vec<_> = lower.iter().map(String::as_str).collect();
    let word = nearest(written, &lower)?;
    let index = lower.iter().position(|other| *other == word)?;
    names.get(index).map(String::as_str)
}

/// How many letters must be replaced, inserted, deleted or swapped with the next (Damerau and
/// Levenshtein, no letter touched twice).
fn distance(from: &[u8], to: &[u8]) -> usize {
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=to.len()).collect();
    for i in 0..from.len() {
        let mut row = vec![i + 1];
        for j in 0..to.len() {
            let replaced = last[j] + usize::from(from[i] != to[j]);
            let mut least = replaced.min(last[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && from[i] == to[j - 1] && from[i - 1] == to[j] {
                least = least.min(before[j - 1] + 1);
            }
            row.push(least);
        }
        before = mem::replace(&mut last, row);
    }
    last[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_distance_counts_slips_of_the_hand() {
        for (from, to, expected) in [
            ("", "", 0),
            ("allow", "allow", 0),
            ("alow", "allow", 1),
            ("allwo", "allow", 1),
            ("allows", "allow", 1),
            ("allpw", "allow", 1),
            ("nat", "mss", 3),
            ("", "abc", 3),
        ] {
            assert_eq!(distance(from.as_bytes(), to.as_bytes()), expected, "{from} {to}");
            assert_eq!(distance(to.as_bytes(), from.as_bytes()), expected, "{to} {from}");
        }
    }

    #[test]
    fn the_nearest_word_is_one_that_somebody_may_have_meant() {
        let words = ["exempt", "masquerade", "leave", "all", "replies", "refuse"];
        for (written, meant) in [
            ("exemt", Some("exempt")),
            ("EXEMPT", Some("exempt")),
            ("masq", Some("masquerade")),
            ("al", Some("all")),
            ("aall", Some("all")),
            ("ball", Some("all")),
            ("bull", None),
            ("re", None),
            ("x", None),
            ("", None),
            ("something else", None),
        ] {
            assert_eq!(nearest(written, &words), meant, "{written}");
        }
        assert_eq!(nearest(&"a".repeat(100_000), &words), None);
    }
}
