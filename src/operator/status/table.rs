//! A report for people, 80 columns wide.

use std::fmt::Write as _;
use std::time::Duration;

use super::Colours;
use super::gather::{BlockedPair, StatusReport, TrafficCounters as Passed, TunnelStatus};
use crate::netfilter::Counters;
use crate::record::{NameServerMeans, NameUser};
use crate::selector::Traffic;
use crate::settings::{Nat, WhenDown};
use crate::updown_env::Tunnel;
use crate::words::{span, wrapped};

/// How wide each column is; the last three stand at the right of theirs.
const WIDTHS: [usize; 5] = [18, 37, 7, 7, 7];

/// A row: what stands in each column, line by line.
type Row = [Vec<String>; 5];

/// The whole report. With an earlier one it shows what came and went meanwhile, a second.
pub(super) fn text(report: &StatusReport, before: Option<(Duration, &StatusReport)>, colours: Colours) -> String {
    let mut text = String::new();
    if report.tunnels.is_empty() {
        text.push_str("no tunnels\n");
    } else {
        let units = before.map_or(["IN", "OUT", "bytes", "bytes"], |_| ["IN/s", "OUT/s", "bytes", "bytes"]);
        text.push_str(&lines(&header(units)));
    }
    for tunnel in &report.tunnels {
        text.push_str(&lines(&row(report, tunnel, before)));
    }
    for gateway in &report.gateways {
        let since = span(report.now.saturating_sub(gateway.since));
        let _ = writeln!(text, "gateway's own rules, {}: since {since}", gateway.ruleset);
    }
    for apart in &report.blocked {
        text.push_str(&held_apart(report, apart));
    }
    for user in &report.name_users {
        text.push_str(&name_servers(user));
    }
    for problem in &report.problems {
        let line = format!("{} -- mend: {}", problem.text, problem.fix);
        let _ = writeln!(text, "{}", painted(&line, "31", colours));
    }
    let summary = match (report.problems.len(), report.tunnels.len()) {
        (0, tunnels) => painted(&format!("{tunnels} tunnels, all as on record"), "32", colours),
        (problems, tunnels) => format!("{tunnels} tunnels, {problems} things not as they should be"),
    };
    let _ = writeln!(text, "{summary}");
    text
}

/// `held apart: 10.1.0.0/24 - 10.2.0.0/24 (office), since 2h13m, dropped 12 packets`
fn held_apart(report: &StatusReport, apart: &BlockedPair) -> String {
    let record = &apart.record;
    let whose: Vec<_> = record.connections().iter().map(ToString::to_string).collect();
    let whose = match whose.is_empty() {
        true => String::new(),
        false => format!(" ({})", whose.join(", ")),
    };
    let since = span(report.now.saturating_sub(record.since));
    let dropped = apart.dropped.map_or_else(String::new, |counters| {
        format!(", dropped {} packets", short(counters.packets))
    });
    let text = format!(
        "held apart: {} - {}{whose}, since {since}{dropped}",
        record.local, record.remote
    );
    wrapped(&[text], 80).iter().map(|line| format!("{line}\n")).collect()
}

/// `name servers: 10.2.0.53, 10.2.0.54 for example.test (office), in resolv.conf`
fn name_servers(user: &NameUser) -> String {
    let list = |items: Vec<String>| items.join(", ");
    let servers = list(user.servers.iter().map(ToString::to_string).collect());
    let domains = match list(user.domains.iter().map(ToString::to_string).collect()) {
        none if none.is_empty() => none,
        some => format!(" for {some}"),
    };
    let place = match &user.by {
        NameServerMeans::File => "in resolv.conf".to_owned(),
        NameServerMeans::Unbound => "told to unbound".to_owned(),
        NameServerMeans::Link(device) => format!("told to systemd-resolved for {device}"),
    };
    let text = format!("name servers: {servers}{domains} ({}), {place}", user.user.connection);
    wrapped(&[text], 80).iter().map(|line| format!("{line}\n")).collect()
}

