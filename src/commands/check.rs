//! `check`: what would go wrong, before it does.
//!
//! It changes nothing. Each finding says what was found, why it matters, and how to fix it.

mod configuration;
mod confinement;
mod connections;
mod firewall;
mod marks;
mod rights;

use std::fmt;

use nix::unistd::geteuid;

use super::command_context::{CommandContext, print};
use super::paint::{Tone, on_stdout, painted};
use super::status::Colours;
use crate::cli::Options;
use crate::dns;
use crate::settings::{DEFAULT_PATH, Settings, StockSettings};
use crate::updown::HookError;
use crate::words::{counted_noun, one_line};

/// Whose rights the checks are made with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Privileges {
    /// The administrator's.
    Administrator,
    /// Those that Pluto leaves its hook: asked by ourselves, of ourselves.
    Daemon,
}

/// How much a finding matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FindingSeverity {
    /// As it should be.
    Fine,
    /// Worth knowing; it need not be wrong.
    Note,
    /// It is wrong, or will go wrong.
    Wrong,
}

/// What a check has found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Finding {
    pub(super) severity: FindingSeverity,
    pub(super) what: String,
    /// Why it matters and how to fix it, if it has to be fixed.
    pub(super) advice: Option<(String, String)>,
}

impl Finding {
    pub(super) fn ok_finding(what: impl fmt::Display) -> Self {
        Self {
            severity: FindingSeverity::Fine,
            what: one_line(&what.to_string()),
            advice: None,
        }
    }

    pub(super) fn note_finding(what: impl fmt::Display, why: &str, fix: &str) -> Self {
        Self::advising(FindingSeverity::Note, &what, why, fix)
    }

    pub(super) fn wrong_finding(what: impl fmt::Display, why: &str, fix: &str) -> Self {
        Self::advising(FindingSeverity::Wrong, &what, why, fix)
    }

