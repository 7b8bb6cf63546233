use std::collections::BTreeSet;

use super::*;
use crate::daemon::{FirewallAction, RawEnv, read_call};
use crate::firewall::base_chains::JumpConfig;
use crate::firewall::reconcile::{Repair, reconcile};
use crate::firewall::tunnel::{NatExemption, PolicyContext, TunnelKey, TunnelRules, tunnel_rules};
use crate::net::{Family, MarkBit};
use crate::netfilter::{RestoreCommand, restore_text};
use crate::settings::{Esp, Nat, Policy};

const SITE: JumpConfig = JumpConfig {
    family: Family::Ipv4,
    place: JumpPlace::First,
    mark: MarkBit::DEFAULT,
};

fn some_rules(connection: &str, changes: &[(&str, &str)]) -> TunnelRules {
    const VARIABLES: &str = "PLUTO_VERB=up-client PLUTO_CONN_KIND=CK_PERMANENT PLUTO_STACK=xfrm PLUTO_INTERFACE=eth0 \
        PLUTO_CLIENT_FAMILY=ipv4 PLUTO_VIRT_INTERFACE=NULL PLUTO_XFRMI_ROUTE= VTI_IFACE= PLUTO_ME=192.0.2.1 PLUTO_MY_ID=@a \
        PLUTO_MY_CLIENT=10.1.0.0/24 PLUTO_MY_PORT=0 PLUTO_MY_PROTOCOL=0 PLUTO_PEER=192.0.2.2 PLUTO_PEER_ID=@b \
        PLUTO_PEER_PORT=0 PLUTO_PEER_PROTOCOL=0 PLUTO_SA_REQID=16389 PLUTO_SA_TYPE=ESP SPI_IN=0x1 SPI_OUT=0x2";
    let pairs = VARIABLES
        .split_ascii_whitespace()
        .filter_map(|word| word.split_once('='));
    let pairs = pairs
        .chain([("PLUTO_CONNECTION", connection)])
        .chain(changes.iter().copied());
    let event = read_call(&RawEnv::new([], pairs.map(|(name, value)| (name.into(), value.into())))).unwrap();
    let FirewallAction::Open(tunnel) = event.firewall else {
        panic!("an up")
    };
    let id = TunnelKey::from_tunnel(&tunnel).ids().next().unwrap();
    let policy = Policy {
        nat: Nat::Leave,
        ..Policy::default()
    };
    let context = PolicyContext {
        policy: &policy,
        esp: Esp::default(),
        peers: &BTreeSet::new(),
        ipcomp_hosts: &tunnel.ipcomp_hosts().into_iter().collect(),
        nat_exemption: NatExemption::Never,
        connected: &[],
        interfaces: &[],
        path_mtu: None,
    };
    tunnel_rules(&tunnel, &id, &context).unwrap()
}

/// Two tunnels in one bucket, one with an interface.
fn all_rules() -> [TunnelRules; 3] {
    [
        some_rules("a", &[("PLUTO_PEER_CLIENT", "10.2.0.0/24")]),
        some_rules(
            "b",
            &[("PLUTO_PEER_CLIENT", "10.2.1.0/24"), ("PLUTO_SA_REQID", "16393")],
        ),
        some_rules("c", &[("PLUTO_PEER_CLIENT", "10.3.0.0/24"), ("VTI_IFACE", "vti1")]),
    ]
}

/// A listing that holds what is wanted, each rule with as many packets as it has lines before it.
fn listing(desired: &DesiredState) -> String {
    let mut text = String::from("*filter\n:INPUT DROP [0:0]\n:FORWARD DROP [0:0]\n:OUTPUT ACCEPT [0:0]\n");
    for (name, _) in desired.chains(Table::Filter) {
        text += &format!(":{name} - [0:0]\n");
    }
    for built_in in Table::Filter.built_in() {
        text += &format!("[0:0] -A {} -j {}\n", built_in.name(), base_chain(*built_in));
    }
    for (name, chain) in desired.chains(Table::Filter) {
        for rule in chain.rules() {
            text += &format!("[{}:1] -A {name} {rule}\n", text.lines().count());
        }
    }
    text + "COMMIT\n"
}

fn compare(desired: &DesiredState, listing: &str) -> Vec<String> {
    let drifts = detect_drift(desired, &IptablesSave::parse(listing), &[]);
    drifts.iter().map(ToString::to_string).collect()
}

fn repaired(desired: &DesiredState, listing: &str) -> String {
    let saved = IptablesSave::parse(listing);
    let drifts = detect_drift(desired, &saved, &[]);
    restore_text(&reconcile(desired, &saved, &[], &drifts, Repair::Patch))
}

/// The listing without the lines that hold this, or with another one after them.
fn without(listing: &str, words: &str) -> String {
    listing
        .lines()
        .filter(|line| !line.contains(words))
        .map(|line| format!("{line}\n"))
        .collect()
}

