//! What must hold whatever the bytes are: one function for each place where the program reads what it has not written itself, or may find
//! garbled. libFuzzer calls them with what it makes up (`contrib/fuzz/run`), `tests/unprivileged/fuzzed.rs` with everything in `contrib/fuzz/corpus`.

#![allow(dead_code, unreachable_pub, reason = "a fuzz target calls one of these")]

use std::ffi::OsString;
use std::fmt::Debug;
use std::os::unix::ffi::OsStringExt as _;

use pluto_updown::commands::{Directory, PacketQuery};
use pluto_updown::daemon::{FirewallAction, RawEnv, Tunnel, UpCounting, captured_calls};
use pluto_updown::dns::{Author, DnsNames, ResolverRecord, author, merge_users};
use pluto_updown::firewall::{
    DesiredState, JumpConfig, NatExemption, PolicyContext, Repair, RulesetChange, TunnelKey, TunnelRules, detect_drift,
    esp_peer_rules, plan_faults, reconcile, rule_probes, transition, tunnel_rules,
};
use pluto_updown::net::{Family, MarkBit};
use pluto_updown::netfilter::{Backend, IptablesSave, JumpOwner, Section, UserRules, purge, restore_text};
use pluto_updown::routing::RoutingRecord;
use pluto_updown::settings::{Esp, JumpPlace, Policy, Settings};
use pluto_updown::state::{FORMAT, Journal, Record, TunnelRecord};
use pluto_updown::updown::{Event, read_event};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// One that panics at bytes at which something does not hold.
pub type Target = fn(&[u8]);

/// Every target by its name.
pub const TARGETS: [(&str, Target); 7] = [
    ("captures", captures),
    ("environment", environment),
    ("listing", listing),
    ("packet", packet),
    ("record", record),
    ("resolv_conf", resolv_conf),
    ("settings", settings),
];

/// An environment as in `/proc/PID/environ`, `NAME=value` and a NUL: read or refused in one line, and what comes of a tunnel is rules that
/// hold nobody's words.
pub fn environment(bytes: &[u8]) {
    call(&RawEnv::new([], bytes.split(|byte| *byte == 0).filter_map(variable)));
}

/// A captures file: every call of it is read or refused, as from an environment.
pub fn captures(bytes: &[u8]) {
    let lines = bytes.split(|byte| *byte == b'\n').count();
    for captured in captured_calls(bytes) {
        assert!((1..=lines).contains(&captured.line));
        assert!(
            captured
                .fault
                .is_none_or(|line| (captured.line + 1..=lines).contains(&line))
        );
        call(&captured.raw_env());
    }
}

/// The text of a settings file: read, or refused in one line that names a line of the file.
pub fn settings(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    match Settings::parse(text) {
        Ok(settings) => assert_eq!(Settings::parse(text), Ok(settings)),
        Err(malformed) => {
            assert_plain(&malformed.message);
            let told = ["expected ", "not TOML: ", "needs at least one of ", "never used: "]
                .iter()
                .any(|word| malformed.message.contains(word));
            assert!(told, "{malformed}");
            let lines = text.matches('\n').count() + 1;
            assert!((1..=lines).contains(&malformed.line), "{malformed} of {lines} lines");
        }
    }
}

/// A file of the record, of any kind: what is read is written the same again, and its rules can be put in, taken out and put back.
pub fn record(bytes: &[u8]) {
    comes_back::<Journal>(bytes);
    comes_back::<RoutingRecord>(bytes);
    comes_back::<ResolverRecord>(bytes);
    if let Some(entry) = comes_back_by(bytes, Record::from_json) {
        // What somebody has changed in it may be no good plan. That is found out before it is carried out.
        Family::ALL
            .into_iter()
            .flat_map(|family| life(entry.tunnel_rules(), family))
            .for_each(|sections| assert_plain_rules(&sections));
    }
}

/// What `iptables-save` prints, or something in its place: whatever stands there, what we do about it is a good plan.
pub fn listing(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let saved = IptablesSave::parse(&text);
    for others in [UserRules::Keep, UserRules::Delete] {
        for jumps in [JumpOwner::Program, JumpOwner::User] {
            for backend in [Backend::Nft, Backend::Legacy] {
                assert_restorable(&purge(&saved, backend, jumps, others).restore_text());
            }
        }
    }
    let all_rules = [
        tunnels_layout(),
        esp_peer_rules(["192.0.2.2".parse().expect("an address")]),
    ];
    let wanted = DesiredState::from_rules(&all_rules, site(Family::Ipv4));
    let asked = rule_probes(&wanted, &saved);
    for stands in [&asked[..], &[]] {
        let found = detect_drift(&wanted, &saved, stands);
        // It takes rules out in the words in which they are listed.
        for repair in [Repair::Patch, Repair::Refill] {
            let mended = reconcile(&wanted, &saved, stands, &found, repair);
            assert_eq!(plan_faults(&mended), []);
            assert_restorable(&restore_text(&mended));
        }
    }
}

