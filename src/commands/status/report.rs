//! A report for people: the verdict, a line for each tunnel, and what is wrong.

use super::figures::{Earlier, allowed, short_number, traffic};
use super::gather::{BlockedPair, StatusReport, TrafficCounters, TunnelStatus};
use super::problem::{Problem, ProblemKind, Severity, counted_kinds, grouped};
use super::{Colours, blocks};
use crate::commands::Detail;
use crate::commands::columns::{Cell, TableColumn, table_lines};
use crate::commands::paint::{Tone, painted};
use crate::commands::screen_size::ScreenSize;
use crate::dns::{NameServerMeans, NameUser};
use crate::settings::Allow;
use crate::words::{counted_noun, duration_text, folded};

/// What a report shows.
#[derive(Debug, Clone, Copy)]
pub(super) struct View<'a> {
    pub(super) detail: Detail,
    pub(super) rows: Rows,
    /// The only tunnels that are shown, by connection, user, short name, peer or address; all, if
    /// there are none.
    pub(super) names: &'a [String],
    pub(super) size: ScreenSize,
    pub(super) colours: Colours,
    /// An earlier report, to show the traffic since.
    pub(super) earlier: Option<Earlier<'a>>,
}

/// What the rows are about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rows {
    /// Tunnels.
    Tunnels,
    /// Users who are connected.
    Users,
}

/// From so many lines on the verdict is printed a second time, last, where no screen says how many
/// it shows.
const LONG: usize = 24;

/// The tunnels that a report is asked for.
pub(super) fn selected<'r>(report: &'r StatusReport, view: &View<'_>) -> Vec<&'r TunnelStatus> {
    let is_row = |tunnel: &&TunnelStatus| view.rows == Rows::Tunnels || tunnel.record.tunnel.user.is_some();
    let meant = report.tunnels.iter().filter(|tunnel| is_meant(tunnel, view));
    meant.filter(is_row).collect()
}

/// Whether a tunnel is asked for.
fn is_meant(tunnel: &TunnelStatus, view: &View<'_>) -> bool {
    view.names.is_empty() || view.names.iter().any(|name| tunnel.is_called(name))
}

/// The whole report.
pub(super) fn report_text(report: &StatusReport, view: &View<'_>) -> String {
    let mut text = verdict(report, view) + "\n";
    let problems = problems(report, view);
    let tunnels = selected(report, view);
    // Whoever asks for a tunnel asks for that one; what else there is does not matter then.
    let more = if view.names.is_empty() {
        other_lines(report, view)
    } else {
        Vec::new()
    };
    let errors = |lines: &[String]| -> String { lines.iter().map(|line| format!("{line}\n")).collect() };
    text.push_str(&errors(&problems));
    let rows = match view.detail {
        Detail::Full => tunnels
            .iter()
            .flat_map(|tunnel| blocks::tunnel_block(report, tunnel, view.earlier))
            .collect(),
        Detail::Summary => tunnel_rows(report, &tunnels, view),
    };
    text.push_str(&errors(&rows));
    text.push_str(&errors(&more));
    if text.lines().count() > view.size.height.unwrap_or(LONG) {
        text.push_str(&verdict(report, view));
        text.push('\n');
    }
    text
}

/// The report cut to a screen: the verdict, what is wrong, and of the tunnels the busiest.
pub(super) fn screenful(report: &StatusReport, view: &View<'_>) -> String {
    let mut tunnels = selected(report, view);
    let bytes = |tunnel: &&TunnelStatus| {
        let traffic = traffic(tunnel, view.earlier).unwrap_or_default();
        traffic.inbound.bytes.saturating_add(traffic.outbound.bytes)
    };
    tunnels.sort_by_key(|tunnel| std::cmp::Reverse(bytes(tunnel)));
    let height = view.size.height.unwrap_or(usize::MAX);
    let mut above = vec![verdict(report, view)];
    above.extend(problems(report, view));
    // At least the heading and a few tunnels are seen.
    let most = height.saturating_sub(4).max(1);
    if above.len() > most {
        let more = above.len() - most + 1;
        above.truncate(most.saturating_sub(1).max(1));
        above.push(format!("+{more} more lines (pluto-updown status)"));
    }
    let room = height.saturating_sub(above.len());
    let mut shown = tunnels.len();
    let mut below = tunnel_rows(report, &tunnels, view);
    while below.len() > room && shown > 0 {
        shown -= 1;
        below = tunnel_rows(report, &tunnels[..shown], view);
        below.push(format!("+{} more", tunnels.len() - shown));
    }
    below.truncate(room);
    above.extend(below);
    above.iter().map(|line| format!("{line}\n")).collect()
}

