//! Two machines that get the same calls, each with a hook of its own.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fmt;
use std::time::Duration;

use super::calls::Version;
use super::cases::{Case, Step};
use super::machine::{Answer, Machine, PATIENCE, quoted};
use super::state::State;
use super::world::World;
use crate::support::binary::{Call, PROGRAM};

/// How long a difference must last to be one.
const SETTLING: Duration = Duration::from_millis(50);

/// What a machine runs on a call.
#[derive(Debug, Clone)]
pub enum Hook {
    /// The script of this version.
    Stock(Version),
    /// Our program.
    Ours,
    /// The script of this version, and then these lines of shell.
    Planted(Version, &'static str),
}

/// On whose machine alone a fact is to be found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Side {
    Left,
    Right,
}

/// One fact by which the machines differ after a call, and did not before it.
#[derive(Debug, Clone)]
pub struct Finding {
    pub case: String,
    pub world: World,
    /// The call's number in its case, counted from 1.
    pub step: usize,
    pub call: Call,
    pub side: Side,
    pub fact: String,
    /// What the two hooks said at this call.
    pub said: [String; 2],
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [left, right] = &self.said;
        let side = match self.side {
            Side::Left => "only there",
            Side::Right => "only here",
        };
        write!(
            f,
            "{}: call {}, {}: {side}: {}",
            self.case,
            self.step,
            self.call.get("PLUTO_VERB"),
            self.fact
        )?;
        if !left.is_empty() {
            write!(f, "\n    there was said: {left}")?;
        }
        if !right.is_empty() {
            write!(f, "\n    here was said: {right}")?;
        }
        Ok(())
    }
}

/// Two machines, as long as they are as they were in the beginning.
#[derive(Debug)]
pub struct Twins {
    hooks: [Hook; 2],
    ready: Option<(World, [Machine; 2])>,
}

impl Twins {
    pub fn new(left: Hook, right: Hook) -> Self {
        Self {
            hooks: [left, right],
            ready: None,
        }
    }

    /// Makes the calls of a case on both machines, and returns by what they begin to differ at each.
    pub fn run(&mut self, case: &Case) -> Vec<Finding> {
        let mut machines = self.machines(case.world);
        let start = answers(&mut machines, ["", ""]).map(|answer| answer.state);
        assert_eq!(
            start[0], start[1],
            "{}: the machines differ before the first call",
            case.name
        );
        let mut findings = Vec::new();
        let mut end = start.clone();
        let mut before = [BTreeSet::new(), BTreeSet::new()];
        for (index, step) in case.steps.iter().enumerate() {
            let lines = self.hooks.each_ref().map(|hook| step.lines(hook));
            let mut done = answers(&mut machines, [&lines[0], &lines[1]]).map(|answer| judge(step, answer));
            if beyond(&done) != before {
                wait_for_ipv6_routes(&mut machines, &mut done);
            }
            let after = beyond(&done);
            match step {
                Step::Call(call) => findings.extend(new_findings(case, index + 1, call, &before, &after, &done)),
                Step::Administrator(_) => {}
            }
            before = after;
            end = done.map(|(state, _)| state);
        }
        // What a hook keeps in files lives as long as the machine.
        let files = "[ ! -e /run/state ] || echo kept; [ -z \"$(ls /run/pluto)\" ] || echo kept";
        let kept = answers(&mut machines, [files, files]).map(|answer| answer.said);
        if kept.iter().all(Vec::is_empty) && end == start {
            self.ready = Some((case.world, machines));
        }
        findings
    }

    fn machines(&mut self, world: World) -> [Machine; 2] {
        match self.ready.take() {
            Some((same, machines)) if same == world => machines,
            Some(_) | None => {
                let lines = world.lines();
                let build = || Machine::new(&lines);
                std::thread::scope(|scope| {
                    let [left, right] = [scope.spawn(build), scope.spawn(build)];
                    [left, right].map(|machine| machine.join().expect("a machine"))
                })
            }
        }
    }
}

/// Both at the same time.
fn answers(machines: &mut [Machine; 2], lines: [&str; 2]) -> [Answer; 2] {
    for (machine, lines) in machines.iter_mut().zip(lines) {
        machine.send_lines(lines);
    }
    machines.each_mut().map(Machine::read_answer)
}

