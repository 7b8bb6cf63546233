//! Tests of the two support modules that other tests lean on: does the emulator take
//! and refuse what `iptables-restore` does, and does a packet go through the chains
//! as it goes through the kernel? What is stated here was compared with iptables
//! 1.8.9, both backends; `strictness.rs` and `counters.rs` do it again each time.

use crate::support::emulator::{Emulator, Kind, Mss, ParsedRule};
use crate::support::packet::{
    AH, ConnectionState, From, Packet, PacketTrace, To, Trace, Translation, Verdict, after_routing, trace, trace_chain,
    trace_packet,
};

/// A text for `iptables-restore` made of these lines.
fn restore_input(lines: &str) -> String {
    format!("*filter\n{}\nCOMMIT\n", lines.trim())
}

/// A table that took these lines.
fn table(lines: &str) -> Emulator {
    let mut table = Emulator::new();
    assert_eq!(table.restore(&restore_input(lines)), Ok(()));
    table
}

/// Why the lines are refused by this table, which stays as it was.
fn refused_by(table: &Emulator, lines: &str) -> String {
    let mut changed = table.clone();
    let Err(why) = changed.restore(&restore_input(lines)) else {
        panic!("not refused: {lines}");
    };
    assert_eq!(changed.save(), table.save(), "refused, yet changed: {lines}");
    why
}

fn refused(lines: &str) -> String {
    refused_by(&Emulator::new(), lines)
}

/// Whether an INPUT rule with these conditions matches the packet.
fn matches(conditions: &str, packet: &Packet) -> bool {
    trace_of(&format!("-A INPUT {conditions} -j DROP"), packet).verdict == Verdict::Drop
}

fn trace_of(lines: &str, packet: &Packet) -> Trace {
    trace(&table(lines), packet)
}

/// An unencrypted packet from the network to the gateway.
fn incoming() -> Packet {
    let packet = Packet::between("10.2.0.7", "10.1.0.1").tcp(40000, 443);
    packet.in_by("eth0").for_gateway()
}

fn incoming_v6() -> Packet {
    let packet = Packet::between("fd00:2::7", "fd00:1::1").tcp(40000, 443);
    packet.in_by("eth0").for_gateway()
}

const TWO_CHAINS: &str = ":A - [0:0]\n:B - [0:0]\n";

#[test]
fn an_unused_table_prints_its_built_in_chains() {
    let saved = ":INPUT DROP [0:0]\n:FORWARD ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]";
    let table = Emulator::new().with_policy("INPUT", "DROP");
    assert_eq!(table.save(), restore_input(saved));
}

#[test]
fn what_was_saved_can_be_replaced_from() {
    let saved = table(":A - [0:0]\n-A A -m comment --comment \"a \\\"b\\\"\" -j DROP\n-A INPUT -j A");
    let mut other = table(":GONE - [0:0]\n-A GONE -j LOG");
    assert_eq!(other.replace(&saved.save()), Ok(()));
    assert_eq!(other.save(), saved.save());
}

#[test]
fn a_failure_in_the_last_line_leaves_everything_as_it_was() {
    let before = table(":A - [0:0]\n-A A -j DROP\n-A INPUT -j A");
    let lines = "-F A\n:INPUT DROP [0:0]\n:B - [0:0]\n-D INPUT -j A\n-X A\n-A INPUT --nonsense";
    let why = refused_by(&before, lines);
    assert!(why.starts_with("line 7 failed: "), "{why}");
}

#[test]
fn redeclaring_a_user_chain_flushes_it() {
    let mut table = table(":A - [0:0]\n-A A -j DROP\n-A INPUT -j A");
    assert_eq!(table.restore(&restore_input(":A - [0:0]\n-A A -j LOG")), Ok(()));
    assert_eq!(table.rules("A"), ["-j LOG"]);
    assert_eq!(table.rules("INPUT"), ["-j A"]);
}

#[test]
fn redeclaring_a_built_in_chain_sets_its_policy_and_keeps_its_rules() {
    let mut table = table("-A INPUT -j DROP");
    assert_eq!(table.restore(&restore_input(":INPUT DROP [0:0]")), Ok(()));
    assert_eq!(table.rules("INPUT"), ["-j DROP"]);
    assert!(table.save().contains(":INPUT DROP [0:0]"));
}

