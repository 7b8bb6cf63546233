//! A diagram of a tunnel's packets within this machine, made of boxes. `drawing` and `svg` draw it.

use super::about::{self, esp_verdicts};
use super::find::FoundTunnel;
use super::packet_query::{ESP, protocol};
use super::record_view::RecordView;
use super::traffic_class::{ClassSentence, TrafficClass, class_sentences};
use crate::daemon::{SaMatch, Tunnel};
use crate::firewall::{AllowedTraffic, PacketPath};
use crate::netfilter::{BuiltIn, Direction, Table};
use crate::state::TunnelRecord;

/// A diagram: the first boxes of all packets, the two branches, and the last boxes of all packets.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Diagram {
    pub(super) title: String,
    pub(super) before: Vec<Stop>,
    pub(super) branches: [Branch; 2],
    pub(super) after: Vec<Stop>,
}

/// One of two branches.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Branch {
    /// Whose packets take it.
    pub(super) whose: String,
    pub(super) stops: Vec<Stop>,
}

/// A place in the kernel.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Stop {
    pub(super) title: String,
    pub(super) lines: Vec<String>,
    pub(super) tone: DiagramTone,
}

/// What a place does to packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DiagramTone {
    /// This program has no rules there.
    Kernel,
    /// Everything passes.
    Open,
    /// Some pass.
    Narrow,
    /// None pass.
    Shut,
    /// Other rules decide.
    Left,
}

impl Stop {
    fn kernel(title: &str, lines: impl Into<Vec<String>>) -> Self {
        Self {
            title: title.to_owned(),
            lines: lines.into(),
            tone: DiagramTone::Kernel,
        }
    }
}

/// Out of the tunnel.
pub(super) fn inbound(record_view: &RecordView, found: &FoundTunnel<'_>) -> Diagram {
    let record = found.record;
    let tunnel = &record.tunnel;
    let [esp_verdict, _] = esp(record_view, found);
    let clear = format!("{} -> {}", tunnel.remote_client, tunnel.local_client);
    let matched_as = match &tunnel.sa_match {
        SaMatch::Policy { .. } => format!("matched as: -m policy --dir in --pol ipsec{}", numbered(tunnel)),
        SaMatch::Interface(interface) => format!("it arrives by interface {interface}, without an IPsec policy"),
    };
    Diagram {
        title: format!("OUT OF THE TUNNEL {}", tunnel.connection),
        before: vec![
            Stop::kernel("PREROUTING, INPUT: ESP packet", [esp_verdict]),
            Stop::kernel("decrypted, re-enters PREROUTING", [clear, matched_as]),
            nat_stop(record, BuiltIn::PreRouting, Direction::In),
        ],
        branches: [
            Branch {
                whose: "to the gateway itself".to_owned(),
                stops: vec![decision(record, TrafficClass::Here)],
            },
            Branch {
                whose: "forwarded (to hosts behind it)".to_owned(),
                stops: vec![
                    decision(record, TrafficClass::Through),
                    Stop::kernel("POSTROUTING", ["leaves by its route".to_owned()]),
                ],
            },
        ],
        after: Vec::new(),
    }
}

/// Into the tunnel.
pub(super) fn outbound(record_view: &RecordView, found: &FoundTunnel<'_>) -> Diagram {
    let record = found.record;
    let tunnel = &record.tunnel;
    let [_, esp_verdict] = esp(record_view, found);
    let routed = match &record.tunnel_rules.interface {
        Some(interface) => format!("the route leads into {interface}"),
        None => "routing finds the policy".to_owned(),
    };
    Diagram {
        title: format!("INTO THE TUNNEL {}", tunnel.connection),
        before: Vec::new(),
        branches: [
            Branch {
                whose: "from the gateway itself".to_owned(),
                stops: vec![Stop::kernel(&routed, []), decision(record, TrafficClass::HereOut)],
            },
            Branch {
                whose: "forwarded (from hosts behind it)".to_owned(),
                stops: vec![
                    Stop::kernel(&format!("PREROUTING; {routed}"), []),
                    decision(record, TrafficClass::ThroughOut),
                ],
            },
        ],
        after: vec![
            nat_stop(record, BuiltIn::PostRouting, Direction::Out),
            Stop::kernel("encryption (ESP)", []),
            Stop::kernel("OUTPUT, POSTROUTING: ESP packet", [esp_verdict]),
        ],
    }
}