/// `OK: 50 tunnels up, all rules loaded, settings applied            03:11:44 UTC gw1`
pub(super) fn verdict(report: &StatusReport, view: &View<'_>) -> String {
    let (tone, text) = (report_tone(report), summary(report));
    let seconds = report.now % 86_400;
    let clock = format!("{:02}:{:02}:{:02} UTC", seconds / 3600, seconds / 60 % 60, seconds % 60);
    let host = report
        .hostname
        .iter()
        .map(|name| format!(" {name}"))
        .collect::<String>();
    let right = format!("{clock}{host}");
    let room = view.size.width.saturating_sub(text.len());
    let right = match room > right.len() + 1 {
        true => format!("{right:>room$}"),
        false => String::new(),
    };
    format!("{}{right}", painted(&text, tone, view.colours))
}

fn report_tone(report: &StatusReport) -> Tone {
    match report.has(Severity::Error) || report.has(Severity::Unknown) {
        true => Tone::Bad,
        false => Tone::Good,
    }
}

/// The verdict in a line.
pub(super) fn summary(report: &StatusReport) -> String {
    let tunnels = report.tunnels.len();
    if report.has(Severity::Error) {
        let kinds = counted_kinds(&report.problems, Severity::Error);
        let tunnels = counted_noun(tunnels + report.without_rules.len(), "tunnel");
        return format!("NOT OK: {} ({tunnels} up)", kinds.join(", "));
    }
    if report.has(Severity::Unknown) {
        return format!(
            "UNKNOWN: the firewall cannot be listed ({})",
            counted_noun(tunnels, "tunnel")
        );
    }
    let unrecorded = report
        .problems
        .iter()
        .find(|problem| problem.kind == ProblemKind::NoRecord);
    let up = match tunnels {
        0 if unrecorded.is_some() => "no tunnel recorded, but IPsec SAs in the kernel".to_owned(),
        0 if report.gateways.is_empty() && report.blocked.is_empty() => "no tunnel up".to_owned(),
        0 => "no tunnel up, all rules loaded".to_owned(),
        _ => format!("{} up, all rules loaded", counted_noun(tunnels, "tunnel")),
    };
    let settings = match report.settings.applied {
        Some(true) if report.settings.is_there => ", settings applied",
        Some(false) => ", settings not applied",
        Some(true) | None => "",
    };
    format!("OK: {up}{settings}")
}

/// What is wrong, in colour: in groups, or line by line.
fn problems(report: &StatusReport, view: &View<'_>) -> Vec<String> {
    let bad = |severity| severity != Severity::Note;
    let paint = |line: String| painted(&line, Tone::Bad, view.colours);
    let fold = |line: String| folded(&line, view.size.width);
    match view.detail {
        Detail::Summary => {
            let wrong = grouped(&report.problems, bad).into_iter().map(fold);
            let wrong = wrong.flatten().map(paint);
            let notes = grouped(&report.problems, |severity| !bad(severity)).into_iter();
            wrong.chain(notes.flat_map(fold)).collect()
        }
        Detail::Full => report
            .problems
            .iter()
            .map(|problem| whole_problem(problem, view.colours))
            .collect(),
    }
}

