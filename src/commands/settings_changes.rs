//! What `start` would change: tunnels, gateway rules and blocked pairs, for people.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use serde_json::{Map, Value};

use crate::apply::Change;
use crate::netfilter::Ruleset;
use crate::settings::{Allow, Gateway, Policy};
use crate::state::Record;
use crate::words::counted_noun;

/// What `start` would change, in every ruleset.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct SettingsChanges {
    /// How many tunnels get another policy, by what changes in it.
    policies: BTreeMap<String, usize>,
    /// Tunnels whose rules change for another reason: a route's MTU, an address of the gateway's.
    rules_only: usize,
    /// Tunnels whose rules another iptables installed before.
    moved: usize,
    /// Tunnels that are restricted now, and would not be.
    opened: usize,
    /// How many gateways' rules are installed, removed and replaced.
    gateways: Replaced,
    /// The keys of `[gateway]` that change, if what was set before is known.
    gateway_keys: Vec<String>,
    /// How many pairs of networks are blocked, unblocked, and blocked with other rules.
    blocked: Replaced,
}

/// A record and its ruleset.
type Placed<'r> = (Ruleset, &'r Record);

/// How many records are added, removed, or replaced.
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
    /// Counts the records that these changes add, remove and replace.
    pub(super) fn from_changes(changes: &[Change]) -> Self {
        let mut sum = Self::default();
        // By family: what one backend loses the other one may get.
        let mut pairs: BTreeMap<_, (Option<Placed<'_>>, Option<Placed<'_>>)> = BTreeMap::new();
        for change in changes {
            let ruleset = change.ruleset;
            for record in &change.removed {
                pairs.entry((ruleset.family, record.id())).or_default().0 = Some((ruleset, record));
            }
            for record in &change.added {
                pairs.entry((ruleset.family, record.id())).or_default().1 = Some((ruleset, record));
            }
        }
        for (before, after) in pairs.into_values() {
            let is_moved = before.zip(after).is_some_and(|((old, _), (new, _))| old != new);
            let [before, after] = [before, after].map(|placed| placed.map(|(_, record)| record));
            sum.add_change(before, after, is_moved);
        }
        sum
    }

    fn add_change(&mut self, before: Option<&Record>, after: Option<&Record>, is_moved: bool) {
        match (before, after) {
            (Some(Record::Tunnel(old)), Some(Record::Tunnel(new))) => {
                let (old, new) = (old.effective_policy(), new.effective_policy());
                self.opened += usize::from(old.restricts() && !new.restricts());
                let differences = differences(old, new);
                match differences.is_empty() {
                    true if is_moved => self.moved += 1,
                    true => self.rules_only += 1,
                    false => *self.policies.entry(differences.join(", ")).or_default() += 1,
                }
            }
            (Some(Record::Gateway(_)), _) | (_, Some(Record::Gateway(_))) => self.gateways.count_change(before, after),
            (Some(Record::ClearTextBlock(_)), _) | (_, Some(Record::ClearTextBlock(_))) => {
                self.blocked.count_change(before, after);
            }
            // Counted with its tunnel or with the gateway.
            (Some(Record::EspPeer(_)), _) | (_, Some(Record::EspPeer(_))) => {}
            (Some(Record::Tunnel(_)), None) | (None, Some(Record::Tunnel(_)) | None) => {}
        }
    }

    /// The same with the keys of `[gateway]` that change, where it is known what was set before.
    pub(super) fn with_gateway(self, old: &Gateway, new: &Gateway) -> Self {
        Self {
            gateway_keys: differing(&values(old), &values(new)),
            ..self
        }
    }

    /// Whether gateway rules change.
    pub(super) fn has_gateways(&self) -> bool {
        self.gateways != Replaced::default()
    }

    /// How many tunnels change.
    pub(super) fn tunnels(&self) -> usize {
        self.policies.values().sum::<usize>() + self.rules_only + self.moved
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
        if self.moved > 0 {
            let tunnels = counted_noun(self.moved, "tunnel");
            lines.push(format!("{tunnels}: to install with the present iptables"));
        }
        let Replaced {
            added,
            removed,
            changed,
        } = self.gateways;
        for (number, word) in [(added, "to install"), (removed, "to remove"), (changed, "to change")] {
            match self.gateway_keys.is_empty() {
                _ if number == 0 => {}
                true => lines.push(format!("gateway rules: {word}")),
                false => lines.push(format!("gateway rules: {word}: {}", self.gateway_keys.join(", "))),
            }
        }
        let Replaced {
            added,
            removed,
            changed,
        } = self.blocked;
        for (number, word) in [
            (added, "to block"),
            (removed, "to unblock"),
            (changed, "to block by new rules"),
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
    let [old, new] = [old, new].map(|policy| {
        let mut values = values(policy);
        values.remove("allow");
        values
    });
    words.extend(differing(&old, &new));
    words
}

/// The keys with other values, with both: `icmp safe -> leave`.
fn differing(old: &Map<String, Value>, new: &Map<String, Value>) -> Vec<String> {
    let keys: BTreeSet<_> = old.keys().chain(new.keys()).collect();
    let keys = keys.into_iter().filter(|key| old.get(*key) != new.get(*key));
    let words = keys.map(|key| {
        let [old, new] = [old, new].map(|values| value_text(values.get(key)));
        format!("{} {old} -> {new}", key.replace('_', "-"))
    });
    words.collect()
}

/// The added and removed services, if both values are lists: `+tcp/443 -ping`.
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

fn values(keys: &impl Serialize) -> Map<String, Value> {
    match serde_json::to_value(keys) {
        Ok(Value::Object(values)) => values,
        // Both tables of the settings are objects.
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
    fn what_changes_for_the_gateway_is_said_in_the_words_of_the_settings() {
        let gateway = |text: &str| Settings::parse(&format!("[gateway]\n{text}")).unwrap().gateway;
        for (old, new, words) in [
            ("", "place = \"last\"\nmark = \"0x10\"", &[][..]),
            ("icmp = \"safe\"", "", &["icmp safe -> leave"]),
            (
                "ike = \"any\"\nesp = \"negotiated\"",
                "ike = \"known\"\npeers = [\"192.0.2.7\"]",
                &[
                    "esp negotiated -> leave",
                    "ike any -> known",
                    "peers [] -> [\"192.0.2.7/32\"]",
                ],
            ),
            (
                "through = [\"10.0.0.0/8\"]\nonly-ipsec = [\"ppp+\"]",
                "through = \"deny\"\ninner-only = [\"l2tp\"]",
                &[
                    "inner-only [] -> [\"l2tp\"]",
                    "only-ipsec [\"ppp+\"] -> []",
                    "through [\"10.0.0.0/8\"] -> deny",
                ],
            ),
        ] {
            assert_eq!(
                differing(&values(&gateway(old)), &values(&gateway(new))),
                words,
                "{old} / {new}"
            );
        }
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
