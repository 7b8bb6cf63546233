//! Rules that count.

#![allow(
    unreachable_pub,
    reason = "a module of a test binary is reached by that binary alone"
)]

use std::collections::BTreeMap;

use pluto_updown::net::Family;

use super::lab::{Addresses, addresses};
use crate::support::emulator::Kind;

/// The hooks that a table has, each with what a policy match can ask there.
const HOOKS: [(Kind, &str, &[&str]); 8] = [
    (Kind::Mangle, "PREROUTING", &["in"]),
    (Kind::Mangle, "INPUT", &["in"]),
    (Kind::Mangle, "FORWARD", &["in", "out"]),
    (Kind::Mangle, "OUTPUT", &["out"]),
    (Kind::Mangle, "POSTROUTING", &["out"]),
    (Kind::Filter, "INPUT", &["in"]),
    (Kind::Filter, "FORWARD", &["in", "out"]),
    (Kind::Filter, "OUTPUT", &["out"]),
];

/// What is asked of every packet at every hook.
fn conditions(addresses: Addresses) -> Vec<String> {
    let Addresses {
        left,
        right,
        translated,
        left_network,
        right_network,
        ..
    } = addresses;
    let texts = [
        "-m conntrack --ctstate NEW",
        "-m conntrack --ctstate ESTABLISHED",
        "-m conntrack --ctstate RELATED",
        "-m conntrack --ctstate RELATED,ESTABLISHED",
        "-m conntrack --ctstate INVALID",
        "-m conntrack --ctstate INVALID,NEW",
        "-m conntrack --ctstate SNAT",
        "-m conntrack --ctstate DNAT",
        "-m conntrack --ctstate SNAT,DNAT",
        "-m conntrack --ctstate NEW,SNAT",
        "-m conntrack --ctdir ORIGINAL",
        "-m conntrack --ctdir REPLY",
        "-m conntrack --ctstate NEW --ctdir REPLY",
        "-m conntrack --ctstate INVALID --ctdir REPLY",
        "-m conntrack --ctstate INVALID --ctdir ORIGINAL",
        &format!("-m conntrack --ctrepldst {left}"),
        &format!("-m conntrack --ctrepldst {left_network}"),
        &format!("-m conntrack --ctrepldst {translated}"),
        &format!("-m conntrack --ctstate SNAT --ctrepldst {translated} --ctdir REPLY"),
        &format!("-m conntrack --ctstate INVALID --ctrepldst {left}"),
        "-m conntrack --ctstate ESTABLISHED -m conntrack --ctstate SNAT",
        "-m conntrack --ctstate NEW -m conntrack --ctdir ORIGINAL",
        "-i eth1",
        "! -i eth1",
        "! -i eth+",
        "-o eth2",
        "! -o eth2",
        "! -o eth+",
        &format!("! -s {left_network}"),
        &format!("! -d {right}"),
        &format!("! -s {left} ! -d {left}"),
        &format!("-s {left_network} ! -d {right_network}"),
        &format!("-d {translated}"),
        "-m addrtype --src-type LOCAL",
        "-m addrtype ! --src-type LOCAL",
        "-m addrtype --src-type LOCAL -m conntrack --ctstate NEW -m limit --limit 1000/sec --limit-burst 1000",
        "-m limit --limit 10000/sec --limit-burst 1000",
        "-p tcp",
        "-p tcp -m tcp --tcp-flags SYN,RST SYN",
        "-p tcp -m tcp --tcp-flags SYN,RST,ACK,FIN SYN",
        "-p tcp -m tcp --tcp-flags SYN,ACK SYN,ACK",
        "-p tcp -m tcp --tcp-flags SYN RST",
        "-p tcp -m tcp --tcp-flags RST RST",
        "-p tcp -m tcp --tcp-flags ALL ACK",
        "-p tcp -m tcp --tcp-flags ALL PSH,ACK",
        "-p tcp -m tcp --tcp-flags SYN NONE",
        "-p tcp -m tcp --dport 80 --tcp-flags SYN,RST SYN",
        "-p udp -m multiport --dports 500,4500",
        "-p udp -m multiport --sports 500,4500",
        "-p udp -m multiport --dports 1:499,500,700:800",
        "-p udp -m multiport --sports 40000:40999 -m multiport --dports 500,600",
        "-p tcp -m multiport --dports 80,81",
    ];
    texts.map(str::to_owned).to_vec()
}