#[test]
fn a_chain_goes_only_when_it_is_empty_and_nothing_leads_to_it() {
    let before = table(&format!("{TWO_CHAINS}-A INPUT -g A\n-A B -j LOG"));
    refused_by(&before, "-X A");
    refused_by(&before, "-X B");
    assert!(refused_by(&before, "-X INPUT").contains("built-in"));
    refused_by(&before, "-X NONE");
    refused_by(&before, "-X A\n-D INPUT -g A");
    refused_by(&before, "-X A\n:A - [0:0]");
    let mut after = before;
    let lines = "-D INPUT -g A\n-X A\n-F B\n-X B";
    assert_eq!(after.restore(&restore_input(lines)), Ok(()));
    assert_eq!(after.chains(), ["INPUT", "FORWARD", "OUTPUT"]);
}

#[test]
fn a_loop_is_refused_at_commit() {
    for (there, back) in [("-j", "-j"), ("-g", "-g"), ("-j", "-g")] {
        let why = refused(&format!("{TWO_CHAINS}-A A {there} B\n-A B {back} A"));
        assert!(why.starts_with("line 6 failed: loop"), "{why}");
    }
}

#[test]
fn nft_goes_fifteen_user_chains_deep() {
    let chains_with = |chains: usize| {
        let name = |number| format!("C{number:02}");
        let declared = (0..chains).map(|number| format!(":{} - [0:0]\n", name(number)));
        let jumps = (1..chains).map(|number| format!("-A {} -j {}\n", name(number - 1), name(number)));
        declared.chain(jumps).collect::<String>() + "-A INPUT -g C00"
    };
    table(&chains_with(15));
    assert!(refused(&chains_with(16)).contains("Too many links"));
}

#[test]
fn a_policy_match_for_the_impossible_direction_is_refused_where_a_packet_can_come() {
    let out = "-m policy --dir out --pol ipsec -j ACCEPT";
    let into = "-m policy --dir in --pol none -j ACCEPT";
    refused(&format!("-A INPUT {out}"));
    refused(&format!("{TWO_CHAINS}-A A -g B\n-A B {out}\n-A INPUT -j A"));
    refused(&format!("{TWO_CHAINS}-A A -j B\n-A B {into}\n-A OUTPUT -g A"));
    let before = table(&format!(":A - [0:0]\n-A A {out}\n-A FORWARD {into}\n-A FORWARD -j A"));
    refused_by(&before, "-A INPUT -j A");
}

#[test]
fn a_target_must_be_a_verdict_or_a_user_chain_declared_before() {
    refused("-A INPUT -j NONE");
    refused("-A INPUT -g NONE");
    refused("-A INPUT -j LATER\n:LATER - [0:0]");
    refused(":A - [0:0]\n-A A -j INPUT");
    refused(":A - [0:0]\n-A A -g ACCEPT");
    refused("-A NONE -j DROP");
}

#[test]
fn a_chain_has_a_name_of_up_to_28_bytes_that_is_no_target() {
    table(&format!(":{} - [0:0]", "x".repeat(28)));
    refused(&format!(":{} - [0:0]", "x".repeat(29)));
    refused(":DROP - [0:0]");
    refused(":A DROP [0:0]");
    refused("-N A\n-N A");
}

#[test]
fn commit_is_required_with_its_newline_and_ends_the_text() {
    for wrong in [
        "*filter\n",
        "*filter\nCOMMIT",
        ":A - [0:0]\nCOMMIT\n",
        "*security\nCOMMIT\n",
    ] {
        assert!(Emulator::new().restore(wrong).is_err(), "{wrong}");
    }
    let behind = "*filter\nCOMMIT\n-A INPUT -j DROP\n";
    let why = Emulator::new().restore(behind);
    assert_eq!(why, Err("line 3 failed: text behind COMMIT".to_owned()));
    assert_eq!(Emulator::new().restore("# a\n\n*filter\n# b\nCOMMIT\n\n"), Ok(()));
}

#[test]
fn checking_and_deleting_go_by_the_text_of_the_rule() {
    let before = table("-A INPUT -s 10.0.0.0/8 -j DROP\n-A INPUT -m comment --comment a -j DROP");
    refused_by(&before, "-C INPUT -s 10.0.0.0/9 -j DROP");
    refused_by(&before, "-D INPUT -m comment --comment b -j DROP");
    let mut after = before;
    let lines = "-C INPUT   -s 10.0.0.0/8  -j DROP\n-D INPUT -m comment --comment \"a\" -j DROP";
    assert_eq!(after.restore(&restore_input(lines)), Ok(()));
    assert_eq!(after.rules("INPUT"), ["-s 10.0.0.0/8 -j DROP"]);
}

