//! `--dry-run` of every command: it changes no rule, no route, no name server and no record.

use std::fs;

use pluto_updown::cli::command_line;
use pluto_updown::net::Family;
use pluto_updown::netfilter::Backend;

use super::routes::Router;
use crate::support::binary::{Call, Hook};
use crate::support::captures::{find_call, libreswan_up};
use crate::support::namespace::{Namespace, VARIANTS, prefix, tool};

const BEFORE: &str = "[gateway]\nike = \"any\"\nesp = \"any\"\n[[connection]]\nname = \"net-net\"\nallow = \"replies\"\nwhen-down = \"block\"\n\
    between = [[\"10.1.0.0/24\", \"10.2.0.0/24\"]]\n";

/// Other settings, so that `start` has something to change: rules, and where they stand.
const AFTER: &str = "[gateway]\nike = \"any\"\nplace = \"last\"\nicmp = \"safe\"\n";

/// What each command is given. A command that is not named here fails the test.
fn arguments_of_command(command: &str) -> &'static [&'static [&'static str]] {
    match command {
        "start" => &[&["start"], &["start", "--boot"]],
        "stop" => &[&["stop"]],
        "unblock" => &[
            &["unblock", "--all"],
            &["unblock", "net-net"],
            &["unblock", "10.2.0.0/24"],
        ],
        "check" => &[&["check"]],
        "flush" => &[&["flush"], &["flush", "--force"]],
        "explain" => &[
            &["explain", "net-net"],
            &["explain", "--packet", "10.2.0.9", "10.1.0.5"],
        ],
        "prune" => &[&["prune"]],
        "restore" => &[&["restore"]],
        "status" => &[&["status"], &["status", "--json"]],
        "replay" => &[&["replay", "FILE"]],
        other => panic!("{other}: what is it given to be tried with --dry-run?"),
    }
}

/// A gateway with rules of every kind, routes and a peer's name servers; with drift to repair, a tunnel that has no policy, and settings
/// that are not applied yet.
struct Gateway(Namespace);

impl Gateway {
    fn new(backend: Backend) -> Self {
        let machine = Router::with(backend).machine;
        fs::create_dir_all(machine.path("root/etc")).expect("a folder");
        fs::create_dir_all(machine.path("root/var/lib")).expect("a folder");
        fs::write(machine.path("root/etc/resolv.conf"), "nameserver 192.0.2.1\n").expect("a file");
        let gateway = Self(machine);
        gateway.0.settings(BEFORE);
        assert_eq!(gateway.hook().operate(&["start"]).code, Some(0));
        for verb in ["up-client", "prepare-client", "route-client"] {
            gateway.hook().expect_success(&up().with_verb(verb));
        }
        gateway
            .hook()
            .expect_success(&find_call("libreswan-4.10", "rw", "up-client"));
        gateway.0.tables(Family::Ipv4, &["-F", "FORWARD"]);
        gateway.0.settings(AFTER);
        gateway
    }

    fn hook(&self) -> Hook {
        self.0.whole_hook(&[]).option("--root", self.0.path("root"))
    }

    /// Everything that a command may change: rules of both families, addresses and routes, files of ours and of the resolver.
    fn state(&self) -> Vec<String> {
        let mut state = self.0.everything();
        // IPv6's own addresses come late, and nothing here makes routes of IPv6.
        for words in ["-4 route show table all", "-4 -o address", "-4 rule"] {
            state.push(self.0.run(["ip"].into_iter().chain(words.split(' ')), ""));
        }
        let folders = [self.0.state(), self.0.path("root")].map(|folder| folder.display().to_string());
        state.push(self.0.shell(&format!(
            "find {} -type d -print -o -print -exec cat {{}} + | sort",
            folders.join(" ")
        )));
        state
    }

    /// Only the lines that differ are shown: the state is long.
    #[track_caller]
    fn assert_unchanged(&self, before: &[String], what: &str) {
        for (now, before) in self.state().iter().zip(before) {
            let removed: Vec<_> = before
                .lines()
                .filter(|line| !now.lines().any(|other| other == *line))
                .collect();
            let added: Vec<_> = now
                .lines()
                .filter(|line| !before.lines().any(|other| other == *line))
                .collect();
            assert!(now == before, "{what}: removed {removed:?}, added {added:?}");
        }
    }
}

fn up() -> Call {
    libreswan_up().with("PLUTO_MY_SOURCEIP", "10.1.0.1")
}

#[test]
#[ignore = "needs root and iptables: run by contrib/test"]
fn no_command_changes_anything() {
    for backend in VARIANTS {
        let gateway = Gateway::new(backend);
        let file = gateway.0.path("down.calls").display().to_string();
        fs::write(&file, up().opposite().captured()).expect("a file of calls");
        let before = gateway.state();
        for name in command_line()
            .get_subcommands()
            .map(|command| command.get_name().to_owned())
        {
            for words in arguments_of_command(&name) {
                let words: Vec<_> = words
                    .iter()
                    .map(|word| if *word == "FILE" { file.as_str() } else { word })
                    .collect();
                for extra in [&["--dry-run"][..], &["--dry-run", "-v"]] {
                    if extra.contains(&"-v") && ["check", "replay"].contains(&name.as_str()) {
                        continue;
                    }
                    let words = [&words[..], extra].concat();
                    let ending = gateway.hook().operate(&words);
                    gateway.assert_unchanged(&before, &format!("{backend}: {words:?}"));
                    assert_ne!(ending.code, Some(2), "{backend}: {words:?}: {}", ending.err_text());
                }
            }
        }
    }
}