fn whole_problem(problem: &Problem, colours: Colours) -> String {
    let line = format!("{} -- fix: {}", problem.text, problem.fix.fix_text());
    match problem.severity {
        Severity::Note => format!("note: {line}"),
        Severity::Error | Severity::Unknown => painted(&line, Tone::Bad, colours),
    }
}

/// A line for each tunnel, under headings; or what there is instead.
fn tunnel_rows(report: &StatusReport, tunnels: &[&TunnelStatus], view: &View<'_>) -> Vec<String> {
    if tunnels.is_empty() {
        let has_any = report.tunnels.iter().any(|tunnel| is_meant(tunnel, view));
        return match view.rows {
            // What is wrong says that no tunnel has a name.
            Rows::Users if has_any || view.names.is_empty() => vec!["no tunnel that is up has a user name".to_owned()],
            Rows::Users | Rows::Tunnels => Vec::new(),
        };
    }
    let column = |heading, least, most| TableColumn { heading, least, most };
    let (received, sent) = match view.earlier {
        None => ("RX", "TX"),
        Some(_) => ("RX/s", "TX/s"),
    };
    let columns = match view.rows {
        Rows::Tunnels => vec![
            column("NAME", 6, 24),
            column("PEER/USER", 6, 28),
            column("REMOTE NET", 16, 18),
            column("UP", 6, 6),
            column(received, 5, 5),
            column(sent, 5, 5),
            // `all, block`
            column("ALLOW", 10, view.size.width),
        ],
        Rows::Users => vec![
            column("USER", 8, 28),
            column("ADDRESS", 15, 18),
            column("FROM", 15, 18),
            column("UP", 6, 6),
            column(received, 5, 5),
            column(sent, 5, 5),
            column("NAME", 6, view.size.width),
        ],
    };
    let row = |tunnel: &&TunnelStatus| match view.rows {
        Rows::Tunnels => tunnel_row(report, tunnel, view),
        Rows::Users => user_row(report, tunnel, view),
    };
    let rows: Vec<_> = tunnels.iter().map(row).collect();
    table_lines(&columns, &rows, view.size.width)
}

fn tunnel_row(report: &StatusReport, tunnel: &TunnelStatus, view: &View<'_>) -> Vec<Cell> {
    let about = &tunnel.record.tunnel;
    let mut row = vec![
        Cell::Text(about.connection.to_string()),
        peer(tunnel),
        Cell::Address(short_network(&about.remote_client.to_string())),
    ];
    row.extend(figures(report, tunnel, view));
    row.push(Cell::Text(short_allowed(tunnel)));
    row
}

fn user_row(report: &StatusReport, tunnel: &TunnelStatus, view: &View<'_>) -> Vec<Cell> {
    let about = &tunnel.record.tunnel;
    let user = about.user.as_ref().map_or_else(String::new, ToString::to_string);
    let from = about
        .remote_host
        .map_or_else(|| "?".to_owned(), |host| host.to_string());
    let mut row = vec![
        Cell::Text(user),
        Cell::Address(short_network(&about.remote_client.to_string())),
        Cell::Address(from),
    ];
    row.extend(figures(report, tunnel, view));
    row.push(Cell::Text(about.connection.to_string()));
    row
}

/// How long it is up, and what it has received and sent.
fn figures(report: &StatusReport, tunnel: &TunnelStatus, view: &View<'_>) -> [Cell; 3] {
    let up = duration_text(report.now.saturating_sub(tunnel.record.since));
    let traffic = traffic(tunnel, view.earlier);
    let bytes = |of: fn(&TrafficCounters) -> u64| {
        traffic
            .as_ref()
            .map_or_else(|| "?".to_owned(), |traffic| short_number(of(traffic)))
    };
    [
        up,
        bytes(|traffic| traffic.inbound.bytes),
        bytes(|traffic| traffic.outbound.bytes),
    ]
    .map(Cell::Number)
}

