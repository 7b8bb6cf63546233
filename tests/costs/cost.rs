//! Counts what one call does, by strace.

use std::fs;

use crate::support::binary::{Call, PROGRAM};
use crate::support::namespace::{Namespace, tool};

/// What one call cost.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Cost {
    /// Programs that ours has started.
    pub(crate) programs: usize,
    /// System calls of ours.
    pub(crate) calls: usize,
    /// Netlink messages that ours has sent.
    pub(crate) questions: usize,
    /// Bytes that the programs have read from their standard input.
    pub(crate) text: usize,
    /// Datagrams that the programs have received.
    pub(crate) messages: usize,
}

/// Makes a call, which must go well and say nothing, with everything that the program does.
pub(crate) fn cost(machine: &Namespace, call: &Call) -> Cost {
    let log = machine.path("strace");
    let words = [
        tool("strace").display().to_string(),
        "-f".to_owned(),
        "-o".to_owned(),
        log.display().to_string(),
    ];
    let words: Vec<_> = words.iter().map(String::as_str).collect();
    machine.whole_hook(&words).expect_success(call);
    count(&fs::read_to_string(&log).expect("what strace has written"))
}

fn count(log: &str) -> Cost {
    let mut cost = Cost::default();
    let start = log
        .find(&format!("execve(\"{PROGRAM}\""))
        .expect("our program in the log");
    let start = log[..start].rfind('\n').map_or(0, |newline| newline + 1);
    let mut own_pid = None;
    let mut is_ancestor = false;
    for line in log[start..].lines() {
        let Some((pid, what)) = line.split_once(' ') else {
            continue;
        };
        let what = what.trim_start();
        let is_ours = *own_pid.get_or_insert(pid) == pid;
        if what.starts_with("---") || what.starts_with("+++") || what.starts_with("<...") && !what.contains("read") {
            continue;
        }
        match is_ours {
            true if what.starts_with("<...") => {}
            // The daemon is looked for among the ancestors, and how many of those there are is the test runner's business.
            true if is_ancestor => is_ancestor = !what.starts_with("close("),
            true if what.contains("\"/proc/") && what.contains("/stat\"") => is_ancestor = !what.contains("ENOENT"),
            // How often a program is asked for that is about to end depends on the machine.
            true if what.starts_with("wait4(") || what.starts_with("poll(") => {}
            true => {
                cost.calls += 1;
                cost.questions += usize::from(what.starts_with("sendto(") && what.contains("nlmsg_len"));
            }
            false => {
                cost.programs += usize::from(what.starts_with("execve("));
                cost.messages += usize::from(what.starts_with("recvmsg("));
                if what.starts_with("read(0,") {
                    cost.text += what
                        .rsplit(' ')
                        .next()
                        .and_then(|length| length.parse().ok())
                        .unwrap_or(0);
                }
            }
        }
    }
    cost
}
