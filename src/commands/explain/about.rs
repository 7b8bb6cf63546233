//! `explain CONNECTION`: a tunnel in sentences.

use std::fmt::Write as _;
use std::net::IpAddr;

use super::find::FoundTunnel;
use super::kinds;
use super::packet_query::{ESP, protocol};
use super::record_view::{RecordView, RulesetView};
use super::traffic_class::{TrafficClass, class_sentence};
use super::verdict::{brief_verdict, on_the_way};
use crate::daemon::{Compression, SaMatch, Scope, Tunnel};
use crate::firewall::{OptionalChains, kept_sources};
use crate::net::{Family, Network, PortProtocol, Ports, Traffic};
use crate::netfilter::{BuiltIn, Rule, Table};
use crate::settings::{Nat, Policy};
use crate::state::{ClearTextBlockRecord, TunnelRecord};
use crate::trace::{Endpoint, Packet, PacketCtState};
use crate::words::{duration_text, folded, wrapped};

/// All sentences about a tunnel.
pub(super) fn tunnel_text(record_view: &RecordView, found: &FoundTunnel<'_>) -> String {
    let FoundTunnel {
        ruleset: ruleset_view,
        record,
    } = found;
    let allow = &record.effective_policy().allow;
    let head = format!(
        "{} ({}, {}): allows {allow}",
        record.key.connection, record.id, ruleset_view.ruleset
    );
    let mut text = folded(&head, record_view.width).join("\n") + "\n";
    text.push_str(&section(record_view.width, "", &setting(record_view, record)));
    text.push_str(&section(record_view.width, "", &opener_lines(record_view, record)));
    text.push_str(&section(record_view.width, "ALLOWED", &flows(ruleset_view, record)));
    text.push_str(&section(record_view.width, "ALSO", &further_lines(record)));
    text.push_str(&section(
        record_view.width,
        "UNENCRYPTED",
        &unencrypted_sentences(record_view, found),
    ));
    text
}

fn section(width: usize, title: &str, sentences: &[String]) -> String {
    let mut text = String::new();
    if !title.is_empty() && !sentences.is_empty() {
        let _ = writeln!(text, "\n{title}");
    }
    for sentence in sentences {
        for (number, line) in wrapped(std::slice::from_ref(sentence), width - 4).iter().enumerate() {
            let indentation = if number == 0 { "  " } else { "    " };
            let _ = writeln!(text, "{indentation}{line}");
        }
    }
    text
}

/// Where in the settings file it is set what the tunnel allows.
fn setting(record_view: &RecordView, record: &TunnelRecord) -> Vec<String> {
    match &record_view.settings {
        Ok(source) => {
            let views = record.opener_views();
            let places = views.iter().flat_map(|(view, _)| source.of_tunnel(view, "allow"));
            distinct(places.map(|place| format!("setting  {place}")))
        }
        Err(error) => vec![format!("setting  {error}")],
    }
}

/// Each of these lines once, in their order.
fn distinct(lines: impl Iterator<Item = String>) -> Vec<String> {
    let mut all = Vec::new();
    lines.for_each(|line| {
        if !all.contains(&line) {
            all.push(line);
        }
    });
    all
}

/// Who is at the other end, and since when.
fn opener_lines(record_view: &RecordView, record: &TunnelRecord) -> Vec<String> {
    let tunnel = &record.tunnel;
    let known = |address: Option<IpAddr>| address.map_or_else(|| "an unknown address".to_owned(), |ip| ip.to_string());
    let named = |id: &dyn std::fmt::Display| match id.to_string() {
        id if id.is_empty() => String::new(),
        id => format!(", {id}"),
    };
    let remote_host = |(view, _): &(Tunnel, Policy)| {
        let user: String = view.user.iter().map(|user| format!(", user {user}")).collect();
        format!("Peer: {}{}{user}", known(view.remote_host), named(&view.remote_id))
    };
    let mut sentences = vec![format!(
        "Between {} (local) and {} (remote).",
        tunnel.local_client, tunnel.remote_client
    )];
    sentences.extend(distinct(record.opener_views().iter().map(remote_host)));
    sentences.extend([
        format!("Gateway: {}{}", known(tunnel.local_host), named(&tunnel.local_id)),
        format!(
            "Up for {}.",
            duration_text(record_view.now.saturating_sub(record.since))
        ),
        format!("{}.", sa_match_text(tunnel)),
    ]);
    if record.key.traffic != Traffic::Any {
        let made_for = kinds::of_tunnel(&record.key.traffic, tunnel.family());
        sentences.push(format!("Carries {made_for} only."));
    }
    if record.openers.iter().any(|opener| opener.policy.is_some()) {
        sentences.push("Several peers have it up: only what all of them are allowed is allowed.".to_owned());
    }
    if record.effective.is_some() {
        sentences.push(
            "The kernel cannot tell it from another tunnel that is up (equal selectors and reqid): only what both allow is allowed."
                .to_owned(),
        );
    }
    sentences
}

