//! `start`, `stop` and `unblock`: the gateway's own part, and networks that are held apart.
//!
//! `start` is for the boot, before the daemon (prepluto=, a unit's ExecStartPre=), and for whenever the settings have changed: it makes
//! everything as it is set, tunnels that are up included. `stop` is for after the daemon has ended.

mod last_good;

use std::fmt::Write as _;

use log::{error, warn};

use super::command_context::{CommandContext, print};
use crate::apply::{ApplyError, Blocked, Change, Context, Engine, InstalledRecords, StartReport};
use crate::cli::{Mode, Options};
use crate::hook::{HookError, know_recorded_tunnels};
use crate::iptables::Programs;
use crate::netfilter::{Ruleset, Section, restore_text};
use crate::record::Store;
use crate::settings::{Settings, SettingsError, only_ipsec};
use crate::updown_env::ConnectionName;
use last_good::LastGood;

type Session<'a> = Engine<'a, Programs<'a>>;

/// When everything is made as it is set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Occasion {
    /// The settings have changed, or may have: broken ones change nothing.
    Change,
    /// The machine boots, and no rule is installed: broken settings must not leave it open.
    Boot,
}

/// Makes everything as it is set, and says what stands. Returns the exit code.
pub(super) fn start(options: &Options, occasion: Occasion) -> Result<u8, HookError> {
    let last_good = LastGood::of(&options.root, options.config.as_deref());
    match (Settings::load_with_text(options.config.as_deref()), occasion) {
        (Ok((settings, text)), _) => {
            apply(options, settings)?;
            if options.mode == Mode::Real
                && let Err(error) = last_good.keep(&text)
            {
                warn!(
                    "{}: cannot keep the settings for a boot with broken ones: {error}",
                    last_good.path().display()
                );
            }
            Ok(0)
        }
        (Err(error), Occasion::Change) => Err(error.into()),
        (Err(error), Occasion::Boot) => start_without_settings(options, &last_good, error),
    }
}

/// Starts with settings that are broken: with those that were good last, or else with what closes. Whoever looks at the machine is to
/// see it; and as long as they are broken every `up` is refused.
fn start_without_settings(options: &Options, last_good: &LastGood, broken: SettingsError) -> Result<u8, HookError> {
    error!("start: {broken}");
    match last_good.load() {
        Ok(Some(settings)) => {
            apply(options, settings)?;
            error!(
                "start: WARNING: installed the settings that were good last instead: {}",
                last_good.path().display()
            );
            return Ok(0);
        }
        Ok(None) => {}
        Err(error) => error!("start: {error}"),
    }
    match Settings::read_text(options.config.as_deref())
        .ok()
        .and_then(|text| only_ipsec(&text))
    {
        Some(settings) => {
            apply(options, settings)?;
            error!(
                "start: WARNING: no settings were good before; installed only-ipsec of the broken ones, and nothing else"
            );
        }
        None => error!(
            "start: WARNING: no settings were good before; NOTHING is installed, unencrypted packets are not dropped"
        ),
    }
    Err(broken.into())
}

fn apply(options: &Options, settings: Settings) -> Result<(), HookError> {
    let ground = CommandContext::new(options)?;
    if options.mode == Mode::DryRun {
        return show(&ground, Some(settings), plan_start);
    }
    let started = in_session(&ground, Some(settings), |session| session.start())?;
    let standing = words(&started.standing);
    let standing = if standing.is_empty() {
        "nothing is set to be put in"
    } else {
        &standing
    };
    print(&match changed(&started) {
        None => format!("nothing to change: {standing}\n"),
        Some(rulesets) => format!("changed {rulesets}: {standing}\n"),
    })
}

/// Takes the gateway's own part out, and says what stays. Returns the exit code.
pub(super) fn stop(options: &Options) -> Result<u8, HookError> {
    let ground = CommandContext::new(options)?;
    if options.mode == Mode::DryRun {
        show(&ground, None, plan_stop)?;
        return Ok(0);
    }
    let started = in_session(&ground, None, |session| session.stop())?;
    let mut text = match changed(&started) {
        None => "the gateway's rules are not in\n".to_owned(),
        Some(rulesets) => format!("the gateway's rules are out of {rulesets}\n"),
    };
    // Writing into a String cannot fail.
    if started.standing.tunnels > 0 {
        let _ = writeln!(
            text,
            "{} until `down`, or `pluto-updown flush`",
            match started.standing.tunnels {
                1 => "1 tunnel keeps its rules".to_owned(),
                number => format!("{number} tunnels keep their rules"),
            }
        );
    }
    if started.standing.clear_text_blocks > 0 {
        let _ = writeln!(
            text,
            "{} held apart until `pluto-updown unblock`",
            pairs(started.standing.clear_text_blocks)
        );
    }
    print(&text)?;
    Ok(0)
}

/// Lets packets in clear between networks again, and says what stays. Returns the exit code: 1 if nothing was held apart by that name.
pub(super) fn unblock(options: &Options, which: Option<&str>) -> Result<u8, HookError> {
    let ground = CommandContext::new(options)?;
    if let (Mode::DryRun, Some(blocked)) = (options.mode, blocked(which)) {
        show(&ground, None, |session| {
            text_of("unblock", session, session.plan_unblock(&blocked)?)
        })?;
        return Ok(0);
    }
    let started = match blocked(which) {
        Some(blocked) => in_session(&ground, None, |session| session.unblock(&blocked))?,
        None => StartReport::default(),
    };
    let left = pairs(started.standing.clear_text_blocks);
    let none = changed(&started).is_none();
    print(&match (none, which) {
        (true, Some(name)) => format!(
            "no networks are held apart by the name {}\n",
            crate::words::one_line(name)
        ),
        (true, None) => "no networks are held apart\n".to_owned(),
        (false, _) => format!("lifted; {left} held apart\n"),
    })?;
    Ok(u8::from(none && which.is_some()))
}

