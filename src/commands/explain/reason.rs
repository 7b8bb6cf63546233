//! Why a packet passes or not: whose rule decides, by which setting, and what changes that.

use super::answer::kind_words;
use super::packet_query::service;
use super::record_view::{RecordView, RulesetView};
use super::routes::TunnelRoute;
use super::verdict::Outcome;
use crate::firewall::{AllowedTraffic, PacketPath, filter_paths, gateway_key};
use crate::net::{Family, Traffic};
use crate::netfilter::{Match, Rule};
use crate::settings::{Allow, GatewayAccess, Policy, Service, SettingPlace, SettingTable, SettingsSource};
use crate::state::{ClearTextBlockRecord, Record, TunnelRecord};
use crate::trace::{DecidingRule, Endpoint, WalkEnd};
use crate::words::{counted_noun, one_line};

/// The verdict on a packet by this program's rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Decided {
    Passes,
    Dropped,
    Left,
}

impl Decided {
    pub(super) fn from_end(end: WalkEnd) -> Self {
        match end {
            WalkEnd::Accepted | WalkEnd::Source(_) | WalkEnd::Destination(_) => Self::Passes,
            WalkEnd::Dropped => Self::Dropped,
            WalkEnd::Left => Self::Left,
        }
    }
}

/// Why.
#[derive(Debug, Default)]
pub(super) struct Reason {
    /// Whose rule it is, and what that allows: `tunnel road (anna) allows tcp/22 - not tcp/443`.
    pub(super) words: String,
    /// The lines of the settings file that decide.
    pub(super) settings: Vec<String>,
    /// The rule, with its counter.
    pub(super) rule: Option<String>,
    /// What would let the packet pass.
    fix: Option<String>,
}

/// What is explained.
struct ReasonContext<'a> {
    record_view: &'a RecordView,
    ruleset_view: &'a RulesetView,
    route: &'a TunnelRoute<'a>,
    kind: &'a Traffic,
    end: WalkEnd,
}

impl Reason {
    /// The reason for one of the possible outcomes.
    pub(super) fn find_reason(
        record_view: &RecordView,
        ruleset_view: &RulesetView,
        route: &TunnelRoute<'_>,
        outcome: &Outcome,
        kind: &Traffic,
    ) -> Self {
        let case = ReasonContext {
            record_view,
            ruleset_view,
            route,
            kind,
            end: outcome.end,
        };
        let walk = outcome.trace.hook().and_then(|hook| hook.walk.as_ref());
        // A shared rule is explained by the tunnel's own rule that jumped there.
        let rules = walk
            .into_iter()
            .flat_map(|walk| walk.decided_by.iter().chain(walk.jumps.iter().rev()));
        let owned = rules.clone().find_map(|rule| Some((rule, ruleset_view.owner(rule)?)));
        let rule = owned.map(|(rule, _)| rule).or_else(|| rules.clone().next());
        let mut reason = match owned {
            Some((_, Record::Tunnel(record))) => case.of_tunnel(record),
            Some((_, Record::ClearTextBlock(block))) => case.of_block(block),
            Some((rule, Record::Gateway(_))) => case.of_gateway(rule),
            Some((_, Record::EspPeer(_))) => case.of_esp_peer("a tunnel that is up"),
            None => case.of_nobody(),
        };
        reason.rule = rule.map(|rule| rule_text(ruleset_view, rule));
        reason
    }

    /// What changes the verdict, if anybody may want that.
    pub(super) fn fix(&self, decided: Decided) -> Option<String> {
        match decided {
            Decided::Dropped | Decided::Left => self.fix.clone(),
            Decided::Passes => None,
        }
    }
}

/// `PLUTO-road-45cxrv8d-FI: -j DROP (17 packets)`; the comment with the connection's name is left
/// out.
fn rule_text(ruleset_view: &RulesetView, deciding: &DecidingRule) -> String {
    let Rule { matches, target } = &deciding.rule;
    let matches = matches.iter().filter(|matched| !matches!(matched, Match::Comment(_)));
    let rule = Rule {
        matches: matches.cloned().collect(),
        target: target.clone(),
    };
    let counter = ruleset_view
        .kernel
        .counters(deciding)
        .map_or_else(String::new, |counters| {
            let packets = usize::try_from(counters.packets).unwrap_or(usize::MAX);
            format!(" ({})", counted_noun(packets, "packet"))
        });
    format!("{}: {rule}{counter}", deciding.chain)
}

/// `tunnel road-warriors (user7)`
fn tunnel_name(record: &TunnelRecord) -> String {
    let user = record.tunnel.user.as_ref();
    let user = user.map_or_else(String::new, |user| format!(" ({user})"));
    format!("tunnel {}{user}", record.key.connection)
}

