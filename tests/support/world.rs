//! A gateway without a kernel: the record in a temporary folder, tables in the emulator, calls by their variables.

#![allow(dead_code, unreachable_pub, reason = "each test binary uses its part of this module")]

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ffi::OsString;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use pluto_updown::apply::{
    ApplyError, Blocked, Change, Context, Engine, SettingsOrigin, StartReport, TunnelOutcome, note_down,
};
use pluto_updown::iptables::{RefusalReason, Tables, TablesError};
use pluto_updown::netfilter::{Backend, Ruleset, Table};
use pluto_updown::plan::Drift;
use pluto_updown::record::{DaemonProcess, Store, TunnelRecord};
use pluto_updown::rtnetlink::XfrmInterface;
use pluto_updown::selector::Family;
use pluto_updown::settings::{Nat, Policy, Settings};
use pluto_updown::updown_env::{FirewallAction, RawEnv, Tunnel, read_event};
use tempfile::TempDir;

use super::emulator::{Emulator, Kind};
use super::model::opener;
use super::random::Random;
use super::scratch::scratch;

/// What happens to the process at the next restore.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Death {
    /// It dies before the kernel has the transaction.
    Before,
    /// It dies when the kernel has just committed it.
    After,
    /// It dies when the kernel has just committed the first table of it.
    Halfway,
}

/// How a restore fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum RestoreFailure {
    /// It refuses, as it does what does not fit what the kernel holds, and changes nothing.
    Refused,
    /// It refuses for a reason that has nothing to do with rules, and changes nothing.
    RefusedBySystem,
    /// It refuses its second table; the first one is committed.
    RefusedHalfway,
    /// It says that it failed, and has committed everything.
    RefusedAfter,
    /// It is killed before it commits anything.
    KilledBefore,
    /// It is killed when it has committed its first table.
    KilledHalfway,
    /// It is killed when it has committed everything.
    KilledAfter,
}

impl RestoreFailure {
    pub const ALL: [Self; 7] = [
        Self::Refused,
        Self::RefusedBySystem,
        Self::RefusedHalfway,
        Self::RefusedAfter,
        Self::KilledBefore,
        Self::KilledHalfway,
        Self::KilledAfter,
    ];
}

/// Restores that fail by chance.
#[derive(Debug)]
pub struct Chance {
    pub random: Random,
    /// One restore in so many fails.
    pub one_in: usize,
    /// How often each fate was met.
    pub met: BTreeMap<RestoreFailure, usize>,
}

impl Chance {
    fn draw(&mut self) -> Option<RestoreFailure> {
        if self.random.below(self.one_in) != 0 {
            return None;
        }
        let failure = self.random.pick(&RestoreFailure::ALL);
        *self.met.entry(failure).or_default() += 1;
        Some(failure)
    }
}

/// The emulated tables of a machine.
#[derive(Debug)]
pub struct EmulatedTables {
    emulators: BTreeMap<Ruleset, Emulator>,
    /// What `iptables` is.
    pub default: Backend,
    /// What happens at the next restore.
    pub death: Option<Death>,
    /// How the restores after that fail, one after the other.
    pub failures: VecDeque<RestoreFailure>,
    /// What may happen at every restore.
    pub chance: Option<Chance>,
    /// What the last restore was given.
    pub last_text: String,
    /// The family that the kernel does not have.
    pub lacks_family: Option<Family>,
}

impl EmulatedTables {
    pub fn emulator(&mut self, family: Family) -> &mut Emulator {
        let ruleset = Ruleset {
            backend: self.default,
            family,
        };
        self.emulators.entry(ruleset).or_default()
    }

    pub fn restores(&self) -> usize {
        self.emulators.values().map(|emulator| emulator.restores).sum()
    }

