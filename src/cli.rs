//! The command line.
//!
//! In hook mode it is read by hand: the daemon starts us for every event, a usage text would be
//! logged line by line, and the stock scripts' own arguments have a form of their own. Commands for
//! people go through clap.

mod names;

use std::ffi::{OsStr, OsString};
use std::path::{PathBuf, absolute};
use std::time::Duration;

use clap::error::{ContextKind, ContextValue};
use clap::{Args, CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

use crate::net::Expected;
use crate::settings::{AlwaysRoute, RouteArguments};
use crate::words::{escaped, nearest};

/// Where the record is unless `--state-dir` says otherwise.
pub(crate) const DEFAULT_STATE_DIR: &str = "/run/pluto-updown";

/// Where the system's own files are unless `--root` says otherwise.
const DEFAULT_ROOT: &str = "/";

/// How long the xtables lock is waited for unless `--wait` says otherwise.
const DEFAULT_WAIT: Duration = Duration::from_secs(5);

/// The options of every call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// The settings file, if another than the default one.
    pub config: Option<PathBuf>,
    /// Where the record is.
    pub state_dir: PathBuf,
    /// Where iptables and other programs are; empty for the usual places.
    pub programs: Vec<PathBuf>,
    /// How long the xtables lock is waited for.
    pub wait: Duration,
    /// What the system's own files are below: `/etc/resolv.conf`, `/proc`, `/run/systemd`.
    pub root: PathBuf,
    /// Whether anything is done.
    pub mode: Mode,
    /// Whether routes, addresses and interfaces are configured.
    pub routing: RoutingOwner,
    /// Whether a tunnel that needs no route gets one all the same; said nothing, the stock scripts'
    /// settings file decides.
    pub route: Option<AlwaysRoute>,
    /// Further words for routes.
    pub iproute: RouteArguments,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            config: None,
            state_dir: PathBuf::from(DEFAULT_STATE_DIR),
            programs: Vec::new(),
            wait: DEFAULT_WAIT,
            root: PathBuf::from(DEFAULT_ROOT),
            mode: Mode::Real,
            routing: RoutingOwner::Ours,
            route: None,
            iproute: RouteArguments::default(),
        }
    }
}

impl Options {
    /// The same with paths from the root, because the programs that we start run in another folder.
    fn with_absolute_paths(mut self) -> Self {
        let paths = [&mut self.state_dir, &mut self.root].into_iter();
        for path in paths.chain(&mut self.config).chain(&mut self.programs) {
            // An empty path has no absolute one: it stays, and is refused as what it is.
            if let Ok(absolute) = absolute(&*path) {
                *path = absolute;
            }
        }
        self
    }
}

/// Whether anything is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// It is.
    Real,
    /// It is only shown.
    DryRun,
}

/// Which program configures routes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RoutingOwner {
    /// This program, as the stock scripts do.
    Ours,
    /// Another program's: a hook that calls this one, or a routing daemon.
    Others,
}

/// What is wrong with the arguments of a hook call.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HookArgumentError {
    /// Not one of those that the stock scripts or this program know.
    #[error(
        "unknown argument \"{0}\", expected iptables, custom ..., --route yes|no, --iproute ARGS, --no-routes, --config FILE, --state-dir DIR, --programs DIR, --root DIR, --wait SECONDS or --dry-run"
    )]
    Unknown(String),
    /// It needs a value.
    #[error("{option} needs {expected}")]
    Value {
        /// The option.
        option: String,
        /// What should follow it.
        expected: &'static str,
    },
}