#[test]
fn inserting_goes_to_the_front_or_to_the_number() {
    let table = table("-A INPUT -j DROP\n-I INPUT -j LOG\n-I INPUT 2 -j RETURN\n-I INPUT 4 -j ACCEPT");
    let rules = ["-j LOG", "-j RETURN", "-j DROP", "-j ACCEPT"];
    assert_eq!(table.rules("INPUT"), rules);
    assert_eq!(trace(&table, &incoming()).cost(), 2);
    refused("-I INPUT 2 -j DROP");
    refused("-I INPUT 0 -j DROP");
}

#[test]
fn an_option_outside_the_closed_set_is_refused() {
    for wrong in [
        "--nonsense 1",
        "stray",
        "-j",
        "-s 10.0.0.1/33",
        "-s 10.0.0.1/32 -s 10.0.0.2/32",
        "-j DROP -j ACCEPT",
        "-m tcp --dport 1",
        "-p udp -m tcp --dport 1",
        "-p tcp -m tcp --dport 5:1",
        "-p tcp --dport 1",
        "-p tcp -m multiport --dports 5:5",
        "-p tcp -m multiport --sports 1 --dports 2",
        "-p icmp -m icmp",
        "-m policy --dir in",
        "-m policy --dir in --pol ipsec -m policy --dir in",
        "-m policy --dir in --pol ipsec --proto gre",
        "-m comment --comment \"a",
    ] {
        assert!(ParsedRule::parse(wrong).is_err(), "{wrong}");
        refused(&format!("-A FORWARD {wrong}"));
    }
    refused("-A OUTPUT -i eth0 -j DROP");
    refused("-A INPUT -o eth0 -j DROP");
}

#[test]
fn a_table_is_of_one_family() {
    let v4 = table("-A INPUT -s 10.0.0.0/8 -j DROP");
    refused_by(&v4, "-A INPUT -d fd00::/8 -j DROP");
    refused_by(&v4, "-A INPUT -p ipv6-icmp -m icmp6 --icmpv6-type 128 -j DROP");
    refused("-A INPUT -s 10.0.0.0/8 -d fd00::/8 -j DROP");
}

#[test]
fn a_commanded_failure_happens_once() {
    let mut table = Emulator::new();
    table.fail_next("line 1 failed: busy");
    let lines = restore_input(":A - [0:0]");
    assert_eq!(table.restore(&lines), Err("line 1 failed: busy".to_owned()));
    assert!(!table.has_chain("A"));
    assert_eq!(table.restore(&lines), Ok(()));
    assert_eq!(table.restores, 2);
}

#[test]
fn flushing_keeps_the_chains_and_wiping_does_not() {
    let mut table = table(":A - [0:0]\n:INPUT DROP [0:0]\n-A A -j DROP\n-A INPUT -j A");
    table.flush();
    assert!(table.rules("A").is_empty() && table.rules("INPUT").is_empty());
    table.flush_all();
    assert_eq!(table.save(), Emulator::new().with_policy("INPUT", "DROP").save());
}

#[test]
fn behind_a_jump_the_packet_comes_back_and_behind_a_goto_it_does_not() {
    let lines = |option| format!(":A - [0:0]\n-A A -s 192.0.2.1/32\n-A INPUT {option} A\n-A INPUT -j DROP");
    assert_eq!(trace_of(&lines("-j"), &incoming()).verdict, Verdict::Drop);
    assert_eq!(trace_of(&lines("-g"), &incoming()).verdict, Verdict::Policy);
}

#[test]
fn the_end_of_a_chain_reached_by_goto_returns_to_the_caller_of_the_chain_that_held_it() {
    for last in ["", "-A B -j RETURN\n-A B -j REJECT\n"] {
        let lines = format!("{TWO_CHAINS}-A A -g B\n-A A -j REJECT\n{last}-A INPUT -j A\n-A INPUT -j ACCEPT");
        let trace = trace_of(&lines, &incoming());
        assert_eq!(trace.verdict, Verdict::Accept);
        assert!(trace.matched.ends_with(&["-A INPUT -j ACCEPT".to_owned()]));
        assert!(!trace.looked_at.contains(&("A".to_owned(), 1)));
    }
}