    fn fail(&mut self, ruleset: Ruleset, text: &str, failure: RestoreFailure) -> TablesError {
        let emulator = self.emulators.entry(ruleset).or_default();
        emulator.dies_halfway = matches!(failure, RestoreFailure::RefusedHalfway | RestoreFailure::KilledHalfway);
        let restored = match failure {
            RestoreFailure::Refused | RestoreFailure::RefusedBySystem | RestoreFailure::KilledBefore => Ok(()),
            RestoreFailure::RefusedHalfway
            | RestoreFailure::RefusedAfter
            | RestoreFailure::KilledHalfway
            | RestoreFailure::KilledAfter => emulator.restore(text),
        };
        emulator.dies_halfway = false;
        let reason = match failure {
            RestoreFailure::RefusedBySystem => RefusalReason::System,
            RestoreFailure::Refused | RestoreFailure::RefusedHalfway | RestoreFailure::RefusedAfter => {
                RefusalReason::Rules
            }
            RestoreFailure::KilledBefore => return dead(),
            // What it would have refused it did not live to commit, and has said so.
            RestoreFailure::KilledHalfway | RestoreFailure::KilledAfter => {
                return match restored {
                    Err(stderr) if stderr != "killed" => refused(stderr, RefusalReason::Rules),
                    Ok(()) | Err(_) => dead(),
                };
            }
        };
        refused(format!("{failure:?}: emulated"), reason)
    }
}

impl Tables for EmulatedTables {
    fn default_backend(&self, family: Family) -> Result<Backend, TablesError> {
        match self.lacks_family == Some(family) {
            true => Err(TablesError::NoFamily(family)),
            false => Ok(self.default),
        }
    }

    fn restore(&mut self, ruleset: Ruleset, text: &str) -> Result<(), TablesError> {
        assert!(!text.is_empty(), "iptables-restore is started for nothing");
        text.clone_into(&mut self.last_text);
        let failure = self.failures.pop_front();
        if let Some(failure) = failure.or_else(|| self.chance.as_mut()?.draw()) {
            return Err(self.fail(ruleset, text, failure));
        }
        let death = self.death.take();
        let emulator = self.emulators.entry(ruleset).or_default();
        match death {
            Some(Death::Before) => return Err(dead()),
            Some(Death::Halfway) => emulator.dies_halfway = true,
            Some(Death::After) | None => {}
        }
        let restored = emulator.restore(text);
        match death {
            // What was refused did not live to be committed.
            Some(Death::Halfway | Death::After) if restored.is_ok() || death == Some(Death::Halfway) => Err(dead()),
            Some(_) | None => restored.map_err(|stderr| refused(stderr, RefusalReason::Rules)),
        }
    }

    fn resume(&mut self, ruleset: Ruleset, text: &str) -> Result<(), TablesError> {
        self.restore(ruleset, text)
    }

    fn save(&mut self, ruleset: Ruleset, table: Table) -> Result<String, TablesError> {
        let emulator = self.emulators.entry(ruleset).or_default();
        let kind = match table {
            Table::Filter => Kind::Filter,
            Table::Nat => Kind::Nat,
            Table::Mangle => Kind::Mangle,
        };
        match emulator.lacks.contains(&kind) {
            true => Err(refused(
                format!("can't initialize iptables table `{table}'"),
                RefusalReason::Rules,
            )),
            false => Ok(emulator.table(kind).save()),
        }
    }

    fn save_all(&mut self, ruleset: Ruleset) -> Result<String, TablesError> {
        let emulator = self.emulators.entry(ruleset).or_default();
        Ok(Kind::ALL.map(|kind| emulator.table(kind).save()).concat())
    }

    fn backends(&self, _family: Family) -> BTreeSet<Backend> {
        let used = self.emulators.keys().map(|ruleset| ruleset.backend);
        used.chain([self.default]).collect()
    }
}

fn refused(stderr: String, reason: RefusalReason) -> TablesError {
    TablesError::Refused {
        program: "emulated".into(),
        status: 1,
        stderr,
        reason,
    }
}

