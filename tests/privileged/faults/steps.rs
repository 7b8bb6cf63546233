//! The steps of a call, and death at one of them.

use std::collections::BTreeMap;
use std::{fmt, fs};

use crate::support::binary::{Call, Ending, Hook};
use crate::support::namespace::{Namespace, tool};

/// The system calls by which the program changes anything, starts anything, waits for it, or ends. Those behind a question mark
/// are not on every machine.
const STEPS: &str = "openat,?mkdir,mkdirat,?rename,?renameat,renameat2,?unlink,unlinkat,?rmdir,write,ftruncate,flock,\
                     memfd_create,sendto,clone,?clone3,?vfork,?poll,ppoll,wait4,kill,exit_group";

/// One of a call's steps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Step {
    system_call: String,
    /// The how manieth of this system call, counted from 1: strace counts each by itself.
    number: usize,
    /// What strace shows of it.
    shown: String,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

impl Step {
    /// Whether it is one of those of which there are more or fewer from time to time.
    pub(crate) fn is_waiting(&self) -> bool {
        ["poll", "ppoll", "wait4"].contains(&self.system_call.as_str())
    }

    /// Whether it asks the kernel for a change of its network configuration.
    pub(crate) fn asks_the_kernel(&self) -> bool {
        self.system_call == "sendto" && !self.changes_nothing()
    }

    /// Opening a file that is not made by it changes nothing, and neither does a question to the kernel, so to die there is to die
    /// at the step before.
    fn changes_nothing(&self) -> bool {
        let says = |word| self.shown.contains(word);
        match self.system_call.as_str() {
            "openat" => !says("O_CREAT"),
            "sendto" => !says("nlmsg_type=RTM_NEW") && !says("nlmsg_type=RTM_DEL"),
            _ => false,
        }
    }
}

/// How the program is started by another one in a machine: for the firewall alone ([`Namespace::started_by`]) or as
/// a whole ([`Namespace::whole_hook`]).
pub(crate) type Start = fn(&Namespace, &[&str]) -> Hook;

/// Starts a call by strace with these options and returns how it ended.
pub(crate) fn traced(machine: &Namespace, start: Start, call: &Call, options: &[&str]) -> Ending {
    let strace = tool("strace").display().to_string();
    let words: Vec<_> = [strace.as_str(), "-qq"]
        .into_iter()
        .chain(options.iter().copied())
        .chain(["--"])
        .collect();
    start(machine, &words).call(call)
}

/// Makes a call and lets it live; returns its steps from the first one that has to do with the record.
pub(crate) fn live(machine: &Namespace, start: Start, call: &Call) -> Vec<Step> {
    let log = machine.path("steps");
    let trace = format!("trace={STEPS}");
    let options = [
        "-s",
        "200",
        "-e",
        &trace,
        "-e",
        "signal=none",
        "-o",
        log.to_str().expect("a plain path"),
    ];
    let ending = traced(machine, start, call, &options);
    assert_eq!(
        (ending.code, ending.err_but_own_jumps()),
        (Some(0), String::new()),
        "{call}"
    );
    let text = fs::read_to_string(&log).expect("what strace has written");
    let mut numbers = BTreeMap::new();
    let steps = text.lines().filter_map(|line| Some((line.split_once('(')?.0, line)));
    let steps = steps.map(|(name, line)| {
        let number = numbers.entry(name).or_insert(0);
        *number += 1;
        Step {
            system_call: name.to_owned(),
            number: *number,
            shown: line.to_owned(),
        }
    });
    let state = machine.state().display().to_string();
    let steps = steps
        .skip_while(|step| !step.shown.contains(&state))
        .filter(|step| !step.changes_nothing());
    steps.collect()
}

/// Makes a call and kills it when it enters this step; says whether it came so far.
pub(crate) fn die(machine: &Namespace, start: Start, call: &Call, step: &Step) -> bool {
    let Step {
        system_call, number, ..
    } = step;
    let trace = format!("trace={system_call}");
    let inject = format!("inject={system_call}:signal=SIGKILL:when={number}");
    let ending = traced(machine, start, call, &["-o", "/dev/null", "-e", &trace, "-e", &inject]);
    match (ending.signal, ending.code) {
        (Some(9), _) => true,
        (None, Some(0)) => false,
        _ => panic!("{call} at {step}: {ending:?}"),
    }
}
