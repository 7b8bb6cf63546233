//! Whatever Pluto asks in whatever order, whatever the kernel refuses and wherever a call dies: what is installed is recorded, what
//! others have installed stays, and with the last remote network all of it is gone.

use std::collections::BTreeSet;
use std::fs;
use std::net::IpAddr;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use crate::support::binary::Call;
use crate::support::captures::find_call;
use crate::support::network::FakeNetwork;
use crate::support::property::cases;
use crate::support::scratch::scratch;
use nix::errno::Errno;
use pluto_updown::daemon::RawEnv;
use pluto_updown::net::Interface;
use pluto_updown::netlink::{
    Deleted, Ends, InstallResult, Link, Lookup, Medium, NetConfig, NetObject, NetlinkError, NoRoute, Route, RouteQuery,
    SavedRoute,
};
use pluto_updown::routing::{RouteOptions, RoutingEngine, RoutingError};
use pluto_updown::settings::AlwaysRoute;
use pluto_updown::state::{DaemonProcess, Store};
use pluto_updown::updown::{Event, read_event};
use proptest::prelude::*;
use tempfile::TempDir;

/// The network namespace that the record is for.
const NAMESPACE: u64 = 1;

/// Source addresses of ours, which this machine has or gets.
const SOURCES: [&str; 2] = ["10.1.0.1", "2001:db8:1::1"];

/// Connections that share remote network, source addresses, interfaces and peers in every way that matters. The captured ones are of two
/// versions, which ask in different orders and have different ideas of IPv6.
static CONNECTIONS: LazyLock<Vec<Call>> = LazyLock::new(connections);

fn connections() -> Vec<Call> {
    let four = find_call("libreswan-4.10", "net-net", "route-client");
    let five = find_call("libreswan-5.2", "net-net", "route-client");
    let made = |captured: &Call, mine: &str, remote: &str, more: &[(&str, &str)]| {
        let call = captured
            .clone()
            .without("PLUTO_MY_SOURCEIP")
            .without("PLUTO_MOBIKE_EVENT")
            .with("PLUTO_INTERFACE", "eth0")
            .with("PLUTO_ME", "192.0.2.1")
            .with("PLUTO_PEER", "198.51.100.1")
            .with("PLUTO_NEXT_HOP", "192.0.2.254")
            .with("PLUTO_MY_CLIENT", mine)
            .with("PLUTO_PEER_CLIENT", remote);
        more.iter().fold(call, |call, (name, value)| call.with(name, value))
    };
    let source = ("PLUTO_MY_SOURCEIP", SOURCES[0]);
    let interface = [("PLUTO_XFRMI_ROUTE", "yes"), ("PLUTO_VIRT_INTERFACE", "ipsec5")];
    let bypass = [&interface[..], &[("PLUTO_XFRMI_FWMARK", "5/0xffffffff")]].concat();
    let vti = [
        ("VTI_IFACE", "vti01"),
        ("VTI_ROUTING", "yes"),
        ("VTI_SHARED", "yes"),
        ("CONNMARK_IN", "5/0xffffffff"),
        ("CONNMARK_OUT", "6/0xffffffff"),
    ];
    let vti_and_source = [&vti[..], &[source]].concat();
    let somebodys_vti = [&vti[..], &[("VTI_IFACE", "vti77")]].concat();
    vec![
        made(&five, "10.1.0.0/24", "10.2.0.0/24", &[source]),
        // The same remote network by another connection, with another source and without one.
        made(
            &five,
            "10.1.1.0/24",
            "10.2.0.0/24",
            &[("PLUTO_MY_SOURCEIP", "10.1.0.2")],
        ),
        made(&four, "10.1.2.0/24", "10.2.0.0/24", &[("PLUTO_MTU", "1400")]),
        made(&four, "10.1.0.0/24", "10.3.0.0/24", &[source, ("PLUTO_METRIC", "7")]),
        made(&four, "10.1.0.0/24", "0.0.0.0/0", &[source]),
        made(&five, "10.1.0.0/24", "10.6.0.5-10.6.0.9", &[source]),
        // The administrator's own address for a source.
        made(
            &five,
            "10.1.0.0/24",
            "10.4.0.0/24",
            &[("PLUTO_MY_SOURCEIP", "192.0.2.1")],
        ),
        // Nobody leads there, somebody forbids it, and it is on our own LAN.
        made(&five, "10.1.0.0/24", "203.0.113.0/24", &[]),
        made(&five, "10.1.0.0/24", "10.66.0.0/24", &[]),
        made(&five, "10.1.0.0/24", "192.0.2.77/32", &[]),
        made(
            &four,
            "2001:db8:1::/64",
            "2001:db8:2::/64",
            &[("PLUTO_MY_SOURCEIP", SOURCES[1])],
        ),
        made(&five, "2001:db8:1::/64", "::/0", &[("PLUTO_MY_SOURCEIP", SOURCES[1])]),
        made(&four, "2001:db8:1::/64", "::/0", &[]),
        made(&five, "10.1.0.0/24", "198.51.100.0/24", &bypass),
        made(&five, "10.1.0.0/24", "0.0.0.0/0", &bypass),
        made(
            &four,
            "10.1.0.0/24",
            "10.2.0.0/24",
            &[&interface[..], &[source]].concat(),
        ),
        made(&five, "10.1.0.0/24", "10.2.0.0/24", &vti),
        made(&four, "10.1.0.0/24", "10.3.0.0/24", &vti_and_source),
        made(&five, "10.1.0.0/24", "192.0.2.0/24", &vti),
        made(&five, "10.1.0.0/24", "10.5.0.0/24", &somebodys_vti),
        made(
            &five,
            "10.1.0.0/24",
            "10.7.0.0/24",
            &[source, ("PLUTO_IS_PEER_CISCO", "1")],
        ),
    ]
}