fn dead() -> TablesError {
    TablesError::Unknown {
        program: "emulated".into(),
        how: "died".into(),
    }
}

/// A gateway.
#[derive(Debug)]
pub struct World {
    pub folder: TempDir,
    pub tables: EmulatedTables,
    pub daemon: Option<DaemonProcess>,
    pub interfaces: Vec<XfrmInterface>,
    /// The networks that the gateway is connected to.
    pub connected: Vec<ipnet::IpNet>,
    /// The answer for a `down` that queries them.
    pub ask_connected: Option<fn() -> Option<Vec<ipnet::IpNet>>>,
    /// What any call gets for the path to a peer if it queries it.
    pub ask_path_mtu: Option<fn(IpAddr) -> Option<u16>>,
    /// What the calls have said to whoever runs the machine.
    pub notes: Vec<String>,
    pub path_mtus: BTreeMap<IpAddr, u16>,
    /// What the administrator has set. The nat table is left alone unless a test says otherwise: most of them are about the others.
    pub settings: Settings,
    /// Whether the calls know what the administrator has set.
    pub settings_origin: SettingsOrigin,
    /// Whether the last call came to its own work: what earlier calls left behind is settled before.
    pub began: bool,
}

impl Default for World {
    fn default() -> Self {
        let tables = EmulatedTables {
            emulators: BTreeMap::new(),
            default: Backend::Nft,
            death: None,
            failures: VecDeque::new(),
            chance: None,
            last_text: String::new(),
            lacks_family: None,
        };
        Self {
            folder: scratch(),
            tables,
            daemon: None,
            interfaces: Vec::new(),
            connected: Vec::new(),
            ask_connected: None,
            ask_path_mtu: None,
            notes: Vec::new(),
            path_mtus: BTreeMap::new(),
            settings: nat_left_alone(),
            settings_origin: SettingsOrigin::File,
            began: false,
        }
    }
}

impl World {
    /// One hook call, as the program makes it.
    pub fn call(&mut self, firewall_action: &FirewallAction) -> Result<Option<TunnelOutcome>, ApplyError> {
        let context = match firewall_action {
            FirewallAction::Open(_) => self.caller(),
            FirewallAction::Close(_) | FirewallAction::Nothing => self.remover(),
        };
        let done = self.work_with(context, |engine| match firewall_action {
            FirewallAction::Open(tunnel) => engine.open_tunnel(tunnel).map(Some),
            FirewallAction::Close(tunnel) => engine.close_tunnel(tunnel).map(Some),
            FirewallAction::Nothing => Ok(None),
        });
        match (done, firewall_action) {
            (Err(error), FirewallAction::Close(tunnel)) if !self.began => {
                let store = Store::open_unlocked(&self.folder.path().join("state"), 1);
                Err(note_down(&store, tunnel, error))
            }
            (done, _) => done,
        }
    }

    fn caller(&self) -> Context {
        Context {
            daemon: self.daemon,
            now: 1_700_000_000,
            interfaces: self.interfaces.clone(),
            connected: Some(self.connected.clone()),
            ask_connected: None,
            path_mtus: self.path_mtus.clone(),
            ask_path_mtu: self.ask_path_mtu,
            settings: self.settings.clone(),
            settings_origin: self.settings_origin,
        }
    }

    /// What the caller of a `down` knows: it reads no settings, and asks the kernel for nothing beforehand.
    fn remover(&self) -> Context {
        Context {
            daemon: self.daemon,
            now: 1_700_000_000,
            ask_connected: self.ask_connected,
            ask_path_mtu: self.ask_path_mtu,
            settings_origin: SettingsOrigin::Record,
            ..Context::default()
        }
    }

    pub fn up(&mut self, tunnel: &Tunnel) -> TunnelOutcome {
        self.call(&FirewallAction::Open(Box::new(tunnel.clone())))
            .expect("an up")
            .expect("an outcome")
    }

