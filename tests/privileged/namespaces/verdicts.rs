//! The verdict of `status`: when it is OK, when not, and what monitoring systems get.

use std::fs::{self, File};
use std::time::Duration;

use pluto_updown::net::Family;
use pluto_updown::netfilter::Backend;
use serde_json::Value;

use super::daemons::Daemon;
use crate::support::binary::{Call, Hook};
use crate::support::captures::{libreswan_up, strongswan_up};
use crate::support::namespace::{Namespace, VARIANTS, tool};

fn status(hook: &Hook, words: &[&str]) -> (Option<i32>, String) {
    let ending = hook.operate(&[&["status"], words].concat());
    assert_eq!(ending.err_text(), "");
    (ending.code, ending.out_text())
}

fn json(hook: &Hook) -> Value {
    serde_json::from_str(&status(hook, &["--json"]).1).expect("JSON")
}

/// The kinds of a report's problems with this severity.
fn kinds(document: &Value, severity: &str) -> Vec<String> {
    let problems = document["problems"].as_array().expect("problems").iter();
    let meant = problems.filter(|problem| problem["severity"] == severity);
    meant
        .map(|problem| problem["kind"].as_str().expect("a kind").to_owned())
        .collect()
}

/// Makes every record say that its tunnel is up since two minutes ago, and nobody has called about it since.
fn set_times_back(machine: &Namespace) {
    /// Before any record was written.
    const AGE: Duration = Duration::from_secs(120);
    let files = machine.shell(&format!(
        "find {} -path '*/tunnels/*' -type f",
        machine.state().display()
    ));
    for path in files.lines() {
        let text = fs::read_to_string(path).expect("a record");
        let mut record: Value = serde_json::from_str(&text).expect("a record");
        let since = record["since"].as_u64().expect("a time");
        record["since"] = (since - AGE.as_secs()).into();
        let called = fs::metadata(path).and_then(|file| file.modified()).expect("a time");
        fs::write(path, record.to_string()).expect("writing a record");
        File::options()
            .write(true)
            .open(path)
            .expect("a record")
            .set_modified(called - AGE)
            .expect("a time");
    }
}

/// Gives the kernel what a daemon would: the policies of a strongSwan tunnel between two networks.
fn policies(machine: &Namespace, call: &Call) {
    let (local, remote) = (call.get("PLUTO_MY_CLIENT"), call.get("PLUTO_PEER_CLIENT"));
    let reqid = call.get("PLUTO_REQID");
    for (from, to, direction) in [(local, remote, "out"), (remote, local, "in"), (remote, local, "fwd")] {
        machine.shell(&format!(
            "ip xfrm policy add src {from} dst {to} dir {direction} tmpl src 192.0.2.1 dst 192.0.2.2 proto esp \
             reqid {reqid} mode tunnel"
        ));
    }
}

#[test]
#[ignore = "needs root and iptables: run by contrib/test"]
fn a_tunnel_whose_policy_is_gone_for_more_than_a_minute_is_not_ok() {
    for backend in VARIANTS {
        let machine = Namespace::new(backend);
        machine.settings("");
        let hook = machine.hook();
        let (gone, up) = (strongswan_up(), strongswan_up().of_tunnel(9).with("PLUTO_REQID", "77"));
        hook.expect_success(&gone);
        hook.expect_success(&up);
        policies(&machine, &up);
        // An SA begins before its `up`, and ends before its `down`.
        assert_eq!(status(&hook, &[]).0, Some(0), "{backend}");
        set_times_back(&machine);
        let (code, text) = status(&hook, &[]);
        assert_eq!(code, Some(1), "{text}");
        assert!(
            text.starts_with("NOT OK: 1 tunnel without an IPsec policy in the kernel (2 tunnels up)"),
            "{text}"
        );
        assert!(
            text.contains("net-net (10.2.0.0/24): no IPsec policy in the kernel"),
            "{text}"
        );
        assert!(text.contains("  fix: pluto-updown prune\n"), "{text}");
        let document = json(&hook);
        assert_eq!(document["tunnels"][0]["policy_present"], false);
        assert_eq!(document["tunnels"][1]["policy_present"], true);
        policies(&machine, &gone);
        assert_eq!(status(&hook, &[]).0, Some(0), "{backend}");
    }
}

