//! The calls to make, and the worlds to make them in.

mod pairs;
mod stories;

use super::calls::{Connection, Verb, Version};
use super::world::{DefaultRoute, Site, World};
use crate::support::binary::Call;
use crate::support::captures::calls;

/// One thing that happens on both machines.
#[derive(Debug, Clone)]
pub enum Step {
    /// The daemon calls its hook.
    Call(Call),
    /// Somebody else changes something: lines of shell.
    Administrator(&'static str),
}

/// Calls in their order, in one world.
#[derive(Debug, Clone)]
pub struct Case {
    pub name: String,
    pub world: World,
    pub steps: Vec<Step>,
}

impl Case {
    fn new(name: impl Into<String>, world: World, calls: impl IntoIterator<Item = Call>) -> Self {
        Self {
            name: name.into(),
            world,
            steps: calls.into_iter().map(Step::Call).collect(),
        }
    }

    fn then(mut self, calls: impl IntoIterator<Item = Call>) -> Self {
        self.steps.extend(calls.into_iter().map(Step::Call));
        self
    }

    fn meanwhile(mut self, lines: &'static str) -> Self {
        self.steps.push(Step::Administrator(lines));
        self
    }

    /// Whether a VTI interface is asked for.
    pub fn wants_vti(&self) -> bool {
        let is_vti = |step: &Step| match step {
            Step::Call(call) => !call.get("VTI_IFACE").is_empty(),
            Step::Administrator(_) => false,
        };
        self.steps.iter().any(is_vti)
    }
}

/// All of them, those of one world together.
pub fn all(version: Version) -> Vec<Case> {
    let mut cases = captured(version);
    cases.extend(pairs::cases(version));
    cases.extend(stories::cases(version));
    cases.sort_by_key(|case| case.world);
    cases
}

/// Every captured call, in order, where the daemons were.
pub fn captured(version: Version) -> Vec<Case> {
    let (name, _) = version.names();
    let more = format!("{name}-more");
    let mut cases = Vec::new();
    for (file, site, default_route) in [
        (name, Site::Ethernet, DefaultRoute::Present),
        (name, Site::Ethernet, DefaultRoute::Absent),
        (&more, Site::West, DefaultRoute::Present),
        (&more, Site::East, DefaultRoute::Present),
    ] {
        let interface = site.outer_device();
        let made_here = calls(file)
            .into_iter()
            .filter(|call| call.get("PLUTO_INTERFACE") == interface);
        let (vti, others): (Vec<_>, Vec<_>) = made_here.partition(|call| !call.get("VTI_IFACE").is_empty());
        let world = World {
            site,
            default_route,
            more: "",
        };
        cases.push(Case::new(
            format!("{file} on {interface}, default route {default_route:?}"),
            world,
            others,
        ));
        if !vti.is_empty() {
            cases.push(Case::new(
                format!("{file}'s VTI, default route {default_route:?}"),
                world,
                vti,
            ));
        }
    }
    cases
}

/// One call that asks for nothing.
pub fn plainest(version: Version) -> Case {
    Case::new(
        "plainest",
        World::ORDINARY,
        [Connection::new(version).call(Verb::Prepare)],
    )
}

/// A life from the first call to the last.
fn whole_life(name: impl Into<String>, world: World, connection: &Connection) -> Case {
    Case::new(name, world, connection.comes_up()).then(connection.goes())
}