    fn advising(weight: FindingSeverity, what: &dyn fmt::Display, why: &str, fix: &str) -> Self {
        Self {
            severity: weight,
            what: one_line(&what.to_string()),
            advice: Some((one_line(why), one_line(fix))),
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mark = match self.severity {
            FindingSeverity::Fine => "ok",
            FindingSeverity::Note => "note",
            FindingSeverity::Wrong => "WRONG",
        };
        writeln!(f, "{mark:<6}{}", self.what)?;
        match &self.advice {
            None => Ok(()),
            Some((why, fix)) => {
                folded(f, "why:  ", why)?;
                folded(f, "fix:  ", fix)
            }
        }
    }
}

/// A text under what it is about, in lines of at most 80 columns where its words allow it.
fn folded(f: &mut fmt::Formatter<'_>, heading: &str, text: &str) -> fmt::Result {
    const WIDTH: usize = 68;
    let mut line = String::new();
    let mut heading = heading;
    for word in text.split(' ') {
        if !line.is_empty() && line.len() + 1 + word.len() > WIDTH {
            writeln!(f, "      {heading:<6}{line}")?;
            heading = "";
            line.clear();
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    writeln!(f, "      {heading:<6}{line}")
}

/// A finding with its mark in a colour, where it is wrong.
fn finding_text(finding: &Finding, colours: Colours) -> String {
    let text = finding.to_string();
    match text.strip_prefix("WRONG") {
        Some(rest) => painted("WRONG", Tone::Bad, colours) + rest,
        None => text,
    }
}

/// Makes all checks, and returns 1 if something is wrong.
pub(super) fn run(options: &Options, rights: Privileges, colours: Colours) -> Result<u8, HookError> {
    if rights == Privileges::Administrator && !geteuid().is_root() {
        return Err(HookError::NotRoot);
    }
    let colours = on_stdout(colours);
    let command = CommandContext::new(options)?;
    let mut findings = settings(options);
    findings.extend(firewall::findings(&command));
    findings.extend(rights::findings(&command));
    findings.extend(name_servers(&command)?);
    if rights == Privileges::Administrator {
        let of_daemon = rights::as_daemon(&command, &findings);
        findings.extend(of_daemon);
        findings.extend(configuration::findings(&options.root));
        let bit = command.context().settings.gateway.mark;
        findings.extend(marks::of_daemons(bit, &options.root));
        findings.extend(confinement::findings(&options.root));
        // Settings with an error are a finding of their own.
        if let Ok(settings) = Settings::load(options.config.as_deref()) {
            findings.extend(connections::findings(&options.root, &settings));
        }
    }
    let text: String = findings.iter().map(|finding| finding_text(finding, colours)).collect();
    print(&text)?;
    let wrong = findings
        .iter()
        .filter(|finding| finding.severity == FindingSeverity::Wrong)
        .count();
    if rights == Privileges::Administrator {
        let tone = if wrong > 0 { Tone::Bad } else { Tone::Good };
        let summary = format!("{}, {wrong} wrong", counted_noun(findings.len(), "check"));
        print(&format!("{}\n", painted(&summary, tone, colours)))?;
    }
    Ok(u8::from(wrong > 0))
}

/// What of a peer's name servers could not be undone, or not be confirmed.
fn name_servers(command: &CommandContext<'_>) -> Result<Vec<Finding>, HookError> {
    let (_, unfinished) = dns::report(&command.peek())?;
    let findings = unfinished.into_iter().map(|line| {
        Finding::wrong_finding(
            line,
            "names may be looked up at a peer whose tunnel is down; every later call tries again",
            "pluto-updown restore; if it names a program that failed or hangs, repair that program",
        )
    });
    Ok(findings.collect())
}

fn settings(options: &Options) -> Vec<Finding> {
    let settings = Settings::load(options.config.as_deref());
    let patterns = settings.as_ref().map(patterns).unwrap_or_default();
    let own = match (settings, &options.config) {
        (Ok(_), Some(path)) => Finding::ok_finding(format_args!("{}: valid", path.display())),
        (Ok(_), None) if Settings::is_file_absent(None) => Finding::ok_finding(format_args!(
            "{DEFAULT_PATH}: not there: defaults, every tunnel fully open"
        )),
        (Ok(_), None) => Finding::ok_finding(format_args!("{DEFAULT_PATH}: valid")),
        (Err(error), _) => Finding::wrong_finding(
            error,
            "no tunnel is opened while the settings have an error; tunnels that are open stay open",
            "correct this line, or delete it",
        ),
    };
    let stock = StockSettings::load(&options.root).warning.map(|warning| {
        Finding::note_finding(
            warning,
            "the stock scripts run this file as shell; pluto-updown reads only ROUTE= and IPROUTEARGS=",
            "move the command elsewhere, or delete the line",
        )
    });
    std::iter::once(own).chain(patterns).chain(stock).collect()
}

/// The patterns that do not fit what a daemon writes.
fn patterns(settings: &Settings) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (number, entry) in (1..).zip(&settings.connections) {
        if let Some(user) = entry.filter.user.as_ref().filter(|user| !user.is_stripped()) {
            findings.push(Finding::note_finding(
                format_args!("[[connection]] {number}: user = \"{user}\" never matches under libreswan"),
                "libreswan strips user names to -_.0-9A-Za-z: it calls anna@example.org annaexample.org",
                "under libreswan write the stripped name",
            ));
        }
        let patterns = [("peer-id", &entry.filter.remote_id), ("user", &entry.filter.user)];
        for (key, pattern) in patterns {
            if let Some(pattern) = pattern.as_ref().filter(|pattern| !pattern.is_ascii()) {
                findings.push(Finding::note_finding(
                    format_args!(
                        "[[connection]] {number}: {key} = \"{pattern}\" may or may not match under strongSwan"
                    ),
                    "strongSwan writes ? for every byte that is not printable ASCII",
                    "under strongSwan write ? for each byte of such a letter: O=Gr??n",
                ));
            }
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_that_a_daemon_never_writes_is_noted() {
        let notes = |text: &str| {
            let findings = patterns(&Settings::parse(text).unwrap());
            findings.into_iter().map(|finding| finding.what).collect::<Vec<_>>()
        };
        assert_eq!(
            notes("[[connection]]\nuser = \"*@realm\"\n"),
            ["[[connection]] 1: user = \"*@realm\" never matches under libreswan"]
        );
        assert_eq!(
            notes("[[connection]]\npeer-id = \"O=Gr\u{fc}n\"\n"),
            ["[[connection]] 1: peer-id = \"O=Gr\\xc3\\xbcn\" may or may not match under strongSwan"]
        );
        assert_eq!(
            notes("[[connection]]\nuser = \"anna-?.*\"\npeer-id = \"*@realm\"\n"),
            [""; 0]
        );
    }

    #[test]
    fn a_finding_is_folded_below_what_it_is_about() {
        let why = "word ".repeat(30);
        let text = Finding::wrong_finding("one\ntwo\u{1b}", why.trim(), "do").to_string();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines[0], "WRONG one; two\\u{1b}");
        assert!(lines[1].starts_with("      why:  word word"));
        assert!(lines[2].starts_with("            word"));
        assert_eq!(lines[lines.len() - 1], "      fix:  do");
        assert!(lines.iter().all(|line| line.len() <= 80), "{text}");
    }
}