/// By what its packets are known.
pub(super) fn sa_match_text(tunnel: &Tunnel) -> String {
    match &tunnel.sa_match {
        SaMatch::Interface(interface) => format!("Matched by its interface {interface} and its networks"),
        SaMatch::Policy { reqid, protocol } => {
            let protocol = protocol.map_or_else(|| "IPsec".to_owned(), |sa| sa.to_string().to_uppercase());
            let number = reqid.map_or_else(String::new, |reqid| format!(" with reqid {reqid}"));
            format!("Matched by its IPsec policy ({protocol}{number}) and its networks")
        }
    }
}

fn flows(ruleset_view: &RulesetView, record: &TunnelRecord) -> Vec<String> {
    let classes = TrafficClass::ALL.map(|class| class_sentence(record, class));
    let both = "Between this tunnel and another: only what both allow.".to_owned();
    let place = Table::Filter
        .built_in()
        .iter()
        .find_map(|built_in| ruleset_view.rules_before_jump(*built_in));
    let place = place.map(|place| format!("Note: {place}."));
    classes.into_iter().chain([both]).chain(place).collect()
}

fn rules(record: &TunnelRecord, table: Table) -> impl Iterator<Item = &Rule> {
    let fragment = record.tunnel_rules.fragment(table);
    fragment
        .into_iter()
        .flat_map(|fragment| &fragment.rules)
        .map(|placed| &placed.rule)
}

/// The address that hosts behind the gateway are source-NATed to, if they are.
pub(super) fn source_natted_to(record: &TunnelRecord) -> Option<IpAddr> {
    if record.tunnel.translation.is_some() {
        return None;
    }
    rules(record, Table::Nat).find_map(|rule| rule.target.snat_source())
}

/// What is done with its packets besides letting them pass or not.
fn further_lines(record: &TunnelRecord) -> Vec<String> {
    let (tunnel, policy) = (&record.tunnel, record.effective_policy());
    let mut sentences = vec![addresses(record)];
    let kept: Vec<_> = kept_sources(&record.tunnel_rules)
        .iter()
        .map(ToString::to_string)
        .collect();
    if !kept.is_empty() {
        sentences.push(format!("Packets to {} keep their source.", kept.join(", ")));
    }
    if let Some(chain) = &policy.chain {
        sentences.push(format!(
            "Your chain {chain} is called first on every path of the tunnel; its verdict is final."
        ));
    }
    let sizes: Vec<_> = rules(record, Table::Mangle)
        .filter_map(|rule| on_the_way(&rule.target))
        .collect();
    match &sizes[..] {
        [one, other] if one == other => sentences.push(format!("Both ways {one}.")),
        [inbound, outbound] => sentences.push(format!("On the way in {inbound}; on the way out {outbound}.")),
        _ => {}
    }
    if let Some(group) = tunnel.log_group {
        sentences.push(format!("A copy of each packet goes to NFLOG group {}.", group.0));
    }
    let logged = [
        (policy.log.has_new(), "the first packets of connections that pass"),
        (policy.log.has_denied(), "packets that are dropped"),
    ];
    for (_, what) in logged.iter().filter(|(is_set, _)| *is_set) {
        sentences.push(format!(
            "In the kernel's log: {what}, ten a minute at most for each rule."
        ));
    }
    if tunnel.compression == Compression::Ipcomp {
        sentences.push("IP in IP from the peer is accepted: IPComp sends small packets so.".to_owned());
    }
    sentences
}

fn addresses(record: &TunnelRecord) -> String {
    if let Some(translation) = record.tunnel.translation {
        return format!(
            "Addresses: {} becomes {} on the way in, and the other way round.",
            translation.own, translation.assigned
        );
    }
    let is_exempt = record.tunnel_rules.optional.contains(&OptionalChains::NatExempt);
    match (source_natted_to(record), record.effective_policy().nat) {
        (Some(address), _) => format!(
            "Addresses: hosts behind the gateway are source-NATed to {address}, and get their replies. NEW connections of hosts outside {} are not decided here: your rules decide.",
            record.tunnel.local_client
        ),
        (None, _) if is_exempt => "Addresses: unchanged, whatever SNAT or MASQUERADE rules you have.".to_owned(),
        (None, Nat::Leave) => "Addresses: your own NAT rules decide.".to_owned(),
        (None, _) => "Addresses: unchanged by pluto-updown.".to_owned(),
    }
}

/// Sentences about the gateway's own rules and the blocked pairs that concern the tunnel.
fn unencrypted_sentences(record_view: &RecordView, found: &FoundTunnel<'_>) -> Vec<String> {
    let FoundTunnel {
        ruleset: ruleset_view,
        record,
    } = found;
    let mut sentences = match ruleset_view.gateway() {
        Some(gateway) => vec![format!(
            "The gateway rules are loaded for {}. They apply to unencrypted packets only, never to packets of the tunnel.",
            duration_text(record_view.now.saturating_sub(gateway.since))
        )],
        None => vec!["No gateway rules are loaded (pluto-updown start installs those that are set).".to_owned()],
    };
    sentences.extend(outer(record_view, found));
    sentences.extend(between_networks(ruleset_view, &record.tunnel));
    let concerned = ruleset_view.clear_text_blocks().filter(|block| concerns(block, record));
    sentences.extend(concerned.map(|block| block_sentence(record_view, block)));
    sentences
}