#[test]
fn a_trace_names_every_rule_looked_at_and_every_rule_that_matched() {
    let lines = ":A - [0:0]\n-A A -s 192.0.2.1/32 -j DROP\n-A A -j LOG\n-A A -j RETURN\n-A A -j DROP\n\
                 -A INPUT\n-A INPUT -j A\n-A INPUT -j REJECT";
    let trace = trace_of(lines, &incoming());
    let looked_at = [("INPUT", 0), ("INPUT", 1), ("A", 0), ("A", 1), ("A", 2), ("INPUT", 2)];
    assert_eq!(
        trace.looked_at,
        looked_at.map(|(chain, index)| (chain.to_owned(), index))
    );
    let matched = [
        "-A INPUT",
        "-A INPUT -j A",
        "-A A -j LOG",
        "-A A -j RETURN",
        "-A INPUT -j REJECT",
    ];
    assert_eq!(trace.matched, matched);
    assert_eq!((trace.verdict, trace.cost()), (Verdict::Reject, 6));
}

#[test]
fn the_built_in_chain_follows_from_where_the_packet_comes_and_goes() {
    let packet = incoming();
    assert_eq!(packet.built_in_chain(), "INPUT");
    assert_eq!(packet.clone().out_by_ipsec("eth1", 7).built_in_chain(), "FORWARD");
    assert_eq!(packet.made_here().out_by("eth1").built_in_chain(), "OUTPUT");
}

#[test]
fn addresses_match_by_prefix_and_by_range() {
    assert!(matches("-s 10.2.0.0/16 -d 10.1.0.1", &incoming()));
    assert!(!matches("-s 10.3.0.0/16", &incoming()));
    assert!(matches("-s 0.0.0.0/0", &incoming()));
    for (range, inside) in [
        ("10.2.0.7-10.2.0.9", true),
        ("10.2.0.1-10.2.0.7", true),
        ("10.2.0.8-10.2.0.9", false),
    ] {
        assert_eq!(matches(&format!("-m iprange --src-range {range}"), &incoming()), inside);
    }
    assert!(!matches(
        "-m iprange --src-range 10.2.0.7-10.2.0.7 --dst-range 10.1.0.2-10.1.0.3",
        &incoming()
    ));
}

#[test]
fn version_six_matches_as_version_four_does() {
    assert!(matches("-s fd00:2::/32 -d fd00:1::1/128", &incoming_v6()));
    assert!(!matches("-s fd00:2::8/125 -p tcp", &incoming_v6().udp(1, 2)));
    assert!(!matches("-s fd00:2::8/128", &incoming_v6()));
    assert!(matches("-m iprange --src-range fd00:2::1-fd00:2::9", &incoming_v6()));
    assert!(!matches("-m iprange ! --src-range 10.2.0.1-10.2.0.9", &incoming()));
    assert!(matches("-m iprange ! --src-range 10.2.0.8-10.2.0.9", &incoming()));
    let echo = incoming_v6().icmp(128, 0);
    assert!(matches("-p ipv6-icmp -m icmp6 --icmpv6-type 128/0", &echo));
    assert!(!matches("-p icmp", &echo));
}

#[test]
fn a_trailing_plus_matches_all_interfaces_that_begin_so() {
    let packet = |interface| incoming().in_by(interface);
    assert!(matches("-i vti+", &packet("vti7")) && matches("-i vti+", &packet("vti")));
    assert!(!matches("-i vti+", &packet("vt")) && !matches("-i vti", &packet("vti7")));
}

#[test]
fn ports_match_by_range_and_never_in_a_later_fragment() {
    for (conditions, expected) in [
        ("-p tcp -m tcp --dport 443", true),
        ("-p tcp -m tcp --sport 40000:40001 --dport 1:443", true),
        ("-p tcp -m tcp --sport 443", false),
        ("-p tcp -m multiport --dports 400:500", true),
        ("-p tcp -m multiport --sports 1:2 -m multiport --dports 443", false),
        ("-p udp -m udp --dport 443", false),
    ] {
        assert_eq!(matches(conditions, &incoming()), expected, "{conditions}");
        assert!(!matches(conditions, &incoming().later_fragment()));
    }
    assert!(matches("-p tcp", &incoming().later_fragment()));
}

