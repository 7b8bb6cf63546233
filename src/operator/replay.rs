//! `replay FILE`: every call of a captures file, as if its daemon made it now.
//!
//! A captures file is text: `# words` say what was done just then, `> [argument] [argument]` begins a call, and the lines up to
//! the next blank one are its environment, `NAME=value`.

use std::ffi::OsString;
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::ffi::OsStringExt as _;
use std::path::Path;

use crate::cli::Options;
use crate::contract::Snapshot;
use crate::hook::{self, Done, HookError};
use crate::log::Log;
use crate::words::escaped;

/// One call of a captures file.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Call {
    /// The line that it begins on, counted from 1.
    line: usize,
    arguments: Vec<OsString>,
    variables: Vec<(OsString, OsString)>,
    /// A line in it that is no variable.
    fault: Option<usize>,
}

/// Replays the calls of a file, prints a line for each and a summary, and returns 0 if all of them went well.
pub(super) fn run(file: &Path, options: &Options) -> u8 {
    let bytes = match fs::read(file) {
        Ok(bytes) => bytes,
        Err(error) => {
            Log::Stderr.error(&format_args!("{}: cannot read: {error}", file.display()));
            return 2;
        }
    };
    let calls = calls(&bytes);
    if calls.is_empty() {
        Log::Stderr.error(&format_args!(
            "{}: no calls in it, expected lines that begin with >",
            file.display()
        ));
        return 2;
    }
    match replay(&calls, options) {
        Ok(0) => 0,
        Ok(_) => 1,
        Err(error) => {
            Log::Stderr.error(&format_args!("standard output: {error}"));
            1
        }
    }
}

/// Stops at no call; returns how many failed.
fn replay(calls: &[Call], options: &Options) -> io::Result<usize> {
    let mut output = io::stdout().lock();
    let mut failed = 0;
    for call in calls {
        let snapshot = Snapshot::new(call.arguments.clone(), call.variables.clone());
        let result = match call.fault {
            Some(line) => Err(format!("line {line}: expected NAME=value")),
            None => one(&snapshot, options)
                .map(|done| done.to_string())
                .map_err(|error| error.to_string()),
        };
        failed += usize::from(result.is_err());
        let (mark, words) = match &result {
            Ok(done) => ("ok", done),
            Err(error) => ("FAILED", error),
        };
        writeln!(
            output,
            "{:>5} {} {}: {mark}: {words}",
            call.line,
            shown(&snapshot, "PLUTO_VERB"),
            shown(&snapshot, "PLUTO_CONNECTION")
        )?;
    }
    writeln!(
        output,
        "{} calls, {} ok, {failed} failed",
        calls.len(),
        calls.len() - failed
    )?;
    Ok(failed)
}

fn one(snapshot: &Snapshot, options: &Options) -> Result<Done, HookError> {
    // The call's own arguments are read as a daemon's would be; where to work, this command line says.
    let Options { route, iproute, .. } = crate::cli::hook_arguments(snapshot.arguments())?;
    let options = Options {
        route,
        iproute,
        ..options.clone()
    };
    hook::call(snapshot, &options, Log::Stderr, hook::parent_daemon())
}

fn shown(snapshot: &Snapshot, name: &str) -> String {
    escaped(snapshot.get(name).map_or(b"-", |value| value.as_encoded_bytes()), 60)
}

fn calls(bytes: &[u8]) -> Vec<Call> {
    let mut calls: Vec<Call> = Vec::new();
    let mut open = false;
    for (index, line) in bytes.split(|byte| *byte == b'\n').enumerate() {
        let number = index + 1;
        if let Some(arguments) = line.strip_prefix(b">") {
            calls.push(Call {
                line: number,
                arguments: words(arguments),
                variables: Vec::new(),
                fault: None,
            });
            open = true;
        } else if line.is_empty() {
            open = false;
        } else if let (true, Some(call)) = (open, calls.last_mut()) {
            match variable(line) {
                Some(variable) => call.variables.push(variable),
                None => call.fault = call.fault.or(Some(number)),
            }
        }
    }
    calls
}

/// The arguments in `[custom] [arg]`.
fn words(text: &[u8]) -> Vec<OsString> {
    let inner = |part: &[u8]| {
        part.iter()
            .position(|byte| *byte == b']')
            .map(|end| OsString::from_vec(part[..end].to_vec()))
    };
    text.split(|byte| *byte == b'[').skip(1).filter_map(inner).collect()
}

fn variable(line: &[u8]) -> Option<(OsString, OsString)> {
    let equals = line
        .iter()
        .position(|byte| *byte == b'=')
        .filter(|equals| *equals > 0)?;
    if line.contains(&0) {
        return None;
    }
    Some((
        OsString::from_vec(line[..equals].to_vec()),
        OsString::from_vec(line[equals + 1..].to_vec()),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_read_with_their_arguments_and_values() {
        let calls = calls(b"# add\n\n> [custom] [a b]\nPLUTO_VERB=up-host\nX=a=b\n\n# rekey\n\n> \nPLUTO_PEER_ID=\n");
        assert_eq!(calls.len(), 2);
        assert_eq!(
            (calls[0].line, calls[0].arguments.clone()),
            (3, vec!["custom".into(), "a b".into()])
        );
        assert_eq!(calls[0].variables[1], ("X".into(), "a=b".into()));
        assert_eq!((calls[1].line, calls[1].arguments.len(), calls[1].fault), (9, 0, None));
    }

    #[test]
    fn a_line_that_is_no_variable_is_named() {
        assert_eq!(calls(b"> \nA=b\nnonsense\n")[0].fault, Some(3));
        assert_eq!(calls(b"> \nA=b\0c\n")[0].fault, Some(2));
    }
}
