//! `start`, `stop` and `unblock`: the gateway's own rules, and blocked pairs.
//!
//! `start` is for the boot, before the daemon (prepluto=, a unit's ExecStartPre=), and for whenever
//! the settings have changed: it applies them to the gateway and to tunnels that are up. `stop` is
//! for after the daemon has ended.

mod last_good;
mod late_rules;

use std::fmt::Write as _;
use std::path::Path;
use std::thread::sleep;

use log::error;

use super::command_context::{CommandContext, print, show};
use super::settings_changes::SettingsChanges;
use super::{Consent, Detail};
use crate::apply::{ApplyError, Blocked, Change, Context, Engine, InstalledRecords, Note, Preview, StartReport};
use crate::cli::{Mode, Options};
use crate::daemon::ConnectionName;
use crate::netfilter::iptables::Programs;
use crate::netfilter::{Ruleset, restore_text};
use crate::settings::{DEFAULT_PATH, Gateway, Settings, SettingsError, only_ipsec};
use crate::state::{LOCK_PAUSE, Record, Store};
use crate::updown::{HookError, clear_dead_routes, close_late, know_recorded_tunnels, note_leftovers};
use crate::words::counted_noun;
use last_good::LastGood;
pub(super) use late_rules::tunnels_without_rules;
use late_rules::{LateRules, install_late};

type ProgramsEngine<'a> = Engine<'a, Programs<'a>>;

/// Why the settings are applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StartTrigger {
    /// The settings have changed, or may have: broken ones change nothing.
    Change,
    /// The machine boots, and no rule is installed: broken settings must not leave it open.
    Boot,
}

/// What `start` is asked for.
#[derive(Debug, Clone, Copy)]
pub(super) struct StartRequest {
    pub(super) trigger: StartTrigger,
    /// To remove restrictions where there is no settings file.
    pub(super) consent: Consent,
    pub(super) detail: Detail,
}

/// Applies the settings, and reports what is installed. Returns the exit code.
pub(super) fn start(options: &Options, asked: StartRequest) -> Result<u8, HookError> {
    let StartRequest { trigger, detail, .. } = asked;
    let last_good = LastGood::for_config(&options.root, options.config.as_deref());
    match (Settings::load_with_text(options.config.as_deref()), trigger) {
        (Ok((settings, text)), _) => {
            if Settings::is_file_absent(options.config.as_deref()) && asked.consent == Consent::Missing {
                refuse_openings(options)?;
            }
            let code = apply(options, settings, detail, trigger)?;
            if options.mode == Mode::Real
                && let Err(error) = last_good.keep(&text)
            {
                error!(
                    "start: WARNING: {}: cannot save a copy of the settings, which a boot uses if the file has an error: {error}",
                    last_good.path().display()
                );
            }
            Ok(code)
        }
        (Err(error), StartTrigger::Change) => Err(error.into()),
        (Err(error), StartTrigger::Boot) => start_without_settings(options, &last_good, error, detail),
    }
}