/// Reads the arguments of a hook call: our own options, and those of the stock scripts.
///
/// `iptables` (strongSwan) and `ipfwadm` (FreeS/WAN) ask for what is done in any case. After
/// `custom` words that nobody knows are the administrator's own, as with every stock script.
///
/// # Errors
/// If a word is none of these, or a value is missing or malformed.
pub fn hook_arguments(arguments: &[OsString]) -> Result<Options, HookArgumentError> {
    let mut options = Options::default();
    let mut custom = false;
    let mut rest = arguments.iter().map(OsString::as_os_str);
    while let Some(word) = rest.next() {
        let (name, attached) = split_assignment(word);
        let mut value = |expected| {
            attached
                .clone()
                .or_else(|| rest.next().map(OsStr::to_owned))
                .ok_or(HookArgumentError::Value {
                    option: quoted_word(&name),
                    expected,
                })
        };
        match name.to_str() {
            Some("iptables" | "ipfwadm" | "") => {}
            Some("custom") => custom = true,
            Some("--route") => options.route = Some(always_route(&value("yes or no")?)),
            Some("--iproute") => options.iproute = route_arguments(&value("arguments of ip route")?)?,
            Some("--no-routes") => options.routing = RoutingOwner::Others,
            Some("--dry-run") => options.mode = Mode::DryRun,
            Some("--config") => options.config = Some(value("a file")?.into()),
            Some("--state-dir") => options.state_dir = value("a directory")?.into(),
            Some("--programs") => options.programs.push(value("a directory")?.into()),
            Some("--root") => options.root = value("a directory")?.into(),
            Some("--wait") => options.wait = parse_seconds(&value("a number of seconds from 1 to 60")?)?,
            _ if custom => {}
            _ => return Err(HookArgumentError::Unknown(quoted_word(word))),
        }
    }
    Ok(options.with_absolute_paths())
}

/// `--option=value` in two; a word without `=` alone.
fn split_assignment(word: &OsStr) -> (OsString, Option<OsString>) {
    match word
        .to_str()
        .filter(|text| text.starts_with("--"))
        .and_then(|text| text.split_once('='))
    {
        Some((name, value)) => (name.into(), Some(value.into())),
        None => (word.to_owned(), None),
    }
}

/// As the stock scripts take it: what begins like `yes` is yes.
fn always_route(value: &OsStr) -> AlwaysRoute {
    match value.as_encoded_bytes().first() {
        Some(b'y' | b'Y') => AlwaysRoute::Yes,
        Some(_) | None => AlwaysRoute::No,
    }
}

fn route_arguments(value: &OsStr) -> Result<RouteArguments, HookArgumentError> {
    let words = value.to_string_lossy();
    words.parse().map_err(|Expected(expected)| HookArgumentError::Value {
        option: "--iproute".to_owned(),
        expected,
    })
}

fn parse_seconds(value: &OsStr) -> Result<Duration, HookArgumentError> {
    let number = value
        .to_str()
        .and_then(|text| text.parse().ok())
        .filter(|seconds| (1..=60).contains(seconds));
    number.map(Duration::from_secs).ok_or(HookArgumentError::Value {
        option: "--wait".to_owned(),
        expected: "a number of seconds from 1 to 60",
    })
}

/// A word of the command line in an error.
fn quoted_word(word: &OsStr) -> String {
    escaped(word.as_encoded_bytes(), 60)
}

/// How every help looks: it fits a screen of 80 columns and 24 lines. Lines are broken by hand,
/// since nothing here asks how wide the terminal is.
const HELP: &str = "{about}\n{usage-heading} {usage}\n{all-args}{after-help}";

/// The same for the program itself.
const PROGRAM_HELP: &str = "\
{about}
An IPsec daemon runs it as leftupdown= (ipsec.conf) or updown = (swanctl.conf),
with PLUTO_VERB set. You run it with a command. Manual: man 8 pluto-updown
{usage-heading} {usage}
Commands:
{subcommands}
Options:
{options}";

// Of a doc comment below only the first paragraph is shown, so that -h and --help are the same.
/// Open the firewall for IPsec tunnels, as the hook of libreswan or strongSwan.
#[derive(Debug, Parser)]
#[command(name = "pluto-updown", version, disable_help_subcommand = true, help_template = PROGRAM_HELP)]
pub struct CommandLine {
    /// The options of every command.
    #[command(flatten)]
    pub common: Common,
    /// What to do.
    #[command(subcommand)]
    pub command: CliCommand,
}