/// IKE and ESP with the peer.
fn outer(record_view: &RecordView, found: &FoundTunnel<'_>) -> Vec<String> {
    let tunnel = &found.record.tunnel;
    let (Some(local_host), Some(remote_host)) = (tunnel.local_host, tunnel.remote_host) else {
        return vec!["IKE and ESP: the daemon did not say which addresses they use.".to_owned()];
    };
    let kinds = [
        (
            "IKE (UDP 500)",
            Traffic::Ports {
                protocol: PortProtocol::Udp,
                local: Ports::single(500),
                remote: Ports::single(500),
            },
        ),
        ("ESP", protocol(ESP)),
    ];
    let text = kinds.map(|(name, kind)| {
        let [comes, leaves] = esp_verdicts(record_view, found, local_host, remote_host, &kind);
        format!("{name} from {remote_host} {comes}; to {remote_host} it {leaves}.")
    });
    text.into()
}

/// The verdicts on a packet from the peer to the gateway, and on one to the peer.
pub(super) fn esp_verdicts(
    record_view: &RecordView,
    found: &FoundTunnel<'_>,
    local_host: IpAddr,
    remote_host: IpAddr,
    kind: &Traffic,
) -> [String; 2] {
    let family = Family::of_address(remote_host);
    let packet = |source, destination, from, to| Packet {
        source,
        destination,
        kind: kind.clone(),
        from,
        to,
        connection: PacketCtState::New,
        consented: false,
        requested: None,
        answered_at: None,
    };
    let comes = (
        packet(remote_host, local_host, Endpoint::Unencrypted(None), Endpoint::Gateway),
        BuiltIn::Input,
    );
    let leaves = (
        packet(local_host, remote_host, Endpoint::Gateway, Endpoint::Unencrypted(None)),
        BuiltIn::Output,
    );
    [comes, leaves].map(
        |(packet, built_in)| match record_view.ruleset_beside(found.ruleset.ruleset, remote_host) {
            Some(ruleset_view) => brief_verdict(&ruleset_view.traces(packet), family),
            None => format!("is not decided here: your {} rules decide", built_in.name()),
        },
    )
}

/// The verdicts on unencrypted packets between the two networks, by an address of each.
fn between_networks(ruleset_view: &RulesetView, tunnel: &Tunnel) -> Vec<String> {
    let (local, remote) = (
        sample_address(&tunnel.local_client),
        sample_address(&tunnel.remote_client),
    );
    let (local_endpoint, how) = match tunnel.scope {
        Scope::Host => (Endpoint::Gateway, "to or from the gateway"),
        Scope::Client => (Endpoint::Unencrypted(None), "through the gateway"),
    };
    let sides = [
        (remote, local, Endpoint::Unencrypted(None), local_endpoint.clone()),
        (local, remote, local_endpoint, Endpoint::Unencrypted(None)),
    ];
    let text = sides.map(|(source, destination, from, to)| {
        let packet = Packet {
            source,
            destination,
            kind: Traffic::Any,
            from,
            to,
            connection: PacketCtState::New,
            consented: false,
            requested: None,
            answered_at: None,
        };
        let outcome = brief_verdict(&ruleset_view.traces(packet), tunnel.family());
        format!("Unencrypted {how}, as {source} -> {destination}: {outcome}.")
    });
    text.into()
}

/// An address that a machine of a network may have.
fn sample_address(network: &Network) -> IpAddr {
    match network {
        Network::Prefix(prefix) => prefix.hosts().next().unwrap_or_else(|| prefix.addr()),
        Network::Range(first, _) => *first,
    }
}

/// Whether a blocked pair concerns the tunnel's networks.
fn concerns(block: &ClearTextBlockRecord, record: &TunnelRecord) -> bool {
    let tunnel = &record.tunnel;
    let meet = |one: &Network, other: &Network| one.covers(other) || other.covers(one);
    let is_its = meet(&block.local, &tunnel.local_client) && meet(&block.remote, &tunnel.remote_client);
    is_its || block.is_for(&tunnel.connection)
}

fn block_sentence(record_view: &RecordView, block: &ClearTextBlockRecord) -> String {
    let (local, remote) = (block.local, block.remote);
    let since = duration_text(record_view.now.saturating_sub(block.since));
    let unblock = block
        .connections()
        .first()
        .map_or_else(|| remote.to_string(), ToString::to_string);
    format!(
        "Blocked for {since}: unencrypted packets between {local} and {remote} are dropped, also while no tunnel is up, until `pluto-updown unblock {unblock}`."
    )
}
