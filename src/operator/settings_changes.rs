//! What `start` would change: tunnels, gateway rules and blocked pairs, for people.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use crate::apply::Change;
use crate::record::Record;
use crate::settings::{Allow, Policy};
use crate::words::counted_noun;

/// What `start` would change, in every ruleset.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct SettingsChanges {
    /// How many tunnels get another policy, by what changes in it.
    policies: BTreeMap<String, usize>,
    /// Tunnels whose rules change for another reason: a route's MTU, an address of the gateway's.
    rules_only: usize,
    /// Tunnels that are restricted now, and would not be.
    opened: usize,
    /// How many gateways' rules are installed, removed and replaced.
    gateways: Replaced,
    /// How many pairs of networks are blocked, unblocked, and blocked in another way.
    blocked: Replaced,
}

/// How many things come, go, or become others.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Replaced {
    added: usize,
    removed: usize,
    changed: usize,
}

impl Replaced {
    fn count_change(&mut self, before: Option<&Record>, after: Option<&Record>) {
        match (before, after) {
            (Some(_), Some(_)) => self.changed += 1,
            (Some(_), None) => self.removed += 1,
            (None, _) => self.added += 1,
        }
    }
}

impl SettingsChanges {
    /// Adds up what these changes come to.
    pub(super) fn from_changes(changes: &[Change]) -> Self {
        let mut sum = Self::default();
        for change in changes {
            let mut pairs: BTreeMap<_, (Option<&Record>, Option<&Record>)> = BTreeMap::new();
            for record in &change.removed {
                pairs.entry(record.id()).or_default().0 = Some(record);
            }
            for record in &change.added {
                pairs.entry(record.id()).or_default().1 = Some(record);
            }
            for (before, after) in pairs.into_values() {
                sum.add_change(before, after);
            }
        }
        sum
    }

    fn add_change(&mut self, before: Option<&Record>, after: Option<&Record>) {
        match (before, after) {
            (Some(Record::Tunnel(old)), Some(Record::Tunnel(new))) => {
                let (old, new) = (old.effective_policy(), new.effective_policy());
                self.opened += usize::from(old.restricts() && !new.restricts());
                let differences = differences(old, new);
                match differences.is_empty() {
                    true => self.rules_only += 1,
                    false => *self.policies.entry(differences.join(", ")).or_default() += 1,
                }
            }
            (Some(Record::Gateway(_)), _) | (_, Some(Record::Gateway(_))) => self.gateways.count_change(before, after),
            (Some(Record::ClearTextBlock(_)), _) | (_, Some(Record::ClearTextBlock(_))) => {
                self.blocked.count_change(before, after);
            }
            // A part of the gateway's and of its tunnel.
            (Some(Record::EspPeer(_)), _) | (_, Some(Record::EspPeer(_))) => {}
            (Some(Record::Tunnel(_)), None) | (None, Some(Record::Tunnel(_)) | None) => {}
        }
    }

    /// How many tunnels change.
    pub(super) fn tunnels(&self) -> usize {
        self.policies.values().sum::<usize>() + self.rules_only
    }

    /// A line for each kind of change.
    pub(super) fn change_lines(&self) -> Vec<String> {
        let policies = self.policies.iter();
        let mut lines: Vec<_> = policies
            .map(|(what, tunnels)| format!("{}: {what}", counted_noun(*tunnels, "tunnel")))
            .collect();
        if self.rules_only > 0 {
            lines.push(format!(
                "{}: new rules, same policy",
                counted_noun(self.rules_only, "tunnel")
            ));
        }
        let Replaced {
            added,
            removed,
            changed,
        } = self.gateways;
        for (number, word) in [(added, "installed"), (removed, "removed"), (changed, "changed")] {
            if number > 0 {
                lines.push(format!("gateway rules: {word}"));
            }
        }
        let Replaced {
            added,
            removed,
            changed,
        } = self.blocked;
        for (number, word) in [
            (added, "blocked"),
            (removed, "unblocked"),
            (changed, "blocked by new rules"),
        ] {
            if number > 0 {
                lines.push(format!("{} of networks: {word}", counted_noun(number, "pair")));
            }
        }
        lines
    }

    /// What would be allowed that is not allowed now; nothing, if that is nothing.
    pub(super) fn openings(&self) -> Option<String> {
        let mut words = Vec::new();
        if self.opened > 0 {
            words.push(format!("{} would become \"all\"", counted_noun(self.opened, "tunnel")));
        }
        if self.gateways.removed > 0 {
            words.push("gateway rules removed".to_owned());
        }
        if self.blocked.removed > 0 {
            words.push(format!("{} unblocked", counted_noun(self.blocked.removed, "pair")));
        }
        (!words.is_empty()).then(|| words.join(", "))
    }
}

/// The keys in which two policies differ, named as in the settings file, with both values.
fn differences(old: &Policy, new: &Policy) -> Vec<String> {
    let mut words: Vec<_> = match service_changes(&old.allow, &new.allow) {
        Some(services) => vec![format!("allow {services}")],
        None if old.allow == new.allow => Vec::new(),
        None => vec![format!("allow {} -> {}", old.allow, new.allow)],
    };
    let (old, new) = (values(old), values(new));
    let keys: BTreeSet<_> = old.keys().chain(new.keys()).filter(|key| *key != "allow").collect();
    for key in keys {
        if old.get(key) != new.get(key) {
            let [old, new] = [&old, &new].map(|policy| value_text(policy.get(key)));
            words.push(format!("{} {old} -> {new}", key.replace('_', "-")));
        }
    }
    words
}

/// The services of a list that go and come, if both are lists: `+tcp/443 -ping`.
fn service_changes(old: &Allow, new: &Allow) -> Option<String> {
    let (Allow::Services(old), Allow::Services(new)) = (old, new) else {
        return None;
    };
    let added = new.iter().filter(|service| !old.contains(service));
    let removed = old.iter().filter(|service| !new.contains(service));
    let words = added.map(|service| format!("+{service}"));
    let words: Vec<_> = words.chain(removed.map(|service| format!("-{service}"))).collect();
    (!words.is_empty()).then(|| words.join(" "))
}

fn values(policy: &Policy) -> Map<String, Value> {
    match serde_json::to_value(policy) {
        Ok(Value::Object(values)) => values,
        // A policy is always an object.
        Ok(_) | Err(_) => Map::new(),
    }
}

fn value_text(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => "unset".to_owned(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Settings;

    fn policy(text: &str) -> Policy {
        Settings::parse(&format!("[tunnel]\n{text}")).unwrap().tunnel
    }

    #[test]
    fn what_changes_in_a_policy_is_said_in_the_words_of_the_settings() {
        for (old, new, words) in [
            ("", "", &[][..]),
            ("", "allow = \"replies\"", &["allow all -> replies"]),
            (
                "allow = [\"tcp/22\", \"ping\"]",
                "allow = [\"tcp/22\", \"tcp/443\"]",
                &["allow +tcp/443 -ping"],
            ),
            ("allow = [\"tcp/22\"]", "", &["allow tcp/22 -> all"]),
            (
                "when-down = \"block\"",
                "host-access = \"no\"",
                &["host-access auto -> no", "when-down block -> leave"],
            ),
            ("", "chain = \"mine\"", &["chain unset -> mine"]),
        ] {
            assert_eq!(differences(&policy(old), &policy(new)), words, "{old} / {new}");
        }
    }
}
