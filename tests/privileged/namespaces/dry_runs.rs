//! `--dry-run` of every command: it changes no rule, no route, no name server and no record.

use std::fs;

use pluto_updown::cli::command_line;
use pluto_updown::net::Family;
use pluto_updown::netfilter::Backend;

use super::routes::Router;
use crate::support::binary::{Call, Hook};
use crate::support::captures::{find_call, libreswan_up};
use crate::support::namespace::{Namespace, VARIANTS};

const BEFORE: &str = "[gateway]\nike = \"any\"\nesp = \"any\"\n[[connection]]\nname = \"net-net\"\nallow = \"replies\"\nwhen-down = \"block\"\n\
    between = [[\"10.1.0.0/24\", \"10.2.0.0/24\"]]\n";

/// Other settings, so that `start` has something to change: rules, and where they stand.
const AFTER: &str = "[gateway]\nike = \"any\"\nplace = \"last\"\nicmp = \"safe\"\n";

/// What each command is given. A command that is not named here fails the test.
fn words(command: &str) -> &'static [&'static [&'static str]] {
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
            gateway.hook().must(&up().saying(verb));
        }
        gateway.hook().must(&find_call("libreswan-4.10", "rw", "up-client"));
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
            for words in words(&name) {
                let mut words: Vec<_> = words
                    .iter()
                    .map(|word| if *word == "FILE" { file.as_str() } else { word })
                    .collect();
                words.push("--dry-run");
                let ending = gateway.hook().operate(&words);
                gateway.assert_unchanged(&before, &format!("{backend}: {words:?}"));
                assert_ne!(ending.code, Some(2), "{backend}: {words:?}: {}", ending.err_text());
            }
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
                let ending = gateway.hook().word("--dry-run").call(&call.saying(verb));
                assert_eq!(ending.code, Some(0), "{backend}: {verb}: {}", ending.err_text());
                gateway.assert_unchanged(&before, &format!("{backend}: {verb}"));
            }
        }
    }
}

#[test]
#[ignore = "needs root and iptables: run by contrib/test"]
fn what_stop_and_unblock_would_do_is_shown() {
    let gateway = Gateway::new(Backend::Nft);
    for (words, shown) in [
        (&["stop"][..], "# stop: would change nft-ipv4:\n*filter\n"),
        (&["unblock", "--all"], "# unblock: would change nft-ipv4:\n*filter\n"),
        (&["unblock", "net-net"], "# unblock: would change nft-ipv4:\n*filter\n"),
        (&["unblock", "nobody"], "# nothing to change\n"),
    ] {
        let ending = gateway.hook().word("--dry-run").operate(words);
        assert!(ending.out_text().starts_with(shown), "{words:?}: {}", ending.out_text());
    }
}