/// The users that have it up; else the identity that the peer showed; else the peer's address.
fn peer(tunnel: &TunnelStatus) -> Cell {
    let mut names = Vec::new();
    for (view, _) in tunnel.record.opener_views() {
        let name = view
            .user
            .as_ref()
            .map_or_else(|| view.remote_id.to_string(), ToString::to_string);
        if !name.is_empty() && !names.contains(&name) {
            names.push(name);
        }
    }
    let is_address = |name: &String| name.parse::<std::net::IpAddr>().is_ok();
    match (&names[..], tunnel.record.tunnel.remote_host) {
        ([], Some(host)) => Cell::Address(host.to_string()),
        ([], None) => Cell::Text("?".to_owned()),
        ([one], _) if is_address(one) => Cell::Address(one.clone()),
        _ => Cell::Text(names.join(",")),
    }
}

/// A network; one address without its length.
fn short_network(network: &str) -> String {
    let is_v6 = network.contains(':');
    let length = if is_v6 { "/128" } else { "/32" };
    network.strip_suffix(length).unwrap_or(network).to_owned()
}

/// What a tunnel allows, without blanks and without `tcp/`: `22,993,ping`.
fn short_allowed(tunnel: &TunnelStatus) -> String {
    let words = allowed(tunnel).replace("when-down block", "block");
    match &tunnel.record.effective_policy().allow {
        Allow::Services(services) => {
            let short: Vec<_> = services
                .iter()
                .map(|service| {
                    let service = service.to_string();
                    service.strip_prefix("tcp/").map_or(service.clone(), str::to_owned)
                })
                .collect();
            words.replacen(&tunnel.record.effective_policy().allow.to_string(), &short.join(","), 1)
        }
        Allow::All | Allow::Replies | Allow::None => words,
    }
}

/// How many blocked pairs are shown in a line each: of more, those between which most was dropped.
const BLOCKED: usize = 6;

/// The gateway's own rules, blocked pairs and name servers.
fn other_lines(report: &StatusReport, view: &View<'_>) -> Vec<String> {
    let mut texts = Vec::new();
    for gateway in &report.gateways {
        let since = duration_text(report.now.saturating_sub(gateway.since));
        texts.push(format!("gateway rules: {}, for {since}", gateway.ruleset));
    }
    let mut pairs: Vec<_> = report.blocked.iter().collect();
    let more = match view.detail {
        Detail::Full => 0,
        Detail::Summary => pairs.len().saturating_sub(BLOCKED),
    };
    if more > 0 {
        pairs.sort_by_key(|pair| std::cmp::Reverse(pair.dropped.unwrap_or_default().packets));
        pairs.truncate(BLOCKED);
    }
    texts.extend(pairs.into_iter().map(|pair| blocked(report, pair)));
    texts.extend((more > 0).then(|| format!("+{} (-v)", counted_noun(more, "more blocked pair"))));
    texts.extend(report.name_users.iter().map(name_servers));
    texts.iter().flat_map(|text| folded(text, view.size.width)).collect()
}

/// `blocked unencrypted: 10.1.0.0/24 <-> 10.2.0.0/24 (office), for 2h13m, 12 packets dropped`
fn blocked(report: &StatusReport, pair: &BlockedPair) -> String {
    let record = &pair.record;
    let names: Vec<_> = record.connections().iter().map(ToString::to_string).collect();
    let names = match names.is_empty() {
        true => String::new(),
        false => format!(" ({})", names.join(", ")),
    };
    let since = duration_text(report.now.saturating_sub(record.since));
    let dropped = pair.dropped.map_or_else(String::new, |counters| {
        let plural = if counters.packets == 1 { "" } else { "s" };
        format!(", {} packet{plural} dropped", short_number(counters.packets))
    });
    format!(
        "blocked unencrypted: {} <-> {}{names}, for {since}{dropped}",
        record.local, record.remote
    )
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
        NameServerMeans::Unbound => "in unbound".to_owned(),
        NameServerMeans::Link(interface) => format!("in systemd-resolved for {interface}"),
    };
    format!("name servers: {servers}{domains} ({}), {place}", user.user.connection)
}
