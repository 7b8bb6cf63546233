//! `explain`, in plain words and as a picture: from the record, compared with what the kernel lists.

use super::fakes::Fakes;
use crate::support::binary::{Call, Ending, is_printable};
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
fn told(fakes: &mut Fakes, words: &[&str]) -> String {
    let ending = explain(fakes, words);
    let text = ending.out_text();
    assert_eq!((ending.code, ending.err_text()), (Some(0), String::new()), "{text}");
    for line in text.lines() {
        assert!(is_printable(line.as_bytes()) && line.len() <= 80, "{line}");
    }
    text
}

/// Without how long something has been up.
fn timeless(text: &str) -> String {
    let lines = text.lines().map(|line| {
        let mut line = line.to_owned();
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
    // `start` lists the tables behind its first change, and finds nothing there: it makes all anew.
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
        fakes.must(up);
    }
    fakes
}

#[track_caller]
fn assert_is(text: &str, name: &str, expected: &str) {
    let text = timeless(text);
    assert_eq!(text, expected, "{name}");
}

#[test]
fn a_tunnel_is_told_in_sentences_and_a_picture() {
    let mut fakes = gateway();
    assert_is(
        &told(&mut fakes, &["net-net"]),
        "net-net",
        include_str!("explained/net-net.txt"),
    );
    assert_is(&told(&mut fakes, &["host"]), "host", include_str!("explained/host.txt"));
    assert_is(
        &told(&mut fakes, &["ports"]),
        "ports",
        include_str!("explained/ports.txt"),
    );
}

#[test]
fn a_packet_is_followed_in_clear_and_through_its_tunnels_to_the_rule_that_decides() {
    let mut fakes = gateway();
    let packets = [
        &["--packet", "10.2.0.7", "10.1.0.9", "tcp", "22"][..],
        &["--packet", "10.2.0.7", "10.1.0.9", "tcp/80"],
        &["--packet", "10.1.0.9", "10.2.0.7", "ping"],
        &["--packet", "10.2.0.7", "10.1.0.9"],
        &["net-net", "--packet", "10.2.0.7", "10.1.0.9", "icmp", "3/4"],
        &["--packet", "192.1.2.23", "192.1.2.45", "esp"],
    ];
    let text: Vec<_> = packets
        .iter()
        .map(|words| {
            format!(
                "$ pluto-updown explain {}\n{}",
                words.join(" "),
                told(&mut fakes, words)
            )
        })
        .collect();
    assert_is(&text.join("\n"), "packets", include_str!("explained/packets.txt"));
}

/// The first lines that are no part of a packet's or tunnel's own text, where the kernel is not as the record says. The exit status is 1.
#[track_caller]
fn warned(fakes: &mut Fakes, words: &[&str], named: &str) {
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
    let questions = [&["--packet", "10.2.0.7", "10.1.0.9", "tcp/22"][..], &["net-net"]];
    for words in questions {
        // iptables -F: chains stay, and are empty.
        let mut fakes = gateway();
        fakes.tables[0].flush();
        warned(&mut fakes, words, "restore");
        // iptables -F; iptables -X
        fakes.tables[0].wipe();
        warned(&mut fakes, words, "restore");
        // A rule of others before our jump, and one in a chain of ours.
        for line in ["-I FORWARD -s 10.2.0.0/24 -j DROP", "-I PLUTO-FI -j DROP"] {
            let mut fakes = gateway();
            told(&mut fakes, words);
            let text = format!("*filter\n{line}\nCOMMIT\n");
            fakes.tables[0].restore(&text).unwrap();
            warned(&mut fakes, words, "-j DROP");
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
    fakes.must(&alike);
    let packet = ["--packet", "10.2.0.7", "10.1.0.9", "tcp/80"];
    let text = told(&mut fakes, &packet);
    let lines: Vec<_> = text.lines().map(str::trim).collect();
    let text = lines.join(" ");
    assert!(
        text.contains("verdict     is dropped rule        -A PLUTO-net-net-"),
        "{text}"
    );
    assert!(!text.contains("another order"), "{text}");
}

#[test]
fn every_tunnel_of_a_connection_is_told_and_a_short_name_means_one() {
    let mut fakes = Fakes::new();
    fakes.must(&libreswan_up());
    fakes.must(&libreswan_up().with("PLUTO_PEER_CLIENT", "10.9.0.0/24"));
    let text = told(&mut fakes, &["net-net"]);
    assert_eq!(text.matches("WHAT MAY FLOW").count(), 2, "{text}");
    for id in fakes.recorded() {
        let text = told(&mut fakes, &[&id]);
        assert_eq!(text.matches("WHAT MAY FLOW").count(), 1, "{text}");
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
    fakes.must(&libreswan_up());
    fakes.must(&libreswan_up().of_tunnel(3).with("PLUTO_CONNECTION", "a\x1b[2Jb"));
    let named = [
        "\"net-ner\"",
        "did you mean \"net-net\"?",
        "There are: a\\x1b[2Jb, net-net",
    ];
    explain_fails(&mut fakes, &["net-ner"], 1, &named);
    explain_fails(&mut fakes, &["\x1b[31m"], 1, &["no tunnel \"\\x1b[31m\""]);
    // As the record spells it, and as the daemon does.
    for name in ["a\\x1b[2Jb", "a\x1b[2Jb"] {
        assert!(told(&mut fakes, &[name]).starts_with("a\\x1b[2Jb ("));
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
        (&["10.1.0.9", "10.2.0.7", "ssh"], "ssh: expected"),
        (&["10.1.0.9", "10.2.0.7", "tcp", "x\x1b"], "tcp/x\\x1b: expected"),
    ] {
        explain_fails(&mut fakes, &[&["--packet"], words].concat(), 2, &[named]);
    }
}

#[test]
fn without_anything_of_ours_a_packet_is_left_to_others() {
    let mut fakes = Fakes::new();
    let text = told(&mut fakes, &["--packet", "2001:db8::1", "2001:db8::2", "ping"]);
    assert_eq!(
        text,
        "nothing of ours stands in the tables of ipv6: your own rules decide\n"
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

#[test]
fn a_picture_is_well_formed_whatever_a_connection_is_called() {
    let mut fakes = Fakes::new();
    let names = ["net-net", "a<b>&\"c'd]]>", "</text><script>x</script>", "\u{202e}\x07"];
    for (number, name) in names.into_iter().enumerate() {
        let up: Call = libreswan_up().of_tunnel(number + 10).with("PLUTO_CONNECTION", name);
        fakes.must(&up);
        let ending = explain(&mut fakes, &[name, "--svg"]);
        assert_eq!((ending.code, ending.err_text()), (Some(0), String::new()));
        let text = ending.out_text();
        assert_well_formed(&text);
        assert_eq!(text.matches("<svg ").count(), 1);
        assert!(!text.contains("<script"), "{text}");
    }
}
