//! A report for programs: one JSON object on one line. docs/status.md describes it.

use std::net::IpAddr;

use serde::Serialize;

use super::gather::{BlockedPair, GatewayStatus, StatusReport, TunnelStatus};
use super::problem::Problem;
use crate::commands::fix::Fix;
use crate::dns::{Domain, NameServerMeans, NameUser};
use crate::net::{Family, Ports, Traffic};
use crate::netfilter::Counters;
use crate::settings::{Allow, Policy};
use crate::state::{FailedUp, Opener};

/// The version of the schema.
const VERSION: u32 = 2;

#[derive(Serialize)]
struct Document<'a> {
    version: u32,
    program_version: &'static str,
    hostname: Option<&'a str>,
    time: u64,
    namespace: u64,
    ok: bool,
    settings: SettingsObject<'a>,
    tunnels: Vec<TunnelObject<'a>>,
    without_rules: Vec<WithoutRulesObject<'a>>,
    gateways: Vec<GatewayObject>,
    blocked: Vec<BlockedPairObject<'a>>,
    name_servers: Vec<NameServersObject<'a>>,
    problems: Vec<ProblemObject<'a>>,
}

#[derive(Serialize)]
struct SettingsObject<'a> {
    /// The file; null if there is none, and defaults apply.
    path: Option<String>,
    ok: bool,
    error: Option<&'a str>,
    applied: Option<bool>,
}

#[derive(Serialize)]
struct TunnelObject<'a> {
    id: &'a str,
    connection: &'a str,
    backend: String,
    family: String,
    local_host: Option<IpAddr>,
    remote_host: Option<IpAddr>,
    remote_id: &'a str,
    user: Option<&'a str>,
    openers: Vec<OpenerObject<'a>>,
    local_network: String,
    remote_network: String,
    traffic: TrafficObject,
    allowed: AllowedObject<'a>,
    reqid: Option<u32>,
    interface: Option<&'a str>,
    ups: u32,
    since: u64,
    last_call: Option<u64>,
    daemon: Option<DaemonObject>,
    policy_present: Option<bool>,
    received: Option<CountersObject>,
    sent: Option<CountersObject>,
}

/// What the daemons agreed on.
#[derive(Serialize)]
struct TrafficObject {
    /// An IANA number; null for any.
    protocol: Option<u8>,
    local_ports: Option<[u16; 2]>,
    remote_ports: Option<[u16; 2]>,
    text: String,
}

/// What of it the settings allow, under their own names.
#[derive(Serialize)]
struct AllowedObject<'a> {
    /// `all`, `replies`, `none` or `services`.
    mode: &'static str,
    services: Vec<String>,
    #[serde(flatten)]
    policy: OtherKeys<'a>,
}

#[derive(Serialize)]
struct OtherKeys<'a> {
    host_access: &'a crate::settings::GatewayAccess,
    nat: &'a crate::settings::Nat,
    when_down: &'a crate::settings::WhenDown,
    log: &'a crate::settings::PacketLog,
    chain: Option<String>,
}

#[derive(Serialize)]
struct DaemonObject {
    pid: u32,
    running: bool,
}

#[derive(Serialize)]
struct CountersObject {
    packets: u64,
    bytes: u64,
}

#[derive(Serialize)]
struct OpenerObject<'a> {
    remote_id: &'a str,
    user: Option<&'a str>,
    remote_host: Option<IpAddr>,
}

#[derive(Serialize)]
struct WithoutRulesObject<'a> {
    connection: &'a str,
    remote_host: Option<IpAddr>,
    remote_id: &'a str,
    user: Option<&'a str>,
    local_network: String,
    remote_network: String,
    since: u64,
    reason: &'a str,
}

#[derive(Serialize)]
struct GatewayObject {
    backend: String,
    family: String,
    since: u64,
}

#[derive(Serialize)]
struct BlockedPairObject<'a> {
    backend: String,
    family: String,
    local_network: String,
    remote_network: String,
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
    severity: &'static str,
    kind: &'static str,
    backend: Option<String>,
    family: Option<String>,
    table: Option<&'static str>,
    tunnel: Option<&'a str>,
    chain: Option<&'a str>,
    rule: Option<&'a str>,
    count: usize,
    text: &'a str,
    fix: &'a str,
    fix_command: Option<&'a str>,
}