fn header([inbound, outbound, ..]: [&str; 4]) -> Row {
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
    [
        words(&["TUNNEL"]),
        words(&["NETWORKS", "peer, what is allowed"]),
        words(&["SINCE", "called"]),
        words(&[inbound, "bytes"]),
        words(&[outbound, "bytes"]),
    ]
}

fn row(report: &StatusReport, tunnel: &TunnelStatus, before: Option<(Duration, &StatusReport)>) -> Row {
    let record = &tunnel.record;
    let earlier = before.and_then(|(passed, report)| {
        let same = |other: &&TunnelStatus| other.ruleset == tunnel.ruleset && other.record.id == record.id;
        Some((passed, report.tunnels.iter().find(same)?.traffic?))
    });
    let ago = |time: u64| span(report.now.saturating_sub(time));
    let numbers = |of: fn(&Passed) -> Counters| match (tunnel.traffic, earlier) {
        (None, _) => vec!["?".to_owned(), "?".to_owned()],
        (Some(now), None) if before.is_none() => amounts(of(&now)),
        (Some(_), None) => vec!["-".to_owned(), "-".to_owned()],
        (Some(now), Some((passed, then))) => amounts(rate(of(&now), of(&then), passed)),
    };
    [
        wrapped(&[record.tunnel.connection.to_string()], WIDTHS[0]),
        wrapped(&middle(tunnel), WIDTHS[1]),
        vec![ago(record.since), tunnel.last_call.map_or_else(|| "?".to_owned(), ago)],
        numbers(|traffic| traffic.inbound),
        numbers(|traffic| traffic.outbound),
    ]
}

/// The networks, the peers that have it up, and what is allowed.
fn middle(tunnel: &TunnelStatus) -> Vec<String> {
    let about = &tunnel.record.tunnel;
    let mut lines = vec![format!("{} - {}", about.local_client, about.remote_client)];
    for (view, _) in tunnel.record.views() {
        let peer = peer(&view);
        if !lines.contains(&peer) {
            lines.push(peer);
        }
    }
    lines.push(format!("allowed: {}", allowed(tunnel)));
    lines
}

/// `192.0.2.2 anna@example.test (anna)`
fn peer(tunnel: &Tunnel) -> String {
    let host = tunnel
        .remote_host
        .map_or_else(|| "%any".to_owned(), |peer| peer.to_string());
    let user = tunnel
        .user
        .as_ref()
        .map_or_else(String::new, |user| format!(" ({user})"));
    format!("{host} {}{user}", tunnel.remote_id).trim_end().to_owned()
}

/// What a tunnel allows and what else is done with its packets, in the words of the settings.
fn allowed(tunnel: &TunnelStatus) -> String {
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

fn amounts(counters: Counters) -> Vec<String> {
    vec![short(counters.packets), short(counters.bytes)]
}

/// A number in at most five characters: `999`, `12.3k`, `1.2M`; by thousands.
fn short(number: u64) -> String {
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

fn lines(row: &Row) -> String {
    let height = row.iter().map(Vec::len).max().unwrap_or_default();
    let mut text = String::new();
    for number in 0..height {
        let mut line = String::new();
        for (column, (cell, width)) in row.iter().zip(WIDTHS).enumerate() {
            let word = cell.get(number).map_or("", String::as_str);
            let _ = match column {
                0 | 1 => write!(line, "{word:<width$} "),
                _ => write!(line, "{word:>width$}"),
            };
        }
        let _ = writeln!(text, "{}", line.trim_end());
    }
    text
}

fn painted(text: &str, colour: &str, colours: Colours) -> String {
    match colours {
        Colours::Wanted => format!("\u{1b}[{colour}m{text}\u{1b}[0m"),
        Colours::Unwanted | Colours::Unknown => text.to_owned(),
    }
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
            assert_eq!(short(number), text);
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