/// Chains that count by every condition at every hook, and translate what is sent to some ports.
pub fn counting(family: Family) -> String {
    let addresses = addresses(family);
    let mut tables: BTreeMap<&str, (String, String)> = BTreeMap::new();
    for (kind, hook, directions) in HOOKS {
        let (declared, rules) = tables.entry(kind.name()).or_default();
        declared.push_str(&format!(":C-{hook} - [0:0]\n"));
        // Beside what is sent here the kernel has errands of its own.
        for errand in traffic(family) {
            rules.push_str(&format!("-A {hook} {errand} -j C-{hook}\n"));
        }
        let policies = directions.iter().flat_map(|direction| {
            ["none", "ipsec"].map(|policy| format!("-m policy --dir {direction} --pol {policy}"))
        });
        for condition in policies.chain(conditions(addresses)) {
            let name = format!("{} {hook}: {condition}", kind.name());
            rules.push_str(&format!("-A C-{hook} {condition} -m comment --comment \"{name}\"\n"));
        }
    }
    let (_, mangle) = tables.entry("mangle").or_default();
    mangle.push_str(
        "-A FORWARD -p tcp -m tcp --tcp-flags SYN,RST SYN -m comment --comment \"set\" -j TCPMSS --set-mss 1000\n\
         -A FORWARD -p tcp -m tcp --tcp-flags SYN,RST SYN -m comment --comment \"clamp\" -j TCPMSS --clamp-mss-to-pmtu\n\
         -A FORWARD -p udp -m comment --comment \"log\" -j LOG --log-prefix \"udp \"\n\
         -A FORWARD -p udp -m comment --comment \"behind the log\" -j RETURN\n\
         -A FORWARD -p udp -m comment --comment \"behind the return\"\n\
         -A FORWARD -p tcp -m comment --comment \"behind the MSS\"\n",
    );
    let Addresses { right, translated, .. } = addresses;
    let nat = format!(
        "*nat\n\
         -A PREROUTING -p udp -m udp --dport 700 -m comment --comment \"dnat\" -j DNAT --to-destination {right}\n\
         -A PREROUTING -p udp -m comment --comment \"nat before\"\n\
         -A INPUT -p udp -m comment --comment \"nat input\"\n\
         -A OUTPUT -p udp -m comment --comment \"nat output\"\n\
         -A POSTROUTING -p udp -m udp --dport 600 -m comment --comment \"snat\" -j SNAT --to-source {translated}\n\
         -A POSTROUTING -p udp -m udp --dport 601 -m comment --comment \"masquerade\" -j MASQUERADE\n\
         -A POSTROUTING -p udp -m comment --comment \"nat behind\"\n\
         COMMIT\n"
    );
    let others = tables
        .iter()
        .map(|(table, (declared, rules))| format!("*{table}\n{declared}{rules}COMMIT\n"));
    others.collect::<String>() + &nat
}

/// What the tests send, as conditions.
fn traffic(family: Family) -> [&'static str; 3] {
    match family {
        Family::Ipv4 => ["-p udp", "-p tcp", "-p icmp -m icmp --icmp-type 3"],
        Family::Ipv6 => ["-p udp", "-p tcp", "-p ipv6-icmp -m icmp6 --icmpv6-type 1"],
    }
}

/// A counting rule at every hook of a forwarded packet, in front of this rule of one of them, and another behind it.
pub fn with_rule(kind: Kind, hook: &str, rule: &str) -> String {
    let hooks = [
        (
            Kind::Mangle,
            vec!["PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"],
        ),
        (Kind::Nat, vec!["PREROUTING", "INPUT", "OUTPUT", "POSTROUTING"]),
        (Kind::Filter, vec!["INPUT", "FORWARD", "OUTPUT"]),
    ];
    let mut text = String::new();
    for (table, chains) in hooks {
        text.push_str(&format!("*{}\n:USER - [0:0]\n:USER2 - [0:0]\n", table.name()));
        for chain in &chains {
            let is_meant = table == kind && *chain == hook;
            let policy = if is_meant && rule == "policy" { "DROP" } else { "ACCEPT" };
            text.push_str(&format!(":{chain} {policy} [0:0]\n"));
            let count = |what: &str| {
                format!(
                    "-A {chain} -p udp -m comment --comment \"{} {chain} {what}\"\n",
                    table.name()
                )
            };
            text.push_str(&count("before"));
            if is_meant && rule != "policy" {
                text.push_str(&format!(
                    "-A {chain} -p udp -m udp --dport 500 -m comment --comment \"the rule\" {rule}\n"
                ));
            }
            text.push_str(&count("behind"));
        }
        text.push_str("-A USER -m comment --comment \"in the chain\"\n");
        text.push_str("-A USER -p udp -g USER2\n-A USER -m comment --comment \"behind a goto\"\n");
        text.push_str("-A USER2 -m comment --comment \"behind it\" -j RETURN\n");
        if table == Kind::Mangle {
            // With nft nobody looks into nat unless something else wants to know of connections.
            text.push_str(":CONNECTIONS - [0:0]\n-A CONNECTIONS -m conntrack --ctstate NEW\n");
        }
        text.push_str("COMMIT\n");
    }
    // A comment is a rule's own in all tables.
    let mut table = "";
    let mut unique = String::new();
    for line in text.lines() {
        table = line.strip_prefix('*').unwrap_or(table);
        unique.push_str(&line.replace("--comment \"", &format!("--comment \"{table}: ")));
        unique.push('\n');
    }
    unique
}
