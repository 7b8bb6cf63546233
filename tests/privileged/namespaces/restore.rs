//! What a reload of a firewall has removed is reinstalled from the record.

use pluto_updown::net::Family;
use pluto_updown::netfilter::Backend;

use crate::support::binary::Call;
use crate::support::captures::{kinds_of_ups, libreswan_up, strongswan_up};
use crate::support::namespace::{Namespace, VARIANTS, order_independent, the_administrators};

const NOTHING: &str = "nothing to restore, all rules are loaded\n";

/// Tunnels of both families and of each kind, two in one block.
fn six_ups() -> Vec<Call> {
    let plain = [
        strongswan_up().with("PLUTO_CONNECTION", "first"),
        libreswan_up(),
        libreswan_up().of_tunnel(3),
    ];
    [&plain[..], &kinds_of_ups()].concat()
}

fn machine_with_tunnels(backend: Backend) -> Namespace {
    let machine = Namespace::new(backend);
    machine.call_all(&six_ups());
    machine
}

/// Every table of both families, without the order that has no meaning.
fn everything(machine: &Namespace) -> Vec<String> {
    machine
        .everything()
        .iter()
        .map(|text| order_independent(text))
        .collect()
}

fn restore(machine: &Namespace, words: &[&str]) -> String {
    machine.done(&[&["restore"], words].concat())
}

/// What administrators and other programs do: in words, and as commands of `iptables` for both families.
const WAYS: [(&str, &[&str]); 9] = [
    ("flushed", &["-F"]),
    ("flushed and chains removed", &["-F", ";", "-X"]),
    ("FORWARD flushed", &["-F", "FORWARD"]),
    ("nat flushed", &["-t nat -F"]),
    ("a jump taken out", &["-D FORWARD -j PLUTO-FORWARD"]),
    ("a jump twice", &["-A INPUT -j PLUTO-INPUT"]),
    ("a rule first", &["-I INPUT -p icmp -j DROP"]),
    ("a foreign rule", &["-I PLUTO-ONWARD -j DROP"]),
    ("a foreign chain", &["-N PLUTO-mine", ";", "-A PLUTO-mine -j ACCEPT"]),
];

fn run_commands(machine: &Namespace, commands: &[&str]) {
    for command in commands.join(" ").split(';') {
        for family in Family::ALL {
            let words: Vec<_> = command.split_ascii_whitespace().collect();
            machine.tables(family, &words);
        }
    }
}

#[test]
#[ignore = "needs root and iptables: run by contrib/test"]
fn whatever_somebody_did_is_repaired_and_a_second_time_nothing_is() {
    for backend in VARIANTS {
        let expected = everything(&machine_with_tunnels(backend));
        for (how, commands) in WAYS {
            let machine = machine_with_tunnels(backend);
            let what = format!("{backend}, {how}");
            assert_eq!(restore(&machine, &[]), NOTHING, "{what}");
            run_commands(&machine, commands);
            let admin_rules: Vec<_> = everything(&machine)
                .iter()
                .map(|text| the_administrators(text))
                .collect();
            let spoilt = everything(&machine);
            let shown = restore(&machine, &["--dry-run", "-v"]);
            assert!(
                shown.contains("# restore: would change the ") && shown.contains("\nCOMMIT\n"),
                "{what}: {shown}"
            );
            assert_eq!(everything(&machine), spoilt, "{what}");
            let output = restore(&machine, &[]);
            assert!(output.contains(&format!(" ({backend}-ipv4 ")), "{what}: {output}");
            let repaired = everything(&machine);
            // Of shared parts that do not depend on one another the order tells which came first.
            let own_rules_of = |texts: &[String]| {
                let lines = texts
                    .iter()
                    .flat_map(|text| text.lines())
                    .filter(|line| line.contains("PLUTO-"));
                let mut lines: Vec<_> = lines.map(str::to_owned).collect();
                lines.sort();
                lines
            };
            assert_eq!(own_rules_of(&repaired), own_rules_of(&expected), "{what}");
            let now: Vec<_> = repaired.iter().map(|text| the_administrators(text)).collect();
            assert_eq!(now, admin_rules, "{what}");
            assert_eq!(restore(&machine, &[]), NOTHING, "{what}");
            machine.down_all(&six_ups());
            assert!(!machine.state().exists(), "{what}");
        }
    }
}

/// The listing with counters, of which each has something to count.
fn count(machine: &Namespace, family: Family) -> String {
    let listing = machine.save(family, &["-c", "-t", "filter"]);
    machine.load(family, &["--counters"], &listing.replace("\n[0:0] -A", "\n[7:777] -A"));
    machine.save(family, &["-c", "-t", "filter"])
}