#[test]
fn icmp_matches_by_type_and_code_and_without_a_code_by_type() {
    let unreachable = incoming().icmp(3, 4);
    assert!(matches("-p icmp -m icmp --icmp-type 3", &unreachable));
    assert!(matches("-p icmp -m icmp --icmp-type 3/4", &unreachable));
    assert!(!matches("-p icmp -m icmp --icmp-type 3/0", &unreachable));
    assert!(!matches("-p icmp -m icmp --icmp-type 4", &unreachable));
    assert!(matches("-p icmp -m icmp --icmp-type 255", &unreachable));
}

#[test]
fn a_policy_match_tells_ipsec_from_clear_and_one_reqid_from_another() {
    let tunnel = incoming().in_by_ipsec("ipsec1", 7);
    for (options, in_tunnel, unencrypted) in [
        ("--pol ipsec", true, false),
        ("--pol none", false, true),
        ("--pol ipsec --reqid 7 --proto esp", true, false),
        ("--pol ipsec --reqid 8 --proto esp", false, false),
        ("--pol ipsec --reqid 7 --proto ah", false, false),
    ] {
        let conditions = format!("-m policy --dir in {options}");
        assert_eq!(matches(&conditions, &tunnel), in_tunnel, "{conditions}");
        assert_eq!(matches(&conditions, &incoming()), unencrypted, "{conditions}");
    }
    assert!(matches("-i ipsec1 -m policy --dir in --pol ipsec --reqid 7", &tunnel));
}

#[test]
fn each_direction_of_a_policy_match_looks_at_its_own_side() {
    let mut packet = incoming().in_by_ipsec("eth0", 7).out_by("ipsec1");
    let line = |options| format!("-A FORWARD -m policy {options} -j ACCEPT");
    let accepts = |options, packet: &Packet| trace_of(&line(options), packet).verdict == Verdict::Accept;
    assert!(accepts("--dir in --pol ipsec --reqid 7", &packet));
    assert!(!accepts("--dir out --pol ipsec", &packet));
    packet.to = To::Ipsec {
        interface: "eth0".to_owned(),
        reqid: 9,
        protocol: AH,
    };
    packet.from = From::Unencrypted("eth1".to_owned());
    assert!(accepts("--dir out --pol ipsec --reqid 9 --proto ah", &packet));
    assert!(!accepts("--dir out --pol ipsec --reqid 7", &packet));
    assert!(accepts("--dir in --pol none", &packet));
}

#[test]
fn a_table_that_is_refused_leaves_those_before_it_and_stops_those_behind_it() {
    let good = |table: &str| format!("*{table}\n:A - [0:0]\nCOMMIT\n");
    let bad = |table: &str| format!("*{table}\n:A - [0:0]\n-X B\nCOMMIT\n");
    let restored = |text: String| {
        let mut tables = Emulator::new();
        let restored = tables.restore(&text);
        (
            restored.is_ok(),
            Kind::ALL.map(|kind| tables.table(kind).has_chain("A")),
        )
    };
    assert_eq!(restored(good("filter") + &good("nat")), (true, [true, true, false]));
    assert_eq!(restored(good("filter") + &bad("nat")), (false, [true, false, false]));
    assert_eq!(restored(good("nat") + &bad("filter")), (false, [false, true, false]));
    assert_eq!(restored(bad("nat") + &good("mangle")), (false, [false, false, false]));
    assert_eq!(restored(good("mangle") + &bad("nat")), (false, [false, false, true]));
    assert_eq!(restored(good("nat") + &good("nat")), (true, [false, true, false]));
}

#[test]
fn a_translation_is_installed_only_where_it_can_be_made() {
    let take = |table: &str, from: &str, target: &str| {
        let text = format!("*{table}\n:A - [0:0]\n-A A -j {target}\n-A {from} -j A\nCOMMIT\n");
        Emulator::new().restore(&text).is_ok()
    };
    let (snat, dnat) = ("SNAT --to-source 10.0.0.1", "DNAT --to-destination 10.0.0.1");
    assert!(take("nat", "POSTROUTING", snat) && take("nat", "PREROUTING", dnat));
    assert!(!take("nat", "PREROUTING", snat) && !take("nat", "POSTROUTING", dnat));
    assert!(!take("filter", "OUTPUT", snat) && !take("filter", "INPUT", dnat));
}

#[test]
fn a_target_has_its_own_options_and_no_others() {
    table("-A INPUT -j NFLOG --nflog-prefix \"a b\" --nflog-group 13");
    for wrong in [
        "-j SNAT",
        "-j DNAT --to-source 10.0.0.1",
        "-j SNAT --to-source x",
        "-j NFLOG --nflog-group 65536",
        "-j LOG --nflog-group 1",
        "--nflog-group 1",
    ] {
        assert!(ParsedRule::parse(wrong).is_err(), "{wrong}");
    }
    let long = format!("-j NFLOG --nflog-prefix {}", "a".repeat(64));
    assert!(ParsedRule::parse(&long).is_err());
}

