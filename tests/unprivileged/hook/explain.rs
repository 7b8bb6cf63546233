//! `explain`, in plain words and as a picture: from the record, compared with what the kernel lists.

use std::fs;
use std::process::{Command, Stdio};

use super::fakes::Fakes;
use crate::support::binary::{Call, Ending, Hook, is_printable};
use crate::support::captures::{find_call, libreswan_up, strongswan_up};

/// What it says; nothing but listings is started, and nothing is changed.
fn explain(fakes: &mut Fakes, words: &[&str]) -> Ending {
    let before = fakes.everything();
    let ending = fakes.operate(&[&["explain"], words].concat());
    assert_eq!(fakes.everything(), before);
    for program in fakes.started_by_last() {
        assert!(program.contains("-save "), "{program}");
    }
    ending
}

/// The same, where it went well: lines of printable text, none too wide.
#[track_caller]
fn explain_output(fakes: &mut Fakes, words: &[&str]) -> String {
    let ending = explain(fakes, words);
    let text = ending.out_text();
    assert_eq!((ending.code, ending.err_text()), (Some(0), String::new()), "{text}");
    for line in text.lines() {
        assert!(is_printable(line.as_bytes()) && line.len() <= 80, "{line}");
    }
    text
}

/// Without how long something has been up, and where the settings file of this test is: what names it is one line, since its length is not
/// always the same.
fn without_times(fakes: &Fakes, text: &str) -> String {
    let mut lines: Vec<String> = Vec::new();
    let mut is_setting = false;
    for line in text.lines() {
        let is_continued = is_setting && line.starts_with("    ");
        match lines.last_mut().filter(|_| is_continued) {
            Some(last) => {
                last.push(' ');
                last.push_str(line.trim_start());
            }
            None => {
                is_setting = line.starts_with("  setting");
                lines.push(line.to_owned());
            }
        }
    }
    let settings = fakes.path("settings.toml").display().to_string();
    let lines = lines.into_iter().map(|line| {
        let mut line = line.replace(&settings, "/etc/pluto-updown.toml");
        for seconds in 0..60 {
            line = line.replace(&format!(" for {seconds}s"), " for 0s");
        }
        line + "\n"
    });
    lines.collect()
}

/// A gateway with something set for everything, and three tunnels.
fn gateway() -> Fakes {
    let mut fakes = Fakes::new();
    fakes.settings(
        r#"
[gateway]
ike = "any"
esp = "negotiated"
icmp = "safe"
[[connection]]
name = "net-net"
allow = ["tcp/22", "ping"]
when-down = "block"
mss = 1360
chain = "vpn-in"
log = "denied"
[[connection]]
name = "host"
allow = "replies"
"#,
    );
    fakes.tables[0].restore("*filter\n:vpn-in - [0:0]\nCOMMIT\n").unwrap();
    let started = fakes.hook().operate(&["start"]);
    assert_eq!(started.code, Some(0), "{}", started.err_text());
    // `start` lists the tables behind its first change, and finds nothing there: it makes all again.
    let inputs = fakes.inputs();
    for (family, prefix) in ["iptables", "ip6tables"].into_iter().enumerate() {
        let last = inputs.iter().rfind(|(program, _)| program.starts_with(prefix));
        let (_, text) = last.expect("a restore of this family");
        fakes.tables[family].restore(text).unwrap();
    }
    let others = ["host", "ports"].map(|connection| {
        let verb = if connection == "host" { "up-host" } else { "up-client" };
        find_call("strongswan-6.0.1", connection, verb).with("PLUTO_REQID", connection.len().to_string())
    });
    for up in [strongswan_up()].iter().chain(&others) {
        fakes.expect_success(up);
    }
    fakes
}

#[track_caller]
fn assert_is(fakes: &Fakes, text: &str, name: &str, expected: &str) {
    let text = without_times(fakes, text);
    assert_eq!(text, expected, "{name}");
}