/// What the kernel has goes on being used: until each connection is initiated again, its packets meet no rule.
#[test]
#[ignore = "needs root and iptables: run by contrib/test"]
fn tunnels_that_a_flush_took_the_rules_of_are_shown_and_get_them_back() {
    for backend in VARIANTS {
        let machine = Namespace::new(backend);
        let hook = machine.hook();
        let empty = machine.listing();
        let (up, gone) = (strongswan_up(), strongswan_up().of_tunnel(9).with("PLUTO_REQID", "77"));
        hook.expect_success(&up);
        policies(&machine, &up);
        let stands = machine.listing();
        hook.expect_success(&gone);
        let ending = hook.operate(&["flush", "--yes"]);
        let words = "2 tunnels up lost all rules; pluto-updown start reinstalls those of 1\n";
        assert!(ending.out_text().contains(words), "{}", ending.out_text());
        assert_eq!(machine.listing(), empty);
        let (code, text) = status(&hook, &[]);
        assert_eq!(code, Some(1), "{text}");
        assert!(
            text.starts_with("NOT OK: 1 tunnel up without rules (1 tunnel up)"),
            "{text}"
        );
        assert!(text.contains("net-net (10.2.0.0/24): up without rules for "), "{text}");
        assert!(
            text.contains(": flush removed its rules\n  fix: pluto-updown start\n"),
            "{text}"
        );
        let text = hook.operate(&["restore"]).out_text();
        assert!(
            text.contains("needs you: net-net (10.2.0.0/24) is up without rules"),
            "{text}"
        );
        // A second flush forgets no tunnel either.
        hook.operate(&["flush", "--yes"]);
        assert_eq!(hook.operate(&["start"]).code, Some(0));
        assert_eq!(machine.listing(), stands, "{backend}");
        assert_eq!(status(&hook, &[]).0, Some(0));
        // Its `down` comes as if nothing had been.
        hook.operate(&["flush", "--yes"]);
        hook.expect_success(&up.opposite());
        machine.assert_as_before(&empty);
    }
}

/// `prune` keeps what the kernel has a policy of, so it is no fix for that.
#[test]
#[ignore = "needs root and iptables: run by contrib/test"]
fn a_tunnel_of_a_daemon_that_has_exited_has_a_fix_that_helps() {
    let machine = Namespace::new(Backend::Nft);
    let hook = machine.hook();
    let up = strongswan_up();
    let mut daemon = Daemon::start(&machine, "charon");
    daemon.calls(&up);
    policies(&machine, &up);
    daemon.dies();
    let document = json(&hook);
    assert_eq!(kinds(&document, "error"), ["stale"]);
    assert_eq!(document["problems"][0]["fix_command"], Value::Null);
    let fix = document["problems"][0]["fix"].as_str().expect("a fix");
    assert!(fix.starts_with("start the IKE daemon again"), "{fix}");
    machine.shell("ip xfrm policy flush");
    let document = json(&hook);
    assert_eq!(document["problems"][0]["fix_command"], "pluto-updown prune");
    policies(&machine, &up);
    let text = hook.operate(&["flush", "--yes"]).out_text();
    assert!(!text.contains("start reinstalls"), "{text}");
}

#[test]
#[ignore = "needs root and iptables: run by contrib/test"]
fn sas_of_which_no_tunnel_is_recorded_are_noted() {
    let machine = Namespace::new(Backend::Nft);
    let hook = machine.hook();
    machine
        .shell("ip xfrm state allocspi src 192.0.2.1 dst 192.0.2.2 proto esp reqid 1 mode tunnel min 0x100 max 0x1ff");
    let (code, text) = status(&hook, &[]);
    assert_eq!(code, Some(0), "{text}");
    assert!(
        text.starts_with("OK: no tunnel recorded, but IPsec SAs in the kernel"),
        "{text}"
    );
    assert!(
        text.contains("\nnote: the kernel has 1 IPsec SA, but no tunnel is recorded"),
        "{text}"
    );
    assert_eq!(kinds(&json(&hook), "note"), ["no-record"]);
    let text = hook.operate(&["restore"]).out_text();
    assert!(text.starts_with("needs you: the kernel has 1 IPsec SA"), "{text}");
    // Where a tunnel is recorded, others may be none of ours.
    hook.expect_success(&strongswan_up());
    let text = status(&hook, &[]).1;
    assert!(!text.contains("IPsec SA"), "{text}");
}