fn before(listing: &str, words: &str, line: &str) -> String {
    let at = listing.find(words).unwrap();
    let start = listing[..at].rfind('\n').unwrap() + 1;
    format!("{}{line}\n{}", &listing[..start], &listing[start..])
}

#[test]
fn what_is_as_it_should_be_is_no_drift_and_needs_no_command() {
    let desired = DesiredState::from_rules(&all_rules(), SITE);
    assert_eq!(compare(&desired, &listing(&desired)), [""; 0]);
    assert_eq!(repaired(&desired, &listing(&desired)), "");
    assert_eq!(
        compare(
            &DesiredState::from_rules(&[], SITE),
            "*filter\n:INPUT ACCEPT [0:0]\nCOMMIT\n"
        ),
        [""; 0]
    );
}

#[test]
fn tunnels_have_one_order_whichever_came_first() {
    let [a, b, c] = all_rules();
    let one = DesiredState::from_rules(&[a.clone(), b.clone(), c.clone()], SITE);
    let other = DesiredState::from_rules(&[c, b, a], SITE);
    let all = listing(&one);
    assert_eq!(all, listing(&other));
    let line = |words: &str| all.lines().find(|line| line.contains(words)).unwrap();
    for (first, second) in [
        (
            "-A PLUTO-FI-10.2.0.0-18 -s 10.2.0.0/24",
            "-A PLUTO-FI-10.2.0.0-18 -s 10.2.1.0/24",
        ),
        ("-A PLUTO-FI -s 10.2.0.0/18", "-A PLUTO-FI -s 10.3.0.0/18"),
    ] {
        let swapped = before(&without(&all, line(second)), first, line(second));
        let chain = first.split(' ').nth(1).unwrap();
        let differences = format!("filter: rules of {chain} in another order");
        assert_eq!(compare(&one, &swapped), [differences]);
    }
}

#[test]
fn a_table_without_any_chain_of_ours_is_reported_in_one_line_and_filled_whole() {
    let desired = DesiredState::from_rules(&all_rules(), SITE);
    let chains = desired.chains(Table::Filter).count();
    let differences = [format!("filter: missing: all {chains} chains of pluto-updown")];
    for empty in ["", "*filter\n:INPUT DROP [0:0]\nCOMMIT\n"] {
        assert_eq!(compare(&desired, empty), differences);
        let text = repaired(&desired, empty);
        assert_eq!(text.lines().filter(|line| line.starts_with(':')).count(), chains);
        assert_eq!(text.lines().filter(|line| line.starts_with("-I ")).count(), 3);
    }
}

#[test]
fn a_missing_rule_is_installed_and_installed_rules_keep_counting() {
    let desired = DesiredState::from_rules(&all_rules(), SITE);
    let (chain, rule) = ("PLUTO-FI-10.2.0.0-18", "-s 10.2.1.0/24");
    let spoilt = without(&listing(&desired), &format!("-A {chain} {rule}"));
    let [differences] = &*compare(&desired, &spoilt) else {
        panic!("one drift")
    };
    let whole = differences
        .strip_prefix(&format!("filter: missing rule in {chain}: "))
        .unwrap();
    assert!(whole.starts_with(rule), "{differences}");
    assert_eq!(
        repaired(&desired, &spoilt),
        format!("*filter\n-I {chain} 2 {whole}\nCOMMIT\n")
    );
}

#[test]
fn a_missing_rule_of_a_chains_own_is_installed_at_its_place() {
    let desired = DesiredState::from_rules(&all_rules(), SITE);
    let rule = "-m policy --dir in --pol ipsec -g PLUTO-DECRYPTED";
    let spoilt = without(&listing(&desired), &format!("-A PLUTO-FORWARD {rule}"));
    assert_eq!(
        repaired(&desired, &spoilt),
        format!("*filter\n-I PLUTO-FORWARD 3 {rule}\nCOMMIT\n")
    );
}

#[test]
fn where_what_accepts_is_missing_the_chain_is_filled_again_with_what_the_others_have_counted() {
    let desired = DesiredState::from_rules(&all_rules(), SITE);
    let all = listing(&desired);
    let line = |words: &str| all.lines().find(|line| line.contains(words)).unwrap();
    let (removed, stays) = (
        line("-A PLUTO-ONWARD -m policy --dir out --pol none"),
        line("-A PLUTO-ONWARD -j MARK"),
    );
    let text = repaired(&desired, &without(&all, removed));
    assert!(text.starts_with("*filter\n:PLUTO-ONWARD - [0:0]\n"), "{text}");
    assert!(
        text.contains(&format!("\n-A {}\n{stays}\n", removed.split_once("-A ").unwrap().1)),
        "{text}"
    );
}

