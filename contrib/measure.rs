//! Measures hook calls, one way against another. usage: measure RUNS WAYS
//!
//! WAYS is a file with a line for each way, words separated by blanks:
//!
//! - `NAME NAMESPACE calls FILE PROGRAM [ARGUMENT ...]` makes the calls in a file like those in tests/captures, one after another. A line
//!   `< FILE` in a call is what its program reads.
//! - `NAME NAMESPACE packets FROM TO COUNT` sends so many short UDP packets from one address to another. Where both ends and what is
//!   between them are namespaces of this machine, the sender's time is that of the whole way.
//!
//! NAMESPACE is the path of a network namespace, or `-` for this one. The ways take turns, so that whatever else this machine does falls
//! upon all of them alike. The first turn is not counted: its caches are cold.
//!
//! Prints a line for each way: its name, the median of what each of its calls took, in ns, and in the end that of all of them together;
//! or the least that a packet took, as whatever else the machine does in so short a time only adds to it. `contrib/bench` builds it with rustc and runs it.

use std::env;
use std::error::Error;
use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::net::UdpSocket;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Instant;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> Result<()> {
    let words: Vec<String> = env::args().skip(1).collect();
    match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["--serve", "calls", file, ref program @ ..] => make_calls(file, program),
        ["--serve", "packets", from, to, count] => send_packets(from, to, count.parse()?),
        [runs, ways] => compare(runs.parse()?, &fs::read_to_string(ways)?),
        _ => Err("usage: measure RUNS WAYS".into()),
    }
}

fn compare(runs: usize, ways: &str) -> Result<()> {
    let mut ways = ways.lines().map(Way::start).collect::<Result<Vec<_>>>()?;
    for run in 0..=runs {
        for way in &mut ways {
            let times = way.turn()?;
            if run > 0 {
                way.times.push(times);
            }
        }
    }
    for way in &mut ways {
        way.tell();
    }
    Ok(())
}

/// A way to do something, in a process of its own, which stays in its network namespace.
struct Way {
    name: String,
    server: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
    times: Vec<Vec<u128>>,
    shown: Shown,
}

/// Which of many times is shown.
enum Shown {
    Median,
    Least,
}

impl Way {
    fn start(line: &str) -> Result<Self> {
        let mut words = line.split_whitespace();
        let (Some(name), Some(namespace)) = (words.next(), words.next()) else {
            return Err(format!("not a way: {line}").into());
        };
        let shown = match words.clone().next() {
            Some("packets") => Shown::Least,
            _ => Shown::Median,
        };
        let this = env::current_exe()?;
        let mut command = match namespace {
            "-" => Command::new(this),
            path => {
                let mut command = Command::new("nsenter");
                command.arg(format!("--net={path}")).arg(this);
                command
            }
        };
        let mut server = command
            .arg("--serve")
            .args(words)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let pipes = server.stdin.take().zip(server.stdout.take());
        let (orders, answers) = pipes.ok_or("no pipes")?;
        Ok(Self {
            name: name.to_owned(),
            server,
            orders,
            answers: BufReader::new(answers),
            times: Vec::new(),
            shown,
        })
    }

    fn turn(&mut self) -> Result<Vec<u128>> {
        self.orders.write_all(b"go\n")?;
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        if line.is_empty() {
            return Err(format!("{}: {}", self.name, self.server.wait()?).into());
        }
        let mut times = line
            .split_whitespace()
            .map(str::parse)
            .collect::<std::result::Result<Vec<u128>, _>>()?;
        times.push(times.iter().sum());
        Ok(times)
    }

    fn tell(&self) {
        let calls = self.times.first().map_or(0, Vec::len);
        let one = |call: usize| {
            let mut times: Vec<_> = self.times.iter().map(|turn| turn[call]).collect();
            times.sort_unstable();
            match self.shown {
                Shown::Median => times[times.len() / 2].to_string(),
                Shown::Least => times[0].to_string(),
            }
        };
        let shown: Vec<_> = (0..calls).map(one).collect();
        println!("{} {}", self.name, shown.join(" "));
    }
}

/// Makes the calls each time that a line comes in, and answers with what each of them took.
fn make_calls(file: &str, program: &[&str]) -> Result<()> {
    let text = fs::read_to_string(file)?;
    let calls: Vec<Call> = text
        .split("\n\n")
        .map(Call::read)
        .filter(|call| !call.is_empty())
        .collect();
    for line in io::stdin().lines() {
        line?;
        let times = calls.iter().map(|call| call.time(program)).collect::<Result<Vec<_>>>()?;
        println!("{}", times.join(" "));
    }
    Ok(())
}

/// Sends packets each time that a line comes in, and answers with what one of them took.
fn send_packets(from: &str, to: &str, count: u32) -> Result<()> {
    let socket = UdpSocket::bind((from, 0))?;
    socket.connect((to, 9))?;
    for line in io::stdin().lines() {
        line?;
        let begin = Instant::now();
        for _ in 0..count {
            socket.send(&[0])?;
        }
        println!("{}", begin.elapsed().as_nanos() / u128::from(count));
    }
    Ok(())
}

struct Call<'a> {
    variables: Vec<(&'a str, &'a str)>,
    input: Option<&'a str>,
}

impl<'a> Call<'a> {
    fn read(block: &'a str) -> Self {
        Self {
            variables: block.lines().filter_map(|line| line.split_once('=')).collect(),
            input: block.lines().find_map(|line| line.strip_prefix("< ")),
        }
    }

    fn is_empty(&self) -> bool {
        self.variables.is_empty() && self.input.is_none()
    }

    /// From the start of the process until it has ended, in ns. It must succeed.
    fn time(&self, program: &[&str]) -> Result<String> {
        let (path, arguments) = program.split_first().ok_or("no program")?;
        let input = self.input.map_or(Ok(Stdio::null()), |file| File::open(file).map(Stdio::from))?;
        let mut command = Command::new(path);
        command
            .args(arguments)
            .env_clear()
            .envs(self.variables.iter().copied())
            .stdin(input)
            .stdout(Stdio::null());
        let begin = Instant::now();
        let status = command.status()?;
        let took = begin.elapsed().as_nanos().to_string();
        if status.success() {
            return Ok(took);
        }
        let verb = self.variables.iter().find(|(name, _)| *name == "PLUTO_VERB");
        Err(format!("{path}, {verb:?}: {status}").into())
    }
}