#[test]
#[ignore = "needs root and iptables: run by contrib/test"]
fn a_chain_that_an_administrators_rule_keeps_is_named_with_the_rule() {
    for backend in VARIANTS {
        let machine = Namespace::new(backend);
        let hook = machine.hook();
        hook.expect_success(&strongswan_up());
        machine.tables(Family::Ipv4, &["-A", "FORWARD", "-i", "eth7", "-j", "PLUTO-ONWARD"]);
        hook.expect_success(&strongswan_up().opposite());
        let (code, text) = status(&hook, &[]);
        assert_eq!(code, Some(0), "{text}");
        let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
        for part in [
            "note: ",
            "filter: leftover chain PLUTO-ONWARD (empty, no tunnel uses it): your rule in FORWARD jumps to it: -i eth7 -j PLUTO-ONWARD",
            "fix: delete that rule of FORWARD, then: pluto-updown restore",
        ] {
            assert!(words.contains(part), "{backend}: {text}");
        }
        let text = hook.operate(&["restore"]).out_text();
        assert!(text.starts_with("needs you: "), "{text}");
        machine.tables(Family::Ipv4, &["-D", "FORWARD", "-i", "eth7", "-j", "PLUTO-ONWARD"]);
        hook.operate(&["restore"]);
        let text = status(&hook, &[]).1;
        assert_eq!(text.lines().count(), 1, "{text}");
    }
}

/// Whoever asks at the moment at which a tunnel comes or goes is not alarmed.
#[test]
#[ignore = "needs root and iptables: run by contrib/test"]
fn no_look_takes_a_call_that_runs_for_a_fault() {
    const CALLS: usize = 40;
    for backend in VARIANTS {
        let machine = Namespace::new(backend);
        machine.settings("[tunnel]\nnat = \"exempt\"\n");
        let hook = machine.hook();
        hook.expect_success(&strongswan_up());
        let calling = machine.hook();
        let calls = std::thread::spawn(move || {
            for _ in 0..CALLS {
                let up = strongswan_up().of_tunnel(9).with("PLUTO_REQID", "77");
                calling.expect_success(&up);
                calling.expect_success(&up.opposite());
            }
        });
        while !calls.is_finished() {
            let (code, text) = status(&hook, &["--nagios"]);
            assert_eq!(code, Some(0), "{backend}: {text}");
            assert_eq!(hook.operate(&["explain"]).code, Some(0));
        }
        calls.join().expect("the calls");
    }
}

#[test]
#[ignore = "needs root and iptables: run by contrib/test"]
fn settings_with_an_error_are_not_ok_and_those_that_are_not_applied_are_noted() {
    let machine = Namespace::new(Backend::Nft);
    machine.settings("[[connection]]\nname = \"net-net\"\nallow = [\"tcp/22\"]\n");
    let hook = machine.hook();
    hook.expect_success(&strongswan_up());
    let (code, text) = status(&hook, &[]);
    assert_eq!(code, Some(0), "{text}");
    assert!(
        text.starts_with("OK: 1 tunnel up, all rules loaded, settings applied"),
        "{text}"
    );
    assert!(text.lines().nth(2).expect("a tunnel").ends_with(" 22"), "{text}");
    machine
        .settings("[[connection]]\nname = \"net-net\"\nallow = [\"tcp/22\", \"tcp/443\"]\n[gateway]\nike = \"any\"\n");
    let before = machine.everything();
    let (code, text) = status(&hook, &[]);
    assert_eq!(code, Some(0), "{text}");
    assert!(
        text.starts_with("OK: 1 tunnel up, all rules loaded, settings not applied"),
        "{text}"
    );
    assert!(text.contains("    1 tunnel: allow +tcp/443\n"), "{text}");
    assert!(
        text.contains("    gateway rules: to install\n") && text.contains("  fix: pluto-updown start\n"),
        "{text}"
    );
    let document = json(&hook);
    assert_eq!(
        (&document["ok"], &document["settings"]["applied"]),
        (&true.into(), &false.into())
    );
    assert_eq!(kinds(&document, "note"), ["unapplied"; 2]);
    machine.settings("[tunnel]\nalow = \"all\"\n");
    let (code, text) = status(&hook, &[]);
    assert_eq!(code, Some(1), "{text}");
    assert!(
        text.starts_with("NOT OK: the settings file has an error (1 tunnel up)") && text.contains("tunnel.alow"),
        "{text}"
    );
    let document = json(&hook);
    assert_eq!(kinds(&document, "error"), ["settings"]);
    assert_eq!(
        (&document["settings"]["ok"], &document["settings"]["applied"]),
        (&false.into(), &Value::Null)
    );
    assert_eq!(machine.everything(), before, "it only looks");
}