    pub fn down(&mut self, tunnel: &Tunnel) -> TunnelOutcome {
        self.call(&FirewallAction::Close(Box::new(tunnel.clone())))
            .expect("a down")
            .expect("an outcome")
    }

    /// `pluto-updown start`.
    pub fn start(&mut self) -> Result<StartReport, ApplyError> {
        self.work(|engine| engine.start())
    }

    /// The parts in which `pluto-updown start` changes very many tunnels.
    pub fn start_parts(&mut self) -> Vec<Change> {
        self.work(|engine| engine.plan_start_parts()).expect("a plan")
    }

    /// One of them.
    pub fn start_part(&mut self, part: &Change) -> Result<(), ApplyError> {
        self.work(|engine| engine.start_part(part))
    }

    /// `pluto-updown stop`.
    pub fn stop(&mut self) -> Result<StartReport, ApplyError> {
        self.work(|engine| engine.stop())
    }

    /// `pluto-updown unblock`.
    pub fn unblock(&mut self, blocked: &Blocked) -> Result<StartReport, ApplyError> {
        self.work(|engine| engine.unblock(blocked))
    }

    /// `pluto-updown restore`: what was wrong in the tables of this machine.
    pub fn restore(&mut self) -> Result<Vec<Drift>, ApplyError> {
        let rulesets: Vec<_> = self.tables.emulators.keys().copied().collect();
        self.work(|engine| {
            let found: Result<Vec<_>, _> = rulesets.into_iter().map(|ruleset| engine.reconcile(ruleset)).collect();
            Ok(found?.concat())
        })
    }

    /// Every recorded tunnel, by its name, and how many times it is up.
    pub fn recorded(&self) -> BTreeMap<String, u32> {
        let store = Store::open_unlocked(&self.folder.path().join("state"), 1);
        let tunnels = self
            .tables
            .emulators
            .keys()
            .flat_map(|ruleset| store.tunnels(*ruleset).expect("a record"));
        tunnels.map(|record| (record.id.to_string(), record.count)).collect()
    }

    /// Every recorded tunnel, by its name, and who has it up.
    pub fn openers(&self) -> BTreeMap<String, Vec<String>> {
        let store = Store::open_unlocked(&self.folder.path().join("state"), 1);
        let records = self
            .tables
            .emulators
            .keys()
            .flat_map(|ruleset| store.tunnels(*ruleset).expect("a record"));
        let openers = |record: &TunnelRecord| record.opener_views().iter().map(|(tunnel, _)| opener(tunnel)).collect();
        records
            .map(|record| (record.id.to_string(), openers(&record)))
            .collect()
    }