/// Tables that took these lines, each `table: line`, in this order.
fn tables(lines: &[&str]) -> Emulator {
    let mut tables = Emulator::new();
    for line in lines {
        let (table, line) = line.split_once(": ").expect("a table");
        assert_eq!(tables.restore(&format!("*{table}\n{line}\nCOMMIT\n")), Ok(()), "{line}");
    }
    tables
}

/// An unencrypted packet from one network to the other.
fn passing() -> Packet {
    let packet = Packet::between("10.2.0.7", "10.1.0.9").tcp(40000, 443).syn();
    packet.in_by("eth0").out_by("eth1")
}

#[test]
fn a_rule_asks_for_the_state_of_the_connection() {
    let known = incoming().state(ConnectionState::Established);
    let related = incoming().state(ConnectionState::Related);
    for (words, matching) in [
        ("NEW", [true, false, false]),
        ("ESTABLISHED", [false, true, false]),
        ("RELATED,ESTABLISHED", [false, true, true]),
        ("INVALID", [false, false, false]),
        ("SNAT,DNAT", [false, false, false]),
    ] {
        let conditions = format!("-m conntrack --ctstate {words}");
        let packets = [&incoming(), &known, &related];
        assert_eq!(packets.map(|packet| matches(&conditions, packet)), matching, "{words}");
    }
    let twice = "-m conntrack --ctstate ESTABLISHED -m conntrack --ctstate SNAT";
    assert!(!matches(twice, &known) && matches(twice, &known.source_translated("192.0.2.1")));
}

#[test]
fn a_rule_asks_for_the_way_in_the_connection_and_for_where_its_replies_go() {
    let answer = incoming().reply();
    assert!(matches("-m conntrack --ctdir REPLY", &answer) && !matches("-m conntrack --ctdir ORIGINAL", &answer));
    assert!(matches("-m conntrack --ctrepldst 10.1.0.1", &answer));
    assert!(matches("-m conntrack --ctrepldst 10.2.0.7", &incoming()));
    let translated = answer.source_translated("192.0.2.1");
    let all = "-m conntrack --ctstate SNAT --ctrepldst 192.0.2.1 --ctdir REPLY";
    assert!(matches(all, &translated) && !matches(all, &incoming().source_translated("192.0.2.1")));
}

#[test]
fn what_belongs_to_no_connection_is_asked_for_its_state_only() {
    let stray = incoming().state(ConnectionState::Invalid);
    assert!(matches("-m conntrack --ctstate INVALID --ctdir REPLY", &stray));
    assert!(!matches("-m conntrack --ctdir ORIGINAL", &stray));
    assert!(!matches("-m conntrack --ctstate NEW", &stray));
}

#[test]
fn a_contrary_holds_where_the_condition_does_not() {
    for (conditions, expected) in [
        ("! -i eth0", false),
        ("! -i eth1", true),
        ("! -i eth+", false),
        ("! -s 10.2.0.0/16", false),
        ("! -s 10.3.0.0/16 ! -d 10.1.0.2", true),
        ("! -s 10.3.0.0/16 ! -d 10.1.0.1", false),
        ("-m addrtype --src-type LOCAL", false),
        ("-m addrtype ! --src-type LOCAL", true),
    ] {
        assert_eq!(matches(conditions, &incoming()), expected, "{conditions}");
    }
    let local_packet = incoming().with_our_source();
    assert!(
        matches("-m addrtype --src-type LOCAL", &local_packet)
            && !matches("-m addrtype ! --src-type LOCAL", &local_packet)
    );
    let made_here = incoming().made_here().out_by("eth0");
    let line = "-A OUTPUT -m addrtype --src-type LOCAL -j DROP";
    assert_eq!(trace_of(line, &made_here).verdict, Verdict::Drop);
}

#[test]
fn flags_match_when_those_of_the_mask_are_as_said() {
    let conditions = "-p tcp -m tcp --tcp-flags SYN,RST SYN";
    for (flags, expected) in [("SYN", true), ("SYN,ACK", true), ("ACK", false), ("SYN,RST", false)] {
        assert_eq!(matches(conditions, &incoming().flags(flags)), expected, "{flags}");
    }
    assert!(!matches(conditions, &incoming().syn().later_fragment()));
}