/// What happens.
#[derive(Debug, Clone)]
enum Step {
    /// A call about one of the connections, which the kernel refuses at these changes, counted from 1.
    Call(usize, Verb, Vec<usize>),
    /// A call that dies at this change, before it or behind it.
    Dying(usize, Verb, usize, Moment),
    /// Pluto dies, and the next one's first call clears what it left.
    NewDaemon,
    /// Somebody takes away the item of ours with this number.
    TakenAway(usize),
    /// An administrator's route begins to use a source address, if it is there.
    UsesSource(usize),
}

#[derive(Debug, Clone, Copy)]
enum Verb {
    Prepare,
    Route,
    Unroute,
    Move,
    Up,
    Down,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Moment {
    Before,
    Behind,
}

fn step() -> impl Strategy<Value = Step> {
    let which = 0..CONNECTIONS.len();
    let verb = prop::sample::select(vec![
        Verb::Prepare,
        Verb::Route,
        Verb::Route,
        Verb::Route,
        Verb::Unroute,
        Verb::Unroute,
        Verb::Move,
        Verb::Up,
        Verb::Down,
    ]);
    let refused = prop_oneof![
        4 => Just(Vec::new()),
        1 => (1..4_usize).prop_map(|first| vec![first]),
        1 => (1..4_usize).prop_map(|first| vec![first, first + 1]),
    ];
    let moment = prop::sample::select(vec![Moment::Before, Moment::Behind]);
    prop_oneof![
        8 => (which.clone(), verb.clone(), refused).prop_map(|(which, verb, refused)| Step::Call(which, verb, refused)),
        2 => (which, verb, 1..4_usize, moment)
            .prop_map(|(which, verb, change, moment)| Step::Dying(which, verb, change, moment)),
        1 => Just(Step::NewDaemon),
        1 => (0..20_usize).prop_map(Step::TakenAway),
        1 => (0..SOURCES.len()).prop_map(Step::UsesSource),
    ]
}

impl Verb {
    fn call_of(self, call: &Call) -> Call {
        let call = call.clone();
        match self {
            Self::Prepare => call.with_verb("prepare-client"),
            Self::Route => call.with_verb("route-client"),
            Self::Unroute => call.with_verb("unroute-client"),
            Self::Move => call.with_verb("unroute-client").with("PLUTO_MOBIKE_EVENT", "yes"),
            Self::Up => call.with_verb("up-client"),
            Self::Down => call.with_verb("down-client"),
        }
    }
}

/// A kernel in which the process dies at a change.
struct Deadly<'n> {
    network: &'n mut FakeNetwork,
    changes_to_live: usize,
    moment: Moment,
}

/// What a process leaves that has died.
struct Died;

impl Deadly<'_> {
    fn change<T>(&mut self, make: impl FnOnce(&mut FakeNetwork) -> T) -> T {
        self.changes_to_live = self.changes_to_live.saturating_sub(1);
        let dies = self.changes_to_live == 0;
        if dies && self.moment == Moment::Before {
            resume_unwind(Box::new(Died));
        }
        let made = make(self.network);
        if dies {
            resume_unwind(Box::new(Died));
        }
        made
    }
}

