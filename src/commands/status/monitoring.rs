//! A report for monitoring systems: Prometheus' text format, and a line for Nagios.

use std::fmt::Write as _;

use super::gather::{StatusReport, TrafficCounters, TunnelStatus};
use super::problem::Severity;
use super::report::summary;
use crate::words::counted_noun;

/// Metrics in Prometheus' text exposition format 0.0.4, as node_exporter's textfile collector reads
/// them.
pub(super) fn prometheus(report: &StatusReport) -> String {
    let mut text = String::new();
    let mut family = |name: &str, kind: &str, help: &str, samples: Vec<(String, u64)>| {
        // Writing into a String cannot fail.
        let _ = writeln!(
            text,
            "# HELP pluto_updown_{name} {help}\n# TYPE pluto_updown_{name} {kind}"
        );
        for (labels, value) in samples {
            let _ = writeln!(text, "pluto_updown_{name}{labels} {value}");
        }
    };
    let version = labels(&[("version", env!("CARGO_PKG_VERSION"))]);
    family("info", "gauge", "The version of the program.", vec![(version, 1)]);
    let ok = u64::from(report.is_ok());
    family(
        "ok",
        "gauge",
        "1 if everything is as recorded and set.",
        vec![(String::new(), ok)],
    );
    let problems = [Severity::Error, Severity::Unknown, Severity::Note].map(|severity| {
        let number = report
            .problems
            .iter()
            .filter(|problem| problem.severity == severity)
            .count();
        (labels(&[("severity", severity.word())]), number as u64)
    });
    family("problems", "gauge", "Problems, by severity.", problems.to_vec());
    let tunnels = vec![(String::new(), report.tunnels.len() as u64)];
    family("tunnels", "gauge", "Tunnels that are up and have rules.", tunnels);
    let without_rules = vec![(String::new(), report.without_rules.len() as u64)];
    family(
        "tunnels_without_rules",
        "gauge",
        "Tunnels that are up and have no rules.",
        without_rules,
    );
    if let Some(applied) = report.settings.applied {
        let applied = vec![(String::new(), u64::from(applied))];
        family(
            "settings_applied",
            "gauge",
            "1 if the settings file is applied.",
            applied,
        );
    }
    let since = report
        .tunnels
        .iter()
        .map(|tunnel| (tunnel_labels(tunnel), tunnel.record.since));
    family(
        "tunnel_up_since_seconds",
        "gauge",
        "When the tunnel came up, in seconds since 1970.",
        since.collect(),
    );
    for (name, help, of) in TRAFFIC {
        let sample = |tunnel: &TunnelStatus| Some((tunnel_labels(tunnel), of(tunnel.traffic.as_ref()?)));
        family(
            name,
            "counter",
            help,
            report.tunnels.iter().filter_map(sample).collect(),
        );
    }
    let dropped = report.blocked.iter().filter_map(|pair| {
        let (local, remote) = (pair.record.local.to_string(), pair.record.remote.to_string());
        let labels = labels(&[("local_network", &local), ("remote_network", &remote)]);
        Some((labels, pair.dropped?.packets))
    });
    family(
        "blocked_dropped_packets_total",
        "counter",
        "Unencrypted packets dropped between blocked networks.",
        dropped.collect(),
    );
    text
}

type Amount = fn(&TrafficCounters) -> u64;

const TRAFFIC: [(&str, &str, Amount); 4] = [
    ("tunnel_receive_bytes_total", "Bytes out of the tunnel.", |traffic| {
        traffic.inbound.bytes
    }),
    (
        "tunnel_receive_packets_total",
        "Packets out of the tunnel.",
        |traffic| traffic.inbound.packets,
    ),
    ("tunnel_transmit_bytes_total", "Bytes into the tunnel.", |traffic| {
        traffic.outbound.bytes
    }),
    ("tunnel_transmit_packets_total", "Packets into the tunnel.", |traffic| {
        traffic.outbound.packets
    }),
];

fn tunnel_labels(tunnel: &TunnelStatus) -> String {
    let record = &tunnel.record;
    let user = record.tunnel.user.as_ref().map_or("", |user| user.as_str());
    labels(&[
        ("id", record.id.as_str()),
        ("connection", record.key.connection.as_str()),
        ("user", user),
        ("remote_network", &record.key.remote_client.to_string()),
        ("ruleset", &tunnel.ruleset.to_string()),
    ])
}

