//! Which daemon a call comes from, and what happens to its tunnels when it dies.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};

use crate::support::binary::{Call, Hook, write_program};
use crate::support::captures::{libreswan_up, strongswan_up};
use crate::support::namespace::{Namespace, VARIANTS};

/// Runs what is in the files that it gets, as its children, and says how each ended.
const DAEMON: &str = "#!/bin/bash
while read -r file; do . \"$file\" 2>&1; echo \"ended $?\"; done
";

/// A process with the name of an IKE daemon.
pub(crate) struct Daemon {
    process: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    calls: std::path::PathBuf,
    hook: Hook,
}

/// What stands between the daemon and the hook.
#[derive(Clone, Copy, Debug)]
enum Between {
    Nothing,
    AShell,
    TwoShells,
}

impl Daemon {
    pub(crate) fn start(machine: &Namespace, name: &str) -> Self {
        let mut daemon = Self::start_whole(machine, name);
        daemon.hook = daemon.hook.word("--no-routes");
        daemon
    }

    /// A daemon with the whole program as its hook.
    pub(crate) fn start_whole(machine: &Namespace, name: &str) -> Self {
        let program = machine.path(name);
        if !program.exists() {
            write_program(&program, DAEMON.as_bytes());
        }
        let mut command = machine.command([&program]);
        let mut process = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("starting the daemon");
        let input = process.stdin.take().expect("its input");
        let output = BufReader::new(process.stdout.take().expect("its output"));
        let hook = Hook::new()
            .option("--state-dir", machine.state())
            .option("--config", machine.config())
            .option("--programs", machine.programs());
        let mut daemon = Self {
            process,
            input,
            output,
            calls: machine.path("call"),
            hook,
        };
        daemon.run_script("true\n");
        let stat = fs::read_to_string(format!("/proc/{}/stat", daemon.process.id())).expect("its process");
        assert!(stat.contains(&format!(" ({name}) ")), "{stat}");
        daemon
    }

    /// Runs lines of shell, which say nothing and succeed.
    fn run_script(&mut self, script: &str) {
        fs::write(&self.calls, script).expect("writing the call");
        writeln!(self.input, "{}", self.calls.display()).expect("telling the daemon");
        let mut line = String::new();
        self.output.read_line(&mut line).expect("the daemon's answer");
        assert_eq!(line, "ended 0\n", "{script}");
    }

    pub(crate) fn calls(&mut self, call: &Call) {
        self.calls_through(call, Between::Nothing);
    }

    /// Makes a call that fails with a line on standard error.
    pub(crate) fn calls_in_vain(&mut self, call: &Call) {
        let script = self.script(call);
        self.run_script(&format!("{{ {script}}} >/dev/null 2>&1\n"));
    }

    fn calls_through(&mut self, call: &Call, between: Between) {
        let script = self.calls.with_extension("inner");
        fs::write(&script, self.script(call)).expect("writing the call");
        let file = script.display();
        self.run_script(&match between {
            Between::Nothing => self.script(call),
            Between::AShell => format!("/bin/sh {file}\n"),
            Between::TwoShells => format!("/bin/sh -c '/bin/sh {file}; exit $?'\n"),
        });
    }

    /// The call as a line of shell, followed by another so that no shell puts itself in the place of the program.
    fn script(&self, call: &Call) -> String {
        let words = self.hook.line(&call.arguments);
        let variables = call
            .variables
            .iter()
            .map(|(name, value)| [name.as_os_str(), value].join("=".as_ref()));
        let all = variables
            .chain(words)
            .map(|word| word.into_string().expect("plain text"));
        let quoted: Vec<_> = all.map(|word| format!("'{}'", word.replace('\'', "'\\''"))).collect();
        format!("env -i {}\ncode=$?\n(exit $code)\n", quoted.join(" "))
    }

    pub(crate) fn dies(mut self) {
        self.process.kill().expect("killing the daemon");
        self.process.wait().expect("its end");
    }

    fn ends(self) {
        let Self { mut process, input, .. } = self;
        drop(input);
        process.wait().expect("its end");
    }
}

fn is_installed(machine: &Namespace, connection: &str) -> bool {
    let chains = machine.own_chains();
    chains[0]
        .keys()
        .any(|chain| chain.starts_with(&format!("PLUTO-{connection}-")))
}