#[test]
fn what_somebody_added_to_a_chain_of_ours_is_reported_and_goes() {
    let desired = DesiredState::from_rules(&all_rules(), SITE);
    let all = listing(&desired);
    let rule = "-s 10.66.0.0/16 -j DROP";
    let spoilt = before(&all, "-A PLUTO-ONWARD", &format!("[0:0] -A PLUTO-ONWARD {rule}"));
    assert_eq!(
        compare(&desired, &spoilt),
        [format!("filter: unexpected rule in PLUTO-ONWARD: {rule}")]
    );
    assert_eq!(
        repaired(&desired, &spoilt),
        format!("*filter\n-D PLUTO-ONWARD {rule}\nCOMMIT\n")
    );
    // One of ours a second time: to take it out would take the first.
    let spoilt = before(
        &all,
        "-A PLUTO-ONWARD",
        "[9:9] -A PLUTO-ONWARD -m policy --dir out --pol none -j ACCEPT",
    );
    assert_eq!(
        compare(&desired, &spoilt),
        ["filter: unexpected rule in PLUTO-ONWARD: -m policy --dir out --pol none -j ACCEPT"]
    );
    let text = repaired(&desired, &spoilt);
    assert_eq!(text.matches(" --pol none -j ACCEPT").count(), 1, "{text}");
    assert!(text.contains("\n:PLUTO-ONWARD - [0:0]\n"), "{text}");
}

#[test]
fn an_order_that_decides_is_drift() {
    let desired = DesiredState::from_rules(&all_rules(), SITE);
    let all = listing(&desired);
    // The bit is cleared before the first tunnel is asked, and behind what asks for its consent,
    // for a reason.
    let ask = all
        .lines()
        .find(|line| line.ends_with("-A PLUTO-DECRYPTED -j PLUTO-FI"))
        .unwrap();
    let spoilt = before(&without(&all, ask), "-A PLUTO-DECRYPTED", ask);
    assert_eq!(
        compare(&desired, &spoilt),
        ["filter: rules of PLUTO-DECRYPTED in another order"]
    );
    let text = repaired(&desired, &spoilt);
    let order = ["-j MARK", "-j PLUTO-FI\n", "! --mark", "-j MARK", "-g PLUTO-FO\n"];
    let mut rest = &text[..];
    for rule in order {
        rest = rest.split_once(rule).unwrap_or_else(|| panic!("{rule}: {text}")).1;
    }
}

#[test]
fn a_jump_that_is_missing_double_or_behind_others_is_installed_first_and_once() {
    let desired = DesiredState::from_rules(&all_rules(), SITE);
    let all = listing(&desired);
    let jump = "-A INPUT -j PLUTO-INPUT";
    let removed = without(&all, jump);
    assert_eq!(
        compare(&desired, &removed),
        ["filter: missing jump: INPUT -> PLUTO-INPUT"]
    );
    assert_eq!(
        repaired(&desired, &removed),
        "*filter\n-I INPUT -j PLUTO-INPUT\nCOMMIT\n"
    );
    let double = before(&all, jump, "[0:0] -A INPUT -j PLUTO-INPUT");
    assert_eq!(
        compare(&desired, &double),
        ["filter: unexpected jumps INPUT -> PLUTO-INPUT (found 2)"]
    );
    assert_eq!(
        repaired(&desired, &double),
        "*filter\n-D INPUT -j PLUTO-INPUT\n-D INPUT -j PLUTO-INPUT\n-I INPUT -j PLUTO-INPUT\nCOMMIT\n"
    );
    let behind = before(
        &all,
        jump,
        "[0:0] -A INPUT -p tcp -j f2b\n[0:0] -A INPUT -i lo -j ACCEPT",
    );
    assert_eq!(
        compare(&desired, &behind),
        ["filter: 2 rules ahead of the PLUTO-INPUT jump: -p tcp -j f2b ..."]
    );
    assert_eq!(
        repaired(&desired, &behind),
        "*filter\n-D INPUT -j PLUTO-INPUT\n-I INPUT -j PLUTO-INPUT\nCOMMIT\n"
    );
}

#[test]
fn chains_that_nothing_needs_go_and_the_jumps_to_them() {
    let desired = DesiredState::from_rules(&all_rules(), SITE);
    let all = listing(&desired);
    let chains = desired.chains(Table::Filter).count();
    let differences = compare(&DesiredState::from_rules(&[], SITE), &all);
    assert_eq!(differences.len(), chains + 3, "{differences:?}");
    let text = repaired(&DesiredState::from_rules(&[], SITE), &all);
    assert_eq!(text.matches("\n-X ").count(), chains);
    assert_eq!(text.matches("\n-D ").count(), 3);
    // A rule of the administrator's keeps its chain.
    let led_to = before(&all, "-A INPUT", "[0:0] -A INPUT -i eth0 -j PLUTO-I");
    let text = repaired(&DesiredState::from_rules(&[], SITE), &led_to);
    assert!(
        text.contains("\n-F PLUTO-I\n") && !text.contains("\n-X PLUTO-I\n"),
        "{text}"
    );
}