/// Starts with a settings file that has an error: applies the last valid settings, or else only
/// what closes. The unit fails or the log has the error, so that an administrator sees it. Until
/// the file is corrected, every `up` is refused.
fn start_without_settings(
    options: &Options,
    last_good: &LastGood,
    broken: SettingsError,
    detail: Detail,
) -> Result<u8, HookError> {
    error!("start: {broken}");
    match last_good.load() {
        Ok(Some(settings)) => {
            apply(options, settings, detail, StartTrigger::Boot)?;
            error!(
                "start: WARNING: applied the last valid settings instead: {}",
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
            apply(options, settings, detail, StartTrigger::Boot)?;
            error!(
                "start: WARNING: no valid settings are saved; installed only-ipsec of the file with the error, and nothing else"
            );
        }
        None => error!(
            "start: WARNING: no valid settings are saved; NOTHING is installed, unencrypted packets are not dropped"
        ),
    }
    Err(broken.into())
}

/// Without a settings file everything is open. Whoever lost the file, or forgot `--config`, did not
/// ask for that.
fn refuse_openings(options: &Options) -> Result<(), HookError> {
    let command = CommandContext::new(options)?;
    let store = command.peek();
    if options.mode == Mode::DryRun || !store.is_readable() {
        return Ok(());
    }
    let mut programs = command.programs(&store);
    let engine = Engine::new(
        &store,
        &mut programs,
        context(&command, &store, Some(Settings::default()))?,
    );
    match SettingsChanges::from_changes(&engine.plan_start()?).openings() {
        None => Ok(()),
        Some(openings) => Err(HookError::Refused(format!(
            "{DEFAULT_PATH} is not there, so {openings}; name the file with --config, or use --force"
        ))),
    }
}

/// Applies the settings. Returns the exit code: 1 if a tunnel that is up is still without rules.
fn apply(options: &Options, settings: Settings, detail: Detail, trigger: StartTrigger) -> Result<u8, HookError> {
    let command = CommandContext::new(options)?;
    if options.mode == Mode::DryRun {
        return preview_start(&command, settings, detail);
    }
    let parts = start_in_parts(&command, &settings)?;
    let mut tunnels = SettingsChanges::from_changes(&parts).tunnels();
    let mut late = LateRules::default();
    let mut started = with_engine(&command, Some(settings.clone()), |engine| {
        tunnels = tunnels.max(SettingsChanges::from_changes(&engine.plan_start()?).tunnels());
        let started = engine.start()?;
        let notes = engine.notes().iter();
        notes
            .filter(|note| is_worth_a_warning(note, trigger, &options.root))
            .for_each(|note| error!("start: WARNING: {note}"));
        late = install_late(&command, engine, &settings);
        let installed = engine.installed_records()?;
        Ok(StartReport { installed, ..started })
    })?;
    started.changed.extend(parts.iter().map(|part| part.ruleset));
    let installed = installed_words(&started.installed, tunnels);
    let mut text = match (changed(&started).is_some() || late.installed > 0, installed.is_empty()) {
        (false, true) => "no gateway rules configured, nothing to do\n".to_owned(),
        (false, false) => format!("nothing to change: {installed}\n"),
        (true, true) => "applied: no gateway rules configured, no tunnel up\n".to_owned(),
        (true, false) => format!("applied: {installed}\n"),
    };
    if late.installed > 0 {
        let tunnels = counted_noun(late.installed, "tunnel");
        // Writing into a String cannot fail.
        let _ = writeln!(text, "installed the rules of {tunnels} up without");
    }
    print(&text)?;
    Ok(u8::from(late.failed > 0))
}

/// What was set for the gateway when its rules were installed: the settings that were good last, if
/// its rules are still what these come to.
fn installed_gateway(command: &CommandContext<'_>) -> Result<Option<Gateway>, HookError> {
    let options = command.options;
    let Ok(Some(settings)) = LastGood::for_config(&options.root, options.config.as_deref()).load() else {
        return Ok(None);
    };
    let store = command.peek();
    let mut programs = command.programs(&store);
    let gateway = settings.gateway.clone();
    let engine = Engine::new(&store, &mut programs, context(command, &store, Some(settings))?);
    let is_installed = engine
        .plan_start()
        .is_ok_and(|changes| !SettingsChanges::from_changes(&changes).has_gateways());
    Ok(is_installed.then_some(gateway))
}

fn is_worth_a_warning(note: &Note, trigger: StartTrigger, root: &Path) -> bool {
    match note {
        // At boot the administrator's firewall comes later.
        Note::NoUserJump(..) => trigger == StartTrigger::Change,
        // With the module, and without the family, it is disabled (ipv6.disable=1).
        Note::NoFamily(_) => !root.join("sys/module/ipv6").exists(),
        Note::NotExempt(_) | Note::Conflict { .. } | Note::BlockHasNoEffect { .. } | Note::MissingInterface { .. } => {
            true
        }
    }
}

/// Changes very many tunnels in parts, and releases the record's lock after each: a daemon's call
/// waits for one of them at most. Returns the parts.
fn start_in_parts(command: &CommandContext<'_>, settings: &Settings) -> Result<Vec<Change>, HookError> {
    let store = command.peek();
    let context = context(command, &store, Some(settings.clone()))?;
    let mut programs = command.programs(&store);
    let parts = Engine::new(&store, &mut programs, context.clone()).plan_start_parts()?;
    for part in &parts {
        with_engine_for(command, |_| Ok(context.clone()), |engine| engine.start_part(part))?;
        // Whoever waits for the lock looks that often.
        sleep(LOCK_PAUSE);
    }
    Ok(parts)
}

/// Removes the gateway's own rules, and reports what stays. Returns the exit code.
pub(super) fn stop(options: &Options, detail: Detail) -> Result<u8, HookError> {
    let command = CommandContext::new(options)?;
    if options.mode == Mode::DryRun {
        return preview_changes(&command, "stop", None, detail, |engine, preview| {
            let changes = engine.plan_stop()?;
            add_changes(engine, preview, &changes, None)?;
            for (ruleset, sections) in engine.plan_stop_chains()? {
                preview.sum_up(format_args!("{ruleset}: empty chains to remove"));
                preview.add_rules(ruleset, restore_text(&sections));
            }
            Ok(())
        });
    }
    let started = with_engine(&command, None, |engine| engine.stop())?;
    let mut text = match changed(&started) {
        None => "no gateway rules loaded\n".to_owned(),
        Some(rulesets) => format!("gateway rules removed ({rulesets})\n"),
    };
    // Writing into a String cannot fail.
    if started.installed.tunnels > 0 {
        let _ = writeln!(
            text,
            "{} until `down`, or `pluto-updown flush`",
            match started.installed.tunnels {
                1 => "1 tunnel keeps its rules".to_owned(),
                number => format!("{number} tunnels keep their rules"),
            }
        );
    }
    if started.installed.clear_text_blocks > 0 {
        let _ = writeln!(
            text,
            "{} until `pluto-updown unblock`",
            match started.installed.clear_text_blocks {
                1 => "1 pair of networks stays blocked".to_owned(),
                number => format!("{number} pairs of networks stay blocked"),
            }
        );
    }
    print(&text)?;
    Ok(0)
}

/// Unblocks pairs of networks, and prints them. Returns the exit code: 1 if nothing was blocked by
/// that name.
pub(super) fn unblock(options: &Options, which: Option<&str>, detail: Detail) -> Result<u8, HookError> {
    let command = CommandContext::new(options)?;
    if let (Mode::DryRun, Some(blocked)) = (options.mode, parse_blocked(which)) {
        return preview_changes(&command, "unblock", None, detail, |engine, preview| {
            let changes = engine.plan_unblock(&blocked)?;
            let pairs = blocked_pairs(&changes).into_iter();
            pairs.for_each(|pair| preview.sum_up(format_args!("would unblock {pair}")));
            engine.preview(&changes, preview)
        });
    }
    let mut unblocked = Vec::new();
    let started = match parse_blocked(which) {
        Some(blocked) => with_engine(&command, None, |engine| {
            unblocked = blocked_pairs(&engine.plan_unblock(&blocked)?);
            engine.unblock(&blocked)
        })?,
        None => StartReport::default(),
    };
    print(&match (unblocked.is_empty(), which) {
        (true, Some(name)) => format!("nothing is blocked for \"{}\"\n", crate::words::one_line(name)),
        (true, None) => "nothing is blocked\n".to_owned(),
        (false, _) => format!(
            "unblocked {}\n{}\n",
            unblocked.join("\nunblocked "),
            left_blocked(started.installed.clear_text_blocks)
        ),
    })?;
    Ok(u8::from(unblocked.is_empty() && which.is_some()))
}

/// The pairs of networks that are not blocked any more, with their connections.
fn blocked_pairs(changes: &[Change]) -> Vec<String> {
    let records = changes.iter().flat_map(|change| &change.removed);
    let pairs = records.filter_map(|record| match record {
        Record::ClearTextBlock(block) => {
            let connections: Vec<_> = block.connections().iter().map(ToString::to_string).collect();
            let connection = match connections.is_empty() {
                true => String::new(),
                false => format!(" ({})", connections.join(", ")),
            };
            Some(format!("{} <-> {}{connection}", block.local, block.remote))
        }
        Record::Tunnel(_) | Record::Gateway(_) | Record::EspPeer(_) => None,
    });
    pairs.collect()
}

fn left_blocked(number: usize) -> String {
    match number {
        0 => "none left blocked".to_owned(),
        _ => format!("{} of networks left blocked", counted_noun(number, "pair")),
    }
}

/// The pairs to unblock. None for a name that no connection can have: it must not be taken for a
/// missing name, which unblocks all.
fn parse_blocked(which: Option<&str>) -> Option<Blocked> {
    let Some(text) = which else { return Some(Blocked::All) };
    let connection = ConnectionName::new(text.as_bytes()).ok()?;
    let network = text.parse().ok();
    Some(Blocked::By { connection, network })
}

/// Recovers a change whose call died, makes the change, and removes empty folders. A removal needs
/// no settings.
fn with_engine(
    command: &CommandContext<'_>,
    settings: Option<Settings>,
    change: impl FnOnce(&mut ProgramsEngine<'_>) -> Result<StartReport, ApplyError>,
) -> Result<StartReport, HookError> {
    with_engine_for(command, |store| context(command, store, settings), change)
}

fn with_engine_for<R>(
    command: &CommandContext<'_>,
    context: impl FnOnce(&Store) -> Result<Context, HookError>,
    change: impl FnOnce(&mut ProgramsEngine<'_>) -> Result<R, ApplyError>,
) -> Result<R, HookError> {
    let store = command.open_store()?;
    let mut programs = command.programs(&store);
    let context = context(&store)?;
    clear_dead_routes(&store, None, command.now, |error| error!("{error}"));
    let mut engine = Engine::new(&store, &mut programs, context);
    let changed = engine.housekeep().and_then(|()| change(&mut engine));
    let tidied = store.remove_unused();
    drop(store);
    close_late(command.options, command.namespace, &command.peek());
    let changed = changed?;
    tidied?;
    Ok(changed)
}

/// Shows what a command would change.
fn preview_changes(
    command: &CommandContext<'_>,
    name: &str,
    settings: Option<Settings>,
    detail: Detail,
    add: impl FnOnce(&mut ProgramsEngine<'_>, &mut Preview) -> Result<(), ApplyError>,
) -> Result<u8, HookError> {
    let store = command.peek();
    let mut programs = command.programs(&store);
    let context = context(command, &store, settings)?;
    let mut engine = Engine::new(&store, &mut programs, context);
    let mut preview = Preview::new(name);
    note_leftovers(&store, &mut preview)?;
    add(&mut engine, &mut preview)?;
    show(&preview, detail)?;
    Ok(0)
}

fn preview_start(command: &CommandContext<'_>, settings: Settings, detail: Detail) -> Result<u8, HookError> {
    let gateway = settings.gateway.clone();
    let before = installed_gateway(command)?;
    preview_changes(command, "start", Some(settings), detail, |engine, preview| {
        for failed in tunnels_without_rules(command) {
            let (connection, network) = (&failed.tunnel.connection, &failed.tunnel.remote_client);
            preview.sum_up(format_args!(
                "{connection} ({network}): up without rules, they would be installed"
            ));
        }
        for ruleset in Ruleset::all_rulesets() {
            if engine.has_other_layout(ruleset)? {
                preview.sum_up(format_args!(
                    "start: would rewrite all rules of {ruleset}, because place, mark or the layout changes"
                ));
            }
        }
        let changes = engine.plan_start()?;
        add_changes(
            engine,
            preview,
            &changes,
            before.as_ref().map(|before| [before, &gateway]),
        )
    })
}

/// Adds changes to a preview: a line for each kind, and their rules.
fn add_changes(
    engine: &ProgramsEngine<'_>,
    preview: &mut Preview,
    changes: &[Change],
    gateways: Option<[&Gateway; 2]>,
) -> Result<(), ApplyError> {
    let mut sum = SettingsChanges::from_changes(changes);
    if let Some([old, new]) = gateways {
        sum = sum.with_gateway(old, new);
    }
    sum.change_lines().iter().for_each(|line| preview.sum_up(line));
    engine.preview(changes, preview)
}

/// The context of the change, for the recorded tunnels.
fn context(command: &CommandContext<'_>, store: &Store, settings: Option<Settings>) -> Result<Context, HookError> {
    let Some(settings) = settings else {
        return command.removing_context(store);
    };
    let mut context = Context {
        daemon: None,
        now: command.now,
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

fn installed_words(installed: &InstalledRecords, changed: usize) -> String {
    let gateway = (installed.gateways > 0).then(|| "gateway rules".to_owned());
    let blocked = (installed.clear_text_blocks > 0).then(|| counted_noun(installed.clear_text_blocks, "blocked pair"));
    let up = (installed.tunnels > 0).then(|| match changed {
        0 => counted_noun(installed.tunnels, "tunnel"),
        _ => format!("{} ({changed} changed)", counted_noun(installed.tunnels, "tunnel")),
    });
    let words: Vec<_> = gateway.into_iter().chain(blocked).chain(up).collect();
    words.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_nobody_can_have_lifts_nothing() {
        assert_eq!(parse_blocked(Some(&"a".repeat(1025))), None);
        assert_eq!(parse_blocked(Some("")), None);
        assert_eq!(parse_blocked(None), Some(Blocked::All));
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
            assert_eq!(parse_blocked(Some(text)), Some(Blocked::By { connection, network }));
        }
    }
}