#[test]
fn a_tunnel_is_explained_in_sentences_and_drawn() {
    let mut fakes = gateway();
    for (name, expected) in [
        ("net-net", include_str!("explained/net-net.txt")),
        ("host", include_str!("explained/host.txt")),
        ("ports", include_str!("explained/ports.txt")),
    ] {
        let text = explain_output(&mut fakes, &[name]) + "\n" + &explain_output(&mut fakes, &[name, "--diagram"]);
        assert_is(&fakes, &text, name, expected);
    }
}

/// What is asked, and what is answered.
fn asked(fakes: &mut Fakes, questions: &[&[&str]]) -> String {
    let text: Vec<_> = questions
        .iter()
        .map(|words| {
            format!(
                "$ pluto-updown explain {}\n{}",
                words.join(" "),
                explain_output(fakes, words)
            )
        })
        .collect();
    text.join("\n")
}

#[test]
fn the_answer_comes_first_with_the_setting_that_decides_and_the_remedy() {
    let mut fakes = gateway();
    fakes.tables[0]
        .restore("*filter\n-A FORWARD -s 10.8.0.0/16 -j DROP\n-A INPUT -p tcp -j ACCEPT\nCOMMIT\n")
        .unwrap();
    let questions = [
        &["10.2.0.7", "10.1.0.9", "443"][..],
        &["10.2.0.7", "10.1.0.9:22"],
        &["10.1.0.9", "10.2.0.7", "https"],
        &["10.2.0.7", "10.1.0.9"],
        &["10.2.0.7:8080", "10.1.0.9:5000"],
        &["net-net", "--packet", "10.2.0.7", "10.1.0.9", "icmp", "3/4"],
        &["192.1.2.23", "192.1.2.45", "tcp:22"],
        &["192.1.2.23", "192.1.2.45", "esp"],
        &["198.51.100.9", "192.1.2.45", "esp"],
        &["10.8.0.1", "10.1.0.9", "ping"],
        &["10.8.0.1", "10.1.0.9", "icmp", "5"],
        &["2001:db8::1", "[2001:db8::2]:443"],
    ];
    let text = asked(&mut fakes, &questions);
    assert_is(&fakes, &text, "answers", include_str!("explained/answers.txt"));
}

#[test]
fn a_blocked_pair_is_reported_with_the_tunnels_that_are_up() {
    let mut fakes = gateway();
    fakes.expect_success(&strongswan_up().opposite());
    let others = find_call("strongswan-6.0.1", "ports", "up-client").with("PLUTO_REQID", "5");
    fakes.expect_success(&others.opposite());
    let text = asked(&mut fakes, &[&["10.2.0.7", "10.1.0.9", "22"]]);
    assert_is(&fakes, &text, "blocked", include_str!("explained/blocked.txt"));
    let text = asked(&mut fakes, &[&["10.2.0.7", "10.66.0.9", "22"]]);
    let set = [
        "Set for it: ",
        ":8  [[connection]] name = \"net-net\": allow = ",
        "drops its unencrypted packets",
    ];
    explain_fails(&mut fakes, &["net-net"], 1, &set);
    let words: Vec<_> = text.split_whitespace().collect();
    let named = "none between these addresses is up; up: host; when-down blocks nothing between these addresses";
    assert!(words.join(" ").contains(named), "{text}");
}

#[test]
fn what_is_set_now_and_not_applied_is_reported_so() {
    let mut fakes = gateway();
    let ask = ["10.2.0.7", "10.1.0.9", "443"];
    fakes.settings("# new\n[tunnel]\nallow = [\"tcp/443\"]\n");
    let text = explain_output(&mut fakes, &ask);
    let text = without_times(&fakes, &text);
    let setting = "setting  /etc/pluto-updown.toml:3  [tunnel]: allow = [\"tcp/443\"] (not applied yet)\n";
    assert!(
        text.contains(setting) && text.contains("fix      apply the settings: pluto-updown start"),
        "{text}"
    );
    assert!(text.starts_with("DROPPED by pluto-updown"), "{text}");
    fakes.settings("[tunel]\n");
    let text = explain_output(&mut fakes, &ask);
    let text = without_times(&fakes, &text);
    assert!(
        text.contains("setting  /etc/pluto-updown.toml:1: tunel: found an unknown key"),
        "{text}"
    );
}