/// The options of every command.
#[derive(Debug, Args)]
pub struct Common {
    /// Settings file [default: /etc/pluto-updown.toml]
    #[arg(
        long,
        value_name = "FILE",
        global = true,
        display_order = 100,
        overrides_with = "config"
    )]
    config: Option<PathBuf>,
    /// State directory [default: /run/pluto-updown]
    #[arg(long, display_order = 101, hide_default_value = true, value_name = "DIR", global = true, default_value = DEFAULT_STATE_DIR)]
    state_dir: PathBuf,
    /// Look for iptables and other programs in DIR only
    #[arg(long, display_order = 102, value_name = "DIR", global = true)]
    programs: Vec<PathBuf>,
    /// Take /etc/resolv.conf, /proc and /run/systemd from below DIR
    // For tests; the manual page has it.
    #[arg(long, value_name = "DIR", global = true, default_value = DEFAULT_ROOT, overrides_with = "root", hide = true)]
    root: PathBuf,
    /// Maximum time to wait for the xtables lock
    #[arg(short, long, display_order = 103, value_name = "SECONDS", global = true, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=60))]
    wait: u64,
    /// Leave routes, addresses and interfaces alone
    #[arg(long, display_order = 104, global = true)]
    no_routes: bool,
    /// Show what would be done, and do nothing
    #[arg(short = 'n', long, display_order = 105, global = true)]
    dry_run: bool,
}

impl From<Common> for Options {
    fn from(common: Common) -> Self {
        let Common {
            config,
            state_dir,
            programs,
            wait,
            no_routes,
            root,
            dry_run,
        } = common;
        let mode = if dry_run { Mode::DryRun } else { Mode::Real };
        Self {
            config,
            state_dir,
            programs,
            wait: Duration::from_secs(wait),
            root,
            mode,
            routing: if no_routes {
                RoutingOwner::Others
            } else {
                RoutingOwner::Ours
            },
            ..Self::default()
        }
        .with_absolute_paths()
    }
}

/// The commands for people.
#[derive(Debug, Subcommand)]
pub enum CliCommand {
    /// Apply the settings: gateway rules, and tunnels that are up
    #[command(help_template = HELP)]
    Start {
        /// If the file has an error, apply the last valid settings
        #[arg(long)]
        boot: bool,
        /// Remove restrictions even if there is no settings file
        #[arg(long)]
        force: bool,
        /// With --dry-run: print the rules too
        #[arg(short, long)]
        verbose: bool,
    },
    /// Remove the gateway rules; tunnels that are up keep theirs
    #[command(help_template = HELP)]
    Stop {
        /// With --dry-run: print the rules too
        #[arg(short, long)]
        verbose: bool,
    },
    /// Allow unencrypted packets that when-down = "block" drops
    #[command(help_template = HELP)]
    Unblock {
        /// Only those of this connection or network
        #[arg(value_name = "CONNECTION|NETWORK", value_parser = clap::builder::NonEmptyStringValueParser::new())]
        which: Option<String>,
        /// Every blocked pair
        #[arg(long, conflicts_with = "which")]
        all: bool,
        /// With --dry-run: print the rules too
        #[arg(short, long)]
        verbose: bool,
    },
    /// Find problems before they occur, and how to fix them
    #[command(help_template = HELP)]
    Check {
        /// With this process's rights, and only the checks that depend on them: how `check` runs
        /// itself
        #[arg(long, hide = true)]
        as_daemon: bool,
    },
    /// Remove every rule and chain of pluto-updown
    #[command(help_template = HELP)]
    Flush {
        /// Also delete rules of yours that jump to a PLUTO chain
        #[arg(long)]
        force: bool,
        /// Do not ask, though tunnels are up that lose their rules
        #[arg(short, long)]
        yes: bool,
        /// With --dry-run: print the rules too
        #[arg(short, long)]
        verbose: bool,
    },
    /// Show what a tunnel allows, or the verdict on a packet
    #[command(help_template = HELP, after_help = PACKET_HELP, override_usage = "pluto-updown explain [OPTIONS] [NAME | FROM TO [SERVICE]]")]
    Explain {
        /// A tunnel, or the ends of a packet; none: list the tunnels
        #[arg(value_name = "WORD", num_args = 0..=4, value_parser = clap::builder::NonEmptyStringValueParser::new())]
        words: Vec<String>,
        /// The verdict on a packet, also of a named tunnel
        #[arg(long, num_args = 2..=4, value_names = ["FROM", "TO"])]
        packet: Option<Vec<String>>,
        /// Draw the path of the tunnel's packets, in text
        #[arg(long, conflicts_with = "packet")]
        diagram: bool,
        /// Draw it as SVG, and print nothing else
        #[arg(long, conflicts_with_all = ["packet", "diagram"])]
        svg: bool,
        /// Also show the chains and other paths
        #[arg(short, long)]
        verbose: bool,
    },
    /// Remove the rules of tunnels that are no longer up
    #[command(help_template = HELP)]
    Prune {
        /// With --dry-run: print the rules too
        #[arg(short, long)]
        verbose: bool,
    },
    /// Reinstall rules that a firewall reload removed
    #[command(help_template = HELP)]
    Restore {
        /// Print every difference; with --dry-run: the rules too
        #[arg(short, long)]
        verbose: bool,
    },
    /// Show tunnels, counters and missing rules
    #[command(help_template = HELP)]
    Status(StatusArguments),
    /// Run every call in a captures file
    #[command(help_template = HELP)]
    Replay {
        /// `> [ARGUMENT] ...` begins a call; its environment, up to a blank line
        file: PathBuf,
    },
}

