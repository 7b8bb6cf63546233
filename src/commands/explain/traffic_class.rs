//! The four classes of a tunnel's packets in the filter table, and the traffic that is allowed in
//! each.

use crate::firewall::{AllowedTraffic, PacketPath, filter_paths};
use crate::net::Traffic;
use crate::netfilter::{BuiltIn, Direction};
use crate::settings::{Allow, Service};
use crate::state::TunnelRecord;

/// One of the four classes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TrafficClass {
    /// Out of the tunnel, through the gateway.
    Through,
    /// Out of the tunnel, to the gateway itself.
    Here,
    /// Through the gateway, into the tunnel.
    ThroughOut,
    /// Of the gateway itself, into the tunnel.
    HereOut,
}

/// A class, and the traffic that is allowed.
#[derive(Debug)]
pub(super) struct ClassSentence {
    pub(super) class: TrafficClass,
    /// From where to where.
    between: String,
    /// Nothing, where the tunnel has no chain.
    pub(super) passes: Option<AllowedTraffic>,
    /// Whether packets out of the tunnel that no tunnel allows are dropped, whatever their
    /// destination.
    refuses: bool,
}

impl TrafficClass {
    pub(super) const ALL: [Self; 4] = [Self::Through, Self::ThroughOut, Self::Here, Self::HereOut];

    pub(super) fn path(self) -> PacketPath {
        match self {
            Self::Through => PacketPath::ForwardIn,
            Self::Here => PacketPath::Input,
            Self::ThroughOut => PacketPath::ForwardOut,
            Self::HereOut => PacketPath::Output,
        }
    }

    pub(super) fn built_in(self) -> BuiltIn {
        match self {
            Self::Through | Self::ThroughOut => BuiltIn::Forward,
            Self::Here => BuiltIn::Input,
            Self::HereOut => BuiltIn::Output,
        }
    }

    fn title(self) -> &'static str {
        match self {
            Self::Through => "In, through the gateway",
            Self::Here => "In, to the gateway itself",
            Self::ThroughOut => "Out, through the gateway",
            Self::HereOut => "Out, from the gateway itself",
        }
    }
}

/// The allowed traffic of a class.
pub(super) fn class_sentences(record: &TunnelRecord, class: TrafficClass) -> ClassSentence {
    let tunnel = &record.tunnel;
    let filter_path = filter_paths(tunnel, record.effective_policy())
        .into_iter()
        .find(|filter_path| filter_path.path == class.path());
    let remote = tunnel.remote_client;
    let local = filter_path
        .as_ref()
        .map_or(tunnel.local_client, |filter_path| filter_path.local);
    let between = match class {
        TrafficClass::Through => format!("{remote} to {local}"),
        TrafficClass::ThroughOut => format!("{local} to {remote}"),
        TrafficClass::Here => format!("from {remote}"),
        TrafficClass::HereOut => format!("to {remote}"),
    };
    let passes = filter_path.map(|filter_path| filter_path.allowed);
    let refuses = record.effective_policy().allow != Allow::All;
    ClassSentence {
        class,
        between,
        passes,
        refuses,
    }
}

/// The allowed traffic of a class, in a sentence.
pub(super) fn class_sentence(record: &TunnelRecord, class: TrafficClass) -> String {
    let sentences = class_sentences(record, class);
    let allowed = allowed(&sentences, record.key.traffic != Traffic::Any);
    format!("{} ({}): {allowed}", class.title(), sentences.between)
}

fn allowed(sentences: &ClassSentence, is_narrow: bool) -> String {
    let chain = sentences.class.built_in().name();
    let local_side = "connections from this side";
    match &sentences.passes {
        None if sentences.refuses && sentences.class.path().direction() == Direction::In => format!(
            "no address of the tunnel is there. Packets that a DNAT rule of yours sends there are not decided here if the peer may ask for them (your {chain} rules decide), and dropped otherwise."
        ),
        None => format!("not decided here: your {chain} rules decide."),
        Some(AllowedTraffic::Undecided) => format!("inspected, but not decided here: your {chain} rules decide."),
        Some(AllowedTraffic::All) if is_narrow => format!(
            "everything that it carries passes, NEW connections too. All else is not decided here: your {chain} rules decide."
        ),
        Some(AllowedTraffic::All) => "everything passes, NEW connections too.".to_owned(),
        Some(AllowedTraffic::Replies) => format!("only replies to {local_side}. All else is dropped."),
        Some(AllowedTraffic::Services(services)) => {
            let services: Vec<_> = services.iter().map(Service::to_string).collect();
            let services = services.join(", ");
            format!("{services}, and replies to {local_side}. All else is dropped.")
        }
        Some(AllowedTraffic::None) => "nothing. It is dropped.".to_owned(),
    }
}