#[test]
#[ignore = "needs root and iptables: run by contrib/test"]
fn a_wrong_state_directory_is_named_and_nobody_is_asked_to_delete_all_rules() {
    for backend in VARIANTS {
        let machine = Namespace::new(backend);
        machine.hook().expect_success(&libreswan_up());
        let elsewhere = Hook::new()
            .through(machine.entry())
            .option("--state-dir", machine.path("elsewhere"))
            .option("--programs", machine.programs());
        let (code, text) = status(&elsewhere, &[]);
        assert_eq!(code, Some(1), "{text}");
        assert!(text.starts_with("NOT OK: nothing is recorded (0 tunnels up)"), "{text}");
        let folder = machine.path("elsewhere").display().to_string();
        let text = text.replace('\n', " ");
        for words in [
            "chains of pluto-updown are loaded",
            &folder,
            "wrong --state-dir, or a saved rule set was loaded",
        ] {
            assert!(text.contains(words), "{text}");
        }
        let document = json(&elsewhere);
        assert_eq!(kinds(&document, "error"), ["no-record"]);
        assert_eq!(document["problems"][0]["fix_command"], Value::Null);
    }
}

#[test]
#[ignore = "needs root, iptables and setpriv: run by contrib/test"]
fn without_root_status_and_check_are_one_line_and_end_with_3() {
    let machine = Namespace::new(Backend::Nft);
    machine.hook().expect_success(&libreswan_up());
    machine.shell(&format!("chmod 755 {}", machine.folder().display()));
    let setpriv = tool("setpriv").display().to_string();
    let nobody = machine.started_by(&[&setpriv, "--reuid=65534", "--regid=65534", "--clear-groups"]);
    // Where the test's program may be a folder that is only root's.
    let program = machine.path("program");
    fs::copy(crate::support::binary::PROGRAM, &program).expect("a copy of the program");
    let nobody = nobody.program(program);
    for words in [&["status"][..], &["status", "--json"], &["check"]] {
        let ending = nobody.operate(words);
        let text = ending.err_text();
        assert_eq!(
            (ending.code, ending.out_text().as_str()),
            (Some(3), ""),
            "{words:?}: {text}"
        );
        assert!(
            text.lines().count() == 1 && text.contains("must be run as root"),
            "{words:?}: {text}"
        );
    }
}