/// The input of each `iptables-restore` in what a dry run shows.
fn shown_rules(text: &str) -> Vec<(Family, String)> {
    let mut rules: Vec<(Family, String)> = Vec::new();
    let mut is_rules = false;
    for line in text.lines() {
        match line.split_once(": would change the ") {
            Some((_, ruleset)) => {
                let family = if ruleset.contains("-ipv6 ") {
                    Family::Ipv6
                } else {
                    Family::Ipv4
                };
                rules.push((family, String::new()));
                is_rules = true;
            }
            None if line.starts_with('#') => is_rules = false,
            None if is_rules => rules.last_mut().expect("a first one").1 += &format!("{line}\n"),
            None => {}
        }
    }
    rules
}

#[test]
#[ignore = "needs root and iptables: run by contrib/test"]
fn the_rules_that_a_dry_run_shows_do_what_the_command_does() {
    for backend in VARIANTS {
        for words in [
            &["start"][..],
            &["stop"],
            &["unblock", "--all"],
            &["flush", "--yes"],
            &["restore"],
            &["prune"],
        ] {
            let [by_hand, real] = [(); 2].map(|()| Gateway::new(backend));
            for gateway in [&by_hand, &real] {
                assert_eq!(gateway.hook().operate(&["restore"]).code, Some(0));
                if words == ["restore"] {
                    gateway.0.tables(Family::Ipv4, &["-F", "FORWARD"]);
                    gateway.0.tables(Family::Ipv4, &["-F", "PLUTO-FI"]);
                }
                gateway.0.settings(&AFTER.replace("place = \"last\"\n", ""));
            }
            let summary = by_hand.hook().word("--dry-run").operate(words).out_text();
            assert!(!summary.contains("COMMIT"), "{words:?}: {summary}");
            assert!(
                summary.lines().count() > 1 && summary.lines().all(|line| line.starts_with("# ")),
                "{words:?}: {summary}"
            );
            let hint = format!("# to see the rules: pluto-updown {} --dry-run -v\n", words[0]);
            assert!(summary.ends_with(&hint), "{words:?}: {summary}");
            let shown = by_hand
                .hook()
                .word("--dry-run")
                .operate(&[words, &["-v"]].concat())
                .out_text();
            assert!(!shown_rules(&shown).is_empty(), "{words:?}: {shown}");
            for (family, text) in shown_rules(&shown) {
                let program = tool(&format!("{}-{backend}-restore", prefix(family)));
                by_hand.0.run(
                    [program.as_os_str(), "--noflush".as_ref(), "--counters".as_ref()],
                    &text,
                );
            }
            assert_eq!(real.hook().operate(words).code, Some(0), "{backend}: {words:?}");
            assert_eq!(
                by_hand.0.everything(),
                real.0.everything(),
                "{backend}: {words:?}: {shown}"
            );
        }
    }
}

#[test]
#[ignore = "needs root and iptables: run by contrib/test"]
fn no_call_changes_anything() {
    for backend in VARIANTS {
        let gateway = Gateway::new(backend);
        let before = gateway.state();
        let other = up().of_tunnel(9);
        for verb in ["up-client", "route-client", "down-client", "unroute-client"] {
            for call in [up(), other.clone(), find_call("libreswan-4.10", "rw", "up-client")] {
                let ending = gateway.hook().word("--dry-run").call(&call.with_verb(verb));
                assert_eq!(ending.code, Some(0), "{backend}: {verb}: {}", ending.err_text());
                gateway.assert_unchanged(&before, &format!("{backend}: {verb}"));
            }
        }
    }
}

#[test]
#[ignore = "needs root and iptables: run by contrib/test"]
fn what_a_command_would_do_is_summed_up() {
    let gateway = Gateway::new(Backend::Nft);
    for (words, shown) in [
        (&["stop"][..], "# gateway rules: to remove\n# to see the rules: "),
        (
            &["unblock", "--all"],
            "# would unblock 10.1.0.0/24 <-> 10.2.0.0/24 (net-net)\n# to see the rules: ",
        ),
        (
            &["unblock", "net-net", "-v"],
            "# would unblock 10.1.0.0/24 <-> 10.2.0.0/24 (net-net)\n\
             # unblock: would change the nft-ipv4 filter table:\n*filter\n",
        ),
        (&["unblock", "nobody"], "# unblock: nothing to do\n"),
        (
            &["prune"],
            "# net-net: stale, no IPsec policy in the kernel, would be removed (10.1.0.0/24 to 10.2.0.0/24, reqid 16389)\n",
        ),
        (&["restore"], "# 1 missing jump (nft-ipv4 filter)\n# to see the rules: "),
        (
            &["flush"],
            "# 0.0.0.0-0: would remove 1 route, address or interface\n# 10.2.0.0-24: would remove 2 routes, ",
        ),
    ] {
        let ending = gateway.hook().word("--dry-run").operate(words);
        assert!(ending.out_text().starts_with(shown), "{words:?}: {}", ending.out_text());
    }
}