#[test]
#[ignore = "needs root and iptables: run by contrib/test"]
fn what_a_dead_daemon_left_is_gone_at_the_first_call_of_the_next_one() {
    for backend in VARIANTS {
        for first in ["prepare-client", "route-client", "up-client", "down-client"] {
            let machine = Namespace::new(backend);
            let before = machine.listing();
            let mut old = Daemon::start(&machine, "pluto");
            old.calls(&libreswan_up());
            old.calls(&libreswan_up().of_tunnel(3));
            let mut other = Daemon::start(&machine, "charon");
            other.calls(&strongswan_up().of_tunnel(4));
            old.dies();
            let mut new = Daemon::start(&machine, "pluto");
            let next = libreswan_up().of_tunnel(5);
            new.calls(&next.clone().with_verb(first));
            assert!(
                !is_installed(&machine, "net-net") && !is_installed(&machine, "tunnel-3"),
                "{backend}, {first}"
            );
            assert!(
                is_installed(&machine, "tunnel-4"),
                "{backend}, {first}: the other daemon lives"
            );
            new.calls(&next.opposite());
            other.calls(&strongswan_up().of_tunnel(4).opposite());
            machine.assert_as_before(&before);
            new.ends();
            other.ends();
        }
    }
}

#[test]
#[ignore = "needs root and iptables: run by contrib/test"]
fn a_daemon_is_found_behind_shells() {
    for backend in VARIANTS {
        for (name, between) in [("pluto", Between::AShell), ("charon-systemd", Between::TwoShells)] {
            let machine = Namespace::new(backend);
            let before = machine.listing();
            let mut old = Daemon::start(&machine, name);
            old.calls_through(&strongswan_up(), between);
            assert!(is_installed(&machine, "net-net"));
            old.dies();
            let mut new = Daemon::start(&machine, name);
            new.calls_through(&libreswan_up().with_verb("prepare-client"), between);
            machine.assert_as_before(&before);
            new.ends();
        }
    }
}

#[test]
#[ignore = "needs root and iptables: run by contrib/test"]
fn a_new_daemon_counts_its_own_ups_only() {
    let machine = Namespace::new(VARIANTS[0]);
    let before = machine.listing();
    let mut old = Daemon::start(&machine, "charon");
    (0..3).for_each(|_| old.calls(&strongswan_up()));
    old.dies();
    let mut new = Daemon::start(&machine, "charon");
    new.calls(&strongswan_up());
    assert!(is_installed(&machine, "net-net"));
    new.calls(&strongswan_up().opposite());
    machine.assert_as_before(&before);
    new.ends();
}

#[test]
#[ignore = "needs root and iptables: run by contrib/test"]
fn a_dead_daemons_tunnels_go_after_a_reload_too() {
    for backend in VARIANTS {
        let machine = Namespace::new(backend);
        let before = machine.listing();
        let mut old = Daemon::start(&machine, "pluto");
        old.calls(&libreswan_up());
        machine.hook().expect_success(&libreswan_up().of_tunnel(3));
        old.dies();
        machine.reload(pluto_updown::net::Family::Ipv4);
        let mut new = Daemon::start(&machine, "pluto");
        new.calls(&libreswan_up().with_verb("prepare-client"));
        assert!(
            !is_installed(&machine, "net-net") && is_installed(&machine, "tunnel-3"),
            "{backend}"
        );
        new.calls(&libreswan_up().of_tunnel(3).opposite());
        machine.assert_as_before(&before);
        new.ends();
    }
}

#[test]
#[ignore = "needs root and iptables: run by contrib/test"]
fn calls_by_hand_belong_to_no_daemon_and_stay() {
    let machine = Namespace::new(VARIANTS[0]);
    let before = machine.listing();
    machine.hook().expect_success(&libreswan_up());
    for name in ["pluto", "pluto"] {
        let mut daemon = Daemon::start(&machine, name);
        daemon.calls(&libreswan_up().of_tunnel(3));
        assert!(is_installed(&machine, "net-net"));
        daemon.dies();
    }
    machine.hook().expect_success(&libreswan_up().opposite());
    machine.assert_as_before(&before);
}
