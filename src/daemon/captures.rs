//! Calls of daemons, written down in a file.
//!
//! A captures file is text: `# words` say what was done just then, `> [argument] [argument]` begins
//! a call, and the lines up to the next blank one are its environment, `NAME=value`.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;

use super::raw_env::RawEnv;

/// One call of a captures file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CapturedCall {
    /// The line that it begins on, counted from 1.
    pub line: usize,
    /// A line in it that is no variable, counted from 1.
    pub fault: Option<usize>,
    arguments: Vec<OsString>,
    variables: Vec<(OsString, OsString)>,
}

impl CapturedCall {
    /// What its daemon gave to the hook.
    #[must_use]
    pub fn raw_env(&self) -> RawEnv {
        RawEnv::new(self.arguments.clone(), self.variables.clone())
    }
}

/// Parses a captures file. Text before, between and after its calls is skipped.
#[must_use]
pub fn captured_calls(bytes: &[u8]) -> Vec<CapturedCall> {
    let mut calls: Vec<CapturedCall> = Vec::new();
    let mut open = false;
    for (index, line) in bytes.split(|byte| *byte == b'\n').enumerate() {
        let number = index + 1;
        if let Some(arguments) = line.strip_prefix(b">") {
            calls.push(CapturedCall {
                line: number,
                arguments: split_words(arguments),
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
fn split_words(text: &[u8]) -> Vec<OsString> {
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
        let calls =
            captured_calls(b"# add\n\n> [custom] [a b]\nPLUTO_VERB=up-host\nX=a=b\n\n# rekey\n\n> \nPLUTO_PEER_ID=\n");
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
        assert_eq!(captured_calls(b"> \nA=b\nnonsense\n")[0].fault, Some(3));
        assert_eq!(captured_calls(b"> \nA=b\0c\n")[0].fault, Some(2));
    }
}