#[test]
fn a_rule_of_the_administrators_that_comes_before_ours_is_the_verdict() {
    let mut fakes = gateway();
    fakes.tables[0]
        .restore("*filter\n-I FORWARD -s 10.2.0.0/24 -j DROP\nCOMMIT\n")
        .unwrap();
    let ending = explain(&mut fakes, &["10.2.0.7", "10.1.0.9", "22"]);
    let text = ending.out_text();
    let verdict = text.split("\n\n").nth(1).expect("a verdict behind the warning");
    assert!(
        verdict.starts_with("DROPPED by a rule of yours before the rules of pluto-updown"),
        "{text}"
    );
    assert!(verdict.contains("own rule FORWARD: -s 10.2.0.0/24 -j DROP"), "{text}");
}

#[test]
fn more_than_three_tunnels_are_a_list_to_choose_from() {
    let mut fakes = Fakes::new();
    assert!(explain_output(&mut fakes, &[]).starts_with("no tunnel is up\n\npluto-updown explain NAME "));
    for number in 1..=4 {
        fakes.expect_success(&libreswan_up().with("PLUTO_PEER_CLIENT", format!("10.9.{number}.0/24")));
    }
    let ids = fakes.recorded();
    for words in [&[][..], &["net-net"], &["net-net", "--diagram"]] {
        let text = explain_output(&mut fakes, words);
        assert!(ids.iter().all(|id| text.contains(id.as_str())), "{text}");
        assert!(text.starts_with("4 tunnels "), "{text}");
        assert!(!text.contains("ALLOWED"), "{text}");
    }
    assert!(explain_output(&mut fakes, &[]).contains("--packet"));
    explain_fails(&mut fakes, &["net-net", "--svg"], 2, &["4 tunnels of net-net"]);
    explain_fails(&mut fakes, &["--svg"], 2, &["expected the name of one tunnel"]);
    explain_fails(
        &mut fakes,
        &["10.2.0.7", "10.1.0.9", "--diagram"],
        2,
        &["the name of one tunnel"],
    );
}

#[test]
fn two_or_three_tunnels_are_listed_in_the_order_of_numbers_and_then_explained() {
    let mut fakes = Fakes::new();
    for number in [10, 2, 9] {
        fakes.expect_success(&libreswan_up().with("PLUTO_PEER_CLIENT", format!("10.9.{number}.0/24")));
    }
    let text = explain_output(&mut fakes, &["net-net"]);
    let (list, blocks) = text.split_once("\n\n").expect("a list before the first tunnel");
    let networks = ["10.9.2.0/24", "10.9.9.0/24", "10.9.10.0/24"];
    assert!(
        list.starts_with("3 tunnels of net-net; name one by its short name\n"),
        "{text}"
    );
    for text in [list, blocks] {
        let places = networks.map(|network| text.find(network).expect("a network"));
        assert!(places.is_sorted(), "{text}");
    }
    assert_eq!(blocks.matches("\nALLOWED\n").count(), 3, "{text}");
}

#[test]
fn the_list_of_tunnels_says_too_where_the_kernel_differs_or_nothing_is_recorded() {
    let mut fakes = gateway();
    fakes.tables[0]
        .restore("*filter\n-D FORWARD -j PLUTO-FORWARD\nCOMMIT\n")
        .unwrap();
    let ending = explain(&mut fakes, &[]);
    let text = ending.out_text();
    assert_eq!(ending.code, Some(1), "{text}");
    assert!(
        text.starts_with("WARNING: the kernel differs from the record"),
        "{text}"
    );
    assert!(text.contains("\n\n3 tunnels up\n"), "{text}");
    let elsewhere = fakes.path("elsewhere");
    let hook = Hook::new()
        .option("--state-dir", &elsewhere)
        .option("--programs", fakes.programs());
    for words in [&["explain"][..], &["explain", "10.2.0.7", "10.1.0.9", "22"]] {
        let ending = hook.operate(words);
        let text = ending.out_text();
        assert_eq!(ending.code, Some(1), "{text}");
        assert!(
            text.starts_with("WARNING: nothing is recorded\n  chains of pluto-updown are loaded"),
            "{text}"
        );
    }
    let ending = hook.operate(&["explain", "net-net"]);
    assert_eq!(ending.code, Some(1));
    assert!(
        ending.err_text().contains("chains of pluto-updown are loaded"),
        "{}",
        ending.err_text()
    );
}