#[test]
#[ignore = "needs root and iptables: run by contrib/test"]
fn installed_rules_keep_counting() {
    for backend in VARIANTS {
        let machine = machine_with_tunnels(backend);
        let before = count(&machine, Family::Ipv4);
        let block = before
            .lines()
            .find(|line| line.contains("-A PLUTO-FI-") && line.contains("-j PLUTO-first-"))
            .expect("a rule of the first tunnel");
        let rule = block.split_once("-A ").expect("a rule").1;
        machine.tables(Family::Ipv4, &[&["-D"], &*rule.split(' ').collect::<Vec<_>>()].concat());
        let said = restore(&machine, &["--verbose"]);
        assert!(
            said.starts_with(&format!("restored 1 rule ({backend}-ipv4 filter)\n")),
            "{said}"
        );
        assert!(
            said.contains(&format!("    {backend}-ipv4 filter: missing rule in PLUTO-FI-")),
            "{said}"
        );
        let after = machine.save(Family::Ipv4, &["-c", "-t", "filter"]);
        let sorted = |text: &str| {
            let mut lines: Vec<_> = text
                .lines()
                .filter(|line| line.contains("-A "))
                .map(str::to_owned)
                .collect();
            lines.sort();
            lines
        };
        let expected = before.replace(block, &block.replace("[7:777]", "[0:0]"));
        assert_eq!(sorted(&after), sorted(&expected), "{backend}");
    }
}

/// The restore of a reload runs while a daemon calls.
#[test]
#[ignore = "needs root and iptables: run by contrib/test"]
fn beside_calls_and_reloads_nothing_is_lost() {
    for backend in VARIANTS {
        let machine = Namespace::new(backend);
        let numbers = 3..15;
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    for _ in 0..8 {
                        // That somebody reloads right between listing and change may be reported.
                        machine.hook().operate(&["restore"]);
                    }
                });
            }
            scope.spawn(|| (0..6).for_each(|_| machine.reload(Family::Ipv4)));
            for number in numbers.clone() {
                let machine = &machine;
                scope.spawn(move || machine.hook().expect_success(&libreswan_up().of_tunnel(number)));
            }
        });
        restore(&machine, &[]);
        let calm = Namespace::new(backend);
        numbers.for_each(|number| calm.hook().expect_success(&libreswan_up().of_tunnel(number)));
        assert_eq!(
            order_independent(&machine.saved(Family::Ipv4)),
            order_independent(&calm.saved(Family::Ipv4)),
            "{backend}"
        );
        assert_eq!(restore(&machine, &[]), NOTHING);
    }
}

#[test]
#[ignore = "needs root and iptables: run by contrib/test"]
fn without_any_record_what_is_left_of_ours_goes() {
    for backend in VARIANTS {
        let machine = Namespace::new(backend);
        let before = machine.listing();
        assert_eq!(restore(&machine, &[]), NOTHING);
        machine.hook().expect_success(&libreswan_up());
        let saved = machine.save(Family::Ipv4, &[]);
        machine.hook().expect_success(&libreswan_up().opposite());
        machine.load(Family::Ipv4, &[], &saved);
        let output = restore(&machine, &["-v"]);
        assert!(
            output.contains("leftover chain PLUTO-I (no tunnel uses it)"),
            "{output}"
        );
        machine.assert_as_before(&before);
    }
}

/// `place = "own"`: where our chains are called from is the administrator's business, and he may have a condition there.
#[test]
#[ignore = "needs root and iptables: run by contrib/test"]
fn a_jump_of_the_administrators_own_is_asked_for_and_never_touched() {
    for backend in VARIANTS {
        let machine = Namespace::new(backend);
        std::fs::write(machine.path("settings"), "[gateway]\nplace = \"own\"\n").expect("writing the settings");
        let hook = || machine.hook().option("--config", machine.path("settings"));
        let run = |words: &[&str]| {
            let ending = hook().operate(words);
            assert_eq!(ending.err_text(), "");
            (ending.code, ending.out_text())
        };
        hook().expect_success(&strongswan_up());
        let (code, text) = run(&["status"]);
        assert_eq!(code, Some(1), "{text}");
        for chain in ["INPUT", "FORWARD", "OUTPUT"] {
            let line = format!("filter: missing: your jump to PLUTO-{chain} (place = \"own\")");
            assert!(text.contains(&line), "{text}");
        }
        assert!(run(&["restore"]).1.contains("needs you: "), "{backend}");
        for (chain, condition) in [
            ("INPUT", ["-i", "eth0"]),
            ("FORWARD", ["-i", "eth0"]),
            ("OUTPUT", ["-o", "eth0"]),
        ] {
            let jump = format!("PLUTO-{chain}");
            machine.tables(Family::Ipv4, &[&["-A", chain], &condition[..], &["-j", &jump]].concat());
        }
        machine.tables(Family::Ipv4, &["-A", "FORWARD", "-j", "PLUTO-FORWARD"]);
        let before = machine.listing();
        assert_eq!(run(&["status"]).0, Some(0), "{backend}");
        assert_eq!(run(&["restore"]), (Some(0), NOTHING.to_owned()), "{backend}");
        assert_eq!(machine.listing(), before, "{backend}");
        let (code, text) = run(&["flush", "--yes"]);
        assert_eq!(
            (code, text.matches("kept: your rule in ").count()),
            (Some(1), 4),
            "{text}"
        );
        assert_eq!(
            the_administrators(&machine.listing()[0]),
            the_administrators(&before[0]),
            "{backend}"
        );
        assert_eq!(run(&["flush", "--yes", "--force"]).0, Some(0));
        assert!(!machine.listing()[0].contains("PLUTO-I"), "{backend}");
    }
}

