//! Who else uses the bit of the mark that carries the consent of a first tunnel to a second one.

use super::Finding;
use crate::apply::Comparison;
use crate::netfilter::{ChainName, Ruleset};
use crate::selector::MarkBit;
use crate::xfrm::{XfrmPolicy, policies};

/// The options of iptables' matches and targets that name bits of a packet's mark.
const OPTIONS: [&str; 3] = ["--mark", "--set-xmark", "--nfmask"];

const WHY: &str = "the bit is cleared from packets that come out of a tunnel and are forwarded, or that come in by an interface named like a tunnel's";

const FIX: &str = "set mark in [gateway] to a bit that nothing else uses, then: pluto-updown start";

/// Rules that are not ours, and IPsec policies.
pub(super) fn findings(bit: MarkBit, books: &[(Ruleset, Comparison)]) -> Vec<Finding> {
    let rules = books
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
    rules.chain(marked).collect()
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
    policy
        .mark
        .is_some_and(|mark| value_has_bit(bit, mark.value, mark.mask))
}

/// Whether a value beside a mask means the bit. A mask of all bits means no certain one, but where
/// the value has it.
fn value_has_bit(bit: MarkBit, value: u32, mask: u32) -> bool {
    value & bit.mask() != 0 || (mask != u32::MAX && mask & bit.mask() != 0)
}

fn uses(bit: MarkBit, rule: &str) -> bool {
    let words: Vec<_> = rule.split(' ').collect();
    words.windows(2).any(|pair| match pair {
        [option, bits] if OPTIONS.contains(option) => {
            let (value, mask) = bits.split_once('/').unwrap_or((bits, "0xffffffff"));
            let is_mask = *option == "--nfmask";
            let parsed = |text: &str| parse_number(text).unwrap_or_default();
            match is_mask {
                true => value_has_bit(bit, 0, parsed(bits)),
                false => value_has_bit(bit, parsed(value), parsed(mask)),
            }
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
}