/// Road warriors, branches with IPv6, and one with much to allow.
fn bring_up_many(machine: &Namespace) {
    machine.settings(
        "[[connection]]\nname = \"road-*\"\nallow = [\"tcp/22\", \"tcp/993\", \"ping\"]\n[[connection]]\n\
         name = \"branch-zurich\"\nwhen-down = \"block\"\n",
    );
    let hook = machine.hook();
    for number in (1..=30).rev() {
        let up = strongswan_up()
            .with("PLUTO_CONNECTION", "road-warriors")
            .with("PLUTO_PEER_CLIENT", format!("10.9.0.{number}/32"))
            .with("PLUTO_PEER_ID", format!("user{number}@example.test"))
            .with("PLUTO_XAUTH_ID", format!("user{number}"))
            .with("PLUTO_PEER", format!("198.51.100.{number}"))
            .with("PLUTO_REQID", number.to_string());
        hook.expect_success(&up);
    }
    for number in 1..=3 {
        let up = strongswan_up()
            .with_verb("up-client-v6")
            .with("PLUTO_CONNECTION", format!("branch-{number}"))
            .with("PLUTO_MY_CLIENT", "2001:db8:1::/64")
            .with(
                "PLUTO_PEER_CLIENT",
                format!("2001:db8:aaaa:bbbb:cccc:dddd:eeee:123{number}/128"),
            );
        hook.expect_success(&up.with("PLUTO_REQID", (100 + number).to_string()));
    }
    let zurich = strongswan_up()
        .with("PLUTO_CONNECTION", "branch-zurich")
        .with("PLUTO_PEER_CLIENT", "10.20.1.0/24");
    hook.expect_success(
        &zurich
            .with("PLUTO_PEER_ID", "@zurich.branch.example.test")
            .with("PLUTO_REQID", "200"),
    );
}

#[test]
#[ignore = "needs root and iptables: run by contrib/test"]
fn many_tunnels_are_a_line_each_in_order_and_found_by_name_user_and_address() {
    let machine = Namespace::new(Backend::Nft);
    bring_up_many(&machine);
    let hook = machine.hook();
    let (code, text) = status(&hook, &[]);
    assert_eq!(code, Some(0), "{text}");
    let lines: Vec<_> = text.lines().collect();
    assert!(
        lines[0].starts_with("OK: 34 tunnels up, all rules loaded, settings applied"),
        "{text}"
    );
    assert!(lines.iter().all(|line| line.len() <= 80), "{text}");
    assert_eq!(
        lines[0][..20],
        lines[lines.len() - 1][..20],
        "the verdict is first and last: {text}"
    );
    let roads: Vec<_> = lines.iter().filter(|line| line.starts_with("road-warriors")).collect();
    assert_eq!(roads.len(), 30, "{text}");
    assert!(
        roads[0].contains(" user1 ") && roads[0].ends_with(" 22,993,ping"),
        "{text}"
    );
    // By user, numbers as numbers; and with equal users by networks as numbers.
    assert!(roads[1].contains(" user2 "), "{text}");
    for number in 1..=3 {
        assert!(
            text.contains(&format!("2001:db8:aaaa:bbbb:cccc:dddd:eeee:123{number}\n")),
            "{text}"
        );
    }
    assert!(
        text.contains("blocked unencrypted: 10.1.0.0/24 <-> 10.20.1.0/24 (branch-zurich), for "),
        "{text}"
    );
    for (name, rows) in [
        ("road-warriors", 30),
        ("user7", 1),
        ("10.9.0.7", 1),
        ("198.51.100.7", 1),
        ("10.20.1.99", 1),
        ("10.20.1.0/24", 1),
        ("2001:db8:aaaa:bbbb:cccc:dddd:eeee:1232", 1),
        ("nobody", 0),
    ] {
        let (code, text) = status(&hook, &[name]);
        assert_eq!(code, Some(i32::from(rows == 0)), "{name}: {text}");
        let document: Value = serde_json::from_str(&status(&hook, &["--json", name]).1).expect("JSON");
        assert_eq!(document["tunnels"].as_array().expect("tunnels").len(), rows, "{name}");
        // One is shown whole.
        assert_eq!(text.contains("    networks  "), rows == 1, "{name}: {text}");
    }
    let (_, text) = status(&hook, &["--users"]);
    assert_eq!(
        text.lines().filter(|line| line.starts_with("user")).count(),
        30,
        "{text}"
    );
    assert!(
        text.lines()
            .any(|line| line.starts_with("user7 ") && line.contains(" 198.51.100.7 ")),
        "{text}"
    );
}

