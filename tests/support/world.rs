//! A gateway without a kernel: the record in a temporary folder, tables in the emulator, calls by their variables.

#![allow(dead_code, unreachable_pub, reason = "each test binary uses its part of this module")]

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use pluto_updown::apply::{
    ApplyError, Blocked, Change, Context, Engine, SettingsOrigin, StartReport, TunnelOutcome, note_down,
};
use pluto_updown::daemon::{FirewallAction, Tunnel};
use pluto_updown::firewall::Drift;
use pluto_updown::net::Family;
use pluto_updown::netfilter::iptables::{RefusalReason, Tables, TablesError};
use pluto_updown::netfilter::{Backend, Ruleset, Table};
use pluto_updown::netlink::XfrmInterface;
use pluto_updown::settings::{Nat, Policy, Settings};
use pluto_updown::state::{DaemonProcess, Store, TunnelRecord};
use tempfile::TempDir;

use super::binary::Call;
use super::emulator::{Contents, Emulator, Kind};
use super::model::opener;
use super::packet::{Packet, Verdict, trace};
use super::random::Random;
use super::scratch::scratch;

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
    /// How a process ends that is killed.
    pub const KILLED: [Self; 3] = [Self::KilledBefore, Self::KilledHalfway, Self::KilledAfter];

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
    /// How the next restores fail, one after the other.
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
        let emulator = self.emulators.entry(ruleset).or_default();
        emulator
            .restore(text)
            .map_err(|stderr| refused(stderr, RefusalReason::Rules))
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
        Ok(emulator.save_all())
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
    /// A gateway with this settings file.
    pub fn with_file(file: &str) -> Self {
        Self {
            settings: settings(file),
            ..Self::default()
        }
    }

    /// The same on this backend.
    pub fn on(mut self, backend: Backend) -> Self {
        self.tables.default = backend;
        self
    }

    /// Another settings file.
    pub fn set_file(&mut self, file: &str) {
        self.settings = settings(file);
    }

    /// The tables of a family.
    pub fn emulator(&mut self, family: Family) -> &mut Emulator {
        self.tables.emulator(family)
    }

    /// Loads an administrator's rules into a table, which nobody may touch.
    pub fn load_administrators(&mut self, family: Family, kind: Kind) {
        let text = match kind {
            Kind::Filter => "*filter\n-A INPUT -i lo -j ACCEPT\n-A FORWARD -i lan0 -j ACCEPT\nCOMMIT\n",
            Kind::Nat => "*nat\n-A PREROUTING -i w0 -j LOG\n-A POSTROUTING -o w0 -j ACCEPT\nCOMMIT\n",
            Kind::Mangle => "*mangle\n-A FORWARD -o w0 -j ACCEPT\nCOMMIT\n",
        };
        // A refusal that waits for the next transaction befalls this one too.
        while self.emulator(family).restore(text).is_err() {}
    }

    /// With them in all tables of both families.
    pub fn administered(mut self) -> Self {
        for family in Family::ALL {
            Kind::ALL
                .iter()
                .for_each(|kind| self.load_administrators(family, *kind));
        }
        self
    }

    /// Every chain of both families. In which order tunnels stand in ours is not looked at.
    pub fn contents(&mut self) -> [Contents; 2] {
        Family::ALL.map(|family| self.emulator(family).contents())
    }

    /// The verdict on a packet in the filter table.
    pub fn verdict(&mut self, family: Family, packet: &Packet) -> Verdict {
        trace(self.emulator(family), packet).verdict
    }

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

    /// An `up` that may fail.
    pub fn try_up(&mut self, tunnel: &Tunnel) -> Result<TunnelOutcome, ApplyError> {
        let done = self.call(&FirewallAction::Open(Box::new(tunnel.clone())))?;
        Ok(done.expect("an outcome"))
    }

    /// A `down` that may fail.
    pub fn try_down(&mut self, tunnel: &Tunnel) -> Result<TunnelOutcome, ApplyError> {
        let done = self.call(&FirewallAction::Close(Box::new(tunnel.clone())))?;
        Ok(done.expect("an outcome"))
    }

    #[track_caller]
    pub fn up(&mut self, tunnel: &Tunnel) -> TunnelOutcome {
        self.try_up(tunnel).expect("an up")
    }

    #[track_caller]
    pub fn down(&mut self, tunnel: &Tunnel) -> TunnelOutcome {
        self.try_down(tunnel).expect("a down")
    }

    /// Brings all of them up.
    #[track_caller]
    pub fn up_all<'t>(&mut self, tunnels: impl IntoIterator<Item = &'t Tunnel>) {
        for tunnel in tunnels {
            self.up(tunnel);
        }
    }

    /// `pluto-updown start`.
    pub fn start(&mut self) -> Result<StartReport, ApplyError> {
        self.work(|engine| engine.start())
    }

    /// The same where nothing but that is of interest.
    pub fn start_quietly(&mut self) {
        self.start().expect("a start");
    }

    /// What `pluto-updown restore` does first.
    pub fn match_new_interfaces(&mut self) {
        self.work(|session| session.match_new_interfaces()).expect("new rules");
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

/// What a settings file says.
#[track_caller]
pub fn settings(file: &str) -> Settings {
    Settings::parse(file).unwrap_or_else(|error| panic!("{file}\n{error}"))
}

/// Settings that allow everything and leave the nat table alone.
pub fn nat_left_alone() -> Settings {
    Settings {
        tunnel: Policy {
            nat: Nat::Leave,
            ..Policy::default()
        },
        ..Settings::default()
    }
}

/// The `up` of charon for a CHILD_SA between two networks.
pub fn strongswan(connection: &str, reqid: u32, my_client: &str, peer_client: &str) -> Call {
    let suffix = if my_client.contains(':') { "-v6" } else { "" };
    made(
        "PLUTO_VERSION=1.1 PLUTO_INTERFACE=eth0 PLUTO_PROTO=esp PLUTO_UNIQUEID=1 PLUTO_ME=192.0.2.1 PLUTO_MY_ID=hub PLUTO_MY_PORT=0 \
         PLUTO_MY_PROTOCOL=0 PLUTO_PEER=192.0.2.2 PLUTO_PEER_ID=spoke PLUTO_PEER_PORT=0 PLUTO_PEER_PROTOCOL=0",
    )
    .with_verb(&format!("up-client{suffix}"))
    .with("PLUTO_CONNECTION", connection)
    .with("PLUTO_REQID", reqid.to_string())
    .with("PLUTO_MY_CLIENT", my_client)
    .with("PLUTO_PEER_CLIENT", peer_client)
}

/// The `up` of libreswan 5.2 for a permanent connection, as far as the firewall is concerned.
pub fn libreswan(connection: &str, reqid: u32, my_client: &str, peer_client: &str) -> Call {
    made(
        "PLUTO_CONN_KIND=CK_PERMANENT PLUTO_STACK=xfrm PLUTO_CLIENT_FAMILY=ipv4 PLUTO_INTERFACE=eth0 PLUTO_VIRT_INTERFACE=NULL \
         PLUTO_XFRMI_ROUTE= VTI_IFACE= PLUTO_ME=192.0.2.1 PLUTO_MY_ID=@hub PLUTO_MY_PORT=0 PLUTO_MY_PROTOCOL=0 PLUTO_PEER=192.0.2.2 \
         PLUTO_PEER_ID=@spoke PLUTO_PEER_PORT=0 PLUTO_PEER_PROTOCOL=0 PLUTO_SA_TYPE=ESP SPI_IN=0x1 SPI_OUT=0x2",
    )
    .with_verb("up-client")
    .with("PLUTO_CONNECTION", connection)
    .with("PLUTO_SA_REQID", reqid.to_string())
    .with("PLUTO_MY_CLIENT", my_client)
    .with("PLUTO_PEER_CLIENT", peer_client)
}

/// A call with these variables, `NAME=value` each.
fn made(variables: &str) -> Call {
    let pairs = variables.split_whitespace().filter_map(|pair| pair.split_once('='));
    pairs.fold(Call::default(), |call, (name, value)| call.with(name, value))
}