/// The report on one line.
pub(super) fn json_text(report: &StatusReport, tunnels: &[&TunnelStatus]) -> String {
    let settings = &report.settings;
    let document = Document {
        version: VERSION,
        program_version: env!("CARGO_PKG_VERSION"),
        hostname: report.hostname.as_deref(),
        time: report.now,
        namespace: report.namespace,
        ok: report.is_ok(),
        settings: SettingsObject {
            path: settings.is_there.then(|| settings.path.display().to_string()),
            ok: settings.error.is_none(),
            error: settings.error.as_deref(),
            applied: settings.applied,
        },
        tunnels: tunnels.iter().map(|status| tunnel(status)).collect(),
        without_rules: report.without_rules.iter().map(without_rules).collect(),
        gateways: report.gateways.iter().map(gateway).collect(),
        blocked: report.blocked.iter().map(blocked_pair).collect(),
        name_servers: report.name_users.iter().map(name_servers).collect(),
        problems: report.problems.iter().map(problem).collect(),
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

fn blocked_pair(pair: &BlockedPair) -> BlockedPairObject<'_> {
    let connections = pair.record.connections();
    BlockedPairObject {
        backend: pair.ruleset.backend.to_string(),
        family: pair.ruleset.family.to_string(),
        local_network: pair.record.local.to_string(),
        remote_network: pair.record.remote.to_string(),
        connections: connections.iter().map(|connection| connection.as_str()).collect(),
        since: pair.record.since,
        dropped: pair.dropped.map(CountersObject::from),
    }
}

fn tunnel(tunnel: &TunnelStatus) -> TunnelObject<'_> {
    let record = &tunnel.record;
    let traffic = tunnel.traffic.as_ref();
    TunnelObject {
        id: record.id.as_str(),
        connection: record.key.connection.as_str(),
        backend: tunnel.ruleset.backend.to_string(),
        family: tunnel.ruleset.family.to_string(),
        local_host: record.tunnel.local_host,
        remote_host: record.tunnel.remote_host,
        remote_id: record.tunnel.remote_id.as_str(),
        user: record.tunnel.user.as_ref().map(|user| user.as_str()),
        openers: record.openers.iter().map(opener).collect(),
        local_network: record.key.local_client.to_string(),
        remote_network: record.key.remote_client.to_string(),
        traffic: agreed(&record.key.traffic, tunnel.ruleset.family),
        allowed: allowed(record.effective_policy()),
        reqid: record.reqid(),
        interface: record
            .tunnel_rules
            .interface
            .as_ref()
            .map(|interface| interface.as_str()),
        ups: record.count,
        since: record.since,
        last_call: tunnel.last_call,
        daemon: record.daemon.map(|daemon| DaemonObject {
            pid: daemon.pid,
            running: tunnel.daemon_runs.unwrap_or_default(),
        }),
        policy_present: tunnel.policy_present,
        received: traffic.map(|traffic| traffic.inbound.into()),
        sent: traffic.map(|traffic| traffic.outbound.into()),
    }
}

fn without_rules(failed: &FailedUp) -> WithoutRulesObject<'_> {
    let tunnel = &failed.tunnel;
    WithoutRulesObject {
        connection: tunnel.connection.as_str(),
        remote_host: tunnel.remote_host,
        remote_id: tunnel.remote_id.as_str(),
        user: tunnel.user.as_ref().map(|user| user.as_str()),
        local_network: tunnel.local_client.to_string(),
        remote_network: tunnel.remote_client.to_string(),
        since: failed.since,
        reason: &failed.reason,
    }
}

fn agreed(traffic: &Traffic, family: Family) -> TrafficObject {
    let (local, remote) = match traffic {
        Traffic::Any | Traffic::Protocol(_) | Traffic::Icmp(_) => (None, None),
        Traffic::Ports { local, remote, .. } => (port_range(local), port_range(remote)),
    };
    TrafficObject {
        protocol: traffic.protocol(family),
        local_ports: local,
        remote_ports: remote,
        text: traffic.to_string(),
    }
}

fn port_range(ports: &Ports) -> Option<[u16; 2]> {
    match ports {
        Ports::Any => None,
        Ports::Range(range) => Some([*range.start(), *range.end()]),
    }
}

fn allowed(policy: &Policy) -> AllowedObject<'_> {
    let (mode, services) = match &policy.allow {
        Allow::All => ("all", Vec::new()),
        Allow::Replies => ("replies", Vec::new()),
        Allow::None => ("none", Vec::new()),
        Allow::Services(services) => ("services", services.iter().map(ToString::to_string).collect()),
    };
    AllowedObject {
        mode,
        services,
        policy: OtherKeys {
            host_access: &policy.host_access,
            nat: &policy.nat,
            when_down: &policy.when_down,
            log: &policy.log,
            chain: policy.chain.as_ref().map(ToString::to_string),
        },
    }
}

fn opener(opener: &Opener) -> OpenerObject<'_> {
    OpenerObject {
        remote_id: opener.remote_id.as_str(),
        user: opener.user.as_ref().map(|user| user.as_str()),
        remote_host: opener.remote_host,
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

fn problem(problem: &Problem) -> ProblemObject<'_> {
    ProblemObject {
        severity: problem.severity.word(),
        kind: problem.kind.word(),
        backend: problem.ruleset.map(|ruleset| ruleset.backend.to_string()),
        family: problem.ruleset.map(|ruleset| ruleset.family.to_string()),
        table: problem.table.map(|table| table.name()),
        tunnel: problem.tunnel.as_deref(),
        chain: problem.chain.as_deref(),
        rule: problem.rule.as_deref(),
        count: problem.count,
        text: &problem.text,
        fix: problem.fix.fix_text(),
        fix_command: match &problem.fix {
            Fix::Command(command) => Some(command),
            Fix::Advice(_) => None,
        },
    }
}