/// A `resolv.conf`: with a peer's name servers in it, it is ours; and they stand before its own.
pub fn resolv_conf(bytes: &[u8]) {
    let names = [
        DnsNames {
            servers: vec!["192.0.2.53".parse().expect("an address")],
            domains: vec!["corp.example".parse().expect("a domain")],
        },
        DnsNames {
            servers: vec!["2001:db8::53".parse().expect("an address")],
            domains: Vec::new(),
        },
    ];
    let (before, merged) = (author(bytes), merge_users(bytes, &names));
    assert_eq!(author(&merged), Author::Ours);
    assert!(merged.ends_with(b"\n"));
    let servers = |text: &[u8]| -> Vec<Vec<u8>> {
        let lines = text.split(|byte| *byte == b'\n');
        lines
            .filter_map(|line| Some(line.strip_prefix(b"nameserver ")?.to_vec()))
            .collect()
    };
    assert_eq!(
        servers(&merged)[..2],
        [b"2001:db8::53".to_vec(), b"192.0.2.53".to_vec()]
    );
    // To merge what is merged already finds nothing new.
    if before != Author::Ours {
        assert_eq!(servers(&merge_users(&merged, &names)), servers(&merged));
    }
}

/// Host names that nobody looks up.
struct NoNames;

impl Directory for NoNames {
    fn addresses(&self, _name: &str) -> Result<Vec<std::net::IpAddr>, String> {
        Err("no such host".to_owned())
    }
}

/// The words behind `explain --packet`.
pub fn packet(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let words: Vec<_> = text.split([' ', '\n', '\0']).map(str::to_owned).collect();
    match PacketQuery::parse(&words, &NoNames) {
        Ok(question) => {
            assert_eq!(
                Family::of_address(question.source),
                Family::of_address(question.destination)
            );
            assert!(!question.kinds.is_empty());
        }
        Err(error) => assert_plain(&error.to_string()),
    }
}

fn variable(text: &[u8]) -> Option<(OsString, OsString)> {
    let equals = text.iter().position(|byte| *byte == b'=')?;
    let own = |bytes: &[u8]| OsString::from_vec(bytes.to_vec());
    Some((own(&text[..equals]), own(&text[equals + 1..])))
}

/// A call is read or refused.
fn call(snapshot: &RawEnv) {
    match read_event(snapshot) {
        Err(error) => assert_plain(&error.to_string()),
        Ok(Event {
            firewall: firewall_action,
            routing,
            resolver,
            ..
        }) => {
            let told = resolver.iter().flat_map(|firewall_action| &firewall_action.faults);
            told.for_each(|fault| assert_plain(&fault.to_string()));
            drop(routing);
            match firewall_action {
                FirewallAction::Open(tunnel) | FirewallAction::Close(tunnel) => opened(&tunnel),
                FirewallAction::Nothing => {}
            }
        }
    }
}

/// What becomes of a tunnel: its rules, and its record.
fn opened(tunnel: &Tunnel) {
    let policy = Policy::default();
    let key = TunnelKey::from_tunnel(tunnel);
    let id = key.ids().next().expect("a first name");
    let context = PolicyContext {
        policy: &policy,
        esp: Esp::Negotiated,
        peers: &tunnel.remote_host.into_iter().collect(),
        ipcomp_hosts: &tunnel.ipcomp_hosts().into_iter().collect(),
        nat_exemption: NatExemption::Possible,
        connected: &[],
        interfaces: &[],
        path_mtu: Some(1400),
    };
    let tunnel_rules = match tunnel_rules(tunnel, &id, &context) {
        Ok(tunnel_rules) => tunnel_rules,
        Err(error) => return assert_plain(&error.to_string()),
    };
    for sections in life(&tunnel_rules, tunnel.family()) {
        assert_eq!(plan_faults(&sections), []);
        assert_plain_rules(&sections);
    }
    let record = Record::from(TunnelRecord {
        format: FORMAT,
        id,
        key,
        up_counting: UpCounting::Counted,
        count: 1,
        since: 0,
        daemon: None,
        tunnel: tunnel.clone(),
        policy,
        openers: Vec::new(),
        effective: None,
        turn: 0,
        tunnel_rules,
    });
    let text = serde_json::to_vec(&record).expect("JSON");
    assert_eq!(comes_back_by(&text, Record::from_json), Some(record));
}

