//! Who else uses the bit of the mark that carries the consent of a first tunnel to a second one.

use std::collections::BTreeSet;
use std::path::Path;

use super::Finding;
use super::configuration::{assignments, config_files};
use crate::apply::Comparison;
use crate::net::{Interface, Mark, MarkBit};
use crate::netfilter::{ChainName, Ruleset};
use crate::netlink::xfrm::{XfrmPolicy, policies};
use crate::netlink::{interface_names, marked_rules};
use crate::state::Record;

/// The options of iptables' matches and targets that name bits of a packet's mark.
const OPTIONS: [&str; 4] = ["--mark", "--set-xmark", "--nfmask", "--tproxy-mark"];

/// The keys that set marks in a daemon's file: ipsec.conf(5) of libreswan and strongSwan,
/// swanctl.conf(5).
const KEYS: [&str; 7] = [
    "mark",
    "mark-in",
    "mark-out",
    "mark_in",
    "mark_out",
    "set_mark_in",
    "set_mark_out",
];

const WHY: &str = "the bit is cleared from packets that come out of a tunnel and are forwarded, or that come in by an interface named like a tunnel's";

const FIX: &str = "set mark in [gateway] to a bit that nobody uses, then pluto-updown start";

/// Other programs' rules, IPsec policies, and policy rules of routing.
pub(super) fn findings(bit: MarkBit, ruleset_views: &[(Ruleset, Comparison)]) -> Vec<Finding> {
    let rules = ruleset_views
        .iter()
        .flat_map(|(ruleset, comparison)| rules(bit, *ruleset, comparison));
    let policies = policies().unwrap_or_default();
    let marked = policies.iter().find(|policy| is_marked(bit, policy)).map(|policy| {
        Finding::note_finding(
            format_args!(
                "the IPsec policy {} - {} asks for bit {bit} of the mark",
                policy.source, policy.destination
            ),
            WHY,
            FIX,
        )
    });
    let routing = marked_rules().unwrap_or_default().into_iter();
    let routing = routing.filter(|rule| uses_bit(bit, rule.mark)).map(|rule| {
        Finding::note_finding(
            format_args!(
                "ip rule: {}: fwmark {} uses bit {bit} of the mark",
                rule.priority, rule.mark
            ),
            WHY,
            FIX,
        )
    });
    rules.chain(marked).chain(routing).collect()
}

/// Marks in the files of daemons that have the bit.
pub(super) fn of_daemons(bit: MarkBit, root: &Path) -> Vec<Finding> {
    let files = config_files(root).into_iter();
    files.flat_map(|(file, text)| of_file(bit, &file, &text)).collect()
}

/// `%unique` and the like are no marks, and are counted from 1 on.
fn of_file(bit: MarkBit, file: &Path, text: &str) -> Vec<Finding> {
    let named = assignments(text).filter(|(_, (key, _))| KEYS.contains(key));
    let marks = named.filter_map(|(line, (key, value))| {
        let mark: Mark = value.trim_matches(['"', '\'']).parse().ok()?;
        Some((line, key, mark))
    });
    marks
        .filter(|(.., mark)| uses_bit(bit, *mark))
        .map(|(line, key, mark)| {
            Finding::note_finding(
                format_args!("{}:{line}: {key} = {mark} uses bit {bit} of the mark", file.display()),
                WHY,
                FIX,
            )
        })
        .collect()
}

/// Interfaces that are named like a tunnel's, and are none.
pub(super) fn interfaces(bit: MarkBit, ruleset_views: &[(Ruleset, Comparison)]) -> Vec<Finding> {
    let records = ruleset_views.iter().flat_map(|(_, comparison)| &comparison.entries);
    let of_tunnels: BTreeSet<_> = records.filter_map(interface).collect();
    let names = interface_names().unwrap_or_default();
    named_alike(&of_tunnels, &names)
        .into_iter()
        .map(|(name, tunnels)| {
            Finding::note_finding(
                format_args!("the interface {name} is named like {tunnels}, a tunnel's, and is no tunnel's"),
                &format!(
                    "your own rules decide about packets that leave a tunnel by it, and bit {bit} of the mark is cleared from packets that come in by it"
                ),
                "nothing, if that is meant; otherwise give one of them another name",
            )
        })
        .collect()
}

fn interface(record: &Record) -> Option<&Interface> {
    record.tunnel_rules().interface.as_ref()
}

/// Those of these names that fit the wildcard of a tunnel's interface and are not a tunnel's, each
/// with one that it is named like.
fn named_alike<'a>(
    of_tunnels: &BTreeSet<&'a Interface>,
    names: &'a [Interface],
) -> Vec<(&'a Interface, &'a Interface)> {
    let others = names.iter().filter(|name| !of_tunnels.contains(name));
    let alike = |name: &&'a Interface| {
        let mut tunnels = of_tunnels.iter();
        let tunnels = tunnels.find(|tunnels| tunnels.wildcard().fits(name))?;
        Some((*name, *tunnels))
    };
    others.filter_map(|name| alike(&name)).collect()
}