impl NetConfig for Deadly<'_> {
    fn install(&mut self, item: &NetObject) -> Result<InstallResult, NetlinkError> {
        self.change(|network| network.install(item))
    }

    fn add_route(&mut self, route: &Route) -> Result<InstallResult, NetlinkError> {
        self.change(|network| network.add_route(route))
    }

    fn in_place_of(&mut self, route: &Route) -> Result<Option<SavedRoute>, NetlinkError> {
        self.network.in_place_of(route)
    }

    fn put_back(&mut self, saved: &SavedRoute) -> Result<(), NetlinkError> {
        self.change(|network| network.put_back(saved))
    }

    fn delete(&mut self, item: &NetObject) -> Result<Deleted, NetlinkError> {
        self.change(|network| network.delete(item))
    }

    fn lookup(&mut self, to: IpAddr, from: Option<IpAddr>) -> Result<Lookup, NetlinkError> {
        self.network.lookup(to, from)
    }

    fn link(&mut self, interface: &Interface) -> Result<Option<Link>, NetlinkError> {
        self.network.link(interface)
    }

    fn routes(&mut self, wanted: &RouteQuery) -> Result<Vec<Route>, NetlinkError> {
        self.network.routes(wanted)
    }
}

/// A gateway, and its record.
struct Gateway {
    folder: TempDir,
    network: FakeNetwork,
    /// What others have installed.
    others: BTreeSet<NetObject>,
    links: BTreeSet<Interface>,
    daemon: DaemonProcess,
}

fn route(destination: &str, interface: &str) -> Route {
    Route {
        interface: interface.parse().ok(),
        ..Route::to(destination.parse().expect("a network"))
    }
}

impl Gateway {
    fn new() -> Self {
        let mut network = FakeNetwork::gateway();
        network.add_link("ipsec5", Medium::Other(65534), Ends::Many);
        network.add_link("vti77", Medium::Other(768), Ends::PointToPoint);
        for (destination, via) in [
            ("10.0.0.0/8", "192.0.2.254"),
            ("198.51.0.0/16", "192.0.2.254"),
            ("2001:db8::/32", "2001:db8::fe"),
        ] {
            let item = NetObject::Route(Route {
                via: via.parse().ok(),
                ..route(destination, "eth0")
            });
            network.install(&item).expect("a good route");
        }
        // They stand where routes of ours go.
        for (destination, metric) in [("10.2.0.0/24", None), ("10.3.0.0/24", Some(7)), ("128.0.0.0/1", None)] {
            let item = NetObject::Route(Route {
                via: "192.0.2.77".parse().ok(),
                metric,
                ..route(destination, "eth0")
            });
            network.install(&item).expect("a good route");
        }
        network
            .forbidden
            .insert("10.66.0.0/16".parse().expect("a network"), NoRoute::Prohibited);
        Self {
            folder: scratch(),
            others: network.items.clone(),
            links: network.links.keys().cloned().collect(),
            network,
            daemon: daemon(1),
        }
    }

    fn store(&self) -> Store {
        let deadline = Instant::now() + Duration::from_secs(5);
        Store::open_locked(&self.folder.path().join("state"), NAMESPACE, deadline).expect("a record")
    }

    /// A call from its start to its end: nothing if it died.
    fn call(&mut self, call: &Call, death: Option<(usize, Moment)>) -> Option<Result<usize, RoutingError>> {
        let event = read_event(&RawEnv::new(call.arguments.clone(), call.variables.clone())).expect("a good call");
        let store = self.store();
        let daemon = self.daemon;
        let network = &mut self.network;
        let done = match death {
            None => Some(carried_out(&event, &store, network, daemon)),
            Some((changes_to_live, moment)) => {
                let mut kernel = Deadly {
                    network,
                    changes_to_live,
                    moment,
                };
                let work = AssertUnwindSafe(|| carried_out(&event, &store, &mut kernel, daemon));
                match catch_unwind(work) {
                    Ok(done) => Some(done),
                    Err(death) if death.is::<Died>() => None,
                    Err(other) => resume_unwind(other),
                }
            }
        };
        store.remove_unused().expect("a tidy record");
        done
    }

