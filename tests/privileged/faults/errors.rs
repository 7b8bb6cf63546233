//! A system call of the program that fails, each in turn and with each error that it can have, on real iptables.
//!
//! A call that was interrupted (EINTR) goes well. Every other one goes well or is refused, and when it was refused nothing has changed; of one
//! that dies for want of memory, and of one that fails when the kernel has committed, the next call finds out.

use std::collections::BTreeMap;
use std::fs;

use pluto_updown::net::Family;
use pluto_updown::netfilter::Backend;

use super::steps::traced;
use crate::support::binary::{Call, Ending};
use crate::support::captures::libreswan_up;
use crate::support::figures::print_figure;
use crate::support::namespace::{Namespace, order_independent};
use crate::support::random::{Random, parameter, seed};

/// The system calls that are made to fail. Those behind a question mark are not on every machine.
const FAILING: &str = "openat,?mkdir,mkdirat,?rename,?renameat,renameat2,?unlink,unlinkat,?rmdir,write,read,ftruncate,?fsync,flock,\
                       memfd_create,mmap,brk,mremap,pipe2,socketpair,socket,sendto,recvfrom,statx,?newfstatat,?fstat,getdents64,\
                       clone,?clone3,?vfork,?poll,ppoll,wait4,waitid,lseek,fcntl";

/// One system call of the program and one error.
#[derive(Clone, Debug)]
struct Point {
    system_call: String,
    /// The how manieth of this system call, counted from 1.
    number: usize,
    error: &'static str,
    /// What strace shows of it.
    shown: String,
}

/// The errors that a system call can have.
fn errors(system_call: &str, shown: &str) -> Vec<&'static str> {
    const SPACE: [&str; 3] = ["ENOSPC", "EDQUOT", "EROFS"];
    let changes = shown.contains("O_CREAT") || !shown.starts_with("openat");
    match system_call {
        "mmap" | "brk" | "mremap" | "memfd_create" | "clone" | "clone3" | "vfork" | "statx" | "newfstatat"
        | "fstat" | "getdents64" | "socket" | "socketpair" | "pipe2" | "lseek" | "fcntl" => vec!["ENOMEM"],
        "openat" | "mkdir" | "mkdirat" | "rename" | "renameat" | "renameat2" | "unlink" | "unlinkat" | "rmdir"
            if changes =>
        {
            [&["ENOMEM", "EINTR"], &SPACE[..]].concat()
        }
        "write" | "ftruncate" | "fsync" => vec!["ENOMEM", "EINTR", "ENOSPC", "EDQUOT"],
        _ => vec!["ENOMEM", "EINTR"],
    }
}

/// Makes a call that goes well; returns every point at which it could have failed.
fn failure_points(machine: &Namespace, call: &Call) -> Vec<Point> {
    let log = machine.path("points");
    let trace = format!("trace={FAILING}");
    let path = log.to_str().expect("a plain path");
    let options = ["-s", "200", "-e", &trace, "-e", "signal=none", "-o", path];
    traced(machine, Namespace::started_by, call, &options).assert_done();
    let text = fs::read_to_string(&log).expect("what strace has written");
    let mut numbers = BTreeMap::new();
    let mut points = Vec::new();
    // What comes before the first look at its three files is the dynamic linker's.
    let mut is_ours = false;
    for line in text.lines() {
        let Some((name, _)) = line.split_once('(') else {
            continue;
        };
        let number = numbers.entry(name.to_owned()).or_insert(0);
        *number += 1;
        is_ours |= name == "poll" || name == "ppoll";
        points.extend(errors(name, line).into_iter().filter(|_| is_ours).map(|error| Point {
            system_call: name.to_owned(),
            number: *number,
            error,
            shown: line.to_owned(),
        }));
    }
    points
}

/// Makes the call with this point failing; nothing, if it did not come so far.
fn failing(machine: &Namespace, call: &Call, point: &Point) -> Option<Ending> {
    let Point {
        system_call,
        number,
        error,
        ..
    } = point;
    let log = machine.path("injected");
    let (trace, inject) = (
        format!("trace={system_call}"),
        format!("inject={system_call}:error={error}:when={number}"),
    );
    let path = log.to_str().expect("a plain path");
    let options = ["-o", path, "-e", &trace, "-e", &inject];
    let ending = traced(machine, Namespace::started_by, call, &options);
    let text = fs::read_to_string(&log).expect("what strace has written");
    text.contains("(INJECTED)").then_some(ending)
}

/// What a failing call came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Came {
    /// It went well all the same.
    Done,
    /// It was refused, and nothing was changed.
    Refused,
    /// It failed or died, and the next call found out what it had changed.
    FoundOut,
}

/// A call at one of whose points something fails.
struct Life {
    /// Whether the tunnel stands before it.
    was_up: bool,
    call: Call,
}