#[test]
fn every_way_of_a_packet_is_followed_to_the_rule_that_decides_where_that_is_wanted() {
    let mut fakes = gateway();
    let packets = [
        &["--packet", "10.2.0.7", "10.1.0.9", "tcp", "22", "-v"][..],
        &["-v", "10.2.0.7", "10.1.0.9", "tcp/80"],
        &["10.1.0.9", "10.2.0.7", "ping", "-v"],
        &["10.2.0.7", "10.1.0.9", "--verbose"],
        &["net-net", "--packet", "10.2.0.7", "10.1.0.9", "icmp", "3/4", "-v"],
        &["192.1.2.23", "192.1.2.45", "esp", "-v"],
    ];
    let text = asked(&mut fakes, &packets);
    assert_is(&fakes, &text, "packets", include_str!("explained/packets.txt"));
}

/// The first lines that are no part of a packet's or tunnel's own text, where the kernel is not as the record says. The exit status is 1.
#[track_caller]
fn expect_warning(fakes: &mut Fakes, words: &[&str], named: &str) {
    let ending = explain(fakes, words);
    let text = ending.out_text();
    assert_eq!((ending.code, ending.err_text()), (Some(1), String::new()), "{text}");
    assert!(
        text.starts_with("WARNING: the kernel differs from the record"),
        "{text}"
    );
    let head: Vec<_> = text.split("\n\n").next().unwrap().lines().map(str::trim).collect();
    assert!(head.join(" ").contains(named), "{named}: {text}");
}

#[test]
fn it_warns_on_top_where_the_kernel_differs_from_the_record() {
    let questions = [
        &["--packet", "10.2.0.7", "10.1.0.9", "tcp/22"][..],
        &["10.2.0.7", "10.1.0.9", "-v"],
        &["net-net"],
    ];
    for words in questions {
        // iptables -F: chains stay, and are empty.
        let mut fakes = gateway();
        fakes.tables[0].flush();
        expect_warning(&mut fakes, words, "restore");
        // iptables -F; iptables -X
        fakes.tables[0].flush_all();
        expect_warning(&mut fakes, words, "restore");
        // A rule of others before our jump, and one in a chain of ours.
        for line in ["-I FORWARD -s 10.2.0.0/24 -j DROP", "-I PLUTO-FI -j DROP"] {
            let mut fakes = gateway();
            explain_output(&mut fakes, words);
            let text = format!("*filter\n{line}\nCOMMIT\n");
            fakes.tables[0].restore(&text).unwrap();
            expect_warning(&mut fakes, words, "-j DROP");
        }
    }
}

#[test]
fn it_warns_where_the_kernel_cannot_be_listed() {
    let mut fakes = gateway();
    fakes.save_does("echo no right >&2; exit 4");
    let ending = explain(&mut fakes, &["net-net"]);
    assert_eq!(ending.code, Some(3), "{}", ending.out_text());
    assert!(
        ending.out_text().starts_with("WARNING: not compared with the kernel"),
        "{}",
        ending.out_text()
    );
}

#[test]
fn a_picture_of_rules_that_are_not_loaded_is_drawn_and_warned_of() {
    let mut fakes = gateway();
    fakes.tables[0].flush();
    let ending = explain(&mut fakes, &["net-net", "--svg"]);
    assert_eq!(ending.code, Some(1));
    assert!(ending.out_text().starts_with("<?xml"), "{}", ending.out_text());
    assert!(
        ending.err_text().contains("the kernel differs from the record"),
        "{}",
        ending.err_text()
    );
}

#[test]
fn of_tunnels_that_overlap_the_one_that_restricts_decides_whichever_came_up_last() {
    let mut fakes = gateway();
    let alike = find_call("strongswan-6.0.1", "ports", "up-client").with("PLUTO_CONNECTION", "alike");
    fakes.expect_success(&alike);
    let packet = ["--packet", "10.2.0.7", "10.1.0.9", "tcp/80", "-v"];
    let text = explain_output(&mut fakes, &packet);
    let lines: Vec<_> = text.lines().map(str::trim).collect();
    let text = lines.join(" ");
    assert!(
        text.contains("verdict     is dropped rule        -A PLUTO-net-net-"),
        "{text}"
    );
    assert!(!text.contains("another order"), "{text}");
}