/// The number of its policies, as rules ask for it.
fn numbered(tunnel: &Tunnel) -> String {
    match &tunnel.sa_match {
        SaMatch::Policy { reqid: Some(reqid), .. } => format!(" --reqid {reqid}"),
        SaMatch::Policy { reqid: None, .. } | SaMatch::Interface(_) => String::new(),
    }
}

/// The verdicts on ESP from the peer, and to it.
fn esp(record_view: &RecordView, found: &FoundTunnel<'_>) -> [String; 2] {
    let tunnel = &found.record.tunnel;
    let (Some(me), Some(peer)) = (tunnel.local_host, tunnel.remote_host) else {
        return ["from the peer", "to the peer"].map(str::to_owned);
    };
    let verdicts = esp_verdicts(record_view, found, me, peer, &protocol(ESP));
    let [comes, leaves] = verdicts.map(|verdict| verdict.strip_prefix("is ").unwrap_or(&verdict).to_owned());
    [
        format!("from {peer} to {me}: {comes}"),
        format!("from {me} to {peer}: {leaves}"),
    ]
}

/// A place where the filter table decides.
fn decision(record: &TunnelRecord, class: TrafficClass) -> Stop {
    let sentence = class_sentences(record, class);
    let (tone, words) = match &sentence.passes {
        None => (DiagramTone::Left, "not decided here: your rules decide"),
        Some(AllowedTraffic::Undecided) => (DiagramTone::Left, "inspected, then your rules decide"),
        Some(AllowedTraffic::All) => (DiagramTone::Open, "passes, NEW connections too"),
        Some(AllowedTraffic::Replies) => (DiagramTone::Narrow, "replies pass, all else is dropped"),
        Some(AllowedTraffic::Services(_)) => (DiagramTone::Narrow, "services and replies, else dropped"),
        Some(AllowedTraffic::None) => (DiagramTone::Shut, "dropped"),
    };
    let mut lines = chains(record, &sentence);
    lines.push(words.to_owned());
    Stop {
        title: class.built_in().name().to_owned(),
        lines,
        tone,
    }
}

/// The chains of this program on a branch.
fn chains(record: &TunnelRecord, sentence: &ClassSentence) -> Vec<String> {
    if sentence.passes.is_none() {
        return Vec::new();
    }
    let path = sentence.class.path();
    let mut chains = vec![path.dispatcher()];
    for (bucket, own) in record.tunnel_rules.chains_on(path) {
        let bucket = Some(bucket.chain_name()).filter(|bucket| !chains.contains(bucket));
        chains.extend(bucket.into_iter().chain([own.clone()]));
    }
    chains.into_iter().map(|chain| format!("> {chain}")).collect()
}

/// What the mangle and nat tables do at one of their hooks.
fn nat_stop(record: &TunnelRecord, built_in: BuiltIn, direction: Direction) -> Stop {
    let clear = match direction {
        Direction::In => "the decrypted packet",
        Direction::Out => "before encryption",
    };
    let paths = [Table::Mangle, Table::Nat]
        .into_iter()
        .flat_map(PacketPath::tunnel_paths);
    let own = paths
        .filter(|path| path.direction() == direction)
        .flat_map(|path| record.tunnel_rules.chains_on(*path));
    let own = own.map(|(bucket, chain)| format!("{} > {chain}", bucket.path.table()));
    let mut lines: Vec<_> = own.collect();
    let exempt = record
        .tunnel_rules
        .optional
        .contains(&crate::firewall::OptionalChains::NatExempt);
    match (direction, about::source_natted_to(record)) {
        (Direction::Out, Some(address)) => lines.push(format!(
            "nat: sources outside {} become {address}",
            record.tunnel.local_client
        )),
        (Direction::Out, None) if exempt => {
            lines.push("nat: its addresses stay, whatever your own rules say".to_owned());
        }
        (Direction::In | Direction::Out, _) => {}
    }
    Stop::kernel(&format!("{}: {clear}", built_in.name()), lines)
}
