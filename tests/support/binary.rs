//! The program itself, called as a daemon calls it: with an environment made from scratch.

#![allow(dead_code, reason = "each test binary uses its part of this module")]
#![expect(clippy::disallowed_methods, reason = "tests start programs")]

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt::{self, Write as _};
use std::io::Write as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use pluto_updown::daemon::{FirewallAction, RawEnv, Tunnel};
use pluto_updown::updown::read_event;

/// The program that cargo has built for these tests.
pub const PROGRAM: &str = env!("CARGO_BIN_EXE_pluto-updown");

/// How long a call may take here: much longer than any daemon waits, since the machine may be busy or emulated.
const CALL_TIMEOUT: Duration = Duration::from_secs(600);

/// One call of a daemon.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Call {
    pub arguments: Vec<OsString>,
    pub variables: BTreeMap<OsString, OsString>,
}

impl Call {
    /// No daemon's, but a command for people.
    pub fn command(words: &[&str]) -> Self {
        Self {
            arguments: words.iter().map(OsString::from).collect(),
            variables: BTreeMap::new(),
        }
    }

    /// The same call with a variable set, byte for byte.
    pub fn with(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.variables.insert(name.into(), value.as_ref().to_owned());
        self
    }

    /// The same call with several variables set.
    pub fn with_all(self, set: &[(&str, &str)]) -> Self {
        set.iter().fold(self, |call, (name, value)| call.with(name, value))
    }

    /// The same call without a variable.
    pub fn without(mut self, name: &str) -> Self {
        self.variables.remove(OsStr::new(name));
        self
    }

    /// The same call with another verb.
    pub fn with_verb(self, verb: &str) -> Self {
        self.with("PLUTO_VERB", verb)
    }

    /// The same call about a tunnel between hosts.
    pub fn between_hosts(self) -> Self {
        let verb = self.get("PLUTO_VERB").replace("-client", "-host");
        self.with_verb(&verb)
    }

    /// The same call of an association with this number, whose peer has this identity.
    pub fn of_peer(self, peer: &str, association: u32) -> Self {
        self.with("PLUTO_PEER_ID", peer)
            .with("PLUTO_UNIQUEID", association.to_string())
    }

    /// The same call about a tunnel for one protocol alone, whatever the ports.
    pub fn for_protocol(self, number: &str) -> Self {
        self.with("PLUTO_MY_PROTOCOL", number)
            .with("PLUTO_PEER_PROTOCOL", number)
    }

    /// The `down` of this `up`, or the `up` of this `down`.
    pub fn opposite(self) -> Self {
        let verb = self.get("PLUTO_VERB").to_owned();
        let turned = match verb.split_once('-') {
            Some(("up", scope)) => format!("down-{scope}"),
            Some(("down", scope)) => format!("up-{scope}"),
            _ => panic!("{verb} has no opposite"),
        };
        self.with_verb(&turned)
    }

    /// The same call about another tunnel of another connection: its peer's network is 10.NUMBER.0.0/24.
    pub fn of_tunnel(self, number: usize) -> Self {
        let network = format!("10.{number}.0");
        self.with("PLUTO_CONNECTION", format!("tunnel-{number}"))
            .with("PLUTO_PEER_CLIENT", format!("{network}.0/24"))
            .with("PLUTO_PEER_CLIENT_NET", format!("{network}.0"))
    }

    /// A variable that is known to be text.
    pub fn get(&self, name: &str) -> &str {
        let value = self.variables.get(OsStr::new(name)).and_then(|value| value.to_str());
        value.unwrap_or_else(|| panic!("{name} is not in the call"))
    }

    /// The call in the form of tests/captures.
    pub fn captured(&self) -> String {
        let mut text = ">\n".to_owned();
        for (name, value) in &self.variables {
            writeln!(text, "{}={}", name.display(), value.display()).expect("writing to a string");
        }
        text + "\n"
    }

    /// What it asks of the firewall, by the library.
    pub fn firewall_action(&self) -> FirewallAction {
        let event = read_event(&RawEnv::new(self.arguments.clone(), self.variables.clone()));
        event.unwrap_or_else(|error| panic!("{self}: {error}")).firewall
    }

    /// The tunnel that it is about.
    pub fn tunnel(&self) -> Tunnel {
        match self.firewall_action() {
            FirewallAction::Open(tunnel) | FirewallAction::Close(tunnel) => *tunnel,
            FirewallAction::Nothing => panic!("{self}: a verb without a tunnel"),
        }
    }
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.variables.is_empty() {
            return write!(f, "{:?}", self.arguments);
        }
        write!(f, "{} {}", self.get("PLUTO_VERB"), self.get("PLUTO_CONNECTION"))
    }
}

/// How to start the program: what stands before it on the command line, and its own options.
#[derive(Clone, Debug)]
pub struct Hook {
    before: Vec<OsString>,
    program: PathBuf,
    options: Vec<OsString>,
}

impl Hook {
    /// The program, which sees none of this machine's own files: no test may change `/etc/resolv.conf`.
    pub fn new() -> Self {
        Self {
            before: Vec::new(),
            program: PROGRAM.into(),
            options: vec!["--root".into(), "/nonexistent".into()],
        }
    }

    /// Started by another program, which gets these arguments and then the program's command line. The last one added is the
    /// one that starts ours.
    pub fn through<W: AsRef<OsStr>>(mut self, words: impl IntoIterator<Item = W>) -> Self {
        self.before
            .extend(words.into_iter().map(|word| word.as_ref().to_owned()));
        self
    }