#[test]
fn every_tunnel_of_a_connection_is_explained_and_a_short_name_means_one() {
    let mut fakes = Fakes::new();
    fakes.expect_success(&libreswan_up());
    fakes.expect_success(&libreswan_up().with("PLUTO_PEER_CLIENT", "10.9.0.0/24"));
    let text = explain_output(&mut fakes, &["net-net"]);
    assert_eq!(text.matches("\nALLOWED\n").count(), 2, "{text}");
    for id in fakes.recorded() {
        let text = explain_output(&mut fakes, &[&id]);
        assert_eq!(text.matches("\nALLOWED\n").count(), 1, "{text}");
        assert!(text.starts_with(&format!("net-net ({id}, ")), "{text}");
    }
}

#[test]
fn an_unknown_name_is_answered_with_those_that_there_are() {
    let mut fakes = Fakes::new();
    explain_fails(
        &mut fakes,
        &["office"],
        1,
        &["no tunnel \"office\" is up, nor any other"],
    );
    fakes.expect_success(&libreswan_up());
    fakes.expect_success(&libreswan_up().of_tunnel(3).with("PLUTO_CONNECTION", "a\x1b[2Jb"));
    let named = [
        "\"net-ner\"",
        "did you mean \"net-net\"?",
        "There are: a\\x1b[2Jb, net-net",
    ];
    explain_fails(&mut fakes, &["net-ner"], 1, &named);
    explain_fails(&mut fakes, &["\x1b[31m"], 1, &["no tunnel \"\\x1b[31m\""]);
    // As the record spells it, and as the daemon does.
    for name in ["a\\x1b[2Jb", "a\x1b[2Jb"] {
        assert!(explain_output(&mut fakes, &[name]).starts_with("a\\x1b[2Jb ("));
    }
}

#[track_caller]
fn explain_fails(fakes: &mut Fakes, words: &[&str], code: i32, named: &[&str]) {
    explain(fakes, words).assert_refused(code, named);
}

#[test]
fn what_is_no_packet_is_wrong_use() {
    let mut fakes = Fakes::new();
    for (words, named) in [
        (&["10.1.0.0/24", "10.2.0.7"][..], "expected an address"),
        (&["10.1.0.9", "2001:db8::1"], "two of one family"),
        (&["10.1.0.9", "10.2.0.7", "nosuch"], "nosuch: expected"),
        (&["10.1.0.9", "10.2.0.7", "tcp", "x\x1b"], "tcp/x\\x1b: expected"),
    ] {
        explain_fails(&mut fakes, &[&["--packet"], words].concat(), 2, &[named]);
    }
}

#[test]
fn without_anything_of_ours_a_packet_is_left_to_others() {
    let mut fakes = Fakes::new();
    let text = explain_output(&mut fakes, &["--packet", "2001:db8::1", "2001:db8::2", "ping"]);
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(
        lines,
        [
            "not decided here: your FORWARD rules decide about 2001:db8::1 -> 2001:db8::2,",
            "    ping",
            "  own rule none of yours matches",
            "  policy   FORWARD ACCEPT",
            "  tunnels  no tunnel is up; when-down blocks nothing between these addresses",
        ]
    );
}

/// The names of the elements that are open, checked as far as a picture of ours goes: no comments, no sections, quoted attributes.
fn assert_well_formed(text: &str) {
    let mut open: Vec<&str> = Vec::new();
    let mut rest = text
        .strip_prefix("<?xml version=\"1.0\" encoding=\"UTF-8\"?>")
        .expect("a declaration");
    while let Some(start) = rest.find('<') {
        assert_characters(&rest[..start]);
        let end = start + rest[start..].find('>').expect("the end of a tag");
        let tag = &rest[start + 1..end];
        rest = &rest[end + 1..];
        match (tag.strip_prefix('/'), tag.strip_suffix('/')) {
            (Some(name), _) => assert_eq!(open.pop(), Some(name)),
            (None, Some(whole)) => assert_attributes(whole),
            (None, None) => {
                assert_attributes(tag);
                open.push(tag.split(' ').next().expect("a name"));
            }
        }
        assert!(!open.is_empty() || rest.trim().is_empty(), "{rest}");
    }
    assert_eq!(rest.trim(), "");
}

