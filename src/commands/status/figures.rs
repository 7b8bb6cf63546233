//! Numbers and words of a report, for people.

use std::time::Duration;

use super::gather::{StatusReport, TrafficCounters, TunnelStatus};
use crate::net::Traffic;
use crate::netfilter::Counters;
use crate::settings::{Nat, WhenDown};

/// An earlier report, and how long ago it was.
pub(super) type Earlier<'a> = (Duration, &'a StatusReport);

/// What a tunnel has received and sent: since it is up, or a second since an earlier report;
/// nothing, where that is not known.
pub(super) fn traffic(tunnel: &TunnelStatus, earlier: Option<Earlier<'_>>) -> Option<TrafficCounters> {
    let now = tunnel.traffic?;
    let Some((passed, report)) = earlier else {
        return Some(now);
    };
    let is_same = |other: &&TunnelStatus| other.ruleset == tunnel.ruleset && other.record.id == tunnel.record.id;
    let then = report.tunnels.iter().find(is_same)?.traffic?;
    Some(TrafficCounters {
        inbound: rate(now.inbound, then.inbound, passed),
        outbound: rate(now.outbound, then.outbound, passed),
    })
}

fn rate(now: Counters, then: Counters, passed: Duration) -> Counters {
    let millis = passed.as_millis().max(1);
    let each = |now: u64, then: u64| {
        let per_second = u128::from(now.saturating_sub(then)) * 1000 / millis;
        u64::try_from(per_second).unwrap_or(u64::MAX)
    };
    Counters {
        packets: each(now.packets, then.packets),
        bytes: each(now.bytes, then.bytes),
    }
}

/// A number in at most five characters: `999`, `12.3k`, `1.2M`; by thousands.
pub(super) fn short_number(number: u64) -> String {
    let mut unit = 1_u64;
    for letter in ["", "k", "M", "G", "T", "P"] {
        let whole = number / unit;
        if whole < 1000 {
            let tenth = number % unit / (unit / 10).max(1);
            return match (letter, whole) {
                ("", whole) => whole.to_string(),
                (letter, whole @ 0..100) => format!("{whole}.{tenth}{letter}"),
                (letter, whole) => format!("{whole}{letter}"),
            };
        }
        unit = unit.saturating_mul(1000);
    }
    format!("{}E", number / 1_000_000_000_000_000_000)
}

/// What a tunnel allows and what else is done with its packets, in the words of the settings.
pub(super) fn allowed(tunnel: &TunnelStatus) -> String {
    let (policy, traffic) = (tunnel.record.effective_policy(), &tunnel.record.key.traffic);
    let mut words = vec![policy.allow.to_string()];
    match traffic {
        Traffic::Any => {}
        Traffic::Protocol(_) | Traffic::Ports { .. } | Traffic::Icmp(_) => words.push(format!("of {traffic}")),
    }
    match policy.nat {
        Nat::Exempt => {}
        Nat::Leave => words.push("nat leave".to_owned()),
        Nat::Masquerade => words.push("nat masquerade".to_owned()),
        Nat::Address(address) => words.push(format!("nat {address}")),
    }
    match policy.when_down {
        WhenDown::Leave => {}
        WhenDown::Block => words.push("when-down block".to_owned()),
    }
    words.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        for (number, text) in [
            (0, "0"),
            (999, "999"),
            (1000, "1.0k"),
            (12_345, "12.3k"),
            (123_456, "123k"),
            (1_250_000, "1.2M"),
            (u64::MAX, "18E"),
        ] {
            assert_eq!(short_number(number), text);
        }
    }

    #[test]
    fn a_rate_is_what_came_meanwhile_a_second_and_none_after_a_reset() {
        let counters = |packets, bytes| Counters { packets, bytes };
        let passed = Duration::from_millis(2000);
        assert_eq!(rate(counters(30, 3000), counters(10, 1000), passed), counters(10, 1000));
        assert_eq!(rate(counters(3, 3), counters(10, 1000), passed), counters(0, 0));
    }
}
