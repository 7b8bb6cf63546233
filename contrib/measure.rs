//! Measures hook calls. usage: measure RUNS CALLS PROGRAM [ARGUMENT ...]
//!
//! Makes the calls in a file like those in tests/captures, one after another, RUNS times and once more before that for the caches.
//! Prints the median of what each call took, in µs, a line for each, and in the last line that of all of them together.
//! `contrib/bench` builds it with rustc and runs it.

use std::env;
use std::error::Error;
use std::fs;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> Result<()> {
    let words: Vec<String> = env::args().skip(1).collect();
    let [runs, calls, program @ ..] = words.as_slice() else {
        return Err("usage: measure RUNS CALLS PROGRAM [ARGUMENT ...]".into());
    };
    let text = fs::read_to_string(calls)?;
    let calls: Vec<Vec<(&str, &str)>> = text
        .split("\n\n")
        .map(variables)
        .filter(|call| !call.is_empty())
        .collect();
    let mut times = vec![Vec::new(); calls.len() + 1];
    for run in 0..=runs.parse()? {
        let mut whole = Duration::ZERO;
        for (index, call) in calls.iter().enumerate() {
            let took = time(program, call)?;
            whole += took;
            if run > 0 {
                times[index].push(took);
            }
        }
        if run > 0 {
            times[calls.len()].push(whole);
        }
    }
    for mut times in times {
        times.sort();
        println!("{}", times[times.len() / 2].as_micros());
    }
    Ok(())
}

fn variables(block: &str) -> Vec<(&str, &str)> {
    block.lines().filter_map(|line| line.split_once('=')).collect()
}

/// What one call takes, from the start of the process until it has ended. It must succeed.
fn time(program: &[String], call: &[(&str, &str)]) -> Result<Duration> {
    let (path, arguments) = program.split_first().ok_or("no program")?;
    let mut command = Command::new(path);
    command.args(arguments).env_clear().envs(call.iter().copied());
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::inherit());
    let begin = Instant::now();
    let status = command.status()?;
    let took = begin.elapsed();
    match status.success() {
        true => Ok(took),
        false => Err(format!(
            "{path}, {:?}: {status}",
            call.iter().find(|(name, _)| *name == "PLUTO_VERB")
        )
        .into()),
    }
}
