//! A gateway without a kernel: the record in a temporary folder, tables in the emulator, calls by their variables.

#![allow(dead_code, unreachable_pub, reason = "each test binary uses its part of this module")]

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ffi::OsString;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use pluto_updown::apply::{
    ApplyError, Blocked, Change, Context, Engine, SettingsOrigin, StartReport, TunnelOutcome, note_down,
};
use pluto_updown::daemon::{FirewallAction, RawEnv, Tunnel};
use pluto_updown::firewall::Drift;
use pluto_updown::net::Family;
use pluto_updown::netfilter::iptables::{RefusalReason, Tables, TablesError};
use pluto_updown::netfilter::{Backend, Ruleset, Table};
use pluto_updown::netlink::XfrmInterface;
use pluto_updown::settings::{Nat, Policy, Settings};
use pluto_updown::state::{DaemonProcess, Store, TunnelRecord};
use pluto_updown::updown::read_event;
use tempfile::TempDir;

use super::emulator::{Emulator, Kind};
use super::model::opener;
use super::random::Random;
use super::scratch::scratch;

/// What becomes of the process at the next restore.
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
pub enum Fate {
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

impl Fate {
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
    pub met: BTreeMap<Fate, usize>,
}

impl Chance {
    fn draw(&mut self) -> Option<Fate> {
        if self.random.below(self.one_in) != 0 {
            return None;
        }
        let fate = self.random.pick(&Fate::ALL);
        *self.met.entry(fate).or_default() += 1;
        Some(fate)
    }
}

/// The emulated tables of a machine.
#[derive(Debug)]
pub struct EmulatedTables {
    books: BTreeMap<Ruleset, Emulator>,
    /// What `iptables` is.
    pub default: Backend,
    /// What happens at the next restore.
    pub death: Option<Death>,
    /// How the restores after that fail, one after the other.
    pub fates: VecDeque<Fate>,
    /// What may happen at every restore.
    pub chance: Option<Chance>,
    /// What the last restore was given.
    pub last_text: String,
    /// The family that the kernel does not have.
    pub lacks_family: Option<Family>,
}

impl EmulatedTables {
    pub fn book(&mut self, family: Family) -> &mut Emulator {
        let ruleset = Ruleset {
            backend: self.default,
            family,
        };
        self.books.entry(ruleset).or_default()
    }

    pub fn restores(&self) -> usize {
        self.books.values().map(|book| book.restores).sum()
    }

    fn fail(&mut self, ruleset: Ruleset, text: &str, fate: Fate) -> TablesError {
        let book = self.books.entry(ruleset).or_default();
        book.dies_halfway = matches!(fate, Fate::RefusedHalfway | Fate::KilledHalfway);
        let restored = match fate {
            Fate::Refused | Fate::RefusedBySystem | Fate::KilledBefore => Ok(()),
            Fate::RefusedHalfway | Fate::RefusedAfter | Fate::KilledHalfway | Fate::KilledAfter => book.restore(text),
        };
        book.dies_halfway = false;
        let reason = match fate {
            Fate::RefusedBySystem => RefusalReason::System,
            Fate::Refused | Fate::RefusedHalfway | Fate::RefusedAfter => RefusalReason::Rules,
            Fate::KilledBefore => return dead(),
            // What it would have refused it did not live to commit, and has said so.
            Fate::KilledHalfway | Fate::KilledAfter => {
                return match restored {
                    Err(stderr) if stderr != "killed" => refused(stderr, RefusalReason::Rules),
                    Ok(()) | Err(_) => dead(),
                };
            }
        };
        refused(format!("{fate:?}: emulated"), reason)
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
        let fate = self.fates.pop_front();
        if let Some(fate) = fate.or_else(|| self.chance.as_mut()?.draw()) {
            return Err(self.fail(ruleset, text, fate));
        }
        let death = self.death.take();
        let book = self.books.entry(ruleset).or_default();
        match death {
            Some(Death::Before) => return Err(dead()),
            Some(Death::Halfway) => book.dies_halfway = true,
            Some(Death::After) | None => {}
        }
        let restored = book.restore(text);
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
        let book = self.books.entry(ruleset).or_default();
        let kind = match table {
            Table::Filter => Kind::Filter,
            Table::Nat => Kind::Nat,
            Table::Mangle => Kind::Mangle,
        };
        match book.lacks.contains(&kind) {
            true => Err(refused(
                format!("can't initialize iptables table `{table}'"),
                RefusalReason::Rules,
            )),
            false => Ok(book.table(kind).save()),
        }
    }

    fn save_all(&mut self, ruleset: Ruleset) -> Result<String, TablesError> {
        let book = self.books.entry(ruleset).or_default();
        Ok(Kind::ALL.map(|kind| book.table(kind).save()).concat())
    }

    fn backends(&self, _family: Family) -> BTreeSet<Backend> {
        let used = self.books.keys().map(|ruleset| ruleset.backend);
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
    /// What a `down` is told of them that asks.
    pub ask_connected: Option<fn() -> Option<Vec<ipnet::IpNet>>>,
    /// What any call is told of the path to a peer that asks.
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
            books: BTreeMap::new(),
            default: Backend::Nft,
            death: None,
            fates: VecDeque::new(),
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
        let done = self.work_with(context, |session| match firewall_action {
            FirewallAction::Open(tunnel) => session.open_tunnel(tunnel).map(Some),
            FirewallAction::Close(tunnel) => session.close_tunnel(tunnel).map(Some),
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
        self.work(|session| session.start())
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
        self.work(|session| session.plan_start_parts()).expect("a plan")
    }

    /// One of them.
    pub fn start_part(&mut self, part: &Change) -> Result<(), ApplyError> {
        self.work(|session| session.start_part(part))
    }

    /// `pluto-updown stop`.
    pub fn stop(&mut self) -> Result<StartReport, ApplyError> {
        self.work(|session| session.stop())
    }

    /// `pluto-updown unblock`.
    pub fn unblock(&mut self, blocked: &Blocked) -> Result<StartReport, ApplyError> {
        self.work(|session| session.unblock(blocked))
    }

    /// `pluto-updown restore`: what was wrong in the tables of this machine.
    pub fn restore(&mut self) -> Result<Vec<Drift>, ApplyError> {
        let rulesets: Vec<_> = self.tables.books.keys().copied().collect();
        self.work(|session| {
            let found: Result<Vec<_>, _> = rulesets.into_iter().map(|ruleset| session.reconcile(ruleset)).collect();
            Ok(found?.concat())
        })
    }

    /// Every tunnel on record, by its name, and how many times it is up.
    pub fn recorded(&self) -> BTreeMap<String, u32> {
        let store = Store::open_unlocked(&self.folder.path().join("state"), 1);
        let tunnels = self
            .tables
            .books
            .keys()
            .flat_map(|ruleset| store.tunnels(*ruleset).expect("a record"));
        tunnels.map(|record| (record.id.to_string(), record.count)).collect()
    }

    /// Every tunnel on record, by its name, and who has it up.
    pub fn openers(&self) -> BTreeMap<String, Vec<String>> {
        let store = Store::open_unlocked(&self.folder.path().join("state"), 1);
        let records = self
            .tables
            .books
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
        let mut session = Engine::new(&store, &mut self.tables, caller);
        let kept = session.housekeep();
        self.began = kept.is_ok();
        let result = kept.and_then(|()| work(&mut session));
        self.notes.extend(session.notes().iter().map(ToString::to_string));
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