/// `place = "own"`, with the jumps in a chain that no packet comes to.
#[test]
#[ignore = "needs root and iptables: run by contrib/test"]
fn a_jump_in_a_chain_that_nothing_leads_to_is_found_by_start_status_and_check() {
    for backend in VARIANTS {
        let machine = Namespace::new(backend);
        let settings = "[gateway]\nplace = \"own\"\n[tunnel]\nallow = \"none\"\n";
        std::fs::write(machine.path("settings"), settings).expect("writing the settings");
        let run = |words: &[&str]| {
            machine
                .hook()
                .option("--config", machine.path("settings"))
                .operate(words)
        };
        machine
            .hook()
            .option("--config", machine.path("settings"))
            .expect_success(&strongswan_up());
        machine.tables(Family::Ipv4, &["-N", "OLD"]);
        for chain in ["INPUT", "FORWARD", "OUTPUT"] {
            machine.tables(Family::Ipv4, &["-A", "OLD", "-j", &format!("PLUTO-{chain}")]);
        }
        let (start, status, check) = (run(&["start"]), run(&["status"]), run(&["check"]));
        assert_eq!((start.code, status.code, check.code), (Some(0), Some(1), Some(1)));
        for chain in ["INPUT", "FORWARD", "OUTPUT"] {
            let line =
                format!("missing: your jump to PLUTO-{chain} (place = \"own\"): nothing leads to your chain OLD");
            for text in [start.err_text(), status.out_text(), check.out_text()] {
                let words: Vec<_> = text.split_whitespace().collect();
                assert!(words.join(" ").contains(&line), "{backend}: {text}");
            }
        }
        for family in Family::ALL {
            for chain in ["INPUT", "FORWARD", "OUTPUT"] {
                machine.tables(family, &["-I", chain, "-j", &format!("PLUTO-{chain}")]);
            }
        }
        let (start, status) = (run(&["start"]), run(&["status"]));
        assert_eq!(
            (start.err_text().as_str(), status.code),
            ("", Some(0)),
            "{backend}: {}",
            status.out_text()
        );
    }
}

/// The same, whatever order tunnels have in their bucket and chains were made in.
fn sorted(machine: &Namespace) -> Vec<Vec<String>> {
    let lines = |table: &String| {
        let mut lines: Vec<_> = table.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    everything(machine).iter().map(lines).collect()
}

#[test]
#[ignore = "needs root and iptables: run by contrib/test"]
fn many_tunnels_are_restored_to_the_last_rule_by_a_restore_and_by_a_call() {
    for backend in VARIANTS {
        let machine = Namespace::bare(backend);
        for number in 1..=260 {
            let remote = format!("10.{}.{}.0/24", 100 + number / 64, number % 64);
            let up = strongswan_up().with("PLUTO_CONNECTION", format!("branch-{number}"));
            let up = up.with("PLUTO_PEER_CLIENT", remote);
            machine
                .hook()
                .expect_success(&up.with("PLUTO_REQID", number.to_string()));
        }
        let before = sorted(&machine);
        run_commands(&machine, &["-F", ";", "-X"]);
        let output = restore(&machine, &[]);
        assert!(output.contains("restored 542 chains"), "{output}");
        assert_eq!(sorted(&machine), before, "{backend}");
        assert_eq!(restore(&machine, &[]), NOTHING);

        // A call that finds something missing repairs that, and nothing else.
        for damage in [&["-F", "FORWARD"][..], &["-F"]] {
            machine.tables(Family::Ipv4, damage);
            let late = libreswan_up();
            machine.hook().expect_success(&late);
            machine.hook().expect_success(&late.opposite());
            assert_eq!(sorted(&machine), before, "{backend}: {damage:?}");
        }
    }
}
