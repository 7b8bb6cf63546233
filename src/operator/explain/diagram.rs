//! A diagram of a tunnel's packets within this machine, made of boxes. `drawing` and `svg` draw it.

use super::about::{self, closed};
use super::find::FoundTunnel;
use super::packet_query::{ESP, protocol};
use super::record_view::RecordView;
use super::traffic_class::{ClassSentence, TrafficClass, class_sentences};
use crate::netfilter::{BuiltIn, ChainName, Direction, Table};
use crate::plan::{AllowedTraffic, PacketPath};
use crate::record::TunnelRecord;
use crate::updown_env::{SaMatch, Tunnel};

/// A diagram: the first boxes of all packets, the two branches, and the last boxes of all packets.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Diagram {
    pub(super) title: String,
    pub(super) before: Vec<Stop>,
    pub(super) ways: [Branch; 2],
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
    /// Nothing that is ours to say.
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
pub(super) fn inbound(scene: &RecordView, found: &FoundTunnel<'_>) -> Diagram {
    let record = found.record;
    let tunnel = &record.tunnel;
    let [closed, _] = esp(scene, found);
    let clear = format!("{} -> {}", tunnel.remote_client, tunnel.local_client);
    let opened = match &tunnel.sa_match {
        SaMatch::Policy { .. } => format!("matched as: -m policy --dir in --pol ipsec{}", numbered(tunnel)),
        SaMatch::Interface(device) => format!("it arrives by interface {device}, without an IPsec policy"),
    };
    Diagram {
        title: format!("OUT OF THE TUNNEL {}", tunnel.connection),
        before: vec![
            Stop::kernel("PREROUTING, INPUT: ESP packet", [closed]),
            Stop::kernel("decrypted, re-enters PREROUTING", [clear, opened]),
            station(record, BuiltIn::PreRouting, Direction::In),
        ],
        ways: [
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
pub(super) fn outbound(scene: &RecordView, found: &FoundTunnel<'_>) -> Diagram {
    let record = found.record;
    let tunnel = &record.tunnel;
    let [_, closed] = esp(scene, found);
    let routed = match &record.tunnel_rules.interface {
        Some(device) => format!("the route leads into {device}"),
        None => "routing finds the policy".to_owned(),
    };
    Diagram {
        title: format!("INTO THE TUNNEL {}", tunnel.connection),
        before: Vec::new(),
        ways: [
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
            station(record, BuiltIn::PostRouting, Direction::Out),
            Stop::kernel("encryption (ESP)", []),
            Stop::kernel("OUTPUT, POSTROUTING: ESP packet", [closed]),
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
fn esp(scene: &RecordView, found: &FoundTunnel<'_>) -> [String; 2] {
    let tunnel = &found.record.tunnel;
    let (Some(me), Some(peer)) = (tunnel.local_host, tunnel.remote_host) else {
        return ["from the peer", "to the peer"].map(str::to_owned);
    };
    let verdicts = closed(scene, found, me, peer, &protocol(ESP));
    let [comes, leaves] = verdicts.map(|verdict| verdict.strip_prefix("is ").unwrap_or(&verdict).to_owned());
    [
        format!("from {peer} to {me}: {comes}"),
        format!("from {me} to {peer}: {leaves}"),
    ]
}

/// A place where the filter table decides.
fn decision(record: &TunnelRecord, lane: TrafficClass) -> Stop {
    let way = class_sentences(record, lane);
    let (tone, words) = match &way.passes {
        None => (DiagramTone::Left, "not decided here: your rules decide"),
        Some(AllowedTraffic::Undecided) => (DiagramTone::Left, "inspected, then your rules decide"),
        Some(AllowedTraffic::All) => (DiagramTone::Open, "passes, NEW connections too"),
        Some(AllowedTraffic::Replies) => (DiagramTone::Narrow, "replies pass, all else is dropped"),
        Some(AllowedTraffic::Services(_)) => (DiagramTone::Narrow, "services and replies, else dropped"),
        Some(AllowedTraffic::None) => (DiagramTone::Shut, "dropped"),
    };
    let mut lines = chains(record, &way);
    lines.push(words.to_owned());
    Stop {
        title: lane.built_in().name().to_owned(),
        lines,
        tone,
    }
}

/// The chains of this program on a branch.
fn chains(record: &TunnelRecord, way: &ClassSentence) -> Vec<String> {
    if way.passes.is_none() {
        return Vec::new();
    }
    let path = way.class.path();
    let own = own_chain(record, path);
    let bucket = own.as_ref().and_then(|own| record.tunnel_rules.bucket_of(path, own));
    let chains = [Some(path.dispatcher()), bucket.map(|bucket| bucket.chain_name()), own];
    chains.into_iter().flatten().map(|chain| format!("> {chain}")).collect()
}

fn own_chain(record: &TunnelRecord, path: PacketPath) -> Option<ChainName> {
    let chains = record
        .tunnel_rules
        .fragment(path.table())
        .into_iter()
        .flat_map(|fragment| &fragment.chains);
    let tag = format!("-{}", path.tag());
    chains.into_iter().find(|chain| chain.as_str().ends_with(&tag)).cloned()
}

/// What the mangle and nat tables do at one of their places.
fn station(record: &TunnelRecord, built_in: BuiltIn, direction: Direction) -> Stop {
    let clear = match direction {
        Direction::In => "the decrypted packet",
        Direction::Out => "before encryption",
    };
    let paths = [Table::Mangle, Table::Nat]
        .into_iter()
        .flat_map(PacketPath::tunnel_paths);
    let own = paths
        .filter(|path| path.direction() == direction)
        .filter_map(|path| Some(format!("{} > {}", path.table(), own_chain(record, *path)?)));
    let mut lines: Vec<_> = own.collect();
    let exempt = record
        .tunnel_rules
        .optional
        .contains(&crate::plan::OptionalChains::NatExempt);
    match (direction, about::hidden_behind(record)) {
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