/// Every quote is closed, and nothing in the values has a meaning of its own.
fn assert_attributes(tag: &str) {
    let parts: Vec<_> = tag.split('"').collect();
    assert_eq!(parts.len() % 2, 1, "{tag}");
    parts
        .iter()
        .skip(1)
        .step_by(2)
        .for_each(|value| assert_characters(value));
}

fn assert_characters(text: &str) {
    for (at, _) in text.match_indices('&') {
        let known = ["&amp;", "&lt;", "&gt;", "&quot;", "&apos;"];
        assert!(known.iter().any(|entity| text[at..].starts_with(entity)), "{text}");
    }
    assert!(!text.contains('<') && text.is_ascii(), "{text}");
}

/// No line of text leaves the picture: a character is 8 pixels wide at most.
fn assert_texts_fit(picture: &str) {
    let number = |text: &str, name: &str| -> usize {
        let (_, value) = text.split_once(&format!(" {name}=\"")).expect("an attribute");
        value.split('"').next().expect("a value").parse().expect("a number")
    };
    let width = number(picture, "width");
    for line in picture.lines().filter(|line| line.starts_with("<text ")) {
        let words = line.split(['<', '>']).nth(2).expect("words");
        let length = words.replace("&gt;", ">").replace("&lt;", "<").len();
        assert!(number(line, "x") + 8 * length <= width, "{line}");
    }
}

#[test]
fn a_picture_is_well_formed_whatever_a_connection_is_called() {
    let mut fakes = Fakes::new();
    let names = ["net-net", "a<b>&\"c'd]]>", "</text><script>x</script>", "\u{202e}\x07"];
    for (number, name) in names.into_iter().enumerate() {
        let up: Call = libreswan_up().of_tunnel(number + 10).with("PLUTO_CONNECTION", name);
        fakes.expect_success(&up);
        let ending = explain(&mut fakes, &[name, "--svg"]);
        assert_eq!((ending.code, ending.err_text()), (Some(0), String::new()));
        let text = ending.out_text();
        assert_well_formed(&text);
        assert_eq!(text.matches("<svg ").count(), 1);
        assert!(!text.contains("<script"), "{text}");
        assert_texts_fit(&text);
        for part in [
            "<title id=",
            "prefers-color-scheme:dark",
            "marker-end=",
            ">your rules decide</text>",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }
}

#[test]
fn every_peer_that_has_a_tunnel_up_is_named_with_where_it_is_set_what_it_may() {
    let mut fakes = Fakes::new();
    fakes.settings("[[connection]]\npeer-id = \"guest\"\nallow = \"none\"\n");
    let of = |peer: &str, number: &str| {
        strongswan_up()
            .with("PLUTO_PEER_ID", peer)
            .with("PLUTO_UNIQUEID", number)
    };
    fakes.expect_success(&of("anna", "1"));
    let one = explain_output(&mut fakes, &["net-net"]);
    assert!(one.contains(", anna\n") && !one.contains("Several peers"), "{one}");
    fakes.expect_success(&of("guest", "2"));
    let text = explain_output(&mut fakes, &["net-net"]);
    for words in [", anna\n", ", guest\n", "Several peers have it up"] {
        assert_eq!(text.matches(words).count(), 1, "{text}");
    }
    assert_eq!(text.matches("  setting").count(), 2, "{text}");
}

/// The model of the rules is the present one: it would tell a path that no packet takes.
#[test]
fn no_path_is_shown_for_rules_that_an_older_version_installed() {
    let mut fakes = gateway();
    let note = fakes.namespace().join("plain-ipv4/place");
    let present = fs::read_to_string(&note).expect("the note of the layout");
    assert!(present.contains("\"tunnel_rules\":4"), "{present}");
    fs::write(&note, present.replace("\"tunnel_rules\":4", "\"tunnel_rules\":3")).expect("a note");
    let packet = ["10.2.0.7", "10.1.0.9", "tcp", "22"];
    let asked: [&[&str]; 5] = [
        &packet,
        &["net-net"],
        &["net-net", "--diagram"],
        &["net-net", "--svg"],
        &["net-net", "--packet", "10.2.0.7", "10.1.0.9", "22"],
    ];
    let refused = |fakes: &mut Fakes, words: &[&str]| {
        let ending = explain(fakes, words);
        assert_eq!((ending.code, ending.out_text()), (Some(1), String::new()), "{words:?}");
        ending.assert_one_line();
        let text = ending.err_text();
        assert!(
            text.contains("plain-ipv4: older layout") && text.contains("fix: pluto-updown start"),
            "{text}"
        );
    };
    for words in asked {
        refused(&mut fakes, words);
        // The same where the kernel cannot be listed.
        fakes.save_does("echo no >&2; exit 1");
        refused(&mut fakes, words);
        fakes.save_does("exit 0");
    }
    // The other family's rules are the present ones, and who is up is reported.
    let text = explain_output(&mut fakes, &[]);
    assert!(text.contains("net-net"), "{text}");
    fs::write(&note, present).expect("a note");
    explain_output(&mut fakes, &packet);
}

/// What it writes to a terminal of so many columns.
#[expect(clippy::disallowed_methods, reason = "tests start programs")]
fn on_terminal(fakes: &Fakes, columns: usize, words: &[&str]) -> String {
    let line = fakes.hook().option("--root", fakes.path("root")).line(&[]);
    let line: Vec<_> = line.iter().map(|word| word.to_str().expect("plain text")).collect();
    let command = format!(
        "stty cols {columns} rows 50; {} explain {}",
        line.join(" "),
        words.join(" ")
    );
    let mut script = Command::new("script");
    script.args(["--quiet", "--return", "--command", &command, "/dev/null"]);
    script
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("SHELL", "/bin/sh")
        .stdin(Stdio::null());
    let output = script.output().expect("a pseudo terminal");
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).expect("text").replace('\r', "")
}