    /// With these options behind those it already has.
    pub fn option(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.options.extend([name.into(), value.as_ref().to_owned()]);
        self
    }

    /// With this word behind the options it already has.
    pub fn word(mut self, word: &str) -> Self {
        self.options.push(word.into());
        self
    }

    /// Another copy of the program.
    pub fn program(mut self, program: impl Into<PathBuf>) -> Self {
        self.program = program.into();
        self
    }

    /// The whole command line of a call.
    pub fn line(&self, arguments: &[OsString]) -> Vec<OsString> {
        let mut line = self.before.clone();
        line.push(self.program.clone().into());
        line.extend(self.options.iter().chain(arguments).cloned());
        line
    }

    /// The call, ready to be started.
    pub fn command(&self, call: &Call) -> Command {
        let line = self.line(&call.arguments);
        let mut command = Command::new(&line[0]);
        command
            .args(&line[1..])
            .env_clear()
            .envs(&call.variables)
            .current_dir("/")
            .stdin(Stdio::null());
        command
    }

    /// Makes a call and waits for its end. A call that does not end is killed, and has then ended by a signal.
    pub fn call(&self, call: &Call) -> Ending {
        let mut command = assert_cmd::Command::from_std(self.command(call));
        Ending::from_output(
            command.timeout(CALL_TIMEOUT).output(),
            &format!("{:?}", self.line(&call.arguments)),
        )
    }

    /// Makes a call that must go well, and say nothing.
    pub fn expect_success(&self, call: &Call) {
        self.call(call).assert_done();
    }

    /// Runs a command for people.
    pub fn operate(&self, words: &[&str]) -> Ending {
        self.call(&Call::command(words))
    }
}

/// How a call ended and what it said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ending {
    pub code: Option<i32>,
    pub signal: Option<i32>,
    pub out: Vec<u8>,
    pub err: Vec<u8>,
}

impl Ending {
    fn from_output(output: std::io::Result<Output>, line: &str) -> Self {
        let Output { status, stdout, stderr } = output.unwrap_or_else(|error| panic!("{line}: {error}"));
        Self {
            code: status.code(),
            signal: status.signal(),
            out: stdout,
            err: stderr,
        }
    }

    pub fn out_text(&self) -> String {
        String::from_utf8_lossy(&self.out).into_owned()
    }

    /// What it wrote to standard error, without warnings of missing jumps of the administrator's: where `place = "own"` is tested, they
    /// often lead to the chains of one family only.
    pub fn err_but_own_jumps(&self) -> String {
        let text = self.err_text();
        let lines = text.lines().filter(|line| !line.contains("(place = \"own\")"));
        lines.map(|line| format!("{line}\n")).collect()
    }

    pub fn err_text(&self) -> String {
        String::from_utf8_lossy(&self.err).into_owned()
    }

    /// It went well, and warned of nothing. Returns what it said.
    #[track_caller]
    pub fn said(&self) -> String {
        let text = self.out_text();
        assert_eq!((self.code, self.err_text()), (Some(0), String::new()), "{text}");
        text
    }

    /// It went well, and said nothing: what a daemon hears from a hook it logs, or takes for a fault.
    #[track_caller]
    pub fn assert_done(&self) {
        assert_eq!((self.code, self.signal), (Some(0), None), "{}", self.err_text());
        assert_eq!((self.out_text(), self.err_text()), (String::new(), String::new()));
    }

    /// It failed with this code, said one line, and named these things in it.
    #[track_caller]
    pub fn assert_refused(&self, code: i32, named: &[&str]) {
        self.assert_one_line();
        let line = self.err_text();
        assert_eq!((self.code, self.signal), (Some(code), None), "{line}");
        for name in named {
            assert!(line.contains(name), "{name} is not named in: {line}");
        }
    }

    /// One line of printable text on standard error that can be read in a log, nothing on standard output.
    #[track_caller]
    pub fn assert_one_line(&self) {
        let line = self.err_text();
        assert_eq!(self.out_text(), "", "standard output of a hook");
        assert!(line.starts_with("pluto-updown: "), "{line:?}");
        assert!(line.ends_with('\n') && line.trim_end().len() < 255, "{line:?}");
        assert!(is_printable(self.err.strip_suffix(b"\n").unwrap_or(b"\n")), "{line:?}");
        assert!(!line.to_lowercase().contains("usage"), "{line:?}");
        assert!(!has_echo(&line), "a reason is given twice: {line:?}");
    }
}

/// Whether a line ends with a reason twice: so it does for an error that both shows its source and has it as its source.
fn has_echo(line: &str) -> bool {
    let mut parts = line.trim_end().rsplit(": ");
    parts.next() == parts.next()
}

/// Whether these bytes can go to a terminal: no newline either.
pub fn is_printable(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| (b' '..=b'~').contains(byte))
}

/// Writes a program that can be run. A shell does it: were the file open for writing here while another test starts a program, that
/// one would have it open too for a moment, and the system runs no file that is being written ("Text file busy").
pub fn write_program(path: &Path, content: &[u8]) {
    let script = "cat >\"$0\" && chmod 755 \"$0\"";
    let mut shell = Command::new("/bin/sh");
    let mut writer = shell
        .args(["-c", script])
        .arg(path)
        .stdin(Stdio::piped())
        .spawn()
        .expect("starting a shell");
    let written = writer.stdin.take().map(|mut pipe| pipe.write_all(content));
    assert!(matches!(written, Some(Ok(()))), "writing {}", path.display());
    assert!(
        writer.wait().expect("the end of the shell").success(),
        "writing {}",
        path.display()
    );
}
