//! Everything about each tunnel, in some lines.

use super::figures::{Earlier, allowed, short_number, traffic};
use super::gather::{StatusReport, TrafficCounters, TunnelStatus};
use crate::daemon::Tunnel;
use crate::netfilter::Counters;
use crate::words::duration_text;

/// The lines of one tunnel. A network or an address is on one line, however long it is.
pub(super) fn tunnel_block(report: &StatusReport, tunnel: &TunnelStatus, earlier: Option<Earlier<'_>>) -> Vec<String> {
    let record = &tunnel.record;
    let about = &record.tunnel;
    let ago = |time: u64| duration_text(report.now.saturating_sub(time));
    let mut lines = vec![format!("{} ({}, {})", about.connection, record.id, tunnel.ruleset)];
    let mut add = |heading: &str, text: String| lines.push(format!("    {heading:<10}{text}"));
    add("networks", format!("{} - {}", about.local_client, about.remote_client));
    let mut peers = Vec::new();
    for (view, _) in record.opener_views() {
        let peer = peer(&view);
        if !peers.contains(&peer) {
            add("peer", peer.clone());
            peers.push(peer);
        }
    }
    add("allowed", allowed(tunnel));
    let called = tunnel.last_call.map_or_else(|| "?".to_owned(), ago);
    add("up", format!("{}, last call {called} ago", ago(record.since)));
    let per_second = if earlier.is_some() { " a second" } else { "" };
    let amount = |of: fn(&TrafficCounters) -> Counters| match traffic(tunnel, earlier) {
        None => "unknown".to_owned(),
        Some(traffic) => {
            let Counters { packets, bytes } = of(&traffic);
            format!(
                "{}B, {} packets{per_second}",
                short_number(bytes),
                short_number(packets)
            )
        }
    };
    add("received", amount(|traffic| traffic.inbound));
    add("sent", amount(|traffic| traffic.outbound));
    let policy = match tunnel.policy_present {
        Some(true) => "in the kernel",
        Some(false) => "not in the kernel",
        None => "not known",
    };
    add("policy", policy.to_owned());
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