/// In, out, and back.
fn life(tunnel_rules: &TunnelRules, family: Family) -> [Vec<Section>; 3] {
    let site = site(family);
    let wanted = DesiredState::from_rules(std::slice::from_ref(tunnel_rules), site);
    let nothing = IptablesSave::default();
    let missing = detect_drift(&wanted, &nothing, &[]);
    [
        transition(&RulesetChange {
            added: vec![tunnel_rules.clone()],
            ..RulesetChange::unchanged(site)
        }),
        transition(&RulesetChange {
            removed: vec![tunnel_rules.clone()],
            ..RulesetChange::unchanged(site)
        }),
        reconcile(&wanted, &nothing, &[], &missing, Repair::Patch),
    ]
}

fn site(family: Family) -> JumpConfig {
    let (place, mark) = (JumpPlace::First, MarkBit::DEFAULT);
    JumpConfig { family, place, mark }
}

/// That of a tunnel between two networks.
fn tunnels_layout() -> TunnelRules {
    const UP: &str = "PLUTO_VERSION=1.1\nPLUTO_VERB=up-client\nPLUTO_CONNECTION=net\nPLUTO_INTERFACE=eth0\nPLUTO_REQID=1\nPLUTO_PROTO=esp\n\
                      PLUTO_UNIQUEID=1\nPLUTO_ME=192.0.2.1\nPLUTO_MY_ID=hub\nPLUTO_MY_CLIENT=10.1.0.0/24\nPLUTO_MY_PORT=0\n\
                      PLUTO_MY_PROTOCOL=0\nPLUTO_PEER=192.0.2.2\nPLUTO_PEER_ID=spoke\nPLUTO_PEER_CLIENT=10.2.0.0/24\nPLUTO_PEER_PORT=0\n\
                      PLUTO_PEER_PROTOCOL=0";
    let snapshot = RawEnv::new([], UP.lines().filter_map(|line| variable(line.as_bytes())));
    let FirewallAction::Open(tunnel) = read_event(&snapshot).expect("a call").firewall else {
        panic!("an up")
    };
    let key = TunnelKey::from_tunnel(&tunnel);
    let context = PolicyContext {
        policy: &Policy::default(),
        esp: Esp::Negotiated,
        peers: &tunnel.remote_host.into_iter().collect(),
        ipcomp_hosts: &tunnel.ipcomp_hosts().into_iter().collect(),
        nat_exemption: NatExemption::Possible,
        connected: &[],
        interfaces: &[],
        path_mtu: None,
    };
    tunnel_rules(&tunnel, &key.ids().next().expect("a name"), &context).expect("nothing is set")
}

/// What is read from these bytes, if anything is; it is written so that the same is read again.
fn comes_back<T: Serialize + DeserializeOwned + PartialEq + Debug>(bytes: &[u8]) -> Option<T> {
    comes_back_by(bytes, |bytes| serde_json::from_slice(bytes))
}

fn comes_back_by<T: Serialize + PartialEq + Debug>(
    bytes: &[u8],
    read: fn(&[u8]) -> serde_json::Result<T>,
) -> Option<T> {
    let value = read(bytes).ok()?;
    let written = serde_json::to_vec(&value).expect("JSON");
    let again = read(&written).expect("what we wrote");
    assert_eq!(again, value);
    Some(value)
}

/// A text with a line for each command, in which there is nothing that iptables-restore could take for anything else.
fn assert_plain_rules(sections: &[Section]) {
    let text = restore_text(sections);
    let lines: usize = sections.iter().map(|section| section.commands.len() + 2).sum();
    assert_eq!(text.lines().count(), lines);
    for line in text.lines() {
        assert!(line.bytes().all(|byte| matches!(byte, b' '..=b'~')), "{line:?}");
        let quotes = line.matches('"').count();
        let is_quoted = ["--comment \"", "-prefix \""].iter().any(|word| line.contains(word));
        assert!(quotes == 0 || (quotes == 2 && is_quoted), "{line:?}");
        assert!(!line.contains('\\'), "{line:?}");
    }
}

/// A text in the form of iptables-restore's.
fn assert_restorable(text: &str) {
    let mut open = false;
    for line in text.lines() {
        match (open, line.chars().next()) {
            (false, Some('*')) => open = true,
            (true, Some(':' | '-' | '[')) => {}
            (true, Some('C')) if line == "COMMIT" => open = false,
            _ => panic!("{line:?} in {text:?}"),
        }
    }
    assert!(!open, "{text:?}");
}

/// One line that a log and a terminal can show.
fn assert_plain(line: &str) {
    let is_printable = line.bytes().all(|byte| matches!(byte, b' '..=b'~'));
    assert!(is_printable && !line.is_empty() && line.len() < 1000, "{line:?}");
}