/// What is to be lifted. Nothing, by a name that no connection can have: it must not pass for no name at all, which lifts everything.
fn blocked(which: Option<&str>) -> Option<Blocked> {
    let Some(text) = which else { return Some(Blocked::All) };
    let connection = ConnectionName::new(text.as_bytes()).ok()?;
    let network = text.parse().ok();
    Some(Blocked::By { connection, network })
}

/// Settles what a call that died has left, does the change, and leaves no empty folder behind. A removal needs no settings.
fn in_session(
    ground: &CommandContext<'_>,
    settings: Option<Settings>,
    change: impl FnOnce(&mut Session<'_>) -> Result<StartReport, ApplyError>,
) -> Result<StartReport, HookError> {
    let store = ground.open()?;
    let mut programs = ground.programs(&store);
    let context = context(ground, &store, settings)?;
    let mut session = Engine::new(&store, &mut programs, context);
    let started = session.housekeep().and_then(|()| change(&mut session));
    let tidied = store.tidy();
    let started = started?;
    tidied?;
    Ok(started)
}

/// Prints what a command would change, and changes nothing.
fn show(
    ground: &CommandContext<'_>,
    settings: Option<Settings>,
    plan: impl FnOnce(&mut Session<'_>) -> Result<String, ApplyError>,
) -> Result<(), HookError> {
    let store = ground.peek();
    let mut programs = ground.programs(&store);
    let context = context(ground, &store, settings)?;
    let mut session = Engine::new(&store, &mut programs, context);
    let mut text = String::new();
    if store.needs_attention()? {
        text.push_str("# before that, it would clear what a call or a daemon that died has left\n");
    }
    text.push_str(&plan(&mut session)?);
    match text.is_empty() {
        true => print("# nothing to change\n"),
        false => print(&text),
    }
}

fn plan_start(session: &mut Session<'_>) -> Result<String, ApplyError> {
    let mut text = String::new();
    for ruleset in Ruleset::all() {
        if session.moves(ruleset)? {
            // Writing into a String cannot fail.
            let _ = writeln!(
                text,
                "# start: would write all rules of {ruleset} anew: place, mark or the layout changes"
            );
        }
    }
    text.push_str(&text_of("start", session, session.plan_start()?)?);
    Ok(text)
}

fn plan_stop(session: &mut Session<'_>) -> Result<String, ApplyError> {
    let mut text = text_of("stop", session, session.plan_stop()?)?;
    for (ruleset, sections) in session.plan_stop_chains()? {
        text.push_str(&text_of_sections("stop", ruleset, &sections));
    }
    Ok(text)
}

/// The text for iptables-restore that a command would run for these changes.
fn text_of(command: &str, session: &Session<'_>, changes: Vec<Change>) -> Result<String, ApplyError> {
    let mut text = String::new();
    for change in changes {
        text.push_str(&text_of_sections(command, change.ruleset, &session.sections(&change)?));
    }
    Ok(text)
}

fn text_of_sections(command: &str, ruleset: Ruleset, sections: &[Section]) -> String {
    match sections.is_empty() {
        true => String::new(),
        false => format!("# {command}: would change {ruleset}:\n{}", restore_text(sections)),
    }
}

/// What the change needs to know of the machine, for the tunnels on record.
fn context(ground: &CommandContext<'_>, store: &Store, settings: Option<Settings>) -> Result<Context, HookError> {
    let Some(settings) = settings else {
        return ground.removing_context(store);
    };
    let mut context = Context {
        daemon: None,
        now: ground.now,
        settings,
        ..Context::default()
    };
    know_recorded_tunnels(&mut context, store)?;
    Ok(context)
}

fn changed(started: &StartReport) -> Option<String> {
    let names: Vec<_> = started.changed.iter().map(Ruleset::to_string).collect();
    (!names.is_empty()).then(|| names.join(", "))
}

fn words(standing: &InstalledRecords) -> String {
    let gateway = (standing.gateways > 0).then(|| "the gateway's rules".to_owned());
    let guards = (standing.clear_text_blocks > 0).then(|| format!("{} held apart", pairs(standing.clear_text_blocks)));
    let up = (standing.tunnels > 0).then(|| format!("{} as set", tunnels(standing.tunnels)));
    let words: Vec<_> = gateway.into_iter().chain(guards).chain(up).collect();
    words.join(", ")
}

fn tunnels(number: usize) -> String {
    match number {
        1 => "1 tunnel".to_owned(),
        _ => format!("{number} tunnels"),
    }
}

fn pairs(number: usize) -> String {
    match number {
        1 => "1 pair of networks".to_owned(),
        _ => format!("{number} pairs of networks"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_nobody_can_have_lifts_nothing() {
        assert_eq!(blocked(Some(&"a".repeat(1025))), None);
        assert_eq!(blocked(Some("")), None);
        assert_eq!(blocked(None), Some(Blocked::All));
    }

    #[test]
    fn a_network_may_be_the_name_of_a_connection() {
        for (text, is_network) in [
            ("office", false),
            ("10.2.0.0/24", true),
            ("10.0.0.1-10.0.0.2", true),
            ("2001:db8::/32", true),
        ] {
            let connection = ConnectionName::new(text.as_bytes()).unwrap();
            let network = text.parse().ok();
            assert_eq!(network.is_some(), is_network, "{text}");
            assert_eq!(blocked(Some(text)), Some(Blocked::By { connection, network }));
        }
    }
}