#[test]
fn a_port_of_the_list_is_enough() {
    let ike = |port| incoming().udp(port, 4500);
    assert!(matches("-p udp -m multiport --dports 500,4500", &ike(1)));
    assert!(!matches("-p udp -m multiport --sports 500,4500", &ike(1)));
    assert!(matches(
        "-p udp -m multiport --sports 500,4500:4600 -m multiport --dports 1:9,4500",
        &ike(4501)
    ));
}

#[test]
fn a_log_line_and_a_limit_are_reported_and_the_packet_goes_on() {
    let lines = "-A INPUT -m limit --limit 10/min -j LOG --log-prefix \"denied: \"\n-A INPUT -j LOG\n-A INPUT -j DROP";
    let trace = trace_of(lines, &incoming());
    assert_eq!(
        (trace.verdict, trace.logs),
        (Verdict::Drop, vec!["denied: ".to_owned(), String::new()])
    );
    let limited = "-A INPUT -m limit --limit 10/min -j LOG --log-prefix \"denied: \"";
    assert_eq!(trace.limited, [limited]);
    assert_eq!(trace.decided_by.as_deref(), Some("-A INPUT -j DROP"));
}

#[test]
fn a_walk_that_begins_in_a_user_chain_says_when_it_gives_the_packet_back() {
    let tables =
        table(":A - [0:0]\n-A A -s 10.2.0.0/16 -j RETURN\n-A A -p tcp -j ACCEPT\n-A A -j LOG\n-A INPUT -j RETURN");
    let walk = |packet: &Packet| trace_chain(&tables, Kind::Filter, "A", packet);
    let other = Packet::between("10.3.0.1", "10.1.0.1").in_by("eth0").for_gateway();
    let returned = walk(&incoming());
    assert_eq!(returned.verdict, Verdict::Return);
    assert_eq!(returned.decided_by.as_deref(), Some("-A A -s 10.2.0.0/16 -j RETURN"));
    assert_eq!((walk(&other).verdict, walk(&other).decided_by), (Verdict::Return, None));
    assert_eq!(walk(&other.tcp(1, 2)).verdict, Verdict::Accept);
    let fallen = trace(&tables, &incoming());
    assert_eq!(
        (fallen.verdict, fallen.decided_by.as_deref()),
        (Verdict::Policy, Some("-A INPUT -j RETURN"))
    );
}

fn chains(trace: &PacketTrace) -> Vec<(&'static str, &'static str)> {
    let hooks = trace.hooks.iter();
    hooks.map(|hook| (hook.kind.name(), hook.chain)).collect()
}

#[test]
fn a_journey_visits_the_tables_in_the_kernels_order() {
    let untouched = Emulator::new();
    let stops = |packet: &Packet| chains(&trace_packet(&untouched, packet));
    let (mangle, nat, filter) = ("mangle", "nat", "filter");
    let [before, last] = ["PREROUTING", "POSTROUTING"];
    assert_eq!(
        stops(&passing()),
        [
            (mangle, before),
            (nat, before),
            (mangle, "FORWARD"),
            (filter, "FORWARD"),
            (mangle, last),
            (nat, last)
        ]
    );
    assert_eq!(
        stops(&incoming()),
        [
            (mangle, before),
            (nat, before),
            (mangle, "INPUT"),
            (filter, "INPUT"),
            (nat, "INPUT")
        ]
    );
    assert_eq!(
        stops(&incoming().made_here().out_by("eth0")),
        [
            (mangle, "OUTPUT"),
            (nat, "OUTPUT"),
            (filter, "OUTPUT"),
            (mangle, last),
            (nat, last)
        ]
    );
    let without_nat = [
        (mangle, before),
        (mangle, "FORWARD"),
        (filter, "FORWARD"),
        (mangle, last),
    ];
    assert_eq!(stops(&passing().state(ConnectionState::Established)), without_nat);
    assert_eq!(stops(&passing().reply()), without_nat);
}