    /// What of ours is in, a VTI's own address excepted.
    fn own_objects(&self) -> Vec<NetObject> {
        let own_objects = self.network.items.difference(&self.others);
        let is_vtis = |item: &&NetObject| matches!(item, NetObject::Address(address) if address.interface.as_str().starts_with("vti"));
        own_objects.filter(|item| !is_vtis(item)).cloned().collect()
    }

    fn recorded(&self) -> Vec<NetObject> {
        let records = self.store().routing_records().expect("a readable record");
        records.into_iter().flat_map(|record| record.objects).collect()
    }

    fn make_step(&mut self, step: &Step) {
        match step {
            Step::Call(which, verb, refused) => {
                refused
                    .iter()
                    .for_each(|change| self.network.refuse(*change, Errno::ENOMEM));
                let done = self.call(&verb.call_of(&CONNECTIONS[*which]), None).expect("it lives");
                self.network.refuse_no_more();
                self.assert_done(*which, *verb, &done, refused);
            }
            Step::Dying(which, verb, change, moment) => {
                let _ = self.call(&verb.call_of(&CONNECTIONS[*which]), Some((*change, *moment)));
            }
            Step::NewDaemon => {
                let old = self.daemon;
                self.daemon = daemon(old.pid + 1);
                let store = self.store();
                let mut engine = RoutingEngine::new(&store, &mut self.network, Some(self.daemon), 0);
                engine.clear(&old).expect("a record");
                store.remove_unused().expect("a tidy record");
            }
            Step::TakenAway(number) => {
                let mut own_objects = self.own_objects();
                // He does not saw off the branch that his own route sits on.
                let is_used = |source: IpAddr| self.others.iter().any(|item| source_of(item) == Some(source));
                own_objects
                    .retain(|item| !matches!(item, NetObject::Address(address) if is_used(address.address.addr())));
                if let Some(item) = own_objects.get(number % own_objects.len().max(1)) {
                    self.network.delete(item).expect("it is there");
                }
            }
            Step::UsesSource(number) => {
                let source = SOURCES[*number];
                let item = NetObject::Route(Route {
                    source: source.parse().ok(),
                    ..route(
                        if source.contains(':') {
                            "2001:db8:77::/48"
                        } else {
                            "10.77.0.0/16"
                        },
                        "eth0",
                    )
                });
                if self.network.install(&item).is_ok() {
                    self.others.insert(item);
                }
            }
        }
    }

    /// Only what the kernel refused may fail, and a route that went well is there.
    fn assert_done(&self, which: usize, verb: Verb, done: &Result<usize, RoutingError>, refused: &[usize]) {
        match (done, verb) {
            (Err(error), _) => assert!(
                !refused.is_empty() || is_unreachable(error),
                "{verb:?} {which}: {error}"
            ),
            // Something is still there, or not yet, and has been reported.
            (Ok(faults), _) if *faults > 0 => {}
            (Ok(_), Verb::Route) => {
                let there = &self.network.items;
                let event = event_of(&Verb::Route.call_of(&CONNECTIONS[which]));
                let key = pluto_updown::routing::RoutingKey::from_routing(event.routing.as_ref().expect("a route"));
                let record = self.store().routing_record(&key).expect("a readable record");
                for item in record.into_iter().flat_map(|record| record.objects) {
                    let is_in = match &item {
                        NetObject::VtiInterface(vti) => self.network.links.contains_key(&vti.interface),
                        NetObject::Route(_)
                        | NetObject::Rule(_)
                        | NetObject::Address(_)
                        | NetObject::ProxyNeighbour(_) => there
                            .iter()
                            .any(|other| other.install_commands() == item.install_commands()),
                    };
                    assert!(is_in, "{:?} is not there", item.install_commands());
                }
            }
            (Ok(_), Verb::Prepare | Verb::Unroute | Verb::Move | Verb::Up | Verb::Down) => {}
        }
    }

    /// What holds at any time.
    fn assert_sound(&self, after: &Step) {
        let recorded = self.recorded();
        let is_replaced = |item: &&NetObject| {
            let slot = pluto_updown::routing::object_key(item);
            recorded
                .iter()
                .any(|other| pluto_updown::routing::object_key(other) == slot)
        };
        let removed = self.others.difference(&self.network.items);
        let lost: Vec<_> = removed.filter(|item| !is_replaced(item)).collect();
        assert!(lost.is_empty(), "{after:?} took away {lost:?}");
        for item in self.own_objects() {
            let slot = pluto_updown::routing::object_key(&item);
            let known = recorded
                .iter()
                .any(|other| pluto_updown::routing::object_key(other) == slot);
            assert!(known, "no record tells of {item:?} after {after:?}");
        }
    }

