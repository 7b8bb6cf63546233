//! A report for programs. What it says is in `docs/status.md`; a field that goes or changes its meaning raises the version.

use std::net::IpAddr;

use serde::Serialize;

use super::gather::{BlockedPair, GatewayStatus, StatusReport, TrafficCounters, TunnelStatus};
use crate::netfilter::Counters;
use crate::record::{NameServerMeans, NameUser, Opener};
use crate::updown_env::Domain;

/// The version of the schema.
const VERSION: u32 = 1;

#[derive(Serialize)]
struct Document<'a> {
    version: u32,
    time: u64,
    namespace: u64,
    ok: bool,
    tunnels: Vec<TunnelObject<'a>>,
    gateway: Vec<GatewayObject>,
    #[serde(rename = "apart")]
    blocked: Vec<BlockedPairObject<'a>>,
    name_servers: Vec<NameServersObject<'a>>,
    problems: Vec<ProblemObject<'a>>,
}

#[derive(Serialize)]
struct TunnelObject<'a> {
    id: &'a str,
    connection: &'a str,
    #[serde(rename = "variant")]
    backend: String,
    family: String,
    me: Option<String>,
    peer: Option<String>,
    peer_id: &'a str,
    user: Option<&'a str>,
    openers: Vec<OpenerObject<'a>>,
    my_network: String,
    peer_network: String,
    traffic: String,
    allowed: String,
    reqid: Option<u32>,
    device: Option<&'a str>,
    ups: u32,
    since: u64,
    last_call: Option<u64>,
    daemon: Option<DaemonObject>,
    #[serde(rename = "in")]
    inbound: Option<CountersObject>,
    #[serde(rename = "out")]
    outbound: Option<CountersObject>,
}

#[derive(Serialize)]
struct DaemonObject {
    pid: u32,
    runs: bool,
}

#[derive(Serialize)]
struct CountersObject {
    packets: u64,
    bytes: u64,
}

#[derive(Serialize)]
struct OpenerObject<'a> {
    peer_id: &'a str,
    user: Option<&'a str>,
    peer: Option<String>,
}

#[derive(Serialize)]
struct GatewayObject {
    #[serde(rename = "variant")]
    backend: String,
    family: String,
    since: u64,
}

#[derive(Serialize)]
struct BlockedPairObject<'a> {
    #[serde(rename = "variant")]
    backend: String,
    family: String,
    my_network: String,
    peer_network: String,
    connection: Option<&'a str>,
    connections: Vec<&'a str>,
    since: u64,
    dropped: Option<CountersObject>,
}

#[derive(Serialize)]
struct NameServersObject<'a> {
    connection: &'a str,
    servers: &'a [IpAddr],
    domains: &'a [Domain],
    by: &'a NameServerMeans,
}

#[derive(Serialize)]
struct ProblemObject<'a> {
    kind: &'a str,
    #[serde(rename = "rulebook")]
    ruleset: Option<String>,
    table: Option<&'a str>,
    text: &'a str,
    #[serde(rename = "mend")]
    fix: &'a str,
}

/// The report on one line.
pub(super) fn text(report: &StatusReport) -> String {
    let document = Document {
        version: VERSION,
        time: report.now,
        namespace: report.namespace,
        ok: report.problems.is_empty(),
        tunnels: report.tunnels.iter().map(tunnel).collect(),
        gateway: report.gateways.iter().map(gateway).collect(),
        blocked: report.blocked.iter().map(blocked_pair).collect(),
        name_servers: report.name_users.iter().map(name_servers).collect(),
        problems: report
            .problems
            .iter()
            .map(|problem| ProblemObject {
                kind: problem.kind,
                ruleset: problem.ruleset.map(|ruleset| ruleset.to_string()),
                table: problem.table.map(|table| table.name()),
                text: &problem.text,
                fix: problem.fix,
            })
            .collect(),
    };
    // Nothing in it can fail to be written.
    serde_json::to_string(&document).unwrap_or_default() + "\n"
}

impl From<Counters> for CountersObject {
    fn from(Counters { packets, bytes }: Counters) -> Self {
        Self { packets, bytes }
    }
}

fn gateway(GatewayStatus { ruleset, since }: &GatewayStatus) -> GatewayObject {
    GatewayObject {
        backend: ruleset.backend.to_string(),
        family: ruleset.family.to_string(),
        since: *since,
    }
}

fn blocked_pair(apart: &BlockedPair) -> BlockedPairObject<'_> {
    BlockedPairObject {
        backend: apart.ruleset.backend.to_string(),
        family: apart.ruleset.family.to_string(),
        my_network: apart.record.local.to_string(),
        peer_network: apart.record.remote.to_string(),
        connection: apart.record.connections().first().map(|connection| connection.as_str()),
        connections: apart
            .record
            .connections()
            .iter()
            .map(|connection| connection.as_str())
            .collect(),
        since: apart.record.since,
        dropped: apart.dropped.map(CountersObject::from),
    }
}

fn tunnel(tunnel: &TunnelStatus) -> TunnelObject<'_> {
    let record = &tunnel.record;
    let counters = |of: fn(&TrafficCounters) -> Counters| tunnel.traffic.as_ref().map(of).map(CountersObject::from);
    TunnelObject {
        id: record.id.as_str(),
        connection: record.key.connection.as_str(),
        backend: tunnel.ruleset.backend.to_string(),
        family: tunnel.ruleset.family.to_string(),
        me: record.tunnel.local_host.map(|me| me.to_string()),
        peer: record.tunnel.remote_host.map(|peer| peer.to_string()),
        peer_id: record.tunnel.remote_id.as_str(),
        user: record.tunnel.user.as_ref().map(|user| user.as_str()),
        openers: record.openers.iter().map(opener).collect(),
        my_network: record.key.local_client.to_string(),
        peer_network: record.key.remote_client.to_string(),
        traffic: record.key.traffic.to_string(),
        allowed: record.effective_policy().allow.to_string(),
        reqid: record.reqid(),
        device: record.tunnel_rules.interface.as_ref().map(|device| device.as_str()),
        ups: record.count,
        since: record.since,
        last_call: tunnel.last_call,
        daemon: record.daemon.map(|daemon| DaemonObject {
            pid: daemon.pid,
            runs: tunnel.daemon_runs.unwrap_or_default(),
        }),
        inbound: counters(|traffic| traffic.inbound),
        outbound: counters(|traffic| traffic.outbound),
    }
}

fn opener(opener: &Opener) -> OpenerObject<'_> {
    OpenerObject {
        peer_id: opener.remote_id.as_str(),
        user: opener.user.as_ref().map(|user| user.as_str()),
        peer: opener.remote_host.map(|peer| peer.to_string()),
    }
}

fn name_servers(user: &NameUser) -> NameServersObject<'_> {
    NameServersObject {
        connection: user.user.connection.as_str(),
        servers: &user.servers,
        domains: &user.domains,
        by: &user.by,
    }
}