impl ReasonContext<'_> {
    fn family(&self) -> Family {
        self.ruleset_view.ruleset.family
    }

    fn is_dropped(&self) -> bool {
        self.end == WalkEnd::Dropped
    }

    fn of_tunnel(&self, record: &TunnelRecord) -> Reason {
        if !self.route.is_of_tunnels() {
            return self.of_esp_peer(&tunnel_name(record));
        }
        let is_out_of = self.route.out_of.is_some_and(|other| other.id == record.id);
        let is_here = self.route.to == Endpoint::Gateway;
        let policy = record.effective_policy();
        let key = match is_out_of && is_here && self.is_closed_here(record) {
            true => "host-access",
            false => "allow",
        };
        let words = match (self.is_dropped(), key) {
            (true, "host-access") => format!("{} does not open the gateway itself", tunnel_name(record)),
            (true, _) => format!("{} {}", tunnel_name(record), self.refused(&policy.allow)),
            (false, _) => self.passing(record, is_out_of),
        };
        let fix = match key {
            "host-access" => Some("set host-access = \"yes\"".to_owned()),
            _ => self.allowing(&policy.allow),
        };
        let mut reason = Reason {
            words,
            ..self.setting_reason(record, key, fix)
        };
        if record.effective.is_some() {
            let twin = "another tunnel with equal selectors and reqid is up: only what both allow is allowed";
            reason.settings.push(twin.to_owned());
        }
        reason
    }

    /// Whether the packet is for the gateway, which the tunnel does not open: then `host-access`
    /// decides, not `allow`.
    fn is_closed_here(&self, record: &TunnelRecord) -> bool {
        let policy = record.effective_policy();
        let opened = Policy {
            host_access: GatewayAccess::Yes,
            ..policy.clone()
        };
        let is_allowed = |policy: &Policy| {
            let paths = filter_paths(&record.tunnel, policy);
            let allowed = paths
                .into_iter()
                .find(|path| path.path == PacketPath::Input)
                .map(|path| path.allowed);
            match allowed {
                Some(AllowedTraffic::All) => true,
                Some(AllowedTraffic::Services(services)) => {
                    let mut kinds = services.iter().flat_map(|service| service.traffic(self.family()));
                    kinds.any(|kind| self.kind.intersect(&kind, self.family()).as_ref() == Some(self.kind))
                }
                Some(AllowedTraffic::Replies | AllowedTraffic::None | AllowedTraffic::Undecided) | None => false,
            }
        };
        is_allowed(&opened) && !is_allowed(policy)
    }

    /// Whether the packet is for one of some services.
    fn is_one_of(&self, services: &[Service]) -> bool {
        let mut kinds = services.iter().flat_map(|service| service.traffic(self.family()));
        kinds.any(|kind| self.kind.intersect(&kind, self.family()).as_ref() == Some(self.kind))
    }

    fn refused(&self, allow: &Allow) -> String {
        match (allow, self.kind) {
            (Allow::Services(_), Traffic::Any) => format!("allows {allow} only"),
            (Allow::Services(_), kind) => format!("allows {allow} - not {}", kind_words(kind, self.family())),
            (Allow::Replies, _) => "allows only replies to connections from this side".to_owned(),
            (Allow::None, _) => "allows nothing".to_owned(),
            (Allow::All, _) => "does not carry it".to_owned(),
        }
    }

    fn passing(&self, record: &TunnelRecord, is_out_of: bool) -> String {
        if let (Some(one), Some(other)) = (self.route.out_of, self.route.into) {
            return format!("{} and {} both allow it", tunnel_name(one), tunnel_name(other));
        }
        let name = tunnel_name(record);
        match (&record.effective_policy().allow, is_out_of) {
            (Allow::Services(services), true) if self.is_one_of(services) => {
                format!("{name} allows {}", kind_words(self.kind, self.family()))
            }
            (Allow::All, true) => format!("{name} allows everything"),
            (_, true) => format!("{name} allows what belongs to connections from this side"),
            (_, false) => format!("{name} accepts everything from this side"),
        }
    }

    /// What `allow` has to say for the packet to pass.
    fn allowing(&self, allow: &Allow) -> Option<String> {
        match (allow, service(self.kind, self.family())) {
            (Allow::All, _) => None,
            (Allow::Services(_), Some(service)) => Some(format!("add \"{service}\" to allow")),
            (Allow::Replies | Allow::None, Some(service)) => Some(format!("set allow = [\"{service}\"]")),
            (_, None) => Some("set allow = \"all\"".to_owned()),
        }
    }

    /// Where a key is set for a tunnel, and what to write there.
    fn setting_reason(&self, record: &TunnelRecord, key: &'static str, fix: Option<String>) -> Reason {
        let source = match &self.record_view.settings {
            Ok(source) => source,
            Err(error) => return self.unreadable(error),
        };
        let places = source.of_tunnel(&record.tunnel, key);
        let is_applied = is_applied(source, record, key);
        let doubtful = places.len() > 1;
        let settings = places.iter().map(|place| match (is_applied, doubtful) {
            (false, _) => format!("{place} (not applied yet)"),
            (true, true) => format!("{place} (may apply)"),
            (true, false) => place.to_string(),
        });
        let fix = match is_applied {
            true => fix.map(|fix| fix_in_table(&places, record, &fix)),
            false => Some("apply the settings: pluto-updown start".to_owned()),
        };
        Reason {
            settings: settings.collect(),
            fix,
            ..Reason::default()
        }
    }

    fn unreadable(&self, error: &str) -> Reason {
        Reason {
            settings: vec![error.to_owned()],
            fix: Some("correct this line, then: pluto-updown start".to_owned()),
            ..Reason::default()
        }
    }

    fn of_block(&self, block: &ClearTextBlockRecord) -> Reason {
        let (local, remote) = (block.local, block.remote);
        let connections = block.connections();
        let unblock = connections
            .first()
            .map_or_else(|| remote.to_string(), ToString::to_string);
        let fix = format!("bring their tunnel up, or: pluto-updown unblock {unblock}");
        let settings = match &self.record_view.settings {
            Err(error) => vec![error.clone()],
            Ok(source) => blocking(source, block),
        };
        Reason {
            words: format!("unencrypted, and when-down = \"block\" blocks {local} <-> {remote} outside their tunnel"),
            settings,
            fix: Some(fix),
            ..Reason::default()
        }
    }

    fn of_gateway(&self, rule: &DecidingRule) -> Reason {
        let source = match &self.record_view.settings {
            Ok(source) => source,
            Err(error) => {
                return Reason {
                    words: "the gateway's own rules".to_owned(),
                    ..self.unreadable(error)
                };
            }
        };
        let gateway = &source.settings().gateway;
        match gateway_key(gateway, self.family(), &rule.chain, &rule.rule) {
            None => Reason {
                words: "the gateway's own rules, by settings that the file no longer has".to_owned(),
                fix: Some("apply the settings: pluto-updown start".to_owned()),
                ..Reason::default()
            },
            Some(key) => Reason {
                words: format!(
                    "{key} of [gateway] {}",
                    if self.is_dropped() { "drops it" } else { "allows it" }
                ),
                settings: vec![source.of_gateway(key).to_string()],
                fix: Some(format!("change {key}, then: pluto-updown start")),
                ..Reason::default()
            },
        }
    }

    fn of_esp_peer(&self, whose: &str) -> Reason {
        let settings = match &self.record_view.settings {
            Ok(source) => source.of_gateway("esp").to_string(),
            Err(error) => error.clone(),
        };
        Reason {
            words: format!("ESP and AH of the peer of {whose}"),
            settings: vec![settings],
            ..Reason::default()
        }
    }

    /// No rule of a record: left to the administrator's rules, or one that all share.
    fn of_nobody(&self) -> Reason {
        let is_here = self.route.to == Endpoint::Gateway;
        match (self.end, self.route.out_of) {
            (WalkEnd::Left, Some(record)) if is_here && self.is_closed_here(record) => Reason {
                words: format!("{} does not open the gateway itself", tunnel_name(record)),
                ..self.setting_reason(record, "host-access", Some("set host-access = \"yes\"".to_owned()))
            },
            (WalkEnd::Left, _) => Reason {
                words: "no rule of pluto-updown matches it".to_owned(),
                ..Reason::default()
            },
            _ => Reason {
                words: "a rule that all tunnels share".to_owned(),
                ..Reason::default()
            },
        }
    }
}