/// `{name="value",...}`. All values are printable ASCII; a backslash and a quote are escaped.
fn labels(labels: &[(&str, &str)]) -> String {
    let escaped = |value: &str| value.replace('\\', "\\\\").replace('"', "\\\"");
    let labels: Vec<_> = labels
        .iter()
        .map(|(name, value)| format!("{name}=\"{}\"", escaped(value)))
        .collect();
    format!("{{{}}}", labels.join(","))
}

/// A line as plugins for Nagios print it, and their exit status: 0 OK, 1 WARNING, 2 CRITICAL, 3
/// UNKNOWN.
pub(super) fn nagios(report: &StatusReport) -> (String, u8) {
    let (word, code) = if report.has(Severity::Error) {
        ("CRITICAL", 2)
    } else if report.has(Severity::Unknown) {
        ("UNKNOWN", 3)
    } else if report.has(Severity::Note) {
        ("WARNING", 1)
    } else {
        ("OK", 0)
    };
    let summary = summary(report);
    let (_, summary) = summary.split_once(": ").unwrap_or(("", &summary));
    let mut bad: Vec<_> = report.problems.iter().collect();
    bad.sort_by_key(|problem| problem.severity);
    let first = bad
        .first()
        .map_or_else(String::new, |problem| format!(": {}", problem.text));
    let notes = match code {
        1 => format!(", {}", counted_noun(bad.len(), "note")),
        _ => String::new(),
    };
    // A bar begins the performance data.
    let text = format!("{summary}{notes}{first}").replace('|', "/");
    let sum = |of: Amount| {
        let amounts = report
            .tunnels
            .iter()
            .filter_map(|tunnel| tunnel.traffic.as_ref())
            .map(of);
        amounts.fold(0, u64::saturating_add)
    };
    let errors = report
        .problems
        .iter()
        .filter(|problem| problem.severity != Severity::Note)
        .count();
    let data = format!(
        "tunnels={};;;0 problems={errors};;;0 received={}c sent={}c blocked={};;;0",
        report.tunnels.len(),
        sum(|traffic| traffic.inbound.bytes),
        sum(|traffic| traffic.outbound.bytes),
        report.blocked.len()
    );
    (format!("PLUTO-UPDOWN {word} - {text} | {data}\n"), code)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::fix::Fix;
    use crate::commands::status::problem::{Problem, ProblemKind};

    fn with(severities: &[Severity]) -> StatusReport {
        let problem = |severity: &Severity| Problem::new(*severity, ProblemKind::Stale, "a | b", Fix::PRUNE);
        StatusReport {
            problems: severities.iter().map(problem).collect(),
            ..StatusReport::default()
        }
    }

    #[test]
    fn nagios_gets_the_worst_and_one_bar() {
        for (severities, word, code) in [
            (&[][..], "OK", 0),
            (&[Severity::Note], "WARNING", 1),
            (&[Severity::Note, Severity::Error, Severity::Unknown], "CRITICAL", 2),
            (&[Severity::Note, Severity::Unknown], "UNKNOWN", 3),
        ] {
            let (line, found) = nagios(&with(severities));
            assert_eq!(found, code, "{line}");
            assert!(line.starts_with(&format!("PLUTO-UPDOWN {word} - ")), "{line}");
            assert_eq!((line.matches('|').count(), line.lines().count()), (1, 1), "{line}");
        }
    }

    #[test]
    fn a_label_can_hold_anything_printable() {
        assert_eq!(labels(&[("a", "b\\x1b\"c")]), "{a=\"b\\\\x1b\\\"c\"}");
    }

    #[test]
    fn every_metric_has_help_and_a_type() {
        let text = prometheus(&with(&[Severity::Error]));
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let name = line.split(['{', ' ']).next().unwrap();
            assert!(text.contains(&format!("# TYPE {name} ")), "{line}");
            assert!(text.contains(&format!("# HELP {name} ")), "{line}");
        }
        assert!(text.contains("pluto_updown_ok 0\n"), "{text}");
        assert!(text.contains("pluto_updown_problems{severity=\"error\"} 1\n"), "{text}");
    }
}
