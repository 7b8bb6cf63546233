//! The resolver's work: `resolv.conf`, unbound, systemd-resolved and NetworkManager, which are files and scripts here.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use super::fakes::Fakes;
use crate::support::binary::{Call, Ending, write_program};
use crate::support::captures::{find_call, names};

/// Notes its arguments and what is in its environment, and answers as `resolvectl` does of an interface that has something already.
const PROGRAM: &str = r#"#!/bin/sh
{
    printf '%s' "${0##*/}"
    for word in "$@"; do printf ' [%s]' "$word"; done
    echo
    env | grep -e '^PLUTO_' -e '_reason=' | sort
} >>"${0%/*}/../told"
. "${0%/*}/../program"
case "$*" in
"dns "*) [ $# -gt 2 ] || echo "Link 3 (${2}): 192.0.2.53 fe80::1%3
                  1.1.1.1#dns.example" ;;
"domain "*) [ $# -gt 2 ] || echo "Link 3 (${2}): home.example ~." ;;
esac
"#;

const PROGRAMS: [&str; 4] = [
    "unbound-control",
    "resolvectl",
    "nm-libreswan-service-helper",
    "nm-openswan-service-helper",
];

const HOME: &str = "nameserver 192.0.2.1\nsearch home.example\n";

/// A client's machine.
struct Client {
    fakes: Fakes,
}

impl Client {
    fn new() -> Self {
        let client = Self { fakes: Fakes::new() };
        for folder in ["root/etc", "root/proc/1", "root/run/systemd/resolve"] {
            fs::create_dir_all(client.fakes.path(folder)).expect("a folder");
        }
        fs::write(client.resolv_conf(), HOME).expect("a resolv.conf");
        client.programs_do("");
        for name in PROGRAMS {
            write_program(&client.fakes.programs().join(name), PROGRAM.as_bytes());
        }
        client
    }

    fn resolv_conf(&self) -> PathBuf {
        self.fakes.path("root/etc/resolv.conf")
    }

    /// What every program does, besides noting that it was started: a line of shell.
    fn programs_do(&self, script: &str) {
        fs::write(self.fakes.path("program"), script).expect("writing the programs' script");
    }

    /// Starts or stops a name server of this machine, as far as can be seen.
    fn process_is(&self, name: &str) {
        self.process_of_is(0, 1, name);
    }

    /// Starts a process of this user's, as the only one, so many clock ticks after boot.
    fn process_of_is(&self, user: u32, started: u64, name: &str) {
        let zeros = " 0".repeat(17);
        for (file, text) in [
            ("comm", format!("{name}\n")),
            (
                "status",
                format!("Name:\t{name}\nUid:\t{user}\t{user}\t{user}\t{user}\nNSpid:\t1\n"),
            ),
            ("stat", format!("1 ({name}) S{zeros} 0 {started} 0 0\n")),
        ] {
            fs::write(self.fakes.path("root/proc/1").join(file), text).expect("a process");
        }
    }

    /// What `status` prints, and its exit code.
    fn status(&self) -> (Option<i32>, String) {
        let hook = self.fakes.hook().option("--root", self.fakes.path("root"));
        let ending = hook.operate(&["status"]);
        (ending.code, ending.out_text())
    }

    /// Lets systemd-resolved write the file, and listen.
    fn is_systemd_resolveds(&self) {
        fs::remove_file(self.resolv_conf()).expect("no file");
        let stub = "run/systemd/resolve/stub-resolv.conf";
        fs::write(self.fakes.path("root").join(stub), "nameserver 127.0.0.53\n").expect("its file");
        symlink(format!("../{stub}"), self.resolv_conf()).expect("a link to it");
        fs::write(self.fakes.path("root/run/systemd/resolve/io.systemd.Resolve"), "").expect("its socket");
    }

    fn call(&self, call: &Call) -> Ending {
        self.fakes.hook().option("--root", self.fakes.path("root")).call(call)
    }

    /// Makes a call that must go well, and returns what the resolver's programs got as input.
    fn programs_input(&self, call: &Call) -> String {
        let _ = fs::remove_file(self.fakes.path("told"));
        self.call(call).assert_done();
        fs::read_to_string(self.fakes.path("told")).unwrap_or_default()
    }

    fn content(&self) -> String {
        fs::read_to_string(self.resolv_conf()).expect("a resolv.conf")
    }

    /// Everything is as before the first call.
    #[track_caller]
    fn assert_as_before(&self) {
        assert_eq!(self.content(), HOME);
        self.fakes.assert_forgotten();
    }
}

/// A client's `up` in the words of libreswan 4.10.
fn up() -> Call {
    find_call("libreswan-4.10", "rw", "up-client")
}

/// The same of libreswan 5.4, which tells systemd-resolved.
fn up_by_systemd() -> Call {
    find_call("libreswan-5.4", "rw", "up-client").with("PLUTO_DNS_RESOLVER", "systemd")
}

/// Another connection of the same client.
fn another(call: &Call) -> Call {
    call.clone()
        .with("PLUTO_CONNECTION", "other")
        .with("PLUTO_MY_CLIENT", "10.8.0.10/32")
        .with("PLUTO_PEER_DNS_INFO", "10.8.0.53")
        .with("PLUTO_PEER_DOMAIN_INFO", "other.test example.test")
}

#[test]
fn clients_that_real_daemons_had_get_what_the_stock_script_gives_them() {
    let mut clients = 0;
    for name in names().iter().filter(|name| name.starts_with("libreswan")) {
        let ups = crate::support::captures::calls(name);
        let is_clients = |call: &&Call| call.get("PLUTO_CFG_CLIENT") == "1" && call.get("PLUTO_VERB") == "up-client";
        for up in ups.iter().filter(is_clients) {
            let client = Client::new();
            assert_eq!(client.programs_input(up), "");
            assert_eq!(
                client.content(),
                "# Generated by pluto-updown (IPsec)\nsearch example.test corp.example.test home.example\n\
                 nameserver 10.2.0.53\nnameserver 10.2.0.54\nnameserver 192.0.2.1\n",
                "{name}"
            );
            assert_eq!(client.programs_input(&up.clone().opposite()), "");
            client.assert_as_before();
            clients += 1;
        }
    }
    assert!(clients >= 3, "{clients}");
}

#[test]
fn two_connections_go_in_any_order() {
    let (a, b) = (up(), another(&up()));
    for (first, last) in [(&a, &b), (&b, &a)] {
        let client = Client::new();
        client.programs_input(&a);
        client.programs_input(&b);
        assert_eq!(
            client.content(),
            "# Generated by pluto-updown (IPsec)\nsearch other.test example.test corp.example.test home.example\n\
             nameserver 10.8.0.53\nnameserver 10.2.0.53\nnameserver 10.2.0.54\nnameserver 192.0.2.1\n"
        );
        client.programs_input(&first.clone().opposite());
        assert!(
            client
                .content()
                .contains(if first == &a { "10.8.0.53" } else { "10.2.0.53" })
        );
        assert!(
            !client
                .content()
                .contains(if first == &a { "10.2.0.53" } else { "10.8.0.53" })
        );
        client.programs_input(&last.clone().opposite());
        client.assert_as_before();
    }
}

#[test]
fn nothing_of_a_hostile_peers_reaches_a_file_or_a_program() {
    let hostile = [
        "example.com foo$(id).bar;`x` *",
        "a\nnameserver\u{b}6.6.6.6 \\134 '$(x)' \"",
        "--help -x \u{1b}[1m \u{e4}.example %s",
    ];
    for (words, process) in hostile.iter().flat_map(|words| [(words, "init"), (words, "unbound")]) {
        let client = Client::new();
        client.process_is(process);
        let long = format!("{words} {}", "x".repeat(500));
        for call in [
            up().with("PLUTO_PEER_DOMAIN_INFO", long.clone() + " good.test"),
            up().with("PLUTO_PEER_DNS_INFO", long.clone() + " 10.2.0.53"),
            up_by_systemd()
                .with("PLUTO_PEER_DOMAIN_INFO", long.clone() + " good.test")
                .with("PLUTO_PEER_BANNER", &long)
                .with("PLUTO_NM_CONFIGURED", "1"),
        ] {
            let output = client.programs_input(&call) + &client.content() + &client.programs_input(&call.opposite());
            let banner = |line: &&str| !line.starts_with("PLUTO_PEER_BANNER=");
            let output: String = output.lines().filter(banner).collect();
            for bad in [
                "$", "`", "*", "6.6.6.6", "134", "'", "-x", "--help", "\u{1b}", "\u{e4}", "%s", "xxxx", "foo",
            ] {
                assert!(!output.contains(bad), "{bad:?} of {words:?} in {output}");
            }
            client.assert_as_before();
        }
    }
}

#[test]
fn unbound_asks_the_peers_name_servers_about_its_domains() {
    let client = Client::new();
    client.process_is("unbound");
    assert_eq!(
        client.programs_input(&up()),
        "unbound-control [forward_add] [corp.example.test] [10.2.0.53] [10.2.0.54]\n\
         unbound-control [flush_zone] [corp.example.test]\n\
         unbound-control [forward_add] [example.test] [10.2.0.53] [10.2.0.54]\n\
         unbound-control [flush_zone] [example.test]\n\
         unbound-control [flush_requestlist]\n"
    );
    assert_eq!(client.programs_input(&up()), "", "it was told already");
    assert_eq!(
        client.programs_input(&another(&up())),
        "unbound-control [forward_add] [example.test] [10.8.0.53]\n\
         unbound-control [flush_zone] [example.test]\n\
         unbound-control [forward_add] [other.test] [10.8.0.53]\n\
         unbound-control [flush_zone] [other.test]\n\
         unbound-control [flush_requestlist]\n"
    );
    assert_eq!(
        client.programs_input(&another(&up()).opposite()),
        "unbound-control [forward_remove] [other.test]\n\
         unbound-control [flush_zone] [other.test]\n\
         unbound-control [forward_add] [example.test] [10.2.0.53] [10.2.0.54]\n\
         unbound-control [flush_zone] [example.test]\n\
         unbound-control [flush_requestlist]\n"
    );
    assert_eq!(client.content(), HOME);
    assert_eq!(
        client.programs_input(&up().opposite()),
        "unbound-control [forward_remove] [corp.example.test]\n\
         unbound-control [flush_zone] [corp.example.test]\n\
         unbound-control [forward_remove] [example.test]\n\
         unbound-control [flush_zone] [example.test]\n\
         unbound-control [flush_requestlist]\n"
    );
    client.assert_as_before();
}

#[test]
fn without_domains_or_without_unbound_the_file_is_what_changes() {
    let client = Client::new();
    client.process_is("unbound-anchor");
    assert_eq!(client.programs_input(&up()), "");
    assert!(client.content().contains("10.2.0.53"));
    client.programs_input(&up().opposite());
    client.process_is("unbound");
    let up = up().with("PLUTO_PEER_DOMAIN_INFO", "");
    assert_eq!(client.programs_input(&up), "");
    assert!(client.content().contains("10.2.0.53"));
    client.programs_input(&up.opposite());
    client.assert_as_before();
}

#[test]
fn an_unbound_that_has_gone_needs_no_command() {
    let client = Client::new();
    client.process_is("unbound");
    client.programs_input(&up());
    client.process_is("init");
    assert_eq!(client.programs_input(&up().opposite()), "");
    client.assert_as_before();
}

#[test]
fn systemd_resolved_gets_what_all_have_and_in_the_end_what_it_had() {
    let client = Client::new();
    assert_eq!(
        client.programs_input(&up_by_systemd()),
        "resolvectl [dns] [w0]\nresolvectl [domain] [w0]\n\
         resolvectl [dns] [w0] [10.2.0.53] [10.2.0.54]\n\
         resolvectl [domain] [w0] [example.test] [corp.example.test]\n"
    );
    assert_eq!(
        client.programs_input(&up_by_systemd().with("PLUTO_VERB", "up-client-v6")),
        ""
    );
    assert_eq!(
        client.programs_input(&another(&up_by_systemd())),
        "resolvectl [dns] [w0] [10.8.0.53] [10.2.0.53] [10.2.0.54]\n\
         resolvectl [domain] [w0] [other.test] [example.test] [corp.example.test]\n"
    );
    assert_eq!(
        client.programs_input(&up_by_systemd().opposite()),
        "resolvectl [dns] [w0] [10.8.0.53]\nresolvectl [domain] [w0] [other.test] [example.test]\n"
    );
    assert_eq!(
        client.programs_input(&another(&up_by_systemd()).opposite()),
        "resolvectl [dns] [w0] [192.0.2.53] [fe80::1%3] [1.1.1.1#dns.example]\nresolvectl [domain] [w0] [home.example] [~.]\n"
    );
    client.assert_as_before();
}

#[test]
fn systemd_resolved_is_configured_where_the_file_is_its_own() {
    let client = Client::new();
    client.is_systemd_resolveds();
    let output = client.programs_input(&up());
    assert!(
        output.contains("resolvectl [dns] [w0] [10.2.0.53] [10.2.0.54]\n"),
        "{output}"
    );
    assert_eq!(client.content(), "nameserver 127.0.0.53\n");
    let output = client.programs_input(&up().opposite());
    assert!(output.contains("resolvectl [dns] [w0] [192.0.2.53]"), "{output}");
    client.fakes.assert_forgotten();
}

#[test]
fn an_interface_that_had_nothing_has_nothing_again() {
    let client = Client::new();
    client.programs_do("[ $# -gt 2 ] || { echo \"Link 3 ($2):\"; exit 0; }");
    let up = up_by_systemd().with("PLUTO_PEER_DOMAIN_INFO", "");
    let output = client.programs_input(&up);
    assert!(
        output.ends_with("resolvectl [dns] [w0] [10.2.0.53] [10.2.0.54]\n"),
        "{output}"
    );
    assert_eq!(client.programs_input(&up.opposite()), "resolvectl [dns] [w0] []\n");
    client.assert_as_before();
}

#[test]
fn network_managers_service_is_notified_and_nothing_else_changes() {
    let client = Client::new();
    let up = up()
        .with("PLUTO_NM_CONFIGURED", "1")
        .with("PLUTO_PEER_BANNER", "it's \x1bhere")
        .with("PLUTO_PEER_DOMAIN_INFO", "example.test $(id)");
    let variables = "PLUTO_MY_SOURCEIP=10.9.0.10\nPLUTO_PEER=192.1.2.23\nPLUTO_PEER_BANNER=it's \\x1bhere\n\
                     PLUTO_PEER_DNS_INFO=10.2.0.53 10.2.0.54\nPLUTO_PEER_DOMAIN_INFO=example.test\n";
    let up = up
        .with("PLUTO_MY_SOURCEIP", "10.9.0.10")
        .with("PLUTO_PEER", "192.1.2.23");
    assert_eq!(
        client.programs_input(&up),
        format!("nm-libreswan-service-helper\n{variables}libreswan_reason=connect\n")
    );
    assert_eq!(client.content(), HOME);
    assert_eq!(
        client.programs_input(&up.clone().with_verb("disconnectNM")),
        format!("nm-libreswan-service-helper\n{variables}libreswan_reason=disconnect\n")
    );
    assert_eq!(
        client.programs_input(&up.opposite()),
        format!("nm-libreswan-service-helper\n{variables}libreswan_reason=disconnect\n")
    );
    client.assert_as_before();
}

#[test]
fn openswans_own_verbs_change_the_file_and_tell_its_own_service() {
    let client = Client::new();
    let update = Call::default()
        .with("PLUTO_VERB", "updateresolvconf-client")
        .with("PLUTO_VERSION", "2.0")
        .with("PLUTO_STACK", "netkey")
        .with("PLUTO_CONNECTION", "cisco")
        .with("PLUTO_MY_CLIENT", "10.9.0.10/32")
        .with("PLUTO_PEER_CLIENT", "10.2.0.0/16")
        .with("PLUTO_IS_PEER_CISCO", "1")
        .with("PLUTO_NM_CONFIGURED", "0")
        .with("PLUTO_CISCO_DNS_INFO", "10.2.0.53")
        .with("PLUTO_CISCO_DOMAIN_INFO", "example.test");
    assert_eq!(client.programs_input(&update), "");
    assert!(
        client
            .content()
            .contains("search example.test home.example\nnameserver 10.2.0.53\n")
    );
    assert_eq!(
        client.programs_input(&update.clone().with_verb("restoreresolvconf-client")),
        ""
    );
    client.assert_as_before();
    let managed = update.with("PLUTO_NM_CONFIGURED", "1");
    let output = client.programs_input(&managed);
    assert!(
        output.starts_with("nm-openswan-service-helper\n") && output.contains("\nopenswan_reason=connect\n"),
        "{output}"
    );
    let output = client.programs_input(&managed.with_verb("restoreresolvconf-client"));
    assert!(output.contains("\nopenswan_reason=disconnect\n"), "{output}");
    client.assert_as_before();
}

#[test]
fn programs_that_fail_or_are_missing_or_hang_fail_no_call() {
    for (script, count) in [("exit 3", 4), ("kill -9 $$", 4), ("exec sleep 60", 1)] {
        let client = Client::new();
        client.programs_do(script);
        let output = client.programs_input(&up_by_systemd().with("PLUTO_NM_CONFIGURED", "1"));
        assert!(
            output.lines().filter(|line| line.starts_with("resolvectl")).count() <= count,
            "{output}"
        );
        client.process_is("unbound");
        client.programs_input(&another(&up()));
        client.programs_do("");
        client.programs_input(&up_by_systemd().opposite());
        client.programs_input(&another(&up()).opposite());
        client.assert_as_before();
    }
    let client = Client::new();
    for name in PROGRAMS {
        fs::remove_file(client.fakes.programs().join(name)).expect("no such program");
    }
    assert_eq!(
        client.programs_input(&up_by_systemd().with("PLUTO_NM_CONFIGURED", "1")),
        ""
    );
    assert_eq!(client.programs_input(&up_by_systemd().opposite()), "");
    client.assert_as_before();
}

#[test]
fn a_tunnel_that_is_refused_gets_no_name_servers_and_a_down_gives_them_back_in_any_case() {
    let client = Client::new();
    client.fakes.restore_does("exit 4");
    client.call(&up()).assert_refused(1, &["iptables-restore"]);
    assert_eq!(client.content(), HOME);
    client.fakes.restore_does("exit 0");
    client.programs_input(&up());
    client.fakes.restore_does("kill -9 $$");
    client.call(&up().opposite()).assert_refused(1, &["iptables-restore"]);
    assert_eq!(client.content(), HOME);
}

#[test]
fn a_tunnel_that_is_up_without_its_rules_gets_its_name_servers() {
    let client = Client::new();
    client.fakes.settings("");
    client.fakes.restore_does("exit 4");
    client
        .call(&up())
        .assert_refused(0, &["the tunnel is up without its rules", "iptables-restore"]);
    assert_ne!(client.content(), HOME);
    client.programs_input(&up().opposite());
    assert_eq!(client.content(), HOME);
}

#[test]
fn a_broken_record_of_the_resolver_leaves_firewall_and_file_alone() {
    let client = Client::new();
    client.programs_input(&up());
    let state = client.fakes.namespace().join("resolver/state");
    for content in ["", "{", "{\"format\": 999}", "{\"format\": 1, \"users\": [{}]}"] {
        fs::write(&state, content).expect("a broken record");
        let before = client.content();
        client.programs_input(&another(&up()));
        client.programs_input(&another(&up()).opposite());
        assert_eq!(
            (client.content(), fs::read_to_string(&state).expect("the record")),
            (before, content.into())
        );
    }
}

#[test]
fn a_rehearsal_shows_files_and_programs_and_changes_nothing() {
    let client = Client::new();
    let shown = |call: &Call| {
        let hook = client
            .fakes
            .hook()
            .option("--root", client.fakes.path("root"))
            .word("--dry-run");
        hook.call(call).out_text()
    };
    let text = shown(&up().with("PLUTO_PEER_DOMAIN_INFO", "example.test *"));
    let file = client.resolv_conf().display().to_string();
    assert!(
        text.starts_with("# ignored: PLUTO_PEER_DOMAIN_INFO: \"*\": expected names of domains\n"),
        "{text}"
    );
    assert!(
        text.ends_with(&format!(
            "# up-client: would write {file}:\n# Generated by pluto-updown (IPsec)\nsearch example.test home.example\n\
             nameserver 10.2.0.53\nnameserver 10.2.0.54\nnameserver 192.0.2.1\n"
        )),
        "{text}"
    );
    let text = shown(
        &up_by_systemd()
            .with("PLUTO_NM_CONFIGURED", "1")
            .with("PLUTO_PEER_BANNER", "it's"),
    );
    assert!(
        text.contains(
            "# up-client: would run:\nresolvectl dns w0 10.2.0.53 10.2.0.54\nresolvectl domain w0 example.test corp.example.test\n\
             # up-client: would run:\nlibreswan_reason='connect' "
        ) && text.contains(" PLUTO_PEER_BANNER='it'\\''s' "),
        "{text}"
    );
    assert!(!client.fakes.path("told").exists(), "a program was started");
    client.assert_as_before();
}

/// A tunnel that has nothing to do with name servers.
fn plain_tunnel(number: usize) -> Call {
    crate::support::captures::libreswan_up().of_tunnel(number)
}

#[test]
fn a_process_of_a_user_is_no_name_server() {
    let client = Client::new();
    client.process_of_is(1000, 1, "unbound");
    assert_eq!(client.programs_input(&up()), "");
    assert!(client.content().contains("10.2.0.53"));
    client.programs_input(&up().opposite());
    client.assert_as_before();
}

#[test]
fn an_unbound_that_was_restarted_gets_everything_at_the_next_call() {
    let client = Client::new();
    client.process_of_is(0, 1, "unbound");
    client.programs_input(&up());
    client.programs_input(&another(&up()));
    client.process_of_is(115, 2, "unbound");
    let output = client.programs_input(&plain_tunnel(3));
    for domain in [
        "[example.test] [10.8.0.53]",
        "[other.test] [10.8.0.53]",
        "[corp.example.test] [10.2.0.53]",
    ] {
        assert!(
            output.contains(&format!("unbound-control [forward_add] {domain}")),
            "{domain}: {output}"
        );
    }
    assert_eq!(client.programs_input(&plain_tunnel(4)), "");
}

#[test]
fn what_is_not_confirmed_is_recorded_and_tried_again_at_every_call() {
    for (is_unbound, failure) in [
        (true, "exit 1"),
        (false, "exit 1"),
        (true, "exec sleep 60"),
        (false, "kill -9 $$"),
    ] {
        let client = Client::new();
        let up = if is_unbound { up() } else { up_by_systemd() };
        if is_unbound {
            client.process_is("unbound");
        }
        client.programs_input(&up);
        let (code, text) = client.status();
        assert!(
            text.contains("name servers: 10.2.0.53, 10.2.0.54 for example.test"),
            "{text}"
        );
        assert!(!text.contains("did not confirm"), "{code:?} {text}");
        client.programs_do(failure);
        client.programs_input(&up.clone().opposite());
        let (code, text) = client.status();
        assert!(
            code == Some(1)
                && text.contains("did not confirm the change for ")
                && text.contains("pluto-updown restore"),
            "{text}"
        );
        client.programs_do("");
        let output = client.programs_input(&plain_tunnel(3));
        let expected = match is_unbound {
            true => "unbound-control [forward_remove] [example.test]",
            false => "resolvectl [dns] [w0] [192.0.2.53]",
        };
        assert!(output.contains(expected), "{failure}: {output}");
        assert_eq!(
            client.programs_input(&plain_tunnel(4)),
            "",
            "{failure}: it is confirmed"
        );
        assert!(!client.status().1.contains("did not confirm"));
        client.programs_input(&plain_tunnel(3).opposite());
        client.programs_input(&plain_tunnel(4).opposite());
        client.assert_as_before();
    }
}

#[test]
fn every_command_makes_up_for_what_was_not_confirmed() {
    for command in ["restore", "prune", "flush"] {
        let client = Client::new();
        client.process_is("unbound");
        client.programs_input(&up());
        client.programs_do("exit 1");
        client.programs_input(&up().opposite());
        let hook = || client.fakes.hook().option("--root", client.fakes.path("root"));
        let _ = fs::remove_file(client.fakes.path("told"));
        hook().operate(&[command]);
        let output = || fs::read_to_string(client.fakes.path("told")).unwrap_or_default();
        assert!(output().contains("forward_remove"), "{command}: {}", output());
        client.programs_do("");
        hook().operate(&[command]);
        assert!(!client.status().1.contains("did not confirm"), "{command}");
    }
}

#[test]
fn an_interface_that_is_gone_needs_nothing_undone() {
    let client = Client::new();
    client.programs_input(&up_by_systemd());
    client.programs_do("echo 'Failed to resolve interface \"w0\": No such device' >&2; exit 1");
    client.programs_input(&up_by_systemd().opposite());
    client.assert_as_before();
}

#[test]
fn a_program_that_hangs_costs_no_tunnel_its_rules() {
    let client = Client::new();
    client.programs_do("exec sleep 60");
    let begun = std::time::Instant::now();
    let ups: Vec<_> = (1..=8)
        .map(|number| {
            up_by_systemd()
                .with("PLUTO_CONNECTION", format!("road/{number}"))
                .with("PLUTO_MY_CLIENT", format!("10.9.0.{number}/32"))
        })
        .collect();
    std::thread::scope(|scope| {
        for up in &ups {
            scope.spawn(|| client.call(up).assert_done());
        }
    });
    // 5 seconds are what the resolver's programs may take in all, however many calls wait for one another.
    assert!(begun.elapsed().as_secs() < 14, "{:?}", begun.elapsed());
    assert_eq!(client.fakes.recorded().len(), 8);
    client.programs_do("");
    let output = client.programs_input(&plain_tunnel(3));
    assert!(
        output.contains("resolvectl [dns] [w0] [10.2.0.53] [10.2.0.54]\n"),
        "{output}"
    );
    for up in ups {
        client.programs_input(&up.opposite());
    }
    client.programs_input(&plain_tunnel(3).opposite());
    client.assert_as_before();
}

/// Makes the record what the first version of this program wrote: format 1, which knew neither the file's identity nor unbound's run.
fn age_to_format_1(client: &Client) {
    let folder = client.fakes.namespace().join("resolver");
    let text = fs::read_to_string(folder.join("state")).expect("a record");
    let mut state: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let fields = state.as_object_mut().expect("an object");
    fields.insert("format".to_owned(), 1.into());
    for unknown in ["identity", "unbound"] {
        fields.remove(unknown);
    }
    for link in fields
        .get_mut("links")
        .and_then(|links| links.as_object_mut())
        .into_iter()
        .flatten()
    {
        link.1.as_object_mut().expect("a link").remove("confirmation");
    }
    fs::write(folder.join("state"), state.to_string()).expect("writing the record");
    for copy in ["written", "next"] {
        let _ = fs::remove_file(folder.join(copy));
    }
}

#[test]
fn name_servers_that_the_first_version_recorded_are_restored() {
    for (process, up, told) in [
        ("init", up(), ""),
        ("unbound", up(), "unbound-control [forward_remove] [example.test]\n"),
        ("init", up_by_systemd(), "resolvectl [dns] [w0] [192.0.2.53]"),
    ] {
        // With another user that came after the upgrade, and without.
        for later in [None, Some(another(&up))] {
            let client = Client::new();
            client.process_is(process);
            client.programs_input(&up);
            age_to_format_1(&client);
            later.iter().for_each(|later| drop(client.programs_input(later)));
            let first = later
                .iter()
                .map(|later| client.programs_input(&later.clone().opposite()))
                .collect::<String>();
            let words = first + &client.programs_input(&up.clone().opposite());
            assert!(words.contains(told), "{process}: {words}");
            client.assert_as_before();
        }
    }
}