fn rules(bit: MarkBit, ruleset: Ruleset, comparison: &Comparison) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (table, saved) in comparison.saved.tables() {
        let others = saved.chains().filter(|(name, _)| name.parse::<ChainName>().is_err());
        for (chain, rule) in others.flat_map(|(name, rules)| rules.iter().map(move |rule| (name, rule))) {
            if uses(bit, &rule.text) {
                findings.push(Finding::note_finding(
                    format_args!("{ruleset} {table}: -A {chain} {} uses bit {bit} of the mark", rule.text),
                    WHY,
                    FIX,
                ));
            }
        }
    }
    findings
}

fn is_marked(bit: MarkBit, policy: &XfrmPolicy) -> bool {
    policy.mark.is_some_and(|mark| uses_bit(bit, mark))
}

/// Whether a mark means the bit. A mask of all bits means no certain one, but where the value has
/// it.
fn uses_bit(bit: MarkBit, mark: Mark) -> bool {
    mark.value & bit.mask() != 0 || (mark.mask != u32::MAX && mark.mask & bit.mask() != 0)
}

fn uses(bit: MarkBit, rule: &str) -> bool {
    let words: Vec<_> = rule.split(' ').collect();
    words.windows(2).any(|pair| match pair {
        [option, bits] if OPTIONS.contains(option) => {
            let (value, mask) = bits.split_once('/').unwrap_or((bits, "0xffffffff"));
            let parsed = |text: &str| parse_number(text).unwrap_or_default();
            let [value, mask] = match *option {
                "--nfmask" => [0, parsed(bits)],
                _ => [parsed(value), parsed(mask)],
            };
            uses_bit(bit, Mark { value, mask })
        }
        _ => false,
    })
}

fn parse_number(text: &str) -> Option<u32> {
    match text.strip_prefix("0x") {
        Some(digits) => u32::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_uses_the_bit_that_it_sets_or_asks_for_beside_others() {
        let used = |rule| uses(MarkBit::DEFAULT, rule);
        for rule in [
            "-i eth0 -j MARK --set-xmark 0x10000000/0x10000000",
            "-j MARK --set-xmark 0x10000000/0xffffffff",
            "-m mark --mark 0x10000000",
            "-m mark ! --mark 0x0/0xffff0000 -j ACCEPT",
            "-j CONNMARK --restore-mark --nfmask 0xff000000 --ctmask 0xff000000",
            "-p tcp -j TPROXY --on-port 3128 --on-ip 0.0.0.0 --tproxy-mark 0x10000000/0x10000000",
        ] {
            assert!(used(rule), "{rule}");
        }
        for rule in [
            "-m mark --mark 0x5 -j ACCEPT",
            "-j MARK --set-xmark 0x1/0xffffffff",
            "-j CONNMARK --restore-mark --nfmask 0xffffffff --ctmask 0xffffffff",
            "-m mark --mark 0x4000/0x4000 -j MASQUERADE",
            "-m comment --comment 0x10000000 -j DROP",
        ] {
            assert!(!used(rule), "{rule}");
        }
    }

    #[test]
    fn a_mark_of_a_daemon_that_has_the_bit_is_found_with_its_line() {
        let found = |text: &str| {
            let findings = of_file(MarkBit::DEFAULT, Path::new("/f"), text);
            findings.into_iter().map(|finding| finding.what).collect::<Vec<_>>()
        };
        assert_eq!(
            found("conn a\n\tmark=0x10000005/0xffffffff\n  mark-in=5/0xf0000000 # mine\n"),
            [
                "/f:2: mark = 0x10000005/0xffffffff uses bit 0x10000000 of the mark",
                "/f:3: mark-in = 0x5/0xf0000000 uses bit 0x10000000 of the mark"
            ]
        );
        for key in ["mark_in", "mark_out", "set_mark_in", "set_mark_out"] {
            let text = format!("x {{\n  {key} = 268435456/0x10000000\n}}\n");
            assert_eq!(found(&text).len(), 1, "{key}");
        }
        for text in [
            "mark=5",
            "mark=-1/0xffffffff",
            "mark_in = %unique",
            "#mark=0x10000000",
            "marker=0x10000000",
            "mark=0x20000000/0x20000000",
        ] {
            assert_eq!(found(text), [""; 0], "{text}");
        }
    }

    #[test]
    fn an_interface_named_like_a_tunnels_is_reported_and_the_tunnels_own_are_not() {
        let names = ["lo", "eth0", "vti1", "vti02", "vti9", "tunnel", "tunnels"].map(|name| name.parse().unwrap());
        let tunnels: BTreeSet<_> = [&names[2], &names[3], &names[5]].into();
        assert_eq!(named_alike(&tunnels, &names), [(&names[4], &names[3])]);
        assert_eq!(named_alike(&BTreeSet::new(), &names), []);
    }
}