/// The lines that ask for a blocked pair: by its networks, or for the connections that have it.
fn blocking(source: &SettingsSource, block: &ClearTextBlockRecord) -> Vec<String> {
    let named = source.of_pair(&(block.local, block.remote));
    let asked = block.askers().flat_map(|tunnel| source.of_tunnel(tunnel, "when-down"));
    let mut places: Vec<SettingPlace> = Vec::new();
    for place in named.into_iter().chain(asked) {
        if !places.contains(&place) {
            places.push(place);
        }
    }
    places.iter().map(SettingPlace::to_string).collect()
}

/// Whether the file says the same of a key as when the tunnel's rules were made.
fn is_applied(source: &SettingsSource, record: &TunnelRecord, key: &str) -> bool {
    let set = source.settings().policy(&record.tunnel);
    match key {
        "allow" => set.allow == record.policy.allow,
        "host-access" => set.host_access == record.policy.host_access,
        _ => true,
    }
}

/// What to write, and where if nothing of the file is about the tunnel alone.
fn fix_in_table(places: &[SettingPlace], record: &TunnelRecord, fix: &str) -> String {
    let table = places
        .first()
        .and_then(|place| place.origin.as_ref())
        .map(|origin| &origin.table);
    let connection = one_line(record.key.connection.as_str());
    match table {
        Some(SettingTable::Connection(_)) => format!("{fix}, then: pluto-updown start"),
        Some(SettingTable::Tunnel | SettingTable::Gateway) => {
            format!("{fix} (there for every tunnel), then: pluto-updown start")
        }
        None => format!("{fix} in a [[connection]] name = \"{connection}\", then: pluto-updown start"),
    }
}