/// The arguments of `status`.
#[derive(Debug, Args)]
pub struct StatusArguments {
    /// Only tunnels of this connection, user, peer or address
    #[arg(value_name = "NAME|USER|ADDRESS", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub which: Vec<String>,
    /// All about each tunnel, and every problem
    #[arg(short, long)]
    pub verbose: bool,
    /// Who is connected, from where and since when
    #[arg(short, long, conflicts_with_all = ["json", "prometheus", "nagios"])]
    pub users: bool,
    /// Again every SECONDS (2), with traffic per second
    // Two options: whether it is given, and with which value.
    #[arg(short, long, value_name = "SECONDS", num_args = 0..=1, require_equals = true, value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub watch: Option<Option<u64>>,
    /// A problem if no tunnel of this connection is up
    #[arg(long, value_name = "NAME")]
    pub expect: Vec<String>,
    /// In JSON, for programs (docs/status.md)
    #[arg(short, long)]
    pub json: bool,
    /// For node_exporter's textfile collector
    #[arg(long, conflicts_with = "json")]
    pub prometheus: bool,
    /// As a Nagios plugin
    #[arg(long, conflicts_with_all = ["json", "prometheus", "watch"])]
    pub nagios: bool,
    /// Only the names of connections that are up
    #[arg(long, conflicts_with_all = ["json", "watch", "users", "prometheus", "nagios", "expect", "verbose"])]
    pub names: bool,
}

/// The common options that a command has no use for. They are accepted all the same, because
/// scripts give them to every command alike; its help does not have them.
fn unused_options(command: &str) -> &'static [&'static str] {
    match command {
        "start" | "stop" | "unblock" | "flush" | "prune" => &["no_routes"],
        "check" => &["no_routes", "dry_run"],
        "explain" | "status" => &["wait", "no_routes", "dry_run"],
        _ => &[],
    }
}

/// The whole command line, as it is parsed and as help shows it.
#[must_use]
pub fn command_line() -> clap::Command {
    let line = CommandLine::command();
    let common: Vec<_> = line.get_arguments().cloned().collect();
    let names: Vec<_> = line
        .get_subcommands()
        .map(|command| command.get_name().to_owned())
        .collect();
    names.iter().fold(line, |line, name| {
        let unused = common
            .iter()
            .filter(|option| unused_options(name).contains(&option.get_id().as_str()));
        let unused: Vec<_> = unused
            .map(|option| {
                let option = option.clone().hide(true);
                // `-w` of `status` is its own.
                match (name.as_str(), option.get_short()) {
                    ("status", Some('w')) => option.short(None),
                    _ => option,
                }
            })
            .collect();
        line.mut_subcommand(name, |command| command.args(unused))
    })
}

/// Reads a command line.
///
/// # Errors
/// If it is not understood, or asks for help.
pub fn parse(arguments: Vec<OsString>) -> Result<CommandLine, clap::Error> {
    let mut line = command_line();
    let arguments = names::with_own_names(arguments, &line);
    let matches = line.try_get_matches_from_mut(arguments)?;
    CommandLine::from_arg_matches(&matches).map_err(|error| error.format(&mut line))
}