#[test]
fn no_line_is_wider_than_the_terminal() {
    let mut fakes = gateway();
    let long = libreswan_up()
        .of_tunnel(7)
        .with("PLUTO_CONNECTION", "a-connection-with-a-name-of-more-than-forty-bytes")
        .with(
            "PLUTO_PEER_ID",
            "CN=somebody with a long name, OU=and a department, O=Example, C=CH",
        );
    fakes.expect_success(&long);
    // So that the listing is the present one.
    fakes.operate(&["status"]);
    for words in [
        &[][..],
        &["net-net"],
        &["net-net", "--diagram"],
        &["tunnel-7"],
        &["10.2.0.7", "10.1.0.9", "22"],
        &["10.2.0.7", "10.1.0.9", "443", "-v"],
        &["10.7.0.7", "10.1.0.9", "ping", "-v"],
    ] {
        let words: Vec<_> = words
            .iter()
            .map(|word| word.replace("tunnel-7", "a-connection-with-a-name-of-more-than-forty-bytes"))
            .collect();
        let words: Vec<_> = words.iter().map(String::as_str).collect();
        for columns in [60, 80, 120] {
            let text = on_terminal(&fakes, columns, &words);
            for line in text.lines() {
                assert!(line.len() <= columns, "{columns} {words:?}: {line}\n{text}");
            }
            let widest = text.lines().map(str::len).max();
            assert!(widest > Some(columns.min(100) / 2), "{columns} {words:?}:\n{text}");
        }
        // Without a terminal it is as on one of 80 columns.
        let piped = explain(&mut fakes, &words).out_text();
        // The second one may be asked a few seconds later.
        let without_seconds = |text: &str| {
            (1..60).fold(text.to_owned(), |text, seconds| {
                text.replace(&format!("for {seconds}s"), "for 0s")
            })
        };
        let on_80 = on_terminal(&fakes, 80, &words);
        assert_eq!(without_seconds(&piped), without_seconds(&on_80), "{words:?}");
    }
}