#[test]
fn a_drop_ends_a_journey_and_an_accept_only_its_chain() {
    let dropped = trace_packet(
        &tables(&["mangle: -A FORWARD -j DROP", "filter: -A FORWARD -j ACCEPT"]),
        &passing(),
    );
    assert_eq!((dropped.verdict, dropped.passes), (Verdict::Drop, false));
    assert_eq!(
        (dropped.decided_by.kind, dropped.decided_by.chain),
        (Kind::Mangle, "FORWARD")
    );
    assert_eq!(dropped.decided_by.rule.as_deref(), Some("-A FORWARD -j DROP"));
    assert_eq!(dropped.hooks.len(), 3);
    let rules = [
        "mangle: -A FORWARD -j ACCEPT",
        "filter: -A FORWARD -p tcp",
        "filter: -A FORWARD -j ACCEPT",
    ];
    let passed = trace_packet(&tables(&rules), &passing());
    assert_eq!(
        (passed.verdict, passed.passes, passed.cost()),
        (Verdict::Accept, true, 3)
    );
    assert_eq!(passed.decided_by.rule.as_deref(), Some("-A FORWARD -j ACCEPT"));
}

#[test]
fn a_journey_that_is_left_to_a_policy_passes_as_the_policy_says() {
    for (policy, passes) in [("ACCEPT", true), ("DROP", false)] {
        let left = trace_packet(&Emulator::new().with_policy("FORWARD", policy), &passing());
        assert_eq!((left.verdict, left.passes), (Verdict::Policy, passes));
        assert_eq!((left.decided_by.kind, left.decided_by.rule), (Kind::Filter, None));
    }
    let mangled = trace_packet(
        &tables(&["mangle: :PREROUTING DROP [0:0]", "filter: -A FORWARD -j ACCEPT"]),
        &passing(),
    );
    assert_eq!((mangled.decided_by.kind, mangled.passes), (Kind::Mangle, false));
}

#[test]
fn a_journey_carries_translations_on() {
    let rules = [
        "nat: -A PREROUTING -d 192.0.2.1 -j DNAT --to-destination 10.1.0.9",
        "filter: -A FORWARD -d 10.1.0.9 -m conntrack --ctstate DNAT -j ACCEPT",
        "nat: -A POSTROUTING -o eth1 -j MASQUERADE",
    ];
    let packet = Packet::between("10.2.0.7", "192.0.2.1").in_by("eth0").out_by("eth1");
    let trace = trace_packet(&tables(&rules), &packet.device_address("10.1.0.1"));
    let address = "10.1.0.9".parse().expect("an address");
    assert_eq!(trace.verdict, Verdict::Accept);
    assert_eq!(
        trace.translations(),
        [Translation::Destination(address), Translation::Masquerade]
    );
    assert_eq!(trace.packet.source.to_string(), "10.1.0.1");
    assert_eq!(after_routing(&tables(&rules[2..]), &passing()).source, passing().source);
}

#[test]
fn a_journey_tells_what_became_of_the_mss() {
    let syn = "-p tcp -m tcp --tcp-flags SYN,RST SYN -j TCPMSS";
    let set = format!("mangle: -A FORWARD {syn} --set-mss 1360");
    let clamp = format!("mangle: -A POSTROUTING {syn} --clamp-mss-to-pmtu");
    let rules = [set.as_str(), clamp.as_str(), "filter: -A FORWARD -j LOG --log-prefix x"];
    let tables = tables(&rules);
    let first = trace_packet(&tables, &passing());
    assert_eq!(first.mss(), [Mss::Set(1360), Mss::Clamped]);
    assert_eq!((first.logs(), first.verdict), (vec!["x"], Verdict::Policy));
    assert_eq!(first.trace_in(Kind::Mangle, "FORWARD").map(Trace::cost), Some(1));
    assert!(trace_packet(&tables, &passing().flags("ACK")).mss().is_empty());
}

#[test]
fn a_table_that_the_kernel_lacks_refuses_its_section_only() {
    let mut tables = Emulator::new();
    tables.lacks.insert(Kind::Mangle);
    assert_eq!(tables.restore("*nat\n:A - [0:0]\nCOMMIT\n"), Ok(()));
    let why = tables.restore("*mangle\n:A - [0:0]\nCOMMIT\n");
    assert_eq!(why, Err("line 1: can't initialize iptables table `mangle'".to_owned()));
}

#[test]
fn ah_of_ipv6_is_found_by_its_own_match_only() {
    let v6 = Packet::between("2001:db8::7", "2001:db8::1").protocol(AH);
    let v6 = v6.in_by("eth0").for_gateway();
    assert!(matches("-m ah", &v6) && !matches("-p 51", &v6));
    let v4 = incoming().protocol(AH);
    assert!(matches("-p 51", &v4));
}