impl Life {
    fn begin(&self, machine: &Namespace) {
        machine.hook().expect_success(&unconcerned_call());
        if self.was_up {
            machine.hook().expect_success(&libreswan_up());
        }
    }

    fn end(machine: &Namespace) {
        machine.hook().expect_success(&libreswan_up().opposite());
        machine.hook().expect_success(&unconcerned_call().opposite());
    }

    /// Fails at one point in so many, of which the seed says the first; tells the figures, and what went wrong.
    fn with_an_error_at_every_point(&self, backend: Backend, stride: usize, seed: u64) {
        let machine = Namespace::new(backend);
        let empty = machine.listing();
        self.begin(&machine);
        let before = tables(&machine);
        let points = failure_points(&machine, &self.call);
        let after = tables(&machine);
        Self::end(&machine);
        machine.assert_as_before(&empty);
        let mut came: BTreeMap<(&str, Came), usize> = BTreeMap::new();
        let (mut met, mut faults) = (0, Vec::new());
        let first = Random::seeded(seed).below(stride);
        for point in points.iter().skip(first).step_by(stride) {
            self.begin(&machine);
            if let Some(ending) = failing(&machine, &self.call, point) {
                met += 1;
                match self.judge(&machine, point, &ending, [&before, &after]) {
                    Ok(what) => *came.entry((point.error, what)).or_default() += 1,
                    Err(why) => faults.push(format!(
                        "{} at {}: {why}; {:?} {}",
                        point.error,
                        point.shown,
                        ending.code,
                        ending.err_text().trim()
                    )),
                }
            }
            Self::end(&machine);
            machine.assert_as_before(&empty);
        }
        let right: usize = came.values().sum();
        print_figure(format_args!(
            "{} on {backend}: {met} injected errors, {right} right: {came:?}",
            self.call
        ));
        assert!(met > 0, "nothing was injected, seed {seed}");
        assert!(
            faults.is_empty(),
            "seed {seed}: {} of {met} are wrong:\n{}",
            faults.len(),
            faults.join("\n")
        );
    }

    fn judge(
        &self,
        machine: &Namespace,
        point: &Point,
        ending: &Ending,
        [before, after]: [&String; 2],
    ) -> Result<Came, String> {
        let now = tables(machine);
        let pending = machine.record_exists("pending");
        let is_well = (ending.code, ending.signal) == (Some(0), None);
        if is_well && (&now != after || pending) {
            return Err("it said that it went well".to_owned());
        }
        if point.error == "EINTR" && !(is_well && ending.err.is_empty()) {
            return Err("an interruption is no reason to fail".to_owned());
        }
        if is_well {
            return Ok(Came::Done);
        }
        let is_refused = ending.code == Some(1) && !pending;
        if is_refused && &now != before {
            return Err("it was refused, and something has changed".to_owned());
        }
        machine
            .hook()
            .expect_success(&unconcerned_call().with_verb("route-client"));
        let settled = tables(machine);
        let right = if machine.recorded("net-net").is_some() == self.was_up {
            before
        } else {
            after
        };
        if &settled != right {
            return Err(format!("the next call did not find out: {settled}"));
        }
        // And the same call again is made.
        machine.hook().expect_success(&self.call);
        match &tables(machine) == after {
            true if is_refused => Ok(Came::Refused),
            true => Ok(Came::FoundOut),
            false => Err("the same call again was not made".to_owned()),
        }
    }
}

/// A tunnel in the same bucket that is not concerned.
fn unconcerned_call() -> Call {
    libreswan_up().of_tunnel(9).with("PLUTO_PEER_CLIENT", "10.2.9.0/24")
}

fn tables(machine: &Namespace) -> String {
    order_independent(&machine.saved(Family::Ipv4))
}

/// One point in so many is tried, unless `FAULTS_STRIDE` says otherwise; another set of them each time.
const STRIDE: usize = 9;

fn every_point(was_up: bool, backend: Backend) {
    let call = if was_up {
        libreswan_up().opposite()
    } else {
        libreswan_up()
    };
    Life { was_up, call }.with_an_error_at_every_point(backend, parameter("FAULTS_STRIDE", STRIDE), seed());
}

#[test]
#[ignore = "needs root and iptables: run by contrib/test"]
fn an_up_with_a_failing_system_call_is_made_or_refused_on_nft() {
    every_point(false, Backend::Nft);
}

#[test]
#[ignore = "needs root and iptables: run by contrib/test"]
fn a_down_with_a_failing_system_call_is_made_or_refused_on_nft() {
    every_point(true, Backend::Nft);
}

#[test]
#[ignore = "needs root and iptables: run by contrib/test"]
fn an_up_with_a_failing_system_call_is_made_or_refused_on_legacy() {
    every_point(false, Backend::Legacy);
}

#[test]
#[ignore = "needs root and iptables: run by contrib/test"]
fn a_down_with_a_failing_system_call_is_made_or_refused_on_legacy() {
    every_point(true, Backend::Legacy);
}