    fn work<R>(
        &mut self,
        work: impl FnOnce(&mut Engine<'_, EmulatedTables>) -> Result<R, ApplyError>,
    ) -> Result<R, ApplyError> {
        self.work_with(self.caller(), work)
    }

    fn work_with<R>(
        &mut self,
        caller: Context,
        work: impl FnOnce(&mut Engine<'_, EmulatedTables>) -> Result<R, ApplyError>,
    ) -> Result<R, ApplyError> {
        let deadline = Instant::now() + Duration::from_secs(10);
        let store = Store::open_locked(&self.folder.path().join("state"), 1, deadline)?;
        let mut engine = Engine::new(&store, &mut self.tables, caller);
        let kept = engine.housekeep();
        self.began = kept.is_ok();
        let result = kept.and_then(|()| work(&mut engine));
        self.notes.extend(engine.notes().iter().map(ToString::to_string));
        store.remove_unused()?;
        result
    }

    /// Whether the record has vanished without a trace.
    pub fn is_forgotten(&self) -> bool {
        !self.folder.path().join("state").exists()
    }
}

/// Settings by which everything is allowed and the nat table is none of our business.
pub fn nat_left_alone() -> Settings {
    Settings {
        tunnel: Policy {
            nat: Nat::Leave,
            ..Policy::default()
        },
        ..Settings::default()
    }
}

/// What a call with these variables, one `NAME=value` a line, asks of the firewall.
pub fn firewall_action(variables: &str) -> FirewallAction {
    let pairs = variables.lines().filter_map(|line| line.trim().split_once('='));
    let pairs = pairs.map(|(name, value)| (OsString::from(name), OsString::from(value)));
    read_event(&RawEnv::new([], pairs))
        .expect("a call that is understood")
        .firewall
}

/// The tunnel that a call with these variables is about.
pub fn tunnel(variables: &str) -> Tunnel {
    match firewall_action(variables) {
        FirewallAction::Open(tunnel) | FirewallAction::Close(tunnel) => *tunnel,
        FirewallAction::Nothing => panic!("a verb without a tunnel"),
    }
}

/// The variables of charon for a CHILD_SA, verb and all.
pub fn strongswan(verb: &str, connection: &str, reqid: u32, my_client: &str, peer_client: &str) -> String {
    let v6 = if my_client.contains(':') { "-v6" } else { "" };
    format!(
        "PLUTO_VERSION=1.1\nPLUTO_VERB={verb}{v6}\nPLUTO_CONNECTION={connection}\nPLUTO_INTERFACE=eth0\nPLUTO_REQID={reqid}\n\
         PLUTO_PROTO=esp\nPLUTO_UNIQUEID=1\nPLUTO_ME=192.0.2.1\nPLUTO_MY_ID=hub\nPLUTO_MY_CLIENT={my_client}\nPLUTO_MY_PORT=0\n\
         PLUTO_MY_PROTOCOL=0\nPLUTO_PEER=192.0.2.2\nPLUTO_PEER_ID=spoke\nPLUTO_PEER_CLIENT={peer_client}\nPLUTO_PEER_PORT=0\n\
         PLUTO_PEER_PROTOCOL=0\n"
    )
}

/// The variables of libreswan 5.2 for a permanent connection, as far as the firewall is concerned.
pub fn libreswan(verb: &str, connection: &str, reqid: u32, my_client: &str, peer_client: &str) -> String {
    format!(
        "PLUTO_VERB={verb}\nPLUTO_CONNECTION={connection}\nPLUTO_CONN_KIND=CK_PERMANENT\nPLUTO_STACK=xfrm\n\
         PLUTO_CLIENT_FAMILY=ipv4\nPLUTO_INTERFACE=eth0\nPLUTO_VIRT_INTERFACE=NULL\nPLUTO_XFRMI_ROUTE=\nVTI_IFACE=\n\
         PLUTO_ME=192.0.2.1\nPLUTO_MY_ID=@hub\nPLUTO_MY_CLIENT={my_client}\nPLUTO_MY_PORT=0\nPLUTO_MY_PROTOCOL=0\n\
         PLUTO_PEER=192.0.2.2\nPLUTO_PEER_ID=@spoke\nPLUTO_PEER_CLIENT={peer_client}\nPLUTO_PEER_PORT=0\nPLUTO_PEER_PROTOCOL=0\n\
         PLUTO_SA_REQID={reqid}\nPLUTO_SA_TYPE=ESP\nSPI_IN=0x1\nSPI_OUT=0x2\n"
    )
}

/// These variables with one of them set otherwise.
pub fn with(variables: &str, name: &str, value: &str) -> String {
    let others: String = variables
        .lines()
        .filter(|line| line.split('=').next() != Some(name))
        .map(|line| format!("{line}\n"))
        .collect();
    format!("{others}{name}={value}\n")
}

/// The variables of each call in a captures file.
pub fn captured(file: &str) -> Vec<String> {
    let path = format!("{}/tests/captures/{file}.calls", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    let calls = text.split("\n\n").filter(|block| block.starts_with('>'));
    calls
        .map(|block| block.lines().skip(1).map(|line| format!("{line}\n")).collect())
        .collect()
}