#[test]
fn what_iptables_spells_otherwise_is_asked_for_and_believed() {
    let desired = DesiredState::from_rules(&all_rules(), SITE);
    let all = listing(&desired).replace("-j ACCEPT", "-j ACCEPT --as-a-later-version-says");
    let saved = IptablesSave::parse(&all);
    let asked = rule_probes(&desired, &saved);
    assert!(!asked.is_empty());
    assert_eq!(detect_drift(&desired, &saved, &asked), []);
    assert_eq!(reconcile(&desired, &saved, &asked, &[], Repair::Patch), []);
    let differences = detect_drift(&desired, &saved, &[]);
    assert_eq!(
        differences.len(),
        2 * asked.len(),
        "missing and foreign: {differences:?}"
    );
    // And what it has counted is not lost, should its chain have to be filled again.
    let removed = all
        .lines()
        .find(|line| line.contains("-A PLUTO-ONWARD -m policy"))
        .unwrap();
    let saved = IptablesSave::parse(&without(&all, removed));
    let drifts = detect_drift(&desired, &saved, &asked);
    assert_eq!(drifts.len(), 1, "{drifts:?}");
    let sections = reconcile(&desired, &saved, &asked, &drifts, Repair::Patch);
    let resumed = sections[0]
        .commands
        .iter()
        .filter(|command| matches!(command, RestoreCommand::AppendWithCounters(..)));
    assert_eq!(resumed.count(), 2);
}

#[test]
fn a_jump_that_is_to_be_last_is_put_behind_what_came_later() {
    let jump_config = JumpConfig {
        place: JumpPlace::Last,
        ..SITE
    };
    let desired = DesiredState::from_rules(&all_rules(), jump_config);
    let all = listing(&desired);
    let before_us = before(&all, "-A INPUT -j", "[0:0] -A INPUT -i lo -j ACCEPT");
    assert_eq!(compare(&desired, &before_us), [""; 0]);
    let later = before(&all, "-A FORWARD", "[0:0] -A INPUT -i lo -j ACCEPT");
    assert_eq!(
        compare(&desired, &later),
        ["filter: rule behind the PLUTO-INPUT jump: -i lo -j ACCEPT"]
    );
    assert_eq!(
        repaired(&desired, &later),
        "*filter\n-D INPUT -j PLUTO-INPUT\n-A INPUT -j PLUTO-INPUT\nCOMMIT\n"
    );
}

#[test]
fn of_a_jump_that_the_administrator_installs_only_its_absence_is_reported() {
    let jump_config = JumpConfig {
        place: JumpPlace::Own,
        ..SITE
    };
    let desired = DesiredState::from_rules(&all_rules(), jump_config);
    let all = listing(&desired);
    let own = all.replace("-A INPUT -j PLUTO-INPUT", "-A INPUT -i eth0 -j PLUTO-INPUT");
    let twice = before(&own, "-A OUTPUT", "[0:0] -A INPUT -i eth1 -j PLUTO-INPUT");
    for good in [&all, &own, &twice] {
        assert_eq!(compare(&desired, good), [""; 0]);
    }
    let removed = without(&all, "-A INPUT -j PLUTO-INPUT");
    assert_eq!(
        compare(&desired, &removed),
        ["filter: missing: your jump to PLUTO-INPUT (place = \"own\")"]
    );
    assert_eq!(repaired(&desired, &removed), "");
    // A chain that nothing leads to is as good as none.
    let apart = all.replace("-A INPUT -j PLUTO-INPUT", "-A OLD -j PLUTO-INPUT");
    assert_eq!(
        compare(&desired, &apart),
        ["filter: missing: your jump to PLUTO-INPUT (place = \"own\"): nothing leads to your chain OLD, which has one"]
    );
    assert_eq!(repaired(&desired, &apart), "");
    // And its chain stays when nothing needs it any more, empty.
    let nothing = DesiredState::from_rules(&[], jump_config);
    let text = repaired(&nothing, &all);
    assert!(
        text.contains("\n-F PLUTO-INPUT\n") && !text.contains("-X PLUTO-INPUT\n"),
        "{text}"
    );
    assert!(!text.contains("-D "), "{text}");
    let kept = "*filter\n:INPUT ACCEPT [0:0]\n:PLUTO-INPUT - [0:0]\n-A INPUT -j PLUTO-INPUT\nCOMMIT\n";
    assert_eq!(compare(&nothing, kept), [""; 0]);
}