    /// All remote network go, and so does everything of ours.
    fn assert_ends(&mut self) {
        let others: Vec<_> = self
            .others
            .iter()
            .filter(|item| source_of(item).is_some())
            .cloned()
            .collect();
        for item in others {
            self.network.delete(&item).expect("it is there");
            self.others.remove(&item);
        }
        for call in CONNECTIONS.iter() {
            for verb in [Verb::Down, Verb::Unroute] {
                self.call(&verb.call_of(call), None)
                    .expect("it lives")
                    .expect("it goes");
            }
        }
        assert_eq!(self.network.items, self.others);
        let links: BTreeSet<_> = self.network.links.keys().cloned().collect();
        assert_eq!(links, self.links);
        drop(self.recorded());
        self.store().remove_unused().expect("a tidy record");
        assert_eq!(files(&self.folder.path().join("state")), Vec::<PathBuf>::new());
    }
}

/// All that is in a folder, and the folder; nothing if it is not there.
fn files(path: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(path).into_iter().flatten();
    let inside = entries.flat_map(|entry| files(&entry.expect("an entry").path()));
    inside
        .chain(Some(path.to_owned()).filter(|path| path.exists()))
        .collect()
}

fn source_of(item: &NetObject) -> Option<IpAddr> {
    match item {
        NetObject::Route(route) => route.source,
        NetObject::Rule(_) | NetObject::Address(_) | NetObject::ProxyNeighbour(_) | NetObject::VtiInterface(_) => None,
    }
}

/// Whether the network here cannot have such a route, rather than that it is refused by chance.
fn is_unreachable(error: &RoutingError) -> bool {
    let reasons = ["unreachable", "there is no interface"];
    reasons.iter().any(|reason| error.to_string().contains(reason))
}

fn event_of(call: &Call) -> Event {
    read_event(&RawEnv::new(call.arguments.clone(), call.variables.clone())).expect("a good call")
}

fn daemon(pid: u32) -> DaemonProcess {
    DaemonProcess {
        pid,
        started: 1,
        // Not ours: whether it lives is said here.
        namespace: 1,
    }
}

fn carried_out<N: NetConfig>(
    event: &Event,
    store: &Store,
    kernel: &mut N,
    daemon: DaemonProcess,
) -> Result<usize, RoutingError> {
    let Some(routing) = &event.routing else { return Ok(0) };
    let mut faults = 0;
    let options = RouteOptions {
        always: AlwaysRoute::Yes,
        ..RouteOptions::default()
    };
    for operation in event.verb.operations() {
        let mut engine = RoutingEngine::new(store, kernel, Some(daemon), 0);
        let work = engine.change(event.daemon, routing, *operation, &options)?;
        faults += engine.carry_out(&work)?.faults.len();
    }
    Ok(faults)
}

proptest! {
    #![proptest_config(cases(100))]

    #[test]
    fn what_is_installed_is_recorded_and_goes_in_the_end(steps in prop::collection::vec(step(), 1..30)) {
        assert_holds(&steps);
    }
}

/// What a gateway is like after these steps, and in the end.
fn assert_holds(steps: &[Step]) {
    let mut gateway = Gateway::new();
    for step in steps {
        gateway.make_step(step);
        gateway.assert_sound(step);
    }
    gateway.assert_ends();
}

/// The kernel leaves an IPv6 route without its source when the address is deleted.
#[test]
fn a_route_that_has_lost_its_source_address_is_still_ours() {
    assert_holds(&[
        Step::Call(10, Verb::Route, Vec::new()),
        Step::TakenAway(1),
        Step::Call(10, Verb::Prepare, Vec::new()),
    ]);
}

#[test]
fn a_route_of_somebody_elses_is_not_replaced_by_one_that_was_never_installed() {
    assert_holds(&[
        Step::Dying(4, Verb::Route, 1, Moment::Before),
        Step::Dying(14, Verb::Route, 1, Moment::Before),
    ]);
}

#[test]
fn a_route_of_ours_is_not_saved_for_a_record_of_one_that_was_never_installed() {
    assert_holds(&[
        Step::Call(0, Verb::Route, Vec::new()),
        Step::Dying(16, Verb::Route, 1, Moment::Before),
        Step::Call(15, Verb::Route, Vec::new()),
    ]);
}