/// The text for a command line that asks for help, or has an error: then with the most similar
/// command, if there is one.
#[must_use]
pub(crate) fn one_line_error(error: &clap::Error) -> String {
    let text = error.render().to_string();
    let Some(ContextValue::String(word)) = error.get(ContextKind::InvalidSubcommand) else {
        return text;
    };
    let line = CommandLine::command();
    let names: Vec<_> = line.get_subcommands().map(clap::Command::get_name).collect();
    let most_similar = || nearest(word, &names).map(|meant| format!("\"{meant}\""));
    match names::command_hint(word).or_else(most_similar) {
        Some(meant) => format!("{}\n\ndid you mean {meant}?\n", text.trim_end()),
        None => text,
    }
}

/// What a packet is.
const PACKET_HELP: &str = "\
NAME is a connection, or the short name of a tunnel as in its chains.
FROM and TO are addresses or host names. A SERVICE is a TCP port, or as in
/etc/services or the settings file: 443, https, tcp:443, udp 53, ping, esp.
  pluto-updown explain 10.2.0.9 10.1.0.5 443
  pluto-updown explain branch.example db.example:5432
  pluto-updown explain NAME --packet 10.2.0.9 10.1.0.5 ping";

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_words(words: &[&str]) -> Result<Options, HookArgumentError> {
        hook_arguments(&words.iter().map(OsString::from).collect::<Vec<_>>())
    }

    #[test]
    fn the_stock_scripts_arguments_are_understood() {
        for words in [&["iptables"][..], &["ipfwadm"], &["custom", "a", "--b"], &[""]] {
            assert_eq!(parse_words(words), Ok(Options::default()), "{words:?}");
        }
    }

    #[test]
    fn our_own_options_are_understood_beside_them() {
        let options = parse_words(&[
            "custom",
            "mine",
            "--dry-run",
            "--state-dir=/x",
            "--wait",
            "7",
            "--config",
            "/y",
        ])
        .unwrap();
        assert_eq!(options.mode, Mode::DryRun);
        assert_eq!(options.state_dir, PathBuf::from("/x"));
        assert_eq!(options.config, Some(PathBuf::from("/y")));
        assert_eq!(options.wait, Duration::from_secs(7));
    }

    #[test]
    fn relative_paths_are_made_absolute_at_the_border() {
        let here = std::env::current_dir().unwrap();
        let words = ["--config", "c", "--state-dir", "s", "--programs", "p", "--root", "r"];
        let command = CommandLine::try_parse_from([&["pluto-updown"][..], &words, &["check"]].concat()).unwrap();
        for options in [parse_words(&words).unwrap(), Options::from(command.common)] {
            assert_eq!(options.config, Some(here.join("c")));
            assert_eq!(options.state_dir, here.join("s"));
            assert_eq!(options.programs, [here.join("p")]);
            assert_eq!(options.root, here.join("r"));
        }
    }

    #[test]
    fn the_words_about_routes_are_kept() {
        for (word, route) in [
            ("yes", AlwaysRoute::Yes),
            ("Y", AlwaysRoute::Yes),
            ("no", AlwaysRoute::No),
            ("", AlwaysRoute::No),
        ] {
            assert_eq!(parse_words(&["--route", word]).unwrap().route, Some(route), "{word}");
        }
        let options = parse_words(&["--iproute", "mtu 1400 metric 5"]).unwrap();
        assert_eq!(options.iproute, "mtu 1400 metric 5".parse().unwrap());
        let error = parse_words(&["--iproute=mtu; id"]).unwrap_err().to_string();
        assert!(
            error.starts_with("--iproute needs arguments of ip route: via ADDRESS"),
            "{error}"
        );
    }

    #[test]
    fn an_unknown_word_is_named_and_escaped() {
        let error = parse_words(&["--help\n\u{1b}"]).unwrap_err().to_string();
        assert!(
            error.starts_with("unknown argument \"--help\\n\\x1b\", expected"),
            "{error}"
        );
    }

    #[test]
    fn a_missing_or_senseless_value_is_named() {
        assert_eq!(
            parse_words(&["--config"]).unwrap_err().to_string(),
            "--config needs a file"
        );
        for wait in ["0", "61", "x", "-1"] {
            assert!(parse_words(&["--wait", wait]).is_err(), "{wait}");
        }
    }
}