/// Looks again after a while: the kernel makes the routes to a new IPv6 address in its own time.
fn wait_for_ipv6_routes(machines: &mut [Machine; 2], done: &mut [(State, String); 2]) {
    std::thread::sleep(SETTLING);
    let later = answers(machines, ["", ""]).map(|answer| answer.state);
    for ((state, _), later) in done.iter_mut().zip(later) {
        let code = state.exit_code();
        *state = code.into_iter().fold(later, State::with);
    }
}

/// The state after a step, and what was said in it. The exit code is a fact too where the daemon acts on it.
fn judge(step: &Step, answer: Answer) -> (State, String) {
    match step {
        Step::Administrator(lines) => {
            assert_eq!(answer.said, [""; 0], "{lines}");
            (answer.state, String::new())
        }
        Step::Call(call) => {
            let code = answer.said.first().expect("an exit code").clone();
            let said = answer.said[1..].join(" | ");
            let verb = call.get("PLUTO_VERB");
            let counts = verb.starts_with("up") || verb.starts_with("route");
            let state = if counts { answer.state.with(code) } else { answer.state };
            (state, said)
        }
    }
}

/// What each of the two has more than the other.
fn beyond(done: &[(State, String); 2]) -> [BTreeSet<String>; 2] {
    let [(left, _), (right, _)] = done;
    [left.beyond(right), right.beyond(left)].map(|facts| facts.map(str::to_owned).collect())
}

fn new_findings(
    case: &Case,
    step: usize,
    call: &Call,
    before: &[BTreeSet<String>; 2],
    after: &[BTreeSet<String>; 2],
    done: &[(State, String); 2],
) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (index, side) in [Side::Left, Side::Right].into_iter().enumerate() {
        findings.extend(after[index].difference(&before[index]).map(|fact| Finding {
            case: case.name.clone(),
            world: case.world,
            step,
            call: call.clone(),
            side,
            fact: fact.clone(),
            said: done.each_ref().map(|(_, said)| said.clone()),
        }));
    }
    findings
}

impl Step {
    fn lines(&self, hook: &Hook) -> String {
        match self {
            Self::Administrator(lines) => (*lines).to_owned(),
            Self::Call(call) => hook.lines(call),
        }
    }
}

impl Hook {
    /// The lines of shell that make a call and print its exit code and then what the hook said.
    fn lines(&self, call: &Call) -> String {
        let text = |word: &OsStr| quoted(word.to_str().expect("text"));
        let call = &self.with_pause_for_ipv6(call);
        let variables = call.variables.iter();
        let variables: Vec<_> = variables
            .map(|(name, value)| quoted(&format!("{}={}", name.to_string_lossy(), value.to_str().expect("text"))))
            .collect();
        let arguments: Vec<_> = call.arguments.iter().map(|word| text(word)).collect();
        let (program, more) = match self {
            Self::Stock(version) => (script(*version), ""),
            Self::Planted(version, more) => (script(*version), *more),
            Self::Ours => (format!("{} --state-dir /run/state", quoted(PROGRAM)), ""),
        };
        format!(
            "env -i {} {program} {} </dev/null >/run/said 2>&1; echo \"exit $?\"; sed '$a\\' /run/said\n{more}",
            variables.join(" "),
            arguments.join(" ")
        )
    }
}

impl Hook {
    /// The script needs time between an IPv6 address and the route from it; we do not.
    fn with_pause_for_ipv6(&self, call: &Call) -> Call {
        let is_v6 = |call: &Call| {
            call.variables.contains_key(OsStr::new("PLUTO_MY_SOURCEIP")) && call.get("PLUTO_MY_SOURCEIP").contains(':')
        };
        match self {
            Self::Stock(_) | Self::Planted(_, _) if is_v6(call) => {
                call.clone().with("PATH", format!("{PATIENCE}:{}", call.get("PATH")))
            }
            Self::Stock(_) | Self::Planted(_, _) | Self::Ours => call.clone(),
        }
    }
}

fn script(version: Version) -> String {
    let (_, variable) = version.names();
    let path =
        std::env::var(variable).unwrap_or_else(|_| panic!("{variable} says where the script is; contrib/test sets it"));
    format!("/bin/sh {}", quoted(&path))
}