#[test]
#[ignore = "needs root and iptables: run by contrib/test"]
fn many_problems_are_few_lines() {
    let machine = Namespace::new(Backend::Nft);
    bring_up_many(&machine);
    machine.tables(Family::Ipv4, &["-F"]);
    let (code, text) = status(&machine.hook(), &[]);
    assert_eq!(code, Some(1));
    let lines: Vec<_> = text.lines().collect();
    let fix = lines
        .iter()
        .position(|line| *line == "  fix: pluto-updown restore")
        .expect("a fix");
    assert!(fix < 20, "{text}");
    assert!(
        text.contains(" missing rules\n") && text.contains(" more (-v)\n"),
        "{text}"
    );
    let (_, whole) = status(&machine.hook(), &["-v"]);
    assert!(
        whole.matches(" -- fix: pluto-updown restore\n").count() > 100,
        "{whole}"
    );
    let ending = machine.hook().operate(&["restore"]);
    assert!(ending.out_text().lines().count() < 5, "{}", ending.out_text());
    assert!(
        ending.out_text().contains(" (nft-ipv4 filter)\n"),
        "{}",
        ending.out_text()
    );
}

#[test]
#[ignore = "needs root and iptables: run by contrib/test"]
fn monitoring_systems_get_what_they_read() {
    let machine = Namespace::new(Backend::Nft);
    machine.settings("");
    let hook = machine.hook();
    hook.expect_success(&strongswan_up());
    let (code, text) = status(&hook, &["--nagios"]);
    let line = "PLUTO-UPDOWN OK - 1 tunnel up, all rules loaded, settings applied | tunnels=1;;;0 problems=0;;;0 \
                received=0c sent=0c blocked=0;;;0\n";
    assert_eq!((code, text.as_str()), (Some(0), line));
    assert_eq!(status(&hook, &["--expect", "net-net"]).0, Some(0));
    let (code, text) = status(&hook, &["--expect", "net-net", "--expect", "branch"]);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("expected tunnel branch is not up\n"), "{text}");
    let (code, text) = status(&hook, &["--nagios", "--expect", "branch"]);
    assert_eq!(code, Some(2), "{text}");
    assert!(
        text.starts_with(
            "PLUTO-UPDOWN CRITICAL - 1 tunnel asked for not up (1 tunnel up): expected tunnel branch is not up | "
        ),
        "{text}"
    );
    let (code, text) = status(&hook, &["--prometheus"]);
    assert_eq!(code, Some(0));
    assert!(
        text.contains("\npluto_updown_ok 1\n") && text.contains("\npluto_updown_tunnels 1\n"),
        "{text}"
    );
    assert!(
        text.contains("\npluto_updown_tunnel_receive_bytes_total{id=\"net-net-"),
        "{text}"
    );
    machine.tables(Family::Ipv4, &["-F"]);
    let (code, text) = status(&hook, &["--prometheus"]);
    assert!(code == Some(1) && text.contains("\npluto_updown_ok 0\n"), "{text}");
}

/// What docs/status.md shows for jq gives what it says.
#[test]
#[ignore = "needs root, iptables and jq: run by contrib/test"]
fn the_lines_for_jq_in_the_documentation_work() {
    const PAGE: &str = include_str!("../../../docs/status.md");
    let machine = Namespace::new(Backend::Nft);
    bring_up_many(&machine);
    machine.tables(Family::Ipv4, &["-D", "FORWARD", "-j", "PLUTO-FORWARD"]);
    let settings = fs::read_to_string(machine.config()).expect("the settings");
    machine.settings("[tunnel]\nallow = \"everything\"\n");
    let up = strongswan_up().of_tunnel(99);
    machine.hook().call(&up).assert_refused(2, &["allow"]);
    machine.settings(&settings);
    let (_, text) = status(&machine.hook(), &["--json"]);
    fs::write(machine.path("status.json"), &text).expect("a file");
    let lines: Vec<_> = PAGE
        .lines()
        .filter_map(|line| line.strip_prefix("    pluto-updown status --json | "))
        .collect();
    assert!(lines.len() >= 5, "{lines:?}");
    for line in lines {
        let said = machine.shell(&format!("<{} {line} || true", machine.path("status.json").display()));
        assert!(!said.trim().is_empty() && !said.contains("null"), "{line}: {said}");
    }
}
